//! Attacks on the engine through typed layers.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cacheback::{Cache, CachebackLayer, Freshness, Key, Scope};
use futures_now::poll_once;
use tower::{Layer, Service, ServiceExt, service_fn};

mod support;
use support::typed::{Act, Get, Origin, ask, at_once, crowd, layer, pass, secs};

mod futures_now {
    #![allow(unreachable_pub)]
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };
    /// One poll, by nobody who could be woken.
    pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}

/// P13: a run that is never out of work is aborted at its deadline as well.
#[tokio::test(start_paused = true)]
async fn a_busy_run_ends_at_its_deadline() {
    let runs = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    struct End(Arc<AtomicUsize>);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (runs_, ended_) = (Arc::clone(&runs), Arc::clone(&ended));
    let service = service_fn(move |_: Get| {
        let (run, end) = (runs_.fetch_add(1, SeqCst) + 1, End(Arc::clone(&ended_)));
        async move {
            let _end = end;
            while run == 2 {
                // Something that is always ready, as a channel that is never empty.
                tokio::task::consume_budget().await;
            }
            Ok::<_, Infallible>(run as u64)
        }
    });
    let layer = layer().freshness(secs(10));
    let service = layer.layer(service);
    assert_eq!(ask(&service, "k").await, Ok(1));
    tokio::time::advance(secs(11)).await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(runs.load(SeqCst), 2);
    tokio::time::advance(secs(61)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ended.load(SeqCst), 2, "61 s after its start the busy run is over");
}

/// A weight that is too large to add to is too heavy, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_weight_without_end_is_only_too_heavy() {
    let origin = Origin::new();
    let service = layer().weigh(|_| usize::MAX).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(ask(&service, "k").await, Ok(2));
}

#[test]
fn memory_without_end_is_no_panic() {
    let layer = layer().over_cache(&Cache::builder().memory(usize::MAX).build_for());
    let origin = Origin::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let service = layer.layer(origin.service());
    assert_eq!(runtime.block_on(ask(&service, "k")), Ok(1));
    assert_eq!(runtime.block_on(ask(&service, "k")), Ok(1));
}

/// P27: a runtime without a timer.
#[test]
fn a_runtime_without_time_never_panics_cold() {
    timeless(|_| ());
}

#[test]
#[ignore = "open: timers panic"]
fn a_runtime_without_time_never_panics_stale() {
    timeless(|layer| drop(futures_ready(layer.cache().expire(Key::from("k")))));
}

fn futures_ready<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn timeless(between: impl Fn(&support::typed::TypedLayer)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let origin = Origin::new();
    for swr in [secs(10), Duration::ZERO] {
        let layer = layer().freshness(Freshness::new(secs(1_000)).stale_while_revalidate(swr));
        let service = layer.layer(origin.service());
        let before = origin.runs();
        let handle = runtime.spawn({
            let service = service.clone();
            async move { ask(&service, "k").await.unwrap() }
        });
        assert_eq!(runtime.block_on(handle).ok(), Some(before + 1));
        between(&layer);
        let handle = runtime.spawn(ask(&service, "k"));
        assert!(runtime.block_on(handle).is_ok(), "no panic");
        runtime.block_on(async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
    }
}

/// P22: a run that meets its deadline has failed, whether or not a permit is free at that moment.
#[tokio::test(start_paused = true)]
async fn a_deadline_backs_off_without_a_permit() {
    let origin = Origin::new();
    let freshness = Freshness::new(secs(10)).stale_while_revalidate(Duration::ZERO).stale_if_error(secs(86_400));
    let cache = Cache::builder().max_refreshes(0).build_for();
    let layer = layer().over_cache(&cache).freshness(freshness).refresh_timeout(secs(30));
    let mut service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    tokio::time::advance(secs(25)).await;
    // The reader's task goes on first; the run's own is late by a millisecond.
    let mut reader = service.call(Get("k"));
    assert!(poll_once(&mut reader).is_pending());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(reader.await, Ok(1), "at the deadline");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(origin.under_way(), 0);
    let runs = origin.runs();
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1), "in back-off");
    assert_eq!(origin.runs(), runs);
}

/// P13: a background run on a runtime that stands still pins its key.
#[test]
fn a_runtime_that_stands_still_pins_no_key() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (idle, busy) = (runtime(), runtime());
    let origin = Origin::new();
    let layer = layer().freshness(Freshness::new(secs(1_000)));
    let service = layer.layer(origin.service());
    assert_eq!(idle.block_on(ask(&service, "k")), Ok(1));
    idle.block_on(layer.cache().expire(Key::from("k"))).unwrap();
    assert_eq!(idle.block_on(ask(&service, "k")), Ok(1), "its refresh is spawned, and not polled");
    busy.block_on(async {
        for _ in 0..20 {
            pass(secs(20)).await;
            let _stale = ask(&service, "k").await;
        }
        pass(secs(1)).await;
    });
    assert_eq!(origin.runs(), 2, "long after the deadline the key is free");
}

#[test]
fn a_query_right_after_the_authority_is_not_part_of_it() {
    assert!(Scope::uri("https://example.org?q=1").is_err());
    assert!(Scope::path("https://example.org?q=/x").is_err());
}

/// P24: a run that is cancelled for want of a permit is no refresh that was dropped.
#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_drops_no_refresh() {
    let origin = Origin::that(Act::Hang);
    let cache = Cache::builder().max_refreshes(0).build_for();
    let service = layer().over_cache(&cache).layer(origin.service());
    let mut leader = crowd(&service, "k", 1).await;
    leader.shutdown().await;
    pass(secs(1)).await;
    assert_eq!(origin.under_way(), 0);
    assert_eq!(cache.stats().refreshes_dropped, 0, "there was no refresh");
}

/// A typed response whose clone panics is a panic of the service for the one who reads it, and nobody hangs.
#[tokio::test(start_paused = true)]
async fn a_clone_that_panics_hangs_nobody() {
    #[derive(Debug)]
    struct Bomb(Arc<AtomicUsize>);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            assert!(self.0.fetch_add(1, SeqCst) > 1, "a clone panics");
            Self(Arc::clone(&self.0))
        }
    }
    let clones = Arc::new(AtomicUsize::new(0));
    let layer = CachebackLayer::typed::<Get, Bomb>(|get| Key::from(get.0));
    let count = Arc::clone(&clones);
    let service = layer.layer(service_fn(move |_: Get| {
        let bomb = Bomb(Arc::clone(&count));
        async move {
            tokio::time::sleep(secs(1)).await;
            Ok::<_, Infallible>(bomb)
        }
    }));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..5 {
        all.spawn(service.clone().oneshot(Get("k")));
    }
    let mut panics = 0;
    while let Some(one) = tokio::time::timeout(secs(30), all.join_next()).await.expect("nobody hangs") {
        panics += usize::from(one.is_err());
    }
    assert!(panics <= 2, "{panics}");
    layer.cache().settled().await;
}

/// Destructors of user values run outside all locks: they may invalidate.
#[test]
fn a_destructor_may_use_the_cache() {
    struct Value(#[allow(dead_code)] u64, Option<Cache<Arc<Value>>>);
    impl Drop for Value {
        fn drop(&mut self) {
            if let Some(cache) = &self.1 {
                let cache = cache.clone();
                let mut purge = Box::pin(async move { cache.purge(Scope::everything()).await });
                assert!(poll_once(&mut purge).is_ready());
            }
        }
    }
    let cache: Cache<Arc<Value>> = Cache::builder().memory(1 << 20).build_for();
    let layer = CachebackLayer::typed::<u64, Arc<Value>>(|n| Key::from(n.to_string()))
        .over_cache(&cache)
        .freshness(Freshness::exact(secs(1_000)))
        .weigh(|_| 100_000);
    let inner = cache.clone();
    let service = layer.layer(service_fn(move |n: u64| {
        let value = Arc::new(Value(n, Some(inner.clone())));
        async move { Ok::<_, Infallible>(value) }
    }));
    // Each destructor runs on a plain thread's runtime of its own, hence outside of one.
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        for n in 0..100 {
            let service = service.clone();
            let value = runtime.block_on(async move { service.oneshot(n).await.unwrap() });
            std::thread::spawn(move || drop(value)).join().unwrap();
        }
        done.send(()).unwrap();
        std::mem::forget(runtime);
    });
    let _ = finished.recv_timeout(Duration::from_secs(20)).expect("no deadlock");
}
