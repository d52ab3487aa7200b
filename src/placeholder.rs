//! What stands in where nothing is stored: it answers at once, and one run behind it fetches what belongs there.
//!
//! A placeholder is no response of the service's: it is never stored, and it is no hit. It stands in only as long as there
//! is hope of something that can be stored. What a run has brought that cannot be is to be seen: for a while readers wait
//! for the service then, as without a placeholder.

use std::sync::Arc;

use tower_service::Service;

use crate::{
    entry::Base,
    flight::Lead,
    protocol::{Capture, Prepare, Protocol, Role},
    route::Route,
    run::{self, Job},
    sighting::Sighting,
    telemetry::Event,
};

/// What readers get where nothing is stored, in place of waiting for a run.
///
/// ```
/// use std::time::Duration;
/// use cacheback::{CachebackLayer, Placeholder};
/// use http::Response;
///
/// let soon = Response::builder().status(503).header("retry-after", "1").body("The figures are being gathered.");
/// let layer = CachebackLayer::new(Duration::from_secs(60)).on_miss(Placeholder(soon.expect("a sound response")));
/// ```
///
/// A request that would lead a run or wait for one gets it at once. One run fetches what belongs there, behind the reader
/// and within the limits of refreshes: over [`max_refreshes`](crate::CacheBuilder::max_refreshes) it is dropped and
/// counted, and after a failure it is put off, for 1 s and then for longer, up to 60 s. What is too stale to be served at
/// once is waited for as ever, since it may stand in itself should the run fail.
///
/// What the service answers and the layer does not store (an HTTP 404, what a rule does not
/// [admit](crate::CachebackLayer::admit)) is not hidden: for the time of
/// [`hit_for_miss`](crate::CachebackLayer::hit_for_miss) after such a run readers wait for the service. Where that is zero
/// it stays hidden.
///
/// What a shared store holds is found by that run too, and not waited for.
///
/// It is never stored and no hit: its outcome has the status of the miss and
/// [`Detail::Placeholder`](crate::Detail::Placeholder), and [`Stats::placeholders`](crate::Stats::placeholders) counts it.
/// A request gets none that goes past the cache, asks for a new response, or asks for a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placeholder<T>(pub T);

impl<P: Protocol> Route<P> {
    /// Whether something stands in for what was not found, for one who would lead a run or wait for one.
    pub(crate) fn stands_in(&self, role: Role, seen: &Sighting<P::Value>) -> bool {
        self.protocol.has_placeholder()
            && matches!(role, Role::Lead | Role::Refresh)
            && seen.entry().is_none()
            && !seen.is_shown()
            && run::can_start_behind(&self.settings)
    }
}

/// Starts the run that fetches what something stands in for, unless it is one too many.
pub(crate) fn fill_behind<S, P, Req>(
    route: &Arc<Route<P>>,
    service: &S,
    seen: &Sighting<P::Value>,
    request: P::Request,
    lead: Lead<P::Value>,
) where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let Some(permit) = route.share.take() else {
        return route.cache.shared().telemetry.tell(Event::RefreshDropped);
    };
    let base = seen.base().map(|(entry, servable)| Base {
        entry: Arc::clone(entry),
        servable,
        validate: true,
        _refresh: None,
    });
    run::start(Job::behind(Arc::clone(route), service.clone(), request, lead, base, permit));
}
