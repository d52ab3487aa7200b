//! An axum router, asked in process.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use cacheback::Outcome;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use tower::ServiceExt;

/// What a client sees of a response, all of it read.
#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub outcome: Outcome,
    pub text: String,
}

pub fn request(method: Method, path: &str) -> Request {
    http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

/// A GET.
pub fn get(app: &Router, path: &str) -> impl Future<Output = Seen> + Send + use<> {
    send(app, request(Method::GET, path))
}

pub fn send(app: &Router, request: Request) -> impl Future<Output = Seen> + Send + use<> {
    let app = app.clone();
    async move {
        let response = app.oneshot(request).await.unwrap_or_else(|never| match never {});
        let (head, body) = response.into_parts();
        let text = axum::body::to_bytes(body, usize::MAX).await.expect("a body to its end");
        Seen {
            status: head.status,
            headers: head.headers,
            outcome: *head.extensions.get::<Outcome>().expect("every response carries its outcome"),
            text: String::from_utf8(text.to_vec()).unwrap(),
        }
    }
}

/// A body that does not say how long it is: these chunks, then its end; or nothing more for ever.
pub fn chunks(chunks: impl IntoIterator<Item = Vec<u8>>, ends: bool) -> Body {
    Body::new(Chunks { left: chunks.into_iter().map(Bytes::from).collect(), ends })
}

struct Chunks {
    left: VecDeque<Bytes>,
    ends: bool,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.left.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
