//! Which keys a path or a tag reaches, so that an invalidation visits what it names and not all that is stored.
//!
//! A posting says "under this path (or tag) there is this key". Postings are found by a hash, so a list may hold a key
//! too many; whoever reads one compares the scope itself. Each posting carries the serial number of the slot that made
//! it: a slot that was evicted takes back its own postings and never those of the slot that replaced it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    key::Key,
    scope::{Reach, Scope},
};

#[derive(Debug)]
pub(crate) struct Index {
    hasher: ahash::RandomState,
    shards: Box<[Mutex<HashMap<u64, Posting, ahash::RandomState>>]>,
}

/// The keys under one path or tag; nearly always there is one.
#[derive(Debug)]
enum Posting {
    One(Key, u64),
    Many(HashMap<Key, u64, ahash::RandomState>),
}

/// What a key is found under.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heading<'a> {
    Path(&'a [u8]),
    Tag(&'a str),
}

/// What one posting takes in memory, on average.
pub(crate) const POSTING_WEIGHT: usize = 72;

impl Index {
    pub(crate) fn new() -> Self {
        let hasher = ahash::RandomState::new();
        let shards = (0..64).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { hasher, shards }
    }

    pub(crate) fn insert(&self, heading: Heading<'_>, key: &Key, serial: u64) {
        let hash = self.hash(heading);
        match self.shard(hash).entry(hash) {
            Entry::Vacant(free) => {
                free.insert(Posting::One(key.clone(), serial));
            }
            Entry::Occupied(mut taken) => match taken.get_mut() {
                Posting::One(known, old) if known == key => *old = serial,
                Posting::Many(keys) => {
                    keys.insert(key.clone(), serial);
                }
                one @ Posting::One(..) => {
                    let keys = HashMap::with_hasher(self.hasher.clone());
                    if let Posting::One(known, old) = std::mem::replace(one, Posting::Many(keys))
                        && let Posting::Many(keys) = one
                    {
                        keys.extend([(known, old), (key.clone(), serial)]);
                    }
                }
            },
        }
    }

    /// Takes back a posting, unless a newer slot has made it its own.
    pub(crate) fn remove(&self, heading: Heading<'_>, key: &Key, serial: u64) {
        let hash = self.hash(heading);
        let mut shard = self.shard(hash);
        let Entry::Occupied(mut posting) = shard.entry(hash) else { return };
        let empty = match posting.get_mut() {
            Posting::One(known, own) => known == key && *own == serial,
            Posting::Many(keys) => {
                if keys.get(key) == Some(&serial) {
                    keys.remove(key);
                }
                if keys.len() * 4 < keys.capacity() {
                    keys.shrink_to_fit();
                }
                keys.is_empty()
            }
        };
        if empty {
            posting.remove();
        }
    }

    /// The keys that a scope may reach; `None` if that can be any.
    pub(crate) fn candidates(&self, scope: &Scope) -> Option<Vec<Key>> {
        let heading = match scope.reach() {
            Reach::Key(key) => return Some(vec![key.clone()]),
            Reach::Uri(uri) => Heading::Path(uri.path()),
            Reach::Tag(tag) => Heading::Tag(tag),
            Reach::Everything => return None,
        };
        let hash = self.hash(heading);
        // A path has many queries. Which of its keys are meant they say themselves, unlike their tags.
        let may_be_meant = |key: &&Key| matches!(heading, Heading::Tag(_)) || scope.matches_key(key);
        Some(match self.shard(hash).get(&hash) {
            None => Vec::new(),
            Some(Posting::One(key, _)) => vec![key.clone()],
            Some(Posting::Many(keys)) => keys.keys().filter(may_be_meant).cloned().collect(),
        })
    }

    fn hash(&self, heading: Heading<'_>) -> u64 {
        match heading {
            Heading::Path(path) => self.hasher.hash_one((0_u8, path)),
            Heading::Tag(tag) => self.hasher.hash_one((1_u8, tag)),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, Posting, ahash::RandomState>> {
        let shard = (hash >> 56) as usize % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_ok_and(|shard| shard.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_slot_takes_back_nothing_of_its_successor() {
        let index = Index::new();
        let key = Key::from("k");
        index.insert(Heading::Tag("t"), &key, 1);
        index.insert(Heading::Tag("t"), &key, 2);
        index.remove(Heading::Tag("t"), &key, 1);
        assert_eq!(index.candidates(&Scope::tag("t")), Some(vec![key.clone()]));
        index.remove(Heading::Tag("t"), &key, 2);
        assert!(index.is_empty());
    }

    #[test]
    fn one_heading_holds_many_keys_and_ends_empty() {
        let index = Index::new();
        let keys: Vec<_> = (0..100).map(|n| Key::from(n.to_string())).collect();
        keys.iter().for_each(|key| index.insert(Heading::Tag("t"), key, 7));
        assert_eq!(index.candidates(&Scope::tag("t")).map(|keys| keys.len()), Some(100));
        assert_eq!(index.candidates(&Scope::tag("other")), Some(vec![]));
        keys.iter().for_each(|key| index.remove(Heading::Tag("t"), key, 7));
        assert!(index.is_empty());
    }
}
