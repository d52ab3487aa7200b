//! The proxy between a scripted origin and clients, all on loopback ports, while the clock stands still.

use std::{net::SocketAddr, time::Duration};

use cacheback::Cache;
use http::uri::Authority;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    clock::{Still, in_time},
    origin::{Asked, Origin, Reply},
    proxy::{self, Options, Server},
    wire::{Connection, Message},
};

/// What a test works with. Its runtime must be one whose clock is paused.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) origin: Origin,
    pub(crate) proxy: SocketAddr,
    pub(crate) cache: Cache,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    _still: Still,
}

impl Stand {
    /// With the proxy's defaults.
    pub(crate) async fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(|_| (), script).await
    }

    pub(crate) async fn with(
        set: impl FnOnce(&mut Options),
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let still = Still::begin();
        let origin = Origin::new(script).await;
        let mut options = Options::to(Authority::try_from(origin.address.to_string()).expect("an address is one"));
        set(&mut options);
        let cache = Cache::builder().memory(options.memory).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let proxy = listener.local_addr().expect("a bound listener has an address");
        let (stop, stopped) = oneshot::channel();
        let server = Server::new(proxy::front(&cache, &options), &options);
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve(listener, stopped).await;
        });
        Self { origin, proxy, cache, stop: Some(stop), server, _still: still }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.proxy).await
    }

    /// Sends a GET with these field lines, on a connection of its own.
    pub(crate) async fn get(&self, path: &str, fields: &str) -> Message {
        self.send("GET", path, fields, "").await
    }

    /// Sends a request; `Host` and a length are stated for it.
    pub(crate) async fn send(&self, method: &str, path: &str, fields: &str, body: &str) -> Message {
        let mut connection = self.connect().await;
        connection.send(request(method, path, fields, body)).await;
        let answer = connection.answer_to(method).await;
        // What it began behind its reader ends before the test goes on.
        in_time(self.cache.settled()).await;
        answer
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    /// Lets all tasks go on with what clients and the origin have sent, as far as they get.
    pub(crate) async fn quiet(&self) {
        // Sockets are looked at once in some dozens of turns.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }

    /// Tells the proxy to stop, as a signal does.
    pub(crate) fn stop(&mut self) {
        let stop = self.stop.take().expect("it is told once");
        stop.send(()).expect("the proxy runs until it is told");
    }

    /// Waits until nobody listens any more.
    pub(crate) async fn until_refused(&self) {
        in_time(async { while TcpStream::connect(self.proxy).await.is_ok() {} }).await;
    }

    /// Waits until the proxy has stopped.
    pub(crate) async fn stopped(&mut self) {
        in_time(&mut self.server).await.expect("the proxy does not panic");
    }
}

/// A request as it stands on the wire.
pub(crate) fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let mut fields: String = fields.lines().map(|line| format!("{}\r\n", line.trim())).collect();
    if !fields.to_ascii_lowercase().contains("host:") {
        fields.push_str("Host: example.test\r\n");
    }
    if !body.is_empty() {
        fields.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{method} {path} HTTP/1.1\r\n{fields}\r\n{body}")
}
