//! What is said on one node of a cluster is heard from all of them: which of it is an echo.
//!
//! All of them are listened to, because what passes from node to node may be lost on its way: the node on which something
//! was invalidated tells it for certain. The same may be said twice; then each tells it twice.

use std::{collections::HashMap, time::Duration};

use crate::clock::{self, Instant};

/// How long after the first one others may tell the same.
const LATE: Duration = Duration::from_secs(2);
/// So many messages are remembered before those that are over are looked for.
const MANY: usize = 1_024;

/// What was heard lately.
#[derive(Debug)]
pub(super) struct Echoes {
    heard: HashMap<Vec<u8>, Heard>,
    /// At so many those that are over are looked for.
    looked_for_at: usize,
}

impl Default for Echoes {
    fn default() -> Self {
        Self { heard: HashMap::new(), looked_for_at: MANY }
    }
}

#[derive(Debug)]
struct Heard {
    first: Instant,
    /// How often it was said.
    said: usize,
    /// How often each node has told it.
    told: HashMap<u64, usize>,
}

impl Heard {
    fn is_over(&self) -> bool {
        clock::now().saturating_duration_since(self.first) >= LATE
    }
}

impl Echoes {
    /// Whether others have told this already as often as this one does.
    pub(super) fn is_echo(&mut self, by: u64, message: &[u8]) -> bool {
        if self.heard.len() >= self.looked_for_at || self.heard.get(message).is_some_and(Heard::is_over) {
            self.heard.retain(|_, heard| !heard.is_over());
            // Not with each message, where so many are heard that none of them is over.
            self.looked_for_at = MANY.max(self.heard.len() * 2);
        }
        let first = || Heard { first: clock::now(), said: 0, told: HashMap::new() };
        let heard = self.heard.entry(message.into()).or_insert_with(first);
        let told = heard.told.entry(by).or_default();
        *told += 1;
        let is_echo = *told <= heard.said;
        heard.said = heard.said.max(*told);
        is_echo
    }
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_said_is_heard_as_often_as_it_is_said() {
        let mut echoes = Echoes::default();
        let mut heard = |by, message: &str| !echoes.is_echo(by, message.as_bytes());
        assert!(heard(1, "a"));
        assert!(!heard(2, "a"));
        assert!(heard(3, "b"));
        assert!(!heard(3, "a"));
        // Said again, and now another one is first.
        assert!(heard(2, "a"));
        assert!(!heard(1, "a"));
        assert!(!heard(1, "b"));
        // One node says it twice before another has told it once.
        assert!(heard(2, "c"));
        assert!(heard(2, "c"));
        assert!(!heard(1, "c"));
        assert!(!heard(1, "c"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_is_no_echo() {
        let mut echoes = Echoes::default();
        assert!(!echoes.is_echo(1, b"a"));
        clock::sleep(LATE).await;
        assert!(!echoes.is_echo(2, b"a"));
        assert!(echoes.is_echo(1, b"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let mut echoes = Echoes::default();
        let mut hear = |many: usize| {
            (0..many).for_each(|number| _ = echoes.is_echo(1, &number.to_be_bytes()));
            echoes.heard.len()
        };
        assert_eq!(hear(MANY), MANY);
        clock::sleep(LATE).await;
        assert_eq!(hear(1), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn among_many_at_once_those_that_are_over_are_seldom_looked_for() {
        let mut echoes = Echoes::default();
        let mut looked = Vec::new();
        for number in 0..64 * MANY {
            _ = echoes.is_echo(1, &number.to_be_bytes());
            looked.push(echoes.looked_for_at);
        }
        looked.dedup();
        assert_eq!(looked.len(), 7, "{looked:?}");
        clock::sleep(LATE).await;
        (0..=64 * MANY).for_each(|number| _ = echoes.is_echo(2, &(number + 64 * MANY).to_be_bytes()));
        assert!(echoes.heard.len() <= 64 * MANY + 1);
    }
}
