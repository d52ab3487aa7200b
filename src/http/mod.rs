//! HTTP, as an application serves it and as RFC 9111 has it: the protocol, which ties together the files beside it.
//!
//! * A request is read by `request` (one pass over its fields, and the key), `rules` (what a layer adds to the key and what
//!   a run sees), `credentials` (the fields that tell who is asking), `vary` (values of selecting fields), `directives` (what
//!   it demands of what is stored) and `range`.
//! * A response is judged by `policy`, which reads `cache_control` or what `targeted` finds in its place, `statuses`, and
//!   `groups`; its body goes through `body`.
//! * `stored` keeps it, less what is `unstored`, and gives it out again: with `conditional` for clients that have it already,
//!   with `partial` for those who want a part; `etag` gives it a name, `validation` asks the service whether it is still
//!   the same.
//! * `unsafe_methods` purges, `parts` is what handlers and layers say to one another, `setters` is what a user says to a
//!   layer, and `audit` is the auditor.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};

use crate::{
    demands::Demands,
    entry::{Entry, Fields},
    freshness::Freshness,
    interest::Interest,
    key::KeyBuf,
    protocol::{Capture, Captured, Judgement, Prepare, Prepared, Protocol, Role, RunKind, Validated, sealed},
    scope::Scope,
    status::{CacheStatus, Detail, Outcome},
};

pub(crate) mod audit;
mod body;
mod cache_control;
mod conditional;
mod credentials;
mod directives;
mod etag;
#[cfg(all(test, not(cacheback_model)))]
mod fuzz;
mod groups;
mod partial;
mod parts;
mod policy;
mod range;
mod request;
mod rules;
mod setters;
mod statuses;
mod stored;
mod targeted;
mod unsafe_methods;
mod unstored;
mod validation;
mod vary;

pub use body::Body;
pub use parts::{Background, ForceRefresh, NoStore};
pub use stored::StoredResponse;

use audit::Sampling;
use parts::{Caches, Contribution};
use policy::{Head, Policy};
use range::Ranges;

pub(crate) use policy::Mode;
use request::{Asked, Survey, View};
use rules::KeyRules;
use stored::{Reuse, StatusName, Storing};
use targeted::Targets;
use unstored::Unstored;

/// The protocol of HTTP services: axum routers and routes, hyper clients, anything that answers `http::Request` with
/// `http::Response`.
///
/// There are two modes. [`CachebackLayer::new`](crate::CachebackLayer::new) makes a layer in *application mode*: its
/// lifetime applies to responses that say nothing, and what might be private is not stored whatever it says.
/// [`CachebackLayer::http`](crate::CachebackLayer::http) makes one in *protocol mode*, for a proxy or a client: nothing is
/// stored but what responses let a shared cache store, for as long as they say (RFC 9111).
///
/// # Which requests are looked up
///
/// GET and HEAD, without content, without `If-Match`, `If-Unmodified-Since` or `Upgrade`. A HEAD is answered from what a GET
/// stored and stores nothing itself. So is a `Range`: with one or several parts of a stored 200 or, where nothing is stored,
/// with what the service makes of it (unless [`fill_on_range`](crate::CachebackLayer::fill_on_range) is set). All others
/// go past the cache; if the method is not known as a safe one and succeeds, its URI is purged before the response is handed
/// on, with what `Location`, `Content-Location` and `Cache-Group-Invalidation` name of the same origin (RFC 9111 §4.4, RFC
/// 9875).
///
/// The key is the URI as it was received (and as it is seen, where a nested router or a rewriting middleware made it
/// another), the one authority of the request, `X-Forwarded-Host` and its kin where they occur, and what the layer's
/// rules add. The scheme is no part of it, since HTTP/1 has none: around a client that asks for `http` and `https` of one
/// host, give each a layer with a [`namespace`](crate::CachebackLayer::namespace) and tell them apart with `when`.
///
/// In application mode a request that carries a credential or a cookie goes past the cache unless the key covers it:
/// `key_header`, `key_cookie` and `key_by` of [`CachebackLayer`](crate::CachebackLayer) do that; `ignore_cookies` hides
/// cookies from the handler. In protocol mode `Proxy-Authorization` and what
/// [`credential_header`](crate::CachebackLayer::credential_header) names do so; a request with `Authorization` is looked up
/// like any other, and its response is stored where it says that it may be (§3.5). A request that is not looked up is not
/// collapsed with others and its response is not stored.
///
/// What a client asks of the cache in `Cache-Control` counts for nothing, but for `no-store`, unless
/// [`honor_request_directives`](crate::CachebackLayer::honor_request_directives) is set.
///
/// # Which responses are stored
///
/// * Never: `no-store`, `private`, `Vary: *`, 206, 304, 428, 429, 431, 511, event streams, [`NoStore`], a body over the cap,
///   `Set-Cookie`, `no-cache` without a validator. In application mode neither 401, 407, `WWW-Authenticate` and its kin, a
///   CSP nonce, and one allowed origin without `Vary: Origin`. Such a response is not given to those who wait for it either.
/// * For as long as they say: responses with a [`Freshness`] from their handler, with a targeted field (RFC 9213), or with
///   `s-maxage`, `max-age` or `Expires`, whatever their status. `must-revalidate` and `proxy-revalidate` forbid serving
///   them stale, and so does `s-maxage` but for windows that stand beside it; otherwise they may be served stale for as
///   long as they say.
/// * For as long as the layer says, in application mode: 200, 203, 301 and 308 that say nothing, and statuses given to
///   `negative`.
/// * To be validated each time: `no-cache` with an `ETag` or a `Last-Modified`; in protocol mode also what has one of these
///   and no lifetime, with status 200, 203 or 204 or with `public`.
/// * All others are given to those who wait for them, and not stored.
///
/// `private="a, b"` and `no-cache="a, b"` are about these fields: whoever asked gets them, and what is stored does without.
/// That way a response with a cookie can be stored: RFC 9111 §7.3 leaves it to caches what to make of `Set-Cookie`, and we
/// store a response that has one only where it says `private="set-cookie"` or `no-cache="set-cookie"`. `no-store` beside
/// `must-understand` is for caches that do not know the status (§5.2.2.3): those of RFC 9110 are known.
///
/// The first client of a storable response streams, and the store does not depend on how fast it reads.
///
/// A run that is to replace something with a validator asks the service whether it is still the same (§4.3); a 304 makes
/// that fresh again. For this it is [kept](crate::CachebackLayer::keep) for a day past its lifetime.
///
/// # What the handler sees
///
/// Every run whose response may be stored has the same view of its request, whoever sent it and whether anybody waits:
/// a GET without content, ranges, hop-by-hop fields and conditions of its client, and without whatever the key was told to
/// leave out. (`If-None-Match` and `If-Modified-Since` are those of what is stored.)
/// `Host` and the URI's authority are spelt as the key has them: in lower case, without the default port.
/// Its extensions are those of the request, with [`Background`] where nobody waits. It has a task of its own, so it sees
/// no task-local values of the request's.
///
/// Extensions are not part of the key. A handler that answers by one (the client's address, a user or a session that a
/// middleware further out has put there) needs `key_by`, or [`NoStore`]: [`testing::audit`](crate::testing::audit) finds
/// those that read the client's address or what its test lists, and fields and cookies that a handler reads though nobody
/// keyed them. A `Set-Cookie` that is added further out is not seen here.
#[derive(Clone)]
pub struct Http {
    rules: KeyRules,
    policy: Policy,
    name: StatusName,
    unstored: Unstored,
    unsafe_invalidates: bool,
    /// Whether what is stored gets an entity tag where it has none.
    etag: bool,
    /// The whole is fetched for a range that begins before this byte.
    fill_on_range: Option<u64>,
    /// Whether requests may demand something of stored responses.
    honors_directives: bool,
    enabled: bool,
    when: Option<Arc<WhenFn>>,
    /// Which hits are audited; without it none are.
    sampling: Option<Sampling>,
}

/// How long past its lifetime a response with a validator is kept to be validated, unless a layer says otherwise.
const KEPT: Duration = Duration::from_secs(86_400);

type WhenFn = dyn Fn(&Parts) -> bool + Send + Sync;

/// What is left to do for a request that goes past the cache.
#[derive(Debug)]
pub enum After {
    /// Nothing at all: the layer is off.
    Nothing,
    /// Say why. `nested`: to a layer further out, which may store the response.
    Say { outcome: Outcome, nested: bool },
    /// Purge what its method may have changed.
    Purge { outcome: Outcome, nested: bool, target: Option<unsafe_methods::Target> },
    /// Tell the layer further out what this one would have done.
    Contribute(Option<Contribution>),
    /// Tell the auditor what would be stored.
    Report(Box<audit::Probed>),
}

impl Http {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            rules: KeyRules::new(mode),
            policy: Policy {
                mode,
                targets: Targets::default(),
                body_cap: 1 << 20,
                negative: Arc::default(),
                opt_in: false,
                stale_windows_for_all: false,
                stale_if_error: None,
                heuristics: false,
                kept: KEPT,
                on_demand: false,
            },
            name: StatusName(Some("cacheback".into())),
            unstored: Unstored::new(mode),
            unsafe_invalidates: true,
            etag: false,
            fill_on_range: None,
            honors_directives: false,
            enabled: true,
            when: None,
            sampling: None,
        }
    }
}

impl sealed::Sealed for Http {}

impl Protocol for Http {
    type Value = StoredResponse;
    type View = View;
    type Sight = HeaderMap;
    type Spare = Extensions;
    type After = After;

    fn variant(&self, fields: &Fields, sight: &Self::Sight, values: &mut KeyBuf) {
        self.rules.write_selecting(sight, fields, values);
    }

    fn demands<'a>(&self, view: &'a View) -> Option<&'a Demands> {
        view.demands.as_deref()
    }

    fn weigh(&self, value: &StoredResponse) -> usize {
        value.weight()
    }
}

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
        if keyed.is_ok() && (self.when.is_some() || self.rules.key_by.is_some()) {
            (request, keyed) = self.ask(request, key);
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
                let no_store = survey.has_directives() && cache_control::request_no_store(request.headers());
                let asked = survey.asks().then(|| Asked::take(request.headers(), head));
                let forced = request.extensions().get::<ForceRefresh>().is_some();
                let authorized = survey.is_authorized(&self.rules);
                let demanding = survey.has_directives() && self.honors_directives;
                let demands = if demanding { directives::demands(request.headers()).map(Box::new) } else { None };
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
            (View { authorized: true, .. }, Some(_)) => Role::Part { fill: false },
            (View { authorized: true, .. }, None) => Role::Solo,
            (View { .. }, Some(ranges)) => Role::Part { fill: self.fills(ranges) },
            (View { .. }, None) => Role::Lead,
        }
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

    fn spare(&self, mut request: Request<B>) -> Extensions {
        // The map is emptied and used again: a response that says what happened needs one.
        let mut extensions = std::mem::take(request.extensions_mut());
        extensions.clear();
        extensions
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
        let sight = parts.headers.clone();
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

impl<B> Capture<Response<B>> for Http
where
    B: http_body::Body + Send + 'static,
    B::Error: Send,
{
    type Response = Response<Body<B>>;
    type Fill = Storing<B>;

    fn judge(&self, response: &Response<B>, sight: &Self::Sight, freshness: &Freshness) -> Judgement {
        let head = Head {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
            at_least: response.body().size_hint().lower().max(content_length(response.headers()).unwrap_or(0)),
            authorized: self.is_authorized(sight),
        };
        self.policy.judge(head, freshness)
    }

    fn validate(
        &self,
        response: Response<B>,
        stored: &Entry<StoredResponse>,
        sight: &Self::Sight,
        freshness: &Freshness,
    ) -> Result<Validated<Response<Body<B>>, StoredResponse>, Response<B>> {
        if response.status() != StatusCode::NOT_MODIFIED || !stored.value.validators().are_any() {
            return Err(response);
        }
        let (head, _) = response.into_parts();
        let (judged, value) =
            validation::freshen(stored, head, self.is_authorized(sight), &self.policy, &self.unstored, freshness);
        let response = value.response();
        let value = value.without(judged.withheld.as_ref());
        Ok(Validated { judged, response, value })
    }

    fn pass(&self, mut response: Response<B>) -> Response<Body<B>> {
        response.extensions_mut().remove::<Contribution>();
        response.map(Body::passing)
    }

    fn capture(
        &self,
        response: Response<B>,
        judged: &Judgement,
        interest: Interest,
    ) -> Captured<Response<Body<B>>, StoredResponse, Storing<B>> {
        let (mut head, body) = response.into_parts();
        // It was for this cache: to another one further out it would say that somebody opted in.
        head.extensions.remove::<Contribution>();
        // RFC 9110 §6.6.1: whoever stores a response that has no Date gives it one.
        head.headers.entry(header::DATE).or_insert_with(stored::date);
        let omitted = self.unstored.of(&head.headers, judged.withheld.as_ref());
        let stored = StoredResponse::new(&head, &omitted);
        let expected = content_length(&head.headers);
        let (fill, body) = Body::piped(body, self.policy.body_cap, expected, interest);
        let mut storing = Box::pin(Storing::new(stored, omitted, fill, self.etag));
        // What is there already is taken at once: a body whole in its first frame is stored before its head is sent.
        match storing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(stored)) => {
                // Trailers may hold what is not stored.
                let body = if stored.trailers().is_some() { body } else { stored.body() };
                if let Some(etag) = stored.own_etag() {
                    head.headers.insert(header::ETAG, etag.clone());
                }
                Captured::Whole(Response::from_parts(head, body), stored)
            }
            Poll::Ready(Err(unfilled)) => Captured::Unfit(Response::from_parts(head, body), unfilled),
            Poll::Pending => Captured::Filling(Response::from_parts(head, body), storing),
        }
    }

    fn deliver(&self, mut response: Response<Body<B>>, view: &View, outcome: Outcome) -> Response<Body<B>> {
        self.leave(&mut response, view.nested);
        stored::deliver(response, view, outcome, &self.name)
    }

    fn deliver_as_it_is(&self, response: Response<B>, view: &View, outcome: Outcome) -> Response<Body<B>> {
        // RFC 9111 §4.3.2: conditions are not a cache's to evaluate where it has nothing to evaluate them against.
        let mut response = self.pass(response);
        self.leave(&mut response, view.nested);
        stored::announce(&mut response, outcome, &self.name);
        response
    }

    fn contradicts(&self, response: &Response<B>, stored: &StoredResponse, view: &View) -> bool {
        view.head && stored.is_contradicted_by(response.status(), response.headers())
    }

    fn replay(
        &self,
        entry: &Entry<StoredResponse>,
        age: Duration,
        view: &View,
        outcome: Outcome,
        spare: Extensions,
    ) -> Self::Response {
        // By its own fields it would pass for fresh where they grant nothing, or where it was expired by hand.
        let tells = entry.judged.explicit && age >= entry.freshness().lifetime();
        let reuse = if outcome.is_stale() && !tells { Reuse::Stale } else { Reuse::AsItSays };
        let mut response = entry.value.replay(age, reuse, view, outcome, &self.name, spare);
        if let Reuse::Stale = reuse {
            self.policy.targets.remove(response.headers_mut());
        } else if view.nested {
            response.headers_mut().extend(entry.value.own());
        }
        if view.nested {
            // Extensions are not stored. What the service said in them about storing holds for the other cache too.
            let said = response.extensions_mut();
            said.insert(entry.tags().clone());
            if entry.judged.said {
                // Stale here is stale there, also where it was expired by hand or lives for less than `Age` can say.
                let freshness = entry.freshness();
                let told = Duration::from_secs(age.as_secs());
                let lifetime = if outcome.is_stale() { freshness.lifetime().min(told) } else { freshness.lifetime() };
                said.insert(freshness.with_lifetime(lifetime));
            }
        }
        response
    }

    fn unsatisfied(&self, _: &View, outcome: Outcome) -> Option<Self::Response> {
        // Without a status field: it is not based on a stored response (RFC 9211 §2).
        let mut response = Response::new(Body::none());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        response.extensions_mut().insert(outcome);
        Some(response)
    }

    fn finish(&self, response: Response<B>, after: After) -> (Response<Body<B>>, Vec<Scope>) {
        let after = match after {
            After::Report(probed) => return (self.report(response, *probed), Vec::new()),
            after => after,
        };
        let status = response.status();
        let mut response = response.map(Body::passing);
        let mut scopes = Vec::new();
        match after {
            After::Nothing | After::Report(_) => {}
            After::Say { outcome, nested } => {
                self.leave(&mut response, nested);
                stored::announce(&mut response, outcome.forwarded(Some(status.as_u16())), &self.name);
            }
            After::Purge { outcome, nested, target } => {
                self.leave(&mut response, nested);
                if let Some(target) = target.filter(|_| status.is_success() || status.is_redirection()) {
                    scopes = target.scopes(response.headers());
                }
                stored::announce(&mut response, outcome.forwarded(Some(status.as_u16())), &self.name);
            }
            After::Contribute(Some(contribution)) if self.policy.is_opted_in(response.extensions()) => {
                response.extensions_mut().get_or_insert(contribution);
            }
            After::Contribute(_) => {
                response.extensions_mut().insert(NoStore);
            }
        }
        (response, scopes)
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn is_failure(&self, response: &Response<B>) -> bool {
        statuses::is_failure(response.status())
    }
}

impl Http {
    /// Writes the key of a request, or says why it has none.
    fn key<B>(&self, request: &Request<B>, survey: &Survey, key: &mut KeyBuf) -> Result<(), Detail> {
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

    /// Whether what a run sees has a credential that the key does not cover.
    fn is_authorized(&self, sight: &HeaderMap) -> bool {
        sight.contains_key(header::AUTHORIZATION) && !self.rules.covers_authorization()
    }

    /// Asks the functions of the user, which want to see the head in one piece.
    fn ask<B>(&self, request: Request<B>, key: &mut KeyBuf) -> (Request<B>, Result<(), Detail>) {
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
        (Request::from_parts(parts, body), keyed)
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

    /// A response that leaves for clients: what was said to this cache alone stays here. A layer further out hears it.
    fn leave<B>(&self, response: &mut Response<B>, nested: bool) {
        if !nested {
            self.policy.targets.strip(response.headers_mut());
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("rules", &self.rules).field("policy", &self.policy).finish_non_exhaustive()
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
