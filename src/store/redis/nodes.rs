//! The masters that we are connected to, and which of them a key is for.

use std::{collections::BTreeMap, sync::Arc};

use redis::{ServerError, ServerErrorKind, Value};

use super::{
    cluster::{Redirect, Table, slot},
    config::Config,
    link::{Ears, How, Link},
    masters::{self, Masters, together},
    servers::{Addressed, Answer},
};
use crate::store::StoreError;

/// How often a command is sent, at most: it moves on once, or twice while slots move, and a script may be unknown there.
const ROUNDS: usize = 4;

/// All of them.
pub(super) struct Nodes {
    links: Vec<Arc<Link>>,
    /// In a cluster.
    table: Option<Table>,
}

/// What became of commands.
pub(super) struct Asked {
    pub(super) answers: Vec<Result<Answer, ServerError>>,
    /// Slots are no longer where they were.
    pub(super) moved: bool,
}

/// A command that is to be sent, and by which link.
#[derive(Clone, Copy)]
struct Sending {
    at: usize,
    link: usize,
    how: How,
}

impl Nodes {
    /// Finds the masters and connects to them; to those of before only where the connection is no more.
    pub(super) async fn make(config: &Config, before: Option<&Self>, ears: Arc<dyn Ears>) -> Result<Self, StoreError> {
        let before = before.map_or(&[][..], |nodes| &nodes.links);
        let known = before.iter().map(|link| link.info.clone()).collect::<Vec<_>>();
        let Masters { infos, table } = masters::find(&config.place, &known).await?;
        let links = together(infos.iter().map(|info| async {
            let name = info.addr().to_string();
            match before.iter().find(|link| link.name == name && !link.is_lost()) {
                Some(link) => Ok(Arc::clone(link)),
                None => Link::make(info, config, Arc::clone(&ears)).await.map(Arc::new),
            }
        }));
        Ok(Self { links: links.await.into_iter().collect::<Result<_, _>>()?, table })
    }

    /// Whether there is a connection here that was not among those of before.
    pub(super) fn is_newer_than(&self, before: &Self) -> bool {
        !self.links.iter().all(|link| before.links.iter().any(|other| Arc::ptr_eq(link, other)))
    }

    /// Whether a connection is no more.
    pub(super) fn is_lost(&self) -> bool {
        self.links.iter().any(|link| link.is_lost())
    }

    /// All are to be made again.
    pub(super) fn leave(&self) {
        self.links.iter().for_each(|link| link.leave());
    }

    /// Whether all are what they were, and answer.
    pub(super) async fn beat(&self, config: &Config) -> Result<(), StoreError> {
        together(self.links.iter().map(|link| link.beat(config))).await.into_iter().collect()
    }

    /// Sends commands, in one go to each node, and follows those that are elsewhere by now.
    pub(super) async fn ask(&self, commands: &[Addressed]) -> Result<Asked, StoreError> {
        let mut answers = commands.iter().map(|_| None).collect::<Vec<_>>();
        let mut moved = false;
        let first = commands.iter().enumerate().map(|(at, command)| {
            // Of a slot that is nobody's as far as we know any node knows more.
            let link = self.table.as_ref().and_then(|table| table.owner(slot(&command.key))).unwrap_or(0);
            Sending { at, link, how: How::default() }
        });
        let mut open = first.collect::<Vec<_>>();
        for _ in 0..ROUNDS {
            let mut by_link = BTreeMap::<usize, Vec<Sending>>::new();
            open.drain(..).for_each(|sending| by_link.entry(sending.link).or_default().push(sending));
            if by_link.is_empty() {
                break;
            }
            let sent = together(by_link.into_iter().filter_map(|(at, sendings)| {
                let link = self.links.get(at)?;
                Some(async move {
                    let parts = sendings.iter().map(|sending| (&commands[sending.at].command, sending.how));
                    let values = link.send(&parts.collect::<Vec<_>>()).await?;
                    Ok::<_, StoreError>((link, sendings, values))
                })
            }));
            for sent in sent.await {
                let (link, sendings, values) = sent?;
                for (sending, value) in sendings.into_iter().zip(values) {
                    answers[sending.at] = Some(match value {
                        Value::ServerError(error) => {
                            moved |= error.kind() == Some(ServerErrorKind::Moved);
                            link.consider(&error);
                            open.extend(self.again(sending, &error));
                            Err(error)
                        }
                        value => Ok(Answer { value, era: link.era }),
                    });
                }
            }
            // Those of one node are sent in the order in which they were given.
            open.sort_unstable_by_key(|sending| sending.at);
        }
        let answers = answers.into_iter().collect::<Option<_>>();
        Ok(Asked { answers: answers.ok_or_else(|| StoreError("a command went nowhere".into()))?, moved })
    }

    /// How a command is sent once more, if this answer says that it would be answered then.
    fn again(&self, sending: Sending, error: &ServerError) -> Option<Sending> {
        if error.kind() == Some(ServerErrorKind::NoScript) {
            return Some(Sending { how: How { whole: true, ..sending.how }, ..sending });
        }
        let redirect = Redirect::read(error)?;
        let name = redirect.to.beside(&self.links.get(sending.link)?.name);
        let link = self.links.iter().position(|link| link.name == name)?;
        Some(Sending { link, how: How { asking: redirect.is_moving, ..sending.how }, ..sending })
    }
}
