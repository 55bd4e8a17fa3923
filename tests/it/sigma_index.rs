//! The index finds what the plain scan finds: on random rules and flows, with and without a sample
//! of traffic, one by one and in batches.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use weir::detect::sigma::{Event, Options, Phase, Record, RuleIndex, RuleSet, Traffic};
use weir::flow::{Biflow, Direction};
use weir::net::Addr;

use crate::sigma::{Numbers, both_ways, home, load, load_with, rule};
use crate::support::vectors;

const PORTS: &[u16] = &[22, 53, 80, 443, 4444, 8080, 8443, 50_000];

fn address(numbers: &mut Numbers) -> Addr {
    match numbers.below(8) {
        0 => Addr(0x2001_0db8 << 96 | u128::from(numbers.below(64))),
        1..4 => Addr::v4(0xc000_0200 | u32::try_from(numbers.below(64)).expect("small")),
        _ => Addr::v4(0x0a00_0000 | u32::try_from(numbers.below(4) << 8).expect("small")),
    }
}

fn flow(numbers: &mut Numbers) -> Biflow {
    let mut flow = Biflow {
        src: address(numbers),
        dst: address(numbers),
        src_port: u16::try_from(numbers.below(65_536)).expect("a port"),
        dst_port: *numbers.pick(PORTS),
        protocol: *numbers.pick(&[6, 6, 17, 1]),
        direction: *numbers.pick(&[Direction::Outbound, Direction::Inbound, Direction::Internal]),
        sampling_interval: *numbers.pick(&[None, None, Some(1), Some(100)]),
        in_if: *numbers.pick(&[None, Some(1), Some(7)]),
        application: numbers
            .pick(&[None, Some("http"), Some("DNS-over-\u{212a}"), Some("xhttpx")])
            .map(Into::into),
        ..Biflow::default()
    };
    (flow.fwd.octets, flow.bwd.octets) = (numbers.below(3_000), numbers.below(100));
    (flow.fwd.packets, flow.bwd.packets) = (numbers.below(20), numbers.below(20));
    flow.fwd.tcp_flags = *numbers.pick(&[None, Some(2), Some(27)]);
    flow
}

/// One item of a rule, on any field and of any shape that the index files in its own way.
fn item(numbers: &mut Numbers) -> String {
    let end = *numbers.pick(&["src_ip", "dst_ip"]);
    let (a, b) = (address(numbers), address(numbers));
    let count = *numbers.pick(&["bytes_out", "bytes_in", "packets_out", "bytes", "packets"]);
    let how = *numbers.pick(&["gt", "gte", "lt", "lte", "neq"]);
    let (port, limit) = (*numbers.pick(PORTS), numbers.below(2_000));
    match numbers.below(14) {
        0 | 1 => format!("{end}: '{a}'"),
        2 => format!("{end}:\n        - '{a}'\n        - '{b}'"),
        3 if a.is_v4() => format!("{end}|cidr: '{a}/{}'", 8 + numbers.below(25)),
        3 => format!("{end}|cidr: '{a}/{}'", 16 + numbers.below(113)),
        4 => format!("dst_port: {port}"),
        5 => format!("dst_port|{how}: {port}"),
        6 => format!("src_port|{how}: {}", numbers.below(65_536)),
        7 | 8 => format!("{count}|{how}: {limit}"),
        9 => format!("proto: {}", numbers.pick(&["tcp", "udp", "icmp"])),
        10 => format!("direction: {}", numbers.pick(&["outbound", "inbound", "internal"])),
        11 => format!(
            "application|{}",
            numbers.pick(&[
                "contains: 'http'",
                "endswith: 'K'",
                "startswith: 'dns'",
                "cased: 'http'",
                "exists: false",
                "re: '^x'",
                "re|i: 'HTTP.?$'",
                "re|i: 'k$'",
                "re|all:\n        - 'h'\n        - 'x$'",
                "neq: 'http'"
            ])
        ),
        12 => format!("in_if|{}", numbers.pick(&["exists: false", "gt: 1", "neq: 7"])),
        _ => "fwd_tcp_flag:\n        - syn\n        - fin".to_owned(),
    }
}

fn rules(numbers: &mut Numbers, count: u64) -> String {
    let mut text = String::new();
    for i in 0..count {
        let mut detection = String::new();
        for name in ["a", "b", "c"] {
            write!(detection, "{name}:\n    {}\n", item(numbers)).expect("to a string");
        }
        let condition = *numbers.pick(&[
            "a",
            "a and b",
            "a and b and c",
            "a or b",
            "a and not b",
            "a and (b or c)",
            "(a and b) or (a and c)",
            "not a and b",
            "not (a or b)",
            "not (a and b)",
        ]);
        write!(text, "---\n{}", rule(&format!("r{i}"), &detection, condition))
            .expect("to a string");
    }
    text
}

fn holds(set: &RuleSet, flows: &[Biflow]) -> usize {
    let mut batch = Vec::new();
    set.scan_batch(Phase::End, flows, &mut batch);
    let plain: Vec<(usize, RuleIndex)> = flows
        .iter()
        .enumerate()
        .flat_map(|(i, flow)| {
            set.full_scan(&Record::of(flow)).into_iter().map(move |rule| (i, rule))
        })
        .collect();
    assert_eq!(batch, plain, "in batches");
    for flow in flows {
        for phase in [Phase::Opened, Phase::Woke, Phase::End] {
            let mut hits = Vec::new();
            set.scan(phase, flow, &[0, 5], &mut hits);
            assert_eq!(hits, set.plain_scan(phase, flow, &[0, 5]), "{phase:?} {flow:?}");
        }
        assert_eq!(set.wake(flow, &[1, 2]), set.plain_wake(flow, &[1, 2]), "{flow:?}");
    }
    batch.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_the_plain_scan_finds(
        seed in any::<u64>(), count in select(vec![1, 20, 150, 300]), sampled in any::<bool>(),
    ) {
        let mut numbers = Numbers(seed);
        let text = rules(&mut numbers, count);
        let flows: Vec<Biflow> = (0..80).map(|_| flow(&mut numbers)).collect();
        let traffic = sampled.then(|| Arc::new(Traffic::of(flows[..40].to_vec())));
        holds(&load_with(&text, &Options { traffic, ..Options::default() }), &flows);
    }
}

#[test]
fn nested_thresholds_and_networks_stay_small_and_exact() {
    let mut text = String::new();
    for i in 0..400_u32 {
        let detection = format!(
            "s:\n    proto: tcp\n    dst_port: 443\n    src_ip|cidr: 10.0.0.0/{}\n    \
             bytes_out|gt: {}\n    packets_out|lt: {}",
            8 + i % 20,
            i * 7,
            1 + i % 30,
        );
        write!(text, "---\n{}", rule(&format!("r{i}"), &detection, "s")).expect("to a string");
    }
    let set = load(&text);
    let mut numbers = Numbers(3);
    let flows: Vec<Biflow> = (0..600).map(|_| flow(&mut numbers)).collect();
    let matches = holds(&set, &flows);
    assert!(matches > 1_000, "{matches} matches");
}

/// Rules that cost every flow something, or fire on many, are named when they are loaded; what is
/// many, recent traffic says.
#[test]
fn rules_that_cost_or_match_much_are_warned_of() {
    let text = [
        rule("rare", "s:\n    dst_port: 4444", "s"),
        rule("web", "s:\n    dst_port: 443", "s"),
        rule("any", "s:\n    bytes_out|fieldref: bytes_in", "s"),
        rule("most", "s:\n    dst_port|gte: 1", "s"),
    ]
    .join("---\n");
    let flow = |port| Biflow { dst_port: port, ..Biflow::default() };
    let traffic = |ports: &[u16]| Arc::new(Traffic::of(ports.iter().map(|&p| flow(p)).collect()));
    let warned = |traffic| -> Vec<String> {
        let set = load_with(&text, &Options { traffic, ..Options::default() });
        let warnings = set.report().warnings.iter();
        warnings.map(|note| format!("{}: {}", note.title, note.text)).collect()
    };
    let everywhere =
        "Rule any: no predicate of it is selective: it is looked at for every flow".to_owned();
    let broad =
        "Rule most: nearly every flow satisfies it, so it would raise an alert on nearly each";
    let broad = broad.to_owned();
    assert_eq!(warned(None), [everywhere.clone(), broad.clone()]);
    let mixed: Vec<u16> = (0..100).map(|n| if n < 20 { 443 } else { 1_000 + n }).collect();
    let frequent = |id, n| format!("Rule {id}: it matches {n} of a sample of 100 recent flows");
    let want =
        [everywhere, broad, frequent("web", 20), frequent("any", 100), frequent("most", 100)];
    assert_eq!(warned(Some(traffic(&mixed))), want);
}

#[test]
fn generated_rules_leave_few_candidates() {
    let Some(folder) = vectors("../bench/sigma") else { return };
    let out = tempfile::tempdir().expect("a folder");
    let made = std::process::Command::new("python3")
        .arg(folder.join("gen.py"))
        .args([out.path().as_os_str(), "20261120".as_ref(), "3000".as_ref()])
        .output();
    let Ok(made) = made else {
        eprintln!("SKIPPED: there is no python3");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let rules = std::fs::read_dir(out.path().join("rules-1000")).expect("rules");
    let mut rules: Vec<_> = rules.map(|entry| entry.expect("an entry").path()).collect();
    rules.sort();
    let set = load(&rules.into_iter().map(read).collect::<Vec<_>>().join("---\n"));
    assert_eq!(set.report().loaded, 1_000, "{}", set.report());
    let events = read(out.path().join("events.jsonl"));
    let flow = |line| Event::parse(line, &[]).expect("an event").flow;
    let flows: Vec<Biflow> = events.lines().map(flow).collect();
    let matches = holds(&set, &flows);
    let candidates: usize = flows.iter().map(|flow| set.candidates(Phase::End, flow)).sum();
    eprintln!("{} flows, {candidates} candidates, {matches} matches", flows.len());
    assert!(matches > 10 && candidates < flows.len(), "{candidates} candidates");
}

/// What the index finds of `detection` for an event, held to be what the plain scan finds.
#[track_caller]
fn check_candidates(detection: &str, event: &str, candidates: usize, matches: usize) {
    let set = load(&rule("x", detection, "s"));
    assert_eq!(set.rules().len(), 1, "{}", set.report());
    let event = Event::parse(event, &home()).expect("an event");
    assert_eq!(both_ways(&set, &event).len(), matches, "{detection}");
    assert_eq!(set.candidates(Phase::End, &event.flow), candidates, "{detection}");
}

#[test]
fn texts_beyond_ascii_are_looked_up_by_the_rest() {
    let detection = "s:\n    application:\n        - 'Überwachung'\n        - 'http'";
    check_candidates(detection, r#"{"application":"smtp"}"#, 0, 0);
    check_candidates(detection, r#"{"application":"überwachung"}"#, 2, 1);
    check_candidates(detection, r#"{"application":"HTTP"}"#, 1, 1);
    // The Kelvin sign is a k without regard to case.
    check_candidates("s:\n    application: '\u{212a}ey'", r#"{"application":"key"}"#, 1, 1);
}

/// Ten thousand rules that one flow matches, each in two ways that the index finds: as many hits as the
/// plain scan has, each once, whatever fired before and however little room there is.
#[test]
fn many_matches_on_one_flow_equal_the_plain_scan() {
    let mut text = String::new();
    for number in 0..10_000 {
        writeln!(
            text,
            "title: R\nid: r{number}\nlogsource: {{category: firewall}}\ndetection:\n  a: {{src_ip: \
             192.0.2.1, dst_port: 443}}\n  b: {{dst_ip: 192.0.2.2, dst_port: 443}}\n  condition: a or \
             b\n---"
        )
        .expect("writing to a string");
    }
    let set = load(&text);
    let flow = Biflow {
        src: Addr::v4(0xc000_0201),
        dst: Addr::v4(0xc000_0202),
        dst_port: 443,
        protocol: 6,
        ..Biflow::default()
    };
    assert!(set.candidates(Phase::Opened, &flow) >= 10_000);
    for fired in [0, 1, 32, 33, 1_024, 3_000] {
        let already: Vec<u32> =
            set.rules().iter().step_by(3).take(fired).map(|r| r.meta.uid).collect();
        for room in [0, 64, 20_000] {
            let mut hits = Vec::with_capacity(room);
            set.scan(Phase::Opened, &flow, &already, &mut hits);
            let plain = set.plain_scan(Phase::Opened, &flow, &already);
            assert_eq!(plain.len(), 10_000 - already.len());
            assert!(hits == plain, "{fired} fired, room for {room}: {} hits", hits.len());
        }
    }
}
