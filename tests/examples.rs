//! The examples do what they say, and forget no input: each of their routes is audited.
#![allow(dead_code, reason = "an example is a program, and its `main` is not called here")]

use std::time::Duration;

use axum::{Router, body::Body, http::Request};
use cacheback::testing;

#[cfg(feature = "axum")]
#[path = "../examples/invalidate.rs"]
mod invalidate;
#[path = "../examples/quickstart.rs"]
mod quickstart;

async fn audit(app: Router, path: &str) {
    let request = Request::get(path).body(Body::empty()).expect("a sound request");
    testing::audit(app, request).await.expect("no input was forgotten");
}

#[tokio::test] // P68
async fn the_quickstart() {
    audit(quickstart::app(Duration::ZERO), "/primes/1000000").await;
}

#[cfg(feature = "axum")]
mod the_shop {
    use axum::{
        Router,
        body::{Body, to_bytes},
        http::{Request, StatusCode},
        response::Response,
    };
    use cacheback::{Cache, CacheStatus, Outcome};
    use tower::ServiceExt;

    use super::{audit, invalidate};

    struct Client {
        app: Router,
        cache: Cache,
    }

    impl Client {
        fn new() -> Self {
            let cache = Cache::new();
            Self { app: invalidate::app(cache.clone()), cache }
        }

        /// The text of a page, and whether it came out of memory.
        async fn get(&self, path: &str) -> (String, bool) {
            let response = self.send("GET", path, "").await;
            let outcome: Outcome = *response.extensions().get().expect("pages have a layer");
            let text = to_bytes(response.into_body(), usize::MAX).await.expect("a page to its end");
            (String::from_utf8(text.into()).expect("pages are text"), outcome.status() == CacheStatus::Hit)
        }

        async fn send(&self, method: &str, path: &str, body: &'static str) -> Response {
            let request = Request::builder().method(method).uri(path).body(Body::from(body)).expect("a sound request");
            self.app.clone().oneshot(request).await.expect("routers do not fail")
        }

        async fn get_all<const N: usize>(&self, paths: [&str; N]) {
            for path in paths {
                self.get(path).await;
            }
        }
    }

    #[tokio::test] // P30, P31
    async fn after_a_post_the_reader_sees_the_new_price_and_unrelated_pages_stay_cached() {
        let client = Client::new();
        let pages = ["/items/1", "/items/2", "/categories/tea", "/categories/coffee"];
        client.get_all(pages).await;
        assert!(client.send("POST", "/items/1", "450").await.status().is_success());
        for (page, stays) in pages.into_iter().zip([false, true, false, true]) {
            let (text, hit) = client.get(page).await;
            assert_eq!(hit, stays, "{page}");
            assert_eq!(text.contains(" 450 "), !stays, "{page}: {text}");
            assert!(client.get(page).await.1, "{page} is stored again");
        }
    }

    #[tokio::test] // P34
    async fn where_stale_is_good_enough_the_next_reader_does_not_wait_and_the_one_after_sees_the_new_price() {
        let client = Client::new();
        let old = client.get("/items").await.0;
        client.send("POST", "/items/1", "450").await;
        assert_eq!(client.get("/items").await, (old, true));
        client.cache.settled().await;
        let (new, hit) = client.get("/items").await;
        assert!(hit && new.contains(" 450 "), "{new}");
    }

    #[tokio::test] // P31
    async fn what_was_deleted_is_gone_from_every_page_that_showed_it() {
        let client = Client::new();
        client.get_all(["/items/2", "/categories/tea", "/categories/coffee"]).await;
        assert!(client.send("DELETE", "/items/2", "").await.status().is_success());
        assert_eq!(client.send("GET", "/items/2", "").await.status(), StatusCode::NOT_FOUND);
        let (tea, hit) = client.get("/categories/tea").await;
        assert!(!hit && tea.contains("assam") && !tea.contains("sencha"), "{tea}");
        assert!(client.get("/categories/coffee").await.1);
    }

    #[tokio::test]
    async fn what_changed_nothing_invalidates_nothing() {
        let client = Client::new();
        client.get_all(["/items", "/items/1"]).await;
        assert_eq!(client.send("POST", "/items/1", "dear").await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(client.send("DELETE", "/items/9", "").await.status(), StatusCode::NOT_FOUND);
        assert!(client.get("/items/1").await.1);
        let stats = client.cache.stats();
        assert_eq!((stats.purges, stats.expiries), (0, 0));
    }

    #[tokio::test] // P68
    async fn no_page_forgets_an_input() {
        for page in ["/items", "/items/1", "/categories/tea"] {
            audit(invalidate::app(Cache::new()), page).await;
        }
    }
}
