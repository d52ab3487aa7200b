//! What is asked, and how answers are read: whatever a server says that is not what was asked for is an error, and no
//! panic.

use std::time::Duration;

use redis::{Cmd, Value};

use super::{
    names::Name,
    proof::Observed,
    random::random,
    scripts,
    servers::{Addressed, Answer, Command, Era, Script, Servers},
};
use crate::store::StoreError;

/// The answers to what was asked in one go, in their order.
pub(super) struct Answers(std::vec::IntoIter<Answer>);

/// Asks in one go. What is refused fails all of it.
pub(super) async fn ask(servers: &Servers, commands: Vec<Addressed>) -> Result<Answers, StoreError> {
    Answers::of(servers.ask(commands).await?.into_iter())
}

impl Answers {
    /// These, if none was refused.
    pub(super) fn of(answers: impl Iterator<Item = Result<Answer, StoreError>>) -> Result<Self, StoreError> {
        Ok(Self(answers.collect::<Result<Vec<_>, _>>()?.into_iter()))
    }

    pub(super) fn next(&mut self) -> Result<Answer, StoreError> {
        self.0.next().ok_or_else(odd)
    }

    /// All are numbers: that is what scripts give that only do something.
    pub(super) fn done(mut self) -> Result<(), StoreError> {
        self.0.all(|answer| matches!(answer.value, Value::Int(_))).then_some(()).ok_or_else(odd)
    }

    /// So many tokens, if all are there.
    pub(super) fn tokens(&mut self, count: usize) -> Result<Option<Vec<Observed>>, StoreError> {
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let Answer { value, era } = self.next()?;
            let values = if let Value::Array(values) = value { values } else { vec![value] };
            tokens.extend(values.iter().map(|value| observed(value, era)));
        }
        Ok(tokens.into_iter().collect())
    }
}

/// A token, if it is there.
pub(super) fn observed(value: &Value, era: Era) -> Option<Observed> {
    let Value::BulkString(value) = value else { return None };
    value.as_slice().try_into().ok().map(|value| Observed { era, value })
}

/// Reads tokens: in a cluster each where it is.
pub(super) fn read(servers: &Servers, tokens: &[Name]) -> Vec<Addressed> {
    grouped(servers, tokens).map(|names| plain(&names[0], redis::cmd("MGET").arg(names).take())).collect()
}

/// Reads tokens, makes those that are not there, and sees to it that all of them last for so long.
pub(super) fn observe(servers: &Servers, tokens: &[Name], needed: Duration) -> Vec<Addressed> {
    grouped(servers, tokens).map(|names| observing(names, 1, needed)).collect()
}

/// The same of one thing that is as long as so many tokens.
pub(super) fn observing(names: &[Name], times: usize, needed: Duration) -> Addressed {
    let lasts = needed + needed / 2;
    let arguments = [random().to_vec(), number(times), millis(needed), millis(lasts)];
    script(&scripts::OBSERVE, names.to_vec(), arguments)
}

/// What may stand in one command.
fn grouped<'a>(servers: &Servers, names: &'a [Name]) -> impl Iterator<Item = &'a [Name]> + use<'a> {
    names.chunks(if servers.is_one() { names.len().max(1) } else { 1 })
}

pub(super) fn plain(key: &Name, command: Cmd) -> Addressed {
    Addressed { key: key.clone(), command: Command::Plain(command) }
}

/// A script on keys of one node.
pub(super) fn script<const N: usize>(script: &'static Script, keys: Vec<Name>, arguments: [Vec<u8>; N]) -> Addressed {
    let key = keys.first().cloned().unwrap_or_default();
    Addressed { key, command: Command::Script { script, keys, args: arguments.into() } }
}

/// A moment as `TIME` gives it, in microseconds since 1970.
pub(super) fn moment(seconds: &Value, micros: &Value) -> Result<u64, StoreError> {
    let number = |value: &Value| match value {
        Value::BulkString(text) => str::from_utf8(text).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let moment = number(seconds).zip(number(micros));
    let moment = moment.and_then(|(seconds, micros)| seconds.checked_mul(1_000_000)?.checked_add(micros));
    moment.ok_or_else(odd)
}

#[allow(clippy::needless_pass_by_value, reason = "numbers")]
pub(super) fn number(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

pub(super) fn millis(time: Duration) -> Vec<u8> {
    number(time.as_millis())
}

pub(super) fn odd() -> StoreError {
    StoreError("Redis answered something else than was asked".into())
}
