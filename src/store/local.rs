//! A store without a network: many caches of one process share it as many processes share a server.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    clock::{self, Instant},
    entry::Course,
    key::Key,
    protocol::sealed::Sealed,
    scope::Scope,
    store::{BoxFuture, Fetched, Found, Record, Since, Store, StoreError},
};

/// How many invalidations are remembered. A run that began before those is not saved.
const REMEMBERED: usize = 4_096;

/// A store in the memory of this process, for tests of what instances share: each cache that is given a clone of it is
/// one instance. It can be told to be slow, or not to answer.
///
/// An invalidation reaches the store and the memory of the cache that it was asked of. What other caches hold in their
/// own memory they keep until its lifetime is over.
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
    /// In nanoseconds.
    delay: AtomicU64,
    fails: AtomicBool,
    operations: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The number of the last run or invalidation.
    clock: u64,
    records: HashMap<Course, Saved>,
    invalidations: VecDeque<(u64, Scope)>,
    /// Invalidations up to this number were forgotten.
    forgotten: u64,
}

struct Saved {
    record: Record,
    run: Run,
}

/// A run, and when it began.
#[derive(Clone, Copy)]
struct Run {
    number: u64,
    at: Instant,
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
        for saved in self.state().records.values_mut() {
            saved.record.bytes = change(&saved.record.bytes).into();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn fetch<'a>(&'a self, course: &'a Course) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let (mut state, now) = (self.state(), clock::now());
            state.clock += 1;
            let since = Since(Arc::new(Run { number: state.clock, at: now }));
            let age = |saved: &Saved| now.saturating_duration_since(saved.run.at);
            if state.records.get(course).is_some_and(|saved| age(saved) >= saved.record.time_to_live) {
                state.records.remove(course);
            }
            let found = state.records.get(course);
            let found = found.map(|saved| Found { bytes: saved.record.bytes.clone(), age: age(saved) });
            Ok(Fetched { found, since })
        })
    }

    fn save<'a>(&'a self, course: &'a Course, record: Record, since: Since) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let (run, mut state) = (Run::of(&since)?, self.state());
            let replaced = state.records.get(course).is_some_and(|saved| saved.run.number > run.number);
            if !replaced && !state.is_voided(run.number, &course.key, &record) {
                state.records.insert(course.clone(), Saved { record, run });
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, key: &'a Key, since: Since) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let run = Run::of(&since)?;
            self.state().records.retain(|course, saved| course.key != *key || saved.run.number > run.number);
            Ok(())
        })
    }

    fn invalidate<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let mut state = self.state();
            state.clock += 1;
            let number = state.clock;
            state.invalidations.push_back((number, scope.clone()));
            if state.invalidations.len() > REMEMBERED
                && let Some((number, _)) = state.invalidations.pop_front()
            {
                state.forgotten = number;
            }
            state.records.retain(|course, saved| !scope.matches(&course.key, &saved.record.tags));
            Ok(())
        })
    }
}

impl Run {
    fn of(Since(since): &Since) -> Result<Self, StoreError> {
        since.downcast_ref().copied().ok_or_else(|| StoreError("a run of another store".into()))
    }
}

impl State {
    /// Whether an invalidation since the run's beginning reaches what it brings.
    fn is_voided(&self, run: u64, key: &Key, record: &Record) -> bool {
        let since = self.invalidations.iter().rev().take_while(|(number, _)| *number > run);
        run < self.forgotten || since.into_iter().any(|(_, scope)| scope.matches(key, &record.tags))
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("records", &self.records()).finish_non_exhaustive()
    }
}
