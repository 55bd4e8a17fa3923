//! A detection item (`field|modifiers: values`) to a condition.

use rsigma_parser::{DetectionItem, Modifier, SigmaValue};

use super::value::{self, Compare, Op};
use super::{Fault, Options};
use crate::detect::sigma::expr::Expr;
use crate::detect::sigma::fields::{Field, Kind};
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::names;
use crate::detect::sigma::number::Unit;
use crate::detect::sigma::predicate::{Predicate, Reference, Test, TimePart};
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::text::Matcher;

/// An item's field and modifiers, sorted out.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub name: &'a str,
    pub field: Field,
    pub unit: Unit,
    pub op: Op,
    pub all: bool,
    pub neq: bool,
    pub cased: bool,
    pub part: Option<TimePart>,
    pub options: &'a Options,
}

/// Compiles an item; the fault names the item's field.
pub(super) fn compile(from: &DetectionItem, options: &Options) -> Result<Expr, Fault> {
    let Some(name) = &from.field.name else {
        let first = from.values.first().map(ToString::to_string).unwrap_or_default();
        return Err(Reason::Keyword(first).into());
    };
    fielded(from, name, options).map_err(|reason| Fault { reason, key: Some(name.clone()) })
}

fn fielded(from: &DetectionItem, name: &str, options: &Options) -> Result<Expr, Reason> {
    let modifiers = Modifiers::sort(name, &from.field.modifiers)?;
    if from.values.is_empty() {
        return Err(Reason::NoValues(name.to_owned()));
    }
    if modifiers.all && from.values.len() == 1 {
        return Err(Reason::AllOfOne(name.to_owned()));
    }
    let nulls = from.values.iter().filter(|v| matches!(v, SigmaValue::Null)).count();
    if nulls > 0 && from.values.len() > 1 {
        return Err(Reason::NullInList(name.to_owned()));
    }
    if modifiers.expand {
        from.values.iter().try_for_each(|v| placeholder(name, v))?;
    }
    let Some((field, unit)) = names::look_up(name) else {
        return Ok(Expr::Unknown { name: name.to_owned(), negated: false });
    };
    let item = Item {
        name,
        field,
        unit,
        op: modifiers.op,
        all: modifiers.all,
        neq: modifiers.neq,
        cased: modifiers.cased,
        part: modifiers.part,
        options,
    };
    item.compile(&from.values)
}

impl Item<'_> {
    fn compile(&self, values: &[SigmaValue]) -> Result<Expr, Reason> {
        if let [SigmaValue::Null] = values {
            return self.null();
        }
        let words = self.words(values);
        let test = match self.op {
            Op::Exists => return self.exists(&values[0], words),
            Op::Reference(how) => return self.references(values, how),
            _ if self.part.is_some() => self.time_part(values)?,
            _ if self.field.kind() == Kind::FlagNames => return self.flags(values),
            _ if value::is_text(self, values) => self.text(values)?,
            _ => Test::In { set: self.set(values)?, null: false },
        };
        Ok(self.leaf(test, words))
    }

    /// The values as one set: any of them, or with `all` each of them.
    fn set(&self, values: &[SigmaValue]) -> Result<IntervalSet, Reason> {
        let mut sets = values.iter().map(|v| value::set(self, v)).collect::<Result<Vec<_>, _>>()?;
        if self.all {
            let first = sets.pop().expect("a list of values is not empty");
            return Ok(sets.iter().fold(first, |all, set| all.intersection(set)));
        }
        Ok(IntervalSet::union_of(sets))
    }

    fn text(&self, values: &[SigmaValue]) -> Result<Test, Reason> {
        let matchers = values.iter().map(|v| value::matcher(self, v));
        let matchers = matchers.collect::<Result<Vec<Matcher>, _>>()?;
        Ok(Test::Text { matchers, all: self.all, negated: false, null: false })
    }

    fn flags(&self, values: &[SigmaValue]) -> Result<Expr, Reason> {
        if self.op != Op::Equal || self.neq {
            return Err(self.modifier("the names of flags are a set: write them plainly"));
        }
        let leaf = |v: &SigmaValue| {
            let mask = value::flag(self, v)?;
            let test = Test::Flags { mask, negated: false, null: false };
            Ok(self.leaf(test, self.words(std::slice::from_ref(v))))
        };
        let leaves = values.iter().map(leaf).collect::<Result<Vec<_>, Reason>>()?;
        Ok(if self.all { Expr::And(leaves) } else { Expr::Or(leaves) })
    }

    fn time_part(&self, values: &[SigmaValue]) -> Result<Test, Reason> {
        let part = self.part.expect("asked for by the caller");
        if self.field.kind() != (Kind::Time { instant: true }) {
            return Err(self.modifier("it asks for a part of a point in time"));
        }
        if !matches!(self.op, Op::Equal | Op::Compare(_)) {
            return Err(self.modifier("parts of a time are numbers"));
        }
        // A part is a small number of its own, whatever the field's unit.
        let number = Item { field: Field::RttUs, unit: Unit::ONE, part: None, ..*self };
        Ok(Test::Part { part, set: number.set(values)?, negated: false, null: false })
    }

    fn references(&self, values: &[SigmaValue], how: Reference) -> Result<Expr, Reason> {
        let leaf = |v: &SigmaValue| {
            let SigmaValue::String(other) = v else {
                return Err(self.value(v, "the name of a field"));
            };
            let words = self.words(std::slice::from_ref(v));
            let Some((other, unit)) = names::look_up(&other.original) else {
                return Ok(Expr::Unknown { name: other.original.clone(), negated: false });
            };
            let test = Test::Reference { other, unit, how, negated: false, null: false };
            Ok(self.leaf(test, words))
        };
        let leaves = values.iter().map(leaf).collect::<Result<Vec<_>, Reason>>()?;
        // "Differs from each", so that a list with neq is what it is for other values.
        Ok(if self.all || self.neq { Expr::And(leaves) } else { Expr::Or(leaves) })
    }

    fn null(&self) -> Result<Expr, Reason> {
        if self.op != Op::Equal || self.all || self.part.is_some() {
            return Err(self.modifier("null takes no modifier but neq"));
        }
        let words = if self.neq { "is present" } else { "is null" };
        Ok(self.exact(self.is_null(!self.neq), words.to_owned()))
    }

    fn exists(&self, wanted: &SigmaValue, words: String) -> Result<Expr, Reason> {
        let wanted = match wanted {
            SigmaValue::Bool(wanted) => *wanted,
            SigmaValue::String(text) if text.original.eq_ignore_ascii_case("true") => true,
            SigmaValue::String(text) if text.original.eq_ignore_ascii_case("false") => false,
            other => return Err(self.value(other, "true or false")),
        };
        if self.neq || self.all {
            return Err(self.modifier("exists stands alone"));
        }
        Ok(self.exact(self.is_null(!wanted), words))
    }

    /// Holds where the flow lacks the field, or where it has it.
    fn is_null(&self, null: bool) -> Test {
        if self.field.kind() == Kind::Text {
            return Test::Text { matchers: Vec::new(), all: false, negated: !null, null };
        }
        let full = IntervalSet::range(0, self.field.max());
        Test::In { set: if null { IntervalSet::EMPTY } else { full }, null }
    }

    /// The predicate; `neq` is the opposite where the flow has the field, and false where not.
    fn leaf(&self, mut test: Test, words: String) -> Expr {
        if self.neq {
            match &mut test {
                Test::In { set, .. } => *set = set.complement(self.field.max()),
                Test::Text { negated, .. }
                | Test::Flags { negated, .. }
                | Test::Part { negated, .. }
                | Test::Reference { negated, .. } => *negated = !*negated,
            }
        }
        self.exact(test, words)
    }

    fn exact(&self, test: Test, words: String) -> Expr {
        let (field, unit, name) = (self.field, self.unit, self.name.to_owned());
        Expr::Leaf(Box::new(Predicate { field, unit, test, name, words, negated: false }))
    }

    /// The item as a person reads it after the field's name.
    fn words(&self, values: &[SigmaValue]) -> String {
        const SHOWN: usize = 8;
        let verb = match self.op {
            Op::Equal => "is",
            Op::Contains => "contains",
            Op::StartsWith => "starts with",
            Op::EndsWith => "ends with",
            Op::Regex { .. } => "matches",
            Op::Cidr => "is in",
            Op::Compare(Compare::Less) => "<",
            Op::Compare(Compare::LessOrEqual) => "<=",
            Op::Compare(Compare::Greater) => ">",
            Op::Compare(Compare::GreaterOrEqual) => ">=",
            Op::Exists => "exists:",
            Op::Reference(Reference::Equal) => "equals field",
            Op::Reference(Reference::Contains) => "contains field",
            Op::Reference(Reference::StartsWith) => "starts with field",
            Op::Reference(Reference::EndsWith) => "ends with field",
        };
        let shown: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
        let part = self.part.map_or("", TimePart::as_str);
        let neq = if self.neq { "not: " } else { "" };
        let list = match (values.len(), self.all) {
            (1, _) => "",
            (_, true) => "all of ",
            (_, false) => "one of ",
        };
        let more = match values.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let gap = if part.is_empty() { "" } else { " " };
        format!("{neq}{part}{gap}{verb} {list}{}{more}", shown.join(", "))
    }

    pub(super) fn value(&self, value: &SigmaValue, expected: &'static str) -> Reason {
        Reason::Value { field: self.name.to_owned(), value: value.to_string(), expected }
    }

    pub(super) fn modifier(&self, why: &'static str) -> Reason {
        let modifier = match (self.part, self.op, self.neq) {
            (Some(part), ..) => part.as_str(),
            (None, Op::Equal, true) => "neq",
            (None, Op::Equal, false) => "all",
            (None, op, _) => op.as_str(),
        };
        Reason::Modifier { field: self.name.to_owned(), modifier: modifier.to_owned(), why }
    }
}

/// The modifiers of an item before its field is known.
struct Modifiers {
    op: Op,
    all: bool,
    neq: bool,
    cased: bool,
    expand: bool,
    part: Option<TimePart>,
}

impl Modifiers {
    fn sort(field: &str, from: &[Modifier]) -> Result<Self, Reason> {
        let refuse = |modifier: &Modifier, why: &'static str| Reason::Modifier {
            field: field.to_owned(),
            modifier: format!("{modifier:?}").to_lowercase(),
            why,
        };
        let has = |modifier| from.contains(&modifier);
        let mut sorted = Self {
            op: Op::Equal,
            all: has(Modifier::All),
            neq: has(Modifier::Neq),
            cased: has(Modifier::Cased),
            expand: has(Modifier::Expand),
            part: from.iter().find_map(part),
        };
        for modifier in from {
            if let Some(why) = meaningless(modifier, has(Modifier::Re)) {
                return Err(refuse(modifier, why));
            }
            if let Some(op) = operation(modifier, from) {
                if sorted.op != Op::Equal && op != sorted.op {
                    return Err(refuse(modifier, "it excludes another modifier of the item"));
                }
                sorted.op = op;
            }
        }
        if has(Modifier::FieldRef) {
            let how = match sorted.op {
                Op::Equal => Reference::Equal,
                Op::Contains => Reference::Contains,
                Op::StartsWith => Reference::StartsWith,
                Op::EndsWith => Reference::EndsWith,
                _ => {
                    let why = "it goes with neq, contains, startswith and endswith only";
                    return Err(refuse(&Modifier::FieldRef, why));
                }
            };
            sorted.op = Op::Reference(how);
        }
        Ok(sorted)
    }
}

/// What a modifier does with the values, if it decides that.
fn operation(modifier: &Modifier, all: &[Modifier]) -> Option<Op> {
    let has = |modifier| all.contains(&modifier);
    Some(match modifier {
        Modifier::Contains => Op::Contains,
        Modifier::StartsWith => Op::StartsWith,
        Modifier::EndsWith => Op::EndsWith,
        Modifier::Re => Op::Regex {
            ignore_case: has(Modifier::IgnoreCase),
            multi_line: has(Modifier::Multiline),
            dot_all: has(Modifier::DotAll),
        },
        Modifier::Cidr => Op::Cidr,
        Modifier::Gt => Op::Compare(Compare::Greater),
        Modifier::Gte => Op::Compare(Compare::GreaterOrEqual),
        Modifier::Lt => Op::Compare(Compare::Less),
        Modifier::Lte => Op::Compare(Compare::LessOrEqual),
        Modifier::Exists => Op::Exists,
        _ => return None,
    })
}

fn part(modifier: &Modifier) -> Option<TimePart> {
    Some(match modifier {
        Modifier::Minute => TimePart::Minute,
        Modifier::Hour => TimePart::Hour,
        Modifier::Day => TimePart::Day,
        Modifier::Week => TimePart::Week,
        Modifier::Month => TimePart::Month,
        Modifier::Year => TimePart::Year,
        _ => return None,
    })
}

/// Why a modifier has no meaning on any field of a flow, or without `re`.
fn meaningless(modifier: &Modifier, with_re: bool) -> Option<&'static str> {
    match modifier {
        Modifier::Base64
        | Modifier::Base64Offset
        | Modifier::Wide
        | Modifier::Utf16be
        | Modifier::Utf16 => Some("no field of a flow holds encoded text"),
        Modifier::WindAsh => Some("no field of a flow holds a command line"),
        Modifier::IgnoreCase | Modifier::Multiline | Modifier::DotAll if !with_re => {
            Some("it belongs to re")
        }
        _ => None,
    }
}

/// Rejects a value with a placeholder: nothing gives them values yet.
fn placeholder(field: &str, value: &SigmaValue) -> Result<(), Reason> {
    let SigmaValue::String(text) = value else { return Ok(()) };
    let text = &text.original;
    let mut open = None;
    for (at, c) in text.char_indices() {
        let escaped = at > 0 && text.as_bytes()[at - 1] == b'\\';
        if c != '%' || escaped {
            continue;
        }
        match open {
            None => open = Some(at),
            Some(from) => {
                let placeholder = text[from..=at].to_owned();
                return Err(Reason::Placeholder { field: field.to_owned(), placeholder });
            }
        }
    }
    Ok(())
}
