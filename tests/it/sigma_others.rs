//! Vectors of other projects: the examples and schemas of the specification, and tau-engine's rules.

use serde_json::Value as Json;
use weir::detect::sigma::{Event, RuleSet};

use crate::sigma::{home, load, rule};
use crate::support::vectors;

fn fires(set: &RuleSet, event: &str) -> bool {
    let event = Event::parse(event, &home()).expect(event);
    !set.full_scan(&event.record()).is_empty()
}

#[test]
fn examples_of_the_specification_are_what_they_say() {
    let Some(folder) = vectors("sigma") else { return };
    let folder = folder.join("sigma-specification/schema");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let mut ran = 0;
    // Rules of other log sources; on one of flows, with a field of flows, they load and fire.
    for (name, source, field, value) in [
        (
            "rules/rule_1.yml",
            "product: windows\n    service: application",
            "Provider_Name",
            "Application Error",
        ),
        (
            "rules/rule_ecs.yml",
            "category: network\n    service: dns",
            "dns.question.name",
            "sigmahq",
        ),
    ] {
        let text = read(name);
        assert_eq!(load(&text).report().rejected[0].reason.reason(), "logsource", "{name}");
        let text = text.replace(source, "category: network_connection");
        let set = load(&text.replace(field, "application"));
        assert_eq!(set.rules().len(), 1, "{name}: {}", set.report());
        assert!(fires(&set, &format!("{{\"application\":\"{value}\"}}")), "{name}");
        ran += 1;
    }
    // The filters mean to exclude and do not say `not`: added as written, they narrow the rule.
    for (name, source, field, inside) in [
        (
            "filter/filter_1.yml",
            "category: process_creation\n    product: windows",
            "User",
            "adm_x",
        ),
        (
            "filter/filter_ecs.yml",
            "category: network\n    service: dns",
            "dns.question.name",
            "www.google.x",
        ),
    ] {
        let text = read(name).replace(source, "category: network_connection");
        let set = load(&text);
        assert_eq!(set.report().rejected[0].reason.reason(), "silencing_filter", "{name}");
        let id = "6f3e2987-db24-4c78-a860-b4f4095a7095";
        let own = rule(id, "s:\n    dst_port: 1", "s");
        let set = load(&[own, text.replace(field, "application")].join("---\n"));
        let notes: Vec<&str> = set.report().warnings.iter().map(|n| n.text.as_str()).collect();
        assert!(notes.iter().any(|note| note.contains("has no `not`")), "{name}: {notes:?}");
        assert!(fires(&set, &format!("{{\"dst_port\":1,\"application\":\"{inside}\"}}")), "{name}");
        assert!(!fires(&set, "{\"dst_port\":1,\"application\":\"other\"}"), "{name}");
        ran += 1;
    }
    // Correlations are taken as such, or refused by name; never as rules.
    for entry in std::fs::read_dir(folder.join("correlation")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a correlation");
        let set = load(&text);
        assert!(set.rules().is_empty(), "{}", path.display());
        assert!(!set.report().rejected.is_empty(), "{}: its rules are not there", path.display());
        ran += 1;
    }
    eprintln!("{ran} examples of the specification");
    assert!(ran >= 12, "{ran}");
}

#[test]
fn shipped_rules_have_the_keys_and_words_of_the_specification() {
    let Some(folder) = vectors("sigma") else { return };
    let path = folder.join("sigma-specification/json-schema/sigma-detection-rule-schema.json");
    let schema = std::fs::read_to_string(path).expect("a schema");
    let schema: Json = serde_json::from_str(&schema).expect("JSON");
    let words = |key: &str| -> Vec<String> {
        let one_of = schema["properties"][key]["oneOf"].as_array().expect("words").iter();
        one_of.map(|word| word["const"].as_str().expect("a word").to_owned()).collect()
    };
    let (levels, statuses) = (words("level"), words("status"));
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
    let mut ran = 0;
    for entry in std::fs::read_dir(rules).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a rule");
        for document in text.split("\n---\n") {
            let document: Json = yaml_serde::from_str(document).expect("YAML");
            let is_rule = document.get("detection").is_some();
            for key in schema["required"].as_array().expect("keys").iter().filter(|_| is_rule) {
                let key = key.as_str().expect("a key");
                assert!(document.get(key).is_some(), "{}: {key}", path.display());
            }
            let known = |key: &str, words: &[String]| {
                let word = document[key].as_str();
                word.is_none_or(|word| words.iter().any(|known| known == word))
            };
            assert!(known("level", &levels) && known("status", &statuses), "{}", path.display());
            ran += 1;
        }
    }
    eprintln!("{ran} documents of shipped rules");
    assert!(ran >= 20, "{ran}");
}

/// tau-engine's rules are not Sigma, but some read the same in both.
#[test]
fn rules_of_tau_engine_that_read_as_sigma_say_the_same() {
    let Some(folder) = vectors("sigma") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder.join("tau-engine/rules"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let (mut ran, mut events) = (0, 0);
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a rule").replace("phrase", "application");
        let Ok(all) = yaml_serde::from_str::<Json>(&text) else { continue };
        let Some(end) = text.find("\ntrue_positives") else { continue };
        // `?` begins a regular expression there, `i` a text without regard to case.
        if ["\"?", "'?", "\"i", "'i", "\"'i"].iter().any(|sign| text[..end].contains(sign)) {
            continue;
        }
        let head = "title: T\nid: t\nlogsource: {category: network_connection}\n";
        let set = load(&format!("{head}{}\n", text[..end].trim_start_matches("---\n")));
        if set.rules().is_empty() {
            continue;
        }
        let mut compared = 0;
        for (key, want) in [("true_positives", true), ("true_negatives", false)] {
            for event in all[key].as_array().into_iter().flatten() {
                let Ok(flow) = Event::parse(&event.to_string(), &home()) else { continue };
                if !flow.unknown.is_empty() {
                    continue;
                }
                let got = !set.full_scan(&flow.record()).is_empty();
                assert_eq!(got, want, "{}: {event}", path.display());
                compared += 1;
            }
        }
        events += compared;
        ran += usize::from(compared > 0);
    }
    eprintln!("{ran} of {} rules of tau-engine, {events} events", files.len());
    assert!(ran >= 8, "{ran} rules read as Sigma");
}
