//! Reads what is to be stored of a response.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use http::{Response, header, response::Parts};

use crate::{
    http::{
        body::{Body, Fill},
        stored::StoredResponse,
        unstored::Omitted,
    },
    protocol::{Captured, Unfilled},
};

/// Reads the body of a response whose head is stored already.
#[derive(Debug)]
pub struct Storing<B: http_body::Body> {
    stored: Option<StoredResponse>,
    omitted: Omitted,
    fill: Fill<B>,
    /// Whether it gets an entity tag if it has none.
    etag: bool,
}

impl<B: http_body::Body> Storing<B> {
    pub(crate) fn new(stored: StoredResponse, omitted: Omitted, fill: Fill<B>, etag: bool) -> Self {
        Self { stored: Some(stored), omitted, fill, etag }
    }

    /// Whether there is less of the body than makes a message, where it is to be one.
    pub(crate) fn is_short(&self) -> bool {
        self.fill.is_short()
    }
}

impl<B: http_body::Body> Future for Storing<B> {
    type Output = Result<StoredResponse, Unfilled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let filled = ready!(self.fill.poll(cx))?;
        let stored = self.stored.take().ok_or(Unfilled::Failed)?;
        let stored = stored.complete(filled.data(), filled.trailers, &self.omitted);
        Poll::Ready(Ok(if self.etag { stored.tag() } else { stored }))
    }
}

/// A response for the one who leads, of which the body is read by what stores it.
pub(crate) fn capture<B: http_body::Body>(
    head: Parts,
    body: Body<B>,
    storing: Storing<B>,
) -> Captured<Response<Body<B>>, StoredResponse, Storing<B>> {
    let mut storing = Box::pin(storing);
    // What is there already is taken at once: a body whole in its first frame is stored before its head is sent.
    match storing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        // Trailers may hold what is not stored.
        Poll::Ready(Ok(stored)) if stored.trailers().is_some() => whole(head, stored, Some(body)),
        Poll::Ready(Ok(stored)) => whole(head, stored, None),
        Poll::Ready(Err(unfilled)) => Captured::Unfit(Response::from_parts(head, body), unfilled),
        Poll::Pending => Captured::Filling(Response::from_parts(head, body), storing),
    }
}

/// A response of which all is there already: with its own body, or with the one that is stored.
pub(crate) fn whole<B: http_body::Body>(
    mut head: Parts,
    stored: StoredResponse,
    body: Option<Body<B>>,
) -> Captured<Response<Body<B>>, StoredResponse, Storing<B>> {
    if let Some(etag) = stored.own_etag() {
        head.headers.insert(header::ETAG, etag.clone());
    }
    let body = body.unwrap_or_else(|| stored.body());
    Captured::Whole(Response::from_parts(head, body), stored)
}
