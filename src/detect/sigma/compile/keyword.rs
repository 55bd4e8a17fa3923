//! Values without a field: they are searched for in every free text that a flow carries.

use rsigma_parser::{Modifier, SigmaValue};

use super::item::{Item, Modifiers};
use super::transform;
use super::value::{self, Op};
use super::work::Work;
use crate::detect::sigma::expr::Expr;
use crate::detect::sigma::fields::{Field, Kind};
use crate::detect::sigma::names::{Dialect, NAMES};
use crate::detect::sigma::number::Unit;
use crate::detect::sigma::predicate::{Predicate, Test};
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::text::Matcher;

/// What a message calls an item without a field.
const NAME: &str = "keywords";

/// The fields that keywords are searched in: those of free text, by Weir's names.
pub(super) fn fields() -> impl Iterator<Item = (&'static str, Field)> {
    let named = NAMES.iter().filter(|n| n.dialect == Dialect::Weir);
    named.filter(|n| n.field.kind() == Kind::Text).map(|n| (n.name, n.field))
}

/// Any of the values in any of the texts; with `all` each of them in any.
pub(super) fn compile(
    values: &[SigmaValue],
    modifiers: &[Modifier],
    work: &Work<'_>,
) -> Result<Expr, Reason> {
    let modifiers = Modifiers::sort(NAME, modifiers)?;
    let refuse = |modifier: &str, why| Reason::Modifier {
        field: NAME.to_owned(),
        modifier: modifier.to_owned(),
        why,
    };
    let op = match modifiers.op {
        Op::Equal => Op::Contains,
        op @ (Op::Contains | Op::StartsWith | Op::EndsWith | Op::Regex { .. }) => op,
        op => return Err(refuse(op.as_str(), "it needs a field")),
    };
    if modifiers.neq || modifiers.part.is_some() {
        return Err(refuse(modifiers.part.map_or("neq", |part| part.as_str()), "it needs a field"));
    }
    if values.is_empty() {
        return Err(Reason::NoValues(NAME.to_owned()));
    }
    if modifiers.all && values.len() == 1 {
        return Err(Reason::AllOfOne(NAME.to_owned()));
    }
    let groups = transform::groups(NAME, values, &modifiers.steps, op, work)?;
    // The field only gives errors a name here: a text is a text.
    let item = Item {
        name: NAME,
        field: Field::Application,
        unit: Unit::ONE,
        op,
        all: modifiers.all,
        neq: false,
        cased: modifiers.cased,
        part: None,
        steps: modifiers.steps,
        work,
    };
    let anywhere = |values: &[&SigmaValue]| -> Result<Expr, Reason> {
        let matchers = values.iter().map(|v| matcher(&item, v));
        let matchers = matchers.collect::<Result<Vec<Matcher>, Reason>>()?;
        let words = item.words_of(values.len(), values.iter().copied());
        let leaf = |(name, field): (&str, Field)| {
            let matchers = matchers.clone();
            let test = Test::Text { matchers, all: false, negated: false, null: false };
            let (name, words) = (name.to_owned(), words.clone());
            Expr::leaf(Predicate { field, unit: Unit::ONE, test, name, words, negated: false })
        };
        Ok(Expr::Or(fields().map(leaf).collect()))
    };
    if modifiers.all {
        let each = groups.iter().map(|group| anywhere(&group.iter().collect::<Vec<_>>()));
        return Ok(Expr::And(each.collect::<Result<_, _>>()?));
    }
    anywhere(&groups.iter().flat_map(|group| group.iter()).collect::<Vec<_>>())
}

fn matcher(item: &Item<'_>, value: &SigmaValue) -> Result<Matcher, Reason> {
    match value {
        SigmaValue::String(text) if text.original.is_empty() => {
            return Err(item.value(value, "a text to search for"));
        }
        SigmaValue::Null => return Err(item.value(value, "a text to search for")),
        _ => {}
    }
    value::matcher(item, value)
}

/// What to say of keywords that look for what has a field of its own.
pub(super) fn hint(values: &[SigmaValue]) -> Option<String> {
    let number = values.iter().find(|v| matches!(v, SigmaValue::Integer(_) | SigmaValue::Float(_)));
    if let Some(number) = number {
        let names: Vec<&str> = fields().map(|(name, _)| name).collect();
        return Some(format!(
            "keyword `{number}` is a number, but keywords are searched as texts in {} only: name a \
             field, dst_port for example",
            names.join(", ")
        ));
    }
    let is_address = |v: &&SigmaValue| matches!(v, SigmaValue::String(text) if text.original.parse::<crate::net::Cidr>().is_ok());
    let address = values.iter().find(is_address)?;
    let names: Vec<&str> = fields().map(|(name, _)| name).collect();
    Some(format!(
        "keyword `{address}` is an address, but keywords are searched in {} only: name a field, \
         src_ip or dst_ip",
        names.join(", ")
    ))
}
