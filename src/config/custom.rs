//! `[sensor.fields]` and `add` of a sink: fields of the operator's own on every record.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::check::Report;

/// The value of a field of the operator's own: the same on every record.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = FieldValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number of 64 bits, true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<FieldValue, E> {
                Ok(FieldValue::Bool(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<FieldValue, E> {
                Ok(FieldValue::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<FieldValue, E> {
                let value = i64::try_from(value);
                value.map(FieldValue::Integer).map_err(|_| E::custom("it has more than 64 bits"))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<FieldValue, E> {
                Ok(FieldValue::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reports names under `key` that no field may have.
pub(super) fn check(key: &str, fields: &BTreeMap<String, FieldValue>, report: &mut Report) {
    const FIELDS_MAX: usize = 64;
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if fields.len() > FIELDS_MAX {
        report.add(key, format!("{} fields are over the limit of {FIELDS_MAX}", fields.len()));
    }
    for name in fields.keys() {
        if !(1..=64).contains(&name.len()) || !name.chars().all(of_name) {
            let message = "a name has 1 to 64 of a to z, 0 to 9 and `_`";
            report.add(&format!("{key}.{name}"), message.into());
        }
    }
}
