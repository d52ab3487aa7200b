//! Locks and atomics: those of `std`, or, where the models are tried, those of a checker that runs every order of steps.
//!
//! The files that share state among threads import from here, so that what `models` checks is the code itself and not a
//! copy of it. `Arc` stays that of `std`: nothing here depends on when a count goes up or down.

#[cfg(all(test, cacheback_model))]
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
pub(crate) use std::sync::PoisonError;
#[cfg(not(all(test, cacheback_model)))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

/// How many locks share out the keys, so that few threads wait for one another.
#[cfg(not(all(test, cacheback_model)))]
pub(crate) const SHARDS: usize = 64;

/// In a model all share one lock: that keys do not share it is no part of any promise, and more steps take longer.
#[cfg(all(test, cacheback_model))]
pub(crate) const SHARDS: usize = 1;
