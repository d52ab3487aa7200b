//! What belongs to a gRPC layer: its methods, its key, what it reads and stores.

use std::sync::Arc;

use http::HeaderName;

use crate::{
    freshness::Freshness,
    grpc::{Grpc, rules},
    http::common::field_name,
    layer::CachebackLayer,
};

impl CachebackLayer<Grpc> {
    /// Caches the calls of a unary method, whose answers live for so long. A `Duration` is a lifetime with the windows of
    /// [`Freshness::new`]. Methods that are not listed are not cached.
    ///
    /// # Panics
    ///
    /// If it is no method: those have paths such as `/quotes.Quotes/Get`.
    #[track_caller]
    pub fn method(self, path: &str, freshness: impl Into<Freshness>) -> Self {
        assert!(rules::is_method(path), "method({path:?}): the path of a method is like /package.Service/Method");
        let freshness = freshness.into();
        self.set_protocol(|grpc| {
            Arc::make_mut(&mut grpc.methods).insert(path.into(), freshness);
        })
    }

    /// Makes a field of metadata part of the key, with all of its values; binary ones (`-bin`) too. A credential is covered
    /// by that: calls that carry it are cached, each value for itself. The service sees the field.
    ///
    /// # Panics
    ///
    /// If it is no name of a field.
    #[track_caller]
    pub fn key_metadata<N>(self, name: N) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let name = field_name(name, "key_metadata");
        self.rules(|rules| rules.key_headers.push(name))
    }

    /// Takes a field of metadata for a credential, beside those that are known as such (see
    /// [`credential_header`](CachebackLayer::credential_header), whose list this is).
    ///
    /// # Panics
    ///
    /// If it is no name of a field.
    #[track_caller]
    pub fn credential_metadata<N>(self, name: N) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let name = field_name(name, "credential_metadata");
        self.rules(|rules| rules.credentials.push(name))
    }

    /// The largest message of a request that is read and looked up, in bytes; default 64 KiB. A call with a larger one goes
    /// past the cache, and nothing of it is kept. A message is part of its key, and takes that much memory with its answer.
    pub fn message_cap(self, bytes: usize) -> Self {
        self.set_protocol(|grpc| grpc.message_cap = bytes)
    }
}
