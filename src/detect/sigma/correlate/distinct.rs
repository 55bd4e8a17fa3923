//! `value_count`: how many different values were seen in the window.
//!
//! Values are kept in the order in which they were last seen, each with that time, so the window's
//! edge is always exact. As long as [`EXACT_MAX`] values suffice for the condition, only the newest
//! are kept and nothing is estimated. Else a group with more becomes a sample: of all values, those
//! whose hash ends in `level` zero bits, each standing for 2^level. The level follows the number of
//! values in both directions. (P. B. Gibbons: Distinct sampling for highly-accurate answers to
//! distinct values queries and event reports, VLDB 2001; here over a sliding window.)

use hashbrown::HashTable;

use super::groups::allocated;
use super::hash::Sip;
use super::plan::Plan;
use super::state::{EXACT_MAX, Error, Item, Measure, State, remembered_from};
use crate::net::fold_u64;
use crate::time::Micros;

const NONE: u16 = u16::MAX;
/// Up to so many values are searched one by one.
const PLAIN_MAX: usize = 8;
const LEVEL_MAX: u8 = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The value, in two halves: they need no 16-octet alignment.
    value: [u64; 2],
    seen: Micros,
    newer: u16,
    older: u16,
    /// The sampling level when it was seen last, or a higher one since.
    level: u8,
}

/// The different values of a group's window.
#[derive(Debug)]
pub(super) struct Distinct {
    entries: Vec<Entry>,
    /// Places of the entries by value, once there are more than a few.
    index: Option<Box<HashTable<u16>>>,
    /// Sum of 2^level over the entries.
    number: u64,
    newest: u16,
    oldest: u16,
    /// The first of the unused entries, linked by `older`.
    free: u16,
    live: u16,
    /// Of the values that come now.
    level: u8,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            index: None,
            number: 0,
            newest: NONE,
            oldest: NONE,
            free: NONE,
            live: 0,
            level: 0,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn halves(value: u128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

const fn place_hash(value: [u64; 2]) -> u64 {
    fold_u64(value[0] ^ 0xa076_1d64_78bd_642f, value[1] ^ 0xe703_7ed1_a0b4_28db)
}

/// The highest level at which a value is in the sample.
fn level_of(value: [u64; 2]) -> u8 {
    let mut sip = Sip::<1, 3>::new(0, 0);
    value.into_iter().for_each(|half| sip.word(half));
    u8::try_from(sip.finish()[0].trailing_zeros()).expect("at most 64").min(LEVEL_MAX)
}

impl Distinct {
    fn find(&self, value: [u64; 2]) -> Option<u16> {
        let is_it = |&at: &u16| self.entries[usize::from(at)].value == value;
        match &self.index {
            Some(index) => index.find(place_hash(value), is_it).copied(),
            None => self.iter().find(is_it),
        }
    }

    /// Places of the entries, the newest first.
    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let some = |at: u16| (at != NONE).then_some(at);
        std::iter::successors(some(self.newest), move |&at| {
            some(self.entries[usize::from(at)].older)
        })
    }

    fn link(&mut self, at: u16) {
        let second = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[usize::from(at)];
        (entry.newer, entry.older) = (NONE, second);
        match second {
            NONE => self.oldest = at,
            second => self.entries[usize::from(second)].newer = at,
        }
    }

    fn unlink(&mut self, at: u16) {
        let Entry { newer, older, .. } = self.entries[usize::from(at)];
        match newer {
            NONE => self.newest = older,
            newer => self.entries[usize::from(newer)].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[usize::from(older)].newer = newer,
        }
    }

    fn insert(&mut self, value: [u64; 2], seen: Micros) {
        let entry = Entry { value, seen, newer: NONE, older: NONE, level: self.level };
        let at = match self.free {
            NONE => {
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(self.entries.len().max(1));
                }
                self.entries.push(entry);
                u16::try_from(self.entries.len() - 1).expect("at most EXACT_MAX entries")
            }
            free => {
                self.free = self.entries[usize::from(free)].older;
                self.entries[usize::from(free)] = entry;
                free
            }
        };
        self.link(at);
        self.live += 1;
        self.number += 1 << self.level;
        let entries = &self.entries;
        let hash = |&at: &u16| place_hash(entries[usize::from(at)].value);
        if let Some(index) = &mut self.index {
            index.insert_unique(place_hash(value), at, hash);
        } else if usize::from(self.live) > PLAIN_MAX {
            let mut index = HashTable::with_capacity(2 * PLAIN_MAX);
            for at in self.iter() {
                index.insert_unique(hash(&at), at, hash);
            }
            self.index = Some(Box::new(index));
        }
    }

    fn remove(&mut self, at: u16) {
        self.unlink(at);
        let entry = &mut self.entries[usize::from(at)];
        entry.older = std::mem::replace(&mut self.free, at);
        self.live -= 1;
        self.number -= 1 << entry.level;
        if let Some(index) = &mut self.index {
            let found = index.find_entry(place_hash(entry.value), |&place| place == at);
            found.expect("every entry is in the index").remove();
        }
    }

    /// Halves the sample.
    fn raise(&mut self) {
        self.level += 1;
        let mut at = self.newest;
        while at != NONE {
            let entry = &mut self.entries[usize::from(at)];
            let next = entry.older;
            if level_of(entry.value) < self.level {
                self.remove(at);
            } else if entry.level < self.level {
                self.number += (1 << self.level) - (1 << entry.level);
                entry.level = self.level;
            }
            at = next;
        }
    }

    /// The square root of the estimate's variance: 2^l (2^l - 1) for each entry of level l.
    fn standard_error(&self) -> u128 {
        let variance = self.iter().map(|at| {
            let stands_for = 1_u128 << self.entries[usize::from(at)].level;
            stands_for * (stands_for - 1)
        });
        variance.sum::<u128>().isqrt()
    }
}

impl State for Distinct {
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool {
        let mut was_false = false;
        while self.oldest != NONE {
            let seen = self.entries[usize::from(self.oldest)].seen;
            if seen > edge {
                break;
            }
            self.remove(self.oldest);
            let more = self.oldest != NONE && self.entries[usize::from(self.oldest)].seen == seen;
            was_false |= !more && !plan.range.only_grows() && !self.holds(plan);
        }
        was_false || !self.holds(plan)
    }

    fn add(&mut self, time: Micros, item: &Item, plan: &Plan) -> bool {
        let value = halves(item.value);
        if let Some(at) = self.find(value) {
            let entry = &mut self.entries[usize::from(at)];
            entry.seen = time;
            // No entry is below the level, and this one is seen at it now.
            self.number -= (1 << entry.level) - (1 << self.level);
            entry.level = self.level;
            self.unlink(at);
            self.link(at);
            return false;
        }
        let enough = plan.range.enough();
        if enough <= EXACT_MAX as u128 {
            if u128::from(self.live) == enough {
                self.remove(self.oldest);
            }
        } else {
            // Not before what the window holds fits a lower level with room to spare.
            while self.level > 0 && self.number >> (self.level - 1) < EXACT_MAX as u64 * 3 / 4 {
                self.level -= 1;
            }
            while usize::from(self.live) == EXACT_MAX && self.level < LEVEL_MAX {
                self.raise();
            }
            if self.level > 0 && level_of(value) < self.level {
                return false;
            }
        }
        self.insert(value, time);
        u128::from(self.number) >= remembered_from(plan)
    }

    fn holds(&self, plan: &Plan) -> bool {
        !self.is_empty() && plan.range.holds(self.number.into())
    }

    fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn first(&self) -> Option<Micros> {
        (self.oldest != NONE).then(|| self.entries[usize::from(self.oldest)].seen)
    }

    fn measure(&self, _: &Plan) -> Measure {
        let error = match self.standard_error() {
            0 => Error::None,
            error => Error::Standard(error),
        };
        Measure::Count { number: self.number.into(), error }
    }

    fn heap(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| {
            allocated(size_of::<HashTable<u16>>()) + allocated(index.allocation_size())
        });
        allocated(self.entries.capacity() * size_of::<Entry>()) + index
    }
}
