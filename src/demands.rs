//! What a request demands of a stored response that is to answer it (RFC 9111 §5.2.1).
//!
//! Arithmetic without a clock, as in `freshness.rs`. Who may demand anything is a protocol's business.

use std::time::Duration;

/// The demands of one request. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Nothing that is stored will do before the service was asked about it.
    pub(crate) no_cache: bool,
    /// No response that is older.
    pub(crate) max_age: Option<Duration>,
    /// No response that is not fresh for so much longer.
    pub(crate) min_fresh: Option<Duration>,
    /// A response will do that has been stale for so long, and none that has been for longer.
    pub(crate) max_stale: Option<Duration>,
    /// The service is not to be called.
    pub(crate) only_if_cached: bool,
    /// By the layer's rule, not by its own word: no response that has been stale for longer, as long as there is hope of
    /// a new one.
    pub(crate) most_stale: Option<Duration>,
}

impl Demands {
    /// Whether a response will do that is of this age and lives for so long. `fresh` is the verdict on it: it may have
    /// been expired by hand.
    pub(crate) fn are_met(&self, lifetime: Duration, age: Duration, fresh: bool) -> bool {
        let lives_on = |for_more: Duration| age.checked_add(for_more).is_some_and(|end| end <= lifetime);
        // Who says 0 wants to have it from the service, also in the moment in which another one has got it.
        let young = self.max_age.is_none_or(|most| age <= most && !most.is_zero());
        let lively = match (self.min_fresh, self.max_stale) {
            (Some(least), _) => fresh && lives_on(least),
            (None, Some(most)) => fresh || age.saturating_sub(lifetime) <= most,
            // Who limits its age does not want it stale, unless he says so (§5.2.1.1).
            (None, None) => fresh || self.max_age.is_none(),
        };
        !self.no_cache && young && lively
    }

    /// Whether by the layer's rule a response has been stale for too long. Expired by hand it is stale from that moment on,
    /// of which nobody knows more than that it was no end of its lifetime.
    pub(crate) fn is_too_stale(&self, lifetime: Duration, age: Duration, fresh: bool) -> bool {
        self.most_stale.is_some_and(|most| !fresh && (most.is_zero() || age.saturating_sub(lifetime) > most))
    }

    /// Whether nothing will do that was made before the request came.
    pub(crate) fn are_for_something_new(&self) -> bool {
        self.no_cache || self.max_age.is_some_and(|most| most.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The ages, in seconds, at which a response that lives for a minute meets these demands.
    fn met(demands: &Demands) -> Vec<u64> {
        (0..=200).step_by(10).filter(|age| demands.are_met(secs(60), secs(*age), *age < 60)).collect()
    }

    fn every_ten(ages: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        ages.step_by(10).collect()
    }

    #[test]
    fn rfc9111_5_2_1_each_demand_bounds_the_age() {
        let none = Demands::default();
        assert_eq!(met(&none), every_ten(0..=200));
        assert_eq!(met(&Demands { max_age: Some(secs(20)), ..none.clone() }), [0, 10, 20]);
        assert_eq!(met(&Demands { max_age: Some(secs(900)), ..none.clone() }), every_ten(0..=50));
        assert_eq!(met(&Demands { min_fresh: Some(secs(20)), ..none.clone() }), every_ten(0..=40));
        assert_eq!(met(&Demands { min_fresh: Some(Duration::ZERO), ..none.clone() }), every_ten(0..=50));
        assert_eq!(met(&Demands { max_stale: Some(secs(20)), ..none.clone() }), every_ten(0..=80));
        assert_eq!(met(&Demands { max_stale: Some(Duration::ZERO), ..none.clone() }), every_ten(0..=60));
        assert_eq!(met(&Demands { max_stale: Some(Duration::MAX), ..none.clone() }), every_ten(0..=200));
        assert_eq!(met(&Demands { only_if_cached: true, ..none.clone() }), every_ten(0..=200));
        assert!(met(&Demands { no_cache: true, ..none }).is_empty());
    }

    #[test]
    fn rfc9111_5_2_1_all_demands_hold_at_once() {
        let (max_age, max_stale, none) = (Some(secs(70)), Some(secs(20)), Demands::default());
        assert_eq!(met(&Demands { max_age, max_stale, ..none.clone() }), every_ten(0..=70));
        let (max_age, min_fresh) = (Some(secs(30)), Some(secs(10)));
        assert_eq!(met(&Demands { max_age, min_fresh, ..none.clone() }), every_ten(0..=30));
        assert_eq!(met(&Demands { min_fresh, max_stale, ..none.clone() }), every_ten(0..=50));
        assert!(met(&Demands { no_cache: true, max_stale: Some(Duration::MAX), ..none }).is_empty());
    }

    #[test]
    fn the_layer_s_rule_bounds_for_how_long_a_response_was_stale() {
        let too_stale = |most, age, fresh| {
            Demands { most_stale: Some(secs(most)), ..Demands::default() }.is_too_stale(secs(60), secs(age), fresh)
        };
        assert_eq!(
            [59, 60, 79, 80, 81, 900].map(|age| too_stale(20, age, age < 60)),
            [false, false, false, false, true, true]
        );
        assert_eq!([59, 60, 61].map(|age| too_stale(0, age, age < 60)), [false, true, true]);
        assert!(too_stale(0, 5, false) && !too_stale(1, 5, false), "expired by hand");
        assert!(!Demands::default().is_too_stale(secs(60), Duration::MAX, false));
    }

    #[test]
    fn extremes_neither_panic_nor_wrap() {
        let most = Some(Duration::MAX);
        let all = Demands { max_age: most, min_fresh: most, max_stale: most, ..Demands::default() };
        assert!(!all.are_met(Duration::MAX, Duration::MAX, false) && !all.are_met(secs(60), secs(1), true));
        assert!(all.are_met(Duration::MAX, Duration::ZERO, true));
    }

    #[test]
    fn an_age_of_0_asks_for_something_new() {
        let demands = Demands { max_age: Some(Duration::ZERO), max_stale: Some(Duration::MAX), ..Demands::default() };
        assert!(demands.are_for_something_new() && !demands.are_met(secs(60), Duration::ZERO, true));
        assert!(!Demands { max_age: Some(secs(1)), ..Demands::default() }.are_for_something_new());
    }
}
