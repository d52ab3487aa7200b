//! In axum: routers, single routes, fallbacks, and what handlers say.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use cacheback::{Cache, CacheStatus, Detail, Freshness, NoStore, Outcome, Tags};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    stand::{Runs, Seen, ask, count, minute, second_is_a_hit, secs, tell, to},
    support::net::{infallible, serve},
};

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
