//! Our own rules: each loads without a warning, fires on its record and keeps quiet on the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir::detect::RuleMeta;
use weir::detect::sigma::correlate::Rehearsal;
use weir::detect::sigma::{Event, Interner, Options, RuleSet, Source};

use crate::sigma::home;

/// A line of `tests/rules/*.jsonl`: an event for a rule, or a timeline for a correlation.
#[derive(Deserialize)]
struct Trial {
    rule: String,
    title: String,
    fires: bool,
    #[serde(default)]
    event: serde_json::Value,
    #[serde(default)]
    timeline: Vec<Stretch>,
}

/// Events that come one after the other: `count` like `event`, one each `every_s` seconds from `from_s` on.
/// Fields in `vary`, ports and numbers or the last octet of an address, are one higher each time.
#[derive(Deserialize)]
struct Stretch {
    event: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    from_s: f64,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    every_s: f64,
    #[serde(default)]
    vary: Vec<String>,
}

const fn one() -> u32 {
    1
}

impl Stretch {
    /// Its events, each with the microsecond at which it comes.
    fn events(&self) -> impl Iterator<Item = (i64, Event)> {
        (0..self.count).map(|number| {
            let mut event = self.event.clone();
            for name in &self.vary {
                let value = event.get_mut(name).unwrap_or_else(|| panic!("no {name} to vary"));
                *value = match value.as_u64() {
                    Some(n) => (n + u64::from(number)).into(),
                    None => next_address(value.as_str().expect("a number or an address"), number),
                };
            }
            let micros = ((self.from_s + f64::from(number) * self.every_s) * 1e6) as i64;
            event.insert("timestamp".to_owned(), micros.into());
            event.remove("duration");
            let text = serde_json::Value::Object(event).to_string();
            let event = Event::parse(&text, &home()).expect("an event");
            assert!(event.unknown.is_empty(), "{:?}", event.unknown);
            (micros, event)
        })
    }
}

fn next_address(text: &str, number: u32) -> serde_json::Value {
    let address: weir::net::Addr = text.parse().expect("an address");
    weir::net::Addr(address.0 + u128::from(number)).to_string().into()
}

/// Whether a correlation raises an alert on the timeline.
fn raises(set: &RuleSet, trial: &Trial) -> bool {
    let mut events: Vec<(i64, Event)> = trial.timeline.iter().flat_map(Stretch::events).collect();
    events.sort_by_key(|(time, _)| *time);
    let mut rehearsal = Rehearsal::new(set);
    let raised: Vec<_> = events.iter().flat_map(|(_, event)| rehearsal.event(event).1).collect();
    raised.iter().any(|alert| {
        assert!(!alert.evidence.is_empty(), "{} says why", alert.rule.title);
        alert.rule.id == trial.rule
    })
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

fn metas(set: &RuleSet) -> impl Iterator<Item = &RuleMeta> {
    let rules = set.rules().iter().map(|rule| &*rule.meta);
    rules.chain(set.correlations().iter().map(|correlation| &*correlation.meta))
}

#[test]
fn shipped_rules_load_without_a_word() {
    let set = shipped();
    assert!(set.report().rejected.is_empty(), "{}", set.report());
    assert!(set.report().warnings.is_empty(), "{}", set.report());
    assert!(set.rules().len() >= 20, "{}", set.report());
    for meta in metas(&set) {
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
            if !trial.timeline.is_empty() {
                assert_eq!(raises(&set, &trial), trial.fires, "{}: {line}", trial.title);
                trials.entry(trial.rule).or_default()[usize::from(trial.fires)] += 1;
                continue;
            }
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
    for meta in metas(&set) {
        let counts = trials.get(&meta.id).copied().unwrap_or_default();
        assert!(counts[0] > 0 && counts[1] > 0, "{} has both records", meta.title);
    }
    assert_eq!(trials.len(), metas(&set).count(), "no record of a rule that is gone");
    eprintln!("{} rules", trials.len());
}
