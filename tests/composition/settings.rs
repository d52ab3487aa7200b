//! Settings and rules: nonsense is refused where it is said, and layers with other rules keep apart.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use cacheback::{Cache, CachebackLayer, Freshness};
use tokio::time::advance;
use tower::Layer;

use crate::{
    stand::{Runs, ask, count, minute, second_is_a_hit, secs},
    support::{net::soon, typed},
};

/// The file and line at which this panics.
fn place_of_panic(panics: impl FnOnce()) -> Option<(String, u32)> {
    type Place = Option<(String, u32)>;
    thread_local!(static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = || info.location().map(|place| (place.file().to_owned(), place.line()));
            let wanted = PLACE.with_borrow_mut(|slot| slot.as_mut().map(|slot| *slot = place()).is_some());
            if !wanted {
                before(info);
            }
        }));
    });
    PLACE.set(Some(None));
    let result = panic::catch_unwind(AssertUnwindSafe(panics));
    let place = PLACE.take().flatten();
    assert_eq!(result.is_err(), place.is_some());
    place
}

#[test] // P92
fn nonsense_panics_in_the_setter_at_the_callers_line() {
    macro_rules! panics_here {
        ($($setter:ident($($argument:expr),*);)*) => {$(
            let place = place_of_panic(|| drop(minute().$setter($($argument),*)));
            assert_eq!(place, Some((file!().to_owned(), line!())), "{}", stringify!($setter));
        )*};
    }
    panics_here! {
        key_header("no name");
        key_header("");
        key_header("caf\u{e9}");
        key_cookie("");
        key_cookie("a=b");
        key_cookie("a;b");
        credential_header("no name");
        exchange_headers(["x-fine", "not fine"]);
        max_variants(0);
        refresh_timeout(Duration::ZERO);
        wait_timeout(Duration::ZERO);
        negative(StatusCode::PARTIAL_CONTENT, secs(1));
        negative(StatusCode::CONTINUE, secs(1));
        negative(StatusCode::NOT_MODIFIED, secs(1));
        negative(StatusCode::UNAUTHORIZED, secs(1));
        cache_status("no token");
        cache_status("");
        cache_status("1st");
    }
}

#[tokio::test(start_paused = true)] // P92, P4
async fn a_layer_with_the_strangest_of_settings_neither_panics_nor_answers_otherwise() {
    let extremes = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    for extreme in extremes {
        for other in extremes {
            let cache = Cache::builder().memory(0).max_refreshes(0).build();
            let freshness = Freshness::new(extreme).stale_while_revalidate(other).stale_if_error(extreme);
            let layer = cache
                .layer(freshness)
                .namespace("")
                .key_cookie("a")
                .ignore_cookies()
                .sealed()
                .query_only([""])
                .query_sorted()
                .credential_header("authorization")
                .exchange_headers(["x-request-id"; 0])
                .body_cap(if extreme.is_zero() { 0 } else { usize::MAX })
                .negative(StatusCode::NOT_FOUND, other)
                .hit_for_miss(extreme)
                .max_variants(usize::MAX)
                .cache_status(None);
            let layers = [
                layer.clone().wait_timeout(extreme.max(Duration::from_nanos(1))).soft_timeout(other),
                layer.clone().refresh_timeout(other.max(Duration::from_nanos(1))).fill_timeout(extreme),
                layer.max_variants(1).opt_in().stale_windows_for_all().unsafe_invalidates(false),
            ];
            for layer in layers {
                let runs = Runs::default();
                let app = Router::new().fallback(count).layer(layer).with_state(runs.clone());
                for _ in 0..4 {
                    let seen = soon(ask(&app, "/page")).await;
                    assert!(seen.body.starts_with("run "), "{seen:?}");
                    advance(secs(1)).await;
                }
            }
        }
    }
}

#[tokio::test] // P92
async fn a_memory_without_end_is_a_memory() {
    let layer = Cache::builder().memory(usize::MAX).build().layer(secs(60));
    second_is_a_hit(&Router::new().fallback(count).layer(layer).with_state(Runs::default()), "/").await;
}

#[tokio::test] // P92
async fn a_weight_without_end_is_too_heavy_and_nothing_else() {
    let service = typed::layer().weigh(|_| usize::MAX).layer(typed::Origin::new());
    for run in 1..4 {
        assert_eq!(typed::ask(&service, "k").await, Ok(run));
    }
}

#[tokio::test] // P93
async fn layers_with_other_key_rules_share_no_entry_but_memory_and_invalidation() {
    let runs = Runs::default();
    let cache = Cache::new();
    let plain = || cache.layer(secs(60));
    let app = |layer: CachebackLayer| Router::new().route("/x", get(count).layer(layer)).with_state(runs.clone());
    let one_by_one = [
        app(plain()),
        app(plain().namespace("a")),
        app(plain().namespace("b")),
        app(plain().key_header("x-tenant")),
        app(plain().key_cookie("theme")),
        app(plain().ignore_cookies()),
        app(plain().key_by(|_| Some(Vec::new()))),
        app(plain().key_by(|_| Some(Vec::new()))),
        app(plain().credential_header("x-secret")),
        app(plain().query_only(["q"])),
        app(plain().query_except(["q"])),
        app(plain().query_sorted()),
        app(plain().sealed()),
    ];
    for app in &one_by_one {
        second_is_a_hit(app, "/x").await;
    }
    assert_eq!((runs.count(), cache.stats().keys), (one_by_one.len(), one_by_one.len()));

    // The same rules are the same entries, whatever the layer stores and for how long.
    assert!(ask(&app(cache.layer(secs(5)).body_cap(7)), "/x").await.is_hit());
    assert_eq!(cache.purge_path("/x").await.unwrap().entries, one_by_one.len());
    for app in &one_by_one {
        assert!(!ask(app, "/x").await.is_hit());
    }
}

#[tokio::test(start_paused = true)] // P93, P1
async fn an_entry_lives_by_the_freshness_of_the_run_that_stored_it() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = |lifetime| {
        let layer = cache.layer(Freshness::exact(secs(lifetime)));
        Router::new().route("/x", get(count).layer(layer)).with_state(runs.clone())
    };
    second_is_a_hit(&app(10), "/x").await;
    advance(secs(9)).await;
    assert!(ask(&app(5), "/x").await.is_hit(), "it was stored for ten seconds");
    advance(secs(1)).await;
    assert!(!ask(&app(60), "/x").await.is_hit(), "it was stored for ten seconds and no more");
}
