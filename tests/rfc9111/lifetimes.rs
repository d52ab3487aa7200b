//! §4.2: how long a response is fresh, by what it says, and by a guess where that is allowed.

use cacheback::{CachebackLayer, Freshness};
use http::StatusCode;

use super::{
    always, application, at, both, came, is_stored,
    support::http::{Fields, get, headers, pass, secs},
};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const TEN_LATER: &str = "Sun, 06 Nov 1994 08:49:47 GMT";
const LONG: f64 = 2_147_483_648.0;

/// Whether a response with these fields is fresh for so long and not a moment longer, in both modes.
async fn assert_lifetime(fields: Fields, seconds: f64) {
    for layer in both() {
        if seconds > 0.0 {
            assert_eq!(at(&layer, fields, seconds - 0.001).await, "fresh", "{fields:?}");
        }
        assert_eq!(at(&layer, fields, seconds).await, "asked", "{fields:?}");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_1_cache_control_states_a_lifetime_in_every_spelling_that_the_grammar_allows() {
    for (control, seconds) in [
        ("max-age=10", 10.0),
        ("MaX-aGe=10", 10.0),
        ("max-age=\"10\"", 10.0),
        ("max-age=0010", 10.0),
        ("max-age=00000000000000000000010", 10.0),
        ("s-maxage=10", 10.0),
        ("s-maxage=\"10\"", 10.0),
        ("foobar, max-age=10", 10.0),
        ("foobar=1, max-age=10, foobar=\"max-age=99\"", 10.0),
        ("foobar=\"max-age=99\", max-age=10", 10.0),
        (",, max-age=10 ,", 10.0),
        (" \tmax-age=10\t ", 10.0),
        ("max-age=10, s-maxage=20", 20.0),
        ("s-maxage=20, max-age=30", 20.0),
        ("s-maxage=0, max-age=30", 0.0),
        ("max-age=2147483647", 2_147_483_647.0),
        ("max-age=2147483648", LONG),
        ("max-age=2147483649", LONG),
        ("max-age=99999999999", LONG),
        ("max-age=99999999999999999999999999999999999999", LONG),
    ] {
        assert_lifetime(Box::leak(Box::new([("cache-control", control)])), seconds).await;
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_1_what_is_no_number_of_seconds_is_stale() {
    let no_numbers = [
        "",
        "=",
        "=\"\"",
        "=-1",
        "=-3600",
        "=+1",
        "=10.0",
        "=10.5",
        "='10'",
        "=a10",
        "=10a",
        "= 10",
        " =10",
        " = 10",
        "=10 20",
        "=10;",
        "=\"10",
        "=\"10\"0",
        "=\"1\\0\"",
        "=\" 10\"",
        "=0x10",
        "=1e3",
        "=١٠",
    ];
    for argument in no_numbers {
        for name in ["max-age", "s-maxage"] {
            let control = format!("{name}{argument}");
            // Whatever else would do, and whether it stands before or after.
            let other = ("expires", "Sun, 06 Nov 2094 08:49:37 GMT");
            for fields in [
                &[("cache-control", &*control)][..],
                &[("cache-control", &control), other],
                &[("cache-control", &control), ("cache-control", "max-age=99")],
                &[("cache-control", "max-age=99"), ("cache-control", &control)],
            ] {
                for layer in both() {
                    assert_eq!(at(&layer, fields, 0.0).await, "asked", "{fields:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_1_of_several_lifetimes_the_shortest_counts() {
    let rows: [(Fields, f64); 9] = [
        (&[("cache-control", "max-age=1800, max-age=1")], 1.0),
        (&[("cache-control", "max-age=1, max-age=1800")], 1.0),
        (&[("cache-control", "max-age=1800"), ("cache-control", "max-age=1")], 1.0),
        (&[("cache-control", "max-age=1"), ("cache-control", "max-age=1800")], 1.0),
        (&[("cache-control", "s-maxage=9, s-maxage=5"), ("cache-control", "s-maxage=7, max-age=1")], 5.0),
        (&[("date", EARLY), ("expires", TEN_LATER), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT")], 10.0),
        (&[("date", EARLY), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT"), ("expires", TEN_LATER)], 10.0),
        (&[("date", EARLY), ("expires", TEN_LATER), ("expires", "0")], 0.0),
        (&[("cache-control", "max-age=10, no-cache")], 0.0),
    ];
    for (fields, seconds) in rows {
        assert_lifetime(fields, seconds).await;
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_5_3_expires_counts_from_date_where_no_max_age_puts_it_out_of_force() {
    let rows: [(Fields, f64); 14] = [
        (&[("date", EARLY), ("expires", TEN_LATER)], 10.0),
        (&[("date", "Sunday, 06-Nov-94 08:49:37 GMT"), ("expires", TEN_LATER)], 10.0),
        (&[("date", "Sun Nov  6 08:49:37 1994"), ("expires", "sun, 06 NOV 1994 08:49:47 gmt")], 10.0),
        (&[("date", EARLY), ("expires", "Sunday, 06-Nov-94 08:49:47 GMT")], 10.0),
        (&[("date", EARLY), ("expires", "Sun Nov  6 08:49:47 1994")], 10.0),
        (&[("date", EARLY), ("expires", "Thu Nov  6 08:49:47 1994")], 10.0),
        (&[("date", EARLY), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT")], LONG),
        (&[("date", EARLY), ("expires", EARLY)], 0.0),
        (&[("date", TEN_LATER), ("expires", EARLY)], 0.0),
        (&[("date", EARLY), ("expires", "0")], 0.0),
        (&[("date", EARLY), ("expires", "")], 0.0),
        (&[("date", EARLY), ("expires", "0"), ("cache-control", "max-age=10")], 10.0),
        (&[("date", EARLY), ("expires", EARLY), ("cache-control", "s-maxage=10")], 10.0),
        (&[("date", EARLY), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT"), ("cache-control", "max-age=0")], 0.0),
    ];
    for (fields, seconds) in rows {
        assert_lifetime(fields, seconds).await;
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_5_3_without_a_date_expires_counts_from_now() {
    for layer in both() {
        for date in [&[][..], &[("date", "foo")], &[("date", "")]] {
            let far = [&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")], date].concat();
            assert_eq!(at(&layer, &far, LONG - 1.0).await, "fresh", "{date:?}");
            let past = [&[("expires", TEN_LATER)], date].concat();
            assert_eq!(at(&layer, &past, 0.0).await, "asked", "{date:?}");
        }
    }
}

#[tokio::test(start_paused = true)] // P1
async fn rfc9111_5_1_the_age_that_came_along_is_the_first_member_and_ignored_where_it_is_no_number() {
    let rows: [(&[&str], f64); 21] = [
        (&["40"], 40.0),
        (&["0040"], 40.0),
        (&["40, 0"], 40.0),
        (&["0, 40"], 0.0),
        (&["40", "0"], 40.0),
        (&["0", "40"], 0.0),
        (&["0, 0"], 0.0),
        (&["40", "40"], 40.0),
        (&[", 40"], 40.0),
        (&["", "40"], 40.0),
        (&["2147483647"], 60.0),
        (&["2147483648"], 60.0),
        (&["2147483649"], 60.0),
        (&["99999999999999999999999"], 60.0),
        (&["abc"], 0.0),
        (&["-40"], 0.0),
        (&["40.0"], 0.0),
        (&["\"40\""], 0.0),
        (&["40;foo=bar"], 0.0),
        (&["40;foo=111"], 0.0),
        (&["abc, 40", "40"], 0.0),
    ];
    for (lines, age) in rows {
        for lifetime in
            [&[("cache-control", "max-age=60")][..], &[("date", EARLY), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")]]
        {
            let fields: Vec<_> = lifetime.iter().copied().chain(lines.iter().map(|line| ("age", *line))).collect();
            for layer in both() {
                if age < 60.0 {
                    assert_eq!(at(&layer, &fields, 59.0 - age).await, "fresh", "{fields:?}");
                }
                assert_eq!(at(&layer, &fields, 60.0 - age).await, "asked", "{fields:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P1, P45
async fn rfc9111_4_2_3_a_date_that_is_long_past_makes_nothing_older() {
    // The apparent age would make a cache depend on the clocks of others; §4.2.3 lets it be.
    for layer in both() {
        let app = always(200, headers(&[("cache-control", "max-age=60"), ("date", EARLY), ("age", "7")])).behind(layer);
        get(&app, "/x").await;
        pass(5.0).await;
        let again = get(&app, "/x").await;
        assert_eq!([again.field("age"), again.field("date")], ["12", EARLY]);
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_4_pragma_says_nothing_beside_cache_control() {
    for layer in both() {
        assert_eq!(at(&layer, &[("pragma", "no-cache"), ("cache-control", "max-age=9")], 1.0).await, "fresh");
        let expires = [("pragma", "no-cache"), ("date", EARLY), ("expires", TEN_LATER)];
        assert_eq!(at(&layer, &expires, 1.0).await, "asked");
        assert_eq!(at(&layer, &[("pragma", "foo"), ("date", EARLY), ("expires", TEN_LATER)], 1.0).await, "fresh");
    }
}

// ---- §4.2.2 ----

/// Unchanged for a hundred seconds: a guess of ten.
const AGED: [(&str, &str); 2] = [("last-modified", EARLY), ("date", "Sun, 06 Nov 1994 08:51:17 GMT")];

fn aged(more: &[(&str, &str)]) -> http::HeaderMap {
    headers(&[&AGED, more].concat())
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_2_nothing_is_guessed_unless_that_is_asked_for() {
    assert!(!is_stored(&always(200, aged(&[])).behind(CachebackLayer::http())).await);
    assert!(!is_stored(&always(404, aged(&[])).behind(application())).await);
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_2_a_guess_holds_for_a_tenth_of_the_time_without_change() {
    let layer = CachebackLayer::http().heuristic_freshness();
    assert_eq!(at(&layer, &AGED, 9.999).await, "fresh");
    assert_eq!(at(&layer, &AGED, 10.0).await, "asked");
    let old = [("last-modified", EARLY), ("date", "Wed, 06 Nov 2024 08:49:37 GMT")];
    assert_eq!(at(&layer, &old, 86_399.0).await, "fresh");
    assert_eq!(at(&layer, &old, 86_400.0).await, "asked");
    let app = always(200, aged(&[])).behind(layer);
    get(&app, "/x?a=1").await;
    assert_eq!(came(&get(&app, "/x?a=1").await), "fresh", "a query makes no difference");
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_2_guesses_are_for_statuses_that_allow_them_and_for_what_is_public() {
    let public = ("cache-control", "public");
    for status in (200..600).filter(|status| ![206, 304, 428, 429, 431, 511].contains(status)) {
        let layer = CachebackLayer::http().heuristic_freshness();
        let guessed = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status);
        let app = always(status, aged(&[])).behind(layer.clone().namespace("plain"));
        assert_eq!(is_stored(&app).await, guessed, "{status}");
        assert!(is_stored(&always(status, aged(&[public])).behind(layer)).await, "{status} public");
    }
    for status in [206, 304, 428, 429, 431, 511] {
        let layer = CachebackLayer::http().heuristic_freshness();
        assert!(!is_stored(&always(status, aged(&[public])).behind(layer)).await, "{status}");
    }
}

#[tokio::test(start_paused = true)] // P41, P42
async fn rfc9111_4_2_2_nothing_is_guessed_where_something_is_said() {
    let layer = CachebackLayer::http().heuristic_freshness();
    for said in [
        ("cache-control", "max-age=0"),
        ("cache-control", "s-maxage=soon"),
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("expires", "0"),
        ("expires", EARLY),
        ("pragma", "no-cache"),
        ("set-cookie", "a=1"),
    ] {
        let app = always(200, aged(&[said])).behind(layer.clone());
        assert!(!is_stored(&app).await, "{said:?}");
    }
    for nothing in [&[][..], &[("last-modified", "x")], &[("last-modified", TEN_LATER), ("date", EARLY)]] {
        assert!(!is_stored(&always(200, headers(nothing)).behind(layer.clone())).await, "{nothing:?}");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_2_the_layers_own_lifetime_goes_before_a_guess() {
    let layer = application().heuristic_freshness().negative(StatusCode::GONE, Freshness::exact(secs(3)));
    for (status, seconds) in [(200, 30.0), (404, 10.0), (410, 3.0)] {
        let app = always(status, aged(&[])).behind(layer.clone().namespace(status.to_string()));
        assert!(is_stored(&app).await, "{status}");
        pass(seconds - 0.001).await;
        assert_eq!(came(&get(&app, "/x").await), "fresh", "{status}");
        pass(0.001).await;
        assert_eq!(came(&get(&app, "/x").await), "asked", "{status}");
    }
}

#[tokio::test(start_paused = true)] // P42, P45
async fn rfc9111_4_2_2_what_was_guessed_is_served_stale_only_as_it_says_and_tells_those_further_down() {
    let layer = CachebackLayer::http().heuristic_freshness();
    let windows = [AGED[0], AGED[1], ("cache-control", "stale-while-revalidate=5, stale-if-error=20")];
    for (age, how) in [(9.0, "fresh"), (10.0, "stale"), (15.0, "instead"), (30.0, "asked")] {
        assert_eq!(at(&layer, &windows, age).await, how, "{age}");
    }
    let app = always(200, headers(&windows)).behind(layer);
    get(&app, "/x").await;
    pass(10.0).await;
    let stale = get(&app, "/x").await;
    assert_eq!((came(&stale), stale.field("cache-control").as_str()), ("stale", "max-age=0"));
}
