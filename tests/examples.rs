//! The examples do what they say, and forget no input: each of their routes is audited.
#![allow(dead_code, reason = "an example is a program, and its `main` is not called here")]

use std::time::Duration;

use axum::{Router, body::Body, http::Request};
use cacheback::testing;

#[cfg(feature = "axum")]
#[path = "../examples/composition.rs"]
mod composition;
#[path = "../examples/database.rs"]
mod database;
#[cfg(feature = "axum")]
#[path = "../examples/invalidate.rs"]
mod invalidate;
#[path = "../examples/quickstart.rs"]
mod quickstart;
#[path = "../examples/tonic.rs"]
mod tonic;
#[path = "../examples/typed.rs"]
mod typed;

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

#[cfg(feature = "axum")]
mod the_composition {
    use axum::{
        Router,
        body::{Body, to_bytes},
        http::{HeaderMap, Request, StatusCode},
    };
    use cacheback::{Cache, CacheStatus, Outcome};
    use tower::ServiceExt;

    use super::{audit, composition};

    struct Seen {
        status: StatusCode,
        fields: HeaderMap,
        hit: bool,
        text: String,
    }

    async fn get(app: &Router, path: &str, fields: &[(&str, &str)]) -> Seen {
        let request = fields.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        let request = request.body(Body::empty()).expect("a sound request");
        let (head, body) = app.clone().oneshot(request).await.expect("routers do not fail").into_parts();
        let hit = head.extensions.get::<Outcome>().is_some_and(|outcome| outcome.status() == CacheStatus::Hit);
        let text = to_bytes(body, usize::MAX).await.expect("a page to its end");
        Seen { status: head.status, fields: head.headers, hit, text: String::from_utf8_lossy(&text).into_owned() }
    }

    #[tokio::test(start_paused = true)] // P90
    async fn a_quote_is_made_once_and_read_from_everywhere() {
        let app = composition::app(&Cache::new());
        let first = get(&app, "/quotes/7", &[]).await;
        let second = get(&app, "/quotes/7", &[("origin", "https://a.example")]).await;
        assert_eq!((second.hit, &second.text), (true, &first.text));
        assert_eq!(second.fields["access-control-allow-origin"], "*");
    }

    #[tokio::test(start_paused = true)] // P90
    async fn a_quote_that_hangs_and_one_that_panics_are_failures_and_never_stored() {
        let cache = Cache::new();
        let app = composition::app(&cache);
        for (path, status) in [("/quotes/13", 504), ("/quotes/0", 500)] {
            for _ in 0..2 {
                let seen = get(&app, path, &[]).await;
                assert_eq!((seen.status.as_u16(), seen.hit), (status, false), "{path}");
            }
        }
        assert_eq!(cache.stats().stored, 0);
    }

    #[tokio::test] // P90, P43
    async fn members_share_a_report_and_each_is_asked_who_he_is() {
        let app = composition::app(&Cache::new());
        let report = async |fields: &[_]| get(&app, "/members/report", fields).await;
        let ada = report(&[("authorization", "Bearer ada")]).await;
        let bob = report(&[("authorization", "Bearer bob")]).await;
        assert_eq!((bob.hit, bob.text), (true, ada.text));
        assert_eq!(report(&[]).await.status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test] // P90, P43
    async fn each_user_has_a_page_of_his_own() {
        let app = composition::app(&Cache::new());
        for hit in [false, true] {
            for name in ["ada", "bob"] {
                let seen = get(&app, "/account", &[("authorization", &format!("Bearer {name}"))]).await;
                assert_eq!(seen.hit, hit);
                assert!(seen.text.starts_with(&format!("the account of {name},")), "{}", seen.text);
            }
        }
        assert_eq!(get(&app, "/account", &[]).await.status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test] // P90, P47
    async fn a_page_of_the_guide_is_stored_plain_and_coded_for_whoever_reads_codes() {
        let app = composition::app(&Cache::new());
        let page = async |fields: &[_]| get(&app, "/guide/composition.md", fields).await;
        let coded = page(&[("accept-encoding", "gzip")]).await;
        assert_eq!((coded.hit, &coded.fields["content-encoding"]), (false, &"gzip".parse().unwrap()));
        let plain = page(&[]).await;
        assert!(plain.hit && plain.text.starts_with("Which middleware"));
        let part = page(&[("range", "bytes=0-15"), ("accept-encoding", "gzip")]).await;
        assert_eq!(
            (part.status, part.hit, part.text.as_str()),
            (StatusCode::PARTIAL_CONTENT, true, "Which middleware")
        );
    }

    #[tokio::test(start_paused = true)] // P68
    async fn no_page_forgets_an_input() {
        for page in ["/quotes/7", "/guide/composition.md"] {
            audit(composition::app(&Cache::new()), page).await;
        }
    }
}

mod the_library {
    use super::database::{Book, Library};

    const EMMA: &str = "Emma";

    fn book(id: u32, title: &str) -> Book {
        Book { id, title: title.into() }
    }

    async fn title(library: &Library, id: u32) -> Option<String> {
        library.book(id).await.expect("the database answers").map(|book| book.title)
    }

    async fn list(library: &Library, author: &str) -> Vec<Book> {
        library.books_by(author).await.expect("the database answers").to_vec()
    }

    // `QuerySetGetJob` of django-cacheback: TestQuerySetGetJob.test_fetch
    #[tokio::test] // P81
    async fn a_row_is_queried_once_by_its_key_and_one_that_is_not_there_each_time() {
        let library = Library::open().unwrap();
        for _ in 0..2 {
            assert_eq!(title(&library, 1).await.as_deref(), Some(EMMA));
        }
        assert_eq!(library.queries(), 1);
        for _ in 0..2 {
            assert_eq!(title(&library, 99).await, None);
        }
        assert_eq!(library.queries(), 3);
    }

    // `QuerySetFilterJob` of django-cacheback: TestQuerySetGetFilterJob.test_fetch, test_key_django_model
    #[tokio::test] // P81
    async fn rows_are_queried_once_by_each_filter() {
        let library = Library::open().unwrap();
        for _ in 0..2 {
            assert_eq!(list(&library, "Austen").await, [book(1, EMMA), book(2, "Persuasion")]);
            assert_eq!(list(&library, "Woolf").await, [book(3, "The Waves")]);
        }
        assert_eq!(library.queries(), 2);
    }

    #[tokio::test] // P31, P34
    async fn after_a_write_the_row_is_new_at_once_and_what_was_read_from_its_table_is_refreshed() {
        let library = Library::open().unwrap();
        for id in [1, 2] {
            title(&library, id).await;
        }
        list(&library, "Austen").await;
        library.retitle(1, "Emma, revised").await.unwrap();
        assert_eq!(title(&library, 1).await.as_deref(), Some("Emma, revised"));
        assert_eq!((list(&library, "Austen").await[0].title.as_str(), library.queries()), (EMMA, 4));
        library.settled().await;
        assert_eq!((list(&library, "Austen").await[0].title.as_str(), library.queries()), ("Emma, revised", 5));
        // Another row of that table is refreshed as well.
        title(&library, 2).await;
        library.settled().await;
        assert_eq!(library.queries(), 6);
    }

    #[tokio::test] // P31
    async fn a_write_leaves_what_reads_another_table() {
        let library = Library::open().unwrap();
        title(&library, 1).await;
        list(&library, "Austen").await;
        library.rename("Austen", "Jane Austen").await.unwrap();
        title(&library, 1).await;
        library.settled().await;
        assert_eq!(library.queries(), 2);
        list(&library, "Austen").await;
        library.settled().await;
        assert_eq!((list(&library, "Austen").await, library.queries()), (vec![], 3));
        assert_eq!(list(&library, "Jane Austen").await.len(), 2);
    }
}

mod the_weather_office {
    use super::typed::{Measure, Office};

    const PILOT: Measure = Measure { station: "Bergen", for_a_pilot: true };
    const VISITOR: Measure = Measure { station: "Bergen", for_a_pilot: false };

    /// How warm it is, and whether that is outdated.
    async fn measured(office: &Office, measure: Measure) -> (i32, bool) {
        let measured = office.measurements.get(measure).await.expect("something is stored, or in reach");
        (measured.celsius, measured.outdated)
    }

    #[tokio::test(start_paused = true)] // P81
    async fn visitors_get_what_is_stale_at_once_and_pilots_wait_for_what_is_new() {
        let office = Office::new();
        assert_eq!((measured(&office, VISITOR).await, measured(&office, PILOT).await), ((1, false), (1, false)));
        for now in [1, 2] {
            office.measurements.expire(&VISITOR).await.unwrap();
            assert_eq!(measured(&office, VISITOR).await, (now, true));
            office.measurements.cache().settled().await;
            assert_eq!(measured(&office, VISITOR).await, (now + 1, false));
        }
        office.measurements.expire(&PILOT).await.unwrap();
        assert_eq!(measured(&office, PILOT).await, (4, false));
    }

    #[tokio::test(start_paused = true)] // P81
    async fn while_the_line_is_cut_pilots_get_what_there_is_and_are_told_that_it_is_outdated() {
        let office = Office::new();
        measured(&office, VISITOR).await;
        office.measurements.expire(&PILOT).await.unwrap();
        office.cut(true);
        assert_eq!(measured(&office, PILOT).await, (1, true));
        assert!(office.measurements.get(Measure { station: "Oslo", for_a_pilot: true }).await.is_err());
        office.cut(false);
        assert_eq!(office.measurements.refresh(PILOT).await.unwrap().celsius, 2);
    }

    #[tokio::test(start_paused = true)] // P82
    async fn nobody_waits_for_a_forecast() {
        let office = Office::new();
        assert_eq!(&*office.forecasts.get("Bergen").await.unwrap(), "It is being worked out.");
        office.forecasts.cache().settled().await;
        assert_eq!(&*office.forecasts.get("Bergen").await.unwrap(), "Rain over Bergen.");
    }
}

mod the_exchange {
    use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

    use cacheback::Cache;
    use tonic::Code;

    use super::tonic::{Exchange, ask, connect, serve};

    #[tokio::test] // P80
    async fn one_price_is_made_once_and_an_error_each_time() {
        let (cache, exchange) = (Cache::new(), Exchange { work: Duration::ZERO, runs: Arc::default() });
        let client = connect(serve(exchange.clone(), &cache).unwrap()).await.unwrap();
        let (first, said) = ask(&client, "ACME").await.unwrap();
        assert_eq!((first.cents, said.as_str()), (10_001, "cacheback; fwd=uri-miss; fwd-status=200; stored"));
        assert_eq!(ask(&client, "ACME").await.unwrap().0, first);
        for runs in [2, 3] {
            assert_eq!(ask(&client, "").await.unwrap_err().code(), Code::InvalidArgument);
            assert_eq!(exchange.runs.load(Relaxed), runs);
        }
        assert_eq!(cache.purge_tag("prices").await.unwrap().entries, 1);
        assert_ne!(ask(&client, "ACME").await.unwrap().0, first);
    }
}
