//! Rule-test events through rules and correlations, as if their flows came one after the other.

use std::sync::Arc;

use super::{Correlator, Limits, Match};
use crate::detect::Alert;
use crate::detect::sigma::Event;
use crate::detect::sigma::fields::Field;
use crate::detect::sigma::ruleset::{RuleIndex, RuleSet};
use crate::flow::FlowId;
use crate::time::Micros;

/// A run of rule-test events over a rule set.
///
/// Each event is a whole flow, and comes when it ends (`event.end`, or start and duration), else
/// when it starts; without a time, at the time of the one before. Time never runs backwards.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    set: &'a RuleSet,
    correlator: Correlator,
    now: Micros,
    events: u64,
}

impl<'a> Rehearsal<'a> {
    /// A run over the rules and correlations of `set`.
    #[must_use]
    pub fn new(set: &'a RuleSet) -> Self {
        let mut correlator = Correlator::new(Limits::default());
        correlator.adopt(set);
        Self { set, correlator, now: Micros(0), events: 0 }
    }

    /// The rules that match `event`, silent ones too, and the alerts of correlations that it
    /// completes.
    pub fn event(&mut self, event: &Event) -> (Vec<RuleIndex>, Vec<Alert>) {
        let record = event.record();
        let time = match (record.has(Field::End), record.has(Field::Start)) {
            (true, _) => event.flow.last,
            (false, true) => event.flow.first,
            (false, false) => self.now,
        };
        self.now = self.now.max(time);
        self.events += 1;
        let hits = self.set.full_scan(&record);
        let mut rules: Vec<_> = hits.iter().map(|&hit| self.set.rule(hit)).collect();
        rules.sort_by_key(|rule| rule.meta.uid);
        let flow = Arc::new(event.flow.clone());
        let mut alerts = Vec::new();
        for rule in rules {
            for (at_end, wanted) in [(false, rule.taps.on_fire), (true, rule.taps.at_end)] {
                let found = Match {
                    time: self.now,
                    rule: rule.meta.uid,
                    at_end,
                    flow_id: FlowId(self.events.into()),
                    flow: Arc::clone(&flow),
                    arrived: None,
                };
                if wanted {
                    self.correlator.on_record(&found, &record, &mut alerts);
                }
            }
        }
        (hits, alerts)
    }
}
