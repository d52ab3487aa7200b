//! A store that does as it is told: it delays, it loses, and it counts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{BoxFuture, Record, Store, StoreError};
use crate::{
    clock::{self, Instant},
    key::Key,
    scope::Scope,
};

/// What one instance has of the shared store: clones share the records, each has its own script.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    records: Arc<Mutex<HashMap<Key, (Record, Instant)>>>,
    delay: Mutex<Duration>,
    lost: AtomicBool,
    pub(crate) operations: AtomicUsize,
}

impl Fake {
    /// Another instance's view of the same records.
    pub(crate) fn another(&self) -> Self {
        Self { records: Arc::clone(&self.records), ..Self::default() }
    }

    /// From now on every operation takes this long.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// From now on operations are lost on their way, or not any more.
    pub(crate) fn lose(&self, lost: bool) {
        self.lost.store(lost, SeqCst);
    }

    async fn arrive(&self) -> Result<(), StoreError> {
        let delay = *self.delay.lock().unwrap();
        self.operations.fetch_add(1, SeqCst);
        if !delay.is_zero() {
            clock::sleep(delay).await;
        }
        if self.lost.load(SeqCst) { Err(StoreError("lost on the way".into())) } else { Ok(()) }
    }
}

impl Store for Fake {
    fn load<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let mut records = self.records.lock().unwrap();
            records.retain(|_, (_, gone_at)| clock::now() < *gone_at);
            Ok(records.get(key).map(|(record, _)| record.bytes.clone()))
        })
    }

    fn save<'a>(&'a self, key: &'a Key, record: Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            let gone_at = clock::now() + record.time_to_live;
            self.records.lock().unwrap().insert(key.clone(), (record, gone_at));
            Ok(())
        })
    }

    fn invalidate<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrive().await?;
            self.records.lock().unwrap().retain(|key, (record, _)| !scope.matches(key, &record.tags));
            Ok(())
        })
    }
}
