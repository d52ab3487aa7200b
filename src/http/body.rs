//! The body of a response: stored, passed through, or read by the run's task ahead of its first reader.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::coop;

use crate::{http::body::pipe::Reader, interest::Interest};

mod fill;
mod pipe;

pub(crate) use fill::{Begun, Expected, Fill};

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
        let (fill, reader) = Fill::new(begun, cap, expected, interest);
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

pub(crate) fn in_bytes(frame: Frame<impl Buf>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
