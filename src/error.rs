//! What an operation on the cache can fail with. A request never fails because of the cache.

use std::fmt;

/// An operation on a [`Cache`](crate::Cache) failed.
///
/// Match on [`Error::kind`]; the message is for people and may change.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was to be invalidated cannot name anything that is stored, so nothing was done.
    Scope,
    /// A response was to be stored that the rules forbid to be stored, so nothing was done.
    Refused,
    /// The shared store did not confirm. What is in this process was invalidated all the same. Without a store nothing
    /// fails with this.
    Store,
}

impl Error {
    pub(crate) fn scope(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Scope, message: message.into() }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Refused, message: message.into() }
    }

    pub(crate) fn store(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Store, message: message.into() }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
