//! The formats as documents, made from their tables.

use super::shape::{Form, From, Member, json_schema};
use super::{cef, detectflow, ecs, ocsf, proto};
use crate::output::schema::{Kind, Layout, Stream, VERSION};

const HEAD: &str = "\
# Formats

<!-- Made from src/output/format by tests/it/formats.rs (WEIR_BLESS=1 writes it): do not edit. -->

What `format = \"...\"` of a sink writes. The canonical schema is [schema.md](schema.md); the other
formats say the same in the words of other tools. Every record carries the version of Weir's schema,
and that of the other schema where it has one. A record's identity (a slice's flow id and number, an
alert's id) is the same when the record is sent again, so a reader can drop duplicates by it.

| format | a record | schema | versions | files | S3 | Kafka | HTTP | syslog |
|---|---|---|---|---|---|---|---|---|
| `ndjson` | a JSON object | [slice](schema/slice.schema.json), [alert](schema/alert.schema.json) | `schema` | yes | yes | yes | yes | yes |
| `csv` | a line, RFC 4180 | [schema.md](schema.md) | `schema` | yes | yes | | | |
| `parquet` | a row | [schema.md](schema.md) | `schema` | yes | yes | | | |
| `detectflow` | a JSON object | [slice](schema/detectflow.slice.schema.json), [alert](schema/detectflow.alert.schema.json) | `schema` | yes | yes | yes | yes | yes |
| `ecs` | a JSON object | [slice](schema/ecs.slice.schema.json), [alert](schema/ecs.alert.schema.json) | `weir.schema`, `ecs.version` | yes | yes | yes | yes | yes |
| `ocsf` | a JSON object | [slice](schema/ocsf.slice.schema.json), [alert](schema/ocsf.alert.schema.json) | `unmapped.schema`, `metadata.version` | yes | yes | yes | yes | yes |
| `protobuf` | messages, length before each | [flow.proto](schema/flow.proto), slices only | `weir_schema` | yes | yes | yes | | |
| `cef` | a line | below | `cn3` | yes | yes | yes | | yes |

Another pair is an error of the configuration, with file, line and key. `fields` of a sink chooses
among the fields of `ndjson`, `csv`, `parquet` and `detectflow`; the other formats are whole.
The operator's own fields stand at the end of the object in `ndjson` and before the two keys in
`detectflow`, in `labels` in `ecs`, in `unmapped` in `ocsf`, in `weir_labels` in `protobuf`, under
their own names in the extension in `cef`.
";

/// Every document that is made from the formats' tables: its path, and its text.
#[must_use]
pub fn documents() -> Vec<(String, String)> {
    let mut documents = vec![
        ("docs/formats.md".to_owned(), markdown()),
        ("docs/schema/flow.proto".to_owned(), proto::text()),
    ];
    for (stream, name) in STREAMS {
        let mut add = |format: &str, members: &[Member], own_in: &str, title: &str| {
            let path = format!("docs/schema/{format}.{name}.schema.json");
            documents.push((path, json_schema(members, own_in, title)));
        };
        let layout = Layout::all(stream);
        let mut members = detectflow::members(&layout);
        members.extend_from_slice(detectflow::KEYS);
        add("detectflow", &members, "", "An event with DetectFlow's two keys");
        add("ecs", &ecs::members(stream), ecs::OWN_IN, "A document of ECS");
        let title = match stream {
            Stream::Slices => "A Network Activity of OCSF (4001)",
            Stream::Alerts => "A Detection Finding of OCSF (2004)",
        };
        add("ocsf", &ocsf::members(stream), ocsf::OWN_IN, title);
    }
    documents
}

const STREAMS: [(Stream, &str); 2] = [(Stream::Slices, "slice"), (Stream::Alerts, "alert")];

/// docs/formats.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = format!("{HEAD}\nThis is version {VERSION} of Weir's schema.\n");
    text += "\n## DetectFlow\n\n\
             The record's fields, the operator's own, then exactly two keys: `sigma_rule_ids` and \
             `sigma_detections`\n(`rule_id`, `rule_title`, `severity`, `technique_ids`, `techniques`), \
             in the order of firing. Where no rule\nfired, both are empty. An alert is an event with \
             one rule.\n";
    text += &format!("\n## ECS {}\n", ecs::VERSION);
    text += "\nWhat ECS has no field for stands under `weir` with Weir's own name. Severities are on \
             CEF's scale.\n";
    table(&mut text, ecs::members);
    text += &format!("\n## OCSF {}\n", ocsf::VERSION);
    text += "\nA slice is a Network Activity (class 4001), an alert a Detection Finding (class 2004). \
             What the classes have\nno attribute for stands under `unmapped`. A slice on which a rule \
             fired has the profile `security_control`.\n";
    table(&mut text, ocsf::members);
    text += "\n## Protobuf\n\n\
             goflow2's `FlowMessage`: one message for each direction of a slice that was seen, with \
             its length before it\nas a varint. A Kafka value holds the messages of one slice. \
             [flow.proto](schema/flow.proto) says what is\nwritten; Weir's own fields have numbers \
             from 3001 on. Alerts have no form in it.\n";
    text += "\n## CEF\n\n\
             `CEF:0|Weir|Weir|VERSION|SIGNATURE|NAME|SEVERITY|EXTENSION`. Of a slice the signature is \
             `flow` and the\nseverity that of the strongest rule that fired, 0 where none did; of an \
             alert they are the rule's id, title\nand level (informational 1, low 3, medium 5, high 8, \
             critical 10). A key is left out where the record has no\nvalue for it. In CEF `in` is \
             from source to destination, `out` the way back.\n\n| key | label | meaning |\n|---|---|---|\n";
    for key in cef::KEYS {
        text += &format!("| `{}` | {} | {} |\n", key.name, key.label, key.doc);
    }
    text
}

fn table(text: &mut String, members: fn(Stream) -> Vec<Member>) {
    for (stream, name) in STREAMS {
        *text += &format!(
            "\n### Of a {name}\n\n| member | from | absent | meaning |\n|---|---|---|---|\n"
        );
        for member in members(stream) {
            let from = match member.from {
                From::Field(name) => format!("`{name}`"),
                From::Always(json) => format!("always `{json}`"),
                From::Made(_) => made(member.form),
            };
            let absent = if member.always { "" } else { "may be" };
            *text += &format!("| `{}` | {from} | {absent} | {} |\n", member.path, member.doc);
        }
    }
}

/// What kind of value a member has that no single field tells.
fn made(form: Form) -> String {
    let kind = match form {
        Form::Date => "a date",
        Form::Whole(..) | Form::Numbers(_) => "a number",
        Form::Of(Kind::Bool) => "a truth value",
        Form::Of(Kind::TextList | Kind::AddressList) => "a list",
        Form::Of(_) => "a text",
        Form::Same | Form::Made(_) => "a structure",
    };
    kind.to_owned()
}
