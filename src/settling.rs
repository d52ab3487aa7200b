//! What a response means: for what is stored, for those who wait, and for the runs that follow.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    clock::{self, Instant},
    consult::Consulted,
    desk::{Desk, Left},
    entry::{Base, Entry, Fields},
    flight::{Landed, Landing, Lead},
    freshness::Verdict,
    judgement::{Class, Judgement},
    protocol::{Capture, Protocol, Unfilled, Validated},
    route::Route,
    status::Detail,
    store::tier::Afterwards,
    telemetry::Event,
};

/// A response of a run, about to be settled.
pub(crate) struct Settling<'a, P: Protocol> {
    pub(crate) route: &'a Route<P>,
    pub(crate) lead: &'a Lead<P::Value>,
    pub(crate) base: Option<&'a Base<P::Value>>,
    pub(crate) started: Instant,
    pub(crate) status: Option<u16>,
    pub(crate) asked: Consulted<P::Value>,
    pub(crate) afterwards: &'a Mutex<Option<Box<Left<P::Value>>>>,
}

impl<P: Protocol> Settling<'_, P> {
    /// A whole response that by its head may be shared: judges it once more, and lands it. The last word on it.
    pub(crate) fn land<Res>(&self, judged: Judgement, value: P::Value, sight: &P::Sight) -> Judgement
    where
        P: Capture<Res>,
    {
        self.conclude(self.route.protocol.judge_whole(&value, judged), value, sight)
    }

    /// A whole response on which the verdict stands.
    fn conclude(&self, mut judged: Judgement, value: P::Value, sight: &P::Sight) -> Judgement {
        if let Class::Personal { .. } = judged.class {
            self.refuse(&judged);
        } else {
            judged.detail = self.share(judged.clone(), value, sight);
        }
        judged
    }

    /// A whole response that may be shared: stores it if it may be stored, and lands it. Why it was not stored, if it
    /// was not.
    fn share(&self, judged: Judgement, value: P::Value, sight: &P::Sight) -> Option<Detail> {
        let entry = self.entry(judged, value, sight);
        let most = self.route.settings.max_variants;
        let shared = self.route.cache.shared();
        let refusal = shared.land(self.lead.key(), &entry, self.base.map(|base| &base.entry), most);
        let refusal = refusal.or_else(|| {
            // Where the store has been asked, it does not hold what was validated.
            let detail = if self.asked.may_hold { Detail::StoreDown } else { Detail::Invalidated };
            (!self.is_kept()).then_some(detail)
        });
        match refusal {
            None => {
                shared.telemetry.tell(Event::Stored);
                self.save(&entry, sight);
            }
            Some(Detail::Invalidated) => {
                shared.telemetry.tell(Event::Refused(Detail::Invalidated));
                // What it says counts for nothing any more. That it failed does.
                if entry.judged.failed {
                    back_off(self.route, self.lead, self.is_warm());
                }
            }
            Some(Detail::StoreDown) => shared.telemetry.tell(Event::Refused(Detail::StoreDown)),
            Some(detail) => {
                self.unstored(&entry.judged, detail);
                if entry.judged.class == Class::Storable && detail == Detail::TooLarge {
                    // This memory has no room for it. Others may have.
                    self.save(&entry, sight);
                }
            }
        }
        let reusable = || entry.freshness().at(entry.age(clock::now())) <= Verdict::Stale;
        self.lead.land(if entry.judged.validate || entry.judged.by_the_letter && !reusable() {
            // Each of those who wait has it from the service, or validated, for himself.
            Landing::Personal
        } else {
            Landing::Shared(Landed { entry, refusal, status: self.status })
        });
        refusal
    }

    fn entry(&self, judged: Judgement, value: P::Value, sight: &P::Sight) -> Arc<Entry<P::Value>> {
        self.route.entry(judged, value, sight, self.started, self.lead.number(), self.asked.generation)
    }

    /// What was stored is still what the service would answer. Where the shared store does not hold it any more, it may have
    /// been invalidated unheard: memory keeps it as what it was, and nobody else is given it.
    pub(crate) fn settle<Request, Response, Error>(
        mut self,
        desk: &Desk<P::Value, Request, Response, Error>,
        validated: Validated<Response, P::Value>,
        sight: &P::Sight,
    ) {
        let Validated { judged, value, response } = validated;
        if let Some(base) = self.base.filter(|_| self.is_lost()) {
            (self.asked.known, self.asked.generation) = (None, base.entry.generation.get());
        }
        let judged = self.conclude(judged, value, sight);
        let stored = judged.class == Class::Storable && judged.detail.is_none();
        desk.hand_over(response, self.status, &judged, stored);
    }

    /// A response that nobody else may have, or that nobody else wants.
    pub(crate) fn refuse(&self, judged: &Judgement) {
        self.unstored(judged, judged.detail.unwrap_or(Detail::NoLifetime));
        self.lead.land(match judged.class {
            Class::Personal { .. } => Landing::Personal,
            _ => Landing::Vacated,
        });
    }

    /// A response that looked storable and turned out not to be.
    pub(crate) fn decline(&self, judged: &mut Judgement, unfilled: Unfilled) {
        let detail = unfilled.detail();
        if unfilled == Unfilled::Failed {
            judged.detail = Some(detail);
            self.route.cache.shared().telemetry.tell(Event::Refused(detail));
            back_off(self.route, self.lead, self.is_warm());
            return self.lead.land(Landing::Failed(None));
        }
        // A client can bring about an error status, and must not switch collapsing off with it.
        let mark = self.status.is_none_or(|status| status < 400);
        judged.refuse(Class::Personal { mark }, detail);
        self.refuse(judged);
    }

    /// Whether there is a place to keep what is stored: memory; or the shared store, if that knows of the run.
    pub(crate) fn is_kept(&self) -> bool {
        self.asked.known.is_some() || self.route.cache.shared().strict().is_none()
    }

    /// Whether the shared store knows of the run and holds nothing for it.
    fn is_lost(&self) -> bool {
        self.asked.known.is_some() && !self.asked.may_hold
    }

    /// Has the entry saved in the shared store, if that knows of the run.
    fn save(&self, entry: &Arc<Entry<P::Value>>, sight: &P::Sight) {
        if let Some(known) = &self.asked.known {
            let values = |fields: &Fields| self.route.values(fields, sight);
            self.leave(Afterwards::Save(known.saving(entry, values)));
        }
    }

    /// Leaves something to do in the shared store.
    fn leave(&self, afterwards: Afterwards<P::Value>) {
        let left = Box::new((afterwards, self.route.cache.shared().saving.start()));
        *self.afterwards.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }

    /// Whether what the shared store holds by now is none of this run's business: a run that started later has stored
    /// something, or an invalidation came between.
    fn is_outdone(&self, judged: &Judgement) -> bool {
        let (shared, run) = (self.route.cache.shared(), self.lead.number());
        let slot = shared.memory.peek(self.lead.key());
        slot.is_some_and(|slot| slot.variants.iter().any(|kept| kept.entry.run > run))
            || shared.journal.land(run, self.lead.key(), &judged.tags, |voided| voided)
    }

    fn is_warm(&self) -> bool {
        self.base.is_some_and(|base| base.servable)
    }

    /// Nothing was stored: a failure leaves the stale entry as it is, and so does what one gets who said who he is; any
    /// other response takes its place by removing it.
    fn unstored(&self, judged: &Judgement, detail: Detail) {
        self.route.cache.shared().telemetry.tell(Event::Refused(detail));
        // What one gets who said who he is puts nobody else off.
        let own = detail == Detail::Credential;
        if judged.failed && !own {
            back_off(self.route, self.lead, self.is_warm());
        }
        let replaced = self.base.filter(|_| !judged.failed && !own);
        if (replaced.is_some() || self.asked.may_hold && !judged.failed && !own) && !self.is_outdone(judged) {
            self.leave(Afterwards::Forget(self.asked.known.as_deref().cloned()));
        }
        let marked = !judged.failed && judged.class == Class::Personal { mark: true };
        let shown = !judged.failed && !own && self.route.protocol.has_placeholder();
        // The fields are kept in any case: those who wait regroup by them.
        if replaced.is_none() && !marked && !shown && judged.fields.is_none() {
            return;
        }
        if replaced.is_some() || marked {
            // A run that began before this one does not bring back what it takes away.
            self.lead.supersede();
        }
        let now = clock::now();
        let (opt_in, a_while) = (self.route.settings.opt_in, clock::after(now, self.route.settings.hit_for_miss));
        self.route.cache.shared().memory.update(self.lead.key(), now, |slot| {
            if let Some(base) = replaced {
                slot.remove(&base.entry);
            }
            if marked {
                slot.mark_until(a_while, self.lead.number());
            }
            // Where one has to opt in, what nothing is known of is as if there were no layer.
            if shown && !(opt_in && slot.is_idle()) {
                slot.show_until(a_while);
            }
            slot.learn(judged.fields.as_ref());
        });
    }
}

/// Puts off the next run after one that failed, unless that was cold and nothing stands in: then there is nothing to serve
/// meanwhile.
pub(crate) fn back_off<P: Protocol>(route: &Route<P>, lead: &Lead<P::Value>, warm: bool) {
    let shared = route.cache.shared();
    // Where memory keeps nothing it does not know what there is to serve meanwhile.
    let stands_in = route.protocol.has_placeholder() || warm && shared.strict().is_some();
    if warm || stands_in {
        let (now, lot) = (clock::now(), fastrand::f64());
        shared.memory.update(lead.key(), now, |slot| slot.fail(now, lead.number(), lot, stands_in));
    }
}
