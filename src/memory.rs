//! The in-process tier: what is stored by key, within a number of bytes.
//!
//! A read takes the engine's shard lock and nothing else. A write replaces a slot whole, under one of a set of striped
//! locks, so that two writers of one key never lose each other's work; the index of paths and tags follows each write.
//!
//! The engine is `quick_cache`. Measured on two shared cores (60-byte keys looked up by a borrow, 10,000 keys in zipf
//! order, 64 MiB; medians of four runs):
//!
//! | engine | hit, ns | two threads, ns | insert when full, ns | hot set kept in a flood of one-time keys (10 : 1) |
//! |---|--:|--:|--:|--:|
//! | quick_cache 0.7 | 50 | 67 | 383 | 0.96 |
//! | sharded map with SIEVE, written for the comparison | 52 | 73 | 445 | 0.95 |
//! | sharded map with S3-FIFO, written for the comparison | 51 | 73 | 596 | 0.98 |
//! | foyer-memory 0.22, S3-FIFO | 130 | 252 | 871 | 0.98 |
//! | moka 0.12 | 323 | 441 | 2,109 | 0.84 |
//!
//! Two of its habits shape this file. It refuses what is heavier than a shard, so the number of shards follows from the
//! capacity and not from the number of processors. And it drops evicted values under its lock unless a lifecycle takes
//! them, so ours does.

use std::{borrow::Borrow, sync::Arc};

use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache as Engine};

use crate::{
    clock::Instant,
    entry::Entry,
    index::Index,
    key::Key,
    scope::Force,
    scope::Scope,
    slot::Slot,
    sync::{
        self, Leaf, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    telemetry::{Event, Telemetry},
};

/// The capacity of one shard at least, in bytes: an entry may be nearly as heavy.
const SHARD: usize = 8 << 20;
/// What part of a shard a slot may take: the engine admits none that is heavier than its share for what is read often.
const HOT: f64 = 0.97;
/// What an entry weighs in the estimate of how many there will be. The engine remembers as many that it has evicted.
const TYPICAL: usize = 1_400;
/// What the memory of one that was evicted takes: it is taken off the capacity (see `PLACE_WEIGHT` in slot.rs).
const GHOST: usize = 120;

pub(crate) struct Memory<V> {
    engine: Leaf<Slots<V>>,
    index: Index,
    hasher: ahash::RandomState,
    stripes: Box<[Mutex<()>]>,
    serial: AtomicU64,
    telemetry: Arc<Telemetry>,
}

type Slots<V> = Engine<Key, Arc<Slot<V>>, Weigh, ahash::RandomState, Evict>;

/// What a write put out of memory.
pub(crate) struct Displaced<V> {
    /// The engine would not take the new version itself: it is too heavy.
    pub(crate) rejected: bool,
    _slots: Vec<Arc<Slot<V>>>,
    _evicted: Option<Evicted>,
}

/// How many responses were evicted: told when the writer has let go of its locks, for a subscriber is somebody else's code.
struct Evicted {
    entries: usize,
    telemetry: Arc<Telemetry>,
}

#[derive(Clone)]
struct Weigh;

/// Carries what is evicted out of the engine's lock.
#[derive(Clone)]
struct Evict;

impl<V> Memory<V> {
    /// Room for this many bytes.
    pub(crate) fn new(bytes: usize, telemetry: Arc<Telemetry>) -> Self {
        let shards = (bytes / SHARD).clamp(1, 128);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let ghosts = (bytes / TYPICAL).clamp(16, 1 << 24);
        let options = OptionsBuilder::new()
            .weight_capacity(bytes.saturating_sub(ghosts * GHOST) as u64)
            .estimated_items_capacity(ghosts)
            .ghost_allocation(1.0)
            .hot_allocation(HOT)
            .shards(shards)
            .build()
            .expect("capacity and estimate are given");
        let hasher = ahash::RandomState::new();
        Self {
            engine: Leaf::new(Engine::with_options(options, Weigh, hasher.clone(), Evict)),
            index: Index::new(),
            hasher,
            stripes: (0..sync::SHARDS).map(|_| Mutex::default()).collect(),
            serial: AtomicU64::new(0),
            telemetry,
        }
    }

    /// What is known of a key. It counts as a use.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Slot<V>>> {
        self.engine.get(key)
    }

    /// What is known of a key. It counts for nothing.
    pub(crate) fn peek(&self, key: &Key) -> Option<Arc<Slot<V>>> {
        self.engine.peek::<[u8]>(key.borrow())
    }

    /// Puts what `change` makes of a slot in its place: one step for all who write this key.
    pub(crate) fn update<T>(&self, key: &Key, now: Instant, change: impl FnOnce(&mut Slot<V>) -> T) -> T {
        self.replace(key, now, change).0
    }

    /// The same, for those who hold a lock: what was displaced is theirs to drop, once they have let go.
    pub(crate) fn replace<T>(
        &self,
        key: &Key,
        now: Instant,
        change: impl FnOnce(&mut Slot<V>) -> T,
    ) -> (T, Displaced<V>) {
        let _stripe = self.stripe(key);
        let mut displaced = Vec::new();
        let old = self.engine.peek::<[u8]>(key.borrow());
        let mut slot = old.as_deref().cloned().unwrap_or_else(|| Slot::new(key.clone()));
        slot.drop_past(now);
        let result = change(&mut slot);
        slot.lighten(self.heaviest());
        slot.serial = self.serial.fetch_add(1, Relaxed) + 1;
        let serial = slot.serial;
        if slot.is_idle() {
            self.engine.remove::<[u8]>(key.borrow());
        } else {
            // The slot's own key, not an equal one: it is kept once, and counted once.
            let key = slot.key.clone();
            slot.headings().for_each(|heading| self.index.insert(heading, &key, slot.serial));
            self.engine.insert_with_lifecycle(key, Arc::new(slot), &mut displaced);
        }
        let rejected = displaced.iter().any(|slot| slot.serial == serial);
        let entries = displaced.iter().filter(|slot| slot.key != *key).map(|slot| slot.variants.len()).sum();
        let evicted = (entries > 0).then(|| Evicted { entries, telemetry: Arc::clone(&self.telemetry) });
        displaced.extend(old);
        displaced.iter().for_each(|slot| self.forget(slot));
        (result, Displaced { rejected, _slots: displaced, _evicted: evicted })
    }

    /// Whether this entry is light enough to be kept, if need be as the only variant of its key.
    pub(crate) fn would_take(&self, key: &Key, entry: &Arc<Entry<V>>) -> bool {
        let mut slot = self.peek(key).as_deref().cloned().unwrap_or_else(|| Slot::new(key.clone()));
        slot.admit(Arc::clone(entry), None, 1);
        slot.weight() <= self.heaviest()
    }

    /// Expires or removes what a scope reaches: how many entries that were.
    pub(crate) fn invalidate(&self, scope: &Scope, force: Force, now: Instant) -> usize {
        let reached = |key| self.update(key, now, |slot| slot.invalidate(scope, force, now));
        self.candidates(scope).iter().map(reached).sum()
    }

    /// The keys that a scope may reach. A slot that is evicted while its next version is made is neither in the engine
    /// nor in the index for that time, so this waits until no writer is at work. One who begins later is waited for when
    /// its key is updated.
    pub(crate) fn candidates(&self, scope: &Scope) -> Vec<Key> {
        let _nobody_writes: Vec<_> = self.stripes.iter().map(lock).collect();
        self.index.candidates(scope).unwrap_or_else(|| self.engine.iter().map(|(key, _)| key).collect())
    }

    /// How many bytes are in use, and how many keys are known.
    pub(crate) fn usage(&self) -> (u64, usize) {
        (self.engine.weight(), self.engine.len())
    }

    /// What a slot may weigh.
    fn heaviest(&self) -> u64 {
        (self.engine.shard_capacity() as f64 * HOT) as u64
    }

    fn forget(&self, slot: &Slot<V>) {
        slot.headings().for_each(|heading| self.index.remove(heading, &slot.key, slot.serial));
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, ()> {
        let stripe = (self.hasher.hash_one(key) >> 56) as usize % self.stripes.len();
        lock(&self.stripes[stripe])
    }
}

fn lock(stripe: &Mutex<()>) -> MutexGuard<'_, ()> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Evicted {
    fn drop(&mut self) {
        self.telemetry.tell(Event::Evicted { entries: self.entries });
    }
}

impl<V> Weighter<Key, Arc<Slot<V>>> for Weigh {
    fn weight(&self, _: &Key, slot: &Arc<Slot<V>>) -> u64 {
        slot.weight()
    }
}

impl<V> Lifecycle<Key, Arc<Slot<V>>> for Evict {
    type RequestState = Vec<Arc<Slot<V>>>;

    fn on_evict(&self, evicted: &mut Self::RequestState, _: Key, slot: Arc<Slot<V>>) {
        evicted.push(slot);
    }
}

#[cfg(test)]
mod tests;
