//! Run with `cargo run --example tonic`: it starts a server and a client, and prints what each call is told.
//!
//! A gRPC service that takes its time over a price, cached by method and message: fresh for two seconds, then stale at once
//! and refreshed behind the reader. What the cache did is in the metadata of each answer.

#![allow(clippy::disallowed_methods, reason = "a program tells its own time, and spawns its server")]

#[allow(clippy::all, clippy::use_self, clippy::must_use_candidate, missing_docs, unreachable_pub)]
#[path = "tonic/quotes.rs"]
pub(crate) mod quotes;

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cacheback::{Cache, Freshness, Scope, Tags};
use prost::Message;
use tokio_stream::Empty;
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream,
    service::LayerExt,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use self::quotes::{
    Quote, Told, Wanted,
    quotes_client::QuotesClient,
    quotes_server::{Quotes, QuotesServer},
};

/// The service: each price takes it so long.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) work: Duration,
    pub(crate) runs: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Quotes for Exchange {
    type WatchStream = Empty<Result<Quote, Status>>;
    type EachStream = Empty<Result<Quote, Status>>;

    async fn get(&self, request: Request<Wanted>) -> Result<Response<Quote>, Status> {
        let run = self.runs.fetch_add(1, Relaxed) + 1;
        tokio::time::sleep(self.work).await;
        let share = request.into_inner().share;
        if share.is_empty() {
            return Err(Status::invalid_argument("which share?"));
        }
        let mut answer = Response::new(Quote { share, cents: 10_000 + run, note: format!("run {run}") });
        // It can be invalidated together with all other prices.
        answer.extensions_mut().insert(Tags::new(["prices"]));
        Ok(answer)
    }

    async fn watch(&self, _: Request<Wanted>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("this exchange has one price at a time"))
    }

    async fn tell(&self, _: Request<Streaming<Quote>>) -> Result<Response<Told>, Status> {
        Err(Status::unimplemented("this exchange has one price at a time"))
    }

    async fn each(&self, _: Request<Streaming<Wanted>>) -> Result<Response<Self::EachStream>, Status> {
        Err(Status::unimplemented("this exchange has one price at a time"))
    }
}

/// Serves the exchange, cached, on a port of the system's choosing.
pub(crate) fn serve(exchange: Exchange, cache: &Cache) -> Result<SocketAddr, Box<dyn Error + Send + Sync>> {
    let fresh = Freshness::new(Duration::from_secs(2)).stale_while_revalidate(Duration::from_secs(60));
    let quotes = cache.grpc().method("/quotes.Quotes/Get", fresh).named_layer(QuotesServer::new(exchange));
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
    let address = incoming.local_addr()?;
    tokio::spawn(Server::builder().add_service(quotes).serve_with_incoming(incoming));
    Ok(address)
}

pub(crate) async fn connect(address: SocketAddr) -> Result<QuotesClient<Channel>, Box<dyn Error + Send + Sync>> {
    Ok(QuotesClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?))
}

/// Asks for a price: what came, and what the cache says of it.
pub(crate) async fn ask(client: &QuotesClient<Channel>, share: &str) -> Result<(Quote, String), Status> {
    let answer = client.clone().get(Wanted { share: share.into() }).await?;
    let said = answer.metadata().get("cache-status").and_then(|said| said.to_str().ok()).unwrap_or_default().to_owned();
    Ok((answer.into_inner(), said))
}

async fn show(client: &QuotesClient<Channel>, share: &str, why: &str) {
    let begin = Instant::now();
    let told = match ask(client, share).await {
        Ok((quote, said)) => format!("{} is at {} cents    {said}", quote.share, quote.cents),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    };
    println!("{:>5} ms  {told}\n          {why}\n", begin.elapsed().as_millis());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cache = Cache::new();
    let exchange = Exchange { work: Duration::from_millis(500), runs: Arc::default() };
    let address = serve(exchange, &cache)?;
    let client = connect(address).await?;
    println!("A server listens on {address}, and takes 500 ms for a price.\n");

    show(&client, "ACME", "nothing is stored yet: its client waits").await;
    show(&client, "ACME", "a fresh hit").await;
    show(&client, "OTHER", "another message is another call").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    show(&client, "ACME", "stale at once, and refreshed behind its reader").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    show(&client, "ACME", "the new price").await;
    show(&client, "", "an error is not stored").await;

    let acme = Scope::message("/quotes.Quotes/Get", Wanted { share: "ACME".into() }.encode_to_vec())?;
    let reached = cache.purge(acme).await?.entries;
    show(&client, "ACME", &format!("{reached} answer was purged by its method and message: its client waits")).await;
    let reached = cache.expire_tag("prices").await?.entries;
    show(&client, "ACME", &format!("{reached} answers were expired by their tag: stale at once")).await;
    Ok(())
}
