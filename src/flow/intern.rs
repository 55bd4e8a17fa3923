//! Values that many flows share, each kept once: observation points with their interfaces, names.

use std::ops::Index;

use crate::mem;
use crate::net::fold_u64;

/// Values that nobody holds are swept when they are more than so many, and more than those held.
const IDLE_MAX: usize = 1_024;

/// What can be interned: a cheap hash of what most tells values apart.
pub(super) trait Words {
    /// The words that are hashed.
    fn words(&self) -> [u64; 3];
}

/// A value, its hash and who holds it, side by side: a look-up reads no more.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Held<T> {
    hash: u32,
    holders: u32,
    value: T,
}

/// Interned values with a count of holders each. Number 0 is the default value and is never counted.
#[derive(Clone, Debug)]
pub(super) struct Interner<T> {
    seed: u64,
    values: Vec<Held<T>>,
    /// Open addressing with linear probing, at most half full: numbers; 0 is empty.
    slots: Vec<u32>,
    /// Places in `values` that hold nothing.
    free: Vec<u32>,
    /// Values that nobody holds now.
    idle: usize,
}

impl<T: Clone + Default + Eq + Words> Interner<T> {
    pub(super) fn new(seed: u64) -> Self {
        let none = Held { hash: 0, holders: 0, value: T::default() };
        Self { seed, values: vec![none], slots: vec![0; 16], free: Vec::new(), idle: 0 }
    }

    /// The hash under which a value with these words is kept.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    pub(super) fn hash(&self, [a, b, c]: [u64; 3]) -> u32 {
        let ab = fold_u64(a ^ self.seed ^ 0x9e37_79b9_7f4a_7c15, b ^ 0xa076_1d64_78bd_642f);
        fold_u64(ab ^ c, self.seed ^ 0xe703_7ed1_a0b4_28db) as u32
    }

    /// Asks the processor to fetch the slot that a look-up of `hash` reads first.
    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u32) {
        mem::prefetch(&raw const self.slots[hash as usize & (self.slots.len() - 1)]);
    }

    /// Asks the processor to fetch the value that a look-up of `hash` is likely to find.
    #[inline]
    pub(super) fn prefetch_value(&self, hash: u32) {
        let number = self.slots[hash as usize & (self.slots.len() - 1)];
        mem::prefetch_all(&raw const self.values[number as usize]);
    }

    /// Asks the processor to fetch what [`Self::release`] reads of `number`.
    #[inline]
    pub(super) fn prefetch(&self, number: u32) {
        mem::prefetch(&raw const self.values[number as usize]);
    }

    /// The number of `value`, held once more.
    pub(super) fn hold(&mut self, value: &T) -> u32 {
        let hash = self.hash(value.words());
        self.hold_like(hash, |held| held == value, || value.clone())
    }

    /// The number of the value with `hash` for which `is` holds, held once more; `make` makes it
    /// where there is none.
    pub(super) fn hold_like(
        &mut self,
        hash: u32,
        is: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> u32 {
        if is(&self.values[0].value) {
            return 0;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            let number = self.slots[at];
            let held = &mut self.values[number as usize];
            if held.hash == hash && is(&held.value) {
                self.idle -= usize::from(held.holders == 0);
                held.holders += 1;
                return number;
            }
            at = (at + 1) & mask;
        }
        let held = Held { hash, holders: 1, value: make() };
        let number = if let Some(number) = self.free.pop() {
            self.values[number as usize] = held;
            number
        } else {
            self.values.push(held);
            u32::try_from(self.values.len() - 1).expect("fewer values than flows")
        };
        self.slots[at] = number;
        if self.known() * 2 > self.slots.len() {
            self.rebuild(self.slots.len() * 2);
        }
        number
    }

    /// Gives back what one [`Self::hold`] took.
    pub(super) fn release(&mut self, number: u32) {
        if number == 0 {
            return;
        }
        let holders = &mut self.values[number as usize].holders;
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        self.idle += 1;
        if self.idle > IDLE_MAX && self.idle * 2 > self.known() {
            self.rebuild(self.slots.len());
        }
    }

    /// Values that are kept.
    const fn known(&self) -> usize {
        self.values.len() - 1 - self.free.len()
    }

    /// Fills `slots` anew, without the values that nobody holds.
    fn rebuild(&mut self, slots: usize) {
        self.slots = vec![0; slots];
        self.free.clear();
        self.idle = 0;
        for (number, held) in (0..).zip(&mut self.values).skip(1) {
            if held.holders == 0 {
                held.value = T::default();
                self.free.push(number);
                continue;
            }
            let mut at = held.hash as usize & (slots - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (slots - 1);
            }
            self.slots[at] = number;
        }
    }
}

impl<T> Index<u32> for Interner<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.values[number as usize].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Words for u64 {
        fn words(&self) -> [u64; 3] {
            [*self % 7, 0, 0]
        }
    }

    #[test]
    fn a_value_is_kept_once_and_while_it_is_held() {
        let mut interner = Interner::<u64>::new(7);
        assert_eq!(interner.hold(&0), 0);
        let one = interner.hold(&1);
        assert_eq!((interner.hold(&1), interner[one]), (one, 1));
        interner.release(one);
        // Many that nobody holds, and the one that is held.
        for n in 2..5_000 {
            let number = interner.hold(&n);
            assert_eq!(interner[number], n);
            interner.release(number);
        }
        assert!(interner.values.len() < 3_000, "places are used again");
        assert_eq!((interner[one], interner.hold(&1)), (1, one));
    }
}
