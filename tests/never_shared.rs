//! What may be private is neither stored nor shared, and no request can poison what others get.

mod support;

use axum::{
    body::Body,
    http::{HeaderValue, Request},
    response::IntoResponse,
};
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Freshness, Http};
use support::http::{Clients, Fields, Origin, Reply, get, get_with, headers, pass, request, secs, send, settle};

fn minute() -> CachebackLayer<Http> {
    CachebackLayer::new(secs(60))
}

/// Whether two requests get one response: one after the other, and at one time. Both must agree.
async fn share(layer: CachebackLayer<Http>, first: Request<Body>, second: Request<Body>) -> bool {
    let (a, b) = (twice(first).await, twice(second).await);
    let what = format!("{:?} {:?}", a.0, b.0);

    let origin = Origin::counting();
    let app = origin.behind(layer.clone());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    clients.send(&app, a.0).await;
    clients.send(&app, b.0).await;
    origin.release();
    let answers = clients.answers().await;
    let at_one_time = answers[0].text() == answers[1].text();

    layer.cache().purge(cacheback::Scope::everything()).await.expect("purged");
    let (first, second) = (send(&app, a.1).await, send(&app, b.1).await);
    let in_turn = first.text() == second.text();
    assert_eq!(at_one_time, in_turn, "{what}");
    in_turn
}

async fn twice(request: Request<Body>) -> (Request<Body>, Request<Body>) {
    let (parts, _) = request.into_parts();
    (Request::from_parts(parts.clone(), Body::empty()), Request::from_parts(parts, Body::empty()))
}

fn x(fields: &[(&str, &str)]) -> Request<Body> {
    request("GET", "/x", fields)
}

/// Fields with any bytes that a field may have.
fn x_raw(name: &'static str, lines: &[&[u8]]) -> Request<Body> {
    let mut request = x(&[]);
    for line in lines {
        request.headers_mut().append(name, HeaderValue::from_bytes(line).expect("a value"));
    }
    request
}

const CREDENTIALS: [&str; 37] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "x-session-token",
    "x-csrf-token",
    "x-xsrf-token",
    "private-token",
    "x-amz-security-token",
    "x-remote-user",
    "remote-user",
    "x-user",
    "x-user-id",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-client-cert",
    "x-ssl-client-cert",
    "client-cert",
    "client-cert-chain",
    "cf-access-jwt-assertion",
    "cf-access-authenticated-user-email",
    "tailscale-user-login",
    "dpop",
    // Families: any name that begins so.
    "x-auth-request-user",
    "x-auth-request-anything",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-goog-iap-jwt-assertion",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal",
    "x-ms-client-principal-name",
];

#[tokio::test(start_paused = true)] // P43
async fn a_request_with_a_credential_goes_past_the_cache() {
    for name in CREDENTIALS {
        for value in ["secret", ""] {
            let origin = Origin::with_fields(&[("cache-control", "public, max-age=60")]);
            let app = origin.behind(minute());
            let past = get_with(&app, "/x", &[(name, value)]).await;
            assert_eq!(past.said(), "fwd=bypass; fwd-status=200; detail=credential", "{name}");
            assert_eq!(past.field("cache-status"), "cacheback; fwd=bypass; fwd-status=200; detail=credential");
            assert_eq!(origin.last().field(name), value, "the handler gets it");
            assert_eq!(get(&app, "/x").await.text(), "2", "{name}: its response was not stored");
            assert_eq!(get_with(&app, "/x", &[(name, value)]).await.text(), "3", "{name}: it is not looked up");
            assert_eq!(get_with(&app, "/x", &[(name, "")]).await.text(), "4", "{name}: nor is an empty one");
            assert_eq!(get(&app, "/x").await.text(), "2", "{name}: it replaced nothing");
        }
        assert!(!share(minute(), x(&[(name, "a")]), x(&[(name, "a")])).await, "{name}");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn a_request_with_a_credential_is_neither_served_stale_nor_rerun() {
    let origin = Origin::counting();
    let app = origin.behind(minute());
    get(&app, "/x").await;
    pass(61.0).await;
    let past = get_with(&app, "/x", &[("authorization", "secret")]).await;
    assert_eq!((past.text(), past.outcome().status()), ("2", CacheStatus::Bypass));
    settle().await;
    assert_eq!(origin.runs(), 2, "no run in the background");
    assert_eq!(get(&app, "/x").await.text(), "1");
}

#[tokio::test(start_paused = true)] // P43
async fn a_credential_is_found_whatever_case_its_name_was_sent_in_and_wherever_it_stands() {
    for name in ["Authorization", "AUTHORIZATION", "X-Auth-REQUEST-User", "Cookie"] {
        let app = Origin::counting().behind(minute());
        let name: axum::http::HeaderName = name.parse().expect("a name");
        let mut request = x(&(0..200).map(|_| ("x-filler", "1")).collect::<Vec<_>>());
        request.headers_mut().append(name.clone(), HeaderValue::from_static("a=1"));
        assert_eq!(send(&app, request).await.outcome().status(), CacheStatus::Bypass, "{name}");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn fields_that_only_look_like_credentials_are_none() {
    for name in ["x-auth-requests", "authorizations", "x-api-keys", "x-ms-tok", "x-goog", "accept"] {
        assert!(share(minute(), x(&[(name, "1")]), x(&[(name, "1")])).await, "{name}");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn a_credential_of_the_applications_own_counts_as_well() {
    let layer = || minute().credential_header("x-team-pass");
    assert!(!share(layer(), x(&[("x-team-pass", "a")]), x(&[("x-team-pass", "a")])).await);
    assert!(share(layer(), x(&[]), x(&[])).await);
    assert!(share(minute(), x(&[("x-team-pass", "a")]), x(&[("x-team-pass", "a")])).await);
}

#[tokio::test(start_paused = true)] // P43
async fn a_keyed_credential_is_covered_each_value_for_itself_and_no_other_one() {
    for name in CREDENTIALS.into_iter().chain(["cookie"]) {
        let layer = || minute().key_header(name);
        assert!(share(layer(), x(&[(name, "a=1")]), x(&[(name, "a=1")])).await, "{name}");
        for (one, other) in [
            (&[(name, "a=1")][..], &[(name, "a=2")][..]),
            (&[(name, "a=1")], &[(name, "")]),
            (&[(name, "a=1")], &[]),
            (&[(name, "")], &[]),
            (&[(name, "a=1"), (name, "b=1")], &[(name, "a=1, b=1")]),
            (&[(name, "a=1"), (name, "b=1")], &[(name, "b=1"), (name, "a=1")]),
            (&[(name, "a=1"), (name, "")], &[(name, "a=1")]),
        ] {
            assert!(!share(layer(), x(one), x(other)).await, "{one:?} {other:?}");
        }
        let another = if name == "dpop" { "authorization" } else { "dpop" };
        let both = || x(&[(name, "a=1"), (another, "a")]);
        assert!(!share(layer(), both(), both()).await, "{name} covers no {another}");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn a_keyed_member_of_a_family_covers_no_other_member() {
    let layer = || minute().key_header("x-auth-request-user");
    assert!(share(layer(), x(&[("x-auth-request-user", "a")]), x(&[("x-auth-request-user", "a")])).await);
    let both = || x(&[("x-auth-request-user", "a"), ("x-auth-request-groups", "admin")]);
    assert!(!share(layer(), both(), both()).await);
}

#[tokio::test(start_paused = true)] // P43
async fn a_request_with_a_cookie_goes_past_the_cache() {
    for cookie in ["sid=1", "", "theme=dark", ";", "garbage"] {
        let origin = Origin::counting();
        let app = origin.behind(minute());
        let past = get_with(&app, "/x", &[("cookie", cookie)]).await;
        assert_eq!(past.said(), "fwd=bypass; fwd-status=200; detail=cookie");
        assert_eq!(origin.last().field("cookie"), cookie);
        assert_eq!(get(&app, "/x").await.text(), "2");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn a_keyed_cookie_is_forwarded_and_keyed_and_no_other_one_is() {
    let layer = || minute().key_cookie("theme");
    for (one, other, same) in [
        ("theme=dark", "theme=dark", true),
        ("theme=dark; sid=1", "sid=2; theme=dark", true),
        ("theme=dark;sid=1", " theme=dark ; ; a", true),
        ("sid=1", "sid=2", true),
        ("theme=dark", "theme=light", false),
        ("theme=dark", "", false),
        ("theme=", "", false),
        ("theme=", "theme", false),
        ("theme=dark", "Theme=dark", false),
        ("theme=dark", "xtheme=dark", false),
        ("theme=dark", "theme2=dark", false),
        ("theme=dark", "theme=dark; theme=light", false),
        ("theme=light; theme=dark", "theme=dark; theme=light", false),
        ("theme=dark", "theme=\"dark\"", false),
        ("theme=a=b", "theme=a", false),
    ] {
        let (one, other) = (x(&[("cookie", one)]), x(&[("cookie", other)]));
        let what = format!("{one:?} {other:?}");
        assert_eq!(share(layer(), one, other).await, same, "{what}");
    }
    let origin = Origin::counting();
    let app = origin.behind(layer());
    get_with(&app, "/x", &[("cookie", "sid=1; theme=dark; a=2")]).await;
    assert_eq!(origin.last().field("cookie"), "theme=dark");
    get_with(&app, "/y", &[("cookie", "sid=1")]).await;
    assert!(!origin.last().headers.contains_key("cookie"));
    assert!(share(layer(), x(&[("cookie", "sid=1")]), x(&[])).await, "what nobody sees makes no difference");
}

#[tokio::test(start_paused = true)] // P43, P66
async fn cookies_split_over_lines_are_the_same_cookies() {
    let layer = || minute().key_cookie("theme").key_cookie("size").key_cookie("theme");
    let one_line = || x(&[("cookie", "sid=1; theme=dark; size=2")]);
    let lines = || x(&[("cookie", "theme=dark"), ("cookie", "sid=2"), ("cookie", "size=2")]);
    assert!(share(layer(), one_line(), lines()).await);
    let hidden = x(&[("cookie", "sid=1"), ("cookie", "theme=light")]);
    assert!(!share(layer(), x(&[("cookie", "sid=1")]), hidden).await, "a second line counts");
    for request in [one_line(), lines(), x(&[("cookie", "size=2; theme=dark")])] {
        let origin = Origin::counting();
        send(&origin.behind(layer()), request).await;
        assert_eq!(origin.last().field("cookie"), "theme=dark; size=2", "one view, whatever their order");
    }
}

#[tokio::test(start_paused = true)] // P43
async fn ignored_cookies_are_hidden_from_key_and_handler_alike() {
    let layer = || minute().ignore_cookies();
    assert!(share(layer(), x(&[("cookie", "sid=1")]), x(&[])).await);
    let origin = Origin::counting();
    get_with(&origin.behind(layer()), "/x", &[("cookie", "sid=1"), ("cookie", "a=2")]).await;
    assert!(!origin.last().headers.contains_key("cookie"));
    let both = || x(&[("cookie", "sid=1"), ("authorization", "secret")]);
    assert!(!share(layer(), both(), both()).await, "other credentials stay what they are");
}

#[derive(Clone)]
struct User(Option<&'static str>);

fn of_user(user: Option<&'static str>, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = x(fields);
    request.extensions_mut().insert(User(user));
    request
}

#[tokio::test(start_paused = true)] // P17, P43
async fn a_key_function_opens_credentials_deliberately() {
    let layer = || minute().key_by(|parts| Some(parts.extensions.get::<User>()?.0?.as_bytes().to_vec()));
    let secret = |value| [("authorization", value), ("cookie", value)];
    for (one, other, same) in [
        (of_user(Some("ann"), &secret("1")), of_user(Some("ann"), &secret("1")), true),
        (of_user(Some("ann"), &secret("1")), of_user(Some("ann"), &secret("2")), true),
        (of_user(Some("ann"), &secret("1")), of_user(Some("bob"), &secret("1")), false),
        (of_user(Some("ann"), &[]), of_user(Some(""), &[]), false),
        (of_user(None, &[]), of_user(None, &[]), false),
        (of_user(None, &[]), of_user(Some(""), &[]), false),
        (x(&[]), x(&[]), false),
    ] {
        let what = format!("{:?} {:?}", one.extensions().get::<User>().map(|user| user.0), other.headers());
        assert_eq!(share(layer(), one, other).await, same, "{what}");
    }
    let app = Origin::counting().behind(layer());
    assert_eq!(get(&app, "/x").await.said(), "fwd=bypass; fwd-status=200; detail=no-key");
}

#[tokio::test(start_paused = true)] // P93
async fn two_key_functions_share_nothing() {
    let cache = Cache::new();
    let origin = Origin::counting();
    let one = origin.behind(cache.layer(secs(60)).key_by(|_| Some(b"same".to_vec())));
    let other = origin.behind(cache.layer(secs(60)).key_by(|_| Some(b"same".to_vec())));
    assert_eq!(get(&one, "/x").await.text(), "1");
    assert_eq!(get(&other, "/x").await.text(), "2");
}

#[tokio::test(start_paused = true)] // P17
async fn a_request_that_is_left_out_goes_past_the_cache() {
    let layer = || minute().when(|parts| !parts.headers.contains_key("x-draft"));
    assert!(!share(layer(), x(&[("x-draft", "1")]), x(&[("x-draft", "1")])).await);
    assert!(share(layer(), x(&[]), x(&[])).await);
    let app = Origin::counting().behind(layer());
    assert_eq!(get_with(&app, "/x", &[("x-draft", "1")]).await.outcome().detail(), Some(Detail::Excluded));
}

// ---- responses ----

#[tokio::test(start_paused = true)] // P15, P43, P55
async fn a_response_for_one_reader_reaches_nobody_who_waited_for_it() {
    let refused: [(Fields, Detail); 7] = [
        (&[("set-cookie", "sid=1")], Detail::SetCookie),
        (&[("set-cookie", "sid=1"), ("cache-control", "public, s-maxage=60")], Detail::SetCookie),
        (&[("cache-control", "private")], Detail::Private),
        (&[("cache-control", "no-store")], Detail::NoStore),
        (&[("vary", "*")], Detail::VaryAny),
        (&[("content-security-policy", "script-src 'nonce-1'")], Detail::Nonce),
        (&[("access-control-allow-origin", "https://a.example")], Detail::AllowOrigin),
    ];
    for (fields, detail) in refused {
        let origin = Origin::with_fields(fields);
        let app = origin.behind(minute());
        origin.only_the_first(0);
        let mut clients = Clients::new();
        for _ in 0..5 {
            clients.get(&app, "/x", &[]).await;
        }
        origin.begun(1).await;
        assert_eq!(origin.runs(), 1);
        origin.only_the_first(1);
        origin.begun(5).await;
        origin.release();
        let answers = clients.answers().await;
        let mut runs: Vec<_> = answers.iter().map(Reply::text).collect();
        runs.sort_unstable();
        assert_eq!(runs, ["1", "2", "3", "4", "5"], "{fields:?}");
        for answer in &answers {
            assert_eq!(answer.outcome().detail(), Some(detail), "{fields:?}");
            assert!(!answer.outcome().is_stored() && !answer.outcome().is_collapsed());
        }
        assert_eq!(get(&app, "/x").await.text(), "6", "nothing was stored");
    }
}

#[tokio::test(start_paused = true)] // P23, P43
async fn a_refresh_that_sets_a_cookie_gives_it_to_nobody() {
    let origin = Origin::new(|seen| match seen.run {
        1 => "1".into_response(),
        run => ([("set-cookie", "sid=secret")], run.to_string()).into_response(),
    });
    let app = origin.behind(minute());
    get(&app, "/x").await;
    pass(61.0).await;
    let stale = get(&app, "/x").await;
    assert_eq!((stale.text(), stale.has("set-cookie")), ("1", false));
    settle().await;
    assert_eq!(origin.runs(), 2);
    let next = get(&app, "/x").await;
    assert_eq!((next.text(), next.outcome().detail()), ("3", Some(Detail::SetCookie)), "the stale entry is gone too");
}

// ---- what no request can do ----

#[tokio::test(start_paused = true)] // P65
async fn no_request_field_purges_or_forces_a_run() {
    let attempts = [
        ("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),
        ("pragma", "no-cache"),
        ("cache-group-invalidation", "\"quotes\""),
        ("cache-groups", "\"quotes\""),
        ("surrogate-key", "quotes"),
        ("x-purge", "1"),
        ("x-cache-purge", "/x"),
        ("x-refresh", "1"),
        ("x-force-refresh", "1"),
        ("x-method", "PURGE"),
        ("x-cacheback-namespace", "other"),
        ("x-namespace", "other"),
        ("cacheback-cache-control", "max-age=0"),
        ("cdn-cache-control", "no-store"),
        ("surrogate-control", "no-store"),
        ("cache-status", "cacheback; fwd=miss"),
        ("age", "99999"),
        ("expires", "0"),
        ("vary", "*"),
        ("if-none-match", "\"a\""),
        ("te", "trailers"),
        ("connection", "cache-status, age, host"),
        ("background", "1"),
    ];
    let origin = Origin::with_fields(&[("cache-control", "max-age=60, stale-while-revalidate=60")]);
    let app = origin.behind(minute().namespace("own"));
    get(&app, "/x").await;
    for attempt in attempts {
        let answer = get_with(&app, "/x", &[attempt]).await;
        assert_eq!((answer.text(), answer.outcome().is_stale()), ("1", false), "{attempt:?}");
    }
    let all = get_with(&app, "/x", &attempts).await;
    assert_eq!(all.text(), "1");
    settle().await;
    assert_eq!(origin.runs(), 1);
    for override_of in ["x-http-method-override", "x-method-override", "x-http-method"] {
        get_with(&app, "/x", &[(override_of, "DELETE")]).await;
    }
    assert_eq!(get(&app, "/x").await.text(), "1");
}

#[tokio::test(start_paused = true)] // P65, P93
async fn namespaces_are_apart_whatever_a_request_says() {
    let cache = Cache::new();
    let origin = Origin::counting();
    let one = origin.behind(cache.layer(secs(60)).namespace("one"));
    let two = origin.behind(cache.layer(secs(60)).namespace("two"));
    let none = origin.behind(cache.layer(secs(60)));
    let empty = origin.behind(cache.layer(secs(60)).namespace(""));
    for (run, app) in (1..).zip([&one, &two, &none, &empty]) {
        assert_eq!(get_with(app, "/x", &[("x-namespace", "one")]).await.text(), run.to_string());
    }
}

#[tokio::test(start_paused = true)] // P93
async fn layers_of_both_modes_share_nothing() {
    let cache = Cache::new();
    let origin = Origin::with_fields(&[("cache-control", "max-age=60")]);
    let [application, protocol] = [cache.layer(secs(60)), cache.http()].map(|layer| origin.behind(layer));
    for _ in 0..2 {
        assert_eq!(get(&application, "/x").await.text(), "1");
        assert_eq!(get(&protocol, "/x").await.text(), "2");
    }
}

#[tokio::test(start_paused = true)] // P62, P65
async fn a_request_of_doubtful_authority_goes_past_the_cache() {
    for (uri, hosts) in [
        ("/x", &["a.example", "a.example"][..]),
        ("/x", &["a.example", "b.example"]),
        ("http://a.example/x", &["b.example"]),
        ("http://a.example/x", &["a.example:81"]),
        ("http://a.example/x", &["a.example", "a.example"]),
        ("http://a.example/x", &[""]),
        ("/x", &["a.example, b.example"]),
        ("/x", &["user@a.example"]),
        ("/x", &["a.example/path"]),
        ("/x", &["a.example?q"]),
        ("/x", &["a.example#f"]),
        ("/x", &["a.example\\b"]),
        ("/x", &["a example"]),
        ("/x", &["\u{e4}.example"]),
    ] {
        let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let origin = Origin::counting();
        let app = origin.behind(minute());
        for run in ["1", "2"] {
            let past = get_with(&app, uri, &hosts).await;
            assert_eq!(past.said(), "fwd=bypass; fwd-status=200; detail=authority", "{uri} {hosts:?}");
            assert_eq!(past.text(), run);
        }
        for host in ["a.example", "b.example"] {
            assert_ne!(get_with(&app, "/x", &[("host", host)]).await.outcome().status(), CacheStatus::Hit);
        }
    }
}

#[tokio::test(start_paused = true)] // P43, P60
async fn a_field_that_the_cache_must_understand_keeps_its_meaning_as_a_credential() {
    let layer = |field| minute().credential_header(field).key_by(|_| Some(Vec::new()));
    let app = Origin::counting().behind(layer("host"));
    get_with(&app, "/x", &[("host", "a.example")]).await;
    assert_eq!(get_with(&app, "/x", &[("host", "b.example")]).await.text(), "2");
    for field in ["if-match", "upgrade", "content-length", "transfer-encoding"] {
        let past = get_with(&Origin::counting().behind(layer(field)), "/x", &[(field, "1")]).await;
        assert_eq!(past.outcome().status(), CacheStatus::Bypass, "{field}");
    }
    let past = get_with(&Origin::counting().behind(layer("range")), "/x", &[("range", "1")]).await;
    assert_eq!(past.outcome().detail(), Some(Detail::Range));
}

// ---- one view ----

/// A layer with every rule that leaves something out, and windows of ten seconds each.
fn with_rules() -> CachebackLayer<Http> {
    CachebackLayer::new(Freshness::exact(secs(10)).stale_while_revalidate(secs(10)).stale_if_error(secs(20)))
        .key_cookie("theme")
        .key_header("x-keyed")
        .query_only(["q", "p"])
        .query_sorted()
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)] // P20, P66
async fn cold_background_and_too_stale_runs_have_one_view() {
    let keyed = [("host", "a.example"), ("x-keyed", "1"), ("x-forwarded-host", "front.example")];
    let adornments: [&[(&str, &str)]; 4] = [
        &[("cookie", "sid=1; theme=dark"), ("if-none-match", "\"a\""), ("te", "trailers")],
        &[("cookie", "theme=dark"), ("connection", "x-hop, keep-alive"), ("x-hop", "1"), ("keep-alive", "timeout=5")],
        &[("cookie", "theme=dark; a=2"), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expect", "x")],
        &[("cookie", "x=1"), ("cookie", "theme=dark"), ("content-length", "0"), ("proxy-connection", "close")],
    ];
    let uris = ["/x?q=1&utm=9&p=2&q=3", "/x?p=2&q=1&q=3", "/x?&q=1&q=3&p=2&sid=7", "/x?q=1&p=2&q=3&"];
    let hops = [
        ("if-range", "\"a\""),
        ("trailer", "x"),
        ("http2-settings", "x"),
        ("connection", "host, cookie, x-keyed, x-forwarded-host"),
    ];
    let origin = Origin::counting();
    let layer = with_rules();
    let app = origin.behind(layer.clone());
    for (number, (adornment, uri)) in adornments.iter().zip(uris).enumerate() {
        let fields = [&keyed[..], adornment, &hops[number..=number]].concat();
        // Cold; then stale, refreshed behind the reader; then too stale; then stale for a HEAD.
        let method = if number == 3 { "HEAD" } else { "GET" };
        let answer = send(&app, request(method, uri, &fields)).await;
        settle().await;
        layer.cache().settled().await;
        assert_eq!(origin.runs(), number + 1, "{answer:?}");
        pass([10.0, 20.0, 10.0, 0.0][number]).await;
    }
    let seen = origin.seen();
    let background: Vec<_> = seen.iter().map(|seen| seen.background).collect();
    assert_eq!(background, [false, true, false, true]);
    for run in &seen[1..] {
        assert_eq!(run.view(), seen[0].view(), "run {}", run.run);
    }
    let one = &seen[0];
    assert_eq!((one.method.as_str(), one.uri.to_string()), ("GET", "/x?p=2&q=1&q=3".to_owned()));
    assert_eq!(one.original.as_ref().map(ToString::to_string).as_deref(), Some("/x?p=2&q=1&q=3"));
    let mut names: Vec<_> = one.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie", "host", "x-forwarded-host", "x-keyed"]);
    assert_eq!(one.field("cookie"), "theme=dark");
}

#[tokio::test(start_paused = true)] // P66
async fn fields_that_no_rule_leaves_out_are_seen() {
    let origin = Origin::counting();
    get_with(&origin.behind(minute()), "/x?utm=1", &[("accept-language", "de"), ("x-forwarded-for", "::1")]).await;
    let seen = origin.last();
    assert_eq!((seen.field("accept-language"), seen.field("x-forwarded-for")), ("de".into(), "::1".into()));
    assert_eq!(seen.uri.to_string(), "/x?utm=1");
}

#[tokio::test(start_paused = true)] // P66
async fn a_bypassed_request_arrives_as_it_was_sent() {
    let fields = [
        ("cookie", "sid=1; theme=dark"),
        ("range", "bytes=0-0"),
        ("if-range", "\"a\""),
        ("if-none-match", "\"a\""),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
    ];
    let origin = Origin::counting();
    get_with(&origin.behind(with_rules()), "/x?utm=1&q=2", &fields).await;
    let seen = origin.last();
    for (name, value) in fields {
        assert_eq!(seen.field(name), value);
    }
    assert_eq!(seen.uri.to_string(), "/x?utm=1&q=2");
}

#[tokio::test(start_paused = true)] // P66
async fn a_sealed_handler_sees_nothing_but_what_is_keyed() {
    let origin = Origin::counting();
    let app = origin.behind(minute().sealed().key_header("x-keyed"));
    let fields = [("accept-language", "de"), ("x-keyed", "1"), ("host", "a.example"), ("user-agent", "x")];
    let also = [("x-forwarded-for", "::1"), ("forwarded", "host=b"), ("accept", "*/*"), ("connection", "x-keyed")];
    get_with(&app, "/x", &[fields, also].concat()).await;
    let mut names: Vec<_> = origin.last().headers.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["forwarded", "host", "x-keyed"]);
}

// ---- fields that ask for something else ----

const OVERRIDES: [&str; 20] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-scheme",
    "front-end-https",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

#[tokio::test(start_paused = true)] // P67
async fn requests_that_differ_in_an_override_never_share() {
    for (at, name) in OVERRIDES.into_iter().enumerate() {
        let next = OVERRIDES[(at + 1) % OVERRIDES.len()];
        for layer in [
            minute(),
            minute().sealed(),
            minute().key_header(name),
            minute().key_header(next),
            minute().key_by(|_| Some(vec![])),
            minute().credential_header(name).key_by(|_| Some(vec![])),
        ] {
            assert!(share(layer.clone(), x(&[(name, "a")]), x(&[(name, "a")])).await, "{name}");
            for (one, other) in [
                (&[(name, "a")][..], &[(name, "b")][..]),
                (&[(name, "a")], &[(name, "A")]),
                (&[(name, "a")], &[]),
                (&[(name, "")], &[]),
                (&[(name, "a")], &[(next, "a")]),
                (&[(name, "a"), (name, "b")], &[(name, "a, b")]),
                (&[(name, "a"), (name, "b")], &[(name, "b"), (name, "a")]),
                (&[(name, "a"), (name, "b")], &[(name, "a"), (name, "c")]),
                (&[(name, "a"), (next, "b")], &[(name, "b"), (next, "a")]),
                (&[(name, "a"), (next, "a")], &[(name, "a")]),
                (&[(name, "a"), ("connection", name)], &[]),
                (&[(name, "a"), ("connection", name)], &[(name, "b"), ("connection", name)]),
            ] {
                assert!(!share(layer.clone(), x(one), x(other)).await, "{one:?} {other:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P66, P67
async fn connection_takes_nothing_keyed_out_of_the_view() {
    let origin = Origin::new(|seen| {
        ["x-forwarded-host", "host", "x-keyed", "authorization", "cookie"].map(|name| seen.field(name)).join(" ")
    });
    let app = origin.behind(minute().key_header("x-keyed").key_header("authorization").key_cookie("theme"));
    let keyed = [
        ("x-forwarded-host", "front.example"),
        ("host", "a.example"),
        ("x-keyed", "1"),
        ("authorization", "secret"),
        ("cookie", "theme=dark"),
    ];
    let named = [("connection", "X-Forwarded-Host, host"), ("connection", "x-keyed,authorization , Cookie")];
    let poisoned = get_with(&app, "/x", &[&keyed[..], &named].concat()).await;
    assert_eq!(poisoned.text(), "front.example a.example 1 secret theme=dark");
    let next = get_with(&app, "/x", &keyed).await;
    assert_eq!((next.text(), next.outcome().status()), (poisoned.text(), CacheStatus::Hit));
}

#[tokio::test(start_paused = true)] // P43, P66
async fn connection_hides_no_credential_from_the_cache() {
    for name in ["authorization", "cookie", "x-auth-request-user"] {
        let named = || x(&[(name, "a=1"), ("connection", name)]);
        assert!(!share(minute(), named(), named()).await, "{name}");
    }
}

#[tokio::test(start_paused = true)] // P66
async fn connection_takes_nothing_out_of_the_view_that_a_key_function_read() {
    // The handler answers by tenant, and by default for nobody: the default must not land under a tenant's key.
    let origin = Origin::new(|seen| format!("tenant {}", seen.field("x-tenant")));
    let tenant = |parts: &axum::http::request::Parts| {
        Some(parts.headers.get("x-tenant").map_or(&b""[..], HeaderValue::as_bytes).to_vec())
    };
    let app = origin.behind(minute().key_by(tenant));
    get_with(&app, "/x", &[("x-tenant", "a"), ("connection", "x-tenant")]).await;
    assert_eq!(get_with(&app, "/x", &[("x-tenant", "a")]).await.text(), "tenant a");
}

#[tokio::test(start_paused = true)] // P60, P66
async fn bytes_that_are_no_text_are_keyed_and_seen_as_they_came() {
    let layers: [(&str, CachebackLayer<Http>); 3] = [
        ("x-keyed", minute().key_header("x-keyed")),
        ("cookie", minute().key_cookie("theme")),
        ("x-forwarded-host", minute()),
    ];
    for (name, layer) in layers {
        let pair = |value: &'static [u8]| x_raw(name, &[value]);
        let name: &'static str = name;
        assert!(share(layer.clone(), pair(b"theme=\xe9"), pair(b"theme=\xe9")).await, "{name}");
        for other in
            [&b"theme=\xe8"[..], b"theme=", b"theme=e", b"theme=\xc3\xa9", b"theme=\xef\xbf\xbd", b"theme=\xff"]
        {
            assert!(!share(layer.clone(), pair(b"theme=\xe9"), pair(other)).await, "{name} {}", other.escape_ascii());
        }
        let origin = Origin::counting();
        send(&origin.behind(layer.namespace("another")), pair(b"theme=\xe9")).await;
        assert_eq!(origin.last().headers[name].as_bytes(), b"theme=\xe9");
    }
}

#[tokio::test(start_paused = true)] // P60
async fn values_that_differ_only_at_their_far_end_are_told_apart() {
    let long = "a".repeat(100_000);
    let ends = |end: &str| format!("theme={long}{end}");
    let layers: [(&str, CachebackLayer<Http>); 3] = [
        ("x-keyed", minute().key_header("x-keyed")),
        ("cookie", minute().key_cookie("theme")),
        ("x-forwarded-host", minute()),
    ];
    for (name, layer) in layers {
        let (one, other) = (ends("1"), ends("2"));
        assert!(share(layer.clone(), x(&[(name, &one)]), x(&[(name, &one)])).await);
        assert!(!share(layer, x(&[(name, &one)]), x(&[(name, &other)])).await, "{name}");
    }
    let uri = |end: &str| format!("/{}?{}{end}", "a".repeat(30_000), "b".repeat(30_000));
    let (one, other) = (uri("1"), uri("2"));
    assert!(share(minute(), request("GET", &one, &[]), request("GET", &one, &[])).await);
    assert!(!share(minute(), request("GET", &one, &[]), request("GET", &other, &[])).await);
}

#[tokio::test(start_paused = true)] // P60
async fn one_keyed_field_cannot_pass_for_another() {
    let layer = || minute().key_header("x-a").key_header("x-b").key_cookie("c");
    for (one, other) in [
        (&[("x-a", "1"), ("x-b", "2")][..], &[("x-a", "2"), ("x-b", "1")][..]),
        (&[("x-a", "1")], &[("x-b", "1")]),
        (&[("x-a", "c=1")], &[("cookie", "c=1")]),
        (&[("x-a", "")], &[("x-b", "")]),
        (&[("x-a", "12")], &[("x-a", "1"), ("x-b", "2")]),
        (&[("x-a", "1"), ("x-a", "2")], &[("x-a", "1"), ("x-b", "2")]),
        (&[("x-a", "1"), ("x-a", "2")], &[("x-a", "1"), ("x-a", "3")]),
        (&[("x-a", "1"), ("forwarded", "1")], &[("x-a", "1"), ("x-b", "1")]),
    ] {
        assert!(!share(layer(), x(one), x(other)).await, "{one:?} {other:?}");
    }
    assert_eq!(headers(&[("X-A", "1")]), headers(&[("x-a", "1")]), "names have no case to smuggle with");
}
