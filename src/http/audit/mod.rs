//! Which inputs of a handler nobody keyed: a request is run again with one of them changed, and its responses compared.
//!
//! Nothing of the engine takes part. The request carries a [`Probe`], by which every layer that it passes sends it
//! forward as a run would see it and reports what it would have stored, under which key. Here the runs are ordered and
//! the reports compared: where an input is changed and the key and what `Vary` selects by stay the same, the response
//! must stay the same too.
//!
//! Responses change by themselves as well. So the request is run unchanged first, more than once, and what differs
//! among these runs is no difference ([`Baseline`]). What is still suspected is confirmed: unchanged and changed runs
//! follow one another in turn, and every difference that the unchanged ones show is taken out of the comparison.

use std::{fmt, slice};

use http::request::Parts;

pub(crate) use crate::http::rules::is_cookie_name;
use crate::{protocol::RunKind, status::Detail};

mod baseline;
mod inputs;
mod probe;
mod sampling;
mod well_read;

pub use inputs::Input;

pub(crate) use inputs::{Change, Trial, cookie, field};
pub(crate) use probe::{Probe, Probed};
pub(crate) use sampling::Sampling;

use baseline::{Baseline, Part};
use probe::{LayerId, Lookup, Report, Run};

/// What became of changing an input.
///
/// Of several layers, and of several changes, the one that says least counts: the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Coverage {
    /// The handler may see it, and the response was the same.
    NoDifference,
    /// The layer hides it from the handler.
    Hidden,
    /// `Vary` names it.
    Vary,
    /// A request that has it goes past the cache.
    Bypassed,
    /// The key names it.
    Key,
}

/// An input on which a stored response depends though neither the key nor `Vary` names it.
///
/// Its `Display` is the whole sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    input: Input,
    part: Part,
    naming: Naming,
}

/// Whether `Vary` names the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Nowhere,
    /// In the response to one of the two requests alone.
    OnceOfTwice,
}

/// Why there is nothing to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoLayer,
    Bypassed(Detail),
    NotStored(Detail),
}

/// Runs a request again and again.
pub(crate) struct Examination<R> {
    run: R,
    request: Parts,
    plan: Plan,
    layers: Vec<Layer>,
}

/// How thorough an examination is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: RunKind,
    /// How often the request is run unchanged before anything is compared with it.
    pub(crate) unchanged: usize,
    /// How often a suspicion is confirmed.
    pub(crate) confirmed: usize,
}

/// What a layer makes of the unchanged request.
struct Layer {
    id: LayerId,
    first: Run,
    baseline: Baseline,
    steady: bool,
}

/// What a layer makes of a changed request.
enum Compared {
    Covered(Coverage),
    Differs(Part, Naming),
}

impl<R, F> Examination<R>
where
    R: FnMut(Parts) -> F,
    F: Future<Output = ()>,
{
    /// Runs the request unchanged. `run` calls the service with a request and lets go of its response.
    pub(crate) async fn begin(run: R, request: Parts, plan: Plan) -> Result<Self, Refusal> {
        let mut this = Self { run, request, plan, layers: Vec::new() };
        let mut refusal = Refusal::NoLayer;
        for Report { layer, made } in this.observe(&[]).await {
            match made {
                Err(detail) => refusal = Refusal::Bypassed(detail),
                Ok(run) => match run.refusal() {
                    Some(detail) => refusal = Refusal::NotStored(detail),
                    None => this.layers.push(Layer::new(layer, run)),
                },
            }
        }
        if this.layers.is_empty() {
            return Err(refusal);
        }
        for _ in 1..plan.unchanged {
            this.run_unchanged().await;
        }
        Ok(this)
    }

    /// Changes the request, each time in another one of these ways, and finds whether that matters.
    pub(crate) async fn try_each(&mut self, trial: &Trial) -> Result<Coverage, Leak> {
        let mut least = Coverage::Key;
        for change in &trial.changes {
            let tried = self.try_all(slice::from_ref(change)).await;
            let leak = |(part, naming)| Leak { input: trial.input.clone(), part, naming };
            least = least.min(tried.map_err(leak)?);
        }
        if least == Coverage::Hidden && !trial.input.can_be_hidden() {
            least = Coverage::NoDifference;
        }
        Ok(least)
    }

    /// Changes the request in all of these ways at once, and finds whether that matters.
    async fn try_all(&mut self, changes: &[Change]) -> Result<Coverage, (Part, Naming)> {
        let reports = self.observe(changes).await;
        let mut least = Coverage::Key;
        for at in 0..self.layers.len() {
            let mut compared = self.layers[at].compare(&reports);
            for _ in 0..self.plan.confirmed {
                if let Compared::Differs(..) = compared {
                    self.run_unchanged().await;
                    let reports = self.observe(changes).await;
                    compared = self.layers[at].compare(&reports);
                }
            }
            match compared {
                Compared::Covered(coverage) => least = least.min(coverage),
                Compared::Differs(part, naming) => return Err((part, naming)),
            }
        }
        Ok(least)
    }

    /// Makes the first change of each of these trials, all at once, and finds which of them matter: in halves, and in
    /// halves of those, as far as there is a difference, or no response by which it could be seen. No more than `most`
    /// are looked for.
    pub(crate) async fn search(&mut self, trials: Vec<Trial>, most: usize) -> Vec<Leak> {
        let (mut groups, mut leaks) = (vec![trials], Vec::new());
        groups.retain(|group| !group.is_empty());
        while let Some(mut group) = groups.pop().filter(|_| leaks.len() < most) {
            let changes: Vec<_> = group.iter().filter_map(|trial| trial.changes.first()).cloned().collect();
            match (self.try_all(&changes).await, group.as_slice()) {
                (Err((part, naming)), [trial]) => leaks.push(Leak { input: trial.input.clone(), part, naming }),
                // One of them may be what the service does not answer, and hide what the others do.
                (Err(_), _) | (Ok(Coverage::Bypassed), [_, _, ..]) => {
                    let half = group.split_off(group.len() / 2);
                    groups.extend([half, group]);
                }
                (Ok(Coverage::Bypassed), _) => {
                    // Or it answers nothing any more.
                    self.run_unchanged().await;
                    if self.layers.iter().any(|layer| !layer.steady) {
                        break;
                    }
                }
                (Ok(_), _) => {}
            }
        }
        leaks
    }

    /// Whether a request that was changed so would be answered by the same stored response, though a handler might see
    /// the change.
    pub(crate) fn is_exposed(&self, trial: &Trial, changed: &Lookup) -> bool {
        self.layers.iter().map(|layer| &layer.first).any(|first| {
            let hidden = trial.input.can_be_hidden() && first.lookup.looks_like(changed);
            first.lookup.key == changed.key && first.answers(changed) && !hidden
        })
    }

    /// Whether what runs of the unchanged request have in common is enough to say anything.
    pub(crate) fn is_steady(&self) -> bool {
        self.layers.iter().all(|layer| layer.steady && layer.baseline.is_steady())
    }

    async fn run_unchanged(&mut self) {
        let reports = self.observe(&[]).await;
        self.layers.iter_mut().for_each(|layer| layer.widen(&reports));
    }

    async fn observe(&mut self, changes: &[Change]) -> Vec<Report> {
        let mut request = self.request.clone();
        changes.iter().for_each(|change| change(&mut request));
        let probe = Probe::new(self.plan.kind);
        probe.mark(&mut request.extensions);
        probe.attend((self.run)(request)).await
    }
}

impl Layer {
    fn new(id: LayerId, first: Run) -> Self {
        Self { id, baseline: Baseline::of(first.answer()), first, steady: true }
    }

    /// What this layer made of a request, if it came here.
    fn find<'a>(&self, reports: &'a [Report]) -> Option<&'a Result<Run, Detail>> {
        reports.iter().find(|report| report.layer == self.id).map(|report| &report.made)
    }

    /// Takes in one more run of the unchanged request.
    fn widen(&mut self, reports: &[Report]) {
        self.steady &= match self.find(reports) {
            Some(Ok(run)) => run.lookup.key == self.first.lookup.key && self.baseline.widen(run.answer()),
            _ => false,
        };
    }

    fn compare(&self, reports: &[Report]) -> Compared {
        // Where it does not come here at all it is answered further out.
        let Some(Ok(run)) = self.find(reports) else { return Compared::Covered(Coverage::Bypassed) };
        if run.lookup.key != self.first.lookup.key {
            return Compared::Covered(Coverage::Key);
        }
        let (there, back) =
            (self.first.answers(&run.lookup), run.refusal().is_none() && run.answers(&self.first.lookup));
        if !there && !back {
            return Compared::Covered(Coverage::Vary);
        }
        let naming = if there && (back || run.refusal().is_some()) { Naming::Nowhere } else { Naming::OnceOfTwice };
        match self.baseline.differs(run.answer()) {
            // What is coded varies by that. Everybody can read what is not, whatever else he accepts.
            Some(_) if run.is_coded_otherwise(&self.first) => Compared::Covered(Coverage::Vary),
            Some(part) => Compared::Differs(part, naming),
            None if run.lookup.looks_like(&self.first.lookup) => Compared::Covered(Coverage::Hidden),
            None => Compared::Covered(Coverage::NoDifference),
        }
    }
}

impl Leak {
    /// What the response depends on.
    #[must_use]
    pub fn input(&self) -> &Input {
        &self.input
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} depends on {}, ", self.part, self.input)?;
        f.write_str(match (&self.input, self.naming) {
            (Input::Header(_) | Input::Cookie(_), Naming::Nowhere) => "which neither the key nor `Vary` names",
            (Input::Header(_) | Input::Cookie(_), Naming::OnceOfTwice) => {
                "which the key does not name, and `Vary` only in some responses"
            }
            _ => "which the key does not name",
        })
    }
}

impl<R> fmt::Debug for Examination<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examination").field("plan", &self.plan).finish_non_exhaustive()
    }
}
