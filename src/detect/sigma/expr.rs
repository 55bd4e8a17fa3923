//! A rule's condition as a tree without negation: negation stands at the predicates.

use std::sync::Arc;

use super::fields::{FieldSet, Record};
use super::predicate::{Class, Predicate};

/// A condition in negation normal form.
#[derive(Clone, Debug)]
pub enum Expr {
    /// Always, or never.
    Const(bool),
    /// An item on a field that flows never have: false. `negated`: under an odd number of `not`.
    Unknown {
        /// The field's name in the rule.
        name: String,
        /// Whether its opposite is meant.
        negated: bool,
    },
    /// A predicate; copies of a condition share it.
    Leaf(Arc<Predicate>),
    /// All hold.
    And(Vec<Self>),
    /// Any holds.
    Or(Vec<Self>),
}

impl Expr {
    /// A predicate.
    #[must_use]
    pub fn leaf(predicate: Predicate) -> Self {
        Self::Leaf(Arc::new(predicate))
    }

    /// The exact opposite.
    #[must_use]
    pub fn negate(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(!value),
            Self::Unknown { name, negated } => Self::Unknown { name, negated: !negated },
            Self::Leaf(mut predicate) => {
                Arc::make_mut(&mut predicate).negate();
                Self::Leaf(predicate)
            }
            Self::And(parts) => Self::Or(parts.into_iter().map(Self::negate).collect()),
            Self::Or(parts) => Self::And(parts.into_iter().map(Self::negate).collect()),
        }
    }

    /// The fields that flows never have, with whether they stand under `not`.
    pub fn unknown<'a>(&'a self, found: &mut Vec<(&'a str, bool)>) {
        match self {
            Self::Unknown { name, negated } => found.push((name, *negated)),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.unknown(found)),
            Self::Const(_) | Self::Leaf(_) => {}
        }
    }

    /// The same condition without constants below the root, and without nesting of like in like.
    /// `absent`: fields that a flow may lack besides those that are nullable by nature.
    #[must_use]
    pub fn fold(self, absent: FieldSet) -> Self {
        match self {
            Self::Const(_) => self,
            Self::Unknown { negated, .. } => Self::Const(negated),
            Self::Leaf(predicate) => match predicate.constant(absent) {
                Some(value) => Self::Const(value),
                None => Self::Leaf(predicate),
            },
            Self::And(parts) => join(parts, absent, true),
            Self::Or(parts) => join(parts, absent, false),
        }
    }

    /// Whether the record satisfies it.
    #[must_use]
    pub fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Unknown { negated, .. } => *negated,
            Self::Leaf(predicate) => predicate.holds(record),
            Self::And(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(record)),
        }
    }

    /// Whether it could still hold once every growing counter has grown enough.
    #[must_use]
    pub fn may_hold(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Unknown { negated, .. } => *negated,
            Self::Leaf(p) => p.class() == Class::Monotone || p.holds(record),
            Self::And(parts) => parts.iter().all(|part| part.may_hold(record)),
            Self::Or(parts) => parts.iter().any(|part| part.may_hold(record)),
        }
    }

    /// When its answer is final: the latest of its predicates.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Const(_) | Self::Unknown { .. } => Class::Immutable,
            Self::Leaf(predicate) => predicate.class(),
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().map(Self::class).max().unwrap_or(Class::Immutable)
            }
        }
    }

    /// Calls `f` with each predicate.
    pub fn leaves<'a>(&'a self, f: &mut impl FnMut(&'a Predicate)) {
        match self {
            Self::Leaf(predicate) => f(predicate),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.leaves(f)),
            Self::Const(_) | Self::Unknown { .. } => {}
        }
    }

    /// Of a condition that holds: the predicates that made it so, in the order of the rule.
    pub fn reasons<'a>(&'a self, record: &Record<'_>, found: &mut Vec<&'a Predicate>) {
        match self {
            Self::Leaf(predicate) => found.push(predicate),
            Self::And(parts) => parts.iter().for_each(|part| part.reasons(record, found)),
            Self::Or(parts) => {
                let held = parts.iter().filter(|part| part.holds(record));
                held.for_each(|part| part.reasons(record, found));
            }
            Self::Const(_) | Self::Unknown { .. } => {}
        }
    }
}

/// Joins folded parts by `and` (or by `or`): the neutral constant drops out, the other decides.
fn join(parts: Vec<Expr>, absent: FieldSet, and: bool) -> Expr {
    let mut kept = Vec::with_capacity(parts.len());
    for part in parts {
        match part.fold(absent) {
            Expr::Const(value) if value == and => {}
            Expr::Const(value) => return Expr::Const(value),
            Expr::And(inner) if and => kept.extend(inner),
            Expr::Or(inner) if !and => kept.extend(inner),
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Expr::Const(and),
        1 => kept.pop().expect("one is left"),
        _ if and => Expr::And(kept),
        _ => Expr::Or(kept),
    }
}
