//! A world for one layer, driven step by step beside its reference model.
//!
//! The one who drives is no task: requests are called and polled for the first time, responses are put and invalidations
//! are made while everything else stands still. So it is known what "at once" is; and the clone and the drop of a
//! response, which are code of the service's, are places in the midst of a step where everything else may happen.

#![allow(clippy::disallowed_methods, reason = "a test may read the clock, and wait")]

use std::{
    cell::RefCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use cacheback::{Cache, CachebackLayer, Freshness, Protocol, Scope};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::Instant,
};

use super::{
    model::{Answer, End, Event, FILL, Force, Front, LIFETIME, MARK, REFRESH, Reach, Rules, WAIT},
    typed::secs,
};

mod http;
mod tape;
mod typed;

use tape::Tape;

/// A layer, and what is done with it.
pub struct Story {
    pub rules: Rules,
    pub steps: Vec<(Step, Pace)>,
}

/// What is done next. Of requests and runs those that are open are counted, around and around.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Ask {
        client: usize,
        key: usize,
    },
    /// A request for a new response.
    Force {
        client: usize,
        key: usize,
    },
    /// A request with an unsafe method, which succeeds.
    Post {
        key: usize,
    },
    Put {
        client: usize,
        key: usize,
        with: Answer,
    },
    /// Lets a run answer.
    Respond {
        run: usize,
        with: Answer,
    },
    /// Lets a run answer with a body that is not there yet.
    Begin {
        run: usize,
        with: Answer,
    },
    /// Lets a body end.
    Finish {
        run: usize,
        end: End,
    },
    Expire(Reach),
    Purge(Reach),
    /// Drops a request, or the body that it reads.
    Leave {
        ask: usize,
    },
    Pass {
        millis: u64,
    },
    /// Lets time pass until a run is as old as that and so many nanoseconds more. The last run is counted first.
    Until {
        run: usize,
        age: Age,
        nanos: i8,
    },
}

/// What else happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All that can happen, afterwards.
    Calm,
    /// Nothing: the next step comes first.
    Rush,
    /// The same, and a request is not even polled before the next step is over.
    Held,
    /// All that can happen, in the midst of the step if it has one, and afterwards.
    Amid,
}

/// Ages at which something changes.
#[derive(Clone, Copy, Debug)]
pub enum Age {
    Fresh,
    Stale,
    Gone,
    Wait,
    Refresh,
    Fill,
    Mark,
}

/// Lives through a story, and winds up; or tells which law was broken, and after what.
pub fn live(story: &Story) -> Result<(), String> {
    match story.rules.front {
        Front::Http => World::new(story.rules, http::layer).live(&story.steps),
        Front::Typed => World::new(story.rules, typed::layer).live(&story.steps),
    }
}

struct World<V> {
    rules: Rules,
    runtime: Rc<Runtime>,
    tape: Tape,
    layer: Layered<V>,
    clients: Vec<Client>,
    held: Vec<usize>,
}

/// A layer around the scripted service, and what can be done with it.
struct Layered<V> {
    cache: Cache<V>,
    call: Box<dyn Fn(Call) -> Answering>,
    /// Sends a request with an unsafe method: whether it was answered at once.
    post: Box<dyn Fn(usize) -> bool>,
    /// Puts a response under the number of a run: whether that was done at once.
    put: Box<dyn Fn(Call, Answer, usize) -> bool>,
    scopes: fn(Reach) -> Vec<Scope>,
}

#[derive(Clone, Copy)]
struct Call {
    ask: usize,
    client: usize,
    key: usize,
    forced: bool,
}

type Answering = Pin<Box<dyn Future<Output = Result<Reply, Failed>> + Send>>;

struct Reply {
    run: usize,
    stale: Option<bool>,
    rest: Pin<Box<dyn Future<Output = End> + Send>>,
}

/// The service failed in this run.
#[derive(Clone, Debug)]
struct Failed(usize);

/// A client: its request until that is polled for the first time, then a task.
struct Client {
    unpolled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    task: Option<JoinHandle<()>>,
}

thread_local! {
    /// What happens in the midst of a step.
    static MIDST: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A response is cloned or dropped.
fn midst() {
    if let Some(happen) = MIDST.take() {
        happen();
    }
}

impl<V: Send + Sync + 'static> World<V> {
    fn new(rules: Rules, layer: fn(Rules, &Tape) -> Layered<V>) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let context = runtime.enter();
        let tape = Tape::new(rules);
        let layer = layer(rules, &tape);
        drop(context);
        Self { rules, runtime: Rc::new(runtime), tape, layer, clients: vec![], held: vec![] }
    }

    fn live(mut self, steps: &[(Step, Pace)]) -> Result<(), String> {
        let runtime = Rc::clone(&self.runtime);
        let _context = runtime.enter();
        for (step, pace) in steps {
            let held = std::mem::take(&mut self.held);
            if *pace == Pace::Amid && step.has_a_midst() {
                MIDST.set(Some(Box::new(self.calming())));
            }
            self.step(*step, *pace);
            MIDST.take();
            let calms = matches!(pace, Pace::Calm | Pace::Amid);
            if calms {
                self.calming()();
            }
            if !held.is_empty() {
                held.into_iter().for_each(|ask| self.poll(ask));
                if calms {
                    self.calming()();
                }
            }
            self.tape.verdict()?;
        }
        self.wind_up()
    }

    fn step(&mut self, step: Step, pace: Pace) {
        match step {
            Step::Ask { client, key } => self.ask(client, key, false, pace),
            Step::Force { client, key } => self.ask(client, key, true, pace),
            Step::Post { key } => {
                self.tape.push(Event::Invalidated { force: Force::Purge, reach: Reach::Key(key) });
                assert!((self.layer.post)(key), "what is not cached is answered at once");
            }
            Step::Put { client, key, with } => {
                let run = self.tape.putting(client, key, self.spoken(with));
                let call = Call { ask: 0, client, key, forced: false };
                assert!((self.layer.put)(call, self.spoken(with), run), "there is nothing to wait for");
                self.tape.push(Event::Put { run });
            }
            Step::Respond { run, with } => {
                if let Some(run) = nth(&self.tape.unanswered(), run) {
                    self.tape.answer(run, self.spoken(with), false);
                }
            }
            Step::Begin { run, with } => {
                if let Some(run) = nth(&self.tape.unanswered(), run) {
                    self.tape.answer(run, self.spoken(with), self.rules.front == Front::Http);
                }
            }
            Step::Finish { run, end } => {
                if let Some(run) = nth(&self.tape.unfinished(), run) {
                    self.tape.finish(run, end);
                }
            }
            Step::Expire(reach) => self.invalidate(Force::Expire, reach),
            Step::Purge(reach) => self.invalidate(Force::Purge, reach),
            Step::Leave { ask } => {
                if let Some(ask) = nth(&self.waiting(), ask) {
                    self.tape.push(Event::Left { ask });
                    self.clients[ask].unpolled = None;
                    self.clients[ask].task.iter().for_each(JoinHandle::abort);
                }
            }
            Step::Pass { millis } => self.pass_to(self.tape.now() + Duration::from_millis(millis)),
            Step::Until { run, age, nanos } => {
                if let Some(start) = self.tape.start_of_last(run) {
                    let (age, shift) = (age.of(&self.rules), Duration::from_nanos(nanos.unsigned_abs().into()));
                    self.pass_to(start + if nanos < 0 { age.saturating_sub(shift) } else { age + shift });
                }
            }
        }
    }

    fn ask(&mut self, client: usize, key: usize, forced: bool, pace: Pace) {
        let ask = self.clients.len();
        self.tape.push(Event::Asked { client, key, forced });
        let (answer, tape) = ((self.layer.call)(Call { ask, client, key, forced }), self.tape.clone());
        let unpolled = Box::pin(async move {
            match caught(answer).await {
                Ok(Ok(Reply { run, stale, rest })) => {
                    tape.push(Event::Got { ask, run, stale });
                    let end = rest.await;
                    tape.push(Event::Read { ask, run, end });
                }
                Ok(Err(Failed(run))) => tape.push(Event::Erred { ask, run }),
                Err(_) => tape.push(Event::Panicked { ask }),
            }
        });
        self.clients.push(Client { unpolled: Some(unpolled), task: None });
        if pace == Pace::Held { self.held.push(ask) } else { self.poll(ask) }
    }

    /// Polls a request for the first time; the rest is a task's.
    fn poll(&mut self, ask: usize) {
        let Some(mut request) = self.clients[ask].unpolled.take() else { return };
        let polled = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.tape.push(Event::Polled { ask });
        if polled.is_pending() {
            self.clients[ask].task = Some(self.runtime.spawn(request));
        }
    }

    fn invalidate(&self, force: Force, reach: Reach) {
        self.tape.push(Event::Invalidated { force, reach });
        for scope in (self.layer.scopes)(reach) {
            let done = match force {
                Force::Expire => now_or_never(self.layer.cache.expire(scope)),
                Force::Purge => now_or_never(self.layer.cache.purge(scope)),
            };
            assert!(done.is_some_and(|done| done.is_ok()), "there is no store to wait for");
        }
    }

    /// What the service can answer: without HTTP there are responses, errors and panics.
    fn spoken(&self, answer: Answer) -> Answer {
        match (self.rules.front, answer) {
            (Front::Http, _) | (_, Answer::Fail | Answer::Panic) => answer,
            (Front::Typed, Answer::Unavailable | Answer::NotFound) => Answer::Fail,
            (Front::Typed, _) => Answer::Store(0),
        }
    }

    /// Requests that wait for an answer, or read it.
    fn waiting(&self) -> Vec<usize> {
        let busy = |task: &JoinHandle<()>| !task.is_finished();
        let open = |client: &Client| client.unpolled.is_some() || client.task.as_ref().is_some_and(busy);
        (0..self.clients.len()).filter(|ask| open(&self.clients[*ask])).collect()
    }

    /// Lets all happen that can happen. The clock stands still.
    fn calming(&self) -> impl FnOnce() + use<V> {
        let (runtime, tape, cache) = (Rc::clone(&self.runtime), self.tape.clone(), self.layer.cache.clone());
        move || {
            runtime.block_on(async {
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
            });
            tape.push(Event::Calm { refreshes_dropped: cache.stats().refreshes_dropped });
        }
    }

    /// Lets time pass, to the nanosecond. On the way timers ring one by one, on whole milliseconds.
    fn pass_to(&self, then: Duration) {
        self.calming()();
        let start = self.tape.start();
        let whole = start + Duration::from_millis(u64::try_from(then.as_millis()).unwrap());
        self.runtime.block_on(tokio::time::sleep_until(whole));
        self.calming()();
        let rest = (start + then).saturating_duration_since(Instant::now());
        self.runtime.block_on(tokio::time::advance(rest));
    }

    /// All gates open and time passes: everybody is answered, nothing is left over, and a stale response is refreshed.
    fn wind_up(mut self) -> Result<(), String> {
        std::mem::take(&mut self.held).into_iter().for_each(|ask| self.poll(ask));
        self.open_all()?;
        self.pass_to(self.tape.now() + secs(300));
        self.calming()();
        let stats = self.layer.cache.stats();
        if now_or_never(self.layer.cache.settled()).is_none() || stats.runs != 0 {
            return Err(self.tape.broken(format!("nothing goes on, and {stats:?}")));
        }
        let keys = 10..10 + self.rules.refreshes.min(3);
        keys.clone().for_each(|key| self.ask(0, key, false, Pace::Calm));
        self.open_all()?;
        self.pass_to(self.tape.now() + LIFETIME);
        keys.clone().for_each(|key| self.ask(1, key, false, Pace::Calm));
        self.calming()();
        let refreshes = self.tape.unanswered().len();
        if refreshes != keys.len() {
            return Err(self.tape.broken(format!("{refreshes} runs for what is stale under the keys {keys:?}")));
        }
        self.open_all()
    }

    fn open_all(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            self.calming()();
            self.tape.verdict()?;
            let (unanswered, unfinished, waiting) = (self.tape.unanswered(), self.tape.unfinished(), self.waiting());
            if unanswered.is_empty() && unfinished.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            unanswered.into_iter().for_each(|run| self.tape.answer(run, Answer::Store(0), false));
            unfinished.into_iter().for_each(|run| self.tape.finish(run, End::Whole));
        }
        Err(self.tape.broken(format!("requests {:?} are left behind", self.waiting())))
    }
}

impl Step {
    /// Whether a response may be cloned or dropped at it.
    fn has_a_midst(self) -> bool {
        !matches!(self, Self::Respond { .. } | Self::Begin { .. } | Self::Finish { .. } | Self::Leave { .. })
            && !matches!(self, Self::Pass { .. } | Self::Until { .. })
    }
}

impl Age {
    fn of(self, rules: &Rules) -> Duration {
        match self {
            Self::Fresh => LIFETIME,
            Self::Stale => LIFETIME + secs(rules.stale),
            Self::Gone => LIFETIME + secs(rules.stale.max(rules.error)),
            Self::Wait => WAIT,
            Self::Refresh => REFRESH,
            Self::Fill => FILL,
            Self::Mark => MARK,
        }
    }
}

fn freshness(rules: Rules) -> Freshness {
    Freshness::exact(LIFETIME).stale_while_revalidate(secs(rules.stale)).stale_if_error(secs(rules.error))
}

fn set<P: Protocol + Clone>(layer: CachebackLayer<P>, rules: Rules) -> CachebackLayer<P> {
    let layer = layer.wait_timeout(WAIT).refresh_timeout(REFRESH).fill_timeout(FILL).hit_for_miss(MARK);
    let layer = if rules.share_errors { layer.share_errors::<Failed>() } else { layer };
    let layer = if rules.early_refresh { layer.early_refresh(1.0) } else { layer };
    rules.soft.map(secs).into_iter().fold(layer, CachebackLayer::soft_timeout)
}

fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

async fn caught<F: Future + Unpin>(mut future: F) -> thread::Result<F::Output> {
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    })
    .await
}

fn nth(open: &[usize], nr: usize) -> Option<usize> {
    open.get(nr.checked_rem(open.len())?).copied()
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} failed", self.0)
    }
}

impl std::error::Error for Failed {}

/// As it can be pasted into a test.
impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Story {{\n    rules: {:?},\n    steps: vec![", self.rules)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "        {step:?},"))?;
        f.write_str("    ],\n}")
    }
}
