//! What belongs to a typed layer: how long responses live, which are stored, what readers are given.

use std::{sync::Arc, time::Duration};

use crate::{
    cache::Cache, codec::Codec, freshness::Freshness, layer::CachebackLayer, placeholder::Placeholder, status::Outcome,
    store::Store, tags::Tags, typed::Typed,
};

/// # Typed services
///
/// Rules that see a response beside its request want that to be `Clone`: the service has been given the request by then.
/// It is copied only where there is such a rule, once for each run.
impl<Req, Res> CachebackLayer<Typed<Req, Res>>
where
    Req: Send + 'static,
    Res: Clone + Send + Sync + 'static,
{
    /// How long a response lives; default one minute with the windows of [`Freshness::new`].
    pub fn freshness(self, freshness: impl Into<Freshness>) -> Self {
        let freshness = freshness.into();
        self.set(|settings| settings.freshness = freshness)
    }

    /// How long each response lives, by what was asked and what was answered: a `Freshness`, or a `Duration` for one with
    /// the windows of [`Freshness::new`]. It takes the place of [`freshness`](Self::freshness). Horizons are counted from
    /// the start of the run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// #[derive(Clone)]
    /// struct Token { valid_for: Duration }
    ///
    /// let tokens = CachebackLayer::typed::<String, Token>(|user| Key::from(user.as_str()))
    ///     .freshness_by(|_, token| token.valid_for / 2);
    /// ```
    pub fn freshness_by<F: Into<Freshness>>(self, rule: impl Fn(&Req, &Res) -> F + Send + Sync + 'static) -> Self
    where
        Req: Clone,
    {
        self.rule(|typed| typed.freshness = Some(Arc::new(move |request, response| rule(request, response).into())))
    }

    /// Gives responses tags, by which they are expired and purged ([`Cache::expire_tag`]). By default they have none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cacheback::Error> {
    /// use cacheback::{CachebackLayer, Key, Tags};
    ///
    /// let pages = CachebackLayer::typed::<u32, String>(|page| Key::from(page.to_string()))
    ///     .tags_by(|page, _| Tags::new(["pages".to_owned(), format!("chapter-{}", page / 10)]));
    /// pages.cache().expire_tag("chapter-4").await?;
    /// # Ok(()) }
    /// ```
    pub fn tags_by(self, rule: impl Fn(&Req, &Res) -> Tags + Send + Sync + 'static) -> Self
    where
        Req: Clone,
    {
        self.rule(|typed| typed.tags = Some(Arc::new(rule)))
    }

    /// Stores only responses for which this says yes. One that it does not admit goes to the one who asked and to those who
    /// wait for it. On a refresh it shows that what is stored is over: that is removed. By default all are stored.
    ///
    /// ```
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// // What is not there may be there soon.
    /// let users = CachebackLayer::typed::<u32, Option<String>>(|id| Key::from(id.to_string()))
    ///     .admit(|_, user| user.is_some());
    /// ```
    pub fn admit(self, rule: impl Fn(&Req, &Res) -> bool + Send + Sync + 'static) -> Self
    where
        Req: Clone,
    {
        self.rule(|typed| typed.admit = Some(Arc::new(rule)))
    }

    /// For how long a response may have been stale that is to answer this request at once; default, and with `None`: as
    /// long as its [`Freshness`] has it. With `Some(Duration::ZERO)` the request takes none that is stale.
    ///
    /// It only narrows. A request for which a response is too stale waits for a run, and is answered by the stale one
    /// should that fail; after a failure, as long as runs are put off, it gets the stale one at once. A response that was
    /// expired by hand ahead of its time has been stale for no time at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// #[derive(Clone)]
    /// struct Price { item: u32, for_checkout: bool }
    ///
    /// let prices = CachebackLayer::typed::<Price, u64>(|price| Key::from(price.item.to_string()))
    ///     .max_stale(|price| price.for_checkout.then_some(Duration::from_secs(5)));
    /// ```
    pub fn max_stale(self, rule: impl Fn(&Req) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.set_protocol(|typed| typed.max_stale = Some(Arc::new(rule)))
    }

    /// What a response takes in memory, in bytes; default the size of its type, which leaves out what it points to.
    pub fn weigh(self, weigh: impl Fn(&Res) -> usize + Send + Sync + 'static) -> Self {
        self.set_protocol(|typed| typed.weigh = Arc::new(weigh))
    }

    /// Answers with a placeholder where nothing is stored, and has a run behind the reader fetch what belongs there. See
    /// [`Placeholder`].
    ///
    /// ```
    /// use cacheback::{CachebackLayer, Key, Placeholder};
    ///
    /// let feeds = CachebackLayer::typed::<u32, Vec<String>>(|user| Key::from(user.to_string()))
    ///     .on_miss(Placeholder(Vec::new()));
    /// ```
    pub fn on_miss(self, placeholder: Placeholder<Res>) -> Self {
        self.set_protocol(|typed| typed.placeholder = Some(Arc::new(placeholder.0)))
    }

    /// Is called with each response that leaves the layer, and with what happened to its request. The response is the
    /// reader's own copy: what is done to it does not touch what is stored. Called on the way to the reader, hits included,
    /// so it should be quick.
    ///
    /// ```
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// #[derive(Clone)]
    /// struct Figures { total: u64, outdated: bool }
    ///
    /// let figures = CachebackLayer::typed::<u32, Figures>(|year| Key::from(year.to_string()))
    ///     .on_outcome(|figures, outcome| figures.outdated = outcome.is_stale());
    /// ```
    pub fn on_outcome(self, see: impl Fn(&mut Res, Outcome) + Send + Sync + 'static) -> Self {
        self.set_protocol(|typed| typed.on_outcome = Some(Arc::new(see)))
    }

    /// Keeps responses in a store as well, which several caches share: what one of them has made the others find there
    /// instead of calling their service. The codec makes bytes of responses.
    ///
    /// The layer gets a cache of its own for that, with the defaults of [`Cache::builder`]; for other settings, or several
    /// layers, give [`CacheBuilder::store`](crate::CacheBuilder::store) to [`over_cache`](Self::over_cache).
    ///
    /// What that means for runs, for invalidation and where the store fails is said there. Bytes that the codec makes nothing
    /// of count as a failure of the store.
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
        self.move_to(Cache::builder().store(store).build_for(codec))
    }

    /// Shares a cache with other layers of the same response type: its memory, limits and invalidation. Their keys had
    /// better differ.
    pub fn over_cache(self, cache: &Cache<Res>) -> Self {
        self.move_to(cache.clone())
    }

    /// Sets a rule that sees the request beside the response.
    fn rule(self, set: impl FnOnce(&mut Typed<Req, Res>)) -> Self
    where
        Req: Clone,
    {
        self.set_protocol(|typed| {
            typed.copy = Some(Req::clone);
            set(typed);
        })
    }
}
