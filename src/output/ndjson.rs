//! NDJSON: one JSON object a line, absent fields left out.
//!
//! Written by hand into one buffer: no tree, no intermediate strings, keys prepared once. Integers
//! are exact over all 64 bits.

use std::io::Write as _;
use std::sync::Arc;

use super::schema::{Layout, Record, Value};
use crate::detect::{Evidence, RuleMeta, Technique};
use crate::net::Addr;

/// Writes the records of one stream.
#[derive(Clone, Debug)]
pub struct Writer {
    steps: Vec<Step>,
    /// Members that are the same in every object, each after a comma.
    constant: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    /// `,"key":{`: the fields up to the next [`Step::Close`] are its members.
    Open(String),
    /// `,"key":` and the place of the field whose value follows.
    Field(String, usize),
    Close,
}

impl Writer {
    /// A writer of the fields of `layout`, the operator's own at the end of each object.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let mut steps = Vec::new();
        let mut group = None;
        for (index, field) in layout.fields() {
            let (object, key) = match field.name.split_once('.') {
                Some((object, key)) => (Some(object), key),
                None => (None, field.name),
            };
            if group != object {
                if group.is_some() {
                    steps.push(Step::Close);
                }
                steps.extend(object.map(|object| Step::Open(format!(",\"{object}\":{{"))));
                group = object;
            }
            steps.push(Step::Field(format!(",\"{key}\":"), index));
        }
        if group.is_some() {
            steps.push(Step::Close);
        }
        let mut constant = Vec::new();
        for (name, value) in layout.own().iter() {
            constant.push(b',');
            string(&mut constant, name);
            constant.push(b':');
            write_value(&mut constant, &value);
        }
        Self { steps, constant }
    }

    /// Appends `record` as one JSON object, without a newline.
    pub fn object<R: Record + ?Sized>(&self, out: &mut Vec<u8>, record: &R) {
        out.push(b'{');
        for step in &self.steps {
            match step {
                Step::Open(key) => separated(out, key),
                Step::Close => out.push(b'}'),
                Step::Field(key, index) => {
                    let value = record.value(*index);
                    if !matches!(value, Value::Null) {
                        separated(out, key);
                        write_value(out, &value);
                    }
                }
            }
        }
        // Every record has its schema's version, so there is one before the comma.
        out.extend_from_slice(&self.constant);
        out.push(b'}');
    }

    /// Appends `record` as one line.
    pub fn line<R: Record + ?Sized>(&self, out: &mut Vec<u8>, record: &R) {
        self.object(out, record);
        out.push(b'\n');
    }
}

/// `key`, without the comma that it begins with if the object has just been opened.
fn separated(out: &mut Vec<u8>, key: &str) {
    let opened = usize::from(out.last() == Some(&b'{'));
    out.extend_from_slice(&key.as_bytes()[opened..]);
}

/// Appends `value` as JSON.
pub fn write_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(_) | Value::Int(_) | Value::Seconds(_) | Value::Float(_) => plain(out, value),
        // None of these holds a character that JSON escapes.
        Value::Address(_) | Value::Hex(_) => {
            out.push(b'"');
            plain(out, value);
            out.push(b'"');
        }
        Value::Text(text) => string(out, text),
        Value::Made(text) => string(out, text),
        Value::Texts(texts) => list(out, texts, |out, text| string(out, text)),
        Value::RuleIds(rules) => list(out, rules, |out, rule| string(out, &rule.id)),
        Value::TechniqueIds(list_of) => list(out, list_of, |out, t| string(out, &t.id)),
        Value::Addresses(addresses) => list(out, addresses, |out, address| {
            out.push(b'"');
            write_address(out, *address);
            out.push(b'"');
        }),
        Value::Detections(rules) => list(out, rules, detection),
        Value::Techniques(techniques) => list(out, techniques, technique),
        Value::Evidence(evidence) => list(out, evidence, proof),
        Value::Json(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Appends a value that has no structure as bare text, as CSV and Parquet want it; lists and
/// absent values append nothing.
pub(super) fn plain(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(value) => integer(out, *value),
        Value::Seconds(micros) => seconds(out, *micros),
        Value::Float(value) => write!(out, "{value:?}").expect("a buffer takes all"),
        Value::Address(address) => write_address(out, *address),
        Value::Hex(bits) => hex(out, *bits),
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Made(text) => out.extend_from_slice(text.as_bytes()),
        _ => {}
    }
}

pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `micros` as a decimal number of seconds: exact, at least one digit after the point, no trailing
/// zeros after it. It parses to the double nearest to micros / 1e6.
pub(super) fn seconds(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    let micros = micros.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1_000_000).as_bytes());
    // A one before the six digits keeps their zeros in front; it becomes the point.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(micros % 1_000_000 + 1_000_000).as_bytes();
    let zeros = digits[2..].iter().rev().take_while(|&&digit| digit == b'0').count();
    out.push(b'.');
    out.extend_from_slice(&digits[1..digits.len() - zeros]);
}

/// The address as text: dotted decimal, or RFC 5952.
pub(super) fn write_address(out: &mut Vec<u8>, address: Addr) {
    match address.to_v4() {
        Some(bits) => {
            // Four times an octet's digits and a point, each copied whole; the last point goes.
            let (mut text, mut length) = ([0; 4 * 4 + 1], 0);
            for octet in bits.to_be_bytes() {
                let (digits, count) = OCTETS[usize::from(octet)];
                text[length..length + 4].copy_from_slice(&digits);
                length += usize::from(count);
            }
            out.extend_from_slice(&text[..length - 1]);
        }
        None => write!(out, "{address}").expect("a buffer takes all"),
    }
}

/// Of each octet its decimal digits with a point after them, and how many characters that are.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (digits, count) = &mut octets[octet];
        let (hundreds, tens, ones) = (octet / 100, octet / 10 % 10, octet % 10);
        *count = if octet >= 100 {
            4
        } else if octet >= 10 {
            3
        } else {
            2
        };
        let last = *count as usize - 2;
        digits[last] = b'0' + ones as u8;
        if octet >= 10 {
            digits[last - 1] = b'0' + tens as u8;
        }
        if octet >= 100 {
            digits[0] = b'0' + hundreds as u8;
        }
        octet += 1;
    }
    octets
};

fn hex(out: &mut Vec<u8>, bits: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, octet) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(octet >> 4)];
        pair[1] = DIGITS[usize::from(octet & 15)];
    }
    out.extend_from_slice(&text);
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// A detection as DetectFlow writes it: `rule_id, rule_title, severity, technique_ids, techniques`.
fn detection(out: &mut Vec<u8>, rule: &Arc<RuleMeta>) {
    out.extend_from_slice(b"{\"rule_id\":");
    string(out, &rule.id);
    out.extend_from_slice(b",\"rule_title\":");
    string(out, &rule.title);
    out.extend_from_slice(b",\"severity\":");
    string(out, rule.level.as_str());
    out.extend_from_slice(b",\"technique_ids\":");
    list(out, &rule.techniques, |out, technique| string(out, &technique.id));
    out.extend_from_slice(b",\"techniques\":");
    list(out, &rule.techniques, technique);
    out.push(b'}');
}

fn technique(out: &mut Vec<u8>, technique: &Technique) {
    out.extend_from_slice(b"{\"id\":");
    string(out, &technique.id);
    out.extend_from_slice(b",\"name\":");
    match &technique.name {
        Some(name) => string(out, name),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

fn proof(out: &mut Vec<u8>, evidence: &Evidence) {
    out.extend_from_slice(b"{\"field\":");
    string(out, &evidence.field);
    out.extend_from_slice(b",\"predicate\":");
    string(out, &evidence.predicate);
    out.extend_from_slice(b",\"value\":");
    string(out, &evidence.value);
    out.push(b'}');
}

/// `text` as a JSON string (RFC 8259 §7): only what must be escaped is.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..index]);
        start = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}
