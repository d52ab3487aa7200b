//! What requests demand of stored responses (RFC 9111 §5.2.1): advice that nobody takes unless the layer is told to.

use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, ForceRefresh, Freshness};
use http::StatusCode;

use crate::support::http::{Clients, Origin, Reply, get, get_with, headers, pass, request, saying, secs, send};

mod support;

fn honoring() -> CachebackLayer {
    CachebackLayer::http().honor_request_directives()
}

fn for_(seconds: &str) -> Origin {
    Origin::with_fields(&[("cache-control", seconds)])
}

async fn ask(app: &axum::Router, directives: &str) -> Reply {
    get_with(app, "/", &[("cache-control", directives)]).await
}

/// Whether a response with these fields, so many seconds after it was stored, answers a request with these directives.
async fn is_used(fields: &[(&str, &str)], after: f64, directives: &str) -> bool {
    let origin = Origin::with_fields(fields);
    let app = origin.behind(honoring());
    get(&app, "/").await;
    pass(after).await;
    let reply = ask(&app, directives).await;
    let used = reply.outcome().status() == CacheStatus::Hit;
    assert_eq!(used, reply.text() == "1", "{fields:?} {directives}: {}", reply.said());
    used
}

#[tokio::test(start_paused = true)] // P48
async fn by_default_nothing_that_a_request_says_makes_the_cache_forget() {
    for layer in [CachebackLayer::http(), CachebackLayer::new(secs(60))] {
        let origin = for_("max-age=60");
        let app = origin.behind(layer);
        get(&app, "/").await;
        pass(5.0).await;
        for directives in ["no-cache", "max-age=0", "max-age=1", "min-fresh=99", "no-store", "no-cache, only-if-cached"]
        {
            assert_eq!(ask(&app, directives).await.said(), "hit; ttl=55", "{directives}");
        }
        assert_eq!(get_with(&app, "/", &[("pragma", "no-cache")]).await.said(), "hit; ttl=55");
        pass(60.0).await;
        assert_eq!(ask(&app, "max-stale").await.text(), "2");
        assert_eq!(get_with(&app, "/new", &[("cache-control", "only-if-cached")]).await.status, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_1_max_age_bounds_the_age() {
    let fresh = [("cache-control", "max-age=600")];
    assert!(is_used(&fresh, 5.0, "max-age=6").await);
    assert!(is_used(&fresh, 5.0, "max-age=5").await);
    assert!(!is_used(&fresh, 5.1, "max-age=5").await);
    assert!(!is_used(&fresh, 0.0, "max-age=0").await);
    let aged = [("cache-control", "max-age=600"), ("age", "100")];
    assert!(is_used(&aged, 0.0, "max-age=100").await);
    assert!(!is_used(&aged, 0.0, "max-age=99").await);
    // Stale it is not wanted, unless that is said.
    let stale = [("cache-control", "max-age=10, stale-while-revalidate=100")];
    assert!(!is_used(&stale, 20.0, "max-age=60").await);
    assert!(is_used(&stale, 20.0, "max-age=60, max-stale=10").await);
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_2_max_stale_takes_what_is_stale_for_no_longer() {
    let plain = [("cache-control", "max-age=10")];
    assert!(!is_used(&plain, 10.0, "no-transform").await);
    assert!(is_used(&plain, 20.0, "max-stale=10").await);
    assert!(!is_used(&plain, 20.1, "max-stale=10").await);
    assert!(is_used(&plain, 5_000.0, "max-stale").await);
    assert!(!is_used(&plain, 10.0 + 86_400.0, "max-stale").await, "it is no longer kept");
    assert!(!is_used(&plain, 20.0, "max-stale=x").await);
    // It was stale when it came.
    assert!(is_used(&[("cache-control", "max-age=10"), ("age", "20")], 0.0, "max-stale=10").await);
    // A window of the response is no reason to give more than is asked for.
    let window = [("cache-control", "max-age=10, stale-while-revalidate=100")];
    assert!(is_used(&window, 20.0, "max-stale=10").await);
    assert!(!is_used(&window, 20.1, "max-stale=10").await);
    // What is kept to be validated or for failures is as good.
    for more in ["etag", "last-modified"] {
        let fields = [("cache-control", "max-age=10, stale-if-error=50"), (more, "\"x\"")];
        assert!(is_used(&fields, 20.0, "max-stale").await && is_used(&fields, 90.0, "max-stale").await);
    }
    let past = "Thu, 01 Jan 1970 00:00:00 GMT";
    assert!(is_used(&[("expires", past)], 1.0, "max-stale").await);
}

#[tokio::test(start_paused = true)] // P42, P48
async fn rfc9111_4_2_4_max_stale_never_goes_against_what_forbids_it() {
    for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache", "no-store", "private"] {
        for more in [&[][..], &[("etag", "\"x\"")]] {
            let stated = format!("max-age=10, {forbidding}");
            let mut fields = vec![("cache-control", &*stated)];
            fields.extend(more);
            assert!(!is_used(&fields, 11.0, "max-stale").await, "{fields:?}");
        }
    }
    // The handler's own word is that it is never served stale, and the layer's.
    let said = Origin::new(|seen| {
        let fields = [("etag", "\"x\""), ("cache-control", "max-age=10")];
        saying(Freshness::exact(secs(10)), (fields, seen.run.to_string()))
    });
    let own = Origin::with_fields(&[("etag", "\"x\"")]);
    for origin in [said, own] {
        let app = origin.behind(CachebackLayer::new(Freshness::exact(secs(10))).honor_request_directives());
        get(&app, "/").await;
        pass(11.0).await;
        assert_eq!(ask(&app, "max-stale").await.text(), "2");
    }
}

#[tokio::test(start_paused = true)] // P34, P48
async fn what_was_invalidated_by_hand_is_given_to_nobody_who_asks_for_stale_responses() {
    for fields in [&[("cache-control", "max-age=10")][..], &[("cache-control", "max-age=10"), ("etag", "\"x\"")]] {
        for after in [5.0, 15.0] {
            let cache = Cache::new();
            let origin = Origin::with_fields(fields);
            let app = origin.behind(cache.http().honor_request_directives());
            get(&app, "/").await;
            pass(after).await;
            cache.expire_path("/").await.unwrap();
            pass(5.0).await;
            assert_eq!(ask(&app, "max-stale").await.text(), "2", "{fields:?}");
        }
    }
}

#[tokio::test(start_paused = true)] // P48
async fn a_stale_response_that_was_asked_for_says_how_old_it_is() {
    let origin = for_("max-age=10");
    let app = origin.behind(honoring());
    get(&app, "/").await;
    pass(17.0).await;
    let reply = ask(&app, "max-stale").await;
    assert_eq!((reply.field("age"), reply.field("cache-status")), ("17".into(), "cacheback; hit; ttl=-7".into()));
    assert_eq!(origin.runs(), 1, "nobody asked for another one");
    // Who does not say so gets a new one, and the old one is gone.
    assert_eq!(get(&app, "/").await.said(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(ask(&app, "max-stale").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_3_min_fresh_wants_it_fresh_for_longer() {
    let fields = [("cache-control", "max-age=60, stale-while-revalidate=600")];
    assert!(is_used(&fields, 50.0, "min-fresh=10").await);
    assert!(!is_used(&fields, 50.0, "min-fresh=11").await);
    assert!(!is_used(&fields, 60.0, "min-fresh=0").await);
    assert!(!is_used(&fields, 0.0, "min-fresh=61").await);
    assert!(!is_used(&fields, 0.0, "min-fresh").await);
    assert!(!is_used(&[("cache-control", "max-age=60"), ("age", "55")], 0.0, "min-fresh=10").await);
}

#[tokio::test(start_paused = true)] // P48, P49
async fn rfc9111_5_2_1_4_no_cache_has_the_service_called() {
    let origin = for_("max-age=60");
    let app = origin.behind(honoring());
    assert_eq!(ask(&app, "no-cache").await.said(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(ask(&app, "no-cache").await.said(), "fwd=request; fwd-status=200; stored");
    assert_eq!(get_with(&app, "/", &[("pragma", "no-cache")]).await.text(), "3");
    // §5.4: beside `Cache-Control` the older field means nothing.
    assert_eq!(get_with(&app, "/", &[("pragma", "no-cache"), ("cache-control", "x")]).await.text(), "3");
    assert_eq!(get(&app, "/").await.text(), "3", "what came of it is stored");
    pass(60.0).await;
    assert_eq!(ask(&app, "no-cache").await.said(), "fwd=stale; fwd-status=200; stored");
}

#[tokio::test(start_paused = true)] // P46, P48
async fn rfc9111_5_2_1_4_a_stored_validator_is_used_unless_this_process_wants_it_new() {
    let origin = Origin::new(|seen| {
        let known = seen.headers.contains_key("if-none-match") || seen.headers.contains_key("if-modified-since");
        let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\""), modified];
        (status, headers(&fields), seen.run.to_string())
    });
    let app = origin.behind(honoring());
    get(&app, "/").await;
    pass(5.0).await;
    let reply = ask(&app, "no-cache").await;
    assert_eq!((reply.text(), reply.said().as_str()), ("1", "fwd=request; fwd-status=304; stored"));
    assert_eq!(origin.last().field("if-none-match"), "\"a\"");
    assert_eq!(get(&app, "/").await.said(), "hit; ttl=60", "it was good for another minute");
    assert_eq!(ask(&app, "max-age=0").await.text(), "1");
    assert_eq!(origin.runs(), 3);

    let mut by_hand = request("GET", "/", &[("cache-control", "no-cache")]);
    by_hand.extensions_mut().insert(ForceRefresh);
    assert_eq!(send(&app, by_hand).await.text(), "4");
}

#[tokio::test(start_paused = true)] // P10, P48
async fn those_who_want_it_new_share_a_run_that_began_after_they_came() {
    let origin = for_("max-age=60");
    let app = origin.behind(honoring());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    origin.begun(1).await;
    for _ in 0..9 {
        clients.get(&app, "/", &[("cache-control", "no-cache")]).await;
    }
    clients.get(&app, "/", &[("cache-control", "max-age=30")]).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(answers[0].text(), "1");
    assert!(answers[1..10].iter().all(|answer| answer.text() == "2"), "the first run was under way already");
    assert_eq!(answers[10].text(), "1", "it is young enough");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P6, P48
async fn a_failure_is_what_one_who_wants_no_stored_response_gets() {
    for after in [1.0, 61.0] {
        let origin = Origin::new(|seen| {
            let status = if seen.run == 1 { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
            (status, [("cache-control", "max-age=60, stale-if-error=600")], seen.run.to_string())
        });
        let app = origin.behind(honoring());
        get(&app, "/").await;
        pass(after).await;
        assert_eq!(ask(&app, "no-cache").await.status, StatusCode::BAD_GATEWAY);
        pass(1.5).await;
        // One who only wants it younger gets it as it is.
        let reply = ask(&app, "max-age=0").await;
        assert_eq!((reply.status, reply.text(), origin.runs()), (StatusCode::OK, "1", 3));
        assert_eq!(reply.outcome().detail(), Some(Detail::StaleIfError));
        assert_eq!(get(&app, "/").await.text(), "1", "it is still there");
    }
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_6_no_transform_makes_no_difference() {
    for layer in [honoring(), CachebackLayer::new(secs(60))] {
        let origin = for_("max-age=60");
        let app = origin.behind(layer);
        assert_eq!(ask(&app, "no-transform").await.said(), "fwd=uri-miss; fwd-status=200; stored");
        assert_eq!(origin.last().field("cache-control"), "no-transform", "it is passed on");
        let (asked, unasked) = (ask(&app, "no-transform").await, get(&app, "/").await);
        assert_eq!((asked.text(), asked.said().as_str()), ("1", "hit; ttl=60"));
        assert_eq!((asked.headers, asked.body), (unasked.headers, unasked.body), "nothing is transformed for anybody");
    }
}

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_7_only_if_cached_answers_504_and_calls_nobody() {
    let cache = Cache::new();
    let origin = for_("max-age=10, stale-if-error=100");
    let app = origin.behind(cache.http().honor_request_directives());
    let only = [("cache-control", "only-if-cached")];
    let reply = ask(&app, "only-if-cached").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::GATEWAY_TIMEOUT, ""));
    assert_eq!((reply.said().as_str(), reply.has("cache-status")), ("detail=only-if-cached", false));
    assert_eq!(send(&app, request("HEAD", "/", &only)).await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(origin.runs(), 0);

    // A run that is under way is not waited for.
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/", &[]).await;
    origin.begun(1).await;
    assert_eq!(ask(&app, "only-if-cached").await.status, StatusCode::GATEWAY_TIMEOUT);
    origin.release();
    clients.answers().await;

    for (directives, status) in [
        ("only-if-cached", 200),
        ("only-if-cached, max-age=5", 200),
        ("only-if-cached, max-age=0", 504),
        ("only-if-cached, no-cache", 504),
        ("only-if-cached, min-fresh=20", 504),
    ] {
        assert_eq!(ask(&app, directives).await.status, status, "{directives}");
    }
    pass(20.0).await;
    assert_eq!(ask(&app, "only-if-cached").await.status, 504, "it is stale");
    assert_eq!(ask(&app, "only-if-cached, max-stale=9").await.status, 504);
    assert_eq!(ask(&app, "only-if-cached, max-stale=10").await.said(), "hit; ttl=-10");
    assert_eq!(origin.runs(), 1);
    let stats = cache.stats();
    assert_eq!((stats.requests(), stats.hits, stats.stale_hits), (12, 2, 1));
}

#[tokio::test(start_paused = true)] // P48
async fn nothing_is_kept_for_longer_where_nobody_is_heard() {
    let cache = Cache::new();
    let origin = for_("max-age=10");
    let app = origin.behind(cache.http());
    get(&app, "/").await;
    pass(10.0).await;
    assert_eq!(get(&app, "/").await.said(), "fwd=stale; fwd-status=200; stored");
    let aged = Origin::with_fields(&[("cache-control", "max-age=10"), ("age", "20")]);
    let app = aged.behind(CachebackLayer::http());
    assert!(!get(&app, "/").await.outcome().is_stored());
}

#[tokio::test(start_paused = true)] // P40, P48
async fn a_head_demands_as_much_as_a_get() {
    let origin = for_("max-age=60");
    let app = origin.behind(honoring());
    get(&app, "/").await;
    pass(5.0).await;
    let head = async |directives| send(&app, request("HEAD", "/", &[("cache-control", directives)])).await;
    assert_eq!(head("max-age=9").await.said(), "hit; ttl=55");
    for directives in ["no-cache", "max-age=4"] {
        assert_eq!(head(directives).await.said(), "fwd=request; fwd-status=200; detail=head");
        assert_eq!(origin.last().method, "HEAD");
    }
}

#[tokio::test(start_paused = true)] // P35, P48
async fn an_explanation_knows_of_demands() {
    let origin = for_("max-age=10");
    let layer = honoring();
    let app = origin.behind(layer.clone());
    let explained =
        async |directives| layer.explain(request("GET", "/", &[("cache-control", directives)])).await.to_string();
    assert_eq!(explained("only-if-cached").await, "detail=only-if-cached; plan=nothing");
    get(&app, "/").await;
    assert_eq!(explained("no-cache").await, "fwd=request; plan=lead");
    assert_eq!(explained("min-fresh=20").await, "fwd=request; plan=lead");
    assert_eq!(explained("min-fresh=10").await, "hit; ttl=10; plan=nothing");
    pass(15.0).await;
    assert_eq!(explained("max-stale").await, "hit; ttl=-5; plan=nothing");
    assert_eq!(explained("max-age=60").await, "fwd=stale; plan=lead");
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P43, P48
async fn a_request_that_is_not_looked_up_demands_nothing() {
    let origin = for_("max-age=60");
    let app = origin.behind(CachebackLayer::new(secs(60)).honor_request_directives());
    let fields = [("cookie", "a=b"), ("cache-control", "only-if-cached")];
    assert_eq!(get_with(&app, "/", &fields).await.said(), "fwd=bypass; fwd-status=200; detail=cookie");
    assert_eq!(send(&app, request("POST", "/", &fields[1..])).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)] // P48 P94
async fn the_layer_s_own_rule_narrows_for_how_long_a_response_was_stale_and_widens_nothing() {
    let rule = |layer: CachebackLayer| {
        layer.honor_request_directives().max_stale(|parts| {
            let strict = parts.headers.contains_key("x-strict") || parts.uri.path() == "/strict";
            strict.then_some(secs(20))
        })
    };
    let windows = Freshness::new(secs(60)).stale_while_revalidate(secs(60));
    let origin = Origin::counting();
    let app = origin.behind(rule(CachebackLayer::new(windows)));
    get(&app, "/").await;
    pass(80.0).await;
    origin.only_the_first(1);
    assert_eq!(get_with(&app, "/", &[("x-strict", "")]).await.said(), "hit; ttl=-20");
    pass(1.0).await;
    let mut waiting = Clients::new();
    waiting.get(&app, "/", &[("x-strict", "")]).await;
    assert_eq!(get(&app, "/").await.said(), "hit; ttl=-21");
    origin.release();
    let answer = waiting.answers().await.remove(0);
    assert_eq!((answer.text(), answer.outcome().status()), ("2", CacheStatus::Request));

    // What may not be served stale is not, for how ever long the rule lets it.
    let app = for_("max-age=60").behind(rule(CachebackLayer::http()));
    get(&app, "/strict").await;
    pass(61.0).await;
    assert_eq!(get(&app, "/strict").await.text(), "2");
    // And a client may ask for less than the rule lets it have.
    pass(30.0).await;
    assert_eq!(get_with(&app, "/strict", &[("cache-control", "max-age=10")]).await.text(), "3");
}
