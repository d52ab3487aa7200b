//! §3: which responses are stored.

use cacheback::{CachebackLayer, Detail};
use http::StatusCode;

use super::{
    always, application, both, came, is_stored,
    support::http::{Clients, get, headers, pass},
};

const MINUTE: (&str, &str) = ("cache-control", "max-age=60");
const TAG: (&str, &str) = ("etag", "\"1\"");

/// Whether the third response of a row of equal ones is asked for as the first was, or by what is stored.
async fn is_validated(layer: CachebackLayer<cacheback::Http>, status: u16, fields: &[(&str, &str)]) -> bool {
    let origin = always(status, headers(fields));
    let app = origin.behind(layer);
    get(&app, "/x").await;
    assert_eq!(came(&get(&app, "/x").await), "asked", "{status} {fields:?}");
    assert_eq!(origin.runs(), 2);
    origin.last().headers.contains_key("if-none-match") || origin.last().headers.contains_key("if-modified-since")
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_a_final_status_with_a_lifetime_is_stored_whether_it_is_known_or_not() {
    for (mode, layer) in both().into_iter().enumerate() {
        for status in 200..1_000 {
            let never = match status {
                206 | 304 => true,
                // RFC 6585.
                428 | 429 | 431 | 511 => true,
                401 | 407 => mode == 0,
                _ => false,
            };
            let app = always(status, headers(&[MINUTE])).behind(layer.clone().namespace(status.to_string()));
            assert_eq!(is_stored(&app).await, !never, "{status}");
            let again = get(&app, "/x").await;
            assert_eq!(again.status.as_u16(), status);
            assert_eq!(again.text(), if never { "3" } else { "1" });
        }
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_in_protocol_mode_nothing_is_stored_but_what_says_for_how_long_or_can_be_validated() {
    let http = CachebackLayer::http;
    let public = ("cache-control", "public");
    for fields in [&[][..], &[public], &[("cache-control", "must-revalidate")], &[("cache-control", "immutable")]] {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501, 201, 302, 403, 500] {
            assert!(!is_validated(http(), status, fields).await, "{status} {fields:?}");
        }
    }
    for validator in [TAG, ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")] {
        for status in [200, 203, 204] {
            assert!(is_validated(http(), status, &[validator]).await, "{status} {validator:?}");
        }
        for status in [201, 202, 205, 226, 299] {
            assert!(!is_validated(http(), status, &[validator]).await, "{status} {validator:?}");
            let kept = is_validated(http(), status, &[validator, public]).await;
            assert!(kept, "{status} {validator:?} public");
        }
        // Nobody evaluates a condition where the answer is no success (RFC 9110 §13.2.1).
        for status in [206, 300, 301, 302, 304, 308, 401, 404, 405, 410, 414, 428, 429, 431, 500, 501, 503, 511, 599] {
            assert!(!is_validated(http(), status, &[validator, public]).await, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_in_application_mode_a_validator_alone_lets_nothing_be_stored() {
    for status in [204, 205, 299] {
        assert!(!is_validated(application(), status, &[TAG]).await, "{status}");
    }
}

#[tokio::test(start_paused = true)] // P15
async fn rfc9111_4_what_could_not_be_reused_is_not_given_to_those_who_wait_for_it() {
    let uses = |fields: &'static [(&'static str, &'static str)]| async move {
        let origin = always(200, headers(fields));
        let app = origin.behind(CachebackLayer::http());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        for _ in 0..3 {
            clients.get(&app, "/x", &[]).await;
        }
        origin.release();
        clients.answers().await;
        origin.runs()
    };
    for fields in [&[][..], &[TAG], &[("cache-control", "max-age=0")], &[("cache-control", "no-cache"), TAG]] {
        assert_eq!(uses(fields).await, 3, "{fields:?}");
    }
    for fields in [&[MINUTE][..], &[("cache-control", "max-age=0, stale-while-revalidate=9")]] {
        assert_eq!(uses(fields).await, 1, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_what_is_not_stored_says_why() {
    for (status, fields, detail) in [
        (200, &[][..], Detail::NoLifetime),
        (200, &[("cache-control", "max-age=0")], Detail::NoLifetime),
        (200, &[MINUTE, ("age", "60")], Detail::NoLifetime),
        (302, &[], Detail::Status),
        (429, &[MINUTE], Detail::Status),
        (206, &[MINUTE], Detail::Partial),
        (200, &[MINUTE, ("set-cookie", "a=1")], Detail::SetCookie),
        (200, &[MINUTE, ("cache-control", "private")], Detail::Private),
    ] {
        let said = get(&always(status, headers(fields)).behind(CachebackLayer::http()), "/x").await.outcome();
        assert_eq!((said.detail(), said.is_stored()), (Some(detail), false), "{status} {fields:?}");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_a_date_alone_is_explicit_enough() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    for layer in both() {
        let fields = headers(&[date, ("expires", "Sun, 06 Nov 1994 08:49:47 GMT")]);
        let app = always(418, fields).behind(layer);
        assert!(is_stored(&app).await);
        pass(10.0).await;
        assert_eq!(came(&get(&app, "/x").await), "asked");
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_3_who_understands_the_status_ignores_no_store_beside_must_understand() {
    let all = |control: &'static str| headers(&[("cache-control", control)]);
    for (mode, layer) in both().into_iter().enumerate() {
        let stored = async |status: u16, control: &'static str| {
            let layer = layer.clone().namespace(format!("{status} {control}"));
            is_stored(&always(status, all(control)).behind(layer)).await
        };
        for status in [200, 201, 203, 204, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 500, 501, 503] {
            assert!(stored(status, "max-age=60, no-store, must-understand").await, "{status}");
            assert!(stored(status, "max-age=60, must-understand").await, "{status}");
            assert!(!stored(status, "max-age=60, no-store").await, "{status}");
            assert!(!stored(status, "max-age=60, no-store, private, must-understand").await, "{status}");
            assert!(!stored(status, "max-age=60, no-store, must-understand=1").await, "{status}");
        }
        for status in [206, 299, 304, 412, 416, 418, 421, 428, 429, 451, 499, 511, 599, 600] {
            assert!(!stored(status, "max-age=60, no-store, must-understand").await, "{status}");
            assert!(!stored(status, "max-age=60, must-understand").await, "{status}");
        }
        // The layer's own lifetime goes on applying.
        assert_eq!(stored(200, "no-store, must-understand").await, mode == 0);
    }
}

#[tokio::test(start_paused = true)] // P15, P42
async fn rfc9111_5_2_2_3_a_status_that_is_not_understood_puts_nobodys_waiting_off() {
    for layer in both() {
        let app = always(599, headers(&[("cache-control", "no-store, must-understand")])).behind(layer.clone());
        get(&app, "/x").await;
        assert_eq!(get(&app, "/x").await.outcome().detail(), Some(Detail::NoStore), "the key is not marked");
        let app = always(299, headers(&[("cache-control", "must-understand")])).behind(layer);
        get(&app, "/y").await;
        assert_eq!(get(&app, "/y").await.outcome().detail(), Some(Detail::Status), "the key is not marked");
    }
}

#[tokio::test(start_paused = true)] // P42, P43
async fn rfc9111_7_3_a_response_with_set_cookie_is_not_stored_in_either_mode() {
    for layer in both() {
        for control in ["max-age=60", "public, s-maxage=60", "max-age=60, no-cache=\"set-cookie2\""] {
            let fields = headers(&[("cache-control", control), ("set-cookie", "a=1")]);
            assert!(!is_stored(&always(200, fields).behind(layer.clone())).await, "{control}");
        }
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9110_14_4_a_range_of_content_means_nothing_beside_a_status_that_does_not_define_it() {
    let fields = headers(&[MINUTE, ("content-range", "bytes 0-0/9")]);
    let app = always(200, fields.clone()).behind(CachebackLayer::http());
    assert!(is_stored(&app).await);
    assert_eq!(get(&app, "/x").await.field("content-range"), "bytes 0-0/9");
    assert!(!is_stored(&always(206, fields.clone()).behind(CachebackLayer::http())).await);
    assert!(!is_stored(&always(200, fields).behind(application())).await, "somebody may have meant a part");
}

#[tokio::test(start_paused = true)] // P22
async fn rfc9111_3_a_failure_that_may_be_stored_is_stored_where_nothing_better_is() {
    for status in [429, 500, 502, 503, 504, 599, 600, 999] {
        let code = StatusCode::from_u16(status).unwrap();
        let origin = super::Origin::new(move |seen| match seen.run {
            1 => (StatusCode::OK, [("cache-control", "max-age=60, stale-if-error=600")], "1"),
            2 => (code, [("cache-control", "max-age=60")], "2"),
            _ => (StatusCode::OK, [("cache-control", "max-age=60")], "3"),
        });
        let app = origin.behind(CachebackLayer::http());
        get(&app, "/x").await;
        pass(60.0).await;
        assert_eq!((came(&get(&app, "/x").await), origin.runs()), ("instead", 2), "{status}");
        pass(1.0).await;
        assert_eq!(get(&app, "/x").await.text(), "3", "{status}");
    }
}
