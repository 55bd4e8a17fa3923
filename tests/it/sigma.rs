//! What the Sigma tests share: one rule or many, against our scan and against rsigma-eval.

use std::fmt::Write as _;

use rsigma_eval::{Engine, JsonEvent};
use weir::detect::sigma::{Event, Interner, Options, RuleIndex, RuleSet, Source};
use weir::net::Cidr;

/// The default home networks.
pub(crate) fn home() -> Vec<Cidr> {
    weir::config::Networks::default().home
}

/// The rules in `text`, loaded with the default options.
pub(crate) fn load(text: &str) -> RuleSet {
    load_with(text, &Options::default())
}

/// The rules in `text`.
pub(crate) fn load_with(text: &str, options: &Options) -> RuleSet {
    let source = Source { file: "test.yml".to_owned(), text: text.to_owned() };
    RuleSet::compile(&[source], options, &mut Interner::default())
}

/// A rule with the given detection, each line indented by four, and condition.
pub(crate) fn rule(id: &str, detection: &str, condition: &str) -> String {
    let mut text = format!(
        "title: Rule {id}\nid: {id}\nlogsource:\n    category: network_connection\ndetection:\n"
    );
    for line in detection.lines() {
        writeln!(text, "    {line}").expect("writing to a string");
    }
    format!("{text}    condition: {condition}\nlevel: low\n")
}

/// A rule with one item as its whole condition.
pub(crate) fn item_rule(item: &str) -> String {
    let lines: Vec<String> = item.lines().map(|line| format!("    {line}")).collect();
    rule("one", &format!("selection:\n{}", lines.join("\n")), "selection")
}

/// What became of a rule: why it is rejected, or whether it matches.
pub(crate) fn verdict(set: &RuleSet, event: &str) -> String {
    if let Some(rejected) = set.report().rejected.first() {
        return format!("rejected: {}", rejected.reason.reason());
    }
    match Event::parse(event, &home()) {
        Ok(event) => (!both_ways(set, &event).is_empty()).to_string(),
        Err(error) => format!("event refused: {}", error.reason()),
    }
}

/// The rules that match, by the index; held to be those of the plain scan.
#[track_caller]
pub(crate) fn both_ways(set: &RuleSet, event: &Event) -> Vec<RuleIndex> {
    let hits = set.matches(&event.record());
    assert_eq!(hits, set.full_scan(&event.record()), "index = plain scan: {:?}", event.flow);
    hits
}

/// The ids of our rules that match.
pub(crate) fn ours(set: &RuleSet, event: &Event) -> Vec<String> {
    let hits = both_ways(set, event);
    let mut ids: Vec<String> = hits.iter().map(|&hit| set.rule(hit).meta.id.clone()).collect();
    ids.sort();
    ids
}

/// rsigma-eval with the rules and filters of `text` that it accepts.
pub(crate) fn oracle(text: &str) -> Engine {
    let collection = rsigma_parser::parse_sigma_yaml(text).expect("YAML");
    let mut engine = Engine::new();
    for rule in &collection.rules {
        if let Err(error) = engine.add_rule(rule) {
            eprintln!("rsigma-eval refuses {}: {error}", rule.title);
        }
    }
    for filter in &collection.filters {
        if let Err(error) = engine.apply_filter(filter) {
            eprintln!("rsigma-eval refuses {}: {error}", filter.title);
        }
    }
    engine
}

/// The ids of the oracle's rules that match.
pub(crate) fn theirs(engine: &Engine, event: &serde_json::Value) -> Vec<String> {
    let hits = engine.evaluate(&JsonEvent::borrow(event));
    let mut ids: Vec<String> = hits.into_iter().filter_map(|hit| hit.header.rule_id).collect();
    ids.sort();
    ids
}

/// A small generator of numbers, the same on every machine.
pub(crate) struct Numbers(pub u64);

impl Numbers {
    /// The next number (splitmix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `all`.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }
}
