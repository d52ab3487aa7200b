//! An audit behind the reader of a fresh response, for one hit in many.
//!
//! It is no run: nothing is stored by it and nobody waits for it, so it has no flight. It keeps to the limits of
//! refreshes all the same: it holds a permit, and is over when a refresh would have to be.

use std::sync::Arc;

use tokio::task;
use tower_service::Service;

use crate::{
    clock,
    future::Call,
    protocol::{Capture, Prepare},
    route::Route,
    run,
    supervision::catch_panic,
};

/// Audits the service for a request that was answered from memory, if there is a permit for it.
pub(crate) fn behind<S, P, Req>(route: &Arc<Route<P>>, service: S, request: P::Request)
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let Some(permit) = route.share.take() else { return };
    let (route, running) = (Arc::clone(route), route.cache.shared().running.start());
    run::start_audit(async move {
        let reported = Arc::clone(&route);
        let call = move |request, after| {
            let (call, route) = (Call::new(service.clone(), request), Arc::clone(&reported));
            async move {
                // The answers of readers are written first, also where one thread does everything.
                task::yield_now().await;
                // An input that it has never seen may make it panic: that is one response that there is not.
                if let Ok(Ok(response)) = catch_panic(call).await {
                    drop(route.protocol.finish(response, after));
                }
            }
        };
        let cache = route.cache.identity();
        let audit = route.protocol.audit(request, cache, &route.settings.freshness, call);
        for leak in clock::timeout(route.settings.refresh_timeout, audit).await.unwrap_or_default() {
            route.cache.shared().telemetry.warn_of_leak(&leak);
        }
        drop((permit, running));
    });
}
