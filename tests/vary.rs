//! Variants are kept apart as `Vary` says.

mod support;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode},
    response::IntoResponse,
};
use cacheback::{CacheStatus, CachebackLayer, Freshness, Http};
use support::http::{Clients, Fields, Origin, Reply, get, get_with, pass, request, secs, send, settle};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_http::compression::CompressionLayer;

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// An origin whose answers vary, and say which run they are of.
fn varying(vary: &'static str) -> Origin {
    Origin::with_fields(&[("vary", vary)])
}

async fn in_language(app: &Router, language: &str) -> Reply {
    get_with(app, "/x", &[("accept-language", language)]).await
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_each_variant_is_kept_for_itself() {
    let app = varying("Accept-Language").behind(minute());
    for language in ["de", "fr", "en"] {
        let first = in_language(&app, language).await;
        let status = if language == "de" { CacheStatus::UriMiss } else { CacheStatus::VaryMiss };
        assert_eq!(first.outcome().status(), status, "{language}");
    }
    for (run, language) in [("1", "de"), ("2", "fr"), ("3", "en")] {
        let again = in_language(&app, language).await;
        assert_eq!((again.text(), again.outcome().status()), (run, CacheStatus::Hit));
    }
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_an_absent_field_is_not_an_empty_one_and_several_lines_are_one_list() {
    for (one, other, same) in [
        (&[][..], &[][..], true),
        (&[], &[("accept", "")], false),
        (&[("accept", "")], &[("accept", "")], true),
        (&[("accept", "a, b")], &[("accept", "a"), ("accept", "b")], true),
        (&[("accept", "a"), ("accept", "b")], &[("accept", "b"), ("accept", "a")], false),
        (&[("accept", "a")], &[("accept", "a"), ("accept", "")], false),
        (&[("accept", "a")], &[("accept", "b")], false),
        (&[("accept", "a")], &[("accept", "A")], false),
        (&[("accept", "a")], &[("accept", " a\t")], true),
        (&[("accept", "a")], &[("accept-language", "a")], false),
        (&[("accept", "a"), ("accept-language", "b")], &[("accept-language", "b"), ("accept", "a")], true),
        (&[("accept", "a")], &[("accept", "a"), ("x-other", "1")], true),
    ] {
        let one: Fields = one;
        let app = varying("accept, accept-language").behind(minute());
        let (first, second) = (get_with(&app, "/x", one).await, get_with(&app, "/x", other).await);
        assert_eq!(first.text() == second.text(), same, "{one:?} {other:?}");
    }
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_values_that_are_no_text_are_compared_to_the_byte() {
    let app = varying("x-own").behind(minute());
    let raw = |value: &'static [u8]| {
        let mut request = request("GET", "/x", &[]);
        request.headers_mut().append("x-own", HeaderValue::from_bytes(value).expect("a value"));
        request
    };
    for (run, value) in [("1", &b"\xe9"[..]), ("2", b"\xe8"), ("3", b"\xc3\xa9"), ("1", b"\xe9")] {
        assert_eq!(send(&app, raw(value)).await.text(), run);
    }
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9110_12_5_5_the_lines_of_vary_are_one_list_in_any_case() {
    let origin = Origin::with_fields(&[("vary", "ACCEPT,, "), ("vary", "accept-Language , accept")]);
    let app = origin.behind(minute());
    let both = |accept, language| {
        let app = app.clone();
        async move { get_with(&app, "/x", &[("accept", accept), ("accept-language", language)]).await }
    };
    for (accept, language, run) in [("a", "de", "1"), ("b", "de", "2"), ("a", "fr", "3"), ("a", "de", "1")] {
        assert_eq!(both(accept, language).await.text(), run);
    }
}

#[tokio::test(start_paused = true)] // P44, P66
async fn fields_are_compared_as_the_handler_saw_them() {
    let hidden: [(&str, Fields); 6] = [
        ("cookie", &[("cookie", "sid=1")]),
        ("if-none-match", &[("if-none-match", "\"a\"")]),
        ("te", &[("te", "trailers")]),
        ("connection", &[("connection", "close")]),
        ("x-hop", &[("x-hop", "1"), ("connection", "x-hop")]),
        ("content-length", &[("content-length", "0")]),
    ];
    for (vary, fields) in hidden {
        let app = varying(vary).behind(minute().ignore_cookies());
        get(&app, "/x").await;
        let second = get_with(&app, "/x", fields).await;
        assert_eq!(second.outcome().status(), CacheStatus::Hit, "what nobody sees selects nothing: {vary}");
    }
    let app = varying("cookie").behind(minute().key_cookie("theme"));
    get_with(&app, "/x", &[("cookie", "sid=1; theme=dark")]).await;
    assert_eq!(get_with(&app, "/x", &[("cookie", "theme=dark; sid=2")]).await.outcome().status(), CacheStatus::Hit);

    let app = varying("accept-language").behind(minute().sealed());
    in_language(&app, "de").await;
    assert_eq!(in_language(&app, "fr").await.outcome().status(), CacheStatus::Hit, "a sealed handler sees neither");
}

#[tokio::test(start_paused = true)] // P44, P66
async fn a_field_that_connection_names_is_absent_for_those_who_wait_too() {
    let origin = Origin::new(|seen| ([("vary", "accept-language")], seen.field("accept-language")));
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for _ in 0..5 {
        clients.get(&app, "/x", &[("accept-language", "de"), ("connection", "accept-language")]).await;
    }
    origin.release();
    for answer in clients.answers().await {
        assert_eq!(answer.text(), "");
    }
    assert_eq!(origin.runs(), 1, "all of them have the one view");
    assert_eq!(in_language(&app, "de").await.text(), "de");
}

#[tokio::test(start_paused = true)] // P10, P44
async fn followers_of_a_cold_key_regroup_and_each_variant_is_run_once_all_at_once() {
    const VARIANTS: usize = 12;
    let origin = Origin::new(|seen| ([("vary", "accept-language")], seen.field("accept-language")));
    let app = origin.behind(minute());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    let language = |client: usize| format!("l{}", client % VARIANTS);
    for client in 0..3 * VARIANTS {
        clients.get(&app, "/x", &[("accept-language", &language(client))]).await;
    }
    origin.begun(1).await;
    assert_eq!(origin.runs(), 1, "nobody knows yet that it varies");
    origin.only_the_first(1);
    // None of the other runs may answer before all of them have begun.
    origin.begun(VARIANTS).await;
    settle().await;
    assert_eq!(origin.runs(), VARIANTS);
    origin.release();
    for (client, answer) in clients.answers().await.iter().enumerate() {
        assert_eq!(answer.text(), language(client));
        assert_eq!(answer.outcome().is_collapsed(), client >= VARIANTS, "{client}");
    }
    assert_eq!(origin.runs(), VARIANTS);
}

#[tokio::test(start_paused = true)] // P15, P44
async fn followers_regroup_where_the_response_varies_and_is_not_stored() {
    for status in [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE] {
        let origin = Origin::new(move |seen| (status, [("vary", "accept-language")], seen.field("accept-language")));
        let app = origin.behind(minute());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        for language in ["a", "b", "c", "d", "e", "a", "b", "c"] {
            clients.get(&app, "/x", &[("accept-language", language)]).await;
        }
        assert_eq!(origin.runs(), 1);
        origin.only_the_first(1);
        origin.begun(5).await;
        settle().await;
        assert_eq!(origin.runs(), 5, "{status}: one run per variant, all at once");
        origin.release();
        let answers = clients.answers().await;
        assert_eq!(answers.iter().map(Reply::text).collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "a", "b", "c"]);
        assert!(answers.iter().all(|answer| !answer.outcome().is_stored()));
    }
}

#[tokio::test(start_paused = true)] // P10, P44
async fn one_who_looked_before_the_fields_were_known_joins_those_who_know_them() {
    let origin = varying("accept-language");
    let mut service = minute().layer(origin.router());
    let app = Router::new().fallback_service(service.clone());
    let early = service.call(request("GET", "/x", &[("accept-language", "fr")]));
    in_language(&app, "de").await;
    assert_eq!(origin.runs(), 1);
    origin.only_the_first(1);
    let mut looked = JoinSet::new();
    looked.spawn(early);
    settle().await;
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[("accept-language", "fr")]).await;
    assert_eq!(origin.runs(), 2, "one run for one variant");
    origin.release();
    assert_eq!(clients.answers().await[0].text(), "2");
    assert!(looked.join_all().await[0].is_ok());
}

#[tokio::test(start_paused = true)] // P44
async fn the_list_of_fields_outlives_its_entries() {
    let origin = Origin::new(|seen| ([("vary", "accept-language")], seen.field("accept-language")));
    let layer = CachebackLayer::new(Freshness::exact(secs(60)));
    let app = origin.behind(layer.clone());
    for how in ["too old", "purged"] {
        let before = origin.runs();
        in_language(&app, "de").await;
        match how {
            "purged" => drop(layer.cache().purge_path("/x").await.expect("purged")),
            _ => pass(61.0).await,
        }
        origin.only_the_first(before + 1);
        let mut clients = Clients::new();
        for language in ["a", "b", "c"] {
            clients.get(&app, "/x", &[("accept-language", language)]).await;
        }
        // They did not have to wait for one another to learn it again.
        origin.begun(before + 4).await;
        origin.release();
        clients.answers().await;
        assert_eq!(origin.runs(), before + 4, "{how}");
        layer.cache().purge_path("/x").await.expect("purged");
    }
}

#[tokio::test(start_paused = true)] // P44
async fn variants_are_capped_and_the_one_unused_for_longest_goes() {
    let origin = varying("accept-language");
    let app = origin.behind(minute().max_variants(3));
    for language in ["a", "b", "c"] {
        in_language(&app, language).await;
    }
    in_language(&app, "a").await; // so that b is the one unused for longest
    in_language(&app, "d").await;
    for (language, status) in [
        ("a", CacheStatus::Hit),
        ("c", CacheStatus::Hit),
        ("d", CacheStatus::Hit),
        ("b", CacheStatus::VaryMiss), // takes the place of a
        ("c", CacheStatus::Hit),
        ("d", CacheStatus::Hit),
        ("a", CacheStatus::VaryMiss),
    ] {
        assert_eq!(in_language(&app, language).await.outcome().status(), status, "{language}");
    }
}

#[tokio::test(start_paused = true)] // P44
async fn the_cap_is_sixteen_unless_told_otherwise() {
    let app = varying("accept-language").behind(minute());
    for language in 0..17 {
        in_language(&app, &language.to_string()).await;
    }
    for language in 1..17 {
        assert_eq!(in_language(&app, &language.to_string()).await.outcome().status(), CacheStatus::Hit, "{language}");
    }
    assert_eq!(in_language(&app, "0").await.outcome().status(), CacheStatus::VaryMiss);
}

#[tokio::test(start_paused = true)] // P44
async fn a_coded_response_varies_by_the_codings_a_client_takes() {
    let origin = Origin::new(|seen| match seen.field("accept-encoding").contains("gzip") {
        true => ([("content-encoding", "gzip")], "coded").into_response(),
        false => "plain".into_response(),
    });
    let app = origin.behind(minute());
    let coded = |coding| [("accept-encoding", coding)];
    for _ in 0..2 {
        assert_eq!(get_with(&app, "/x", &coded("gzip")).await.text(), "coded");
    }
    assert_eq!(get(&app, "/x").await.text(), "plain");
    assert_eq!(get_with(&app, "/x", &coded("br")).await.text(), "plain");
    let waiting = origin.behind(minute());
    let begun = origin.runs();
    origin.only_the_first(begun);
    let mut clients = Clients::new();
    clients.get(&waiting, "/x", &coded("gzip")).await;
    clients.get(&waiting, "/x", &coded("identity")).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(answers.iter().map(Reply::text).collect::<Vec<_>>(), ["coded", "plain"]);
}

#[tokio::test(start_paused = true)] // P44
async fn a_plain_response_without_vary_takes_the_place_of_all_variants() {
    // RFC 9111 §4.1: of what is stored, that without a Vary field is selected by every request.
    let origin = Origin::new(|seen| match seen.run {
        1 | 2 => ([("vary", "accept-language")], seen.run.to_string()).into_response(),
        run => run.to_string().into_response(),
    });
    let app = origin.behind(minute());
    for language in ["a", "b", "c"] {
        in_language(&app, language).await;
    }
    for language in ["a", "b", "c", "d"] {
        assert_eq!(in_language(&app, language).await.text(), "3", "{language}");
    }
}

#[tokio::test(start_paused = true)] // P44
async fn rfc9111_4_1_variants_may_vary_by_different_fields() {
    let origin = Origin::new(|seen| {
        let vary = if seen.field("accept") == "json" { "accept" } else { "accept, accept-language" };
        ([("vary", vary)], seen.run.to_string())
    });
    let app = origin.behind(minute());
    let ask = |accept: &'static str, language: &'static str| {
        let app = app.clone();
        async move { get_with(&app, "/x", &[("accept", accept), ("accept-language", language)]).await.text().to_owned() }
    };
    assert_eq!(ask("json", "de").await, "1");
    assert_eq!(ask("json", "fr").await, "1");
    assert_eq!(ask("html", "de").await, "2");
    assert_eq!(ask("html", "fr").await, "3");
    assert_eq!(ask("json", "en").await, "1");
    assert_eq!(ask("html", "de").await, "2");
}

#[tokio::test(start_paused = true)] // P25, P44
async fn a_run_that_started_earlier_and_varies_by_other_fields_hides_no_later_one() {
    let origin = Origin::new(|seen| {
        let vary = if seen.run == 1 { "accept" } else { "accept, accept-language" };
        ([("vary", vary)], seen.run.to_string())
    });
    // The first run is held, and the last to land.
    let held = Origin::counting();
    let (answering, gate) = (origin.router(), held.router());
    let slow = Router::new().fallback(move |request: Request| {
        let (origin, gate) = (answering.clone(), gate.clone());
        async move {
            let response = origin.oneshot(request).await;
            if response.as_ref().is_ok_and(|response| response.headers()["vary"] == "accept") {
                get(&gate, "/").await;
            }
            response
        }
    });
    let app = slow.layer(minute().wait_timeout(secs(10)));
    held.only_the_first(0);
    let mut clients = Clients::new();
    clients.get(&app, "/x", &[]).await;
    clients.get(&app, "/x", &[]).await;
    held.begun(1).await;
    pass(10.0).await;
    assert_eq!(origin.runs(), 2, "nobody waits for longer");
    assert_eq!(get(&app, "/x").await.text(), "2");
    held.release();
    assert_eq!(clients.answers().await.iter().map(Reply::text).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((get(&app, "/x").await.text(), origin.runs()), ("2", 2));
}

#[tokio::test(start_paused = true)] // P20, P44
async fn a_stale_variant_is_refreshed_by_its_own_reader_and_the_others_stay() {
    let origin = varying("accept-language");
    let app = origin.behind(minute());
    in_language(&app, "de").await;
    pass(30.0).await;
    in_language(&app, "fr").await;
    pass(31.0).await;
    assert!(in_language(&app, "de").await.outcome().is_stale());
    settle().await;
    assert_eq!((origin.runs(), origin.last().field("accept-language")), (3, "de".to_owned()));
    assert_eq!(in_language(&app, "de").await.text(), "3");
    assert_eq!(in_language(&app, "fr").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P44, P90
async fn compression_inside_is_kept_apart_by_coding() {
    let long = "a long line that is worth its compression; ".repeat(100);
    let body = long.clone();
    let origin = Origin::new(move |_| ([("content-type", "text/plain")], body.clone()));
    let app = origin.router().layer(CompressionLayer::new()).layer(minute());
    let gzip = [("accept-encoding", "gzip")];
    for _ in 0..2 {
        let coded = get_with(&app, "/x", &gzip).await;
        assert_eq!(coded.field("content-encoding"), "gzip");
        assert_eq!(coded.body[..2], [0x1f, 0x8b]);
        assert!(coded.body.len() < long.len());
        let plain = get(&app, "/x").await;
        assert_eq!((plain.field("content-encoding").as_str(), plain.text()), ("", long.as_str()));
    }
    assert_eq!(origin.runs(), 2);
    let hit = get_with(&app, "/x", &gzip).await;
    assert_eq!(hit.outcome().status(), CacheStatus::Hit);
    assert_eq!(hit.field("content-length"), hit.body.len().to_string());
    let head = send(&app, request("HEAD", "/x", &gzip)).await;
    assert_eq!((head.outcome().status(), head.field("content-length")), (CacheStatus::Hit, hit.body.len().to_string()));
}

#[tokio::test(start_paused = true)] // P15, P44
async fn followers_regroup_though_no_memory_keeps_what_selects_among_them() {
    let origin = Origin::with_fields(&[("vary", "accept")]);
    let app = origin.behind(cacheback::Cache::builder().memory(0).build().layer(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for accept in ["a", "b", "c", "d", "e"] {
        clients.get(&app, "/", &[("accept", accept)]).await;
    }
    origin.only_the_first(1);
    settle().await;
    assert_eq!(origin.runs(), 5, "one run per variant, all at once");
    origin.release();
    clients.answers().await;
}
