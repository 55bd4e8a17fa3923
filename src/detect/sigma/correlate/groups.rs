//! The groups of one correlation: found by a hash of their values, kept in the order in which they
//! were last touched, with every octet accounted for.

use std::fmt;
use std::mem::size_of;

use hashbrown::HashTable;

use super::plan::{Edge, Plan};
use super::ring::Ring;
use super::state::{Item, Measure, State};
use crate::flow::FlowId;
use crate::time::Micros;

/// Hash of a group's values: 128 bits, so that no two groups ever meet.
pub(super) type Key = [u64; 2];

/// Flows that an alert names.
pub(super) const FLOWS_MAX: usize = 8;

const NONE: u32 = u32::MAX;

/// What an allocation of `octets` takes of memory: with the header and rounding of the system's
/// allocator, which is more than most others take.
pub(super) const fn allocated(octets: usize) -> usize {
    if octets == 0 { 0 } else { (octets + 8).next_multiple_of(16) }
}

/// A match that made a group's condition true.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Crossing {
    pub measure: Measure,
    /// The first match that counts; of a value that came again, when it came last.
    pub first: Micros,
    /// Flows of the last matches that count, in their order.
    pub flows: Vec<FlowId>,
}

/// The groups of a correlation, whatever their state is.
pub(super) trait Store: fmt::Debug + Send {
    /// Takes a match into its group.
    fn touch(&mut self, key: Key, time: Micros, item: &Item, plan: &Plan) -> Option<Crossing>;
    /// How many groups there are.
    fn len(&self) -> usize;
    /// Octets of memory in use.
    fn octets(&self) -> usize;
    /// Drops the group that was not touched for the longest time; when it was touched last.
    fn evict(&mut self) -> Option<Micros>;
    /// Drops up to `at_most` groups in whose windows nothing is left at `now`.
    fn forget(&mut self, now: Micros, plan: &Plan, at_most: usize);
}

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    time: Micros,
    flow: FlowId,
}

#[derive(Debug)]
struct Group<S> {
    key: Key,
    newer: u32,
    older: u32,
    opened: Micros,
    touched: Micros,
    /// Octets that its parts have on the heap.
    heap: u32,
    /// Whether the condition was false since the last alert.
    armed: bool,
    recent: Ring<Recent>,
    state: S,
}

/// A group's place, under a part of its hash.
#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    slot: u32,
}

const fn spread(tag: u32) -> u64 {
    (tag as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Debug)]
pub(super) struct Groups<S> {
    index: HashTable<Place>,
    slots: Vec<Option<Box<Group<S>>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    heap: usize,
}

impl<S> Default for Groups<S> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            heap: 0,
        }
    }
}

impl<S: State> Groups<S> {
    const GROUP_OCTETS: usize = allocated(size_of::<Group<S>>());

    fn group(&mut self, slot: u32) -> &mut Group<S> {
        self.slots[slot as usize].as_mut().expect("links lead to groups")
    }

    fn find(&self, key: Key) -> Option<u32> {
        let tag = key[0] as u32;
        let is_it = |place: &Place| {
            place.tag == tag
                && self.slots[place.slot as usize].as_ref().is_some_and(|g| g.key == key)
        };
        self.index.find(spread(tag), is_it).map(|place| place.slot)
    }

    fn insert(&mut self, key: Key, time: Micros) -> u32 {
        let group = Box::new(Group {
            key,
            newer: NONE,
            older: NONE,
            opened: time,
            touched: time,
            heap: 0,
            armed: true,
            recent: Ring::default(),
            state: S::default(),
        });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 groups fit the memory")
        });
        self.slots[slot as usize] = Some(group);
        let tag = key[0] as u32;
        self.index.insert_unique(spread(tag), Place { tag, slot }, |place| spread(place.tag));
        self.link(slot);
        slot
    }

    fn link(&mut self, slot: u32) {
        let second = std::mem::replace(&mut self.newest, slot);
        let group = self.group(slot);
        (group.newer, group.older) = (NONE, second);
        match second {
            NONE => self.oldest = slot,
            second => self.group(second).newer = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let group = self.group(slot);
        let (newer, older) = (group.newer, group.older);
        match newer {
            NONE => self.newest = older,
            newer => self.group(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.group(older).newer = newer,
        }
    }

    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        let group = self.slots[slot as usize].take().expect("links lead to groups");
        self.heap -= group.heap as usize;
        self.free.push(slot);
        let place = self.index.find_entry(spread(group.key[0] as u32), |p| p.slot == slot);
        place.expect("every group is in the index").remove();
        if self.index.is_empty() {
            *self = Self::default();
        } else if self.index.len() < self.index.capacity() / 8 {
            self.index.shrink_to(self.index.len() * 2, |place| spread(place.tag));
        }
    }
}

impl<S: State> Group<S> {
    fn take(&mut self, time: Micros, item: &Item, plan: &Plan) -> Option<Crossing> {
        match plan.edge(self.opened, self.touched, time) {
            Edge::New => self.renew(time),
            Edge::Out(edge) => {
                self.armed |= self.state.expire(edge, plan);
                if self.state.is_empty() {
                    self.renew(time);
                } else {
                    while self.recent.front().is_some_and(|r| r.time <= edge) {
                        self.recent.pop();
                    }
                }
            }
        }
        self.touched = time;
        if self.state.add(time, item, plan) {
            if self.recent.len() == FLOWS_MAX {
                self.recent.pop();
            }
            self.recent.push(Recent { time, flow: item.flow });
        }
        let holds = self.state.holds(plan);
        let crossed = holds && self.armed;
        self.armed = !holds;
        crossed.then(|| Crossing {
            measure: self.state.measure(plan),
            first: self.state.first().unwrap_or(time),
            flows: self.recent.iter().map(|recent| recent.flow).collect(),
        })
    }

    fn renew(&mut self, time: Micros) {
        self.state.clear();
        self.recent.clear();
        self.armed = true;
        self.opened = time;
    }

    fn heap(&self) -> usize {
        allocated(self.recent.octets()) + self.state.heap()
    }
}

impl<S: State> Store for Groups<S> {
    fn touch(&mut self, key: Key, time: Micros, item: &Item, plan: &Plan) -> Option<Crossing> {
        let slot = match self.find(key) {
            Some(slot) => {
                if slot != self.newest {
                    self.unlink(slot);
                    self.link(slot);
                }
                slot
            }
            None => self.insert(key, time),
        };
        let group = self.group(slot);
        let crossing = group.take(time, item, plan);
        let now = u32::try_from(group.heap()).expect("a group is bounded far below 4 GiB");
        let before = std::mem::replace(&mut group.heap, now);
        self.heap = self.heap - before as usize + now as usize;
        crossing
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn octets(&self) -> usize {
        self.index.allocation_size()
            + self.slots.capacity() * size_of::<Option<Box<Group<S>>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.len() * Self::GROUP_OCTETS
            + self.heap
    }

    fn evict(&mut self) -> Option<Micros> {
        let slot = self.oldest;
        if slot == NONE {
            return None;
        }
        let touched = self.group(slot).touched;
        self.remove(slot);
        Some(touched)
    }

    fn forget(&mut self, now: Micros, plan: &Plan, at_most: usize) {
        for _ in 0..at_most {
            let slot = self.oldest;
            if slot == NONE || !plan.is_over(self.group(slot).touched, now) {
                return;
            }
            self.remove(slot);
        }
    }
}
