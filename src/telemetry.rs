//! Every event once: it is counted, and goes to `tracing` where the feature is on. No other file knows which.

#[cfg(feature = "tracing")]
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    protocol::RunKind,
    stats::{Counters, Gauges, Stats},
    status::{Detail, Outcome},
    store::StoreError,
};

/// What happens in a cache, in one closed vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A request was answered: a hit, a stale one, a miss, one that shared another's run, or one that passed by.
    Answered(Outcome),
    /// A response was stored.
    Stored,
    /// The response of a run was not.
    Refused(Detail),
    RunEnded {
        end: End,
        took: Duration,
    },
    /// A refresh was not begun for want of a permit.
    RefreshDropped,
    Invalidated {
        purged: bool,
        entries: usize,
    },
    /// Responses made room for others.
    Evicted {
        entries: usize,
    },
    /// The shared store did not do as it was told.
    StoreFailed,
    /// An audit found out on what a stored response depends though nobody keyed it.
    Leak,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    /// An error, a failing response, or a body that failed.
    Failed,
    Panicked,
    TimedOut,
    /// Nobody wanted it any more.
    Abandoned,
    /// The service was not called: the shared store held what another instance had made.
    Spared,
}

/// Where the events of one cache go.
#[derive(Debug, Default)]
pub(crate) struct Telemetry(Counters);

impl Telemetry {
    pub(crate) fn tell(&self, event: Event) {
        self.0.count(&event);
        trace(&event);
    }

    /// Tells what the shared store did not do, in its words.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        self.tell(Event::StoreFailed);
        warn_of_store(error);
    }

    /// Tells what an audit has found, in its words.
    pub(crate) fn warn_of_leak(&self, leak: &str) {
        self.tell(Event::Leak);
        warn_of_leak(leak);
    }

    pub(crate) fn stats(&self, gauges: &Gauges) -> Stats {
        self.0.stats(gauges)
    }
}

impl End {
    /// How many there are.
    pub(crate) const ALL: usize = Self::Spared as usize + 1;
}

/// Puts a run into a span of its own, which follows from the one that it was started in: it may outlive that one.
#[cfg(feature = "tracing")]
pub(crate) fn in_run_span<F: Future + Unpin>(kind: RunKind, run: F) -> InSpan<F> {
    let background = kind == RunKind::Background;
    let span = tracing::info_span!(target: "cacheback", parent: None, "run", background);
    if span.is_disabled() {
        return InSpan { run: Some(run), span: None };
    }
    span.follows_from(tracing::Span::current());
    InSpan { run: Some(run), span: Some(span) }
}

/// A run in its span, if anybody looks at that. It is dropped there as well.
#[cfg(feature = "tracing")]
pub(crate) struct InSpan<F> {
    run: Option<F>,
    span: Option<tracing::Span>,
}

#[cfg(feature = "tracing")]
impl<F: Future + Unpin> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { run, span } = &mut *self;
        let _entered = span.as_ref().map(tracing::Span::enter);
        run.as_mut().map_or(Poll::Pending, |run| Pin::new(run).poll(cx))
    }
}

#[cfg(feature = "tracing")]
impl<F> Drop for InSpan<F> {
    fn drop(&mut self) {
        let _entered = self.span.as_ref().map(tracing::Span::enter);
        self.run = None;
    }
}

/// The same for an audit.
#[cfg(feature = "tracing")]
pub(crate) fn in_audit_span<F: Future>(audit: F) -> impl Future<Output = F::Output> {
    let span = tracing::info_span!(target: "cacheback", parent: None, "audit");
    span.follows_from(tracing::Span::current());
    tracing::Instrument::instrument(audit, span)
}

/// Leaves a run as it is.
#[cfg(not(feature = "tracing"))]
pub(crate) fn in_run_span<F: Future>(_: RunKind, run: F) -> F {
    run
}

/// Leaves an audit as it is.
#[cfg(not(feature = "tracing"))]
pub(crate) fn in_audit_span<F: Future>(audit: F) -> F {
    audit
}

#[cfg(feature = "tracing")]
fn trace(event: &Event) {
    match event {
        Event::Answered(outcome) => tracing::trace!(target: "cacheback", %outcome, "answered"),
        Event::Stored => tracing::debug!(target: "cacheback", "stored"),
        Event::Refused(detail) => tracing::debug!(target: "cacheback", reason = detail.as_str(), "not stored"),
        Event::RunEnded { end, took } => tracing::debug!(target: "cacheback", ?end, ?took, "run ended"),
        Event::RefreshDropped => tracing::debug!(target: "cacheback", "refresh dropped: too many are under way"),
        Event::Invalidated { purged, entries } => tracing::debug!(target: "cacheback", purged, entries, "invalidated"),
        Event::Evicted { entries } => tracing::trace!(target: "cacheback", entries, "evicted"),
        // These are told in their own words: see `Telemetry::store_failed` and `Telemetry::warn_of_leak`.
        Event::StoreFailed | Event::Leak => {}
    }
}

#[cfg(not(feature = "tracing"))]
fn trace(_: &Event) {}

#[cfg(feature = "tracing")]
fn warn_of_leak(leak: &str) {
    tracing::warn!(target: "cacheback", leak, "requests share a response that should not");
}

#[cfg(not(feature = "tracing"))]
fn warn_of_leak(_: &str) {}

#[cfg(feature = "tracing")]
fn warn_of_store(error: &StoreError) {
    tracing::warn!(target: "cacheback", %error, "the shared store did not carry out an operation");
}

#[cfg(not(feature = "tracing"))]
fn warn_of_store(_: &StoreError) {}

/// A layer is told to audit, and cannot make the requests that this takes.
#[cfg(feature = "tracing")]
pub(crate) fn warn_of_unfit_body() {
    tracing::warn!(
        target: "cacheback",
        "nothing is audited: `audit` makes bodies of axum's type, `audit_with` those that the service takes"
    );
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn warn_of_unfit_body() {}

/// Watches for a route that is bypassed nearly always: its layer does nothing, and somebody should know.
#[derive(Debug, Default)]
pub(crate) struct BypassWatch {
    /// Up by one with a bypass, down by more with a look-up. Past the threshold the route was warned of.
    score: AtomicU32,
}

/// So many bypasses, nearly all in a row, are worth a warning.
const WORTH_A_WARNING: u32 = 1_000;
/// One look-up weighs as much as so many bypasses: above one in twenty nothing is said.
const LOOK_UP: u32 = 20;

impl BypassWatch {
    /// A request went past the cache.
    pub(crate) fn passed(&self, outcome: Outcome) {
        let Some(detail @ (Detail::Credential | Detail::Cookie)) = outcome.detail() else { return };
        // The score stays above the threshold once it was reached: the warning is given once.
        if self.score.load(Relaxed) <= WORTH_A_WARNING && self.score.fetch_add(1, Relaxed) == WORTH_A_WARNING {
            warn_of_bypass(detail);
        }
    }

    /// A request was looked up. Costs one load while all is well.
    pub(crate) fn looked_up(&self) {
        let score = self.score.load(Relaxed);
        if score != 0 && score <= WORTH_A_WARNING {
            let _lost_race = self.score.compare_exchange(score, score.saturating_sub(LOOK_UP), Relaxed, Relaxed);
        }
    }

    /// Whether the warning was given.
    #[cfg(test)]
    fn has_warned(&self) -> bool {
        self.score.load(Relaxed) > WORTH_A_WARNING
    }
}

#[cfg(feature = "tracing")]
fn warn_of_bypass(detail: Detail) {
    tracing::warn!(
        target: "cacheback",
        reason = detail.as_str(),
        "nearly every request of a cached route goes past the cache; see `key_header`, `key_cookie`, `ignore_cookies` \
         and `key_by`, or `key_metadata` for gRPC"
    );
}

#[cfg(not(feature = "tracing"))]
fn warn_of_bypass(_: Detail) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::CacheStatus;

    fn cookie() -> Outcome {
        Outcome::new(CacheStatus::Bypass).because(Some(Detail::Cookie))
    }

    #[test] // P43
    fn a_route_that_is_bypassed_nearly_always_is_warned_of_once() {
        let watch = BypassWatch::default();
        (0..=WORTH_A_WARNING).for_each(|_| watch.passed(cookie()));
        assert!(watch.has_warned());
        (0..100).for_each(|_| watch.looked_up());
        watch.passed(cookie());
        assert!(watch.has_warned());
    }

    #[test] // P43
    fn a_route_with_some_bypasses_is_not() {
        let watch = BypassWatch::default();
        for _ in 0..WORTH_A_WARNING {
            (0..10).for_each(|_| watch.passed(cookie()));
            watch.looked_up();
        }
        assert!(!watch.has_warned());
    }
}
