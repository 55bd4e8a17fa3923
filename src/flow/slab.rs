//! Room that never moves, and places that are used again.

use std::ops::{Index, IndexMut};

use crate::mem;

/// Values by number, in one piece. Address space for all that will ever be there is taken at the
/// start; the kernel gives a page when it is first written to, so memory grows as values come.
/// Reserved, all pages are there at once.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    values: Vec<T>,
    /// Values that will ever be there, at most.
    limit: usize,
}

impl<T> Slab<T> {
    pub(super) fn new(limit: usize) -> Self {
        let values = Vec::with_capacity(limit);
        mem::fills_slowly(&values);
        Self { values, limit }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "numbers of values have 32 bits")]
    pub(super) const fn len(&self) -> u32 {
        self.values.len() as u32
    }

    /// Appends `value` and returns its number.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> u32 {
        let i = self.len();
        assert!(i < u32::MAX, "fewer than 2^32 values");
        self.values.push(value);
        i
    }

    /// Takes the memory of as many values as there will ever be. There must be none yet.
    pub(super) fn reserve(&mut self) {
        assert!(self.values.is_empty(), "values never move");
        self.values.reserve_exact(self.limit);
        mem::take_room(&mut self.values);
    }

    /// Asks the processor to fetch value `i`.
    #[inline]
    pub(super) fn prefetch(&self, i: u32) {
        mem::prefetch_all(self.values.as_ptr().wrapping_add(i as usize));
    }

    /// Asks the processor to fetch the place of the value that is appended next.
    #[inline]
    pub(super) fn prefetch_next(&self) {
        self.prefetch(self.len());
    }

    /// All values, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.values[i as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.values[i as usize]
    }
}

/// Values in a piece of a pool.
const PIECE: usize = 1_024;

/// Values that few flows have, whose places are used again. It grows piece by piece.
#[derive(Clone, Debug)]
pub(super) struct Pool<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
    free: Vec<u32>,
}

impl<T: Default> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { pieces: Vec::new(), len: 0, free: Vec::new() }
    }

    /// Keeps `value` and returns its number.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(i) = self.free.pop() {
            self[i] = value;
            return i;
        }
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        self.pieces[self.len / PIECE].push(value);
        self.len += 1;
        u32::try_from(self.len - 1).expect("fewer than 2^32 values")
    }

    /// Asks the processor to fetch place `i`.
    #[inline]
    pub(super) fn prefetch(&self, i: u32) {
        mem::prefetch_all(&raw const self[i]);
    }

    /// Gives place `i` up and returns what was there.
    pub(super) fn take(&mut self, i: u32) -> T {
        self.free.push(i);
        std::mem::take(&mut self[i])
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.pieces[i as usize / PIECE][i as usize % PIECE]
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.pieces[i as usize / PIECE][i as usize % PIECE]
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
        assert_eq!(slab.values.capacity(), 1_000, "no room past the limit");
    }

    #[test]
    fn what_is_reserved_is_there_and_is_all() {
        for limit in [1, 64, 1_000, 4_096] {
            let mut slab = Slab::new(limit);
            slab.reserve();
            let room: *const u32 = slab.values.as_ptr();
            let numbers = || (0..).take(limit);
            assert!(numbers().all(|i| slab.push(i * 7) == i));
            assert!(numbers().all(|i| slab[i] == i * 7));
            assert_eq!(room, slab.values.as_ptr(), "{limit}");
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut pool = Pool::new();
        let ids: Vec<u32> = (0..4_000).map(|n| pool.add(n)).collect();
        assert!(ids.iter().all(|&id| pool[id] == id));
        assert_eq!(pool.take(ids[2]), 2);
        assert_eq!(pool.add(9), ids[2]);
        assert_eq!((pool[ids[2]], pool[ids[3]]), (9, 3));
    }
}
