//! A connection to one server, for as long as the server lives and is master.
//!
//! It is never made again in silence: what comes over it comes from one life of one server, which its era names.
//!
//! It is a pair: one for all that is asked, and one over which messages are heard and nothing else. A server ends a
//! connection that has subscribed once 32 MiB of answers are on their way over it (`client-output-buffer-limit pubsub`),
//! and a few large records, or many small ones, that are read at once are more than that. Whoever loses one of the two has
//! lost both.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, PushInfo, PushKind, ServerError, Value,
    aio::MultiplexedConnection,
};
use sha2::{Digest, Sha256};

use super::{config::Config, masters::together, servers::Command, tls};
use crate::store::StoreError;

/// Which life of which server.
pub(super) type Era = [u8; 16];

/// A connection.
pub(super) struct Link {
    /// Where to, as nodes tell one another.
    pub(super) name: String,
    pub(super) info: ConnectionInfo,
    pub(super) era: Era,
    asks: MultiplexedConnection,
    hears: MultiplexedConnection,
    /// The scripts that the server has been given over it. It may have thrown them away since: then it says so.
    given: Mutex<HashSet<&'static str>>,
    is_lost: Arc<AtomicBool>,
}

/// A script, and the name by which a server knows it once it has seen it.
pub(super) struct Script {
    code: &'static str,
    hashed: OnceLock<redis::Script>,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// A script with all of its code.
    pub(super) whole: bool,
    /// To a node that is only about to be the key's.
    pub(super) asking: bool,
}

/// Who hears what a server says of itself.
pub(super) trait Ears: Send + Sync + 'static {
    /// A message on the channel, by a connection of this name.
    fn message(&self, by: u64, payload: &[u8]);
    /// The connection is no more.
    fn lost(&self);
}

impl Script {
    pub(super) const fn new(code: &'static str) -> Self {
        Self { code, hashed: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hashed.get_or_init(|| redis::Script::new(self.code)).get_hash()
    }
}

impl Link {
    /// Connects, subscribes, and asks the server who it is. Refused are replicas and those that cannot answer yet.
    pub(super) async fn make(info: &ConnectionInfo, config: &Config, ears: Arc<dyn Ears>) -> Result<Self, StoreError> {
        let is_lost = Arc::<AtomicBool>::default();
        let (by, lost) = (fastrand::u64(..), Arc::clone(&is_lost));
        let hear = move |push: PushInfo| -> Result<(), ()> {
            match (push.kind, push.data.as_slice()) {
                (PushKind::Message, [_, Value::BulkString(payload)]) => ears.message(by, payload),
                (PushKind::Disconnection, _) => {
                    lost.store(true, Relaxed);
                    ears.lost();
                }
                _ => {}
            }
            Ok(())
        };
        // All timers are ours.
        let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let settings = settings.set_push_sender(hear);
        // One after the other, and what is asked comes later than the first message that could be heard.
        let mut hears = connect(info, &settings).await?;
        hears.subscribe(&config.channel).await.map_err(failed)?;
        let asks = connect(info, &settings).await?;
        let era = identify([&asks, &hears], config.trust_restarts).await?;
        let (name, info) = (info.addr().to_string(), info.clone());
        Ok(Self { name, info, era, asks, hears, given: Mutex::default(), is_lost })
    }

    /// Sends commands in one go. The answers come in their order; what the server refuses is an answer like any other.
    pub(super) async fn send(&self, commands: &[(&Command, How)]) -> Result<Vec<Value>, StoreError> {
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        for (command, how) in commands {
            if how.asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(match command {
                Command::Plain(command) => command.clone(),
                Command::Script { script, keys, args } => {
                    let mut command = match how.whole || !self.has(script) {
                        true => redis::cmd("EVAL").arg(script.code).take(),
                        false => redis::cmd("EVALSHA").arg(script.hash()).take(),
                    };
                    command.arg(keys.len()).arg(keys).arg(args).take()
                }
            });
        }
        let count = pipeline.len();
        let answers = self.asks.clone().send_packed_commands(&pipeline, 0, count).await;
        let mut answers = self.unless_lost(answers.map_err(failed))?.into_iter();
        let answers = commands.iter().map_while(|(command, how)| {
            let answer = if how.asking { answers.nth(1) } else { answers.next() }?;
            if let Command::Script { script, .. } = command {
                self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(script.hash());
            }
            Some(answer)
        });
        let answers = answers.collect::<Vec<_>>();
        let is_all = answers.len() == commands.len();
        self.unless_lost(if is_all { Ok(answers) } else { Err(StoreError("Redis left answers out".into())) })
    }

    /// Whether the server is still the one that it was, and answers.
    pub(super) async fn beat(&self, config: &Config) -> Result<(), StoreError> {
        let era = self.unless_lost(identify([&self.asks, &self.hears], config.trust_restarts).await)?;
        self.unless_lost(if era == self.era {
            Ok(())
        } else {
            Err(StoreError("the Redis server began another life".into()))
        })
    }

    /// Whether it is no more, or of no more use.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// It is to be made again.
    pub(super) fn leave(&self) {
        self.is_lost.store(true, Relaxed);
    }

    fn unless_lost<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|_| self.leave())
    }

    /// Learns from what the server refuses: one that is no master, or is not ours to ask, is left.
    pub(super) fn consider(&self, error: &ServerError) {
        if matches!(error.code(), "READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH" | "CLUSTERDOWN") {
            self.leave();
        }
    }

    fn has(&self, script: &'static Script) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).contains(script.hash())
    }
}

/// What a server answers to a command for which nobody keeps a connection.
pub(super) async fn query(info: &ConnectionInfo, command: &Cmd) -> Result<Value, StoreError> {
    let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut connection = connect(info, &settings).await?;
    answered(connection.send_packed_command(command).await.map_err(failed)?)
}

async fn connect(info: &ConnectionInfo, settings: &AsyncConnectionConfig) -> Result<MultiplexedConnection, StoreError> {
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        tls::provide();
    }
    let client = Client::open(info.clone()).map_err(failed)?;
    client.get_multiplexed_async_connection_with_config(settings).await.map_err(failed)
}

/// The era of a master that answers over both connections. A server that refuses what it is asked is none.
async fn identify(both: [&MultiplexedConnection; 2], trust_restarts: bool) -> Result<Era, StoreError> {
    let eras = together(both.map(|connection| identified(connection.clone(), trust_restarts))).await;
    let eras = eras.into_iter().collect::<Result<Vec<_>, _>>()?;
    match eras.as_slice() {
        [asked, heard] if asked == heard => Ok(*asked),
        _ => Err(StoreError("the connections to Redis end in different lives of a server".into())),
    }
}

async fn identified(mut connection: MultiplexedConnection, trust_restarts: bool) -> Result<Era, StoreError> {
    let mut questions = redis::pipe();
    // Redis 6.2 tells one section at a time. A server that is loading tells them, and nothing else: hence the third question.
    questions.cmd("INFO").arg("server").cmd("INFO").arg("replication").cmd("PING");
    let answers = connection.send_packed_commands(&questions, 0, 3).await.map_err(failed)?;
    let mut info = String::new();
    for answer in answers {
        match answered(answer)? {
            Value::VerbatimString { text, .. } => info.push_str(&text),
            Value::BulkString(text) => info.push_str(&String::from_utf8_lossy(&text)),
            _ => {}
        }
        info.push('\n');
    }
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    if field("role") != Some("master") {
        return Err(StoreError("the Redis server is no master".into()));
    }
    if trust_restarts {
        return Ok(Era::default());
    }
    let (Some(run), Some(history)) = (field("run_id"), field("master_replid")) else {
        return Err(StoreError("the Redis server does not tell one of its lives from another".into()));
    };
    let digest = Sha256::new().chain_update(run).chain_update("\n").chain_update(history).finalize();
    Ok(std::array::from_fn(|at| digest[at]))
}

/// An answer that is no refusal.
fn answered(value: Value) -> Result<Value, StoreError> {
    match value {
        Value::ServerError(error) => Err(StoreError(error.to_string())),
        value => Ok(value),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: redis::RedisError) -> StoreError {
    StoreError(error.to_string())
}
