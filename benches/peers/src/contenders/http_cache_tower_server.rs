//! http-cache-tower-server over its Moka manager, told to store what states no freshness of its own. Keyed by method and
//! path. It collapses no misses and serves nothing stale; a hit says so, without an age.

use http_cache::{MokaCache, MokaManager};
use http_cache_tower_server::{ServerCacheLayer, ServerCacheOptions};
use tower::Layer;

use super::{Answers, ENTRIES};
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S) -> impl Answers {
    let options =
        ServerCacheOptions { default_ttl: Some(HOUR), cache_by_default: true, ..ServerCacheOptions::default() };
    ServerCacheLayer::new(MokaManager::new(MokaCache::new(ENTRIES))).with_options(options).layer(inner)
}
