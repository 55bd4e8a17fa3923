//! What a correlation reads of a match: the values that it groups by, counts and sums.

use super::Match;
use super::groups::Key;
use super::hash::Sip;
use super::plan::{Base, Origin, Slot};
use crate::detect::sigma::fields::{Kind, Record};
use crate::detect::sigma::predicate::show_integer;

/// A value of a match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    /// The flow lacks it.
    Null,
    /// In the field's integer domain.
    Integer(u128),
    Text(&'a str),
}

/// A match as a correlation meets it: of a rule, or of another correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    /// The match of a rule that it is, or that completed the other correlation.
    pub found: &'a Match,
    pub record: &'a Record<'a>,
    /// The group of the other correlation.
    pub group: Option<&'a [Value<'a>]>,
}

impl<'a> Occasion<'a> {
    fn value(&self, slot: &Slot) -> Value<'a> {
        match slot.origin {
            Origin::Group(at) => self.group.map_or(Value::Null, |group| group[at]),
            Origin::Flow => match (self.record.text(slot.field), self.record.integer(slot.field)) {
                (Some(text), _) => Value::Text(text),
                (None, Some(value)) => Value::Integer(value),
                (None, None) => Value::Null,
            },
        }
    }
}

fn absorb(sip: &mut Sip, value: Value<'_>) {
    match value {
        Value::Null => sip.word(0),
        Value::Integer(value) => {
            sip.word(1);
            sip.wide(value);
        }
        Value::Text(text) => {
            sip.word(2);
            sip.text(text);
        }
    }
}

/// The group that the match belongs to.
pub(super) fn key(base: &Base, occasion: &Occasion<'_>) -> Key {
    let mut sip = Sip::new(0, 0);
    base.group.iter().for_each(|slot| absorb(&mut sip, occasion.value(slot)));
    sip.finish()
}

/// The values of that group. Null is a value like any other.
pub(super) fn group<'a>(base: &Base, occasion: &Occasion<'a>) -> Vec<Value<'a>> {
    base.group.iter().map(|slot| occasion.value(slot)).collect()
}

/// What to count, sum or sort: an integer as it is, a text or several values as their hash; 0 if
/// the correlation uses none. `None` if one is null.
pub(super) fn value(base: &Base, occasion: &Occasion<'_>) -> Option<u128> {
    let [slot] = &base.values[..] else {
        if base.values.is_empty() {
            return Some(0);
        }
        let mut sip = Sip::new(0, 0);
        for slot in &base.values {
            let value = occasion.value(slot);
            (value != Value::Null).then(|| absorb(&mut sip, value))?;
        }
        return Some(wide(sip));
    };
    match occasion.value(slot) {
        Value::Null => None,
        Value::Integer(value) => Some(value),
        Value::Text(text) => {
            let mut sip = Sip::new(0, 0);
            sip.text(text);
            Some(wide(sip))
        }
    }
}

fn wide(sip: Sip) -> u128 {
    let [low, high] = sip.finish();
    u128::from(high) << 64 | u128::from(low)
}

/// A value as a person reads it.
pub(super) fn words(slot: &Slot, value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => text.to_owned(),
        Value::Integer(value) => show_integer(slot.field, slot.unit, value),
    }
}

/// Whether values of two fields can be equal.
pub(super) fn comparable(a: Kind, b: Kind) -> bool {
    let number = |kind| matches!(kind, Kind::Integer { .. });
    a == b || number(a) && number(b)
}
