//! What one rule set has that another has not.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

use super::ruleset::{Rule, RuleSet};

/// The difference of two rule sets, each rule by its id and title, in the order of the sets.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Changes {
    /// In the new one only.
    pub added: Vec<Change>,
    /// In the old one only: removed, disabled, or rejected now.
    pub removed: Vec<Change>,
    /// In both, and not the same.
    pub changed: Vec<Change>,
}

/// A rule that is not the same as before.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[expect(missing_docs, reason = "the names are the rule's")]
pub struct Change {
    pub id: String,
    pub title: String,
}

impl Change {
    fn of(rule: &Rule) -> Self {
        Self { id: rule.meta.id.clone(), title: rule.meta.title.clone() }
    }
}

impl Changes {
    /// What changed from `old` to `new`. Where a rule stands is no part of it.
    #[must_use]
    pub fn between(old: &RuleSet, new: &RuleSet) -> Self {
        let mut before: HashMap<&str, &Rule> =
            old.rules().iter().map(|rule| (rule.meta.id.as_str(), rule)).collect();
        let mut changes = Self::default();
        for rule in new.rules() {
            match before.remove(rule.meta.id.as_str()) {
                None => changes.added.push(Change::of(rule)),
                Some(old) if !same(old, rule) => changes.changed.push(Change::of(rule)),
                Some(_) => {}
            }
        }
        let gone = old.rules().iter().filter(|rule| before.contains_key(rule.meta.id.as_str()));
        changes.removed.extend(gone.map(Change::of));
        changes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn same(old: &Rule, new: &Rule) -> bool {
    let (a, b) = (&old.meta, &new.meta);
    let meta = (&a.title, a.level, &a.author, &a.link, &a.tags)
        == (&b.title, b.level, &b.author, &b.link, &b.tags);
    let kind = (old.class, old.silent, old.taps) == (new.class, new.silent, new.taps);
    let condition = || match (old.indicators(), new.indicators()) {
        // A million intervals are compared, not written out.
        (Some(a), Some(b)) => a == b && outline(old) == outline(new),
        (None, None) => digest(old) == digest(new),
        _ => false,
    };
    meta && kind && condition()
}

/// The words of the condition, which tell the filters of a feed's rule apart.
fn outline(rule: &Rule) -> Vec<(String, String, bool)> {
    let mut words = Vec::new();
    rule.condition().leaves(&mut |leaf| {
        words.push((leaf.name.clone(), leaf.words.clone(), leaf.negated));
    });
    words
}

/// A hash of the condition as it is written out for debugging, which shows all of it.
fn digest(rule: &Rule) -> u64 {
    struct Sink(DefaultHasher);
    impl Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    write!(sink, "{:?}", rule.condition()).expect("a hasher takes everything");
    sink.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sigma::{Interner, Options, Source};

    fn set(rules: &[(&str, &str)]) -> RuleSet {
        let source = |(id, value): &(&str, &str)| Source {
            file: format!("{id}.yml"),
            text: format!(
                "title: T {id}\nid: {id}\nlogsource: {{category: firewall}}\ndetection:\n  \
                 s: {value}\n  condition: s\n"
            ),
        };
        let sources: Vec<Source> = rules.iter().map(source).collect();
        RuleSet::compile(&sources, &Options::default(), &mut Interner::default())
    }

    #[test]
    fn each_rule_is_added_removed_changed_or_the_same() {
        let old =
            set(&[("a", "{dst_port: 1}"), ("b", "{dst_port: 2}"), ("c", "{src_ip: 10.0.0.1}")]);
        let new =
            set(&[("d", "{dst_port: 4}"), ("b", "{dst_port: 3}"), ("c", "{src_ip: 10.0.0.1}")]);
        let changes = Changes::between(&old, &new);
        let ids = |of: &[Change]| of.iter().map(|change| change.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&changes.added), ["d"]);
        assert_eq!(ids(&changes.removed), ["a"]);
        assert_eq!(ids(&changes.changed), ["b"]);
        assert_eq!(changes.added[0].title, "T d");
        assert!(Changes::between(&old, &old.clone()).is_empty());
    }
}
