//! A scripted origin for typed layers, and time that only passes when a test says so.

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use cacheback::{CachebackLayer, Key, Typed};
use tokio::{sync::Semaphore, task::JoinSet};
use tower::{Service, ServiceExt};

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The origin failed in this run. It cannot be cloned.
#[derive(Debug, PartialEq, Eq)]
pub struct Down(pub u64);

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "down in run {}", self.0)
    }
}

impl std::error::Error for Down {}

/// What the origin does with a call. Runs are counted from 1; the number is the answer.
#[derive(Clone, Debug)]
pub enum Act {
    Answer,
    Fail,
    Hang,
    /// Hangs, and is never out of work: nothing stands still while it does.
    Busy,
    Panic,
    /// Panics before there is a future.
    PanicInCall,
    /// Answers once the gate is open.
    AnswerAfter(Gate),
    FailAfter(Gate),
    PanicAfter(Gate),
}

/// Closed, until it is opened for good.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// Does as it is told, and counts. All clones are one origin.
#[derive(Debug)]
pub struct Origin(Arc<Script>);

#[derive(Debug)]
struct Script {
    next: Mutex<VecDeque<Act>>,
    usual: Mutex<Act>,
    runs: AtomicU64,
    /// Runs before the first that was made.
    before: AtomicU64,
    polled: AtomicUsize,
    cloned: AtomicUsize,
    under_way: AtomicUsize,
    at_most: AtomicUsize,
}

/// A request: its key.
#[derive(Clone, Copy, Debug)]
pub struct Get(pub &'static str);

pub type TypedLayer = CachebackLayer<Typed<Get, u64>>;

/// A layer whose requests are their keys.
pub fn layer() -> TypedLayer {
    CachebackLayer::typed::<Get, u64>(|get| Key::from(get.0))
}

/// One request.
pub fn ask<S>(service: &S, key: &'static str) -> impl Future<Output = Result<S::Response, S::Error>> + use<S>
where
    S: Service<Get> + Clone,
{
    service.clone().oneshot(Get(key))
}

/// One request, which is answered at once; and the run behind it gets as far as it gets.
pub async fn read<S: Service<Get> + Clone>(service: &S, key: &'static str) -> Result<S::Response, S::Error> {
    let answer = at_once(ask(service, key)).await;
    idle().await;
    answer
}

/// Requests that wait at the same time, each in a task of its own.
pub async fn crowd<S>(service: &S, key: &'static str, size: usize) -> JoinSet<Result<S::Response, S::Error>>
where
    S: Service<Get, Future: Send, Response: Send, Error: Send> + Clone + Send + 'static,
{
    let mut crowd = JoinSet::new();
    for _ in 0..size {
        crowd.spawn(ask(service, key));
    }
    idle().await;
    crowd
}

/// What all of a crowd were answered.
pub async fn answers<E: Debug + 'static>(crowd: JoinSet<Result<u64, E>>) -> Vec<u64> {
    at_once(crowd.join_all()).await.into_iter().map(Result::unwrap).collect()
}

/// What a future gives without any time passing.
pub async fn at_once<F: Future>(future: F) -> F::Output {
    // Paused time moves only when nothing else can be done: then this millisecond is over.
    in_time(Duration::from_millis(1), future).await
}

/// What a future gives before the paused clock has gone on for so long.
pub async fn in_time<F: Future>(time: Duration, future: F) -> F::Output {
    tokio::time::timeout(time, future).await.expect("it is there in time")
}

/// Returns when everything that can be done has been done.
pub async fn idle() {
    let _elapsed = tokio::time::timeout(Duration::from_millis(1), pending::<()>()).await;
}

/// Lets time pass, and everything that this brings about happen.
pub async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
    idle().await;
}

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.close();
    }

    pub async fn passed(&self) {
        let _open = self.0.acquire().await;
    }
}

impl Origin {
    pub fn new() -> Self {
        Self::that(Act::Answer)
    }

    /// An origin that does this unless told otherwise.
    pub fn that(usual: Act) -> Self {
        Self(Arc::new(Script {
            next: Mutex::default(),
            usual: Mutex::new(usual),
            runs: AtomicU64::new(0),
            before: AtomicU64::new(0),
            polled: AtomicUsize::new(0),
            cloned: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            at_most: AtomicUsize::new(0),
        }))
    }

    /// The same origin. A plain clone is counted, this one is not.
    pub fn service(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What it does with the next call that nothing was said about.
    pub fn next_time(&self, act: Act) -> &Self {
        self.0.next.lock().unwrap().push_back(act);
        self
    }

    pub fn always(&self, act: Act) {
        *self.0.usual.lock().unwrap() = act;
    }

    /// How many runs there were.
    pub fn runs(&self) -> u64 {
        self.0.runs.load(SeqCst) - self.0.before.load(SeqCst)
    }

    /// Numbers the runs from here on, so that the answers of several origins differ.
    pub fn count_from(&self, first: u64) {
        self.0.runs.store(first - 1, SeqCst);
        self.0.before.store(first - 1, SeqCst);
    }

    /// How often it was asked for its readiness.
    pub fn polled(&self) -> usize {
        self.0.polled.load(SeqCst)
    }

    pub fn cloned(&self) -> usize {
        self.0.cloned.load(SeqCst)
    }

    /// Runs that neither ended nor were dropped.
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(SeqCst)
    }

    /// How many runs were under way at one time.
    pub fn at_most(&self) -> usize {
        self.0.at_most.load(SeqCst)
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        self.0.cloned.fetch_add(1, SeqCst);
        self.service()
    }
}

impl Service<Get> for Origin {
    type Response = u64;
    type Error = Down;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Down>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Down>> {
        self.0.polled.fetch_add(1, SeqCst);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Get) -> Self::Future {
        let run = self.0.runs.fetch_add(1, SeqCst) + 1;
        let next = self.0.next.lock().unwrap().pop_front();
        let act = next.unwrap_or_else(|| self.0.usual.lock().unwrap().clone());
        if matches!(act, Act::PanicInCall) {
            panic!("run {run} panics in its call");
        }
        let under_way = UnderWay::new(&self.0);
        Box::pin(async move {
            let _under_way = under_way;
            match act {
                Act::Answer => Ok(run),
                Act::Fail => Err(Down(run)),
                Act::Hang => pending().await,
                Act::Busy => loop {
                    tokio::task::consume_budget().await;
                },
                Act::Panic | Act::PanicInCall => panic!("run {run} panics"),
                Act::AnswerAfter(gate) => {
                    gate.passed().await;
                    Ok(run)
                }
                Act::FailAfter(gate) => {
                    gate.passed().await;
                    Err(Down(run))
                }
                Act::PanicAfter(gate) => {
                    gate.passed().await;
                    panic!("run {run} panics");
                }
            }
        })
    }
}

struct UnderWay(Arc<Script>);

impl UnderWay {
    fn new(script: &Arc<Script>) -> Self {
        let now = script.under_way.fetch_add(1, SeqCst) + 1;
        script.at_most.fetch_max(now, SeqCst);
        Self(Arc::clone(script))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}
