//! Content on its way through: whom it waits for, and that it waits for nobody for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    time::{Sleep, error::Elapsed},
};

/// The content of a request, which says how it gets on.
#[derive(Debug)]
pub(crate) struct Upload {
    content: Incoming,
    waits_for: watch::Sender<Peer>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    Origin,
}

/// What an upload says.
#[derive(Debug)]
pub(crate) struct Progress(watch::Receiver<Peer>);

/// The content of a response, which breaks off where the origin says nothing for too long.
#[derive(Debug)]
pub(crate) struct Download {
    content: Incoming,
    limit: Duration,
    /// As long as the origin is waited for.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    pub(crate) fn new(content: Incoming) -> (Self, Progress) {
        let (waits_for, progress) = watch::channel(Peer::Origin);
        (Self { content, waits_for }, Progress(progress))
    }
}

impl Progress {
    /// Whose turn it was for so long that the other one need not wait any more.
    pub(crate) async fn stalled(mut self, limit: Duration) -> Peer {
        while let Ok(()) = self.moved_within(limit).await {}
        *self.0.borrow()
    }

    async fn moved_within(&mut self, limit: Duration) -> Result<(), Elapsed> {
        tokio::time::timeout(limit, async {
            if self.0.changed().await.is_err() {
                // The origin has all of it, and nothing moves but its answer.
                std::future::pending().await
            }
        })
        .await
    }
}

impl Download {
    pub(crate) fn new(content: Incoming, limit: Duration) -> Self {
        Self { content, limit, patience: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.content).poll_frame(cx);
        match frame {
            // Waiting on, it does not get on.
            Poll::Pending => {
                self.waits_for.send_if_modified(|peer| std::mem::replace(peer, Peer::Client) != Peer::Client);
            }
            Poll::Ready(_) => {
                self.waits_for.send_replace(Peer::Origin);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    #[allow(clippy::disallowed_methods, reason = "the clock of the layer is not for the connections")]
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.content).poll_frame(cx) {
            this.patience = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let patience = this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.limit)));
        patience.as_mut().poll(cx).map(|()| Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
