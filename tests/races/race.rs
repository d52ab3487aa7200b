//! One race as it is run: what is stored, the run and who waits for it, who overtakes it, who comes late. After each step
//! all that there is to be seen is compared with what the cell lets expect.
#![allow(unreachable_pub, reason = "a test is a crate of its own")]

use std::{collections::BTreeSet, convert::Infallible};

use axum::body::Body;
use cacheback::{Cache, CacheStatus, CachebackLayer, Detail, Error, ForceRefresh, Key, Tags};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::{
    task::{self, JoinHandle},
    time,
};
use tower::{Layer as _, ServiceExt as _};

use super::cells::{By, Cell, FILLED, Kept, Kind, Late, Life, Order, Page, Post, Stage, Via};
use crate::support::{
    by_hand::{AtOnce, ByHand, Calls, asked_by, begin, by_hand, now},
    http::{Reply, request, secs},
    net::{Script, infallible, quiet, scripted},
};

type Answer = Result<Response<cacheback::Body<Body>>, Infallible>;

pub struct Race {
    cell: Cell,
    cache: Cache,
    layer: CachebackLayer,
    origin: ByHand,
    calls: Calls,
    page: Key,
    other: Key,
    /// In seconds.
    now: u64,
    // What is to be seen: what is stored under the page's key, and the runs that wait for their answers.
    stored: Option<Kept>,
    sibling: Option<Kept>,
    running: Vec<&'static str>,
}

/// The run that is overtaken.
#[derive(Default)]
struct Old {
    reader: Option<JoinHandle<Reply>>,
    follower: Option<JoinHandle<Reply>>,
    put: Option<JoinHandle<Result<(), Error>>>,
    /// What is still to come of its body.
    rest: Option<Script>,
}

const PAGE: &str = "/quotes/1?q=1";
const OTHER: &str = "/quotes/2?q=1";
/// Tags of what was stored before, and of what the run brings.
const FORMER: [&str; 2] = ["quotes", "former"];
const NEW: [&str; 2] = ["quotes", "new"];
/// A draw of lots that every early refresh wins.
const ALWAYS: f64 = 1e15;

impl Race {
    /// Runs a cell from its first request to its last.
    pub async fn run(cell: Cell) {
        let mut race = Self::new(cell);
        race.fill().await;
        let old = race.begin().await;
        race.overtake();
        let late = race.come_late().await;
        if cell.order == Order::OldFirst {
            race.land_old(old).await;
            race.land_new(late).await;
        } else {
            race.land_new(late).await;
            race.land_old(old).await;
        }
        race.end().await;
    }

    /// Runs a cell in which the run that is overtaken fails, and so does the next one: neither brings back what was purged,
    /// nor makes fresh what was expired.
    pub async fn run_failing(cell: Cell) {
        let mut race = Self::new(cell);
        race.fill().await;
        let old = race.begin().await;
        race.overtake();
        race.fail("old").await;
        if let Some(reader) = old.reader {
            let instead = match cell.kind {
                Kind::Stale | Kind::Early => Some("kept"),
                Kind::TooStale => race.stored.map(|kept| kept.text),
                _ => None,
            };
            race.gets_instead(reader, instead).await;
        }
        let late = race.come_after_a_failure("late").await;
        race.fail("late").await;
        for client in late {
            race.gets_instead(client, race.stored.map(|kept| kept.text)).await;
        }
        let again = race.come_after_a_failure("again").await;
        race.succeed("again", again).await;
        race.end().await;
    }

    fn new(cell: Cell) -> Self {
        let (origin, calls) = by_hand();
        let cache = Cache::builder().memory(1 << 20).build();
        let layer = cache.layer(cell.page.freshness()).fill_timeout(secs(60));
        // What is put through the cache is for layers without rules.
        let layer = if cell.by == By::Put(Via::Cache) { layer } else { layer.namespace("acme") };
        let key = |uri| now(layer.explain(get("nobody", uri))).key().expect("it is looked up").clone();
        let (page, other) = (key(PAGE), key(OTHER));
        let (now, stored, sibling, running) = (0, None, None, Vec::new());
        Self { cell, cache, layer, origin, calls, page, other, now, stored, sibling, running }
    }

    // ---- before ----

    /// Has stored what there is before the run.
    async fn fill(&mut self) {
        let cell = self.cell;
        let sibling = cell.sibling().map(|kept| {
            let mut request = get(kept.text, PAGE);
            request.headers_mut().insert("accept-language", HeaderValue::from_static("fr"));
            (kept.text, self.send(request))
        });
        let kept = cell.kind.has_something_stored().then(|| ("kept", self.send(get("kept", PAGE))));
        quiet().await;
        // A run that takes no time is never worth an early refresh.
        self.pass_to(FILLED).await;
        for (text, client) in sibling.into_iter().chain(kept) {
            let response = self.response(text, &FORMER);
            self.answer(text, response);
            quiet().await;
            assert_eq!(self.reply("it is filled", client).await.text(), text, "{cell:?}");
        }
        self.pass_to(cell.begins()).await;
        self.sibling = cell.sibling();
        self.stored = cell.kind.has_something_stored().then(|| Kept::new("kept", 0));
        self.sees("it is filled").await;
    }

    /// Begins the run, and lets it go as far as the cell says.
    async fn begin(&mut self) -> Old {
        let cell = self.cell;
        let mut old = Old::default();
        if cell.kind == Kind::Put {
            let response =
                if cell.stage == Stage::Streaming { self.head(&mut old) } else { self.response("old", &NEW) };
            let layer = self.layer.clone();
            old.put = Some(begin(async move { layer.put(get("old", PAGE), response).await }));
        } else {
            old.reader = Some(self.send_first());
            self.running = vec!["old"];
            if cell.stage.has_called() {
                self.sees("the run has begun").await;
                assert_eq!(self.calls.is_background("old"), cell.kind.is_background(), "{cell:?}");
                self.pass_to(cell.overtaken()).await;
            }
            if cell.stage == Stage::Yielded {
                task::yield_now().await;
            }
            if cell.followed {
                old.follower = Some(self.send(get("follower", PAGE)));
            }
            if cell.stage == Stage::Streaming {
                let head = self.head(&mut old);
                self.answer("old", head);
            }
            if cell.kind == Kind::Left {
                self.go_on().await;
                old.reader.take().expect("a client that has not left").abort();
                self.go_on().await;
            }
            if cell.stage == Stage::Stored {
                let response = self.response("old", &NEW);
                self.answer("old", response);
            }
        }
        self.stored = cell.before();
        if cell.stage.has_called() {
            self.sees("the run is about to be overtaken").await;
        }
        old
    }

    /// Sends the request that brings the run about.
    fn send_first(&self) -> JoinHandle<Reply> {
        let request = get("old", PAGE);
        match self.cell.kind {
            Kind::Forced => self.send(forced(request)),
            Kind::Refreshed => begin(read(self.layer.layer(self.origin.clone()).refresh(request))),
            // Later readers draw no lots.
            Kind::Early => self.send_through(&self.layer.clone().early_refresh(ALWAYS), request),
            _ => self.send(request),
        }
    }

    /// The head of the run's response, and a part of its body.
    fn head(&self, old: &mut Old) -> Response<Body> {
        let (script, body) = scripted();
        script.data("o");
        old.rest = Some(script);
        self.response(Body::new(body), &NEW)
    }

    // ---- the overtaking ----

    /// Overtakes the run. No task goes on meanwhile.
    fn overtake(&mut self) {
        let cell = self.cell;
        let reached = [self.stored, self.sibling].iter().flatten().filter(|kept| cell.reaches(**kept)).count();
        match cell.by {
            By::Expire(aim) => {
                let did = now(self.cache.expire(aim.scope(&self.page, &self.other))).expect("expired");
                assert_eq!(did.entries, reached, "{cell:?}");
            }
            By::Purge(aim) => {
                let did = now(self.cache.purge(aim.scope(&self.page, &self.other))).expect("purged");
                assert_eq!(did.entries, reached, "{cell:?}");
            }
            By::Unsafe(post) => self.post(post),
            By::Put(via) => self.put(via),
        }
        self.stored = cell.after();
        self.sibling = self.sibling.and_then(|kept| cell.left(kept));
        self.finds("it has just been overtaken");
        let waits = self.calls.askers().contains(&"old");
        assert_eq!(
            waits,
            cell.stage == Stage::Begun,
            "{cell:?}: whether the service has been called, and has not answered"
        );
    }

    fn post(&self, post: Post) {
        let (host, uri) = post.target();
        let (status, fields) = post.answer();
        let layer = match post {
            Post::ToPageThroughAnotherLayer => self.cache.layer(secs(1)),
            Post::TurnedOff => self.layer.clone().unsafe_invalidates(false),
            _ => self.layer.clone(),
        };
        let mut request = request("POST", uri, &[("host", host)]);
        request.extensions_mut().insert(AtOnce(status, fields));
        let reply = now(read(layer.layer(self.origin.clone()).oneshot(request)));
        assert_eq!(reply.status, status, "{:?}", self.cell);
    }

    fn put(&self, via: Via) {
        let mut response = self.response("put", &["quotes", "put"]);
        response.extensions_mut().insert(self.cell.page.freshness());
        if via == Via::LayerAfterPurge {
            now(self.cache.purge(&self.page)).expect("purged");
        }
        let put = get("put", if via == Via::LayerOnOtherPage { OTHER } else { PAGE });
        match via {
            Via::Cache => now(self.cache.put(put, response)).expect("put"),
            _ => now(self.layer.put(put, response)).expect("put"),
        }
        if via == Via::LayerBeforePurge {
            let did = now(self.cache.purge_tag("put")).expect("purged");
            assert_eq!(did.entries, 1, "{:?}", self.cell);
        }
    }

    // ---- after ----

    /// Those come who are too late for the old run.
    async fn come_late(&mut self) -> Vec<JoinHandle<Reply>> {
        let cell = self.cell;
        if cell.stage.has_called() {
            self.sees("it was overtaken").await;
        }
        let late = || get("late", PAGE);
        let mut late = match cell.late {
            Late::Readers => vec![self.send(late()), self.send(late())],
            Late::Forcing => vec![self.send(forced(late()))],
        };
        if cell.wants_new() && cell.is_free() {
            self.running.push("late");
        }
        self.sees("those who are late have come").await;
        // What others do meanwhile lets nobody forget what has happened.
        now(self.layer.put(get("nobody", OTHER), self.response("other", &[]))).expect("put");
        if cell.hits() {
            for client in late.drain(..) {
                self.gets_stored("those who are late have come", client).await;
            }
        }
        if cell.order == Order::NewFirst && !cell.is_free() {
            // They run out of patience with the old run.
            self.pass_to(self.now + 10).await;
            self.running.push("late");
            self.sees("their patience is over").await;
        }
        late
    }

    /// The run that was overtaken lands.
    async fn land_old(&mut self, mut old: Old) {
        let cell = self.cell;
        if let Some(script) = &mut old.rest {
            script.data("ld");
            script.end();
        } else if cell.stage != Stage::Stored {
            let response = self.response("old", &NEW);
            self.answer("old", response);
        }
        let refused = match cell.order {
            _ if cell.is_void() => Some(Detail::Invalidated),
            Order::OldFirst => None,
            Order::NewFirst => Some(Detail::Superseded),
        };
        if refused.is_none() && cell.stage != Stage::Stored {
            self.stored = Some(Kept::new("old", cell.begins()));
        }
        if cell.kind == Kind::Put && self.stored.is_some_and(|kept| kept.text == "kept") {
            // What is older than a put is over once that is done, whatever became of the put itself.
            self.stored = None;
        }
        if cell.begins_when_old_lands() {
            self.running.push("late");
        }
        let step = "the old run has landed";
        self.sees(step).await;
        if let Some(put) = old.put {
            assert!(put.is_finished(), "{cell:?}: {step}");
            put.await.expect("no panic").expect("what came later has won, which is no error");
        }
        if let Some(reader) = old.reader {
            let reply = self.reply(step, reader).await;
            let text = if cell.kind.is_background() { "kept" } else { "old" };
            assert_eq!(reply.text(), text, "{cell:?}: {step}");
            if !cell.kind.is_background() && !matches!(cell.stage, Stage::Streaming | Stage::Stored) {
                self.was_told(&reply, refused);
            }
        }
        if let Some(follower) = old.follower {
            let reply = self.reply(step, follower).await;
            assert_eq!(reply.text(), "old", "{cell:?}: {step}");
            self.was_told(&reply, refused);
        }
    }

    /// Those who are late get the new run's answer, if there is a new run.
    async fn land_new(&mut self, late: Vec<JoinHandle<Reply>>) {
        let cell = self.cell;
        if self.running.is_empty() && !late.is_empty() {
            // They shared the run that nothing has reached.
            for client in late {
                assert_eq!(self.reply("they share", client).await.text(), "old", "{cell:?}");
            }
            return;
        }
        if cell.hits() && cell.wants_new() && !cell.is_free() && cell.is_void() {
            // As long as the old run was there none was begun.
            let again = self.send(get("again", PAGE));
            self.running.push("again");
            self.sees("one more has come").await;
            self.gets_stored("one more has come", again).await;
        }
        let new = self.running.iter().find(|asker| **asker != "old").copied();
        if let Some(new) = new {
            self.succeed(new, late).await;
        }
    }

    /// A new run lands, for those who wait for it.
    async fn succeed(&mut self, new: &'static str, waiting: Vec<JoinHandle<Reply>>) {
        let step = "the new run has landed";
        let response = self.response("new", &["quotes"]);
        self.answer(new, response);
        self.stored = Some(Kept::new("new", self.now));
        self.sees(step).await;
        for client in waiting {
            assert_eq!(self.reply(step, client).await.text(), "new", "{:?}: {step}", self.cell);
        }
    }

    /// A run fails, and nothing else changes.
    async fn fail(&mut self, asker: &'static str) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        self.answer(asker, response);
        self.sees("a run has failed").await;
    }

    /// Somebody comes when the pause that a failure makes is over, and brings a run about: who waits for that, if anybody.
    async fn come_after_a_failure(&mut self, asker: &'static str) -> Vec<JoinHandle<Reply>> {
        let step = "somebody comes after a failure";
        self.pass_to(self.now + 2).await;
        let client = self.send(get(asker, PAGE));
        self.running.push(asker);
        self.sees(step).await;
        if !self.cell.hits() {
            return vec![client];
        }
        self.gets_stored(step, client).await;
        Vec::new()
    }

    /// Whoever comes now gets what was stored last, and nothing runs; or there is nothing left, and a new run.
    async fn end(&mut self) {
        let last = self.send(get("last", PAGE));
        if self.stored.is_none() {
            self.running.push("last");
            self.sees("nothing is left").await;
            return self.succeed("last", vec![last]).await;
        }
        self.sees("all is over").await;
        self.gets_stored("all is over", last).await;
    }

    // ---- what is to be seen ----

    /// Lets everything go on as far as it goes, unless nothing is to go on before the run is overtaken.
    async fn go_on(&self) {
        if self.cell.stage.has_called() {
            quiet().await;
        }
    }

    /// Lets everything go on as far as it goes, and looks.
    async fn sees(&mut self, step: &str) {
        quiet().await;
        self.finds(step);
        self.running.sort_unstable();
        assert_eq!(self.calls.askers(), self.running, "{:?}: {step}: who runs", self.cell);
    }

    /// Looks at what is stored under the page's key, with nothing going on.
    fn finds(&self, step: &str) {
        let peeked = self.cache.peek(&self.page);
        let found = peeked.iter().map(|found| {
            let text = String::from_utf8_lossy(found.value().content()).into_owned();
            (text, found.is_fresh(), found.is_expired())
        });
        let kept = [self.stored, self.sibling].into_iter().flatten();
        let kept = kept.filter(|kept| self.life(*kept) != Life::Gone);
        let kept = kept.map(|kept| (kept.text.to_owned(), self.life(kept) == Life::Fresh, kept.expired));
        let (found, kept): (BTreeSet<_>, BTreeSet<_>) = (found.collect(), kept.collect());
        assert_eq!(found, kept, "{:?}: {step}: what is stored", self.cell);
    }

    /// A client has its whole answer.
    async fn reply(&self, step: &str, client: JoinHandle<Reply>) -> Reply {
        assert!(client.is_finished(), "{:?}: {step}: somebody waits", self.cell);
        client.await.unwrap_or_else(|panic| panic!("{:?}: {step}: {panic}", self.cell))
    }

    /// A client was answered with what is stored.
    async fn gets_stored(&self, step: &str, client: JoinHandle<Reply>) {
        let reply = self.reply(step, client).await;
        let found = (reply.text(), reply.outcome().status(), reply.outcome().is_stale());
        let kept = self.stored.map(|kept| (kept.text, CacheStatus::Hit, self.life(kept) == Life::Stale));
        assert_eq!(Some(found), kept, "{:?}: {step}: {}", self.cell, reply.said());
    }

    /// A client was answered with this in place of a failure.
    async fn gets_instead(&self, client: JoinHandle<Reply>, instead: Option<&str>) {
        let reply = self.reply("a run has failed", client).await;
        let expected = instead.map_or((StatusCode::SERVICE_UNAVAILABLE, ""), |text| (StatusCode::OK, text));
        assert_eq!((reply.status, reply.text()), expected, "{:?}: a run has failed", self.cell);
    }

    /// A client was told whether the old run's response was stored, and if not, why.
    fn was_told(&self, reply: &Reply, refused: Option<Detail>) {
        let told = (reply.outcome().is_stored(), reply.outcome().detail());
        assert_eq!(told, (refused.is_none(), refused), "{:?}: {}", self.cell, reply.said());
    }

    fn life(&self, kept: Kept) -> Life {
        self.cell.page.at(self.now - kept.since, kept.expired)
    }

    // ---- the means ----

    fn send(&self, request: Request<Body>) -> JoinHandle<Reply> {
        self.send_through(&self.layer, request)
    }

    fn send_through(&self, layer: &CachebackLayer, request: Request<Body>) -> JoinHandle<Reply> {
        begin(read(layer.layer(self.origin.clone()).oneshot(request)))
    }

    /// Answers a run that waits for it.
    fn answer(&mut self, asker: &str, response: Response<Body>) {
        self.running.retain(|running| *running != asker);
        let call = self.calls.of(asker);
        call.unwrap_or_else(|| panic!("{:?}: no run of {asker}", self.cell)).answer(response);
    }

    fn response(&self, body: impl Into<Body>, tags: &[&'static str]) -> Response<Body> {
        let mut response = Response::new(body.into());
        response.extensions_mut().insert(Tags::new(tags.iter().copied()));
        if self.cell.page == Page::Varied {
            response.headers_mut().insert("vary", HeaderValue::from_static("accept-language"));
        }
        response
    }

    async fn pass_to(&mut self, second: u64) {
        time::advance(secs(second - self.now)).await;
        self.now = second;
    }
}

fn get(asker: &'static str, uri: &str) -> Request<Body> {
    asked_by(asker, request("GET", uri, &[("host", "a.example")]))
}

fn forced(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(ForceRefresh);
    request
}

/// Reads a response to its end.
async fn read(response: impl Future<Output = Answer>) -> Reply {
    let (parts, body) = infallible(response.await).into_parts();
    let body = body.collect().await.expect("bodies of these tests do not fail").to_bytes();
    Reply { status: parts.status, headers: parts.headers, body, extensions: parts.extensions }
}
