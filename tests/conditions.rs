//! Validators: what is asked of the store by them (RFC 9110 §13, RFC 9111 §4.3.2), entity tags for handlers that give none,
//! and what a HEAD shows of what is stored (§4.3.5).

mod support;

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness, Http, Scope};
use support::http::{Fields, Origin, Pieces, Reply, get, get_with, headers, pass, request, secs, send, settle};
use support::net::scripted;
use tower::ServiceExt;

const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

async fn tagged(app: &Router, tag: &str) -> Reply {
    get_with(app, "/x", &[("if-none-match", tag)]).await
}

async fn head(app: &Router, fields: &[(&str, &str)]) -> Reply {
    send(app, request("HEAD", "/x", fields)).await
}

// ---- conditions of clients ----

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_15_4_5_a_304_says_what_the_200_would_and_nothing_of_content_it_has_not() {
    let kept = [
        ("cache-control", "max-age=60"),
        ("content-location", "/y"),
        ("date", LATER),
        ("etag", "\"a\""),
        ("expires", LATER),
        ("vary", "x-v"),
        ("x-own", "1"),
    ];
    let dropped = [
        ("last-modified", EARLY),
        ("content-type", "text/x"),
        ("content-language", "de"),
        ("content-encoding", "x"),
        ("content-digest", "x"),
    ];
    let app = Origin::with_fields(&[&kept[..], &dropped].concat()).behind(minute());
    get(&app, "/x").await;
    pass(9.0).await;
    let reply = tagged(&app, "\"a\"").await;
    assert_eq!((reply.status, reply.text(), reply.field("age").as_str()), (StatusCode::NOT_MODIFIED, "", "9"));
    for (name, value) in kept {
        assert_eq!(reply.field(name), value, "{name}");
    }
    for (name, _) in dropped.into_iter().chain([("content-length", "")]) {
        assert!(!reply.has(name), "{name}");
    }
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_4_3_2_a_tag_written_without_quotes_is_known_in_them() {
    for (stored, sent) in [("a", "\"a\""), ("a", "a"), ("\"a\"", "a"), ("w/\"a\"", "w/\"a\""), ("W\\\"a\"", "W\\\"a\"")]
    {
        let app = Origin::with_fields(&[("etag", stored)]).behind(minute());
        get(&app, "/x").await;
        assert_eq!(tagged(&app, sent).await.status, 304, "{stored} {sent}");
        assert_eq!(tagged(&app, "\"b\"").await.status, 200);
    }
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_4_3_2_where_nothing_is_stored_conditions_are_the_services_to_evaluate() {
    // It evaluates none, and says so by a 200: neither does the layer, which has nothing to evaluate them against.
    let origin = Origin::with_fields(&[("etag", "\"a\"")]);
    let app = origin.behind(minute());
    let answer = head(&app, &[("if-none-match", "\"a\"")]).await;
    assert_eq!((answer.status, answer.outcome().detail()), (StatusCode::OK, Some(Detail::Head)));
    assert_eq!(origin.last().field("if-none-match"), "\"a\"");
    let shy = [("if-none-match", "\"a\""), ("cache-control", "no-store")];
    let answer = get_with(&app, "/x", &shy).await;
    assert_eq!((answer.status, answer.outcome().detail()), (StatusCode::OK, Some(Detail::RequestNoStore)));
    // From a stored one it is answered.
    get(&app, "/x").await;
    assert_eq!(get_with(&app, "/x", &shy).await.status, 304);
    assert_eq!(head(&app, &[("if-none-match", "\"a\"")]).await.status, 304);
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_13_2_1_what_is_no_200_is_sent_whatever_the_client_has() {
    for (code, fields) in
        [(203, &[("etag", "\"a\"")][..]), (301, &[("etag", "\"a\""), ("location", "/y")]), (404, &[("etag", "\"a\"")])]
    {
        let code = StatusCode::from_u16(code).expect("a status");
        let fields = headers(&[fields, &[("cache-control", "max-age=60"), ("last-modified", EARLY)]].concat());
        let app = Origin::new(move |_| (code, fields.clone(), "x")).behind(minute());
        get(&app, "/x").await;
        for condition in [("if-none-match", "\"a\""), ("if-none-match", "*"), ("if-modified-since", LATER)] {
            let answer = get_with(&app, "/x", &[condition]).await;
            assert_eq!((answer.status, answer.outcome().status()), (code, CacheStatus::Hit), "{condition:?}");
        }
    }
}

#[tokio::test(start_paused = true)] // P6, P46
async fn who_has_the_stale_response_is_told_so_when_it_stands_in_for_a_failure() {
    let origin = Origin::new(|seen| match seen.run {
        1 => ([("etag", "\"a\"")], "1").into_response(),
        _ => StatusCode::BAD_GATEWAY.into_response(),
    });
    let app = origin.behind(CachebackLayer::new(Freshness::exact(secs(60)).stale_if_error(secs(60))));
    get(&app, "/x").await;
    pass(61.0).await;
    let answer = tagged(&app, "\"a\"").await;
    assert_eq!((answer.status, answer.outcome().detail()), (StatusCode::NOT_MODIFIED, Some(Detail::StaleIfError)));
}

// ---- entity tags of the layer's own ----

/// A page whose content is that, with these fields.
fn page(fields: Fields, content: impl Fn(usize) -> String + Send + Sync + 'static) -> Origin {
    Origin::new(move |seen| (headers(fields), content(seen.run)))
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_8_8_3_what_is_stored_without_a_tag_gets_a_strong_one() {
    let origin = page(&[], |_| "page".into());
    let app = origin.behind(minute().etag());
    let first = get(&app, "/x").await;
    let tag = first.field("etag");
    assert!(tag.len() > 20 && tag.starts_with('"'), "whole in its first frame, the first has it too: {tag}");
    assert_eq!(get(&app, "/x").await.field("etag"), tag);
    assert_eq!(
        (tagged(&app, &tag).await.status, tagged(&app, "\"a\"").await.status),
        (StatusCode::NOT_MODIFIED, StatusCode::OK)
    );
    // It is strong: parts may be put together by it.
    let part = get_with(&app, "/x", &[("range", "bytes=2-"), ("if-range", &tag)]).await;
    assert_eq!((part.status, part.text(), part.field("etag")), (StatusCode::PARTIAL_CONTENT, "ge", tag.clone()));
    // Another process makes the same of the same, and another of something else.
    assert_eq!(get(&page(&[], |_| "page".into()).behind(minute().etag()), "/x").await.field("etag"), tag);
    assert_ne!(get(&page(&[], |_| "pages".into()).behind(minute().etag()), "/x").await.field("etag"), tag);
}

#[tokio::test(start_paused = true)] // P46
async fn a_client_who_has_what_is_fetched_is_told_so_by_the_new_tag() {
    let tag = get(&page(&[], |_| "page".into()).behind(minute().etag()), "/x").await.field("etag");
    let first = tagged(&page(&[], |_| "page".into()).behind(minute().etag()), &tag).await;
    assert_eq!((first.status, first.outcome().is_stored()), (StatusCode::NOT_MODIFIED, true));
}

#[tokio::test(start_paused = true)] // P46, P52
async fn the_first_client_of_what_streams_does_without_a_tag() {
    let script = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&script);
    let origin = Origin::new(move |_| {
        let (script, body) = scripted();
        *kept.lock().expect("no test panics with it") = Some(script);
        Body::new(body)
    });
    let app = origin.behind(minute().etag());
    let first = app.clone().oneshot(request("GET", "/x", &[])).await.expect("a response");
    assert!(!first.headers().contains_key("etag"));
    let mut script = script.lock().expect("no test panics with it").take().expect("a run");
    script.data("page");
    script.end();
    settle().await;
    assert!(get(&app, "/x").await.has("etag"));
}

#[tokio::test(start_paused = true)] // P46
async fn only_a_200_without_a_tag_of_its_own_gets_one() {
    let stored = |fields: Fields| page(fields, |_| "page".into()).behind(minute().etag());
    for fields in [&[("etag", "W/\"a\"")][..], &[("etag", "")]] {
        let app = stored(fields);
        for _ in 0..2 {
            assert_eq!(get(&app, "/x").await.field("etag"), fields[0].1);
        }
    }
    let app = stored(&[("cache-control", "no-store")]);
    assert!(!get(&app, "/x").await.has("etag"), "what is not stored is not touched");
    let missing =
        Origin::new(|_| (StatusCode::NOT_FOUND, [("cache-control", "max-age=9")], "x")).behind(minute().etag());
    get(&missing, "/x").await;
    assert!(!get(&missing, "/x").await.has("etag"));
    let without = page(&[], |_| "page".into()).behind(minute());
    get(&without, "/x").await;
    assert!(!get(&without, "/x").await.has("etag"), "nobody asked for it");
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_8_8_1_pieces_have_the_tag_of_the_whole_and_another_type_has_another() {
    let pieces = |kind: &'static str| {
        let origin = Origin::new(move |_| ([("content-type", kind)], Body::new(Pieces::of(["pa", "", "ge"]))));
        origin.behind(minute().etag())
    };
    let whole = page(&[("content-type", "text/x")], |_| "page".into()).behind(minute().etag());
    let tag = async |app: &Router| get(app, "/x").await.field("etag");
    let tags = [tag(&whole).await, tag(&pieces("text/x")).await, tag(&pieces("text/y")).await];
    assert!(tags[0] == tags[1] && tags[1] != tags[2], "{tags:?}");
}

#[tokio::test(start_paused = true)] // P46, P66
async fn the_service_is_never_asked_by_a_tag_that_it_did_not_give() {
    // By its date it is: with a tag beside it, it would not look at that.
    let origin = Origin::new(|seen| {
        let asked = (seen.field("if-none-match"), seen.field("if-modified-since"));
        match (asked.0.as_str(), asked.1.as_str()) {
            ("", EARLY) => StatusCode::NOT_MODIFIED.into_response(),
            _ => ([("last-modified", EARLY)], "page").into_response(),
        }
    });
    let app = origin.behind(minute().etag());
    let tag = get(&app, "/x").await.field("etag");
    for round in 2..4 {
        pass(61.0).await;
        get(&app, "/x").await;
        settle().await;
        assert_eq!(origin.runs(), round);
        assert_eq!(
            (origin.last().field("if-none-match").as_str(), origin.last().field("if-modified-since").as_str()),
            ("", EARLY)
        );
        let hit = get(&app, "/x").await;
        assert_eq!((hit.said().as_str(), hit.field("etag"), hit.text()), ("hit; ttl=60", tag.clone(), "page"));
    }
    let origin = page(&[], |_| "page".into());
    let app = origin.behind(minute().etag());
    get(&app, "/x").await;
    pass(61.0).await;
    get(&app, "/x").await;
    settle().await;
    assert_eq!((origin.runs(), origin.last().field("if-none-match").as_str()), (2, ""));
}

// ---- HEAD ----

/// An origin whose HEAD has these fields, and its GET those.
fn two_faced(of_head: Fields, of_get: Fields) -> Origin {
    Origin::new(move |seen| match seen.method.as_str() {
        "HEAD" => (headers(of_head), "").into_response(),
        _ => (headers(of_get), "four").into_response(),
    })
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9111_4_3_5_a_head_that_disagrees_with_what_is_stored_expires_it() {
    let of_get: Fields = &[("etag", "\"a\""), ("last-modified", EARLY)];
    for (of_head, expired) in [
        (&[("etag", "\"a\""), ("last-modified", EARLY), ("content-length", "4")][..], false),
        (&[("etag", "W/\"a\"")], false),
        (&[("x-own", "1")], false),
        (&[("etag", "\"b\"")], true),
        (&[("last-modified", LATER)], true),
        (&[("etag", "\"a\""), ("content-length", "5")], true),
    ] {
        let cache = Cache::new();
        let layer = cache.layer(Freshness::exact(secs(60)).stale_if_error(secs(600)));
        let origin = two_faced(of_head, of_get);
        let app = origin.behind(layer);
        get(&app, "/x").await;
        pass(61.0).await;
        for _ in 0..2 {
            assert_eq!(head(&app, &[]).await.outcome().detail(), Some(Detail::Head));
        }
        assert_eq!(cache.stats().expiries, u64::from(expired), "told once: {of_head:?}");
        let stored = cache.peek(Scope::everything());
        assert_eq!((stored.len(), stored[0].is_expired()), (1, expired), "{of_head:?}");
    }
}

#[tokio::test(start_paused = true)] // P40, P48
async fn rfc9111_4_3_5_what_is_fresh_is_fresh_no_more_once_a_head_disagrees() {
    for (of_head, expired) in [(&[("etag", "\"a\"")][..], false), (&[("etag", "\"b\"")], true)] {
        let origin = two_faced(of_head, &[("etag", "\"a\"")]);
        let app = origin.behind(minute().honor_request_directives());
        get(&app, "/x").await;
        let asked = head(&app, &[("cache-control", "no-cache")]).await;
        assert_eq!(asked.field("etag"), of_head[0].1);
        assert_eq!(get(&app, "/x").await.outcome().is_stale(), expired);
        settle().await;
        assert_eq!(origin.last().background, expired, "and it is refreshed");
    }
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9111_4_3_5_a_head_that_fails_says_nothing_of_what_is_stored() {
    let cache = Cache::new();
    let origin = Origin::new(|seen| match seen.method.as_str() {
        "HEAD" => (StatusCode::NOT_FOUND, [("etag", "\"b\"")], "").into_response(),
        _ => ([("etag", "\"a\"")], "four").into_response(),
    });
    let app = origin.behind(cache.layer(Freshness::exact(secs(60)).stale_if_error(secs(600))));
    get(&app, "/x").await;
    pass(61.0).await;
    assert_eq!(head(&app, &[]).await.status, StatusCode::NOT_FOUND);
    assert!(!cache.peek(Scope::everything())[0].is_expired());
}

#[tokio::test(start_paused = true)] // P1, P40
async fn a_head_that_agrees_makes_nothing_younger() {
    // It went forward as its client sent it: what came of that is not what a run would have got.
    let origin = two_faced(
        &[("etag", "\"a\""), ("cache-control", "max-age=600"), ("x-own", "2")],
        &[("etag", "\"a\""), ("x-own", "1")],
    );
    let app = origin.behind(CachebackLayer::new(Freshness::exact(secs(60)).stale_if_error(secs(600))));
    get(&app, "/x").await;
    pass(61.0).await;
    assert_eq!(head(&app, &[]).await.field("x-own"), "2");
    let next = get(&app, "/x").await;
    assert_eq!((next.outcome().status(), next.field("x-own").as_str()), (CacheStatus::Stale, "1"));
}
