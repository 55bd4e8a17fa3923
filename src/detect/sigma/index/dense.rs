//! Rules without a selective predicate: a bit for each, and a row of bits for each class of values
//! of a field. The rows of a flow's values are combined by `and`, 64 rules a word, so a flow costs
//! a bounded number of words however unselective the rules are (Lakshman and Stiliadis, SIGCOMM
//! 1998). Rules with a threshold stand in its order: those whose threshold a flow has passed are the
//! first ones, and only their words are looked at.

use std::collections::{HashMap, HashSet};

use super::lists::Classes;
use super::paged::Paged;
use super::probe::{Probe, Reader};
use crate::detect::sigma::fields::{Field, Kind};
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::predicate::{Class, Predicate, Test};

/// Rows of a filter, at most: beyond, values are lumped together, and verification decides.
const ROWS_MAX: usize = 1_024;
/// Words of all rows of a filter, at most: 16 MiB.
const FILTER_WORDS_MAX: usize = 2 << 20;
/// Domains up to this size are looked up directly.
const DIRECT_MAX: u128 = 0xffff;
/// Filters of a group, at most: the fields on which its rules ask most.
const FILTERS_MAX: usize = 8;
/// Words that are combined before anyone looks whether a bit is left.
const BLOCK: usize = 4;

/// A branch of a rule, to be filed here.
#[derive(Clone, Debug)]
pub(super) struct DenseBranch<'a> {
    pub rule: u32,
    pub class: Class,
    /// The threshold that it is sorted by: of the group's field.
    pub threshold: u128,
    /// Predicates that hold whenever the rule holds in this way.
    pub all: Vec<&'a Predicate>,
}

/// Which thresholds a group is sorted by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Order {
    /// None: every branch is looked at.
    None,
    /// The branch asks for at least its threshold of this field.
    AtLeast(Field),
    /// At most.
    AtMost(Field),
}

/// The threshold of a one-sided predicate, and the order that it fits.
pub(super) fn threshold(leaf: &Predicate) -> Option<(Order, u128)> {
    let Test::In { set, null: false } = &leaf.test else { return None };
    let max = leaf.field.max();
    match (leaf.field.kind(), set.intervals()) {
        (Kind::Integer { .. } | Kind::Time { .. }, &[(first, last)]) => match (first, last) {
            (0, last) if last >= max => None,
            (0, last) => Some((Order::AtMost(leaf.field), last)),
            (first, last) if last >= max => Some((Order::AtLeast(leaf.field), first)),
            _ => None,
        },
        _ => None,
    }
}

/// Branches that are sorted by thresholds of one field, or by none.
#[derive(Debug)]
pub(super) struct Group {
    pub order: Order,
    reader: Option<Reader>,
    /// Of each branch; ascending for at least, descending for at most.
    thresholds: Vec<u128>,
    rules: Vec<u32>,
    early: Vec<u64>,
    monotone: Vec<u64>,
    filters: Vec<Filter>,
}

impl Group {
    pub fn new(order: Order, mut branches: Vec<DenseBranch<'_>>) -> Self {
        let reader = match order {
            Order::None => None,
            Order::AtLeast(field) | Order::AtMost(field) => Some(Reader::of(field)),
        };
        match order {
            Order::AtMost(_) => branches.sort_by_key(|b| std::cmp::Reverse(b.threshold)),
            _ => branches.sort_by_key(|b| b.threshold),
        }
        let words = words_of(branches.len());
        let (mut early, mut monotone) = (vec![0; words], vec![0; words]);
        for (i, branch) in branches.iter().enumerate() {
            if Classes::EARLY.has(branch.class) {
                set_bit(&mut early, i);
            }
            if Classes::MONOTONE.has(branch.class) {
                set_bit(&mut monotone, i);
            }
        }
        let thresholds = match order {
            Order::None => Vec::new(),
            _ => branches.iter().map(|b| b.threshold).collect(),
        };
        let rules = branches.iter().map(|b| b.rule).collect();
        let filters = filters(order, &branches);
        Self { order, reader, thresholds, rules, early, monotone, filters }
    }

    /// Calls `f` with the rule of each branch that the rows leave; more than one branch may be of
    /// one rule.
    #[inline]
    pub fn candidates(&self, probe: &Probe<'_, '_>, classes: Classes, mut f: impl FnMut(u32)) {
        let passed = self.passed(probe);
        if passed == 0 {
            return;
        }
        self.left(probe, classes, 0..passed, |i| {
            f(self.rules[i]);
            false
        });
    }

    /// The lowest threshold that the flow has not reached of a branch that the rows leave and
    /// whose rule is `wanted`. Of a group sorted by [`Order::AtLeast`], or by none: then 0.
    pub fn next_threshold(
        &self,
        probe: &Probe<'_, '_>,
        mut wanted: impl FnMut(u32) -> bool,
    ) -> Option<u128> {
        let from = if self.order == Order::None { 0 } else { self.passed(probe) };
        let mut found = None;
        self.left(probe, Classes::MONOTONE, from..self.rules.len(), |i| {
            let is_wanted = wanted(self.rules[i]);
            if is_wanted {
                found = Some(self.thresholds.get(i).copied().unwrap_or(0));
            }
            is_wanted
        });
        found
    }

    /// How many branches, from the first, have a threshold that the flow satisfies.
    fn passed(&self, probe: &Probe<'_, '_>) -> usize {
        let Some(reader) = self.reader else { return self.rules.len() };
        let Some(value) = probe.value(reader) else { return 0 };
        match self.order {
            Order::AtMost(_) => self.thresholds.partition_point(|&t| t >= value),
            _ if self.thresholds.first().is_some_and(|&t| t > value) => 0,
            _ => self.thresholds.partition_point(|&t| t <= value),
        }
    }

    /// Calls `f` with the branches of `range` that are of one of the classes and that all rows
    /// leave, until it says to stop.
    fn left(
        &self,
        probe: &Probe<'_, '_>,
        classes: Classes,
        range: std::ops::Range<usize>,
        mut f: impl FnMut(usize) -> bool,
    ) {
        let (first, end) = (range.start / 64, words_of(range.end));
        let mut rows: [&[u64]; FILTERS_MAX + 1] = [&[]; FILTERS_MAX + 1];
        let mut count = 0;
        let by_class = match (classes.has(Class::Final), classes.has(Class::Immutable)) {
            (true, _) => None,
            (false, true) => Some(&self.early),
            (false, false) => Some(&self.monotone),
        };
        if let Some(row) = by_class {
            rows[count] = row;
            count += 1;
        }
        for filter in &self.filters {
            rows[count] = filter.row(probe);
            count += 1;
        }
        let mut word = first;
        while word < end {
            let size = BLOCK.min(end - word);
            let mut block = [u64::MAX; BLOCK];
            for row in &rows[..count] {
                for (left, bits) in block.iter_mut().zip(&row[word..word + size]) {
                    *left &= bits;
                }
            }
            for (i, &left) in block[..size].iter().enumerate() {
                let mut left = left;
                while left != 0 {
                    let at = (word + i) * 64 + left.trailing_zeros() as usize;
                    left &= left - 1;
                    if range.contains(&at) && f(at) {
                        return;
                    }
                }
            }
            word += size;
        }
    }
}

/// The rows of one field.
#[derive(Debug)]
struct Filter {
    reader: Reader,
    table: RowTable,
    /// The row of flows that lack the field.
    null: u16,
    words: usize,
    rows: Vec<u64>,
}

/// From a value to its row.
#[derive(Debug)]
enum RowTable {
    /// A row for each value.
    Direct(Paged<u16>),
    /// Where segments begin, ascending, the first at 0.
    Sorted(Vec<(u128, u16)>),
}

impl Filter {
    fn row(&self, probe: &Probe<'_, '_>) -> &[u64] {
        let row = match probe.value(self.reader) {
            None => self.null,
            Some(value) => match &self.table {
                RowTable::Direct(rows) => rows.get(value).unwrap_or(self.null),
                RowTable::Sorted(segments) => {
                    segments[segments.partition_point(|&(begin, _)| begin <= value) - 1].1
                }
            },
        };
        let begin = usize::from(row) * self.words;
        &self.rows[begin..begin + self.words]
    }
}

const fn words_of(bits: usize) -> usize {
    bits.div_ceil(64)
}

fn set_bit(words: &mut [u64], at: usize) {
    words[at / 64] |= 1 << (at % 64);
}

fn clear_bit(words: &mut [u64], at: usize) {
    words[at / 64] &= !(1 << (at % 64));
}

/// What one branch asks of a field: the branch's place, the values, the answer without a value.
type Asked<'a> = (usize, &'a IntervalSet, bool);

fn filters(order: Order, branches: &[DenseBranch<'_>]) -> Vec<Filter> {
    let mut asked: HashMap<Field, Vec<Asked<'_>>> = HashMap::new();
    for (i, branch) in branches.iter().enumerate() {
        for leaf in &branch.all {
            // The order has it already.
            let sorted_by = threshold(leaf) == Some((order, branch.threshold));
            if let Test::In { set, null } = &leaf.test
                && leaf.field.kind() != Kind::Text
                && !sorted_by
            {
                asked.entry(leaf.field).or_default().push((i, set, *null));
            }
        }
    }
    let mut asked: Vec<(Field, Vec<Asked<'_>>)> = asked.into_iter().collect();
    asked.sort_by_key(|(field, asked)| (std::cmp::Reverse(asked.len()), *field));
    asked.truncate(FILTERS_MAX);
    asked.into_iter().map(|(field, asked)| filter(field, &asked, branches.len())).collect()
}

fn filter(field: Field, asked: &[Asked<'_>], branches: usize) -> Filter {
    let words = words_of(branches);
    let bounds = bounds(field.max(), asked, words);
    // Every bit of every row is set, but for those branches that ask for other values.
    let mut rows = vec![vec![u64::MAX; words]; bounds.len() + 1];
    let null = bounds.len();
    for &(branch, set, holds_of_null) in asked {
        let mut from = 0;
        let mut clear = |to: usize, from: usize| {
            rows[from.min(to)..to].iter_mut().for_each(|row| clear_bit(row, branch));
        };
        for &(first, last) in set.intervals() {
            // The segments that the interval touches.
            let begin = bounds.partition_point(|&b| b <= first) - 1;
            let end = bounds.partition_point(|&b| b <= last);
            clear(begin, from);
            from = end;
        }
        clear(bounds.len(), from);
        if !holds_of_null {
            clear_bit(&mut rows[null], branch);
        }
    }
    let mut kept: Vec<u64> = Vec::new();
    let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
    let mut numbers = Vec::with_capacity(rows.len());
    for row in rows {
        let next = u16::try_from(known.len()).expect("at most ROWS_MAX rows");
        let number = *known.entry(row).or_insert_with_key(|row| {
            kept.extend_from_slice(row);
            next
        });
        numbers.push(number);
    }
    let mut segments: Vec<(u128, u16)> = bounds.into_iter().zip(numbers.iter().copied()).collect();
    segments.dedup_by_key(|(_, row)| *row);
    let table = if field.max() <= DIRECT_MAX {
        let at = |v: u128| segments[segments.partition_point(|&(begin, _)| begin <= v) - 1].1;
        RowTable::Direct(Paged::new((0..=field.max()).map(at).collect()))
    } else {
        RowTable::Sorted(segments)
    };
    Filter { reader: Reader::of(field), table, null: numbers[null], words, rows: kept }
}

/// Where rows begin: wherever a set begins or ends, thinned out if these are too many.
fn bounds(max: u128, asked: &[Asked<'_>], words: usize) -> Vec<u128> {
    let mut bounds = vec![0];
    // One filter gives all of its rules one set.
    let mut known = HashSet::new();
    let sets = asked.iter().map(|(_, set, _)| set.intervals());
    for set in sets.filter(|set| known.insert(set.as_ptr())) {
        for &(first, last) in set {
            bounds.push(first);
            bounds.extend(last.checked_add(1).filter(|&next| next <= max));
        }
    }
    bounds.sort_unstable();
    bounds.dedup();
    let rows_max = (FILTER_WORDS_MAX / words.max(1)).clamp(2, ROWS_MAX) - 1;
    if bounds.len() > rows_max {
        let step = bounds.len().div_ceil(rows_max);
        bounds = bounds.into_iter().step_by(step).collect();
    }
    bounds
}
