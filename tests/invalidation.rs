//! An invalidation reaches what it names and nothing else; the soft form lets the stale response be served once more.

mod support;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    thread,
};

use axum::{
    Extension, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cacheback::{Cache, CacheStatus, CachebackLayer, Freshness, Http, Key, Scope, Tags};
use support::http::{Clients, Origin, Reply, get, get_with, pass, secs, settle};
use tokio::task::{self, JoinSet};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// Fresh for a minute, then stale at once for another, then in place of a failure for two more.
fn layer(cache: &Cache) -> CachebackLayer<Http> {
    let windows = Freshness::new(secs(60)).stale_while_revalidate(secs(60)).stale_if_error(secs(180));
    cache.layer(windows)
}

/// An origin whose answers say which run they are of, tagged with the first segment of their path.
fn tagged() -> Origin {
    Origin::new(|seen| {
        let tag = seen.uri.path().split('/').nth(1).unwrap_or_default().to_owned();
        let mut response = seen.run.to_string().into_response();
        response.extensions_mut().insert(Tags::new([tag, "all".to_owned()]));
        response
    })
}

fn with_cache(origin: &Origin) -> (Router, Cache) {
    let cache = Cache::new();
    (origin.behind(layer(&cache)), cache)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Expire,
    Purge,
}

/// Both forms, by everything that reaches `/x/1?q=1` on `a.example`.
fn scopes() -> Vec<Scope> {
    vec![
        Scope::uri("/x/1?q=1").expect("a URI"),
        Scope::uri("http://A.example:80/x/1?q=1").expect("a URI"),
        Scope::path("/x/1").expect("a path"),
        Scope::path("https://a.example/x/1").expect("a path"),
        Scope::tag("x"),
        Scope::everything(),
    ]
}

async fn invalidate(cache: &Cache, how: How, scope: &Scope) -> usize {
    let reached = match how {
        How::Expire => cache.expire(scope).await,
        How::Purge => cache.purge(scope).await,
    };
    reached.expect("there is no store to fail").entries
}

async fn on_a(app: &Router) -> Reply {
    get_with(app, "/x/1?q=1", &[("host", "a.example")]).await
}

// ---- what is reached ----

#[tokio::test(start_paused = true)] // P34
async fn a_scope_reaches_what_it_names_and_nothing_else() {
    let pages = [
        ("a.example", "/x/1"),
        ("a.example", "/x/1?q=1"),
        ("a.example", "/x/1?q=2"),
        ("a.example", "/x/1?"),
        ("a.example", "/x/1/"),
        ("a.example", "/x/11"),
        ("a.example", "/x"),
        ("a.example", "/x%2F1"),
        ("b.example", "/x/1?q=1"),
        ("a.example", "/y/1?q=1"),
    ];
    let uri = |uri| Scope::uri(uri).expect("a URI");
    let path = |path| Scope::path(path).expect("a path");
    for (scope, reached) in [
        (uri("/x/1"), &[0][..]),
        (uri("/x/1?q=1"), &[1, 8]),
        (uri("/x/1?"), &[3]),
        (uri("http://a.example/x/1?q=1"), &[1]),
        (uri("//a.example/x/1"), &[]),
        (uri("/x%2F1"), &[7]),
        (path("/x/1"), &[0, 1, 2, 3, 8]),
        (path("http://b.example/x/1"), &[8]),
        (path("/x/1/"), &[4]),
        (path("/x"), &[6]),
        (Scope::tag("x"), &[0, 1, 2, 3, 4, 5, 6, 8]),
        (Scope::tag("X"), &[]),
        (Scope::tag("x%2F1"), &[7]),
        (Scope::tag(""), &[]),
        (Scope::tag("all"), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Scope::everything(), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Scope::from(Key::from("/x/1")), &[]),
    ] {
        for how in [How::Expire, How::Purge] {
            let (app, cache) = with_cache(&tagged());
            for (host, page) in pages {
                get_with(&app, page, &[("host", host)]).await;
            }
            assert_eq!(invalidate(&cache, how, &scope).await, reached.len(), "{how:?} {scope:?}");
            for (number, (host, page)) in pages.into_iter().enumerate() {
                let said = get_with(&app, page, &[("host", host)]).await.outcome();
                let fresh = said.status() == CacheStatus::Hit && !said.is_stale();
                assert_eq!(fresh, !reached.contains(&number), "{how:?} {scope:?} {host}{page}");
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P34, P60
async fn paths_and_queries_of_every_length_are_reached_and_no_others() {
    // Around the lengths from which on a key writes them in another way.
    let lengths = [1, 252, 253, 254, 255, 256, 257, 300, 30_000];
    let paths: Vec<_> = lengths.iter().map(|length| format!("/{}", "p".repeat(length - 1))).collect();
    let queries: Vec<_> = lengths.iter().map(|length| format!("?{}", "q".repeat(length - 1))).collect();
    let queries = || ["", "?"].into_iter().chain(queries.iter().map(String::as_str).skip(1));
    let pages: Vec<_> = paths.iter().flat_map(|path| queries().map(move |query| (path, query))).collect();
    let mut scopes = Vec::new();
    for (path, query) in &pages {
        let (path, query) = (path.as_str(), *query);
        let uri: Scope = Scope::uri(&format!("{path}{query}")).expect("a URI");
        scopes.push((uri, Box::new(move |(p, q): (&str, &str)| (p, q) == (path, query)) as Box<dyn Fn(_) -> bool>));
    }
    for path in &paths {
        let path = path.as_str();
        scopes.push((Scope::path(path).expect("a path"), Box::new(move |(p, _)| p == path)));
        let below = move |(p, _): (&str, &str)| p == path || path == "/";
        scopes.push((Scope::path_prefix(path).expect("a path"), Box::new(below)));
    }
    let (app, cache) = with_cache(&Origin::counting());
    let fill = async || {
        for (path, query) in &pages {
            get_with(&app, &format!("{path}{query}"), &[("host", "a.example")]).await;
        }
    };
    fill().await;
    for (scope, reaches) in scopes {
        let reached: Vec<_> = pages.iter().filter(|(path, query)| reaches((path, query))).collect();
        assert_eq!(cache.purge(&scope).await.expect("there is no store to fail").entries, reached.len());
        assert_eq!(cache.stats().keys, pages.len() - reached.len());
        for (path, query) in reached {
            let said = get_with(&app, &format!("{path}{query}"), &[("host", "a.example")]).await.outcome();
            assert_ne!(said.status(), CacheStatus::Hit, "{} of path, {} of query", path.len(), query.len());
        }
    }
    for length in [253, 254, 255, 70_000] {
        let namespace = "n".repeat(length);
        let own = Origin::counting().behind(layer(&cache).namespace(namespace.as_str()));
        get(&own, "/").await;
        let reached = cache.purge(Scope::namespace(namespace)).await.expect("there is no store to fail");
        assert_eq!(reached.entries, 1, "{length}");
    }
    assert_eq!(cache.stats().keys, pages.len());
}

#[tokio::test(start_paused = true)] // P34
async fn all_variants_and_all_layers_key_rules_are_reached() {
    let origin = Origin::new(|seen| ([("vary", "accept-language")], seen.run.to_string()));
    let cache = Cache::new();
    let apps = [
        origin.behind(layer(&cache)),
        origin.behind(layer(&cache).namespace("other")),
        origin.behind(layer(&cache).key_header("x-tenant").key_cookie("theme").sealed()),
        origin.behind(layer(&cache).key_by(|_| Some(b"own".to_vec()))),
    ];
    for app in &apps {
        for language in ["de", "fr"] {
            get_with(app, "/x", &[("accept-language", language), ("x-tenant", "1"), ("forwarded", "host=b")]).await;
        }
    }
    // The sealed one sees no language, and stores one variant.
    assert_eq!(cache.purge_path("/x").await.expect("purged").entries, 7);
    assert_eq!(cache.purge_path("/x").await.expect("purged").entries, 0);
    let before = origin.runs();
    for app in &apps {
        for language in ["de", "fr"] {
            let answer = get_with(app, "/x", &[("accept-language", language)]).await;
            assert!(answer.text().parse::<usize>().expect("a number") > before);
        }
    }
}

#[tokio::test(start_paused = true)] // P34
async fn what_names_nothing_is_refused() {
    let cache = Cache::new();
    for path in ["x", "", "/x y", "/x#part", "/x?q=1", "/caf\u{e9}"] {
        assert!(cache.purge_path(path).await.is_err(), "{path:?}");
        assert!(cache.expire_path(path).await.is_err(), "{path:?}");
    }
}

#[test] // P34
fn a_query_right_after_the_authority_is_no_part_of_it() {
    assert!(Scope::uri("https://a.example?q=1").is_err());
    assert!(Scope::path("https://a.example?q=/x").is_err());
}

#[tokio::test(start_paused = true)] // P34
async fn what_is_dropped_may_invalidate_in_its_turn() {
    /// Purges everything when it is dropped, and counts.
    struct Purges(Cache<Arc<Self>>, Arc<AtomicUsize>);
    impl Drop for Purges {
        fn drop(&mut self) {
            let purge = pin!(self.0.purge(Scope::everything()));
            assert!(purge.poll(&mut Context::from_waker(Waker::noop())).is_ready());
            self.1.fetch_add(1, SeqCst);
        }
    }

    let (cache, dropped) = (Cache::builder().memory(1 << 20).build_for(), Arc::new(AtomicUsize::new(0)));
    let layer = CachebackLayer::typed::<u64, Arc<Purges>>(|n| Key::from(n.to_string()))
        .over_cache(&cache)
        .freshness(secs(1_000))
        .weigh(|_| 100_000);
    let (of, counter) = (cache.clone(), Arc::clone(&dropped));
    let service = layer.layer(service_fn(move |_| {
        std::future::ready(Ok::<_, std::convert::Infallible>(Arc::new(Purges(of.clone(), Arc::clone(&counter)))))
    }));
    let ask = |n| {
        let service = service.clone();
        async move { service.oneshot(n).await.unwrap_or_else(|never| match never {}) }
    };
    for n in 0..100 {
        ask(n).await;
    }
    assert!(dropped.load(SeqCst) > 0, "there is no room for a hundred");
    let last = ask(100).await;
    cache.purge(Scope::everything()).await.expect("purged");
    assert_eq!(dropped.load(SeqCst), 100, "one is still read");
    // Neither does it take a runtime.
    thread::spawn(move || drop(last)).join().expect("no panic");
    assert_eq!(dropped.load(SeqCst), 101);
}

// ---- soft and hard ----

#[tokio::test(start_paused = true)] // P34
async fn after_a_soft_invalidation_the_next_reader_gets_it_stale_and_one_refresh_runs() {
    for scope in scopes() {
        let origin = tagged();
        let (app, cache) = with_cache(&origin);
        on_a(&app).await;
        pass(5.0).await;
        assert_eq!(invalidate(&cache, How::Expire, &scope).await, 1);
        settle().await;
        assert_eq!(origin.runs(), 1, "only a request starts a run");
        origin.only_the_first(1);
        for _ in 0..10 {
            let stale = on_a(&app).await;
            assert_eq!((stale.text(), stale.outcome().is_stale(), stale.field("age").as_str()), ("1", true, "5"));
            assert_eq!(stale.outcome().status(), CacheStatus::Hit);
        }
        settle().await;
        assert_eq!(origin.runs(), 2, "{scope:?}");
        origin.release();
        settle().await;
        let fresh = on_a(&app).await;
        assert_eq!((fresh.text(), fresh.outcome().is_stale()), ("2", false), "{scope:?}");
    }
}

#[tokio::test(start_paused = true)] // P34
async fn after_a_hard_invalidation_the_next_reader_waits() {
    for scope in scopes() {
        let origin = tagged();
        let (app, cache) = with_cache(&origin);
        on_a(&app).await;
        assert_eq!(invalidate(&cache, How::Purge, &scope).await, 1);
        settle().await;
        assert_eq!(origin.runs(), 1);
        let next = on_a(&app).await;
        assert_eq!((next.text(), next.outcome().status()), ("2", CacheStatus::UriMiss), "{scope:?}");
    }
}

/// An origin that answers well at first, and with failures from then on.
fn failing_after(runs: usize) -> Origin {
    Origin::new(move |seen| -> Response {
        match seen.run <= runs {
            true => seen.run.to_string().into_response(),
            false => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    })
}

#[tokio::test(start_paused = true)] // P22, P34
async fn a_failed_refresh_does_not_clear_the_mark() {
    let origin = failing_after(1);
    let (app, cache) = with_cache(&origin);
    get(&app, "/x").await;
    cache.expire_path("/x").await.expect("expired");
    for runs in 2..5 {
        let stale = get(&app, "/x").await;
        assert_eq!((stale.text(), stale.outcome().is_stale()), ("1", true));
        settle().await;
        assert_eq!(origin.runs(), runs);
        // Past the pause that a failure makes.
        pass(8.0).await;
    }
}

#[tokio::test(start_paused = true)] // P1, P34
async fn a_soft_invalidation_never_lengthens_a_life() {
    for (expired_at, read_at, is) in [
        (1.0, 119.9, "stale"),
        (1.0, 120.0, "instead"),
        (1.0, 239.9, "instead"),
        (1.0, 240.0, "gone"),
        (61.0, 119.9, "stale"),
        (119.0, 120.0, "instead"),
        (121.0, 240.0, "gone"),
        (239.0, 240.0, "gone"),
    ] {
        let (app, cache) = with_cache(&failing_after(1));
        get(&app, "/x").await;
        pass(expired_at).await;
        cache.expire_path("/x").await.expect("expired");
        pass(read_at - expired_at).await;
        let said = get(&app, "/x").await.outcome();
        let found = match said.status() {
            CacheStatus::Hit => "stale",
            CacheStatus::Stale if said.is_stale() => "instead",
            _ => "gone",
        };
        assert_eq!(found, is, "expired at {expired_at}, read at {read_at}");
    }
}

#[tokio::test(start_paused = true)] // P34
async fn what_may_not_be_served_stale_is_removed_by_the_soft_form_too() {
    let exact = Freshness::exact(secs(60));
    for (freshness, control, falls_back) in [
        (exact, "", false),
        (exact.stale_if_error(secs(60)), "", true),
        (Freshness::new(secs(60)), "max-age=60", false),
        (Freshness::new(secs(60)), "must-revalidate", false),
        (Freshness::new(secs(60)), "max-age=60, stale-if-error=60", true),
    ] {
        let origin = Origin::new(move |seen| -> Response {
            match seen.run {
                1 if control.is_empty() => "1".into_response(),
                1 => ([("cache-control", control)], "1").into_response(),
                _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            }
        });
        let cache = Cache::new();
        let app = origin.behind(cache.layer(freshness));
        get(&app, "/x").await;
        assert_eq!(cache.expire_path("/x").await.expect("expired").entries, 1);
        let next = get(&app, "/x").await;
        assert_eq!(origin.runs(), 2, "the next reader waits: {control:?}");
        assert_eq!(next.text() == "1", falls_back, "{control:?}");
    }
}

#[tokio::test(start_paused = true)] // P34
async fn a_purge_after_an_expiry_is_still_a_purge_and_an_expiry_after_a_purge_brings_nothing_back() {
    let origin = tagged();
    let (app, cache) = with_cache(&origin);
    get(&app, "/x").await;
    cache.expire_path("/x").await.expect("expired");
    cache.purge_path("/x").await.expect("purged");
    assert_eq!(cache.expire_path("/x").await.expect("expired").entries, 0);
    assert_eq!(get(&app, "/x").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P26, P34
async fn on_an_absent_key_an_invalidation_starts_nothing() {
    let origin = tagged();
    let (app, cache) = with_cache(&origin);
    for how in [How::Expire, How::Purge] {
        for scope in scopes() {
            assert_eq!(invalidate(&cache, how, &scope).await, 0);
        }
    }
    settle().await;
    assert_eq!(origin.runs(), 0);
    assert!(on_a(&app).await.outcome().is_stored());
}

// ---- runs under way: what races.rs leaves out ----

#[tokio::test(start_paused = true)] // P30, P31
async fn who_comes_between_two_purges_by_tag_gets_nothing_that_the_first_one_reaches() {
    let origin = tagged();
    let (app, cache) = with_cache(&origin);
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for _ in 0..2 {
        clients.get(&app, "/x", &[]).await;
        cache.purge_tag("x").await.expect("purged");
    }
    origin.release();
    assert_eq!(clients.answers().await.iter().map(Reply::text).collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test(start_paused = true)] // P22, P25
async fn a_failure_that_a_newer_success_overtook_puts_nothing_off() {
    // Runs in the background are held, and fail in the end.
    let origin = Origin::new(|seen| -> Response {
        match seen.background {
            true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            false => seen.run.to_string().into_response(),
        }
    });
    let held = Origin::counting();
    let (answering, gate) = (origin.clone(), held.clone());
    let slow = Router::new().fallback(move |request: axum::extract::Request| {
        let (origin, gate) = (answering.router(), gate.router());
        async move {
            if request.extensions().get::<cacheback::Background>().is_some() {
                get(&gate, "/").await;
            }
            tower::ServiceExt::oneshot(origin, request).await
        }
    });
    let cache = Cache::new();
    let app = slow.layer(layer(&cache).refresh_timeout(secs(600)));
    get(&app, "/x").await;
    pass(61.0).await;
    held.only_the_first(0);
    assert!(get(&app, "/x").await.outcome().is_stale());
    held.begun(1).await;
    cache.purge_path("/x").await.expect("purged");
    assert_eq!(get(&app, "/x").await.text(), "2");
    pass(60.0).await;
    held.release();
    settle().await;
    assert_eq!(origin.runs(), 3, "the refresh of what was purged has failed");
    let stale = get(&app, "/x").await;
    assert_eq!((stale.outcome().is_stale(), stale.outcome().detail()), (true, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)] // P30, P31
async fn on_many_threads_nobody_reads_what_was_made_before_a_purge_that_is_done() {
    const PURGES: u64 = 5_000;
    let (made, purged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // There is not room for all of it.
    let cache = Cache::builder().memory(200_000).build();
    let version = Arc::clone(&made);
    let handler = move || {
        let version = Arc::clone(&version);
        async move {
            let version = version.load(SeqCst);
            task::yield_now().await;
            ([("vary", "accept-language")], Extension(Tags::new(["all"])), version.to_string())
        }
    };
    let app = Router::new().fallback(handler).layer(layer(&cache));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (app, purged) = (app.clone(), Arc::clone(&purged));
        readers.spawn(async move {
            for n in reader.. {
                let least = purged.load(SeqCst);
                if least == PURGES {
                    break;
                }
                let page = if n % 3 == 0 { format!("/{reader}/{n}") } else { format!("/{}", n % 4) };
                let answer = get_with(&app, &page, &[("accept-language", &(n % 5).to_string())]).await;
                let got: u64 = answer.text().parse().expect("a number");
                assert!(got >= least, "{got} after the purge of {least}: {page}, {}", answer.said());
            }
        });
    }
    for version in 1..=PURGES {
        made.store(version, SeqCst);
        if version % 8 == 0 {
            cache.purge_path("/1").await.expect("purged");
        }
        let scope = if version % 8 == 1 { Scope::everything() } else { Scope::tag("all") };
        cache.purge(scope).await.expect("purged");
        purged.store(version, SeqCst);
        task::yield_now().await;
    }
    readers.join_all().await;
}
