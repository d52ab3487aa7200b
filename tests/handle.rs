//! What can be done to a cache by hand: a response is put, looked at, forced to be new; a request is explained; all is
//! counted, and drained in the end.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::pin::pin;

use axum::{
    Extension, Router,
    body::Body,
    response::{IntoResponse, Response},
};
use cacheback::{
    Cache, CacheStatus, CachebackLayer, Detail, ErrorKind, Explanation, ForceRefresh, Freshness, Key, Plan, Scope, Tags,
};
use http::Request;
use support::{
    http::{self as web, Clients, Fields, get_with, headers, request, send, settle},
    net::scripted,
    typed::{Act, Down, Gate, Get, Origin, answers, ask, at_once, crowd, idle, layer, pass, secs},
};
use tower::Layer;

/// Fresh for 10 s, stale at once for 10 more, kept for 10 more should the service fail.
const WINDOWS: Freshness = Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20));

fn forced(method: &str, uri: &str) -> Request<Body> {
    let mut request = request(method, uri, &[]);
    request.extensions_mut().insert(ForceRefresh);
    request
}

// ---- put ----

#[tokio::test(start_paused = true)] // P33
async fn a_put_that_is_refused_changes_nothing_and_voids_no_run() {
    let lasting = layer().weigh(|value| if *value == 77 { usize::MAX } else { 8 });
    for (layer, words) in [(lasting, "too-large"), (layer().freshness(Freshness::exact(secs(0))), "no-lifetime")] {
        let origin = Origin::new();
        let service = layer.layer(origin.service());
        ask(&service, "stored").await.unwrap();
        origin.next_time(Act::Hang);
        let _leader = crowd(&service, "filled", 1).await;
        idle().await;
        let explained = async || {
            let (stored, filled) = (layer.explain(Get("stored")).await, layer.explain(Get("filled")).await);
            format!("{stored}, {filled}")
        };
        let before = explained().await;
        for key in ["stored", "filled"] {
            let error = layer.put(Get(key), 77).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().ends_with(words), "{error}");
        }
        assert_eq!(explained().await, before);
    }
}

#[tokio::test(start_paused = true)] // P33
async fn what_is_put_is_read_and_lives_as_long_as_the_layer_says() {
    let (origin, layer) = (Origin::new(), layer().freshness(WINDOWS));
    let service = layer.layer(origin.service());
    layer.put(Get("k"), 77).await.unwrap();
    assert_eq!(ask(&service, "k").await, Ok(77));
    pass(secs(10)).await;
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(77), 0), "stale, and refreshed behind");
    idle().await;
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(1), 1));
}

#[tokio::test(start_paused = true)] // P26 P33 P62
async fn what_is_put_or_warmed_by_a_uri_with_a_host_is_for_clients_of_that_host() {
    let origin = web::Origin::with_fields(&[]);
    let layer = CachebackLayer::new(secs(60));
    let app = origin.behind(layer.clone());
    let status = async |host| get_with(&app, "/", &[("host", host)]).await.outcome().status();
    layer.put(request("GET", "http://a.example/", &[]), "put".into_response()).await.unwrap();
    send(&app, forced("GET", "http://b.example/")).await;
    for host in ["a.example", "b.example"] {
        assert_eq!(status(host).await, CacheStatus::Hit, "{host}");
    }
    assert_eq!((status("c.example").await, origin.runs()), (CacheStatus::UriMiss, 2));
}

#[tokio::test(start_paused = true)] // P33
async fn a_run_that_started_before_a_put_is_not_stored_whatever_was_purged_between() {
    for purged in [false, true] {
        let (origin, layer, gate) = (Origin::new(), layer().freshness(WINDOWS), Gate::new());
        let service = layer.layer(origin.service());
        origin.next_time(Act::AnswerAfter(gate.clone()));
        let waiting = crowd(&service, "k", 3).await;
        if purged {
            layer.cache().purge(Key::from("k")).await.unwrap();
        }
        layer.put(Get("k"), 77).await.unwrap();
        assert_eq!(at_once(ask(&service, "k")).await, Ok(77), "nobody waits for the old run any more");
        gate.open();
        assert_eq!(answers(waiting).await, [1; 3]);
        assert_eq!(ask(&service, "k").await, Ok(77));
    }
}

#[tokio::test(start_paused = true)] // P33
async fn a_run_that_started_before_a_put_is_not_stored_though_what_was_put_is_gone_again() {
    let origin = web::Origin::with_fields(&[]);
    let layer = CachebackLayer::new(secs(60));
    let app = origin.behind(layer.clone());
    origin.only_the_first(0);
    let mut clients = web::Clients::new();
    clients.get(&app, "/", &[]).await;
    let page = (Extension(Tags::new(["t"])), "put").into_response();
    layer.put(request("GET", "/", &[]), page).await.unwrap();
    // The run that is under way will not carry the tag.
    layer.cache().purge_tag("t").await.unwrap();
    origin.release();
    assert_eq!(clients.answers().await[0].text(), "1");
    assert_eq!(web::get(&app, "/").await.text(), "2", "the answer of run 1 is older than what was put");
}

#[tokio::test(start_paused = true)] // P33, P34
async fn what_is_older_than_a_put_is_over_though_an_expiry_came_before_the_put_was_done() {
    let (origin, layer) = (web::Origin::counting(), CachebackLayer::new(WINDOWS));
    let app = origin.behind(layer.clone());
    assert_eq!(web::get(&app, "/").await.text(), "1");
    let (mut script, body) = scripted();
    let mut put = pin!(layer.put(request("GET", "/", &[]), http::Response::new(body)));
    assert!(tokio::time::timeout(secs(1), put.as_mut()).await.is_err(), "its body is not there yet");
    layer.cache().expire_path("/").await.unwrap();
    script.data("put");
    script.end();
    put.await.unwrap();
    assert_eq!(web::get(&app, "/").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P33
async fn a_put_lifts_back_off_and_mark() {
    let (origin, layer) = (Origin::new(), layer().freshness(WINDOWS));
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    origin.next_time(Act::Fail);
    pass(secs(11)).await;
    ask(&service, "k").await.unwrap();
    idle().await;
    layer.put(Get("k"), 77).await.unwrap();
    layer.cache().expire(Key::from("k")).await.unwrap();
    assert_eq!(ask(&service, "k").await, Ok(77));
    idle().await;
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(3), 3), "the back-off is over");

    let personal = web::Origin::with_fields(&[("set-cookie", "a=1")]);
    let layer = CachebackLayer::new(secs(10));
    let app = personal.behind(layer.clone());
    web::get(&app, "/").await;
    let explained = layer.explain(request("GET", "/", &[])).await;
    assert_eq!(explained.outcome().detail(), Some(Detail::HitForMiss));
    layer.put(request("GET", "/", &[]), "put".into_response()).await.unwrap();
    assert_eq!(web::get(&app, "/").await.text(), "put");
}

#[tokio::test(start_paused = true)] // P33
async fn what_is_put_for_a_page_is_served_as_any_other_response() {
    let origin = web::Origin::with_fields(&[("vary", "accept")]);
    let layer = CachebackLayer::new(secs(60)).key_header("x-key");
    let app = origin.behind(layer.clone());
    let page = (Extension(Tags::new(["t"])), [("content-type", "text/x"), ("vary", "accept")], "put").into_response();
    layer.put(request("GET", "/p", &[("x-key", "1"), ("accept", "a")]), page).await.unwrap();
    web::pass(3.0).await;
    let reply = get_with(&app, "/p", &[("x-key", "1"), ("accept", "a")]).await;
    assert_eq!((reply.text(), reply.field("age"), reply.field("content-type")), ("put", "3".into(), "text/x".into()));
    assert!(reply.has("date") && reply.field("content-length") == "3");
    for others in [[("x-key", "2"), ("accept", "a")], [("x-key", "1"), ("accept", "b")]] {
        assert_ne!(get_with(&app, "/p", &others).await.text(), "put");
    }
    assert_eq!(layer.cache().purge_tag("t").await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_may_not_have_stored_cannot_be_put() {
    let layer = CachebackLayer::new(secs(60));
    let page = |fields| (headers(fields), "page").into_response();
    let cases: [(Fields, Response, &str); 7] = [
        (&[("cookie", "a=1")], page(&[]), "not looked up: fwd=bypass; detail=cookie"),
        (&[("range", "bytes=0-1")], page(&[]), "stores nothing: put the response of a GET"),
        (&[], page(&[("set-cookie", "a=1")]), "not stored: set-cookie"),
        (&[], page(&[("cache-control", "private")]), "not stored: private"),
        (&[], page(&[("cache-control", "max-age=0")]), "not stored: no-lifetime"),
        (&[], http::StatusCode::BAD_GATEWAY.into_response(), "not stored: status"),
        (&[], vec![b'x'; 2 << 20].into_response(), "not stored: too-large"),
    ];
    for (fields, response, words) in cases {
        let error = layer.put(request("GET", "/", fields), response).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().ends_with(words), "{error}");
    }
    for (method, fields) in [("POST", &[][..]), ("HEAD", &[]), ("GET", &[("cache-control", "no-store")])] {
        assert!(layer.put(request(method, "/", fields), page(&[])).await.is_err(), "{method}");
    }
    assert!(layer.cache().peek(Scope::everything()).is_empty());
    assert_eq!(layer.cache().stats().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cache_puts_and_explains_for_layers_without_key_rules() {
    let cache = Cache::new();
    let (origin, get) = (web::Origin::counting(), || request("GET", "/", &[]));
    let app = origin.behind(cache.layer(secs(60)));
    let error = cache.put(get(), "for how long?".into_response()).await.unwrap_err();
    assert!(error.to_string().ends_with("not stored: no-lifetime"), "{error}");
    cache.put(get(), (Extension(Freshness::exact(secs(9))), "put").into_response()).await.unwrap();
    assert_eq!(web::get(&app, "/").await.text(), "put");
    web::pass(4.0).await;
    assert_eq!(cache.explain(get()).await.to_string(), "hit; ttl=5; plan=nothing");
    web::pass(6.0).await;
    assert_eq!(web::get(&app, "/").await.text(), "1");
}

// ---- peek ----

#[tokio::test(start_paused = true)] // P35
async fn a_look_at_what_is_stored_tells_all_and_changes_nothing() {
    let (origin, cache) = (web::Origin::with_fields(&[("vary", "accept"), ("x-own", "1")]), Cache::new());
    let app = origin.behind(cache.layer(WINDOWS).max_variants(2));
    let page = async |accept| get_with(&app, "/p?q=1", &[("accept", accept)]).await;
    page("a").await;
    web::pass(1.0).await;
    page("b").await;
    web::pass(9.0).await;

    let path = Scope::path("/p").unwrap();
    let stored = cache.peek(&path);
    let seen: Vec<_> = stored.iter().map(|peeked| (peeked.value().content().clone(), peeked.age())).collect();
    assert_eq!(seen, [("2".into(), secs(9)), ("1".into(), secs(10))]);
    assert_eq!([stored[0].is_fresh(), stored[1].is_fresh()], [true, false]);
    assert_eq!((stored[0].freshness(), stored[0].is_expired(), stored[0].tags().iter().count()), (WINDOWS, false, 0));
    assert_eq!(stored[0].value().status(), 200);
    let fields: Vec<_> = stored[0].value().fields().map(|(name, _)| name.as_str().to_owned()).collect();
    assert!(fields.contains(&"x-own".to_owned()) && !fields.contains(&"age".to_owned()), "{fields:?}");
    assert_eq!(cache.peek(stored[0].key()).len(), 2);

    settle().await;
    assert_eq!((origin.runs(), cache.stats().requests()), (2, 2), "a stale one was looked at, and no run began");
    // "a" was looked at last, yet it is the one that was unused for longest.
    page("c").await;
    let kept: Vec<_> = cache.peek(&path).iter().map(|peeked| peeked.value().content().clone()).collect();
    assert_eq!(kept, ["3", "2"]);

    assert_eq!(cache.peek(Scope::tag("other")).len(), 0);
    cache.expire(&path).await.unwrap();
    assert!(cache.peek(&path).iter().all(|peeked| peeked.is_expired() && !peeked.is_fresh()));
    web::pass(40.0).await;
    assert!(cache.peek(&path).is_empty(), "what is gone is not shown, whether or not it is still in memory");
}

// ---- explain ----

/// What a request would come to, and then what it does come to: they agree.
async fn explained(app: &Router, layer: &CachebackLayer, request: impl Fn() -> Request<Body>) -> Explanation {
    let before = layer.cache().stats();
    let explained = layer.explain(request()).await;
    assert_eq!(layer.explain(request()).await.to_string(), explained.to_string(), "explaining changes nothing");
    settle().await;
    assert_eq!(layer.cache().stats(), before, "nor does it count");
    let outcome = send(app, request()).await.outcome();
    let told = explained.outcome();
    assert_eq!((outcome.status(), outcome.ttl()), (told.status(), told.ttl()), "{explained}");
    // A response that cannot be shared says why itself.
    if told.detail().is_some_and(|detail| detail != Detail::HitForMiss) {
        assert_eq!(outcome.detail(), told.detail(), "{explained}");
    }
    settle().await;
    let runs = |stats: cacheback::Stats| stats.runs_completed + stats.runs_failed;
    let ran = runs(layer.cache().stats()) - runs(before);
    assert_eq!(ran > 0, matches!(explained.plan(), Plan::Refresh | Plan::Lead), "{explained}");
    explained
}

#[tokio::test(start_paused = true)] // P35
async fn what_is_explained_is_what_happens() {
    let origin = web::Origin::new(|seen| match seen.uri.path() {
        "/personal" => (headers(&[("set-cookie", "a=1")]), "").into_response(),
        "/fails" if seen.run > 1 && seen.background => http::StatusCode::BAD_GATEWAY.into_response(),
        "/varies" => (headers(&[("vary", "accept")]), "").into_response(),
        _ => "".into_response(),
    });
    let layer = CachebackLayer::new(WINDOWS).when(|parts| parts.uri.path() != "/excluded");
    let app = origin.behind(layer.clone());
    let of = async |method: &'static str, uri: &'static str, fields: &'static [(&str, &str)]| {
        explained(&app, &layer, || request(method, uri, fields)).await.to_string()
    };
    let get = async |uri| of("GET", uri, &[]).await;
    assert_eq!(of("HEAD", "/", &[]).await, "fwd=uri-miss; detail=head; plan=forward");
    assert_eq!(
        of("GET", "/", &[("cache-control", "no-store")]).await,
        "fwd=uri-miss; detail=request-no-store; plan=forward"
    );
    assert_eq!(get("/").await, "fwd=uri-miss; plan=lead");
    assert_eq!(get("/").await, "hit; ttl=10; plan=nothing");
    assert_eq!(explained(&app, &layer, || forced("GET", "/")).await.to_string(), "fwd=request; plan=lead");
    assert_eq!(explained(&app, &layer, || forced("HEAD", "/")).await.to_string(), "fwd=request; plan=lead");
    assert_eq!(of("POST", "/other", &[]).await, "fwd=method; plan=forward");
    assert_eq!(of("GET", "/", &[("cookie", "a=1")]).await, "fwd=bypass; detail=cookie; plan=forward");
    assert_eq!(get("/excluded").await, "fwd=bypass; detail=excluded; plan=forward");
    assert_eq!(get("/varies").await, "fwd=uri-miss; plan=lead");
    assert_eq!(of("GET", "/varies", &[("accept", "b")]).await, "fwd=vary-miss; plan=lead");
    assert_eq!(get("/personal").await, "fwd=uri-miss; plan=lead");
    assert_eq!(get("/personal").await, "fwd=uri-miss; detail=hit-for-miss; plan=lead");
    get("/fails").await;
    web::pass(12.0).await;
    assert_eq!(of("GET", "/", &[("cache-control", "no-store")]).await, "hit; ttl=-2; plan=nothing");
    assert_eq!(get("/").await, "hit; ttl=-2; plan=refresh");
    assert_eq!(get("/fails").await, "hit; ttl=-2; plan=refresh");
    assert_eq!(get("/fails").await, "hit; ttl=-2; detail=back-off; plan=nothing");
    web::pass(20.0).await;
    assert_eq!(get("/").await, "fwd=stale; plan=lead");
    web::pass(60.0).await;
    assert_eq!(layer.explain(request("GET", "/", &[])).await.outcome().status(), CacheStatus::Stale);
}

#[tokio::test(start_paused = true)] // P35
async fn a_run_under_way_is_explained() {
    let (origin, layer) = (web::Origin::counting(), CachebackLayer::new(WINDOWS));
    let app = origin.behind(layer.clone());
    let explain = async || layer.explain(request("GET", "/", &[])).await.to_string();
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    assert_eq!(explain().await, "fwd=uri-miss; collapsed; plan=join");
    origin.release();
    clients.answers().await;
    web::pass(11.0).await;
    origin.only_the_first(0);
    assert_eq!(explain().await, "hit; ttl=-1; plan=refresh");
    web::get(&app, "/").await;
    assert_eq!(explain().await, "hit; ttl=-1; plan=nothing");
    let key = layer.explain(request("GET", "/", &[])).await;
    assert_eq!(layer.cache().peek(key.key().unwrap()).len(), 1);
}

// ---- forced runs ----

#[tokio::test(start_paused = true)] // P26
async fn a_forced_run_replaces_what_is_fresh() {
    let (origin, layer) = (Origin::new(), layer().freshness(WINDOWS));
    let service = layer.layer(origin.service());
    assert_eq!(service.refresh(Get("k")).await, Ok(1), "on a cold cache it is a miss");
    assert_eq!(service.refresh(Get("k")).await, Ok(2));
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(2), 2));
    pass(secs(9)).await;
    assert_eq!(service.refresh(Get("k")).await, Ok(3));
    pass(secs(9)).await;
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(3), 3), "its age counts from its own run");
}

#[tokio::test(start_paused = true)] // P26
async fn those_who_force_a_run_together_share_one_that_started_after_they_came() {
    let (origin, layer, gate) = (Origin::new(), layer().freshness(WINDOWS), Gate::new());
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let usual = crowd(&service, "k", 2).await;
    let mut forced = tokio::task::JoinSet::new();
    (0..100).for_each(|_| drop(forced.spawn(service.refresh(Get("k")))));
    idle().await;
    assert_eq!(origin.runs(), 1, "a run that is under way is waited for");
    gate.open();
    assert_eq!(answers(usual).await, [1; 2]);
    assert_eq!(answers(forced).await, [2; 100]);
    assert_eq!((origin.runs(), origin.at_most()), (2, 1));
}

#[tokio::test(start_paused = true)] // P13, P26
async fn a_hung_run_keeps_those_who_force_one_no_longer_than_the_wait_timeout() {
    let (origin, layer) = (Origin::new(), layer().freshness(WINDOWS).wait_timeout(secs(10)));
    let service = layer.layer(origin.service());
    origin.next_time(Act::Hang);
    let _hung = crowd(&service, "k", 1).await;
    let mut forced = tokio::task::JoinSet::new();
    (0..10).for_each(|_| drop(forced.spawn(service.refresh(Get("k")))));
    idle().await;
    pass(secs(10)).await;
    assert_eq!(answers(forced).await, [2; 10]);
    assert_eq!(ask(&service, "k").await, Ok(2));
}

#[tokio::test(start_paused = true)] // P22, P26
async fn what_a_forced_run_answers_is_the_answer_and_a_failure_leaves_what_is_stored() {
    let (origin, layer) = (Origin::new(), layer().freshness(WINDOWS).soft_timeout(secs(1)));
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    origin.next_time(Act::Fail);
    assert_eq!(service.refresh(Get("k")).await, Err(Down(2)));
    assert_eq!(ask(&service, "k").await, Ok(1), "fresh as before");
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let mut slow = pin!(service.refresh(Get("k")));
    assert!(tokio::time::timeout(secs(30), &mut slow).await.is_err(), "it asked for a new one, and waits for it");
    gate.open();
    assert_eq!(slow.await, Ok(3), "also while the key backs off");

    let web = web::Origin::new(|seen| match seen.run {
        2 => (http::StatusCode::BAD_GATEWAY, "2").into_response(),
        run => run.to_string().into_response(),
    });
    let app = web.behind(CachebackLayer::new(WINDOWS));
    web::get(&app, "/").await;
    let reply = send(&app, forced("GET", "/")).await;
    assert_eq!((reply.status.as_u16(), reply.said()), (502, "fwd=request; fwd-status=502; detail=status".into()));
    assert_eq!(web::get(&app, "/").await.said(), "hit; ttl=10");
}

#[tokio::test(start_paused = true)] // P20, P26, P40
async fn a_forced_head_runs_a_get_and_answers_without_its_body() {
    let origin = web::Origin::counting();
    let app = origin.behind(CachebackLayer::new(WINDOWS));
    let reply = send(&app, forced("HEAD", "/")).await;
    assert_eq!((reply.text(), reply.field("content-length")), ("", "1".into()));
    assert_eq!(origin.last().method, "GET");
    let reply = web::get(&app, "/").await;
    assert_eq!((reply.text(), reply.said()), ("1", "hit; ttl=10".into()));
    assert_eq!(send(&app, forced("HEAD", "/")).await.said(), "fwd=request; fwd-status=200; stored");
    assert_eq!((web::get(&app, "/").await.text(), origin.runs()), ("2", 2));
}

#[tokio::test(start_paused = true)] // P48, P65
async fn no_field_of_a_request_forces_a_run() {
    let origin = web::Origin::counting();
    let app = origin.behind(CachebackLayer::new(WINDOWS));
    web::get(&app, "/").await;
    for field in ["force-refresh", "x-force-refresh", "forcerefresh", "cache-control", "pragma"] {
        let reply = get_with(&app, "/", &[(field, "no-cache")]).await;
        assert_eq!(reply.said(), "hit; ttl=10", "{field}");
    }
    let mut both = forced("GET", "/");
    both.headers_mut().insert("cache-control", "no-store".parse().unwrap());
    assert_eq!(send(&app, both).await.text(), "2", "one who wants no trace is answered alone");
    assert_eq!((web::get(&app, "/").await.text(), origin.runs()), ("1", 2));
}

// ---- drain ----

#[tokio::test(start_paused = true)] // P27
async fn a_drained_cache_begins_no_refresh_and_waits_for_those_under_way() {
    let (origin, layer, gate) = (Origin::new(), layer().freshness(WINDOWS), Gate::new());
    let service = layer.layer(origin.service());
    ask(&service, "a").await.unwrap();
    ask(&service, "b").await.unwrap();
    pass(secs(11)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    ask(&service, "a").await.unwrap();
    idle().await;
    assert_eq!((origin.runs(), layer.cache().stats().refreshes), (3, 1));

    assert!(!layer.cache().drain(secs(5)).await, "it is still under way");
    assert_eq!(ask(&service, "b").await, Ok(2), "stale as it is");
    assert_eq!(layer.explain(Get("b")).await.plan(), Plan::Nothing);
    idle().await;
    assert_eq!((origin.runs(), layer.cache().stats().refreshes_dropped), (3, 1));
    let (cache, drained) = (layer.cache().clone(), gate.clone());
    let mut draining = pin!(cache.drain(secs(5)));
    assert!(tokio::time::timeout(secs(1), &mut draining).await.is_err());
    drained.open();
    assert!(at_once(draining).await);
    assert_eq!(ask(&service, "a").await, Ok(3), "what was under way is stored");
    assert_eq!(ask(&service, "c").await, Ok(4), "misses go on");
}

// ---- figures ----

#[tokio::test(start_paused = true)] // P95
async fn every_request_is_counted_once_and_every_run() {
    let (origin, layer, gate) = (Origin::new(), layer().freshness(WINDOWS).refresh_timeout(secs(5)), Gate::new());
    let service = layer.layer(origin.service());
    let stats = || layer.cache().stats();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 5).await;
    assert_eq!((stats().runs, stats().requests()), (1, 0));
    gate.open();
    answers(waiting).await;
    assert_eq!((stats().misses, stats().collapsed, stats().stored, stats().runs_completed), (1, 4, 1, 1));
    for _ in 0..7 {
        ask(&service, "k").await.unwrap();
    }
    assert_eq!((stats().hits, stats().keys), (7, 1));
    for (act, run) in [(Act::Fail, 1), (Act::Panic, 2), (Act::Hang, 3)] {
        layer.cache().expire(Key::from("k")).await.unwrap();
        origin.next_time(act);
        ask(&service, "k").await.unwrap();
        idle().await;
        // Past the pause, and before the entry is gone.
        pass(secs(5)).await;
        assert_eq!(stats().runs_failed + stats().runs_panicked + stats().runs_timed_out, run);
    }
    assert_eq!((stats().stale_hits, stats().runs_failed, stats().runs_panicked, stats().runs_timed_out), (3, 1, 1, 1));
    assert_eq!((stats().run_time.as_secs(), stats().expiries, stats().invalidated), (5, 3, 3));
    origin.next_time(Act::Hang);
    let gone = crowd(&service, "other", 1).await;
    drop(gone);
    idle().await;
    assert_eq!(stats().runs, 1, "a permit was free for it");
    layer.cache().purge(Scope::everything()).await.unwrap();
    assert_eq!((stats().purges, stats().keys, stats().bytes), (1, 0, 0));
    assert_eq!(stats().requests(), 5 + 7 + 3);
}

#[tokio::test(start_paused = true)] // P95
async fn refusals_and_bypasses_are_counted_by_reason() {
    let origin = web::Origin::new(|seen| match seen.uri.path() {
        "/private" => (headers(&[("cache-control", "private")]), "").into_response(),
        "/missing" => http::StatusCode::NOT_FOUND.into_response(),
        _ => vec![b'x'; 300_000].into_response(),
    });
    let layer = Cache::builder().memory(1 << 20).build().layer(secs(60));
    let app = origin.behind(layer.clone());
    let stats = || layer.cache().stats();
    web::get(&app, "/private").await;
    web::get(&app, "/missing").await;
    get_with(&app, "/", &[("cookie", "a=1")]).await;
    send(&app, request("POST", "/", &[])).await;
    assert_eq!((stats().misses, stats().refused, stats().bypassed), (2, 2, 2));
    assert_eq!((stats().refused_for(Detail::Private), stats().refused_for(Detail::Status)), (1, 1));
    assert_eq!((stats().bypassed_for(Detail::Cookie), stats().bypassed_for(Detail::Credential)), (1, 0));
    for page in 0..10 {
        web::get(&app, &format!("/{page}")).await;
    }
    assert_eq!(stats().stored, 10);
    assert_eq!(stats().evicted as usize + layer.cache().peek(Scope::everything()).len(), 10);
    assert!(stats().evicted > 5);
}
