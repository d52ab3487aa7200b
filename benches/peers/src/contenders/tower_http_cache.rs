//! tower-http-cache over its memory or its Redis backend, no compression, no tags, no automatic refreshes: each would cost a hit
//! something. Keyed by path and query. A hit tells neither its age nor that it is one.
//!
//! It takes bodies only that threads may share a reference to, which axum's is not: a miss, and nothing else, goes through
//! a small adapter.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use redis::aio::ConnectionManagerConfig;
use sync_wrapper::SyncWrapper;
use tower::{Layer, ServiceExt};
use tower_http_cache::prelude::{CacheBackend, CacheLayer, InMemoryBackend, RedisBackend};

use super::{Answers, ENTRIES, Life};
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S, life: Life) -> impl Answers {
    let lifetime = if life == Life::Fresh { HOUR } else { Duration::from_nanos(1) };
    over(inner, lifetime, InMemoryBackend::new(ENTRIES))
}

/// Patient, as its documentation advises.
pub(super) async fn over_redis<S: Inner>(inner: S, url: &str) -> impl Answers + use<S> {
    let patient = ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let client = redis::Client::open(url).expect("a URL");
    let connection = client.get_connection_manager_with_config(patient).await.expect("a server");
    over(inner, HOUR, RedisBackend::new(connection))
}

fn over<S: Inner>(inner: S, lifetime: Duration, backend: impl CacheBackend) -> impl Answers {
    CacheLayer::builder(backend)
        .ttl(lifetime)
        .stale_while_revalidate(HOUR)
        .build()
        .layer(inner.map_response(|response| response.map(Shared::new)))
}

/// axum's body, with what is asked of it by reference kept beside it.
struct Shared {
    body: SyncWrapper<Body>,
    size: SizeHint,
    ended: bool,
}

impl Shared {
    fn new(body: Body) -> Self {
        Self { size: body.size_hint(), ended: body.is_end_stream(), body: SyncWrapper::new(body) }
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = self.body.get_mut();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        (self.size, self.ended) = (body.size_hint(), body.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
