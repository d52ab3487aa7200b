//! cacheback as it is set when nobody sets anything, but for room for all that the cases store: application mode with
//! every check of the request and the response, `Age` and `Cache-Status` on every hit.

use std::time::Duration;

use cacheback::{Cache, Freshness};
use tower::Layer;

use super::{Answers, Life};
use crate::{cases::HOUR, origin::Inner};

pub(super) fn around<S: Inner>(inner: S, life: Life) -> impl Answers {
    let lifetime = if life == Life::Fresh { HOUR } else { Duration::ZERO };
    Cache::builder().memory(256 << 20).build().layer(Freshness::new(lifetime)).layer(inner)
}
