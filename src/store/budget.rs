//! The time that one request waits for the store: all that is asked for its sake is taken from it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::clock;

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

    /// What an operation gives within the time that is left, which is less by what it took.
    pub(crate) async fn spend<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        let (left, began) = (self.0.load(Relaxed), clock::now());
        let done = clock::timeout(Duration::from_nanos(left), operation).await;
        let took = u64::try_from(clock::now().saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX);
        let _before = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(took)));
        done
    }
}
