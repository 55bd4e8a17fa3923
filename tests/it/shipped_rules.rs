//! Our own rules: each loads without a warning, fires on its record and keeps quiet on the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir::detect::sigma::{Event, Interner, Options, RuleSet, Source};

use crate::sigma::home;

/// A line of `tests/rules/*.jsonl`.
#[derive(Deserialize)]
struct Trial {
    rule: String,
    title: String,
    fires: bool,
    event: serde_json::Value,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path, extension: &str) -> Vec<Source> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    let read = |path: PathBuf| Source {
        file: path.display().to_string(),
        text: std::fs::read_to_string(&path).expect("a file"),
    };
    paths.into_iter().map(read).collect()
}

fn shipped() -> RuleSet {
    let sources = files(&folder("config/rules"), "yml");
    RuleSet::compile(&sources, &Options::default(), &mut Interner::default())
}

#[test]
fn shipped_rules_load_without_a_word() {
    let set = shipped();
    assert!(set.report().rejected.is_empty(), "{}", set.report());
    assert!(set.report().warnings.is_empty(), "{}", set.report());
    assert!(set.rules().len() >= 20, "{}", set.report());
    let correlations = set.correlations().iter().map(|correlation| &correlation.meta);
    for meta in set.rules().iter().map(|rule| &rule.meta).chain(correlations) {
        assert_eq!(meta.author.as_deref(), Some("Weir"), "{}", meta.title);
        assert!(!meta.tactics.is_empty() && !meta.techniques.is_empty(), "{}", meta.title);
        for technique in &meta.techniques {
            assert!(technique.name.is_some(), "{}: {}", meta.title, technique.id);
        }
    }
}

#[test]
fn each_shipped_rule_fires_on_its_record_and_on_no_other() {
    let set = shipped();
    let mut trials: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for file in files(&folder("tests/rules"), "jsonl") {
        for line in file.text.lines() {
            let trial: Trial = serde_json::from_str(line).expect(line);
            let event = Event::parse(&trial.event.to_string(), &home()).expect(line);
            assert!(event.unknown.is_empty(), "{}: {:?}", trial.title, event.unknown);
            let hits = set.full_scan(&event.record());
            let fired: Vec<&str> = hits.iter().map(|&hit| set.rule(hit).meta.id.as_str()).collect();
            assert_eq!(fired.contains(&&*trial.rule), trial.fires, "{}: {line}", trial.title);
            for &hit in &hits {
                let evidence = set.explain(hit, &event.record());
                assert!(!evidence.is_empty(), "{} says why", trial.title);
            }
            trials.entry(trial.rule).or_default()[usize::from(trial.fires)] += 1;
        }
    }
    for rule in set.rules() {
        let counts = trials.get(&rule.meta.id).copied().unwrap_or_default();
        assert!(counts[0] > 0 && counts[1] > 0, "{} has both records", rule.meta.title);
    }
    assert_eq!(trials.len(), set.rules().len(), "no record of a rule that is gone");
    eprintln!("{} rules", trials.len());
}
