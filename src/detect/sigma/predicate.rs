//! One predicate on one field, in the form that is evaluated.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::fields::{Change, Counter, Field, FieldSet, Kind, Record, words};
use super::interval::IntervalSet;
use super::names::TCP_FLAGS;
use super::number::Unit;
use super::text::{Matcher, TextBuf, same_text};
use crate::net::Addr;

/// A part of an instant, in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are Sigma's")]
pub enum TimePart {
    Minute,
    Hour,
    Day,
    /// Of ISO 8601.
    Week,
    Month,
    Year,
}

/// How `fieldref` compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are Sigma's")]
pub enum Reference {
    Equal,
    Contains,
    StartsWith,
    EndsWith,
}

/// What is asked of the field. Every form answers for a field that the flow lacks, too (`null`),
/// so that each has an exact opposite.
#[derive(Clone, Debug)]
pub enum Test {
    /// The integer is in the set: the normal form of everything that is not text.
    In {
        /// Over the field's domain.
        set: IntervalSet,
        /// The answer where the flow lacks the field.
        null: bool,
    },
    /// The text (of an integer or address: its textual form) matches any, or all, of these.
    Text {
        /// What it is matched against.
        matchers: Vec<Matcher>,
        /// All must match, else any.
        all: bool,
        /// The answer is turned around.
        negated: bool,
        /// The answer where the flow lacks the field.
        null: bool,
    },
    /// Any of these TCP flags is set.
    Flags {
        /// Bits of IE 6.
        mask: u16,
        /// The answer is turned around.
        negated: bool,
        /// The answer where the flow lacks the field.
        null: bool,
    },
    /// A part of the instant is in the set.
    Part {
        /// Which.
        part: TimePart,
        /// The values.
        set: IntervalSet,
        /// The answer is turned around.
        negated: bool,
        /// The answer where the flow lacks the field.
        null: bool,
    },
    /// The field compared with another field of the flow.
    Reference {
        /// The other.
        other: Field,
        /// The unit of the other's numbers.
        unit: Unit,
        /// How.
        how: Reference,
        /// The answer is turned around.
        negated: bool,
        /// The answer where the flow lacks either.
        null: bool,
    },
}

/// A predicate on a field, and how a person reads it.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// The field.
    pub field: Field,
    /// The unit of the rule's numbers.
    pub unit: Unit,
    /// What is asked.
    pub test: Test,
    /// The field as the rule names it.
    pub name: String,
    /// The rule's words, for example `is one of 23, 2323`.
    pub words: String,
    /// Whether it stands for the opposite of the rule's words.
    pub negated: bool,
}

/// When the answer of a predicate, or of a rule, is final (DESIGN 3.7).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// At the first record.
    Immutable,
    /// Once true it stays true; it becomes true when a counter passes a threshold or a flag is set.
    Monotone,
    /// At the flow's end.
    Final,
}

impl Predicate {
    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, record: &Record<'_>) -> bool {
        match &self.test {
            Test::In { set, null } => match record.integer(self.field) {
                Some(value) => set.contains(value),
                None => *null,
            },
            Test::Text { matchers, all, negated, null } => {
                let any_or_all = |text: &str| {
                    if *all {
                        matchers.iter().all(|m| m.matches(text))
                    } else {
                        matchers.iter().any(|m| m.matches(text))
                    }
                };
                with_text(record, self.field, self.unit, any_or_all)
                    .map_or(*null, |matched| matched != *negated)
            }
            Test::Flags { mask, negated, null } => match record.integer(self.field) {
                Some(bits) => (bits & u128::from(*mask) != 0) != *negated,
                None => *null,
            },
            Test::Part { part, set, negated, null } => match record.integer(self.field) {
                Some(micros) => set.contains(part.of(micros)) != *negated,
                None => *null,
            },
            Test::Reference { other, unit, how, negated, null } => {
                if !record.has(self.field) || !record.has(*other) {
                    return *null;
                }
                let same = compare(record, (self.field, self.unit), (*other, *unit), *how);
                same != *negated
            }
        }
    }

    /// Turns it into its exact opposite.
    pub fn negate(&mut self) {
        self.negated = !self.negated;
        match &mut self.test {
            Test::In { set, null } => {
                *set = set.complement(self.field.max());
                *null = !*null;
            }
            Test::Text { negated, null, .. }
            | Test::Flags { negated, null, .. }
            | Test::Part { negated, null, .. }
            | Test::Reference { negated, null, .. } => {
                *negated = !*negated;
                *null = !*null;
            }
        }
    }

    /// `Some` if the answer is the same for every flow. `absent` are the fields that a flow is
    /// taken to lack possibly, besides those that are nullable by nature.
    #[must_use]
    pub fn constant(&self, absent: FieldSet) -> Option<bool> {
        let may_be_null = self.field.nullable() || absent.contains(self.field);
        let (set, null) = match &self.test {
            Test::In { set, null } => (set, null),
            Test::Part { set, negated, null, .. } if set.is_empty() => {
                return (*null == *negated || !may_be_null).then_some(*negated);
            }
            _ => return None,
        };
        let has_values = self.field.kind() != Kind::Text;
        if has_values && set.is_full(self.field.max()) && (*null || !may_be_null) {
            return Some(true);
        }
        (set.is_empty() && !(*null && may_be_null)).then_some(false)
    }

    /// Of a predicate that is false of every flow: why, in words.
    #[must_use]
    pub(super) fn why_never(&self) -> String {
        let Self { name, words, field, .. } = self;
        match &self.test {
            _ if self.negated => format!("not (`{name}` {words}), but every flow satisfies that"),
            Test::In { null: true, .. } => format!("`{name}` {words}, but every flow has it"),
            Test::Part { part, .. } => format!("`{name}` {words}, but {}", part.domain()),
            _ => format!("`{name}` {words}, but {}", field.domain()),
        }
    }

    /// When its answer is final.
    #[must_use]
    pub fn class(&self) -> Class {
        let grows = match self.field.change() {
            Change::Never => match &self.test {
                Test::Reference { other, .. } if other.change() != Change::Never => false,
                _ => return Class::Immutable,
            },
            Change::Grows(_) => true,
            Change::Any => false,
        };
        let stays_true = match &self.test {
            Test::In { set, null } => {
                set.up_from(self.field.max()).is_some() && !(*null && self.field.nullable())
            }
            Test::Flags { negated, null, .. } => !negated && !null,
            _ => false,
        };
        if grows && stays_true { Class::Monotone } else { Class::Final }
    }

    /// Of a monotone predicate that does not hold yet: the counter to watch, and how far it has to
    /// grow, in raw (unscaled) units: `(counter, missing)`; at least 1.
    #[must_use]
    pub fn missing(&self, record: &Record<'_>) -> Option<(Counter, u64)> {
        match &self.test {
            Test::In { set, .. } => missing(record, self.field, set.up_from(self.field.max())?),
            _ => match self.field.change() {
                Change::Grows(counter) => Some((counter, 1)),
                Change::Never | Change::Any => None,
            },
        }
    }
}

/// The counter that `field` grows with, and how far it has to grow in raw (unscaled) units until
/// the field reaches `threshold`; at least 1. `None` of a field that does not grow.
#[must_use]
pub fn missing(record: &Record<'_>, field: Field, threshold: u128) -> Option<(Counter, u64)> {
    let Change::Grows(counter) = field.change() else { return None };
    let now = record.integer(field).unwrap_or(0);
    let scale = match counter {
        Counter::Duration | Counter::Flags => 1,
        _ => u128::from(record.flow.scale()),
    };
    // Rounded up: the raw counter that first reaches the threshold once scaled. Exact.
    let missing = threshold.div_ceil(scale).saturating_sub(now / scale);
    Some((counter, u64::try_from(missing).unwrap_or(u64::MAX).max(1)))
}

impl TimePart {
    /// Sigma's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The least and the greatest value that it has.
    #[must_use]
    pub const fn bounds(self) -> (u128, u128) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Week => (1, 53),
            Self::Month => (1, 12),
            Self::Year => (1970, 9999),
        }
    }

    /// The same in words.
    #[must_use]
    pub fn domain(self) -> String {
        let (least, most) = self.bounds();
        format!("that is a whole number from {least} to {most}")
    }

    /// The part of an instant in microseconds since 1970.
    #[must_use]
    pub fn of(self, micros: u128) -> u128 {
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        let instant = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
        let time = TimeZone::UTC.to_datetime(instant);
        let part = match self {
            Self::Minute => i16::from(time.minute()),
            Self::Hour => i16::from(time.hour()),
            Self::Day => i16::from(time.day()),
            Self::Week => i16::from(time.date().iso_week_date().week()),
            Self::Month => i16::from(time.month()),
            Self::Year => time.year(),
        };
        u128::try_from(part).unwrap_or(0)
    }
}

/// Calls `f` with the text of the field; of a value with several words, with each until one holds.
fn with_text(
    record: &Record<'_>,
    field: Field,
    unit: Unit,
    f: impl Fn(&str) -> bool,
) -> Option<bool> {
    if let Some(text) = record.text(field) {
        return Some(f(text));
    }
    let value = record.integer(field)?;
    let words = words(field.kind(), value);
    Some(words.iter().any(|word| f(word)) || f(number_text(field, unit, value).as_str()))
}

/// The textual form of an integer: an address, a number in the dialect's unit.
fn number_text(field: Field, unit: Unit, value: u128) -> TextBuf {
    let (mul, div) = (u128::from(unit.mul), u128::from(unit.div));
    match field.kind() {
        Kind::Address => TextBuf::of(Addr(value)),
        _ if (value * mul).is_multiple_of(div) => TextBuf::of(value * mul / div),
        _ => {
            let digits = div.ilog10() as usize;
            let (whole, rest) = (value / div, value % div);
            TextBuf::of(format_args!("{whole}.{rest:0digits$}"))
        }
    }
}

fn compare(record: &Record<'_>, a: (Field, Unit), b: (Field, Unit), how: Reference) -> bool {
    if how == Reference::Equal
        && let (Some(x), Some(y)) = (record.integer(a.0), record.integer(b.0))
        && comparable(a.0.kind(), b.0.kind())
    {
        let times = |x: u128, f: u32, g: u32| x.saturating_mul(u128::from(f) * u128::from(g));
        return times(x, a.1.mul, b.1.div) == times(y, b.1.mul, a.1.div);
    }
    let found = with_text(record, a.0, a.1, |x| {
        with_text(record, b.0, b.1, |y| relate(x, y, how)).unwrap_or(false)
    });
    found.unwrap_or(false)
}

fn comparable(a: Kind, b: Kind) -> bool {
    let number = |kind| matches!(kind, Kind::Integer { .. } | Kind::Time { .. });
    a == b || number(a) && number(b)
}

fn relate(x: &str, y: &str, how: Reference) -> bool {
    let tail = |from: usize| x.get(from..);
    match how {
        Reference::Equal => same_text(x, y),
        Reference::StartsWith => x.get(..y.len()).is_some_and(|head| same_text(head, y)),
        Reference::EndsWith => {
            x.len().checked_sub(y.len()).and_then(tail).is_some_and(|end| same_text(end, y))
        }
        Reference::Contains => x
            .char_indices()
            .map(|(at, _)| at)
            .chain([x.len()])
            .any(|at| x.get(at..at + y.len()).is_some_and(|part| same_text(part, y))),
    }
}

/// A field's value as a person reads it, in the rule's unit; `null` where the flow lacks it.
#[must_use]
pub fn show(record: &Record<'_>, field: Field, unit: Unit) -> String {
    if let Some(text) = record.text(field) {
        return text.to_owned();
    }
    let value = record.integer(field);
    value.map_or_else(|| "null".to_owned(), |value| show_integer(field, unit, value))
}

/// An integer of the field's domain as a person reads it.
pub(super) fn show_integer(field: Field, unit: Unit, value: u128) -> String {
    if field.kind() == Kind::FlagNames {
        let set = TCP_FLAGS.iter().filter(|(_, bit)| value & u128::from(*bit) != 0);
        return set.map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    }
    match words(field.kind(), value).first() {
        Some(word) => (*word).to_owned(),
        None => number_text(field, unit, value).as_str().to_owned(),
    }
}
