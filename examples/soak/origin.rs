//! The origin: makes answers that can be checked, and fails in every way that it knows.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use cacheback::{Freshness, Tags};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use tokio::time::sleep;
use tower::Service;

use crate::{
    body::{End, Pieces},
    checks::Asked,
    faults::Fault,
    figures::{Count, Figures},
    pages::{PAGES, Page, Route, VARIANTS},
    stamp::{Life, Stamp},
    track::{Running, Track},
    truth::Truth,
};

/// The largest body that is stored.
pub(crate) const CAP: usize = 8 << 10;
/// What the layers grant, where an answer says nothing of it.
pub(crate) const RED: Life = Life::of(30, 40, 120);
pub(crate) const RED_NOT_FOUND: Life = Life::of(10, 0, 0);
pub(crate) const CALM: Life = Life::of(20, 20, 0);
pub(crate) const TYPED: Life = Life::of(30, 40, 60);
/// No run takes longer: one that hangs, and then has a slow body of four pieces.
pub(crate) const LONGEST: Duration = Duration::from_millis(400 + 4 * 80);
/// The field with the stamp of an answer.
pub(crate) const STAMP: HeaderName = HeaderName::from_static("x-stamp");

/// The origin of one layer.
#[derive(Clone)]
pub(crate) struct Origin {
    route: Route,
    all: Arc<Shared>,
}

/// What the origins share.
pub(crate) struct Shared {
    truth: Arc<Truth>,
    figures: Arc<Figures>,
    rng: Mutex<fastrand::Rng>,
    tracks: Vec<Arc<Track>>,
}

/// A request to the typed service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) page: Page,
    /// How much had been done by hand to the page when this was sent.
    pub(crate) done: u64,
}

/// The same for HTTP, in the extensions of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoneBefore(pub(crate) u64);

/// The error of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure(u64);

/// What is thrown in a panic on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned;

/// Completes a run when its body was read.
pub(crate) struct Done {
    running: Running,
    origin: Origin,
}

impl Origin {
    pub(crate) fn new(route: Route, all: &Arc<Shared>) -> Self {
        Self { route, all: Arc::clone(all) }
    }

    async fn respond(self, request: Request<Empty<Bytes>>) -> Result<Response<Pieces>, Failure> {
        let headers = request.headers();
        let page = Page::of(request.uri()).expect("clients ask for pages");
        let variant = if page.varies(self.route) { language(headers) } else { 0 };
        let mut stamp = self.stamp(page, variant);
        // What goes past the cache is for one client, and need not say so. It fails for no other, and so not at all.
        let past = headers.contains_key(header::COOKIE) || *request.method() != Method::GET;
        let done_before = request.extensions().get::<DoneBefore>().map_or(0, |done| done.0);
        let done = (!past).then(|| self.begin(&stamp, done_before));
        let fault = if past { Fault::None } else { self.draw_fault() };
        if past || fault.is_personal() {
            stamp.client = headers.get("x-client").and_then(|client| client.to_str().ok()?.parse().ok());
        }
        if self.route == Route::Red && fault == Fault::Status(StatusCode::NOT_FOUND) {
            stamp.life = RED_NOT_FOUND;
        }
        stamp.short = fault == Fault::ShortBody;
        self.pass_time(fault, stamp.run).await?;
        let mut response = self.all.response(&stamp, fault);
        if *request.method() != Method::HEAD {
            *response.body_mut() = self.all.body(&stamp, fault, done);
        }
        Ok(response)
    }

    async fn make(self, ask: Ask) -> Result<Bytes, Failure> {
        let (stamp, fault) = (self.stamp(ask.page, 0), self.draw_fault());
        let done = self.begin(&stamp, ask.done);
        self.pass_time(fault, stamp.run).await?;
        done.tell();
        Ok(stamp.body(self.all.draw(|rng| rng.usize(..2_000))))
    }

    /// What is true at this moment.
    fn stamp(&self, page: Page, variant: usize) -> Stamp {
        let (route, truth, life) = (self.route, &self.all.truth, self.all.life(self.route));
        self.all.figures.count(Count::Runs);
        let (began, run, version) = (truth.now(), truth.next_run(), truth.version());
        Stamp { route, page, variant, client: None, run, version, began, life, put: false, short: false }
    }

    /// Begins a run that the cache may store.
    fn begin(&self, stamp: &Stamp, done_before: u64) -> Done {
        let (begun, _) = self.all.truth.by_hand(self.route, stamp.page);
        let track = &self.all.tracks[(self.route as usize * PAGES + stamp.page.0) * VARIANTS + stamp.variant];
        Done { running: track.begin(stamp.run, begun, done_before), origin: self.clone() }
    }

    fn draw_fault(&self) -> Fault {
        let fault = self.all.draw(|rng| Fault::draw(rng, self.route));
        fault.count().inspect(|count| self.all.figures.count(*count));
        fault
    }

    /// The time that a run takes up to its head, or how it fails before that.
    async fn pass_time(&self, fault: Fault, run: u64) -> Result<(), Failure> {
        let (low, high) = match fault {
            Fault::Slow => (30, 120),
            Fault::Hang => (200, 400),
            _ => (0, 6),
        };
        let ms = self.all.draw(|rng| rng.u64(low..high));
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        match fault {
            Fault::Error => Err(Failure(run)),
            Fault::Panic => std::panic::panic_any(Planned),
            _ => Ok(()),
        }
    }
}

impl Shared {
    pub(crate) fn new(truth: &Arc<Truth>, figures: &Arc<Figures>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            truth: Arc::clone(truth),
            figures: Arc::clone(figures),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            tracks: (0..Route::ALL.len() * PAGES * VARIANTS).map(|_| Arc::default()).collect(),
        })
    }

    /// The stamp of an answer that is put.
    pub(crate) fn stamp_by_hand(&self, asked: &Asked, version: u64, run: u64) -> Stamp {
        let Asked { route, page, variant, .. } = *asked;
        let (began, life) = (self.truth.now(), self.life(route));
        Stamp { route, page, variant, client: None, run, version, began, life, put: true, short: false }
    }

    /// An answer for everybody, to be put.
    pub(crate) fn response_by_hand(&self, stamp: &Stamp) -> Response<Pieces> {
        self.response(stamp, Fault::None).map(|_| self.body(stamp, Fault::None, None))
    }

    fn response(&self, stamp: &Stamp, fault: Fault) -> Response<Pieces> {
        let mut response = Response::new(Pieces::empty());
        if let Fault::Status(status) = fault {
            *response.status_mut() = status;
        }
        let mut field = |name: HeaderName, value: &str| {
            response.headers_mut().insert(name, value.parse().expect("a field value"));
        };
        field(STAMP, &stamp.text());
        if stamp.page.varies(stamp.route) {
            field(header::VARY, "accept-language");
        }
        match fault {
            Fault::Private => field(header::CACHE_CONTROL, "private"),
            Fault::Cookie => field(header::SET_COOKIE, "session=1"),
            Fault::ShortBody => field(header::CONTENT_LENGTH, "7000"),
            _ => {}
        }
        response.extensions_mut().insert(Tags::new([stamp.page.tag()]));
        if stamp.route == Route::Blue {
            response.extensions_mut().insert(Freshness::from(stamp.life));
        }
        response
    }

    fn body(&self, stamp: &Stamp, fault: Fault, done: Option<Done>) -> Pieces {
        let pieces = self.draw(|rng| if rng.u8(..3) == 0 { rng.usize(2..5) } else { 1 });
        let (length, pause) = self.draw(|rng| (rng.usize(..3_000), rng.u64(..3)));
        let length = if fault == Fault::LargeBody { length + CAP } else { length };
        let (pieces, pause) = if fault == Fault::SlowBody { (4, 80) } else { (pieces, pause) };
        let end = match fault {
            Fault::BrokenBody => End::Fails(Failure(stamp.run)),
            Fault::PanickingBody => End::Panics,
            _ => End::Whole,
        };
        Pieces::new(&stamp.body(length), pieces, Duration::from_millis(pause), end, done)
    }

    /// For how long an answer of this layer lives.
    fn life(&self, route: Route) -> Life {
        match route {
            Route::Red => RED,
            Route::Blue => self.draw(|rng| Life::of(rng.u64(1..50), rng.u64(..3) * 30, rng.u64(..3) * 60)),
            Route::Calm => CALM,
            Route::Typed => TYPED,
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Done {
    pub(crate) fn tell(self) {
        let Origin { route, all } = self.origin;
        for excused in self.running.complete() {
            if route == Route::Calm && !excused {
                all.figures.violation("two runs of one key at one time, and nothing that excuses it");
            } else {
                all.figures.count(Count::Together);
            }
        }
    }
}

fn language(headers: &HeaderMap) -> usize {
    headers.get(header::ACCEPT_LANGUAGE).and_then(|language| language.to_str().ok()?.parse().ok()).unwrap_or(0)
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Pieces>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Pieces>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        Box::pin(self.clone().respond(request))
    }
}

impl Service<Ask> for Origin {
    type Response = Bytes;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        Box::pin(self.clone().make(ask))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} failed", self.0)
    }
}

impl std::error::Error for Failure {}
