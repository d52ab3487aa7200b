//! Any service at all: a typed request, a key function, a response that can be cloned.

use std::{convert::Infallible, fmt, future::Ready, mem, sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    codec::Codec,
    entry::{Entry, Fields},
    freshness::Freshness,
    interest::Interest,
    key::{Key, KeyBuf},
    layer::CachebackLayer,
    protocol::{Capture, Captured, Judgement, Prepare, Prepared, Protocol, Role, RunKind, Unfilled, sealed},
    scope::Scope,
    status::Outcome,
    store::Store,
};

/// The protocol of services with a typed request and a cloneable response. See [`CachebackLayer::typed`].
pub struct Typed<Req, Res> {
    key: Arc<dyn Fn(&Req) -> Key + Send + Sync>,
    weigh: Arc<dyn Fn(&Res) -> usize + Send + Sync>,
}

impl CachebackLayer {
    /// Caches the responses of a service with a typed request, by what the key function makes of the request.
    ///
    /// The service's `Response` is `Res`, which is cloned for each reader; its `Error` may be anything, and an error is
    /// never stored. The layer has a cache of its own ([`CachebackLayer::cache`]). Unless told otherwise
    /// ([`CachebackLayer::freshness`]) a response is fresh for a minute, with the windows of [`Freshness::new`].
    ///
    /// What the key function leaves out makes no difference: two requests with one key share one response.
    ///
    /// ```
    /// use std::{convert::Infallible, time::Duration};
    /// use cacheback::{CachebackLayer, Key};
    /// use tower::{Layer, Service, ServiceExt, service_fn};
    ///
    /// #[derive(Clone)]
    /// struct GetUser { id: u32 }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = CachebackLayer::typed::<GetUser, String>(|get| Key::from(format!("user:{}", get.id)))
    ///     .freshness(Duration::from_secs(30));
    /// let mut users = layer.layer(service_fn(|get: GetUser| async move { Ok::<_, Infallible>(format!("user {}", get.id)) }));
    ///
    /// assert_eq!(users.ready().await?.call(GetUser { id: 42 }).await?, "user 42");
    /// layer.cache().expire(&Key::from("user:42")).await?;
    /// # Ok(()) }
    /// ```
    pub fn typed<Req, Res>(key: impl Fn(&Req) -> Key + Send + Sync + 'static) -> CachebackLayer<Typed<Req, Res>>
    where
        Req: Send + 'static,
        Res: Clone + Send + Sync + 'static,
    {
        let protocol = Typed { key: Arc::new(key), weigh: Arc::new(|_| mem::size_of::<Res>()) };
        let cache = Cache::from_builder(Cache::builder());
        CachebackLayer::over(cache, protocol, Freshness::new(Duration::from_secs(60)))
    }
}

impl<Req, Res> CachebackLayer<Typed<Req, Res>>
where
    Req: Send + 'static,
    Res: Send + Sync + 'static,
{
    /// How long a response lives; default one minute with the windows of [`Freshness::new`].
    pub fn freshness(self, freshness: impl Into<Freshness>) -> Self {
        let freshness = freshness.into();
        self.set(|settings| settings.freshness = freshness)
    }

    /// What a response takes in memory, in bytes; default the size of its type, which leaves out what it points to.
    pub fn weigh(self, weigh: impl Fn(&Res) -> usize + Send + Sync + 'static) -> Self {
        self.set_protocol(|typed| typed.weigh = Arc::new(weigh))
    }

    /// Keeps responses in a store as well, which other processes share: what one of them has made the others find there
    /// instead of calling their service. The codec makes bytes of responses.
    ///
    /// The layer gets a cache of its own for that, with the defaults of [`Cache::builder`]; for other settings, or several
    /// layers, give [`CacheBuilder::build_with`](crate::CacheBuilder::build_with) to [`over_cache`](Self::over_cache).
    ///
    /// A hit never asks the store. A run asks it first, and waits no longer than 100 ms for that; what it makes is saved when
    /// everybody has it. If the store fails, or gives bytes that the codec makes nothing of, that is counted
    /// ([`Stats::store_failures`](crate::Stats::store_failures)) and told as a warning (feature `tracing`), and the service
    /// is called as without it.
    ///
    /// ```
    /// # #[cfg(feature = "serde")] {
    /// use cacheback::{CachebackLayer, Json, Key, testing::LocalStore};
    ///
    /// let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(format!("user:{id}")))
    ///     .store(LocalStore::new(), Json);
    /// # let _ = layer;
    /// # }
    /// ```
    pub fn store(self, store: impl Store, codec: impl Codec<Res>) -> Self {
        self.move_to(Cache::builder().build_with(store, codec))
    }

    /// Shares a cache with other layers of the same response type: its memory, limits and invalidation. Their keys had
    /// better differ.
    pub fn over_cache(self, cache: &Cache<Res>) -> Self {
        self.move_to(cache.clone())
    }
}

impl<Req, Res> sealed::Sealed for Typed<Req, Res> {}

impl<Req: 'static, Res: Send + Sync + 'static> Protocol for Typed<Req, Res> {
    type Value = Res;
    /// Whether a new response is asked for.
    type View = bool;
    type Sight = ();
    type Spare = ();
    type After = Infallible;

    fn variant(&self, _: &Fields, (): &(), _: &mut KeyBuf) {}

    fn weigh(&self, value: &Res) -> usize {
        (self.weigh)(value)
    }
}

impl<Req: Send + 'static, Res: Send + Sync + 'static> Prepare<Req> for Typed<Req, Res> {
    type Request = Req;

    fn prepare(&self, request: Req, _: usize, _: &Freshness, key: &mut KeyBuf) -> Prepared<Self, Req> {
        key.raw(&(self.key)(&request));
        Prepared::Lookup(request, false)
    }

    fn variant_of(&self, _: &Fields, _: &Req, _: &mut KeyBuf) {}

    fn role(&self, _: &bool) -> Role {
        Role::Lead
    }

    fn is_forced(&self, forced: &bool) -> bool {
        *forced
    }

    fn force(&self, forced: &mut bool) {
        *forced = true;
    }

    fn passed(&self, after: &Infallible) -> Option<Outcome> {
        match *after {}
    }

    fn spare(&self, _: Req) {}

    fn project(&self, request: Req, _: RunKind, _: usize, _: Option<&Res>) -> (Req, ()) {
        (request, ())
    }
}

impl<Req: 'static, Res: Clone + Send + Sync + 'static> Capture<Res> for Typed<Req, Res> {
    type Response = Res;
    type Fill = Ready<Result<Res, Unfilled>>;

    fn judge(&self, _: &Res, (): &(), freshness: &Freshness) -> Judgement {
        Judgement::storable(*freshness)
    }

    fn pass(&self, response: Res) -> Res {
        response
    }

    fn capture(&self, response: Res, _: &Judgement, _: Interest) -> Captured<Res, Res, Self::Fill> {
        Captured::Whole(response.clone(), response)
    }

    fn deliver(&self, response: Res, _: &bool, _: Outcome) -> Res {
        response
    }

    fn replay(&self, entry: &Entry<Res>, _: Duration, _: &bool, _: Outcome, (): ()) -> Res {
        entry.value.clone()
    }

    fn finish(&self, _: Res, after: Infallible) -> (Res, Vec<Scope>) {
        match after {}
    }

    fn status(&self, _: &Res) -> Option<u16> {
        None
    }

    fn is_failure(&self, _: &Res) -> bool {
        false
    }
}

impl<Req, Res> Clone for Typed<Req, Res> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), weigh: Arc::clone(&self.weigh) }
    }
}

impl<Req, Res> fmt::Debug for Typed<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}
