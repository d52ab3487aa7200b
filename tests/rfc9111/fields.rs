//! §3.1, §5.2.2.4 and §5.2.2.7: which fields are stored with a response.

use std::{convert::Infallible, future::ready};

use axum::body::Body;
use bytes::Bytes;
use cacheback::CachebackLayer;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    Origin, always, both, came,
    support::http::{Clients, get, headers, pass, request},
};

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_4_and_7_fields_that_are_named_are_left_out_and_the_rest_is_stored() {
    for layer in both() {
        for (control, a, b) in [
            ("max-age=60, no-cache=\"a\"", "", "2|3"),
            ("max-age=60, private=\"a\"", "", "2|3"),
            ("max-age=60, private=\"A , b\"", "", ""),
            ("max-age=60, private=\"a\", no-cache=\"b\"", "", ""),
            ("max-age=60, private=\"a\", private=\"b\"", "", ""),
            ("private=\"c\", max-age=60", "1", "2|3"),
        ] {
            let fields = headers(&[("cache-control", control), ("a", "1"), ("b", "2"), ("b", "3"), ("d", "4")]);
            let app = always(200, fields).behind(layer.clone().namespace(control));
            let first = get(&app, "/x").await;
            assert_eq!([first.field("a"), first.field("b")], ["1", "2|3"], "who asked has them: {control}");
            let again = get(&app, "/x").await;
            assert_eq!((came(&again), again.text()), ("fresh", "1"), "{control}");
            assert_eq!([again.field("a"), again.field("b"), again.field("d")], [a, b, "4"], "{control}");
            assert_eq!(again.field("cache-control"), control);
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_4_and_7_no_other_who_waits_gets_what_is_withheld() {
    for layer in both() {
        let origin = always(200, headers(&[("cache-control", "max-age=60, private=\"a\""), ("a", "1")]));
        let app = origin.behind(layer);
        origin.only_the_first(0);
        let mut clients = Clients::new();
        clients.get(&app, "/x", &[]).await;
        clients.get(&app, "/x", &[]).await;
        origin.release();
        let answers = clients.answers().await;
        assert_eq!((answers[0].field("a").as_str(), answers[1].has("a"), origin.runs()), ("1", false, 1));
    }
}

#[tokio::test(start_paused = true)] // P42, P43
async fn rfc9111_5_2_2_4_and_7_a_cookie_that_is_withheld_lets_the_rest_be_stored() {
    for layer in both() {
        for control in ["no-cache=\"set-cookie\", max-age=60", "private=\"Set-Cookie\", max-age=60"] {
            let fields = headers(&[("cache-control", control), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
            let app = always(200, fields).behind(layer.clone().namespace(control));
            assert_eq!(get(&app, "/x").await.field("set-cookie"), "a=1|b=2", "{control}");
            let again = get(&app, "/x").await;
            assert_eq!((came(&again), again.has("set-cookie")), ("fresh", false), "{control}");
        }
    }
}

#[tokio::test(start_paused = true)] // P42, P46
async fn rfc9111_3_2_a_304_brings_nothing_back_that_is_withheld() {
    for layer in both() {
        let origin = Origin::new(|seen| {
            let mut fields = headers(&[("cache-control", "max-age=9, private=\"a, set-cookie\""), ("etag", "\"1\"")]);
            fields.extend(headers(&[("a", &seen.run.to_string()), ("set-cookie", &seen.run.to_string())]));
            let status = if seen.run == 1 { 200 } else { 304 };
            (http::StatusCode::from_u16(status).unwrap(), fields, if seen.run == 1 { "1" } else { "" })
        });
        let app = origin.behind(layer);
        get(&app, "/x").await;
        pass(9.0).await;
        let validated = get(&app, "/x").await;
        assert_eq!((validated.text(), origin.runs()), ("1", 2));
        assert_eq!([validated.field("a"), validated.field("set-cookie")], ["2", "2"], "who asked has them");
        let again = get(&app, "/x").await;
        assert_eq!((came(&again), again.text(), again.has("a"), again.has("set-cookie")), ("fresh", "1", false, false));
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9111_3_1_unknown_fields_are_stored_with_their_order_and_their_lines() {
    let sent = [
        ("cache-control", "max-age=60"),
        ("test-header", "a"),
        ("x-test-header", "a, b"),
        ("content-foo", "\"quoted, \\\" \""),
        ("test-header", "b"),
        ("empty", ""),
        ("clear-site-data", "\"cache\""),
        ("public-key-pins", "x"),
        ("set-cookie2", "a=1"),
        ("warning", "110 - \"x\""),
        ("test-header", "a"),
        ("www-authenticate-not", "1"),
    ];
    for layer in both() {
        let app = always(200, headers(&sent)).behind(layer);
        let first = get(&app, "/x").await;
        let again = get(&app, "/x").await;
        assert_eq!(came(&again), "fresh");
        for (name, _) in sent {
            assert_eq!(again.field(name), first.field(name), "{name}");
        }
        let order = |headers: &HeaderMap| headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        let ours = ["age", "cache-status", "content-length", "date"];
        let theirs = |all: Vec<String>| all.into_iter().filter(|name| !ours.contains(&&**name)).collect::<Vec<_>>();
        assert_eq!(theirs(order(&again.headers)), theirs(order(&first.headers)));
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9111_3_1_what_ends_at_this_hop_or_is_a_proxys_is_not_stored() {
    let gone = [
        ("connection", "a, Keep-Alive"),
        ("connection", "B"),
        ("a", "1"),
        ("b", "2"),
        ("keep-alive", "timeout=9"),
        ("te", "trailers"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "close"),
    ];
    let fields = headers(&[&gone[..], &[("cache-control", "max-age=60"), ("c", "3")]].concat());
    let app = always(200, fields).behind(CachebackLayer::http());
    get(&app, "/x").await;
    let again = get(&app, "/x").await;
    assert_eq!((came(&again), again.field("c").as_str()), ("fresh", "3"));
    for (name, _) in gone {
        assert!(!again.has(name), "{name}");
    }
}

#[tokio::test(start_paused = true)] // P53
async fn rfc9111_3_1_trailers_are_kept_apart_from_the_header_and_by_the_same_rules() {
    for layer in both() {
        let service = layer.layer(service_fn(async |_: http::Request<Body>| {
            let trailers = headers(&[("t", "1"), ("a", "2"), ("set-cookie", "a=1"), ("proxy-authorization", "x")]);
            let body = Full::new(Bytes::from("body")).with_trailers(ready(Some(Ok(trailers))));
            let response = Response::builder().header("cache-control", "max-age=60, private=\"a\"").body(body);
            Ok::<_, Infallible>(response.unwrap())
        }));
        for (run, names) in [("first", &["t", "a", "set-cookie", "proxy-authorization"][..]), ("again", &["t"])] {
            let response = service.clone().oneshot(request("GET", "/x", &[])).await.unwrap();
            assert!(["t", "a", "set-cookie"].iter().all(|name| !response.headers().contains_key(*name)));
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().unwrap().keys().map(http::HeaderName::as_str).collect::<Vec<_>>();
            assert_eq!(trailers, names, "{run}");
            assert_eq!(&body.to_bytes()[..], b"body");
        }
    }
}
