//! What need not be compared at each read: records whose tokens were what they should be, and in which epoch that was.
//!
//! The *epoch* is eight random bytes. An invalidation deletes them in the same step as a token, and whoever finds none
//! makes others. So as long as the epoch is the one in which the tokens of a record were compared, no token was deleted by
//! an invalidation since, and there is nothing to compare: a reader asks for the record and the epoch, in one command.
//!
//! Nothing depends on the epoch's being there: without it, or with another one, tokens are compared. What is told here
//! holds for a while and no longer, so that a token which somebody deletes by hand is noticed all the same, and so is
//! an invalidation by an instance of another version, which may know nothing of epochs.
//!
//! In a cluster the epoch would be on another node than what it vouches for; nothing is vouched for there.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache as Engine, DefaultLifecycle},
};
use redis::Value;

use super::{
    envelope::{Envelope, Head, Seal},
    names::Name,
    servers::{Answer, Era},
};
use crate::{clock::Instant, entry::Course, store::Found};

/// How much is remembered, in bytes: some thousands of records.
const ROOM: u64 = 1 << 20;
/// What a record weighs here beside its names, about.
const PLACE: usize = 256;

/// Which epoch it is.
pub(super) type Epoch = NonZeroU64;

/// The records that were compared.
pub(super) struct Vouched {
    records: Engine<Course, Arc<Record>, Weigh, ahash::RandomState>,
    /// The epoch that was seen last, 0 if there was none: a hint, for what is of another one is not asked for in vain.
    latest: AtomicU64,
    lasts: Duration,
}

/// A record, of which all tokens were compared.
pub(super) struct Record {
    pub(super) name: Name,
    /// How long what is kept under the name was.
    pub(super) length: usize,
    pub(super) head: Head,
    /// What was seen before the tokens were, or in the same step: what was deleted since was deleted with it.
    pub(super) epoch: Epoch,
    pub(super) era: Era,
    /// Not later than any of that.
    pub(super) since: Instant,
}

/// What was found at a moment: a record, and the epoch at that moment.
pub(super) struct Look {
    pub(super) record: Answer,
    pub(super) epoch: Option<Epoch>,
    /// By the clock of the server: microseconds since 1970.
    pub(super) now: u64,
}

#[derive(Clone)]
struct Weigh;

impl Vouched {
    /// Holds for so long.
    pub(super) fn new(lasts: Duration) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(ROOM)
            .estimated_items_capacity(usize::try_from(ROOM).unwrap_or(usize::MAX) / (2 * PLACE))
            .shards(8)
            .build()
            .expect("capacity and estimate are given");
        let records = Engine::with_options(options, Weigh, ahash::RandomState::new(), DefaultLifecycle::default());
        Self { records, latest: AtomicU64::new(0), lasts }
    }

    /// What is known of a course, if it may hold still at this moment.
    pub(super) fn get(&self, course: &Course, now: Instant) -> Option<Arc<Record>> {
        let record = self.records.get(course)?;
        let is_recent = now.saturating_duration_since(record.since) < self.lasts;
        (is_recent && self.latest.load(Relaxed) == record.epoch.get()).then_some(record)
    }

    /// Vouches for the record of a course.
    pub(super) fn vouch(&self, course: &Course, record: Record) {
        self.records.insert(course.clone(), Arc::new(record));
    }

    /// This is the epoch.
    pub(super) fn saw(&self, epoch: Option<Epoch>) {
        self.latest.store(epoch.map_or(0, Epoch::get), Relaxed);
    }

    /// Whether there is one, as far as anybody knows.
    pub(super) fn has_epoch(&self) -> bool {
        self.latest.load(Relaxed) != 0
    }
}

impl Record {
    /// What was found, if it is the record that was compared, in the same epoch; nothing, if it has to be compared.
    pub(super) fn judge(&self, Look { record, epoch, now }: Look, seal: &Seal) -> Option<Option<Found>> {
        let bytes = match record.value {
            Value::Nil => return Some(None),
            Value::BulkString(bytes) if epoch == Some(self.epoch) && record.era == self.era => Bytes::from(bytes),
            _ => return None,
        };
        let record = Envelope::rest(&bytes, &self.name, seal, &self.head)?;
        Some(Some(Found { bytes: record, age: Duration::from_micros(now.saturating_sub(self.head.claimed())) }))
    }
}

/// The epoch that Redis has.
pub(super) fn epoch(value: &Value) -> Option<Epoch> {
    let Value::BulkString(bytes) = value else { return None };
    NonZeroU64::new(u64::from_be_bytes(bytes.as_slice().try_into().ok()?))
}

impl Weighter<Course, Arc<Record>> for Weigh {
    fn weight(&self, Course { key, variant }: &Course, record: &Arc<Record>) -> u64 {
        let named = key.len() + variant.as_ref().map_or(0, |variant| variant.len());
        (PLACE + named + record.name.len() + record.head.len()) as u64
    }
}

#[cfg(all(test, not(cacheback_model)))]
pub(super) mod tests {
    use super::*;
    use crate::{clock, key::Key, store::redis::proof::Proof, tags::Tags};

    /// A record with nothing in it, in the first of all epochs.
    pub(in crate::store::redis) fn record(name: Name) -> Record {
        let (seal, proof) = (Seal::default(), Proof([0; Proof::LENGTH]));
        let envelope =
            Envelope { claimed: 1, proof, tags: Tags::default(), proof_of_tags: proof, record: Bytes::new() };
        let bytes = Bytes::from(envelope.write(&name, &seal));
        let (length, head) = (bytes.len(), envelope.head(&bytes, &seal));
        Record { name, length, head, epoch: Epoch::MIN, era: [0; 16], since: clock::now() }
    }

    #[tokio::test(start_paused = true)] // P63
    async fn however_many_are_vouched_for_takes_no_more_room_than_there_is() {
        let courses = (0..20_000).map(|at| Course { key: Key::from(format!("http://a/{at}")), variant: None });
        let courses = courses.collect::<Vec<_>>();
        let vouched = Vouched::new(Duration::from_secs(1));
        vouched.saw(Some(Epoch::MIN));
        let taken = allocation_counter::measure(|| {
            courses.iter().for_each(|course| vouched.vouch(course, record(vec![b'n'; 50])));
        });
        let kept = courses.iter().filter(|course| vouched.get(course, clock::now()).is_some()).count();
        assert!((2_000..5_000).contains(&kept), "{kept}");
        assert!(taken.bytes_current < ROOM as i64, "{} bytes", taken.bytes_current);
    }
}
