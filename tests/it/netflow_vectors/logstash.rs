//! The events that logstash-codec-netflow expects: how many, whole ones, single fields.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use weir::config;
use weir::decode::netflow::inspect::{Body, Inspector, Line, Message};
use weir::decode::netflow::record::Field;

use super::{Datagram, Row, check_explained, datagrams, rows};
use crate::support::vectors;

const EXPLAINED: &[(&str, &str)] = &[
    (
        "IPFIX-Netscaler-with-variable-length-fields-b-b",
        "waiting records follow their template, so the events' order is that of the templates",
    ),
    (
        "Netflow-9-Ubiquiti-Edgerouter-with-MPLS-labels",
        "element 201 is mplsLabelStackLength, 4 octets here; that program reads it as a label",
    ),
];

/// That program's names of v9 fields, where they are not IANA's; several ids for one name.
const NAMES: &[(&str, &[u16])] = &[
    ("in_bytes", &[1]),
    ("in_pkts", &[2]),
    ("flows", &[3]),
    ("protocol", &[4]),
    ("src_tos", &[5]),
    ("tcp_flags", &[6]),
    ("l4_src_port", &[7]),
    ("ipv4_src_addr", &[8]),
    ("src_mask", &[9]),
    ("input_snmp", &[10]),
    ("l4_dst_port", &[11]),
    ("ipv4_dst_addr", &[12]),
    ("dst_mask", &[13]),
    ("output_snmp", &[14]),
    ("ipv4_next_hop", &[15]),
    ("src_as", &[16]),
    ("dst_as", &[17]),
    ("bgp_ipv4_next_hop", &[18]),
    ("last_switched", &[21]),
    ("first_switched", &[22]),
    ("out_bytes", &[23]),
    ("out_pkts", &[24]),
    ("icmp_type", &[32, 176]),
    ("icmp_code", &[177]),
    ("sampling_interval", &[34]),
    ("sampling_algorithm", &[35]),
    ("flow_active_timeout", &[36]),
    ("flow_inactive_timeout", &[37]),
    ("engine_type", &[38]),
    ("engine_id", &[39]),
    ("total_bytes_exp", &[40]),
    ("total_pkts_exp", &[41]),
    ("total_flows_exp", &[42]),
    ("ipv4_src_prefix", &[44]),
    ("flow_sampler_id", &[48]),
    ("flow_sampler_mode", &[49]),
    ("flow_sampler_random_interval", &[50]),
    ("ipv4_ident", &[54]),
    ("in_src_mac", &[56]),
    ("out_dst_mac", &[57]),
    ("src_vlan", &[58]),
    ("dst_vlan", &[59]),
    ("ip_protocol_version", &[60]),
    ("direction", &[61]),
    ("in_dst_mac", &[80]),
    ("out_src_mac", &[81]),
    ("if_name", &[82]),
    ("if_desc", &[83]),
    ("in_permanent_bytes", &[85]),
    ("fragment_offset", &[88]),
    ("forwarding_status", &[89]),
    ("src_traffic_index", &[92]),
    ("dst_traffic_index", &[93]),
    ("application_description", &[94]),
    ("application_id", &[95]),
    ("application_name", &[96]),
    ("flow_end_reason", &[136]),
    ("conn_id", &[148]),
    ("flow_start_msec", &[152]),
    ("tcp_src_port", &[182]),
    ("tcp_dst_port", &[183]),
    ("udp_src_port", &[180]),
    ("udp_dst_port", &[181]),
    ("ip_dscp", &[195]),
    ("xlate_src_addr_ipv4", &[225, 40_001]),
    ("xlate_dst_addr_ipv4", &[226, 40_002]),
    ("xlate_src_port", &[227, 40_003]),
    ("xlate_dst_port", &[228, 40_004]),
    ("fwd_flow_delta_bytes", &[231]),
    ("rev_flow_delta_bytes", &[232]),
    ("fw_event", &[233, 40_005]),
    ("VRFname", &[236]),
    ("event_time_msec", &[323]),
    ("ingress_acl_id", &[33_000]),
    ("egress_acl_id", &[33_001]),
    ("fw_ext_event", &[33_002]),
    ("username", &[40_000]),
    ("app_id", &[56_701]),
    ("user_id", &[56_702]),
    ("scope_system", &[1]),
    ("mpls_label_stack_octets", &[201]),
    // Nokia's.
    ("natInsideSvcid", &[91]),
    ("natOutsideSvcid", &[92]),
    ("natSubString", &[93]),
];

/// A record with its message.
struct Event {
    message: Message,
    line: Line,
}

/// The records of the first datagram of each file: that program reads no further.
fn events(folder: &Path, row: &Row) -> Vec<Event> {
    let mut inspector = Inspector::new(config::Netflow::default());
    let mut events = Vec::new();
    let mut messages = BTreeMap::new();
    for (at, file) in row.files.iter().enumerate() {
        let one = Row { files: vec![file.clone()], ..row.clone() };
        let Some(first) = datagrams(folder, &one).into_iter().next() else { continue };
        let Datagram { exporter, port, payload, .. } = first;
        // Offsets tell the message of a record that had to wait.
        let offset = (at as u64) << 32;
        inspector.datagram(exporter, port, offset, &payload, &mut |line| match &line.body {
            Body::Message(message) => drop(messages.insert(line.offset >> 32, message.clone())),
            Body::Record { .. } => {
                let message = messages[&(line.offset >> 32)].clone();
                events.push(Event { message, line });
            }
            _ => {}
        });
    }
    events
}

impl Event {
    fn fields(&self) -> &[Field] {
        match &self.line.body {
            Body::Record { fields } => fields,
            _ => unreachable!("an event is a record"),
        }
    }

    /// What is wrong with `want` as the value of `name`; `None` if nothing is.
    fn difference(&self, name: &str, want: &Value, used: &mut Vec<usize>) -> Option<String> {
        let message = &self.message;
        let header = match name {
            "version" => Some(self.line.version.map(u64::from)),
            "flow_seq_num" => Some(Some(u64::from(message.sequence))),
            "flowset_id" => Some(self.line.id.map(u64::from)),
            _ if self.line.version != Some(5) => None,
            "flow_records" => Some(message.count.map(u64::from)),
            "engine_type" => Some(self.line.domain.map(|domain| u64::from(domain >> 8))),
            "engine_id" => Some(self.line.domain.map(|domain| u64::from(domain & 0xff))),
            "sampling_algorithm" => Some(message.sampling_mode.map(u64::from)),
            "sampling_interval" => Some(message.sampling_interval.map(u64::from)),
            _ => None,
        };
        if let Some(have) = header {
            let right = have == want.as_u64();
            return (!right).then(|| format!("{name}: {have:?} for {want}"));
        }
        let scope = name.starts_with("scope_");
        let ids = NAMES.iter().find(|(known, _)| *known == name).map(|(_, ids)| *ids);
        let named = |field: &Field| match ids {
            Some(ids) => {
                matches!(field.pen, 0 | 637) && field.scope == scope && ids.contains(&field.id)
            }
            None => field.name.as_deref() == Some(name),
        };
        let fields = self.fields();
        let candidates: Vec<usize> =
            match (0..fields.len()).filter(|&i| named(&fields[i])).collect() {
                known if !Vec::is_empty(&known) => known,
                // A vendor's element without a name of ours: its value must be there, unused.
                _ => (0..fields.len())
                    .filter(|at| fields[*at].name.is_none() && !used.contains(at))
                    .collect(),
            };
        match candidates.iter().find(|&&at| self.equal(&fields[at], want)) {
            Some(&at) => {
                used.push(at);
                None
            }
            None => {
                let have: Vec<&Value> = candidates.iter().map(|&at| &fields[at].value).collect();
                Some(format!("{name}: {have:?} for {want}"))
            }
        }
    }

    fn equal(&self, field: &Field, want: &Value) -> bool {
        if field.value == *want {
            return true;
        }
        if let (89, Some(have)) = (field.id, field.value.as_u64()) {
            return want["status"] == have >> 6 && want["reason"] == have & 63;
        }
        if let Some(have) = field.value.as_i64() {
            return instant(want).is_some_and(|want| self.is_instant(field, have, want));
        }
        let Some(have) = field.value.as_str() else { return false };
        if let (Ok(have), Some(Ok(want))) =
            (have.parse::<IpAddr>(), want.as_str().map(str::parse::<IpAddr>))
        {
            return have == want;
        }
        octets_equal(&unhex(have).unwrap_or_default(), want)
    }

    /// Whether `have` of `field` is the instant `want`, in milliseconds: that program rounds.
    fn is_instant(&self, field: &Field, have: i64, want: i64) -> bool {
        let base =
            self.message.export_time_us / 1_000 - self.message.uptime_ms.map_or(0, i64::from);
        let have = match field.id {
            // Its difference of uptimes is up to 1.2 s late: it borrows a second too few.
            21 | 22 => return (-1..=1_200).contains(&(want - base - have)),
            150 | 151 => have * 1_000,
            152 | 153 => have,
            154 | 155 => have / 1_000,
            _ => return false,
        };
        (have - want).abs() <= 1
    }
}

/// Whether `octets` of an element without a type are `want` in one of that program's forms.
fn octets_equal(octets: &[u8], want: &Value) -> bool {
    let integer = match octets.len() {
        0..=16 => octets.iter().fold(0_u128, |all, &octet| all << 8 | u128::from(octet)),
        _ => u128::MAX,
    };
    match want {
        Value::Number(_) if want.as_u64().is_some() => {
            want.as_u64().map(u128::from) == Some(integer)
        }
        Value::Number(number) => {
            let single = octets.try_into().map(f32::from_be_bytes).map(f64::from).ok();
            let double = octets.try_into().map(f64::from_be_bytes).ok();
            let have = single.or(double).unwrap_or(f64::NAN);
            number.as_f64().is_some_and(|want| (have - want).abs() <= want.abs() * 1e-9)
        }
        Value::String(text) => {
            let end = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
            let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let selector = |octets: &[u8]| {
                octets.iter().fold(0_u64, |n, &octet| n << 8 | u64::from(octet)).to_string()
            };
            let application = match octets {
                // With an enterprise number (RFC 6759 §4.1).
                [20, a, b, c, d, rest @ ..] => {
                    let pen = u32::from_be_bytes([*a, *b, *c, *d]);
                    format!("20..{pen}..{}", selector(rest))
                }
                [class, rest @ ..] => format!("{class}..{}", selector(rest)),
                [] => String::new(),
            };
            let latin: String = octets.iter().copied().map(char::from).collect();
            let v4 = <[u8; 4]>::try_from(octets).ok().map(|v4| IpAddr::from(v4).to_string());
            std::str::from_utf8(&octets[..end]) == Ok(text.trim_end_matches('\0'))
                || hex == text.replace(['-', ':'], "")
                || application == *text
                || latin == *text
                || v4.as_deref() == Some(text)
        }
        // An MPLS label.
        Value::Object(parts) => {
            let part = |name: &str| parts.get(name).and_then(Value::as_u64).map(u128::from);
            part("label") == Some(integer >> 4)
                && part("experimental") == Some(integer >> 1 & 7)
                && part("bottom_of_stack") == Some(integer & 1)
        }
        _ => false,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    text.len().is_multiple_of(2).then(|| (0..text.len()).step_by(2).map(pair).collect())?
}

/// Milliseconds since the epoch of an RFC 3339 text.
fn instant(text: &Value) -> Option<i64> {
    let at: jiff::Timestamp = text.as_str()?.parse().ok()?;
    Some(at.as_millisecond())
}

/// What is wrong with a whole event; its timestamp is the message's.
fn event_differences(event: &Event, want: &Value) -> Vec<String> {
    let mut used = Vec::new();
    let mut differences = Vec::new();
    if instant(&want["@timestamp"]) != Some(event.message.export_time_us / 1_000) {
        let have = event.message.export_time_us;
        differences.push(format!("@timestamp: {have} for {}", want["@timestamp"]));
    }
    let fields = want["netflow"].as_object().expect("an event has fields");
    differences
        .extend(fields.iter().filter_map(|(name, value)| event.difference(name, value, &mut used)));
    differences
}

fn differences(events: &[Event], golden: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(want) = golden["expected_events"].as_u64()
        && want != events.len() as u64
    {
        all.push(format!("events: {} for {want}", events.len()));
    }
    for (at, want) in golden["json_events"].as_array().expect("a list").iter().enumerate() {
        if want.get("netflow").is_none() {
            continue;
        }
        let best = events.iter().map(|event| event_differences(event, want)).min_by_key(Vec::len);
        let best = best.unwrap_or_else(|| vec!["no event".to_owned()]);
        all.extend(best.into_iter().map(|difference| format!("event {at}: {difference}")));
    }
    for expected in golden["field_expectations"].as_array().expect("a list") {
        let (name, value) = (&expected["field"], &expected["value"]);
        let name = name.as_str().expect("a name");
        let name = name.trim_start_matches("[netflow][").trim_end_matches(']');
        let text = value.as_str().expect("a text").trim_matches('\'').replace("#{nanos}", "");
        let want = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let at = expected["event"].as_u64().expect("an index") as usize;
        let difference = match events.get(at) {
            Some(event) => event.difference(name, &want, &mut Vec::new()),
            None => Some(format!("{name}: no such event")),
        };
        all.extend(difference.map(|difference| format!("field of event {at}: {difference}")));
    }
    all
}

#[test]
fn events_equal_those_of_logstash() {
    let Some(folder) = vectors("netflow") else { return };
    let mut found = BTreeMap::new();
    let mut groups = 0;
    for row in rows(&folder).iter().filter(|row| row.golden.starts_with("logstash")) {
        let golden = std::fs::read_to_string(folder.join(&row.golden)).expect("a golden file");
        let golden: Value = serde_json::from_str(&golden).expect("JSON");
        let differences = differences(&events(&folder, row), &golden);
        groups += 1;
        if !differences.is_empty() {
            let name = Path::new(&row.golden).file_stem().unwrap_or_default();
            found.insert(name.to_string_lossy().into_owned(), differences);
        }
    }
    check_explained("logstash", groups, &found, EXPLAINED);
}
