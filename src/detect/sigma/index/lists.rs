//! What is filed under a value: short lists of rules, each list once.

use std::collections::HashMap;

use super::plan::Guard;
use super::probe::{Probe, Slot};
use crate::detect::sigma::predicate::Class;

/// A list of a [`Lists`]; 0 is the empty one.
pub(super) type ListId = u32;

/// Which classes of rules a look at a flow is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classes(u32);

impl Classes {
    pub const ALL: Self = Self(0b111);
    pub const EARLY: Self = Self(0b011);
    pub const MONOTONE: Self = Self(0b010);

    /// Whether `class` is among them.
    pub const fn has(self, class: Class) -> bool {
        self.0 >> class as u32 & 1 == 1
    }
}

/// Rules of a set, at most: two bits of an entry say its class.
pub(super) const RULES_MAX: u32 = 1 << 30;

/// A branch of a rule, as it is filed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The rule's place, with its class in the top bits.
    rule: u32,
    slots: [Slot; 2],
    first: [u32; 2],
    /// From the first value that passes to the last.
    span: [u32; 2],
}

impl Entry {
    pub fn new(rule: u32, class: Class, guards: [Guard; 2]) -> Self {
        Self {
            rule: rule | (class as u32) << 30,
            slots: guards.map(|guard| guard.slot),
            first: guards.map(|guard| guard.first),
            span: guards.map(|guard| guard.last - guard.first),
        }
    }

    /// The rule, if it is of one of the classes and the flow passes the guards.
    #[inline]
    pub fn candidate(&self, probe: &Probe<'_, '_>, classes: Classes) -> Option<u32> {
        let passes = |i: usize| {
            let value = probe.slot(self.slots[i]);
            value.wrapping_sub(self.first[i]) <= self.span[i]
        };
        let of_class = classes.0 >> (self.rule >> 30) & 1 == 1;
        (of_class && passes(0) && passes(1)).then_some(self.rule & (RULES_MAX - 1))
    }
}

/// All lists of an index, one after the other in memory.
#[derive(Debug, Default)]
pub(super) struct Lists {
    entries: Vec<Entry>,
    /// Of each list: where it begins, where its second part begins, where it ends.
    ranges: Vec<[u32; 3]>,
}

impl Lists {
    /// The first part of a list: of the table for initiators, the branches on the initiator.
    #[inline]
    pub fn first(&self, id: ListId) -> &[Entry] {
        let [begin, middle, _] = self.ranges[id as usize];
        &self.entries[begin as usize..middle as usize]
    }

    /// The second part.
    #[inline]
    pub fn second(&self, id: ListId) -> &[Entry] {
        let [_, middle, end] = self.ranges[id as usize];
        &self.entries[middle as usize..end as usize]
    }
}

/// Collects lists; equal lists become one.
#[derive(Debug)]
pub(super) struct ListBuilder {
    /// The entries that lists are made of; those below `seconds` form the first parts.
    filed: Vec<Entry>,
    seconds: u32,
    lists: Lists,
    single: Vec<ListId>,
    known: HashMap<Box<[u32]>, ListId>,
}

impl ListBuilder {
    /// For lists of entries that are named by their place in `filed`; those from `seconds` on make
    /// up the second parts of lists. What `lists` has is kept.
    pub fn new(mut lists: Lists, filed: Vec<Entry>, seconds: usize) -> Self {
        if lists.ranges.is_empty() {
            lists.ranges.push([0; 3]);
        }
        let seconds = u32::try_from(seconds).expect("fewer than 2^32 branches");
        Self { single: vec![0; filed.len()], filed, seconds, lists, known: HashMap::new() }
    }

    /// The list of these entries, which are sorted.
    pub fn list(&mut self, entries: &[u32]) -> ListId {
        match *entries {
            [] => 0,
            [one] => {
                if self.single[one as usize] == 0 {
                    self.single[one as usize] = self.push(entries);
                }
                self.single[one as usize]
            }
            _ => match self.known.get(entries) {
                Some(&id) => id,
                None => {
                    let id = self.push(entries);
                    self.known.insert(entries.into(), id);
                    id
                }
            },
        }
    }

    fn push(&mut self, entries: &[u32]) -> ListId {
        let place = |n: usize| u32::try_from(n).expect("fewer than 2^32 entries");
        let id = place(self.lists.ranges.len());
        let begin = self.lists.entries.len();
        let firsts = entries.partition_point(|&entry| entry < self.seconds);
        self.lists.entries.extend(entries.iter().map(|&entry| self.filed[entry as usize]));
        let end = self.lists.entries.len();
        self.lists.ranges.push([place(begin), place(begin + firsts), place(end)]);
        id
    }

    /// The lists.
    pub fn finish(mut self) -> Lists {
        self.lists.entries.shrink_to_fit();
        self.lists
    }
}
