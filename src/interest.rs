//! Whether anybody wants a run: those who wait for it, and the reader of a body that it still fills.
//!
//! Each of them holds an [`Interest`]. When the last one is gone the run is woken, and decides whether to go on.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// All interests in one run.
#[derive(Debug, Default)]
pub(crate) struct Aboard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    runner: Option<Waker>,
}

/// Somebody wants the run to go on.
#[derive(Debug)]
pub struct Interest(Arc<Aboard>);

impl Aboard {
    /// One more.
    pub(crate) fn board(self: &Arc<Self>) -> Interest {
        self.lock().count += 1;
        Interest(Arc::clone(self))
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// Ready when there is no interest; else the caller, who runs, is woken when the last one goes.
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.count == 0 {
            return Poll::Ready(());
        }
        match &mut state.runner {
            Some(runner) => runner.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// The run goes on whether anybody stays or not.
    pub(crate) fn keep(self) {
        self.0.lock().count += 1;
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.count -= 1;
        let runner = if state.count == 0 { state.runner.take() } else { None };
        drop(state);
        if let Some(runner) = runner {
            runner.wake();
        }
    }
}
