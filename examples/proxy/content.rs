//! Content on its way through: whom it waits for, and that it waits for nobody for ever.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::watch, time::error::Elapsed};

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
