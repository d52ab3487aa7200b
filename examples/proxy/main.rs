//! Run with `cargo run --release --example proxy -- --listen 127.0.0.1:8080 --origin http://127.0.0.1:8000`, then ask
//! port 8080 for what the origin has. `--help` lists all options; `RUST_LOG=proxy=info` logs a line for each request.
//!
//! A caching reverse proxy: a hyper client is the wrapped service, and the layer around it is in protocol mode, so that
//! nothing is stored but what the origin's responses let a shared cache store. What the origin says reaches the layer as
//! it was said; what is a proxy's own duty is done outside the layer (`fields`, `way`, `front`), and the connections are kept by
//! `server` on the clients' side and by `origin` on the other.
//!
//! * Clients speak HTTP/1.1, HTTP/1.0, or HTTP/2 without TLS; the origin is spoken to in HTTP/1.1.
//! * The client's `Host` goes on to the origin, so one proxy serves all hosts that the origin knows. Each has its own key.
//! * Both directions stream. A body that breaks off breaks off for the client too, and is not stored.
//! * An origin that cannot be reached is a 502 in words, one that does not answer in time a 504; a stored response that
//!   says `stale-if-error` is given instead, since to the layer both are errors of the service that it wraps.
//! * Nobody is waited for without end: a client that stops in its request gets a 408, one that connects and asks nothing
//!   is let go, and a response in which the origin stops breaks off. A request that was here before is a 508.
//! * An upgrade is declined, by answering as if it had not been asked for (RFC 9110 §7.8); so a WebSocket needs another
//!   way to the origin. CONNECT is answered 501.
//! * Interim responses (1xx) of the origin go on to the client whose request it answers, over HTTP/1.1 (`interim`).
//! * SIGINT and SIGTERM end it: no new connections, and a few seconds for the exchanges under way.

mod content;
mod fields;
mod front;
pub(crate) mod interim;
mod line;
mod options;
mod origin;
mod server;
mod way;
mod words;

use std::process::ExitCode;

use cacheback::{Cache, CachebackLayer};
use tokio::net::TcpListener;
use tower::Layer;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

pub(crate) use self::{front::Front, options::Options, origin::Origin, server::Server};

/// What is served: the origin, cached as the options say.
pub(crate) fn front(cache: &Cache, options: &Options) -> Front {
    Front::new(layer(cache, options).layer(Origin::new(options)))
}

fn layer(cache: &Cache, options: &Options) -> CachebackLayer {
    // Those who wait for a response get the origin's failure together: it is not asked again for each of them.
    let mut layer = cache.http().share_errors::<origin::Failure>();
    if let Some(bytes) = options.body_cap {
        layer = layer.body_cap(bytes);
    }
    if let Some(names) = &options.targeted {
        layer = layer.targeted(names.iter().cloned());
    }
    if options.heuristic {
        layer = layer.heuristic_freshness();
    }
    if let Some(window) = options.stale_if_error {
        layer = layer.stale_if_error(window);
    }
    if options.honor_request_directives {
        layer = layer.honor_request_directives();
    }
    layer
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("proxy: {error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    log();
    let listener = match TcpListener::bind(options.listen.as_str()).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("proxy: cannot listen on {}: {error}", options.listen);
            return ExitCode::FAILURE;
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("Listening on http://{address}, in front of {}", options.origin);
    }
    let cache = Cache::builder().memory(options.memory).build();
    let server = Server::new(front(&cache, &options), &options);
    server.serve(listener, server::told_to_stop()).await;
    cache.drain(options.grace).await;
    ExitCode::SUCCESS
}

/// What `RUST_LOG` asks for goes to standard error: `proxy=info` is a line for each request.
fn log() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let targets = wanted.parse::<Targets>().unwrap_or_else(|error| {
        eprintln!("proxy: RUST_LOG is not understood, nothing is logged: {error}");
        Targets::new()
    });
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(targets).init();
}
