//! Whatever a client sends, whatever a service answers, and however a layer is set: nothing panics, no request fails
//! that would not fail without the layer, and what a client reads is what the service wrote.

#![allow(clippy::disallowed_methods, reason = "a test may spawn and wait")]

mod support;

use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::OriginalUri;
use bytes::Bytes;
use cacheback::{Cache, CachebackLayer, Freshness, NoStore, Outcome, Scope, Tags};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use proptest::{collection::vec, option, prelude::*, sample::select};
use support::net::{Broken, eventually};
use tokio::{task::JoinHandle, time::Sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

// ---- what is generated ----

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    Ask(Box<Ask>),
    Expire(Reach),
    Purge(Reach),
}

#[derive(Clone, Debug)]
enum Reach {
    Everything,
    Tag,
    Path(String),
}

#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    uri: Uri,
    original: Option<Uri>,
    headers: Fields,
    content: Vec<u8>,
    patience: Patience,
    /// How long it is until something else happens.
    pause: Duration,
    /// Whether the answer is read before something else happens.
    waits: bool,
}

/// How much of the answer a client takes.
#[derive(Clone, Copy, Debug)]
enum Patience {
    All,
    Head,
    Nothing,
}

type Fields = Vec<(HeaderName, HeaderValue)>;

/// What a run answers.
#[derive(Clone, Debug)]
struct Answer {
    delay: Duration,
    fails: bool,
    status: StatusCode,
    headers: Fields,
    says: Says,
    body: Plan,
}

/// What the handler says beside the fields.
#[derive(Clone, Debug)]
enum Says {
    Nothing,
    Fresh(Freshness),
    Tagged,
    NoStore,
}

/// What becomes of a body.
#[derive(Clone, Debug)]
struct Plan {
    data: Vec<(u16, Duration)>,
    end: End,
    hint: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Plain,
    Trailers,
    Broken,
    Never,
}

/// What a layer is told.
#[derive(Clone, Debug)]
enum Rule {
    Namespace(String),
    KeyHeader(HeaderName),
    KeyCookie,
    IgnoreCookies,
    KeyBy(bool),
    Credential(HeaderName),
    QueryOnly(Vec<String>),
    QueryExcept(Vec<String>),
    QuerySorted,
    Sealed,
    BodyCap(usize),
    Negative(u16, Freshness),
    OptIn,
    StaleWindowsForAll,
    ExchangeHeaders(Vec<HeaderName>),
    When,
    UnsafeInvalidates(bool),
    Targeted(Vec<HeaderName>),
    HonorRequestDirectives,
    CacheStatus(bool),
    FillTimeout(Duration),
    WaitTimeout(Duration),
    SoftTimeout(Duration),
    RefreshTimeout(Duration),
    HitForMiss(Duration),
    Etag,
    FillOnRange(u64),
    MaxVariants(usize),
}

#[derive(Clone, Debug)]
struct World {
    memory: usize,
    refreshes: usize,
    outer: (Freshness, Vec<Rule>),
    /// A layer inside it, of the same cache or of another one.
    inner: Option<(Freshness, Vec<Rule>, bool)>,
    answers: Vec<Answer>,
    acts: Vec<Act>,
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0..20_000_u64).prop_map(Duration::from_millis),
        2 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
        1 => any::<u64>().prop_map(Duration::from_nanos),
    ]
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => Just(Duration::ZERO), 3 => (0..15_000_u64).prop_map(Duration::from_millis)]
}

fn freshness() -> impl Strategy<Value = Freshness> {
    (duration(), duration(), duration()).prop_map(|(lifetime, revalidate, error)| {
        Freshness::new(lifetime).stale_while_revalidate(revalidate).stale_if_error(error)
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        12 => Just(Method::GET),
        3 => Just(Method::HEAD),
        3 => select(vec!["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PURGE", "get", "!#$%&'*+-.^_`|~"])
            .prop_map(|method| Method::from_bytes(method.as_bytes()).expect("a token")),
    ]
}

fn uri() -> impl Strategy<Value = Uri> {
    let odd = vec![
        "/",
        "*",
        "/?",
        "/??",
        "/a%2Fb?x=1&x=2&&=&y",
        "/a//b/./../c",
        "/%",
        "/%zz?%",
        "example.com:80",
        "[::1]:8080",
        "http://example.com",
        "http://EXAMPLE.com:80/a?b",
        "https://u:p@example.com:443/",
        "http://example.com:99999/",
        "ftp://x/y",
        "/{}|\\^`\"<>",
        "//example.com/x",
        "/a;b=c,d",
        "mailto:nobody",
        "x:",
    ];
    let odd: Vec<Uri> = odd.into_iter().filter_map(|uri| uri.parse().ok()).collect();
    prop_oneof![
        // Few pages, so that requests meet.
        6 => select(vec!["/a", "/a?x=1", "/a?x=2&y", "http://example.com/a"]).prop_map(|uri| uri.parse().expect("a URI")),
        3 => select(odd),
        1 => "/[!-~\u{80}-\u{ff}]{0,40}".prop_filter_map("not a URI", |uri| uri.parse().ok()),
    ]
}

/// Any bytes that a field may hold, or words that mean something in some field.
fn value() -> impl Strategy<Value = HeaderValue> {
    let words = vec![
        "",
        "max-age=5",
        "max-age=0",
        "max-age=99999999999999999999",
        "max-age=-1",
        "max-age=\"5\"",
        "s-maxage=3, max-age=1",
        "public",
        "private",
        "no-store",
        "no-cache",
        "no-cache=\"x",
        "must-revalidate, max-age=2",
        "max-age=3, stale-while-revalidate=9",
        "max-age=1, stale-if-error=60",
        ",,,",
        "*",
        "accept-language",
        "accept-language, cookie",
        "Accept-Encoding",
        "origin",
        "no such name, ,",
        "0",
        "1",
        "5",
        "007",
        "18446744073709551616",
        "-3",
        "3, 4",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Thu, 01 Jan 2099 00:00:00 GMT",
        "tomorrow",
        "\"a\"",
        "W/\"a\"",
        "\"a\", \"b\"",
        "\"",
        "text/event-stream",
        "text/html",
        "gzip",
        "br",
        "close, x-field",
        "keep-alive, te",
        "a=b; Path=/",
        "theme=dark; theme=light; session=1",
        ";;=;",
        "example.com",
        "EXAMPLE.com:80",
        "a b",
        "evil@example.com",
        "bytes=0-1",
        "bytes=0-1",
        "bytes=7-",
        "bytes=-3",
        "bytes=0-0, 1000-1003,99999-",
        "bytes=5-2",
        "items=0-1",
        "/a",
        "../a?x=1",
        "http://example.com/a",
        "//",
        "http://",
        "?x",
        "default-src 'nonce-abc'",
        "chunked",
        "websocket",
        "100-continue",
    ];
    prop_oneof![
        8 => select(words).prop_map(HeaderValue::from_static),
        1 => vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..30)
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a field value")),
    ]
}

fn request_field() -> impl Strategy<Value = HeaderName> {
    select(vec![
        "host",
        "cookie",
        "authorization",
        "accept-language",
        "accept-encoding",
        "cache-control",
        "pragma",
        "if-none-match",
        "if-modified-since",
        "if-match",
        "if-unmodified-since",
        "if-range",
        "range",
        "connection",
        "upgrade",
        "te",
        "expect",
        "content-length",
        "transfer-encoding",
        "x-forwarded-host",
        "forwarded",
        "x-original-url",
        "x-api-key",
        "x-field",
        "origin",
        "traceparent",
        "x-goog-iap-jwt-assertion",
        "sec-websocket-key",
    ])
    .prop_map(HeaderName::from_static)
}

fn response_field() -> impl Strategy<Value = HeaderName> {
    select(vec![
        "cache-control",
        "cache-control",
        "cache-control",
        "vary",
        "vary",
        "age",
        "expires",
        "date",
        "connection",
        "content-length",
        "etag",
        "last-modified",
        "set-cookie",
        "pragma",
        "cache-status",
        "content-type",
        "content-encoding",
        "content-range",
        "location",
        "content-location",
        "transfer-encoding",
        "trailer",
        "www-authenticate",
        "content-security-policy",
        "cdn-cache-control",
        "cacheback-cache-control",
        "access-control-allow-origin",
        "x-request-id",
        "ratelimit-limit",
        "cache-groups",
        "cache-group-invalidation",
        "x-field",
    ])
    .prop_map(HeaderName::from_static)
}

fn fields(name: impl Strategy<Value = HeaderName>) -> impl Strategy<Value = Fields> {
    prop_oneof![
        9 => vec((name, value()), 0..5),
        1 => vec(("x-[a-z]{1,9}".prop_map(|name| name.parse().expect("a name")), value()), 0..300),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let data = vec((prop_oneof![3 => 0..9_u16, 1 => 0..2_000_u16], pause()), 0..5);
    let end =
        prop_oneof![6 => Just(End::Plain), 2 => Just(End::Trailers), 1 => Just(End::Broken), 1 => Just(End::Never)];
    (data, end, option::weighted(0.2, 0..20_u64), any::<bool>()).prop_map(|(mut data, end, hint, at_once)| {
        if at_once {
            data.iter_mut().for_each(|(_, pause)| *pause = Duration::ZERO);
        }
        Plan { data, end, hint }
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let status =
        prop_oneof![6 => Just(200), 1 => select(vec![203, 204, 206, 301, 304, 404, 410, 500, 503]), 1 => 100..=999_u16];
    let status = status.prop_map(|status| StatusCode::from_u16(status).expect("three digits"));
    let says = prop_oneof![
        5 => Just(Says::Nothing),
        2 => freshness().prop_map(Says::Fresh),
        1 => Just(Says::Tagged),
        1 => Just(Says::NoStore),
    ];
    (pause(), prop::bool::weighted(0.1), status, fields(response_field()), says, plan())
        .prop_map(|(delay, fails, status, headers, says, body)| Answer { delay, fails, status, headers, says, body })
}

fn ask() -> impl Strategy<Value = Ask> {
    let patience = prop_oneof![6 => Just(Patience::All), 1 => Just(Patience::Head), 1 => Just(Patience::Nothing)];
    let headers = prop_oneof![2 => Just(Vec::new()), 2 => fields(request_field())];
    let content = prop_oneof![5 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..9)];
    (method(), uri(), option::weighted(0.1, uri()), headers, content, patience, pause(), prop::bool::weighted(0.6))
        .prop_map(|(method, uri, original, headers, content, patience, pause, waits)| Ask {
            method,
            uri,
            original,
            headers,
            content,
            patience,
            pause,
            waits,
        })
}

fn act() -> impl Strategy<Value = Act> {
    let reach = || {
        prop_oneof![
            Just(Reach::Everything),
            Just(Reach::Tag),
            "[ -~\u{e4}]{0,9}".prop_map(Reach::Path),
            Just(Reach::Path("/a".to_owned())),
        ]
    };
    prop_oneof![10 => ask().prop_map(|ask| Act::Ask(Box::new(ask))), 1 => reach().prop_map(Act::Expire), 1 => reach().prop_map(Act::Purge)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let count = || prop_oneof![Just(0), 1..50_usize, Just(usize::MAX)];
    let names = || vec("[a-z]{0,2}", 0..3);
    prop_oneof![
        "[a-z]{0,3}".prop_map(Rule::Namespace),
        request_field().prop_map(Rule::KeyHeader),
        Just(Rule::KeyCookie),
        Just(Rule::IgnoreCookies),
        any::<bool>().prop_map(Rule::KeyBy),
        request_field().prop_map(Rule::Credential),
        names().prop_map(Rule::QueryOnly),
        names().prop_map(Rule::QueryExcept),
        Just(Rule::QuerySorted),
        Just(Rule::Sealed),
        count().prop_map(Rule::BodyCap),
        (select(vec![404, 410, 500, 302, 999]), freshness())
            .prop_map(|(status, freshness)| Rule::Negative(status, freshness)),
        Just(Rule::OptIn),
        Just(Rule::StaleWindowsForAll),
        vec(response_field(), 0..3).prop_map(Rule::ExchangeHeaders),
        Just(Rule::When),
        any::<bool>().prop_map(Rule::UnsafeInvalidates),
        vec(response_field(), 0..3).prop_map(Rule::Targeted),
        Just(Rule::HonorRequestDirectives),
        any::<bool>().prop_map(Rule::CacheStatus),
        duration().prop_map(Rule::FillTimeout),
        duration().prop_map(Rule::WaitTimeout),
        duration().prop_map(Rule::SoftTimeout),
        duration().prop_map(Rule::RefreshTimeout),
        duration().prop_map(Rule::HitForMiss),
        Just(Rule::Etag),
        prop_oneof![Just(1), Just(u64::MAX)].prop_map(Rule::FillOnRange),
        count().prop_map(|most| Rule::MaxVariants(most.max(1))),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let memory = prop_oneof![4 => Just(1 << 20), 1 => Just(0), 1 => 0..5_000_usize];
    let refreshes = prop_oneof![3 => Just(8), 1 => Just(0), 1 => Just(1)];
    let inner = option::weighted(0.3, (freshness(), vec(rule(), 0..3), any::<bool>()));
    (memory, refreshes, (freshness(), vec(rule(), 0..4)), inner, vec(answer(), 1..6), vec(act(), 1..12)).prop_map(
        |(memory, refreshes, outer, inner, answers, acts)| World { memory, refreshes, outer, inner, answers, acts },
    )
}

// ---- what is done with it ----

/// A body that goes by a plan.
struct Planned {
    plan: Plan,
    at: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for Planned {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let at = self.at;
        let Some((length, pause)) = self.plan.data.get(at).copied() else {
            let end = self.plan.end;
            if end == End::Never {
                return Poll::Pending;
            }
            self.at += 1;
            return Poll::Ready(match end {
                End::Trailers if at == self.plan.data.len() => Some(Ok(Frame::trailers(trailers()))),
                End::Broken if at == self.plan.data.len() => Some(Err(Broken)),
                _ => None,
            });
        };
        if !pause.is_zero() {
            let timer = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(timer.as_mut().poll(cx));
            self.pause = None;
        }
        self.at += 1;
        Poll::Ready(Some(Ok(Frame::data(piece(at, length)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.plan.hint.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

fn piece(at: usize, length: u16) -> Bytes {
    vec![b'a' + (at % 26) as u8; length.into()].into()
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-trailer"), HeaderValue::from_static("of the body"))])
}

impl Plan {
    /// What a client reads in the end.
    fn read(&self) -> Read {
        let data =
            self.data.iter().enumerate().map(|(at, (length, _))| piece(at, *length)).collect::<Vec<_>>().concat();
        Read { data: data.into(), end: self.end }
    }
}

/// What a client has read.
#[derive(PartialEq)]
struct Read {
    data: Bytes,
    end: End,
}

async fn read(mut body: UnsyncBoxBody<Bytes, Broken>) -> Read {
    let mut data = Vec::new();
    let mut end = End::Plain;
    loop {
        // Far longer than any plan takes.
        match tokio::time::timeout(Duration::from_secs(1 << 20), body.frame()).await {
            Err(_) => end = End::Never,
            Ok(Some(Err(Broken))) => end = End::Broken,
            Ok(None) => {}
            Ok(Some(Ok(frame))) => {
                match frame.into_data() {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(_) => end = End::Trailers,
                }
                continue;
            }
        }
        return Read { data: data.into(), end };
    }
}

fn append(map: &mut HeaderMap, fields: Fields) {
    for (name, value) in fields {
        map.append(name, value);
    }
}

/// An error of the service, and of which run.
#[derive(Debug)]
struct Failed(usize);

type Service = BoxCloneSyncService<Request<Full<Bytes>>, Response<UnsyncBoxBody<Bytes, Broken>>, Failed>;

fn layer(cache: &Cache, (freshness, rules): &(Freshness, Vec<Rule>)) -> CachebackLayer {
    rules.iter().cloned().fold(cache.layer(*freshness), |layer, rule| match rule {
        Rule::Namespace(namespace) => layer.namespace(namespace),
        Rule::KeyHeader(name) => layer.key_header(name),
        Rule::KeyCookie => layer.key_cookie("theme"),
        Rule::IgnoreCookies => layer.ignore_cookies(),
        Rule::KeyBy(some) => layer.key_by(move |head| some.then(|| head.uri.path().into())),
        Rule::Credential(name) => layer.credential_header(name),
        Rule::QueryOnly(names) => layer.query_only(names.iter().map(String::as_str)),
        Rule::QueryExcept(names) => layer.query_except(names.iter().map(String::as_str)),
        Rule::QuerySorted => layer.query_sorted(),
        Rule::Sealed => layer.sealed(),
        Rule::BodyCap(cap) => layer.body_cap(cap),
        Rule::Negative(status, freshness) => {
            layer.negative(StatusCode::from_u16(status).expect("three digits"), freshness)
        }
        Rule::OptIn => layer.opt_in(),
        Rule::StaleWindowsForAll => layer.stale_windows_for_all(),
        Rule::ExchangeHeaders(names) => layer.exchange_headers(names),
        Rule::When => layer.when(|head| head.uri.query().is_none()),
        Rule::UnsafeInvalidates(invalidates) => layer.unsafe_invalidates(invalidates),
        Rule::Targeted(names) => layer.targeted(names),
        Rule::HonorRequestDirectives => layer.honor_request_directives(),
        Rule::CacheStatus(named) => layer.cache_status(named.then_some("test")),
        Rule::FillTimeout(timeout) => layer.fill_timeout(timeout),
        Rule::WaitTimeout(timeout) => layer.wait_timeout(timeout.max(Duration::from_nanos(1))),
        Rule::SoftTimeout(timeout) => layer.soft_timeout(timeout),
        Rule::RefreshTimeout(timeout) => layer.refresh_timeout(timeout.max(Duration::from_nanos(1))),
        Rule::HitForMiss(period) => layer.hit_for_miss(period),
        Rule::Etag => layer.etag(),
        Rule::FillOnRange(most) => layer.fill_on_range(most),
        Rule::MaxVariants(most) => layer.max_variants(most),
    })
}

/// What the service has done: which of the answers each run gave.
type Given = Arc<Mutex<Vec<usize>>>;

fn service(world: &World, cache: &Cache, given: &Given) -> Service {
    let (answers, given) = (Arc::new(world.answers.clone()), Arc::clone(given));
    let origin = service_fn(move |_: Request<Full<Bytes>>| {
        let mut given = given.lock().expect("no run panics with it");
        let run = given.len();
        given.push(run % answers.len());
        let answer = answers[run % answers.len()].clone();
        async move {
            tokio::time::sleep(answer.delay).await;
            if answer.fails {
                return Err(Failed(run));
            }
            let mut response = Response::new(Planned { plan: answer.body, at: 0, pause: None });
            *response.status_mut() = answer.status;
            append(response.headers_mut(), answer.headers);
            response.headers_mut().insert("x-run", HeaderValue::from(run));
            match answer.says {
                Says::Nothing => None,
                Says::Fresh(freshness) => response.extensions_mut().insert(freshness).map(drop),
                Says::Tagged => response.extensions_mut().insert(Tags::new(["tag"])).map(drop),
                Says::NoStore => response.extensions_mut().insert(NoStore).map(drop),
            };
            Ok(response)
        }
    });
    let boxed = |response: Response<cacheback::Body<_>>| response.map(BodyExt::boxed_unsync);
    let outer = layer(cache, &world.outer);
    match &world.inner {
        None => BoxCloneSyncService::new(outer.layer(origin).map_response(boxed)),
        Some((freshness, rules, same)) => {
            let cache = if *same { cache.clone() } else { Cache::new() };
            let inner = layer(&cache, &(*freshness, rules.clone())).layer(origin);
            BoxCloneSyncService::new(outer.layer(inner).map_response(|response| response.map(BodyExt::boxed_unsync)))
        }
    }
}

/// What a client saw.
struct Seen {
    head: http::response::Parts,
    /// What it read, if it did.
    read: Option<Read>,
}

async fn client(service: Service, ask: Ask) -> Result<Option<Seen>, Failed> {
    let mut request = Request::new(Full::from(ask.content));
    *request.method_mut() = ask.method;
    *request.uri_mut() = ask.uri;
    append(request.headers_mut(), ask.headers);
    if let Some(original) = ask.original {
        request.extensions_mut().insert(OriginalUri(original));
    }
    let answer = service.oneshot(request);
    let answer = match ask.patience {
        Patience::Nothing => match tokio::time::timeout(Duration::from_millis(1), answer).await {
            Err(_) => return Ok(None),
            Ok(answer) => answer,
        },
        Patience::Head | Patience::All => answer.await,
    };
    let (head, body) = answer?.into_parts();
    let read = if matches!(ask.patience, Patience::All) { Some(read(body).await) } else { None };
    Ok(Some(Seen { head, read }))
}

/// Checks what a client saw against what the service did.
fn check(ask: &Ask, seen: Result<Option<Seen>, Failed>, world: &World, given: &Given, failures: &mut HashSet<usize>) {
    let seen = match seen {
        Ok(Some(seen)) => seen,
        Ok(None) => return,
        // Each failure is that of a run, and of one request.
        Err(Failed(run)) => {
            assert!(failures.insert(run), "the failure of run {run} was told twice");
            return;
        }
    };
    let Seen { head, read } = seen;
    let run = head.headers.get("x-run").expect("it goes along with every response");
    let run: usize = run.to_str().expect("a number").parse().expect("a number");
    let answer = &world.answers[given.lock().expect("no run panics with it")[run]];
    let outcome = head.extensions.get::<Outcome>();
    let _printed = outcome.map(ToString::to_string);
    let context = || format!("run {run}, {outcome:?}, {:?}, of {ask:?} answered with {answer:?}", head.headers);

    let conditional = ask.headers.iter().any(|(name, _)| name.as_str().starts_with("if-"));
    if head.status == StatusCode::NOT_MODIFIED && answer.status != StatusCode::NOT_MODIFIED {
        assert!(conditional, "nobody asked: {}", context());
        assert!(read.is_none_or(|read| read.data.is_empty()), "{}", context());
        return;
    }
    if answer.status == StatusCode::OK
        && matches!(head.status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
    {
        return check_part(ask, &head, read, &answer.body.read().data, &context());
    }
    assert_eq!(head.status, answer.status, "{}", context());
    let Some(read) = read else { return };
    // What is answered from the store says for how long, also where it stands in for a run that failed.
    let stored = outcome.is_some_and(|outcome| outcome.ttl().is_some() || outcome.is_collapsed());
    // A cache further in may have answered it as well.
    if ask.method == Method::HEAD && (stored || world.inner.is_some() && read.data.is_empty()) {
        assert!(read.data.is_empty(), "{}", context());
        return;
    }
    assert!(read == answer.body.read(), "read {read:?}: {}", context());
    if stored {
        // It was whole, or nobody but the first had got it.
        assert!(matches!(read.end, End::Plain | End::Trailers), "{}", context());
        let length = head.headers.get("content-length").map(|length| length.to_str().expect("a number").to_owned());
        assert!(length.is_none_or(|length| length == read.data.len().to_string()), "{}", context());
    }
}

/// Checks parts of a 200 that a client got, where it did not get all of it.
fn check_part(ask: &Ask, head: &http::response::Parts, read: Option<Read>, whole: &[u8], context: &str) {
    let asked = ask.headers.iter().any(|(name, _)| name == "range");
    assert!(asked && ask.method == Method::GET, "nobody asked: {context}");
    let Some(Read { data, end }) = read else { return };
    assert_ne!(end, End::Trailers, "{context}");
    let field = |name| head.headers.get(name).map(|value| value.to_str().expect("a text"));
    if head.status == StatusCode::RANGE_NOT_SATISFIABLE {
        assert!(
            data.is_empty() && field("content-range").is_some_and(|range| range.starts_with("bytes */")),
            "{context}"
        );
        return;
    }
    let Some(range) = field("content-range") else {
        assert!(field("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges; ")), "{context}");
        assert_eq!(field("content-length"), Some(data.len().to_string().as_str()), "{context}");
        return;
    };
    let bounds = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')?.0.split_once('-'));
    let (first, last) = bounds.expect("two numbers");
    let number = |digits: &str| digits.parse::<usize>().expect("a number").min(whole.len());
    // Its length may have been stated wrongly.
    let part = &whole[number(first)..whole.len().min(number(last) + 1)];
    assert!(if end == End::Plain { data == part } else { part.starts_with(&data) }, "{data:?}: {context}");
}

async fn live(world: World) {
    let cache = Cache::builder().memory(world.memory).max_refreshes(world.refreshes).build();
    let given = Given::default();
    let service = service(&world, &cache, &given);
    let mut failures = HashSet::new();
    let mut clients: Vec<(Box<Ask>, JoinHandle<_>)> = Vec::new();
    for act in world.acts.clone() {
        let scope = |reach| match reach {
            Reach::Everything => Some(Scope::everything()),
            Reach::Tag => Some(Scope::tag("tag")),
            Reach::Path(path) => Scope::path(&path).ok(),
        };
        match act {
            Act::Expire(reach) => {
                if let Some(scope) = scope(reach) {
                    cache.expire(scope).await.expect("there is no store to fail");
                }
            }
            Act::Purge(reach) => {
                if let Some(scope) = scope(reach) {
                    cache.purge(scope).await.expect("there is no store to fail");
                }
            }
            Act::Ask(ask) => {
                let (pause, waits) = (ask.pause, ask.waits);
                let asking = tokio::spawn(client(service.clone(), Ask::clone(&ask)));
                clients.push((ask, asking));
                if waits {
                    let (ask, asking) = clients.pop().expect("it was just pushed");
                    let seen = eventually(asking).await.expect("no request panics");
                    check(&ask, seen, &world, &given, &mut failures);
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
    for (ask, asking) in clients {
        let seen = eventually(asking).await.expect("no request panics");
        check(&ask, seen, &world, &given, &mut failures);
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, then {:?}", self.data.len(), self.end)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test] // P92, P53, P52, P4
    fn nothing_panics_and_what_a_client_reads_is_what_the_service_wrote(world in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(live(world));
    }
}
