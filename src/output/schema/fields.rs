//! The table: every field with its type, its meaning and where it comes from.

use super::Kind::{
    Address, AddressList, Bool, Detections, Evidence, Float64, Hex128, Int32, Int64, Seconds,
    Techniques, Text, TextList, Timestamp, Words,
};
use super::values::{
    attack, class, community_id, exporter, int, name, of_slice, opt, opt_u64, port, retransmits,
    rule, sequence_id, some, text,
};
use super::{Context, Field, Kind, Row, VERSION, Value};

type Get = for<'a> fn(&Row<'a>, &'a Context) -> Value<'a>;

/// A field that every record has.
const fn always(name: &'static str, kind: Kind, get: Get, doc: &'static str) -> Field {
    Field { name, kind, nullable: false, doc, get }
}

/// A field that a record may lack.
const fn maybe(name: &'static str, kind: Kind, get: Get, doc: &'static str) -> Field {
    Field { name, kind, nullable: true, doc, get }
}

/// The parts of a slice, in order.
pub(super) const SLICES: &[&[Field]] =
    &[START, ENDS, PORTS, COUNTERS, IDENTITY, SLICE, OBSERVED, ENRICHED, RULES, MODEL, SCHEMA];

/// The parts of an alert, in order.
pub(super) const ALERTS: &[&[Field]] =
    &[ALERT, FLOW_START, ENDS, ALERT_PORTS, COUNTERS, IDENTITY, OBSERVED, ENRICHED, MODEL, SCHEMA];

const START: &[Field] = &[always(
    "timestamp",
    Timestamp,
    |r, _| Value::Int(r.flow.first.0),
    "Start of the slice: the first packet's time.",
)];

const FLOW_START: &[Field] = &[always(
    "flow_start",
    Timestamp,
    |r, _| Value::Int(r.flow.first.0),
    "Start of the flow: what `timestamp` is in a slice.",
)];

/// DeepTempo's canonical columns after `timestamp`: these,
const ENDS: &[Field] = &[
    always("src_ip", Address, |r, _| Value::Address(r.flow.src), "The initiator."),
    always("dest_ip", Address, |r, _| Value::Address(r.flow.dst), "The responder."),
];

/// these,
const PORTS: &[Field] = &[
    always(
        "src_port",
        Int32,
        |r, _| Value::Int(r.flow.src_port.into()),
        "The initiator's port; of ICMP the type of its message.",
    ),
    always(
        "dest_port",
        Int32,
        |r, _| Value::Int(r.flow.dst_port.into()),
        "The responder's port; of ICMP the code.",
    ),
];

/// and these.
const COUNTERS: &[Field] = &[
    always(
        "fwd_bytes",
        Int64,
        |r, _| int(r.flow.fwd.octets),
        "IP octets from initiator to responder, as exported (not scaled by sampling).",
    ),
    always(
        "bwd_bytes",
        Int64,
        |r, _| int(r.flow.bwd.octets),
        "IP octets from responder to initiator, as exported.",
    ),
    always(
        "fwd_pkts",
        Int64,
        |r, _| int(r.flow.fwd.packets),
        "Packets from initiator to responder, as exported.",
    ),
    always(
        "bwd_pkts",
        Int64,
        |r, _| int(r.flow.bwd.packets),
        "Packets from responder to initiator, as exported.",
    ),
    always(
        "flow_dur",
        Seconds,
        |r, _| Value::Seconds(r.flow.duration_us()),
        "Time from the first packet to the last, in seconds.",
    ),
    always(
        "protocol",
        Int32,
        |r, _| Value::Int(r.flow.protocol.into()),
        "IP protocol number; 0 where the source does not tell.",
    ),
];

/// The ports of an alert: what it is raised on may be many flows.
const ALERT_PORTS: &[Field] = &[
    maybe(
        "src_port",
        Int32,
        |r, _| port(r, r.flow.src_port),
        "The initiator's port; of ICMP the type of its message; absent where the alert is on many flows.",
    ),
    maybe(
        "dest_port",
        Int32,
        |r, _| port(r, r.flow.dst_port),
        "The responder's port; of ICMP the code; of many flows that of most of them, absent where \
         they have none.",
    ),
];

const IDENTITY: &[Field] = &[
    always(
        "flow_id",
        Hex128,
        |r, _| Value::Hex(r.flow_id.0),
        "Identity of the flow: the same on all its slices, the same when it is replayed.",
    ),
    maybe(
        "community_id",
        Text,
        community_id,
        "Community ID version 1, seed 0; absent where the protocol is unknown.",
    ),
    always("sensor", Text, |_, c| Value::Text(&c.sensor), "Name of the sensor."),
    maybe(
        "site",
        Text,
        |r, c| text(c.sites.get(usize::from(r.flow.site))),
        "Name of the site: flows of different sites never meet.",
    ),
];

const SLICE: &[Field] = &[
    always(
        "slice",
        Int64,
        |r, _| of_slice(r, |s| Value::Int(s.number.into())),
        "Number of the slice in its flow, from 0; with `flow_id` the record's identity.",
    ),
    always(
        "last_slice",
        Bool,
        |r, _| of_slice(r, |s| Value::Bool(s.last)),
        "Whether the flow ended with this slice. A flow that fell silent after its active timeout \
         ends without a further slice, unless its end brings tags: then no slice of it says so.",
    ),
    always(
        "end_reason",
        Words(&["idle", "active", "end_of_flow", "forced", "lack_of_resources"]),
        |r, _| of_slice(r, |s| Value::Text(s.end_reason.as_str())),
        "Why the slice was cut (IPFIX element 136).",
    ),
    always(
        "records",
        Int64,
        |r, _| of_slice(r, |s| int(s.records)),
        "Export records or packets that were merged into the slice.",
    ),
];

const OBSERVED: &[Field] = &[
    maybe(
        "exporter",
        Address,
        |r, _| some(exporter(r), Value::Address),
        "Exporter that owns the forward direction; absent for packets and files.",
    ),
    maybe(
        "exporter_name",
        Text,
        |r, c| text(exporter(r).and_then(|address| c.exporters.get(&address))),
        "Name of the exporter, where the configuration gives one.",
    ),
    maybe(
        "exporters",
        AddressList,
        |r, _| some(Some(&*r.flow.exporters).filter(|e| !e.is_empty()), Value::Addresses),
        "Every exporter that reported the flow, in order of appearance.",
    ),
    maybe(
        "domain",
        Int64,
        |r, _| some(exporter(r), |_| Value::Int(r.flow.point.domain.into())),
        "Observation domain of the owner (IPFIX), source id (v9), engine type and id (v5).",
    ),
    maybe("in_if", Int64, |r, _| opt(r.flow.in_if), "Ingress interface of the forward direction."),
    maybe("out_if", Int64, |r, _| opt(r.flow.out_if), "Egress interface of the forward direction."),
    maybe(
        "in_if_name",
        Text,
        |r, _| name(r.flow.in_if_name.as_deref()),
        "Name of the ingress interface.",
    ),
    maybe(
        "out_if_name",
        Text,
        |r, _| name(r.flow.out_if_name.as_deref()),
        "Name of the egress interface.",
    ),
    maybe("vlan", Int32, |r, _| opt(r.flow.vlan), "VLAN id, the outermost."),
    maybe(
        "vrf",
        Int64,
        |r, _| opt(Some(r.flow.vrf).filter(|&id| id != 0)),
        "VRF id, where exported.",
    ),
    maybe(
        "vrf_name",
        Text,
        |r, _| name(r.flow.vrf_name.as_deref()),
        "Name of the VRF, where exported.",
    ),
    maybe(
        "application",
        Text,
        |r, _| name(r.flow.application.as_deref()),
        "Application name, where exported.",
    ),
    maybe(
        "tos",
        Int32,
        |r, _| opt(r.flow.tos),
        "Type of service or traffic class of the first packet.",
    ),
    maybe(
        "fwd_tcp_flags",
        Int32,
        |r, _| opt(r.flow.fwd.tcp_flags),
        "Union of the initiator's TCP flags, as in IPFIX element 6 (FIN 1, SYN 2, ... CWR 128).",
    ),
    maybe(
        "bwd_tcp_flags",
        Int32,
        |r, _| opt(r.flow.bwd.tcp_flags),
        "Union of the responder's TCP flags.",
    ),
    maybe(
        "fwd_first_tcp_flags",
        Int32,
        |r, _| opt(r.flow.fwd.first_flags),
        "TCP flags of the initiator's first packet; of packets only.",
    ),
    maybe(
        "bwd_first_tcp_flags",
        Int32,
        |r, _| opt(r.flow.bwd.first_flags),
        "TCP flags of the responder's first packet; of packets only.",
    ),
    maybe(
        "tcp_state",
        Words(&["attempt", "established", "closed", "reset"]),
        |r, _| some(r.flow.tcp_state, |state| Value::Text(state.as_str())),
        "State of the TCP connection as far as it was seen; of packets only.",
    ),
    always(
        "direction",
        Words(&["outbound", "inbound", "internal", "external"]),
        |r, _| Value::Text(r.flow.direction.as_str()),
        "Where the flow goes, by the home networks.",
    ),
    always(
        "direction_by",
        Words(&["exporter", "syn", "start", "port", "first"]),
        |r, _| Value::Text(r.flow.direction_by.as_str()),
        "What decided who the initiator is.",
    ),
    maybe(
        "sampling_interval",
        Int64,
        |r, _| opt(r.flow.sampling_interval),
        "One of so many packets was seen; 1 is unsampled. Absent where it is unknown.",
    ),
    always(
        "sampling_unknown",
        Bool,
        |r, _| Value::Bool(r.flow.sampling_interval.is_none()),
        "Whether the sampling interval is unknown.",
    ),
    maybe("fwd_bytes_l2", Int64, |r, _| opt_u64(r.flow.fwd.octets_l2), "Layer-2 octets, forward."),
    maybe("bwd_bytes_l2", Int64, |r, _| opt_u64(r.flow.bwd.octets_l2), "Layer-2 octets, backward."),
    maybe(
        "fwd_payload",
        Int64,
        |r, _| opt_u64(r.flow.fwd.payload),
        "Transport payload octets, forward.",
    ),
    maybe(
        "bwd_payload",
        Int64,
        |r, _| opt_u64(r.flow.bwd.payload),
        "Transport payload octets, backward.",
    ),
    maybe(
        "retransmits",
        Int64,
        retransmits,
        "Retransmitted TCP segments of both directions; of packets only.",
    ),
    maybe(
        "rtt_us",
        Int64,
        |r, _| opt(r.flow.rtt_us),
        "Time from SYN to the initiator's ACK of the SYN/ACK, in microseconds; of packets only.",
    ),
    maybe(
        "fwd_ttl",
        Int32,
        |r, _| opt(r.flow.fwd.ttl),
        "TTL or hop limit of the initiator's first packet.",
    ),
    maybe(
        "bwd_ttl",
        Int32,
        |r, _| opt(r.flow.bwd.ttl),
        "TTL or hop limit of the responder's first packet.",
    ),
    maybe(
        "tunnel",
        Words(&["gre", "erspan", "ipip", "6in4", "vxlan", "geneve", "gtp-u", "teredo"]),
        |r, _| some(r.flow.tunnel, |t| Value::Text(t.kind.as_str())),
        "Encapsulation that the flow came out of.",
    ),
    maybe(
        "tunnel_src",
        Address,
        |r, _| some(r.flow.tunnel, |t| Value::Address(t.src)),
        "Source of the outer header.",
    ),
    maybe(
        "tunnel_dst",
        Address,
        |r, _| some(r.flow.tunnel, |t| Value::Address(t.dst)),
        "Destination of the outer header.",
    ),
    maybe(
        "tunnel_id",
        Int64,
        |r, _| some(r.flow.tunnel, |t| Value::Int(t.id.into())),
        "VNI, GRE key, TEID or ERSPAN session; 0 where the tunnel has none.",
    ),
];

const ENRICHED: &[Field] = &[
    maybe("src_asn", Int64, |r, _| opt(r.flow.src_asn), "The initiator's autonomous system."),
    maybe("dst_asn", Int64, |r, _| opt(r.flow.dst_asn), "The responder's autonomous system."),
    maybe("src_country", Text, |_, _| Value::Null, "The initiator's country, where known."),
    maybe("dst_country", Text, |_, _| Value::Null, "The responder's country, where known."),
];

const RULES: &[Field] = &[
    always(
        "sigma_rule_ids",
        TextList,
        |r, _| Value::RuleIds(r.rules),
        "Ids of the Sigma rules that fired over the flow so far, in order of firing.",
    ),
    always(
        "sigma_detections",
        Detections,
        |r, _| Value::Detections(r.rules),
        "The same rules in DetectFlow's form.",
    ),
    maybe(
        "excluded",
        Text,
        |r, _| name(r.excluded),
        "Title of the exclusion that keeps rules from the flow.",
    ),
];

const MODEL: &[Field] = &[
    maybe(
        "model_class",
        Words(&["benign", "c2", "exfil", "scan", "bruteforce", "dos"]),
        |r, _| some(class(r), |class| Value::Text(class.as_str())),
        "What the sequence model says of the pair of addresses, as of its latest score; of an \
         alert, at that score. `c2` and `exfil` from the threshold on that the configured budget of \
         alerts gives (`model.alerts_per_1000_hosts_day`). Absent where the pair was not scored.",
    ),
    maybe(
        "model_score",
        Float64,
        |r, _| some(class(r).and(r.verdict), |v| Value::Float(v.score)),
        "The probability of command and control or exfiltration, 0 to 1.",
    ),
    maybe(
        "mitre_tactic",
        Text,
        |r, _| some(attack(r), |attack| Value::Text(&attack.tactic)),
        "Id of the ATT&CK tactic that the model names, `TA0011` for example.",
    ),
    maybe(
        "mitre_technique",
        Text,
        |r, _| some(attack(r), |attack| Value::Text(&attack.technique)),
        "Id of the ATT&CK technique that the model names.",
    ),
    maybe(
        "sequence_id",
        Text,
        sequence_id,
        "The sequence that was under way between the two addresses, 32 flows long: `<lower \
         address>_<higher address>_<start of its first flow, ms>_c<number>`. Absent where the \
         model does not look at the flow.",
    ),
];

const SCHEMA: &[Field] =
    &[always("schema", Int32, |_, _| Value::Int(VERSION), "Version of this schema.")];

const ALERT: &[Field] = &[
    always(
        "id",
        Hex128,
        |r, _| some(r.alert, |a| Value::Hex(a.id)),
        "Identity of the alert: a hash of rule id and flow id, the same when it is replayed.",
    ),
    always(
        "timestamp",
        Timestamp,
        |r, _| some(r.alert, |a| Value::Int(a.time.0)),
        "Input time at which the rule's truth became final.",
    ),
    always("rule.id", Text, |r, _| rule(r, |m| Value::Text(&m.id)), "The rule's id."),
    always("rule.title", Text, |r, _| rule(r, |m| Value::Text(&m.title)), "The rule's title."),
    always(
        "rule.level",
        Words(&["informational", "low", "medium", "high", "critical"]),
        |r, _| rule(r, |m| Value::Text(m.level.as_str())),
        "The rule's level.",
    ),
    maybe("rule.author", Text, |r, _| rule(r, |m| text(m.author.as_ref())), "The rule's author."),
    maybe(
        "rule.link",
        Text,
        |r, _| rule(r, |m| text(m.link.as_ref())),
        "The rule's first reference.",
    ),
    always(
        "rule.tags",
        TextList,
        |r, _| rule(r, |m| Value::Texts(&m.tags)),
        "The rule's tags, as written.",
    ),
    always(
        "rule.file",
        Text,
        |r, _| rule(r, |m| Value::Text(&m.file)),
        "The file that the rule stands in.",
    ),
    always(
        "rule.line",
        Int64,
        |r, _| rule(r, |m| Value::Int(m.line.into())),
        "The rule's first line in its file.",
    ),
    always(
        "tactics",
        TextList,
        |r, _| rule(r, |m| Value::Texts(&m.tactics)),
        "ATT&CK tactics of the rule's tags.",
    ),
    always(
        "technique_ids",
        TextList,
        |r, _| rule(r, |m| Value::TechniqueIds(&m.techniques)),
        "Ids of the ATT&CK techniques of the rule's tags.",
    ),
    always(
        "techniques",
        Techniques,
        |r, _| rule(r, |m| Value::Techniques(&m.techniques)),
        "The same techniques with their names.",
    ),
    always(
        "evidence",
        Evidence,
        |r, _| some(r.alert, |a| Value::Evidence(&a.evidence)),
        "The predicates that made the rule fire, with the flow's values.",
    ),
    maybe(
        "suppressed",
        Int64,
        |r, _| some(r.alert.map(|a| a.suppressed).filter(|&held| held > 0), int),
        "Alerts of this rule and group that `rules.suppress` held back since the last that left.",
    ),
];
