//! A hit, over and over: fresh, or stale while a refresh is under way.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::{
    cases::{self, Call},
    contenders::{self, Answers, Life, Visitor},
    origin::{Manner, Origin},
};

/// A case that is called as often as one likes.
pub struct Hit {
    /// Answers one request and reads the response to its end.
    pub call: Call,
    origin: Origin,
    runs: usize,
}

impl Hit {
    /// Whether the handler has not been asked since the case was made, which is what a hit is.
    #[must_use]
    pub fn was_one(&self) -> bool {
        self.origin.runs() == self.runs
    }
}

/// Makes and drops the request: what is to be taken off the others.
#[must_use]
pub fn harness() -> Call {
    Box::new(|| drop(std::hint::black_box(cases::request::<axum::body::Body>())))
}

/// A fresh hit on a body of so many bytes; of the bare handler, a call.
#[must_use]
pub fn fresh(name: &str, body: usize, runtime: &Runtime) -> Hit {
    let origin = Origin::new(body, Manner::AtOnce);
    let fill = Fill { origin: origin.clone(), life: Life::Fresh, runtime };
    let call = contenders::meet(name, origin.handler(), Life::Fresh, fill);
    Hit { call, runs: origin.runs(), origin }
}

/// A stale hit of a reader who starts no refresh, as one is under way for ever.
#[must_use]
pub fn stale(name: &str, body: usize, runtime: &Runtime) -> Hit {
    let origin = Origin::new(body, Manner::OnceOnly);
    let fill = Fill { origin: origin.clone(), life: Life::Stale, runtime };
    let call = contenders::meet(name, origin.handler(), Life::Stale, fill);
    Hit { call, runs: origin.runs(), origin }
}

/// Brings a cache to where it hits.
struct Fill<'a> {
    origin: Origin,
    life: Life,
    /// Driven here and never again: what is under way stays so.
    runtime: &'a Runtime,
}

impl Visitor for Fill<'_> {
    type Output = Call;

    fn visit<S: Answers>(self, mut service: S) -> Call {
        let refreshing = self.runtime.block_on(async {
            let _first = service.call(cases::request()).await;
            // Some store behind the response's back, and some are stale only after a tick.
            tokio::time::sleep(Duration::from_millis(20)).await;
            match self.life {
                Life::Fresh => None,
                Life::Stale => {
                    // Where the reader itself is the refresh, its call does not come back; else a task behind it is.
                    let mut leader = Box::pin(service.call(cases::request()));
                    for _ in 0..100 {
                        let _over = tokio::time::timeout(Duration::from_millis(1), &mut leader).await;
                        if self.origin.runs() == 2 {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        leader = Box::pin(service.call(cases::request()));
                    }
                    assert_eq!(self.origin.runs(), 2, "a refresh is under way");
                    Some(leader)
                }
            }
        });
        Box::new(move || {
            let _under_way = &refreshing;
            let Ok(response) = cases::ready(service.call(cases::request())) else { panic!("nothing fails") };
            cases::read(response);
        })
    }
}
