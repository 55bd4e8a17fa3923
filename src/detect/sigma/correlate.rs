//! Correlations: groups of matches over time, in the order of input time.
//!
//! A worker that sees a base rule fire sends a [`Match`]. Whoever owns the [`Correlator`] puts the
//! matches of all workers into one order, (time, flow id, rule), and calls it with each; so what
//! comes out does not depend on the number of workers.

use std::sync::Arc;

use super::ruleset::RuleSet;
use crate::detect::Alert;
use crate::flow::{Biflow, FlowId};
use crate::time::Micros;

/// A flow that a base rule of some correlation fired on, or a flow's end after it fired.
#[derive(Clone, Debug)]
pub struct Match {
    /// The input clock when everything that is told here was final.
    pub time: Micros,
    /// Interned id of the base rule.
    pub rule: u32,
    /// Whether correlations that use fields which are final only at the flow's end are meant;
    /// else those that use only what is final when the rule fires.
    pub at_end: bool,
    /// The flow's identity.
    pub flow_id: FlowId,
    /// The flow so far, counters cumulated.
    pub flow: Arc<Biflow>,
}

/// When a rule's matches have to be sent to the correlations that it is a base of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taps {
    /// At once, when the rule fires.
    pub on_fire: bool,
    /// When the flow on which it fired ends.
    pub at_end: bool,
}

/// The groups of all correlations of a rule set.
#[derive(Debug, Default)]
pub struct Correlator {}

impl Correlator {
    /// Takes over the correlations of `set`. Those that are the same as before keep their groups.
    pub fn adopt(&mut self, _set: &RuleSet) {}

    /// Takes in a match; alerts that it completes are appended to `alerts`. Calls come in the order
    /// of (time, flow id, rule).
    pub fn on_match(&mut self, _found: &Match, _alerts: &mut Vec<Alert>) {}
}
