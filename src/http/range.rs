//! Which bytes a `Range` asks for, of a body of a given length (RFC 9110 §14.1, §14.2).
//!
//! A few digits can ask for a great deal: a thousand parts, one inside the other. Parts that overlap, or that lie nearer
//! to one another than a part's own head is long, become one; and where there are too many the field is ignored. So an
//! answer is never longer than the whole and the head of one part more.

use http::{HeaderMap, header::RANGE};

use super::conditional::IfRange;

/// What a request has in `Range`, kept while it is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    /// `None` for what is ignored: another unit than bytes, what breaks the grammar, too many.
    specs: Option<Vec<Spec>>,
    if_range: Option<IfRange>,
}

/// One range, as it was asked for. Numbers beyond the largest of ours are as good as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From here up to there and including it, or to the end.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

/// A part of a body: its first byte and its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Whole,
    /// At least one, in the order in which they were asked for; no two overlap.
    Parts(Vec<Span>),
    /// None of it is there.
    Unsatisfiable,
}

/// How many ranges one request may ask for.
const MOST: usize = 32;

impl Ranges {
    /// What the request asks for, and leaves there; `None` where it has no `Range`.
    pub(crate) fn take(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(RANGE).iter();
        let specs = match (lines.next()?, lines.next()) {
            (only, None) => specs(only.as_bytes()),
            _ => None,
        };
        Some(Self { specs, if_range: IfRange::take(headers) })
    }

    /// Whether the request asks for nothing but its ranges, or they are of the response with these fields (§13.1.5).
    pub(crate) fn apply_to(&self, response: &HeaderMap) -> bool {
        self.if_range.as_ref().is_none_or(|if_range| if_range.holds(response))
    }

    /// Whether the client has other parts of the same representation, with its fields.
    pub(crate) fn continue_one(&self) -> bool {
        self.if_range.is_some()
    }

    /// Whether all of them begin before this byte, as far as that can be told without the body's length.
    pub(crate) fn begin_before(&self, byte: u64) -> bool {
        let begins = |spec: &Spec| !matches!(spec, Spec::From(first, _) if *first >= byte);
        self.specs.as_ref().is_some_and(|specs| specs.iter().all(begins))
    }

    /// What of a body of this length they select. Parts with less than `gap` bytes between them become one.
    pub(crate) fn of(&self, length: u64, gap: u64) -> Selected {
        let (Some(specs), Some(end)) = (&self.specs, length.checked_sub(1)) else { return Selected::Whole };
        let mut parts = Vec::new();
        for span in specs.iter().filter_map(|spec| spec.within(end)) {
            add(&mut parts, span, gap);
        }
        if parts.is_empty() { Selected::Unsatisfiable } else { Selected::Parts(parts) }
    }
}

impl Spec {
    /// `first-pos "-" [ last-pos ]` or `"-" suffix-length`.
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        match (first, last) {
            ([], length) => Some(Self::Last(number(length)?)),
            (first, []) => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The part of a body that ends with this byte.
    fn within(self, end: u64) -> Option<Span> {
        match self {
            Self::From(first, last) => (first <= end).then(|| Span { first, last: last.unwrap_or(end).min(end) }),
            Self::Last(0) => None,
            Self::Last(length) => Some(Span { first: end.saturating_sub(length - 1), last: end }),
        }
    }
}

impl Span {
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether they overlap, or have less than so many bytes between them.
    fn is_near(self, other: Self, gap: u64) -> bool {
        self.first <= other.last.saturating_add(gap) && other.first <= self.last.saturating_add(gap)
    }
}

/// Adds a part to others. What becomes one stays where the first of it was asked for.
fn add(parts: &mut Vec<Span>, mut span: Span, gap: u64) {
    let mut place = parts.len();
    while let Some(at) = parts.iter().rposition(|part| part.is_near(span, gap)) {
        let near = parts.remove(at);
        span = Span { first: near.first.min(span.first), last: near.last.max(span.last) };
        place = at;
    }
    parts.insert(place, span);
}

/// `bytes-unit "=" 1#( int-range / suffix-range )`. Nothing of it counts where one range is invalid (§14.1.1).
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    if !value[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for (count, member) in value[equals + 1..].split(|byte| *byte == b',').map(<[u8]>::trim_ascii).enumerate() {
        if count == MOST {
            return None;
        }
        // Empty members of a list count for nothing (§5.6.1.2).
        if !member.is_empty() {
            specs.push(Spec::parse(member)?);
        }
    }
    (!specs.is_empty()).then_some(specs)
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn ranges(value: &str) -> Ranges {
        Ranges { specs: specs(value.as_bytes()), if_range: None }
    }

    /// The parts that a field selects, without those that lie apart becoming one; none for the whole, and none for
    /// nothing.
    fn selected(value: &str, length: u64, gap: u64) -> Option<Vec<(u64, u64)>> {
        match ranges(value).of(length, gap) {
            Selected::Whole => None,
            Selected::Parts(parts) => Some(parts.iter().map(|span| (span.first, span.last)).collect()),
            Selected::Unsatisfiable => Some(Vec::new()),
        }
    }

    #[test] // P47
    fn rfc9110_14_1_2_a_range_names_its_first_and_last_byte_or_so_many_from_the_end() {
        for (value, parts) in [
            ("bytes=0-0", &[(0, 0)][..]),
            ("bytes=2-5", &[(2, 5)]),
            ("BYTES=2-5", &[(2, 5)]),
            ("bytes=007-8", &[(7, 8)]),
            ("bytes=2-", &[(2, 9)]),
            ("bytes=2-99999999999999999999999", &[(2, 9)]),
            ("bytes=-3", &[(7, 9)]),
            ("bytes=-10", &[(0, 9)]),
            ("bytes=-99999999999999999999999", &[(0, 9)]),
            ("bytes= 0-0 ,\t,9-9,", &[(0, 0), (9, 9)]),
            ("bytes=0-0,50-60", &[(0, 0)]),
            ("bytes=9-9,0-0", &[(9, 9), (0, 0)]),
            ("bytes=10-", &[]),
            ("bytes=10-20,-0", &[]),
            ("bytes=99999999999999999999999-", &[]),
        ] {
            assert_eq!(selected(value, 10, 0).as_deref(), Some(parts), "{value}");
        }
    }

    #[test] // P47
    fn rfc9110_14_2_what_is_not_understood_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-0,5-2",
            "bytes=0-0,x",
            "items=0-1",
            "bytes =0-1",
            " bytes=0-1",
            "bytes=0 - 1",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=0-0;1-1",
        ] {
            assert_eq!(selected(value, 10, 0), None, "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(RANGE, HeaderValue::from_static("bytes=0-0"));
        assert_eq!(Ranges::take(&twice).unwrap().of(10, 0), Selected::Parts(vec![Span { first: 0, last: 0 }]));
        twice.append(RANGE, HeaderValue::from_static("bytes=0-0"));
        assert_eq!(Ranges::take(&twice).unwrap().of(10, 0), Selected::Whole);
    }

    #[test] // P47
    fn rfc9110_14_2_of_a_body_without_content_there_are_no_parts() {
        for value in ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-6"] {
            assert_eq!(selected(value, 0, 0), None, "{value}");
        }
    }

    #[test] // P47
    fn rfc9110_15_3_7_2_parts_that_overlap_or_lie_near_one_another_become_one() {
        for (value, parts) in [
            ("bytes=0-9,5-19", &[(0, 19)][..]),
            ("bytes=0-9,10-19", &[(0, 19)]),
            ("bytes=0-9,19-29", &[(0, 29)]),
            ("bytes=0-9,20-29", &[(0, 9), (20, 29)]),
            ("bytes=20-29,0-9", &[(20, 29), (0, 9)]),
            ("bytes=19-29,0-9", &[(0, 29)]),
            // What lies between the two makes them one.
            ("bytes=60-69,0-9,30-39,12-25", &[(60, 69), (0, 39)]),
            ("bytes=0-9,90-99,30-39,12-25", &[(0, 39), (90, 99)]),
            ("bytes=0-,0-,0-,0-", &[(0, 99)]),
        ] {
            assert_eq!(selected(value, 100, 10).as_deref(), Some(parts), "{value}");
        }
    }

    #[test] // P47
    fn rfc9110_17_15_who_asks_for_too_many_parts_gets_the_whole() {
        let many = |count: u64| (0..count).map(|n| format!("{0}-{0}", n * 10)).collect::<Vec<_>>().join(",");
        assert_eq!(selected(&format!("bytes={}", many(32)), 1_000, 0).unwrap().len(), 32);
        assert_eq!(selected(&format!("bytes={}", many(33)), 1_000, 0), None);
        assert_eq!(selected(&format!("bytes=0-0{}", ",".repeat(40)), 1_000, 0), None);
    }

    #[test] // P47
    fn where_ranges_begin_is_told_without_the_length() {
        for (value, before) in [
            ("bytes=9-", true),
            ("bytes=10-", false),
            ("bytes=0-99", true),
            ("bytes=0-,10-", false),
            ("bytes=-99", true),
            ("items=0-1", false),
            ("bytes=x", false),
        ] {
            assert_eq!(ranges(value).begin_before(10), before, "{value}");
        }
    }

    proptest! {
        /// Byte by byte: a byte is sent if a range names it, or if it lies in too small a gap.
        #[test]
        fn the_parts_are_those_that_a_reader_of_the_rfc_would_count_out(
            asked in prop::collection::vec((0..3_u8, 0..50_u64, 0..50_u64), 1..6), length in 1..40_u64, gap in 0..8_u64
        ) {
            let text = asked.iter().map(|(kind, one, other)| match kind {
                0 => format!("{}-{}", one.min(other), one.max(other)),
                1 => format!("{one}-"),
                _ => format!("-{one}"),
            });
            let text = format!("bytes={}", text.collect::<Vec<_>>().join(", "));
            let named = |byte: u64| asked.iter().any(|(kind, one, other)| match kind {
                0 => (*one.min(other)..=*one.max(other)).contains(&byte),
                1 => byte >= *one,
                _ => byte + one >= length,
            });
            let wanted: Vec<u64> = (0..length).filter(|byte| named(*byte)).collect();
            let mut sent: Vec<u64> = wanted.clone();
            for pair in wanted.windows(2) {
                if pair[1] - pair[0] - 1 < gap {
                    sent.extend(pair[0] + 1..pair[1]);
                }
            }
            sent.sort_unstable();
            let parts = selected(&text, length, gap).unwrap();
            let mut got: Vec<u64> = parts.iter().flat_map(|(first, last)| *first..=*last).collect();
            got.sort_unstable();
            prop_assert_eq!(got, sent, "{}", text);
        }

        #[test]
        fn what_is_asked_for_is_never_much_more_than_the_whole(
            asked in prop::collection::vec((0..4_000_u64, 0..200_u64), 1..32), length in 1..4_000_u64, gap in 1..200_u64
        ) {
            let text: Vec<_> = asked.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let parts = selected(&format!("bytes={}", text.join(",")), length, gap).unwrap();
            let sent: u64 = parts.iter().map(|(first, last)| last - first + 1 + gap).sum();
            prop_assert!(sent <= length + gap, "{sent} of {length}: {text:?}");
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_select_what_is_there(
            value in prop::collection::vec(prop_oneof![prop::sample::select(&b"bytes=0123456789-,- "[..]), any::<u8>()], 0..48),
            length in prop_oneof![0..100_u64, Just(u64::MAX)], gap in prop_oneof![0..10_u64, Just(u64::MAX)]
        ) {
            for value in [value.clone(), [b"bytes=", &value[..]].concat()] {
                let Ok(line) = HeaderValue::from_bytes(&value) else { continue };
                let headers = HeaderMap::from_iter([(RANGE, line)]);
                let ranges = Ranges::take(&headers).unwrap();
                ranges.begin_before(length);
                if let Selected::Parts(parts) = ranges.of(length, gap) {
                    prop_assert!(parts.iter().all(|part| part.first <= part.last && part.last < length));
                }
            }
        }
    }
}
