//! The terms of a correlation as its document has them. The parser leaves out what is of another
//! type than it expects, reads whole numbers only, and passes over keys that it does not know: each
//! would change what is counted, without a word.

use rsigma_parser::{ConditionOperator, CorrelationType, Timespan};
use yaml_serde::{Mapping, Value};

use super::near;
use super::number::Decimal;

/// What `correlation` may hold (specification of correlations; `window` and `gap` beyond it).
const CORRELATION: &[&str] = &[
    "type",
    "rules",
    "group-by",
    "timespan",
    "timeframe",
    "window",
    "gap",
    "condition",
    "aliases",
    "generate",
];
/// What its `condition` may hold.
const CONDITION: &[&str] = &["gt", "gte", "lt", "lte", "eq", "neq", "field", "percentile"];
const OPERATORS: [&str; 6] = ["lt", "lte", "gt", "gte", "eq", "neq"];
/// The parser's own extensions.
const EXTENSION: &str = "rsigma.";
const TYPES: &str = "event_count, value_count, temporal, temporal_ordered, value_sum, value_avg, \
                     value_percentile or value_median";
const LENGTH: &str = "a whole number and s, m, h, d, w, M or y, such as `5m`";

/// An operator and its number, in the unit of the field's name.
pub(super) type Threshold = (ConditionOperator, Decimal);

/// What the parser makes nothing of.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The operators of the condition in the order of the specification; empty if it has none.
    pub thresholds: Vec<Threshold>,
    /// A warning for each key that nothing reads.
    pub notes: Vec<String>,
    /// The document with numbers that the parser can read, if it cannot read its own.
    pub readable: Option<String>,
}

/// What is wrong, and the key on whose line it stands.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    pub why: String,
    pub key: &'static str,
}

fn wrong<T>(key: &'static str, why: String) -> Result<T, Wrong> {
    Err(Wrong { why, key })
}

/// The terms of the document `text`. One that is no correlation has none: what it is instead is for
/// the parser to say.
///
/// # Errors
/// The first term that is not of the type that the specification gives it.
pub(super) fn read(text: &str) -> Result<Terms, Wrong> {
    let Ok(mut document) = yaml_serde::from_str::<Value>(text) else { return Ok(Terms::default()) };
    let correlation = document.get_mut("correlation").and_then(Value::as_mapping_mut);
    let Some(correlation) = correlation else { return Ok(Terms::default()) };
    let mut notes = strangers("correlation", correlation, CORRELATION);
    let kind = kind(correlation)?;
    for key in ["rules", "group-by"] {
        texts(correlation, key)?;
    }
    length(correlation, "timespan")?;
    length(correlation, "gap")?;
    if let Some(value) = correlation.get("generate").filter(|value| !value.is_bool()) {
        return wrong(
            "generate",
            format!("`generate: {}` is neither true nor false", shown(value)),
        );
    }
    let temporal = matches!(kind, CorrelationType::Temporal | CorrelationType::TemporalOrdered);
    let condition = match correlation.get_mut("condition") {
        None if temporal => return Ok(Terms { notes, ..Terms::default() }),
        None => {
            let why = format!("{} needs a `condition` such as `{{gte: 10}}`", kind.as_str());
            return wrong("correlation", why);
        }
        Some(Value::Mapping(condition)) => condition,
        Some(Value::String(_)) => return Ok(Terms { notes, ..Terms::default() }),
        Some(other) => {
            let why = format!(
                "its condition is {}: expected a mapping such as `{{gte: 10}}`",
                shown(other)
            );
            return wrong("condition", why);
        }
    };
    notes.extend(strangers("correlation.condition", condition, CONDITION));
    texts(condition, "field")?;
    percentile(condition)?;
    let (thresholds, rewritten) = thresholds(condition)?;
    let readable = if rewritten { yaml_serde::to_string(&document).ok() } else { None };
    Ok(Terms { thresholds, notes, readable })
}

/// Checks that the filter `text` says which rules it is for: one that says nothing would be for
/// all, and so would one whose `rules` is misspelt.
///
/// # Errors
/// If it does not.
pub(super) fn read_filter(text: &str) -> Result<Terms, Wrong> {
    let Ok(document) = yaml_serde::from_str::<Value>(text) else { return Ok(Terms::default()) };
    let filter = document.get("filter").and_then(Value::as_mapping);
    let Some(filter) = filter else { return Ok(Terms::default()) };
    let says = match filter.get("rules") {
        None => "it has no `rules`".to_owned(),
        Some(Value::Sequence(rules)) if rules.is_empty() => "its `rules` is empty".to_owned(),
        Some(Value::String(_) | Value::Sequence(_)) => return Ok(Terms::default()),
        Some(other) => format!("`rules: {}` names none", shown(other)),
    };
    wrong("rules", format!("{says}: expected ids or names of rules, or `any` for every rule"))
}

fn kind(correlation: &Mapping) -> Result<CorrelationType, Wrong> {
    let why = match correlation.get("type") {
        None => "it has no `type`".to_owned(),
        Some(value) => match value.as_str().and_then(|name| name.parse().ok()) {
            Some(kind) => return Ok(kind),
            None => format!("there is no `type: {}`", shown(value)),
        },
    };
    wrong(
        if correlation.contains_key("type") { "type" } else { "correlation" },
        format!("{why}: expected {TYPES}"),
    )
}

/// A text or a list of texts.
fn texts(mapping: &Mapping, key: &'static str) -> Result<(), Wrong> {
    let stranger = match mapping.get(key) {
        None | Some(Value::String(_)) => None,
        Some(Value::Sequence(list)) => list.iter().find(|value| !value.is_string()),
        Some(other) => Some(other),
    };
    match stranger {
        None => Ok(()),
        Some(value) => {
            let why = format!(
                "`{key}` has {}, which is no text: expected a name or a list of names (numbers in quotes)",
                shown(value)
            );
            wrong(key, why)
        }
    }
}

/// A length of time; the timespan, which the specification has also called timeframe, has to be
/// there.
fn length(correlation: &Mapping, key: &'static str) -> Result<(), Wrong> {
    let other = if key == "timespan" { "timeframe" } else { key };
    let (key, value) = match (correlation.get(other), correlation.get(key)) {
        (Some(value), _) => (other, value),
        (None, Some(value)) => (key, value),
        (None, None) if key == "timespan" => {
            return wrong("correlation", format!("it has no `timespan`: expected {LENGTH}"));
        }
        (None, None) => return Ok(()),
    };
    if value.as_str().is_some_and(|text| Timespan::parse(text).is_ok()) {
        return Ok(());
    }
    wrong(key, format!("`{key}: {}` is no length of time: expected {LENGTH}", shown(value)))
}

fn percentile(condition: &Mapping) -> Result<(), Wrong> {
    match condition.get("percentile") {
        None => Ok(()),
        Some(value) if value.as_u64().is_some_and(|percent| percent <= 100) => Ok(()),
        Some(value) => {
            let why = format!("`percentile: {}` is no whole number from 0 to 100", shown(value));
            wrong("percentile", why)
        }
    }
}

/// The operators with their numbers. Those that the parser could not read become 1, which is said.
fn thresholds(condition: &mut Mapping) -> Result<(Vec<Threshold>, bool), Wrong> {
    let (mut found, mut rewritten) = (Vec::new(), false);
    for name in OPERATORS {
        let Some(value) = condition.get_mut(name) else { continue };
        let (Some(number), Ok(operator)) = (decimal(value), name.parse()) else {
            let why = format!(
                "`{name}: {}` in its condition is no number from 0 on: expected one such as 20, of at \
                 most 29 digits, 12 of them after the point (above 2^53 in quotes)",
                shown(value)
            );
            return wrong(name, why);
        };
        if value.as_u64().is_none() {
            (*value, rewritten) = (Value::from(1), true);
        }
        found.push((operator, number));
    }
    if found.is_empty() {
        let why =
            format!("its condition has no operator: expected one of {}", OPERATORS.join(", "));
        return wrong("condition", why);
    }
    Ok((found, rewritten))
}

/// What was written, exactly; also in quotes.
fn decimal(value: &Value) -> Option<Decimal> {
    let number = match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => Decimal::parse(&whole.to_string()),
            None if number.is_i64() => None,
            None => Decimal::float(number.as_f64()?),
        },
        Value::String(text) => Decimal::parse(text),
        _ => None,
    };
    number.filter(|number| number.is_threshold())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) | Value::Tagged(_) => "a mapping".to_owned(),
    }
}

fn strangers(place: &str, mapping: &Mapping, known: &[&str]) -> Vec<String> {
    let keys = mapping.keys().filter_map(Value::as_str);
    let strange = keys.filter(|key| !known.contains(key) && !key.starts_with(EXTENSION));
    let note = |key: &str| {
        let (hint, known) = (near::hint(key, known.iter().copied()), known.join(", "));
        format!("{place} has no key `{key}`{hint}, which is ignored: expected {known}")
    };
    strange.map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: &str = "correlation: {type: event_count, rules: [a], timespan: 1m, condition: C}";

    #[test]
    fn misspelt_keys_are_named() {
        let text = "title: T\ncorrelation:\n  type: event_count\n  rules: [a]\n  group_by: [b]\n  \
                    timespan: 1m\n  rsigma.window: tumbling\n  condition: {gte: 1, lt_e: 5}\n";
        let notes = read(text).expect("terms").notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        let says = "correlation has no key `group_by` (did you mean `group-by`?), which is ignored";
        assert!(notes[0].starts_with(says), "{notes:?}");
        assert!(
            notes[1].starts_with("correlation.condition has no key `lt_e` (did you mean `lte`?)")
        );
        for fine in ["correlation: 5", "title: T", ": ["] {
            assert_eq!(read(fine).expect("nothing").notes, Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn numbers_are_what_was_written() {
        for (written, want) in [
            ("5", "5"),
            ("0.5", "0.5"),
            ("'0.5'", "0.5"),
            ("3.0", "3"),
            ("18446744073709551615", "18446744073709551615"),
            ("'18446744073709551616'", "18446744073709551616"),
        ] {
            let text = COUNT.replace('C', &format!("{{gte: {written}}}"));
            let terms = read(&text).expect("terms");
            let numbers: Vec<String> =
                terms.thresholds.iter().map(|(_, n)| n.to_string()).collect();
            assert_eq!(numbers, [want], "{written}");
            let parsed = terms.readable.as_deref().unwrap_or(&text);
            let again = read(parsed).expect("terms");
            assert!(again.readable.is_none(), "{parsed}");
        }
    }
}
