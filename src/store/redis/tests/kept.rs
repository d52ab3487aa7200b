//! What is kept, on a real server.

use std::{sync::Weak, time::Duration};

use bytes::Bytes;
use redis::Value;

use super::{server::Server, until};
use crate::{
    entry::Course,
    key::Key,
    scope::Force,
    scope::Scope,
    store::{
        Leasing, Listener, Member, Record, Saved, Store,
        contract::keeps_its_promises,
        redis::{RedisStore, names::Names},
    },
    tags::Tags,
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
        bytes: Bytes::from_static(b"it"),
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

/// How long something lasts, in milliseconds.
fn lasts(server: &Server, name: &str) -> i64 {
    let Value::Int(left) = server.answer(&format!("PTTL {name}")) else { panic!("no time") };
    left
}

async fn save(store: &RedisStore, course: &Course, tags: &[&str], time_to_live: Duration) -> Saved {
    let since = store.claim(course, Leasing::Unwanted).await.unwrap().since;
    let (bytes, tags) = (Bytes::from_static(b"record"), Tags::new(tags.iter().copied()));
    store.save(course, Record { bytes, tags, time_to_live }, &since).await.unwrap()
}

fn course() -> Course {
    Course { key: Key::from("k"), variant: None }
}

#[tokio::test] // P71
async fn tokens_outlast_what_they_cover_and_are_never_made_to_last_less() {
    const MINUTE: i64 = 60_000;
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    _ = store.claim(&course(), Leasing::Unwanted).await.unwrap();
    let all = ["cacheback:t:all", "cacheback:t:key:k"];
    assert!(all.iter().all(|name| lasts(&server, name) > 5 * MINUTE), "a run may take as long");
    assert!(lasts(&server, "cacheback:b") > 24 * 60 * MINUTE);
    let tag = "cacheback:t:tag:t";
    assert_eq!(save(&store, &course(), &["t"], Duration::from_secs(24 * 3_600)).await, Saved::Kept);
    for brief in [false, true] {
        let names = all.iter().chain([&tag]);
        assert!(names.clone().all(|name| lasts(&server, name) > (24 * 60 + 1) * MINUTE), "brief: {brief}");
        assert_eq!(save(&store, &course(), &["t"], Duration::from_secs(1)).await, Saved::Kept);
    }
    server.answer("PEXPIRE cacheback:t:all 1000");
    _ = store.claim(&course(), Leasing::Unwanted).await.unwrap();
    assert!(lasts(&server, all[0]) > 5 * MINUTE, "it was about to run out");
}

#[tokio::test] // P64, P71
async fn tokens_and_buckets_that_are_none_are_made_anew() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    for (name, length) in [("cacheback:t:key:k", 8), ("cacheback:b", 2_048)] {
        server.answer(&format!("SET {name} odd"));
        assert_eq!(save(&store, &course(), &["t"], Duration::from_secs(60)).await, Saved::Kept);
        assert_eq!(server.answer(&format!("STRLEN {name}")), Value::Int(length));
        assert!(store.fetch(&course()).await.unwrap().is_some());
        server.answer(&format!("SETRANGE {name} {length} longer"));
        server.answer("DEL cacheback:e");
        let found = store.fetch(&course()).await.unwrap();
        assert_eq!(found.is_some(), name == "cacheback:b", "no reader needs the buckets");
    }
}

#[tokio::test] // P64
async fn what_is_of_another_type_gives_way() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    let names = Names::new("cacheback").course(&course());
    let [record, lease] = [names.record, names.lease].map(|name| String::from_utf8(name).unwrap());
    let since = store.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    for name in [&record, &lease] {
        server.answer(&format!("RPUSH {name} x"));
        assert_eq!(save(&store, &course(), &[], Duration::from_secs(60)).await, Saved::Kept);
        assert!(store.fetch(&course()).await.unwrap().is_some());
    }
    assert_eq!(server.answer(&format!("EXISTS {lease}")), Value::Int(0));
    server.answer(&format!("DEL {record}"));
    server.answer(&format!("RPUSH {record} x"));
    store.forget(&course(), &since).await.unwrap();
    assert_eq!(server.answer(&format!("EXISTS {record}")), Value::Int(0));
}

#[tokio::test] // P7
async fn a_record_of_a_run_that_has_not_begun_yet_gives_way() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    assert_eq!(save(&store, &course(), &[], Duration::from_secs(60)).await, Saved::Kept);
    let name = String::from_utf8(Names::new("cacheback").course(&course()).record).unwrap();
    // As if the clock of the server had been set back: the first byte of the claim's time.
    let set_back = || server.answer(&format!("SETRANGE {name} 4 \u{1}"));
    set_back();
    let age = store.fetch(&course()).await.unwrap().unwrap().age;
    assert_eq!(age, Duration::ZERO, "and is never younger than new");
    assert_eq!(save(&store, &course(), &[], Duration::from_secs(60)).await, Saved::Kept);
    assert_eq!(server.answer(&format!("GETRANGE {name} 4 4")), Value::BulkString(vec![0]));
    set_back();
    let since = store.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    store.forget(&course(), &since).await.unwrap();
    assert_eq!(store.fetch(&course()).await.unwrap(), None);
}

#[tokio::test] // P31, P71
async fn an_invalidation_wins_over_every_step_of_a_run() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    let (nobody, tag) = (Member(0), Scope::tag("t"));
    let invalidate = async || store.invalidate(&tag, Force::Purge, &nobody).await.unwrap();
    // A tag that shares no bucket with it was invalidated: nothing that this is about.
    let since = store.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    store.invalidate(&Scope::tag("another"), Force::Purge, &nobody).await.unwrap();
    let tags = Tags::new(["t"]);
    let record = Record { bytes: Bytes::from_static(b"record"), tags, time_to_live: Duration::from_secs(60) };
    assert_eq!(store.save(&course(), record.clone(), &since).await.unwrap(), Saved::Kept);
    // As it was deleted alone: what has been saved is gone, what is saved later was not known to have this tag.
    assert_eq!(server.answer("DEL cacheback:t:tag:t cacheback:e"), Value::Int(1));
    assert_eq!(store.fetch(&course()).await.unwrap(), None);
    // The buckets are lost while a run goes on: nobody knows what was invalidated.
    let since = store.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    server.answer("DEL cacheback:b");
    assert_eq!(store.save(&course(), record.clone(), &since).await.unwrap(), Saved::Voided);
    // They are made again by another run, after an invalidation that found none to change.
    let since = store.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    server.answer("DEL cacheback:b");
    invalidate().await;
    assert_eq!(server.answer("EXISTS cacheback:b"), Value::Int(0), "nobody has seen them");
    assert_eq!(save(&store, &course(), &["t"], Duration::from_secs(60)).await, Saved::Kept);
    assert_eq!(store.save(&course(), record, &since).await.unwrap(), Saved::Voided);
}

#[tokio::test] // P72
async fn what_nobody_understands_may_have_been_an_invalidation() {
    let server = Server::start(&[]);
    let [store] = instances(&server).await;
    let generation = store.standing().generation();
    assert_eq!(server.answer("PUBLISH cacheback:push nonsense"), Value::Int(1));
    until(|| store.standing().generation() > generation).await;
}

#[tokio::test] // P70
async fn a_lease_that_has_run_out_ends_no_other() {
    let server = Server::start(&[]);
    let [slow, store] = instances(&server).await;
    let lease = String::from_utf8(Names::new("cacheback").course(&course()).lease).unwrap();
    let wanted = async |store: &RedisStore| {
        let claimed = store.claim(&course(), Leasing::Wanted).await.unwrap();
        assert!(claimed.held.is_none());
        claimed.since
    };
    let first = wanted(&slow).await;
    assert!((1..=5_000).contains(&lasts(&server, &lease)));
    server.answer(&format!("DEL {lease}"));
    let _second = wanted(&store).await;
    slow.release().await.unwrap();
    assert!(lasts(&server, &lease) > 0, "it is the other's");
    server.answer(&format!("DEL {lease}"));
    let third = wanted(&slow).await;
    server.answer(&format!("DEL {lease}"));
    let _fourth = wanted(&store).await;
    let record = Record { bytes: Bytes::new(), tags: Tags::default(), time_to_live: Duration::from_secs(60) };
    for late in [first, third] {
        assert_eq!(slow.save(&course(), record.clone(), &late).await.unwrap(), Saved::Kept);
        assert!(lasts(&server, &lease) > 0, "it is the other's still");
    }
}
