//! One run per key: who leads, who waits, how a landing is classed, and what becomes of a run that nobody wants.
//!
//! The right to run is a value, [`Lead`]: whoever holds it runs, and when it is dropped without a landing those who
//! wait are told to look again. A follower holds a [`Follow`], which is woken by the landing and by nothing else. Both
//! hold an [`Interest`] in the run.

use std::{
    any::Any,
    collections::hash_map,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    clock::{self, Instant},
    entry::{Course, Entry, Variant},
    interest::{Aboard, Interest},
    journal::{Journal, Started},
    key::Key,
    scope::Scope,
    status::Detail,
    sync::{self, Mutex, MutexGuard, PoisonError},
    tables::{Hashed, Table, give_back},
    tags::Tags,
};

/// All runs that may be joined.
pub(crate) struct Flights<V> {
    hasher: ahash::RandomState,
    shards: Box<[Shard<V>]>,
    journal: Arc<Journal>,
}

type Shard<V> = Mutex<Table<Course, Arc<Flight<V>>>>;

/// One run.
struct Flight<V> {
    course: Hashed<Course>,
    boarding: Boarding,
    started: Started,
    since: Instant,
    aboard: Arc<Aboard>,
    state: Mutex<State<V>>,
}

/// Whether others may wait for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarding {
    Open,
    /// What it brings may be for one alone.
    Closed,
}

struct State<V> {
    landing: Option<Landing<V>>,
    /// Those who wait have a seat each. The seats of those who left are taken again.
    waiting: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// The right to run.
pub(crate) struct Lead<V> {
    flights: Arc<Flights<V>>,
    flight: Arc<Flight<V>>,
}

/// A place among those who wait for a run.
pub(crate) struct Follow<V> {
    flight: Arc<Flight<V>>,
    /// The journal's number when this one joined: what was invalidated before must not be handed to it.
    joined: u64,
    seat: Option<usize>,
    _interest: Interest,
}

pub(crate) enum Joined<V> {
    Lead(Lead<V>),
    Follow(Follow<V>),
}

/// What those who wait get.
pub(crate) enum Landing<V> {
    /// A response for everyone whose request is selected by it.
    Shared(Landed<V>),
    /// A response for the leader alone: the others go on by themselves, all at once.
    Personal,
    /// The service failed with an error, shared if it can be: the others go on as without the layer, all at once.
    Failed(Option<Arc<dyn Any + Send + Sync>>),
    /// The service panicked: one of the others leads.
    Panicked,
    /// The run was given up, or was not needed: the others look again.
    Vacated,
}

/// A response that others may have.
pub(crate) struct Landed<V> {
    pub(crate) entry: Arc<Entry<V>>,
    /// Why it was not stored, if it was not.
    pub(crate) refusal: Option<Detail>,
    pub(crate) status: Option<u16>,
}

impl Boarding {
    /// A run that keeps `apart` is closed.
    pub(crate) fn of(apart: bool) -> Self {
        if apart { Self::Closed } else { Self::Open }
    }
}

impl<V> Flights<V> {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        let shards = (0..sync::SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: ahash::RandomState::new(), shards, journal }
    }

    /// Leads if nobody does, follows otherwise.
    pub(crate) fn join(self: &Arc<Self>, course: &Course) -> Joined<V> {
        let course = self.hashed(course);
        let mut shard = self.shard(&course);
        let place = match shard.entry(course.clone()) {
            hash_map::Entry::Occupied(flight) if flight.get().is_open() => {
                return Joined::Follow(self.follow(flight.get()));
            }
            place => place,
        };
        let flight = self.flight(course, Boarding::Open);
        let closed = put(place, &flight);
        drop(shard);
        drop(closed);
        Joined::Lead(Lead { flights: Arc::clone(self), flight })
    }

    /// Leads if nobody does. Who has led for longer than `overdue` counts for nobody: no run gets so old, unless its
    /// runtime stands still or its service blocks the thread, so that it cannot be aborted. Nor does a closed run count
    /// for one that is open.
    pub(crate) fn lead(
        self: &Arc<Self>,
        course: &Course,
        boarding: Boarding,
        now: Instant,
        overdue: Duration,
    ) -> Option<Lead<V>> {
        let course = self.hashed(course);
        let mut shard = self.shard(&course);
        let counts = |flight: &Arc<Flight<V>>| {
            flight.counts_for(boarding) && now.saturating_duration_since(flight.since) <= overdue
        };
        if shard.get(&course).is_some_and(counts) {
            return None;
        }
        let flight = self.flight(course.clone(), boarding);
        let overdue = shard.insert(course, Arc::clone(&flight));
        drop(shard);
        drop(overdue);
        Some(Lead { flights: Arc::clone(self), flight })
    }

    /// Follows if somebody leads.
    pub(crate) fn follow_one(self: &Arc<Self>, course: &Course) -> Option<Follow<V>> {
        let course = self.hashed(course);
        let shard = self.shard(&course);
        shard.get(&course).filter(|flight| flight.is_open()).map(|flight| self.follow(flight))
    }

    /// Whether somebody leads. A closed run does not count for one that is open.
    pub(crate) fn is_under_way(&self, course: &Course, boarding: Boarding) -> bool {
        let course = self.hashed(course);
        self.shard(&course).get(&course).is_some_and(|flight| flight.counts_for(boarding))
    }

    /// Leads a run that nobody can join.
    pub(crate) fn solo(self: &Arc<Self>, course: &Course) -> Lead<V> {
        Lead { flights: Arc::clone(self), flight: self.flight(self.hashed(course), Boarding::Closed) }
    }

    /// Lets nobody join the runs that an invalidation reaches by their key. Those who wait already may get the result.
    pub(crate) fn detach(&self, scope: &Scope) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone: Vec<_> = shard.extract_if(|course, _| scope.matches_key(&course.key.key)).collect();
            give_back(&mut shard);
            drop(shard);
            drop(gone);
        }
    }

    fn flight(&self, course: Hashed<Course>, boarding: Boarding) -> Arc<Flight<V>> {
        Arc::new(Flight {
            course,
            boarding,
            started: self.journal.start(),
            since: clock::now(),
            aboard: Arc::default(),
            state: Mutex::new(State { landing: None, waiting: Vec::new(), free: Vec::new() }),
        })
    }

    fn follow(&self, flight: &Arc<Flight<V>>) -> Follow<V> {
        Follow { flight: Arc::clone(flight), joined: self.journal.now(), seat: None, _interest: flight.aboard.board() }
    }

    fn hashed(&self, course: &Course) -> Hashed<Course> {
        Hashed { hash: self.hasher.hash_one(course), key: course.clone() }
    }

    fn shard(&self, course: &Hashed<Course>) -> MutexGuard<'_, Table<Course, Arc<Flight<V>>>> {
        // Bits of the middle: the map itself goes by the lowest and the uppermost.
        let shard = (course.hash >> 32) as usize % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes this flight, and not another one on the same course.
    fn remove(&self, flight: &Arc<Flight<V>>) {
        take_off(&mut self.shard(&flight.course), flight);
    }
}

/// Puts a flight in its place: the one that was there.
fn put<V>(
    place: hash_map::Entry<'_, Hashed<Course>, Arc<Flight<V>>>,
    flight: &Arc<Flight<V>>,
) -> Option<Arc<Flight<V>>> {
    match place {
        hash_map::Entry::Occupied(mut taken) => Some(taken.insert(Arc::clone(flight))),
        hash_map::Entry::Vacant(free) => {
            free.insert(Arc::clone(flight));
            None
        }
    }
}

/// Takes off this flight, and not another one on the same course.
fn take_off<V>(shard: &mut Table<Course, Arc<Flight<V>>>, flight: &Arc<Flight<V>>) {
    if shard.get(&flight.course).is_some_and(|current| Arc::ptr_eq(current, flight)) {
        shard.remove(&flight.course);
        give_back(shard);
    }
}

impl<V> Lead<V> {
    pub(crate) fn key(&self) -> &Key {
        &self.flight.course.key.key
    }

    pub(crate) fn variant(&self) -> Option<&Variant> {
        self.flight.course.key.variant.as_ref()
    }

    /// The place of the run among runs and invalidations.
    pub(crate) fn number(&self) -> u64 {
        self.flight.started.number()
    }

    /// When it began to lead.
    pub(crate) fn since(&self) -> Instant {
        self.flight.since
    }

    /// From now on runs of this key that began before this one count for nothing.
    pub(crate) fn supersede(&self) {
        self.flights.journal.supersede(&self.flight.started, self.key());
    }

    /// Whether what the run brings for a key with these tags was invalidated since it started.
    pub(crate) fn is_voided(&self, tags: &Tags) -> bool {
        self.flight.started.is_voided(u64::MAX, self.key(), tags)
    }

    /// One more who wants the run to go on.
    pub(crate) fn interest(&self) -> Interest {
        self.flight.aboard.board()
    }

    /// Ready when nobody wants the run any more.
    pub(crate) fn poll_unwanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flight.aboard.poll_empty(cx)
    }

    /// Closes the run to newcomers unless somebody is aboard beside those who `lead`: whether it is closed.
    pub(crate) fn close_unless_wanted(&self, lead: impl FnOnce() -> usize) -> bool {
        let mut shard = self.flights.shard(&self.flight.course);
        // Newcomers come aboard under the shard's lock, so none is missed between the question and the removal. Who leads
        // is asked last: one who does then was among those aboard, and is not taken off from the others.
        let aboard = self.flight.aboard.count();
        if aboard > lead() {
            return false;
        }
        take_off(&mut shard, &self.flight);
        true
    }

    /// Ends the run for those who wait. The first landing counts.
    pub(crate) fn land(&self, landing: Landing<V>) {
        // What was stored is stored by now. A newcomer either finds this flight, or finds that.
        self.flights.remove(&self.flight);
        let mut state = self.flight.lock();
        if state.landing.is_some() {
            return;
        }
        state.landing = Some(landing);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        // Nobody else lands it: what has landed stays so.
        let has_landed = self.flight.lock().landing.is_some();
        if !has_landed {
            self.land(Landing::Vacated);
        }
    }
}

impl<V> Follow<V> {
    /// Gives up on this run: from now on somebody else may lead on its course, and those who give up after this one
    /// join that run.
    pub(crate) fn give_up(self, flights: &Flights<V>) {
        flights.remove(&self.flight);
    }

    /// Whether the run began at or before this number of the journal.
    pub(crate) fn began_before(&self, number: u64) -> bool {
        self.flight.started.number() <= number
    }

    /// Whether the landing was invalidated before this one came to wait for it. The journal is asked, since that may have
    /// happened after the response was stored.
    pub(crate) fn came_after_invalidation(&self, landed: &Landed<V>) -> bool {
        self.flight.started.is_voided(self.joined, &self.flight.course.key.key, landed.entry.tags())
    }
}

impl<V> Future for Follow<V> {
    type Output = Landing<V>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = this.flight.lock();
        if let Some(landing) = &state.landing {
            return Poll::Ready(landing.clone());
        }
        let seat = *this.seat.get_or_insert_with(|| {
            state.free.pop().unwrap_or_else(|| {
                state.waiting.push(None);
                state.waiting.len() - 1
            })
        });
        match &mut state.waiting[seat] {
            Some(waker) => waker.clone_from(cx.waker()),
            free => *free = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<V> Drop for Follow<V> {
    fn drop(&mut self) {
        let Some(seat) = self.seat else { return };
        let mut state = self.flight.lock();
        let waker = state.waiting.get_mut(seat).and_then(Option::take);
        if waker.is_some() {
            state.free.push(seat);
        }
        drop(state);
        drop(waker);
    }
}

impl<V> Flight<V> {
    fn is_open(&self) -> bool {
        self.boarding == Boarding::Open
    }

    fn counts_for(&self, other: Boarding) -> bool {
        self.is_open() || other == Boarding::Closed
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Clone for Landing<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Shared(landed) => Self::Shared(landed.clone()),
            Self::Personal => Self::Personal,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Panicked => Self::Panicked,
            Self::Vacated => Self::Vacated,
        }
    }
}

impl<V> Clone for Landed<V> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), ..*self }
    }
}

#[cfg(test)]
mod tests;
