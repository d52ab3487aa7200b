//! What is stored, how long it is given out, what is asked anew, and who gets it.

use crate::{
    clock::in_time,
    origin::{Gate, Reply},
    stand::{Stand, request},
};

#[tokio::test(start_paused = true)] // P1, P4, P45
async fn rfc9111_4_what_is_fresh_is_given_out_with_its_age_and_the_origin_is_not_asked() {
    let stand = Stand::new(|asked| Reply::ok("Cache-Control: max-age=60", &asked.number.to_string())).await;
    let first = stand.get("/", "").await;
    assert_eq!((first.status(), first.text(), first.has("age")), (200, "1", false), "{first:?}");
    assert_eq!(first.said(), "fwd=uri-miss; fwd-status=200; stored");
    stand.pass(59).await;
    let second = stand.get("/", "").await;
    assert_eq!((second.text(), second.field("age").as_str(), second.said().as_str()), ("1", "59", "hit; ttl=1"));
    assert_eq!(second.field("date"), first.field("date"));
    stand.pass(1).await;
    assert_eq!(stand.get("/", "").await.text(), "2");
    assert_eq!(stand.origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_nothing_is_stored_that_does_not_say_how_long_it_lives() {
    let stand = Stand::new(|asked| Reply::ok("", &asked.number.to_string())).await;
    assert_eq!(stand.get("/", "").await.text(), "1");
    assert_eq!(stand.get("/", "").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P41
async fn rfc9111_3_an_error_that_says_how_long_it_lives_is_stored() {
    let stand = Stand::new(|asked| Reply::of("404 Not Found", "Cache-Control: max-age=9", &asked.number.to_string()));
    let stand = stand.await;
    assert_eq!(stand.get("/", "").await.text(), "1");
    let second = stand.get("/", "").await;
    assert_eq!((second.status(), second.text(), second.is_hit()), (404, "1", true));
}

#[tokio::test(start_paused = true)] // P5
async fn rfc5861_3_what_is_stale_is_given_out_at_once_and_refreshed_behind_its_reader() {
    let gate = Gate::new();
    let refresh = gate.clone();
    let stand = Stand::new(move |asked| {
        let answer = Reply::ok("Cache-Control: max-age=1, stale-while-revalidate=60", &asked.number.to_string());
        if asked.number == 1 { answer } else { Reply::default().wait(&refresh).then_all(answer) }
    })
    .await;
    stand.get("/", "").await;
    stand.pass(2).await;
    let mut reader = stand.connect().await;
    for _ in 0..2 {
        // The origin says nothing: neither this reader waits for it, nor the next on this connection.
        reader.send(request("GET", "/", "", "")).await;
        let stale = reader.answer().await;
        assert_eq!((stale.text(), stale.field("age").as_str(), stale.said().as_str()), ("1", "2", "hit; ttl=-1"));
    }
    stand.origin.begun(2).await;
    gate.open();
    in_time(stand.cache.settled()).await;
    let new = stand.get("/", "").await;
    assert_eq!((new.text(), new.is_hit(), stand.origin.runs()), ("2", true, 2));
}

#[tokio::test(start_paused = true)] // P6
async fn rfc5861_4_a_stale_response_stands_in_for_an_origin_that_is_gone_as_long_as_it_says() {
    let mut stand = Stand::new(|_| Reply::ok("Cache-Control: max-age=1, stale-if-error=60", "old")).await;
    stand.get("/", "").await;
    stand.origin.kill().await;
    stand.pass(30).await;
    let stale = stand.get("/", "").await;
    assert_eq!((stale.status(), stale.text(), stale.field("age").as_str()), (200, "old", "30"), "{stale:?}");
    assert!(stale.said().contains("detail=stale-if-error"), "{}", stale.said());
    stand.pass(60).await;
    assert_eq!(stand.get("/", "").await.status(), 502);
}

#[tokio::test(start_paused = true)] // P6
async fn rfc5861_4_a_stale_response_stands_in_for_an_error_and_for_an_origin_that_is_late() {
    let gate = Gate::new();
    let hung = gate.clone();
    let stand = Stand::new(move |asked| match (asked.number, asked.path()) {
        (1 | 2, _) => Reply::ok("Cache-Control: max-age=1, stale-if-error=600", "old"),
        (_, "/error") => Reply::of("503 Service Unavailable", "", "sorry"),
        _ => Reply::default().wait(&hung),
    })
    .await;
    stand.get("/error", "").await;
    stand.get("/late", "").await;
    stand.pass(10).await;
    assert_eq!(stand.get("/error", "").await.text(), "old");
    let mut reader = stand.connect().await;
    reader.send(request("GET", "/late", "", "")).await;
    stand.origin.begun(4).await;
    stand.pass(60).await;
    assert_eq!(reader.answer().await.text(), "old");
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_4_2_4_what_must_be_revalidated_is_not_given_out_stale_though_the_origin_is_gone() {
    let fields = "Cache-Control: max-age=1, must-revalidate, stale-if-error=60";
    let mut stand = Stand::new(move |_| Reply::ok(fields, "old")).await;
    assert_eq!(stand.get("/", "").await.text(), "old");
    stand.origin.kill().await;
    assert_eq!(stand.get("/", "").await.text(), "old");
    stand.pass(2).await;
    assert_eq!(stand.get("/", "").await.status(), 502);
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9111_4_3_what_is_stale_is_validated_and_a_304_brings_its_fields_up_to_date() {
    let stand = Stand::new(|asked| match asked.field("if-none-match").as_str() {
        "\"a\"" => Reply::head("304 Not Modified", "ETag: \"a\"\nCache-Control: max-age=100\nX-Said: anew"),
        _ => Reply::ok("ETag: \"a\"\nCache-Control: max-age=1\nX-Said: first\nX-Kept: kept", "body"),
    })
    .await;
    stand.get("/", "").await;
    stand.pass(5).await;
    let validated = stand.get("/", "").await;
    assert_eq!((validated.status(), validated.text()), (200, "body"));
    assert_eq!((validated.field("x-said").as_str(), validated.field("x-kept").as_str()), ("anew", "kept"));
    stand.pass(50).await;
    let hit = stand.get("/", "").await;
    assert_eq!((hit.text(), hit.said().as_str(), hit.field("x-said").as_str()), ("body", "hit; ttl=50", "anew"));
    assert_eq!(stand.origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P46
async fn rfc9110_13_a_client_that_has_it_already_is_told_so_and_the_origin_sees_no_condition_of_its() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let stand = Stand::new(move |_| {
        Reply::ok(&format!("ETag: \"a\"\nLast-Modified: {date}\nCache-Control: max-age=60"), "body")
    })
    .await;
    let miss = stand.get("/", "If-None-Match: \"a\"").await;
    assert_eq!((miss.status(), miss.body.len(), miss.field("etag").as_str()), (304, 0, "\"a\""));
    assert!(!stand.origin.last().has("if-none-match"));
    for condition in ["If-None-Match: W/\"a\"", "If-None-Match: \"b\", \"a\"", &format!("If-Modified-Since: {date}")] {
        let hit = stand.get("/", condition).await;
        assert_eq!((hit.status(), hit.body.len(), hit.is_hit()), (304, 0, true), "{condition}");
    }
    let other = stand.get("/", "If-None-Match: \"b\"").await;
    assert_eq!((other.status(), other.text()), (200, "body"));
    assert_eq!(stand.origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P40
async fn rfc9110_9_3_2_a_head_is_answered_from_what_a_get_stored_and_stores_nothing() {
    let stand = Stand::new(|asked| match asked.method() {
        "HEAD" => Reply::head("200 OK", "Cache-Control: max-age=60\nContent-Length: 9"),
        _ => Reply::ok("Cache-Control: max-age=60", "body"),
    })
    .await;
    let mut client = stand.connect().await;
    client.send(request("HEAD", "/", "", "")).await;
    assert_eq!(client.answer_to("HEAD").await.field("content-length"), "9");
    client.send(request("GET", "/", "", "")).await;
    assert_eq!(client.answer().await.text(), "body");
    client.send(request("HEAD", "/", "", "")).await;
    let head = client.answer_to("HEAD").await;
    assert_eq!((head.field("content-length").as_str(), head.is_hit()), ("4", true));
    // Nothing of a body came after it: the next answer begins where it should.
    client.send(request("GET", "/", "", "")).await;
    assert_eq!((client.answer().await.text(), stand.origin.runs()), ("body", 2));
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_each_variant_goes_to_those_whose_request_selects_it() {
    let stand = Stand::new(|asked| {
        Reply::ok("Cache-Control: max-age=60\nVary: Accept-Language", &asked.field("accept-language"))
    })
    .await;
    for language in ["de", "fr", "de", "fr"] {
        assert_eq!(stand.get("/", &format!("Accept-Language: {language}")).await.text(), language);
    }
    assert_eq!(stand.get("/", "").await.text(), "");
    assert_eq!(stand.origin.runs(), 3);
}

#[tokio::test(start_paused = true)] // P15, P42
async fn rfc9111_5_2_2_what_is_for_one_client_is_given_to_no_other() {
    for fields in [
        "Cache-Control: private, max-age=60",
        "Cache-Control: no-store, max-age=60",
        "Cache-Control: max-age=60\nSet-Cookie: id=1",
        "Cache-Control: max-age=60\nVary: *",
    ] {
        let stand = Stand::new(move |asked| Reply::ok(fields, &asked.number.to_string())).await;
        let first = stand.get("/", "").await;
        assert_eq!((first.text(), first.field("set-cookie").is_empty()), ("1", !fields.contains("Set-Cookie")));
        assert_eq!(stand.get("/", "").await.text(), "2", "{fields}");
    }
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_5_the_answer_to_a_credential_is_shared_only_where_it_says_that_it_may_be() {
    for (fields, runs) in [("max-age=60", 2), ("max-age=60, public", 1), ("s-maxage=60", 1)] {
        let stand = Stand::new(move |_| Reply::ok(&format!("Cache-Control: {fields}"), "body")).await;
        for _ in 0..2 {
            stand.get("/", "Authorization: Basic YTpi").await;
        }
        assert_eq!(stand.origin.runs(), runs, "{fields}");
        assert_eq!(stand.origin.last().field("authorization"), "Basic YTpi");
    }
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_a_post_that_succeeds_invalidates_its_uri_and_where_it_says_the_new_one_is() {
    let stand = Stand::new(|asked| match (asked.method(), asked.field("x-fail").as_str()) {
        ("GET", _) => Reply::ok("Cache-Control: max-age=60", &asked.number.to_string()),
        (_, "") => Reply::of("201 Created", "Location: /new", ""),
        _ => Reply::of("400 Bad Request", "", ""),
    })
    .await;
    for path in ["/", "/new", "/other"] {
        stand.get(path, "").await;
    }
    stand.send("POST", "/", "X-Fail: yes", "content").await;
    assert!(stand.get("/", "").await.is_hit());
    assert_eq!(stand.send("POST", "/", "", "content").await.status(), 201);
    assert_eq!(stand.origin.last().message.text(), "content");
    for (path, hit) in [("/", false), ("/new", false), ("/other", true)] {
        assert_eq!(stand.get(path, "").await.is_hit(), hit, "{path}");
    }
}

#[tokio::test(start_paused = true)] // P60, P62
async fn rfc9110_7_1_each_host_has_its_own_responses_however_it_is_spelt() {
    let stand = Stand::new(|asked| Reply::ok("Cache-Control: max-age=60", &asked.field("host"))).await;
    for (host, text) in [("a.test", "a.test"), ("b.test", "b.test"), ("A.test:80", "a.test")] {
        assert_eq!(stand.get("/", &format!("Host: {host}")).await.text(), text);
    }
    assert_eq!(stand.origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P10, P16
async fn many_who_ask_at_one_time_cause_one_request_and_hear_of_its_failure_together() {
    let whole = Reply::ok("Cache-Control: max-age=60", "body");
    for (answer, status) in [(whole, 200), (Reply::none(), 502)] {
        let gate = Gate::new();
        let answering = gate.clone();
        let stand = Stand::new(move |_| Reply::default().wait(&answering).then_all(answer.clone())).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = stand.connect().await;
            client.send(request("GET", "/", "", "")).await;
            clients.push(client);
        }
        stand.origin.begun(1).await;
        stand.quiet().await;
        gate.open();
        let mut collapsed = 0;
        for mut client in clients {
            let answer = client.answer().await;
            assert_eq!(answer.status(), status);
            collapsed += usize::from(answer.said().contains("collapsed"));
        }
        assert_eq!((collapsed, stand.origin.runs()), (if status == 200 { 19 } else { 0 }, 1), "{status}");
    }
}
