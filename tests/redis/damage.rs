//! What stands in Redis: believed only if it is what was written, under bounds, and for no longer than it may.

use std::{collections::BTreeSet, time::Duration};

use cacheback::{Cache, Freshness, RedisStoreBuilder};

use crate::{
    instance::{HOUR, Instance, Place, connected, named},
    servers::{Server, in_time, until},
    support::http::{Origin, get, get_with},
};

const PAGE: &str = "http://a/page";
const OTHER: &str = "http://a/other";

/// For tests that count failures: on a busy machine it may take a while until a server has its turn.
fn patient(server: &Server) -> RedisStoreBuilder {
    server.store().patience(Duration::from_secs(20))
}

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

/// Puts something in the place of a record that is good, which was read before or was not, and asks for it.
async fn is_a_miss(server: &Server, place: &RedisStoreBuilder, changes: &[(&str, Change)]) {
    let instance = Instance::strict(place, "one").await;
    for (what, change, reads) in changes.iter().flat_map(|(what, change)| [(what, change, 0), (what, change, 1)]) {
        instance.get(OTHER).await;
        let other = records(server).await.remove(0);
        let other: Vec<u8> = server.ask(&["GET", &other]).await;
        instance.get(PAGE).await;
        let runs = instance.origin.runs();
        for _ in 0..reads {
            instance.get(PAGE).await;
        }
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
        assert_eq!(instance.origin.runs(), runs + 1, "{what} after {reads} reads");
        instance.get(PAGE).await;
        assert_eq!(instance.origin.runs(), runs + 1, "after {what} it is good again");
        server.ask::<()>(&["FLUSHALL"]).await;
    }
    assert_eq!(instance.cache.stats().store_failures, 0);
}

#[tokio::test] // P64, P76
async fn what_is_not_what_was_written_is_a_miss_and_no_failure() {
    let server = Server::start().await;
    is_a_miss(&server, &patient(&server), &CHANGES).await;
    let flips: [(&str, Change); 4] = [
        ("a bit at the beginning", |bytes, _| flipped(bytes, 5)),
        ("a bit in the proof", |bytes, _| flipped(bytes, 20)),
        ("a bit in the middle", |bytes, _| flipped(bytes, bytes.len() / 2)),
        ("a bit at the end", |bytes, _| flipped(bytes, bytes.len() - 1)),
    ];
    is_a_miss(&server, &patient(&server), &flips).await;
    is_a_miss(&server, &patient(&server).secret("known to us"), &CHANGES).await;
}

#[tokio::test] // P64
async fn the_variants_of_a_page_are_not_taken_for_one_another() {
    let server = Server::start().await;
    let instances = [patient(&server), patient(&server).secret("known to us")].map(async |place| {
        let origin = Origin::new(|seen| {
            ([("vary", "accept-language")], format!("{} {}", seen.field("accept-language"), seen.run))
        });
        let cache = Cache::builder().memory(0).store(connected(&place).await).build();
        (origin.behind(cache.layer(Freshness::new(HOUR))), cache)
    });
    for instance in instances {
        let (app, cache) = instance.await;
        let languages = ["de", "en", "fr"];
        let speaks = async |language: &str| {
            let reply = get_with(&app, PAGE, &[("accept-language", language)]).await;
            in_time("runs end", cache.settled()).await;
            assert!(reply.text().starts_with(language), "{language}: {reply:?}");
        };
        for language in languages {
            speaks(language).await;
        }
        let mut connection = server.connect().await.unwrap();
        let names: Vec<String> = server.ask(&["KEYS", "*:r*"]).await;
        assert!(names.len() > languages.len());
        // Each one's bytes under each other name, the one that says what selects among them included.
        for name in &names {
            for other in &names {
                let copy = redis::cmd("COPY").arg(name).arg(other).arg("REPLACE").take();
                if name != other {
                    copy.query_async::<()>(&mut connection).await.unwrap();
                }
                for language in languages {
                    speaks(language).await;
                }
            }
        }
        assert_eq!(cache.stats().store_failures, 0);
        server.ask::<()>(&["FLUSHALL"]).await;
    }
}

#[tokio::test] // P64, P71
async fn tokens_that_are_none_are_a_miss_and_made_anew() {
    let server = Server::start().await;
    let (one, two) =
        (Instance::strict(&patient(&server), "one").await, Instance::strict(&patient(&server), "two").await);
    let page = "http://a/tagged/page";
    one.get(page).await;
    let names = server.ask::<Vec<String>>(&["KEYS", "cacheback:t:*"]).await;
    assert!(names.len() > 8);
    for name in names {
        for bytes in ["", "1234567", "123456789"] {
            let before = one.get(page).await;
            assert_eq!(two.get(page).await, before);
            server.ask::<()>(&["SET", &name, bytes]).await;
            server.ask::<()>(&["DEL", "cacheback:e"]).await;
            let after = two.get(page).await;
            assert_ne!(after, before, "{name}: {bytes:?}");
            assert_eq!(one.get(page).await, after, "{name}: {bytes:?}");
        }
    }
    // With buckets that are none what has tags is kept again once they are made anew.
    for bytes in ["", "12345678"] {
        server.ask::<()>(&["SET", "cacheback:b", bytes]).await;
        one.cache.purge_tag("quotes").await.unwrap();
        let after = one.get(page).await;
        assert_eq!(two.get(page).await, after, "{bytes:?}");
    }
    assert_eq!(one.cache.stats().store_failures + two.cache.stats().store_failures, 0);
}

#[tokio::test] // P64, P72
async fn messages_that_nobody_understands_are_as_good_as_missed() {
    let server = Server::start().await;
    let one = Instance::at(&patient(&server), "one").await;
    for message in
        ["", "x", "\u{1}12345678abcdefgh", "\u{1}12345678abcdefgh\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}"]
    {
        let old = one.get(PAGE).await;
        // Nobody is told of that: memory looks there again because of the message alone.
        assert_eq!(server.ask::<usize>(&["DEL", "cacheback:t:uri://a/page"]).await, 1);
        assert_eq!(server.ask::<usize>(&["PUBLISH", "cacheback:push", message]).await, 1);
        until("memory is looked up again", async || one.get(PAGE).await != old).await;
    }
    assert_eq!(one.cache.stats().store_failures, 0);
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 4;
    flipped
}

#[tokio::test] // P64
async fn what_is_of_another_type_is_a_miss_and_made_anew() {
    let server = Server::start().await;
    let instance = Instance::strict(&patient(&server), "one").await;
    let page = "http://a/tagged/page";
    instance.get(page).await;
    for reads in [0, 1] {
        let names: Vec<String> = server.ask(&["KEYS", "cacheback:[tb{]*"]).await;
        assert!(names.len() > 10);
        for name in names {
            let before = instance.get(page).await;
            for _ in 0..reads {
                assert_eq!(instance.get(page).await, before);
            }
            server.ask::<()>(&["DEL", &name, "cacheback:e"]).await;
            server.ask::<()>(&["RPUSH", &name, "a"]).await;
            let after = instance.get(page).await;
            assert_eq!(after == before, name == "cacheback:b", "{name}: no reader needs the buckets");
            assert_eq!(instance.get(page).await, after, "{name}");
        }
    }
    assert_eq!(instance.cache.stats().store_failures, 0);
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
    get(&app, PAGE).await;
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
    let instance = Instance::at(&patient(&server), "one").await;
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
    let (one, two) = (Instance::at(&server, "one").await, Instance::strict(&patient(&server), "two").await);
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
