//! A look at what is stored, which leaves no trace.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    clock::{self, Instant},
    entry::Entry,
    freshness::{Freshness, Verdict},
    key::Key,
    scope::Scope,
    slot::Kept,
    tags::Tags,
};

/// A stored response at one moment: from [`Cache::peek`].
pub struct Peeked<V> {
    key: Key,
    entry: Arc<Entry<V>>,
    age: Duration,
    verdict: Verdict,
    expired: bool,
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// All that is stored in the memory of this process and that a scope reaches, at this moment. What may not be served any
    /// more is left out.
    ///
    /// Nothing comes of it: it starts no run, and what is seen does not count as used.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cacheback::Error> {
    /// use cacheback::{CachebackLayer, Key};
    ///
    /// let layer = CachebackLayer::typed::<u32, String>(|id| Key::from(id.to_string()));
    /// layer.put(42, "user 42".to_owned()).await?;
    ///
    /// let stored = layer.cache().peek(&Key::from("42"));
    /// assert_eq!(stored[0].value(), "user 42");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn peek(&self, scope: impl Into<Scope>) -> Vec<Peeked<V>> {
        let (scope, now) = (scope.into(), clock::now());
        let memory = &self.shared().memory;
        let slots = memory.candidates(&scope).into_iter().filter_map(|key| memory.peek(&key));
        slots
            .flat_map(|slot| {
                let reached = slot.variants.iter().filter(|kept| scope.matches(&slot.key, kept.entry.tags()));
                reached.map(|kept| Peeked::of(&slot.key, kept, now)).collect::<Vec<_>>()
            })
            .filter(|peeked| peeked.verdict.is_servable())
            .collect()
    }
}

impl<V> Peeked<V> {
    fn of(key: &Key, kept: &Kept<V>, now: Instant) -> Self {
        let (verdict, age) = kept.verdict(now);
        Self { key: key.clone(), entry: Arc::clone(&kept.entry), age, verdict, expired: kept.expired }
    }

    /// What is stored.
    #[must_use]
    pub fn value(&self) -> &V {
        &self.entry.value
    }

    /// The key under which it is stored.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// How long it lives.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        *self.entry.freshness()
    }

    /// Whether the next reader is answered by it without a run.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.verdict == Verdict::Fresh
    }

    /// Whether it was expired by hand.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    /// The groups that it belongs to.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        self.entry.tags()
    }
}

impl<V> fmt::Debug for Peeked<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked")
            .field("key", &self.key)
            .field("age", &self.age)
            .field("verdict", &self.verdict)
            .field("expired", &self.expired)
            .finish_non_exhaustive()
    }
}
