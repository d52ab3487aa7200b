//! Where nothing is stored a placeholder is given at once, and one run behind the reader fetches what belongs there.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, which may spawn")]

mod support;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use cacheback::{
    Cache, CacheStatus, CachebackLayer, Detail, ForceRefresh, Freshness, Key, NoStore, Outcome, Placeholder,
};
use http::StatusCode;
use http_body_util::BodyExt;
use support::{
    http::{self as web, Clients, Seen, get_with, request, send},
    net::scripted,
    typed::{Act, Down, Gate, Get, Origin, TypedLayer, answers, ask, crowd, idle, layer, pass, read, secs},
};
use tower::{Layer, ServiceExt};

/// A layer over numbers, with 0 where nothing is stored. Fresh for 10 s, stale at once for 10 more, kept for 10 more
/// should the service fail.
fn counts() -> TypedLayer {
    let windows = Freshness::new(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20));
    layer().freshness(windows).on_miss(Placeholder(0))
}

/// The layer, and what it says of each answer in turn.
fn telling(layer: TypedLayer) -> (TypedLayer, impl Fn() -> Vec<String>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&said);
    let layer = layer.on_outcome(move |_, outcome: Outcome| said.lock().unwrap().push(outcome.to_string()));
    (layer, move || std::mem::take(&mut *all.lock().unwrap()))
}

// ---- what readers get ----

#[tokio::test(start_paused = true)] // P82
async fn where_nothing_is_stored_all_get_the_placeholder_at_once_and_one_run_fills_in_behind_them() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let (layer, said) = telling(counts());
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    {
        let mut first = pin!(ask(&service, "k"));
        let answer = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(answer, Poll::Ready(Ok(0)));
        assert_eq!(origin.runs(), 0, "it is answered before the run is polled");
    }
    assert_eq!(answers(crowd(&service, "k", 9).await).await, [0; 9]);
    assert_eq!(said(), ["fwd=uri-miss; detail=placeholder"; 10]);
    gate.open();
    layer.cache().settled().await;
    assert_eq!(read(&service, "k").await, Ok(1));
    assert_eq!((said(), origin.runs()), (vec!["hit; ttl=9".to_owned()], 1));
    let stats = layer.cache().stats();
    assert_eq!((stats.placeholders, stats.hits, stats.misses, stats.collapsed, stats.stored), (10, 1, 0, 0, 1));
    assert_eq!((stats.requests(), stats.runs_completed), (11, 1));
}

#[tokio::test(start_paused = true)] // P82
async fn it_is_given_unaltered_to_each_reader_and_is_never_stored() {
    let origin = Origin::that(Act::Hang);
    let layer = counts().on_outcome(|number, _| *number += 100);
    let service = layer.layer(origin.service());
    for _ in 0..3 {
        assert_eq!(read(&service, "k").await, Ok(100));
    }
    assert!(layer.cache().peek(Key::from("k")).is_empty());
}

#[tokio::test(start_paused = true)] // P82
async fn what_is_stored_comes_before_it_as_long_as_it_may_be_served() {
    let origin = Origin::new();
    let (layer, said) = telling(counts());
    let service = layer.layer(origin.service());
    read(&service, "k").await.unwrap();
    pass(secs(15)).await;
    origin.next_time(Act::Fail);
    assert_eq!(read(&service, "k").await, Ok(1), "stale at once");
    pass(secs(10)).await;
    origin.next_time(Act::Fail);
    assert_eq!(read(&service, "k").await, Ok(1), "too stale: waited for a run, which failed");
    assert_eq!(origin.runs(), 3);
    pass(secs(10)).await;
    said();
    assert_eq!(read(&service, "k").await, Ok(0), "gone");
    assert_eq!(said(), ["fwd=stale; detail=placeholder"]);
    assert_eq!(read(&service, "k").await, Ok(4));
}

#[tokio::test(start_paused = true)] // P82
async fn who_waits_for_what_is_too_stale_gets_the_new_one() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = counts().layer(origin.service());
    read(&service, "k").await.unwrap();
    pass(secs(25)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 2).await;
    gate.open();
    assert_eq!(answers(waiting).await, [2, 2]);
}

#[tokio::test(start_paused = true)] // P82 P26
async fn who_asks_for_a_new_response_waits_for_one() {
    let origin = Origin::new();
    let service = counts().layer(origin.service());
    assert_eq!(service.refresh(Get("k")).await, Ok(1));
    origin.next_time(Act::Fail);
    assert_eq!(service.refresh(Get("other")).await, Err(Down(2)));
}

#[tokio::test(start_paused = true)] // P82
async fn a_run_that_is_under_way_for_whom_ever_is_enough() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let service = counts().layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let forced = tokio::spawn(service.refresh(Get("k")));
    idle().await;
    assert_eq!(read(&service, "k").await, Ok(0));
    assert_eq!(origin.runs(), 1);
    gate.open();
    assert_eq!((forced.await.unwrap(), read(&service, "k").await), (Ok(1), Ok(1)));
}

// ---- the run ----

#[tokio::test(start_paused = true)] // P82 P22
async fn a_fill_that_fails_is_put_off_for_longer_each_time_until_one_succeeds() {
    for act in [Act::Fail, Act::Panic, Act::PanicInCall, Act::Hang] {
        let origin = Origin::that(act.clone());
        let timeout = Duration::from_millis(10);
        let layer = counts().refresh_timeout(timeout);
        let service = layer.layer(origin.service());
        // Of each pause the lots take half at most.
        for (runs, pause) in (1..).zip([1_000, 2_000, 4_000].map(Duration::from_millis)) {
            assert_eq!(read(&service, "k").await, Ok(0));
            pass(timeout).await;
            assert_eq!(origin.runs(), runs, "{act:?}");
            pass(pause / 2 - Duration::from_millis(50)).await;
            assert_eq!(read(&service, "k").await, Ok(0));
            assert_eq!(origin.runs(), runs, "{act:?}: not yet");
            pass(pause / 2 + Duration::from_millis(50)).await;
        }
        origin.always(Act::Answer);
        assert_eq!(read(&service, "k").await, Ok(0));
        assert_eq!(read(&service, "k").await, Ok(4));
        layer.cache().purge(Key::from("k")).await.unwrap();
        origin.next_time(Act::Fail);
        read(&service, "k").await.unwrap();
        pass(secs(1)).await;
        read(&service, "k").await.unwrap();
        assert_eq!(read(&service, "k").await, Ok(6), "{act:?}: the pause is a short one again");
    }
}

#[tokio::test(start_paused = true)] // P82 P22
async fn an_old_failure_is_forgotten_in_the_end() {
    let origin = Origin::that(Act::Fail);
    let service = counts().layer(origin.service());
    for _ in 0..4 {
        read(&service, "k").await.unwrap();
        pass(secs(8)).await;
    }
    pass(secs(120)).await;
    read(&service, "k").await.unwrap();
    pass(secs(1)).await;
    read(&service, "k").await.unwrap();
    assert_eq!(origin.runs(), 6, "the last pause was no longer than the first");
}

#[tokio::test(start_paused = true)] // P82 P24
async fn over_the_limit_of_refreshes_a_fill_is_dropped_and_counted() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = counts().over_cache(&Cache::builder().max_refreshes(1).build_for());
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    assert_eq!((read(&service, "a").await, read(&service, "b").await), (Ok(0), Ok(0)));
    let stats = layer.cache().stats();
    assert_eq!((origin.runs(), stats.refreshes, stats.refreshes_dropped, stats.placeholders), (1, 1, 1, 2));
    gate.open();
    layer.cache().settled().await;
    assert_eq!(read(&service, "b").await, Ok(0));
    assert_eq!((read(&service, "a").await, read(&service, "b").await), (Ok(1), Ok(2)));
}

#[tokio::test(start_paused = true)] // P82 P30
async fn a_fill_that_was_purged_meanwhile_is_not_stored() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = counts();
    let service = layer.layer(origin.service());
    origin.next_time(Act::AnswerAfter(gate.clone()));
    read(&service, "k").await.unwrap();
    layer.cache().purge(Key::from("k")).await.unwrap();
    gate.open();
    layer.cache().settled().await;
    assert!(layer.cache().peek(Key::from("k")).is_empty());
    assert_eq!((read(&service, "k").await, read(&service, "k").await), (Ok(0), Ok(2)));
}

#[tokio::test(start_paused = true)] // P82 P27
async fn after_a_drain_it_is_given_and_nothing_runs() {
    let origin = Origin::new();
    let layer = counts();
    let service = layer.layer(origin.service());
    assert!(layer.cache().drain(secs(1)).await);
    assert_eq!(layer.explain(Get("k")).await.to_string(), "fwd=uri-miss; detail=placeholder; plan=nothing");
    assert_eq!(read(&service, "k").await, Ok(0));
    assert_eq!(origin.runs(), 0);
}

#[test] // P82 P27
fn outside_of_a_runtime_everything_goes_forward() {
    let origin = Origin::new();
    let service = counts().layer(origin.service());
    let answer = pin!(ask(&service, "k")).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(answer, Poll::Ready(Ok(1)));
}

// ---- what cannot be stored ----

#[tokio::test(start_paused = true)] // P82 P81
async fn what_is_not_admitted_is_not_hidden() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let (layer, said) = telling(counts().admit(|_, number| *number > 3).hit_for_miss(secs(30)));
    let service = layer.layer(origin.service());
    assert_eq!(read(&service, "k").await, Ok(0));
    layer.cache().settled().await;
    assert_eq!(layer.explain(Get("k")).await.to_string(), "fwd=uri-miss; plan=lead");
    said();
    assert_eq!(read(&service, "k").await, Ok(2));
    assert_eq!(said(), ["fwd=uri-miss; detail=not-admitted"]);
    pass(secs(31)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    assert_eq!(read(&service, "k").await, Ok(0), "for a while");
    gate.open();
    layer.cache().settled().await;
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let waiting = crowd(&service, "k", 3).await;
    gate.open();
    assert_eq!(answers(waiting).await, [4; 3], "they wait together");
    said();
    assert_eq!(read(&service, "k").await, Ok(4));
    assert_eq!(said(), ["hit; ttl=9"]);
    layer.cache().purge(Key::from("k")).await.unwrap();
    assert_eq!(read(&service, "k").await, Ok(0), "what could be stored lately is worth a placeholder");
}

#[tokio::test(start_paused = true)] // P82 P22
async fn a_response_that_cannot_be_stored_is_a_success_all_the_same() {
    let origin = Origin::that(Act::Fail);
    let layer = counts().admit(|_, _| false).hit_for_miss(secs(1));
    let service = layer.layer(origin.service());
    for _ in 0..4 {
        read(&service, "k").await.unwrap();
        pass(secs(8)).await;
    }
    origin.next_time(Act::Answer);
    read(&service, "k").await.unwrap();
    pass(secs(2)).await;
    for runs in [6, 7] {
        assert_eq!(read(&service, "k").await, Ok(0));
        pass(secs(runs - 5)).await;
        assert_eq!(origin.runs(), runs, "the pauses begin with the shortest");
    }
}

#[tokio::test(start_paused = true)] // P82 P35
async fn an_explanation_tells_of_it_and_of_its_run() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = counts();
    let service = layer.layer(origin.service());
    let explained = async || layer.explain(Get("k")).await.to_string();
    assert_eq!(explained().await, "fwd=uri-miss; detail=placeholder; plan=refresh");
    origin.next_time(Act::FailAfter(gate.clone()));
    read(&service, "k").await.unwrap();
    assert_eq!(explained().await, "fwd=uri-miss; detail=placeholder; plan=nothing", "a run is under way");
    gate.open();
    idle().await;
    assert_eq!(explained().await, "fwd=uri-miss; detail=placeholder; plan=nothing", "it failed");
    pass(secs(1)).await;
    assert_eq!(explained().await, "fwd=uri-miss; detail=placeholder; plan=refresh");
    read(&service, "k").await.unwrap();
    assert_eq!(explained().await, "hit; ttl=9; plan=nothing");
    pass(secs(25)).await;
    assert_eq!(explained().await, "fwd=stale; plan=lead", "too stale: it is waited for");
}

// ---- HTTP ----

#[tokio::test(start_paused = true)] // P82 P35
async fn an_explanation_knows_who_gets_none() {
    let layer = CachebackLayer::new(secs(60)).on_miss(soon());
    let explained = async |request| layer.explain(request).await.to_string();
    let mut forced = request("GET", "/", &[]);
    forced.extensions_mut().insert(ForceRefresh);
    assert_eq!(explained(forced).await, "fwd=uri-miss; plan=lead");
    let range = request("GET", "/", &[("range", "bytes=0-1")]);
    assert_eq!(explained(range).await, "fwd=uri-miss; detail=range; plan=forward");
    assert_eq!(explained(request("HEAD", "/", &[])).await, "fwd=uri-miss; detail=placeholder; plan=refresh");
}

/// An answer for meanwhile.
fn soon() -> Placeholder<http::Response<&'static str>> {
    let response =
        http::Response::builder().status(503).header("retry-after", "1").header("x-a", "1").header("x-a", "2");
    Placeholder(response.body("soon").unwrap())
}

fn app(layer: CachebackLayer, respond: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> (Router, web::Origin) {
    let origin = web::Origin::new(respond);
    (origin.behind(layer.on_miss(soon())), origin)
}

fn page(seen: &Seen) -> Response {
    format!("page {}", seen.run).into_response()
}

/// A GET of the one page; and what is under way is brought to its end.
async fn get(app: &Router) -> (u16, String) {
    let reply = web::get(app, "/").await;
    web::settle().await;
    (reply.status.as_u16(), reply.text().to_owned())
}

/// Status and text of a response.
fn is(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[tokio::test(start_paused = true)] // P82
async fn a_page_of_which_nothing_is_stored_is_stood_in_for_and_the_field_says_so() {
    let (app, origin) = app(CachebackLayer::new(secs(60)), page);
    let reply = web::get(&app, "/").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::SERVICE_UNAVAILABLE, "soon"));
    assert_eq!((reply.field("retry-after"), reply.field("x-a")), ("1".into(), "1|2".into()));
    assert_eq!(reply.field("cache-control"), "no-store");
    assert_eq!(reply.field("cache-status"), "cacheback; fwd=uri-miss; detail=placeholder");
    assert!(!reply.has("age"));
    let outcome = reply.outcome();
    assert_eq!((outcome.status(), outcome.detail()), (CacheStatus::UriMiss, Some(Detail::Placeholder)));
    web::settle().await;
    assert!(origin.last().background);
    assert_eq!(web::get(&app, "/").await.text(), "page 1");
}

#[tokio::test(start_paused = true)] // P82
async fn what_it_says_of_caching_itself_is_left_as_it_is() {
    let said = http::Response::builder().header("cache-control", "max-age=1").body("soon").unwrap();
    let app = web::Origin::counting().behind(CachebackLayer::new(secs(60)).on_miss(Placeholder(said)));
    assert_eq!(web::get(&app, "/").await.field("cache-control"), "max-age=1");
}

#[tokio::test(start_paused = true)] // P82 P40
async fn a_head_gets_it_without_its_body_and_a_get_fills_in() {
    let origin = web::Origin::new(page);
    // The router is further in: one of axum's takes a HEAD's content off by itself.
    let service = CachebackLayer::new(secs(60)).on_miss(soon()).layer(origin.router());
    let head = async || service.clone().oneshot(request("HEAD", "/", &[])).await.unwrap();
    let response = head().await;
    assert_eq!(response.headers()["content-length"], "4");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    web::settle().await;
    assert_eq!(origin.last().method, http::Method::GET);
    assert_eq!(head().await.extensions().get::<Outcome>().unwrap().to_string(), "hit; ttl=60");
}

#[tokio::test(start_paused = true)] // P82 P46
async fn conditions_do_not_count_for_it() {
    let layer = CachebackLayer::new(secs(60));
    let tagged = http::Response::builder().header("etag", "\"a\"").body("soon").unwrap();
    let app = web::Origin::counting().behind(layer.on_miss(Placeholder(tagged)));
    let reply = get_with(&app, "/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "soon"));
}

#[tokio::test(start_paused = true)] // P82 P17 P26 P40 P43 P47 P48
async fn who_goes_past_the_cache_or_asks_for_more_than_what_there_is_gets_none() {
    let layer = CachebackLayer::new(secs(60)).honor_request_directives().when(|parts| parts.uri.path() != "/past");
    let (app, origin) = app(layer, page);
    let mut forced = request("GET", "/forced", &[]);
    forced.extensions_mut().insert(ForceRefresh);
    let asked = [
        request("POST", "/post", &[]),
        request("GET", "/past", &[]),
        request("GET", "/cookie", &[("cookie", "a=b")]),
        request("GET", "/credential", &[("authorization", "b")]),
        request("GET", "/no-store", &[("cache-control", "no-store")]),
        request("GET", "/no-cache", &[("cache-control", "no-cache")]),
        request("GET", "/range", &[("range", "bytes=0-3")]),
        forced,
    ];
    for request in asked {
        let path = request.uri().clone();
        assert_eq!(send(&app, request).await.text(), format!("page {}", origin.runs()), "{path}");
    }
    let only = send(&app, request("GET", "/only", &[("cache-control", "only-if-cached")])).await;
    assert_eq!((only.status, origin.runs()), (StatusCode::GATEWAY_TIMEOUT, 8));
    assert_eq!(web::get(&app, "/").await.text(), "soon");
}

#[tokio::test(start_paused = true)] // P82 P47
async fn a_range_for_which_the_whole_is_fetched_waits_for_it() {
    let (app, _) = app(CachebackLayer::new(secs(60)).fill_on_range(100), page);
    let reply = get_with(&app, "/", &[("range", "bytes=0-3")]).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::PARTIAL_CONTENT, "page"));
}

#[tokio::test(start_paused = true)] // P82
async fn in_protocol_mode_who_says_who_he_is_waits_for_his_own() {
    let (app, _) =
        app(CachebackLayer::http(), |seen| ([("cache-control", "max-age=60")], seen.run.to_string()).into_response());
    assert_eq!(get_with(&app, "/", &[("authorization", "b")]).await.text(), "1");
    assert_eq!(get(&app).await, is(503, "soon"), "and what he got is nothing to others");
    assert_eq!(get(&app).await, is(200, "2"));
}

#[tokio::test(start_paused = true)] // P82
async fn a_404_becomes_visible_and_stays_so_for_the_time_of_hit_for_miss() {
    let (app, origin) = app(CachebackLayer::new(secs(60)), |_| StatusCode::NOT_FOUND.into_response());
    assert_eq!(get(&app).await, is(503, "soon"));
    web::pass(119.0).await;
    assert_eq!(get(&app).await, is(404, ""));
    web::pass(119.0).await;
    assert_eq!(get(&app).await, is(404, ""), "each run begins that time anew");
    web::pass(121.0).await;
    assert_eq!(get(&app).await, is(503, "soon"));
    assert_eq!(origin.runs(), 4);
}

#[tokio::test(start_paused = true)] // P82 P15
async fn what_cannot_be_shared_is_seen_by_each_for_himself() {
    type Refused = (&'static str, fn(&Seen) -> Response);
    let refused: [Refused; 3] = [
        ("set-cookie", |_| [("set-cookie", "a=b")].into_response()),
        ("handler", |_| web::saying(NoStore, "own")),
        ("too-large", |_| "x".repeat(2_000).into_response()),
    ];
    for (reason, respond) in refused {
        let (app, origin) = app(CachebackLayer::new(secs(60)).body_cap(1_000), respond);
        assert_eq!(get(&app).await, is(503, "soon"), "{reason}");
        origin.only_the_first(1);
        let mut clients = Clients::new();
        for _ in 0..3 {
            clients.get(&app, "/", &[]).await;
        }
        assert_eq!(origin.runs(), 4, "{reason}: all at once");
        origin.release();
        for reply in clients.answers().await {
            assert_eq!((reply.status, reply.outcome().detail().unwrap().as_str()), (StatusCode::OK, reason));
        }
    }
}

#[tokio::test(start_paused = true)] // P82 P22
async fn behind_a_failure_it_goes_on_and_the_next_run_is_put_off() {
    let (app, origin) = app(CachebackLayer::new(secs(60)), |seen| match seen.run {
        1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        2 => broken(),
        _ => page(seen),
    });
    for runs in [1, 2] {
        assert_eq!(get(&app).await, is(503, "soon"));
        assert_eq!(get(&app).await, is(503, "soon"));
        assert_eq!(origin.runs(), runs);
        web::pass(2.0).await;
    }
    assert_eq!(get(&app).await, is(503, "soon"));
    assert_eq!(get(&app).await, is(200, "page 3"));
}

/// A response whose body fails after its first piece.
fn broken() -> Response {
    let (script, body) = scripted();
    script.data("one").fail();
    Response::new(Body::new(body))
}

#[tokio::test(start_paused = true)] // P82 P44
async fn each_variant_has_it_until_its_own_run_is_done() {
    let (app, origin) = app(CachebackLayer::new(secs(60)), |seen| {
        ([("vary", "accept-language")], seen.field("accept-language")).into_response()
    });
    for (runs, (language, reason)) in (1..).zip([("de", "uri-miss"), ("fr", "vary-miss")]) {
        let reply = get_with(&app, "/", &[("accept-language", language)]).await;
        assert_eq!(reply.said(), format!("fwd={reason}; detail=placeholder"));
        web::settle().await;
        assert_eq!(get_with(&app, "/", &[("accept-language", language)]).await.text(), language);
        assert_eq!(origin.runs(), runs);
    }
}

#[tokio::test(start_paused = true)] // P82 P46
async fn what_is_kept_to_be_validated_is_stood_in_for_while_it_is() {
    let (app, origin) = app(CachebackLayer::new(Freshness::exact(secs(10))), |seen| match seen.run {
        1 => ([("etag", "\"a\"")], "page").into_response(),
        _ => (StatusCode::NOT_MODIFIED, [("etag", "\"a\"")]).into_response(),
    });
    get(&app).await;
    web::pass(20.0).await;
    let reply = web::get(&app, "/").await;
    assert_eq!((reply.text(), reply.said()), ("soon", "fwd=stale; detail=placeholder".into()));
    web::settle().await;
    assert_eq!(origin.last().field("if-none-match"), "\"a\"");
    assert_eq!(get(&app).await, is(200, "page"));
}

#[tokio::test(start_paused = true)] // P82 P94
async fn where_one_has_to_opt_in_it_hides_nothing_of_others() {
    let (app, origin) = app(CachebackLayer::new(secs(60)).opt_in(), |seen| match seen.uri.path() {
        "/in" => web::saying(Freshness::exact(secs(10)), page(seen)),
        _ => page(seen),
    });
    assert_eq!(web::get(&app, "/in").await.text(), "page 1", "nobody knows yet that it is opted in");
    web::pass(20.0).await;
    for run in 2..=4 {
        assert_eq!(web::get(&app, "/out").await.text(), format!("page {run}"));
    }
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for _ in 0..2 {
        clients.get(&app, "/out", &[]).await;
    }
    assert_eq!(origin.runs(), 6, "nor do they wait for one another");
    origin.release();
    assert_eq!(clients.answers().await.len(), 2);
}

#[tokio::test(start_paused = true)] // P82 P91
async fn a_cache_further_out_does_not_keep_it() {
    let origin = web::Origin::counting();
    let app = origin.behind(CachebackLayer::new(secs(60)).on_miss(Placeholder(http::Response::new("soon"))));
    let app = app.layer(CachebackLayer::new(secs(60)));
    assert_eq!(get(&app).await, is(200, "soon"));
    assert_eq!(get(&app).await, is(200, "1"));
}

#[test] // P92
#[should_panic(expected = "on_miss: a response with status 304 Not Modified is no whole one")]
fn a_placeholder_is_a_whole_response() {
    let part = http::Response::builder().status(304).body("").unwrap();
    let _layer = CachebackLayer::new(secs(60)).on_miss(Placeholder(part));
}
