//! The state that layers share: what is stored, what is under way, what was invalidated. Where a run's response lands, and
//! where an invalidation begins.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::{
    clock,
    entry::Entry,
    flight::Flights,
    journal::Journal,
    judgement::Class,
    key::Key,
    memory::Memory,
    permits::Permits,
    scope::Force,
    scope::Scope,
    slot::{Admission, Slot},
    status::Detail,
    store::{Listener, tier::Tier},
    telemetry::{Event, Telemetry},
};

/// How much memory there is for what is known of keys, in bytes, where it keeps no responses.
const NOTES: usize = 4 << 20;

pub(crate) struct Shared<V> {
    pub(crate) memory: Memory<V>,
    pub(crate) flights: Arc<Flights<V>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) running: Arc<Running>,
    /// Of these runs there is something left to do in the shared store.
    pub(crate) saving: Arc<Running>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) tier: Option<Tier<V>>,
    /// Every read asks the shared store: memory keeps no response.
    is_strict: bool,
}

/// How many runs are under way.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: AtomicUsize,
    settled: Notify,
}

/// One run under way.
#[derive(Debug)]
pub(crate) struct Run(Arc<Running>);

impl<V> Shared<V> {
    pub(crate) fn remove(&self, scope: &Scope, force: Force) -> usize {
        // NOTE: recorded first, removed afterwards: what journal.rs promises rests on this order.
        self.journal.record(scope);
        self.flights.detach(scope);
        self.memory.invalidate(scope, force, clock::now())
    }

    /// Stores what a run has made, in place of what it refreshes, unless an invalidation since the run's start reaches
    /// it: one step for all who invalidate. Why it was not stored, if it was not.
    pub(crate) fn land(
        &self,
        key: &Key,
        entry: &Arc<Entry<V>>,
        refreshed: Option<&Arc<Entry<V>>>,
        most: usize,
    ) -> Option<Detail> {
        let now = clock::now();
        let judged = &entry.judged;
        let born_gone = entry.age(now) >= entry.freshness().gone_at();
        // What the new entry displaces is dropped outside the journal's lock: its destructor is not ours.
        let (refusal, _displaced) = self.journal.land(entry.run, key, &judged.tags, |voided| match judged.class {
            _ if voided => (Some(Detail::Invalidated), None),
            Class::Storable if born_gone => (Some(Detail::NoLifetime), None),
            Class::Storable if self.is_strict => {
                let (_, displaced) = self.memory.replace(key, now, |slot| slot.settle(judged.fields.as_ref()));
                (None, Some(displaced))
            }
            Class::Storable => {
                let admit = |slot: &mut Slot<V>| slot.admit(Arc::clone(entry), refreshed, most);
                let (admission, displaced) = self.memory.replace(key, now, admit);
                let refusal = match admission {
                    Admission::Superseded => Some(Detail::Superseded),
                    Admission::Stored => displaced.rejected.then_some(Detail::TooLarge),
                };
                (refusal, Some(displaced))
            }
            _ => (Some(judged.detail.unwrap_or(Detail::NoLifetime)), None),
        });
        refusal
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Nothing is stored yet. Without memory every read asks the shared store.
    pub(crate) fn new(
        memory: usize,
        max_refreshes: usize,
        tier: impl FnOnce(&Arc<Telemetry>, Weak<dyn Listener>) -> Option<Tier<V>>,
    ) -> Arc<Self> {
        let (journal, telemetry) = (Arc::new(Journal::default()), Arc::new(Telemetry::default()));
        Arc::new_cyclic(|shared: &Weak<Self>| {
            let listener: Weak<Self> = Weak::clone(shared);
            let tier = tier(&telemetry, listener);
            let is_strict = tier.is_some() && memory == 0;
            let memory = if is_strict { NOTES } else { memory };
            Self {
                memory: Memory::new(memory, Arc::clone(&telemetry)),
                flights: Arc::new(Flights::new(Arc::clone(&journal))),
                journal,
                permits: Arc::new(Permits::new(max_refreshes)),
                running: Arc::default(),
                saving: Arc::default(),
                telemetry: Arc::clone(&telemetry),
                tier,
                is_strict,
            }
        })
    }

    /// The shared store, where every read asks it.
    pub(crate) fn strict(&self) -> Option<&Tier<V>> {
        self.tier.as_ref().filter(|_| self.is_strict)
    }

    /// Whether an entry may be served without a question to the shared store.
    pub(crate) fn vouches_for(&self, entry: &Entry<V>) -> bool {
        self.tier.as_ref().is_none_or(|tier| tier.vouches_for(entry.generation.get()))
    }
}

impl<V: Send + Sync + 'static> Listener for Shared<V> {
    fn invalidated(&self, scope: &Scope, force: Force) {
        let entries = self.remove(scope, force);
        self.telemetry.tell(Event::Invalidated { purged: force == Force::Purge, entries });
    }
}

impl Running {
    pub(crate) fn start(self: &Arc<Self>) -> Run {
        self.count.fetch_add(1, SeqCst);
        Run(Arc::clone(self))
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Waits until none is under way.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, SeqCst) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}
