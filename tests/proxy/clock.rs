//! A clock that stands still while the runtime waits for sockets: time passes only where a test lets it.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

/// As long as there is one, a paused clock does not go on by itself; for a minute at most, so that what never comes
/// fails a test instead of keeping it for ever.
#[derive(Debug)]
pub(crate) struct Still(#[allow(dead_code, reason = "it is there to be dropped")] mpsc::Sender<()>);

/// Some test took its minute.
static LATE: AtomicBool = AtomicBool::new(false);

impl Still {
    pub(crate) fn begin() -> Self {
        let (held, ended) = mpsc::channel::<()>();
        // A runtime whose blocking tasks are under way does not take its clock forward.
        tokio::task::spawn_blocking(move || {
            if ended.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
                LATE.store(true, Relaxed);
            }
        });
        Self(held)
    }
}

/// What a future gives, unless it waits for what never comes, or for a timer that no test let go off.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    let output = tokio::time::timeout(Duration::from_secs(1 << 30), future).await;
    assert!(!LATE.load(Relaxed), "a test waited for a minute");
    output.expect("nobody takes the clock forward so far")
}
