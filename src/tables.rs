//! Tables that give back what they do not need, since left to itself a hash table keeps the room that it once took, however
//! little is in it by now; and keys that are hashed once, however often they are looked up.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
};

/// A key beside its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashed<K> {
    pub(crate) hash: u64,
    pub(crate) key: K,
}

/// A table of such keys.
pub(crate) type Table<K, V> = HashMap<Hashed<K>, V, BuildHasherDefault<AsItIs>>;

/// Takes the hash that a key brings along.
#[derive(Clone, Debug, Default)]
pub(crate) struct AsItIs(u64);

/// A table for no more than this much is left as it is: what it would give back is not worth the moving.
const SMALL: usize = 8;

/// Gives back half of a table or more, where less than a quarter is in use. Called after each removal that costs, for each
/// thing removed, no more than moving a few.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > SMALL && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2);
    }
}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P63
    fn a_table_is_never_much_larger_than_what_is_in_it_and_never_moved_for_every_removal() {
        let mut table: HashMap<_, ()> = (0..10_000).map(|n| (n, ())).collect();
        let mut moved = 0;
        for n in 0..10_000 {
            table.remove(&n);
            let capacity = table.capacity();
            give_back(&mut table);
            moved += usize::from(table.capacity() < capacity);
            assert!(table.capacity() <= SMALL.max(table.len() * 4), "{} for {}", table.capacity(), table.len());
        }
        // Each time it gives back half at least: twice the logarithm leaves room for what removals themselves cost.
        assert!(moved <= 20, "moved {moved} times");
    }
}
