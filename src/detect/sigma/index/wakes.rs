//! Which thresholds a flow may cross: only those of rules whose other predicates it satisfies.

use std::collections::BTreeMap;

use super::dense::{DenseBranch, Group, Order};
use super::plan::{self, Counted};
use super::probe::Probe;
use super::traffic::{Estimate, Traffic};
use super::{Builder, Filing, Index, order, rank};
use crate::detect::sigma::fields::{Field, Record};
use crate::detect::sigma::predicate::{Class, Predicate, Test};
use crate::detect::sigma::ruleset::Phase;

/// The index over the rules that a growing counter can make true.
#[derive(Debug, Default)]
pub(in crate::detect::sigma) struct WakeIndex {
    /// Rules with a selective predicate on what does not grow.
    settled: Index,
    /// The others: each threshold is a branch of its own, in the order of the thresholds.
    waiting: Vec<Group>,
}

impl WakeIndex {
    /// Files those of the rules that are monotone.
    pub fn new(filings: &[Filing<'_>], traffic: Option<&Traffic>) -> Self {
        let estimate = Estimate(traffic);
        let mut builder = Builder { estimate, ..Builder::default() };
        for filing in filings.iter().filter(|filing| filing.class == Class::Monotone) {
            builder.add(*filing, plan::branches(filing.expr, Counted::Settled, estimate));
        }
        let (settled, rest) = builder.finish();
        let mut groups: BTreeMap<_, Vec<DenseBranch<'_>>> = BTreeMap::new();
        for (filing, branch) in rest {
            filing.expr.leaves(&mut |leaf| {
                if let Some((order, threshold)) = growing(leaf) {
                    groups.entry(rank(order)).or_default().push(DenseBranch {
                        rule: filing.rule,
                        class: filing.class,
                        threshold,
                        all: branch.all.clone(),
                    });
                }
            });
        }
        let groups = groups.into_iter().map(|(rank, of)| Group::new(order(rank), of));
        Self { settled, waiting: groups.collect() }
    }

    /// Calls `rule` with the rules that may wait for a threshold, but for those without a selective
    /// predicate: of these, `threshold` gets for each field the next threshold of a rule that is
    /// `wanted`, and `None` for the flags. `wanted` gets whether it is asked for the flags, too.
    pub fn look_up(
        &self,
        record: &Record<'_>,
        rule: impl FnMut(u32),
        mut wanted: impl FnMut(u32, bool) -> bool,
        mut threshold: impl FnMut(Option<(Field, u128)>),
    ) {
        self.settled.scan(Phase::Woke, record, rule);
        let probe = &Probe::of(record);
        for group in &self.waiting {
            let next = group.next_threshold(probe, |rule| wanted(rule, group.order == Order::None));
            match (group.order, next) {
                (_, None) => {}
                (Order::AtLeast(field), Some(next)) => threshold(Some((field, next))),
                (Order::None | Order::AtMost(_), Some(_)) => threshold(None),
            }
        }
    }
}

/// The order in which a predicate waits, if time can make it true.
fn growing(leaf: &Predicate) -> Option<(Order, u128)> {
    if leaf.class() != Class::Monotone {
        return None;
    }
    let threshold = match &leaf.test {
        Test::In { set, .. } => set.up_from(leaf.field.max()),
        _ => None,
    };
    Some(threshold.map_or((Order::None, 0), |t| (Order::AtLeast(leaf.field), t)))
}
