//! HTTP caching as RFC 9111 has it and as an application wants it: methods, freshness, what is stored, how it is given
//! out again, conditions, `Cache-Status`, unsafe methods.

mod support;

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness, Http, NoStore, Outcome};
use http_body_util::BodyExt;
use support::http::{
    Clients, Fields, Origin, Pieces, Reply, get, get_with, headers, pass, request, secs, send, settle,
};
use tower::{Layer, ServiceExt, service_fn};

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// An origin whose answers have these fields, one line each, and this status.
fn origin(status: u16, fields: &[(&str, &str)]) -> Origin {
    let (status, fields) = (StatusCode::from_u16(status).expect("a status"), headers(fields));
    Origin::new(move |seen| (status, fields.clone(), seen.run.to_string()))
}

/// Whether a second request like the first is answered from the store.
async fn is_stored(app: &Router) -> bool {
    get(app, "/x").await;
    get(app, "/x").await.outcome().status() == CacheStatus::Hit
}

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

// ---- methods ----

#[tokio::test(start_paused = true)] // P40
async fn rfc9110_9_3_2_a_head_is_answered_from_a_gets_entry_with_its_length_and_without_its_body() {
    let origin = Origin::new(|_| ([("x-own", "1")], "twelve bytes"));
    let app = origin.behind(minute());
    get(&app, "/x").await;
    let head = send(&app, request("HEAD", "/x", &[])).await;
    assert_eq!((head.status, head.field("content-length").as_str(), head.text()), (StatusCode::OK, "12", ""));
    assert_eq!((head.field("x-own").as_str(), head.field("age").as_str()), ("1", "0"));
    assert_eq!(head.outcome().status(), CacheStatus::Hit);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9110_9_3_2_a_head_has_no_body_also_where_no_router_takes_it_away() {
    let page = service_fn(async |_: http::Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("page"))));
    let service = minute().layer(page);
    for method in ["GET", "HEAD"] {
        let response = service.clone().oneshot(request(method, "/x", &[])).await.expect("it never fails");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(&body[..], if method == "GET" { &b"page"[..] } else { b"" });
    }
}

#[tokio::test(start_paused = true)] // P40
async fn a_head_joins_a_gets_flight() {
    let origin = Origin::new(|_| "twelve bytes");
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.send(&app, request("HEAD", "/x", &[])).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(origin.runs(), 1);
    assert!(answers[1].outcome().is_collapsed());
    assert_eq!((answers[1].text(), answers[1].field("content-length").as_str()), ("", "12"));
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9111_4_a_head_never_leads_and_its_response_never_answers_a_get() {
    let origin = Origin::new(|seen| seen.method.to_string());
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.send(&app, request("HEAD", "/x", &[])).await;
    clients.get(&app, "/x", &[]).await;
    clients.send(&app, request("HEAD", "/x", &[])).await;
    origin.begun(2).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(origin.seen().iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["HEAD", "GET"]);
    assert_eq!(answers[0].outcome().detail(), Some(Detail::Head));
    assert!(!answers[0].outcome().is_stored());
    assert_eq!(answers[1].text(), "GET");
    assert!(!answers[1].outcome().is_collapsed() && answers[2].outcome().is_collapsed());
    assert_eq!(get(&app, "/x").await.text(), "GET");
}

#[tokio::test(start_paused = true)] // P20, P40
async fn a_head_that_finds_a_stale_entry_has_it_refreshed_as_a_get() {
    let origin = Origin::counting();
    let layer = minute();
    let (app, cache) = (origin.behind(layer.clone()), layer.cache().clone());
    get(&app, "/x").await;
    pass(61.0).await;
    let head = send(&app, request("HEAD", "/x", &[])).await;
    assert!(head.outcome().is_stale());
    cache.settled().await;
    settle().await;
    let last = origin.last();
    assert_eq!((last.run, last.method.as_str(), last.background), (2, "GET", true));
    assert_eq!(get(&app, "/x").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P40
async fn a_request_with_content_or_for_another_protocol_passes_by() {
    let content = |method: &str, length: Option<&str>| {
        let mut request = request(method, "/x", &[]);
        *request.body_mut() = Body::from("content");
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().expect("a value"));
        }
        request
    };
    let odd = [
        (content("GET", None), Detail::Content),
        (content("GET", Some("7")), Detail::Content),
        (content("HEAD", Some("7")), Detail::Content),
        (request("GET", "/x", &[("transfer-encoding", "chunked")]), Detail::Content),
        (request("GET", "/x", &[("content-length", "1")]), Detail::Content),
        (request("GET", "/x", &[("connection", "upgrade"), ("upgrade", "websocket")]), Detail::Upgrade),
        (request("GET", "/x", &[("upgrade", "h2c")]), Detail::Upgrade),
    ];
    for (request, detail) in odd {
        let what = format!("{request:?}");
        let origin = Origin::counting();
        let app = origin.behind(minute());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        let (parts, body) = request.into_parts();
        let content = axum::body::to_bytes(body, 100).await.expect("a body");
        let again = || axum::http::Request::from_parts(parts.clone(), Body::from(content.clone()));
        clients.send(&app, again()).await;
        clients.send(&app, again()).await;
        origin.begun(2).await;
        origin.release();
        for answer in clients.answers().await {
            assert_eq!(answer.outcome().status(), CacheStatus::Bypass, "{what}");
            assert_eq!(answer.outcome().detail(), Some(detail), "{what}");
        }
        assert_eq!(origin.last().content, content, "the content arrives: {what}");
        assert_eq!(get(&app, "/x").await.outcome().status(), CacheStatus::UriMiss, "nothing was stored: {what}");
        send(&app, again()).await;
        assert_eq!(origin.runs(), 4, "it is not looked up: {what}");
    }
}

#[tokio::test(start_paused = true)] // P40
async fn an_empty_content_length_is_no_content() {
    let origin = Origin::counting();
    let app = origin.behind(minute());
    get(&app, "/x").await;
    assert_eq!(get_with(&app, "/x", &[("content-length", "0")]).await.outcome().status(), CacheStatus::Hit);
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9111_3_and_4_a_method_other_than_get_and_head_is_not_looked_up_and_fills_nothing() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "get", "BREW"] {
        let origin = Origin::with_fields(&[("cache-control", "public, max-age=60")]);
        let app = origin.behind(minute().unsafe_invalidates(false));
        get(&app, "/x").await;
        for _ in 0..2 {
            let answer = send(&app, request(method, "/x", &[])).await;
            assert_eq!(answer.outcome().status(), CacheStatus::Method, "{method}");
            assert!(!answer.outcome().is_stored(), "{method}");
        }
        assert_eq!(origin.runs(), 3, "{method}");
        assert_eq!(get(&app, "/x").await.text(), "1", "{method}");
    }
    let origin = Origin::counting();
    let app = origin.behind(minute());
    for runs in 1..=2 {
        let answer = send(&app, request("CONNECT", "host.example:443", &[])).await;
        assert_eq!(answer.outcome().status(), CacheStatus::Method);
        assert_eq!(origin.runs(), runs);
    }
}

// ---- freshness ----

#[tokio::test(start_paused = true)] // P41
async fn the_layers_freshness_applies_to_four_statuses_alone() {
    for status in 200..600 {
        let Ok(code) = StatusCode::from_u16(status) else { continue };
        let stored = is_stored(&origin(status, &[]).behind(minute())).await;
        assert_eq!(stored, [200, 203, 301, 308].contains(&status), "{code}");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_a_lifetime_that_the_response_states_holds_for_every_status_that_may_be_stored() {
    for lifetime in ["s-maxage=10", "max-age=10", "max-age=99, s-maxage=10"] {
        for status in [200, 201, 202, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 404, 405, 410, 414, 451, 501] {
            let app = origin(status, &[("cache-control", lifetime)]).behind(minute());
            assert!(is_stored(&app).await, "{status} {lifetime}");
            pass(10.0).await;
            assert_ne!(get(&app, "/x").await.outcome().status(), CacheStatus::Hit, "{status} {lifetime}");
        }
        for status in [206, 304, 401, 407] {
            assert!(!is_stored(&origin(status, &[("cache-control", lifetime)]).behind(minute())).await, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_1_expires_counts_from_date() {
    let app = origin(404, &[("date", EARLY), ("expires", LATER)]).behind(minute());
    assert!(is_stored(&app).await);
    pass(0.999).await;
    assert_eq!(get(&app, "/x").await.outcome().status(), CacheStatus::Hit);
    pass(0.001).await;
    assert_ne!(get(&app, "/x").await.outcome().status(), CacheStatus::Hit);
    for past in ["0", "-1", EARLY, ""] {
        assert!(!is_stored(&origin(200, &[("date", EARLY), ("expires", past)]).behind(minute())).await, "{past}");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn a_negative_rule_stores_its_status_for_its_time() {
    let origin = origin(404, &[]);
    let app = origin.behind(minute().negative(StatusCode::NOT_FOUND, Freshness::exact(secs(5))));
    assert!(is_stored(&app).await);
    pass(5.0).await;
    assert_eq!(get(&app, "/x").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_3_a_part_of_a_response_is_never_stored_as_the_whole() {
    for fields in [&[("content-range", "bytes 0-0/9")][..], &[("content-range", "x"), ("cache-control", "max-age=9")]] {
        let app = origin(200, fields).behind(minute());
        assert!(!is_stored(&app).await);
        assert_eq!(get(&app, "/x").await.outcome().detail(), Some(Detail::Partial));
    }
    let app = origin(206, &[("cache-control", "max-age=9"), ("content-range", "bytes 0-0/9")]).behind(minute());
    assert!(!is_stored(&app).await);
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_a_prohibition_is_never_overridden() {
    use Detail::*;
    let granting = "max-age=60, public, s-maxage=60, stale-while-revalidate=60, stale-if-error=60";
    let prohibitions: [(Fields, Detail); 17] = [
        (&[("cache-control", "no-store")], NoStore),
        (&[("cache-control", "NO-STORE")], NoStore),
        (&[("cache-control", "max-age=9"), ("cache-control", "no-store")], NoStore),
        (&[("cache-control", "must-understand; no-store")], NoStore),
        (&[("cache-control", "private")], Private),
        (&[("cache-control", "private=\"x-field\""), ("cache-control", "private")], Private),
        (&[("cache-control", "private=x-field")], Private),
        (&[("cache-control", "no-cache")], NoCache),
        (&[("cache-control", "no-cache=\"vary\"")], NoCache),
        (&[("cache-control", "x=\"a, b\", no-store")], NoStore),
        (&[("cache-control", "no-store; max-age=9")], NoStore),
        (&[("vary", "*")], VaryAny),
        (&[("vary", "accept, *")], VaryAny),
        (&[("vary", "accept"), ("vary", "*")], VaryAny),
        (&[("set-cookie", "a=1")], SetCookie),
        (&[("www-authenticate", "Basic")], Authenticate),
        (&[("proxy-authenticate", "Basic")], Authenticate),
    ];
    for (fields, detail) in prohibitions {
        for extra in [None, Some(("cache-control", granting)), Some(("expires", "Sun, 06 Nov 2094 08:49:37 GMT"))] {
            let fields: Vec<_> = extra.into_iter().chain(fields.iter().copied()).collect();
            let fields = headers(&fields);
            let origin = Origin::new({
                let fields = fields.clone();
                // The handler's own word grants a lifetime, and overrides no prohibition either.
                move |seen| {
                    let mut response = (fields.clone(), seen.run.to_string()).into_response();
                    response.extensions_mut().insert(Freshness::new(secs(60)));
                    response
                }
            });
            let app = origin.behind(minute().stale_windows_for_all().negative(StatusCode::NOT_FOUND, secs(9)));
            assert!(!is_stored(&app).await, "{fields:?}");
            let said = get(&app, "/x").await.outcome();
            assert_eq!((said.detail(), said.is_stored()), (Some(detail), false), "{fields:?}");
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn a_vary_that_nobody_can_read_forbids_storing() {
    for vary in ["accept-language accept-encoding", "accept-language;q=1", "é"] {
        let app = origin(200, &[("vary", vary)]).behind(minute());
        assert!(!is_stored(&app).await, "{vary}");
    }
}

#[tokio::test(start_paused = true)] // P42
async fn pragma_alone_forbids_and_beside_cache_control_says_nothing() {
    assert!(!is_stored(&origin(200, &[("pragma", "no-cache")]).behind(minute())).await);
    let both = origin(200, &[("pragma", "no-cache"), ("cache-control", "max-age=9")]);
    assert!(is_stored(&both.behind(minute())).await);
}

#[tokio::test(start_paused = true)] // P42
async fn a_handler_that_says_no_is_not_overridden() {
    let origin = Origin::new(|_| {
        let mut response = [("cache-control", "max-age=60")].into_response();
        response.extensions_mut().insert(NoStore);
        response
    });
    let app = origin.behind(minute());
    assert!(!is_stored(&app).await);
    assert_eq!(get(&app, "/x").await.outcome().detail(), Some(Detail::HandlerSaidNo));
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_2_and_8_what_must_be_revalidated_is_never_served_stale() {
    for must in ["must-revalidate", "proxy-revalidate"] {
        for lifetime in ["", ", max-age=60", ", max-age=60, stale-while-revalidate=900, stale-if-error=900"] {
            let control = format!("{must}{lifetime}");
            let origin = Origin::new(move |seen| match seen.run {
                1 => ([("cache-control", control.clone())], "1").into_response(),
                _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            });
            let app = origin.behind(minute().stale_windows_for_all());
            assert!(is_stored(&app).await, "{must}{lifetime}");
            pass(60.0).await;
            let late = get(&app, "/x").await;
            assert_eq!(late.status, StatusCode::INTERNAL_SERVER_ERROR, "{must}{lifetime}");
        }
    }
}

/// How an answer comes at an age: fresh, stale at once, in place of a failure, or not at all.
async fn at_age(layer: CachebackLayer<Http>, control: &'static str, age: f64) -> &'static str {
    let origin = Origin::new(move |seen| match seen.run {
        1 if control.is_empty() => "1".into_response(),
        1 => ([("cache-control", control)], "1").into_response(),
        _ => StatusCode::BAD_GATEWAY.into_response(),
    });
    let app = origin.behind(layer);
    get(&app, "/x").await;
    pass(age).await;
    let said = get(&app, "/x").await.outcome();
    match said.status() {
        CacheStatus::Hit if said.is_stale() => "stale",
        CacheStatus::Hit => "fresh",
        CacheStatus::Stale if said.is_stale() => "instead",
        _ => "gone",
    }
}

#[tokio::test(start_paused = true)] // P42
async fn a_response_gets_the_windows_that_go_with_its_lifetime() {
    let windows = || Freshness::new(secs(60)).stale_while_revalidate(secs(30)).stale_if_error(secs(90));
    type MakeLayer<'a> = &'a dyn Fn() -> CachebackLayer<Http>;
    let own: MakeLayer = &|| CachebackLayer::new(windows());
    let for_all: MakeLayer = &|| CachebackLayer::new(windows()).stale_windows_for_all();
    for (layer, control, ages) in [
        (own, "", [(59.9, "fresh"), (60.0, "stale"), (90.0, "instead"), (150.0, "gone")].as_slice()),
        (own, "max-age=10", &[(9.9, "fresh"), (10.0, "gone")]),
        (own, "max-age=10, stale-while-revalidate=5", &[(9.9, "fresh"), (10.0, "stale"), (15.0, "gone")]),
        (own, "max-age=10, stale-if-error=5", &[(9.9, "fresh"), (10.0, "instead"), (15.0, "gone")]),
        (own, "max-age=0", &[(0.0, "gone"), (1.0, "gone")]),
        (own, "s-maxage=0, max-age=60", &[(0.0, "gone")]),
        (own, "max-age=junk", &[(0.0, "gone")]),
        (own, "max-age=0, stale-while-revalidate=5", &[(0.0, "stale"), (4.9, "stale"), (5.0, "gone")]),
        (for_all, "max-age=10", &[(9.9, "fresh"), (10.0, "stale"), (40.0, "instead"), (100.0, "gone")]),
        (for_all, "max-age=0", &[(0.0, "stale"), (30.0, "instead"), (90.0, "gone")]),
        (for_all, "max-age=10, stale-while-revalidate=5", &[(14.9, "stale"), (15.0, "instead"), (100.0, "gone")]),
    ] {
        for (age, verdict) in ages {
            assert_eq!(at_age(layer(), control, *age).await, *verdict, "{control:?} at {age}");
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn a_handlers_own_freshness_comes_before_what_its_fields_say() {
    let origin = Origin::new(|seen| {
        let mut response = ([("cache-control", "max-age=5")], seen.run.to_string()).into_response();
        response.extensions_mut().insert(Freshness::exact(secs(100)));
        response
    });
    let app = origin.behind(minute());
    get(&app, "/x").await;
    pass(99.0).await;
    assert_eq!(get(&app, "/x").await.text(), "1");
    pass(1.0).await;
    assert_eq!(get(&app, "/x").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P1, P45
async fn rfc9111_4_2_3_an_age_that_came_with_the_response_counts() {
    let origin = origin(200, &[("age", "40"), ("cache-control", "max-age=60")]);
    let app = origin.behind(minute());
    assert_eq!(get(&app, "/x").await.field("age"), "40", "a forwarded response is as it came");
    pass(19.0).await;
    assert_eq!(get(&app, "/x").await.field("age"), "59");
    pass(1.0).await;
    assert_eq!(get(&app, "/x").await.text(), "2");
}

// ---- reuse ----

#[tokio::test(start_paused = true)] // P45
async fn rfc9111_4_every_reuse_has_an_age_and_a_fresh_forward_has_none() {
    let origin = Origin::counting();
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    pass(3.0).await;
    clients.get(&app, "/x", &[]).await;
    pass(4.0).await;
    origin.release();
    let answers = clients.answers().await;
    assert!(!answers[0].has("age"));
    assert_eq!(answers[1].field("age"), "7", "a follower's response is as old as its run");
    assert!(answers[1].outcome().is_collapsed());
    pass(10.5).await;
    assert_eq!(get(&app, "/x").await.field("age"), "17", "whole seconds, of the run's start");
    pass(3600.0 - 17.5 + 30.0).await;
    let stale = get(&app, "/x").await;
    assert_eq!((stale.field("age").as_str(), stale.outcome().is_stale()), ("3630", true));
    assert_eq!(send(&app, request("POST", "/y", &[])).await.field("age"), "");
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9110_6_6_1_a_date_is_added_where_it_is_missing_and_replayed_unchanged() {
    let added = Origin::counting().behind(minute());
    let first = get(&added, "/x").await.field("date");
    assert!(first.ends_with(" GMT"), "{first}");
    pass(59.0).await;
    assert_eq!(get(&added, "/x").await.field("date"), first);

    let own = origin(200, &[("date", EARLY)]).behind(minute());
    for _ in 0..2 {
        assert_eq!(get(&own, "/x").await.field("date"), EARLY);
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9111_3_1_what_ends_at_this_hop_is_not_stored() {
    let own = [
        ("connection", "x-named, Keep-Alive"),
        ("connection", "X-Also"),
        ("x-named", "1"),
        ("x-also", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "1"),
        ("proxy-authentication-info", "1"),
        ("proxy-connection", "close"),
        ("proxy-whatever", "1"),
        ("x-kept", "1"),
    ];
    let app = origin(200, &own).behind(minute());
    let first = get(&app, "/x").await;
    assert_eq!(first.field("x-named"), "1", "the one who leads gets what it would get without the layer");
    let second = get(&app, "/x").await;
    assert_eq!(second.outcome().status(), CacheStatus::Hit);
    for (name, _) in own {
        assert_eq!(second.has(name), name == "x-kept", "{name}");
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9110_5_3_order_and_multiplicity_of_fields_are_kept() {
    let own = [
        ("x-b", "1"),
        ("link", "</a>; rel=preload"),
        ("x-a", "2"),
        ("link", "</b>; rel=preload"),
        ("x-b", ""),
        ("content-language", "de"),
        ("x-b", "1"),
    ];
    let app = origin(200, &own).behind(minute());
    let names = |reply: &Reply| -> Vec<String> {
        let ours = ["age", "cache-status", "date", "content-length", "content-type"];
        let names = reply.headers.keys().map(|name| name.as_str().to_owned());
        names.filter(|name| !ours.contains(&name.as_str())).collect()
    };
    let (first, second) = (get(&app, "/x").await, get(&app, "/x").await);
    assert_eq!(names(&first), names(&second));
    assert_eq!(second.field("link"), "</a>; rel=preload|</b>; rel=preload");
    assert_eq!(second.field("x-b"), "1||1");
    assert_eq!(second.headers.get_all("age").iter().count(), 1);
    assert_eq!(second.headers.get_all("content-length").iter().count(), 1);
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9110_5_5_values_that_are_no_text_are_replayed_to_the_byte() {
    let value = axum::http::HeaderValue::from_bytes(b"caf\xe9 \x80\xff").expect("obs-text is allowed");
    let own = value.clone();
    let origin = Origin::new(move |_| ([("x-own", own.clone())], "1"));
    let app = origin.behind(minute());
    for _ in 0..2 {
        assert_eq!(get(&app, "/x").await.headers["x-own"], value);
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9110_8_6_content_length_agrees_with_the_body() {
    for (stated, body) in [(None, "four"), (Some("4"), "four"), (None, ""), (Some("0"), "")] {
        let origin = Origin::new(move |_| {
            let mut response = Response::new(Body::new(Pieces::of([body])));
            if let Some(stated) = stated {
                response.headers_mut().insert("content-length", stated.parse().expect("a value"));
            }
            response
        });
        let app = origin.behind(minute());
        get(&app, "/x").await;
        let hit = get(&app, "/x").await;
        assert_eq!(hit.outcome().status(), CacheStatus::Hit, "{stated:?} {body:?}");
        assert_eq!((hit.field("content-length"), hit.text()), (body.len().to_string(), body), "{stated:?}");
    }
}

#[tokio::test(start_paused = true)] // P34, P45
async fn what_was_expired_by_hand_leaves_without_the_freshness_that_it_states() {
    let origin = Origin::with_fields(&[("cache-control", "max-age=60, stale-while-revalidate=60")]);
    let cache = Cache::new();
    let app = origin.behind(cache.layer(secs(60)));
    get(&app, "/x").await;
    cache.expire_path("/x").await.expect("expired");
    let stale = get(&app, "/x").await;
    assert!(stale.outcome().is_stale());
    assert_eq!(stale.field("cache-control"), "max-age=0");
}

#[tokio::test(start_paused = true)] // P45
async fn a_stale_answer_leaves_without_remaining_freshness_where_the_layer_granted_it() {
    let fields = [("expires", "Sun, 06 Nov 2094 08:49:37 GMT"), ("cache-control", "max-age=99999, public")];
    for own in [&fields[..0], &fields[..1], &fields[..]] {
        let own = headers(own);
        let origin = Origin::new(move |seen| {
            let mut response = (own.clone(), seen.run.to_string()).into_response();
            response.extensions_mut().insert(Freshness::new(secs(60)));
            response
        });
        let app = origin.behind(minute());
        let fresh = get(&app, "/x").await;
        pass(60.0).await;
        let stale = get(&app, "/x").await;
        assert!(stale.outcome().is_stale());
        let left = if fresh.field("cache-control").contains("public") { "max-age=0, public" } else { "max-age=0" };
        assert_eq!((stale.field("cache-control").as_str(), stale.field("expires").as_str()), (left, ""));
        assert_ne!(fresh.field("cache-control"), "max-age=0");
        settle().await;
        assert_ne!(get(&app, "/x").await.field("cache-control"), "max-age=0", "fresh again");
    }
}

#[tokio::test(start_paused = true)] // P45
async fn a_stale_answer_whose_response_stated_its_lifetime_leaves_as_it_came() {
    let app = origin(200, &[("cache-control", "max-age=10, stale-while-revalidate=10")]).behind(minute());
    get(&app, "/x").await;
    pass(12.0).await;
    let stale = get(&app, "/x").await;
    assert!(stale.outcome().is_stale());
    assert_eq!(stale.field("cache-control"), "max-age=10, stale-while-revalidate=10");
    assert_eq!(stale.field("age"), "12", "which tells that it is stale");
}

// ---- conditions ----

#[tokio::test(start_paused = true)] // P53
async fn a_body_of_exactly_the_cap_is_stored_and_one_byte_more_is_not() {
    for (cap, stored) in [(9, false), (10, true), (11, true)] {
        for in_pieces in [false, true] {
            let origin = Origin::new(move |_| match in_pieces {
                true => Body::new(Pieces::of(["12345", "", "67890"])),
                false => Body::from("1234567890"),
            });
            let app = origin.behind(minute().body_cap(cap));
            let (first, second) = (get(&app, "/x").await, get(&app, "/x").await);
            assert_eq!((first.text(), second.text()), ("1234567890", "1234567890"));
            assert_eq!(first.outcome().is_stored(), stored, "{cap} {in_pieces}");
            assert_eq!(second.outcome().status() == CacheStatus::Hit, stored, "{cap} {in_pieces}");
        }
    }
    assert!(is_stored(&Origin::new(|_| ()).behind(minute().body_cap(0))).await);
}

#[tokio::test(start_paused = true)] // P46
async fn on_a_miss_the_conditions_are_taken_off_and_answered_from_what_was_stored() {
    let origin = Origin::new(|seen| {
        let asks = ["if-none-match", "if-modified-since"].iter().any(|name| seen.headers.contains_key(*name));
        match asks {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => ([("etag", "\"a\""), ("content-language", "de"), ("x-own", "1")], "body").into_response(),
        }
    });
    let app = origin.behind(minute());
    let first = get_with(&app, "/x", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((first.status, first.text()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!((first.field("etag").as_str(), first.field("x-own").as_str()), ("\"a\"", "1"));
    assert!(!first.has("content-length") && !first.has("content-language") && !first.has("age"));
    assert!(first.outcome().is_stored());
    assert_eq!(first.outcome().forward_status(), Some(200));
    let second = get(&app, "/x").await;
    assert_eq!((second.status, second.text(), second.field("content-length").as_str()), (StatusCode::OK, "body", "4"));
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P46
async fn on_a_miss_a_condition_that_does_not_hold_gets_the_whole_response() {
    let origin = Origin::with_fields(&[("etag", "\"b\"")]);
    let app = origin.behind(minute());
    let answer = get_with(&app, "/x", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "1"));
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_4_3_2_a_condition_is_answered_from_a_fresh_entry_and_from_a_stale_one() {
    let origin = Origin::with_fields(&[("etag", "W/\"a\""), ("last-modified", EARLY)]);
    let app = origin.behind(minute());
    get(&app, "/x").await;
    for age in ["0", "60"] {
        for (conditions, not_modified) in [
            (&[("if-none-match", "\"a\"")][..], true),
            (&[("if-none-match", "W/\"a\"")], true),
            (&[("if-none-match", "\"x\", \"a\"")], true),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")], true),
            (&[("if-none-match", "*")], true),
            (&[("if-none-match", "\"b\"")], false),
            (&[("if-modified-since", EARLY)], true),
            (&[("if-modified-since", LATER)], true),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            (&[("if-modified-since", "yesterday")], false),
            // RFC 9110 §13.2.2: the entity-tag decides alone.
            (&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], false),
            (&[("if-none-match", "\"a\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], true),
        ] {
            let answer = get_with(&app, "/x", conditions).await;
            let status = if not_modified { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
            assert_eq!((answer.status, answer.text().is_empty()), (status, not_modified), "{conditions:?}");
            assert_eq!(answer.field("age"), age, "{conditions:?}");
            assert_eq!(answer.outcome().status(), CacheStatus::Hit);
            assert_eq!(answer.outcome().is_stale(), age == "60");
            assert!(answer.has("cache-status"));
            // A refresh lands with an entry of the same validators: the stale one is put back for the next round.
            if age == "60" {
                settle().await;
                pass(60.0).await;
            }
            let head = request("HEAD", "/x", conditions);
            if age == "0" {
                assert_eq!(send(&app, head).await.status, status, "HEAD {conditions:?}");
            }
        }
        pass(60.0).await;
    }
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_13_2_1_conditions_apply_to_a_200_alone() {
    let app = origin(404, &[("etag", "\"a\""), ("cache-control", "max-age=60")]).behind(minute());
    for _ in 0..2 {
        assert_eq!(get_with(&app, "/x", &[("if-none-match", "\"a\"")]).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(start_paused = true)] // P46
async fn each_follower_has_its_own_condition() {
    let origin = Origin::with_fields(&[("etag", "\"a\"")]);
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for tag in ["\"b\"", "\"a\"", "\"c\"", "*"] {
        clients.get(&app, "/x", &[("if-none-match", tag)]).await;
    }
    origin.release();
    let statuses: Vec<_> = clients.answers().await.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [200, 304, 200, 304]);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_4_3_2_a_condition_that_only_the_origin_can_decide_passes_by_untouched() {
    for field in ["if-match", "if-unmodified-since"] {
        let origin = Origin::counting();
        let app = origin.behind(minute());
        get(&app, "/x").await;
        let answer = get_with(&app, "/x", &[(field, "\"a\""), ("if-none-match", "\"b\"")]).await;
        assert_eq!(answer.outcome().detail(), Some(Detail::Precondition));
        assert_eq!(
            (origin.last().field(field), origin.last().field("if-none-match")),
            ("\"a\"".into(), "\"b\"".into())
        );
    }
}

#[tokio::test(start_paused = true)] // P47
async fn a_range_passes_by_untouched_and_nothing_of_it_is_stored() {
    let origin = Origin::new(|seen| match seen.headers.contains_key("range") {
        true => (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 0-0/4")], "b").into_response(),
        false => "body".into_response(),
    });
    let app = origin.behind(minute());
    let part = get_with(&app, "/x", &[("range", "bytes=0-0"), ("if-range", "\"a\"")]).await;
    assert_eq!((part.status, part.text()), (StatusCode::PARTIAL_CONTENT, "b"));
    assert_eq!(origin.last().field("if-range"), "\"a\"");
    assert_eq!(get(&app, "/x").await.text(), "body");
}

// ---- request directives ----

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_request_directives_cannot_force_a_run() {
    let directives =
        ["no-cache", "max-age=0", "max-age=0, no-cache", "min-fresh=99999", "max-stale=0", "only-if-cached"];
    let origin = Origin::counting();
    let app = origin.behind(minute());
    assert_eq!(get_with(&app, "/x", &[("cache-control", "only-if-cached")]).await.text(), "1");
    pass(10.0).await;
    for directives in directives {
        let answer = get_with(&app, "/x", &[("cache-control", directives), ("pragma", "no-cache")]).await;
        assert_eq!((answer.text(), answer.outcome().is_stale()), ("1", false), "{directives}");
    }
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_5_a_request_with_no_store_never_leads_and_is_never_stored() {
    for method in ["GET", "HEAD"] {
        let origin = Origin::counting();
        let app = origin.behind(minute());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        let shy = || request(method, "/x", &[("cache-control", "no-store"), ("if-none-match", "\"a\"")]);
        clients.send(&app, shy()).await;
        clients.get(&app, "/x", &[]).await;
        clients.send(&app, shy()).await;
        origin.begun(2).await;
        origin.release();
        let answers = clients.answers().await;
        assert_eq!(answers[0].outcome().detail(), Some(Detail::RequestNoStore), "{method}");
        assert!(!answers[0].outcome().is_stored(), "{method}");
        assert_eq!(origin.seen()[0].field("if-none-match"), "\"a\"", "forwarded as it is");
        assert_eq!(answers[1].text(), "2", "{method}: a GET joins no such request");
        assert!(answers[2].outcome().is_collapsed(), "{method}: it may wait for what others lead");
        assert_eq!(get(&app, "/x").await.text(), "2", "{method}");
    }
}

#[tokio::test(start_paused = true)] // P48
async fn a_request_with_no_store_is_never_rerun() {
    let origin = Origin::counting();
    let layer =
        CachebackLayer::new(Freshness::exact(secs(60)).stale_while_revalidate(secs(60)).stale_if_error(secs(120)));
    let app = origin.behind(layer);
    get(&app, "/x").await;
    pass(61.0).await;
    let shy = || get_with(&app, "/x", &[("cache-control", "no-store")]);
    let stale = shy().await;
    assert!(stale.outcome().is_stale());
    settle().await;
    assert_eq!(origin.runs(), 1, "no refresh of this request");
    pass(60.0).await;
    let forwarded = shy().await;
    assert_eq!((forwarded.text(), forwarded.outcome().is_stored()), ("2", false));
    assert_eq!(get(&app, "/x").await.text(), "3", "its response was not stored");
}

// ---- Cache-Status ----

#[tokio::test(start_paused = true)] // P49, P96
async fn rfc9211_2_one_member_is_appended_after_the_previous_ones() {
    let origin = origin(200, &[("cache-status", "inner; hit"), ("cache-status", "other; fwd=miss")]);
    let app = origin.behind(minute());
    for (own, detail) in
        [("cacheback; fwd=uri-miss; fwd-status=200; stored", "miss"), ("cacheback; hit; ttl=60", "hit")]
    {
        let answer = get(&app, "/secret?token=1").await;
        let said = answer.field("cache-status").replace('|', ", ");
        assert_eq!(said, format!("inner; hit, other; fwd=miss, {own}"), "{detail}");
    }
    pass(67.5).await;
    let stale = get(&app, "/secret?token=1").await.field("cache-status");
    assert!(stale.ends_with("cacheback; hit; ttl=-8"), "{stale}");
    assert!(!stale.contains("secret") && !stale.contains("token"));
    let past = send(&app, request("POST", "/secret", &[])).await.field("cache-status").replace('|', ", ");
    assert_eq!(past, "inner; hit, other; fwd=miss, cacheback; fwd=method; fwd-status=200");
}

#[tokio::test(start_paused = true)] // P49
async fn a_cache_that_names_itself_to_nobody_keeps_what_others_said() {
    let origin = origin(200, &[("cache-status", "inner; hit")]);
    let app = origin.behind(minute().cache_status(None));
    for _ in 0..2 {
        assert_eq!(get(&app, "/x").await.field("cache-status"), "inner; hit");
    }
    let named = origin.behind(minute().cache_status("edge"));
    assert!(get(&named, "/x").await.field("cache-status").contains("edge; fwd=uri-miss"));
}

#[tokio::test(start_paused = true)] // P49, P93
async fn layers_of_one_cache_that_name_themselves_otherwise_keep_all_fields_whole() {
    for (inner, stores, answers, said) in [
        ("", None, Some("edge"), "edge; hit; ttl=60"),
        ("", Some("edge"), None, ""),
        ("inner; hit", None, Some("edge"), "inner; hit, edge; hit; ttl=60"),
        ("inner; hit", Some("edge"), None, "inner; hit"),
        ("inner; hit", None, None, "inner; hit"),
    ] {
        let fields = [("cache-status", inner), ("content-type", "text/html")];
        let origin = origin(200, if inner.is_empty() { &fields[1..] } else { &fields });
        let cache = Cache::new();
        get(&origin.behind(cache.layer(secs(60)).cache_status(stores)), "/x").await;
        let hit = get(&origin.behind(cache.layer(secs(60)).cache_status(answers)), "/x").await;
        assert_eq!(hit.outcome().status(), CacheStatus::Hit);
        assert_eq!((hit.field("cache-status").as_str(), hit.has("cache-status")), (said, !said.is_empty()));
        assert_eq!(hit.field("content-type"), "text/html", "{stores:?} {answers:?}");
    }
}

#[tokio::test(start_paused = true)] // P49, P6
async fn rfc9211_2_4_a_stale_answer_after_a_wait_says_how_stale_it_is_by_then() {
    let freshness = Freshness::exact(secs(5)).stale_if_error(secs(1_000));
    let origin = Origin::counting();
    let app = origin.behind(CachebackLayer::new(freshness).soft_timeout(secs(30)));
    get(&app, "/x").await;
    pass(10.0).await;
    origin.only_the_first(1);
    let slow = get(&app, "/x").await;
    assert_eq!((slow.field("age").as_str(), slow.said().as_str()), ("40", "fwd=stale; ttl=-35; detail=slow"));
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_6_a_follower_says_that_it_collapsed() {
    let origin = Origin::counting();
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[]).await;
    origin.release();
    let said: Vec<_> = clients.answers().await.iter().map(Reply::said).collect();
    assert_eq!(said[0], "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(said[1], "fwd=uri-miss; fwd-status=200; ttl=60; stored; collapsed");
}

#[tokio::test(start_paused = true)] // P96
async fn rfc9211_2_5_stored_is_said_only_of_what_is_stored() {
    let large = "x".repeat(100);
    let refusals: [(u16, Fields, &str, Detail); 6] = [
        (200, &[("cache-control", "no-store")], "", Detail::NoStore),
        (200, &[("set-cookie", "a=1")], "", Detail::SetCookie),
        (404, &[], "", Detail::Status),
        (500, &[], "", Detail::Status),
        (200, &[("cache-control", "max-age=0")], "", Detail::NoLifetime),
        (200, &[], &large, Detail::TooLarge),
    ];
    for (status, fields, body, detail) in refusals {
        let (status, fields, body) = (StatusCode::from_u16(status).expect("one"), headers(fields), body.to_owned());
        let origin = Origin::new(move |_| (status, fields.clone(), body.clone()));
        let app = origin.behind(minute().body_cap(50));
        for _ in 0..2 {
            let said = get(&app, "/x").await;
            assert!(!said.outcome().is_stored(), "{detail:?}");
            assert!(!said.field("cache-status").contains("stored"), "{detail:?}");
            assert_eq!(said.outcome().detail(), Some(detail));
        }
    }
}

#[tokio::test(start_paused = true)] // P96
async fn rfc9211_2_5_what_memory_does_not_take_is_not_said_to_be_stored() {
    let origin = Origin::counting();
    let app = origin.behind(Cache::builder().memory(100).build().layer(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[]).await;
    origin.release();
    for answer in clients.answers().await {
        assert_eq!((answer.text(), answer.outcome().is_stored()), ("1", false));
        assert_eq!(answer.outcome().detail(), Some(Detail::TooLarge));
    }
}

#[tokio::test(start_paused = true)] // P96
async fn rfc9211_2_5_what_a_purge_overtook_is_not_said_to_be_stored() {
    let origin = Origin::counting();
    let layer = minute();
    let app = origin.behind(layer.clone());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[]).await;
    layer.cache().purge_path("/x").await.expect("purged");
    origin.release();
    for answer in clients.answers().await {
        assert_eq!((answer.text(), answer.outcome().is_stored()), ("1", false));
        assert_eq!(answer.outcome().detail(), Some(Detail::Invalidated));
    }
}

// ---- fields of one exchange, fields that name one reader, extensions ----

#[tokio::test(start_paused = true)] // P54
async fn fields_of_one_exchange_go_to_the_one_who_leads_and_are_not_stored() {
    let own = [
        ("x-request-id", "1"),
        ("traceparent", "1"),
        ("tracestate", "1"),
        ("server-timing", "1"),
        ("ratelimit", "1"),
        ("ratelimit-policy", "1"),
        ("ratelimit-remaining", "1"),
        ("x-ratelimit-limit", "1"),
        ("x-ratelimit-reset", "1"),
        ("x-correlation-id", "1"),
        ("x-kept", "1"),
    ];
    let origin = Origin::with_fields(&own);
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[]).await;
    origin.release();
    let mut answers = clients.answers().await;
    answers.push(get(&app, "/x").await);
    for (name, _) in own {
        assert!(answers[0].has(name), "{name}");
        assert_eq!(answers[1].has(name), name == "x-kept", "{name}");
        assert_eq!(answers[2].has(name), name == "x-kept", "{name}");
    }
}

#[tokio::test(start_paused = true)] // P54
async fn the_proof_of_a_servers_identity_reaches_nobody_else() {
    for name in ["authentication-info", "proxy-authentication-info"] {
        let app = origin(200, &[(name, "nextnonce=1")]).behind(minute());
        assert!(get(&app, "/x").await.has(name));
        let second = get(&app, "/x").await;
        assert!(second.text() == "2" || !second.has(name), "{name}");
    }
}

#[tokio::test(start_paused = true)] // P54
async fn the_list_of_such_fields_can_be_set() {
    let origin = Origin::with_fields(&[("x-mine", "1"), ("x-request-id", "1")]);
    let app = origin.behind(minute().exchange_headers(["x-mine"]));
    get(&app, "/x").await;
    let hit = get(&app, "/x").await;
    assert_eq!((hit.has("x-mine"), hit.has("x-request-id")), (false, true));
}

#[tokio::test(start_paused = true)] // P55
async fn what_names_one_reader_is_not_stored() {
    const CSP: &str = "content-security-policy";
    const REPORT: &str = "content-security-policy-report-only";
    const READER: &str = "access-control-allow-origin";
    let cases: [(Fields, Option<Detail>); 11] = [
        (&[(CSP, "script-src 'nonce-abc'")], Some(Detail::Nonce)),
        (&[(CSP, "script-src 'NONCE-abc'")], Some(Detail::Nonce)),
        (&[(CSP, "default-src 'self'"), (CSP, "script-src 'nonce-abc'")], Some(Detail::Nonce)),
        (&[(REPORT, "script-src 'nonce-abc'")], Some(Detail::Nonce)),
        (&[(CSP, "script-src 'self' 'sha256-x'")], None),
        (&[(READER, "https://a.example")], Some(Detail::AllowOrigin)),
        (&[(READER, "null")], Some(Detail::AllowOrigin)),
        (&[(READER, "https://a.example"), ("vary", "accept")], Some(Detail::AllowOrigin)),
        (&[(READER, "https://a.example"), ("vary", "accept, Origin")], None),
        (&[(READER, "*"), (READER, "https://a.example")], Some(Detail::AllowOrigin)),
        (&[(READER, "*")], None),
    ];
    for (fields, refusal) in cases {
        for control in [None, Some(("cache-control", "public, max-age=60"))] {
            let fields: Vec<_> = control.into_iter().chain(fields.iter().copied()).collect();
            let app = origin(200, &fields).behind(minute());
            let first = get(&app, "/x").await.outcome();
            assert_eq!((first.detail(), first.is_stored()), (refusal, refusal.is_none()), "{fields:?}");
            let stored = get(&app, "/x").await.outcome().status() == CacheStatus::Hit;
            assert_eq!(stored, refusal.is_none(), "{fields:?}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct OfTheHandler(u32);

#[tokio::test(start_paused = true)] // P56
async fn extensions_are_not_stored_and_every_response_has_an_outcome_of_its_own() {
    let origin = Origin::new(|_| {
        let mut response = "1".into_response();
        response.extensions_mut().insert(OfTheHandler(7));
        response
    });
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    let with_extension = || {
        let mut request = request("GET", "/x", &[]);
        request.extensions_mut().insert(OfTheHandler(8));
        request
    };
    clients.send(&app, with_extension()).await;
    clients.send(&app, with_extension()).await;
    origin.release();
    let mut answers = clients.answers().await;
    answers.push(send(&app, with_extension()).await);
    let ours: Vec<_> = answers.iter().map(|answer| answer.extensions.get::<OfTheHandler>().copied()).collect();
    assert_eq!(ours, [Some(OfTheHandler(7)), None, None]);
    let outcomes: Vec<Outcome> = answers.iter().map(Reply::outcome).collect();
    assert_eq!(outcomes[0].status(), CacheStatus::UriMiss);
    assert!(outcomes[1].is_collapsed() && !outcomes[0].is_collapsed());
    assert_eq!(outcomes[2].status(), CacheStatus::Hit);
}

// ---- unsafe methods ----

/// Whether a request to `/x` takes what is stored under this URI with it.
async fn purges(layer: CachebackLayer<Http>, method: &str, status: u16, fields: &[(&str, &str)], stored: &str) -> bool {
    let (status, fields) = (StatusCode::from_u16(status).expect("a status"), headers(fields));
    let origin = Origin::new(move |seen| match seen.method.as_str() {
        "GET" => seen.run.to_string().into_response(),
        _ => (status, fields.clone()).into_response(),
    });
    let app = origin.behind(layer);
    let host = [("host", "a.example")];
    get_with(&app, stored, &host).await;
    send(&app, request(method, "/x", &host)).await;
    get_with(&app, stored, &host).await.outcome().status() != CacheStatus::Hit
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_all_methods_but_the_safe_ones_purge_their_uri() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "PROPPATCH", "LOCK", "BREW", "get", "Post"] {
        for status in [200, 201, 204, 299, 301, 302, 303, 307, 308] {
            assert!(purges(minute(), method, status, &[], "/x").await, "{method} {status}");
        }
        for status in [400, 403, 404, 409, 429, 500, 503] {
            assert!(!purges(minute(), method, status, &[], "/x").await, "{method} {status}");
        }
        assert!(!purges(minute().unsafe_invalidates(false), method, 200, &[], "/x").await, "{method}");
        assert!(!purges(minute(), method, 200, &[], "/y").await, "{method}");
        assert!(!purges(minute(), method, 200, &[], "/x/").await, "{method}");
        assert!(!purges(minute(), method, 200, &[], "/x?q=1").await, "{method}");
    }
    for method in ["HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PROPFIND", "REPORT", "SEARCH"] {
        assert!(!purges(minute(), method, 200, &[], "/x").await, "{method}");
    }
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_an_unsafe_request_purges_what_its_response_names_on_the_same_origin() {
    for field in ["location", "content-location"] {
        for (reference, stored, reached) in [
            ("/y", "/y", true),
            ("y", "/y", true),
            ("./y", "/y", true),
            ("/y?q=1#part", "/y?q=1", true),
            ("?q=1", "/x?q=1", true),
            ("http://a.example/y", "/y", true),
            ("http://A.EXAMPLE:80/y", "/y", true),
            ("//a.example/y", "/y", true),
            ("http://b.example/y", "/y", false),
            ("//b.example/y", "/y", false),
            ("http://a.example.evil/y", "/y", false),
            ("http://a.example:8080/y", "/y", false),
            ("http://a.example@b.example/y", "/y", false),
            ("/y", "/y?q=1", false),
            ("javascript:alert(1)", "/y", false),
            ("", "/y", false),
        ] {
            let fields = [(field, reference)];
            assert_eq!(purges(minute(), "POST", 201, &fields, stored).await, reached, "{field}: {reference}");
            assert!(!purges(minute(), "POST", 404, &fields, stored).await, "{field}: {reference}");
        }
    }
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_below_a_nested_router_references_are_those_that_the_client_would_resolve() {
    for (reference, reached) in [
        ("y", true),
        ("/api/y", true),
        ("http://a.example/api/y", true),
        ("../api/y", true),
        ("/y", false),
        ("http://a.example/y", false),
        ("../y", false),
    ] {
        let origin = Origin::new(move |seen| match seen.method.as_str() {
            "GET" => seen.run.to_string().into_response(),
            _ => (StatusCode::CREATED, [("location", reference)]).into_response(),
        });
        let app = Router::new().nest("/api", origin.behind(minute()));
        let host = [("host", "a.example")];
        get_with(&app, "/api/x", &host).await;
        get_with(&app, "/api/y", &host).await;
        send(&app, request("POST", "/api/x", &host)).await;
        assert_eq!(get_with(&app, "/api/x", &host).await.outcome().status(), CacheStatus::UriMiss, "{reference}");
        let status = get_with(&app, "/api/y", &host).await.outcome().status();
        assert_eq!(status == CacheStatus::UriMiss, reached, "{reference}");
    }
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_an_unsafe_request_reaches_all_variants_and_all_layers_of_its_cache() {
    let cache = Cache::new();
    let origin = Origin::new(|seen| ([("vary", "accept-language")], seen.run.to_string()));
    let plain = origin.behind(cache.layer(secs(60)));
    let keyed = origin.behind(cache.layer(secs(60)).key_header("x-tenant").namespace("other"));
    let readers = [(&plain, "de", ""), (&plain, "fr", ""), (&keyed, "de", "1"), (&keyed, "de", "2")];
    for (app, language, tenant) in readers {
        get_with(app, "/x", &[("accept-language", language), ("x-tenant", tenant)]).await;
    }
    send(&plain, request("POST", "/x", &[])).await;
    for (app, language, tenant) in readers {
        let answer = get_with(app, "/x", &[("accept-language", language), ("x-tenant", tenant)]).await;
        assert_ne!(answer.outcome().status(), CacheStatus::Hit, "{language} {tenant}");
    }
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_an_unsafe_request_purges_the_uri_as_it_is_keyed_and_on_its_own_host_alone() {
    let origin = Origin::counting();
    let app = origin.behind(minute().query_except(["utm"]));
    for host in ["a.example", "b.example"] {
        get_with(&app, "/x?q=1", &[("host", host)]).await;
    }
    send(&app, request("POST", "/x?utm=7&q=1", &[("host", "A.example:80")])).await;
    for (host, hit) in [("a.example", false), ("b.example", true)] {
        let answer = get_with(&app, "/x?q=1&utm=9", &[("host", host)]).await;
        assert_eq!(answer.outcome().status() == CacheStatus::Hit, hit, "{host}");
    }
}

#[tokio::test(start_paused = true)] // P31, P36
async fn a_fill_that_an_unsafe_request_overtook_is_not_stored() {
    let origin = Origin::counting();
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    // The second run is the POST: it answers at once.
    let mut posts = Clients::new();
    posts.send(&app, request("POST", "/x", &[])).await;
    origin.begun(2).await;
    origin.release();
    posts.answers().await;
    let answers = clients.answers().await;
    assert_eq!(answers[0].text(), "1");
    assert_ne!(get(&app, "/x").await.text(), "1");
}

#[tokio::test(start_paused = true)] // P36
async fn what_an_unsafe_request_changed_is_purged_before_its_response_is_handed_on() {
    use std::sync::{Arc, Mutex};
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    // Whoever gets the response asks again at once, before anything else can happen.
    let origin = Origin::counting();
    let cached = ServiceBuilder::new().layer(minute()).service(origin.router());
    let asked_again = Arc::new(Mutex::new(None));
    get(&Router::new().fallback_service(cached.clone()), "/x").await;
    let (inner, answer) = (cached.clone(), Arc::clone(&asked_again));
    let outside = service_fn(move |request: axum::http::Request<Body>| {
        let (inner, answer) = (inner.clone(), Arc::clone(&answer));
        async move {
            let response = inner.clone().oneshot(request).await;
            let next = inner.oneshot(support::http::request("GET", "/x", &[])).await;
            *answer.lock().expect("not poisoned") =
                next.expect("routers do not fail").extensions().get::<Outcome>().map(Outcome::status);
            response
        }
    });
    outside.oneshot(request("DELETE", "/x", &[])).await.expect("routers do not fail");
    assert_eq!(*asked_again.lock().expect("not poisoned"), Some(CacheStatus::UriMiss));
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_10_a_lifetime_for_shared_caches_is_not_extended_by_the_layers_windows() {
    for (stated, stale) in
        [("max-age=60", true), ("s-maxage=60", false), ("s-maxage=60, stale-while-revalidate=9", true)]
    {
        let origin = Origin::with_fields(&[("cache-control", stated)]);
        let app = origin.behind(minute().stale_windows_for_all());
        get(&app, "/x").await;
        pass(61.0).await;
        assert_eq!(get(&app, "/x").await.outcome().is_stale(), stale, "{stated}");
    }
}
