//! The layer, which is its own builder: what belongs to a route.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{
    cache::Cache,
    clock::{self, Instant},
    elsewhere::Elsewhere,
    entry::{Early, Entry, Fields, Generation, Refreshing, Variant},
    freshness::{Freshness, Verdict},
    http::{Http, Mode, StoredResponse},
    key::{self, Key, KeyBuf},
    permits::Share,
    protocol::{Judgement, Prepare, Protocol, Role},
    service::Cacheback,
    sighting::{Behind, Sighting},
    slot::Slot,
    status::Outcome,
    store::{Budget, tier::Held},
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

/// All that a route's services share: the cache, the protocol, the settings.
pub(crate) struct Route<P: Protocol> {
    pub(crate) cache: Cache<P::Value>,
    pub(crate) protocol: P,
    pub(crate) settings: Settings,
    pub(crate) share: Arc<Share>,
    pub(crate) watch: BypassWatch,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) freshness: Freshness,
    pub(crate) refresh_timeout: Duration,
    pub(crate) fill_timeout: Duration,
    pub(crate) wait_timeout: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) max_variants: usize,
    pub(crate) hit_for_miss: Duration,
    pub(crate) share_error: Option<ShareError>,
    /// Only keys of which something is known are collapsed.
    pub(crate) opt_in: bool,
    /// The beta of early refreshes; without one there are none.
    pub(crate) early_refresh: Option<f64>,
    /// By how much of it a lifetime may be shortened.
    pub(crate) jitter: f64,
    /// Where runs go on for which nobody waits; without one that is where their reader is.
    pub(crate) elsewhere: Option<Arc<Elsewhere>>,
}

/// Copies an error of the type that it was made for.
pub(crate) type ShareError = fn(&dyn Any) -> Option<Box<dyn Any + Send + Sync>>;

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

impl Route<Http> {
    /// A route with no rules of its own and no lifetime, for what is done to a cache by hand. It counts for no layer.
    pub(crate) fn aside(cache: Cache) -> Self {
        let share = cache.shared().permits.aside();
        let settings = Settings::new(Freshness::exact(Duration::ZERO));
        Self { cache, protocol: Http::new(Mode::Application), settings, share, watch: BypassWatch::default() }
    }
}

impl<P: Protocol> Route<P> {
    /// What is stored for a request. One lookup, one look at the clock.
    pub(crate) fn look<Req>(&self, key: &[u8], request: &P::Request, now: Instant) -> Sighting<P::Value>
    where
        P: Prepare<Req>,
    {
        let seen = self.see(self.cache.shared().memory.get(key), request, now);
        seen.touch();
        seen
    }

    /// What a slot holds for a request.
    pub(crate) fn see<Req>(
        &self,
        slot: Option<Arc<Slot<P::Value>>>,
        request: &P::Request,
        now: Instant,
    ) -> Sighting<P::Value>
    where
        P: Prepare<Req>,
    {
        let Some(slot) = slot else { return Sighting::of_nothing(now) };
        let selected = slot.variants.iter().position(|kept| self.selects(&kept.entry, request));
        let vouched = |at: usize| self.cache.shared().vouches_for(&slot.variants[at].entry);
        let vouched = selected.is_none_or(vouched);
        Sighting::new(slot, selected, now, vouched)
    }

    /// Whether what was seen answers this request at once: with which outcome, and what is to be done behind it.
    pub(crate) fn hit<Req>(&self, view: &P::View, seen: &Sighting<P::Value>) -> Option<(Outcome, Behind)>
    where
        P: Prepare<Req>,
    {
        if self.protocol.is_forced(view) {
            return None;
        }
        let (outcome, behind) = seen.answer(&self.settings, self.protocol.demands(view))?;
        let is_done = || seen.is_being_refreshed(self.settings.overdue());
        Some((
            outcome,
            match behind {
                Behind::Nothing if seen.verdict() == Verdict::Fresh && self.protocol.is_sampled(view) => Behind::Audit,
                // One who would be alone on his run asks whether there is one like it.
                Behind::Refresh if is_done() && !self.protocol.keeps_apart(view) => Behind::Nothing,
                behind => behind,
            },
        ))
    }

    /// Looks a request up where this cache keeps responses: in memory; or in the shared store alone. Gives the request back.
    pub(crate) async fn look_anywhere<Req>(
        &self,
        key: &Key,
        request: P::Request,
        budget: Option<&Budget>,
    ) -> (Sighting<P::Value>, P::Request)
    where
        P: Prepare<Req>,
    {
        let (Some(tier), Some(budget)) = (self.cache.shared().strict(), budget) else {
            return (self.look(key::bytes(key), &request, clock::now()), request);
        };
        let (generation, values) =
            (tier.generation(), |fields: &Fields, request: &P::Request| self.values_of(fields, request));
        let (looked, request) = tier.look(budget, key, request, values).await;
        let (now, slot) = (clock::now(), self.cache.shared().memory.get(key::bytes(key)));
        let seen = match looked.and_then(|looked| looked.found) {
            None => self.see(slot, &request, now),
            Some(held) => {
                let variant = held.judged.fields.as_ref().map(|fields| self.values_of(fields, &request));
                let entry = self.restored(held, variant, now, 0, generation);
                Sighting::of_found(slot.as_deref(), key, entry, now)
            }
        };
        (seen, request)
    }

    /// The fields' values that tell the run of this request from others of its key. `heard` are fields that a landing
    /// told of, for when memory knows of none.
    pub(crate) fn variant<Req>(
        &self,
        seen: &Sighting<P::Value>,
        heard: Option<&Fields>,
        request: &P::Request,
    ) -> Option<Variant>
    where
        P: Prepare<Req>,
    {
        let fields = seen.slot.as_ref().and_then(|slot| slot.fields.as_ref()).or(heard)?;
        Some(self.values_of(fields, request))
    }

    /// The values of these fields in a request.
    pub(crate) fn values_of<Req>(&self, fields: &Fields, request: &P::Request) -> Variant
    where
        P: Prepare<Req>,
    {
        let mut values = KeyBuf::default();
        self.protocol.variant_of(fields, request, &mut values);
        Variant::new(values.as_slice().into())
    }

    /// The same in a request that the service has been given, by what is left of it.
    pub(crate) fn values(&self, fields: &Fields, sight: &P::Sight) -> Variant {
        let mut values = KeyBuf::default();
        self.protocol.variant(fields, sight, &mut values);
        Variant::new(values.as_slice().into())
    }

    /// What is stored of a run: its value, with the values of the fields that select it.
    pub(crate) fn entry(
        &self,
        mut judged: Judgement,
        value: P::Value,
        sight: &P::Sight,
        started: Instant,
        run: u64,
        generation: u64,
    ) -> Arc<Entry<P::Value>> {
        let variant = judged.fields.as_ref().map(|fields| self.values(fields, sight));
        if !judged.drawn {
            judged.freshness = judged.freshness.jittered(self.settings.jitter, fastrand::f64());
        }
        let early = Early::after(clock::now().saturating_duration_since(started));
        let weight = self.protocol.weigh(&value);
        let generation = Generation::new(generation);
        Arc::new(Entry {
            value,
            started,
            run,
            early,
            judged,
            variant,
            weight,
            generation,
            refreshing: Refreshing::default(),
        })
    }

    /// An entry of what the shared store held, as if the run had made it that found it.
    pub(crate) fn restored(
        &self,
        held: Held<P::Value>,
        variant: Option<Variant>,
        now: Instant,
        run: u64,
        generation: u64,
    ) -> Arc<Entry<P::Value>> {
        let Held { value, judged, cost, .. } = held;
        let weight = self.protocol.weigh(&value);
        let early = Early::after(cost);
        let generation = Generation::new(generation);
        Arc::new(Entry {
            value,
            started: now,
            run,
            early,
            judged,
            variant,
            weight,
            generation,
            refreshing: Refreshing::default(),
        })
    }

    /// Whether a run for this request may take the place of the entry. Who asks for himself alone leaves it to others, unless
    /// what he gets may be for all as this was.
    pub(crate) fn may_refresh<Req>(&self, view: &P::View, entry: &Entry<P::Value>) -> bool
    where
        P: Prepare<Req>,
    {
        self.protocol.role(view) != Role::Read && (entry.judged.for_all || !self.protocol.keeps_apart(view))
    }

    /// Whether the entry is an answer to this request (RFC 9111 §4.1).
    pub(crate) fn selects<Req>(&self, entry: &Entry<P::Value>, request: &P::Request) -> bool
    where
        P: Prepare<Req>,
    {
        let (Some(fields), Some(variant)) = (&entry.judged.fields, &entry.variant) else { return true };
        let mut values = KeyBuf::default();
        self.protocol.variant_of(fields, request, &mut values);
        values.as_slice() == &***variant
    }
}

impl Settings {
    fn new(freshness: Freshness) -> Self {
        Self {
            freshness,
            refresh_timeout: Duration::from_secs(60),
            fill_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(10),
            soft_timeout: None,
            max_variants: 16,
            hit_for_miss: Duration::from_secs(120),
            share_error: None,
            opt_in: false,
            early_refresh: None,
            jitter: 0.0,
            elsewhere: None,
        }
    }

    /// How long a run may be under way that is behind its readers: from then on it is taken for one that never ends.
    pub(crate) fn overdue(&self) -> Duration {
        self.refresh_timeout.saturating_mul(2)
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
