//! What stands in for the locks, atomics and tasks of `sync` while the models run.

use std::ops::Deref;

use loom::{sync::atomic::AtomicUsize, thread};
use tokio::runtime::TryCurrentError;

use super::{SeqCst, block_on};

pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

/// All keys share one lock. That they seldom do is no part of any promise, and more locks are more steps.
pub(crate) const SHARDS: usize = 1;

/// A structure whose operations are one step each. loom does not see into it: without a step of its own beside each of
/// them it would take two threads that meet nowhere else for strangers, and not try them in another order.
pub(crate) struct Leaf<T> {
    inner: T,
    steps: AtomicUsize,
}

/// A runtime whose tasks are threads of the model.
#[derive(Clone, Debug)]
pub struct Handle;

impl<T> Leaf<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, steps: AtomicUsize::new(0) }
    }
}

impl<T> Deref for Leaf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.steps.fetch_add(1, SeqCst);
        &self.inner
    }
}

impl Handle {
    pub(crate) fn try_current() -> Result<Self, TryCurrentError> {
        tokio::runtime::Handle::try_current().map(|_| Self)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Boxed, since it is handed on and on: the stacks of a model are small.
        let task = Box::pin(task);
        thread::spawn(move || block_on(task));
    }
}
