//! What a handler says about its own response beside the response's fields, and what layers say to one another.

use std::{mem, sync::Arc, time::Duration};

use http::{Extensions, StatusCode};
use smallvec::SmallVec;

use crate::{freshness::Freshness, http::audit::Probe, status::Outcome};

/// Says that a response must not be stored, nor given to anyone else who waits for it.
///
/// [`Tags`](crate::Tags), [`Freshness`] and this are parts of an axum response (feature `axum`), and extensions of a
/// response everywhere else:
///
/// ```
/// # #[cfg(feature = "axum")] mod axum_only {
/// use std::time::Duration;
/// use axum::{Json, response::IntoResponse};
/// use cacheback::{Freshness, NoStore, Tags};
///
/// async fn quotes() -> impl IntoResponse {
///     (Tags::new(["quotes"]), Freshness::new(Duration::from_secs(9)), Json([1, 2, 3]))
/// }
///
/// async fn lottery() -> impl IntoResponse {
///     (NoStore, "17")
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStore;

/// In the extensions of a request: it is answered by a new run, whatever is stored, and the response is stored as that of
/// any other run. That is how code in the same process warms a cache; no field of a request can ask for it. The host is
/// part of the key: a request that warms a page has the one that clients ask for, in its URI or in `Host`.
///
/// The run starts after the request has come: one that is under way already does not count. Requests of this kind that
/// wait together share one run. What the run answers is the answer, a failure too; a failure leaves what is stored as it is.
///
/// ```
/// # #[cfg(feature = "axum")] mod axum_only {
/// use axum::{Router, body::Body, http::{Request, StatusCode}};
/// use cacheback::ForceRefresh;
/// use tower::ServiceExt;
///
/// async fn warm(app: Router) -> StatusCode {
///     let request = Request::get("http://example.org/quotes/42").extension(ForceRefresh).body(Body::empty());
///     app.oneshot(request.expect("a request")).await.expect("a router never fails").status()
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForceRefresh;

/// In the extensions of a request: it is re-run behind a reader who was answered already, and nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background;

/// What an inner layer of the same cache says about a response, for the outer one that stores it.
#[derive(Clone, Debug)]
pub struct Contribution {
    pub(crate) freshness: Freshness,
    pub(crate) negative: Arc<[(StatusCode, Freshness)]>,
}

/// In the extensions of a request, what layers further out say to those further in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches {
    /// These caches are about to store its response under these key rules.
    storing: SmallVec<[(usize, Arc<[u8]>); 1]>,
    /// It is run for an audit.
    pub(crate) probe: Option<Probe>,
}

impl Contribution {
    pub(crate) fn of(freshness: Freshness) -> Self {
        Self { freshness, negative: Arc::new([]) }
    }
}

impl Caches {
    pub(crate) fn push(&mut self, cache: usize, rules: &Arc<[u8]>) {
        self.storing.push((cache, Arc::clone(rules)));
    }

    /// The rules under which this cache is about to store the response, if it is.
    pub(crate) fn rules_of(&self, cache: usize) -> Option<&[u8]> {
        self.storing.iter().find(|(other, _)| *other == cache).map(|(_, rules)| &**rules)
    }
}

#[cfg(feature = "axum")]
mod axum_parts {
    use std::convert::Infallible;

    use axum::response::{IntoResponseParts, ResponseParts};

    use super::NoStore;
    use crate::{freshness::Freshness, tags::Tags};

    macro_rules! extension_of_the_response {
        ($($part:ty),*) => {$(
            impl IntoResponseParts for $part {
                type Error = Infallible;

                fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
                    response.extensions_mut().insert(self);
                    Ok(response)
                }
            }
        )*};
    }

    extension_of_the_response!(Freshness, NoStore, Tags);
}

/// What of a request's extensions its response can use: the map, emptied. One that says what happened needs one.
pub(crate) fn emptied(extensions: &mut Extensions) -> Extensions {
    let mut emptied = mem::take(extensions);
    emptied.clear();
    emptied
}

/// How long a layer of another cache further out is told that a stored response lives. Stale here is stale there, also where
/// it was expired by hand or lives for less than `Age` can say.
pub(crate) fn told_further_out(freshness: &Freshness, age: Duration, outcome: Outcome) -> Freshness {
    let told = Duration::from_secs(age.as_secs());
    let lifetime = freshness.lifetime();
    freshness.with_lifetime(if outcome.is_stale() { lifetime.min(told) } else { lifetime })
}
