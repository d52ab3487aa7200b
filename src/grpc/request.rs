//! The body of a call: its one message, read before the call is looked up, or what was read and then the rest.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::task::{self, coop};

use crate::{
    clock,
    grpc::message::{Count, PREFIX, SoFar},
    http::body::in_bytes,
    status::Detail,
};

/// How long a client may keep silent in the middle of a unary call. One that is silent for longer is taken for one that
/// streams, and that may be waiting for an answer before it goes on.
const PATIENCE: Duration = Duration::from_millis(50);

/// The body of a request that passed a gRPC layer; `B` is the one that it came with.
///
/// Its data are `Bytes`, its errors those of `B`.
pub struct RequestBody<B: http_body::Body> {
    read: Bytes,
    rest: Rest<B>,
}

/// What comes after what was read.
enum Rest<B: http_body::Body> {
    Body(B),
    Trailers(HeaderMap),
    Failed(B::Error),
    End,
}

/// Reads one message, and that it is the only one.
pub(crate) struct Reading<B: http_body::Body> {
    body: RequestBody<B>,
    /// All that was read, where it came in more than one piece.
    pieces: BytesMut,
    count: Count,
    cap: usize,
}

impl<B: http_body::Body> RequestBody<B> {
    /// All of it as it came.
    pub(crate) fn unread(body: B) -> Self {
        Self { read: Bytes::new(), rest: Rest::Body(body) }
    }

    /// The message that was read.
    pub(crate) fn message(&self) -> &[u8] {
        self.read.get(PREFIX..).unwrap_or_default()
    }

    /// Whether the message that was read is compressed; `None` if its first byte says neither.
    pub(crate) fn is_compressed(&self) -> Option<bool> {
        match self.read.first() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        }
    }
}

impl<B: http_body::Body + Unpin> Reading<B> {
    pub(crate) fn of(body: B, cap: usize) -> Self {
        Self { body: RequestBody::unread(body), pieces: BytesMut::new(), count: Count::default(), cap }
    }

    /// Reads as much as is there.
    pub(crate) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Detail>> {
        loop {
            if let Some(end) = ready!(self.poll_some(cx)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Reads on for as long as the client goes on.
    pub(crate) async fn all(&mut self) -> Result<(), Detail> {
        loop {
            let some = match clock::timeout(PATIENCE, poll_fn(|cx| self.poll_some(cx))).await {
                Some(some) => some,
                None => {
                    // It may be this thread that is late: what has come meanwhile is a turn of its connection away.
                    task::yield_now().await;
                    let some = poll_fn(|cx| Poll::Ready(self.poll_some(cx))).await;
                    let Poll::Ready(some) = some else { return Err(Detail::Streaming) };
                    some
                }
            };
            if let Some(end) = some {
                return end;
            }
        }
    }

    /// Reads one frame: how it ends, if it does. Without an error there is one message, all of it, and nothing more.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Detail>>> {
        // A body that is always ready must not keep its thread for itself.
        let turn = ready!(coop::poll_proceed(cx));
        let Rest::Body(body) = &mut self.body.rest else { return Poll::Ready(Some(Err(Detail::BodyFailed))) };
        let frame = ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map(in_bytes));
        turn.made_progress();
        let end = match frame {
            None => {
                self.body.rest = Rest::End;
                Some(if self.count.so_far(self.cap) == SoFar::Whole { Ok(()) } else { Err(Detail::BodyFailed) })
            }
            Some(Err(error)) => {
                self.body.rest = Rest::Failed(error);
                Some(Err(Detail::BodyFailed))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.add(data);
                    match self.count.so_far(self.cap) {
                        SoFar::Part | SoFar::Whole => None,
                        SoFar::TooLarge => Some(Err(Detail::TooLarge)),
                        SoFar::More => Some(Err(Detail::Streaming)),
                    }
                }
                Err(frame) => {
                    // No client of gRPC sends any.
                    self.body.rest = frame.into_trailers().map_or(Rest::End, Rest::Trailers);
                    Some(Err(Detail::Streaming))
                }
            },
        };
        Poll::Ready(end)
    }

    fn add(&mut self, data: Bytes) {
        self.count.add(&data);
        if !self.pieces.is_empty() {
            self.pieces.extend_from_slice(&data);
        } else if self.body.read.is_empty() {
            self.body.read = data;
        } else if !data.is_empty() {
            self.pieces.extend_from_slice(&mem::take(&mut self.body.read));
            self.pieces.extend_from_slice(&data);
        }
    }

    /// What was read, and then the rest.
    pub(crate) fn into_body(mut self) -> RequestBody<B> {
        if !self.pieces.is_empty() {
            self.body.read = self.pieces.freeze();
        }
        self.body
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.read)))));
        }
        if let Rest::Body(body) = &mut self.rest {
            let next = Pin::new(body).poll_frame(cx);
            return next.map(|next| next.map(|frame| frame.map(in_bytes)));
        }
        Poll::Ready(match mem::replace(&mut self.rest, Rest::End) {
            Rest::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Rest::Failed(error) => Some(Err(error)),
            Rest::Body(_) | Rest::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty()
            && match &self.rest {
                Rest::Body(body) => body.is_end_stream(),
                Rest::Trailers(_) | Rest::Failed(_) => false,
                Rest::End => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.len() as u64;
        let mut hint = match &self.rest {
            Rest::Body(body) => body.size_hint(),
            Rest::Trailers(_) | Rest::Failed(_) | Rest::End => SizeHint::with_exact(0),
        };
        let upper = hint.upper().and_then(|upper| upper.checked_add(read));
        let lower = hint.lower().saturating_add(read);
        hint = SizeHint::new();
        hint.set_lower(lower);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}

// Nothing is pinned: a body that is read here can be moved.
impl<B: http_body::Body> Unpin for RequestBody<B> {}

impl<B: http_body::Body> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("read", &self.read.len()).finish_non_exhaustive()
    }
}
