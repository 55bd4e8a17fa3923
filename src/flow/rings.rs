//! Intrusive doubly linked rings over entry numbers: O(1) to append, unlink and find the oldest.

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
    nodes: Vec<Links>,
    rings: u32,
}

impl Rings {
    pub(super) fn new(rings: u32) -> Self {
        let nodes = (0..rings).map(|head| Links { prev: head, next: head }).collect();
        Self { nodes, rings }
    }

    /// Makes room for the next entry; entries are numbered as they are added.
    pub(super) fn add_entry(&mut self) {
        let node = u32::try_from(self.nodes.len()).expect("capacity is below 2^32 - rings");
        self.nodes.push(Links { prev: node, next: node });
    }

    /// Appends `entry`, which must be in no ring, to `ring`.
    pub(super) fn push_back(&mut self, ring: u32, entry: u32) {
        let node = entry + self.rings;
        let last = self.nodes[ring as usize].prev;
        self.nodes[node as usize] = Links { prev: last, next: ring };
        self.nodes[last as usize].next = node;
        self.nodes[ring as usize].prev = node;
    }

    /// Takes `entry` out of its ring; nothing if it is in none.
    pub(super) fn unlink(&mut self, entry: u32) {
        let node = entry + self.rings;
        let Links { prev, next } = self.nodes[node as usize];
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
        self.nodes[node as usize] = Links { prev: node, next: node };
    }

    /// The entry that was appended to `ring` first.
    pub(super) fn front(&self, ring: u32) -> Option<u32> {
        self.nodes[ring as usize].next.checked_sub(self.rings)
    }

    /// The entry that was appended to `ring` last.
    pub(super) fn back(&self, ring: u32) -> Option<u32> {
        self.nodes[ring as usize].prev.checked_sub(self.rings)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn content(rings: &mut Rings, ring: u32) -> Vec<u32> {
        let mut entries = Vec::new();
        while let Some(entry) = rings.front(ring) {
            rings.unlink(entry);
            entries.push(entry);
        }
        entries.iter().for_each(|&entry| rings.push_back(ring, entry));
        entries
    }

    proptest! {
        #[test]
        fn rings_are_queues(moves in prop::collection::vec((0..3_u32, 0..8_u32), 0..64)) {
            let mut rings = Rings::new(3);
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
                prop_assert_eq!(rings.back(ring), queue.back().copied());
                prop_assert_eq!(queue, &content(&mut rings, ring));
            }
        }
    }
}
