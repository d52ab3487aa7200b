//! What the tests ask, whom, and what they see of the answer.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, Uri},
};
use bytes::Bytes;
use cacheback::{CacheStatus, CachebackLayer, Outcome};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::support::net::infallible;

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) async fn of<B>(response: http::Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the body is whole").to_bytes();
        let outcome = head.extensions.get::<Outcome>().copied();
        let body = String::from_utf8_lossy(&body).into_owned();
        Self { status: head.status, headers: head.headers, outcome, body }
    }

    pub(crate) fn header(&self, name: impl AsRef<str>) -> &str {
        self.headers.get(name.as_ref()).map_or("", |value| value.to_str().expect("a legible field"))
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.expect("every response that passes the layer carries its outcome")
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.outcome().status() == CacheStatus::Hit
    }

    pub(crate) fn age(&self) -> u64 {
        self.header("age").parse().unwrap_or(0)
    }
}

/// A GET without anything else.
pub(crate) fn to(uri: &str) -> Request {
    Request::get(uri).body(Body::empty()).expect("a sound request")
}

/// What a router answers.
pub(crate) async fn ask(app: &Router, uri: &str) -> Seen {
    tell(app, to(uri)).await
}

pub(crate) async fn tell(app: &Router, request: Request) -> Seen {
    Seen::of(infallible(app.clone().oneshot(request).await)).await
}

/// A handler that counts its runs and says which one it is, and which path it saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Arc<AtomicUsize>);

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }
}

pub(crate) async fn count(State(runs): State<Runs>, uri: Uri) -> String {
    format!("run {} of {uri}", runs.next())
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn minute() -> CachebackLayer {
    CachebackLayer::new(secs(60))
}

/// Asks twice: the first request runs, the second is answered from memory.
pub(crate) async fn second_is_a_hit(app: &Router, uri: &str) -> Seen {
    let first = ask(app, uri).await;
    assert!(!first.is_hit(), "{first:?}");
    let second = ask(app, uri).await;
    assert!(second.is_hit(), "{second:?}");
    assert_eq!(second.body, first.body);
    second
}
