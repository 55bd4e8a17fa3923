//! Rules and events of other projects: every network rule of SigmaHQ, and rsigma's own tests.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use rsigma_parser::{Detection, DetectionItem, Modifier, SigmaRule, SigmaValue};
use serde_json::{Map, Value, json};
use weir::detect::sigma::names::{self, Dialect};
use weir::detect::sigma::{Event, Note, RuleSet, changes};

use crate::sigma::{Numbers, home, load, oracle, ours, theirs};
use crate::support::vectors;

/// Rules that load, by the end of their path; every other one is rejected.
const LOADED: &[&str] = &[
    "net_connection_lnx_susp_malware_callback_port.yml",
    "netflow_cleartext_protocols.yml",
    "net_firewall_apt_equationgroup_c2.yml",
];

#[test]
fn every_network_rule_of_sigmahq_loads_or_says_why_not() {
    let Some(folder) = vectors("sigma") else { return };
    let folder = folder.join("SigmaHQ-sigma");
    let list = std::fs::read_to_string(folder.join("network_rules.json")).expect("the list");
    let list: Vec<Value> = serde_json::from_str(&list).expect("JSON");
    let mut loaded = Vec::new();
    let mut rejected: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows = String::new();
    for entry in &list {
        let path = entry["path"].as_str().expect("a path");
        let text = std::fs::read_to_string(folder.join(path)).expect(path);
        let set = load(&text);
        if set.rules().is_empty() {
            let [why] = &set.report().rejected[..] else { panic!("{path}: {}", set.report()) };
            is_true(path, &text, why.reason.reason(), &why.reason.to_string());
            *rejected.entry(why.reason.reason()).or_default() += 1;
            let message = why.reason.to_string();
            let source = message.strip_prefix("its log source (").and_then(|m| m.split_once(')'));
            let told = source.map_or(message.as_str(), |(source, _)| source);
            let (title, id) = (&why.title, &why.id);
            rows += &row(title, id, &format!("rejected: `{}`", why.reason.reason()), told);
        } else {
            let meta = &set.rules()[0].meta;
            let notes = set.report().warnings.iter().map(|note| note.text.as_str());
            let notes = notes.collect::<Vec<_>>().join("; ");
            rows += &row(&meta.title, &meta.id, "loaded", &notes);
            loaded.push(path);
        }
    }
    let rest: Vec<String> =
        rejected.iter().map(|(reason, count)| format!("{count} `{reason}`")).collect();
    let page = format!(
        "{SIGMAHQ_HEAD}\nOf {} rules {} load; rejected are {}.\n\n| rule | id | result | why, or \
         what is said of it |\n|---|---|---|---|\n{rows}",
        list.len(),
        loaded.len(),
        rest.join(", ")
    );
    crate::docs::fresh("docs/sigmahq.md", &page);
    eprintln!("{} rules: {} loaded, rejected {rejected:?}", list.len(), loaded.len());
    loaded.iter().for_each(|path| eprintln!("  {path}"));
    let names: Vec<&str> =
        loaded.iter().filter_map(|p| Path::new(p).file_name()?.to_str()).collect();
    for path in LOADED {
        assert!(names.contains(path), "{path} loads");
    }
}

const SIGMAHQ_HEAD: &str = "\
# SigmaHQ's network rules

<!-- Made by tests/it/sigma_vectors.rs (WEIR_BLESS=1 writes it): do not edit. -->

What becomes of the rules of SigmaHQ's collection that speak of networks, with the default options:
each by title and id, and why it is rejected. The labels are those of [sigma.md](sigma.md); for
`logsource` the rule's log source is named, which is not one of flows. Most of them are about
processes, queries and requests, which flows do not have. No text of a rule is here; the rules are
their authors', under the Detection Rule License 1.1 (<https://github.com/SigmaHQ/sigma>).
";

fn row(title: &str, id: &str, result: &str, told: &str) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    format!("| {} | `{id}` | {result} | {} |\n", cell(title), cell(told))
}

/// Checks a reason against the text of the rule.
#[track_caller]
fn is_true(path: &str, text: &str, reason: &str, message: &str) {
    let names_flows = ["category: network_connection", "category: firewall", "service: netflow"]
        .iter()
        .any(|source| text.contains(source));
    let holds = match reason {
        "logsource" => !names_flows,
        "unknown_under_not" | "never_matches" => {
            let fields = message.split('`').skip(1).step_by(2);
            let mut fields = fields.filter(|f| !f.contains(' ')).peekable();
            fields.peek().is_some()
                && fields.all(|f| names::look_up(f).is_none() && text.contains(f))
        }
        "aggregation" => text.lines().any(|l| l.contains("condition:") && l.contains('|')),
        "placeholder" => text.contains("|expand"),
        "value" | "syntax" => true,
        _ => false,
    };
    assert!(holds, "{path}: {reason}: {message}");
}

#[test]
fn loaded_sigmahq_rules_match_as_in_rsigma_eval() {
    let Some(folder) = vectors("sigma") else { return };
    let mut rules = Vec::new();
    collect(&folder.join("SigmaHQ-sigma"), &mut rules);
    rules.sort();
    let (mut numbers, mut compared, mut matches) = (Numbers(7), 0, 0);
    let mut loaded = 0;
    for path in &rules {
        let text = std::fs::read_to_string(path).expect("a rule");
        let set = load(&text);
        if set.rules().is_empty() {
            continue;
        }
        loaded += 1;
        let engine = oracle(&text);
        let rule = rsigma_parser::parse_sigma_yaml(&text).expect("YAML").rules.remove(0);
        for _ in 0..200 {
            let event = event_for(&rule, &mut numbers);
            let flow = Event::parse(&event.to_string(), &home()).expect("an event");
            let hits = ours(&set, &flow);
            let differs = hits != theirs(&engine, &event);
            assert!(!differs, "{}: {hits:?} on {event}", path.display());
            compared += 1;
            matches += hits.len();
        }
    }
    eprintln!("{loaded} rules of {}: {compared} events, {matches} matches", rules.len());
    assert!(matches > 0, "some events match");
}

fn collect(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("regression_data") {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "yml") {
            found.push(path);
        }
    }
}

/// An event with values that the rule names, where an item can be met by a value of its own.
fn event_for(rule: &SigmaRule, numbers: &mut Numbers) -> Value {
    let mut event = Map::new();
    let mut named: Vec<_> = rule.detection.named.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    for (_, detection) in named {
        if numbers.below(3) > 0 {
            fill(detection, &mut event, numbers);
        }
    }
    Value::Object(event)
}

fn fill(detection: &Detection, event: &mut Map<String, Value>, numbers: &mut Numbers) {
    match detection {
        Detection::AllOf(items) => {
            for item in items {
                if numbers.below(8) > 0
                    && let Some((name, value)) = value_of(item, numbers)
                {
                    event.insert(name, value);
                }
            }
        }
        Detection::AnyOf(parts) | Detection::And(parts) => {
            let part = numbers.pick(parts);
            fill(part, event, numbers);
        }
        _ => {}
    }
}

fn value_of(item: &DetectionItem, numbers: &mut Numbers) -> Option<(String, Value)> {
    let name = item.field.name.clone()?;
    names::look_up(&name)?;
    let value = match numbers.pick(&item.values) {
        SigmaValue::String(text) => {
            let text = text.original.split('/').next()?.trim_end_matches('*').to_owned();
            let is_address = item.field.has_modifier(Modifier::StartsWith) || text.ends_with('.');
            json!(if is_address { text.trim_end_matches('.').to_owned() + ".1.1.1" } else { text })
        }
        SigmaValue::Integer(n) => json!(n),
        SigmaValue::Bool(b) => json!(b),
        SigmaValue::Float(_) | SigmaValue::Null => return None,
    };
    let event = json!({ &name: value }).to_string();
    Event::parse(&event, &[]).ok()?;
    Some((name, value))
}

/// Fields of other domains in rsigma's tests, and the free text that stands in for them.
const STAND_INS: &[(&str, &str)] = &[
    ("CommandLine", "application"),
    ("EventType", "in_if_name"),
    ("ParentImage", "out_if_name"),
    ("Image", "vrf_name"),
    ("some_field", "application"),
    ("User", "out_if_name"),
];

#[test]
fn tests_of_rsigma_that_speak_of_flows_have_the_same_verdicts() {
    let Some(folder) = vectors("sigma") else { return };
    let (mut ran, mut compared) = (0, 0);
    for file in ["rsigma/inline_vectors.json", "sigma-rust/inline_vectors.json"] {
        let list = std::fs::read_to_string(folder.join(file)).expect(file);
        let list: Vec<Value> = serde_json::from_str(&list).expect("JSON");
        for case in &list {
            let events = case["events_json"].as_array().expect("a list");
            for text in case["yaml_or_json"].as_array().expect("a list") {
                let text = text.as_str().expect("text");
                let set = load(&stand_in(text));
                // Correlations change what the other rules of the file say.
                if set.rules().is_empty() || !set.report().rejected.is_empty() {
                    continue;
                }
                // Decided: a filter names rules by id or name, for rsigma also by title.
                let by_title = |note: &Note| note.text.contains("no loaded rule's id or name");
                if set.report().warnings.iter().any(by_title) {
                    eprintln!("differs by decision: {}", case["test"]);
                    continue;
                }
                let events: Vec<&str> = events.iter().filter_map(Value::as_str).collect();
                let n = compare(&set, &stand_in(text), &events);
                compared += n;
                ran += usize::from(n > 0);
            }
        }
    }
    eprintln!("{ran} tests, {compared} events");
    assert!(ran >= 20, "{ran} tests have a meaning here");
}

fn compare(set: &RuleSet, text: &str, events: &[&str]) -> usize {
    let engine = oracle(text);
    let mut compared = 0;
    for event in events {
        let event = stand_in(event);
        let Ok(flow) = Event::parse(&event, &home()) else { continue };
        // Keywords are searched for in every field of an event; a flow has only its own.
        if text.contains("keywords:") && !flow.unknown.is_empty() {
            continue;
        }
        let json: Value = serde_json::from_str(&event).expect("it was parsed");
        let (hits, want) = (ours(set, &flow).len(), theirs(&engine, &json).len());
        // rsigma-eval names only rules that have an id; both sides count those.
        let with_id = set.rules().iter().all(|rule| !rule.meta.id.starts_with("title-"));
        let want = if with_id { want } else { engine_hits(&engine, &json) };
        assert_eq!(hits, want, "{text}\n{event}");
        compared += 1;
    }
    compared
}

fn engine_hits(engine: &rsigma_eval::Engine, event: &Value) -> usize {
    engine.evaluate(&rsigma_eval::JsonEvent::borrow(event)).len()
}

fn stand_in(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in STAND_INS {
        text = text.replace(from, to);
    }
    for source in
        ["product: windows\n    category: process_creation", "product: windows", "category: test"]
    {
        text = text.replace(source, "category: network_connection");
    }
    text
}

#[test]
fn names_of_techniques_are_those_of_the_registry() {
    let Some(folder) = vectors("attack") else { return };
    let mut rows = 0;
    for row in csv::Reader::from_path(folder.join("techniques.csv")).expect("a table").records() {
        let row = row.expect("a row");
        assert_eq!(weir::detect::attack::technique(&row[0]), Some(&row[1]), "{}", &row[0]);
        rows += 1;
    }
    for row in csv::Reader::from_path(folder.join("tactics.csv")).expect("a table").records() {
        assert!(weir::detect::attack::is_tactic(&row.expect("a row")[1]));
    }
    assert_eq!(weir::detect::attack::technique("T9999"), None);
    eprintln!("{rows} techniques");
}

proptest! {
    #[test]
    fn any_text_compiles_or_is_rejected(text in "(?s).{0,300}") {
        let set = load(&text);
        prop_assert_eq!(set.report().loaded, set.rules().len());
    }

    #[test]
    fn a_damaged_rule_compiles_or_is_rejected(
        at in 0..400_usize, len in 0..20_usize, with in "[-a-z0-9:|'\"*%\\[\\]{}()&\n ]{0,12}",
    ) {
        let detection = "s:\n    - dst_ip|cidr: ['10.0.0.0/8', 'fc00::/7']\n      \
                         dst_port|gte: 10\n\
                         f:\n    proto: tcp\n    application|re|i: '^a.*b$'";
        let mut text = crate::sigma::rule("r", detection, "1 of s* and not f");
        let start = text.floor_char_boundary(at.min(text.len()));
        let end = text.floor_char_boundary((start + len).min(text.len()));
        text.replace_range(start..end, &with);
        let set = load(&text);
        if let Ok(event) = Event::parse(r#"{"dst_ip":"10.0.0.1","proto":"tcp"}"#, &home()) {
            prop_assert!(set.full_scan(&event.record()).len() <= set.rules().len());
        }
    }

    /// Whatever is wrong with one document of a collection, each is loaded or named; and at a reload none
    /// that was in force, and whose id still stands there, goes without a word.
    #[test]
    fn no_document_of_a_damaged_collection_vanishes(
        line in 0..23_usize, at in 0..30_usize, len in 0..20_usize,
        with in "[a-z0-9:|'\"*%\\[\\]{}()&<#, ]{0,12}", repeats in any::<bool>(),
    ) {
        let global = "action: global\nlogsource:\n    category: firewall\nlevel: low\n---\n";
        let part = |n: u32, action: &str| format!(
            "title: T{n}\nid: t{n}\n{action}detection:\n    s:\n        dst_port: {n}\n    condition: s\n"
        );
        let action = if repeats { "action: repeat\n" } else { "" };
        let parts = [part(1, ""), part(2, action), part(3, "")];
        let text = global.to_owned() + &parts.join("---\n");
        let damage = |(n, text): (usize, &str)| {
            if n != line || text == "---" {
                return text.to_owned();
            }
            let (start, end) = (at.min(text.len()), (at + len).min(text.len()));
            [&text[..start], &with, &text[end..]].concat()
        };
        let damaged: Vec<String> = text.lines().enumerate().map(damage).collect();
        let damaged = damaged.join("\n");
        let (old, new) = (load(&text), load(&damaged));
        let report = new.report();
        let has = |set: &RuleSet, id: &str| set.rules().iter().any(|rule| rule.meta.id == id);
        for id in ["t1", "t2", "t3"].iter().filter(|id| has(&old, id) && !has(&new, id)) {
            // A line that is indented goes on with the id.
            let follows = |next| damaged.contains(&format!("\nid: {id}\n{next}"));
            let stands = follows("action") || follows("detection");
            let lost = changes::lost(&old, &new);
            prop_assert!(!stands || !lost.is_empty(), "{id} is gone\n{damaged}\n{report}");
        }
        let told = report.loaded + report.rejected.len() + report.correlations + report.filters;
        prop_assert!(told >= parts.len(), "{damaged}\n{report}");
    }

    #[test]
    fn any_event_is_a_flow_or_is_refused(text in "(?s).{0,200}", value in "[-0-9.eE]{1,12}") {
        if let Err(error) = Event::parse(&text, &home()) {
            prop_assert!(!error.reason().is_empty());
        }
        for entry in names::NAMES {
            let event = json!({ entry.name: value });
            if let Ok(event) = Event::parse(&event.to_string(), &home()) {
                prop_assert!(entry.dialect == Dialect::Weir || event.unknown.is_empty());
            }
        }
    }
}
