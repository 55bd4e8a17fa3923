//! Lookup by text: rules that ask for a literal part of a field are found by the literals that the
//! field's text has, those that ask for a regular expression by one set of all of them.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::{RegexSet, RegexSetBuilder};

use super::lists::{ListBuilder, ListId};
use crate::detect::sigma::fields::{Field, Kind, Record};
use crate::detect::sigma::predicate::{Predicate, Test};
use crate::detect::sigma::text::Matcher;

/// Literals that are shorter are in too many texts.
const LITERAL_MIN: usize = 2;
/// Octets of a compiled set of regular expressions, at most; a field that needs more has none.
const SET_OCTETS_MAX: usize = 64 << 20;

/// What a rule is filed under: one of these is found in the field's text if the predicate holds.
pub(super) enum Keys {
    /// Literals, in lower case.
    Literals(Vec<String>),
    /// Regular expressions.
    Patterns(Vec<String>),
}

/// The keys of a predicate; `None` if there are none, or if it holds of flows without the field.
pub(super) fn keys(leaf: &Predicate) -> Option<Keys> {
    let Test::Text { matchers, all, negated: false, null: false } = &leaf.test else { return None };
    if leaf.field.kind() != Kind::Text || matchers.is_empty() {
        return None;
    }
    let patterns = matchers.iter().map(|matcher| match matcher {
        Matcher::Regex(regex) => Some(regex.as_str().to_owned()),
        Matcher::Glob(_) => None,
    });
    if let Some(patterns) = of_each(patterns, *all) {
        return Some(Keys::Patterns(patterns));
    }
    let literals = matchers.iter().map(|matcher| {
        let literal = matcher.literal_part()?;
        (literal.len() >= LITERAL_MIN).then(|| literal.to_ascii_lowercase())
    });
    of_each(literals, *all).map(Keys::Literals)
}

/// A key for each matcher; where all have to match, the longest of one will do.
fn of_each(keys: impl Iterator<Item = Option<String>>, all: bool) -> Option<Vec<String>> {
    if all { Some(vec![keys.flatten().max_by_key(String::len)?]) } else { keys.collect() }
}

/// What is filed under texts of one field, in the making.
#[derive(Default)]
pub(super) struct Filed {
    literals: Vec<(String, u32)>,
    patterns: Vec<(String, u32)>,
}

impl Filed {
    /// Files `entry` under `keys`.
    pub fn add(&mut self, keys: Keys, entry: u32) {
        let (filed, keys) = match keys {
            Keys::Literals(keys) => (&mut self.literals, keys),
            Keys::Patterns(keys) => (&mut self.patterns, keys),
        };
        filed.extend(keys.into_iter().map(|key| (key, entry)));
    }
}

/// Lookup by the text of one field.
#[derive(Debug)]
pub(super) struct TextTable {
    pub field: Field,
    literals: Option<Literals>,
    patterns: Option<Patterns>,
}

#[derive(Debug)]
struct Literals {
    automaton: AhoCorasick,
    /// The list of each of the automaton's patterns.
    lists: Vec<ListId>,
}

#[derive(Debug)]
struct Patterns {
    set: RegexSet,
    /// The list of each of the set's expressions.
    lists: Vec<ListId>,
}

impl TextTable {
    /// The table, and the entries that it cannot hold.
    pub fn new(field: Field, filed: Filed, lists: &mut ListBuilder) -> (Option<Self>, Vec<u32>) {
        let literals = Literals::new(&filed.literals, lists);
        let patterns = Patterns::new(&filed.patterns, lists);
        let mut rest = Vec::new();
        if literals.is_none() {
            rest.extend(filed.literals);
        }
        if patterns.is_none() {
            rest.extend(filed.patterns);
        }
        let mut refused: Vec<u32> = rest.into_iter().map(|(_, entry)| entry).collect();
        refused.sort_unstable();
        refused.dedup();
        let is_empty = literals.is_none() && patterns.is_none();
        ((!is_empty).then_some(Self { field, literals, patterns }), refused)
    }

    /// Calls `f` with each list under the flow's text; a list may come more than once.
    pub fn look_up(&self, record: &Record<'_>, mut f: impl FnMut(ListId)) {
        let Some(text) = record.text(self.field) else { return };
        match &self.literals {
            Some(Literals { automaton, lists }) if text.is_ascii() => {
                let found = automaton.find_overlapping_iter(text);
                found.for_each(|hit| f(lists[hit.pattern().as_usize()]));
            }
            // Other letters may equal ASCII ones without regard to case: the Kelvin sign is a k.
            Some(Literals { lists, .. }) => lists.iter().copied().for_each(&mut f),
            None => {}
        }
        // Whether anything matches is answered without an allocation, and seldom with yes.
        if let Some(Patterns { set, lists }) = &self.patterns
            && set.is_match(text)
        {
            set.matches(text).into_iter().for_each(|at| f(lists[at]));
        }
    }
}

impl Literals {
    fn new(filed: &[(String, u32)], lists: &mut ListBuilder) -> Option<Self> {
        let (patterns, lists) = listed(filed, lists)?;
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns)
            .ok()?;
        Some(Self { automaton, lists })
    }
}

impl Patterns {
    fn new(filed: &[(String, u32)], lists: &mut ListBuilder) -> Option<Self> {
        let (patterns, lists) = listed(filed, lists)?;
        let set = RegexSetBuilder::new(patterns)
            .size_limit(SET_OCTETS_MAX)
            .dfa_size_limit(SET_OCTETS_MAX)
            .build()
            .ok()?;
        Some(Self { set, lists })
    }
}

/// Each different key, and the list of the entries that are filed under it; `None` without any.
fn listed<'a>(
    filed: &'a [(String, u32)],
    lists: &mut ListBuilder,
) -> Option<(Vec<&'a str>, Vec<ListId>)> {
    let mut filed: Vec<(&str, u32)> = filed.iter().map(|(key, entry)| (&**key, *entry)).collect();
    filed.sort_unstable();
    filed.dedup();
    let of_key = |same: &[(&'a str, u32)]| {
        let entries: Vec<u32> = same.iter().map(|(_, entry)| *entry).collect();
        (same[0].0, lists.list(&entries))
    };
    (!filed.is_empty()).then(|| filed.chunk_by(|a, b| a.0 == b.0).map(of_key).unzip())
}
