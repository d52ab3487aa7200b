//! A run: one call of the wrapped service whose response may be stored, in a task of its own. The only file that spawns.
//!
//! A miss is a refresh with an audience. Whoever leads hands its request over and becomes the first to wait; from then
//! on a slow or vanished client steers nothing, and foreground and background cannot differ. Here is the one place for
//! the view, the deadline, the panic, the store, and for what a landing means to those who wait.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{sync::oneshot, task};
use tower_service::Service;

use crate::{
    cache::{Cache, Run},
    clock::{self, Instant},
    elsewhere::Beginning,
    entry::{Entry, Fields},
    flight::{Landed, Landing, Lead},
    freshness::Verdict,
    future::Call,
    interest::{Aboard, Interest},
    layer::{Route, Settings},
    permits::Permit,
    protocol::{Capture, Captured, Class, Judgement, Prepare, Protocol, RunKind, Unfilled, Validated},
    status::Detail,
    store::tier::{self, Afterwards, Asked, Known},
    supervision::{Stop, Supervised},
    sync::Handle,
    telemetry::{self, End, Event},
};

/// All that a run needs.
pub(crate) struct Job<S, P: Protocol, Request, Response, Error> {
    route: Arc<Route<P>>,
    service: S,
    request: Request,
    base: Option<Base<P::Value>>,
    kind: RunKind,
    desk: Desk<P::Value, Request, Response, Error>,
    permit: Option<Permit>,
    /// Whether the run may go on for the store's sake when nobody waits for it any more.
    adoptable: bool,
    consult: Consult,
    beginning: Option<Beginning>,
    /// When the run started: before anybody's patience with it begins to run out.
    started: Instant,
    running: Run,
}

/// The entry that a run is to replace.
pub(crate) struct Base<V> {
    pub(crate) entry: Arc<Entry<V>>,
    /// Whether it may be served in place of a failure. If it may not the run is cold: its failure has nothing to spare.
    pub(crate) servable: bool,
    /// Whether the service may say that it is still the same, in place of a response.
    pub(crate) validate: bool,
}

/// Where the run hands over what it has, to the one who leads and to those who follow; and what it leaves to do in the
/// shared store, once they have it.
struct Desk<V, Request, Response, Error> {
    lead: Lead<V>,
    leader: Mutex<Option<oneshot::Sender<Delivery<Request, Response, Error>>>>,
    afterwards: Mutex<Option<Left<V>>>,
}

/// What is left to do, and that it is: noted while the run still counts as one, so that a drain misses neither.
type Left<V> = (Afterwards<V>, Run);

/// What the one who leads gets.
pub(crate) enum Delivery<Request, Response, Error> {
    Response {
        response: Response,
        status: Option<u16>,
        /// What is stored is better than this, if there is anything.
        failed: bool,
        stored: bool,
        detail: Option<Detail>,
    },
    Error(Error),
    Panic(Box<dyn Any + Send>),
    /// What the shared store held is in memory now: whoever asked looks again.
    Found(Request, Option<Known>),
}

/// What a run has to do with the shared store before it calls the service.
pub(crate) enum Consult {
    /// It asks: what is there will do in place of the service.
    Take,
    /// It asks, to be known there.
    Announce,
    /// It need not ask again.
    Done(Option<Known>),
}

type JobOf<S, P, Req> = Job<
    S,
    P,
    <P as Prepare<Req>>::Request,
    <P as Capture<<S as Service<<P as Prepare<Req>>::Request>>::Response>>::Response,
    <S as Service<<P as Prepare<Req>>::Request>>::Error,
>;

impl<S, P: Protocol, Request, Response, Error> Job<S, P, Request, Response, Error> {
    /// A run behind a reader who was answered: by a stale response, which is its `base`, or by a placeholder.
    pub(crate) fn behind(
        route: Arc<Route<P>>,
        service: S,
        request: Request,
        lead: Lead<P::Value>,
        base: Option<Base<P::Value>>,
        permit: Permit,
    ) -> Self {
        let running = route.cache.shared().running.start();
        let desk = Desk { lead, leader: Mutex::new(None), afterwards: Mutex::new(None) };
        let (permit, kind, started) = (Some(permit), RunKind::Background, clock::now());
        let (adoptable, consult) = (false, Consult::Take);
        Self {
            route,
            service,
            request,
            base,
            kind,
            desk,
            permit,
            adoptable,
            consult,
            beginning: None,
            started,
            running,
        }
    }

    /// A run that somebody waits for. Whoever waits does so as long as the interest lives, and lets go of the delivery
    /// first: one who seems to lead and has no interest would be taken for one of the others (see `Desk::leads`).
    #[allow(clippy::type_complexity, reason = "what is waited for, and that it is waited for")]
    pub(crate) fn lead(
        route: Arc<Route<P>>,
        service: S,
        request: Request,
        lead: Lead<P::Value>,
        base: Option<Base<P::Value>>,
        adoptable: bool,
        consult: Consult,
    ) -> (Self, Interest, oneshot::Receiver<Delivery<Request, Response, Error>>) {
        let running = route.cache.shared().running.start();
        let (leader, delivery) = oneshot::channel();
        let interest = lead.interest();
        let desk = Desk { lead, leader: Mutex::new(Some(leader)), afterwards: Mutex::new(None) };
        let (kind, permit, started) = (RunKind::Foreground, None, clock::now());
        let job = Self {
            route,
            service,
            request,
            base,
            kind,
            desk,
            permit,
            adoptable,
            consult,
            beginning: None,
            started,
            running,
        };
        (job, interest, delivery)
    }
}

/// Whether runs can be started here: outside a runtime everything goes forward as without the layer.
pub(crate) fn can_start() -> bool {
    Handle::try_current().is_ok()
}

/// Whether runs can be started here for which nobody waits.
pub(crate) fn can_start_behind(settings: &Settings) -> bool {
    settings.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.runtime().is_some()) || can_start()
}

/// Starts a run. Outside a runtime it is given up at once, and on one that is gone.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn start<S, P, Req>(mut job: JobOf<S, P, Req>)
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let elsewhere = job.route.settings.elsewhere.as_ref().filter(|_| job.kind == RunKind::Background);
    let runtime = match elsewhere.and_then(|elsewhere| Some((elsewhere, elsewhere.runtime()?.clone()))) {
        None => Handle::try_current(),
        Some((elsewhere, runtime)) => {
            job.beginning = Some(elsewhere.beginning());
            Ok(runtime)
        }
    };
    if let Ok(runtime) = runtime {
        runtime.spawn(telemetry::in_run_span(job.kind, run::<S, P, Req>(job)));
    }
}

/// Starts what is to be told to the shared store behind a reader. Ready when that is done, or when he has waited long enough.
/// Outside a runtime it is given up at once.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn start_telling<V: Send + Sync + 'static>(
    cache: &Cache<V>,
    telling: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let running = cache.shared().running.start();
    let told = Handle::try_current().map(|runtime| {
        runtime.spawn(async {
            telling.await;
            drop(running);
        })
    });
    async {
        if let Ok(told) = told {
            clock::timeout(tier::PATIENCE, told).await;
        }
    }
}

/// Starts an audit behind a reader, which is no run. Outside a runtime it is given up at once.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn start_audit(audit: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(telemetry::in_audit_span(audit));
    }
}

async fn run<S, P, Req>(job: JobOf<S, P, Req>)
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
    S::Error: Send + 'static,
{
    let Job { route, service, request, base, kind, desk, permit, adoptable, consult, beginning, started, running } =
        job;
    if let Some(beginning) = beginning {
        beginning.begun();
    }
    let warm = base.as_ref().is_some_and(|base| base.servable);
    let work = async {
        if kind == RunKind::Background {
            // The reader's answer is written first, also where one thread does everything.
            task::yield_now().await;
        }
        let (asked, request) = ask::<P, Req>(&route, &desk.lead, request, base.as_ref(), consult).await;
        if asked.is_found {
            desk.lead.land(Landing::Vacated);
            desk.deliver(Delivery::Found(request, asked.known));
            return End::Spared;
        }
        work::<S, P, Req>(&route, service, request, base.as_ref(), &desk, Outset { kind, started, asked }).await
    };
    let supervised = Supervised {
        lead: &desk.lead,
        route: &route,
        permit,
        adoptable,
        started,
        timer: (warm || kind == RunKind::Background).then(|| Box::pin(clock::sleep(route.settings.refresh_timeout))),
    };
    let end = match supervised.run(work, |cx| desk.poll_left(cx)).await {
        Ok(end) => end,
        Err(Stop::Unwanted) => {
            desk.lead.land(Landing::Vacated);
            End::Abandoned
        }
        Err(Stop::Deadline) => {
            back_off(&route, &desk.lead, warm);
            desk.lead.land(Landing::Vacated);
            End::TimedOut
        }
        Err(Stop::Panicked(payload)) => {
            back_off(&route, &desk.lead, warm);
            desk.lead.land(Landing::Panicked);
            desk.deliver(Delivery::Panic(payload));
            End::Panicked
        }
    };
    let took = clock::now().saturating_duration_since(started);
    route.cache.shared().telemetry.tell(Event::RunEnded { end, took });
    let afterwards = desk.afterwards.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(tier), Some((afterwards, saving))) = (&route.cache.shared().tier, afterwards) {
        tier.after(desk.lead.key(), afterwards).await;
        drop(saving);
    }
    drop(desk);
    drop(running);
}

/// Asks the shared store before the service is called. What it holds is put into memory if that is better than what is
/// there, and will do.
async fn ask<P, Req>(
    route: &Route<P>,
    lead: &Lead<P::Value>,
    request: P::Request,
    base: Option<&Base<P::Value>>,
    consult: Consult,
) -> (AskedStore, P::Request)
where
    P: Prepare<Req>,
{
    let shared = route.cache.shared();
    let nothing = AskedStore { is_found: false, may_hold: false, known: None };
    let Some(tier) = &shared.tier else { return (nothing, request) };
    if let Consult::Done(known) = consult {
        return (AskedStore { is_found: false, may_hold: true, known }, request);
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
    let better = found.filter(|found| matches!(consult, Consult::Take) && found.verdict() < here);
    let is_found = better.is_some_and(|found| {
        let (number, most) = (lead.number(), route.settings.max_variants);
        let variant = found.judged.fields.as_ref().map(|fields| values(fields, &request));
        let entry = route.restored(found, variant, clock::now(), number);
        shared.land(lead.key(), &entry, base.map(|base| &base.entry), most).is_none()
    });
    (AskedStore { is_found, may_hold, known }, request)
}

/// The run itself, from the call to the landing.
async fn work<S, P, Req>(
    route: &Route<P>,
    service: S,
    request: P::Request,
    base: Option<&Base<P::Value>>,
    desk: &Desk<P::Value, P::Request, P::Response, S::Error>,
    outset: Outset,
) -> End
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
    S::Error: Send + 'static,
{
    let Outset { kind, started, asked } = outset;
    let validated = base.filter(|base| base.validate).map(|base| &*base.entry);
    let (request, sight) =
        route.protocol.project(request, kind, route.cache.identity(), validated.map(|entry| &entry.value));
    let warm = base.is_some_and(|base| base.servable);
    let response = match Call::new(service, request).await {
        Ok(response) => response,
        Err(error) => {
            back_off(route, &desk.lead, warm);
            let shared = route.settings.share_error.and_then(|share| share(&error)).map(Arc::from);
            desk.lead.land(Landing::Failed(shared));
            desk.deliver(Delivery::Error(error));
            return End::Failed;
        }
    };
    let status = route.protocol.status(&response);
    let landing = Settling { route, lead: &desk.lead, base, started, status, asked, afterwards: &desk.afterwards };
    let response = match validated {
        None => response,
        Some(entry) => match route.protocol.validate(response, entry, &sight, &route.settings.freshness) {
            Ok(validated) => {
                landing.settle(desk, validated, &sight);
                return End::Completed;
            }
            Err(response) => response,
        },
    };
    let mut judged = route.protocol.judge(&response, &sight, &route.settings.freshness);
    if judged.failed && warm && judged.class == Class::Storable {
        // What is stored is better than a failure, even than one that says for how long it may be stored.
        judged.refuse(Class::Shareable, Detail::Status);
    }
    let holds = judged.hold && warm;
    // Whoever waits for what is held has an interest already, and its body is no reason to go on: nobody reads it yet.
    let interest = || if holds { Arc::<Aboard>::default().board() } else { desk.lead.interest() };
    match judged.class {
        Class::Personal { .. } => {
            landing.refuse(&judged);
            desk.hand_over(route.protocol.pass(response), status, &judged, false);
        }
        Class::Shareable if desk.lead.close_unless_wanted(|| desk.leads()) => {
            landing.refuse(&judged);
            desk.hand_over(route.protocol.pass(response), status, &judged, false);
        }
        Class::Storable | Class::Shareable => match route.protocol.capture(response, &judged, interest()) {
            Captured::Whole(response, value) => {
                judged = landing.land(judged, value, &sight);
                desk.hand_over(response, status, &judged, judged.class == Class::Storable && judged.detail.is_none());
            }
            Captured::Unfit(response, unfilled) => {
                landing.decline(&mut judged, unfilled);
                desk.hand_over(response, status, &judged, false);
            }
            Captured::Filling(response, mut fill) => {
                let (mut held, mut stored) = (Some(response), judged.class == Class::Storable);
                if !holds && let Some(response) = held.take() {
                    desk.hand_over(response, status, &judged, stored);
                }
                let filled = clock::timeout(route.settings.fill_timeout, fill.as_mut()).await;
                // Nobody was given any of what is held: where it is no answer yet, what is stored is better.
                let late = || if holds && route.protocol.is_short(&fill) { Unfilled::Failed } else { Unfilled::Slow };
                match filled.unwrap_or_else(|| Err(late())) {
                    Ok(value) => {
                        judged = landing.land(judged, value, &sight);
                        stored = judged.class == Class::Storable && judged.detail.is_none();
                    }
                    Err(unfilled) => {
                        landing.decline(&mut judged, unfilled);
                        (judged.failed, stored) = (judged.failed || unfilled == Unfilled::Failed, false);
                    }
                }
                if let Some(response) = held {
                    desk.hand_over(response, status, &judged, stored);
                }
            }
        },
    }
    if judged.failed { End::Failed } else { End::Completed }
}

/// What a response means for what is stored, and for those who wait.
struct Settling<'a, P: Protocol> {
    route: &'a Route<P>,
    lead: &'a Lead<P::Value>,
    base: Option<&'a Base<P::Value>>,
    started: Instant,
    status: Option<u16>,
    asked: AskedStore,
    afterwards: &'a Mutex<Option<Left<P::Value>>>,
}

/// How a run sets out.
struct Outset {
    kind: RunKind,
    started: Instant,
    asked: AskedStore,
}

/// What the shared store said before the run began.
struct AskedStore {
    /// What it held is in memory: there is nothing to run for.
    is_found: bool,
    /// Whether it holds something that will not do; or did not say.
    may_hold: bool,
    /// What it knows of the run. If it did not answer, nothing is saved there.
    known: Option<Known>,
}

impl<P: Protocol> Settling<'_, P> {
    /// A whole response that by its head may be shared: judges it once more, and lands it. The last word on it.
    fn land<Res>(&self, judged: Judgement, value: P::Value, sight: &P::Sight) -> Judgement
    where
        P: Capture<Res>,
    {
        let mut judged = self.route.protocol.judge_whole(&value, judged);
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
        let entry = self.route.entry(judged, value, sight, self.started, self.lead.number());
        let most = self.route.settings.max_variants;
        let shared = self.route.cache.shared();
        let refusal = shared.land(self.lead.key(), &entry, self.base.map(|base| &base.entry), most);
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

    /// What was stored is still what the service would answer.
    fn settle<Request, Response, Error>(
        &self,
        desk: &Desk<P::Value, Request, Response, Error>,
        validated: Validated<Response, P::Value>,
        sight: &P::Sight,
    ) {
        let Validated { mut judged, value, response } = validated;
        if let Class::Personal { .. } = judged.class {
            self.refuse(&judged);
        } else {
            judged.detail = self.share(judged.clone(), value, sight);
        }
        let stored = judged.class == Class::Storable && judged.detail.is_none();
        desk.hand_over(response, self.status, &judged, stored);
    }

    /// A response that nobody else may have, or that nobody else wants.
    fn refuse(&self, judged: &Judgement) {
        self.unstored(judged, judged.detail.unwrap_or(Detail::NoLifetime));
        self.lead.land(match judged.class {
            Class::Personal { .. } => Landing::Personal,
            _ => Landing::Vacated,
        });
    }

    /// A response that looked storable and turned out not to be.
    fn decline(&self, judged: &mut Judgement, unfilled: Unfilled) {
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

    /// Has the entry saved in the shared store, if that knows of the run.
    fn save(&self, entry: &Arc<Entry<P::Value>>, sight: &P::Sight) {
        if let Some(known) = &self.asked.known {
            let values = |fields: &Fields| self.route.values(fields, sight);
            self.leave(Afterwards::Save(known.saving(entry, values)));
        }
    }

    /// Leaves something to do in the shared store.
    fn leave(&self, afterwards: Afterwards<P::Value>) {
        let left = (afterwards, self.route.cache.shared().saving.start());
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
            self.leave(Afterwards::Forget(self.asked.known.clone()));
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
                (slot.shown, slot.back_off) = (Some(a_while), None);
            }
            slot.learn(judged.fields.as_ref());
        });
    }
}

/// Puts off the next run after one that failed, unless that was cold and nothing stands in: then there is nothing to serve
/// meanwhile.
fn back_off<P: Protocol>(route: &Route<P>, lead: &Lead<P::Value>, warm: bool) {
    let stands_in = route.protocol.has_placeholder();
    if warm || stands_in {
        let (now, lot) = (clock::now(), fastrand::f64());
        route.cache.shared().memory.update(lead.key(), now, |slot| slot.fail(now, lead.number(), lot, stands_in));
    }
}

impl<V, Request, Response, Error> Desk<V, Request, Response, Error> {
    fn hand_over(&self, response: Response, status: Option<u16>, judged: &Judgement, stored: bool) {
        let (failed, detail) = (judged.failed, judged.detail);
        self.deliver(Delivery::Response { response, status, failed, stored, detail });
    }

    /// How many lead and are still there: one or nobody.
    fn leads(&self) -> usize {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        usize::from(leader.as_ref().is_some_and(|leader| !leader.is_closed()))
    }

    /// Ready when nobody leads any more: the one who did has left, or has what there was to hand over.
    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.as_mut().map_or(Poll::Ready(()), |leader| leader.poll_closed(cx))
    }

    /// Hands over to the one who leads, who may have gone.
    fn deliver(&self, delivery: Delivery<Request, Response, Error>) {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leader) = leader {
            let _gone = leader.send(delivery);
        }
    }
}
