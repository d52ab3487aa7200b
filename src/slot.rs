//! What is known of one key: its variants, the fields that select among them, a mark and a back-off.
//!
//! One record, one weight, one removal. A slot never changes once it is in memory: a writer makes the next version of
//! it, under the lock that the writers of its key share (see memory.rs). The methods here are that arithmetic, without
//! locks and without a clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use smallvec::{SmallVec, smallvec};

use crate::{
    clock::Instant,
    entry::{Entry, Fields, united},
    freshness::Verdict,
    index::Heading,
    key::Key,
    scope::{Force, Scope},
};

/// The first pause after a failed run; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What a place in the engine takes: 53 bytes in two tables, which double when they are full and never shrink. It is
/// counted as if they were grown for nothing but slots as light as can be, since they may have been, before what is heavier
/// came (measured: 54 to 119).
const PLACE_WEIGHT: usize = 200;
/// What reference counts take, before what they count.
const COUNTS: usize = 16;
/// What a shared list takes, before what it lists.
const LIST: usize = COUNTS + size_of::<Box<[u8]>>();

#[derive(Debug)]
pub(crate) struct Slot<V> {
    pub(crate) key: Key,
    /// Tells this version of the slot from the others.
    pub(crate) serial: u64,
    /// The newest comes first: of several that are selected it is the one to use (RFC 9111 §4.1).
    pub(crate) variants: SmallVec<[Kept<V>; 1]>,
    /// All fields that ever selected among the variants. They outlive the variants.
    pub(crate) fields: Option<Fields>,
    /// What most keys have nothing of.
    trouble: Option<Box<Trouble>>,
}

/// What the last runs for a key have left behind that stored nothing.
#[derive(Clone, Debug, Default)]
struct Trouble {
    /// Until when requests do not wait for one another.
    mark: Option<Instant>,
    /// After failed runs: until when no other one is tried while something stale can be served.
    back_off: Option<BackOff>,
    /// Until when no placeholder stands in: a run ended well, and what it brought could not be stored. It is to be seen.
    shown: Option<Instant>,
}

/// One variant.
#[derive(Debug)]
pub(crate) struct Kept<V> {
    pub(crate) entry: Arc<Entry<V>>,
    /// Expired by hand.
    pub(crate) expired: bool,
    /// When it was last used, on the clock of its slot. At its end that stands still until `admit` sets it back.
    used: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BackOff {
    failures: u32,
    pub(crate) until: Instant,
    /// Something stands in where nothing is stored: it counts there as well.
    stands_in: bool,
}

/// What became of an entry that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Stored,
    /// A run that started later was stored before.
    Superseded,
}

impl<V> Slot<V> {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, serial: 0, variants: SmallVec::new(), fields: None, trouble: None }
    }

    /// Whether nothing is known any more.
    pub(crate) fn is_idle(&self) -> bool {
        let is_known = |trouble: &Trouble| {
            let stands_in = trouble.back_off.is_some_and(|back_off| back_off.stands_in);
            trouble.mark.is_some() || trouble.shown.is_some() || stands_in
        };
        self.variants.is_empty() && self.fields.is_none() && !self.trouble.as_deref().is_some_and(is_known)
    }

    pub(crate) fn is_marked(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.mark.is_some_and(|until| now < until))
    }

    pub(crate) fn is_backing_off(&self, now: Instant) -> bool {
        self.back_off().is_some_and(|back_off| now < back_off.until)
    }

    pub(crate) fn is_shown(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.shown.is_some_and(|until| now < until))
    }

    fn back_off(&self) -> Option<BackOff> {
        self.trouble.as_ref()?.back_off
    }

    /// Takes in a new entry, in place of the one that it refreshes and of those that the same requests would select.
    pub(crate) fn admit(&mut self, entry: Arc<Entry<V>>, refreshed: Option<&Arc<Entry<V>>>, most: usize) -> Admission {
        if self.variants.iter().any(|kept| kept.is_newer_than(&entry) && kept.is_selected_with(&entry)) {
            return Admission::Superseded;
        }
        self.clear_for(&entry);
        self.variants.retain(|kept| refreshed.is_none_or(|old| !Arc::ptr_eq(old, &kept.entry)));
        if self.last_used() == u32::MAX {
            // Who was before whom is the same at half the time.
            self.variants.iter_mut().for_each(|kept| *kept.used.get_mut() /= 2);
        }
        while self.variants.len() >= most {
            self.drop_one();
        }
        self.settle(entry.judged.fields.as_ref());
        let used = AtomicU32::new(self.last_used() + 1);
        let at = self.variants.partition_point(|kept| kept.entry.run > entry.run);
        self.variants.insert(at, Kept { entry, expired: false, used });
        Admission::Stored
    }

    /// Holds this entry and no other.
    pub(crate) fn hold(&mut self, entry: Arc<Entry<V>>) {
        self.learn(entry.judged.fields.as_ref());
        self.variants = smallvec![Kept { entry, expired: false, used: AtomicU32::new(0) }];
    }

    /// Remembers nothing but what selects among the variants: a run went well.
    pub(crate) fn settle(&mut self, fields: Option<&Fields>) {
        self.learn(fields);
        self.trouble = None;
    }

    /// Lets go of what is older than this entry and selected by the same requests.
    pub(crate) fn clear_for(&mut self, entry: &Entry<V>) {
        self.variants.retain(|kept| kept.is_newer_than(entry) || !kept.is_selected_with(entry));
    }

    /// Makes the slot no heavier than this, as long as there is more than one variant.
    pub(crate) fn lighten(&mut self, most: u64) {
        while self.variants.len() > 1 && self.weight() > most {
            self.drop_one();
        }
    }

    /// When any of them was used last.
    fn last_used(&self) -> u32 {
        self.variants.iter().map(|kept| kept.used.load(Relaxed)).max().unwrap_or(0)
    }

    /// Lets go of the variant that was unused for longest.
    fn drop_one(&mut self) {
        let oldest = self.variants.iter().enumerate().min_by_key(|(_, kept)| kept.used.load(Relaxed));
        if let Some((oldest, _)) = oldest {
            self.variants.remove(oldest);
        }
    }

    /// Remembers that these fields select among the variants.
    pub(crate) fn learn(&mut self, fields: Option<&Fields>) {
        if fields.is_some() {
            self.fields = united(self.fields.as_ref(), fields);
        }
    }

    /// Lets go of an entry, whoever finds that it must not be served any more.
    pub(crate) fn remove(&mut self, entry: &Arc<Entry<V>>) {
        self.variants.retain(|kept| !Arc::ptr_eq(entry, &kept.entry));
    }

    /// Its responses cannot be shared: until then requests do not wait for one another. Where a run that started later has
    /// stored something, an older one knows no better.
    pub(crate) fn mark_until(&mut self, until: Instant, run: u64) {
        if self.variants.iter().all(|kept| kept.entry.run < run) {
            self.trouble.get_or_insert_default().mark = Some(until);
        }
    }

    /// A run ended well, and what it brought could not be stored: until then it is to be seen, whatever stands in.
    pub(crate) fn show_until(&mut self, until: Instant) {
        let trouble = self.trouble.get_or_insert_default();
        (trouble.shown, trouble.back_off) = (Some(until), None);
    }

    /// A run failed: the pause doubles. `lot`, drawn from 0 to 1, takes up to half of it away, so that keys that failed
    /// together are not tried together. Where runs that started later have succeeded, an old failure says nothing. It is
    /// remembered as long as there is something to serve meanwhile, or something `stands_in`.
    pub(crate) fn fail(&mut self, now: Instant, run: u64, lot: f64, stands_in: bool) {
        // Those that were under way together fail together: for the pause that is once.
        let outdone = self.variants.iter().all(|kept| kept.entry.run > run) && !(stands_in && self.variants.is_empty());
        if outdone || self.is_backing_off(now) {
            return;
        }
        let failures = self.back_off().map_or(0, |back_off| back_off.failures).saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LAST_PAUSE);
        let pause = pause - pause.mul_f64(lot.clamp(0.0, 1.0) / 2.0);
        self.trouble.get_or_insert_default().back_off = Some(BackOff { failures, until: now + pause, stands_in });
    }

    /// How many entries an invalidation reaches, each of which is expired or removed.
    pub(crate) fn invalidate(&mut self, scope: &Scope, force: Force, now: Instant) -> usize {
        let mut reached = 0;
        let key = &self.key;
        self.variants.retain(|kept| {
            if !scope.matches(key, kept.entry.tags()) {
                return true;
            }
            reached += 1;
            kept.expired = true;
            kept.entry.refreshing.forget();
            force == Force::Expire && kept.verdict(now).0 != Verdict::Gone
        });
        if force == Force::Purge && *scope == Scope::everything() {
            *self = Self::new(self.key.clone());
        }
        reached
    }

    /// Takes an entry for stale that turned out not to be what the service would answer. Whether that is new.
    pub(crate) fn expire(&mut self, entry: &Arc<Entry<V>>, now: Instant) -> bool {
        let kept = self.variants.iter_mut().find(|kept| Arc::ptr_eq(&kept.entry, entry));
        let is_new = kept.is_some_and(|kept| !std::mem::replace(&mut kept.expired, true));
        self.variants.retain(|kept| kept.verdict(now).0 != Verdict::Gone);
        is_new
    }

    /// Lets go of what is over: entries past their last horizon, a mark, a back-off with nothing left to serve meanwhile.
    pub(crate) fn drop_past(&mut self, now: Instant) {
        self.variants.retain(|kept| kept.verdict(now).0 != Verdict::Gone);
        let nothing = self.variants.is_empty();
        let Some(trouble) = &mut self.trouble else { return };
        trouble.mark = trouble.mark.filter(|until| now < *until);
        trouble.shown = trouble.shown.filter(|until| now < *until);
        trouble.back_off = trouble.back_off.filter(|back_off| !nothing || back_off.is_remembered(now));
        if trouble.mark.is_none() && trouble.shown.is_none() && trouble.back_off.is_none() {
            self.trouble = None;
        }
    }

    pub(crate) fn headings(&self) -> impl Iterator<Item = Heading<'_>> {
        let path = self.key.uri().map(|_| Heading::Path);
        path.into_iter().chain(self.variants.iter().flat_map(|kept| kept.entry.tags().iter()).map(Heading::Tag))
    }

    /// What the slot takes in memory.
    pub(crate) fn weight(&self) -> u64 {
        let variants = self.variants.iter().map(|kept| {
            let entry = COUNTS + size_of::<Entry<V>>() - size_of::<V>();
            let selecting = kept.entry.variant.as_ref().map_or(0, |variant| LIST + variant.len());
            let judged = &kept.entry.judged;
            entry + judged.tags.weight() + names(judged.fields.as_ref()) + names(judged.withheld.as_ref()) + selecting
        });
        // The first has its place in the slot; where there are several none has, and the list doubles as it grows.
        let list = if self.variants.spilled() { self.variants.capacity() * size_of::<Kept<V>>() } else { 0 };
        let trouble = self.trouble.as_ref().map_or(0, |_| size_of::<Trouble>());
        let own = trouble
            + list
            + size_of::<Self>()
            + COUNTS
            + COUNTS
            + self.key.len()
            + names(self.fields.as_ref())
            + PLACE_WEIGHT;
        let postings: usize = self.headings().map(Heading::weight).sum();
        // What a value weighs may be somebody else's word.
        let values = self.variants.iter().fold(0, |sum: usize, kept| sum.saturating_add(kept.entry.weight));
        values.saturating_add(own + variants.sum::<usize>() + postings) as u64
    }
}

impl BackOff {
    /// Whether it counts where nothing is stored: so long after its end that those who come in a steady stream find it.
    fn is_remembered(&self, now: Instant) -> bool {
        self.stands_in && now < self.until + LAST_PAUSE
    }
}

impl<V> Kept<V> {
    /// Whether a run made this that started later than the one that made the entry. What was found in a shared store is
    /// older than the run that found it; there ages tell.
    fn is_newer_than(&self, entry: &Entry<V>) -> bool {
        let (kept, at) = (&self.entry, self.entry.started.max(entry.started));
        let is_younger = || kept.age(at) <= entry.age(at);
        match (kept.judged.found, entry.judged.found) {
            (false, false) => kept.run > entry.run,
            (true, false) => kept.run > entry.run && is_younger(),
            (_, true) => kept.run > entry.run || is_younger(),
        }
    }

    /// Whether the same requests select this and that entry.
    fn is_selected_with(&self, entry: &Entry<V>) -> bool {
        self.entry.variant.is_none()
            || entry.variant.is_none()
            || (self.entry.variant == entry.variant && self.entry.judged.fields == entry.judged.fields)
    }

    /// The verdict at this moment, and the age that led to it.
    pub(crate) fn verdict(&self, now: Instant) -> (Verdict, Duration) {
        let age = self.entry.age(now);
        let freshness = self.entry.freshness();
        (if self.expired { freshness.at_expired(age) } else { freshness.at(age) }, age)
    }

    /// Makes this the one last used. Only worth a write where there is another one to lose.
    pub(crate) fn touch(&self, slot: &Slot<V>) {
        if slot.variants.len() > 1 {
            let last = slot.last_used();
            if self.used.load(Relaxed) < last {
                self.used.store(last.saturating_add(1), Relaxed);
            }
        }
    }
}

/// What the names of fields take in memory.
fn names(fields: Option<&Fields>) -> usize {
    fields.map_or(0, |fields| LIST + fields.iter().map(|name| size_of::<Box<str>>() + name.len()).sum::<usize>())
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            serial: self.serial,
            variants: self.variants.clone(),
            fields: self.fields.clone(),
            trouble: self.trouble.clone(),
        }
    }
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), expired: self.expired, used: AtomicU32::new(self.used.load(Relaxed)) }
    }
}

#[cfg(test)]
mod tests;
