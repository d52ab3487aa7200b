//! What the services of a layer share, and what that makes of a request: what is stored for it, and whether that answers it.

use std::{any::Any, sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    clock::{self, Instant},
    elsewhere::Elsewhere,
    entry::{Early, Entry, Fields, Generation, Refreshing, Variant},
    freshness::{Freshness, Verdict},
    http::{Http, Mode},
    judgement::Judgement,
    key::{self, Key, KeyBuf},
    permits::Share,
    protocol::{Prepare, Protocol, Role},
    sighting::{Behind, Sighting},
    slot::Slot,
    status::Outcome,
    store::{Budget, tier::Held},
    telemetry::BypassWatch,
};

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
        if !judged.drawn && self.settings.jitter > 0.0 {
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
    pub(crate) fn new(freshness: Freshness) -> Self {
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
