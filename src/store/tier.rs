//! How a cache uses its store: values become records and back, no operation takes longer than it may, and none fails a
//! request.

use std::{
    any::type_name,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::{self, Instant},
    codec::{Codec, CodecError},
    entry::{Course, Entry, Fields, Variant},
    error::Error,
    freshness::{Freshness, Verdict},
    key::Key,
    protocol::Judgement,
    scope::{Scope, Tags},
    store::{
        BoxFuture, Fetched, Record, Since, Store, StoreError,
        record::{Contents, Response},
    },
    telemetry::Telemetry,
};

/// How long those who wait for an answer wait for the store.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);
/// How long a store that failed is not asked again.
const REST: Duration = Duration::from_secs(1);
/// How long a record that was made may take to be saved: nobody waits for it.
const LEISURE: Duration = Duration::from_secs(5);

/// A store, and the codec by which values of this type are kept there.
pub(crate) struct Tier<V> {
    store: Arc<dyn Store>,
    codec: Arc<dyn Codec<V>>,
    /// What tells the records of this codec and type from others.
    kind: String,
    telemetry: Arc<Telemetry>,
    /// Until then it is not asked for what it holds: it has failed.
    rests_until: Mutex<Option<Instant>>,
}

/// What the store had for a run that is to begin, and by what it knows the run again.
pub(crate) struct Asked<V> {
    pub(crate) found: Option<Held<V>>,
    pub(crate) known: Option<Known>,
}

/// What the store knows of a run and of its key.
#[derive(Clone)]
pub(crate) struct Known {
    since: Since,
    /// When it answered: its own clock is that of the run's beginning.
    at: Instant,
    /// The fields that select among the variants of the key, as far as anybody has saved any.
    fields: Option<Fields>,
}

/// A response that the store held.
#[derive(Debug)]
pub(crate) struct Held<V> {
    pub(crate) value: V,
    /// Its age counts from now.
    pub(crate) judged: Judgement,
    pub(crate) cost: Duration,
}

/// What is to be done in the store once a run has landed.
pub(crate) enum Afterwards<V> {
    Save(Saving<V>),
    /// What is there is not to be given out any more, unless it came from a later run than the one that is known.
    Forget(Option<Known>),
}

/// A response that is to be saved.
pub(crate) struct Saving<V> {
    entry: Arc<Entry<V>>,
    variant: Option<Variant>,
    /// The fields that select it and its like, if the store is still to be told.
    signpost: Option<Fields>,
    known: Known,
}

impl Known {
    /// What is to be saved of this. `variant` gives the values of fields in the request that it answers.
    pub(crate) fn saving<V>(&self, entry: &Arc<Entry<V>>, variant: impl Fn(&Fields) -> Variant) -> Saving<V> {
        let (entry, known) = (Arc::clone(entry), self.clone());
        let fields = all(self.fields.as_ref(), entry.judged.fields.as_ref());
        let variant = fields.as_ref().map(variant);
        let signpost = fields.filter(|fields| self.fields.as_ref() != Some(fields));
        Saving { entry, variant, signpost, known }
    }
}

impl<V: Send + Sync + 'static> Tier<V> {
    pub(crate) fn new<C: Codec<V>>(store: Arc<dyn Store>, codec: C, telemetry: Arc<Telemetry>) -> Self {
        let kind = format!("{} {}", type_name::<C>(), type_name::<V>());
        Self { store, codec: Arc::new(codec), kind, telemetry, rests_until: Mutex::new(None) }
    }

    /// Asks for what is stored under a key before a run for it begins, and gives the request back that it is for. `variant`
    /// gives the values of fields in it. Those who ask have an answer in time.
    pub(crate) fn ask<'a, R: Send + 'a>(
        &'a self,
        key: &'a Key,
        request: R,
        variant: impl Fn(&Fields, &R) -> Variant + Send + 'a,
    ) -> BoxFuture<'a, (Asked<V>, R)> {
        // Boxed here: whoever has no store needs no room for it.
        Box::pin(async move {
            let nothing = Asked { found: None, known: None };
            if self.is_resting() {
                return (nothing, request);
            }
            let began = clock::now();
            let mut course = Course { key: key.clone(), variant: None };
            let mut fields = None;
            let mut looked = self.in_time(PATIENCE, self.look(&course)).await;
            if let Some((Some((Contents::Signpost(selecting), _)), _)) = looked {
                course.variant = Some(variant(&selecting, &request));
                fields = Some(selecting);
                let patience = PATIENCE.saturating_sub(clock::now().saturating_duration_since(began));
                looked = self.in_time(patience, self.look(&course)).await;
            }
            self.rest(looked.is_none());
            let Some((contents, since)) = looked else { return (nothing, request) };
            let at = clock::now();
            let found = match contents {
                // It may have been on its way for all of that time (RFC 9111 §4.2.3).
                Some((Contents::Response(response), age)) => {
                    self.held(response, age.saturating_add(at.saturating_duration_since(began)))
                }
                _ => None,
            };
            (Asked { found, known: Some(Known { since, at, fields }) }, request)
        })
    }

    /// Whether the store has failed lately. Those who wait for an answer do not wait for it again.
    fn is_resting(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| clock::now() < until)
    }

    fn rest(&self, failed: bool) {
        let until = failed.then(|| clock::after(clock::now(), REST));
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// What the store holds for a course, with its age; and when that was.
    async fn look(&self, course: &Course) -> Result<(Option<(Contents, Duration)>, Since), StoreError> {
        let Fetched { found, since } = self.store.fetch(course).await?;
        let found = found.and_then(|found| Some((Contents::read(&found.bytes, course, &self.kind)?, found.age)));
        Ok((found, since))
    }

    /// Does what a run has left to do.
    pub(crate) fn after<'a>(&'a self, key: &'a Key, afterwards: Afterwards<V>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match afterwards {
                Afterwards::Save(saving) => {
                    self.in_time(LEISURE, self.save(key, saving)).await;
                }
                Afterwards::Forget(Some(known)) => {
                    self.in_time(LEISURE, self.store.forget(key, known.since)).await;
                }
                Afterwards::Forget(None) => {
                    self.in_time(LEISURE, self.store.invalidate(&Scope::from(key))).await;
                }
            }
        })
    }

    /// Forgets what a scope reaches.
    pub(crate) async fn invalidate(&self, scope: &Scope) -> Result<(), Error> {
        self.told(LEISURE, self.store.invalidate(scope)).await.map_err(|error| Error::store(error.to_string()))
    }

    async fn save(&self, key: &Key, saving: Saving<V>) -> Result<(), StoreError> {
        let Saving { entry, variant, signpost, known: Known { since, at, .. } } = saving;
        let value = caught(|| self.codec.encode(&entry.value)).map_err(|error| StoreError(error.to_string()))?.into();
        let (age, freshness, cost) = (entry.age(at), *entry.freshness(), entry.early.cost());
        let time_to_live = freshness.gone_at().saturating_sub(age);
        if entry.age(clock::now()) >= freshness.gone_at() {
            return Ok(());
        }
        let Judgement { tags, fields, withheld, .. } = entry.judged.clone();
        let response =
            Response { age, freshness, cost, flags: Flags::of(&entry.judged).0, tags, fields, withheld, value };
        if let Some(fields) = signpost {
            // It stands for longer than what it points to.
            let time_to_live = time_to_live.saturating_mul(2);
            let course = Course { key: key.clone(), variant: None };
            let bytes = Contents::Signpost(fields).write(&course, &self.kind);
            let record = Record { bytes, tags: Tags::default(), time_to_live };
            self.store.save(&course, record, since.clone()).await?;
        }
        let (course, tags) = (Course { key: key.clone(), variant }, response.tags.clone());
        let bytes = Contents::Response(response).write(&course, &self.kind);
        self.store.save(&course, Record { bytes, tags, time_to_live }, since).await
    }

    fn held(&self, response: Response, age: Duration) -> Option<Held<V>> {
        let value = caught(|| self.codec.decode_shared(response.value.clone()));
        let value = value.map_err(|error| self.failed(&StoreError(error.to_string()))).ok()?;
        let mut judged = Flags(response.flags).judgement(response.freshness);
        judged.age = response.age.saturating_add(age);
        (judged.tags, judged.fields, judged.withheld) = (response.tags, response.fields, response.withheld);
        Some(Held { value, judged, cost: response.cost })
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
        let done = clock::timeout(time, operation).await;
        let done = done.unwrap_or_else(|| Err(StoreError("the store did not answer in time".into())));
        done.inspect_err(|error| self.failed(error))
    }

    fn failed(&self, error: &StoreError) {
        self.telemetry.store_failed(error);
    }
}

impl<V> Held<V> {
    /// The verdict on it at this moment.
    pub(crate) fn verdict(&self) -> Verdict {
        self.judged.freshness.at(self.judged.age)
    }
}

/// All of these fields, each once.
fn all(some: Option<&Fields>, others: Option<&Fields>) -> Option<Fields> {
    let (Some(some), Some(others)) = (some, others) else { return some.or(others).cloned() };
    if others.iter().all(|name| some.contains(name)) {
        return Some(Arc::clone(some));
    }
    let mut all: Vec<_> = some.iter().chain(others.iter()).cloned().collect();
    all.sort_unstable();
    all.dedup();
    Some(all.into())
}

/// What of a judgement is yes or no, as a record keeps it.
struct Flags(u8);

impl Flags {
    fn of(judged: &Judgement) -> Self {
        let all = [judged.failed, judged.explicit, judged.said, judged.on_demand, judged.validate, judged.for_all];
        Self(all.iter().enumerate().map(|(at, flag)| u8::from(*flag) << at).sum())
    }

    fn judgement(&self, freshness: Freshness) -> Judgement {
        let is_set = |at: u8| self.0 >> at & 1 == 1;
        let mut judged = Judgement::storable(freshness);
        (judged.failed, judged.explicit, judged.said) = (is_set(0), is_set(1), is_set(2));
        (judged.on_demand, judged.validate, judged.for_all) = (is_set(3), is_set(4), is_set(5));
        // Its lifetime was jittered when it was first stored.
        judged.drawn = true;
        judged.found = true;
        judged
    }
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
mod tests {
    use super::*;
    use crate::{entry::Early, stats::Gauges, store::local::LocalStore};

    struct Text;

    impl Codec<String> for Text {
        fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
            Ok(value.clone().into_bytes())
        }

        fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
            Ok(std::str::from_utf8(bytes)?.to_owned())
        }
    }

    #[tokio::test(start_paused = true)] // P64
    async fn bytes_that_are_no_record_are_nothing_and_no_failure() {
        let (store, key) = (LocalStore::new(), Key::from("k"));
        let tier = Tier::new(Arc::new(store.clone()), Text, Arc::default());
        let entry = |value: &str| Entry {
            value: value.to_owned(),
            started: clock::now(),
            run: 1,
            early: Early::after(Duration::from_secs(2)),
            judged: Judgement::storable(Freshness::new(Duration::from_secs(60))),
            variant: None,
            weight: 1,
        };
        let values = |_: &Fields, _: &()| Variant::from([]);
        type Change = fn(&[u8]) -> Vec<u8>;
        let changes: [(Change, bool); 4] = [
            (<[u8]>::to_vec, true),
            (|_| Vec::new(), false),
            (|bytes| bytes[1..].to_vec(), false),
            (|bytes| bytes.iter().map(|byte| byte ^ 1).collect(), false),
        ];
        for (change, sound) in changes {
            let known = tier.ask(&key, (), values).await.0.known.unwrap();
            tier.after(&key, Afterwards::Save(known.saving(&Arc::new(entry("value")), |fields| values(fields, &()))))
                .await;
            store.corrupt(change);
            let found = tier.ask(&key, (), values).await.0.found;
            assert_eq!(
                found.map(|held| (held.value, held.cost)),
                sound.then(|| ("value".to_owned(), Duration::from_secs(2)))
            );
        }
        let failures = tier.telemetry.stats(&Gauges::default()).store_failures;
        assert_eq!(failures, 0);
    }
}
