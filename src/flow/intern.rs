//! Values that many flows share, each kept once: observation points with their interfaces, names.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Index;

use crate::net::fold_u64;

/// Values that nobody holds are swept when they are more than so many, and more than those held.
const IDLE_MAX: usize = 1_024;

/// Interned values with a count of holders each. Number 0 is the default value and is never counted.
#[derive(Clone, Debug)]
pub(super) struct Interner<T> {
    values: Vec<(T, u32)>,
    numbers: HashMap<T, u32, Seed>,
    free: Vec<u32>,
    /// Values that nobody holds now.
    idle: usize,
}

impl<T: Clone + Default + Eq + Hash> Interner<T> {
    pub(super) fn new(seed: u64) -> Self {
        let numbers = HashMap::with_hasher(Seed(seed));
        Self { values: vec![(T::default(), 0)], numbers, free: Vec::new(), idle: 0 }
    }

    /// The number of `value`, held once more.
    pub(super) fn hold(&mut self, value: &T) -> u32 {
        if *value == self.values[0].0 {
            return 0;
        }
        if let Some(&number) = self.numbers.get(value) {
            let holders = &mut self.values[number as usize].1;
            self.idle -= usize::from(*holders == 0);
            *holders += 1;
            return number;
        }
        let number = if let Some(number) = self.free.pop() {
            self.values[number as usize] = (value.clone(), 1);
            number
        } else {
            self.values.push((value.clone(), 1));
            u32::try_from(self.values.len() - 1).expect("fewer values than flows")
        };
        self.numbers.insert(value.clone(), number);
        number
    }

    /// Gives back what one [`Self::hold`] took.
    pub(super) fn release(&mut self, number: u32) {
        if number == 0 {
            return;
        }
        let holders = &mut self.values[number as usize].1;
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        self.idle += 1;
        if self.idle > IDLE_MAX && self.idle * 2 > self.numbers.len() {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let Self { values, numbers, free, idle } = self;
        numbers.retain(|_, &mut number| {
            let place = &mut values[number as usize];
            let held = place.1 > 0;
            if !held {
                place.0 = T::default();
                free.push(number);
            }
            held
        });
        *idle = 0;
    }
}

impl<T> Index<u32> for Interner<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.values[number as usize].0
    }
}

/// Makes hashers by folded multiplication from a secret seed.
#[derive(Clone, Copy, Debug)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = fold_u64(self.0 ^ n ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
