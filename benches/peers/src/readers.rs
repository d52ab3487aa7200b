//! A thousand readers of one cold key at a time, over a handler that takes 50 ms.

use std::time::{Duration, Instant};

use crate::{
    cases::{self, KIB},
    contenders::{self, Answers, Life, Visitor},
    misses::read,
    origin::{Manner, Origin},
};

/// How many.
const READERS: usize = 1_000;

/// How long the handler takes.
const TIME: Duration = Duration::from_millis(50);

/// Runs of the handler, and the time after which 99 of 100 readers had the whole response.
#[must_use]
pub fn of(name: &str) -> (usize, Duration) {
    let origin = Origin::new(KIB, Manner::After(TIME));
    let p99 = contenders::meet(name, origin.handler(), Life::Fresh, Read);
    (origin.runs(), p99)
}

struct Read;

impl Visitor for Read {
    type Output = Duration;

    fn visit<S: Answers>(self, service: S) -> Duration {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
        runtime.expect("a runtime").block_on(async move {
            let readers = (0..READERS).map(|_| {
                let mut service = service.clone();
                tokio::spawn(async move {
                    let begin = Instant::now();
                    let Ok(response) = service.call(cases::request()).await else { panic!("nothing fails") };
                    read(response).await;
                    begin.elapsed()
                })
            });
            let mut times = Vec::with_capacity(READERS);
            for reader in readers.collect::<Vec<_>>() {
                times.push(reader.await.expect("no panic"));
            }
            times.sort();
            times[READERS * 99 / 100]
        })
    }
}
