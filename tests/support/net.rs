//! Servers on loopback ports of the system's choosing, and bodies whose frames a test hands out one by one.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::disallowed_methods, reason = "a test may spawn")]

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

/// A body that gives out what its [`Script`] tells it to, and nothing before.
pub struct Scripted {
    steps: mpsc::UnboundedReceiver<Step>,
    ended: bool,
    hint: SizeHint,
    seen: watch::Sender<Seen>,
}

/// The other end of a [`Scripted`] body.
#[derive(Debug)]
pub struct Script {
    steps: Option<mpsc::UnboundedSender<Step>>,
    seen: watch::Receiver<Seen>,
}

#[derive(Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    Panic,
}

/// What became of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    taken: usize,
    dropped: bool,
}

/// How a scripted body fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A body, and the script that it follows. Until the script is dropped, or ends it, it has no end.
pub fn scripted() -> (Script, Scripted) {
    scripted_of(SizeHint::new())
}

/// A body that says this of its length, truly or not.
pub fn scripted_of(hint: SizeHint) -> (Script, Scripted) {
    let (steps, receiver) = mpsc::unbounded_channel();
    let (sender, seen) = watch::channel(Seen::default());
    let body = Scripted { steps: receiver, ended: false, hint, seen: sender };
    (Script { steps: Some(steps), seen }, body)
}

impl Script {
    pub fn data(&self, data: impl Into<Bytes>) -> &Self {
        self.step(Step::Data(data.into()))
    }

    pub fn trailers(&self, trailers: HeaderMap) -> &Self {
        self.step(Step::Trailers(trailers))
    }

    pub fn fail(&self) -> &Self {
        self.step(Step::Fail)
    }

    /// The next poll of the body panics.
    pub fn panic(&self) -> &Self {
        self.step(Step::Panic)
    }

    /// Lets the body end after what it was told so far.
    pub fn end(&mut self) {
        self.steps = None;
    }

    fn step(&self, step: Step) -> &Self {
        let steps = self.steps.as_ref().expect("the script goes on");
        // A body that was dropped takes no more.
        let _dropped = steps.send(step);
        self
    }

    /// How many frames were taken out of the body so far.
    pub fn taken(&self) -> usize {
        self.seen.borrow().taken
    }

    /// Waits until so many frames were taken.
    pub async fn until_taken(&mut self, frames: usize) {
        self.seen.wait_for(|seen| seen.taken >= frames).await.expect("the body is polled before it is dropped");
    }

    /// Waits until nobody has the body any more.
    pub async fn until_dropped(&mut self) {
        // The sender goes with the body.
        let _gone = self.seen.wait_for(|seen| seen.dropped).await;
    }

    pub fn is_dropped(&self) -> bool {
        self.seen.borrow().dropped
    }
}

impl http_body::Body for Scripted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let step = std::task::ready!(self.steps.poll_recv(cx));
        if step.is_some() {
            self.seen.send_modify(|seen| seen.taken += 1);
        }
        Poll::Ready(match step {
            None => {
                self.ended = true;
                None
            }
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Fail) => {
                self.ended = true;
                Some(Err(Broken))
            }
            Some(Step::Panic) => panic!("a body may panic"),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.seen.send_modify(|seen| seen.dropped = true);
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke")
    }
}

impl std::error::Error for Broken {}

/// Serves a router on loopback until the test is over.
pub async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Lets all tasks run until each of them waits for something. On a paused clock: no time that counts goes by.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What a future gives before any timer of a layer fires, on a paused clock: what waits for one, or for ever, fails.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(1), future).await.expect("nothing is waited for")
}

/// What a future gives, on a paused clock, whatever timers fire meanwhile: what waits for ever fails.
pub async fn eventually<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(1 << 30), future).await.expect("something is still to happen")
}

/// No error can come of this.
pub fn infallible<T>(result: Result<T, Infallible>) -> T {
    result.unwrap_or_else(|never| match never {})
}
