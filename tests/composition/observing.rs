//! What watches: spans, ids and figures.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use cacheback::{Background, Cache, CacheStatus, Outcome};
use tower::ServiceBuilder;
use tower_http::{
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};

use crate::{
    stand::{Runs, ask, count, minute, second_is_a_hit, secs},
    support::net::soon,
};

#[tokio::test] // P90
async fn tracing_outside_sees_requests_and_inside_runs() {
    let [requests, runs] = [Runs::default(), Runs::default()];
    let counting = |seen: &Runs| {
        let seen = seen.clone();
        TraceLayer::new_for_http().on_request(move |_: &Request, _: &tracing::Span| {
            seen.next();
        })
    };
    let stack = ServiceBuilder::new().layer(counting(&requests)).layer(minute()).layer(counting(&runs));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    second_is_a_hit(&app, "/").await;
    assert_eq!((requests.count(), runs.count()), (2, 1));
}

/// Ids in a row.
#[derive(Clone, Debug, Default)]
struct Row(Runs);

impl MakeRequestId for Row {
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        Some(RequestId::new(HeaderValue::from(self.0.next())))
    }
}

#[tokio::test] // P90
async fn a_request_id_outside_is_each_answers_own() {
    let stack = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(Row::default()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(minute());
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    assert_eq!(ask(&app, "/").await.header("x-request-id"), "1");
    let hit = ask(&app, "/").await;
    assert_eq!((hit.is_hit(), hit.header("x-request-id")), (true, "2"));
}

#[tokio::test] // P90, P54
async fn a_request_id_inside_is_that_of_the_run_and_goes_to_nobody_else() {
    let stack = ServiceBuilder::new()
        .layer(minute())
        .layer(SetRequestIdLayer::x_request_id(Row::default()))
        .layer(PropagateRequestIdLayer::x_request_id());
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    assert_eq!(ask(&app, "/").await.header("x-request-id"), "1");
    let hit = ask(&app, "/").await;
    assert_eq!((hit.is_hit(), hit.header("x-request-id")), (true, ""));
}

type Outcomes = Arc<Mutex<Vec<Outcome>>>;

#[tokio::test] // P90, P56
async fn what_counts_outside_reads_each_answers_outcome() {
    async fn note(State(outcomes): State<Outcomes>, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        outcomes.lock().unwrap().extend(response.extensions().get::<Outcome>());
        response
    }
    let outcomes = Outcomes::default();
    let stack = ServiceBuilder::new().layer(from_fn_with_state(Arc::clone(&outcomes), note)).layer(minute());
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    second_is_a_hit(&app, "/").await;
    let seen: Vec<_> = outcomes.lock().unwrap().iter().map(Outcome::status).collect();
    assert_eq!(seen, [CacheStatus::UriMiss, CacheStatus::Hit]);
}

#[tokio::test(start_paused = true)] // P90, P20
async fn what_counts_inside_tells_refreshes_by_their_mark() {
    type Marks = Arc<Mutex<Vec<bool>>>;
    async fn note(State(marks): State<Marks>, request: Request, next: Next) -> Response {
        marks.lock().unwrap().push(request.extensions().get::<Background>().is_some());
        next.run(request).await
    }
    let (marks, cache) = (Marks::default(), Cache::new());
    let stack = ServiceBuilder::new().layer(cache.layer(secs(60))).layer(from_fn_with_state(Arc::clone(&marks), note));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    second_is_a_hit(&app, "/").await;
    tokio::time::advance(secs(61)).await;
    assert!(ask(&app, "/").await.outcome().is_stale());
    soon(cache.settled()).await;
    assert_eq!(*marks.lock().unwrap(), [false, true]);
}
