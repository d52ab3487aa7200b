//! cacheback as it is set when nobody sets anything, but for room for all that the cases store: application mode with
//! every check of the request and the response, `Age` and `Cache-Status` on every hit. Over Redis it keeps nothing in
//! memory and verifies on each read that nothing it names was invalidated.

use std::time::Duration;

use cacheback::{Cache, Freshness, RedisStore};
use tower::Layer;

use super::{Answers, Life};
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S, life: Life) -> impl Answers {
    let lifetime = if life == Life::Fresh { HOUR } else { Duration::ZERO };
    Cache::builder().memory(256 << 20).build().layer(Freshness::new(lifetime)).layer(inner)
}

pub(super) async fn over_redis<S: Inner>(inner: S, url: &str) -> impl Answers + use<S> {
    // A machine that is busy with something else is not to be measured.
    let store = RedisStore::builder().url(url).patience(Duration::from_secs(5)).connect().await.expect("a server");
    Cache::builder().memory(0).store(store).build().layer(Freshness::new(HOUR)).layer(inner)
}
