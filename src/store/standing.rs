//! How things stand between a cache and its store: whether it can be asked, and whether all that was to be heard of
//! invalidations has been heard.
//!
//! Two numbers that the store's keeper writes and a hit reads. What is in memory remembers the generation that stood
//! before its run was known to the store; once the generation is another, messages may have been missed that would have
//! reached it, and the store is asked before it is served again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How things stand with a store.
#[derive(Debug, Default)]
pub struct Standing {
    /// Grows whenever messages may have been missed.
    generation: AtomicU64,
    /// Nothing can be asked at the moment.
    is_down: AtomicBool,
}

impl Standing {
    /// What was made in a generation has missed no message as long as this is the one. A hit reads it, and nothing else.
    pub(crate) fn generation(&self) -> u64 {
        // No order is needed: whoever remembers it goes over the network before he makes anything.
        self.generation.load(Relaxed)
    }

    /// Whether asking is in vain, so that memory serves for itself.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    /// Messages may have been missed until now.
    pub(crate) fn gap(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Says whether anything can be asked.
    #[allow(dead_code, reason = "the store within the process is never down")]
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Relaxed);
    }
}
