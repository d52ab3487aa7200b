//! Calls that stream, in each direction: message by message, as without the layer, listed or not.

use cacheback::{Cache, CachebackLayer, Freshness, Grpc, grpc};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tonic::{Code, Status, codegen::tokio_stream::Stream};
use tower::{Layer, ServiceExt};

use crate::{
    clock::in_time,
    quotes::{Quote, Wanted},
    stand::{EACH, GET, Origin, Stand, TELL, WATCH, a_minute, cents, minute, pass, quiet, said, secs, wanted},
    support::net::scripted,
};

/// One layer that lists all methods, and one that lists none of those that stream.
fn layers() -> [CachebackLayer<Grpc>; 2] {
    let all = [WATCH, TELL, EACH].into_iter().fold(minute(), |layer, method| layer.method(method, a_minute()));
    [all, minute()]
}

fn shares() -> (mpsc::UnboundedSender<Wanted>, impl Stream<Item = Wanted> + Send + 'static) {
    Told::new()
}

/// What a client streams.
struct Told<T>(mpsc::UnboundedReceiver<T>);

impl<T> Told<T> {
    fn new() -> (mpsc::UnboundedSender<T>, Self) {
        let (sender, told) = mpsc::unbounded_channel();
        (sender, Self(told))
    }
}

impl<T> Stream for Told<T> {
    type Item = T;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

fn share(share: &str) -> Wanted {
    Wanted { share: share.into() }
}

#[tokio::test(start_paused = true)] // P52, P80
async fn a_server_that_streams_is_heard_message_by_message() {
    for (at, layer) in layers().iter().enumerate() {
        let origin = Origin::counting();
        let stand = Stand::new(layer, &origin).await;
        for _ in 0..2 {
            let script = origin.stream();
            let mut heard = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap().into_inner();
            for n in 1..=5 {
                script.send(Ok(cents(n))).unwrap();
                // The next one is not sent before this one was heard.
                assert_eq!(in_time(heard.message()).await.unwrap(), Some(cents(n)), "{at}");
            }
            script.send(Err(Status::aborted("enough"))).unwrap();
            assert_eq!(in_time(heard.message()).await.unwrap_err().code(), Code::Aborted);
        }
        assert_eq!((origin.runs(), stand.cache.stats().stored), (2, 0));
    }
}

#[tokio::test(start_paused = true)] // P52, P80
async fn a_client_that_streams_is_heard_message_by_message() {
    for layer in layers() {
        let origin = Origin::counting();
        let stand = Stand::new(&layer, &origin).await;
        let (script, stream) = Told::<Quote>::new();
        let mut client = stand.client.clone();
        let call = tokio::spawn(async move { client.tell(stream).await });
        for n in 1..=5 {
            script.send(cents(n)).unwrap();
            quiet().await;
            // A listed method waits a moment for the end of what may be its only message.
            tokio::time::advance(secs(1)).await;
            assert_eq!(origin.told(usize::try_from(n).unwrap()).await.len(), usize::try_from(n).unwrap());
        }
        drop(script);
        let answer = in_time(call).await.unwrap().unwrap();
        assert_eq!(answer.into_inner().quotes, 5);
        assert_eq!(stand.cache.stats().stored, 0);
    }
}

#[tokio::test(start_paused = true)] // P80
async fn a_client_that_streams_two_messages_at_once_is_not_waited_for() {
    let [listed, _] = layers();
    let origin = Origin::counting();
    let stand = Stand::new(&listed, &origin).await;
    let (script, stream) = Told::<Quote>::new();
    script.send(cents(1)).unwrap();
    script.send(cents(2)).unwrap();
    let mut client = stand.client.clone();
    let call = tokio::spawn(async move { client.tell(stream).await });
    // The clock stands still.
    assert_eq!(origin.told(2).await.len(), 2);
    drop(script);
    let answer = in_time(call).await.unwrap().unwrap();
    assert_eq!(said(answer.metadata().as_ref()), "fwd=bypass; fwd-status=200; detail=streaming");
}

#[tokio::test(start_paused = true)] // P52, P80
async fn both_stream_and_wait_for_one_another() {
    for layer in layers() {
        let origin = Origin::counting();
        let stand = Stand::new(&layer, &origin).await;
        let (script, stream) = shares();
        let mut client = stand.client.clone();
        // It says nothing before it is answered.
        let call = tokio::spawn(async move { client.each(stream).await });
        quiet().await;
        tokio::time::advance(secs(1)).await;
        let mut heard = in_time(call).await.unwrap().unwrap().into_inner();
        for (n, name) in (1..).zip(["a", "b", "c"]) {
            script.send(share(name)).unwrap();
            let quote = in_time(heard.message()).await.unwrap().unwrap();
            assert_eq!((quote.share.as_str(), quote.cents), (name, n));
        }
        drop(script);
        assert_eq!(in_time(heard.message()).await.unwrap(), None);
        assert_eq!((origin.runs(), stand.cache.stats().stored), (1, 0));
    }
}

#[tokio::test(start_paused = true)] // P80
async fn a_client_that_waits_for_an_answer_after_its_first_message_is_answered() {
    let [listed, _] = layers();
    let origin = Origin::counting();
    let stand = Stand::new(&listed, &origin).await;
    let (script, stream) = shares();
    script.send(share("a")).unwrap();
    let mut client = stand.client.clone();
    let call = tokio::spawn(async move { client.each(stream).await });
    quiet().await;
    assert_eq!(origin.runs(), 0, "it may be a unary call");
    tokio::time::advance(std::time::Duration::from_millis(60)).await;
    let mut heard = in_time(call).await.unwrap().unwrap().into_inner();
    assert_eq!(in_time(heard.message()).await.unwrap().unwrap().share, "a");
    drop(script);
}

#[tokio::test(start_paused = true)] // P80
async fn a_client_that_leaves_while_its_message_is_read_calls_nobody() {
    let (origin, layer) = (Origin::counting(), minute());
    let (script, body) = scripted();
    script.data(bytes::Bytes::from_static(&[0, 0, 0, 0, 6, 10]));
    let call = tokio::spawn(layer.layer(origin.server()).oneshot(grpc::call(GET, b"").unwrap().map(|_| body)));
    quiet().await;
    assert!(script.taken() == 1 && !script.is_dropped());
    call.abort();
    quiet().await;
    tokio::time::advance(secs(1)).await;
    quiet().await;
    assert!(script.is_dropped() && origin.runs() == 0);
}

#[tokio::test(start_paused = true)] // P13, P80
async fn a_listed_stream_keeps_others_waiting_only_until_it_is_known_for_one() {
    let [listed, _] = layers();
    let origin = Origin::counting();
    let stand = Stand::new(&listed, &origin).await;
    let (one, other) = (origin.stream(), origin.stream());
    let mut leader = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap().into_inner();
    one.send(Ok(cents(1))).unwrap();
    assert_eq!(in_time(leader.message()).await.unwrap(), Some(cents(1)));
    let mut client = stand.client.clone();
    let follower = tokio::spawn(async move { client.watch(wanted("ACME", &[])).await });
    quiet().await;
    assert_eq!(origin.runs(), 1);
    one.send(Ok(cents(2))).unwrap();
    origin.begun(2).await;
    other.send(Ok(cents(3))).unwrap();
    let mut follower = in_time(follower).await.unwrap().unwrap().into_inner();
    assert_eq!(in_time(follower.message()).await.unwrap(), Some(cents(3)));
    assert_eq!(in_time(leader.message()).await.unwrap(), Some(cents(2)));
    // The key is marked: nobody waits for anybody any more.
    let _third = origin.stream();
    in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap();
    assert_eq!(origin.runs(), 3);
}

#[tokio::test(start_paused = true)] // P53, P80
async fn a_stream_that_stops_after_its_first_message_is_let_go_in_time() {
    let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
    let layer = CachebackLayer::grpc().method(WATCH, freshness).fill_timeout(secs(2));
    let origin = Origin::counting();
    let stand = Stand::new(&layer, &origin).await;
    let once = origin.stream();
    once.send(Ok(cents(1))).unwrap();
    drop(once);
    let mut heard = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap().into_inner();
    assert_eq!(in_time(heard.message()).await.unwrap(), Some(cents(1)));
    assert_eq!(in_time(heard.message()).await.unwrap(), None);
    in_time(stand.cache.settled()).await;
    // Something is stored that could stand in for a failure: the next one is held until it is known not to be one.
    pass(61).await;
    let script = origin.stream();
    script.send(Ok(cents(2))).unwrap();
    let mut client = stand.client.clone();
    let call = tokio::spawn(async move { client.watch(wanted("ACME", &[])).await });
    origin.begun(2).await;
    quiet().await;
    assert!(!call.is_finished());
    pass(3).await;
    let mut heard = in_time(call).await.unwrap().unwrap().into_inner();
    for n in 2..5 {
        assert_eq!(in_time(heard.message()).await.unwrap(), Some(cents(n)));
        script.send(Ok(cents(n + 1))).unwrap();
    }
}

#[tokio::test(start_paused = true)] // P6, P22, P80
async fn a_run_that_says_nothing_after_its_head_has_failed_and_the_stale_answer_stands_in() {
    let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
    let layer = CachebackLayer::grpc().method(WATCH, freshness).fill_timeout(secs(2));
    let origin = Origin::counting();
    let stand = Stand::new(&layer, &origin).await;
    let once = origin.stream();
    once.send(Ok(cents(1))).unwrap();
    drop(once);
    let mut heard = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap().into_inner();
    while in_time(heard.message()).await.unwrap().is_some() {}
    in_time(stand.cache.settled()).await;
    pass(61).await;
    let silent = origin.stream();
    let mut client = stand.client.clone();
    let call = tokio::spawn(async move { client.watch(wanted("ACME", &[])).await });
    origin.begun(2).await;
    quiet().await;
    pass(3).await;
    let said = "cacheback; fwd=stale; fwd-status=200; ttl=-4; detail=stale-if-error";
    let answer = in_time(call).await.unwrap().unwrap();
    assert_eq!(answer.metadata().get("cache-status").unwrap(), said);
    let mut heard = answer.into_inner();
    assert_eq!(in_time(heard.message()).await.unwrap(), Some(cents(1)));
    // It stays, and the next run is put off.
    let again = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap();
    assert_eq!(again.metadata().get("cache-status").unwrap(), "cacheback; hit; ttl=-4; detail=back-off");
    drop(silent);
}

#[tokio::test(start_paused = true)] // P11, P80
async fn what_is_held_until_it_is_known_to_be_good_ends_with_the_last_who_waits_for_it() {
    let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
    let layer = Cache::builder().max_refreshes(0).build().grpc().method(WATCH, freshness);
    let origin = Origin::counting();
    let stand = Stand::new(&layer, &origin).await;
    let once = origin.stream();
    once.send(Ok(cents(1))).unwrap();
    drop(once);
    let mut heard = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap().into_inner();
    while in_time(heard.message()).await.unwrap().is_some() {}
    in_time(stand.cache.settled()).await;
    pass(61).await;
    let script = origin.stream();
    script.send(Ok(cents(2))).unwrap();
    let mut client = stand.client.clone();
    let leader = tokio::spawn(async move { client.watch(wanted("ACME", &[])).await });
    origin.begun(2).await;
    let mut client = stand.client.clone();
    let follower = tokio::spawn(async move { client.watch(wanted("ACME", &[])).await });
    quiet().await;
    leader.abort();
    quiet().await;
    assert!(!script.is_closed(), "somebody waits still");
    follower.abort();
    quiet().await;
    assert!(script.is_closed(), "nobody does");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P80
async fn a_unary_call_of_a_slow_client_is_looked_up_and_its_message_read_whole() {
    let (origin, layer) = (Origin::counting(), minute());
    let service = layer.layer(origin.server());
    for run in [1, 1] {
        let (mut script, body) = scripted();
        let call = grpc::call(GET, b"").unwrap().map(|_| body);
        let answer = tokio::spawn(service.clone().oneshot(call));
        for piece in [&[0, 0][..], &[0, 0, 6, 10], &[4, b'A'], b"CME"] {
            script.data(bytes::Bytes::from_static(piece));
            quiet().await;
            tokio::time::advance(std::time::Duration::from_millis(40)).await;
        }
        script.end();
        let body = in_time(answer).await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
        let quote: Quote = prost::Message::decode(&body[5..]).unwrap();
        assert_eq!((quote.share.as_str(), quote.cents), ("ACME", run));
    }
}

#[tokio::test(start_paused = true)] // P80
async fn a_unary_call_is_looked_up_on_a_thread_that_was_busy_while_the_rest_of_it_came() {
    let (origin, layer) = (Origin::counting(), minute());
    let service = layer.layer(origin.server());
    for said in ["fwd=uri-miss; fwd-status=200; stored", "hit"] {
        let (mut script, body) = scripted();
        let message = grpc::frame(b"\x0a\x04ACME");
        script.data(message.slice(..7));
        let answer = tokio::spawn(service.clone().oneshot(grpc::call(GET, b"").unwrap().map(|_| body)));
        let came = std::sync::Arc::new(tokio::sync::Notify::new());
        let connection = tokio::spawn({
            let came = std::sync::Arc::clone(&came);
            async move {
                came.notified().await;
                script.data(message.slice(7..));
                script.end();
            }
        });
        quiet().await;
        tokio::time::advance(std::time::Duration::from_millis(60)).await;
        // The call has its turn before its connection.
        came.notify_one();
        let answer = in_time(answer).await.unwrap().unwrap();
        let heard = crate::stand::said(answer.headers());
        assert!(heard.starts_with(said), "{heard}");
        in_time(connection).await.unwrap();
        in_time(layer.cache().settled()).await;
    }
    assert_eq!(origin.runs(), 1);
}
