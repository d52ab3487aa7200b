//! Different requests have different keys, and the same page has one.

#![cfg(feature = "axum")]

mod support;

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Uri},
    middleware::{self, Next},
    response::Response,
};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Http, Key};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use support::http::{Origin, get, get_with, request, secs, send};

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// Whether the second request gets the response of the first.
async fn share(app: &Router, first: (&str, &[(&str, &str)]), second: (&str, &[(&str, &str)])) -> bool {
    let first = get_with(app, first.0, first.1).await;
    get_with(app, second.0, second.1).await.text() == first.text()
}

// ---- paths and queries ----

#[tokio::test(start_paused = true)] // P60
async fn a_uri_is_taken_raw() {
    let uris = [
        "/",
        "//",
        "/a",
        "/a/",
        "/A",
        "/a/b",
        "/a%2Fb",
        "/a%2fb",
        "/a%252Fb",
        "/%61",
        "/a/./b",
        "/a/../b",
        "/a;x=1",
        "/a?",
        "/a??",
        "/a?b",
        "/a?b=",
        "/a?b=&",
        "/a?&b=",
        "/a?b=1&c=2",
        "/a?c=2&b=1",
        "/a?b=1&b=1",
        "/a?b=1",
        "/a?b=%31",
        "/a?b=1%26c=2",
        "/a?b=+",
        "/a?b=%20",
        "/a?/b",
        "/a%3Fb",
        "/caf%C3%A9",
        "/caf%c3%a9",
    ];
    let app = Origin::counting().behind(minute());
    let mut answers = HashSet::new();
    for uri in uris {
        assert!(answers.insert(get(&app, uri).await.body), "{uri} shares with another");
    }
    for uri in uris {
        assert!(!answers.insert(get(&app, uri).await.body), "{uri} is found again");
    }
}

#[tokio::test(start_paused = true)] // P62
async fn a_query_rule_keeps_repeated_parameters_and_hides_what_it_leaves_out() {
    let only = || minute().query_only(["q", "p"]);
    let except = || minute().query_except(["utm", "sid"]);
    let sorted = || minute().query_sorted();
    for (layer, one, other, same) in [
        (only(), "/x?q=1&utm=2", "/x?q=1", true),
        (only(), "/x?q=1&q=2", "/x?q=1", false),
        (only(), "/x?q=1&q=2", "/x?q=2&q=1", false),
        (only(), "/x?q=1&p=2", "/x?p=2&q=1", false),
        (only(), "/x?utm=1", "/x", true),
        (only(), "/x?utm=1", "/x?", true),
        (only(), "/x?q", "/x?q=", false),
        (only(), "/x?Q=1", "/x", true),
        (only(), "/x?%71=1", "/x", true),
        (only(), "/x?utm=q=1", "/x", true),
        (only(), "/x?utm=1;q=2", "/x", true),
        (except(), "/x?q=1&utm=2", "/x?q=1", true),
        (except(), "/x?utm=2&q=1&sid=3&q=1", "/x?q=1&q=1", true),
        (except(), "/x?q=1&q=1", "/x?q=1", false),
        (except(), "/x?utm", "/x", true),
        (except(), "/x?utmx=1", "/x", false),
        (except(), "/x?%75tm=1", "/x", false),
        (except(), "/x?q=1;utm=2", "/x?q=1", false),
        (sorted(), "/x?b=1&a=2", "/x?a=2&b=1", true),
        (sorted(), "/x?b=1&a=2&b=0", "/x?a=2&b=1&b=0", true),
        (sorted(), "/x?b=1&b=0", "/x?b=0&b=1", false),
        (sorted(), "/x?b&a", "/x?a&b=", false),
        (only().query_sorted(), "/x?q=1&x=1&p=2&q=0", "/x?p=2&q=1&q=0", true),
        (minute(), "/x?b=1&a=2", "/x?a=2&b=1", false),
        (minute(), "/x?q=1&utm=2", "/x?q=1", false),
    ] {
        let origin = Origin::new(|seen| seen.uri.to_string());
        assert_eq!(share(&origin.behind(layer), (one, &[]), (other, &[])).await, same, "{one} {other}");
        assert_eq!(origin.runs(), if same { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)] // P62, P66
async fn a_query_rule_shows_the_handler_what_it_keys() {
    for (layer, sent, seen) in [
        (minute().query_only(["q"]), "/x?utm=1&q=1&p=2&q=2", "/x?q=1&q=2"),
        (minute().query_only(["q"]), "/x?utm=1", "/x"),
        (minute().query_except(["utm"]), "/x?utm=1&q=%20&utm=2", "/x?q=%20"),
        (minute().query_sorted(), "http://a.example/x?b=1&a=2&b=0", "http://a.example/x?a=2&b=1&b=0"),
        (minute(), "/x?b=1&a=2&b=0", "/x?b=1&a=2&b=0"),
    ] {
        let origin = Origin::counting();
        get(&origin.behind(layer), sent).await;
        assert_eq!(origin.last().uri.to_string(), seen);
        assert_eq!(origin.last().original.map(|uri| uri.to_string()).as_deref(), Some(seen));
    }
}

// ---- authority ----

#[tokio::test(start_paused = true)] // P62
async fn rfc9110_4_2_3_an_authority_is_normalised_so_that_both_versions_of_http_share() {
    let http_2 = |uri| (uri, &[][..]);
    for (one, other, same) in [
        (("/x", &[("host", "a.example")][..]), http_2("http://a.example/x"), true),
        (("/x", &[("host", "a.example")]), http_2("https://a.example/x"), true),
        (("/x", &[("host", "a.example")]), ("http://a.example/x", &[("host", "a.example")]), true),
        (("/x", &[("host", "A.Example")]), ("/x", &[("host", "a.example")]), true),
        (("/x", &[("host", "a.example:80")]), ("/x", &[("host", "a.example")]), true),
        (http_2("https://A.example:443/x"), ("/x", &[("host", "a.example")]), true),
        (("http://a.example/x", &[("host", "A.example:80")]), ("/x", &[("host", "a.example")]), true),
        (("/x", &[("host", "[::1]:80")]), http_2("http://[::1]/x"), true),
        (("/x", &[("host", "a.example:8080")]), http_2("http://a.example:8080/x"), true),
        (("/x", &[("host", "a.example")]), ("/x", &[("host", "b.example")]), false),
        (("/x", &[("host", "a.example")]), ("/x", &[]), false),
        (("/x", &[("host", "")]), ("/x", &[]), false),
        (("/x", &[("host", "a.example:81")]), ("/x", &[("host", "a.example")]), false),
        (("/x", &[("host", "a.example:443")]), ("/x", &[("host", "a.example")]), false),
        (http_2("https://a.example:80/x"), http_2("https://a.example/x"), false),
        (http_2("http://a.example:443/x"), http_2("http://a.example/x"), false),
        (http_2("http://a.example/x"), http_2("http://b.example/x"), false),
        (http_2("http://a.example/x"), http_2("http://a.example/y"), false),
        (("/x", &[("host", "a.example.")]), ("/x", &[("host", "a.example")]), false),
    ] {
        assert_eq!(share(&Origin::counting().behind(minute()), one, other).await, same, "{one:?} {other:?}");
    }
}

#[tokio::test(start_paused = true)] // P62
async fn two_authorities_that_are_one_are_no_doubt() {
    let app = Origin::counting().behind(minute());
    let both = get_with(&app, "http://a.example:80/x", &[("host", "A.EXAMPLE")]).await;
    assert_eq!(both.outcome().status(), CacheStatus::UriMiss);
    let differ = get_with(&app, "http://a.example/x", &[("host", "b.example")]).await;
    assert_eq!(differ.outcome().detail(), Some(Detail::Authority));
}

#[tokio::test(start_paused = true)] // P62, P66
async fn a_handler_sees_an_authority_in_the_spelling_of_the_key() {
    for (uri, host, seen, host_seen) in [
        ("/x", "a.example:80", "/x", "a.example"),
        ("/x", "A.Example:", "/x", "a.example"),
        ("/x", "a.example:8080", "/x", "a.example:8080"),
        ("http://A.EXAMPLE:80/x?q", "a.example", "http://a.example/x?q", "a.example"),
        ("https://a.example:443/x", "A.example:443", "https://a.example/x", "a.example"),
        ("https://a.example:80/x", "a.example:80", "https://a.example:80/x", "a.example:80"),
    ] {
        let origin = Origin::new(|seen| ([("vary", "host")], seen.field("host")));
        let app = origin.behind(minute());
        let first = get_with(&app, uri, &[("host", host)]).await;
        assert_eq!(first.text(), host_seen, "{uri} {host}");
        assert_eq!(origin.last().uri, *seen);
        assert_eq!(origin.last().uri.to_string(), seen);
        assert_eq!(origin.last().original.map(|uri| uri.to_string()).as_deref(), Some(seen));
        for host in [host, host_seen] {
            assert_eq!(get_with(&app, uri, &[("host", host)]).await.outcome().status(), CacheStatus::Hit, "{host}");
        }
    }
}

// ---- routers and middleware ----

#[tokio::test(start_paused = true)] // P60, P62
async fn routers_that_strip_a_prefix_keep_their_pages_apart() {
    let origin = Origin::new(|seen| format!("{} {:?}", seen.run, seen.original));
    let inside = || origin.router();
    let cache = Cache::new();
    let layer = cache.layer(secs(60));
    // The layer inside of each nested router: both see `/x`.
    let app = Router::new().nest("/one", inside().layer(layer.clone())).nest("/two", inside().layer(layer.clone()));
    assert!(!share(&app, ("/one/x", &[]), ("/two/x", &[])).await);
    assert!(share(&app, ("/one/x", &[]), ("/one/x", &[])).await);
    assert_eq!(origin.last().uri.path(), "/x");
    assert_eq!(cache.purge_path("/one/x").await.expect("purged").entries, 1, "by the path as it was received");
    assert_eq!(get(&app, "/one/x").await.outcome().status(), CacheStatus::UriMiss);
    assert_eq!(get(&app, "/two/x").await.outcome().status(), CacheStatus::Hit);
    // A handler that sees `/one/x` may answer differently from one that sees `/x`.
    assert_eq!(get(&app, "/one/x").await.outcome().status(), CacheStatus::Hit);
    assert_eq!(get(&inside().layer(layer), "/one/x").await.outcome().status(), CacheStatus::UriMiss);
}

#[tokio::test(start_paused = true)] // P62
async fn both_versions_of_http_share_inside_a_nested_router() {
    let origin = Origin::counting();
    let app = Router::new().nest("/one", origin.router().layer(minute()));
    assert!(share(&app, ("/one/x", &[("host", "a.example")]), ("http://a.example/one/x", &[])).await);
    assert!(!share(&app, ("http://a.example/one/x", &[]), ("http://b.example/one/x", &[])).await);
}

/// Gives a request the URI that its `x-rewrite` asks for: what a router's middleware may do after routing.
async fn rewrite(mut request: Request, next: Next) -> Response {
    if let Some(uri) = request.headers_mut().remove("x-rewrite") {
        *request.uri_mut() = uri.to_str().ok().and_then(|uri| uri.parse().ok()).expect("a URI");
    }
    next.run(request).await
}

#[tokio::test(start_paused = true)] // P60
async fn what_a_middleware_rewrites_is_keyed_as_received_and_as_seen() {
    let origin = Origin::counting();
    let app = Router::new().fallback_service(origin.behind(minute())).layer(middleware::from_fn(rewrite));
    for (one, other, same) in [
        (("/x", "/y"), ("/x", "/y"), true),
        (("/x", "/y"), ("/x", "/z"), false),
        (("/x", "/y"), ("/w", "/y"), false),
        (("/x", "/y?q=1"), ("/x", "/y?q=2"), false),
        (("/x?q=1", "/y"), ("/x?q=2", "/y"), false),
        (("/x", "/y"), ("/x", "/x"), false),
        // A rewritten URI has lost its authority, and HTTP/2 has no Host: the received one tells the hosts apart.
        (("http://a.example/x", "/y"), ("http://b.example/x", "/y"), false),
        (("http://a.example/x", "/y"), ("http://a.example/x", "/y"), true),
        (("http://a.example/x", "/y"), ("http://a.example/x", "http://a.example/y"), false),
        (("http://a.example/x", "http://b.example/y"), ("http://a.example/x", "http://c.example/y"), false),
        (("http://a.example/x", "http://b.example/x"), ("http://a.example/x", "http://a.example/x"), false),
    ] {
        let (first, second) = ([("x-rewrite", one.1)], [("x-rewrite", other.1)]);
        let shares = share(&app, (one.0, &first), (other.0, &second)).await;
        assert_eq!(shares, same, "{one:?} {other:?}");
    }
}

#[tokio::test(start_paused = true)] // P36
async fn rfc9111_4_4_an_unsafe_request_behind_a_rewrite_purges_on_its_own_host_alone() {
    let origin = Origin::counting();
    let app = Router::new().fallback_service(origin.behind(minute())).layer(middleware::from_fn(rewrite));
    let fields = [("x-rewrite", "/y")];
    for host in ["a", "b"] {
        get_with(&app, &format!("http://{host}.example/x"), &fields).await;
    }
    send(&app, request("POST", "http://a.example/x", &fields)).await;
    for (host, status) in [("a", CacheStatus::UriMiss), ("b", CacheStatus::Hit)] {
        let answer = get_with(&app, &format!("http://{host}.example/x"), &fields).await;
        assert_eq!(answer.outcome().status(), status, "{host}");
    }
}

// ---- pairs of requests at random ----

/// The rules of a layer, chosen at random.
#[derive(Clone, Debug)]
struct Rules {
    header: bool,
    cookies: u8,
    query: u8,
    sorted: bool,
    function: bool,
}

impl Rules {
    fn layer(&self) -> CachebackLayer<Http> {
        // Sealed, so that what no rule keys is not seen either: then those who share must have one view.
        let mut layer = minute().sealed();
        if self.header {
            layer = layer.key_header("x-a");
        }
        match self.cookies {
            0 => {}
            1 => layer = layer.ignore_cookies(),
            2 => layer = layer.key_cookie("c"),
            _ => layer = layer.key_cookie("c").key_cookie("d"),
        }
        match self.query {
            0 => {}
            1 => layer = layer.query_only(["p", ""]),
            _ => layer = layer.query_except(["p"]),
        }
        if self.sorted {
            layer = layer.query_sorted();
        }
        if self.function {
            layer = layer.key_by(|parts| Some(all(&parts.headers, "x-b").concat()));
        }
        layer
    }

    /// What is keyed of a request, told in another way than the layer does it; `None` for one that is not looked up.
    fn keyed(&self, sent: &Sent) -> Option<Vec<String>> {
        let request = sent.request();
        let headers = request.headers();
        let lines = |name: &str| format!("{:?}", all(headers, name));
        let uri = request.uri();
        let host = match (uri.authority(), all(headers, "host").as_slice()) {
            (Some(own), []) => own.to_string(),
            (Some(own), [host]) if plain(own.as_str()) == plain(&String::from_utf8_lossy(host)) => own.to_string(),
            (None, []) => "none".to_owned(),
            (None, [host]) => format!("host {}", String::from_utf8_lossy(host)),
            _ => return None,
        };
        let mut keyed = vec![plain(host.trim_start_matches("host ")), uri.path().to_owned(), self.kept(uri.query())];
        if self.header {
            keyed.push(lines("x-a"));
        }
        let cookies: Vec<_> =
            all(headers, "cookie").iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let pairs = |wanted: &str| -> Vec<String> {
            let pairs = cookies.iter().flat_map(|line| line.split(';')).map(str::trim);
            pairs.filter(|pair| pair.split('=').next().is_some_and(|name| name == wanted)).map(Into::into).collect()
        };
        match self.cookies {
            0 if cookies.is_empty() || self.function => keyed.push(String::new()),
            0 => return None,
            1 => {}
            2 => keyed.push(format!("{:?}", pairs("c"))),
            _ => keyed.push(format!("{:?} {:?}", pairs("c"), pairs("d"))),
        }
        if self.function {
            keyed.push(format!("{:?}", all(headers, "x-b").concat()));
        }
        keyed.extend(["forwarded", "x-forwarded-host"].map(lines));
        Some(keyed)
    }

    fn kept(&self, query: Option<&str>) -> String {
        let Some(query) = query else { return "none".to_owned() };
        let name = |pair: &&str| pair.split('=').next().unwrap_or_default().to_owned();
        let mut pairs: Vec<_> = query.split('&').collect();
        match self.query {
            0 => {}
            1 => pairs.retain(|pair| ["p", ""].contains(&name(pair).as_str())),
            _ => pairs.retain(|pair| name(pair) != "p"),
        }
        if self.sorted {
            pairs.sort_by_key(name);
        }
        if pairs.is_empty() { "none".to_owned() } else { format!("?{}", pairs.join("&")) }
    }
}

/// A request, chosen at random.
#[derive(Clone, Debug)]
struct Sent {
    uri: String,
    fields: Vec<(&'static str, String)>,
}

impl Sent {
    fn request(&self) -> Request<Body> {
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        request("GET", &self.uri, &fields)
    }
}

fn all(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|line| line.as_bytes().to_vec()).collect()
}

fn plain(authority: &str) -> String {
    authority.to_ascii_lowercase().trim_end_matches(":80").to_owned()
}

fn rules() -> impl Strategy<Value = Rules> {
    (any::<bool>(), 0..4_u8, 0..3_u8, any::<bool>(), any::<bool>())
        .prop_map(|(header, cookies, query, sorted, function)| Rules { header, cookies, query, sorted, function })
}

/// Few letters and short parts: pairs that differ only in where a part ends do occur.
fn sent() -> impl Strategy<Value = Sent> {
    let host = prop::sample::select(vec!["", "", "http://a", "http://A:80", "http://b"]);
    let path = prop::sample::select(vec!["/", "/x", "/x/", "/%78"]);
    let pair = prop::sample::select(vec!["p=1", "p=2", "q=1", "q", "q=", "", "r=&"]);
    let query = prop::option::of(prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&")));
    let cookie = prop::sample::select(vec!["c=1", "c=2", "d=1", "c=1; d=1", "d=1;c=1", "e=1", "c", ""]);
    let value = || prop::sample::select(vec!["", "1", "a", "1a", "a1"]);
    let field = prop_oneof![
        value().prop_map(|value| ("x-a", value)),
        value().prop_map(|value| ("x-b", value)),
        value().prop_map(|value| ("forwarded", value)),
        value().prop_map(|value| ("x-forwarded-host", value)),
        value().prop_map(|value| ("x-other", value)),
        cookie.prop_map(|value| ("cookie", value)),
        prop::sample::select(vec!["a", "A", "b", "a:80"]).prop_map(|value| ("host", value)),
        prop::sample::select(vec!["x-a", "cookie, x-b", "forwarded"]).prop_map(|value| ("connection", value)),
        Just(("if-none-match", "\"a\"")),
    ];
    (host, path, query, prop::collection::vec(field, 0..4)).prop_map(|(host, path, query, fields)| Sent {
        uri: format!("{host}{path}{}", query.map(|query| format!("?{query}")).unwrap_or_default()),
        fields: fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
    })
}

/// Two requests; every second time the other one is the first with one thing changed, since two at random seldom share.
fn pair() -> impl Strategy<Value = (Sent, Sent)> {
    (sent(), sent(), 0..6_u8).prop_map(|(one, other, how)| {
        let mut near = one.clone();
        match how {
            0 => near.uri.clone_from(&other.uri),
            1 => near.fields.clone_from(&other.fields),
            2 => near.fields.extend(other.fields.first().cloned()),
            3 => near.fields.reverse(),
            4 => drop(near.fields.pop()),
            _ => near = other,
        }
        (one, near)
    })
}

/// The view of a run, in which the authority stands where HTTP/1 has it.
fn view(seen: &support::http::Seen) -> String {
    let mut seen = seen.clone();
    let plainly = |uri: &Uri| uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let authority = seen.uri.authority().map(ToString::to_string);
    let authority = authority.or(seen.headers.remove("host").map(|host| format!("{host:?}").replace('"', "")));
    seen.headers.remove("host");
    seen.uri = plainly(&seen.uri).parse().expect("a URI");
    seen.original = seen.original.map(|uri| plainly(&uri).parse().expect("a URI"));
    format!("{authority:?} {}", seen.view())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/keys.proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test] // P60, P66
    fn two_requests_share_if_and_only_if_all_that_is_keyed_is_equal(rules in rules(), (one, other) in pair()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let origin = Origin::counting();
            let app = origin.behind(rules.layer());
            send(&app, one.request()).await;
            let second = send(&app, other.request()).await;
            let (a, b) = (rules.keyed(&one), rules.keyed(&other));
            prop_assert_eq!(second.text() == "1", a.is_some() && a == b, "keyed: {:?} {:?}", &a, &b);
            if second.text() == "1" {
                // What the second would have been run with is what the first was run with.
                let apart = Origin::counting();
                send(&apart.behind(rules.layer()), other.request()).await;
                prop_assert_eq!(view(&apart.last()), view(&origin.last()));
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)] // P60
async fn a_typed_key_is_never_taken_for_a_uri() {
    let layer = minute();
    let app = Origin::counting().behind(layer.clone());
    get(&app, "/x").await;
    for key in ["/x", "", "\u{1}\0\0\0\u{2}/x"] {
        assert_eq!(layer.cache().purge(Key::from(key)).await.expect("purged").entries, 0);
    }
    assert_eq!(get(&app, "/x").await.outcome().status(), CacheStatus::Hit);
}

#[tokio::test(start_paused = true)] // P60, P61
async fn thousands_of_pages_are_each_found_again() {
    let app = Origin::new(|seen| seen.uri.to_string()).behind(minute());
    // Names that collide under a hash without a seed are as good as any: what decides is the whole key.
    let names: Vec<_> = (0..4_000_u32).map(|n| format!("/{:x}", RandomState::new().hash_one(n))).collect();
    for name in &names {
        assert_eq!(get(&app, name).await.text(), name);
    }
    for name in &names {
        let again = get(&app, name).await;
        assert_eq!((again.text(), again.outcome().status()), (name.as_str(), CacheStatus::Hit));
    }
}
