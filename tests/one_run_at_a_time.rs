//! However many want a response, one run makes it; and nothing that happens to that run keeps the others from theirs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing,
};
use bytes::Bytes;
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness, Key, NoStore, Scope};
use http::{Method, StatusCode, header};
use http_body::Frame;
use tokio::{
    sync::Barrier,
    task::{self, JoinSet},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

mod support;
use support::{
    http::settle,
    routes::{Seen, chunks, get, request, send},
    typed::{Act, Down, Gate, Get, Origin, answers, ask, at_once, crowd, idle, layer, pass, secs},
};

/// Fresh for 10 s, stale at once for 10 s more, and 10 s more should the service fail.
const TENS: Freshness = Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20));

/// Too stale for a long time.
const LONG_TOO_STALE: Freshness =
    Freshness::new(secs(10)).stale_while_revalidate(Duration::ZERO).stale_if_error(secs(86_400));

// ---- one run ----

#[tokio::test(start_paused = true)] // P10
async fn a_thousand_cold_misses_are_one_run_and_a_thousand_answers() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer();
    let service = layer.layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 1_000).await;
    assert_eq!(layer.cache().stats().runs, 1);
    gate.open();
    assert_eq!(answers(waiting).await, [1; 1_000]);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P10
async fn a_thousand_stale_readers_are_one_run() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::AnswerAfter(gate.clone()));
    pass(secs(15)).await;
    assert_eq!(answers(crowd(&service, "k", 1_000).await).await, [1; 1_000]);
    gate.open();
    layer.cache().settled().await;
    assert_eq!(answers(crowd(&service, "k", 1_000).await).await, [2; 1_000]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P10
async fn a_thousand_readers_of_a_too_stale_response_are_one_run() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::AnswerAfter(gate.clone()));
    pass(secs(25)).await;
    let waiting = crowd(&service, "k", 1_000).await;
    gate.open();
    assert_eq!(answers(waiting).await, [2; 1_000]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)] // P10
async fn on_many_threads_a_thousand_cold_misses_are_one_run_per_key() {
    let (origin, start) = (Origin::new(), Arc::new(Barrier::new(1_000)));
    let layer = layer();
    let service = layer.layer(origin.service());
    for round in 1..=20 {
        let mut readers = JoinSet::new();
        for _ in 0..1_000 {
            let (service, start) = (service.clone(), Arc::clone(&start));
            readers.spawn(async move {
                start.wait().await;
                ask(&service, "k").await.unwrap()
            });
        }
        assert_eq!(readers.join_all().await, [round; 1_000]);
        assert_eq!(origin.runs(), round);
        layer.cache().purge(Key::from("k")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)] // P10
async fn on_many_threads_a_thousand_stale_readers_are_one_run_per_key() {
    let (origin, start) = (Origin::new(), Arc::new(Barrier::new(1_000)));
    let layer = layer().freshness(secs(3_600));
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    for round in 1..=20 {
        layer.cache().expire(Key::from("k")).await.unwrap();
        let mut readers = JoinSet::new();
        for _ in 0..1_000 {
            let (service, start) = (service.clone(), Arc::clone(&start));
            readers.spawn(async move {
                start.wait().await;
                ask(&service, "k").await.unwrap()
            });
        }
        // Some read what was stale, and some what the one run put in its place.
        assert!(readers.join_all().await.iter().all(|answer| [round, round + 1].contains(answer)));
        layer.cache().settled().await;
        assert_eq!(origin.runs(), round + 1);
    }
}

#[tokio::test(start_paused = true)] // P10
async fn a_request_that_looked_before_a_response_landed_finds_it_and_starts_no_run() {
    let origin = Origin::new();
    let mut service = layer().freshness(TENS).layer(origin.service());
    let slow = service.call(Get("k"));
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(slow.await, Ok(1));

    pass(secs(25)).await;
    let slow = service.call(Get("k"));
    assert_eq!(ask(&service, "k").await, Ok(2));
    assert_eq!(slow.await, Ok(2));
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // P10
async fn a_stale_reader_who_is_overtaken_between_its_look_and_its_lead_starts_no_run() {
    for overtaken_by in [Act::Answer, Act::Fail] {
        let origin = Origin::new();
        let stops = Arc::new(Stops::default());
        let layer = CachebackLayer::typed::<Get, Page>(|get| Key::from(get.0)).freshness(Duration::ZERO);
        let pages = Arc::clone(&stops);
        let inner = origin.service().map_response(move |run| Page(run, Arc::clone(&pages)));
        let service = layer.layer(inner);
        ask(&service, "k").await.unwrap();

        // A reader has looked, and its copy of the page takes time.
        let (stopped, resume) = stops.stop_next();
        let slow = {
            let (runtime, mut service) = (tokio::runtime::Handle::current(), service.clone());
            thread::spawn(move || {
                let _runtime = runtime.enter();
                drop(service.call(Get("k")));
            })
        };
        stopped.recv().unwrap();
        origin.next_time(overtaken_by);
        ask(&service, "k").await.unwrap();
        layer.cache().settled().await;
        assert_eq!(origin.runs(), 2);
        resume.send(()).unwrap();
        slow.join().unwrap();
        layer.cache().settled().await;
        assert_eq!(origin.runs(), 2);
    }
}

/// A response; to copy it can be made to take time.
#[derive(Debug)]
struct Page(u64, Arc<Stops>);

#[derive(Debug, Default)]
struct Stops(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl Stops {
    /// The next copy reports to the one and waits for the other.
    fn stop_next(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((report, stopped), (resume, resumed)) = (mpsc::channel(), mpsc::channel());
        *self.0.lock().unwrap() = Some((report, resumed));
        (stopped, resume)
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        let stop = self.1.0.lock().unwrap().take();
        if let Some((report, resumed)) = stop {
            report.send(()).unwrap();
            resumed.recv().unwrap();
        }
        Self(self.0, Arc::clone(&self.1))
    }
}

#[tokio::test(start_paused = true)] // P10
async fn different_keys_run_side_by_side() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    let (a, b) = (crowd(&service, "a", 10).await, crowd(&service, "b", 10).await);
    assert_eq!(origin.under_way(), 2);
    gate.open();
    assert_eq!(answers(a).await, [1; 10]);
    assert_eq!(answers(b).await, [2; 10]);
}

// ---- the leader leaves ----

#[tokio::test(start_paused = true)] // P11
async fn when_the_leader_leaves_the_run_goes_on_for_its_followers() {
    let (origin, gate) = (Origin::new(), Gate::new());
    // No permit: nothing but the followers keeps the run alive.
    let cache = Cache::builder().max_refreshes(0).build_for();
    let service = layer().over_cache(&cache).layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    let leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 10).await;
    drop(leader);
    idle().await;
    assert_eq!(origin.under_way(), 1);
    gate.open();
    assert_eq!(answers(followers).await, [1; 10]);
    assert_eq!(ask(&service, "k").await, Ok(1), "it was stored");
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_leader_leaves_and_a_permit_is_free_the_run_goes_on_for_the_store() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer();
    let service = layer.layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    drop(crowd(&service, "k", 1).await);
    idle().await;
    assert_eq!(origin.under_way(), 1);
    gate.open();
    layer.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_leader_leaves_without_followers_and_permits_the_run_is_cancelled() {
    let origin = Origin::that(Act::Hang);
    let cache = Cache::builder().max_refreshes(0).build_for();
    let service = layer().over_cache(&cache).layer(origin.service());
    let leader = crowd(&service, "k", 1).await;
    assert_eq!(origin.under_way(), 1);
    drop(leader);
    idle().await;
    assert_eq!(origin.under_way(), 0);
    at_once(cache.settled()).await;
    origin.always(Act::Answer);
    assert_eq!(at_once(ask(&service, "k")).await, Ok(2), "the key is free");
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_last_follower_leaves_as_well_the_run_is_cancelled() {
    let origin = Origin::that(Act::Hang);
    let cache = Cache::builder().max_refreshes(0).build_for();
    let service = layer().over_cache(&cache).layer(origin.service());
    let leader = crowd(&service, "k", 1).await;
    let mut followers = crowd(&service, "k", 2).await;
    drop(leader);
    followers.abort_all();
    while followers.join_next().await.is_some() {
        idle().await;
    }
    assert_eq!(origin.under_way(), 0);
}

#[tokio::test(start_paused = true)] // P11
async fn the_permit_of_a_run_that_was_left_is_given_back() {
    let origin = Origin::that(Act::Hang);
    let cache = Cache::builder().max_refreshes(1).build_for();
    let service = layer().over_cache(&cache).refresh_timeout(secs(30)).layer(origin.service());
    drop(crowd(&service, "a", 1).await);
    drop(crowd(&service, "b", 1).await);
    idle().await;
    assert_eq!(origin.under_way(), 1, "one has the permit, the other is cancelled");
    pass(secs(30)).await;
    assert_eq!(origin.under_way(), 0, "and has no longer than a refresh");
    drop(crowd(&service, "c", 1).await);
    idle().await;
    assert_eq!(origin.under_way(), 1);
}

#[tokio::test(start_paused = true)] // P11
async fn a_newcomer_joins_a_run_that_goes_on_for_the_store() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    drop(crowd(&service, "k", 1).await);
    idle().await;
    let newcomers = crowd(&service, "k", 10).await;
    gate.open();
    assert_eq!(answers(newcomers).await, [1; 10]);
}

#[tokio::test(start_paused = true)] // P11, P15
async fn a_response_that_is_shared_but_not_stored_reaches_the_one_follower_whose_leader_left() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let app = app(&origin, |_| StatusCode::NOT_FOUND.into_response());
    origin.always(Act::AnswerAfter(gate.clone()));
    let leader = readers(&app, 1).await;
    let follower = readers(&app, 1).await;
    drop(leader);
    idle().await;
    gate.open();
    let seen = follower.join_all().await;
    assert_eq!(seen[0].status, StatusCode::NOT_FOUND);
    assert_eq!(origin.runs(), 1, "its run was there already");
}

// ---- panics ----

#[tokio::test(start_paused = true)] // P12
async fn the_leader_sees_the_panic_of_the_service() {
    for (act, message) in [(Act::Panic, "run 1 panics"), (Act::PanicInCall, "run 1 panics in its call")] {
        let origin = Origin::that(act);
        let service = layer().layer(origin.service());
        let mut leader = crowd(&service, "k", 1).await;
        let payload = leader.join_next().await.unwrap().unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), message);
    }
}

#[tokio::test(start_paused = true)] // P12
async fn when_the_service_panics_the_followers_run_again_and_one_leads() {
    let (origin, panics, answers_at_last) = (Origin::new(), Gate::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.next_time(Act::PanicAfter(panics.clone())).always(Act::AnswerAfter(answers_at_last.clone()));
    let mut leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 100).await;
    panics.open();
    assert!(leader.join_next().await.unwrap().unwrap_err().is_panic());
    idle().await;
    assert_eq!((origin.runs(), origin.under_way()), (2, 1));
    answers_at_last.open();
    assert_eq!(answers(followers).await, [2; 100]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P12
async fn nobody_waits_for_the_third_panic() {
    let (origin, first, second, last) = (Origin::new(), Gate::new(), Gate::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.next_time(Act::PanicAfter(first.clone())).next_time(Act::PanicAfter(second.clone()));
    origin.always(Act::AnswerAfter(last.clone()));
    let _waiting = crowd(&service, "k", 100).await;
    first.open();
    idle().await;
    assert_eq!(origin.under_way(), 1);
    second.open();
    idle().await;
    assert_eq!(origin.under_way(), 98, "all at once");
}

#[tokio::test(start_paused = true)] // P12
async fn a_service_that_panics_every_time_panics_for_every_reader_and_keeps_none_waiting() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer();
    let service = layer.layer(origin.service());
    origin.always(Act::PanicAfter(gate.clone()));
    let mut waiting = crowd(&service, "k", 20).await;
    gate.open();
    while let Some(answer) = at_once(waiting.join_next()).await {
        assert!(answer.unwrap_err().is_panic());
    }
    assert_eq!(origin.runs(), 20, "one for each, as without the layer");
    at_once(layer.cache().settled()).await;
}

#[tokio::test(start_paused = true)] // P12
async fn when_the_service_panics_followers_with_a_stale_response_take_it() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().freshness(TENS).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::PanicAfter(gate.clone()));
    pass(secs(25)).await;
    let mut leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 10).await;
    gate.open();
    assert!(leader.join_next().await.unwrap().unwrap_err().is_panic());
    assert_eq!(answers(followers).await, [1; 10]);
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P12
async fn after_a_panic_the_key_and_all_others_keep_working_and_refreshing() {
    let origin = Origin::new();
    let layer = layer().freshness(TENS);
    let service = layer.layer(origin.service());
    origin.next_time(Act::Panic);
    assert!(crowd(&service, "k", 1).await.join_next().await.unwrap().is_err());
    assert_eq!(at_once(ask(&service, "k")).await, Ok(2));
    assert_eq!(at_once(ask(&service, "other")).await, Ok(3));

    pass(secs(15)).await;
    origin.next_time(Act::Panic).next_time(Act::PanicInCall);
    for _ in 0..2 {
        assert_eq!(at_once(ask(&service, "k")).await, Ok(2), "stale, and its refresh panics");
        at_once(layer.cache().settled()).await;
        pass(secs(2)).await;
    }
    assert_eq!(at_once(ask(&service, "k")).await, Ok(2));
    assert_eq!(at_once(ask(&service, "other")).await, Ok(3));
    layer.cache().settled().await;
    let mut refreshed = [ask(&service, "k").await.unwrap(), ask(&service, "other").await.unwrap()];
    refreshed.sort_unstable();
    assert_eq!(refreshed, [6, 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)] // P11, P12, P16
async fn on_many_threads_nobody_is_left_waiting_whatever_runs_come_to_and_whoever_leaves() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(2).build_for();
    let cached = layer().freshness(Freshness::new(Duration::ZERO).stale_if_error(Duration::ZERO)).over_cache(&cache);
    let service = ServiceBuilder::new().layer(cached).concurrency_limit(3).service(origin.service());
    for round in 0..200 {
        let acts = [Act::Answer, Act::Fail, Act::Panic, Act::PanicInCall];
        let gate = Gate::new();
        origin.next_time(acts[round % 4].clone()).next_time(acts[round / 4 % 4].clone());
        origin.next_time([Act::AnswerAfter, Act::FailAfter, Act::PanicAfter][round % 3](gate.clone()));
        let (mut stay, mut leave) = (JoinSet::new(), JoinSet::new());
        for reader in 0..60 {
            let key = ["a", "b", "c"][reader % 3];
            if reader % 2 == 0 {
                stay.spawn(ask(&service, key))
            } else {
                leave.spawn(ask(&service, key))
            };
        }
        task::yield_now().await;
        drop(leave);
        gate.open();
        while stay.join_next().await.is_some() {}
        cache.settled().await;
        if round % 2 == 0 {
            cache.purge(Scope::everything()).await.unwrap();
        }
    }
    assert_eq!((origin.under_way(), cache.stats().runs), (0, 0));
    origin.always(Act::Answer);
    assert!(ask(&service, "fresh").await.is_ok());
}

#[tokio::test(start_paused = true)] // P12
async fn runs_that_panic_give_back_their_permits_and_those_of_the_service() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(1).build_for();
    let cached = layer().freshness(TENS).over_cache(&cache);
    let service = ServiceBuilder::new().layer(cached).concurrency_limit(1).service(origin.service());
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for key in keys {
        ask(&service, key).await.unwrap();
    }
    pass(secs(15)).await;
    origin.always(Act::Panic);
    for key in keys {
        at_once(ask(&service, key)).await.unwrap();
        at_once(cache.settled()).await;
    }
    assert_eq!((origin.runs(), cache.stats().refreshes_dropped), (16, 0));
    origin.always(Act::Answer);
    assert_eq!(at_once(ask(&service, "cold")).await, Ok(17));
}

#[tokio::test(start_paused = true)] // P12
async fn a_body_that_panics_does_so_for_its_reader_and_its_followers_run_again() {
    for when in 0..3 {
        let (origin, gate) = (Origin::new(), Gate::new());
        let app = app(&origin, move |run| match run {
            1 => Body::new(Panics(when)).into_response(),
            _ => run.to_string().into_response(),
        });
        origin.next_time(Act::AnswerAfter(gate.clone()));
        let mut leader = readers(&app, 1).await;
        let followers = readers(&app, 10).await;
        gate.open();
        let led = leader.join_next().await.unwrap();
        assert!(led.is_err_and(|error| error.is_panic()), "half a body is not taken for all of it");
        assert!(at_once(followers.join_all()).await.iter().all(|seen| seen.text == "2"));
        assert_eq!(origin.runs(), 2);
    }
}

#[tokio::test(start_paused = true)] // P12
async fn a_response_whose_copy_panics_keeps_nobody_waiting() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = CachebackLayer::typed::<Get, Fragile>(|get| Key::from(get.0));
    let copies = Arc::new(AtomicUsize::new(0));
    let inner = origin.service().map_response(move |_| Fragile(Arc::clone(&copies)));
    let service = layer.layer(inner);
    origin.always(Act::AnswerAfter(gate.clone()));
    let mut waiting = crowd(&service, "k", 5).await;
    gate.open();
    let mut panics = 0;
    while let Some(answer) = at_once(waiting.join_next()).await {
        panics += usize::from(answer.is_err());
    }
    assert!(panics <= 2, "{panics} readers for two copies");
    at_once(layer.cache().settled()).await;
}

/// A response; of all copies the first two panic.
#[derive(Debug)]
struct Fragile(Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(self.0.fetch_add(1, SeqCst) > 1, "a copy panics");
        Self(Arc::clone(&self.0))
    }
}

/// A body that begins, panics when it is read so many times, and then has nothing to say.
struct Panics(usize);

impl http_body::Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.0;
        self.0 = left.wrapping_sub(1);
        match left {
            0 => panic!("the body panics"),
            1 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            2 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half"))))),
            _ => Poll::Ready(None),
        }
    }
}

// ---- time ----

#[tokio::test(start_paused = true)] // P13
async fn a_hung_origin_sees_one_more_run_per_wait_timeout_and_no_more() {
    let origin = Origin::that(Act::Hang);
    let service = layer().wait_timeout(secs(10)).layer(origin.service());
    let mut waiting = crowd(&service, "k", 100).await;
    for run in 1..=5 {
        assert_eq!((origin.runs(), origin.under_way()), (run, run as usize));
        pass(secs(5)).await;
        waiting.spawn(ask(&service, "k"));
        pass(secs(5)).await;
    }
    assert!(waiting.try_join_next().is_none());
    assert_eq!(origin.runs(), 6);
}

#[tokio::test(start_paused = true)] // P13
async fn when_patience_ends_the_first_leads_and_all_others_join_that_run() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().wait_timeout(secs(10)).layer(origin.service());
    origin.next_time(Act::Hang).always(Act::AnswerAfter(gate.clone()));
    let _leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 100).await;
    pass(secs(10)).await;
    let newcomers = crowd(&service, "k", 10).await;
    assert_eq!(origin.runs(), 2);
    gate.open();
    assert_eq!(answers(followers).await, [2; 100]);
    assert_eq!(answers(newcomers).await, [2; 10]);
}

#[tokio::test(start_paused = true)] // P13
async fn a_follower_that_holds_a_stale_response_takes_it_after_the_wait_timeout() {
    let origin = Origin::new();
    let service = layer().freshness(LONG_TOO_STALE).wait_timeout(secs(10)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    pass(secs(25)).await;
    let mut leader = crowd(&service, "k", 1).await;
    let mut followers = crowd(&service, "k", 10).await;
    pass(secs(9)).await;
    assert!(followers.try_join_next().is_none());
    pass(secs(1)).await;
    assert_eq!(answers(followers).await, [1; 10]);
    assert!(leader.try_join_next().is_none());
    assert_eq!(origin.runs(), 2);
    pass(secs(50)).await;
    assert_eq!(answers(leader).await, [1], "the leader takes it when the run's time is over");
}

#[tokio::test(start_paused = true)] // P13
async fn a_follower_whose_stale_response_goes_while_it_waits_leads_no_run_before_the_wait_timeout() {
    let origin = Origin::new();
    let layer = layer().freshness(LONG_TOO_STALE).soft_timeout(secs(2)).wait_timeout(secs(10));
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(LONG_TOO_STALE.lifetime() + secs(86_400 - 1)).await;
    origin.always(Act::Hang);
    let _waiting = crowd(&service, "k", 10).await;
    pass(secs(2)).await;
    assert_eq!(origin.runs(), 2, "2 s are for those who have something to fall back on");
    pass(secs(7)).await;
    assert_eq!(origin.runs(), 2);
    pass(secs(1)).await;
    assert_eq!(origin.runs(), 3);
}

#[tokio::test(start_paused = true)] // P13
async fn a_hung_refresh_is_aborted_at_its_deadline_and_its_key_is_free() {
    let origin = Origin::new();
    let layer = layer().freshness(secs(10));
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Hang);
    pass(secs(10)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    idle().await;
    pass(secs(59)).await;
    assert_eq!(origin.under_way(), 1, "60 s is the default");
    pass(secs(1)).await;
    assert_eq!(origin.under_way(), 0);
    pass(secs(1)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    layer.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(3));
}

#[tokio::test(start_paused = true)] // P13
async fn a_run_that_is_never_out_of_work_is_aborted_at_its_deadline_as_well() {
    let origin = Origin::new();
    let service = layer().freshness(secs(10)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Busy);
    tokio::time::advance(secs(11)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    // Nothing is ever idle from here on.
    settle().await;
    assert_eq!((origin.runs(), origin.under_way()), (2, 1));
    tokio::time::advance(secs(61)).await;
    settle().await;
    assert_eq!(origin.under_way(), 0);
}

#[test] // P13
fn a_refresh_on_a_runtime_that_stands_still_does_not_hold_its_key_for_ever() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (still, busy) = (runtime(), runtime());
    let origin = Origin::new();
    let layer = layer().freshness(secs(1_000));
    let service = layer.layer(origin.service());
    assert_eq!(still.block_on(ask(&service, "k")), Ok(1));
    still.block_on(layer.cache().expire(Key::from("k"))).unwrap();
    assert_eq!(still.block_on(ask(&service, "k")), Ok(1), "its refresh is spawned, and not polled");
    busy.block_on(async {
        for _ in 0..20 {
            pass(secs(20)).await;
            assert!(ask(&service, "k").await.is_ok());
        }
        idle().await;
    });
    assert_eq!(origin.runs(), 2, "long after the deadline the key is free");
}

#[tokio::test(start_paused = true)] // P13
async fn readers_who_keep_coming_do_not_keep_a_hung_run_alive_beyond_its_deadline() {
    let origin = Origin::new();
    let service = layer().freshness(LONG_TOO_STALE).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Hang);
    pass(secs(25)).await;
    let mut readers = JoinSet::new();
    for _ in 0..15 {
        readers.spawn(ask(&service, "k"));
        pass(secs(5)).await;
    }
    assert_eq!(origin.under_way(), 0, "75 s after its start the hung run is over");
    assert_eq!(at_once(ask(&service, "k")).await, Ok(3), "and another one was or is made");
}

#[tokio::test(start_paused = true)] // P13
async fn nor_do_readers_with_a_soft_timeout() {
    let origin = Origin::new();
    let service = layer().freshness(LONG_TOO_STALE).soft_timeout(secs(6)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::Hang);
    pass(secs(25)).await;
    let mut readers = JoinSet::new();
    for _ in 0..15 {
        readers.spawn(ask(&service, "k"));
        pass(secs(5)).await;
    }
    assert_eq!(origin.under_way(), 0);
}

#[tokio::test(start_paused = true)] // P13
async fn a_leader_left_with_nothing_to_fall_back_on_waits_as_long_as_without_the_layer() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(LONG_TOO_STALE);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.next_time(Act::AnswerAfter(gate.clone()));
    pass(secs(25)).await;
    let mut leader = crowd(&service, "k", 1).await;
    layer.cache().purge(Key::from("k")).await.unwrap();
    pass(secs(300)).await;
    assert!(leader.try_join_next().is_none());
    gate.open();
    assert_eq!(answers(leader).await, [2]);
}

// ---- waiting ----

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)] // P14
async fn one_who_waits_is_woken_by_the_landing_and_by_nothing_else() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().wait_timeout(secs(60)).layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    let leader = crowd(&service, "k", 1).await;
    let (alarm, mut follower) = (Arc::new(Alarm::default()), pin!(ask(&service, "k")));
    let waker = Waker::from(Arc::clone(&alarm));
    assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    for _ in 0..50 {
        pass(secs(1)).await;
        // Others come, go, and end elsewhere.
        drop(crowd(&service, "k", 3).await);
    }
    assert_eq!(alarm.0.load(SeqCst), 0);
    gate.open();
    assert_eq!(answers(leader).await, [1]);
    assert_eq!(alarm.0.load(SeqCst), 1);
    assert_eq!(follower.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(1)));
}

#[tokio::test(start_paused = true)] // P14
async fn ten_thousand_may_wait() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.always(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 10_000).await;
    gate.open();
    assert_eq!(answers(waiting).await, [1; 10_000]);
}

// ---- what others may have ----

#[tokio::test(start_paused = true)] // P15
async fn the_followers_of_a_personal_response_are_forwarded_all_at_once() {
    let unmarked: [(&str, Respond); 3] = [
        ("401", |run| (StatusCode::UNAUTHORIZED, run.to_string()).into_response()),
        ("404 with a cookie", |run| (StatusCode::NOT_FOUND, [("set-cookie", "a=b")], run.to_string()).into_response()),
        ("500, private", |run| {
            (StatusCode::INTERNAL_SERVER_ERROR, [("cache-control", "private")], run.to_string()).into_response()
        }),
    ];
    for (what, respond) in personal().into_iter().chain(unmarked) {
        let (origin, gate) = (Origin::new(), Gate::new());
        let together = Arc::new(Barrier::new(100));
        let app = app_with(&origin, CachebackLayer::new(TENS).body_cap(1_000), move |run| {
            let together = Arc::clone(&together);
            async move {
                if run > 1 {
                    together.wait().await;
                }
                respond(run)
            }
        });
        origin.next_time(Act::AnswerAfter(gate.clone()));
        let leader = readers(&app, 1).await;
        let followers = readers(&app, 100).await;
        assert_eq!(origin.runs(), 1, "{what}: nobody knows yet");
        gate.open();
        let mut runs: Vec<_> = at_once(followers.join_all()).await.iter().map(run_of).collect();
        runs.sort_unstable();
        assert_eq!(runs, (2..=101).collect::<Vec<_>>(), "{what}: each has its own");
        let led = leader.join_all().await;
        assert_eq!(run_of(&led[0]), 1, "{what}");
        assert!(!led[0].outcome.is_stored());
    }
}

#[tokio::test(start_paused = true)] // P15
async fn after_a_personal_response_requests_do_not_wait_for_one_another_for_120_s() {
    for (what, respond) in personal() {
        let origin = Origin::new();
        let app = app_with(&origin, CachebackLayer::new(TENS).body_cap(1_000), move |run| async move { respond(run) });
        get(&app, "/").await;
        origin.always(Act::Hang);
        pass(secs(110)).await;
        let hung = readers(&app, 10).await;
        assert_eq!(origin.under_way(), 10, "{what}: marked");
        drop(hung);
        pass(secs(10)).await;
        let runs = origin.runs();
        let _hung = readers(&app, 10).await;
        assert_eq!(origin.runs(), runs + 1, "{what}: the mark is over");
    }
}

#[tokio::test(start_paused = true)] // P4, P15
async fn a_mark_may_have_no_end() {
    let origin = Origin::new();
    let layer = CachebackLayer::new(TENS).hit_for_miss(Duration::MAX);
    let app = app_with(&origin, layer, |_| async { ([(header::SET_COOKIE, "a=b")], "personal").into_response() });
    for _ in 0..2 {
        assert_eq!(get(&app, "/").await.outcome.detail(), Some(Detail::SetCookie));
    }
    pass(secs(1 << 29)).await;
    origin.always(Act::Hang);
    let _hung = readers(&app, 10).await;
    assert_eq!(origin.under_way(), 10, "nobody waits for another");
}

#[tokio::test(start_paused = true)] // P15
async fn a_storable_response_lifts_the_mark() {
    let origin = Origin::new();
    let app = app(&origin, |run| match run {
        1 => ([(header::SET_COOKIE, "a=b")], "1").into_response(),
        _ => run.to_string().into_response(),
    });
    get(&app, "/").await;
    assert!(get(&app, "/").await.outcome.is_stored(), "one who did not wait stores as well");
    assert_eq!(get(&app, "/").await.text, "2");
    pass(secs(40)).await;
    origin.always(Act::Hang);
    let _hung = readers(&app, 10).await;
    assert_eq!(origin.under_way(), 1);
}

#[tokio::test(start_paused = true)] // P15
async fn what_is_shareable_is_given_to_all_who_wait_and_neither_stored_nor_marked() {
    for status in [302, 303, 307, 400, 403, 404, 410, 418, 429, 500, 502, 503, 504] {
        let (origin, gate) = (Origin::new(), Gate::new());
        let status = StatusCode::from_u16(status).unwrap();
        let app = app(&origin, move |run| (status, run.to_string()).into_response());
        origin.next_time(Act::AnswerAfter(gate.clone()));
        let waiting = readers(&app, 100).await;
        gate.open();
        for seen in at_once(waiting.join_all()).await {
            assert_eq!((seen.status, seen.text.as_str()), (status, "1"));
            assert!(!seen.outcome.is_stored());
        }
        assert_eq!(get(&app, "/").await.text, "2", "{status} is not stored");
        assert_not_marked(&origin, &app, status.as_str()).await;
    }
}

#[tokio::test(start_paused = true)] // P15
async fn neither_a_status_nor_an_error_of_the_body_nor_a_bypass_sets_a_mark() {
    type Fixed = fn() -> Response;
    let statuses: [(&str, Fixed); 8] = [
        ("401", || StatusCode::UNAUTHORIZED.into_response()),
        ("407", || StatusCode::PROXY_AUTHENTICATION_REQUIRED.into_response()),
        ("403 with a cookie", || (StatusCode::FORBIDDEN, [(header::SET_COOKIE, "a=b")]).into_response()),
        ("404, private", || (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "private")]).into_response()),
        ("429, no-store", || (StatusCode::TOO_MANY_REQUESTS, [(header::CACHE_CONTROL, "no-store")]).into_response()),
        ("500 with a cookie", || (StatusCode::INTERNAL_SERVER_ERROR, [(header::SET_COOKIE, "a=b")]).into_response()),
        ("404 with a large body", || (StatusCode::NOT_FOUND, vec![0; 2_000]).into_response()),
        ("206", || (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 0-0/9")], "1").into_response()),
    ];
    for (what, respond) in statuses {
        let origin = Origin::new();
        let app = app_with(&origin, CachebackLayer::new(TENS).body_cap(1_000), move |_| async move { respond() });
        get(&app, "/").await;
        assert_not_marked(&origin, &app, what).await;
    }

    let origin = Origin::new();
    let app = app(&origin, |_| ([(header::SET_COOKIE, "a=b")], "1").into_response());
    for (name, value) in [("authorization", "x"), ("cookie", "a=b"), ("range", "bytes=0-1"), ("x-api-key", "x")] {
        let mut bypass = request(Method::GET, "/");
        bypass.headers_mut().insert(name, value.parse().unwrap());
        let looked_up = name == "range";
        assert_eq!(send(&app, bypass).await.outcome.status() == CacheStatus::Bypass, !looked_up);
    }
    assert_not_marked(&origin, &app, "bypasses").await;
}

#[tokio::test(start_paused = true)] // P15
async fn an_error_status_whose_body_turns_out_too_large_or_too_slow_sets_no_mark() {
    for slow in [false, true] {
        let (origin, gate) = (Origin::new(), Gate::new());
        let body = move || chunks(vec![vec![b'1'; 400]; if slow { 2 } else { 3 }], !slow);
        let layer = CachebackLayer::new(TENS).body_cap(1_000);
        let app = app_with(&origin, layer, move |_| async move { (StatusCode::NOT_FOUND, body()).into_response() });
        origin.next_time(Act::AnswerAfter(gate.clone()));
        // Somebody follows, so that the body is read for more than the leader.
        let mut waiting = JoinSet::new();
        for _ in 0..2 {
            waiting.spawn(app.clone().oneshot(request(Method::GET, "/")));
        }
        idle().await;
        gate.open();
        idle().await;
        pass(secs(6)).await;
        assert_eq!(origin.runs(), 2, "the follower has a run of its own");
        drop(waiting);
        idle().await;
        assert_not_marked(&origin, &app, if slow { "slow" } else { "large" }).await;
    }
}

#[tokio::test(start_paused = true)] // P15, P53
async fn an_error_and_a_deadline_set_no_mark() {
    let origin = Origin::new();
    let service = layer().freshness(TENS).refresh_timeout(secs(5)).layer(origin.service());
    origin.next_time(Act::Fail);
    assert_eq!(ask(&service, "k").await, Err(Down(1)));
    origin.always(Act::Hang);
    drop(crowd(&service, "k", 1).await);
    pass(secs(5)).await;
    assert_eq!(origin.under_way(), 0);
    let _hung = crowd(&service, "k", 10).await;
    assert_eq!(origin.under_way(), 1);
}

// ---- errors ----

#[tokio::test(start_paused = true)] // P16
async fn after_an_error_the_followers_are_released_together_though_it_cannot_be_cloned() {
    let (origin, gate, second) = (Origin::new(), Gate::new(), Gate::new());
    let service = layer().layer(origin.service());
    origin.next_time(Act::FailAfter(gate.clone())).always(Act::AnswerAfter(second.clone()));
    let mut leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 100).await;
    gate.open();
    assert_eq!(leader.join_next().await.unwrap().unwrap(), Err(Down(1)));
    idle().await;
    assert_eq!(origin.under_way(), 100, "all at once, as without the layer");
    second.open();
    let mut answers = answers(followers).await;
    answers.sort_unstable();
    assert_eq!(answers, (2..=101).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)] // P16
async fn shared_errors_are_given_to_all_who_wait() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = ServiceBuilder::new()
        .layer(layer().share_errors::<Arc<Down>>())
        .map_err(|error: Down| Arc::new(error))
        .service(origin.service());
    origin.next_time(Act::FailAfter(gate.clone()));
    let waiting = crowd(&service, "k", 100).await;
    gate.open();
    for answer in at_once(waiting.join_all()).await {
        assert_eq!(*answer.unwrap_err(), Down(1));
    }
    assert_eq!(origin.runs(), 1);
    assert_eq!(ask(&service, "k").await.unwrap(), 2, "nothing of it stays");
}

#[tokio::test(start_paused = true)] // P16
async fn an_error_of_another_type_than_the_shared_one_is_not_shared() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = layer().share_errors::<String>().layer(origin.service());
    origin.next_time(Act::FailAfter(gate.clone()));
    let mut leader = crowd(&service, "k", 1).await;
    let followers = crowd(&service, "k", 10).await;
    gate.open();
    assert_eq!(leader.join_next().await.unwrap().unwrap(), Err(Down(1)));
    assert_eq!(answers(followers).await.len(), 10);
    assert!(origin.runs() > 1);
}

#[tokio::test(start_paused = true)] // P16
async fn an_error_with_a_stale_response_at_hand_is_shared_with_nobody() {
    let origin = Origin::new();
    let service = ServiceBuilder::new()
        .layer(layer().freshness(TENS).share_errors::<Arc<Down>>())
        .map_err(|error: Down| Arc::new(error))
        .service(origin.service());
    assert_eq!(ask(&service, "k").await.unwrap(), 1);
    origin.always(Act::Fail);
    pass(secs(25)).await;
    assert_eq!(answers(crowd(&service, "k", 10).await).await, [1; 10]);
}

// ---- requests without a key ----

#[tokio::test(start_paused = true)] // P17
async fn a_request_without_a_key_is_neither_looked_up_nor_stored_nor_collapsed() {
    let without_key = CachebackLayer::new(TENS).key_by(|_| None);
    let left_out = CachebackLayer::new(TENS).when(|request| request.uri.path() != "/");
    for (layer, detail) in [(without_key, Detail::NoKey), (left_out, Detail::Excluded)] {
        let (origin, together) = (Origin::new(), Arc::new(Barrier::new(10)));
        let app = app_with(&origin, layer, move |run| {
            let together = Arc::clone(&together);
            async move {
                together.wait().await;
                run.to_string().into_response()
            }
        });
        for _ in 0..2 {
            for seen in at_once(readers(&app, 10).await.join_all()).await {
                assert_eq!(seen.outcome.status(), CacheStatus::Bypass);
                assert_eq!(seen.outcome.detail(), Some(detail));
                assert!(!seen.outcome.is_stored());
            }
        }
        assert_eq!(origin.runs(), 20);
    }
}

#[tokio::test(start_paused = true)] // P17
async fn a_request_whose_authority_cannot_be_told_is_neither_looked_up_nor_stored() {
    let origin = Origin::new();
    let app = app(&origin, |run| run.to_string().into_response());
    let odd = |uri: &str, hosts: &[&str]| {
        let mut odd = request(Method::GET, uri);
        for host in hosts {
            odd.headers_mut().append(header::HOST, host.parse().unwrap());
        }
        odd
    };
    for (uri, hosts) in [
        ("/", &["a.example", "b.example"][..]),
        ("/", &["a.example", "a.example"]),
        ("http://a.example/", &["b.example"]),
        ("/", &["a.example/b"]),
        ("/", &["a@b.example"]),
    ] {
        let runs = origin.runs();
        for run in [runs + 1, runs + 2] {
            let seen = send(&app, odd(uri, hosts)).await;
            assert_eq!((seen.text, seen.outcome.status()), (run.to_string(), CacheStatus::Bypass), "{uri} {hosts:?}");
            assert_eq!(seen.outcome.detail(), Some(Detail::Authority));
        }
    }
}

// ---- routes ----

/// Makes the response of a run.
type Respond = fn(u64) -> Response;

/// Responses that nobody but their reader may have. Each is the number of its run.
fn personal() -> [(&'static str, Respond); 8] {
    [
        ("set-cookie", |run| ([("set-cookie", "a=b")], run.to_string()).into_response()),
        ("private", |run| ([("cache-control", "private")], run.to_string()).into_response()),
        ("no-store", |run| ([("cache-control", "no-store")], run.to_string()).into_response()),
        ("vary: *", |run| ([("vary", "*")], run.to_string()).into_response()),
        ("no-store by the handler", |run| (axum::Extension(NoStore), run.to_string()).into_response()),
        ("redirect with a cookie", |run| (StatusCode::FOUND, [("set-cookie", "a=b")], run.to_string()).into_response()),
        ("over the cap", |run| format!("{run:01001}").into_response()),
        ("over the cap, of unknown length", |run| chunks([format!("{run:01001}").into_bytes()], true).into_response()),
    ]
}

fn run_of(seen: &Seen) -> u64 {
    seen.text.parse().unwrap()
}

/// Concurrent requests share a run: nothing keeps them from waiting for one another.
async fn assert_not_marked(origin: &Origin, app: &Router, what: &str) {
    origin.always(Act::Hang);
    let runs = origin.runs();
    let _hung = readers(app, 10).await;
    assert_eq!(origin.runs(), runs + 1, "{what} set a mark");
}

/// GETs that wait at the same time.
async fn readers(app: &Router, size: usize) -> JoinSet<Seen> {
    let mut readers = JoinSet::new();
    for _ in 0..size {
        readers.spawn(get(app, "/"));
    }
    idle().await;
    readers
}

/// One route over an origin that gives each run its number.
fn app(origin: &Origin, respond: impl Fn(u64) -> Response + Clone + Send + Sync + 'static) -> Router {
    app_with(origin, CachebackLayer::new(TENS), move |run| std::future::ready(respond(run)))
}

fn app_with<F>(
    origin: &Origin,
    layer: CachebackLayer,
    respond: impl Fn(u64) -> F + Clone + Send + Sync + 'static,
) -> Router
where
    F: Future<Output = Response> + Send,
{
    let origin = origin.service();
    let handler = || async move {
        match origin.oneshot(Get("/")).await {
            Ok(run) => respond(run).await,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    };
    Router::new().route("/", routing::get(handler)).layer(layer)
}
