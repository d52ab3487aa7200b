//! What happens, told to the model as it happens; and the gates that runs wait at.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::support::model::{Answer, End, Event, Model, Rules};

/// All clones are one.
#[derive(Clone)]
pub(super) struct Tape(Arc<Mutex<Record>>);

struct Record {
    start: Instant,
    events: Vec<(Duration, Event)>,
    model: Model,
    /// The law that was broken first.
    broken: Option<String>,
    gates: Vec<Gate>,
}

/// What a run is told to answer, and when its body ends if that comes later.
pub(super) type Told = (Answer, Option<oneshot::Receiver<End>>);

#[derive(Default)]
struct Gate {
    head: Option<oneshot::Sender<Told>>,
    body: Option<oneshot::Sender<End>>,
}

/// A call of the service, or a body of its, that has not come to its end.
pub(super) struct UnderWay {
    pub(super) run: usize,
    tape: Option<Tape>,
}

impl Tape {
    pub(super) fn new(rules: Rules) -> Self {
        let (start, events, model, broken, gates) = (Instant::now(), vec![], Model::new(rules), None, vec![]);
        Self(Arc::new(Mutex::new(Record { start, events, model, broken, gates })))
    }

    pub(super) fn start(&self) -> Instant {
        self.record().start
    }

    pub(super) fn now(&self) -> Duration {
        Instant::now() - self.start()
    }

    pub(super) fn push(&self, event: Event) {
        let at = self.now();
        let record = &mut *self.record();
        record.events.push((at, event));
        if record.broken.is_none() {
            record.broken = record.model.take(at, event).err();
        }
    }

    /// A run begins.
    pub(super) fn call(&self, ask: usize, background: bool) -> (UnderWay, oneshot::Receiver<Told>) {
        self.push(Event::Started { ask, background });
        let (head, told) = oneshot::channel();
        let run = self.gate(Gate { head: Some(head), body: None });
        (UnderWay { run, tape: Some(self.clone()) }, told)
    }

    /// A response is put, under the number of a run.
    pub(super) fn putting(&self, client: usize, key: usize, with: Answer) -> usize {
        self.push(Event::Putting { client, key, with });
        self.gate(Gate::default())
    }

    fn gate(&self, gate: Gate) -> usize {
        let gates = &mut self.record().gates;
        gates.push(gate);
        gates.len() - 1
    }

    pub(super) fn answer(&self, run: usize, with: Answer, later: bool) {
        self.push(Event::Answered { run, with, later });
        let (body, end) = oneshot::channel();
        let gate = &mut self.record().gates[run];
        gate.body = later.then_some(body);
        let _dropped = gate.head.take().expect("a run answers once").send((with, later.then_some(end)));
    }

    pub(super) fn finish(&self, run: usize, end: End) {
        self.push(Event::Ended { run, end });
        let body = self.record().gates[run].body.take();
        let _dropped = body.expect("a body ends once").send(end);
    }

    /// Runs that were called and did not answer yet.
    pub(super) fn unanswered(&self) -> Vec<usize> {
        self.record().model.unanswered()
    }

    /// Runs whose head is there and whose body is not.
    pub(super) fn unfinished(&self) -> Vec<usize> {
        self.record().gates.iter().enumerate().filter(|(_, gate)| gate.body.is_some()).map(|(run, _)| run).collect()
    }

    /// When a run started, counted from the last one.
    pub(super) fn start_of_last(&self, run: usize) -> Option<Duration> {
        self.record().model.start_of_last(run)
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        let broken = self.record().broken.clone();
        broken.map_or(Ok(()), |law| Err(self.broken(law)))
    }

    /// Which law was broken, after what.
    pub(super) fn broken(&self, mut law: String) -> String {
        for (at, event) in &self.record().events {
            let _written = write!(law, "\n  {at:?} {event:?}");
        }
        law
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl UnderWay {
    /// It has come to its end.
    pub(super) fn end(mut self) {
        self.tape = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(tape) = self.tape.take() {
            tape.push(Event::Dropped { run: self.run });
        }
    }
}
