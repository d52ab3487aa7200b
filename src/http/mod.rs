//! HTTP, as an application serves it and as RFC 9111 has it: the protocol, which ties together the files beside it.
//!
//! * `prepare` says what becomes of a request, `capture` what becomes of a response. The other files are theirs:
//! * A request is read by `request` (one pass over its fields, and the key), `rules` (what a layer adds to the key and what
//!   a run sees), `credentials` (the fields that tell who is asking), `sight` (what is remembered of it) and `vary` (values of
//!   selecting fields), `directives` (what it demands of what is stored) and `range`.
//! * A response is judged by `policy`, which asks `present` what fields there are, and reads `cache_control` or what `targeted`
//!   finds in its place, `statuses`, and `groups`; its body goes through `body`.
//! * `stored` keeps it, less what is `unstored` and with what is `known`, and gives it out again: with `conditional` for
//!   clients that have it already, with `partial` for those who want a part, and `announcing` says what was done; `etag`
//!   gives it a name, `validation` asks the service whether it is still the same.
//! * `unsafe_methods` purges, `parts` is what handlers and layers say to one another, `setters` is what a user says to a
//!   layer, and `common` what he says to one of gRPC as well; `placeholder` stands in where nothing is stored, and `audit` is
//!   the auditor.

use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, header, request::Parts};

use crate::{
    demands::Demands,
    entry::Fields,
    key::KeyBuf,
    protocol::{Protocol, sealed},
    status::Outcome,
};

pub(crate) mod announcing;
pub(crate) mod audit;
pub(crate) mod body;
pub(crate) mod cache_control;
mod capture;
pub(crate) mod common;
mod conditional;
mod credentials;
mod directives;
mod etag;
#[cfg(all(test, not(cacheback_model)))]
mod fuzz;
pub(crate) mod groups;
mod known;
mod partial;
pub(crate) mod parts;
mod placeholder;
pub(crate) mod policy;
mod prepare;
mod present;
mod range;
pub(crate) mod request;
pub(crate) mod rules;
mod setters;
mod sight;
pub(crate) mod statuses;
pub(crate) mod stored;
mod targeted;
mod unsafe_methods;
pub(crate) mod unstored;
mod validation;
mod vary;

pub use body::Body;
pub use parts::{Background, ForceRefresh, NoStore};
pub use stored::StoredResponse;

pub(crate) use policy::Mode;
pub(crate) use stored::Packed;

use announcing::StatusName;
use audit::Sampling;
use common::OverHttp;
use parts::Contribution;
use placeholder::StandIn;
use policy::Policy;
use request::View;
use rules::KeyRules;
use sight::Sight;
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
/// * For as long as they say: responses with a [`Freshness`](crate::Freshness) from their handler, with a targeted field
///   (RFC 9213), or with `s-maxage`, `max-age` or `Expires`, whatever their status. `must-revalidate` and
///   `proxy-revalidate` forbid serving them stale, and so does `s-maxage` but for windows that stand beside it; otherwise
///   they may be served stale for as long as they say.
/// * For as long as the layer says, in application mode: 200, 203, 301 and 308 that say nothing, and statuses given to
///   `negative`.
/// * To be validated each time: `no-cache` with an `ETag` or a `Last-Modified`; in protocol mode also what has one of these
///   and no lifetime, with status 200, 203 or 204 or with `public`.
/// * All others are not stored. In application mode they are given to those who wait for them; in protocol mode, where
///   cookies tell clients apart that the key does not, everybody has his own.
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
    max_stale: Option<Arc<MaxStaleFn>>,
    /// What readers get where nothing is stored.
    stand_in: Option<Arc<StandIn>>,
    /// Which hits are audited; without it none are.
    sampling: Option<Sampling>,
}

/// How long past its lifetime a response with a validator is kept to be validated, unless a layer says otherwise.
const KEPT: Duration = Duration::from_secs(86_400);

type WhenFn = dyn Fn(&Parts) -> bool + Send + Sync;

type MaxStaleFn = dyn Fn(&Parts) -> Option<Duration> + Send + Sync;

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
            max_stale: None,
            stand_in: None,
            sampling: None,
        }
    }
}

impl sealed::Sealed for Http {}

impl Protocol for Http {
    type Value = StoredResponse;
    type View = View;
    type Sight = Sight;
    type Spare = Extensions;
    type After = After;

    fn variant(&self, fields: &Fields, sight: &Self::Sight, values: &mut KeyBuf) {
        self.rules.write_selecting(&sight.of_these(fields), fields, values);
    }

    fn demands<'a>(&self, view: &'a View) -> Option<&'a Demands> {
        view.demands.as_deref()
    }

    fn has_placeholder(&self) -> bool {
        self.stand_in.is_some()
    }

    fn weigh(&self, value: &StoredResponse) -> usize {
        value.weight()
    }
}

impl OverHttp for Http {
    fn rules(&mut self) -> &mut KeyRules {
        &mut self.rules
    }

    fn name(&mut self) -> &mut StatusName {
        &mut self.name
    }

    fn body_cap(&mut self) -> &mut usize {
        &mut self.policy.body_cap
    }

    fn enabled(&mut self) -> &mut bool {
        &mut self.enabled
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
