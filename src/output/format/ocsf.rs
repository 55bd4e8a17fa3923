//! Open Cybersecurity Schema Framework 1.5.0: a slice is a Network Activity (class 4001), an alert
//! a Detection Finding (class 2004).
//!
//! What the classes have no attribute for stands under `unmapped`, with Weir's own names, and so do
//! the operator's own fields. A slice on which a rule fired is written with the profile
//! `security_control`, which has the attributes for that. Source: OCSF schema 1.5.0.

mod values;

use self::values::{
    attacks, attacks_form, detected, detections, direction, direction_id, duration, end, evidences,
    evidences_form, is_alert, link, observables, observables_form, observed, original_time,
    product_version, profiles, protocol_num, severity, severity_id, slice_profiles, start,
    tcp_flags, time, version_id,
};
use super::common::{
    bytes, dst_port, icmp_code, icmp_type, id, packets, protocol_keyword, rule_ids, src_port, title,
};
use super::shape::From::{Field, Made};
use super::shape::{Form, Member, always, maybe, rest, same};
use crate::output::schema::{Kind, Stream};

/// The version of OCSF.
pub const VERSION: &str = "1.5.0";

/// Where the operator's own fields stand.
pub(super) const OWN_IN: &str = "unmapped";

const TEXT: Form = Form::Of(Kind::Text);
const ADDRESS: Form = Form::Of(Kind::Address);
const COUNT: Form = Form::Whole(0, i64::MAX);
const TIME: Form = Form::Whole(i64::MIN, i64::MAX);
const PORT: Form = Form::Whole(0, 65_535);
const DIRECTIONS: Form = Form::Of(Kind::Words(&["Inbound", "Outbound", "Lateral", "Other"]));
const SEVERITIES: Form =
    Form::Of(Kind::Words(&["Informational", "Low", "Medium", "High", "Critical"]));

/// The table of `stream`.
pub(super) fn members(stream: Stream) -> Vec<Member> {
    let (class, told) = match stream {
        Stream::Slices => (SLICE, TOLD_BY_SLICE),
        Stream::Alerts => (ALERT, TOLD_BY_ALERT),
    };
    let mut members = class.to_vec();
    let more = rest(stream, &members, "unmapped", told);
    members.extend_from_slice(ICMP);
    members.extend(more);
    members
}

/// Fields of Weir's that made members tell.
const TOLD_BY_SLICE: &[&str] =
    &["src_port", "dest_port", "protocol", "direction", "sigma_rule_ids", "sigma_detections"];

/// Of an alert everything that tells of the flow stands in `evidences`.
const TOLD_BY_ALERT: &[&str] = &[
    "id",
    "rule.id",
    "rule.title",
    "rule.level",
    "rule.link",
    "tactics",
    "technique_ids",
    "techniques",
    "evidence",
    "src_ip",
    "dest_ip",
    "src_port",
    "dest_port",
    "protocol",
    "direction",
    "flow_id",
    "community_id",
];

const ICMP: &[Member] = &[
    maybe("unmapped.icmp_type", PORT, Made(icmp_type), "Type of the initiator's ICMP message."),
    maybe("unmapped.icmp_code", PORT, Made(icmp_code), "Its code."),
];

const SLICE: &[Member] = &[
    same("activity_id", "6", "Traffic: a report of it."),
    same("activity_name", "\"Traffic\"", "Name of the activity."),
    same("category_uid", "4", "Network Activity."),
    same("category_name", "\"Network Activity\"", "Name of the category."),
    same("class_uid", "4001", "Network Activity."),
    same("class_name", "\"Network Activity\"", "Name of the class."),
    same("type_uid", "400106", "Class and activity."),
    same("type_name", "\"Network Activity: Traffic\"", "Name of the type."),
    always("time", TIME, Made(time), "Start of the slice, in milliseconds since the epoch."),
    always(
        "start_time",
        TIME,
        Made(start),
        "The first packet's time, in milliseconds since the epoch.",
    ),
    always("end_time", TIME, Made(end), "The last packet's time, in milliseconds since the epoch."),
    always("duration", COUNT, Made(duration), "Milliseconds from the first packet to the last."),
    always(
        "severity_id",
        Form::Numbers(&[1, 2, 3, 4, 5]),
        Made(severity_id),
        "The highest level of the rules that fired; 1 where none did.",
    ),
    always("severity", SEVERITIES, Made(severity), "Its name."),
    same("metadata.version", "\"1.5.0\"", "Version of OCSF."),
    always(
        "metadata.uid",
        TEXT,
        Made(id),
        "The record's identity: the same when it is sent again.",
    ),
    same("metadata.product.name", "\"Weir\"", "The product."),
    same("metadata.product.vendor_name", "\"Weir\"", "Its vendor."),
    always("metadata.product.version", TEXT, Made(product_version), "Its version."),
    always("metadata.log_provider", TEXT, Field("sensor"), "Name of the sensor."),
    always(
        "metadata.original_time",
        Form::Date,
        Made(original_time),
        "The time to the microsecond.",
    ),
    maybe(
        "metadata.profiles",
        Form::Made(profiles),
        Made(slice_profiles),
        "`security_control` where a rule fired.",
    ),
    always("src_endpoint.ip", ADDRESS, Field("src_ip"), "The initiator."),
    maybe("src_endpoint.port", PORT, Made(src_port), "The initiator's port; absent for ICMP."),
    maybe(
        "src_endpoint.autonomous_system.number",
        COUNT,
        Field("src_asn"),
        "The initiator's autonomous system.",
    ),
    maybe("src_endpoint.location.country", TEXT, Field("src_country"), "The initiator's country."),
    always("dst_endpoint.ip", ADDRESS, Field("dest_ip"), "The responder."),
    maybe("dst_endpoint.port", PORT, Made(dst_port), "The responder's port; absent for ICMP."),
    maybe(
        "dst_endpoint.autonomous_system.number",
        COUNT,
        Field("dst_asn"),
        "The responder's autonomous system.",
    ),
    maybe("dst_endpoint.location.country", TEXT, Field("dst_country"), "The responder's country."),
    always(
        "connection_info.uid",
        Form::Of(Kind::Hex128),
        Field("flow_id"),
        "Identity of the flow: the same on all its slices.",
    ),
    maybe(
        "connection_info.community_uid",
        TEXT,
        Field("community_id"),
        "Community ID version 1, seed 0.",
    ),
    always(
        "connection_info.direction_id",
        Form::Numbers(&[1, 2, 3, 99]),
        Made(direction_id),
        "Where the flow goes, by the home networks.",
    ),
    always(
        "connection_info.direction",
        DIRECTIONS,
        Made(direction),
        "Its name; `Other` is from outside to outside.",
    ),
    maybe(
        "connection_info.protocol_num",
        Form::Whole(1, 255),
        Made(protocol_num),
        "IP protocol number; absent where the source does not tell.",
    ),
    maybe(
        "connection_info.protocol_name",
        TEXT,
        Made(protocol_keyword),
        "Its keyword, in lower case.",
    ),
    always(
        "connection_info.protocol_ver_id",
        Form::Numbers(&[4, 6]),
        Made(version_id),
        "Version of IP.",
    ),
    maybe(
        "connection_info.tcp_flags",
        COUNT,
        Made(tcp_flags),
        "Union of the TCP flags of both directions.",
    ),
    always("traffic.bytes", COUNT, Made(bytes), "IP octets of both directions, as exported."),
    always(
        "traffic.bytes_out",
        COUNT,
        Field("fwd_bytes"),
        "IP octets from initiator to responder.",
    ),
    always("traffic.bytes_in", COUNT, Field("bwd_bytes"), "IP octets from responder to initiator."),
    always("traffic.packets", COUNT, Made(packets), "Packets of both directions, as exported."),
    always("traffic.packets_out", COUNT, Field("fwd_pkts"), "Packets from initiator to responder."),
    always("traffic.packets_in", COUNT, Field("bwd_pkts"), "Packets from responder to initiator."),
    maybe("app_name", TEXT, Field("application"), "Application name, where exported."),
    maybe("action_id", Form::Numbers(&[3]), Made(observed), "Observed: where a rule fired."),
    maybe("disposition_id", Form::Numbers(&[15]), Made(detected), "Detected: where a rule fired."),
    maybe("is_alert", Form::Of(Kind::Bool), Made(is_alert), "Where a rule fired."),
    maybe("attacks", Form::Made(attacks_form), Made(attacks), "ATT&CK techniques of the rules."),
    maybe(
        "unmapped.sigma_rule_ids",
        Form::Of(Kind::TextList),
        Made(rule_ids),
        "Ids of the rules that fired over the flow so far.",
    ),
    maybe(
        "unmapped.sigma_detections",
        Form::Of(Kind::Detections),
        Made(detections),
        "The same rules in DetectFlow's form.",
    ),
];

const ALERT: &[Member] = &[
    same("activity_id", "1", "Create: a new finding."),
    same("activity_name", "\"Create\"", "Name of the activity."),
    same("category_uid", "2", "Findings."),
    same("category_name", "\"Findings\"", "Name of the category."),
    same("class_uid", "2004", "Detection Finding."),
    same("class_name", "\"Detection Finding\"", "Name of the class."),
    same("type_uid", "200401", "Class and activity."),
    same("type_name", "\"Detection Finding: Create\"", "Name of the type."),
    always(
        "time",
        TIME,
        Made(time),
        "Input time at which the rule's truth became final, in milliseconds since the epoch.",
    ),
    always(
        "start_time",
        TIME,
        Made(start),
        "The flow's first packet, in milliseconds since the epoch.",
    ),
    always("end_time", TIME, Made(end), "The flow's last packet so far."),
    always("severity_id", Form::Numbers(&[1, 2, 3, 4, 5]), Made(severity_id), "The rule's level."),
    always("severity", SEVERITIES, Made(severity), "Its name."),
    same("status_id", "1", "New."),
    same("status", "\"New\"", "Name of the status."),
    same("is_alert", "true", "Someone should look."),
    always("message", TEXT, Made(title), "The rule's title."),
    same("metadata.version", "\"1.5.0\"", "Version of OCSF."),
    always(
        "metadata.uid",
        TEXT,
        Made(id),
        "The record's identity: the same when it is sent again.",
    ),
    same("metadata.product.name", "\"Weir\"", "The product."),
    same("metadata.product.vendor_name", "\"Weir\"", "Its vendor."),
    always("metadata.product.version", TEXT, Made(product_version), "Its version."),
    always("metadata.log_provider", TEXT, Field("sensor"), "Name of the sensor."),
    always(
        "metadata.original_time",
        Form::Date,
        Made(original_time),
        "The time to the microsecond.",
    ),
    always("finding_info.uid", TEXT, Made(id), "Identity of the alert."),
    always("finding_info.title", TEXT, Made(title), "The rule's title."),
    always("finding_info.created_time", TIME, Made(time), "As `time`."),
    always("finding_info.first_seen_time", TIME, Made(start), "As `start_time`."),
    always("finding_info.last_seen_time", TIME, Made(end), "As `end_time`."),
    maybe("finding_info.src_url", TEXT, Made(link), "The rule's first reference, if it is a URL."),
    always("finding_info.analytic.uid", TEXT, Field("rule.id"), "The rule's id."),
    always("finding_info.analytic.name", TEXT, Field("rule.title"), "The rule's title."),
    same("finding_info.analytic.type_id", "1", "A rule."),
    same("finding_info.analytic.type", "\"Rule\"", "Name of that type."),
    same("finding_info.data_sources", "[\"network flow\"]", "What was looked at."),
    maybe(
        "finding_info.attacks",
        Form::Made(attacks_form),
        Made(attacks),
        "ATT&CK techniques and tactics of the rule's tags.",
    ),
    always(
        "evidences",
        Form::Made(evidences_form),
        Made(evidences),
        "The flow, and the predicates that held on it.",
    ),
    always("observables", Form::Made(observables_form), Made(observables), "Both addresses."),
];
