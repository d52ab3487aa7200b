//! What a read costs that asks Redis each time and is never given what was invalidated, beside a bare GET of the same bytes.
//!
//! `cargo bench --all-features --bench redis` starts a `redis-server` of its own and prints one table. 64 tasks ask at the same time
//! for 256 records in turn, all over one connection; the cases take turns, many short rounds of each, and the ratio of their
//! medians is what to look at. The layer is called as it is, and once more in an axum router, which a bare GET has none of. To
//! make the request is a part of both.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a bench")]

use std::{
    convert::Infallible,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, response::IntoResponse, routing::get};
use bytes::Bytes;
use cacheback::{Cache, Freshness, RedisStore};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};

const CONCURRENT: usize = 64;
const RECORDS: usize = 256;

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

async fn together<F: Future<Output = ()> + Send>(
    calls: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> f64 {
    let begin = Instant::now();
    let tasks = (0..CONCURRENT).map(|task| {
        let call = call.clone();
        tokio::spawn(async move {
            for at in 0..calls / CONCURRENT {
                call((task + at * CONCURRENT) % RECORDS).await;
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
    let layer = cache.layer(Freshness::new(Duration::from_secs(3_600)));
    let app: Router = Router::new().route("/quotes/{id}", get(quote)).layer(layer.clone());
    let in_router = move |at| {
        let app = app.clone();
        async move {
            let response = app.oneshot(request(at)).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    };
    let service =
        layer.layer(service_fn(|_: Request| async { Ok::<Response<Body>, Infallible>(quote().await.into_response()) }));
    let alone = move |at| {
        let service = service.clone();
        async move {
            let response = service.oneshot(request(at)).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    };
    for at in 0..RECORDS {
        in_router(at).await;
    }
    cache.settled().await;
    cache.drain(Duration::from_secs(1)).await;
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:r").query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), RECORDS);
    let keys = Arc::new(keys);
    let raw = move |at: usize| {
        let (mut connection, keys) = (connection.clone(), Arc::clone(&keys));
        async move {
            let bytes: Vec<u8> = redis::cmd("GET").arg(&keys[at]).query_async(&mut connection).await.unwrap();
            assert!(bytes.len() > 1024);
        }
    };
    let (mut raws, mut alones, mut in_routers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        raws.push(together(calls, raw.clone()).await);
        alones.push(together(calls, alone.clone()).await);
        in_routers.push(together(calls, in_router.clone()).await);
    }
    let [raw, alone, in_router] = [raws, alones, in_routers].map(median);
    assert_eq!(cache.stats().misses, RECORDS as u64, "all others were found");
    if !quick {
        println!("| reads at a time: {CONCURRENT} | ns each | throughput |\n|---|--:|--:|");
        println!("| a bare GET of the record | {raw:.0} | 1 |");
        println!("| a hit of a cache without memory | {alone:.0} | {:.2} |", raw / alone);
        println!("| the same in an axum router | {in_router:.0} | {:.2} |", raw / in_router);
    }
}

fn request(at: usize) -> Request {
    Request::get(format!("http://quotes.example/quotes/{at}")).body(Body::empty()).unwrap()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
