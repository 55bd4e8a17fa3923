//! Exclusions at work: which flows rules do not look at.

use super::shard::{Tagger, Told};
use crate::detect::sigma::Phase;
use crate::flow::Wake;

impl Tagger<'_> {
    /// Whether an exclusion keeps the flow from rules. Asked of the rule set when the flow is
    /// opened or turned round and when it meets another set; remembered in between.
    pub(super) fn is_excluded(&mut self, flow: &mut impl Told, phase: Phase) -> bool {
        let (book, before) = (self.book, flow.memory().excluded);
        if phase != Phase::Opened && flow.generation() == book.generation {
            return before.is_some();
        }
        let found = book.set.excluded(flow.view()).map(|meta| meta.uid);
        flow.memory().excluded = found;
        let Some(uid) = found else { return false };
        if before != found {
            let index = usize::from(uid);
            if self.excluded.len() <= index {
                self.excluded.resize(index + 1, 0);
            }
            self.excluded[index] += 1;
        }
        flow.memory().generation = book.generation;
        flow.memory().wake = Wake::default();
        true
    }
}
