//! Run with `cargo run --features redis --example redis` beside a Redis (or with its URL as an argument), then try the
//! `curl` lines that it prints.
//!
//! Two instances of one application, on two ports and over one Redis: a page that one of them has made the other has at
//! once, of two that are asked at the same time one makes it for both, and what is changed at one is new at the other. Stop
//! that Redis meanwhile: each of them goes on by itself.

#![allow(clippy::disallowed_methods, reason = "the work is to take a second, and two servers run side by side")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use cacheback::{Cache, Freshness, RedisStore};

/// The prices, and how long it takes to find one.
#[derive(Clone)]
pub(crate) struct Database {
    prices: Arc<Mutex<HashMap<String, u32>>>,
    takes: Duration,
}

/// One instance of the application.
#[derive(Clone)]
struct Instance {
    name: &'static str,
    database: Database,
}

impl Database {
    pub(crate) fn new(takes: Duration) -> Self {
        Self { prices: Arc::default(), takes }
    }
}

async fn price(State(Instance { name, database }): State<Instance>, Path(of): Path<String>) -> String {
    println!("{name} looks up the price of {of}");
    tokio::time::sleep(database.takes).await;
    let price = database.prices.lock().unwrap_or_else(PoisonError::into_inner).get(&of).copied().unwrap_or(100);
    format!("{of} costs {price}, says {name}\n")
}

async fn change(State(Instance { name, database }): State<Instance>, Path(of): Path<String>, price: String) -> String {
    let Ok(price) = price.trim().parse() else { return "a price is a whole number\n".to_owned() };
    database.prices.lock().unwrap_or_else(PoisonError::into_inner).insert(of.clone(), price);
    format!("{name} has set the price of {of} to {price}\n")
}

/// What one instance serves.
pub(crate) fn app(name: &'static str, database: Database, cache: &Cache) -> Router {
    let prices = Freshness::new(Duration::from_secs(30)).stale_while_revalidate(Duration::from_secs(600));
    // A POST that succeeds purges its path wherever that is cached: here, in Redis, and in the memory of the other one.
    Router::new()
        .route("/prices/{of}", get(price).post(change))
        .layer(cache.layer(prices))
        .with_state(Instance { name, database })
}

/// The cache of one instance: memory in front, Redis behind.
fn cache(url: &str) -> Result<Cache, cacheback::Error> {
    // `connect_lazy`, so that an instance starts without its Redis as well.
    Ok(Cache::builder().memory(64 << 20).store(RedisStore::connect_lazy(url)?).build())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let database = Database::new(Duration::from_secs(1));
    let mut addresses = Vec::new();
    for (name, port) in [("A", 3001), ("B", 3002)] {
        let app = app(name, database.clone(), &cache(&url)?);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    let (a, b) = (addresses[0], addresses[1]);
    // Behind a balancer all instances are asked by one name: that is part of what a response is kept under.
    let curl = "curl -H host:shop.example";
    println!("Two instances over {url}. Try, one after the other:\n");
    println!("    {curl} -i http://{a}/prices/tea          # a second: A looks it up");
    println!("    {curl} -i http://{b}/prices/tea          # at once: B has it from Redis (detail=store)");
    println!("    {curl} http://{a}/prices/salt & {curl} http://{b}/prices/salt; wait    # one looks it up for both");
    println!("    {curl} -d 120 http://{b}/prices/tea      # B changes it,");
    println!("    {curl} -i http://{a}/prices/tea          # and A no longer has the old price");
    println!("    redis-cli --scan --pattern 'cacheback:*'                         # what is there\n");
    std::future::pending::<()>().await;
    Ok(())
}
