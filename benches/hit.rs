//! What a hit costs, beside the least that any hit could cost and beside a bare axum handler.
//!
//! `cargo bench --bench hit` prints one table. All cases run in one process, in turn, many rounds of each; a figure is
//! the median of its rounds less the harness (making and dropping the request), and the ratios are what to look at:
//! nanoseconds differ from machine to machine and from hour to hour. Allocations are counted and do not.
//!
//! The request is a GET with eight fields, the response a 200 with six fields and a body of 1 KiB, read to its end.
//! The floor is hand-written: the path looked up by a borrow in a hash map, an `Arc`'d entry, its prepared field map
//! cloned, its bytes shared. It checks nothing of the request, knows no time and says nothing of what it did.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::{
    collections::HashMap,
    convert::Infallible,
    hint::black_box,
    pin::pin,
    sync::{Arc, RwLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use bytes::Bytes;
use cacheback::{CachebackLayer, Freshness, Key};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};

const BODY: usize = 1024;
const HOUR: Duration = Duration::from_secs(3_600);

struct Case {
    name: &'static str,
    call: Box<dyn FnMut()>,
    rounds: Vec<f64>,
    allocations: u64,
}

fn main() {
    // `cargo test --benches` asks whether the bench runs, not how fast.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, calls) = if quick { (1, 10) } else { (61, 20_000) };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut cases = cases();
    for case in &mut cases {
        (0..100).for_each(|_| (case.call)());
        case.allocations = allocation_counter::measure(|| (case.call)()).count_total;
    }
    for _ in 0..rounds {
        for case in &mut cases {
            let begin = Instant::now();
            (0..calls).for_each(|_| (case.call)());
            case.rounds.push(begin.elapsed().as_nanos() as f64 / f64::from(calls));
        }
    }
    if !quick {
        report(&mut cases);
    }
}

fn cases() -> Vec<Case> {
    let case = |name, call| Case { name, call, rounds: Vec::new(), allocations: 0 };
    vec![
        case("harness: make and drop the request", harness()),
        case("floor: a hand-written hit", floor()),
        case("bare axum handler", axum(Router::new().route("/quotes/{id}", get(quote)))),
        case("cacheback, fresh hit, the service alone", alone(Freshness::new(HOUR))),
        case("cacheback, stale hit while a refresh runs, the service alone", alone(Freshness::new(Duration::ZERO))),
        case(
            "cacheback, fresh hit, in an axum router",
            axum(Router::new().route("/quotes/{id}", get(quote)).layer(CachebackLayer::new(HOUR))),
        ),
        case("cacheback, fresh hit, typed", typed()),
    ]
}

async fn quote() -> impl IntoResponse {
    (headers(), Bytes::from_static(&[b'q'; BODY]))
}

fn headers() -> HeaderMap {
    [
        ("content-type", "application/json"),
        ("etag", "\"33a64df5\""),
        ("last-modified", "Sat, 21 Nov 2026 07:28:00 GMT"),
        ("x-content-type-options", "nosniff"),
        ("content-language", "en"),
        ("date", "Sun, 22 Nov 2026 07:28:00 GMT"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}

fn request<B: Default>() -> Request<B> {
    thread_local! {
        static HEAD: Request<()> = Request::get("/quotes/42")
            .header("host", "quotes.example")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
            .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
            .header("accept-language", "en-US,en;q=0.5")
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .header("referer", "https://quotes.example/")
            .header("sec-fetch-mode", "navigate")
            .header("connection", "keep-alive")
            .body(())
            .expect("a request");
    }
    HEAD.with(|head| head.clone().map(|()| B::default()))
}

/// Polls what is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit is ready at once"),
    }
}

fn read<B: http_body::Body>(response: Response<B>) {
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    while let Some(frame) = ready(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))) {
        black_box(frame.is_ok());
    }
    black_box(head);
}

fn harness() -> Box<dyn FnMut()> {
    Box::new(|| drop(black_box(request::<Full<Bytes>>())))
}

fn floor() -> Box<dyn FnMut()> {
    let entry = Arc::new((headers(), Bytes::from(vec![b'q'; BODY])));
    let map: HashMap<Box<[u8]>, _, ahash::RandomState> = [(b"/quotes/42"[..].into(), entry)].into_iter().collect();
    let map = RwLock::new(map);
    Box::new(move || {
        let request = request::<Full<Bytes>>();
        let entry = Arc::clone(&map.read().expect("no panic")[request.uri().path().as_bytes()]);
        let mut response = Response::new(Full::new(entry.1.clone()));
        *response.headers_mut() = entry.0.clone();
        drop(request);
        read(response);
    })
}

fn axum(app: Router) -> Box<dyn FnMut()> {
    // As a server does it: the state is put in once, not with each request.
    let mut app = app.into_service::<Body>();
    fill(app.call(request::<Body>()));
    Box::new(move || read(ready(app.call(request::<Body>())).unwrap_or_else(|never| match never {})))
}

fn alone(freshness: Freshness) -> Box<dyn FnMut()> {
    let inner = service_fn(|_: Request<Full<Bytes>>| async {
        let mut response = Response::new(Full::new(Bytes::from(vec![b'q'; BODY])));
        *response.headers_mut() = headers();
        Ok::<_, Infallible>(response)
    });
    let mut service = CachebackLayer::new(freshness).layer(inner);
    fill(service.call(request::<Full<Bytes>>()));
    Box::new(move || read(ready(service.call(request::<Full<Bytes>>())).unwrap_or_else(|never| match never {})))
}

/// Drives the first run, which lives in a task of its own. Afterwards nothing drives the runtime that the bench has
/// entered: the refresh that a stale hit starts there goes on for ever.
fn fill<T>(first: impl Future<Output = T> + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async { drop(first.await) });
        });
    });
}

fn typed() -> Box<dyn FnMut()> {
    let layer = CachebackLayer::typed::<u32, Arc<str>>(|id| Key::from(id.to_be_bytes().to_vec()));
    let mut service = layer.layer(service_fn(|_: u32| async { Ok::<_, Infallible>(Arc::from("user 42")) }));
    fill(service.call(42));
    Box::new(move || drop(black_box(ready(service.call(42)))))
}

fn report(cases: &mut [Case]) {
    let median = |case: &mut Case| {
        case.rounds.sort_by(f64::total_cmp);
        case.rounds[case.rounds.len() / 2]
    };
    let medians: Vec<f64> = cases.iter_mut().map(median).collect();
    let (harness, floor, bare) = (medians[0], medians[1] - medians[0], medians[2] - medians[0]);
    println!("| case | ns | net | net / floor | net / bare handler | allocations, net |\n|---|--:|--:|--:|--:|--:|");
    for (case, median) in cases.iter().zip(medians) {
        // The typed case makes no HTTP request: nothing is to be taken off.
        let typed = case.name.ends_with("typed");
        let net = if typed { median } else { median - harness };
        let allocations = case.allocations - if typed { 0 } else { cases[0].allocations };
        let name = case.name;
        println!("| {name} | {median:.0} | {net:.0} | {:.2} | {:.2} | {allocations} |", net / floor, net / bare);
    }
}
