//! Any service at all: a typed request, a key function, a response that can be cloned.
//!
//! `setters` is what a user says to a layer, `function` makes a service of an async function, `job` is what is done with
//! one stored response: get it, refresh it, expire it, by the request that it answers.

use std::{fmt, future::Ready, mem, sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    demands::Demands,
    entry::{Entry, Fields},
    freshness::Freshness,
    interest::Interest,
    judgement::{Class, Judgement},
    key::{Key, KeyBuf},
    layer::CachebackLayer,
    protocol::{Capture, Captured, Prepare, Prepared, Protocol, Role, RunKind, Unfilled, sealed},
    scope::Scope,
    status::{CacheStatus, Detail, Outcome},
    tags::Tags,
};

mod function;
mod job;
mod setters;

pub use function::{CachedFunction, Function};

/// The protocol of services with a typed request and a cloneable response. See [`CachebackLayer::typed`].
pub struct Typed<Req, Res> {
    key: Arc<KeyOf<Req>>,
    weigh: Arc<dyn Fn(&Res) -> usize + Send + Sync>,
    /// How a request is copied, where a rule wants to see it beside its response.
    copy: Option<fn(&Req) -> Req>,
    freshness: Option<Arc<Rule<Req, Res, Freshness>>>,
    tags: Option<Arc<Rule<Req, Res, Tags>>>,
    admit: Option<Arc<Rule<Req, Res, bool>>>,
    max_stale: Option<Arc<MaxStale<Req>>>,
    placeholder: Option<Arc<Res>>,
    on_outcome: Option<Arc<OnOutcome<Res>>>,
}

/// Under which key a request is looked up.
type KeyOf<Req> = dyn Fn(&Req) -> Option<Key> + Send + Sync;

/// What a response means, beside the request that it answers.
type Rule<Req, Res, T> = dyn Fn(&Req, &Res) -> T + Send + Sync;

/// For how long a response may have been stale that is to answer a request at once.
type MaxStale<Req> = dyn Fn(&Req) -> Option<Duration> + Send + Sync;

/// What is done to a reader's own copy of a response.
type OnOutcome<Res> = dyn Fn(&mut Res, Outcome) + Send + Sync;

/// Says under which key a request is looked up: a function that makes a [`Key`] of it, or an `Option` of one, where `None`
/// goes past the cache. See [`CachebackLayer::typed`].
#[diagnostic::on_unimplemented(
    message = "this is no key function for requests of type `{Req}`",
    label = "a function of `&{Req}` that gives a `Key` or an `Option<Key>` is needed here"
)]
pub trait KeyFn<Req>: Fn(&Req) -> <Self as KeyFn<Req>>::Key {
    /// [`Key`], or `Option<Key>`.
    type Key: Into<Option<Key>>;
}

impl<F, K, Req> KeyFn<Req> for F
where
    F: Fn(&Req) -> K,
    K: Into<Option<Key>>,
{
    type Key = K;
}

/// What of a typed request is needed to answer it from something stored.
#[derive(Debug)]
pub struct View {
    /// Whether a new response is asked for.
    forced: bool,
    demands: Option<Demands>,
}

impl CachebackLayer {
    /// Caches the responses of a service with a typed request, by what the key function makes of the request.
    ///
    /// The service's `Response` is `Res`, which is cloned for each reader; its `Error` may be anything that is `Send`, and an
    /// error is never stored: where a response is stored that may stand in ([`Freshness::stale_if_error`]) that is the answer. The
    /// layer has a cache of its own ([`CachebackLayer::cache`]). Unless told otherwise ([`CachebackLayer::freshness`]) a
    /// response is fresh for a minute, with the windows of [`Freshness::new`].
    ///
    /// What the key function leaves out makes no difference: two requests with one key share one response. A function that
    /// gives an `Option<Key>` leaves requests out: `None` goes past the cache, neither looked up nor stored, and waits for
    /// nobody.
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
    ///
    /// // Nobody's own page is stored.
    /// let layer = CachebackLayer::typed::<GetUser, String>(|get| (get.id != 0).then(|| Key::from(format!("{}", get.id))));
    /// # Ok(()) }
    /// ```
    ///
    /// For an async function [`CachebackLayer::function`] takes the place of a service.
    pub fn typed<Req, Res>(key: impl KeyFn<Req> + Send + Sync + 'static) -> CachebackLayer<Typed<Req, Res>>
    where
        Req: Send + 'static,
        Res: Clone + Send + Sync + 'static,
    {
        let protocol = Typed {
            key: Arc::new(move |request| key(request).into()),
            weigh: Arc::new(|_| mem::size_of::<Res>()),
            copy: None,
            freshness: None,
            tags: None,
            admit: None,
            max_stale: None,
            placeholder: None,
            on_outcome: None,
        };
        let cache = <Cache>::builder().build_for();
        CachebackLayer::over(cache, protocol, Freshness::new(Duration::from_secs(60)))
    }
}

impl<Req, Res> Typed<Req, Res> {
    /// The response as it leaves for one reader.
    fn leave(&self, mut response: Res, outcome: Outcome) -> Res {
        if let Some(on_outcome) = &self.on_outcome {
            on_outcome(&mut response, outcome);
        }
        response
    }
}

impl<Req, Res> sealed::Sealed for Typed<Req, Res> {}

impl<Req: Send + 'static, Res: Send + Sync + 'static> Protocol for Typed<Req, Res> {
    type Value = Res;
    type View = View;
    /// A copy of the request, where a rule wants to see it.
    type Sight = Option<Req>;
    type Spare = ();
    /// What is to be told of a request without a key.
    type After = Outcome;

    fn variant(&self, _: &Fields, _: &Option<Req>, _: &mut KeyBuf) {}

    fn demands<'a>(&self, view: &'a View) -> Option<&'a Demands> {
        view.demands.as_ref()
    }

    fn has_placeholder(&self) -> bool {
        self.placeholder.is_some()
    }

    fn weigh(&self, value: &Res) -> usize {
        (self.weigh)(value)
    }
}

impl<Req: Send + 'static, Res: Send + Sync + 'static> Prepare<Req> for Typed<Req, Res> {
    type Request = Req;

    fn prepare(&self, request: Req, _: usize, _: &Freshness, key: &mut KeyBuf) -> Prepared<Self, Req> {
        let Some(own) = (self.key)(&request) else {
            return Prepared::Forward(request, Outcome::new(CacheStatus::Bypass).because(Some(Detail::NoKey)));
        };
        key.raw(&own);
        let most_stale = self.max_stale.as_ref().and_then(|max_stale| max_stale(&request));
        let demands = most_stale.map(|_| Demands { most_stale, ..Demands::default() });
        Prepared::Lookup(request, View { forced: false, demands })
    }

    fn variant_of(&self, _: &Fields, _: &Req, _: &mut KeyBuf) {}

    fn role(&self, _: &View) -> Role {
        Role::Lead
    }

    fn is_forced(&self, view: &View) -> bool {
        view.forced
    }

    fn force(&self, view: &mut View) {
        view.forced = true;
    }

    fn passed(&self, after: &Outcome) -> Option<Outcome> {
        Some(*after)
    }

    fn spare(&self, _: &mut Req) {}

    fn project(&self, request: Req, _: RunKind, _: usize, _: Option<&Res>) -> (Req, Option<Req>) {
        let sight = self.copy.map(|copy| copy(&request));
        (request, sight)
    }
}

impl<Req: Send + 'static, Res: Clone + Send + Sync + 'static> Capture<Res> for Typed<Req, Res> {
    type Response = Res;
    type Fill = Ready<Result<Res, Unfilled>>;

    fn judge(&self, response: &Res, sight: &Option<Req>, freshness: &Freshness) -> Judgement {
        let mut judged = Judgement::storable(*freshness);
        let Some(request) = sight else { return judged };
        if self.admit.as_ref().is_some_and(|admit| !admit(request, response)) {
            judged.refuse(Class::Shareable, Detail::NotAdmitted);
            return judged;
        }
        if let Some(freshness) = &self.freshness {
            judged.freshness = freshness(request, response);
        }
        if let Some(tags) = &self.tags {
            judged.tags = tags(request, response);
        }
        judged
    }

    fn pass(&self, response: Res) -> Res {
        response
    }

    fn capture(&self, response: Res, _: &Judgement, _: impl FnOnce() -> Interest) -> Captured<Res, Res, Self::Fill> {
        Captured::Whole(response.clone(), response)
    }

    fn deliver(&self, response: Res, _: &View, outcome: Outcome) -> Res {
        self.leave(response, outcome)
    }

    fn replay(&self, entry: &Entry<Res>, _: Duration, _: &View, outcome: Outcome, (): ()) -> Res {
        self.leave(entry.value.clone(), outcome)
    }

    fn give(&self, entry: Entry<Res>, _: Duration, _: &View, outcome: Outcome, (): ()) -> Res {
        self.leave(entry.value, outcome)
    }

    fn stand_in(&self, _: &View, outcome: Outcome) -> Option<Res> {
        let placeholder = self.placeholder.as_deref()?;
        Some(self.leave(placeholder.clone(), outcome))
    }

    fn finish(&self, response: Res, after: Outcome) -> (Res, Vec<Scope>) {
        (self.leave(response, after), Vec::new())
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
        Self {
            key: Arc::clone(&self.key),
            weigh: Arc::clone(&self.weigh),
            copy: self.copy,
            freshness: self.freshness.clone(),
            tags: self.tags.clone(),
            admit: self.admit.clone(),
            max_stale: self.max_stale.clone(),
            placeholder: self.placeholder.clone(),
            on_outcome: self.on_outcome.clone(),
        }
    }
}

impl<Req, Res> fmt::Debug for Typed<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}
