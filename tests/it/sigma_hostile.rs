//! Rules by somebody who means harm: each is refused by name, in bounded time and memory, and keeps
//! no other rule from loading.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use weir::config::Config;
use weir::detect::sigma::{Event, Interner, Options, Placeholders, RuleSet, Source};
use weir::flow::Fired;

use crate::harness::Run;
use crate::sigma::rule;

/// On a busy machine; what is not bounded takes hours.
const LONG: Duration = Duration::from_secs(30);

/// Loads `text` beside a rule that means no harm, and returns the labels of what is rejected.
#[track_caller]
fn refused(name: &str, text: &str, options: &Options) -> Vec<&'static str> {
    let source = |file: &str, text: &str| Source { file: file.to_owned(), text: text.to_owned() };
    let sources =
        [source("bad.yml", text), source("good.yml", &rule("g", "s:\n    dst_port: 1", "s"))];
    let began = Instant::now();
    let set = RuleSet::compile(&sources, options, &mut Interner::default());
    assert!(began.elapsed() < LONG, "{name} took {:?}", began.elapsed());
    assert!(set.rules().iter().any(|rule| rule.meta.id == "g"), "{name}");
    set.report().rejected.iter().map(|rejected| rejected.reason.reason()).collect()
}

#[track_caller]
fn check(name: &str, text: &str, want: &[&str]) {
    assert_eq!(refused(name, text, &Options::default()), want, "{name}");
}

/// A list below a key.
fn list(of: impl Iterator<Item = String>) -> String {
    of.map(|value| format!("\n      - {value}")).collect()
}

#[test]
fn conditions_do_not_multiply_what_they_name() {
    let ports = list((0..40_000).map(|port| port.to_string()));
    let many = vec!["s"; 60_000].join(" or ");
    check("values", &rule("x", &format!("s:\n    dst_port:{ports}"), &many), &["too_large"]);
    let items = (0..20_000).map(|n| format!("- dst_port: {n}"));
    let items: String = items.map(|item| format!("\n    {item}")).collect();
    check("items", &rule("x", &format!("s:{items}"), "s"), &["too_large"]);
    let selections: String = (0..5_000).map(|n| format!("s{n}:\n    src_port: {n}\n")).collect();
    let all = vec!["1 of s*"; 5_000].join(" or ");
    check("patterns", &rule("x", selections.trim_end(), &all), &["too_large"]);
    let both = |name: &str, field: &str| -> String {
        let one = |n| format!("{name}{n}:\n    {field}: 10.0.{}.{}\n", n / 256, n % 256);
        (0..8_000).map(one).collect()
    };
    let text = both("a", "src_ip") + both("b", "dst_ip").trim_end();
    check("demands of all alternatives", &rule("x", &text, "not 1 of a* and 1 of b*"), &[]);
    let empty: String = (0..5_000).map(|n| format!("s{n}: {{}}\n")).collect();
    check("selections of nothing", &rule("x", empty.trim_end(), &all), &["no_values"]);
}

#[test]
fn keys_and_documents_cost_no_more_the_more_there_are() {
    let keys: String = (0..90_000).map(|n| format!("k{n}: 1\n")).collect();
    check("keys", &keys, &["syntax"]);
    let bad = |n: usize| rule(&format!("x{n}"), "s:\n    src_ip: nowhere", "s") + "---\n";
    let many: String = (0..20_000).map(bad).collect();
    assert_eq!(refused("documents", &many, &Options::default()).len(), 20_000);
    let bad = |n: usize| correlation(&format!("x{n}"), "nothing");
    let many: String = (0..20_000).map(bad).collect();
    assert_eq!(refused("correlations", &many, &Options::default()).len(), 20_000);
}

#[test]
fn filters_do_not_multiply_rules() {
    let one = |n| format!("    a{n}: {{dst_ip: 10.0.{}.{}}}\n", n / 256, n % 256);
    let selections: String = (0..10_000).map(one).collect();
    let filter = format!(
        "title: F\nlogsource: {{category: network_connection}}\nfilter:\n    rules: any\n\
         {selections}    condition: not 1 of a*\n---\n"
    );
    let rules = (0..500).map(|n| rule(&format!("r{n}"), "s:\n    dst_port: 1", "s") + "---\n");
    check("filters", &(filter + &rules.collect::<String>()), &["too_large"]);
}

#[test]
fn collections_do_not_multiply_what_their_documents_share() {
    let ports = list((0..5_000).map(|port| port.to_string()));
    let shared = rule("x", &format!("s:\n    dst_port:{ports}"), "s") + "action: global\n";
    let more: String = (0..5_000).map(|n| format!("---\nid: x{n}\n")).collect();
    check("a collection", &(shared + &more), &["too_large"]);
    let each =
        |n: u32| format!("title: T{n}\ndetection: {{s: {{x|m{n}: 1}}, condition: s}}\n---\n");
    let faults: String = (0..10_000).map(each).collect();
    let global = "action: global\nlogsource: {category: firewall}\n---\n".to_owned();
    assert_eq!(refused("faults", &(global + &faults), &Options::default()).len(), 10_000);
}

#[test]
fn modifiers_do_not_multiply_values_without_end() {
    let dashes = list((0..5_000).map(|n| format!("'{n}-----'")));
    let items = format!("s:\n    application|windash|contains:{dashes}");
    check("windash", &rule("x", &items, "s"), &["too_large"]);
    let mut placeholders = Placeholders::default();
    placeholders.insert("a", (0..1_000).map(|n| format!("{n}-----")));
    let options = Options { placeholders, ..Options::default() };
    for item in ["expand: '%a%%a%%a%'", "expand|windash: '%a%'"] {
        let text = rule("x", &format!("s:\n    application|{item}"), "s");
        assert_eq!(refused(item, &text, &options), ["too_large"], "{item}");
    }
}

#[test]
fn regular_expressions_take_bounded_memory_and_time() {
    let one = |pattern: &str| rule("x", &format!("s:\n    application|re: '{pattern}'"), "s");
    check("repeats", &one("((a{1000}){1000}){1000}"), &["regex"]);
    check("alternatives", &one(&format!("({})", vec![r"\w{50}"; 2_000].join("|"))), &["regex"]);
    check("nesting", &one(&format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000))), &["regex"]);
    let large = list((0..2_000).map(|n| format!(r"'{n}\w{{2}}'")));
    let text = rule("x", &format!("s:\n    application|re:{large}"), "s");
    check("many large ones", &text, &["too_large"]);
    let small = |id: usize| {
        let patterns = list((0..2_000).map(|n| format!("'{id}x{n}y'")));
        rule(&id.to_string(), &format!("s:\n    application|re:{patterns}"), "s") + "---\n"
    };
    check("many rules with many", &(0..9).map(small).collect::<String>(), &["too_large"]);
    // What makes others backtrack is linear here, and wildcards are too.
    check("backtracking", &one("^(a+)+$"), &[]);
    let stars = rule("x", &format!("s:\n    application: '{}b'", "*a".repeat(5_000)), "s");
    check("stars", &stars, &[]);
    for text in [one("^(a+)+$"), stars] {
        let source = Source { file: "x.yml".to_owned(), text };
        let set = RuleSet::compile(&[source], &Options::default(), &mut Interner::default());
        let event = format!(r#"{{"application":"{}c"}}"#, "a".repeat(4_000));
        let event = Event::parse(&event, &[]).expect("an event");
        let began = Instant::now();
        assert!(set.full_scan(&event.record()).is_empty());
        assert!(began.elapsed() < LONG);
    }
}

#[test]
fn yaml_that_unfolds_or_nests_is_refused() {
    let mut bomb = "title: x\na: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let before = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb += &format!("a{n}: &a{n} [{before}]\n");
    }
    bomb += "logsource: {category: firewall}\ndetection:\n  s: {dst_port: *a29}\n  condition: s\n";
    check("aliases", &bomb, &["syntax"]);
    check("itself", "title: x\ndetection: &a\n  s: *a\n  condition: s\n", &["syntax"]);
    check(
        "a list in a list",
        &rule("x", &format!("s:\n    {}x", "- ".repeat(100_000)), "s"),
        &["syntax"],
    );
    let deep: String = (0..1_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    check("a key under a key", &deep, &["syntax"]);
    let deepest: String = (0..1_445).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    check("as many as fit a document", &deepest, &["syntax"]);
    check("a large document", &format!("title: {}\n", "x".repeat(2 << 20)), &["too_large"]);
    check("no text", "\u{0}\u{1}\u{feff}%\n", &["syntax"]);
}

fn correlation(id: &str, rules: &str) -> String {
    format!(
        "title: {id}\nid: {id}\ncorrelation:\n  type: event_count\n  rules: [{rules}]\n  \
         group-by: [src_ip]\n  timespan: 1m\n  condition: {{gte: 1}}\n---\n"
    )
}

#[test]
fn correlations_neither_circle_nor_pile_up() {
    let circle = correlation("a", "b") + &correlation("b", "c") + &correlation("c", "a");
    check("a circle", &circle, &["base_rule"; 3]);
    check("itself", &correlation("a", "a"), &["base_rule"]);
    let names: Vec<String> = (0..50_000).map(|n| format!("r{n}")).collect();
    check("many names", &correlation("a", &names.join(", ")), &["too_large"]);
    let fields = vec!["src_ip"; 100_000].join(", ");
    let many = correlation("a", "g").replace("[src_ip]", &format!("[{fields}]"));
    check("many fields", &many, &["too_large"]);
    // Of a chain only the last ones are near enough to its end; each names the next.
    let chain: String =
        (0..3_000).map(|n| correlation(&format!("c{n}"), &format!("c{}", n + 1))).collect();
    let refused = refused("a chain", &(chain + &correlation("c3000", "g")), &Options::default());
    assert_eq!(refused.len(), 3_001 - 8);
    assert_eq!(refused.iter().filter(|label| **label == "too_large").count(), 1);
}

#[test]
fn a_flow_remembers_so_many_rules_and_further_ones_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = 6;
    let rules = (0..Fired::MAX + more).map(|n| rule(&format!("r{n}"), "s:\n    proto: tcp", "s"));
    let rules: Vec<String> = rules.collect();
    std::fs::write(folder.path().join("many.yml"), rules.join("---\n")).expect("written");
    let mut config = Config::default();
    config.rules.directories = vec![folder.path().to_owned()];
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/web.pcap");
    let replayed = Run { config, ..Run::default() }.whole(&capture);
    let flows: BTreeSet<_> = replayed.alerts.iter().map(|alert| alert.flow_id).collect();
    assert!(!flows.is_empty());
    assert_eq!(replayed.alerts.len(), flows.len() * Fired::MAX);
    // Each flow was looked at when it opened and when it ended.
    let passed_over = replayed.ledgers.detections.passed_over;
    assert_eq!(passed_over, (2 * flows.len() * more) as u64);
}
