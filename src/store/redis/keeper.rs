//! The task that sees to it that there are connections: it makes them, one attempt at a time, finds out whether they still
//! work, says how things stand, and runs errands.
//!
//! It lives on the runtime of whoever asked first, as long as that runtime does; then on that of whoever asks next.

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    link::Ears,
    nodes::Nodes,
    post::{Post, Presence},
};
use crate::{
    clock::{self, Instant},
    store::StoreError,
};

/// How long finding the servers and connecting to them may take.
const CONNECTING: Duration = Duration::from_secs(2);
/// How often they are asked whether they are still there, at least.
const BEAT: Duration = Duration::from_millis(500);
/// How long a connection is kept over which no answer comes.
const SILENCE: Duration = Duration::from_secs(2);
/// How often errands are run.
const ERRANDS: Duration = Duration::from_secs(1);
/// How long it takes before trouble counts as new, and not as the same as before.
const CALM: Duration = Duration::from_secs(10);

/// Keeps the connections. Ended from outside, once nobody needs them.
pub(super) async fn keep(presence: Presence) {
    let post = &presence.post;
    let mut keeper = Keeper { post, verified: clock::now(), pause: Pause::default(), rested: clock::now() };
    let mut before = None;
    loop {
        let made = Nodes::make(&post.config, before.as_deref(), Arc::clone(post) as Arc<dyn Ears>);
        let made = keeper.meanwhile(CONNECTING, made).await;
        let why = match made.unwrap_or_else(|| Err(StoreError("no connection to Redis in time".into()))) {
            Err(why) => why,
            Ok(made) => {
                // Whoever is still connected and of no use any more is not listened to beside the others.
                drop(before.take());
                let mut nodes = Arc::new(made);
                keeper.verified = clock::now();
                post.up(&nodes);
                let why = keeper.tend(&mut nodes).await;
                before = Some(nodes);
                why
            }
        };
        post.down(&why);
        keeper.rest().await;
    }
}

struct Keeper<'a> {
    post: &'a Arc<Post>,
    /// Until then all messages are known to have been heard.
    verified: Instant,
    pause: Pause,
    /// When there was trouble last.
    rested: Instant,
}

impl Keeper<'_> {
    /// Looks after the connections until one is lost; gives the reason.
    async fn tend(&mut self, nodes: &mut Arc<Nodes>) -> StoreError {
        let post = self.post;
        let every = BEAT.min(post.config.max_unverified / 2);
        let mut heard = clock::now();
        let (mut beat_at, mut errands_at) = (heard + every, heard + ERRANDS);
        // The last question has no answer: the next one follows at once, for that is as long as the patience later.
        let mut is_silent = false;
        loop {
            let wait = beat_at.min(errands_at).saturating_duration_since(clock::now());
            self.meanwhile(wait, post.alarm.notified()).await;
            if nodes.is_lost() {
                return StoreError("the connection to Redis is lost".into());
            }
            if post.standing.is_down() && !is_silent {
                self.rest().await;
            }
            if post.standing.is_down() || clock::now() >= beat_at {
                let asked = clock::now();
                match self.meanwhile(post.config.patience, nodes.beat(&post.config)).await {
                    Some(Ok(())) => {
                        (heard, self.verified, beat_at, is_silent) = (asked, asked, asked + every, false);
                        post.standing.set_down(false);
                        if post.has_moved.swap(false, Relaxed) {
                            self.follow(nodes).await;
                        }
                    }
                    Some(Err(why)) => return why,
                    None if asked.saturating_duration_since(heard) >= SILENCE => {
                        nodes.leave();
                        return StoreError("Redis does not answer".into());
                    }
                    None => {
                        (beat_at, is_silent) = (asked, true);
                        post.set_down();
                    }
                }
            }
            let is_due = post.is_due.swap(false, Relaxed) || clock::now() >= errands_at;
            if is_due && !post.standing.is_down() {
                errands_at = clock::now() + ERRANDS;
                self.run_errands(nodes).await;
            }
        }
    }

    async fn run_errands(&mut self, nodes: &Nodes) {
        let post = self.post;
        let due = post.errands.upgrade().map(|errands| errands.due()).unwrap_or_default();
        if !due.is_empty() && !matches!(self.meanwhile(post.config.patience, nodes.ask(&due)).await, Some(Ok(_))) {
            post.trip();
        }
    }

    /// Finds out where slots have moved to. What is connected stays so.
    async fn follow(&mut self, nodes: &mut Arc<Nodes>) {
        let made = Nodes::make(&self.post.config, Some(&**nodes), Arc::clone(self.post) as Arc<dyn Ears>);
        if let Some(Ok(made)) = self.meanwhile(CONNECTING, made).await {
            if made.is_newer_than(nodes) {
                self.post.standing.gap();
            }
            *nodes = Arc::new(made);
            self.post.route(nodes);
        }
    }

    /// Waits after trouble: longer each time, until there was none for a while.
    async fn rest(&mut self) {
        if clock::now().saturating_duration_since(self.rested) >= CALM {
            self.pause = Pause::default();
        }
        let pause = self.pause.next();
        self.meanwhile(pause, pending::<()>()).await;
        self.rested = clock::now();
    }

    /// What a future gives in time. Meanwhile the generation grows whenever messages may have been missed for too long.
    async fn meanwhile<F: Future>(&mut self, time: Duration, future: F) -> Option<F::Output> {
        let (mut future, until) = (pin!(future), clock::after(clock::now(), time));
        loop {
            let now = clock::now();
            let lapses = clock::after(self.verified, self.post.config.max_unverified);
            if now >= lapses {
                self.post.standing.gap();
                self.verified = now;
                continue;
            }
            let wait = until.min(lapses).saturating_duration_since(now);
            if let Some(output) = clock::timeout(wait, future.as_mut()).await {
                return Some(output);
            }
            if clock::now() >= until {
                return None;
            }
        }
    }
}

/// How long to wait: 100 ms, then twice as long each time up to a second; a little less or more, so that instances which
/// have lost their server at the same time do not come back at the same time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_secs(1));
        pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second_and_differ() {
        let pauses = || {
            let mut pause = Pause::default();
            [100, 200, 400, 800, 1_000, 1_000].map(|millis| (pause.next().as_secs_f64() * 1_000.0, f64::from(millis)))
        };
        assert!(pauses().iter().all(|(pause, expected)| (expected * 0.75..=expected * 1.25).contains(pause)));
        assert_ne!(pauses(), pauses());
    }
}
