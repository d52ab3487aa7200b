//! A store without a network: many caches of one process share it as many processes share a server.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    clock::{self, Instant},
    entry::Course,
    key::Key,
    protocol::sealed::Sealed,
    scope::Force,
    scope::Scope,
    store::{
        BoxFuture, Claimed, Found, Leasing, Left, Listener, Member, Record, Saved, Since, Standing, Store, StoreError,
    },
};

/// How many invalidations are remembered. A run that began before those is not saved.
const REMEMBERED: usize = 4_096;

/// A store in the memory of this process, for tests of what instances share: each cache that is given a clone of it is
/// one instance. It can be told to be slow, not to answer, or not to tell the others what one has invalidated.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use cacheback::{CachebackLayer, Json, Key, testing::LocalStore};
///
/// let store = LocalStore::new();
/// let instance = || {
///     let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(format!("user:{id}")));
///     layer.store(store.clone(), Json)
/// };
/// let (one, another) = (instance(), instance());
/// # let _ = (one, another);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct LocalStore(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    standing: Standing,
    listeners: Mutex<Vec<(Member, Weak<dyn Listener>)>>,
    /// In nanoseconds.
    delay: AtomicU64,
    fails: AtomicBool,
    is_cut: AtomicBool,
    operations: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The number of the last run or invalidation.
    clock: u64,
    records: HashMap<Course, Kept>,
    /// Who is waiting for the run that has the lease.
    leases: HashMap<Course, (u64, Vec<oneshot::Sender<()>>)>,
    invalidations: VecDeque<(u64, Scope)>,
    /// Invalidations up to this number were forgotten.
    forgotten: u64,
}

struct Kept {
    record: Record,
    number: u64,
    at: Instant,
}

/// A run: its number, and when it claimed.
struct Run {
    number: u64,
    at: Instant,
    lease: Option<Lease>,
}

/// The lease of a run. It ends with it.
struct Lease {
    store: Arc<Inner>,
    course: Course,
    number: u64,
}

impl LocalStore {
    /// A store that is empty, fast and sound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every operation take this long from now on.
    pub fn delay(&self, delay: Duration) {
        self.0.delay.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), SeqCst);
    }

    /// Lets operations fail from now on, or not any more.
    pub fn fail(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    /// Keeps what one invalidates from the others, or not any more. They know then that they may have missed something.
    pub fn cut(&self, is_cut: bool) {
        self.0.is_cut.store(is_cut, SeqCst);
        if !is_cut {
            self.0.standing.gap();
        }
    }

    /// How many operations it was asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.operations.load(SeqCst)
    }

    /// How many records it holds.
    #[must_use]
    pub fn records(&self) -> usize {
        self.state().records.len()
    }

    /// Puts other bytes in the place of every record: what somebody else has written there.
    #[cfg(all(test, not(cacheback_model)))]
    pub(crate) fn corrupt(&self, change: impl Fn(&[u8]) -> Vec<u8>) {
        for kept in self.state().records.values_mut() {
            kept.record.bytes = change(&kept.record.bytes).into();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    async fn arrive(&self) -> Result<(), StoreError> {
        self.0.operations.fetch_add(1, SeqCst);
        let delay = self.0.delay.load(SeqCst);
        if delay > 0 {
            clock::sleep(Duration::from_nanos(delay)).await;
        }
        if self.0.fails.load(SeqCst) { Err(StoreError("told to fail".into())) } else { Ok(()) }
    }
}

impl Sealed for LocalStore {}

impl Store for LocalStore {
    fn join(&self, listener: Weak<dyn Listener>) -> Member {
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let member = Member(listeners.last().map_or(0, |(Member(last), _)| last + 1));
        listeners.retain(|(_, listener)| listener.strong_count() > 0);
        listeners.push((member, listener));
        member
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn standing(&self) -> &Standing {
        &self.0.standing
    }

    fn fetch<'a>(&'a self, course: &'a Course) -> BoxFuture<'a, Result<Option<Found>, StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            Ok(self.state().found(course, clock::now()))
        })
    }

    fn claim<'a>(&'a self, course: &'a Course, leasing: Leasing) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let (mut state, now) = (self.state(), clock::now());
            state.clock += 1;
            let (number, found) = (state.clock, state.found(course, now));
            let (mut lease, mut held) = (None, None);
            if leasing == Leasing::Wanted {
                match state.leases.get_mut(course) {
                    Some((_, waiting)) => {
                        let (end, ended) = oneshot::channel();
                        waiting.push(end);
                        let left = async { ended.await.map_or(Left::Lost, |()| Left::Ended) };
                        held = Some(Box::pin(left) as BoxFuture<'static, Left>);
                    }
                    None => {
                        state.leases.insert(course.clone(), (number, Vec::new()));
                        lease = Some(Lease { store: Arc::clone(&self.0), course: course.clone(), number });
                    }
                }
            }
            Ok(Claimed { found, since: Since(Arc::new(Run { number, at: now, lease })), held })
        })
    }

    fn save<'a>(
        &'a self,
        course: &'a Course,
        record: Record,
        since: &'a Since,
    ) -> BoxFuture<'a, Result<Saved, StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let (run, mut state) = (Run::of(since)?, self.state());
            let voided = state.is_voided(run.number, &course.key, &record);
            let is_kept = !voided && state.records.get(course).is_none_or(|kept| kept.number <= run.number);
            if is_kept {
                state.records.insert(course.clone(), Kept { record, number: run.number, at: run.at });
            }
            let ended = match run.lease.as_ref().filter(|lease| lease.course == *course) {
                Some(lease) => state.end(lease),
                None if is_kept => state.leases.remove(course).map(|(_, waiting)| waiting),
                None => None,
            };
            ended.into_iter().flatten().for_each(tell);
            Ok(if voided { Saved::Voided } else { Saved::Kept })
        })
    }

    fn forget<'a>(&'a self, course: &'a Course, since: &'a Since) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let run = Run::of(since)?;
            self.state().records.retain(|held, kept| held != course || kept.number > run.number);
            Ok(())
        })
    }

    fn invalidate<'a>(
        &'a self,
        scope: &'a Scope,
        force: Force,
        by: &'a Member,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let given_up = self.state().invalidate(scope);
            drop(given_up);
            if !self.0.is_cut.load(SeqCst) {
                let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let others = listeners.iter().filter(|(member, _)| member != by);
                others.filter_map(|(_, listener)| listener.upgrade()).for_each(|other| other.invalidated(scope, force));
            }
            Ok(())
        })
    }

    fn release(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            // Those who wait are not told that the runs have ended: one of them is to take over.
            let leases = std::mem::take(&mut self.state().leases);
            drop(leases);
            Ok(())
        })
    }
}

/// Tells one who waits for a lease that it has ended.
fn tell(waiting: oneshot::Sender<()>) {
    let _gone = waiting.send(());
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn of(Since(since): &Since) -> Result<&Self, StoreError> {
        since.downcast_ref().ok_or_else(|| StoreError("a run of another store".into()))
    }
}

impl State {
    fn found(&mut self, course: &Course, now: Instant) -> Option<Found> {
        let kept = self.records.get(course)?;
        let age = now.saturating_duration_since(kept.at);
        if age >= kept.record.time_to_live {
            self.records.remove(course);
            return None;
        }
        Some(Found { bytes: kept.record.bytes.clone(), age })
    }

    /// Whether an invalidation since the run's beginning reaches what it brings.
    fn is_voided(&self, run: u64, key: &Key, record: &Record) -> bool {
        let since = self.invalidations.iter().rev().take_while(|(number, _)| *number > run);
        run < self.forgotten || since.into_iter().any(|(_, scope)| scope.matches(key, &record.tags))
    }

    /// Forgets what a scope reaches: the leases of runs that are worth nothing any more. One of those who wait takes over.
    fn invalidate(&mut self, scope: &Scope) -> Vec<(u64, Vec<oneshot::Sender<()>>)> {
        self.clock += 1;
        self.invalidations.push_back((self.clock, scope.clone()));
        if self.invalidations.len() > REMEMBERED
            && let Some((number, _)) = self.invalidations.pop_front()
        {
            self.forgotten = number;
        }
        self.records.retain(|course, kept| !scope.matches(&course.key, &kept.record.tags));
        self.leases.extract_if(|course, _| scope.matches_key(&course.key)).map(|(_, lease)| lease).collect()
    }

    /// Ends a lease, if it has not ended yet: those who have waited for that.
    fn end(&mut self, lease: &Lease) -> Option<Vec<oneshot::Sender<()>>> {
        let is_own = self.leases.get(&lease.course).is_some_and(|(number, _)| *number == lease.number);
        let (_, waiting) = is_own.then(|| self.leases.remove(&lease.course))??;
        Some(waiting)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let ended = self.store.state().end(self);
        ended.into_iter().flatten().for_each(tell);
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("records", &self.records()).finish_non_exhaustive()
    }
}
