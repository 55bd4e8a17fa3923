//! The entries of one shard: found by key, made while there is room, ordered by age.

use super::Memory;
use super::entry::{Attributes, Entry};
use super::index::Index;
use super::key::FlowKey;
use super::rings::Rings;
use crate::time::Micros;

/// The one ring of ages: front = longest idle.
const AGES: u32 = 0;

/// Entries with their index. Memory grows with the number of flows up to `capacity` and is then
/// used again and again.
#[derive(Clone, Debug)]
pub(super) struct Store {
    capacity: usize,
    index: Index,
    pub(super) entries: Vec<Entry>,
    pub(super) attributes: Vec<Attributes>,
    pub(super) memories: Vec<Memory>,
    free: Vec<u32>,
    ages: Rings,
    /// Flows created so far.
    created: u64,
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            index: Index::new(),
            entries: Vec::new(),
            attributes: Vec::new(),
            memories: Vec::new(),
            free: Vec::new(),
            ages: Rings::new(AGES + 1),
            created: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// The number of the entry with `key`; compares whole keys.
    pub(super) fn find(&self, key: &FlowKey, hash: u64) -> Option<u32> {
        self.index.find(hash, |i| self.entries[i as usize].key == *key)
    }

    /// Makes an entry; the store must not be full. Returns its number and whether it is a place
    /// that never was used before.
    pub(super) fn create(&mut self, key: FlowKey, hash: u64, first: Micros) -> (u32, bool) {
        self.created += 1;
        let entry = Entry::new(key, hash, self.created, first);
        let (i, fresh) = if let Some(i) = self.free.pop() {
            self.entries[i as usize] = entry;
            (i, false)
        } else {
            let i = u32::try_from(self.entries.len()).expect("capacity fits 32 bits");
            self.entries.push(entry);
            self.attributes.push(Attributes::default());
            self.memories.push(Memory::default());
            self.ages.add_entry();
            (i, true)
        };
        self.attributes[i as usize].reset(first);
        self.memories[i as usize] = Memory::default();
        self.index.insert(hash, i);
        self.ages.push_back(AGES, i);
        (i, fresh)
    }

    /// Frees entry `i`.
    pub(super) fn remove(&mut self, i: u32) {
        let entry = &mut self.entries[i as usize];
        entry.number = 0;
        self.index.remove(entry.hash, i);
        self.ages.unlink(i);
        self.free.push(i);
    }

    /// Makes `i` the entry that was merged into last.
    pub(super) fn touch(&mut self, i: u32) {
        if self.ages.back(AGES) != Some(i) {
            self.ages.unlink(i);
            self.ages.push_back(AGES, i);
        }
    }

    /// The entry that was merged into longest ago.
    pub(super) fn longest_idle(&self) -> Option<u32> {
        self.ages.front(AGES)
    }

    /// Every entry in use, in the order of creation.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let mut flows: Vec<(u64, u32)> =
            (0..).zip(&self.entries).map(|(i, entry)| (entry.number, i)).collect();
        flows.retain(|&(number, _)| number > 0);
        flows.sort_unstable();
        flows.into_iter().map(|(_, i)| i).collect()
    }
}
