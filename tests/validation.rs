//! What is stored is validated: the service is asked whether it is still what it would answer, and a 304 brings it up to
//! date (RFC 9111 §4.3).

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, ForceRefresh, Freshness, Http, NoStore, Tags};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use support::http::{Clients, Origin, Reply, Seen, get, get_with, headers, pass, request, secs, send};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// A page of the service: what its 200 says, and what its 304 says.
#[derive(Clone, Debug)]
struct Page {
    whole: HeaderMap,
    unchanged: HeaderMap,
    body: &'static str,
}

/// A service that answers 304 where the request has the entity tag of the page, or the date where there is no tag.
#[derive(Clone)]
struct Service {
    page: Arc<Mutex<Page>>,
    origin: Origin,
}

impl Service {
    fn new(whole: &[(&str, &str)], unchanged: &[(&str, &str)]) -> Self {
        let page = Page { whole: headers(whole), unchanged: headers(unchanged), body: "the first" };
        let page = Arc::new(Mutex::new(page));
        let shown = Arc::clone(&page);
        let origin = Origin::new(move |seen| shown.lock().expect("no test panics with it").answer(seen));
        Self { page, origin }
    }

    fn behind(&self, layer: CachebackLayer<Http>) -> Router {
        self.origin.behind(layer)
    }

    fn change(&self, change: impl FnOnce(&mut Page)) {
        change(&mut self.page.lock().expect("no test panics with it"));
    }

    /// The conditions that the last run asked with.
    fn asked(&self) -> (String, String) {
        let last = self.origin.last();
        (last.field("if-none-match"), last.field("if-modified-since"))
    }

    /// The conditions of all runs but the first.
    fn tags_asked(&self) -> Vec<String> {
        self.origin.seen()[1..].iter().map(|seen| seen.field("if-none-match")).collect()
    }
}

impl Page {
    fn answer(&self, seen: &Seen) -> Response {
        let has = |asked: &str, stated: &str| {
            seen.headers.get(asked).is_some_and(|asked| Some(asked) == self.whole.get(stated))
        };
        let unchanged = match seen.headers.contains_key("if-none-match") {
            true => has("if-none-match", "etag"),
            false => has("if-modified-since", "last-modified"),
        };
        if unchanged {
            (StatusCode::NOT_MODIFIED, self.unchanged.clone()).into_response()
        } else {
            (self.whole.clone(), self.body).into_response()
        }
    }
}

/// A page that lives for ten seconds and has a tag.
fn tagged() -> Service {
    Service::new(&[("etag", "\"1\""), ("cache-control", "max-age=10")], &[("cache-control", "max-age=10")])
}

/// A response whose handler says this of it. (With feature `axum` it would say so in parts of the response.)
fn saying((tags, freshness): (Tags, Freshness), response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.extensions_mut().insert(tags);
    response.extensions_mut().insert(freshness);
    response
}

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

fn layer() -> CachebackLayer<Http> {
    CachebackLayer::http()
}

async fn outcome(app: &Router) -> String {
    get(app, "/x").await.said()
}

fn assert_hit(reply: &Reply) {
    assert_eq!(reply.outcome().status(), CacheStatus::Hit, "{}", reply.said());
}

// ---- asking ----

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_a_stale_response_is_asked_about_by_its_validators() {
    for (validators, asked) in [
        (&[("etag", "\"1\"")][..], ("\"1\"", "")),
        (&[("etag", "W/\"1\"")], ("W/\"1\"", "")),
        (&[("last-modified", EARLY)], ("", EARLY)),
        (&[("etag", "\"1\""), ("last-modified", EARLY)], ("\"1\"", EARLY)),
        (&[("etag", "1"), ("last-modified", EARLY)], ("", EARLY)),
    ] {
        let fields = [validators, &[("cache-control", "max-age=10")]].concat();
        let service = Service::new(&fields, &[("cache-control", "max-age=10"), ("x-told", "later")]);
        let app = service.behind(layer());
        let first = get(&app, "/x").await;
        assert!(!first.has("x-told"));
        pass(10.0).await;
        let validated = get(&app, "/x").await;
        assert_eq!(service.asked(), (asked.0.to_owned(), asked.1.to_owned()));
        assert_eq!(validated.said(), "fwd=stale; fwd-status=304; stored");
        assert_eq!((validated.status, validated.text()), (StatusCode::OK, "the first"));
        assert_eq!(validated.field("x-told"), "later");
        pass(9.0).await;
        let hit = get(&app, "/x").await;
        assert_hit(&hit);
        assert_eq!((hit.text(), &*hit.field("x-told"), &*hit.field("age")), ("the first", "later", "9"));
        assert_eq!(service.origin.runs(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_1_without_a_validator_nothing_is_asked_and_nothing_is_kept_for_it() {
    for fields in [&[][..], &[("etag", "1")], &[("last-modified", "yesterday")], &[("etag", "\"1\", \"2\"")]] {
        let service = Service::new(&[fields, &[("cache-control", "max-age=10")]].concat(), &[]);
        let app = service.behind(layer());
        get(&app, "/x").await;
        pass(10.0).await;
        assert_eq!(get(&app, "/x").await.outcome().forward_status(), Some(200));
        assert_eq!(service.asked(), Default::default());
    }
}

#[tokio::test(start_paused = true)] // RFC 9110 §13.2.1: a condition is about a response that would be a success.
async fn rfc9111_4_3_1_an_error_is_not_asked_about() {
    let origin = Origin::new(|_| {
        (StatusCode::NOT_FOUND, headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]), "not here")
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    assert_hit(&get(&app, "/x").await);
    pass(10.0).await;
    get(&app, "/x").await;
    assert_eq!((origin.runs(), &*origin.last().field("if-none-match")), (2, ""));
}

#[tokio::test(start_paused = true)] // P5 P20
async fn rfc5861_3_behind_the_reader_of_a_stale_response_the_service_is_asked_as_well() {
    for layer in [layer(), CachebackLayer::new(secs(10))] {
        let whole = [("etag", "\"1\""), ("cache-control", "max-age=10, stale-while-revalidate=60")];
        let service = Service::new(&whole, &whole);
        let app = service.behind(layer.clone());
        get(&app, "/x").await;
        pass(10.0).await;
        assert!(get(&app, "/x").await.outcome().is_stale());
        layer.cache().settled().await;
        assert_eq!(service.asked().0, "\"1\"");
        let hit = get(&app, "/x").await;
        assert_hit(&hit);
        assert_eq!((hit.text(), &*hit.field("age"), service.origin.runs()), ("the first", "0", 2));
    }
}

#[tokio::test(start_paused = true)] // P1
async fn a_page_that_says_nothing_lives_for_another_lifetime_of_its_layer() {
    let service = Service::new(&[("etag", "\"1\"")], &[]);
    let app = service.behind(CachebackLayer::new(Freshness::exact(secs(10))));
    get(&app, "/x").await;
    for runs in 2..5 {
        pass(10.0).await;
        assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
        assert_hit(&get(&app, "/x").await);
        assert_eq!(service.origin.runs(), runs);
    }
}

#[tokio::test(start_paused = true)] // P8
async fn an_early_refresh_asks_as_well() {
    let service = tagged();
    service.origin.only_the_first(0);
    let layer = CachebackLayer::new(secs(10)).early_refresh(1e9);
    let app = service.behind(layer.clone());
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    pass(2.0).await; // What costs time is refreshed early.
    service.origin.release();
    clients.answers().await;
    for _ in 0..100 {
        assert_hit(&get(&app, "/x").await);
    }
    layer.cache().settled().await;
    assert_eq!(service.tags_asked(), ["\"1\""]);
}

#[tokio::test(start_paused = true)] // P26
async fn one_who_asks_for_a_new_response_is_not_content_with_the_old_one() {
    let service = tagged();
    let app = service.behind(layer());
    get(&app, "/x").await;
    let mut forced = request("GET", "/x", &[]);
    forced.extensions_mut().insert(ForceRefresh);
    assert_eq!(send(&app, forced).await.said(), "fwd=request; fwd-status=200; stored");
    assert_eq!(service.tags_asked(), [""]);
}

#[tokio::test(start_paused = true)] // P66
async fn a_clients_own_conditions_take_no_part_in_it() {
    let service = tagged();
    let app = service.behind(layer());
    // On a miss they are taken off, and evaluated against what came.
    let foreign = [("if-none-match", "\"2\""), ("if-modified-since", LATER)];
    assert_eq!(get_with(&app, "/x", &foreign).await.status, StatusCode::OK);
    assert_eq!(service.asked(), Default::default());
    pass(10.0).await;
    assert_eq!(get_with(&app, "/x", &foreign).await.text(), "the first");
    assert_eq!(service.asked(), ("\"1\"".into(), String::new()));
    pass(10.0).await;
    let same = get_with(&app, "/x", &[("if-none-match", "\"1\"")]).await;
    assert_eq!((same.status, same.text()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(same.said(), "fwd=stale; fwd-status=304; stored");
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_each_variant_is_asked_about_by_its_own_validator() {
    let origin = Origin::new(|seen| {
        let language = seen.field("accept-language");
        let fields = headers(&[("etag", &format!("\"{language}\"")), ("vary", "accept-language")]);
        match seen.headers.get("if-none-match") == fields.get("etag") {
            true => (StatusCode::NOT_MODIFIED, fields).into_response(),
            false => (fields, language).into_response(),
        }
    });
    let app = origin.behind(CachebackLayer::new(Freshness::exact(secs(10))));
    for status in [200, 304] {
        for language in ["de", "en"] {
            let reply = get_with(&app, "/x", &[("accept-language", language)]).await;
            assert_eq!((reply.outcome().forward_status(), reply.text()), (Some(status), language));
        }
        pass(10.0).await;
    }
    assert_eq!(
        origin.seen().iter().map(|seen| seen.field("if-none-match")).collect::<Vec<_>>(),
        ["", "", "\"de\"", "\"en\""]
    );
}

// ---- what nobody may have unvalidated ----

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_4_with_no_cache_each_reader_has_it_validated() {
    for layer in [layer(), CachebackLayer::new(secs(60))] {
        for said in ["no-cache", "no-cache, max-age=60", "max-age=60, stale-while-revalidate=60, NO-CACHE"] {
            let service = Service::new(&[("etag", "\"1\""), ("cache-control", said)], &[("cache-control", said)]);
            let app = service.behind(layer.clone().namespace(said));
            assert_eq!(outcome(&app).await, "fwd=uri-miss; fwd-status=200; stored");
            for _ in 0..3 {
                assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
            }
            service.change(|page| {
                page.whole.insert("etag", "\"2\"".parse().expect("a value"));
                page.body = "the second";
            });
            let changed = get(&app, "/x").await;
            assert_eq!((changed.said().as_str(), changed.text()), ("fwd=stale; fwd-status=200; stored", "the second"));
            assert_eq!(get(&app, "/x").await.text(), "the second");
            assert_eq!(service.tags_asked(), ["\"1\"", "\"1\"", "\"1\"", "\"1\"", "\"2\""]);
        }
    }
}

#[tokio::test(start_paused = true)] // P15
async fn rfc9111_5_2_2_4_with_no_cache_readers_do_not_wait_for_one_another() {
    let service = Service::new(&[("etag", "\"1\""), ("cache-control", "no-cache")], &[("cache-control", "no-cache")]);
    let app = service.behind(layer());
    service.origin.only_the_first(0);
    let mut clients = Clients::new();
    for _ in 0..20 {
        clients.get(&app, "/x", &[]).await;
    }
    assert_eq!(service.origin.runs(), 1, "nobody knows yet");
    service.origin.only_the_first(1);
    service.origin.begun(20).await;
    for _ in 0..20 {
        clients.get(&app, "/x", &[]).await;
    }
    service.origin.begun(39).await;
    service.origin.release();
    for reply in clients.answers().await {
        assert_eq!(reply.text(), "the first");
        assert!(!reply.outcome().is_collapsed());
    }
    assert!(service.tags_asked().iter().all(|asked| asked == "\"1\""));
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_4_with_no_cache_a_failure_is_not_covered_up() {
    let fails = Arc::new(AtomicUsize::new(0));
    let failing = Arc::clone(&fails);
    let origin = Origin::new(move |seen| match failing.load(SeqCst) {
        0 if seen.headers.contains_key("if-none-match") => StatusCode::NOT_MODIFIED.into_response(),
        0 => (headers(&[("etag", "\"1\""), ("cache-control", "no-cache, stale-if-error=60")]), "page").into_response(),
        _ => StatusCode::BAD_GATEWAY.into_response(),
    });
    let app = origin.behind(CachebackLayer::new(secs(60)));
    get(&app, "/x").await;
    fails.store(1, SeqCst);
    assert_eq!(get(&app, "/x").await.status, StatusCode::BAD_GATEWAY);
    fails.store(0, SeqCst);
    // What was stored is as good as before: there was nothing said about it.
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
}

#[tokio::test(start_paused = true)]
async fn rfc9111_5_4_pragma_alone_is_taken_at_its_word() {
    let service = Service::new(&[("etag", "\"1\""), ("pragma", "no-cache")], &[("pragma", "no-cache")]);
    let app = service.behind(CachebackLayer::new(secs(60)));
    get(&app, "/x").await;
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_5_2_2_2_what_must_be_revalidated_is() {
    for must in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
        let said = format!("max-age=10, stale-while-revalidate=0, {must}");
        let service = Service::new(&[("etag", "\"1\""), ("cache-control", &said)], &[]);
        let app = service.behind(CachebackLayer::new(secs(60)).stale_windows_for_all());
        get(&app, "/x").await;
        pass(10.0).await;
        assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored", "{must}");
    }
}

// ---- what a 304 does ----

#[tokio::test(start_paused = true)]
async fn rfc9111_3_2_a_304_replaces_the_fields_that_it_has_and_leaves_the_others() {
    let whole = [
        ("etag", "\"1\""),
        ("cache-control", "max-age=10"),
        ("x-old", "1"),
        ("x-both", "old 1"),
        ("x-both", "old 2"),
        ("content-type", "text/plain"),
        ("content-length", "9"),
        ("x-request-id", "first"),
    ];
    let unchanged = [
        ("x-both", "new"),
        ("x-new", "1"),
        ("x-new", "2"),
        ("cache-control", "max-age=100"),
        ("content-length", "0"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "1"),
        ("proxy-authenticate", "1"),
        ("x-request-id", "second"),
    ];
    let service = Service::new(&whole, &unchanged);
    let app = service.behind(layer().exchange_headers(["x-request-id"]));
    get(&app, "/x").await;
    pass(10.0).await;
    let validated = get(&app, "/x").await;
    pass(99.0).await;
    let hit = get(&app, "/x").await;
    assert_hit(&hit);
    for reply in [validated, hit] {
        for (name, value) in [
            ("etag", "\"1\""),
            ("cache-control", "max-age=100"),
            ("x-old", "1"),
            ("x-both", "new"),
            ("x-new", "1|2"),
            ("content-type", "text/plain"),
            ("content-length", "9"),
        ] {
            assert_eq!(reply.field(name), value, "{name}");
        }
        for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
            assert!(!reply.has(name), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_4_a_304_without_a_validator_speaks_of_what_was_asked_about() {
    for validator in [("etag", "\"1\""), ("last-modified", EARLY)] {
        let service = Service::new(&[validator, ("cache-control", "max-age=10")], &[]);
        let app = service.behind(layer());
        get(&app, "/x").await;
        pass(10.0).await;
        assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
        assert_hit(&get(&app, "/x").await);
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_4_a_304_that_names_another_representation_updates_nothing() {
    for (whole, told, same) in [
        (("etag", "\"1\""), ("etag", "\"2\""), false),
        (("etag", "\"1\""), ("etag", "W/\"1\""), true),
        // A strong tag is of what has it, to the byte.
        (("etag", "W/\"1\""), ("etag", "\"1\""), false),
        (("last-modified", EARLY), ("last-modified", LATER), false),
        (("last-modified", EARLY), ("last-modified", EARLY), true),
        (("last-modified", EARLY), ("etag", "\"1\""), false),
        (("last-modified", EARLY), ("etag", "W/\"1\""), true),
    ] {
        let service = Service::new(&[whole, ("cache-control", "max-age=10")], &[told, ("x-told", "1")]);
        let app = service.behind(layer());
        get(&app, "/x").await;
        pass(10.0).await;
        let reply = get(&app, "/x").await;
        assert_eq!(reply.text(), "the first", "{whole:?} {told:?}");
        assert_eq!(reply.has("x-told"), same, "{whole:?} {told:?}");
        let again = get(&app, "/x").await;
        assert_eq!(again.outcome().status() == CacheStatus::Hit, same, "{whole:?} {told:?}: {}", again.said());
    }
}

#[tokio::test(start_paused = true)] // P1
async fn rfc9111_4_2_3_the_age_begins_anew_with_the_run_and_with_what_the_304_says() {
    let service = Service::new(&[("etag", "\"1\""), ("cache-control", "max-age=10")], &[("age", "4")]);
    let app = service.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    get(&app, "/x").await;
    pass(5.9).await;
    let hit = get(&app, "/x").await;
    assert_hit(&hit);
    assert_eq!(hit.field("age"), "9");
    pass(0.1).await;
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
}

#[tokio::test(start_paused = true)] // P23
async fn a_304_that_forbids_storing_takes_away_what_is_stored() {
    for said in ["no-store", "private"] {
        let service = Service::new(&[("etag", "\"1\""), ("cache-control", "max-age=10")], &[("cache-control", said)]);
        let layer = layer();
        let app = service.behind(layer.clone());
        get(&app, "/x").await;
        pass(10.0).await;
        let reply = get(&app, "/x").await;
        assert_eq!((reply.text(), reply.outcome().is_stored()), ("the first", false));
        get(&app, "/x").await;
        assert_eq!(service.asked(), Default::default());
    }
}

#[tokio::test(start_paused = true)] // P23
async fn a_handler_says_of_a_304_what_it_says_of_any_response() {
    let origin = Origin::new(|seen| match seen.run {
        1 => saying((Tags::new(["old"]), Freshness::exact(secs(10))), ([("etag", "\"1\"")], "page")),
        2 => (StatusCode::NOT_MODIFIED, [("x-run", "2")]).into_response(),
        3 => saying((Tags::new(["new"]), Freshness::exact(secs(30))), StatusCode::NOT_MODIFIED),
        _ => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            response.extensions_mut().insert(NoStore);
            response
        }
    });
    let layer = CachebackLayer::new(Freshness::exact(secs(1)));
    let app = origin.behind(layer.clone());
    get(&app, "/x").await;
    pass(10.0).await;
    get(&app, "/x").await;
    // What it does not say again stays as it was.
    pass(9.9).await;
    assert_hit(&get(&app, "/x").await);
    layer.cache().expire_tag("old").await.expect("it is stored");
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
    pass(29.9).await;
    assert_hit(&get(&app, "/x").await);
    layer.cache().expire_tag("old").await.expect("nothing has it");
    assert_hit(&get(&app, "/x").await);
    layer.cache().expire_tag("new").await.expect("it is stored");
    let refused = get(&app, "/x").await;
    assert_eq!((refused.outcome().detail(), refused.text()), (Some(Detail::HandlerSaidNo), "page"));
    get(&app, "/x").await;
    assert_eq!(origin.last().field("if-none-match"), "", "it is stored no more");
}

#[tokio::test(start_paused = true)] // P8
async fn a_lifetime_that_a_304_leaves_as_it_was_is_not_made_shorter_each_time() {
    let origin = Origin::new(|seen| match seen.run {
        1 => saying((Tags::default(), Freshness::exact(secs(100))), ([("etag", "\"1\"")], "page")),
        _ => StatusCode::NOT_MODIFIED.into_response(),
    });
    let layer = CachebackLayer::new(secs(1)).jitter(0.5);
    let app = origin.behind(layer.clone());
    get(&app, "/x").await;
    for _ in 0..30 {
        layer.cache().expire_path("/x").await.expect("there is no store");
        assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
    }
    pass(49.0).await;
    assert_hit(&get(&app, "/x").await);
}

#[tokio::test(start_paused = true)]
async fn a_304_that_nobody_asked_for_is_the_answer_of_one_and_stored_for_nobody() {
    let origin = Origin::new(|_| (StatusCode::NOT_MODIFIED, headers(&[("cache-control", "max-age=60")])));
    let app = origin.behind(layer());
    for _ in 0..2 {
        let reply = get(&app, "/x").await;
        assert_eq!((reply.status, reply.outcome().is_stored()), (StatusCode::NOT_MODIFIED, false));
    }
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_3_any_other_final_response_replaces_what_is_stored() {
    let service = tagged();
    let app = service.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    service.change(|page| {
        page.whole = headers(&[("etag", "\"2\""), ("cache-control", "max-age=10"), ("x-new", "1")]);
        page.body = "the second";
    });
    let replaced = get(&app, "/x").await;
    assert_eq!((replaced.said().as_str(), replaced.text()), ("fwd=stale; fwd-status=200; stored", "the second"));
    let hit = get(&app, "/x").await;
    assert_hit(&hit);
    assert_eq!((hit.text(), &*hit.field("x-new")), ("the second", "1"));
}

#[tokio::test(start_paused = true)] // P22
async fn rfc9111_4_3_3_a_failure_says_nothing_about_what_is_stored() {
    let service = tagged();
    let fails = Arc::new(AtomicUsize::new(0));
    let (page, failing) = (Arc::clone(&service.page), Arc::clone(&fails));
    let origin = Origin::new(move |seen| match failing.load(SeqCst) {
        0 => page.lock().expect("no test panics with it").answer(seen),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    fails.store(1, SeqCst);
    for _ in 0..3 {
        assert_eq!(get(&app, "/x").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(origin.runs(), 4, "there is nothing to serve meanwhile, so nothing is put off");
    fails.store(0, SeqCst);
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
}

// ---- runs and invalidations ----

#[tokio::test(start_paused = true)] // P10
async fn all_who_wait_for_the_answer_get_what_it_confirmed() {
    let service = tagged();
    let app = service.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    service.origin.only_the_first(1);
    let mut clients = Clients::new();
    for _ in 0..50 {
        clients.get(&app, "/x", &[]).await;
    }
    service.origin.release();
    for (index, reply) in clients.answers().await.into_iter().enumerate() {
        let collapsed = if index > 0 { "; collapsed" } else { "" };
        assert!(reply.said().starts_with("fwd=stale; fwd-status=304;"), "{}", reply.said());
        assert!(reply.said().contains(collapsed) && reply.text() == "the first");
    }
    assert_eq!(service.origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P30 P31 P46
async fn a_304_never_revives_what_was_invalidated_meanwhile() {
    for purge in [true, false] {
        let service = tagged();
        let layer = layer();
        let (app, cache) = (service.behind(layer.clone()), layer.cache().clone());
        get(&app, "/x").await;
        pass(10.0).await;
        service.origin.only_the_first(1);
        let mut clients = Clients::new();
        clients.get(&app, "/x", &[]).await;
        if purge { cache.purge_path("/x").await } else { cache.expire_path("/x").await }.expect("there is no store");
        service.origin.release();
        let waited = clients.answers().await.remove(0);
        assert_eq!((waited.text(), waited.outcome().detail()), ("the first", Some(Detail::Invalidated)));
        let later = get(&app, "/x").await;
        assert_ne!(later.outcome().status(), CacheStatus::Hit);
        // What was purged is not asked about: somebody wanted it gone.
        assert_eq!(service.asked().0, if purge { "" } else { "\"1\"" });
    }
}

#[tokio::test(start_paused = true)] // P25
async fn a_304_about_what_a_later_run_has_replaced_changes_nothing() {
    let (release, released) = tokio::sync::watch::channel(false);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let service = tower::service_fn(move |_: http::Request<Body>| {
        let (run, mut released) = (counted.fetch_add(1, SeqCst) + 1, released.clone());
        async move {
            let said = headers(&[("etag", &format!("\"{run}\"")), ("cache-control", "no-cache, max-age=60")]);
            if run == 2 {
                // It is asked about the first, and answers when there is a third.
                released.wait_for(|released| *released).await.expect("somebody releases it");
                return Ok::<_, Infallible>(StatusCode::NOT_MODIFIED.into_response());
            }
            Ok((said, format!("run {run}")).into_response())
        }
    });
    let app = Router::new().fallback_service(service).layer(layer());
    get(&app, "/x").await;
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    assert_eq!(get(&app, "/x").await.text(), "run 3");
    release.send_replace(true);
    let older = clients.answers().await.remove(0);
    assert_eq!((older.text(), older.outcome().detail()), ("run 1", Some(Detail::Superseded)));
    let asked = get(&app, "/x").await;
    assert_eq!((asked.text(), runs.load(SeqCst)), ("run 4", 4));
}

#[tokio::test(start_paused = true)] // P34
async fn what_was_expired_by_hand_is_asked_about() {
    let service = tagged();
    let layer = layer();
    let app = service.behind(layer.clone());
    get(&app, "/x").await;
    layer.cache().expire_path("/x").await.expect("there is no store");
    assert_eq!(outcome(&app).await, "fwd=stale; fwd-status=304; stored");
    assert_hit(&get(&app, "/x").await);
}

// ---- how long it is kept for that ----

#[tokio::test(start_paused = true)]
async fn it_is_kept_for_a_day_past_its_lifetime_unless_told_otherwise() {
    for (layer, kept) in [(layer(), 86_400.0), (layer().keep(secs(5)), 5.0), (layer().keep(secs(0)), 0.0)] {
        for (after, asked) in [(kept - 0.1, "\"1\""), (kept, "")] {
            if after < 0.0 {
                continue;
            }
            let service = tagged();
            let app = service.behind(layer.clone().namespace(asked));
            get(&app, "/x").await;
            pass(10.0 + after).await;
            get(&app, "/x").await;
            assert_eq!(service.asked().0, asked, "{after} past its lifetime");
        }
    }
}

#[tokio::test(start_paused = true)] // P2
async fn what_is_kept_for_that_is_served_to_nobody_whatever_the_service_does() {
    let service = tagged();
    let app = service.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    service.origin.only_the_first(1);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.send(&app, request("HEAD", "/x", &[])).await;
    pass(3_600.0).await;
    service.origin.release();
    for reply in clients.answers().await {
        assert!(!reply.outcome().is_stale() || reply.outcome().forward_status().is_some(), "{}", reply.said());
    }
}

// ---- layers around one another ----

#[tokio::test(start_paused = true)]
async fn rfc9111_4_3_2_a_cache_further_in_answers_for_the_service() {
    let service =
        Service::new(&[("etag", "\"1\""), ("cache-control", "max-age=30")], &[("cache-control", "max-age=30")]);
    let (inner, outer) = (Cache::new(), Cache::new());
    let app = service.behind(inner.http()).layer(outer.http());
    get(&app, "/x").await;
    pass(10.0).await;
    outer.expire_path("/x").await.expect("there is no store");
    let reply = get(&app, "/x").await;
    assert_eq!((reply.said().as_str(), reply.text()), ("fwd=stale; fwd-status=304; stored", "the first"));
    assert_eq!(service.origin.runs(), 1, "the inner one has it still");
    let hit = get(&app, "/x").await;
    assert_hit(&hit);
    assert_eq!(hit.field("age"), "10", "its age counts");
    pass(20.0).await;
    get(&app, "/x").await;
    assert_eq!(service.origin.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_were_read_for_nothing_are_let_go() {
    // A 304 has no content; one that comes with some all the same hangs nobody.
    let origin = Origin::new(|seen| {
        let fields = headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]);
        match seen.run {
            1 => (fields, Body::from("page")).into_response(),
            _ => (StatusCode::NOT_MODIFIED, fields, Body::new(Never)).into_response(),
        }
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(10.0).await;
    assert_eq!(get(&app, "/x").await.text(), "page");
}
