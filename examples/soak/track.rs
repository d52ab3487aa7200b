//! Which runs of one page go on at one time.
//!
//! Two runs of a key that both come to their end were together without need, unless something sets the later one free:
//! whatever is done to the page by hand lets nobody join the run that is under way. A run that nobody wants any more is
//! dropped, and counts for nothing: the next one may begin a moment before it is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The runs of one page and variant.
#[derive(Default)]
pub(crate) struct Track(Mutex<Vec<Going>>);

struct Going {
    number: u64,
    /// What was begun by hand when the run began, and what was done when its request was sent.
    begun: u64,
    done: u64,
    /// Others that were under way with it and have ended: whether that was excused.
    together: Vec<bool>,
}

/// A run under way. Dropped before it is complete, it was given up.
pub(crate) struct Running {
    track: Arc<Track>,
    number: u64,
}

impl Track {
    pub(crate) fn begin(self: &Arc<Self>, number: u64, begun: u64, done: u64) -> Running {
        self.lock().push(Going { number, begun, done, together: Vec::new() });
        Running { track: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Going>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The run has come to its end: of each one that came to its end while this one was under way, whether that was
    /// excused.
    pub(crate) fn complete(self) -> Vec<bool> {
        let mut going = self.track.lock();
        let Some(own) = going.iter().position(|run| run.number == self.number) else { return Vec::new() };
        let own = going.remove(own);
        for other in going.iter_mut() {
            // The one that began first here may be the one that was to begin last: threads overtake one another.
            let excused = own.begun.max(other.begun) > own.done.min(other.done);
            other.together.push(excused);
        }
        own.together
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.track.lock().retain(|run| run.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_at_one_time_are_told_of_once_and_by_the_one_that_ends_last() {
        let track = Arc::<Track>::default();
        let (first, second) = (track.begin(1, 0, 0), track.begin(2, 0, 0));
        assert!(first.complete().is_empty());
        assert_eq!(second.complete(), [false]);
        assert!(track.begin(3, 0, 0).complete().is_empty(), "the third came when they were gone");
    }

    #[test]
    fn what_was_begun_by_hand_since_a_request_was_sent_excuses_a_second_run() {
        let track = Arc::<Track>::default();
        let (first, second) = (track.begin(1, 4, 4), track.begin(2, 5, 4));
        first.complete();
        assert_eq!(second.complete(), [true]);
    }

    #[test]
    fn a_run_that_was_given_up_was_together_with_nobody() {
        let track = Arc::<Track>::default();
        let (first, second) = (track.begin(1, 0, 0), track.begin(2, 0, 0));
        drop(first);
        assert!(second.complete().is_empty());
        assert!(track.lock().is_empty(), "and is forgotten");
    }
}
