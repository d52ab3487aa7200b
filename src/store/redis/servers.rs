//! Asks Redis, whatever stands behind it: one server, the one that sentinels name, or a cluster.
//!
//! An operation waits for as long as the patience at most. Whoever has waited in vain opens the *breaker*: from then on
//! nothing goes over the network, everything fails at once, and only the `keeper` finds out when that is over. An answer
//! that refuses something is an answer, and fails what it was asked for alone.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use redis::{Cmd, Value};

pub(super) use super::link::{Era, Script};
use super::{
    config::{Config, Place},
    post::Post,
};
use crate::{
    clock::{self, Instant},
    error::Error,
    store::{StoreError, standing::Standing},
};

/// One command or script.
pub(super) enum Command {
    Plain(Cmd),
    Script { script: &'static Script, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>> },
}

/// A command, and the key that says which node it is for.
pub(super) struct Addressed {
    pub(super) key: Vec<u8>,
    pub(super) command: Command,
}

/// An answer, and which life of which server has given it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) era: Era,
}

/// What the keeper does beside keeping the connections.
pub(super) trait Errands: Send + Sync {
    /// A message has come on the channel.
    fn heard(&self, message: &[u8]);
    /// What is to be sent each second, whatever the answers are.
    fn due(&self) -> Vec<Addressed>;
    /// Nothing can be asked any more, nor heard: whoever waits for a message waits in vain. Told at least once.
    fn down(&self);
}

/// Whom to ask.
pub(super) struct Servers {
    post: Arc<Post>,
}

impl Servers {
    /// Connects to nothing: what is asked first does, and `connect`.
    pub(super) fn new(config: Config, errands: Weak<dyn Errands>) -> Self {
        Self { post: Arc::new(Post::new(config, errands)) }
    }

    /// Connects, and says why if that fails. It is tried again all the same, until this is dropped.
    pub(super) async fn connect(&self) -> Result<(), Error> {
        let connecting = async {
            self.post.ensure_keeper()?;
            self.post.nodes().await
        };
        connecting.await.map(drop).map_err(|error| Error::store(error.0))
    }

    /// Sends them, in order per node, as one pipeline per node, all nodes side by side; answers in the order of the
    /// commands. What a server refuses is the answer of its own command; without a connection, or without an answer in
    /// time, all fail.
    ///
    /// Dropping it takes nothing back that was sent.
    pub(super) async fn ask(&self, commands: Vec<Addressed>) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        self.post.ensure_keeper()?;
        if self.post.standing.is_down() {
            return Err(StoreError("Redis is not there".into()));
        }
        let mut waiting = Waiting { post: &self.post, since: clock::now(), is_over: false };
        let answers = clock::timeout(self.post.config.patience, self.post.ask(&commands)).await;
        waiting.is_over = answers.is_some();
        let answers = answers.ok_or_else(|| StoreError("Redis did not answer in time".into()))??;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| StoreError(error.to_string()))).collect())
    }

    /// Waits for an answer to what somebody else asks, who does not wait for longer than the patience. One who gives up has
    /// waited in vain, as if he had asked himself.
    pub(super) async fn wait<T>(&self, since: Instant, answer: impl Future<Output = T>) -> T {
        let mut waiting = Waiting { post: &self.post, since, is_over: false };
        let answer = answer.await;
        waiting.is_over = true;
        answer
    }

    /// Does something for many where the connections are kept. Dropped, if they are kept nowhere.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.post.spawn(work);
    }

    /// How long what cannot be verified counts.
    pub(super) fn max_unverified(&self) -> Duration {
        self.post.config.max_unverified
    }

    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.post.standing
    }

    /// How long an answer is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.post.config.patience
    }

    /// Whether keys of different slots may stand in one command: everywhere but in a cluster.
    pub(super) fn is_one(&self) -> bool {
        !matches!(self.post.config.place, Place::Cluster(_))
    }

    /// Something is due now.
    pub(super) fn nudge(&self) {
        self.post.nudge();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.post.close();
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("config", &self.post.config).finish_non_exhaustive()
    }
}

/// Somebody who waits for an answer.
struct Waiting<'a> {
    post: &'a Post,
    since: Instant,
    is_over: bool,
}

impl Waiting<'_> {
    /// Whoever gives up of himself has been patient too, if he has waited for a good part of it: he may have asked for
    /// other things before, or have begun to wait a moment earlier than we did.
    fn is_enough(&self) -> bool {
        clock::now().saturating_duration_since(self.since) >= self.post.config.patience / 2
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.is_enough() {
            self.post.trip();
        }
    }
}
