//! Any text as a file of rules, correlations and filters, as a rule-test event, as a file of
//! exclusions and as one of placeholders: none may panic.
//!
//! The input is split at each NUL: rules, an event, exclusions, placeholders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::detect::sigma::{
    Event, Interner, Options, Phase, Placeholders, RuleIndex, RuleSet, Source,
};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let rules = parts.next().unwrap_or_default();
    let event = parts.next().unwrap_or("{}");
    let file = |text: &str| Source { file: "fuzz.yml".to_owned(), text: text.to_owned() };
    let options = Options {
        exclusions: parts.next().map(file).into_iter().collect(),
        placeholders: parts
            .next()
            .and_then(|text| Placeholders::parse(text).ok())
            .unwrap_or_default(),
        ..Options::default()
    };
    let set = RuleSet::compile(&[file(rules)], &options, &mut Interner::default());
    let Ok(event) = Event::parse(event, &[]) else { return };
    for hit in set.full_scan(&event.record()) {
        assert!(set.rule(hit).holds(&event.record()));
        let _ = set.explain(hit, &event.record());
    }
    let named = set.excluded(&event.flow).is_some();
    assert!(!named || !set.exclusions().is_empty());
    let mut hits: Vec<RuleIndex> = Vec::new();
    set.scan(Phase::Opened, &event.flow, &[], &mut hits);
    let _ = set.wake(&event.flow, &[]);
    let _ = set.report().to_string();
});
