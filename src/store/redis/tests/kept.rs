//! What is kept, on a real server.

use std::{sync::Weak, time::Duration};

use super::server::Server;
use crate::{
    entry::Course,
    key::Key,
    scope::{Scope, Tags},
    slot::Force,
    store::{Leasing, Listener, Record, Saved, Store, contract::keeps_its_promises, redis::RedisStore},
};

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

struct Nobody;

impl Listener for Nobody {
    fn invalidated(&self, _: &Scope, _: Force) {}
}

#[tokio::test] // P72, P74
async fn what_is_in_a_redis_without_room_can_be_invalidated() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    let me = store.join(Weak::<Nobody>::new());
    let record = |tag| Record {
        bytes: bytes::Bytes::from_static(b"it"),
        tags: Tags::new([tag]),
        time_to_live: Duration::from_secs(3_600),
    };
    let [it, other] = ["it", "other"].map(|key| Course { key: Key::from(key), variant: None });
    let since = store.claim(&it, Leasing::Unwanted).await.unwrap().since;
    assert_eq!(store.save(&it, record("tag"), &since).await.unwrap(), Saved::Kept);
    let late = store.claim(&other, Leasing::Unwanted).await.unwrap().since;
    server.answer("CONFIG SET maxmemory 1");
    assert!(store.claim(&it, Leasing::Wanted).await.is_err(), "there is no room");
    assert!(store.fetch(&it).await.unwrap().is_some());
    store.invalidate(&Scope::tag("tag"), Force::Purge, &me).await.unwrap();
    assert!(store.fetch(&it).await.unwrap().is_none());
    server.answer("CONFIG SET maxmemory 0");
    assert_eq!(store.save(&other, record("tag"), &late).await.unwrap(), Saved::Voided);
}
