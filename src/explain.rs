//! What would become of a request, and why, without any of it happening.

use std::fmt;

use crate::{
    cache::Cache,
    clock,
    demands::Demands,
    entry::Course,
    flight::Boarding,
    http::Http,
    key::{Key, KeyBuf},
    layer::CachebackLayer,
    protocol::{Prepare, Prepared, Protocol, Role},
    route::{Route, Settings},
    run,
    sighting::Behind,
    status::{CacheStatus, Detail, Outcome},
};

/// What would become of a request at this moment: from [`CachebackLayer::explain`].
///
/// Its `Display` is the parameters of a `Cache-Status` member (RFC 9211 §2), and the plan.
#[derive(Clone, Debug)]
pub struct Explanation {
    key: Option<Key>,
    outcome: Outcome,
    plan: Plan,
}

/// What a request would have the wrapped service do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Plan {
    /// Nothing.
    Nothing,
    /// Run once more behind the reader, who is answered at once.
    Refresh,
    /// Run, while the reader waits.
    Lead,
    /// Go on with the run that somebody else waits for already.
    Join,
    /// Answer this request alone.
    Forward,
}

impl<P: Protocol> CachebackLayer<P> {
    /// Says what would become of a request at this moment, and why, in the words of [`Outcome`]. Nothing comes of it: no
    /// run, no count, and nothing is taken for read. What a shared store holds is known to it only where every read asks
    /// that; else it speaks of the memory of this process.
    ///
    /// ```
    /// use cacheback::{CachebackLayer, CacheStatus, Plan};
    /// use http::Request;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let layer = CachebackLayer::new(std::time::Duration::from_secs(60));
    /// let page = layer.explain(Request::new(String::new())).await;
    /// assert_eq!((page.outcome().status(), page.plan()), (CacheStatus::UriMiss, Plan::Lead));
    ///
    /// let cart = Request::get("/cart").header("cookie", "id=7").body(String::new()).expect("a request");
    /// assert_eq!(layer.explain(cart).await.to_string(), "fwd=bypass; detail=cookie; plan=forward");
    /// # }
    /// ```
    pub async fn explain<Req>(&self, request: Req) -> Explanation
    where
        P: Prepare<Req>,
    {
        explain(self.route(), request).await
    }
}

impl Cache {
    /// Says what would become of a request at this moment: [`CachebackLayer::explain`] of a layer with no key rules.
    pub async fn explain<B>(&self, request: http::Request<B>) -> Explanation
    where
        B: http_body::Body + Send + 'static,
    {
        explain(&Route::<Http>::aside(self.clone()), request).await
    }
}

async fn explain<P, Req>(route: &Route<P>, request: Req) -> Explanation
where
    P: Prepare<Req>,
{
    let mut key = KeyBuf::default();
    let mut prepared = route.protocol.prepare(request, route.cache.identity(), &route.settings.freshness, &mut key);
    let (request, view) = loop {
        match prepared {
            Prepared::Lookup(request, view) => break (request, view),
            Prepared::Later(later) => (prepared, key) = later.await,
            Prepared::Forward(_, after) => {
                let outcome = route.protocol.passed(&after).unwrap_or(Outcome::new(CacheStatus::Bypass));
                return Explanation { key: None, outcome, plan: Plan::Forward };
            }
        }
    };
    let key = key.to_key();
    let shared = route.cache.shared();
    let (seen, request) = match shared.strict() {
        None => (route.see(shared.memory.peek(&key), &request, clock::now()), request),
        Some(tier) => route.look_anywhere(&key, request, Some(&tier.budget())).await,
    };
    let (by_hand, role, demands) =
        (route.protocol.is_forced(&view), route.protocol.role(&view), route.protocol.demands(&view));
    let forced = by_hand || demands.is_some_and(Demands::are_for_something_new);
    let apart = route.protocol.keeps_apart(&view);
    let course = Course { key: key.clone(), variant: route.variant(&seen, None, &request) };
    let under_way = shared.flights.is_under_way(&course, Boarding::of(apart));
    let may_replace = seen.entry().is_some_and(|(entry, _)| route.may_refresh(&view, entry));
    let may_refresh =
        !under_way && may_replace && run::can_start_behind(&route.settings) && !shared.permits.are_withdrawn();
    // Lots are not drawn in advance.
    let settings = Settings { early_refresh: None, ..route.settings.clone() };
    let (outcome, plan) = match seen.answer(&settings, demands).filter(|_| !forced) {
        Some((outcome, Behind::Refresh)) if may_refresh => (outcome, Plan::Refresh),
        Some((outcome, _)) => (outcome, Plan::Nothing),
        None if !by_hand && demands.is_some_and(|demands| demands.only_if_cached) => {
            (Outcome::new(CacheStatus::Unsatisfied).because(Some(Detail::OnlyIfCached)), Plan::Nothing)
        }
        None => {
            let outcome = Outcome::new(seen.forward_of(by_hand, demands.is_some(), &settings));
            let marked = seen.is_marked();
            let together = !apart && !seen.keeps_apart() && (!route.settings.opt_in || seen.slot.is_some());
            let may_fill = !under_way && !seen.is_backing_off() && !shared.permits.are_withdrawn();
            match role {
                _ if together && !forced && route.stands_in(role, &seen) => {
                    let plan = if may_fill { Plan::Refresh } else { Plan::Nothing };
                    (outcome.because(Some(Detail::Placeholder)), plan)
                }
                _ if !run::can_start() => (outcome, Plan::Forward),
                Role::Part { fill } if !by_hand && !seen.calls_for_the_whole(fill) => {
                    (outcome.because(Some(Detail::Range)), Plan::Forward)
                }
                _ if together && under_way && !forced => (outcome.collapsed_if(true), Plan::Join),
                Role::Read => (outcome.because(Some(Detail::RequestNoStore)), Plan::Forward),
                Role::Refresh if !by_hand => (outcome.because(Some(Detail::Head)), Plan::Forward),
                Role::Lead | Role::Refresh | Role::Part { .. } => {
                    (outcome.because(marked.then_some(Detail::HitForMiss)), Plan::Lead)
                }
            }
        }
    };
    Explanation { key: Some(key), outcome, plan }
}

impl Explanation {
    /// The outcome, as far as it is known beforehand.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What the wrapped service would be made to do.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// The key under which the request is looked up, if it is.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

impl Plan {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Refresh => "refresh",
            Self::Lead => "lead",
            Self::Join => "join",
            Self::Forward => "forward",
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; plan={}", self.outcome, self.plan.as_str())
    }
}
