//! What is kept, on a real server.

use std::time::Duration;

use super::server::Server;
use crate::store::{contract::keeps_its_promises, redis::RedisStore};

/// Instances in whose Redis nothing is yet.
async fn instances<const N: usize>(server: &Server) -> [RedisStore; N] {
    let mut stores = Vec::new();
    for _ in 0..N {
        stores.push(RedisStore::connect(&server.url()).await.unwrap());
    }
    stores.try_into().unwrap()
}

#[tokio::test] // P71
async fn redis_keeps_the_promises_of_a_store() {
    let server = Server::start(&[]);
    let [store, other] = instances(&server).await;
    keeps_its_promises(&store, &other, Duration::from_millis(40)).await;
}
