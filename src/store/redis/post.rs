//! What the keeper, the connections and those who ask share: whether there are connections, whether they are to be used,
//! and who keeps them.

use std::{
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
    config::{Config, Place},
    echoes::Echoes,
    keeper,
    link::Ears,
    nodes::{Asked, Nodes},
    servers::{Addressed, Answer, Errands},
};
use crate::{
    clock,
    store::{StoreError, standing::Standing},
};

/// The shortest time for which messages may be missed before it counts.
const SHORTEST: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Post {
    pub(super) config: Config,
    pub(super) standing: Arc<Standing>,
    pub(super) errands: Weak<dyn Errands>,
    state: watch::Sender<State>,
    hired: Mutex<Hired>,
    echoes: Mutex<Echoes>,
    /// There is something to look at.
    pub(super) alarm: Notify,
    /// Errands are.
    pub(super) is_due: AtomicBool,
    /// A slot is no longer where it was.
    pub(super) has_moved: AtomicBool,
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
    /// Where.
    runtime: Option<Handle>,
    keeper: Option<AbortHandle>,
    /// A runtime on which a keeper cannot work: it has no sockets.
    unfit: Option<runtime::Id>,
}

impl Post {
    pub(super) fn new(config: Config, errands: Weak<dyn Errands>) -> Self {
        let config = Config { max_unverified: config.max_unverified.max(SHORTEST), ..config };
        let (standing, state) = (Arc::default(), watch::Sender::new(State::Starting));
        let (hired, echoes, alarm) = (Mutex::default(), Mutex::default(), Notify::new());
        let (is_due, has_moved) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { config, standing, errands, state, hired, echoes, alarm, is_due, has_moved }
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
            (hired.is_there, hired.runtime) = (true, Some(runtime.clone()));
            self.state.send_replace(State::Starting);
            runtime
        };
        // Made here: a runtime that is shut down drops what it is given, and this says so.
        let presence = Presence { post: Arc::clone(self), runtime: runtime.id() };
        let keeper = runtime.spawn(keeper::keep(presence)).abort_handle();
        self.hired().keeper = Some(keeper);
        Ok(())
    }

    /// Does something where the keeper is. Dropped, if there is none.
    #[allow(clippy::disallowed_methods, reason = "no run, and for no request alone: what many ask in one go")]
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.hired().runtime.clone();
        drop(runtime.map(|runtime| runtime.spawn(work)));
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
            drop(hired);
            self.tell_down();
        }
    }

    /// Opens the breaker: the keeper itself has heard nothing.
    pub(super) fn set_down(&self) {
        self.standing.set_down(true);
        self.tell_down();
    }

    /// What is told may ask for locks, and may be the last to let go of the store: nothing is locked meanwhile.
    fn tell_down(&self) {
        if let Some(errands) = self.errands.upgrade() {
            errands.down();
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

    /// There are new connections. What is sent from now on is heard, and nobody knows what was sent before.
    pub(super) fn up(&self, nodes: &Arc<Nodes>) {
        self.standing.gap();
        self.route(nodes);
        self.standing.set_down(false);
    }

    /// Commands go this way from now on.
    pub(super) fn route(&self, nodes: &Arc<Nodes>) {
        self.state.send_replace(State::Up(Arc::clone(nodes)));
    }

    pub(super) fn down(&self, why: &StoreError) {
        self.set_down();
        self.state.send_replace(State::Down(why.0.as_str().into()));
    }

    fn hired(&self) -> MutexGuard<'_, Hired> {
        self.hired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears for Post {
    fn message(&self, by: u64, payload: &[u8]) {
        let is_cluster = matches!(self.config.place, Place::Cluster(_));
        if is_cluster && self.echoes.lock().unwrap_or_else(PoisonError::into_inner).is_echo(by, payload) {
            return;
        }
        if let Some(errands) = self.errands.upgrade() {
            errands.heard(payload);
        }
    }

    fn lost(&self) {
        self.trip();
    }
}

/// That a keeper is there. Dropped with its runtime, it leaves things as if nobody had ever asked.
pub(super) struct Presence {
    pub(super) post: Arc<Post>,
    runtime: runtime::Id,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let post = &self.post;
        let mut hired = post.hired();
        (hired.is_there, hired.runtime) = (false, None);
        if thread::panicking() {
            hired.unfit = Some(self.runtime);
        }
        let gone = State::Down("the runtime of the connection to Redis is gone".into());
        let before = post.state.send_replace(gone);
        post.standing.gap();
        post.standing.set_down(false);
        drop(hired);
        drop(before);
        post.tell_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Errands for Nobody {
        fn heard(&self, _: &[u8]) {}

        fn due(&self) -> Vec<Addressed> {
            Vec::new()
        }

        fn down(&self) {}
    }

    #[test]
    fn a_breaker_that_nobody_would_close_is_not_opened() {
        let place = Place::one("redis://localhost").unwrap();
        let post = Post::new(Config::new(place, "news"), Weak::<Nobody>::new());
        post.trip();
        assert!(!post.standing.is_down());
    }
}
