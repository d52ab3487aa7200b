//! The first client of a response streams, and the store does not wait for it. What cannot be stored reaches its client
//! as without the layer.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may spawn")]

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use cacheback::{Body, Cache, CacheStatus, CachebackLayer, Outcome};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::net::{Broken, Script, Scripted, infallible, quiet, scripted, scripted_of, serve, soon};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

type Asked = Request<Empty<Bytes>>;
type Answer = Response<Body<Scripted>>;
type Layered = BoxCloneSyncService<Asked, Answer, Infallible>;

/// Answers each run with the next of its responses, in order.
#[derive(Clone, Default)]
struct Origin {
    responses: Arc<Mutex<VecDeque<Response<Scripted>>>>,
    asked: Arc<Notify>,
}

impl Origin {
    fn answers(&self, response: Response<Scripted>) {
        self.responses.lock().expect("no test panics with it").push_back(response);
        self.asked.notify_one();
    }

    /// How many answers are left.
    fn left(&self) -> usize {
        self.responses.lock().expect("no test panics with it").len()
    }

    /// The next answer, as soon as there is one.
    async fn call(self, _: Asked) -> Result<Response<Scripted>, Infallible> {
        loop {
            let next = self.responses.lock().expect("no test panics with it").pop_front();
            if let Some(response) = next {
                return Ok(response);
            }
            self.asked.notified().await;
        }
    }

    fn under(&self, layer: &CachebackLayer) -> Layered {
        let origin = self.clone();
        BoxCloneSyncService::new(layer.layer(service_fn(move |request| origin.clone().call(request))))
    }
}

/// A layer that stores for a minute, and whose fills are not timed.
fn patient(cache: &Cache) -> CachebackLayer {
    cache.layer(Duration::from_secs(60)).fill_timeout(Duration::MAX)
}

fn get() -> Asked {
    Request::get("/").body(Empty::new()).expect("a sound request")
}

async fn ask(service: &Layered) -> Answer {
    infallible(soon(service.clone().oneshot(get())).await)
}

fn asking(service: &Layered) -> JoinHandle<Answer> {
    let asked = service.clone().oneshot(get());
    tokio::spawn(async move { infallible(asked.await) })
}

fn outcome<B>(response: &Response<B>) -> Outcome {
    *response.extensions().get::<Outcome>().expect("every response that passes the layer carries its outcome")
}

fn is_hit<B>(response: &Response<B>) -> bool {
    outcome(response).status() == CacheStatus::Hit
}

/// The next frame, which is data.
async fn next(answer: &mut Answer) -> Bytes {
    let frame = soon(answer.body_mut().frame()).await.expect("the body goes on").expect("the body is sound");
    frame.into_data().expect("data")
}

async fn is_waiting(answer: &mut Answer) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(answer.body_mut()).poll_frame(cx).is_pending())).await
}

async fn whole(answer: Answer) -> Bytes {
    soon(answer.into_body().collect()).await.expect("the body is sound").to_bytes()
}

/// What a client sees of a body, frame by frame.
#[derive(Debug, PartialEq)]
enum Event {
    Data(Bytes),
    Trailers(HeaderMap),
    Broken,
}

async fn events<B: http_body::Body<Data = Bytes, Error = Broken> + Unpin>(mut body: B) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(frame) = soon(body.frame()).await {
        events.push(match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => Event::Data(data),
            Ok(Err(frame)) => Event::Trailers(frame.into_trailers().expect("data or trailers")),
            Err(Broken) => {
                events.push(Event::Broken);
                break;
            }
        });
    }
    events
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-checksum"), HeaderValue::from_static("42"))])
}

// ---- the first client streams ----

#[tokio::test(start_paused = true)] // P52
async fn the_first_client_gets_each_frame_as_it_comes() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));

    let mut first = ask(&service).await;
    assert!(outcome(&first).is_stored(), "it is being stored as it streams");
    assert!(is_waiting(&mut first).await);
    script.data("one ");
    assert_eq!(next(&mut first).await, "one ");
    quiet().await;
    assert!(is_waiting(&mut first).await);
    script.data("two");
    assert_eq!(next(&mut first).await, "two");
    assert_eq!(cache.stats().keys, 0);
    script.end();
    assert_eq!(whole(first).await, "");
    soon(cache.settled()).await;

    let second = ask(&service).await;
    assert!(is_hit(&second));
    assert_eq!(second.headers()[header::CONTENT_LENGTH], "7");
    assert_eq!(whole(second).await, "one two");
}

#[tokio::test(start_paused = true)] // P52
async fn a_body_whole_in_its_first_frame_is_stored_before_the_head_is_handed_on() {
    for ends_with_its_frame in [true, false] {
        let (origin, cache) = (Origin::default(), Cache::new());
        let service = origin.under(&patient(&cache));
        let (mut script, body) = if ends_with_its_frame { scripted_of(SizeHint::with_exact(5)) } else { scripted() };
        script.data("whole");
        script.end();
        origin.answers(Response::new(body));
        let first = ask(&service).await;
        assert_eq!((cache.stats().keys, cache.stats().runs), (1, 0));
        assert!(is_hit(&ask(&service).await));
        assert_eq!(whole(first).await, "whole");
    }
}

#[tokio::test(start_paused = true)] // P52, P11
async fn a_first_client_that_never_reads_holds_up_neither_the_store_nor_those_who_wait() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let first = ask(&service).await;
    let follower = asking(&service);
    script.data("one ").data("two ");
    quiet().await;
    script.data("three");
    script.end();
    let follower = soon(follower).await.unwrap();
    assert!(outcome(&follower).is_collapsed());
    assert_eq!(whole(follower).await, "one two three");
    let hit = ask(&service).await;
    assert!(is_hit(&hit));
    assert_eq!(whole(hit).await, "one two three");
    // All is still there for the one who was first.
    assert_eq!(whole(first).await, "one two three");
}

#[tokio::test(start_paused = true)] // P52, P53
async fn a_fill_is_ahead_of_its_client_by_the_cap_and_then_back_at_its_pace() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache).body_cap(10));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let mut first = ask(&service).await;
    for _ in 0..8 {
        script.data("four");
    }
    script.end();
    quiet().await;
    // The third frame is the one that goes over the cap.
    assert_eq!(script.taken(), 3);
    for read in 1..=8 {
        assert_eq!(next(&mut first).await, "four");
        quiet().await;
        assert_eq!(script.taken(), read.max(3), "after {read} frames were read");
    }
    assert_eq!(whole(first).await, "");
    soon(cache.settled()).await;
    assert_eq!(cache.stats().runs, 0);
    origin.answers(Response::new(scripted().1));
    assert!(!is_hit(&ask(&service).await));
}

#[tokio::test(start_paused = true)] // P52, P96
async fn what_may_not_be_stored_passes_unbuffered() {
    let plain = |name: HeaderName, value: &'static str| (StatusCode::OK, name, value);
    for (status, name, value) in [
        plain(header::CONTENT_TYPE, "text/event-stream"),
        plain(header::CONTENT_TYPE, "Text/Event-Stream; charset=utf-8"),
        plain(header::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=frame"),
        plain(header::CONTENT_TYPE, "application/grpc+proto"),
        plain(header::CACHE_CONTROL, "no-store"),
        plain(header::CACHE_CONTROL, "private"),
        plain(header::CACHE_CONTROL, "no-cache"),
        plain(header::CACHE_CONTROL, "max-age=0"),
        plain(header::SET_COOKIE, "a=b"),
        plain(header::VARY, "*"),
        plain(header::CONTENT_LENGTH, "1048577"),
        (StatusCode::NOT_FOUND, header::SERVER, ""),
        (StatusCode::INTERNAL_SERVER_ERROR, header::SERVER, ""),
        (StatusCode::PARTIAL_CONTENT, header::CONTENT_RANGE, "bytes 0-1/2"),
    ] {
        let context = format!("{status} {name}: {value}");
        let (origin, cache) = (Origin::default(), Cache::new());
        let service = origin.under(&patient(&cache));
        let (script, body) = scripted();
        script.data("one").data("two").data("three");
        let response = Response::builder().status(status).header(name, value).body(body).unwrap();
        origin.answers(response);

        let mut first = ask(&service).await;
        assert!(!outcome(&first).is_stored(), "{context}");
        quiet().await;
        assert_eq!(script.taken(), 0, "{context}: nobody has read");
        assert_eq!(next(&mut first).await, "one", "{context}");
        quiet().await;
        assert_eq!(script.taken(), 1, "{context}: one frame was read");
        assert_eq!((next(&mut first).await, next(&mut first).await), ("two".into(), "three".into()), "{context}");
        assert!(is_waiting(&mut first).await, "{context}");
        script.data("four");
        assert_eq!(next(&mut first).await, "four", "{context}");
        assert_eq!(cache.stats().runs, 0, "{context}: the run is over");
    }
}

/// A body without data that is always ready and goes on for long.
struct Babble(Arc<AtomicUsize>);

const LONG: usize = 100_000;

impl http_body::Body for Babble {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let taken = self.0.fetch_add(1, SeqCst);
        Poll::Ready((taken < LONG).then(|| Ok(Frame::data(Bytes::new()))))
    }
}

#[tokio::test(start_paused = true)] // P52
async fn a_body_that_is_always_ready_and_never_gives_anything_keeps_nobody_waiting() {
    let cache = Cache::builder().max_refreshes(0).build();
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Arc::clone(&taken);
    let origin = service_fn(move |_: Asked| {
        let body = Arc::clone(&body);
        async move { Ok::<_, Infallible>(Response::new(Babble(body))) }
    });
    let first = infallible(patient(&cache).layer(origin).oneshot(get()).await);
    assert!(taken.load(SeqCst) < LONG, "its head was held back until the body was over");
    drop(first);
    cache.settled().await;
    assert!(taken.load(SeqCst) < LONG, "its run was not cancelled");
}

// ---- what turns out not to be storable ----

/// Tells a script what to do.
type Play = fn(&mut Script);

#[tokio::test(start_paused = true)] // P53
async fn rfc9111_3_3_what_turns_out_not_to_be_storable_reaches_its_client_as_without_the_layer() {
    let unknown = SizeHint::new;
    let play: [(&str, Option<&str>, SizeHint, Play); 9] = [
        ("over the cap", None, unknown(), |script| {
            script.data("12345").data("67890").data("and more").trailers(trailers());
        }),
        ("over the cap in its first frame", None, unknown(), |script| {
            script.data("1234567890 and more").data("and more");
        }),
        ("over the cap, then broken", None, unknown(), |script| {
            script.data("1234567890 and more").fail();
        }),
        ("broken", None, unknown(), |script| {
            script.data("one").fail();
        }),
        ("broken at once", Some("3"), SizeHint::with_exact(3), |script| {
            script.fail();
        }),
        ("shorter than its length", Some("7"), SizeHint::with_exact(7), |script| {
            script.data("one").data("two");
        }),
        ("shorter than its length, with trailers", Some("7"), unknown(), |script| {
            script.data("one").trailers(trailers());
        }),
        ("empty in place of its length", Some("7"), unknown(), |_| {}),
        ("longer than its length", Some("3"), unknown(), |script| {
            script.data("one").data("two");
        }),
    ];
    for (context, length, hint, play) in play {
        for at_once in [true, false] {
            let context = format!("{context}, at once: {at_once}");
            let response = || {
                let (script, body) = scripted_of(hint);
                let mut response = Response::new(body);
                if let Some(length) = length {
                    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
                }
                (script, response)
            };
            let (mut script, bare) = response();
            play(&mut script);
            script.end();
            let said = (bare.headers().get(header::CONTENT_LENGTH).cloned(), bare.body().size_hint().exact());
            let bare = events(bare.into_body()).await;

            let (origin, cache) = (Origin::default(), Cache::new());
            let service = origin.under(&patient(&cache).body_cap(10));
            let (mut script, response) = response();
            if at_once {
                play(&mut script);
                script.end();
                origin.answers(response);
                let first = ask(&service).await;
                assert!(!outcome(&first).is_stored(), "{context}: {}", outcome(&first));
                let length = first.headers().get(header::CONTENT_LENGTH).cloned();
                assert_eq!((length, first.body().size_hint().exact()), said, "{context}");
                assert_eq!(events(first.into_body()).await, bare, "{context}");
            } else {
                origin.answers(response);
                let first = ask(&service).await;
                let length = first.headers().get(header::CONTENT_LENGTH).cloned();
                assert_eq!((length, first.body().size_hint().exact()), said, "{context}");
                play(&mut script);
                script.end();
                assert_eq!(events(first.into_body()).await, bare, "{context}");
            }
            soon(cache.settled()).await;
            let (mut script, body) = scripted();
            script.data("new");
            script.end();
            origin.answers(Response::new(body));
            let second = ask(&service).await;
            assert!(!is_hit(&second), "{context}");
            assert_eq!(whole(second).await, "new", "{context}");
        }
    }
}

#[tokio::test(start_paused = true)] // P53, P15
async fn those_who_wait_for_a_body_that_cannot_be_stored_go_on_side_by_side() {
    let play: [(&str, Play); 3] = [
        ("over the cap", |script| {
            script.data("1234567890 and more");
        }),
        ("broken", |script| {
            script.data("one").fail();
        }),
        ("short", |script| {
            script.data("one");
            script.end();
        }),
    ];
    for (context, play) in play {
        let (origin, cache) = (Origin::default(), Cache::new());
        let service = origin.under(&patient(&cache).body_cap(10));
        let (mut script, body) = scripted();
        origin.answers(Response::builder().header(header::CONTENT_LENGTH, "4").body(body).unwrap());
        let first = ask(&service).await;
        let followers = [asking(&service), asking(&service), asking(&service)];
        quiet().await;
        assert_eq!(cache.stats().runs, 1, "{context}");
        play(&mut script);
        quiet().await;
        // None of them has an answer yet, and each has a run of its own.
        assert_eq!(cache.stats().runs, 3, "{context}");
        for _ in 0..3 {
            let (mut script, body) = scripted();
            script.data("own");
            script.end();
            origin.answers(Response::new(body));
        }
        for follower in followers {
            assert_eq!(whole(soon(follower).await.unwrap()).await, "own", "{context}");
        }
        assert_eq!(origin.left(), 0, "{context}");
        drop(first);
    }
}

#[tokio::test(start_paused = true)] // P53, P15
async fn a_fill_that_takes_too_long_is_declined_as_personal_and_its_stream_goes_on() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&cache.layer(Duration::from_secs(60)).fill_timeout(Duration::from_secs(5)));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let mut first = ask(&service).await;
    script.data("one ");
    let followers = [asking(&service), asking(&service)];
    tokio::time::advance(Duration::from_millis(4_990)).await;
    quiet().await;
    assert_eq!(cache.stats().runs, 1);
    tokio::time::advance(Duration::from_millis(10)).await;
    quiet().await;
    assert_eq!(cache.stats().runs, 2, "both followers run side by side, and the first run is over");
    // The key is marked: who comes now does not wait for others either.
    let late = asking(&service);
    quiet().await;
    assert_eq!(cache.stats().runs, 3);
    for _ in 0..3 {
        let (mut script, body) = scripted();
        script.data("own");
        script.end();
        origin.answers(Response::new(body));
    }
    for answer in followers.into_iter().chain([late]) {
        assert_eq!(whole(soon(answer).await.unwrap()).await, "own");
    }

    // The client's stream goes on, at the client's pace, to its very end.
    assert_eq!(next(&mut first).await, "one ");
    script.data("two ").data("three").trailers(trailers());
    script.end();
    quiet().await;
    assert_eq!(script.taken(), 1);
    let events = events(first.into_body()).await;
    assert_eq!(events, [Event::Data("two ".into()), Event::Data("three".into()), Event::Trailers(trailers())]);
}

#[tokio::test(start_paused = true)] // P53
async fn rfc9111_3_1_trailers_are_passed_through_and_stored() {
    for at_once in [true, false] {
        let (origin, cache) = (Origin::default(), Cache::new());
        let service = origin.under(&patient(&cache));
        let (mut script, body) = scripted();
        let mut play = || {
            script.data("page").trailers(trailers());
            script.end();
        };
        if at_once {
            play();
        }
        origin.answers(Response::new(body));
        let first = ask(&service).await;
        if !at_once {
            play();
        }
        let all = [Event::Data("page".into()), Event::Trailers(trailers())];
        assert_eq!(events(first.into_body()).await, all);
        soon(cache.settled()).await;
        let hit = ask(&service).await;
        assert!(is_hit(&hit));
        assert!(!hit.body().is_end_stream());
        assert_eq!(events(hit.into_body()).await, all);
    }
}

#[tokio::test(start_paused = true)] // P53
async fn a_body_of_trailers_alone_is_stored_whole() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    script.trailers(trailers());
    script.end();
    origin.answers(Response::new(body));
    for _ in 0..2 {
        assert_eq!(events(ask(&service).await.into_body()).await, [Event::Trailers(trailers())]);
    }
}

// ---- the first client goes away ----

#[tokio::test(start_paused = true)] // P11
async fn when_the_first_client_drops_its_body_those_who_wait_get_the_whole_response() {
    // With a permit for the run to go on by itself, and without.
    for permits in [1, 0] {
        let (origin, cache) = (Origin::default(), Cache::builder().max_refreshes(permits).build());
        let service = origin.under(&patient(&cache));
        let (mut script, body) = scripted();
        origin.answers(Response::new(body));
        let mut first = ask(&service).await;
        let follower = asking(&service);
        script.data("one ");
        assert_eq!(next(&mut first).await, "one ");
        drop(first);
        quiet().await;
        assert!(!script.is_dropped());
        script.data("two");
        script.end();
        assert_eq!(whole(soon(follower).await.unwrap()).await, "one two");
        assert!(is_hit(&ask(&service).await));
    }
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_first_client_drops_its_body_the_rest_is_stored_if_a_permit_is_free() {
    let (origin, cache) = (Origin::default(), Cache::builder().max_refreshes(1).build());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let mut first = ask(&service).await;
    script.data("one ");
    assert_eq!(next(&mut first).await, "one ");
    drop(first);
    quiet().await;
    script.data("two");
    script.end();
    soon(cache.settled()).await;
    let hit = ask(&service).await;
    assert!(is_hit(&hit));
    assert_eq!(whole(hit).await, "one two");
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_first_client_drops_its_body_and_nobody_wants_it_the_run_is_cancelled() {
    let (origin, cache) = (Origin::default(), Cache::builder().max_refreshes(0).build());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let mut first = ask(&service).await;
    script.data("one ");
    assert_eq!(next(&mut first).await, "one ");
    // One who waits keeps it going, until he goes away as well.
    let follower = asking(&service);
    quiet().await;
    drop(first);
    quiet().await;
    assert!(!script.is_dropped());
    follower.abort();
    soon(script.until_dropped()).await;
    soon(cache.settled()).await;

    let (mut script, body) = scripted();
    script.data("new");
    script.end();
    origin.answers(Response::new(body));
    let second = ask(&service).await;
    assert!(!is_hit(&second));
    assert_eq!(whole(second).await, "new");
}

#[tokio::test(start_paused = true)] // P11
async fn a_run_without_a_client_ends_at_the_deadline_of_a_refresh() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache).refresh_timeout(Duration::from_secs(60)));
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    drop(ask(&service).await);
    quiet().await;
    assert!(!script.is_dropped());
    tokio::time::advance(Duration::from_secs(60)).await;
    soon(script.until_dropped()).await;
    soon(cache.settled()).await;
}

#[tokio::test(start_paused = true)] // P46, P52
async fn a_client_that_has_the_page_already_is_told_at_once_and_the_page_is_stored_all_the_same() {
    let (origin, cache) = (Origin::default(), Cache::builder().max_refreshes(0).build());
    let service = origin.under(&patient(&cache));
    let (mut script, body) = scripted();
    origin.answers(Response::builder().header(header::ETAG, "\"1\"").body(body).unwrap());
    let request = Request::get("/").header(header::IF_NONE_MATCH, "\"1\"").body(Empty::new()).unwrap();
    let told = infallible(soon(service.clone().oneshot(request)).await);
    assert_eq!(told.status(), StatusCode::NOT_MODIFIED);
    drop(told);
    quiet().await;
    script.data("page");
    script.end();
    soon(cache.settled()).await;
    assert_eq!(whole(ask(&service).await).await, "page");
}

#[tokio::test(start_paused = true)] // P12
async fn a_body_that_panics_does_so_before_its_client_alone_and_the_key_is_free() {
    let (origin, cache) = (Origin::default(), Cache::new());
    let service = origin.under(&patient(&cache));
    let (script, body) = scripted();
    origin.answers(Response::new(body));
    let mut first = ask(&service).await;
    script.data("one");
    assert_eq!(next(&mut first).await, "one");
    let follower = asking(&service);
    quiet().await;
    script.panic();
    quiet().await;
    let (mut script, body) = scripted();
    script.data("new");
    script.end();
    origin.answers(Response::new(body));
    assert_eq!(whole(soon(follower).await.unwrap()).await, "new");
    assert!(is_hit(&ask(&service).await));
}

// ---- what is stored is a copy ----

/// A piece of a large buffer, as a connection hands it out, and whether the buffer is gone.
fn piece_of_a_buffer(piece: &str) -> (Bytes, Arc<AtomicBool>) {
    struct Buffer(Vec<u8>, Arc<AtomicBool>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Buffer {
        fn drop(&mut self) {
            self.1.store(true, SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let mut buffer = vec![b'.'; 8 << 10];
    buffer[100..100 + piece.len()].copy_from_slice(piece.as_bytes());
    let buffer = Bytes::from_owner(Buffer(buffer, Arc::clone(&gone)));
    (buffer.slice(100..100 + piece.len()), gone)
}

#[tokio::test(start_paused = true)] // P63, trap 8
async fn what_is_stored_keeps_no_buffer_of_a_connection_alive() {
    for at_once in [true, false] {
        let (origin, cache) = (Origin::default(), Cache::new());
        let service = origin.under(&patient(&cache));
        let (data, data_gone) = piece_of_a_buffer("page");
        let (field, field_gone) = piece_of_a_buffer("field");
        let (said, said_gone) = piece_of_a_buffer("inner; hit");
        let (trailer, trailer_gone) = piece_of_a_buffer("trailer");
        let field = HeaderValue::from_maybe_shared(field).unwrap();
        let said = HeaderValue::from_maybe_shared(said).unwrap();
        let trailer = HeaderValue::from_maybe_shared(trailer).unwrap();
        let (mut script, body) = scripted();
        let play = || {
            script.data(data).trailers(HeaderMap::from_iter([(HeaderName::from_static("x-trailer"), trailer)]));
            script.end();
        };
        let response = Response::builder().header("x-field", field).header("cache-status", said).body(body).unwrap();
        origin.answers(response);
        let first = if at_once {
            play();
            ask(&service).await
        } else {
            let first = ask(&service).await;
            play();
            first
        };
        assert_eq!(first.headers()["x-field"], "field");
        assert_eq!(events(first.into_body()).await.len(), 2);
        soon(cache.settled()).await;

        let hit = ask(&service).await;
        assert!(is_hit(&hit));
        assert_eq!(hit.headers()["x-field"], "field");
        assert!(hit.headers()["cache-status"].to_str().unwrap().starts_with("inner; hit, cacheback; hit"));
        let events = events(hit.into_body()).await;
        assert!(
            matches!(&events[..], [Event::Data(data), Event::Trailers(of)] if data == "page" && of["x-trailer"] == "trailer")
        );
        for (what, gone) in
            [("body", data_gone), ("field", field_gone), ("cache-status", said_gone), ("trailer", trailer_gone)]
        {
            assert!(gone.load(SeqCst), "the buffer of the {what} is still held, at once: {at_once}");
        }
    }
}

// ---- over sockets ----

/// Serves the origin under a layer on a loopback port.
async fn served(origin: &Origin, layer: CachebackLayer) -> (std::net::SocketAddr, Router) {
    let origin = origin.clone();
    let handler = service_fn(move |_: axum::extract::Request| {
        let origin = origin.clone();
        async move { Ok::<_, Infallible>(infallible(origin.call(get()).await).map(axum::body::Body::new)) }
    });
    let app = Router::new().fallback_service(layer.layer(handler));
    (serve(app.clone()).await, app)
}

/// What the cache has for the page that clients of this address ask for.
async fn stored(app: &Router, address: std::net::SocketAddr) -> (bool, usize) {
    let request = Request::get("/")
        .header(header::HOST, address.to_string())
        .body(axum::body::Body::empty())
        .expect("a sound request");
    let response = infallible(app.clone().oneshot(request).await);
    (is_hit(&response), response.into_body().collect().await.expect("a sound body").to_bytes().len())
}

/// A mebibyte in pieces, as bodies come: the next piece when the last one was taken.
async fn play_megabytes(script: &mut Script, megabytes: usize) {
    for piece in 0..megabytes * 16 {
        script.data(vec![b'.'; 1 << 16]);
        script.until_taken(piece + 1).await;
    }
    script.end();
}

#[tokio::test] // P52
async fn a_client_of_http_1_that_reads_nothing_at_all_does_not_keep_its_page_from_being_stored() {
    let (origin, cache) = (Origin::default(), Cache::builder().memory(15 << 20).build());
    let (address, app) = served(&origin, patient(&cache).body_cap(8 << 20)).await;
    let (mut script, body) = scripted();
    origin.answers(Response::new(body));
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(4 << 10).unwrap();
    let mut client = client.connect(address).await.unwrap();
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    // More than the buffers of two sockets take.
    play_megabytes(&mut script, 8).await;
    cache.settled().await;
    assert_eq!(stored(&app, address).await, (true, 8 << 20));
    drop(client);
}

/// Speaks HTTP/2 over one connection and grants each stream a window of this size.
async fn http_2(address: std::net::SocketAddr, window: u32) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
    let socket = TokioIo::new(TcpStream::connect(address).await.expect("the server listens"));
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (client, connection) = builder.handshake(socket).await.expect("a sound handshake");
    tokio::spawn(connection);
    client
}

#[tokio::test] // P52, trap 7
async fn a_client_of_http_2_that_grants_no_window_does_not_keep_its_page_from_being_stored() {
    for window in [0, 1_000] {
        let (origin, cache) = (Origin::default(), Cache::new());
        let (address, app) = served(&origin, patient(&cache)).await;
        let (mut script, body) = scripted();
        origin.answers(Response::new(body));
        let mut client = http_2(address, window).await;
        let request = Request::get(format!("http://{address}/")).body(Empty::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        for piece in 0..100 {
            script.data(vec![b'.'; 1_000]);
            script.until_taken(piece + 1).await;
        }
        script.end();
        cache.settled().await;
        assert_eq!(stored(&app, address).await, (true, 100_000));
        drop(response);
    }
}

#[tokio::test] // P11
async fn a_client_that_hangs_up_in_mid_body_cancels_a_run_that_nobody_else_wants() {
    for two in [false, true] {
        let (origin, cache) = (Origin::default(), Cache::builder().max_refreshes(0).build());
        let (address, _) = served(&origin, patient(&cache)).await;
        let (mut script, body) = scripted();
        origin.answers(Response::new(body));
        let uri = format!("http://{address}/");
        let request = Request::get(&uri).header(header::HOST, address.to_string()).body(Empty::new()).unwrap();
        let mut response = if two {
            http_2(address, 1_000).await.send_request(request).await.unwrap()
        } else {
            let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut client, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            client.send_request(request).await.unwrap()
        };
        script.data("one");
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        drop(response);
        script.until_dropped().await;
        cache.settled().await;
        assert_eq!(cache.stats().keys, 0);
    }
}

#[tokio::test] // P53
async fn rfc9111_3_3_a_body_that_is_cut_short_is_cut_short_on_the_wire_as_well() {
    for layered in [true, false] {
        for two in [false, true] {
            let (origin, cache) = (Origin::default(), Cache::new());
            let (address, _) = served(&origin, patient(&cache).enabled(layered)).await;
            let (mut script, body) = scripted();
            origin.answers(Response::builder().header(header::CONTENT_LENGTH, "10").body(body).unwrap());
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .http2_only(two)
                .build_http::<Empty<Bytes>>();
            let response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
            script.data("short");
            script.end();
            response.into_body().collect().await.expect_err("half of it is missing");
            cache.settled().await;
            assert_eq!(cache.stats().keys, 0);
        }
    }
}
