//! For whom the proxy waits, and how long.

use crate::{
    origin::{Gate, Reply},
    stand::{Stand, request},
};

#[tokio::test(start_paused = true)]
async fn a_request_may_take_its_time_as_long_as_it_gets_on() {
    let stand = Stand::new(|asked| Reply::ok("", asked.message.text())).await;
    let mut client = stand.connect().await;
    client.send(request("POST", "/", "Content-Length: 3", "")).await;
    for part in ["a", "b", "c"] {
        stand.quiet().await;
        stand.pass(59).await;
        client.send(part).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text()), (200, "abc"));
}

#[tokio::test(start_paused = true)]
async fn the_origin_has_its_time_from_when_it_has_the_request() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |_| Reply::default().wait(&rest).then_all(Reply::ok("", "late"))).await;
    let mut client = stand.connect().await;
    client.send(request("POST", "/", "Content-Length: 1", "")).await;
    stand.quiet().await;
    stand.pass(59).await;
    client.send("a").await;
    stand.origin.begun(1).await;
    stand.pass(59).await;
    gate.open();
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn rfc9110_15_5_9_a_client_that_does_not_send_the_rest_is_told_so_and_let_go() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    for framing in ["Content-Length: 8\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"] {
        let mut client = stand.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}")).await;
        stand.quiet().await;
        stand.pass(60).await;
        let answer = client.answer().await;
        let words = "408 Request Timeout: the rest of the request did not come in time\n";
        assert_eq!((answer.status(), answer.text()), (408, words), "{framing}");
        assert!(client.is_closed().await, "{framing}");
    }
    assert!(stand.origin.asked().iter().all(|asked| !asked.message.whole));
}

#[tokio::test(start_paused = true)] // P53
async fn a_body_in_which_the_origin_pauses_for_too_long_breaks_off_and_is_not_stored() {
    for (pause, whole) in [(59, true), (60, false)] {
        let gate = Gate::new();
        let rest = gate.clone();
        let stand = Stand::new(move |asked| match (asked.path(), asked.number) {
            ("/passed", _) => Reply::head("200 OK", "Content-Length: 8").say("body").wait(&rest).say("rest"),
            (_, 2) => {
                let head = Reply::head("200 OK", "Cache-Control: max-age=99\nContent-Length: 8");
                head.say("body").wait(&rest).say("rest")
            }
            _ => Reply::ok("", "whole"),
        })
        .await;
        let (mut passed, mut stored) = (stand.connect().await, stand.connect().await);
        for (number, (client, path)) in [(&mut passed, "/passed"), (&mut stored, "/stored")].into_iter().enumerate() {
            client.send(request("GET", path, "Connection: close", "")).await;
            client.begin_answer(4).await;
            stand.origin.begun(number + 1).await;
        }
        stand.quiet().await;
        stand.pass(pause).await;
        stand.quiet().await;
        gate.open();
        for client in [&mut passed, &mut stored] {
            assert_eq!(client.rest().await, if whole { "rest" } else { "" }, "{pause}");
        }
        // What takes so long is not stored even when it comes to its end.
        assert_eq!(stand.get("/stored", "").await.text(), "whole");
    }
}

#[tokio::test(start_paused = true)] // P52
async fn a_body_may_take_its_time_as_long_as_it_gets_on() {
    let gates = [Gate::new(), Gate::new()];
    let [first, second] = gates.clone();
    let stand = Stand::new(move |_| {
        let head = Reply::head("200 OK", "Content-Length: 3");
        head.say("a").wait(&first).say("b").wait(&second).say("c")
    })
    .await;
    let mut client = stand.connect().await;
    client.send(request("GET", "/", "Connection: close", "")).await;
    client.begin_answer(1).await;
    for gate in gates {
        stand.quiet().await;
        stand.pass(59).await;
        gate.open();
    }
    assert_eq!(client.rest().await, "bc");
}

#[tokio::test(start_paused = true)]
async fn who_connects_and_asks_nothing_is_let_go() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for said in ["", "P", "GET / HTTP/1.1\r\nHost: a.test\r\n", preface] {
        let mut client = stand.connect().await;
        client.send(said).await;
        stand.quiet().await;
        stand.pass(30).await;
        assert!(client.is_closed().await, "{said}");
    }
    assert_eq!(stand.origin.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_may_wait_for_longer_than_nobody_may_be_silent() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |_| Reply::default().wait(&rest).then_all(Reply::ok("", "late"))).await;
    let mut client = stand.connect().await;
    client.send(request("GET", "/", "", "")).await;
    stand.origin.begun(1).await;
    stand.pass(59).await;
    stand.quiet().await;
    gate.open();
    assert_eq!(client.answer().await.text(), "late");
    stand.quiet().await;
    stand.pass(30).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_waits_until_another_one_goes() {
    let mut stand = Stand::with(|options| options.connections = 2, |_| Reply::ok("", "")).await;
    let mut clients = [stand.connect().await, stand.connect().await];
    for client in &mut clients {
        client.send(request("GET", "/", "", "")).await;
        client.answer().await;
    }
    let mut waiting = stand.connect().await;
    waiting.send(request("GET", "/", "", "")).await;
    stand.quiet().await;
    assert_eq!(stand.origin.runs(), 2);
    let [stays, goes] = clients;
    drop(goes);
    assert_eq!(waiting.answer().await.status(), 200);
    // The end comes also where all places are taken.
    stand.stop();
    stand.stopped().await;
    drop((stays, waiting));
}
