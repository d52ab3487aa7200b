//! Which answers are stored, and what a failing status does: in the head, and in the trailers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cacheback::{CachebackLayer, Detail, Freshness, NoStore, Outcome, Tags, grpc};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tonic::{Code, Response, Status};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    clock::in_time,
    quotes::Quote,
    stand::{GET, Origin, Reply, Stand, WATCH, a_minute, cents, minute, pass, quote, secs, wanted},
    support::net::{Scripted, infallible, scripted},
};

const FAILURES: [Code; 9] = [
    Code::Cancelled,
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::ResourceExhausted,
    Code::Aborted,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
];

const ANSWERS: [Code; 7] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unauthenticated,
];

#[tokio::test(start_paused = true)] // P22, P80
async fn a_failing_status_on_refresh_keeps_the_stale_answer() {
    for code in FAILURES {
        let origin = Origin::failing_later(code);
        let stand = Stand::new(&minute(), &origin).await;
        stand.get("ACME").await;
        pass(61).await;
        stand.get("ACME").await;
        assert_eq!(stand.get("ACME").await.told(), (1, "hit; ttl=-1; detail=back-off"), "{code:?}");
        assert_eq!(origin.runs(), 2, "{code:?}");
    }
}

#[tokio::test(start_paused = true)] // P23, P80
async fn a_status_that_says_something_of_what_was_asked_takes_its_place_by_removing_it() {
    for code in ANSWERS {
        let origin = Origin::failing_later(code);
        let stand = Stand::new(&minute(), &origin).await;
        stand.get("ACME").await;
        pass(61).await;
        assert_eq!(stand.get("ACME").await.quote.cents, 1);
        for run in 3..=4 {
            assert_eq!(stand.ask("ACME", &[]).await.unwrap_err().code(), code);
            assert_eq!(origin.runs(), run, "{code:?} is not stored");
        }
    }
}

#[tokio::test(start_paused = true)] // P15, P80
async fn an_error_goes_to_those_who_wait_and_is_not_stored_and_what_is_about_a_caller_goes_to_him() {
    for (code, shared) in [(Code::NotFound, true), (Code::Unavailable, true), (Code::Unauthenticated, false)] {
        let origin = Origin::new(move |_| Err(Status::new(code, "in words")));
        let stand = Stand::new(&minute(), &origin).await;
        origin.only_the_first(0);
        let calls: Vec<_> = (0..3).map(|_| stand.spawn(wanted("ACME", &[]))).collect();
        origin.begun(1).await;
        crate::stand::quiet().await;
        origin.release();
        for call in calls {
            let error = in_time(call).await.unwrap().unwrap_err();
            assert_eq!((error.code(), error.message()), (code, "in words"));
            assert!(crate::stand::said(error.metadata().as_ref()).starts_with("fwd="), "{error:?}");
            assert!(error.metadata().get("content-length").is_none(), "{error:?}");
        }
        assert_eq!(origin.runs(), if shared { 1 } else { 3 }, "{code:?}");
        stand.ask("ACME", &[]).await.unwrap_err();
        assert_eq!(origin.runs(), if shared { 2 } else { 4 }, "{code:?}");
    }
}

/// Asks a method that answers by a stream, for all of it.
async fn watch(stand: &Stand) -> (String, Vec<u64>, Option<Code>) {
    let answer = in_time(stand.client.clone().watch(wanted("ACME", &[]))).await.unwrap();
    let said = crate::stand::said(answer.metadata().as_ref());
    let (mut stream, mut quotes) = (answer.into_inner(), Vec::new());
    let end = loop {
        match in_time(stream.message()).await {
            Ok(Some(quote)) => quotes.push(quote.cents),
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    in_time(stand.cache.settled()).await;
    (said, quotes, end)
}

#[tokio::test(start_paused = true)] // P22, P80
async fn a_status_in_the_trailers_counts_as_one_in_the_head() {
    for (code, kept) in FAILURES.map(|code| (code, true)).into_iter().chain(ANSWERS.map(|code| (code, false))) {
        let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
        let (origin, layer) = (Origin::counting(), CachebackLayer::grpc().method(WATCH, freshness));
        let stand = Stand::new(&layer, &origin).await;
        origin.stream().send(Ok(cents(1))).unwrap();
        assert_eq!(watch(&stand).await, ("fwd=uri-miss; fwd-status=200; stored".into(), vec![1], None));
        assert_eq!(watch(&stand).await, ("hit; ttl=60".into(), vec![1], None));
        pass(61).await;
        let next = origin.stream();
        next.send(Ok(cents(2))).unwrap();
        next.send(Err(Status::new(code, "half-way"))).unwrap();
        drop(next);
        let (said, quotes, end) = watch(&stand).await;
        if kept {
            // Nobody saw anything of it.
            assert_eq!(said, "fwd=stale; fwd-status=200; ttl=-1; detail=stale-if-error", "{code:?}");
            assert_eq!((quotes, end), (vec![1], None));
            assert_eq!(watch(&stand).await.1, [1], "back-off: {code:?}");
        } else {
            assert_eq!((&quotes[..], end), (&[2][..], Some(code)), "{said}");
            assert!(!said.contains("stored"), "{said}");
            origin.stream().send(Ok(cents(3))).unwrap();
            assert_eq!(watch(&stand).await.1, [3], "{code:?} removed it");
        }
    }
}

#[tokio::test(start_paused = true)] // P6, P22, P80
async fn an_answer_that_fails_after_its_message_is_nobodys_where_something_can_stand_in() {
    for (end, stands_in) in [("status", true), ("break", true), ("not found", false), ("well", false)] {
        let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
        let layer = CachebackLayer::grpc().method(GET, freshness);
        let scripts = Arc::new(Mutex::new(Vec::new()));
        let service = layer.layer(service_fn({
            let scripts = Arc::clone(&scripts);
            move |_| {
                let (script, body) = scripted();
                script.data(grpc::frame(b"m"));
                scripts.lock().unwrap().push(script);
                let mut answer = http::Response::new(body);
                answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                async move { Ok::<_, std::convert::Infallible>(answer) }
            }
        }));
        let status = |code| HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))]);
        let ask = || tokio::spawn(service.clone().oneshot(grpc::call(GET, b"m").unwrap()));
        let first = ask().await.unwrap().unwrap();
        let mut script = scripts.lock().unwrap().remove(0);
        script.trailers(status("0"));
        script.end();
        first.into_body().collect().await.unwrap();
        layer.cache().settled().await;
        pass(61).await;

        let second = ask();
        crate::support::net::quiet().await;
        assert!(!second.is_finished(), "its head is like any other's");
        let mut script = scripts.lock().unwrap().remove(0);
        match end {
            "status" => script.trailers(status("14")),
            "break" => script.fail(),
            "not found" => script.trailers(status("5")),
            _ => script.trailers(status("0")),
        };
        script.end();
        let answer = in_time(second).await.unwrap().unwrap();
        let outcome: Outcome = *answer.extensions().get().unwrap();
        assert_eq!(outcome.detail() == Some(Detail::StaleIfError), stands_in, "{end}: {outcome}");
        assert_eq!(outcome.is_stored(), end == "well", "{end}: {outcome}");
        let read = answer.into_body().collect().await.unwrap();
        let expected = if end == "not found" { "5" } else { "0" };
        assert_eq!(read.trailers().unwrap()["grpc-status"], expected, "{end}");
    }
}

#[tokio::test(start_paused = true)] // P22, P80
async fn a_failure_in_the_trailers_is_stored_nowhere_when_nothing_was_stored_before() {
    let (origin, layer) = (Origin::counting(), CachebackLayer::grpc().method(WATCH, a_minute()));
    let stand = Stand::new(&layer, &origin).await;
    for run in 1..=2 {
        let next = origin.stream();
        next.send(Ok(cents(run))).unwrap();
        next.send(Err(Status::unavailable("half-way"))).unwrap();
        drop(next);
        let (_, quotes, end) = watch(&stand).await;
        assert_eq!((quotes, end), (vec![run], Some(Code::Unavailable)));
    }
    assert_eq!(stand.cache.stats().stored, 0);
}

#[tokio::test(start_paused = true)] // P80
async fn an_answer_without_a_message_or_with_more_than_one_is_not_stored() {
    for quotes in [&[][..], &[1, 2]] {
        let (origin, layer) = (Origin::counting(), CachebackLayer::grpc().method(WATCH, a_minute()));
        let stand = Stand::new(&layer, &origin).await;
        for _ in 0..2 {
            let next = origin.stream();
            quotes.iter().for_each(|quote| next.send(Ok(cents(*quote))).unwrap());
            drop(next);
            let (said, got, end) = watch(&stand).await;
            assert_eq!((&got[..], end), (quotes, None), "{said}");
        }
        assert_eq!((origin.runs(), stand.cache.stats().stored), (2, 0));
    }
}

#[tokio::test(start_paused = true)] // P80
async fn what_metadata_forbids_is_forbidden_and_what_it_grants_counts_for_nothing() {
    for (name, value, stored) in [
        ("cache-control", "no-store", false),
        ("cache-control", "private", false),
        ("cache-control", "no-cache", false),
        ("cache-control", "private=\"x-mine\"", false),
        ("set-cookie", "a=b", false),
        ("cache-control", "max-age=0", true),
        ("cache-control", "max-age=86400", true),
        ("expires", "0", true),
        ("vary", "*", true),
    ] {
        let origin = Origin::new(move |seen| {
            let mut answer = Response::new(quote(seen));
            answer.metadata_mut().insert(name, value.parse().unwrap());
            Ok(answer)
        });
        let stand = Stand::new(&minute(), &origin).await;
        stand.get("ACME").await;
        let reply = stand.get("ACME").await;
        assert_eq!(reply.said == "hit; ttl=60", stored, "{name}: {value}: {}", reply.said);
    }
}

#[tokio::test(start_paused = true)] // P42, P80
async fn what_must_be_revalidated_is_never_served_stale() {
    for directive in ["must-revalidate", "proxy-revalidate"] {
        let origin = Origin::new(move |seen| {
            let mut answer = Response::new(quote(seen));
            answer.metadata_mut().insert("cache-control", directive.parse().unwrap());
            answer.extensions_mut().insert(a_minute());
            Ok(answer)
        });
        let stand = Stand::new(&minute(), &origin).await;
        stand.get("ACME").await;
        assert_eq!(stand.get("ACME").await.told(), (1, "hit; ttl=60"));
        pass(61).await;
        assert_eq!(stand.get("ACME").await.quote.cents, 2, "{directive}");
    }
}

#[tokio::test(start_paused = true)] // P15, P80
async fn an_error_switches_collapsing_off_for_nobody_whatever_else_it_says() {
    for (code, told) in [
        (Code::NotFound, "fwd=uri-miss; fwd-status=200; stored"),
        (Code::Unavailable, "fwd=uri-miss; fwd-status=200; stored"),
        (Code::Ok, "fwd=uri-miss; fwd-status=200; stored; detail=hit-for-miss"),
    ] {
        let origin = Origin::new(move |seen| {
            let mut answer = Response::new(quote(seen));
            let mut status = Status::new(code, "in words");
            for metadata in [answer.metadata_mut(), status.metadata_mut()] {
                metadata.insert("cache-control", "no-store".parse().unwrap());
            }
            match (seen.run, code) {
                (1, Code::Ok) => Ok(answer),
                (1, _) => Err(status),
                _ => Ok(Response::new(quote(seen))),
            }
        });
        let stand = Stand::new(&minute(), &origin).await;
        let _error = stand.ask("ACME", &[]).await;
        assert_eq!(stand.get("ACME").await.told(), (2, told), "{code:?}");
    }
}

#[tokio::test(start_paused = true)] // P54, P56, P80
async fn what_a_service_says_beside_its_answer_counts_and_what_is_of_one_exchange_is_not_stored() {
    let origin = Origin::new(|seen| {
        let mut answer = Response::new(quote(seen));
        answer.metadata_mut().insert("x-request-id", "7".parse().unwrap());
        match &*seen.share {
            "never" => drop(answer.extensions_mut().insert(NoStore)),
            "short" => drop(answer.extensions_mut().insert(Freshness::exact(secs(5)))),
            _ => drop(answer.extensions_mut().insert(Tags::new(["prices"]))),
        }
        Ok(answer)
    });
    let stand = Stand::new(&minute(), &origin).await;
    for (share, second) in [
        ("never", (2, "fwd=uri-miss; fwd-status=200; detail=handler")),
        ("short", (3, "hit; ttl=5")),
        ("tagged", (4, "hit; ttl=60")),
    ] {
        assert_eq!(stand.get(share).await.field("x-request-id"), Some("7"));
        let reply = stand.get(share).await;
        assert_eq!(reply.told(), second);
        assert_eq!(reply.field("x-request-id").is_none(), reply.said.starts_with("hit"));
    }
    assert_eq!(stand.cache.expire_tag("prices").await.unwrap().entries, 1);
    assert_eq!(stand.get("tagged").await.told().1, "hit; ttl=-1");
}

#[tokio::test(start_paused = true)] // P53, P80
async fn an_answer_over_the_cap_streams_past() {
    let origin = Origin::new(|seen| {
        Ok(Response::new(Quote {
            share: seen.share.clone(),
            cents: seen.run,
            note: "x".repeat(seen.share.len() * 1_000),
        }))
    });
    let stand = Stand::new(&minute().body_cap(64_000), &origin).await;
    let (small, large) = ("x".repeat(60), "x".repeat(600));
    for (share, runs) in [(&small, 1), (&small, 1), (&large, 2), (&large, 3)] {
        assert_eq!(stand.get(share).await.quote.note.len(), share.len() * 1_000);
        assert_eq!(origin.runs(), runs);
    }
}

#[tokio::test(start_paused = true)] // P22, P23, P80
async fn what_clients_take_for_a_failure_by_its_head_keeps_the_stale_answer() {
    let grpc_with = |status: &'static str| vec![("content-type", "application/grpc"), ("grpc-status", status)];
    for (status, head, kept) in [
        (503, vec![], true),
        (404, vec![], true),
        (408, vec![("content-type", "text/plain")], true),
        (302, vec![("location", "/elsewhere")], true),
        (200, vec![("content-type", "text/html")], true),
        (404, vec![("content-type", "application/grpc")], true),
        (401, vec![], false),
        (403, vec![], false),
        (404, grpc_with("5"), false),
        (200, grpc_with("14"), true),
        (200, [grpc_with("14"), vec![("cache-control", "no-store")]].concat(), true),
        (503, vec![("cache-control", "no-store")], true),
        (200, [grpc_with("5"), vec![("cache-control", "no-store")]].concat(), false),
    ] {
        let (layer, runs) = (minute(), Arc::new(Mutex::new(0)));
        let service = layer.layer(service_fn({
            let head = head.clone();
            move |_| {
                let mut runs = runs.lock().unwrap();
                *runs += 1;
                let mut answer = grpc::answer(b"fine");
                if *runs > 1 {
                    answer = http::Response::new(grpc::Whole::default());
                    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                    let fields = head.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                    answer.headers_mut().extend(fields.collect::<HeaderMap>());
                }
                std::future::ready(Ok::<_, std::convert::Infallible>(answer))
            }
        }));
        let ask = async || {
            let answer = infallible(service.clone().oneshot(grpc::call(GET, b"m").unwrap()).await);
            in_time(layer.cache().settled()).await;
            answer.extensions().get::<Outcome>().unwrap().to_string()
        };
        ask().await;
        pass(61).await;
        assert_eq!(ask().await, "hit; ttl=-1", "{status} {head:?}");
        let said = ask().await;
        assert_eq!(said == "hit; ttl=-1; detail=back-off", kept, "{status} {head:?}: {said}");
    }
}

/// Answers with this head and body, whatever it is asked, and counts.
fn by_hand(
    layer: &CachebackLayer<cacheback::Grpc>,
    head: &'static [(&'static str, &'static str)],
    status: u16,
    body: impl Fn() -> Scripted + Clone + Send + 'static,
) -> impl AsyncFn() -> (Outcome, Result<(Bytes, Option<HeaderMap>), crate::support::net::Broken>) {
    let service = layer.layer(service_fn(move |_| {
        let mut answer = http::Response::new(body());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in head {
            answer.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        async move { Ok::<_, std::convert::Infallible>(answer) }
    }));
    async move || {
        let answer = infallible(service.clone().oneshot(grpc::call(GET, b"m").unwrap()).await);
        let outcome = *answer.extensions().get().unwrap();
        let read = in_time(answer.into_body().collect()).await;
        (outcome, read.map(|read| (read.trailers().cloned(), read.to_bytes())).map(|(trailers, body)| (body, trailers)))
    }
}

#[tokio::test(start_paused = true)] // P53, P80
async fn a_body_that_breaks_off_is_handed_on_as_it_is_and_not_stored() {
    // Each ends before its trailers: by an error, in the middle of its message, after it.
    for (bytes, fails) in
        [(&[0, 0, 0, 0, 2, 7, 7][..], true), (&[0, 0, 0, 0, 2, 7], false), (&[0, 0, 0, 0, 1, 7], false)]
    {
        let layer = minute();
        let ask = by_hand(&layer, &[("content-type", "application/grpc")], 200, move || {
            let (mut script, body) = scripted();
            script.data(Bytes::from_static(bytes));
            if fails {
                script.fail();
            } else {
                script.end();
            }
            body
        });
        for _ in 0..2 {
            let (outcome, read) = ask().await;
            assert!(!outcome.is_stored(), "{outcome}");
            match read {
                Ok((body, trailers)) => assert!(!fails && body == bytes && trailers.is_none()),
                Err(_) => assert!(fails),
            }
        }
        assert_eq!(layer.cache().stats().stored, 0);
    }
}

#[tokio::test(start_paused = true)] // P53, P80
async fn half_a_message_is_not_stored_whatever_its_status_says() {
    for bytes in [&[0, 0, 0][..], &[0, 0, 0, 0, 2], &[0, 0, 0, 0, 2, 7]] {
        let layer = minute();
        let ask = by_hand(&layer, &[("content-type", "application/grpc")], 200, move || {
            let (mut script, body) = scripted();
            script.data(Bytes::from_static(bytes));
            script.trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]));
            script.end();
            body
        });
        for _ in 0..2 {
            let (outcome, read) = ask().await;
            assert!(!outcome.is_stored() && read.unwrap().0 == bytes, "{outcome}");
        }
        assert_eq!(layer.cache().stats().stored, 0);
    }
}

#[tokio::test(start_paused = true)] // P80
async fn a_message_of_which_no_client_knows_how_to_read_it_is_not_stored() {
    type Head = &'static [(&'static str, &'static str)];
    let plain: Head = &[("content-type", "application/grpc")];
    let coded: Head = &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
    for (head, flag, stored) in
        [(plain, 0, true), (plain, 1, false), (plain, 2, false), (coded, 1, true), (coded, 2, false)]
    {
        let layer = minute();
        let ask = by_hand(&layer, head, 200, move || {
            let (script, body) = scripted();
            script.data(Bytes::copy_from_slice(&[flag, 0, 0, 0, 1, 7]));
            script.trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]));
            body
        });
        assert_eq!(ask().await.1.unwrap().0[..], [flag, 0, 0, 0, 1, 7]);
        layer.cache().settled().await;
        assert_eq!(layer.cache().stats().stored, u64::from(stored), "{flag} {head:?}");
    }
}

#[tokio::test(start_paused = true)] // P15, P53, P80
async fn an_answer_that_says_of_itself_that_it_is_over_the_cap_is_let_go_at_its_first_bytes() {
    let layer = minute().body_cap(64);
    let (script, body) = scripted();
    script.data(Bytes::from_static(&[0, 0, 0, 0, 65, 7]));
    let bodies = Arc::new(Mutex::new(vec![body]));
    let ask = by_hand(&layer, &[("content-type", "application/grpc")], 200, move || bodies.lock().unwrap().remove(0));
    // The rest of it never comes, and the clock stands still.
    let first = ask();
    assert!(tokio::time::timeout(secs(1), first).await.is_err());
    assert_eq!(layer.cache().stats().refused_for(Detail::TooLarge), 1);
    drop(script);
}

#[tokio::test(start_paused = true)] // P80
async fn what_is_no_answer_of_grpc_is_not_stored() {
    let cases: [(&'static [(&str, &str)], u16); 6] = [
        (&[("content-type", "text/html")], 200),
        (&[], 200),
        (&[("content-type", "application/grpc-web")], 200),
        (&[("content-type", "application/grpc")], 503),
        (&[("content-type", "application/grpc")], 403),
        (&[("content-type", "application/grpc"), ("grpc-status", "0")], 200),
    ];
    for (head, status) in cases {
        let layer = minute();
        let ask = by_hand(&layer, head, status, || {
            let (script, body) = scripted();
            script.data(Bytes::from_static(&[0, 0, 0, 0, 1, 7]));
            script.trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]));
            body
        });
        for _ in 0..2 {
            let (outcome, read) = ask().await;
            assert!(!outcome.is_stored() && outcome.forward_status() == Some(status), "{head:?} {status}: {outcome}");
            assert_eq!(read.unwrap().0[..], [0, 0, 0, 0, 1, 7]);
        }
        assert_eq!(layer.cache().stats().stored, 0, "{head:?} {status}");
    }
}

#[tokio::test(start_paused = true)] // P80
async fn what_some_clients_would_not_take_for_a_good_status_is_not_stored() {
    for statuses in [&["00"][..], &["+0"], &["0 "], &["0", "14"], &["14", "0"], &["0", "0"]] {
        let layer = minute();
        let ask = by_hand(&layer, &[("content-type", "application/grpc")], 200, move || {
            let (script, body) = scripted();
            script.data(Bytes::from_static(&[0, 0, 0, 0, 1, 7]));
            let mut trailers = HeaderMap::new();
            statuses.iter().for_each(|status| _ = trailers.append("grpc-status", HeaderValue::from_static(status)));
            script.trailers(trailers);
            body
        });
        for _ in 0..2 {
            let (outcome, read) = ask().await;
            assert!(!outcome.is_stored(), "{statuses:?}: {outcome}");
            assert_eq!(read.unwrap().1.unwrap().get_all("grpc-status").iter().count(), statuses.len());
        }
        assert_eq!(layer.cache().stats().stored, 0, "{statuses:?}");
    }
}

#[tokio::test(start_paused = true)] // P45, P80
async fn headers_message_and_trailers_come_back_as_they_were() {
    let layer = minute();
    let head: &[_] = &[("content-type", "application/grpc+x"), ("x-many", "1"), ("x-many", "2"), ("x-bin", "AAE")];
    let ask = by_hand(&layer, head, 200, || {
        let (script, body) = scripted();
        script.data(Bytes::from_static(&[0, 0, 0]));
        script.data(Bytes::from_static(&[0, 1, 7]));
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", HeaderValue::from_static("0"));
        trailers.append("grpc-message", HeaderValue::from_static("fine"));
        trailers.append("x-took", HeaderValue::from_static("1"));
        trailers.append("x-took", HeaderValue::from_static("2"));
        script.trailers(trailers);
        body
    });
    let (first, second) = (ask().await, ask().await);
    assert_eq!(
        (first.0.to_string(), second.0.to_string()),
        ("fwd=uri-miss; fwd-status=200; stored".into(), "hit; ttl=60".into())
    );
    assert_eq!(first.1, second.1);
    assert_eq!(second.1.unwrap().1.unwrap().len(), 4);
}

#[tokio::test(start_paused = true)] // P1
async fn the_same_answer_is_equal_in_all_that_a_client_sees() {
    let stand = Stand::new(&minute(), &Origin::counting()).await;
    let without_age = |mut reply: Reply| {
        reply.metadata.retain(|(name, _)| name != "age");
        reply.metadata.sort();
        (reply.quote, reply.metadata)
    };
    assert_eq!(without_age(stand.get("ACME").await), without_age(stand.get("ACME").await));
}
