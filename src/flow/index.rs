//! From a key's hash to its entry's number: buckets of one cache line.
//!
//! A slot is 32 bits: the entry's number + 1 in as many bits as the capacity needs, and as many bits
//! of the hash as fit above it, so that hardly any look-up touches an entry but its own; the caller
//! compares whole keys. A bucket that is full passes entries on to the next one and counts them, so
//! that a look-up knows where to stop and a removal leaves nothing behind.

use crate::mem;

/// Slots in a bucket; the last word counts.
const SLOTS: usize = 15;
/// Entries for each bucket, on average, beyond which the index doubles.
const LOAD_MAX: usize = 12;

/// Slots, and last the number of entries that found this bucket full and went on.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([u32; SLOTS + 1]);

/// The index: 5.3 to 10.7 octets for each entry.
#[derive(Clone, Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
    len: usize,
    /// Bits of a slot that hold the entry's number + 1.
    number_bits: u32,
}

impl Index {
    /// An index of entries with numbers below `limit`.
    pub(super) fn new(limit: usize) -> Self {
        let number_bits = (usize::BITS - limit.leading_zeros()).min(31);
        Self { buckets: vec![Bucket::default(); 4], len: 0, number_bits }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    const fn home(&self, hash: u64) -> usize {
        hash as u32 as usize & (self.buckets.len() - 1)
    }

    const fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    const fn tag_mask(&self) -> u32 {
        u32::MAX << self.number_bits
    }

    const fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 & self.tag_mask()
    }

    /// Octets of an index that has grown to hold `entries`.
    pub(super) const fn octets(entries: usize) -> usize {
        let buckets = entries.div_ceil(LOAD_MAX).next_power_of_two();
        if buckets < 4 { 4 * size_of::<Bucket>() } else { buckets * size_of::<Bucket>() }
    }

    /// Asks the processor to fetch what a look-up of `hash` reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        mem::prefetch(&raw const self.buckets[self.home(hash)]);
    }

    /// The entry under `hash` for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (tag, tag_mask) = (self.tag(hash), self.tag_mask());
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at].0;
            let mut like = 0_u32;
            for (place, slot) in bucket[..SLOTS].iter().enumerate() {
                like |= u32::from(slot & tag_mask == tag) << place;
            }
            while like != 0 {
                let slot = bucket[like.trailing_zeros() as usize] & !tag_mask;
                if slot != 0 && is(slot - 1) {
                    return Some(slot - 1);
                }
                like &= like - 1;
            }
            if bucket[SLOTS] == 0 {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Whether the index has to [grow](Self::grow) before the next entry.
    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.buckets.len() * LOAD_MAX
    }

    /// Doubles the index. `entries` are all of its entries with their hashes. O(entries).
    pub(super) fn grow(&mut self, entries: impl Iterator<Item = (u64, u32)>) {
        let buckets = self.buckets.len() * 2;
        // The old one goes first: both are never there together.
        self.buckets = Vec::new();
        self.buckets = Vec::with_capacity(buckets);
        mem::huge_pages(&self.buckets);
        self.buckets.resize(buckets, Bucket::default());
        self.len = 0;
        entries.for_each(|(hash, entry)| self.insert(hash, entry));
    }

    /// Adds `entry`, which must not be there yet. The index must not be full.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) {
        let slot = self.tag(hash) | (entry + 1);
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at].0;
            if let Some(free) = bucket[..SLOTS].iter_mut().find(|slot| **slot == 0) {
                *free = slot;
                self.len += 1;
                return;
            }
            bucket[SLOTS] += 1;
            at = self.next(at);
        }
    }

    /// Removes `entry`, which must be there.
    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let slot = self.tag(hash) | (entry + 1);
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at].0;
            if let Some(found) = bucket[..SLOTS].iter_mut().find(|held| **held == slot) {
                *found = 0;
                self.len -= 1;
                return;
            }
            debug_assert_ne!(bucket[SLOTS], 0, "the entry is in the index");
            bucket[SLOTS] -= 1;
            at = self.next(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes, so that buckets run over and around the end.
        #[test]
        fn the_index_is_a_map(moves in prop::collection::vec((0..200_u32, any::<bool>()), 0..600)) {
            let hash = |entry: u32| u64::from(entry % 5) * 0x1_0000_0003 + 2;
            let mut index = Index::new(200);
            let mut map = BTreeMap::new();
            for (entry, add) in moves {
                if add && !map.contains_key(&entry) {
                    if index.is_full() {
                        index.grow(map.keys().map(|&entry| (hash(entry), entry)));
                    }
                    map.insert(entry, ());
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
            let left: Vec<u32> = map.keys().copied().collect();
            left.iter().for_each(|&entry| index.remove(hash(entry), entry));
            prop_assert!(index.buckets.iter().all(|bucket| bucket.0 == [0; SLOTS + 1]));
        }
    }
}
