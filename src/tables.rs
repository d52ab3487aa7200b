//! Tables that give back what they do not need: left to itself a hash table keeps the room that it once took, however
//! little is in it by now.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

/// A table for no more than this much is left as it is: what it would give back is not worth the moving.
const SMALL: usize = 8;

/// Gives back half of a table or more, where less than a quarter is in use. Called after each removal that costs, for each
/// thing removed, no more than moving a few.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > SMALL && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2);
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
