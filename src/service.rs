//! The service: always ready, and answering from memory before anything else happens.
//!
//! What is no hit leaves by a function of its own, which is not inlined: the futures that wait are large, and a hit would
//! make room for them.

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
    entry::{Base, Course},
    flight::Boarding,
    freshness::Verdict,
    future::ResponseFuture,
    key::{self, Key, KeyBuf},
    layer::Route,
    miss,
    protocol::{Capture, Later, Prepare, Prepared, Protocol},
    run::{self, Job},
    sighting::{Behind, Sighting},
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

/// Serves a request of which is known whether it is looked up.
#[inline]
fn serve<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    prepared: Prepared<P, P::Request>,
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
    let (request, mut view) = match prepared {
        Prepared::Lookup(request, view) => (request, view),
        Prepared::Forward(request, after) => {
            return ResponseFuture::forward(inner.clone(), request, after, Arc::clone(route));
        }
        Prepared::Later(later) => return serve_later(route, inner, later, forced),
    };
    route.watch.looked_up();
    if forced {
        route.protocol.force(&mut view);
    }
    if route.cache.shared().strict().is_some() && !route.protocol.is_forced(&view) && run::can_start() {
        return answer_strictly(route, inner, request, view, key.to_key());
    }
    let seen = route.look(key.as_slice(), &request, clock::now());
    answer_from(route, inner, request, view, || key.to_key(), seen, None)
}

/// Serves a request of which that is not known before some of it was read.
#[inline(never)]
fn serve_later<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    later: Later<P, P::Request>,
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
    let (route, inner) = (Arc::clone(route), inner.clone());
    ResponseFuture::wait(async move {
        let (prepared, key) = later.await;
        let answer = serve::<S, P, Req>(&route, &inner, prepared, &key, forced);
        answer.await
    })
}

/// Answers a request with what the shared store holds for it, or as one for which nothing was found.
#[inline(never)]
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
        let (seen, request) = route.look_anywhere(&key, request, budget.as_ref()).await;
        let answer = answer_from::<S, P, Req>(&route, &inner, request, view, || key, seen, budget);
        answer.await
    })
}

/// Answers a request for which nothing was found that answers it at once.
#[inline(never)]
fn answer_missed<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    request: P::Request,
    view: P::View,
    key: Key,
    seen: Sighting<P::Value>,
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
    let (route, inner) = (Arc::clone(route), inner.clone());
    ResponseFuture::wait(miss::answer(route, inner, key, request, view, seen, budget))
}

/// Answers a request with what was seen for it, or as one for which nothing was found.
#[inline]
fn answer_from<S, P, Req>(
    route: &Arc<Route<P>>,
    inner: &S,
    request: P::Request,
    view: P::View,
    key: impl FnOnce() -> Key,
    seen: Sighting<P::Value>,
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
    let demands = route.protocol.demands(&view);
    let hit = if route.protocol.is_forced(&view) { None } else { seen.answer(&route.settings, demands) };
    let (Some((outcome, behind)), Some((entry, age))) = (hit, seen.kept()) else {
        return answer_missed(route, inner, request, view, key(), seen, budget);
    };
    route.cache.shared().telemetry.tell(Event::Answered(outcome));
    let replay = |spare| route.protocol.replay(entry, age, &view, outcome, spare);
    ResponseFuture::done(match behind {
        Behind::Nothing if seen.verdict() == Verdict::Fresh && route.protocol.is_sampled(&view) => {
            let response = replay(P::Spare::default());
            audit::behind::<S, P, Req>(route, inner.clone(), request);
            response
        }
        Behind::Nothing => replay(route.protocol.spare(request)),
        Behind::Refresh => {
            // The reader's request is the one that is re-run.
            let response = replay(P::Spare::default());
            refresh_behind(route, inner, &seen, request, &view);
            response
        }
    })
}

/// Starts the run that refreshes an entry behind its reader, unless one is under way, failed lately, or is one too many.
#[inline(never)]
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
    let overdue = route.settings.refresh_timeout.saturating_mul(2);
    let Some(lead) = flights.lead(&course, boarding, seen.now, overdue) else { return };
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
    let base = Some(Base { entry: Arc::clone(entry), servable: true, validate: true });
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
