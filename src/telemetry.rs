//! Every event once: to `tracing` where the feature is on, else to nothing. No other file knows which.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::status::Detail;

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
    /// A request went past the cache for its credentials.
    pub(crate) fn past(&self, detail: Detail) {
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
        reason = detail.as_str(),
        "nearly every request of a cached route goes past the cache; see `key_header`, `key_cookie`, `ignore_cookies` \
         and `key_by`"
    );
}

#[cfg(not(feature = "tracing"))]
fn warn_of_bypass(_: Detail) {}

/// A run failed; a warm one leaves something stored.
#[cfg(feature = "tracing")]
pub(crate) fn run_failed(warm: bool) {
    tracing::debug!(warm, "a run failed");
}

/// A run failed; a warm one leaves something stored.
#[cfg(not(feature = "tracing"))]
pub(crate) fn run_failed(_: bool) {}

/// A refresh was dropped for want of a permit.
#[cfg(feature = "tracing")]
pub(crate) fn refresh_dropped() {
    tracing::debug!("a refresh was dropped: too many are under way");
}

/// A refresh was dropped for want of a permit.
#[cfg(not(feature = "tracing"))]
pub(crate) fn refresh_dropped() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P43
    fn a_route_that_is_bypassed_nearly_always_is_warned_of_once() {
        let watch = BypassWatch::default();
        (0..=WORTH_A_WARNING).for_each(|_| watch.past(Detail::Cookie));
        assert!(watch.has_warned());
        (0..100).for_each(|_| watch.looked_up());
        watch.past(Detail::Cookie);
        assert!(watch.has_warned());
    }

    #[test] // P43
    fn a_route_with_some_bypasses_is_not() {
        let watch = BypassWatch::default();
        for _ in 0..WORTH_A_WARNING {
            (0..10).for_each(|_| watch.past(Detail::Cookie));
            watch.looked_up();
        }
        assert!(!watch.has_warned());
    }
}
