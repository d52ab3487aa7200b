//! Targeted fields (RFC 9213): what is said to this cache alone decides, and goes no further.

use cacheback::{Cache, CachebackLayer, Freshness};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::support::http::{Fields, Origin, Reply, get, get_with, pass, request, saying, secs, send};

mod support;

const OWN: &str = "cacheback-cache-control";

fn http() -> CachebackLayer {
    CachebackLayer::http()
}

fn minute() -> CachebackLayer {
    CachebackLayer::new(Freshness::exact(secs(60)))
}

/// For how many seconds what has these fields is answered from memory: up to 1,000.
async fn lifetime(layer: CachebackLayer, fields: Fields) -> u64 {
    let origin = Origin::with_fields(fields);
    let app = origin.behind(layer);
    get(&app, "/").await;
    for second in 0..1_000 {
        get(&app, "/").await;
        if origin.runs() > 1 {
            return second;
        }
        pass(1.0).await;
    }
    1_000
}

#[tokio::test(start_paused = true)] // P50
async fn rfc9213_2_2_our_field_decides_in_place_of_cache_control_and_expires() {
    let past = ("expires", "Thu, 01 Jan 1970 00:00:00 GMT");
    let cases: [(&[_], u64); 9] = [
        (&[(OWN, "max-age=9")], 9),
        (&[(OWN, "max-age=9"), ("cache-control", "max-age=99")], 9),
        (&[(OWN, "max-age=99"), ("cache-control", "max-age=9")], 99),
        (&[(OWN, "max-age=9"), ("cache-control", "no-store"), past], 9),
        (&[(OWN, "max-age=9"), ("pragma", "no-cache")], 9),
        (&[(OWN, "max-age=9, s-maxage=5")], 5),
        (&[(OWN, "no-store"), ("cache-control", "max-age=99")], 0),
        (&[(OWN, "private"), ("cache-control", "max-age=99")], 0),
        (&[(OWN, "no-cache, max-age=9"), ("cache-control", "max-age=99")], 0),
    ];
    for (fields, expected) in cases {
        for layer in [http(), minute()] {
            assert_eq!(lifetime(layer, fields.to_vec().leak()).await, expected, "{fields:?}");
        }
    }
    // It says nothing of a lifetime, and `Cache-Control` and `Expires` say nothing at all.
    let silent: Fields =
        &[(OWN, "none"), ("cache-control", "max-age=99"), ("expires", "Thu, 01 Jan 2099 00:00:00 GMT")];
    assert_eq!(lifetime(http(), silent).await, 0);
    assert_eq!(lifetime(minute(), silent).await, 60);
}

#[tokio::test(start_paused = true)] // P50
async fn rfc9213_2_1_a_malformed_field_is_as_if_it_were_not_there() {
    for value in
        ["", "max-age=99;", "max-age=99, &", "max-age=\"99\"", "Max-Age=99", "max-age=99.0", "no-store; max-age 9"]
    {
        for layer in [http(), minute()] {
            let fields = vec![(OWN, value), ("cache-control", "max-age=9")].leak();
            assert_eq!(lifetime(layer, fields).await, 9, "{value}");
        }
        let fields = vec![(OWN, value), ("cache-control", "no-store")].leak();
        assert_eq!(lifetime(minute(), fields).await, 0, "{value}");
    }
}

#[tokio::test(start_paused = true)] // P50
async fn rfc9213_2_2_the_list_is_the_layers_and_its_order_counts() {
    let all: Fields =
        &[("cdn-cache-control", "max-age=7"), ("acme-cache-control", "max-age=8"), ("cache-control", "max-age=9")];
    assert_eq!(lifetime(http(), all).await, 9);
    assert_eq!(lifetime(http().targeted(["CDN-Cache-Control"]), all).await, 7);
    assert_eq!(lifetime(http().targeted(["Acme-Cache-Control", "CDN-Cache-Control"]), all).await, 8);
    assert_eq!(lifetime(http().targeted(["Other-Cache-Control", "CDN-Cache-Control"]), all).await, 7);
    let own: Fields = &[(OWN, "max-age=7"), ("cache-control", "max-age=9")];
    assert_eq!(lifetime(http().targeted(["CDN-Cache-Control"]), own).await, 9);
    assert_eq!(lifetime(http().targeted::<&str>([]), own).await, 9);
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9213_2_2_its_windows_and_prohibitions_are_those_of_cache_control() {
    let app = |fields: &'static str| {
        let origin = Origin::with_fields(&[(OWN, fields), ("cache-control", "max-age=5")]);
        (origin.behind(minute()), origin)
    };
    let (stale, origin) = app("max-age=9, stale-while-revalidate=9");
    get(&stale, "/").await;
    pass(10.0).await;
    assert_eq!(get(&stale, "/").await.said(), "hit; ttl=-1");
    pass(0.0).await;
    assert_eq!(origin.runs(), 2);

    let (strict, origin) = app("max-age=9, stale-while-revalidate=9, must-revalidate");
    get(&strict, "/").await;
    pass(10.0).await;
    assert_eq!(get(&strict, "/").await.text(), "2");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P50
async fn our_field_goes_no_further_whatever_becomes_of_the_response() {
    let fields = [(OWN, "max-age=9"), (OWN, "stale-if-error=9"), ("x-first", "1"), ("cdn-cache-control", "max-age=1")];
    for layer in [http(), minute()] {
        let origin = Origin::with_fields(&fields);
        let app = origin.behind(layer);
        for (method, sent) in [
            ("GET", &[][..]),
            ("GET", &[]),
            ("HEAD", &[]),
            ("POST", &[]),
            ("OPTIONS", &[]),
            ("GET", &[("range", "bytes=0-1")]),
            ("GET", &[("x-api-key", "mine"), ("proxy-authorization", "mine")]),
            ("GET", &[("cache-control", "no-store")]),
        ] {
            let reply = send(&app, request(method, "/", sent)).await;
            assert!(!reply.has(OWN), "{method} {sent:?}");
            assert_eq!((reply.field("x-first"), reply.field("cdn-cache-control")), ("1".into(), "max-age=1".into()));
        }
        let unstored = Origin::with_fields(&[(OWN, "no-store")]).behind(http());
        assert!(!get(&unstored, "/").await.has(OWN));
    }
    // What is on no list is none of our business (§2.2), and neither is anything where the layer is off.
    for layer in [http().targeted(["CDN-Cache-Control"]), http().enabled(false)] {
        let app = Origin::with_fields(&[(OWN, "max-age=9"), ("cache-control", "max-age=9")]).behind(layer);
        for _ in 0..2 {
            assert_eq!(get(&app, "/").await.field(OWN), "max-age=9");
        }
    }
}

#[tokio::test(start_paused = true)] // P50
async fn rfc9213_3_fields_that_others_read_as_well_pass_on() {
    let fields: Fields =
        &[("cdn-cache-control", "max-age=9, x"), ("cdn-cache-control", "y"), ("cache-control", "max-age=1")];
    for layer in [http(), http().targeted(["CDN-Cache-Control"])] {
        let app = Origin::with_fields(fields).behind(layer);
        for _ in 0..2 {
            assert_eq!(get(&app, "/").await.field("cdn-cache-control"), "max-age=9, x|y");
        }
    }
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9213_2_3_age_tells_others_how_old_it_is_and_a_stale_answer_has_no_freshness_left_for_them() {
    let list = ["Cacheback-Cache-Control", "CDN-Cache-Control"];
    let fresh: Fields =
        &[("cdn-cache-control", "max-age=60, stale-while-revalidate=60"), ("cache-control", "max-age=600, public")];
    let cache = Cache::new();
    let app = Origin::with_fields(fresh).behind(cache.http().targeted(list));
    get(&app, "/").await;
    pass(30.0).await;
    let reply = get(&app, "/").await;
    assert_eq!((reply.field("age"), reply.field("cache-control")), ("30".into(), "max-age=600, public".into()));

    cache.expire_path("/").await.unwrap();
    let by_hand = get(&app, "/").await;
    pass(90.0).await;
    let by_age = get(&app, "/").await;
    for reply in [by_hand, by_age] {
        assert!(reply.outcome().is_stale());
        assert_eq!(reply.field("cache-control"), "max-age=0, public");
        assert!(!reply.has("cdn-cache-control"), "another cache would take it for fresh");
    }
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_3_2_a_304_brings_our_field_up_to_date() {
    let origin = Origin::new(|seen| {
        let (status, own) =
            if seen.headers.contains_key("if-none-match") { (304, "max-age=99") } else { (200, "max-age=9") };
        let fields = [("etag", "\"a\""), (OWN, own), ("cache-control", "no-store")];
        (http::StatusCode::from_u16(status).unwrap(), fields, "body")
    });
    let app = origin.behind(http());
    get(&app, "/").await;
    pass(10.0).await;
    let validated = get(&app, "/").await;
    assert_eq!((validated.text(), validated.has(OWN), origin.runs()), ("body", false, 2));
    pass(90.0).await;
    assert_eq!(get(&app, "/").await.said(), "hit; ttl=9");

    // One that says nothing of it leaves it as it was.
    let origin = Origin::new(|seen| {
        let again = seen.headers.contains_key("if-none-match");
        let mut fields = vec![("etag", "\"a\"")];
        fields.extend((!again).then_some((OWN, "max-age=9")));
        let status = if again { 304 } else { 200 };
        (http::StatusCode::from_u16(status).unwrap(), crate::support::http::headers(&fields), "body")
    });
    let app = origin.behind(http());
    get(&app, "/").await;
    pass(10.0).await;
    get(&app, "/").await;
    pass(5.0).await;
    assert_eq!(get(&app, "/").await.said(), "hit; ttl=4");
}

#[tokio::test(start_paused = true)] // P91
async fn two_caches_around_one_another_both_hear_what_is_said_to_them() {
    for (own, public, runs_in_ten) in
        [("max-age=4", "max-age=600", 3), ("max-age=99", "no-store", 1), ("no-store", "max-age=600", 10)]
    {
        let origin = Origin::with_fields(&[(OWN, own), ("cache-control", public)]);
        let app = origin.behind(http()).layer(http());
        for _ in 0..10 {
            let reply = get(&app, "/").await;
            assert!(!reply.has(OWN), "{own}");
            pass(1.0).await;
        }
        assert_eq!(origin.runs(), runs_in_ten, "{own}");
    }
}

#[tokio::test(start_paused = true)] // P91
async fn an_outer_cache_hears_of_what_the_inner_one_answers_from_memory() {
    // The outer one forgets; what the inner one has is given to it again, with what was said to both.
    let outer = Cache::new();
    let origin = Origin::with_fields(&[(OWN, "max-age=10"), ("cache-control", "max-age=600")]);
    let app = origin.behind(http()).layer(outer.http());
    get(&app, "/").await;
    pass(5.0).await;
    outer.purge_path("/").await.unwrap();
    assert_eq!(get(&app, "/").await.field("age"), "5");
    pass(4.0).await;
    assert_eq!((get(&app, "/").await.said().as_str(), origin.runs()), ("hit; ttl=1", 1));
    pass(1.0).await;
    get(&app, "/").await;
    assert_eq!(origin.runs(), 2);

    // What only passes by the inner one is heard as well.
    let origin = Origin::with_fields(&[(OWN, "max-age=10"), ("cache-control", "no-store")]);
    let app = origin.behind(http().when(|_| false)).layer(http());
    for _ in 0..2 {
        assert!(!get(&app, "/").await.has(OWN));
    }
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P91
async fn a_layer_of_the_same_cache_leaves_the_field_to_the_one_that_stores() {
    let cache = Cache::new();
    let origin = Origin::with_fields(&[(OWN, "max-age=10"), ("cache-control", "no-store")]);
    let app = origin.behind(cache.http()).layer(cache.http());
    for _ in 0..2 {
        assert!(!get(&app, "/").await.has(OWN));
    }
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P42
async fn what_the_handler_says_beside_its_fields_goes_first_and_what_the_field_forbids_stays_forbidden() {
    for (own, runs) in [("max-age=99", 2), ("no-store", 3)] {
        let origin = Origin::new(move |_| saying(Freshness::exact(secs(5)), ([(OWN, own)], "x")));
        let app = origin.behind(http());
        get(&app, "/").await;
        get(&app, "/").await;
        pass(6.0).await;
        get_with(&app, "/", &[]).await;
        assert_eq!(origin.runs(), runs, "{own}");
    }
}

#[tokio::test(start_paused = true)] // P52
async fn the_one_who_streams_does_not_see_it_either() {
    let origin = Origin::new(|_| {
        let body = axum::body::Body::new(support::http::Pieces::of(["a", "b"]));
        ([(OWN, "max-age=9"), ("cache-control", "no-store")], body)
    });
    let app = origin.behind(http());
    for _ in 0..2 {
        let response = app.clone().oneshot(request("GET", "/", &[])).await.unwrap();
        assert!(!response.headers().contains_key(OWN));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ab");
    }
    let reply: Reply = get(&app, "/").await;
    assert_eq!((reply.text(), origin.runs()), ("ab", 1));
}

#[test]
#[should_panic(expected = "targeted: that is no name of a header field")]
fn what_is_no_field_name_cannot_be_listed() {
    let _layer = http().targeted(["CDN Cache Control"]);
}
