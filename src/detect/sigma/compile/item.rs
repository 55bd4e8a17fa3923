//! A detection item (`field|modifiers: values`) to a condition.

use std::borrow::Cow;

use rsigma_parser::{DetectionItem, Modifier, SigmaValue};

use super::transform::{self, Step};
use super::value::{self, Compare, Op};
use super::work::Work;
use super::{Fault, keyword};
use crate::detect::sigma::contradictions;
use crate::detect::sigma::expr::Expr;
use crate::detect::sigma::fields::{Field, FieldSet, Kind};
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::names;
use crate::detect::sigma::number::Unit;
use crate::detect::sigma::predicate::{Predicate, Reference, Test, TimePart};
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::text::Matcher;

/// An item's field and modifiers, sorted out.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub name: &'a str,
    pub field: Field,
    pub unit: Unit,
    pub op: Op,
    pub all: bool,
    pub neq: bool,
    pub cased: bool,
    pub part: Option<TimePart>,
    pub steps: Vec<Step>,
    pub work: &'a Work<'a>,
}

/// The alternatives of each value of an item.
type Groups<'a> = [Cow<'a, [SigmaValue]>];

/// Compiles an item; the fault names the item's field.
pub(super) fn compile(from: &DetectionItem, work: &Work<'_>) -> Result<Expr, Fault> {
    work.item()?;
    let Some(name) = &from.field.name else {
        return Ok(keyword::compile(&from.values, &from.field.modifiers, work)?);
    };
    fielded(from, name, work).map_err(|reason| Fault { reason, key: Some(name.clone()) })
}

fn fielded(from: &DetectionItem, name: &str, work: &Work<'_>) -> Result<Expr, Reason> {
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
    // Placeholders are filled in, and named, also where no flow has the field.
    let groups = transform::groups(name, &from.values, &modifiers.steps, modifiers.op, work)?;
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
        steps: modifiers.steps,
        work,
    };
    if let Some(step) = item.steps.iter().find(|step| **step != Step::Expand)
        && field.kind() != Kind::Text
    {
        let why = "the field holds no free text";
        return Err(Reason::Modifier { field: name.into(), modifier: step.as_str().into(), why });
    }
    let expr = item.compile(&groups)?;
    if item.all && item.neq {
        item.note_excluding(&groups);
    }
    Ok(expr)
}

impl Item<'_> {
    fn compile(&self, groups: &Groups<'_>) -> Result<Expr, Reason> {
        if let [group] = groups
            && let [SigmaValue::Null] = group[..]
        {
            return self.null();
        }
        let words = self.words(groups);
        let test = match self.op {
            Op::Exists => return self.exists(groups, words),
            Op::Reference(how) => return self.references(groups, how),
            _ if self.part.is_some() => self.time_part(groups)?,
            _ if self.field.kind() == Kind::FlagNames => return self.flags(groups),
            _ if groups.iter().any(|group| value::is_text(self, group)) => {
                return self.textual(groups, words);
            }
            _ => Test::In { set: self.set(groups)?, null: false },
        };
        Ok(self.leaf(test, words))
    }

    /// Of `neq|all`, which means "not all of these": notes values that no flow has at once.
    fn note_excluding(&self, groups: &Groups<'_>) {
        let each = Item { neq: false, ..self.clone() };
        let Ok(expr) = each.compile(groups).map(|expr| expr.fold(FieldSet::EMPTY)) else { return };
        if matches!(expr, Expr::Const(false)) || contradictions::found(&expr).is_some() {
            let words = each.words(groups);
            self.work.note(format!(
                "`{}` not: {words}: no flow has all of them at once, so every flow that has the field \
                 satisfies it; `neq` without `all` means none of them",
                self.name
            ));
        }
    }

    /// The values as one set: any of them, or with `all` one of each group.
    fn set(&self, groups: &Groups<'_>) -> Result<IntervalSet, Reason> {
        if !self.all {
            let sets = groups.iter().flat_map(|group| group.iter());
            let sets = sets.map(|v| self.one(v)).collect::<Result<Vec<_>, _>>()?;
            return Ok(IntervalSet::union_of(sets));
        }
        let mut all = IntervalSet::range(0, self.field.max());
        for group in groups {
            let sets = group.iter().map(|v| self.one(v)).collect::<Result<Vec<_>, _>>()?;
            all = all.intersection(&IntervalSet::union_of(sets));
        }
        Ok(all)
    }

    /// One value as a set. One that no flow has is noted: it may be a slip, and is easily overlooked
    /// in a list or under `not`. An empty text is no slip.
    fn one(&self, value: &SigmaValue) -> Result<IntervalSet, Reason> {
        let set = value::set(self, value)?;
        let set = match self.part.map(TimePart::bounds) {
            Some((least, most)) => set.intersection(&IntervalSet::range(least, most)),
            None => set,
        };
        let is_empty_text = matches!(value, SigmaValue::String(text) if text.original.is_empty());
        if set.is_empty() && !is_empty_text {
            let (words, domain) = (self.words_of(1, [value].into_iter()), self.domain());
            self.work.note(format!("`{}` {words}: no flow has that: {domain}", self.name));
        }
        Ok(set)
    }

    fn domain(&self) -> String {
        self.part.map_or_else(|| self.field.domain(), TimePart::domain)
    }

    /// Values of which at least one has to be looked at as text. Beside it in a list, an address or
    /// a number is what it would be alone.
    fn textual(&self, groups: &Groups<'_>, words: String) -> Result<Expr, Reason> {
        let is_text = |value: &SigmaValue| value::is_text(self, std::slice::from_ref(value));
        if groups.iter().flat_map(|group| group.iter()).all(is_text) {
            return self.text(groups, words);
        }
        let any = Item { all: false, ..self.clone() };
        let each = |values: Vec<SigmaValue>| -> Result<Expr, Reason> {
            let (texts, others): (Vec<_>, Vec<_>) = values.into_iter().partition(is_text);
            let kinds = [texts, others].into_iter().filter(|values| !values.is_empty());
            let parts = kinds.map(|values| any.compile(&[Cow::Owned(values)]));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            Ok(if self.neq { Expr::And(parts) } else { Expr::Or(parts) })
        };
        if !self.all {
            return each(groups.iter().flat_map(|group| group.iter().cloned()).collect());
        }
        let parts = groups.iter().map(|group| each(group.to_vec()));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        // "Not each of them": one of them does not hold.
        Ok(if self.neq { Expr::Or(parts) } else { Expr::And(parts) })
    }

    fn text(&self, groups: &Groups<'_>, words: String) -> Result<Expr, Reason> {
        let matchers = |group: &[SigmaValue]| {
            group.iter().map(|v| value::matcher(self, v)).collect::<Result<Vec<Matcher>, Reason>>()
        };
        let test = |matchers, all| Test::Text { matchers, all, negated: false, null: false };
        let single = groups.iter().all(|group| group.len() == 1);
        if !self.all || single {
            let all = groups.iter().map(|group| matchers(group)).collect::<Result<Vec<_>, _>>()?;
            let all: Vec<Matcher> = all.into_iter().flatten().collect();
            let any = |matcher: &Matcher| matcher.takes_any();
            let every = if self.all { all.iter().all(any) } else { all.iter().any(any) };
            if self.field.kind() == Kind::Address {
                self.note_unwritten(groups, &all);
            }
            // Every address is a text that these match.
            if self.field.kind() == Kind::Address && every {
                let set = IntervalSet::range(0, self.field.max());
                return Ok(self.leaf(Test::In { set, null: false }, words));
            }
            return Ok(self.leaf(test(all, self.all), words));
        }
        let leaf = |group: &Cow<'_, [SigmaValue]>| {
            let any = Item { all: false, ..self.clone() };
            let words = any.words(std::slice::from_ref(group));
            Ok(self.leaf(test(matchers(group)?, false), words))
        };
        let leaves = groups.iter().map(leaf).collect::<Result<Vec<_>, Reason>>()?;
        // "Not each of them": one of them does not hold.
        Ok(if self.neq { Expr::Or(leaves) } else { Expr::And(leaves) })
    }

    /// Notes patterns that no address matches as it is written.
    fn note_unwritten(&self, groups: &Groups<'_>, matchers: &[Matcher]) {
        let values = groups.iter().flat_map(|group| group.iter());
        for (value, matcher) in values.zip(matchers) {
            if matches!(matcher, Matcher::Glob(pattern) if pattern.is_no_address()) {
                let words = self.words_of(1, [value].into_iter());
                self.work.note(format!(
                    "`{}` {words}: hardly any address is written so: small letters, no leading zeros, `::` \
                     for the longest run of zeros, IPv4 in points (RFC 5952); a network takes `cidr`",
                    self.name
                ));
            }
        }
    }

    fn flags(&self, groups: &Groups<'_>) -> Result<Expr, Reason> {
        if self.op != Op::Equal || self.neq {
            return Err(self.modifier("the names of flags are a set: write them plainly"));
        }
        let leaf = |group: &Cow<'_, [SigmaValue]>| {
            let bits = group.iter().map(|v| value::flag(self, v));
            let mask = bits.collect::<Result<Vec<u16>, Reason>>()?.iter().fold(0, |all, b| all | b);
            let test = Test::Flags { mask, negated: false, null: false };
            Ok(self.leaf(test, self.words(std::slice::from_ref(group))))
        };
        let leaves = groups.iter().map(leaf).collect::<Result<Vec<_>, Reason>>()?;
        Ok(if self.all { Expr::And(leaves) } else { Expr::Or(leaves) })
    }

    fn time_part(&self, groups: &Groups<'_>) -> Result<Test, Reason> {
        let part = self.part.expect("asked for by the caller");
        if self.field.kind() != (Kind::Time { instant: true }) {
            return Err(self.modifier("it asks for a part of a point in time"));
        }
        // A part is a small number of its own, whatever the field's unit.
        let number = Item { field: Field::RttUs, unit: Unit::ONE, ..self.clone() };
        Ok(Test::Part { part, set: number.set(groups)?, negated: false, null: false })
    }

    fn references(&self, groups: &Groups<'_>, how: Reference) -> Result<Expr, Reason> {
        let leaf = |group: &Cow<'_, [SigmaValue]>| {
            let SigmaValue::String(other) = &group[0] else {
                return Err(self.value(&group[0], "the name of a field"));
            };
            let words = self.words(std::slice::from_ref(group));
            let Some((other, unit)) = names::look_up(&other.original) else {
                return Ok(Expr::Unknown { name: other.original.clone(), negated: false });
            };
            if how == Reference::Equal && !can_equal(self.field.kind(), other.kind()) {
                let name = self.name;
                self.work.note(format!(
                    "`{name}` {words}: no flow has that: one holds addresses, the other does not"
                ));
                // What differs from it is every flow that has both.
                if !self.neq {
                    return Ok(Expr::Const(false));
                }
            }
            let test = Test::Reference { other, unit, how, negated: false, null: false };
            Ok(self.leaf(test, words))
        };
        let leaves = groups.iter().map(leaf).collect::<Result<Vec<_>, Reason>>()?;
        // A list with neq is what it is for other values: "differs from each", with all "from one".
        Ok(if self.all != self.neq { Expr::And(leaves) } else { Expr::Or(leaves) })
    }

    fn null(&self) -> Result<Expr, Reason> {
        if self.op != Op::Equal || self.all || self.part.is_some() {
            return Err(self.modifier("null takes no modifier but neq"));
        }
        let words = if self.neq { "is present" } else { "is null" };
        Ok(self.exact(self.is_null(!self.neq), words.to_owned()))
    }

    fn exists(&self, groups: &Groups<'_>, words: String) -> Result<Expr, Reason> {
        if self.neq || self.all || groups.len() > 1 {
            return Err(self.modifier("exists stands alone, with one value"));
        }
        let wanted = match &groups[0][0] {
            SigmaValue::Bool(wanted) => *wanted,
            SigmaValue::String(text) if text.original.eq_ignore_ascii_case("true") => true,
            SigmaValue::String(text) if text.original.eq_ignore_ascii_case("false") => false,
            other => return Err(self.value(other, "true or false")),
        };
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
        Expr::leaf(Predicate { field, unit, test, name, words, negated: false })
    }

    /// The item as a person reads it after the field's name.
    fn words(&self, groups: &Groups<'_>) -> String {
        let count: usize = groups.iter().map(|group| group.len()).sum();
        self.words_of(count, groups.iter().flat_map(|group| group.iter()))
    }

    /// The same of `count` values.
    pub(super) fn words_of<'v>(
        &self,
        count: usize,
        values: impl Iterator<Item = &'v SigmaValue>,
    ) -> String {
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
        let shown: Vec<String> = values.take(SHOWN).map(ToString::to_string).collect();
        let part = self.part.map_or("", TimePart::as_str);
        let neq = if self.neq { "not: " } else { "" };
        let list = match (count, self.all) {
            (1, _) => "",
            (_, true) => "all of ",
            (_, false) => "one of ",
        };
        let more = match count.saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let gap = if part.is_empty() { "" } else { " " };
        format!("{neq}{part}{gap}{verb} {list}{}{more}", shown.join(", "))
    }

    pub(super) fn value(
        &self,
        value: &SigmaValue,
        expected: impl Into<Cow<'static, str>>,
    ) -> Reason {
        let (field, value, mut expected) =
            (self.name.to_owned(), value.to_string(), expected.into());
        if looks_like_a_placeholder(&value) {
            expected += " (a placeholder takes the modifier `expand`, and its values stand in the file \
                         that rules.placeholders names)";
        }
        if is_yaml_1_1_boolean(&value) {
            expected += " (YAML 1.2 reads yes, no, on and off as texts)";
        }
        Reason::Value { field, value, expected }
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

/// `%servers%`.
pub(super) fn looks_like_a_placeholder(text: &str) -> bool {
    let name = text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
    name.is_some_and(|name| !name.is_empty() && !name.contains([' ', '%', '*']))
}

/// What YAML 1.1 reads as true or false, and YAML 1.2 as a text.
fn is_yaml_1_1_boolean(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Whether values of the two kinds may be equal: an address is the text of no number.
fn can_equal(a: Kind, b: Kind) -> bool {
    let address = |kind| kind == Kind::Address;
    address(a) == address(b) || a == Kind::Text || b == Kind::Text
}

/// The modifiers of an item before its field is known.
pub(super) struct Modifiers {
    pub op: Op,
    pub all: bool,
    pub neq: bool,
    pub cased: bool,
    pub part: Option<TimePart>,
    pub steps: Vec<Step>,
}

impl Modifiers {
    pub(super) fn sort(field: &str, from: &[Modifier]) -> Result<Self, Reason> {
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
            steps: from.iter().copied().filter_map(Step::of).collect(),
            part: from.iter().find_map(part),
        };
        for modifier in from {
            let of_re = [Modifier::IgnoreCase, Modifier::Multiline, Modifier::DotAll];
            if of_re.contains(modifier) && !has(Modifier::Re) {
                return Err(refuse(modifier, "it belongs to re"));
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
        if let Some(part) = sorted.part
            && !matches!(sorted.op, Op::Equal | Op::Compare(_))
        {
            let (field, modifier) = (field.to_owned(), part.as_str().to_owned());
            let why = "parts of a time are numbers";
            return Err(Reason::Modifier { field, modifier, why });
        }
        transform::check(&sorted.steps, sorted.op).map_err(|(step, why)| {
            let (field, modifier) = (field.to_owned(), step.as_str().to_owned());
            Reason::Modifier { field, modifier, why }
        })?;
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
