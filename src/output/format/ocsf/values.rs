//! What the members of OCSF's classes are written from, and the form of those with structure.

use serde_json::json;

use super::super::common::protocol_keyword;
use super::super::known::{Attack, Known};
use super::super::made::{put_date, put_int, put_list, put_some, put_text};
use crate::detect::attack;
use crate::output::ndjson::{string, write_address, write_value};
use crate::output::schema::Value;

pub(super) fn profiles() -> serde_json::Value {
    json!({"const": ["security_control"]})
}

pub(super) fn named() -> serde_json::Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {"uid": {"type": "string"}, "name": {"type": "string"}},
        "minProperties": 1,
    })
}

pub(super) fn attacks_form() -> serde_json::Value {
    let properties = json!({"technique": named(), "sub_technique": named(), "tactic": named()});
    let items = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "minProperties": 1,
    });
    json!({"type": "array", "items": items, "minItems": 1})
}

pub(super) fn evidences_form() -> serde_json::Value {
    let endpoint = json!({
        "type": "object", "required": ["ip"], "additionalProperties": false,
        "properties": {
            "ip": {"type": "string"},
            "port": {"type": "integer", "minimum": 0, "maximum": 65_535},
        },
    });
    let connection = json!({
        "type": "object", "additionalProperties": false,
        "required": ["uid", "direction_id", "direction", "protocol_ver_id"],
        "properties": {
            "uid": {"type": "string"}, "community_uid": {"type": "string"},
            "direction_id": {"type": "integer"}, "direction": {"type": "string"},
            "protocol_num": {"type": "integer"}, "protocol_name": {"type": "string"},
            "protocol_ver_id": {"type": "integer"},
        },
    });
    let predicate = json!({
        "type": "object", "required": ["field", "predicate", "value"],
        "additionalProperties": false,
        "properties": {
            "field": {"type": "string"}, "predicate": {"type": "string"},
            "value": {"type": "string"},
        },
    });
    let items = json!({
        "type": "object", "additionalProperties": false,
        "required": ["src_endpoint", "dst_endpoint", "connection_info", "data"],
        "properties": {
            "src_endpoint": endpoint, "dst_endpoint": endpoint, "connection_info": connection,
            "data": {
                "type": "object", "required": ["predicates"], "additionalProperties": false,
                "properties": {"predicates": {"type": "array", "items": predicate}},
            },
        },
    });
    json!({"type": "array", "items": items, "minItems": 1, "maxItems": 1})
}

pub(super) fn observables_form() -> serde_json::Value {
    let items = json!({
        "type": "object", "required": ["name", "type_id", "value"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string"}, "type_id": {"const": 2}, "type": {"const": "IP Address"},
            "value": {"type": "string"},
        },
    });
    json!({"type": "array", "items": items, "minItems": 2, "maxItems": 2})
}

pub(super) fn time(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.int(known.at.time).unwrap_or(0).div_euclid(1_000))
}

pub(super) fn start(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.times().0.div_euclid(1_000))
}

pub(super) fn end(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.times().1.div_euclid(1_000))
}

pub(super) fn duration(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.int(known.at.duration).unwrap_or(0) / 1_000)
}

pub(super) fn original_time(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_date(out, known.int(known.at.time).unwrap_or(0))
}

/// Severity of OCSF of the strongest rule; 1 where none fired.
pub(super) fn level(known: &Known<'_>) -> i64 {
    let of = |level: &str| match level {
        "informational" => 1,
        "low" => 2,
        "high" => 4,
        "critical" => 5,
        _ => 3,
    };
    if !known.tagged() {
        return 1;
    }
    known.tags().iter().map(|tag| of(&tag.level)).max().unwrap_or(1)
}

pub(super) fn severity_id(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, level(known))
}

pub(super) fn severity(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let name = match level(known) {
        2 => "Low",
        3 => "Medium",
        4 => "High",
        5 => "Critical",
        _ => "Informational",
    };
    put_text(out, name)
}

pub(super) fn product_version(out: &mut Vec<u8>, _: &Known<'_>) -> bool {
    put_text(out, env!("CARGO_PKG_VERSION"))
}

pub(super) fn link(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let link = known.text(known.at.rule_link);
    (link.starts_with("https://") || link.starts_with("http://")) && put_text(out, &link)
}

pub(super) fn towards(known: &Known<'_>) -> (i64, &'static str) {
    match &*known.text(known.at.direction) {
        "inbound" => (1, "Inbound"),
        "outbound" => (2, "Outbound"),
        "internal" => (3, "Lateral"),
        _ => (99, "Other"),
    }
}

pub(super) fn direction_id(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, towards(known).0)
}

pub(super) fn direction(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_text(out, towards(known).1)
}

pub(super) fn protocol_num(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_some(out, Some(known.protocol()).filter(|&protocol| protocol != 0))
}

pub(super) fn version_id(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, if known.address(known.at.src).is_v4() { 4 } else { 6 })
}

pub(super) fn tcp_flags(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let flags = [known.int(known.at.fwd_tcp_flags), known.int(known.at.bwd_tcp_flags)];
    put_some(out, flags.into_iter().flatten().reduce(|a, b| a | b))
}

pub(super) fn slice_profiles(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    out.extend_from_slice(b"[\"security_control\"]");
    known.tagged()
}

pub(super) fn observed(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    known.tagged() && put_int(out, 3)
}

pub(super) fn detected(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    known.tagged() && put_int(out, 15)
}

pub(super) fn is_alert(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    out.extend_from_slice(b"true");
    known.tagged()
}

pub(super) fn detections(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    write_value(out, &known.value(known.at.detections));
    known.tagged()
}

/// One object a technique, then one a tactic.
pub(super) fn attacks(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let (techniques, tactics) = (known.attacks(), known.texts(known.at.tactics));
    out.push(b'[');
    for technique in &techniques {
        comma(out);
        put_technique(out, technique);
    }
    for tactic in &tactics {
        comma(out);
        out.extend_from_slice(b"{\"tactic\":{\"name\":");
        string(out, tactic);
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
    !(techniques.is_empty() && tactics.is_empty())
}

pub(super) fn comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
}

/// `T1071.001` as the technique T1071 and its sub-technique.
pub(super) fn put_technique(out: &mut Vec<u8>, attack: &Attack<'_>) {
    let put = |out: &mut Vec<u8>, id: &str, name: Option<&str>| {
        out.extend_from_slice(b"{\"uid\":");
        string(out, id);
        if let Some(name) = name {
            out.extend_from_slice(b",\"name\":");
            string(out, name);
        }
        out.push(b'}');
    };
    out.extend_from_slice(b"{\"technique\":");
    match attack.id.split_once('.') {
        None => put(out, &attack.id, attack.name.as_deref()),
        Some((parent, _)) => {
            put(out, parent, attack::technique(parent));
            out.extend_from_slice(b",\"sub_technique\":");
            put(out, &attack.id, attack.name.as_deref());
        }
    }
    out.push(b'}');
}

pub(super) fn evidences(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    out.push(b'[');
    let open = |out: &mut Vec<u8>, key: &str| {
        out.extend_from_slice(key.as_bytes());
        out.push(b'{');
    };
    open(out, "{\"src_endpoint\":");
    put_endpoint(out, known, known.at.src, known.at.src_port);
    open(out, ",\"dst_endpoint\":");
    put_endpoint(out, known, known.at.dst, known.at.dst_port);
    open(out, ",\"connection_info\":");
    out.extend_from_slice(b"\"uid\":");
    write_value(out, &known.value(known.at.flow_id));
    type Put = fn(&mut Vec<u8>, &Known<'_>) -> bool;
    let members: [(&str, Put); 6] = [
        (",\"community_uid\":", community_uid),
        (",\"direction_id\":", direction_id),
        (",\"direction\":", direction),
        (",\"protocol_num\":", protocol_num),
        (",\"protocol_name\":", protocol_keyword),
        (",\"protocol_ver_id\":", version_id),
    ];
    for (key, put) in members {
        let before = out.len();
        out.extend_from_slice(key.as_bytes());
        if !put(out, known) {
            out.truncate(before);
        }
    }
    out.extend_from_slice(b"},\"data\":{\"predicates\":");
    write_value(out, &known.value(known.at.evidence));
    out.extend_from_slice(b"}}]");
    true
}

pub(super) fn community_uid(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_text(out, &known.text(known.at.community_id))
}

/// The members of an endpoint and the brace that closes it.
pub(super) fn put_endpoint(
    out: &mut Vec<u8>,
    known: &Known<'_>,
    ip: Option<usize>,
    port: Option<usize>,
) {
    out.extend_from_slice(b"\"ip\":\"");
    write_address(out, known.address(ip));
    out.push(b'"');
    if let (false, Value::Int(port)) = (known.icmp(), known.value(port)) {
        out.extend_from_slice(b",\"port\":");
        put_int(out, port);
    }
    out.push(b'}');
}

pub(super) fn observables(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let place = "evidences[0]";
    let ends = [("src_endpoint", known.at.src), ("dst_endpoint", known.at.dst)];
    put_list(out, &ends, |out, (end, at)| {
        out.extend_from_slice(format!("{{\"name\":\"{place}.{end}.ip\"").as_bytes());
        out.extend_from_slice(b",\"type_id\":2,\"type\":\"IP Address\",\"value\":\"");
        write_address(out, known.address(*at));
        out.extend_from_slice(b"\"}");
    });
    true
}
