//! goflow2's protobuf: `FlowMessage` with its fields and numbers, so that what reads goflow2's
//! output reads this.
//!
//! A `FlowMessage` tells of one direction; a slice becomes one message for each direction that was
//! seen. Each message has its length before it, as goflow2 writes them where it delimits. Weir's
//! own fields have numbers from 3001 on, which goflow2 leaves to others. [`text`] is the `.proto`.
//! Source: goflow2 v2, `pb/flow.proto`; encoding: Protocol Buffers, "Encoding".

use std::borrow::Cow;

use super::known::{Known, Places};
use crate::net::Addr;
use crate::output::schema::{Layout, Record, Stream};

/// Which direction a message tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// Initiator to responder.
    Forward,
    /// Responder to initiator.
    Back,
}

/// One field of the message.
pub(super) struct FieldOf {
    /// Its number.
    number: u32,
    /// Its name.
    name: &'static str,
    /// Its type in the `.proto`.
    type_name: &'static str,
    /// What it means.
    doc: &'static str,
    /// Its value; the default is not written.
    get: for<'a> fn(&Known<'a>, Way) -> Got<'a>,
}

/// Value of a field.
pub(super) enum Got<'a> {
    Number(u64),
    Address(Addr),
    Bits(u128),
    Text(Cow<'a, str>),
    Texts(Vec<Cow<'a, str>>),
}

const fn field(
    number: u32,
    name: &'static str,
    type_name: &'static str,
    get: for<'a> fn(&Known<'a>, Way) -> Got<'a>,
    doc: &'static str,
) -> FieldOf {
    FieldOf { number, name, type_name, doc, get }
}

/// First number of Weir's own fields.
const OWN_FROM: u32 = 3_001;
/// The operator's own fields: a map, and so always the last.
const LABELS: u32 = 3_012;

/// The fields, in the order of their numbers.
pub(super) const FIELDS: &[FieldOf] = &[
    field(
        3,
        "sampling_rate",
        "uint64",
        |k, _| number(k.int(k.at.sampling_interval)),
        "One of so many packets was seen; absent where it is unknown.",
    ),
    field(
        6,
        "src_addr",
        "bytes",
        |k, way| Got::Address(ends(k, way).0),
        "Who sent: 4 or 16 octets.",
    ),
    field(7, "dst_addr", "bytes", |k, way| Got::Address(ends(k, way).1), "Who received."),
    field(
        9,
        "bytes",
        "uint64",
        |k, way| number(k.int(of(way, k.at.fwd_bytes, k.at.bwd_bytes))),
        "IP octets of this direction, as exported.",
    ),
    field(
        10,
        "packets",
        "uint64",
        |k, way| number(k.int(of(way, k.at.fwd_pkts, k.at.bwd_pkts))),
        "Packets of this direction, as exported.",
    ),
    field(
        11,
        "sampler_address",
        "bytes",
        |k, _| Got::Address(k.address(k.at.exporter)),
        "The exporter.",
    ),
    field(
        14,
        "src_as",
        "uint32",
        |k, way| number(k.int(of(way, k.at.src_asn, k.at.dst_asn))),
        "Autonomous system of the sender.",
    ),
    field(
        15,
        "dst_as",
        "uint32",
        |k, way| number(k.int(of(way, k.at.dst_asn, k.at.src_asn))),
        "Autonomous system of the receiver.",
    ),
    field(
        18,
        "in_if",
        "uint32",
        |k, way| number(k.int(of(way, k.at.in_if, k.at.out_if))),
        "Ingress interface of this direction.",
    ),
    field(
        19,
        "out_if",
        "uint32",
        |k, way| number(k.int(of(way, k.at.out_if, k.at.in_if))),
        "Egress interface of this direction.",
    ),
    field(20, "proto", "uint32", |k, _| number(Some(k.protocol())), "IP protocol number."),
    field(
        21,
        "src_port",
        "uint32",
        |k, way| number(port(k, of(way, k.at.src_port, k.at.dst_port))),
        "Port of the sender; absent for ICMP.",
    ),
    field(
        22,
        "dst_port",
        "uint32",
        |k, way| number(port(k, of(way, k.at.dst_port, k.at.src_port))),
        "Port of the receiver; absent for ICMP.",
    ),
    field(
        23,
        "ip_tos",
        "uint32",
        |k, way| number(k.int(of(way, k.at.tos, None))),
        "Type of service of the first packet; of the initiator's direction.",
    ),
    field(
        25,
        "ip_ttl",
        "uint32",
        |k, way| number(k.int(of(way, k.at.fwd_ttl, k.at.bwd_ttl))),
        "TTL or hop limit of the first packet.",
    ),
    field(
        26,
        "tcp_flags",
        "uint32",
        |k, way| number(k.int(of(way, k.at.fwd_tcp_flags, k.at.bwd_tcp_flags))),
        "Union of the TCP flags of this direction.",
    ),
    field(29, "vlan_id", "uint32", |k, _| number(k.int(k.at.vlan)), "VLAN id, the outermost."),
    field(
        30,
        "etype",
        "uint32",
        |k, _| Got::Number(if k.address(k.at.src).is_v4() { 0x0800 } else { 0x86dd }),
        "EtherType: 0x0800 is IPv4, 0x86dd is IPv6.",
    ),
    field(
        31,
        "icmp_type",
        "uint32",
        |k, way| number(icmp(k, of(way, k.at.src_port, None))),
        "Type of the initiator's ICMP message.",
    ),
    field(
        32,
        "icmp_code",
        "uint32",
        |k, way| number(icmp(k, of(way, k.at.dst_port, None))),
        "Its code.",
    ),
    field(
        33,
        "src_vlan",
        "uint32",
        |k, way| number(k.int(of(way, k.at.vlan, None))),
        "The same VLAN id, of the initiator's direction.",
    ),
    field(
        70,
        "observation_domain_id",
        "uint32",
        |k, _| number(k.int(k.at.domain)),
        "Observation domain of the exporter.",
    ),
    field(
        110,
        "time_received_ns",
        "uint64",
        |k, _| nanos(k.times().1),
        "End of the slice, in nanoseconds since the epoch.",
    ),
    field(
        111,
        "time_flow_start_ns",
        "uint64",
        |k, _| nanos(k.times().0),
        "The first packet's time.",
    ),
    field(112, "time_flow_end_ns", "uint64", |k, _| nanos(k.times().1), "The last packet's time."),
    field(
        OWN_FROM,
        "weir_schema",
        "uint32",
        |k, _| number(k.int(k.at.schema)),
        "Version of Weir's schema.",
    ),
    field(
        3_002,
        "weir_flow_id",
        "bytes",
        |k, _| Got::Bits(k.bits(k.at.flow_id)),
        "Identity of the flow: 16 octets, the same on both directions and all slices.",
    ),
    field(
        3_003,
        "weir_slice",
        "uint32",
        |k, _| number(k.int(k.at.slice)),
        "Number of the slice in its flow.",
    ),
    field(
        3_004,
        "weir_back",
        "bool",
        |_, way| Got::Number(u64::from(way == Way::Back)),
        "Whether this is the responder's direction.",
    ),
    field(
        3_005,
        "weir_end_reason",
        "string",
        |k, _| Got::Text(k.text(k.at.end_reason)),
        "Why the slice was cut.",
    ),
    field(
        3_006,
        "weir_direction",
        "string",
        |k, _| Got::Text(k.text(k.at.direction)),
        "Where the flow goes, by the home networks.",
    ),
    field(
        3_007,
        "weir_sensor",
        "string",
        |k, _| Got::Text(k.text(k.at.sensor)),
        "Name of the sensor.",
    ),
    field(3_008, "weir_site", "string", |k, _| Got::Text(k.text(k.at.site)), "Name of the site."),
    field(
        3_009,
        "weir_community_id",
        "string",
        |k, _| Got::Text(k.text(k.at.community_id)),
        "Community ID version 1, seed 0.",
    ),
    field(
        3_010,
        "weir_application",
        "string",
        |k, _| Got::Text(k.text(k.at.application)),
        "Application name, where exported.",
    ),
    field(
        3_011,
        "weir_sigma_rule_ids",
        "repeated string",
        |k, _| Got::Texts(k.tags().into_iter().map(|tag| tag.id).collect()),
        "Ids of the rules that fired over the flow so far.",
    ),
];

/// Writes slices as messages.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    places: Places,
    labels: Vec<u8>,
    message: Vec<u8>,
}

impl Writer {
    /// A writer; the own fields of `layout` become `weir_labels`.
    pub(super) fn new(layout: &Layout) -> Self {
        debug_assert_eq!(layout.stream(), Stream::Slices);
        let mut labels = Vec::new();
        for (name, value) in layout.own().iter() {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, name.as_bytes());
            let mut text = Vec::new();
            crate::output::ndjson::plain(&mut text, &value);
            put_bytes(&mut entry, 2, &text);
            put_bytes(&mut labels, LABELS, &entry);
        }
        Self { places: Places::of(Stream::Slices), labels, message: Vec::new() }
    }

    /// Appends one message for each direction that was seen; at least one.
    pub(super) fn record(&mut self, out: &mut Vec<u8>, record: &dyn Record) {
        let known = Known { record, at: &self.places, stream: Stream::Slices };
        let seen = |place| known.int(place).is_some_and(|count| count > 0);
        let back = seen(known.at.bwd_bytes) || seen(known.at.bwd_pkts);
        let forward = !back || seen(known.at.fwd_bytes) || seen(known.at.fwd_pkts);
        for (way, seen) in [(Way::Forward, forward), (Way::Back, back)] {
            if seen {
                self.message.clear();
                for field in FIELDS {
                    put(&mut self.message, field.number, (field.get)(&known, way));
                }
                self.message.extend_from_slice(&self.labels);
                varint(out, self.message.len() as u64);
                out.extend_from_slice(&self.message);
            }
        }
    }
}

fn of(way: Way, forward: Option<usize>, back: Option<usize>) -> Option<usize> {
    if way == Way::Forward { forward } else { back }
}

fn ends(known: &Known<'_>, way: Way) -> (Addr, Addr) {
    let (src, dst) = (known.address(known.at.src), known.address(known.at.dst));
    if way == Way::Forward { (src, dst) } else { (dst, src) }
}

fn port(known: &Known<'_>, place: Option<usize>) -> Option<i64> {
    known.int(place).filter(|_| !known.icmp())
}

fn icmp(known: &Known<'_>, place: Option<usize>) -> Option<i64> {
    known.int(place).filter(|_| known.icmp())
}

/// A counter or a number; absent is 0, which is not written.
fn number(value: Option<i64>) -> Got<'static> {
    Got::Number(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0))
}

/// Times before the epoch have no form in the message: 0.
fn nanos(micros: i64) -> Got<'static> {
    Got::Number(u64::try_from(micros).unwrap_or(0).saturating_mul(1_000))
}

fn put(out: &mut Vec<u8>, number: u32, got: Got<'_>) {
    match got {
        Got::Number(0) => {}
        Got::Number(value) => {
            varint(out, u64::from(number) << 3);
            varint(out, value);
        }
        Got::Address(Addr::UNSPECIFIED) if number == 11 => {}
        Got::Address(address) => match address.to_v4() {
            Some(bits) => put_bytes(out, number, &bits.to_be_bytes()),
            None => put_bytes(out, number, &address.0.to_be_bytes()),
        },
        Got::Bits(bits) => put_bytes(out, number, &bits.to_be_bytes()),
        Got::Text(text) if text.is_empty() => {}
        Got::Text(text) => put_bytes(out, number, text.as_bytes()),
        Got::Texts(texts) => texts.iter().for_each(|t| put_bytes(out, number, t.as_bytes())),
    }
}

/// A field of wire type 2: length and octets.
fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Base 128, least significant group first, the top bit set on all but the last.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// docs/schema/flow.proto.
pub(super) fn text() -> String {
    let mut text = "\
// What `format = \"protobuf\"` writes: one direction of a slice of a flow. Each message has its
// length before it, as a varint.
//
// Made from src/output/format/proto.rs by tests/it/formats.rs (WEIR_BLESS=1 writes it): do not
// edit. Names and numbers below 3001 are those of goflow2's FlowMessage, so that its readers read this;
// its other fields are not written.

syntax = \"proto3\";

package flowpb;

message FlowMessage {
"
    .to_owned();
    for field in FIELDS {
        if field.number == OWN_FROM {
            text += "\n  // Weir's own.\n\n";
        }
        let FieldOf { number, name, type_name, doc, .. } = field;
        text += &format!("  // {doc}\n  {type_name} {name} = {number};\n");
    }
    text += "  // Fields of the operator's own: [sensor.fields] and those of the sink.\n";
    text += &format!("  map<string, string> weir_labels = {LABELS};\n}}\n");
    text
}
