//! Room in tables that a burst of calls has made large.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

/// Tables smaller than this keep their room.
const SMALL: usize = 1024;

/// Gives most of a table's room back when nearly all of it is empty. To be called after each
/// removal: it looks at two numbers, and moves entries once in so many removals as there are
/// entries to be moved.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_empties_gives_its_room_back() {
        let mut table: HashMap<u32, u32> = (0..100_000).map(|key| (key, key)).collect();
        let full = table.capacity();
        for key in 100..100_000 {
            table.remove(&key);
            give_back(&mut table);
        }
        assert!(table.capacity() < full / 32, "{}", table.capacity());
        assert_eq!(table.len(), 100);
        assert_eq!(table.get(&99), Some(&99));
    }
}
