//! A shared store behind the memory: what one instance has made the others find, an invalidation wins over what is under way
//! anywhere, and whatever becomes of the store no request fails.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cacheback::{Cache, Cacheback, Codec, CodecError, ErrorKind, Freshness, Key, Stats, Typed, testing::LocalStore};
use tower::Layer;

#[path = "stores/http.rs"]
mod http_layers;
#[path = "stores/instances.rs"]
mod instances;
#[path = "stores/stress.rs"]
mod stress;
#[path = "stores/strict.rs"]
mod strict;
mod support;
use support::typed::{Act, Gate, Get, Origin, answers, ask, at_once, crowd, idle, in_time, layer, pass, secs};

/// A number as it is.
struct Number;

impl Codec<u64> for Number {
    fn encode(&self, number: &u64) -> Result<Vec<u8>, CodecError> {
        Ok(number.to_be_bytes().into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

/// A process with a service of its own: a layer over it, and its memory.
struct Instance {
    service: Cacheback<Origin, Typed<Get, u64>>,
    cache: Cache<u64>,
    origin: Origin,
}

/// Fresh for half a minute, stale at once for a minute, in place of a failure for another.
fn freshness() -> Freshness {
    Freshness::new(secs(30)).stale_while_revalidate(secs(60)).stale_if_error(secs(120))
}

impl Instance {
    fn of(store: &LocalStore) -> Self {
        Self::with(store, Number)
    }

    fn with(store: &LocalStore, codec: impl Codec<u64>) -> Self {
        let layer = layer().freshness(freshness()).store(store.clone(), codec);
        let origin = Origin::new();
        Self { service: layer.layer(origin.service()), cache: layer.cache().clone(), origin }
    }

    /// Whose first answer has this number.
    fn counting_from(store: &LocalStore, first: u64) -> Self {
        let instance = Self::of(store);
        instance.origin.count_from(first);
        instance
    }

    async fn get(&self, key: &'static str) -> u64 {
        let answer = ask(&self.service, key).await.unwrap();
        self.cache.settled().await;
        answer
    }

    fn stats(&self) -> Stats {
        self.cache.stats()
    }
}

#[tokio::test(start_paused = true)] // P70
async fn what_one_instance_has_made_the_others_find() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    assert_eq!(one.get("a").await, 10);
    assert_eq!((other.get("a").await, other.origin.runs()), (10, 0));
    let stats = other.stats();
    assert_eq!((stats.hits, stats.misses, stats.runs_spared, stats.runs_completed), (1, 0, 1, 0));
    assert_eq!(one.stats().runs_spared, 0);
}

#[tokio::test(start_paused = true)] // P3
async fn a_hit_does_not_ask_the_store_and_a_miss_asks_once_however_many_wait() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::of(&store));
    one.get("a").await;
    assert_eq!(store.operations(), 3, "it looked, it claimed, and it saved");
    one.get("a").await;
    assert_eq!(store.operations(), 3);
    assert_eq!(answers(crowd(&other.service, "a", 100).await).await, [1; 100]);
    assert_eq!((store.operations(), other.origin.runs()), (4, 0));
}

#[tokio::test(start_paused = true)] // P1, P7
async fn what_is_found_is_as_old_as_it_is() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    one.get("a").await;
    pass(secs(29)).await;
    assert_eq!(other.get("a").await, 10);
    assert_eq!(other.cache.peek(Key::from("a"))[0].age(), secs(29) + one_while());
    pass(secs(1)).await;
    // Stale at once, and refreshed behind.
    assert_eq!((other.get("a").await, other.origin.runs()), (10, 1));
    assert_eq!(other.get("a").await, 1);
}

/// How long `pass` takes beyond what it is told to.
fn one_while() -> Duration {
    Duration::from_millis(1)
}

#[tokio::test(start_paused = true)]
async fn what_is_found_stale_is_served_at_once_and_refreshed_behind() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    one.get("a").await;
    pass(secs(40)).await;
    other.origin.always(Act::Hang);
    assert_eq!(at_once(ask(&other.service, "a")).await.unwrap(), 10);
    idle().await;
    assert_eq!(other.origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P6
async fn a_new_instance_whose_service_fails_answers_with_what_the_others_have_made() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    one.get("a").await;
    pass(secs(100)).await;
    other.origin.always(Act::Fail);
    assert_eq!((other.get("a").await, other.origin.runs()), (10, 1));
    pass(secs(60)).await;
    assert!(ask(&other.service, "a").await.is_err(), "past its last horizon");
}

#[tokio::test(start_paused = true)] // P70
async fn a_refresh_takes_what_another_instance_has_refreshed() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    one.get("a").await;
    other.get("a").await;
    pass(secs(40)).await;
    one.get("a").await;
    assert_eq!((other.get("a").await, other.get("a").await, other.origin.runs()), (10, 11, 0));
    assert_eq!(other.stats().runs_spared, 2);
    // And the other way round.
    pass(secs(40)).await;
    other.get("a").await;
    assert_eq!((one.get("a").await, one.get("a").await, one.origin.runs()), (11, 1, 2));
}

#[tokio::test(start_paused = true)] // P1
async fn a_response_that_was_long_in_the_making_is_not_younger_elsewhere() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::of(&store));
    let gate = Gate::new();
    one.origin.always(Act::AnswerAfter(gate.clone()));
    let answer = crowd(&one.service, "a", 1).await;
    pass(secs(25)).await;
    gate.open();
    answers(answer).await;
    one.cache.settled().await;
    other.get("a").await;
    let age = other.cache.peek(Key::from("a"))[0].age();
    assert!((secs(25)..secs(26)).contains(&age), "{age:?}");
}

#[tokio::test(start_paused = true)] // P49
async fn an_outcome_says_that_the_store_held_it() {
    let store = LocalStore::new();
    Instance::of(&store).get("a").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let outcomes = Arc::clone(&told);
    let layer = layer().freshness(freshness()).store(store.clone(), Number);
    let service = layer.on_outcome(move |_, outcome| outcomes.lock().unwrap().push(outcome.to_string()));
    let service = service.layer(Origin::new());
    assert_eq!(ask(&service, "a").await.unwrap(), ask(&service, "a").await.unwrap());
    assert_eq!(*told.lock().unwrap(), ["hit; ttl=30; detail=store", "hit; ttl=30"]);
}

#[tokio::test(start_paused = true)] // P31, P71
async fn an_invalidation_reaches_the_store_and_what_is_under_way_elsewhere_is_not_saved() {
    for tagged_by_key in [true, false] {
        let store = LocalStore::new();
        let [one, two, three] = [10, 20, 30].map(|first| Instance::counting_from(&store, first));
        one.get("a").await;
        let gate = Gate::new();
        two.origin.always(Act::AnswerAfter(gate.clone()));
        let forced = tokio::spawn(two.service.refresh(Get("a")));
        idle().await;
        if tagged_by_key {
            one.cache.purge(Key::from("a")).await.unwrap();
        } else {
            one.cache.expire(cacheback::Scope::everything()).await.unwrap();
        }
        assert_eq!(store.records(), 0);
        gate.open();
        assert_eq!(forced.await.unwrap().unwrap(), 20);
        two.cache.settled().await;
        assert_eq!(store.records(), 0, "it began before the invalidation");
        assert_eq!(three.get("a").await, 30);
    }
}

#[tokio::test(start_paused = true)] // P34
async fn what_an_invalidation_reaches_in_memory_is_counted_once() {
    let one = Instance::of(&LocalStore::new());
    one.get("a").await;
    assert_eq!(one.service.expire(&Get("a")).await.unwrap().entries, 1);
    assert_eq!(one.service.purge(&Get("a")).await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)] // P30
async fn a_run_that_finds_the_record_before_the_store_is_told_does_not_bring_it_back() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::of(&store));
    one.get("a").await;
    store.delay(secs(1) / 20);
    let cache = other.cache.clone();
    let purge = tokio::spawn(async move { cache.purge(Key::from("a")).await });
    tokio::task::yield_now().await;
    store.delay(Duration::ZERO);
    // It begins after the purge, and asks a store that knows nothing of it yet.
    assert_eq!(ask(&other.service, "a").await.unwrap(), 10);
    purge.await.unwrap().unwrap();
    assert_eq!(other.get("a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_is_found_by_the_others_and_wins_over_runs_that_began_before() {
    let store = LocalStore::new();
    let [one, two, three] = [10, 20, 30].map(|first| Instance::counting_from(&store, first));
    let gate = Gate::new();
    two.origin.always(Act::AnswerAfter(gate.clone()));
    let running = tokio::spawn(ask(&two.service, "a"));
    idle().await;
    let put = layer().freshness(freshness()).over_cache(&one.cache);
    put.put(Get("a"), 99).await.unwrap();
    gate.open();
    assert_eq!(running.await.unwrap().unwrap(), 20);
    two.cache.settled().await;
    assert_eq!(three.get("a").await, 99);
}

#[tokio::test(start_paused = true)] // P23
async fn what_is_over_is_over_for_the_others_too() {
    for found_first in [true, false] {
        let store = LocalStore::new();
        let one = Instance::counting_from(&store, 10);
        one.get("a").await;
        let layer = layer().freshness(freshness()).admit(|_, number| *number != 20).store(store.clone(), Number);
        let origin = Origin::new();
        origin.count_from(20);
        let picky = layer.layer(origin);
        if found_first {
            assert_eq!(ask(&picky, "a").await.unwrap(), 10);
        }
        assert_eq!(picky.refresh(Get("a")).await.unwrap(), 20, "it says that what is stored is over");
        layer.cache().settled().await;
        assert_eq!(store.records(), 0);
        assert_eq!(ask(&picky, "a").await.unwrap(), 21);
    }
}

#[tokio::test(start_paused = true)] // P25
async fn a_run_that_comes_too_late_does_not_take_away_what_a_later_one_has_saved() {
    let store = LocalStore::new();
    let one = Instance::of(&store);
    one.get("a").await;
    pass(secs(40)).await;
    let gate = Gate::new();
    one.origin.next_time(Act::AnswerAfter(gate.clone()));
    ask(&one.service, "a").await.unwrap();
    idle().await;
    // It waits for the refresh that is under way until its patience is over, and leads a run of its own.
    assert_eq!(one.service.refresh(Get("a")).await.unwrap(), 3);
    gate.open();
    one.cache.settled().await;
    assert_eq!((one.get("a").await, Instance::counting_from(&store, 10).get("a").await), (3, 3));
}

#[tokio::test(start_paused = true)] // P25
async fn what_the_store_has_kept_of_an_earlier_run_does_not_take_the_place_of_a_later_one() {
    let store = LocalStore::new();
    let lifetime = |number: u64| if number == 1 { secs(3_600) } else { secs(1) };
    let layer = layer().freshness_by(move |_, number| lifetime(*number)).store(store.clone(), Number);
    let service = layer.layer(Origin::new());
    ask(&service, "a").await.unwrap();
    // The store misses what comes next.
    store.fail(true);
    assert_eq!(service.refresh(Get("a")).await.unwrap(), 2);
    layer.cache().settled().await;
    store.fail(false);
    pass(secs(2)).await;
    assert_eq!(ask(&service, "a").await.unwrap(), 2);
    layer.cache().settled().await;
    assert_eq!(ask(&service, "a").await.unwrap(), 3);
}

#[tokio::test(start_paused = true)] // P33
async fn what_a_run_has_found_does_not_take_the_place_of_what_was_put_before_it_began() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::counting_from(&store, 10));
    one.get("a").await;
    pass(secs(40)).await;
    assert_eq!(other.service.refresh(Get("a")).await.unwrap(), 10);
    other.cache.settled().await;
    store.delay(secs(1) / 20);
    let service = one.service.clone();
    let put = tokio::spawn(async move { service.put(Get("a"), 99).await });
    idle().await;
    // It begins after the put, and asks a store that has not heard of that yet.
    assert_eq!(ask(&one.service, "a").await.unwrap(), 1);
    put.await.unwrap().unwrap();
    one.cache.settled().await;
    assert_ne!(one.get("a").await, 10);
}

#[tokio::test(start_paused = true)] // P33
async fn what_is_put_wins_over_what_a_later_run_has_found_that_was_made_before() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::counting_from(&store, 10));
    one.get("a").await;
    pass(secs(40)).await;
    assert_eq!(other.service.refresh(Get("a")).await.unwrap(), 10);
    other.cache.settled().await;
    pass(secs(1)).await;
    store.delay(secs(1) / 20);
    let service = one.service.clone();
    let put = tokio::spawn(async move { service.put(Get("a"), 99).await });
    tokio::task::yield_now().await;
    store.delay(Duration::ZERO);
    // A run that begins after the put is through with the store before it.
    assert_eq!((one.get("a").await, one.get("a").await), (1, 10));
    put.await.unwrap().unwrap();
    assert_eq!((one.get("a").await, Instance::counting_from(&store, 20).get("a").await), (99, 99));
}

#[tokio::test(start_paused = true)] // P34
async fn what_was_expired_is_not_fresh_again_where_the_store_was_not_reached() {
    let store = LocalStore::new();
    let one = Instance::of(&store);
    one.get("a").await;
    store.fail(true);
    assert!(one.cache.expire(Key::from("a")).await.is_err());
    store.fail(false);
    assert_eq!((one.get("a").await, one.get("a").await), (1, 2));
}

#[tokio::test(start_paused = true)] // P33
async fn a_run_that_began_before_a_put_does_not_take_away_what_was_put() {
    let store = LocalStore::new();
    let layer = layer().freshness(freshness()).admit(|_, number| *number != 2).store(store.clone(), Number);
    let origin = Origin::new();
    let service = layer.layer(origin.service());
    ask(&service, "a").await.unwrap();
    pass(secs(40)).await;
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    ask(&service, "a").await.unwrap();
    idle().await;
    service.put(Get("a"), 99).await.unwrap();
    gate.open();
    layer.cache().settled().await;
    assert_eq!((origin.runs(), Instance::of(&store).get("a").await), (2, 99));
}

#[tokio::test(start_paused = true)] // P23
async fn what_is_over_is_over_also_where_the_store_was_too_slow_to_be_asked() {
    let store = LocalStore::new();
    Instance::of(&store).get("a").await;
    let layer = layer().admit(|_, _| false).store(store.clone(), Number);
    store.delay(secs(1));
    ask(&layer.layer(Origin::new()), "a").await.unwrap();
    layer.cache().settled().await;
    assert_eq!(store.records(), 0);
}

#[tokio::test(start_paused = true)] // P27
async fn a_drain_waits_until_the_store_has_what_runs_have_made() {
    let store = LocalStore::new();
    let one = Instance::of(&store);
    let gate = Gate::new();
    one.origin.always(Act::AnswerAfter(gate.clone()));
    let reader = crowd(&one.service, "a", 1).await;
    store.delay(secs(2));
    gate.open();
    answers(reader).await;
    assert!(!one.cache.drain(secs(1)).await && store.records() == 0);
    assert!(one.cache.drain(secs(5)).await && store.records() == 1);
}

#[tokio::test(start_paused = true)] // P22
async fn a_run_that_fails_leaves_the_store_as_it_is() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::of(&store));
    one.get("a").await;
    other.origin.always(Act::Fail);
    assert!(other.service.refresh(Get("a")).await.is_err());
    other.cache.settled().await;
    assert_eq!(store.records(), 1);
}

#[tokio::test(start_paused = true)] // P26
async fn who_asks_for_something_new_gets_it() {
    let store = LocalStore::new();
    let (one, other) = (Instance::counting_from(&store, 10), Instance::counting_from(&store, 20));
    one.get("a").await;
    assert_eq!(other.service.refresh(Get("a")).await.unwrap(), 20);
    other.cache.settled().await;
    assert_eq!(Instance::of(&store).get("a").await, 20);
}

#[tokio::test(start_paused = true)] // P26
async fn who_asks_for_something_new_is_not_content_with_what_another_one_s_run_has_found() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store), Instance::counting_from(&store, 10));
    let gate = Gate::new();
    one.origin.next_time(Act::FailAfter(gate.clone()));
    let both = crowd(&one.service, "a", 2).await;
    pass(secs(3)).await;
    assert_eq!(other.service.refresh(Get("a")).await.unwrap(), 10);
    other.cache.settled().await;
    let forced = tokio::spawn(one.service.refresh(Get("a")));
    // The one who follows gives up on the first run, and finds what was made before the other one asked.
    pass(secs(8)).await;
    gate.open();
    both.join_all().await;
    assert_eq!((forced.await.unwrap().unwrap(), one.origin.runs()), (2, 2));
}

#[tokio::test(start_paused = true)] // P2, P7
async fn a_record_that_took_long_to_be_saved_is_not_younger_for_it() {
    let store = LocalStore::new();
    let layer = || layer().freshness(Freshness::exact(secs(10))).store(store.clone(), Number);
    let (one, gate) = (layer(), Gate::new());
    let answer = crowd(&one.layer(Origin::that(Act::AnswerAfter(gate.clone()))), "a", 1).await;
    store.delay(secs(4));
    gate.open();
    answers(answer).await;
    one.cache().settled().await;
    store.delay(Duration::ZERO);
    assert_eq!(store.records(), 1);
    pass(secs(8)).await;
    let origin = Origin::new();
    ask(&layer().layer(origin.service()), "a").await.unwrap();
    assert_eq!(origin.runs(), 1, "it is past its last horizon");
}

#[tokio::test(start_paused = true)] // P25
async fn a_run_of_which_nothing_is_stored_takes_nothing_away_that_another_instance_has_saved_later() {
    let store = LocalStore::new();
    let layer = layer().freshness(freshness()).admit(|_, number| *number != 2).store(store.clone(), Number);
    let (origin, other, gate) = (Origin::new(), Instance::counting_from(&store, 50), Gate::new());
    let one = layer.layer(origin.service());
    ask(&one, "a").await.unwrap();
    pass(secs(40)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    ask(&one, "a").await.unwrap();
    idle().await;
    assert_eq!(other.service.refresh(Get("a")).await.unwrap(), 50);
    other.cache.settled().await;
    gate.open();
    layer.cache().settled().await;
    assert_eq!(store.records(), 1);
}

#[tokio::test(start_paused = true)] // P63
async fn what_one_memory_has_no_room_for_is_saved_for_others() {
    let store = LocalStore::new();
    let small = layer().freshness(freshness()).weigh(|_| 1 << 40).store(store.clone(), Number);
    ask(&small.layer(Origin::new()), "a").await.unwrap();
    small.cache().settled().await;
    let other = Instance::of(&store);
    assert_eq!((other.get("a").await, other.origin.runs(), store.records()), (1, 0, 1));
    ask(&small.layer(Origin::new()), "a").await.unwrap();
    small.cache().settled().await;
    assert_eq!(store.records(), 1);
}

#[tokio::test(start_paused = true)] // P74
async fn a_request_waits_for_the_store_once() {
    // A store that does not answer.
    let store = LocalStore::new();
    let one = Instance::of(&store);
    store.delay(secs(3_600));
    one.origin.next_time(Act::Fail);
    let both = async { crowd(&one.service, "a", 2).await.join_all().await };
    in_time(Duration::from_millis(105), both).await;
    // One that holds what is too stale to be of use before the service was asked.
    let store = LocalStore::new();
    Instance::of(&store).get("a").await;
    pass(secs(100)).await;
    let one = Instance::of(&store);
    store.delay(Duration::from_millis(90));
    // It looks, and what is left of its time is too short to claim.
    in_time(Duration::from_millis(105), ask(&one.service, "a")).await.unwrap();
    assert_eq!(one.origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P74
async fn a_store_that_has_failed_is_let_rest_for_a_second() {
    let store = LocalStore::new();
    let one = Instance::of(&store);
    store.fail(true);
    for key in ["a", "b", "c"] {
        one.get(key).await;
    }
    assert_eq!((store.operations(), one.stats().store_failures, one.stats().store_is_down), (1, 1, true));
    pass(secs(1)).await;
    store.fail(false);
    one.get("d").await;
    assert_eq!((store.records(), one.stats().store_is_down), (1, false));
}

#[tokio::test(start_paused = true)] // P74
async fn whatever_becomes_of_the_store_no_request_fails() {
    let store = LocalStore::new();
    let one = Instance::of(&store);
    store.fail(true);
    assert_eq!(
        (one.get("a").await, one.stats().store_failures),
        (1, 1),
        "it asked, and knows that there is nowhere to save"
    );
    assert_eq!(one.cache.purge(Key::from("a")).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(one.get("a").await, 2, "this process did what it was told");
    store.fail(false);
    store.delay(secs(3_600));
    pass(secs(1)).await;
    assert_eq!(in_time(Duration::from_millis(102), ask(&one.service, "b")).await.unwrap(), 3);
    assert_eq!(one.stats().store_failures, 3, "it was asked, and did not answer");
    assert_eq!(one.cache.purge(Key::from("a")).await.unwrap_err().kind(), ErrorKind::Store);
    store.delay(Duration::ZERO);
    assert_eq!((one.get("c").await, Instance::of(&store).get("c").await), (4, 4));
}

/// Makes nothing of anything, one way or another.
struct Broken(fn());

impl Codec<u64> for Broken {
    fn encode(&self, _: &u64) -> Result<Vec<u8>, CodecError> {
        (self.0)();
        Err("no bytes".into())
    }

    fn decode(&self, _: &[u8]) -> Result<u64, CodecError> {
        (self.0)();
        Err("no number".into())
    }
}

#[tokio::test(start_paused = true)] // P64
async fn a_codec_that_fails_or_panics_costs_what_would_be_stored_and_nothing_else() {
    for how in [|| {}, || panic!("no number at all")] {
        let store = LocalStore::new();
        let one = Instance::with(&store, Broken(how));
        assert_eq!((one.get("a").await, one.get("a").await), (1, 1));
        assert_eq!((store.records(), one.stats().store_failures), (0, 1));
    }
}

#[tokio::test(start_paused = true)] // P64, P76
async fn what_another_codec_has_written_is_nothing() {
    struct Other;
    impl Codec<u64> for Other {
        fn encode(&self, number: &u64) -> Result<Vec<u8>, CodecError> {
            Number.encode(number)
        }
        fn decode(&self, bytes: &[u8]) -> Result<u64, CodecError> {
            Number.decode(bytes)
        }
    }
    let store = LocalStore::new();
    Instance::with(&store, Other).get("a").await;
    let one = Instance::counting_from(&store, 10);
    assert_eq!((one.get("a").await, one.stats().store_failures), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn layers_that_share_a_cache_share_its_store() {
    let store = LocalStore::new();
    let cache = Cache::builder().memory(1 << 20).store(store.clone()).build_for(Number);
    let layer = layer().over_cache(&cache);
    assert_eq!(ask(&layer.layer(Origin::new()), "a").await.unwrap(), 1);
    cache.settled().await;
    assert_eq!(store.records(), 1);
}

#[cfg(feature = "serde")]
mod serde {
    use cacheback::{Codec, Json, Postcard};

    fn round_trip(codec: &impl Codec<Vec<(String, Option<u8>)>>) -> Vec<u8> {
        let value = vec![("a".to_owned(), Some(1)), (String::new(), None)];
        let bytes = codec.encode(&value).unwrap();
        assert_eq!(codec.decode(&bytes).unwrap(), value);
        // Cut anywhere, or with something behind it, it is nothing.
        (0..bytes.len()).for_each(|at| assert!(codec.decode(&bytes[..at]).is_err(), "cut at {at}"));
        assert!(codec.decode(&[&bytes[..], b"\0"].concat()).is_err());
        bytes
    }

    #[test] // P81
    fn codecs_give_back_what_they_were_given() {
        assert_eq!(round_trip(&Json), br#"[["a",1],["",null]]"#);
        assert_eq!(round_trip(&Postcard), [2, 1, b'a', 1, 1, 0, 0]);
    }

    #[test] // P64
    fn a_length_that_nobody_can_mean_allocates_nothing() {
        let taken = allocation_counter::measure(|| {
            let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
            assert!(Codec::<Vec<u64>>::decode(&Postcard, &claim).is_err());
        });
        assert!(taken.bytes_max < 2 << 20, "{} bytes", taken.bytes_max);
    }
}
