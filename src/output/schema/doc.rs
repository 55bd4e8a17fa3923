//! The schema as documents, made from the table.

use serde_json::{Map, Value as Json, json};

use super::{Field, Kind, Stream, VERSION};

const HEAD: &str = "\
# The fields of slices and alerts

<!-- Made from src/output/schema by tests/it/schema.rs (WEIR_BLESS=1 writes it): do not edit. -->

What Weir writes, in every format. The first fields of a slice are DeepTempo's canonical NetFlow
columns, in their order and types; everything after them is what Weir adds.

- **NDJSON**: one object a line; a field that is absent is left out. `rule.id` is the member `id`
  of the object `rule`. JSON Schema: [slice](schema/slice.schema.json),
  [alert](schema/alert.schema.json).
- **CSV**: RFC 4180 with a header line and `\\n` as line end; a field that is absent is empty, a
  list is a JSON array as text, `rule.id` is a column of that name.
- **Parquet**: zstd (read again by `weir replay` also as others compress it: snappy, gzip, lz4, not at
  all); a field that is absent is null, lists of texts are lists, `sigma_detections`,
  `techniques` and `evidence` are JSON as text, `rule.id` is a column of that name.

The fields of `[sensor.fields]` in the configuration (`tenant = \"north\"`, say) follow on every
record, in the order of their names: members in NDJSON, the last columns in CSV and Parquet (utf8,
int64, boolean). They are not in the JSON Schemas, which allow them.

`fwd` is initiator to responder, `bwd` the reverse. Counters are those of the slice; of an alert,
those of the flow so far. They are as exported: multiply by `sampling_interval` for an estimate.
";

/// docs/schema.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = format!("{HEAD}\nThis is version {VERSION} of the schema.\n");
    for (title, stream) in [("Slices", Stream::Slices), ("Alerts", Stream::Alerts)] {
        text += &format!("\n## {title}\n\n");
        text += "| field | JSON | CSV | Parquet | absent | meaning |\n|---|---|---|---|---|---|\n";
        for field in stream.fields() {
            let Forms { json, csv, parquet } = forms(field.kind);
            let absent = if field.nullable { "yes" } else { "" };
            let (name, doc) = (field.name, field.doc);
            text += &format!("| `{name}` | {json} | {csv} | {parquet} | {absent} | {doc}");
            if let Kind::Words(words) = field.kind {
                text += &format!(" One of `{}`.", words.join("`, `"));
            }
            text += " |\n";
        }
    }
    text += JOIN;
    text
}

const JOIN: &str = "
## From an alert of the sequence model to its flows

Such an alert is on many flows of two addresses. A pair's flows are counted from its first, and every 32
are one sequence: a slice has the id of the one that was under way when it was cut, whether its pair was
scored or not, and the alert that of its pair at the score. So the id joins them, in DuckDB for example:

```sql
SELECT a.\"rule.title\", f.timestamp, f.src_ip, f.dest_ip, f.dest_port, f.fwd_bytes, f.bwd_bytes
FROM 'alerts.parquet' a JOIN 'flows.parquet' f USING (sequence_id) ORDER BY f.timestamp;
```

What was scored are the last 32 flows. Unless the alert's sequence is whole, they begin in the one
before, whose id has the same addresses and the number before: `..._c1` before `..._c2`. They are the
flows of the two addresses whose `timestamp` lies from the alert's `flow_start` to `flow_dur` later.
";

struct Forms {
    json: &'static str,
    csv: &'static str,
    parquet: &'static str,
}

fn forms(kind: Kind) -> Forms {
    let (json, csv, parquet) = match kind {
        Kind::Timestamp => ("integer, µs since the epoch", "integer", "int64"),
        Kind::Int64 => ("integer", "integer", "int64"),
        Kind::Int32 => ("integer", "integer", "int32"),
        Kind::Seconds => ("number, s", "decimal", "double"),
        Kind::Float64 => ("number", "decimal", "double"),
        Kind::Bool => ("boolean", "`true`, `false`", "boolean"),
        Kind::Text | Kind::Words(_) => ("string", "text", "utf8"),
        Kind::Address => ("string, IPv4 or IPv6", "text", "utf8"),
        Kind::Hex128 => ("string, 32 hex digits", "text", "utf8"),
        Kind::TextList | Kind::AddressList => ("array of strings", "JSON", "list of utf8"),
        Kind::Detections | Kind::Techniques | Kind::Evidence => {
            ("array of objects", "JSON", "utf8 (JSON)")
        }
    };
    Forms { json, csv, parquet }
}

/// The JSON Schema (draft 2020-12) of one NDJSON line of `stream`, as a text that ends with a line
/// feed.
#[must_use]
pub fn json_schema(stream: Stream) -> String {
    let mut top = Object::default();
    let mut group: Option<(&str, Object)> = None;
    for field in stream.fields() {
        let split = field.name.split_once('.');
        if group.as_ref().map(|(name, _)| *name) != split.map(|(object, _)| object) {
            top.close(group.take());
            group = split.map(|(object, _)| (object, Object::default()));
        }
        match (&mut group, split) {
            (Some((_, members)), Some((_, key))) => members.add(key, field),
            _ => top.add(field.name, field),
        }
    }
    top.close(group);
    let title = match stream {
        Stream::Slices => "A tagged slice of a flow",
        Stream::Alerts => "An alert: one rule that fired on one flow",
    };
    let mut schema = top.schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    let text = serde_json::to_string_pretty(&schema).expect("plain JSON has no failing parts");
    text + "\n"
}

#[derive(Default)]
struct Object {
    properties: Map<String, Json>,
    required: Vec<Json>,
}

impl Object {
    fn add(&mut self, key: &str, field: &Field) {
        let mut property = property(field.kind);
        property["description"] = json!(field.doc);
        if field.name == "schema" {
            property["const"] = json!(VERSION);
        }
        self.properties.insert(key.to_owned(), property);
        if !field.nullable {
            self.required.push(json!(key));
        }
    }

    fn close(&mut self, group: Option<(&str, Self)>) {
        if let Some((name, members)) = group {
            self.properties.insert(name.to_owned(), members.schema());
            self.required.push(json!(name));
        }
    }

    fn schema(self) -> Json {
        json!({"type": "object", "properties": self.properties, "required": self.required})
    }
}

/// The JSON Schema of a value of `kind`.
pub(in crate::output) fn property(kind: Kind) -> Json {
    let object = |keys: &[&str]| {
        let properties: Map<_, _> =
            keys.iter().map(|&key| (key.to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": properties, "required": keys})
    };
    let list = |items: Json| json!({"type": "array", "items": items});
    let mut technique = object(&["id", "name"]);
    technique["properties"]["name"] = json!({"type": ["string", "null"]});
    match kind {
        Kind::Timestamp | Kind::Int64 => {
            json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
        }
        Kind::Int32 => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        Kind::Seconds => json!({"type": "number", "minimum": 0}),
        Kind::Float64 => json!({"type": "number"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Words(words) => json!({"type": "string", "enum": words}),
        Kind::Address => address(),
        Kind::Hex128 => json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        Kind::TextList => list(json!({"type": "string"})),
        Kind::AddressList => list(address()),
        Kind::Techniques => list(technique),
        Kind::Evidence => list(object(&["field", "predicate", "value"])),
        Kind::Detections => {
            let mut detection =
                object(&["rule_id", "rule_title", "severity", "technique_ids", "techniques"]);
            let properties = &mut detection["properties"];
            properties["technique_ids"] = list(json!({"type": "string"}));
            properties["techniques"] = list(technique);
            list(detection)
        }
    }
}

fn address() -> Json {
    json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::{Layout, Row, Shown};
    use super::*;
    use crate::detect::Level;
    use crate::flow::record::TunnelKind;
    use crate::flow::{Direction, DirectionBy, EndReason, TcpState};
    use crate::output::{ndjson, sample};

    /// What of `value` is not as `schema` says; as much of JSON Schema as the documents use.
    pub(crate) fn faults(schema: &Json, value: &Json, at: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{at}: {value} fails {what}"));
            }
        };
        let is = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("a type that the documents do not use: {other}"),
        };
        let types = match &schema["type"] {
            Json::Array(types) => types.clone(),
            // Of `const` and the like.
            Json::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let of_type = types.iter().any(|t| is(t.as_str().expect("a name")));
        must(types.is_empty() || of_type, "type");
        if let Some(words) = schema["enum"].as_array() {
            must(words.contains(value), "enum");
        }
        if let Some(constant) = schema.get("const") {
            must(constant == value, "const");
        }
        if let (Some(min), Some(value)) = (schema["minimum"].as_i64(), value.as_i64()) {
            must(value >= min, "minimum");
        }
        if let (Some(max), Some(value)) = (schema["maximum"].as_i64(), value.as_i64()) {
            must(value <= max, "maximum");
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let pattern = regex::Regex::new(pattern).expect("a pattern");
            must(pattern.is_match(value.as_str().unwrap_or("")), "pattern");
        }
        if schema.get("anyOf").is_some() {
            must(value.as_str().is_some_and(|v| v.parse::<crate::net::Addr>().is_ok()), "format");
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            must(value.get(key.as_str().expect("a key")).is_some(), &format!("required {key}"));
        }
        for (key, member) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(key) {
                Some(schema) => faults.extend(self::faults(schema, member, &format!("{at}.{key}"))),
                None if schema.get("additionalProperties") == Some(&json!(true)) => {}
                None if schema["properties"].is_null() => {}
                None => faults.push(format!("{at}.{key} is in no document")),
            }
        }
        for item in value.as_array().into_iter().flatten() {
            if let Some(items) = schema.get("items") {
                faults.extend(self::faults(items, item, &format!("{at}[]")));
            }
        }
        faults
    }

    fn conforms(stream: Stream, row: &Row<'_>) {
        let schema: Json = serde_json::from_str(&json_schema(stream)).expect("JSON");
        let mut line = Vec::new();
        let context = sample::context();
        ndjson::Writer::new(&Layout::all(stream)).object(&mut line, &Shown::new(*row, &context));
        let line: Json = serde_json::from_slice(&line).expect("JSON");
        // Durations before 0 cannot be: `last` is never before `first`.
        assert_eq!(faults(&schema, &line, "line"), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_line_is_as_its_document_says(slice in sample::slice(), alert in sample::alert()) {
            conforms(Stream::Slices, &Row::from(&slice));
            conforms(Stream::Alerts, &Row::from(&alert));
        }
    }

    #[test]
    fn documents_know_every_word() {
        let check = |name: &str, words: &[&str]| {
            let mut fields = Stream::Slices.fields().chain(Stream::Alerts.fields());
            let field = fields.find(|field| field.name == name).expect(name);
            assert!(matches!(field.kind, Kind::Words(found) if found == words), "{name}");
        };
        check("direction", &{
            use Direction::{External, Inbound, Internal, Outbound};
            [Outbound, Inbound, Internal, External].map(Direction::as_str)
        });
        check("direction_by", &{
            use DirectionBy::{Exporter, First, Port, Start, Syn};
            [Exporter, Syn, Start, Port, First].map(DirectionBy::as_str)
        });
        check("end_reason", &{
            use EndReason::{Active, EndOfFlow, Forced, Idle, LackOfResources};
            [Idle, Active, EndOfFlow, Forced, LackOfResources].map(EndReason::as_str)
        });
        check("tcp_state", &{
            use TcpState::{Attempt, Closed, Established, Reset};
            [Attempt, Established, Closed, Reset].map(TcpState::as_str)
        });
        check("rule.level", &{
            use Level::{Critical, High, Informational, Low, Medium};
            [Informational, Low, Medium, High, Critical].map(Level::as_str)
        });
        check("tunnel", &{
            use TunnelKind::{Erspan, Geneve, Gre, GtpU, IpInIp, SixInFour, Teredo, Vxlan};
            [Gre, Erspan, IpInIp, SixInFour, Vxlan, Geneve, GtpU, Teredo].map(TunnelKind::as_str)
        });
    }
}
