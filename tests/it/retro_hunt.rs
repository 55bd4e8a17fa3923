//! Retro-hunt: what rules say of slices that Weir wrote is what they say of the traffic itself.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use weir::config::{Config, Format, Select};
use weir::output::Batch;
use weir::output::Context;
use weir::output::stdout::StreamSink;

use crate::harness::{Replayed, Run};

const FIRST: &str = include_str!("../../config/rules/clear_text.yml");

/// Rules of each class, on fields that only some slices settle.
const SECOND: &str = "
title: TCP
id: tcp
logsource: { category: network_connection }
detection: { a: { Protocol: tcp }, condition: a }
---
title: More than 20,000 octets out, both ways over a second
id: large
logsource: { category: network_connection }
detection: { a: { bytes_out|gt: 20000, duration|gt: 1 }, condition: a }
---
title: Exactly so many packets, and closed
id: exact
logsource: { category: network_connection }
detection: { a: { packets_out|lt: 12 }, b: { tcp_state: closed }, condition: a and b }
---
title: A SYN alone
id: syn
logsource: { category: network_connection }
detection: { a: { fwd_tcp_flags: 2 }, condition: a }
---
title: Retransmits or few hops
id: rare
logsource: { category: network_connection }
detection: { a: { retransmits|gt: 0 }, b: { fwd_ttl: 63 }, condition: 1 of them }
";

fn config(rules: &Path, timeouts_s: Option<(u32, u32)>) -> Config {
    let mut config = Run::default().config;
    config.rules.directories = vec![rules.to_owned()];
    if let Some((idle_s, active_s)) = timeouts_s {
        config.flow.packets.idle_timeout_s = idle_s;
        config.flow.packets.active_timeout_s = active_s;
    }
    config
}

fn write(path: &Path, format: Format, config: &Config, replayed: &Replayed) {
    let slices = replayed.slices.clone();
    let stream = StreamSink::new(format, Select::Slices, Context::of(config), Vec::new());
    let mut stream = stream.expect("memory");
    stream.write(&Batch { slices, alerts: Vec::new() }).expect("memory");
    let plain = stream.finish().expect("memory");
    let mut file = File::create(path).expect("created");
    match path.extension().and_then(|end| end.to_str()) {
        Some("gz") => {
            let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gz.write_all(&plain).and_then(|()| gz.finish().map(drop)).expect("written");
        }
        Some("zst") => {
            let packed = zstd::encode_all(&plain[..], 1).expect("packed");
            file.write_all(&packed).expect("written");
        }
        _ => file.write_all(&plain).expect("written"),
    }
}

/// Alerts by (flow, rule), which the alert's id is made of.
fn alerts(replayed: &Replayed) -> BTreeSet<(u128, u128, String)> {
    let told = replayed.alerts.iter().map(|a| (a.id, a.flow_id.0, a.rule.id.clone()));
    let told: BTreeSet<_> = told.collect();
    assert_eq!(told.len(), replayed.alerts.len(), "no alert comes twice");
    told
}

/// The slices but for their tags and the order in which they came.
fn slices(replayed: &Replayed) -> Vec<String> {
    let mut told: Vec<String> = replayed
        .slices
        .iter()
        .map(|tagged| {
            let mut slice = tagged.slice.clone();
            slice.fired.clear();
            let flow = &mut slice.flow;
            let both = (flow.fwd.retransmits.take(), flow.bwd.retransmits.take());
            format!("{slice:?} {}", both.0.unwrap_or(0) + both.1.unwrap_or(0))
        })
        .collect();
    told.sort();
    told
}

fn folder(name: &str, rules: &str, root: &Path) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("rules.yml"), rules).expect("written");
    folder
}

#[test]
fn slices_say_what_the_traffic_said() {
    let root = tempfile::tempdir().expect("a folder");
    let first = folder("first", FIRST, root.path());
    let second = folder("second", SECOND, root.path());
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let mut hunts = 0;
    for (file, timeouts_s) in [
        ("mixed.pcap.zst", None),
        ("mixed.pcap.zst", Some((3, 5))),
        ("ssh.pcap", Some((1, 1))),
        ("upload.pcap", Some((1, 2))),
        ("cleartext.pcap", None),
    ] {
        let run = |rules: &Path| Run { config: config(rules, timeouts_s), ..Run::default() };
        let before = run(&first).whole(&pcaps.join(file));
        let other = run(&second).whole(&pcaps.join(file));
        let mut written = vec!["slices.ndjson", "slices.ndjson.gz", "slices.ndjson.zst"];
        if cfg!(feature = "parquet") {
            written.push("slices.parquet");
        }
        for name in written {
            let path = root.path().join(name);
            let format = if name.ends_with("parquet") { Format::Parquet } else { Format::Ndjson };
            write(&path, format, &config(&first, timeouts_s), &before);
            for (rules, want) in [(&first, &before), (&second, &other)] {
                for (workers, flush_every) in [(1, 4_096), (1, 7), (4, 64)] {
                    let case = format!("{file} as {name}, {workers} workers, {flush_every}");
                    let hunt = Run { workers, flush_every, ..run(rules) }.whole(&path);
                    assert_eq!(alerts(&hunt), alerts(want), "{case}");
                    assert!(slices(&hunt) == slices(&before), "{case}: slices are the same");
                    let ledgers = &hunt.ledgers;
                    let rows = before.slices.len() as u64;
                    assert_eq!((ledgers.records.decoded, ledgers.records.merged), (rows, rows));
                    assert_eq!((ledgers.slices.shipped, ledgers.slices.early), (rows, 0));
                    hunts += 1;
                }
            }
        }
        let alerts = (before.alerts.len(), other.alerts.len());
        println!("{file} {timeouts_s:?}: {} slices, {alerts:?} alerts", before.slices.len());
    }
    println!("{hunts} hunts");
}

#[test]
fn each_slice_gets_all_tags_of_its_flow() {
    let root = tempfile::tempdir().expect("a folder");
    let rules = folder("rules", SECOND, root.path());
    let config = config(&rules, Some((1, 1)));
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let run = Run { config: config.clone(), ..Run::default() };
    let before = run.whole(&pcaps.join("ssh.pcap"));
    let path = root.path().join("slices.ndjson");
    write(&path, Format::Ndjson, &config, &before);
    let hunt = run.whole(&path);
    assert!(hunt.slices.iter().any(|tagged| tagged.slice.number > 1), "several slices");
    for tagged in &hunt.slices {
        let of = |alert: &&weir::detect::Alert| alert.flow_id == tagged.slice.flow_id;
        let want: BTreeSet<_> = hunt.alerts.iter().filter(of).map(|a| &a.rule.id).collect();
        let tags: BTreeSet<_> = tagged.rules.iter().map(|rule| &rule.id).collect();
        assert_eq!(tags, want, "{:?}", tagged.slice.flow_id);
    }
}

#[test]
fn rows_that_are_no_slices_are_counted() {
    let root = tempfile::tempdir().expect("a folder");
    let rules = folder("rules", SECOND, root.path());
    let config = config(&rules, None);
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let run = Run { config: config.clone(), ..Run::default() };
    let alerts_of = alerts;
    let before = run.whole(&pcaps.join("cleartext.pcap"));
    let (slices, alerts) = before.ndjson(&config);
    let path = root.path().join("mixed.ndjson");
    let bad = b"{\"schema\":1}\n{]\n{\"schema\":7}\n";
    fs::write(&path, [&slices[..], &alerts, bad, &slices].concat()).expect("written");
    let hunt = run.whole(&path);
    let (records, rows) = (&hunt.ledgers.records, before.slices.len() as u64);
    assert_eq!(records.dropped.of("not_a_slice"), before.alerts.len() as u64 + 1);
    assert_eq!(records.dropped.of("bad_json"), 1);
    assert_eq!(records.dropped.of("schema_version"), 1);
    // What comes twice counts once, also where the flow was complete.
    assert_eq!((records.merged, records.duplicate), (rows, rows));
    let once = root.path().join("once.ndjson");
    fs::write(&once, &slices).expect("written");
    assert_eq!(alerts_of(&hunt), alerts_of(&run.whole(&once)));
}

/// A table too small for all open flows takes some for complete early, and says so.
#[test]
fn flows_beyond_the_bound_are_completed_early() {
    let root = tempfile::tempdir().expect("a folder");
    let rules = folder("rules", SECOND, root.path());
    let mut config = config(&rules, Some((1, 1)));
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let before = Run { config: config.clone(), ..Run::default() };
    let before = before.whole(&pcaps.join("mixed.pcap.zst"));
    let path = root.path().join("slices.ndjson");
    write(&path, Format::Ndjson, &config, &before);
    config.flow.entries_max = 64;
    let hunt = Run { config, ..Run::default() }.whole(&path);
    assert!(hunt.ledgers.slices.early > 0);
    assert_eq!(hunt.ledgers.slices.shipped, before.slices.len() as u64);
}
