//! The second exchange: one order for all workers, suppression that follows from it, and nothing
//! lost without a count.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use weir::config::{Rules as RulesConfig, Suppress};
use weir::detect::suppress::Limits;
use weir::detect::{Alert, RuleMeta, TaggedSlice, sigma};
use weir::flow::FlowId;
use weir::pipeline::exchange::{Desk, Message};
use weir::pipeline::worker::Shared;
use weir::pipeline::{self, Outputs, Rules};
use weir::time::Micros;

use crate::harness::{Replayed, Run};

fn suppress(rule: &str, by: &[&str], alerts: u32, window_s: u32) -> Suppress {
    let by = by.iter().map(|&name| name.to_owned()).collect();
    Suppress { rule: rule.to_owned(), by, alerts, window_s }
}

/// Rules of each class, as noisy as can be.
const NOISY: &str = "
title: TCP
id: tcp
logsource: { category: network_connection }
detection: { a: { Protocol: tcp }, condition: a }
---
title: More than 2,000 octets out
id: large
logsource: { category: network_connection }
detection: { a: { bytes_out|gt: 2000 }, condition: a }
---
title: Few packets
id: few
logsource: { category: network_connection }
detection: { a: { packets_out|lt: 6 }, condition: a }
";

/// Noisy rules over a capture, with limits.
fn replay(file: &str, limits: &[Suppress], workers: usize, flush_every: u64) -> Replayed {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = tempfile::tempdir().expect("a folder");
    std::fs::write(rules.path().join("noisy.yml"), NOISY).expect("written");
    let mut config = Run::default().config;
    config.rules.directories = vec![rules.path().to_owned()];
    config.rules.suppress = limits.to_vec();
    // With many, shards move between them.
    let run = Run { config, workers, flush_every, moves: workers > 2, ..Run::default() };
    run.whole(&root.join("pcaps").join(file))
}

/// Alerts as (time, rule, flow, held back before it).
fn told(replayed: &Replayed) -> Vec<(i64, String, u128, u64)> {
    let told = |a: &Alert| (a.time.0, a.rule.id.clone(), a.flow_id.0, a.suppressed);
    replayed.alerts.iter().map(told).collect()
}

/// Slices as (flow, number, rules).
fn tags(replayed: &Replayed) -> Vec<(u128, u32, Vec<String>)> {
    let ids = |tagged: &TaggedSlice| tagged.rules.iter().map(|rule| rule.id.clone()).collect();
    let tags = |t: &TaggedSlice| (t.slice.flow_id.0, t.slice.number, ids(t));
    replayed.slices.iter().map(tags).collect()
}

#[test]
fn any_number_of_workers_suppresses_the_same_alerts() {
    let limits = [suppress("*", &["SourceIp"], 2, 600)];
    for file in ["mixed.pcap.zst", "scan.pcap", "cleartext.pcap"] {
        let all = replay(file, &[], 1, 4_096);
        let plain = replay(file, &limits, 1, 4_096);
        let suppressed: u64 = plain.ledgers.detections.suppressed.values().sum();
        assert_eq!(plain.alerts.len() as u64 + suppressed, all.alerts.len() as u64, "{file}");
        assert!(tags(&plain) == tags(&all), "{file}: tags are not touched");
        for (workers, flush_every) in [(1, 1), (1, 97), (2, 1), (2, 4_096), (4, 97), (4, 4_096)] {
            let other = replay(file, &limits, workers, flush_every);
            assert_eq!(told(&other), told(&plain), "{file}, {workers} workers, {flush_every}");
            let detections = &other.ledgers.detections;
            assert_eq!(detections.suppressed, plain.ledgers.detections.suppressed, "{file}");
            assert_eq!(detections.alerts, plain.ledgers.detections.alerts, "{file}");
        }
        println!("{file}: {} of {} alerts left", plain.alerts.len(), all.alerts.len());
    }
    let noisy = replay("mixed.pcap.zst", &limits, 2, 4_096);
    assert!(noisy.alerts.iter().any(|alert| alert.suppressed > 0), "some say what was held back");
}

/// Never more than the limit in any window, by a plain scan over what left.
#[test]
fn what_leaves_keeps_to_the_limit() {
    let all = replay("mixed.pcap.zst", &[], 1, 4_096);
    let mut by_rule: BTreeMap<&str, u64> = BTreeMap::new();
    all.alerts.iter().for_each(|alert| *by_rule.entry(&alert.rule.id).or_default() += 1);
    let (noisiest, count) = by_rule.iter().max_by_key(|(_, count)| **count).expect("alerts");
    assert!(*count > 3, "{by_rule:?}");
    let window_s = 300;
    let limited = replay("mixed.pcap.zst", &[suppress(noisiest, &[], 1, window_s)], 2, 512);
    let times = |replayed: &Replayed, of: &dyn Fn(&str) -> bool| {
        let of = replayed.alerts.iter().filter(|alert| of(&alert.rule.id));
        of.map(|alert| alert.time.0).collect::<Vec<i64>>()
    };
    let mut next = i64::MIN;
    let mut want = times(&all, &|rule| rule == *noisiest);
    want.retain(|&time| {
        let leaves = time >= next;
        next = if leaves { time + i64::from(window_s) * 1_000_000 } else { next };
        leaves
    });
    assert_eq!(times(&limited, &|rule| rule == *noisiest), want);
    let others = |rule: &str| rule != *noisiest;
    assert_eq!(times(&limited, &others), times(&all, &others), "other rules are not touched");
}

fn alert(time: i64, flow: u128, rule: u32) -> Message {
    let id = format!("rule-{rule}");
    Message::Alert(Box::new(Alert {
        time: Micros(time),
        flow_id: FlowId(flow),
        rule: Arc::new(RuleMeta { uid: rule, id, ..RuleMeta::default() }),
        ..Alert::default()
    }))
}

fn shared(outputs: Outputs, limits: RulesConfig) -> Arc<Shared> {
    let rules = Rules::default();
    let limits = Limits::of(&limits);
    rules.load(&[], &sigma::Options { limits, ..sigma::Options::default() });
    Arc::new(Shared {
        rules: Arc::new(rules),
        models: Arc::default(),
        outputs,
        board: pipeline::board(1, 1),
    })
}

#[test]
fn live_messages_beyond_the_bound_are_shed_and_counted() {
    let limits = RulesConfig { waiting_max: 10, ..RulesConfig::default() };
    let shared = shared(Outputs::live(Vec::new()), limits);
    let mut desk = Desk::new(Arc::clone(&shared), 2);
    desk.advance(Micros::MIN);
    let mut messages: Vec<Message> = (0..13).map(|i| alert(i, 0, 0)).collect();
    desk.take(&mut messages);
    assert!(messages.is_empty());
    desk.advance(Micros(4));
    let exchange = shared.board.ledgers().exchange;
    assert_eq!((exchange.sent, exchange.handled, exchange.waiting), (13, 4, 6));
    assert_eq!(exchange.shed.of("waiting_full"), 3);
    desk.finish();
    let ledgers = shared.board.ledgers();
    assert_eq!(ledgers.exchange.handled, 10);
    assert_eq!(ledgers.detections.alerts.total(), 10);
    assert_eq!(ledgers.imbalances(), Vec::<String>::new());
}

/// What is at the watermark waits: another worker may still send something of that time.
#[test]
fn only_what_is_strictly_before_the_watermark_is_worked_off() {
    let limits =
        RulesConfig { suppress: vec![suppress("*", &[], 1, 10)], ..RulesConfig::default() };
    let shared = shared(Outputs::waiting(Vec::new()), limits);
    let mut desk = Desk::new(Arc::clone(&shared), 2);
    let left = |shared: &Shared| {
        let ledgers = shared.board.ledgers();
        (ledgers.exchange.handled, ledgers.detections.alerts.total())
    };
    // Of the same time, the flow with the lesser id comes first, whoever sends first.
    desk.take(&mut vec![alert(5, 9, 1)]);
    desk.advance(Micros(5));
    assert_eq!(left(&shared), (0, 0));
    desk.take(&mut vec![alert(5, 3, 1), alert(4, 7, 2)]);
    desk.advance(Micros(6));
    assert_eq!(left(&shared), (3, 2));
    assert_eq!(shared.board.ledgers().detections.suppressed["rule-1"], 1);
}
