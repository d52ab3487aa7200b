//! What instances over one store are to one another: one of them runs, all of them hear of what one has invalidated, and
//! what they could not hear they ask for. (A number tells whose run has made it: the first of instance 2 makes 20.)

use std::time::Duration;

use cacheback::{Cache, ErrorKind, Key, Scope, Tags, testing::LocalStore};
use tokio::task::JoinSet;
use tower::Layer;

use crate::{
    Instance, Number, freshness,
    support::typed::{
        Act, Gate, Get, Origin, TypedLayer, answers, ask, at_once, crowd, idle, in_time, layer, pass, secs,
    },
};

pub(super) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Instance `number` over a store, with its layer set up like this.
pub(super) fn set_up(store: &LocalStore, number: u64, set: impl FnOnce(TypedLayer) -> TypedLayer) -> Instance {
    let cache = Cache::builder().store(store.clone()).build_for(Number);
    over(&cache, number, set)
}

/// The same over a cache.
pub(super) fn over(cache: &Cache<u64>, number: u64, set: impl FnOnce(TypedLayer) -> TypedLayer) -> Instance {
    let layer = set(layer().freshness(freshness())).over_cache(cache);
    let origin = Origin::new();
    origin.count_from(10 * number);
    Instance { service: layer.layer(origin.service()), cache: layer.cache().clone(), origin }
}

/// So many instances, whose numbers begin at 1.
pub(super) fn instances(store: &LocalStore, how_many: u64) -> Vec<Instance> {
    (1..=how_many).map(|number| set_up(store, number, |layer| layer)).collect()
}

/// Three instances, each of which has in its memory what the first one has made: 10.
async fn three_that_know(store: &LocalStore) -> [Instance; 3] {
    let three = [1, 2, 3].map(|number| set_up(store, number, |layer| layer));
    for each in &three {
        assert_eq!(each.get("a").await, 10);
    }
    three
}

fn runs(all: &[Instance]) -> u64 {
    all.iter().map(|each| each.origin.runs()).sum()
}

async fn all_settled(all: &[Instance]) {
    for each in all {
        each.cache.settled().await;
    }
}

fn a() -> Key {
    Key::from("a")
}

/// Lets an instance begin a run for `a` that waits at this gate: one reader waits for it.
async fn begin(instance: &Instance, act: Act) -> JoinSet<Result<u64, crate::support::typed::Down>> {
    instance.origin.next_time(act);
    let reader = crowd(&instance.service, "a", 1).await;
    assert_eq!(instance.origin.under_way(), 1);
    reader
}

// ## One run among all

#[tokio::test(start_paused = true)] // P10, P70
async fn of_many_instances_one_runs_for_a_cold_key_and_all_are_answered() {
    for how_many in [2, 8] {
        let (store, gate) = (LocalStore::new(), Gate::new());
        let all = instances(&store, how_many);
        let mut crowds = Vec::new();
        for each in &all {
            each.origin.always(Act::AnswerAfter(gate.clone()));
            crowds.push(crowd(&each.service, "a", 5).await);
        }
        assert_eq!(runs(&all), 1);
        gate.open();
        for crowd in crowds {
            assert_eq!(answers(crowd).await, [10; 5]);
        }
        all_settled(&all).await;
        assert_eq!((runs(&all), all[1].get("a").await), (1, 10));
    }
}

#[tokio::test(start_paused = true)] // P5, P10, P70
async fn of_many_instances_one_refreshes_a_stale_key_whose_readers_are_answered_at_once() {
    for how_many in [2, 8] {
        let (store, gate) = (LocalStore::new(), Gate::new());
        let all = instances(&store, how_many);
        for each in &all {
            assert_eq!(each.get("a").await, 10);
            each.origin.always(Act::AnswerAfter(gate.clone()));
        }
        pass(secs(40)).await;
        for each in &all {
            assert_eq!(answers(crowd(&each.service, "a", 5).await).await, [10; 5]);
        }
        assert_eq!(runs(&all), 2, "one made it, and one refreshes it");
        gate.open();
        all_settled(&all).await;
        for each in &all {
            assert_eq!(at_once(ask(&each.service, "a")).await.unwrap(), 11);
        }
        assert_eq!(runs(&all), 2);
    }
}

#[tokio::test(start_paused = true)] // P6, P70
async fn of_many_instances_one_runs_for_a_key_that_is_too_stale_also_where_the_store_alone_knows_it() {
    for (known, readers) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let (store, gate) = (LocalStore::new(), Gate::new());
        let all = instances(&store, 8);
        for each in all.iter().take(if known { 8 } else { 1 }) {
            each.get("a").await;
        }
        pass(secs(100)).await;
        let mut crowds = Vec::new();
        for each in &all {
            each.origin.always(Act::AnswerAfter(gate.clone()));
            crowds.push(crowd(&each.service, "a", readers).await);
        }
        assert_eq!(runs(&all), 2, "one made it, and one makes it anew");
        gate.open();
        for crowd in crowds {
            assert!(answers(crowd).await.iter().all(|answer| *answer == 11));
        }
    }
}

#[tokio::test(start_paused = true)] // P26
async fn a_run_that_is_forced_neither_waits_for_another_instance_nor_takes_what_is_there() {
    let store = LocalStore::new();
    let [one, two, three] = three_that_know(&store).await;
    assert_eq!(at_once(two.service.refresh(Get("a"))).await.unwrap(), 20, "there is one, and it is fresh");
    one.cache.purge(a()).await.unwrap();
    let gate = Gate::new();
    let reader = begin(&one, Act::AnswerAfter(gate.clone())).await;
    assert_eq!(at_once(two.service.refresh(Get("a"))).await.unwrap(), 21, "another one is at it");
    two.cache.settled().await;
    assert_eq!(three.get("a").await, 21);
    gate.open();
    assert_eq!(answers(reader).await, [11]);
    one.cache.settled().await;
    assert_eq!(Instance::of(&store).get("a").await, 21, "it began later");
}

#[tokio::test(start_paused = true)] // P8, P70
async fn of_many_instances_one_refreshes_what_is_due_early() {
    for (memory, one_by_one) in [(1 << 20, true), (1 << 20, false), (0, true), (0, false)] {
        let store = LocalStore::new();
        let all = [1, 2, 3].map(|number| {
            let cache = Cache::builder().memory(memory).store(store.clone()).build_for(Number);
            over(&cache, number, |layer| layer.early_refresh(1.0))
        });
        // What costs nothing is never due early; what costs a second is when a fifth of one is left, in five of six reads.
        let gate = Gate::new();
        let readers = [begin(&all[0], Act::AnswerAfter(gate.clone())).await, crowd(&all[1].service, "a", 1).await];
        let third = crowd(&all[2].service, "a", 1).await;
        pass(secs(1)).await;
        gate.open();
        for reader in readers.into_iter().chain([third]) {
            assert_eq!(answers(reader).await, [10]);
        }
        all_settled(&all).await;
        pass(millis(28_800)).await;
        let gate = Gate::new();
        for each in &all {
            each.origin.always(Act::AnswerAfter(gate.clone()));
        }
        for each in &all {
            for _ in 0..40 {
                at_once(ask(&each.service, "a")).await.unwrap();
            }
            if one_by_one {
                gate.open();
                each.cache.settled().await;
            }
        }
        idle().await;
        gate.open();
        all_settled(&all).await;
        assert_eq!(runs(&all), 2, "memory {memory}, one by one: {one_by_one}");
    }
}

// ## When the one that runs brings nothing

#[tokio::test(start_paused = true)] // P12, P15, P16
async fn where_one_instance_s_run_brings_nothing_to_store_the_others_go_on_by_themselves_at_once() {
    type Made = fn(Gate) -> Act;
    for made in [Act::FailAfter as Made, Act::PanicAfter, Act::AnswerAfter] {
        let (store, gate, others) = (LocalStore::new(), Gate::new(), Gate::new());
        let all = [1, 2, 3].map(|number| set_up(&store, number, |layer| layer.admit(|_, number| *number != 10)));
        let [one, two, three] = &all;
        let reader = begin(one, made(gate.clone())).await;
        let waiting = [crowd(&two.service, "a", 3).await, crowd(&three.service, "a", 3).await];
        assert_eq!(runs(&all), 1);
        two.origin.always(Act::AnswerAfter(others.clone()));
        three.origin.always(Act::AnswerAfter(others.clone()));
        gate.open();
        idle().await;
        assert_eq!(runs(&all), 3, "none waits for a second one");
        others.open();
        // What becomes of the one who leads is none of the others' business.
        drop(reader);
        for crowd in waiting {
            assert!(answers(crowd).await.iter().all(|answer| *answer >= 20));
        }
    }
}

#[tokio::test(start_paused = true)] // P11
async fn where_one_instance_s_run_is_given_up_another_one_runs_at_once() {
    let store = LocalStore::new();
    let cache = Cache::builder().max_refreshes(0).store(store.clone()).build_for(Number);
    let (one, two) = (over(&cache, 1, |layer| layer), set_up(&store, 2, |layer| layer));
    let reader = begin(&one, Act::Hang).await;
    let waiting = crowd(&two.service, "a", 3).await;
    drop(reader);
    idle().await;
    assert_eq!((answers(waiting).await, one.stats().runs_abandoned), (vec![20; 3], 1));
}

#[tokio::test(start_paused = true)] // P11
async fn who_waits_for_another_instance_and_leaves_is_waited_for_by_nobody() {
    let store = LocalStore::new();
    let (one, gate) = (set_up(&store, 1, |layer| layer), Gate::new());
    let cache = Cache::builder().max_refreshes(0).store(store.clone()).build_for(Number);
    let two = over(&cache, 2, |layer| layer);
    let reader = begin(&one, Act::AnswerAfter(gate.clone())).await;
    let waiting = crowd(&two.service, "a", 1).await;
    drop(waiting);
    idle().await;
    assert_eq!((two.stats().runs, two.stats().runs_abandoned), (0, 1));
    gate.open();
    assert_eq!((answers(reader).await, two.get("a").await), (vec![10], 10));
    assert_eq!(two.origin.runs(), 0);
}

#[tokio::test(start_paused = true)] // P15
async fn those_who_go_by_themselves_wait_for_nobody() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let cache = Cache::builder().store(store.clone()).build();
    let mine = [("set-cookie", "me=1")];
    let origin = crate::support::http::Origin::with_fields(&mine);
    let app = origin.behind(cache.layer(secs(60)));
    // The first who asks leads; all others go by themselves when that turns out to be personal, and all who come later.
    origin.only_the_first(0);
    let mut clients = crate::support::http::Clients::new();
    for _ in 0..10 {
        clients.get(&app, "http://a/", &[]).await;
    }
    assert_eq!(origin.runs(), 1);
    origin.only_the_first(1);
    origin.begun(10).await;
    for _ in 0..10 {
        clients.get(&app, "http://a/", &[]).await;
    }
    origin.begun(20).await;
    origin.release();
    assert_eq!(clients.answers().await.len(), 20);
    gate.open();
}

// ## How long one waits for another instance

#[tokio::test(start_paused = true)] // P13
async fn nobody_waits_for_another_instance_for_longer_than_for_a_run_here() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| set_up(&store, number, |layer| layer.wait_timeout(secs(2))));
    let _reader = begin(&one, Act::Hang).await;
    let waiting = crowd(&two.service, "a", 3).await;
    pass(secs(1)).await;
    let late = crowd(&two.service, "a", 1).await;
    assert_eq!(two.origin.runs(), 0);
    pass(millis(1_001)).await;
    assert!((1..=2).contains(&two.origin.runs()), "{} runs", two.origin.runs());
    for crowd in [waiting, late] {
        answers(crowd).await;
    }
    two.cache.settled().await;
    assert_eq!(Instance::of(&store).get("a").await / 10, 2, "a hung run keeps nobody from saving");
}

#[tokio::test(start_paused = true)] // P13, P70
async fn a_run_that_hangs_is_waited_for_once() {
    let store = LocalStore::new();
    let [one, two, three] = [1, 2, 3].map(|number| set_up(&store, number, |layer| layer.wait_timeout(secs(2))));
    let _reader = begin(&one, Act::Hang).await;
    assert_eq!(in_time(millis(2_001), ask(&two.service, "a")).await.unwrap(), 20);
    two.cache.settled().await;
    // When that is over as well the first run hangs still.
    pass(secs(200)).await;
    assert_eq!(at_once(ask(&three.service, "a")).await.unwrap(), 30);
    three.cache.settled().await;
    assert_eq!(one.origin.under_way(), 1);
}

#[tokio::test(start_paused = true)] // P13
async fn one_who_has_waited_for_a_run_here_that_waited_elsewhere_does_not_wait_there_again() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| set_up(&store, number, |layer| layer.wait_timeout(secs(2))));
    let _reader = begin(&one, Act::Hang).await;
    two.origin.next_time(Act::Hang);
    let leads = crowd(&two.service, "a", 1).await;
    let follows = crowd(&two.service, "a", 1).await;
    pass(millis(2_001)).await;
    assert_eq!((two.origin.runs(), answers(follows).await), (2, vec![21]));
    drop(leads);
}

#[tokio::test(start_paused = true)] // P6
async fn a_reader_of_what_is_too_stale_waits_for_another_instance_no_longer_than_for_a_run_here() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| set_up(&store, number, |layer| layer.soft_timeout(secs(1))));
    one.get("a").await;
    two.get("a").await;
    pass(secs(100)).await;
    let gate = Gate::new();
    let reader = begin(&one, Act::AnswerAfter(gate.clone())).await;
    assert_eq!(in_time(millis(1_001), ask(&two.service, "a")).await.unwrap(), 10);
    gate.open();
    assert_eq!(answers(reader).await, [10]);
    two.cache.settled().await;
    assert_eq!((two.get("a").await, two.origin.runs()), (11, 0), "it went on waiting behind the reader");
}

#[tokio::test(start_paused = true)] // P13
async fn a_background_run_that_waits_for_another_instance_is_over_at_its_deadline() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| set_up(&store, number, |layer| layer.refresh_timeout(secs(5))));
    one.get("a").await;
    two.get("a").await;
    pass(secs(40)).await;
    one.origin.always(Act::Hang);
    assert_eq!(at_once(ask(&one.service, "a")).await.unwrap(), 10);
    idle().await;
    pass(secs(1)).await;
    assert_eq!(at_once(ask(&two.service, "a")).await.unwrap(), 10);
    idle().await;
    assert_eq!((two.stats().refreshes, two.origin.runs()), (1, 0));
    // The other one's deadline comes first, and with it the end of its lease.
    pass(secs(4)).await;
    assert_eq!((one.stats().runs_timed_out, two.origin.runs()), (1, 1));
    two.cache.settled().await;
    assert_eq!((two.stats().refreshes, two.get("a").await), (0, 20));
}

// ## What one has invalidated

#[tokio::test(start_paused = true)] // P34, P72
async fn what_one_instance_purges_is_gone_from_the_memory_of_all() {
    let tagged = |layer: TypedLayer| layer.tags_by(|_, _| Tags::new(["t"]));
    for scope in [Scope::from(&a()), Scope::tag("t"), Scope::everything()] {
        let store = LocalStore::new();
        let [one, two] = [1, 2].map(|number| set_up(&store, number, tagged));
        assert_eq!((one.get("a").await, two.get("a").await), (10, 10));
        two.cache.purge(scope.clone()).await.unwrap();
        assert_eq!((one.cache.peek(a()).len(), one.get("a").await, two.get("a").await), (0, 11, 11), "{scope:?}");
        assert_eq!(one.stats().purges, 1);
    }
}

#[tokio::test(start_paused = true)] // P34, P70, P72
async fn what_one_instance_expires_all_serve_stale_at_once_and_one_refreshes_it() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let all = three_that_know(&store).await;
    pass(secs(1)).await;
    all[1].cache.expire(a()).await.unwrap();
    for each in &all {
        each.origin.always(Act::AnswerAfter(gate.clone()));
        assert_eq!(at_once(ask(&each.service, "a")).await.unwrap(), 10);
    }
    idle().await;
    assert_eq!(runs(&all), 2);
    gate.open();
    all_settled(&all).await;
    let new = all[0].get("a").await;
    assert_ne!(new, 10);
    for each in &all {
        assert_eq!(each.get("a").await, new);
    }
    assert_eq!(runs(&all), 2);
}

#[tokio::test(start_paused = true)] // P30, P31, P71
async fn a_run_that_another_instance_has_invalidated_is_stored_nowhere_also_by_a_tag_that_its_response_alone_names() {
    let tagged = |layer: TypedLayer| layer.tags_by(|_, _| Tags::new(["t"]));
    for (scope, purge) in [
        (Scope::from(&a()), true),
        (Scope::from(&a()), false),
        (Scope::tag("t"), true),
        (Scope::tag("t"), false),
        (Scope::everything(), true),
    ] {
        for is_cut in [false, true] {
            let (store, gate) = (LocalStore::new(), Gate::new());
            let [one, two] = [1, 2].map(|number| set_up(&store, number, tagged));
            let reader = begin(&one, Act::AnswerAfter(gate.clone())).await;
            store.cut(is_cut);
            if purge {
                two.cache.purge(scope.clone()).await.unwrap();
            } else {
                two.cache.expire(scope.clone()).await.unwrap();
            }
            gate.open();
            assert_eq!(answers(reader).await, [10], "who waits for it already may have it");
            one.cache.settled().await;
            assert_eq!((store.records(), one.cache.peek(a()).len()), (0, 0), "{scope:?}");
            assert_eq!(one.get("a").await, 11);
        }
    }
}

#[tokio::test(start_paused = true)] // P30
async fn who_asks_after_an_invalidation_does_not_wait_for_another_instance_s_run_from_before_it() {
    let store = LocalStore::new();
    let [one, two, three] = [1, 2, 3].map(|number| set_up(&store, number, |layer| layer));
    let _reader = begin(&one, Act::Hang).await;
    two.cache.purge(a()).await.unwrap();
    assert_eq!(at_once(ask(&two.service, "a")).await.unwrap(), 20);
    two.cache.settled().await;
    for each in [&three, &one] {
        assert_eq!(at_once(ask(&each.service, "a")).await.unwrap(), 20);
    }
}

#[tokio::test(start_paused = true)] // P30, P70
async fn of_those_who_wait_for_a_run_that_is_invalidated_one_runs() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let all = instances(&store, 8);
    let _reader = begin(&all[0], Act::Hang).await;
    let mut crowds = Vec::new();
    for each in &all[1..] {
        each.origin.always(Act::AnswerAfter(gate.clone()));
        crowds.push(crowd(&each.service, "a", 2).await);
    }
    all[7].cache.purge(a()).await.unwrap();
    idle().await;
    assert_eq!(runs(&all), 2);
    gate.open();
    for crowd in crowds {
        assert_eq!(answers(crowd).await.len(), 2);
    }
}

// ## When messages are lost

#[tokio::test(start_paused = true)] // P72
async fn what_may_have_been_invalidated_unheard_is_asked_for_and_runs_only_if_it_was() {
    let store = LocalStore::new();
    let [one, two, three] = three_that_know(&store).await;
    assert_eq!(one.get("b").await, 11);
    assert_eq!(two.get("b").await, 11);
    store.cut(true);
    three.cache.purge(a()).await.unwrap();
    assert_eq!(two.get("a").await, 10, "nobody knows yet that something was missed");
    store.cut(false);
    let before = store.operations();
    assert_eq!((two.get("b").await, two.origin.runs()), (11, 0));
    assert_eq!(store.operations(), before + 1, "it looked");
    assert_eq!((two.get("b").await, store.operations()), (11, before + 1), "once");
    assert_eq!((two.get("a").await, one.get("a").await, three.get("a").await), (20, 20, 20));
}

#[tokio::test(start_paused = true)] // P72
async fn what_may_have_been_invalidated_unheard_is_served_to_nobody_in_any_way() {
    let store = LocalStore::new();
    let [one, two, _] = three_that_know(&store).await;
    store.cut(true);
    one.cache.purge(a()).await.unwrap();
    store.cut(false);
    // Not in place of a failure, nor of what takes too long.
    two.origin.always(Act::Fail);
    assert!(ask(&two.service, "a").await.is_err());
    two.origin.always(Act::Answer);
    assert_eq!(two.get("a").await, 21);
}

#[tokio::test(start_paused = true)] // P40, P47, P48, P72
async fn one_who_leads_no_run_asks_too_and_is_answered() {
    use crate::support::http::{Origin, get, get_with, request, send};
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Cache::builder().store(store.clone()).build());
    let origin = Origin::counting();
    let app = origin.behind(one.layer(secs(60)).honor_request_directives());
    get(&app, "http://a/").await;
    one.settled().await;
    let requests: [(_, &[(&str, &str)]); 4] = [
        ("HEAD", &[]),
        ("GET", &[("range", "bytes=0-0")]),
        ("GET", &[("cache-control", "only-if-cached")]),
        ("GET", &[("cache-control", "no-store")]),
    ];
    for (method, fields) in requests {
        store.cut(false);
        for said in ["hit; ttl=60; detail=store", "hit; ttl=60"] {
            assert_eq!(send(&app, request(method, "http://a/", fields)).await.said(), said, "{method} {fields:?}");
        }
    }
    assert_eq!(origin.runs(), 1);
    for (method, fields) in requests {
        let before = get(&app, "http://a/").await.text().to_owned();
        one.settled().await;
        store.cut(true);
        two.purge(Scope::everything()).await.unwrap();
        store.cut(false);
        assert!(
            !send(&app, request(method, "http://a/", fields)).await.said().starts_with("hit"),
            "{method} {fields:?}"
        );
        assert_ne!(get_with(&app, "http://a/", &[]).await.text(), before);
        one.settled().await;
    }
}

#[tokio::test(start_paused = true)] // P74
async fn where_the_store_cannot_be_asked_memory_serves_for_itself() {
    for slow in [false, true] {
        let store = LocalStore::new();
        let all = three_that_know(&store).await;
        store.cut(true);
        store.cut(false);
        if slow {
            store.delay(secs(3_600));
        } else {
            store.fail(true);
        }
        for each in &all {
            assert_eq!(in_time(millis(101), ask(&each.service, "a")).await.unwrap(), 10);
            assert_eq!(at_once(ask(&each.service, "a")).await.unwrap(), 10, "the store rests");
            assert_eq!(each.stats().store_failures, 1);
        }
        assert_eq!(runs(&all), 1);
        pass(secs(1)).await;
        store.delay(Duration::ZERO);
        store.fail(false);
        let before = store.operations();
        for each in &all {
            assert_eq!(each.get("a").await, 10);
        }
        assert_eq!((runs(&all), store.operations()), (1, before + 3), "each asks again");
    }
}

#[tokio::test(start_paused = true)] // P49, P95
async fn what_memory_serves_for_itself_is_not_said_to_come_from_the_store() {
    let store = LocalStore::new();
    let (seen, told) = tokio::sync::mpsc::unbounded_channel();
    let mut told = told;
    let one = set_up(&store, 1, |layer| layer.on_outcome(move |_, outcome| seen.send(outcome.to_string()).unwrap()));
    one.get("a").await;
    store.cut(false);
    one.get("a").await;
    store.cut(false);
    store.fail(true);
    one.get("a").await;
    let said: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    assert_eq!(said, ["fwd=uri-miss; stored", "hit; ttl=30; detail=store", "hit; ttl=30"]);
}

// ## What the store could not be told

#[tokio::test(start_paused = true)] // P31, P72, P74
async fn what_the_store_could_not_be_told_it_is_told_before_it_is_asked_again() {
    for how_many in [1, 256, 257, 600] {
        let store = LocalStore::new();
        let [one, two, _] = three_that_know(&store).await;
        store.fail(true);
        assert_eq!(two.cache.purge(a()).await.unwrap_err().kind(), ErrorKind::Store);
        for other in 1..how_many {
            two.cache.expire(Key::from(other.to_string())).await.unwrap_err();
        }
        store.fail(false);
        pass(secs(1)).await;
        assert_eq!((store.records(), two.get("a").await), (1, 20), "the store holds what was purged");
        // The others have heard of it. Of so many it was said that they are all over, and not each of them how.
        assert_eq!((one.get("a").await, one.get("a").await), (if how_many > 256 { 10 } else { 20 }, 20));
    }
}

#[tokio::test(start_paused = true)] // P36, P74
async fn what_a_post_has_changed_is_owed_too() {
    use crate::support::http::{Origin, get, request, send};
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Cache::builder().store(store.clone()).build());
    let origin = Origin::counting();
    let [first, second] = [&one, &two].map(|cache| origin.behind(cache.layer(secs(60))));
    assert_eq!(get(&first, "http://a/page").await.text(), "1");
    one.settled().await;
    assert_eq!(get(&second, "http://a/page").await.text(), "1");
    store.delay(secs(3_600));
    in_time(millis(101), send(&second, request("POST", "http://a/page", &[]))).await;
    two.settled().await;
    assert_eq!(store.records(), 1, "it is not told yet");
    store.delay(Duration::ZERO);
    assert_eq!(get(&second, "http://a/page").await.text(), "3");
    two.settled().await;
    assert_eq!(get(&first, "http://a/page").await.text(), "3");
}

#[tokio::test(start_paused = true)] // P72
async fn what_one_who_lost_patience_has_begun_to_purge_is_owed() {
    let store = LocalStore::new();
    let [_, two, _] = three_that_know(&store).await;
    store.delay(secs(3_600));
    let purge = two.cache.purge(a());
    assert!(tokio::time::timeout(secs(1), purge).await.is_err());
    store.delay(Duration::ZERO);
    assert_eq!(two.get("a").await, 20);
}

#[tokio::test(start_paused = true)] // P30, P72
async fn what_was_found_while_one_who_lost_patience_was_purging_is_gone_as_well() {
    let store = LocalStore::new();
    let [_, two, _] = three_that_know(&store).await;
    store.delay(secs(3_600));
    let mut purge = Box::pin(two.cache.purge(a()));
    assert!(tokio::time::timeout(millis(1), &mut purge).await.is_err());
    store.delay(Duration::ZERO);
    assert_eq!(two.get("a").await, 10, "the store is being told");
    drop(purge);
    assert_eq!(two.get("a").await, 20);
}

#[tokio::test(start_paused = true)] // P36, P74
async fn who_has_posted_does_not_read_what_was_there_before_though_the_store_is_slow_to_be_told() {
    use crate::support::http::{Origin, get, request, send};
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Cache::builder().store(store.clone()).build());
    let origin = Origin::counting();
    let [first, second] = [&one, &two].map(|cache| origin.behind(cache.layer(secs(60))));
    assert_eq!(get(&first, "http://a/page").await.text(), "1");
    one.settled().await;
    store.delay(secs(2));
    in_time(millis(101), send(&second, request("POST", "http://a/page", &[]))).await;
    store.delay(Duration::ZERO);
    assert_eq!(get(&second, "http://a/page").await.text(), "3");
    // What it was told late it was told; nothing is owed.
    two.settled().await;
    let before = store.operations();
    assert_eq!(get(&second, "http://a/page").await.text(), "4");
    two.settled().await;
    assert_eq!(store.operations() - before, 3, "it looked, it claimed, and it saved");
}

#[tokio::test(start_paused = true)] // P74
async fn much_that_is_owed_is_told_at_once_and_by_one_of_those_who_ask() {
    let store = LocalStore::new();
    let [_, two, _] = three_that_know(&store).await;
    store.fail(true);
    for other in 0..200 {
        two.cache.purge(Key::from(other.to_string())).await.unwrap_err();
    }
    store.fail(false);
    store.delay(millis(10));
    let before = store.operations();
    let mut all = tokio::task::JoinSet::new();
    for key in ["b", "c", "d", "e"] {
        all.spawn(ask(&two.service, key));
    }
    assert_eq!(in_time(millis(101), all.join_all()).await.len(), 4);
    two.cache.settled().await;
    assert_eq!((store.operations() - before, store.records()), (200 + 4 * 3, 1 + 4));
}

#[tokio::test(start_paused = true)] // P74
async fn a_store_that_is_too_slow_to_be_told_costs_one_request_its_time_and_rests() {
    let store = LocalStore::new();
    let [_, two, _] = three_that_know(&store).await;
    store.delay(secs(3_600));
    two.cache.purge(a()).await.unwrap_err();
    two.cache.purge(Key::from("b")).await.unwrap_err();
    in_time(millis(101), ask(&two.service, "a")).await.unwrap();
    for key in ["b", "c", "d"] {
        at_once(ask(&two.service, key)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_several_times_is_owed_once() {
    let store = LocalStore::new();
    let [one, two, _] = three_that_know(&store).await;
    assert_eq!((one.get("b").await, two.get("b").await), (11, 11));
    store.fail(true);
    for _ in 0..600 {
        two.cache.purge(a()).await.unwrap_err();
    }
    store.fail(false);
    assert_eq!(two.get("a").await, 20);
    assert_eq!(store.records(), 2, "what nobody has invalidated is still there");
}

// ## One budget

#[tokio::test(start_paused = true)] // P74
async fn all_that_a_request_asks_of_the_store_takes_a_tenth_of_a_second_together() {
    for delay in [10, 30, 45, 60, 99, 101] {
        let store = LocalStore::new();
        let [one, two, three] = three_that_know(&store).await;
        store.cut(false);
        store.delay(millis(delay));
        in_time(millis(101), ask(&one.service, "a")).await.unwrap();
        in_time(millis(101), ask(&two.service, "b")).await.unwrap();
        // It has something to tell as well.
        let purge = two.cache.purge(a());
        let _unconfirmed = tokio::time::timeout(millis(1), purge).await;
        in_time(millis(101), ask(&two.service, "c")).await.unwrap();
        in_time(millis(101), three.service.refresh(Get("a"))).await.unwrap();
    }
}

// ## Put

#[tokio::test(start_paused = true)] // P33
async fn what_is_put_on_one_instance_all_have_at_their_next_read() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let [one, two, three] = three_that_know(&store).await;
    three.origin.always(Act::AnswerAfter(gate.clone()));
    let forced = tokio::spawn(three.service.refresh(Get("a")));
    idle().await;
    one.service.put(Get("a"), 99).await.unwrap();
    for each in [&one, &two] {
        assert_eq!(at_once(ask(&each.service, "a")).await.unwrap(), 99);
    }
    gate.open();
    assert_eq!(forced.await.unwrap().unwrap(), 30);
    three.cache.settled().await;
    assert_eq!((three.get("a").await, one.get("a").await, two.get("a").await), (99, 99, 99));
}

// ## Drain

#[tokio::test(start_paused = true)] // P27, P70
async fn a_drain_gives_leases_back_and_one_other_instance_takes_over_at_once() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let all = instances(&store, 4);
    let _reader = begin(&all[0], Act::Hang).await;
    let mut crowds = Vec::new();
    for each in &all[1..] {
        each.origin.always(Act::AnswerAfter(gate.clone()));
        crowds.push(crowd(&each.service, "a", 2).await);
    }
    at_once(all[0].cache.drain(Duration::ZERO)).await;
    idle().await;
    assert_eq!(runs(&all), 2);
    gate.open();
    for crowd in crowds {
        assert_eq!(answers(crowd).await, [20; 2]);
    }
}

#[tokio::test(start_paused = true)] // P27, P72
async fn a_drain_tells_the_store_what_it_could_not_be_told_before() {
    let store = LocalStore::new();
    let [one, two, _] = three_that_know(&store).await;
    store.fail(true);
    two.cache.purge(a()).await.unwrap_err();
    assert!(two.cache.drain(secs(1)).await, "in vain");
    store.fail(false);
    assert!(two.cache.drain(secs(1)).await);
    assert_eq!((store.records(), one.get("a").await), (0, 11));
    // One that does not answer is waited for no longer than it may take.
    store.delay(secs(3_600));
    one.cache.purge(a()).await.unwrap_err();
    assert!(!in_time(millis(1_101), one.cache.drain(secs(1))).await);
}

// ## What is left behind

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_dropped_leaves_nothing_behind() {
    let (store, alive) = (LocalStore::new(), std::sync::Arc::new(()));
    let held = std::sync::Arc::clone(&alive);
    let one = set_up(&store, 1, |layer| layer.weigh(move |_| std::mem::size_of_val(&held)));
    let other = set_up(&store, 2, |layer| layer);
    one.get("a").await;
    pass(secs(40)).await;
    one.get("a").await;
    one.cache.purge(a()).await.unwrap();
    let mut pending = begin(&one, Act::Hang).await;
    pending.shutdown().await;
    drop(one);
    pass(secs(61)).await;
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    assert_eq!(at_once(ask(&other.service, "a")).await.unwrap(), 20);
}

#[tokio::test(start_paused = true)] // P33
async fn what_may_not_be_put_takes_nothing_away_from_others() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| set_up(&store, number, |layer| layer));
    assert_eq!((two.get("a").await, one.get("a").await), (20, 20));
    let large = layer().freshness(freshness()).weigh(|_| 1 << 40).over_cache(&one.cache);
    large.put(Get("a"), 99).await.unwrap_err();
    assert_eq!((store.records(), two.cache.peek(a()).len()), (1, 1));
}

#[tokio::test(start_paused = true)] // P25, P74
async fn what_is_newer_here_than_in_the_store_stays_when_that_is_back() {
    let store = LocalStore::new();
    let one = set_up(&store, 1, |layer| layer);
    assert_eq!(one.get("a").await, 10);
    pass(secs(5)).await;
    store.fail(true);
    assert_eq!(one.service.refresh(Get("a")).await.unwrap(), 11);
    one.cache.settled().await;
    store.fail(false);
    pass(secs(1)).await;
    store.cut(false);
    assert_eq!((one.get("a").await, one.origin.runs()), (11, 2));
    // But not if it was invalidated meanwhile.
    pass(secs(5)).await;
    store.fail(true);
    assert_eq!(one.service.refresh(Get("a")).await.unwrap(), 12);
    one.cache.settled().await;
    store.fail(false);
    pass(secs(1)).await;
    store.cut(true);
    set_up(&store, 2, |layer| layer).cache.purge(a()).await.unwrap();
    store.cut(false);
    assert_eq!(one.get("a").await, 13);
}
