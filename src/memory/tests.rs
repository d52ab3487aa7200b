//! What memory keeps, lets go of, and weighs.

use std::sync::Arc;

use super::*;
use crate::{
    clock,
    entry::{Early, Generation},
    freshness::Freshness,
    judgement::Judgement,
    slot::Admission,
    tags::Tags,
};

fn store(memory: &Memory<()>, key: &Key, run: u64, weight: usize, tag: &str) {
    let mut judged = Judgement::storable(Freshness::from(std::time::Duration::from_secs(60)));
    judged.tags = Tags::new([tag]);
    let now = clock::now();
    let entry = Arc::new(Entry {
        value: (),
        started: now,
        early: Early::default(),
        run,
        judged,
        variant: None,
        weight,
        generation: Generation::default(),
        refreshing: Default::default(),
    });
    assert_eq!(memory.update(key, now, |slot| slot.admit(entry, None, 16)), Admission::Stored);
}

#[test]
fn what_is_evicted_leaves_no_posting_behind() {
    let memory = Memory::new(1 << 20, Arc::default());
    let keys: Vec<_> = (0..5_000).map(|n| Key::from(n.to_string())).collect();
    (1..).zip(&keys).for_each(|(run, key)| store(&memory, key, run, 1_000, "t"));
    let (bytes, kept) = memory.usage();
    assert!(bytes <= 1 << 20 && kept > 100, "{bytes} bytes, {kept} keys");
    assert_eq!(memory.index.candidates(&Scope::tag("t")).map(|keys| keys.len()), Some(kept));
    assert_eq!(memory.invalidate(&Scope::tag("t"), Force::Purge, clock::now()), kept);
    assert!(memory.index.is_empty());
    assert_eq!(memory.usage(), (0, 0));
}

#[test] // P95
#[cfg(feature = "tracing")]
fn what_is_evicted_is_told_under_no_lock() {
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
    struct Try(Arc<Memory<()>>, Arc<AtomicU64>);
    impl<S: tracing::Subscriber> Layer<S> for Try {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            assert!(self.0.stripes.iter().all(|stripe| stripe.try_lock().is_ok()), "nobody writes meanwhile");
            self.1.fetch_add(1, Relaxed);
        }
    }
    let (memory, told) = (Arc::new(Memory::new(1 << 20, Arc::default())), Arc::default());
    let subscriber = tracing_subscriber::registry().with(Try(Arc::clone(&memory), Arc::clone(&told)));
    tracing::subscriber::with_default(subscriber, || {
        (1..100).for_each(|run| store(&memory, &Key::from(run.to_string()), run, 100_000, "t"));
    });
    assert!(told.load(Relaxed) > 0);
}

#[test]
fn a_tag_that_an_entry_no_longer_carries_does_not_reach_it() {
    let memory = Memory::new(1 << 20, Arc::default());
    let key = Key::from("k");
    store(&memory, &key, 1, 1, "old");
    store(&memory, &key, 2, 1, "new");
    assert_eq!(memory.invalidate(&Scope::tag("old"), Force::Purge, clock::now()), 0);
    assert_eq!(memory.invalidate(&Scope::tag("new"), Force::Purge, clock::now()), 1);
    assert!(memory.index.is_empty());
}

#[test]
fn what_is_too_heavy_for_memory_is_not_kept_and_leaves_nothing_behind() {
    let memory = Memory::new(1 << 20, Arc::default());
    store(&memory, &Key::from("k"), 1, 2 << 20, "t");
    assert_eq!(memory.usage(), (0, 0));
    assert!(memory.index.is_empty());
    let nothing = Memory::new(0, Arc::default());
    store(&nothing, &Key::from("k"), 1, 1, "t");
    assert_eq!(nothing.usage(), (0, 0));
}

#[test] // P63
fn a_key_is_kept_once_however_often_its_slot_is_written() {
    let memory = Memory::new(1 << 20, Arc::default());
    let long = "k".repeat(100_000);
    let write = || store(&memory, &Key::from(long.as_str()), 1, 1, "t");
    let first = allocation_counter::measure(write).bytes_current;
    let again = allocation_counter::measure(write).bytes_current;
    assert!((100_000..110_000).contains(&first) && again.abs() < 1_000, "{first}, then {again} more");
}

#[test] // P61
fn every_memory_hashes_with_a_seed_of_its_own() {
    let hash = || Memory::<()>::new(1 << 20, Arc::default()).hasher.hash_one(Key::from("k"));
    assert_ne!(hash(), hash());
}

#[test]
fn writers_of_one_key_never_lose_each_others_work() {
    let memory = Memory::<()>::new(1 << 20, Arc::default());
    let key = Key::from("k");
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (memory, key) = (&memory, &key);
            scope.spawn(move || {
                for n in 0..250 {
                    let field = Box::from(format!("{thread}-{n}"));
                    memory.update(key, clock::now(), |slot| slot.learn(Some(&Arc::new([field].into()))));
                }
            });
        }
    });
    let slot = memory.get(crate::key::bytes(&key)).expect("it is there");
    assert_eq!(slot.fields.as_ref().map(|fields| fields.len()), Some(1_000));
}

#[test] // P31
fn what_is_evicted_while_it_is_rewritten_is_reached_by_a_purge_all_the_same() {
    for scope in [Scope::from(Key::from("k")), Scope::tag("t"), Scope::everything()] {
        let memory = Memory::<()>::new(64 << 10, Arc::default());
        let key = Key::from("k");
        // When memory is full, what comes anew is the first to go.
        (0..100).for_each(|n| store(&memory, &Key::from(format!("old {n}")), 1, 1_000, "other"));
        store(&memory, &key, 1, 1_000, "t");
        let stripe = |key: &Key| (memory.hasher.hash_one(key) >> 56) as usize % memory.stripes.len();
        std::thread::scope(|threads| {
            memory.update(&key, clock::now(), |_| {
                // Its place goes to others, and then it is purged, before it is written again.
                let others = (0..).map(|n: u32| Key::from(n.to_string())).filter(|k| stripe(k) != stripe(&key));
                for (run, other) in (2..1_000).zip(others) {
                    if memory.engine.peek(crate::key::bytes(&key)).is_none() {
                        break;
                    }
                    store(&memory, &other, run, 1_000, "other");
                }
                let purge = threads.spawn(|| memory.invalidate(&scope, Force::Purge, clock::now()));
                for _ in 0..100_000 {
                    if purge.is_finished() {
                        break;
                    }
                    std::thread::yield_now();
                }
            });
        });
        let left = memory.get(crate::key::bytes(&key)).map_or(0, |slot| slot.variants.len());
        assert_eq!(left, 0, "{scope:?}");
    }
}

#[test] // P34
fn purging_one_query_leaves_the_others_alone() {
    let memory = Memory::<()>::new(1 << 20, Arc::default());
    let key = |query: &str| {
        let mut key = crate::key::KeyBuf::default();
        key.uri(crate::key::UriParts { path: b"/", query: Some(query.as_bytes()), authority: None }, None);
        key.to_key()
    };
    store(&memory, &key("a"), 1, 1, "t");
    store(&memory, &key("b"), 2, 1, "t");
    let before = memory.get(crate::key::bytes(&key("b"))).map(|slot| slot.serial);
    assert_eq!(memory.invalidate(&Scope::uri("/?a").unwrap(), Force::Purge, clock::now()), 1);
    assert_eq!(memory.get(crate::key::bytes(&key("b"))).map(|slot| slot.serial), before, "not written again");
}

#[test] // P44
fn variants_that_are_too_heavy_together_make_room_one_by_one() {
    let memory = Memory::<()>::new(1 << 20, Arc::default());
    let key = Key::from("k");
    let now = clock::now();
    for run in 1..=8 {
        let mut judged = Judgement::storable(Freshness::from(std::time::Duration::from_secs(60)));
        judged.fields = Some(Arc::new([Box::from("accept")].into()));
        let variant = Some(Arc::new(run.to_string().as_bytes().into()));
        let entry = Arc::new(Entry {
            value: (),
            started: now,
            early: Early::default(),
            run,
            judged,
            variant,
            weight: 300_000,
            generation: Generation::default(),
            refreshing: Default::default(),
        });
        memory.update(&key, now, |slot| slot.admit(entry, None, 16));
        let kept = memory.get(crate::key::bytes(&key)).map_or(0, |slot| slot.variants.len());
        assert_eq!(kept as u64, run.min(3), "after run {run}");
    }
}
