//! Sums, averages, percentiles, and counts beyond [`EXACT_MAX`]: what the matches of a window weigh
//! together.
//!
//! Matches are kept one by one up to [`EXACT_MAX`]. Beyond, those that fall into the same 1,024th
//! part of the timespan are merged, so that half of the room is free again: from then on what is
//! too old leaves a merged part at a time, and the window may reach back by such a part too far.

use std::fmt::Debug;

use super::groups::allocated;
use super::plan::{Kind, Plan, Window};
use super::ring::Ring;
use super::state::{EXACT_MAX, Error, Item, Measure, State};
use crate::time::Micros;

/// What a match adds to the total of its window.
pub(super) trait Weight: Copy + Debug + Default + Send {
    fn of(item: &Item, plan: &Plan) -> Self;
    fn add(&mut self, other: &Self);
    fn subtract(&mut self, other: &Self);
    /// Matches in it.
    fn count(&self) -> u64;
    /// Whether a total of this satisfies the condition.
    fn holds(&self, plan: &Plan) -> bool;
    /// Whether totals come to satisfy the condition by growing, and by nothing else.
    fn only_grows(_: &Plan) -> bool {
        false
    }
    /// Whether this total does not need `oldest`, as more would change nothing.
    fn can_spare(&self, _oldest: &Self, _plan: &Plan) -> bool {
        false
    }
    /// What the matches of a window weigh.
    fn measure(parts: &Parts<Self>, plan: &Plan) -> Measure;
}

/// The matches of a group's window.
#[derive(Debug, Default)]
pub(super) struct Parts<W> {
    ring: Ring<Part<W>>,
    total: W,
}

/// Matches that are kept together, and when the last of them came.
#[derive(Clone, Copy, Debug, Default)]
struct Part<W> {
    time: Micros,
    weight: W,
}

impl<W: Weight> Parts<W> {
    fn pop(&mut self) {
        if let Some(part) = self.ring.pop() {
            self.total.subtract(&part.weight);
        }
    }

    fn merge(&mut self, plan: &Plan) {
        let width = (plan.timespan / (EXACT_MAX as i64 / 2)).max(1);
        let mut merged: Vec<Part<W>> = Vec::with_capacity(EXACT_MAX);
        for part in self.ring.iter() {
            match merged.last_mut() {
                Some(last) if last.time.0.div_euclid(width) == part.time.0.div_euclid(width) => {
                    last.time = part.time;
                    last.weight.add(&part.weight);
                }
                _ => merged.push(part),
            }
        }
        self.ring.refill(&merged);
    }

    /// The oldest part, if it may hold matches from before the window.
    fn blurred(&self, plan: &Plan) -> Option<W> {
        let front = self.ring.front()?;
        (plan.window == Window::Sliding && front.weight.count() > 1).then_some(front.weight)
    }
}

impl<W: Weight> State for Parts<W> {
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool {
        let only_grows = W::only_grows(plan);
        let mut was_false = false;
        while let Some(part) = self.ring.front().filter(|part| part.time <= edge) {
            self.pop();
            let more = self.ring.front().is_some_and(|next| next.time == part.time);
            was_false |= !more && !only_grows && !self.holds(plan);
        }
        was_false || !self.holds(plan)
    }

    fn add(&mut self, time: Micros, item: &Item, plan: &Plan) -> bool {
        if self.ring.len() == EXACT_MAX {
            self.merge(plan);
        }
        let weight = W::of(item, plan);
        self.ring.push(Part { time, weight });
        self.total.add(&weight);
        while let Some(front) = self.ring.front()
            && self.ring.len() > 1
            && self.total.can_spare(&front.weight, plan)
        {
            self.pop();
        }
        true
    }

    fn holds(&self, plan: &Plan) -> bool {
        !self.ring.is_empty() && self.total.holds(plan)
    }

    fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn first(&self) -> Option<Micros> {
        Some(self.ring.front()?.time)
    }

    fn measure(&self, plan: &Plan) -> Measure {
        W::measure(self, plan)
    }

    fn heap(&self) -> usize {
        allocated(self.ring.octets())
    }
}

/// A number of values and their sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    count: u64,
    sum: u128,
}

impl Weight for Sum {
    fn of(item: &Item, plan: &Plan) -> Self {
        let sum = if plan.kind == Kind::EventCount { 1 } else { item.value };
        Self { count: 1, sum }
    }

    // A counter is below 2^96, so 2^32 of them fit.
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
    }

    fn subtract(&mut self, other: &Self) {
        self.count -= other.count;
        self.sum -= other.sum;
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn holds(&self, plan: &Plan) -> bool {
        match plan.kind {
            Kind::Average => plan.average.holds(self.sum, self.count),
            _ => plan.range.holds(self.sum),
        }
    }

    fn only_grows(plan: &Plan) -> bool {
        plan.kind != Kind::Average && plan.range.only_grows()
    }

    fn can_spare(&self, oldest: &Self, plan: &Plan) -> bool {
        plan.kind != Kind::Average && self.sum - oldest.sum >= plan.range.enough()
    }

    fn measure(parts: &Parts<Self>, plan: &Plan) -> Measure {
        let Self { count, sum } = parts.total;
        let error = match (parts.blurred(plan), plan.kind) {
            (None, _) => Error::None,
            (Some(oldest), Kind::Average) => Error::Over((oldest.count - 1).into()),
            (Some(oldest), Kind::EventCount) => Error::Over(oldest.sum - 1),
            (Some(oldest), _) => Error::Over(oldest.sum),
        };
        match plan.kind {
            Kind::EventCount => Measure::Count { number: sum, error },
            _ => Measure::Sum { sum, count, error },
        }
    }
}

/// How many values lie below the bounds of the condition: all that decides whether the value of
/// some rank satisfies it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ranks {
    count: u64,
    below_min: u64,
    up_to_max: u64,
    below_except: u64,
    up_to_except: u64,
    /// The value, of a single match.
    value: [u64; 2],
}

impl Ranks {
    /// The nearest rank, from 1: the least that at least so many of 100 do not exceed.
    fn rank(count: u64, percent: u8) -> u64 {
        (count * u64::from(percent)).div_ceil(100).max(1)
    }

    const fn value(&self) -> u128 {
        (self.value[1] as u128) << 64 | self.value[0] as u128
    }

    fn each(&mut self, other: &Self, with: impl Fn(&mut u64, u64)) {
        with(&mut self.count, other.count);
        with(&mut self.below_min, other.below_min);
        with(&mut self.up_to_max, other.up_to_max);
        with(&mut self.below_except, other.below_except);
        with(&mut self.up_to_except, other.up_to_except);
    }
}

impl Weight for Ranks {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn of(item: &Item, plan: &Plan) -> Self {
        let (value, range) = (item.value, &plan.range);
        Self {
            count: 1,
            below_min: (value < range.min).into(),
            up_to_max: range.max.is_none_or(|max| value <= max).into(),
            below_except: range.except.is_some_and(|except| value < except).into(),
            up_to_except: range.except.is_some_and(|except| value <= except).into(),
            value: [value as u64, (value >> 64) as u64],
        }
    }

    fn add(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine += theirs);
    }

    fn subtract(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine -= theirs);
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn holds(&self, plan: &Plan) -> bool {
        let Kind::Percentile(percent) = plan.kind else { return false };
        let rank = Self::rank(self.count, percent);
        let reached = |values: u64| values >= rank;
        !reached(self.below_min)
            && reached(self.up_to_max)
            && (reached(self.below_except) || !reached(self.up_to_except))
    }

    fn measure(parts: &Parts<Self>, plan: &Plan) -> Measure {
        let count = parts.total.count();
        let error = parts.blurred(plan).map_or(Error::None, |w| Error::Over((w.count - 1).into()));
        let Kind::Percentile(percent) = plan.kind else {
            return Measure::Percentile { value: None, count, error };
        };
        let single = parts.ring.iter().all(|part| part.weight.count == 1);
        let value = single.then(|| {
            let mut values: Vec<u128> = parts.ring.iter().map(|p| p.weight.value()).collect();
            let rank = usize::try_from(Self::rank(count, percent)).expect("at most EXACT_MAX");
            *values.select_nth_unstable(rank - 1).1
        });
        Measure::Percentile { value, count, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_day_has_more_matches_than_32_bits_count() {
        let many = u64::from(u32::MAX);
        let all = Ranks { count: many, up_to_max: many, ..Ranks::default() };
        let mut total = all;
        total.add(&all);
        assert_eq!((total.count(), total.up_to_max), (2 * many, 2 * many));
        total.subtract(&all);
        assert_eq!(total.count(), many);
    }
}
