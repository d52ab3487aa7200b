//! The body of an answer: pieces with pauses between them, and an end that may be none.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::origin::{Done, Failure, Planned};

pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
    end: End,
    /// Told when all of it was read.
    done: Option<Done>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Fails(Failure),
    Panics,
}

impl Pieces {
    /// A body in one piece, or in several with a pause after each. One that fails does so half-way.
    pub(crate) fn new(body: &Bytes, pieces: usize, pause: Duration, end: End, done: Option<Done>) -> Self {
        let size = body.len().div_ceil(pieces).max(1);
        let length = if end == End::Whole { body.len() } else { body.len() / 2 };
        let left = (0..length).step_by(size).map(|at| body.slice(at..length.min(at + size))).collect();
        let pause = if pieces == 1 { Duration::ZERO } else { pause };
        Self { left, pause, pausing: None, end, done }
    }

    pub(crate) fn empty() -> Self {
        Self::new(&Bytes::new(), 1, Duration::ZERO, End::Whole, None)
    }

    fn tell(&mut self) {
        if let Some(done) = self.done.take() {
            done.tell();
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        if let Some(pausing) = &mut this.pausing {
            ready!(pausing.as_mut().poll(cx));
            this.pausing = None;
        }
        if let Some(piece) = this.left.pop_front() {
            if !this.pause.is_zero() {
                this.pausing = Some(Box::pin(sleep(this.pause)));
            } else if this.is_end_stream() {
                // Nobody asks for more.
                this.tell();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        this.tell();
        match std::mem::replace(&mut this.end, End::Whole) {
            End::Whole => Poll::Ready(None),
            End::Fails(failure) => Poll::Ready(Some(Err(failure))),
            End::Panics => std::panic::panic_any(Planned),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.pausing.is_none() && self.end == End::Whole
    }

    fn size_hint(&self) -> SizeHint {
        // In one piece it is known beforehand, as for most handlers; else nobody knows.
        if self.pause.is_zero() && self.end == End::Whole {
            SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
        } else {
            SizeHint::new()
        }
    }
}
