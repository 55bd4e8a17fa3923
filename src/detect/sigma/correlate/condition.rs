//! What a correlation's condition asks of a number: the operators, all of which must hold, on the
//! integers that fields have. Nothing passes through a float.

use std::cmp::Ordering;
use std::fmt;

use rsigma_parser::ConditionOperator;

use crate::detect::sigma::number::Unit;

/// An operator and its number, in the unit of the field's name.
pub(super) type Predicate = (ConditionOperator, u64);

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
    pub fn of(predicates: &[Predicate], unit: Unit) -> Option<Self> {
        let mut range = Self::at_least(0);
        let lower = |max: Option<u128>, to: u128| Some(max.map_or(to, |max| max.min(to)));
        for &(operator, number) in predicates {
            let over = u128::from(number) * u128::from(unit.div);
            let under = u128::from(unit.mul);
            let (floor, exact) = (over / under, over.is_multiple_of(under));
            match operator {
                ConditionOperator::Gte => range.min = range.min.max(over.div_ceil(under)),
                ConditionOperator::Gt => range.min = range.min.max(floor + 1),
                ConditionOperator::Lte => range.max = lower(range.max, floor),
                ConditionOperator::Lt if !exact => range.max = lower(range.max, floor),
                ConditionOperator::Lt => range.max = lower(range.max, floor.checked_sub(1)?),
                ConditionOperator::Eq if exact => {
                    range.min = range.min.max(floor);
                    range.max = lower(range.max, floor);
                }
                ConditionOperator::Eq => return None,
                ConditionOperator::Neq if exact => range.except = Some(floor),
                ConditionOperator::Neq => {}
            }
        }
        let empty = range.max.is_some_and(|max| {
            max < range.min || max == range.min && range.except == Some(range.min)
        });
        (!empty).then_some(range)
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

/// A condition on an average: compared by multiplying, so that no fraction is rounded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Average {
    /// Operators with their numbers times the unit's divisor.
    predicates: Vec<(ConditionOperator, u128)>,
    mul: u128,
}

impl Average {
    pub fn of(predicates: &[Predicate], unit: Unit) -> Self {
        let scaled = |&(op, n): &Predicate| (op, u128::from(n) * u128::from(unit.div));
        Self { predicates: predicates.iter().map(scaled).collect(), mul: unit.mul.into() }
    }

    /// Whether `sum / count` satisfies it; never of nothing.
    pub fn holds(&self, sum: u128, count: u64) -> bool {
        let sum = sum.saturating_mul(self.mul);
        let accepts = |&(operator, number): &(ConditionOperator, u128)| {
            accepts(operator, sum.cmp(&number.saturating_mul(count.into())))
        };
        count > 0 && self.predicates.iter().all(accepts)
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
pub(super) struct Words(pub Vec<Predicate>);

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

    #[track_caller]
    fn check(
        predicates: &[Predicate],
        unit: Unit,
        want: Option<(u128, Option<u128>, Option<u128>)>,
    ) {
        let range = Range::of(predicates, unit).map(|r| (r.min, r.max, r.except));
        assert_eq!(range, want, "{}", Words(predicates.to_vec()));
    }

    #[test]
    fn operators_become_a_range() {
        check(&[(Gte, 5)], Unit::ONE, Some((5, None, None)));
        check(&[(Gt, 5)], Unit::ONE, Some((6, None, None)));
        check(&[(Gt, 2), (Lte, 5)], Unit::ONE, Some((3, Some(5), None)));
        check(&[(Lt, 5), (Neq, 2)], Unit::ONE, Some((0, Some(4), Some(2))));
        check(&[(Eq, 5)], Unit::ONE, Some((5, Some(5), None)));
        check(&[(Gt, 5), (Lt, 6)], Unit::ONE, None);
        check(&[(Lt, 0)], Unit::ONE, None);
        check(&[(Eq, 5), (Neq, 5)], Unit::ONE, None);
        // Seconds on a field of microseconds; nanoseconds are finer than the field.
        check(&[(Gt, 2)], Unit::SECONDS, Some((2_000_001, None, None)));
        check(&[(Gte, 1_500)], Unit::NANOSECONDS, Some((2, None, None)));
        check(&[(Lt, 1_500)], Unit::NANOSECONDS, Some((0, Some(1), None)));
        check(&[(Eq, 1_500)], Unit::NANOSECONDS, None);
        check(&[(Neq, 1_500)], Unit::NANOSECONDS, Some((0, None, None)));
    }

    proptest! {
        #[test]
        fn a_range_says_what_its_operators_say(
            predicates in prop::collection::vec((0..6_usize, 0..12_u64), 1..4), value in 0..15_u64,
        ) {
            let all = [Lt, Lte, Gt, Gte, Eq, Neq];
            // A key stands once in a condition.
            let mut predicates: Vec<Predicate> =
                predicates.into_iter().map(|(at, n)| (all[at], n)).collect();
            predicates.sort_by_key(|(operator, _)| *operator as u8);
            predicates.dedup_by_key(|(operator, _)| *operator as u8);
            let plain = predicates.iter().all(|&(op, n)| accepts(op, value.cmp(&n)));
            let range = Range::of(&predicates, Unit::ONE);
            prop_assert_eq!(range.is_some_and(|r| r.holds(value.into())), plain);
            prop_assert_eq!(Average::of(&predicates, Unit::ONE).holds(u128::from(value) * 7, 7), plain);
            if let Some(range) = range {
                let enough = range.enough();
                prop_assert_eq!(range.holds(enough), range.holds(enough + 1000));
                prop_assert!(!range.only_grows() || range.holds(enough));
            }
        }
    }
}
