//! Sets of integers as sorted, disjoint intervals: the normal form of a predicate.

use std::sync::Arc;

/// A set over `0..=max` of some field's domain: sorted, disjoint, never adjacent intervals, both
/// ends included. A clone shares the intervals: a feed of a million costs nothing to file twice.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct IntervalSet(
    /// `None` of the empty set, and only of it.
    Option<Arc<[(u128, u128)]>>,
);

impl IntervalSet {
    /// The set that holds nothing.
    pub const EMPTY: Self = Self(None);

    /// `first..=last`; empty if `first` is above `last`.
    #[must_use]
    pub fn range(first: u128, last: u128) -> Self {
        if first > last { Self::EMPTY } else { Self(Some(Arc::new([(first, last)]))) }
    }

    /// Exactly `value`.
    #[must_use]
    pub fn one(value: u128) -> Self {
        Self::range(value, value)
    }

    /// The values in any of `ranges`, both ends included, in any order. O(n log n), and O(n) if
    /// they are sorted.
    #[must_use]
    pub fn of(ranges: Vec<(u128, u128)>) -> Self {
        normal(ranges)
    }

    /// The values of `0..=max` for which `holds` is true. O(max): for small domains.
    pub fn where_true(max: u128, mut holds: impl FnMut(u128) -> bool) -> Self {
        normal((0..=max).filter(|&v| holds(v)).map(|v| (v, v)).collect())
    }

    /// The intervals, ascending.
    #[must_use]
    pub fn intervals(&self) -> &[(u128, u128)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether all of `0..=max` is in it.
    #[must_use]
    pub fn is_full(&self, max: u128) -> bool {
        self.up_from(max) == Some(0)
    }

    /// The least element, if the set is `lowest..=max`: true of a growing value from then on.
    #[must_use]
    pub fn up_from(&self, max: u128) -> Option<u128> {
        match *self.intervals() {
            [(lowest, last)] if last >= max => Some(lowest),
            _ => None,
        }
    }

    /// Whether `value` is in it. O(log n).
    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        let intervals = self.intervals();
        if let [(first, last)] = *intervals {
            return first <= value && value <= last;
        }
        let at = intervals.partition_point(|&(_, last)| last < value);
        intervals.get(at).is_some_and(|&(first, _)| first <= value)
    }

    /// What is in any of them. O(n log n) in the number of intervals.
    #[must_use]
    pub fn union_of(sets: impl IntoIterator<Item = Self>) -> Self {
        let mut sets = sets.into_iter();
        let Some(first) = sets.next() else { return Self::EMPTY };
        let Some(second) = sets.next() else { return first };
        let mut all = Vec::with_capacity(sets.size_hint().0 + 2);
        for set in [first, second].into_iter().chain(sets) {
            all.extend_from_slice(set.intervals());
        }
        normal(all)
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        Self::union_of([self, other.clone()])
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (ours, theirs) = (self.intervals(), other.intervals());
        let (mut i, mut j) = (0, 0);
        let mut both = Vec::new();
        while let (Some(&a), Some(&b)) = (ours.get(i), theirs.get(j)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        shared(&both)
    }

    /// What of `0..=max` is not in it.
    #[must_use]
    pub fn complement(&self, max: u128) -> Self {
        let mut rest = Vec::with_capacity(self.intervals().len() + 1);
        let mut from = 0;
        for &(first, last) in self.intervals() {
            if first > from {
                rest.push((from, first - 1));
            }
            if last >= max {
                return shared(&rest);
            }
            from = last + 1;
        }
        rest.push((from, max));
        shared(&rest)
    }
}

/// Intervals that are sorted, disjoint and not adjacent, as a set.
fn shared(intervals: &[(u128, u128)]) -> IntervalSet {
    IntervalSet((!intervals.is_empty()).then(|| intervals.into()))
}

fn normal(mut ranges: Vec<(u128, u128)>) -> IntervalSet {
    ranges.retain(|(first, last)| first <= last);
    if !ranges.is_sorted() {
        ranges.sort_unstable();
    }
    // Merged in place: `kept` intervals are final but for the end of the last.
    let mut kept = 0;
    for i in 0..ranges.len() {
        let (first, last) = ranges[i];
        if kept > 0 && first <= ranges[kept - 1].1.saturating_add(1) {
            ranges[kept - 1].1 = ranges[kept - 1].1.max(last);
        } else {
            ranges[kept] = (first, last);
            kept += 1;
        }
    }
    shared(&ranges[..kept])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u128 = 40;

    fn set() -> impl Strategy<Value = IntervalSet> {
        proptest::collection::vec((0..=MAX, 0..=MAX), 0..6).prop_map(|pairs| {
            let ranges = pairs.into_iter().map(|(a, b)| IntervalSet::range(a.min(b), a.max(b)));
            ranges.fold(IntervalSet::EMPTY, |all, range| all.union(&range))
        })
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(a in set(), b in set(), v in 0..=MAX) {
            let (in_a, in_b) = (a.contains(v), b.contains(v));
            prop_assert_eq!(in_a, a.intervals().iter().any(|&(f, l)| f <= v && v <= l));
            prop_assert_eq!(a.clone().union(&b).contains(v), in_a || in_b);
            prop_assert_eq!(a.intersection(&b).contains(v), in_a && in_b);
            prop_assert_eq!(a.complement(MAX).contains(v), !in_a);
            prop_assert_eq!(a.complement(MAX).complement(MAX), a.clone());
                prop_assert_eq!(IntervalSet::where_true(MAX, |v| a.contains(v)), a.clone());
            let backwards = a.intervals().iter().rev().chain(a.intervals()).copied();
            prop_assert_eq!(IntervalSet::of(backwards.collect()), a);
        }
    }

    #[test]
    fn the_ends_of_the_domain_hold() {
        let top = IntervalSet::range(5, u128::MAX);
        assert_eq!(top.up_from(u128::MAX), Some(5));
        assert_eq!(top.complement(u128::MAX), IntervalSet::range(0, 4));
        assert!(IntervalSet::EMPTY.complement(u128::MAX).is_full(u128::MAX));
        assert_eq!(top.union(&IntervalSet::range(0, 4)).intervals(), &[(0, u128::MAX)]);
    }
}
