//! §4.2.4 and RFC 5861: when a response is served though it is stale.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::body::Body;
use cacheback::{CacheStatus, CachebackLayer, Detail, Freshness, Outcome};
use http::{Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    Origin, at, both, came,
    support::http::{get, pass, request, secs},
};

type Ages = &'static [(f64, &'static str)];

#[tokio::test(start_paused = true)] // P42
async fn rfc5861_3_and_4_a_response_is_served_stale_for_as_long_as_it_says() {
    let rows: [(&str, Ages); 9] = [
        ("max-age=10", &[(9.9, "fresh"), (10.0, "asked")]),
        ("max-age=10, stale-while-revalidate=5", &[(9.9, "fresh"), (10.0, "stale"), (14.9, "stale"), (15.0, "asked")]),
        ("max-age=10, stale-while-revalidate=\"5\"", &[(14.9, "stale"), (15.0, "asked")]),
        ("max-age=10, stale-if-error=5", &[(10.0, "instead"), (14.9, "instead"), (15.0, "asked")]),
        (
            "max-age=10, stale-while-revalidate=5, stale-if-error=9",
            &[(14.9, "stale"), (15.0, "instead"), (19.0, "asked")],
        ),
        ("max-age=10, stale-while-revalidate=9, stale-while-revalidate=5", &[(14.9, "stale"), (15.0, "asked")]),
        ("max-age=10, stale-while-revalidate=-5, stale-if-error=5.0", &[(10.0, "asked")]),
        ("max-age=10, stale-while-revalidate, stale-if-error", &[(10.0, "asked")]),
        ("max-age=0, stale-while-revalidate=5", &[(0.0, "stale"), (5.0, "asked")]),
    ];
    for (control, ages) in rows {
        for (age, how) in ages {
            for layer in both() {
                assert_eq!(at(&layer, &[("cache-control", control)], *age).await, *how, "{control} at {age}");
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_4_2_4_what_must_be_revalidated_is_never_served_stale_whatever_else_it_says() {
    for must in ["must-revalidate", "proxy-revalidate", "Must-Revalidate", "must-revalidate=1", "x must-revalidate"] {
        for lifetime in ["max-age=10", "s-maxage=10", "s-maxage=10, max-age=99"] {
            let control = format!("{must}, {lifetime}, stale-while-revalidate=90, stale-if-error=90");
            let fields = [("cache-control", &*control)];
            for layer in both() {
                assert_eq!(at(&layer, &fields, 9.9).await, "fresh", "{control}");
                assert_eq!(at(&layer, &fields, 10.0).await, "asked", "{control}");
            }
            let windows = Freshness::exact(secs(9)).stale_while_revalidate(secs(99)).stale_if_error(secs(99));
            let generous = CachebackLayer::new(windows).stale_windows_for_all();
            assert_eq!(at(&generous, &fields, 10.0).await, "asked", "{control}");
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_10_s_maxage_takes_the_layers_windows_away_and_leaves_those_that_stand_beside_it() {
    let windows = Freshness::exact(secs(9)).stale_while_revalidate(secs(99)).stale_if_error(secs(99));
    let generous = CachebackLayer::new(windows).stale_windows_for_all();
    for (control, how) in [
        ("max-age=10", "stale"),
        ("s-maxage=10", "asked"),
        ("s-maxage=10, max-age=99", "asked"),
        ("s-maxage=10, stale-while-revalidate=5", "stale"),
        ("s-maxage=10, stale-if-error=5", "instead"),
        ("s-maxage=10, stale-if-error=5, proxy-revalidate", "asked"),
        ("s-maxage=10, stale-while-revalidate=5, must-revalidate", "asked"),
    ] {
        assert_eq!(at(&generous, &[("cache-control", control)], 10.0).await, how, "{control}");
        if control != "max-age=10" {
            let http = CachebackLayer::http();
            assert_eq!(at(&http, &[("cache-control", control)], 10.0).await, how, "{control}");
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_4_2_4_an_operator_may_let_stale_responses_stand_in_for_failures_where_nothing_forbids_it() {
    let rows: [(&str, Ages); 8] = [
        ("max-age=10", &[(9.9, "fresh"), (10.0, "instead"), (14.9, "instead"), (15.0, "asked")]),
        ("max-age=10, stale-if-error=2", &[(11.9, "instead"), (12.0, "asked")]),
        ("max-age=10, stale-if-error=0", &[(10.0, "asked")]),
        ("max-age=10, stale-while-revalidate=2", &[(11.9, "stale"), (12.0, "instead"), (15.0, "asked")]),
        ("s-maxage=10", &[(10.0, "asked")]),
        ("s-maxage=10, stale-if-error=2", &[(11.9, "instead"), (12.0, "asked")]),
        ("max-age=10, must-revalidate", &[(10.0, "asked")]),
        ("max-age=10, proxy-revalidate", &[(10.0, "asked")]),
    ];
    for (control, ages) in rows {
        for (age, how) in ages {
            for layer in both() {
                let layer = layer.stale_if_error(secs(5));
                assert_eq!(at(&layer, &[("cache-control", control)], *age).await, *how, "{control} at {age}");
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_4_what_must_be_validated_is_not_even_served_in_place_of_a_failure() {
    let control = "no-cache, max-age=10, stale-while-revalidate=99, stale-if-error=99";
    for layer in both() {
        for age in [0.0, 5.0, 10.0] {
            assert_eq!(at(&layer, &[("cache-control", control), ("etag", "\"1\"")], age).await, "asked");
        }
    }
}

#[tokio::test(start_paused = true)] // P6, P42
async fn rfc5861_4_an_error_is_any_status_that_says_that_the_service_failed() {
    for layer in both() {
        for status in 200..1_000 {
            let code = StatusCode::from_u16(status).unwrap();
            let origin = Origin::new(move |seen| match seen.run {
                1 => (StatusCode::OK, [("cache-control", "max-age=10, stale-if-error=90")], "1"),
                _ => (code, [("cache-control", "max-age=0")], "2"),
            });
            let app = origin.behind(layer.clone().namespace(status.to_string()));
            get(&app, "/x").await;
            pass(10.0).await;
            let reply = get(&app, "/x").await;
            let failed = status >= 500 || status == 429;
            assert_eq!(came(&reply), if failed { "instead" } else { "asked" }, "{status}");
            if failed {
                assert_eq!((reply.status, reply.text(), reply.field("age").as_str()), (StatusCode::OK, "1", "10"));
                assert_eq!(reply.outcome().detail(), Some(Detail::StaleIfError));
                assert_eq!(reply.outcome().forward_status(), Some(status));
            }
        }
    }
}

/// What comes of a second request at an age of ten seconds, to a service that can be reached the first time alone.
async fn when_unreachable(layer: CachebackLayer<cacheback::Http>, control: &'static str) -> Result<Outcome, String> {
    let runs = Arc::new(AtomicUsize::new(0));
    let service = layer.layer(service_fn(move |_: http::Request<Body>| {
        let run = runs.fetch_add(1, SeqCst);
        async move {
            if run > 0 {
                return Err("connection refused".to_owned());
            }
            Ok(Response::builder().header("cache-control", control).body(Body::from("1")).unwrap())
        }
    }));
    service.clone().oneshot(request("GET", "/x", &[])).await?;
    pass(10.0).await;
    let response = service.oneshot(request("GET", "/x", &[])).await?;
    Ok(*response.extensions().get().unwrap())
}

#[tokio::test(start_paused = true)] // P6, P42
async fn rfc5861_4_a_service_that_cannot_be_reached_is_an_error_too() {
    for layer in both() {
        let outcome = when_unreachable(layer.clone(), "max-age=10, stale-if-error=90").await.unwrap();
        assert_eq!((outcome.status(), outcome.is_stale()), (CacheStatus::Stale, true));
        assert_eq!((outcome.detail(), outcome.forward_status()), (Some(Detail::StaleIfError), None));
        for control in [
            "max-age=10",
            "max-age=10, stale-if-error=90, must-revalidate",
            "s-maxage=10",
            "max-age=10, stale-if-error=0",
        ] {
            let outcome = when_unreachable(layer.clone().namespace(control), control).await;
            assert_eq!(outcome.unwrap_err(), "connection refused", "{control}");
        }
    }
}
