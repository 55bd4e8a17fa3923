//! `netflow_parser` as oracle: the crate itself on every vector, and the snapshots of its tests,
//! whose YAML is how the crate serialises. Records are compared field by field, in order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use netflow_parser::NetflowParser;
use netflow_parser::protocol::ProtocolTypes;
use serde_json::{Map, Value};
use weir::decode::netflow::inspect::{Body, Line};
use weir::decode::netflow::record::Field;

use super::{Row, check_explained, datagrams, lines, rows, yaml};
use crate::support::vectors;

const RESERVED: &str = "the crate gives the message up at a set of v9's; we skip reserved sets";

const EMPTY: &str = "the crate drops a record with an empty variable-length field, and its set";

const EXPLAINED: &[(&str, &str)] = &[
    ("ipfix_pen_35632/message-1+3", EMPTY),
    ("ipfix_test_ixia_tpldata256", EMPTY),
    ("ipfix_test_ixia_tpldata271", EMPTY),
    ("ipfix_test_procera_tpl52935+1", EMPTY),
    ("issue_13305/message-1+3", EMPTY),
    ("ipfix_test_netscaler_data+1", "the crate does not let data wait unless it is told to"),
    (
        "issue_14370/message",
        "the crate refuses a template with fields of length 0 that are not variable",
    ),
    ("it_parses_ipfix_with_v9_options_template_packet_29", RESERVED),
    ("netflow5_test_invalid01", "the crate refuses the datagram; we show the records that fit"),
    ("netflow5_test_invalid02", "the crate refuses the datagram; we show the records that fit"),
    (
        "netflow9_test_h3c_netstream_varstring_tpl3281+1",
        "the crate takes 65,535 for a length in v9; H3C means a variable one",
    ),
    (
        "netflow9_test_paloalto_81_tpl256-263+1",
        "the crate refuses a datagram that is filled up with zeros",
    ),
];

const SNAPSHOTS_EXPLAINED: &[(&str, &str)] = &[
    (
        "can_read_v9_with_options_template_and_template",
        "two of its three packets, and the only record, are not among the vectors",
    ),
    ("it_parses_ipfix_with_v9_options_template_packet", RESERVED),
    (
        "options_no_data",
        "a scope length of 33 octets: we take the whole fields, the crate refuses the template",
    ),
];

/// The values of each record in serialised packets, in order, scope fields first.
fn records(packets: &Value) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for (version, packet) in packets.as_array().into_iter().flatten().flat_map(entries) {
        for set in packet["flowsets"].as_array().into_iter().flatten() {
            if matches!(version, "V5" | "V7") {
                let name = |name: &str| set[name].clone();
                all.push(["src_port", "dst_port", "d_octets", "d_pkts"].map(name).to_vec());
            }
            for (kind, body) in entries(&set["body"]) {
                if kind.contains("Data") {
                    let records = body["fields"].as_array().into_iter().flatten();
                    all.extend(records.map(record));
                }
            }
        }
    }
    all
}

fn record(record: &Value) -> Vec<Value> {
    let pairs = |list: &Value| -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|pair| pair[1].clone()).collect()
    };
    match record.get("scope_fields") {
        Some(scope) => {
            let scope = scope.as_array().into_iter().flatten().flat_map(entries);
            let scope = scope.map(|(_, octets)| {
                Value::from(Map::from_iter([("Vec".to_owned(), octets.clone())]))
            });
            scope.chain(pairs(&record["options_fields"])).collect()
        }
        None => pairs(record),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Our records; of v5 and v7 the fields that [`records`] takes.
fn ours(lines: &[Line]) -> Vec<Vec<Field>> {
    let record = |line: &Line| match &line.body {
        Body::Record { fields } if matches!(line.version, Some(5 | 7)) => {
            let of = |id| fields.iter().find(|field| field.id == id).cloned();
            Some([7, 11, 1, 2].into_iter().filter_map(of).collect())
        }
        Body::Record { fields } => Some(fields.clone()),
        _ => None,
    };
    lines.iter().filter_map(record).collect()
}

/// Whether `field` and the oracle's `want` are the same value; `None` if `want` is of a kind that
/// is not compared.
fn same(field: &Field, want: &Value) -> Option<bool> {
    if want.is_number() {
        return Some(field.value == *want);
    }
    let (kind, want) = entries(want).next()?;
    match kind {
        "DataNumber" => {
            let (_, number) = entries(want).next()?;
            Some(
                integer(field).map(i128::from) == number.as_i64().map(i128::from)
                    || integer(field) == number.as_u64()
                    || field.value == *number,
            )
        }
        "Vec" => {
            let octets = want.as_array()?.iter().map(|octet| octet.as_u64().unwrap_or(256) as u8);
            let octets: Vec<u8> = octets.collect();
            let number = octets.iter().fold(0_u128, |n, &octet| n << 8 | u128::from(octet));
            Some(match &field.value {
                Value::Object(_) => return None,
                Value::String(text) => {
                    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                    *text == hex
                        || std::str::from_utf8(&octets)
                            .is_ok_and(|t| t.trim_end_matches('\0') == text)
                        || text.replace(':', "") == hex
                        || text.parse::<IpAddr>().is_ok_and(|ip| match ip {
                            IpAddr::V4(ip) => ip.octets() == octets[..],
                            IpAddr::V6(ip) => ip.octets() == octets[..],
                        })
                }
                Value::Null => octets.is_empty(),
                Value::Number(have) => {
                    have.as_u64().map(u128::from) == Some(number) || have.is_f64()
                }
                _ => integer(field).map(u128::from) == Some(number),
            })
        }
        "String" => {
            let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
            let have = field.value.as_str()?;
            let octets = octets(have).unwrap_or_default();
            let want = plain(want.as_str()?);
            Some(plain(have) == want || plain(&String::from_utf8_lossy(&octets)) == want)
        }
        "Ip4Addr" | "Ip6Addr" => {
            let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
            let octets = octets(field.value.as_str()?).unwrap_or_default();
            let unknown = match address(want)? {
                IpAddr::V4(ip) => ip.octets() == octets[..],
                IpAddr::V6(ip) => ip.octets() == octets[..],
            };
            Some(address(&field.value) == address(want) || unknown)
        }
        "MacAddr" => Some(field.value == *want),
        "Float64" => Some(
            field
                .value
                .as_f64()
                .zip(want.as_f64())
                .is_some_and(|(a, b)| (a - b).abs() <= b.abs() * 1e-6),
        ),
        "Duration" => {
            let nanos = want["secs"].as_i64()? * 1_000_000_000 + want["nanos"].as_i64()?;
            let per_unit = match field.name.as_deref()? {
                name if name.ends_with("Milliseconds") || name.ends_with("UpTime") => 1_000_000,
                name if name.ends_with("Microseconds") => return None,
                name if name.ends_with("Nanoseconds") => return None,
                name if name.ends_with("Seconds") => 1_000_000_000,
                _ => return None,
            };
            Some(field.value.as_i64() == Some(nanos / per_unit))
        }
        "ProtocolType" => {
            let protocol = u8::try_from(field.value.as_u64()?).ok()?;
            Some(format!("{:?}", ProtocolTypes::from(protocol)) == want.as_str()?)
        }
        "FlowEndReason" => {
            let names = ["", "IdleTimeout", "ActiveTimeout", "EndOfFlow", "ForcedEnd"];
            Some(*names.get(usize::try_from(field.value.as_u64()?).ok()?)? == want.as_str()?)
        }
        "TcpControlBits" => {
            let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
            let bit = |(at, name): (usize, &&str)| u64::from(want[*name] == true) << at;
            let flags: u64 = names.iter().enumerate().map(bit).sum();
            Some(field.value.as_u64()? & 0xff == flags)
        }
        "ApplicationId" => {
            let class = want["classification_engine_id"].as_u64()?;
            Some(field.value.as_str()?.starts_with(&format!("{class:02x}")))
        }
        _ => None,
    }
}

fn integer(field: &Field) -> Option<u64> {
    match &field.value {
        Value::Bool(truth) => Some(if *truth { 1 } else { 2 }),
        Value::Number(number) => number.as_u64(),
        Value::String(hex) => u64::from_str_radix(hex, 16).ok(),
        _ => None,
    }
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    hex.len().is_multiple_of(2).then(|| (0..hex.len()).step_by(2).map(pair).collect())?
}

/// What differs, and how many values were compared.
fn differences(have: &[Vec<Field>], want: &[Vec<Value>]) -> (Vec<String>, usize) {
    let mut all = Vec::new();
    let mut compared = 0;
    if have.len() != want.len() {
        all.push(format!("records: {} for {}", have.len(), want.len()));
        return (all, compared);
    }
    for (at, (have, want)) in have.iter().zip(want).enumerate() {
        if have.len() != want.len() {
            all.push(format!("record {at}: {} fields for {}", have.len(), want.len()));
            continue;
        }
        for (field, want) in have.iter().zip(want) {
            compared += usize::from(same(field, want).is_some());
            if same(field, want) == Some(false) {
                let (name, pen, id) = (&field.name, field.pen, field.id);
                all.push(format!("record {at}: {name:?} {pen}/{id}: {} for {want}", field.value));
            }
        }
    }
    (all, compared)
}

#[test]
fn records_equal_those_of_netflow_parser() {
    let Some(folder) = vectors("netflow") else { return };
    let mut found = BTreeMap::new();
    let (mut groups, mut values) = (0, 0);
    for row in &rows(&folder) {
        let mut parser = NetflowParser::default();
        let mut want = Vec::new();
        for datagram in datagrams(&folder, row) {
            let packets = parser.parse_bytes(&datagram.payload).packets;
            want.extend(records(&serde_json::to_value(packets).expect("packets are JSON")));
        }
        let (differences, compared) = differences(&ours(&lines(&folder, row)), &want);
        groups += 1;
        values += compared;
        if !differences.is_empty() {
            found.insert(row.name(), differences);
        }
    }
    println!("netflow_parser: {values} values compared");
    check_explained("netflow_parser", groups, &found, EXPLAINED);
}

/// The rows of `netflow_parser/hex` by the test that they come from, each in order of feeding.
fn snapshot_groups(folder: &Path) -> BTreeMap<String, Row> {
    let mut groups = BTreeMap::<String, Row>::new();
    let mut rows: Vec<Row> =
        rows(folder).into_iter().filter(|row| row.golden.starts_with("netflow_parser")).collect();
    let test_and_order = |row: &Row| {
        let name = row.name();
        let (test, order) = name.rsplit_once('_').expect("a name has its order");
        (test.to_owned(), order.parse::<u32>().expect("an order"))
    };
    rows.sort_by_key(test_and_order);
    for row in rows {
        let (test, _) = test_and_order(&row);
        match groups.get_mut(&test) {
            Some(group) => group.files.extend(row.files),
            None => drop(groups.insert(test, row)),
        }
    }
    groups
}

#[test]
fn records_equal_the_snapshots_of_netflow_parser() {
    let Some(folder) = vectors("netflow") else { return };
    let snapshots = folder.join("netflow_parser/snapshots_yaml");
    let names: Vec<String> = std::fs::read_dir(snapshots.clone())
        .expect("snapshots")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let mut found = BTreeMap::new();
    let (mut groups, mut values) = (0, 0);
    for (test, row) in snapshot_groups(&folder) {
        let Some(file) = names.iter().find(|name| name.ends_with(&format!("__{test}.snap"))) else {
            println!("snapshots: {test} has none; its counts are checked");
            continue;
        };
        let text = std::fs::read_to_string(snapshots.join(file)).expect("a snapshot");
        let packets = yaml::parse(text.splitn(3, "---\n").nth(2).expect("two headers"));
        let want = records(&packets);
        // A snapshot may show one packet alone: the window of our records that fits best.
        let have = ours(&lines(&folder, &row));
        let window = want.len().clamp(1, have.len().max(1));
        let fits = have.windows(window).map(|have| differences(have, &want));
        let (differences, compared) = fits
            .min_by_key(|(differences, _)| differences.len())
            .unwrap_or_else(|| differences(&[], &want));
        groups += 1;
        values += compared;
        if !differences.is_empty() {
            found.insert(test, differences);
        }
    }
    println!("snapshots: {values} values compared");
    check_explained("snapshots", groups, &found, SNAPSHOTS_EXPLAINED);
}
