//! Much at once over the connections, and with no more rights than are needed.

use std::{sync::Weak, time::Duration};

use bytes::Bytes;

use super::{super::masters::together, LONG, server::Server};
use crate::{
    entry::Course,
    key::Key,
    scope::Force,
    scope::Scope,
    store::{Leasing, Listener, Record, Saved, Store, redis::RedisStore},
    tags::Tags,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn course(key: &str) -> Course {
    Course { key: Key::from(key), variant: None }
}

async fn save(store: &RedisStore, course: &Course, bytes: Bytes, tags: &[&str]) {
    let since = store.claim(course, Leasing::Wanted).await.unwrap().since;
    let record = Record { bytes, tags: Tags::new(tags.iter().copied()), time_to_live: HOUR };
    assert_eq!(store.save(course, record, &since).await.unwrap(), Saved::Kept);
}

struct Nobody;

impl Listener for Nobody {
    fn invalidated(&self, _: &Scope, _: Force) {}
}

/// How many of so many that read a record of this length at the same time fail.
async fn failed(readers: usize, length: usize) -> usize {
    let server = Server::start(&[]);
    let store = RedisStore::builder().url(server.url()).patience(LONG).connect().await.unwrap();
    let it = course("it");
    save(&store, &it, vec![0; length].into(), &[]).await;
    let mut failed = 0;
    // Nobody vouches for it at first.
    for _ in 0..2 {
        let found = together((0..readers).map(|_| store.fetch(&it))).await;
        failed += found.iter().filter(|found| !matches!(found, Ok(Some(_)))).count();
    }
    failed
}

#[tokio::test] // P74, P75
async fn no_connection_ends_because_much_is_read_at_once() {
    assert_eq!(failed(16, 6 << 20).await, 0, "a few large ones");
    assert_eq!(failed(5_000, 64 << 10).await, 0, "many small ones");
}

#[tokio::test]
async fn a_user_who_may_do_what_is_documented_needs_no_more() {
    let server = Server::start(&[]);
    let allowed = "get mget set del exists getrange setrange pttl pexpire time eval evalsha publish subscribe info ping \
                   hello client select";
    let allowed = allowed.split_whitespace().map(|name| format!(" +{name}")).collect::<String>();
    server.answer(&format!("ACL SETUSER u on >p ~cacheback:* &cacheback:push -@all{allowed}"));
    let path = server.url().replace("redis+unix://", "");
    let store = RedisStore::connect(&format!("redis+unix://{path}?db=1&user=u&pass=p")).await.unwrap();
    let me = store.join(Weak::<Nobody>::new());
    let it = course("it");
    save(&store, &it, Bytes::from_static(b"it"), &["tag"]).await;
    assert!(store.fetch(&it).await.unwrap().is_some());
    save(&store, &it, Bytes::from_static(b"it"), &["tag"]).await;
    let since = store.claim(&it, Leasing::Wanted).await.unwrap();
    assert!(since.held.is_none());
    assert!(store.claim(&it, Leasing::Wanted).await.unwrap().held.is_some());
    store.forget(&it, &since.since).await.unwrap();
    store.invalidate(&Scope::tag("tag"), Force::Purge, &me).await.unwrap();
    store.release().await.unwrap();
    let redis::Value::Array(denied) = server.answer("ACL LOG") else { panic!("a list") };
    assert!(denied.is_empty(), "{denied:?}");
}
