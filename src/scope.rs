//! What an invalidation names: one notion for a key, a URI, a path, all paths below one, a tag, a namespace, everything.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use crate::{
    authority::normal_authority,
    error::Error,
    key::{COMPRESSED, Key, UriParts, message_query},
    tags::Tags,
};

#[cfg(feature = "redis")]
pub(crate) mod wire;

/// A URI or a key with more bytes than this is long: few are.
const LONG: usize = 512;

/// What an invalidation reaches. See [`Cache::expire`](crate::Cache::expire) and [`Cache::purge`](crate::Cache::purge).
///
/// ```
/// use cacheback::{Key, Scope};
///
/// let one_key = Scope::from(Key::from("user:42"));
/// let one_uri = Scope::uri("/search?q=tower")?;
/// let one_page_whatever_its_query = Scope::path("/search")?;
/// let on_one_host = Scope::path("https://example.org/search")?;
/// let all_below = Scope::path_prefix("/quotes")?; // /quotes, /quotes/, /quotes/42, but not /quotesheet
/// let a_tag = Scope::tag("quotes");
/// let a_tag_on_one_host = Scope::group("https://example.org", "quotes")?;
/// let a_tenant = Scope::namespace("acme");
/// let all = Scope::everything();
/// # Ok::<(), cacheback::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Scope(Reach);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Key(Key),
    /// All keys that have this hash: a long one in short.
    Like(u64),
    Uri(UriScope),
    Tag(Arc<str>),
    /// A tag on one host.
    Group(GroupScope),
    Namespace(Arc<str>),
    Everything,
}

/// What carries a tag and is keyed with this authority, or without any.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GroupScope {
    authority: Option<Box<[u8]>>,
    pub(crate) name: Arc<str>,
}

/// A path with an authority or on all of them, with one query or with every one, or with all that is below it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UriScope {
    authority: Option<Box<[u8]>>,
    path: Box<[u8]>,
    extent: Extent,
}

/// What of a path is meant.
#[derive(Clone, PartialEq, Eq)]
enum Extent {
    /// The path with this query, or without one.
    Query(Option<Box<[u8]>>),
    /// The path with every query.
    Queries,
    /// The path, and every path that goes on from it with a segment of its own, with every query.
    Below,
    /// Every path that begins so, with every query.
    Beginning,
    /// The path as that of a gRPC method: calls of it with this message, as its key has it.
    Message(Box<[u8]>),
}

/// Whether an invalidation lets the stale response be served while a new one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// The next reader gets the stale response, and it is refreshed.
    Expire,
    /// The next reader waits for a new one.
    Purge,
}

impl Scope {
    /// One URI, with every variant and whatever the layers' key rules add.
    ///
    /// Without an authority (`/search?q=tower`) it is reached on all hosts, with one
    /// (`https://example.org/search?q=tower`) on that host alone. Without a query it reaches the URI without a query;
    /// see [`Scope::path`]. The query is the one that the layer keys: what `query_only` or `query_except` leave out is
    /// not in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Scope`](crate::ErrorKind::Scope) if no request could have such a URI: it has no path that begins
    /// with a slash, or holds characters that a client sends percent-encoded.
    pub fn uri(uri: &str) -> Result<Self, Error> {
        let (authority, path, query) = split(uri)?;
        let extent = Extent::Query(query.map(|query| query.as_bytes().into()));
        Ok(Self(Reach::Uri(UriScope { authority, path: path.as_bytes().into(), extent })))
    }

    /// One path with every query. Paths are compared as they were received: `/a%2Fb` is not `/a/b`, and `/x` is not
    /// `/x/`.
    ///
    /// # Errors
    ///
    /// As for [`Scope::uri`]; also when there is a query, which a path has not.
    pub fn path(path: &str) -> Result<Self, Error> {
        Self::without_query(path, Extent::Queries)
    }

    /// One path and all that is below it, with every query.
    ///
    /// Paths are cut at slashes: `/quotes` reaches `/quotes`, `/quotes/` and `/quotes/42`, and not `/quotesheet`.
    /// `/quotes/` reaches `/quotes/` and what is below it, and not `/quotes`. `/` reaches every path.
    ///
    /// # Errors
    ///
    /// As for [`Scope::path`].
    pub fn path_prefix(path: &str) -> Result<Self, Error> {
        Self::without_query(path, Extent::Below)
    }

    /// One gRPC method with one message: every call of it with these bytes, whatever its metadata, codings and authority.
    /// See [`Grpc`](crate::Grpc). The method alone is a [`path`](Self::path), its service a
    /// [`path_prefix`](Self::path_prefix). In a nested router it is the path as it was received.
    ///
    /// `message` is the message as it is encoded, without the five bytes that stand before it on the wire. That is what
    /// clients send that make the same bytes of the same message, as they do in one language and version. Of calls whose
    /// client compressed the message nobody knows what it was: all of that method are reached.
    ///
    /// ```
    /// use cacheback::Scope;
    ///
    /// // With prost: `wanted.encode_to_vec()`.
    /// let message = b"\x0a\x04ACME".to_vec();
    /// let quote = Scope::message("/quotes.Quotes/Get", message)?;
    /// # Ok::<(), cacheback::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Scope::path`].
    pub fn message(method: &str, message: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::without_query(method, Extent::Message(message_query(message.as_ref()).into()))
    }

    /// Every response that carries this tag, on all hosts: be it by [`Tags`], be it by `Cache-Groups`.
    #[must_use]
    pub fn tag(tag: impl Into<Arc<str>>) -> Self {
        Self(Reach::Tag(tag.into()))
    }

    /// Every response of one origin that carries this tag. That is what `Cache-Group-Invalidation` reaches (RFC 9875 §3):
    /// groups of that field are never those of another host.
    ///
    /// As keys have no scheme (see [`Http`](crate::Http#which-requests-are-looked-up)), `http://example.org` and
    /// `https://example.org` are one origin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Scope`](crate::ErrorKind::Scope) if that is no origin: a scheme and a host, with a port or without.
    pub fn group(origin: &str, name: impl Into<Arc<str>>) -> Result<Self, Error> {
        match split(origin)? {
            (Some(authority), "/", None) if !authority.is_empty() => Ok(Self::group_of(Some(&authority), name.into())),
            _ => Err(Error::scope("an origin is a scheme and a host, such as https://example.org")),
        }
    }

    /// Every response that was stored by a layer of this [`namespace`](crate::CachebackLayer::namespace).
    #[must_use]
    pub fn namespace(namespace: impl Into<Arc<str>>) -> Self {
        Self(Reach::Namespace(namespace.into()))
    }

    /// Everything that is stored.
    #[must_use]
    pub const fn everything() -> Self {
        Self(Reach::Everything)
    }

    fn without_query(path: &str, extent: Extent) -> Result<Self, Error> {
        let (authority, path, query) = split(path)?;
        if query.is_some() {
            return Err(Error::scope("a path has no query; name the whole URI to reach one query alone"));
        }
        Ok(Self(Reach::Uri(UriScope { authority, path: path.as_bytes().into(), extent })))
    }

    /// All that is keyed with this authority; with none, everything.
    pub(crate) fn authority(authority: Option<&[u8]>) -> Self {
        let authority = authority.map(Into::into);
        Self(Reach::Uri(UriScope { authority, path: b"/".as_slice().into(), extent: Extent::Beginning }))
    }

    /// What carries this tag among the responses that are keyed with this authority.
    pub(crate) fn group_of(authority: Option<&[u8]>, name: Arc<str>) -> Self {
        Self(Reach::Group(GroupScope { authority: authority.map(Into::into), name }))
    }

    /// The URI of a request: authority, path and query as they are keyed.
    pub(crate) fn exactly(uri: UriParts<'_>) -> Self {
        Self(Reach::Uri(UriScope {
            authority: uri.authority.map(Into::into),
            path: uri.path.into(),
            extent: Extent::Query(uri.query.map(Into::into)),
        }))
    }

    /// The same, or for a long URI or key, whose length is the choice of whoever sends it, something short that reaches
    /// more: the path with every query, or all paths that begin as this one does, or the keys with the hash of this one.
    pub(crate) fn in_short(&self) -> Self {
        match &self.0 {
            Reach::Key(key) if self.weight() > LONG => Self(Reach::Like(hash(key))),
            Reach::Uri(UriScope { path, extent, .. }) if self.weight() > LONG => {
                let (path, extent) = match (path.get(..LONG), extent) {
                    (Some(beginning), _) => (beginning, Extent::Beginning),
                    (None, Extent::Query(_) | Extent::Message(_)) => (&**path, Extent::Queries),
                    (None, extent) => (&**path, extent.clone()),
                };
                Self(Reach::Uri(UriScope { authority: None, path: path.into(), extent }))
            }
            _ => self.clone(),
        }
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.0
    }

    /// What it takes in memory beside itself.
    pub(crate) fn weight(&self) -> usize {
        match &self.0 {
            Reach::Key(key) => key.len(),
            Reach::Uri(UriScope { authority, path, extent }) => {
                let query = match extent {
                    Extent::Query(Some(query)) | Extent::Message(query) => query.len(),
                    _ => 0,
                };
                authority.as_ref().map_or(0, |authority| authority.len()) + path.len() + query
            }
            Reach::Group(GroupScope { authority, name }) => {
                authority.as_ref().map_or(0, |authority| authority.len()) + name.len()
            }
            Reach::Tag(name) | Reach::Namespace(name) => name.len(),
            Reach::Like(_) | Reach::Everything => 0,
        }
    }

    /// Whether what is stored under this key with these tags is reached.
    pub(crate) fn matches(&self, key: &Key, tags: &Tags) -> bool {
        match &self.0 {
            Reach::Tag(tag) => tags.contains(tag),
            Reach::Group(GroupScope { authority, name }) => {
                key.uri().is_some_and(|uri| uri.authority == authority.as_deref()) && tags.contains(name)
            }
            _ => self.matches_key(key),
        }
    }

    /// Whether the key alone is reached, whatever the tags.
    pub(crate) fn matches_key(&self, key: &Key) -> bool {
        match &self.0 {
            Reach::Key(named) => named == key,
            Reach::Like(like) => hash(key) == *like,
            Reach::Uri(scope) => key.uri().is_some_and(|uri| scope.matches(uri)),
            Reach::Tag(_) | Reach::Group(_) => false,
            Reach::Namespace(namespace) => key.namespace() == Some(namespace.as_bytes()),
            Reach::Everything => true,
        }
    }
}

#[cfg(feature = "redis")]
impl GroupScope {
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref()
    }
}

impl UriScope {
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The queries that are meant, of which one may be none at all; `None` where every one is.
    pub(crate) fn queries(&self) -> Option<Vec<Option<&[u8]>>> {
        match &self.extent {
            Extent::Query(query) => Some(vec![query.as_deref()]),
            Extent::Message(message) => Some(vec![Some(message), Some(&COMPRESSED)]),
            Extent::Queries | Extent::Below | Extent::Beginning => None,
        }
    }

    /// Where not all hosts are meant: the one.
    #[cfg(feature = "redis")]
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref()
    }

    /// Where paths are meant by how they begin: all of them are this one, or go on from it with a segment of their own. With
    /// those that only begin as the last segment does, that is the path without this segment.
    #[cfg(feature = "redis")]
    pub(crate) fn all_below(&self) -> Option<&[u8]> {
        match self.extent {
            Extent::Below => Some(&self.path),
            Extent::Beginning => {
                let end = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                Some(&self.path[..end])
            }
            Extent::Query(_) | Extent::Queries | Extent::Message(_) => None,
        }
    }

    /// Whether other paths than its own are reached as well: those that go on from it.
    pub(crate) fn goes_below(&self) -> bool {
        self.extent == Extent::Below
    }

    fn matches(&self, uri: UriParts<'_>) -> bool {
        self.authority.as_deref().is_none_or(|authority| uri.authority == Some(authority))
            && match &self.extent {
                Extent::Query(query) => *uri.path == *self.path && uri.query == query.as_deref(),
                Extent::Queries => *uri.path == *self.path,
                Extent::Message(message) => {
                    *uri.path == *self.path && uri.query.is_some_and(|query| *query == **message || query == COMPRESSED)
                }
                Extent::Beginning => uri.path.starts_with(&self.path),
                Extent::Below => uri.path.strip_prefix(&*self.path).is_some_and(|rest| {
                    // A prefix that ends with a slash ends with a segment.
                    rest.is_empty() || rest.starts_with(b"/") || self.path.ends_with(b"/")
                }),
            }
    }
}

impl From<Key> for Scope {
    fn from(key: Key) -> Self {
        Self(Reach::Key(key))
    }
}

impl From<&Key> for Scope {
    fn from(key: &Key) -> Self {
        Self(Reach::Key(key.clone()))
    }
}

impl From<&Self> for Scope {
    fn from(scope: &Self) -> Self {
        scope.clone()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reach::Key(key) => key.fmt(f),
            Reach::Like(hash) => write!(f, "Key(# {hash:x})"),
            Reach::Uri(UriScope { authority, path, extent }) => {
                let (query, rest) = match extent {
                    Extent::Query(query) => (query.as_deref(), ""),
                    Extent::Queries => (None, " with every query"),
                    Extent::Message(message) => (Some(&**message), " as a message"),
                    Extent::Below => (None, " and all below"),
                    Extent::Beginning => (None, " and all that begins so"),
                };
                write!(f, "{}{rest}", UriParts { path, query, authority: authority.as_deref() })
            }
            Reach::Tag(tag) => write!(f, "Tag({tag})"),
            Reach::Group(GroupScope { authority, name }) => {
                let authority = authority.as_deref().unwrap_or_default();
                write!(f, "Group({name} of {})", authority.escape_ascii())
            }
            Reach::Namespace(namespace) => write!(f, "Namespace({namespace})"),
            Reach::Everything => f.write_str("Everything"),
        }
    }
}

/// The hash of a key, seeded anew in each process.
fn hash(key: &Key) -> u64 {
    static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);
    HASHER.hash_one(key)
}

/// Authority, path and query of a reference such as people write.
#[allow(clippy::type_complexity, reason = "three parts of a URI, taken apart on the spot")]
fn split(reference: &str) -> Result<(Option<Box<[u8]>>, &str, Option<&str>), Error> {
    if let Some(odd) = reference.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(Error::scope(format!("{odd:?} is never part of a request's URI: write it percent-encoded")));
    }
    let (authority, rest) = match reference.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (
                Some(normal_authority(authority.as_bytes(), Some(scheme)).into()),
                if path.is_empty() { "/" } else { path },
            )
        }
        _ => (None, reference),
    };
    if !rest.starts_with('/') {
        return Err(Error::scope("a path begins with a slash"));
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    Ok((authority, path, query))
}

#[cfg(test)]
mod tests;
