//! The task that sees to it that there are connections: it makes them, one attempt at a time, finds out whether they still
//! work, says how things stand, and runs errands.
//!
//! It lives on the runtime of whoever asked first, as long as that runtime does; then on that of whoever asks next.

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use redis::ServerError;
use tokio::{
    runtime::{self, Handle},
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{
    config::Config,
    link::Ears,
    nodes::{Asked, Nodes},
    servers::{Addressed, Answer, Errands},
};
use crate::{
    clock::{self, Instant},
    store::{StoreError, standing::Standing},
};

/// How long finding the servers and connecting to them may take.
const CONNECTING: Duration = Duration::from_secs(2);
/// How often they are asked whether they are still there, at least.
const BEAT: Duration = Duration::from_millis(500);
/// How long a connection is kept over which no answer comes.
const SILENCE: Duration = Duration::from_secs(2);
/// How often errands are run.
const ERRANDS: Duration = Duration::from_secs(1);
/// The shortest time for which messages may be missed before it counts.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long it takes before trouble counts as new, and not as the same as before.
const CALM: Duration = Duration::from_secs(10);

/// What the keeper, its connections and those who ask share.
pub(super) struct Post {
    pub(super) config: Config,
    pub(super) standing: Arc<Standing>,
    errands: Weak<dyn Errands>,
    state: watch::Sender<State>,
    hired: Mutex<Hired>,
    /// There is something to look at.
    alarm: Notify,
    is_due: AtomicBool,
    has_moved: AtomicBool,
}

/// Whether there are connections.
#[derive(Clone)]
enum State {
    /// Nobody has tried yet.
    Starting,
    Up(Arc<Nodes>),
    /// Why there are none.
    Down(Arc<str>),
}

/// Who keeps the connections.
#[derive(Default)]
struct Hired {
    is_there: bool,
    keeper: Option<AbortHandle>,
    /// A runtime on which a keeper cannot work: it has no sockets.
    unfit: Option<runtime::Id>,
}

impl Post {
    pub(super) fn new(config: Config, errands: Weak<dyn Errands>) -> Self {
        let config = Config { max_unverified: config.max_unverified.max(SHORTEST), ..config };
        let (standing, state) = (Arc::default(), watch::Sender::new(State::Starting));
        let (is_due, has_moved) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { config, standing, errands, state, hired: Mutex::default(), alarm: Notify::new(), is_due, has_moved }
    }

    /// Sees to it that somebody keeps the connections, if this is a place where anybody can.
    #[allow(clippy::disallowed_methods, reason = "no run, and for no request: it lives as long as the store")]
    pub(super) fn ensure_keeper(self: &Arc<Self>) -> Result<(), StoreError> {
        let runtime = {
            let mut hired = self.hired();
            if hired.is_there {
                return Ok(());
            }
            let runtime = Handle::try_current().map_err(|_| StoreError("Redis is asked outside a runtime".into()))?;
            if hired.unfit == Some(runtime.id()) || !clock::has_time() {
                return Err(StoreError("the runtime has no sockets or no timers, which Redis needs".into()));
            }
            hired.is_there = true;
            self.state.send_replace(State::Starting);
            runtime
        };
        // Made here: a runtime that is shut down drops what it is given, and this says so.
        let presence = Presence { post: Arc::clone(self), runtime: runtime.id() };
        let keeper = runtime.spawn(keep(presence)).abort_handle();
        self.hired().keeper = Some(keeper);
        Ok(())
    }

    fn hired(&self) -> MutexGuard<'_, Hired> {
        self.hired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections, once somebody has tried to connect.
    pub(super) async fn nodes(&self) -> Result<Arc<Nodes>, StoreError> {
        let mut state = self.state.subscribe();
        let tried = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match tried.expect("the sender is ours").clone() {
            State::Up(nodes) => Ok(nodes),
            State::Down(why) => Err(StoreError(why.to_string())),
            State::Starting => unreachable!("waited for another"),
        }
    }

    /// Asks over the connections that there are.
    pub(super) async fn ask(&self, commands: &[Addressed]) -> Result<Vec<Result<Answer, ServerError>>, StoreError> {
        let nodes = self.nodes().await?;
        let asked = nodes.ask(commands).await;
        if asked.is_err() || nodes.is_lost() {
            self.trip();
        }
        let Asked { answers, moved } = asked?;
        if moved {
            self.has_moved.store(true, Relaxed);
        }
        Ok(answers)
    }

    /// Opens the breaker, for as long as the keeper has not heard from the servers.
    pub(super) fn trip(&self) {
        let hired = self.hired();
        // Without a keeper nobody would ever close it.
        if hired.is_there {
            self.standing.set_down(true);
            self.alarm.notify_one();
        }
    }

    pub(super) fn nudge(&self) {
        self.is_due.store(true, Relaxed);
        self.alarm.notify_one();
    }

    /// Nobody will ask any more.
    pub(super) fn close(&self) {
        let keeper = self.hired().keeper.take();
        keeper.iter().for_each(AbortHandle::abort);
    }

    /// There are connections, and what is sent from now on is heard.
    fn up(&self, nodes: &Arc<Nodes>) {
        self.standing.gap();
        self.state.send_replace(State::Up(Arc::clone(nodes)));
        self.standing.set_down(false);
    }

    fn down(&self, why: &StoreError) {
        self.standing.set_down(true);
        self.state.send_replace(State::Down(why.0.as_str().into()));
    }
}

impl Ears for Post {
    fn message(&self, payload: &[u8]) {
        if let Some(errands) = self.errands.upgrade() {
            errands.heard(payload);
        }
    }

    fn lost(&self) {
        self.trip();
    }
}

/// That a keeper is there. Dropped with its runtime, it leaves things as if nobody had ever asked.
struct Presence {
    post: Arc<Post>,
    runtime: runtime::Id,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let post = &self.post;
        let mut hired = post.hired();
        hired.is_there = false;
        if thread::panicking() {
            hired.unfit = Some(self.runtime);
        }
        post.state.send_replace(State::Down("the runtime of the connection to Redis is gone".into()));
        post.standing.gap();
        post.standing.set_down(false);
    }
}

/// Keeps the connections until nobody needs them any more.
async fn keep(presence: Presence) {
    let post = &presence.post;
    let mut keeper = Keeper { post, verified: clock::now(), pause: Pause::default(), rested: clock::now() };
    let mut before = None;
    while post.errands.strong_count() > 0 {
        let made = Nodes::make(&post.config, before.as_deref(), Arc::clone(post) as Arc<dyn Ears>);
        let made = keeper.meanwhile(CONNECTING, made).await;
        let why = match made.unwrap_or_else(|| Err(StoreError("no connection to Redis in time".into()))) {
            Err(why) => why,
            Ok(made) => {
                let mut nodes = Arc::new(made);
                keeper.verified = clock::now();
                post.up(&nodes);
                let why = keeper.tend(&mut nodes).await;
                before = Some(nodes);
                why
            }
        };
        post.down(&why);
        keeper.rest().await;
    }
}

struct Keeper<'a> {
    post: &'a Arc<Post>,
    /// Until then all messages are known to have been heard.
    verified: Instant,
    pause: Pause,
    /// When there was trouble last.
    rested: Instant,
}

impl Keeper<'_> {
    /// Looks after the connections until one is lost; gives the reason.
    async fn tend(&mut self, nodes: &mut Arc<Nodes>) -> StoreError {
        let post = self.post;
        let every = BEAT.min(post.config.max_unverified / 2);
        let mut heard = clock::now();
        let (mut beat_at, mut errands_at) = (heard + every, heard + ERRANDS);
        loop {
            let wait = beat_at.min(errands_at).saturating_duration_since(clock::now());
            self.meanwhile(wait, post.alarm.notified()).await;
            if nodes.is_lost() {
                return StoreError("the connection to Redis is lost".into());
            }
            if post.standing.is_down() {
                self.rest().await;
            }
            if post.standing.is_down() || clock::now() >= beat_at {
                let asked = clock::now();
                match self.meanwhile(post.config.patience, nodes.beat(&post.config)).await {
                    Some(Ok(())) => {
                        (heard, self.verified, beat_at) = (asked, asked, asked + every);
                        post.standing.set_down(false);
                        if post.has_moved.swap(false, Relaxed) {
                            self.follow(nodes).await;
                        }
                    }
                    Some(Err(why)) => return why,
                    None if asked.saturating_duration_since(heard) >= SILENCE => {
                        nodes.leave();
                        return StoreError("Redis does not answer".into());
                    }
                    None => post.standing.set_down(true),
                }
            }
            let is_due = post.is_due.swap(false, Relaxed) || clock::now() >= errands_at;
            if is_due && !post.standing.is_down() {
                errands_at = clock::now() + ERRANDS;
                self.run_errands(nodes).await;
            }
        }
    }

    async fn run_errands(&mut self, nodes: &Nodes) {
        let post = self.post;
        let due = post.errands.upgrade().map(|errands| errands.due()).unwrap_or_default();
        if !due.is_empty() && !matches!(self.meanwhile(post.config.patience, nodes.ask(&due)).await, Some(Ok(_))) {
            post.trip();
        }
    }

    /// Finds out where slots have moved to. What is connected stays so.
    async fn follow(&mut self, nodes: &mut Arc<Nodes>) {
        let made = Nodes::make(&self.post.config, Some(&**nodes), Arc::clone(self.post) as Arc<dyn Ears>);
        if let Some(Ok(made)) = self.meanwhile(CONNECTING, made).await {
            if made.is_newer_than(nodes) {
                self.post.standing.gap();
            }
            *nodes = Arc::new(made);
            self.post.state.send_replace(State::Up(Arc::clone(nodes)));
        }
    }

    /// Waits after trouble: longer each time, until there was none for a while.
    async fn rest(&mut self) {
        if clock::now().saturating_duration_since(self.rested) >= CALM {
            self.pause = Pause::default();
        }
        let pause = self.pause.next();
        self.meanwhile(pause, pending::<()>()).await;
        self.rested = clock::now();
    }

    /// What a future gives in time. Meanwhile the generation grows whenever messages may have been missed for too long.
    async fn meanwhile<F: Future>(&mut self, time: Duration, future: F) -> Option<F::Output> {
        let (mut future, until) = (pin!(future), clock::after(clock::now(), time));
        loop {
            let now = clock::now();
            let lapses = clock::after(self.verified, self.post.config.max_unverified);
            if now >= lapses {
                self.post.standing.gap();
                self.verified = now;
                continue;
            }
            let wait = until.min(lapses).saturating_duration_since(now);
            if let Some(output) = clock::timeout(wait, future.as_mut()).await {
                return Some(output);
            }
            if clock::now() >= until {
                return None;
            }
        }
    }
}

/// How long to wait: 100 ms, then twice as long each time up to a second; a little less or more, so that instances which
/// have lost their server at the same time do not come back at the same time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_secs(1));
        pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }
}
