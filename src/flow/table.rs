//! The flow table of one shard: records and packets are merged into flows, flows are cut and end.
//!
//! What comes out is a function of the records alone. Everything that is due at or before a
//! record's stamp happens before the record is merged, in the order (deadline, flow's number), and
//! as of its deadline; so calls of [`FlowTable::advance`] in between make slices leave earlier but
//! change none of them. In particular the active timeout is checked before the update.
//!
//! - *Idle timeout*: a flow ends when nothing was merged for that long. Duplicates do not count: a
//!   flow whose owner is silent ends, and whoever reports next opens and owns the next one.
//! - *Active timeout*: a slice is cut that long after its first record. The next slice opens with
//!   the next record; no empty slice is cut for a silent flow. A flow that ends while no slice is
//!   open ships a last one, with no records and counters 0, only if the sink wants it
//!   ([`FlowSink::ended`]), as for tags that came with the end. So a flow has at most one slice
//!   with `last` set: none if it fell silent after its active timeout.
//! - *Linger*: an ended flow (packets: FIN from both sides or RST; export records: both directions
//!   reported their end) takes in late records until end + linger, is not cut meanwhile, and does
//!   not live longer for them. Late ACKs open no ghost flow, and a second exporter's record of the
//!   same connection finds the flow it duplicates. A new SYN ends it at once.
//! - *Capacity*: a new flow takes the place of the one that was merged into longest ago.

use std::cell::Cell;
use std::sync::Arc;

use super::entry::{Event, Owner};
use super::fragments::Fragments;
use super::key::{FlowKey, key_hash};
use super::owner::{self, Claimant};
use super::params::{IDLE_MAX_US, Params};
use super::record::{Counters, FIN, FlowRecord, PacketRecord, RST, SYN};
use super::store::Store;
use super::view::{Biflow, DirectionBy, EndReason};
use super::wheel::{Due, Wheel};
use super::{Cut, FlowSink, LiveFlow, Wake, orient, tcp};
use crate::metrics::ledger::Ledgers;
use crate::time::Micros;

/// IE 136: end of flow detected.
const END_OF_FLOW: u8 = 3;

/// One shard's flows. Nobody else can touch it, so it has no locks.
#[derive(Clone, Debug)]
pub struct FlowTable {
    params: Arc<Params>,
    store: Store,
    wheel: Wheel,
    fragments: Fragments,
    /// The latest stamp.
    clock: Micros,
    /// Scratch: entries on their way through the wheel.
    drained: Vec<u32>,
    /// Scratch: the flow that a sink is shown.
    view: Biflow,
}

/// What a merged record did to an entry, for the steps that follow.
struct Merged {
    entry: u32,
    /// The flow was created for it.
    new: bool,
    /// It held a TCP flag that its side did not have.
    new_flags: bool,
    /// Who it claims the initiator is.
    claim: Option<(DirectionBy, usize)>,
    first: Micros,
    last: Micros,
}

impl FlowTable {
    /// An empty table. Memory grows with its flows, up to `params.capacity`.
    #[must_use]
    pub fn new(params: Arc<Params>) -> Self {
        Self {
            store: Store::new(params.capacity),
            wheel: Wheel::new(),
            fragments: Fragments::new(params.fragments),
            clock: Micros::MIN,
            drained: Vec::new(),
            view: Biflow::default(),
            params,
        }
    }

    /// Flows in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether the table holds no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.len() == 0
    }

    /// Merges an export record or CSV row. O(1) but for what falls due.
    pub fn record(&mut self, r: &FlowRecord, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        self.advance(r.stamp, ledgers, sink);
        ledgers.records.decoded += 1;
        let (key, side) = FlowKey::of_record(r, &self.params);
        let hash = key_hash(&key, self.params.hash_seed);
        let mut found = self.store.find(&key, hash);
        if let Some(i) = found.filter(|&i| self.record_reopens(i, side, r)) {
            self.end(i, EndReason::EndOfFlow, self.clock, ledgers, sink);
            found = None;
        }
        let (i, new) = match found {
            Some(i) => (i, false),
            None => (self.create(key, hash, (side, r.first), ledgers, sink), true),
        };
        let attributes = &mut self.store.attributes[i as usize];
        attributes.note_exporter(r.point.exporter);
        let Some(new_flags) = self.merge_record(i, side, r) else {
            ledgers.records.duplicate += 1;
            return;
        };
        let (entry, attributes) =
            (&self.store.entries[i as usize], &self.store.attributes[i as usize]);
        let claim = orient::by_record(r, side, entry, attributes);
        let (first, last) = (r.first, r.last.max(r.first));
        self.settle(&Merged { entry: i, new, new_flags, claim, first, last }, ledgers, sink);
    }

    /// Merges a packet. O(1) but for what falls due.
    pub fn packet(&mut self, p: &PacketRecord, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        self.advance(p.stamp, ledgers, sink);
        ledgers.records.decoded += 1;
        let ports = self.fragments.ports(p, self.clock);
        let (key, side) = FlowKey::of_packet(p, ports, &self.params);
        let hash = key_hash(&key, self.params.hash_seed);
        let mut found = self.store.find(&key, hash);
        if let Some(i) = found.filter(|&i| self.packet_reopens(i, p)) {
            self.end(i, EndReason::EndOfFlow, self.clock, ledgers, sink);
            found = None;
        }
        let (i, new) = match found {
            Some(i) => (i, false),
            None => (self.create(key, hash, (side, p.time), ledgers, sink), true),
        };
        let Some(new_flags) = self.merge_packet(i, side, p, new) else {
            ledgers.records.duplicate += 1;
            return;
        };
        let claim = p.tcp.and_then(|tcp| orient::by_packet(tcp.flags, side));
        let (first, last) = (p.time, p.time);
        self.settle(&Merged { entry: i, new, new_flags, claim, first, last }, ledgers, sink);
    }

    /// Lets everything happen that is due at or before `now`. The clock never runs backwards: an
    /// earlier `now` does nothing. `now` must not be ahead of a stamp that is still to come.
    pub fn advance(&mut self, now: Micros, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        self.clock = self.clock.max(now);
        loop {
            while let Some(due) = self.wheel.pop(self.clock) {
                self.fire(due, ledgers, sink);
            }
            if self.is_empty() {
                self.wheel.jump(self.clock);
                return;
            }
            let mut drained = std::mem::take(&mut self.drained);
            let moved = self.wheel.step(self.clock, &mut drained);
            drained.drain(..).for_each(|i| self.schedule(i));
            self.drained = drained;
            if !moved {
                return;
            }
        }
    }

    /// Ends every flow, in the order of creation: with [`EndReason::EndOfFlow`] those that only
    /// lingered, the others with [`EndReason::Forced`]. The table can be used again.
    pub fn flush(&mut self, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        for i in self.store.in_order() {
            let lingers = self.store.entries[i as usize].ends_at.is_some();
            let reason = if lingers { EndReason::EndOfFlow } else { EndReason::Forced };
            self.end(i, reason, self.clock, ledgers, sink);
        }
    }

    /// Whether `p` opens a connection anew on the key of entry `i`: a SYN after FIN or RST. An
    /// ordinary SYN that is sent again is a part of the flow.
    fn packet_reopens(&self, i: u32, p: &PacketRecord) -> bool {
        let [a, b] = &self.store.entries[i as usize].sides;
        p.tcp.is_some_and(|tcp| tcp::opens(tcp.flags))
            && (a.tcp_flags | b.tcp_flags) & (FIN | RST) != 0
    }

    /// Whether `r` belongs to a new connection on the key of entry `i`: its sender had reported the
    /// end of the old one, it holds a SYN, and it starts after everything that was seen. Of
    /// observation points with clocks of their own only the owner is believed.
    fn record_reopens(&self, i: u32, side: usize, r: &FlowRecord) -> bool {
        let entry = &self.store.entries[i as usize];
        let owns = entry.sides[side].owner == Owner::Exporter
            && self.store.attributes[i as usize].reports[side].point == r.point;
        let syn = r.fwd.tcp_flags.is_some_and(|flags| flags & SYN != 0);
        owns && syn && entry.sides[side].ended && r.first > entry.last
    }

    /// Makes an entry for the flow that `sender` opens; where the table is full, in the place of
    /// the longest idle one.
    fn create(
        &mut self,
        key: FlowKey,
        hash: u64,
        (sender, first): (usize, Micros),
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) -> u32 {
        if self.store.is_full() {
            let oldest = self.store.longest_idle().expect("a full table holds a flow");
            self.end(oldest, EndReason::LackOfResources, self.clock, ledgers, sink);
        }
        let (i, fresh) = self.store.create(key, hash, first);
        if fresh {
            self.wheel.add_entry();
        }
        self.store.entries[i as usize].initiator = sender;
        i
    }

    /// Merges the directions of `r` that its observation point owns. `None`: it owns none of them.
    /// Else whether there was a new TCP flag.
    fn merge_record(&mut self, i: u32, side: usize, r: &FlowRecord) -> Option<bool> {
        let reverse = r.bwd.as_ref().filter(|bwd| !bwd.is_empty());
        let forward = Some(&r.fwd).filter(|fwd| reverse.is_none() || !fwd.is_empty());
        let (mut merged, mut new_flags) = (false, false);
        for (s, counters) in [(side, forward), (1 - side, reverse)] {
            let Some(counters) = counters else { continue };
            let claimant = Claimant::Exporter { record: r, forward: s == side };
            if !self.claim(i, s, &claimant) {
                continue;
            }
            merged = true;
            let entry = &mut self.store.entries[i as usize];
            new_flags |= entry.sides[s].add(counters);
            let flags = counters.tcp_flags.unwrap_or(0);
            entry.sides[s].ended |= r.end_reason == Some(END_OF_FLOW) || flags & (FIN | RST) != 0;
        }
        if !merged {
            return None;
        }
        let entry = &mut self.store.entries[i as usize];
        let netflow = &self.params.netflow;
        let asked = r.idle_timeout_us.min(IDLE_MAX_US);
        entry.idle_us = entry.idle_us.max(netflow.idle_us).max(asked);
        entry.active_us = netflow.active_us;
        if entry.sides[0].ended && entry.sides[1].ended && entry.ends_at.is_none() {
            entry.ends_at = Some(self.clock.plus(self.params.linger_us));
        }
        self.store.attributes[i as usize].note_record(r, side);
        Some(new_flags)
    }

    /// Merges `p`. `None`: an exporter owns its direction. Else whether there was a new TCP flag.
    fn merge_packet(&mut self, i: u32, side: usize, p: &PacketRecord, new: bool) -> Option<bool> {
        if !self.claim(i, side, &Claimant::Packet(p)) {
            return None;
        }
        let attributes = &mut self.store.attributes[i as usize];
        if new {
            (attributes.vlan, attributes.tos) = (p.vlan, Some(p.tos));
            attributes.tunnel = p.tunnel;
        }
        attributes.note_icmp(side, p);
        let entry = &mut self.store.entries[i as usize];
        entry.has_packets = true;
        let timeouts = &self.params.packets;
        (entry.idle_us, entry.active_us) = (timeouts.idle_us, timeouts.active_us);
        let counters = Counters {
            octets: u64::from(p.octets),
            packets: 1,
            octets_l2: Some(u64::from(p.octets_l2)),
            payload: Some(u64::from(p.payload)),
            tcp_flags: p.tcp.map(|tcp| tcp.flags),
        };
        let new_flags = entry.sides[side].add(&counters);
        if let Some(tcp) = p.tcp {
            entry.tcp.update(side, tcp, p);
            if entry.tcp.has_ended() && entry.ends_at.is_none() {
                entry.ends_at = Some(self.clock.plus(self.params.linger_us));
            }
        }
        Some(new_flags)
    }

    fn claim(&mut self, i: u32, side: usize, claimant: &Claimant<'_>) -> bool {
        let entry = &mut self.store.entries[i as usize];
        let attributes = &mut self.store.attributes[i as usize];
        owner::claim(entry, attributes, side, claimant, self.clock, self.params.dedup)
    }

    /// The second half of every merge: ledgers, times, orientation, deadlines, then the sink.
    fn settle(&mut self, merged: &Merged, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let i = merged.entry;
        let entry = &mut self.store.entries[i as usize];
        ledgers.records.merged += 1;
        if entry.slice_records == 0 {
            ledgers.slices.opened += 1;
            ledgers.slices.held += 1;
        }
        ledgers.slices.held_records += 1;
        entry.extend(merged.first, merged.last, self.clock);
        let turned = entry.orient(merged.claim) && !merged.new;
        let earlier = entry.next_event().0 < entry.queued;
        self.store.touch(i);
        if earlier {
            self.schedule(i);
        }
        let entry = &self.store.entries[i as usize];
        let reaches = |table: &Self| {
            let (entry, memory) =
                (&table.store.entries[i as usize], &table.store.memories[i as usize]);
            entry.watched && entry.reaches(memory, merged.new_flags)
        };
        if !sink.watches() {
            return;
        }
        if merged.new {
            self.tell(i, self.clock, |flow| sink.opened(flow));
            if reaches(self) {
                self.tell(i, self.clock, |flow| sink.woke(flow));
            }
        } else if turned {
            self.tell(i, self.clock, |flow| sink.turned(flow));
        } else if entry.watched && reaches(self) {
            self.tell(i, self.clock, |flow| sink.woke(flow));
        }
    }

    /// Shows entry `i` to a sink, as of `now`, and takes note of the wake-up values it leaves.
    fn tell(&mut self, i: u32, now: Micros, call: impl FnOnce(&mut LiveFlow<'_>)) {
        let entry = &self.store.entries[i as usize];
        let attributes = &self.store.attributes[i as usize];
        let memory = &mut self.store.memories[i as usize];
        call(&mut LiveFlow {
            now,
            memory: &mut *memory,
            entry,
            attributes,
            params: &self.params,
            room: Cell::new(Some(&mut self.view)),
            view: Cell::new(None),
        });
        let watched = memory.wake != Wake::default();
        self.store.entries[i as usize].watched = watched;
    }

    /// Queues entry `i` in the wheel for what happens to it next.
    fn schedule(&mut self, i: u32) {
        let entry = &mut self.store.entries[i as usize];
        entry.queued = entry.next_event().0;
        self.wheel.schedule(Due { deadline: entry.queued, flow: entry.number, entry: i });
    }

    /// Does what is due, or puts it off where records have moved the deadline.
    fn fire(&mut self, due: Due, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let i = due.entry;
        let entry = &self.store.entries[i as usize];
        if entry.number != due.flow || entry.queued != due.deadline {
            return;
        }
        match entry.next_event() {
            (at, _) if at > due.deadline => self.schedule(i),
            (at, Event::End(reason)) => self.end(i, reason, at, ledgers, sink),
            (at, Event::Cut) => {
                self.cut(i, (EndReason::Active, false), at, ledgers, sink);
                self.schedule(i);
            }
        }
    }

    /// Cuts the flow's last slice, unless it would be empty and the sink has no use for it, and
    /// frees the entry.
    fn end(
        &mut self,
        i: u32,
        reason: EndReason,
        now: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        let mut wanted = true;
        if self.store.entries[i as usize].slice_records == 0 {
            self.tell(i, now, |flow| wanted = sink.ended(flow));
            ledgers.slices.opened += u64::from(wanted);
            ledgers.slices.held += u64::from(wanted);
        }
        if wanted {
            self.cut(i, (reason, true), now, ledgers, sink);
        }
        self.wheel.cancel(i);
        self.store.remove(i);
    }

    /// Cuts the open slice (one without records, if none is open) and hands it to the sink.
    fn cut(
        &mut self,
        i: u32,
        (end_reason, last): (EndReason, bool),
        now: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        let entry = &self.store.entries[i as usize];
        let records = entry.slice_records;
        let number = entry.slice_number;
        ledgers.slices.held -= 1;
        ledgers.slices.shipped += 1;
        ledgers.slices.held_records -= records;
        ledgers.slices.shipped_records += records;
        let cut = Cut { number, last, end_reason, records };
        self.tell(i, now, |flow| sink.cut(flow, cut));
        let (entry, attributes) =
            (&mut self.store.entries[i as usize], &mut self.store.attributes[i as usize]);
        attributes.rebase(entry);
        entry.next_slice();
    }
}
