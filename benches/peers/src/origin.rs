//! The handler behind each cache: it answers with the response of all cases, and counts how often it had to.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tower::Service;

use crate::cases;

/// What a cache may be put around.
pub trait Inner:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What the handler does before it answers.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Nothing.
    AtOnce,
    /// It waits for so long.
    After(Duration),
    /// It answers once, and from then on never.
    OnceOnly,
}

/// The handler and the number of its runs.
#[derive(Clone, Debug)]
pub struct Origin {
    runs: Arc<AtomicUsize>,
    body: Bytes,
    manner: Manner,
}

impl Origin {
    /// Answers with a body of so many bytes.
    #[must_use]
    pub fn new(body: usize, manner: Manner) -> Self {
        Self { runs: Arc::default(), body: cases::response(body).into_body(), manner }
    }

    /// How often it was asked.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    /// As a handler in an axum router: the bare axum application, and what every cache is put around.
    pub fn handler(&self) -> impl Inner + use<> {
        let origin = self.clone();
        let handler = match self.manner {
            // As the bare handler of the other benches, but for the counter.
            Manner::AtOnce => get(move || {
                origin.runs.fetch_add(1, Ordering::Relaxed);
                async move { (cases::headers(), origin.body) }
            }),
            _ => get(move || origin.answer()),
        };
        Router::new().route("/quotes/{id}", handler).into_service::<Body>()
    }

    async fn answer(self) -> (HeaderMap, Bytes) {
        let earlier = self.runs.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::AtOnce => {}
            Manner::After(time) => tokio::time::sleep(time).await,
            Manner::OnceOnly if earlier > 0 => pending().await,
            Manner::OnceOnly => {}
        }
        (cases::headers(), self.body)
    }
}
