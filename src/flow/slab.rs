//! Room that grows without moving: chunks of doubling size, and places that are used again.

use std::ops::{Index, IndexMut};

use crate::mem;

/// Values in the first chunk, as a power of two.
const FIRST: u32 = 6;

/// Values by number. Growing allocates the next chunk and copies nothing; memory of a chunk is
/// touched only as it is filled. Reserved, it is one chunk, touched at once.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
    /// Values in the first chunk, as a power of two; the last chunk has room up to `limit` only.
    first: u32,
    /// Values that will ever be there, at most.
    limit: usize,
}

/// Chunk and place in it of value `i`, where the first chunk holds 2^`first`.
#[inline]
const fn place(i: u32, first: u32) -> (usize, usize) {
    let n = i as u64 + (1 << first);
    let top = 63 - n.leading_zeros();
    ((top - first) as usize, (n - (1 << top)) as usize)
}

impl<T> Slab<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self { chunks: Vec::new(), len: 0, first: FIRST, limit }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Appends `value` and returns its number.
    pub(super) fn push(&mut self, value: T) -> u32 {
        let i = self.len;
        let (chunk, _) = place(i, self.first);
        if chunk == self.chunks.len() {
            let room = self.limit.saturating_sub(i as usize).max(1);
            let values = Vec::with_capacity(room.min(1 << (self.first as usize + chunk)));
            mem::huge_pages(&values);
            self.chunks.push(values);
        }
        self.chunks[chunk].push(value);
        self.len = i.checked_add(1).expect("fewer than 2^32 values");
        i
    }

    /// Takes the memory of as many values as there will ever be. There must be none yet.
    pub(super) fn reserve(&mut self) {
        assert_eq!(self.len, 0, "values never move");
        self.first = self.limit.next_power_of_two().trailing_zeros().clamp(FIRST, 32);
        let mut values = Vec::with_capacity(self.limit.max(1));
        mem::take_room(&mut values);
        self.chunks = vec![values];
    }

    /// Asks the processor to fetch value `i`, if there is one.
    #[inline]
    pub(super) fn prefetch(&self, i: u32) {
        const LINE_OCTETS: usize = 64;
        let (chunk, at) = place(i, self.first);
        if let Some(value) = self.chunks.get(chunk).and_then(|values| values.get(at)) {
            let begin: *const u8 = std::ptr::from_ref(value).cast();
            for line in (0..size_of::<T>()).step_by(LINE_OCTETS) {
                mem::prefetch(begin.wrapping_add(line));
            }
        }
    }

    /// Asks the processor to fetch the place of the value that is appended next, if its chunk is
    /// there.
    #[inline]
    pub(super) fn prefetch_next(&self) {
        const LINE_OCTETS: usize = 64;
        let (chunk, at) = place(self.len, self.first);
        if let Some(values) = self.chunks.get(chunk) {
            let begin: *const u8 = values.as_ptr().wrapping_add(at).cast();
            for line in (0..size_of::<T>()).step_by(LINE_OCTETS) {
                mem::prefetch(begin.wrapping_add(line));
            }
        }
    }

    /// All values, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: u32) -> &T {
        let (chunk, at) = place(i, self.first);
        &self.chunks[chunk][at]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        let (chunk, at) = place(i, self.first);
        &mut self.chunks[chunk][at]
    }
}

/// A slab whose places are used again.
#[derive(Clone, Debug)]
pub(super) struct Pool<T> {
    values: Slab<T>,
    free: Vec<u32>,
}

impl<T: Default> Pool<T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self { values: Slab::new(limit), free: Vec::new() }
    }

    /// Keeps `value` and returns its number.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(i) = self.free.pop() {
            self.values[i] = value;
            i
        } else {
            self.values.push(value)
        }
    }

    /// Gives place `i` up and returns what was there.
    pub(super) fn take(&mut self, i: u32) -> T {
        self.free.push(i);
        std::mem::take(&mut self.values[i])
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, i: u32) -> &T {
        &self.values[i]
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.values[i]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are() {
        let mut slab = Slab::new(1_000);
        let mut first: *const u32 = std::ptr::null();
        for i in 0..1_000 {
            assert_eq!(slab.push(i * 7), i);
            if i == 0 {
                first = &raw const slab[0];
            }
        }
        assert_eq!(first, &raw const slab[0]);
        assert!((0..1_000).all(|i| slab[i] == i * 7));
        assert_eq!(slab.iter().count(), 1_000);
        let room: usize = slab.chunks.iter().map(Vec::capacity).sum();
        assert_eq!(room, 1_000, "no room past the limit");
    }

    #[test]
    fn what_is_reserved_is_there_and_is_all() {
        for limit in [1, 64, 1_000, 4_096] {
            let mut slab = Slab::new(limit);
            slab.reserve();
            let room: *const u32 = slab.chunks[0].as_ptr();
            let numbers = || (0..).take(limit);
            assert!(numbers().all(|i| slab.push(i * 7) == i));
            assert!(numbers().all(|i| slab[i] == i * 7));
            assert_eq!((slab.chunks.len(), room), (1, slab.chunks[0].as_ptr()), "{limit}");
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut pool = Pool::new(8);
        let ids: Vec<u32> = (0..4).map(|n| pool.add(n)).collect();
        assert_eq!(pool.take(ids[2]), 2);
        assert_eq!(pool.add(9), ids[2]);
        assert_eq!((pool[ids[2]], pool[ids[3]]), (9, 3));
    }
}
