//! Parts of responses (RFC 9110 §14): what of a stored 200 is sent, what is not, and when the whole is fetched for a part.

mod support;

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness, Http, Plan};
use http_body_util::{BodyExt, Full};
use support::http::{Clients, Origin, Reply, get, get_with, headers, pass, request, secs, send, settle};
use support::net::{Script, scripted};
use tower::ServiceExt;

const TEN: &str = "0123456789";
const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// A page with these fields, which is whole at once.
fn page(fields: &[(&str, &str)], content: &'static str) -> Origin {
    let fields = headers(fields);
    Origin::new(move |_| (fields.clone(), content))
}

/// A page whose content comes after its head.
struct Streamed {
    origin: Origin,
    scripts: Arc<Mutex<Vec<Script>>>,
}

impl Streamed {
    /// Its length is stated, or is not.
    fn new(stated: Option<&'static str>) -> Self {
        let scripts = Arc::<Mutex<Vec<Script>>>::default();
        let kept = Arc::clone(&scripts);
        let origin = Origin::new(move |_| {
            let (script, body) = scripted();
            kept.lock().expect("no test panics with it").push(script);
            let length = stated.map(|length| headers(&[("content-length", length)]));
            (length.unwrap_or_default(), Body::new(body))
        });
        Self { origin, scripts }
    }

    /// Lets all of it come that is still to come.
    fn come(&self) {
        for mut script in self.scripts.lock().expect("no test panics with it").drain(..) {
            script.data("012").data("345").data("").data("6789").trailers(headers(&[("x-trailer", "1")]));
            script.end();
        }
    }

    /// Asks for a part, and lets the content come once the head is there.
    async fn part(&self, app: &Router, range: &str) -> Reply {
        let response = app.clone().oneshot(request("GET", "/x", &[("range", range)])).await.expect("a response");
        self.come();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body");
        assert!(body.trailers().is_none() || parts.status == 200);
        Reply { status: parts.status, headers: parts.headers, body: body.to_bytes(), extensions: parts.extensions }
    }
}

async fn part(app: &Router, range: &str) -> Reply {
    get_with(app, "/x", &[("range", range)]).await
}

fn status(reply: &Reply) -> u16 {
    reply.status.as_u16()
}

/// The parts of a multipart body: their heads, and what they hold.
fn parts(reply: &Reply) -> Vec<(String, String)> {
    let boundary = reply.field("content-type").replace("multipart/byteranges; boundary=", "--");
    let text = reply.text().strip_suffix(&format!("\r\n{boundary}--\r\n")).expect("it is closed");
    let between = format!("\r\n{boundary}\r\n");
    let parts = text.split(&between).skip(1);
    parts
        .map(|part| part.split_once("\r\n\r\n").expect("a head"))
        .map(|(head, data)| (head.into(), data.into()))
        .collect()
}

// ---- one part ----

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_2_a_part_of_a_stored_200_is_served_from_it() {
    let origin = page(&[("etag", "\"a\""), ("content-type", "text/x"), ("x-own", "1"), ("vary", "x-v")], TEN);
    let app = origin.behind(minute());
    get(&app, "/x").await;
    pass(7.0).await;
    for (range, sent, content_range) in [
        ("bytes=0-1", "01", "bytes 0-1/10"),
        ("bytes=1-", "123456789", "bytes 1-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
        ("bytes=0-", TEN, "bytes 0-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=2-3,50-", "23", "bytes 2-3/10"),
        ("bytes=2-3,3-5", "2345", "bytes 2-5/10"),
    ] {
        let reply = part(&app, range).await;
        assert_eq!((status(&reply), reply.text()), (206, sent), "{range}");
        assert_eq!(reply.field("content-range"), content_range);
        assert_eq!(reply.field("content-length"), sent.len().to_string());
        // §15.3.7: all that the 200 says.
        for (name, value) in
            [("etag", "\"a\""), ("content-type", "text/x"), ("x-own", "1"), ("vary", "x-v"), ("age", "7")]
        {
            assert_eq!(reply.field(name), value, "{range}");
        }
        assert!(reply.has("date"));
        assert_eq!(reply.said(), "hit; ttl=53");
    }
    assert_eq!(origin.runs(), 1);
    assert_eq!(get(&app, "/x").await.text(), TEN, "nothing has become of what is stored");
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_2_what_is_not_understood_gets_the_whole() {
    let app = page(&[], TEN).behind(minute());
    get(&app, "/x").await;
    for range in ["items=0-1", "bytes=", "bytes=5-2", "bytes=0-1,x", "0-1", "bytes=a-b"] {
        let reply = part(&app, range).await;
        assert_eq!((status(&reply), reply.text(), reply.has("content-range")), (200, TEN, false), "{range}");
    }
    let twice = get_with(&app, "/x", &[("range", "bytes=0-1"), ("range", "bytes=0-1")]).await;
    assert_eq!(status(&twice), 200);
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_2_a_range_of_a_head_is_ignored() {
    let origin = page(&[], TEN);
    let app = origin.behind(minute());
    get(&app, "/x").await;
    let head = send(&app, request("HEAD", "/x", &[("range", "bytes=0-1")])).await;
    assert_eq!((status(&head), head.field("content-length").as_str()), (200, "10"));
    assert!(!head.has("content-range"));
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_15_5_17_where_none_of_it_is_there_the_client_is_told_how_long_it_is() {
    let fields = [
        ("etag", "\"a\""),
        ("last-modified", EARLY),
        ("content-type", "text/x"),
        ("content-language", "de"),
        ("cache-control", "max-age=60, s-maxage=60"),
        ("cdn-cache-control", "max-age=60"),
        ("access-control-allow-origin", "*"),
        ("content-security-policy", "default-src 'none'"),
    ];
    let app = page(&fields, TEN).behind(minute());
    get(&app, "/x").await;
    for range in ["bytes=10-", "bytes=-0", "bytes=99-100,50-"] {
        let reply = part(&app, range).await;
        assert_eq!((status(&reply), reply.text()), (416, ""), "{range}");
        assert_eq!(
            (reply.field("content-range").as_str(), reply.field("content-length").as_str()),
            ("bytes */10", "0")
        );
        // A cache further down would answer others with it.
        assert_eq!(reply.field("cache-control"), "no-store");
        for gone in ["etag", "last-modified", "content-type", "content-language", "cdn-cache-control"] {
            assert!(!reply.has(gone), "{gone}");
        }
        assert!(reply.has("access-control-allow-origin") && reply.has("content-security-policy"));
    }
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_2_of_nothing_there_are_no_parts() {
    let app = page(&[], "").behind(minute());
    get(&app, "/x").await;
    for range in ["bytes=0-", "bytes=-5"] {
        assert_eq!(status(&part(&app, range).await), 200, "{range}");
    }
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_2_ranges_apply_to_a_200_alone() {
    for code in [203, 404] {
        let code = StatusCode::from_u16(code).expect("a status");
        let origin = Origin::new(move |_| (code, [("cache-control", "max-age=60")], TEN));
        let app = origin.behind(minute());
        get(&app, "/x").await;
        for range in ["bytes=0-1", "bytes=50-"] {
            let reply = part(&app, range).await;
            assert_eq!((reply.status, reply.text()), (code, TEN));
        }
    }
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_1_2_a_part_of_a_coded_response_is_of_its_coded_bytes() {
    let app = page(&[("content-encoding", "gzip"), ("content-digest", "sha-256=:x:"), ("repr-digest", "x")], TEN)
        .behind(minute());
    get(&app, "/x").await;
    let one = part(&app, "bytes=0-1").await;
    assert_eq!((status(&one), one.text(), one.field("content-encoding").as_str()), (206, "01", "gzip"));
    // What it hashes to as a message, and as a whole.
    assert!(!one.has("content-digest") && one.has("repr-digest"));
}

#[tokio::test(start_paused = true)] // P47, P53
async fn a_part_has_no_trailers() {
    let origin = Origin::new(|_| {
        let body = Full::from(TEN).with_trailers(async { Some(Ok(headers(&[("x-trailer", "1")]))) });
        ([("trailer", "x-trailer")], Body::new(body))
    });
    let app = origin.behind(minute());
    let first = app.clone().oneshot(request("GET", "/x", &[])).await.expect("a response");
    assert!(first.into_body().collect().await.expect("a body").trailers().is_some());
    let reply = app.clone().oneshot(request("GET", "/x", &[("range", "bytes=8-9")])).await.expect("a response");
    assert_eq!(reply.status(), 206);
    assert!(!reply.headers().contains_key("trailer"));
    let body = reply.into_body().collect().await.expect("a body");
    assert!(body.trailers().is_none());
    assert_eq!(&body.to_bytes()[..], b"89");
}

// ---- several parts ----

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_15_3_7_2_several_parts_have_a_head_each() {
    let long: &'static str = Box::leak((0..1_000).map(|n| format!("{n:04} ")).collect::<String>().into_boxed_str());
    let app = page(&[("content-type", "text/x"), ("etag", "\"a\"")], long).behind(minute());
    get(&app, "/x").await;
    let reply = part(&app, "bytes=4000-4003, 0-3, 9000-, -4, 10-13").await;
    assert_eq!(status(&reply), 206);
    assert!(!reply.has("content-range"), "that would say that it is one part");
    assert_eq!(reply.field("content-length"), reply.body.len().to_string());
    assert_eq!(reply.field("etag"), "\"a\"");
    let head = |range| format!("Content-Type: text/x\r\nContent-Range: bytes {range}/5000");
    // In the order in which they were asked for; what lies near another one is sent along with it.
    assert_eq!(
        parts(&reply),
        [
            (head("4000-4003"), long[4000..4004].into()),
            (head("0-13"), long[..14].into()),
            (head("4996-4999"), long[4996..].into())
        ]
    );
    let boundary = |reply: &Reply| reply.field("content-type");
    assert_ne!(boundary(&part(&app, "bytes=0-0,4000-4000").await), boundary(&reply), "nobody foresees it");
}

#[tokio::test(start_paused = true)] // P47
async fn several_parts_of_a_coded_response_are_the_whole() {
    let long: &'static str = Box::leak("x".repeat(5_000).into_boxed_str());
    let app = page(&[("content-encoding", "gzip")], long).behind(minute());
    get(&app, "/x").await;
    assert_eq!(status(&part(&app, "bytes=0-0,4000-4000").await), 200);
    assert_eq!(status(&part(&app, "bytes=0-0,1-1").await), 206, "these are one");
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_17_15_no_request_makes_more_of_a_response_than_there_is() {
    let long: &'static str = Box::leak("x".repeat(20_000).into_boxed_str());
    let app = page(&[], long).behind(minute());
    get(&app, "/x").await;
    let list = |count: usize, range: fn(usize) -> String| {
        format!("bytes={}", (0..count).map(range).collect::<Vec<_>>().join(","))
    };
    for (range, code) in [
        (list(1_300, |_| "0-".into()), 200),
        (list(32, |_| "0-".into()), 206),
        (list(32, |at| format!("{at}-")), 206),
        (list(32, |at| format!("{0}-{0}", (31 - at) * 100)), 206),
        (list(32, |at| format!("{0}-{0}", at * 500)), 206),
        (list(1_300, |at| format!("{at}-{at}")), 200),
        (format!("bytes=0-0{}", ",".repeat(5_000)), 200),
    ] {
        let reply = part(&app, &range).await;
        assert_eq!(status(&reply), code, "{range:.99}");
        assert!(reply.body.len() < long.len() + 200, "{} bytes for {range:.99}", reply.body.len());
    }
}

// ---- conditions ----

#[tokio::test(start_paused = true)] // P46, P47
async fn rfc9110_13_2_2_who_has_the_response_gets_no_part_of_it() {
    let app = page(&[("etag", "\"a\""), ("last-modified", EARLY), ("date", LATER)], TEN).behind(minute());
    get(&app, "/x").await;
    let range = ("range", "bytes=0-1");
    for (fields, code) in [
        (&[range, ("if-none-match", "\"a\"")][..], 304),
        (&[range, ("if-none-match", "\"b\"")], 206),
        (&[range, ("if-modified-since", EARLY)], 304),
        (&[range, ("if-range", "\"a\"")], 206),
        (&[range, ("if-range", "\"b\"")], 200),
        (&[range, ("if-range", EARLY)], 206),
        (&[range, ("if-range", LATER)], 200),
        (&[range, ("if-range", "\"a\""), ("if-none-match", "\"a\"")], 304),
        (&[range, ("if-range", "\"b\""), ("if-none-match", "\"b\"")], 200),
        (&[("range", "bytes=50-"), ("if-none-match", "\"a\"")], 304),
        (&[("range", "bytes=50-"), ("if-range", "\"a\"")], 416),
        (&[("range", "bytes=50-"), ("if-range", "\"b\"")], 200),
        (&[("if-range", "\"b\"")], 200),
    ] {
        let reply = get_with(&app, "/x", fields).await;
        assert_eq!(status(&reply), code, "{fields:?}");
        assert_eq!(reply.outcome().status(), CacheStatus::Hit);
        assert_eq!(reply.has("content-range"), code == 206 || code == 416);
    }
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_15_3_7_who_has_another_part_is_not_told_again_what_he_knows() {
    let fields = [("etag", "\"a\""), ("last-modified", EARLY), ("content-language", "de"), ("content-type", "text/x")];
    let app = page(&fields, TEN).behind(minute());
    get(&app, "/x").await;
    let next = get_with(&app, "/x", &[("range", "bytes=5-"), ("if-range", "\"a\"")]).await;
    assert!(!next.has("last-modified") && !next.has("content-language"));
    assert!(next.has("etag") && next.has("content-type") && next.has("date"));
    let first = part(&app, "bytes=0-4").await;
    assert!(first.has("last-modified") && first.has("content-language"));
}

// ---- stale ----

#[tokio::test(start_paused = true)] // P5, P20, P47
async fn a_part_of_a_stale_response_is_served_at_once_and_the_whole_is_refreshed() {
    let origin = Origin::new(|seen| format!("{} run", seen.run));
    let app = origin.behind(minute());
    get(&app, "/x").await;
    pass(61.0).await;
    let stale = part(&app, "bytes=0-0").await;
    assert_eq!((status(&stale), stale.text(), stale.outcome().is_stale()), (206, "1", true));
    settle().await;
    let last = origin.last();
    assert_eq!((last.run, last.background, last.field("range").as_str()), (2, true, ""));
    assert_eq!(get(&app, "/x").await.text(), "2 run");
}

#[tokio::test(start_paused = true)] // P6, P47
async fn a_part_of_what_is_too_stale_comes_from_a_run_for_the_whole() {
    let layer = || CachebackLayer::new(Freshness::exact(secs(60)).stale_if_error(secs(60)));
    let origin = Origin::new(|seen| format!("{} run", seen.run));
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(61.0).await;
    origin.only_the_first(1);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[("range", "bytes=0-0")]).await;
    clients.get(&app, "/x", &[("range", "bytes=2-2")]).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(
        answers.iter().map(|answer| (status(answer), answer.text())).collect::<Vec<_>>(),
        [(206, "2"), (206, "r")]
    );
    assert_eq!((origin.runs(), origin.last().field("range").as_str()), (2, ""));
    assert_eq!(get(&app, "/x").await.said(), "hit; ttl=60");

    let origin =
        Origin::new(|seen| if seen.run == 1 { TEN.into_response() } else { StatusCode::BAD_GATEWAY.into_response() });
    let app = origin.behind(layer());
    get(&app, "/x").await;
    pass(61.0).await;
    let reply = part(&app, "bytes=0-0").await;
    assert_eq!((status(&reply), reply.text(), reply.outcome().detail()), (206, "0", Some(Detail::StaleIfError)));
}

#[tokio::test(start_paused = true)] // P46, P47
async fn rfc9111_5_2_2_4_a_part_of_what_has_to_be_validated_is_served_once_it_was() {
    let origin = Origin::new(|seen| match seen.field("if-none-match").as_str() {
        "\"a\"" => StatusCode::NOT_MODIFIED.into_response(),
        _ => ([("etag", "\"a\""), ("cache-control", "no-cache")], TEN).into_response(),
    });
    let app = origin.behind(minute());
    get(&app, "/x").await;
    let reply = part(&app, "bytes=0-1").await;
    assert_eq!((status(&reply), reply.text()), (206, "01"));
    assert_eq!((origin.last().field("if-none-match").as_str(), origin.last().field("range").as_str()), ("\"a\"", ""));
}

// ---- without a stored response ----

/// An origin that serves ranges itself.
fn serving_ranges() -> Origin {
    Origin::new(|seen| match seen.field("range").as_str() {
        "" => TEN.into_response(),
        _ => (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 0-0/10"), ("cache-control", "max-age=60")], "0")
            .into_response(),
    })
}

#[tokio::test(start_paused = true)] // P47
async fn where_nothing_is_stored_a_range_goes_forward_untouched_and_waits_for_nobody() {
    let origin = serving_ranges();
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    for _ in 0..2 {
        clients.get(&app, "/x", &[("range", "bytes=0-0"), ("if-range", "\"a\"")]).await;
    }
    origin.begun(3).await;
    origin.release();
    let answers = clients.answers().await;
    for reply in &answers[1..] {
        assert_eq!((status(reply), reply.text(), reply.field("content-range").as_str()), (206, "0", "bytes 0-0/10"));
        assert_eq!(reply.said(), "fwd=uri-miss; fwd-status=206; detail=range");
    }
    let last = origin.last();
    assert_eq!((last.field("range").as_str(), last.field("if-range").as_str()), ("bytes=0-0", "\"a\""));
    assert_eq!(get(&app, "/x").await.text(), TEN);
}

#[tokio::test(start_paused = true)] // P41, P47
async fn nothing_of_a_part_is_stored_and_what_it_answers_is_not_touched() {
    let origin = serving_ranges();
    let app = origin.behind(minute());
    for runs in 1..=2 {
        assert_eq!(status(&part(&app, "bytes=0-0").await), 206);
        assert_eq!(origin.runs(), runs);
    }
    assert_eq!(get(&app, "/x").await.text(), TEN);
    // One that serves no ranges has chosen to send the whole.
    let whole = part(&page(&[], TEN).behind(minute()), "bytes=0-0").await;
    assert_eq!((status(&whole), whole.text()), (200, TEN));
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9111_4_1_a_range_of_another_variant_goes_forward() {
    let origin = page(&[("vary", "x-v")], TEN);
    let app = origin.behind(minute());
    get_with(&app, "/x", &[("x-v", "1")]).await;
    let other = get_with(&app, "/x", &[("x-v", "2"), ("range", "bytes=0-0")]).await;
    assert_eq!(
        (status(&other), other.outcome().status(), other.outcome().detail()),
        (200, CacheStatus::VaryMiss, Some(Detail::Range))
    );
    let same = get_with(&app, "/x", &[("x-v", "1"), ("range", "bytes=0-0")]).await;
    assert_eq!(status(&same), 206);
}

#[tokio::test(start_paused = true)] // P48, P47
async fn a_range_with_no_store_reads_what_is_there_and_leads_nothing() {
    let layer = CachebackLayer::new(Freshness::exact(secs(60)).stale_if_error(secs(60))).fill_on_range(1 << 20);
    let origin = Origin::counting();
    let app = origin.behind(layer);
    let shy = [("range", "bytes=0-0"), ("cache-control", "no-store")];
    assert_eq!(get_with(&app, "/x", &shy).await.outcome().detail(), Some(Detail::RequestNoStore));
    assert_eq!(origin.last().field("range"), "bytes=0-0");
    get(&app, "/x").await;
    assert_eq!(status(&get_with(&app, "/x", &shy).await), 206);
    pass(61.0).await;
    assert_eq!(get_with(&app, "/x", &shy).await.outcome().detail(), Some(Detail::RequestNoStore));
}

#[tokio::test(start_paused = true)] // P35, P47
async fn what_would_become_of_a_range_is_explained() {
    let ask = || request("GET", "/x", &[("range", "bytes=0-0")]);
    let layer = minute();
    assert_eq!(layer.explain(ask()).await.to_string(), "fwd=uri-miss; detail=range; plan=forward");
    assert_eq!(layer.clone().fill_on_range(9).explain(ask()).await.plan(), Plan::Lead);
    get(&Origin::counting().behind(layer.clone()), "/x").await;
    assert_eq!(layer.explain(ask()).await.plan(), Plan::Nothing);
}

// ---- the whole for a part ----

fn filling() -> CachebackLayer<Http> {
    minute().fill_on_range(1 << 20)
}

#[tokio::test(start_paused = true)] // P47
async fn with_fill_on_range_the_whole_is_fetched_stored_and_a_part_of_it_sent() {
    for streams in [false, true] {
        let streamed = Streamed::new(Some("10"));
        let origin = if streams { streamed.origin.clone() } else { page(&[], TEN) };
        let app = origin.behind(filling());
        for (range, sent, content_range) in [("bytes=4-6", "456", "bytes 4-6/10"), ("bytes=-2", "89", "bytes 8-9/10")] {
            let reply = streamed.part(&app, range).await;
            assert_eq!(
                (status(&reply), reply.text(), reply.field("content-range").as_str()),
                (206, sent, content_range)
            );
            assert_eq!(reply.field("content-length"), sent.len().to_string());
        }
        assert_eq!((origin.runs(), origin.last().field("range").as_str()), (1, ""));
        assert_eq!(get(&app, "/x").await.text(), TEN);
    }
}

#[tokio::test(start_paused = true)] // P11, P52
async fn a_client_who_has_its_part_leaves_the_rest_to_the_store() {
    // Who leaves before that leaves as ever: the run goes on if there is room for it among the refreshes.
    for (range, reads, refreshes, runs) in
        [("bytes=0-0", true, 0, 1), ("bytes=10-", true, 0, 1), ("bytes=0-0", false, 1, 1), ("bytes=0-0", false, 0, 2)]
    {
        let streamed = Streamed::new(Some("10"));
        let cache = Cache::builder().max_refreshes(refreshes).build();
        let app = streamed.origin.behind(cache.layer(secs(60)).fill_on_range(1 << 20));
        let reply = app.clone().oneshot(request("GET", "/x", &[("range", range)])).await.expect("a response");
        if reads {
            let first = streamed.scripts.lock().expect("no test panics with it").pop().expect("a run");
            first.data("01");
            let part = reply.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(part.len(), usize::from(range == "bytes=0-0"));
            settle().await;
            first.data("23456789");
        } else {
            drop(reply);
            settle().await;
        }
        streamed.come();
        settle().await;
        let again = app.clone().oneshot(request("GET", "/x", &[])).await.expect("a response");
        streamed.come();
        assert_eq!(&again.into_body().collect().await.expect("a body").to_bytes()[..], TEN.as_bytes());
        assert_eq!(streamed.origin.runs(), runs, "{range} {reads} {refreshes}");
    }
}

#[tokio::test(start_paused = true)] // P47
async fn what_streams_without_a_length_or_is_asked_for_in_several_parts_is_sent_whole_the_first_time() {
    let long: &'static str = Box::leak(TEN.repeat(100).into_boxed_str());
    for (stated, range, first_time) in [
        (None, "bytes=0-1", 200),
        (Some("10"), "bytes=0-1", 206),
        (Some("10"), "bytes=0-1,8-9", 206),
        (Some("1000"), "bytes=0-1,900-901", 200),
    ] {
        let streamed = Streamed::new(stated);
        let app = streamed.origin.behind(filling());
        let response = app.clone().oneshot(request("GET", "/x", &[("range", range)])).await.expect("a response");
        assert_eq!(response.status(), first_time, "{stated:?} {range}");
        if stated == Some("1000") {
            let mut script = streamed.scripts.lock().expect("no test panics with it").pop().expect("a run");
            script.data(long);
            script.end();
        }
        streamed.come();
        let sent = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(sent.len() >= 10, range.contains(',') || first_time == 200, "{stated:?} {range}");
        settle().await;
        assert_eq!(status(&part(&app, range).await), 206);
        assert_eq!(streamed.origin.runs(), 1);
    }
}

#[tokio::test(start_paused = true)] // P10, P47
async fn many_who_want_parts_of_one_page_have_one_run_for_the_whole() {
    let origin = page(&[], TEN);
    let app = origin.behind(filling());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for at in 0..10 {
        clients.get(&app, "/x", &[("range", &format!("bytes={at}-{at}"))]).await;
    }
    clients.get(&app, "/x", &[]).await;
    origin.release();
    let answers = clients.answers().await;
    for (at, reply) in answers[..10].iter().enumerate() {
        assert_eq!((status(reply), reply.text()), (206, at.to_string().as_str()));
    }
    assert_eq!((answers[10].text(), origin.runs()), (TEN, 1));
}

#[tokio::test(start_paused = true)] // P15, P47
async fn a_part_that_waited_for_what_is_not_shared_goes_forward_as_it_is() {
    let origin = page(&[("cache-control", "private")], TEN);
    let app = origin.behind(filling().hit_for_miss(secs(0)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for range in ["bytes=0-0", "bytes=1-1"] {
        clients.get(&app, "/x", &[("range", range)]).await;
    }
    origin.release();
    let answers = clients.answers().await;
    assert_eq!((status(&answers[0]), answers[0].text()), (206, "0"), "that run was its own");
    assert_eq!(answers[1].outcome().detail(), Some(Detail::Range));
    assert_eq!(origin.seen().iter().map(|seen| seen.field("range")).collect::<Vec<_>>(), ["", "bytes=1-1"]);
}

#[tokio::test(start_paused = true)] // P13, P47
async fn a_part_waits_no_longer_for_another_ones_run_than_anybody() {
    let origin = page(&[], TEN);
    let app = origin.behind(filling());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[("range", "bytes=0-0")]).await;
    pass(11.0).await;
    origin.begun(2).await;
    origin.release();
    assert_eq!(status(&clients.answers().await[1]), 206);
}

#[tokio::test(start_paused = true)] // P47
async fn what_begins_too_far_in_is_not_worth_the_whole() {
    for layer in [minute().fill_on_range(5), filling().body_cap(5)] {
        let origin = page(&[], TEN);
        let app = origin.behind(layer);
        for range in ["bytes=5-", "bytes=0-0,5-5", "items=0-1", "bytes=x"] {
            assert_eq!(part(&app, range).await.outcome().detail(), Some(Detail::Range), "{range}");
            assert_eq!(origin.last().field("range"), range);
        }
        part(&app, "bytes=4-").await;
        assert_eq!(origin.last().field("range"), "", "that one is");
    }
}

#[tokio::test(start_paused = true)] // P15, P47
async fn what_turns_out_too_large_is_cut_out_of_the_stream_and_not_fetched_again_for_a_part() {
    for stated in [true, false] {
        // Told by the field, or by the body alone.
        let streamed = Streamed::new(stated.then_some("10"));
        let app = streamed.origin.behind(filling().body_cap(9));
        let first = streamed.part(&app, "bytes=2-4").await;
        match stated {
            true => assert_eq!(
                (status(&first), first.text(), first.field("content-range").as_str()),
                (206, "234", "bytes 2-4/10")
            ),
            false => assert_eq!((status(&first), first.text()), (200, TEN)),
        }
        settle().await;
        for _ in 0..2 {
            let next = streamed.part(&app, "bytes=2-4").await;
            assert_eq!(next.outcome().detail(), Some(Detail::Range));
            assert_eq!(streamed.origin.last().field("range"), "bytes=2-4");
        }
        pass(121.0).await;
        streamed.part(&app, "bytes=2-4").await;
        assert_eq!(streamed.origin.last().field("range"), "", "it may have become smaller");
    }
}

#[tokio::test(start_paused = true)] // P47, P53
async fn what_ends_before_its_stated_length_ends_so_in_the_part_too() {
    let streamed = Streamed::new(Some("20"));
    let app = streamed.origin.behind(filling());
    let reply = streamed.part(&app, "bytes=4-18").await;
    assert_eq!((status(&reply), reply.field("content-length").as_str(), reply.text()), (206, "15", "456789"));
    assert_eq!(status(&streamed.part(&app, "bytes=15-18").await), 206);
}

#[tokio::test(start_paused = true)] // P47
async fn a_failure_of_the_run_for_the_whole_is_the_answer() {
    let origin = Origin::new(|_| (StatusCode::NOT_FOUND, TEN));
    let app = origin.behind(filling());
    let reply = part(&app, "bytes=0-0").await;
    assert_eq!((status(&reply), reply.text()), (404, TEN));
}

#[test]
#[should_panic(expected = "fill_on_range(0)")]
fn nothing_is_not_worth_fetching() {
    let _layer = minute().fill_on_range(0);
}
