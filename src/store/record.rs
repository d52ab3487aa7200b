//! The bytes of a record: what leaves the process, and what is believed of what comes back.
//!
//! A record says of which format it is, and holds a digest of all that follows. It names the key that it was saved under and
//! the type of its value. What differs in any of these, or is not exactly as long as it says, is no record: to its reader
//! nothing is stored. Nothing is allocated by a length that was not checked against what is there.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `cbk` and the version of the format |
//! | 16 | the first half of SHA-256 of all that follows |
//! | 4 + n | the key |
//! | 4 + n | the type of the value, as the codec has it |
//! | 8 each | in nanoseconds: the age when it was saved, lifetime, `stale-while-revalidate`, `stale-if-error`, how long it is kept to be validated, how long its run took |
//! | 1 | flags |
//! | 4, then 4 + n each | the tags |
//! | the rest | the value |

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    freshness::Freshness,
    key::{self, Key},
    scope::Tags,
};

/// The format that this version writes, and the only one that it reads.
const FORMAT: [u8; 4] = *b"cbk\x01";
const DIGEST: usize = 16;

/// All of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// How old the response was when it was saved.
    pub(crate) age: Duration,
    pub(crate) freshness: Freshness,
    /// How long its run took.
    pub(crate) cost: Duration,
    pub(crate) flags: u8,
    pub(crate) tags: Tags,
    pub(crate) value: Bytes,
}

impl Contents {
    /// Writes the record of a value of this type under a key.
    pub(crate) fn write(&self, key: &Key, kind: &str) -> Bytes {
        let mut body = Vec::with_capacity(64 + key.len() + kind.len() + self.value.len());
        part(&mut body, key::bytes(key));
        part(&mut body, kind.as_bytes());
        let [lifetime, stale_while_revalidate, stale_if_error, kept] = self.freshness.parts();
        for time in [self.age, lifetime, stale_while_revalidate, stale_if_error, kept, self.cost] {
            body.extend_from_slice(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        }
        body.push(self.flags);
        body.extend_from_slice(&length(self.tags.iter().count()).to_be_bytes());
        self.tags.iter().for_each(|tag| part(&mut body, tag.as_bytes()));
        body.extend_from_slice(&self.value);
        [&FORMAT[..], &digest(&body), &body].concat().into()
    }

    /// Reads the record of a value of this type under this key: `None` if it is none.
    pub(crate) fn read(bytes: &Bytes, key: &Key, kind: &str) -> Option<Self> {
        let (format, rest) = bytes.split_first_chunk()?;
        let (told, rest) = rest.split_first_chunk::<DIGEST>()?;
        if *format != FORMAT || *told != digest(rest) {
            return None;
        }
        let mut rest = Rest(rest);
        if rest.part()? != key::bytes(key) || rest.part()? != kind.as_bytes() {
            return None;
        }
        let age = rest.time()?;
        let freshness = Freshness::of_parts([rest.time()?, rest.time()?, rest.time()?, rest.time()?]);
        let (cost, flags) = (rest.time()?, rest.byte()?);
        let mut tags = Vec::new();
        for _ in 0..rest.number()? {
            tags.push(std::str::from_utf8(rest.part()?).ok()?);
        }
        let value = bytes.slice(bytes.len() - rest.0.len()..);
        Some(Self { age, freshness, cost, flags, tags: Tags::new(tags), value })
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn time(&mut self) -> Option<Duration> {
        match self.take().map(u64::from_be_bytes)? {
            u64::MAX => Some(Duration::MAX),
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }
}

fn part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&length(part.len()).to_be_bytes());
    out.extend_from_slice(part);
}

/// What is longer than this can say is not read back.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    let mut half = [0; DIGEST];
    half.copy_from_slice(&Sha256::digest(bytes)[..DIGEST]);
    half
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: &str = "a type";

    prop_compose! {
        fn contents()(
            times in any::<[u64; 6]>(), flags: u8, tags in prop::collection::vec("[a-z]{0,4}", 0..4), value: Vec<u8>,
        ) -> Contents {
            let [age, cost, freshness @ ..] = times.map(Duration::from_nanos);
            Contents { age, freshness: Freshness::of_parts(freshness), cost, flags, tags: Tags::new(tags), value: value.into() }
        }
    }

    proptest! {
        #[test] // P64
        fn what_is_written_is_read_back(contents in contents(), key: Vec<u8>) {
            let key = Key::from(key);
            prop_assert_eq!(Contents::read(&contents.write(&key, KIND), &key, KIND), Some(contents));
        }

        #[test] // P64, P76
        fn what_is_cut_changed_or_of_another_is_nothing(contents in contents(), at: prop::sample::Index, bit in 0..8_u8) {
            let key = Key::from("k");
            let whole = contents.write(&key, KIND);
            let at = at.index(whole.len());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(Contents::read(&flipped.into(), &key, KIND), None);
            prop_assert_eq!(Contents::read(&whole.slice(..at), &key, KIND), None);
            prop_assert_eq!(Contents::read(&[&whole[..], b"x"].concat().into(), &key, KIND), None);
            prop_assert_eq!(Contents::read(&whole, &Key::from("l"), KIND), None);
            prop_assert_eq!(Contents::read(&whole, &key, "another type"), None);
        }

        #[test] // P64
        fn whatever_has_the_right_digest_is_read_without_a_panic_and_without_room_for_what_it_claims(body: Vec<u8>) {
            let (key, mut sealed) = (Key::from("k"), Vec::new());
            part(&mut sealed, key::bytes(&key));
            part(&mut sealed, KIND.as_bytes());
            sealed.extend_from_slice(&[0; 49]);
            sealed.extend_from_slice(&u32::MAX.to_be_bytes());
            sealed.extend_from_slice(&body);
            let taken = allocation_counter::measure(|| {
                for body in [&sealed, &body] {
                    let bytes = [&FORMAT[..], &digest(body), body].concat().into();
                    assert_eq!(Contents::read(&bytes, &key, KIND), None);
                }
            });
            prop_assert!(taken.bytes_max < 64 << 10, "{} bytes", taken.bytes_max);
        }
    }

    #[test] // P64
    fn for_ever_stays_for_ever() {
        let freshness = Freshness::exact(Duration::MAX);
        let contents = Contents {
            age: Duration::ZERO,
            freshness,
            cost: Duration::ZERO,
            flags: 0,
            tags: Tags::default(),
            value: Bytes::new(),
        };
        let key = Key::from("k");
        assert_eq!(Contents::read(&contents.write(&key, KIND), &key, KIND), Some(contents));
    }
}
