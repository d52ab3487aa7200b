//! Which fields end at a proxy, and which it writes otherwise (RFC 9110 §7.6).

use http::{HeaderMap, HeaderName, HeaderValue, header};

static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes off what was meant for this hop alone: what `Connection` names, and what ends here whether it is named or not.
///
/// `Trailer` stays, for trailers are passed on.
pub(crate) fn end_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Naming it does not make a message one without a host, or of another length.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        fields.remove(name);
    }
    for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        fields.remove(name);
    }
    fields.remove("keep-alive");
    fields.remove(&PROXY_CONNECTION);
}

/// Makes one line of several `Cookie` lines, which clients of HTTP/2 may write and others do not know (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(fields: &mut HeaderMap) {
    let lines: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() < 2 {
        return;
    }
    // Of what is sound in its parts the whole is sound.
    if let Ok(whole) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        fields.insert(header::COOKIE, whole);
    }
}

/// Whether hyper has taken off all transfer codings of a message: it knows `chunked` alone.
pub(crate) fn is_plain(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}
