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

use super::entry::{Owner, flag, side_flag};
use super::fragments::Fragments;
use super::key::{CanonicalSide, FlowKey, PackedKey};
use super::owner::Claimant;
use super::params::Params;
use super::record::{Counters, FIN, FlowRecord, PacketRecord, RST, SYN};
use super::store::Store;
use super::view::{Biflow, DirectionBy, EndReason};
use super::wheel::{Due, SLOT_US, Wheel};
use super::{Cut, FlowSink, LiveFlow, Memory, orient, tcp};
use crate::metrics::ledger::{Held, Ledgers};
use crate::net::{Addr, SHARDS};
use crate::time::Micros;

/// IE 136: end of flow detected.
pub(super) const END_OF_FLOW: u8 = 3;

/// Entries between the fetch of what is due and its end.
const DUE_AHEAD: usize = 6;

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
    /// Scratch: the flow that a sink is shown, and what detection remembers of it, which is nothing in
    /// between.
    view: Biflow,
    memory: Memory,
}

/// What a deadline means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    Cut,
    End(EndReason),
}

/// A record or packet whose key was hashed ahead, so that what its merge reads can be fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prepared {
    /// Addresses that are not both of IPv4 do not lie inside: the record has them.
    key: PackedKey,
    hash: u64,
    /// The entry that it leads to, if nothing happens meanwhile.
    likely: Option<u32>,
    /// Of a record: the hash of where it was seen.
    seen: u32,
    /// The side that sent it.
    side: u8,
}

/// The lower and the higher endpoint's address, of what `src`, on `side`, sends to `dst`.
#[inline]
const fn ends(side: CanonicalSide, src: Addr, dst: Addr) -> [Addr; 2] {
    if side == 0 { [src, dst] } else { [dst, src] }
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
    /// The flow's deadline may have come nearer.
    earlier: bool,
}

impl FlowTable {
    /// An empty table. Memory grows with its flows, up to `params.capacity`.
    #[must_use]
    pub fn new(params: Arc<Params>) -> Self {
        Self::of_shard(params, 0)
    }

    /// As [`Self::new`], for one of several that a thread owns: their timers do not come in step.
    #[must_use]
    pub fn of_shard(params: Arc<Params>, shard: usize) -> Self {
        let phase_us = SLOT_US / SHARDS as i64 * (shard % SHARDS) as i64;
        Self {
            store: Store::new(&params),
            wheel: Wheel::new(params.capacity, phase_us),
            fragments: Fragments::new(params.fragments),
            clock: Micros::MIN,
            drained: Vec::new(),
            view: Biflow::default(),
            memory: Memory::default(),
            params,
        }
    }

    /// Takes the memory of as many ordinary flows as there will ever be, here and now: later no page
    /// is cleared and nothing grows while records wait. It is to be called in the thread that will
    /// own the table, which must be empty, so that the memory lies on its node.
    pub fn reserve(&mut self) {
        self.store.reserve();
        self.wheel.reserve();
    }

    /// Lets the count of merges begin at `merges`.
    #[cfg(test)]
    pub(super) fn set_merges(&mut self, merges: u32) {
        self.store.set_merges(merges);
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

    /// Hashes the key of `r`, and asks the processor to fetch the slots that it leads to.
    #[inline]
    #[must_use]
    pub fn prepare_record(&self, r: &FlowRecord) -> Prepared {
        let prepared = self.prepare(FlowKey::of_record(r, &self.params));
        Prepared { seen: self.store.prefetch_report(r), ..prepared }
    }

    /// As [`Self::prepare_record`], of a packet.
    #[inline]
    #[must_use]
    pub fn prepare_packet(&self, p: &PacketRecord) -> Prepared {
        self.prepare(FlowKey::of_packet(p, (p.src_port, p.dst_port), &self.params))
    }

    #[inline(always)]
    fn prepare(&self, (key, side): (FlowKey, CanonicalSide)) -> Prepared {
        let packed = PackedKey::new(&key, |_| 0);
        let hash = packed.hash(|| [key.a, key.b], self.params.hash_seed);
        self.store.prefetch_slots(hash);
        Prepared { key: packed, hash, likely: None, seen: 0, side: u8::from(side == 1) }
    }

    /// Asks the processor to fetch the entry that `prepared` is likely to be merged into, and its
    /// place in the wheel if the merge `closes` the flow, maybe. To be called some records after it
    /// was prepared, some before it is merged.
    #[inline]
    pub fn fetch(&self, prepared: &mut Prepared, closes: bool) {
        prepared.likely = self.store.prefetch_entry(prepared.hash);
        if let Some(likely) = prepared.likely.filter(|_| closes) {
            self.wheel.prefetch(likely);
        }
        self.store.points.prefetch_value(prepared.seen);
    }

    /// Asks the processor to fetch what the entry of `prepared` leads to. To be called some records
    /// after [`Self::fetch`], some before the merge.
    #[inline]
    pub fn fetch_parts(&self, prepared: &Prepared) {
        if let Some(likely) = prepared.likely {
            self.store.prefetch_shared(likely);
        }
    }

    /// Merges an export record or CSV row. O(1) but for what falls due.
    pub fn record(&mut self, r: &FlowRecord, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let prepared = self.prepare_record(r);
        self.record_prepared(r, &prepared, ledgers, sink);
    }

    /// Merges a packet. O(1) but for what falls due.
    pub fn packet(&mut self, p: &PacketRecord, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let prepared = self.prepare_packet(p);
        self.packet_prepared(p, &prepared, ledgers, sink);
    }

    /// As [`Self::record`]; `prepared` is what [`Self::prepare_record`] made of `r`.
    pub fn record_prepared(
        &mut self,
        r: &FlowRecord,
        prepared: &Prepared,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        self.advance(r.stamp, ledgers, sink);
        ledgers.records.decoded += 1;
        let Prepared { key, hash, likely, .. } = prepared;
        let side = usize::from(prepared.side);
        let found = self.store.find_likely(key, || ends(side, r.src, r.dst), *hash, *likely);
        let (i, new) = match found {
            Some(i) => {
                if let Some(new_flags) = self.store.merge_again(i, side, r, self.clock) {
                    let earlier = self.has_ended(i) && self.ends(i);
                    self.settle_record(r, side, (i, false), (new_flags, earlier), ledgers, sink);
                    return;
                }
                let reopens = self.record_reopens(i, side, r);
                if reopens {
                    let keeps_point = self.store.keeps_point(i, side, r);
                    self.renew(i, (side, r.first), keeps_point, ledgers, sink);
                }
                (i, reopens)
            }
            None => {
                let ends = ends(side, r.src, r.dst);
                (self.create(prepared, ends, r.first, ledgers, sink), true)
            }
        };
        let seen = (prepared.seen, self.clock);
        let opens = new || self.store.is_answered_by(i, side, r);
        let plain = if opens { self.store.open_by_record(i, side, r, seen) } else { None };
        let merged = match plain {
            Some(new_flags) => Some((new_flags, self.has_ended(i) && self.ends(i))),
            None => self.merge_and_note_exporter(i, side, r),
        };
        match merged {
            Some(told) => self.settle_record(r, side, (i, new), told, ledgers, sink),
            None => ledgers.records.duplicate += 1,
        }
    }

    /// The second half of the merge of `r` into entry `i`, which is `new` or not.
    #[inline]
    fn settle_record(
        &mut self,
        r: &FlowRecord,
        side: CanonicalSide,
        (entry, new): (u32, bool),
        (new_flags, earlier): (bool, bool),
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        let orientable = self.orientable(entry);
        let claim = if orientable { orient::by_record(r, side, &self.store, entry) } else { None };
        let (first, last) = (r.first, r.last.max(r.first));
        let merged = Merged { entry, new, new_flags, claim, first, last, earlier };
        self.settle(&merged, ledgers, sink);
    }

    /// As [`Self::packet`]; `prepared` is what [`Self::prepare_packet`] made of `p`.
    pub fn packet_prepared(
        &mut self,
        p: &PacketRecord,
        prepared: &Prepared,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        self.advance(p.stamp, ledgers, sink);
        ledgers.records.decoded += 1;
        let mut prepared = *prepared;
        if p.fragment.is_some() {
            let ports = self.fragments.ports(p, self.clock);
            prepared = self.prepare(FlowKey::of_packet(p, ports, &self.params));
        }
        let side = usize::from(prepared.side);
        let Prepared { key, hash, likely, .. } = &prepared;
        let found = self.store.find_likely(key, || ends(side, p.src, p.dst), *hash, *likely);
        let mut new = found.is_none();
        if let Some(i) = found.filter(|&i| self.packet_reopens(i, p)) {
            self.renew(i, (side, p.time), false, ledgers, sink);
            new = true;
        }
        let i = found.unwrap_or_else(|| {
            self.create(&prepared, ends(side, p.src, p.dst), p.time, ledgers, sink)
        });
        let Some((new_flags, earlier)) = self.merge_packet(i, side, p, new) else {
            ledgers.records.duplicate += 1;
            return;
        };
        let claim = p.tcp.and_then(|tcp| orient::by_packet(tcp.flags, side));
        let (first, last) = (p.time, p.time);
        let merged = Merged { entry: i, new, new_flags, claim, first, last, earlier };
        self.settle(&merged, ledgers, sink);
    }

    /// Lets everything happen that is due at or before `now`. The clock never runs backwards: an
    /// earlier `now` does nothing. `now` must not be ahead of a stamp that is still to come.
    #[inline]
    pub fn advance(&mut self, now: Micros, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        self.clock = self.clock.max(now);
        if self.wheel.is_due(self.clock) {
            self.expire(ledgers, sink);
        }
    }

    #[cold]
    fn expire(&mut self, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        while self.wheel.is_due(self.clock) {
            while let Some(due) = self.wheel.pop(self.clock) {
                self.fetch_due();
                self.fire(due, ledgers, sink);
            }
            if self.is_empty() {
                self.wheel.jump(self.clock);
                return;
            }
            let mut drained = std::mem::take(&mut self.drained);
            let moved = self.wheel.step(self.clock, &mut drained);
            for at in 0..drained.len() {
                if let Some(&next) = drained.get(at + DUE_AHEAD) {
                    self.store.entries.prefetch(next);
                }
                self.schedule(drained[at]);
            }
            self.wheel.drained();
            drained.clear();
            self.drained = drained;
            if !moved {
                return;
            }
        }
    }

    /// Asks the processor to fetch what the end of the entries that are due soon reads.
    #[inline]
    fn fetch_due(&self) {
        if let Some(i) = self.wheel.ahead(2 * DUE_AHEAD) {
            self.store.entries.prefetch(i);
            self.wheel.prefetch(i);
        }
        if let Some(i) = self.wheel.ahead(DUE_AHEAD) {
            self.store.prefetch_parts(i);
        }
    }

    /// What is open now. O(flows).
    #[must_use]
    pub fn held(&self) -> Held {
        self.store.held()
    }

    /// Ends every flow, in the order of creation: with [`EndReason::EndOfFlow`] those that only
    /// lingered, the others with [`EndReason::Forced`]. The table can be used again.
    pub fn flush(&mut self, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        for i in self.store.in_order() {
            let lingers = self.store.entries[i].has(flag::ENDING);
            let reason = if lingers { EndReason::EndOfFlow } else { EndReason::Forced };
            self.end(i, reason, self.clock, ledgers, sink);
        }
    }

    /// Whether `p` opens a connection anew on the key of entry `i`: a SYN after FIN or RST. An
    /// ordinary SYN that is sent again is a part of the flow.
    fn packet_reopens(&self, i: u32, p: &PacketRecord) -> bool {
        let [a, b] = self.store.entries[i].tcp_flags;
        (a | b) & (FIN | RST) != 0 && p.tcp.is_some_and(|tcp| tcp::opens(tcp.flags))
    }

    /// Whether `r` belongs to a new connection on the key of entry `i`: its sender had reported the
    /// end of the old one, it holds a SYN, and it starts after everything that was seen. Of
    /// observation points with clocks of their own only the owner is believed.
    fn record_reopens(&self, i: u32, side: usize, r: &FlowRecord) -> bool {
        let entry = &self.store.entries[i];
        entry.side_has(side, side_flag::ENDED)
            && r.fwd.tcp_flags.is_some_and(|flags| flags & SYN != 0)
            && entry.owner(side) == Owner::Exporter
            && self.store.point(i, side) == r.point
            && r.first > self.store.span(i).1
    }

    /// Whether any evidence may still turn entry `i`: stronger than what decided so far, and before
    /// its first slice is cut.
    fn orientable(&self, i: u32) -> bool {
        self.store.entries[i].direction_by() > DirectionBy::Exporter && self.store.slices(i) == 0
    }

    /// Makes an entry for the flow that a record opens; where the table is full, in the place of
    /// the longest idle one.
    fn create(
        &mut self,
        prepared: &Prepared,
        ends: [Addr; 2],
        first: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) -> u32 {
        if self.store.is_full() {
            let oldest = self.store.longest_idle().expect("a full table holds a flow");
            self.end(oldest, EndReason::LackOfResources, self.clock, ledgers, sink);
            ledgers.slices.evicted += 1;
        }
        let Prepared { key, side, hash, .. } = prepared;
        let (i, fresh) = self.store.create(key, || ends, *hash, (usize::from(*side), first));
        if fresh {
            self.wheel.add_entry();
        }
        i
    }

    /// Ends entry `i` and opens the flow that comes after it on the same key, in its place: as if it
    /// were ended and created anew, but index, timer and maybe the point need not be touched.
    fn renew(
        &mut self,
        i: u32,
        opens: (CanonicalSide, Micros),
        keeps_point: bool,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        self.finish(i, EndReason::EndOfFlow, self.clock, ledgers, sink);
        let queued = self.store.entries[i].queued;
        self.store.renew(i, opens, keeps_point);
        if self.wheel.waits(queued) {
            self.store.entries[i].queued = queued;
        } else {
            self.wheel.cancel(i);
        }
    }

    /// As [`Self::merge_record`]. Also notes the exporter, whether its record is merged or not.
    fn merge_and_note_exporter(
        &mut self,
        i: u32,
        side: CanonicalSide,
        r: &FlowRecord,
    ) -> Option<(bool, bool)> {
        let exporter = r.point.exporter;
        let points = self.store.entries[i].points;
        // An exporter that owns a side was noted when it became the owner.
        let owns = self.store.observation(i, side).exporter() == exporter;
        let noted = owns && exporter != Addr::UNSPECIFIED;
        let before = if noted { Some(exporter) } else { self.store.sole_exporter(i) };
        let merged = self.merge_record(i, side, r);
        if !noted || self.store.entries[i].points != points {
            self.store.note_exporter(i, exporter, before);
        }
        merged
    }

    /// Merges the directions of `r` that its observation point owns. `None`: it owns none of them.
    /// Else whether there was a new TCP flag, and whether the deadline may have come nearer.
    fn merge_record(
        &mut self,
        i: u32,
        side: CanonicalSide,
        r: &FlowRecord,
    ) -> Option<(bool, bool)> {
        let reverse = r.bwd.as_ref().filter(|bwd| !bwd.is_empty());
        let forward = Some(&r.fwd).filter(|fwd| reverse.is_none() || !fwd.is_empty());
        let (mut merged, mut new_flags) = (false, false);
        for (s, counters) in [(side, forward), (1 - side, reverse)] {
            let Some(counters) = counters else { continue };
            let claimant = Claimant::Exporter { record: r, forward: s == side };
            if !self.store.claim(i, s, &claimant, self.clock, &self.params) {
                continue;
            }
            merged = true;
            new_flags |= self.store.add(i, s, counters);
            let flags = counters.tcp_flags.unwrap_or(0);
            if r.end_reason == Some(END_OF_FLOW) || flags & (FIN | RST) != 0 {
                self.store.entries[i].side_flags[s] |= side_flag::ENDED;
            }
        }
        if !merged {
            return None;
        }
        self.store.note_record(i, r, side);
        let entry = &mut self.store.entries[i];
        let switched = entry.has(flag::BY_PACKET);
        entry.set(flag::BY_PACKET, false);
        let ends = self.has_ended(i) && self.ends(i);
        Some((new_flags, switched || ends))
    }

    /// Merges `p`. `None`: an exporter owns its direction. Else whether there was a new TCP flag,
    /// and whether the deadline may have come nearer.
    fn merge_packet(
        &mut self,
        i: u32,
        side: CanonicalSide,
        p: &PacketRecord,
        new: bool,
    ) -> Option<(bool, bool)> {
        if !self.store.claim(i, side, &Claimant::Packet(p), self.clock, &self.params) {
            return None;
        }
        if new {
            self.store.open_by_packet(i, p);
        }
        self.store.note_icmp(i, side, p);
        let counters = Counters {
            octets: u64::from(p.octets),
            packets: 1,
            octets_l2: Some(u64::from(p.octets_l2)),
            payload: Some(u64::from(p.payload)),
            tcp_flags: p.tcp.map(|tcp| tcp.flags),
        };
        let new_flags = self.store.add(i, side, &counters);
        let entry = &mut self.store.entries[i];
        let switched = !entry.has(flag::BY_PACKET);
        if switched {
            self.store.turn_to_packets(i);
        }
        let ended = p.tcp.is_some_and(|tcp| self.store.follow(i, side, tcp, p));
        let ends = ended && self.ends(i);
        Some((new_flags, switched || ends))
    }

    /// Whether both sides of entry `i` have reported their end.
    #[inline]
    fn has_ended(&self, i: u32) -> bool {
        let [a, b] = self.store.entries[i].side_flags;
        a & b & side_flag::ENDED != 0
    }

    /// Notes that entry `i` was closed or reset; false if that is known.
    fn ends(&mut self, i: u32) -> bool {
        let entry = &mut self.store.entries[i];
        let begins = !entry.has(flag::ENDING);
        if begins {
            entry.set(flag::ENDING, true);
            entry.opened = self.clock.plus(self.params.linger_us);
        }
        begins
    }

    /// The second half of every merge: ledgers, times, orientation, deadlines, then the sink.
    fn settle(&mut self, merged: &Merged, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let i = merged.entry;
        ledgers.records.merged += 1;
        let opens = self.store.extend(i, merged.first, merged.last, self.clock);
        if opens {
            ledgers.slices.opened += 1;
            ledgers.slices.held += 1;
        }
        ledgers.slices.held_records += 1;
        let turned = self.orient(i, merged.claim) && !merged.new;
        if (opens || merged.earlier) && self.next_event(i).0 < self.store.entries[i].queued {
            self.schedule(i);
        }
        if !sink.watches() {
            return;
        }
        if merged.new {
            self.tell(i, self.clock, |flow| sink.opened(flow));
            if self.store.reaches(i, merged.new_flags) {
                self.tell(i, self.clock, |flow| sink.woke(flow));
            }
        } else if turned {
            self.tell(i, self.clock, |flow| sink.turned(flow));
        } else if self.store.reaches(i, merged.new_flags) {
            self.tell(i, self.clock, |flow| sink.woke(flow));
        }
    }

    /// Lets `claim` decide who the initiator is, if it is stronger than what decided so far and no
    /// slice was cut yet. Returns whether the flow was turned.
    fn orient(&mut self, i: u32, claim: Option<(DirectionBy, CanonicalSide)>) -> bool {
        let Some((by, initiator)) = claim else { return false };
        // Stronger variants of `DirectionBy` come first.
        let stronger = by < self.store.entries[i].direction_by() && self.store.slices(i) == 0;
        stronger && self.store.entries[i].turn(by, initiator)
    }

    /// What happens next to entry `i` if no record comes, and when. A closed flow is not cut while
    /// it lingers; if a slice would be cut when the flow ends, the flow ends.
    fn next_event(&self, i: u32) -> (Micros, Event) {
        let entry = &self.store.entries[i];
        if entry.has(flag::ENDING) {
            return (entry.opened, Event::End(EndReason::EndOfFlow));
        }
        let params = &self.params;
        let packets = entry.has(flag::BY_PACKET);
        let active_us = if packets { params.packets } else { params.netflow }.active_us;
        let idle = entry.arrival().plus(self.store.idle_us(i, params));
        let cut = entry.opened.plus(active_us);
        if entry.records > 0 && cut < idle {
            (cut, Event::Cut)
        } else {
            (idle, Event::End(EndReason::Idle))
        }
    }

    /// Shows entry `i` to a sink, as of `now`, and takes note of the wake-up values it leaves.
    fn tell(&mut self, i: u32, now: Micros, call: impl FnOnce(&mut LiveFlow<'_>)) {
        self.store.take_memory(i, &mut self.memory);
        call(&mut LiveFlow {
            now,
            memory: &mut self.memory,
            store: &self.store,
            entry: i,
            params: &self.params,
            room: Cell::new(Some(&mut self.view)),
            view: Cell::new(None),
        });
        self.store.put_memory(i, &mut self.memory);
    }

    /// Queues entry `i` in the wheel for what happens to it next.
    fn schedule(&mut self, i: u32) {
        let deadline = self.next_event(i).0;
        let entry = &mut self.store.entries[i];
        entry.queued = deadline;
        self.wheel.schedule(Due { deadline, flow: entry.number, entry: i });
    }

    /// Does what is due, or puts it off where records have moved the deadline.
    fn fire(&mut self, due: Due, ledgers: &mut Ledgers, sink: &mut impl FlowSink) {
        let i = due.entry;
        let entry = &self.store.entries[i];
        if !entry.has(flag::LIVE) || entry.number != due.flow || entry.queued != due.deadline {
            return;
        }
        match self.next_event(i) {
            (at, _) if at > due.deadline => self.schedule(i),
            (at, Event::End(reason)) => self.end(i, reason, at, ledgers, sink),
            (at, Event::Cut) => {
                self.cut(i, (EndReason::Active, false), at, ledgers, sink);
                self.store.next_slice(i);
                self.schedule(i);
            }
        }
    }

    /// Ends the flow of entry `i` and frees the entry.
    fn end(
        &mut self,
        i: u32,
        reason: EndReason,
        now: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        self.finish(i, reason, now, ledgers, sink);
        self.wheel.cancel(i);
        self.store.remove(i);
    }

    /// Cuts the flow's last slice, unless it would be empty and the sink has no use for it.
    fn finish(
        &mut self,
        i: u32,
        reason: EndReason,
        now: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        let mut wanted = true;
        if self.store.entries[i].records == 0 {
            self.tell(i, now, |flow| wanted = sink.ended(flow));
            ledgers.slices.opened += u64::from(wanted);
            ledgers.slices.held += u64::from(wanted);
        }
        if wanted {
            self.cut(i, (reason, true), now, ledgers, sink);
        }
    }

    /// Cuts the open slice (one without records, if none is open) and tells the sink.
    fn cut(
        &mut self,
        i: u32,
        (end_reason, last): (EndReason, bool),
        now: Micros,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        let (records, number) = (self.store.records(i), self.store.slices(i));
        ledgers.slices.held -= 1;
        ledgers.slices.shipped += 1;
        ledgers.slices.held_records -= records;
        ledgers.slices.shipped_records += records;
        let cut = Cut { number, last, end_reason, records };
        self.tell(i, now, |flow| sink.cut(flow, cut));
    }
}
