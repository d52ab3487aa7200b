//! One response for everybody: a service that clones it and does nothing else. What a server over sockets costs by itself.

use std::{convert::Infallible, future::ready};

use http_body_util::Full;
use tower::service_fn;

use super::Answers;
use crate::cases::{KIB, response};

pub(super) fn service() -> impl Answers {
    let response = response(KIB).map(Full::new);
    service_fn(move |_| ready(Ok::<_, Infallible>(response.clone())))
}
