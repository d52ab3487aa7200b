//! Connections to real servers: what comes over them, what happens when they break, and who looks after them.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::Value;

pub(super) use self::{scripted::Scripted, server::Server};
use super::{
    config::{Config, Place},
    link::Script,
    servers::{Addressed, Answer, Command, Errands, Servers},
};
use crate::{clock, store::StoreError};

mod crowds;
#[cfg(feature = "redis-tls")]
mod encrypted;
mod kept;
mod scripted;
mod server;
mod topology;
mod vouched;

pub(super) const LONG: Duration = Duration::from_secs(30);

/// What was heard, and what is due.
#[derive(Default)]
pub(super) struct Notes {
    heard: Mutex<Vec<String>>,
    due: Mutex<Vec<&'static str>>,
    /// How often nothing could be heard any more.
    downs: AtomicUsize,
}

impl Notes {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Errands for Notes {
    fn heard(&self, message: &[u8]) {
        self.heard.lock().unwrap().push(String::from_utf8(message.to_vec()).unwrap());
    }

    fn due(&self) -> Vec<Addressed> {
        self.due.lock().unwrap().drain(..).map(plain).collect()
    }

    fn down(&self) {
        self.downs.fetch_add(1, Relaxed);
    }
}

pub(super) fn config(url: &str) -> Config {
    // Longer than any test waits: what is in time is none of the most of them.
    Config { patience: LONG, ..Config::new(Place::one(url).unwrap(), "news") }
}

pub(super) fn servers(config: Config) -> (Servers, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    (Servers::new(config, Arc::downgrade(&notes) as Weak<dyn Errands>), notes)
}

fn plain(words: &str) -> Addressed {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    let arguments = words.collect::<Vec<_>>();
    let key = arguments.first().copied().unwrap_or_default().into();
    command.arg(arguments);
    Addressed { key, command: Command::Plain(command) }
}

fn script(script: &'static Script, key: &str, argument: &str) -> Addressed {
    let (keys, args) = (vec![key.into()], vec![argument.into()]);
    Addressed { key: key.into(), command: Command::Script { script, keys, args } }
}

fn values(answers: Vec<Result<Answer, StoreError>>) -> Vec<Option<Value>> {
    answers.into_iter().map(|answer| answer.ok().map(|answer| answer.value)).collect()
}

async fn one(servers: &Servers, words: &str) -> Result<Answer, StoreError> {
    servers.ask(vec![plain(words)]).await?.remove(0)
}

/// What comes of trying until it succeeds.
async fn eventually(servers: &Servers, words: &str) -> Answer {
    let trying = async {
        loop {
            match one(servers, words).await {
                Ok(answer) => return answer,
                Err(_) => clock::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    clock::timeout(LONG, trying).await.expect("it never succeeds")
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    clock::timeout(LONG, waiting).await.expect("it never is so");
}

/// The connections to which a server sends messages.
fn listeners(server: &Server) -> Vec<String> {
    let Value::BulkString(list) = server.answer("CLIENT LIST TYPE pubsub") else { panic!("a list") };
    let list = String::from_utf8(list).unwrap();
    list.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[tokio::test]
async fn what_is_asked_is_answered_in_its_order_and_says_which_life_of_the_server_answered() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    let commands = ["SET a 1", "GET a", "INCR a", "GET b", "GET a"].map(plain);
    let answers = servers.ask(commands.into()).await.unwrap();
    let era = answers[0].as_ref().unwrap().era;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().era == era));
    assert_ne!(era, [0; 16]);
    let expected = [Value::Okay, text("1"), Value::Int(2), Value::Nil, text("2")];
    assert_eq!(values(answers), expected.map(Some));
    // Messages may never be missed, as far as that can be.
    let trusting = Config { trust_restarts: true, max_unverified: Duration::ZERO, ..config(&server.url()) };
    let (trusting, _notes) = self::servers(trusting);
    assert_eq!(one(&trusting, "GET a").await.unwrap().era, [0; 16]);
}

#[test]
fn whoever_asks_may_go_from_thread_to_thread() {
    fn is_send(_: &impl Send) {}
    let (servers, _notes) = servers(config("redis://localhost"));
    is_send(&servers.ask(vec![]));
    is_send(&servers.connect());
}

#[tokio::test]
async fn what_a_server_refuses_fails_alone() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let commands = ["SET a x", "INCR a", "GET a"].map(plain);
    let answers = servers.ask(commands.into()).await.unwrap();
    assert!(answers[1].as_ref().unwrap_err().0.contains("not an integer"), "{answers:?}");
    assert_eq!(values(answers), [Some(Value::Okay), None, Some(text("x"))]);
    assert!(!servers.standing().is_down());
}

#[tokio::test]
async fn a_script_is_sent_once_and_again_where_it_was_thrown_away() {
    static APPEND: Script = Script::new("return redis.call('APPEND', KEYS[1], ARGV[1])");
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let appended = async |argument: &'static str| {
        let answers = servers.ask(vec![script(&APPEND, "a", argument), plain("GET a")]).await;
        values(answers.unwrap())
    };
    assert_eq!(appended("x").await, [Some(Value::Int(1)), Some(text("x"))]);
    assert_eq!((server.calls("eval"), server.calls("evalsha")), ("calls=1".into(), "calls=0".into()));
    assert_eq!(appended("y").await, [Some(Value::Int(2)), Some(text("xy"))]);
    assert_eq!((server.calls("eval"), server.calls("evalsha")), ("calls=1".into(), "calls=1".into()));
    server.answer("SCRIPT FLUSH");
    assert_eq!(appended("z").await[0], Some(Value::Int(3)));
    assert_eq!(values(servers.ask(vec![plain("GET a")]).await.unwrap()), [Some(text("xyz"))]);
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_lives_another_life() {
    let mut server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let era = one(&servers, "SET a 1").await.unwrap().era;
    let generation = servers.standing().generation();
    server.kill();
    until(|| servers.standing().is_down()).await;
    assert!(one(&servers, "GET a").await.is_err());
    // Longer and longer, messages may have been missed.
    until(|| servers.standing().generation() >= generation + 2).await;
    server.restart();
    let answer = eventually(&servers, "GET a").await;
    assert_eq!(answer.value, Value::Nil);
    assert_ne!(answer.era, era);
    assert!(!servers.standing().is_down());
}

#[tokio::test]
async fn one_who_waited_in_vain_opens_the_breaker_and_an_answer_closes_it() {
    let server = Server::start(&[]);
    let patience = Duration::from_millis(100);
    let (servers, notes) = servers(Config { patience, ..config(&server.url()) });
    eventually(&servers, "SET a 1").await;
    server.signal("-STOP");
    let downs = notes.downs.load(Relaxed);
    assert!(one(&servers, "INCR a").await.is_err());
    assert!(notes.downs.load(Relaxed) > downs);
    assert!(servers.standing().is_down());
    for _ in 0..1_000 {
        assert!(one(&servers, "SET b 1").await.is_err());
    }
    server.signal("-CONT");
    // What was sent was not taken back; what was asked later was never sent.
    assert_eq!(eventually(&servers, "GET a").await.value, text("2"));
    assert_eq!(eventually(&servers, "GET b").await.value, Value::Nil);
    assert!(!servers.standing().is_down());
}

#[tokio::test]
async fn one_who_gave_up_after_a_while_has_waited_in_vain_too() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(Config { patience: Duration::from_millis(100), ..config(&server.url()) });
    eventually(&servers, "SET a 1").await;
    server.signal("-STOP");
    assert!(clock::timeout(Duration::from_millis(60), one(&servers, "GET a")).await.is_none());
    assert!(servers.standing().is_down());
}

#[tokio::test]
async fn a_frozen_server_is_connected_to_again() {
    let server = Server::start(&[]);
    let patience = Duration::from_millis(50);
    let (servers, _notes) = servers(Config { patience, max_unverified: patience, ..config(&server.url()) });
    eventually(&servers, "SET a 1").await;
    let before = listeners(&server);
    server.signal("-STOP");
    let generation = servers.standing().generation();
    // Two seconds of silence and more.
    until(|| servers.standing().generation() > generation + 50).await;
    server.signal("-CONT");
    assert_eq!(eventually(&servers, "GET a").await.value, text("1"));
    assert!(!listeners(&server).contains(&before[0]));
}

#[tokio::test]
async fn a_replica_is_refused_and_so_is_a_master_that_becomes_one() {
    let replica = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    let (refused, _notes) = servers(config(&replica.url()));
    let error = refused.connect().await.unwrap_err().to_string();
    assert!(error.contains("no master"), "{error}");
    assert!(refused.standing().is_down());

    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let era = one(&servers, "SET a 1").await.unwrap().era;
    let generation = servers.standing().generation();
    server.answer("REPLICAOF 127.0.0.1 1");
    assert!(one(&servers, "SET a 2").await.is_err());
    assert!(servers.standing().is_down());
    server.answer("REPLICAOF NO ONE");
    let answer = eventually(&servers, "GET a").await;
    assert_eq!(answer.value, text("1"));
    assert_ne!(answer.era, era);
    assert!(servers.standing().generation() > generation);
    // What was of no use any more is not kept beside it.
    until(|| listeners(&server).len() == 1).await;
}

#[tokio::test]
async fn a_server_that_begins_another_life_unnoticed_is_asked_who_it_is() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let era = one(&servers, "SET a 1").await.unwrap().era;
    // No connection ends with it.
    let mut both = redis::pipe();
    both.cmd("REPLICAOF").arg("127.0.0.1").arg(1).cmd("REPLICAOF").arg("NO").arg("ONE");
    both.exec(&mut server.client().unwrap()).unwrap();
    let another = async { while eventually(&servers, "GET a").await.era == era {} };
    clock::timeout(LONG, another).await.expect("it says who it is");
}

#[tokio::test]
async fn passwords_are_given() {
    let server = Server::start(&[]);
    server.answer("CONFIG SET requirepass secret");
    let (refused, _notes) = servers(config(&server.url()));
    let error = refused.connect().await.unwrap_err().to_string();
    assert!(error.contains("NOAUTH") || error.to_lowercase().contains("auth"), "{error}");
    let (servers, _notes) = servers(config(&format!("{}?pass=secret", server.url())));
    servers.connect().await.unwrap();
    assert!(!format!("{servers:?}").contains("secret"));
}

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let mut server = Server::start(&[]);
    server.kill();
    let (servers, _notes) = servers(config(&server.url()));
    assert!(servers.connect().await.is_err());
    assert!(servers.standing().is_down());
    server.restart();
    eventually(&servers, "GET a").await;
}

#[tokio::test]
async fn messages_on_the_channel_are_heard_in_their_order_and_others_are_not() {
    let server = Server::start(&[]);
    let (servers, notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    for round in 1..=50 {
        server.answer(&format!("PUBLISH news {round}"));
        server.answer("PUBLISH others x");
    }
    until(|| notes.heard().len() == 50).await;
    assert_eq!(notes.heard(), (1..=50).map(|round| round.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_can_ask_and_hears_nothing_has_lost_both() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    let generation = servers.standing().generation();
    server.answer("CLIENT KILL TYPE normal");
    until(|| servers.standing().generation() > generation).await;
    eventually(&servers, "GET a").await;
    until(|| listeners(&server).len() == 1).await;
}

#[tokio::test]
async fn a_connection_that_was_cut_may_have_missed_messages() {
    let server = Server::start(&[]);
    let (servers, notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    let generation = servers.standing().generation();
    assert_eq!(server.answer("CLIENT KILL TYPE pubsub"), Value::Int(1));
    until(|| servers.standing().generation() > generation).await;
    assert!(notes.downs.load(Relaxed) > 0);
    eventually(&servers, "GET a").await;
    server.answer("PUBLISH news again");
    until(|| notes.heard() == ["again"]).await;
}

#[tokio::test]
async fn errands_are_run() {
    let server = Server::start(&[]);
    let (servers, notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    notes.due.lock().unwrap().push("SET a 0");
    until(|| server.answer("GET a") == text("0")).await;
    // Once each second, or now: as often as this they would not be run in time otherwise.
    let nudging = async {
        for round in 1..=100 {
            notes.due.lock().unwrap().push("INCR a");
            servers.nudge();
            until(|| server.answer("GET a") == text(&round.to_string())).await;
        }
    };
    clock::timeout(LONG, nudging).await.expect("they are run when they are due");
}

#[tokio::test]
async fn nothing_is_left_of_servers_that_were_dropped() {
    let server = Server::start(&[]);
    let (servers, notes) = servers(config(&server.url()));
    servers.connect().await.unwrap();
    assert_eq!(listeners(&server).len(), 1);
    drop(servers);
    until(|| listeners(&server).is_empty()).await;
    assert_eq!(Arc::strong_count(&notes), 1);
}

#[test]
fn a_runtime_that_is_gone_is_replaced_by_the_next_that_asks() {
    let server = Server::start(&[]);
    let (servers, notes) = servers(Config { patience: Duration::from_millis(100), ..config(&server.url()) });
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let era = first.block_on(eventually(&servers, "SET a 1")).era;
    let generation = servers.standing().generation();
    // Gone while it waits for a server that is frozen: nobody is there any more to find out when that is over.
    server.signal("-STOP");
    assert!(first.block_on(clock::timeout(Duration::from_millis(50), one(&servers, "GET a"))).is_none());
    assert!(servers.standing().is_down());
    let downs = notes.downs.load(Relaxed);
    drop(first);
    assert!(notes.downs.load(Relaxed) > downs);
    server.signal("-CONT");
    assert!(servers.standing().generation() > generation);
    assert!(!servers.standing().is_down());
    let second = runtime();
    let answer = second.block_on(eventually(&servers, "GET a"));
    assert_eq!((answer.value, answer.era), (text("1"), era));
    server.answer("PUBLISH news again");
    second.block_on(until(|| notes.heard() == ["again"]));
}

#[test]
fn a_runtime_without_timers_or_sockets_asks_nobody() {
    let server = Server::start(&[]);
    let (servers, _notes) = servers(config(&server.url()));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    assert!(builder.build().unwrap().block_on(one(&servers, "GET a")).is_err());
    let without_time = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    assert!(without_time.block_on(one(&servers, "GET a")).is_err());
    let timely = builder.enable_time().build().unwrap();
    assert!(timely.block_on(one(&servers, "GET a")).is_err());
    assert!(timely.block_on(one(&servers, "GET a")).is_err());
    builder.enable_all().build().unwrap().block_on(one(&servers, "GET a")).unwrap();
}
