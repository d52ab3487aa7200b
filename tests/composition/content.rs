//! What makes of one response another: coding, and who may read it.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, Any, CorsLayer},
};

use crate::{
    stand::{Runs, Seen, count, minute, second_is_a_hit, tell, to},
    support::net::infallible,
};

async fn long(State(runs): State<Runs>) -> String {
    format!("run {} {}", runs.next(), "long ".repeat(1_000))
}

/// A page that is longer when it is not coded, and what a client gets of it who reads this coding.
async fn coded(app: &Router, coding: &'static str) -> (bool, Bytes) {
    let request = Request::get("/").header(header::ACCEPT_ENCODING, coding).body(Body::empty()).unwrap();
    let response = infallible(app.clone().oneshot(request).await);
    let is_coded = response.headers().contains_key(header::CONTENT_ENCODING);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes.starts_with(&[0x1f, 0x8b]), is_coded);
    assert_eq!(bytes.starts_with(b"run "), !is_coded);
    (is_coded, bytes)
}

/// Each client gets what it can read, the second time as the first.
async fn each_gets_what_it_can_read(app: &Router) {
    let small = coded(app, "gzip").await;
    let whole = coded(app, "identity").await;
    assert!(small.0 && !whole.0 && whole.1.len() > small.1.len());
    assert_eq!(coded(app, "gzip").await, small);
    assert_eq!(coded(app, "identity").await, whole);
}

#[tokio::test] // P90
async fn compression_outside_codes_one_stored_page_for_each_reader() {
    let runs = Runs::default();
    let stack = ServiceBuilder::new().layer(CompressionLayer::new()).layer(minute());
    let app = Router::new().route("/", get(long)).layer(stack).with_state(runs.clone());
    each_gets_what_it_can_read(&app).await;
    assert_eq!(runs.count(), 1);
}

#[tokio::test] // P90, P44
async fn compression_inside_codes_once_and_stores_a_variant_for_each_coding() {
    let runs = Runs::default();
    let layer = minute();
    let cache = layer.cache().clone();
    let stack = ServiceBuilder::new().layer(layer).layer(CompressionLayer::new());
    let app = Router::new().route("/", get(long)).layer(stack).with_state(runs.clone());
    each_gets_what_it_can_read(&app).await;
    assert_eq!(runs.count(), 2);
    assert_eq!(cache.purge_path("/").await.unwrap().entries, 2, "both variants are one page to an invalidation");
}

#[tokio::test] // P90, P47
async fn a_part_of_a_stored_page_is_not_coded_by_a_compression_outside() {
    let runs = Runs::default();
    let stack = ServiceBuilder::new().layer(CompressionLayer::new()).layer(minute());
    let app = Router::new().route("/", get(long)).layer(stack).with_state(runs.clone());
    coded(&app, "gzip").await;
    let part = Request::get("/").header(header::RANGE, "bytes=0-4").header(header::ACCEPT_ENCODING, "gzip");
    let part = tell(&app, part.body(Body::empty()).unwrap()).await;
    assert_eq!((part.status, part.body.as_str(), runs.count()), (StatusCode::PARTIAL_CONTENT, "run 1", 1));
}

/// What a page allows to clients of these two origins, the first of them twice.
async fn from_two_origins(layer: &CorsLayer, outside: bool) -> [(String, String); 3] {
    let stack = if outside {
        Router::new().route("/", get(count)).layer(ServiceBuilder::new().layer(layer.clone()).layer(minute()))
    } else {
        Router::new().route("/", get(count)).layer(ServiceBuilder::new().layer(minute()).layer(layer.clone()))
    };
    let app = stack.with_state(Runs::default());
    let from = async |origin: &'static str| {
        let request = Request::get("/").header(header::ORIGIN, origin).body(Body::empty()).unwrap();
        let seen = tell(&app, request).await;
        (seen.header(header::ACCESS_CONTROL_ALLOW_ORIGIN).to_owned(), seen.body)
    };
    [from("https://a.example").await, from("https://b.example").await, from("https://a.example").await]
}

fn allowed(origin: &str, run: usize) -> (String, String) {
    (origin.to_owned(), format!("run {run} of /"))
}

#[tokio::test] // P90
async fn cors_outside_answers_each_origin_from_one_stored_page() {
    let seen = from_two_origins(&CorsLayer::new().allow_origin(AllowOrigin::mirror_request()), true).await;
    let [a, b] = ["https://a.example", "https://b.example"];
    assert_eq!(seen, [allowed(a, 1), allowed(b, 1), allowed(a, 1)]);
}

#[tokio::test] // P90, P55
async fn cors_inside_stores_a_variant_for_each_origin_that_it_mirrors() {
    let seen = from_two_origins(&CorsLayer::new().allow_origin(AllowOrigin::mirror_request()), false).await;
    let [a, b] = ["https://a.example", "https://b.example"];
    assert_eq!(seen, [allowed(a, 1), allowed(b, 2), allowed(a, 1)]);
}

#[tokio::test] // P90
async fn preflights_are_answered_on_either_side_and_never_stored() {
    let any = || CorsLayer::new().allow_origin(Any);
    let outside = ServiceBuilder::new().layer(any()).layer(minute());
    let inside = ServiceBuilder::new().layer(minute()).layer(any());
    let runs = Runs::default();
    let app = Router::new()
        .route("/outside", get(count).layer(outside))
        .route("/inside", get(count).layer(inside))
        .with_state(runs.clone());
    for uri in ["/outside", "/inside"] {
        for _ in 0..2 {
            let preflight = Request::options(uri)
                .header(header::ORIGIN, "https://a.example")
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
            let seen = tell(&app, preflight.body(Body::empty()).unwrap()).await;
            assert_eq!(seen.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*", "{uri}");
            assert!(seen.outcome.is_none_or(|outcome| !outcome.is_stored()), "{uri}");
        }
        assert_eq!(runs.count(), 0, "no preflight comes to the handler");
    }
    second_is_a_hit(&app, "/inside").await;
}

#[tokio::test] // P90, P40
async fn a_limit_on_request_bodies_refuses_on_either_side_and_hits_go_on() {
    let limit = || tower_http::limit::RequestBodyLimitLayer::new(4);
    let outside = ServiceBuilder::new().layer(limit()).layer(minute());
    let inside = ServiceBuilder::new().layer(minute()).layer(limit());
    let echo = async |body: Bytes| body;
    let app = Router::new()
        .route("/outside", get(count).post(echo).layer(outside))
        .route("/inside", get(count).post(echo).layer(inside))
        .with_state(Runs::default());
    for uri in ["/outside", "/inside"] {
        second_is_a_hit(&app, uri).await;
        let put = async |content: &'static str| {
            let request = Request::post(uri).header(header::CONTENT_LENGTH, content.len());
            tell(&app, request.body(Body::from(content)).unwrap()).await
        };
        assert_eq!(put("too long").await.status, StatusCode::PAYLOAD_TOO_LARGE);
        second_is_a_hit_still(&app, uri).await;
        assert_eq!(put("fine").await.body, "fine");
    }
}

/// A refused request changed nothing.
async fn second_is_a_hit_still(app: &Router, uri: &str) {
    assert!(Seen::of(infallible(app.clone().oneshot(to(uri)).await)).await.is_hit());
}
