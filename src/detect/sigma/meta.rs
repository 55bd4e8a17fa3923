//! What travels with a rule's matches.

use rsigma_parser::{CorrelationRule, SigmaRule, Status};
use sha1::{Digest, Sha1};

use crate::detect::attack;
use crate::detect::{Level, RuleMeta, Technique};

/// The rule's metadata; its `uid` is still to be given.
pub(super) fn of(rule: &SigmaRule, file: &str, line: u32) -> RuleMeta {
    RuleMeta {
        id: id(rule),
        title: rule.title.clone(),
        level: rule.level.map_or(Level::Medium, level),
        author: rule.author.clone(),
        link: rule.references.first().cloned(),
        tags: rule.tags.clone(),
        ..placed(&rule.tags, file, line)
    }
}

/// The same of a correlation.
pub(super) fn of_correlation(rule: &CorrelationRule, file: &str, line: u32) -> RuleMeta {
    RuleMeta {
        id: correlation_id(rule),
        title: rule.title.clone(),
        level: rule.level.map_or(Level::Medium, level),
        author: rule.author.clone(),
        link: rule.references.first().cloned(),
        tags: rule.tags.clone(),
        ..placed(&rule.tags, file, line)
    }
}

/// What follows from the tags and the place.
fn placed(tags: &[String], file: &str, line: u32) -> RuleMeta {
    let (tactics, techniques) = attack_of(tags);
    RuleMeta { tactics, techniques, file: file.to_owned(), line, ..RuleMeta::default() }
}

/// The ATT&CK tactics and techniques among `tags`.
pub(super) fn attack_of(tags: &[String]) -> (Vec<String>, Vec<Technique>) {
    let attack = |tag: &String| tag.to_lowercase().strip_prefix("attack.").map(str::to_owned);
    let (mut tactics, mut techniques) = (Vec::new(), Vec::new());
    for tag in tags.iter().filter_map(attack) {
        if is_technique(&tag) {
            let id = tag.to_uppercase();
            let name = attack::technique(&id).map(str::to_owned);
            techniques.push(Technique { id, name });
        } else {
            let tactic = tag.replace('_', "-");
            if attack::is_tactic(&tactic) {
                tactics.push(tactic);
            }
        }
    }
    (tactics, techniques)
}

/// The rule's id; without one, a hash of its title.
pub(super) fn id(rule: &SigmaRule) -> String {
    rule.id.clone().unwrap_or_else(|| title_id(&rule.title))
}

/// The same of a correlation.
pub(super) fn correlation_id(rule: &CorrelationRule) -> String {
    rule.id.clone().unwrap_or_else(|| title_id(&rule.title))
}

/// A word on rules that their authors gave up.
pub(super) fn status_note(rule: &SigmaRule) -> Option<String> {
    note_on(rule.status)
}

/// The same, of a status.
pub(super) fn note_on(status: Option<Status>) -> Option<String> {
    match status? {
        Status::Deprecated => Some("its status is deprecated".to_owned()),
        Status::Unsupported => Some("its status is unsupported".to_owned()),
        Status::Stable | Status::Test | Status::Experimental => None,
    }
}

const fn level(level: rsigma_parser::Level) -> Level {
    match level {
        rsigma_parser::Level::Informational => Level::Informational,
        rsigma_parser::Level::Low => Level::Low,
        rsigma_parser::Level::Medium => Level::Medium,
        rsigma_parser::Level::High => Level::High,
        rsigma_parser::Level::Critical => Level::Critical,
    }
}

/// `t1071` or `t1071.001`.
fn is_technique(tag: &str) -> bool {
    let digits = |text: &str, n| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let Some(number) = tag.strip_prefix('t') else { return false };
    match number.split_once('.') {
        Some((main, sub)) => digits(main, 4) && digits(sub, 3),
        None => digits(number, 4),
    }
}

/// The id of a rule without one: from its title, so that it stays the same.
pub(super) fn title_id(title: &str) -> String {
    let hash = Sha1::digest(title.as_bytes());
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("title-{hex}")
}
