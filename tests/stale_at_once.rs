//! A stale response is served at once, a fresh one without the service, and neither a moment longer than it may be.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse, routing};
use cacheback::{Background, CacheStatus, CachebackLayer, Detail, Freshness, Key};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};

mod support;
use support::{
    routes::{get, request, send},
    typed::{Act, Down, Gate, Get, Origin, answers, ask, at_once, crowd, idle, layer, pass, secs},
};

/// Fresh for 10 s, stale at once for 10 s more, and 10 s more should the service fail.
const TENS: Freshness = Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20));

const MILLISECOND: Duration = Duration::from_millis(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

// ---- horizons ----

#[tokio::test(start_paused = true)] // P1
async fn an_age_is_counted_from_the_start_of_the_run() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let mut reader = crowd(&service, "k", 1).await;
    pass(secs(6)).await;
    gate.open();
    assert_eq!(reader.join_next().await.unwrap().unwrap(), Ok(1));

    pass(secs(3)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 1, "9 s after its run's start the response is fresh");
    pass(secs(2)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 2, "11 s after its run's start, 5 s after its arrival, it is stale");
}

#[tokio::test(start_paused = true)] // P1
async fn the_age_that_a_response_came_with_counts() {
    let handler = || async { ([("cache-control", "max-age=60, stale-while-revalidate=60"), ("age", "50")], "hello") };
    let app = Router::new().route("/", routing::get(handler)).layer(CachebackLayer::new(secs(5)));
    assert!(get(&app, "/").await.outcome.is_stored());
    assert_eq!(get(&app, "/").await.outcome.ttl(), Some(10));
    pass(secs(10)).await;
    assert!(get(&app, "/").await.outcome.is_stale());
}

#[tokio::test(start_paused = true)] // P1
async fn neither_reads_nor_stale_hits_nor_failed_runs_move_a_horizon() {
    let origin = Origin::new();
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Fail);
    // 0 .. 10 s: fresh. 10 .. 20 s: stale hits and failed refreshes. 20 .. 30 s: failed runs with the reader waiting.
    for _ in 0..29 {
        pass(secs(1) - MILLISECOND).await;
        assert_eq!(ask(&service, "k").await, Ok(1));
        layer.cache().settled().await;
    }
    assert!(origin.runs() > 3, "{} runs", origin.runs());
    pass(secs(1)).await;
    assert!(matches!(ask(&service, "k").await, Err(Down(_))));
}

#[tokio::test(start_paused = true)] // P1
async fn a_5xx_does_not_move_a_horizon() {
    let origin = Origin::new();
    let app = app(&origin, TENS);
    assert_eq!(get(&app, "/").await.text, "1");
    origin.always(Act::Fail);
    for _ in 0..29 {
        pass(secs(1) - MILLISECOND).await;
        assert_eq!(get(&app, "/").await.text, "1");
    }
    assert!(origin.runs() > 3, "{} runs", origin.runs());
    pass(secs(1)).await;
    assert_eq!(get(&app, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)] // P1
async fn a_replacement_has_horizons_of_its_own() {
    let origin = Origin::new();
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(15)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    pass(secs(9)).await;
    assert_eq!(ask(&service, "k").await, Ok(2), "24 s after the first run, 9 s after the second");
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P1
async fn expiring_brings_a_horizon_forward_and_never_back() {
    let origin = Origin::new();
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    let key = Key::from("k");
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Fail);
    pass(secs(5)).await;
    layer.cache().expire(&key).await.unwrap();
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 2, "an expired response is stale");

    for _ in 0..2 {
        pass(secs(12)).await;
        layer.cache().expire(&key).await.unwrap();
        assert_eq!(ask(&service, "k").await, Ok(1), "17 s and 29 s are within the windows");
        layer.cache().settled().await;
    }
    layer.cache().expire(&key).await.unwrap();
    pass(secs(1)).await;
    assert!(matches!(ask(&service, "k").await, Err(Down(_))), "30 s are beyond the last");
}

#[tokio::test(start_paused = true)] // P1
async fn a_response_born_stale_is_handed_to_all_who_wait_and_kept_for_its_windows() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(TENS).wait_timeout(secs(60));
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 10).await;
    pass(secs(12)).await;
    gate.open();
    assert_eq!(answers(waiting).await, [1; 10]);
    assert_eq!(origin.runs(), 1);

    assert_eq!(at_once(ask(&service, "k")).await, Ok(1), "it may be served stale");
    layer.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(2), "and was refreshed");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P1
async fn a_response_born_beyond_its_last_horizon_is_handed_to_all_who_wait_and_not_kept() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(Freshness::exact(secs(10))).wait_timeout(secs(60));
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 10).await;
    pass(secs(12)).await;
    gate.open();
    assert_eq!(answers(waiting).await, [1; 10]);
    assert_eq!(ask(&service, "k").await, Ok(2));
}

#[tokio::test(start_paused = true)] // P2
async fn a_service_that_fails_for_ever_is_covered_up_to_the_last_horizon_and_not_beyond() {
    let origin = Origin::new();
    let freshness = Freshness::new(secs(60)).stale_while_revalidate(secs(60)).stale_if_error(secs(240));
    let service = layer().freshness(freshness).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Fail);
    for second in 1..1_000 {
        pass(secs(1) - MILLISECOND).await;
        let answer = ask(&service, "k").await;
        assert_eq!(answer.is_ok(), second < 300, "after {second} s: {answer:?}");
    }
}

#[tokio::test(start_paused = true)] // P2
async fn a_response_that_passes_its_last_horizon_while_readers_wait_covers_no_failure() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::FailAfter(gate.clone())).always(Act::Fail);
    pass(secs(25)).await;
    let readers = crowd(&service, "k", 10).await;
    pass(secs(6)).await;
    gate.open();
    for answer in readers.join_all().await {
        assert!(matches!(answer, Err(Down(_))), "{answer:?} 31 s after it was made");
    }
}

#[tokio::test(start_paused = true)] // P2
async fn a_response_that_passes_its_last_horizon_is_not_taken_for_want_of_patience_either() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).wait_timeout(secs(8)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Hang).always(Act::Answer);
    pass(secs(25)).await;
    let mut leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 10).await;
    pass(secs(8)).await;
    assert_eq!(answers(followers).await, [3; 10]);
    pass(secs(100)).await;
    assert!(leader.try_join_next().is_none(), "with nothing to fall back on it waits as without the layer");
}

// ---- fresh hits ----

#[tokio::test(start_paused = true)] // P3
async fn a_fresh_hit_neither_polls_nor_calls_nor_clones_the_service_nor_spawns() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    idle().await;
    let (polled, cloned, tasks) = (origin.polled(), origin.cloned(), Handle::current().metrics().num_alive_tasks());

    let mut hot = service.clone();
    let cloned_with_it = origin.cloned() - cloned;
    for _ in 0..100 {
        assert_eq!(at_once(hot.ready().await.unwrap().call(Get("k"))).await, Ok(1));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    }
    assert_eq!((origin.runs(), origin.polled()), (1, polled));
    assert_eq!(origin.cloned() - cloned, cloned_with_it);
}

#[test] // P3
fn a_fresh_hit_needs_no_runtime() {
    let origin = Origin::new();
    let mut service = layer().layer(origin.service());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(ask(&service, "k")), Ok(1));
    drop(runtime);
    let mut hit = std::pin::pin!(service.call(Get("k")));
    let poll = hit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(poll, std::task::Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)] // P3
async fn a_saturated_concurrency_limit_delays_no_hit() {
    let origin = Origin::new();
    let service = ServiceBuilder::new().layer(layer().freshness(TENS)).concurrency_limit(1).service(origin.service());
    hits_are_not_delayed_by_hung_misses(&origin, &service).await;
    assert_eq!(origin.at_most(), 1);
}

#[tokio::test(start_paused = true)] // P3
async fn load_shed_sheds_no_hit() {
    let origin = Origin::new();
    let service =
        ServiceBuilder::new().layer(layer().freshness(TENS)).load_shed().concurrency_limit(1).service(origin.service());
    hits_are_not_delayed_by_hung_misses(&origin, &service).await;
    assert!(ask(&service, "another miss").await.is_err(), "it does shed misses");
}

#[tokio::test(start_paused = true)] // P3
async fn a_full_buffer_delays_no_hit() {
    let origin = Origin::new();
    let limited = ServiceBuilder::new().concurrency_limit(1).service(origin.service());
    let service = layer().freshness(TENS).layer(Buffer::new(limited, 1));
    hits_are_not_delayed_by_hung_misses(&origin, &service).await;
}

/// Fills the cache, saturates what is inside with misses that hang, and reads fresh and stale.
async fn hits_are_not_delayed_by_hung_misses<S>(origin: &Origin, service: &S)
where
    S: Service<Get, Response = u64, Future: Send, Error: std::fmt::Debug + Send> + Clone + Send + 'static,
{
    assert_eq!(ask(service, "k").await.unwrap(), 1);
    origin.always(Act::Hang);
    let mut hung = JoinSet::new();
    for key in ["a", "b", "c", "d"] {
        hung.spawn(ask(service, key));
    }
    idle().await;
    assert_eq!(origin.under_way(), 1, "the inner limit is reached");
    let polled = origin.polled();
    assert_eq!(at_once(ask(service, "k")).await.unwrap(), 1, "a fresh hit");
    assert_eq!(origin.polled(), polled);
    pass(secs(15)).await;
    assert_eq!(at_once(ask(service, "k")).await.unwrap(), 1, "the first stale hit");
    assert_eq!(at_once(ask(service, "k")).await.unwrap(), 1, "another stale hit");
}

// ---- the edges of a lifetime ----

#[tokio::test(start_paused = true)] // P4
async fn a_response_as_old_as_its_lifetime_is_stale() {
    let origin = Origin::new();
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    tokio::time::advance(secs(10) - NANOSECOND).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 1, "a nanosecond before it is fresh");
    tokio::time::advance(NANOSECOND).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P4
async fn every_horizon_holds_to_the_nanosecond() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    tokio::time::advance(secs(20) - NANOSECOND).await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1), "stale at once, to the last");

    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    tokio::time::advance(secs(20)).await;
    assert_eq!(ask(&service, "k").await, Ok(2), "too stale: the reader waits");

    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Fail);
    tokio::time::advance(secs(30) - NANOSECOND).await;
    assert_eq!(ask(&service, "k").await, Ok(1), "too stale: the last moment that a failure is covered");
    tokio::time::advance(NANOSECOND).await;
    assert_eq!(ask(&service, "k").await, Err(Down(3)), "gone");
}

#[tokio::test(start_paused = true)] // P4
async fn a_lifetime_of_zero_without_windows_stores_nothing() {
    let origin = Origin::new();
    let service = layer().freshness(Freshness::exact(Duration::ZERO)).layer(origin.service());
    for run in 1..4 {
        assert_eq!(ask(&service, "k").await, Ok(run));
    }
}

#[tokio::test(start_paused = true)] // P4
async fn a_lifetime_of_zero_with_windows_is_stale_from_the_start() {
    let origin = Origin::new();
    let layer = layer().freshness(Duration::ZERO);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    for run in 1..4 {
        assert_eq!(at_once(ask(&service, "k")).await, Ok(run));
        layer.cache().settled().await;
    }
}

#[tokio::test(start_paused = true)] // P4
async fn durations_without_end_neither_overflow_nor_panic() {
    let origin = Origin::new();
    let for_ever = Freshness::new(Duration::MAX).stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX);
    let patient = layer()
        .freshness(for_ever)
        .refresh_timeout(Duration::MAX)
        .wait_timeout(Duration::MAX)
        .soft_timeout(Duration::MAX)
        .fill_timeout(Duration::MAX)
        .hit_for_miss(Duration::MAX);
    let service = patient.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(1 << 30)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(origin.runs(), 1, "still fresh");
    patient.cache().expire(&Key::from("k")).await.unwrap();
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    patient.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(2));

    let mut leaves = crowd(&service, "left alone", 1).await;
    leaves.shutdown().await;
    let waits = patient.clone().freshness(Freshness::exact(Duration::ZERO).stale_if_error(Duration::MAX));
    let service = waits.layer(origin.service());
    assert!(ask(&service, "too stale").await.is_ok());
    assert!(ask(&service, "too stale").await.is_ok());
}

#[tokio::test(start_paused = true)] // P4
async fn a_response_that_claims_lifetimes_and_ages_without_end_does_no_harm() {
    for (cache_control, age) in [
        ("max-age=18446744073709551615, stale-while-revalidate=18446744073709551615", "0"),
        ("max-age=99999999999999999999999999, stale-if-error=99999999999999999999999999", "0"),
        ("max-age=60", "18446744073709551615"),
        ("max-age=60", "99999999999999999999999999"),
        ("max-age=18446744073709551615, stale-while-revalidate=1", "18446744073709551615"),
    ] {
        let handler = move || async move { ([("cache-control", cache_control), ("age", age)], "hello") };
        let app = Router::new().route("/", routing::get(handler)).layer(CachebackLayer::new(secs(5)));
        for _ in 0..3 {
            assert_eq!(get(&app, "/").await.text, "hello");
            pass(secs(1 << 30)).await;
        }
    }
}

// ---- stale hits ----

#[tokio::test(start_paused = true)] // P5
async fn the_first_stale_reader_is_answered_at_once_though_the_run_is_pending_for_ever() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    pass(secs(10)).await;
    for _ in 0..10 {
        assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    }
    idle().await;
    assert_eq!((origin.runs(), origin.under_way()), (2, 1));
}

#[tokio::test(start_paused = true)] // P5
async fn a_stale_answer_is_ready_when_the_call_returns() {
    let origin = Origin::new();
    let mut service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(10)).await;
    let mut answer = std::pin::pin!(service.call(Get("k")));
    let poll = answer.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(poll, std::task::Poll::Ready(Ok(1)));
    assert_eq!(origin.runs(), 1, "the run has not begun");
}

#[tokio::test(start_paused = true)] // P5
async fn the_stale_answer_reaches_another_task_before_the_service_is_touched() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let entered = Arc::clone(&log);
    let origin = service_fn(move |_: Get| {
        // What blocks here blocks the only thread there is.
        entered.lock().unwrap().push("called".to_owned());
        std::future::ready(Ok::<_, Infallible>(0))
    });
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin);
    ask(&service, "k").await.unwrap();
    pass(secs(10)).await;
    log.lock().unwrap().clear();

    let (sender, mut receiver) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    let written = Arc::clone(&log);
    tasks.spawn(async move {
        receiver.recv().await.unwrap();
        written.lock().unwrap().push("written".to_owned());
    });
    idle().await;
    let reader = service.clone();
    tasks.spawn(async move {
        let answer = ask(&reader, "k").await.unwrap();
        sender.send(answer).await.unwrap();
    });
    tasks.join_all().await;
    layer.cache().settled().await;
    assert_eq!(*log.lock().unwrap(), ["written", "called"]);
}

#[tokio::test(start_paused = true)] // P5
async fn on_http_1_the_stale_response_and_the_next_one_are_complete_before_the_refresh_begins() {
    let (app, received_at_refresh, received) = app_whose_refresh_blocks();
    let (client, server) = tokio::io::duplex(1 << 16);
    let mut tasks = JoinSet::new();
    let service = TowerToHyperService::new(app);
    tasks.spawn(async move {
        let _closed = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    });
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tasks.spawn(async move {
        let _closed = connection.await;
    });

    for path in ["/", "/"] {
        let response = client.send_request(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    received.store(0, SeqCst);
    pass(secs(15)).await;
    client.ready().await.unwrap();
    let stale = client.send_request(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(stale.into_body().collect().await.unwrap().to_bytes(), "1");
    received.fetch_add(1, SeqCst);
    // The refresh hangs by now, if it has begun. The connection does not.
    at_once(client.ready()).await.unwrap();
    let next = at_once(client.send_request(Request::get("/").body(Body::empty()).unwrap())).await.unwrap();
    assert_eq!(at_once(next.into_body().collect()).await.unwrap().to_bytes(), "1");
    idle().await;
    assert!(received_at_refresh.load(SeqCst) >= 1, "the refresh began before the stale response was there");
}

#[tokio::test(start_paused = true)] // P5
async fn on_http_2_the_stale_response_is_complete_before_the_refresh_begins() {
    let (app, received_at_refresh, received) = app_whose_refresh_blocks();
    let (client, server) = tokio::io::duplex(1 << 16);
    let mut tasks = JoinSet::new();
    let service = TowerToHyperService::new(app);
    tasks.spawn(async move {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _closed = http2.serve_connection(TokioIo::new(server), service).await;
    });
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
    let (mut client, connection) = handshake.await.unwrap();
    tasks.spawn(async move {
        let _closed = connection.await;
    });
    let url = "http://example.org/";
    let response = client.send_request(Request::get(url).body(Body::empty()).unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    received.store(0, SeqCst);
    pass(secs(15)).await;
    let stale = client.send_request(Request::get(url).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(stale.into_body().collect().await.unwrap().to_bytes(), "1");
    received.fetch_add(1, SeqCst);
    idle().await;
    assert_eq!(received_at_refresh.load(SeqCst), 1, "the refresh began before the stale response was there");
}

/// An app whose refresh would block its thread in its first poll and then never ends; how many responses the client had
/// when it began (`usize::MAX` as long as it has not), and how many it has.
fn app_whose_refresh_blocks() -> (Router, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let received_at_refresh = Arc::new(AtomicUsize::new(usize::MAX));
    let received = Arc::new(AtomicUsize::new(0));
    let (began, has) = (Arc::clone(&received_at_refresh), Arc::clone(&received));
    let handler = move |request: Request<Body>| {
        let background = request.extensions().get::<Background>().is_some();
        if background {
            began.store(has.load(SeqCst), SeqCst);
        }
        async move {
            if background {
                std::future::pending::<()>().await;
            }
            "1"
        }
    };
    (Router::new().route("/", routing::get(handler)).layer(CachebackLayer::new(TENS)), received_at_refresh, received)
}

// ---- too stale ----

#[tokio::test(start_paused = true)] // P6
async fn a_reader_of_a_too_stale_response_waits_for_the_new_one() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::AnswerAfter(gate.clone()));
    pass(secs(25)).await;
    let mut readers = crowd(&service, "k", 10).await;
    assert!(readers.try_join_next().is_none());
    gate.open();
    assert_eq!(answers(readers).await, [2; 10]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P6
async fn all_readers_of_a_too_stale_response_get_it_when_the_run_fails() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::FailAfter(gate.clone()));
    pass(secs(25)).await;
    let readers = crowd(&service, "k", 10).await;
    gate.open();
    assert_eq!(answers(readers).await, [1; 10]);
    assert_eq!(origin.runs(), 2, "nobody tried again");
}

#[tokio::test(start_paused = true)] // P6
async fn a_reader_of_a_too_stale_response_gets_it_when_the_run_meets_its_deadline() {
    let origin = Origin::new();
    let layer = layer().freshness(Freshness::new(secs(10)).stale_while_revalidate(secs(10))).refresh_timeout(secs(30));
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Hang);
    pass(secs(25)).await;
    let mut reader = crowd(&service, "k", 1).await;
    pass(secs(29)).await;
    assert!(reader.try_join_next().is_none());
    pass(secs(1)).await;
    assert_eq!(reader.try_join_next().unwrap().unwrap(), Ok(1));
    assert_eq!(origin.under_way(), 0, "the run is over");
    layer.cache().settled().await;
    pass(secs(1)).await;
    assert_eq!(ask(&service, "k").await, Ok(3), "and its key is free");
}

#[tokio::test(start_paused = true)] // P6
async fn a_reader_of_a_too_stale_response_gets_it_in_place_of_a_5xx() {
    let origin = Origin::new();
    let app = app(&origin, TENS);
    assert_eq!(get(&app, "/").await.text, "1");
    origin.always(Act::Fail);
    pass(secs(25)).await;
    let stale = get(&app, "/").await;
    assert_eq!((stale.status, stale.text.as_str()), (StatusCode::OK, "1"));
    assert_eq!(stale.outcome.status(), CacheStatus::Stale);
    assert_eq!(stale.outcome.detail(), Some(Detail::StaleIfError));
    assert_eq!(stale.outcome.forward_status(), Some(503));
    assert!(stale.outcome.is_stale());
}

#[tokio::test(start_paused = true)] // P6
async fn a_failure_is_not_covered_where_no_window_allows_it() {
    let origin = Origin::new();
    let app = app(&origin, Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(Duration::ZERO));
    assert_eq!(get(&app, "/").await.text, "1");
    origin.always(Act::Fail);
    pass(secs(25)).await;
    assert_eq!(get(&app, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)] // P6
async fn after_the_soft_timeout_readers_get_the_stale_response_while_the_run_goes_on() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(TENS).soft_timeout(secs(2));
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::AnswerAfter(gate.clone()));
    pass(secs(22)).await;
    let mut readers = crowd(&service, "k", 10).await;
    pass(secs(1)).await;
    assert!(readers.try_join_next().is_none());
    pass(secs(1)).await;
    assert_eq!(answers(readers).await, [1; 10]);

    assert_eq!((origin.runs(), origin.under_way()), (2, 1), "the one run goes on");
    gate.open();
    layer.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(2), "and was stored");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P6, P40, P48
async fn a_reader_who_may_not_lead_waits_no_longer_for_a_hung_service_than_one_who_may() {
    let limits = [CachebackLayer::new(TENS).soft_timeout(secs(5)), CachebackLayer::new(TENS).refresh_timeout(secs(5))];
    for limited in limits {
        for (method, control) in [(Method::GET, "max-age=0"), (Method::HEAD, "max-age=0"), (Method::GET, "no-store")] {
            let what = format!("{method} {control}");
            let origin = Origin::new();
            let app = app_with(&origin, limited.clone().namespace(&what));
            get(&app, "/").await;
            origin.always(Act::Hang);
            pass(secs(22)).await;
            let mut request = request(method, "/");
            request.headers_mut().insert(header::CACHE_CONTROL, control.parse().unwrap());
            let mut reader = JoinSet::new();
            reader.spawn(send(&app, request));
            idle().await;
            pass(secs(4)).await;
            assert!(reader.try_join_next().is_none(), "{what}");
            pass(secs(1)).await;
            let stale = at_once(reader.join_next()).await.unwrap().unwrap();
            assert_eq!((stale.status, stale.outcome.is_stale()), (StatusCode::OK, true), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)] // P6
async fn a_run_that_ends_within_the_soft_timeout_answers_its_readers() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).soft_timeout(secs(2)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::AnswerAfter(gate.clone()));
    pass(secs(22)).await;
    let readers = crowd(&service, "k", 10).await;
    pass(secs(1)).await;
    gate.open();
    assert_eq!(answers(readers).await, [2; 10]);
}

#[tokio::test(start_paused = true)] // P6
async fn during_the_back_off_a_too_stale_response_is_served_at_once_and_no_run_starts() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Fail).always(Act::Hang);
    pass(secs(22)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    for _ in 0..10 {
        assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    }
    assert_eq!(origin.runs(), 2);
    pass(secs(1)).await;
    let reader = crowd(&service, "k", 1).await;
    assert_eq!((reader.len(), origin.runs()), (1, 3), "after it the next run starts, and its reader waits");
}

#[tokio::test(start_paused = true)] // P6
async fn a_reader_who_came_before_the_failure_and_looks_after_it_starts_no_run() {
    let origin = Origin::new();
    let mut service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Fail).always(Act::Hang);
    pass(secs(22)).await;
    let slow = service.call(Get("k"));
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(at_once(slow).await, Ok(1));
    assert_eq!(origin.runs(), 2);
}

/// One route over an origin: its number as the text, 503 where it fails.
fn app(origin: &Origin, freshness: Freshness) -> Router {
    app_with(origin, CachebackLayer::new(freshness))
}

fn app_with(origin: &Origin, layer: CachebackLayer) -> Router {
    let origin = origin.service();
    let handler = || async move {
        match origin.oneshot(Get("/")).await {
            Ok(run) => run.to_string().into_response(),
            Err(Down(run)) => (StatusCode::SERVICE_UNAVAILABLE, run.to_string()).into_response(),
        }
    };
    Router::new().route("/", routing::get(handler)).layer(layer)
}
