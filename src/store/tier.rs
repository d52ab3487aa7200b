//! How a cache uses its store: values become records and back, no operation takes longer than it may, and none fails a
//! request.

use std::{
    any::type_name,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use crate::{
    clock::{self, Instant},
    codec::{Codec, CodecError},
    entry::{Course, Entry, Fields, Variant},
    error::Error,
    judgement::Judgement,
    key::Key,
    scope::Force,
    scope::Scope,
    store::{
        BoxFuture, Budget, Claimed, Found, Leasing, Listener, Member, Record, Saved, Store, StoreError,
        record::{Contents, Response},
    },
    tags::Tags,
    telemetry::Telemetry,
};

mod held;

use held::Flags;
pub(crate) use held::{Afterwards, Begun, Held, Known, Looked, Saving};

/// How long a store that failed is not asked again.
const REST: Duration = Duration::from_secs(1);
/// How long a record that was made may take to be saved: nobody waits for it.
const LEISURE: Duration = Duration::from_secs(5);
/// How many invalidations are owed to the store at most. Were there more, all that it holds is to be forgotten.
const OWED: usize = 256;

/// A store, and the codec by which values of this type are kept there.
pub(crate) struct Tier<V> {
    store: Arc<dyn Store>,
    member: Member,
    codec: Arc<dyn Codec<V>>,
    /// What tells the records of this codec and type from others.
    kind: String,
    telemetry: Arc<Telemetry>,
    state: Mutex<State>,
    /// Whether there is anything in it: a hit looks here first.
    is_calm: AtomicBool,
    /// One at a time tells the store what it has still to be told.
    paying: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Until then it is not asked for what it holds: it has failed.
    rests_until: Option<Instant>,
    /// What it has still to be told, and a number for each of these.
    owed: Vec<(u64, Scope, Force)>,
    /// The last of the numbers.
    last: u64,
}

impl<V: Send + Sync + 'static> Tier<V> {
    pub(crate) fn new<C: Codec<V>>(
        store: Arc<dyn Store>,
        codec: C,
        telemetry: Arc<Telemetry>,
        listener: Weak<dyn Listener>,
    ) -> Self {
        let kind = format!("{} {}", type_name::<C>(), type_name::<V>());
        let member = store.join(listener);
        Self {
            store,
            member,
            codec: Arc::new(codec),
            kind,
            telemetry,
            state: Mutex::default(),
            is_calm: AtomicBool::new(true),
            paying: tokio::sync::Mutex::default(),
        }
    }

    /// Tells its store from others in the process.
    pub(crate) fn identity(&self) -> usize {
        self.store.identity()
    }

    /// The time that a request has for the store.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.patience())
    }

    /// How long that is.
    pub(crate) fn patience(&self) -> Duration {
        self.store.patience()
    }

    /// The generation in which what is made from now on will have been made.
    pub(crate) fn generation(&self) -> u64 {
        self.store.standing().generation()
    }

    /// Whether what was made in this generation may be served without a question to the store: it was heard of everything
    /// since; or there is nobody to be asked.
    pub(crate) fn vouches_for(&self, generation: u64) -> bool {
        generation == self.generation() || !self.can_be_asked()
    }

    /// Whether there is any point in asking.
    pub(crate) fn can_be_asked(&self) -> bool {
        let rests = || self.state().rests_until.is_some_and(|until| clock::now() < until);
        !self.store.standing().is_down() && (self.is_calm() || !rests())
    }

    /// Asks for what is stored under a key, and gives the request back that it is for. `variant` gives the values of fields in
    /// it. Nothing, if the store does not say in time.
    pub(crate) fn look<'a, R: Send + 'a>(
        &'a self,
        budget: &'a Budget,
        key: &'a Key,
        request: R,
        variant: impl Fn(&Fields, &R) -> Variant + Send + 'a,
    ) -> BoxFuture<'a, (Option<Looked<V>>, R)> {
        // Boxed here: whoever has no store needs no room for it.
        Box::pin(async move {
            if !self.can_be_asked() || !self.has_paid(budget).await {
                return (None, request);
            }
            let mut course = Course { key: key.clone(), variant: None };
            let (began, mut fields) = (clock::now(), None);
            let (mut found, mut then) = self.fetched(budget, &course, began).await;
            if let Some(Some((Contents::Signpost(selecting), _))) = &found {
                course.variant = Some(variant(selecting, &request));
                fields = Some(Arc::clone(selecting));
                (found, then) = self.fetched(budget, &course, then).await;
            }
            let looked = found.map(|found| {
                let underway = then.saturating_duration_since(began);
                let found = found.and_then(|(contents, age)| self.held(contents, age, underway));
                Looked { found, course, fields }
            });
            (looked, request)
        })
    }

    /// Begins a run for what was looked for. Nothing, if the store does not say in time.
    pub(crate) fn begin<'a>(
        &'a self,
        budget: &'a Budget,
        looked: &'a Looked<V>,
        leasing: Leasing,
    ) -> BoxFuture<'a, Option<Begun<V>>> {
        Box::pin(async move {
            if !self.can_be_asked() {
                return None;
            }
            let (began, Looked { course, fields, .. }) = (clock::now(), looked);
            let (claimed, at) = self.asked(budget, began, self.store.claim(course, leasing)).await;
            let (Claimed { found, since, held }, underway) = (claimed?, at.saturating_duration_since(began));
            let found = found.and_then(|found| self.held(self.read(&found, course)?, found.age, underway));
            let known = Known { course: course.clone(), since, at, fields: fields.clone() };
            Some(Begun { found, known, held })
        })
    }

    /// Does what a run has left to do. A response that was invalidated meanwhile is given back.
    pub(crate) fn after<'a>(&'a self, key: &'a Key, afterwards: Afterwards<V>) -> BoxFuture<'a, Option<Arc<Entry<V>>>> {
        Box::pin(async move {
            match afterwards {
                Afterwards::Save(saving) => {
                    let entry = Arc::clone(&saving.entry);
                    let saved = self.in_time(LEISURE, self.save(key, saving)).await;
                    return (saved == Some(Saved::Voided)).then_some(entry);
                }
                Afterwards::Forget(Some(known)) => {
                    self.in_time(LEISURE, self.store.forget(&known.course, &known.since)).await;
                }
                Afterwards::Forget(None) => {
                    let _told = self.invalidate(&Scope::from(key), Force::Expire).await;
                }
            }
            None
        })
    }

    /// Forgets what a scope reaches, there and in the memory of other caches. If the store cannot be told, it is told before
    /// it is asked again.
    pub(crate) async fn invalidate(&self, scope: &Scope, force: Force) -> Result<(), Error> {
        let mut untold = Untold { tier: self, scope: Some((scope, force)) };
        let mut telling = pin!(self.tell(scope, force));
        let told = match clock::timeout(self.patience() / 2, &mut telling).await {
            Some(told) => told.inspect_err(|error| self.failed(error)),
            None => {
                // Nobody waits for it much longer. Whoever asks from here on tells it first.
                let owed = self.owe(scope.clone(), force);
                let told = self.told(LEISURE, telling).await;
                if told.is_ok() {
                    self.change(|state| state.owed.retain(|(number, ..)| Some(*number) != owed));
                }
                told
            }
        };
        told.map_err(|error| Error::store(error.to_string()))?;
        untold.scope = None;
        Ok(())
    }

    /// Tells the store what it has still to be told, if it can be told: nobody comes to ask it any more.
    pub(crate) async fn pay_at_last(&self) {
        let _told = self.pay().await.inspect_err(|error| self.failed(error));
    }

    /// Gives back the leases of runs that go on.
    pub(crate) async fn release(&self) {
        self.in_time(self.patience(), self.store.release()).await;
    }

    /// Whether the store has been told all that it was to be told.
    async fn has_paid(&self, budget: &Budget) -> bool {
        self.is_calm() || self.state().owed.is_empty() || self.asked(budget, clock::now(), self.pay()).await.0.is_some()
    }

    /// The number of what is owed from here on, if that is this and no more.
    fn owe(&self, scope: Scope, force: Force) -> Option<u64> {
        self.change(|state| state.owe(scope, force))
    }

    /// Tells the store what it has still to be told, all at once. Each of these is owed until the store has confirmed it.
    async fn pay(&self) -> Result<(), StoreError> {
        // Of those who find that something is owed one pays, and the others wait for that.
        let _others = self.paying.lock().await;
        loop {
            let owed = self.state().owed.clone();
            if owed.is_empty() {
                return Ok(());
            }
            let failure = Mutex::new(None);
            side_by_side(owed.iter().map(async |(number, scope, force)| match self.tell(scope, *force).await {
                Ok(()) => self.change(|state| state.owed.retain(|(owed, ..)| owed != number)),
                Err(error) => *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }))
            .await;
            if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error);
            }
        }
    }

    async fn tell(&self, scope: &Scope, force: Force) -> Result<(), StoreError> {
        if self.store.standing().is_down() {
            return Err(StoreError("the store cannot be asked at the moment".into()));
        }
        self.store.invalidate(scope, force, &self.member).await
    }

    async fn save(&self, key: &Key, saving: Saving<V>) -> Result<Saved, StoreError> {
        let Saving { entry, variant, signpost, known: Known { since, at, .. } } = saving;
        let value = caught(|| self.codec.encode(&entry.value)).map_err(|error| StoreError(error.to_string()))?.into();
        let (age, freshness, cost) = (entry.age(at), *entry.freshness(), entry.early.cost());
        let time_to_live = freshness.gone_at().saturating_sub(age);
        if entry.age(clock::now()) >= freshness.gone_at() {
            return Ok(Saved::Kept);
        }
        let Judgement { tags, fields, withheld, .. } = entry.judged.clone();
        let response =
            Response { age, freshness, cost, flags: Flags::of(&entry.judged).0, tags, fields, withheld, value };
        let (course, tags) = (Course { key: key.clone(), variant }, response.tags.clone());
        let bytes = Contents::Response(response).write(&course, &self.kind);
        let saved = self.store.save(&course, Record { bytes, tags, time_to_live }, &since).await?;
        if let Some(fields) = signpost.filter(|_| saved == Saved::Kept) {
            // It stands for longer than what it points to; and it is put up when that is there.
            let time_to_live = time_to_live.saturating_mul(2);
            let course = Course { key: key.clone(), variant: None };
            let bytes = Contents::Signpost(fields).write(&course, &self.kind);
            let record = Record { bytes, tags: Tags::default(), time_to_live };
            return self.store.save(&course, record, &since).await;
        }
        Ok(saved)
    }

    /// What the record of a course says, and how long ago its run claimed; and when that was known. Nothing, if the store
    /// does not say in time.
    async fn fetched(
        &self,
        budget: &Budget,
        course: &Course,
        now: Instant,
    ) -> (Option<Option<(Contents, Duration)>>, Instant) {
        let (found, then) = self.asked(budget, now, self.store.fetch(course)).await;
        (found.map(|found| found.and_then(|found| Some((self.read(&found, course)?, found.age)))), then)
    }

    fn read(&self, found: &Found, course: &Course) -> Option<Contents> {
        Contents::read(&found.bytes, course, &self.kind)
    }

    /// The response that a record holds whose run claimed so long before it was found, by a question that took so long.
    fn held(&self, contents: Contents, claimed: Duration, underway: Duration) -> Option<Held<V>> {
        let Contents::Response(response) = contents else { return None };
        let value = caught(|| self.codec.decode_shared(response.value));
        let value = value.map_err(|error| self.failed(&StoreError(error.to_string()))).ok()?;
        let mut judged = Flags(response.flags).judgement(response.freshness);
        // It may have been on its way for all of the time since (RFC 9111 §4.2.3).
        judged.age = response.age.saturating_add(claimed).saturating_add(underway);
        (judged.tags, judged.fields, judged.withheld) = (response.tags, response.fields, response.withheld);
        Some(Held { value, judged, cost: response.cost, claimed })
    }

    /// What a question is answered that is asked now, if it is in time; and when. A store that does not answer is not asked for a while; one that nobody
    /// had time to ask is none of those.
    async fn asked<T>(
        &self,
        budget: &Budget,
        now: Instant,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> (Option<T>, Instant) {
        if budget.is_spent() {
            return (None, now);
        }
        let (answer, then) = budget.spend(now, question).await;
        let answer = answer.unwrap_or_else(|| Err(late())).inspect_err(|error| self.failed(error)).ok();
        // One that knows by itself that it is down also knows when it is back.
        let rests = answer.is_none() && !self.store.standing().is_down();
        if rests || !self.is_calm() {
            self.change(|state| state.rests_until = rests.then(|| clock::after(then, REST)));
        }
        (answer, then)
    }

    /// What an operation gives, if it succeeds in time.
    async fn in_time<T>(&self, time: Duration, operation: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        self.told(time, operation).await.ok()
    }

    /// What an operation gives, or why it gives nothing: that is told.
    async fn told<T>(
        &self,
        time: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = clock::timeout(time, operation).await.unwrap_or_else(|| Err(late()));
        done.inspect_err(|error| self.failed(error))
    }

    fn failed(&self, error: &StoreError) {
        self.telemetry.store_failed(error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all is well: nothing is owed, and nothing rests. Whoever was told otherwise before he looks here sees it.
    fn is_calm(&self) -> bool {
        self.is_calm.load(Relaxed)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state);
        self.is_calm.store(state.owed.is_empty() && state.rests_until.is_none(), Relaxed);
        changed
    }
}

impl State {
    fn owe(&mut self, scope: Scope, force: Force) -> Option<u64> {
        let mut strongest = force;
        // What is owed already is owed once. It gets a new number: whoever pays it at this moment pays too early.
        if let Some(at) = self.owed.iter().position(|(_, owed, _)| *owed == scope)
            && let (_, _, Force::Purge) = self.owed.remove(at)
        {
            strongest = Force::Purge;
        }
        let all = self.owed.len() >= OWED;
        if all {
            self.owed.clear();
        }
        self.last += 1;
        let number = self.last;
        self.owed.push(if all { (number, Scope::everything(), Force::Expire) } else { (number, scope, strongest) });
        (!all && strongest == force).then_some(number)
    }
}

/// An invalidation that the store is being told. If nothing comes of it, it is owed.
struct Untold<'a, V: Send + Sync + 'static> {
    tier: &'a Tier<V>,
    scope: Option<(&'a Scope, Force)>,
}

impl<V: Send + Sync + 'static> Drop for Untold<'_, V> {
    fn drop(&mut self) {
        if let Some((scope, force)) = self.scope.take() {
            let _owed = self.tier.owe(scope.clone(), force);
        }
    }
}

/// Does all of these at once.
pub(crate) async fn side_by_side<'a>(all: impl IntoIterator<Item = impl Future<Output = ()> + Send + 'a>) {
    let mut all: Vec<BoxFuture<'a, ()>> = all.into_iter().map(|each| Box::pin(each) as BoxFuture<'a, ()>).collect();
    poll_fn(|cx| {
        all.retain_mut(|each| each.as_mut().poll(cx).is_pending());
        if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn late() -> StoreError {
    StoreError("the store did not answer in time".into())
}

impl<V> fmt::Debug for Tier<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("store", &self.store).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a codec makes of something. Its panic is an error like any other: a request is none of its business.
fn caught<T>(work: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the codec panicked".into()))
}

#[cfg(all(test, not(cacheback_model)))]
mod tests;
