//! An HTTP layer, around a service that answers as it is told to, with bodies that may come later.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use cacheback::{Background, Cache, Outcome, Scope, StoredResponse, Tags};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use tokio::sync::oneshot;
use tower::{Layer, Service, service_fn};

use super::{
    Answering, Call, Failed, Layered, Reply, freshness, now_or_never, set,
    tape::{Tape, Told, UnderWay},
};
use crate::support::model::{Answer, End, Reach, Rules, language};

/// The cap of bodies.
const CAP: usize = 100;

pub(super) fn layer(rules: Rules, tape: &Tape) -> Layered<StoredResponse> {
    let cache = Cache::builder().max_refreshes(rules.refreshes).build();
    let layer = set(cache.layer(freshness(rules)).namespace("own").body_cap(CAP), rules);
    let tape = tape.clone();
    let service = layer.layer(service_fn(move |request: Request<Empty<Bytes>>| {
        let ask = request.headers().get("x-ask").map(|ask| ask.to_str().unwrap().parse().unwrap());
        let background = request.extensions().get::<Background>().is_some();
        let run = ask.filter(|_| request.method() == Method::GET).map(|ask| tape.call(ask, background));
        async move {
            match run {
                Some((under_way, told)) => respond(under_way, told).await,
                None => Ok(Response::new(Script::default())),
            }
        }
    }));
    let posted = service.clone();
    Layered {
        cache,
        call: Box::new(move |call| {
            let request = request(call);
            let answer = if call.forced { service.refresh(request) } else { service.clone().call(request) };
            Box::pin(async move { answer.await.map(reply) }) as Answering
        }),
        post: Box::new(move |key| {
            let request = Request::post(uri(key)).body(Empty::new()).unwrap();
            now_or_never(posted.clone().call(request)).is_some()
        }),
        put: Box::new(move |call, with, run| {
            let frames = VecDeque::from([begins(run), ends(run)].map(Bytes::from));
            let response = head(run, with).body(Script { frames, ..Script::default() }).unwrap();
            now_or_never(layer.put(request(call), response)).is_some_and(|put| put.is_ok())
        }),
        scopes,
    }
}

fn request(call: Call) -> Request<Empty<Bytes>> {
    let request = Request::get(uri(call.key)).header("accept-language", language(call.client));
    request.header("x-ask", call.ask).body(Empty::new()).unwrap()
}

async fn respond(under_way: UnderWay, told: oneshot::Receiver<Told>) -> Result<Response<Script>, Failed> {
    let (answer, end) = told.await.expect("its gate is kept");
    let run = under_way.run;
    if matches!(answer, Answer::Fail | Answer::Panic) {
        under_way.end();
        return if answer == Answer::Fail { Err(Failed(run)) } else { resume_unwind(Box::new(run)) };
    }
    let filler = if answer == Answer::TooLarge { "x".repeat(CAP) } else { String::new() };
    let frames = VecDeque::from([begins(run) + &filler, ends(run)].map(Bytes::from));
    let script = match end {
        Some(end) => Script { frames, end: Some((end, under_way)) },
        None => {
            under_way.end();
            Script { frames, end: None }
        }
    };
    Ok(head(run, answer).body(script).unwrap())
}

fn head(run: usize, answer: Answer) -> http::response::Builder {
    let response = Response::builder().header("x-run", run);
    match answer {
        Answer::Store(tag) => response.extension(Tags::new([tag.to_string()])),
        Answer::Vary(tag) => response.extension(Tags::new([tag.to_string()])).header(header::VARY, "accept-language"),
        Answer::Personal => response.header(header::SET_COOKIE, format!("run={run}")),
        Answer::NotFound => response.status(StatusCode::NOT_FOUND),
        Answer::Unavailable => response.status(StatusCode::SERVICE_UNAVAILABLE),
        Answer::TooLarge | Answer::Fail | Answer::Panic => response,
    }
}

fn reply(response: Response<cacheback::Body<Script>>) -> Reply {
    let (head, body) = response.into_parts();
    let run = head.headers["x-run"].to_str().unwrap().parse().unwrap();
    let rest = Box::pin(async move {
        let read = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let whole = read.starts_with(begins(run).as_bytes()) && read.ends_with(ends(run).as_bytes());
        if whole { End::Whole } else { End::Broken }
    });
    Reply { run, stale: head.extensions.get().map(Outcome::is_stale), rest }
}

fn begins(run: usize) -> String {
    format!("<{run}>")
}

fn ends(run: usize) -> String {
    format!("</{run}>")
}

/// A body in pieces, the last of which may come later, or not at all.
#[derive(Default)]
struct Script {
    frames: VecDeque<Bytes>,
    end: Option<(oneshot::Receiver<End>, UnderWay)>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if self.frames.len() == 1
            && let Some((end, _)) = &mut self.end
        {
            let end = ready!(Pin::new(end).poll(cx)).expect("its gate is kept");
            let (_, under_way) = self.end.take().expect("it was polled");
            let run = under_way.run;
            under_way.end();
            if end == End::Broken {
                self.frames.clear();
                return Poll::Ready(Some(Err(Failed(run))));
            }
        }
        Poll::Ready(self.frames.pop_front().map(|frame| Ok(Frame::data(frame))))
    }
}

fn path(key: usize) -> String {
    format!("/{}/{key}", key / 2)
}

/// Every other one has a query.
fn uri(key: usize) -> String {
    if key % 2 == 1 { format!("{}?q", path(key)) } else { path(key) }
}

fn scopes(reach: Reach) -> Vec<Scope> {
    vec![match reach {
        Reach::Key(key) => Scope::uri(&uri(key)).unwrap(),
        Reach::Path(key) => Scope::path(&path(key)).unwrap(),
        Reach::Below(parent) => Scope::path_prefix(&format!("/{parent}")).unwrap(),
        Reach::Tag(tag) => Scope::tag(tag.to_string()),
        Reach::Namespace(own) => Scope::namespace(if own { "own" } else { "other" }),
        Reach::Everything => Scope::everything(),
    }]
}
