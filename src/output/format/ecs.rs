//! Elastic Common Schema 8.17: flows as `event.category: network`, alerts as `event.kind: alert`.
//!
//! What ECS has no field for stands under `weir`, as ECS asks of a product's own fields, and the
//! operator's own fields under `labels`. Source: ECS 8.17.0, `generated/ecs/ecs_nested.yml`; all of
//! these fields are unchanged in 9.x.

use serde_json::json;

use super::common::{
    bytes, dst_port, icmp_code, icmp_type, id, packets, protocol_keyword, rule_ids, src_port, title,
};
use super::known::Known;
use super::made::{put_date, put_int, put_list, put_some, put_text, put_texts, severity_of_ten};
use super::shape::From::{Field, Made};
use super::shape::{Form, Member, always, maybe, rest, same};
use crate::output::ndjson::write_address;
use crate::output::schema::{Kind, Stream};

/// The version of ECS.
pub const VERSION: &str = "8.17.0";

/// Where the operator's own fields stand.
pub(super) const OWN_IN: &str = "labels";

const TEXT: Form = Form::Of(Kind::Text);
const TEXTS: Form = Form::Of(Kind::TextList);
const ADDRESS: Form = Form::Of(Kind::Address);
const COUNT: Form = Form::Whole(0, i64::MAX);
const PORT: Form = Form::Whole(0, 65_535);

/// The table of `stream`.
pub(super) fn members(stream: Stream) -> Vec<Member> {
    let mut members = Vec::new();
    match stream {
        Stream::Slices => members.extend_from_slice(SLICE),
        Stream::Alerts => members.extend_from_slice(ALERT),
    }
    members.extend_from_slice(FLOW);
    match stream {
        Stream::Slices => members.extend_from_slice(SLICE_RULES),
        Stream::Alerts => members.extend_from_slice(ALERT_RULES),
    }
    let more = rest(stream, &members, "weir", TOLD);
    members.extend_from_slice(ICMP);
    members.extend(more);
    members
}

/// Fields of Weir's that made members tell.
const TOLD: &[&str] = &[
    "timestamp",
    "flow_start",
    "flow_dur",
    "id",
    "src_port",
    "dest_port",
    "protocol",
    "vlan",
    "in_if",
    "out_if",
    "sigma_rule_ids",
    "sigma_detections",
    "rule.author",
    "tactics",
    "technique_ids",
    "techniques",
];

const ICMP: &[Member] = &[
    maybe("weir.icmp_type", PORT, Made(icmp_type), "Type of the initiator's ICMP message."),
    maybe("weir.icmp_code", PORT, Made(icmp_code), "Its code."),
];

const SLICE: &[Member] = &[
    always("@timestamp", Form::Date, Made(time), "Start of the slice."),
    same("ecs.version", "\"8.17.0\"", "Version of ECS."),
    same("event.kind", "\"event\"", "A flow is an event."),
    always(
        "event.category",
        Form::Made(categories),
        Made(category),
        "`network`; of a slice on which a rule fired also `intrusion_detection`.",
    ),
    always(
        "event.type",
        Form::Made(types),
        Made(slice_type),
        "`connection`; of a flow's last slice also `end`.",
    ),
    same("event.action", "\"network_flow\"", "A flow."),
    same("event.module", "\"weir\"", "Weir."),
    same("event.dataset", "\"weir.flow\"", "The stream."),
    maybe(
        "event.severity",
        Form::Whole(0, 10),
        Made(severity),
        "The highest level of the rules that fired: informational 1, low 3, medium 5, high 8, \
         critical 10.",
    ),
];

const ALERT: &[Member] = &[
    always(
        "@timestamp",
        Form::Date,
        Made(time),
        "Input time at which the rule's truth became final.",
    ),
    always("message", TEXT, Made(title), "The rule's title."),
    same("ecs.version", "\"8.17.0\"", "Version of ECS."),
    same("event.kind", "\"alert\"", "An alert."),
    always(
        "event.category",
        Form::Made(categories),
        Made(category),
        "`network` and `intrusion_detection`.",
    ),
    same("event.type", "[\"info\"]", "Nothing was allowed or denied."),
    same("event.action", "\"rule_match\"", "A rule fired."),
    same("event.module", "\"weir\"", "Weir."),
    same("event.dataset", "\"weir.alert\"", "The stream."),
    always(
        "event.severity",
        Form::Whole(0, 10),
        Made(severity),
        "The rule's level: informational 1, low 3, medium 5, high 8, critical 10.",
    ),
    maybe("event.reference", TEXT, Made(link), "The rule's first reference."),
];

const FLOW: &[Member] = &[
    always("event.id", TEXT, Made(id), "The record's identity: the same when it is sent again."),
    always("event.start", Form::Date, Made(start), "The first packet's time."),
    always("event.end", Form::Date, Made(end), "The last packet's time."),
    always(
        "event.duration",
        COUNT,
        Made(duration),
        "Nanoseconds from the first packet to the last.",
    ),
    always("source.ip", ADDRESS, Field("src_ip"), "The initiator."),
    maybe("source.port", PORT, Made(src_port), "The initiator's port; absent for ICMP."),
    always(
        "source.bytes",
        COUNT,
        Field("fwd_bytes"),
        "IP octets from initiator to responder, as exported.",
    ),
    always(
        "source.packets",
        COUNT,
        Field("fwd_pkts"),
        "Packets from initiator to responder, as exported.",
    ),
    maybe("source.as.number", COUNT, Field("src_asn"), "The initiator's autonomous system."),
    maybe("source.geo.country_iso_code", TEXT, Field("src_country"), "The initiator's country."),
    always("destination.ip", ADDRESS, Field("dest_ip"), "The responder."),
    maybe("destination.port", PORT, Made(dst_port), "The responder's port; absent for ICMP."),
    always(
        "destination.bytes",
        COUNT,
        Field("bwd_bytes"),
        "IP octets from responder to initiator, as exported.",
    ),
    always(
        "destination.packets",
        COUNT,
        Field("bwd_pkts"),
        "Packets from responder to initiator, as exported.",
    ),
    maybe("destination.as.number", COUNT, Field("dst_asn"), "The responder's autonomous system."),
    maybe(
        "destination.geo.country_iso_code",
        TEXT,
        Field("dst_country"),
        "The responder's country.",
    ),
    always("network.bytes", COUNT, Made(bytes), "IP octets of both directions."),
    always("network.packets", COUNT, Made(packets), "Packets of both directions."),
    maybe("network.community_id", TEXT, Field("community_id"), "Community ID version 1, seed 0."),
    always(
        "network.direction",
        Form::Of(Kind::Words(&["outbound", "inbound", "internal", "external"])),
        Field("direction"),
        "Where the flow goes, by the home networks.",
    ),
    always(
        "network.type",
        Form::Of(Kind::Words(&["ipv4", "ipv6"])),
        Made(network_type),
        "Version of IP.",
    ),
    maybe(
        "network.transport",
        TEXT,
        Made(protocol_keyword),
        "Keyword of the IP protocol, in lower case.",
    ),
    maybe(
        "network.iana_number",
        TEXT,
        Made(iana_number),
        "IP protocol number; absent where the source does not tell.",
    ),
    maybe("network.application", TEXT, Field("application"), "Application name, where exported."),
    maybe("network.vlan.id", TEXT, Made(vlan), "VLAN id, the outermost."),
    always("observer.name", TEXT, Field("sensor"), "Name of the sensor."),
    same("observer.type", "\"sensor\"", "A sensor."),
    same("observer.product", "\"Weir\"", "Weir."),
    maybe("observer.ip", ADDRESS, Field("exporter"), "Exporter that owns the forward direction."),
    maybe("observer.hostname", TEXT, Field("exporter_name"), "Name of that exporter."),
    maybe(
        "observer.ingress.interface.id",
        TEXT,
        Made(in_if),
        "Ingress interface of the forward direction.",
    ),
    maybe("observer.ingress.interface.name", TEXT, Field("in_if_name"), "Its name."),
    maybe(
        "observer.egress.interface.id",
        TEXT,
        Made(out_if),
        "Egress interface of the forward direction.",
    ),
    maybe("observer.egress.interface.name", TEXT, Field("out_if_name"), "Its name."),
    always("related.ip", Form::Of(Kind::AddressList), Made(related), "Both addresses."),
];

const SLICE_RULES: &[Member] = &[
    maybe("rule.id", TEXTS, Made(rule_ids), "Ids of the rules that fired over the flow so far."),
    maybe("rule.name", TEXTS, Made(rule_names), "Their titles, in the same order."),
    maybe("threat.framework", TEXT, Made(framework), "`MITRE ATT&CK` where a technique is named."),
    maybe("threat.technique.id", TEXTS, Made(technique_ids), "ATT&CK techniques of the rules."),
    maybe(
        "threat.technique.name",
        TEXTS,
        Made(technique_names),
        "Their names, where all are known, in the same order.",
    ),
];

const ALERT_RULES: &[Member] = &[
    always("tags", TEXTS, Field("rule.tags"), "The rule's tags, as written."),
    always("rule.id", TEXT, Field("rule.id"), "The rule's id."),
    always("rule.name", TEXT, Field("rule.title"), "The rule's title."),
    maybe("rule.author", TEXTS, Made(author), "The rule's author."),
    maybe("rule.reference", TEXT, Field("rule.link"), "The rule's first reference."),
    always("rule.ruleset", TEXT, Field("rule.file"), "The file that the rule stands in."),
    maybe(
        "threat.framework",
        TEXT,
        Made(framework),
        "`MITRE ATT&CK` where a technique or a tactic is named.",
    ),
    maybe("threat.tactic.name", TEXTS, Made(tactics), "ATT&CK tactics of the rule's tags."),
    maybe(
        "threat.technique.id",
        TEXTS,
        Made(technique_ids),
        "ATT&CK techniques of the rule's tags.",
    ),
    maybe(
        "threat.technique.name",
        TEXTS,
        Made(technique_names),
        "Their names, where all are known, in the same order.",
    ),
];

fn words(words: &[&str]) -> serde_json::Value {
    json!({"type": "array", "items": {"type": "string", "enum": words}, "minItems": 1})
}

fn categories() -> serde_json::Value {
    words(&["network", "intrusion_detection"])
}

fn types() -> serde_json::Value {
    words(&["connection", "end"])
}

fn time(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_date(out, known.int(known.at.time).unwrap_or(0))
}

fn start(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_date(out, known.times().0)
}

fn end(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_date(out, known.times().1)
}

fn duration(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.int(known.at.duration).unwrap_or(0).saturating_mul(1_000))
}

fn category(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    out.extend_from_slice(b"[\"network\"");
    if known.tagged() {
        out.extend_from_slice(b",\"intrusion_detection\"");
    }
    out.push(b']');
    true
}

fn slice_type(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let ends = known.value(known.at.last_slice) == crate::output::schema::Value::Bool(true);
    let types: &[u8] = if ends { b"[\"connection\",\"end\"]" } else { b"[\"connection\"]" };
    out.extend_from_slice(types);
    true
}

fn severity(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    if !known.tagged() {
        return false;
    }
    put_some(out, known.tags().iter().map(|tag| severity_of_ten(&tag.level)).max())
}

fn link(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_text(out, &known.text(known.at.rule_link))
}

fn author(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let author = known.text(known.at.rule_author);
    !author.is_empty() && put_texts(out, &[author])
}

fn network_type(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let v4 = known.address(known.at.src).is_v4();
    put_text(out, if v4 { "ipv4" } else { "ipv6" })
}

fn iana_number(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_quoted(out, Some(known.protocol()).filter(|&protocol| protocol != 0))
}

fn vlan(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_quoted(out, known.int(known.at.vlan))
}

fn in_if(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_quoted(out, known.int(known.at.in_if))
}

fn out_if(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_quoted(out, known.int(known.at.out_if))
}

/// A number as a text: a keyword of ECS.
fn put_quoted(out: &mut Vec<u8>, value: Option<i64>) -> bool {
    out.push(b'"');
    let there = put_some(out, value);
    out.push(b'"');
    there
}

fn related(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let ends = [known.address(known.at.src), known.address(known.at.dst)];
    let ends = if ends[0] == ends[1] { &ends[..1] } else { &ends[..] };
    put_list(out, ends, |out, end| {
        out.push(b'"');
        write_address(out, *end);
        out.push(b'"');
    });
    true
}

fn rule_names(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let titles: Vec<_> = known.tags().into_iter().map(|tag| tag.title).collect();
    put_texts(out, &titles)
}

fn framework(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let named = !known.attacks().is_empty() || !known.texts(known.at.tactics).is_empty();
    named && put_text(out, "MITRE ATT&CK")
}

fn tactics(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_texts(out, &known.texts(known.at.tactics))
}

fn technique_ids(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let ids: Vec<_> = known.attacks().into_iter().map(|attack| attack.id).collect();
    put_texts(out, &ids)
}

fn technique_names(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let names: Option<Vec<_>> = known.attacks().into_iter().map(|attack| attack.name).collect();
    names.is_some_and(|names| put_texts(out, &names))
}
