//! What layers over HTTP's messages are told alike, gRPC's among them.

use http::{HeaderName, request::Parts};

use crate::{
    http::{
        announcing::StatusName,
        rules::{KeyBy, KeyRules},
    },
    layer::CachebackLayer,
    protocol::Protocol,
};

/// A protocol over HTTP's messages: [`Http`](crate::Http) or [`Grpc`](crate::Grpc).
pub trait OverHttp: Protocol + Clone {
    #[doc(hidden)]
    fn rules(&mut self) -> &mut KeyRules;

    #[doc(hidden)]
    fn name(&mut self) -> &mut StatusName;

    #[doc(hidden)]
    fn body_cap(&mut self) -> &mut usize;

    #[doc(hidden)]
    fn enabled(&mut self) -> &mut bool;
}

/// # HTTP and gRPC alike
impl<P: OverHttp> CachebackLayer<P> {
    /// Keeps the entries of this layer apart from those of all layers with another namespace.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        let namespace = namespace.into().into();
        self.rules(|rules| rules.namespace = Some(namespace))
    }

    /// Makes part of the key what a function finds in the request's head: a user, a tenant, a locale from an extension
    /// that a layer further out has set. A request for which it finds `None` goes past the cache.
    ///
    /// The function vouches for the request's credentials and cookies: requests that carry some are looked up under what
    /// it returns, and all who share that share the responses.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::CachebackLayer;
    ///
    /// #[derive(Clone)]
    /// struct Tenant(u64);
    ///
    /// let layer = CachebackLayer::new(Duration::from_secs(60))
    ///     .key_by(|request| Some(request.extensions.get::<Tenant>()?.0.to_be_bytes().to_vec()));
    /// ```
    pub fn key_by(self, key: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        self.rules(|rules| rules.key_by = Some(KeyBy::new(key)))
    }

    /// The largest body that is stored, in bytes; default 1 MiB. A larger one streams past. Memory is divided into parts,
    /// and no response is larger than one (see [`CacheBuilder::memory`](crate::CacheBuilder::memory)).
    pub fn body_cap(self, bytes: usize) -> Self {
        self.set_protocol(|protocol| *protocol.body_cap() = bytes)
    }

    /// Whether the layer does anything; default yes. If not it is a pass-through that touches nothing and purges nothing.
    pub fn enabled(self, enabled: bool) -> Self {
        self.set_protocol(|protocol| *protocol.enabled() = enabled)
    }

    /// The name of this cache in `Cache-Status` (RFC 9211); default `cacheback`. `None` leaves the field out.
    ///
    /// # Panics
    ///
    /// If the name is no token of structured fields (RFC 9651 §3.3.4): a letter or `*`, then letters, digits and
    /// ``!#$%&'*+-.^_`|~:/``.
    #[track_caller]
    pub fn cache_status<'a>(self, name: impl Into<Option<&'a str>>) -> Self {
        let name = name.into();
        if let Some(name) = name {
            let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            assert!(starts && name.bytes().all(is_token), "cache_status({name:?}): that is no token");
        }
        let name = name.map(Into::into);
        self.set_protocol(|protocol| protocol.name().0 = name)
    }

    pub(crate) fn rules(self, change: impl FnOnce(&mut KeyRules)) -> Self {
        self.set_protocol(|protocol| {
            let rules = protocol.rules();
            change(rules);
            rules.derive();
        })
    }
}

#[track_caller]
pub(crate) fn field_name(name: impl TryInto<HeaderName>, setter: &str) -> HeaderName {
    let Ok(name) = name.try_into() else { panic!("{setter}: that is no name of a header field") };
    name
}
