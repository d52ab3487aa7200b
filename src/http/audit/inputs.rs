//! What of a request a handler may read, and what an audit changes it into.

#[cfg(feature = "axum")]
use std::net::{IpAddr, SocketAddr};
use std::{fmt, sync::Arc};

#[cfg(feature = "axum")]
use axum::extract::ConnectInfo;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{self, COOKIE},
    request::Parts,
    uri::Scheme,
};

use crate::http::{
    audit::well_read::WELL_READ,
    rules::{change_received_uri, cookies},
};

/// Something that a handler may read of a request.
///
/// Its `Display` is how an audit names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Input {
    /// A request field.
    Header(HeaderName),
    /// A cookie, by its name.
    Cookie(String),
    /// A value in the request's extensions, by its type.
    Extension(&'static str),
    /// The address that the connection came from: `ConnectInfo<SocketAddr>` of axum.
    ClientAddress,
    /// The version of HTTP.
    Version,
    /// The scheme of the URI.
    Scheme,
    /// Whatever a test has named so.
    Other(String),
}

/// One input, and what it is changed into: each change is tried by itself. The first is the one most likely to matter.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) input: Input,
    pub(crate) changes: Vec<Change>,
}

/// Changes a request.
pub(crate) type Change = Arc<dyn Fn(&mut Parts) + Send + Sync>;

impl Trial {
    pub(crate) fn new(input: Input, changes: impl IntoIterator<Item = Change>) -> Self {
        Self { input, changes: changes.into_iter().collect() }
    }

    pub(crate) fn change(change: impl Fn(&mut Parts) + Send + Sync + 'static) -> Change {
        Arc::new(change)
    }

    /// All inputs of a request that an audit knows of by itself.
    pub(crate) fn all_of(request: &Parts) -> Vec<Self> {
        let headers = &request.headers;
        let known = WELL_READ.iter().map(|(name, values)| Self::well_read(name, values, headers));
        let is_known = |name: &HeaderName| name == COOKIE || WELL_READ.iter().any(|(known, _)| name == known);
        let others = headers.keys().filter(|name| !is_known(name)).map(|name| {
            let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
            Self::new(Input::Header(name.clone()), [field(name.clone(), another(value)), no_field(name.clone())])
        });
        let mut trials: Vec<_> = known.chain(others).chain(Self::cookies(headers)).collect();
        let version = if request.version == Version::HTTP_2 { Version::HTTP_11 } else { Version::HTTP_2 };
        trials.push(Self::new(Input::Version, [Self::change(move |request| request.version = version)]));
        if let Some(scheme) = request.uri.scheme() {
            let scheme = if *scheme == Scheme::HTTP { Scheme::HTTPS } else { Scheme::HTTP };
            let change = Self::change(move |request| {
                let rewrite = |uri: &mut Uri| *uri = with_scheme(uri, &scheme);
                rewrite(&mut request.uri);
                change_received_uri(&mut request.extensions, rewrite);
            });
            trials.push(Self::new(Input::Scheme, [change]));
        }
        trials.extend(Self::client_address(request).filter(|_| client_address(request).is_some()));
        trials
    }

    fn well_read(name: &'static str, values: &[&'static str], headers: &HeaderMap) -> Self {
        let name = HeaderName::from_static(name);
        let present = headers.get(&name);
        let others = values.iter().filter(|value| present.is_none_or(|present| present != **value));
        let mut changes: Vec<_> = others.map(|value| field(name.clone(), HeaderValue::from_static(value))).collect();
        changes.extend(present.map(|_| no_field(name.clone())));
        Self::new(Input::Header(name), changes)
    }

    fn cookies(headers: &HeaderMap) -> Vec<Self> {
        let mut trials: Vec<Self> = Vec::new();
        for (name, pair) in cookies(headers).filter(|(_, pair)| pair.contains(&b'=')) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let input = Input::Cookie(name.to_owned());
            if trials.iter().all(|trial| trial.input != input) {
                let value = another(pair.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default());
                trials.push(Self::new(input, [cookie(name, Some(value)), cookie(name, None)]));
            }
        }
        if cookies(headers).any(|(_, pair)| !pair.contains(&b'=')) {
            trials.push(Self::new(Input::Header(COOKIE), [Self::change(remove_nameless_cookies)]));
        }
        if trials.is_empty() {
            trials.push(Self::new(Input::Header(COOKIE), [field(COOKIE, HeaderValue::from_static("audit=1"))]));
        }
        trials
    }

    /// The client's address, where axum's server tells it.
    #[cfg(feature = "axum")]
    pub(crate) fn client_address(request: &Parts) -> Option<Self> {
        let present = client_address(request);
        let others = [7, 8].map(|last| SocketAddr::from(([203, 0, 113, last], 4_000)));
        let changes = others.into_iter().filter(|other| Some(other.ip()) != present).map(|other| {
            Self::change(move |request| {
                request.extensions.insert(ConnectInfo(other));
            })
        });
        Some(Self::new(Input::ClientAddress, changes))
    }

    /// The client's address: without axum nothing is known of it.
    #[cfg(not(feature = "axum"))]
    pub(crate) fn client_address(_: &Parts) -> Option<Self> {
        None
    }
}

/// Where the request came from, if that is told.
#[cfg(not(feature = "axum"))]
fn client_address(_: &Parts) -> Option<std::net::IpAddr> {
    None
}

/// Where the request came from, if that is told.
#[cfg(feature = "axum")]
fn client_address(request: &Parts) -> Option<IpAddr> {
    request.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

/// Gives a field this value alone.
pub(crate) fn field(name: HeaderName, value: HeaderValue) -> Change {
    Arc::new(move |request| drop(request.headers.insert(name.clone(), value.clone())))
}

fn no_field(name: HeaderName) -> Change {
    Arc::new(move |request| drop(request.headers.remove(&name)))
}

/// Gives a cookie this value alone, or takes it away.
pub(crate) fn cookie(name: &str, value: Option<HeaderValue>) -> Change {
    let name = name.to_owned();
    Arc::new(move |request| {
        let others = cookies(&request.headers).filter(|(cookie, _)| *cookie != name.as_bytes());
        let mut pairs: Vec<_> = others.map(|(_, pair)| pair.to_vec()).collect();
        pairs.extend(value.as_ref().map(|value| [name.as_bytes(), b"=", value.as_bytes()].concat()));
        set_cookies(request, &pairs);
    })
}

/// A cookie without a name is a value alone, which no report may repeat: such cookies are one input, named by the field.
fn remove_nameless_cookies(request: &mut Parts) {
    let named = cookies(&request.headers).filter(|(_, pair)| pair.contains(&b'='));
    let named: Vec<_> = named.map(|(_, pair)| pair.to_vec()).collect();
    set_cookies(request, &named);
}

fn set_cookies(request: &mut Parts, pairs: &[Vec<u8>]) {
    match HeaderValue::from_bytes(&pairs.join(&b"; "[..])) {
        Ok(pairs) if !pairs.is_empty() => drop(request.headers.insert(header::COOKIE, pairs)),
        _ => drop(request.headers.remove(header::COOKIE)),
    }
}

/// Another value of its kind: a handler that reads a number may answer to no word.
fn another(value: &[u8]) -> HeaderValue {
    let text = std::str::from_utf8(value).unwrap_or_default();
    match text.parse::<u32>() {
        Ok(number) => HeaderValue::from(number.wrapping_add(1)),
        Err(_) if text == "true" => HeaderValue::from_static("false"),
        Err(_) if text == "audit" => HeaderValue::from_static("another"),
        Err(_) => HeaderValue::from_static("audit"),
    }
}

fn with_scheme(uri: &Uri, scheme: &Scheme) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

impl Input {
    /// Whether the layer can hide it from a handler. Extensions it hides never.
    pub(crate) fn can_be_hidden(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Cookie(_) | Self::Version | Self::Scheme)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "`{name}`"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::Extension(kind) => write!(f, "the extension `{kind}`"),
            Self::ClientAddress => f.write_str("the client's address"),
            Self::Version => f.write_str("the version of HTTP"),
            Self::Scheme => f.write_str("the scheme of the URI"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trial").field(&self.input).field(&self.changes.len()).finish()
    }
}
