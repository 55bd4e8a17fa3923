//! Any text as a configuration: it parses or every problem has its place; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::parse;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match parse("fuzz.toml", &text) {
        Ok(config) => assert_eq!(parse("again.toml", &config.to_toml()), Ok(config)),
        Err(problems) => {
            let lines = text.matches('\n').count() + 1;
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|p| p.line.is_none_or(|line| (1..=lines).contains(&line))));
        }
    }
});
