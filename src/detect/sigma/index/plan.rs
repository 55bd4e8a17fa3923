//! Under which predicate a rule is filed.
//!
//! A rule is covered by branches: whenever it holds, the access predicate of at least one of them
//! does, with all the predicates that stand on the way to it. Of the many covers the one with the
//! least expected work per flow is taken (access predicates: Fabret et al., SIGMOD 2001).

use super::probe::Slot;
use super::text;
use super::traffic::Estimate;
use crate::detect::sigma::expr::Expr;
use crate::detect::sigma::fields::Kind;
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::predicate::{Class, Predicate, Test};
use crate::net::Addr;

/// What a candidate costs, in nanoseconds, roughly: to look at its guards, to verify it.
const LOOK_NS: f64 = 2.0;
const VERIFY_NS: f64 = 40.0;
/// What a rule among the bit vectors costs every flow.
const DENSE_NS: f64 = 0.15;
/// And if it asks every flow for a set of many intervals: for each doubling of the set beyond
/// [`SET_CACHED`] intervals one more look that the caches miss.
const SEARCH_NS: f64 = 10.0;
const SET_CACHED: f64 = 64.0;
/// What an interval of an access predicate costs: memory, and the caches.
const INTERVAL_NS: f64 = 1e-5;
/// Predicates that a branch keeps: of the way to it the most selective ones, but at least one of
/// each step. A rule whose thousands of alternatives share thousands of demands is no more than these.
const PATH_MAX: usize = 16;

/// One way in which a rule can come to hold.
#[derive(Clone, Debug)]
pub(super) struct Branch<'a> {
    /// The predicate that it is filed under; none: it is filed among the bit vectors.
    pub access: Option<&'a Predicate>,
    /// Predicates that hold whenever the rule holds in this way; `access` is one of them.
    pub all: Vec<&'a Predicate>,
}

/// Which predicates count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Counted {
    /// All.
    All,
    /// Those that time cannot make true: for wake-ups.
    Settled,
}

impl Counted {
    fn counts(self, leaf: &Predicate) -> bool {
        self == Self::All || leaf.class() != Class::Monotone
    }
}

/// The branches of a rule.
pub(super) fn branches<'a>(
    expr: &'a Expr,
    counted: Counted,
    estimate: Estimate<'_>,
) -> Vec<Branch<'a>> {
    Planner { counted, estimate, path: Vec::new() }.best(expr).branches
}

struct Plan<'a> {
    cost: f64,
    branches: Vec<Branch<'a>>,
}

struct Planner<'a, 'e> {
    counted: Counted,
    estimate: Estimate<'e>,
    /// Predicates that hold wherever the planner stands, each with its share of the traffic.
    path: Vec<(&'a Predicate, f64)>,
}

impl<'a> Planner<'a, '_> {
    fn best(&mut self, expr: &'a Expr) -> Plan<'a> {
        match expr {
            Expr::Const(false) | Expr::Unknown { negated: false, .. } => {
                Plan { cost: 0.0, branches: Vec::new() }
            }
            Expr::Const(true) | Expr::Unknown { negated: true, .. } => self.conjunction(&[]),
            Expr::Leaf(_) => self.conjunction(std::slice::from_ref(expr)),
            Expr::And(parts) => self.conjunction(parts),
            Expr::Or(parts) => {
                let mut sum = Plan { cost: 0.0, branches: Vec::new() };
                for part in parts {
                    let plan = self.best(part);
                    sum.cost += plan.cost;
                    sum.branches.extend(plan.branches);
                }
                sum
            }
        }
    }

    fn conjunction(&mut self, parts: &'a [Expr]) -> Plan<'a> {
        let mark = self.path.len();
        let leaves = parts.iter().filter_map(|part| match part {
            Expr::Leaf(leaf) if self.counted.counts(leaf) => {
                Some((&**leaf, self.estimate.share(leaf)))
            }
            _ => None,
        });
        let mut leaves: Vec<(&Predicate, f64)> = leaves.collect();
        let room = PATH_MAX.saturating_sub(mark).max(1);
        if leaves.len() > room {
            leaves.sort_by(|a, b| a.1.total_cmp(&b.1));
            leaves.truncate(room);
        }
        self.path.extend(leaves);
        let (mut cost, mut access) = (self.dense_cost(), None);
        let guards = self.guard_shares();
        for (at, &(leaf, share)) in self.path.iter().enumerate().skip(mark) {
            if !postable(leaf) {
                continue;
            }
            let pass: f64 =
                guards.iter().filter(|(guard, _)| *guard != at).take(2).map(|(_, s)| s).product();
            let size = intervals(leaf) as f64 * INTERVAL_NS;
            let posted = share * (LOOK_NS + pass * VERIFY_NS) + size;
            if posted < cost {
                (cost, access) = (posted, Some(leaf));
            }
        }
        let all = self.path.iter().map(|(leaf, _)| *leaf).collect();
        let mut best = Plan { cost, branches: vec![Branch { access, all }] };
        for part in parts {
            if matches!(part, Expr::And(_) | Expr::Or(_)) {
                let plan = self.best(part);
                if plan.cost < best.cost {
                    best = plan;
                }
            }
        }
        self.path.truncate(mark);
        best
    }

    /// The work if the branch is filed among the bit vectors.
    fn dense_cost(&self) -> f64 {
        let exact = |leaf: &Predicate| matches!(leaf.test, Test::In { .. });
        let exact = || self.path.iter().filter(|(leaf, _)| exact(leaf));
        let pass: f64 = exact().map(|(_, share)| share).product();
        let search = |leaf: &Predicate| (intervals(leaf) as f64 / SET_CACHED).log2().max(0.0);
        let search: f64 = exact().map(|(leaf, _)| search(leaf) * SEARCH_NS).sum();
        DENSE_NS + search + pass * VERIFY_NS
    }

    /// The path's predicates that can guard, the most selective first.
    fn guard_shares(&self) -> Vec<(usize, f64)> {
        let shares = self.path.iter().enumerate();
        let shares = shares.filter_map(|(at, (leaf, _))| {
            let guard = Guard::of(leaf)?;
            Some((at, guard.share(leaf, self.estimate)))
        });
        let mut shares: Vec<(usize, f64)> = shares.collect();
        shares.sort_by(|a, b| a.1.total_cmp(&b.1));
        shares
    }
}

fn intervals(leaf: &Predicate) -> usize {
    match &leaf.test {
        Test::In { set, .. } => set.intervals().len(),
        _ => 1,
    }
}

/// Whether flows can be looked up by it: a set that is no threshold of a large domain, or a text
/// with a literal part; and false of flows that lack the field.
pub(super) fn postable(leaf: &Predicate) -> bool {
    match &leaf.test {
        Test::In { set, null: false } => {
            let large = leaf.field.max() > 0xffff;
            !(large && (leaf.field.kind() == Kind::Text || is_one_sided(leaf.field.max(), set)))
        }
        _ => text::keys(leaf).is_some(),
    }
}

fn is_one_sided(max: u128, set: &IntervalSet) -> bool {
    match set.intervals() {
        [(first, last), ..] if *first == 0 => *last < max || set.intervals().len() == 1,
        [.., (_, last)] => *last >= max,
        [] => false,
    }
}

/// A range that a slot of the probe must lie in, or the branch does not hold. It may pass flows
/// that the predicate does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Guard {
    pub slot: Slot,
    pub first: u32,
    pub last: u32,
}

impl Guard {
    /// Passes every flow.
    pub const NONE: Self = Self { slot: Slot::NONE, first: 0, last: u32::MAX };

    /// The guard that a predicate gives.
    fn of(leaf: &Predicate) -> Option<Self> {
        let Test::In { set, null: false } = &leaf.test else { return None };
        let slot = Slot::of(leaf.field)?;
        let &[(first, _), ..] = set.intervals() else { return None };
        let &[.., (_, last)] = set.intervals() else { return None };
        if leaf.field.kind() == Kind::Address {
            let (first, last) = (Addr(first).to_v4()?, Addr(last).to_v4()?);
            return Some(Self { slot, first, last });
        }
        let cut = |v: u128| u32::try_from(v).unwrap_or(u32::MAX);
        Some(Self { slot, first: cut(first), last: cut(last) })
    }

    /// The share of flows that it passes.
    fn share(self, leaf: &Predicate, estimate: Estimate<'_>) -> f64 {
        let Test::In { set, .. } = &leaf.test else { return 1.0 };
        match *set.intervals() {
            [(first, _), .., (_, last)] => estimate.share_of_range(leaf.field, (first, last)),
            [range] => estimate.share_of_range(leaf.field, range),
            [] => 0.0,
        }
    }
}

/// The two best guards of a branch beside its access predicate.
pub(super) fn guards(branch: &Branch<'_>, estimate: Estimate<'_>) -> [Guard; 2] {
    let mut found: Vec<(f64, Guard)> = Vec::new();
    for leaf in &branch.all {
        let is_access = branch.access.is_some_and(|access| std::ptr::eq(access, *leaf));
        if let Some(guard) = Guard::of(leaf).filter(|_| !is_access) {
            found.push((guard.share(leaf, estimate), guard));
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut best = found.into_iter().map(|(_, guard)| guard);
    [best.next().unwrap_or(Guard::NONE), best.next().unwrap_or(Guard::NONE)]
}
