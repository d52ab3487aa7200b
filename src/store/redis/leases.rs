//! The leases that runs of this instance hold, and those who wait for leases of others.
//!
//! A lease is there as long as its run: the keeper renews those that are held, and gives back those that are over.
//! Whoever waits is woken by the message that the other run has ended; when the lease would have run out by then, had
//! nobody renewed it; and when nothing can be heard any more.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{names::CourseNames, random::random};
use crate::{
    clock::{self, Instant},
    key::Key,
    scope::Scope,
    store::Left,
};

/// How long a lease lasts if nobody renews it.
pub(super) const LASTS: Duration = Duration::from_secs(5);
/// How long it says that somebody waits: longer than he does.
pub(super) const MARKED: Duration = Duration::from_secs(10);
/// How often leases are renewed at most: errands may be due more often.
const RENEWED: Duration = Duration::from_secs(1);
/// How much longer than the lease is said to last one waits for it.
const A_LITTLE: Duration = Duration::from_millis(200);

/// All of them.
pub(super) struct Leases {
    state: Mutex<State>,
    /// Wakes the keeper.
    nudge: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// The number of the last lease, or of the last who waited.
    last: u64,
    held: HashMap<u64, Held>,
    /// Those that are to be given back, how their runs have ended, and until when that is of use to anybody.
    over: Vec<(Held, Left, Instant)>,
    waiting: HashMap<Vec<u8>, Vec<(u64, oneshot::Sender<Left>)>>,
    renewed: Option<Instant>,
}

/// What is known of a lease.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) key: Key,
    pub(super) names: CourseNames,
    pub(super) token: [u8; 8],
}

/// What the keeper has to do.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) renew: Vec<Held>,
    pub(super) release: Vec<(Held, Left)>,
}

/// The lease of a run. It is given back when this is dropped.
pub(super) struct Lease {
    leases: Weak<Leases>,
    number: u64,
    pub(super) held: Held,
}

/// Somebody who may have to wait for a lease.
pub(super) struct Waiting {
    leases: Arc<Leases>,
    number: u64,
    lease: Vec<u8>,
    left: oneshot::Receiver<Left>,
}

impl Leases {
    /// `nudge` is called when something has to be given back.
    pub(super) fn new(nudge: impl Fn() + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), nudge: Box::new(nudge) }
    }

    /// A lease that is about to be asked for: it is given back even if nobody hears that it was got.
    pub(super) fn take(self: &Arc<Self>, key: &Key, names: CourseNames) -> Lease {
        let held = Held { key: key.clone(), names, token: random() };
        let number = {
            let mut state = self.state();
            let number = state.next();
            state.held.insert(number, held.clone());
            number
        };
        Lease { leases: Arc::downgrade(self), number, held }
    }

    /// Listens for the end of a lease, from before it is known whether anybody has it.
    pub(super) fn wait(self: &Arc<Self>, lease: &[u8]) -> Waiting {
        let (tell, left) = oneshot::channel();
        let mut state = self.state();
        let number = state.next();
        state.waiting.entry(lease.to_vec()).or_default().push((number, tell));
        Waiting { leases: Arc::clone(self), number, lease: lease.to_vec(), left }
    }

    /// The lease of this name was given back.
    pub(super) fn left(&self, lease: &[u8], left: Left) {
        let told = self.state().waiting.remove(lease);
        told.into_iter().flatten().for_each(|(_, tell)| _ = tell.send(left));
    }

    /// Runs that are worth nothing after an invalidation give their leases back: others need not wait for them.
    pub(super) fn void(&self, scope: &Scope) {
        let is_voided = {
            let (mut state, until) = (self.state(), clock::after(clock::now(), LASTS));
            let voided = state.held.extract_if(|_, held| scope.matches_key(&held.key));
            let voided = voided.map(|(_, held)| (held, Left::Lost, until)).collect::<Vec<_>>();
            let is_voided = !voided.is_empty();
            state.over.extend(voided);
            is_voided
        };
        if is_voided {
            (self.nudge)();
        }
    }

    /// Nothing is heard any more: nobody waits in vain.
    pub(super) fn lose_all(&self) {
        let told = std::mem::take(&mut self.state().waiting);
        told.into_values().flatten().for_each(|(_, tell)| _ = tell.send(Left::Lost));
    }

    /// What there is to do by now.
    pub(super) fn due(&self) -> Due {
        let (mut state, now) = (self.state(), clock::now());
        let over = std::mem::take(&mut state.over).into_iter();
        let release = over.filter(|(.., until)| now < *until).map(|(held, left, _)| (held, left)).collect();
        let is_time = state.renewed.is_none_or(|at| now.saturating_duration_since(at) >= RENEWED);
        if !is_time {
            return Due { renew: Vec::new(), release };
        }
        state.renewed = Some(now);
        Due { renew: state.held.values().cloned().collect(), release }
    }

    /// All that are held, and were: nobody holds them from here on.
    pub(super) fn all(&self) -> Vec<Held> {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held).into_values();
        let over = std::mem::take(&mut state.over).into_iter().map(|(held, ..)| held);
        held.chain(over).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Lease {
    /// It is not held: it never was, or was given back.
    pub(super) fn is_gone(&self) {
        if let Some(leases) = self.leases.upgrade() {
            leases.state().held.remove(&self.number);
        }
    }

    /// It is to be given back.
    pub(super) fn give_back(&self) {
        let Some(leases) = self.leases.upgrade() else { return };
        {
            let mut state = leases.state();
            let Some(held) = state.held.remove(&self.number) else { return };
            state.over.push((held, Left::Ended, clock::after(clock::now(), LASTS)));
        }
        (leases.nudge)();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Waiting {
    /// How the lease ends that another one has for so long if it is not renewed.
    pub(super) async fn left(mut self, lasts: Duration) -> Left {
        let left = clock::timeout(lasts.saturating_add(A_LITTLE), &mut self.left).await;
        left.and_then(Result::ok).unwrap_or(Left::Lost)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.leases.state();
        let Some(waiting) = state.waiting.get_mut(&self.lease) else { return };
        waiting.retain(|(number, _)| *number != self.number);
        if waiting.is_empty() {
            state.waiting.remove(&self.lease);
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Leases").field("held", &state.held.len()).field("waiting", &state.waiting.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn names(name: &str) -> CourseNames {
        CourseNames { record: Vec::new(), lease: name.into(), mark: Vec::new() }
    }

    fn leases() -> (Arc<Leases>, Arc<AtomicUsize>) {
        let nudged = Arc::<AtomicUsize>::default();
        let counts = Arc::clone(&nudged);
        (Arc::new(Leases::new(move || _ = counts.fetch_add(1, SeqCst))), nudged)
    }

    fn counts(due: &Due) -> (usize, usize) {
        (due.renew.len(), due.release.len())
    }

    #[tokio::test(start_paused = true)] // P70
    async fn a_lease_is_renewed_while_it_is_held_and_given_back_once() {
        let (leases, nudged) = leases();
        let lease = leases.take(&Key::from("a"), names("a"));
        assert_eq!(counts(&leases.due()), (1, 0));
        assert_eq!(counts(&leases.due()), (0, 0), "just now");
        clock::sleep(RENEWED).await;
        assert_eq!(counts(&leases.due()), (1, 0));
        lease.give_back();
        drop(lease);
        assert_eq!(nudged.load(SeqCst), 1);
        clock::sleep(RENEWED).await;
        assert_eq!(counts(&leases.due()), (0, 1));
        assert_eq!(counts(&leases.due()), (0, 0));
    }

    #[tokio::test(start_paused = true)] // P70
    async fn what_was_never_got_or_has_run_out_by_itself_is_not_given_back() {
        let (leases, nudged) = leases();
        let never = leases.take(&Key::from("a"), names("a"));
        never.is_gone();
        drop(never);
        assert_eq!((nudged.load(SeqCst), counts(&leases.due())), (0, (0, 0)));
        drop(leases.take(&Key::from("a"), names("a")));
        clock::sleep(LASTS).await;
        assert_eq!((nudged.load(SeqCst), counts(&leases.due())), (1, (0, 0)));
    }

    #[tokio::test(start_paused = true)] // P27
    async fn all_are_handed_out_at_the_end_and_none_twice() {
        let (leases, nudged) = leases();
        let (held, over) = (leases.take(&Key::from("a"), names("a")), leases.take(&Key::from("b"), names("b")));
        drop(over);
        assert_eq!(leases.all().len(), 2);
        drop(held);
        assert_eq!((nudged.load(SeqCst), counts(&leases.due())), (1, (0, 0)));
    }

    #[tokio::test(start_paused = true)] // P70, P74
    async fn who_waits_is_told_by_a_message_by_time_or_by_silence() {
        let (leases, _) = leases();
        let (one, other) = (leases.wait(b"a"), leases.wait(b"b"));
        leases.left(b"a", Left::Ended);
        assert_eq!(one.left(LASTS).await, Left::Ended);
        let began = clock::now();
        assert_eq!(other.left(LASTS).await, Left::Lost);
        assert_eq!(clock::now() - began, LASTS + A_LITTLE);
        let third = leases.wait(b"b");
        leases.lose_all();
        let began = clock::now();
        assert_eq!((third.left(LASTS).await, clock::now() - began), (Left::Lost, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)] // P30
    async fn the_lease_of_a_run_that_was_invalidated_is_given_back_while_it_goes_on() {
        let (leases, nudged) = leases();
        let (one, other) = (leases.take(&Key::from("a"), names("a")), leases.take(&Key::from("b"), names("b")));
        leases.void(&Scope::from(Key::from("c")));
        assert_eq!(nudged.load(SeqCst), 0);
        leases.void(&Scope::from(Key::from("a")));
        let due = leases.due();
        assert_eq!((nudged.load(SeqCst), counts(&due), due.release[0].1), (1, (1, 1), Left::Lost));
        drop((one, other));
        assert_eq!((nudged.load(SeqCst), counts(&leases.due())), (2, (0, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_longer_leaves_nothing_behind() {
        let (leases, _) = leases();
        let (one, other) = (leases.wait(b"a"), leases.wait(b"a"));
        drop(one);
        leases.left(b"a", Left::Ended);
        assert_eq!(other.left(LASTS).await, Left::Ended);
        drop(leases.wait(b"c"));
        assert!(leases.state().waiting.is_empty());
    }
}
