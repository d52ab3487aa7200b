//! Many clients, and one of them who is somebody: what he brings about is not what others get, and takes nothing from them.

#![allow(clippy::disallowed_methods, reason = "a test may wait, and may have tasks")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::response::{IntoResponse, Response};
use cacheback::{CacheStatus, CachebackLayer, Http};
use http::{HeaderMap, StatusCode};
use support::http::{Clients, Origin, Pieces, get, get_with, headers, pass, request, secs, send, settle};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const TEN_LATER: &str = "Sun, 06 Nov 1994 08:49:47 GMT";
const FUTURE: &str = "Fri, 06 Nov 2037 08:49:37 GMT";
const ALICE: (&str, &str) = ("authorization", "Basic alice");

fn layer() -> CachebackLayer<Http> {
    CachebackLayer::http()
}

fn control(value: &str) -> HeaderMap {
    headers(&[("cache-control", value)])
}

/// Public for those who do not say who they are; whoever does gets this.
fn origin(anonymous: &'static str, status: StatusCode, own: HeaderMap) -> Origin {
    Origin::new(move |seen| match seen.field("authorization").as_str() {
        "" => (StatusCode::OK, control(anonymous), format!("for all {}", seen.run)),
        _ => (status, own.clone(), format!("own {}", seen.run)),
    })
}

// ---- who says who he is waits for nobody ----

async fn behind_one_who_is_nobody(method: &str, more: &[(&str, &str)], before: bool) {
    let origin = Origin::new(move |seen| match (seen.run, seen.field("authorization").as_str()) {
        (1, _) if before => {
            (StatusCode::OK, headers(&[("cache-control", "max-age=10"), ("etag", "\"1\"")]), "once".to_owned())
                .into_response()
        }
        (_, "") => (StatusCode::UNAUTHORIZED, headers(&[("www-authenticate", "Basic")]), "who are you?".to_owned())
            .into_response(),
        _ => (StatusCode::OK, HeaderMap::new(), format!("own {}", seen.run)).into_response(),
    });
    let app = origin.behind(layer());
    if before {
        get(&app, "/x").await;
        pass(11.0).await;
    }
    origin.only_the_first(usize::from(before));
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.send(&app, request(method, "/x", &[&[ALICE], more].concat())).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(answers[0].status, StatusCode::UNAUTHORIZED);
    assert_ne!(answers[1].status, StatusCode::UNAUTHORIZED, "{method} {more:?}: {}", answers[1].said());
}

#[tokio::test(start_paused = true)]
async fn an_authorised_head_does_not_get_the_401_of_another() {
    behind_one_who_is_nobody("HEAD", &[], false).await;
}

#[tokio::test(start_paused = true)]
async fn an_authorised_no_store_does_not_get_the_401_of_another() {
    behind_one_who_is_nobody("GET", &[("cache-control", "no-store")], false).await;
}

#[tokio::test(start_paused = true)]
async fn an_authorised_range_does_not_get_the_401_of_another() {
    behind_one_who_is_nobody("GET", &[("range", "bytes=0-0")], true).await;
}

#[tokio::test(start_paused = true)]
async fn an_authorised_no_store_follows_nobody_also_over_his_own_variant_of_a_404() {
    // The resource exists for alice alone.
    let origin = Origin::new(|seen| match seen.field("authorization").as_str() {
        "" => (StatusCode::NOT_FOUND, "nothing".to_owned()),
        _ => (StatusCode::OK, "alice's".to_owned()),
    });
    let app = origin.behind(layer());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[ALICE, ("cache-control", "no-store")]).await;
    origin.release();
    assert_eq!(clients.answers().await[1].text(), "alice's");
}

// ---- nobody waits behind one who says who he is ----

#[tokio::test(start_paused = true)]
async fn nobody_waits_behind_an_authorised_range() {
    let own = control("max-age=60");
    let origin = Origin::new(move |seen| match seen.field("authorization").as_str() {
        "" => (
            StatusCode::OK,
            headers(&[("cache-control", "max-age=10"), ("etag", "\"1\"")]),
            format!("for all {}", seen.run),
        ),
        _ => (StatusCode::OK, own.clone(), format!("own {}", seen.run)),
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(11.0).await;
    origin.only_the_first(1);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[ALICE, ("range", "bytes=0-0")]).await;
    for _ in 0..5 {
        clients.get(&app, "/x", &[]).await;
    }
    let begun = origin.runs();
    origin.release();
    let answers = clients.answers().await;
    assert!(answers[1..].iter().all(|answer| answer.text().starts_with("for all")));
    assert_eq!((begun, origin.runs()), (3, 3), "one for alice, and one for all others");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_behind_an_authorised_background_refresh_of_a_part_or_a_head() {
    for (method, more) in [("GET", &[("range", "bytes=0-0")][..]), ("HEAD", &[])] {
        let public = "public, max-age=10, stale-while-revalidate=10";
        let origin = origin(public, StatusCode::OK, control("max-age=60"));
        let app = origin.behind(layer());
        get(&app, "/x").await;
        pass(11.0).await;
        origin.only_the_first(1);
        send(&app, request(method, "/x", &[&[ALICE], more].concat())).await;
        origin.begun(2).await;
        assert_eq!(origin.last().field("authorization"), "Basic alice");
        pass(10.0).await;
        let mut clients = Clients::new();
        for _ in 0..5 {
            clients.get(&app, "/x", &[]).await;
        }
        let begun = origin.runs();
        origin.release();
        clients.answers().await;
        assert_eq!((begun, origin.runs()), (3, 3), "{method} {more:?}: one for alice, and one for all others");
    }
}

// ---- who says who he is takes nothing away ----

async fn alice_takes_nothing_away(status: u16, own: &[(&str, &str)], background: bool) {
    let anonymous = match background {
        true => "max-age=10, stale-while-revalidate=100",
        false => "max-age=10, stale-if-error=600",
    };
    let origin = origin(anonymous, StatusCode::from_u16(status).expect("it is sound"), headers(own));
    let layer = layer();
    let app = origin.behind(layer.clone());
    get(&app, "/x").await;
    pass(11.0).await;
    get_with(&app, "/x", &[ALICE]).await;
    layer.cache().settled().await;
    settle().await;
    let stored = layer.cache().peek(cacheback::Scope::everything()).len();
    // Those who come now wait for one run, if they wait.
    origin.only_the_first(2);
    let mut clients = Clients::new();
    for _ in 0..4 {
        clients.get(&app, "/x", &[]).await;
    }
    let begun = origin.runs();
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(stored, 1, "{status} {own:?} {background}: what is stored for all is gone: {}", answers[0].said());
    assert!(begun <= 3, "{status} {own:?} {background}: collapsing is off: {begun} runs");
}

#[tokio::test(start_paused = true)]
async fn no_store_beside_must_revalidate_for_one_takes_nothing_from_others() {
    alice_takes_nothing_away(200, &[("cache-control", "no-store, no-cache, must-revalidate")], true).await;
}

#[tokio::test(start_paused = true)]
async fn private_beside_must_revalidate_for_one_takes_nothing_from_others() {
    alice_takes_nothing_away(200, &[("cache-control", "max-age=0, private, must-revalidate")], false).await;
}

#[tokio::test(start_paused = true)]
async fn a_401_with_must_revalidate_for_one_takes_nothing_from_others() {
    let own = [("cache-control", "no-store, no-cache, must-revalidate"), ("www-authenticate", "Basic")];
    alice_takes_nothing_away(401, &own, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_cookie_beside_public_for_one_takes_nothing_from_others() {
    alice_takes_nothing_away(200, &[("cache-control", "public, max-age=9"), ("set-cookie", "a=1")], false).await;
}

#[tokio::test(start_paused = true)]
async fn a_403_with_must_revalidate_and_no_lifetime_for_one_takes_nothing_from_others() {
    alice_takes_nothing_away(403, &[("cache-control", "must-revalidate")], false).await;
}

// ---- a HEAD of one who says who he is ----

#[tokio::test(start_paused = true)]
async fn an_authorised_head_contradicts_nothing_that_is_stored_for_others() {
    let origin = origin("max-age=60", StatusCode::OK, headers(&[("etag", "\"alice\"")]));
    let app = origin.behind(layer().honor_request_directives());
    get(&app, "/x").await;
    send(&app, request("HEAD", "/x", &[ALICE, ("cache-control", "no-cache")])).await;
    let again = get(&app, "/x").await;
    assert_eq!(again.outcome().status(), CacheStatus::Hit, "{}", again.said());
}

// ---- cookies, in protocol mode ----

async fn cookies_are_kept_apart(fields: &'static [(&'static str, &'static str)], status: StatusCode) {
    let origin = Origin::new(move |seen| (status, headers(fields), format!("account of {}", seen.field("cookie"))));
    let app = origin.behind(layer());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for cookie in ["sid=alice", "sid=bob"] {
        clients.get(&app, "/account", &[("cookie", cookie)]).await;
    }
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(answers[1].text(), "account of sid=bob", "{status} {fields:?}: {}", answers[1].said());
}

#[tokio::test(start_paused = true)]
async fn a_200_that_says_nothing_is_not_given_to_another_user_who_waits() {
    cookies_are_kept_apart(&[], StatusCode::OK).await;
}

#[tokio::test(start_paused = true)]
async fn max_age_0_is_not_given_to_another_user_who_waits() {
    cookies_are_kept_apart(&[("cache-control", "max-age=0")], StatusCode::OK).await;
}

#[tokio::test(start_paused = true)]
async fn max_age_0_must_revalidate_is_not_given_to_another_user_who_waits() {
    cookies_are_kept_apart(&[("cache-control", "max-age=0, must-revalidate"), ("etag", "\"1\"")], StatusCode::OK).await;
}

#[tokio::test(start_paused = true)]
async fn expires_in_the_past_is_not_given_to_another_user_who_waits() {
    cookies_are_kept_apart(&[("expires", "0")], StatusCode::OK).await;
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_given_to_another_user_who_waits() {
    cookies_are_kept_apart(&[("location", "/of-alice")], StatusCode::FOUND).await;
}

// ---- If-Modified-Since where nothing is stored and nothing says when it was modified ----

#[tokio::test(start_paused = true)]
async fn a_client_whose_clock_is_ahead_gets_what_is_not_stored() {
    let origin = Origin::with_fields(&[("cache-control", "no-store"), ("date", EARLY)]);
    let app = origin.behind(layer());
    let reply = get_with(&app, "/x", &[("if-modified-since", FUTURE)]).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "1"));
}

#[tokio::test(start_paused = true)]
async fn a_client_in_the_same_second_gets_what_has_changed_and_is_not_stored() {
    let origin = Origin::with_fields(&[("cache-control", "private"), ("date", EARLY)]);
    let app = origin.behind(layer());
    let first = get(&app, "/x").await;
    let date = first.field("date");
    let reply = get_with(&app, "/x", &[("if-modified-since", &date)]).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "2"));
}

// ---- a 304 without Date ----

#[tokio::test(start_paused = true)]
async fn an_absolute_expires_is_not_prolonged_by_a_304_without_a_date() {
    let origin = Origin::new(|seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        (headers(&[("etag", "\"1\""), ("date", EARLY), ("expires", TEN_LATER)]), "x").into_response()
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(11.0).await;
    get(&app, "/x").await;
    assert_eq!(origin.runs(), 2);
    pass(1.0).await;
    let reply = get(&app, "/x").await;
    assert_eq!(
        origin.runs(),
        3,
        "long expired: {} date {} expires {}",
        reply.said(),
        reply.field("date"),
        reply.field("expires")
    );
}

// ---- nor does he put others off ----

#[tokio::test(start_paused = true)]
async fn stale_if_error_is_not_served_where_nothing_failed() {
    let origin =
        origin("max-age=10, stale-while-revalidate=30, stale-if-error=6000", StatusCode::OK, control("max-age=9"));
    let layer = layer();
    let app = origin.behind(layer.clone());
    get(&app, "/x").await;
    pass(10.0).await;
    // One client asks each second, and says who it is: the pause grows each time.
    let mut put_off = 0;
    for second in 10..90 {
        let reply = get_with(&app, "/x", &[ALICE]).await;
        put_off += usize::from(second >= 40 && reply.text() == "for all 1" && reply.outcome().is_stale());
        layer.cache().settled().await;
        pass(1.0).await;
    }
    assert_eq!(
        put_off, 0,
        "seconds past stale-while-revalidate in which a stale response stood in, and no run had failed"
    );
}

// ---- wrong bodies and fields ----

#[tokio::test(start_paused = true)]
async fn several_parts_have_no_content_range_of_their_own() {
    let body = "x".repeat(4000);
    let origin = Origin::new(move |_| {
        (headers(&[("cache-control", "max-age=60"), ("content-range", "bytes 0-1/2")]), body.clone())
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    let reply = get_with(&app, "/x", &[("range", "bytes=0-0,2000-2000")]).await;
    assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT);
    assert!(!reply.has("content-range"), "{:?}", reply.headers);
}

// ---- a failure that one brings about who says who he is ----

#[tokio::test(start_paused = true)]
async fn a_5xx_for_one_who_says_who_he_is_puts_nothing_off_for_others() {
    let origin = origin("max-age=10, stale-if-error=600", StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(11.0).await;
    get_with(&app, "/x", &[ALICE]).await;
    let reply = get(&app, "/x").await;
    assert_eq!(reply.text(), "for all 3", "{}", reply.said());
}

// ---- what tells one client what it did ----

#[tokio::test(start_paused = true)]
async fn what_one_client_did_is_not_told_to_those_who_wait() {
    for status in [428, 429, 431, 511] {
        let status = StatusCode::from_u16(status).expect("it is sound");
        let origin = Origin::new(move |seen| match seen.field("x-flood").as_str() {
            "" => (StatusCode::OK, control("max-age=60"), "page"),
            _ => (status, HeaderMap::new(), "you!"),
        });
        let app = origin.behind(layer());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        clients.get(&app, "/x", &[("x-flood", "a lot")]).await;
        clients.get(&app, "/x", &[]).await;
        origin.release();
        let answers = clients.answers().await;
        assert_eq!(answers[1].text(), "page", "{status}: {}", answers[1].said());
    }
}

// ---- nor does a 304 of his update what others get ----

#[tokio::test(start_paused = true)]
async fn what_a_304_says_to_one_who_says_who_he_is_is_not_told_to_others() {
    let origin = Origin::new(|seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            return (StatusCode::NOT_MODIFIED, headers(&[("x-account", &seen.field("authorization"))])).into_response();
        }
        (headers(&[("etag", "\"1\""), ("cache-control", "public, max-age=10")]), "x").into_response()
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(11.0).await;
    get_with(&app, "/x", &[ALICE]).await;
    let reply = get(&app, "/x").await;
    assert_ne!(reply.field("x-account"), "Basic alice", "{}", reply.said());
}

// ---- lines of Cookie are no list with commas ----

#[tokio::test(start_paused = true)]
async fn two_cookies_are_not_one_with_a_comma() {
    let origin =
        Origin::new(|seen| (headers(&[("cache-control", "max-age=60"), ("vary", "cookie")]), seen.field("cookie")));
    let app = origin.behind(layer());
    get_with(&app, "/x", &[("cookie", "theme=<script>, sid=1")]).await;
    let reply = get_with(&app, "/x", &[("cookie", "theme=<script>"), ("cookie", "sid=1")]).await;
    assert_eq!(reply.text(), "theme=<script>|sid=1", "{}", reply.said());
}

// ---- a head as large as a map can be ----

#[tokio::test(start_paused = true)]
async fn as_many_fields_as_there_can_be_are_no_panic() {
    use tower::{Layer, ServiceExt, service_fn};
    let field = |n: usize| {
        (format!("x-{n}").parse::<http::HeaderName>().expect("it is sound"), http::HeaderValue::from_static(""))
    };
    for count in [24_000, 24_573, 24_575] {
        let many: HeaderMap = (0..count).map(field).collect();
        let service = service_fn(move |_: http::Request<axum::body::Body>| {
            let mut response = Response::new(axum::body::Body::from("x"));
            *response.headers_mut() = many.clone();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        service.clone().oneshot(request("GET", "/x", &[])).await.expect("it is sound");
        let app = CachebackLayer::new(secs(60)).layer(service);
        for _ in 0..2 {
            let app = app.clone();
            let answered =
                tokio::spawn(
                    async move { app.oneshot(request("GET", "/x", &[])).await.expect("it is sound").status() },
                )
                .await;
            assert_eq!(answered.expect("no panic"), StatusCode::OK, "{count}");
        }
    }
}

// ---- nor does he use up the early refresh ----

#[tokio::test(start_paused = true)]
async fn the_one_early_refresh_is_not_used_up_by_one_who_says_who_he_is() {
    let origin = origin("max-age=1000", StatusCode::OK, control("max-age=9"));
    let layer = layer().early_refresh(1e9);
    let app = origin.behind(layer.clone());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    pass(1.0).await;
    origin.release();
    clients.answers().await;
    get_with(&app, "/x", &[ALICE]).await;
    layer.cache().settled().await;
    pass(5.0).await;
    get(&app, "/x").await;
    layer.cache().settled().await;
    settle().await;
    assert_eq!(origin.seen().iter().filter(|seen| seen.field("authorization").is_empty()).count(), 2);
}

// ---- an older run brings nothing back ----

#[tokio::test(start_paused = true)] // P25
async fn a_304_of_an_older_run_does_not_bring_back_what_a_newer_run_found_to_be_private() {
    let origin = Origin::new(|seen| -> Response {
        match seen.run {
            1 => (headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]), "old").into_response(),
            2 => (StatusCode::NOT_MODIFIED, headers(&[("cache-control", "max-age=60")])).into_response(),
            run => (control("private"), run.to_string()).into_response(),
        }
    });
    let app = Slow::hold_second(&origin).layer_with(layer());
    let _ = &app;
    get(&app, "/x").await;
    pass(11.0).await;
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    origin.begun(2).await;
    clients.get(&app, "/x", &[]).await;
    // The second one runs out of patience, and leads.
    pass(11.0).await;
    origin.begun(3).await;
    settle().await;
    // Now the first run answers.
    pass(20.0).await;
    let answers = clients.answers().await;
    assert_eq!([answers[0].text(), answers[1].text()], ["old", "3"]);
    let reply = get(&app, "/x").await;
    assert_ne!(reply.text(), "old", "{}", reply.said());
}

/// An origin whose second run takes half a minute to get there.
struct Slow(axum::Router);

impl Slow {
    fn hold_second(origin: &Origin) -> Self {
        let (inner, runs) = (origin.router(), std::sync::Arc::new(AtomicUsize::new(0)));
        Self(axum::Router::new().fallback(move |request: http::Request<axum::body::Body>| {
            let (inner, second) = (inner.clone(), runs.fetch_add(1, SeqCst) == 1);
            async move {
                use tower::ServiceExt;
                let response = inner.oneshot(request).await.expect("it is sound");
                if second {
                    tokio::time::sleep(secs(30)).await;
                }
                response
            }
        }))
    }

    fn layer_with(self, layer: CachebackLayer<Http>) -> axum::Router {
        self.0.layer(layer)
    }
}

// ---- hosts ----

#[tokio::test(start_paused = true)]
async fn groups_that_one_host_invalidates_void_no_fill_of_another() {
    for count in [3, 5_000] {
        let groups = (0..count).map(|n| format!("\"{n:0>48}\"")).collect::<Vec<_>>().join(", ");
        let origin = Origin::new(move |seen| match seen.method.as_str() {
            "POST" => (headers(&[("cache-group-invalidation", &groups)]), String::new()),
            _ => (control("max-age=60"), seen.run.to_string()),
        });
        let (post, slow) = (origin.router(), Slow::hold_second(&origin));
        let layer = layer();
        let (post, slow) = (post.layer(layer.clone()), slow.layer_with(layer.clone()));
        get_with(&slow, "/warm", &[("host", "b.example")]).await;
        let mut clients = Clients::new();
        clients.get(&slow, "/x", &[("host", "b.example")]).await;
        origin.begun(2).await;
        send(&post, request("POST", "/y", &[("host", "a.example")])).await;
        pass(31.0).await;
        clients.answers().await;
        let reply = get_with(&slow, "/x", &[("host", "b.example")]).await;
        assert_eq!(reply.outcome().status(), CacheStatus::Hit, "{count} groups: {}", reply.said());
    }
}

// ---- a 304 that withholds what came among the trailers ----

struct Trailed(u8);

impl http_body::Body for Trailed {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        self.0 += 1;
        std::task::Poll::Ready(match self.0 {
            1 => Some(Ok(http_body::Frame::data("x".into()))),
            2 => Some(Ok(http_body::Frame::trailers(headers(&[("x-user", "alice")])))),
            _ => None,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_304_withholds_is_withheld_among_trailers_too() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let origin = Origin::new(|seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            return (StatusCode::NOT_MODIFIED, control("max-age=60, private=\"x-user\"")).into_response();
        }
        (headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]), axum::body::Body::new(Trailed(0)))
            .into_response()
    });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(11.0).await;
    get(&app, "/x").await;
    let hit = app.oneshot(request("GET", "/x", &[])).await.expect("it is sound");
    let trailers = hit.into_body().collect().await.expect("it is sound").trailers().cloned();
    assert!(trailers.as_ref().is_none_or(|trailers| !trailers.contains_key("x-user")), "{trailers:?}");
}

// ---- what a 304 says of this exchange ----

fn validated_with(told: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            return (StatusCode::NOT_MODIFIED, headers(told)).into_response();
        }
        (headers(&[("etag", "\"1\""), ("cache-control", "max-age=60")]), "x").into_response()
    })
}

#[tokio::test(start_paused = true)] // P45
async fn one_who_waited_for_a_304_from_another_cache_is_told_its_age() {
    let app = validated_with(&[("age", "50")]).behind(layer());
    get(&app, "/x").await;
    pass(61.0).await;
    let validated = get(&app, "/x").await;
    assert_eq!(get(&app, "/x").await.field("age"), "50", "the next reader is told");
    assert_eq!(validated.field("age"), "50", "{:?}", validated.headers);
}

#[tokio::test(start_paused = true)] // P54
async fn fields_of_one_exchange_reach_the_one_who_waited_for_a_304() {
    let app = validated_with(&[("x-request-id", "r2")]).behind(CachebackLayer::new(secs(60)));
    get(&app, "/x").await;
    pass(61.0).await;
    let validated = get(&app, "/x").await;
    assert_eq!(validated.field("x-request-id"), "r2", "{:?}", validated.headers);
    assert!(!get(&app, "/x").await.has("x-request-id"));
}

// ---- and what else might be mixed up ----

#[tokio::test(start_paused = true)]
async fn a_purge_wins_over_a_validation_under_way() {
    let origin = Origin::new(|seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        (headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]), seen.run.to_string()).into_response()
    });
    let layer = layer();
    let app = origin.behind(layer.clone());
    get(&app, "/x").await;
    pass(11.0).await;
    origin.only_the_first(1);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    origin.begun(2).await;
    layer.cache().purge(cacheback::Scope::path("/x").expect("it is sound")).await.expect("it is sound");
    origin.release();
    clients.answers().await;
    let reply = get(&app, "/x").await;
    assert_eq!(reply.outcome().status(), CacheStatus::UriMiss, "{}", reply.said());
}

#[tokio::test(start_paused = true)]
async fn what_a_304_withholds_or_varies_by_is_kept_apart() {
    let origin = Origin::new(|seen| -> Response {
        if seen.headers.contains_key("if-none-match") {
            let told = headers(&[
                ("cache-control", "max-age=10, private=\"x-user, set-cookie\""),
                ("x-user", "bob"),
                ("set-cookie", "sid=bob"),
                ("vary", "accept-language"),
            ]);
            return (StatusCode::NOT_MODIFIED, told).into_response();
        }
        (headers(&[("etag", "\"1\""), ("cache-control", "max-age=10")]), seen.run.to_string()).into_response()
    });
    let app = origin.behind(layer());
    get_with(&app, "/x", &[("accept-language", "en")]).await;
    pass(11.0).await;
    let bob = get_with(&app, "/x", &[("accept-language", "en")]).await;
    assert_eq!([bob.field("x-user"), bob.field("set-cookie")], ["bob", "sid=bob"]);
    let hit = get_with(&app, "/x", &[("accept-language", "en")]).await;
    assert_eq!(hit.outcome().status(), CacheStatus::Hit);
    assert!(!hit.has("x-user") && !hit.has("set-cookie"), "{:?}", hit.headers);
    let other = get_with(&app, "/x", &[("accept-language", "de")]).await;
    assert_eq!(other.outcome().status(), CacheStatus::VaryMiss, "{}", other.said());
}

#[tokio::test(start_paused = true)]
async fn followers_get_their_own_304_and_their_own_parts_and_heads() {
    let origin = Origin::with_fields(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
    let app = origin.behind(layer().fill_on_range(1 << 20));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[("range", "bytes=0-0"), ("if-none-match", "\"1\"")]).await;
    clients.get(&app, "/x", &[("range", "bytes=5-")]).await;
    clients.get(&app, "/x", &[("if-none-match", "W/\"1\"")]).await;
    clients.send(&app, request("HEAD", "/x", &[("range", "bytes=0-0")])).await;
    clients.get(&app, "/x", &[]).await;
    origin.release();
    let answers = clients.answers().await;
    let said: Vec<_> =
        answers.iter().map(|a| (a.status.as_u16(), a.text().to_owned(), a.field("content-length"))).collect();
    let said: Vec<_> = said.iter().map(|(s, t, l)| (*s, t.as_str(), l.as_str())).collect();
    assert_eq!(said, [(304, "", ""), (416, "", "0"), (304, "", ""), (200, "", "1"), (200, "1", "1")]);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_of_another_host_are_out_of_reach() {
    let origin = Origin::new(|seen| match seen.method.as_str() {
        "POST" => (headers(&[("cache-group-invalidation", "\"g\"")]), String::new()),
        _ => (headers(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")]), seen.run.to_string()),
    });
    let app = origin.behind(layer());
    for host in ["a.example", "b.example"] {
        get_with(&app, "/x", &[("host", host)]).await;
    }
    send(&app, request("POST", "/y", &[("host", "a.example"), ("x-forwarded-host", "b.example")])).await;
    assert_eq!(get_with(&app, "/x", &[("host", "b.example")]).await.outcome().status(), CacheStatus::Hit);
    assert_eq!(get_with(&app, "/x", &[("host", "a.example")]).await.outcome().status(), CacheStatus::UriMiss);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_what_has_no_length_or_is_over_the_cap() {
    let origin = Origin::new(|_| (control("max-age=60"), axum::body::Body::new(Pieces::of(["0123", "4567", "89"]))));
    for cap in [1, 4, 9, 10, 100] {
        let app = origin.behind(layer().body_cap(cap).fill_on_range(1 << 20));
        for _ in 0..2 {
            let reply = get_with(&app, "/x", &[("range", "bytes=3-5")]).await;
            assert!(["345", "0123456789"].contains(&reply.text()), "{cap}: {reply:?}");
            assert_eq!(reply.status == 206, reply.text() == "345", "{cap}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn odd_fields_of_clients_against_odd_fields_of_origins_never_panic() {
    let odd = [
        "",
        "*",
        "\"",
        "W/",
        "W/\"",
        "\"a\"b",
        "bytes=0-18446744073709551615",
        "bytes=-18446744073709551615",
        "bytes=18446744073709551615-18446744073709551615",
        "bytes=0-0,-1,1-1",
        "\"\u{e9}\"",
        EARLY,
        ",,,",
        "bytes=,0-",
    ];
    for tag in odd {
        let names = [
            "etag",
            "last-modified",
            "expires",
            "age",
            "cache-groups",
            "location",
            "content-location",
            "cacheback-cache-control",
            "content-range",
            "date",
            "pragma",
        ];
        let fields: Vec<_> = names.iter().map(|name| (*name, tag)).chain([("cache-control", "max-age=60")]).collect();
        let origin = Origin::with_fields(&fields);
        let app = origin.behind(layer().honor_request_directives().fill_on_range(9).etag());
        for one in odd {
            for other in ["range", "if-none-match", "if-modified-since", "if-range", "cache-control", "pragma"] {
                for method in ["GET", "HEAD", "POST"] {
                    send(&app, request(method, "/x", &[(other, one), ("range", "bytes=0-"), ("if-range", one)])).await;
                    send(&app, request(method, "/x", &[(other, one)])).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_vary_by_authorization_keeps_users_apart() {
    let origin = Origin::new(|seen| {
        (headers(&[("cache-control", "public, max-age=60"), ("vary", "authorization")]), seen.field("authorization"))
    });
    let app = origin.behind(layer());
    for who in ["alice", "bob", "alice"] {
        assert_eq!(get_with(&app, "/x", &[("authorization", who)]).await.text(), who);
    }
    assert_eq!(get(&app, "/x").await.text(), "");
}
