//! Putting a response into a cache by hand, as if a run that starts now had made it.

use std::sync::Arc;

use crate::{
    cache::Cache,
    clock,
    entry::{Fields, Variant},
    error::Error,
    http::Http,
    interest::Aboard,
    journal::Journal,
    judgement::{Class, Judgement},
    key::{Key, KeyBuf},
    layer::CachebackLayer,
    protocol::{Capture, Captured, Prepare, Prepared, Protocol, Role, RunKind},
    route::Route,
    scope::Force,
    scope::Scope,
    status::{CacheStatus, Detail, Outcome},
    store::{
        Leasing,
        tier::{Afterwards, Known, Tier},
    },
    telemetry::Event,
};

impl<P: Protocol> CachebackLayer<P> {
    /// Stores a response for a request, under the key and by the rules of this layer, as if the wrapped service had just
    /// answered with it. Of an HTTP request the host is part of the key: give it the one that clients ask for, in its URI
    /// or in `Host`.
    ///
    /// It wins over every run that started before it, wherever that is: a run that is under way is not stored when it
    /// lands. An invalidation that comes after it wins over it as usual; of two that others put at the same time for one key
    /// at most one stays.
    ///
    /// Where others share a store it waits until that has the response, for five seconds at most. That the store failed is
    /// counted ([`Stats::store_failures`](crate::Stats::store_failures)) and no error: what it held before is there still.
    ///
    /// ```
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cacheback::Error> {
    /// let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(id.to_string()));
    /// layer.put(42, "the new user 42".to_owned()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if a request like this one is not looked up, or a response like
    /// this one is not stored: what the rules forbid a service they forbid here. Then nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the response is either stored or not.
    pub async fn put<Req, Res>(&self, request: Req, response: Res) -> Result<(), Error>
    where
        P: Prepare<Req> + Capture<Res>,
    {
        put(self.route(), request, response).await
    }
}

impl Cache {
    /// Stores a response for a request: [`CachebackLayer::put`] of a layer with no key rules. The response says how long
    /// it lives, by a [`Freshness`](crate::Freshness) in its extensions or by its fields.
    ///
    /// # Errors
    ///
    /// As for [`CachebackLayer::put`].
    pub async fn put<B, C>(&self, request: http::Request<B>, response: http::Response<C>) -> Result<(), Error>
    where
        B: http_body::Body + Send + 'static,
        C: http_body::Body + Send + 'static,
        C::Error: Send,
    {
        put(&Route::<Http>::aside(self.clone()), request, response).await
    }
}

pub(crate) async fn put<P, Req, Res>(route: &Route<P>, request: Req, response: Res) -> Result<(), Error>
where
    P: Prepare<Req> + Capture<Res>,
{
    // From here on every run that has started is older.
    let shared = route.cache.shared();
    let (run, started) = (Journal::start(&shared.journal), clock::now());
    // Boxed: what it takes to read them is not needed any more after that.
    let Made { key, judged, value, sight } = Box::pin(make(route, request, response)).await?;
    let generation = shared.tier.as_ref().map_or(0, Tier::generation);
    let entry = route.entry(judged, value, &sight, started, run.number(), generation);
    if entry.age(clock::now()) >= entry.freshness().gone_at() {
        return Err(refused(Detail::NoLifetime));
    }
    if shared.strict().is_none() && !shared.memory.would_take(&key, &entry) {
        return Err(refused(Detail::TooLarge));
    }
    // The store knows as well that every run is older which has begun before, and what others have in memory.
    let (known, sight) = match &shared.tier {
        None => (None, sight),
        Some(tier) => announce(tier, &key, sight, |fields, sight| route.values(fields, sight)).await,
    };
    // Also when it is gone again by the time that they land; and nobody comes to wait for them any more.
    shared.journal.supersede(&run, &key);
    shared.flights.detach(&Scope::from(&key));
    match shared.land(&key, &entry, None, route.settings.max_variants) {
        None => {
            shared.telemetry.tell(Event::Stored);
            if let (Some(tier), Some(known)) = (&shared.tier, known) {
                let saving = known.saving(&entry, |fields| route.values(fields, &sight));
                if let Some(voided) = tier.after(&key, Afterwards::Save(saving)).await {
                    shared.memory.update(&key, clock::now(), |slot| slot.remove(&voided));
                }
            }
        }
        // What came later has won already. An expiry leaves what it reached: older than this it is over all the same.
        Some(Detail::Invalidated) => shared.memory.update(&key, clock::now(), |slot| slot.clear_for(&entry)),
        Some(Detail::Superseded) => {}
        Some(detail) => return Err(refused(detail)),
    }
    Ok(())
}

/// Has the shared store know of a response that is put in place of all that there is, and forget that.
async fn announce<V: Send + Sync + 'static, R: Send>(
    tier: &Tier<V>,
    key: &Key,
    request: R,
    variant: impl Fn(&Fields, &R) -> Variant + Send,
) -> (Option<Known>, R) {
    let budget = tier.budget();
    let (looked, request) = tier.look(&budget, key, request, variant).await;
    if let Err(_told) = tier.invalidate(&Scope::from(key), Force::Purge).await {
        return (None, request);
    }
    let Some(looked) = looked else { return (None, request) };
    let begun = tier.begin(&budget, &looked, Leasing::Unwanted).await;
    (begun.map(|begun| begun.known), request)
}

/// What is to be stored.
struct Made<P: Protocol> {
    key: Key,
    judged: Judgement,
    value: P::Value,
    sight: P::Sight,
}

/// Reads request and response as a run would have, or says why nothing is stored of them.
async fn make<P, Req, Res>(route: &Route<P>, request: Req, response: Res) -> Result<Made<P>, Error>
where
    P: Prepare<Req> + Capture<Res>,
{
    let mut key = KeyBuf::default();
    let mut prepared = route.protocol.prepare(request, route.cache.identity(), &route.settings.freshness, &mut key);
    let request = loop {
        match prepared {
            // The response of a HEAD has lost its content, and a request with `no-store` wants no trace of itself.
            Prepared::Lookup(_, view) if route.protocol.role(&view) != Role::Lead => {
                return Err(Error::refused("a request like this stores nothing: put the response of a GET"));
            }
            Prepared::Lookup(request, _) => break request,
            Prepared::Later(later) => (prepared, key) = later.await,
            Prepared::Forward(_, after) => {
                let outcome = route.protocol.passed(&after).unwrap_or(Outcome::new(CacheStatus::Bypass));
                return Err(Error::refused(format!("a request like this is not looked up: {outcome}")));
            }
        }
    };
    let (_, sight) = route.protocol.project(request, RunKind::Foreground, route.cache.identity(), None);
    let judged = route.protocol.judge(&response, &sight, &route.settings.freshness);
    if judged.class != Class::Storable || judged.failed {
        return Err(refused(judged.detail.unwrap_or(Detail::Status)));
    }
    let interest = || Arc::<Aboard>::default().board();
    let (_response, value) = match route.protocol.capture(response, &judged, interest) {
        Captured::Whole(response, value) => (response, value),
        Captured::Unfit(_, unfilled) => return Err(refused(unfilled.detail())),
        Captured::Filling(response, mut fill) => match clock::timeout(route.settings.fill_timeout, fill.as_mut()).await
        {
            Some(Ok(value)) => (response, value),
            Some(Err(unfilled)) => return Err(refused(unfilled.detail())),
            None => return Err(refused(Detail::SlowBody)),
        },
    };
    let judged = route.protocol.judge_whole(&value, judged);
    if judged.class != Class::Storable || judged.failed {
        return Err(refused(judged.detail.unwrap_or(Detail::Status)));
    }
    let key = key.to_key();
    Ok(Made { key, judged, value, sight })
}

fn refused(detail: Detail) -> Error {
    Error::refused(format!("a response like this is not stored: {}", detail.as_str()))
}
