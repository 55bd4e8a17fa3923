//! Records as lists of named fields, with the structured data types of RFC 6313 inside them.
//!
//! The slow, complete way: every field is named and rendered. What decodes flows is elsewhere.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::elements::{Element, Type, element, v9_scope};
use super::value::{Rendered, hex, malformed, render};
use super::wire::{DecodeError, FieldSpec, Template, VARIABLE, Version, be16, be32};

/// Lists within lists, at most; what is nested deeper is hex.
pub const LIST_DEPTH_MAX: u8 = 8;

/// A template whose elements have been looked up.
#[derive(Debug, PartialEq)]
pub struct Layout {
    /// As it came.
    pub template: Template,
    /// The element of each field, where it is known.
    pub elements: Vec<Option<Element>>,
}

impl Layout {
    /// Looks the elements of `template` up.
    #[must_use]
    pub fn new(version: Version, template: Template) -> Self {
        let scope = usize::from(template.scope_fields);
        let named = |(at, field): (usize, &FieldSpec)| match version {
            Version::V9 if at < scope => v9_scope(field.element),
            _ => element(field.pen, field.element),
        };
        let elements = template.fields.iter().enumerate().map(named).collect();
        Self { template, elements }
    }
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// The element's name; `null` if it is not known.
    pub name: Option<Cow<'static, str>>,
    /// Private enterprise number; 0 for IANA's.
    pub pen: u32,
    /// Element id, without the enterprise bit; the scope type for a scope field of v9.
    pub id: u16,
    /// Octets of the value.
    pub length: usize,
    /// Whether it is a scope field of an options record.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scope: bool,
    /// As [`super::value`] and RFC 6313 say.
    pub value: Value,
    /// Whether the octets are not what the element's type requires.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub malformed: bool,
}

/// What a record is read with: the templates that its lists may name, and the work that is left.
pub struct Reader<'a> {
    /// Finds a template of the record's exporter and domain.
    pub template: &'a dyn Fn(u16) -> Option<Arc<Layout>>,
    /// Fields that may yet be rendered; spent as records are read, list members included. Fields
    /// of length 0 cost nothing on the wire, so octets do not bound them.
    pub fields_left: usize,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("fields_left", &self.fields_left).finish_non_exhaustive()
    }
}

impl Reader<'_> {
    /// Reads the record of `layout` at the start of `octets`; returns its fields and its length.
    /// `None` if `fields_left` ran out.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], its offset counting from the start of `octets`.
    pub fn record(
        &mut self,
        layout: &Layout,
        octets: &[u8],
    ) -> Result<Option<(Vec<Field>, usize)>, DecodeError> {
        self.nested_record(layout, octets, 0)
    }

    fn nested_record(
        &mut self,
        layout: &Layout,
        octets: &[u8],
        depth: u8,
    ) -> Result<Option<(Vec<Field>, usize)>, DecodeError> {
        let Template { fields: specs, scope_fields, .. } = &layout.template;
        let mut at = 0;
        let mut fields = Vec::new();
        for (index, (spec, element)) in specs.iter().zip(&layout.elements).enumerate() {
            if self.fields_left == 0 {
                return Ok(None);
            }
            self.fields_left -= 1;
            let value = take(octets, &mut at, spec.length)?;
            let scope = index < usize::from(*scope_fields);
            fields.push(self.field(spec, element.as_ref(), value, scope, depth));
        }
        Ok(Some((fields, at)))
    }

    fn field(
        &mut self,
        spec: &FieldSpec,
        element: Option<&Element>,
        octets: &[u8],
        scope: bool,
        depth: u8,
    ) -> Field {
        let Rendered { value, malformed } = self.value(element, octets, depth);
        let name = element.map(|element| element.name.clone());
        let FieldSpec { element: id, pen, .. } = *spec;
        Field { name, pen, id, length: octets.len(), scope, value, malformed }
    }

    fn value(&mut self, element: Option<&Element>, octets: &[u8], depth: u8) -> Rendered {
        let data_type = element.map(|element| element.data_type);
        let list = match data_type {
            _ if octets.is_empty() => return render(data_type, octets),
            Some(Type::BasicList) if depth < LIST_DEPTH_MAX => self.basic_list(octets, depth),
            Some(Type::SubTemplateList) if depth < LIST_DEPTH_MAX => {
                self.sub_template_list(octets, depth)
            }
            Some(Type::SubTemplateMultiList) if depth < LIST_DEPTH_MAX => {
                self.sub_template_multi_list(octets, depth)
            }
            _ => return render(data_type, octets),
        };
        match list {
            Some(value) => Rendered { value, malformed: false },
            None => malformed(octets),
        }
    }

    /// RFC 6313 §4.5.1: semantic, field id, element length, enterprise number if its bit is set,
    /// and values to the end.
    fn basic_list(&mut self, octets: &[u8], depth: u8) -> Option<Value> {
        let (id, length) = (be16(octets, 1).ok()?, be16(octets, 3).ok()?);
        let (pen, mut at) = match id & 0x8000 {
            0 => (0, 5),
            _ => (be32(octets, 5).ok()?, 9),
        };
        let id = id & 0x7fff;
        let element = element(pen, id);
        let mut values = Vec::new();
        while at < octets.len() {
            self.fields_left = self.fields_left.checked_sub(1)?;
            let before = at;
            let value = take(octets, &mut at, length).ok()?;
            if at == before {
                return None;
            }
            values.push(self.value(element.as_ref(), value, depth + 1).value);
        }
        let name = element.map(|element| element.name);
        Some(json!({
            "semantic": semantic(octets[0]),
            "element": { "name": name, "pen": pen, "id": id, "length": length },
            "values": values,
        }))
    }

    /// RFC 6313 §4.5.2: semantic, template id, and records to the end.
    fn sub_template_list(&mut self, octets: &[u8], depth: u8) -> Option<Value> {
        let template = be16(octets, 1).ok()?;
        let (key, records) = self.sub_records(template, octets.get(3..)?, depth)?;
        Some(json!({ "semantic": semantic(octets[0]), "template": template, key: records }))
    }

    /// RFC 6313 §4.5.3: semantic, then template id, length with these four octets, and records,
    /// again and again to the end.
    fn sub_template_multi_list(&mut self, octets: &[u8], depth: u8) -> Option<Value> {
        let mut rest = octets.get(1..)?;
        let mut lists = Vec::new();
        while !rest.is_empty() {
            let (template, length) = (be16(rest, 0).ok()?, usize::from(be16(rest, 2).ok()?));
            let (key, records) = self.sub_records(template, rest.get(4..length)?, depth)?;
            lists.push(json!({ "template": template, key: records }));
            rest = rest.get(length..)?;
        }
        Some(json!({ "semantic": semantic(octets[0]), "lists": lists }))
    }

    /// The records of a list under the key `records`; without their template, under `octets`.
    fn sub_records(&mut self, id: u16, octets: &[u8], depth: u8) -> Option<(&'static str, Value)> {
        let Some(layout) = (self.template)(id) else {
            return Some(("octets", Value::String(hex(octets))));
        };
        let mut records = Vec::new();
        let mut at = 0;
        while at < octets.len() {
            let (fields, length) =
                self.nested_record(&layout, &octets[at..], depth + 1).ok().flatten()?;
            if length == 0 {
                return None;
            }
            at += length;
            records.push(serde_json::to_value(fields).ok()?);
        }
        Some(("records", Value::Array(records)))
    }
}

/// The octets of a field of `length`, which may be variable (RFC 7011 §7), at `at`, which moves
/// behind them.
fn take<'a>(octets: &'a [u8], at: &mut usize, length: u16) -> Result<&'a [u8], DecodeError> {
    let need = match length {
        VARIABLE => variable_length(octets, at)?,
        fixed => usize::from(fixed),
    };
    let (offset, have) = (*at, octets.len().saturating_sub(*at));
    let value = octets.get(offset..offset + need);
    *at += need;
    value.ok_or(DecodeError::Truncated { offset, need, have })
}

/// One octet, or 255 and two octets.
fn variable_length(octets: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let [short] = super::wire::octets(octets, *at)?;
    *at += 1;
    if short < 255 {
        return Ok(usize::from(short));
    }
    let long = be16(octets, *at)?;
    *at += 2;
    Ok(usize::from(long))
}

/// The names of structured data type semantics (RFC 6313 §4.4).
const fn semantic(octet: u8) -> &'static str {
    match octet {
        0 => "noneOf",
        1 => "exactlyOneOf",
        2 => "oneOrMoreOf",
        3 => "allOf",
        4 => "ordered",
        255 => "undefined",
        _ => "unassigned",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(id: u16, fields: &[(u16, u32, u16)]) -> Arc<Layout> {
        let field = |&(element, pen, length)| FieldSpec { element, pen, length };
        let fields = fields.iter().map(field).collect();
        let template = Template { id, scope_fields: 0, options: false, fields };
        Arc::new(Layout::new(Version::Ipfix, template))
    }

    /// The value of one field of element `id` with the template 300 of (port, string) at hand.
    fn list(id: u16, octets: &[u8], fields_left: usize) -> Option<Value> {
        let inner = layout(300, &[(7, 0, 2), (82, 0, VARIABLE)]);
        let template = |id| (id == 300).then(|| inner.clone());
        let mut reader = Reader { template: &template, fields_left };
        let length = u16::try_from(octets.len()).expect("short");
        let outer = layout(256, &[(id, 0, length)]);
        let (fields, length) = reader.record(&outer, octets).expect("a record")?;
        assert_eq!(length, octets.len());
        assert_eq!(fields[0].malformed, fields[0].value.is_string());
        Some(fields[0].value.clone())
    }

    #[test]
    fn lists_are_read() {
        let ports = [3, 0, 7, 0, 2, 0, 80, 1, 187];
        let element = json!({ "name": "sourceTransportPort", "pen": 0, "id": 7, "length": 2 });
        let want = json!({ "semantic": "allOf", "element": element, "values": [80, 443] });
        assert_eq!(list(291, &ports, 9), Some(want));

        let enterprise = [255, 0x80, 1, 255, 255, 0, 0, 0x72, 0x79, 1, 5, 0];
        let element = json!({ "name": "reverseOctetDeltaCount", "pen": 29_305, "id": 1,
                              "length": 65_535 });
        let want = json!({ "semantic": "undefined", "element": element, "values": [5, null] });
        assert_eq!(list(291, &enterprise, 9), Some(want));

        let port = |port| {
            json!({ "name": "sourceTransportPort", "pen": 0, "id": 7, "length": 2,
                                  "value": port })
        };
        let name = |name: &str| {
            json!({ "name": "interfaceName", "pen": 0, "id": 82,
                                        "length": name.len(), "value": name })
        };
        let records = json!([[port(80), name("e0")], [port(81), name("")]]);
        let sub = [4, 1, 44, 0, 80, 2, b'e', b'0', 0, 81, 0];
        let want = json!({ "semantic": "ordered", "template": 300, "records": records });
        assert_eq!(list(292, &sub, 9), Some(want));

        let multi = [0, 1, 44, 0, 9, 0, 80, 2, b'e', b'0', 1, 45, 0, 5, 9];
        let known = json!({ "template": 300, "records": [[port(80), name("e0")]] });
        let unknown = json!({ "template": 301, "octets": "09" });
        let want = json!({ "semantic": "noneOf", "lists": [known, unknown] });
        assert_eq!(list(293, &multi, 9), Some(want));
    }

    #[test]
    fn broken_lists_are_hex() {
        let endless = [3, 0, 7, 0, 0, 80];
        assert_eq!(list(291, &endless, 9), Some(json!("030007000050")));
        let short = [3, 0, 7, 0, 2, 80];
        assert_eq!(list(291, &short, 9), Some(json!("030007000250")));
        assert_eq!(list(292, &[3, 1, 44, 0], 9), Some(json!("03012c00")));
        assert_eq!(list(293, &[3, 1, 44, 0, 3], 9), Some(json!("03012c0003")));
        assert_eq!(list(291, &[3, 0, 7, 0, 2, 0, 80], 1), Some(json!("03000700020050")));
        assert_eq!(list(291, &[3], 0), None);
    }

    #[test]
    fn depth_is_bounded() {
        let mut nested = vec![3, 0, 7, 0, 2, 0, 80];
        for _ in 0..20 {
            let length = u8::try_from(nested.len()).expect("short");
            nested.splice(0..0, [3, 1, 35, 255, 255, length]);
        }
        let mut value = list(291, &nested, 100).expect("within the budget");
        let mut depth = 0;
        while value.is_object() {
            value = value["values"][0].clone();
            depth += 1;
        }
        assert_eq!(depth, LIST_DEPTH_MAX);
        assert!(value.is_string());
    }

    proptest! {
        #[test]
        fn any_lists_never_panic(id in 291_u16..=293,
                                 octets in prop::collection::vec(any::<u8>(), 0..200),
                                 head in prop::sample::select(vec![
                                     vec![], vec![3, 1, 44], vec![3, 1, 36, 255, 255],
                                     vec![3, 1, 44, 0, 40]])) {
            let _ = list(id, &[head, octets].concat(), 500);
        }
    }
}
