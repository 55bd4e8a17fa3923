//! Everything that export datagrams hold, shown: messages, templates, records, faults.
//!
//! This is the slow, complete reading behind `weir decode`. It keeps templates as a collector
//! does, so data before its template waits and is shown when the template has come.

mod fixed;
mod line;
mod memory;
mod payloads;

use std::sync::Arc;

pub use line::{Body, ErrorBody, Fault, Kind, Line, Message, TemplateBody, TemplateField};
pub use payloads::payloads;

use self::memory::{Memory, Waiting};
use super::record::{Layout, Reader};
use super::wire::{
    self, DecodeError, Header, Set, SetKind, TEMPLATE_ID_MIN, TemplateChange, Version,
};
use crate::config;
use crate::net::Addr;

/// Fields shown of one datagram, at most. The fullest honest datagram has one for each octet.
pub const DATAGRAM_FIELDS_MAX: usize = 262_144;

/// The message that something came in.
#[derive(Clone, Copy, Debug)]
struct Origin {
    exporter: Addr,
    port: u16,
    /// Of the datagram, in the input.
    offset: u64,
    version: Version,
    domain: u32,
}

/// Receives lines.
type Each<'a> = &'a mut dyn FnMut(Line);

/// Shows export datagrams line by line, with the templates of all before.
#[derive(Debug)]
pub struct Inspector {
    memory: Memory,
}

impl Inspector {
    /// An inspector that remembers within `bounds`.
    #[must_use]
    pub const fn new(bounds: config::Netflow) -> Self {
        Self { memory: Memory::new(bounds) }
    }

    /// Shows one datagram: `payload` is one whole UDP payload, untrusted, that `exporter` sent
    /// from `port`, and `offset` is where in the input it begins.
    ///
    /// Gives `each` a message line, then lines for what is in it, in order; behind a template the
    /// records that waited for it. At most [`DATAGRAM_FIELDS_MAX`] fields, waiting ones apart.
    pub fn datagram(
        &mut self,
        exporter: Addr,
        port: u16,
        offset: u64,
        payload: &[u8],
        each: Each<'_>,
    ) {
        let header = match wire::header(payload) {
            Ok(header) => header,
            Err(error) => {
                let fault = Fault::Decode(error);
                let place = offset + fault.offset() as u64;
                let (kind, body) = (Kind::Error, error_body(&fault));
                let (version, domain, id) = (None, None, None);
                each(Line { kind, exporter, port, offset: place, version, domain, id, body });
                return;
            }
        };
        let Header { version, domain, .. } = header;
        let origin = Origin { exporter, port, offset, version, domain };
        let message = Body::Message(message(&header, payload));
        each(origin.line(Kind::Message, 0, None, message));
        match version {
            Version::V5 | Version::V7 => fixed_records(&origin, &header, payload, each),
            Version::V9 | Version::Ipfix => self.sets(&origin, &header, payload, each),
        }
    }

    /// Says which data sets still wait for a template. Call it when the input has ended.
    pub fn finish(&mut self, each: Each<'_>) {
        for Waiting { origin, id, offset, .. } in self.memory.drain() {
            origin.fault(&Fault::NoTemplate { offset: offset - 4, id }, each);
        }
    }

    fn sets(&mut self, origin: &Origin, header: &Header, payload: &[u8], each: Each<'_>) {
        let mut fields_left = DATAGRAM_FIELDS_MAX;
        for set in wire::sets(payload, header) {
            match set {
                Ok(set) => self.set(origin, &set, true, &mut fields_left, each),
                Err(error) => {
                    // What is whole in a set that is cut short is shown before the fault.
                    if let Some(set) = cut_short(header, payload, &error) {
                        self.set(origin, &set, false, &mut fields_left, each);
                    }
                    origin.fault(&error.into(), each);
                }
            }
        }
        let rest = &payload[header.length..];
        if rest.iter().any(|&octet| octet != 0) {
            let (offset, octets) = (header.length, rest.len());
            origin.fault(&Fault::Trailing { offset, octets }, each);
        }
    }

    /// Shows one set; `whole` is whether all its octets are there.
    fn set(
        &mut self,
        origin: &Origin,
        set: &Set<'_>,
        whole: bool,
        fields_left: &mut usize,
        each: Each<'_>,
    ) {
        if set.kind != SetKind::Data {
            for change in wire::templates(origin.version, set) {
                match change {
                    Ok((offset, change)) => self.change(origin, set.kind, offset, change, each),
                    Err(DecodeError::Truncated { .. }) if !whole => {}
                    Err(error) => origin.fault(&error.into(), each),
                }
            }
            return;
        }
        if let Some(layout) = self.memory.template(origin, set.id) {
            self.records(origin, &layout, set.offset, set.body, whole, fields_left, each);
            return;
        }
        let (id, offset, body) = (set.id, set.offset, set.body.to_vec());
        if self.memory.wait(Waiting { origin: *origin, id, offset, body }).is_err() {
            let (offset, octets) = (offset - 4, set.body.len());
            origin.fault(&Fault::WaitingFull { offset, id, octets }, each);
        }
    }

    fn change(
        &mut self,
        origin: &Origin,
        set_kind: SetKind,
        offset: usize,
        change: TemplateChange,
        each: Each<'_>,
    ) {
        let kind = match set_kind {
            SetKind::OptionsTemplate => Kind::OptionsTemplate,
            _ => Kind::Template,
        };
        let withdrawn = Body::Template(TemplateBody { withdrawn: true, ..Default::default() });
        match change {
            TemplateChange::Define(template) => {
                let id = template.id;
                let layout = Arc::new(Layout::new(origin.version, template));
                let kept = self.memory.define(origin, Arc::clone(&layout));
                let body =
                    TemplateBody::of(&layout, kept.as_ref().is_ok_and(|&redefined| redefined));
                each(origin.line(kind, offset, Some(id), Body::Template(body)));
                if kept.is_err() {
                    origin.fault(&Fault::TemplatesFull { offset, id }, each);
                    return;
                }
                for set in self.memory.release(origin, id) {
                    let Waiting { origin, offset, body, .. } = set;
                    let mut fields_left = DATAGRAM_FIELDS_MAX;
                    self.records(&origin, &layout, offset, &body, true, &mut fields_left, each);
                }
            }
            TemplateChange::Withdraw { id } => {
                self.memory.withdraw(origin, id);
                each(origin.line(kind, offset, Some(id), withdrawn));
            }
            TemplateChange::WithdrawAll { .. } => {
                self.memory.withdraw_all(origin, set_kind);
                let id = if set_kind == SetKind::OptionsTemplate { 3 } else { 2 };
                each(origin.line(kind, offset, Some(id), withdrawn));
            }
        }
    }

    /// Shows the records of a data set, whose octets `body` begin at `start` of the datagram.
    #[expect(clippy::too_many_arguments, reason = "where, what, and how much of it")]
    fn records(
        &self,
        origin: &Origin,
        layout: &Layout,
        start: usize,
        body: &[u8],
        whole: bool,
        fields_left: &mut usize,
        each: Each<'_>,
    ) {
        let template = |id| self.memory.template(origin, id);
        let mut reader = Reader { template: &template, fields_left: *fields_left };
        let id = layout.template.id;
        let kind = if layout.template.options { Kind::Options } else { Kind::Data };
        let mut at = 0;
        while at < body.len() && !is_padding(layout, &body[at..]) {
            let offset = start + at;
            match reader.record(layout, &body[at..]) {
                Ok(Some((_, 0))) => {
                    let fault = Fault::EmptyRecord { offset: start - 4, id };
                    origin.fault(&fault, each);
                    break;
                }
                Ok(Some((fields, length))) => {
                    at += length;
                    each(origin.line(kind, offset, Some(id), Body::Record { fields }));
                }
                Ok(None) => {
                    let max = DATAGRAM_FIELDS_MAX;
                    origin.fault(&Fault::FieldsMax { offset, max }, each);
                    break;
                }
                Err(DecodeError::Truncated { .. }) if !whole => break,
                Err(error) => {
                    origin.fault(&shifted(error, offset).into(), each);
                    break;
                }
            }
        }
        *fields_left = reader.fields_left;
    }
}

impl Origin {
    fn line(&self, kind: Kind, offset: usize, id: Option<u16>, body: Body) -> Line {
        let Self { exporter, port, version, domain, .. } = *self;
        let (version, domain) = (Some(version.number()), Some(domain));
        let offset = self.offset + offset as u64;
        Line { kind, exporter, port, offset, version, domain, id, body }
    }

    fn fault(&self, fault: &Fault, each: Each<'_>) {
        each(self.line(Kind::Error, fault.offset(), fault.id(), error_body(fault)));
    }
}

fn error_body(fault: &Fault) -> Body {
    let (reason, expected) = (fault.reason(), fault.expected());
    Body::Error(ErrorBody { reason, expected, message: fault.to_string() })
}

fn message(header: &Header, payload: &[u8]) -> Message {
    let ipfix = header.version == Version::Ipfix;
    let v5 = header.version == Version::V5;
    let claimed = wire::be16(payload, 2).map_or(header.length, usize::from);
    Message {
        export_time_us: header.export_time.0,
        sequence: header.sequence,
        uptime_ms: header.uptime_ms,
        count: (!ipfix).then_some(header.count),
        length: if ipfix { claimed } else { header.length },
        sampling_mode: v5.then_some(header.sampling >> 14),
        sampling_interval: v5.then_some(header.sampling & 0x3fff),
    }
}

/// Shows the records of a v5 or v7 datagram: as many as its count says and as are whole.
fn fixed_records(origin: &Origin, header: &Header, payload: &[u8], each: Each<'_>) {
    let (head, octets) = (header.version.header_octets(), header.version.record_octets());
    let records = payload[head..].chunks_exact(octets);
    let fit = u16::try_from(records.len()).unwrap_or(u16::MAX);
    for (at, record) in records.take(usize::from(header.count)).enumerate() {
        let body = Body::Record { fields: fixed::fields(header.version, record) };
        each(origin.line(Kind::Data, head + at * octets, None, body));
    }
    if header.count == 0 || header.count > fit {
        let error = DecodeError::Count { count: header.count, fit };
        origin.fault(&error.into(), each);
    }
}

/// The set that `error` says is cut short, with the octets that are there.
fn cut_short<'a>(header: &Header, payload: &'a [u8], error: &DecodeError) -> Option<Set<'a>> {
    let DecodeError::Truncated { offset, .. } = *error else { return None };
    let id = wire::be16(payload, offset).ok()?;
    let kind = match (header.version, id) {
        (Version::V9, 0) | (Version::Ipfix, 2) => SetKind::Template,
        (Version::V9, 1) | (Version::Ipfix, 3) => SetKind::OptionsTemplate,
        (_, TEMPLATE_ID_MIN..) => SetKind::Data,
        _ => return None,
    };
    let body = payload.get(offset + 4..header.length)?;
    Some(Set { kind, id, offset: offset + 4, body })
}

/// Whether `rest` of a set is padding: too short for a record (RFC 7011 §3.3.1). Behind records
/// of variable length, fewer than four zeros are padding too: exporters align by them, although
/// they could be a record of empty fields.
fn is_padding(layout: &Layout, rest: &[u8]) -> bool {
    let zeros = rest.len() < 4 && rest.iter().all(|&octet| octet == 0);
    rest.len() < layout.template.record_octets_min() || (layout.template.is_variable() && zeros)
}

/// `error`, whose offset counts from a record, with an offset that counts from the datagram.
fn shifted(error: DecodeError, by: usize) -> DecodeError {
    match error {
        DecodeError::Truncated { offset, need, have } => {
            DecodeError::Truncated { offset: offset + by, need, have }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
