//! Our scan against rsigma-eval on the same rules and events. A difference is a failure; what
//! differs by decision is in docs/sigma.md and is not generated here.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use weir::detect::sigma::Event;

use crate::sigma::{Numbers, home, load, oracle, ours, rule, theirs};

const RARE: &[u64] = &[4444, 5555, 31337, 8081, 9001, 3333, 1080, 47001, 23, 11211, 6379, 50050];
const COMMON: &[u64] = &[443, 80, 53, 123, 22, 25, 445, 3389, 8080, 8443, 993, 110];
const THRESHOLDS: &[u64] = &[100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// Rules of the kinds that customers write: lists of addresses, networks with thresholds, rare
/// ports with exclusions, ranges, several selections and filters. With each an event for it.
struct Workload {
    numbers: Numbers,
}

impl Workload {
    fn public(&mut self) -> String {
        let (a, b) = (self.numbers.below(40) + 60, self.numbers.below(4));
        format!("{a}.{b}.{}.{}", self.numbers.below(8), self.numbers.below(256))
    }

    fn internal(&mut self) -> String {
        format!(
            "10.{}.{}.{}",
            self.numbers.below(4),
            self.numbers.below(4),
            self.numbers.below(256)
        )
    }

    fn network(&mut self) -> (String, String) {
        let length = 16 + self.numbers.below(12);
        let address = self.public();
        (format!("{address}/{length}"), address)
    }

    fn list(values: &[String]) -> String {
        values.iter().fold(String::new(), |text, value| text + "\n        - '" + value + "'")
    }

    fn rule(&mut self, id: usize) -> (String, Value) {
        let rare = *self.numbers.pick(RARE);
        let common = *self.numbers.pick(COMMON);
        let over = *self.numbers.pick(THRESHOLDS);
        let (network, inside) = self.network();
        let (source, host) = (self.internal(), self.internal());
        let count = 1 + self.numbers.below(12);
        let hosts: Vec<String> = (0..count).map(|_| self.public()).collect();
        let (detection, condition, event) = match self.numbers.below(7) {
            0 => (
                format!("s:\n    dst_ip:{}\n    dst_port: {common}", Self::list(&hosts)),
                "s",
                json!({"dst_ip": hosts[0], "dst_port": common}),
            ),
            1 => (
                format!(
                    "s:\n    proto: tcp\n    dst_port:\n        - {rare}\n        - {common}\n    \
                     bytes_out|gt: {over}\n    src_ip|cidr: {source}/24\nf:\n    dst_ip|cidr:{}",
                    Self::list(&["10.0.0.0/8".to_owned(), "192.168.0.0/16".to_owned()]),
                ),
                "s and not f",
                json!({"proto": "tcp", "dst_port": rare, "bytes_out": over + 1, "src_ip": source}),
            ),
            2 => (
                format!("s:\n    dst_ip|cidr:{}\n    bytes_out|gt: {over}", Self::list(&[network])),
                "s",
                json!({"dst_ip": inside, "bytes_out": over + 1}),
            ),
            3 => (
                format!(
                    "s:\n    src_ip|cidr: {source}/20\n    dst_ip|cidr: {network}\n    \
                     bytes_out|gte: {over}\n    packets_out|gt: 50"
                ),
                "s",
                json!({"src_ip": source, "dst_ip": inside, "bytes_out": over, "packets_out": 51}),
            ),
            4 => (
                format!(
                    "sa:\n    dst_ip|cidr: {network}\n    dst_port: {rare}\nsb:\n    \
                     dst_ip:{}\n    \
                     proto: tcp\nf:\n    src_ip|cidr: {host}/24",
                    Self::list(&hosts)
                ),
                "(sa or sb) and not f",
                json!({"dst_ip": hosts[0], "proto": "tcp", "src_ip": "10.200.0.1"}),
            ),
            5 => (
                format!(
                    "sa:\n    dst_port|gte: {rare}\n    src_ip|cidr: {source}/16\n    \
                     bytes_in|gt: {over}\n    proto: tcp\nsb:\n    dst_port|lte: {}",
                    rare + 500
                ),
                "all of s*",
                json!({
                    "dst_port": rare + 9, "src_ip": source, "bytes_in": over + 1, "proto": "tcp"
                }),
            ),
            _ => one_of(rare, common, &network, &inside, &hosts[0]),
        };
        (rule(&format!("r{id}"), &detection, condition), event)
    }

    fn event(&mut self, crafted: &Value) -> Value {
        let packets = 1 + self.numbers.below(100);
        let mut event = json!({
            "src_ip": self.internal(), "dst_ip": self.public(),
            "src_port": 32_768 + self.numbers.below(28_000), "dst_port": self.numbers.pick(COMMON),
            "proto": self.numbers.pick(&["tcp", "tcp", "udp"]),
            "bytes_out": packets * (60 + self.numbers.below(700)),
            "bytes_in": self.numbers.below(1_000_000),
            "packets_out": packets, "packets_in": self.numbers.below(100),
            "duration_ms": self.numbers.below(100_000),
            "direction": self.numbers.pick(&["outbound", "outbound", "inbound"]),
            "initiated": true, "tcp_flags": self.numbers.pick(&[27, 2, 18, 0]),
        });
        let fields = event.as_object_mut().expect("an object");
        let crafted = crafted.as_object().expect("an object");
        fields.extend(crafted.iter().map(|(k, v)| (k.clone(), v.clone())));
        event
    }
}

/// Selections with a common exclusion.
fn one_of(
    rare: u64,
    common: u64,
    network: &str,
    inside: &str,
    host: &str,
) -> (String, &'static str, Value) {
    (
        format!(
            "sel_0:\n    dst_port: {rare}\n    dst_ip|cidr: {network}\n    \
                     direction: outbound\n\
                     sel_1:\n    dst_port: {common}\n    dst_ip: '{host}'\nfilter_a:\n    \
                     dst_port: 53\n\
                     filter_b:\n    bytes_out|lt: 100"
        ),
        "1 of sel_* and not 1 of filter_*",
        json!({
            "dst_port": rare, "dst_ip": inside, "direction": "outbound", "bytes_out": 500
        }),
    )
}

#[test]
fn generated_rules_match_as_in_rsigma_eval() {
    const RULES: usize = 400;
    const EVENTS: usize = 4_000;
    let mut workload = Workload { numbers: Numbers(20_261_120) };
    let (rules, crafted): (Vec<String>, Vec<Value>) = (0..RULES).map(|i| workload.rule(i)).unzip();
    let text = rules.join("---\n");
    let (set, engine) = (load(&text), oracle(&text));
    assert_eq!(set.report().loaded, RULES, "{}", set.report());
    let mut matches = 0;
    for i in 0..EVENTS {
        let crafted = if i % 4 == 0 { crafted[i / 4 % RULES].clone() } else { json!({}) };
        let event = workload.event(&crafted);
        let flow = Event::parse(&event.to_string(), &home()).expect("an event");
        let hits = ours(&set, &flow);
        assert_eq!(hits, theirs(&engine, &event), "{event}");
        matches += hits.len();
    }
    eprintln!("{RULES} rules, {EVENTS} events, {matches} matches, 0 differences");
    assert!(matches > EVENTS / 5, "the events hit the rules");
}

#[test]
fn a_workload_on_disk_matches_as_in_rsigma_eval() {
    let Some(folder) = std::env::var_os("WEIR_SIGMA_WORKLOAD") else {
        eprintln!("SKIPPED: WEIR_SIGMA_WORKLOAD names no folder with rules/*.yml and events.jsonl");
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let rules = std::fs::read_dir(folder.join("rules")).expect("rules/");
    let rules: Vec<String> = rules.map(|entry| read(entry.expect("an entry").path())).collect();
    let text = rules.join("---\n");
    let (set, engine) = (load(&text), oracle(&text));
    assert_eq!(set.report().loaded, rules.len(), "{}", set.report());
    let (mut events, mut matches) = (0, 0);
    for line in read(folder.join("events.jsonl")).lines() {
        let event: Value = serde_json::from_str(line).expect(line);
        let flow = Event::parse(line, &home()).expect(line);
        let hits = ours(&set, &flow);
        assert_eq!(hits, theirs(&engine, &event), "{event}");
        (events, matches) = (events + 1, matches + hits.len());
    }
    eprintln!("{} rules, {events} events, {matches} matches, 0 differences", rules.len());
}

/// Values that items and events of one field share, so that they meet.
fn values(field: &str) -> Vec<&'static str> {
    match field {
        "src_ip" | "dst_ip" => {
            vec!["10.0.0.1", "10.1.2.3", "192.0.2.7", "2001:db8::1", "172.16.0.9"]
        }
        "proto" => vec!["tcp", "udp", "icmp"],
        "src_port" | "dst_port" => vec!["443", "44", "53", "4443", "0", "65535"],
        "direction" => vec!["outbound", "inbound", "internal"],
        "initiated" => vec!["true", "false"],
        "application" | "in_if_name" => vec!["http", "HTTP", "xhttpx", "a*b", "", "ge-0/0/1"],
        "duration" => vec!["0", "0.5", "1.25", "60"],
        _ => vec!["0", "1", "40", "1500", "9007199254740991"],
    }
}

const FIELDS: &[&str] = &[
    "src_ip",
    "dst_ip",
    "proto",
    "src_port",
    "dst_port",
    "direction",
    "initiated",
    "application",
    "in_if_name",
    "duration",
    "bytes_out",
    "bytes_in",
    "packets_out",
    "packets_in",
];

fn modifiers(field: &str) -> Vec<&'static str> {
    match field {
        "src_ip" | "dst_ip" => {
            vec!["", "|cidr", "|startswith", "|contains", "|re", "|neq", "|exists"]
        }
        "proto" | "direction" => vec!["", "|contains", "|endswith", "|re", "|neq", "|fieldref"],
        "src_port" | "dst_port" => {
            vec!["", "|gt", "|lte", "|contains", "|startswith", "|re", "|neq", "|fieldref", "|wild"]
        }
        "initiated" => vec![""],
        "application" | "in_if_name" => vec![
            "",
            "|contains",
            "|startswith",
            "|endswith",
            "|re",
            "|re|i",
            "|cased",
            "|neq",
            "|exists",
            "|null",
            "|wild",
            "|contains|all",
            "|contains|cased",
            "|fieldref",
        ],
        "duration" => vec!["", "|gt", "|gte", "|lt", "|lte", "|neq"],
        _ => vec!["", "|gt", "|gte", "|lt", "|lte", "|neq", "|contains"],
    }
}

fn item() -> impl Strategy<Value = String> {
    let field = select(FIELDS);
    let field_and_modifier = field.prop_flat_map(|f| (Just(f), select(modifiers(f))));
    let with_values = field_and_modifier.prop_flat_map(|(field, modifier)| {
        let chosen = proptest::collection::vec(select(values(field)), 1..4);
        (Just(field), Just(modifier), chosen, any::<bool>())
    });
    with_values.prop_map(|(field, modifier, values, flag)| {
        let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        let with = |values: Vec<String>| {
            values.iter().fold(String::new(), |text, v| format!("{text}\n        - '{v}'"))
        };
        match modifier {
            "|exists" => format!("{field}|exists: {flag}"),
            "|null" => format!("{field}: null"),
            "|fieldref" => {
                let other = if field.ends_with("port") { "src_port" } else { "application" };
                format!("{field}|fieldref: {other}")
            }
            "|wild" => {
                let wild = |v: String| if flag { format!("{v}*") } else { format!("*{v}?") };
                format!("{field}:{}", with(values.into_iter().map(wild).collect()))
            }
            "|cidr" => {
                let network = |v: String| if v.contains(':') { v + "/32" } else { v + "/12" };
                format!("{field}|cidr:{}", with(values.into_iter().map(network).collect()))
            }
            "|re" | "|re|i" => {
                let escape = |v: String| v.replace('*', ".").replace("ge-", "^g.-");
                format!("{field}{modifier}:{}", with(values.into_iter().map(escape).collect()))
            }
            "|contains|all" if values.len() == 1 => format!("{field}|contains:{}", with(values)),
            // Unquoted, so that numbers are numbers.
            "" if flag && field.ends_with("port") => format!("{field}: {}", values[0]),
            _ => format!("{field}{modifier}:{}", with(values)),
        }
    })
}

fn random_rule() -> impl Strategy<Value = String> {
    let conditions = select(vec![
        "a",
        "a and b",
        "a or b",
        "a and not b",
        "not a",
        "not (a or b)",
        "1 of them",
        "all of them",
        "not 1 of them and c",
        "(a or b) and not c",
        "not all of them",
        "b or not a",
    ]);
    let block = || proptest::collection::vec(item(), 1..3);
    (block(), block(), block(), conditions).prop_map(|(a, b, c, condition)| {
        let mut detection = String::new();
        for (name, items) in [("a", a), ("b", b), ("c", c)] {
            write!(detection, "{name}:").expect("a string");
            // A list of maps, so that one field may come twice.
            for item in items {
                write!(detection, "\n    - {item}").expect("a string");
            }
            detection.push('\n');
        }
        rule("random", &detection, condition)
    })
}

fn random_event() -> impl Strategy<Value = Value> {
    let fields: Vec<_> = FIELDS
        .iter()
        .map(|&field| (Just(field), select(values(field)), prop::bool::weighted(0.85)))
        .collect();
    fields.prop_map(|fields| {
        let mut event = serde_json::Map::new();
        for (field, value, present) in fields {
            // What follows from other fields cannot be missing alone.
            let derived = matches!(field, "src_ip" | "dst_ip" | "direction" | "initiated");
            if !present && !derived {
                continue;
            }
            let number = field.contains("port")
                || field.contains("bytes")
                || field.contains("packets")
                || field == "duration";
            let value = if number {
                serde_json::from_str(value).expect("a number")
            } else {
                Value::String(value.to_owned())
            };
            event.insert(field.to_owned(), value);
        }
        Value::Object(event)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn random_rules_match_as_in_rsigma_eval(
        text in random_rule(), events in prop::collection::vec(random_event(), 4),
    ) {
        let set = load(&text);
        // A rule that real flows can never satisfy is rejected by decision.
        let rejected = set.report().rejected.first().map(|r| r.reason.reason());
        prop_assume!(rejected != Some("never_matches"));
        prop_assert_eq!(rejected, None, "{}\n{}", &text, set.report());
        let engine = oracle(&text);
        for event in events {
            let flow = Event::parse(&event.to_string(), &home()).expect("an event");
            prop_assert_eq!(ours(&set, &flow), theirs(&engine, &event), "{}\n{}", &text, event);
        }
    }
}
