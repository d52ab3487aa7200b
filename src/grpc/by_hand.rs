//! Calls and answers made by hand, for [`put`](crate::CachebackLayer::put), [`explain`](crate::CachebackLayer::explain)
//! and tests.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header::CONTENT_TYPE};
use http_body::Frame;

use crate::{
    error::Error,
    grpc::{rules, statuses::GRPC_STATUS},
};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A message as it lies on the wire: not compressed, with its five bytes before it.
///
/// ```
/// assert_eq!(cacheback::grpc::frame(b"abc")[..], *b"\0\0\0\0\x03abc");
/// ```
///
/// # Panics
///
/// If it is longer than 4 GiB, which no message is.
#[must_use]
pub fn frame(message: impl AsRef<[u8]>) -> Bytes {
    let message = message.as_ref();
    let length = u32::try_from(message.len()).expect("a message is no longer than 4 GiB");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

/// A call of a method, such as a client makes it: `http://example.org/quotes.Quotes/Get`, or the path alone. The authority
/// is part of the key: give it the one that clients ask. So is what they read: this is a client that reads no compressed
/// messages, as those of tonic by default. Others read some, and say so (Python's do); for those give it their
/// `grpc-accept-encoding`, such as `identity, deflate, gzip`.
///
/// ```
/// use std::time::Duration;
/// use cacheback::{CacheStatus, CachebackLayer, grpc};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cacheback::Error> {
/// let layer = CachebackLayer::grpc().method("/quotes.Quotes/Get", Duration::from_secs(60));
/// let call = || grpc::call("http://example.org/quotes.Quotes/Get", b"\x0a\x04ACME");
/// layer.put(call()?, grpc::answer(b"\x10\x2a")).await?;
/// assert_eq!(layer.explain(call()?).await.outcome().status(), CacheStatus::Hit);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Scope`](crate::ErrorKind::Scope) if that is no method's.
pub fn call(method: &str, message: impl AsRef<[u8]>) -> Result<Request<Whole>, Error> {
    let uri = method.parse::<Uri>().ok().filter(|uri| rules::is_method(uri.path()) && uri.query().is_none());
    let uri = uri.ok_or_else(|| Error::scope("the path of a method is like /package.Service/Method"))?;
    let mut call = Request::new(Whole::of(frame(message)));
    (*call.method_mut(), *call.uri_mut()) = (Method::POST, uri);
    call.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(call)
}

/// A good answer with one message, such as a service gives it.
#[must_use]
pub fn answer(message: impl AsRef<[u8]>) -> Response<Whole> {
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut answer = Response::new(Whole { data: Some(frame(message)), trailers: Some(trailers) });
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer
}

/// A body of which all is there.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// These bytes, whatever they are, and nothing after them: for tests of what is no message.
    #[must_use]
    pub fn of(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()), trailers: None }
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let next = self.data.take().map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(next.map(Ok))
    }
}
