//! What a run has to do with the shared store before it calls the service: it looks there, and when another instance is at
//! it already it waits for that.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::{self, Instant},
    entry::{Base, Entry, Fields},
    flight::Lead,
    freshness::Verdict,
    journal::Journal,
    key::{self, Key},
    protocol::{Prepare, Protocol},
    route::Route,
    slot::Kept,
    store::{
        Budget, Leasing, Left,
        tier::{Begun, Held, Known, Tier},
    },
};

/// How a run consults the shared store.
#[derive(Clone, Copy)]
pub(crate) enum Consult {
    /// What is there will do in place of the service; and so will what another instance is about to make, for which it waits
    /// no longer than this.
    Take { patience: Duration },
    /// It runs in any case, and is to be known there.
    Announce,
}

/// What the shared store said before the run began; nothing, where there is none.
pub(crate) struct Consulted<V> {
    /// What it held will do, or what is in memory where it cannot be asked: there is nothing to run for.
    pub(crate) found: Option<(Arc<Entry<V>>, Whence)>,
    /// Whether it holds something that will not do; or did not say.
    pub(crate) may_hold: bool,
    /// What it knows of the run. If it did not answer, nothing is saved there.
    pub(crate) known: Option<Box<Known>>,
    /// The generation in which the run began.
    pub(crate) generation: u64,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    Store,
    Memory,
}

impl Consult {
    /// Whether what is there will do.
    fn takes(self) -> bool {
        matches!(self, Self::Take { .. })
    }

    fn patience(self) -> Duration {
        match self {
            Self::Take { patience } => patience,
            Self::Announce => Duration::ZERO,
        }
    }
}

impl<V> Default for Consulted<V> {
    fn default() -> Self {
        Self { found: None, may_hold: false, known: None, generation: 0 }
    }
}

/// Asks the shared store before the service is called. What it holds is put into memory if that is better than what is
/// there, and will do.
pub(crate) async fn consult<P, Req>(
    tier: &Tier<P::Value>,
    route: &Route<P>,
    lead: &Lead<P::Value>,
    request: P::Request,
    base: Option<&Base<P::Value>>,
    how: Consult,
    budget: &Budget,
) -> (Consulted<P::Value>, P::Request)
where
    P: Prepare<Req>,
{
    let generation = tier.generation();
    let mut asked = Consulted { found: None, may_hold: true, known: None, generation };
    let (began, patience) = (clock::now(), how.patience());
    let mut is_patient = !patience.is_zero();
    let values = |fields: &Fields, request: &P::Request| route.values_of(fields, request);
    let surpasses = |held: &Held<P::Value>, here: Verdict| {
        // What is fresh is replaced ahead of its time: by what was made later, by more than the way to the store may take.
        let late = |base: &Base<P::Value>| held.judged.age + 2 * tier.patience() < base.entry.age(clock::now());
        held.verdict() < here || (held.verdict(), here) == (Verdict::Fresh, Verdict::Fresh) && base.is_some_and(late)
    };
    let take = |held: Option<Held<P::Value>>, request: &P::Request| {
        let better = held.filter(|held| how.takes() && surpasses(held, here(route, lead, base)))?;
        let variant = better.judged.fields.as_ref().map(|fields| values(fields, request));
        let entry = route.restored(better, variant, clock::now(), lead.number(), generation);
        let (shared, most) = (route.cache.shared(), route.settings.max_variants);
        shared.land(lead.key(), &entry, base.map(|base| &base.entry), most).is_none().then_some((entry, Whence::Store))
    };
    let (looked, mut request) = tier.look(budget, lead.key(), request, values).await;
    let Some(mut looked) = looked else {
        // Nobody can be asked: what is in memory serves for itself.
        let unasked = how.takes() && base.is_none();
        let kept = unasked.then(|| route.look(key::bytes(lead.key()), &request, clock::now()));
        asked.found = kept.and_then(|seen| seen.kept().map(|(entry, _)| (Arc::clone(entry), Whence::Memory)));
        return (asked, request);
    };
    let younger = settle_what_is_unvouched_for(tier, route, lead.key(), &request, looked.found.as_ref(), generation);
    if let Some(younger) = younger.filter(|_| how.takes()) {
        asked.found = Some((younger, Whence::Memory));
        return (asked, request);
    }
    loop {
        let is_held = looked.found.is_some();
        asked.found = take(looked.found.take(), &request);
        if asked.found.is_some() {
            return (asked, request);
        }
        let leasing = if is_patient { Leasing::Wanted } else { Leasing::Unwanted };
        let Some(Begun { found, known, held }) = tier.begin(budget, &looked, leasing).await else {
            return (asked, request);
        };
        asked.may_hold = is_held || found.is_some();
        asked.found = take(found, &request);
        let Some(held) = held.filter(|_| asked.found.is_none()) else {
            asked.known = Some(Box::new(known));
            return (asked, request);
        };
        let left = clock::timeout(rest(patience, began), held).await;
        // One who was told that the other run has ended, or has waited for long enough, waits for no second one.
        is_patient = left == Some(Left::Lost);
        if left == Some(Left::Ended) {
            let (again, its) = tier.look(budget, lead.key(), request, values).await;
            request = its;
            let Some(again) = again else { return (asked, request) };
            // The fields that select may be known by now: then there is one run for each variant.
            is_patient = !again.is_for_what(&looked);
            looked = again;
        }
        is_patient &= !rest(patience, began).is_zero();
    }
}

/// Asks the shared store for what is in memory and may have been invalidated unheard, on behalf of one who leads no run.
/// Whether it has that still.
pub(crate) async fn verify<P, Req>(
    tier: &Tier<P::Value>,
    route: &Route<P>,
    key: &Key,
    request: P::Request,
    budget: &Budget,
) -> (bool, P::Request)
where
    P: Prepare<Req>,
{
    let (shared, generation) = (route.cache.shared(), tier.generation());
    // What is invalidated from here on is not brought back.
    let began = Journal::start(&shared.journal);
    let values = |fields: &Fields, request: &P::Request| route.values_of(fields, request);
    let (looked, request) = tier.look(budget, key, request, values).await;
    let Some(looked) = looked else { return (false, request) };
    let younger = settle_what_is_unvouched_for(tier, route, key, &request, looked.found.as_ref(), generation);
    if younger.is_some() {
        return (true, request);
    }
    let Some(held) = looked.found else { return (false, request) };
    let variant = held.judged.fields.as_ref().map(|fields| values(fields, &request));
    let entry = route.restored(held, variant, clock::now(), began.number(), generation);
    (shared.land(key, &entry, None, route.settings.max_variants).is_none(), request)
}

/// What is in memory and may have been invalidated unheard has its place taken by what the store holds, or by what is made.
/// But for what began later than what the store holds, and is of no other groups: as that was not invalidated since, this
/// was not. It is given back.
fn settle_what_is_unvouched_for<P, Req>(
    tier: &Tier<P::Value>,
    route: &Route<P>,
    key: &Key,
    request: &P::Request,
    held: Option<&Held<P::Value>>,
    generation: u64,
) -> Option<Arc<Entry<P::Value>>>
where
    P: Prepare<Req>,
{
    let (memory, now) = (&route.cache.shared().memory, clock::now());
    let unvouched = |kept: &Kept<P::Value>| !tier.vouches_for(kept.entry.generation.get());
    let slot = memory.peek(key).filter(|slot| slot.variants.iter().any(unvouched))?;
    let is_good = |kept: &&Kept<P::Value>| {
        held.is_some_and(|held| {
            let its = &held.judged.tags;
            // Of what was found there itself nobody here knows when it began.
            let began_later =
                !kept.entry.judged.found && now.saturating_duration_since(kept.entry.started) < held.claimed;
            let is_younger = kept.entry.age(now) < held.judged.age;
            began_later && is_younger && kept.entry.tags().iter().all(|tag| its.contains(tag))
        })
    };
    let selected = slot.variants.iter().find(|kept| route.selects(&kept.entry, request));
    let good = selected.filter(is_good).map(|kept| Arc::clone(&kept.entry));
    if let Some(good) = &good {
        good.generation.set(generation);
    }
    memory.update(key, now, |slot| slot.variants.retain(|kept| !unvouched(kept)));
    good
}

/// How good that is by now which is to be replaced.
fn here<P: Protocol>(route: &Route<P>, lead: &Lead<P::Value>, base: Option<&Base<P::Value>>) -> Verdict {
    let shared = route.cache.shared();
    let kept = |base: &Base<P::Value>| {
        if shared.strict().is_some() {
            return Some(base.entry.freshness().at(base.entry.age(clock::now())));
        }
        let slot = shared.memory.peek(lead.key())?;
        let kept = slot.variants.iter().find(|kept| Arc::ptr_eq(&kept.entry, &base.entry))?;
        Some(kept.verdict(clock::now()).0)
    };
    base.and_then(kept).unwrap_or(Verdict::Gone)
}

/// What is left of a patience that began then.
pub(crate) fn rest(patience: Duration, began: Instant) -> Duration {
    patience.saturating_sub(clock::now().saturating_duration_since(began))
}
