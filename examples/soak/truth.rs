//! What is true at each moment, and what a reader may therefore count on.
//!
//! There is one version for everything, which whoever invalidates or puts something counts up *before* that begins. Every
//! run reads it as it begins. So an answer with an older version is one of a run that began before the invalidation did,
//! and a reader who comes when the invalidation is done must not see it: that is what a floor says.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::pages::{PAGES, Page, Reach, Route, VARIANTS};

pub(crate) struct Truth {
    began: Instant,
    version: AtomicU64,
    runs: AtomicU64,
    places: Vec<Place>,
    /// What was the version when a put was done, by its number.
    puts: Mutex<HashMap<u64, u64>>,
}

/// A page at a layer.
#[derive(Default)]
struct Place {
    purged: AtomicU64,
    expired: AtomicU64,
    put: [AtomicU64; VARIANTS],
    /// What was done to it by hand, and what of that is done.
    begun: AtomicU64,
    done: AtomicU64,
}

/// Does something when it is dropped: also where a runtime goes, and what it was to do with it.
struct Finally<F: Fn()>(F);

/// What a reader may count on, whose request begins now: the versions below which nothing may come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) now: Duration,
    pub(crate) purged: u64,
    /// Below this one an answer is marked as stale.
    pub(crate) expired: u64,
    pub(crate) put: u64,
}

impl Truth {
    pub(crate) fn new() -> Self {
        let places = (0..Route::ALL.len() * PAGES).map(|_| Place::default()).collect();
        let (version, runs) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { began: Instant::now(), version, runs, places, puts: Mutex::default() }
    }

    /// How long the program runs.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// The number of the next run.
    pub(crate) fn next_run(&self) -> u64 {
        self.runs.fetch_add(1, SeqCst) + 1
    }

    /// What a reader may count on from now on.
    pub(crate) fn floor(&self, route: Route, page: Page, variant: usize) -> Floor {
        let place = self.place(route, page);
        let (purged, expired) = (place.purged.load(SeqCst), place.expired.load(SeqCst));
        // The clock comes last: what has an earlier time in it is older than the request.
        Floor { purged, expired, put: place.put[variant].load(SeqCst), now: self.now() }
    }

    /// A purge of what the reach covers, from before it begins to after it is done. It counts if it was done.
    pub(crate) async fn purging(&self, reach: Reach, purge: impl Future<Output = bool>) {
        self.invalidating(reach, purge, |place| &place.purged).await;
    }

    /// The same for an expiry.
    pub(crate) async fn expiring(&self, reach: Reach, expire: impl Future<Output = bool>) {
        self.invalidating(reach, expire, |place| &place.expired).await;
    }

    /// The same for a response that is put by hand, made of the version and with the number that it is given.
    pub(crate) async fn putting<F>(&self, route: Route, page: Page, variant: usize, put: impl FnOnce(u64, u64) -> F)
    where
        F: Future<Output = bool>,
    {
        let (version, number, place) = (self.next_version(), self.next_run(), self.place(route, page));
        place.begun.fetch_add(1, SeqCst);
        let _done = Finally(|| {
            self.puts().insert(number, self.version());
            place.done.fetch_add(1, SeqCst);
        });
        if put(version, number).await {
            place.put[variant].fetch_max(version, SeqCst);
        }
    }

    /// The version below which nothing comes that this put does not have to give way to. What is begun while it is put
    /// may come before or after it, and all may while it is not done.
    pub(crate) fn version_of_put(&self, number: u64) -> u64 {
        self.puts().get(&number).copied().unwrap_or(u64::MAX)
    }

    /// How much was done by hand to a page: how much of it was begun, and how much is done.
    pub(crate) fn by_hand(&self, route: Route, page: Page) -> (u64, u64) {
        let place = self.place(route, page);
        let done = place.done.load(SeqCst);
        (place.begun.load(SeqCst), done)
    }

    async fn invalidating(&self, reach: Reach, work: impl Future<Output = bool>, floor: fn(&Place) -> &AtomicU64) {
        let version = self.next_version();
        let all = Route::ALL.into_iter().flat_map(|route| (0..PAGES).map(move |page| (route, Page(page))));
        let covered = all.filter(|(route, page)| reach.covers(*route, *page));
        let covered: Vec<_> = covered.map(|(route, page)| self.place(route, page)).collect();
        for place in &covered {
            place.begun.fetch_add(1, SeqCst);
        }
        let _done = Finally(|| {
            for place in &covered {
                place.done.fetch_add(1, SeqCst);
            }
        });
        if work.await {
            for place in &covered {
                floor(place).fetch_max(version, SeqCst);
            }
        }
    }

    fn puts(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.puts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_version(&self) -> u64 {
        self.version.fetch_add(1, SeqCst) + 1
    }

    fn place(&self, route: Route, page: Page) -> &Place {
        &self.places[route as usize * PAGES + page.0]
    }
}

impl<F: Fn()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
