//! `weir rules`.

use serde_json::json;

use crate::system::Bench;

pub(super) const TELNET: &str = "\
title: Telnet
id: telnet
logsource:
    category: network_connection
detection:
    selection:
        dst_port: 23
        Protocol: tcp
    condition: selection
level: medium
";

pub(super) const PROCESS: &str = "\
title: Process
id: process
logsource:
    category: process_creation
detection:
    selection:
        Image: x
    condition: selection
";

const BIG: &str = "\
title: Much sent
id: big
logsource:
    product: zeek
    service: conn
detection:
    selection:
        orig_bytes|gte: 1000
    condition: selection
";

const INSIDE: &str = "\
title: From inside
id: 10-inside
logsource:
    category: firewall
detection:
    selection:
        SourceIp|cidr: 10.0.0.0/8
    condition: selection
";

const BAD: &str = "title: Bad\ndetection: [\n";

#[test]
fn a_check_names_what_is_rejected_and_why() {
    let bench = Bench::new();
    bench.write("good/a.yml", TELNET).write("good/below/b.yaml", BIG).write("good/c.txt", BAD);
    let ended = bench.weir("rules check good", 0);
    assert_eq!(ended.out, "2 rules loaded, 0 rejected, 0 disabled\n");
    bench.write("bad/a.yml", BAD).write("bad/b.yml", PROCESS);
    let ended = bench.weir("rules check good bad", 3);
    assert!(ended.out.contains("bad/a.yml:3: Bad: rejected: not a Sigma rule"), "{}", ended.out);
    assert!(
        ended.out.contains("bad/b.yml:1: Process (process): rejected: its log source"),
        "{}",
        ended.out
    );
    assert!(ended.out.ends_with("2 rules loaded, 2 rejected, 0 disabled\n"), "{}", ended.out);
    assert_eq!(ended.err, "weir: 2 rules are rejected\n");
    let ended = bench.weir("rules check good/a.yml bad/b.yml", 3);
    assert_eq!(ended.err, "weir: 1 rule is rejected\n");
    bench.write("empty/readme.txt", "none");
    let ended = bench.weir("rules check empty", 3);
    assert_eq!(ended.err, "weir: empty: no rule files (*.yml, *.yaml)\n");
    let ended = bench.weir("rules check none", 3);
    assert!(ended.err.starts_with("weir: none: No such file"), "{}", ended.err);
}

#[test]
fn a_configuration_adds_log_sources_and_disables_rules() {
    let bench = Bench::new();
    bench.write("r/a.yml", TELNET).write("r/b.yml", PROCESS.replace("Image: x", "dst_port: 1"));
    let config = "[rules]\ndisable = [\"telnet\"]\n[[rules.logsource]]\n\
                  category = \"process_creation\"\n";
    bench.write("weir.toml", config);
    let ended = bench.weir("rules check r -c weir.toml", 0);
    assert!(ended.out.ends_with("1 rules loaded, 0 rejected, 1 disabled\n"), "{}", ended.out);
}

/// The same flow in each dialect: telnet from 10.0.0.1 with 2,000 octets out.
#[test]
fn events_of_all_dialects_match_alike() {
    let events = [
        json!({"src_ip": "10.0.0.1", "dest_ip": "10.0.0.2", "src_port": 40000, "dest_port": 23,
               "protocol": 6, "fwd_bytes": 2000}),
        json!({"SourceIp": "10.0.0.1", "DestinationIp": "10.0.0.2", "DestinationPort": "23",
               "Protocol": "tcp", "bytes_out": 2000}),
        json!({"src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "dst_port": 23, "proto": "tcp",
               "bytes_out": 2000}),
        json!({"id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.2", "id.resp_p": 23, "proto": "tcp",
               "orig_bytes": 2000}),
        json!({"source": {"ip": "10.0.0.1", "bytes": 2000}, "network": {"transport": "tcp"},
               "destination": {"ip": "10.0.0.2", "port": 23}}),
        json!({"source.ip": "10.0.0.1", "source.bytes": 2000, "network.transport": "tcp",
               "destination.port": 23}),
    ];
    let bench = Bench::new();
    bench.write("r/a.yml", format!("{TELNET}---\n{BIG}")).write("r/z.yml", INSIDE);
    let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    bench.write("e.jsonl", lines.join("\n"));
    let ended = bench.weir("rules test r --events e.jsonl", 0);
    let want = r#"["telnet","big","10-inside"]"#;
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), vec![want; events.len()]);

    // The order of rules is that of files and of the rules in them; blank lines are no events.
    let more = "\n{\"dst_port\": 23, \"proto\": 6}\n\n{}\n{\"src_ip\": \"10.9.9.9\"}\n";
    let ended = bench.piped("rules test r --events -", more, 0);
    assert_eq!(ended.out, "[\"telnet\"]\n[]\n[\"10-inside\"]\n");
}

#[test]
fn a_trial_runs_events_through_correlations() {
    let bench = Bench::new();
    let twice = "---\ntitle: Twice\nid: twice\ncorrelation:\n    type: event_count\n    rules: \
                 [telnet]\n    timespan: 1m\n    condition: {gte: 2}\n";
    bench.write("r/a.yml", format!("{TELNET}{twice}"));
    let event = r#"{"dst_port": 23, "proto": 6, "ts": 1000}"#;
    bench.write("e.jsonl", format!("{event}\n{event}\n{event}\n"));
    let ended = bench.weir("rules test r --events e.jsonl", 0);
    assert_eq!(ended.out, "[\"telnet\"]\n[\"telnet\",\"twice\"]\n[\"telnet\"]\n");
}

#[test]
fn a_trial_ends_with_3_only_where_something_is_invalid() {
    let bench = Bench::new();
    bench.write("r/a.yml", TELNET).write("none/b.yml", PROCESS).write("bad/c.yml", BAD);
    bench.write("e.jsonl", "{\"dst_port\": 23, \"proto\": 6}\n");
    let ended = bench.weir("rules test r none --events e.jsonl", 0);
    assert_eq!(ended.out, "[\"telnet\"]\n");
    assert!(ended.err.contains("none/b.yml:1: Process (process): rejected"), "{}", ended.err);
    let ended = bench.weir("rules test r bad --events e.jsonl", 3);
    assert_eq!(ended.out, "[\"telnet\"]\n", "what can be tried is tried");
    assert!(ended.err.contains("bad/c.yml:3: Bad: rejected"), "{}", ended.err);
    // A line that is no event is named, and the rest is tried.
    let lines = "{}\n{\"dst_port\": \n{\"dst_port\": 23, \"proto\": 6}\n\u{fffd}\n";
    bench.write("broken.jsonl", lines);
    let ended = bench.weir("-q rules test r --events broken.jsonl", 3);
    assert_eq!(ended.out, "[]\nnull\n[\"telnet\"]\nnull\n");
    for says in
        [" broken.jsonl:2: ", " broken.jsonl:4: ", "weir: broken.jsonl: 2 lines are no events"]
    {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
    let ended = bench.weir("rules test r --events none.jsonl", 3);
    assert!(ended.err.contains("none.jsonl: No such file"), "{}", ended.err);
}
