//! Which of the hits of a layer are audited, and what was found behind them so far.
//!
//! An audit in production is a short one. Inputs that are keyed, hidden or named by `Vary` are known without a run. All
//! others are changed at once; only if that makes a difference it is looked for, in one half of them after the other. What
//! was found is left out from then on, so that it is told once.

use std::{
    any::Any,
    collections::HashSet,
    fmt,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use http::{Request, request::Parts};
use tokio::sync::Mutex;

use crate::{
    freshness::Freshness,
    http::{
        After, Http,
        audit::{Examination, Input, Plan, Probe, Trial},
        rules::{cookies, received_uri},
    },
    key::KeyBuf,
    protocol::{Prepare, Prepared, RunKind},
    telemetry,
};

/// So many inputs are told of: a handler that answers by whatever it is sent has no end of them.
const MOST: usize = 64;

/// A request with more fields and cookies than this is not audited. Each of them is changed in turn, at the cost of all the
/// others: a client could keep a thread busy by sending very many.
const MOST_OF_A_REQUEST: usize = 256;

/// One hit in so many, and what came of it. A copy is another layer's: nothing has come of it yet.
pub(crate) struct Sampling {
    every: u64,
    hits: AtomicU64,
    body: Arc<MakeBody>,
    /// Enough was told.
    over: AtomicBool,
    /// What was told of. Whoever audits holds it meanwhile, so that one audit is under way at a time.
    told: Mutex<HashSet<Input>>,
    unfit: Once,
}

/// Makes an empty body of the type that it was made for.
type MakeBody = dyn Fn() -> Box<dyn Any + Send> + Send + Sync;

impl Sampling {
    pub(crate) fn new<B: Send + 'static>(every: u64, body: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self::with(every, Arc::new(move || Box::new(body()) as Box<_>))
    }

    fn with(every: u64, body: Arc<MakeBody>) -> Self {
        let (hits, over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { every, hits, body, over, told: Mutex::default(), unfit: Once::new() }
    }

    /// An empty body, if it is of this type.
    fn body<B: 'static>(&self) -> Option<B> {
        let body = (self.body)().downcast().ok();
        if body.is_none() {
            self.unfit.call_once(telemetry::warn_of_unfit_body);
        }
        body.map(|body| *body)
    }

    /// Counts a hit. Whether it is one to audit.
    pub(crate) fn is_due(&self) -> bool {
        self.hits.fetch_add(1, Relaxed) % self.every == self.every - 1 && !self.over.load(Relaxed)
    }
}

impl Http {
    /// Audits what answers this request, as `run` answers it, and says what is new.
    pub(crate) async fn audit_once<B, R, F>(
        &self,
        request: Request<B>,
        cache: usize,
        freshness: &Freshness,
        mut run: R,
    ) -> Vec<String>
    where
        B: http_body::Body + Send + 'static,
        R: FnMut(Request<B>, After) -> F,
        F: Future<Output = ()>,
    {
        let Some(sampling) = &self.sampling else { return Vec::new() };
        let Ok(mut told) = sampling.told.try_lock() else { return Vec::new() };
        let request = request.into_parts().0;
        if request.headers.len() + cookies(&request.headers).count() > MOST_OF_A_REQUEST {
            return Vec::new();
        }
        let prepare = |request: Parts| {
            let request = Request::from_parts(request, sampling.body::<B>()?);
            match self.prepare(request, cache, freshness, &mut KeyBuf::default()) {
                Prepared::Forward(request, after) => Some((request, after)),
                Prepared::Lookup(..) | Prepared::Later(_) => None,
            }
        };
        let run = |request| {
            let call = prepare(request).map(|(request, after)| run(request, after));
            async {
                if let Some(call) = call {
                    call.await;
                }
            }
        };
        let plan = Plan { kind: RunKind::Background, unchanged: 2, confirmed: 2 };
        let Ok(mut examination) = Examination::begin(run, request.clone(), plan).await else { return Vec::new() };
        let mut trials = Trial::all_of(&request);
        trials.retain(|trial| {
            let mut changed = request.clone();
            if let Some(change) = trial.changes.first() {
                change(&mut changed);
            }
            Probe::new(plan.kind).mark(&mut changed.extensions);
            let exposed = match prepare(changed) {
                Some((_, After::Report(probed))) => {
                    probed.lookup.is_ok_and(|lookup| examination.is_exposed(trial, &lookup))
                }
                _ => false,
            };
            exposed && !told.contains(&trial.input)
        });
        let leaks = examination.search(trials, MOST.saturating_sub(told.len())).await;
        told.extend(leaks.iter().map(|leak| leak.input().clone()));
        sampling.over.store(told.len() >= MOST, Relaxed);
        let path = received_uri(&request.uri, &request.extensions).0.path();
        leaks.iter().map(|leak| format!("{path}: {leak}")).collect()
    }
}

impl Clone for Sampling {
    fn clone(&self) -> Self {
        Self::with(self.every, Arc::clone(&self.body))
    }
}

impl fmt::Debug for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampling").field("every", &self.every).finish_non_exhaustive()
    }
}
