//! Keys of a correlation that nothing reads: a typing error there would change what is counted,
//! without a word.

use yaml_serde::Value;

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
/// The parser's own extensions.
const EXTENSION: &str = "rsigma.";

/// A warning for each such key of the document `text`.
pub(super) fn unread(text: &str) -> Vec<String> {
    let document: Option<Value> = yaml_serde::from_str(text).ok();
    let correlation = document.as_ref().and_then(|document| document.get("correlation"));
    let condition = correlation.and_then(|correlation| correlation.get("condition"));
    let mut notes = strangers("correlation", correlation, CORRELATION);
    notes.extend(strangers("correlation.condition", condition, CONDITION));
    notes
}

fn strangers(place: &str, value: Option<&Value>, known: &[&str]) -> Vec<String> {
    let Some(Value::Mapping(mapping)) = value else { return Vec::new() };
    let keys = mapping.keys().filter_map(Value::as_str);
    let strange = keys.filter(|key| !known.contains(key) && !key.starts_with(EXTENSION));
    let note = |key: &str| {
        format!("{place} has no key `{key}`, which is ignored: expected {}", known.join(", "))
    };
    strange.map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_named() {
        let text = "title: T\ncorrelation:\n  type: event_count\n  rules: [a]\n  group_by: [b]\n  \
                    timespan: 1m\n  rsigma.window: tumbling\n  condition: {gte: 1, lt_e: 5}\n";
        let notes = unread(text);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("correlation has no key `group_by`, which is ignored"));
        assert!(notes[1].starts_with("correlation.condition has no key `lt_e`"));
        for fine in ["correlation: 5", "title: T", "correlation: {condition: a and b}", ": ["] {
            assert_eq!(unread(fine), Vec::<String>::new(), "{fine}");
        }
    }
}
