//! Wherever tower and axum let a layer stand, this one stands and works; around its own kind as well.

#![cfg(feature = "axum")]
#![allow(clippy::disallowed_methods, reason = "a test may spawn")]

mod support;

use std::{
    cell::RefCell,
    convert::Infallible,
    fmt::Debug,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use cacheback::{
    Cache, CacheStatus, Cacheback, CachebackLayer, Detail, Freshness, Http, NoStore, Outcome, Tags, Typed,
};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use support::{
    net::{eventually, infallible, serve, soon},
    typed,
};
use tokio::{sync::Barrier, task::JoinSet, time::advance};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, service_fn,
    steer::Steer,
    util::{BoxCloneService, BoxCloneSyncService},
};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer,
    trace::TraceLayer,
};

/// What a client saw.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: http::HeaderMap,
    outcome: Option<Outcome>,
    body: String,
}

impl Seen {
    async fn of<B>(response: http::Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the body is whole").to_bytes();
        let outcome = head.extensions.get::<Outcome>().copied();
        let body = String::from_utf8_lossy(&body).into_owned();
        Self { status: head.status, headers: head.headers, outcome, body }
    }

    fn header(&self, name: impl AsRef<str>) -> &str {
        self.headers.get(name.as_ref()).map_or("", |value| value.to_str().expect("a legible field"))
    }

    fn outcome(&self) -> Outcome {
        self.outcome.expect("every response that passes the layer carries its outcome")
    }

    fn is_hit(&self) -> bool {
        self.outcome().status() == CacheStatus::Hit
    }

    fn age(&self) -> u64 {
        self.header("age").parse().unwrap_or(0)
    }
}

/// A GET without anything else.
fn to(uri: &str) -> Request {
    Request::get(uri).body(Body::empty()).expect("a sound request")
}

/// What a router answers.
async fn ask(app: &Router, uri: &str) -> Seen {
    tell(app, to(uri)).await
}

async fn tell(app: &Router, request: Request) -> Seen {
    Seen::of(infallible(app.clone().oneshot(request).await)).await
}

/// A handler that counts its runs and says which one it is, and which path it saw.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn next(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }
}

async fn count(State(runs): State<Runs>, uri: Uri) -> String {
    format!("run {} of {uri}", runs.next())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minute() -> CachebackLayer {
    CachebackLayer::new(secs(60))
}

/// Asks twice: the first request runs, the second is answered from memory.
async fn second_is_a_hit(app: &Router, uri: &str) -> Seen {
    let first = ask(app, uri).await;
    assert!(!first.is_hit(), "{first:?}");
    let second = ask(app, uri).await;
    assert!(second.is_hit(), "{second:?}");
    assert_eq!(second.body, first.body);
    second
}

// ---- what it is ----

#[test] // P90
fn the_layer_the_service_and_the_cache_go_wherever_a_value_can_go() {
    fn goes<T: Send + Sync + Clone + Debug + 'static>() {}
    type Users = Typed<u32, String>;
    goes::<CachebackLayer>();
    goes::<CachebackLayer<Users>>();
    goes::<Cacheback<axum::routing::Route, Http>>();
    goes::<Cacheback<BoxCloneSyncService<u32, String, Infallible>, Users>>();
    goes::<Cache>();
    goes::<Cache<String>>();
    goes::<Freshness>();
    goes::<Outcome>();
    fn is_sent<T: Send + 'static>(_: &T) {}
    is_sent(&minute().layer(Router::new()).oneshot(to("/")));
}

// ---- axum ----

#[tokio::test] // P90
async fn a_layer_on_a_router_caches_each_of_its_routes_and_its_fallback() {
    let runs = Runs::default();
    let app = Router::new()
        .route("/a", get(count))
        .route("/b/{id}", get(count))
        .fallback(count)
        .layer(minute())
        .with_state(runs.clone());
    for uri in ["/a", "/b/1", "/b/2", "/elsewhere"] {
        second_is_a_hit(&app, uri).await;
    }
    assert_eq!(runs.count(), 4);
}

#[tokio::test] // P90
async fn a_layer_on_a_method_router_caches_that_route_alone() {
    let runs = Runs::default();
    let app = Router::new()
        .route("/cached", get(count).post(count).layer(minute()))
        .route("/plain", get(count))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/cached").await;
    assert!(ask(&app, "/plain").await.outcome.is_none());
    assert_ne!(ask(&app, "/plain").await.body, ask(&app, "/plain").await.body);
    let posted = tell(&app, Request::post("/cached").body(Body::empty()).unwrap()).await;
    assert_eq!(posted.outcome().status(), CacheStatus::Method);
}

#[tokio::test] // P90
async fn a_route_layer_leaves_the_fallback_alone() {
    let runs = Runs::default();
    let app = Router::new().route("/a", get(count)).route_layer(minute()).fallback(count).with_state(runs.clone());
    second_is_a_hit(&app, "/a").await;
    assert!(ask(&app, "/elsewhere").await.outcome.is_none());
}

#[tokio::test] // P90
async fn a_fallback_service_is_cached() {
    let runs = Runs::default();
    let own = runs.clone();
    let files = minute().layer(service_fn(move |request: Request| {
        let run = own.next();
        async move { Ok::<_, Infallible>(Response::new(Body::from(format!("run {run} of {}", request.uri())))) }
    }));
    let app = Router::new().fallback_service(files);
    second_is_a_hit(&app, "/file.txt").await;
    second_is_a_hit(&app, "/other.txt").await;
    assert_eq!(runs.count(), 2);
}

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

#[tokio::test] // P90, trap 1
async fn connections_of_one_server_share_what_is_stored() {
    let runs = Runs::default();
    // `axum::serve` makes the service anew for each connection, `oneshot` for each request.
    let app = Router::new().route("/", get(count)).layer(minute()).with_state(runs.clone());
    let address = serve(app.clone()).await;
    for _ in 0..3 {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
        assert_eq!(Seen::of(response).await.body, "run 1 of /");
    }
    assert_eq!(runs.count(), 1);
    let request = Request::get("/").header(header::HOST, address.to_string()).body(Body::empty()).unwrap();
    assert!(tell(&app, request).await.is_hit(), "the same router asked without a socket");
}

#[tokio::test] // P90, P56
async fn every_response_carries_its_outcome_and_keeps_no_other_extension() {
    #[derive(Clone)]
    struct OfOneExchange;
    let app =
        Router::new().route("/", get(async || ([("x", "y")], axum::Extension(OfOneExchange), "page"))).layer(minute());
    let first = infallible(app.clone().oneshot(to("/")).await);
    let outcome = first.extensions().get::<Outcome>().copied().unwrap();
    assert_eq!((outcome.status(), outcome.forward_status()), (CacheStatus::UriMiss, Some(200)));
    assert!(outcome.is_stored());
    assert!(first.extensions().get::<OfOneExchange>().is_some(), "the one who leads gets the response as it is");
    let hit = infallible(app.oneshot(to("/")).await);
    assert_eq!(hit.extensions().get::<Outcome>().unwrap().status(), CacheStatus::Hit);
    assert!(hit.extensions().get::<OfOneExchange>().is_none());
}

#[tokio::test(start_paused = true)] // P90, P41
async fn a_handler_says_freshness_tags_and_no_store_as_parts_of_its_response() {
    let runs = Runs::default();
    async fn short(State(runs): State<Runs>) -> impl IntoResponse {
        (Tags::new(["quotes"]), Freshness::exact(secs(9)), runs.next().to_string())
    }
    async fn never(State(runs): State<Runs>) -> impl IntoResponse {
        (NoStore, runs.next().to_string())
    }
    let cache = Cache::new();
    let app = Router::new()
        .route("/short", get(short))
        .route("/never", get(never))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    assert_eq!(second_is_a_hit(&app, "/short").await.body, "1");
    advance(secs(9)).await;
    assert_eq!(second_is_a_hit(&app, "/short").await.body, "2");
    assert_eq!(cache.purge_tag("quotes").await.unwrap().entries, 1);
    assert_eq!(ask(&app, "/short").await.body, "3");

    let never = (ask(&app, "/never").await, ask(&app, "/never").await);
    assert_eq!((never.0.body.as_str(), never.1.body.as_str()), ("4", "5"));
    assert_eq!(never.0.outcome().detail(), Some(Detail::HandlerSaidNo));
    assert!(!never.0.outcome().is_stored());
}

// ---- tower ----

#[tokio::test] // P90
async fn it_steers_and_is_steered() {
    let runs = Runs::default();
    let page = |name: &'static str| {
        let runs = runs.clone();
        minute().layer(service_fn(move |_: Request| {
            let run = runs.next();
            async move { Ok::<_, Infallible>(Response::new(Body::from(format!("{name} {run}")))) }
        }))
    };
    let pick = |request: &Request, _: &[_]| usize::from(request.uri().path().starts_with("/b"));
    let steer = Steer::new(vec![page("a").boxed_clone(), page("b").boxed_clone()], pick);
    let around = minute().layer(steer);
    for (uri, body) in [("/a", "a 1"), ("/b", "b 2"), ("/a", "a 1"), ("/b", "b 2")] {
        assert_eq!(Seen::of(infallible(around.clone().oneshot(to(uri)).await)).await.body, body);
    }
}

#[tokio::test] // P90
async fn it_wraps_boxed_services_and_is_boxed() {
    let runs = Runs::default();
    let own = runs.clone();
    let page = service_fn(move |_: Request| {
        let run = own.next();
        async move { Ok::<_, Infallible>(Response::new(Body::from(run.to_string()))) }
    });
    let inner = BoxCloneService::new(page.clone());
    let outer = BoxCloneService::new(minute().layer(inner));
    let synced = BoxCloneSyncService::new(minute().layer(BoxCloneSyncService::new(page)));
    for _ in 0..2 {
        assert_eq!(Seen::of(infallible(outer.clone().oneshot(to("/")).await)).await.body, "1");
    }
    for _ in 0..2 {
        assert_eq!(Seen::of(infallible(synced.clone().oneshot(to("/")).await)).await.body, "2");
    }
}

#[tokio::test] // P90
async fn a_client_is_wrapped_and_asks_its_server_once() {
    let runs = Runs::default();
    let address = serve(Router::new().fallback(count).with_state(runs.clone())).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let client = minute().layer(client);
    let request = || Request::get(format!("http://{address}/page?q=1")).body(Full::default()).unwrap();
    let first = Seen::of(client.clone().oneshot(request()).await.unwrap()).await;
    assert_eq!(first.body, "run 1 of /page?q=1");
    let second = Seen::of(client.clone().oneshot(request()).await.unwrap()).await;
    assert!(second.is_hit());
    assert_eq!((second.body, runs.count()), (first.body, 1));

    // Its errors are its own.
    let refused = Request::get("http://127.0.0.1:0/").body(Full::default()).unwrap();
    let error: hyper_util::client::legacy::Error = client.oneshot(refused).await.unwrap_err();
    assert!(error.is_connect());
}

#[tokio::test] // P90
async fn functions_of_axum_stand_on_both_sides_in_one_stack() {
    async fn pass(request: Request, next: Next) -> Response {
        next.run(request).await
    }
    async fn marked(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        response.headers_mut().append("x-passed", HeaderValue::from_static("inside"));
        response
    }
    let runs = Runs::default();
    let stack = ServiceBuilder::new().layer(from_fn(pass)).layer(minute()).layer(from_fn(marked));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    assert_eq!(second_is_a_hit(&app, "/").await.header("x-passed"), "inside");
}

// ---- tower-http ----

#[tokio::test] // P90
async fn cors_stands_inside_and_outside() {
    let runs = Runs::default();
    let mirror = || CorsLayer::new().allow_origin(tower_http::cors::AllowOrigin::mirror_request());
    let inside = ServiceBuilder::new().layer(minute()).layer(mirror());
    let outside = ServiceBuilder::new().layer(mirror()).layer(minute());
    let app = Router::new()
        .route("/inside", get(count).layer(inside))
        .route("/outside", get(count).layer(outside))
        .with_state(runs.clone());
    let from = async |uri: &str, origin: &'static str| {
        let request = Request::get(uri).header(header::ORIGIN, origin).body(Body::empty()).unwrap();
        let seen = tell(&app, request).await;
        assert_eq!(seen.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), origin, "{uri}");
        seen.body
    };
    // Inside it answers by the origin, so that its answers are variants; outside one page does for all.
    assert_eq!(from("/inside", "https://a.example").await, "run 1 of /inside");
    assert_eq!(from("/inside", "https://b.example").await, "run 2 of /inside");
    assert_eq!(from("/inside", "https://a.example").await, "run 1 of /inside");
    assert_eq!(from("/outside", "https://a.example").await, "run 3 of /outside");
    assert_eq!(from("/outside", "https://b.example").await, "run 3 of /outside");
}

#[tokio::test] // P90
async fn compression_stands_inside_and_outside() {
    let runs = Runs::default();
    async fn long(State(runs): State<Runs>) -> String {
        format!("run {} {}", runs.next(), "long ".repeat(1_000))
    }
    let inside = ServiceBuilder::new().layer(minute()).layer(CompressionLayer::new());
    let outside = ServiceBuilder::new().layer(CompressionLayer::new()).layer(minute());
    let app = Router::new()
        .route("/inside", get(long).layer(inside))
        .route("/outside", get(long).layer(outside))
        .with_state(runs.clone());
    let accept = async |uri: &str, coding: &'static str| {
        let request = Request::get(uri).header(header::ACCEPT_ENCODING, coding).body(Body::empty()).unwrap();
        let response = infallible(app.clone().oneshot(request).await);
        let coded = response.headers().get(header::CONTENT_ENCODING).is_some();
        (coded, response.into_body().collect().await.unwrap().to_bytes())
    };
    for uri in ["/inside", "/outside"] {
        let (coded, small) = accept(uri, "gzip").await;
        assert!(coded && small.starts_with(&[0x1f, 0x8b]), "{uri}");
        let (coded, whole) = accept(uri, "identity").await;
        assert!(!coded && whole.starts_with(b"run ") && whole.len() > small.len(), "{uri}");
        assert_eq!(accept(uri, "gzip").await, (true, small), "{uri}");
        assert_eq!(accept(uri, "identity").await, (false, whole), "{uri}");
    }
    // Two variants inside, one page outside.
    assert_eq!(runs.count(), 3);
}

#[tokio::test(start_paused = true)] // P90, P6
async fn a_timeout_inside_is_a_failure_and_one_outside_ends_the_wait_but_not_the_run() {
    async fn slow(State(runs): State<Runs>) -> String {
        let run = runs.next();
        tokio::time::sleep(secs(if run == 1 { 0 } else { 20 })).await;
        run.to_string()
    }
    let timeout = || TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, secs(5));
    let freshness = || Freshness::exact(secs(60)).stale_if_error(secs(600));
    let caches = (Cache::new(), Cache::new());
    let inside = ServiceBuilder::new().layer(caches.0.layer(freshness())).layer(timeout());
    let outside = ServiceBuilder::new().layer(timeout()).layer(caches.1.layer(freshness()));
    let runs = (Runs::default(), Runs::default());
    let inside = Router::new().route("/", get(slow).layer(inside)).with_state(runs.0.clone());
    let outside = Router::new().route("/", get(slow).layer(outside)).with_state(runs.1.clone());

    for app in [&inside, &outside] {
        assert_eq!(ask(app, "/").await.body, "1");
    }
    advance(secs(61)).await;
    let seen = eventually(ask(&inside, "/")).await;
    assert_eq!((seen.status, seen.body.as_str()), (StatusCode::OK, "1"));
    assert_eq!(seen.outcome().detail(), Some(Detail::StaleIfError));

    let seen = eventually(ask(&outside, "/")).await;
    assert_eq!((seen.status, seen.outcome), (StatusCode::GATEWAY_TIMEOUT, None));
    eventually(caches.1.settled()).await;
    let seen = ask(&outside, "/").await;
    assert_eq!((seen.body.as_str(), seen.is_hit(), runs.1.count()), ("2", true, 2));
}

#[tokio::test] // P90
async fn tracing_stands_inside_and_outside() {
    let runs = Runs::default();
    let stack =
        ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(minute()).layer(TraceLayer::new_for_http());
    let app = Router::new().route("/", get(count)).layer(stack).with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
}

#[tokio::test] // P90, P12
async fn catching_panics_works_inside_and_outside_and_no_key_is_left_behind() {
    async fn moody(State(runs): State<Runs>) -> String {
        let run = runs.next();
        assert!(run > 1, "the first run panics");
        run.to_string()
    }
    let inside = ServiceBuilder::new().layer(minute()).layer(CatchPanicLayer::new());
    let outside = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(minute());
    let inside = Router::new().route("/", get(moody).layer(inside)).with_state(Runs::default());
    let outside = Router::new().route("/", get(moody).layer(outside)).with_state(Runs::default());
    for app in [inside, outside] {
        assert_eq!(ask(&app, "/").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(second_is_a_hit(&app, "/").await.body, "2");
    }
}

// ---- layers around layers ----

#[tokio::test(start_paused = true)] // P91, trap 6
async fn a_route_layer_inside_a_router_layer_of_one_cache_says_for_how_long_and_under_which_tags() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn tagged(State(runs): State<Runs>) -> impl IntoResponse {
        (Tags::new(["quotes"]), runs.next().to_string())
    }
    let app = Router::new()
        .route("/long", get(tagged).layer(cache.layer(Freshness::exact(secs(600)))))
        .route("/short", get(tagged).layer(cache.layer(Freshness::exact(secs(6)))))
        .route("/plain", get(tagged))
        .layer(cache.layer(Freshness::exact(secs(60))))
        .with_state(runs.clone());
    for uri in ["/long", "/short", "/plain"] {
        second_is_a_hit(&app, uri).await;
    }
    assert_eq!(cache.stats().keys, 3, "each page is stored once");
    let hits = async || {
        (ask(&app, "/long").await.is_hit(), ask(&app, "/short").await.is_hit(), ask(&app, "/plain").await.is_hit())
    };
    advance(secs(6)).await;
    assert_eq!(hits().await, (true, false, true));
    advance(secs(54)).await;
    assert_eq!(hits().await, (true, false, false));
    assert_eq!(cache.purge_tag("quotes").await.unwrap().entries, 3);
    assert_eq!(hits().await, (false, false, false));
}

#[tokio::test(start_paused = true)] // P91, P10, trap 6
async fn many_cold_misses_through_two_layers_of_one_cache_are_one_run() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(secs(600))))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let app = app.clone();
        clients.spawn(async move { ask(&app, "/").await.body });
    }
    assert!(soon(clients.join_all()).await.iter().all(|body| body == "run 1 of /"));
    assert_eq!(runs.count(), 1);
}

#[tokio::test(start_paused = true)] // P91
async fn a_stale_page_is_refreshed_through_the_inner_layer_of_its_own_cache() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(secs(10))))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    advance(secs(10)).await;
    assert!(ask(&app, "/").await.outcome().is_stale());
    soon(cache.settled()).await;
    let new = ask(&app, "/").await;
    assert_eq!((new.body.as_str(), new.outcome().is_stale()), ("run 2 of /", false));
}

#[tokio::test] // P91
async fn what_an_inner_layer_keys_otherwise_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn by_language(State(runs): State<Runs>, headers: http::HeaderMap) -> String {
        format!("run {} in {:?}", runs.next(), headers.get(header::ACCEPT_LANGUAGE))
    }
    let app = Router::new()
        .route("/", get(by_language).layer(cache.layer(secs(60)).key_header(header::ACCEPT_LANGUAGE)))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    let speak = async |language| {
        let request = Request::get("/").header(header::ACCEPT_LANGUAGE, language).body(Body::empty()).unwrap();
        tell(&app, request).await
    };
    for (run, language) in [(1, "de"), (2, "en"), (3, "de")] {
        let seen = speak(language).await;
        assert_eq!(seen.body, format!("run {run} in Some(\"{language}\")"));
        assert!(!seen.outcome().is_stored());
    }
}

#[tokio::test] // P91
async fn what_an_inner_layer_would_not_store_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let cache = Cache::new();
    let no = |_: &http::request::Parts| false;
    let app = Router::new()
        .route("/excluded", get(count).layer(cache.layer(secs(60)).when(no)))
        .route("/not-opted-in", get(count).layer(cache.layer(secs(60)).opt_in()))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    for uri in ["/excluded", "/not-opted-in"] {
        let both = (ask(&app, uri).await, ask(&app, uri).await);
        assert!(!both.0.outcome().is_stored(), "{uri}: {both:?}");
        assert_ne!(both.0.body, both.1.body, "{uri}");
    }
}

#[tokio::test(start_paused = true)] // P91, P45
async fn what_an_inner_cache_serves_stale_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    let app = Router::new()
        .route("/", get(count).layer(caches.0.layer(secs(10))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    advance(secs(12)).await;
    // By its own lifetime the outer cache has it fresh for another 48 seconds; asked again, it gets it stale.
    caches.1.purge_path("/").await.unwrap();
    let stale = soon(ask(&app, "/")).await;
    assert_eq!((stale.body.as_str(), stale.age()), ("run 1 of /", 12));
    assert!(!stale.outcome().is_stored());
    soon(caches.0.settled()).await;
    let new = soon(ask(&app, "/")).await;
    assert_eq!((new.body.as_str(), new.age()), ("run 2 of /", 0));
}

/// Answers with the number of its run and the moment, in whole seconds since the start, at which it was called.
fn dated(runs: &Runs, control: &'static str) -> axum::routing::MethodRouter {
    let (runs, start) = (runs.clone(), tokio::time::Instant::now());
    get(async move || {
        let body = format!("{} {}", runs.next(), start.elapsed().as_secs());
        let mut response = body.into_response();
        if !control.is_empty() {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
        }
        response
    })
}

#[tokio::test(start_paused = true)] // P91, P45
async fn ages_of_different_caches_add_up_and_what_is_stale_inside_is_never_new_outside() {
    for (inner, outer, control) in [
        (100, 60, ""),
        (10, 60, ""),
        (10, 7, ""),
        (60, 60, ""),
        (100, 60, "max-age=30, stale-while-revalidate=60"),
        (10, 60, "max-age=20"),
        (10, 60, "s-maxage=5, stale-while-revalidate=1000, stale-if-error=1000"),
    ] {
        let start = tokio::time::Instant::now();
        let runs = Runs::default();
        let caches = (Cache::new(), Cache::new());
        let windows = |seconds| Freshness::new(secs(seconds)).stale_while_revalidate(secs(50)).stale_if_error(secs(90));
        let app = Router::new()
            .route("/", dated(&runs, control).layer(caches.0.layer(windows(inner)).cache_status("inner")))
            .layer(caches.1.layer(windows(outer)).cache_status("outer"));
        let lifetime = match control {
            "" => outer,
            _ => control.split(['=', ',']).nth(1).and_then(|seconds| seconds.parse().ok()).unwrap(),
        };
        for pause in [1, 4, 2, 3, 5, 13, 1, 29, 1, 1, 31, 60, 1, 1, 100, 1, 70, 1, 1, 500, 1, 1] {
            advance(secs(pause)).await;
            let seen = soon(ask(&app, "/")).await;
            let now = start.elapsed().as_secs();
            let made: u64 = seen.body.split(' ').nth(1).unwrap().parse().unwrap();
            let context = format!("{inner}/{outer} {control:?} at {now}: {seen:?}");
            assert_eq!(seen.age(), now - made, "{context}");
            // Whoever answers calls it fresh only while it is.
            let outcome = seen.outcome();
            if outcome.status() == CacheStatus::Hit {
                assert_eq!(outcome.is_stale(), now - made >= lifetime, "{context}");
            }
            soon(caches.1.settled()).await;
            soon(caches.0.settled()).await;
        }
        assert!(runs.count() > 3, "{inner}/{outer} {control:?}: {} runs", runs.count());
    }
}

#[tokio::test] // P91, P31
async fn a_tag_reaches_the_outer_of_two_caches_also_where_the_inner_one_answered_from_memory() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    async fn tagged(State(runs): State<Runs>) -> impl IntoResponse {
        (Tags::new(["quotes"]), runs.next().to_string())
    }
    let app = Router::new()
        .route("/", get(tagged).layer(caches.0.layer(secs(60))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    assert_eq!(caches.1.purge_path("/").await.unwrap().entries, 1);
    // From the inner memory into the outer.
    assert_eq!(second_is_a_hit(&app, "/").await.body, "1");
    assert_eq!(caches.0.purge_tag("quotes").await.unwrap().entries, 1);
    assert_eq!(caches.1.purge_tag("quotes").await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)] // P91, P42
async fn a_lifetime_that_the_handler_stated_holds_in_the_outer_cache_also_after_a_hit_in_the_inner() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    async fn short(State(runs): State<Runs>) -> impl IntoResponse {
        (Freshness::exact(secs(9)), runs.next().to_string())
    }
    let app = Router::new()
        .route("/", get(short).layer(caches.0.layer(secs(60))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    caches.1.purge_path("/").await.unwrap();
    assert_eq!(second_is_a_hit(&app, "/").await.body, "1");
    advance(secs(9)).await;
    assert_eq!(ask(&app, "/").await.body, "2", "no one lets it live for longer than nine seconds");
}

#[tokio::test(start_paused = true)] // P91, P34
async fn what_is_stale_inside_by_hand_or_by_less_than_a_second_is_stale_outside_whatever_the_handler_stated() {
    for (lifetime, by_hand) in [(60_000, true), (600, false)] {
        let (runs, caches) = (Runs::default(), (Cache::new(), Cache::new()));
        let answer = move |State(runs): State<Runs>| async move {
            (Freshness::new(Duration::from_millis(lifetime)), Tags::new(["t"]), runs.next().to_string())
        };
        let app = Router::new()
            .route("/", get(answer).layer(caches.0.layer(secs(60))))
            .layer(caches.1.layer(secs(60)))
            .with_state(runs.clone());
        ask(&app, "/").await;
        advance(Duration::from_millis(900)).await;
        if by_hand {
            caches.0.expire_tag("t").await.unwrap();
            caches.1.expire_tag("t").await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let reply = soon(ask(&app, "/")).await;
            seen.push((reply.body.clone(), reply.outcome().is_stale()));
            caches.1.settled().await;
            caches.0.settled().await;
        }
        // The outer refresh gets what the inner cache has stale; the one after it the new response.
        let [old, new] = [("1".to_owned(), true), ("2".to_owned(), false)];
        assert_eq!(seen, [old.clone(), old, new], "{lifetime}");
    }
}

#[tokio::test(start_paused = true)] // P91, P94
async fn what_layers_of_one_cache_say_to_one_another_another_cache_does_not_hear() {
    for stored in [true, false] {
        let (runs, caches) = (Runs::default(), (Cache::new(), Cache::new()));
        let inner = if stored { secs(5) } else { secs(0) };
        let app = Router::new()
            .route("/", get(count).layer(caches.0.layer(Freshness::exact(inner))))
            .layer(caches.0.layer(secs(60)))
            .layer(caches.1.layer(secs(600)).opt_in())
            .with_state(runs);
        let first = ask(&app, "/").await;
        assert_eq!(first.outcome().detail(), Some(Detail::NotOptedIn), "{first:?}");
        assert_eq!(caches.1.stats().keys, 0);
    }
}

// ---- setters ----

/// The file and line at which this panics.
fn place_of_panic(panics: impl FnOnce()) -> Option<(String, u32)> {
    type Place = Option<(String, u32)>;
    thread_local!(static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = || info.location().map(|place| (place.file().to_owned(), place.line()));
            let wanted = PLACE.with_borrow_mut(|slot| slot.as_mut().map(|slot| *slot = place()).is_some());
            if !wanted {
                before(info);
            }
        }));
    });
    PLACE.set(Some(None));
    let result = panic::catch_unwind(AssertUnwindSafe(panics));
    let place = PLACE.take().flatten();
    assert_eq!(result.is_err(), place.is_some());
    place
}

#[test] // P92
fn nonsense_panics_in_the_setter_at_the_callers_line() {
    macro_rules! panics_here {
        ($($setter:ident($($argument:expr),*);)*) => {$(
            let place = place_of_panic(|| drop(minute().$setter($($argument),*)));
            assert_eq!(place, Some((file!().to_owned(), line!())), "{}", stringify!($setter));
        )*};
    }
    panics_here! {
        key_header("no name");
        key_header("");
        key_header("caf\u{e9}");
        key_cookie("");
        key_cookie("a=b");
        key_cookie("a;b");
        credential_header("no name");
        exchange_headers(["x-fine", "not fine"]);
        max_variants(0);
        refresh_timeout(Duration::ZERO);
        wait_timeout(Duration::ZERO);
        negative(StatusCode::PARTIAL_CONTENT, secs(1));
        negative(StatusCode::CONTINUE, secs(1));
        negative(StatusCode::NOT_MODIFIED, secs(1));
        negative(StatusCode::UNAUTHORIZED, secs(1));
        cache_status("no token");
        cache_status("");
        cache_status("1st");
    }
}

#[tokio::test(start_paused = true)] // P92, P4
async fn a_layer_with_the_strangest_of_settings_neither_panics_nor_answers_otherwise() {
    let extremes = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    for extreme in extremes {
        for other in extremes {
            let cache = Cache::builder().memory(0).max_refreshes(0).build();
            let freshness = Freshness::new(extreme).stale_while_revalidate(other).stale_if_error(extreme);
            let layer = cache
                .layer(freshness)
                .namespace("")
                .key_cookie("a")
                .ignore_cookies()
                .sealed()
                .query_only([""])
                .query_sorted()
                .credential_header("authorization")
                .exchange_headers(["x-request-id"; 0])
                .body_cap(if extreme.is_zero() { 0 } else { usize::MAX })
                .negative(StatusCode::NOT_FOUND, other)
                .hit_for_miss(extreme)
                .max_variants(usize::MAX)
                .cache_status(None);
            let layers = [
                layer.clone().wait_timeout(extreme.max(Duration::from_nanos(1))).soft_timeout(other),
                layer.clone().refresh_timeout(other.max(Duration::from_nanos(1))).fill_timeout(extreme),
                layer.max_variants(1).opt_in().stale_windows_for_all().unsafe_invalidates(false),
            ];
            for layer in layers {
                let runs = Runs::default();
                let app = Router::new().fallback(count).layer(layer).with_state(runs.clone());
                for _ in 0..4 {
                    let seen = soon(ask(&app, "/page")).await;
                    assert!(seen.body.starts_with("run "), "{seen:?}");
                    advance(secs(1)).await;
                }
            }
        }
    }
}

#[tokio::test] // P92
async fn a_memory_without_end_is_a_memory() {
    let layer = Cache::builder().memory(usize::MAX).build().layer(secs(60));
    second_is_a_hit(&Router::new().fallback(count).layer(layer).with_state(Runs::default()), "/").await;
}

#[tokio::test] // P92
async fn a_weight_without_end_is_too_heavy_and_nothing_else() {
    let service = typed::layer().weigh(|_| usize::MAX).layer(typed::Origin::new());
    for run in 1..4 {
        assert_eq!(typed::ask(&service, "k").await, Ok(run));
    }
}

// ---- rules ----

#[tokio::test] // P93
async fn layers_with_other_key_rules_share_no_entry_but_memory_and_invalidation() {
    let runs = Runs::default();
    let cache = Cache::new();
    let plain = || cache.layer(secs(60));
    let app = |layer: CachebackLayer| Router::new().route("/x", get(count).layer(layer)).with_state(runs.clone());
    let one_by_one = [
        app(plain()),
        app(plain().namespace("a")),
        app(plain().namespace("b")),
        app(plain().key_header("x-tenant")),
        app(plain().key_cookie("theme")),
        app(plain().ignore_cookies()),
        app(plain().key_by(|_| Some(Vec::new()))),
        app(plain().key_by(|_| Some(Vec::new()))),
        app(plain().credential_header("x-secret")),
        app(plain().query_only(["q"])),
        app(plain().query_except(["q"])),
        app(plain().query_sorted()),
        app(plain().sealed()),
    ];
    for app in &one_by_one {
        second_is_a_hit(app, "/x").await;
    }
    assert_eq!((runs.count(), cache.stats().keys), (one_by_one.len(), one_by_one.len()));

    // The same rules are the same entries, whatever the layer stores and for how long.
    assert!(ask(&app(cache.layer(secs(5)).body_cap(7)), "/x").await.is_hit());
    assert_eq!(cache.purge_path("/x").await.unwrap().entries, one_by_one.len());
    for app in &one_by_one {
        assert!(!ask(app, "/x").await.is_hit());
    }
}

#[tokio::test(start_paused = true)] // P93, P1
async fn an_entry_lives_by_the_freshness_of_the_run_that_stored_it() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = |lifetime| {
        let layer = cache.layer(Freshness::exact(secs(lifetime)));
        Router::new().route("/x", get(count).layer(layer)).with_state(runs.clone())
    };
    second_is_a_hit(&app(10), "/x").await;
    advance(secs(9)).await;
    assert!(ask(&app(5), "/x").await.is_hit(), "it was stored for ten seconds");
    advance(secs(1)).await;
    assert!(!ask(&app(60), "/x").await.is_hit(), "it was stored for ten seconds and no more");
}

// ---- who is cached at all ----

#[tokio::test] // P94
async fn a_layer_that_is_not_enabled_passes_everything_through() {
    let runs = Runs::default();
    let app = Router::new().route("/", get(count).post(count)).layer(minute().enabled(false)).with_state(runs.clone());
    for run in 1..=2 {
        let seen = ask(&app, "/").await;
        assert_eq!(seen.body, format!("run {run} of /"));
        assert!(seen.outcome.is_none() && seen.header("cache-status").is_empty() && seen.header("age").is_empty());
    }
}

#[tokio::test] // P94, P17
async fn requests_that_when_leaves_out_are_neither_looked_up_nor_stored_nor_collapsed() {
    let cache = Cache::new();
    let both = Arc::new(Barrier::new(2));
    let runs = Runs::default();
    let meeting = {
        let (runs, both) = (runs.clone(), Arc::clone(&both));
        async move || {
            both.wait().await;
            runs.next().to_string()
        }
    };
    let layer = cache.layer(secs(60)).when(|request| !request.uri.path().starts_with("/admin"));
    let app = Router::new().route("/admin", get(meeting)).route("/", get(count)).layer(layer).with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    // Were one of them to wait for the other, neither would ever be answered.
    let (one, other) = tokio::join!(ask(&app, "/admin"), ask(&app, "/admin"));
    assert_ne!(one.body, other.body);
    let outcome = one.outcome();
    assert_eq!((outcome.status(), outcome.detail()), (CacheStatus::Bypass, Some(Detail::Excluded)));
    assert_eq!(cache.stats().keys, 1);
}

#[tokio::test] // P94
async fn opting_in_route_by_route_with_a_layer_on_the_method_router() {
    let runs = Runs::default();
    let app =
        Router::new().route("/quotes", get(count).layer(minute())).route("/cart", get(count)).with_state(runs.clone());
    second_is_a_hit(&app, "/quotes").await;
    assert_ne!(ask(&app, "/cart").await.body, ask(&app, "/cart").await.body);
}

#[tokio::test(start_paused = true)] // P94, P93
async fn opting_in_route_by_route_with_several_layers_of_one_cache() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(Freshness::exact(secs(5)))))
        .route("/quotes", get(count).layer(cache.layer(Freshness::exact(secs(60)))))
        .route("/cart", get(count))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    second_is_a_hit(&app, "/quotes").await;
    assert!(ask(&app, "/cart").await.outcome.is_none());
    assert_eq!(cache.stats().keys, 2);
    advance(secs(5)).await;
    assert!(!ask(&app, "/").await.is_hit());
    assert!(ask(&app, "/quotes").await.is_hit());
    assert_eq!(cache.purge_path("/quotes").await.unwrap().entries, 1);
    assert!(!ask(&app, "/quotes").await.is_hit());
}

#[tokio::test] // P94, P91
async fn opting_in_under_one_layer_on_the_whole_router() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn opted(State(runs): State<Runs>) -> impl IntoResponse {
        (Freshness::new(secs(60)), runs.next().to_string())
    }
    async fn stated(State(runs): State<Runs>) -> impl IntoResponse {
        ([(header::CACHE_CONTROL, "max-age=60")], runs.next().to_string())
    }
    let app = Router::new()
        .route("/by-its-handler", get(opted))
        .route("/by-its-route", get(count).layer(cache.layer(secs(60))))
        .route("/cart", get(count))
        .route("/stated", get(stated))
        .layer(cache.layer(Duration::ZERO).opt_in())
        .with_state(runs.clone());
    second_is_a_hit(&app, "/by-its-handler").await;
    second_is_a_hit(&app, "/by-its-route").await;
    for uri in ["/cart", "/stated"] {
        let both = (ask(&app, uri).await, ask(&app, uri).await);
        assert_ne!(both.0.body, both.1.body, "{uri}");
        assert_eq!(both.0.outcome().detail(), Some(Detail::NotOptedIn), "{uri}");
        assert!(!both.0.outcome().is_stored(), "{uri}");
    }
    assert_eq!(cache.stats().keys, 2, "nothing is remembered of what was not opted in");
}

#[tokio::test(start_paused = true)] // P94
async fn requests_wait_for_one_another_only_where_something_was_opted_in_before() {
    let runs = Runs::default();
    let both = Arc::new(Barrier::new(2));
    let page = |opted: bool| {
        let (runs, both) = (runs.clone(), Arc::clone(&both));
        get(async move || {
            let run = runs.next();
            if run <= 4 {
                both.wait().await;
            } else {
                tokio::task::yield_now().await;
            }
            let mut response = run.to_string().into_response();
            if opted {
                response.extensions_mut().insert(Freshness::exact(secs(60)));
            }
            response
        })
    };
    let app = Router::new()
        .route("/cart", page(false))
        .route("/quotes", page(true))
        .layer(CachebackLayer::new(Duration::ZERO).opt_in());
    // Nobody has seen an opted-in response: each pair runs side by side, or it would wait for ever.
    for uri in ["/cart", "/quotes"] {
        let (one, other) = soon(async { tokio::join!(ask(&app, uri), ask(&app, uri)) }).await;
        assert_ne!(one.body, other.body, "{uri}");
    }
    advance(secs(60)).await;
    let (one, other) = soon(async { tokio::join!(ask(&app, "/quotes"), ask(&app, "/quotes")) }).await;
    assert_eq!((one.body.as_str(), other.body.as_str()), ("5", "5"));
    assert!(one.outcome().is_collapsed() != other.outcome().is_collapsed());
    let (one, other) = soon(async { tokio::join!(ask(&app, "/cart"), ask(&app, "/cart")) }).await;
    assert_ne!(one.body, other.body);
}

// ---- tonic ----

mod grpc {
    use std::task::{Context, Poll};

    use tonic::{server::NamedService, service::LayerExt as _, transport::Server, transport::server::TcpIncoming};

    use super::*;

    /// Answers every call with one message and a good status, and counts.
    #[derive(Clone, Debug, Default)]
    struct Quotes(Runs);

    impl NamedService for Quotes {
        const NAME: &'static str = "quotes.Quotes";
    }

    impl Service<http::Request<tonic::body::Body>> for Quotes {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
            let message = Bytes::from(vec![0, 0, 0, 0, 1, u8::try_from(self.0.next()).expect("few calls")]);
            let good = http::HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
            let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(good))));
            let response = http::Response::builder().header(header::CONTENT_TYPE, "application/grpc");
            std::future::ready(Ok(response.body(tonic::body::Body::new(body)).expect("a sound response")))
        }
    }

    async fn serve(layered: bool) -> (String, Runs) {
        let quotes = Quotes::default();
        let runs = quotes.0.clone();
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("loopback has a free port");
        let address = incoming.local_addr().expect("a bound listener has an address");
        if layered {
            let server = Server::builder().layer(minute()).add_service(quotes);
            tokio::spawn(server.serve_with_incoming(incoming));
        } else {
            let server = Server::builder().add_service(minute().named_layer(quotes));
            tokio::spawn(server.serve_with_incoming(incoming));
        }
        (format!("http://{address}/quotes.Quotes/Get"), runs)
    }

    #[tokio::test] // P90, P52
    async fn calls_pass_untouched_under_a_layer_of_tonics_server_and_under_a_named_layer() {
        for layered in [true, false] {
            let (uri, runs) = serve(layered).await;
            let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
            for run in 1..=2 {
                let call = Request::post(&uri)
                    .header(header::CONTENT_TYPE, "application/grpc")
                    .header(header::TE, "trailers")
                    .body(Full::from(vec![0, 0, 0, 0, 0]))
                    .unwrap();
                let answer = client.request(call).await.unwrap().into_body().collect().await.unwrap();
                assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
                assert_eq!(answer.to_bytes()[5], run);
            }
            assert_eq!(runs.count(), 2);
        }
    }
}
