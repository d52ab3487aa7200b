//! The remote tier: what many instances share, and what is promised of it.
//!
//! A store holds records of courses (a key and, where request fields select among its variants, their values), for as long
//! as it is told, and forgets what an invalidation names. It speaks in bytes and data, never in closures or in types of a
//! protocol, so that one store serves them all. It is slower than memory and may fail; whoever calls it goes on without it.
//!
//! What every store promises, and what the contract suite (see `contract`) asks of each:
//!
//! 1. `fetch` gives back what `save` was given, byte for byte, or nothing. It never gives back another course's record.
//! 2. A record's time counts from the moment at which its run fetched, by the store's own clock: it is gone once its time to
//!    live is over, and says how old it is.
//! 3. When `invalidate` has returned `Ok`, no record that was saved before and is reached by the scope is fetched any
//!    more, by any instance; nor is one that is saved later by a run that fetched before. Hard and soft differ in what
//!    memory may still serve; a record is gone either way.
//! 4. Of two runs that fetched one after the other, the earlier one never replaces what the later one has saved.
//! 5. `forget` lets go of what is held under a key, but for what a run has saved that fetched later.
//! 6. An operation that was not carried out returns an error. None panics, whatever bytes come back.
//!
//! `record` is the form of what is saved, `tier` how a cache uses its store, `local` a store without a network.

use std::{any::Any, fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    entry::Course,
    key::Key,
    protocol::sealed::Sealed,
    scope::{Scope, Tags},
};

#[cfg(test)]
mod contract;
pub(crate) mod local;
mod record;
#[allow(dead_code, reason = "for stores that others share")]
pub(crate) mod standing;
pub(crate) mod tier;

/// The remote tier behind the memory of a cache: what many instances share. Sealed: see
/// [`LocalStore`](crate::testing::LocalStore).
pub trait Store: Sealed + fmt::Debug + Send + Sync + 'static {
    /// The record of a course; and from when on, in the store's own order of things, a run begins that calls this first.
    #[doc(hidden)]
    fn fetch<'a>(&'a self, course: &'a Course) -> BoxFuture<'a, Result<Fetched, StoreError>>;

    /// Keeps the record of a run, unless an invalidation or a run came between that the store knows to be later.
    #[doc(hidden)]
    fn save<'a>(&'a self, course: &'a Course, record: Record, since: Since) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets what is held under a key, unless a run has saved it that began later.
    #[doc(hidden)]
    fn forget<'a>(&'a self, key: &'a Key, since: Since) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets what a scope reaches.
    #[doc(hidden)]
    fn invalidate<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A future behind a pointer: stores are chosen when the program runs.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store had for a run that is to begin.
#[derive(Debug)]
pub struct Fetched {
    pub(crate) found: Option<Found>,
    pub(crate) since: Since,
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) bytes: Bytes,
    /// How long ago the run that has saved it began.
    pub(crate) age: Duration,
}

/// The moment at which a run began, as the store knows it. Only the store that gave it can read it.
#[derive(Clone, Debug)]
pub struct Since(pub(crate) Arc<dyn Any + Send + Sync>);

/// What is saved.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) bytes: Bytes,
    pub(crate) tags: Tags,
    /// Counted from the run's beginning.
    pub(crate) time_to_live: Duration,
}

/// Why a store did not do as it was told, in words for telemetry.
#[derive(Debug)]
pub struct StoreError(pub(crate) String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
