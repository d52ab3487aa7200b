//! Interim responses (1xx) on their way to the client: a proxy forwards them (RFC 9110 §15.2).
//!
//! hyper's server cannot say them, so they are written past it: into the connection at a moment when hyper has nothing
//! left to write, and the final response is held back until they are written. So they stand between two messages and
//! never within one. A connection of HTTP/1 answers one request at a time; what the origin still says about one that is
//! answered, or that was only refreshed, goes to nobody.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fields;

/// What a connection has still to write of interim responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interim(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How many requests of the connection were answered: the number of the one that is being answered now.
    answered: u64,
    waiting: Vec<u8>,
    /// How much of it is written. More than nothing: hyper waits until all of it is.
    written: usize,
    /// The connection's task, where it waits.
    task: Option<Waker>,
}

/// The place in a request for whoever asks the origin: to say what it hears before the final response.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    interim: Interim,
    request: u64,
}

/// A client's connection, into which interim responses are written.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    stream: T,
    interim: Interim,
}

/// An origin that says more of them than a client reads is heard no longer.
const ENOUGH: usize = 64 << 10;

impl Interim {
    /// For the request that is answered next.
    pub(crate) fn teller(&self) -> Teller {
        Teller { interim: self.clone(), request: self.lock().answered }
    }

    /// Gives an answer out when all that was said before it is written.
    pub(crate) async fn before<F: Future>(&self, answer: F) -> F::Output {
        let (mut answer, mut final_one) = (pin!(answer), None);
        std::future::poll_fn(|cx| {
            if final_one.is_none() {
                final_one = match answer.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some(answer),
                    Poll::Pending => None,
                };
            }
            let mut state = self.lock();
            if state.waiting.is_empty() && final_one.is_some() {
                // Late ones belong to nobody from now on.
                state.answered += 1;
                return final_one.take().map_or(Poll::Pending, Poll::Ready);
            }
            state.task = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    pub(crate) fn tell(&self, status: StatusCode, fields: &HeaderMap) {
        // hyper's server says 100 by itself, when it is asked for the content.
        if status == StatusCode::CONTINUE {
            return;
        }
        let mut fields = fields.clone();
        fields::end_hop(&mut fields);
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
        for (name, value) in &fields {
            head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        let mut state = self.interim.lock();
        if state.answered == self.request && state.waiting.len() + head.len() <= ENOUGH {
            state.waiting.extend(head);
            state.wake();
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl<T: AsyncWrite + Unpin> Stream<T> {
    pub(crate) fn new(stream: T, interim: Interim) -> Self {
        Self { stream, interim }
    }

    /// Writes what is waiting.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.interim.lock();
        while state.written < state.waiting.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &state.waiting[state.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.written += written;
        }
        if state.written > 0 {
            state.waiting.clear();
            state.written = 0;
            // The final response may follow.
            state.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Finishes what was begun, before hyper writes of its own.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begun = self.interim.lock().written > 0;
        if begun { self.poll_interim(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
