//! The proof that nothing which covers a record was invalidated: a digest of tokens, and of whose lives they come from.

use sha2::{Digest, Sha256};

use super::servers::Era;

/// What a token holds. Absent is no value.
pub(super) type Value = [u8; 8];

/// A token as it was found, and the life of the server that it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) era: Era,
    pub(super) value: Value,
}

/// Two are the same if they were made of the same tokens, from the same lives of the same servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof(pub(super) [u8; Self::LENGTH]);

impl Proof {
    pub(super) const LENGTH: usize = 16;

    /// Of a record on a server in this life, and of the tokens that cover it, in their order.
    pub(super) fn of(era: Era, tokens: &[Observed]) -> Self {
        let mut digest = Sha256::new_with_prefix(era);
        for Observed { era, value } in tokens {
            digest.update(era);
            digest.update(value);
        }
        let digest = digest.finalize();
        Self(std::array::from_fn(|at| digest[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P71
    fn another_life_another_token_or_another_order_is_another_proof() {
        let observed = |era, value| Observed { era: [era; 16], value: [value; 8] };
        let (one, other) = (observed(1, 1), observed(1, 2));
        let proof = Proof::of([1; 16], &[one, other]);
        assert_eq!(proof, Proof::of([1; 16], &[one, other]));
        for different in [
            Proof::of([2; 16], &[one, other]),
            Proof::of([1; 16], &[other, one]),
            Proof::of([1; 16], &[one]),
            Proof::of([1; 16], &[one, observed(1, 3)]),
            Proof::of([1; 16], &[one, observed(2, 2)]),
        ] {
            assert_ne!(proof, different);
        }
    }
}
