//! What the status of a response means to a cache (RFC 9110 §15, RFC 9111 §3).

use http::StatusCode;

/// Whether the service could not do its work. Other client errors are answers; what lies beyond the classes of statuses
/// counts as a server error (RFC 9110 §15).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    status.as_u16() >= 500 || status == StatusCode::TOO_MANY_REQUESTS
}

/// The statuses that a layer's own lifetime applies to.
pub(crate) fn has_default_lifetime(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 301 | 308)
}

/// Whether a response may be stored though it says nothing of its lifetime (RFC 9110 §15.1). A part never is: 206 is
/// missing.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether a response is not stored though its fields say for how long: these tell one client what it did, or what stands
/// between it and the network (RFC 6585 §3 to §6).
pub(crate) fn is_never_stored(status: StatusCode) -> bool {
    matches!(status.as_u16(), 428 | 429 | 431 | 511)
}

/// Whether we know what the status means and do what its definition says of caching (RFC 9111 §5.2.2.3): those of RFC
/// 9110, but for parts of a response, answers to conditions and ranges, and the one about a connection.
pub(crate) fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 422 | 426 | 500..=505
    )
}
