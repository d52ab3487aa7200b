//! What a proxy does to messages, and what it leaves as it is (RFC 9110 §7.6, RFC 9112).

use crate::{
    origin::{Gate, Reply},
    stand::{Stand, request},
    wire::Message,
};

/// The names of a message's fields, in their order.
fn names(message: &Message) -> Vec<&str> {
    message.fields.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_1_what_is_for_one_hop_goes_no_further_to_the_origin() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    let fields = "Connection: keep-alive, X-Mine\nX-Mine: 1\nX-Other: 2\nKeep-Alive: timeout=5\nTE: trailers\n\
                  Upgrade: websocket\nProxy-Connection: keep-alive\nConnection: x-more\nX-More: 3";
    assert_eq!(stand.get("/", fields).await.status(), 200);
    let asked = stand.origin.last();
    for gone in ["connection", "x-mine", "x-more", "keep-alive", "te", "upgrade", "proxy-connection"] {
        assert!(!asked.has(gone), "{gone}: {asked:?}");
    }
    assert_eq!(asked.field("x-other"), "2");
}

#[tokio::test(start_paused = true)] // P45
async fn rfc9110_7_6_1_what_is_for_one_hop_goes_no_further_to_clients_and_is_not_stored() {
    let stand = Stand::new(|_| {
        let fields = "Cache-Control: max-age=60\nConnection: X-Mine\nX-Mine: 1\nKeep-Alive: timeout=5\n\
                      Proxy-Connection: keep-alive\nUpgrade: h2c\nX-Other: 2";
        Reply::ok(fields, "body")
    })
    .await;
    for hit in [false, true] {
        let answer = stand.get("/", "").await;
        assert_eq!((answer.is_hit(), answer.field("x-other").as_str()), (hit, "2"));
        for gone in ["connection", "x-mine", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!answer.has(gone), "{gone}: {answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn naming_the_host_as_for_one_hop_does_not_take_it_away() {
    let stand = Stand::new(|asked| Reply::ok("", &asked.field("host"))).await;
    assert_eq!(stand.get("/", "Connection: host, cookie\nCookie: a=b").await.text(), "example.test");
    assert!(!stand.origin.last().has("cookie"));
}

#[tokio::test(start_paused = true)] // P45
async fn what_the_origin_says_reaches_the_client_as_it_was_said_fresh_and_from_the_store() {
    let stand = Stand::new(|_| {
        let fields = "Date: Sun, 06 Nov 1994 08:49:37 GMT\nX-B: 1\nCache-Control: max-age=99999\nX-A: 2, 3\nX-B: 4\n\
                      X-Empty:\nServer: any\nVia: 1.0 other\nCache-Status: other; hit";
        Reply::ok(fields, "body")
    })
    .await;
    let own = ["date", "x-b", "x-b", "cache-control", "x-a", "x-empty", "server", "via"];
    for hit in [false, true] {
        let mut answer = stand.get("/", "").await;
        assert_eq!(answer.field("x-b"), "1|4");
        assert_eq!(answer.field("date"), "Sun, 06 Nov 1994 08:49:37 GMT");
        answer.fields.retain(|(name, _)| !["cache-status", "age", "content-length"].contains(&name.as_str()));
        assert_eq!(names(&answer), own, "{hit}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_6_6_1_a_date_is_added_only_where_there_is_none() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    assert!(!stand.get("/", "").await.field("date").is_empty());
}

#[tokio::test(start_paused = true)]
async fn rfc9110_2_5_an_answer_is_of_the_version_that_is_spoken_here() {
    let stand = Stand::new(|_| Reply::raw("HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nbody").close()).await;
    for hit in [false, true] {
        let answer = stand.get("/", "").await;
        assert_eq!((answer.line.as_str(), answer.text(), answer.is_hit()), ("HTTP/1.1 200 OK", "body", hit));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_3_the_origin_is_told_by_which_way_a_request_came_and_for_whom() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    stand.get("/", "").await;
    let own = stand.origin.last().field("via");
    assert!(own.starts_with("1.1 cacheback-"), "{own}");
    assert_eq!(stand.origin.last().field("x-forwarded-for"), "127.0.0.1");
    stand.get("/", "Via: 1.0 first\nX-Forwarded-For: 192.0.2.1").await;
    let asked = stand.origin.last();
    assert_eq!(asked.field("via"), format!("1.0 first|{own}"));
    assert_eq!(asked.field("x-forwarded-for"), "192.0.2.1|127.0.0.1");
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_3_what_was_here_before_is_a_508_and_goes_no_further() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    stand.get("/", "").await;
    let own = stand.origin.last().field("via");
    let name = &own["1.1 ".len()..];
    for via in [
        own.clone(),
        format!("1.0 first, 2  {}", name.to_uppercase()),
        format!("1.0 first\nVia: HTTP/1.1 {name} (by a comment) , 1.1 last"),
    ] {
        let answer = stand.get("/", &format!("Via: {via}")).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (508, "508 Loop Detected: the request was here before\n"),
            "{via}"
        );
    }
    assert_eq!(stand.origin.runs(), 1);
    // Another one of its kind, and who only looks like it.
    for via in ["1.1 cacheback-0".to_owned(), format!("1.1 {name}0"), name.to_owned(), format!("1.1 first {name}")] {
        assert_eq!(stand.get("/", &format!("Via: {via}")).await.status(), 200, "{via}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_7_6_2_what_may_be_forwarded_no_further_is_answered_here() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    stand.send("OPTIONS", "*", "Max-Forwards: 2", "").await;
    assert_eq!((stand.origin.last().field("max-forwards"), stand.origin.last().path()), ("1".into(), "*"));
    assert_eq!(stand.send("OPTIONS", "*", "Max-Forwards: 0", "").await.status(), 200);
    assert_eq!(stand.send("TRACE", "/", "Max-Forwards: 0", "").await.status(), 501);
    assert_eq!(stand.origin.runs(), 1);
    // Other methods have no such field.
    stand.get("/", "Max-Forwards: 0").await;
    assert_eq!(stand.origin.last().field("max-forwards"), "0");
}

#[tokio::test(start_paused = true)]
async fn rfc9112_3_2_the_host_is_that_of_the_target_and_else_that_of_its_field() {
    let stand = Stand::new(|asked| Reply::ok("", &format!("{} {}", asked.path(), asked.field("host")))).await;
    assert_eq!(stand.get("/a?b=c", "Host: a.test").await.text(), "/a?b=c a.test");
    assert_eq!(stand.get("http://b.test/a", "Host: a.test").await.text(), "/a b.test");
    assert_eq!(stand.get("http://b.test", "Host: a.test").await.text(), "/ b.test");
    let mut old = stand.connect().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = old.answer().await;
    assert_eq!(answer.text(), format!("/ {}", stand.origin.address));
    assert!(old.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_for_this_proxy_is_answered_in_words_and_the_origin_is_not_asked() {
    let stand = Stand::new(|_| Reply::ok("", "")).await;
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: me@a.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET http://me@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ] {
        let mut client = stand.connect().await;
        client.send(bad).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status, "{bad}");
        assert!(answer.text().contains(": ") && answer.text().ends_with('\n'), "{}", answer.text());
        assert_eq!(answer.field("cache-control"), "no-store");
    }
    assert_eq!(stand.origin.runs(), 0);
}

#[tokio::test(start_paused = true)] // P53
async fn rfc9112_7_1_chunked_content_passes_in_both_directions_and_is_stored() {
    let stand = Stand::new(|asked| {
        let body = if asked.method() == "GET" { "of a get" } else { asked.message.text() };
        let chunks = format!("3\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &body[..3], body.len() - 3, &body[3..]);
        Reply::head("200 OK", "Cache-Control: max-age=60\nTransfer-Encoding: chunked").say(chunks)
    })
    .await;
    let mut client = stand.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("4\r\nsome\r\n").await;
    client.send("3;ext=1\r\nany\r\n0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.whole), ("someany", true));
    // A GET may have content too; then it is not answered from the store.
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "of a get");
    assert_eq!(stand.origin.last().message.text(), "x");
    for hit in [false, true] {
        let answer = stand.get("/", "").await;
        assert_eq!((answer.text(), answer.whole, answer.is_hit()), ("of a get", true, hit));
    }
}

#[tokio::test(start_paused = true)] // P53
async fn rfc9112_6_3_a_length_beside_chunks_goes_no_further() {
    for (length, first) in [(4, "length"), (40, "length"), (4, "coding"), (40, "coding")] {
        let stand = Stand::new(move |asked| {
            let (length, coding) = (format!("Content-Length: {length}"), "Transfer-Encoding: chunked");
            let framing = if first == "length" { format!("{length}\n{coding}") } else { format!("{coding}\n{length}") };
            let stored = if asked.path() == "/stored" { "Cache-Control: max-age=60\n" } else { "" };
            let head = Reply::head("200 OK", &format!("{stored}{framing}"));
            if asked.method() == "HEAD" { head } else { head.say("a\r\n0123456789\r\n0\r\n\r\n") }
        })
        .await;
        assert!(!stand.send("HEAD", "/", "", "").await.has("content-length"), "{length} {first}");
        for (path, hit) in [("/passed", false), ("/stored", false), ("/stored", true)] {
            let answer = stand.get(path, "").await;
            assert_eq!((answer.text(), answer.whole, answer.is_hit()), ("0123456789", true, hit), "{length} {first}");
        }
    }
}

#[tokio::test(start_paused = true)] // P53
async fn rfc9110_6_5_trailers_pass_and_are_stored() {
    let stand = Stand::new(|_| {
        let fields = "Cache-Control: max-age=60\nTransfer-Encoding: chunked\nTrailer: X-Sum";
        Reply::head("200 OK", fields).say("4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n")
    })
    .await;
    for hit in [false, true] {
        let answer = stand.get("/", "TE: trailers\nConnection: TE").await;
        assert_eq!((answer.text(), answer.is_hit()), ("body", hit), "{answer:?}");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "42".to_owned())], "{hit} {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_10_1_1_who_expects_to_be_told_to_go_on_is_told_so() {
    // The origin says it too; the client is told once.
    let stand = Stand::new(|asked| Reply::head("100 Continue", "").then_all(Reply::ok("", asked.message.text()))).await;
    let mut client = stand.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.answer().await.text(), "body");
}

#[tokio::test(start_paused = true)] // P52
async fn what_the_origin_says_first_reaches_the_client_before_the_rest_is_said() {
    let gate = Gate::new();
    let rest = gate.clone();
    let stand = Stand::new(move |asked| {
        let fields = if asked.path() == "/stored" { "Cache-Control: max-age=60" } else { "" };
        Reply::head("200 OK", &format!("Content-Length: 8\n{fields}")).say("body").wait(&rest).say("rest")
    })
    .await;
    for path in ["/stored", "/passed"] {
        let mut client = stand.connect().await;
        client.send(request("GET", path, "", "")).await;
        let (_, body) = client.begin_answer(4).await;
        assert_eq!(body, b"body");
    }
    gate.open();
}

#[tokio::test(start_paused = true)] // P52
async fn what_the_client_says_first_reaches_the_origin_before_the_rest_is_said() {
    let stand = Stand::new(|asked| Reply::ok("", asked.message.text())).await;
    let mut client = stand.connect().await;
    client.send(request("POST", "/", "Content-Length: 8", "")).await;
    client.send("body").await;
    // The origin has a connection although the request is not whole.
    stand.origin.connected(1).await;
    client.send("rest").await;
    assert_eq!(client.answer().await.text(), "bodyrest");
}

#[tokio::test(start_paused = true)] // P53
async fn a_big_body_passes_whole_and_is_stored_up_to_the_cap() {
    let stand = Stand::with(
        |options| options.body_cap = Some(1 << 16),
        |asked| {
            let length = asked.path()[1..].parse().expect("the path is a length");
            Reply::ok("Cache-Control: max-age=60", &"b".repeat(length))
        },
    )
    .await;
    for (length, stored) in [(1 << 16, true), ((1 << 16) + 1, false), (8 << 20, false)] {
        for second in [false, true] {
            let answer = stand.get(&format!("/{length}"), "").await;
            assert_eq!((answer.body.len(), answer.whole), (length, true));
            assert!(answer.body.iter().all(|byte| *byte == b'b'));
            assert_eq!(answer.is_hit(), stored && second, "{length}");
        }
    }
    let big = "b".repeat(4 << 20);
    stand.send("POST", "/0", "", &big).await;
    assert_eq!(stand.origin.last().message.body.len(), big.len());
}
