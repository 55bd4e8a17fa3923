//! Slices of many sensors stitched to one flow each: what an engine behind sensors runs rules on.
//!
//! Two sensors that see one conversation cut slices of their own, with ids of their own, and often
//! each sees one direction only. A [`Stitch`] keys flows by what both agree on (site, VRF, endpoints,
//! protocol), gives each direction one owner, and counts what others say as duplicates. What comes out
//! is a function of the slices alone, in the order of the input, and of no clock but theirs; so is
//! what is kept, and it can be put back ([`Stitch::restore`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::Memory;
use super::fold::sum;
use super::view::{Biflow, EndReason, FlowId, Side, Slice};
use crate::config::Dedup;
use crate::metrics::ledger::Ledgers;
use crate::net::Addr;
use crate::time::Micros;

/// Sensors of one flow that are remembered; slices of further ones are duplicates.
const SOURCES_MAX: usize = 8;
/// ICMP and ICMPv6: their types and codes tell no flows apart.
const ICMP: [u8; 2] = [1, 58];

/// What two sensors agree on of a flow, whichever end either takes for the initiator.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StitchKey {
    site: u16,
    vrf: u32,
    vlan: Option<u16>,
    low: (Addr, u16),
    high: (Addr, u16),
    protocol: u8,
}

impl StitchKey {
    /// The key of `flow`, with its VLAN where that is a part of the key.
    #[must_use]
    pub fn of(flow: &Biflow, vlan_in_key: bool) -> Self {
        let ports = !ICMP.contains(&flow.protocol);
        let end = |address, port| (address, if ports { port } else { 0 });
        let (a, b) = (end(flow.src, flow.src_port), end(flow.dst, flow.dst_port));
        Self {
            site: flow.site,
            vrf: flow.vrf,
            vlan: flow.vlan.filter(|_| vlan_in_key),
            low: a.min(b),
            high: a.max(b),
            protocol: flow.protocol,
        }
    }

    /// 44 octets that no other key has, for a log of states.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(44);
        octets.extend(self.site.to_be_bytes());
        octets.extend(self.vrf.to_be_bytes());
        // A VLAN id has 12 bits, so the highest value stands for none.
        octets.extend(self.vlan.unwrap_or(u16::MAX).to_be_bytes());
        for (address, port) in [self.low, self.high] {
            octets.extend(address.0.to_be_bytes());
            octets.extend(port.to_be_bytes());
        }
        octets.push(self.protocol);
        octets
    }
}

/// When flows end, and how many may be open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StitchParams {
    /// Flows that are kept, at most; at least 1.
    pub flows_max: usize,
    /// A flow without a new slice for so long is over, in microseconds.
    pub silence_us: i64,
    /// A direction's owner that is silent for so long is replaced, in microseconds.
    pub idle_us: i64,
    /// How far the clocks of two sensors may be apart, in microseconds.
    pub skew_us: i64,
    /// Whether directions have owners; else every slice counts.
    pub dedup: Dedup,
    /// Whether the VLAN id is a part of the flow key.
    pub vlan_in_key: bool,
}

/// One sensor's account of a flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// The sensor.
    pub sensor: Arc<str>,
    /// The id that it gives to the flow.
    pub flow_id: FlowId,
    /// The highest number of its slices that was read.
    pub latest: u32,
    /// Whether it said that the flow ended.
    pub ended: bool,
}

/// A flow, as far as its slices were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Stitched {
    /// Its identity: that of the first slice that was read.
    pub id: FlowId,
    /// The number of its next slice.
    pub next: u32,
    /// Counters cumulated over the slices that counted.
    pub whole: Biflow,
    /// What detection remembers. Only the rules that fired outlive a restart.
    pub memory: Memory,
    /// Whether it ended. It is kept for a while, so that late accounts of it open no other flow.
    pub ended: bool,
    /// The input clock at the last slice of any sensor.
    pub seen: Micros,
    /// Who tells of it; never empty.
    pub sources: Vec<Source>,
    /// Of each direction (forward, backward), its owner among the sources, and the input clock when
    /// that was heard last.
    pub owners: [Option<(usize, Micros)>; 2],
}

/// A flow as it is told of.
#[derive(Debug)]
pub struct StitchedFlow<'a> {
    /// The input clock.
    pub now: Micros,
    /// The flow's identity.
    pub id: FlowId,
    /// The sensor that told of it first.
    pub sensor: &'a Arc<str>,
    /// Counters cumulated over the flow.
    pub view: &'a Biflow,
    /// What detection remembers between calls.
    pub memory: &'a mut Memory,
}

/// What a [`Stitch`] tells of its flows.
pub trait StitchSink {
    /// A slice counted. Called for each, before the slice is handed on.
    fn grew(&mut self, flow: &mut StitchedFlow<'_>, first: bool);
    /// The flow ended. Whether an empty slice is worth it, if none is due anyway.
    fn ended(&mut self, flow: &mut StitchedFlow<'_>) -> bool;
    /// A slice with the flow's identity, orientation and numbering, told of by `sensor`.
    fn slice(&mut self, flow: &mut StitchedFlow<'_>, slice: Slice, sensor: &Arc<str>);
}

/// The flows of one partition of the input.
#[derive(Clone, Debug)]
pub struct Stitch {
    params: StitchParams,
    flows: HashMap<StitchKey, Stitched>,
    /// Flows by when they were heard of last.
    order: BTreeSet<(Micros, StitchKey)>,
    /// Flows that are not as they were when changes were taken last.
    changed: HashSet<StitchKey>,
    clock: Micros,
}

impl Stitch {
    /// A stitch without flows.
    #[must_use]
    pub fn new(params: StitchParams) -> Self {
        Self {
            params: StitchParams { flows_max: params.flows_max.max(1), ..params },
            flows: HashMap::new(),
            order: BTreeSet::new(),
            changed: HashSet::new(),
            clock: Micros::MIN,
        }
    }

    /// The input clock: the running maximum of the slices' ends.
    #[must_use]
    pub const fn clock(&self) -> Micros {
        self.clock
    }

    /// Flows that are kept, those that ended a while ago among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Puts a flow back that [`Stitch::take_changes`] told of; none of its key is there.
    pub fn restore(&mut self, flow: Stitched) {
        let key = StitchKey::of(&flow.whole, self.params.vlan_in_key);
        self.order.insert((flow.seen, key));
        self.flows.insert(key, flow);
    }

    /// Puts the clock back.
    pub fn restore_clock(&mut self, clock: Micros) {
        self.clock = self.clock.max(clock);
    }

    /// Calls `each` with every flow that changed since the last call, in the order of keys; with
    /// `None` for one that is forgotten.
    pub fn take_changes(&mut self, mut each: impl FnMut(&StitchKey, Option<&Stitched>)) {
        let mut changed: Vec<StitchKey> = self.changed.drain().collect();
        changed.sort_unstable();
        for key in changed {
            each(&key, self.flows.get(&key));
        }
    }

    /// Takes a slice of `sensor` in.
    pub fn slice(
        &mut self,
        sensor: &Arc<str>,
        slice: Slice,
        ledgers: &mut Ledgers,
        sink: &mut impl StitchSink,
    ) {
        self.advance(slice.flow.last, ledgers, sink);
        ledgers.records.decoded += 1;
        let key = StitchKey::of(&slice.flow, self.params.vlan_in_key);
        match self.flows.get(&key).map(|flow| flow.meets(sensor, &slice, self.params.skew_us)) {
            Some(Meeting::Known) => {
                ledgers.records.duplicate += 1;
                return;
            }
            Some(Meeting::Other) => self.forget_counted(key, ledgers, sink),
            Some(Meeting::Same) => {}
            None => self.make_room(ledgers, sink),
        }
        let (clock, params) = (self.clock, self.params);
        let flow = self.flows.entry(key).or_insert_with(|| Stitched::new(&slice));
        let first = flow.next == 0;
        self.order.remove(&(flow.seen, key));
        flow.seen = clock;
        self.order.insert((clock, key));
        self.changed.insert(key);
        let Some(counted) = flow.take(sensor, slice, clock, &params) else {
            ledgers.records.duplicate += 1;
            return;
        };
        ledgers.records.merged += 1;
        ledgers.slices.opened += 1;
        ledgers.slices.shipped += 1;
        ledgers.slices.shipped_records += 1;
        flow.tell(clock, |told| sink.grew(told, first));
        if counted.last {
            flow.ended = true;
            flow.tell(clock, |told| sink.ended(told));
        }
        let sensor = Arc::clone(sensor);
        flow.tell(clock, |told| sink.slice(told, counted, &sensor));
    }

    /// Ends and forgets the flows that were silent for too long at `now`.
    pub fn advance(&mut self, now: Micros, ledgers: &mut Ledgers, sink: &mut impl StitchSink) {
        self.clock = self.clock.max(now);
        while let Some(&(seen, key)) = self.order.first() {
            if self.clock.since(seen) < self.params.silence_us {
                return;
            }
            self.forget_counted(key, ledgers, sink);
        }
    }

    fn make_room(&mut self, ledgers: &mut Ledgers, sink: &mut impl StitchSink) {
        while self.flows.len() >= self.params.flows_max {
            let Some(&(_, oldest)) = self.order.first() else { return };
            ledgers.slices.early += 1;
            self.forget_counted(oldest, ledgers, sink);
        }
    }

    /// As [`Stitch::forget`]; a slice that this makes is counted.
    fn forget_counted(
        &mut self,
        key: StitchKey,
        ledgers: &mut Ledgers,
        sink: &mut impl StitchSink,
    ) {
        if self.forget(key, sink) {
            ledgers.slices.opened += 1;
            ledgers.slices.shipped += 1;
        }
    }

    /// Ends the flow if it did not end, and forgets it. Whether a slice told of its end.
    fn forget(&mut self, key: StitchKey, sink: &mut impl StitchSink) -> bool {
        let Some(mut flow) = self.flows.remove(&key) else { return false };
        self.order.remove(&(flow.seen, key));
        self.changed.insert(key);
        let clock = self.clock;
        if flow.ended || !flow.tell(clock, |told| sink.ended(told)) {
            return false;
        }
        // Tags that came with the end are worth an empty slice.
        let (sensor, last) = (Arc::clone(&flow.sources[0].sensor), flow.empty());
        flow.tell(clock, |told| sink.slice(told, last, &sensor));
        true
    }
}

/// How a slice relates to the flow of its key.
enum Meeting {
    /// It was read before.
    Known,
    /// It is another flow's.
    Other,
    /// It is this flow's.
    Same,
}

impl Stitched {
    fn new(slice: &Slice) -> Self {
        let mut whole = slice.flow.clone();
        for side in [&mut whole.fwd, &mut whole.bwd] {
            let (first_flags, ttl) = (side.first_flags, side.ttl);
            *side = Side { first_flags, ttl, ..Side::default() };
        }
        Self {
            id: slice.flow_id,
            next: 0,
            whole,
            memory: Memory::default(),
            ended: false,
            seen: Micros::MIN,
            sources: Vec::new(),
            owners: [None, None],
        }
    }

    fn meets(&self, sensor: &Arc<str>, slice: &Slice, skew_us: i64) -> Meeting {
        match self.sources.iter().find(|source| source.sensor == *sensor) {
            Some(source) if source.flow_id == slice.flow_id => {
                if slice.number <= source.latest {
                    Meeting::Known
                } else {
                    Meeting::Same
                }
            }
            // A sensor that sends what was not acknowledged again may send a former flow.
            Some(_) if slice.flow.first < self.whole.first => Meeting::Known,
            Some(_) => Meeting::Other,
            None if slice.flow.first > self.whole.last.plus(skew_us) => Meeting::Other,
            None => Meeting::Same,
        }
    }

    fn tell<T>(&mut self, now: Micros, say: impl FnOnce(&mut StitchedFlow<'_>) -> T) -> T {
        let Self { id, whole, memory, sources, .. } = self;
        let sensor = &sources[0].sensor;
        say(&mut StitchedFlow { now, id: *id, sensor, view: whole, memory })
    }

    /// Adds what counts of `slice`, and returns that as this flow's next slice; `None` if nothing
    /// does.
    fn take(
        &mut self,
        sensor: &Arc<str>,
        mut slice: Slice,
        clock: Micros,
        params: &StitchParams,
    ) -> Option<Slice> {
        let source = self.source(sensor, &slice)?;
        if self.is_turned(&slice.flow) {
            turn(&mut slice.flow);
        }
        let empty = slice.flow.fwd.packets == 0 && slice.flow.bwd.packets == 0;
        let mut counts = self.next == 0;
        for (side, owner) in
            [&mut slice.flow.fwd, &mut slice.flow.bwd].into_iter().zip(&mut self.owners)
        {
            let ours = owner.is_some_and(|(index, _)| index == source);
            if side.packets == 0 {
                counts |= empty && ours;
                continue;
            }
            // The other sensor's account of a flow that ended may be as late as it likes.
            let silent = |seen| !self.ended && clock.since(seen) > params.idle_us;
            let free = owner.is_none_or(|(_, seen)| silent(seen));
            if ours || free || params.dedup == Dedup::Off {
                *owner = Some((source, clock));
                counts = true;
            } else {
                *side = Side::default();
            }
        }
        for &exporter in &slice.flow.exporters {
            if !self.whole.exporters.contains(&exporter) && self.whole.exporters.len() < SOURCES_MAX
            {
                self.whole.exporters.push(exporter);
            }
        }
        if !counts {
            return None;
        }
        // The flow ended once all who count said so.
        let owners = self.owners.iter().flatten();
        slice.last &= owners.into_iter().all(|&(index, _)| self.sources[index].ended);
        if !slice.last {
            slice.end_reason = EndReason::Active;
        }
        (slice.flow_id, slice.number) = (self.id, self.next);
        self.next += 1;
        self.add(&slice.flow);
        slice.flow.exporters.clone_from(&self.whole.exporters);
        Some(slice)
    }

    /// The place of `sensor` among the sources, which remember the slice.
    fn source(&mut self, sensor: &Arc<str>, slice: &Slice) -> Option<usize> {
        let known = self.sources.iter().position(|source| source.sensor == *sensor);
        let index = known.unwrap_or(self.sources.len());
        if index == SOURCES_MAX {
            return None;
        }
        if known.is_none() {
            let (sensor, flow_id) = (Arc::clone(sensor), slice.flow_id);
            self.sources.push(Source { sensor, flow_id, latest: 0, ended: false });
        }
        let source = &mut self.sources[index];
        (source.latest, source.ended) = (slice.number, slice.last);
        Some(index)
    }

    /// Whether `flow` takes the other end for the initiator.
    fn is_turned(&self, flow: &Biflow) -> bool {
        let whole = &self.whole;
        if whole.src == whole.dst {
            return flow.src_port == whole.dst_port && flow.src_port != whole.src_port;
        }
        flow.src != whole.src
    }

    /// Counters are summed up, flags united; what else a slice says is as of its cut, but ends and
    /// orientation stay.
    fn add(&mut self, flow: &Biflow) {
        let whole = &mut self.whole;
        let latest =
            |sum: Side, of: &Side| Side { first_flags: of.first_flags, ttl: of.ttl, ..sum };
        whole.fwd = latest(sum(&whole.fwd, &flow.fwd), &whole.fwd);
        whole.bwd = latest(sum(&whole.bwd, &flow.bwd), &whole.bwd);
        whole.first = whole.first.min(flow.first);
        whole.last = whole.last.max(flow.last);
        whole.tcp_state = whole.tcp_state.max(flow.tcp_state);
        whole.rtt_us = whole.rtt_us.or(flow.rtt_us);
        whole.application = whole.application.take().or_else(|| flow.application.clone());
    }

    /// A last slice that adds nothing.
    fn empty(&mut self) -> Slice {
        let mut flow = self.whole.clone();
        flow.first = flow.last;
        (flow.fwd, flow.bwd) = (Side::default(), Side::default());
        let (flow_id, number) = (self.id, self.next);
        self.next += 1;
        let end_reason = EndReason::Idle;
        Slice { flow_id, number, last: true, end_reason, records: 0, flow, fired: Vec::new() }
    }
}

/// Initiator and responder change places.
fn turn(flow: &mut Biflow) {
    mem::swap(&mut flow.src, &mut flow.dst);
    mem::swap(&mut flow.src_port, &mut flow.dst_port);
    mem::swap(&mut flow.fwd, &mut flow.bwd);
    mem::swap(&mut flow.in_if, &mut flow.out_if);
    mem::swap(&mut flow.in_if_name, &mut flow.out_if_name);
    mem::swap(&mut flow.src_asn, &mut flow.dst_asn);
    use super::view::Direction;
    flow.direction = match flow.direction {
        Direction::Outbound => Direction::Inbound,
        Direction::Inbound => Direction::Outbound,
        same => same,
    };
}

#[cfg(test)]
mod tests;
