//! Intrusive doubly linked rings over entry numbers: O(1) to append and unlink.

use super::slab::Slab;

/// Links of one node.
#[derive(Clone, Copy, Debug)]
struct Links {
    prev: u32,
    next: u32,
}

/// A fixed number of rings that share one set of entries; an entry is in one ring or in none.
///
/// Nodes `0..rings` are the rings' heads, node `rings + n` is entry `n`.
#[derive(Clone, Debug)]
pub(super) struct Rings {
    heads: Vec<Links>,
    entries: Slab<Links>,
}

impl Rings {
    /// Rings for entries with numbers below `limit`.
    pub(super) fn new(rings: u32, limit: usize) -> Self {
        let heads = (0..rings).map(|head| Links { prev: head, next: head }).collect();
        Self { heads, entries: Slab::new(limit) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "made from 32 bits")]
    const fn rings(&self) -> u32 {
        self.heads.len() as u32
    }

    fn node(&mut self, node: u32) -> &mut Links {
        match node.checked_sub(self.rings()) {
            Some(entry) => &mut self.entries[entry],
            None => &mut self.heads[node as usize],
        }
    }

    /// Takes the memory of as many entries as there will ever be. There must be none yet.
    pub(super) fn reserve(&mut self) {
        self.entries.reserve();
    }

    /// Makes room for the next entry; entries are numbered as they are added.
    pub(super) fn add_entry(&mut self) {
        let node = self.entries.len() + self.rings();
        self.entries.push(Links { prev: node, next: node });
    }

    /// Asks the processor to fetch the links of `entry`.
    #[inline]
    pub(super) fn prefetch(&self, entry: u32) {
        self.entries.prefetch(entry);
    }

    /// Appends `entry`, which must be in no ring, to `ring`.
    pub(super) fn push_back(&mut self, ring: u32, entry: u32) {
        let node = entry + self.rings();
        let last = self.heads[ring as usize].prev;
        self.entries[entry] = Links { prev: last, next: ring };
        self.node(last).next = node;
        self.heads[ring as usize].prev = node;
    }

    /// Takes `entry` out of its ring; nothing if it is in none.
    pub(super) fn unlink(&mut self, entry: u32) {
        let node = entry + self.rings();
        let Links { prev, next } = self.entries[entry];
        if next != node {
            self.node(prev).next = next;
            self.node(next).prev = prev;
            self.entries[entry] = Links { prev: node, next: node };
        }
    }

    /// Takes all entries out of `ring`, in the order in which they were appended, into `entries`.
    pub(super) fn drain(&mut self, ring: u32, entries: &mut Vec<u32>) {
        let mut node = self.heads[ring as usize].next;
        while let Some(entry) = node.checked_sub(self.rings()) {
            let links = &mut self.entries[entry];
            (node, *links) = (links.next, Links { prev: node, next: node });
            entries.push(entry);
        }
        self.heads[ring as usize] = Links { prev: ring, next: ring };
    }
}

/// Octets of the links of `entries` entries.
pub(super) const fn octets(entries: usize) -> usize {
    entries * size_of::<Links>()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn content(rings: &mut Rings, ring: u32) -> Vec<u32> {
        let mut entries = Vec::new();
        rings.drain(ring, &mut entries);
        entries.iter().for_each(|&entry| rings.push_back(ring, entry));
        entries
    }

    proptest! {
        #[test]
        fn rings_are_queues(moves in prop::collection::vec((0..3_u32, 0..8_u32), 0..64)) {
            let mut rings = Rings::new(3, 8);
            (0..8).for_each(|_| rings.add_entry());
            let mut queues = vec![VecDeque::new(); 3];
            for (ring, entry) in moves {
                rings.unlink(entry);
                rings.push_back(ring, entry);
                queues.iter_mut().for_each(|queue| queue.retain(|&e| e != entry));
                queues[ring as usize].push_back(entry);
            }
            for ring in 0..3 {
                let queue = &queues[ring as usize];
                prop_assert_eq!(queue, &content(&mut rings, ring));
            }
        }
    }
}
