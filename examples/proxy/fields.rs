//! Which fields end at a proxy, and which it adds (RFC 9110 §7.6).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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

/// Says of a request by which way it came: in `Via` (§7.6.3), and for whom in `X-Forwarded-For`.
///
/// `Forwarded` and `X-Forwarded-Host` are not written: the host goes on as it is, and both are part of a stored
/// response's key, by which clients would be kept apart.
pub(crate) fn add_way(fields: &mut HeaderMap, version: Version, client: IpAddr) {
    let via = match version {
        Version::HTTP_2 => "2 cacheback",
        Version::HTTP_10 => "1.0 cacheback",
        _ => "1.1 cacheback",
    };
    fields.append(header::VIA, HeaderValue::from_static(via));
    if let Ok(client) = HeaderValue::try_from(client.to_string()) {
        fields.append(&FORWARDED_FOR, client);
    }
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
