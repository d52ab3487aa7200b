//! What a fill has read of a body and its reader has not.
//!
//! When the fill ends early (over the cap, out of time) it puts the rest of the body itself into the pipe: from then on the
//! reader polls it directly, at its own pace, and sees what it would have seen without the layer.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{http::body::in_bytes, interest::Interest};

/// The reader's end of a pipe.
pub(crate) struct Reader<B: http_body::Body> {
    pipe: Arc<Pipe<B>>,
    /// The body itself, once the fill has let go of it.
    direct: Option<Pin<Box<B>>>,
    /// What the body said of its length at first.
    hint: SizeHint,
    read: u64,
    /// As long as somebody reads, somebody wants the run.
    interest: Option<Interest>,
}

/// What a fill has read and its reader has not.
pub(crate) struct Pipe<B: http_body::Body>(Mutex<Flow<B>>);

struct Flow<B: http_body::Body> {
    frames: VecDeque<Frame<Bytes>>,
    next: Next<B>,
    /// Nobody reads any more: what is read is for the store alone.
    abandoned: bool,
    reader: Option<Waker>,
}

/// What comes after the frames.
pub(crate) enum Next<B: http_body::Body> {
    More,
    Rest(Pin<Box<B>>),
    End,
    Failed(B::Error),
    /// The body panicked while it was read: it is not to be read again.
    Panicked,
}

impl<B: http_body::Body> Reader<B> {
    pub(crate) fn detach(&mut self) {
        if let Some(interest) = self.interest.take() {
            interest.keep();
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            if let Some(body) = &mut self.direct {
                return body.as_mut().poll_frame(cx).map(|next| next.map(|frame| frame.map(in_bytes)));
            }
            let mut flow = self.pipe.lock();
            if let Some(frame) = flow.frames.pop_front() {
                self.read += frame.data_ref().map_or(0, |data| data.len() as u64);
                return Poll::Ready(Some(Ok(frame)));
            }
            match std::mem::replace(&mut flow.next, Next::End) {
                Next::More => {
                    flow.next = Next::More;
                    flow.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Next::Rest(body) => self.direct = Some(body),
                Next::End => return Poll::Ready(None),
                Next::Failed(error) => return Poll::Ready(Some(Err(error))),
                // The run has reported the panic itself; its reader must not take what there is for all of it.
                Next::Panicked => resume_unwind(Box::new("the body of the response panicked")),
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        if let Some(body) = &self.direct {
            return body.is_end_stream();
        }
        let flow = self.pipe.lock();
        flow.frames.is_empty() && matches!(flow.next, Next::End)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if let Some(body) = &self.direct {
            return body.size_hint();
        }
        let mut left = SizeHint::new();
        left.set_lower(self.hint.lower().saturating_sub(self.read));
        if let Some(upper) = self.hint.upper() {
            left.set_upper(upper.saturating_sub(self.read));
        }
        left
    }
}

impl<B: http_body::Body> Drop for Reader<B> {
    fn drop(&mut self) {
        let mut flow = self.pipe.lock();
        flow.abandoned = true;
        let left = (std::mem::take(&mut flow.frames), std::mem::replace(&mut flow.next, Next::End));
        drop(flow);
        drop(left);
    }
}

impl<B: http_body::Body> Pipe<B> {
    /// A pipe, and the end that reads from it what the body gives that said this of its length.
    pub(crate) fn new(hint: SizeHint, interest: Interest) -> (Arc<Self>, Reader<B>) {
        let flow = Flow { frames: VecDeque::new(), next: Next::More, abandoned: false, reader: None };
        let pipe = Arc::new(Self(Mutex::new(flow)));
        let reader = Reader { pipe: Arc::clone(&pipe), direct: None, hint, read: 0, interest: Some(interest) };
        (pipe, reader)
    }

    pub(crate) fn push(&self, frame: Frame<Bytes>) {
        let mut flow = self.lock();
        if !flow.abandoned {
            flow.frames.push_back(frame);
        }
        flow.wake();
    }

    pub(crate) fn then(&self, next: Next<B>) {
        let mut flow = self.lock();
        // An abandoned body is dropped, outside the lock.
        let dropped = if flow.abandoned { next } else { std::mem::replace(&mut flow.next, next) };
        flow.wake();
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Flow<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

trait Wake {
    /// Releases the lock, then wakes the reader.
    fn wake(self);
}

impl<B: http_body::Body> Wake for MutexGuard<'_, Flow<B>> {
    fn wake(mut self) {
        let reader = self.reader.take();
        drop(self);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
