//! The only file that reads time.
//!
//! Ages and horizons are measured on tokio's clock, so that a test with a paused clock drives all of them. The wall
//! clock serves the `Date` and `Expires` fields alone: when it jumps, nothing that is stored gets younger or older.

use std::time::{Duration, SystemTime};

use tokio::task::{self, Unconstrained};

pub(crate) use tokio::time::Instant;

/// A timer. It rings also when the task that waits for it has used up its turn with other work.
pub(crate) type Sleep = Unconstrained<tokio::time::Sleep>;

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
    task::unconstrained(tokio::time::sleep(duration))
}

/// What a future gives within a time; it is dropped by the caller if it gives nothing.
pub(crate) async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(duration, future).await.ok()
}
