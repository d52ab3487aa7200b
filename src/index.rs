//! Which keys a path or a tag reaches, so that an invalidation visits what it names and not all that is stored.
//!
//! A posting says "under this path (or tag) there is this key". Paths are kept in order, so that those below one are found
//! together; tags are found by a hash, so a list may hold a key too many, and whoever reads one compares the scope itself.
//! Each posting carries the serial number of the slot that made it: a slot that was evicted takes back its own postings
//! and never those of the slot that replaced it.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, HashMap, hash_map},
    ops::Bound,
};

use crate::{
    key::{self, Key, KeyBuf},
    scope::{GroupScope, Reach, Scope, UriScope},
    sync::{self, Mutex, MutexGuard, PoisonError},
    tables::give_back,
};

#[derive(Debug)]
pub(crate) struct Index {
    hasher: ahash::RandomState,
    /// By the hash of the path; within a shard in the order of the paths.
    paths: Box<[Mutex<BTreeMap<ByPath, u64>>]>,
    /// By the hash of the tag.
    tags: Box<[Mutex<HashMap<u64, Posting, ahash::RandomState>>]>,
}

/// A key in its place: by path, then by the rest.
#[derive(Clone, Debug)]
struct ByPath(Key);

/// Where a key, or a path alone, stands in the order. It is what an ordered map can be asked for by a borrow.
trait Place {
    fn path(&self) -> &[u8];
    /// What tells the keys of one path apart. That of no key is empty.
    fn rest(&self) -> &[u8];
}

/// The keys under one tag; often there is one.
#[allow(clippy::box_collection, reason = "a map in place would make every posting as large")]
#[derive(Debug)]
enum Posting {
    One(Key, u64),
    Many(Box<HashMap<Key, u64, ahash::RandomState>>),
}

/// What a key is found under.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heading<'a> {
    Path,
    Tag(&'a str),
}

impl Heading<'_> {
    /// What a posting under it takes in memory, on average.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Path => 56,
            Self::Tag(_) => 96,
        }
    }
}

impl Index {
    pub(crate) fn new() -> Self {
        let hasher = ahash::RandomState::new();
        let paths = (0..sync::SHARDS).map(|_| Mutex::default()).collect();
        let tags = (0..sync::SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { hasher, paths, tags }
    }

    pub(crate) fn insert(&self, heading: Heading<'_>, key: &Key, serial: u64) {
        match heading {
            Heading::Path => {
                let place = ByPath(key.clone());
                self.paths(ByPath::path_of(key)).insert(place, serial);
            }
            Heading::Tag(tag) => {
                let (hash, mut postings) = self.tags(tag);
                match postings.entry(hash) {
                    hash_map::Entry::Vacant(free) => drop(free.insert(Posting::One(key.clone(), serial))),
                    hash_map::Entry::Occupied(mut taken) => taken.get_mut().insert(key, serial, &self.hasher),
                }
            }
        }
    }

    /// Takes back a posting, unless a newer slot has made it its own.
    pub(crate) fn remove(&self, heading: Heading<'_>, key: &Key, serial: u64) {
        match heading {
            Heading::Path => {
                let place = ByPath(key.clone());
                let mut paths = self.paths(place.path());
                if paths.get(&place) == Some(&serial) {
                    paths.remove(&place);
                }
            }
            Heading::Tag(tag) => {
                let (hash, mut postings) = self.tags(tag);
                if let hash_map::Entry::Occupied(mut posting) = postings.entry(hash)
                    && posting.get_mut().remove(key, serial)
                {
                    posting.remove();
                    give_back(&mut postings);
                }
            }
        }
    }

    /// The keys that a scope may reach; `None` if that can be any.
    pub(crate) fn candidates(&self, scope: &Scope) -> Option<Vec<Key>> {
        match scope.reach() {
            Reach::Key(key) => Some(vec![key.clone()]),
            Reach::Uri(uri) if uri.goes_below() => {
                Some(self.paths.iter().flat_map(|paths| below(&lock(paths), uri, scope)).collect())
            }
            Reach::Uri(uri) => Some(at(&self.paths(uri.path()), uri, scope)),
            Reach::Tag(tag) | Reach::Group(GroupScope { name: tag, .. }) => {
                let (hash, postings) = self.tags(tag);
                Some(postings.get(&hash).map_or(Vec::new(), Posting::keys))
            }
            Reach::Like(_) | Reach::Namespace(_) | Reach::Everything => None,
        }
    }

    fn paths(&self, path: &[u8]) -> MutexGuard<'_, BTreeMap<ByPath, u64>> {
        lock(&self.paths[(self.hasher.hash_one(path) >> 56) as usize % self.paths.len()])
    }

    fn tags(&self, tag: &str) -> (u64, MutexGuard<'_, HashMap<u64, Posting, ahash::RandomState>>) {
        let hash = self.hasher.hash_one(tag);
        (hash, lock(&self.tags[(hash >> 56) as usize % self.tags.len()]))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.iter().all(|paths| lock(paths).is_empty()) && self.tags.iter().all(|tags| lock(tags).is_empty())
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys of one path that a scope reaches.
fn at(paths: &BTreeMap<ByPath, u64>, uri: &UriScope, scope: &Scope) -> Vec<Key> {
    visited(paths, uri).filter(|key| scope.matches_key(key)).cloned().collect()
}

/// The keys of one path; where some queries are meant those with these alone. A path may have no end of queries, and a
/// client may have each of its unsafe requests look for one.
fn visited<'a>(paths: &'a BTreeMap<ByPath, u64>, uri: &UriScope) -> impl Iterator<Item = &'a Key> {
    let heads = uri.queries().map_or(vec![KeyBuf::default()], |queries| {
        queries.into_iter().map(|query| KeyBuf::of_path_and_query(uri.path(), query)).collect()
    });
    heads.into_iter().flat_map(move |head| {
        let from = from(paths, uri.path(), head.as_slice());
        from.take_while(move |key| ByPath::path_of(key) == uri.path() && key::bytes(key).starts_with(head.as_slice()))
    })
}

/// The keys of a path and of those below it that a scope reaches.
fn below(paths: &BTreeMap<ByPath, u64>, uri: &UriScope, scope: &Scope) -> Vec<Key> {
    let from = from(paths, uri.path(), b"").take_while(|key| ByPath::path_of(key).starts_with(uri.path()));
    from.filter(|key| scope.matches_key(key)).cloned().collect()
}

/// All keys from a path on, and from those of its keys that begin so.
fn from<'a>(paths: &'a BTreeMap<ByPath, u64>, path: &[u8], head: &[u8]) -> impl Iterator<Item = &'a Key> + use<'a> {
    let first: &dyn Place = &(path, head);
    paths.range::<dyn Place, _>((Bound::Included(first), Bound::Unbounded)).map(|(ByPath(key), _)| key)
}

impl Posting {
    fn insert(&mut self, key: &Key, serial: u64, hasher: &ahash::RandomState) {
        match self {
            Self::One(known, own) if known == key => *own = serial,
            Self::One(known, own) => {
                let mut keys = HashMap::with_hasher(hasher.clone());
                keys.extend([(known.clone(), *own), (key.clone(), serial)]);
                *self = Self::Many(Box::new(keys));
            }
            Self::Many(keys) => drop(keys.insert(key.clone(), serial)),
        }
    }

    /// Takes back a posting: whether none is left.
    fn remove(&mut self, key: &Key, serial: u64) -> bool {
        match self {
            Self::One(known, own) => known == key && *own == serial,
            Self::Many(keys) => {
                if keys.get(key) == Some(&serial) {
                    keys.remove(key);
                }
                give_back(keys);
                keys.is_empty()
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        match self {
            Self::One(key, _) => vec![key.clone()],
            Self::Many(keys) => keys.keys().cloned().collect(),
        }
    }
}

impl ByPath {
    fn path_of(key: &Key) -> &[u8] {
        key.path().unwrap_or_default()
    }
}

impl Place for ByPath {
    fn path(&self) -> &[u8] {
        Self::path_of(&self.0)
    }

    fn rest(&self) -> &[u8] {
        key::bytes(&self.0)
    }
}

/// A path stands before all of its keys, and how keys begin before those that do.
impl Place for (&[u8], &[u8]) {
    fn path(&self) -> &[u8] {
        self.0
    }

    fn rest(&self) -> &[u8] {
        self.1
    }
}

impl<'a> Borrow<dyn Place + 'a> for ByPath {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.path(), self.rest()).cmp(&(other.path(), other.rest()))
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

// NOTE: in the order of any `Place`. Two keys of URIs that begin alike have paths of one length: what follows is in that
// order as it is.
impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (key, another) = (key::bytes(&self.0), key::bytes(&other.0));
        if key::begin_alike(key, another) {
            return key.cmp(another);
        }
        (Self::path_of(&self.0), key).cmp(&(Self::path_of(&other.0), another))
    }
}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByPath {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::UriParts;

    fn key(path: &str, query: Option<&str>) -> Key {
        let mut key = KeyBuf::default();
        key.uri(UriParts { path: path.as_bytes(), query: query.map(str::as_bytes), authority: None }, None);
        key.to_key()
    }

    fn found(index: &Index, scope: &Scope) -> Vec<String> {
        let mut found: Vec<_> = index.candidates(scope).unwrap().iter().map(|key| format!("{key:?}")).collect();
        found.sort();
        found
    }

    #[test]
    fn a_replaced_slot_takes_back_nothing_of_its_successor() {
        let index = Index::new();
        let key = key("/k", None);
        for heading in [Heading::Tag("t"), Heading::Path] {
            index.insert(heading, &key, 1);
            index.insert(heading, &key, 2);
            index.remove(heading, &key, 1);
        }
        assert_eq!(index.candidates(&Scope::tag("t")), Some(vec![key.clone()]));
        assert_eq!(index.candidates(&Scope::path("/k").unwrap()), Some(vec![key.clone()]));
        index.remove(Heading::Tag("t"), &key, 2);
        index.remove(Heading::Path, &key, 2);
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

    #[test] // P34
    fn a_path_is_found_with_its_queries_and_a_prefix_with_what_is_below() {
        let index = Index::new();
        let pages = ["/", "/w/z", "/x", "/x-y", "/x/", "/x/1", "/x/1/a", "/x0", "/xx", "/y"];
        for page in pages {
            for query in [None, Some(""), Some("q=1")] {
                index.insert(Heading::Path, &key(page, query), 1);
            }
        }
        assert_eq!(found(&index, &Scope::path("/x").unwrap()), ["Key(/x)", "Key(/x?)", "Key(/x?q=1)"]);
        assert_eq!(found(&index, &Scope::uri("/x?").unwrap()), ["Key(/x?)"]);
        assert_eq!(found(&index, &Scope::path("/x/2").unwrap()), [""; 0]);
        let below: Vec<_> = found(&index, &Scope::path_prefix("/x").unwrap());
        assert_eq!(below.len(), 4 * 3, "{below:?}");
        assert_eq!(found(&index, &Scope::path_prefix("/x/1").unwrap()).len(), 2 * 3);
        assert_eq!(found(&index, &Scope::path_prefix("/").unwrap()).len(), pages.len() * 3);
    }

    #[test] // P34
    fn keys_with_paths_of_every_length_stand_in_one_order() {
        let lengths = [0, 1, 2, 3, 252, 253, 254, 255, 256, 257, 300, 301, 512, 65_000];
        let paths = ["/a", "/b", "/"].map(|head| lengths.map(|length| format!("{head}{}", "p".repeat(length))));
        let keys: Vec<_> = paths.iter().flatten().flat_map(|path| [None, Some("q")].map(|q| key(path, q))).collect();
        for (one, other) in keys.iter().flat_map(|one| keys.iter().map(move |other| (one, other))) {
            let [one, other] = [one, other].map(|key| ByPath(key.clone()));
            let (place, another): (&dyn Place, &dyn Place) = (&one, &other);
            assert_eq!(one.cmp(&other), place.cmp(another), "{} and {}", one.path().len(), other.path().len());
        }
    }

    #[test] // P34, P36
    fn of_the_many_queries_of_a_path_only_the_one_that_is_meant_is_visited() {
        let key = |path: &str, query: Option<&str>, authority: Option<&str>| {
            let mut key = KeyBuf::default();
            let query = query.map(str::as_bytes);
            key.uri(UriParts { path: path.as_bytes(), query, authority: authority.map(str::as_bytes) }, Some(b"n"));
            (ByPath(key.to_key()), 1)
        };
        let mut paths: BTreeMap<_, _> = (0..1_000).map(|n| key("/x", Some(&n.to_string()), None)).collect();
        paths.extend([key("/x", None, None), key("/x", None, Some("a")), key("/x", Some(""), None)]);
        paths.extend([key("/x", Some("7"), Some("a")), key("/x7", Some("7"), None), key("/", Some("7"), None)]);
        for (scope, expected) in [("/x", 2), ("/x?", 1), ("/x?7", 2), ("/x?77", 1), ("/x?1000", 0), ("//a/x?7", 0)] {
            let scope = Scope::uri(scope).unwrap();
            let Reach::Uri(uri) = scope.reach() else { panic!("it is a URI") };
            assert_eq!(visited(&paths, uri).count(), expected, "{scope:?}");
            assert_eq!(at(&paths, uri, &scope).len(), expected, "{scope:?}");
        }
        paths.extend([key("/x", Some("\0m"), Some("a")), key("/x", Some("\x01"), None), key("/x", Some("\0mm"), None)]);
        let message = Scope::message("/x", b"m").unwrap();
        let Reach::Uri(uri) = message.reach() else { panic!("it is a URI") };
        assert_eq!((visited(&paths, uri).count(), at(&paths, uri, &message).len()), (2, 2));
        let all = Scope::path("/x").unwrap();
        let Reach::Uri(uri) = all.reach() else { panic!("it is a URI") };
        assert_eq!(visited(&paths, uri).count(), 1_007);
    }
}
