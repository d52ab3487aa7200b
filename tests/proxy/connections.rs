//! What becomes of connections: kept, shared, broken off on either side, filled with garbage, and ended.

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{
    clock::in_time,
    origin::{Gate, Reply},
    stand::{Stand, request},
    wire::Connection,
};

/// A client's connection of HTTP/2, without TLS and without an upgrade.
async fn http2(stand: &Stand) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(stand.proxy).await.expect("the proxy listens");
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    client
}

/// Sends one request of HTTP/2 and reads the answer.
async fn ask(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Response<Bytes> {
    in_time(async {
        let (head, body) = client.send_request(request).await.expect("an answer").into_parts();
        Response::from_parts(head, body.collect().await.expect("a whole body").to_bytes())
    })
    .await
}

fn http2_get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).expect("a sound request")
}

#[tokio::test(start_paused = true)]
async fn rfc9112_9_3_connections_are_kept_on_both_sides() {
    let stand = Stand::new(|asked| Reply::ok("", &format!("{} of {}", asked.number, asked.connection))).await;
    let mut client = stand.connect().await;
    for number in 1..4 {
        client.send(request("GET", "/", "", "")).await;
        assert_eq!(client.answer().await.text(), format!("{number} of 1"));
    }
    client.send(request("GET", "/", "Connection: close", "")).await;
    assert_eq!(client.answer().await.field("connection"), "close");
    assert!(client.is_closed().await);
    // What a client says of its connection is not said of the origin's.
    assert_eq!(stand.get("/", "").await.text(), "5 of 1");
}

#[tokio::test(start_paused = true)]
async fn rfc9112_9_3_2_pipelined_requests_are_answered_in_their_order() {
    let stand = Stand::new(|asked| match asked.path() {
        "/hit" => Reply::ok("Cache-Control: max-age=60", "/hit"),
        path => Reply::ok("", path),
    })
    .await;
    stand.get("/hit", "").await;
    let paths = ["/a", "/hit", "/b", "/hit", "/hit"];
    let mut client = stand.connect().await;
    client.send(paths.map(|path| request("GET", path, "", "")).concat()).await;
    for path in paths {
        assert_eq!(client.answer().await.text(), path);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_closes_its_connections_is_asked_on_another() {
    let stand = Stand::new(|asked| Reply::ok("Connection: close", &asked.connection.to_string()).close()).await;
    for connection in ["1", "2", "3"] {
        assert_eq!(stand.get("/", "").await.text(), connection);
    }
}

#[tokio::test(start_paused = true)] // P11
async fn when_the_one_client_of_a_response_goes_the_origin_is_let_go_and_nothing_is_stored() {
    let never = Gate::new();
    let waiting = never.clone();
    let stand = Stand::new(move |asked| match (asked.path(), asked.number) {
        ("/passed", 1) => Reply::head("200 OK", "Content-Length: 99").say("begun").wait(&waiting),
        _ => Reply::ok("Cache-Control: max-age=60", "whole"),
    })
    .await;
    let mut client = stand.connect().await;
    client.send(request("GET", "/passed", "", "")).await;
    client.begin_answer(4).await;
    drop(client);
    stand.origin.ended(1).await;
    let answer = stand.get("/passed", "").await;
    assert_eq!((answer.text(), answer.is_hit()), ("whole", false));
}

#[tokio::test(start_paused = true)] // P11, P52
async fn when_a_client_goes_in_the_middle_what_it_began_is_stored_for_the_next() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |_| {
        Reply::head("200 OK", "Cache-Control: max-age=60\nContent-Length: 8").say("body").wait(&rest).say("rest")
    })
    .await;
    let mut client = stand.connect().await;
    client.send(request("GET", "/", "", "")).await;
    client.begin_answer(4).await;
    drop(client);
    gate.open();
    in_time(stand.cache.settled()).await;
    let next = stand.get("/", "").await;
    assert_eq!((next.text(), next.is_hit(), stand.origin.runs()), ("bodyrest", true, 1));
}

#[tokio::test(start_paused = true)] // P53
async fn a_body_that_breaks_off_breaks_off_for_the_client_and_is_not_stored() {
    for framing in ["Content-Length: 9\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"] {
        let stand = Stand::new(move |asked| match asked.number {
            1 => Reply::raw(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}")).close(),
            _ => Reply::ok("Cache-Control: max-age=60", "whole"),
        })
        .await;
        let broken = stand.get("/", "").await;
        assert_eq!((broken.status(), broken.text(), broken.whole), (200, "body", false), "{framing}");
        let next = stand.get("/", "").await;
        assert_eq!((next.text(), next.is_hit()), ("whole", false), "{framing}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_15_6_3_an_origin_that_is_gone_or_says_what_is_no_http_is_a_502_in_words() {
    let mut stand = Stand::new(|asked| match asked.path() {
        "/silent" => Reply::none(),
        "/garbage" => Reply::raw("what is this?\r\n\r\n").close(),
        "/switched" => Reply::head("101 Switching Protocols", "Connection: upgrade\nUpgrade: x").say("what is this?"),
        "/coded" => Reply::head("200 OK", "Transfer-Encoding: gzip, chunked").say("0\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nCont").close(),
    })
    .await;
    for path in ["/silent", "/garbage", "/switched", "/coded", "/half"] {
        let answer = stand.get(path, "").await;
        assert_eq!(answer.text(), "502 Bad Gateway: the origin broke off, or answered what is no HTTP\n", "{path}");
        assert_eq!((answer.status(), answer.field("cache-control").as_str()), (502, "no-store"));
    }
    stand.origin.kill().await;
    let answer = stand.get("/", "").await;
    assert_eq!((answer.status(), answer.text()), (502, "502 Bad Gateway: the origin cannot be reached\n"));
}

#[tokio::test(start_paused = true)]
async fn rfc9110_15_6_5_an_origin_that_is_late_is_a_504_in_words() {
    let never = Gate::new();
    let stand = Stand::new(move |_| Reply::default().wait(&never)).await;
    for method in ["GET", "POST"] {
        let mut client = stand.connect().await;
        client.send(request(method, "/", "", "")).await;
        stand.origin.begun(if method == "GET" { 1 } else { 2 }).await;
        stand.pass(60).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (504, "504 Gateway Timeout: the origin did not answer in time\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_its_own_connection_and_nothing_else() {
    let stand = Stand::new(|_| Reply::ok("Cache-Control: max-age=60", "body")).await;
    let mut bystander = stand.connect().await;
    for garbage in [
        &b"\r\n\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nBad name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4096],
        &[b'a'; 1 << 20],
    ] {
        let mut client = stand.connect().await;
        client.send(garbage).await;
        client.end().await;
        let said = client.rest().await;
        let status = said.strip_prefix("HTTP/1.1 ").map(|rest| &rest[..1]);
        assert!(status.is_none_or(|status| status == "4" || status == "5"), "{}: {said}", garbage.escape_ascii());
    }
    bystander.send(request("GET", "/", "", "")).await;
    assert_eq!(bystander.answer().await.text(), "body");
}

#[tokio::test(start_paused = true)]
async fn what_two_could_take_for_different_lengths_is_smuggled_past_nobody() {
    let stand = Stand::new(|asked| Reply::ok("", &format!("{} {}", asked.path(), asked.message.text()))).await;
    let mut client = stand.connect().await;
    // Were it the length that counts, a request for /hidden would follow. It is the coding (RFC 9112 §6.3).
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let chunks = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let fields = "Host: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked";
    client.send(format!("POST /seen HTTP/1.1\r\n{fields}\r\n\r\n{chunks}")).await;
    assert_eq!(client.answer().await.text(), format!("/seen {hidden}"));
    client.end().await;
    assert_eq!(client.rest().await, "");
    assert!(stand.origin.asked().iter().all(|asked| asked.path() == "/seen" && !asked.has("content-length")));
}

#[tokio::test(start_paused = true)] // P62
async fn rfc9113_clients_of_http_2_share_what_those_of_http_1_caused_to_be_stored() {
    let stand = Stand::new(|asked| {
        Reply::ok("Cache-Control: max-age=60\nConnection: keep-alive\nKeep-Alive: timeout=5", &asked.field("host"))
    })
    .await;
    stand.get("/", "Host: a.test").await;
    let mut client = http2(&stand).await;
    let hit = ask(&mut client, http2_get("http://a.test/")).await;
    assert_eq!((hit.version(), &hit.body()[..]), (Version::HTTP_2, &b"a.test"[..]));
    assert_eq!(hit.headers()["cache-status"], "cacheback; hit; ttl=60");
    let miss = ask(&mut client, http2_get("http://b.test/")).await;
    assert_eq!(&miss.body()[..], b"b.test");
    assert!(stand.origin.last().field("via").starts_with("2 cacheback-"));
    assert!(stand.get("/", "Host: b.test").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn rfc9113_8_3_1_two_hosts_in_one_request_are_a_bad_request() {
    let stand = Stand::new(|asked| Reply::ok("", &asked.field("host"))).await;
    let mut client = http2(&stand).await;
    for (host, status) in [("a.test", 200), ("b.test", 400)] {
        let mut request = http2_get("http://a.test/");
        request.headers_mut().insert("host", host.parse().expect("a host"));
        assert_eq!(ask(&mut client, request).await.status(), status, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9113_8_2_3_the_cookies_of_http_2_are_one_line_to_the_cache_and_the_origin() {
    let stand = Stand::new(|asked| Reply::ok("Cache-Control: max-age=60\nVary: Cookie", &asked.field("cookie"))).await;
    let mut client = http2(&stand).await;
    let mut split = http2_get("http://a.test/");
    for cookie in ["a=1", "b=2", "c=3; d=4"] {
        split.headers_mut().append("cookie", cookie.parse().expect("a cookie"));
    }
    assert_eq!(&ask(&mut client, split).await.body()[..], b"a=1; b=2; c=3; d=4");
    assert!(stand.get("/", "Host: a.test\nCookie: a=1; b=2; c=3; d=4").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn content_passes_from_clients_of_http_2() {
    let stand = Stand::new(|asked| Reply::ok("", asked.message.text())).await;
    let mut client = http2(&stand).await;
    let post = Request::post("http://a.test/").body(Full::from("content")).expect("a sound request");
    assert_eq!(&ask(&mut client, post).await.body()[..], b"content");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_ends_what_is_under_way_and_takes_nothing_new() {
    let gate = Gate::new();
    let rest = gate.clone();
    let script = move |_: &_| Reply::head("200 OK", "Content-Length: 8").say("body").wait(&rest).say("rest");
    let mut stand = Stand::new(script).await;
    let (mut busy, mut idle) = (stand.connect().await, stand.connect().await);
    busy.send(request("GET", "/", "", "")).await;
    busy.begin_answer(4).await;
    idle.send(request("CONNECT", "a.test:1", "", "")).await;
    idle.answer().await;
    stand.stop();
    assert!(idle.is_closed().await);
    gate.open();
    assert!(busy.rest().await.ends_with("rest"));
    stand.stopped().await;
    assert!(TcpStream::connect(stand.proxy).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_waits_no_longer_than_its_grace() {
    let never = Gate::new();
    let mut stand = Stand::new(move |_| Reply::default().wait(&never)).await;
    let mut client: Connection = stand.connect().await;
    client.send(request("GET", "/", "", "")).await;
    stand.origin.begun(1).await;
    stand.stop();
    stand.until_refused().await;
    stand.pass(5).await;
    stand.stopped().await;
}
