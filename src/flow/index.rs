//! From a key's hash to its entry's number: buckets of one cache line.
//!
//! A slot is 32 bits: the entry's number + 1 in as many bits as the capacity needs, and as many bits
//! of the hash as fit above it, so that hardly any look-up touches an entry but its own; the caller
//! compares whole keys. A bucket that is full passes entries on to the next one and counts them, so
//! that a look-up knows where to stop and a removal leaves nothing behind.
//!
//! The index grows by linear hashing (Litwin, VLDB 1980): full, it doubles one bucket at a time, with
//! each entry that is added. Nothing is copied as a whole, so no record waits for it.

use super::slab::Slab;
use crate::mem;

/// Slots in a bucket; the last word counts.
const SLOTS: usize = 15;
/// Entries for each bucket, on average, beyond which the index doubles.
const LOAD_MAX: usize = 12;
/// Buckets of an empty index.
const HOMES_MIN: u32 = 4;
/// Buckets past the last home, more or less: what runs over the end of the last ones.
const BEYOND: usize = 4;

/// Slots, and last the number of entries that found this bucket full and went on.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([u32; SLOTS + 1]);

impl Bucket {
    /// The slots that hold `tag` under `mask`, a bit each.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "bits are meant")]
    fn like(&self, tag: u32, mask: u32) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_and_si128, _mm_cmpeq_epi32, _mm_load_si128, _mm_movemask_epi8,
            _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32,
        };
        let four: *const __m128i = self.0.as_ptr().cast();
        // SAFETY: every x86-64 has SSE2, and a bucket is four times sixteen octets, aligned to 64.
        unsafe {
            let (tags, mask) = (_mm_set1_epi32(tag as i32), _mm_set1_epi32(mask as i32));
            let same = |at: usize| {
                _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(four.add(at)), mask), tags)
            };
            let (low, high) =
                (_mm_packs_epi32(same(0), same(1)), _mm_packs_epi32(same(2), same(3)));
            _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32 & ((1 << SLOTS) - 1)
        }
    }

    /// The slots that hold `tag` under `mask`, a bit each.
    #[inline]
    #[cfg(not(target_arch = "x86_64"))]
    fn like(&self, tag: u32, mask: u32) -> u32 {
        let slots = self.0[..SLOTS].iter().enumerate();
        slots.fold(0, |like, (place, slot)| like | u32::from(slot & mask == tag) << place)
    }
}

/// The index: 5.3 to 10.7 octets for each entry.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The homes, then what runs over their end: there is no way round to the first.
    buckets: Slab<Bucket>,
    /// Buckets that hashes lead to. While it is no power of two, the index is growing to the next.
    homes: u32,
    /// That next power of two, or the number of homes itself, less one.
    home_mask: u32,
    len: usize,
    /// The bits of a slot that hold a part of the hash; the others hold the entry's number + 1.
    tag_mask: u32,
    /// Scratch: entries on their way to a new home, with their hashes.
    moving: Vec<(u64, u32)>,
}

impl Index {
    /// An index of entries with numbers below `limit`.
    pub(super) fn new(limit: usize) -> Self {
        let number_bits = (usize::BITS - limit.leading_zeros()).min(31);
        let buckets = Slab::new(Self::homes_for(limit) + BEYOND);
        let mut index = Self {
            buckets,
            homes: HOMES_MIN,
            home_mask: HOMES_MIN - 1,
            len: 0,
            tag_mask: u32::MAX << number_bits,
            moving: Vec::new(),
        };
        for _ in 0..HOMES_MIN {
            index.buckets.push(Bucket::default());
        }
        index
    }

    /// Takes the memory of as many entries as there will ever be, so that it never grows. There must
    /// be none yet.
    pub(super) fn reserve(&mut self, limit: usize) {
        assert_eq!(self.len, 0, "entries never move");
        let homes = Self::homes_for(limit);
        self.set_homes(u32::try_from(homes).expect("fewer homes than entries"));
        self.buckets = Slab::new(homes + BEYOND);
        self.buckets.reserve();
        for _ in 0..homes {
            self.buckets.push(Bucket::default());
        }
    }

    /// The bucket where the entries under `hash` begin.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    const fn home(&self, hash: u64) -> u32 {
        let home = hash as u32 & self.home_mask;
        // The upper half of a growing index is there up to `homes`.
        if home < self.homes { home } else { home & (self.home_mask >> 1) }
    }

    const fn set_homes(&mut self, homes: u32) {
        self.homes = homes;
        self.home_mask = homes.next_power_of_two() - 1;
    }

    #[inline]
    const fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 & self.tag_mask
    }

    /// Homes of an index that has grown to hold `entries`.
    const fn homes_for(entries: usize) -> usize {
        let homes = entries.div_ceil(LOAD_MAX).next_power_of_two();
        if homes < HOMES_MIN as usize { HOMES_MIN as usize } else { homes }
    }

    /// Octets of an index that has grown to hold `entries`.
    pub(super) const fn octets(entries: usize) -> usize {
        Self::homes_for(entries) * size_of::<Bucket>()
    }

    /// Asks the processor to fetch what a look-up of `hash` reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        mem::prefetch(&raw const self.buckets[self.home(hash)]);
    }

    /// The entry under `hash` for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (tag, tag_mask) = (self.tag(hash), self.tag_mask);
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            let mut like = bucket.like(tag, tag_mask);
            while like != 0 {
                let slot = bucket.0[like.trailing_zeros() as usize % (SLOTS + 1)] & !tag_mask;
                if slot != 0 && is(slot - 1) {
                    return Some(slot - 1);
                }
                like &= like - 1;
            }
            if bucket.0[SLOTS] == 0 {
                return None;
            }
            at += 1;
        }
    }

    /// Makes room for one more entry; to be called before each [`Self::insert`]. A full index grows
    /// by one bucket, and the entries that belong there move; `hash_of` tells the hash of an entry.
    /// O(entries of a bucket).
    #[inline]
    pub(super) fn make_room(&mut self, hash_of: impl Fn(u32) -> u64) {
        if self.grows() || self.len >= self.homes as usize * LOAD_MAX {
            self.split(hash_of);
        }
    }

    /// Whether the index is on its way to twice the homes that it had.
    #[inline]
    const fn grows(&self) -> bool {
        !self.homes.is_power_of_two()
    }

    /// The bucket whose entries the next new home takes over in part.
    const fn to_split(&self) -> u32 {
        self.homes - (self.homes + 1).next_power_of_two() / 2
    }

    /// Of a growing index, the entries that the next [`Self::make_room`] asks the hashes of.
    pub(super) fn asked_next(&self) -> impl Iterator<Item = u32> {
        let bucket = self.grows().then(|| &self.buckets[self.to_split()].0[..SLOTS]);
        let slots = bucket.unwrap_or_default().iter().filter(|slot| **slot != 0);
        slots.map(|slot| (slot & !self.tag_mask) - 1)
    }

    /// Adds one home, and moves the entries that belong there.
    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let (from, to) = (self.to_split(), self.homes);
        let mut moving = std::mem::take(&mut self.moving);
        let mut at = from;
        loop {
            let bucket = &self.buckets[at].0;
            for slot in bucket[..SLOTS].iter().filter(|slot| **slot != 0) {
                let entry = (slot & !self.tag_mask) - 1;
                let hash = hash_of(entry);
                // What bit tells the new home from the old one is their difference.
                if self.home(hash) == from && hash & u64::from(to - from) != 0 {
                    moving.push((hash, entry));
                }
            }
            if bucket[SLOTS] == 0 {
                break;
            }
            at += 1;
        }
        moving.iter().for_each(|&(hash, entry)| self.remove(hash, entry));
        if to == self.buckets.len() {
            self.buckets.push(Bucket::default());
        }
        self.set_homes(to + 1);
        moving.drain(..).for_each(|(hash, entry)| self.insert(hash, entry));
        self.moving = moving;
    }

    /// Adds `entry`, which must not be there yet.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) {
        let slot = self.tag(hash) | (entry + 1);
        let mut at = self.home(hash);
        loop {
            if at == self.buckets.len() {
                self.buckets.push(Bucket::default());
            }
            let bucket = &mut self.buckets[at].0;
            if let Some(free) = bucket[..SLOTS].iter_mut().find(|slot| **slot == 0) {
                *free = slot;
                self.len += 1;
                return;
            }
            bucket[SLOTS] += 1;
            at += 1;
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
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn add(index: &mut Index, hash: impl Fn(u32) -> u64, entry: u32) {
        index.make_room(&hash);
        index.insert(hash(entry), entry);
    }

    proptest! {
        /// From a few distinct hashes, so that buckets run over and past the end, to all distinct.
        #[test]
        fn the_index_is_a_map(
            distinct in prop_oneof![Just(5_u32), Just(40), Just(2_000)],
            moves in prop::collection::vec((0..2_000_u32, any::<bool>()), 0..3_000),
            reserves in any::<bool>(),
        ) {
            let hash = |entry: u32| u64::from(entry % distinct).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut index = Index::new(2_000);
            if reserves {
                index.reserve(2_000);
            }
            let homes = index.homes;
            let mut map = BTreeMap::new();
            for (entry, adds) in moves {
                if adds && !map.contains_key(&entry) {
                    add(&mut index, hash, entry);
                    map.insert(entry, ());
                } else if !adds && map.remove(&entry).is_some() {
                    index.remove(hash(entry), entry);
                }
            }
            prop_assert_eq!(index.len, map.len());
            prop_assert!(!reserves || index.homes == homes, "a reserved index does not grow");
            for entry in 0..2_000 {
                let found = index.find(hash(entry), |e| e == entry);
                prop_assert_eq!(found, map.get(&entry).map(|()| entry));
            }
            let left: Vec<u32> = map.keys().copied().collect();
            left.iter().for_each(|&entry| index.remove(hash(entry), entry));
            prop_assert!(index.buckets.iter().all(|bucket| bucket.0 == [0; SLOTS + 1]));
        }
    }

    /// What an insertion moves does not depend on how many entries there are, and room and load stay
    /// what the size of the index says.
    #[test]
    fn no_insertion_pays_for_the_growth_of_the_whole() {
        let hash = |entry: u32| crate::net::fold_u64(entry.into(), 0x9e37_79b9_7f4a_7c15);
        let mut index = Index::new(200_000);
        let asked = Cell::new(0);
        let (mut most, mut all) = (0, 0);
        for entry in 0..200_000 {
            asked.set(0);
            index.make_room(|entry| {
                asked.set(asked.get() + 1);
                hash(entry)
            });
            (most, all) = (most.max(asked.get()), all + asked.get());
            index.insert(hash(entry), entry);
            let load = index.len.div_ceil(index.homes as usize);
            assert!(index.homes == HOMES_MIN || (6..=LOAD_MAX + 1).contains(&load), "{load}");
        }
        // Full buckets stand in rows, so one asks for many, now and then.
        assert!((SLOTS..100 * SLOTS).contains(&most), "one insertion asked for {most} hashes");
        assert!(all < 8 * 200_000, "{all} hashes were asked for");
        let octets = index.buckets.len() as usize * size_of::<Bucket>();
        assert!(octets <= Index::octets(200_000) + 2 * BEYOND * size_of::<Bucket>(), "{octets}");
    }
}
