//! The bytes around a record in Redis: when its run claimed, and what proves that it still counts.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `cbr` and the version of the format |
//! | 8 | when the run claimed, by the clock of the record's server: microseconds since 1970. NOTE: `scripts` reads it there |
//! | 1 | 1 if it is sealed, 0 if it is not |
//! | 16 | the proof of the tokens that cover its key |
//! | 4, then 4 + n each, 16 | its tags, and the proof of the tokens that cover these |
//! | the rest | the record |
//! | 32 | where it is sealed: HMAC-SHA256 of the name that it is kept under and of all the bytes before |
//!
//! Whatever differs from that, or is sealed otherwise than the reader seals, is nothing. Nothing is allocated by a
//! length that was not checked against what is there, and the record is a part of the answer, not a copy.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::proof::Proof;
use crate::tags::Tags;

/// The format that this version writes, and the only one that it reads.
pub(super) const FORMAT: [u8; 4] = *b"cbr\x01";
/// How many tags a record may have at most: a reader asks for the tokens of each.
pub(super) const MOST_TAGS: usize = 1_024;
/// How long a seal is.
const SEAL: usize = 32;

/// A record, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// In microseconds since 1970.
    pub(super) claimed: u64,
    pub(super) proof: Proof,
    pub(super) tags: Tags,
    pub(super) proof_of_tags: Proof,
    pub(super) record: Bytes,
}

/// All of an envelope that comes before the record: two that have the same were kept by one run under the same tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    bytes: Box<[u8]>,
    claimed: u64,
}

/// Marks what was written by those who know a secret; or nothing, where there is none.
#[derive(Clone, Default)]
pub(super) struct Seal(Option<Hmac<Sha256>>);

impl Envelope {
    /// The bytes that are kept under a name.
    pub(super) fn write(&self, name: &[u8], seal: &Seal) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + self.tags.weight() + self.record.len());
        bytes.extend_from_slice(&FORMAT);
        bytes.extend_from_slice(&self.claimed.to_be_bytes());
        bytes.push(seal.0.is_some().into());
        bytes.extend_from_slice(&self.proof.0);
        bytes.extend_from_slice(&length(self.tags.iter().count()));
        for tag in self.tags.iter() {
            bytes.extend_from_slice(&length(tag.len()));
            bytes.extend_from_slice(tag.as_bytes());
        }
        bytes.extend_from_slice(&self.proof_of_tags.0);
        bytes.extend_from_slice(&self.record);
        if let Some(mac) = seal.of(name, &bytes) {
            bytes.extend_from_slice(&mac.finalize().into_bytes());
        }
        bytes
    }

    /// Reads what was found under a name: `None` if it is nothing that was written for it by those who may.
    pub(super) fn read(bytes: &Bytes, name: &[u8], seal: &Seal) -> Option<Self> {
        let mut rest = Rest(seal.opened(name, bytes)?);
        let (FORMAT, claimed, [is_sealed]) = (rest.take()?, rest.take()?, rest.take()?) else { return None };
        if is_sealed != u8::from(seal.0.is_some()) {
            return None;
        }
        let (proof, tags, proof_of_tags) = (Proof(rest.take()?), rest.tags()?, Proof(rest.take()?));
        let record = bytes.slice_ref(rest.0);
        Some(Self { claimed: u64::from_be_bytes(claimed), proof, tags, proof_of_tags, record })
    }

    /// What comes before the record in the bytes that this was read from.
    pub(super) fn head(&self, bytes: &Bytes, seal: &Seal) -> Head {
        let after = self.record.len() + if seal.0.is_some() { SEAL } else { 0 };
        Head { bytes: bytes[..bytes.len().saturating_sub(after)].into(), claimed: self.claimed }
    }

    /// The record that was found under a name, if it was written for it by those who may, and with this head.
    pub(super) fn rest(bytes: &Bytes, name: &[u8], seal: &Seal, head: &Head) -> Option<Bytes> {
        let record = seal.opened(name, bytes)?.strip_prefix(&*head.bytes)?;
        Some(bytes.slice_ref(record))
    }
}

impl Head {
    /// When the run claimed: in microseconds since 1970.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Seal {
    /// Of those who know this secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self(Some(mac))
    }

    fn of(&self, name: &[u8], bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = self.0.clone()?;
        // The length, so that nothing passes from the name to what is kept under it.
        mac.update(&length(name.len()));
        mac.update(name);
        mac.update(bytes);
        Some(mac)
    }

    /// What was sealed.
    fn opened<'a>(&self, name: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.0.is_none() {
            return Some(bytes);
        }
        let (sealed, seal) = bytes.split_last_chunk::<SEAL>()?;
        // In a time that tells nothing of the right one.
        self.of(name, sealed)?.verify_slice(seal).ok().map(|()| sealed)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Seal(secret)" } else { "Seal(none)" })
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.take()?)).ok()
    }

    fn tags(&mut self) -> Option<Tags> {
        let count = self.length().filter(|count| *count <= MOST_TAGS)?;
        let mut tags = Vec::new();
        for _ in 0..count {
            let length = self.length()?;
            let (tag, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            tags.push(str::from_utf8(tag).ok()?);
        }
        Some(Tags::new(tags))
    }
}

/// What is longer than this can say is not read back.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &[u8] = b"cacheback:{k}:r";

    prop_compose! {
        fn envelope()(
            claimed: u64, proof: [u8; 16], proof_of_tags: [u8; 16], tags in prop::collection::vec("[a-z]{0,4}", 0..4),
            record: Vec<u8>,
        ) -> Envelope {
            let (proof, proof_of_tags) = (Proof(proof), Proof(proof_of_tags));
            Envelope { claimed, proof, tags: Tags::new(tags), proof_of_tags, record: record.into() }
        }
    }

    fn seals() -> [Seal; 2] {
        [Seal::default(), Seal::new(b"secret")]
    }

    proptest! {
        #[test] // P64
        fn what_is_written_is_read_back_without_a_copy(envelope in envelope()) {
            for seal in seals() {
                let bytes = Bytes::from(envelope.write(NAME, &seal));
                let read = Envelope::read(&bytes, NAME, &seal).unwrap();
                prop_assert!(read.record.is_empty() || bytes.as_ptr_range().contains(&read.record.as_ptr()));
                prop_assert_eq!(&read, &envelope);
            }
        }

        #[test] // P64, P76
        fn what_is_sealed_is_read_under_its_name_with_its_secret_unchanged_and_not_otherwise(
            envelope in envelope(), at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let [open, seal] = seals();
            let whole = Bytes::from(envelope.write(NAME, &seal));
            let at = at.index(whole.len());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(Envelope::read(&flipped.into(), NAME, &seal), None);
            prop_assert_eq!(Envelope::read(&whole.slice(..at), NAME, &seal), None);
            prop_assert_eq!(Envelope::read(&[&whole[..], b"x"].concat().into(), NAME, &seal), None);
            for other in [&b"cacheback:{l}:r"[..], b"cacheback:{k}:r:v"] {
                prop_assert_eq!(Envelope::read(&whole, other, &seal), None);
            }
            prop_assert_eq!(Envelope::read(&whole, NAME, &Seal::new(b"another")), None);
            prop_assert_eq!(Envelope::read(&whole, NAME, &open), None);
            prop_assert_eq!(Envelope::read(&envelope.write(NAME, &open).into(), NAME, &seal), None);
        }

        #[test] // P64, P76
        fn what_is_of_another_version_or_has_lost_its_head_is_nothing(envelope in envelope(), version: u8, at in 0..45_usize) {
            let [open, _] = seals();
            let whole = envelope.write(NAME, &open);
            let mut other = whole.clone();
            other[3] = version;
            prop_assert_eq!(Envelope::read(&other.into(), NAME, &open).is_some(), version == FORMAT[3]);
            let head = Bytes::from(whole).slice(..at);
            prop_assert_eq!(Envelope::read(&head, NAME, &open), None);
        }

        #[test] // P64
        fn whatever_comes_is_read_without_a_panic_and_without_room_for_what_it_claims(
            random: Vec<u8>, count in prop_oneof![Just(u32::MAX), 0..4_u32], length: u32,
        ) {
            let mut claiming = FORMAT.to_vec();
            claiming.extend([0; 25]);
            claiming.extend(count.to_be_bytes());
            claiming.extend(length.to_be_bytes());
            claiming.extend(&random);
            for seal in seals() {
                let mut sealed = claiming.clone();
                sealed[12] = seal.0.is_some().into();
                sealed.extend(seal.of(NAME, &sealed).map(|mac| mac.finalize().into_bytes()).into_iter().flatten());
                let all = [Bytes::from(sealed), random.clone().into()];
                let taken = allocation_counter::measure(|| {
                    for bytes in &all {
                        drop(Envelope::read(bytes, NAME, &seal));
                    }
                });
                prop_assert!(taken.bytes_max < 64 << 10, "{} bytes", taken.bytes_max);
            }
        }
    }

    #[test] // P64
    fn more_tags_than_anybody_asks_for_are_none() {
        let tags = |count| Tags::new(vec![""; count]);
        let envelope = |count| Envelope {
            claimed: 0,
            proof: Proof([0; 16]),
            tags: tags(count),
            proof_of_tags: Proof([0; 16]),
            record: Bytes::new(),
        };
        let is_read = |count| {
            let bytes = envelope(count).write(NAME, &Seal::default()).into();
            Envelope::read(&bytes, NAME, &Seal::default()).is_some()
        };
        assert!(is_read(MOST_TAGS) && !is_read(MOST_TAGS + 1));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Seal::new(b"secret")), "Seal(secret)");
    }
}
