//! What stands in Redis: believed only if it is what was written, under bounds, and for no longer than it may.

use std::{collections::BTreeSet, time::Duration};

use cacheback::{Cache, Freshness, RedisStoreBuilder};

use crate::{
    instance::{Instance, Place, connected, named},
    servers::{Server, in_time},
};

const PAGE: &str = "http://a/page";
const OTHER: &str = "http://a/other";

/// The names of records.
async fn records(server: &Server) -> Vec<String> {
    server.ask(&["KEYS", "*:r"]).await
}

/// What of the bytes of a record becomes something else.
type Change = fn(&[u8], &[u8]) -> Vec<u8>;

const CHANGES: [(&str, Change); 9] = [
    ("nothing", |_, _| Vec::new()),
    ("one byte", |_, _| vec![1]),
    ("random bytes", |bytes, _| bytes.iter().map(|_| fastrand::u8(..)).collect()),
    ("half of it", |bytes, _| bytes[..bytes.len() / 2].to_vec()),
    ("all but the end", |bytes, _| bytes[..bytes.len() - 1].to_vec()),
    ("more than there was", |bytes, _| [bytes, b"x"].concat()),
    ("another page's", |_, other| other.to_vec()),
    ("another version's", |bytes, _| [&bytes[..3], &[bytes[3] + 1], &bytes[4..]].concat()),
    ("lengths of 4 GiB", |bytes, _| [&bytes[..bytes.len() / 2], &[0xff; 64]].concat()),
];

/// Puts something in the place of a record that is good, and asks for it.
async fn is_a_miss(server: &Server, place: &RedisStoreBuilder, changes: &[(&str, Change)]) {
    let instance = Instance::strict(place, "one").await;
    for (what, change) in changes {
        instance.get(OTHER).await;
        let other = records(server).await.remove(0);
        let other: Vec<u8> = server.ask(&["GET", &other]).await;
        instance.get(PAGE).await;
        let runs = instance.origin.runs();
        for name in records(server).await {
            let bytes: Vec<u8> = server.ask(&["GET", &name]).await;
            let changed = change(&bytes, &other);
            if changed != bytes {
                let mut set = redis::cmd("SET");
                set.arg(&name).arg(changed).arg("KEEPTTL");
                set.query_async::<()>(&mut server.connect().await.unwrap()).await.unwrap();
            }
        }
        instance.get(PAGE).await;
        assert_eq!(instance.origin.runs(), runs + 1, "{what}");
        instance.get(PAGE).await;
        assert_eq!(instance.origin.runs(), runs + 1, "after {what} it is good again");
        server.ask::<()>(&["FLUSHALL"]).await;
    }
    assert_eq!(instance.cache.stats().store_failures, 0);
}

#[tokio::test] // P64, P76
async fn what_is_not_what_was_written_is_a_miss_and_no_failure() {
    let server = Server::start().await;
    is_a_miss(&server, &server.store(), &CHANGES).await;
    let flips: [(&str, Change); 4] = [
        ("a bit at the beginning", |bytes, _| flipped(bytes, 5)),
        ("a bit in the proof", |bytes, _| flipped(bytes, 20)),
        ("a bit in the middle", |bytes, _| flipped(bytes, bytes.len() / 2)),
        ("a bit at the end", |bytes, _| flipped(bytes, bytes.len() - 1)),
    ];
    is_a_miss(&server, &server.store(), &flips).await;
    is_a_miss(&server, &server.store().secret("known to us"), &CHANGES).await;
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 4;
    flipped
}

#[tokio::test] // P64
async fn what_is_of_another_type_fails_nobody() {
    let server = Server::start().await;
    let instance = Instance::strict(&server, "one").await;
    instance.get(PAGE).await;
    let name = records(&server).await.remove(0);
    server.ask::<()>(&["DEL", &name]).await;
    server.ask::<()>(&["RPUSH", &name, "a"]).await;
    for run in 2..5 {
        assert_eq!(instance.get(PAGE).await, format!("one {run}"));
    }
    assert!(instance.cache.stats().store_failures > 0);
}

#[tokio::test] // P64
async fn what_was_not_sealed_with_the_secret_is_not_read() {
    let server = Server::start().await;
    let plain = Instance::strict(&server, "plain").await;
    assert_eq!(plain.get(PAGE).await, "plain 1");
    let ours = Instance::strict(&server.store().secret("ours"), "ours").await;
    assert_eq!((ours.get(PAGE).await, ours.get(PAGE).await), ("ours 1".to_owned(), "ours 1".to_owned()));
    let theirs = Instance::strict(&server.store().secret("theirs"), "theirs").await;
    assert_eq!(theirs.get(PAGE).await, "theirs 1");
    assert_eq!((ours.get(PAGE).await, plain.get(PAGE).await), ("ours 2".to_owned(), "plain 2".to_owned()));
}

#[tokio::test] // P75
async fn a_record_lives_for_less_than_a_second_where_it_is_to_and_each_key_ends_some_time() {
    let server = Server::start().await;
    let cache = Cache::builder().store(connected(&server).await).build();
    let origin = named("one", &[]);
    let app = origin.behind(cache.layer(Freshness::exact(Duration::from_millis(700))));
    crate::support::http::get(&app, PAGE).await;
    in_time("runs end", cache.settled()).await;
    let left: i64 = server.ask(&["PTTL", &records(&server).await[0]]).await;
    assert!((1..=700).contains(&left), "{left}");
    let instance = Instance::at(&server, "two").await;
    instance.get("http://a/tagged/page?query").await;
    instance.cache.purge_tag("quotes").await.unwrap();
    let names: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert!(names.len() > 10);
    for name in names {
        assert_ne!(server.ask::<i64>(&["PTTL", &name]).await, -1, "{name} is there for ever");
    }
}

#[tokio::test] // P75
async fn what_is_larger_than_it_may_be_is_not_sent() {
    let server = Server::start().await;
    let small = Instance::strict(&server.store().max_value(100), "a long name, which makes a long answer").await;
    small.get(PAGE).await;
    assert_eq!(records(&server).await.len(), 0);
    assert_eq!(server.ask::<Vec<String>>(&["KEYS", "*:l"]).await.len(), 0, "its lease is over all the same");
    let large = Instance::strict(&server.store().max_value(10_000), "one").await;
    large.get(PAGE).await;
    assert_eq!(records(&server).await.len(), 1);
}

#[tokio::test] // P73, P75
async fn many_misses_share_a_pair_of_connections_and_nobody_goes_through_all_keys() {
    let server = Server::start().await;
    let before: usize = clients(&server).await;
    let instance = Instance::at(&server, "one").await;
    let pages: Vec<String> = (0..100).map(|page| format!("http://a/tagged/{page}")).collect();
    let readers = pages.iter().map(|page| {
        let (instance, page) = (instance.clone(), page.clone());
        tokio::spawn(async move { instance.reply(&page).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    in_time("runs end", instance.cache.settled()).await;
    // One to ask over, and one to hear over.
    assert_eq!(clients(&server).await, before + 2);
    instance.cache.purge_path("/tagged/1").await.unwrap();
    instance.cache.purge(cacheback::Scope::path_prefix("/tagged").unwrap()).await.unwrap();
    instance.cache.purge_tag("quotes").await.unwrap();
    instance.cache.purge(cacheback::Scope::everything()).await.unwrap();
    let stats: String = server.ask(&["INFO", "commandstats"]).await;
    let asked: BTreeSet<_> =
        stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split([':', '|']).next()).collect();
    assert!(asked.contains("evalsha"), "{asked:?}");
    for all in ["keys", "scan", "flushall", "flushdb", "randomkey", "dbsize"] {
        assert!(!asked.contains(all), "{all}");
    }
    assert_eq!(instance.cache.stats().store_failures, 0);
}

async fn clients(server: &Server) -> usize {
    let list: String = server.ask(&["CLIENT", "LIST"]).await;
    list.lines().filter(|line| !line.contains("cmd=client")).count()
}

#[tokio::test] // P71
async fn whatever_is_lost_is_a_miss_and_nothing_else() {
    let server = Server::start().await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::strict(&server, "two").await);
    let names = {
        one.get("http://a/tagged/page").await;
        server.ask::<Vec<String>>(&["KEYS", "*"]).await
    };
    assert!(names.len() > 10);
    for name in names {
        let before = two.get("http://a/tagged/page").await;
        server.ask::<()>(&["DEL", &name]).await;
        let after = two.get("http://a/tagged/page").await;
        assert!(!before.is_empty() && !after.is_empty());
        assert_eq!(two.get("http://a/tagged/page").await, after, "without {name} it is made anew at most, and shared");
    }
    assert_eq!(two.cache.stats().store_failures, 0);
}
