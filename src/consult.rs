//! What a run has to do with the shared store before it calls the service.

use std::sync::Arc;

use crate::{
    clock,
    entry::{Base, Fields},
    flight::Lead,
    freshness::Verdict,
    layer::Route,
    protocol::Prepare,
    store::tier::{Asked, Known, Tier},
};

/// How a run consults the shared store.
pub(crate) enum Consult {
    /// It asks: what is there will do in place of the service.
    Take,
    /// It asks, to be known there.
    Announce,
    /// It need not ask again.
    Done(Option<Known>),
}

/// What the shared store said before the run began; nothing, where there is none.
#[derive(Default)]
pub(crate) struct Consulted {
    /// What it held is in memory: there is nothing to run for.
    pub(crate) is_found: bool,
    /// Whether it holds something that will not do; or did not say.
    pub(crate) may_hold: bool,
    /// What it knows of the run. If it did not answer, nothing is saved there.
    pub(crate) known: Option<Known>,
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
) -> (Consulted, P::Request)
where
    P: Prepare<Req>,
{
    let shared = route.cache.shared();
    if let Consult::Done(known) = how {
        return (Consulted { is_found: false, may_hold: true, known }, request);
    }
    let values = |fields: &Fields, request: &P::Request| route.values_of(fields, request);
    let (Asked { found, known }, request) = tier.ask(lead.key(), request, values).await;
    let may_hold = found.is_some() || known.is_none();
    let slot = shared.memory.peek(lead.key());
    let kept = |base: &Base<P::Value>| {
        let kept = slot.as_ref()?.variants.iter().find(|kept| Arc::ptr_eq(&kept.entry, &base.entry))?;
        Some(kept.verdict(clock::now()).0)
    };
    let here = base.and_then(kept).unwrap_or(Verdict::Gone);
    let better = found.filter(|found| matches!(how, Consult::Take) && found.verdict() < here);
    let is_found = better.is_some_and(|found| {
        let (number, most) = (lead.number(), route.settings.max_variants);
        let variant = found.judged.fields.as_ref().map(|fields| values(fields, &request));
        let entry = route.restored(found, variant, clock::now(), number);
        shared.land(lead.key(), &entry, base.map(|base| &base.entry), most).is_none()
    });
    (Consulted { is_found, may_hold, known }, request)
}
