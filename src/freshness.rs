//! How long a response lives, and the pure verdict at an age: fresh, stale, too stale or gone.
//!
//! Nothing here knows a clock, a store or a future: an age comes in as a number, a verdict goes out.

use std::time::Duration;

/// The lifetime of a response and the two windows that follow it (RFC 9111 §4.2, RFC 5861).
///
/// Both windows are counted from the moment the response becomes stale. All three parts are counted from the start of
/// the run that produced the response, plus the `Age` it came with. Each is kept to the nanosecond; one of more than 584
/// years is for ever.
///
/// | age | verdict | a reader gets |
/// |---|---|---|
/// | less than the lifetime | fresh | the stored response |
/// | then, within `stale_while_revalidate` | stale | the stored response at once; one run refreshes it behind |
/// | then, within `stale_if_error` | too stale | what a new run answers, or the stored response should that run fail |
/// | beyond | gone | what a new run answers |
///
/// ```
/// use std::time::Duration;
/// use cacheback::Freshness;
///
/// // Fresh for a minute, then stale at once for ten, and kept for a day in case the service fails.
/// let quotes = Freshness::new(Duration::from_secs(60))
///     .stale_while_revalidate(Duration::from_secs(600))
///     .stale_if_error(Duration::from_secs(86_400));
/// assert_eq!(quotes.lifetime(), Duration::from_secs(60));
///
/// // A minute and not a moment more.
/// let prices = Freshness::exact(Duration::from_secs(60));
/// ```
///
/// As a part of an axum response (feature `axum`) it states the freshness of that response, before any `Cache-Control`
/// the response carries; what `Cache-Control` forbids stays forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Freshness {
    lifetime: Span,
    stale_while_revalidate: Span,
    stale_if_error: Span,
    /// How long past the lifetime it is kept to be validated, though nobody gets it before it was.
    kept: Span,
}

/// Nanoseconds: half as large as a duration and compared at once. The greatest number is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Span(u64);

/// What may be done with a response of some age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Fresh,
    Stale,
    TooStale,
    /// It is worth nothing but its validators: a run may ask whether it is still what the service would answer.
    Spent,
    Gone,
}

impl Verdict {
    /// Whether anybody may get it, if only in place of a failure.
    pub(crate) fn is_servable(self) -> bool {
        self < Self::Spent
    }
}

impl Freshness {
    /// The stale window that [`Freshness::new`] grants: one hour.
    pub const DEFAULT_STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(3_600);

    /// The stale-if-error window that [`Freshness::new`] grants: 24 hours.
    pub const DEFAULT_STALE_IF_ERROR: Duration = Duration::from_secs(86_400);

    /// Fresh for `lifetime`, with the default windows: stale at once for one hour more, and for 24 hours should the
    /// service fail.
    #[must_use]
    pub const fn new(lifetime: Duration) -> Self {
        Self {
            lifetime: Span::of(lifetime),
            stale_while_revalidate: Span::of(Self::DEFAULT_STALE_WHILE_REVALIDATE),
            stale_if_error: Span::of(Self::DEFAULT_STALE_IF_ERROR),
            kept: Span::ZERO,
        }
    }

    /// Fresh for `lifetime` and never served stale.
    #[must_use]
    pub const fn exact(lifetime: Duration) -> Self {
        let none = Span::ZERO;
        Self { lifetime: Span::of(lifetime), stale_while_revalidate: none, stale_if_error: none, kept: none }
    }

    /// How long after the lifetime a stale response is served at once while it is refreshed (RFC 5861 §3).
    #[must_use]
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = Span::of(window);
        self
    }

    /// How long after the lifetime a stale response is served in place of a failure (RFC 5861 §4).
    #[must_use]
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Span::of(window);
        self
    }

    /// How long a response is fresh.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.lifetime.duration()
    }

    /// The lifetime, the two windows, and how long past the lifetime it is kept to be validated.
    pub(crate) const fn parts(&self) -> [Duration; 4] {
        let Self { lifetime, stale_while_revalidate, stale_if_error, kept } = self;
        [lifetime.duration(), stale_while_revalidate.duration(), stale_if_error.duration(), kept.duration()]
    }

    pub(crate) const fn of_parts([lifetime, stale_while_revalidate, stale_if_error, kept]: [Duration; 4]) -> Self {
        let of = Self::exact(lifetime).stale_while_revalidate(stale_while_revalidate);
        of.stale_if_error(stale_if_error).kept_for(kept)
    }

    /// The verdict on a response of this age. An age equal to a horizon is past it.
    pub(crate) fn at(&self, age: Duration) -> Verdict {
        let age = Span::of(age);
        if age < self.lifetime {
            Verdict::Fresh
        } else if age < self.lifetime.plus(self.stale_while_revalidate) {
            Verdict::Stale
        } else if age < self.served_until() {
            Verdict::TooStale
        } else if age < self.kept_until() {
            Verdict::Spent
        } else {
            Verdict::Gone
        }
    }

    /// The verdict on a response that was expired by hand: stale from now on, and not a moment longer than before.
    pub(crate) fn at_expired(&self, age: Duration) -> Verdict {
        match self.at(age) {
            Verdict::Fresh if self.stale_while_revalidate != Span::ZERO => Verdict::Stale,
            Verdict::Fresh if self.stale_if_error != Span::ZERO => Verdict::TooStale,
            Verdict::Fresh if self.kept != Span::ZERO => Verdict::Spent,
            Verdict::Fresh => Verdict::Gone,
            verdict => verdict,
        }
    }

    /// What is left of the lifetime at an age, in whole seconds, rounded down; below zero whenever it is not `fresh`.
    pub(crate) fn ttl(&self, age: Duration, fresh: bool) -> i64 {
        const SECOND: u64 = 1_000_000_000;
        let age = Span::of(age).0;
        // All of the nanoseconds there are make no more seconds than fit.
        match self.lifetime {
            Span::EVER if fresh => i64::MAX,
            Span(lifetime) if fresh => (lifetime.saturating_sub(age) / SECOND) as i64,
            Span(lifetime) => -(age.saturating_sub(lifetime).div_ceil(SECOND).max(1) as i64),
        }
    }

    /// The last horizon: from this age on it is of no use.
    pub(crate) fn gone_at(&self) -> Duration {
        self.kept_until().duration()
    }

    /// From this age on nobody gets it.
    fn served_until(&self) -> Span {
        self.lifetime.plus(self.stale_while_revalidate.max(self.stale_if_error))
    }

    fn kept_until(&self) -> Span {
        self.served_until().max(self.lifetime.plus(self.kept))
    }

    /// The same horizons, and kept for so long past the lifetime to be validated.
    pub(crate) const fn kept_for(mut self, window: Duration) -> Self {
        self.kept = Span::of(window);
        self
    }

    /// The same windows after another lifetime.
    pub(crate) const fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Span::of(lifetime);
        self
    }

    /// The same windows after a lifetime that is shorter by up to this part of it. `lot` is drawn from 0 to 1: responses
    /// that were stored together do not expire together.
    pub(crate) fn jittered(self, part: f64, lot: f64) -> Self {
        // What is taken away is what a float rounds: of nothing that is nothing, and no more is left than there was.
        let less = (self.lifetime.0 as f64 * part * lot) as u64;
        Self { lifetime: Span(self.lifetime.0.saturating_sub(less)), ..self }
    }

    /// Whether a response of this age, still fresh, had better be refreshed now: XFetch (Vattani, Chierichetti, Lowenstein,
    /// "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015). `cost` is what its last run took. `lot` is drawn
    /// from 0 to 1 at each read: the nearer the end, and the dearer the run, the likelier it is.
    pub(crate) fn is_due_early(&self, age: Duration, cost: Duration, beta: f64, lot: f64) -> bool {
        // The logarithm of 0 is infinite, and so would be the head start.
        let ahead = cost.as_secs_f64() * beta * -lot.max(f64::MIN_POSITIVE).ln();
        age.as_secs_f64() + ahead >= self.lifetime().as_secs_f64()
    }

    pub(crate) fn stale_until(&self) -> Duration {
        self.lifetime.plus(self.stale_while_revalidate).duration()
    }
}

impl Span {
    const ZERO: Self = Self(0);
    const EVER: Self = Self(u64::MAX);

    const fn of(duration: Duration) -> Self {
        match duration.as_secs().checked_mul(1_000_000_000) {
            Some(nanos) => Self(nanos.saturating_add(duration.subsec_nanos() as u64)),
            None => Self::EVER,
        }
    }

    const fn duration(self) -> Duration {
        match self {
            Self::EVER => Duration::MAX,
            Self(nanos) => Duration::from_nanos(nanos),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A duration is a lifetime with the windows of [`Freshness::new`].
impl From<Duration> for Freshness {
    fn from(lifetime: Duration) -> Self {
        Self::new(lifetime)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NANO: Duration = Duration::from_nanos(1);
    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test] // P4
    fn an_age_equal_to_a_horizon_is_past_it() {
        let freshness = Freshness::new(secs(60)).stale_while_revalidate(secs(10)).stale_if_error(secs(30));
        for (horizon, before, from) in [
            (secs(60), Verdict::Fresh, Verdict::Stale),
            (secs(70), Verdict::Stale, Verdict::TooStale),
            (secs(90), Verdict::TooStale, Verdict::Gone),
        ] {
            assert_eq!(freshness.at(horizon - NANO), before);
            assert_eq!(freshness.at(horizon), from);
            assert_eq!(freshness.at(horizon + NANO), from);
        }
    }

    #[test] // P4
    fn extremes_neither_panic_nor_wrap() {
        assert_eq!(Freshness::exact(Duration::ZERO).at(Duration::ZERO), Verdict::Gone);
        assert_eq!(Freshness::new(Duration::ZERO).at(Duration::ZERO), Verdict::Stale);
        let forever = Freshness::new(Duration::MAX).stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX);
        assert_eq!(forever.at(secs(580 * 365 * 86_400)), Verdict::Fresh);
        assert_eq!(forever.at(Duration::MAX), Verdict::Gone);
        assert_eq!(forever.gone_at(), Duration::MAX);
        assert_eq!(Freshness::of_parts(forever.parts()), forever);
        for long in [secs(u64::MAX), Duration::MAX - NANO] {
            assert_eq!(Freshness::new(long).lifetime(), Duration::MAX, "it is for ever");
        }
    }

    prop_compose! {
        /// Whole seconds and not, short and long: all of them together are no more than 584 years.
        fn span()(nanos in 0..u64::MAX / 8, short in 0..63_u32, whole: bool) -> Duration {
            let span = Duration::from_nanos(nanos >> short);
            if whole { secs(span.as_secs()) } else { span }
        }
    }

    proptest! {
        #[test] // P4
        fn a_verdict_is_what_sums_of_durations_say(
            parts in [span(), span(), span(), span()], age in span(), horizon in 0..5_usize, off in -1..=1_i64,
        ) {
            let [lifetime, revalidate, error, kept] = parts;
            let ends = [lifetime, lifetime + revalidate, lifetime + error, lifetime + kept];
            // At a horizon, a moment before it or after it; or anywhere.
            let at = ends.get(horizon).map_or(age, |end| match off {
                -1 => end.saturating_sub(NANO),
                off => *end + NANO * off.unsigned_abs() as u32,
            });
            let within = [lifetime, ends[1], ends[1].max(ends[2]), ends[1].max(ends[2]).max(ends[3])];
            let verdicts = [Verdict::Fresh, Verdict::Stale, Verdict::TooStale, Verdict::Spent];
            let expected = within.iter().position(|end| at < *end).map_or(Verdict::Gone, |first| verdicts[first]);
            let freshness = Freshness::of_parts(parts);
            prop_assert_eq!(freshness.at(at), expected);
            prop_assert_eq!((freshness.stale_until(), freshness.gone_at()), (ends[1], within[3]));
            prop_assert_eq!(freshness.parts(), parts);
            // P49: rounded down, and below zero for whatever is not fresh.
            let over = at.saturating_sub(lifetime).as_nanos().div_ceil(1_000_000_000) as i64;
            let left = lifetime.saturating_sub(at).as_secs() as i64;
            prop_assert_eq!(freshness.ttl(at, at < lifetime), if at < lifetime { left } else { -over.max(1) });
        }
    }

    #[test] // P49
    fn what_is_expired_by_hand_has_nothing_left_and_what_is_for_ever_has_all() {
        assert_eq!(Freshness::new(secs(60)).ttl(secs(1), false), -1);
        let forever = Freshness::new(Duration::MAX);
        assert_eq!((forever.ttl(secs(1), true), forever.ttl(secs(1), false)), (i64::MAX, -1));
        assert_eq!(Freshness::new(secs(1)).ttl(Duration::MAX, false), -18_446_744_073);
    }

    #[test] // P34
    fn an_expired_response_is_stale_and_lives_no_longer_than_before() {
        let windows = Freshness::new(secs(60)).stale_while_revalidate(secs(10)).stale_if_error(secs(30));
        assert_eq!(windows.at_expired(secs(1)), Verdict::Stale);
        assert_eq!(windows.at_expired(secs(69)), Verdict::Stale);
        assert_eq!(windows.at_expired(secs(70)), Verdict::TooStale);
        assert_eq!(windows.at_expired(secs(90)), Verdict::Gone);
        assert_eq!(Freshness::exact(secs(60)).at_expired(secs(1)), Verdict::Gone);
        assert_eq!(Freshness::exact(secs(60)).stale_if_error(secs(1)).at_expired(secs(1)), Verdict::TooStale);
    }

    #[test] // P8
    fn jitter_only_ever_shortens_a_lifetime() {
        let freshness = Freshness::new(secs(60));
        assert_eq!(freshness.jittered(0.5, 0.0), freshness);
        assert_eq!(freshness.jittered(0.5, 1.0).lifetime(), secs(30));
        assert_eq!(freshness.jittered(0.5, 0.5).lifetime(), secs(45));
        assert_eq!(freshness.jittered(1.0, 1.0).lifetime(), Duration::ZERO);
        let odd = secs(580 * 365 * 86_400) + NANO;
        for lifetime in [Duration::ZERO, NANO, odd, secs(u64::MAX), Duration::MAX - NANO] {
            let given = Freshness::new(lifetime);
            for (part, lot) in [(0.1, f64::EPSILON), (0.5, 0.5), (1.0, 1.0)] {
                assert!(given.jittered(part, lot).lifetime() <= given.lifetime());
            }
            assert_eq!((given.jittered(0.0, 0.9), given.jittered(0.1, 0.0)), (given, given), "not by a nanosecond");
        }
        let forever = Freshness::new(Duration::MAX);
        assert_eq!(forever.jittered(0.5, 0.0), forever);
    }

    #[test] // P8
    fn the_nearer_the_end_and_the_dearer_the_run_the_likelier_an_early_refresh() {
        let freshness = Freshness::new(secs(60));
        let due = |age, cost, beta, lot| freshness.is_due_early(secs(age), secs(cost), beta, lot);
        // e^-1: a head start of exactly beta times the cost.
        let once = 1.0 / std::f64::consts::E;
        assert!(due(51, 10, 1.0, once) && !due(49, 10, 1.0, once));
        assert!(due(41, 10, 2.0, once) && !due(39, 10, 2.0, once));
        assert!(due(59, 2, 1.0, once) && !due(57, 2, 1.0, once));
        assert!(!due(59, 10, 1.0, 1.0), "the luckiest draw gives no head start");
        assert!(due(0, 1, 1.0, 0.0), "the unluckiest gives a long one, and no infinite one");
        assert!(!due(0, 0, 1.0, 0.0), "what costs nothing is never refreshed early");
    }

    #[test]
    fn what_is_kept_to_be_validated_is_served_to_nobody() {
        let kept = Freshness::exact(secs(60)).stale_if_error(secs(10)).kept_for(secs(30));
        for (age, verdict) in [
            (59, Verdict::Fresh),
            (60, Verdict::TooStale),
            (70, Verdict::Spent),
            (89, Verdict::Spent),
            (90, Verdict::Gone),
        ] {
            assert_eq!(kept.at(secs(age)), verdict);
        }
        assert_eq!(Freshness::exact(Duration::ZERO).kept_for(secs(1)).at(Duration::ZERO), Verdict::Spent);
        assert_eq!(Freshness::exact(secs(60)).kept_for(secs(30)).at_expired(secs(1)), Verdict::Spent);
        assert!(Verdict::TooStale.is_servable() && !Verdict::Spent.is_servable() && !Verdict::Gone.is_servable());
    }

    #[test]
    fn a_duration_carries_the_default_windows() {
        assert_eq!(Freshness::from(secs(60)), Freshness::new(secs(60)));
    }
}
