//! A stored response: the value, when the run that produced it started, how long it lives, what reaches it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{clock::Instant, freshness::Freshness, judgement::Judgement, key::Key, tags::Tags};

/// A response as it is stored, and as it is handed to those who wait for it.
#[derive(Debug)]
pub struct Entry<V> {
    pub(crate) value: V,
    /// When the run that produced the value started. Ages are counted from here (RFC 9111 §4.2.3): a response is not
    /// younger because it took long to make.
    pub(crate) started: Instant,
    /// Which run produced the value. Of two runs the one with the greater number started later.
    pub(crate) run: u64,
    pub(crate) early: Early,
    pub(crate) judged: Judgement,
    /// The values of the fields that select the response; `None` if any request of its key does.
    pub(crate) variant: Option<Variant>,
    /// What the value takes in memory.
    pub(crate) weight: usize,
    pub(crate) generation: Generation,
    pub(crate) refreshing: Refreshing,
}

/// Since when a run is under way that refreshes an entry behind its readers: in nanoseconds after the entry started and one
/// more, and 0 if none is. While there is one its readers have nothing to do but to read. It is a hint: who finds none asks
/// the flights.
#[derive(Debug, Default)]
pub(crate) struct Refreshing(AtomicU64);

/// A run that refreshes an entry behind its readers. When it has ended, however it ends, it is under way no more.
pub(crate) struct Refresh<V>(Arc<Entry<V>>);

/// How things stood with the shared store when the run began, or when it was last found to be good: see `store::Standing`.
#[derive(Debug, Default)]
pub(crate) struct Generation(AtomicU64);

/// The entry that a run is to replace.
pub(crate) struct Base<V> {
    pub(crate) entry: Arc<Entry<V>>,
    /// Whether it may be served in place of a failure. If it may not the run is cold: its failure has nothing to spare.
    pub(crate) servable: bool,
    /// Whether the service may say that it is still the same, in place of a response.
    pub(crate) validate: bool,
    /// It is replaced behind its readers.
    pub(crate) _refresh: Option<Refresh<V>>,
}

/// What a refresh ahead of expiry goes by.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// How long the run took that produced the value, in microseconds.
    cost: u32,
    /// Whether there was one already: there is one at most.
    begun: AtomicBool,
}

/// The names of the request fields that select among the variants of one URI (RFC 9111 §4.1): lower case, sorted, each
/// once. Only the protocol knows what they mean.
pub(crate) type Fields = Arc<Box<[Box<str>]>>;

/// The values of those fields in one request, canonical: what tells one variant from another. As most entries have none it
/// takes one word where it lies, as their names do.
pub(crate) type Variant = Arc<Box<[u8]>>;

/// What a run is for: a key and, where the request fields that select among its variants are known, their values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Course {
    pub(crate) key: Key,
    pub(crate) variant: Option<Variant>,
}

/// All of these names, each once: the first list itself where it has those of the other.
pub(crate) fn united(some: Option<&Fields>, others: Option<&Fields>) -> Option<Fields> {
    let (Some(some), Some(others)) = (some, others) else { return some.or(others).cloned() };
    if others.iter().all(|name| some.contains(name)) {
        return Some(Arc::clone(some));
    }
    let mut all: Vec<_> = some.iter().chain(others.iter()).cloned().collect();
    all.sort_unstable();
    all.dedup();
    Some(Fields::new(all.into()))
}

impl<V> Entry<V> {
    /// How old the response is. Never negative, whatever the clock does.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started).saturating_add(self.judged.age)
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.judged.freshness
    }

    pub(crate) fn tags(&self) -> &Tags {
        &self.judged.tags
    }

    /// Whether a run is under way that refreshes it, so that nobody else need begin one. Once it is `overdue` it counts for
    /// nobody, as in `Flights::lead`.
    pub(crate) fn is_being_refreshed(&self, now: Instant, overdue: Duration) -> bool {
        let Some(since) = self.refreshing.0.load(Relaxed).checked_sub(1) else { return false };
        now.saturating_duration_since(self.started).saturating_sub(Duration::from_nanos(since)) <= overdue
    }
}

impl Course {
    /// The values of the fields that select; none of no field.
    pub(crate) fn values(&self) -> &[u8] {
        self.variant.as_deref().map_or(&[], |values| values)
    }
}

impl Refreshing {
    /// No run that is under way counts any more: what it brings was invalidated.
    pub(crate) fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

impl<V> Refresh<V> {
    /// Begins now.
    pub(crate) fn begin(entry: Arc<Entry<V>>, now: Instant) -> Self {
        let since = now.saturating_duration_since(entry.started).as_nanos();
        entry.refreshing.0.store(u64::try_from(since).map_or(u64::MAX, |since| since.saturating_add(1)), Relaxed);
        Self(entry)
    }
}

impl<V> Drop for Refresh<V> {
    fn drop(&mut self) {
        self.0.refreshing.forget();
    }
}

impl Generation {
    pub(crate) fn new(generation: u64) -> Self {
        Self(AtomicU64::new(generation))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// It is good by now.
    pub(crate) fn set(&self, generation: u64) {
        self.0.store(generation, Relaxed);
    }
}

impl Early {
    /// For the value of a run that took this long.
    pub(crate) fn after(cost: Duration) -> Self {
        Self { cost: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX), begun: AtomicBool::new(false) }
    }

    /// How long the run took that produced the value: more than an hour is an hour.
    pub(crate) fn cost(&self) -> Duration {
        Duration::from_micros(self.cost.into())
    }

    /// Whether an entry of this age, still fresh, had better be refreshed now (see [`Freshness::is_due_early`]).
    pub(crate) fn is_due(&self, freshness: &Freshness, age: Duration, beta: f64, lot: f64) -> bool {
        !self.begun.load(Relaxed) && freshness.is_due_early(age, self.cost(), beta, lot)
    }

    /// Begins it: whether it was still to be begun.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P8
    fn what_a_run_took_is_kept_in_microseconds_and_as_far_as_they_go() {
        for (took, kept) in [(0, 0), (999, 0), (1_999, 1_000), (2_000_000_000, 2_000_000_000)] {
            assert_eq!(Early::after(Duration::from_nanos(took)).cost(), Duration::from_nanos(kept));
        }
        for long in [Duration::from_secs(5_000), Duration::MAX] {
            assert_eq!(Early::after(long).cost(), Duration::from_micros(u32::MAX.into()));
        }
    }

    #[test] // P44
    fn united_names_are_sorted_and_there_once_and_nothing_is_copied_that_has_them_all() {
        let [ab, a, ac] = [&["a", "b"][..], &["a"], &["a", "c"]]
            .map(|names| Fields::new(names.iter().copied().map(Box::from).collect()));
        let all = united(Some(&ab), Some(&ac)).expect("there are some");
        assert_eq!(all.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(united(Some(&ac), Some(&ab)), Some(all));
        for (some, others, same) in [(Some(&ab), Some(&a), &ab), (Some(&ab), None, &ab), (None, Some(&a), &a)] {
            assert!(united(some, others).is_some_and(|united| Arc::ptr_eq(&united, same)));
        }
        assert_eq!(united(None, None), None);
    }
}
