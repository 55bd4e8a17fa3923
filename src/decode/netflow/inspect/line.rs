//! What the inspector says: one JSON object for each thing that a datagram holds.

use std::borrow::Cow;

use serde::Serialize;
use thiserror::Error;

use super::super::record::{Field, Layout};
use super::super::wire::DecodeError;
use crate::net::Addr;

/// One line: where it was found, and what was found.
///
/// `docs/schema/decode.schema.json` describes the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What the line holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The sender's address.
    pub exporter: Addr,
    /// The sender's UDP port; 0 where the input has none.
    pub port: u16,
    /// Octets from the start of the input to the thing that the line tells of.
    pub offset: u64,
    /// 5, 7, 9 or 10; `null` if the datagram has no header of those.
    pub version: Option<u16>,
    /// Observation domain; v9 source id; v5 engine type and id.
    pub domain: Option<u32>,
    /// The template's id; `null` where there is none.
    pub id: Option<u16>,
    /// The rest, by `kind`.
    #[serde(flatten)]
    pub body: Body,
}

/// The `type` of a line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the formats'")]
pub enum Kind {
    Message,
    Template,
    OptionsTemplate,
    Data,
    Options,
    Error,
}

/// What a line says beyond where.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are those of `Kind`")]
pub enum Body {
    Message(Message),
    Template(TemplateBody),
    Record { fields: Vec<Field> },
    Error(ErrorBody),
}

/// A message header.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// When the exporter sent it, by its own clock: microseconds since the epoch.
    pub export_time_us: i64,
    /// Sequence number, in the version's own unit.
    pub sequence: u32,
    /// Milliseconds since the exporter's boot; IPFIX has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u32>,
    /// Records, as a v5, v7 or v9 header says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u16>,
    /// Octets: as an IPFIX header says, else those of the datagram.
    pub length: usize,
    /// v5: the upper two bits of the sampling field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_mode: Option<u16>,
    /// v5: the lower fourteen bits of the sampling field; 0 says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_interval: Option<u16>,
}

/// A template or options template, or the withdrawal of one or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TemplateBody {
    /// Its fields; none in a withdrawal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<TemplateField>,
    /// Withdrawn rather than defined (RFC 7011 §8.1). The line's id is 2 or 3 if all of the kind
    /// are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Whether it replaces a different template of the same id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redefined: bool,
}

/// One field of a template.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TemplateField {
    /// The element's name; `null` if it is not known.
    pub name: Option<Cow<'static, str>>,
    /// Private enterprise number; 0 for IANA's.
    pub pen: u32,
    /// Element id, without the enterprise bit.
    pub id: u16,
    /// Octets; 65,535 is variable.
    pub length: u16,
    /// Whether it is a scope field.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scope: bool,
    /// The element's abstract data type; `null` if it is not known.
    #[serde(rename = "type")]
    pub data_type: Option<&'static str>,
}

impl TemplateBody {
    /// Tells of `layout`.
    #[must_use]
    pub fn of(layout: &Layout, redefined: bool) -> Self {
        let scope = usize::from(layout.template.scope_fields);
        let fields = layout.template.fields.iter().zip(&layout.elements).enumerate();
        let fields = fields.map(|(at, (spec, element))| TemplateField {
            name: element.as_ref().map(|element| element.name.clone()),
            pen: spec.pen,
            id: spec.element,
            length: spec.length,
            scope: at < scope,
            data_type: element.as_ref().map(|element| element.data_type.name()),
        });
        Self { fields: fields.collect(), withdrawn: false, redefined }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorBody {
    /// A stable name of the kind of fault.
    pub reason: &'static str,
    /// What should have been there.
    pub expected: Cow<'static, str>,
    /// The fault in words, with what was found; offsets in it count from the datagram's start.
    pub message: String,
}

/// Why something in a datagram was not shown. Offsets count from the start of the datagram.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Fault {
    /// The bytes are not what the format requires.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A data set whose template never came.
    #[error("no template {id} for the data set at offset {offset}")]
    NoTemplate {
        /// Of the set.
        offset: usize,
        /// The set's id.
        id: u16,
    },
    /// A data set for which there is no room to wait.
    #[error(
        "no room for the data set of {octets} octets at offset {offset}, which lacks \
             template {id}"
    )]
    WaitingFull {
        /// Of the set.
        offset: usize,
        /// The set's id.
        id: u16,
        /// The set's octets.
        octets: usize,
    },
    /// A template for which there is no room.
    #[error("no room for template {id} at offset {offset}")]
    TemplatesFull {
        /// Of the template record.
        offset: usize,
        /// Its id.
        id: u16,
    },
    /// A data set of a template whose fields have no octets.
    #[error("template {id} of the data set at offset {offset} describes records of no octets")]
    EmptyRecord {
        /// Of the set.
        offset: usize,
        /// The set's id.
        id: u16,
    },
    /// More fields in one datagram than are shown.
    #[error("more than {max} fields before offset {offset}: the rest of the set is left out")]
    FieldsMax {
        /// Of the record that was left out.
        offset: usize,
        /// The bound.
        max: usize,
    },
    /// Octets after the message that are not all zero.
    #[error("{octets} octets follow the message at offset {offset}")]
    Trailing {
        /// Of the first.
        offset: usize,
        /// How many.
        octets: usize,
    },
}

impl Fault {
    /// The `reason` of the line.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.reason(),
            Self::NoTemplate { .. } => "no_template",
            Self::WaitingFull { .. } => "waiting_full",
            Self::TemplatesFull { .. } => "templates_full",
            Self::EmptyRecord { .. } => "empty_record",
            Self::FieldsMax { .. } => "fields_max",
            Self::Trailing { .. } => "trailing_octets",
        }
    }

    /// What should have been there.
    #[must_use]
    pub fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Decode(error) => error.expected(),
            Self::NoTemplate { id, .. } | Self::WaitingFull { id, .. } => {
                format!("template {id} before its data").into()
            }
            Self::TemplatesFull { .. } => "fewer templates and exporters".into(),
            Self::EmptyRecord { .. } => "records of 1 octet or more".into(),
            Self::FieldsMax { max, .. } => format!("at most {max} fields in a datagram").into(),
            Self::Trailing { .. } => "the end of the datagram, or zeros".into(),
        }
    }

    /// Where in the datagram.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match *self {
            Self::Decode(error) => error.offset(),
            Self::NoTemplate { offset, .. }
            | Self::WaitingFull { offset, .. }
            | Self::TemplatesFull { offset, .. }
            | Self::EmptyRecord { offset, .. }
            | Self::FieldsMax { offset, .. }
            | Self::Trailing { offset, .. } => offset,
        }
    }

    /// The template's id, where the fault has one.
    #[must_use]
    pub const fn id(&self) -> Option<u16> {
        match *self {
            Self::Decode(
                DecodeError::TemplateId { id, .. } | DecodeError::TemplateFields { id, .. },
            )
            | Self::NoTemplate { id, .. }
            | Self::WaitingFull { id, .. }
            | Self::TemplatesFull { id, .. }
            | Self::EmptyRecord { id, .. } => Some(id),
            _ => None,
        }
    }
}
