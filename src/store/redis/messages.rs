//! What caches tell one another over the channel: what was invalidated, and that a run has ended for which others wait.
//!
//! A message is the version of the format, the name of the cache that sends it and 8 random bytes, a kind, and a scope
//! or the name of a lease. No two messages are the same, so that one which is heard again is an echo.

use super::random::random;
use crate::{
    scope::Force,
    scope::{Scope, wire},
    store::{Left, Member},
};

/// The format that this version writes, and the only one that it reads.
const FORMAT: u8 = 1;
const EXPIRED: u8 = 0;
const PURGED: u8 = 1;
const ENDED: u8 = 2;
const LOST: u8 = 3;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Invalidated {
        by: Member,
        scope: Scope,
        force: Force,
    },
    /// The lease of this name was given back.
    Left(Vec<u8>, Left),
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (Member(by), kind, rest) = match self {
            Self::Invalidated { by, scope, force: Force::Expire } => (*by, EXPIRED, wire::encode(scope)),
            Self::Invalidated { by, scope, force: Force::Purge } => (*by, PURGED, wire::encode(scope)),
            // It is told to everybody: who waits may be another cache of the same instance.
            Self::Left(lease, Left::Ended) => (Member(0), ENDED, lease.clone()),
            Self::Left(lease, Left::Lost) => (Member(0), LOST, lease.clone()),
        };
        [&[FORMAT], &by.to_be_bytes()[..], &random(), &[kind], &rest].concat()
    }

    /// Reads a message. `None` if nobody can tell what it says: it may have been anything.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (FORMAT, rest) = bytes.split_first().map(|(format, rest)| (*format, rest))? else { return None };
        let (by, rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<8>()?;
        let by = Member(u64::from_be_bytes(*by));
        match rest.split_first()? {
            (&EXPIRED, scope) => Some(Self::Invalidated { by, scope: wire::decode(scope)?, force: Force::Expire }),
            (&PURGED, scope) => Some(Self::Invalidated { by, scope: wire::decode(scope)?, force: Force::Purge }),
            (&ENDED, lease) => Some(Self::Left(lease.to_vec(), Left::Ended)),
            (&LOST, lease) => Some(Self::Left(lease.to_vec(), Left::Lost)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test] // P72
        fn what_is_said_is_heard(by: u64, scope in wire::tests::scope(), lease: Vec<u8>) {
            for force in [Force::Expire, Force::Purge] {
                let message = Message::Invalidated { by: Member(by), scope: scope.clone(), force };
                prop_assert_eq!(Message::decode(&message.encode()), Some(message));
            }
            for left in [Left::Ended, Left::Lost] {
                let message = Message::Left(lease.clone(), left);
                prop_assert_ne!(message.encode(), message.encode());
                prop_assert_eq!(Message::decode(&message.encode()), Some(message));
            }
        }

        #[test] // P64, P76
        fn what_nobody_understands_is_no_message(bytes: Vec<u8>, scope in wire::tests::scope(), at: prop::sample::Index) {
            _ = Message::decode(&bytes);
            let mut whole = Message::Invalidated { by: Member(7), scope, force: Force::Purge }.encode();
            prop_assert_eq!(Message::decode(&whole[..at.index(whole.len())]), None);
            whole[0] += 1;
            prop_assert_eq!(Message::decode(&whole), None);
        }
    }
}
