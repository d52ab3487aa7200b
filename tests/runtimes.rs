//! A runtime may have no timer, and may be gone before its tasks are done: the cache serves on.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which may spawn")]

mod support;

use std::{
    pin::pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use cacheback::{CachebackLayer, Freshness, Key, Placeholder};
use support::{
    http as web,
    net::scripted,
    typed::{Act, Down, Gate, Get, Origin, TypedLayer, ask, layer, secs},
};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt};

/// A runtime without time.
fn timeless() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Lets all tasks that can go on go on.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A layer whose entries are too stale once they are expired.
fn too_stale() -> TypedLayer {
    layer().freshness(Freshness::exact(secs(1_000)).stale_if_error(secs(1_000)))
}

#[test] // P27
fn without_time_misses_hits_and_refreshes_go_on() {
    let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)));
    let service = layer.layer(origin.service());
    timeless().block_on(async {
        assert_eq!(ask(&service, "k").await, Ok(1));
        assert_eq!(ask(&service, "k").await, Ok(1));
        layer.cache().expire(Key::from("k")).await.unwrap();
        assert_eq!(ask(&service, "k").await, Ok(1), "stale at once");
        settle().await;
        assert_eq!(ask(&service, "k").await, Ok(2), "and refreshed");
        layer.cache().settled().await;
    });
}

#[test] // P27
fn without_time_readers_of_too_stale_responses_wait_and_fall_back() {
    let (origin, layer) = (Origin::new(), too_stale());
    let service = layer.layer(origin.service());
    timeless().block_on(async {
        ask(&service, "k").await.unwrap();
        layer.cache().expire(Key::from("k")).await.unwrap();
        origin.next_time(Act::Fail);
        assert_eq!(ask(&service, "k").await, Ok(1), "in place of the error");
        layer.cache().purge(Key::from("k")).await.unwrap();
        let gate = Gate::new();
        origin.next_time(Act::AnswerAfter(gate.clone()));
        let (leader, follower) = (tokio::spawn(ask(&service, "k")), tokio::spawn(ask(&service, "k")));
        settle().await;
        gate.open();
        assert_eq!((leader.await.unwrap(), follower.await.unwrap()), (Ok(3), Ok(3)));
        assert_eq!(service.refresh(Get("k")).await, Ok(4));
    });
}

#[test] // P27
fn without_time_a_body_that_takes_its_time_is_stored() {
    timeless().block_on(async {
        let bodies = std::sync::Mutex::new(None);
        let (script, body) = scripted();
        *bodies.lock().unwrap() = Some(body);
        let origin = web::Origin::new(move |_| axum::body::Body::new(bodies.lock().unwrap().take().unwrap()));
        let app = origin.behind(CachebackLayer::new(secs(60)));
        let mut script = script;
        let first = tokio::spawn({
            let app = app.clone();
            async move { web::get(&app, "/").await }
        });
        settle().await;
        script.data("slow");
        settle().await;
        script.end();
        assert_eq!(first.await.unwrap().text(), "slow");
        assert_eq!(web::get(&app, "/").await.text(), "slow");
    });
}

#[test] // P27
fn without_time_a_drain_waits_for_as_long_as_it_takes() {
    let (origin, layer, gate) = (Origin::new(), layer().freshness(secs(1_000)), Gate::new());
    let service = layer.layer(origin.service());
    timeless().block_on(async {
        ask(&service, "k").await.unwrap();
        layer.cache().expire(Key::from("k")).await.unwrap();
        origin.next_time(Act::AnswerAfter(gate.clone()));
        ask(&service, "k").await.unwrap();
        settle().await;
        let draining = tokio::spawn({
            let cache = layer.cache().clone();
            async move { cache.drain(Duration::ZERO).await }
        });
        settle().await;
        assert!(!draining.is_finished());
        gate.open();
        assert!(draining.await.unwrap());
    });
}

#[test] // P27 P68
fn without_time_an_audit_goes_on_and_outside_of_any_runtime_there_is_none() {
    let layer = CachebackLayer::new(secs(1_000)).audit_with(1, axum::body::Body::empty);
    let origin = web::Origin::new(|seen| format!("dnt {}", seen.field("dnt")));
    let app = origin.behind(layer.clone());
    timeless().block_on(web::get(&app, "/"));
    let outside = pin!(web::get(&app, "/")).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(hit) = outside else { panic!("a hit waits for nothing") };
    assert_eq!((hit.text(), origin.runs(), layer.cache().stats().runs), ("dnt ", 1, 0));
    timeless().block_on(async {
        web::get(&app, "/").await;
        layer.cache().settled().await;
    });
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[test] // P27
fn a_runtime_with_time_is_known_after_one_without_on_the_same_thread() {
    let (origin, layer) = (Origin::new(), too_stale().soft_timeout(secs(1)));
    let service = layer.layer(origin.service());
    let timed = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    timeless().block_on(ask(&service, "k")).unwrap();
    timeless().block_on(layer.cache().expire(Key::from("k"))).unwrap();
    for _ in 0..2 {
        // A timer is needed here: without one the reader would wait for ever.
        origin.next_time(Act::Hang);
        assert_eq!(timed().block_on(ask(&service, "k")), Ok(1));
        // And none is made here.
        origin.next_time(Act::Fail);
        assert_eq!(timeless().block_on(ask(&service, "other")), Err(Down(origin.runs())));
    }
}

#[test] // P27
fn one_who_waits_on_another_runtime_than_the_one_that_is_gone_gets_on() {
    let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)));
    let service = layer.layer(origin.service());
    let runtime = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (still, gone, stays) = (runtime(), runtime(), runtime());
    let mut cx = Context::from_waker(Waker::noop());
    let mut leader = Box::pin(ask(&service, "k"));
    {
        // Its run waits for a runtime that stands still.
        let _still = still.enter();
        assert!(leader.as_mut().poll(&mut cx).is_pending());
    }
    let mut follower = Box::pin(ask(&service, "k"));
    gone.block_on(async { assert!(tokio::time::timeout(secs(1), &mut follower).await.is_err()) });
    drop(gone);
    assert_eq!(stays.block_on(follower), Ok(1), "its timer is gone: its patience is over, and it leads");
}

#[test] // P27
fn a_runtime_that_is_gone_takes_its_runs_with_it_and_frees_their_keys() {
    let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)));
    let service = layer.layer(origin.service());
    let runtime = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    first.block_on(ask(&service, "k")).unwrap();
    second.block_on(layer.cache().expire(Key::from("k"))).unwrap();
    for key in ["k", "cold"] {
        origin.next_time(Act::Hang);
        first.block_on(async {
            let mut answer = pin!(ask(&service, key));
            let _stale_or_none = tokio::time::timeout(secs(1), &mut answer).await;
        });
    }
    assert!(layer.cache().stats().runs > 0);
    drop(first);
    assert_eq!((layer.cache().stats().runs, layer.cache().stats().refreshes, origin.under_way()), (0, 0, 0));
    second.block_on(async {
        assert_eq!(ask(&service, "cold").await, Ok(4));
        assert_eq!(ask(&service, "k").await, Ok(1), "stale as before");
        settle().await;
        assert_eq!(ask(&service, "k").await, Ok(5), "and refreshed");
        layer.cache().settled().await;
    });
}

#[test] // P27
fn a_runtime_that_is_gone_has_let_go_of_a_request_by_the_time_somebody_else_leads() {
    /// What of a request is still there when one who waits is woken.
    struct Woken(Weak<()>, OnceLock<usize>);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.1.get_or_init(|| self.0.strong_count());
        }
    }
    let (gone, held) = (timeless(), Arc::new(()));
    let woken = Arc::new(Woken(Arc::downgrade(&held), OnceLock::new()));
    let app = web::Origin::new(|_| String::new()).behind(CachebackLayer::new(secs(60)));
    let request = || axum::http::Request::new(axum::body::Body::empty());
    let mut led = request();
    led.extensions_mut().insert(held);
    let (mut leader, mut follower) = (Box::pin(app.clone().oneshot(led)), Box::pin(app.oneshot(request())));
    {
        // Its run waits for a runtime that stands still.
        let _gone = gone.enter();
        assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(follower.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))).is_pending());
    }
    drop(gone);
    assert_eq!(woken.1.get(), Some(&0));
}

// ---- a runtime for what nobody waits for ----

#[test] // P27 P82
fn what_nobody_waits_for_runs_on_the_runtime_that_was_named_and_what_somebody_waits_for_on_his_own() {
    let (own, behind) = (timeless(), timeless());
    let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)).spawn_on(behind.handle().clone()));
    let service = layer.layer(origin.service());
    let standing_in = layer.clone().on_miss(Placeholder(0)).layer(origin.service());
    let read = |service: &_, key| {
        own.block_on(async {
            let answer = tokio::select! {
                answer = ask(service, key) => answer,
                () = settle() => panic!("{key}: what it waits for does not run here"),
            };
            settle().await;
            answer
        })
    };
    assert_eq!(read(&service, "k"), Ok(1), "a miss is waited for");
    own.block_on(layer.cache().expire(Key::from("k"))).unwrap();
    assert_eq!((read(&service, "k"), read(&service, "k"), origin.runs()), (Ok(1), Ok(1), 1));
    behind.block_on(layer.cache().settled());
    assert_eq!((read(&service, "k"), origin.runs()), (Ok(2), 2));
    assert_eq!((read(&standing_in, "cold"), origin.runs()), (Ok(0), 2));
    behind.block_on(layer.cache().settled());
    assert_eq!((read(&standing_in, "cold"), origin.runs()), (Ok(3), 3));
    assert_eq!(own.block_on(service.refresh(Get("k"))), Ok(4), "what is asked for by hand is waited for");
}

#[test] // P27 P82
fn with_a_runtime_of_their_own_refreshes_need_none_of_their_readers() {
    let behind = timeless();
    let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)).spawn_on(behind.handle().clone()));
    let service = layer.layer(origin.service());
    let standing_in = layer.clone().on_miss(Placeholder(0)).layer(origin.service());
    let at_once = |service: &_, key| pin!(ask(service, key)).poll(&mut Context::from_waker(Waker::noop()));
    let plan = || {
        let Poll::Ready(explained) = pin!(layer.explain(Get("k"))).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("an explanation waits for nothing")
        };
        explained.to_string()
    };
    timeless().block_on(ask(&service, "k")).unwrap();
    timeless().block_on(layer.cache().expire(Key::from("k"))).unwrap();
    assert!(plan().ends_with("plan=refresh"), "{}", plan());
    assert_eq!(at_once(&service, "k"), Poll::Ready(Ok(1)));
    assert!(plan().ends_with("plan=nothing"), "{}", plan());
    assert_eq!(at_once(&standing_in, "cold"), Poll::Ready(Ok(0)));
    assert_eq!(at_once(&service, "forward"), Poll::Ready(Ok(2)), "a miss needs one all the same");
    behind.block_on(layer.cache().settled());
    let both = [at_once(&service, "k"), at_once(&standing_in, "cold")];
    assert!(both.iter().all(|answer| matches!(answer, Poll::Ready(Ok(3 | 4)))), "{both:?}");
}

#[test] // P27
fn refreshes_are_lost_with_their_runtime_and_those_that_come_after_go_on_with_their_readers() {
    let own = timeless();
    for when in ["never began", "hung", "was gone"] {
        let behind = timeless();
        let (origin, layer) = (Origin::new(), layer().freshness(secs(1_000)).spawn_on(behind.handle().clone()));
        let service = layer.layer(origin.service());
        own.block_on(ask(&service, "k")).unwrap();
        own.block_on(layer.cache().expire(Key::from("k"))).unwrap();
        if when != "was gone" {
            assert_eq!(own.block_on(ask(&service, "k")), Ok(1), "{when}");
            assert_eq!(layer.cache().stats().refreshes, 1, "{when}");
        }
        if when == "hung" {
            origin.next_time(Act::Hang);
            behind.block_on(settle());
            assert_eq!(origin.under_way(), 1);
        }
        drop(behind);
        if when != "never began" {
            // This one shows that the runtime is gone.
            assert_eq!(own.block_on(ask(&service, "k")), Ok(1), "{when}");
        }
        let stats = layer.cache().stats();
        assert_eq!((stats.runs, stats.refreshes, stats.refreshes_dropped, origin.under_way()), (0, 0, 0, 0), "{when}");
        let runs = origin.runs();
        assert_eq!(own.block_on(ask(&service, "k")), Ok(1), "{when}: at once, all the same");
        own.block_on(layer.cache().settled());
        assert_eq!(own.block_on(ask(&service, "k")), Ok(runs + 1), "{when}: its key is free, and it is refreshed");
        assert!(own.block_on(layer.cache().drain(Duration::ZERO)), "{when}");
    }
}

#[test] // P27, P82
fn a_placeholder_is_filled_in_behind_though_the_runtime_for_that_is_gone() {
    let (own, behind) = (timeless(), timeless());
    let layer = layer().spawn_on(behind.handle().clone()).on_miss(Placeholder(0));
    let service = layer.layer(Origin::new());
    drop(behind);
    for answer in [0, 0, 1] {
        assert_eq!(own.block_on(ask(&service, "k")), Ok(answer));
        own.block_on(layer.cache().settled());
    }
}
