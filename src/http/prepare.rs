//! What becomes of a request: its key, what is to be answered, what a run sees of it; or that it goes past the cache.

use std::{sync::Arc, time::Duration};

use http::{Extensions, Method, Request};

use crate::{
    entry::Fields,
    freshness::Freshness,
    http::{
        After, Background, ForceRefresh, Http, StoredResponse, cache_control, directives,
        parts::{self, Caches, Contribution},
        range::Ranges,
        request::{self, Asked, Survey, View},
        sight::Sight,
        unsafe_methods,
    },
    key::KeyBuf,
    protocol::{Prepare, Prepared, Role, RunKind},
    status::{CacheStatus, Detail, Outcome},
};

impl<B: http_body::Body + Send + 'static> Prepare<Request<B>> for Http {
    type Request = Request<B>;

    fn prepare(
        &self,
        mut request: Request<B>,
        cache: usize,
        freshness: &Freshness,
        key: &mut KeyBuf,
    ) -> Prepared<Self, Request<B>> {
        if !self.enabled {
            return Prepared::Forward(request, After::Nothing);
        }
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => return self.past(request),
        };
        let mut survey = Survey::of(request.headers(), &self.rules.table);
        survey.content |= !request.body().is_end_stream() && request.body().size_hint().exact() != Some(0);
        let caches = request.extensions().get::<Caches>();
        let nested = caches.is_some();
        let probe = caches.and_then(|caches| caches.probe.clone());
        let outer = caches.and_then(|caches| caches.rules_of(cache));
        let outer = outer.map(|rules| self.rules.are_kept_by(rules));

        let mut keyed = self.key(&request, &survey, key);
        let (asks, has_directives) = (survey.asks(), survey.has_directives());
        let authorized = survey.is_authorized(&self.rules);
        let mut most_stale = None;
        if keyed.is_ok() && (self.when.is_some() || self.rules.key_by.is_some() || self.max_stale.is_some()) {
            (request, keyed, most_stale) = self.ask(request, key);
        }
        if let (None, Some(probe)) = (outer, probe) {
            return self.probe(request, probe, keyed, cache, freshness, key);
        }
        match (outer, keyed) {
            // A layer of this cache further out stores the response, under its own rules: where those are not ours,
            // or where we would not store it, it had better not.
            (Some(same_rules), keyed) => {
                let contribution = (same_rules && keyed.is_ok())
                    .then(|| Contribution { freshness: *freshness, negative: Arc::clone(&self.policy.negative) });
                Prepared::Forward(request, After::Contribute(contribution))
            }
            (None, Err(detail)) => {
                let outcome = Outcome::new(CacheStatus::Bypass).because(Some(detail));
                Prepared::Forward(request, After::Say { outcome, nested })
            }
            (None, Ok(())) => {
                let no_store = has_directives && cache_control::request_no_store(request.headers());
                let asked = asks.then(|| Asked::take(request.headers(), head));
                let forced = request.extensions().get::<ForceRefresh>().is_some();
                let demanding = has_directives && self.honors_directives;
                let mut demands = if demanding { directives::demands(request.headers()).map(Box::new) } else { None };
                if most_stale.is_some() {
                    demands.get_or_insert_default().most_stale = most_stale;
                }
                Prepared::Lookup(request, View { head, no_store, nested, forced, authorized, asked, demands })
            }
        }
    }

    fn variant_of(&self, fields: &Fields, request: &Request<B>, values: &mut KeyBuf) {
        self.rules.write_selecting(request.headers(), fields, values);
    }

    fn role(&self, view: &View) -> Role {
        match (view, view.ranges()) {
            (View { no_store: true, .. }, _) => Role::Read,
            (View { head: true, .. }, _) => Role::Refresh,
            // A run for him alone would fetch the whole for nobody else.
            (View { authorized, .. }, Some(ranges)) => Role::Part { fill: !authorized && self.fills(ranges) },
            (View { .. }, None) => Role::Lead,
        }
    }

    fn keeps_apart(&self, view: &View) -> bool {
        view.authorized
    }

    fn is_forced(&self, view: &View) -> bool {
        view.forced
    }

    fn force(&self, view: &mut View) {
        view.forced = true;
    }

    fn passed(&self, after: &After) -> Option<Outcome> {
        match after {
            After::Say { outcome, .. } | After::Purge { outcome, .. } => Some(*outcome),
            After::Nothing | After::Contribute(_) | After::Report(_) => None,
        }
    }

    fn is_sampled(&self, view: &View) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| !view.no_store && sampling.is_due())
    }

    fn audit<R, F>(
        &self,
        request: Request<B>,
        cache: usize,
        freshness: &Freshness,
        run: R,
    ) -> impl Future<Output = Vec<String>> + Send
    where
        R: FnMut(Request<B>, After) -> F + Send,
        F: Future<Output = ()> + Send,
    {
        self.audit_once(request, cache, freshness, run)
    }

    fn spare(&self, request: &mut Request<B>) -> Extensions {
        parts::emptied(request.extensions_mut())
    }

    fn project(
        &self,
        request: Request<B>,
        run: RunKind,
        cache: usize,
        stored: Option<&StoredResponse>,
    ) -> (Request<B>, Self::Sight) {
        let (mut parts, body) = request.into_parts();
        self.rules.project(&mut parts);
        let sight = Sight::of(&parts.headers);
        if let Some(stored) = stored {
            stored.validators().ask(&mut parts.headers);
        }
        parts.extensions.get_or_insert_with(Caches::default).push(cache, &self.rules.fingerprint);
        if run == RunKind::Background {
            parts.extensions.insert(Background);
        }
        (Request::from_parts(parts, body), sight)
    }
}

impl Http {
    /// Writes the key of a request, or says why it has none.
    pub(super) fn key<'a, B>(
        &self,
        request: &'a Request<B>,
        survey: &Survey<'a>,
        key: &mut KeyBuf,
    ) -> Result<(), Detail> {
        match survey.refusal().or_else(|| survey.uncovered(&self.rules)) {
            Some(detail) => Err(detail),
            None => survey.key(request.into(), &self.rules, key),
        }
    }

    /// Whether the whole is worth fetching for these parts of it.
    fn fills(&self, ranges: &Ranges) -> bool {
        let stored = u64::try_from(self.policy.body_cap).unwrap_or(u64::MAX);
        self.fill_on_range.is_some_and(|most| ranges.begin_before(most.min(stored)))
    }

    /// Asks the functions of the user, which want to see the head in one piece.
    fn ask<B>(&self, request: Request<B>, key: &mut KeyBuf) -> (Request<B>, Result<(), Detail>, Option<Duration>) {
        let (parts, body) = request.into_parts();
        let keyed = if self.when.as_ref().is_some_and(|when| !when(&parts)) {
            Err(Detail::Excluded)
        } else {
            match self.rules.key_by.as_ref().map(|key_by| (key_by.call)(&parts)) {
                Some(None) => Err(Detail::NoKey),
                Some(Some(own)) => {
                    key.part(Some(&own));
                    Ok(())
                }
                None => Ok(()),
            }
        };
        let rule = self.max_stale.as_ref().filter(|_| keyed.is_ok());
        let most_stale = rule.and_then(|max_stale| max_stale(&parts));
        (Request::from_parts(parts, body), keyed, most_stale)
    }

    /// A request whose method is not answered from a cache.
    fn past<B>(&self, request: Request<B>) -> Prepared<Self, Request<B>> {
        let outcome = Outcome::new(CacheStatus::Method);
        let nested = request.extensions().get::<Caches>().is_some();
        if request::is_safe(request.method()) || !self.unsafe_invalidates {
            return Prepared::Forward(request, After::Say { outcome, nested });
        }
        let target = unsafe_methods::Target::of((&request).into(), &self.rules);
        Prepared::Forward(request, After::Purge { outcome, nested, target })
    }
}
