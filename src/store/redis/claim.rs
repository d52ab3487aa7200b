//! What a run knows of the moment at which it claimed: what `Since` holds.

use super::{
    leases::Lease,
    names::CourseNames,
    proof::Proof,
    servers::{Answer, Era},
    tokens::{self, BUCKETS},
};
use crate::{
    entry::Course,
    key::Key,
    store::{Since, StoreError},
};

/// A run that was claimed.
pub(super) struct Run {
    pub(super) key: Key,
    /// When, in microseconds since 1970 by the clock of the record's server.
    pub(super) claimed: u64,
    /// Which life of the record's server that was.
    pub(super) era: Era,
    /// Of the tokens that cover its key.
    pub(super) proof: Proof,
    pub(super) buckets: Buckets,
    pub(super) lease: Option<Lease>,
}

/// What stands for tags that nobody knows before the response is there: an invalidation of a tag changes its bucket.
pub(super) struct Buckets {
    era: Era,
    bytes: Vec<u8>,
}

impl Run {
    /// What a run for a course knows.
    pub(super) fn of<'a>(Since(since): &'a Since, course: &Course) -> Result<&'a Self, StoreError> {
        let run = since.downcast_ref().filter(|run: &&Self| run.key == course.key);
        run.ok_or_else(|| StoreError("a run of another store".into()))
    }

    /// The lease of the run, if it has one for the course of these names.
    pub(super) fn lease(&self, names: &CourseNames) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.held.names == *names)
    }
}

impl Buckets {
    /// How long they are.
    pub(super) const LENGTH: usize = BUCKETS * 8;

    pub(super) fn read(answer: Answer) -> Option<Self> {
        let redis::Value::BulkString(bytes) = answer.value else { return None };
        (bytes.len() == Self::LENGTH).then_some(Self { era: answer.era, bytes })
    }

    /// Whether nothing was invalidated between the two that a tag could have told.
    pub(super) fn agree(&self, later: &Self, tag: &str) -> bool {
        let at = tokens::bucket(tag) * 8;
        self.era == later.era && self.bytes.get(at..at + 8) == later.bytes.get(at..at + 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P71
    fn buckets_agree_on_a_tag_if_its_own_is_the_same_and_of_the_same_life_of_a_server() {
        let read = |era, changed: Option<usize>| {
            let mut bytes = vec![0; Buckets::LENGTH];
            changed.iter().for_each(|at| bytes[*at] = 1);
            Buckets::read(Answer { value: redis::Value::BulkString(bytes), era: [era; 16] }).unwrap()
        };
        let (before, at) = (read(1, None), tokens::bucket("t") * 8);
        assert!(before.agree(&read(1, None), "t"));
        for others in [at - 1, at + 8] {
            assert!(before.agree(&read(1, Some(others)), "t"));
        }
        for own in [at, at + 7] {
            assert!(!before.agree(&read(1, Some(own)), "t"));
        }
        assert!(!before.agree(&read(2, None), "t"));
    }
}
