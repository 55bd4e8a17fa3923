//! Lookup by text: rules that ask for a literal part of a field are found by the literals that the
//! field's text has.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::lists::{ListBuilder, ListId};
use crate::detect::sigma::fields::{Field, Kind, Record};
use crate::detect::sigma::predicate::{Predicate, Test};

/// Literals that are shorter are in too many texts.
const LITERAL_MIN: usize = 2;

/// The literals of which one is in the field's text if the predicate holds; `None` if there are no
/// such, or if it holds of flows without the field.
pub(super) fn literals(leaf: &Predicate) -> Option<Vec<String>> {
    let Test::Text { matchers, all, negated: false, null: false } = &leaf.test else { return None };
    if leaf.field.kind() != Kind::Text || matchers.is_empty() {
        return None;
    }
    let of_each = matchers.iter().map(|matcher| {
        let literal = matcher.literal_part()?;
        (literal.len() >= LITERAL_MIN && literal.is_ascii()).then(|| literal.to_ascii_lowercase())
    });
    if *all {
        let longest = of_each.flatten().max_by_key(String::len)?;
        return Some(vec![longest]);
    }
    of_each.collect()
}

/// Lookup by the text of one field.
#[derive(Debug)]
pub(super) struct TextTable {
    pub field: Field,
    automaton: AhoCorasick,
    /// The list of each pattern of the automaton.
    lists: Vec<ListId>,
}

impl TextTable {
    /// `filed` are literals in lower case, each with the entry that is filed under it.
    pub fn new(
        field: Field,
        mut filed: Vec<(String, u32)>,
        lists: &mut ListBuilder,
    ) -> Option<Self> {
        filed.sort();
        filed.dedup();
        let (mut patterns, mut ids) = (Vec::new(), Vec::new());
        for same in filed.chunk_by(|a, b| a.0 == b.0) {
            let entries: Vec<u32> = same.iter().map(|(_, entry)| *entry).collect();
            ids.push(lists.list(&entries));
            patterns.push(same[0].0.as_str());
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns)
            .ok()?;
        Some(Self { field, automaton, lists: ids })
    }

    /// Calls `f` with each list under the flow's text; a list may come more than once.
    pub fn look_up(&self, record: &Record<'_>, mut f: impl FnMut(ListId)) {
        let Some(text) = record.text(self.field) else { return };
        if text.is_ascii() {
            let found = self.automaton.find_overlapping_iter(text);
            found.for_each(|hit| f(self.lists[hit.pattern().as_usize()]));
        } else {
            // Other letters may equal ASCII ones without regard to case: the Kelvin sign is a k.
            self.lists.iter().copied().for_each(f);
        }
    }
}
