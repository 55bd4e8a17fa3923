//! The metric lines that telegraf's netflow input expects, in the order that fits best: it
//! states none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use weir::decode::netflow::inspect::{Body, Line};
use weir::decode::netflow::record::Field;

use super::{check_explained, lines, rows};
use crate::support::vectors;

const EXPLAINED: &[(&str, &str)] = &[
    ("sflow_issue_15375", "sFlow is recognised and reported as unsupported"),
    ("sflow_issue_15918", "sFlow is recognised and reported as unsupported"),
    ("sflow_issue_18876", "sFlow is recognised and reported as unsupported"),
    ("sflow_v5_example", "sFlow is recognised and reported as unsupported"),
];

/// That program's names of IANA's elements.
const NAMES: &[(&str, &[u16])] = &[
    ("in_bytes", &[1]),
    ("in_packets", &[2]),
    ("flows", &[3]),
    ("protocol", &[4]),
    ("src_tos", &[5]),
    ("tcp_flags", &[6]),
    ("src_port", &[7]),
    ("src", &[8, 27]),
    ("src_mask", &[9]),
    ("in_snmp", &[10]),
    ("dst_port", &[11]),
    ("dst", &[12, 28]),
    ("dst_mask", &[13]),
    ("out_snmp", &[14]),
    ("next_hop", &[15]),
    ("bgp_src_as", &[16]),
    ("bgp_dst_as", &[17]),
    ("last_switched", &[21]),
    ("first_switched", &[22]),
    ("icmp_type", &[32]),
    ("icmp_code", &[32]),
    ("engine_type", &[38]),
    ("engine_id", &[39]),
    ("total_flows_exported", &[42]),
    ("dst_tos", &[55]),
    ("in_src_mac", &[56]),
    ("out_dst_mac", &[57]),
    ("vlan_src", &[58]),
    ("ip_version", &[60]),
    ("direction", &[61]),
    ("interface", &[82]),
    ("interface_desc", &[83]),
    ("in_total_bytes", &[85]),
    ("in_total_packets", &[86]),
    ("fwd_status", &[89]),
    ("fwd_reason", &[89]),
    ("app_desc", &[94]),
    ("app_id", &[95]),
    ("app_name", &[96]),
    ("exporter", &[130]),
    ("dropped_packets_total", &[135]),
    ("flow_end_reason", &[136]),
    ("exporting_pid", &[144]),
    ("observation_domain_id", &[149]),
    ("flow_start", &[150]),
    ("flow_end", &[151]),
    ("flow_start_ms", &[152]),
    ("flow_end_ms", &[153]),
    ("system_init_ms", &[160]),
    ("ignored_packet_total", &[164]),
    ("notsent_packet_total", &[167]),
    ("padding", &[210]),
    ("event_time", &[322]),
];

/// The fields of one metric line: names, and values with their quotes or suffix.
fn metric(line: &str) -> Vec<(&str, &str)> {
    let (_, line) = line.split_once(' ').expect("tags, then fields");
    let mut fields = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, octet) in line.bytes().chain([b' ']).enumerate() {
        quoted ^= octet == b'"';
        if !quoted && matches!(octet, b',' | b' ') {
            fields.extend(line[start..at].split_once('='));
            start = at + 1;
        }
        if !quoted && octet == b' ' {
            break;
        }
    }
    fields
}

/// The enterprise number and id that a name like `type_6871_rev_40` or `type_6871_32868` states.
fn numbered(name: &str) -> Option<(u32, u16)> {
    let (pen, id) = name.strip_prefix("type_")?.split_once('_')?;
    let id = match id.strip_prefix("rev_") {
        // Vendors mark reverse elements by the bit below the enterprise bit (RFC 5103 §6.1).
        Some(id) => id.parse::<u16>().ok()? | 0x4000,
        None => id.parse::<u16>().ok()? & 0x7fff,
    };
    Some((pen.parse().ok()?, id))
}

/// What is wrong with `record` as the source of `metric`.
fn differences(record: &[Field], metric: &[(&str, &str)]) -> Vec<String> {
    let mut used = Vec::new();
    let mut all = Vec::new();
    for &(name, want) in metric {
        let ids = NAMES.iter().find(|(known, _)| *known == name).map(|(_, ids)| *ids);
        let fits = |field: &Field| match (ids, numbered(name)) {
            (Some(ids), _) => field.pen == 0 && ids.contains(&field.id),
            (None, Some(number)) => (field.pen, field.id) == number,
            // A vendor's element that we have no name for: its value must be there, unused.
            (None, None) => field.name.is_none(),
        };
        let found = (0..record.len())
            .find(|at| fits(&record[*at]) && !used.contains(at) && equal(&record[*at], name, want));
        match found {
            Some(at) if !matches!(name, "icmp_type" | "fwd_status") => used.push(at),
            Some(_) => {}
            None => all.push(format!("{name}={want}")),
        }
    }
    all
}

fn equal(field: &Field, name: &str, want: &str) -> bool {
    if let Some(number) = want.strip_suffix('u') {
        let have = match (&field.value, name) {
            (Value::Null, _) => Some(0),
            (Value::String(hex), _) if field.name.is_none() => u64::from_str_radix(hex, 16).ok(),
            (value, "icmp_type") => value.as_u64().map(|both| both >> 8),
            (value, "icmp_code") => value.as_u64().map(|both| both & 255),
            (value, _) => value.as_u64(),
        };
        return have.is_some() && have == number.parse().ok();
    }
    let want = want.trim_matches('"').replace("\\\"", "\"").replace("\\\\", "\\");
    let width = field.length * 2;
    match &field.value {
        Value::Number(number) => {
            let number = number.as_u64().expect("a count");
            want == format!("0x{number:0width$x}")
                || want == number.to_string()
                || word(name, number).is_some_and(|word| word == want)
        }
        Value::String(text) if want.is_empty() => text.is_empty(),
        Value::String(text) if field.name.is_none() && !want.starts_with("0x") => {
            let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            let octets: Vec<u8> = (0..text.len()).step_by(2).map(pair).collect();
            let mac = octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>();
            String::from_utf8_lossy(&octets).trim_end_matches('\0') == want || mac.join(":") == want
        }
        Value::String(text) => {
            let address = |text: &str| text.parse::<IpAddr>().ok();
            *text == want
                || format!("0x{text}") == want
                || (address(text).is_some() && address(text) == address(&want))
        }
        Value::Null => want.is_empty(),
        // That program has no lists: it writes the octets, of which we check the semantic.
        Value::Object(list) => {
            let semantic = list["semantic"].as_str().expect("a list has semantics");
            let octet = match semantic {
                "noneOf" => "00",
                "allOf" => "03",
                "undefined" => "ff",
                _ => return false,
            };
            want.get(2..4) == Some(octet)
        }
        _ => false,
    }
}

/// That program's words for some numbers.
fn word(name: &str, number: u64) -> Option<String> {
    let word = match (name, number) {
        ("protocol", 1) => "icmp",
        ("protocol", 6) => "tcp",
        ("protocol", 17) => "udp",
        ("flow_end_reason", 1) => "idle timeout",
        ("flow_end_reason", 2) => "active timeout",
        ("flow_end_reason", 3) => "end of flow",
        ("flow_end_reason", 4) => "forced end",
        ("ip_version", 4) => "IPv4",
        ("direction", 0) => "ingress",
        ("direction", 1) => "egress",
        ("fwd_status" | "fwd_reason", 0) => "unknown",
        ("tcp_flags", flags) => {
            let bit = |(at, letter)| if flags >> (7 - at) & 1 == 1 { letter } else { '.' };
            return Some("CEUAPRSF".chars().enumerate().map(bit).collect());
        }
        _ => return None,
    };
    Some(word.to_owned())
}

/// v5: what that program takes from the header is compared with the message.
fn header_differences(lines: &[Line], metric: &mut Vec<(&str, &str)>) -> Vec<String> {
    let Some(line) = lines.first().filter(|line| line.version == Some(5)) else {
        return Vec::new();
    };
    let Body::Message(message) = &line.body else { panic!("the first line is a message") };
    let domain = line.domain.expect("v5 has engines");
    let have = [
        ("sys_uptime", format!("{}u", message.uptime_ms.expect("v5 has an uptime"))),
        ("seq_number", format!("{}u", message.sequence)),
        ("flows", format!("{}u", message.count.expect("v5 has a count"))),
        ("sampling_interval", format!("{}u", message.sampling_interval.expect("v5 has it"))),
        ("engine_type", format!("\"{}\"", domain >> 8)),
        ("engine_id", format!("\"0x{:02x}\"", domain & 255)),
    ];
    let mut all = Vec::new();
    metric.retain(|(name, want)| {
        let Some((_, have)) = have.iter().find(|(known, _)| known == name) else { return true };
        if have != want {
            all.push(format!("{name}: {have} for {want}"));
        }
        false
    });
    all
}

fn group(folder: &Path, golden: &str, lines: &[Line]) -> Vec<String> {
    let expected = std::fs::read_to_string(folder.join(golden)).expect("expected metrics");
    let expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
    let mut records: Vec<&[Field]> = lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Record { fields } => Some(&fields[..]),
            _ => None,
        })
        .collect();
    let mut all = Vec::new();
    if records.len() != expected.len() {
        all.push(format!("records: {} for {}", records.len(), expected.len()));
    }
    for text in expected {
        let mut metric = metric(text);
        all.extend(header_differences(lines, &mut metric));
        let best = (0..records.len())
            .map(|at| (differences(records[at], &metric), at))
            .min_by_key(|(differences, _)| differences.len());
        let Some((best, at)) = best else { continue };
        records.remove(at);
        all.extend(best);
    }
    all
}

#[test]
fn metrics_equal_those_of_telegraf() {
    let Some(folder) = vectors("netflow") else { return };
    let mut found = BTreeMap::new();
    let mut groups = 0;
    for row in rows(&folder).iter().filter(|row| row.golden.starts_with("telegraf")) {
        let name = Path::new(&row.golden).parent().and_then(Path::file_name);
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let lines = lines(&folder, row);
        let sflow = |line: &Line| match &line.body {
            Body::Error(error) => error.reason == "sflow_unsupported",
            _ => false,
        };
        assert_eq!(name.starts_with("sflow"), lines.iter().any(sflow), "{name}");
        groups += 1;
        let differences = group(&folder, &row.golden, &lines);
        if !differences.is_empty() {
            found.insert(name, differences);
        }
    }
    check_explained("telegraf", groups, &found, EXPLAINED);
}
