//! A request that is run for an audit: what each layer on its way makes of it, and would store of the response.
//!
//! Such a request is not looked up, not stored and not collapsed: it goes forward, in the view that every run has of a
//! request, and its response is judged and read as one that is stored. Only code in the process can mark a request so,
//! for extensions are not sent, and only this crate, for the mark is private.

use std::{
    fmt, mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, Request, Response, Uri, Version,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};

use crate::{
    clock,
    entry::Fields,
    freshness::Freshness,
    http::{
        After, Body, Http,
        audit::baseline::Answer,
        cache_control::request_no_store,
        parts::Caches,
        rules::KeyRules,
        sight::Sight,
        stored::{self, StoredResponse},
    },
    interest::Aboard,
    judgement::{Class, Judgement},
    key::{Key, KeyBuf},
    protocol::{Capture, Captured, Prepare, Prepared, RunKind, Unfilled},
    status::{CacheStatus, Detail, Outcome},
};

/// How long the body of a response may take once its head is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The mark of such a request, in its extensions (see [`Caches`]); and where layers report to.
#[derive(Clone)]
pub(crate) struct Probe(Arc<Inner>);

struct Inner {
    kind: RunKind,
    reports: Mutex<Vec<Report>>,
}

/// What one layer made of the request.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) layer: LayerId,
    /// Why the request was not looked up, if it was not.
    pub(crate) made: Result<Run, Detail>,
}

/// Tells layers apart: by their cache and their rules.
pub(crate) type LayerId = (usize, Arc<[u8]>);

/// A run that the layer would have stored, or refused to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) lookup: Lookup,
    judged: Judgement,
    head: StoredResponse,
    whole: Reading,
}

/// What a request was looked up by, and what the run saw of it.
pub(crate) struct Lookup {
    pub(crate) key: Key,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    rules: KeyRules,
}

enum Reading {
    Underway(Pin<Box<dyn Future<Output = Result<StoredResponse, Unfilled>> + Send>>),
    Done(Result<StoredResponse, Unfilled>),
    /// It has no end to wait for, or is too large anyway.
    Declined,
}

/// What is left to do for such a request once its response is there.
#[derive(Debug)]
pub struct Probed {
    probe: Probe,
    layer: LayerId,
    /// Why the request was not looked up, if it was not.
    pub(crate) lookup: Result<Lookup, Detail>,
    freshness: Freshness,
}

impl Probe {
    pub(crate) fn new(kind: RunKind) -> Self {
        Self(Arc::new(Inner { kind, reports: Mutex::default() }))
    }

    /// Puts the mark on a request.
    pub(crate) fn mark(&self, extensions: &mut http::Extensions) {
        extensions.get_or_insert_with(Caches::default).probe = Some(self.clone());
    }

    /// Waits for a call of the service, and for what layers read of its responses.
    pub(crate) async fn attend(&self, call: impl Future<Output = ()>) -> Vec<Report> {
        let mut call = pin!(call);
        // A body is read while the call goes on: somebody further out may wait for all of it.
        std::future::poll_fn(|cx| {
            let called = call.as_mut().poll(cx);
            let _read = self.poll_read(cx);
            called
        })
        .await;
        let _in_time = clock::timeout(PATIENCE, std::future::poll_fn(|cx| self.poll_read(cx))).await;
        mem::take(&mut *self.lock())
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Not under the lock: a body may come from a service behind another layer.
        let mut reports = mem::take(&mut *self.lock());
        loop {
            let runs = reports.iter_mut().filter_map(|report| report.made.as_mut().ok());
            let underway = runs.filter_map(|run| run.whole.poll(cx).is_pending().then_some(())).count();
            let mut more = self.lock();
            if more.is_empty() {
                // Under the same lock: a service may report from another thread.
                *more = reports;
                return if underway == 0 { Poll::Ready(()) } else { Poll::Pending };
            }
            reports.append(&mut more);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        self.0.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// Why nothing of it would be stored, if so.
    pub(crate) fn refusal(&self) -> Option<Detail> {
        match (self.judged.class, &self.whole) {
            (Class::Storable, Reading::Done(Ok(_))) => None,
            (Class::Storable, Reading::Done(Err(Unfilled::TooLarge))) => Some(Detail::TooLarge),
            (Class::Storable, Reading::Done(Err(Unfilled::Failed))) => Some(Detail::BodyFailed),
            (Class::Storable, _) => Some(Detail::SlowBody),
            _ => Some(self.judged.detail.unwrap_or(Detail::NoLifetime)),
        }
    }

    /// The response as it would be stored.
    pub(crate) fn answer(&self) -> Answer<'_> {
        let whole = if let Reading::Done(Ok(whole)) = &self.whole { Some(whole) } else { None };
        Answer { head: &self.head, whole }
    }

    /// Whether its response, stored, would answer another request of its key.
    pub(crate) fn answers(&self, other: &Lookup) -> bool {
        let fields = self.judged.fields.as_ref();
        fields.is_none_or(|fields| self.lookup.values(fields) == other.values(fields))
    }

    /// Whether one response is coded and the other is not, for no other reason than what is accepted.
    pub(crate) fn is_coded_otherwise(&self, other: &Self) -> bool {
        let is_coded = |run: &Self| run.head.fields().any(|(name, _)| name == CONTENT_ENCODING);
        is_coded(self) != is_coded(other) && self.lookup.looks_like_but_for(&ACCEPT_ENCODING, &other.lookup)
    }
}

impl Lookup {
    /// Whether a run sees the same of both requests, leaving out their extensions.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        (&self.uri, self.version, &self.headers) == (&other.uri, other.version, &other.headers)
    }

    /// Whether a run sees the same of both, leaving out this field.
    fn looks_like_but_for(&self, field: &HeaderName, other: &Self) -> bool {
        let others = |lookup: &Self| {
            let mut headers = lookup.headers.clone();
            headers.remove(field);
            headers
        };
        (&self.uri, self.version, others(self)) == (&other.uri, other.version, others(other))
    }

    fn values(&self, fields: &Fields) -> Key {
        let mut values = KeyBuf::default();
        self.rules.write_selecting(&self.headers, fields, &mut values);
        values.to_key()
    }
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Underway(whole) = self {
            *self = Self::Done(ready!(whole.as_mut().poll(cx)));
        }
        Poll::Ready(())
    }
}

impl Http {
    /// Sends a request forward as a run would see it; as it is, where it is not looked up.
    pub(crate) fn probe<B>(
        &self,
        request: Request<B>,
        probe: Probe,
        keyed: Result<(), Detail>,
        cache: usize,
        freshness: &Freshness,
        key: &KeyBuf,
    ) -> Prepared<Self, Request<B>>
    where
        B: http_body::Body + Send + 'static,
    {
        let no_store = request_no_store(request.headers()).then_some(Detail::RequestNoStore);
        let (request, lookup) = match keyed.map_or_else(Some, |()| no_store) {
            Some(detail) => (request, Err(detail)),
            None => {
                let (request, _) = self.project(request, probe.0.kind, cache, None);
                let headers = request.headers().clone();
                let (uri, version) = (request.uri().clone(), request.version());
                (request, Ok(Lookup { key: key.to_key(), uri, version, headers, rules: self.rules.clone() }))
            }
        };
        let layer = (cache, Arc::clone(&self.rules.fingerprint));
        Prepared::Forward(request, After::Report(Box::new(Probed { probe, layer, lookup, freshness: *freshness })))
    }

    /// Reports what would be stored of a response, and hands it on to whoever is further out.
    pub(crate) fn report<B>(&self, response: Response<B>, probed: Probed) -> Response<Body<B>>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Send,
    {
        let Probed { probe, layer, lookup, freshness } = probed;
        let status = response.status().as_u16();
        let (mut response, made, outcome) = match lookup {
            Ok(lookup) => {
                let (response, run) = self.read(response, lookup, &freshness);
                (response, Ok(run), Outcome::new(CacheStatus::UriMiss))
            }
            Err(detail) => {
                let outcome = Outcome::new(CacheStatus::Bypass).because(Some(detail));
                (response.map(Body::passing), Err(detail), outcome)
            }
        };
        probe.lock().push(Report { layer, made });
        stored::announce(&mut response, outcome.forwarded(Some(status)), &self.name);
        response
    }

    /// Judges and reads a response as one that is stored.
    fn read<B>(&self, response: Response<B>, lookup: Lookup, freshness: &Freshness) -> (Response<Body<B>>, Run)
    where
        B: http_body::Body + Send + 'static,
        B::Error: Send,
    {
        let judged = self.judge(&response, &Sight::of(&lookup.headers), freshness);
        let (head, body) = response.into_parts();
        let stored = StoredResponse::new(&head, &self.unstored.of(&head.headers, judged.withheld.as_ref()));
        let response = Response::from_parts(head, body);
        let (response, whole) = if let Some(Detail::EventStream | Detail::TooLarge) = judged.detail {
            (self.pass(response), Reading::Declined)
        } else {
            match self.capture(response, &judged, || Arc::<Aboard>::default().board()) {
                Captured::Whole(response, whole) => (response, Reading::Done(Ok(whole))),
                Captured::Filling(response, fill) => (response, Reading::Underway(fill)),
                Captured::Unfit(response, unfilled) => (response, Reading::Done(Err(unfilled))),
            }
        };
        (response, Run { lookup, judged, head: stored, whole })
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

/// Without the fields: their values are nobody's but the client's.
impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Underway(_) => "Underway",
            Self::Done(Ok(_)) => "Done",
            Self::Done(Err(_)) => "Failed",
            Self::Declined => "Declined",
        })
    }
}
