//! The only file that reads time.
//!
//! Ages and horizons are measured on tokio's clock, so that a test with a paused clock drives all of them. The wall
//! clock serves the `Date` and `Expires` fields alone: when it jumps, nothing that is stored gets younger or older.
//!
//! A runtime may have been built without time. Timers never ring there: what waits for one waits for the rest alone.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::{self, Handle},
    task::{self, Unconstrained},
};

pub(crate) use tokio::time::Instant;

pin_project! {
    /// A timer. It rings also when the task that waits for it has used up its turn with other work.
    pub(crate) struct Sleep {
        #[pin]
        timer: Option<Unconstrained<tokio::time::Sleep>>,
    }
}

/// The moment that ages are measured against.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The moment this long after another; one that would overflow the clock lies decades ahead instead.
pub(crate) fn after(moment: Instant, duration: Duration) -> Instant {
    moment.checked_add(duration).unwrap_or_else(|| moment + Duration::from_secs(1 << 30))
}

/// The time of day, for fields that carry one.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// A timer; one that would overflow the clock lies decades ahead instead.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn sleep(duration: Duration) -> Sleep {
    Sleep { timer: has_time().then(|| task::unconstrained(tokio::time::sleep(duration))) }
}

/// A timer that rings at a moment.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
fn sleep_until(moment: Instant) -> Sleep {
    Sleep { timer: has_time().then(|| task::unconstrained(tokio::time::sleep_until(moment))) }
}

/// What a future gives within a time; it is dropped by the caller if it gives nothing.
pub(crate) async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    ahead_of(sleep(duration), future).await
}

/// What a future gives before a moment; it is dropped by the caller if it gives nothing.
pub(crate) async fn timeout_at<F: Future>(moment: Instant, future: F) -> Option<F::Output> {
    ahead_of(sleep_until(moment), future).await
}

async fn ahead_of<F: Future>(sleep: Sleep, future: F) -> Option<F::Output> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Whether the runtime that this thread is in has a timer.
///
/// tokio has no question for it but to make one, which panics where there is none. Each thread asks once per runtime; the
/// panic is caught, and shows as a message of the panic hook.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) fn has_time() -> bool {
    thread_local! {
        static ASKED: Cell<Option<(runtime::Id, bool)>> = const { Cell::new(None) };
    }
    let Ok(runtime) = Handle::try_current() else { return false };
    match ASKED.get() {
        Some((asked, has_time)) if asked == runtime.id() => has_time,
        _ => {
            let has_time = panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
            ASKED.set(Some((runtime.id(), has_time)));
            has_time
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = self.project().timer.as_pin_mut() else { return Poll::Pending };
        // A timer whose runtime is gone panics. It will never ring: for those who wait elsewhere the time is up.
        panic::catch_unwind(AssertUnwindSafe(|| timer.poll(cx))).unwrap_or(Poll::Ready(()))
    }
}
