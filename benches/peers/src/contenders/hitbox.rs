//! hitbox over Moka or Redis, no compression, misses collapsed, stale hits refreshed in a task. Keyed by method and the parameters
//! of the path; every 200 is stored, nothing else is looked at. A hit says that it is one, without an age. JSON is its
//! default format, bincode the fastest of those that are ready to use.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use hitbox::{
    Config,
    backend::CacheBackend,
    concurrency::BroadcastConcurrencyManager,
    offload::OffloadManager,
    policy::{ConcurrencyLimit, PolicyConfig, StalePolicy},
};
pub(super) use hitbox_backend::format::{BincodeFormat, Format, JsonFormat};
use hitbox_http::{
    BufferedBody, CacheableHttpResponse,
    extractors::{Method, path::PathExtractor},
    predicates::{NeutralRequestPredicate, response::StatusCode},
};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use hitbox_tower::Cache;
use http::Request;
use tower::{Layer, ServiceExt};

use super::{Answers, ENTRIES, Life};
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S, life: Life, format: impl Format + Clone + 'static) -> impl Answers {
    let lifetime = if life == Life::Fresh { HOUR } else { Duration::from_millis(1) };
    over(inner, lifetime, MokaBackend::builder().max_entries(ENTRIES).value_format(format).build())
}

pub(super) fn over_redis<S, F>(inner: S, url: &str, format: F) -> impl Answers + use<S, F>
where
    S: Inner,
    F: Format + Clone + 'static,
{
    let backend = RedisBackend::builder()
        .connection(ConnectionMode::single(url))
        // On a machine that is busy with something else its patience would end.
        .response_timeout(Duration::from_secs(5))
        .value_format(format)
        .build();
    over(inner, HOUR, backend.expect("a URL"))
}

fn over<S: Inner>(
    inner: S,
    lifetime: Duration,
    backend: impl CacheBackend + Clone + Send + Sync + 'static,
) -> impl Answers {
    let policy = PolicyConfig::builder()
        // The whole life, and when in it the stale part begins.
        .ttl(2 * HOUR)
        .stale(lifetime)
        .stale_policy(StalePolicy::OffloadRevalidate)
        .concurrency(ConcurrencyLimit::MIN)
        .build();
    let config = Config::builder()
        .request_predicate(NeutralRequestPredicate::new())
        .response_predicate(StatusCode::new(http::StatusCode::OK))
        .extractor(Method::new().path("/quotes/{id}"))
        .policy(policy)
        .build();
    let collapsing = BroadcastConcurrencyManager::<Result<CacheableHttpResponse<Body>, Infallible>>::new();
    let layer = Cache::builder()
        .backend(backend)
        .config(config)
        .concurrency_manager(collapsing)
        .offload(OffloadManager::with_defaults())
        .build();
    // It hands the service a body of its own, where axum would turn it into axum's.
    layer.layer(inner.map_request(|request: Request<BufferedBody<Body>>| request.map(Body::new)))
}
