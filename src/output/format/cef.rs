//! ArcSight Common Event Format, version 0, for syslog and files of lines.
//!
//! Header: `CEF:0|Weir|Weir|version|signature|name|severity|`; of a slice the signature is `flow`,
//! of an alert the rule's id. Extension: keys of CEF's dictionary, and numbers and texts of Weir's
//! own in `cn1` to `cn3` and `cs1` to `cs6`, each with its label. In CEF, `in` is from source to
//! destination and `out` the way back. Source: Micro Focus Security ArcSight Common Event Format, version 25.

use super::known::Known;
use super::made::{protocol_name, severity_of_ten};
use crate::net::Addr;
use crate::output::ndjson::{integer, write_address, write_value};
use crate::output::schema::{Fields, Layout, Record, Stream, Value};

/// One key of the extension.
pub(super) struct Key {
    /// The key.
    pub name: &'static str,
    /// What `<key>Label` says, for keys whose meaning is the sender's.
    pub label: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Appends the value, not escaped; appends nothing if there is none.
    put: fn(&mut Vec<u8>, &Known<'_>),
}

const fn key(name: &'static str, put: fn(&mut Vec<u8>, &Known<'_>), doc: &'static str) -> Key {
    Key { name, label: "", doc, put }
}

const fn labelled(
    name: &'static str,
    label: &'static str,
    put: fn(&mut Vec<u8>, &Known<'_>),
    doc: &'static str,
) -> Key {
    Key { name, label, doc, put }
}

/// The keys, in the order in which they are written.
pub(super) const KEYS: &[Key] = &[
    key(
        "rt",
        |o, k| int(o, millis(k.int(k.at.time))),
        "Time of the record, in milliseconds since the epoch.",
    ),
    key("start", |o, k| int(o, millis(Some(k.times().0))), "The first packet's time."),
    key("end", |o, k| int(o, millis(Some(k.times().1))), "The last packet's time."),
    key(
        "externalId",
        |o, k| k.write_id(o),
        "The record's identity: the same when it is sent again.",
    ),
    key("cat", category, "`flow` or `alert`."),
    key("src", |o, k| v4(o, k.address(k.at.src)), "The initiator, if IPv4."),
    labelled(
        "c6a2",
        "Source IPv6 Address",
        |o, k| v6(o, k.address(k.at.src)),
        "The initiator, if IPv6.",
    ),
    key("spt", |o, k| port(o, k, k.at.src_port), "The initiator's port; absent for ICMP."),
    key("dst", |o, k| v4(o, k.address(k.at.dst)), "The responder, if IPv4."),
    labelled(
        "c6a3",
        "Destination IPv6 Address",
        |o, k| v6(o, k.address(k.at.dst)),
        "The responder, if IPv6.",
    ),
    key("dpt", |o, k| port(o, k, k.at.dst_port), "The responder's port; absent for ICMP."),
    key(
        "proto",
        protocol,
        "Keyword of the IP protocol, in upper case; its number where there is none.",
    ),
    key("app", |o, k| text(o, &k.text(k.at.application)), "Application name, where exported."),
    key("in", |o, k| int(o, k.int(k.at.fwd_bytes)), "IP octets from initiator to responder."),
    key("out", |o, k| int(o, k.int(k.at.bwd_bytes)), "IP octets from responder to initiator."),
    key("deviceDirection", device_direction, "0 inbound, 1 outbound; absent for others."),
    key("deviceInboundInterface", |o, k| int(o, k.int(k.at.in_if)), "Ingress interface."),
    key("deviceOutboundInterface", |o, k| int(o, k.int(k.at.out_if)), "Egress interface."),
    key("dvc", |o, k| v4(o, k.address(k.at.exporter)), "The exporter, if IPv4."),
    labelled(
        "c6a1",
        "Device IPv6 Address",
        |o, k| v6(o, k.address(k.at.exporter)),
        "The exporter, if IPv6.",
    ),
    key("dvchost", |o, k| text(o, &k.text(k.at.sensor)), "Name of the sensor."),
    key("reason", |o, k| text(o, &k.text(k.at.end_reason)), "Why the slice was cut."),
    key("request", |o, k| text(o, &k.text(k.at.rule_link)), "The rule's first reference."),
    key("msg", evidence, "Of an alert: the predicates that held."),
    labelled(
        "cn1",
        "packets in",
        |o, k| int(o, k.int(k.at.fwd_pkts)),
        "Packets from initiator to responder.",
    ),
    labelled(
        "cn2",
        "packets out",
        |o, k| int(o, k.int(k.at.bwd_pkts)),
        "Packets from responder to initiator.",
    ),
    labelled("cn3", "schema", |o, k| int(o, k.int(k.at.schema)), "Version of Weir's schema."),
    labelled("cs1", "rule ids", rule_ids, "Ids of the rules that fired, with commas between."),
    labelled("cs2", "techniques", techniques, "ATT&CK techniques of the rules."),
    labelled(
        "cs3",
        "tactics",
        |o, k| join(o, k.texts(k.at.tactics)),
        "ATT&CK tactics of the rule.",
    ),
    labelled("cs4", "flow id", |o, k| write_hex(o, k.value(k.at.flow_id)), "Identity of the flow."),
    labelled("cs5", "community id", |o, k| text(o, &k.text(k.at.community_id)), "Community ID."),
    labelled("cs6", "site", |o, k| text(o, &k.text(k.at.site)), "Name of the site."),
];

/// Writes records of one stream as CEF.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    stream: Stream,
    places: super::known::Places,
    own: Vec<u8>,
    cell: Vec<u8>,
}

impl Writer {
    /// A writer for the stream of `layout`; its own fields follow the keys, under their names.
    pub(super) fn new(layout: &Layout) -> Self {
        let (stream, own) = (layout.stream(), own(layout.own()));
        Self { stream, places: super::known::Places::of(stream), own, cell: Vec::new() }
    }

    /// Appends `record`, without a line end.
    pub(super) fn record(&mut self, out: &mut Vec<u8>, record: &dyn Record) {
        let known = Known { record, at: &self.places, stream: self.stream };
        out.extend_from_slice(b"CEF:0|Weir|Weir|");
        out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
        let severity = match self.stream {
            Stream::Slices => {
                out.extend_from_slice(b"|flow|Network flow|");
                let tags = if known.tagged() { known.tags() } else { Vec::new() };
                tags.iter().map(|tag| severity_of_ten(&tag.level)).max().unwrap_or(0)
            }
            Stream::Alerts => {
                for place in [known.at.rule_id, known.at.rule_title] {
                    out.push(b'|');
                    header(out, known.text(place).as_bytes());
                }
                out.push(b'|');
                severity_of_ten(&known.text(known.at.rule_level))
            }
        };
        integer(out, severity);
        out.push(b'|');
        let start = out.len();
        for key in KEYS {
            self.cell.clear();
            (key.put)(&mut self.cell, &known);
            if !self.cell.is_empty() {
                pair(out, start, key, &self.cell);
            }
        }
        out.extend_from_slice(&self.own);
    }
}

fn pair(out: &mut Vec<u8>, start: usize, key: &Key, value: &[u8]) {
    if out.len() > start {
        out.push(b' ');
    }
    out.extend_from_slice(key.name.as_bytes());
    out.push(b'=');
    extension(out, value);
    if !key.label.is_empty() {
        out.push(b' ');
        out.extend_from_slice(key.name.as_bytes());
        out.extend_from_slice(b"Label=");
        out.extend_from_slice(key.label.as_bytes());
    }
}

fn own(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields.iter() {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        match value {
            Value::Text(text) => extension(&mut out, text.as_bytes()),
            value => write_value(&mut out, &value),
        }
    }
    out
}

/// A field of the header: `\` and `|` escaped, line breaks become blanks.
fn header(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\\' | b'|' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' | b'\r' => out.push(b' '),
            _ => out.push(byte),
        }
    }
}

/// A value of the extension: `\` and `=` escaped, line breaks as `\n` and `\r`.
fn extension(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\\' | b'=' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
}

fn millis(micros: Option<i64>) -> Option<i64> {
    micros.map(|micros| micros.div_euclid(1_000))
}

fn int(out: &mut Vec<u8>, value: Option<i64>) {
    if let Some(value) = value {
        integer(out, value);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn v4(out: &mut Vec<u8>, address: Addr) {
    if address.is_v4() {
        write_address(out, address);
    }
}

fn v6(out: &mut Vec<u8>, address: Addr) {
    if !address.is_v4() && address != Addr::UNSPECIFIED {
        write_address(out, address);
    }
}

fn port(out: &mut Vec<u8>, known: &Known<'_>, place: Option<usize>) {
    if !known.icmp() {
        int(out, known.int(place));
    }
}

fn category(out: &mut Vec<u8>, known: &Known<'_>) {
    out.extend_from_slice(match known.stream {
        Stream::Slices => b"flow",
        Stream::Alerts => b"alert",
    });
}

fn protocol(out: &mut Vec<u8>, known: &Known<'_>) {
    match (known.protocol(), protocol_name(known.protocol())) {
        (_, Some(name)) => out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase())),
        (0, None) => {}
        (number, None) => integer(out, number),
    }
}

fn device_direction(out: &mut Vec<u8>, known: &Known<'_>) {
    match &*known.text(known.at.direction) {
        "inbound" => out.push(b'0'),
        "outbound" => out.push(b'1'),
        _ => {}
    }
}

/// `field predicate (is value)`, with commas between.
fn evidence(out: &mut Vec<u8>, known: &Known<'_>) {
    for proof in known.proofs() {
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        let said = format!("{} {} (is {})", proof.field, proof.predicate, proof.value);
        out.extend_from_slice(said.as_bytes());
    }
}

fn rule_ids(out: &mut Vec<u8>, known: &Known<'_>) {
    join(out, known.tags().into_iter().map(|tag| tag.id));
}

fn techniques(out: &mut Vec<u8>, known: &Known<'_>) {
    join(out, known.attacks().into_iter().map(|attack| attack.id));
}

fn join<T: AsRef<str>>(out: &mut Vec<u8>, texts: impl IntoIterator<Item = T>) {
    for text in texts {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(text.as_ref().as_bytes());
    }
}

fn write_hex(out: &mut Vec<u8>, value: Value<'_>) {
    crate::output::ndjson::plain(out, &value);
}
