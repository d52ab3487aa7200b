//! Where a request has one path and a handler sees another: nested routers, and what rewrites.

use std::{convert::Infallible, fmt::Debug};

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Request},
    http::header,
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use cacheback::Cache;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::normalize_path::NormalizePathLayer;

use crate::{
    stand::{Runs, Seen, ask, count, minute, second_is_a_hit, secs, tell, to},
    support::net::infallible,
};

#[tokio::test] // P90, trap 2
async fn one_router_nested_twice_under_one_layer_keeps_its_pages_apart() {
    let runs = Runs::default();
    let cache = Cache::new();
    // The layer stands inside the nest: it sees "/x" for both.
    let inner = || Router::new().route("/x", get(count).layer(cache.layer(secs(60))));
    let app = Router::new().nest("/a", inner()).nest("/b", inner()).with_state(runs.clone());
    let a = second_is_a_hit(&app, "/a/x").await;
    let b = second_is_a_hit(&app, "/b/x").await;
    assert_eq!((a.body.as_str(), b.body.as_str()), ("run 1 of /x", "run 2 of /x"));

    // Invalidation goes by the path as it was received.
    assert_eq!(cache.purge_path("/x").await.unwrap().entries, 0);
    assert_eq!(cache.purge_path("/a/x").await.unwrap().entries, 1);
    assert!(!ask(&app, "/a/x").await.is_hit());
    assert!(ask(&app, "/b/x").await.is_hit());
}

#[tokio::test] // P90, trap 2
async fn a_rewritten_request_is_keyed_as_received_and_as_seen() {
    // Outside the layer a middleware rewrites "/" by the language; `OriginalUri` stays "/".
    async fn by_language(mut request: Request, next: Next) -> Response {
        let original = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(original);
        let language = request.headers()[header::ACCEPT_LANGUAGE].to_str().unwrap().to_owned();
        *request.uri_mut() = format!("/{language}").parse().unwrap();
        next.run(request).await
    }
    let runs = Runs::default();
    let app = Router::new()
        .fallback(count)
        .layer(ServiceBuilder::new().layer(from_fn(by_language)).layer(minute()))
        .with_state(runs.clone());
    let speak = async |language| {
        let request = Request::get("/").header(header::ACCEPT_LANGUAGE, language).body(Body::empty()).unwrap();
        tell(&app, request).await
    };
    assert_eq!(speak("de").await.body, "run 1 of /de");
    assert_eq!(speak("en").await.body, "run 2 of /en");
    assert_eq!(speak("de").await.body, "run 1 of /de");
    assert!(speak("en").await.is_hit());
}

/// What a service answers that is no router.
async fn ask_as_is<S, B>(app: &S, uri: &str) -> Seen
where
    S: Service<Request, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data = Bytes, Error: Debug>,
{
    Seen::of(infallible(app.clone().oneshot(to(uri)).await)).await
}

#[tokio::test] // P90, P60
async fn what_normalizes_paths_outside_gives_both_spellings_one_page() {
    let (runs, cache) = (Runs::default(), Cache::new());
    let app = Router::new().route("/x", get(count)).layer(cache.layer(secs(60))).with_state(runs.clone());
    let app = NormalizePathLayer::trim_trailing_slash().layer(app);
    assert_eq!(ask_as_is(&app, "/x/").await.body, "run 1 of /x");
    assert!(ask_as_is(&app, "/x").await.is_hit());
    assert_eq!(cache.purge_path("/x").await.unwrap().entries, 1);
    assert!(!ask_as_is(&app, "/x/").await.is_hit());
}

#[tokio::test] // P90, P60
async fn what_normalizes_paths_inside_leaves_each_spelling_a_page_of_its_own() {
    let (runs, cache) = (Runs::default(), Cache::new());
    let app = Router::new().route("/x", get(count)).with_state(runs.clone());
    let stack = ServiceBuilder::new().layer(cache.layer(secs(60))).layer(NormalizePathLayer::trim_trailing_slash());
    let app = stack.service(app);
    assert_eq!(ask_as_is(&app, "/x/").await.body, "run 1 of /x");
    assert_eq!(ask_as_is(&app, "/x").await.body, "run 2 of /x");
    assert_eq!(cache.purge_path("/x").await.unwrap().entries, 1);
    assert!(ask_as_is(&app, "/x/").await.is_hit(), "its path is another");
}
