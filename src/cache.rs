//! The state that layers share, and the handle to it: memory, runs under way, limits, invalidation.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    builder::CacheBuilder,
    clock,
    entry::Entry,
    error::Error,
    flight::Flights,
    freshness::Freshness,
    http::{Http, Mode, StoredResponse},
    journal::Journal,
    key::Key,
    layer::CachebackLayer,
    memory::Memory,
    permits::Permits,
    protocol::Class,
    scope::Scope,
    slot::{Admission, Force, Slot},
    stats::{Gauges, Stats},
    status::Detail,
    store::{Listener, tier::Tier},
    telemetry::{Event, Telemetry},
};

/// How much memory there is for what is known of keys, in bytes, where it keeps no responses.
const NOTES: usize = 4 << 20;

/// What layers share, and the handle by which what they stored is invalidated.
///
/// A cache makes layers ([`Cache::layer`]) that share its memory, its limits and its invalidation. It is cheap to clone
/// and fit for `axum::extract::State`.
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, extract::State, routing::{get, post}};
/// use cacheback::{Cache, Freshness};
///
/// # async fn home() {}
/// # async fn quote() {}
/// async fn publish(State(cache): State<Cache>) -> Result<(), String> {
///     // ... write the new quote, then:
///     cache.purge_path("/quotes/42").await.map_err(|error| error.to_string())?;
///     Ok(())
/// }
///
/// let cache = Cache::new();
/// let quotes = Freshness::new(Duration::from_secs(60)).stale_while_revalidate(Duration::from_secs(600));
/// let app: Router = Router::new()
///     .route("/", get(home).layer(cache.layer(Duration::from_secs(5))))
///     .route("/quotes/{id}", get(quote).layer(cache.layer(quotes)))
///     .route("/publish", post(publish))
///     .with_state(cache.clone());
/// ```
///
/// # Invalidation and runs under way
///
/// An invalidation wins over every run that started before it: such a run answers those who already wait for it, and is
/// not stored. *Expire* is the soft form: the next reader gets the stale response at once and it is refreshed; a
/// response that may not be served stale is removed. *Purge* is the hard form: the next reader waits for a new one.
pub struct Cache<V = StoredResponse> {
    shared: Arc<Shared<V>>,
}

pub(crate) struct Shared<V> {
    pub(crate) memory: Memory<V>,
    pub(crate) flights: Arc<Flights<V>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) running: Arc<Running>,
    /// Of these runs there is something left to do in the shared store.
    pub(crate) saving: Arc<Running>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) tier: Option<Tier<V>>,
    /// Every read asks the shared store: memory keeps no response.
    is_strict: bool,
}

/// What an invalidation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// How many responses in this process were expired or removed.
    pub entries: usize,
}

/// How many runs are under way.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: AtomicUsize,
    settled: Notify,
}

/// One run under way.
#[derive(Debug)]
pub(crate) struct Run(Arc<Running>);

impl Cache {
    /// A cache with the defaults of [`Cache::builder`].
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets up a cache: 64 MiB of memory and 64 background refreshes at a time, unless told otherwise.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// A layer for a router or a route, in application mode: see [`CachebackLayer::new`].
    pub fn layer(&self, freshness: impl Into<Freshness>) -> CachebackLayer {
        CachebackLayer::over(self.clone(), Http::new(Mode::Application), freshness.into())
    }

    /// A layer for a router, a route or a client, in protocol mode: see [`CachebackLayer::http`].
    pub fn http(&self) -> CachebackLayer {
        CachebackLayer::over(self.clone(), Http::new(Mode::Protocol), Freshness::exact(Duration::ZERO))
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// Softly invalidates what a scope reaches: the next reader gets it stale at once, and it is refreshed. What may not
    /// be served stale is removed. Nothing lives longer for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if the shared store did not confirm. The memory of this process is done
    /// then; others may be served what was to be invalidated. This cache tells the store before it asks it again.
    ///
    /// # Cancel safety
    ///
    /// This process is done before the future first yields. The shared store may have been told then; or it is told before
    /// it is asked again.
    pub async fn expire(&self, scope: impl Into<Scope>) -> Result<Reached, Error> {
        self.invalidate_everywhere(scope.into(), Force::Expire).await
    }

    /// Removes what a scope reaches: the next reader waits for a new response.
    ///
    /// # Errors
    ///
    /// As for [`Cache::expire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Cache::expire`].
    pub async fn purge(&self, scope: impl Into<Scope>) -> Result<Reached, Error> {
        self.invalidate_everywhere(scope.into(), Force::Purge).await
    }

    /// Expires a path, with every query: [`Cache::expire`] with [`Scope::path`].
    ///
    /// # Errors
    ///
    /// As for both of them.
    pub async fn expire_path(&self, path: &str) -> Result<Reached, Error> {
        self.expire(Scope::path(path)?).await
    }

    /// Purges a path, with every query: [`Cache::purge`] with [`Scope::path`].
    ///
    /// # Errors
    ///
    /// As for both of them.
    pub async fn purge_path(&self, path: &str) -> Result<Reached, Error> {
        self.purge(Scope::path(path)?).await
    }

    /// Expires a tag: [`Cache::expire`] with [`Scope::tag`].
    ///
    /// # Errors
    ///
    /// As for [`Cache::expire`].
    pub async fn expire_tag(&self, tag: &str) -> Result<Reached, Error> {
        self.expire(Scope::tag(tag)).await
    }

    /// Purges a tag: [`Cache::purge`] with [`Scope::tag`].
    ///
    /// # Errors
    ///
    /// As for [`Cache::purge`].
    pub async fn purge_tag(&self, tag: &str) -> Result<Reached, Error> {
        self.purge(Scope::tag(tag)).await
    }

    /// Waits until no run is under way. For tests.
    pub async fn settled(&self) {
        self.shared.running.settled().await;
    }

    /// Begins no refresh any more, and waits for those under way, and until a shared store has what runs have made, and has been
    /// told what it could not be told before, if it can be by now: for the end of a program. Hits go on, stale ones too, and so do runs that somebody waits for. Whether all of that ended within
    /// `deadline`; what did not goes on.
    ///
    /// A cache that was drained stays so.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.shared.permits.withdraw();
        let all = async {
            self.shared.permits.all_back().await;
            self.shared.saving.settled().await;
            if let Some(tier) = &self.shared.tier {
                tier.pay_at_last().await;
            }
        };
        let all = clock::timeout(deadline, all).await.is_some();
        if let Some(tier) = &self.shared.tier {
            tier.release().await;
        }
        all
    }

    /// The figures of this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (bytes, keys) = self.shared.memory.usage();
        let runs = self.shared.running.count.load(SeqCst);
        let store_is_down = self.shared.tier.as_ref().is_some_and(|tier| !tier.can_be_asked());
        let refreshes = self.shared.permits.out();
        self.shared.telemetry.stats(&Gauges { bytes, keys, runs, refreshes, store_is_down })
    }

    pub(crate) fn of(
        memory: usize,
        max_refreshes: usize,
        tier: impl FnOnce(&Arc<Telemetry>, Weak<dyn Listener>) -> Option<Tier<V>>,
    ) -> Self {
        let (journal, telemetry) = (Arc::new(Journal::default()), Arc::new(Telemetry::default()));
        let shared = Arc::new_cyclic(|shared: &Weak<Shared<V>>| {
            let shared: Weak<Shared<V>> = Weak::clone(shared);
            let tier = tier(&telemetry, shared);
            let is_strict = tier.is_some() && memory == 0;
            let memory = if is_strict { NOTES } else { memory };
            Shared {
                memory: Memory::new(memory, Arc::clone(&telemetry)),
                flights: Arc::new(Flights::new(Arc::clone(&journal))),
                journal,
                permits: Arc::new(Permits::new(max_refreshes)),
                running: Arc::default(),
                saving: Arc::default(),
                telemetry: Arc::clone(&telemetry),
                tier,
                is_strict,
            }
        });
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Shared<V> {
        &self.shared
    }

    /// Tells this cache from others in the process. Those that share a store are one cache: what one of them is about to
    /// make, another one further in would wait for, and would keep its own response in the same place.
    pub(crate) fn identity(&self) -> usize {
        self.shared.tier.as_ref().map_or_else(|| Arc::as_ptr(&self.shared).addr(), Tier::identity)
    }

    /// Invalidates in this process.
    pub(crate) fn invalidate(&self, scope: &Scope, force: Force) -> usize {
        let entries = self.shared.remove(scope, force);
        self.shared.telemetry.tell(Event::Invalidated { purged: force == Force::Purge, entries });
        entries
    }

    async fn invalidate_everywhere(&self, scope: Scope, force: Force) -> Result<Reached, Error> {
        let first = self.invalidate(&scope, force);
        let again = self.invalidate_elsewhere(&scope, force).await?;
        let entries = match force {
            // What was expired the first time is still there.
            Force::Expire => first.max(again),
            Force::Purge => first + again,
        };
        Ok(Reached { entries })
    }

    /// Tells the store what was invalidated in this process, if there is one; and invalidates again here, for what a run
    /// that began after the first time has found in the store before it was told. How much that reached.
    pub(crate) async fn invalidate_elsewhere(&self, scope: &Scope, force: Force) -> Result<usize, Error> {
        let Some(tier) = &self.shared.tier else { return Ok(0) };
        let mut again = Again { shared: &self.shared, scope: Some((scope, force)) };
        let told = tier.invalidate(scope, force).await;
        let reached = again.remove();
        told.map(|()| reached)
    }
}

/// What is invalidated here once more when the store was told; or when nobody waits for that any longer.
struct Again<'a, V> {
    shared: &'a Shared<V>,
    scope: Option<(&'a Scope, Force)>,
}

impl<V> Again<'_, V> {
    fn remove(&mut self) -> usize {
        self.scope.take().map_or(0, |(scope, force)| self.shared.remove(scope, force))
    }
}

impl<V> Drop for Again<'_, V> {
    fn drop(&mut self) {
        self.remove();
    }
}

impl<V> Shared<V> {
    fn remove(&self, scope: &Scope, force: Force) -> usize {
        // NOTE: recorded first, removed afterwards: what journal.rs promises rests on this order.
        self.journal.record(scope);
        self.flights.detach(scope);
        self.memory.invalidate(scope, force, clock::now())
    }

    /// Stores what a run has made, in place of what it refreshes, unless an invalidation since the run's start reaches
    /// it: one step for all who invalidate. Why it was not stored, if it was not.
    pub(crate) fn land(
        &self,
        key: &Key,
        entry: &Arc<Entry<V>>,
        refreshed: Option<&Arc<Entry<V>>>,
        most: usize,
    ) -> Option<Detail> {
        let now = clock::now();
        let judged = &entry.judged;
        let born_gone = entry.age(now) >= entry.freshness().gone_at();
        // What the new entry displaces is dropped outside the journal's lock: its destructor is not ours.
        let (refusal, _displaced) = self.journal.land(entry.run, key, &judged.tags, |voided| match judged.class {
            _ if voided => (Some(Detail::Invalidated), None),
            Class::Storable if born_gone => (Some(Detail::NoLifetime), None),
            Class::Storable if self.is_strict => {
                let (_, displaced) = self.memory.replace(key, now, |slot| slot.settle(judged.fields.as_ref()));
                (None, Some(displaced))
            }
            Class::Storable => {
                let admit = |slot: &mut Slot<V>| slot.admit(Arc::clone(entry), refreshed, most);
                let (admission, displaced) = self.memory.replace(key, now, admit);
                let refusal = match admission {
                    Admission::Superseded => Some(Detail::Superseded),
                    Admission::Stored => displaced.rejected.then_some(Detail::TooLarge),
                };
                (refusal, Some(displaced))
            }
            _ => (Some(judged.detail.unwrap_or(Detail::NoLifetime)), None),
        });
        refusal
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// The shared store, where every read asks it.
    pub(crate) fn strict(&self) -> Option<&Tier<V>> {
        self.tier.as_ref().filter(|_| self.is_strict)
    }

    /// Whether an entry may be served without a question to the shared store.
    pub(crate) fn vouches_for(&self, entry: &Entry<V>) -> bool {
        self.tier.as_ref().is_none_or(|tier| tier.vouches_for(entry.generation.get()))
    }
}

impl<V: Send + Sync + 'static> Listener for Shared<V> {
    fn invalidated(&self, scope: &Scope, force: Force) {
        let entries = self.remove(scope, force);
        self.telemetry.tell(Event::Invalidated { purged: force == Force::Purge, entries });
    }
}

impl Running {
    pub(crate) fn start(self: &Arc<Self>) -> Run {
        self.count.fetch_add(1, SeqCst);
        Run(Arc::clone(self))
    }

    /// Waits until none is under way.
    async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, SeqCst) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("memory", &self.shared.memory.usage()).finish_non_exhaustive()
    }
}
