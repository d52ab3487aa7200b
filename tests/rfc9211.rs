//! `Cache-Status` (RFC 9211), read by a parser that is not ours, for all that can become of a request.

use axum::{Router, response::IntoResponse};
use cacheback::{Cache, CacheStatus, CachebackLayer, ForceRefresh, Freshness, Outcome};
use http::StatusCode;
use sfv::{BareItem, Item, List, ListEntry, Parser};

use crate::support::http::{Clients, Origin, Reply, get, get_with, headers, pass, request, saying, secs, send, settle};

mod support;

/// The members of the field, over all of its lines.
fn members(reply: &Reply) -> Vec<Item> {
    let text = reply.field("cache-status").replace('|', ", ");
    let list: List = Parser::new(&text).parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let item = |entry| if let ListEntry::Item(item) = entry { item } else { panic!("{text}") };
    list.into_iter().map(item).collect()
}

fn parameter<'a>(member: &'a Item, name: &str) -> Option<&'a BareItem> {
    member.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

/// Whether the last member says what the outcome says, and nothing else.
fn agrees(reply: &Reply) {
    let (members, outcome) = (members(reply), reply.outcome());
    let own = members.last().expect("there is a member");
    let number = |name| parameter(own, name).map(|value| i64::from(value.as_integer().expect("a number")));
    let token = |name| parameter(own, name).map(|value| value.as_token().expect("a token").as_str().to_owned());
    let reason = match outcome.status() {
        CacheStatus::Hit => None,
        status => status.as_str().strip_prefix("fwd=").map(str::to_owned),
    };
    assert_eq!(own.bare_item.as_token().map(|name| name.as_str()), Some("cacheback"));
    assert_eq!(parameter(own, "hit").is_some(), outcome.status() == CacheStatus::Hit);
    assert_eq!(token("fwd"), reason);
    assert_eq!(number("fwd-status"), outcome.forward_status().map(i64::from));
    assert_eq!(number("ttl"), outcome.ttl());
    assert_eq!(parameter(own, "stored").is_some(), outcome.is_stored());
    assert_eq!(parameter(own, "collapsed").is_some(), outcome.is_collapsed());
    assert_eq!(token("detail"), outcome.detail().map(|detail| detail.as_str().to_owned()));
    assert_eq!(parameter(own, "key"), None, "it is the client's secret as much as ours");
}

/// The outcomes of all kinds of requests, each checked against its field.
#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_every_outcome_is_one_well_formed_member() {
    let origin = Origin::new(|seen| match seen.uri.path() {
        "/private" => ([("cache-control", "private")], "x").into_response(),
        "/failing" if seen.run > 1 => StatusCode::BAD_GATEWAY.into_response(),
        _ => ([("vary", "accept-language")], seen.run.to_string()).into_response(),
    });
    let freshness = Freshness::exact(secs(60)).stale_while_revalidate(secs(60)).stale_if_error(secs(600));
    let app = origin.behind(CachebackLayer::new(freshness).honor_request_directives());
    let mut seen = Vec::new();
    let mut check = |reply: Reply, status: CacheStatus| {
        agrees(&reply);
        assert_eq!(reply.outcome().status(), status, "{}", reply.said());
        seen.push(status);
    };
    check(get(&app, "/failing").await, CacheStatus::UriMiss);
    pass(200.0).await;
    check(get(&app, "/failing").await, CacheStatus::Stale);
    check(get(&app, "/failing").await, CacheStatus::Hit);
    check(get(&app, "/x?secret=1").await, CacheStatus::UriMiss);
    check(get(&app, "/x?secret=1").await, CacheStatus::Hit);
    check(get_with(&app, "/x?secret=1", &[("accept-language", "de")]).await, CacheStatus::VaryMiss);
    check(get_with(&app, "/x?secret=1", &[("cache-control", "no-cache")]).await, CacheStatus::Request);
    check(get_with(&app, "/x?secret=1", &[("if-none-match", "*")]).await, CacheStatus::Hit);
    check(send(&app, request("HEAD", "/x?secret=1", &[])).await, CacheStatus::Hit);
    check(send(&app, request("HEAD", "/y", &[])).await, CacheStatus::UriMiss);
    check(send(&app, request("POST", "/x", &[])).await, CacheStatus::Method);
    check(send(&app, request("OPTIONS", "/x", &[])).await, CacheStatus::Method);
    check(get_with(&app, "/x", &[("cookie", "a=b")]).await, CacheStatus::Bypass);
    check(get_with(&app, "/n", &[("cache-control", "no-store")]).await, CacheStatus::UriMiss);
    check(get(&app, "/private").await, CacheStatus::UriMiss);
    check(get(&app, "/private").await, CacheStatus::UriMiss);
    let mut forced = request("GET", "/x?secret=1", &[]);
    forced.extensions_mut().insert(ForceRefresh);
    check(send(&app, forced).await, CacheStatus::Request);
    pass(61.0).await;
    check(get(&app, "/x?secret=1").await, CacheStatus::Hit);
    let all = [
        CacheStatus::Hit,
        CacheStatus::Bypass,
        CacheStatus::Method,
        CacheStatus::UriMiss,
        CacheStatus::VaryMiss,
        CacheStatus::Stale,
        CacheStatus::Request,
    ];
    assert!(all.iter().all(|status| seen.contains(status)), "{seen:?}");
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_6_those_who_shared_a_run_say_so() {
    let origin = Origin::counting();
    let app = origin.behind(CachebackLayer::new(secs(60)));
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for _ in 0..3 {
        clients.get(&app, "/", &[]).await;
    }
    origin.release();
    let answers = clients.answers().await;
    answers.iter().for_each(agrees);
    let collapsed: Vec<_> = answers.iter().map(|answer| answer.outcome().is_collapsed()).collect();
    assert_eq!(collapsed, [false, true, true]);
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_4_a_lifetime_of_any_length_is_an_integer_that_fits() {
    let freshness = Freshness::exact(std::time::Duration::MAX);
    let app = Origin::new(move |_| saying(freshness, "x")).behind(CachebackLayer::new(secs(1)));
    get(&app, "/").await;
    let reply = get(&app, "/").await;
    let member = members(&reply).pop().unwrap();
    let ttl = parameter(&member, "ttl").and_then(BareItem::as_integer).map(i64::from);
    assert_eq!(ttl, Some(999_999_999_999_999));
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_what_others_said_is_kept_in_front_of_ours() {
    let lines = ["\"an origin's\"; fwd=miss;detail=\"a, b\"", "", "cdn;hit"];
    let origin = Origin::new(move |seen| {
        let fields = lines.map(|line| ("cache-status", line));
        let again = seen.headers.contains_key("if-none-match");
        let status = if again { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut fields = if again { headers(&[("cache-status", "cdn;fwd=stale")]) } else { headers(&fields[..]) };
        fields.extend(headers(&[("etag", "\"a\""), ("cache-control", "max-age=60")]));
        (status, fields, "x")
    });
    let app = origin.behind(CachebackLayer::http());
    let names = |reply: &Reply| {
        let names = reply.field("cache-status").replace("||", "|");
        names.split('|').flat_map(|line| Parser::new(line).parse::<List>().unwrap()).count()
    };
    let stored = get(&app, "/").await;
    let hit = get(&app, "/").await;
    let past = send(&app, request("OPTIONS", "/", &[])).await;
    for reply in [&stored, &hit, &past] {
        assert_eq!(names(reply), 3, "{}", reply.field("cache-status"));
        let text = reply.field("cache-status").replace("||", "|").replace('|', ", ");
        assert!(text.starts_with("\"an origin's\"; fwd=miss;detail=\"a, b\", cdn;hit, cacheback; "), "{text}");
    }
    // A cache further in speaks of this exchange: what it said of the one before is no longer true.
    pass(60.0).await;
    let validated = get(&app, "/").await;
    let said = validated.field("cache-status").replace('|', ", ");
    assert_eq!(said, "cdn;fwd=stale, cacheback; fwd=stale; fwd-status=304; stored");
    assert_eq!(get(&app, "/").await.field("cache-status"), "cdn;fwd=stale, cacheback; hit; ttl=60");
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_a_malformed_field_is_passed_on_as_it_is_and_ours_comes_after_it() {
    for malformed in ["HIT", "hit from cache (yes)", "a; b=", "\"open", "a,,b", "\u{e9}"] {
        let origin = Origin::with_fields(&[("cache-status", malformed)]);
        let app = origin.behind(CachebackLayer::new(secs(60)));
        let (stored, hit) = (get(&app, "/").await, get(&app, "/").await);
        for (reply, own) in
            [(stored, "cacheback; fwd=uri-miss; fwd-status=200; stored"), (hit, "cacheback; hit; ttl=60")]
        {
            let said = reply.field("cache-status").replace('|', ", ");
            assert_eq!(said, format!("{malformed}, {own}"));
        }
    }
}

#[tokio::test(start_paused = true)] // P49, P91
async fn rfc9211_2_caches_around_one_another_speak_in_the_order_of_the_response() {
    let inner = CachebackLayer::new(secs(60)).cache_status("inner");
    let outer = Cache::new();
    let app: Router =
        Origin::counting().behind(inner).layer(outer.layer(Freshness::exact(secs(10))).cache_status("outer"));
    let names = |reply: &Reply| -> Vec<String> {
        members(reply).iter().map(|member| member.bare_item.as_token().unwrap().as_str().to_owned()).collect()
    };
    for _ in 0..2 {
        assert_eq!(names(&get(&app, "/").await), ["inner", "outer"]);
    }
    outer.purge_path("/").await.unwrap();
    let reply = get(&app, "/").await;
    assert!(parameter(&members(&reply)[0], "hit").is_some() && parameter(&members(&reply)[1], "fwd").is_some());
}

#[tokio::test(start_paused = true)] // P49
async fn rfc9211_2_a_response_that_the_cache_makes_up_itself_has_no_member_and_an_outcome_all_the_same() {
    let app = Origin::counting().behind(CachebackLayer::http().honor_request_directives());
    let reply = get_with(&app, "/", &[("cache-control", "only-if-cached")]).await;
    assert!(!reply.has("cache-status"));
    assert_eq!(reply.extensions.get::<Outcome>().map(Outcome::status), Some(CacheStatus::Unsatisfied));
    // One that is made of what is stored has one (a 304).
    let app = Origin::with_fields(&[("etag", "\"a\"")]).behind(CachebackLayer::new(secs(60)));
    get(&app, "/").await;
    let reply = get_with(&app, "/", &[("if-none-match", "\"a\"")]).await;
    settle().await;
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
    agrees(&reply);
}
