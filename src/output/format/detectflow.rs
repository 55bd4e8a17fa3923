//! Events as DetectFlow tags them: the record's fields, the operator's own, and then exactly two
//! keys, `sigma_rule_ids` and `sigma_detections`. Both are there, empty, where no rule fired.

use super::known::{Known, Tag};
use super::made::put_list;
use super::shape::From::{Field, Made};
use super::shape::{Form, Member, always};
use crate::output::ndjson::{string, write_value};
use crate::output::schema::{Kind, Layout, Stream};

/// Members of an alert that the two keys tell.
const TOLD: &[&str] = &["rule", "tactics", "technique_ids", "techniques"];

/// The fields of `layout` but those that tell of rules.
pub(super) fn members(layout: &Layout) -> Vec<Member> {
    let object = |name: &'static str| name.split('.').next().unwrap_or(name);
    let tells = |name: &'static str| KEYS.iter().any(|key| key.path == name);
    let fields = layout.fields().map(|(_, field)| field);
    let fields = fields.filter(|field| !tells(field.name) && !TOLD.contains(&object(field.name)));
    let member = |field: &'static crate::output::schema::Field| Member {
        path: field.name.into(),
        from: Field(field.name),
        form: Form::Of(field.kind),
        always: !field.nullable,
        doc: field.doc,
    };
    fields.map(member).collect()
}

/// What stands at the end.
pub(super) const KEYS: &[Member] = &[
    always(
        "sigma_rule_ids",
        Form::Of(Kind::TextList),
        Made(ids),
        "Ids of the rules that fired, in the order of firing.",
    ),
    always(
        "sigma_detections",
        Form::Of(Kind::Detections),
        Made(detections),
        "The same rules: id, title, level and ATT&CK techniques.",
    ),
];

fn ids(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_list(out, &known.tags(), |out, tag| string(out, &tag.id));
    true
}

fn detections(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    match known.stream {
        Stream::Slices => write_value(out, &known.value(known.at.detections)),
        Stream::Alerts => put_list(out, &known.tags(), detection),
    }
    true
}

fn detection(out: &mut Vec<u8>, tag: &Tag<'_>) {
    let mut member = |key: &str, text: &str| {
        out.extend_from_slice(key.as_bytes());
        string(out, text);
    };
    member("{\"rule_id\":", &tag.id);
    member(",\"rule_title\":", &tag.title);
    member(",\"severity\":", &tag.level);
    out.extend_from_slice(b",\"technique_ids\":");
    put_list(out, &tag.techniques, |out, attack| string(out, &attack.id));
    out.extend_from_slice(b",\"techniques\":");
    put_list(out, &tag.techniques, |out, attack| {
        out.extend_from_slice(b"{\"id\":");
        string(out, &attack.id);
        out.extend_from_slice(b",\"name\":");
        match &attack.name {
            Some(name) => string(out, name),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    });
    out.push(b'}');
}
