//! What a read costs that asks Redis each time, tokens and all, beside a bare GET of the same bytes.
//!
//! `cargo bench --all-features --bench redis` starts a `redis-server` of its own and prints one table. 64 tasks ask at the same time,
//! all over one connection; the cases take turns, many short rounds of each, and the ratio of their medians is what to look at.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a bench")]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use bytes::Bytes;
use cacheback::{Cache, Freshness, RedisStore};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

const CONCURRENT: usize = 64;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

async fn quote() -> impl IntoResponse {
    let fields = [
        ("content-type", "application/json"),
        ("etag", "\"33a64df5\""),
        ("last-modified", "Sat, 21 Nov 2026 07:28:00 GMT"),
        ("x-content-type-options", "nosniff"),
        ("content-language", "en"),
        ("date", "Sun, 22 Nov 2026 07:28:00 GMT"),
    ];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    (fields.into_iter().collect::<HeaderMap>(), Bytes::from_static(&[b'q'; 1024]))
}

async fn together<F: Future<Output = ()> + Send + 'static>(calls: usize, call: impl Fn() -> F) -> f64 {
    let begin = Instant::now();
    let tasks = (0..CONCURRENT).map(|_| {
        let calls: Vec<_> = (0..calls / CONCURRENT).map(|_| call()).collect();
        tokio::spawn(async move {
            for call in calls {
                call.await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    begin.elapsed().as_nanos() as f64 / calls as f64
}

#[tokio::main]
async fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, calls) = if quick { (1, 640) } else { (15, 32_000) };
    let port = 23_000 + std::process::id() % 5_000;
    let server =
        Command::new("redis-server").args(["--save", "", "--port", &port.to_string()]).stdout(Stdio::null()).spawn();
    let _server = Server(server.unwrap());
    let url = format!("redis://127.0.0.1:{port}/");
    let store = loop {
        // A machine that is busy with something else is not to be measured.
        match RedisStore::builder().url(&url).patience(Duration::from_secs(5)).connect().await {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let cache = Cache::builder().memory(0).store(store).build();
    let app: Router =
        Router::new().route("/quotes/{id}", get(quote)).layer(cache.layer(Freshness::new(Duration::from_secs(3_600))));
    let ask = move || {
        let app = app.clone();
        async move {
            let request = Request::get("http://quotes.example/quotes/42").body(Body::empty()).unwrap();
            let response = app.oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    };
    ask().await;
    cache.settled().await;
    cache.drain(Duration::from_secs(1)).await;
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:r").query_async(&mut connection).await.unwrap();
    let key = keys[0].clone();
    let raw = move || {
        let (mut connection, key) = (connection.clone(), key.clone());
        async move {
            let bytes: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
            assert!(bytes.len() > 1024);
        }
    };
    let (mut raws, mut asks) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        raws.push(together(calls, &raw).await);
        asks.push(together(calls, &ask).await);
    }
    raws.sort_by(f64::total_cmp);
    asks.sort_by(f64::total_cmp);
    let (raw, ask) = (raws[raws.len() / 2], asks[asks.len() / 2]);
    assert_eq!(cache.stats().misses, 1, "all others were found");
    if !quick {
        println!("| reads at a time: {CONCURRENT} | ns each | throughput |\n|---|--:|--:|");
        println!("| a bare GET of the record | {raw:.0} | 1 |");
        println!("| a hit of a cache without memory, its tokens verified | {ask:.0} | {:.2} |", raw / ask);
    }
}
