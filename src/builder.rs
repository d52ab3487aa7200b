//! What is set of a cache before there is one.

use std::sync::Arc;

use crate::{
    cache::Cache,
    codec::Codec,
    http::Packed,
    store::{Store, tier::Tier},
};

/// Sets up a [`Cache`]. From [`Cache::builder`]. `S` is the store behind its memory, if it is to have one.
#[derive(Debug)]
#[must_use]
pub struct CacheBuilder<S = ()> {
    memory: usize,
    max_refreshes: usize,
    store: S,
}

impl<S> CacheBuilder<S> {
    /// How much memory responses may take, in bytes, with all that is known about them; default 64 MiB. Tables, and what
    /// is under way, come to a quarter more at most. It is divided into parts of 8 MiB and more: a single response that is
    /// larger than seven eighths of such a part, or of the whole where that is less, is not stored.
    ///
    /// 0 is for a cache with a [store](CacheBuilder::store) alone: memory keeps no response then, and every read asks that.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How many background refreshes run at a time; default 64. Over it a refresh is dropped and counted. A layer among
    /// others never holds more of them than are left free for the others.
    pub fn max_refreshes(mut self, refreshes: usize) -> Self {
        self.max_refreshes = refreshes;
        self
    }
}

impl CacheBuilder {
    /// Puts a store behind the memory, which several caches share: what one of them has made the others find there instead
    /// of calling their service.
    ///
    /// A hit does not ask the store, as long as this cache hears what the others invalidate. A run asks it first: of several
    /// caches one runs for a key, and the others wait for that. One request waits no longer than 100 ms for the store, all
    /// that is asked for its sake taken together. What a run makes is saved when everybody has it. If the store fails, that
    /// is counted ([`Stats::store_failures`](crate::Stats::store_failures)) and told as a warning (feature `tracing`), and the service is called as
    /// without it.
    ///
    /// An invalidation reaches the store, and the memory of every cache that shares it. When it returns `Ok` the shared part
    /// is done; the memory of other processes follows within one message.
    ///
    /// Caches that share a store are one cache, as instances of one program are: what a layer of one has stored a layer of
    /// another answers with, if their rules are the same. Where they nest in one process the outer one stores, as with layers
    /// of one cache. A program that stands in front of others, or answers otherwise, belongs in a store of its own (with Redis:
    /// under another prefix); and typed layers for different things need different keys.
    ///
    /// With [`memory(0)`](Self::memory) every read asks the store, and nothing is served that it did not vouch for when it was
    /// asked. If the store fails the service is called.
    pub fn store(self, store: impl Store) -> CacheBuilder<Arc<dyn Store>> {
        let Self { memory, max_refreshes, store: () } = self;
        CacheBuilder { memory, max_refreshes, store: Arc::new(store) }
    }

    /// The cache, for typed layers with responses of this type (see [`CachebackLayer::over_cache`](crate::CachebackLayer::over_cache)).
    #[must_use]
    pub fn build_for<V: Send + Sync + 'static>(self) -> Cache<V> {
        let Self { memory, max_refreshes, store: () } = self;
        Cache::of(memory, max_refreshes, |_, _| None)
    }

    /// The cache.
    #[must_use]
    pub fn build(self) -> Cache {
        self.build_for()
    }
}

impl CacheBuilder<Arc<dyn Store>> {
    /// The cache, for typed layers with responses of this type (see [`CachebackLayer::over_cache`](crate::CachebackLayer::over_cache)). The codec makes bytes
    /// of them.
    #[must_use]
    pub fn build_for<V: Send + Sync + 'static>(self, codec: impl Codec<V>) -> Cache<V> {
        let Self { memory, max_refreshes, store } = self;
        let tier = |telemetry: &_, listener| Some(Tier::new(store, codec, Arc::clone(telemetry), listener));
        Cache::of(memory, max_refreshes, tier)
    }

    /// The cache.
    #[must_use]
    pub fn build(self) -> Cache {
        self.build_for(Packed)
    }
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self { memory: 64 << 20, max_refreshes: 64, store: () }
    }
}
