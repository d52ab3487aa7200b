//! Any service: what a typed layer stores, for how long, under which key; what it does with errors; and an async function
//! as a service.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which may spawn")]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use cacheback::{
    Cache, CacheStatus, CachebackLayer, CachedFunction, Detail, ErrorKind, Freshness, Key, Outcome, Plan, Reached,
    Tags, Typed,
};
use support::typed::{
    Act, Down, Gate, Get, Origin, TypedLayer, answers, ask, at_once, crowd, idle, layer, pass, read, secs,
};
use tokio::sync::Barrier;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// Fresh for 10 s, stale at once for 10 more, kept for 10 more should the service fail.
const WINDOWS: Freshness = Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20));

/// What happened to each request in turn.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<Outcome>>>);

impl Said {
    fn hear<Req, Res>(&self, layer: CachebackLayer<Typed<Req, Res>>) -> CachebackLayer<Typed<Req, Res>>
    where
        Req: Send + 'static,
        Res: Clone + Send + Sync + 'static,
    {
        let said = Arc::clone(&self.0);
        layer.on_outcome(move |_, outcome| said.lock().unwrap().push(outcome))
    }

    fn take(&self) -> Vec<String> {
        self.0.lock().unwrap().drain(..).map(|outcome| outcome.to_string()).collect()
    }
}

/// A layer that says what it did.
fn telling(layer: TypedLayer) -> (TypedLayer, Said) {
    let said = Said::default();
    (said.hear(layer), said)
}

// ---- the key ----

#[tokio::test(start_paused = true)] // P17 P81
async fn a_request_without_a_key_goes_past_the_cache_and_waits_for_nobody() {
    let all = Arc::new(Barrier::new(3));
    let said = Said::default();
    let layer = CachebackLayer::typed::<u32, u32>(|n| (*n != 0).then(|| Key::from(n.to_string())));
    let layer = said.hear(layer);
    let meet = move |n: u32| {
        let all = Arc::clone(&all);
        async move {
            if n == 0 {
                all.wait().await;
            }
            Ok::<_, Infallible>(n)
        }
    };
    let service = layer.function(meet);
    let (a, b, c) = at_once(async { tokio::join!(service.get(0), service.get(0), service.get(0)) }).await;
    assert_eq!((a, b, c), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(said.take(), ["fwd=bypass; detail=no-key"; 3]);
    let stats = layer.cache().stats();
    assert_eq!((stats.bypassed_for(Detail::NoKey), stats.requests(), stats.stored, stats.keys), (3, 3, 0, 0));
    let explained = layer.explain(0).await;
    assert_eq!((explained.key(), explained.plan()), (None, Plan::Forward));

    assert_eq!(service.get(1).await, Ok(1));
    assert_eq!(service.get(1).await, Ok(1));
    assert_eq!(said.take(), ["fwd=uri-miss; stored", "hit; ttl=60"]);
}

#[tokio::test] // P17
async fn without_a_key_there_is_nothing_to_put_to_look_at_or_to_invalidate() {
    let users = CachebackLayer::typed::<u32, u32>(|_| None).function(async |n| Ok::<_, Infallible>(n));
    assert_eq!(users.put(1, 2).await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(users.peek(&1).is_none());
    assert_eq!(users.expire(&1).await.unwrap(), users.purge(&1).await.unwrap());
    assert_eq!(users.refresh(1).await, Ok(1));
    assert_eq!(users.cache().stats().purges, 0);
}

// ---- what a response means ----

#[tokio::test(start_paused = true)] // P81 P93
async fn each_response_may_live_for_its_own_time() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let rule = |get: &Get, number: &u64| match get.0 {
        "exact" => Freshness::exact(secs(*number)),
        _ => Freshness::from(secs(10 * number)),
    };
    let (layer, said) = telling(layer().freshness_by(rule).freshness(secs(1_000)));
    let service = layer.layer(origin.service());
    for key in ["exact", "by-number", "exact", "by-number"] {
        ask(&service, key).await.unwrap();
    }
    assert_eq!(said.take()[2..], ["hit; ttl=1", "hit; ttl=20"]);
    pass(secs(3)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "exact", 1).await;
    pass(secs(2)).await;
    gate.open();
    assert_eq!(answers(waiting).await, [3]);
    said.take();
    ask(&service, "exact").await.unwrap();
    assert_eq!(said.take(), ["hit; ttl=0"], "counted from the start of its run");
}

#[tokio::test(start_paused = true)] // P81
async fn a_duration_will_do_for_a_lifetime() {
    let layer = CachebackLayer::typed::<u32, u64>(|n| Key::from(n.to_string())).freshness_by(|_, n| secs(*n));
    layer.put(1, 7).await.unwrap();
    let stored = &layer.cache().peek(Key::from("1"))[0];
    assert_eq!(stored.freshness(), Freshness::new(secs(7)));
}

#[tokio::test(start_paused = true)] // P81 P31 P34
async fn tags_reach_what_was_stored_with_them() {
    let origin = Origin::new();
    let layer = layer().freshness(WINDOWS).tags_by(|get, number| Tags::new([get.0.to_owned(), number.to_string()]));
    let service = layer.layer(origin.service());
    assert_eq!((ask(&service, "a").await, ask(&service, "b").await), (Ok(1), Ok(2)));
    assert_eq!(layer.cache().expire_tag("2").await.unwrap().entries, 1);
    assert_eq!((ask(&service, "a").await, ask(&service, "b").await), (Ok(1), Ok(2)), "b is stale at once");
    layer.cache().settled().await;
    assert_eq!((ask(&service, "b").await, origin.runs()), (Ok(3), 3));
    assert_eq!(layer.cache().purge_tag("a").await.unwrap().entries, 1);
    assert_eq!(ask(&service, "a").await, Ok(4));
}

#[tokio::test(start_paused = true)] // P81 P15
async fn what_is_not_admitted_is_given_to_all_who_wait_and_not_stored() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let (layer, said) = telling(layer().admit(|get, number| get.0 != "even" || number % 2 == 0));
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "even", 5).await;
    gate.open();
    assert_eq!(answers(waiting).await, [1; 5]);
    let mut told = said.take();
    told.sort();
    assert_eq!(told[..4], ["fwd=uri-miss; collapsed; detail=not-admitted"; 4]);
    assert_eq!(told[4], "fwd=uri-miss; detail=not-admitted");
    assert_eq!((ask(&service, "even").await, ask(&service, "even").await), (Ok(2), Ok(2)));
    assert_eq!((ask(&service, "odd").await, ask(&service, "odd").await), (Ok(3), Ok(3)));
    let stats = layer.cache().stats();
    assert_eq!((stats.refused_for(Detail::NotAdmitted), stats.stored, stats.collapsed), (1, 2, 4));
}

#[tokio::test(start_paused = true)] // P81 P23
async fn on_a_refresh_what_is_not_admitted_takes_away_what_is_stale() {
    let origin = Origin::new();
    let layer = layer().freshness(WINDOWS).admit(|_, number| *number != 2);
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    pass(secs(11)).await;
    assert_eq!(ask(&service, "k").await, Ok(1), "stale at once");
    layer.cache().settled().await;
    assert!(layer.cache().peek(Key::from("k")).is_empty());
    assert_eq!(ask(&service, "k").await, Ok(3));
}

#[tokio::test] // P81
async fn what_is_not_admitted_cannot_be_put_either() {
    let layer = layer().admit(|_, number| *number > 1);
    assert_eq!(layer.put(Get("k"), 1_u64).await.unwrap_err().kind(), ErrorKind::Refused);
    layer.put(Get("k"), 2_u64).await.unwrap();
}

#[tokio::test] // P81
async fn no_request_is_copied_unless_a_rule_wants_to_see_it() {
    /// Counts its copies.
    struct Counted(Arc<AtomicUsize>);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }

    let copies = Arc::new(AtomicUsize::new(0));
    let plain = || CachebackLayer::typed::<Counted, u8>(|_| Key::from("k"));
    for (layer, expected) in [(plain(), 0), (plain().admit(|_, _| true).tags_by(|_, _| Tags::default()), 1)] {
        let service = layer.function(async |_| Ok::<_, Infallible>(1));
        for _ in 0..3 {
            service.get(Counted(Arc::clone(&copies))).await.unwrap();
        }
        assert_eq!(copies.swap(0, SeqCst), expected, "once for each run, and not for a hit");
    }
}

// ---- what readers are given ----

#[tokio::test(start_paused = true)] // P81 P56
async fn each_reader_s_own_copy_is_finished_and_what_is_stored_stays_as_it_is() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(WINDOWS).on_outcome(|number, outcome| {
        *number += match outcome.status() {
            CacheStatus::Hit if outcome.is_stale() => 3_000,
            CacheStatus::Hit => 2_000,
            _ if outcome.is_collapsed() => 1_000,
            CacheStatus::Stale if outcome.detail() == Some(Detail::StaleIfError) => 9_000,
            CacheStatus::UriMiss => 0,
            _ => 5_000,
        };
    });
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 2).await;
    gate.open();
    let mut both = answers(waiting).await;
    both.sort_unstable();
    assert_eq!(both, [1, 1_001]);
    assert_eq!((ask(&service, "k").await, ask(&service, "k").await), (Ok(2_001), Ok(2_001)));
    pass(secs(11)).await;
    origin.next_time(Act::Fail);
    assert_eq!(read(&service, "k").await, Ok(3_001));
    pass(secs(10)).await;
    origin.next_time(Act::Fail);
    assert_eq!(read(&service, "k").await, Ok(9_001), "too stale");
    assert_eq!(layer.cache().peek(Key::from("k"))[0].value(), &1);
    assert_eq!(service.refresh(Get("k")).await, Ok(5_004), "asked for");
}

#[tokio::test(start_paused = true)] // P81
async fn one_to_whom_a_response_was_stale_for_too_long_waits_for_a_run_and_others_do_not() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let (strict, said) = telling(layer().freshness(WINDOWS).max_stale(|get| (get.0 == "k").then_some(secs(5))));
    let service = strict.layer(origin.service());
    let lenient = layer().freshness(WINDOWS).over_cache(strict.cache()).layer(origin.service());
    ask(&service, "k").await.unwrap();
    ask(&service, "other").await.unwrap();
    pass(secs(14)).await;
    origin.next_time(Act::Fail).next_time(Act::Fail);
    assert_eq!((read(&service, "k").await, read(&service, "other").await), (Ok(1), Ok(2)), "stale for 4 s");
    pass(secs(2)).await;
    said.take();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 2).await;
    assert_eq!(at_once(ask(&lenient, "k")).await, Ok(1), "stale for 6 s");
    gate.open();
    assert_eq!((answers(waiting).await, origin.runs()), (vec![5, 5], 5));
    let mut told = said.take();
    told.sort();
    assert_eq!(told, ["fwd=request; stored", "fwd=request; ttl=9; stored; collapsed"].map(String::from));
    assert_eq!(at_once(ask(&service, "other")).await, Ok(2), "its requests take what there is");
}

#[tokio::test(start_paused = true)] // P81 P22
async fn one_to_whom_a_response_is_too_stale_falls_back_on_it_and_asks_no_more_for_a_while() {
    let origin = Origin::new();
    let (layer, said) = telling(layer().freshness(WINDOWS).max_stale(|_| Some(secs(0))));
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    assert_eq!(layer.explain(Get("k")).await.plan(), Plan::Nothing, "fresh");
    pass(secs(12)).await;
    said.take();
    assert_eq!(layer.explain(Get("k")).await.to_string(), "fwd=request; plan=lead");
    origin.next_time(Act::Fail);
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!(
        (said.take(), origin.runs()),
        (vec!["fwd=stale; ttl=-3; detail=stale-if-error".into(), "hit; ttl=-3; detail=back-off".into()], 2)
    );
    pass(secs(2)).await;
    assert_eq!(ask(&service, "k").await, Ok(3));
}

#[tokio::test(start_paused = true)] // P81 P34
async fn what_was_expired_by_hand_is_stale_to_those_who_take_nothing_stale() {
    for (most, expected) in [(secs(0), 1), (secs(1), 77)] {
        let layer = layer().freshness(WINDOWS).max_stale(move |_| Some(most));
        let service = layer.layer(Origin::new());
        layer.put(Get("k"), 77_u64).await.unwrap();
        layer.cache().expire(Key::from("k")).await.unwrap();
        assert_eq!(ask(&service, "k").await, Ok(expected), "{most:?}");
    }
}

// ---- errors ----

#[tokio::test(start_paused = true)] // P81 P22
async fn an_error_is_never_stored_and_a_stale_value_stands_in_for_it() {
    /// Neither `Clone` nor `Sync`, and no `Error` either.
    #[derive(Debug)]
    struct Bare(std::cell::Cell<u32>);

    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let flaky = move |_: u32| {
        let run = counted.fetch_add(1, SeqCst) + 1;
        async move { if run == 2 { Ok(run) } else { Err(Bare(std::cell::Cell::new(7))) } }
    };
    let service = CachebackLayer::typed::<u32, usize>(|n| Key::from(n.to_string())).freshness(WINDOWS).function(flaky);
    assert_eq!(service.get(1).await.unwrap_err().0.get(), 7);
    assert_eq!(service.get(1).await.unwrap(), 2);
    pass(secs(11)).await;
    assert_eq!(service.get(1).await.unwrap(), 2, "stale at once");
    idle().await;
    pass(secs(10)).await;
    assert_eq!(service.get(1).await.unwrap(), 2, "in place of an error");
    assert_eq!(runs.load(SeqCst), 4);
    pass(secs(10)).await;
    assert!(service.get(1).await.is_err(), "gone");
    assert_eq!(service.cache().stats().runs_failed, 4);
}

#[tokio::test(start_paused = true)] // P81 P16
async fn an_error_is_shared_only_where_that_was_asked_for() {
    #[derive(Clone, Debug, PartialEq)]
    struct Shared(usize);

    let by_key = || CachebackLayer::typed::<u32, ()>(|n| Key::from(n.to_string()));
    for (layer, expected) in [(by_key(), 3), (by_key().share_errors::<Shared>(), 1)] {
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Gate::new());
        let (counted, closed) = (Arc::clone(&runs), gate.clone());
        let service = layer.function(move |_| {
            let (run, gate) = (counted.fetch_add(1, SeqCst) + 1, closed.clone());
            async move {
                gate.passed().await;
                Err::<(), _>(Shared(run))
            }
        });
        let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(service.get(1))).collect();
        idle().await;
        gate.open();
        let mut errors = Vec::new();
        for waiting in waiting {
            errors.push(waiting.await.unwrap().unwrap_err().0);
        }
        errors.sort_unstable();
        assert_eq!((errors[2], runs.load(SeqCst)), (expected, expected));
    }
}

// ---- functions ----

/// Loads users; the state of an application may hold it, since its type can be written down.
#[derive(Clone, Debug)]
struct Users {
    by_id: CachedFunction<u32, String, Down>,
}

impl Users {
    fn new() -> (Self, Origin) {
        let origin = Origin::new();
        let counted = origin.service();
        let load = move |id: u32| {
            let call = counted.service().oneshot(Get("user"));
            async move { Ok(format!("user {id} of run {}", call.await?)) }
        };
        let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(format!("user:{id}"))).freshness(WINDOWS);
        (Self { by_id: layer.function(load) }, origin)
    }
}

#[tokio::test(start_paused = true)] // P81
async fn a_function_is_got_from_refreshed_expired_purged_looked_at_and_put_by_its_argument() {
    let (Users { by_id: users }, origin) = Users::new();
    assert_eq!(users.get(42).await.unwrap(), "user 42 of run 1");
    assert_eq!(users.get(42).await.unwrap(), "user 42 of run 1");
    assert_eq!(users.get(7).await.unwrap(), "user 7 of run 2");
    assert_eq!(users.refresh(42).await.unwrap(), "user 42 of run 3");
    assert_eq!(users.get(42).await.unwrap(), "user 42 of run 3");

    let reached: Reached = users.expire(&42).await.unwrap();
    assert_eq!((reached.entries, users.peek(&42).unwrap().is_expired()), (1, true));
    assert_eq!(users.get(42).await.unwrap(), "user 42 of run 3", "stale at once");
    users.cache().settled().await;
    assert_eq!(users.get(42).await.unwrap(), "user 42 of run 4");

    assert_eq!(users.purge(&42).await.unwrap().entries, 1);
    assert!(users.peek(&42).is_none());
    origin.next_time(Act::Fail);
    assert_eq!(users.get(42).await, Err(Down(5)), "nothing stands in");

    users.put(42, "ada".to_owned()).await.unwrap();
    assert_eq!((users.get(42).await.unwrap(), origin.runs()), ("ada".to_owned(), 5));
    let stored = users.peek(&42).unwrap();
    assert_eq!((stored.value().as_str(), stored.key(), stored.is_fresh()), ("ada", &Key::from("user:42"), true));
    assert_eq!(users.peek(&7).unwrap().value(), "user 7 of run 2", "and others are left alone");
}

#[tokio::test(start_paused = true)] // P81 P10
async fn those_who_get_the_same_at_one_time_share_a_run() {
    let (users, origin) = Users::new();
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(users.clone().by_id.get(1))).collect();
    idle().await;
    gate.open();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), "user 1 of run 1");
    }
}

#[tokio::test] // P81 P90
async fn a_cached_function_is_a_service_like_any_other_and_can_be_shared_among_threads() {
    fn is_shareable<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}

    let (users, _) = Users::new();
    is_shareable(&users);
    let mut stack = ServiceBuilder::new().map_request(|id: &str| id.len() as u32).service(users.by_id.clone());
    assert_eq!(stack.ready().await.unwrap().call("four").await.unwrap(), "user 4 of run 1");
    assert_eq!(users.by_id.get(4).await.unwrap(), "user 4 of run 1");
}

#[tokio::test] // P81
async fn the_same_can_be_done_by_hand_around_any_service() {
    let layer = CachebackLayer::typed::<u32, u32>(|n| Key::from(n.to_string()));
    let service = layer.layer(service_fn(|n: u32| async move { Ok::<_, Infallible>(2 * n) }));
    assert_eq!(service.get(4).await, Ok(8));
    assert_eq!(service.peek(&4).map(|stored| *stored.value()), Some(8));
    service.put(4, 9).await.unwrap();
    assert_eq!(service.get(4).await, Ok(9));
    assert_eq!((service.expire(&4).await.unwrap().entries, service.purge(&4).await.unwrap().entries), (1, 1));
    assert_eq!(service.get(4).await, Ok(8));
    assert_eq!(service.cache().stats(), layer.cache().stats());
}

#[tokio::test(start_paused = true)] // P63 P81
async fn a_response_weighs_what_the_rule_says() {
    let cache = Cache::builder().memory(8 << 20).build_for();
    let layer =
        CachebackLayer::typed::<u32, u32>(|n| Key::from(n.to_string())).weigh(|n| *n as usize).over_cache(&cache);
    layer.put(1, 1_000_000).await.unwrap();
    assert!((1_000_000..1_001_000).contains(&cache.stats().bytes));
    assert_eq!(layer.put(2, 9_000_000).await.unwrap_err().kind(), ErrorKind::Refused);
}
