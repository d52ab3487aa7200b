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
    let mut lines = fields.get_all(GRPC_STATUS).iter();
    let status = lines.next()?;
    // What is no code is `UNKNOWN`, for clients as well. They differ in which of two lines counts.
    let code = if lines.next().is_none() { code(status.as_bytes()) } else { None };
    Some(code.map_or(Meaning::Failure, of))
}

/// The code, in the one spelling that all clients read alike: `00` is `OK` for some and `UNKNOWN` for others.
fn code(status: &[u8]) -> Option<u8> {
    match status {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'6'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn of(code: u8) -> Meaning {
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
            ("5", Meaning::Answer),
            ("16", Meaning::Denied),
            ("14", Meaning::Failure),
            ("17", Meaning::Failure),
            ("-1", Meaning::Failure),
            ("", Meaning::Failure),
            ("OK", Meaning::Failure),
            ("00", Meaning::Failure),
            ("+0", Meaning::Failure),
            ("0 ", Meaning::Failure),
            ("05", Meaning::Failure),
        ] {
            let fields = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(status))]);
            assert_eq!(meaning(&fields), Some(expected), "{status:?}");
        }
        assert_eq!(meaning(&HeaderMap::new()), None);
    }

    #[test] // P80
    fn of_two_statuses_none_counts() {
        for lines in [["0", "14"], ["14", "0"], ["0", "0"]] {
            let mut fields = HeaderMap::new();
            lines.iter().for_each(|line| _ = fields.append(GRPC_STATUS, HeaderValue::from_static(line)));
            assert_eq!(meaning(&fields), Some(Meaning::Failure), "{lines:?}");
        }
    }
}
