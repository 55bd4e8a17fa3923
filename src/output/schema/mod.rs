//! The canonical schema: one table of fields for slices and one for alerts.
//!
//! The first fields of a slice are DeepTempo's canonical NetFlow columns, in their order and types;
//! everything else is what Weir adds. Encoders, the documentation and the JSON Schema all read
//! this table and nothing else.

mod custom;
mod doc;
mod fields;
mod layout;
mod record;
mod values;

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;

pub use custom::{Fields, check as check_fields};
pub(super) use doc::property;
#[cfg(test)]
pub(crate) use doc::tests::faults;
pub use doc::{json_schema, markdown};
pub use layout::Layout;
pub use record::{Record, Shown};

use crate::config::{Config, Select};
use crate::detect::sequence::Verdict;
use crate::detect::{Alert, Evidence, RuleMeta, TaggedSlice, Technique};
use crate::flow::{Biflow, FlowId, Slice};
use crate::net::Addr;

/// Version of the schema, in the field `schema` of every record. It grows when a field changes its
/// name, type or meaning; a new optional field leaves it.
pub const VERSION: i64 = 1;

/// The two kinds of records that leave.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stream {
    /// Tagged slices.
    Slices,
    /// Alerts.
    Alerts,
}

impl Stream {
    /// The fields of its records, in the order in which they are written.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        let parts = match self {
            Self::Slices => fields::SLICES,
            Self::Alerts => fields::ALERTS,
        };
        parts.iter().copied().flatten()
    }
}

impl From<Select> for Stream {
    fn from(select: Select) -> Self {
        match select {
            Select::Slices | Select::Tagged => Self::Slices,
            Select::Alerts => Self::Alerts,
        }
    }
}

/// One field of a stream.
///
/// A name with a dot, `rule.id`, is a member of an object in JSON and a column of that name in CSV
/// and Parquet. Members of one object follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it may be absent: left out of JSON, empty in CSV, null in Parquet.
    pub nullable: bool,
    /// What it means, with its unit; one sentence in Markdown.
    pub doc: &'static str,
    /// Reads it from a record. Returns a value of `kind`, or [`Value::Null`] if `nullable`.
    pub get: for<'a> fn(&Row<'a>, &'a Context) -> Value<'a>,
}

/// Type of a field, and how each format writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Microseconds since the Unix epoch, UTC: a 64-bit integer.
    Timestamp,
    /// A duration in seconds, exact to the microsecond: a 64-bit float.
    Seconds,
    /// A probability or score: a 64-bit float.
    Float64,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer; counters above its maximum are written as the maximum.
    Int64,
    /// A truth value.
    Bool,
    /// UTF-8 text.
    Text,
    /// One of these words.
    Words(&'static [&'static str]),
    /// An IPv4 or IPv6 address as text.
    Address,
    /// 32 lower-case hexadecimal digits.
    Hex128,
    /// A list of texts. In CSV a JSON array.
    TextList,
    /// A list of addresses. In CSV a JSON array.
    AddressList,
    /// A list of detections in DetectFlow's form. In CSV and Parquet JSON as text.
    Detections,
    /// A list of techniques, `{id, name}`. In CSV and Parquet JSON as text.
    Techniques,
    /// A list of evidence, `{field, predicate, value}`. In CSV and Parquet JSON as text.
    Evidence,
}

/// A field's value; the variants that one [`Kind`] takes are named after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Timestamp`], [`Kind::Int32`] (and within its bounds) and [`Kind::Int64`].
    Int(i64),
    /// Of [`Kind::Seconds`], in microseconds.
    Seconds(i64),
    /// Of [`Kind::Float64`]; finite.
    Float(f64),
    /// Of [`Kind::Text`] and [`Kind::Words`].
    Text(&'a str),
    /// Of [`Kind::Text`], made for this record.
    Made(String),
    /// Of [`Kind::Address`].
    Address(Addr),
    /// Of [`Kind::Hex128`].
    Hex(u128),
    /// Of [`Kind::TextList`].
    Texts(&'a [String]),
    /// Of [`Kind::TextList`]: the rules' ids.
    RuleIds(&'a [Arc<RuleMeta>]),
    /// Of [`Kind::TextList`]: the techniques' ids.
    TechniqueIds(&'a [Technique]),
    /// Of [`Kind::AddressList`].
    Addresses(&'a [Addr]),
    /// Of [`Kind::Detections`].
    Detections(&'a [Arc<RuleMeta>]),
    /// Of [`Kind::Techniques`].
    Techniques(&'a [Technique]),
    /// Of [`Kind::Evidence`].
    Evidence(&'a [Evidence]),
    /// Of any kind of list, as the JSON that the other variants are written as: read from the
    /// spool.
    Json(&'a str),
}

impl Value<'_> {
    /// Calls `each` with every text of a value of [`Kind::TextList`] or [`Kind::AddressList`].
    pub fn texts(&self, mut each: impl FnMut(&str)) {
        match self {
            Self::Texts(texts) => texts.iter().for_each(|text| each(text)),
            Self::RuleIds(rules) => rules.iter().for_each(|rule| each(&rule.id)),
            Self::TechniqueIds(techniques) => techniques.iter().for_each(|t| each(&t.id)),
            Self::Addresses(addresses) => addresses.iter().for_each(|a| each(&a.to_string())),
            Self::Json("[]") => {}
            Self::Json(text) => {
                let texts: Vec<String> = serde_json::from_str(text).unwrap_or_default();
                texts.iter().for_each(|text| each(text));
            }
            _ => {}
        }
    }
}

/// What encoding needs besides the record: names that records carry as numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Context {
    /// Name of the sensor.
    pub sensor: String,
    /// Names of the sites; index 0 is `default`.
    pub sites: Vec<String>,
    /// Names of exporters, where the configuration gives them.
    pub exporters: BTreeMap<Addr, String>,
    /// Whether `community_id` is computed; it costs one SHA-1 a record.
    pub community_id: bool,
    /// Fields of the operator's own.
    pub fields: Fields,
}

impl Context {
    /// As `config` has it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let sites = config.site.iter().map(|site| site.name.clone());
        let named = |e: &crate::config::Exporter| Some((e.address, e.name.clone()?));
        Self {
            sensor: config.sensor.name.clone(),
            sites: std::iter::once("default".to_owned()).chain(sites).collect(),
            exporters: config.exporter.iter().filter_map(named).collect(),
            community_id: true,
            fields: Fields::new(config.sensor.fields.clone()),
        }
    }
}

/// One record on its way out: a slice with its tags, or an alert.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The flow with the slice's counters; of an alert, the flow so far.
    pub flow: &'a Biflow,
    /// The flow's identity.
    pub flow_id: FlowId,
    /// The rules that fired.
    pub rules: &'a [Arc<RuleMeta>],
    /// The slice, of a slice.
    pub slice: Option<&'a Slice>,
    /// The alert, of an alert.
    pub alert: Option<&'a Alert>,
    /// Title of the exclusion that keeps rules from the flow, of a slice.
    pub excluded: Option<&'a str>,
    /// What the sequence model says of the flow's pair.
    pub verdict: Option<&'a Verdict>,
}

impl<'a> From<&'a TaggedSlice> for Row<'a> {
    fn from(tagged: &'a TaggedSlice) -> Self {
        let slice = &tagged.slice;
        Self {
            flow: &slice.flow,
            flow_id: slice.flow_id,
            rules: &tagged.rules,
            slice: Some(slice),
            alert: None,
            excluded: tagged.excluded.as_deref(),
            verdict: tagged.verdict.as_ref(),
        }
    }
}

impl<'a> From<&'a Alert> for Row<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self {
            flow: &alert.flow,
            flow_id: alert.flow_id,
            rules: from_ref(&alert.rule),
            slice: None,
            alert: Some(alert),
            excluded: None,
            verdict: alert.verdict.as_ref(),
        }
    }
}
