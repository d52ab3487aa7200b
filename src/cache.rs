//! The handle to what layers share: by it they are made, invalidated, drained and counted.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    builder::CacheBuilder,
    clock,
    error::Error,
    freshness::Freshness,
    http::{Http, Mode, StoredResponse},
    layer::CachebackLayer,
    scope::Force,
    scope::Scope,
    shared::Shared,
    stats::{Gauges, Stats},
    store::{Listener, tier::Tier},
    telemetry::{Event, Telemetry},
};

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

/// What an invalidation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// How many responses in this process were expired or removed.
    pub entries: usize,
}

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
        let runs = self.shared.running.count();
        let store_is_down = self.shared.tier.as_ref().is_some_and(|tier| !tier.can_be_asked());
        let refreshes = self.shared.permits.out();
        self.shared.telemetry.stats(&Gauges { bytes, keys, runs, refreshes, store_is_down })
    }

    pub(crate) fn of(
        memory: usize,
        max_refreshes: usize,
        tier: impl FnOnce(&Arc<Telemetry>, Weak<dyn Listener>) -> Option<Tier<V>>,
    ) -> Self {
        Self { shared: Shared::new(memory, max_refreshes, tier) }
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
