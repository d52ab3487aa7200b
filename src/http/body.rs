//! The body of a response: stored, passed through, or read by the run's task ahead of its first reader.
//!
//! The body of a storable response is read by a [`Fill`] in the run's own task. What it reads goes to the store and, by
//! a pipe, to the one who leads; so that one streams, and its pace does not matter to the store. When the fill ends
//! early (over the cap, out of time) it puts the rest of the body itself into the pipe: from then on the reader polls
//! it directly, at its own pace, and sees what it would have seen without the layer.

use std::{
    collections::VecDeque,
    fmt,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::coop;

use crate::{
    grpc::message::{Count, SoFar},
    interest::Interest,
    protocol::Unfilled,
};

pin_project! {
    /// The body of a response that passed a layer; `B` is the wrapped service's own.
    ///
    /// Its data are `Bytes`, its errors those of `B`. The default one is empty.
    pub struct Body<B>
    where
        B: http_body::Body,
    {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B>
    where
        B: http_body::Body,
    {
        None,
        Whole { data: Bytes, trailers: Option<Box<HeaderMap>> },
        Chunks { chunks: VecDeque<Bytes> },
        Passing { #[pin] body: B },
        Piped { reader: Reader<B> },
        Part { body: Pin<Box<Body<B>>>, skip: u64, left: u64 },
    }
}

/// The reader's end of a pipe.
struct Reader<B: http_body::Body> {
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
struct Pipe<B: http_body::Body>(Mutex<Flow<B>>);

struct Flow<B: http_body::Body> {
    frames: VecDeque<Frame<Bytes>>,
    next: Next<B>,
    /// Nobody reads any more: what is read is for the store alone.
    abandoned: bool,
    reader: Option<Waker>,
}

/// What comes after the frames.
enum Next<B: http_body::Body> {
    More,
    Rest(Pin<Box<B>>),
    End,
    Failed(B::Error),
    /// The body panicked while it was read: it is not to be read again.
    Panicked,
}

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

impl<B: http_body::Body> Body<B> {
    pub(crate) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { kind: Kind::Whole { data, trailers: trailers.map(Box::new) } }
    }

    /// No body, of a response that would have one: to a HEAD, or to a condition. Unlike an empty one it has no length,
    /// so that nobody further out states that it is 0 (axum's routes do; RFC 9110 §8.6 forbids it).
    pub(crate) fn none() -> Self {
        Self { kind: Kind::None }
    }

    pub(crate) fn passing(body: B) -> Self {
        Self { kind: Kind::Passing { body } }
    }

    /// These, one after the other.
    pub(crate) fn chunks(chunks: VecDeque<Bytes>) -> Self {
        Self { kind: Kind::Chunks { chunks } }
    }

    /// How long the data is, where that is known, whatever follows it.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Whole { data, .. } => Some(data.len() as u64),
            _ => http_body::Body::size_hint(self).exact(),
        }
    }

    /// The data, where all of it is there.
    pub(crate) fn data(&self) -> Option<&Bytes> {
        if let Kind::Whole { data, .. } = &self.kind { Some(data) } else { None }
    }

    /// So many bytes of it from here on, without what follows its data. What is there is shared, not copied; what is not
    /// is read, and what comes before the part is let go.
    pub(crate) fn part(self, first: u64, length: u64) -> Self {
        if let Some(data) = self.data() {
            let within = |at: u64| data.len().min(saturated(at));
            return Self::whole(data.slice(within(first)..within(first.saturating_add(length))), None);
        }
        Self { kind: Kind::Part { body: Box::pin(self), skip: first, left: length } }
    }

    /// Takes a body apart: one end for the store, one for the one who leads.
    pub(crate) fn piped(begun: Begun<B>, cap: usize, expected: Expected, interest: Interest) -> (Fill<B>, Self) {
        let Begun { body, hint, first } = begun;
        let flow = Flow { frames: VecDeque::new(), next: Next::More, abandoned: false, reader: None };
        let pipe = Arc::new(Pipe(Mutex::new(flow)));
        let fill = Fill {
            body: Some(body),
            first,
            reading: false,
            pipe: Arc::clone(&pipe),
            cap,
            expected,
            chunks: Vec::new(),
            length: 0,
            trailers: None,
            failed: None,
        };
        let reader = Reader { pipe, direct: None, hint, read: 0, interest: Some(interest) };
        (fill, Self { kind: Kind::Piped { reader } })
    }

    /// Lets what is being stored be stored, whoever drops this body.
    pub(crate) fn detach(&mut self) {
        if let Kind::Piped { reader } = &mut self.kind {
            reader.detach();
        }
    }
}

impl<B: http_body::Body> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            KindProj::None => Poll::Ready(None),
            KindProj::Whole { data, .. } if !data.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))))
            }
            KindProj::Whole { trailers, .. } => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            KindProj::Chunks { chunks } => Poll::Ready(chunks.pop_front().map(|chunk| Ok(Frame::data(chunk)))),
            KindProj::Passing { body } => body.poll_frame(cx).map(|next| next.map(|frame| frame.map(in_bytes))),
            KindProj::Piped { reader } => reader.poll_frame(cx),
            KindProj::Part { body, skip, left } => loop {
                if *left == 0 {
                    return Poll::Ready(None);
                }
                let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else { return Poll::Ready(None) };
                let Ok(mut data) = frame?.into_data() else { continue };
                let skipped = data.len().min(saturated(*skip));
                data.advance(skipped);
                *skip -= skipped as u64;
                data.truncate(saturated(*left));
                if !data.is_empty() {
                    *left -= data.len() as u64;
                    if *left == 0
                        && let KindProj::Piped { reader } = body.as_mut().project().kind.project()
                    {
                        // Its reader has all that it came for. The store has not.
                        reader.detach();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // A body that is always ready must not keep its thread for itself.
                ready!(coop::poll_proceed(cx)).made_progress();
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::None => true,
            Kind::Whole { data, trailers } => data.is_empty() && trailers.is_none(),
            Kind::Chunks { chunks } => chunks.is_empty(),
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Piped { reader } => reader.is_end_stream(),
            Kind::Part { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::None => SizeHint::default(),
            Kind::Whole { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            // HTTP/1 has trailers only where no length is stated (RFC 9112 §7.1.2), and a server would state this one.
            Kind::Whole { data, trailers: Some(_) } => {
                let mut hint = SizeHint::new();
                hint.set_lower(data.len() as u64);
                hint
            }
            Kind::Chunks { chunks } => SizeHint::with_exact(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
            Kind::Passing { body } => body.size_hint(),
            Kind::Piped { reader } => reader.size_hint(),
            Kind::Part { left, .. } => SizeHint::with_exact(*left),
        }
    }
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

impl<B: http_body::Body> Reader<B> {
    fn detach(&mut self) {
        if let Some(interest) = self.interest.take() {
            interest.keep();
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
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

    fn is_end_stream(&self) -> bool {
        if let Some(body) = &self.direct {
            return body.is_end_stream();
        }
        let flow = self.pipe.lock();
        flow.frames.is_empty() && matches!(flow.next, Next::End)
    }

    fn size_hint(&self) -> SizeHint {
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

impl<B: http_body::Body> Fill<B> {
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

impl<B: http_body::Body> Pipe<B> {
    fn push(&self, frame: Frame<Bytes>) {
        let mut flow = self.lock();
        if !flow.abandoned {
            flow.frames.push_back(frame);
        }
        flow.wake();
    }

    fn then(&self, next: Next<B>) {
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

impl<B: http_body::Body> Default for Body<B> {
    fn default() -> Self {
        Self::whole(Bytes::new(), None)
    }
}

impl<B: http_body::Body> fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::None => "None",
            Kind::Whole { .. } => "Whole",
            Kind::Chunks { .. } => "Chunks",
            Kind::Passing { .. } => "Passing",
            Kind::Piped { .. } => "Piped",
            Kind::Part { .. } => "Part",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl<B: http_body::Body> fmt::Debug for Fill<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("read", &self.length).finish_non_exhaustive()
    }
}

pub(crate) fn in_bytes(frame: Frame<impl Buf>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
