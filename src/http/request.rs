//! What a request says that matters to a cache: one pass over its fields, and the key.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{self, HeaderName},
    request::Parts,
};

use crate::{
    authority::authority_of_host,
    demands::Demands,
    http::{
        conditional::Conditions,
        credentials::{CREDENTIALS, OVERRIDES, PROXY_CREDENTIALS, is_of_a_family},
        policy::Mode,
        range::Ranges,
        rules::{KeyRules, received_uri},
    },
    key::{KeyBuf, UriParts},
    status::Detail,
};

/// Why a field matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matter {
    /// It is part of the key by a rule.
    Keyed,
    Credential,
    /// A credential with which a response may be shared that says so.
    Authorization,
    Cookie,
    /// It is part of every key that it occurs in.
    Override,
    Host,
    Length,
    Coding,
    Upgrade,
    Range,
    Precondition,
    Condition,
    Directives,
}

/// The fields that matter, found by one comparison each.
///
/// A table of open addressing, filled to a quarter at most: most fields of a request meet an empty place.
#[derive(Clone)]
pub(crate) struct FieldTable {
    places: Box<[Option<(HeaderName, Matter)>]>,
    /// Whether names that begin like those of credentials are taken for some.
    families: bool,
}

/// What one pass over the fields found.
#[derive(Debug, Default)]
pub(crate) struct Survey<'a> {
    found: u16,
    hosts: u8,
    host: Option<&'a HeaderValue>,
    pub(crate) content: bool,
}

impl FieldTable {
    pub(crate) fn new(mode: Mode, keyed: &[HeaderName], credentials: &[HeaderName]) -> Self {
        let own = [
            (header::COOKIE, Matter::Cookie),
            (header::HOST, Matter::Host),
            (header::CONTENT_LENGTH, Matter::Length),
            (header::TRANSFER_ENCODING, Matter::Coding),
            (header::UPGRADE, Matter::Upgrade),
            (header::RANGE, Matter::Range),
            (header::IF_MATCH, Matter::Precondition),
            (header::IF_UNMODIFIED_SINCE, Matter::Precondition),
            (header::IF_NONE_MATCH, Matter::Condition),
            (header::IF_MODIFIED_SINCE, Matter::Condition),
            (header::CACHE_CONTROL, Matter::Directives),
            (header::PRAGMA, Matter::Directives),
            (header::SEC_WEBSOCKET_KEY, Matter::Upgrade),
            (header::SEC_WEBSOCKET_VERSION, Matter::Upgrade),
        ];
        let known = match mode {
            Mode::Application => &CREDENTIALS[..],
            Mode::Protocol => &PROXY_CREDENTIALS,
        };
        let names = own.len() + OVERRIDES.len() + known.len() + credentials.len() + keyed.len();
        let places = vec![None; (names * 4).next_power_of_two()].into();
        let mut table = Self { places, families: mode == Mode::Application };
        own.into_iter().for_each(|(name, matter)| table.insert(name, matter));
        OVERRIDES.iter().for_each(|name| table.insert(name.clone(), Matter::Override));
        table.insert(header::AUTHORIZATION, Matter::Authorization);
        known.iter().chain(credentials).for_each(|name| table.insert(name.clone(), Matter::Credential));
        // What a rule keys is covered: that it is a credential matters no more.
        keyed.iter().for_each(|name| table.insert(name.clone(), Matter::Keyed));
        table
    }

    fn insert(&mut self, name: HeaderName, matter: Matter) {
        let Spread { mut place, .. } = self.spread(&name);
        while self.places[place].as_ref().is_some_and(|(taken, _)| *taken != name) {
            place = (place + 1) & (self.places.len() - 1);
        }
        // A field that the cache itself must understand keeps its meaning whatever a rule makes of it.
        if !self.places[place].as_ref().is_some_and(|(_, own)| own.is_framing()) {
            self.places[place] = Some((name, matter));
        }
    }

    fn get(&self, name: &HeaderName) -> Option<Matter> {
        let Spread { mut place, is_spelt } = self.spread(name);
        while let Some((known, matter)) = &self.places[place] {
            if known == name {
                return Some(*matter);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
        (is_spelt && self.families && is_of_a_family(name.as_str())).then_some(Matter::Credential)
    }

    /// The first place for a name. The table's length is a power of two.
    fn spread(&self, name: &HeaderName) -> Spread {
        let mut spread = Spread::default();
        name.hash(&mut spread);
        Spread { place: spread.place & (self.places.len() - 1), ..spread }
    }
}

/// Spreads names over places: a standard name has a number of its own in `http`, of others length and three letters tell.
#[derive(Default)]
struct Spread {
    place: usize,
    /// It is none of the standard names, to which no family belongs.
    is_spelt: bool,
}

impl Hasher for Spread {
    fn write(&mut self, name: &[u8]) {
        let at = |index: usize| name.get(index).map_or(0, |byte| usize::from(*byte));
        let last = name.len().saturating_sub(1);
        self.place = name.len() * 31 + at(0) * 7 + at(last) * 13 + at(last / 2) * 57;
        self.is_spelt = true;
    }

    fn write_isize(&mut self, number: isize) {
        self.place = self.place.wrapping_mul(31).wrapping_add_signed(number);
    }

    fn finish(&self) -> u64 {
        self.place as u64
    }
}

impl Matter {
    fn is_framing(self) -> bool {
        !matches!(self, Self::Keyed | Self::Credential | Self::Authorization | Self::Cookie | Self::Override)
    }
}

impl<'a> Survey<'a> {
    /// The one pass.
    pub(crate) fn of(headers: &'a HeaderMap, table: &FieldTable) -> Self {
        let mut survey = Self::default();
        for (name, value) in headers {
            let Some(matter) = table.get(name) else { continue };
            survey.found |= 1 << matter as u16;
            match matter {
                Matter::Host => {
                    survey.hosts = survey.hosts.saturating_add(1);
                    survey.host = Some(value);
                }
                Matter::Length => survey.content |= value.as_bytes() != b"0",
                Matter::Coding => survey.content = true,
                _ => {}
            }
        }
        survey
    }

    fn has(&self, matter: Matter) -> bool {
        self.found & (1 << matter as u16) != 0
    }

    /// Whether the request asks for anything but the whole of a response.
    pub(crate) fn asks(&self) -> bool {
        self.found & (1 << Matter::Condition as u16 | 1 << Matter::Range as u16) != 0
    }

    pub(crate) fn has_directives(&self) -> bool {
        self.has(Matter::Directives)
    }

    /// Why the request is not looked up, if it is not: what it is, whatever the layer's rules say.
    pub(crate) fn refusal(&self) -> Option<Detail> {
        if self.content {
            Some(Detail::Content)
        } else if self.has(Matter::Upgrade) {
            Some(Detail::Upgrade)
        } else if self.has(Matter::Precondition) {
            Some(Detail::Precondition)
        } else {
            None
        }
    }

    /// Which credential the key leaves uncovered, if any.
    pub(crate) fn uncovered(&self, rules: &KeyRules) -> Option<Detail> {
        if rules.key_by.is_some() {
            None
        } else if self.has(Matter::Credential) {
            Some(Detail::Credential)
        } else if self.has(Matter::Cookie) && rules.mode == Mode::Application && !rules.covers_cookies() {
            Some(Detail::Cookie)
        } else {
            None
        }
    }

    /// Whether nobody else may have the response, unless it says so.
    pub(crate) fn is_authorized(&self, rules: &KeyRules) -> bool {
        self.has(Matter::Authorization) && rules.key_by.is_none()
    }

    /// Writes the key of the request, or says why it has none.
    pub(crate) fn key(&self, request: Request<'a>, rules: &KeyRules, key: &mut KeyBuf) -> Result<(), Detail> {
        let authority = self.authority(request)?;
        let Request { received, seen, headers } = request;
        let mut query = Vec::new();
        let uri = UriParts {
            path: path(received),
            query: rules.query.keyed(received.query(), &mut query),
            authority: authority.as_deref(),
        };
        key.uri(uri, rules.namespace.as_deref().map(str::as_bytes));
        key.part(rules.print());
        // NOTE: there is a second URI only where it differs.
        key.part(seen.map(|seen| seen.path().as_bytes()));
        if let Some(seen) = seen {
            key.part(rules.query.keyed(seen.query(), &mut query));
            // That of the received URI has been written, and in HTTP/1 there is none: only another one counts.
            let another = seen.authority() != received.authority();
            key.kind(u8::from(another));
            if another {
                key.part(seen.authority().map(|authority| authority.as_str().as_bytes()));
            }
        }
        for name in &rules.key_headers {
            write_field(headers, name, key);
        }
        for name in &rules.key_cookies {
            rules.write_cookie(headers, name, key);
        }
        // A rule may have made a credential of one of these.
        if self.has(Matter::Override) || self.has(Matter::Credential) {
            for (index, name) in (0..).zip(&OVERRIDES) {
                if headers.contains_key(name) {
                    key.kind(index);
                    write_field(headers, name, key);
                }
            }
        }
        // No field has this number: whatever follows is not taken for one.
        key.kind(u8::MAX);
        Ok(())
    }

    /// The one authority of the request: of its URI, else of its only `Host`. The URI is the one that was received: a
    /// middleware that rewrites the path leaves no authority there, and HTTP/2 sends no `Host`.
    pub(crate) fn authority(&self, request: Request<'a>) -> Result<Option<Cow<'a, [u8]>>, Detail> {
        let scheme = request.received.scheme_str();
        let normal = |authority| authority_of_host(authority, scheme).ok_or(Detail::Authority);
        let own = request.received.authority().map(|authority| normal(authority.as_str().as_bytes())).transpose()?;
        if own.as_deref().is_some_and(<[u8]>::is_empty) {
            // A port and no host (RFC 9110 §4.2.1).
            return Err(Detail::Authority);
        }
        let host = match self.hosts {
            0 => None,
            1 => self.host.map(|host| normal(host.as_bytes())).transpose()?,
            _ => return Err(Detail::Authority),
        };
        match (own, host) {
            (Some(own), Some(host)) if own != host => Err(Detail::Authority),
            (Some(own), _) => Ok(Some(own)),
            (None, host) => Ok(host),
        }
    }
}

/// What of a request's head its key is made of.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The URI as it was received.
    pub(crate) received: &'a Uri,
    /// The URI as it is seen here, where that is another.
    seen: Option<&'a Uri>,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> From<&'a Parts> for Request<'a> {
    fn from(parts: &'a Parts) -> Self {
        let (received, seen) = received_uri(&parts.uri, &parts.extensions);
        Self { received, seen, headers: &parts.headers }
    }
}

impl<'a, B> From<&'a http::Request<B>> for Request<'a> {
    fn from(request: &'a http::Request<B>) -> Self {
        let (received, seen) = received_uri(request.uri(), request.extensions());
        Self { received, seen, headers: request.headers() }
    }
}

/// What of a request is needed to answer it from something stored.
#[derive(Debug, Default)]
pub struct View {
    pub(crate) head: bool,
    /// The request wants no trace of itself.
    pub(crate) no_store: bool,
    /// Another cache further out is about to store the response.
    pub(crate) nested: bool,
    /// Code in this process asks for a new response.
    pub(crate) forced: bool,
    /// The response is for the one who asks, unless it says otherwise: he neither waits for others nor they for him.
    pub(crate) authorized: bool,
    pub(crate) asked: Option<Box<Asked>>,
    /// What it demands of a stored response, where that counts.
    pub(crate) demands: Option<Box<Demands>>,
}

/// What a request asks for in place of the whole of a 200.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Nothing of it, if the client has it.
    pub(crate) conditions: Option<Conditions>,
    /// Parts of it.
    pub(crate) ranges: Option<Ranges>,
}

impl Asked {
    /// What the request asks for, and leaves there. A range of a HEAD is ignored (RFC 9110 §14.2).
    pub(crate) fn take(headers: &HeaderMap, head: bool) -> Box<Self> {
        let ranges = if head { None } else { Ranges::take(headers) };
        Box::new(Self { conditions: Conditions::take(headers), ranges })
    }
}

impl View {
    /// The parts that the request asks for.
    pub(crate) fn ranges(&self) -> Option<&Ranges> {
        self.asked.as_ref()?.ranges.as_ref()
    }
}

/// Whether a method promises to change nothing (RFC 9110 §9.2.1 and the registry). An unknown one does not.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "CONNECT" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

/// The path of a request; `*` and an authority alone have one too, which no page has.
pub(crate) fn path(uri: &Uri) -> &[u8] {
    uri.path().as_bytes()
}

/// All lines of a field, and how many they are: none is not one that is empty.
pub(crate) fn write_field(headers: &HeaderMap, name: &HeaderName, key: &mut KeyBuf) {
    let lines = headers.get_all(name);
    key.mark(u32::try_from(lines.iter().count()).unwrap_or(u32::MAX));
    lines.iter().for_each(|line: &HeaderValue| key.part(Some(line.as_bytes())));
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places.iter().flatten()).finish()
    }
}

#[cfg(all(test, not(cacheback_model)))]
mod tests;
