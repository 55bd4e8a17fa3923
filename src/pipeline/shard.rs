//! One shard: a flow table, and detection on what it tells.

use crate::detect::sigma::{Phase, Record, RuleIndex};
use crate::detect::{Alert, TaggedSlice};
use crate::flow::{Cut, FlowSink, LiveFlow};
use crate::metrics::Counts;
use crate::net::fold_u64;
use crate::output::Batch;

use super::rules::RuleBook;

/// Detection over the flows of the shards of one worker: runs rules when their truth is final,
/// raises alerts at once and puts tags on slices.
#[derive(Debug)]
pub struct Tagger<'a> {
    /// The rules in force.
    pub book: &'a RuleBook,
    /// Where slices and alerts go.
    pub batch: &'a mut Batch,
    /// Whether there is anybody to take slices; else none is made.
    pub ships: bool,
    /// Alerts by level.
    pub alerts: &'a mut Counts,
    /// Scratch, empty between calls.
    pub hits: &'a mut Vec<RuleIndex>,
}

impl Tagger<'_> {
    /// A flow that lived through a reload meets the new set at its next call: every rule of it.
    fn phase(&self, flow: &LiveFlow<'_>, phase: Phase) -> Phase {
        let stale = flow.memory.generation != self.book.generation;
        if stale && phase == Phase::Woke { Phase::Opened } else { phase }
    }

    fn detect(&mut self, flow: &mut LiveFlow<'_>, phase: Phase) {
        let set = &self.book.set;
        if set.rules().is_empty() {
            return;
        }
        let phase = self.phase(flow, phase);
        set.scan(phase, flow.view(), &flow.memory.fired, self.hits);
        for &rule in self.hits.iter() {
            let meta = &set.rule(rule).meta;
            if !flow.memory.fired.push(meta.uid) {
                continue;
            }
            self.alerts.one(meta.level.as_str());
            self.batch.alerts.push(Alert {
                id: alert_id(&meta.id, flow.id().0),
                time: flow.now,
                rule: std::sync::Arc::clone(meta),
                evidence: set.explain(rule, &Record::of(flow.view())),
                flow_id: flow.id(),
                flow: flow.view().clone(),
            });
        }
        self.hits.clear();
        flow.memory.generation = self.book.generation;
        if phase != Phase::End {
            flow.memory.wake = set.wake(flow.view(), &flow.memory.fired);
        }
    }
}

impl FlowSink for Tagger<'_> {
    fn watches(&self) -> bool {
        !self.book.set.rules().is_empty()
    }

    fn opened(&mut self, flow: &mut LiveFlow<'_>) {
        self.detect(flow, Phase::Opened);
    }

    fn woke(&mut self, flow: &mut LiveFlow<'_>) {
        self.detect(flow, Phase::Woke);
    }

    /// What was final is not any more: everything is looked at again. A rule that fired on the
    /// former orientation stays fired.
    fn turned(&mut self, flow: &mut LiveFlow<'_>) {
        self.detect(flow, Phase::Opened);
    }

    /// An empty slice would tell nothing but that silence went on; new tags are worth one.
    fn ended(&mut self, flow: &mut LiveFlow<'_>) -> bool {
        let fired = flow.memory.fired.len();
        self.detect(flow, Phase::End);
        flow.memory.fired.len() > fired
    }

    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        if cut.last {
            self.detect(flow, Phase::End);
        }
        if !self.ships {
            return;
        }
        let slice = flow.slice(cut);
        let rules = self.book.metas(&slice.fired).collect();
        self.batch.slices.push(TaggedSlice { slice, rules });
    }
}

/// Hash of (rule id, flow id): reproducible, so that a retry gives the same id.
fn alert_id(rule: &str, flow: u128) -> u128 {
    let (mut high, mut low) = ((flow >> 64) as u64, flow as u64);
    for chunk in rule.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56);
        high = fold_u64(high ^ word ^ 0xa076_1d64_78bd_642f, low ^ 0xe703_7ed1_a0b4_28db);
        low = fold_u64(low ^ word ^ 0x8ebc_6af0_9c88_c6e3, high ^ 0x5899_65cc_7537_4cc3);
    }
    (u128::from(high) << 64) | u128::from(low)
}
