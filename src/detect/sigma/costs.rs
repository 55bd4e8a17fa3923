//! What each rule costs: how often it was verified, and how often it matched.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ruleset::{RuleIndex, RuleSet};

/// Counts for each rule of a set. One thread writes them, anyone reads.
#[derive(Debug, Default)]
pub struct Costs(Box<[Cost]>);

#[derive(Debug, Default)]
struct Cost {
    verified: AtomicU64,
    matched: AtomicU64,
}

impl Costs {
    /// Zeros for the rules of `set`.
    #[must_use]
    pub fn of(set: &RuleSet) -> Self {
        Self(set.rules().iter().map(|_| Cost::default()).collect())
    }

    /// How often the rule was verified on a flow that the index found for it, and how often it
    /// matched; zeros for a rule of another set.
    #[must_use]
    pub fn read(&self, rule: RuleIndex) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.0
            .get(rule.0 as usize)
            .map_or((0, 0), |cost| (read(&cost.verified), read(&cost.matched)))
    }

    /// Counts a look at a rule. Only the thread that writes may call it.
    #[inline]
    pub(super) fn verified(&self, rule: u32) {
        if let Some(cost) = self.0.get(rule as usize) {
            count(&cost.verified);
        }
    }

    /// Counts a match. Only the thread that writes may call it.
    #[inline]
    pub(super) fn matched(&self, rule: u32) {
        if let Some(cost) = self.0.get(rule as usize) {
            count(&cost.matched);
        }
    }
}

/// One writer: no read-modify-write is needed.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
