//! What a refresh is, what it respects, and what its outcome does to what is stored.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing,
};
use cacheback::{Background, Cache, CacheStatus, CachebackLayer, Detail, Freshness, Key, NoStore};
use http::{Method, StatusCode, header};
use http_body::Body as _;
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer};

mod support;
use support::{
    routes::{chunks, get, request, send},
    typed::{Act, Down, Gate, Get, Origin, answers, ask, at_once, crowd, idle, layer, pass, secs},
};

/// Fresh for 10 s, stale at once for an hour, and two hours more should the service fail.
const LONG_STALE: Freshness = Freshness::new(secs(10)).stale_while_revalidate(secs(3_600)).stale_if_error(secs(10_800));

const MILLISECOND: Duration = Duration::from_millis(1);

tokio::task_local! {
    /// What a layer outside sets for the request it handles.
    static TENANT: &'static str;
}

/// What a handler finds in its request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    method: Method,
    background: bool,
    content: bool,
    extension: Option<&'static str>,
    task_local: bool,
}

#[derive(Clone)]
struct Tenant(&'static str);

// ---- the request ----

#[tokio::test(start_paused = true)] // P20
async fn the_request_that_found_the_entry_stale_is_the_one_re_run() {
    let (app, found) = app_that_looks(|| "hello".into_response());
    let ask = |method, tenant: &'static str| {
        let mut request = request(method, "/");
        request.extensions_mut().insert(Tenant(tenant));
        TENANT.scope(tenant, send(&app, request))
    };
    ask(Method::GET, "cold").await;
    pass(secs(15)).await;
    assert!(ask(Method::GET, "stale").await.outcome.is_stale());
    idle().await;
    pass(secs(15)).await;
    assert!(ask(Method::HEAD, "head").await.outcome.is_stale());
    idle().await;
    pass(secs(3_611)).await;
    assert_eq!(ask(Method::GET, "too stale").await.outcome.status(), CacheStatus::Stale);
    let seen = |tenant, background| Found {
        method: Method::GET,
        background,
        content: false,
        extension: Some(tenant),
        task_local: false,
    };
    let found = found.lock().unwrap().clone();
    assert_eq!(found, [seen("cold", false), seen("stale", true), seen("head", true), seen("too stale", false)]);
}

#[tokio::test(start_paused = true)] // P20, P40
async fn a_refresh_that_a_head_brought_about_stores_the_body_for_gets() {
    let (app, _) = app_that_looks(|| "hello".into_response());
    assert_eq!(get(&app, "/").await.text, "hello");
    pass(secs(15)).await;
    let head = at_once(send(&app, request(Method::HEAD, "/"))).await;
    assert!(head.outcome.is_stale());
    assert_eq!((head.text.as_str(), &head.headers[header::CONTENT_LENGTH]), ("", &"5".parse().unwrap()));
    idle().await;
    let fresh = get(&app, "/").await;
    assert_eq!((fresh.outcome.ttl(), fresh.text.as_str()), (Some(9), "hello"));
}

#[tokio::test(start_paused = true)] // P20
async fn a_request_that_is_not_cached_keeps_its_task_locals() {
    let (app, found) = app_that_looks(|| "hello".into_response());
    TENANT.scope("a", send(&app, request(Method::POST, "/"))).await;
    assert!(found.lock().unwrap()[0].task_local);
}

/// A route whose handler notes what it finds.
fn app_that_looks(respond: fn() -> Response) -> (Router, Arc<Mutex<Vec<Found>>>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&all);
    let handler = move |request: Request| {
        let found = Found {
            method: request.method().clone(),
            background: request.extensions().get::<Background>().is_some(),
            content: !request.body().is_end_stream(),
            extension: request.extensions().get::<Tenant>().map(|tenant| tenant.0),
            task_local: TENANT.try_with(|_| ()).is_ok(),
        };
        notes.lock().unwrap().push(found);
        std::future::ready(respond())
    };
    (Router::new().route("/", routing::any(handler)).layer(CachebackLayer::new(LONG_STALE)), all)
}

// ---- inner limits ----

#[tokio::test(start_paused = true)] // P21
async fn a_refresh_waits_for_the_permit_of_the_service() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let cached = layer().freshness(LONG_STALE);
    let service = ServiceBuilder::new().layer(cached.clone()).concurrency_limit(1).service(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(15)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let cold = crowd(&service, "cold", 1).await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    pass(secs(1)).await;
    assert_eq!(origin.runs(), 2, "the refresh has no permit yet");
    gate.open();
    assert_eq!(answers(cold).await, [2]);
    cached.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(3));
    assert_eq!(origin.at_most(), 1);
}

#[tokio::test(start_paused = true)] // P21
async fn under_a_limit_of_one_sixty_refreshes_take_turns() {
    let origin = Origin::new();
    let keys = keys(60);
    let cached = layer().freshness(LONG_STALE);
    let service = ServiceBuilder::new().layer(cached.clone()).concurrency_limit(1).service(origin.service());
    for key in &keys {
        ask(&service, key).await.unwrap();
    }
    pass(secs(15)).await;
    for key in &keys {
        at_once(ask(&service, key)).await.unwrap();
    }
    at_once(cached.cache().settled()).await;
    assert_eq!((origin.runs(), origin.at_most()), (120, 1));
    for key in &keys {
        assert!(ask(&service, key).await.unwrap() > 60);
    }
}

#[tokio::test(start_paused = true)] // P21, P13
async fn a_refresh_that_never_becomes_ready_is_given_up_at_its_deadline_and_strands_no_permit() {
    let origin = Origin::new();
    let cached = layer().freshness(LONG_STALE).refresh_timeout(secs(30));
    let service = ServiceBuilder::new().layer(cached.clone()).concurrency_limit(1).service(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(15)).await;
    origin.next_time(Act::Hang);
    let hung = crowd(&service, "cold", 1).await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    idle().await;
    assert_eq!(cached.cache().stats().runs, 2);
    pass(secs(30)).await;
    assert_eq!((origin.runs(), cached.cache().stats().runs), (2, 1), "the hung miss alone is left");
    drop(hung);
    pass(secs(60)).await;
    at_once(cached.cache().settled()).await;
    assert_eq!(at_once(ask(&service, "cold")).await, Ok(3), "the permit is free");
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    at_once(cached.cache().settled()).await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(4));
}

#[tokio::test(start_paused = true)] // P21
async fn a_refresh_that_is_aborted_in_the_service_strands_no_permit() {
    let origin = Origin::new();
    let cached = layer().freshness(LONG_STALE).refresh_timeout(secs(30));
    let service = ServiceBuilder::new().layer(cached.clone()).concurrency_limit(1).service(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    pass(secs(15)).await;
    origin.next_time(Act::Hang);
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    pass(secs(1)).await;
    assert_eq!(origin.under_way(), 1);
    pass(secs(30)).await;
    assert_eq!(at_once(ask(&service, "cold")).await, Ok(3));
}

#[tokio::test(start_paused = true)] // P21
async fn a_miss_that_is_left_while_it_waits_for_readiness_strands_nothing() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(0).build_for();
    let cached = layer().over_cache(&cache);
    let service = ServiceBuilder::new().layer(cached).concurrency_limit(1).service(origin.service());
    origin.next_time(Act::Hang);
    let hung = crowd(&service, "a", 1).await;
    drop(crowd(&service, "b", 3).await);
    idle().await;
    assert_eq!(cache.stats().runs, 1);
    drop(hung);
    idle().await;
    assert_eq!(at_once(ask(&service, "c")).await, Ok(2));
}

#[tokio::test(start_paused = true)] // P21
async fn refreshes_pass_a_buffer_and_leave_it_whole() {
    let origin = Origin::new();
    let cached = layer().freshness(LONG_STALE).refresh_timeout(secs(30));
    let service = ServiceBuilder::new()
        .layer(cached.clone())
        .layer_fn(|limited| Buffer::new(limited, 2))
        .concurrency_limit(1)
        .service(origin.service());
    assert_eq!(ask(&service, "k").await.unwrap(), 1);
    pass(secs(15)).await;
    assert_eq!(at_once(ask(&service, "k")).await.unwrap(), 1);
    at_once(cached.cache().settled()).await;
    assert_eq!(ask(&service, "k").await.unwrap(), 2);

    // Now one that hangs in the service, and others that fill the buffer behind it.
    pass(secs(15)).await;
    origin.next_time(Act::Hang);
    for key in ["k", "a", "b", "c", "d"] {
        let left = crowd(&service, key, 1).await;
        drop(left);
    }
    pass(secs(60)).await;
    at_once(cached.cache().settled()).await;
    for key in ["x", "y", "z", "k"] {
        at_once(ask(&service, key)).await.unwrap();
    }
    at_once(cached.cache().settled()).await;
}

#[tokio::test(start_paused = true)] // P21
async fn a_refresh_that_is_shed_leaves_the_entry_and_backs_off() {
    let origin = Origin::new();
    let cached = layer().freshness(LONG_STALE);
    let service =
        ServiceBuilder::new().layer(cached.clone()).load_shed().concurrency_limit(1).service(origin.service());
    assert_eq!(ask(&service, "k").await.unwrap(), 1);
    pass(secs(15)).await;
    origin.next_time(Act::Hang);
    let hung = crowd(&service, "cold", 1).await;
    assert_eq!(at_once(ask(&service, "k")).await.unwrap(), 1);
    idle().await;
    assert_eq!(cached.cache().stats().runs, 1, "the refresh is over");
    assert_eq!(at_once(ask(&service, "k")).await.unwrap(), 1, "and the entry is there");
    drop(hung);
    pass(secs(70)).await;
    assert_eq!(at_once(ask(&service, "k")).await.unwrap(), 1);
    at_once(cached.cache().settled()).await;
    assert_eq!(at_once(ask(&service, "k")).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)] // P21
async fn a_service_that_is_never_ready_hangs_nobody_but_its_misses() {
    let service = layer().freshness(LONG_STALE).refresh_timeout(secs(30)).layer(NeverReady);
    let mut cold = crowd(&service, "k", 10).await;
    pass(secs(5)).await;
    assert!(cold.try_join_next().is_none());
    cold.shutdown().await;
}

/// Panics when it is called, since it is never ready.
#[derive(Clone)]
struct NeverReady;

impl Service<Get> for NeverReady {
    type Response = u64;
    type Error = Down;
    type Future = std::future::Ready<Result<u64, Down>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Down>> {
        std::task::Poll::Pending
    }

    fn call(&mut self, _: Get) -> Self::Future {
        panic!("called though not ready")
    }
}

// ---- failures ----

#[tokio::test(start_paused = true)] // P22
async fn after_failures_the_pauses_double_from_one_second_to_a_minute() {
    for act in [Act::Fail, Act::Panic] {
        let origin = Origin::new();
        let service = layer().freshness(LONG_STALE).layer(origin.service());
        assert_eq!(ask(&service, "k").await, Ok(1));
        origin.always(act.clone());
        pass(secs(10)).await;
        assert_pauses(&origin, async || assert_eq!(at_once(ask(&service, "k")).await, Ok(1))).await;
    }
}

#[tokio::test(start_paused = true)] // P22
async fn a_deadline_is_a_failure() {
    let origin = Origin::new();
    let service = layer().freshness(LONG_STALE).refresh_timeout(MILLISECOND).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    pass(secs(10)).await;
    assert_pauses(&origin, async || assert_eq!(at_once(ask(&service, "k")).await, Ok(1))).await;
}

#[tokio::test(start_paused = true)] // P22
async fn a_deadline_is_a_failure_also_where_no_permit_is_free() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(0).build_for();
    let mut service =
        layer().over_cache(&cache).freshness(LONG_STALE).refresh_timeout(secs(30)).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Hang);
    tokio::time::advance(secs(4_000)).await;
    // The run begins a millisecond after its reader came, who is the first to see that its time is over.
    let mut reader = pin!(service.call(Get("k")));
    assert!(reader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    tokio::time::advance(MILLISECOND).await;
    assert_eq!(reader.await, Ok(1), "at the deadline");
    idle().await;
    assert_eq!((origin.runs(), origin.under_way()), (2, 0));
    assert_eq!(at_once(ask(&service, "k")).await, Ok(1), "in back-off");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P22
async fn too_stale_entries_back_off_as_well() {
    let origin = Origin::new();
    let service = layer().freshness(LONG_STALE).layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    origin.always(Act::Fail);
    pass(secs(4_000)).await;
    assert_pauses(&origin, async || assert_eq!(at_once(ask(&service, "k")).await, Ok(1))).await;
}

#[tokio::test(start_paused = true)] // P22
async fn server_errors_and_429_back_off() {
    for status in [429, 500, 502, 503, 504, 599] {
        let origin = Origin::new();
        let status = StatusCode::from_u16(status).unwrap();
        let app = app(&origin, CachebackLayer::new(LONG_STALE), move |run, _| match run {
            1 => "hello".into_response(),
            _ => status.into_response(),
        });
        get(&app, "/").await;
        pass(secs(10)).await;
        assert_pauses(&origin, async || assert_eq!(at_once(get(&app, "/")).await.text, "hello")).await;
    }
}

#[tokio::test(start_paused = true)] // P22
async fn a_failure_that_others_wait_for_backs_off_though_its_key_expired_meanwhile() {
    let (origin, layer, gate) = (Origin::new(), CachebackLayer::new(LONG_STALE), Gate::new());
    let app = app(&origin, layer.clone(), |run, _| match run {
        1 => "hello".into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    });
    get(&app, "/").await;
    pass(secs(4_000)).await;
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let readers: JoinSet<_> = [get(&app, "/"), get(&app, "/")].into_iter().collect();
    idle().await;
    layer.cache().expire_path("/").await.unwrap();
    gate.open();
    assert!(at_once(readers.join_all()).await.iter().all(|seen| seen.text == "hello"));
    assert_eq!(at_once(get(&app, "/")).await.text, "hello");
    assert_eq!(origin.runs(), 2, "too stale, and put off");
}

#[tokio::test(start_paused = true)] // P22
async fn a_failure_that_says_how_long_it_may_be_stored_replaces_nothing() {
    let origin = Origin::new();
    let layer = CachebackLayer::new(LONG_STALE).negative(StatusCode::BAD_GATEWAY, secs(60));
    let app = app(&origin, layer, |run, _| match run {
        1 => "hello".into_response(),
        2 => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CACHE_CONTROL, "max-age=60")]).into_response(),
        3 => (StatusCode::BAD_GATEWAY, [(header::SET_COOKIE, "a=b")]).into_response(),
        4 => (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, "no-store")]).into_response(),
        _ => StatusCode::BAD_GATEWAY.into_response(),
    });
    get(&app, "/").await;
    for _ in 0..5 {
        pass(secs(60)).await;
        assert_eq!(get(&app, "/").await.text, "hello");
        idle().await;
    }
    assert_eq!(origin.runs(), 6);
    assert_eq!(get(&app, "/").await.text, "hello");
}

#[tokio::test(start_paused = true)] // P22
async fn a_success_ends_the_back_off_and_the_next_failure_begins_anew() {
    let origin = Origin::new();
    let layer = layer().freshness(LONG_STALE);
    let service = layer.layer(origin.service());
    assert_eq!(ask(&service, "k").await, Ok(1));
    for _ in 0..2 {
        origin.always(Act::Fail);
        pass(secs(10)).await;
        assert_pauses(&origin, async || assert!(at_once(ask(&service, "k")).await.is_ok())).await;
        origin.always(Act::Answer);
        pass(secs(60)).await;
        ask(&service, "k").await.unwrap();
        layer.cache().settled().await;
        assert_eq!(ask(&service, "k").await, Ok(origin.runs()));
    }
}

#[tokio::test(start_paused = true)] // P22
async fn cold_misses_never_back_off() {
    let origin = Origin::that(Act::Fail);
    let service = layer().freshness(LONG_STALE).layer(origin.service());
    for run in 1..20 {
        assert_eq!(at_once(ask(&service, "k")).await, Err(Down(run)));
    }
    origin.always(Act::Answer);
    assert_eq!(at_once(ask(&service, "k")).await, Ok(20));
}

#[tokio::test(start_paused = true)] // P22
async fn other_client_errors_do_not_back_off() {
    for status in [400, 401, 403, 404, 405, 410, 418, 422, 451] {
        let origin = Origin::new();
        let status = StatusCode::from_u16(status).unwrap();
        // Two variants of one key: what happens to one shows in whether the other is refreshed.
        let app = app(&origin, CachebackLayer::new(LONG_STALE), move |run, request| {
            let bad = run > 2 && request.headers()["accept-language"] == "en";
            if bad { status.into_response() } else { ([(header::VARY, "accept-language")], "hello").into_response() }
        });
        let ask = |language: &str| {
            let mut request = request(Method::GET, "/");
            request.headers_mut().insert(header::ACCEPT_LANGUAGE, language.parse().unwrap());
            send(&app, request)
        };
        assert!(ask("en").await.outcome.is_stored());
        assert!(ask("eo").await.outcome.is_stored());
        pass(secs(10)).await;
        assert!(ask("en").await.outcome.is_stale());
        idle().await;
        assert_eq!(origin.runs(), 3);
        assert!(ask("eo").await.outcome.is_stale());
        idle().await;
        assert_eq!(origin.runs(), 4, "{status} must not keep the other variant from its refresh");
    }
}

/// Reads every 50 ms while all runs fail, and checks when runs are tried: after pauses of up to 1, 2, 4, … 60 s, of which
/// chance takes away up to half.
async fn assert_pauses(origin: &Origin, read: impl AsyncFn()) {
    let step = Duration::from_millis(50);
    let before = origin.runs();
    read().await;
    idle().await;
    idle().await;
    assert_eq!(origin.runs(), before + 1, "the first is tried at once");
    for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60].map(secs) {
        let (runs, mut pause) = (origin.runs(), Duration::ZERO);
        while origin.runs() == runs {
            // Each of the two waits for idleness takes a millisecond.
            tokio::time::advance(step - 2 * MILLISECOND).await;
            read().await;
            idle().await;
            idle().await;
            pause += step;
            assert!(pause <= longest + step, "the pause is over {longest:?}");
        }
        assert_eq!(origin.runs(), runs + 1);
        assert!(pause >= longest / 2, "after {pause:?} and not {longest:?}");
    }
}

// ---- outcomes ----

#[tokio::test(start_paused = true)] // P23
async fn a_refresh_that_may_not_be_stored_removes_the_stale_entry() {
    type Respond = fn() -> Response;
    let rows: [(&str, Respond); 22] = [
        ("no-store", || ([(header::CACHE_CONTROL, "no-store")], "new").into_response()),
        ("private", || ([(header::CACHE_CONTROL, "private")], "new").into_response()),
        ("no-cache", || ([(header::CACHE_CONTROL, "no-cache")], "new").into_response()),
        ("max-age=0", || ([(header::CACHE_CONTROL, "max-age=0")], "new").into_response()),
        ("set-cookie", || ([(header::SET_COOKIE, "a=b")], "new").into_response()),
        ("vary: *", || ([(header::VARY, "*")], "new").into_response()),
        ("the handler's no", || (axum::Extension(NoStore), "new").into_response()),
        ("www-authenticate", || ([(header::WWW_AUTHENTICATE, "Basic")], "new").into_response()),
        ("event stream", || ([(header::CONTENT_TYPE, "text/event-stream")], "new").into_response()),
        ("nonce", || ([(header::CONTENT_SECURITY_POLICY, "script-src 'nonce-1'")], "new").into_response()),
        ("one origin", || ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://a.example")], "new").into_response()),
        ("over the cap", || vec![b'x'; 2_000].into_response()),
        ("over the cap, of unknown length", || chunks(vec![vec![b'x'; 400]; 3], true).into_response()),
        ("206", || (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 0-2/9")], "new").into_response()),
        ("302", || (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response()),
        ("400", || StatusCode::BAD_REQUEST.into_response()),
        ("401", || StatusCode::UNAUTHORIZED.into_response()),
        ("403", || StatusCode::FORBIDDEN.into_response()),
        ("404", || StatusCode::NOT_FOUND.into_response()),
        ("407", || StatusCode::PROXY_AUTHENTICATION_REQUIRED.into_response()),
        ("410", || StatusCode::GONE.into_response()),
        ("418, no-store", || (StatusCode::IM_A_TEAPOT, [(header::CACHE_CONTROL, "no-store")]).into_response()),
    ];
    for (what, respond) in rows {
        for too_stale in [false, true] {
            let origin = Origin::new();
            let layer = CachebackLayer::new(LONG_STALE).body_cap(1_000);
            let app = app(&origin, layer, move |run, _| if run == 1 { "old".into_response() } else { respond() });
            assert!(get(&app, "/").await.outcome.is_stored());
            if too_stale {
                pass(secs(4_000)).await;
                let seen = get(&app, "/").await;
                assert_ne!(seen.text, "old", "{what}: it is an answer, not a failure");
                assert!(!seen.outcome.is_stored(), "{what}");
            } else {
                pass(secs(10)).await;
                assert_eq!(at_once(get(&app, "/")).await.text, "old");
                idle().await;
            }
            assert_eq!(origin.runs(), 2);
            let seen = get(&app, "/").await;
            assert_ne!(seen.text, "old", "{what}: the entry is still there");
            assert_eq!((seen.outcome.status(), origin.runs()), (CacheStatus::UriMiss, 3), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)] // P23
async fn a_refresh_whose_body_is_too_slow_removes_the_stale_entry() {
    let origin = Origin::new();
    let app = app(&origin, CachebackLayer::new(LONG_STALE), |run, _| match run {
        1 => "old".into_response(),
        2 => chunks([b"slow".to_vec()], false).into_response(),
        _ => "new".into_response(),
    });
    get(&app, "/").await;
    pass(secs(10)).await;
    assert_eq!(get(&app, "/").await.text, "old");
    idle().await;
    pass(secs(4)).await;
    assert_eq!(get(&app, "/").await.text, "old");
    pass(secs(1)).await;
    assert_eq!(get(&app, "/").await.text, "new");
}

#[tokio::test(start_paused = true)] // P23, P53
async fn a_refresh_whose_body_ends_early_leaves_the_stale_entry_and_backs_off() {
    let origin = Origin::new();
    let app = app(&origin, CachebackLayer::new(LONG_STALE), |run, _| match run {
        1 => "old".into_response(),
        _ => ([(header::CONTENT_LENGTH, "9")], chunks([b"short".to_vec()], true)).into_response(),
    });
    get(&app, "/").await;
    pass(secs(10)).await;
    assert_pauses(&origin, async || assert_eq!(at_once(get(&app, "/")).await.text, "old")).await;
}

#[tokio::test(start_paused = true)] // P23
async fn a_refresh_that_finds_nothing_replaces_the_entry_under_the_negative_rule() {
    for status in [StatusCode::NOT_FOUND, StatusCode::GONE] {
        let origin = Origin::new();
        let layer = CachebackLayer::new(LONG_STALE).negative(status, Freshness::exact(secs(5)));
        let app = app(&origin, layer, move |run, _| match run {
            1 => "old".into_response(),
            _ => (status, "nothing").into_response(),
        });
        get(&app, "/").await;
        pass(secs(10)).await;
        assert_eq!(get(&app, "/").await.text, "old");
        idle().await;
        pass(secs(4)).await;
        let negative = get(&app, "/").await;
        assert_eq!((negative.status, negative.outcome.status()), (status, CacheStatus::Hit));
        assert_eq!(origin.runs(), 2);
        pass(secs(1)).await;
        assert_eq!(get(&app, "/").await.outcome.status(), CacheStatus::Stale, "for 5 s, not for more");
        assert_eq!(origin.runs(), 3);
    }
}

#[tokio::test(start_paused = true)] // P23, P15
async fn a_refresh_that_became_personal_marks_its_key() {
    let origin = Origin::new();
    let app = app(&origin, CachebackLayer::new(LONG_STALE), |run, _| match run {
        1 => "old".into_response(),
        _ => ([(header::SET_COOKIE, "a=b")], "personal").into_response(),
    });
    get(&app, "/").await;
    pass(secs(10)).await;
    get(&app, "/").await;
    idle().await;
    origin.always(Act::Hang);
    for _ in 0..10 {
        drop(tokio::time::timeout(MILLISECOND, get(&app, "/")).await);
    }
    assert_eq!(origin.runs(), 12);
}

#[tokio::test(start_paused = true)] // P23
async fn a_replacement_by_a_redirect_that_may_be_stored_is_stored() {
    let origin = Origin::new();
    let app = app(&origin, CachebackLayer::new(LONG_STALE), |run, _| match run {
        1 => "old".into_response(),
        _ => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/new")]).into_response(),
    });
    get(&app, "/").await;
    pass(secs(10)).await;
    get(&app, "/").await;
    idle().await;
    let seen = get(&app, "/").await;
    assert_eq!((seen.status, seen.outcome.status()), (StatusCode::PERMANENT_REDIRECT, CacheStatus::Hit));
}

// ---- how many ----

#[tokio::test(start_paused = true)] // P24
async fn sixty_four_refreshes_run_at_once_and_the_others_are_dropped_and_counted() {
    let origin = Origin::new();
    let keys = keys(100);
    let layer = layer().freshness(LONG_STALE).refresh_timeout(secs(30));
    let service = layer.layer(origin.service());
    for key in &keys {
        ask(&service, key).await.unwrap();
    }
    origin.always(Act::Hang);
    pass(secs(10)).await;
    for key in &keys {
        at_once(ask(&service, key)).await.unwrap();
    }
    idle().await;
    assert_eq!(origin.under_way(), 64);
    assert_eq!(layer.cache().stats().refreshes_dropped, 36);

    origin.always(Act::Answer);
    pass(secs(31)).await;
    at_once(layer.cache().settled()).await;
    assert_eq!(origin.runs(), 164, "what was dropped was not queued");
    assert_eq!(at_once(ask(&service, keys[99])).await, Ok(100));
    at_once(layer.cache().settled()).await;
    assert_eq!(ask(&service, keys[99]).await, Ok(165), "it runs when it is asked for again");
}

#[tokio::test(start_paused = true)] // P24
async fn a_cache_may_be_told_how_many_refreshes_run_at_once() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(3).build_for();
    let service = layer().freshness(LONG_STALE).over_cache(&cache).layer(origin.service());
    let keys = keys(10);
    for key in &keys {
        ask(&service, key).await.unwrap();
    }
    origin.always(Act::Hang);
    pass(secs(10)).await;
    for key in &keys {
        at_once(ask(&service, key)).await.unwrap();
    }
    idle().await;
    assert_eq!((origin.under_way(), cache.stats().refreshes_dropped), (3, 7));
    origin.always(Act::Answer);
    assert_eq!(at_once(ask(&service, "miss")).await, Ok(14), "misses need no such permit");
}

#[tokio::test(start_paused = true)] // P24
async fn readers_of_a_stale_entry_that_is_being_refreshed_drop_nothing() {
    let origin = Origin::new();
    let layer = layer().freshness(LONG_STALE);
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    origin.always(Act::Hang);
    pass(secs(10)).await;
    assert_eq!(answers(crowd(&service, "k", 100).await).await, [1; 100]);
    assert_eq!((origin.under_way(), layer.cache().stats().refreshes_dropped), (1, 0));
}

#[tokio::test(start_paused = true)] // P13
async fn however_long_the_refresh_of_one_layer_may_take_readers_of_another_wait_no_longer_than_for_their_own() {
    let (hung, healthy, cache) = (Origin::new(), Origin::new(), Cache::builder().build_for());
    let layer = || layer().freshness(LONG_STALE).over_cache(&cache);
    let patient = layer().refresh_timeout(Duration::MAX).layer(hung.service());
    let brisk = layer().refresh_timeout(secs(5)).layer(healthy.service());
    assert_eq!(ask(&patient, "k").await, Ok(1));
    hung.always(Act::Hang);
    pass(secs(10)).await;
    for reader in [&patient, &brisk] {
        assert_eq!(at_once(ask(reader, "k")).await, Ok(1));
    }
    idle().await;
    assert_eq!((hung.under_way(), healthy.runs()), (1, 0), "one refreshes for both");
    pass(secs(11)).await;
    healthy.count_from(7);
    for reader in [&patient, &brisk] {
        assert_eq!(at_once(ask(reader, "k")).await, Ok(1));
        idle().await;
    }
    assert_eq!(at_once(ask(&patient, "k")).await, Ok(7));
    assert_eq!((hung.under_way(), healthy.runs()), (1, 1));
}

#[tokio::test(start_paused = true)] // P24
async fn a_run_that_is_cancelled_for_want_of_a_permit_is_no_refresh_that_was_dropped() {
    let origin = Origin::that(Act::Hang);
    let cache = Cache::builder().max_refreshes(0).build_for();
    let service = layer().over_cache(&cache).layer(origin.service());
    drop(crowd(&service, "k", 1).await);
    idle().await;
    assert_eq!((origin.runs(), origin.under_way()), (1, 0));
    assert_eq!(cache.stats().refreshes_dropped, 0);
}

#[tokio::test(start_paused = true)] // P24
async fn a_hung_route_leaves_refreshes_for_the_others_of_its_cache() {
    let (hung, healthy) = (Origin::new(), Origin::new());
    let cache = Cache::new();
    let route = |origin: &Origin, path: &str| {
        let handler = handler(origin, |run, _| run.to_string().into_response());
        Router::new().route(path, routing::get(handler)).layer(cache.layer(LONG_STALE))
    };
    let app = route(&hung, "/hung/{n}").merge(route(&healthy, "/healthy/{n}"));
    let paths = |route: &str| (0..100).map(|n| format!("/{route}/{n}")).collect::<Vec<_>>();
    for path in paths("hung").iter().chain(&paths("healthy")) {
        get(&app, path).await;
    }
    hung.always(Act::Hang);
    pass(secs(10)).await;
    for path in paths("hung") {
        assert!(at_once(get(&app, &path)).await.outcome.is_stale());
    }
    idle().await;
    assert_eq!(hung.under_way(), 32, "half of 64");
    let dropped = cache.stats().refreshes_dropped;
    assert_eq!(dropped, 68);
    for path in paths("healthy") {
        assert!(at_once(get(&app, &path)).await.outcome.is_stale());
        idle().await;
    }
    assert_eq!((healthy.runs(), cache.stats().refreshes_dropped), (200, dropped));
}

#[tokio::test(start_paused = true)] // P24
async fn clones_of_a_layer_and_its_services_have_one_share() {
    let origin = Origin::new();
    let cache = Cache::builder().max_refreshes(8).build_for();
    let one = layer().freshness(LONG_STALE).over_cache(&cache);
    let _other = layer().over_cache(&cache);
    let keys = keys(16);
    let services: Vec<_> = keys.iter().map(|_| one.clone().layer(origin.service())).collect();
    for (service, key) in services.iter().zip(&keys) {
        ask(service, key).await.unwrap();
    }
    origin.always(Act::Hang);
    pass(secs(10)).await;
    for (service, key) in services.iter().zip(&keys) {
        at_once(ask(service, key)).await.unwrap();
    }
    idle().await;
    assert_eq!(origin.under_way(), 4);
}

// ---- which one counts ----

#[tokio::test(start_paused = true)] // P22
async fn a_failure_after_a_purge_keeps_no_cold_miss_from_running() {
    let (origin, gate) = (Origin::new(), Gate::new());
    let layer = layer().freshness(LONG_STALE);
    let service = layer.layer(origin.service());
    ask(&service, "k").await.unwrap();
    origin.next_time(Act::FailAfter(gate.clone()));
    pass(secs(10)).await;
    ask(&service, "k").await.unwrap();
    idle().await;
    layer.cache().purge(Key::from("k")).await.unwrap();
    gate.open();
    layer.cache().settled().await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(3));
    layer.cache().expire(Key::from("k")).await.unwrap();
    assert_eq!(at_once(ask(&service, "k")).await, Ok(3));
    layer.cache().settled().await;
    assert_eq!(ask(&service, "k").await, Ok(4));
}

#[tokio::test(start_paused = true)] // P22, P49
async fn the_answer_during_a_back_off_says_so() {
    let origin = Origin::new();
    let app = app(&origin, CachebackLayer::new(LONG_STALE), |run, _| match run {
        1 => "hello".into_response(),
        _ => StatusCode::BAD_GATEWAY.into_response(),
    });
    get(&app, "/").await;
    pass(secs(10)).await;
    assert_eq!(get(&app, "/").await.outcome.detail(), None);
    idle().await;
    let seen = get(&app, "/").await;
    assert_eq!((seen.outcome.status(), seen.outcome.detail()), (CacheStatus::Hit, Some(Detail::BackOff)));
}

fn keys(count: usize) -> Vec<&'static str> {
    (0..count).map(|n| &*format!("key {n}").leak()).collect()
}

/// One route over an origin that gives each run its number.
fn app<F>(origin: &Origin, layer: CachebackLayer, respond: F) -> Router
where
    F: Fn(u64, &Request) -> Response + Clone + Send + Sync + 'static,
{
    Router::new().route("/", routing::get(handler(origin, respond))).layer(layer)
}

fn handler<F>(
    origin: &Origin,
    respond: F,
) -> impl Fn(Request) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + Sync + 'static
where
    F: Fn(u64, &Request) -> Response + Clone + Send + Sync + 'static,
{
    let origin = origin.service();
    move |request| {
        let (origin, respond) = (origin.service(), respond.clone());
        Box::pin(async move {
            let run = origin.oneshot(Get("/")).await;
            run.map_or(StatusCode::SERVICE_UNAVAILABLE.into_response(), |run| respond(run, &request))
        })
    }
}

// ---- ahead of expiry ----

/// A layer whose entries are refreshed early at their first read: so large a beta makes any lot a long head start.
fn eager() -> support::typed::TypedLayer {
    layer().freshness(LONG_STALE).early_refresh(1e9)
}

/// Lets a run take a second.
async fn slow_run(service: &(impl Service<Get, Response = u64, Error = Down> + Clone), origin: &Origin) -> u64 {
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    let mut answer = pin!(ask(service, "k"));
    assert!(tokio::time::timeout(secs(1), &mut answer).await.is_err());
    gate.open();
    answer.await.unwrap()
}

#[tokio::test(start_paused = true)] // P8
async fn an_early_refresh_happens_once_for_what_is_stored_and_readers_get_fresh_responses_meanwhile() {
    let (origin, layer, gate) = (Origin::new(), eager(), Gate::new());
    let service = layer.layer(origin.service());
    assert_eq!(slow_run(&service, &origin).await, 1);
    origin.next_time(Act::AnswerAfter(gate.clone()));
    for _ in 0..100 {
        assert_eq!(at_once(ask(&service, "k")).await, Ok(1));
    }
    idle().await;
    assert_eq!((origin.runs(), layer.cache().stats().hits, layer.cache().stats().refreshes), (2, 100, 1));
    gate.open();
    idle().await;
    assert_eq!(at_once(ask(&service, "k")).await, Ok(2));
}

#[tokio::test(start_paused = true)] // P8
async fn an_early_refresh_that_fails_leaves_the_entry_fresh_and_is_not_tried_again() {
    let (origin, layer) = (Origin::new(), eager());
    let service = layer.layer(origin.service());
    slow_run(&service, &origin).await;
    for act in [Act::Fail, Act::Answer] {
        origin.next_time(act);
    }
    for _ in 0..10 {
        assert_eq!(ask(&service, "k").await, Ok(1));
        idle().await;
    }
    assert_eq!(origin.runs(), 2);
    pass(secs(10)).await;
    assert_eq!(ask(&service, "k").await, Ok(1), "stale, and refreshed as usual");
    idle().await;
    assert_eq!((ask(&service, "k").await, origin.runs()), (Ok(3), 3));
}

#[tokio::test(start_paused = true)] // P3, P8
async fn nothing_is_refreshed_early_unless_it_is_asked_for_or_where_runs_cost_nothing() {
    for layer in [layer().freshness(LONG_STALE), eager()] {
        let origin = Origin::new();
        let service = layer.layer(origin.service());
        for _ in 0..50 {
            ask(&service, "k").await.unwrap();
        }
        idle().await;
        assert_eq!(origin.runs(), 1);
    }
}

#[tokio::test(start_paused = true)] // P8, P24
async fn an_early_refresh_that_finds_no_permit_is_dropped_and_tried_by_the_next_reader() {
    let (origin, cache) = (Origin::new(), Cache::builder().max_refreshes(1).build_for());
    let layer = eager().over_cache(&cache);
    let service = layer.layer(origin.service());
    slow_run(&service, &origin).await;
    ask(&service, "other").await.unwrap();
    cache.expire(Key::from("other")).await.unwrap();
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    ask(&service, "other").await.unwrap();
    idle().await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    assert_eq!((origin.runs(), cache.stats().refreshes_dropped), (3, 1));
    gate.open();
    idle().await;
    assert_eq!(ask(&service, "k").await, Ok(1));
    idle().await;
    assert_eq!(ask(&service, "k").await, Ok(4));
}

#[tokio::test(start_paused = true)] // P8
async fn jitter_spreads_what_was_stored_together_and_lengthens_no_life() {
    let origin = support::http::Origin::counting();
    let layer = CachebackLayer::new(Freshness::exact(secs(100))).jitter(0.5);
    let app = origin.behind(layer.clone());
    let pages: Vec<_> = (0..200).map(|page| format!("/{page}")).collect();
    for page in &pages {
        support::http::get(&app, page).await;
    }
    let stored = layer.cache().peek(cacheback::Scope::everything());
    let lives: Vec<_> = stored.iter().map(|page| page.freshness().lifetime()).collect();
    assert_eq!(lives.len(), pages.len());
    assert!(lives.iter().all(|life| (secs(50)..=secs(100)).contains(life)), "{lives:?}");
    // 200 lots: that they all fall into one half of their range is as good as impossible.
    assert!(lives.iter().any(|life| *life < secs(75)) && lives.iter().any(|life| *life > secs(75)), "{lives:?}");
    assert!(layer.cache().peek(cacheback::Scope::everything()).iter().all(|page| page.is_fresh()));
    support::http::pass(100.0).await;
    assert!(layer.cache().peek(cacheback::Scope::everything()).is_empty());
}

#[test] // P92
fn nonsense_is_refused_where_it_is_said() {
    use std::panic::catch_unwind;
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(catch_unwind(|| drop(layer().early_refresh(beta))).is_err(), "{beta}");
    }
    for part in [-0.1, 1.1, f64::NAN] {
        assert!(catch_unwind(|| drop(layer().jitter(part))).is_err(), "{part}");
    }
}
