//! What a cache counts: each event of its telemetry once, and the figures of a moment made of that.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    status::{CacheStatus, Detail},
    telemetry::{End, Event},
};

/// Figures of a cache. Counts begin with the cache and never go down.
///
/// Each request that a layer of the cache answered is in one of `hits`, `stale_hits`, `misses`, `collapsed`,
/// `placeholders` and `bypassed`. A client that went away before it was answered is in none.
///
/// ```
/// # use cacheback::{Cache, Detail};
/// let stats = Cache::new().stats();
/// println!("{} of {} from memory", stats.hits + stats.stale_hits, stats.requests());
/// println!("{} for their cookies past the cache", stats.bypassed_for(Detail::Cookie));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes in use at this moment, by the cache's own reckoning.
    pub bytes: u64,
    /// Keys of which something is known at this moment.
    pub keys: usize,
    /// Runs under way at this moment, and audits.
    pub runs: usize,
    /// Of these, the ones that nobody waits for: refreshes, audits, and runs whose clients went away.
    pub refreshes: usize,
    /// Whether the shared store cannot be asked at this moment: it has failed, and is given time. Without one it is not.
    pub store_is_down: bool,
    /// Requests answered by a fresh response at once.
    pub hits: u64,
    /// Requests answered by a stale response at once.
    pub stale_hits: u64,
    /// Requests that went forward: they were answered by a run of their own, or by something stale in place of one.
    pub misses: u64,
    /// Requests that shared the run of another one.
    pub collapsed: u64,
    /// Requests for which nothing was stored, and that were answered by a placeholder at once.
    pub placeholders: u64,
    /// Requests that were not looked up. See [`Stats::bypassed_for`].
    pub bypassed: u64,
    /// Responses that were stored.
    pub stored: u64,
    /// Responses of runs that were not stored. See [`Stats::refused_for`].
    pub refused: u64,
    /// Runs that ended with a response that was no failure.
    pub runs_completed: u64,
    /// Runs that ended with an error of the service, a failing response, or a body that failed.
    pub runs_failed: u64,
    /// Runs that ended because the service panicked.
    pub runs_panicked: u64,
    /// Runs that were aborted at their deadline.
    pub runs_timed_out: u64,
    /// Runs that were given up because nobody wanted them any more.
    pub runs_abandoned: u64,
    /// Runs that did not call the service, since the shared store held what another instance had made meanwhile.
    pub runs_spared: u64,
    /// How long all runs that have ended took, taken together.
    pub run_time: Duration,
    /// Refreshes that were not begun because too many were under way, or because the cache was drained.
    pub refreshes_dropped: u64,
    /// Soft invalidations, whatever they reached.
    pub expiries: u64,
    /// Hard invalidations, whatever they reached.
    pub purges: u64,
    /// Responses that invalidations expired or removed.
    pub invalidated: u64,
    /// Responses that made room for others.
    pub evicted: u64,
    /// Operations that the shared store did not carry out.
    pub store_failures: u64,
    /// Inputs on which stored responses depend though nobody keyed them, as far as audits have found out.
    pub audit_findings: u64,
    bypassed_for: [u64; DETAILS],
    refused_for: [u64; DETAILS],
}

const DETAILS: usize = Detail::ALL.len();

/// The counts behind [`Stats`].
#[derive(Debug)]
pub(crate) struct Counters {
    hits: Striped,
    stale_hits: Striped,
    misses: AtomicU64,
    collapsed: AtomicU64,
    placeholders: AtomicU64,
    bypassed: AtomicU64,
    stored: AtomicU64,
    refused: AtomicU64,
    runs: [AtomicU64; End::ALL],
    run_nanos: AtomicU64,
    refreshes_dropped: AtomicU64,
    expiries: AtomicU64,
    purges: AtomicU64,
    invalidated: AtomicU64,
    evicted: AtomicU64,
    store_failures: AtomicU64,
    audit_findings: AtomicU64,
    bypassed_for: [AtomicU64; DETAILS],
    refused_for: [AtomicU64; DETAILS],
}

/// What of the figures is not counted but is there at this moment.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) bytes: u64,
    pub(crate) keys: usize,
    pub(crate) runs: usize,
    pub(crate) refreshes: usize,
    pub(crate) store_is_down: bool,
}

/// A count that every thread of a busy server goes up: each has a cache line of its own, more or less.
#[derive(Debug, Default)]
struct Striped([Line; 16]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Stats {
    /// How many requests were answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.hits + self.stale_hits + self.misses + self.collapsed + self.placeholders + self.bypassed
    }

    /// How many requests were not looked up for this reason. One that was not for its method has none.
    #[must_use]
    pub fn bypassed_for(&self, detail: Detail) -> u64 {
        self.bypassed_for.get(detail as usize).copied().unwrap_or_default()
    }

    /// How many responses of runs were not stored for this reason.
    #[must_use]
    pub fn refused_for(&self, detail: Detail) -> u64 {
        self.refused_for.get(detail as usize).copied().unwrap_or_default()
    }
}

impl Counters {
    pub(crate) fn count(&self, event: &Event) {
        match *event {
            Event::Answered(outcome) => match outcome.status() {
                CacheStatus::Hit if outcome.is_stale() => self.stale_hits.one_more(),
                CacheStatus::Hit => self.hits.one_more(),
                CacheStatus::Bypass | CacheStatus::Method => {
                    one_more(&self.bypassed);
                    outcome.detail().inspect(|detail| one_more(&self.bypassed_for[*detail as usize]));
                }
                _ if outcome.detail() == Some(Detail::Placeholder) => one_more(&self.placeholders),
                _ if outcome.is_collapsed() => one_more(&self.collapsed),
                _ => one_more(&self.misses),
            },
            Event::Stored => one_more(&self.stored),
            Event::Refused(detail) => {
                one_more(&self.refused);
                one_more(&self.refused_for[detail as usize]);
            }
            Event::RunEnded { end, took } => {
                one_more(&self.runs[end as usize]);
                self.run_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
            }
            Event::RefreshDropped => one_more(&self.refreshes_dropped),
            Event::Invalidated { purged, entries } => {
                one_more(if purged { &self.purges } else { &self.expiries });
                self.invalidated.fetch_add(entries as u64, Relaxed);
            }
            Event::Evicted { entries } => drop(self.evicted.fetch_add(entries as u64, Relaxed)),
            Event::StoreFailed => one_more(&self.store_failures),
            Event::Leak => one_more(&self.audit_findings),
        }
    }

    pub(crate) fn stats(&self, gauges: &Gauges) -> Stats {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let Gauges { bytes, keys, runs, refreshes, store_is_down } = *gauges;
        Stats {
            bytes,
            keys,
            runs,
            refreshes,
            store_is_down,
            hits: self.hits.sum(),
            stale_hits: self.stale_hits.sum(),
            misses: of(&self.misses),
            collapsed: of(&self.collapsed),
            placeholders: of(&self.placeholders),
            bypassed: of(&self.bypassed),
            stored: of(&self.stored),
            refused: of(&self.refused),
            runs_completed: of(&self.runs[End::Completed as usize]),
            runs_failed: of(&self.runs[End::Failed as usize]),
            runs_panicked: of(&self.runs[End::Panicked as usize]),
            runs_timed_out: of(&self.runs[End::TimedOut as usize]),
            runs_abandoned: of(&self.runs[End::Abandoned as usize]),
            runs_spared: of(&self.runs[End::Spared as usize]),
            run_time: Duration::from_nanos(of(&self.run_nanos)),
            refreshes_dropped: of(&self.refreshes_dropped),
            expiries: of(&self.expiries),
            purges: of(&self.purges),
            invalidated: of(&self.invalidated),
            evicted: of(&self.evicted),
            store_failures: of(&self.store_failures),
            audit_findings: of(&self.audit_findings),
            bypassed_for: self.bypassed_for.each_ref().map(of),
            refused_for: self.refused_for.each_ref().map(of),
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hits: Striped::default(),
            stale_hits: Striped::default(),
            misses: AtomicU64::default(),
            collapsed: AtomicU64::default(),
            placeholders: AtomicU64::default(),
            bypassed: AtomicU64::default(),
            stored: AtomicU64::default(),
            refused: AtomicU64::default(),
            runs: Default::default(),
            run_nanos: AtomicU64::default(),
            refreshes_dropped: AtomicU64::default(),
            expiries: AtomicU64::default(),
            purges: AtomicU64::default(),
            invalidated: AtomicU64::default(),
            evicted: AtomicU64::default(),
            store_failures: AtomicU64::default(),
            audit_findings: AtomicU64::default(),
            bypassed_for: [const { AtomicU64::new(0) }; DETAILS],
            refused_for: [const { AtomicU64::new(0) }; DETAILS],
        }
    }
}

impl Striped {
    fn one_more(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = NEXT.fetch_add(1, Relaxed);
        }
        let own = OWN.try_with(|own| *own).unwrap_or_default();
        one_more(&self.0[own % self.0.len()].0);
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Relaxed)).sum()
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Outcome;

    #[test] // P95
    fn every_event_is_counted_once_and_under_its_own_name() {
        let counters = Counters::default();
        let hit = Outcome::new(CacheStatus::Hit);
        let miss = Outcome::new(CacheStatus::UriMiss);
        let past = Outcome::new(CacheStatus::Bypass).because(Some(Detail::Cookie));
        let took = Duration::from_millis(3);
        for event in [
            Event::Answered(hit.ttl_of(1)),
            Event::Answered(hit.ttl_of(-1)),
            Event::Answered(miss.stored_if(true)),
            Event::Answered(miss.collapsed_if(true)),
            Event::Answered(miss.because(Some(Detail::Placeholder))),
            Event::Answered(past),
            Event::Answered(Outcome::new(CacheStatus::Method)),
            Event::Stored,
            Event::Refused(Detail::SetCookie),
            Event::RunEnded { end: End::Completed, took },
            Event::RunEnded { end: End::Failed, took },
            Event::RunEnded { end: End::Panicked, took },
            Event::RunEnded { end: End::TimedOut, took },
            Event::RunEnded { end: End::Abandoned, took },
            Event::RunEnded { end: End::Spared, took },
            Event::RefreshDropped,
            Event::Invalidated { purged: true, entries: 7 },
            Event::Invalidated { purged: false, entries: 2 },
            Event::Evicted { entries: 5 },
            Event::StoreFailed,
            Event::Leak,
        ] {
            counters.count(&event);
        }
        let stats = counters.stats(&Gauges { bytes: 1, keys: 2, runs: 3, refreshes: 4, store_is_down: true });
        assert_eq!((stats.bytes, stats.keys, stats.runs, stats.refreshes, stats.store_is_down), (1, 2, 3, 4, true));
        assert_eq!((stats.hits, stats.stale_hits, stats.misses, stats.collapsed, stats.bypassed), (1, 1, 1, 1, 2));
        assert_eq!((stats.requests(), stats.placeholders), (7, 1));
        assert_eq!((stats.bypassed_for(Detail::Cookie), stats.bypassed_for(Detail::Range)), (1, 0));
        assert_eq!((stats.stored, stats.refused, stats.refused_for(Detail::SetCookie)), (1, 1, 1));
        let runs = [stats.runs_completed, stats.runs_failed, stats.runs_panicked, stats.runs_timed_out];
        assert_eq!((runs, stats.runs_abandoned, stats.runs_spared, stats.run_time), ([1; 4], 1, 1, 6 * took));
        assert_eq!((stats.refreshes_dropped, stats.purges, stats.expiries, stats.invalidated), (1, 1, 1, 9));
        assert_eq!((stats.evicted, stats.store_failures, stats.audit_findings), (5, 1, 1));
    }

    #[test] // P95
    fn threads_count_together() {
        let hits = Striped::default();
        std::thread::scope(|scope| {
            (0..20).for_each(|_| drop(scope.spawn(|| (0..100).for_each(|_| hits.one_more()))));
        });
        assert_eq!(hits.sum(), 2_000);
    }
}
