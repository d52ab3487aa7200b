//! Models: the code that threads share, run in every order of its steps.
//!
//! The locks, atomics and tasks of `sync` are those of loom here (see `stand_ins`). It runs a model again and again, and
//! each time lets the threads take their steps in another order, until none is left that could make a difference, or none
//! with so few preemptions (see [`with_preemptions`]). A thread that nobody wakes any more is a deadlock and fails it.
//!
//! The engine of the memory tier has locks of its own, and never calls code that takes another lock: each of its
//! operations is one step. tokio's channel to the one who leads, its `Notify`, and what is only counted or a hint take no
//! steps of their own: they happen together with what comes before them. `Arc` is that of `std`. All keys share one lock
//! of each kind.
//!
//! They run by themselves, built with `--cfg cacheback_model` (see tests/all.sh): outside of a model such a lock panics.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use loom::{
    model::Builder,
    sync::{
        Notify,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use crate::{
    clock,
    entry::Course,
    entry::{Early, Entry, Generation},
    flight::{Landed, Landing, Lead},
    freshness::Freshness,
    judgement::Judgement,
    key::Key,
    tags::Tags,
};

mod flight;
mod gathering;
mod invalidation;
mod permits;
mod service;
pub(crate) mod stand_ins;

/// Runs a model in every order that could make a difference.
fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    run(None, model);
}

/// Runs a model in all orders in which no more than so many threads are stopped where they could have gone on. There are
/// too many others; what goes wrong in one of those nearly always does so with two or three.
fn with_preemptions(most: usize, model: impl Fn() + Send + Sync + 'static) {
    run(Some(most), model);
}

/// `LOOM_MAX_PREEMPTIONS` sets another bound for all models.
fn run(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    // Time is tokio's, and stands still unless a model moves it on.
    let time = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("it needs nothing");
    let _time = time.enter();
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check(model);
}

/// Waits for a future as a task does: it is polled when it is woken, and may be polled once for no reason.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Task(Notify);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }
    let task = Arc::new(Task(Notify::new()));
    let waker = Waker::from(Arc::clone(&task));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        task.0.wait();
    }
}

/// Polls as a task that is not the one which waits in the end.
fn poll_elsewhere<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn course(key: &str) -> Course {
    Course { key: Key::from(key), variant: None }
}

/// What a run has made.
fn entry(lead: &Lead<()>, tags: Tags) -> Arc<Entry<()>> {
    let mut judged = Judgement::storable(Freshness::from(Duration::from_secs(60)));
    judged.tags = tags;
    let (started, early) = (clock::now(), Early::default());
    Arc::new(Entry {
        value: (),
        started,
        run: lead.number(),
        early,
        judged,
        variant: None,
        weight: 1,
        generation: Generation::default(),
        refreshing: Default::default(),
    })
}
