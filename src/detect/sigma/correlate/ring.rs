//! A small queue that costs nothing while it is empty.

use std::mem::size_of;

/// A first-in, first-out queue of plain values: 24 octets and what it holds. It grows from one
/// value on, by doubling.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring<T> {
    room: Box<[T]>,
    head: u32,
    len: u32,
}

impl<T: Copy + Default> Ring<T> {
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&self, at: usize) -> usize {
        // The room is a power of two.
        (self.head as usize + at) & (self.room.len() - 1)
    }

    /// Adds `value` at the back.
    pub fn push(&mut self, value: T) {
        if self.len() == self.room.len() {
            self.grow();
        }
        let place = self.place(self.len());
        self.room[place] = value;
        self.len += 1;
    }

    fn grow(&mut self) {
        let mut room = Vec::with_capacity((self.room.len() * 2).max(1));
        room.extend(self.iter());
        room.resize(room.capacity(), T::default());
        self.room = room.into_boxed_slice();
        self.head = 0;
    }

    /// Takes the front.
    pub fn pop(&mut self) -> Option<T> {
        let front = self.front()?;
        self.head = u32::try_from(self.place(1)).expect("a queue of fewer than 2^32");
        self.len -= 1;
        Some(front)
    }

    /// The longest in it.
    pub fn front(&self) -> Option<T> {
        (self.len > 0).then(|| self.room[self.place(0)])
    }

    /// From front to back.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len()).map(|at| self.room[self.place(at)])
    }

    /// Replaces the content by `values`, which are no more than it holds.
    pub fn refill(&mut self, values: &[T]) {
        self.room[..values.len()].copy_from_slice(values);
        self.head = 0;
        self.len = u32::try_from(values.len()).expect("a queue of fewer than 2^32");
    }

    /// Drops everything, and the room.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Octets of its room.
    pub const fn octets(&self) -> usize {
        self.room.len() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec(prop::option::of(0..100_i64), 0..200)) {
            let (mut ring, mut plain) = (Ring::default(), VecDeque::new());
            for step in steps {
                match step {
                    Some(value) => {
                        ring.push(value);
                        plain.push_back(value);
                    }
                    None => prop_assert_eq!(ring.pop(), plain.pop_front()),
                }
                prop_assert_eq!(ring.len(), plain.len());
                prop_assert_eq!(ring.front(), plain.front().copied());
                prop_assert!(ring.iter().eq(plain.iter().copied()));
            }
        }
    }
}
