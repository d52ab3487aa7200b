//! What a handler reads and nobody keyed is found, and nothing else.

#![allow(clippy::disallowed_methods, reason = "a test may spawn")]

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use cacheback::{
    Background, Cache, CacheStatus, CachebackLayer, Detail, Freshness, Http, NoStore, Outcome,
    testing::{Audit, AuditError, AuditErrorKind, Audited, Coverage, Input, audit},
};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use support::{
    http::{Origin, Pieces, Seen, get as ask, request, secs},
    routes::chunks,
    typed::Gate,
};
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::{compression::CompressionLayer, cors::CorsLayer};

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// A GET with fields.
fn x(fields: &[(&str, &str)]) -> Request {
    request("GET", "/x", fields)
}

/// A handler that says what it makes of a request, behind a layer.
fn behind<R: IntoResponse>(
    layer: CachebackLayer<Http>,
    respond: impl Fn(&Seen) -> R + Send + Sync + 'static,
) -> Router {
    Origin::new(respond).behind(layer)
}

/// A handler that says what it reads in these fields.
fn reading(layer: CachebackLayer<Http>, names: &'static [&'static str]) -> Router {
    behind(layer, |seen| names.iter().map(|name| format!("{}\n", seen.field(name))).collect::<String>())
}

async fn said(app: Router, request: Request) -> String {
    audit(app, request).await.expect_err("it depends on something").to_string()
}

async fn refused(app: Router, request: Request) -> AuditError {
    audit(app, request).await.expect_err("there is nothing to say of it")
}

async fn passes(app: Router, request: Request) -> Audited {
    audit(app, request).await.expect("nothing was forgotten")
}

fn coverage(audited: &Audited, input: &Input) -> Coverage {
    audited.inputs().find(|(known, _)| *known == input).expect("it was tried").1
}

fn header(name: &'static str) -> Input {
    Input::Header(HeaderName::from_static(name))
}

// ---- what is found ----

#[tokio::test(start_paused = true)] // P42, P68
async fn a_field_that_a_response_withholds_may_depend_on_what_it_likes() {
    let naming = |control: &'static str| {
        let answer = move |seen: &Seen| [("cache-control", control.to_owned()), ("a", seen.field("accept-language"))];
        behind(minute(), move |seen| (answer(seen), "same"))
    };
    let asked = || x(&[("accept-language", "en")]);
    passes(naming("private=\"a\""), asked()).await;
    assert!(said(naming("private=\"b\""), asked()).await.contains("accept-language"));
}

#[tokio::test(start_paused = true)] // P68
async fn a_field_that_the_request_does_not_have_is_named() {
    for name in ["accept-language", "user-agent", "accept", "origin", "referer", "sec-ch-ua-mobile", "cf-ipcountry"] {
        let app = behind(minute(), move |seen| seen.field(name));
        let words = format!("the body depends on `{name}`, which neither the key nor `Vary` names");
        assert_eq!(said(app, x(&[])).await, words);
    }
}

#[tokio::test(start_paused = true)] // P68
async fn a_field_that_the_request_has_is_named_whether_its_value_matters_or_its_presence() {
    for (present, reads) in [
        (("x-flavour", "mint"), (|seen| seen.field("x-flavour")) as fn(&Seen) -> String),
        (("x-flavour", "mint"), |seen| seen.headers.contains_key("x-flavour").to_string()),
        (("x-flavour", "mint"), |seen| (seen.field("x-flavour") == "mint").to_string()),
        (("x-flavour", "audit"), |seen| ["", "audit"].contains(&&*seen.field("x-flavour")).to_string()),
        (("x-flavour", "7"), |seen| seen.field("x-flavour").parse().unwrap_or(7_u8).to_string()),
        (("x-flavour", "true"), |seen| seen.field("x-flavour").parse().unwrap_or(true).to_string()),
    ] {
        let app = behind(minute(), move |seen| format!("flavour {}", reads(seen)));
        let words = "the body depends on `x-flavour`, which neither the key nor `Vary` names";
        assert_eq!(said(app, x(&[present])).await, words, "{present:?}");
    }
    let present = |seen: &Seen| seen.headers.contains_key("accept-language").to_string();
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(behind(minute(), present), x(&[("accept-language", "en")])).await, words);
    // Of a field that is well read and present another value is tried, whichever it has, and none.
    for language in ["de", "fr", "en"] {
        let german = |seen: &Seen| format!("german {}", seen.field("accept-language") == "de");
        let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
        assert_eq!(said(behind(minute(), german), x(&[("accept-language", language)])).await, words, "{language}");
    }
}

#[tokio::test(start_paused = true)] // P68
async fn each_cookie_of_a_layer_with_key_by_is_an_input_of_its_own() {
    let layer = || minute().key_by(|_| Some(b"all".to_vec()));
    let theme = |seen: &Seen| format!("theme {}", seen.field("cookie").contains("theme=dark"));
    let cookies = x(&[("cookie", "session=1; theme=dark; other=2; theme=dark")]);
    let words = "the body depends on the cookie `theme`, which neither the key nor `Vary` names";
    assert_eq!(said(behind(layer(), theme), cookies).await, words);

    let any = |seen: &Seen| format!("cookies: {}", seen.field("cookie"));
    let words = "the body depends on `cookie`, which neither the key nor `Vary` names";
    assert_eq!(said(behind(layer(), any), x(&[])).await, words);
}

#[tokio::test(start_paused = true)] // P68
async fn a_cookie_without_a_name_is_not_named_by_its_value() {
    let app = behind(minute().key_by(|_| Some(Vec::new())), |seen| {
        format!("secret: {}", seen.field("cookie").contains("hunter2"))
    });
    let words = "the body depends on `cookie`, which neither the key nor `Vary` names";
    assert_eq!(said(app.clone(), x(&[("cookie", "a=1; hunter2")])).await, words);
    assert_eq!(said(app, x(&[("cookie", "hunter2")])).await, words);
}

#[tokio::test(start_paused = true)] // P68
async fn what_a_test_lists_is_tried_as_well() {
    #[derive(Clone)]
    struct Tenant(u32);

    let own = |seen: &Seen| format!("flavour {}", seen.field("x-own"));
    assert!(audit(behind(minute(), own), x(&[])).await.is_ok(), "nobody can know of it");
    let leak = Audit::new().header("x-own", "mint").run(behind(minute(), own), x(&[])).await.expect_err("known");
    assert_eq!(leak.to_string(), "the body depends on `x-own`, which neither the key nor `Vary` names");

    let spanish = |seen: &Seen| format!("spanish {}", seen.field("accept-language") == "es");
    assert!(audit(behind(minute(), spanish), x(&[])).await.is_ok(), "nobody can know all values");
    let audited = Audit::new().header("accept-language", "es").run(behind(minute(), spanish), x(&[])).await;
    assert_eq!(audited.expect_err("known").leaks().count(), 1);

    let layer = || minute().key_by(|_| Some(Vec::new()));
    let theme = |seen: &Seen| format!("theme {}", seen.field("cookie").contains("theme=dark"));
    let leak = Audit::new().cookie("theme", "dark").run(behind(layer(), theme), x(&[])).await.expect_err("known");
    assert_eq!(leak.to_string(), "the body depends on the cookie `theme`, which neither the key nor `Vary` names");

    let tenant = |seen: &Seen| format!("tenant {}", seen.extensions.get::<Tenant>().map_or(0, |tenant| tenant.0));
    let mut known = x(&[]);
    known.extensions_mut().insert(Tenant(7));
    for request in [x(&[]), known] {
        // Here the presence matters and there the value: both are tried.
        let leak = Audit::new().extension(Tenant(7)).run(behind(minute(), tenant), request).await.expect_err("known");
        let words = format!(
            "the body depends on the extension `{}`, which the key does not name",
            std::any::type_name::<Tenant>()
        );
        assert_eq!(leak.to_string(), words);
    }

    let leak = Audit::new()
        .input("the certificate", |request| request.extensions.insert(Tenant(7)).map_or((), drop))
        .run(behind(minute(), tenant), x(&[]))
        .await
        .expect_err("known");
    assert_eq!(leak.to_string(), "the body depends on the certificate, which the key does not name");
    assert_eq!(leak.leaks().next().expect("one").input(), &Input::Other("the certificate".to_owned()));
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)] // P68
async fn the_address_of_the_client_is_named() {
    use std::net::SocketAddr;

    use axum::extract::{ConnectInfo, connect_info::MockConnectInfo};

    async fn greet(ConnectInfo(client): ConnectInfo<SocketAddr>) -> String {
        format!("you are {}", client.ip())
    }
    let address = SocketAddr::from(([203, 0, 113, 7], 4_007));
    let words = "the body depends on the client's address, which the key does not name";
    let app = || Router::new().route("/x", get(greet)).layer(minute());
    let mut connected = x(&[]);
    connected.extensions_mut().insert(ConnectInfo(address));
    assert_eq!(said(app(), connected).await, words);
    assert_eq!(said(app().layer(MockConnectInfo(address)), x(&[])).await, words);

    let keyed = minute().key_by(|request| {
        let ConnectInfo(client) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(client.ip().to_string().into_bytes())
    });
    let app = Router::new().route("/x", get(greet)).layer(keyed);
    let mut connected = x(&[]);
    connected.extensions_mut().insert(ConnectInfo(address));
    let audited = passes(app, connected).await;
    assert_eq!(coverage(&audited, &Input::ClientAddress), Coverage::Key);
    let audited = passes(behind(minute(), |_| "the same for all"), x(&[])).await;
    assert_eq!(coverage(&audited, &Input::ClientAddress), Coverage::NoDifference, "an extension is never hidden");
}

#[tokio::test(start_paused = true)] // P68
async fn the_version_of_http_and_the_scheme_are_named() {
    let app = minute().layer(service_fn(async |request: Request| {
        Ok::<_, Infallible>(Response::new(Body::from(format!("{:?}", request.version()))))
    }));
    let words = "the body depends on the version of HTTP, which the key does not name";
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut request = x(&[]);
        *request.version_mut() = version;
        assert_eq!(audit(app.clone(), request).await.expect_err("read").to_string(), words);
    }

    let app = || behind(minute(), |seen| format!("see {}", seen.uri));
    let words = "the body depends on the scheme of the URI, which the key does not name";
    for scheme in ["http", "https"] {
        assert_eq!(said(app(), request("GET", &format!("{scheme}://a.example/x"), &[])).await, words);
    }
    passes(app(), x(&[])).await;
}

#[tokio::test(start_paused = true)] // P68
async fn the_status_and_the_headers_count_as_well() {
    let app = behind(minute().negative(StatusCode::NOT_FOUND, secs(1)), |seen| match seen.field("dnt").as_str() {
        "1" => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    });
    assert_eq!(said(app, x(&[])).await, "the status depends on `dnt`, which neither the key nor `Vary` names");

    let app = behind(minute(), |seen| [("x-dnt", seen.field("dnt"))]);
    assert_eq!(said(app, x(&[])).await, "the header `x-dnt` depends on `dnt`, which neither the key nor `Vary` names");

    // A header that is there only then, or only else.
    let app = behind(minute(), |seen| {
        let mut fields = HeaderMap::new();
        fields.extend(seen.headers.get("dnt").map(|dnt| (HeaderName::from_static("x-dnt"), dnt.clone())));
        fields
    });
    assert_eq!(said(app, x(&[])).await, "the header `x-dnt` depends on `dnt`, which neither the key nor `Vary` names");
    let app = behind(minute(), |seen| {
        let fields = [(HeaderName::from_static("x-tracked"), HeaderValue::from_static("1"))];
        HeaderMap::from_iter(fields.into_iter().filter(|_| !seen.headers.contains_key("dnt")))
    });
    let words = "the header `x-tracked` depends on `dnt`, which neither the key nor `Vary` names";
    assert_eq!(said(app, x(&[])).await, words);

    let app = minute().layer(service_fn(async |request: Request| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-dnt", request.headers().get("dnt").cloned().unwrap_or(HeaderValue::from_static("0")));
        let body = Full::new(Bytes::from("same")).with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok::<_, Infallible>(Response::new(body))
    }));
    let leak = audit(app, x(&[])).await.expect_err("read");
    assert_eq!(leak.to_string(), "the trailer `x-dnt` depends on `dnt`, which neither the key nor `Vary` names");
}

#[tokio::test(start_paused = true)] // P68
async fn a_response_that_may_not_be_stored_then_counts_by_what_it_says() {
    for changed in [
        (|| with(NoStore, "yours")) as fn() -> Response,
        || ([("cache-control", "private")], "yours").into_response(),
        || ([("set-cookie", "a=1")], "yours").into_response(),
        || (StatusCode::INTERNAL_SERVER_ERROR, "yours").into_response(),
    ] {
        let app = behind(minute(), move |seen| match seen.headers.contains_key("x-debug") {
            true => changed(),
            false => "all".into_response(),
        });
        let words = "the body depends on `x-debug`, which neither the key nor `Vary` names";
        assert_eq!(said(app, x(&[])).await, words);
    }
    // One without an end is another body, even than none at all, and is not waited for.
    let app = behind(minute(), |seen| match seen.headers.contains_key("x-debug") {
        true => ([("content-type", "text/event-stream")], chunks([], false)).into_response(),
        false => ().into_response(),
    });
    let words = "the body depends on `x-debug`, which neither the key nor `Vary` names";
    let begin = Instant::now();
    assert_eq!(said(app, x(&[])).await, words);
    assert_eq!(begin.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)] // P68 P44
async fn a_response_that_may_not_be_stored_is_covered_by_the_vary_of_the_one_that_is() {
    let app = behind(minute(), |seen| match seen.headers.contains_key("x-debug") {
        true => with(NoStore, "yours"),
        false => ([("vary", "x-debug")], "all").into_response(),
    });
    let audited = passes(app, x(&[])).await;
    assert_eq!(coverage(&audited, &header("x-debug")), Coverage::Vary);
}

#[tokio::test(start_paused = true)] // P68
async fn all_that_was_forgotten_is_named_and_each_once() {
    let app = reading(minute(), &["accept-language", "dnt", "x-flavour"]);
    let leak = refused(app, x(&[("x-flavour", "mint")])).await;
    assert_eq!(leak.kind(), AuditErrorKind::Leak);
    let inputs: Vec<_> = leak.leaks().map(|leak| leak.input().clone()).collect();
    assert_eq!(inputs, [header("accept-language"), header("dnt"), header("x-flavour")]);
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names; \
                 the body depends on `dnt`, which neither the key nor `Vary` names; \
                 the body depends on `x-flavour`, which neither the key nor `Vary` names";
    assert_eq!(leak.to_string(), words);
    assert_eq!(format!("{leak:?}"), format!("AuditError({words})"), "what a test prints that unwraps");
}

#[tokio::test(start_paused = true)] // P68 P44
async fn vary_in_only_one_of_two_responses_is_not_enough() {
    for varies_when_absent in [true, false] {
        let app = behind(minute(), move |seen| {
            let language = seen.field("accept-language");
            let mut fields = HeaderMap::new();
            if language.is_empty() == varies_when_absent {
                fields.insert("vary", HeaderValue::from_static("accept-language"));
            }
            (fields, format!("in {language}"))
        });
        let words =
            "the body depends on `accept-language`, which the key does not name, and `Vary` only in some responses";
        assert_eq!(said(app, x(&[])).await, words);
    }
}

#[tokio::test(start_paused = true)] // P68
async fn what_a_middleware_further_out_makes_of_a_field_is_found_through_the_extension() {
    #[derive(Clone)]
    struct Country(HeaderValue);

    async fn locate(mut request: Request, next: Next) -> Response {
        let country = request.headers().get("cf-ipcountry").cloned().unwrap_or(HeaderValue::from_static("GB"));
        request.extensions_mut().insert(Country(country));
        next.run(request).await
    }
    async fn prices(Extension(Country(country)): Extension<Country>) -> String {
        format!("prices for {country:?}")
    }
    let app = |layer| Router::new().route("/x", get(prices)).layer(layer).layer(from_fn(locate));
    let words = "the body depends on `cf-ipcountry`, which neither the key nor `Vary` names";
    assert_eq!(said(app(minute()), x(&[])).await, words);
    assert_eq!(said(app(minute().sealed()), x(&[])).await, words, "the field is hidden, the extension is not");
    let keyed = minute().key_by(|request| Some(request.extensions.get::<Country>()?.0.as_bytes().to_vec()));
    passes(app(keyed), x(&[])).await;
}

// ---- what is not ----

#[tokio::test(start_paused = true)] // P68
async fn counters_clocks_and_ids_fool_nobody() {
    let app = behind(minute(), |seen| {
        let (run, id) = (seen.run, seen.run.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let fields = [("etag", format!("\"{id:x}\"")), ("x-served-by", format!("worker {}", run % 2))];
        (fields, format!("<p>It is {}:{:02}. Run {run}, number <i>{id:016x}</i>.</p>", 12 + run / 60, run % 60))
    });
    passes(app, x(&[])).await;

    // A header that comes and goes.
    for there in [0, 1] {
        let app = behind(minute(), move |seen| {
            let mut fields = HeaderMap::new();
            if seen.run % 2 == there {
                fields.insert("x-sometimes", HeaderValue::from_static("1"));
            }
            (fields, "same")
        });
        passes(app, x(&[])).await;
    }
    // When it was made a response may say as it likes.
    let app = behind(minute(), |seen| [("date", format!("now {}", seen.field("dnt")))]);
    passes(app, x(&[])).await;
}

#[tokio::test(start_paused = true)] // P68
async fn what_changes_once_in_a_while_is_not_laid_at_the_door_of_an_input() {
    for turn in 3..60 {
        let app =
            behind(minute(), move |seen| format!("today is {}", if seen.run <= turn { "Sunday" } else { "Monday" }));
        passes(app, x(&[])).await;
    }
    for turn in [7, 10, 11, 30] {
        let app = behind(minute(), move |seen| format!("it is half past {}", seen.run / turn));
        passes(app, x(&[])).await;
    }
}

#[tokio::test(start_paused = true)] // P68
async fn a_service_that_fails_from_some_run_on_is_laid_at_the_door_of_no_input() {
    let failing = |first: usize, status| {
        Origin::new(move |seen| if seen.run < first { (StatusCode::OK, "a page") } else { (status, "too many") })
    };
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS, StatusCode::NOT_FOUND] {
        for first in [4, 5, 6, 30] {
            let refused = refused(failing(first, status).behind(minute()), x(&[])).await;
            assert_eq!(refused.kind(), AuditErrorKind::Inconclusive, "{status} from run {first} on: {refused}");
        }
        for first in 2..=5 {
            let layer = audited(1);
            let app = failing(first, status).behind(layer.clone());
            for _ in 0..2 {
                ask(&app, "/x").await;
            }
            layer.cache().settled().await;
            assert_eq!(layer.cache().stats().audit_findings, 0, "{status} from run {first} on");
        }
    }
}

#[tokio::test(start_paused = true)] // P68
async fn a_dependency_beside_a_counter_is_found() {
    let app = behind(minute(), |seen| format!("visit {}: {}", seen.run, seen.field("accept-language")));
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(app, x(&[])).await, words);
}

#[tokio::test(start_paused = true)] // P68
async fn where_nothing_stays_the_same_the_audit_is_inconclusive() {
    for body in [
        (|run| "word ".repeat(run)) as fn(usize) -> String,
        |run| run.to_string(),
        |run| if run == 2 { "one two".to_owned() } else { "one".to_owned() },
        |run| if run == 3 { "one two".to_owned() } else { "one".to_owned() },
    ] {
        let refused = refused(behind(minute(), move |seen| body(seen.run)), x(&[])).await;
        assert_eq!(refused.kind(), AuditErrorKind::Inconclusive);
        let words = "inconclusive: the response changes from run to run in more than single words, though the request \
                     does not";
        assert_eq!(refused.to_string(), words);
    }
    // So is a key that is another one each time, and a response that is stored now and then.
    let runs = Arc::new(AtomicUsize::new(0));
    let app = behind(minute().key_by(move |_| Some(vec![runs.fetch_add(1, SeqCst) as u8])), |_| "same");
    assert_eq!(refused(app, x(&[])).await.kind(), AuditErrorKind::Inconclusive);
    let app = behind(minute(), |seen| if seen.run == 2 { StatusCode::NOT_FOUND } else { StatusCode::OK });
    assert_eq!(refused(app, x(&[])).await.kind(), AuditErrorKind::Inconclusive);
    // What can be compared is.
    let app = behind(minute(), |seen| ([("x-dnt", seen.field("dnt"))], "word ".repeat(seen.run)));
    assert_eq!(refused(app, x(&[])).await.kind(), AuditErrorKind::Leak);
}

#[tokio::test(start_paused = true)] // P68
async fn what_is_keyed_varied_by_hidden_or_bypassed_cannot_fail() {
    let language = header("accept-language");
    let echo = || Origin::new(|seen| format!("language {}", seen.field("accept-language")));
    let audited = passes(echo().behind(minute().key_header("accept-language")), x(&[])).await;
    assert_eq!(coverage(&audited, &language), Coverage::Key);
    let audited = passes(echo().behind(minute().sealed()), x(&[])).await;
    assert_eq!(coverage(&audited, &language), Coverage::Hidden);
    let vary = |seen: &Seen| ([("vary", "Accept-Language")], format!("language {}", seen.field("accept-language")));
    for present in [&[][..], &[("accept-language", "en")]] {
        let audited = passes(behind(minute(), vary), x(present)).await;
        assert_eq!(coverage(&audited, &language), Coverage::Vary);
        assert_eq!(coverage(&audited, &header("dnt")), Coverage::NoDifference);
    }

    let all = ["authorization", "cookie", "x-forwarded-host", "forwarded", "x-forwarded-proto", "x-forwarded-prefix"];
    let app = behind(minute(), move |seen| all.map(|name| format!("{name} {}\n", seen.field(name))).concat());
    let audited = passes(app, x(&[])).await;
    for (name, expected) in [
        ("authorization", Coverage::Bypassed),
        ("cookie", Coverage::Bypassed),
        ("x-forwarded-host", Coverage::Key),
        ("x-forwarded-proto", Coverage::Key),
        ("x-forwarded-prefix", Coverage::Key),
        ("forwarded", Coverage::Key),
    ] {
        assert_eq!(coverage(&audited, &header(name)), expected, "{name}");
    }
    assert!(audited.to_string().starts_with("`accept`: no difference\n"), "{audited}");
    assert!(audited.to_string().contains("\n`authorization`: bypassed\n"));
}

#[tokio::test(start_paused = true)] // P68 P66
async fn cookies_and_conditions_that_no_run_sees_cannot_fail() {
    let echo = || Origin::new(|seen| format!("{seen:?}"));
    let sent = || x(&[("cookie", "a=1; theme=dark"), ("if-none-match", "\"1\""), ("te", "trailers"), ("x-a", "1")]);
    let theme = Input::Cookie("theme".to_owned());
    for (layer, expected) in [
        (minute().ignore_cookies().sealed(), Coverage::Hidden),
        (minute().key_cookie("theme").sealed(), Coverage::Key),
        (minute().key_header("cookie").sealed(), Coverage::Key),
    ] {
        let audited = passes(echo().behind(layer), sent()).await;
        assert_eq!(coverage(&audited, &theme), expected);
        assert_eq!(coverage(&audited, &header("if-none-match")), Coverage::Hidden);
        assert_eq!(coverage(&audited, &header("te")), Coverage::Hidden);
        assert_eq!(coverage(&audited, &header("x-a")), Coverage::Hidden);
    }
}

#[tokio::test(start_paused = true)] // P68 P62
async fn another_host_is_another_key_and_no_host_at_all_is_nothing_to_find() {
    let echo = || Origin::new(|seen| format!("at {} of {}", seen.field("host"), seen.uri)).behind(minute());
    let audited = passes(echo(), x(&[("host", "a.example")])).await;
    assert_eq!(coverage(&audited, &header("host")), Coverage::Key);
    passes(echo(), x(&[])).await;
}

#[tokio::test(start_paused = true)] // P68
async fn what_stands_further_out_may_answer_as_it_likes() {
    async fn busy(request: Request, next: Next) -> Response {
        if request.headers().contains_key("x-debug") {
            return "answered further out".into_response();
        }
        let said = request.headers().get("dnt").cloned();
        let mut response = next.run(request).await;
        response.headers_mut().extend(said.map(|said| (HeaderName::from_static("x-said"), said)));
        response
    }
    let app = behind(minute(), |_| "a body that is long enough for a compression layer to do something about it")
        .layer(CompressionLayer::new())
        .layer(CorsLayer::very_permissive())
        .layer(from_fn(busy));
    let audited = passes(app, x(&[])).await;
    assert_eq!(coverage(&audited, &header("x-debug")), Coverage::Bypassed);
    assert_eq!(coverage(&audited, &header("accept-encoding")), Coverage::NoDifference);

    // Compression further in says what it varies by.
    let long = "a body that is long enough for a compression layer to do something about it";
    let app = Origin::new(move |_| long).router().layer(CompressionLayer::new()).layer(minute());
    for accepted in [&[][..], &[("accept-encoding", "gzip")]] {
        let audited = passes(app.clone(), x(accepted)).await;
        assert_eq!(coverage(&audited, &header("accept-encoding")), Coverage::Vary);
    }
}

#[tokio::test(start_paused = true)] // P68 P44
async fn what_is_not_coded_is_fit_for_all_who_accept_a_coding() {
    let coded = |seen: &Seen| match seen.field("accept-encoding").as_str() {
        coding @ ("gzip" | "br") => ([("content-encoding", coding.to_owned())], "coded").into_response(),
        _ => "plain".into_response(),
    };
    for accepted in [&[][..], &[("accept-encoding", "br")]] {
        let audited = passes(behind(minute(), coded), x(accepted)).await;
        assert_eq!(coverage(&audited, &header("accept-encoding")), Coverage::Vary);
    }
    let told = |seen: &Seen| match seen.field("accept-encoding") {
        accepted if accepted.is_empty() => "nothing".into_response(),
        accepted => ([("vary", "accept-encoding")], accepted).into_response(),
    };
    let words = "the body depends on `accept-encoding`, which the key does not name, and `Vary` only in some responses";
    assert_eq!(said(behind(minute(), told), x(&[])).await, words, "it is not coded");

    // What is coded always, or for another reason, must be the same for all.
    for always in [true, false] {
        let coded = move |seen: &Seen| {
            let dnt = seen.headers.contains_key("dnt");
            let coding = [(HeaderName::from_static("content-encoding"), HeaderValue::from_static("gzip"))];
            (HeaderMap::from_iter(coding.into_iter().filter(|_| always || dnt)), format!("coded {dnt}"))
        };
        let words = "the body depends on `dnt`, which neither the key nor `Vary` names";
        assert_eq!(said(behind(minute(), coded), x(&[])).await, words);
    }
    // Also where that reason is named by one of two responses.
    for always in [true, false] {
        let coded = move |seen: &Seen| {
            let dnt = seen.headers.contains_key("dnt");
            let fields = [(always || dnt, "content-encoding", "gzip"), (dnt, "vary", "dnt")];
            let fields = fields.into_iter().filter(|(there, ..)| *there);
            let fields =
                fields.map(|(_, name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            (HeaderMap::from_iter(fields), format!("coded {dnt}"))
        };
        let words = "the body depends on `dnt`, which the key does not name, and `Vary` only in some responses";
        assert_eq!(said(behind(minute(), coded), x(&[])).await, words);
    }
}

// ---- wherever the layer stands ----

#[tokio::test(start_paused = true)] // P68 P90
async fn it_works_through_nested_routers_and_with_a_layer_for_each_route() {
    async fn plain() -> &'static str {
        "the same for all"
    }
    async fn language(headers: HeaderMap) -> String {
        format!("in {:?}", headers.get("accept-language"))
    }
    let cache = Cache::new();
    let routes = Router::new()
        .route("/plain", get(plain).layer(cache.layer(secs(60))))
        .route("/forgotten", get(language).layer(cache.layer(secs(60))))
        .route("/keyed", get(language).layer(cache.layer(secs(60)).key_header("accept-language")));
    let app = Router::new().nest("/deep", Router::new().nest("/down", routes));
    let at = |path| request("GET", &format!("/deep/down/{path}"), &[]);
    passes(app.clone(), at("plain")).await;
    passes(app.clone(), at("keyed")).await;
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(app, at("forgotten")).await, words);
}

#[tokio::test(start_paused = true)] // P68 P91
async fn of_two_layers_of_one_cache_the_outer_one_counts() {
    let language = || Origin::new(|seen| format!("in {}", seen.field("accept-language")));
    let cache = Cache::new();
    let app = language().behind(cache.layer(secs(5))).layer(cache.layer(secs(60)));
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(app, x(&[])).await, words);
    let keyed = || cache.layer(secs(60)).key_header("accept-language");
    passes(language().behind(keyed()).layer(keyed()), x(&[])).await;
    passes(language().behind(cache.layer(secs(5))).layer(keyed()), x(&[])).await;
}

#[tokio::test(start_paused = true)] // P68 P91
async fn of_two_caches_each_is_audited() {
    let language = || Origin::new(|seen| format!("in {}", seen.field("accept-language")));
    let keyed = || minute().key_header("accept-language");
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(language().behind(keyed()).layer(minute()), x(&[])).await, words, "the outer one");
    assert_eq!(said(language().behind(minute()).layer(keyed()), x(&[])).await, words, "the inner one");
    passes(language().behind(keyed()).layer(keyed()), x(&[])).await;
}

#[tokio::test(start_paused = true)] // P68
async fn any_service_of_http_can_be_audited() {
    let app = minute().layer(service_fn(async |request: http::Request<Full<Bytes>>| {
        let dnt = request.headers().get("dnt").cloned().unwrap_or(HeaderValue::from_static("0"));
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::copy_from_slice(dnt.as_bytes()))))
    }));
    let request = http::Request::get("/x").body(Full::default()).expect("a sound request");
    let leak = audit(app, request).await.expect_err("read");
    assert_eq!(leak.to_string(), "the body depends on `dnt`, which neither the key nor `Vary` names");
}

#[tokio::test(start_paused = true)] // P68 P52
async fn a_body_in_pieces_is_read_to_its_end_also_where_somebody_further_out_waits_for_it() {
    async fn whole(request: Request, next: Next) -> Response {
        let (head, body) = next.run(request).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Response::from_parts(head, Body::from(body))
    }
    let pieces = |seen: &Seen| {
        let last = if seen.headers.contains_key("dnt") { "three" } else { "four" };
        Body::new(Pieces::of(["one ", "two ", last]))
    };
    let words = "the body depends on `dnt`, which neither the key nor `Vary` names";
    assert_eq!(said(behind(minute(), pieces), x(&[])).await, words);
    let leak = said(behind(minute(), pieces).layer(from_fn(whole)), x(&[]));
    assert_eq!(timeout(secs(3_600), leak).await.expect("nobody waits for ever"), words);
}

#[tokio::test(start_paused = true)] // P68
async fn a_body_that_comes_later_is_waited_for() {
    let gate = Gate::new();
    let opened = gate.clone();
    let app = behind(minute(), move |_| {
        let gate = gate.clone();
        Body::new(Later::new(async move {
            gate.passed().await;
            Bytes::from("later")
        }))
    });
    let audit = tokio::spawn(audit(app, x(&[])));
    support::http::settle().await;
    assert!(!audit.is_finished());
    opened.open();
    assert!(audit.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)] // P68 P91
async fn a_layer_that_is_asked_while_a_body_is_read_is_audited_too() {
    let part = behind(minute(), |seen| format!("dnt {}", seen.field("dnt")));
    let app = behind(minute().key_header("dnt"), move |seen| {
        let mut request = x(&[("dnt", "0")]);
        request.headers_mut().extend(seen.headers.get("dnt").map(|dnt| (HeaderName::from_static("dnt"), dnt.clone())));
        *request.extensions_mut() = seen.extensions.clone();
        let part = part.clone();
        Body::new(Later::new(async move {
            tokio::task::yield_now().await;
            support::http::send(&part, request).await.body
        }))
    });
    let leak = timeout(secs(3_600), said(app, x(&[]))).await.expect("nobody waits for ever");
    assert_eq!(leak, "the body depends on `dnt`, which neither the key nor `Vary` names");
}

// ---- when there is nothing to audit ----

#[tokio::test(start_paused = true)] // P68
async fn a_response_that_is_not_stored_is_no_pass() {
    type Respond = fn(&Seen) -> Response;
    for (respond, detail, word) in [
        ((|_| ([("set-cookie", "a=1")], "x").into_response()) as Respond, Detail::SetCookie, "set-cookie"),
        (|_| ([("cache-control", "private")], "x").into_response(), Detail::Private, "private"),
        (|_| with(NoStore, "x"), Detail::HandlerSaidNo, "handler"),
        (|_| StatusCode::NOT_FOUND.into_response(), Detail::Status, "status"),
        (|_| "x".repeat(2 << 20).into_response(), Detail::TooLarge, "too-large"),
        (|_| chunks((0..20).map(|_| vec![b'x'; 100_000]), true).into_response(), Detail::TooLarge, "too-large"),
        (|_| chunks([], false).into_response(), Detail::SlowBody, "slow-body"),
        (
            |_| ([("content-length", "9")], Body::new(Pieces::of(["x"]))).into_response(),
            Detail::BodyFailed,
            "body-failed",
        ),
        (|_| with(Freshness::exact(secs(0)), "x"), Detail::NoLifetime, "no-lifetime"),
    ] {
        let refused = refused(behind(minute(), respond), x(&[])).await;
        assert_eq!((refused.kind(), refused.detail()), (AuditErrorKind::NotStored, Some(detail)));
        let words = format!("there is nothing to audit: the response would not be stored ({word})");
        assert_eq!(refused.to_string(), words);
        assert_eq!(refused.leaks().count(), 0);
    }
    let refused = refused(behind(minute().opt_in(), |_| "x"), x(&[])).await;
    assert_eq!(refused.detail(), Some(Detail::NotOptedIn));
}

#[tokio::test(start_paused = true)] // P68
async fn a_request_that_goes_past_the_cache_is_no_pass() {
    for (fields, detail, word) in [
        (("authorization", "Bearer 1"), Detail::Credential, "credential"),
        (("cookie", "a=1"), Detail::Cookie, "cookie"),
        (("cache-control", "no-store"), Detail::RequestNoStore, "request-no-store"),
    ] {
        let origin = Origin::counting();
        let refused = refused(origin.behind(minute()), x(&[fields])).await;
        assert_eq!((refused.kind(), refused.detail()), (AuditErrorKind::Bypassed, Some(detail)));
        let words = format!("there is nothing to audit: the request goes past the cache ({word})");
        assert_eq!(refused.to_string(), words);
        assert_eq!(origin.runs(), 1);
    }
    let excluded = refused(behind(minute().when(|_| false), |_| "x"), x(&[])).await;
    assert_eq!(excluded.detail(), Some(Detail::Excluded));
    let origin = Origin::counting();
    let posted = refused(origin.behind(minute()), request("POST", "/x", &[])).await;
    assert_eq!((posted.kind(), posted.detail()), (AuditErrorKind::Bypassed, None));
    assert_eq!(origin.runs(), 0, "what changes something is not run");
}

#[tokio::test(start_paused = true)] // P68
async fn a_request_that_comes_to_no_layer_is_no_pass() {
    let off = refused(behind(minute().enabled(false), |_| "x"), x(&[])).await;
    assert_eq!(off.kind(), AuditErrorKind::NoLayer);
    let words = "there is nothing to audit: the request reached no layer that is enabled";
    assert_eq!(refused(Origin::counting().router(), x(&[])).await.to_string(), words);
    let failing = minute().layer(service_fn(async |_: Request| Err::<Response, _>("down")));
    assert_eq!(audit(failing, x(&[])).await.expect_err("it fails").kind(), AuditErrorKind::NoLayer);
}

// ---- what an audit leaves alone ----

#[tokio::test(start_paused = true)] // P68
async fn nothing_is_looked_up_stored_or_invalidated() {
    let layer = minute();
    let app =
        Origin::new(|seen| format!("run {} in {}", seen.run, seen.field("accept-language"))).behind(layer.clone());
    assert!(audit(app.clone(), x(&[])).await.is_err());
    let stats = layer.cache().stats();
    assert_eq!((stats.keys, stats.runs, stats.stored, stats.requests(), stats.audit_findings), (0, 0, 0, 0, 0));
    let missed = ask(&app, "/x").await;
    assert_eq!(missed.outcome().status(), CacheStatus::UriMiss);

    // What is stored does not answer it, and stays.
    let words = "the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(said(app.clone(), x(&[])).await, words);
    let hit = ask(&app, "/x").await;
    assert_eq!((hit.outcome().status(), hit.text()), (CacheStatus::Hit, missed.text()));
}

#[tokio::test(start_paused = true)] // P68 P66
async fn a_handler_sees_what_it_would_see_in_a_run() {
    let (audited, usual) = (Origin::new(|_| "same"), Origin::new(|_| "same"));
    let sent = || {
        let fields = [("if-none-match", "\"1\""), ("te", "x"), ("host", "A.example:80"), ("cookie", "a=1")];
        request("HEAD", "/x?utm=1&q=2", &fields)
    };
    let layer = || minute().ignore_cookies().query_except(["utm"]);
    passes(audited.behind(layer()), sent()).await;
    let mut led = sent();
    *led.method_mut() = http::Method::GET;
    support::http::send(&usual.behind(layer()), led).await;
    let unchanged = audited.seen().remove(0);
    assert_eq!(unchanged.view(), usual.last().view());
    assert!(unchanged.extensions.get::<Background>().is_none(), "somebody waits for it");
}

#[tokio::test(start_paused = true)] // P68
async fn a_middleware_further_out_finds_the_outcome_as_always() {
    async fn watch(request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        let outcome = response.extensions().get::<Outcome>().expect("every response carries its outcome");
        // One of the changes is to send a credential.
        assert!(matches!(outcome.status(), CacheStatus::UriMiss | CacheStatus::Bypass), "{outcome}");
        assert!(!outcome.is_stored());
        response
    }
    passes(behind(minute(), |_| "x").layer(from_fn(watch)), x(&[])).await;
}

// ---- in production ----

/// A handler that reads a field which nobody keyed.
fn forgetful() -> Origin {
    Origin::new(|seen| format!("run {} in {}", seen.run, seen.field("accept-language")))
}

/// Audits one hit in so many, whatever the body.
fn audited(one_in: u64) -> CachebackLayer<Http> {
    minute().audit_with(one_in, Body::empty)
}

#[tokio::test(start_paused = true)] // P68
async fn one_fresh_hit_in_so_many_is_audited_and_its_reader_is_answered_as_always() {
    let (origin, layer) = (forgetful(), audited(3));
    let app = origin.behind(layer.clone());
    let first = ask(&app, "/x").await;
    for hits in 1..=2 {
        assert_eq!(ask(&app, "/x").await.text(), first.text());
        layer.cache().settled().await;
        assert_eq!((origin.runs(), layer.cache().stats().audit_findings), (1, 0), "hit {hits}");
    }
    let third = ask(&app, "/x").await;
    assert_eq!((third.outcome().status(), third.text()), (CacheStatus::Hit, first.text()));
    assert_eq!(layer.cache().stats().runs, 1, "it is waited for like a run");
    for runs in [1, 2, 3] {
        tokio::task::yield_now().await;
        assert_eq!(origin.runs(), runs, "others have their turn before each run");
    }
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
    assert!(origin.runs() > 3);
    assert_eq!(ask(&app, "/x").await.text(), first.text(), "nothing was stored");
    let stats = layer.cache().stats();
    assert_eq!((stats.stored, stats.requests(), stats.runs_completed), (1, 5, 1), "nor counted");
}

#[tokio::test(start_paused = true)] // P68
async fn a_finding_is_told_once_for_each_input_of_a_layer() {
    let (origin, layer) = (forgetful(), audited(1));
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    for _ in 0..5 {
        ask(&app, "/x").await;
        layer.cache().settled().await;
        assert_eq!(layer.cache().stats().audit_findings, 1);
    }
    // What was told of is not looked for again.
    let before = origin.runs();
    ask(&app, "/x").await;
    layer.cache().settled().await;
    assert_eq!(origin.runs(), before + 3);

    let other = audited(1);
    let app = origin.behind(other.clone());
    ask(&app, "/x").await;
    ask(&app, "/x").await;
    other.cache().settled().await;
    assert_eq!(other.cache().stats().audit_findings, 1, "another layer has its own");

    // So has one that a setter made of a clone, in the same cache.
    let app = origin.behind(layer.clone().namespace("n"));
    ask(&app, "/x").await;
    ask(&app, "/x").await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 2);
}

#[tokio::test(start_paused = true)] // P68
async fn all_inputs_that_matter_are_found_in_one_audit_of_bounded_work() {
    let names = ["accept", "cf-ipcountry", "x-variant", "user-agent", "x-own"];
    let origin = Origin::new(move |seen| names.map(|name| format!("{name}: {}\n", seen.field(name))).concat());
    let layer = audited(1);
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    support::http::get_with(&app, "/x", &[("x-own", "mint")]).await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 5);
    assert!(origin.runs() < 250, "{} runs", origin.runs());
}

#[tokio::test(start_paused = true)] // P68
async fn an_audit_that_finds_nothing_is_three_runs_in_the_background() {
    let origin = Origin::new(|seen| {
        let fields = [("vary", "accept-language"), ("etag", &*format!("\"{}\"", seen.run))]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")));
        (HeaderMap::from_iter(fields), format!("run {} in {}", seen.run, seen.field("accept-language")))
    });
    let layer = audited(1).key_header("accept").ignore_cookies();
    let app = origin.behind(layer.clone());
    let sent = [("accept", "text/html"), ("cookie", "a=1"), ("accept-language", "en"), ("te", "trailers")];
    support::http::get_with(&app, "/x", &sent).await;
    support::http::get_with(&app, "/x", &sent).await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 0);
    let runs = origin.seen().split_off(1);
    assert_eq!(runs.len(), 3);
    for (index, run) in runs.iter().enumerate() {
        assert!(run.background && run.extensions.get::<Background>().is_some());
        assert_eq!(run.headers.contains_key("dnt"), index == 2, "two of them are unchanged");
        for (name, value) in [("accept", "text/html"), ("accept-language", "en")] {
            assert_eq!(run.field(name), value, "what is keyed or varied by stays");
        }
        for name in ["cookie", "te", "authorization", "x-forwarded-host"] {
            assert!(!run.headers.contains_key(name), "{name} is hidden, or would go past the cache");
        }
    }
}

#[tokio::test(start_paused = true)] // P68
async fn a_handler_that_answers_by_whatever_it_is_sent_is_told_of_and_then_left_alone() {
    let origin = Origin::new(|seen| format!("{:?}", seen.headers));
    let layer = audited(1);
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    ask(&app, "/x").await;
    layer.cache().settled().await;
    let (findings, runs) = (layer.cache().stats().audit_findings, origin.runs());
    assert!(findings >= 64, "{findings}");
    support::http::get_with(&app, "/x", &[("x-new", "1")]).await;
    layer.cache().settled().await;
    assert_eq!((layer.cache().stats().audit_findings, origin.runs()), (findings, runs));
}

#[tokio::test(start_paused = true)] // P68
async fn the_scheme_is_found_in_production_too() {
    let layer = audited(1);
    let app = behind(layer.clone(), |seen| format!("see {}", seen.uri));
    for _ in 0..2 {
        ask(&app, "http://a.example/x").await;
    }
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[tokio::test(start_paused = true)] // P68
async fn where_there_is_nothing_left_to_change_nothing_is_run_for_it() {
    let runs = Arc::new(AtomicUsize::new(0));
    let (layer, counted) = (audited(1).sealed(), Arc::clone(&runs));
    let app = layer.layer(service_fn(move |request: Request| {
        counted.fetch_add(1, SeqCst);
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(format!("{:?}", request.version())))))
    }));
    for _ in 0..2 {
        app.clone().oneshot(x(&[])).await.expect("it does not fail");
    }
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1, "the version cannot be hidden");
    let before = runs.load(SeqCst);
    app.oneshot(x(&[])).await.expect("it does not fail");
    layer.cache().settled().await;
    assert_eq!(runs.load(SeqCst), before + 2, "two unchanged ones");
}

#[tokio::test(start_paused = true)] // P68
async fn a_cookie_is_found_in_production_too() {
    let origin = Origin::new(|seen| format!("theme {}", seen.field("cookie").contains("theme=dark")));
    let layer = audited(1).key_by(|_| Some(Vec::new()));
    let app = origin.behind(layer.clone());
    for _ in 0..2 {
        support::http::get_with(&app, "/x", &[("cookie", "theme=dark")]).await;
    }
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)] // P68
async fn the_address_of_the_client_is_found_in_production_where_the_server_tells_it() {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;

    let layer = minute().audit(1);
    let app = behind(layer.clone(), |seen| {
        let client = seen.extensions.get::<ConnectInfo<SocketAddr>>();
        format!("you are {:?}", client.map(|ConnectInfo(client)| client.ip()))
    });
    for (connected, findings) in [(false, 0), (true, 1)] {
        for _ in 0..2 {
            let mut request = x(&[]);
            let address = ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 4_000)));
            request.extensions_mut().extend(if connected { extensions(address) } else { http::Extensions::new() });
            support::http::send(&app, request).await;
        }
        layer.cache().settled().await;
        assert_eq!(layer.cache().stats().audit_findings, findings);
    }
}

#[tokio::test(start_paused = true)] // P68 P48
async fn stale_hits_and_requests_that_want_no_trace_are_not_audited() {
    let (origin, layer) = (forgetful(), audited(1));
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    support::http::get_with(&app, "/x", &[("cache-control", "no-store")]).await;
    layer.cache().settled().await;
    assert_eq!(origin.runs(), 1);

    support::http::pass(61.0).await;
    assert!(ask(&app, "/x").await.outcome().is_stale());
    layer.cache().settled().await;
    assert_eq!((origin.runs(), layer.cache().stats().audit_findings), (2, 0), "it was refreshed and no more");

    // Nor a stale one whose refresh is put off.
    let origin = Origin::new(|seen| if seen.run == 1 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR });
    let layer = audited(1);
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    support::http::pass(61.0).await;
    for _ in 0..3 {
        assert!(ask(&app, "/x").await.outcome().is_stale());
        layer.cache().settled().await;
    }
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P68
async fn a_head_is_audited_as_the_get_that_it_stands_for() {
    let (origin, layer) = (forgetful(), audited(1));
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    support::http::send(&app, request("HEAD", "/x", &[])).await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[tokio::test(start_paused = true)] // P68 P24 P27
async fn where_there_is_no_permit_there_is_no_audit_and_nothing_is_counted_as_dropped() {
    for drained in [true, false] {
        let cache = Cache::builder().max_refreshes(usize::from(drained)).build();
        let origin = forgetful();
        let app = origin.behind(cache.layer(secs(60)).audit_with(1, Body::empty));
        ask(&app, "/x").await;
        if drained {
            cache.drain(secs(1)).await;
        }
        assert_eq!(ask(&app, "/x").await.outcome().status(), CacheStatus::Hit);
        cache.settled().await;
        assert_eq!((origin.runs(), cache.stats().refreshes_dropped), (1, 0));
    }
}

#[tokio::test(start_paused = true)] // P68 P24
async fn a_layer_has_one_audit_at_a_time_and_hits_do_not_wait_for_it() {
    let (origin, layer) = (forgetful(), audited(1));
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    origin.only_the_first(1);
    for _ in 0..10 {
        assert_eq!(ask(&app, "/x").await.outcome().status(), CacheStatus::Hit);
        support::http::settle().await;
        assert_eq!((origin.runs(), layer.cache().stats().refreshes), (2, 1));
    }
    origin.release();
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[tokio::test(start_paused = true)] // P68 P13
async fn an_audit_of_a_hung_service_is_over_when_a_refresh_would_be() {
    let (origin, layer) = (forgetful(), audited(1).refresh_timeout(secs(5)));
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    origin.only_the_first(1);
    ask(&app, "/x").await;
    support::http::settle().await;
    assert_eq!(layer.cache().stats().refreshes, 1);
    support::http::pass(5.1).await;
    let stats = layer.cache().stats();
    assert_eq!((stats.refreshes, stats.runs, stats.audit_findings), (0, 0, 0));
    // The next one has its turn.
    origin.release();
    ask(&app, "/x").await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 1);
}

#[tokio::test(start_paused = true)] // P68 P12
async fn a_panic_in_an_audit_is_nobody_elses() {
    let origin = Origin::new(|seen| {
        assert!(!seen.headers.contains_key("dnt"), "this handler cannot bear it");
        format!("in {}", seen.field("accept-language"))
    });
    let layer = audited(1);
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    for _ in 0..2 {
        assert_eq!(ask(&app, "/x").await.text(), "in ");
        layer.cache().settled().await;
        let stats = layer.cache().stats();
        assert_eq!((stats.audit_findings, stats.refreshes), (1, 0), "it hides nothing of what else there is to find");
    }
    assert!(origin.runs() < 80, "{} runs", origin.runs());
}

#[tokio::test(start_paused = true)] // P68
async fn an_error_in_an_audit_hides_nothing_and_a_service_that_is_gone_is_left_alone() {
    for (bears, findings, most) in [(usize::MAX, 1, 80), (3, 0, 15)] {
        let runs = Arc::new(AtomicUsize::new(0));
        let (layer, counted) = (audited(1), Arc::clone(&runs));
        let app = layer.layer(service_fn(move |request: Request| {
            let lives = counted.fetch_add(1, SeqCst) < bears && !request.headers().contains_key("x-debug");
            let language = format!("in {:?}", request.headers().get("accept-language"));
            std::future::ready(lives.then(|| Response::new(Body::from(language))).ok_or("out of order"))
        }));
        for _ in 0..2 {
            app.clone().oneshot(x(&[])).await.expect("it answers from memory, or for the first time");
            layer.cache().settled().await;
        }
        assert_eq!(layer.cache().stats().audit_findings, findings);
        assert!(runs.load(SeqCst) < most, "{} runs", runs.load(SeqCst));
    }
}

#[tokio::test(start_paused = true)] // P68
async fn an_audit_needs_bodies_of_the_type_that_the_service_takes() {
    let service = |layer: &CachebackLayer<Http>| {
        layer.layer(service_fn(async |request: http::Request<Full<Bytes>>| {
            let dnt = request.headers().get("dnt").cloned().unwrap_or(HeaderValue::from_static("0"));
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::copy_from_slice(dnt.as_bytes()))))
        }))
    };
    for (layer, findings) in [(audited(1), 0), (minute().audit_with(1, Full::<Bytes>::default), 1)] {
        for _ in 0..3 {
            let request = http::Request::get("/x").body(Full::default()).expect("a sound request");
            service(&layer).oneshot(request).await.expect("it does not fail");
            layer.cache().settled().await;
        }
        assert_eq!(layer.cache().stats().audit_findings, findings);
    }
}

#[tokio::test(start_paused = true)] // P68
async fn what_only_two_inputs_together_bring_about_costs_little_and_is_not_told() {
    let origin = Origin::new(|seen| {
        let both = ["accept", "x-variant"].iter().all(|name| seen.headers.contains_key(*name));
        format!("both {both}")
    });
    let layer = audited(1);
    let app = origin.behind(layer.clone());
    ask(&app, "/x").await;
    ask(&app, "/x").await;
    layer.cache().settled().await;
    assert_eq!(layer.cache().stats().audit_findings, 0);
    assert_eq!(origin.runs(), 1 + 2 + 5 + 2, "all at once, confirmed twice, and each half");
}

#[test] // P68 P92
#[should_panic(expected = "an audit of one hit in 0 is none")]
fn an_audit_of_no_hit_at_all_panics_in_its_setter() {
    let _layer = audited(0);
}

#[cfg(feature = "axum")]
fn extensions<T: Clone + Send + Sync + 'static>(value: T) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(value);
    extensions
}

/// A response with something in its extensions. (With feature `axum` a handler would say it as a part.)
fn with<T: Clone + Send + Sync + 'static>(said: T, body: &'static str) -> Response {
    let mut response = body.into_response();
    response.extensions_mut().insert(said);
    response
}

/// A body that is made as it is read.
struct Later(Option<Pin<Box<dyn Future<Output = Bytes> + Send>>>);

impl Later {
    fn new(making: impl Future<Output = Bytes> + Send + 'static) -> Self {
        Self(Some(Box::pin(making)))
    }
}

impl http_body::Body for Later {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(making) = &mut self.0 else { return Poll::Ready(None) };
        let made = ready!(making.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::data(made))))
    }
}

#[tokio::test(start_paused = true)] // P68
async fn a_request_of_very_many_cookies_is_not_audited_and_its_reader_is_answered() {
    let origin = forgetful();
    let layer = audited(1).ignore_cookies();
    let app = origin.behind(layer.clone());
    let first = ask(&app, "/x").await;
    for (cookies, is_audited) in [(1_000, false), (200, true)] {
        let sent = (0..cookies).map(|n| format!("c{n}=1")).collect::<Vec<_>>().join("; ");
        let hit = support::http::send(&app, x(&[("cookie", &sent)])).await;
        assert_eq!((hit.outcome().status(), hit.text()), (CacheStatus::Hit, first.text()));
        layer.cache().settled().await;
        assert_eq!(origin.runs() > 1, is_audited, "{cookies}: {} runs", origin.runs());
    }
}
