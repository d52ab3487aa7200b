//! Who asks: authentication, users, sessions and cookies.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use cacheback::{CacheStatus, CachebackLayer, Detail};
use tower::ServiceBuilder;

use crate::stand::{Runs, Seen, ask, count, minute, tell};

/// Whether the one good token is good still.
type Good = Arc<AtomicBool>;

/// Lets through who knows the token, and takes it off: what is further in is the same for all who come so far.
async fn guard(State(good): State<Good>, mut request: Request, next: Next) -> Response {
    match request.headers_mut().remove(header::AUTHORIZATION) {
        Some(token) if token == "token" && good.load(SeqCst) => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn good() -> Good {
    Arc::new(AtomicBool::new(true))
}

async fn with(app: &Router, name: header::HeaderName, value: &'static str) -> Seen {
    tell(app, Request::get("/").header(name, value).body(Body::empty()).unwrap()).await
}

async fn known(app: &Router) -> Seen {
    with(app, header::AUTHORIZATION, "token").await
}

#[tokio::test] // P90
async fn authentication_outside_is_asked_at_every_hit() {
    let (runs, good) = (Runs::default(), good());
    let stack = ServiceBuilder::new().layer(from_fn_with_state(Arc::clone(&good), guard)).layer(minute());
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    assert_eq!(known(&app).await.body, "run 1 of /");
    let hit = known(&app).await;
    assert!(hit.is_hit(), "the guard took the credential off: {hit:?}");
    assert_eq!(ask(&app, "/").await.status, StatusCode::UNAUTHORIZED);
    good.store(false, SeqCst);
    assert_eq!(known(&app).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(runs.count(), 1);
}

#[tokio::test] // P90, P43
async fn authentication_inside_is_asked_too_as_credentials_go_past_the_cache() {
    let (runs, good) = (Runs::default(), good());
    let stack = ServiceBuilder::new().layer(minute()).layer(from_fn_with_state(Arc::clone(&good), guard));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    for run in 1..=2 {
        let seen = known(&app).await;
        assert_eq!((seen.body.clone(), seen.outcome().detail()), (format!("run {run} of /"), Some(Detail::Credential)));
        let refused = ask(&app, "/").await;
        assert_eq!((refused.status, refused.outcome().is_stored()), (StatusCode::UNAUTHORIZED, false));
    }
    good.store(false, SeqCst);
    assert_eq!(known(&app).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test] // P90, P43
async fn authentication_inside_a_layer_that_keys_the_credential_is_not_asked_by_hits() {
    let (runs, good) = (Runs::default(), good());
    let layer = minute().key_header(header::AUTHORIZATION);
    let cache = layer.cache().clone();
    let stack = ServiceBuilder::new().layer(layer).layer(from_fn_with_state(Arc::clone(&good), guard));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    assert_eq!(known(&app).await.body, "run 1 of /");
    good.store(false, SeqCst);
    assert!(known(&app).await.is_hit(), "a token that is good no more reads on for as long as the page lives");
    cache.purge_path("/").await.unwrap();
    assert_eq!(known(&app).await.status, StatusCode::UNAUTHORIZED);
}

#[derive(Clone, Debug)]
struct User(String);

/// Finds out who asks.
async fn whoami(mut request: Request, next: Next) -> Response {
    let user = request.headers().get(header::AUTHORIZATION).map(|user| user.to_str().unwrap().to_owned());
    if let Some(user) = user {
        request.extensions_mut().insert(User(user));
    }
    next.run(request).await
}

async fn greet(State(runs): State<Runs>, user: Option<Extension<User>>) -> String {
    format!("run {} for {}", runs.next(), user.map_or_else(|| "nobody".to_owned(), |Extension(user)| user.0))
}

fn behind_whoami(layer: CachebackLayer) -> Router {
    let stack = ServiceBuilder::new().layer(from_fn(whoami)).layer(layer);
    Router::new().route("/", get(greet)).layer(stack).with_state(Runs::default())
}

#[tokio::test] // P90, P43
async fn a_user_found_outside_is_keyed_by_key_by() {
    let app = behind_whoami(minute().key_by(|request| Some(request.extensions.get::<User>()?.0.clone().into_bytes())));
    for (user, greeting) in [("ada", "run 1 for ada"), ("bob", "run 2 for bob")] {
        for hit in [false, true] {
            let seen = with(&app, header::AUTHORIZATION, user).await;
            assert_eq!((seen.body.as_str(), seen.is_hit()), (greeting, hit));
        }
    }
    let nobody = ask(&app, "/").await;
    assert_eq!((nobody.body.as_str(), nobody.outcome().detail()), ("run 3 for nobody", Some(Detail::NoKey)));
}

#[tokio::test] // P90
async fn a_user_found_outside_whom_nobody_keyed_is_not_told_from_others() {
    // Here a name is no credential to the layer: a middleware of the application alone knows what it means.
    async fn by_name(mut request: Request, next: Next) -> Response {
        let name = request.headers()["x-name"].to_str().unwrap().to_owned();
        request.extensions_mut().insert(User(name));
        next.run(request).await
    }
    let stack = ServiceBuilder::new().layer(from_fn(by_name)).layer(minute());
    let app = Router::new().route("/", get(greet)).layer(stack).with_state(Runs::default());
    let name = header::HeaderName::from_static("x-name");
    assert_eq!(with(&app, name.clone(), "ada").await.body, "run 1 for ada");
    assert_eq!(with(&app, name, "bob").await.body, "run 1 for ada");
}

/// A session: whoever has none gets one.
async fn session(State(runs): State<Runs>, request: Request, next: Next) -> Response {
    let is_new = !request.headers().contains_key(header::COOKIE);
    let mut response = next.run(request).await;
    if is_new {
        let cookie = format!("session={}", runs.next());
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::try_from(cookie).unwrap());
    }
    response
}

#[tokio::test] // P90, P43
async fn a_session_inside_keeps_its_pages_out_of_the_store() {
    let stack = ServiceBuilder::new().layer(minute()).layer(from_fn_with_state(Runs::default(), session));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    for id in ["session=1", "session=2"] {
        let new = ask(&app, "/").await;
        assert_eq!((new.header(header::SET_COOKIE), new.outcome().detail()), (id, Some(Detail::SetCookie)));
        assert!(!new.outcome().is_stored());
    }
    let known = with(&app, header::COOKIE, "session=1").await;
    assert_eq!((known.outcome().status(), known.outcome().detail()), (CacheStatus::Bypass, Some(Detail::Cookie)));
}

#[tokio::test] // P90
async fn a_session_outside_of_pages_that_ignore_cookies_gives_each_client_its_own_over_one_page() {
    let layer = minute().ignore_cookies();
    let stack = ServiceBuilder::new().layer(from_fn_with_state(Runs::default(), session)).layer(layer);
    let runs = Runs::default();
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    for id in ["session=1", "session=2"] {
        assert_eq!(ask(&app, "/").await.header(header::SET_COOKIE), id);
    }
    let known = with(&app, header::COOKIE, "session=1").await;
    assert!(known.is_hit() && known.header(header::SET_COOKIE).is_empty());
    assert_eq!(runs.count(), 1);
}
