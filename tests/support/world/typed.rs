//! A typed layer, whose responses take their time to be cloned and to be dropped.

use std::panic::resume_unwind;

use cacheback::{Cache, CachebackLayer, Key, Scope};
use tower::{Layer, Service, service_fn};

use super::{Answering, Call, Failed, Layered, Reply, freshness, midst, now_or_never, set, tape::Tape};
use crate::support::model::{Answer, End, Reach, Rules};

/// The number of its run.
pub(super) struct Value(usize);

pub(super) fn layer(rules: Rules, tape: &Tape) -> Layered<Value> {
    let cache = Cache::builder().max_refreshes(rules.refreshes).build_for::<Value>();
    let layer = CachebackLayer::typed::<Call, Value>(|call| key(call.key)).over_cache(&cache);
    let layer = set(layer.freshness(freshness(rules)), rules);
    let tape = tape.clone();
    let service = layer.layer(service_fn(move |call: Call| {
        let (under_way, told) = tape.call(call.ask, false);
        async move {
            let (answer, _) = told.await.expect("its gate is kept");
            let run = under_way.run;
            under_way.end();
            match answer {
                Answer::Fail => Err(Failed(run)),
                Answer::Panic => resume_unwind(Box::new(run)),
                _ => Ok(Value(run)),
            }
        }
    }));
    let purged = cache.clone();
    Layered {
        cache,
        call: Box::new(move |call| {
            let answer = if call.forced { service.refresh(call) } else { service.clone().call(call) };
            Box::pin(async move {
                let run = answer.await?.0;
                Ok(Reply { run, stale: None, rest: Box::pin(std::future::ready(End::Whole)) })
            }) as Answering
        }),
        post: Box::new(move |named| now_or_never(purged.purge(key(named))).is_some()),
        put: Box::new(move |call, _, run| now_or_never(layer.put(call, Value(run))).is_some_and(|put| put.is_ok())),
        scopes,
    }
}

fn key(key: usize) -> Key {
    Key::from(key.to_string())
}

fn scopes(reach: Reach) -> Vec<Scope> {
    match reach {
        Reach::Key(named) | Reach::Path(named) => vec![key(named).into()],
        Reach::Below(parent) => vec![key(2 * parent).into(), key(2 * parent + 1).into()],
        Reach::Tag(tag) => vec![Scope::tag(tag.to_string())],
        Reach::Namespace(_) => vec![Scope::namespace("own")],
        Reach::Everything => vec![Scope::everything()],
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        midst();
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        midst();
    }
}
