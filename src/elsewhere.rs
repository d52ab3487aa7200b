//! A runtime for runs for which nobody waits, as long as it is there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::sync::Handle;

/// A runtime other than the reader's.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    runtime: Handle,
    /// It has dropped a run that it had not begun: that does none but one that is shut down.
    is_gone: AtomicBool,
}

/// A run that is to begin there. Dropped before it has begun, it shows that the runtime is gone.
pub(crate) struct Beginning {
    elsewhere: Arc<Elsewhere>,
    begun: bool,
}

impl Elsewhere {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, is_gone: AtomicBool::new(false) }
    }

    /// The runtime, unless it is known to be gone.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        (!self.is_gone.load(Relaxed)).then_some(&self.runtime)
    }

    /// To be told by a run when it begins there.
    pub(crate) fn beginning(self: &Arc<Self>) -> Beginning {
        Beginning { elsewhere: Arc::clone(self), begun: false }
    }
}

impl Beginning {
    /// The run has begun.
    pub(crate) fn begun(mut self) {
        self.begun = true;
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if !self.begun {
            self.elsewhere.is_gone.store(true, Relaxed);
        }
    }
}
