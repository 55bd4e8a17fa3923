//! Slices folded back to their flows: what a retro-hunt runs rules on.
//!
//! A flow is complete when its last slice and all before it were read, when it was silent for as
//! long as a flow may be between two slices, or when the input ends. Until then its slices are
//! held. A slice that comes again is a duplicate, also once its flow is complete. What comes out is a
//! function of the slices alone, in the order of the input.

use std::collections::{BTreeMap, HashMap};

use super::Memory;
use super::finished::Finished;
use super::record::TcpFlags;
use super::view::{Biflow, FlowId, Side, Slice};
use crate::metrics::ledger::Ledgers;
use crate::time::Micros;

/// A flow, as far as its slices were read.
#[derive(Debug)]
pub struct FoldedFlow<'a> {
    /// The end of what was read of it: when what is told here was final.
    pub now: Micros,
    /// The flow's identity.
    pub id: FlowId,
    /// Counters cumulated over the slices that were read.
    pub view: &'a Biflow,
    /// What detection remembers between calls.
    pub memory: &'a mut Memory,
}

/// What a [`Fold`] tells of its flows.
pub trait FoldSink {
    /// A slice was read. Called for each, before [`FoldSink::completed`].
    fn grew(&mut self, flow: &mut FoldedFlow<'_>, first: bool);

    /// The flow is complete: `slices` are all that were read of it, in the order of their numbers.
    fn completed(&mut self, flow: &mut FoldedFlow<'_>, slices: Vec<Slice>);
}

/// Completed flows whose slices are known again, for each slice that may be held.
const REMEMBERED: usize = 4;

/// The flows of one shard that are not complete, and what is remembered of those that are.
#[derive(Clone, Debug)]
pub struct Fold {
    slices_max: usize,
    silence_us: i64,
    flows: HashMap<FlowId, Folded>,
    finished: Finished,
    /// Flows by their last slice.
    order: BTreeMap<u64, FlowId>,
    reads: u64,
    held: usize,
    clock: Micros,
}

#[derive(Clone, Debug)]
struct Folded {
    whole: Biflow,
    memory: Memory,
    slices: Vec<Slice>,
    /// The highest number that was read.
    latest: u32,
    /// The last slice's number.
    last: Option<u32>,
    /// The input clock at its last slice, and that slice's place in the order of reading.
    seen: Micros,
    read: u64,
}

impl Fold {
    /// Holds at most `slices_max` slices (at least one), and remembers four times as many flows; a flow without a new slice for
    /// `silence_us` is complete.
    #[must_use]
    pub fn new(slices_max: usize, silence_us: i64) -> Self {
        Self {
            slices_max: slices_max.max(1),
            silence_us,
            flows: HashMap::new(),
            finished: Finished::default(),
            order: BTreeMap::new(),
            reads: 0,
            held: 0,
            clock: Micros::MIN,
        }
    }

    /// Flows that are not complete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Folds a slice in; `stamp` is the input clock. A slice that was read before is a duplicate.
    pub fn slice(
        &mut self,
        slice: Slice,
        stamp: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FoldSink,
    ) {
        self.advance(stamp, ledgers, sink);
        ledgers.records.decoded += 1;
        let id = slice.flow_id;
        let held = self.flows.get(&id).is_some_and(|flow| flow.has(slice.number));
        if held || self.finished.has(id, slice.number) {
            ledgers.records.duplicate += 1;
            return;
        }
        while self.held >= self.slices_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            ledgers.slices.early += 1;
            self.complete(oldest, ledgers, sink);
        }
        ledgers.records.merged += 1;
        ledgers.slices.opened += 1;
        ledgers.slices.held += 1;
        ledgers.slices.held_records += 1;
        self.held += 1;
        self.reads += 1;
        let first = !self.flows.contains_key(&id);
        let flow = self.flows.entry(id).or_insert_with(|| Folded::new(&slice));
        self.order.remove(&flow.read);
        (flow.seen, flow.read) = (self.clock, self.reads);
        self.order.insert(flow.read, id);
        let now = slice.flow.last;
        flow.add(slice);
        let Folded { whole, memory, .. } = flow;
        sink.grew(&mut FoldedFlow { now, id, view: whole, memory }, first);
        if flow.is_whole() {
            let read = flow.read;
            self.order.remove(&read);
            self.complete(id, ledgers, sink);
        }
    }

    /// Completes the flows that were silent for too long at `now`.
    pub fn advance(&mut self, now: Micros, ledgers: &mut Ledgers, sink: &mut impl FoldSink) {
        self.clock = self.clock.max(now);
        while let Some((&read, &id)) = self.order.first_key_value() {
            if self.clock.since(self.flows[&id].seen) < self.silence_us {
                return;
            }
            self.order.remove(&read);
            self.complete(id, ledgers, sink);
        }
    }

    /// The end of the input: completes every flow, in the order of their last slices.
    pub fn flush(&mut self, ledgers: &mut Ledgers, sink: &mut impl FoldSink) {
        while let Some((_, id)) = self.order.pop_first() {
            self.complete(id, ledgers, sink);
        }
    }

    /// Takes the flow out, which is out of the order already, and tells of it.
    fn complete(&mut self, id: FlowId, ledgers: &mut Ledgers, sink: &mut impl FoldSink) {
        let Some(mut flow) = self.flows.remove(&id) else { return };
        flow.slices.sort_by_key(|slice| slice.number);
        let count = flow.slices.len();
        let numbers = flow.slices.iter().map(|slice| slice.number);
        self.finished.add(id, numbers, self.slices_max.saturating_mul(REMEMBERED));
        self.held -= count;
        ledgers.slices.held -= count as u64;
        ledgers.slices.shipped += count as u64;
        ledgers.slices.held_records -= count as u64;
        ledgers.slices.shipped_records += count as u64;
        let (now, view, memory) = (flow.whole.last, &flow.whole, &mut flow.memory);
        sink.completed(&mut FoldedFlow { now, id, view, memory }, flow.slices);
    }
}

impl Folded {
    fn new(slice: &Slice) -> Self {
        let mut whole = slice.flow.clone();
        for side in [&mut whole.fwd, &mut whole.bwd] {
            (side.octets, side.packets, side.octets_l2, side.payload) = (0, 0, None, None);
            (side.tcp_flags, side.retransmits) = (None, None);
        }
        Self {
            whole,
            memory: Memory::default(),
            slices: Vec::new(),
            latest: 0,
            last: None,
            seen: Micros::MIN,
            read: 0,
        }
    }

    fn has(&self, number: u32) -> bool {
        // Nearly always the next number: then nothing is searched.
        let may = number <= self.latest;
        may && self.slices.iter().any(|slice| slice.number == number)
    }

    /// Whether its last slice and all before it were read.
    fn is_whole(&self) -> bool {
        self.last.is_some_and(|last| self.slices.len() as u64 == u64::from(last) + 1)
    }

    /// Counters are summed up, flags united; what else a slice says is as of its cut, so the latest
    /// holds.
    fn add(&mut self, slice: Slice) {
        let flow = &slice.flow;
        let fwd = sum(&self.whole.fwd, &flow.fwd);
        let bwd = sum(&self.whole.bwd, &flow.bwd);
        let (first, last) = (self.whole.first.min(flow.first), self.whole.last.max(flow.last));
        if slice.number >= self.latest {
            self.latest = slice.number;
            self.whole.clone_from(flow);
        }
        let whole = &mut self.whole;
        let latest =
            |sum: Side, of: &Side| Side { first_flags: of.first_flags, ttl: of.ttl, ..sum };
        (whole.fwd, whole.bwd) = (latest(fwd, &whole.fwd), latest(bwd, &whole.bwd));
        (whole.first, whole.last) = (first, last);
        if slice.last {
            self.last = Some(slice.number);
        }
        self.slices.push(slice);
    }
}

pub(super) fn sum(a: &Side, b: &Side) -> Side {
    fn some<T: Copy>(a: Option<T>, b: Option<T>, join: fn(T, T) -> T) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (one, other) => one.or(other),
        }
    }
    Side {
        octets: a.octets.saturating_add(b.octets),
        packets: a.packets.saturating_add(b.packets),
        octets_l2: some(a.octets_l2, b.octets_l2, u64::saturating_add),
        payload: some(a.payload, b.payload, u64::saturating_add),
        tcp_flags: some(a.tcp_flags, b.tcp_flags, |a: TcpFlags, b| a | b),
        retransmits: some(a.retransmits, b.retransmits, u32::saturating_add),
        first_flags: a.first_flags,
        ttl: a.ttl,
    }
}
