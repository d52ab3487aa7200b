//! Records that are vouched for, on a real server: what is asked for, and that nothing is given out that was invalidated.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use redis::Value;
use tokio::task::JoinSet;

use super::{super::masters::together, LONG, server::Server};
use crate::{
    clock,
    entry::Course,
    key::{Key, KeyBuf, UriParts},
    scope::Force,
    scope::Scope,
    store::{
        BoxFuture, Leasing, Listener, Member, Record, Saved, Store,
        redis::{RedisStore, RedisStoreBuilder, names::Names},
    },
    tags::Tags,
};

struct Nobody;

impl Listener for Nobody {
    fn invalidated(&self, _: &Scope, _: Force) {}
}

/// One whose word holds for as long as any test takes.
fn store(server: &Server) -> RedisStoreBuilder {
    RedisStore::builder().url(server.url()).patience(LONG).max_unverified(LONG)
}

async fn connected(server: &Server) -> RedisStore {
    store(server).connect().await.unwrap()
}

/// That of a page of a namespace.
fn course() -> Course {
    let mut key = KeyBuf::default();
    key.uri(UriParts { path: b"/a/b", query: None, authority: Some(b"h") }, Some(b"n"));
    Course { key: key.to_key(), variant: None }
}

async fn save(store: &RedisStore, course: &Course, bytes: &'static str) {
    let since = store.claim(course, Leasing::Unwanted).await.unwrap().since;
    let record = Record { bytes: bytes.into(), tags: Tags::new(["t"]), time_to_live: Duration::from_secs(3_600) };
    assert_eq!(store.save(course, record, &since).await.unwrap(), Saved::Kept);
}

async fn fetch(store: &RedisStore, course: &Course) -> Option<Bytes> {
    store.fetch(course).await.unwrap().map(|found| found.bytes)
}

/// How often a server was asked for values.
fn asked(server: &Server) -> u32 {
    server.calls("mget")["calls=".len()..].parse().expect("a number")
}

/// What is found, and how often that asks for values.
async fn asking(server: &Server, store: &RedisStore) -> (Option<Bytes>, u32) {
    let before = asked(server);
    (fetch(store, &course()).await, asked(server) - before)
}

/// As often as that where all tokens are compared: those of the tags are known from the record.
const COMPARED: u32 = 2;

fn found(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[tokio::test] // P71, P75
async fn tokens_are_compared_again_after_any_invalidation_and_not_before() {
    let server = Server::start(&[]);
    let (store, other) = (connected(&server).await, connected(&server).await);
    let me = other.join(Weak::<Nobody>::new());
    save(&store, &course(), "one").await;
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
    for _ in 0..3 {
        assert_eq!(asking(&server, &store).await, (found("one"), 1));
    }
    other.invalidate(&Scope::tag("of nothing here"), Force::Expire, &me).await.unwrap();
    assert_eq!(asking(&server, &store).await, (found("one"), 1 + COMPARED), "the epoch is another");
    assert_eq!(asking(&server, &store).await, (found("one"), 1));
    // Of several records that were vouched for one asks in vain.
    let another = Course { key: Key::from("another"), variant: None };
    save(&store, &another, "another").await;
    assert_eq!(fetch(&store, &another).await, found("another"));
    other.invalidate(&Scope::tag("of nothing here"), Force::Expire, &me).await.unwrap();
    assert_eq!(fetch(&store, &another).await, found("another"));
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED), "that it is another is known");
}

#[tokio::test] // P31, P71
async fn what_is_vouched_for_is_gone_once_it_is_invalidated_by_whatever_reaches_it() {
    let server = Server::start(&[]);
    let (store, other) = (connected(&server).await, connected(&server).await);
    let me = other.join(Weak::<Nobody>::new());
    let scopes = [
        Scope::from(&course().key),
        Scope::uri("http://h/a/b").unwrap(),
        Scope::path("/a/b").unwrap(),
        Scope::path_prefix("/a").unwrap(),
        Scope::tag("t"),
        Scope::group("http://h", "t").unwrap(),
        Scope::namespace("n"),
        Scope::everything(),
    ];
    for scope in scopes {
        save(&store, &course(), "old").await;
        assert_eq!(fetch(&store, &course()).await, found("old"));
        assert_eq!(asking(&server, &store).await, (found("old"), 1), "{scope:?}: vouched for");
        other.invalidate(&scope, Force::Purge, &me).await.unwrap();
        assert_eq!(fetch(&store, &course()).await, None, "{scope:?}");
        assert_eq!(fetch(&store, &course()).await, None, "{scope:?}");
    }
}

#[tokio::test] // P25, P33
async fn another_record_in_the_place_of_one_that_is_vouched_for_is_compared() {
    let server = Server::start(&[]);
    let (store, other) = (connected(&server).await, connected(&server).await);
    save(&store, &course(), "one").await;
    assert_eq!(fetch(&store, &course()).await, found("one"));
    save(&other, &course(), "another").await;
    assert_eq!(asking(&server, &store).await, (found("another"), 1 + COMPARED));
    assert_eq!(asking(&server, &store).await, (found("another"), 1));
    let since = other.claim(&course(), Leasing::Unwanted).await.unwrap().since;
    other.forget(&course(), &since).await.unwrap();
    assert_eq!(asking(&server, &store).await, (None, 1));
}

#[tokio::test] // P7
async fn what_is_vouched_for_grows_older_like_all_else() {
    let server = Server::start(&[]);
    let store = connected(&server).await;
    save(&store, &course(), "one").await;
    let age = async || store.fetch(&course()).await.unwrap().unwrap().age;
    let (compared, believed, again) = (age().await, age().await, age().await);
    assert!(compared < believed && believed < again, "{compared:?}, {believed:?}, {again:?}");
}

#[tokio::test] // P71
async fn an_epoch_that_is_there_stays_whoever_comes() {
    let server = Server::start(&[]);
    let store = connected(&server).await;
    save(&store, &course(), "one").await;
    assert_eq!(fetch(&store, &course()).await, found("one"));
    let epoch = server.answer("GET cacheback:e");
    let newcomer = connected(&server).await;
    assert_eq!(fetch(&newcomer, &course()).await, found("one"));
    assert_eq!(server.answer("GET cacheback:e"), epoch);
    assert_eq!(asking(&server, &store).await, (found("one"), 1));
    // Whoever knows that there is one makes none.
    save(&store, &course(), "two").await;
    let made = server.calls("set");
    assert_eq!((asking(&server, &store).await, server.calls("set")), ((found("two"), 1 + COMPARED), made));
}

#[tokio::test] // P71, P72
async fn caches_of_different_prefixes_know_nothing_of_each_other() {
    let server = Server::start(&[]);
    let (store, other) = (connected(&server).await, self::store(&server).prefix("other").connect().await.unwrap());
    save(&other, &course(), "its own").await;
    save(&store, &course(), "one").await;
    assert_eq!(fetch(&store, &course()).await, found("one"));
    assert_eq!(fetch(&other, &course()).await, found("its own"));
    let generation = store.standing().generation();
    for scope in [Scope::everything(), Scope::tag("t")] {
        other.invalidate(&scope, Force::Purge, &Member(0)).await.unwrap();
    }
    assert_eq!(asking(&server, &store).await, (found("one"), 1), "nothing ends its epoch");
    assert_eq!((fetch(&other, &course()).await, store.standing().generation()), (None, generation));
    let Value::Array(names) = server.answer("KEYS *") else { panic!("a list") };
    let is_of_one = |name: &Value| matches!(name, Value::BulkString(name) if name.starts_with(b"cacheback:") || name.starts_with(b"other:"));
    assert!(names.iter().all(is_of_one), "{names:?}");
}

#[tokio::test] // P71, P72
async fn what_took_long_to_be_compared_is_vouched_for_from_its_beginning() {
    let server = Server::start(&[]);
    let lasts = Duration::from_millis(200);
    let store = store(&server).max_unverified(lasts).connect().await.unwrap();
    save(&store, &course(), "one").await;
    server.signal("-STOP");
    let course = course();
    let mut slow = store.fetch(&course);
    assert!(clock::timeout(lasts, &mut slow).await.is_none());
    server.signal("-CONT");
    assert!(slow.await.unwrap().is_some());
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
}

#[tokio::test] // P71
async fn without_an_epoch_tokens_are_compared_until_there_is_one() {
    let server = Server::start(&[]);
    let store = connected(&server).await;
    save(&store, &course(), "one").await;
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
    assert!(matches!(server.answer("PTTL cacheback:e"), Value::Int(86_000_000..=86_400_000)));
    for lost in ["DEL cacheback:e", "PEXPIRE cacheback:e 0"] {
        server.answer(lost);
        assert_eq!(asking(&server, &store).await, (found("one"), 1 + COMPARED), "{lost}");
        assert_eq!(asking(&server, &store).await, (found("one"), 1), "{lost}");
    }
    // One that is none stands until an invalidation ends it.
    server.answer("SET cacheback:e odd");
    assert_eq!(asking(&server, &store).await, (found("one"), 1 + COMPARED));
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
    store.invalidate(&Scope::tag("another"), Force::Purge, &Member(0)).await.unwrap();
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
    assert_eq!(asking(&server, &store).await, (found("one"), 1));
    // In a Redis without room there is none, which fails nobody.
    server.answer("CONFIG SET maxmemory 1");
    server.answer("DEL cacheback:e");
    assert_eq!(asking(&server, &store).await, (found("one"), 1 + COMPARED));
    assert_eq!(asking(&server, &store).await, (found("one"), COMPARED));
}

#[tokio::test] // P71
async fn a_token_that_is_deleted_by_hand_shows_at_once_with_the_epoch_and_after_a_while_without() {
    let server = Server::start(&[]);
    let brief = store(&server).max_unverified(Duration::from_millis(50)).connect().await.unwrap();
    let store = connected(&server).await;
    for token in ["uri:/a/b", "key:", "tag:t"].map(|token| format!("cacheback:t:{token}")) {
        save(&store, &course(), "old").await;
        let Value::Array(names) = server.answer(&format!("KEYS {token}*")) else { panic!("a list") };
        let Value::BulkString(name) = &names[0] else { panic!("a name") };
        let name = str::from_utf8(name).unwrap();
        for _ in 0..2 {
            assert_eq!(fetch(&store, &course()).await, found("old"));
        }
        server.answer(&format!("DEL {name} cacheback:e"));
        assert_eq!(fetch(&store, &course()).await, None, "{name}");
        save(&store, &course(), "old").await;
        assert_eq!(fetch(&brief, &course()).await, found("old"));
        server.answer(&format!("DEL {name}"));
        let gone = async { while fetch(&brief, &course()).await.is_some() {} };
        clock::timeout(LONG, gone).await.expect("it is noticed");
    }
}

#[tokio::test] // P71
async fn what_a_server_brings_back_is_not_vouched_for_by_what_it_was() {
    let mut server = Server::start(&[]);
    let (store, trusting) = (connected(&server).await, store(&server).trust_restarts().connect().await.unwrap());
    let [it, trusted] = ["it", "trusted"].map(|key| Course { key: Key::from(key), variant: None });
    save(&store, &it, "it").await;
    save(&trusting, &trusted, "trusted").await;
    for _ in 0..2 {
        assert_eq!(fetch(&store, &it).await, found("it"));
        assert_eq!(fetch(&trusting, &trusted).await, found("trusted"));
    }
    server.answer("SAVE");
    server.kill();
    server.restart();
    let again = async |store: &RedisStore, course: &Course| {
        let found = async {
            loop {
                match store.fetch(course).await {
                    Ok(found) => return found.map(|found| found.bytes),
                    Err(_) => clock::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        clock::timeout(LONG, found).await.expect("it is back")
    };
    assert_eq!(again(&store, &it).await, None);
    assert_eq!(again(&trusting, &trusted).await, found("trusted"));
}

#[tokio::test] // P64
async fn what_is_vouched_for_is_no_more_believed_than_anything_else_there() {
    let server = Server::start(&[]);
    let store = store(&server).secret("secret").connect().await.unwrap();
    let name = String::from_utf8(Names::new("cacheback").record(&course())).unwrap();
    for change in [format!("SETRANGE {name} 60 x"), format!("APPEND {name} x"), format!("SET {name} x")] {
        save(&store, &course(), "a record that is long enough").await;
        for _ in 0..2 {
            assert_eq!(fetch(&store, &course()).await, found("a record that is long enough"));
        }
        server.answer(&change);
        assert_eq!(fetch(&store, &course()).await, None, "{change}");
    }
    server.answer(&format!("DEL {name}"));
    server.answer(&format!("RPUSH {name} x"));
    assert_eq!(fetch(&store, &course()).await, None);
}

#[tokio::test] // P71, P75
async fn those_who_read_at_the_same_time_ask_in_one_go_and_each_gets_his_own() {
    let server = Server::start(&[]);
    let store = connected(&server).await;
    let courses: Vec<_> = (0..33).map(|at| Course { key: Key::from(format!("{at}")), variant: None }).collect();
    for (at, course) in courses.iter().enumerate() {
        save(&store, course, format!("record {at}").leak()).await;
        assert!(fetch(&store, course).await.is_some());
    }
    let missing = &courses[9];
    let since = store.claim(missing, Leasing::Unwanted).await.unwrap().since;
    store.forget(missing, &since).await.unwrap();
    // Nobody is the worse for what is beside him.
    let odd = String::from_utf8(Names::new("cacheback").record(&courses[10])).unwrap();
    server.answer(&format!("DEL {odd}"));
    server.answer(&format!("RPUSH {odd} x"));
    let before = asked(&server);
    let all = together(courses.iter().map(|course| fetch(&store, course))).await;
    for (at, bytes) in all.into_iter().enumerate() {
        assert_eq!(bytes, (!(9..=10).contains(&at)).then(|| Bytes::from(format!("record {at}"))));
    }
    assert_eq!(asked(&server) - before, 2, "32 and one more");
    // What is large is not asked for together with much else.
    let courses = ["a", "b", "c"].map(|key| Course { key: Key::from(key), variant: None });
    for course in &courses {
        save(&store, course, "x".repeat(600 << 10).leak()).await;
        assert!(fetch(&store, course).await.is_some());
    }
    let before = asked(&server);
    let all = together(courses.iter().map(|course| fetch(&store, course))).await;
    assert!(all.iter().all(|found| found.as_ref().is_some_and(|bytes| bytes.len() == 600 << 10)));
    assert_eq!(asked(&server) - before, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // P31, P71
async fn what_many_read_at_once_is_never_older_than_an_invalidation_that_had_returned() {
    let server = Server::start(&[]);
    let (store, other) = (connected(&server).await, connected(&server).await);
    let (purged, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let (store, purged, is_over) = (store.clone(), Arc::clone(&purged), Arc::clone(&is_over));
        readers.spawn(async move {
            let mut found = 0;
            while !is_over.load(SeqCst) {
                let before = purged.load(SeqCst);
                let Some(bytes) = fetch(&store, &course()).await else { continue };
                let read: usize = str::from_utf8(&bytes).unwrap().parse().unwrap();
                assert!(read >= before, "{read} was read when it had to be {before} at least");
                found += 1;
            }
            found
        });
    }
    let scopes = [Scope::path("/a/b").unwrap(), Scope::tag("t"), Scope::everything(), Scope::tag("of nothing here")];
    for (round, scope) in (1..=100_usize).zip(scopes.iter().cycle()) {
        other.invalidate(scope, Force::Purge, &Member(0)).await.unwrap();
        if *scope != scopes[3] {
            purged.store(round, SeqCst);
        }
        save(&other, &course(), round.to_string().leak()).await;
        assert!(fetch(&store, &course()).await.is_some());
    }
    is_over.store(true, SeqCst);
    let found = clock::timeout(LONG, readers.join_all()).await.expect("they end");
    assert!(found.into_iter().all(|found| found > 0));
}

#[tokio::test] // P74
async fn one_who_has_gone_leaves_nobody_waiting() {
    let server = Server::start(&[]);
    let store = connected(&server).await;
    save(&store, &course(), "one").await;
    assert_eq!(fetch(&store, &course()).await, found("one"));
    let course = course();
    let is_waiting =
        |one: &mut BoxFuture<'_, _>| one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    // Both have asked, and the one who was first is gone before anything was sent, and later and later.
    for steps in 0..5 {
        let before = asked(&server);
        let (mut first, mut second) = (store.fetch(&course), store.fetch(&course));
        assert!(is_waiting(&mut first) && is_waiting(&mut second));
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert!(clock::timeout(LONG, second).await.expect("an answer").unwrap().is_some());
        assert_eq!(asked(&server) - before, 1, "after {steps} steps");
    }
    // Or does not wait for as long as the other one, until there are answers.
    let before = asked(&server);
    server.signal("-STOP");
    let (mut first, mut second) = (store.fetch(&course), store.fetch(&course));
    assert!(is_waiting(&mut first) && is_waiting(&mut second));
    assert!(clock::timeout(Duration::from_millis(50), first).await.is_none());
    assert!(is_waiting(&mut second));
    server.signal("-CONT");
    assert!(clock::timeout(LONG, second).await.expect("an answer").unwrap().is_some());
    assert_eq!(asked(&server) - before, 1);
}

#[test] // P74
fn where_the_connections_are_no_more_everybody_asks_for_himself() {
    let server = Server::start(&[]);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let store = first.block_on(async {
        let store = connected(&server).await;
        save(&store, &course(), "one").await;
        assert_eq!(fetch(&store, &course()).await, found("one"));
        store
    });
    let fetched = || second.block_on(clock::timeout(LONG, fetch(&store, &course()))).expect("an answer");
    // One of another runtime is answered by the first's …
    assert_eq!(fetched(), found("one"));
    drop(first);
    // … and when that is gone by its own.
    assert_eq!(fetched(), found("one"));
}

#[test] // P74
fn whoever_waits_in_vain_for_what_is_asked_for_many_opens_the_breaker() {
    let server = Server::start(&[]);
    // Where the connections are nothing goes on any more.
    let stalled = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = stalled.block_on(async {
        let store = store(&server).patience(Duration::from_secs(2)).connect().await.unwrap();
        save(&store, &course(), "one").await;
        assert_eq!(fetch(&store, &course()).await, found("one"));
        store
    });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = Duration::from_millis(1_100);
    assert!(other.block_on(clock::timeout(patience, fetch(&store, &course()))).is_none());
    assert!(store.standing().is_down());
}
