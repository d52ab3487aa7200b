//! Run with `cargo run --example quickstart`, then try the `curl` lines that it prints.
//!
//! A handler that takes about two seconds, cached: fresh for five seconds, then stale at once and refreshed behind the
//! reader.

#![allow(clippy::disallowed_methods, reason = "the work is to take two seconds on any machine")]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use cacheback::{CachebackLayer, Freshness};

/// Counts primes for as long as it is told to. How many it finds differs from run to run.
async fn primes(State(work): State<Duration>, Path(from): Path<u64>) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Relaxed) + 1;
    println!("run {run} begins");
    let found = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let is_prime = |n: u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        (from..).take_while(|_| begin.elapsed() < work).filter(|n| is_prime(*n)).count()
    });
    let found = found.await.unwrap_or_default();
    println!("run {run} ends");
    format!("run {run} found {found} primes from {from} on\n")
}

/// What is served; a run of its handler takes this long.
pub(crate) fn app(work: Duration) -> Router {
    Router::new()
        .route("/primes/{from}", get(primes))
        .layer(CachebackLayer::new(Freshness::new(Duration::from_secs(5))))
        .with_state(work)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = app(Duration::from_secs(2));

    let listener = match tokio::net::TcpListener::bind("127.0.0.1:3000").await {
        Ok(listener) => listener,
        // The port is taken: any other will do.
        Err(_) => tokio::net::TcpListener::bind("127.0.0.1:0").await?,
    };
    let address = listener.local_addr()?;
    println!("Listening on http://{address}. Try, one after the other:\n");
    let curl = format!("curl -i http://{address}/primes/1000000");
    println!("    time {curl}              # waits two seconds: nothing is stored yet");
    println!("    time {curl}              # at once: a fresh hit");
    println!("    sleep 5; time {curl}     # at once: stale, and refreshed behind you");
    println!("    sleep 3; time {curl}     # at once: the new answer\n");
    axum::serve(listener, app).await
}
