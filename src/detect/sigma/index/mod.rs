//! The index over rules: a flow is looked up by its values, and meets only rules that it may
//! satisfy.
//!
//! Each rule is filed under its most selective predicate (`plan`), by the traffic where a sample
//! is known ([`Traffic`]): addresses in one table of disjoint segments, other fields in tables of
//! their own (`table`, `sweep`), text by the literals in it (`text`). What is filed carries two
//! ranges of other values, so that most of what is found is dropped without looking further
//! (`lists`). Rules without a selective predicate stand as bits in vectors (`dense`). What is left
//! is verified on the whole rule.

mod dense;
mod lists;
mod paged;
mod plan;
mod prefetch;
mod probe;
mod sweep;
mod table;
mod text;
mod traffic;
mod wakes;

use std::collections::BTreeMap;

use dense::{DenseBranch, Group, Order};
use lists::{Classes, Entry, ListBuilder, Lists, RULES_MAX};
use plan::{Branch, Counted};
use probe::Probe;
use sweep::Filed;
use table::{Endpoints, FieldTable};
use text::TextTable;
use traffic::Estimate;

use super::expr::Expr;
use super::fields::{Field, Record};
use super::predicate::{Class, Predicate, Test};
use super::ruleset::Phase;
use crate::flow::Biflow;

pub use traffic::Traffic;
pub(super) use wakes::WakeIndex;

/// How many flows of a batch are looked up side by side, so that their cache misses overlap.
const BATCH: usize = 16;

/// A rule to be filed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filing<'a> {
    /// Its place in the set.
    pub rule: u32,
    /// When its truth is final.
    pub class: Class,
    /// Its condition.
    pub expr: &'a Expr,
}

/// The index over the rules of a set.
#[derive(Debug, Default)]
pub(super) struct Index {
    endpoints: Endpoints,
    fields: Vec<FieldTable>,
    texts: Vec<TextTable>,
    /// Of `fields` and `texts`.
    lists: Lists,
    dense: Vec<Group>,
    /// Under what each rule is filed.
    filed: Vec<Place>,
}

/// Under what a rule is filed; of several ways in which it can hold, the one that costs most.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Place {
    /// It can never hold.
    #[default]
    Nowhere,
    /// Values of a field.
    Value(Field),
    /// A threshold of a field, among the bit vectors.
    Threshold(Field),
    /// Among the bit vectors, where values of a field tell it from others.
    Vector(Field),
    /// Among the bit vectors, and no value of a field tells it from others: it is looked at for every
    /// flow.
    EveryFlow,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nowhere => write!(f, "nothing"),
            Self::Value(field) => write!(f, "values of {field:?}"),
            Self::Threshold(field) => write!(f, "threshold of {field:?}"),
            Self::Vector(field) => write!(f, "bit vector by {field:?}"),
            Self::EveryFlow => write!(f, "every flow"),
        }
    }
}

impl Index {
    /// Files the rules.
    ///
    /// # Panics
    /// With more than 2^30 rules.
    pub fn new(filings: &[Filing<'_>], traffic: Option<&Traffic>) -> Self {
        let estimate = Estimate(traffic);
        let mut builder = Builder { estimate, ..Builder::default() };
        for filing in filings {
            builder.add(*filing, plan::branches(filing.expr, Counted::All, estimate));
        }
        let (mut index, dense) = builder.finish();
        index.filed.resize(filings.len(), Place::Nowhere);
        let mut groups: BTreeMap<_, Vec<DenseBranch<'_>>> = BTreeMap::new();
        for (filing, branch) in dense {
            let (order, threshold) = best_order(&branch, estimate);
            let (rule, class) = (filing.rule, filing.class);
            index.note(
                rule,
                match order {
                    Order::None => told_apart(&branch, estimate),
                    Order::AtLeast(field) | Order::AtMost(field) => Place::Threshold(field),
                },
            );
            groups.entry(rank(order)).or_default().push(DenseBranch {
                rule,
                class,
                threshold,
                all: branch.all,
            });
        }
        index.dense = groups.into_iter().map(|(rank, of)| Group::new(order(rank), of)).collect();
        index
    }

    /// Whether flows can be told apart by any predicate of the condition: looked up by its values,
    /// or sorted by its threshold.
    pub fn can_select(expr: &Expr) -> bool {
        let mut selects = false;
        expr.leaves(&mut |leaf| {
            selects |= plan::postable(leaf) || dense::threshold(leaf).is_some();
        });
        selects
    }

    fn note(&mut self, rule: u32, filed: Place) {
        let rule = rule as usize;
        if self.filed.len() <= rule {
            self.filed.resize(rule + 1, Place::Nowhere);
        }
        self.filed[rule] = self.filed[rule].max(filed);
    }

    /// Under what a rule is filed.
    pub fn filed(&self, rule: u32) -> Place {
        self.filed.get(rule as usize).copied().unwrap_or_default()
    }

    /// Calls `f` with each rule that the flow may satisfy; a rule may come more than once.
    #[inline]
    fn candidates(&self, probe: &Probe<'_, '_>, classes: Classes, mut f: impl FnMut(u32)) {
        let mut look = |entries: &[Entry]| {
            for entry in entries {
                if let Some(rule) = entry.candidate(probe, classes) {
                    f(rule);
                }
            }
        };
        let of_ends = &self.endpoints.lists;
        self.endpoints.look_up(probe.src(), |list| look(of_ends.first(list)));
        self.endpoints.look_up(probe.dst(), |list| look(of_ends.second(list)));
        for table in &self.fields {
            if let Some(value) = probe.value(table.reader) {
                table.look_up(value, |list| look(self.lists.first(list)));
            }
        }
        for table in &self.texts {
            table.look_up(probe.record, |list| look(self.lists.first(list)));
        }
        for group in &self.dense {
            group.candidates(probe, classes, &mut f);
        }
    }

    /// Calls `f` with each rule of the phase's classes that the flow may satisfy; a rule may come
    /// more than once. No allocation.
    #[inline]
    pub fn scan(&self, phase: Phase, record: &Record<'_>, f: impl FnMut(u32)) {
        self.candidates(&Probe::of(record), classes(phase), f);
    }

    /// As [`Index::scan`] for many flows, with their cache misses side by side. `f` gets the
    /// flow's place in `flows`, too.
    pub fn scan_batch<'a>(
        &self,
        phase: Phase,
        flows: &'a [Biflow],
        mut f: impl FnMut(usize, &Record<'a>, u32),
    ) {
        let classes = classes(phase);
        for (number, batch) in flows.chunks(BATCH).enumerate() {
            for flow in batch {
                self.endpoints.fetch_bucket(flow.src.0);
                self.endpoints.fetch_bucket(flow.dst.0);
            }
            for flow in batch {
                self.endpoints.fetch_segments(flow.src.0);
                self.endpoints.fetch_segments(flow.dst.0);
            }
            for (at, flow) in (number * BATCH..).zip(batch) {
                let record = Record::of(flow);
                self.candidates(&Probe::of(&record), classes, |rule| f(at, &record, rule));
            }
        }
    }
}

const fn classes(phase: Phase) -> Classes {
    match phase {
        Phase::Opened => Classes::EARLY,
        Phase::Woke => Classes::MONOTONE,
        Phase::End => Classes::ALL,
    }
}

/// The most selective of the branch's thresholds.
fn best_order(branch: &Branch<'_>, estimate: Estimate<'_>) -> (Order, u128) {
    let thresholds = branch.all.iter().filter_map(|leaf| {
        let (order, threshold) = dense::threshold(leaf)?;
        Some((estimate.share(leaf), order, threshold))
    });
    let best = thresholds.min_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((share, order, threshold)) if share < 0.9 => (order, threshold),
        _ => (Order::None, 0),
    }
}

/// The place of a branch without a threshold, by the most selective of its sets.
fn told_apart(branch: &Branch<'_>, estimate: Estimate<'_>) -> Place {
    let sets = branch.all.iter().filter(|leaf| matches!(leaf.test, Test::In { .. }));
    let best = sets.min_by(|a, b| estimate.share(a).total_cmp(&estimate.share(b)));
    best.map_or(Place::EveryFlow, |leaf| Place::Vector(leaf.field))
}

/// An order as something that sorts.
fn rank(order: Order) -> (u8, Option<Field>) {
    match order {
        Order::None => (0, None),
        Order::AtLeast(field) => (1, Some(field)),
        Order::AtMost(field) => (2, Some(field)),
    }
}

fn order(rank: (u8, Option<Field>)) -> Order {
    match rank {
        (1, Some(field)) => Order::AtLeast(field),
        (2, Some(field)) => Order::AtMost(field),
        _ => Order::None,
    }
}

/// A branch that is filed nowhere else goes among the bit vectors.
type Rest<'a> = Vec<(Filing<'a>, Branch<'a>)>;

/// What is filed under one field, in the making.
#[derive(Default)]
struct Shelf<'a> {
    entries: Vec<Entry>,
    branches: Vec<(Filing<'a>, Branch<'a>)>,
    intervals: Vec<Filed<u128>>,
    texts: text::Filed,
}

impl<'a> Shelf<'a> {
    fn add(&mut self, filing: Filing<'a>, branch: Branch<'a>, entry: Entry) {
        let access = branch.access.expect("the caller has seen it");
        let number = u32::try_from(self.entries.len()).expect("fewer than 2^32 branches");
        if let Test::In { set, .. } = &access.test {
            self.intervals.extend(set.intervals().iter().map(|&(a, b)| (a, b, number)));
        } else if let Some(keys) = text::keys(access) {
            self.texts.add(keys, number);
        }
        self.entries.push(entry);
        self.branches.push((filing, branch));
    }
}

#[derive(Default)]
struct Builder<'a, 'e> {
    estimate: Estimate<'e>,
    shelves: BTreeMap<Field, Shelf<'a>>,
    rest: Rest<'a>,
    filed: Vec<(u32, Field)>,
}

impl<'a> Builder<'a, '_> {
    fn add(&mut self, filing: Filing<'a>, branches: Vec<Branch<'a>>) {
        assert!(filing.rule < RULES_MAX, "more than 2^30 rules");
        for branch in branches {
            let Some(Predicate { field, .. }) = branch.access else {
                self.rest.push((filing, branch));
                continue;
            };
            let guards = plan::guards(&branch, self.estimate);
            let entry = Entry::new(filing.rule, filing.class, guards);
            self.filed.push((filing.rule, *field));
            self.shelves.entry(*field).or_default().add(filing, branch, entry);
        }
    }

    /// The index but for its bit vectors, and what is to be in these.
    fn finish(mut self) -> (Index, Rest<'a>) {
        let mut index = Index::default();
        for (rule, field) in std::mem::take(&mut self.filed) {
            index.note(rule, Place::Value(field));
        }
        let src = self.shelves.remove(&Field::Src).unwrap_or_default();
        let dst = self.shelves.remove(&Field::Dst).unwrap_or_default();
        index.endpoints = self.endpoints(src, dst);
        for (field, shelf) in std::mem::take(&mut self.shelves) {
            let lists = std::mem::take(&mut index.lists);
            let count = shelf.entries.len();
            let mut lists = ListBuilder::new(lists, shelf.entries, count);
            let (table, mut refused) = FieldTable::new(field, shelf.intervals, &mut lists);
            index.fields.push(table);
            let (texts, more) = TextTable::new(field, shelf.texts, &mut lists);
            index.texts.extend(texts);
            index.lists = lists.finish();
            refused.extend(more);
            self.rest.extend(refused.into_iter().map(|i| shelf.branches[i as usize].clone()));
        }
        index.fields.retain(|table| !table.is_empty());
        (index, self.rest)
    }

    fn endpoints(&mut self, src: Shelf<'a>, dst: Shelf<'a>) -> Endpoints {
        let seconds = src.entries.len();
        let base = u32::try_from(seconds).expect("fewer than 2^32 branches");
        let entries = [src.entries, dst.entries].concat();
        let branches = [src.branches, dst.branches].concat();
        let mut intervals = src.intervals;
        intervals.extend(dst.intervals.into_iter().map(|(a, b, entry)| (a, b, entry + base)));
        let lists = ListBuilder::new(Lists::default(), entries, seconds);
        let (endpoints, refused) = Endpoints::new(&intervals, lists);
        self.rest.extend(refused.into_iter().map(|i| branches[i as usize].clone()));
        endpoints
    }
}
