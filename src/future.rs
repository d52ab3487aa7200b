//! The response future: ready at once for what memory answered, the wrapped service's own future for what passes by,
//! and a wait for the rest.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    cache::Cache,
    protocol::{Capture, Prepare},
    route::Route,
    run,
    scope::Force,
    scope::Scope,
    store::tier::side_by_side,
    telemetry::Event,
};

pin_project! {
    /// Future of [`Cacheback`](crate::Cacheback).
    pub struct ResponseFuture<S, P, Req>
    where
        P: Prepare<Req>,
        P: Capture<S::Response>,
        S: Service<P::Request>,
    {
        #[pin]
        state: State<S, P, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, P, Req>
    where
        P: Prepare<Req>,
        P: Capture<S::Response>,
        S: Service<P::Request>,
    {
        Done { response: Option<P::Response> },
        Forwarding { #[pin] call: Call<S, P::Request>, after: Option<P::After>, route: Arc<Route<P>> },
        Waiting { answer: Answer<P::Response, S::Error> },
        Telling { response: Option<P::Response>, told: Told },
    }
}

/// A wait for the store to hear what was invalidated. Boxed: there is none but behind unsafe methods.
type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A wait for a run. Boxed: what waits for a service can pay for a box.
type Answer<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

pin_project! {
    /// Drives a service to readiness and calls that very instance: the readiness of a clone is another's.
    #[project = CallProj]
    pub(crate) enum Call<S, Req>
    where
        S: Service<Req>,
    {
        Readying { service: S, request: Option<Req> },
        Calling { #[pin] future: S::Future },
    }
}

impl<S, P, Req> ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
{
    pub(crate) fn done(response: P::Response) -> Self {
        Self { state: State::Done { response: Some(response) } }
    }

    pub(crate) fn forward(service: S, request: P::Request, after: P::After, route: Arc<Route<P>>) -> Self {
        Self { state: State::Forwarding { call: Call::new(service, request), after: Some(after), route } }
    }

    pub(crate) fn wait(answer: impl Future<Output = Result<P::Response, S::Error>> + Send + 'static) -> Self {
        Self { state: State::Waiting { answer: Box::pin(answer) } }
    }
}

impl<S, P, Req> Future for ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
{
    type Output = Result<P::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                // ## Done => (ready)
                StateProj::Done { response } => {
                    let response = response.take();
                    return Poll::Ready(Ok(response.expect("a response future is not polled after it is ready")));
                }
                // ## Forwarding => (Telling | ready)
                StateProj::Forwarding { call, after, route } => {
                    let answer = ready!(call.poll(cx));
                    let after = after.take().expect("a response future is not polled after it is ready");
                    if let Some(outcome) = route.protocol.passed(&after) {
                        route.watch.passed(outcome);
                        route.cache.shared().telemetry.tell(Event::Answered(outcome));
                    }
                    let (response, scopes) = route.protocol.finish(answer?, after);
                    for scope in &scopes {
                        route.cache.invalidate(scope, Force::Purge);
                    }
                    if scopes.is_empty() || route.cache.shared().tier.is_none() {
                        return Poll::Ready(Ok(response));
                    }
                    let told = Box::pin(run::start_telling(&route.cache, tell(route.cache.clone(), scopes)));
                    state.set(State::Telling { response: Some(response), told });
                }
                // ## Waiting => (ready)
                StateProj::Waiting { answer } => return answer.as_mut().poll(cx),
                // ## Telling => (ready)
                StateProj::Telling { response, told } => {
                    ready!(told.as_mut().poll(cx));
                    let response = response.take();
                    return Poll::Ready(Ok(response.expect("a response future is not polled after it is ready")));
                }
            }
        }
    }
}

/// Tells the shared store what a response has invalidated.
async fn tell<V: Send + Sync + 'static>(cache: Cache<V>, scopes: Vec<Scope>) {
    // A failure is told where the store is asked.
    side_by_side(scopes.iter().map(async |scope| _ = cache.invalidate_elsewhere(scope, Force::Purge).await)).await;
}

impl<S: Service<Req>, Req> Call<S, Req> {
    pub(crate) fn new(service: S, request: Req) -> Self {
        Self::Readying { service, request: Some(request) }
    }
}

impl<S: Service<Req>, Req> Future for Call<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                // ## Readying => (Calling | error)
                CallProj::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let request = request.take().expect("a request is called once");
                    let future = service.call(request);
                    self.set(Self::Calling { future });
                }
                // ## Calling => (ready)
                CallProj::Calling { future } => return future.poll(cx),
            }
        }
    }
}

impl<S, P, Req> fmt::Debug for ResponseFuture<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    S: Service<P::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Done { .. } => "Done",
            State::Forwarding { .. } => "Forwarding",
            State::Waiting { .. } => "Waiting",
            State::Telling { .. } => "Telling",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish()
    }
}
