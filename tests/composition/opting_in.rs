//! Who is cached at all.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness};
use tokio::{sync::Barrier, time::advance};

use crate::{
    stand::{Runs, ask, count, minute, second_is_a_hit, secs},
    support::net::soon,
};

#[tokio::test] // P94
async fn a_layer_that_is_not_enabled_passes_everything_through() {
    let runs = Runs::default();
    let app = Router::new().route("/", get(count).post(count)).layer(minute().enabled(false)).with_state(runs.clone());
    for run in 1..=2 {
        let seen = ask(&app, "/").await;
        assert_eq!(seen.body, format!("run {run} of /"));
        assert!(seen.outcome.is_none() && seen.header("cache-status").is_empty() && seen.header("age").is_empty());
    }
}

#[tokio::test] // P94, P17
async fn requests_that_when_leaves_out_are_neither_looked_up_nor_stored_nor_collapsed() {
    let cache = Cache::new();
    let both = Arc::new(Barrier::new(2));
    let runs = Runs::default();
    let meeting = {
        let (runs, both) = (runs.clone(), Arc::clone(&both));
        async move || {
            both.wait().await;
            runs.next().to_string()
        }
    };
    let layer = cache.layer(secs(60)).when(|request| !request.uri.path().starts_with("/admin"));
    let app = Router::new().route("/admin", get(meeting)).route("/", get(count)).layer(layer).with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    // Were one of them to wait for the other, neither would ever be answered.
    let (one, other) = tokio::join!(ask(&app, "/admin"), ask(&app, "/admin"));
    assert_ne!(one.body, other.body);
    let outcome = one.outcome();
    assert_eq!((outcome.status(), outcome.detail()), (CacheStatus::Bypass, Some(Detail::Excluded)));
    assert_eq!(cache.stats().keys, 1);
}

#[tokio::test] // P94
async fn opting_in_route_by_route_with_a_layer_on_the_method_router() {
    let runs = Runs::default();
    let app =
        Router::new().route("/quotes", get(count).layer(minute())).route("/cart", get(count)).with_state(runs.clone());
    second_is_a_hit(&app, "/quotes").await;
    assert_ne!(ask(&app, "/cart").await.body, ask(&app, "/cart").await.body);
}

#[tokio::test(start_paused = true)] // P94, P93
async fn opting_in_route_by_route_with_several_layers_of_one_cache() {
    let runs = Runs::default();
    let cache = Cache::new();
    let app = Router::new()
        .route("/", get(count).layer(cache.layer(Freshness::exact(secs(5)))))
        .route("/quotes", get(count).layer(cache.layer(Freshness::exact(secs(60)))))
        .route("/cart", get(count))
        .with_state(runs.clone());
    second_is_a_hit(&app, "/").await;
    second_is_a_hit(&app, "/quotes").await;
    assert!(ask(&app, "/cart").await.outcome.is_none());
    assert_eq!(cache.stats().keys, 2);
    advance(secs(5)).await;
    assert!(!ask(&app, "/").await.is_hit());
    assert!(ask(&app, "/quotes").await.is_hit());
    assert_eq!(cache.purge_path("/quotes").await.unwrap().entries, 1);
    assert!(!ask(&app, "/quotes").await.is_hit());
}

#[tokio::test] // P94, P91
async fn opting_in_under_one_layer_on_the_whole_router() {
    let runs = Runs::default();
    let cache = Cache::new();
    async fn opted(State(runs): State<Runs>) -> impl IntoResponse {
        (Freshness::new(secs(60)), runs.next().to_string())
    }
    async fn stated(State(runs): State<Runs>) -> impl IntoResponse {
        ([(header::CACHE_CONTROL, "max-age=60")], runs.next().to_string())
    }
    let app = Router::new()
        .route("/by-its-handler", get(opted))
        .route("/by-its-route", get(count).layer(cache.layer(secs(60))))
        .route("/cart", get(count))
        .route("/stated", get(stated))
        .layer(cache.layer(Duration::ZERO).opt_in())
        .with_state(runs.clone());
    second_is_a_hit(&app, "/by-its-handler").await;
    second_is_a_hit(&app, "/by-its-route").await;
    for uri in ["/cart", "/stated"] {
        let both = (ask(&app, uri).await, ask(&app, uri).await);
        assert_ne!(both.0.body, both.1.body, "{uri}");
        assert_eq!(both.0.outcome().detail(), Some(Detail::NotOptedIn), "{uri}");
        assert!(!both.0.outcome().is_stored(), "{uri}");
    }
    assert_eq!(cache.stats().keys, 2, "nothing is remembered of what was not opted in");
}

#[tokio::test(start_paused = true)] // P94
async fn requests_wait_for_one_another_only_where_something_was_opted_in_before() {
    let runs = Runs::default();
    let both = Arc::new(Barrier::new(2));
    let page = |opted: bool| {
        let (runs, both) = (runs.clone(), Arc::clone(&both));
        get(async move || {
            let run = runs.next();
            if run <= 4 {
                both.wait().await;
            } else {
                tokio::task::yield_now().await;
            }
            let mut response = run.to_string().into_response();
            if opted {
                response.extensions_mut().insert(Freshness::exact(secs(60)));
            }
            response
        })
    };
    let app = Router::new()
        .route("/cart", page(false))
        .route("/quotes", page(true))
        .layer(CachebackLayer::new(Duration::ZERO).opt_in());
    // Nobody has seen an opted-in response: each pair runs side by side, or it would wait for ever.
    for uri in ["/cart", "/quotes"] {
        let (one, other) = soon(async { tokio::join!(ask(&app, uri), ask(&app, uri)) }).await;
        assert_ne!(one.body, other.body, "{uri}");
    }
    advance(secs(60)).await;
    let (one, other) = soon(async { tokio::join!(ask(&app, "/quotes"), ask(&app, "/quotes")) }).await;
    assert_eq!((one.body.as_str(), other.body.as_str()), ("5", "5"));
    assert!(one.outcome().is_collapsed() != other.outcome().is_collapsed());
    let (one, other) = soon(async { tokio::join!(ask(&app, "/cart"), ask(&app, "/cart")) }).await;
    assert_ne!(one.body, other.body);
}
