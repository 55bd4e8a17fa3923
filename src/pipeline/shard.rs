//! One shard: a flow table, and detection on what it tells.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::Message;
use super::rules::RuleBook;
use super::sampler::Sampler;
use super::sequences::Sequences;
use crate::detect::alert::alert_id;
use crate::detect::sequence::Verdict;
use crate::detect::sigma::correlate::Match;
use crate::detect::sigma::{Class, Costs, Phase, Record, RuleIndex};
use crate::detect::{Alert, RuleMeta, TaggedSlice};
use crate::flow::{
    Biflow, Cut, Fired, FlowId, FlowSink, FoldSink, FoldedFlow, LiveFlow, Memory, Slice,
};
use crate::metrics::{Counts, Overload};
use crate::output::Batch;
use crate::time::Micros;

/// Detection over the flows of the shards of one worker: runs rules when their truth is final,
/// raises alerts at once and puts tags on slices. Matches of the base rules of correlations, and
/// alerts of rules under suppression, become messages to the exchange.
#[derive(Debug)]
pub struct Tagger<'a> {
    /// Time spent on rules, in a load whose cost is measured.
    pub ruled: Option<Duration>,
    /// Time spent on the sequence model, in such a load, whatever is scored within it.
    pub modelled: Option<Duration>,
    /// The rules in force.
    pub book: &'a RuleBook,
    /// Where slices and alerts go.
    pub batch: &'a mut Batch,
    /// Whether there is anybody to take slices; else none is made.
    pub ships: bool,
    /// Alerts by level.
    pub alerts: &'a mut Counts,
    /// What rules cost this worker.
    pub costs: &'a Costs,
    /// Takes some of the flows that open.
    pub sampler: &'a mut Sampler,
    /// The sequence model, where it is enabled.
    pub sequences: Option<&'a mut Sequences>,
    /// Flows kept from rules, by the exclusion's interned id.
    pub excluded: &'a mut Vec<u64>,
    /// Matches on flows that remember as many rules as they can.
    pub passed_over: &'a mut u64,
    /// Scratch, empty between calls.
    pub hits: &'a mut Vec<RuleIndex>,
    /// To the exchange.
    pub messages: &'a mut Vec<Message>,
    /// When what is worked off now arrived, on live input.
    pub arrived: Option<Micros>,
    /// What gives way.
    pub overload: Overload,
    /// Slices without a tag that were not made for it.
    pub unmade: &'a mut u64,
    /// Whether [`FlowSink::ended`] told the end of the flow that is cut next.
    pub ended: bool,
}

/// A flow as detection reads it, in the table or folded back from its slices.
pub(super) trait Told {
    fn now(&self) -> Micros;
    /// When the truth of a rule of this class was final.
    fn final_at(&self, _class: Class) -> Micros {
        self.now()
    }
    fn id(&self) -> FlowId;
    fn view(&self) -> &Biflow;
    fn memory(&mut self) -> &mut Memory;
    fn fired(&self) -> &[u32];
    fn generation(&self) -> u32;
}

impl Told for LiveFlow<'_> {
    fn now(&self) -> Micros {
        self.now
    }
    fn id(&self) -> FlowId {
        self.id()
    }
    fn view(&self) -> &Biflow {
        self.view()
    }
    fn memory(&mut self) -> &mut Memory {
        self.memory
    }
    fn fired(&self) -> &[u32] {
        &self.memory.fired
    }
    fn generation(&self) -> u32 {
        self.memory.generation
    }
}

impl Tagger<'_> {
    /// A flow that lived through a reload meets the new set at its next call: every rule of it.
    fn phase(&self, flow: &impl Told, phase: Phase) -> Phase {
        let stale = flow.generation() != self.book.generation;
        if stale && phase == Phase::Woke { Phase::Opened } else { phase }
    }

    pub(super) fn detect(&mut self, flow: &mut impl Told, phase: Phase) {
        let began = self.ruled.map(|_| Instant::now());
        self.detect_now(flow, phase);
        if let (Some(ruled), Some(began)) = (&mut self.ruled, began) {
            *ruled += began.elapsed();
        }
    }

    fn detect_now(&mut self, flow: &mut impl Told, phase: Phase) {
        let set = &self.book.set;
        if set.rules().is_empty() && set.exclusions().is_empty() || self.is_excluded(flow, phase) {
            return;
        }
        let phase = self.phase(flow, phase);
        let mut shown = Shown { copy: None, arrived: self.arrived };
        let mut hits = mem::take(self.hits);
        set.scan_counted(phase, flow.view(), flow.fired(), self.costs, &mut hits);
        for index in hits.drain(..) {
            let rule = set.rule(index);
            if !flow.memory().fired.push(rule.meta.uid) {
                self.pass_over(&rule.meta);
                continue;
            }
            if rule.taps.on_fire {
                let time = flow.final_at(rule.class);
                self.messages.push(shown.found(flow, time, (rule.meta.uid, false)));
            }
            if !rule.silent {
                self.raise(flow, index);
            }
        }
        *self.hits = hits;
        flow.memory().generation = self.book.generation;
        if phase == Phase::End {
            let tapped = self.book.tapped_ends(flow.fired());
            self.messages.extend(tapped.map(|uid| shown.found(flow, flow.now(), (uid, true))));
        } else {
            flow.memory().wake = set.wake(flow.view(), flow.fired());
        }
    }

    /// A rule that the flow cannot remember must not fire, else it would fire again and again.
    fn pass_over(&mut self, rule: &RuleMeta) {
        if *self.passed_over == 0 {
            tracing::warn!(
                rule = %rule.id,
                "a flow remembers {} rules that fired, and no more: weir_detect_matches_passed_over \
                 counts further ones",
                Fired::MAX
            );
        }
        *self.passed_over += 1;
    }

    /// An alert leaves at once, unless it has to stand in the queue before suppression.
    fn raise(&mut self, flow: &impl Told, index: RuleIndex) {
        let rule = self.book.set.rule(index);
        let meta = &rule.meta;
        let flow_id = flow.id();
        self.leave(Alert {
            id: alert_id(&meta.id, flow_id.0),
            time: flow.final_at(rule.class),
            rule: Arc::clone(meta),
            evidence: self.book.set.explain(index, &Record::of(flow.view())),
            flow_id,
            flow: flow.view().clone(),
            suppressed: 0,
            arrived: self.arrived,
            verdict: None,
        });
    }

    fn leave(&mut self, alert: Alert) {
        if self.book.limits.limit(&alert.rule.id).is_some() {
            self.messages.push(Message::Alert(Box::new(alert)));
        } else {
            self.alerts.one(alert.rule.level.as_str());
            self.batch.alerts.push(alert);
        }
    }

    /// A slice without a tag is not made: nobody gets it, the model neither.
    fn give_up(&mut self) {
        *self.unmade += u64::from(self.ships);
        if let Some(sequences) = self.sequences.as_deref_mut() {
            sequences.miss_slice();
        }
    }

    /// Shows the sequence model a slice that was cut at `now`. What is kept from detection is kept
    /// from the model too.
    pub(super) fn judge(&mut self, slice: &Slice, now: Micros, excluded: bool) -> Option<Verdict> {
        self.judge_waiting();
        let sequences = self.sequences.as_deref_mut().filter(|_| !excluded)?;
        let began = self.modelled.map(|_| Instant::now());
        if self.arrived.is_some() {
            sequences.arrived = self.arrived;
        }
        let verdict = sequences.slice(slice, now);
        self.took_since(began);
        self.found();
        verdict
    }

    /// Shows the sequence model the slices of the batch that wait for it. None may leave before.
    pub(super) fn judge_waiting(&mut self) {
        let waiting = self.sequences.as_deref_mut().filter(|sequences| sequences.awaits());
        let Some(sequences) = waiting else { return };
        let began = self.modelled.map(|_| Instant::now());
        sequences.judge(&mut self.batch.slices);
        self.took_since(began);
        self.found();
    }

    fn took_since(&mut self, began: Option<Instant>) {
        if let (Some(modelled), Some(began)) = (&mut self.modelled, began) {
            *modelled += began.elapsed();
        }
    }

    /// All shards have passed `now`.
    pub(super) fn pass(&mut self, now: Micros) {
        self.judge_waiting();
        let began = self.modelled.map(|_| Instant::now());
        if let Some(sequences) = self.sequences.as_deref_mut() {
            sequences.advance(now);
        }
        self.took_since(began);
        self.found();
    }

    /// The end of the input, after all slices were cut.
    pub(super) fn finish(&mut self) {
        if let Some(sequences) = self.sequences.as_deref_mut() {
            sequences.finish();
        }
        self.found();
    }

    /// Raises what the model found.
    fn found(&mut self) {
        let Some(sequences) = self.sequences.as_deref_mut() else { return };
        if !sequences.alerts.is_empty() {
            mem::take(&mut sequences.alerts).into_iter().for_each(|alert| self.leave(alert));
        }
        if let Some(sequences) = self.sequences.as_deref_mut() {
            self.messages.extend(sequences.sent.drain(..).map(Message::Sent));
        }
    }
}

/// What never changes was final at the flow's start, whenever its first slice was cut.
impl Told for FoldedFlow<'_> {
    fn now(&self) -> Micros {
        self.now
    }
    fn final_at(&self, class: Class) -> Micros {
        if class == Class::Immutable { self.view.first } else { self.now }
    }
    fn id(&self) -> FlowId {
        self.id
    }
    fn view(&self) -> &Biflow {
        self.view
    }
    fn memory(&mut self) -> &mut Memory {
        self.memory
    }
    fn fired(&self) -> &[u32] {
        &self.memory.fired
    }
    fn generation(&self) -> u32 {
        self.memory.generation
    }
}

impl FoldSink for Tagger<'_> {
    fn grew(&mut self, flow: &mut FoldedFlow<'_>, first: bool) {
        self.detect(flow, if first { Phase::Opened } else { Phase::Woke });
    }

    /// Each slice gets all tags of its flow.
    fn completed(&mut self, flow: &mut FoldedFlow<'_>, slices: Vec<Slice>) {
        self.detect(flow, Phase::End);
        let excluded = flow.memory.excluded.and_then(|uid| self.book.exclusion(uid));
        for mut slice in slices {
            let verdict = self.judge(&slice, flow.now, excluded.is_some());
            if !self.ships {
                continue;
            }
            slice.fired.extend_from_slice(&flow.memory.fired);
            let (rules, excluded) = (self.book.metas(&slice.fired).collect(), excluded.clone());
            self.batch.slices.push(TaggedSlice { slice, rules, excluded, verdict });
        }
    }
}

/// The flow as all messages of one call share it, copied when the first needs it.
struct Shown {
    copy: Option<(FlowId, Arc<Biflow>)>,
    /// When what is told of it arrived.
    arrived: Option<Micros>,
}

impl Shown {
    fn found(&mut self, flow: &impl Told, time: Micros, (rule, at_end): (u32, bool)) -> Message {
        let copy = || (flow.id(), Arc::new(flow.view().clone()));
        let (flow_id, shown) = self.copy.get_or_insert_with(copy);
        let (flow_id, shown) = (*flow_id, Arc::clone(shown));
        let (flow, arrived) = (shown, self.arrived);
        Message::Match(Match { time, rule, at_end, flow_id, flow, arrived })
    }
}

impl FlowSink for Tagger<'_> {
    fn watches(&self) -> bool {
        !self.book.set.rules().is_empty() || !self.book.set.exclusions().is_empty()
    }

    fn opened(&mut self, flow: &mut LiveFlow<'_>) {
        self.sampler.opened(flow.view());
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
        self.ended = self.book.tags(&flow.memory.fired[fired..]);
        self.ended
    }

    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        if cut.last && !mem::take(&mut self.ended) {
            self.detect(flow, Phase::End);
        }
        if !self.ships && self.sequences.is_none() {
            return;
        }
        if self.overload >= Overload::Untagged && !self.book.tags(&flow.memory.fired) {
            self.give_up();
            return;
        }
        let slice = flow.slice(cut);
        let excluded = flow.memory.excluded.and_then(|uid| self.book.exclusion(uid));
        if !self.ships {
            self.judge(&slice, flow.now, excluded.is_some());
            return;
        }
        let sequences = self.sequences.as_deref_mut().filter(|_| excluded.is_none());
        let place = (self.batch.slices.len(), &slice);
        let full = sequences.is_some_and(|all| all.wait(place, flow.now, self.arrived));
        let rules = self.book.metas(&slice.fired).collect();
        self.batch.slices.push(TaggedSlice { slice, rules, excluded, verdict: None });
        if full {
            self.judge_waiting();
        }
    }
}
