//! How a cache uses its store: values become records and back, no operation takes longer than it may, and none fails a
//! request.

use std::{
    any::type_name,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock,
    codec::{Codec, CodecError},
    entry::Entry,
    error::Error,
    freshness::{Freshness, Verdict},
    key::Key,
    protocol::Judgement,
    scope::Scope,
    store::{Fetched, Record, Since, Store, StoreError, record::Contents},
    telemetry::Telemetry,
};

/// How long those who wait for an answer wait for the store.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a record that was made may take to be saved: nobody waits for it.
const LEISURE: Duration = Duration::from_secs(5);

/// A store, and the codec by which values of this type are kept there.
pub(crate) struct Tier<V> {
    store: Arc<dyn Store>,
    codec: Arc<dyn Codec<V>>,
    /// What tells the records of this codec and type from others.
    kind: String,
    telemetry: Arc<Telemetry>,
}

/// What the store had for a run that is to begin, and by what it knows the run again.
pub(crate) struct Asked<V> {
    pub(crate) found: Option<Held<V>>,
    pub(crate) since: Option<Since>,
}

/// A response that the store held.
#[derive(Debug)]
pub(crate) struct Held<V> {
    pub(crate) value: V,
    /// All but the response's age, which counts from now.
    pub(crate) judged: Judgement,
    pub(crate) cost: Duration,
}

/// What is to be done in the store once a run has landed.
pub(crate) enum Afterwards<V> {
    Save(Arc<Entry<V>>, Since),
    /// What is there is not to be given out any more.
    Forget,
}

impl<V: Send + Sync + 'static> Tier<V> {
    pub(crate) fn new<C: Codec<V>>(store: impl Store, codec: C, telemetry: Arc<Telemetry>) -> Self {
        let kind = format!("{} {}", type_name::<C>(), type_name::<V>());
        Self { store: Arc::new(store), codec: Arc::new(codec), kind, telemetry }
    }

    /// Asks for what is stored under a key before a run for it begins. Those who ask have an answer in time.
    pub(crate) async fn ask(&self, key: &Key) -> Asked<V> {
        let Some(Fetched { found, since }) = self.in_time(PATIENCE, self.store.fetch(key)).await else {
            return Asked { found: None, since: None };
        };
        let found = found.and_then(|found| {
            let contents = Contents::read(&found.bytes, key, &self.kind)?;
            let value = caught(|| self.codec.decode(&contents.value));
            let value = value.map_err(|error| self.failed(&StoreError(error.to_string()))).ok()?;
            Some(Held::new(value, &contents, found.age))
        });
        Asked { found, since: Some(since) }
    }

    /// Does what a run has left to do.
    pub(crate) async fn after(&self, key: &Key, afterwards: Afterwards<V>) {
        match afterwards {
            Afterwards::Save(entry, since) => self.save(key, &entry, since).await,
            Afterwards::Forget => {
                self.in_time(LEISURE, self.store.invalidate(&Scope::from(key))).await;
            }
        }
    }

    /// Forgets what a scope reaches.
    pub(crate) async fn invalidate(&self, scope: &Scope) -> Result<(), Error> {
        let told = clock::timeout(LEISURE, self.store.invalidate(scope)).await;
        told.unwrap_or_else(|| Err(StoreError("the store did not answer in time".into()))).map_err(|error| {
            self.failed(&error);
            Error::store(error.to_string())
        })
    }

    async fn save(&self, key: &Key, entry: &Entry<V>, since: Since) {
        let value = match caught(|| self.codec.encode(&entry.value)) {
            Ok(value) => Bytes::from(value),
            Err(error) => return self.failed(&StoreError(error.to_string())),
        };
        let (age, freshness) = (entry.age(clock::now()), *entry.freshness());
        let time_to_live = freshness.gone_at().saturating_sub(age);
        if time_to_live.is_zero() {
            return;
        }
        let (tags, cost, flags) = (entry.tags().clone(), entry.early.cost(), Flags::of(&entry.judged).0);
        let contents = Contents { age, freshness, cost, flags, tags, value };
        let bytes = contents.write(key, &self.kind);
        let record = Record { bytes, tags: contents.tags, time_to_live };
        self.in_time(LEISURE, self.store.save(key, record, since)).await;
    }

    /// What an operation gives, if it succeeds in time.
    async fn in_time<T>(&self, time: Duration, operation: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let done = clock::timeout(time, operation).await;
        let done = done.unwrap_or_else(|| Err(StoreError("the store did not answer in time".into())));
        done.map_err(|error| self.failed(&error)).ok()
    }

    fn failed(&self, error: &StoreError) {
        self.telemetry.store_failed(error);
    }
}

impl<V> Held<V> {
    fn new(value: V, contents: &Contents, age: Duration) -> Self {
        let mut judged = Flags(contents.flags).judgement(contents.freshness);
        judged.age = contents.age.saturating_add(age);
        judged.tags = contents.tags.clone();
        Self { value, judged, cost: contents.cost }
    }

    /// The verdict on it at this moment.
    pub(crate) fn verdict(&self) -> Verdict {
        self.judged.freshness.at(self.judged.age)
    }
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
        let tier = Tier::new(store.clone(), Text, Arc::default());
        let entry = |value: &str| Entry {
            value: value.to_owned(),
            started: clock::now(),
            run: 1,
            early: Early::after(Duration::from_secs(2)),
            judged: Judgement::storable(Freshness::new(Duration::from_secs(60))),
            variant: None,
            weight: 1,
        };
        type Change = fn(&[u8]) -> Vec<u8>;
        let changes: [(Change, bool); 4] = [
            (<[u8]>::to_vec, true),
            (|_| Vec::new(), false),
            (|bytes| bytes[1..].to_vec(), false),
            (|bytes| bytes.iter().map(|byte| byte ^ 1).collect(), false),
        ];
        for (change, sound) in changes {
            let since = tier.ask(&key).await.since.unwrap();
            tier.after(&key, Afterwards::Save(Arc::new(entry("value")), since)).await;
            store.corrupt(change);
            let found = tier.ask(&key).await.found;
            assert_eq!(
                found.map(|held| (held.value, held.cost)),
                sound.then(|| ("value".to_owned(), Duration::from_secs(2)))
            );
        }
        let failures = tier.telemetry.stats(&Gauges::default()).store_failures;
        assert_eq!(failures, 0);
    }
}
