//! `weir decode`.

use serde_json::{Value, json};

use crate::captures::{conversations, exports, pcap, pcapng};
use crate::netflow::build::{FLOW, Format, fixed, fixed_record, flow, iana, set};
use crate::system::Bench;

/// A v5 datagram, a v9 one with template and record, an IPFIX one whose template is not there.
fn payloads() -> Vec<Vec<u8>> {
    let v9 =
        [Format::V9.template(256, &iana(FLOW)), set(256, &[flow(1_000, 10), vec![0; 3]].concat())];
    vec![
        fixed(5, 1, 1, 0, &[fixed_record()]),
        Format::V9.message(1, 7, &v9),
        Format::Ipfix.message(1, 9, &[set(300, &flow(5, 1))]),
    ]
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().expect("a type")).collect()
}

fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    let fields = line["fields"].as_array().expect("fields");
    fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("{name}: {line}"))
}

#[test]
fn captures_of_exports_are_shown_line_by_line() {
    let bench = Bench::new();
    let packets = exports(&payloads(), 2_055);
    bench.write("a.pcap", pcap(&packets)).write("a.pcapng", pcapng(&packets));
    let ended = bench.weir("decode a.pcap", 0);
    let lines = ended.lines();
    let want = ["message", "data", "message", "template", "data", "message", "error"];
    assert_eq!(types(&lines), want, "{}", ended.out);
    for line in &lines {
        for key in ["exporter", "offset", "version", "domain"] {
            assert!(!line[key].is_null(), "{key}: {line}");
        }
        assert_eq!(line["exporter"], "192.0.2.1", "{line}");
    }
    let record = &lines[4];
    assert_eq!(
        (&record["version"], &record["domain"], &record["id"]),
        (&json!(9), &json!(7), &json!(256))
    );
    let octets = field(record, "octetDeltaCount");
    assert_eq!(
        octets,
        &json!({"name": "octetDeltaCount", "pen": 0, "id": 1, "length": 4, "value": 1000})
    );
    assert_eq!(field(record, "sourceIPv4Address")["value"], "10.0.0.1");
    let error = &lines[6];
    assert!(error["reason"].is_string() && error["expected"].is_string(), "{error}");

    assert_eq!(bench.weir("decode a.pcap --port 2055", 0).out, ended.out);
    assert_eq!(bench.weir("decode a.pcap --port 9", 0).out, "");
    let ng = bench.weir("decode a.pcapng", 0).lines();
    assert_eq!(types(&ng), want);
    // Behind the section header and the interface description.
    assert_eq!((&lines[0]["offset"], &ng[0]["offset"]), (&json!(24), &json!(48)));
}

#[test]
fn raw_payloads_are_read_back_to_back() {
    let bench = Bench::new();
    bench.write("raw.bin", payloads().concat());
    let lines = bench.weir("decode raw.bin --exporter 198.51.100.7", 0).lines();
    assert_eq!(types(&lines)[..5], ["message", "data", "message", "template", "data"]);
    assert!(lines.iter().all(|line| line["exporter"] == "198.51.100.7"));
    let piped = bench.piped("decode - --exporter 198.51.100.7", payloads().concat(), 0).lines();
    assert_eq!(piped, lines);
    let lines = bench.piped("decode -", vec![0xff; 40], 0).lines();
    assert_eq!(types(&lines), ["error"], "{lines:?}");
    assert_eq!(lines[0]["offset"], 0);
}

#[test]
fn what_cannot_be_decoded_is_said() {
    let bench = Bench::new();
    let whole = pcap(&exports(&payloads(), 2_055));
    bench.write("cut.pcap", &whole[..whole.len() - 5]).write("web.pcap", pcap(&conversations()));
    let ended = bench.weir("decode cut.pcap", 3);
    assert_eq!(types(&ended.lines()), ["message", "data", "message", "template", "data"]);
    assert!(ended.err.contains("weir: cut.pcap: "), "{}", ended.err);
    let ended = bench.weir("decode web.pcap", 0);
    assert!(ended.err.contains("web.pcap: no UDP datagram looks like an export"), "{}", ended.err);
    let ended = bench.weir("decode none.pcap", 3);
    assert!(ended.err.contains("none.pcap: No such file"), "{}", ended.err);
    let ended = bench.write("d/x", "").weir("decode d", 3);
    assert!(ended.err.contains("d: is a directory, expected a file"), "{}", ended.err);
}

#[test]
fn an_empty_file_is_said_to_be() {
    let bench = Bench::new();
    bench.write("empty", "");
    let ended = bench.weir("decode empty", 3);
    assert!(ended.err.contains("empty: is empty, expected a capture"), "{}", ended.err);
    let ended = bench.weir("decode empty empty", 0);
    assert_eq!(ended.err.matches("is empty").count(), 2, "{}", ended.err);
}
