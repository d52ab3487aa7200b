//! The time that one request waits for the store: all that is asked for its sake is taken from it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::clock::{self, Instant};

/// What is left of the time that one request waits for the store.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(crate) fn new(time: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))))
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// What an operation gives that begins now, within the time that is left, which is less by what it took; and when.
    pub(crate) async fn spend<T>(&self, now: Instant, operation: impl Future<Output = T>) -> (Option<T>, Instant) {
        let until = clock::after(now, Duration::from_nanos(self.0.load(Relaxed)));
        let (done, then) = (clock::timeout_at(until, operation).await, clock::now());
        let took = u64::try_from(then.saturating_duration_since(now).as_nanos()).unwrap_or(u64::MAX);
        let _before = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(took)));
        (done, then)
    }
}
