//! How many background runs go on at a time, and what share of them a layer may hold.
//!
//! A layer takes a permit only while it holds fewer than are free: it can never have more than are left for the others,
//! so a route whose service hangs slows its own refreshes and nobody else's. A layer that has its cache to itself may
//! hold them all. Once they are withdrawn nobody gets one any more.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

#[derive(Debug)]
pub(crate) struct Permits {
    limit: usize,
    state: Mutex<State>,
    layers: AtomicUsize,
    all_back: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    withdrawn: bool,
}

/// What one layer holds of a cache's permits.
#[derive(Debug)]
pub(crate) struct Share {
    permits: Arc<Permits>,
    /// Guarded by `Permits::state`: it is read and written while that lock is held.
    held: AtomicUsize,
    /// Whether it is among the layers that share.
    counts: bool,
}

/// The right to one background run.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Share>);

impl Permits {
    pub(crate) fn new(permits: usize) -> Self {
        let state = State { free: permits, withdrawn: false };
        Self { limit: permits, state: Mutex::new(state), layers: AtomicUsize::new(0), all_back: Notify::new() }
    }

    /// The share of one more layer.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        self.layers.fetch_add(1, Relaxed);
        Arc::new(Share { permits: Arc::clone(self), held: AtomicUsize::new(0), counts: true })
    }

    /// A share that counts for no layer.
    pub(crate) fn aside(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { permits: Arc::clone(self), held: AtomicUsize::new(0), counts: false })
    }

    /// How many are out.
    pub(crate) fn out(&self) -> usize {
        self.limit - self.lock().free
    }

    /// From now on nobody gets one.
    pub(crate) fn withdraw(&self) {
        self.lock().withdrawn = true;
    }

    /// Whether nobody gets one any more.
    pub(crate) fn are_withdrawn(&self) -> bool {
        self.lock().withdrawn
    }

    /// Waits until none is out.
    pub(crate) async fn all_back(&self) {
        loop {
            let back = self.all_back.notified();
            if self.out() == 0 {
                return;
            }
            back.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A permit, unless the cache or the layer has used up its own. Nobody queues for one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.permits.lock();
        let held = self.held.load(Relaxed);
        let alone = self.permits.layers.load(Relaxed) == 1;
        if state.withdrawn || state.free == 0 || !(alone || held < state.free) {
            return None;
        }
        state.free -= 1;
        self.held.store(held + 1, Relaxed);
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let permits = &self.0.permits;
        let mut state = permits.lock();
        state.free += 1;
        self.0.held.fetch_sub(1, Relaxed);
        let all_back = state.free == permits.limit;
        // Whoever is woken may ask how many are out before this returns.
        drop(state);
        if all_back {
            permits.all_back.notify_waiters();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.counts {
            self.permits.layers.fetch_sub(1, Relaxed);
        }
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
        let again = take_all(&share);
        assert_eq!((again.len(), permits.out()), (64, 64), "dropped permits are free again");
    }

    #[test] // P27
    fn once_withdrawn_no_permit_is_given_and_those_that_are_out_are_waited_for() {
        let permits = Arc::new(Permits::new(64));
        let share = permits.share();
        let held = share.take();
        permits.withdraw();
        assert!(share.take().is_none());
        let mut all_back = std::pin::pin!(permits.all_back());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(all_back.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert!(all_back.as_mut().poll(&mut cx).is_ready());
        assert!(share.take().is_none());
    }

    #[test] // P27
    fn who_waits_for_the_last_permit_is_woken_under_no_lock() {
        struct Ask(Arc<Permits>, AtomicUsize);
        impl std::task::Wake for Ask {
            fn wake(self: Arc<Self>) {
                self.1.fetch_add(1 + usize::from(self.0.state.try_lock().is_err()), Relaxed);
            }
        }
        let permits = Arc::new(Permits::new(64));
        let held = permits.share().take();
        let ask = Arc::new(Ask(Arc::clone(&permits), AtomicUsize::new(0)));
        let waker = std::task::Waker::from(Arc::clone(&ask));
        let mut all_back = std::pin::pin!(permits.all_back());
        assert!(all_back.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        drop(held);
        assert_eq!(ask.1.load(Relaxed), 1, "woken once, and free to ask");
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
