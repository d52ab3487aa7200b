//! What is measured, by whatever measures it: one request, one response, and those who answer it.
//!
//! The request is a GET with eight fields and, in its extensions, the address of the client, as a server puts it there;
//! the response a 200 with six fields and a body of 1 KiB unless a case says otherwise, read to its end. A case is called
//! over and over; what it needs is made before.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(dead_code, reason = "each bench uses some of it")]

pub(crate) mod ideal;

use std::{
    convert::Infallible,
    hint::black_box,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
use bytes::Bytes;
use cacheback::{CachebackLayer, Freshness, Key};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};

pub(crate) const KIB: usize = 1_024;
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// One who answers, called once.
pub(crate) type Call = Box<dyn FnMut() + Send>;

/// Makes and drops the request: what is to be taken off the others.
pub(crate) fn harness() -> Call {
    Box::new(|| drop(black_box(request::<Full<Bytes>>())))
}

/// The least that a correct cache does for a hit: see `ideal`.
pub(crate) fn ideal(body: usize) -> Call {
    let mut service = ideal::Ideal::new(response(body));
    Box::new(move || read(ready(service.call(request::<Full<Bytes>>())).unwrap_or_else(|never| match never {})))
}

/// An axum handler that has nothing to do.
pub(crate) fn handler(body: usize) -> Call {
    routed(router(body))
}

/// A hit of a layer around nothing, which has stored the response.
fn hit(layer: &CachebackLayer, response: Response<Bytes>, request: fn() -> Request<Full<Bytes>>) -> Call {
    let inner = service_fn(move |_: Request<Full<Bytes>>| {
        let response = response.clone();
        async { Ok::<_, Infallible>(response.map(Full::new)) }
    });
    let mut service = layer.layer(inner);
    fill(service.call(request()));
    Box::new(move || read(ready(service.call(request())).unwrap_or_else(|never| match never {})))
}

/// A fresh hit.
pub(crate) fn fresh(body: usize) -> Call {
    hit(&CachebackLayer::new(HOUR), response(body), request)
}

/// A fresh hit of a request without extensions: the response, which has one, gets a map of its own.
pub(crate) fn without_extensions(body: usize) -> Call {
    hit(&CachebackLayer::new(HOUR), response(body), || {
        let mut request = request();
        *request.extensions_mut() = http::Extensions::new();
        request
    })
}

/// A stale hit of a reader who starts no refresh, as one is under way. The response says itself that it is stale.
pub(crate) fn stale(body: usize) -> Call {
    let mut stale = response(body);
    stale.headers_mut().insert("cache-control", HeaderValue::from_static("max-age=0, stale-while-revalidate=3600"));
    hit(&CachebackLayer::new(HOUR), stale, request)
}

/// The same of a response that does not say so: it gets a field that does.
pub(crate) fn stale_by_the_layer(body: usize) -> Call {
    hit(&CachebackLayer::new(Freshness::new(Duration::ZERO)), response(body), request)
}

/// One who answers a request.
pub(crate) type Answer = Box<dyn FnMut(Request<Full<Bytes>>) + Send>;

/// The ideal hit and a fresh hit of ours, of all pages that are asked for, each to be asked on so many threads.
pub(crate) fn shared(threads: usize, pages: u32) -> [(&'static str, Vec<Answer>); 2] {
    let (ideal, cache) = (ideal::Ideal::new(response(KIB)), cacheback::Cache::builder().memory(1 << 30).build());
    let inner = service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(response(KIB).map(Full::new)));
    let ours = cache.layer(HOUR).layer(inner);
    for page in 0..pages {
        fill(ours.clone().call(page_request(page)));
        drop(ready(ideal.clone().call(page_request(page))));
    }
    [
        ("ideal hit", (0..threads).map(|_| answers(ideal.clone())).collect()),
        ("fresh hit", (0..threads).map(|_| answers(ours.clone())).collect()),
    ]
}

fn answers<S, B>(mut service: S) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Send + 'static,
    B: http_body::Body,
{
    Box::new(move |request| read(ready(service.call(request)).unwrap_or_else(|never| match never {})))
}

/// The request for one of many pages.
pub(crate) fn page_request(page: u32) -> Request<Full<Bytes>> {
    let mut request = request();
    *request.uri_mut() = format!("/quotes/{page}").parse().expect("a URI");
    request
}

/// A fresh hit within a router, as its routes are called.
pub(crate) fn in_a_router(body: usize) -> Call {
    routed(router(body).layer(CachebackLayer::new(HOUR)))
}

/// A handler that has nothing to do, asked for another page each time.
pub(crate) fn handler_of_new_pages(body: usize) -> Call {
    asked_for_new_pages(router(body))
}

/// A miss: the same within a layer, which stores each page.
pub(crate) fn miss(body: usize) -> Call {
    let cache = cacheback::Cache::builder().memory(1 << 30).build();
    asked_for_new_pages(router(body).layer(cache.layer(HOUR)))
}

/// A fresh hit of a typed layer.
pub(crate) fn typed() -> Call {
    let layer = CachebackLayer::typed::<u32, Arc<str>>(|id| Key::from(&id.to_be_bytes()[..])).freshness(HOUR);
    let mut service = layer.layer(service_fn(|_: u32| async { Ok::<_, Infallible>(Arc::from("user 42")) }));
    fill(service.call(42));
    Box::new(move || drop(black_box(ready(service.call(42)))))
}

/// What the same takes with the engine of the memory tier alone: the key is made, the value looked up, and its age is
/// compared with its lifetime.
pub(crate) fn lookup() -> Call {
    let (hasher, lifecycle) = (ahash::RandomState::new(), quick_cache::sync::DefaultLifecycle::default());
    let cache = quick_cache::sync::Cache::with(1_000, 1 << 20, quick_cache::UnitWeighter, hasher, lifecycle);
    let key = |id: u32| Key::from(&id.to_be_bytes()[..]);
    cache.insert(key(42), (Arc::<str>::from("user 42"), Instant::now()));
    Box::new(move || {
        let found = cache.get(&key(black_box(42)));
        drop(black_box(found.filter(|(_, since)| since.elapsed() < HOUR)));
    })
}

pub(crate) fn response(body: usize) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(vec![b'q'; body]));
    *response.headers_mut() = headers();
    response
}

pub(crate) fn headers() -> HeaderMap {
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

pub(crate) fn request<B: Default>() -> Request<B> {
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
            .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 49_152))))
            .body(())
            .expect("a request");
    }
    HEAD.with(|head| head.clone().map(|()| B::default()))
}

pub(crate) fn router(body: usize) -> Router {
    let body = Bytes::from(vec![b'q'; body]);
    let quote = move || async move { (headers(), body) };
    Router::new().route("/quotes/{id}", get(quote))
}

/// As a server does it: the state is put in once, not with each request.
fn routed(app: Router) -> Call {
    let mut app = app.with_state::<()>(()).into_service::<Body>();
    fill(app.call(request::<Body>()));
    Box::new(move || read(ready(app.call(request::<Body>())).unwrap_or_else(|never| match never {})))
}

/// In a runtime that runs the tasks of runs.
fn asked_for_new_pages(app: Router) -> Call {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (mut app, mut page) = (app.with_state::<()>(()).into_service::<Body>(), 0_u32);
    Box::new(move || {
        page += 1;
        let mut request = request::<Body>();
        *request.uri_mut() = format!("/quotes/{page}").parse().expect("a URI");
        let answer = app.call(request);
        runtime.block_on(async {
            let response = answer.await.unwrap_or_else(|never| match never {});
            read(response);
            // The run that has stored it ends.
            tokio::task::yield_now().await;
        });
    })
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

/// Polls what is ready at once.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit is ready at once"),
    }
}

/// Reads a response to its end.
pub(crate) fn read<B: http_body::Body>(response: Response<B>) {
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    while let Some(frame) = ready(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))) {
        black_box(frame.is_ok());
    }
    black_box(head);
}
