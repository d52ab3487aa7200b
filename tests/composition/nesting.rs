//! Layers around layers.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use cacheback::{Cache, CacheStatus, Detail, Freshness, Tags};
use tokio::{task::JoinSet, time::advance};

use crate::{
    stand::{Runs, ask, count, second_is_a_hit, secs, tell},
    support::net::soon,
};

#[tokio::test(start_paused = true)] // P91, trap 6
async fn a_route_layer_inside_a_router_layer_of_one_cache_says_for_how_long_and_under_which_tags() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn tagged(State(runs): State<Runs>) -> impl IntoResponse {
        (Tags::new(["quotes"]), runs.next().to_string())
    }
    let app = Router::new()
        .route("/long", get(tagged).layer(cache.layer(Freshness::exact(secs(600)))))
        .route("/short", get(tagged).layer(cache.layer(Freshness::exact(secs(6)))))
        .route("/plain", get(tagged))
        .layer(cache.layer(Freshness::exact(secs(60))))
        .with_state(runs.clone());
    for uri in ["/long", "/short", "/plain"] {
        second_is_a_hit(&app, uri).await;
    }
    assert_eq!(cache.stats().keys, 3, "each page is stored once");
    let hits = async || {
        (ask(&app, "/long").await.is_hit(), ask(&app, "/short").await.is_hit(), ask(&app, "/plain").await.is_hit())
    };
    advance(secs(6)).await;
    assert_eq!(hits().await, (true, false, true));
    advance(secs(54)).await;
    assert_eq!(hits().await, (true, false, false));
    assert_eq!(cache.purge_tag("quotes").await.unwrap().entries, 3);
    assert_eq!(hits().await, (false, false, false));
}

#[tokio::test(start_paused = true)] // P91, P10, trap 6
async fn many_cold_misses_through_two_layers_of_one_cache_are_one_run() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(secs(600))))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let app = app.clone();
        clients.spawn(async move { ask(&app, "/").await.body });
    }
    assert!(soon(clients.join_all()).await.iter().all(|body| body == "run 1 of /"));
    assert_eq!(runs.count(), 1);
}

#[tokio::test(start_paused = true)] // P91
async fn a_stale_page_is_refreshed_through_the_inner_layer_of_its_own_cache() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(secs(10))))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    advance(secs(10)).await;
    assert!(ask(&app, "/").await.outcome().is_stale());
    soon(cache.settled()).await;
    let new = ask(&app, "/").await;
    assert_eq!((new.body.as_str(), new.outcome().is_stale()), ("run 2 of /", false));
}

#[tokio::test] // P91
async fn what_an_inner_layer_keys_otherwise_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn by_language(State(runs): State<Runs>, headers: http::HeaderMap) -> String {
        format!("run {} in {:?}", runs.next(), headers.get(header::ACCEPT_LANGUAGE))
    }
    let app = Router::new()
        .route("/", get(by_language).layer(cache.layer(secs(60)).key_header(header::ACCEPT_LANGUAGE)))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    let speak = async |language| {
        let request = Request::get("/").header(header::ACCEPT_LANGUAGE, language).body(Body::empty()).unwrap();
        tell(&app, request).await
    };
    for (run, language) in [(1, "de"), (2, "en"), (3, "de")] {
        let seen = speak(language).await;
        assert_eq!(seen.body, format!("run {run} in Some(\"{language}\")"));
        assert!(!seen.outcome().is_stored());
    }
}

#[tokio::test] // P91
async fn what_an_inner_layer_would_not_store_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let cache = Cache::new();
    let no = |_: &http::request::Parts| false;
    let app = Router::new()
        .route("/excluded", get(count).layer(cache.layer(secs(60)).when(no)))
        .route("/not-opted-in", get(count).layer(cache.layer(secs(60)).opt_in()))
        .layer(cache.layer(secs(60)))
        .with_state(runs.clone());
    for uri in ["/excluded", "/not-opted-in"] {
        let both = (ask(&app, uri).await, ask(&app, uri).await);
        assert!(!both.0.outcome().is_stored(), "{uri}: {both:?}");
        assert_ne!(both.0.body, both.1.body, "{uri}");
    }
}

#[tokio::test(start_paused = true)] // P91, P45
async fn what_an_inner_cache_serves_stale_the_outer_one_does_not_store() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    let app = Router::new()
        .route("/", get(count).layer(caches.0.layer(secs(10))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    advance(secs(12)).await;
    // By its own lifetime the outer cache has it fresh for another 48 seconds; asked again, it gets it stale.
    caches.1.purge_path("/").await.unwrap();
    let stale = soon(ask(&app, "/")).await;
    assert_eq!((stale.body.as_str(), stale.age()), ("run 1 of /", 12));
    assert!(!stale.outcome().is_stored());
    soon(caches.0.settled()).await;
    let new = soon(ask(&app, "/")).await;
    assert_eq!((new.body.as_str(), new.age()), ("run 2 of /", 0));
}

/// Answers with the number of its run and the moment, in whole seconds since the start, at which it was called.
fn dated(runs: &Runs, control: &'static str) -> axum::routing::MethodRouter {
    let (runs, start) = (runs.clone(), tokio::time::Instant::now());
    get(async move || {
        let body = format!("{} {}", runs.next(), start.elapsed().as_secs());
        let mut response = body.into_response();
        if !control.is_empty() {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
        }
        response
    })
}

#[tokio::test(start_paused = true)] // P91, P45
async fn ages_of_different_caches_add_up_and_what_is_stale_inside_is_never_new_outside() {
    for (inner, outer, control) in [
        (100, 60, ""),
        (10, 60, ""),
        (10, 7, ""),
        (60, 60, ""),
        (100, 60, "max-age=30, stale-while-revalidate=60"),
        (10, 60, "max-age=20"),
        (10, 60, "s-maxage=5, stale-while-revalidate=1000, stale-if-error=1000"),
    ] {
        let start = tokio::time::Instant::now();
        let runs = Runs::default();
        let caches = (Cache::new(), Cache::new());
        let windows = |seconds| Freshness::new(secs(seconds)).stale_while_revalidate(secs(50)).stale_if_error(secs(90));
        let app = Router::new()
            .route("/", dated(&runs, control).layer(caches.0.layer(windows(inner)).cache_status("inner")))
            .layer(caches.1.layer(windows(outer)).cache_status("outer"));
        let lifetime = match control {
            "" => outer,
            _ => control.split(['=', ',']).nth(1).and_then(|seconds| seconds.parse().ok()).unwrap(),
        };
        for pause in [1, 4, 2, 3, 5, 13, 1, 29, 1, 1, 31, 60, 1, 1, 100, 1, 70, 1, 1, 500, 1, 1] {
            advance(secs(pause)).await;
            let seen = soon(ask(&app, "/")).await;
            let now = start.elapsed().as_secs();
            let made: u64 = seen.body.split(' ').nth(1).unwrap().parse().unwrap();
            let context = format!("{inner}/{outer} {control:?} at {now}: {seen:?}");
            assert_eq!(seen.age(), now - made, "{context}");
            // Whoever answers calls it fresh only while it is.
            let outcome = seen.outcome();
            if outcome.status() == CacheStatus::Hit {
                assert_eq!(outcome.is_stale(), now - made >= lifetime, "{context}");
            }
            soon(caches.1.settled()).await;
            soon(caches.0.settled()).await;
        }
        assert!(runs.count() > 3, "{inner}/{outer} {control:?}: {} runs", runs.count());
    }
}

#[tokio::test] // P91, P31
async fn a_tag_reaches_the_outer_of_two_caches_also_where_the_inner_one_answered_from_memory() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    async fn tagged(State(runs): State<Runs>) -> impl IntoResponse {
        (Tags::new(["quotes"]), runs.next().to_string())
    }
    let app = Router::new()
        .route("/", get(tagged).layer(caches.0.layer(secs(60))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    assert_eq!(caches.1.purge_path("/").await.unwrap().entries, 1);
    // From the inner memory into the outer.
    assert_eq!(second_is_a_hit(&app, "/").await.body, "1");
    assert_eq!(caches.0.purge_tag("quotes").await.unwrap().entries, 1);
    assert_eq!(caches.1.purge_tag("quotes").await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)] // P91, P42
async fn a_lifetime_that_the_handler_stated_holds_in_the_outer_cache_also_after_a_hit_in_the_inner() {
    let runs = Runs::default();
    let caches = (Cache::new(), Cache::new());
    async fn short(State(runs): State<Runs>) -> impl IntoResponse {
        (Freshness::exact(secs(9)), runs.next().to_string())
    }
    let app = Router::new()
        .route("/", get(short).layer(caches.0.layer(secs(60))))
        .layer(caches.1.layer(secs(60)))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    caches.1.purge_path("/").await.unwrap();
    assert_eq!(second_is_a_hit(&app, "/").await.body, "1");
    advance(secs(9)).await;
    assert_eq!(ask(&app, "/").await.body, "2", "no one lets it live for longer than nine seconds");
}

#[tokio::test(start_paused = true)] // P91, P34
async fn what_is_stale_inside_by_hand_or_by_less_than_a_second_is_stale_outside_whatever_the_handler_stated() {
    for (lifetime, by_hand) in [(60_000, true), (600, false)] {
        let (runs, caches) = (Runs::default(), (Cache::new(), Cache::new()));
        let answer = move |State(runs): State<Runs>| async move {
            (Freshness::new(Duration::from_millis(lifetime)), Tags::new(["t"]), runs.next().to_string())
        };
        let app = Router::new()
            .route("/", get(answer).layer(caches.0.layer(secs(60))))
            .layer(caches.1.layer(secs(60)))
            .with_state(runs.clone());
        ask(&app, "/").await;
        advance(Duration::from_millis(900)).await;
        if by_hand {
            caches.0.expire_tag("t").await.unwrap();
            caches.1.expire_tag("t").await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let reply = soon(ask(&app, "/")).await;
            seen.push((reply.body.clone(), reply.outcome().is_stale()));
            caches.1.settled().await;
            caches.0.settled().await;
        }
        // The outer refresh gets what the inner cache has stale; the one after it the new response.
        let [old, new] = [("1".to_owned(), true), ("2".to_owned(), false)];
        assert_eq!(seen, [old.clone(), old, new], "{lifetime}");
    }
}

#[tokio::test(start_paused = true)] // P91, P94
async fn what_layers_of_one_cache_say_to_one_another_another_cache_does_not_hear() {
    for stored in [true, false] {
        let (runs, caches) = (Runs::default(), (Cache::new(), Cache::new()));
        let inner = if stored { secs(5) } else { secs(0) };
        let app = Router::new()
            .route("/", get(count).layer(caches.0.layer(Freshness::exact(inner))))
            .layer(caches.0.layer(secs(60)))
            .layer(caches.1.layer(secs(600)).opt_in())
            .with_state(runs);
        let first = ask(&app, "/").await;
        assert_eq!(first.outcome().detail(), Some(Detail::NotOptedIn), "{first:?}");
        assert_eq!(caches.1.stats().keys, 0);
    }
}
