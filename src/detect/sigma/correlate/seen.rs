//! `temporal` and `temporal_ordered`: which rules were seen in the window, and in which order. Both
//! are exact and take 8 or 16 octets a rule.

use super::groups::allocated;
use super::plan::Plan;
use super::state::{Item, Measure, State};
use crate::time::Micros;

const NEVER: Micros = Micros::MIN;

fn octets(times: &[Micros]) -> usize {
    allocated(size_of_val(times))
}

fn seen(times: &[Micros]) -> Measure {
    Measure::Seen(times.iter().map(|&time| (time != NEVER).then_some(time)).collect())
}

/// When each rule was seen last: that tells which are in the window.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last: Box<[Micros]>,
    mask: u64,
}

impl State for Seen {
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool {
        let mut was_false = false;
        let oldest = |last: &[Micros]| last.iter().copied().filter(|&time| time != NEVER).min();
        while let Some(time) = oldest(&self.last).filter(|&time| time <= edge) {
            for (at, last) in self.last.iter_mut().enumerate().filter(|(_, last)| **last == time) {
                *last = NEVER;
                self.mask &= !(1 << at);
            }
            was_false |= !self.holds(plan);
        }
        was_false || !self.holds(plan)
    }

    fn add(&mut self, time: Micros, item: &Item, plan: &Plan) -> bool {
        if self.last.is_empty() {
            self.last = vec![NEVER; plan.rules].into();
        }
        self.last[item.base as usize] = time;
        self.mask |= 1 << item.base;
        true
    }

    fn holds(&self, plan: &Plan) -> bool {
        self.mask != 0 && plan.logic.holds(self.mask)
    }

    fn is_empty(&self) -> bool {
        self.mask == 0
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn first(&self) -> Option<Micros> {
        self.last.iter().copied().filter(|&time| time != NEVER).min()
    }

    fn measure(&self, _: &Plan) -> Measure {
        seen(&self.last)
    }

    fn heap(&self) -> usize {
        octets(&self.last)
    }
}

/// For each rule, when it was seen last, and the latest start of a chain that ends with it: the
/// rules before it, each no earlier than the one before.
///
/// A later start never makes a chain worse, so the latest is all that has to be known. Matches of
/// one instant count as in order, whichever comes first.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// Last times, then starts.
    times: Box<[Micros]>,
}

impl Ordered {
    fn halves(&self) -> (&[Micros], &[Micros]) {
        self.times.split_at(self.times.len() / 2)
    }
}

impl State for Ordered {
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool {
        let (last, starts) = self.times.split_at_mut(plan.rules.min(self.times.len()));
        for time in last.iter_mut().chain(starts).filter(|time| **time <= edge) {
            *time = NEVER;
        }
        !self.holds(plan)
    }

    fn add(&mut self, time: Micros, item: &Item, plan: &Plan) -> bool {
        if self.times.is_empty() {
            self.times = vec![NEVER; 2 * plan.rules].into();
        }
        let (last, starts) = self.times.split_at_mut(plan.rules);
        let base = item.base as usize;
        last[base] = time;
        starts[base] = if base == 0 { time } else { starts[base - 1] };
        for next in base + 1..last.len() {
            if last[next] != time {
                break;
            }
            starts[next] = starts[next - 1];
        }
        true
    }

    fn holds(&self, _: &Plan) -> bool {
        self.times.last().is_some_and(|&start| start != NEVER)
    }

    fn is_empty(&self) -> bool {
        self.halves().0.iter().all(|&time| time == NEVER)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn first(&self) -> Option<Micros> {
        self.times.last().copied().filter(|&start| start != NEVER)
    }

    fn measure(&self, _: &Plan) -> Measure {
        seen(self.halves().0)
    }

    fn heap(&self) -> usize {
        octets(&self.times)
    }
}
