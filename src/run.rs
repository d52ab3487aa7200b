//! A run: one call of the wrapped service whose response may be stored, in a task of its own. The only file that spawns.
//!
//! A miss is a refresh with an audience. Whoever leads hands its request over and becomes the first to wait; from then
//! on a slow or vanished client steers nothing, and foreground and background cannot differ. Here is the one place for
//! the view, the deadline, the panic and the landing: what a response means is said in `settling`, who gets it in `desk`,
//! and what others have made already in `consult`.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, task};
use tower_service::Service;

use crate::{
    cache::Cache,
    clock::{self, Instant},
    consult::{Consult, Consulted, consult},
    desk::{Delivery, Desk},
    elsewhere::Beginning,
    entry::Base,
    flight::{Landing, Lead},
    future::Call,
    interest::{Aboard, Interest},
    judgement::{Class, Judgement},
    permits::Permit,
    protocol::{Capture, Captured, Prepare, Protocol, RunKind, Unfilled},
    route::{Route, Settings},
    settling::{Settling, back_off},
    shared::Run,
    slot::Slot,
    status::Detail,
    store::{Budget, tier::Tier},
    supervision::{Stop, Supervised},
    sync::Handle,
    telemetry::{self, End, Event},
};

/// All that a run needs.
pub(crate) struct Job<S, P: Protocol, Request, Response, Error> {
    route: Arc<Route<P>>,
    called: (S, Request),
    base: Option<Base<P::Value>>,
    outset: Outset,
    desk: Desk<P::Value, (S, Request), Response, Error>,
    permit: Option<Permit>,
    /// Whether the run may go on for the store's sake when nobody waits for it any more.
    adoptable: bool,
    beginning: Option<Beginning>,
    running: Run,
}

/// How a run sets out.
struct Outset {
    kind: RunKind,
    /// When the run started: before anybody's patience with it begins to run out.
    started: Instant,
    consult: Consult,
    /// What is left of the time for the shared store; all of it, where the run is the first to ask.
    budget: Option<Budget>,
}

type JobOf<S, P, Req> = Job<
    S,
    P,
    <P as Prepare<Req>>::Request,
    <P as Capture<<S as Service<<P as Prepare<Req>>::Request>>::Response>>::Response,
    <S as Service<<P as Prepare<Req>>::Request>>::Error,
>;

type DeskOf<S, P, Req> = Desk<
    <P as Protocol>::Value,
    (S, <P as Prepare<Req>>::Request),
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
        let job = Self::new(route, (service, request), Desk::new(lead, None), base, RunKind::Background);
        Self { permit: Some(permit), ..job }
    }

    /// A run that somebody waits for. Whoever waits does so as long as the interest lives, and lets go of the delivery
    /// first: one who seems to lead and has no interest would be taken for one of the others (see `Desk::leads`).
    #[allow(clippy::type_complexity, reason = "what is waited for, and that it is waited for")]
    pub(crate) fn lead(
        route: Arc<Route<P>>,
        called: (S, Request),
        lead: Lead<P::Value>,
        base: Option<Base<P::Value>>,
        adoptable: bool,
        (consult, budget): (Consult, Option<Budget>),
    ) -> (Self, Interest, oneshot::Receiver<Delivery<P::Value, (S, Request), Response, Error>>) {
        let (leader, delivery) = oneshot::channel();
        let interest = lead.interest();
        let job = Self::new(route, called, Desk::new(lead, Some(leader)), base, RunKind::Foreground);
        let outset = Outset { consult, budget, ..job.outset };
        (Self { adoptable, outset, ..job }, interest, delivery)
    }

    /// A run that starts as soon as somebody leads it.
    fn new(
        route: Arc<Route<P>>,
        called: (S, Request),
        desk: Desk<P::Value, (S, Request), Response, Error>,
        base: Option<Base<P::Value>>,
        kind: RunKind,
    ) -> Self {
        let (running, started) = (route.cache.shared().running.start(), desk.lead.since());
        let consult = Consult::Take { patience: route.settings.wait_timeout };
        let outset = Outset { kind, started, consult, budget: None };
        let (permit, adoptable, beginning) = (None, false, None);
        Self { route, called, base, outset, desk, permit, adoptable, beginning, running }
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
    let elsewhere = job.route.settings.elsewhere.as_ref().filter(|_| job.outset.kind == RunKind::Background);
    let runtime = match elsewhere.and_then(|elsewhere| Some((elsewhere, elsewhere.runtime()?.clone()))) {
        None => Handle::try_current(),
        Some((elsewhere, runtime)) => {
            job.beginning = Some(elsewhere.beginning());
            Ok(runtime)
        }
    };
    if let Ok(runtime) = runtime {
        // Boxed: tokio moves a task's future three times, and this one is large.
        runtime.spawn(telemetry::in_run_span(job.outset.kind, Box::pin(run::<S, P, Req>(job))));
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
    let patience = cache.shared().tier.as_ref().map_or(Duration::ZERO, Tier::patience);
    let (tell, told) = oneshot::channel::<()>();
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async {
            telling.await;
            drop((running, tell));
        });
    }
    async move {
        clock::timeout(patience, told).await;
    }
}

/// Starts an audit behind a reader, which is no run. Outside a runtime it is given up at once.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn start_audit(audit: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(telemetry::in_audit_span(audit));
    }
}

/// A run, from its task's beginning to its end. What it is made of lies in its future once: that of an `async fn` has room
/// for what it is called with, and again for what it makes of that.
fn run<S, P, Req>(job: JobOf<S, P, Req>) -> impl Future<Output = ()> + use<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
    S::Error: Send + 'static,
{
    let Job { route, called, base, outset, desk, permit, adoptable, beginning, running } = job;
    let mut called = Some(called);
    async move {
        // Named first: a runtime that goes before the run begins drops it first, and then tells those who wait.
        let called = &mut called;
        if let Some(beginning) = beginning {
            beginning.begun();
        }
        let warm = base.as_ref().is_some_and(|base| base.servable);
        let sleep = || Box::pin(clock::sleep(route.settings.refresh_timeout));
        let timer = (warm || outset.kind == RunKind::Background).then(sleep);
        let started = outset.started;
        let mut supervised = Supervised { lead: &desk.lead, route: &route, permit, adoptable, started, timer };
        let ended = {
            let work = work::<S, P, Req>(&route, called, base.as_ref(), &desk, &outset);
            supervised.run(pin!(work), |cx| desk.poll_left(cx)).await
        };
        // What is left of the work is gone by now: a run in its place finds what that held.
        *called = None;
        drop(supervised);
        let end = match ended {
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
        let took = clock::now().saturating_duration_since(outset.started);
        route.cache.shared().telemetry.tell(Event::RunEnded { end, took });
        // From now on it is not being refreshed, whatever is left to do in the shared store.
        drop(base);
        if let (Some(tier), Some(left)) = (&route.cache.shared().tier, desk.left()) {
            let (afterwards, saving) = *left;
            if let Some(voided) = tier.after(desk.lead.key(), afterwards).await {
                let remove = |slot: &mut Slot<P::Value>| slot.remove(&voided);
                route.cache.shared().memory.update(desk.lead.key(), clock::now(), remove);
            }
            drop(saving);
        }
        drop(desk);
        drop(running);
    }
}

const ONCE: &str = "a run calls its service once";

/// The work of a run: it asks the shared store, calls the service, and has the response settled.
#[allow(clippy::manual_async_fn, reason = "an `async fn` has room for what it is called with twice")]
fn work<'a, S, P, Req>(
    route: &'a Route<P>,
    called: &'a mut Option<(S, P::Request)>,
    base: Option<&'a Base<P::Value>>,
    desk: &'a DeskOf<S, P, Req>,
    outset: &'a Outset,
) -> impl Future<Output = End> + use<'a, S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
    S::Error: Send + 'static,
{
    async move {
        if outset.kind == RunKind::Background {
            // The reader's answer is written first, also where one thread does everything.
            task::yield_now().await;
        }
        let mut asked = Consulted::default();
        if let Some(tier) = &route.cache.shared().tier {
            // Boxed: whoever has no tier makes no room for it.
            match Box::pin(ask::<S, P, Req>(tier, route, called, base, desk, outset)).await {
                Some(said) => asked = said,
                None => return End::Spared,
            }
        }
        let (service, request) = called.take().expect(ONCE);
        let validated = base.filter(|base| base.validate).map(|base| &base.entry.value);
        let (request, sight) = route.protocol.project(request, outset.kind, route.cache.identity(), validated);
        // In a block of its own: while the rest is read there is no room for the response.
        let settled = {
            let response = match Call::new(service, request).await {
                Ok(response) => response,
                Err(error) => {
                    back_off(route, &desk.lead, base.is_some_and(|base| base.servable));
                    let shared = route.settings.share_error.and_then(|share| share(&error)).map(Arc::from);
                    desk.lead.land(Landing::Failed(shared));
                    desk.deliver(Delivery::Error(error));
                    return End::Failed;
                }
            };
            let (started, status) = (outset.started, route.protocol.status(&response));
            let landing =
                Settling { route, lead: &desk.lead, base, started, status, asked, afterwards: &desk.afterwards };
            settle(landing, desk, response, sight)
        };
        match settled {
            Ok(end) => end,
            Err(filling) => filling.await,
        }
    }
}

/// Asks the shared store. Where it has what will do in place of the run that is handed over.
async fn ask<S, P, Req>(
    tier: &Tier<P::Value>,
    route: &Route<P>,
    called: &mut Option<(S, P::Request)>,
    base: Option<&Base<P::Value>>,
    desk: &DeskOf<S, P, Req>,
    outset: &Outset,
) -> Option<Consulted<P::Value>>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
{
    let budget = outset.budget.clone().unwrap_or_else(|| tier.budget());
    let (service, request) = called.take().expect(ONCE);
    let (mut asked, request) = consult::<P, Req>(tier, route, &desk.lead, request, base, outset.consult, &budget).await;
    if let Some((found, whence)) = asked.found.take() {
        desk.lead.land(Landing::Vacated);
        desk.deliver(Delivery::Found(Box::new(((service, request), found, whence))));
        return None;
    }
    *called = Some((service, request));
    Some(asked)
}

/// What becomes of a response: at once, or when the rest of it was read. That is boxed: most responses are there as a whole.
fn settle<'a, P, Request, Response, Error>(
    landing: Settling<'a, P>,
    desk: &'a Desk<P::Value, Request, P::Response, Error>,
    response: Response,
    sight: P::Sight,
) -> Result<End, Pin<Box<impl Future<Output = End> + use<'a, P, Request, Response, Error>>>>
where
    P: Capture<Response>,
{
    let Settling { route, base, status, .. } = landing;
    let warm = base.is_some_and(|base| base.servable);
    let response = match base.filter(|base| base.validate) {
        None => response,
        Some(base) => match route.protocol.validate(response, &base.entry, &sight, &route.settings.freshness) {
            Ok(validated) => {
                landing.settle(desk, validated, &sight);
                return Ok(End::Completed);
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
        Class::Storable | Class::Shareable => match route.protocol.capture(response, &judged, interest) {
            Captured::Whole(response, value) => {
                judged = landing.land(judged, value, &sight);
                desk.hand_over(response, status, &judged, judged.class == Class::Storable && judged.detail.is_none());
            }
            Captured::Unfit(response, unfilled) => {
                landing.decline(&mut judged, unfilled);
                desk.hand_over(response, status, &judged, false);
            }
            Captured::Filling(response, rest) => {
                return Err(Box::pin(fill(landing, desk, judged, holds, response, rest, sight)));
            }
        },
    }
    Ok(ended(&judged))
}

/// Settles a response when all of it was read, or could not be.
async fn fill<P, Request, Response, Error>(
    landing: Settling<'_, P>,
    desk: &Desk<P::Value, Request, P::Response, Error>,
    mut judged: Judgement,
    holds: bool,
    response: P::Response,
    mut fill: Pin<Box<P::Fill>>,
    sight: P::Sight,
) -> End
where
    P: Capture<Response>,
{
    let (route, status) = (landing.route, landing.status);
    let is_kept = judged.class == Class::Storable && landing.is_kept();
    let (mut held, mut stored) = (Some(response), is_kept);
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
    ended(&judged)
}

fn ended(judged: &Judgement) -> End {
    if judged.failed { End::Failed } else { End::Completed }
}
