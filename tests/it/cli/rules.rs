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
        ended.out.contains("bad/b.yml:3: Process (process): rejected: its log source"),
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
    bench.write("loud/A.YML", [b"\xef\xbb\xbf", TELNET.as_bytes()].concat());
    assert_eq!(bench.weir("rules check loud", 0).out, "1 rules loaded, 0 rejected, 0 disabled\n");
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
fn exclusions_of_the_configuration_apply_to_events() {
    let bench = Bench::new();
    bench.write("r/a.yml", TELNET);
    let lab = "title: Lab\ndetection: {s: {src_ip: 10.0.0.1}, condition: s}\n";
    bench.write("x/lab.yml", lab);
    bench.write("weir.toml", "[rules]\nexclusions = [\"x\"]\n");
    let event = |src: &str| format!("{{\"src_ip\": \"{src}\", \"dst_port\": 23, \"proto\": 6}}\n");
    bench.write("e.jsonl", event("10.0.0.1") + &event("10.0.0.2"));
    let ended = bench.weir("rules test r -c weir.toml --events e.jsonl", 0);
    assert_eq!(ended.out, "[]\n[\"telnet\"]\n");
    assert!(ended.err.contains("e.jsonl:1: exclusion `Lab` keeps it"), "{}", ended.err);
}

/// What a sensor wrote is what rules are tried on: sites by name, all that it knows of a flow, and times
/// as other formats write them.
#[test]
fn slices_and_other_formats_are_events() {
    let bench = Bench::new();
    let tunnel = "title: Tunnel\nid: tunnel\nlogsource: {category: firewall}\ndetection:\n  s: {tunnel: gre, \
                  site: branch, tunnel_id: 7}\n  condition: s\n";
    let night = "title: Night\nid: night\nlogsource: {category: firewall}\ndetection:\n  s: {'@timestamp|hour': \
                 3, site: branch}\n  condition: s\n";
    bench.write("r/a.yml", format!("{TELNET}---\n{tunnel}---\n{night}"));
    bench.write("weir.toml", "[[site]]\nname = \"branch\"\nexporters = [\"192.0.2.0/24\"]\n");
    let slice = |site: &str| {
        json!({"timestamp": 1_767_236_000_000_000_i64, "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2",
            "src_port": 4, "dest_port": 23, "fwd_bytes": 1, "bwd_bytes": 1, "fwd_pkts": 1, "bwd_pkts": 1,
            "flow_dur": 0.5, "protocol": 6, "flow_id": "000000000000000000000000000000ff",
            "site": site, "slice": 0, "last_slice": true, "end_reason": "idle", "records": 1,
            "direction": "internal", "direction_by": "syn", "sampling_unknown": false, "tunnel": "gre",
            "tunnel_src": "192.0.2.1", "tunnel_dst": "192.0.2.2", "tunnel_id": 7, "schema": 1})
    };
    let ecs = |time: &str| json!({"@timestamp": time, "site": "branch"});
    let lines = [
        slice("branch"),
        slice("default"),
        slice("nowhere"),
        ecs("2026-01-01T03:10:00.000Z"),
        ecs("2026-01-01T04:10:00+01:00"),
        ecs("2026-01-01 03:10:00"),
        ecs("2026-01-01T02:10:00.000Z"),
        ecs("yesterday"),
        json!({"site": 1, "@timestamp": 1_767_237_000_000_i64}),
        json!({"site": "nowhere"}),
    ];
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let ended = bench.piped("rules test r -c weir.toml --events -", lines.join("\n"), 3);
    let want = [
        r#"["telnet","tunnel"]"#,
        r#"["telnet"]"#,
        "null",
        r#"["night"]"#,
        r#"["night"]"#,
        r#"["night"]"#,
        "[]",
        "null",
        r#"["night"]"#,
        "null",
    ];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), want, "{}", ended.err);
    for says in [
        "-:3: site `nowhere` is not in the configuration",
        "-:8: `@timestamp` is \"yesterday\", expected a number, or a time such as 2026-01-31T12:00:00Z",
        "-:10: `site` is \"nowhere\", expected a site's name in the configuration, or its index",
    ] {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
}

/// What cannot be read in a folder of rules is named, and the rest is taken.
#[test]
fn what_cannot_be_read_takes_nothing_else_away() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    bench.write("r/below/a.yml", TELNET).write("r/b.yml", BIG);
    symlink("../..", bench.path("r/below/up")).expect("a link");
    symlink("below", bench.path("r/same")).expect("a link");
    symlink("nowhere", bench.path("r/gone.yml")).expect("a link");
    symlink("nowhere", bench.path("r/gone.txt")).expect("a link");
    let ended = bench.weir("rules check r", 3);
    for says in [
        "r/below/up:1: rejected: cannot be read: it leads back to a folder that it lies in",
        "r/gone.yml:1: rejected: cannot be read: No such file or directory",
    ] {
        assert!(ended.out.contains(says), "{says}: {}", ended.out);
    }
    // A folder that is linked holds what it holds.
    assert!(ended.out.contains("r/same/a.yml:2: Telnet (telnet): rejected: its id is that of"));
    assert!(ended.out.ends_with("2 rules loaded, 4 rejected, 0 disabled\n"), "{}", ended.out);
    bench.write("e.jsonl", "{\"dst_port\": 23, \"proto\": 6}\n");
    assert_eq!(bench.weir("rules test r --events e.jsonl", 3).out, "[\"telnet\"]\n");
}

/// A check names files that hold nothing, and rules that raise no alert by themselves.
#[test]
fn a_check_names_what_raises_no_alert() {
    let bench = Bench::new();
    let correlation = "title: Many\nid: many\ncorrelation:\n    type: event_count\n    rules: [telnet, \
                       big]\n    timespan: 1m\n    condition: {gte: 5}\n";
    bench.write("r/a.yml", TELNET).write("r/b.yml", BIG).write("r/c.yml", correlation);
    bench
        .write("r/d.yml", "")
        .write("r/e.yml", TELNET.replace('\n', "\n# ").replace("title", "# title"));
    let ended = bench.weir("rules check r", 0);
    let want = [
        "r/d.yml: warning: it holds no rule",
        "r/e.yml: warning: it holds no rule",
        "r/a.yml:1: Telnet: raises no alert of its own, it only feeds Many",
        "r/b.yml:1: Much sent: raises no alert of its own, it only feeds Many",
        "2 rules loaded, 0 rejected, 0 disabled; 1 correlations; 2 only feed correlations",
    ];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), want);
    bench.write(
        "r/c.yml",
        correlation.replace("correlation:\n", "correlation:\n    generate: true\n"),
    );
    let ended = bench.weir("rules check r", 0);
    assert!(!ended.out.contains("no alert of its own"), "{}", ended.out);
    let ended = bench.weir("rules check /dev/null", 3);
    let says = "weir: /dev/null: neither a regular file nor a directory\n";
    assert_eq!(ended.err, says);
}

#[test]
fn a_trial_ends_with_3_only_where_something_is_invalid() {
    let bench = Bench::new();
    bench.write("r/a.yml", TELNET).write("none/b.yml", PROCESS).write("bad/c.yml", BAD);
    bench.write("never/d.yml", BIG.replace("gte: 1000", "gte: -1\n        dst_port: 70000"));
    bench.write("odd/e.yml", TELNET.replace("level: medium", "level: midium"));
    bench.write("e.jsonl", "{\"dst_port\": 23, \"proto\": 6}\n");
    let ended = bench.weir("rules test r none --events e.jsonl", 0);
    assert_eq!(ended.out, "[\"telnet\"]\n");
    assert!(ended.err.contains("none/b.yml:3: Process (process): rejected"), "{}", ended.err);
    let ended = bench.weir("rules test r bad --events e.jsonl", 3);
    assert_eq!(ended.out, "[\"telnet\"]\n", "what can be tried is tried");
    assert!(ended.err.contains("bad/c.yml:3: Bad: rejected"), "{}", ended.err);
    // So is a rule that no flow can satisfy; one of other log sources is none of the trial's.
    let ended = bench.weir("rules test r never none --events e.jsonl", 3);
    assert_eq!(ended.out, "[\"telnet\"]\n");
    assert!(ended.err.ends_with("weir: 1 rule is rejected\n"), "{}", ended.err);
    let ended = bench.weir("rules test none --events e.jsonl", 3);
    assert!(ended.err.ends_with("weir: no rule is loaded: nothing is matched\n"), "{}", ended.err);
    // What is to be known of a rule is said here, too.
    let ended = bench.weir("rules test odd --events e.jsonl", 0);
    assert!(ended.err.contains("odd/e.yml:10: Telnet: warning: level `midium`"), "{}", ended.err);
    bench.write("bom.jsonl", "\u{feff}{\"dst_port\": 23, \"proto\": 6}\n");
    assert_eq!(bench.weir("rules test r --events bom.jsonl", 0).out, "[\"telnet\"]\n");
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
    let ended = bench.weir("rules test r --events r", 3);
    assert!(ended.err.contains("weir: r: is a directory, expected a file"), "{}", ended.err);
    let ended = bench.piped(
        "rules test r --events -",
        "{\"dst_prt\": 23}\n{\"dst_prt\": 22, \"x\": 1}\n",
        0,
    );
    assert_eq!(ended.out, "[]\n[]\n");
    let says = "-:1: no rule sees `dst_prt` (did you mean `dst_port`?)";
    assert_eq!((ended.err.lines().count(), ended.err.contains(says)), (1, true), "{}", ended.err);
    let ended = bench.weir("rules test r --events none.jsonl", 3);
    assert!(ended.err.contains("none.jsonl: No such file"), "{}", ended.err);
}
