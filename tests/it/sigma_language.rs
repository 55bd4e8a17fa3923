//! The language, whole: every modifier, form of value, detection and condition of the
//! specification (2.1.0), each with a flow that it takes and one that it leaves.

use crate::sigma::{item_rule, load, rule, verdict};

/// 2026-03-05 03:10:00 UTC, in week 10, and a time that differs in every part.
const THEN: &str = r#"{"timestamp":1772680200000000}"#;
const LATER: &str = r#"{"timestamp":1806984660000000}"#;

/// Modifiers, the item, what it takes, what it leaves.
const MODIFIERS: &[(&str, &str, &str, &str)] = &[
    ("", "application: 'a?c*'", APP_ABCD, r#"{"application":"acd"}"#),
    ("contains", "application|contains: 'BC'", APP_ABCD, r#"{"application":"b-c"}"#),
    ("startswith", "application|startswith: 'AB'", APP_ABCD, r#"{"application":"xab"}"#),
    ("endswith", "application|endswith: 'CD'", APP_ABCD, r#"{"application":"cdx"}"#),
    (
        "contains all",
        "application|contains|all: ['ab', 'cd']",
        APP_ABCD,
        r#"{"application":"abc"}"#,
    ),
    ("exists", "rtt_us|exists: true", r#"{"rtt_us":0}"#, "{}"),
    ("exists", "rtt_us|exists: false", "{}", r#"{"rtt_us":0}"#),
    ("cased", "application|cased: 'abcd'", APP_ABCD, r#"{"application":"ABCD"}"#),
    ("contains cased", "application|contains|cased: 'bc'", APP_ABCD, r#"{"application":"aBCd"}"#),
    ("neq", "dst_port|neq: [22, 23]", r#"{"dst_port":24}"#, r#"{"dst_port":23}"#),
    ("re", "application|re: '^a.*d$'", APP_ABCD, r#"{"application":"ABCD"}"#),
    ("re i", "application|re|i: '^A.*D$'", APP_ABCD, r#"{"application":"abc"}"#),
    (
        "re m",
        "application|re|m: '^cd$'",
        r#"{"application":"ab\ncd"}"#,
        r#"{"application":"ab cd"}"#,
    ),
    (
        "re s",
        "application|re|s: 'ab.cd'",
        r#"{"application":"ab\ncd"}"#,
        r#"{"application":"abcd"}"#,
    ),
    ("base64", "application|base64: 'foo'", r#"{"application":"Zm9v"}"#, APP_ABCD),
    (
        "base64offset contains",
        "application|base64offset|contains: 'foobar'",
        r#"{"application":"xxZvb2Jhcg"}"#,
        APP_ABCD,
    ),
    (
        "utf16le base64",
        "application|utf16le|base64: 'ab'",
        r#"{"application":"YQBiAA=="}"#,
        r#"{"application":"AGEAYg=="}"#,
    ),
    (
        "wide base64",
        "application|wide|base64: 'ab'",
        r#"{"application":"YQBiAA=="}"#,
        r#"{"application":"AGEAYg=="}"#,
    ),
    (
        "utf16be base64",
        "application|utf16be|base64: 'ab'",
        r#"{"application":"AGEAYg=="}"#,
        r#"{"application":"YQBiAA=="}"#,
    ),
    (
        "utf16 base64",
        "application|utf16|base64: 'ab'",
        r#"{"application":"//5hAGIA"}"#,
        r#"{"application":"YQBiAA=="}"#,
    ),
    (
        "windash contains",
        "application|windash|contains: ' -x'",
        r#"{"application":"a /x"}"#,
        r#"{"application":"a +x"}"#,
    ),
    ("lt", "bytes_out|lt: 10", r#"{"bytes_out":9}"#, r#"{"bytes_out":10}"#),
    ("lte", "bytes_out|lte: 10", r#"{"bytes_out":10}"#, r#"{"bytes_out":11}"#),
    ("gt", "bytes_out|gt: 10", r#"{"bytes_out":11}"#, r#"{"bytes_out":10}"#),
    ("gte", "bytes_out|gte: 10", r#"{"bytes_out":10}"#, r#"{"bytes_out":9}"#),
    ("minute", "timestamp|minute: 10", THEN, LATER),
    ("hour", "timestamp|hour: 3", THEN, LATER),
    ("day", "timestamp|day: 5", THEN, LATER),
    ("week", "timestamp|week: 10", THEN, LATER),
    ("month", "timestamp|month: 3", THEN, LATER),
    ("year", "timestamp|year: 2026", THEN, LATER),
    (
        "cidr",
        "dst_ip|cidr: ['192.0.2.0/24', '2001:db8::/32']",
        r#"{"dst_ip":"2001:db8::1"}"#,
        r#"{"dst_ip":"192.0.3.1"}"#,
    ),
    (
        "cidr neq",
        "dst_ip|cidr|neq: '192.0.2.0/24'",
        r#"{"dst_ip":"192.0.3.1"}"#,
        r#"{"dst_ip":"192.0.2.1"}"#,
    ),
    (
        "fieldref",
        "in_if_name|fieldref: out_if_name",
        r#"{"in_if_name":"eth0","out_if_name":"eth0"}"#,
        r#"{"in_if_name":"eth0","out_if_name":"eth1"}"#,
    ),
    (
        "fieldref neq",
        "in_if_name|fieldref|neq: out_if_name",
        r#"{"in_if_name":"eth0","out_if_name":"eth1"}"#,
        r#"{"in_if_name":"eth0","out_if_name":"eth0"}"#,
    ),
    (
        "fieldref startswith",
        "in_if_name|fieldref|startswith: out_if_name",
        r#"{"in_if_name":"eth0","out_if_name":"eth"}"#,
        r#"{"in_if_name":"eth0","out_if_name":"th0"}"#,
    ),
    (
        "fieldref endswith",
        "in_if_name|fieldref|endswith: out_if_name",
        r#"{"in_if_name":"eth0","out_if_name":"th0"}"#,
        r#"{"in_if_name":"eth0","out_if_name":"eth"}"#,
    ),
    (
        "fieldref contains",
        "in_if_name|fieldref|contains: out_if_name",
        r#"{"in_if_name":"eth0","out_if_name":"th"}"#,
        r#"{"in_if_name":"eth0","out_if_name":"x"}"#,
    ),
];

const APP_ABCD: &str = r#"{"application":"abcd"}"#;

#[test]
fn every_modifier_takes_and_leaves() {
    for &(modifiers, item, takes, leaves) in MODIFIERS {
        let named = item.split(':').next().expect("a key").split('|').skip(1);
        assert_eq!(named.collect::<Vec<_>>().join(" "), modifiers, "{item} is in its row");
        let set = load(&item_rule(item));
        assert_eq!(verdict(&set, takes), "true", "{item} takes {takes}");
        assert_eq!(verdict(&set, leaves), "false", "{item} leaves {leaves}");
    }
}

/// Port 22 is `a`, the network of documentation is `b`, and TCP is `_c`.
const PARTS: &str =
    "a_port:\n    dst_port: 22\na_net:\n    dst_ip|cidr: 192.0.2.0/24\n_c:\n    proto: tcp";

/// Which of `a_port`, `a_net` and `_c` hold: all eight flows, by number.
fn flow(bits: usize) -> String {
    let port = if bits & 1 > 0 { 22 } else { 23 };
    let net = if bits & 2 > 0 { "192.0.2.1" } else { "198.51.100.1" };
    let proto = if bits & 4 > 0 { "tcp" } else { "udp" };
    format!(r#"{{"dst_port":{port},"dst_ip":"{net}","proto":"{proto}"}}"#)
}

/// A condition, and what it says of the eight flows: bit n of flow n.
type Condition = (&'static str, fn(a_port: bool, a_net: bool, c: bool) -> bool);

const CONDITIONS: &[Condition] = &[
    ("a_port", |p, _, _| p),
    ("not a_port", |p, _, _| !p),
    ("a_port and a_net", |p, n, _| p && n),
    ("a_port or a_net", |p, n, _| p || n),
    ("a_port AND a_net OR NOT _c", |p, n, c| p && n || !c),
    ("a_port or a_net and not _c", |p, n, c| p || n && !c),
    ("(a_port or a_net) and not _c", |p, n, c| (p || n) && !c),
    ("not (a_port or a_net)", |p, n, _| !(p || n)),
    ("not a_port and a_net", |p, n, _| !p && n),
    ("not not a_port", |p, _, _| p),
    ("1 of a_*", |p, n, _| p || n),
    ("any of a_*", |p, n, _| p || n),
    ("all of a_*", |p, n, _| p && n),
    ("1 of *_net", |_, n, _| n),
    ("all of a*t", |p, n, _| p && n),
    ("1 of _c*", |_, _, c| c),
    ("all of them", |p, n, _| p && n),
    ("1 of them and _c", |p, n, c| (p || n) && c),
    ("not 1 of them", |p, n, _| !(p || n)),
    ("not all of a_* and _c", |p, n, c| !(p && n) && c),
    ("\n        - a_port and _c\n        - a_net and not _c", |p, n, c| p && c || n && !c),
];

#[test]
fn every_condition_is_as_its_truth_table() {
    for &(condition, truth) in CONDITIONS {
        let set = load(&rule("one", PARTS, condition));
        for bits in 0..8 {
            let want = truth(bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            assert_eq!(verdict(&set, &flow(bits)), want.to_string(), "{condition} of {bits:03b}");
        }
    }
}

/// Detections of every form, and what they say of the eight flows.
const DETECTIONS: &[Condition] = &[
    ("dst_port: 22\ndst_ip|cidr: 192.0.2.0/24", |p, n, _| p && n),
    ("- dst_port: 22\n- dst_ip|cidr: 192.0.2.0/24", |p, n, _| p || n),
    ("- dst_port: 22\n  proto: tcp\n- dst_ip|cidr: 192.0.2.0/24", |p, n, c| p && c || n),
    ("dst_port: [22, 24]\nproto: ['udp', 'icmp']", |p, _, c| p && !c),
    ("dst_port:\n    - 22\n    - '24'", |p, _, _| p),
    ("dst_port|gte: 22\ndst_port|lt: 23", |p, _, _| p),
    ("rtt_us: null\nproto: 6", |_, _, c| c),
];

#[test]
fn every_form_of_detection_is_as_its_truth_table() {
    for &(detection, truth) in DETECTIONS {
        let lines: Vec<_> = detection.lines().map(|line| format!("    {line}")).collect();
        let set = load(&rule("one", &format!("s:\n{}", lines.join("\n")), "s"));
        for bits in 0..8 {
            let want = truth(bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            assert_eq!(verdict(&set, &flow(bits)), want.to_string(), "{detection} of {bits:03b}");
        }
    }
}

/// What cannot be, and the label that the load report has for it.
const REJECTED: &[(&str, &str, &str)] = &[
    ("s:\n    dst_port: 22", "s | count() by src_ip > 5", "aggregation"),
    ("s:\n    dst_port: 22", "s and t", "identifier"),
    ("s:\n    dst_port: 22", "s and", "syntax"),
    ("s:\n    dst_port: 22", "1 of t*", "identifier"),
    ("s:\n    src_ip|expand: '%nobody%'", "s", "placeholder"),
    ("s:\n    dst_port|nonsense: 22", "s", "syntax"),
    ("s:\n    application|contains|all: 'x'", "s", "all_of_one"),
    ("s:\n    application|re: '('", "s", "regex"),
    ("s:\n    dst_ip|cidr: '192.0.2.0/33'", "s", "value"),
];

#[test]
fn what_cannot_be_is_rejected_with_its_reason() {
    for &(detection, condition, want) in REJECTED {
        let set = load(&rule("one", detection, condition));
        assert_eq!(verdict(&set, "{}"), format!("rejected: {want}"), "{detection}: {condition}");
        let report = set.report().to_string();
        assert!(report.contains("test.yml:"), "file and line: {report}");
    }
}

#[test]
fn collections_hold_several_documents() {
    let one = rule("a", "s:\n    dst_port: 22", "s");
    let two = rule("b", "s:\n    proto: tcp", "s");
    let set = load(&format!("---\n{one}---\n{two}---\n"));
    assert_eq!(set.rules().len(), 2, "{}", set.report());

    let global = "title: Shared\naction: global\nlogsource:\n    category: network_connection\n\
                  level: low\ndetection:\n    condition: s\n";
    let part =
        |id: &str, port: u16| format!("id: {id}\ndetection:\n    s:\n        dst_port: {port}\n");
    let set = load(&format!("{global}---\n{}---\n{}", part("a", 22), part("b", 23)));
    assert_eq!(set.rules().len(), 2, "{}", set.report());
    assert_eq!(verdict(&set, r#"{"dst_port":23}"#), "true");
    assert_eq!(verdict(&set, r#"{"dst_port":24}"#), "false");
}
