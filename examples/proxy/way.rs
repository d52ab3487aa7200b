//! By which way a request came, for whom, and whether it was here before (RFC 9110 §7.6.3).

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The name of one proxy in `Via`. No other one has it, so that several may stand one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    name: Arc<str>,
}

impl Way {
    pub(crate) fn new() -> Self {
        Self { name: format!("cacheback-{:016x}", fastrand::u64(..)).into() }
    }

    /// Whether a request with these fields was here before.
    pub(crate) fn is_loop(&self, fields: &HeaderMap) -> bool {
        let lines = fields.get_all(header::VIA).iter();
        let mut hops = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        // The protocol, who received it, and perhaps a comment.
        hops.any(|hop| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
        })
    }

    /// Says that a request of this version came by here: in `Via`, and for whom in `X-Forwarded-For`.
    ///
    /// `Forwarded` and `X-Forwarded-Host` are not written: the host goes on as it is, and both are part of a stored
    /// response's key, by which clients would be kept apart.
    pub(crate) fn add(&self, fields: &mut HeaderMap, version: Version, client: IpAddr) {
        let version = match version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        if let Ok(via) = HeaderValue::try_from(format!("{version} {}", self.name)) {
            fields.append(header::VIA, via);
        }
        if let Ok(client) = HeaderValue::try_from(client.to_string()) {
            fields.append(&FORWARDED_FOR, client);
        }
    }
}
