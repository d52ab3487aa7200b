//! A client's own conditions, evaluated against a stored response (RFC 9110 §13).
//!
//! Only `If-None-Match` and `If-Modified-Since` are a cache's to evaluate; `If-Match` and `If-Unmodified-Since` are the
//! origin's (RFC 9111 §4.3.2). Where a condition is in doubt the answer is the whole response: that costs one body,
//! while a wrong 304 leaves the client with a wrong one.

use std::iter;
use std::time::{Duration, SystemTime};

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{cache_control::http_date, partial::CONTENT_DIGEST};

/// The condition of a GET or HEAD, kept while its request is on its way.
///
/// One of two, never both: beside an `If-None-Match`, be it empty or malformed, an `If-Modified-Since` is ignored
/// (§13.1.3, §13.2.2).
#[derive(Clone, Debug)]
pub(crate) enum Conditions {
    /// The field lines, in order.
    IfNoneMatch(Vec<HeaderValue>),
    /// `None` for a field that is not exactly one date, and is therefore ignored (§13.1.3).
    IfModifiedSince(Option<SystemTime>),
}

impl Conditions {
    /// What the request asks for, and leaves there; `None` when it has neither field.
    pub(crate) fn take(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(IF_NONE_MATCH) {
            let lines = headers.get_all(IF_NONE_MATCH);
            return Some(Self::IfNoneMatch(lines.iter().cloned().collect()));
        }
        let mut lines = headers.get_all(IF_MODIFIED_SINCE).iter();
        match (lines.next()?, lines.next()) {
            (only, None) => Some(Self::IfModifiedSince(http_date(only))),
            _ => Some(Self::IfModifiedSince(None)),
        }
    }

    /// Whether the client has what `response` holds, so that a 304 will do.
    ///
    /// The caller makes sure that the method is GET or HEAD and that the response is a 200 (§13.2.1).
    pub(crate) fn not_modified(&self, response: &HeaderMap) -> bool {
        match self {
            Self::IfNoneMatch(lines) => any_will_do(lines) || lists_tag_of(lines, response),
            Self::IfModifiedSince(since) => match (modified(response), since) {
                (Some(modified), Some(since)) => modified <= *since,
                _ => false,
            },
        }
    }

    /// The same where the response is not stored: conditions are not a cache's to evaluate then (RFC 9111 §4.3.2). They
    /// were taken off all the same, so that a validator of the service's own that the client has is as good as its 304.
    pub(crate) fn not_modified_by_its_own_word(&self, response: &HeaderMap) -> bool {
        match self {
            Self::IfNoneMatch(lines) => lists_tag_of(lines, response),
            Self::IfModifiedSince(_) => response.contains_key(LAST_MODIFIED) && self.not_modified(response),
        }
    }
}

/// What the parts that a client has are of (§13.1.5); `None` where its field is not exactly one line.
#[derive(Clone, Debug)]
pub(crate) struct IfRange(Option<HeaderValue>);

impl IfRange {
    /// What the request says, and leaves there; `None` when it has no such field.
    pub(crate) fn take(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(IF_RANGE).iter();
        match (lines.next()?, lines.next()) {
            (only, None) => Some(Self(Some(only.clone()))),
            _ => Some(Self(None)),
        }
    }

    /// Whether they are of this `response`, to the byte: only what is strong tells that. In doubt they are not, and the
    /// client gets the whole.
    pub(crate) fn holds(&self, response: &HeaderMap) -> bool {
        let Some(said) = &self.0 else { return false };
        let text = said.as_bytes().trim_ascii();
        if text.iter().take(3).any(|byte| *byte == b'"') {
            let etag = response.get(ETAG).map(|etag| etag.as_bytes().trim_ascii());
            // Strong comparison (§8.8.3.2): the same bytes, neither of them marked weak.
            return etag == Some(text) && text.starts_with(b"\"") && is_tag(said);
        }
        let date = |name| response.get(name).and_then(http_date);
        match (http_date(said), date(LAST_MODIFIED), date(DATE)) {
            // §8.8.2.2: what was modified in the second in which it was sent may have been so again.
            (Some(said), Some(modified), Some(sent)) => {
                said == modified && sent.duration_since(modified).is_ok_and(|passed| passed >= Duration::from_secs(1))
            }
            _ => false,
        }
    }
}

/// Turns the head of a 200 into that of a 304 (§15.4.5).
///
/// A 304 carries no content and no trailers, so what describes them goes. `Last-Modified` goes only where an `ETag`
/// says it better. All else stays: what a 304 must repeat (`Cache-Control`, `Content-Location`, `Date`, `ETag`,
/// `Expires`, `Vary`), and what is not about the representation at all (`Age`, `Cache-Status`, `Set-Cookie`, …).
pub(crate) fn to_not_modified(parts: &mut Parts) {
    parts.status = StatusCode::NOT_MODIFIED;
    for field in [
        CONTENT_DIGEST,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        TRAILER,
        TRANSFER_ENCODING,
    ] {
        parts.headers.remove(field);
    }
    if parts.headers.contains_key(ETAG) {
        parts.headers.remove(LAST_MODIFIED);
    }
}

/// §13.1.2: `*` means any representation, but only as the whole value; in a list it is no entity-tag.
fn any_will_do(lines: &[HeaderValue]) -> bool {
    matches!(lines, [only] if only.as_bytes().trim_ascii() == b"*")
}

/// Weak comparison (§8.8.3.2): the opaque tags are the same bytes, whether or not either is marked weak.
///
/// Some who write entity tags forget the quotes, and some break the grammar in ways of their own. A tag without quotes is
/// what it would be in quotes; any other is what it is, if the client sends that back and nothing else.
fn lists_tag_of(lines: &[HeaderValue], response: &HeaderMap) -> bool {
    let Some(stored) = response.get(ETAG).map(|value| value.as_bytes().trim_ascii()) else { return false };
    match entity_tag(stored).or_else(|| bare_tag(stored)) {
        Some((stored, [])) => lines.iter().flat_map(|line| entity_tags(line.as_bytes())).any(|listed| listed == stored),
        // With a comma in it, it might be a list of others.
        _ if stored.is_empty() || stored.contains(&b',') => false,
        _ => matches!(lines, [only] if only.as_bytes().trim_ascii() == stored),
    }
}

/// Whether this is an entity-tag.
pub(crate) fn is_tag(value: &HeaderValue) -> bool {
    matches!(entity_tag(value.as_bytes().trim_ascii()), Some((_, [])))
}

/// Whether two entity-tags are the same in weak comparison (§8.8.3.2).
pub(crate) fn is_same_tag(one: &HeaderValue, other: &HeaderValue) -> bool {
    entity_tag(one.as_bytes().trim_ascii()) == entity_tag(other.as_bytes().trim_ascii())
}

/// RFC 9111 §4.3.2: where `Last-Modified` is absent, `Date` serves; where that is absent too, the time of reception,
/// which is the `Date` that a response without one is given when it is stored. A `Last-Modified` that is no date is
/// present all the same, and tells nothing.
fn modified(response: &HeaderMap) -> Option<SystemTime> {
    let stated = response.get(LAST_MODIFIED).or_else(|| response.get(DATE));
    stated.and_then(http_date)
}

/// The opaque tags of the well-formed members of one line.
///
/// A malformed member is skipped, unless it holds a quote: then nobody knows which of the quotes after it open and which
/// close, and the rest of the line is left unread.
fn entity_tags(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        loop {
            line = line.trim_ascii_start();
            if let Some((tag, rest)) = entity_tag(line).or_else(|| bare_tag(line))
                && let [] | [b',', ..] = rest.trim_ascii_start()
            {
                line = rest;
                return Some(tag);
            }
            // Here is an empty member, the comma behind one, or a malformed one.
            let next = line.iter().position(|byte| b"\",".contains(byte))?;
            line = line[next..].strip_prefix(b",")?;
        }
    })
}

/// Parts a text into the opaque tag that it begins with and what follows:
/// `entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE` (§8.8.3).
fn entity_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"W/").unwrap_or(text);
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|&byte| !is_etagc(byte))?;
    Some((&text[..end], text[end..].strip_prefix(b"\"")?))
}

/// An opaque tag that lacks its quotes: it ends where the list goes on. A lone star is none.
fn bare_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"W/").unwrap_or(text);
    let end = text.iter().position(|&byte| byte == b',' || !is_etagc(byte)).unwrap_or(text.len());
    let (tag, rest) = text.split_at(end);
    (!tag.is_empty() && tag != b"*").then_some((tag, rest))
}

/// Commas and backslashes are ordinary here: an opaque tag is no quoted string.
fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Response};
    use proptest::prelude::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn headers(fields: &[(HeaderName, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    fn none_match(lines: &[&[u8]], etag: &[u8]) -> bool {
        let fields: Vec<_> = lines.iter().map(|line| (IF_NONE_MATCH, *line)).collect();
        let conditions = Conditions::take(&headers(&fields)).unwrap();
        conditions.not_modified(&headers(&[(ETAG, etag)]))
    }

    fn modified_since(condition: &str, response: &[(HeaderName, &[u8])]) -> bool {
        let request = headers(&[(IF_MODIFIED_SINCE, condition.as_bytes())]);
        let conditions = Conditions::take(&request).unwrap();
        conditions.not_modified(&headers(response))
    }

    #[test]
    fn without_conditions_there_is_nothing_to_take() {
        assert!(Conditions::take(&headers(&[(ETAG, b"\"a\"")])).is_none());
    }

    #[test]
    fn rfc9110_8_8_3_2_entity_tags_are_compared_weakly_and_to_the_byte() {
        for (listed, stored, same) in [
            (r#""1""#, r#""1""#, true),
            (r#"W/"1""#, r#""1""#, true),
            (r#""1""#, r#"W/"1""#, true),
            (r#"W/"1""#, r#"W/"1""#, true),
            (r#"W/"1""#, r#"W/"2""#, false),
            (r#""a""#, r#""A""#, false),
            (r#""""#, r#""""#, true),
        ] {
            assert_eq!(none_match(&[listed.as_bytes()], stored.as_bytes()), same, "{listed} {stored}");
        }
    }

    #[test]
    fn rfc9110_13_1_2_any_tag_of_any_line_will_do() {
        let lines: &[&[u8]] = &[b", \"a\" ,, W/\"b\",", b"\"c,\\\",\t\"\xe9\""];
        for tag in ["\"a\"", "\"b\"", "\"c,\\\""] {
            assert!(none_match(lines, tag.as_bytes()), "{tag}");
        }
        assert!(none_match(lines, b"\"\xe9\""));
        assert!(!none_match(lines, b"\"c\""));
    }

    #[test]
    fn rfc9110_13_1_2_a_star_alone_matches_any_representation() {
        assert!(none_match(&[b" * "], b"\"a\"") && none_match(&[b"*"], b"garbage"));
        for lines in [&[&b"\"*\""[..]][..], &[b"*, *"], &[b"*", b"*"], &[b"**"]] {
            assert!(!none_match(lines, b"\"a\""), "{lines:?}");
        }
    }

    #[test]
    fn p46_garbage_matches_nothing_and_what_is_well_formed_beside_it_counts() {
        for line in ["", "\"a", "a\"", "w/\"a\"", "W/ \"a\"", "\"a\"b", "\"x\"\"a\"", "\"x, \"a\"", "'a'"] {
            assert!(!none_match(&[line.as_bytes()], b"\"a\""), "{line}");
        }
        for etag in [&b""[..], b"\"a\", \"a\"", b"\"a", b"a b"] {
            assert!(!none_match(&[b"\"a\"", etag], etag), "{}", etag.escape_ascii());
        }
        assert!(none_match(&[b"b, *, \"a\""], b"\"a\""));
        assert!(none_match(&[b"\"a\", \"b"], b"\"a\""));
        assert!(none_match(&[b"\"never closed", b"\"a\""], b"\"a\""));
    }

    #[test]
    fn p46_a_tag_without_its_quotes_is_what_it_would_be_in_them() {
        for (listed, stored, same) in [
            ("a", "\"a\"", true),
            ("\"a\"", "a", true),
            ("a", "a", true),
            ("b, W/a ,\"c\"", "\"a\"", true),
            ("a", "W/a", true),
            ("*, a", "*", false),
            ("\"*\"", "*", false),
            ("a", "ab", false),
            ("a, b", "a, b", false),
            ("a b", "\"a\"", false),
        ] {
            assert_eq!(none_match(&[listed.as_bytes()], stored.as_bytes()), same, "{listed} {stored}");
        }
    }

    #[test]
    fn p46_a_tag_that_breaks_the_grammar_is_known_when_it_comes_back_alone() {
        for etag in ["w/\"a\"", "W\\\"a\"", "W\"a\"", "'a b'", "\"a"] {
            assert!(none_match(&[etag.as_bytes()], etag.as_bytes()), "{etag}");
            assert!(!none_match(&[b"\"a\"", etag.as_bytes()], etag.as_bytes()), "{etag}");
            assert!(!none_match(&[b"\"a\""], etag.as_bytes()), "{etag}");
        }
    }

    #[test] // P47
    fn rfc9110_13_1_5_parts_are_of_the_same_representation_by_a_strong_tag_alone() {
        for (said, stored, same) in [
            ("\"a\"", "\"a\"", true),
            (" \"a\" ", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("\"a\"", "W/\"a\"", false),
            ("W/\"a\"", "\"a\"", false),
            ("\"a\", \"b\"", "\"a\"", false),
            ("\"a", "\"a", false),
            ("a", "a", false),
            ("*", "\"a\"", false),
            ("", "", false),
        ] {
            let if_range = IfRange::take(&headers(&[(IF_RANGE, said.as_bytes())])).unwrap();
            assert_eq!(if_range.holds(&headers(&[(ETAG, stored.as_bytes())])), same, "{said} {stored}");
        }
        let twice = headers(&[(IF_RANGE, b"\"a\""), (IF_RANGE, b"\"a\"")]);
        assert!(!IfRange::take(&twice).unwrap().holds(&headers(&[(ETAG, b"\"a\"")])));
        assert!(IfRange::take(&headers(&[(ETAG, b"\"a\"")])).is_none());
    }

    #[test] // P47
    fn rfc9110_8_8_2_2_a_date_tells_so_where_the_response_was_sent_a_second_later() {
        for (said, modified, sent, same) in [
            (EARLY, EARLY, LATER, true),
            ("Sunday, 06-Nov-94 08:49:36 GMT", EARLY, LATER, true),
            (EARLY, EARLY, EARLY, false),
            (LATER, EARLY, LATER, false),
            (EARLY, LATER, LATER, false),
            (EARLY, EARLY, "", false),
            ("now", "now", LATER, false),
        ] {
            let response = headers(&[(LAST_MODIFIED, modified.as_bytes()), (DATE, sent.as_bytes())]);
            let if_range = IfRange::take(&headers(&[(IF_RANGE, said.as_bytes())])).unwrap();
            assert_eq!(if_range.holds(&response), same, "{said} {modified} {sent}");
        }
        let if_range = IfRange::take(&headers(&[(IF_RANGE, EARLY.as_bytes())])).unwrap();
        assert!(!if_range.holds(&headers(&[(DATE, LATER.as_bytes())])), "a date of another kind is no validator");
    }

    #[test]
    fn rfc9110_13_1_3_what_was_last_modified_no_later_is_not_modified_since() {
        for (modified, fresh) in [(EARLY, true), (LATER, false), ("today", false)] {
            // The Date would allow it: it does not count beside a Last-Modified.
            let response = [(LAST_MODIFIED, modified.as_bytes()), (DATE, EARLY.as_bytes())];
            assert_eq!(modified_since(EARLY, &response), fresh, "{modified}");
        }
        assert!(modified_since(LATER, &[(LAST_MODIFIED, EARLY.as_bytes())]));
    }

    #[test]
    fn rfc9111_4_3_2_without_last_modified_the_date_decides() {
        assert!(modified_since(LATER, &[(DATE, LATER.as_bytes())]));
        assert!(!modified_since(EARLY, &[(DATE, LATER.as_bytes())]));
        assert!(!modified_since(LATER, &[]));
    }

    #[test]
    fn rfc9110_13_1_3_what_is_not_one_date_is_ignored() {
        let response = headers(&[(LAST_MODIFIED, EARLY.as_bytes())]);
        for condition in ["", "0", "now", "Sun, 06 Nov 1994 08:49:37 GMT; length=9"] {
            assert!(!modified_since(condition, &[(LAST_MODIFIED, EARLY.as_bytes())]));
        }
        let twice = headers(&[(IF_MODIFIED_SINCE, LATER.as_bytes()), (IF_MODIFIED_SINCE, LATER.as_bytes())]);
        assert!(!Conditions::take(&twice).unwrap().not_modified(&response));
    }

    #[test]
    fn rfc9110_13_2_2_if_none_match_puts_if_modified_since_out_of_force() {
        let response = headers(&[(ETAG, b"\"a\""), (LAST_MODIFIED, EARLY.as_bytes())]);
        for (tags, fresh) in [("\"a\"", true), ("\"b\"", false), ("", false)] {
            let request = [(IF_NONE_MATCH, tags.as_bytes()), (IF_MODIFIED_SINCE, LATER.as_bytes())];
            let conditions = Conditions::take(&headers(&request)).unwrap();
            assert_eq!(conditions.not_modified(&response), fresh, "{tags}");
        }
    }

    #[test]
    fn rfc9110_15_4_5_a_304_drops_what_describes_content_and_keeps_the_rest() {
        let kept = "age cache-control cache-status content-location date expires set-cookie vary x-own";
        let dropped = "content-digest content-encoding content-language content-length content-range content-type trailer transfer-encoding";
        let not_modified = |validators: &str| {
            let all = format!("{kept} {dropped} {validators}");
            let fields = all.split_whitespace().map(|name| (name.parse().unwrap(), "x".parse().unwrap()));
            let (mut parts, ()) = Response::new(()).into_parts();
            parts.headers = fields.collect();
            to_not_modified(&mut parts);
            assert_eq!(parts.status, StatusCode::NOT_MODIFIED);
            let mut names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(not_modified(""), kept);
        assert_eq!(not_modified("etag last-modified"), kept.replace("expires", "etag expires"));
        assert_eq!(not_modified("last-modified"), kept.replace("set-cookie", "last-modified set-cookie"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_match_only_a_tag_that_is_there(
            line in prop::collection::vec(prop_oneof![prop::sample::select(&b"aW/\"\\, *"[..]), any::<u8>()], 0..32)
        ) {
            let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
                let request = headers(&[(name, &line)]);
                let conditions = Conditions::take(&request).unwrap();
                let matched = conditions.not_modified(&headers(&[(ETAG, b"\"a\"")]));
                let there = line.split(|byte| b",\"/ \t".contains(byte)).any(|word| word == b"a");
                prop_assert!(!matched || there || line.trim_ascii() == b"*");
                conditions.not_modified(&headers(&[(ETAG, value.as_bytes()), (LAST_MODIFIED, &line)]));
            }
        }
    }
}
