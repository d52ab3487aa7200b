//! What was found for a request, and whether that answers it: by its verdict, by what the request demands of it, and by how
//! the last runs went.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    demands::Demands,
    entry::Entry,
    freshness::Verdict,
    key::Key,
    route::Settings,
    slot::Slot,
    status::{CacheStatus, Detail, Outcome},
};

/// What was found for a request.
pub(crate) struct Sighting<V> {
    pub(crate) slot: Option<Arc<Slot<V>>>,
    pub(crate) now: Instant,
    found: Result<Found, CacheStatus>,
}

#[derive(Clone, Copy)]
struct Found {
    at: usize,
    verdict: Verdict,
    age: Duration,
}

/// What is to be done behind a reader who is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    Refresh,
    /// The service is audited.
    Audit,
}

impl<V> Sighting<V> {
    pub(crate) fn of_nothing(now: Instant) -> Self {
        Self { slot: None, now, found: Err(CacheStatus::UriMiss) }
    }

    /// What a slot holds, and which of it the request selects.
    /// One that is not vouched for is not to be served by anybody.
    pub(crate) fn new(slot: Arc<Slot<V>>, selected: Option<usize>, now: Instant, vouched: bool) -> Self {
        let found = match selected {
            None if slot.variants.is_empty() => Err(CacheStatus::UriMiss),
            None => Err(CacheStatus::VaryMiss),
            Some(at) => {
                let (verdict, age) = slot.variants[at].verdict(now);
                if verdict == Verdict::Gone || !vouched {
                    Err(CacheStatus::Stale)
                } else {
                    Ok(Found { at, verdict, age })
                }
            }
        };
        Self { slot: Some(slot), now, found }
    }

    /// What the shared store held, with all else that is known of the key.
    pub(crate) fn of_found(slot: Option<&Slot<V>>, key: &Key, entry: Arc<Entry<V>>, now: Instant) -> Self {
        let mut slot = slot.cloned().unwrap_or_else(|| Slot::new(key.clone()));
        slot.hold(entry);
        Self::new(Arc::new(slot), Some(0), now, true)
    }

    /// Takes what was found for used.
    pub(crate) fn touch(&self) {
        if let (Some(slot), Ok(found)) = (&self.slot, self.found) {
            slot.variants[found.at].touch(slot);
        }
    }

    /// Whether what was found answers at once a request that demands this of it.
    pub(crate) fn answer(&self, settings: &Settings, demands: Option<&Demands>) -> Option<(Outcome, Behind)> {
        let Some(demands) = demands else { return self.hit(settings) };
        let (entry, age) = self.kept()?;
        let (lifetime, fresh) = (entry.freshness().lifetime(), self.verdict() == Verdict::Fresh);
        if !demands.are_met(lifetime, age, fresh)
            || !self.is_backing_off() && demands.is_too_stale(lifetime, age, fresh)
        {
            return None;
        }
        let on_demand = demands.max_stale.is_some() && entry.judged.on_demand && !self.is_expired();
        self.hit(settings).or_else(|| on_demand.then(|| (self.outcome(CacheStatus::Hit), Behind::Nothing)))
    }

    /// Whether what was found answers the request at once: with which outcome, and what is to be done behind it.
    pub(crate) fn hit(&self, settings: &Settings) -> Option<(Outcome, Behind)> {
        let outcome = || self.outcome(CacheStatus::Hit);
        match self.verdict() {
            Verdict::Fresh if self.is_due_early(settings) => Some((outcome(), Behind::Refresh)),
            Verdict::Fresh => Some((outcome(), Behind::Nothing)),
            Verdict::Stale | Verdict::TooStale if self.is_backing_off() => {
                Some((outcome().because(Some(Detail::BackOff)), Behind::Nothing))
            }
            Verdict::Stale => Some((outcome(), Behind::Refresh)),
            Verdict::TooStale | Verdict::Spent | Verdict::Gone => None,
        }
    }

    /// Whether the lots say that this fresh entry had better be refreshed.
    fn is_due_early(&self, settings: &Settings) -> bool {
        let (Some(beta), Some((entry, age))) = (settings.early_refresh, self.entry()) else { return false };
        !self.is_backing_off() && entry.early.is_due(entry.freshness(), age, beta, fastrand::f64())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.found.map_or(Verdict::Gone, |found| found.verdict)
    }

    /// The entry that may answer the request, now or should a run fail; and its age.
    pub(crate) fn entry(&self) -> Option<(&Arc<Entry<V>>, Duration)> {
        let found = self.found.ok().filter(|found| found.verdict.is_servable())?;
        Some((&self.slot.as_ref()?.variants.get(found.at)?.entry, found.age))
    }

    /// The entry that was found, whoever may have it; and its age.
    pub(crate) fn kept(&self) -> Option<(&Arc<Entry<V>>, Duration)> {
        let found = self.found.ok()?;
        Some((&self.slot.as_ref()?.variants.get(found.at)?.entry, found.age))
    }

    /// Whether what was found is being refreshed by another one, who is not `overdue`.
    pub(crate) fn is_being_refreshed(&self, overdue: Duration) -> bool {
        self.kept().is_some_and(|(entry, _)| entry.is_being_refreshed(self.now, overdue))
    }

    /// The entry that was found, and its age, if nobody else has it. Then it is not there any more.
    pub(crate) fn hand_over(&mut self) -> Option<(Entry<V>, Duration)> {
        let found = self.found.ok()?;
        let variants = &mut Arc::get_mut(self.slot.as_mut()?)?.variants;
        Arc::get_mut(&mut variants.get_mut(found.at)?.entry)?;
        self.found = Err(CacheStatus::UriMiss);
        Some((Arc::into_inner(variants.swap_remove(found.at).entry)?, found.age))
    }

    /// Whether it was expired by hand.
    fn is_expired(&self) -> bool {
        let kept = || self.slot.as_ref()?.variants.get(self.found.ok()?.at);
        kept().is_some_and(|kept| kept.expired)
    }

    /// The entry that a run is to replace, and whether it may be served should that run fail.
    pub(crate) fn base(&self) -> Option<(&Arc<Entry<V>>, bool)> {
        let found = self.found.ok()?;
        Some((&self.slot.as_ref()?.variants.get(found.at)?.entry, found.verdict.is_servable()))
    }

    /// Whether requests do not wait for one another: what was shared lately could not be, or each has it validated for
    /// himself.
    pub(crate) fn keeps_apart(&self) -> bool {
        self.is_marked()
            || self.verdict() > Verdict::Stale && self.base().is_some_and(|(entry, _)| entry.judged.validate)
    }

    /// Whether a run for the whole is worth it for one who asks for a part: it replaces something, or is to `fill`. Of what
    /// could not be shared lately nobody fetches more than he asks for.
    pub(crate) fn calls_for_the_whole(&self, fill: bool) -> bool {
        !self.is_marked() && (fill || self.base().is_some())
    }

    /// The status of a request that goes forward.
    pub(crate) fn forward(&self) -> CacheStatus {
        self.found.err().unwrap_or(CacheStatus::Stale)
    }

    /// The status of a request that asks for something new, or for something else than what answers others.
    pub(crate) fn forward_of(&self, by_hand: bool, demanding: bool, settings: &Settings) -> CacheStatus {
        let refused = by_hand && self.entry().is_some() || demanding && self.hit(settings).is_some();
        if refused { CacheStatus::Request } else { self.forward() }
    }

    /// The outcome of answering with the entry.
    pub(crate) fn outcome(&self, status: CacheStatus) -> Outcome {
        let outcome = Outcome::new(status);
        let Some((entry, age)) = self.kept() else { return outcome };
        outcome.ttl_of(entry.freshness().ttl(age, self.verdict() == Verdict::Fresh))
    }

    /// All that decides what a request does next.
    pub(crate) fn state(&self) -> (Verdict, bool, bool, bool) {
        (self.verdict(), self.is_marked(), self.is_backing_off(), self.is_shown())
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is_marked(self.now))
    }

    pub(crate) fn is_backing_off(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is_backing_off(self.now))
    }

    /// Whether what the service answers is to be seen though it cannot be stored.
    pub(crate) fn is_shown(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is_shown(self.now))
    }
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use super::*;
    use crate::{
        clock,
        entry::{Early, Generation},
        freshness::Freshness,
        judgement::Judgement,
    };

    fn entry() -> Arc<Entry<&'static str>> {
        Arc::new(Entry {
            value: "v",
            started: clock::now(),
            run: 1,
            early: Early::default(),
            judged: Judgement::storable(Freshness::new(Duration::from_secs(60))),
            variant: None,
            weight: 1,
            generation: Generation::default(),
            refreshing: Default::default(),
        })
    }

    #[tokio::test(start_paused = true)] // P44
    async fn what_anybody_else_has_is_not_handed_over_and_what_nobody_has_is_and_once() {
        let mine = entry();
        let mut sighting = Sighting::of_found(None, &Key::from("k"), Arc::clone(&mine), clock::now());
        assert!(sighting.hand_over().is_none(), "the entry has another reader");
        assert!(sighting.kept().is_some());
        drop(mine);
        let slot = sighting.slot.clone();
        assert!(sighting.hand_over().is_none(), "its slot has another reader");
        assert!(sighting.kept().is_some());
        drop(slot);
        assert_eq!(sighting.hand_over().map(|(entry, _)| entry.value), Some("v"));
        assert!(sighting.hand_over().is_none() && sighting.kept().is_none());
        assert_eq!(sighting.verdict(), Verdict::Gone);
    }
}
