//! Every format against known answers, and against its own document for any record.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Writer, documents};
use crate::config::{FieldValue, Format};
use crate::detect::{Alert, Evidence, Level, RuleMeta, TaggedSlice, Technique};
use crate::flow::record::ObservationPoint;
use crate::flow::{Biflow, Direction, EndReason, FlowId, Side, Slice};
use crate::net::Addr;
use crate::output::schema::{Fields, Layout, Record, Shown, faults};
use crate::output::{Context, Row, Stream, sample};
use crate::time::Micros;

const START: i64 = 1_760_000_000_000_001;

fn rule() -> Arc<RuleMeta> {
    let technique = |id: &str, name: &str| Technique { id: id.into(), name: Some(name.into()) };
    Arc::new(RuleMeta {
        id: "5f0c".into(),
        title: "Odd | Port".into(),
        level: Level::High,
        link: Some("https://example.org/r".into()),
        tags: vec!["attack.t1071.001".into()],
        tactics: vec!["command-and-control".into()],
        techniques: vec![technique("T1071.001", "Web Protocols"), technique("T1040", "Sniffing")],
        file: "rules/odd.yml".into(),
        line: 3,
        ..RuleMeta::default()
    })
}

fn flow() -> Biflow {
    let side = |octets, packets, flags| Side {
        octets,
        packets,
        tcp_flags: Some(flags),
        ..Side::default()
    };
    Biflow {
        src: Addr::v4(0x0a00_0001),
        dst: Addr::v4(0xc633_640a),
        src_port: 51_000,
        dst_port: 443,
        protocol: 6,
        first: Micros(START),
        last: Micros(START + 2_500_000),
        fwd: side(1_500, 12, 0x1b),
        bwd: side(90_000, 70, 0x12),
        point: ObservationPoint { exporter: Addr::v4(7), domain: 9, ..Default::default() },
        in_if: Some(3),
        out_if: Some(4),
        direction: Direction::Outbound,
        sampling_interval: Some(1),
        ..Biflow::default()
    }
}

fn slice(rules: Vec<Arc<RuleMeta>>) -> TaggedSlice {
    let slice = Slice {
        flow_id: FlowId(0xabc),
        number: 2,
        last: true,
        end_reason: EndReason::Idle,
        records: 3,
        flow: flow(),
        ..Slice::default()
    };
    TaggedSlice { slice, rules, excluded: None, verdict: None }
}

fn alert() -> Alert {
    let evidence = Evidence {
        field: "dst_port".into(),
        predicate: "is one of 443, 444".into(),
        value: "443".into(),
    };
    Alert {
        id: 0xa1,
        time: Micros(START + 5),
        rule: rule(),
        evidence: vec![evidence],
        flow_id: FlowId(0xabc),
        flow: flow(),
        ..Alert::default()
    }
}

fn context() -> Context {
    Context { community_id: false, sensor: "s1".into(), ..sample::context() }
}

fn own() -> Fields {
    Fields::new([("tenant".to_owned(), FieldValue::Text("a=b".to_owned()))])
}

fn write(format: Format, row: Row<'_>, context: &Context, own: &Fields) -> Vec<u8> {
    let stream = if row.alert.is_some() { Stream::Alerts } else { Stream::Slices };
    let layout = Layout::all(stream).with(own);
    let mut writer = Writer::new(format, &layout).expect("a format of that stream");
    let mut out = Vec::new();
    writer.record(&mut out, &Shown::new(row, context));
    out
}

fn object(format: Format, row: Row<'_>) -> Json {
    serde_json::from_slice(&write(format, row, &context(), &own())).expect("JSON")
}

/// Every member of `want` is in `got`, and equal; objects are compared member by member.
#[track_caller]
fn holds(got: &Json, want: &Json) {
    match want {
        Json::Object(members) => {
            for (key, want) in members {
                holds(got.get(key).unwrap_or_else(|| panic!("no {key} in {got}")), want);
            }
        }
        _ => assert_eq!(got, want),
    }
}

#[test]
fn ecs_says_what_the_slice_says() {
    let tagged = slice(vec![rule()]);
    let got = object(Format::Ecs, Row::from(&tagged));
    holds(
        &got,
        &json!({
            "@timestamp": "2025-10-09T08:53:20.000001Z",
            "ecs": {"version": "8.17.0"},
            "event": {
                "kind": "event", "category": ["network", "intrusion_detection"],
                "type": ["connection", "end"], "dataset": "weir.flow", "severity": 8,
                "id": "00000000000000000000000000000abc-2", "duration": 2_500_000_000_i64,
                "end": "2025-10-09T08:53:22.500001Z",
            },
            "source": {"ip": "10.0.0.1", "port": 51_000, "bytes": 1_500, "packets": 12},
            "destination": {"ip": "198.51.100.10", "port": 443, "bytes": 90_000, "packets": 70},
            "network": {
                "bytes": 91_500, "packets": 82, "transport": "tcp", "iana_number": "6",
                "type": "ipv4", "direction": "outbound",
            },
            "observer": {
                "name": "s1", "ip": "0.0.0.7", "hostname": "edge",
                "ingress": {"interface": {"id": "3"}},
            },
            "related": {"ip": ["10.0.0.1", "198.51.100.10"]},
            "rule": {"id": ["5f0c"], "name": ["Odd | Port"]},
            "threat": {
                "framework": "MITRE ATT&CK",
                "technique": {"id": ["T1071.001", "T1040"], "name": ["Web Protocols", "Sniffing"]},
            },
            "weir": {"schema": 1, "slice": 2, "fwd_tcp_flags": 27, "site": "default"},
            "labels": {"tenant": "a=b"},
        }),
    );
    let untagged = slice(Vec::new());
    let got = object(Format::Ecs, Row::from(&untagged));
    holds(&got["event"], &json!({"category": ["network"]}));
    for absent in ["rule", "threat"] {
        assert!(got.get(absent).is_none(), "{absent} in {got}");
    }
    assert!(got["event"].get("severity").is_none());
}

#[test]
fn ecs_says_what_the_alert_says() {
    let alert = alert();
    holds(
        &object(Format::Ecs, Row::from(&alert)),
        &json!({
            "message": "Odd | Port",
            "event": {
                "kind": "alert", "severity": 8, "id": "000000000000000000000000000000a1",
                "reference": "https://example.org/r", "start": "2025-10-09T08:53:20.000001Z",
            },
            "tags": ["attack.t1071.001"],
            "rule": {"id": "5f0c", "name": "Odd | Port", "ruleset": "rules/odd.yml"},
            "threat": {"tactic": {"name": ["command-and-control"]}},
            "weir": {
                "rule": {"level": "high", "line": 3},
                "evidence": [{
                    "field": "dst_port", "predicate": "is one of 443, 444", "value": "443",
                }],
            },
        }),
    );
}

#[test]
fn ocsf_says_what_the_slice_says() {
    let tagged = slice(vec![rule()]);
    let got = object(Format::Ocsf, Row::from(&tagged));
    holds(
        &got,
        &json!({
            "class_uid": 4001, "category_uid": 4, "activity_id": 6, "type_uid": 400_106,
            "time": 1_760_000_000_000_i64, "end_time": 1_760_000_002_500_i64, "duration": 2_500,
            "severity_id": 4, "severity": "High", "is_alert": true, "disposition_id": 15,
            "metadata": {"version": "1.5.0", "profiles": ["security_control"],
                "uid": "00000000000000000000000000000abc-2", "log_provider": "s1"},
            "src_endpoint": {"ip": "10.0.0.1", "port": 51_000},
            "dst_endpoint": {"ip": "198.51.100.10", "port": 443},
            "connection_info": {
                "uid": "00000000000000000000000000000abc", "direction_id": 2,
                "direction": "Outbound", "protocol_num": 6, "protocol_name": "tcp",
                "protocol_ver_id": 4, "tcp_flags": 27,
            },
            "traffic": {"bytes": 91_500, "bytes_out": 1_500, "bytes_in": 90_000, "packets": 82},
            "attacks": [
                {"technique": {"uid": "T1071", "name": "Application Layer Protocol"},
                 "sub_technique": {"uid": "T1071.001", "name": "Web Protocols"}},
                {"technique": {"uid": "T1040", "name": "Sniffing"}},
            ],
            "unmapped": {"schema": 1, "timestamp": START, "exporter": "0.0.0.7", "tenant": "a=b"},
        }),
    );
    let untagged = object(Format::Ocsf, Row::from(&slice(Vec::new())));
    holds(&untagged, &json!({"severity_id": 1, "severity": "Informational"}));
    for absent in ["attacks", "is_alert", "action_id"] {
        assert!(untagged.get(absent).is_none(), "{absent} in {untagged}");
    }
}

#[test]
fn ocsf_says_what_the_alert_says() {
    let alert = alert();
    holds(
        &object(Format::Ocsf, Row::from(&alert)),
        &json!({
            "class_uid": 2004, "category_uid": 2, "type_uid": 200_401, "severity_id": 4,
            "finding_info": {
                "uid": "000000000000000000000000000000a1", "title": "Odd | Port",
                "src_url": "https://example.org/r",
                "analytic": {"uid": "5f0c", "type_id": 1},
            },
            "evidences": [{
                "src_endpoint": {"ip": "10.0.0.1", "port": 51_000},
                "dst_endpoint": {"ip": "198.51.100.10", "port": 443},
                "connection_info": {
                    "uid": "00000000000000000000000000000abc", "direction_id": 2,
                    "direction": "Outbound", "protocol_num": 6, "protocol_name": "tcp",
                    "protocol_ver_id": 4,
                },
                "data": {"predicates": [{
                    "field": "dst_port", "predicate": "is one of 443, 444", "value": "443",
                }]},
            }],
        }),
    );
}

#[test]
fn detectflow_has_exactly_its_two_keys_at_the_end() {
    let techniques =
        r#"[{"id":"T1071.001","name":"Web Protocols"},{"id":"T1040","name":"Sniffing"}]"#;
    let detection = format!(
        r#"[{{"rule_id":"5f0c","rule_title":"Odd | Port","severity":"high","technique_ids":["T1071.001","T1040"],"techniques":{techniques}}}]}}"#
    );
    let check = |row: Row<'_>, end: &str| {
        let text = write(Format::Detectflow, row, &context(), &own());
        let text = String::from_utf8(text).expect("text");
        assert!(text.ends_with(end), "{text}\nends not with {end}");
        let event: Json = serde_json::from_str(&text).expect("JSON");
        assert!(event.get("rule").is_none() && event.get("techniques").is_none());
        assert_eq!(event["dest_port"], json!(443));
    };
    let tagged = format!(
        r#","schema":1,"tenant":"a=b","sigma_rule_ids":["5f0c"],"sigma_detections":{detection}"#
    );
    check(Row::from(&slice(vec![rule()])), &tagged);
    check(Row::from(&alert()), &tagged);
    let untagged = r#","schema":1,"tenant":"a=b","sigma_rule_ids":[],"sigma_detections":[]}"#;
    check(Row::from(&slice(Vec::new())), untagged);
}

#[test]
fn cef_escapes_what_it_must() {
    let check = |row: Row<'_>, begin: &str, parts: &[&str]| {
        let text = write(Format::Cef, row, &context(), &own());
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with(begin), "{text}");
        for part in parts {
            assert!(text.contains(part), "no {part} in {text}");
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    check(
        Row::from(&alert()),
        &format!("CEF:0|Weir|Weir|{version}|5f0c|Odd \\| Port|8|rt=1760000000000 start="),
        &[
            " src=10.0.0.1 spt=51000 dst=198.51.100.10 dpt=443 proto=TCP in=1500 out=90000 ",
            " msg=dst_port is one of 443, 444 (is 443) cn1=12 cn1Label=packets in ",
            " cs2=T1071.001,T1040 cs2Label=techniques ",
            " tenant=a\\=b",
        ],
    );
    let mut v6 = slice(Vec::new());
    v6.slice.flow.src = Addr(0x2001_0db8 << 96 | 1);
    let begin = format!("CEF:0|Weir|Weir|{version}|flow|Network flow|0|");
    check(Row::from(&v6), &begin, &[" c6a2=2001:db8::1 c6a2Label=Source IPv6 Address spt="]);
}

/// A field of a message: its number, and the varint or the octets.
type Found = (u64, Result<u64, Vec<u8>>);

/// The fields of one message.
fn fields(message: &[u8]) -> Vec<Found> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let (mut rest, mut found) = (message, Vec::new());
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let value = match key & 7 {
            0 => Ok(varint(&mut rest)),
            2 => {
                let length = usize::try_from(varint(&mut rest)).expect("a length");
                let (value, after) = rest.split_at(length);
                rest = after;
                Err(value.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

#[test]
fn protobuf_has_a_message_for_each_direction_seen() {
    let messages = |slice: &TaggedSlice| {
        let text = write(Format::Protobuf, Row::from(slice), &context(), &own());
        fields_of_all(&text)
    };
    let both = messages(&slice(vec![rule()]));
    assert_eq!(both.len(), 2);
    let check = |message: &[Found], number: u64, want: Result<u64, &[u8]>| {
        let found = message.iter().find(|(n, _)| *n == number).map(|(_, v)| v.clone());
        assert_eq!(found, Some(want.map_err(<[u8]>::to_vec)), "field {number}");
    };
    let ends: [&[u8]; 2] = [&[10, 0, 0, 1], &[198, 51, 100, 10]];
    for (message, src, dst, bytes, ports, back) in [
        (&both[0], ends[0], ends[1], 1_500, (51_000, 443), false),
        (&both[1], ends[1], ends[0], 90_000, (443, 51_000), true),
    ] {
        check(message, 6, Err(src));
        check(message, 7, Err(dst));
        check(message, 9, Ok(bytes));
        check(message, 21, Ok(ports.0));
        check(message, 22, Ok(ports.1));
        check(message, 20, Ok(6));
        check(message, 30, Ok(0x0800));
        check(message, 11, Err(&[0, 0, 0, 7]));
        check(message, 111, Ok(1_760_000_000_000_001_000));
        check(message, 3_001, Ok(1));
        check(message, 3_011, Err(b"5f0c"));
        check(message, 3_012, Err(b"\x0a\x06tenant\x12\x03a=b"));
        assert_eq!(message.iter().any(|(n, _)| *n == 3_004), back);
    }
    let mut one = slice(Vec::new());
    one.slice.flow.bwd = Side::default();
    assert_eq!(messages(&one).len(), 1);
    one.slice.flow.fwd = Side::default();
    assert_eq!(messages(&one).len(), 1, "never none");
}

fn fields_of_all(mut text: &[u8]) -> Vec<Vec<Found>> {
    let mut messages = Vec::new();
    while !text.is_empty() {
        let (length, octets) = match text {
            [a, b, ..] if *a >= 0x80 => (usize::from(a & 0x7f) | usize::from(*b) << 7, 2),
            [a, ..] => (usize::from(*a), 1),
            [] => unreachable!(),
        };
        let (message, rest) = text[octets..].split_at(length);
        messages.push(fields(message));
        text = rest;
    }
    messages
}

#[test]
fn what_has_no_single_records_is_refused() {
    let check = |format, stream, want: bool| {
        assert_eq!(Writer::new(format, &Layout::all(stream)).is_ok(), want, "{format:?}");
    };
    check(Format::Parquet, Stream::Slices, false);
    check(Format::Protobuf, Stream::Alerts, false);
    check(Format::Protobuf, Stream::Slices, true);
    check(Format::Ocsf, Stream::Alerts, true);
}

/// A record as the spool gives it back: lists are the JSON that NDJSON has for them.
struct Spooled<'a> {
    shown: Shown<'a>,
    json: Vec<Option<String>>,
}

impl<'a> Spooled<'a> {
    fn new(shown: Shown<'a>, stream: Stream) -> Self {
        use crate::output::schema::{Kind, Value};
        let lists = [Kind::TextList, Kind::AddressList, Kind::Detections, Kind::Techniques];
        let list = |kind| lists.contains(&kind) || kind == Kind::Evidence;
        let json = stream.table().iter().enumerate().map(|(index, field)| {
            let value = shown.value(index);
            (list(field.kind) && value != Value::Null).then(|| {
                let mut text = Vec::new();
                crate::output::ndjson::write_value(&mut text, &value);
                String::from_utf8(text).expect("JSON is UTF-8")
            })
        });
        Self { shown, json: json.collect() }
    }
}

impl Record for Spooled<'_> {
    fn value(&self, index: usize) -> crate::output::schema::Value<'_> {
        match &self.json[index] {
            Some(text) => crate::output::schema::Value::Json(text),
            None => self.shown.value(index),
        }
    }
}

const ALL: [Format; 7] = [
    Format::Ndjson,
    Format::Csv,
    Format::Detectflow,
    Format::Ecs,
    Format::Ocsf,
    Format::Cef,
    Format::Protobuf,
];

/// Every format of `row`: that of the row itself is that of the row out of the spool, and JSON is
/// as its document says.
fn conforms(row: Row<'_>, stream: Stream) {
    let context = sample::context();
    let layout = Layout::all(stream).with(&own());
    let shown = Shown::new(row, &context);
    let spooled = Spooled::new(shown, stream);
    for format in ALL {
        let Ok(mut writer) = Writer::new(format, &layout) else { continue };
        let (mut direct, mut later) = (Vec::new(), Vec::new());
        writer.record(&mut direct, &shown);
        writer.record(&mut later, &spooled);
        assert_eq!(direct, later, "{format:?}");
        let name = if stream == Stream::Slices { "slice" } else { "alert" };
        let path = format!("docs/schema/{}.{name}.schema.json", format.as_str());
        let document = documents().into_iter().find(|(file, _)| *file == path);
        let Some((_, document)) = document else { continue };
        let document: Json = serde_json::from_str(&document).expect("JSON");
        let record: Json = serde_json::from_slice(&direct).expect("JSON");
        assert_eq!(faults(&document, &record, format.as_str()), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_record_is_as_its_document_says(slice in sample::slice(), alert in sample::alert()) {
        conforms(Row::from(&slice), Stream::Slices);
        conforms(Row::from(&alert), Stream::Alerts);
    }
}
