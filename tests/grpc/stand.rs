//! A server of quotes that does as it is told, and clients of it, over sockets, while the clock stands still.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use cacheback::{Background, Cache, CachebackLayer, Freshness, Grpc};
use http::HeaderMap;
use tokio::sync::{mpsc, watch};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codegen::tokio_stream::Stream,
    metadata::{Ascii, MetadataKey, MetadataValue},
    server::NamedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::Service;

use crate::{
    clock::{Still, in_time},
    quotes::{Quote, Told, Wanted, quotes_client::QuotesClient, quotes_server::Quotes, quotes_server::QuotesServer},
};

pub(crate) const GET: &str = "/quotes.Quotes/Get";
pub(crate) const WATCH: &str = "/quotes.Quotes/Watch";
pub(crate) const TELL: &str = "/quotes.Quotes/Tell";
pub(crate) const EACH: &str = "/quotes.Quotes/Each";

/// A layer with whose answers live for a minute, and are stale for an hour.
pub(crate) fn minute() -> CachebackLayer<Grpc> {
    Cache::new().grpc().method(GET, a_minute())
}

pub(crate) fn a_minute() -> Freshness {
    Freshness::new(secs(60)).stale_while_revalidate(secs(3_600)).stale_if_error(secs(86_400))
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the server saw of one call.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// How many calls there were, this one included.
    pub(crate) run: u64,
    pub(crate) share: String,
    pub(crate) metadata: HeaderMap,
    pub(crate) background: bool,
}

impl Seen {
    /// A field's values, one after the other.
    pub(crate) fn field(&self, name: &str) -> String {
        let values = self.metadata.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join("|")
    }
}

type Respond = dyn Fn(&Seen) -> Result<Response<Quote>, Status> + Send + Sync;

/// The service. All clones are one.
#[derive(Clone)]
pub(crate) struct Origin(Arc<Inner>);

struct Inner {
    respond: Box<Respond>,
    seen: Mutex<Vec<Seen>>,
    begun: watch::Sender<u64>,
    may_answer: watch::Sender<u64>,
    /// What the next streams give.
    streams: Mutex<VecDeque<mpsc::UnboundedReceiver<Result<Quote, Status>>>>,
    /// What clients that stream have said.
    told: watch::Sender<Vec<String>>,
}

impl Origin {
    pub(crate) fn new(respond: impl Fn(&Seen) -> Result<Response<Quote>, Status> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            respond: Box::new(respond),
            seen: Mutex::default(),
            begun: watch::Sender::new(0),
            may_answer: watch::Sender::new(u64::MAX),
            streams: Mutex::default(),
            told: watch::Sender::default(),
        }))
    }

    /// Says in each answer which run it is of.
    pub(crate) fn counting() -> Self {
        Self::new(|seen| Ok(Response::new(quote(seen))))
    }

    /// Counts; fails so from the second run on.
    pub(crate) fn failing_later(code: Code) -> Self {
        Self::new(move |seen| match seen.run {
            1 => Ok(Response::new(quote(seen))),
            _ => Err(Status::new(code, "as it was told")),
        })
    }

    pub(crate) fn server(&self) -> QuotesServer<Self> {
        QuotesServer::new(self.clone())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    pub(crate) fn runs(&self) -> usize {
        self.seen().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("the service was called")
    }

    /// Lets no more than the first so many calls answer; the others wait.
    pub(crate) fn only_the_first(&self, runs: u64) {
        self.0.may_answer.send_replace(runs);
    }

    pub(crate) fn release(&self) {
        self.only_the_first(u64::MAX);
    }

    /// Waits until so many calls have begun.
    pub(crate) async fn begun(&self, runs: u64) {
        in_time(self.0.begun.subscribe().wait_for(|begun| *begun >= runs)).await.expect("the origin is there");
    }

    /// What the next call gives that is answered by a stream.
    pub(crate) fn stream(&self) -> mpsc::UnboundedSender<Result<Quote, Status>> {
        let (sender, stream) = mpsc::unbounded_channel();
        self.0.streams.lock().unwrap().push_back(stream);
        sender
    }

    /// Waits until clients have told it so many shares in all.
    pub(crate) async fn told(&self, shares: usize) -> Vec<String> {
        in_time(self.0.told.subscribe().wait_for(|told| told.len() >= shares)).await.expect("it is there").clone()
    }

    fn see<T>(&self, request: &Request<T>, share: &str) -> Seen {
        let mut all = self.0.seen.lock().unwrap();
        let seen = Seen {
            run: all.len() as u64 + 1,
            share: share.to_owned(),
            metadata: request.metadata().clone().into_headers(),
            background: request.extensions().get::<Background>().is_some(),
        };
        all.push(seen.clone());
        drop(all);
        self.0.begun.send_replace(seen.run);
        seen
    }

    fn next_stream(&self) -> Script {
        Script(self.0.streams.lock().unwrap().pop_front().expect("a test says what streams"))
    }
}

/// The price is the number of the run.
pub(crate) fn quote(seen: &Seen) -> Quote {
    Quote { share: seen.share.clone(), cents: seen.run, note: String::new() }
}

/// One of a stream.
pub(crate) fn cents(cents: u64) -> Quote {
    Quote { share: "ACME".into(), cents, note: String::new() }
}

/// A stream that a test writes.
pub(crate) struct Script(mpsc::UnboundedReceiver<Result<Quote, Status>>);

impl Stream for Script {
    type Item = Result<Quote, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[tonic::async_trait]
impl Quotes for Origin {
    type WatchStream = Script;
    type EachStream = Script;

    async fn get(&self, request: Request<Wanted>) -> Result<Response<Quote>, Status> {
        let seen = self.see(&request, &request.get_ref().share);
        if seen.share == "hang" {
            std::future::pending::<()>().await;
        }
        let mut may_answer = self.0.may_answer.subscribe();
        let _closed = may_answer.wait_for(|runs| seen.run <= *runs).await.is_err();
        (self.0.respond)(&seen)
    }

    async fn watch(&self, request: Request<Wanted>) -> Result<Response<Script>, Status> {
        self.see(&request, &request.get_ref().share);
        Ok(Response::new(self.next_stream()))
    }

    async fn tell(&self, request: Request<Streaming<Quote>>) -> Result<Response<Told>, Status> {
        self.see(&request, "");
        let (mut stream, mut quotes) = (request.into_inner(), 0);
        while let Some(quote) = stream.message().await? {
            quotes += 1;
            self.0.told.send_modify(|told| told.push(quote.share));
        }
        Ok(Response::new(Told { quotes }))
    }

    async fn each(&self, request: Request<Streaming<Wanted>>) -> Result<Response<Script>, Status> {
        self.see(&request, "");
        let mut stream = request.into_inner();
        let (sender, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut run = 0;
            while let Ok(Some(wanted)) = stream.message().await {
                run += 1;
                let _gone = sender.send(Ok(Quote { share: wanted.share, cents: run, note: String::new() }));
            }
        });
        Ok(Response::new(Script(answers)))
    }
}

/// A server, and a client of it. The runtime must be one whose clock is paused.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) client: QuotesClient<Channel>,
    pub(crate) address: SocketAddr,
    pub(crate) cache: Cache,
    _still: Still,
}

impl Stand {
    /// The layer around a whole server.
    pub(crate) async fn new(layer: &CachebackLayer<Grpc>, origin: &Origin) -> Self {
        Self::around(layer, origin.server()).await
    }

    /// The layer around a server with this service.
    pub(crate) async fn around<S>(layer: &CachebackLayer<Grpc>, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let (incoming, address) = bind();
        let server = Server::builder().layer(layer.clone()).add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self::to(address, layer.cache()).await
    }

    /// A server of one service that has its layer already.
    pub(crate) async fn of<S>(cache: &Cache, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        let (incoming, address) = bind();
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self::to(address, cache).await
    }

    async fn to(address: SocketAddr, cache: &Cache) -> Self {
        let still = Still::begin();
        Self { client: connect(address).await, address, cache: cache.clone(), _still: still }
    }

    /// Asks for a share.
    pub(crate) async fn get(&self, share: &str) -> Reply {
        self.ask(share, &[]).await.expect("a good answer")
    }

    /// Asks with metadata.
    pub(crate) async fn ask(&self, share: &str, metadata: &[(&str, &str)]) -> Result<Reply, Status> {
        let answer = self.begin(wanted(share, metadata)).await;
        // What it began behind its reader ends before the test goes on.
        in_time(self.cache.settled()).await;
        answer
    }

    /// Asks, and waits for nothing but the answer.
    pub(crate) async fn begin(&self, request: Request<Wanted>) -> Result<Reply, Status> {
        let answer = in_time(self.client.clone().get(request)).await?;
        Ok(Reply::of(answer))
    }

    /// Asks from a task of its own.
    pub(crate) fn spawn(&self, request: Request<Wanted>) -> tokio::task::JoinHandle<Result<Reply, Status>> {
        let mut client = self.client.clone();
        tokio::spawn(async move { in_time(client.get(request)).await.map(Reply::of) })
    }
}

/// Lets all tasks go on with what sockets have for them, as far as they get.
pub(crate) async fn quiet() {
    // Sockets are looked at once in some dozens of turns.
    for _ in 0..3_000 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::advance(secs(seconds)).await;
}

pub(crate) async fn connect(address: SocketAddr) -> QuotesClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is an authority");
    QuotesClient::new(endpoint.connect().await.expect("the server is there"))
}

fn bind() -> (TcpIncoming, SocketAddr) {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("loopback has a free port");
    let address = incoming.local_addr().expect("a bound listener has an address");
    (incoming, address)
}

pub(crate) fn wanted(share: &str, metadata: &[(&str, &str)]) -> Request<Wanted> {
    let mut request = Request::new(Wanted { share: share.into() });
    for (name, value) in metadata {
        let name = MetadataKey::from_bytes(name.as_bytes()).expect("a name");
        let value: MetadataValue<Ascii> = value.parse().expect("a value");
        request.metadata_mut().append(name, value);
    }
    request
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) quote: Quote,
    /// What the cache says that it did.
    pub(crate) said: String,
    /// What else came with the answer: headers and trailers.
    pub(crate) metadata: Vec<(String, String)>,
}

impl Reply {
    pub(crate) fn of(answer: Response<Quote>) -> Self {
        let (metadata, quote, _) = answer.into_parts();
        let said = said(&metadata.clone().into_headers());
        let metadata = metadata.into_headers();
        let metadata = metadata
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Self { quote, said, metadata: metadata.filter(|(name, _)| name != "cache-status").collect() }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// Of which run it is, and what the cache says.
    pub(crate) fn told(&self) -> (u64, &str) {
        (self.quote.cents, &self.said)
    }
}

/// What a cache says of itself in metadata.
pub(crate) fn said(metadata: &HeaderMap) -> String {
    let said = metadata.get("cache-status").map(|said| String::from_utf8_lossy(said.as_bytes()).into_owned());
    said.unwrap_or_default().trim_start_matches("cacheback; ").to_owned()
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.runs()).finish()
    }
}
