//! Sets of integers as sorted, disjoint intervals: the normal form of a predicate.

/// A set over `0..=max` of some field's domain: sorted, disjoint, never adjacent intervals, both
/// ends included.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct IntervalSet(Vec<(u128, u128)>);

impl IntervalSet {
    /// The set that holds nothing.
    pub const EMPTY: Self = Self(Vec::new());

    /// `first..=last`; empty if `first` is above `last`.
    #[must_use]
    pub fn range(first: u128, last: u128) -> Self {
        if first > last { Self::EMPTY } else { Self(vec![(first, last)]) }
    }

    /// Exactly `value`.
    #[must_use]
    pub fn one(value: u128) -> Self {
        Self(vec![(value, value)])
    }

    /// The values of `0..=max` for which `holds` is true. O(max): for small domains.
    pub fn where_true(max: u128, mut holds: impl FnMut(u128) -> bool) -> Self {
        Self((0..=max).filter(|&v| holds(v)).map(|v| (v, v)).collect()).normal()
    }

    /// The intervals, ascending.
    #[must_use]
    pub fn intervals(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `0..=max` is in it.
    #[must_use]
    pub fn is_full(&self, max: u128) -> bool {
        self.up_from(max) == Some(0)
    }

    /// The least element, if the set is `lowest..=max`: true of a growing value from then on.
    #[must_use]
    pub fn up_from(&self, max: u128) -> Option<u128> {
        match *self.0 {
            [(lowest, last)] if last >= max => Some(lowest),
            _ => None,
        }
    }

    /// Whether `value` is in it. O(log n).
    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        if let [(first, last)] = *self.0 {
            return first <= value && value <= last;
        }
        let at = self.0.partition_point(|&(_, last)| last < value);
        self.0.get(at).is_some_and(|&(first, _)| first <= value)
    }

    /// What is in any of them. O(n log n) in the number of intervals.
    #[must_use]
    pub fn union_of(sets: impl IntoIterator<Item = Self>) -> Self {
        Self(sets.into_iter().flat_map(|set| set.0).collect()).normal()
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self.normal()
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut both = Vec::new();
        while let (Some(&a), Some(&b)) = (self.0.get(i), other.0.get(j)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        Self(both)
    }

    /// What of `0..=max` is not in it.
    #[must_use]
    pub fn complement(&self, max: u128) -> Self {
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        let mut from = 0;
        for &(first, last) in &self.0 {
            if first > from {
                rest.push((from, first - 1));
            }
            if last >= max {
                return Self(rest);
            }
            from = last + 1;
        }
        rest.push((from, max));
        Self(rest)
    }

    fn normal(mut self) -> Self {
        self.0.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
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
            prop_assert_eq!(IntervalSet::where_true(MAX, |v| a.contains(v)), a);
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
