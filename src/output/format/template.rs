//! A text of one's own with the values of a record: `{src_ip}` becomes the address.

use crate::output::ndjson::{plain, string, write_value};
use crate::output::schema::{Layout, Record, Stream, Value};

/// A text with places for fields. Values are escaped for the inside of a JSON string; a list becomes
/// its texts with commas between, an absent value nothing.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(usize),
}

/// Why a text is no template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// A name in braces that the records have no field of.
    #[error("`{{{0}}}` names no field of these records (docs/schema.md); `{{{{` is a brace")]
    Unknown(String),
    /// A brace without its partner.
    #[error("a `{0}` stands alone: `{{{{` and `}}}}` are braces")]
    Brace(char),
}

impl Template {
    /// The template `text` over the fields of the stream of `layout` and its own.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn new(text: &str, layout: &Layout) -> Result<Self, TemplateError> {
        let (mut parts, mut plain_text, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain_text += &rest[..at];
            let brace = if rest[at..].starts_with('{') { '{' } else { '}' };
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain_text.push(brace);
                rest = after;
                continue;
            }
            let name = rest.split_once('}').filter(|_| brace == '{');
            let (name, after) = name.ok_or(TemplateError::Brace(brace))?;
            rest = after;
            match layout.stream().index_of(name) {
                Some(index) => {
                    parts.push(Part::Text(std::mem::take(&mut plain_text)));
                    parts.push(Part::Field(index));
                }
                None => plain_text += &own(layout, name)?,
            }
        }
        plain_text += rest;
        parts.push(Part::Text(plain_text));
        Ok(Self { parts })
    }

    /// Whether `text` is a template over the fields of `stream`; names of the operator's own fields
    /// are among `own`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn check(
        text: &str,
        stream: Stream,
        own: &crate::output::schema::Fields,
    ) -> Result<(), TemplateError> {
        Self::new(text, &Layout::all(stream).with(own)).map(|_| ())
    }

    /// Appends the text with the values of `record`.
    pub fn write<R: Record>(&self, out: &mut Vec<u8>, record: &R) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(index) => inside(out, &record.value(*index)),
            }
        }
    }
}

/// The value of a field of the operator's own.
fn own(layout: &Layout, name: &str) -> Result<String, TemplateError> {
    let value = layout.own().iter().find(|(own, _)| *own == name);
    let (_, value) = value.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
    let mut text = Vec::new();
    inside(&mut text, &value);
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// Appends `value` as the inside of a JSON string.
fn inside(out: &mut Vec<u8>, value: &Value<'_>) {
    let mut quoted = Vec::new();
    match value {
        Value::Null => return,
        Value::Text(text) => string(&mut quoted, text),
        Value::Made(text) => string(&mut quoted, text),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Seconds(_)
        | Value::Float(_)
        | Value::Address(_)
        | Value::Hex(_) => return plain(out, value),
        Value::Detections(_) | Value::Techniques(_) | Value::Evidence(_) => {
            let mut json = Vec::new();
            write_value(&mut json, value);
            string(&mut quoted, &String::from_utf8_lossy(&json));
        }
        list => {
            let mut texts = Vec::new();
            list.texts(|text| texts.push(text.to_owned()));
            match list {
                // Out of the spool, where every list is JSON.
                Value::Json(json) if texts.is_empty() && *json != "[]" => string(&mut quoted, json),
                _ => string(&mut quoted, &texts.join(", ")),
            }
        }
    }
    out.extend_from_slice(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::FieldValue;
    use crate::detect::{Alert, Level, RuleMeta};
    use crate::net::Addr;
    use crate::output::Row;
    use crate::output::schema::{Context, Fields, Shown};

    fn layout() -> Layout {
        let own = [("tenant".to_owned(), FieldValue::Text("a\"b".to_owned()))];
        Layout::all(Stream::Alerts).with(&Fields::new(own))
    }

    #[test]
    fn names_become_values_inside_a_string() {
        let rule = RuleMeta {
            title: "Odd \"port\"\n".into(),
            level: Level::High,
            tactics: vec!["discovery".into(), "impact".into()],
            ..RuleMeta::default()
        };
        let mut alert = Alert { rule: Arc::new(rule), ..Alert::default() };
        (alert.flow.src, alert.flow.dst_port) = (Addr::v4(0x0a00_0001), 443);
        let context = Context::default();
        let check = |text: &str, want: &str| {
            let template = Template::new(text, &layout()).expect(text);
            let mut out = Vec::new();
            template.write(&mut out, &Shown::new(Row::from(&alert), &context));
            assert_eq!(String::from_utf8(out).expect("text"), want);
        };
        check(
            r#"{{"text":"[{rule.level}] {rule.title}: {src_ip} to port {dest_port}"}}"#,
            r#"{"text":"[high] Odd \"port\"\n: 10.0.0.1 to port 443"}"#,
        );
        check("{tactics}|{vlan}|{tenant}|", r#"discovery, impact||a\"b|"#);
        check("no names", "no names");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let check = |text: &str, want: &str| {
            let error = Template::new(text, &layout()).expect_err(text).to_string();
            assert!(error.contains(want), "{error}");
        };
        check("{nothing}", "`{nothing}` names no field");
        check("{src_ip", "a `{` stands alone");
        check("src_ip}", "a `}` stands alone");
    }
}
