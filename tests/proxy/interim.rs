//! Interim responses: all of them, to the one whom they are for, and between messages.

use std::{
    future::ready,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream, duplex};

use crate::{
    origin::{Gate, Reply},
    proxy::interim::{Interim, Stream},
    stand::{Stand, request},
};

#[tokio::test(start_paused = true)]
async fn rfc9110_15_2_what_the_origin_says_before_its_answer_reaches_the_client_first_and_is_not_stored() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |_| {
        Reply::head("103 Early Hints", "Link: </a.css>\nConnection: X-Hop\nX-Hop: 1\nX-Early: yes")
            .wait(&rest)
            .say("HTTP/1.1 102 Processing\r\n\r\n")
            .then_all(Reply::ok("Cache-Control: max-age=60", "body"))
    })
    .await;
    let mut client = stand.connect().await;
    // The next request is there already when the first is answered.
    client.send([request("GET", "/", "", ""), request("GET", "/", "", "")].concat()).await;
    let early = client.answer().await;
    assert_eq!((early.status(), early.field("link").as_str(), early.has("x-hop")), (103, "</a.css>", false));
    gate.open();
    assert_eq!(client.answer().await.status(), 102);
    for hit in [false, true] {
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text(), answer.is_hit()), (200, "body", hit));
        assert!(!answer.has("x-early") && !answer.has("link"));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_15_2_a_client_of_http_1_0_is_told_nothing_before_its_answer() {
    let stand = Stand::new(|_| Reply::head("103 Early Hints", "Link: </a.css>").then_all(Reply::ok("", "body"))).await;
    let mut old = stand.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(old.answer().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_the_origin_says_while_a_response_is_refreshed_is_said_to_no_client() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |asked| {
        let answer = Reply::ok("Cache-Control: max-age=1, stale-while-revalidate=60", &asked.number.to_string());
        match asked.path() {
            "/" if asked.number > 1 => Reply::head("103 Early Hints", "").wait(&rest).then_all(answer),
            _ => answer,
        }
    })
    .await;
    stand.get("/", "").await;
    stand.pass(2).await;
    let mut reader = stand.connect().await;
    reader.send(request("GET", "/", "", "")).await;
    assert_eq!(reader.answer().await.text(), "1");
    stand.origin.begun(2).await;
    reader.send(request("GET", "/other", "", "")).await;
    let other = reader.answer().await;
    assert_eq!((other.status(), other.text()), (200, "3"));
    gate.open();
}

/// What the other side has read so far.
async fn read(far: &mut DuplexStream) -> String {
    let mut bytes = [0; 64];
    let read = far.read(&mut bytes).await.expect("an open stream");
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn an_answer_waits_until_what_was_said_before_it_is_written_whole() {
    let interim = Interim::default();
    let (near, mut far) = duplex(8);
    let (mut stream, mut cx) = (Stream::new(near, interim.clone()), Context::from_waker(Waker::noop()));
    let teller = interim.teller();
    teller.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
    let mut answer = pin!(interim.before(ready("answer")));
    assert_eq!(answer.as_mut().poll(&mut cx), Poll::Pending);
    // hyper has something left to write: it stays together.
    assert!(Pin::new(&mut stream).poll_write(&mut cx, b"other").is_ready());
    assert_eq!(read(&mut far).await, "other");
    // It has nothing left: its time has come, and what was begun is ended whoever writes.
    assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_pending());
    assert_eq!(answer.as_mut().poll(&mut cx), Poll::Pending);
    let mut said = String::new();
    loop {
        let written = Pin::new(&mut stream).poll_write(&mut cx, b"next");
        assert_eq!(answer.as_mut().poll(&mut cx).is_ready(), written.is_ready());
        said.push_str(&read(&mut far).await);
        if written.is_ready() {
            break;
        }
    }
    while !said.ends_with("next") {
        said.push_str(&read(&mut far).await);
    }
    assert_eq!(said, "HTTP/1.1 103 Early Hints\r\n\r\nnext");
    // Whatever else is said of that request comes too late.
    teller.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(pin!(interim.before(ready("next"))).poll(&mut cx), Poll::Ready("next"));
}
