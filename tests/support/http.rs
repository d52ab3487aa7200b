//! An origin that records what its handler saw, and clients that send one request and read one answer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::OriginalUri,
    response::{IntoResponse, Response},
};
use cacheback::{Background, CachebackLayer, Http, Outcome};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{sync::watch, task::JoinSet};
use tower::ServiceExt;

/// What a handler saw of one request.
#[derive(Clone)]
pub struct Seen {
    /// How many runs there were, this one included.
    pub run: usize,
    pub method: Method,
    pub uri: Uri,
    pub original: Option<Uri>,
    pub headers: HeaderMap,
    pub background: bool,
    pub content: Bytes,
    pub extensions: Extensions,
}

impl Seen {
    /// A field's lines, one after the other; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        lines(&self.headers, name).join("|")
    }

    /// What a handler could make its answer of, except for what tells foreground from background.
    pub fn view(&self) -> String {
        let mut fields: Vec<_> = self.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        fields.sort();
        format!("{} {} {:?} {fields:#?}", self.method, self.uri, self.original)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.view())
    }
}

/// Fields with their values, of a table in a test.
pub type Fields = &'static [(&'static str, &'static str)];

type Respond = dyn Fn(&Seen) -> Response + Send + Sync;

/// An origin with one handler for everything.
#[derive(Clone)]
pub struct Origin(Arc<Inner>);

struct Inner {
    respond: Box<Respond>,
    seen: Mutex<Vec<Seen>>,
    /// How many runs have begun.
    begun: watch::Sender<usize>,
    /// How many runs may answer.
    may_answer: watch::Sender<usize>,
}

impl Origin {
    /// An origin that answers with what the function makes of a request.
    pub fn new<R: IntoResponse>(respond: impl Fn(&Seen) -> R + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            respond: Box::new(move |seen| respond(seen).into_response()),
            seen: Mutex::default(),
            begun: watch::Sender::new(0),
            may_answer: watch::Sender::new(usize::MAX),
        }))
    }

    /// An origin whose answer says which run it is of, and has these fields.
    pub fn with_fields(fields: &[(&str, &str)]) -> Self {
        let fields = headers(fields);
        Self::new(move |seen| (fields.clone(), seen.run.to_string()))
    }

    /// An origin whose answer says which run it is of.
    pub fn counting() -> Self {
        Self::with_fields(&[])
    }

    /// The origin as a router, without a layer.
    pub fn router(&self) -> Router {
        let origin = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let origin = origin.clone();
            async move { origin.answer(request).await }
        })
    }

    /// The origin behind a layer.
    pub fn behind(&self, layer: CachebackLayer<Http>) -> Router {
        self.router().layer(layer)
    }

    async fn answer(self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let content = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let seen = {
            let mut all = self.0.seen.lock().expect("no test panics while it holds the lock");
            let seen = Seen {
                run: all.len() + 1,
                method: parts.method,
                uri: parts.uri,
                original: parts.extensions.get::<OriginalUri>().map(|OriginalUri(uri)| uri.clone()),
                headers: parts.headers,
                background: parts.extensions.get::<Background>().is_some(),
                content,
                extensions: parts.extensions,
            };
            all.push(seen.clone());
            seen
        };
        self.0.begun.send_replace(seen.run);
        let mut may_answer = self.0.may_answer.subscribe();
        let _closed = may_answer.wait_for(|runs| seen.run <= *runs).await;
        (self.0.respond)(&seen)
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.seen().len()
    }

    /// What all runs saw, in the order in which they began.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().expect("no test panics while it holds the lock").clone()
    }

    /// What the last run saw.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the handler was called")
    }

    /// Lets no more than the first so many runs answer; the others wait.
    pub fn only_the_first(&self, runs: usize) {
        self.0.may_answer.send_replace(runs);
    }

    /// Lets all runs answer.
    pub fn release(&self) {
        self.only_the_first(usize::MAX);
    }

    /// Waits until so many runs have begun. The clock is paused: if they never do, the time is up at once.
    pub async fn begun(&self, runs: usize) {
        let mut begun = self.0.begun.subscribe();
        let in_time = tokio::time::timeout(Duration::from_secs(1), begun.wait_for(|begun| *begun >= runs)).await;
        assert!(in_time.is_ok(), "{runs} runs were to begin, and {} did", self.runs());
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.runs()).finish()
    }
}

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub extensions: Extensions,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("origins of these tests answer with text")
    }

    /// What the cache says that it did.
    pub fn outcome(&self) -> Outcome {
        *self.extensions.get().expect("every response that passed a layer has an outcome")
    }

    /// The cache's word for what it did, as its status field has it.
    pub fn said(&self) -> String {
        self.outcome().to_string()
    }

    /// A field's lines, one after the other; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        lines(&self.headers, name).join("|")
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }
}

/// A request without content. A field that comes twice has two lines.
pub fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
    *request.uri_mut() = uri.parse().expect("a URI");
    *request.headers_mut() = headers(fields);
    request
}

/// Sends a request and reads the answer.
pub async fn send(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("bodies of these tests do not fail").to_bytes();
    Reply { status: parts.status, headers: parts.headers, body, extensions: parts.extensions }
}

/// Sends a GET.
pub async fn get(app: &Router, uri: &str) -> Reply {
    get_with(app, uri, &[]).await
}

/// Sends a GET with fields.
pub async fn get_with(app: &Router, uri: &str, fields: &[(&str, &str)]) -> Reply {
    send(app, request("GET", uri, fields)).await
}

/// Requests that are sent at one time, each by a task of its own. They are let get as far as they get.
#[derive(Debug, Default)]
pub struct Clients(JoinSet<(usize, Reply)>);

impl Clients {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends one more.
    pub async fn send(&mut self, app: &Router, request: Request<Body>) {
        let (app, number) = (app.clone(), self.0.len());
        self.0.spawn(async move { (number, send(&app, request).await) });
        settle().await;
    }

    /// Sends one more GET.
    pub async fn get(&mut self, app: &Router, uri: &str, fields: &[(&str, &str)]) {
        self.send(app, request("GET", uri, fields)).await;
    }

    /// All answers, in the order of the requests.
    pub async fn answers(self) -> Vec<Reply> {
        let mut answers = self.0.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// A body in pieces, of which nobody knows the length beforehand.
#[derive(Debug)]
pub struct Pieces(VecDeque<Bytes>);

impl Pieces {
    pub fn of<const N: usize>(pieces: [&'static str; N]) -> Self {
        Self(pieces.into_iter().map(Bytes::from).collect())
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Lets all tasks that can go on go on. The clock stands still.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass, and what waits for it go on.
pub async fn pass(seconds: f64) {
    tokio::time::advance(Duration::from_secs_f64(seconds)).await;
    settle().await;
}

/// A response with this in its extensions. (With feature `axum` a handler says it as a part of the response.)
pub fn saying<T: Clone + Send + Sync + 'static>(said: T, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.extensions_mut().insert(said);
    response
}

pub fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a field name");
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a field value"));
    }
    headers
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
}
