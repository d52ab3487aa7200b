//! Reads the body of a storable response in the run's own task.
//!
//! What it reads goes to the store and, by a pipe, to the one who leads; so that one streams, and its pace does not matter
//! to the store.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::task::coop;

use crate::{
    grpc::message::{Count, SoFar},
    http::body::{
        in_bytes,
        pipe::{Next, Pipe, Reader},
    },
    interest::Interest,
    protocol::Unfilled,
};

/// A body that is about to be taken apart, and what it gave when it was first asked.
pub(crate) struct Begun<B: http_body::Body> {
    body: Pin<Box<B>>,
    /// What the body said of its length at first.
    hint: SizeHint,
    first: Option<Box<Polled<B>>>,
}

/// What a body gave: a frame, an error, or its end.
type Polled<B> = Option<Result<Frame<Bytes>, <B as http_body::Body>::Error>>;

/// Reads a body for the store.
pub(crate) struct Fill<B: http_body::Body> {
    /// The body, until it is complete or let go.
    body: Option<Pin<Box<B>>>,
    /// What it has given already.
    first: Option<Box<Polled<B>>>,
    /// Whether the body is being read, or panicked as it was.
    reading: bool,
    pipe: Arc<Pipe<B>>,
    cap: usize,
    expected: Expected,
    chunks: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    failed: Option<Unfilled>,
}

/// What makes a body whole when it ends.
#[derive(Debug)]
pub(crate) enum Expected {
    /// That it ends.
    End,
    /// So many bytes.
    Length(u64),
    /// One message of gRPC, or none.
    OneMessage(Count),
}

/// All of a body.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl<B: http_body::Body> Begun<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { hint: body.size_hint(), body: Box::pin(body), first: None }
    }

    /// All of the body, if it is in the first frame and that is there: most bodies are. Nothing has to be taken apart then.
    pub(crate) fn whole(&mut self, cap: usize, expected: &Expected) -> Option<Bytes> {
        let Poll::Ready(first) = self.body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) else {
            return None;
        };
        let first = first.map(|frame| frame.map(in_bytes));
        let data = first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        let is_whole =
            |data: &&Bytes| data.len() <= cap && !expected.is_short_of(data.len()) && self.body.is_end_stream();
        let whole = data.filter(is_whole).cloned();
        if whole.is_none() {
            self.first = Some(Box::new(first));
        }
        whole
    }
}

impl<B: http_body::Body> Fill<B> {
    /// Takes a body apart: one end for the store, one for the one who leads.
    pub(crate) fn new(begun: Begun<B>, cap: usize, expected: Expected, interest: Interest) -> (Self, Reader<B>) {
        let Begun { body, hint, first } = begun;
        let (pipe, reader) = Pipe::new(hint, interest);
        let fill = Self {
            body: Some(body),
            first,
            reading: false,
            pipe,
            cap,
            expected,
            chunks: Vec::new(),
            length: 0,
            trailers: None,
            failed: None,
        };
        (fill, reader)
    }

    /// Reads on, until all of the body is there or it cannot be stored.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Filled, Unfilled>> {
        let this = self;
        loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(match this.failed {
                    Some(unfilled) => Err(unfilled),
                    None => Ok(Filled { chunks: std::mem::take(&mut this.chunks), trailers: this.trailers.take() }),
                });
            };
            let frame = match this.first.take() {
                Some(frame) => *frame,
                None => {
                    this.reading = true;
                    let frame = body.as_mut().poll_frame(cx);
                    this.reading = false;
                    ready!(frame).map(|frame| frame.map(in_bytes))
                }
            };
            let (ended, frame) = match frame {
                None => (true, None),
                Some(Err(error)) => {
                    this.fail(Unfilled::Failed, Next::Failed(error));
                    continue;
                }
                Some(Ok(frame)) => (body.is_end_stream(), Some(frame)),
            };
            // Frames without data tell nobody anything, and count towards no cap.
            if let Some(frame) = frame.filter(|frame| frame.data_ref().is_none_or(|data| !data.is_empty())) {
                if let Some(data) = frame.data_ref() {
                    this.length = this.length.saturating_add(data.len());
                    this.expected.add(data);
                    this.chunks.push(data.clone());
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.trailers = Some(trailers.clone());
                }
                this.pipe.push(frame);
            }
            let unfit = if this.length > this.cap { Some(Unfilled::TooLarge) } else { this.expected.unfit(this.cap) };
            if let Some(unfit) = unfit {
                this.let_go(unfit);
            } else if ended {
                // Less, or more, than was promised: whole it is not. Its reader sees what there is.
                if this.expected.is_short_of(this.length) {
                    this.fail(Unfilled::Failed, Next::End);
                } else {
                    this.body = None;
                    this.pipe.then(Next::End);
                }
            } else {
                // A body that is always ready must not keep its thread for itself.
                ready!(coop::poll_proceed(cx)).made_progress();
            }
        }
    }

    /// Whether there is less than makes a message, where the body is to be one.
    pub(crate) fn is_short(&self) -> bool {
        matches!(&self.expected, Expected::OneMessage(count) if count.so_far(self.cap) == SoFar::Part)
    }

    fn fail(&mut self, unfilled: Unfilled, next: Next<B>) {
        self.body = None;
        self.failed = Some(unfilled);
        self.pipe.then(next);
    }

    fn let_go(&mut self, unfilled: Unfilled) {
        self.failed = Some(unfilled);
        if let Some(body) = self.body.take() {
            self.pipe.then(Next::Rest(body));
        }
    }
}

impl<B: http_body::Body> Drop for Fill<B> {
    fn drop(&mut self) {
        if self.reading {
            self.fail(Unfilled::Failed, Next::Panicked);
        } else {
            self.let_go(Unfilled::Failed);
        }
    }
}

impl Expected {
    fn add(&mut self, data: &[u8]) {
        if let Self::OneMessage(count) = self {
            count.add(data);
        }
    }

    /// Why the body cannot be stored, however it goes on.
    fn unfit(&self, cap: usize) -> Option<Unfilled> {
        let Self::OneMessage(count) = self else { return None };
        match count.so_far(cap) {
            SoFar::Part | SoFar::Whole => None,
            SoFar::TooLarge => Some(Unfilled::TooLarge),
            SoFar::More => Some(Unfilled::Streaming),
        }
    }

    /// Whether a body that ends after so many bytes is not whole.
    fn is_short_of(&self, length: usize) -> bool {
        match self {
            Self::End => false,
            Self::Length(expected) => *expected != length as u64,
            Self::OneMessage(count) => length > 0 && count.so_far(usize::MAX) != SoFar::Whole,
        }
    }
}

impl Filled {
    /// The data in one piece of its exact size, its own memory.
    pub(crate) fn data(&self) -> Bytes {
        Bytes::from(self.chunks.concat())
    }
}

impl<B: http_body::Body> fmt::Debug for Fill<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("read", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[test] // P52, P53
    fn a_body_is_there_at_once_if_it_has_ended_and_fits_and_is_as_long_as_it_was_to_be() {
        let full = || Full::new(Bytes::from("abc"));
        let whole = |cap, expected| Begun::new(full()).whole(cap, &expected);
        assert_eq!(whole(3, Expected::End).as_deref(), Some(&b"abc"[..]));
        assert_eq!(whole(3, Expected::Length(3)).as_deref(), Some(&b"abc"[..]));
        assert_eq!(
            [whole(2, Expected::End), whole(3, Expected::Length(4)), whole(3, Expected::Length(2))],
            [None, None, None]
        );
        let mut goes_on = Begun::new(full().with_trailers(std::future::ready(None)));
        assert_eq!(goes_on.whole(3, &Expected::End), None);
        assert!(goes_on.first.is_some(), "what was read is not lost");
    }
}
