//! What the parser passes over in a document without a word: keys that are slips of others, and
//! texts that are none. Sigma allows keys of one's own, so only what is near a known key is told.

use yaml_serde::{Mapping, Value};

use super::lines::line_of_key;
use super::near;

/// Keys of a rule, a correlation or a filter (specification 2.1). Not all that are short: `data` and
/// `score` are as likely one's own as slips of `date` and `scope`.
const TOP: &[&str] = &[
    "title",
    "id",
    "name",
    "related",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "modified",
    "logsource",
    "detection",
    "correlation",
    "filter",
    "falsepositives",
    "level",
    "tags",
    "custom_attributes",
];
/// Known, and no target of slips.
const SHORT: &[&str] = &["date", "scope", "fields", "action", "sigma-version"];
/// Keys of a log source.
const LOGSOURCE: &[&str] = &["category", "product", "service", "definition"];
/// Keys whose values are texts.
const TEXTS: &[&str] = &["title", "id", "name", "status", "level", "author", "description"];
/// Unknown keys of a mapping that are compared with known ones.
const KEYS_MAX: usize = 256;
const LEVELS: &[&str] = &["informational", "low", "medium", "high", "critical"];
const STATUSES: &[&str] = &["stable", "test", "experimental", "deprecated", "unsupported"];

/// Something that is passed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Passed {
    /// Its line in the file, from 1.
    pub line: u32,
    /// What, and what is expected.
    pub text: String,
}

/// A field, and what its value is.
pub(super) type Nested = (String, &'static str);

/// What the parser makes another thing of, or nothing.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The first item whose value is a mapping, or a list within a list: the parser makes a text of it.
    pub nested: Option<Nested>,
    /// The level as it is written.
    pub level: Option<String>,
}

/// [`read`] and [`facts`] of a document that inherits nothing.
pub(super) fn both(text: &str, from: u32) -> (Vec<Passed>, Facts) {
    match yaml_serde::from_str(text) {
        Ok(Value::Mapping(top)) => (passed(&top, text, from), facts_of(&top)),
        _ => (Vec::new(), Facts::default()),
    }
}

/// The facts of the document `text`; none where it is no mapping.
pub(super) fn facts(text: &str) -> Facts {
    match yaml_serde::from_str(text) {
        Ok(Value::Mapping(top)) => facts_of(&top),
        _ => Facts::default(),
    }
}

fn facts_of(top: &Mapping) -> Facts {
    let nested =
        [("detection", "timeframe"), ("filter", "rules")].iter().find_map(|(key, other)| {
            let items = top.get(key)?.as_mapping()?.iter();
            let mut selections = items.filter(|(key, _)| {
                !key.as_str().is_some_and(|key| key == "condition" || key == *other)
            });
            selections.find_map(|(_, value)| nested(value))
        });
    let level = top.get("level").and_then(Value::as_str).map(str::to_owned);
    Facts { nested, level }
}

/// The text that the document `text` has under `key`; `None` where it is no mapping.
pub(super) fn text_of(text: &str, key: &str) -> Option<String> {
    let top: Value = yaml_serde::from_str(text).ok()?;
    top.get(key)?.as_str().map(str::to_owned)
}

/// What is passed over in the document `text`, which begins at the line `from`. Nothing where it is no
/// mapping.
pub(super) fn read(text: &str, from: u32) -> Vec<Passed> {
    match yaml_serde::from_str(text) {
        Ok(Value::Mapping(top)) => passed(&top, text, from),
        _ => Vec::new(),
    }
}

fn passed(top: &Mapping, text: &str, from: u32) -> Vec<Passed> {
    let mut found: Vec<(String, String)> = Vec::new();
    let known: Vec<&str> = TOP.iter().chain(SHORT).copied().collect();
    slips("", top, &known, TOP, &mut found);
    if let Some(Value::Mapping(source)) = top.get("logsource") {
        slips("logsource.", source, LOGSOURCE, LOGSOURCE, &mut found);
        not_texts("logsource.", source, LOGSOURCE, &mut found);
    }
    for key in ["detection", "filter"] {
        if let Some(Value::Mapping(of)) = top.get(key) {
            let wanted = if key == "filter" { &["condition", "rules"][..] } else { &["condition"] };
            let wanted: Vec<&str> =
                wanted.iter().copied().filter(|key| !of.contains_key(key)).collect();
            slips(&format!("{key}."), of, &wanted, &wanted, &mut found);
        }
    }
    not_texts("", top, TEXTS, &mut found);
    words(top, "level", LEVELS, "medium is taken", &mut found);
    words(top, "status", STATUSES, "it is passed over", &mut found);
    let line = |key: &str| line_of_key(text, from, key);
    found.into_iter().map(|(key, text)| Passed { line: line(&key), text }).collect()
}

/// Whether a mapping of the document `text` has `key`, at any depth. False where it is no YAML.
pub(super) fn has_key(text: &str, key: &str) -> bool {
    fn within(value: &Value, key: &str) -> bool {
        match value {
            Value::Mapping(mapping) => {
                mapping.contains_key(key) || mapping.values().any(|value| within(value, key))
            }
            Value::Sequence(values) => values.iter().any(|value| within(value, key)),
            _ => false,
        }
    }
    yaml_serde::from_str(text).is_ok_and(|document| within(&document, key))
}

/// The first item of a detection that is nested.
fn nested(detection: &Value) -> Option<Nested> {
    let what = |value: &Value| match value {
        Value::Mapping(_) => Some("a mapping"),
        Value::Sequence(_) => Some("a list"),
        Value::Tagged(_) => Some("a tagged value"),
        _ => None,
    };
    match detection {
        Value::Sequence(parts) => parts.iter().find_map(nested),
        Value::Mapping(items) => items.iter().find_map(|(key, value)| {
            let what = match value {
                Value::Sequence(values) => values.iter().find_map(what),
                one => what(one),
            };
            // What has brackets is about arrays, and rejected as such.
            let field = key.as_str()?.split('|').next().filter(|field| !field.contains('['))?;
            Some((field.to_owned(), what?))
        }),
        _ => None,
    }
}

/// Whether [`read`] tells what this note of the parser does.
pub(super) fn tells(note: &str) -> bool {
    note.starts_with("invalid level:") || note.starts_with("invalid status:")
}

/// Keys of `mapping` that are slips of one of `meant`, which is not there.
fn slips(
    place: &str,
    mapping: &Mapping,
    known: &[&str],
    meant: &[&str],
    found: &mut Vec<(String, String)>,
) {
    let meant: Vec<&str> = meant.iter().copied().filter(|key| !mapping.contains_key(key)).collect();
    // By custom, `x-` begins a key of one's own.
    let is_own = |key: &str| key.starts_with("x-") || key.starts_with("x_");
    let keys = mapping.keys().filter_map(Value::as_str);
    for key in keys.filter(|key| !known.contains(key) && !is_own(key)).take(KEYS_MAX) {
        if let Some(near) = near::near(key, meant.iter().copied()) {
            let text = format!("nothing reads `{place}{key}` (did you mean `{near}`?)");
            found.push((key.to_owned(), text));
        }
    }
}

/// Keys of `mapping` whose values have to be texts, and are not.
fn not_texts(place: &str, mapping: &Mapping, keys: &[&str], found: &mut Vec<(String, String)>) {
    for &key in keys {
        let shown = match mapping.get(key) {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Sequence(_)) => "a list".to_owned(),
            Some(Value::Mapping(_)) => "a mapping".to_owned(),
            _ => continue,
        };
        let text = format!("`{place}{key}` is {shown}, which is no text, and is passed over");
        found.push((key.to_owned(), text));
    }
}

/// A word that has to be one of a few, and is not.
fn words(
    mapping: &Mapping,
    key: &str,
    all: &[&str],
    what: &str,
    found: &mut Vec<(String, String)>,
) {
    let Some(word) = mapping.get(key).and_then(Value::as_str) else { return };
    if all.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        return;
    }
    let (hint, all) = (near::hint(word, all.iter().copied()), all.join(", "));
    found.push((key.to_owned(), format!("{key} `{word}` is none of {all}{hint}: {what}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_and_keys_of_ones_own_are_not() {
        let rule = "title: T\nlogsource: {category: firewall}\ndetection:\n  s: {a: 1}\n  \
                    condition: s\n";
        for (line, at, want) in [
            ("levle: high", 6, "nothing reads `levle` (did you mean `level`?)"),
            ("refernces: [a]", 6, "nothing reads `refernces` (did you mean `references`?)"),
            ("level: hgih", 6, "(did you mean `high`?): medium is taken"),
            ("level: 5", 6, "`level` is 5, which is no text"),
            ("id: 5", 6, "`id` is 5"),
            ("status: tset", 6, "(did you mean `test`?): it is passed over"),
            ("detecton: 5", 0, ""),
            ("severity: high", 0, ""),
            ("data: x", 0, ""),
            ("score: 5", 0, ""),
            ("x-level: high", 0, ""),
            ("custom_attributes: {levle: 5}", 0, ""),
            ("level: high\nlevels: 5", 0, ""),
        ] {
            let found = read(&format!("{rule}{line}\n"), 1);
            let (lines, texts): (Vec<u32>, Vec<&str>) =
                found.iter().map(|passed| (passed.line, &*passed.text)).unzip();
            assert_eq!(lines, if at == 0 { vec![] } else { vec![at] }, "{line}: {texts:?}");
            assert!(texts.concat().contains(want), "{line}: {texts:?}");
        }
        for (name, text, line, want) in [
            ("log source", rule.replace("category", "catgory"), 2, "`logsource.catgory` (did"),
            ("a number", rule.replace("firewall", "5"), 2, "`logsource.category` is 5"),
            ("no detection", rule.replace("detection", "detecton"), 3, "mean `detection`?"),
            ("no condition", rule.replace("condition", "conditon"), 5, "mean `condition`?"),
            ("filter", rule.replace("detection", "filter") + "  ruls: [a]\n", 6, "`rules`?"),
        ] {
            let found = read(&text, 1);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].line, line, "{name}: {found:?}");
            assert!(found[0].text.contains(want), "{name}: {found:?}");
        }
        for text in ["", "- a", "a: [", "5"] {
            assert_eq!(read(text, 1), [], "{text}");
        }
    }
}
