//! The bytes of a record: what leaves the process, and what is believed of what comes back.
//!
//! A record says of which format it is, and holds a digest of all that follows. It names the key that it was saved under and
//! the type of its value. What differs in any of these, or is not exactly as long as it says, is no record: to its reader
//! nothing is stored. Nothing is allocated by a length that was not checked against what is there.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `cbk` and the version of the format |
//! | 16 | XXH3-128 of all that follows: against damage, not against enemies (the store may seal what it keeps) |
//! | 4 + n, 4 + n | the key, and the values of the fields that select the variant |
//! | 4 + n | the type of the value, as the codec has it |
//! | 1 | 0: this is a signpost, and what follows is the names of the fields that select among the key's variants |
//! | 8 each | in nanoseconds: the age when it was saved, lifetime, `stale-while-revalidate`, `stale-if-error`, how long it is kept to be validated, how long its run took |
//! | 1 | flags |
//! | 4, then 4 + n each | the tags; the names of the fields that select it; of those that it withholds |
//! | the rest | the value |

use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    entry::{Course, Fields},
    freshness::Freshness,
    key,
    tags::Tags,
};

/// The format that this version writes, and the only one that it reads.
const FORMAT: [u8; 4] = *b"cbk\x02";
const DIGEST: usize = 16;
/// Where what the digest is of begins.
const BODY: usize = FORMAT.len() + DIGEST;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// The values of these request fields tell under which course a response is to be looked for.
    Signpost(Fields),
    Response(Response),
}

/// A response, and all that is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// How old the response was when it was saved.
    pub(crate) age: Duration,
    pub(crate) freshness: Freshness,
    /// How long its run took.
    pub(crate) cost: Duration,
    pub(crate) flags: u8,
    pub(crate) tags: Tags,
    pub(crate) fields: Option<Fields>,
    pub(crate) withheld: Option<Fields>,
    pub(crate) value: Bytes,
}

impl Contents {
    /// Writes the record of a course, for a value of this type.
    pub(crate) fn write(&self, course: &Course, kind: &str) -> Bytes {
        let value = if let Self::Response(response) = self { response.value.len() } else { 0 };
        let mut out = Vec::with_capacity(256 + course.key.len() + value);
        out.extend_from_slice(&FORMAT);
        out.extend_from_slice(&[0; DIGEST]);
        head(&mut out, course, kind);
        match self {
            Self::Signpost(fields) => {
                out.push(0);
                list(&mut out, fields.iter().map(|name| &**name));
            }
            Self::Response(response) => response.write(&mut out),
        }
        let digest = digest(&out[BODY..]);
        out[FORMAT.len()..BODY].copy_from_slice(&digest);
        out.into()
    }

    /// Reads the record of a course, with a value of this type: `None` if it is none.
    pub(crate) fn read(bytes: &Bytes, course: &Course, kind: &str) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (format, told) = (rest.take()?, rest.take::<DIGEST>()?);
        if format != FORMAT || told != digest(rest.0) || !rest.is_of(course, kind)? {
            return None;
        }
        if rest.byte()? == 0 {
            let fields = rest.list()?;
            return rest
                .0
                .is_empty()
                .then(|| Self::Signpost(Fields::new(fields.into_iter().map(Into::into).collect())));
        }
        Some(Self::Response(Response::read(rest, bytes)?))
    }
}

impl Response {
    fn write(&self, body: &mut Vec<u8>) {
        body.push(1);
        let [lifetime, stale_while_revalidate, stale_if_error, kept] = self.freshness.parts();
        for time in [self.age, lifetime, stale_while_revalidate, stale_if_error, kept, self.cost] {
            body.extend_from_slice(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        }
        body.push(self.flags);
        list(body, self.tags.iter());
        for names in [&self.fields, &self.withheld] {
            body.push(names.is_some().into());
            list(body, names.iter().flat_map(|names| names.iter().map(|name| &**name)));
        }
        body.extend_from_slice(&self.value);
    }

    fn read(mut rest: Rest<'_>, whole: &Bytes) -> Option<Self> {
        let age = rest.time()?;
        let freshness = Freshness::of_parts([rest.time()?, rest.time()?, rest.time()?, rest.time()?]);
        let (cost, flags) = (rest.time()?, rest.byte()?);
        let tags = Tags::new(rest.list()?);
        let mut names = || {
            let is_some = rest.byte()? != 0;
            let names = rest.list()?;
            Some(is_some.then(|| Fields::new(names.into_iter().map(Into::into).collect())))
        };
        let (fields, withheld) = (names()?, names()?);
        let value = whole.slice(whole.len() - rest.0.len()..);
        Some(Self { age, freshness, cost, flags, tags, fields, withheld, value })
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
        // The greatest number is for ever, as `Freshness` has it too.
        self.take().map(u64::from_be_bytes).map(Duration::from_nanos)
    }

    fn list(&mut self) -> Option<Vec<&'a str>> {
        let mut texts = Vec::new();
        for _ in 0..self.number()? {
            texts.push(str::from_utf8(self.part()?).ok()?);
        }
        Some(texts)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    /// Whether this begins as `head` has it.
    fn is_of(&mut self, course: &Course, kind: &str) -> Option<bool> {
        let (key, has_variant, variant, its_kind) = (self.part()?, self.byte()?, self.part()?, self.part()?);
        let is_its_variant = has_variant == u8::from(course.variant.is_some()) && variant == course.values();
        Some(key == key::bytes(&course.key) && is_its_variant && its_kind == kind.as_bytes())
    }
}

/// What no other course has, and no other type of value. NOTE: `is_of` reads it.
fn head(out: &mut Vec<u8>, course: &Course, kind: &str) {
    part(out, key::bytes(&course.key));
    // Absent is not empty.
    out.push(course.variant.is_some().into());
    part(out, course.values());
    part(out, kind.as_bytes());
}

fn list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    let texts: Vec<_> = texts.collect();
    out.extend_from_slice(&length(texts.len()).to_be_bytes());
    texts.iter().for_each(|text| part(out, text.as_bytes()));
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
    xxh3_128(bytes).to_be_bytes()
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{entry::Variant, key::Key};

    const KIND: &str = "a type";

    fn course(key: impl Into<Key>, variant: Option<&[u8]>) -> Course {
        Course { key: key.into(), variant: variant.map(|values| Variant::new(values.into())) }
    }

    fn names() -> impl Strategy<Value = Option<Fields>> {
        let names = prop::collection::vec("[a-z]{0,4}".prop_map(Into::into), 0..4);
        prop::option::of(names.prop_map(|names: Vec<Box<str>>| Fields::new(names.into())))
    }

    fn signpost() -> impl Strategy<Value = Contents> {
        names().prop_map(|names| Contents::Signpost(names.unwrap_or_default()))
    }

    prop_compose! {
        fn response()(
            times in any::<[u64; 6]>(), flags: u8, tags in prop::collection::vec("[a-z]{0,4}", 0..4), value: Vec<u8>,
            fields in names(), withheld in names(),
        ) -> Contents {
            let [age, cost, freshness @ ..] = times.map(Duration::from_nanos);
            let (freshness, tags, value) = (Freshness::of_parts(freshness), Tags::new(tags), value.into());
            Contents::Response(Response { age, freshness, cost, flags, tags, fields, withheld, value })
        }
    }

    proptest! {
        #[test] // P64
        fn what_is_written_is_read_back(
            contents in prop_oneof![signpost(), response()], key: Vec<u8>, variant: Option<Vec<u8>>,
        ) {
            let course = course(key, variant.as_deref());
            prop_assert_eq!(Contents::read(&contents.write(&course, KIND), &course, KIND), Some(contents));
        }

        #[test] // P64, P76
        fn what_is_cut_changed_or_of_another_is_nothing(
            contents in prop_oneof![signpost(), response()], at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let own = course("k", Some(b"v"));
            let whole = contents.write(&own, KIND);
            let at = at.index(whole.len());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(Contents::read(&flipped.into(), &own, KIND), None);
            prop_assert_eq!(Contents::read(&whole.slice(..at), &own, KIND), None);
            prop_assert_eq!(Contents::read(&[&whole[..], b"x"].concat().into(), &own, KIND), None);
            for other in [course("l", Some(b"v")), course("k", None), course("k", Some(b"")), course("kv", Some(b""))] {
                prop_assert_eq!(Contents::read(&whole, &other, KIND), None);
            }
            prop_assert_eq!(Contents::read(&whole, &own, "another type"), None);
        }

        #[test] // P64
        fn whatever_has_the_right_digest_is_read_without_a_panic_and_without_room_for_what_it_claims(
            body: Vec<u8>, zeros in 0..80_usize,
        ) {
            let (own, mut sealed) = (course("k", None), Vec::new());
            head(&mut sealed, &own, KIND);
            sealed.push(1);
            sealed.extend(std::iter::repeat_n(0, zeros));
            sealed.extend_from_slice(&u32::MAX.to_be_bytes());
            sealed.extend_from_slice(&body);
            let taken = allocation_counter::measure(|| {
                for body in [&sealed, &body] {
                    let bytes = [&FORMAT[..], &digest(body), body].concat().into();
                    drop(Contents::read(&bytes, &own, KIND));
                }
            });
            prop_assert!(taken.bytes_max < 64 << 10, "{} bytes", taken.bytes_max);
        }
    }

    fn eternal(value: Vec<u8>) -> Contents {
        Contents::Response(Response {
            age: Duration::ZERO,
            freshness: Freshness::exact(Duration::MAX),
            cost: Duration::ZERO,
            flags: 0,
            tags: Tags::default(),
            fields: None,
            withheld: None,
            value: value.into(),
        })
    }

    #[test] // P64
    fn for_ever_stays_for_ever() {
        let (contents, course) = (eternal(Vec::new()), course("k", None));
        assert_eq!(Contents::read(&contents.write(&course, KIND), &course, KIND), Some(contents));
    }

    #[test]
    fn a_value_is_written_once_and_read_without_a_copy() {
        let (contents, course) = (eternal(vec![7; 1 << 20]), course("k", None));
        let mut bytes = Bytes::new();
        let written = allocation_counter::measure(|| bytes = contents.write(&course, KIND));
        assert!(written.bytes_total < (1 << 20) + 1_024, "{} bytes", written.bytes_total);
        let read = allocation_counter::measure(|| drop(Contents::read(&bytes, &course, KIND)));
        assert!(read.bytes_total < 256, "{} bytes", read.bytes_total);
    }
}
