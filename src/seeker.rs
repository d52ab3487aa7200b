//! What a request can do that memory does not answer: look, be answered by what was found or landed, lead a run, go forward,
//! and fall back on what is stale.

use std::{any::Any, future::pending, panic, pin::pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tower_service::Service;

use crate::{
    clock::{self, Instant},
    consult::{Consult, rest, verify},
    demands::Demands,
    desk::{Delivery, Found},
    entry::Fields,
    entry::{Base, Entry},
    flight::{Landed, Lead},
    freshness::Verdict,
    future::Call,
    key::{self, Key},
    protocol::{Capture, Prepare, Protocol},
    route::{Route, Settings},
    run::{self, Job},
    sighting::{Behind, Sighting},
    slot::Slot,
    status::{CacheStatus, Detail, Outcome},
    store::{Budget, tier::Afterwards},
    telemetry::Event,
};

/// A request on its way to an answer.
pub(crate) struct Seeker<P: Protocol> {
    pub(crate) route: Arc<Route<P>>,
    pub(crate) key: Key,
    pub(crate) view: P::View,
    /// Why it goes forward.
    pub(crate) status: CacheStatus,
    /// Nothing that began before it will do: neither what is stored, nor a run that is under way already.
    pub(crate) forced: Option<Forced>,
    /// Code in this process asks for that: the run is the answer, whatever becomes of it.
    pub(crate) by_hand: bool,
    /// When it came: from then on it is waiting.
    pub(crate) came: Instant,
    /// What is left of the time for the shared store, if there is one.
    pub(crate) budget: Option<Budget>,
}

/// What became of leading.
pub(crate) enum Led<V, Called, Response, Error> {
    Answered(Result<Response, Error>),
    /// There is something that will do. The request is still to be answered.
    Found(Box<Found<V, Called>>),
}

/// What became of leading a run of this service, to a seeker.
type LedBy<P, S, Request, Response> =
    Led<<P as Protocol>::Value, (S, Request), Response, <S as Service<Request>>::Error>;

/// What such a run delivers.
type DeliveryBy<P, S, Request, Response> =
    Delivery<<P as Protocol>::Value, (S, Request), Response, <S as Service<Request>>::Error>;

/// A request that asks for a new response: by the journal's number, the moment at which it came.
#[derive(Clone, Copy)]
pub(crate) struct Forced(pub(crate) u64);

impl<P: Protocol> Seeker<P> {
    /// Looks again: something may have landed since the last time.
    pub(crate) fn look<Req>(
        &self,
        request: P::Request,
    ) -> impl Future<Output = (Sighting<P::Value>, P::Request)> + Send + use<P, Req>
    where
        P: Prepare<Req>,
    {
        // Not everything that a seeker has may be shared between threads.
        let (route, key, budget) = (Arc::clone(&self.route), self.key.clone(), self.budget.clone());
        async move { route.look_anywhere(&key, request, budget.as_ref()).await }
    }

    /// Whether something may have been invalidated unheard that would answer.
    pub(crate) fn is_unvouched_for(&self, seen: &Sighting<P::Value>) -> bool {
        let unvouched = |slot: &Arc<Slot<P::Value>>| {
            slot.variants.iter().any(|kept| !self.route.cache.shared().vouches_for(&kept.entry))
        };
        seen.entry().is_none() && seen.slot.as_ref().is_some_and(unvouched)
    }

    /// Has the shared store asked for it, and looks again.
    pub(crate) fn verify<Req>(
        &self,
        request: P::Request,
    ) -> impl Future<Output = (Sighting<P::Value>, Option<Detail>, P::Request)> + Send + use<P, Req>
    where
        P: Prepare<Req>,
    {
        let (route, key, budget) = (Arc::clone(&self.route), self.key.clone(), self.budget.clone());
        async move {
            let (mut is_there, mut request) = (false, request);
            if let (Some(tier), Some(budget)) = (&route.cache.shared().tier, &budget) {
                (is_there, request) = verify(tier, &route, &key, request, budget).await;
            }
            let seen = route.look(key::bytes(&key), &request, clock::now());
            (seen, is_there.then_some(Detail::Store), request)
        }
    }

    /// How a run of this one's consults the shared store. Who does not wait for others here waits for none elsewhere; and
    /// nobody waits for longer there than here.
    pub(crate) fn consult(&self, takes: bool, together: bool) -> Consult {
        let asks = together && self.route.cache.shared().tier.is_some();
        let patience = if asks { rest(self.route.settings.wait_timeout, self.came) } else { Duration::ZERO };
        if takes { Consult::Take { patience } } else { Consult::Announce }
    }

    /// Looks at what a run has found in the shared store.
    pub(crate) fn look_at<Req>(&self, found: Arc<Entry<P::Value>>, request: &P::Request) -> Sighting<P::Value>
    where
        P: Prepare<Req>,
    {
        let (shared, now) = (self.route.cache.shared(), clock::now());
        match shared.strict() {
            Some(_) => Sighting::of_found(shared.memory.peek(&self.key).as_deref(), &self.key, found, now),
            None => self.route.look(key::bytes(&self.key), request, now),
        }
    }

    /// Looks again, having won the lead. Refused where something landed meanwhile: then there is another way on. Where memory
    /// keeps nothing the run itself will ask.
    pub(crate) fn look_again<Req>(
        &self,
        seen: &Sighting<P::Value>,
        lead: &Lead<P::Value>,
        heard: Option<&Fields>,
        request: &P::Request,
    ) -> Result<Option<Sighting<P::Value>>, Sighting<P::Value>>
    where
        P: Prepare<Req>,
    {
        if self.route.cache.shared().strict().is_some() {
            return Ok(None);
        }
        let again = self.route.look(key::bytes(&self.key), request, lead.since());
        let variant = self.route.variant(&again, heard, request);
        let changed = again.state() != seen.state() || variant.as_ref() != lead.variant();
        if changed || self.hit(&again).is_some() { Err(again) } else { Ok(Some(again)) }
    }

    /// Leads a run, and waits for what becomes of it.
    pub(crate) fn lead<'a, S, Req>(
        &'a mut self,
        lead: Lead<P::Value>,
        called: (S, P::Request),
        seen: &'a Sighting<P::Value>,
        together: bool,
        consult: Consult,
    ) -> impl Future<Output = LedBy<P, S, P::Request, P::Response>> + use<'a, S, P, Req>
    where
        P: Prepare<Req> + Capture<S::Response>,
        P::Response: Send + 'static,
        S: Service<P::Request> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        S::Future: Send,
        Req: 'static,
    {
        // One who asks for a new response is not content with the word that the old one is as good.
        let validate = !self.by_hand;
        let base =
            seen.base().map(|(entry, servable)| Base { entry: Arc::clone(entry), servable, validate, _refresh: None });
        let (job, interest, delivery) =
            Job::lead(Arc::clone(&self.route), called, lead, base, together, (consult, self.budget.clone()));
        run::start::<S, P, Req>(job);
        // Dropped in this order: see `Job::lead`.
        let mut awaited = (delivery, interest);
        // Whoever waits keeps no room for what has gone with the run.
        async move {
            let delivery = if self.may_fall_back(seen) {
                // Boxed, as few come to it: with timers.
                match Box::pin(self.lead_patiently(seen, &mut awaited.0)).await {
                    Ok(delivery) => delivery,
                    Err(stale) => return Led::Answered(Ok(stale)),
                }
            } else {
                delivered(&mut awaited.0).await
            };
            drop(awaited);
            self.led(seen, delivery)
        }
    }

    /// Waits for what a run delivers, or falls back on the stale response.
    async fn lead_patiently<Res, T>(
        &mut self,
        seen: &Sighting<P::Value>,
        delivery: &mut oneshot::Receiver<T>,
    ) -> Result<T, <P as Capture<Res>>::Response>
    where
        P: Capture<Res>,
    {
        let mut delivered = pin!(delivered(delivery));
        match patiently(&self.route.settings, true, delivered.as_mut()).await {
            Some(delivery) => Ok(delivery),
            None => match self.fall_back(seen, None, Detail::Slow) {
                Some(stale) => Err(stale),
                None => Ok(delivered.await),
            },
        }
    }

    /// What a run has delivered, to the one who leads.
    fn led<S, Req>(
        &self,
        seen: &Sighting<P::Value>,
        delivery: DeliveryBy<P, S, P::Request, P::Response>,
    ) -> LedBy<P, S, P::Request, P::Response>
    where
        P: Prepare<Req> + Capture<S::Response>,
        S: Service<P::Request>,
    {
        Led::Answered(match delivery {
            Delivery::Response { response, status: forwarded, failed, stored, detail } => {
                if failed && let Some(stale) = self.fall_back(seen, forwarded, Detail::StaleIfError) {
                    return Led::Answered(Ok(stale));
                }
                let detail = detail.or(seen.is_marked().then_some(Detail::HitForMiss));
                let outcome = Outcome::new(self.status).forwarded(forwarded).stored_if(stored).because(detail);
                Ok(self.route.protocol.deliver(response, &self.view, self.answered(outcome)))
            }
            Delivery::Error(error) => self.fall_back_on(seen, error),
            Delivery::Found(found) => return Led::Found(found),
            Delivery::Panic(payload) => {
                self.answered(Outcome::new(self.status));
                panic::resume_unwind(payload)
            }
        })
    }

    /// Calls the service as without the layer, for a request that may neither lead a run nor wait for one.
    pub(crate) async fn forward<S, Req>(
        self,
        (service, request): (S, P::Request),
        detail: Option<Detail>,
        seen: &Sighting<P::Value>,
    ) -> Result<P::Response, S::Error>
    where
        P: Prepare<Req> + Capture<S::Response>,
        S: Service<P::Request>,
    {
        let mut call = pin!(Call::new(service, request));
        let answered = match patiently(&self.route.settings, self.may_fall_back(seen), call.as_mut()).await {
            Some(answered) => answered,
            None => match self.fall_back(seen, None, Detail::Slow) {
                Some(response) => return Ok(response),
                None => call.await,
            },
        };
        match answered {
            Ok(response) => {
                let status = self.route.protocol.status(&response);
                if self.route.protocol.is_failure(&response)
                    && let Some(stale) = self.fall_back(seen, status, Detail::StaleIfError)
                {
                    return Ok(stale);
                }
                if let Some((entry, _)) = seen.base()
                    && self.route.protocol.contradicts(&response, &entry.value, &self.view)
                {
                    let (shared, now) = (self.route.cache.shared(), clock::now());
                    let kept = shared.memory.update(&self.key, now, |slot| slot.expire(entry, now));
                    if kept || shared.strict().is_some() {
                        shared.telemetry.tell(Event::Invalidated { purged: false, entries: 1 });
                        self.forget_in_store();
                    }
                }
                let outcome = Outcome::new(self.status).forwarded(status).because(detail);
                Ok(self.route.protocol.deliver_as_it_is(response, &self.view, self.answered(outcome)))
            }
            Err(error) => self.fall_back_on(seen, error),
        }
    }

    /// Has the shared store forget what it holds for the key. Nobody waits for it.
    fn forget_in_store(&self)
    where
        P::Value: Send + Sync + 'static,
    {
        let (cache, key) = (self.route.cache.clone(), self.key.clone());
        if cache.shared().tier.is_some() {
            let forget = async move {
                if let Some(tier) = &cache.shared().tier {
                    tier.after(&key, Afterwards::Forget(None)).await;
                }
            };
            drop(run::start_telling(&self.route.cache, forget));
        }
    }

    /// What was found, if it answers the request.
    pub(crate) fn hit(&self, seen: &Sighting<P::Value>) -> Option<(Outcome, Behind)> {
        // What the store held began before the run that found it: nobody here knows how long before.
        let began_before =
            |forced: Forced| seen.entry().is_some_and(|(entry, _)| entry.judged.found || entry.run <= forced.0);
        match self.forced {
            Some(forced) if began_before(forced) => None,
            Some(_) => seen.hit(&self.route.settings),
            None => seen.answer(&self.route.settings, self.demands()),
        }
    }

    /// Whether the request may be answered by something stored where a run is too slow, or fails.
    pub(crate) fn may_fall_back(&self, seen: &Sighting<P::Value>) -> bool {
        let unasked = self.demands().is_some_and(|demands| demands.no_cache);
        !self.by_hand && !unasked && seen.entry().is_some()
    }

    pub(crate) fn demands(&self) -> Option<&Demands> {
        self.route.protocol.demands(&self.view)
    }

    /// The stale response in place of an error that is the service's own.
    fn fall_back_on<Res, E>(&self, seen: &Sighting<P::Value>, error: E) -> Result<<P as Capture<Res>>::Response, E>
    where
        P: Capture<Res>,
    {
        self.fall_back(seen, None, Detail::StaleIfError).ok_or_else(|| {
            self.answered(Outcome::new(self.status));
            error
        })
    }

    /// The stale response in place of what did not come, if there is one that is still kept.
    pub(crate) fn fall_back<Res>(
        &self,
        seen: &Sighting<P::Value>,
        status: Option<u16>,
        detail: Detail,
    ) -> Option<<P as Capture<Res>>::Response>
    where
        P: Capture<Res>,
    {
        let (stale, _) = seen.entry().filter(|_| self.may_fall_back(seen))?;
        let shared = self.route.cache.shared();
        let slot = match shared.strict() {
            Some(_) => seen.slot.clone(),
            None => shared.memory.get(key::bytes(&self.key)),
        }?;
        let kept = slot.variants.iter().find(|kept| Arc::ptr_eq(&kept.entry, stale))?;
        let (verdict, age) = kept.verdict(clock::now());
        if !verdict.is_servable() {
            return None;
        }
        // It is older than when it was found.
        let ttl = stale.freshness().ttl(age, verdict == Verdict::Fresh);
        let outcome = Outcome::new(CacheStatus::Stale).ttl_of(ttl).forwarded(status).because(Some(detail));
        Some(self.route.protocol.replay(stale, age, &self.view, self.answered(outcome), P::Spare::default()))
    }

    /// Answers with what was found.
    pub(crate) fn replay<Res>(
        &self,
        seen: &Sighting<P::Value>,
        outcome: Outcome,
    ) -> Option<<P as Capture<Res>>::Response>
    where
        P: Capture<Res>,
    {
        let (entry, age) = seen.kept()?;
        Some(self.route.protocol.replay(entry, age, &self.view, self.answered(outcome), P::Spare::default()))
    }

    /// Answers that nothing is stored which the request would have.
    pub(crate) fn unsatisfied<Res>(&self) -> Option<<P as Capture<Res>>::Response>
    where
        P: Capture<Res>,
    {
        let outcome = Outcome::new(CacheStatus::Unsatisfied).because(Some(Detail::OnlyIfCached));
        let response = self.route.protocol.unsatisfied(&self.view, outcome)?;
        self.answered(outcome);
        Some(response)
    }

    /// Answers with what stands in where nothing is stored.
    pub(crate) fn stand_in<Res>(&self) -> Option<<P as Capture<Res>>::Response>
    where
        P: Capture<Res>,
    {
        let outcome = Outcome::new(self.status).because(Some(Detail::Placeholder));
        let response = self.route.protocol.stand_in(&self.view, outcome)?;
        self.answered(outcome);
        Some(response)
    }

    /// Answers with what another one's run landed.
    pub(crate) fn share<Res>(&self, landed: &Landed<P::Value>) -> <P as Capture<Res>>::Response
    where
        P: Capture<Res>,
    {
        let entry = &landed.entry;
        let age = entry.age(clock::now());
        let mut outcome = Outcome::new(self.status)
            .forwarded(landed.status)
            .stored_if(landed.refusal.is_none())
            .collapsed_if(true)
            .because(landed.refusal);
        if landed.refusal.is_none() {
            outcome = outcome.ttl_of(entry.freshness().ttl(age, entry.freshness().at(age) == Verdict::Fresh));
        }
        self.route.protocol.replay(entry, age, &self.view, self.answered(outcome), P::Spare::default())
    }

    /// Tells how the request is answered.
    pub(crate) fn answered(&self, outcome: Outcome) -> Outcome {
        self.route.cache.shared().telemetry.tell(Event::Answered(outcome));
        outcome
    }

    /// The error that another one's run ended with, where errors are shared.
    pub(crate) fn shared_error<E: Send + 'static>(&self, error: Option<Arc<dyn Any + Send + Sync>>) -> Option<E> {
        // The layer's own function copies it: only that one knows that the type can be cloned.
        let copy = (self.route.settings.share_error?)(error?.as_ref())?;
        Some(*copy.downcast::<E>().ok()?)
    }
}

/// What a run delivers. Where the runtime that ran it is gone there is no response, and no error of the service's to give in
/// its place: whoever polls this elsewhere waits as for a service that went with its runtime.
async fn delivered<T>(delivery: &mut oneshot::Receiver<T>) -> T {
    if let Ok(delivered) = delivery.await {
        return delivered;
    }
    pending().await
}

/// Waits for the service, as long as without the layer; with something to fall back on, no longer than a reader of that
/// is made to wait. `None` is the end of patience.
async fn patiently<F: Future>(settings: &Settings, has_fallback: bool, answer: F) -> Option<F::Output> {
    if !has_fallback || !run::can_start() {
        return Some(answer.await);
    }
    clock::timeout(settings.soft_timeout.unwrap_or(Duration::MAX).min(settings.refresh_timeout), answer).await
}
