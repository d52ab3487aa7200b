//! Eight bytes that nobody else has drawn, in any process.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Numbers hashed with a key that the operating system drew for this process: no clock and no counter of ours decides
/// whether two of them are the same.
pub(super) fn random() -> [u8; 8] {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    KEY.hash_one(DRAWN.fetch_add(1, Relaxed)).to_be_bytes()
}
