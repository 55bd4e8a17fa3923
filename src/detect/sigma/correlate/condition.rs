//! What a correlation's condition asks of a number: the operators, all of which must hold, on the
//! integers that fields have. Nothing passes through a float.

use std::cmp::Ordering;
use std::fmt;

use rsigma_parser::ConditionOperator;

use crate::detect::sigma::number::{Place, Unit};
use crate::detect::sigma::terms::Threshold;

/// The integers that satisfy a condition: from `min` to `max`, but not `except`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Range {
    pub min: u128,
    pub max: Option<u128>,
    pub except: Option<u128>,
}

impl Range {
    /// At least `min`.
    pub const fn at_least(min: u128) -> Self {
        Self { min, max: None, except: None }
    }

    /// The integers that all of `predicates` accept; `None` if there is none. The field counts in
    /// `unit`s of the condition's numbers.
    pub fn of(predicates: &[Threshold], unit: Unit) -> Option<Self> {
        let mut range = Self::at_least(0);
        let lower = |max: Option<u128>, to: u128| Some(max.map_or(to, |max| max.min(to)));
        for &(operator, number) in predicates {
            // The last integer up to the number, and whether it is the number.
            let (floor, exact) = match number.place(unit) {
                Place::At(floor) => (floor, true),
                Place::After(floor) => (floor, false),
                Place::Negative => return None,
            };
            match operator {
                ConditionOperator::Gte if exact => range.min = range.min.max(floor),
                ConditionOperator::Gte | ConditionOperator::Gt => {
                    range.min = range.min.max(floor + 1);
                }
                ConditionOperator::Lt if exact => {
                    range.max = lower(range.max, floor.checked_sub(1)?);
                }
                ConditionOperator::Lte | ConditionOperator::Lt => {
                    range.max = lower(range.max, floor);
                }
                ConditionOperator::Eq if exact => {
                    range.min = range.min.max(floor);
                    range.max = lower(range.max, floor);
                }
                ConditionOperator::Eq => return None,
                ConditionOperator::Neq if exact => range.except = Some(floor),
                ConditionOperator::Neq => {}
            }
        }
        (range.share(0, None) != Share::None).then_some(range)
    }

    /// How many of the integers from `least` to `most` satisfy it.
    pub fn share(&self, least: u128, most: Option<u128>) -> Share {
        let (from, to) = (self.min.max(least), upper(self.max, most));
        let is_except = |value| self.except == Some(value);
        if to.is_some_and(|to| to < from || to == from && is_except(from)) {
            return Share::None;
        }
        let within = |value: u128| value >= least && most.is_none_or(|most| value <= most);
        let whole = self.min <= least && to == most && !self.except.is_some_and(within);
        if whole { Share::All } else { Share::Some }
    }

    /// Whether `value` satisfies it.
    pub fn holds(&self, value: u128) -> bool {
        value >= self.min && self.max.is_none_or(|max| value <= max) && self.except != Some(value)
    }

    /// Whether more never hurts, so that only the number after all expiries matters.
    pub const fn only_grows(&self) -> bool {
        self.max.is_none() && self.except.is_none()
    }

    /// From this number on nothing changes any more. At least 1.
    pub fn enough(&self) -> u128 {
        let after = |value: Option<u128>| value.map_or(0, |value| value.saturating_add(1));
        self.min.max(after(self.max)).max(after(self.except)).max(1)
    }
}

/// The lesser of two bounds, as far as they are there.
fn upper(a: Option<u128>, b: Option<u128>) -> Option<u128> {
    a.into_iter().chain(b).min()
}

/// How much of what can be satisfies a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// Nothing: it is never true.
    None,
    /// Some of it.
    Some,
    /// All: it says nothing.
    All,
}

/// A condition on an average: compared by multiplying, so that no fraction is rounded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Average {
    predicates: Vec<(ConditionOperator, Fraction)>,
}

/// `whole + rest / under`, where `rest < under <= 10^18`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fraction {
    whole: u128,
    rest: u64,
    under: u64,
}

impl Fraction {
    const ZERO: Self = Self { whole: 0, rest: 0, under: 1 };

    fn order(self, other: Self) -> Ordering {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let rests = product(self.rest, other.under).cmp(&product(other.rest, self.under));
        self.whole.cmp(&other.whole).then(rests)
    }
}

impl Average {
    pub fn of(predicates: &[Threshold], unit: Unit) -> Self {
        let each = predicates.iter().map(|&(operator, number)| {
            let (whole, rest, under) = number.split(unit);
            (operator, Fraction { whole, rest, under })
        });
        Self { predicates: each.collect() }
    }

    /// Whether `sum / count` satisfies it; never of nothing.
    pub fn holds(&self, sum: u128, count: u64) -> bool {
        if count == 0 {
            return false;
        }
        let (whole, over) = (sum / u128::from(count), sum % u128::from(count));
        let accepted = |&(operator, number): &(ConditionOperator, Fraction)| {
            let rests = (over * u128::from(number.under))
                .cmp(&(u128::from(number.rest) * u128::from(count)));
            accepts(operator, whole.cmp(&number.whole).then(rests))
        };
        self.predicates.iter().all(accepted)
    }

    /// How much of all averages from 0 to `most` satisfies it.
    pub fn share(&self, most: Option<u128>) -> Share {
        use ConditionOperator::{Eq, Gt, Gte, Lt, Lte, Neq};
        let most = most.map(|whole| Fraction { whole, ..Fraction::ZERO });
        // Each bound, and whether it is itself within.
        let (mut low, mut high) = ((Fraction::ZERO, true), most.map(|most| (most, true)));
        let mut whole = true;
        for &(operator, number) in &self.predicates {
            let tighter = |order: Ordering| order.is_gt() || order.is_eq() && operator == Gt;
            if matches!(operator, Gt | Gte | Eq) && tighter(number.order(low.0)) {
                low = (number, operator != Gt);
            }
            let is_less = |(bound, _): (Fraction, bool)| {
                let order = number.order(bound);
                order.is_lt() || order.is_eq() && operator == Lt
            };
            if matches!(operator, Lt | Lte | Eq) && high.is_none_or(is_less) {
                high = Some((number, operator != Lt));
            }
            let over_most = most.is_some_and(|most| number.order(most).is_gt());
            let at_most = most.is_some_and(|most| number.order(most).is_ge());
            whole &= match operator {
                Gte => number == Fraction { under: number.under, ..Fraction::ZERO },
                Lt | Neq => over_most,
                Lte => at_most,
                Gt | Eq => false,
            };
        }
        let excepted = |value: Fraction| {
            self.predicates.iter().any(|&(op, n)| op == Neq && n.order(value).is_eq())
        };
        let empty = high.is_some_and(|(high, closed)| match low.0.order(high) {
            Ordering::Less => false,
            Ordering::Equal => !closed || !low.1 || excepted(high),
            Ordering::Greater => true,
        });
        match (empty, whole) {
            (true, _) => Share::None,
            (false, true) => Share::All,
            (false, false) => Share::Some,
        }
    }
}

const fn accepts(operator: ConditionOperator, order: Ordering) -> bool {
    match operator {
        ConditionOperator::Lt => order.is_lt(),
        ConditionOperator::Lte => order.is_le(),
        ConditionOperator::Gt => order.is_gt(),
        ConditionOperator::Gte => order.is_ge(),
        ConditionOperator::Eq => order.is_eq(),
        ConditionOperator::Neq => order.is_ne(),
    }
}

/// A condition as people write it: `>= 20`, `> 2 and <= 5`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Words(pub Vec<Threshold>);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (operator, number)) in self.0.iter().enumerate() {
            let sign = match operator {
                ConditionOperator::Lt => "<",
                ConditionOperator::Lte => "<=",
                ConditionOperator::Gt => ">",
                ConditionOperator::Gte => ">=",
                ConditionOperator::Eq => "=",
                ConditionOperator::Neq => "!=",
            };
            write!(f, "{}{sign} {number}", if at > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ConditionOperator::{Eq, Gt, Gte, Lt, Lte, Neq};
    use proptest::prelude::*;

    use super::*;
    use crate::detect::sigma::number::Decimal;

    fn thresholds(of: &[(ConditionOperator, &str)]) -> Vec<Threshold> {
        of.iter().map(|&(op, n)| (op, Decimal::parse(n).expect("a number"))).collect()
    }

    #[track_caller]
    fn check(
        predicates: &[(ConditionOperator, &str)],
        unit: Unit,
        want: Option<(u128, Option<u128>, Option<u128>)>,
    ) {
        let predicates = thresholds(predicates);
        let range = Range::of(&predicates, unit).map(|r| (r.min, r.max, r.except));
        assert_eq!(range, want, "{}", Words(predicates));
    }

    #[test]
    fn operators_become_a_range() {
        check(&[(Gte, "5")], Unit::ONE, Some((5, None, None)));
        check(&[(Gt, "5")], Unit::ONE, Some((6, None, None)));
        check(&[(Gt, "2"), (Lte, "5")], Unit::ONE, Some((3, Some(5), None)));
        check(&[(Lt, "5"), (Neq, "2")], Unit::ONE, Some((0, Some(4), Some(2))));
        check(&[(Eq, "5")], Unit::ONE, Some((5, Some(5), None)));
        check(&[(Gt, "5"), (Lt, "6")], Unit::ONE, None);
        check(&[(Lt, "0")], Unit::ONE, None);
        check(&[(Eq, "5"), (Neq, "5")], Unit::ONE, None);
        // Seconds on a field of microseconds; nanoseconds are finer than the field.
        check(&[(Gt, "2")], Unit::SECONDS, Some((2_000_001, None, None)));
        check(&[(Gte, "0.5"), (Lt, "0.75")], Unit::SECONDS, Some((500_000, Some(749_999), None)));
        check(&[(Gte, "1500")], Unit::NANOSECONDS, Some((2, None, None)));
        check(&[(Lt, "1500")], Unit::NANOSECONDS, Some((0, Some(1), None)));
        check(&[(Eq, "1500")], Unit::NANOSECONDS, None);
        check(&[(Neq, "1500")], Unit::NANOSECONDS, Some((0, None, None)));
        // Between two integers there is none.
        check(&[(Gt, "2.5")], Unit::ONE, Some((3, None, None)));
        check(&[(Lte, "2.5")], Unit::ONE, Some((0, Some(2), None)));
        check(&[(Gt, "2.2"), (Lt, "2.9")], Unit::ONE, None);
    }

    #[test]
    fn a_share_says_whether_a_condition_says_anything() {
        use Share::{All, None as Never, Some as Part};
        let most = Some(10);
        for (predicates, range, average) in [
            (&[(Gte, "0")][..], All, All),
            (&[(Gt, "0")], Part, Part),
            (&[(Lt, "0")], Never, Never),
            (&[(Lte, "10")], All, All),
            (&[(Lte, "9")], Part, Part),
            (&[(Lt, "10.5")], All, All),
            (&[(Neq, "11")], All, All),
            (&[(Neq, "0")], Part, Part),
            (&[(Gt, "10")], Never, Never),
            (&[(Gt, "5"), (Lt, "5")], Never, Never),
            (&[(Gte, "5"), (Lte, "5"), (Neq, "5")], Never, Never),
            (&[(Eq, "5"), (Neq, "5")], Never, Never),
            // Between two integers there are averages.
            (&[(Gt, "5"), (Lt, "6")], Never, Part),
            (&[(Eq, "5.5")], Never, Part),
            (&[(Gt, "5.5"), (Lte, "5.5")], Never, Never),
        ] {
            let predicates = thresholds(predicates);
            let words = Words(predicates.clone());
            let found = Range::of(&predicates, Unit::ONE);
            let found = found.map_or(Never, |range| range.share(0, most));
            assert_eq!(found, range, "range of {words}");
            assert_eq!(Average::of(&predicates, Unit::ONE).share(most), average, "average {words}");
        }
        // A group has a match.
        let none = Range::of(&thresholds(&[(Lt, "1")]), Unit::ONE).expect("a range");
        assert_eq!((none.share(0, None), none.share(1, None)), (Part, Never));
    }

    proptest! {
        #[test]
        fn a_range_says_what_its_operators_say(
            predicates in prop::collection::vec((0..6_usize, 0..24_u64), 1..4), value in 0..15_u64,
        ) {
            let all = [Lt, Lte, Gt, Gte, Eq, Neq];
            // A key stands once in a condition; numbers are halves.
            let mut halves: Vec<(ConditionOperator, u64)> =
                predicates.into_iter().map(|(at, n)| (all[at], n)).collect();
            halves.sort_by_key(|(operator, _)| *operator as u8);
            halves.dedup_by_key(|(operator, _)| *operator as u8);
            let text = |n: u64| format!("{}.{}", n / 2, n % 2 * 5);
            let predicates: Vec<Threshold> =
                halves.iter().map(|&(op, n)| (op, Decimal::parse(&text(n)).expect("one"))).collect();
            let plain = |twice: u64| halves.iter().all(|&(op, n)| accepts(op, twice.cmp(&n)));
            let range = Range::of(&predicates, Unit::ONE);
            prop_assert_eq!(range.is_some_and(|r| r.holds(value.into())), plain(2 * value));
            let average = Average::of(&predicates, Unit::ONE);
            prop_assert_eq!(average.holds(u128::from(value) * 7, 14), plain(value));
            // What no integer satisfies is none, what all satisfy is all.
            let integers = (0..=12).filter(|&n| plain(2 * n)).count();
            let share = range.map_or(Share::None, |range| range.share(0, Some(12)));
            prop_assert_eq!(share == Share::None, integers == 0);
            prop_assert_eq!(share == Share::All, integers == 13);
            // Thresholds are halves: quarters see every gap between them.
            let quarters = (0..=48)
                .filter(|&n| halves.iter().all(|&(op, half)| accepts(op, n.cmp(&(2 * half)))));
            let quarters: usize = quarters.count();
            let share = average.share(Some(12));
            prop_assert_eq!(share == Share::None, quarters == 0);
            prop_assert_eq!(share == Share::All, quarters == 49);
            if let Some(range) = range {
                let enough = range.enough();
                prop_assert_eq!(range.holds(enough), range.holds(enough + 1000));
                prop_assert!(!range.only_grows() || range.holds(enough));
            }
        }
    }
}
