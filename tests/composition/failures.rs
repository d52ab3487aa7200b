//! Timeouts, panics and retries.

use std::future::{Ready, ready};

use axum::{Router, error_handling::HandleErrorLayer, extract::State, http::StatusCode, routing::get};
use cacheback::{Cache, Detail, Freshness};
use tokio::{task::JoinSet, time::advance};
use tower::{
    BoxError, Layer, ServiceBuilder,
    retry::{Policy, RetryLayer},
};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use crate::{
    stand::{Runs, ask, second_is_a_hit, secs},
    support::{
        net::{eventually, soon},
        typed::{self, Act, Down, Get, Origin},
    },
};

/// The first run answers at once, the others after twenty seconds.
async fn slow(State(runs): State<Runs>) -> String {
    let run = runs.next();
    tokio::time::sleep(secs(if run == 1 { 0 } else { 20 })).await;
    run.to_string()
}

/// Five seconds, then this status.
fn timeout(status: StatusCode) -> TimeoutLayer {
    TimeoutLayer::with_status_code(status, secs(5))
}

/// Fresh for a minute, and good for ten more where a run fails.
fn guarded() -> Freshness {
    Freshness::exact(secs(60)).stale_if_error(secs(600))
}

#[tokio::test(start_paused = true)] // P90, P6
async fn a_timeout_inside_is_a_failed_run_and_the_stale_page_stands_in() {
    let cache = Cache::new();
    let stack = ServiceBuilder::new().layer(cache.layer(guarded())).layer(timeout(StatusCode::GATEWAY_TIMEOUT));
    let app = Router::new().route("/", get(slow).layer(stack)).with_state(Runs::default());
    assert_eq!(ask(&app, "/").await.body, "1");
    advance(secs(61)).await;
    let seen = eventually(ask(&app, "/")).await;
    assert_eq!((seen.status, seen.body.as_str()), (StatusCode::OK, "1"));
    assert_eq!(seen.outcome().detail(), Some(Detail::StaleIfError));
}

#[tokio::test(start_paused = true)] // P90, P23
async fn a_timeout_inside_that_says_408_is_an_answer_and_takes_the_place_of_the_page() {
    let cache = Cache::new();
    let stack = ServiceBuilder::new().layer(cache.layer(guarded())).layer(timeout(StatusCode::REQUEST_TIMEOUT));
    let app = Router::new().route("/", get(slow).layer(stack)).with_state(Runs::default());
    assert_eq!(ask(&app, "/").await.body, "1");
    advance(secs(61)).await;
    assert_eq!(eventually(ask(&app, "/")).await.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(cache.purge_path("/").await.unwrap().entries, 0, "the stale page is gone");
}

#[tokio::test(start_paused = true)] // P90, P11
async fn a_timeout_outside_ends_the_wait_and_not_the_run() {
    let (runs, cache) = (Runs::default(), Cache::new());
    let stack = ServiceBuilder::new().layer(timeout(StatusCode::GATEWAY_TIMEOUT)).layer(cache.layer(guarded()));
    let app = Router::new().route("/", get(slow).layer(stack)).with_state(runs.clone());
    assert_eq!(ask(&app, "/").await.body, "1");
    advance(secs(61)).await;
    let seen = eventually(ask(&app, "/")).await;
    assert_eq!((seen.status, seen.outcome), (StatusCode::GATEWAY_TIMEOUT, None));
    eventually(cache.settled()).await;
    let seen = ask(&app, "/").await;
    assert_eq!((seen.body.as_str(), seen.is_hit(), runs.count()), ("2", true, 2));
}

#[tokio::test(start_paused = true)] // P90, P13
async fn a_refresh_is_bounded_by_refresh_timeout_and_by_no_timeout_outside() {
    for (bound, body) in [(secs(60), "2"), (secs(10), "1")] {
        let cache = Cache::new();
        let layer = cache.layer(secs(60)).refresh_timeout(bound);
        let stack = ServiceBuilder::new().layer(timeout(StatusCode::GATEWAY_TIMEOUT)).layer(layer);
        let app = Router::new().route("/", get(slow).layer(stack)).with_state(Runs::default());
        assert_eq!(ask(&app, "/").await.body, "1");
        advance(secs(61)).await;
        assert!(soon(ask(&app, "/")).await.outcome().is_stale());
        eventually(cache.settled()).await;
        assert_eq!(soon(ask(&app, "/")).await.body, body, "{bound:?}");
    }
}

#[tokio::test(start_paused = true)] // P90, P6
async fn an_error_inside_is_a_failed_run_and_what_handles_errors_stands_outside() {
    let handle = HandleErrorLayer::new(async |_: BoxError| StatusCode::BAD_GATEWAY);
    let stack = ServiceBuilder::new()
        .layer(handle)
        .layer(Cache::new().layer(guarded()))
        .layer(tower::timeout::TimeoutLayer::new(secs(5)));
    let app = Router::new().route("/{page}", get(slow).layer(stack)).with_state(Runs::default());
    assert_eq!(ask(&app, "/a").await.body, "1");
    advance(secs(61)).await;
    let seen = eventually(ask(&app, "/a")).await;
    assert_eq!((seen.body.as_str(), seen.outcome().detail()), ("1", Some(Detail::StaleIfError)));
    // Where nothing stands in, the error passes the layer as it is.
    let seen = eventually(ask(&app, "/b")).await;
    assert_eq!((seen.status, seen.outcome), (StatusCode::BAD_GATEWAY, None));
}

async fn moody(State(runs): State<Runs>) -> String {
    let run = runs.next();
    assert_ne!(run, 2, "the second run panics");
    run.to_string()
}

#[tokio::test(start_paused = true)] // P90, P12
async fn a_panic_caught_inside_is_a_failed_run_and_the_stale_page_stands_in() {
    let stack = ServiceBuilder::new().layer(Cache::new().layer(guarded())).layer(CatchPanicLayer::new());
    let app = Router::new().route("/", get(moody).layer(stack)).with_state(Runs::default());
    second_is_a_hit(&app, "/").await;
    advance(secs(61)).await;
    let seen = ask(&app, "/").await;
    assert_eq!((seen.body.as_str(), seen.outcome().detail()), ("1", Some(Detail::StaleIfError)));
    // The back-off is over.
    advance(secs(60)).await;
    assert_eq!(second_is_a_hit(&app, "/").await.body, "3");
}

#[tokio::test(start_paused = true)] // P90, P12
async fn a_panic_caught_outside_is_the_readers_500_and_no_key_is_left_behind() {
    let stack =
        ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(Cache::new().layer(Freshness::exact(secs(60))));
    let app = Router::new().route("/", get(moody).layer(stack)).with_state(Runs::default());
    second_is_a_hit(&app, "/").await;
    advance(secs(61)).await;
    assert_eq!(ask(&app, "/").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    advance(secs(60)).await;
    assert_eq!(second_is_a_hit(&app, "/").await.body, "3");
}

#[tokio::test(start_paused = true)] // P90, P12
async fn a_refresh_that_panics_costs_its_reader_nothing_whoever_catches_panics() {
    for caught in [true, false] {
        let cache = Cache::new();
        let (app, layer) = (Router::new().route("/", get(moody)), cache.layer(secs(60)));
        let app = if caught { app.layer(CatchPanicLayer::new()).layer(layer) } else { app.layer(layer) };
        let app = app.with_state(Runs::default());
        second_is_a_hit(&app, "/").await;
        advance(secs(61)).await;
        for _ in 0..2 {
            let seen = soon(ask(&app, "/")).await;
            assert_eq!((seen.body.as_str(), seen.outcome().is_stale()), ("1", true));
            soon(cache.settled()).await;
        }
        let stats = cache.stats();
        assert_eq!((stats.runs_failed, stats.runs_panicked), if caught { (1, 0) } else { (0, 1) });
    }
}

/// Tries twice.
#[derive(Clone, Copy, Debug)]
struct Twice(bool);

impl Policy<Get, u64, Down> for Twice {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Get, result: &mut Result<u64, Down>) -> Option<Ready<()>> {
        let again = result.is_err() && !self.0;
        self.0 = true;
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, get: &Get) -> Option<Get> {
        Some(*get)
    }
}

#[tokio::test(start_paused = true)] // P90, P10
async fn a_retry_inside_is_one_run_for_all_who_wait() {
    let origin = Origin::new();
    origin.next_time(Act::Fail);
    let service =
        ServiceBuilder::new().layer(typed::layer()).layer(RetryLayer::new(Twice(false))).service(origin.service());
    let crowd = typed::crowd(&service, "k", 10).await;
    assert_eq!(typed::answers(crowd).await, [2; 10]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P90, P16
async fn a_retry_outside_is_one_for_each_who_waits() {
    let origin = Origin::new();
    for _ in 0..10 {
        origin.next_time(Act::Fail);
    }
    let service = typed::layer().layer(origin.service());
    let service = RetryLayer::new(Twice(false)).layer(service);
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        clients.spawn(typed::ask(&service, "k"));
    }
    let answers = clients.join_all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(origin.runs() > 10, "each of the ten failed once and tried again: {} runs", origin.runs());
}
