//! The clients' side: connections, each a task of its own, and the end.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    Front, Options,
    front::Client,
    interim::{self, Interim},
};

/// Serves a front to all who connect.
#[derive(Debug)]
pub(crate) struct Server {
    front: Front,
    connections: auto::Builder<TokioExecutor>,
    running: GracefulShutdown,
    /// For connections that are not there yet.
    room: Arc<Semaphore>,
    grace: Duration,
}

/// How long a client may take from connecting to its first request. Between requests of HTTP/1 hyper waits as long.
const SILENCE: Duration = Duration::from_secs(30);

impl Server {
    pub(crate) fn new(front: Front, options: &Options) -> Self {
        let mut connections = auto::Builder::new(TokioExecutor::new());
        // Without `pipeline_flush`: what `interim` has to write waits for a flush.
        connections.http1().timer(TokioTimer::new());
        connections.http2().timer(TokioTimer::new());
        let room = Arc::new(Semaphore::new(options.connections.min(Semaphore::MAX_PERMITS)));
        Self { front, connections, running: GracefulShutdown::new(), room, grace: options.grace }
    }

    /// Serves until it is told to stop. What is under way then may end, for as long as the grace lasts.
    pub(crate) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                (place, accepted) = self.next(&listener) => match accepted {
                    Ok((stream, address)) => self.begin(stream, address.ip(), place),
                    Err(error) => wait_after(&error).await,
                },
                () = &mut stop => break,
            }
        }
        drop(listener);
        if tokio::time::timeout(self.grace, self.running.shutdown()).await.is_err() {
            tracing::warn!(target: "proxy", "some exchanges were not over in time");
        }
    }

    /// The next client, and its place. As long as there is none, clients wait where the system has them wait.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> (Option<OwnedSemaphorePermit>, io::Result<(TcpStream, SocketAddr)>) {
        // There is always one, for nobody closes the semaphore.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        (place, listener.accept().await)
    }

    /// Serves one connection, in a task of its own.
    #[allow(clippy::disallowed_methods, reason = "a server spawns its connections")]
    fn begin(&self, stream: TcpStream, address: IpAddr, place: Option<OwnedSemaphorePermit>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(target: "proxy", "{address}: {error}");
        }
        let (front, client) = (self.front.clone(), Client { address, interim: Interim::default() });
        let stream = interim::Stream::new(stream, client.interim.clone());
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |request| {
            asks.store(true, Relaxed);
            let (front, client) = (front.clone(), client.clone());
            async move { Ok::<_, Infallible>(front.answer(request, client).await) }
        });
        let connection = self.connections.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.running.watch(connection);
        tokio::spawn(async move {
            let (_place, mut connection) = (place, pin!(connection));
            let ended = match tokio::time::timeout(SILENCE, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) if asked.load(Relaxed) => connection.await,
                Err(_) => return,
            };
            if let Err(error) = ended {
                tracing::debug!(target: "proxy", "{address}: {error}");
            }
        });
    }
}

/// When the process is told to stop: SIGINT or SIGTERM.
pub(crate) async fn told_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can interrupt: this is not a reason to stop.
            std::future::pending().await
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// A client that is gone again does not matter. When there are no more descriptors, some must become free first.
#[allow(clippy::disallowed_methods, reason = "the clock of the layer is not for the connections")]
async fn wait_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::warn!(target: "proxy", "cannot take a connection: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
