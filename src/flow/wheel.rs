//! The timer wheel: who is due at or before an instant, in the order (deadline, flow number).
//!
//! Slots of 2^18 µs (about a quarter of a second), each a ring of entries. The slot that the clock
//! stands in is drained and sorted, which gives exact order and microsecond resolution, and tells
//! who is due next, so that its memory can be fetched. Timeouts are whole seconds, so hardly
//! anything falls due in the slot that is drained already; a heap takes what does. Deadlines past
//! the horizon (about nine minutes) wait in the last slot and are put off again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::rings::Rings;
use crate::time::Micros;

const SLOT_SHIFT: u32 = 18;
const SLOTS: i64 = 2_048;

/// An entry that is due.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Due {
    pub(super) deadline: Micros,
    /// The flow's number, in the order of creation: breaks ties, and tells a flow from an earlier
    /// one in the same entry.
    pub(super) flow: u32,
    pub(super) entry: u32,
}

impl Due {
    /// No entry that is due at or before `now` is greater.
    const fn last_of(now: Micros) -> Self {
        Self { deadline: now, flow: u32::MAX, entry: u32::MAX }
    }
}

/// The wheel. What was drained may have left or been put off since: who takes one out must compare
/// it with the entry.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    rings: Rings,
    /// The drained entries, the first that is due last.
    drained: Vec<Due>,
    /// Whether a slot is being drained: `drained` is not in order yet.
    draining: bool,
    /// What fell due in a slot that was drained before.
    heap: BinaryHeap<Reverse<Due>>,
    /// The slot that was drained last.
    cursor: i64,
    /// How long before those of a wheel of phase 0 its slots begin, in microseconds.
    phase_us: i64,
}

/// Microseconds of a slot.
pub(super) const SLOT_US: i64 = 1 << SLOT_SHIFT;

#[expect(clippy::cast_possible_truncation, reason = "0..SLOTS")]
const fn ring_of(slot: i64) -> u32 {
    slot.rem_euclid(SLOTS) as u32
}

impl Wheel {
    /// A wheel of entries with numbers below `limit`. Draining a slot takes time, so many wheels of one
    /// thread should not do it at once: `phase_us`, below [`SLOT_US`], tells them apart. It changes
    /// nothing else.
    pub(super) fn new(limit: usize, phase_us: i64) -> Self {
        let rings = Rings::new(ring_of(-1) + 1, limit);
        Self {
            rings,
            drained: Vec::new(),
            draining: false,
            heap: BinaryHeap::new(),
            cursor: i64::MIN >> SLOT_SHIFT,
            phase_us,
        }
    }

    #[inline]
    const fn slot_of(&self, at: Micros) -> i64 {
        at.0.saturating_add(self.phase_us) >> SLOT_SHIFT
    }

    /// Takes the memory of as many entries as there will ever be. There must be none yet.
    pub(super) fn reserve(&mut self) {
        self.rings.reserve();
    }

    /// Makes room for the next entry.
    pub(super) fn add_entry(&mut self) {
        self.rings.add_entry();
    }

    /// Queues `due.entry` for its deadline, wherever it was queued before.
    pub(super) fn schedule(&mut self, due: Due) {
        self.rings.unlink(due.entry);
        let slot = self.slot_of(due.deadline);
        if slot <= self.cursor {
            if self.draining {
                self.drained.push(due);
            } else {
                self.heap.push(Reverse(due));
            }
        } else {
            self.rings.push_back(ring_of(slot.min(self.cursor + SLOTS - 1)), due.entry);
        }
    }

    /// Whether an entry that is queued for `deadline` still waits in its slot: whatever its deadline
    /// is then, it is scheduled again when the slot comes.
    pub(super) const fn waits(&self, deadline: Micros) -> bool {
        self.slot_of(deadline) > self.cursor
    }

    /// Takes `entry` out.
    pub(super) fn cancel(&mut self, entry: u32) {
        self.rings.unlink(entry);
    }

    /// Whether there may be anything to do up to `now`: if not, the wheel does not change.
    #[inline]
    pub(super) fn is_due(&self, now: Micros) -> bool {
        self.cursor < self.slot_of(now)
            || self.drained.last().is_some_and(|due| due.deadline <= now)
            || self.heap.peek().is_some_and(|Reverse(due)| due.deadline <= now)
    }

    /// Takes out the first of the drained entries that is due at or before `now`.
    pub(super) fn pop(&mut self, now: Micros) -> Option<Due> {
        let (drained, late) = (self.drained.last(), self.heap.peek().map(|Reverse(due)| due));
        let from_heap = late.is_some_and(|late| drained.is_none_or(|drained| late < drained));
        if *(if from_heap { late } else { drained })? > Due::last_of(now) {
            return None;
        }
        if from_heap { self.heap.pop().map(|Reverse(due)| due) } else { self.drained.pop() }
    }

    /// The entry that is due `n` entries after the one that is due next, if so many were drained.
    #[inline]
    pub(super) fn ahead(&self, n: usize) -> Option<u32> {
        let at = self.drained.len().checked_sub(n + 1)?;
        Some(self.drained[at].entry)
    }

    /// Asks the processor to fetch what [`Wheel::schedule`] and [`Wheel::cancel`] read of `entry`.
    #[inline]
    pub(super) fn prefetch(&self, entry: u32) {
        self.rings.prefetch(entry);
    }

    /// Moves to the next slot, if `now` lies past the current one, and takes its entries out into
    /// `entries`: each must be scheduled again with its deadline as it is now, then
    /// [`Wheel::drained`] be called. What is due must have been taken out. Returns whether it moved.
    pub(super) fn step(&mut self, now: Micros, entries: &mut Vec<u32>) -> bool {
        if self.cursor >= self.slot_of(now) {
            return false;
        }
        self.cursor += 1;
        self.rings.drain(ring_of(self.cursor), entries);
        self.draining = true;
        true
    }

    /// All entries that [`Wheel::step`] took out are scheduled again.
    pub(super) fn drained(&mut self) {
        self.draining = false;
        self.drained.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Moves to the slot of `now` at once. No entry may be queued.
    pub(super) fn jump(&mut self, now: Micros) {
        self.drained.clear();
        self.heap.clear();
        self.cursor = self.cursor.max(self.slot_of(now));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::SECOND;

    /// Everything due up to `now`, as the table takes it out: entries that were drained are queued
    /// again with their deadline, which may lie beyond.
    fn advance(wheel: &mut Wheel, deadlines: &[i64], now: i64) -> Vec<(i64, u32)> {
        let mut fired = Vec::new();
        loop {
            while let Some(due) = wheel.pop(Micros(now)) {
                fired.push((due.deadline.0, due.entry));
            }
            let mut drained = Vec::new();
            let moved = wheel.step(Micros(now), &mut drained);
            drained.into_iter().for_each(|entry| wheel.schedule(due(deadlines, entry)));
            wheel.drained();
            if !moved {
                return fired;
            }
        }
    }

    fn due(deadlines: &[i64], entry: u32) -> Due {
        let deadline = Micros(deadlines[entry as usize]);
        Due { deadline, flow: entry, entry }
    }

    proptest! {
        /// Deadlines from at once to far past the horizon; the clock in steps of any size.
        #[test]
        fn entries_fire_in_order_and_in_time(
            deadlines in prop::collection::vec(
                prop_oneof![-SECOND..3 * SECOND, 0..700 * SECOND, 0..7_200 * SECOND], 1..40),
            mut stops in prop::collection::vec(0..7_300 * SECOND, 0..12),
            phase_us in 0..SLOT_US,
        ) {
            let mut wheel = Wheel::new(40, phase_us);
            wheel.jump(Micros(0));
            for entry in (0..).take(deadlines.len()) {
                wheel.add_entry();
                wheel.schedule(due(&deadlines, entry));
            }
            stops.extend([0, 7_300 * SECOND]);
            stops.sort_unstable();
            let mut fired = Vec::new();
            for stop in stops {
                let now = advance(&mut wheel, &deadlines, stop);
                prop_assert!(now.iter().all(|&(deadline, _)| deadline <= stop));
                fired.extend(now);
                prop_assert_eq!(fired.len(), deadlines.iter().filter(|&&d| d <= stop).count());
            }
            let mut order: Vec<(i64, u32)> = deadlines.iter().copied().zip(0..).collect();
            order.sort_unstable();
            prop_assert_eq!(fired, order);
        }
    }
}
