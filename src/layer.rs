//! The layer, which is its own builder.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{
    cache::Cache,
    elsewhere::Elsewhere,
    freshness::Freshness,
    http::{Http, StoredResponse},
    protocol::Protocol,
    route::{Route, Settings},
    service::Cacheback,
    sync::Handle,
    telemetry::BypassWatch,
};

/// Caches the responses of the service it wraps, keyed by request.
///
/// | what is stored | what the reader gets |
/// |---|---|
/// | fresh | the stored response; the service is not touched |
/// | stale | the stored response at once; a clone of the service re-runs the request in a task |
/// | too stale | what a new run answers, or the stored response should that run fail |
/// | nothing | what a new run answers; everyone who wants the same key waits for that one run |
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use cacheback::CachebackLayer;
///
/// # async fn quote() {}
/// let app: Router = Router::new()
///     .route("/quotes/{id}", get(quote))
///     .layer(CachebackLayer::new(Duration::from_secs(60)));
/// ```
///
/// Setters come in any order. `P` is the protocol: [`Http`] unless the layer was made by
/// [`CachebackLayer::typed`] or [`CachebackLayer::grpc`].
/// A clone is the same layer: clones share one part of the refresh limit.
///
/// # Runtime
///
/// A miss and a refresh need a tokio runtime. Outside of one fresh hits are answered, and all else goes forward as without
/// the layer; refreshes may have a runtime of their own ([`spawn_on`](Self::spawn_on)). In one without time
/// (`enable_time`; `#[tokio::main]` enables it) no limit of time is kept: a refresh that hangs is never aborted, a slow body
/// is waited for.
///
/// # Backpressure
///
/// The service is always ready. The wrapped service is driven to readiness where it is called, so an answer from memory
/// never waits for its permits; a miss waits inside its future. A `LoadShed` therefore belongs inside this layer.
#[must_use = "a layer does nothing until it is applied"]
pub struct CachebackLayer<P: Protocol = Http> {
    route: Arc<Route<P>>,
}

impl<P: Protocol> CachebackLayer<P> {
    pub(crate) fn over(cache: Cache<P::Value>, protocol: P, freshness: Freshness) -> Self {
        let share = cache.shared().permits.share();
        let (settings, watch) = (Settings::new(freshness), BypassWatch::default());
        Self { route: Arc::new(Route { cache, protocol, settings, share, watch }) }
    }

    pub(crate) fn route(&self) -> &Route<P> {
        &self.route
    }

    /// The handle to what the layer shares with others, or has for itself.
    #[must_use]
    pub fn cache(&self) -> &Cache<P::Value> {
        &self.route.cache
    }
}

impl<P: Protocol + Clone> CachebackLayer<P> {
    /// How long a background run may take, the wait for the service's readiness included; default 60 s. Then it is
    /// aborted and its key is free again. It bounds as well the run that a reader of a too stale response waits for, and
    /// a run whose client has gone away.
    ///
    /// # Panics
    ///
    /// If it is zero: then no refresh would ever succeed.
    #[track_caller]
    pub fn refresh_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "refresh_timeout(0) would let no refresh succeed");
        self.set(|settings| settings.refresh_timeout = timeout)
    }

    /// How long after its head a response's body may take to be complete, if it is to be stored; default 5 s. A slower
    /// one streams on to its client and is not stored.
    pub fn fill_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.fill_timeout = timeout)
    }

    /// How long a request waits for another one's run; default 10 s. Then it takes the stale response if there is a
    /// usable one. If not, the first to run out of patience leads one more run and the others join that.
    ///
    /// # Panics
    ///
    /// If it is zero: then everybody would lead.
    #[track_caller]
    pub fn wait_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "wait_timeout(0) would let everybody who waits lead a run of his own");
        self.set(|settings| settings.wait_timeout = timeout)
    }

    /// How long a reader of a too stale response waits for the new one before it takes the stale one; default: until
    /// the run is over. The run goes on, within the limit of background refreshes, and its response is stored.
    pub fn soft_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.soft_timeout = Some(timeout))
    }

    /// How many variants of one key are kept; default 16. The one unused for longest makes room for another.
    ///
    /// # Panics
    ///
    /// If it is 0: then nothing could be stored.
    #[track_caller]
    pub fn max_variants(self, variants: usize) -> Self {
        assert!(variants > 0, "max_variants(0) would let nothing be stored; use enabled(false) to turn a layer off");
        self.set(|settings| settings.max_variants = variants)
    }

    /// How long requests for one key do not wait for one another after a response that could not be shared; default
    /// 120 s.
    pub fn hit_for_miss(self, period: Duration) -> Self {
        self.set(|settings| settings.hit_for_miss = period)
    }

    /// Refreshes what is read often shortly before it expires, so that its readers never meet it stale. Off by default.
    ///
    /// Each read of a fresh response draws lots (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache
    /// Stampede Prevention", VLDB 2015): the dearer the last run was and the nearer the end is, the likelier it starts a
    /// refresh, which happens once at most for each stored response. `beta` scales how early: 1.0 is the paper's optimum
    /// and means about as long before the end as the last run took; 2.0 twice as long.
    ///
    /// # Panics
    ///
    /// If `beta` is not a positive, finite number.
    #[track_caller]
    pub fn early_refresh(self, beta: f64) -> Self {
        assert!(beta.is_finite() && beta > 0.0, "early_refresh({beta}): beta is a positive number, such as 1.0");
        self.set(|settings| settings.early_refresh = Some(beta))
    }

    /// Shortens the lifetime of each response that is stored by a random part of it, up to this one: what was stored
    /// together does not expire together. `0.1` takes away up to a tenth. Nothing lives longer for it. Default 0.
    ///
    /// # Panics
    ///
    /// If `part` is not between 0 and 1.
    #[track_caller]
    pub fn jitter(self, part: f64) -> Self {
        assert!((0.0..=1.0).contains(&part), "jitter({part}): that is a part of the lifetime, from 0 to 1");
        self.set(|settings| settings.jitter = part)
    }

    /// Spawns runs for which nobody waits on this runtime: refreshes, and what fills in behind a [`Placeholder`]. Default:
    /// the runtime of the reader who brings one about.
    ///
    /// A stale response that is read outside of any runtime is refreshed as well then. A run that somebody waits for stays
    /// on the runtime of the one who asked first, so that no reader depends on another runtime than his own. When this one is
    /// shut down the runs that it has are lost, without a panic, and one more that shows it; those that come after are
    /// spawned on their reader's, as without it. It has to be driven: runs that lie on a current-thread runtime which nobody
    /// drives count against the limit of refreshes for good.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::CachebackLayer;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let background = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    /// let layer = CachebackLayer::new(Duration::from_secs(60)).spawn_on(background.handle().clone());
    /// # Ok(()) }
    /// ```
    ///
    /// [`Placeholder`]: crate::Placeholder
    pub fn spawn_on(self, runtime: Handle) -> Self {
        self.set(|settings| settings.elsewhere = Some(Arc::new(Elsewhere::new(runtime))))
    }

    /// Gives those who wait for a run the error that it ended with, instead of letting each call the service for itself.
    /// `E` is the error type of the wrapped service; errors of another type are not shared.
    pub fn share_errors<E: Clone + Send + Sync + 'static>(self) -> Self {
        self.set(|settings| {
            settings.share_error = Some(|error| Some(Box::new(error.downcast_ref::<E>()?.clone())));
        })
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.route_mut().settings);
        self
    }

    pub(crate) fn set_protocol(mut self, change: impl FnOnce(&mut P)) -> Self {
        change(&mut self.route_mut().protocol);
        self
    }

    pub(crate) fn move_to(mut self, cache: Cache<P::Value>) -> Self {
        let share = cache.shared().permits.share();
        let route = self.route_mut();
        (route.cache, route.share) = (cache, share);
        self
    }

    fn route_mut(&mut self) -> &mut Route<P> {
        // A setter on a clone makes another layer of it: it gets a share of its own.
        if Arc::get_mut(&mut self.route).is_none() {
            let route = &*self.route;
            self.route = Arc::new(Route {
                cache: route.cache.clone(),
                protocol: route.protocol.clone(),
                settings: route.settings.clone(),
                share: route.cache.shared().permits.share(),
                watch: BypassWatch::default(),
            });
        }
        Arc::get_mut(&mut self.route).expect("nobody else holds the route")
    }
}

impl CachebackLayer<Http> {
    /// Caches HTTP responses in application mode, with a [`Cache`] of its own.
    ///
    /// `freshness` applies to responses that say nothing themselves; a `Duration` is a lifetime with the windows of
    /// [`Freshness::new`]. Requests that carry credentials or cookies pass by unless the key covers them, and a response
    /// that might be private is not stored. See [`Http`] for the rules.
    pub fn new(freshness: impl Into<Freshness>) -> Self {
        Cache::<StoredResponse>::new().layer(freshness)
    }

    /// Caches HTTP responses in protocol mode, as RFC 9111 has it, with a [`Cache`] of its own.
    ///
    /// Nothing is stored but what responses let a shared cache store, for as long as they say, and nothing is served stale
    /// but where they say so. Cookies are no obstacle; a response to a request with `Authorization` is stored where it says
    /// that it may be (§3.5). See [`Http`] for the rules.
    pub fn http() -> Self {
        Cache::<StoredResponse>::new().http()
    }
}

impl<S, P: Protocol> Layer<S> for CachebackLayer<P> {
    type Service = Cacheback<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Cacheback::new(inner, Arc::clone(&self.route))
    }
}

impl<P: Protocol> Clone for CachebackLayer<P> {
    fn clone(&self) -> Self {
        Self { route: Arc::clone(&self.route) }
    }
}

impl<P: Protocol> fmt::Debug for CachebackLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachebackLayer").field("settings", &self.route.settings).finish_non_exhaustive()
    }
}
