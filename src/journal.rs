//! What was invalidated while runs were under way: a run never brings back what was invalidated after it started.
//!
//! Every run and every invalidation takes a number from one clock. An invalidation is recorded here first and removes
//! what is stored afterwards; a landing asks for the records that came after its run's start, and stores while it holds
//! the lock that recording needs. So either the landing sees the record, or the removal sees what was stored.
//!
//! NOTE: that argument rests on `Shared::remove` recording before it removes (see shared.rs).

use std::{collections::VecDeque, sync::Arc};

use crate::{
    key::Key,
    scope::Scope,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    tags::Tags,
};

/// What records may take in memory, in bytes: some three thousand of short paths. When a run hangs while more than these
/// are made, the oldest are forgotten and every run that started before them counts as invalidated.
const ROOM: usize = 256 << 10;

/// Room for so many runs is kept whether there are any or not.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Journal(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    clock: u64,
    /// The numbers of those that are under way: the oldest comes first, and is mostly the first to end.
    runs: VecDeque<u64>,
    records: VecDeque<(u64, Scope)>,
    /// What the records take in memory.
    taken: usize,
    /// Records up to this number were forgotten although runs older than them go on.
    forgotten: u64,
}

/// A run under way: records made after it started are kept until this is dropped.
#[derive(Debug)]
pub(crate) struct Started {
    journal: Arc<Journal>,
    number: u64,
}

impl Journal {
    /// Begins a run.
    pub(crate) fn start(self: &Arc<Self>) -> Started {
        let mut state = self.write();
        state.clock += 1;
        let number = state.clock;
        state.runs.push_back(number);
        Started { journal: Arc::clone(self), number }
    }

    /// Records an invalidation. What is stored is removed after this, never before.
    pub(crate) fn record(&self, scope: &Scope) {
        let mut state = self.write();
        state.clock += 1;
        if state.runs.is_empty() {
            return;
        }
        let (number, scope) = (state.clock, scope.in_short());
        let weight = weight(&scope);
        state.records.push_back((number, scope));
        state.has_grown(weight);
    }

    /// Records that runs of this key which are older than this one count for nothing any more, whatever becomes of what
    /// this one stores.
    pub(crate) fn supersede(&self, run: &Started, key: &Key) {
        let mut state = self.write();
        if state.runs.front().is_none_or(|oldest| *oldest >= run.number) {
            return;
        }
        // Those that started since are newer: the record goes where the run's own number is.
        let at = state.records.partition_point(|(number, _)| *number < run.number);
        let scope = Scope::from(key).in_short();
        let weight = weight(&scope);
        state.records.insert(at, (run.number, scope));
        state.has_grown(weight);
    }

    /// The number of the last run or invalidation.
    pub(crate) fn now(&self) -> u64 {
        self.read().clock
    }

    /// Calls `land` with whether an invalidation since the run's start reaches this key or these tags. None is recorded
    /// until `land` returns.
    pub(crate) fn land<T>(&self, run: u64, key: &Key, tags: &Tags, land: impl FnOnce(bool) -> T) -> T {
        let state = self.read();
        land(state.reaches(run, u64::MAX, key, tags))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a record of this weight that was added, and keeps no more of them than there is room for.
    fn has_grown(&mut self, weight: usize) {
        self.taken += weight;
        while self.taken > ROOM
            && let Some(number) = self.drop_oldest()
        {
            // Not every record was added at the end.
            self.forgotten = self.forgotten.max(number);
        }
    }

    /// Lets go of the oldest record: its number.
    fn drop_oldest(&mut self) -> Option<u64> {
        let (number, scope) = self.records.pop_front()?;
        self.taken -= weight(&scope);
        Some(number)
    }

    /// Whether an invalidation after `from`, and not after `to`, reaches this key or these tags.
    fn reaches(&self, from: u64, to: u64, key: &Key, tags: &Tags) -> bool {
        // What was forgotten counts as one invalidation that reached everything.
        let forgotten = from < self.forgotten && self.forgotten <= to;
        let since = self.records.iter().rev().take_while(|(number, _)| *number > from);
        forgotten || since.filter(|(number, _)| *number <= to).any(|(_, scope)| scope.matches(key, tags))
    }
}

impl Started {
    /// The place of the run among runs and invalidations.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether an invalidation since the run's start, up to this number, reaches this key or these tags.
    pub(crate) fn is_voided(&self, to: u64, key: &Key, tags: &Tags) -> bool {
        self.journal.read().reaches(self.number, to, key, tags)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut state = self.journal.write();
        if let Ok(at) = state.runs.binary_search(&self.number) {
            state.runs.remove(at);
        }
        if state.runs.len() * 4 < state.runs.capacity() && state.runs.capacity() > FEW {
            let half = state.runs.capacity() / 2;
            state.runs.shrink_to(half);
        }
        let oldest = state.runs.front().copied().unwrap_or(u64::MAX);
        while state.records.front().is_some_and(|(number, _)| *number < oldest) {
            state.drop_oldest();
        }
        if state.records.is_empty() {
            state.records = VecDeque::new();
        }
    }
}

/// What a record takes in memory.
fn weight(scope: &Scope) -> usize {
    size_of::<(u64, Scope)>() + scope.weight()
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::{
        cache::Cache,
        clock,
        entry::{Early, Entry, Generation},
        freshness::Freshness,
        judgement::Judgement,
        key::{self, KeyBuf, UriParts},
        scope::Force,
    };

    fn voided(journal: &Journal, run: &Started, key: &str, tags: &Tags) -> bool {
        journal.land(run.number(), &Key::from(key), tags, |voided| voided)
    }

    #[test] // P31
    fn a_run_is_voided_by_what_came_after_its_start_and_reaches_it() {
        let journal = Arc::new(Journal::default());
        journal.record(&Scope::everything());
        let old = journal.start();
        assert!(!voided(&journal, &old, "a", &Tags::default()));

        journal.record(&Scope::tag("t"));
        journal.record(&Scope::from(Key::from("a")));
        let new = journal.start();
        assert!(voided(&journal, &old, "a", &Tags::default()));
        assert!(voided(&journal, &old, "b", &Tags::new(["t"])));
        assert!(!voided(&journal, &old, "b", &Tags::default()));
        assert!(!voided(&journal, &new, "a", &Tags::new(["t"])));
    }

    #[test] // P31, P65
    fn a_few_invalidations_of_very_long_uris_void_no_runs_of_others() {
        let journal = Arc::new(Journal::default());
        let run = journal.start();
        let long = |n: usize| format!("{n}{}", "x".repeat(60_000));
        for n in 0..50 {
            journal.record(&Scope::uri(&format!("/{}", long(n))).unwrap());
            journal.record(&Scope::uri(&format!("http://a/q?{}", long(n))).unwrap());
        }
        let is_voided = |path: &str, query: Option<&str>| {
            let (path, query, mut key) = (path.as_bytes(), query.map(str::as_bytes), KeyBuf::default());
            key.uri(UriParts { path, query, authority: Some(b"a") }, None);
            journal.land(run.number(), &key.to_key(), &Tags::default(), |voided| voided)
        };
        assert!(is_voided(&format!("/{}", long(7)), None) && is_voided("/q", Some(&long(7))));
        assert!(!is_voided("/", None) && !is_voided("/7", None) && !is_voided("/q/7", None));
    }

    #[test] // P33
    fn a_run_that_is_superseded_is_voided_and_those_that_are_newer_are_not() {
        let journal = Arc::new(Journal::default());
        let (old, put, new) = (journal.start(), journal.start(), journal.start());
        journal.record(&Scope::tag("t"));
        journal.supersede(&put, &Key::from("a"));
        assert!(voided(&journal, &old, "a", &Tags::default()));
        for (run, key) in [(&old, "b"), (&put, "a"), (&new, "a")] {
            assert!(!voided(&journal, run, key, &Tags::default()), "run {} of {key}", run.number());
            assert!(voided(&journal, run, key, &Tags::new(["t"])), "run {} of {key}", run.number());
        }
        drop((old, put));
        assert_eq!(journal.read().records.len(), 1, "nobody is older any more");
    }

    #[test] // P32
    fn nothing_is_invalidated_between_the_check_and_the_store() {
        for scope in [Scope::from(Key::from("k")), Scope::tag("t"), Scope::everything()] {
            let (cache, key) = (<Cache>::builder().build_for::<()>(), Key::from("k"));
            let shared = cache.shared();
            let run = shared.journal.start();
            let mut judged = Judgement::storable(Freshness::from(Duration::from_secs(60)));
            judged.tags = Tags::new(["t"]);
            let (now, tags) = (clock::now(), judged.tags.clone());
            let (number, early, variant, weight) = (run.number(), Early::default(), None, 1);
            let entry = Arc::new(Entry {
                value: (),
                started: now,
                run: number,
                early,
                judged,
                variant,
                weight,
                generation: Generation::default(),
                refreshing: Default::default(),
            });
            thread::scope(|threads| {
                shared.journal.land(number, &key, &tags, |voided| {
                    assert!(!voided);
                    let purge = threads.spawn(|| cache.invalidate(&scope, Force::Purge));
                    for _ in 0..10_000 {
                        if purge.is_finished() {
                            break;
                        }
                        thread::yield_now();
                    }
                    shared.memory.update(&key, now, |slot| slot.admit(entry, None, 16))
                });
            });
            let left = shared.memory.get(key::bytes(&key)).map_or(0, |slot| slot.variants.len());
            assert_eq!(left, 0, "{scope:?}");
        }
    }

    #[test]
    fn records_are_kept_no_longer_than_a_run_needs_them() {
        let journal = Arc::new(Journal::default());
        let (first, second) = (journal.start(), journal.start());
        journal.record(&Scope::everything());
        drop(first);
        assert_eq!(journal.read().records.len(), 1);
        drop(second);
        assert_eq!(journal.read().records.len(), 0);
        journal.record(&Scope::everything());
        assert_eq!(journal.read().records.len(), 0);
    }

    #[test] // P31, P63
    fn runs_end_in_any_order_and_leave_no_room_behind() {
        let journal = Arc::new(Journal::default());
        let mut runs: Vec<_> = (0..1_000).map(|_| journal.start()).collect();
        journal.record(&Scope::tag("t"));
        fastrand::Rng::with_seed(7).shuffle(&mut runs);
        while let Some(run) = runs.pop() {
            drop(run);
            let state = journal.read();
            assert_eq!(state.runs.front().copied(), runs.iter().map(Started::number).min());
            assert_eq!((state.runs.len(), state.records.is_empty()), (runs.len(), runs.is_empty()));
            assert!(state.runs.capacity() <= FEW.max(state.runs.len() * 4), "{}", state.runs.capacity());
        }
    }

    #[test] // P31, P63
    fn a_run_that_outlives_the_records_counts_as_voided_and_they_take_no_more_than_their_room() {
        for long in [1, 100, 10_000, 1_000_000] {
            let journal = Arc::new(Journal::default());
            let hung = journal.start();
            let tag = "t".repeat(long);
            let taken = allocation_counter::measure(|| {
                while journal.read().forgotten == 0 {
                    journal.record(&Scope::tag(tag.as_str()));
                }
            });
            // A list doubles as it grows.
            assert!(taken.bytes_current <= 2 * ROOM as i64, "{} for names of {long}", taken.bytes_current);
            assert!(voided(&journal, &hung, "a", &Tags::default()));
            assert!(!voided(&journal, &journal.start(), "a", &Tags::default()));
            drop(hung);
            assert_eq!((journal.read().taken, journal.read().records.capacity()), (0, 0));
        }
    }
}
