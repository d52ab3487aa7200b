//! What a layer adds to the key and what it leaves out of it; and the one view of a request that its runs have.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{
    Extensions, HeaderMap, HeaderValue, Method, Uri,
    header::{self, HeaderName},
    request::Parts,
};
use smallvec::SmallVec;

use crate::{
    authority::normal_authority,
    http::{credentials::OVERRIDES, policy::Mode, request::FieldTable, vary::comparable},
    key::KeyBuf,
};

/// The key rules of one layer.
#[derive(Clone)]
pub struct KeyRules {
    pub(crate) mode: Mode,
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) key_headers: Vec<HeaderName>,
    pub(crate) key_cookies: Vec<Box<[u8]>>,
    pub(crate) ignore_cookies: bool,
    pub(crate) key_by: Option<KeyBy>,
    pub(crate) credentials: Vec<HeaderName>,
    pub(crate) query: QueryRule,
    pub(crate) sealed: bool,
    /// Derived: the fields that matter.
    pub(crate) table: FieldTable,
    /// Derived: what tells these rules from others, the namespace among them. Layers with different rules share no entry.
    pub(crate) fingerprint: Arc<[u8]>,
    /// Derived: whether they are any others than those that a layer has without being told.
    print: bool,
}

/// What a function of the user makes of a request.
#[derive(Clone)]
pub(crate) struct KeyBy {
    pub(crate) call: Arc<KeyByFn>,
    /// Which function it is: two that were given apart never share an entry.
    number: u64,
}

type KeyByFn = dyn Fn(&Parts) -> Option<Vec<u8>> + Send + Sync;

/// Which parameters of a query count, and whether their order does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryRule {
    pub(crate) keep: Keep,
    pub(crate) sorted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    #[default]
    All,
    Only(Vec<Box<str>>),
    Except(Vec<Box<str>>),
}

impl KeyRules {
    pub(crate) fn new(mode: Mode) -> Self {
        let mut rules = Self::untold(mode);
        rules.derive();
        rules
    }

    /// Those that a layer has without being told, as yet without what follows from them.
    fn untold(mode: Mode) -> Self {
        Self {
            mode,
            namespace: None,
            key_headers: Vec::new(),
            key_cookies: Vec::new(),
            ignore_cookies: false,
            key_by: None,
            credentials: Vec::new(),
            query: QueryRule::default(),
            sealed: false,
            table: FieldTable::new(mode, &[], &[]),
            fingerprint: Arc::default(),
            print: false,
        }
    }

    /// Brings up to date what follows from the rest.
    pub(crate) fn derive(&mut self) {
        static UNTOLD: LazyLock<Arc<[u8]>> = LazyLock::new(|| KeyRules::untold(Mode::Application).written());
        self.table = FieldTable::new(self.mode, &self.key_headers, &self.credentials);
        self.fingerprint = self.written();
        self.print = self.fingerprint != *UNTOLD;
    }

    /// All of them in bytes.
    fn written(&self) -> Arc<[u8]> {
        let mut print = KeyBuf::default();
        print.kind(u8::from(self.mode == Mode::Protocol));
        print.part(self.namespace.as_deref().map(str::as_bytes));
        for list in [&self.key_headers, &self.credentials] {
            print.mark(list.len() as u32);
            list.iter().for_each(|name| print.part(Some(name.as_str().as_bytes())));
        }
        print.mark(self.key_cookies.len() as u32);
        self.key_cookies.iter().for_each(|name| print.part(Some(name)));
        print.kind(u8::from(self.ignore_cookies) | u8::from(self.query.sorted) << 1 | u8::from(self.sealed) << 2);
        print.part(self.key_by.as_ref().map(|key_by| key_by.number.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
        let (kind, names) = match &self.query.keep {
            Keep::All => (0, &[][..]),
            Keep::Only(names) => (1, names.as_slice()),
            Keep::Except(names) => (2, names.as_slice()),
        };
        print.kind(kind);
        names.iter().for_each(|name| print.part(Some(name.as_bytes())));
        print.as_slice().into()
    }

    /// What the key says of these rules: nothing, of those that a layer has without being told.
    pub(crate) fn print(&self) -> Option<&[u8]> {
        self.print.then_some(&self.fingerprint)
    }

    /// Whether a layer further out that stores under these rules tells apart all that this one does: it has the same, or
    /// this one has none.
    pub(crate) fn are_kept_by(&self, outer: &[u8]) -> bool {
        *outer == *self.fingerprint || !self.print
    }

    /// Whether the key tells requests with different values of `Authorization` apart.
    pub(crate) fn covers_authorization(&self) -> bool {
        self.key_by.is_some() || self.key_headers.contains(&header::AUTHORIZATION)
    }

    pub(crate) fn covers_cookies(&self) -> bool {
        self.ignore_cookies || !self.key_cookies.is_empty() || self.key_headers.contains(&header::COOKIE)
    }

    /// Whether the cookies that a run sees are others than those that came.
    fn changes_cookies(&self) -> bool {
        self.covers_cookies() && !self.key_headers.contains(&header::COOKIE)
    }

    /// All values of one cookie, and how many they are.
    pub(crate) fn write_cookie(&self, headers: &HeaderMap, name: &[u8], key: &mut KeyBuf) {
        let values = || cookies(headers).filter(|(cookie, _)| *cookie == name);
        key.mark(u32::try_from(values().count()).unwrap_or(u32::MAX));
        values().for_each(|(_, pair)| key.part(Some(pair)));
    }

    /// The value of the `Cookie` field that a run sees.
    fn cookies_in_view(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        // In the order of the rules, as in the key: another order would be another view.
        let kept: Vec<_> = self
            .key_cookies
            .iter()
            .flat_map(|keyed| cookies(headers).filter(|(name, _)| **keyed == **name).map(|(_, pair)| pair))
            .collect();
        if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok() }
    }

    /// Writes the values of selecting fields (RFC 9111 §4.1) as a run sees them: several lines are one list, an absent
    /// field is not an empty one.
    pub(crate) fn write_selecting(&self, headers: &HeaderMap, fields: &[Box<str>], values: &mut KeyBuf) {
        for field in fields {
            let Ok(name) = HeaderName::from_bytes(field.as_bytes()) else { continue };
            if name == header::COOKIE && self.changes_cookies() {
                values.part(self.cookies_in_view(headers).as_ref().map(HeaderValue::as_bytes));
            } else if name == header::HOST && headers.contains_key(&name) {
                // The key has its value, in the one spelling that runs see.
                values.part(Some(b""));
            } else if self.is_hidden(&name) || self.ends_here(&name, headers) {
                values.part(None);
            } else {
                values.part(comparable(headers, &name).as_deref());
            }
        }
    }

    /// Makes the request what every run of its key sees (P66): what the key leaves out is not in it.
    pub(crate) fn project(&self, parts: &mut Parts) {
        parts.method = Method::GET;
        let hidden = self.hidden(&parts.headers);
        hidden.iter().for_each(|name| drop(parts.headers.remove(name)));
        if self.changes_cookies() && parts.headers.contains_key(header::COOKIE) {
            match self.cookies_in_view(&parts.headers) {
                Some(cookies) => drop(parts.headers.insert(header::COOKIE, cookies)),
                None => drop(parts.headers.remove(header::COOKIE)),
            }
        }
        project_authority(parts);
        if self.query != QueryRule::default() {
            self.query.apply(&mut parts.uri);
            change_received_uri(&mut parts.extensions, |original| self.query.apply(original));
        }
    }

    /// The fields of this request that its run does not see.
    fn hidden(&self, headers: &HeaderMap) -> SmallVec<[HeaderName; 8]> {
        let mut hidden: SmallVec<[HeaderName; 8]> = SmallVec::new();
        for name in headers.keys().filter(|name| self.is_hidden(name)) {
            hidden.push(name.clone());
        }
        if !hidden.contains(&header::CONNECTION) {
            return hidden;
        }
        // What nearly every HTTP/1 client says names a field that is hidden anyway.
        let ends = |option: &&[u8]| !option.eq_ignore_ascii_case(b"keep-alive");
        for option in options(headers).filter(ends) {
            let is_named = |name: &&HeaderName| option.eq_ignore_ascii_case(name.as_str().as_bytes());
            hidden.extend(headers.keys().find(is_named).filter(|name| !self.is_kept(name)).cloned());
        }
        hidden
    }

    /// Whether a run never sees this field.
    fn is_hidden(&self, name: &HeaderName) -> bool {
        is_hidden_always(name) || self.sealed && !self.is_keyed(name)
    }

    /// Whether `Connection` takes this field out of what a run sees.
    fn ends_here(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        headers.contains_key(header::CONNECTION)
            && !self.is_kept(name)
            && options(headers).any(|option| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }

    /// Whether a run sees this field even where `Connection` names it: a client must not take out of the run what it
    /// has put into the key. A function may have read any field.
    fn is_kept(&self, name: &HeaderName) -> bool {
        self.key_by.is_some() || self.is_keyed(name)
    }

    fn is_keyed(&self, name: &HeaderName) -> bool {
        self.key_headers.contains(name)
            || OVERRIDES.contains(name)
            || name == header::HOST
            || name == header::COOKIE && !self.key_cookies.is_empty()
    }
}

impl KeyBy {
    pub(crate) fn new(call: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self { call: Arc::new(call), number: NUMBER.fetch_add(1, Relaxed) }
    }
}

impl QueryRule {
    /// The query as it is keyed, in `room` where it is not what was received.
    pub(crate) fn keyed<'a>(&self, query: Option<&'a str>, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let query = query?;
        if *self == Self::default() {
            return Some(query.as_bytes());
        }
        let mut kept: Vec<&str> = query.split('&').filter(|pair| self.keeps(pair)).collect();
        if kept.is_empty() {
            return None;
        }
        if self.sorted {
            // Stable: parameters of one name keep their order.
            kept.sort_by_key(|pair| parameter(pair));
        }
        room.clear();
        room.extend_from_slice(kept.join("&").as_bytes());
        Some(room)
    }

    fn keeps(&self, pair: &str) -> bool {
        let named = |names: &[Box<str>]| names.iter().any(|name| **name == *parameter(pair));
        match &self.keep {
            Keep::All => true,
            Keep::Only(names) => named(names),
            Keep::Except(names) => !named(names),
        }
    }

    /// Gives a URI the query that is keyed.
    fn apply(&self, uri: &mut Uri) {
        let mut room = Vec::new();
        let path_and_query = match self.keyed(uri.query(), &mut room) {
            Some(query) => [uri.path().as_bytes(), b"?", query].concat(),
            None => uri.path().as_bytes().to_vec(),
        };
        let mut parts = uri.clone().into_parts();
        if let Ok(path_and_query) = path_and_query.as_slice().try_into() {
            parts.path_and_query = Some(path_and_query);
            if let Ok(keyed) = Uri::from_parts(parts) {
                *uri = keyed;
            }
        }
    }
}

/// Gives the authority its one spelling wherever a run sees it. The key has no other: a run that saw `a.example:80`
/// would write it into links for all who ask `a.example`.
pub(crate) fn project_authority(parts: &mut Parts) {
    let (received, _) = received_uri(&parts.uri, &parts.extensions);
    let scheme = received.scheme_str();
    if let Some(host) = parts.headers.get_mut(header::HOST)
        && let normal = normal_authority(host.as_bytes(), scheme)
        && *normal != *host.as_bytes()
        && let Ok(normal) = HeaderValue::from_bytes(&normal)
    {
        *host = normal;
    }
    if received.authority().is_none() {
        return;
    }
    let received = received.clone();
    let (scheme, Some(authority)) = (received.scheme_str(), received.authority()) else { return };
    let normal = normal_authority(authority.as_str().as_bytes(), scheme);
    if *normal == *authority.as_str().as_bytes() {
        return;
    }
    let respell = |uri: &mut Uri| {
        let mut parts = uri.clone().into_parts();
        parts.authority = normal.as_ref().try_into().ok();
        if let Ok(spelled) = Uri::from_parts(parts) {
            *uri = spelled;
        }
    };
    // One that a middleware put there is keyed as it is.
    if parts.uri.authority() == Some(authority) {
        respell(&mut parts.uri);
    }
    change_received_uri(&mut parts.extensions, respell);
}

/// What no run ever sees: parts and conditions are one client's affair, the rest ends at this hop (RFC 9110 §7.6.1).
fn is_hidden_always(name: &HeaderName) -> bool {
    match *name {
        header::RANGE
        | header::IF_MATCH
        | header::IF_NONE_MATCH
        | header::IF_MODIFIED_SINCE
        | header::IF_UNMODIFIED_SINCE
        | header::IF_RANGE
        | header::CONNECTION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE
        | header::CONTENT_LENGTH
        | header::EXPECT => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// The fields that `Connection` names: they end at this hop as well.
pub(crate) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    options(headers).filter_map(|name| HeaderName::from_bytes(name).ok())
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The cookies of a request: name, and the pair as it was sent.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
        .map(|pair| (pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii_end(), pair))
}

/// RFC 6265 §4.1.1.
pub(crate) fn is_cookie_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?={}"#.contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// The name of a parameter, as it was sent.
fn parameter(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

/// The URI as it was received, and the one that is seen here where that is another: a nested router strips a prefix, a
/// rewriting middleware changes what it likes.
#[cfg(feature = "axum")]
pub(crate) fn received_uri<'a>(uri: &'a Uri, extensions: &'a Extensions) -> (&'a Uri, Option<&'a Uri>) {
    match extensions.get::<axum::extract::OriginalUri>() {
        Some(axum::extract::OriginalUri(original)) if original != uri => (original, Some(uri)),
        _ => (uri, None),
    }
}

/// The URI as it was received.
#[cfg(not(feature = "axum"))]
pub(crate) fn received_uri<'a>(uri: &'a Uri, _: &'a Extensions) -> (&'a Uri, Option<&'a Uri>) {
    (uri, None)
}

#[cfg(feature = "axum")]
pub(crate) fn change_received_uri(extensions: &mut Extensions, change: impl FnOnce(&mut Uri)) {
    if let Some(axum::extract::OriginalUri(original)) = extensions.get_mut::<axum::extract::OriginalUri>() {
        change(original);
    }
}

#[cfg(not(feature = "axum"))]
pub(crate) fn change_received_uri(_: &mut Extensions, _: impl FnOnce(&mut Uri)) {}

impl fmt::Debug for KeyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRules")
            .field("namespace", &self.namespace)
            .field("headers", &self.key_headers)
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}
