//! Every line that the inspector writes is valid by `docs/schema/decode.schema.json`.

use std::path::Path;

use serde_json::Value;

use super::{lines, rows};
use crate::support::vectors;

/// Why `value` is not valid by `schema`, whose references lead into `root`; the keywords that the
/// schema uses, no others.
fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    for (keyword, rule) in schema.as_object()? {
        let fault = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => None,
            "$ref" => {
                let pointer = rule.as_str().expect("a reference").trim_start_matches('#');
                fault(root, root.pointer(pointer).expect("what it refers to"), value)
            }
            "oneOf" => {
                let rules = rule.as_array().expect("a list");
                let faults: Vec<_> = rules.iter().map(|rule| fault(root, rule, value)).collect();
                let valid = faults.iter().filter(|fault| fault.is_none()).count();
                (valid != 1).then(|| format!("{valid} of oneOf: {faults:?}"))
            }
            "type" => {
                let kinds = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                let valid = kinds.iter().any(|kind| is_a(kind.as_str().expect("a type"), value));
                (!valid).then(|| format!("{value} is not {rule}"))
            }
            "enum" => {
                let valid = rule.as_array().expect("a list").contains(value);
                (!valid).then(|| format!("{value} is none of {rule}"))
            }
            "const" => (value != rule).then(|| format!("{value} is not {rule}")),
            "minimum" => value
                .as_f64()
                .filter(|n| *n < rule.as_f64().expect("a bound"))
                .map(|n| format!("{n} < {rule}")),
            "maximum" => value
                .as_f64()
                .filter(|n| *n > rule.as_f64().expect("a bound"))
                .map(|n| format!("{n} > {rule}")),
            "required" => {
                let names = rule.as_array().expect("a list").iter();
                let mut names = names.map(|name| name.as_str().expect("a name"));
                names.find(|name| value.get(name).is_none()).map(|name| format!("no {name}"))
            }
            "properties" => {
                let rules = rule.as_object().expect("a map").iter();
                rules
                    .filter_map(|(name, rule)| Some((name, fault(root, rule, value.get(name)?)?)))
                    .map(|(name, fault)| format!("{name}: {fault}"))
                    .next()
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().expect("properties");
                let mut names = value.as_object().into_iter().flat_map(serde_json::Map::keys);
                names.find(|name| !known.contains_key(*name)).map(|name| format!("has {name}"))
            }
            "items" => value.as_array().into_iter().flatten().find_map(|it| fault(root, rule, it)),
            other => panic!("the schema uses {other}, which this test does not know"),
        };
        if fault.is_some() {
            return fault;
        }
    }
    None
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn every_line_is_valid_by_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/decode.schema.json");
    let schema = std::fs::read_to_string(path).expect("the schema is in the docs");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let Some(folder) = vectors("netflow") else { return };
    let mut count = 0;
    for row in &rows(&folder) {
        for line in lines(&folder, row) {
            let value = serde_json::to_value(&line).expect("a line is JSON");
            assert_eq!(fault(&schema, &schema, &value), None, "{} {value}", row.name());
            count += 1;
        }
    }
    println!("schema: {count} lines are valid");
}
