//! The formats: each writes a [`Record`], wherever its values lie, into a buffer.
//!
//! Canonical NDJSON and CSV stand beside this module, Parquet in its own; here is what other tools'
//! schemas ask for. Every record of every format carries a version of Weir's schema, and of theirs
//! where they have one. docs/formats.md says what maps to what.

mod cef;
mod common;
mod detectflow;
mod doc;
mod ecs;
mod identity;
mod known;
mod made;
mod ocsf;
mod proto;
mod shape;
mod template;
#[cfg(test)]
mod tests;

pub use doc::{documents, markdown};
pub use identity::Identity;
#[cfg(feature = "spool")]
pub(super) use known::{Known, Places};
pub use template::{Template, TemplateError};

use self::shape::Shape;
use super::schema::{Layout, Record};
use super::{csv, ndjson};
use crate::config::Format;

/// Writes records of one stream in one format, each for itself: for lines of a file, values of a
/// Kafka topic, items of an HTTP request, bodies of syslog.
#[derive(Clone, Debug)]
pub struct Writer {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Ndjson(ndjson::Writer),
    Csv(csv::Writer),
    Shape(Shape),
    Cef(cef::Writer),
    Protobuf(proto::Writer),
}

/// Why there is no [`Writer`]: the format does not write single records of that stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{}` does not write single records of that stream", .0.as_str())]
pub struct NotByRecord(pub Format);

impl Writer {
    /// A writer of `layout`. Which fields are chosen matters to NDJSON, CSV and DetectFlow's form
    /// only; the operator's own are written by all.
    ///
    /// # Errors
    /// [`NotByRecord`] for Parquet, and for protobuf of alerts.
    pub fn new(format: Format, layout: &Layout) -> Result<Self, NotByRecord> {
        let stream = layout.stream();
        let shape = |members: &[shape::Member], own_in: &str, tail: &[shape::Member]| {
            Form::Shape(Shape::new(stream, members, (own_in, layout.own()), tail))
        };
        let form = match format {
            Format::Ndjson => Form::Ndjson(ndjson::Writer::new(layout)),
            Format::Csv => Form::Csv(csv::Writer::new(layout)),
            Format::Detectflow => shape(&detectflow::members(layout), "", detectflow::KEYS),
            Format::Ecs => shape(&ecs::members(stream), ecs::OWN_IN, &[]),
            Format::Ocsf => shape(&ocsf::members(stream), ocsf::OWN_IN, &[]),
            Format::Cef => Form::Cef(cef::Writer::new(layout)),
            Format::Protobuf if stream == super::Stream::Slices => {
                Form::Protobuf(proto::Writer::new(layout))
            }
            Format::Protobuf | Format::Parquet => return Err(NotByRecord(format)),
        };
        Ok(Self { form })
    }

    /// Appends what a file begins with: CSV's header line.
    pub fn header(&self, out: &mut Vec<u8>) {
        if let Form::Csv(writer) = &self.form {
            writer.header(out);
        }
    }

    /// Appends `record` without a line end: one JSON object, one line of CSV or CEF, or one or two
    /// messages of protobuf, each with its length before it.
    pub fn record<R: Record>(&mut self, out: &mut Vec<u8>, record: &R) {
        match &mut self.form {
            Form::Ndjson(writer) => writer.object(out, record),
            Form::Csv(writer) => {
                writer.line(out, record);
                out.pop();
            }
            Form::Shape(shape) => shape.object(out, record),
            Form::Cef(writer) => writer.record(out, record),
            Form::Protobuf(writer) => writer.record(out, record),
        }
    }

    /// Appends `record` as a file of many has it: with a line end, but for protobuf.
    pub fn line<R: Record>(&mut self, out: &mut Vec<u8>, record: &R) {
        self.record(out, record);
        if !matches!(self.form, Form::Protobuf(_)) {
            out.push(b'\n');
        }
    }
}
