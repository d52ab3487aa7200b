//! A cache without memory over a store: every read asks the store, and all else is as with memory.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use cacheback::{Cache, Detail, ErrorKind, Freshness, Key, Placeholder, Plan, Scope, grpc, testing::LocalStore};
use http_body::Frame;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};
use tower::Layer;

use super::instances::{millis, over};
use crate::{
    Instance, Number, freshness,
    support::{
        http::{Clients, Fields, Origin as Pages, get, get_with, request, send},
        typed::{Act, Gate, Get, Origin, TypedLayer, answers, ask, at_once, crowd, idle, in_time, layer, pass, secs},
    },
};

/// Instance `number` over a store, without memory.
fn strict(store: &LocalStore, number: u64, set: impl FnOnce(TypedLayer) -> TypedLayer) -> Instance {
    over(&Cache::builder().memory(0).store(store.clone()).build_for(Number), number, set)
}

fn plain(store: &LocalStore, number: u64) -> Instance {
    strict(store, number, |layer| layer)
}

fn a() -> Key {
    Key::from("a")
}

/// An application behind a cache without memory.
struct Site {
    origin: Pages,
    cache: Cache,
    app: axum::Router,
}

impl Site {
    fn of(store: &LocalStore, fields: Fields) -> Self {
        let cache = Cache::builder().memory(0).store(store.clone()).build();
        let origin = Pages::with_fields(fields);
        let app = origin.behind(cache.layer(secs(60)));
        Self { origin, cache, app }
    }

    async fn get(&self, fields: &[(&str, &str)]) -> String {
        let reply = get_with(&self.app, "http://a/page", fields).await;
        self.cache.settled().await;
        format!("{} ({})", reply.text(), reply.said())
    }
}

#[tokio::test(start_paused = true)]
async fn every_read_asks_the_store_and_memory_keeps_no_response() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| plain(&store, number));
    assert_eq!(one.get("a").await, 10);
    for read in 1..=3 {
        let before = store.operations();
        assert_eq!((one.get("a").await, two.get("a").await), (10, 10));
        assert_eq!(store.operations() - before, 2, "read {read}");
    }
    assert_eq!((one.origin.runs(), two.origin.runs()), (1, 0));
    assert_eq!((one.cache.peek(a()).len(), one.stats().keys), (0, 0));
    let stats = one.stats();
    assert_eq!((stats.misses, stats.hits, stats.stored, stats.runs_completed, stats.bytes), (1, 3, 1, 1, 0));
}

#[tokio::test(start_paused = true)] // P72
async fn what_anybody_has_invalidated_nobody_reads_whatever_he_has_heard() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| plain(&store, number));
    assert_eq!((one.get("a").await, two.get("a").await), (10, 10));
    store.cut(true);
    one.cache.purge(a()).await.unwrap();
    assert_eq!((two.get("a").await, one.get("a").await), (20, 20));
    two.cache.expire(Scope::everything()).await.unwrap();
    assert_eq!(one.get("a").await, 11, "there is nobody who holds the stale one");
    one.service.put(Get("a"), 99).await.unwrap();
    assert_eq!((two.get("a").await, one.get("a").await), (99, 99));
}

#[tokio::test(start_paused = true)] // P10, P70
async fn a_crowd_that_finds_nothing_is_answered_by_one_run_of_one_instance() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let all = [1, 2, 3].map(|number| plain(&store, number));
    let mut crowds = Vec::new();
    for each in &all {
        each.origin.always(Act::AnswerAfter(gate.clone()));
        crowds.push(crowd(&each.service, "a", 100).await);
    }
    gate.open();
    for crowd in crowds {
        assert_eq!(answers(crowd).await, [10; 100]);
    }
    assert_eq!(all.iter().map(|each| each.origin.runs()).sum::<u64>(), 1);
    let stats = all[0].stats();
    assert_eq!((stats.misses, stats.collapsed), (1, 99));
}

#[tokio::test(start_paused = true)] // P5, P70
async fn what_is_stale_is_served_at_once_and_refreshed_once() {
    let (store, gate) = (LocalStore::new(), Gate::new());
    let all = [1, 2, 3].map(|number| plain(&store, number));
    all[0].get("a").await;
    pass(secs(40)).await;
    for each in &all {
        each.origin.always(Act::AnswerAfter(gate.clone()));
        assert_eq!(answers(crowd(&each.service, "a", 5).await).await, [10; 5]);
    }
    assert_eq!(all.iter().map(|each| each.origin.runs()).sum::<u64>(), 2);
    gate.open();
    for each in &all {
        each.cache.settled().await;
        assert_eq!(each.get("a").await, 11);
    }
    assert_eq!(all.iter().map(|each| each.origin.runs()).sum::<u64>(), 2);
    assert_eq!((all[1].stats().stale_hits, all[1].stats().runs_spared), (5, 1));
}

#[tokio::test(start_paused = true)] // P6, P22
async fn after_a_failed_run_the_next_one_is_put_off_though_memory_keeps_nothing() {
    for (age, runs) in [(secs(40), 1), (secs(100), 1)] {
        let store = LocalStore::new();
        let one = plain(&store, 1);
        one.get("a").await;
        pass(age).await;
        one.origin.always(Act::Fail);
        for _ in 0..5 {
            assert_eq!(one.get("a").await, 10);
        }
        assert_eq!(one.origin.runs(), 1 + runs);
        pass(secs(1)).await;
        one.origin.always(Act::Answer);
        one.get("a").await;
        assert_eq!((one.origin.runs(), one.get("a").await), (2 + runs, 12));
    }
}

#[tokio::test(start_paused = true)] // P2, P6
async fn past_its_last_horizon_nothing_stands_in() {
    let store = LocalStore::new();
    let one = plain(&store, 1);
    one.get("a").await;
    one.origin.always(Act::Fail);
    pass(secs(149)).await;
    assert_eq!(one.get("a").await, 10);
    pass(secs(2)).await;
    assert!(ask(&one.service, "a").await.is_err());
}

#[tokio::test(start_paused = true)] // P6
async fn a_reader_of_what_is_too_stale_waits_no_longer_than_he_is_made_to() {
    let store = LocalStore::new();
    let one = strict(&store, 1, |layer| layer.soft_timeout(secs(1)));
    one.get("a").await;
    pass(secs(100)).await;
    let gate = Gate::new();
    one.origin.next_time(Act::AnswerAfter(gate.clone()));
    for _ in 0..2 {
        assert_eq!(in_time(millis(1_001), ask(&one.service, "a")).await.unwrap(), 10);
    }
    gate.open();
    one.cache.settled().await;
    assert_eq!((one.get("a").await, one.origin.runs()), (11, 2));
}

#[tokio::test(start_paused = true)] // P15
async fn what_cannot_be_shared_marks_its_key_and_nobody_waits_for_another_one() {
    let store = LocalStore::new();
    let site = Site::of(&store, &[("set-cookie", "me=1")]);
    assert_eq!(site.get(&[]).await, "1 (fwd=uri-miss; fwd-status=200; detail=set-cookie)");
    site.origin.only_the_first(1);
    let mut clients = Clients::new();
    for _ in 0..20 {
        clients.get(&site.app, "http://a/page", &[]).await;
    }
    site.origin.begun(21).await;
    site.origin.release();
    assert_eq!(clients.answers().await.len(), 20);
    assert_eq!((store.records(), site.cache.stats().refused), (0, 21));
}

#[tokio::test(start_paused = true)] // P44
async fn variants_are_told_apart() {
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Site::of(&store, &[("vary", "accept-language")]));
    let [de, en] = ["de", "en"].map(|language| [("accept-language", language)]);
    assert!(one.get(&de).await.starts_with("1 (fwd=uri-miss"));
    assert!(two.get(&en).await.starts_with("1 (fwd="));
    for each in [&one, &two] {
        assert_eq!(each.get(&de).await, "1 (hit; ttl=60)");
        assert_eq!(each.get(&en).await, "1 (hit; ttl=60)");
    }
    assert_eq!((one.origin.runs(), two.origin.runs()), (1, 1));
    one.cache.purge_path("/page").await.unwrap();
    assert!(two.get(&de).await.starts_with("2 (fwd="));
}

#[tokio::test(start_paused = true)] // P40, P46, P47
async fn heads_parts_and_conditions_are_answered_from_the_store() {
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Site::of(&store, &[("etag", "\"e\"")]));
    one.get(&[]).await;
    let head = send(&two.app, request("HEAD", "http://a/page", &[])).await;
    assert_eq!((head.text(), head.field("content-length"), head.said()), ("", "1".into(), "hit; ttl=60".into()));
    let part = get_with(&two.app, "http://a/page", &[("range", "bytes=0-0")]).await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "1"));
    let same = get_with(&two.app, "http://a/page", &[("if-none-match", "\"e\"")]).await;
    assert_eq!(same.status, 304);
    assert_eq!((two.origin.runs(), two.cache.stats().hits), (0, 3));
    // Where there is nothing they are passed on, and fill nothing.
    let head = send(&two.app, request("HEAD", "http://a/other", &[])).await;
    assert_eq!((head.said(), store.records()), ("fwd=uri-miss; fwd-status=200; detail=head".into(), 1));
    let part = get_with(&two.app, "http://a/other", &[("range", "bytes=0-0")]).await;
    assert_eq!((part.outcome().detail().map(|detail| detail.as_str()), store.records()), (Some("range"), 1));
    assert_eq!(two.origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P36
async fn an_unsafe_method_is_followed_by_a_new_response() {
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Site::of(&store, &[]));
    one.get(&[]).await;
    send(&two.app, request("POST", "http://a/page", &[])).await;
    assert!(one.get(&[]).await.starts_with("2 (fwd=uri-miss"));
}

#[tokio::test(start_paused = true)] // P46
async fn what_is_stale_is_validated() {
    let store = LocalStore::new();
    let site = Site::of(&store, &[("etag", "\"e\""), ("cache-control", "max-age=10, stale-while-revalidate=60")]);
    site.get(&[]).await;
    pass(secs(20)).await;
    assert_eq!(site.get(&[]).await, "1 (hit; ttl=-11)");
    assert_eq!(site.origin.last().field("if-none-match"), "\"e\"");
}

#[tokio::test(start_paused = true)] // P35
async fn what_would_become_of_a_request_is_what_becomes_of_it() {
    let store = LocalStore::new();
    let cache = Cache::builder().memory(0).store(store.clone()).build_for(Number);
    let layer = layer().freshness(freshness()).over_cache(&cache);
    let service = layer.layer(Origin::new());
    assert_eq!(layer.explain(Get("a")).await.plan(), Plan::Lead);
    ask(&service, "a").await.unwrap();
    cache.settled().await;
    assert_eq!(layer.explain(Get("a")).await.to_string(), "hit; ttl=30; plan=nothing");
    pass(secs(40)).await;
    assert_eq!(layer.explain(Get("a")).await.plan(), Plan::Refresh);
    assert_eq!((cache.stats().requests(), cache.stats().runs_completed), (1, 1));
}

#[tokio::test(start_paused = true)] // P26
async fn a_run_that_is_forced_does_not_take_what_is_there() {
    let store = LocalStore::new();
    let [one, two] = [1, 2].map(|number| plain(&store, number));
    one.get("a").await;
    assert_eq!(two.service.refresh(Get("a")).await.unwrap(), 20);
    two.cache.settled().await;
    assert_eq!(one.get("a").await, 20);
    two.origin.always(Act::Fail);
    assert!(two.service.refresh(Get("a")).await.is_err());
    assert_eq!(two.get("a").await, 20, "it leaves what is stored as it is");
}

#[tokio::test(start_paused = true)] // P23
async fn what_is_over_is_over() {
    let store = LocalStore::new();
    let one = strict(&store, 1, |layer| layer.admit(|_, number| *number != 11));
    one.get("a").await;
    pass(secs(40)).await;
    assert_eq!((one.get("a").await, store.records()), (10, 0));
    assert_eq!((one.get("a").await, store.records()), (12, 1));
}

#[tokio::test(start_paused = true)] // P30, P31
async fn what_is_invalidated_while_it_is_made_is_not_stored() {
    for purge in [true, false] {
        let (store, gate) = (LocalStore::new(), Gate::new());
        let one = plain(&store, 1);
        one.origin.next_time(Act::AnswerAfter(gate.clone()));
        let reader = crowd(&one.service, "a", 2).await;
        if purge {
            one.cache.purge(a()).await.unwrap();
        } else {
            one.cache.expire(a()).await.unwrap();
        }
        assert_eq!(at_once(ask(&one.service, "a")).await.unwrap(), 11, "he joins no run from before");
        gate.open();
        assert_eq!(answers(reader).await, [10, 10]);
        one.cache.settled().await;
        assert_eq!((one.get("a").await, one.stats().refused_for(Detail::Invalidated)), (11, 1));
    }
}

// ## Trouble

#[tokio::test(start_paused = true)] // P10, P74, P96
async fn where_the_store_cannot_be_asked_the_service_is_called_and_nothing_is_said_to_be_stored() {
    for slow in [false, true] {
        let (store, gate) = (LocalStore::new(), Gate::new());
        let (tell, mut told) = mpsc::unbounded_channel();
        let one =
            strict(&store, 1, |layer| layer.on_outcome(move |_, outcome| tell.send(outcome.to_string()).unwrap()));
        if slow {
            store.delay(secs(3_600));
        } else {
            store.fail(true);
        }
        one.origin.next_time(Act::AnswerAfter(gate.clone()));
        let crowd = crowd(&one.service, "a", 100).await;
        pass(millis(100)).await;
        assert_eq!(one.origin.under_way(), 1);
        gate.open();
        assert_eq!(answers(crowd).await, [10; 100]);
        while let Ok(said) = told.try_recv() {
            assert!(!said.contains("stored") && said.contains("detail=store-down"), "{said}");
        }
        one.cache.settled().await;
        assert_eq!((one.stats().stored, at_once(ask(&one.service, "a")).await.unwrap()), (0, 11));
        // It is asked again.
        store.delay(Duration::ZERO);
        store.fail(false);
        pass(secs(1)).await;
        assert_eq!((one.get("a").await, one.get("a").await, store.records()), (12, 12, 1));
    }
}

/// A body that is a second late.
struct Late(Option<Pin<Box<Sleep>>>);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(second) = &mut self.0 else { return Poll::Ready(None) };
        ready!(second.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"late")))))
    }
}

#[tokio::test(start_paused = true)] // P96
async fn what_streams_while_the_store_cannot_be_asked_is_not_said_to_be_stored() {
    let store = LocalStore::new();
    let cache = Cache::builder().memory(0).store(store.clone()).build();
    let origin =
        Pages::new(|_| axum::response::Response::new(axum::body::Body::new(Late(Some(Box::pin(sleep(secs(1))))))));
    let app = origin.behind(cache.layer(secs(60)));
    store.fail(true);
    assert_eq!(get(&app, "http://a/page").await.said(), "fwd=uri-miss; fwd-status=200");
    cache.settled().await;
    store.fail(false);
    pass(secs(1)).await;
    assert_eq!(get(&app, "http://a/page").await.said(), "fwd=uri-miss; fwd-status=200; stored");
}

#[tokio::test(start_paused = true)] // P74
async fn all_that_a_request_asks_of_the_store_takes_a_tenth_of_a_second_together() {
    for delay in [10, 30, 45, 60, 99, 101] {
        let store = LocalStore::new();
        let one = plain(&store, 1);
        one.get("a").await;
        pass(secs(40)).await;
        store.delay(millis(delay));
        for key in ["a", "b", "b"] {
            in_time(millis(101), ask(&one.service, key)).await.unwrap();
            pass(secs(2)).await;
        }
        let waiting = in_time(millis(101), async { crowd(&one.service, "c", 5).await.join_all().await }).await;
        assert!(waiting.into_iter().all(|answer| answer.is_ok()));
    }
}

#[tokio::test(start_paused = true)] // P31, P74
async fn what_the_store_could_not_be_told_nobody_reads_here_when_it_is_back() {
    let store = LocalStore::new();
    let one = plain(&store, 1);
    one.get("a").await;
    store.fail(true);
    assert_eq!(one.cache.purge(a()).await.unwrap_err().kind(), ErrorKind::Store);
    store.fail(false);
    assert_eq!(one.get("a").await, 11);
}

#[tokio::test(start_paused = true)] // P8
async fn what_is_due_early_is_refreshed_once() {
    let store = LocalStore::new();
    let gate = Gate::new();
    let one = strict(&store, 1, |layer| layer.early_refresh(1e9));
    one.origin.next_time(Act::AnswerAfter(gate.clone()));
    let reader = crowd(&one.service, "a", 1).await;
    pass(secs(1)).await;
    gate.open();
    assert_eq!(answers(reader).await, [10]);
    one.cache.settled().await;
    assert_eq!((one.get("a").await, one.origin.runs()), (10, 2));
}

// ## Other layers

#[tokio::test(start_paused = true)] // P82
async fn a_placeholder_stands_in_until_the_store_has_something() {
    let store = LocalStore::new();
    let one = strict(&store, 1, |layer| layer.on_miss(Placeholder(0)));
    assert_eq!((one.get("a").await, one.get("a").await), (0, 10));
    assert_eq!((one.stats().placeholders, one.origin.runs()), (1, 1));
    one.origin.always(Act::Fail);
    assert_eq!((one.get("b").await, one.get("b").await, one.origin.runs()), (0, 0, 2));
}

#[tokio::test(start_paused = true)] // P80
async fn a_grpc_layer_reads_from_the_store() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let store = LocalStore::new();
    let answered = |price: &'static [u8]| {
        let cache = Cache::builder().memory(0).store(store.clone()).build();
        let layer = cache.grpc().method("/quotes.Quotes/Get", secs(60));
        let answer = move |_| async move { Ok::<_, Infallible>(grpc::answer(price)) };
        (layer.layer(tower::service_fn(answer)), cache)
    };
    let [(one, cache), (other, _)] = [answered(b"one"), answered(b"other")];
    let call = || grpc::call("http://a/quotes.Quotes/Get", b"ACME").unwrap();
    for service in [&one, &other, &one] {
        let answer = service.clone().oneshot(call()).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!((answer.trailers().unwrap()["grpc-status"].as_bytes()), b"0");
        assert_eq!(answer.to_bytes(), grpc::frame(b"one"));
        cache.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_store_a_cache_without_memory_stores_nothing() {
    let site = Pages::counting();
    let cache = Cache::builder().memory(0).build();
    let app = site.behind(cache.layer(Freshness::new(secs(60))));
    for run in ["1", "2"] {
        let page = get(&app, "http://a/page").await;
        assert_eq!((page.text(), page.said()), (run, "fwd=uri-miss; fwd-status=200; detail=too-large".into()));
    }
    idle().await;
}
