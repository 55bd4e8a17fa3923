//! Sequence numbers: what was lost on the way, what came late, twice, or after a restart.
//!
//! Each version counts in its own unit: v5 and v7 flows, v9 export packets (RFC 3954 §5.1), IPFIX
//! data records, options included (RFC 7011 §3.1). All wrap at 32 bits.

use std::collections::VecDeque;

use serde::Serialize;

/// A jump forward by more units than this is another counter, not a loss.
const JUMP_MAX: u32 = 1 << 24;
/// Uptime that goes back by more than this is a reboot, not a late datagram.
const UPTIME_SLACK_MS: u32 = 60_000;
/// A step of the uptime over its wrap at 49.7 days that is still believed: 18.6 hours.
const WRAP_STEP_MS: u32 = 1 << 26;

/// What the sequence numbers of one stream told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SequenceCounts {
    /// Units that never came: flows, packets or data records. Falls when a late datagram fills a
    /// gap; `lost` and `recovered` together only grow.
    pub lost: u64,
    /// Units that were missing at first and came late.
    pub recovered: u64,
    /// Datagrams that came late and filled a gap.
    pub reordered: u64,
    /// Datagrams that came twice.
    pub duplicates: u64,
    /// Times that the counter or the uptime began anew.
    pub restarts: u64,
    /// Messages whose units are unknown because a template was missing: the count is taken up
    /// again after them, and a loss there stays unseen.
    pub resyncs: u64,
}

impl SequenceCounts {
    /// Adds `other`.
    pub const fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.recovered += other.recovered;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.restarts += other.restarts;
        self.resyncs += other.resyncs;
    }
}

/// What one datagram was in its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    /// Next, or after a gap, or late, or twice.
    Running,
    /// The exporter began anew.
    Restart,
}

/// The sequence of one (exporter, version, domain).
#[derive(Debug, Default)]
pub(super) struct Sequence {
    expected: Option<u32>,
    uptime_ms: Option<u32>,
    /// Gaps that late datagrams may still fill: first unit and units, oldest first.
    gaps: VecDeque<(u32, u32)>,
    /// The last datagrams: first unit and units.
    recent: VecDeque<(u32, u32)>,
    pub(super) counts: SequenceCounts,
}

impl Sequence {
    /// Takes a datagram in that begins with unit `first`; tells of restarts before its records
    /// are decoded. [`Sequence::units`] must follow.
    pub(super) fn arrive(&mut self, first: u32, uptime_ms: Option<u32>, window: u32) -> Arrival {
        let rebooted = match (self.uptime_ms, uptime_ms) {
            (Some(before), Some(now)) => {
                // Both wrap at 49.7 days: a small step over the wrap is not a reboot.
                now < before
                    && before - now > UPTIME_SLACK_MS
                    && now.wrapping_sub(before) > WRAP_STEP_MS
            }
            _ => false,
        };
        let newer = match (self.uptime_ms, uptime_ms) {
            (Some(before), Some(now)) => rebooted || now.wrapping_sub(before) < 1 << 31,
            _ => true,
        };
        if newer {
            self.uptime_ms = uptime_ms;
        }
        let known = self.expected.is_some();
        let Some(expected) = self.expected.filter(|_| !rebooted) else {
            return self.begin(first, known);
        };
        let ahead = first.wrapping_sub(expected);
        if ahead == 0 {
            return Arrival::Running;
        }
        if ahead <= JUMP_MAX {
            self.counts.lost += u64::from(ahead);
            self.remember_gap((expected, ahead), window);
            self.expected = Some(first);
            return Arrival::Running;
        }
        let filled = self.gaps.iter().any(|&gap| offset_in(gap, first).is_some());
        if filled || self.recent.iter().any(|&(begin, _)| begin == first) {
            return Arrival::Running;
        }
        self.begin(first, true)
    }

    /// Says how many units the datagram that began with `first` held; `None` if that is unknown.
    pub(super) fn units(&mut self, first: u32, units: Option<u32>, window: u32) {
        if self.expected == Some(first) {
            let Some(units) = units else {
                self.counts.resyncs += 1;
                self.expected = None;
                return;
            };
            self.expected = Some(first.wrapping_add(units));
            remember(&mut self.recent, (first, units), window);
        } else if let Some(index) = self.gaps.iter().position(|&g| offset_in(g, first).is_some()) {
            self.fill(index, first, units.unwrap_or(1));
            remember(&mut self.recent, (first, units.unwrap_or(1)), window);
        } else if units != Some(0) && self.expected.is_some() {
            self.counts.duplicates += 1;
        }
    }

    fn begin(&mut self, first: u32, again: bool) -> Arrival {
        self.expected = Some(first);
        self.gaps.clear();
        self.recent.clear();
        self.counts.restarts += u64::from(again);
        if again { Arrival::Restart } else { Arrival::Running }
    }

    fn remember_gap(&mut self, gap: (u32, u32), window: u32) {
        remember(&mut self.gaps, gap, window);
    }

    /// A late datagram fills `units` of a gap: what is left before and after stays a gap.
    fn fill(&mut self, index: usize, first: u32, units: u32) {
        let gap = self.gaps.remove(index).expect("an index that was just found");
        let before = offset_in(gap, first).expect("the gap that was just found");
        let units = units.min(gap.1 - before);
        self.counts.lost -= u64::from(units);
        self.counts.recovered += u64::from(units);
        self.counts.reordered += u64::from(units > 0);
        let after = (first.wrapping_add(units), gap.1 - before - units);
        for part in [after, (gap.0, before)] {
            if part.1 > 0 {
                self.gaps.insert(index, part);
            }
        }
    }
}

/// How far `unit` lies in `gap`, if it does.
const fn offset_in(gap: (u32, u32), unit: u32) -> Option<u32> {
    let offset = unit.wrapping_sub(gap.0);
    if offset < gap.1 { Some(offset) } else { None }
}

fn remember(list: &mut VecDeque<(u32, u32)>, entry: (u32, u32), window: u32) {
    while list.len() >= window.max(1) as usize {
        list.pop_front();
    }
    if window > 0 {
        list.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds (sequence, units, uptime in ms) with a window of 4; wants lost, reordered,
    /// duplicates, restarts.
    #[track_caller]
    fn check(name: &str, datagrams: &[(u32, u32, u32)], want: [u64; 4]) {
        let mut sequence = Sequence::default();
        for &(first, units, uptime_ms) in datagrams {
            sequence.arrive(first, Some(uptime_ms), 4);
            sequence.units(first, Some(units), 4);
        }
        let SequenceCounts { lost, reordered, duplicates, restarts, .. } = sequence.counts;
        assert_eq!([lost, reordered, duplicates, restarts], want, "case: {name}");
    }

    #[test]
    fn streams() {
        check("in order", &[(7, 3, 1), (10, 3, 2), (13, 1, 3)], [0, 0, 0, 0]);
        check("the first number is not a loss", &[(4_000_000_000, 1, 1)], [0, 0, 0, 0]);
        check("a gap", &[(0, 3, 1), (6, 3, 2)], [3, 0, 0, 0]);
        check("over the wrap", &[(u32::MAX - 1, 3, 1), (1, 2, 2), (3, 1, 3)], [0, 0, 0, 0]);
        check("a gap over the wrap", &[(u32::MAX - 1, 1, 1), (2, 2, 2)], [3, 0, 0, 0]);
        check("late", &[(0, 3, 1), (6, 3, 3), (3, 3, 2), (9, 1, 4)], [0, 1, 0, 0]);
        check("late in part", &[(0, 1, 1), (10, 1, 2), (4, 2, 2), (1, 3, 2)], [4, 2, 0, 0]);
        check("twice", &[(0, 3, 1), (3, 3, 2), (3, 3, 2), (6, 3, 3)], [0, 0, 1, 0]);
        check("late, then twice", &[(0, 1, 1), (2, 1, 3), (1, 1, 2), (1, 1, 2)], [0, 1, 1, 0]);
        check("counter begins anew", &[(5_000, 3, 1), (0, 3, 2), (3, 1, 3)], [0, 0, 0, 1]);
        check("far ahead", &[(0, 3, 1), (1 << 30, 3, 2)], [0, 0, 0, 1]);
        let reboot = [(50, 1, 900_000), (2, 1, 20_000), (3, 1, 20_001)];
        check("reboot", &reboot, [0, 0, 0, 1]);
        let ahead = [(50, 1, 900_000), (60, 1, 20_000), (61, 1, 20_001)];
        check("reboot that looks like a gap", &ahead, [0, 0, 0, 1]);
        let wrap = [(50, 1, u32::MAX - 10), (51, 1, 5), (52, 1, 900)];
        check("uptime wraps", &wrap, [0, 0, 0, 0]);
        check(
            "template messages repeat the number",
            &[(5, 0, 1), (5, 2, 1), (7, 0, 2), (7, 1, 3)],
            [0, 0, 0, 0],
        );
    }

    #[test]
    fn what_came_late_moves_from_lost_to_recovered() {
        let mut sequence = Sequence::default();
        let mut counts = |first, units| {
            sequence.arrive(first, None, 4);
            sequence.units(first, Some(units), 4);
            (sequence.counts.lost, sequence.counts.recovered)
        };
        assert_eq!(counts(0, 1), (0, 0));
        assert_eq!(counts(10, 1), (9, 0));
        assert_eq!(counts(4, 2), (7, 2));
        assert_eq!(counts(1, 3), (4, 5));
        assert_eq!(counts(11, 1), (4, 5));
    }

    #[test]
    fn unknown_units_are_taken_up_again() {
        let mut sequence = Sequence::default();
        for (first, units) in [(0, Some(3)), (3, None), (900, Some(1)), (901, Some(1))] {
            sequence.arrive(first, None, 4);
            sequence.units(first, units, 4);
        }
        assert_eq!(sequence.counts, SequenceCounts { resyncs: 1, ..SequenceCounts::default() });
    }

    proptest! {
        /// Any order within the window, any start: nothing is lost, and what is left out is.
        #[test]
        fn what_never_came_is_lost(
            start: u32,
            sizes in prop::collection::vec(1_u32..40, 2..60),
            dropped in prop::collection::vec(any::<bool>(), 60),
            swaps in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut first = start;
            let mut sent: Vec<(u32, u32)> = Vec::new();
            for &size in &sizes {
                sent.push((first, size));
                first = first.wrapping_add(size);
            }
            let last = sent.len() - 1;
            let keep = |i: usize| i == 0 || i == last || !dropped[i];
            let lost: u32 = (0..sent.len()).filter(|&i| !keep(i)).map(|i| sent[i].1).sum();
            let mut came: Vec<_> = (0..sent.len()).filter(|&i| keep(i)).map(|i| sent[i]).collect();
            for at in (1..came.len().saturating_sub(2)).step_by(2) {
                if swaps[at] {
                    came.swap(at, at + 1);
                }
            }
            let mut sequence = Sequence::default();
            for (first, units) in came {
                sequence.arrive(first, None, 64);
                sequence.units(first, Some(units), 64);
            }
            prop_assert_eq!(sequence.counts.lost, u64::from(lost));
            prop_assert_eq!((sequence.counts.duplicates, sequence.counts.restarts), (0, 0));
        }

        #[test]
        fn any_numbers_never_panic(steps in prop::collection::vec((any::<u32>(), prop::option::of(0_u32..9), any::<u32>()), 0..50)) {
            let mut sequence = Sequence::default();
            for (first, units, uptime) in steps {
                let before = sequence.counts;
                sequence.arrive(first, Some(uptime), 3);
                sequence.units(first, units, 3);
                let after = sequence.counts;
                prop_assert!(after.recovered >= before.recovered);
                prop_assert!(after.lost + after.recovered >= before.lost + before.recovered);
            }
        }
    }
}
