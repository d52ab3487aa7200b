//! What `grpc-status` means to a cache.

use http::{HeaderMap, HeaderName};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Good,
    /// The service could not do its work: what is stored is better.
    Failure,
    /// The service says something of what was asked for: that there is none, that it cannot be so.
    Answer,
    /// It says something of the one who asks.
    Denied,
}

/// The meaning of the status among these fields; `None` if there is none.
pub(crate) fn meaning(fields: &HeaderMap) -> Option<Meaning> {
    let status = fields.get(GRPC_STATUS)?;
    let code = status.to_str().ok().and_then(|status| status.trim().parse().ok());
    // What is no code is `UNKNOWN`, for clients as well.
    Some(code.map_or(Meaning::Failure, of))
}

fn of(code: u32) -> Meaning {
    match code {
        0 => Meaning::Good,
        // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE
        3 | 5 | 6 | 9 | 11 => Meaning::Answer,
        // PERMISSION_DENIED, UNAUTHENTICATED
        7 | 16 => Meaning::Denied,
        _ => Meaning::Failure,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test] // P80
    fn what_is_no_code_is_a_failure() {
        for (status, expected) in [
            ("0", Meaning::Good),
            ("00", Meaning::Good),
            ("5", Meaning::Answer),
            ("16", Meaning::Denied),
            ("14", Meaning::Failure),
            ("17", Meaning::Failure),
            ("-1", Meaning::Failure),
            ("", Meaning::Failure),
            ("OK", Meaning::Failure),
        ] {
            let fields = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(status))]);
            assert_eq!(meaning(&fields), Some(expected), "{status:?}");
        }
        assert_eq!(meaning(&HeaderMap::new()), None);
    }
}
