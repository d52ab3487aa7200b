//! What belongs to an HTTP route: its key, its view, what it stores, how it names itself.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode, request::Parts};

use crate::{
    freshness::Freshness,
    http::{
        Http,
        audit::Sampling,
        common::field_name,
        rules::{Keep, is_cookie_name},
        targeted::Targets,
    },
    layer::CachebackLayer,
};

/// # The key
///
/// Rules are part of the key: layers with different rules share no entry, only memory, limits and invalidation.
impl CachebackLayer<Http> {
    /// Makes a request field part of the key. A credential or cookie field is covered by that: requests that carry it
    /// are cached, each value for itself.
    ///
    /// # Panics
    ///
    /// If it is no field name.
    #[track_caller]
    pub fn key_header<N>(self, name: N) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let name = field_name(name, "key_header");
        self.rules(|rules| rules.key_headers.push(name))
    }

    /// Makes one cookie part of the key. Of a request's cookies the handler sees only those that are keyed.
    ///
    /// # Panics
    ///
    /// If it is no cookie name (RFC 6265 §4.1.1).
    #[track_caller]
    pub fn key_cookie(self, name: &str) -> Self {
        assert!(is_cookie_name(name), "key_cookie({name:?}): that is no cookie name");
        let name = name.as_bytes().into();
        self.rules(|rules| {
            // Twice in the rules would be twice in what the handler sees.
            if !rules.key_cookies.contains(&name) {
                rules.key_cookies.push(name);
            }
        })
    }

    /// Leaves cookies out of the key, and hides them from the handler: it answers everybody alike.
    pub fn ignore_cookies(self) -> Self {
        self.rules(|rules| rules.ignore_cookies = true)
    }

    /// Takes a request field for a credential, beside those that are known as such: `Authorization`,
    /// `Proxy-Authorization`, `DPoP`, `Client-Cert`, keys and tokens (`X-Api-Key`, `X-Auth-Token`, `X-Csrf-Token`, … ), and
    /// what proxies make of a login (`X-Forwarded-User`, `X-Remote-User`, `X-Auth-Request-*`, `X-Amzn-Oidc-*`,
    /// `X-Goog-IAP-*`, `X-MS-Client-Principal*`, `Cf-Access-Jwt-Assertion`, `X-Authentik-*`, `X-Pomerium-*`, …). The whole
    /// list is in `src/http/credentials.rs`.
    ///
    /// # Panics
    ///
    /// If it is no field name.
    #[track_caller]
    pub fn credential_header<N>(self, name: N) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let name = field_name(name, "credential_header");
        self.rules(|rules| rules.credentials.push(name))
    }

    /// Leaves all query parameters but these out of the key, and hides them from the handler. Names are compared as they
    /// were sent; repeated parameters are kept.
    pub fn query_only<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.rules(|rules| rules.query.keep = Keep::Only(names))
    }

    /// Leaves these query parameters out of the key, and hides them from the handler. Names are compared as they were
    /// sent.
    pub fn query_except<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.rules(|rules| rules.query.keep = Keep::Except(names))
    }

    /// Sorts query parameters by name, for the key and for the handler. Repeated ones keep their order.
    pub fn query_sorted(self) -> Self {
        self.rules(|rules| rules.query.sorted = true)
    }

    /// Lets the handler see none but the request fields that are part of the key: `Host`, what `key_header` and
    /// `key_cookie` name, and `X-Forwarded-Host` and its kin. Extensions stay.
    pub fn sealed(self) -> Self {
        self.rules(|rules| rules.sealed = true)
    }
}

/// # What is stored
impl CachebackLayer<Http> {
    /// Gives an entity tag to each 200 that is stored without one, by which clients ask whether they have it already, and
    /// for the rest of what they have a part of. Off by default.
    ///
    /// It is a strong one (RFC 9110 §8.8.1): a hash of the content and of the fields that say how to read it (type, coding,
    /// language), the same in every process. It is made once, when the response is stored; the service never sees it. The
    /// first client, to whom the response streams, gets it only where the body is whole in its first frame.
    pub fn etag(self) -> Self {
        self.set_protocol(|http| http.etag = true)
    }

    /// Fetches the whole of a response for a client who asks for a part of it (`Range`, RFC 9110 §14.2), where nothing is
    /// stored that the part could be taken from. Off by default: then such a request goes forward as it is, and nothing is
    /// stored.
    ///
    /// `most` is in bytes: a range that begins there or further in goes forward as it is, and so does one that begins
    /// beyond [`body_cap`](Self::body_cap), for what is larger would not be stored. How long the whole is nobody knows
    /// beforehand. If it turns out to be more than the cap, or nobody else's to have, the client gets its part out of the
    /// stream where the response states its length, and the whole otherwise; ranges of that URI then go forward as they are
    /// for the time of [`hit_for_miss`](Self::hit_for_miss). Of a response that is not stored because nothing grants it a
    /// lifetime the whole is fetched each time: this is for what is stored.
    ///
    /// The first client of a response that is still under way gets the whole, as §14.2 permits, if it asks for several
    /// parts, or if the response does not state its length.
    ///
    /// # Panics
    ///
    /// If it is 0: then nothing would be fetched.
    #[track_caller]
    pub fn fill_on_range(self, most: u64) -> Self {
        assert!(most > 0, "fill_on_range(0) would fetch nothing; leave it out instead");
        self.set_protocol(|http| http.fill_on_range = Some(most))
    }

    /// Stores responses with a status that the layer's own freshness does not apply to, such as 404.
    ///
    /// # Panics
    ///
    /// If responses with this status are never stored so: 1xx, 206, 304, 401, 407, 428, 429, 431 and 511.
    #[track_caller]
    pub fn negative(self, status: StatusCode, freshness: impl Into<Freshness>) -> Self {
        let never = status.is_informational() || [206, 304, 401, 407, 428, 429, 431, 511].contains(&status.as_u16());
        assert!(!never, "negative({status}): a response with this status is never stored");
        let freshness = freshness.into();
        self.set_protocol(|http| {
            http.policy.negative = http.policy.negative.iter().copied().chain([(status, freshness)]).collect();
        })
    }

    /// Stores only what a handler opts in, by a [`Freshness`] in its response, or what a route opts in, by a layer of the
    /// same cache. Requests wait for one another only where something was opted in before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, response::IntoResponse, routing::get};
    /// use cacheback::{CachebackLayer, Freshness};
    ///
    /// async fn cached() -> impl IntoResponse { (Freshness::new(Duration::from_secs(60)), "stored") }
    /// async fn other() -> &'static str { "never stored" }
    ///
    /// let app: Router = Router::new()
    ///     .route("/cached", get(cached))
    ///     .route("/other", get(other))
    ///     .layer(CachebackLayer::new(Duration::ZERO).opt_in());
    /// ```
    pub fn opt_in(self) -> Self {
        self.set(|settings| settings.opt_in = true).set_protocol(|http| http.policy.opt_in = true)
    }

    /// Extends the layer's stale windows to responses that state their own freshness, where nothing they say forbids it.
    /// By default such a response gets the windows that it states.
    pub fn stale_windows_for_all(self) -> Self {
        self.set_protocol(|http| http.policy.stale_windows_for_all = true)
    }

    /// How long past its lifetime a response that states its own freshness may stand in for a run that failed, where it
    /// says nothing of that itself and nothing that it says forbids it (RFC 9111 §4.2.4 leaves this to the operator).
    /// Default: such a response stands in for as long as it says (`stale-if-error`, RFC 5861 §4).
    pub fn stale_if_error(self, window: Duration) -> Self {
        self.set_protocol(|http| http.policy.stale_if_error = Some(window))
    }

    /// How long past its lifetime a response with an `ETag` or a `Last-Modified` is kept to be validated, though nobody is
    /// served with it any more; default a day. A run then asks the service whether it is still the same (RFC 9111 §4.3),
    /// and a 304 makes it fresh again. Nothing is validated that is gone.
    pub fn keep(self, window: Duration) -> Self {
        self.set_protocol(|http| http.policy.kept = window)
    }

    /// Gives responses that state no lifetime one by their age (RFC 9111 §4.2.2): a tenth of the time from `Last-Modified`
    /// to `Date`, a day at most. Default: none get one.
    ///
    /// It holds for statuses that are heuristically cacheable (200, 203, 204, 300, 301, 308, 404, 405, 410, 414 and 501), for
    /// others with `Cache-Control: public`, and whether the URI has a query or not. Where the layer's own lifetime applies,
    /// or a [`negative`](Self::negative) rule, that goes first. Such a response is served stale only as it says itself.
    pub fn heuristic_freshness(self) -> Self {
        self.set_protocol(|http| http.policy.heuristics = true)
    }

    /// The targeted fields that this layer reads (RFC 9213), in order of precedence; default `Cacheback-Cache-Control`.
    ///
    /// The first of them that a response has, and that is valid and not empty, is read in place of `Cache-Control`,
    /// `Expires` and `Pragma`: what it forbids is forbidden, and what it lets live lives, whatever they say. It is a
    /// dictionary of structured fields (`max-age=600, stale-while-revalidate=60`), ignored as a whole where it is none.
    /// With an empty list only `Cache-Control` is read.
    ///
    /// `Cacheback-Cache-Control`, where it is on the list, is taken off every response that leaves this layer for a
    /// client. All other fields pass on, such as `CDN-Cache-Control` for caches that stand between here and the client;
    /// but where a response is served stale, those of this list are taken off as well, lest one be taken for fresh.
    ///
    /// ```
    /// use cacheback::CachebackLayer;
    ///
    /// // As a CDN.
    /// let layer = CachebackLayer::http().targeted(["Cacheback-Cache-Control", "CDN-Cache-Control"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If one is no field name.
    #[track_caller]
    pub fn targeted<N>(self, names: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let mut targets = Vec::new();
        for name in names {
            // In a loop: the place of the caller is lost on a closure.
            targets.push(field_name(name, "targeted"));
        }
        let targets = Targets::new(targets);
        self.set_protocol(|http| {
            http.unstored.own = targets.has_own();
            http.policy.targets = targets;
        })
    }

    /// Fields of one exchange, such as a request's id: they go to the client whose request it was and are not stored.
    ///
    /// Replaces the list that is in force otherwise: `x-request-id`, `x-correlation-id`, `x-amzn-requestid`,
    /// `x-amzn-trace-id`, `request-id`, `traceparent`, `tracestate`, `traceresponse`, `x-b3-traceid`, `x-b3-spanid`,
    /// `server-timing`, `authentication-info`, `x-runtime` and `x-response-time`. Hop-by-hop fields and those whose names
    /// begin with `ratelimit`, `x-ratelimit-` or `x-rate-limit-` are never stored.
    ///
    /// # Panics
    ///
    /// If one is no field name.
    #[track_caller]
    pub fn exchange_headers<N>(self, names: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<HeaderName>,
    {
        let mut exchange = Vec::new();
        for name in names {
            // In a loop: the place of the caller is lost on a closure.
            exchange.push(field_name(name, "exchange_headers"));
        }
        self.set_protocol(|http| http.unstored.name(exchange))
    }
}

/// # When, and how it shows
impl CachebackLayer<Http> {
    /// Leaves requests out for which this says no: they are neither looked up nor stored. It is asked about GET and HEAD;
    /// an unsafe method purges its URI whatever it says.
    pub fn when(self, when: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set_protocol(|http| http.when = Some(Arc::new(when)))
    }

    /// For how long a response may have been stale that is to answer this request at once; default, and with `None`: as
    /// long as its freshness has it. With `Some(Duration::ZERO)` the request takes none that is stale. It is asked about
    /// requests that are looked up.
    ///
    /// It only narrows. A request for which a response is too stale waits for a run, and is answered by the stale one
    /// should that fail; after a failure, as long as runs are put off, it gets the stale one at once. A response that was
    /// expired by hand ahead of its time has been stale for no time at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::CachebackLayer;
    ///
    /// // An editor waits for what everybody else gets at once.
    /// let layer = CachebackLayer::new(Duration::from_secs(60))
    ///     .max_stale(|request| request.uri.path().starts_with("/edit").then_some(Duration::ZERO));
    /// ```
    pub fn max_stale(self, rule: impl Fn(&Parts) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.set_protocol(|http| http.max_stale = Some(Arc::new(rule)))
    }

    /// Whether a successful request with an unsafe method (POST, PUT, DELETE, unknown ones) purges its URI; default
    /// yes (RFC 9111 §4.4).
    pub fn unsafe_invalidates(self, invalidates: bool) -> Self {
        self.set_protocol(|http| http.unsafe_invalidates = invalidates)
    }

    /// Honours what requests demand of stored responses (RFC 9111 §5.2.1). Default: they are not asked, since with
    /// `no-cache` any client could have the service called as often as it likes.
    ///
    /// * `no-cache` (or `Pragma: no-cache`, where there is no `Cache-Control`) and `max-age=0`: the service is called, or
    ///   asked whether what is stored is still good where that has a validator. A run that is under way already does not
    ///   count. Should it fail, a reader with `no-cache` gets the failure.
    /// * `max-age` and `min-fresh`, in seconds: nothing that is older, or not fresh for so much longer.
    /// * `max-stale`, with or without seconds: what stated its own lifetime and forbids nothing (`must-revalidate`,
    ///   `proxy-revalidate`, `s-maxage`, `no-cache`) is kept for a day past it and given to those who ask, unless it was
    ///   invalidated.
    /// * `only-if-cached`: 504 where nothing that is stored may answer; nobody waits and nothing runs. Requests that are
    ///   not looked up go past as ever.
    ///
    /// Of several directives with one name the most restrictive counts; so does an argument that makes no sense. A request
    /// with `no-store` leaves no trace in any case.
    pub fn honor_request_directives(self) -> Self {
        self.set_protocol(|http| {
            http.honors_directives = true;
            http.policy.on_demand = true;
        })
    }
}

/// # Audits
impl CachebackLayer<Http> {
    /// Audits one fresh hit in so many, behind its reader, who is answered as always: the request is run again with what
    /// the key and `Vary` leave out changed. If the response changes too, that is told by path and name: once, as a
    /// warning of `tracing` (feature `tracing`), and as [`Stats::audit_findings`](crate::Stats::audit_findings).
    /// [`testing::audit`](crate::testing::audit) does the same in a test, more thoroughly.
    ///
    /// An audit calls the handler three times as long as all is well, and some dozens of times for each finding
    /// that is new: with all that the handler brings about, and with values that nobody has sent. Such a request has
    /// [`Background`](crate::Background) in its extensions. A layer has one audit at a time, which counts as a refresh
    /// against their limit, and ends with [`refresh_timeout`](Self::refresh_timeout) at the latest. Where there is no
    /// room for it the hit is not audited, and neither is a request with more than 256 fields and cookies. Nothing is stored.
    ///
    /// What stands further out than the layer takes no part: a field that a middleware there has read is not found by
    /// its name, and what it put into the request's extensions stays as it is.
    ///
    /// This is for services that take axum's `Body`; [`audit_with`](Self::audit_with) is for others.
    ///
    /// # Panics
    ///
    /// If it is 0: then none is meant.
    #[cfg(feature = "axum")]
    #[track_caller]
    pub fn audit(self, one_in: u64) -> Self {
        self.audit_with(one_in, axum::body::Body::empty)
    }

    /// As `audit`, for a service that takes bodies of this type: the function makes empty ones.
    ///
    /// # Panics
    ///
    /// If it is 0: then none is meant.
    #[track_caller]
    pub fn audit_with<B: Send + 'static>(self, one_in: u64, body: impl Fn() -> B + Send + Sync + 'static) -> Self {
        assert!(one_in > 0, "an audit of one hit in 0 is none: leave it out instead");
        let sampling = Sampling::new(one_in, body);
        self.set_protocol(|http| http.sampling = Some(sampling))
    }
}
