//! Which fields of a response are not stored with it (RFC 9111 §3.1): what ends at this hop, what this cache writes itself,
//! and what speaks of one exchange.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{self, AGE},
};

use crate::{
    entry::Fields,
    http::{policy::Mode, rules::connection_options, stored::CACHE_STATUS, targeted::OWN},
};

/// The fields of one layer that are not stored, beside those that no cache stores.
#[derive(Clone, Debug)]
pub(crate) struct Unstored {
    names: Arc<[HeaderName]>,
    /// How these names begin, and those that count because they begin like them: a bit for each letter. What begins in
    /// another way is none of them.
    initials: u32,
    /// Whether names count that begin like those of such fields.
    families: bool,
    /// Whether the field that is targeted at this cache is read here, and therefore ends here.
    pub(crate) own: bool,
}

/// The fields of one response that are not stored.
#[derive(Debug)]
pub(crate) struct Omitted {
    of_the_layer: Unstored,
    /// What `Connection` names.
    of_the_hop: Vec<HeaderName>,
    /// What `no-cache` and `private` name.
    withheld: Option<Fields>,
}

/// What no cache stores, or writes itself. Nor is `Proxy-` anything.
fn is_stored_by_none(name: &HeaderName) -> bool {
    match *name {
        AGE
        | CACHE_STATUS
        | header::CONNECTION
        | header::CONTENT_LENGTH
        | header::TE
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => name.as_str() == "keep-alive" || name.as_str().starts_with("proxy-"),
    }
}

/// What speaks of one exchange, and of no other.
static OF_ONE_EXCHANGE: [HeaderName; 14] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("x-amzn-trace-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("traceresponse"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("x-runtime"),
    HeaderName::from_static("x-response-time"),
];

/// Families of such fields, by how their names begin.
const FAMILIES: &[&str] = &["ratelimit", "x-ratelimit-", "x-rate-limit-"];

impl Unstored {
    /// In protocol mode all that RFC 9111 lets a cache store is stored.
    pub(crate) fn new(mode: Mode) -> Self {
        let (names, families): (Arc<[HeaderName]>, _) = match mode {
            Mode::Application => (Arc::new(OF_ONE_EXCHANGE.clone()), true),
            Mode::Protocol => (Arc::new([]), false),
        };
        Self { initials: initials(&names, families), names, families, own: true }
    }

    /// Names the fields of one exchange anew.
    pub(crate) fn name(&mut self, names: Vec<HeaderName>) {
        self.initials = initials(&names, self.families);
        self.names = names.into();
    }

    /// Whether a field speaks of one exchange, and is for the one whose exchange it is.
    pub(crate) fn is_of_one_exchange(&self, name: &HeaderName) -> bool {
        self.initials & initial(name.as_str()) != 0
            && (self.names.contains(name)
                || self.families && FAMILIES.iter().any(|family| name.as_str().starts_with(family)))
    }

    /// Those of one response.
    pub(crate) fn of(&self, response: &HeaderMap, withheld: Option<&Fields>) -> Omitted {
        let of_the_hop = connection_options(response).collect();
        Omitted { of_the_layer: self.clone(), of_the_hop, withheld: withheld.cloned() }
    }

    fn keeps(&self, name: &HeaderName) -> bool {
        !(is_stored_by_none(name) || self.own && *name == OWN || self.is_of_one_exchange(name))
    }
}

impl Omitted {
    /// Whether a field is stored.
    pub(crate) fn keeps(&self, name: &HeaderName) -> bool {
        !self.of_the_hop.contains(name) && !is_among(self.withheld.as_ref(), name) && self.of_the_layer.keeps(name)
    }

    /// Whether the field that is targeted at this cache is read here.
    pub(crate) fn reads_own(&self) -> bool {
        self.of_the_layer.own
    }

    /// Whether a trailer field is stored. A cookie never is: among trailers nobody looks for one.
    pub(crate) fn keeps_trailer(&self, name: &HeaderName) -> bool {
        *name != header::SET_COOKIE && self.keeps(name)
    }
}

/// The bit for how a name begins. Some share one.
fn initial(name: &str) -> u32 {
    1 << (name.bytes().next().unwrap_or_default() % 32)
}

fn initials(names: &[HeaderName], families: bool) -> u32 {
    let families = if families { FAMILIES } else { &[] };
    let all = names.iter().map(HeaderName::as_str).chain(families.iter().copied());
    all.fold(0, |initials, name| initials | initial(name))
}

/// Whether a field is one of those that a response withholds.
pub(crate) fn is_among(withheld: Option<&Fields>, name: &HeaderName) -> bool {
    withheld.is_some_and(|withheld| withheld.iter().any(|other| **other == *name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P54
    fn a_field_of_one_exchange_is_known_by_its_name_or_by_how_that_begins() {
        let mut unstored = Unstored::new(Mode::Application);
        let is_one = |unstored: &Unstored, name| unstored.is_of_one_exchange(&HeaderName::from_static(name));
        for name in OF_ONE_EXCHANGE.each_ref().map(HeaderName::as_str).into_iter().chain(FAMILIES.iter().copied()) {
            assert!(unstored.is_of_one_exchange(&HeaderName::try_from(name).unwrap()), "{name}");
        }
        assert!(is_one(&unstored, "ratelimit-limit") && is_one(&unstored, "x-rate-limit-reset"));
        assert!(!is_one(&unstored, "content-type") && !is_one(&unstored, "x-mine") && !is_one(&unstored, "mine"));
        unstored.name(vec![HeaderName::from_static("mine")]);
        assert!(is_one(&unstored, "mine") && is_one(&unstored, "ratelimit") && !is_one(&unstored, "traceparent"));
        assert!(!is_one(&Unstored::new(Mode::Protocol), "ratelimit"));
    }
}
