//! How many background runs go on at a time, and what share of them a layer may hold.
//!
//! A layer takes a permit only while it holds fewer than are free: it can never have more than are left for the others,
//! so a route whose service hangs slows its own refreshes and nobody else's. A layer that has its cache to itself may
//! hold them all.

use std::sync::Arc;

use crate::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    telemetry,
};

#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    layers: AtomicUsize,
    refused: AtomicU64,
}

/// What one layer holds of a cache's permits.
#[derive(Debug)]
pub(crate) struct Share {
    permits: Arc<Permits>,
    /// Guarded by `Permits::free`: it is read and written while that lock is held.
    held: AtomicUsize,
}

/// The right to one background run.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Share>);

impl Permits {
    pub(crate) fn new(permits: usize) -> Self {
        Self { free: Mutex::new(permits), layers: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// The share of one more layer.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        self.layers.fetch_add(1, Relaxed);
        Arc::new(Share { permits: Arc::clone(self), held: AtomicUsize::new(0) })
    }

    /// How many runs were dropped for want of a permit.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Share {
    /// A permit for a refresh, which is dropped and counted if there is none. Nobody queues for one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let permit = self.spare();
        if permit.is_none() {
            self.permits.refused.fetch_add(1, Relaxed);
            telemetry::refresh_dropped();
        }
        permit
    }

    /// A permit, unless the cache or the layer has used up its own.
    pub(crate) fn spare(self: &Arc<Self>) -> Option<Permit> {
        let mut free = self.permits.free.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held.load(Relaxed);
        let alone = self.permits.layers.load(Relaxed) == 1;
        if *free == 0 || !(alone || held < *free) {
            return None;
        }
        *free -= 1;
        self.held.store(held + 1, Relaxed);
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut free = self.0.permits.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        self.0.held.fetch_sub(1, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permits.layers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(share: &Arc<Share>) -> Vec<Permit> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test] // P24
    fn a_layer_alone_may_hold_all_permits_and_no_more() {
        let permits = Arc::new(Permits::new(64));
        let share = permits.share();
        assert_eq!(take_all(&share).len(), 64);
        assert_eq!(take_all(&share).len(), 64, "dropped permits are free again");
        assert_eq!(permits.refused(), 2);
    }

    #[test] // P24
    fn a_layer_among_others_leaves_them_as_many_as_it_holds() {
        let permits = Arc::new(Permits::new(64));
        let (hung, other, third) = (permits.share(), permits.share(), permits.share());
        let held = take_all(&hung);
        assert_eq!(held.len(), 32);
        let also = take_all(&other);
        assert_eq!(also.len(), 16);
        assert_eq!(take_all(&third).len(), 8);
    }
}
