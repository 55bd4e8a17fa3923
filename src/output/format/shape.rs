//! JSON objects of other people's schemas, each driven by one table of members.
//!
//! A [`Shape`] is that table made ready for one stream: it writes a record into one buffer, without
//! a tree between, and it is what the JSON Schema of the format is made from. So a document cannot
//! name a member that is not written, nor the other way round.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

use super::known::{Known, Places};
use crate::output::ndjson::{string, write_value};
use crate::output::schema::{Fields, Kind, Record, Stream, Value, property};

/// Objects that may be open one in another.
const DEPTH_MAX: usize = 8;

/// One member of the object.
#[derive(Clone)]
pub(super) struct Member {
    /// Where it stands: names of objects and its own, with dots between. Members of one object
    /// follow each other.
    pub path: Cow<'static, str>,
    /// What it is written from.
    pub from: From,
    /// Its JSON type.
    pub form: Form,
    /// Whether every record has it.
    pub always: bool,
    /// What it means; one sentence.
    pub doc: &'static str,
}

/// What a member is written from.
#[derive(Clone, Copy)]
pub(super) enum From {
    /// The field of Weir's schema with that name, as NDJSON writes it.
    Field(&'static str),
    /// This JSON on every record.
    Always(&'static str),
    /// What the function appends; `false` if the record has nothing for it.
    Made(fn(&mut Vec<u8>, &Known<'_>) -> bool),
}

/// JSON type of a member, as the JSON Schema has it.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Of a field of Weir's schema.
    Of(Kind),
    /// RFC 3339, UTC.
    Date,
    /// A whole number within these bounds.
    Whole(i64, i64),
    /// One of these numbers.
    Numbers(&'static [i64]),
    /// Always the same.
    Same,
    /// As the function says.
    Made(fn() -> Json),
}

/// A member that every record has.
pub(super) const fn always(
    path: &'static str,
    form: Form,
    from: From,
    doc: &'static str,
) -> Member {
    Member { path: Cow::Borrowed(path), from, form, always: true, doc }
}

/// A member that a record may lack.
pub(super) const fn maybe(path: &'static str, form: Form, from: From, doc: &'static str) -> Member {
    Member { path: Cow::Borrowed(path), from, form, always: false, doc }
}

/// A member that is the same on every record.
pub(super) const fn same(path: &'static str, json: &'static str, doc: &'static str) -> Member {
    always(path, Form::Same, From::Always(json), doc)
}

/// The members of `stream` that no member of `shape` is written from, under `object`: so nothing of
/// Weir's schema is left out. `but` names fields that made members tell already.
pub(super) fn rest(stream: Stream, shape: &[Member], object: &str, but: &[&str]) -> Vec<Member> {
    let told = |name: &str| {
        let from = |m: &Member| matches!(m.from, From::Field(field) if field == name);
        but.contains(&name) || shape.iter().any(from)
    };
    let fields = stream.fields().filter(|field| !told(field.name));
    let member = |field: &crate::output::schema::Field| {
        let path = format!("{object}.{}", field.name).into();
        let (form, from) = (Form::Of(field.kind), From::Field(field.name));
        Member { path, from, form, always: !field.nullable, doc: field.doc }
    };
    fields.map(member).collect()
}

/// A table of members, made ready for one stream.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    stream: Stream,
    places: Places,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    /// `"key":{`: the next steps up to [`Step::Close`] are its members.
    Open(Vec<u8>),
    /// Ends the object, or takes it away if nothing was written into it.
    Close,
    /// `"key":` and the value of the field at that place.
    Field(Vec<u8>, usize),
    /// `"key":` and what the function appends.
    Made(Vec<u8>, fn(&mut Vec<u8>, &Known<'_>) -> bool),
    /// Members as they stand.
    Constant(Vec<u8>),
}

impl Shape {
    /// `members` for `stream`, then the operator's own fields in an object of that name (that of
    /// the last member, or one that no member is in; at the top if the name is empty), then `tail`.
    pub(super) fn new(
        stream: Stream,
        members: &[Member],
        (own_in, own): (&str, &Fields),
        tail: &[Member],
    ) -> Self {
        let mut steps = Vec::new();
        let mut open = Vec::new();
        add(&mut steps, &mut open, stream, members);
        if own.iter().next().is_some() {
            let place: Vec<&str> =
                Some(own_in).filter(|name| !name.is_empty()).into_iter().collect();
            turn(&mut steps, &mut open, &place);
            steps.push(Step::Constant(constant(own)));
        }
        add(&mut steps, &mut open, stream, tail);
        turn(&mut steps, &mut open, &[]);
        Self { stream, places: Places::of(stream), steps }
    }

    /// Appends `record` as one JSON object.
    pub(super) fn object(&self, out: &mut Vec<u8>, record: &dyn Record) {
        let known = Known { record, at: &self.places, stream: self.stream };
        let mut opened = [0; DEPTH_MAX];
        let mut depth = 0;
        out.push(b'{');
        for step in &self.steps {
            match step {
                Step::Open(key) => {
                    opened[depth] = out.len();
                    depth += 1;
                    begin(out, key);
                }
                Step::Close => {
                    depth -= 1;
                    if out.last() == Some(&b'{') {
                        out.truncate(opened[depth]);
                    } else {
                        out.push(b'}');
                    }
                }
                Step::Field(key, place) => {
                    let value = record.value(*place);
                    if value != Value::Null {
                        begin(out, key);
                        write_value(out, &value);
                    }
                }
                Step::Made(key, make) => {
                    let before = out.len();
                    begin(out, key);
                    if !make(out, &known) {
                        out.truncate(before);
                    }
                }
                Step::Constant(members) => begin(out, members),
            }
        }
        out.push(b'}');
    }
}

/// A comma, unless an object has just been opened, and `bytes`.
fn begin(out: &mut Vec<u8>, bytes: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(bytes);
}

fn add(steps: &mut Vec<Step>, open: &mut Vec<String>, stream: Stream, members: &[Member]) {
    for member in members {
        let mut parts: Vec<&str> = member.path.split('.').collect();
        let key = parts.pop().expect("a path has a part");
        turn(steps, open, &parts);
        steps.push(step(stream, key, member.from));
    }
}

/// Closes and opens objects so that those of `want` are open.
fn turn(steps: &mut Vec<Step>, open: &mut Vec<String>, want: &[&str]) {
    let shared = open.iter().zip(want).take_while(|(a, b)| a == *b).count();
    for _ in shared..open.len() {
        steps.push(Step::Close);
    }
    open.truncate(shared);
    for name in &want[shared..] {
        steps.push(Step::Open(format!("\"{name}\":{{").into_bytes()));
        open.push((*name).to_owned());
    }
    assert!(open.len() <= DEPTH_MAX, "a table with deeper objects than the writer has room for");
}

fn step(stream: Stream, key: &str, from: From) -> Step {
    let key = format!("\"{key}\":");
    match from {
        From::Always(json) => Step::Constant((key + json).into_bytes()),
        From::Field(name) => {
            let place = stream.index_of(name).expect("a table that names fields of its stream");
            Step::Field(key.into_bytes(), place)
        }
        From::Made(make) => Step::Made(key.into_bytes(), make),
    }
}

fn constant(own: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in own.iter() {
        if !out.is_empty() {
            out.push(b',');
        }
        string(&mut out, name);
        out.push(b':');
        write_value(&mut out, &value);
    }
    out
}

/// The JSON Schema (draft 2020-12) of what a shape of `members` writes; in the object `own_in`
/// other members may stand, the operator's own.
pub(super) fn json_schema(members: &[Member], own_in: &str, title: &str) -> String {
    let mut top = object();
    for member in members {
        let parts: Vec<&str> = member.path.split('.').collect();
        insert(&mut top, &parts, member);
    }
    if !own_in.is_empty() && top["properties"].get(own_in).is_none() {
        top["properties"][own_in] = object();
        top["properties"][own_in]["description"] = json!("Fields of the operator's own.");
    }
    close(&mut top, "", own_in);
    top["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    top["title"] = json!(title);
    let text = serde_json::to_string_pretty(&top).expect("plain JSON has no failing parts");
    text + "\n"
}

fn object() -> Json {
    json!({"type": "object", "properties": Map::new(), "required": []})
}

fn insert(into: &mut Json, path: &[&str], member: &Member) {
    let (key, rest) = path.split_first().expect("a path has a part");
    if member.always {
        let required = into["required"].as_array_mut().expect("a list");
        if !required.iter().any(|name| name == key) {
            required.push(json!(key));
        }
    }
    let properties = into["properties"].as_object_mut().expect("an object");
    if rest.is_empty() {
        let mut schema = schema_of(member);
        schema["description"] = json!(member.doc);
        properties.insert((*key).to_owned(), schema);
    } else {
        insert(properties.entry(*key).or_insert_with(object), rest, member);
    }
}

/// Says of each object whether other members may stand in it.
fn close(schema: &mut Json, path: &str, own_in: &str) {
    if schema["properties"].is_null() {
        return;
    }
    schema["additionalProperties"] = json!(path == own_in);
    let properties = schema["properties"].as_object_mut().expect("an object");
    for (name, inner) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        close(inner, &path, own_in);
    }
}

fn schema_of(member: &Member) -> Json {
    match member.form {
        Form::Of(kind) => property(kind),
        Form::Date => json!({"type": "string", "format": "date-time"}),
        Form::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Form::Numbers(numbers) => json!({"type": "integer", "enum": numbers}),
        Form::Made(make) => make(),
        Form::Same => {
            let From::Always(text) = member.from else { return json!({}) };
            let value: Json = serde_json::from_str(text).expect("a table with good JSON");
            json!({"const": value})
        }
    }
}
