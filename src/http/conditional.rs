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
mod tests;
