//! Where the masters are: where we were told, where the sentinels say, or where the nodes of a cluster say.

use std::{future::poll_fn, task::Poll, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, Value};

use super::{
    cluster::{Address, Table},
    config::{Place, elsewhere},
    link,
};
use crate::{clock, store::StoreError};

/// How long anybody may take to say where the masters are: others are asked at the same time.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many nodes of a cluster are asked for it.
const ASKED: usize = 8;

/// The masters; in a cluster, which slots are whose.
pub(super) struct Masters {
    pub(super) infos: Vec<ConnectionInfo>,
    pub(super) table: Option<Table>,
}

/// Finds them. `known` are those of before: they may know it better than those that we were told of at first.
pub(super) async fn find(place: &Place, known: &[ConnectionInfo]) -> Result<Masters, StoreError> {
    match place {
        Place::One(info) => Ok(Masters { infos: vec![info.clone()], table: None }),
        Place::Sentinel { sentinels, name, server } => {
            let question = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).take();
            let address = most_say(sentinels, &question, |answer, _| {
                let Value::Array(parts) = answer else { return None };
                let [Value::BulkString(host), Value::BulkString(port)] = parts.as_slice() else { return None };
                let port = str::from_utf8(port).ok()?.parse().ok()?;
                Some(Address { host: String::from_utf8(host.clone()).ok()?, port })
            });
            let address = address.await?;
            Ok(Masters { infos: vec![elsewhere(server, &address.host, address.port)], table: None })
        }
        Place::Cluster(nodes) => {
            let asked = known.iter().chain(nodes).take(ASKED.max(nodes.len())).cloned().collect::<Vec<_>>();
            let question = redis::cmd("CLUSTER").arg("SLOTS").take();
            let table = most_say(&asked, &question, |answer, info| {
                let mut table = Table::read(answer)?;
                if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = info.addr() {
                    let here = table.masters.iter_mut().filter(|master| master.host.is_empty());
                    here.for_each(|master| master.host.clone_from(host));
                }
                (!table.masters.is_empty()).then_some(table)
            });
            let table = table.await?;
            let first = nodes.first().ok_or_else(|| StoreError("no node of the cluster is known".into()))?;
            let infos = table.masters.iter().map(|master| elsewhere(first, &master.host, master.port)).collect();
            Ok(Masters { infos, table: Some(table) })
        }
    }
}

/// What most of these say: one who was cut off from the others may still say what was true before.
async fn most_say<T: PartialEq>(
    asked: &[ConnectionInfo],
    question: &redis::Cmd,
    read: impl Fn(&Value, &ConnectionInfo) -> Option<T>,
) -> Result<T, StoreError> {
    let answers = together(asked.iter().map(|info| clock::timeout(PATIENCE, link::query(info, question)))).await;
    let mut failure = "none of those who know the masters answered in time".to_owned();
    let mut said: Vec<(T, usize)> = Vec::new();
    for (answer, info) in answers.into_iter().zip(asked) {
        match answer {
            Some(Ok(answer)) => match read(&answer, info) {
                None => failure = format!("{} does not know the masters", info.addr()),
                Some(it) => match said.iter_mut().find(|(other, _)| *other == it) {
                    Some((_, count)) => *count += 1,
                    None => said.push((it, 1)),
                },
            },
            Some(Err(error)) => failure = error.to_string(),
            None => {}
        }
    }
    // Of those that are said as often the first one: hence the reversal.
    said.into_iter().rev().max_by_key(|(_, count)| *count).map(|(it, _)| it).ok_or(StoreError(failure))
}

/// What all of these give, side by side.
pub(super) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all = futures.into_iter().map(|future| (Box::pin(future), None)).collect::<Vec<_>>();
    poll_fn(|cx| {
        for (future, output) in all.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        if all.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}
