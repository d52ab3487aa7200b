//! What a run is watched for: its deadline, its panics, and whether anybody wants it still.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::task;

use crate::{
    clock::{self, Instant, Sleep},
    flight::Lead,
    permits::Permit,
    protocol::Protocol,
    route::Route,
};

/// Why a run came to no end of its own.
pub(crate) enum Stop {
    Deadline,
    Unwanted,
    Panicked(Box<dyn Any + Send>),
}

/// A run under supervision.
pub(crate) struct Supervised<'a, P: Protocol> {
    pub(crate) lead: &'a Lead<P::Value>,
    pub(crate) route: &'a Route<P>,
    pub(crate) permit: Option<Permit>,
    pub(crate) adoptable: bool,
    pub(crate) started: Instant,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
}

/// Code of the service's, up to its end or its panic.
pub(crate) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    })
    .await
}

impl<P: Protocol> Supervised<'_, P> {
    /// Runs to the end, or to a stop. `poll_left` is ready when the one who leads does not wait any more.
    ///
    /// The work is large, and stays where it is.
    pub(crate) fn run<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
        poll_left: impl Fn(&mut Context<'_>) -> Poll<()>,
    ) -> impl Future<Output = Result<T, Stop>> {
        poll_fn(move |cx| {
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Ready(end)) => return Poll::Ready(Ok(end)),
                Ok(Poll::Pending) => {}
                Err(payload) => return Poll::Ready(Err(Stop::Panicked(payload))),
            }
            if self.permit.is_none() && self.lead.poll_unwanted(cx).is_ready() {
                // It becomes a background run, if there is room for one, with what is left of the time of one.
                let timeout = self.route.settings.refresh_timeout;
                let left = timeout.saturating_sub(clock::now().saturating_duration_since(self.started));
                if left.is_zero() {
                    return Poll::Ready(Err(Stop::Deadline));
                }
                self.permit = if self.adoptable { self.route.share.take() } else { None };
                if self.permit.is_some() {
                    self.timer = Some(Box::pin(clock::sleep(left)));
                } else if self.lead.close_unless_wanted(|| 0) {
                    return Poll::Ready(Err(Stop::Unwanted));
                } else {
                    // Somebody came aboard at the last moment.
                    cx.waker().wake_by_ref();
                }
            }
            let timer = self.timer.as_mut().map(|timer| timer.as_mut().poll(cx));
            // One who leads and waits beyond the deadline has nothing to fall back on: that one waits as without the
            // layer. Those who follow have their own patience, and do not keep the run alive.
            if timer.is_some_and(|timer| timer.is_ready())
                && pin!(task::unconstrained(poll_fn(&poll_left))).poll(cx).is_ready()
            {
                return Poll::Ready(Err(Stop::Deadline));
            }
            Poll::Pending
        })
    }
}
