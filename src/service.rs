//! The service: always ready, and answering from memory before anything else happens.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    audit,
    cache::Cache,
    clock,
    entry::{Base, Course, Refresh},
    flight::Boarding,
    freshness::Verdict,
    future::ResponseFuture,
    key::{self, Key, KeyBuf},
    miss,
    protocol::{Capture, Prepare, Prepared, Protocol},
    route::Route,
    run::{self, Job},
    sighting::{Behind, Sighting},
    status::Outcome,
    store::{Budget, tier::Tier},
    telemetry::Event,
};

/// A service whose responses are cached. Made by [`CachebackLayer`](crate::CachebackLayer).
///
/// Its error is the wrapped service's own: a cache adds no way to fail.
pub struct Cacheback<S, P: Protocol> {
    inner: S,
    route: Arc<Route<P>>,
}

impl<S, P: Protocol> Cacheback<S, P> {
    pub(crate) fn new(inner: S, route: Arc<Route<P>>) -> Self {
        Self { inner, route }
    }

    /// The handle to what this service shares with others, or has for itself.
    #[must_use]
    pub fn cache(&self) -> &Cache<P::Value> {
        &self.route.cache
    }

    pub(crate) fn route(&self) -> &Route<P> {
        &self.route
    }

    /// Answers a request by a new run, whatever is stored, and stores the response as that of any other run. That is how
    /// one warms a cache, or brings it up to date before its lifetime is over.
    ///
    /// The run starts after this is called: one that is under way already does not count. Those who ask for one at the
    /// same time share it. What the run answers is the answer, an error too; a failed run leaves what is stored as it is.
    /// [`ForceRefresh`](crate::ForceRefresh) asks for the same in an HTTP request.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use cacheback::{CachebackLayer, Key};
    /// use tower::{Layer, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Infallible> {
    /// let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(id.to_string()));
    /// let users = layer.layer(service_fn(|id: u32| async move { Ok::<_, Infallible>(format!("user {id}")) }));
    ///
    /// let new = users.refresh(42).await?;
    /// # assert_eq!(new, "user 42");
    /// # Ok(()) }
    /// ```
    pub fn refresh<Req>(&self, request: Req) -> ResponseFuture<S, P, Req>
    where
        P: Prepare<Req> + Capture<S::Response>,
        P::Response: Send + 'static,
        S: Service<P::Request> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        S::Future: Send,
        Req: 'static,
    {
        self.answer(request, true)
    }

    /// Answers a request; `forced` asks for a new response.
    pub(crate) fn answer<Req>(&self, request: Req, forced: bool) -> ResponseFuture<S, P, Req>
    where
        P: Prepare<Req> + Capture<S::Response>,
        P::Response: Send + 'static,
        S: Service<P::Request> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        S::Future: Send,
        Req: 'static,
    {
        let (route, mut key) = (&self.route, KeyBuf::default());
        let prepared = route.protocol.prepare(request, route.cache.identity(), &route.settings.freshness, &mut key);
        serve(route, &self.inner, prepared, &key, forced)
    }
}

impl<S, P, Req> Service<Req> for Cacheback<S, P>
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    type Response = P::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, P, Req>;

    /// Always ready: an answer from memory needs nothing of the wrapped service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.answer(request, false)
    }
}

/// Serves a request of which is known whether it is looked up. A hit with nothing to be done behind it looks at the request
/// where it is: moving one costs as much as looking it up.
fn serve<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    mut prepared: Prepared<P, P::Request>,
    key: &KeyBuf,
    forced: bool,
) -> ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let mut seen = None;
    if let Prepared::Lookup(request, view) = &mut prepared {
        route.watch.looked_up();
        if forced {
            route.protocol.force(view);
        }
        if route.cache.shared().strict().is_none() || route.protocol.is_forced(view) || !run::can_start() {
            let found = route.look(key.as_slice(), request, clock::now());
            let hit = route.hit(view, &found);
            if let (Some((outcome, Behind::Nothing)), Some((entry, age))) = (hit, found.kept()) {
                route.cache.shared().telemetry.tell(Event::Answered(outcome));
                let spare = route.protocol.spare(request);
                return ResponseFuture::done(route.protocol.replay(entry, age, view, outcome, spare));
            }
            seen = Some((found, hit));
        }
    }
    match (prepared, seen) {
        (Prepared::Lookup(request, view), Some((seen, hit))) => {
            answer_from(route, inner, request, view, || key.to_key(), seen, hit, None)
        }
        (Prepared::Lookup(request, view), None) => answer_strictly(route, inner, request, view, key.to_key()),
        (Prepared::Forward(request, after), _) => {
            ResponseFuture::forward(inner.clone(), request, after, Arc::clone(route))
        }
        (Prepared::Later(later), _) => {
            let (route, inner) = (Arc::clone(route), inner.clone());
            ResponseFuture::wait(async move {
                let (prepared, key) = later.await;
                let answer = serve::<S, P, Req>(&route, &inner, prepared, &key, forced);
                answer.await
            })
        }
    }
}

/// Answers a request with what the shared store holds for it, or as one for which nothing was found.
fn answer_strictly<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    request: P::Request,
    view: P::View,
    key: Key,
) -> ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let (route, inner) = (Arc::clone(route), inner.clone());
    ResponseFuture::wait(async move {
        let budget = route.cache.shared().tier.as_ref().map(Tier::budget);
        let (mut seen, mut request) = route.look_anywhere(&key, request, budget.as_ref()).await;
        let hit = route.hit(&view, &seen);
        if let Some((outcome, Behind::Nothing)) = hit
            && let Some((entry, age)) = seen.hand_over()
        {
            route.cache.shared().telemetry.tell(Event::Answered(outcome));
            let spare = route.protocol.spare(&mut request);
            return Ok(route.protocol.give(entry, age, &view, outcome, spare));
        }
        let answer = answer_from::<S, P, Req>(&route, &inner, request, view, || key, seen, hit, budget);
        answer.await
    })
}

/// Answers a request with what was seen for it, if that is a hit, and does what is to be done behind it; or answers as one
/// for which nothing was found.
#[allow(clippy::too_many_arguments, reason = "all that is known of a request")]
fn answer_from<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    mut request: P::Request,
    view: P::View,
    key: impl FnOnce() -> Key,
    seen: Sighting<P::Value>,
    hit: Option<(Outcome, Behind)>,
    budget: Option<Budget>,
) -> ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let (Some((outcome, behind)), Some((entry, age))) = (hit, seen.kept()) else {
        let (route, inner) = (Arc::clone(route), inner.clone());
        return ResponseFuture::wait(miss::answer(route, inner, key(), request, view, seen, budget));
    };
    route.cache.shared().telemetry.tell(Event::Answered(outcome));
    let replay = |spare| route.protocol.replay(entry, age, &view, outcome, spare);
    ResponseFuture::done(match behind {
        Behind::Nothing => replay(route.protocol.spare(&mut request)),
        Behind::Audit => {
            let response = replay(P::Spare::default());
            audit::behind::<S, P, Req>(route, inner.clone(), request);
            response
        }
        Behind::Refresh => {
            // The reader's request is the one that is re-run.
            let response = replay(P::Spare::default());
            refresh_behind(route, inner, &seen, request, &view);
            response
        }
    })
}

/// Starts the run that refreshes an entry behind its reader, unless one is under way, failed lately, or is one too many.
pub(crate) fn refresh_behind<S, P, Req>(
    route: &Arc<Route<P>>,
    service: &S,
    seen: &Sighting<P::Value>,
    request: P::Request,
    view: &P::View,
) where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let (Some(slot), Some((entry, _))) = (&seen.slot, seen.entry()) else { return };
    if !route.may_refresh(view, entry) {
        return;
    }
    let boarding = Boarding::of(route.protocol.keeps_apart(view));
    let course = Course { key: slot.key.clone(), variant: route.variant(seen, None, &request) };
    let flights = &route.cache.shared().flights;
    let Some(lead) = flights.lead(&course, boarding, seen.now, route.settings.overdue()) else { return };
    // Somebody may have refreshed it, or failed to, between the lookup and the lead.
    let is_as_it_was = || {
        let again = route.look(key::bytes(&course.key), &request, seen.now);
        let same = again.entry().is_some_and(|(now, _)| Arc::ptr_eq(now, entry));
        same && again.verdict() == seen.verdict() && !again.is_backing_off()
    };
    // Where memory keeps nothing the run will ask once more.
    if route.cache.shared().strict().is_none() && !is_as_it_was() {
        return;
    }
    let Some(permit) = route.share.take() else {
        return route.cache.shared().telemetry.tell(Event::RefreshDropped);
    };
    if seen.verdict() == Verdict::Fresh && !entry.early.begin() {
        return;
    }
    let open = boarding == Boarding::Open;
    let _refresh = open.then(|| Refresh::begin(Arc::clone(entry), seen.now));
    if lead.is_voided(entry.tags()) {
        // NOTE: an invalidation is recorded before it has the entry forget the run (shared.rs): one that came too early for
        // that is found here.
        entry.refreshing.forget();
    }
    let base = Some(Base { entry: Arc::clone(entry), servable: true, validate: true, _refresh });
    run::start(Job::behind(Arc::clone(route), service.clone(), request, lead, base, permit));
}

impl<S: Clone, P: Protocol> Clone for Cacheback<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), route: Arc::clone(&self.route) }
    }
}

impl<S, P: Protocol> fmt::Debug for Cacheback<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cacheback").finish_non_exhaustive()
    }
}
