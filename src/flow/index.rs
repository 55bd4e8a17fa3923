//! From a key's hash to its entry's number: open addressing with linear probing.
//!
//! A slot holds 32 bits of the hash beside the number, so that probing, growing and removing touch
//! no entry but the one that is looked for; the caller compares whole keys.

/// A slot: hash << 32 | entry + 1; 0 is empty.
type Slot = u64;

/// The index. It doubles while it is over half full, up to what `capacity` entries need.
#[derive(Clone, Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    len: usize,
}

const fn slot(hash: u32, entry: u32) -> Slot {
    (hash as u64) << 32 | (entry as u64 + 1)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a slot")]
const fn parts(slot: Slot) -> (u32, u32) {
    ((slot >> 32) as u32, slot as u32 - 1)
}

impl Index {
    pub(super) fn new() -> Self {
        Self { slots: vec![0; 64], len: 0 }
    }

    const fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// The bits of a key's hash that the index uses.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    const fn bits(hash: u64) -> u32 {
        hash as u32
    }

    /// The entry under `hash` for which `is` holds.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let bits = Self::bits(hash);
        let mut at = bits as usize & self.mask();
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            let (found, entry) = parts(slot);
            if found == bits && is(entry) {
                return Some(entry);
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Adds `entry`, which must not be there yet.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) {
        if self.len * 2 >= self.slots.len() {
            let double = vec![0; self.slots.len() * 2];
            for old in std::mem::replace(&mut self.slots, double) {
                if old != 0 {
                    self.place(old);
                }
            }
        }
        self.place(slot(Self::bits(hash), entry));
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = parts(slot).0 as usize & self.mask();
        while self.slots[at] != 0 {
            at = (at + 1) & self.mask();
        }
        self.slots[at] = slot;
    }

    /// Removes `entry`, which must be there, and closes the gap by moving later slots of the same
    /// run back: no tombstones, so the cost never grows with the table's age.
    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let mask = self.mask();
        let wanted = slot(Self::bits(hash), entry);
        let mut hole = Self::bits(hash) as usize & mask;
        while self.slots[hole] != wanted {
            debug_assert_ne!(self.slots[hole], 0, "the entry is in the index");
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            if self.slots[at] == 0 {
                break;
            }
            let home = parts(self.slots[at]).0 as usize & mask;
            // The slot may move into the hole only if its home does not lie after the hole.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes, so that runs collide and wrap around.
        #[test]
        fn the_index_is_a_map(moves in prop::collection::vec((0..200_u32, any::<bool>()), 0..600)) {
            let hash = |entry: u32| u64::from(entry % 23) * 5 + 50;
            let mut index = Index::new();
            let mut map = BTreeMap::new();
            for (entry, add) in moves {
                if add && map.insert(entry, ()).is_none() {
                    index.insert(hash(entry), entry);
                } else if !add && map.remove(&entry).is_some() {
                    index.remove(hash(entry), entry);
                }
            }
            prop_assert_eq!(index.len, map.len());
            for entry in 0..200 {
                let found = index.find(hash(entry), |e| e == entry);
                prop_assert_eq!(found, map.get(&entry).map(|()| entry));
            }
        }
    }
}
