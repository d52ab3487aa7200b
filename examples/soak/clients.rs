//! The clients: each does one thing after the other, whatever comes to its mind, and checks what it is answered.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use cacheback::{CacheStatus, ForceRefresh, Outcome};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};
use tower::Service;

use crate::{
    body::Pieces,
    checks::{self, Asked, Wrong},
    figures::Count,
    origin::{Ask, DoneBefore},
    pages::{PAGES, Page, Route, VARIANTS},
    world::{LIMIT, World},
};

pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) rng: fastrand::Rng,
    number: u64,
}

/// What a client sends to an HTTP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Get,
    Head,
    /// A GET that goes past the cache.
    Cookie,
    /// A GET that asks for a new run, by a mark in its extensions.
    Forced,
    /// The same by a method of the service.
    Refresh,
}

/// How a client takes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    ReadsAll,
    ReadsSlowly,
    LeavesBeforeHead(Duration),
    LeavesInBody { frames: usize },
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, seed: u64) -> Self {
        let number = world.next_client();
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        Self { world: Arc::clone(world), rng, number }
    }

    pub(crate) async fn live(mut self) {
        while !self.world.is_over() {
            self.world.figures.count(Count::Operations);
            self.act().await;
            // An answer out of memory never waits: others want to live as well.
            yield_now().await;
        }
    }

    async fn act(&mut self) {
        let route = self.rng.choice(Route::ALL).unwrap_or(Route::Calm);
        // Some pages are asked for more often than others.
        let page = Page(self.rng.usize(..PAGES).min(self.rng.usize(..PAGES)));
        match (self.rng.u16(..1_000), route) {
            (0..6, Route::Red | Route::Blue | Route::Calm) => self.post(route, page).await,
            (6..12, _) => self.purge(route, page).await,
            (12..22, _) => self.expire(route, page).await,
            (22..40, _) => self.put(route, page).await,
            (40..46, _) => self.peek(route, page).await,
            (_, Route::Typed) => self.ask(page).await,
            _ => self.read(route, page).await,
        }
    }

    async fn read(&mut self, route: Route, page: Page) {
        let sent = match self.rng.u8(..100) {
            0..3 => Sent::Head,
            3..5 => Sent::Cookie,
            5..7 => Sent::Forced,
            7..8 => Sent::Refresh,
            _ => Sent::Get,
        };
        let (language, manner) = (self.rng.usize(..VARIANTS), self.manner());
        let asked = self.asked(route, page, language, sent);
        let request = self.request(&asked, language);
        let mut service = self.world.service(route).clone();
        // It is called where it is first polled, as by any server.
        let answer = async move {
            match sent {
                Sent::Refresh => service.refresh(request).await,
                _ => service.call(request).await,
            }
        };
        let exchange = async {
            let Some(response) = self.head(answer, manner, Count::Failed).await else { return Ok(()) };
            self.take(&asked, response, manner).await
        };
        self.judge_in_time(&asked, exchange).await;
    }

    async fn ask(&mut self, page: Page) {
        let (sent, manner) = (if self.rng.u8(..50) == 0 { Sent::Refresh } else { Sent::Get }, self.manner());
        let asked = self.asked(Route::Typed, page, 0, sent);
        let ask = Ask { page, done: self.world.truth.by_hand(Route::Typed, page).1 };
        let mut service = self.world.typed.clone();
        let answer = async move {
            match sent {
                Sent::Refresh => service.refresh(ask).await,
                _ => service.call(ask).await,
            }
        };
        let exchange = async {
            let Some(answer) = self.head(answer, manner, Count::TypedAnswers).await else { return Ok(()) };
            self.world.figures.count(Count::TypedAnswers);
            checks::typed(&asked, &answer, &self.world.truth).map(drop)
        };
        self.judge_in_time(&asked, exchange).await;
    }

    /// A request, and what it may count on from now on.
    pub(crate) fn asked(&self, route: Route, page: Page, language: usize, sent: Sent) -> Asked {
        let variant = if page.varies(route) { language } else { 0 };
        let floor = self.world.truth.floor(route, page, variant);
        let asked = Asked { route, page, variant, client: self.number, floor, sent };
        if asked.is_forced() {
            self.world.figures.count(Count::Forced);
        }
        asked
    }

    pub(crate) fn request(&self, asked: &Asked, language: usize) -> Request<Empty<Bytes>> {
        let done = self.world.truth.by_hand(asked.route, asked.page).1;
        let request = Request::builder()
            .uri(asked.page.uri())
            .method(if asked.sent == Sent::Head { Method::HEAD } else { Method::GET })
            .header("host", "soak.example")
            .header("x-client", self.number)
            .extension(DoneBefore(done));
        let request = if language == 0 { request } else { request.header("accept-language", language) };
        let request = match asked.sent {
            Sent::Cookie => request.header("cookie", "session=1"),
            Sent::Forced => request.extension(ForceRefresh),
            Sent::Get | Sent::Head | Sent::Refresh => request,
        };
        request.body(Empty::new()).expect("a request")
    }

    fn manner(&mut self) -> Manner {
        match self.rng.u8(..100) {
            0..6 => Manner::LeavesBeforeHead(Duration::from_millis(self.rng.u64(..12))),
            6..9 => Manner::LeavesInBody { frames: self.rng.usize(..3) },
            9..10 => Manner::ReadsSlowly,
            _ => Manner::ReadsAll,
        }
    }

    /// An answer, unless the client leaves before it is there, or the origin fails.
    async fn head<T, E>(&self, answer: impl Future<Output = Result<T, E>>, manner: Manner, failed: Count) -> Option<T> {
        let figures = &self.world.figures;
        let patience = if let Manner::LeavesBeforeHead(patience) = manner { patience } else { 2 * LIMIT };
        match timeout(patience, caught(answer)).await {
            Ok(Some(Ok(answer))) => return Some(answer),
            Ok(Some(Err(_failure))) => figures.count(failed),
            Ok(None) => {
                figures.count(failed);
                figures.count(Count::Panicked);
            }
            Err(_left) => figures.count(Count::LeftBeforeHead),
        }
        None
    }

    /// Takes an answer of an HTTP layer.
    async fn take(
        &self,
        asked: &Asked,
        response: Response<cacheback::Body<Pieces>>,
        manner: Manner,
    ) -> Result<(), Wrong> {
        let (head, mut body) = response.into_parts();
        let outcome: Outcome = *head.extensions.get().ok_or("an answer without an outcome")?;
        self.count(outcome);
        let stamp = checks::head(asked, &head, outcome, &self.world.truth)?;
        if stamp.client.is_some() {
            self.world.figures.count(Count::Personal);
        }
        let mut read = Vec::new();
        for frames in 0.. {
            if manner == (Manner::LeavesInBody { frames }) {
                self.world.figures.count(Count::LeftInBody);
                return Ok(());
            }
            match caught(body.frame()).await {
                Some(Some(Ok(frame))) => read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(None) => break,
                // It failed, or panicked.
                Some(Some(Err(_))) | None => {
                    self.world.figures.count(Count::Unfinished);
                    return checks::unfinished(&stamp, outcome);
                }
            }
            if manner == Manner::ReadsSlowly {
                self.world.figures.count(Count::SlowReads);
                sleep(Duration::from_millis(20)).await;
            }
        }
        checks::body(asked, &stamp, outcome, &read)
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        self.world.figures.count(match outcome.status() {
            CacheStatus::Hit if outcome.is_stale() => Count::StaleHits,
            CacheStatus::Hit => Count::Hits,
            CacheStatus::Bypass | CacheStatus::Method => Count::Bypassed,
            _ if outcome.is_collapsed() => Count::Collapsed,
            _ => Count::Misses,
        });
        if checks::is_stale_instead(outcome) {
            self.world.figures.count(Count::StaleInstead);
        }
    }

    async fn judge_in_time(&self, asked: &Asked, exchange: impl Future<Output = Result<(), Wrong>>) {
        let judged = timeout(LIMIT, exchange).await;
        self.judge(judged.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}: {asked:?}"))));
    }

    pub(crate) fn judge(&self, judged: Result<(), Wrong>) {
        if let Err(wrong) = judged {
            self.world.figures.violation(&wrong);
        }
    }
}

/// What a future gives, unless it panics.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}
