//! Any text as a rule file, then any text as a rule-test event: neither may panic.
//!
//! The input is split at the first NUL: rules before it, an event after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::detect::sigma::{Event, Interner, Options, Phase, RuleIndex, RuleSet, Source};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (rules, event) = text.split_once('\0').unwrap_or((&text, "{}"));
    let source = Source { file: "fuzz.yml".to_owned(), text: rules.to_owned() };
    let set = RuleSet::compile(&[source], &Options::default(), &mut Interner::default());
    let Ok(event) = Event::parse(event, &[]) else { return };
    for hit in set.full_scan(&event.record()) {
        assert!(set.rule(hit).holds(&event.record()));
        let _ = set.explain(hit, &event.record());
    }
    let mut hits: Vec<RuleIndex> = Vec::new();
    set.scan(Phase::Opened, &event.flow, &[], &mut hits);
    let _ = set.wake(&event.flow, &[]);
    let _ = set.report().to_string();
});
