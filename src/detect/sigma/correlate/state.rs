//! What the state of a group is asked, whatever it measures.

use std::fmt;

use super::plan::Plan;
use crate::flow::FlowId;
use crate::time::Micros;

/// Values, times and parts that a group keeps one by one; what does not fit is estimated, with an
/// error that its alerts state.
pub(super) const EXACT_MAX: usize = 2_048;

/// What a match brings to its group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Item {
    /// Which of the correlation's bases matched.
    pub base: u32,
    /// The value to count, sum or sort; 0 where there is none.
    pub value: u128,
    /// The flow that matched.
    pub flow: FlowId,
}

/// What a group measured when its condition became true.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measure {
    /// A number of matches or of different values.
    Count { number: u128, error: Error },
    /// A sum of `count` values.
    Sum { sum: u128, count: u64, error: Error },
    /// The value at the percentile, of `count` values; unknown if estimated.
    Percentile { value: Option<u128>, count: u64, error: Error },
    /// The rules that were seen, and when last.
    Seen(Vec<Option<Micros>>),
}

/// How far a number may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Error {
    /// Not at all.
    #[default]
    None,
    /// Up to so much too high: matches before the window's start that cannot be told apart.
    Over(u128),
    /// Standard error of an estimate from a sample.
    Standard(u128),
}

/// The state of a group. An empty one has a false condition: a group without matches is none.
pub(super) trait State: Default + fmt::Debug + Send {
    /// Drops what is at or before `edge`, in steps. Returns whether the condition was false after
    /// any of them.
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool;
    /// Takes in a match at `time`, never before the last. Returns whether its flow should be
    /// remembered for an alert.
    fn add(&mut self, time: Micros, item: &Item, plan: &Plan) -> bool;
    /// Whether the condition is true.
    fn holds(&self, plan: &Plan) -> bool;
    /// Whether nothing is in the window.
    fn is_empty(&self) -> bool;
    /// Drops everything.
    fn clear(&mut self);
    /// When the first match that counts came.
    fn first(&self) -> Option<Micros>;
    /// What is measured.
    fn measure(&self, plan: &Plan) -> Measure;
    /// Octets on the heap.
    fn heap(&self) -> usize;
}

/// From how many on matches are remembered: an alert names the last eight, and where more never
/// hurts, the number before the last was only one lower at most.
pub(super) fn remembered_from(plan: &Plan) -> u128 {
    let back = super::groups::FLOWS_MAX as u128 - 1;
    if plan.range.only_grows() { plan.range.enough().saturating_sub(back) } else { 0 }
}
