//! Questions that many ask at the same time, gathered so that they are asked in one go.
//!
//! Whoever finds nobody at it has the turn, and sees to it that what has come together is asked; the others wait for their
//! answers. Nobody is given an answer to what was asked before he came. A turn that is dropped lets all go that have
//! gathered: each of them sees that his question was not asked, and asks it himself.

use std::{mem, sync::Arc};

use tokio::sync::oneshot;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Where questions gather.
pub(crate) struct Gathering<Q, A> {
    /// Nothing, where nobody has the turn.
    gathered: Mutex<Option<Vec<Asked<Q, A>>>>,
}

/// A question, and whoever waits for its answer.
pub(crate) struct Asked<Q, A> {
    pub(crate) question: Q,
    pub(crate) answer: oneshot::Sender<A>,
}

/// The right to ask, and the duty.
pub(crate) struct Turn<Q, A> {
    gathering: Arc<Gathering<Q, A>>,
    is_over: bool,
}

impl<Q, A> Gathering<Q, A> {
    pub(crate) fn new() -> Self {
        Self { gathered: Mutex::new(None) }
    }

    /// Adds a question; and gives the turn to the one who is the first.
    pub(crate) fn join(self: &Arc<Self>, question: Q) -> (oneshot::Receiver<A>, Option<Turn<Q, A>>) {
        let (answer, answered) = oneshot::channel();
        let mut gathered = self.lock();
        let is_first = gathered.is_none();
        gathered.get_or_insert_default().push(Asked { question, answer });
        drop(gathered);
        (answered, is_first.then(|| Turn { gathering: Arc::clone(self), is_over: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Asked<Q, A>>>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> Turn<Q, A> {
    /// All that has gathered. Whoever comes from here on begins anew.
    pub(crate) fn take(mut self) -> Vec<Asked<Q, A>> {
        self.end()
    }

    fn end(&mut self) -> Vec<Asked<Q, A>> {
        if mem::replace(&mut self.is_over, true) {
            return Vec::new();
        }
        self.gathering.lock().take().unwrap_or_default()
    }
}

impl<Q, A> Drop for Turn<Q, A> {
    fn drop(&mut self) {
        // Dropped when nothing is locked any more: it wakes those who wait.
        drop(self.end());
    }
}
