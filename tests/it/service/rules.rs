//! Rules and feeds that change while the sensor runs, and a reload under full load.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::{HTTPS, QUICK, exporter, now, v5};
use crate::netflow::build::{fixed, fixed_record};
use crate::system::{Bench, Sensor, free_ports, kill, records, wait_for, weir};

const FEED: &str = r#"
[[rules.feed]]
path = "feeds/bad.txt"
id = "bad"
title = "Bad hosts"
level = "critical"
tags = ["attack.t1071"]
"#;

/// A sensor that looks for changes every second.
fn watching(bench: &Bench, more: &str) -> Sensor {
    let ports = free_ports();
    Sensor::configure(bench, more, ports);
    let config = bench.read("weir.toml").replace("watch_s = 0", "watch_s = 1");
    bench.write("weir.toml", config);
    Sensor::spawn(weir(), bench, ports).ready()
}

/// The ids of the rules that fired on the flow from `port`.
#[track_caller]
fn tags(bench: &Bench, sensor: &Sensor, port: u16) -> Vec<String> {
    sensor.send(&exporter(), &v5(1, port));
    let slice = wait_for("the slice", || {
        records(&bench.path("flows")).into_iter().find(|slice| slice["src_port"] == port)
    });
    let ids = slice["sigma_rule_ids"].as_array().cloned().unwrap_or_default();
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

fn rules(sensor: &Sensor) -> Value {
    serde_json::from_str(&sensor.get("/rules").1).expect("JSON")
}

#[test]
fn rules_and_feeds_change_while_the_sensor_runs() {
    let bench = Bench::new();
    bench.write("rules/other.yml", HTTPS.replace("443", "1").replace("https", "other"));
    bench.write("feeds/bad.txt", "# list\n10.0.0.2\nevil.example\n");
    let sensor = watching(&bench, &format!("{FEED}{QUICK}"));
    sensor.says("skipped: `evil.example` is a domain name");
    assert_eq!(tags(&bench, &sensor, 1_001), ["bad"]);
    let alert = wait_for("the alert", || records(&bench.path("alerts")).pop());
    let evidence = &alert["evidence"][0];
    assert_eq!(
        (&evidence["field"], &evidence["predicate"], &evidence["value"]),
        (&"dst_ip".into(), &"10.0.0.2 of feed Bad hosts".into(), &"10.0.0.2".into()),
        "{alert}"
    );
    let told = rules(&sensor);
    assert_eq!((&told["loaded"], &told["last_load"]["trigger"]), (&2.into(), &"start".into()));
    let feed = &told["feeds"][0];
    assert_eq!((&feed["addresses"], &feed["bad"]), (&1.into(), &1.into()), "{told}");

    // A rule more, one changed, one gone, each noticed without a signal.
    bench.write("rules/new/https.yml", HTTPS);
    sensor.says("added=1 removed=0 changed=0 first_added=\"HTTPS\"");
    assert_eq!(tags(&bench, &sensor, 1_002), ["https", "bad"]);
    bench.write("rules/new/https.yml", HTTPS.replace("443", "444"));
    sensor.says("added=0 removed=0 changed=1");
    assert_eq!(tags(&bench, &sensor, 1_003), ["bad"]);
    std::fs::remove_dir_all(bench.path("rules/new")).expect("removed");
    sensor.says("added=0 removed=1 changed=0");

    // A feed that is gone, or turned bad, takes nothing away.
    std::fs::remove_file(bench.path("feeds/bad.txt")).expect("removed");
    sensor.says("feeds/bad.txt: No such file");
    bench.write("feeds/bad.txt", "<html>\n");
    sensor.says("feeds/bad.txt: no indicator in 1 lines; line 1: `<html>` is not an address");
    assert_eq!(tags(&bench, &sensor, 1_004), ["bad"]);
    let told = rules(&sensor);
    assert!(told["last_load"]["error"].is_string(), "{told}");
    assert_eq!((&told["loaded"], sensor.get("/readyz").0), (&2.into(), 200));
    sensor.reaches("weir_config_reloads_total{result=\"failure\"}", 2.0);
    bench.write("feeds/bad.txt", "10.9.9.9\n");
    sensor.says("first_changed=\"Bad hosts\"");
    assert_eq!(tags(&bench, &sensor, 1_005), Vec::<String>::new());
    assert_eq!(sensor.metric("weir_detect_rules_changed_total{change=\"added\"}"), Some(1.0));
    assert_eq!(sensor.metric("weir_detect_rules_changed_total{change=\"changed\"}"), Some(2.0));
    // Each failure was said once, however often the files were looked at.
    let (_, log) = sensor.stop();
    assert_eq!(log.matches("reload failed").count(), 2, "{log}");
}

/// What is in force beside rules is told with what it did.
#[test]
fn correlations_filters_and_exclusions_are_told() {
    let bench = Bench::new();
    let correlation = "title: Twice\nid: twice\ncorrelation:\n    type: event_count\n    rules: \
                       [https]\n    timespan: 1h\n    condition: {gte: 2}\n";
    let filter = "title: Not ours\nlogsource: {category: network_connection}\nfilter:\n    rules: \
                  any\n    s: {dst_port: 9}\n    condition: not s\n";
    let exclusion =
        "title: Scanner\nid: scanner\ndetection:\n    s: {src_port: 1002}\n    condition: s\n";
    bench.write("rules/https.yml", HTTPS).write("rules/twice.yml", correlation);
    bench.write("rules/filter.yml", filter).write("exclusions/scanner.yml", exclusion);
    let ports = free_ports();
    Sensor::configure(&bench, QUICK, ports);
    let config = bench.read("weir.toml");
    bench.write(
        "weir.toml",
        config.replace("watch_s = 0", "watch_s = 0\nexclusions = [\"exclusions\"]"),
    );
    let sensor = Sensor::spawn(weir(), &bench, ports).ready();
    for port in [1_001, 1_002, 1_003] {
        tags(&bench, &sensor, port);
    }
    let told = wait_for("the counts", || {
        let told = rules(&sensor);
        (told["correlations"][0]["found"] == 1 && told["exclusions"][0]["flows"] == 1)
            .then_some(told)
    });
    let (rule, correlation) = (&told["rules"][0], &told["correlations"][0]);
    assert_eq!((&rule["id"], &rule["silent"]), (&"https".into(), &true.into()), "{told}");
    assert_eq!(correlation["id"], "twice", "{told}");
    assert_eq!(
        (&correlation["measure"], &correlation["rules"][0]),
        (&"event_count".into(), &"HTTPS".into())
    );
    assert_eq!((&correlation["matches"], &correlation["silent"]), (&2.into(), &false.into()));
    let (filter, exclusion) = (&told["filters"][0], &told["exclusions"][0]);
    assert_eq!((&filter["title"], &filter["rules"]), (&"Not ours".into(), &1.into()), "{told}");
    assert_eq!((&exclusion["id"], &exclusion["title"]), (&"scanner".into(), &"Scanner".into()));
    sensor.stop();
}

/// `count` rules that match nothing which is sent, in files of a hundred.
fn many(bench: &Bench, count: u32, salt: u32) {
    for file in 0..count / 100 {
        let mut text = String::new();
        for n in file * 100..(file + 1) * 100 {
            let (a, b, port) = (n / 250 % 250, n % 250, 1_024 + (n * 7 + salt) % 60_000);
            text.push_str(&format!(
                "title: Rule {n}\nid: rule-{n}\nlogsource: {{category: firewall}}\ndetection:\n  \
                 s:\n    dst_ip: 172.{}.{a}.{b}\n    dst_port: {port}\n  condition: s\n---\n",
                16 + salt
            ));
        }
        bench.write(&format!("rules/many/{file}.yml"), text.trim_end_matches("---\n"));
    }
}

/// Records that are under way to the sensor, at most: it always has some to work on, and the
/// smallest buffer that a kernel gives holds them.
const AHEAD_MAX: u32 = 4_096;

/// Sends flows to port 443 as fast as the sensor takes them, each record a flow of its own; the
/// second octet of the initiator is `phase`. Returns how many datagrams were sent.
fn flood((to, admin): (u16, u16), phase: &AtomicU8, stop: &AtomicBool) -> u32 {
    let from = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let merged = || {
        let page = weir::api::fetch(([127, 0, 0, 1], admin).into(), "/metrics").expect("metrics");
        let value = |line: &str| line.strip_prefix("weir_flow_records_merged_total ")?.parse().ok();
        page.lines().find_map(value).unwrap_or(0_u32)
    };
    let (mut sent, mut seen) = (0_u32, 0);
    while !stop.load(Ordering::Relaxed) {
        if sent * 30 - seen > AHEAD_MAX {
            seen = merged();
            continue;
        }
        let records: Vec<_> = (0..30)
            .map(|n: u32| {
                let mut record = fixed_record();
                record[1] = phase.load(Ordering::Relaxed);
                record[2..4].copy_from_slice(&((sent >> 7) as u16).to_be_bytes());
                // No port of a service: that would turn the flow round.
                let port = 0x8000 | (sent << 8 & 0x7f00) | n;
                record[32..34].copy_from_slice(&(port as u16).to_be_bytes());
                record
            })
            .collect();
        let datagram = now(fixed(5, 30, sent * 30, 0, &records), 8);
        assert_eq!(from.send_to(&datagram, ("127.0.0.1", to)).expect("sent"), datagram.len());
        sent += 1;
    }
    sent
}

#[test]
fn ten_thousand_rules_reload_under_full_load_and_no_flow_goes_without() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    many(&bench, 10_000, 0);
    let sensor = Sensor::start(&bench, QUICK);
    let (phase, stop) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
    let sender = std::thread::spawn({
        let (phase, stop, to) =
            (Arc::clone(&phase), Arc::clone(&stop), (sensor.netflow, sensor.admin));
        move || flood(to, &phase, &stop)
    });
    sensor.reaches("weir_flow_records_merged_total", 1_000.0);

    // Every rule but one is another now, and one is new.
    many(&bench, 10_000, 1);
    bench.write("rules/new.yml", HTTPS.replace("https", "new").replace("HTTPS", "New"));
    let asked = Instant::now();
    kill(&sensor.process, libc::SIGHUP);
    sensor.says("added=1 removed=0 changed=10000");
    println!("10,000 rules reloaded under load in {:?}", asked.elapsed());
    phase.store(1, Ordering::Relaxed);
    let before = sensor.metric("weir_flow_records_merged_total").expect("a metric");
    sensor.reaches("weir_flow_records_merged_total", before + 1_000.0);
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("the sender");
    sensor.reaches("weir_flow_records_merged_total", f64::from(sent * 30));

    let (ledgers, log) = sensor.stop();
    let count = |path: &str| ledgers.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let (received, merged) = (count("/datagrams/received"), count("/records/merged"));
    println!("{sent} datagrams sent, {received} received, {merged} flows");
    assert_eq!((received, count("/datagrams/decoded")), (u64::from(sent), received), "{log}");
    assert_eq!(merged, received * 30, "every record is a flow of its own");
    assert_eq!(count("/slices/shipped"), merged);
    // Sinks may shed under a flood; what they took carries the tags.
    let fired = |slice: &Value, id: &str| {
        slice["sigma_rule_ids"].as_array().is_some_and(|ids| ids.iter().any(|i| i == id))
    };
    let slices = records(&bench.path("flows"));
    assert!(!slices.is_empty());
    for slice in &slices {
        assert!(fired(slice, "https"), "a flow without the rule that both sets have: {slice}");
        let sent_after = slice["src_ip"].as_str().is_some_and(|ip| ip.starts_with("10.1."));
        assert!(!sent_after || fired(slice, "new"), "a flow that missed the new set: {slice}");
    }
    // Both rules of level high: one alert a flow by the first, and by the second from its load on.
    let alerts = count("/detections/alerts/high");
    assert!(alerts > merged && alerts <= 2 * merged, "{alerts} alerts on {merged} flows");
}
