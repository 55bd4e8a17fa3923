//! Correlations through the whole pipeline: captures in, alerts out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::detect::Alert;
use weir::detect::sigma::correlate::Match;
use weir::detect::sigma::{Options, Source};
use weir::flow::{Biflow, FlowId};
use weir::net::Addr;
use weir::pipeline::exchange::{Desk, Message};
use weir::pipeline::worker::Shared;
use weir::pipeline::{self, Outputs, Rules};
use weir::time::Micros;

use crate::harness::{Replayed, Run};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn replay(rules: &Path, file: &str, workers: usize, flush_every: u64) -> Replayed {
    let mut config = Run::default().config;
    config.rules.directories = vec![rules.to_owned()];
    // With many, shards move between them.
    let moves = workers > 2;
    Run { config, workers, flush_every, moves, ..Run::default() }.whole(&root("pcaps").join(file))
}

fn shipped(file: &str) -> Replayed {
    replay(&root("config/rules/correlations.yml"), file, 1, 4_096)
}

/// Alerts as (second, rule, initiator, responder).
fn told(alerts: &[Alert]) -> Vec<(i64, &str, Addr, Addr)> {
    let second = |alert: &Alert| alert.time.0 / 1_000_000;
    alerts.iter().map(|a| (second(a), &*a.rule.title, a.flow.src, a.flow.dst)).collect()
}

/// What the captures are known to hold that the shipped correlations must find, and no more.
#[test]
fn shipped_correlations_find_what_is_there_and_nothing_else() {
    let want: BTreeMap<&str, &str> = [
        ("scan", "Many Ports Of One Host"),
        ("beacon", "Many Small Sessions To One Host Outside"),
        ("exfiltration", "Slow Upload To One Host Outside"),
    ]
    .into();
    let mut reader = csv::Reader::from_path(root("pcaps/truth.csv")).expect("the truth");
    let mut truth: BTreeMap<String, BTreeSet<(String, Addr, Addr)>> = BTreeMap::new();
    for row in reader.records() {
        let row = row.expect("a row");
        let address = |column: usize| row[column].parse::<Addr>().expect("an address");
        let known = truth.entry(row[0].to_owned()).or_default();
        if let Some(title) = want.get(&row[1]) {
            known.insert(((*title).to_owned(), address(3), address(4)));
        }
    }
    for (file, known) in &truth {
        let replayed = shipped(file);
        let found: Vec<_> = told(&replayed.alerts)
            .into_iter()
            .map(|(_, title, src, dst)| (title.to_owned(), src, dst))
            .collect();
        let found: BTreeSet<_> = found.into_iter().collect();
        let unknown: Vec<_> = found.difference(known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} is benign");
        // Short recordings of a beacon and of an upload hold too little of them.
        if file.starts_with("mixed") || file.starts_with("scan") {
            assert_eq!(&found, known, "{file}");
        }
        println!("{file}: {} alerts", replayed.alerts.len());
    }
}

#[test]
fn bases_of_correlations_are_silent() {
    let replayed = shipped("mixed.pcap.zst");
    assert!(replayed.slices.iter().all(|tagged| tagged.rules.is_empty()));
    assert!(replayed.ledgers.exchange.handled > 500, "{:?}", replayed.ledgers.exchange);
    let evidence = |alert: &Alert| alert.evidence.iter().any(|e| e.predicate == "group-by");
    assert!(replayed.alerts.iter().all(evidence));
}

/// One correlation of each type, on bases of each class.
const EACH: &str = "
title: TCP
id: tcp
logsource: { category: network_connection }
detection: { a: { Protocol: tcp }, condition: a }
---
title: UDP
id: udp
logsource: { category: network_connection }
detection: { a: { Protocol: udp }, condition: a }
---
title: Few packets
id: few
logsource: { category: network_connection }
detection: { a: { packets_out|lt: 6 }, condition: a }
---
title: Count
id: count
correlation:
    { type: event_count, rules: [tcp], group-by: [src_ip], timespan: 5m, condition: { gte: 12 } }
---
title: Values
id: values
correlation:
    type: value_count
    rules: [few]
    group-by: [src_ip]
    timespan: 1m
    condition: { field: dest_port, gte: 3 }
---
title: Sum
id: sum
correlation:
    type: value_sum
    rules: [tcp, udp]
    group-by: [src_ip]
    timespan: 2m
    condition: { field: bytes_out, gte: 60000 }
---
title: Average
id: average
correlation:
    type: value_avg
    rules: [tcp]
    group-by: [dest_ip]
    timespan: 2m
    condition: { field: bytes_in, gte: 20000 }
---
title: Together
id: together
correlation:
    { type: temporal, rules: [tcp, udp], group-by: [src_ip], timespan: 10s }
---
title: In turn
id: turn
correlation:
    { type: temporal_ordered, rules: [udp, tcp], group-by: [src_ip], timespan: 5s }
---
title: Chain
id: chain
correlation:
    { type: event_count, rules: [turn], group-by: [src_ip], timespan: 20m, condition: { gte: 3 } }
";

#[test]
fn any_number_of_workers_raises_the_same_alerts() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("each.yml"), EACH).expect("written");
    for file in ["mixed.pcap.zst", "scan.pcap", "web.pcap"] {
        let one = replay(folder.path(), file, 1, 4_096);
        for (workers, flush_every) in [(1, 1), (1, 97), (2, 1), (2, 4_096), (4, 97), (4, 4_096)] {
            let other = replay(folder.path(), file, workers, flush_every);
            assert!(other.alerts == one.alerts, "{file}, {workers} workers, {flush_every}");
            assert_eq!(other.ledgers.exchange, one.ledgers.exchange, "{file}");
        }
        let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
        one.alerts.iter().for_each(|a| *by_rule.entry(&a.rule.id).or_default() += 1);
        if file == "mixed.pcap.zst" {
            assert_eq!(by_rule.len(), 6, "each finds something, one for another: {by_rule:?}");
        }
        println!("{file}: {by_rule:?}");
    }
}

/// Slices say of correlations what the traffic said, as long as packets tell the times.
#[test]
fn a_retro_hunt_counts_what_the_traffic_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = root("config/rules/correlations.yml");
    let config = Run::default().config;
    for file in ["mixed.pcap.zst", "scan.pcap"] {
        let before = replay(&rules, file, 1, 4_096);
        let path = folder.path().join("slices.ndjson");
        std::fs::write(&path, before.ndjson(&config).0).expect("written");
        let mut config = config.clone();
        config.rules.directories = vec![rules.clone()];
        let groups = |replayed: &Replayed| {
            let told = told(&replayed.alerts).into_iter();
            told.map(|(_, rule, src, dst)| format!("{rule} {src} {dst}")).collect::<BTreeSet<_>>()
        };
        let mut first: Option<Vec<Alert>> = None;
        for workers in [1, 4] {
            let hunt = Run { config: config.clone(), workers, ..Run::default() }.whole(&path);
            assert_eq!(groups(&hunt), groups(&before), "{file}, {workers} workers");
            let first = first.get_or_insert_with(|| hunt.alerts.clone());
            assert!(*first == hunt.alerts, "{file}, {workers} workers");
        }
    }
}

fn count(id: &str, gte: u32) -> String {
    format!(
        "---\ntitle: {id}\nid: {id}\ncorrelation:\n    {{ type: event_count, rules: [tcp], \
         group-by: [src_ip], timespan: 5m, condition: {{ gte: {gte} }} }}\n"
    )
}

#[test]
fn a_reload_keeps_the_groups_of_correlations_that_stay() {
    let base = EACH.split("---").next().expect("the first rule");
    let rules = Rules::default();
    let load = |rules: &Rules, text: String| {
        let source = Source { file: "rules.yml".into(), text };
        let book = rules.load(&[source], &Options::default());
        assert!(book.set.report().rejected.is_empty(), "{}", book.set.report());
        book.set.rules()[0].meta.uid
    };
    let uid = load(&rules, format!("{base}{}{}", count("stays", 4), count("changes", 4)));
    let outputs = Outputs::waiting(Vec::new());
    let shared = Arc::new(Shared {
        rules: Arc::new(rules),
        models: Arc::default(),
        outputs,
        board: pipeline::board(1, 1),
    });
    let mut desk = Desk::new(Arc::clone(&shared), 2);
    let mut number = 0;
    let mut send = |desk: &mut Desk, times: i64| {
        for _ in 0..times {
            number += 1;
            let flow = Biflow { protocol: 6, src: Addr::v4(7), ..Biflow::default() };
            desk.take(&mut vec![Message::Match(Match {
                time: Micros(number),
                rule: uid,
                at_end: false,
                flow_id: FlowId(number.unsigned_abs().into()),
                flow: Arc::new(flow),
                arrived: None,
            })]);
        }
        desk.advance(Micros(number + 1));
        shared.board.ledgers().detections.alerts.total()
    };
    assert_eq!(send(&mut desk, 3), 0);
    let again = format!("{base}{}{}{}", count("new", 9), count("changes", 5), count("stays", 4));
    assert_eq!(load(&shared.rules, again), uid);
    // The fourth for the one that stays; the first for those that are new or changed.
    assert_eq!(send(&mut desk, 1), 1);
    assert_eq!(send(&mut desk, 4), 2, "the changed one counts five of its own");
}
