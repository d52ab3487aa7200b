//! The remote tier: what many instances share, and what is promised of it.
//!
//! A store holds records under keys, for as long as it is told, and forgets what an invalidation names. It speaks in
//! bytes and data, never in closures or in types of a protocol, so that one store serves them all. It is slower than
//! memory and may fail; whoever calls it goes on without it.
//!
//! What every store promises, and what the contract suite (see `contract`) asks of each:
//!
//! 1. `load` gives back what `save` was given, byte for byte, or nothing. It never gives back another key's record.
//! 2. A record is gone once its time to live is over.
//! 3. When `invalidate` has returned `Ok`, no record that was saved before and is reached by the scope is loaded any
//!    more, by any instance. Hard and soft differ in what memory may still serve; a record is gone either way.
//! 4. An operation that was not carried out returns an error. None panics, whatever bytes come back.
//!
//! A [`Cache`](crate::Cache) tells its store of every invalidation. Records are loaded and saved by runs once there is a
//! format for them; until then the contract is kept by a scripted fake, and nothing of it is public.

#![cfg_attr(not(test), expect(dead_code, reason = "no store is built without a format for its records"))]

use std::{fmt, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::{
    key::Key,
    scope::{Scope, Tags},
};

/// The remote tier behind the memory of a [`Cache`](crate::Cache).
pub(crate) trait Store: fmt::Debug + Send + Sync + 'static {
    /// The record under a key.
    fn load<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Puts a record under a key.
    fn save<'a>(&'a self, key: &'a Key, record: Record) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets what a scope reaches.
    fn invalidate<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A future behind a pointer: stores are chosen when the program runs.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is saved.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) bytes: Bytes,
    pub(crate) tags: Tags,
    pub(crate) time_to_live: Duration,
}

/// Why a store did not do as it was told, in words for telemetry.
#[derive(Debug)]
pub(crate) struct StoreError(pub(crate) String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod fake;
