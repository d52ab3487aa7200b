//! Attacks on the engine through HTTP layers.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use cacheback::{Cache, CachebackLayer, Detail, Freshness};
use http::{StatusCode, header};
use tower::{Layer, Service};

mod support;
use support::http::{Clients, Origin, Reply, get, get_with, pass, request, secs, send, settle};

const TOO_STALE: Freshness =
    Freshness::new(secs(10)).stale_while_revalidate(Duration::ZERO).stale_if_error(secs(86_400));

/// P44, P15: those whom a shared failure does not fit regroup at once; they do not queue one behind the other.
#[tokio::test(start_paused = true)]
async fn readers_of_a_failing_origin_that_varies_do_not_queue() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND] {
        let origin = Origin::new(move |_| (status, [(header::VARY, "accept")], "no"));
        let app = origin.behind(CachebackLayer::new(secs(60)));
        origin.only_the_first(0);
        let mut clients = Clients::new();
        for accept in ["a", "b", "c", "d", "e"] {
            clients.get(&app, "/", &[("accept", accept)]).await;
        }
        assert_eq!(origin.runs(), 1);
        origin.only_the_first(1);
        settle().await;
        assert_eq!(origin.runs(), 5, "{status}: one run per variant, all at once");
        origin.release();
        clients.answers().await;
    }
}

/// P4: a mark without end is a mark.
#[tokio::test(start_paused = true)]
async fn a_mark_may_have_no_end() {
    for period in [secs(120), Duration::MAX] {
        let origin = Origin::with_fields(&[("set-cookie", "a=b")]);
        let app = origin.behind(CachebackLayer::new(secs(60)).hit_for_miss(period));
        get(&app, "/").await;
        assert_eq!(get(&app, "/").await.outcome().detail(), Some(Detail::SetCookie));
        origin.only_the_first(2);
        let mut clients = Clients::new();
        for _ in 0..5 {
            clients.get(&app, "/", &[]).await;
        }
        assert_eq!(origin.runs(), 7, "{period:?}: the key is marked, nobody waits for another");
        origin.release();
        clients.answers().await;
    }
}

/// P49: `ttl` is that of the moment of the answer, as `Age` is.
#[tokio::test(start_paused = true)]
async fn a_fallback_says_how_stale_it_is_now() {
    let origin = Origin::counting();
    let app = origin.behind(CachebackLayer::new(TOO_STALE).soft_timeout(secs(20)));
    get(&app, "/").await;
    pass(15.0).await;
    origin.only_the_first(1);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    pass(20.0).await;
    let reply: Reply = clients.answers().await.remove(0);
    assert_eq!(reply.field("age"), "35");
    assert_eq!(reply.outcome().ttl(), Some(-25));
}

/// P6: a reader who may not lead waits no longer for a hung origin than one who may.
#[tokio::test(start_paused = true)]
async fn a_head_of_a_too_stale_response_has_a_deadline_and_a_soft_timeout() {
    for (method, fields) in [("GET", &[][..]), ("HEAD", &[]), ("GET", &[("cache-control", "no-store")])] {
        let origin = Origin::counting();
        let app = origin.behind(CachebackLayer::new(TOO_STALE).soft_timeout(secs(5)));
        get(&app, "/").await;
        pass(25.0).await;
        origin.only_the_first(1);
        let reply = tokio::time::timeout(secs(100), send(&app, request(method, "/", fields))).await;
        assert_eq!(reply.unwrap().status, 200, "{method} {fields:?}");
    }
}

/// P96: those who shared a response that was not stored are told why, as the one who led is.
#[tokio::test(start_paused = true)]
async fn followers_of_a_response_that_memory_does_not_take_say_so() {
    let origin = Origin::counting();
    let app = origin.behind(Cache::builder().memory(100).build().layer(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    clients.get(&app, "/", &[]).await;
    origin.release();
    for reply in clients.answers().await {
        assert_eq!(reply.outcome().detail(), Some(Detail::TooLarge), "{}", reply.said());
    }
}

/// P10, P44: one who looked before the fields were known joins those who know them.
#[tokio::test(start_paused = true)]
async fn one_who_looked_before_the_fields_were_known_is_not_alone() {
    let origin = Origin::with_fields(&[("vary", "accept")]);
    let mut service = CachebackLayer::new(secs(60)).layer(origin.router());
    let app = axum::Router::new().fallback_service(service.clone());
    let early = service.call(request("GET", "/", &[("accept", "b")]));
    get_with(&app, "/", &[("accept", "a")]).await;
    assert_eq!(origin.runs(), 1);
    origin.only_the_first(1);
    let early = tokio::spawn(early);
    settle().await;
    let mut clients = Clients::new();
    clients.get(&app, "/", &[("accept", "b")]).await;
    assert_eq!(origin.runs(), 2, "one run for one variant");
    origin.release();
    clients.answers().await;
    early.await.unwrap().unwrap();
}

/// P25: of two runs with different field lists the one that started later stays in use.
#[tokio::test(start_paused = true)]
async fn an_older_run_with_other_fields_hides_no_newer_one() {
    let origin = Origin::new(|seen| -> Response {
        let vary = if seen.run == 1 { "accept" } else { "accept, accept-language" };
        ([(header::VARY, vary)], seen.run.to_string()).into_response()
    });
    // Run 1 is held back in its body, so to say: it is answered last.
    let slow = tokio::sync::watch::Sender::new(false);
    let held = slow.subscribe();
    let inner = origin.router();
    let app = axum::Router::new()
        .fallback(move |request: http::Request<axum::body::Body>| {
            let (inner, mut held) = (inner.clone(), held.clone());
            async move {
                let response = tower::ServiceExt::oneshot(inner, request).await.unwrap();
                let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
                if body == "1" {
                    held.wait_for(|open| *open).await.unwrap();
                    return ([(header::VARY, "accept")], body).into_response();
                }
                ([(header::VARY, "accept, accept-language")], body).into_response()
            }
        })
        .layer(CachebackLayer::new(secs(60)).wait_timeout(secs(10)));
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    clients.get(&app, "/", &[]).await;
    pass(10.0).await;
    assert_eq!(origin.runs(), 2);
    assert_eq!(get(&app, "/").await.text(), "2");
    slow.send_replace(true);
    settle().await;
    clients.answers().await;
    assert_eq!(get(&app, "/").await.text(), "2", "run 2 started later");
}

/// P44: open. What is learnt of the fields is only kept in memory.
#[tokio::test(start_paused = true)]

async fn a_cache_without_memory_does_not_queue_variants() {
    let origin = Origin::with_fields(&[("vary", "accept")]);
    let app = origin.behind(Cache::builder().memory(0).build().layer(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for accept in ["a", "b", "c", "d", "e"] {
        clients.get(&app, "/", &[("accept", accept)]).await;
    }
    origin.only_the_first(1);
    settle().await;
    assert_eq!(origin.runs(), 5, "one run per variant, all at once");
    origin.release();
    clients.answers().await;
}

/// P31: two purges by tag, and a request between them, which joins the run that both reach.
#[tokio::test(start_paused = true)]
async fn a_request_after_a_purge_does_not_get_what_a_second_purge_reaches_as_well() {
    let origin = Origin::new(|seen| (cacheback::Tags::new(["t"]), seen.run.to_string()));
    let cache = Cache::new();
    let app = origin.behind(cache.layer(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    cache.purge_tag("t").await.unwrap();
    clients.get(&app, "/", &[]).await;
    cache.purge_tag("t").await.unwrap();
    origin.release();
    let replies = clients.answers().await;
    assert_eq!(replies.iter().map(Reply::text).collect::<Vec<_>>(), ["1", "2"]);
}
