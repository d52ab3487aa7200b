//! What the proxy does otherwise when its options say so, and parts of what is stored.

use std::time::Duration;

use crate::{origin::Reply, stand::Stand};

#[tokio::test(start_paused = true)] // P48
async fn rfc9111_5_2_1_what_clients_demand_counts_only_where_it_is_honoured() {
    for (honoured, text, other) in [(false, "1", 200), (true, "2", 504)] {
        let stand = Stand::with(
            |options| options.honor_request_directives = honoured,
            |asked| Reply::ok("Cache-Control: max-age=60", &asked.number.to_string()),
        );
        let stand = stand.await;
        stand.get("/", "").await;
        assert_eq!(stand.get("/", "Cache-Control: no-cache").await.text(), text);
        assert_eq!(stand.get("/other", "Cache-Control: only-if-cached").await.status(), other);
        assert_eq!(stand.get("/", "Cache-Control: only-if-cached").await.text(), text);
    }
}

#[tokio::test(start_paused = true)] // P50
async fn rfc9213_2_the_fields_that_are_named_count_before_cache_control() {
    let names = || Some(vec!["cdn-cache-control".parse().expect("a name")]);
    for (targeted, cdn, own) in [(names(), true, false), (None, false, true)] {
        let stand = Stand::with(
            |options| options.targeted = targeted,
            |asked| match asked.path() {
                "/cdn" => Reply::ok("CDN-Cache-Control: max-age=60\nCache-Control: no-store", "body"),
                _ => Reply::ok("Cacheback-Cache-Control: max-age=60\nCache-Control: no-store", "body"),
            },
        );
        let stand = stand.await;
        for (path, hit) in [("/cdn", cdn), ("/own", own)] {
            stand.get(path, "").await;
            assert_eq!(stand.get(path, "").await.is_hit(), hit, "{path}");
        }
        // What is not for this cache alone goes on to the next.
        assert_eq!(stand.get("/cdn", "").await.field("cdn-cache-control"), "max-age=60");
    }
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_4_2_2_a_lifetime_is_guessed_only_where_that_is_wanted() {
    for heuristic in [false, true] {
        let stand = Stand::with(
            |options| options.heuristic = heuristic,
            |_| Reply::ok("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "body"),
        );
        let stand = stand.await;
        stand.get("/", "").await;
        assert_eq!(stand.get("/", "").await.is_hit(), heuristic);
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_4_2_4_stale_responses_stand_in_for_an_origin_that_is_gone_where_that_is_wanted() {
    for (window, status) in [(None, 502), (Some(Duration::from_secs(60)), 200)] {
        let mut stand =
            Stand::with(|options| options.stale_if_error = window, |_| Reply::ok("Cache-Control: max-age=1", "old"))
                .await;
        stand.get("/", "").await;
        stand.origin.kill().await;
        stand.pass(60).await;
        assert_eq!(stand.get("/", "").await.status(), status);
        stand.pass(1).await;
        assert_eq!(stand.get("/", "").await.status(), 502);
    }
}

#[tokio::test(start_paused = true)] // P47
async fn rfc9110_14_parts_are_given_out_of_what_is_stored_and_else_asked_for() {
    let stand = Stand::new(|asked| match asked.field("range").as_str() {
        "" => Reply::ok("Cache-Control: max-age=60\nETag: \"a\"", &"0123456789".repeat(100)),
        _ => Reply::of("206 Partial Content", "Cache-Control: max-age=60\nContent-Range: bytes 2-3/1000", "of"),
    })
    .await;
    for _ in 0..2 {
        let part = stand.get("/", "Range: bytes=2-3").await;
        assert_eq!((part.status(), part.text(), part.is_hit()), (206, "of", false));
    }
    stand.get("/", "").await;
    for (range, text) in [("2-3", "23"), ("998-", "89"), ("-1", "9"), ("995-9999", "56789")] {
        let part = stand.get("/", &format!("Range: bytes={range}")).await;
        assert_eq!((part.status(), part.text(), part.is_hit()), (206, text, true), "{range}");
    }
    assert_eq!(stand.get("/", "Range: bytes=2-3\nIf-Range: \"b\"").await.body.len(), 1_000);
    assert_eq!(stand.get("/", "Range: bytes=1000-").await.field("content-range"), "bytes */1000");
    let parts = stand.get("/", "Range: bytes=0-1,998-999").await;
    assert!(parts.field("content-type").starts_with("multipart/byteranges; boundary="), "{parts:?}");
    assert_eq!(stand.origin.runs(), 3);
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_2_a_group_is_invalidated_as_a_whole() {
    let stand = Stand::new(|asked| match (asked.method(), asked.path()) {
        ("GET", "/other") => Reply::ok("Cache-Control: max-age=60", "body"),
        ("GET", _) => Reply::ok("Cache-Control: max-age=60\nCache-Groups: \"news\"", "body"),
        _ => Reply::ok("Cache-Group-Invalidation: \"news\"", ""),
    })
    .await;
    for path in ["/a", "/b", "/other"] {
        stand.get(path, "").await;
    }
    stand.send("POST", "/edit", "", "content").await;
    for (path, hit) in [("/a", false), ("/b", false), ("/other", true)] {
        assert_eq!(stand.get(path, "").await.is_hit(), hit, "{path}");
    }
}
