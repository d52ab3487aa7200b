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
    /// A bit for each of these names. One that has another bit is none of them.
    marks: u64,
    /// How the names of fields begin that are not stored: a bit for each letter. What begins in another way is none of them.
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

/// How the names of those begin, and that of the field which is targeted at this cache: `Age`, `Cacheback-Cache-Control`,
/// `Keep-Alive`, `Proxy-`, `TE`, `Upgrade` and their like.
const INITIALS: u32 = initials_of(b"ackptu");

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
        Self { marks: marks(&names), initials: initials(&names, families), names, families, own: true }
    }

    /// Names the fields of one exchange anew.
    pub(crate) fn name(&mut self, names: Vec<HeaderName>) {
        (self.marks, self.initials) = (marks(&names), initials(&names, self.families));
        self.names = names.into();
    }

    /// Whether a field speaks of one exchange, and is for the one whose exchange it is.
    pub(crate) fn is_of_one_exchange(&self, name: &HeaderName) -> bool {
        // Of the families each begins with one of these letters.
        let may_be_of_a_family = || name.as_str().starts_with(['r', 'x']);
        self.marks & mark(name) != 0 && self.names.contains(name)
            || self.families && may_be_of_a_family() && FAMILIES.iter().any(|family| name.as_str().starts_with(family))
    }

    /// Those of one response.
    pub(crate) fn of(&self, response: &HeaderMap, withheld: Option<&Fields>) -> Omitted {
        // Asked first: few responses have the field, and not to find it by a look-up takes longer.
        let has_options = response.keys().any(|name| *name == header::CONNECTION);
        let of_the_hop = if has_options { connection_options(response).collect() } else { Vec::new() };
        Omitted { of_the_layer: self.clone(), of_the_hop, withheld: withheld.cloned() }
    }

    #[inline]
    fn keeps(&self, name: &HeaderName) -> bool {
        self.initials & initial(name.as_str()) == 0
            || !(is_stored_by_none(name) || self.own && *name == OWN || self.is_of_one_exchange(name))
    }
}

impl Omitted {
    /// Whether a field is stored.
    #[inline]
    pub(crate) fn keeps(&self, name: &HeaderName) -> bool {
        self.of_the_layer.keeps(name) && !is_among(self.withheld.as_ref(), name) && !self.of_the_hop.contains(name)
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

const fn initials_of(letters: &[u8]) -> u32 {
    let (mut initials, mut at) = (0, 0);
    while at < letters.len() {
        initials |= 1 << (letters[at] % 32);
        at += 1;
    }
    initials
}

fn initials(names: &[HeaderName], families: bool) -> u32 {
    let families = if families { FAMILIES } else { &[] };
    let all = names.iter().map(HeaderName::as_str).chain(families.iter().copied());
    all.fold(INITIALS, |initials, name| initials | initial(name))
}

/// The bit for a name: by its length, its first letter and its last. Some share one.
fn mark(name: &HeaderName) -> u64 {
    let name = name.as_str().as_bytes();
    let letter = |letter: Option<&u8>| letter.map_or(0, |letter| usize::from(*letter));
    1 << ((name.len() * 5 + letter(name.first()) + letter(name.last()) * 3) % 64)
}

fn marks(names: &[HeaderName]) -> u64 {
    names.iter().fold(0, |marks, name| marks | mark(name))
}

/// Whether a field is one of those that a response withholds.
#[inline]
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

    #[test] // P45
    fn what_no_cache_stores_is_not_stored_however_it_begins() {
        let unstored = Unstored::new(Mode::Protocol);
        let names = [AGE, CACHE_STATUS, OWN, header::CONNECTION, header::CONTENT_LENGTH, header::TE, header::UPGRADE];
        let others = ["keep-alive", "proxy-connection", "proxy-authenticate", "transfer-encoding"];
        for name in names.into_iter().chain(others.map(HeaderName::from_static)) {
            assert!(!unstored.keeps(&name), "{name}");
        }
        for name in ["accept-ranges", "cache-control", "keep", "prox", "trailer", "x-own", "etag", "te-"] {
            assert!(unstored.keeps(&HeaderName::from_static(name)), "{name}");
        }
    }
    #[test] // P45, P54
    fn letters_and_marks_decide_nothing() {
        let none = ["age", "cache-status", "connection", "content-length", "te", "transfer-encoding", "upgrade"];
        let own = ["cacheback-cache-control", "keep-alive", "proxy-", "proxy-x", "mine", "x-mine-2", "~", "1"];
        let ones: Vec<_> = OF_ONE_EXCHANGE.iter().map(HeaderName::as_str).collect();
        let families = FAMILIES.iter().copied();
        let known: Vec<_> = none.into_iter().chain(own).chain(ones.iter().copied()).chain(families).collect();
        let mine: Vec<_> = ["mine", "x-mine-2", "~", "1", "etag"].map(HeaderName::from_static).into();
        for (mode, named) in [(Mode::Application, false), (Mode::Application, true), (Mode::Protocol, true)] {
            let mut unstored = Unstored::new(mode);
            if named {
                unstored.name(mine.clone());
            }
            let families: &[_] = if let Mode::Application = mode { FAMILIES } else { &[] };
            // Each of them, and those that are like it but for a letter more or less at either end.
            for name in &known {
                for name in [
                    name.to_string(),
                    name[1..].into(),
                    name[..name.len() - 1].into(),
                    format!("{name}s"),
                    format!("x{name}"),
                ] {
                    let Ok(name) = HeaderName::try_from(name) else { continue };
                    let text = name.as_str();
                    let is_named = if named { mine.contains(&name) } else { OF_ONE_EXCHANGE.contains(&name) };
                    let expected = is_named || families.iter().any(|family| text.starts_with(family));
                    assert_eq!(unstored.is_of_one_exchange(&name), expected, "{name}");
                    let is_ours = none.contains(&text) || ["cacheback-cache-control", "keep-alive"].contains(&text);
                    assert_eq!(unstored.keeps(&name), !(expected || is_ours || text.starts_with("proxy-")), "{name}");
                }
            }
        }
    }
}
