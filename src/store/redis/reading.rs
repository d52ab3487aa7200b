//! How a record is read: together with those that others read at the same moment, where it is vouched for, and by itself,
//! with all tokens that cover it, where it is not.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Cmd, Value};

use super::{
    asking::{self, Answers, moment, odd, plain},
    envelope::{Envelope, Seal},
    masters::together,
    names::{Name, Names},
    proof::Proof,
    random::random,
    servers::{Addressed, Answer, Servers},
    tokens,
    vouched::{self, Look, Record, Vouched},
};
use crate::{
    clock::{self, Instant},
    entry::Course,
    key::Key,
    store::{
        Found, StoreError,
        gathering::{Asked, Gathering, Turn},
    },
};

/// How many records are read in one go at most, and how long all of them may be, in bytes: what is asked for in one go is
/// in memory in one go, here and there.
const MOST: usize = 32;
const LONGEST: usize = 1 << 20;
/// How long an epoch lasts that no invalidation ends.
const EPOCH: Duration = Duration::from_secs(24 * 3_600);

/// Reads records.
pub(super) struct Reading {
    servers: Arc<Servers>,
    names: Names,
    seal: Seal,
    /// Nothing, in a cluster.
    vouched: Option<Vouched>,
    gathering: Arc<Gathering<Arc<Record>, Result<Look, StoreError>>>,
}

impl Reading {
    pub(super) fn new(servers: Arc<Servers>, names: Names, seal: Seal) -> Self {
        let vouched = servers.is_one().then(|| Vouched::new(servers.max_unverified()));
        Self { servers, names, seal, vouched, gathering: Arc::new(Gathering::new()) }
    }

    /// The record of a course, if what covers it is what covered it when its run claimed.
    pub(super) async fn fetch(self: &Arc<Self>, course: &Course) -> Result<Option<Found>, StoreError> {
        let now = clock::now();
        if let Some(vouched) = &self.vouched
            && let Some(record) = vouched.get(course, now)
            && let Some(look) = self.look(Arc::clone(&record), now).await
        {
            let look = look?;
            vouched.saw(look.epoch);
            if let Some(found) = record.judge(look, &self.seal) {
                return Ok(found);
            }
        }
        // Boxed: those who need not compare need no room for it.
        Box::pin(self.compare(course)).await
    }

    /// Looks at a record, together with whoever else is about to look at one. Nothing, if nobody looked.
    async fn look(self: &Arc<Self>, record: Arc<Record>, now: Instant) -> Option<Result<Look, StoreError>> {
        let (answered, turn) = self.gathering.join(record);
        if let Some(turn) = turn {
            self.servers.spawn(Arc::clone(self).look_for_all(turn));
        }
        self.servers.wait(now, answered).await.ok()
    }

    async fn look_for_all(self: Arc<Self>, turn: Turn<Arc<Record>, Result<Look, StoreError>>) {
        // Whoever is about to look comes first.
        tokio::task::yield_now().await;
        together(in_batches(turn.take()).into_iter().map(|batch| self.look_for(batch))).await;
    }

    /// Looks at several records in one command, which is one step: the epoch that is seen is that of each of them.
    async fn look_for(&self, batch: Vec<Asked<Arc<Record>, Result<Look, StoreError>>>) {
        let epoch = self.names.epoch();
        let names = batch.iter().map(|asked| asked.question.name.as_slice());
        let commands = vec![plain(&epoch, all_of([epoch.as_slice()].into_iter().chain(names))), time(&epoch)];
        let looked = async {
            let mut answers = asking::ask(&self.servers, commands).await?;
            let (Answer { value, era }, now) = (answers.next()?, now(answers.next()?)?);
            let Value::Array(values) = value else { return Err(odd()) };
            if values.len() != batch.len() + 1 {
                return Err(odd());
            }
            Ok((values.into_iter(), era, now))
        };
        match looked.await {
            Ok((mut values, era, now)) => {
                let epoch = values.next().as_ref().and_then(vouched::epoch);
                for (asked, value) in batch.into_iter().zip(values) {
                    let _gone = asked.answer.send(Ok(Look { record: Answer { value, era }, epoch, now }));
                }
            }
            Err(StoreError(why)) => {
                for asked in batch {
                    let _gone = asked.answer.send(Err(StoreError(why.clone())));
                }
            }
        }
    }

    /// Reads a record and all tokens that cover it.
    async fn compare(&self, course: &Course) -> Result<Option<Found>, StoreError> {
        let (name, since) = (self.names.record(course), clock::now());
        let tokens = self.tokens(&tokens::of_key(&course.key));
        let (look, proof) = match &self.vouched {
            Some(vouched) => self.look_at_all(vouched, &name, &tokens).await?,
            None => self.look_at_each(&name, &tokens).await?,
        };
        let (era, epoch) = (look.record.era, look.epoch);
        let Some((found, whole, envelope)) = self.opened(&course.key, &name, look, proof).await? else {
            return Ok(None);
        };
        if let (Some(vouched), Some(epoch)) = (&self.vouched, epoch) {
            let (length, head) = (whole.len(), envelope.head(&whole, &self.seal));
            vouched.vouch(course, Record { name, length, head, epoch, era, since });
        }
        Ok(Some(found))
    }

    /// In one step: the tokens are those of the epoch.
    async fn look_at_all(
        &self,
        vouched: &Vouched,
        name: &Name,
        tokens: &[Name],
    ) -> Result<(Look, Option<Proof>), StoreError> {
        let epoch = self.names.epoch();
        let names = [&epoch, name].into_iter().chain(tokens).map(Vec::as_slice);
        let mut commands = vec![plain(name, all_of(names)), time(name)];
        let makes = !vouched.has_epoch();
        if makes {
            let lasts = EPOCH.as_secs();
            let make = redis::cmd("SET").arg(&epoch).arg(&random()).arg("NX").arg("EX").arg(lasts).take();
            commands.insert(0, plain(&epoch, make));
        }
        let mut answers = self.servers.ask(commands).await?.into_iter();
        if makes {
            // Where it was refused there is none, and nothing is vouched for.
            drop(answers.next());
        }
        let mut answers = Answers::of(answers)?;
        let (Answer { value, era }, now) = (answers.next()?, now(answers.next()?)?);
        let Value::Array(mut values) = value else { return Err(odd()) };
        if values.len() != tokens.len() + 2 {
            return Err(odd());
        }
        let observed = values.split_off(2).iter().map(|value| asking::observed(value, era)).collect::<Option<Vec<_>>>();
        let epoch = vouched::epoch(&values[0]);
        vouched.saw(epoch);
        let record = Answer { value: values.swap_remove(1), era };
        Ok((Look { record, epoch, now }, observed.map(|observed| Proof::of(era, &observed))))
    }

    /// Each where it is.
    async fn look_at_each(&self, name: &Name, tokens: &[Name]) -> Result<(Look, Option<Proof>), StoreError> {
        let mut commands = vec![plain(name, redis::cmd("GET").arg(name).take()), time(name)];
        commands.extend(asking::read(&self.servers, tokens));
        let mut answers = asking::ask(&self.servers, commands).await?;
        let (record, now) = (answers.next()?, now(answers.next()?)?);
        let proof = answers.tokens(tokens.len())?.map(|observed| Proof::of(record.era, &observed));
        Ok((Look { record, epoch: None, now }, proof))
    }

    /// What a record says that was looked at, if what covers it is what covered it then; with all that it was kept in.
    pub(super) async fn opened(
        &self,
        key: &Key,
        name: &Name,
        Look { record: Answer { value, era }, now, .. }: Look,
        proof: Option<Proof>,
    ) -> Result<Option<(Found, Bytes, Envelope)>, StoreError> {
        let Value::BulkString(bytes) = value else { return Ok(None) };
        let bytes = Bytes::from(bytes);
        let envelope = Envelope::read(&bytes, name, &self.seal);
        let Some(envelope) = envelope.filter(|envelope| proof == Some(envelope.proof)) else { return Ok(None) };
        let tags = self.tokens(&tokens::of_tags(key, envelope.tags.iter()));
        if !tags.is_empty() {
            let mut answers = asking::ask(&self.servers, asking::read(&self.servers, &tags)).await?;
            let observed = answers.tokens(tags.len())?;
            if observed.map(|observed| Proof::of(era, &observed)) != Some(envelope.proof_of_tags) {
                return Ok(None);
            }
        }
        let age = Duration::from_micros(now.saturating_sub(envelope.claimed));
        Ok(Some((Found { bytes: envelope.record.clone(), age }, bytes, envelope)))
    }

    fn tokens(&self, tokens: &[tokens::Token<'_>]) -> Vec<Name> {
        tokens.iter().map(|token| self.names.token(token)).collect()
    }
}

/// As many at a time as may be asked for in one go.
fn in_batches<A>(all: Vec<Asked<Arc<Record>, A>>) -> Vec<Vec<Asked<Arc<Record>, A>>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut length = usize::MAX;
    for asked in all {
        length = length.saturating_add(asked.question.length);
        match batches.last_mut().filter(|batch| batch.len() < MOST && length <= LONGEST) {
            Some(batch) => batch.push(asked),
            None => {
                length = asked.question.length;
                batches.push(vec![asked]);
            }
        }
    }
    batches
}

/// Reads several values in one step.
fn all_of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Cmd {
    let mut command = redis::cmd("MGET");
    for name in names {
        command.arg(name);
    }
    command
}

fn time(name: &Name) -> Addressed {
    plain(name, redis::cmd("TIME"))
}

fn now(answer: Answer) -> Result<u64, StoreError> {
    let Value::Array(time) = answer.value else { return Err(odd()) };
    let [seconds, micros] = time.as_slice() else { return Err(odd()) };
    moment(seconds, micros)
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering::Relaxed},
            mpsc,
        },
        thread,
    };

    use tokio::runtime::Builder;

    use super::*;
    use crate::store::redis::{
        tests::{LONG, Scripted, config, servers},
        vouched::{Epoch, tests::record},
    };

    const NULL: &str = "_\r\n";

    /// What a server answers where nothing is stored.
    fn nothing(words: &str) -> Option<String> {
        let (word, names) = words.split_once(' ').unwrap_or((words, ""));
        match word {
            "TIME" => Some("*2\r\n$1\r\n1\r\n$1\r\n1\r\n".to_owned()),
            "MGET" => {
                Some(format!("*{}\r\n", names.split(' ').count()) + &names.split(' ').map(|_| NULL).collect::<String>())
            }
            _ => None,
        }
    }

    /// Over a connection, and a record that is vouched for.
    async fn knowing(server: &Scripted) -> (Arc<Reading>, Course) {
        let (servers, _notes) = servers(config(&server.url()));
        servers.connect().await.expect("a connection");
        let reading = Arc::new(Reading::new(Arc::new(servers), Names::new("cacheback"), Seal::default()));
        let known = Course { key: Key::from("known"), variant: None };
        let vouched = reading.vouched.as_ref().expect("it is no cluster");
        vouched.saw(Some(Epoch::MIN));
        vouched.vouch(&known, record(reading.names.record(&known)));
        (reading, known)
    }

    /// What two who read one record are told, which is vouched for, and one who reads another one; and how often the server
    /// is asked for values.
    async fn told(
        answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> (Vec<Result<Option<Found>, StoreError>>, usize) {
        let server = Scripted::start(answers);
        let (reading, known) = knowing(&server).await;
        let other = Course { key: Key::from("other"), variant: None };
        let told = together([&known, &known, &other].map(|course| reading.fetch(course))).await;
        (told, server.asked().iter().filter(|words| words.starts_with("MGET")).count())
    }

    #[tokio::test] // P64, P74
    async fn what_is_no_answer_to_what_was_asked_is_an_error_for_all_who_asked_it() {
        let (found, asked) = told(nothing).await;
        assert!(found.iter().all(|found| matches!(found, Ok(None))) && asked == 2, "{found:?}, {asked}");
        let five = format!("*5\r\n{}", NULL.repeat(5));
        for odd in ["*0\r\n", "*1\r\n_\r\n", &five, NULL, "+OK\r\n", ":1\r\n", "-ERR no\r\n"] {
            for question in ["MGET", "TIME"] {
                let odd = odd.to_owned();
                let answer = move |words: &str| words.starts_with(question).then(|| odd.clone());
                let (told, asked) = told(move |words| answer(words).or_else(|| nothing(words))).await;
                // Nobody asks once more for himself.
                assert!(told.iter().all(Result::is_err) && asked == 2, "{question}: {told:?}, {asked}");
            }
        }
    }

    #[test] // P74
    fn whoever_waits_for_what_a_runtime_asks_that_ends_waits_no_longer() {
        let (tell, is_asked) = mpsc::channel();
        let is_answered = AtomicBool::new(false);
        let server = Scripted::start(move |words| {
            if words.starts_with("MGET") && !is_answered.swap(true, Relaxed) {
                tell.send(()).unwrap();
                loop {
                    thread::park();
                }
            }
            nothing(words)
        });
        let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let (reading, known) = first.block_on(knowing(&server));
        let reader = second.spawn(async move { reading.fetch(&known).await });
        is_asked.recv().unwrap();
        drop(first);
        let told = second.block_on(clock::timeout(LONG, reader)).expect("it has an end").unwrap();
        assert!(matches!(told, Ok(None) | Err(_)), "{told:?}");
    }
}
