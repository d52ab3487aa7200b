//! axum-response-cache as its documentation shows it: one lifespan, keyed by method and URI. It knows no `Cache-Control`
//! and no `Vary`, collapses no misses, serves nothing stale while it refreshes, and tells no age unless it is asked to. On a
//! hit, too, it calls what it is around, though it does not await the answer: around a cheaper service than a router it
//! costs half as much.

use axum_response_cache::CacheLayer;
use tower::Layer;

use super::Answers;
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S) -> impl Answers {
    CacheLayer::with_lifespan(HOUR).layer(inner)
}
