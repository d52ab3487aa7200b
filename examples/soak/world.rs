//! What is soaked: a cache with three HTTP layers, and a typed layer with a cache of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use cacheback::{Cache, Cacheback, CachebackLayer, Freshness, Http, Scope, Stats, Typed};
use http::StatusCode;
use tokio::time::timeout;
use tower::Layer;

use crate::{
    figures::{Count, Figures},
    origin::{Ask, CALM, CAP, Failure, Origin, RED, RED_NOT_FOUND, Shared, TYPED},
    pages::Route,
    truth::Truth,
};

/// Nobody waits longer for an answer, its body included. No run takes half a second, nobody waits for more than a few of
/// them, and the rest is the scheduler's.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// So little that what is stored makes room for other things all the time.
const MEMORY: usize = 96 << 10;
const TYPED_MEMORY: usize = 16 << 10;
const REFRESHES: usize = 8;

pub(crate) struct World {
    pub(crate) truth: Arc<Truth>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) origins: Arc<Shared>,
    pub(crate) cache: Cache,
    layers: [(CachebackLayer<Http>, Cacheback<Origin, Http>); 3],
    pub(crate) typed_layer: CachebackLayer<Typed<Ask, Bytes>>,
    pub(crate) typed: Cacheback<Origin, Typed<Ask, Bytes>>,
    clients: AtomicU64,
    over: AtomicBool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let (truth, figures) = (Arc::new(Truth::new()), Arc::new(Figures::new()));
        let origins = Shared::new(&truth, &figures, seed);
        let cache = Cache::builder().memory(MEMORY).max_refreshes(REFRESHES).build();
        let layers = Route::HTTP.map(|route| {
            let layer = http(&cache, route);
            let service = layer.layer(Origin::new(route, &origins));
            (layer, service)
        });
        let typed_layer = typed();
        let typed = typed_layer.layer(Origin::new(Route::Typed, &origins));
        let (clients, over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { truth, figures, origins, cache, layers, typed_layer, typed, clients, over }
    }

    pub(crate) fn layer(&self, route: Route) -> &CachebackLayer<Http> {
        &self.layers[route as usize].0
    }

    pub(crate) fn service(&self, route: Route) -> &Cacheback<Origin, Http> {
        &self.layers[route as usize].1
    }

    /// The number of the next client.
    pub(crate) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn end(&self) {
        self.over.store(true, SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// What must hold at every moment.
    pub(crate) fn check_now(&self) {
        let typed = self.typed_layer.cache();
        for (name, stats, memory) in [("pages", self.cache.stats(), MEMORY), ("typed", typed.stats(), TYPED_MEMORY)] {
            if stats.bytes > memory as u64 || stats.refreshes > REFRESHES {
                self.figures.violation(&format!("{name}: more than was allowed: {stats:#?}"));
            }
        }
    }

    /// What must hold when all clients are gone.
    pub(crate) async fn check_at_the_end(&self) {
        let typed = self.typed_layer.cache();
        let settled = async { tokio::join!(self.cache.settled(), typed.settled()) };
        if timeout(LIMIT, settled).await.is_err() {
            self.figures.violation(&format!("runs go on for ever: {:#?} {:#?}", self.cache.stats(), typed.stats()));
        }
        if !(self.cache.drain(LIMIT).await && typed.drain(LIMIT).await) {
            self.figures.violation("refreshes go on for ever");
        }
        self.check_sums(&self.cache.stats(), &typed.stats());
        let purged = (self.cache.purge(Scope::everything()).await, typed.purge(Scope::everything()).await);
        for stats in [self.cache.stats(), typed.stats()] {
            if purged.0.is_err() || purged.1.is_err() || (stats.keys, stats.bytes) != (0, 0) {
                self.figures.violation(&format!("purged, and not empty: {stats:#?}"));
            }
        }
    }

    /// What the caches did beside answering.
    pub(crate) fn told(&self) -> String {
        let told = |name: &str, stats: Stats| {
            let Stats { stored, refused, evicted, refreshes_dropped, runs_timed_out, runs_abandoned, .. } = stats;
            format!(
                "{name}: {stored} stored, {refused} refused, {evicted} evicted; {refreshes_dropped} refreshes dropped, \
                 {runs_timed_out} runs timed out, {runs_abandoned} given up"
            )
        };
        let typed = self.typed_layer.cache();
        format!("{}\n{}", told("pages", self.cache.stats()), told("typed", typed.stats()))
    }

    /// Whether the caches counted what their clients saw. An error says nothing of how it came about.
    fn check_sums(&self, pages: &Stats, typed: &Stats) {
        let of = |count| self.figures.of(count);
        let missed = of(Count::Misses) + of(Count::Collapsed) + of(Count::Failed);
        for (what, counted, seen) in [
            ("runs under way", (pages.runs + typed.runs) as u64, 0),
            ("refreshes under way", (pages.refreshes + typed.refreshes) as u64, 0),
            ("hits", pages.hits, of(Count::Hits)),
            ("stale hits", pages.stale_hits, of(Count::StaleHits)),
            ("bypassed", pages.bypassed, of(Count::Bypassed)),
            ("misses, collapsed and failed", pages.misses + pages.collapsed, missed),
            ("typed answers", typed.requests(), of(Count::TypedAnswers)),
            ("purges", pages.purges + typed.purges, of(Count::Purges) + of(Count::Posts)),
            ("expiries", pages.expiries + typed.expiries, of(Count::Expiries)),
        ] {
            if counted != seen {
                self.figures.violation(&format!("{what}: the caches count {counted}, their clients {seen}"));
            }
        }
    }
}

fn http(cache: &Cache, route: Route) -> CachebackLayer<Http> {
    let ms = Duration::from_millis;
    let layer = |life: Freshness| cache.layer(life).namespace(route.name());
    match route {
        Route::Red => layer(RED.into())
            .negative(StatusCode::NOT_FOUND, RED_NOT_FOUND)
            .refresh_timeout(ms(150))
            .wait_timeout(ms(80))
            .fill_timeout(ms(50))
            .hit_for_miss(ms(60))
            .body_cap(CAP)
            .max_variants(3)
            .early_refresh(1.0)
            .jitter(0.3),
        Route::Blue => layer(Freshness::exact(Duration::ZERO))
            .refresh_timeout(ms(200))
            // Whoever waits is told of every end of a run, in time, or the run was not ended as it should be.
            .wait_timeout(2 * LIMIT)
            .soft_timeout(ms(20))
            .fill_timeout(ms(50))
            .hit_for_miss(ms(60))
            .body_cap(CAP)
            .share_errors::<Failure>(),
        Route::Calm | Route::Typed => layer(CALM.into()).wait_timeout(2 * LIMIT),
    }
}

fn typed() -> CachebackLayer<Typed<Ask, Bytes>> {
    let ms = Duration::from_millis;
    let cache = Cache::builder().memory(TYPED_MEMORY).max_refreshes(REFRESHES).build_for();
    CachebackLayer::typed(|ask: &Ask| ask.page.key())
        .over_cache(&cache)
        .freshness(TYPED)
        .weigh(Bytes::len)
        .refresh_timeout(ms(150))
        .wait_timeout(ms(80))
        .early_refresh(1.0)
        .jitter(0.3)
}
