//! An origin whose runs are answered by hand, one by one and in any order; and futures that are polled where they stand.

#![allow(clippy::disallowed_methods, reason = "a test may spawn")]

use std::{
    convert::Infallible,
    fmt,
    future::ready,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use axum::body::Body;
use cacheback::Background;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower::Service;

use super::http::{Fields, headers};

/// The origin, as a layer wraps it. All clones are one.
#[derive(Clone, Debug)]
pub struct ByHand(mpsc::UnboundedSender<Call>);

/// The calls of a [`ByHand`] that wait for their answers.
#[derive(Debug)]
pub struct Calls {
    arriving: mpsc::UnboundedReceiver<Call>,
    waiting: Vec<Call>,
}

/// One call.
pub struct Call {
    request: Request<Body>,
    answer: oneshot::Sender<Response<Body>>,
}

/// In the extensions of a request: its response. Such a request waits for nobody.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce(pub StatusCode, pub Fields);

/// The field by which a request says who asks.
const ASKER: &str = "x-asker";

/// An origin, and the hand that answers.
pub fn by_hand() -> (ByHand, Calls) {
    let (sender, arriving) = mpsc::unbounded_channel();
    (ByHand(sender), Calls { arriving, waiting: Vec::new() })
}

/// Lets a request say who asks. Where a run is made of it, that is the run's name.
pub fn asked_by(asker: &'static str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(ASKER, HeaderValue::from_static(asker));
    request
}

/// What a future gives at its first poll, before any task has gone on.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it was to be done at once"),
    }
}

/// Polls a future once, here, and leaves the rest to a task of its own. What the first poll spawns has not gone on when
/// this returns, nor has anything else.
pub fn begin<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut future = Box::pin(future);
    let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    tokio::spawn(async move {
        match first {
            Poll::Ready(output) => output,
            Poll::Pending => future.await,
        }
    })
}

impl Calls {
    /// Who waits for an answer, in alphabetical order.
    pub fn askers(&mut self) -> Vec<&str> {
        self.arrive();
        let mut askers: Vec<_> = self.waiting.iter().map(Call::asker).collect();
        askers.sort_unstable();
        askers
    }

    /// Whether nobody waits for what this one's call brings.
    pub fn is_background(&mut self, asker: &str) -> bool {
        self.arrive();
        let call = self.waiting.iter().find(|call| call.asker() == asker);
        call.is_some_and(|call| call.request.extensions().get::<Background>().is_some())
    }

    /// Takes out the call of this one.
    pub fn of(&mut self, asker: &str) -> Option<Call> {
        self.arrive();
        let at = self.waiting.iter().position(|call| call.asker() == asker)?;
        Some(self.waiting.remove(at))
    }

    /// A call that was given up waits no more.
    fn arrive(&mut self) {
        self.waiting.extend(std::iter::from_fn(|| self.arriving.try_recv().ok()));
        self.waiting.retain(|call| !call.answer.is_closed());
    }
}

impl Call {
    pub fn answer(self, response: Response<Body>) {
        let _given_up = self.answer.send(response);
    }

    fn asker(&self) -> &str {
        self.request.headers().get(ASKER).and_then(|asker| asker.to_str().ok()).unwrap_or_default()
    }
}

impl Service<Request<Body>> for ByHand {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(AtOnce(status, fields)) = request.extensions().get() {
            let mut response = Response::new(Body::empty());
            (*response.status_mut(), *response.headers_mut()) = (*status, headers(fields));
            return Box::pin(ready(Ok(response)));
        }
        let (answer, answered) = oneshot::channel();
        self.0.send(Call { request, answer }).expect("the hand is there as long as anybody calls");
        Box::pin(async move { Ok(answered.await.expect("a call is answered before it is let go")) })
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.asker()).finish()
    }
}
