//! What threads share state by: locks, atomics and tasks; or, where the models run, those of a checker that tries the
//! threads' steps in every order.
//!
//! The files that share state among threads import from here, so that what `models` checks is the code itself and not a
//! copy of it. `Arc` stays that of `std`: nothing depends on when its count goes up or down.

pub(crate) use std::sync::PoisonError;
#[cfg(not(all(test, cacheback_model)))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

#[cfg(not(all(test, cacheback_model)))]
pub(crate) use tokio::runtime::Handle;

#[cfg(all(test, cacheback_model))]
pub(crate) use crate::models::stand_ins::*;

/// How many locks share out the keys, so that few threads wait for one another.
#[cfg(not(all(test, cacheback_model)))]
pub(crate) const SHARDS: usize = 64;

/// A structure with locks of its own, under which no other code of ours takes a lock: each of its operations is one step.
#[cfg(not(all(test, cacheback_model)))]
pub(crate) struct Leaf<T>(T);

#[cfg(not(all(test, cacheback_model)))]
impl<T> Leaf<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }
}

#[cfg(not(all(test, cacheback_model)))]
impl<T> std::ops::Deref for Leaf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
