//! The remote tier: what many instances share, and what is promised of it.
//!
//! A store holds records of courses (a key and, where request fields select among its variants, their values), for as long
//! as it is told, and forgets what an invalidation names. It speaks in bytes and data, never in closures or in types of a
//! protocol, so that one store serves them all. It is slower than memory and may fail; whoever calls it goes on without it.
//!
//! What every store promises, and what the contract suite (see `contract`) asks of each:
//!
//! 1. `fetch` gives back what `save` was given, byte for byte, or nothing. It never gives back another course's record.
//! 2. A record's time counts from the moment at which its run claimed, by the store's own clock: it is gone once its time to
//!    live is over, and says how old it is.
//! 3. When `invalidate` has returned `Ok`, no record that was saved before and is reached by the scope is fetched any
//!    more, by any instance; nor is one that is saved later by a run that claimed before. Hard and soft differ in what
//!    memory may still serve; a record is gone either way.
//! 4. Of two runs that claimed one after the other, the earlier one never replaces what the later one has saved.
//! 5. `forget` lets go of what is held for a course, but for what a run has saved that claimed later.
//! 6. An operation that was not carried out returns an error. None panics, whatever bytes come back.
//! 7. Of those who claim a course and want a lease one has it, until its `Since` is dropped, or it saves, or a run without
//!    one has saved, or an invalidation reaches its key, or it has not been heard of for some seconds. Those who find it taken
//!    are told when it is free again.
//! 8. Every cache that has joined hears of what the others invalidate; or its generation grows (see `Standing`).
//!
//! `record` is the form of what is saved, `tier` how a cache uses its store, `local` a store without a network.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;

use crate::{entry::Course, protocol::sealed::Sealed, scope::Force, scope::Scope, tags::Tags};

mod budget;
#[cfg(test)]
mod contract;
#[cfg(any(feature = "redis", all(test, cacheback_model)))]
pub(crate) mod gathering;
pub(crate) mod local;
mod record;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod standing;
pub(crate) mod tier;

pub(crate) use self::{budget::Budget, standing::Standing};

/// How long a request waits for a store, unless told otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// The remote tier behind the memory of a cache: what many instances share. Sealed: see
/// [`LocalStore`](crate::testing::LocalStore).
pub trait Store: Sealed + fmt::Debug + Send + Sync + 'static {
    /// Makes a cache one of those that share the store. As long as it is there it hears of what the others invalidate.
    #[doc(hidden)]
    fn join(&self, listener: Weak<dyn Listener>) -> Member;

    /// Tells this store from others in the process. Its clones are the same one.
    #[doc(hidden)]
    fn identity(&self) -> usize;

    /// Whether it can be asked, and whether all was heard that was to be heard.
    #[doc(hidden)]
    fn standing(&self) -> &Standing;

    /// How long one request waits for it, all that is asked for its sake taken together.
    #[doc(hidden)]
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// The record of a course.
    #[doc(hidden)]
    fn fetch<'a>(&'a self, course: &'a Course) -> BoxFuture<'a, Result<Option<Found>, StoreError>>;

    /// Begins a run for a course: from here on its `Since` counts. What the store holds by then is given back with it.
    #[doc(hidden)]
    fn claim<'a>(&'a self, course: &'a Course, lease: Leasing) -> BoxFuture<'a, Result<Claimed, StoreError>>;

    /// Keeps the record of a run, unless an invalidation or a run came between that the store knows to be later. A lease that
    /// the run has for this course ends with it; or that of another one, if it has none: nobody need wait any longer for who
    /// may hang.
    #[doc(hidden)]
    fn save<'a>(
        &'a self,
        course: &'a Course,
        record: Record,
        since: &'a Since,
    ) -> BoxFuture<'a, Result<Saved, StoreError>>;

    /// Forgets what is held for a course, unless a run has saved it that claimed later.
    #[doc(hidden)]
    fn forget<'a>(&'a self, course: &'a Course, since: &'a Since) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets what a scope reaches, and tells all caches that have joined, but for the one that asks for it.
    #[doc(hidden)]
    fn invalidate<'a>(
        &'a self,
        scope: &'a Scope,
        force: Force,
        by: &'a Member,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Gives back every lease that is held through it, of runs that go on too: the program is about to end.
    #[doc(hidden)]
    fn release(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A cache that shares a store, as the store sees it.
pub trait Listener: Send + Sync {
    /// Another one has invalidated this.
    #[doc(hidden)]
    fn invalidated(&self, scope: &Scope, force: Force);
}

/// One of the caches that share a store: what it sends bears this name, and it does not hear of that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member(pub(crate) u64);

/// A future behind a pointer: stores are chosen when the program runs.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a run wants to be the only one for its course among all instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leasing {
    /// It wants the lease, or to be told when another one has ended.
    Wanted,
    /// It runs in any case.
    Unwanted,
}

/// A run that was claimed.
pub struct Claimed {
    pub(crate) found: Option<Found>,
    pub(crate) since: Since,
    /// Another one has the lease that was wanted: ready when it has no longer.
    pub(crate) held: Option<BoxFuture<'static, Left>>,
}

/// How another one's lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its run has ended: what it has saved, if anything, is there.
    Ended,
    /// It was given back, or its run was invalidated; it has not been heard of for too long; or nothing can be heard of it any
    /// more. One of those who wait may have it.
    Lost,
}

/// What became of a record that was to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The store has it, or one of a later run.
    Kept,
    /// What it reports was invalidated while its run was under way.
    Voided,
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub(crate) bytes: Bytes,
    /// How long ago the run that has saved it claimed.
    pub(crate) age: Duration,
}

/// The moment at which a run began, as the store knows it, and its lease if it has one: that ends with the last of its
/// clones. Only the store that gave it can read it.
#[derive(Clone, Debug)]
pub struct Since(pub(crate) Arc<dyn Any + Send + Sync>);

/// What is saved.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) bytes: Bytes,
    pub(crate) tags: Tags,
    /// Counted from the claim.
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

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("found", &self.found)
            .field("is_held", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
