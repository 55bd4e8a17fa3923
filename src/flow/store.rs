//! The entries of one shard and their parts: found by key, made while there is room, and the one
//! that was merged into longest ago.

use std::collections::BTreeMap;

use super::Memory;
use super::entry::{Entry, Exported, Extra, Labels, NONE, Past, Totals, flag};
use super::index::Index;
use super::intern::Interner;
use super::key::{CanonicalSide, FlowKey, PackedKey};
use super::observation::{Observation, Report};
use super::params::Params;
use super::record::{Counters, FlowRecord, ObservationPoint, PacketRecord, TcpHeader};
use super::slab::{Pool, Slab};
use crate::metrics::ledger::Held;
use crate::net::Addr;
use crate::time::{MILLISECOND, Micros};

/// [`Entry::memory`] is the number of a [`Memory`] in the pool, else a generation.
const POOLED: u32 = 1 << 31;
/// The number of the observation point of this sensor's capture, which is unsampled.
pub(super) const CAPTURE: u32 = 1;

/// Entries with their index. Memory grows with the number of flows up to `capacity` and is then
/// used again and again.
#[derive(Clone, Debug)]
pub(super) struct Store {
    capacity: usize,
    seed: u64,
    index: Index,
    pub(super) entries: Slab<Entry>,
    free: Vec<u32>,
    /// Pairs of addresses that are not both of IPv4.
    pairs: Pool<[Addr; 2]>,
    pub(super) pasts: Pool<Past>,
    memories: Pool<Memory>,
    extras: BTreeMap<u32, Box<Extra>>,
    pub(super) points: Interner<Observation>,
    pub(super) labels: Interner<Labels>,
    /// Number of the flow created last.
    created: u32,
    /// Merges so far, of 32 bits.
    merges: u32,
    /// Entries that were merged into longest ago when they were last put in order, the longest last:
    /// (merge << 32 | entry). Those merged into since are skipped.
    oldest: Vec<u64>,
}

impl Store {
    pub(super) fn new(params: &Params) -> Self {
        let (capacity, seed) = (params.capacity.max(1), params.hash_seed);
        let mut points = Interner::new(seed);
        assert_eq!(points.hold(&Observation::capture()), CAPTURE);
        Self {
            capacity,
            seed,
            index: Index::new(capacity),
            entries: Slab::new(capacity),
            free: Vec::new(),
            pairs: Pool::new(),
            pasts: Pool::new(),
            memories: Pool::new(),
            extras: BTreeMap::new(),
            points,
            labels: Interner::new(seed),
            created: 0,
            merges: 0,
            oldest: Vec::new(),
        }
    }

    /// Takes the memory of `capacity` ordinary flows, of which there must be none yet.
    pub(super) fn reserve(&mut self) {
        self.index.reserve(self.capacity);
        self.entries.reserve();
        self.free.reserve_exact(self.capacity);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() as usize - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Asks the processor to fetch the slots that a look-up of `hash` reads.
    #[inline]
    pub(super) fn prefetch_slots(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The entry that a look-up of `hash` is likely to find; asks the processor to fetch it.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) -> Option<u32> {
        let likely = self.index.find(hash, |_| true);
        if let Some(i) = likely {
            self.entries.prefetch(i);
        }
        likely
    }

    /// Asks the processor to fetch what the removal of entry `i` reads besides the entry itself.
    #[inline]
    pub(super) fn prefetch_parts(&self, i: u32) {
        self.index.prefetch(self.hash(i));
        self.prefetch_shared(i);
    }

    /// Asks the processor to fetch what entry `i` refers to.
    #[inline]
    pub(super) fn prefetch_shared(&self, i: u32) {
        let Entry { points, past, memory, .. } = &self.entries[i];
        points.iter().for_each(|&number| self.points.prefetch(number));
        if *past != NONE {
            self.pasts.prefetch(*past);
        }
        if memory & POOLED != 0 {
            self.memories.prefetch(memory & !POOLED);
        }
    }

    /// The hash of where `record` was seen; asks the processor to fetch the slot that it leads to.
    #[inline]
    pub(super) fn prefetch_report(&self, record: &FlowRecord) -> u32 {
        let hash = self.points.hash(Report { record, forward: true }.words());
        self.points.prefetch_slot(hash);
        hash
    }

    /// The number of the entry with `key`, which is `likely` the one. `ends` gives addresses that do
    /// not lie inside the key.
    #[inline]
    pub(super) fn find_likely(
        &self,
        key: &PackedKey,
        ends: impl Fn() -> [Addr; 2],
        hash: u64,
        likely: Option<u32>,
    ) -> Option<u32> {
        match likely {
            // No two entries in use have the same key.
            Some(i) if self.entries[i].has(flag::LIVE) && self.has_key(i, key, &ends) => Some(i),
            _ => self.index.find(hash, |i| self.has_key(i, key, &ends)),
        }
    }

    #[inline]
    fn has_key(&self, i: u32, key: &PackedKey, ends: impl Fn() -> [Addr; 2]) -> bool {
        let held = &self.entries[i].key;
        held.is_like(key) && held.pair().is_none_or(|pair| self.pairs[pair] == ends())
    }

    /// The hash of the key of entry `i`.
    #[inline]
    fn hash(&self, i: u32) -> u64 {
        let key = &self.entries[i].key;
        key.hash(|| key.pair().map_or([Addr::UNSPECIFIED; 2], |pair| self.pairs[pair]), self.seed)
    }

    /// The key of entry `i`.
    #[inline]
    pub(super) fn key(&self, i: u32) -> FlowKey {
        self.entries[i].key.unpack(|pair| self.pairs[pair])
    }

    /// Makes an entry; the store must not be full. Returns its number and whether it is a place
    /// that never was used before.
    pub(super) fn create(
        &mut self,
        key: &PackedKey,
        ends: impl FnOnce() -> [Addr; 2],
        hash: u64,
        (sender, first): (CanonicalSide, Micros),
    ) -> (u32, bool) {
        // After 2^32 flows of a shard the numbers begin anew: they only break ties.
        self.created = self.created.wrapping_add(1);
        self.make_room();
        let wide = key.pair().is_some();
        let key = if wide { key.with_pair(self.pairs.add(ends())) } else { *key };
        let entry = Entry::new(key, self.created, first, sender);
        let (i, fresh) = match self.free.pop() {
            Some(i) => {
                self.entries[i] = entry;
                (i, false)
            }
            None => (self.entries.push(entry), true),
        };
        self.index.insert(hash, i);
        // Where the next one will be, so that it is in the cache by then.
        match self.free.last() {
            Some(&next) => self.entries.prefetch(next),
            None => self.entries.prefetch_next(),
        }
        (i, fresh)
    }

    /// Makes a new flow of entry `i` with the same key. With `keeps_point` the sender's side keeps its
    /// observation point.
    pub(super) fn renew(
        &mut self,
        i: u32,
        (sender, first): (CanonicalSide, Micros),
        keeps_point: bool,
    ) {
        self.created = self.created.wrapping_add(1);
        let entry = &mut self.entries[i];
        let point = if keeps_point { std::mem::take(&mut entry.points[sender]) } else { 0 };
        self.release_parts(i);
        let entry = &mut self.entries[i];
        *entry = Entry::new(entry.key, self.created, first, sender);
        entry.points[sender] = point;
    }

    /// Makes room in the index for one more entry.
    #[inline]
    fn make_room(&mut self) {
        let Self { index, entries, pairs, seed, .. } = self;
        index.make_room(|i| {
            let key = &entries[i].key;
            let ends = || key.pair().map_or([Addr::UNSPECIFIED; 2], |pair| pairs[pair]);
            key.hash(ends, *seed)
        });
        // What moves with the next entry is on its way by then.
        index.asked_next().for_each(|i| entries.prefetch(i));
    }

    /// Frees entry `i` with all of its parts.
    pub(super) fn remove(&mut self, i: u32) {
        self.index.remove(self.hash(i), i);
        self.release_parts(i);
        let entry = &mut self.entries[i];
        entry.set(flag::LIVE, false);
        if let Some(pair) = entry.key.pair() {
            self.pairs.take(pair);
        }
        self.free.push(i);
    }

    /// Gives back what entry `i` holds besides its key.
    fn release_parts(&mut self, i: u32) {
        let entry = &self.entries[i];
        let Entry { points, past, memory, .. } = *entry;
        let extra = entry.has(flag::EXTRA);
        self.labels.release(entry.labels());
        points.into_iter().filter(|&n| n != CAPTURE).for_each(|n| self.points.release(n));
        if past != NONE {
            self.pasts.take(past);
        }
        if memory & POOLED != 0 {
            drop(self.memories.take(memory & !POOLED));
        }
        if extra && let Some(extra) = self.extras.remove(&i) {
            self.labels.release(extra.exported.labels);
        }
    }

    /// Every entry in use, in the order of creation.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let live = (0..).zip(self.entries.iter()).filter(|(_, entry)| entry.has(flag::LIVE));
        let mut flows: Vec<(u32, u32)> = live.map(|(i, entry)| (entry.number, i)).collect();
        flows.sort_unstable();
        flows.into_iter().map(|(_, i)| i).collect()
    }

    /// Open slices, and the records in them.
    pub(super) fn held(&self) -> Held {
        let live = (0..).zip(self.entries.iter()).filter(|(_, entry)| entry.has(flag::LIVE));
        let open = live.filter(|(_, entry)| entry.records > 0);
        open.fold(Held::default(), |held, (i, _)| Held {
            slices: held.slices + 1,
            records: held.records + self.records(i),
        })
    }

    /// The past of entry `i`, made if it has none.
    pub(super) fn past_mut(&mut self, i: u32) -> &mut Past {
        let entry = &mut self.entries[i];
        if entry.past == NONE {
            let past = Past { tcp_flags: entry.tcp_flags, ..Past::default() };
            entry.past = self.pasts.add(past);
        }
        &mut self.pasts[entry.past]
    }

    #[inline]
    pub(super) fn past(&self, i: u32) -> Option<&Past> {
        let past = self.entries[i].past;
        (past != NONE).then(|| &self.pasts[past])
    }

    /// Counters of `side` over the flow's life.
    #[inline]
    pub(super) fn total(&self, i: u32, side: CanonicalSide) -> Totals {
        let held = self.entries[i].held(side);
        self.past(i).map_or(held, |past| past.total(side, &held))
    }

    /// Adds `counters` to `side`; returns whether there was a TCP flag that it had not.
    #[inline]
    pub(super) fn add(&mut self, i: u32, side: CanonicalSide, counters: &Counters) -> bool {
        let entry = &mut self.entries[i];
        let new_flags = entry.note_counters(side, counters);
        let more = entry.add(side, counters);
        if entry.past != NONE {
            self.pasts[entry.past].tcp_flags[side] |= counters.tcp_flags.unwrap_or(0);
        }
        if let Some(more) = more {
            self.past_mut(i).spill(side, &more);
        }
        new_flags
    }

    /// First and last instant of the flow.
    #[inline]
    pub(super) fn span(&self, i: u32) -> (Micros, Micros) {
        let entry = &self.entries[i];
        let Some(past) = self.past(i).filter(|past| past.slices > 0) else {
            return (entry.first, entry.last);
        };
        if entry.records == 0 {
            return (past.first, past.last);
        }
        (past.first.min(entry.first), past.last.max(entry.last))
    }

    /// Slices that were cut.
    #[inline]
    pub(super) fn slices(&self, i: u32) -> u32 {
        self.past(i).map_or(0, |past| past.slices)
    }

    /// Records in the open slice.
    pub(super) fn records(&self, i: u32) -> u64 {
        let more = self.past(i).map_or(0, |past| past.records);
        u64::from(self.entries[i].records) + more
    }

    /// Takes in the times of a merged record; returns whether it opened a slice.
    #[inline]
    pub(super) fn extend(&mut self, i: u32, first: Micros, last: Micros, stamp: Micros) -> bool {
        let entry = &mut self.entries[i];
        let opens = entry.records == 0;
        if opens {
            (entry.first, entry.last) = (first, last);
            if !entry.has(flag::ENDING) {
                entry.opened = stamp;
            }
        } else {
            entry.first = entry.first.min(first);
            entry.last = entry.last.max(last);
        }
        if entry.records == u32::MAX {
            entry.records = 1;
            self.past_mut(i).records += u64::from(u32::MAX);
        } else {
            entry.records += 1;
        }
        self.touch(i);
        opens
    }

    /// Closes the open slice: what the flow has counted is what the next one starts from.
    pub(super) fn next_slice(&mut self, i: u32) {
        let totals = [0, 1].map(|side| self.total(i, side));
        let (first, last) = self.span(i);
        let retransmits = self.entries[i].tcp().retransmits;
        let past = self.past_mut(i);
        past.base = totals;
        past.base_retransmits = retransmits;
        (past.first, past.last) = (first, last);
        past.records = 0;
        past.slices += 1;
        past.tcp_flags = [0; 2];
        self.entries[i].records = 0;
    }

    /// Takes what the packet that opens the flow tells of it.
    pub(super) fn open_by_packet(&mut self, i: u32, packet: &PacketRecord) {
        let entry = &mut self.entries[i];
        entry.tos = packet.tos;
        entry.set(flag::TOS, true);
        if let Some(vlan) = packet.vlan {
            entry.vlan = vlan;
            entry.set(flag::VLAN, true);
        }
        if packet.tunnel.is_some() {
            self.extra_mut(i).tunnel = packet.tunnel;
        }
    }

    /// The timeouts of packets hold from now on: what exporters asked for is forgotten.
    pub(super) fn turn_to_packets(&mut self, i: u32) {
        let mut exported = self.exported(i);
        if exported.idle_ms > 0 {
            exported.idle_ms = 0;
            self.set_exported(i, &exported);
        }
        let entry = &mut self.entries[i];
        entry.set(flag::PACKETS | flag::BY_PACKET | flag::PACKET_IDLE, true);
    }

    /// Follows the TCP header of a packet that `side` sent; returns whether the connection has
    /// ended.
    pub(super) fn follow(
        &mut self,
        i: u32,
        side: CanonicalSide,
        header: TcpHeader,
        packet: &PacketRecord,
    ) -> bool {
        let mut tcp = self.entries[i].tcp();
        tcp.update(side, header, packet);
        if let Some(exported) = self.entries[i].set_tcp(&tcp) {
            self.extra_mut(i).exported = exported;
        }
        tcp.has_ended()
    }

    /// What exporters told of entry `i` besides counters and points.
    #[inline]
    pub(super) fn exported(&self, i: u32) -> Exported {
        let in_place = self.entries[i].exported();
        in_place.or_else(|| Some(self.extra(i)?.exported)).unwrap_or_default()
    }

    pub(super) fn set_exported(&mut self, i: u32, exported: &Exported) {
        if self.entries[i].has(flag::TCP) {
            self.extra_mut(i).exported = *exported;
        } else {
            self.entries[i].set_exported(exported);
        }
    }

    #[inline]
    pub(super) fn extra(&self, i: u32) -> Option<&Extra> {
        let extra = self.entries[i].has(flag::EXTRA).then(|| self.extras.get(&i));
        extra.flatten().map(|extra| &**extra)
    }

    /// The extra of entry `i`, made if it has none.
    pub(super) fn extra_mut(&mut self, i: u32) -> &mut Extra {
        self.entries[i].set(flag::EXTRA, true);
        self.extras.entry(i).or_default()
    }

    /// What the owner of `side` told of where it saw the side.
    #[inline]
    pub(super) fn observation(&self, i: u32, side: CanonicalSide) -> &Observation {
        &self.points[self.entries[i].points[side]]
    }

    #[inline]
    pub(super) fn point(&self, i: u32, side: CanonicalSide) -> ObservationPoint {
        self.observation(i, side).point()
    }

    /// The idle timeout of entry `i` as it is, in microseconds.
    #[inline]
    pub(super) fn idle_us(&self, i: u32, params: &Params) -> i64 {
        let entry = &self.entries[i];
        if entry.has(flag::BY_PACKET) {
            return params.packets.idle_us;
        }
        let asked = i64::from(self.exported(i).idle_ms) * MILLISECOND;
        let floor = if entry.has(flag::PACKET_IDLE) { params.packets.idle_us } else { 0 };
        params.netflow.idle_us.max(asked).max(floor)
    }

    /// Puts what detection remembers of entry `i` into `memory`, which holds nothing;
    /// [`Self::put_memory`] puts it back.
    #[inline]
    pub(super) fn take_memory(&mut self, i: u32, memory: &mut Memory) {
        let place = self.entries[i].memory;
        if place & POOLED == 0 {
            memory.generation = place;
        } else {
            std::mem::swap(memory, &mut self.memories[place & !POOLED]);
        }
    }

    /// Takes `memory` back, and leaves nothing in it.
    #[inline]
    pub(super) fn put_memory(&mut self, i: u32, memory: &mut Memory) {
        let entry = &mut self.entries[i];
        let watched = memory.wake != super::Wake::default();
        entry.set(flag::WATCHED, watched);
        let empty = memory.fired.is_empty() && memory.excluded.is_none();
        let plain = !watched && empty && memory.generation & POOLED == 0;
        if entry.memory & POOLED == 0 && plain {
            entry.memory = memory.generation;
        } else {
            self.put_pooled_memory(i, plain, std::mem::take(memory));
        }
        memory.generation = 0;
    }

    fn put_pooled_memory(&mut self, i: u32, plain: bool, memory: Memory) {
        let entry = &mut self.entries[i];
        match (entry.memory & POOLED != 0, plain) {
            (true, true) => {
                self.memories.take(entry.memory & !POOLED);
                entry.memory = memory.generation;
            }
            (false, true) => entry.memory = memory.generation,
            (true, false) => self.memories[entry.memory & !POOLED] = memory,
            (false, false) => entry.memory = self.memories.add(memory) | POOLED,
        }
    }

    /// Whether a wake-up value is reached. A sum is never below either of its parts, so comparing
    /// the sums covers both directions too.
    #[inline]
    pub(super) fn reaches(&self, i: u32, new_flags: bool) -> bool {
        let place = self.entries[i].memory;
        if !self.entries[i].has(flag::WATCHED) || place & POOLED == 0 {
            return false;
        }
        let wake = &self.memories[place & !POOLED].wake;
        let [a, b] = [0, 1].map(|side| self.total(i, side));
        let (first, last) = self.span(i);
        a.octets.saturating_add(b.octets) >= wake.octets
            || a.packets.saturating_add(b.packets) >= wake.packets
            || a.octets_l2.saturating_add(b.octets_l2) >= wake.other_octets
            || a.payload.saturating_add(b.payload) >= wake.other_octets
            || last.since(first) >= wake.duration_us
            || new_flags && wake.on_new_flags
    }

    /// Makes entry `i` reach its wake-up values, if it has any: they are raw counters, and no longer
    /// stand for the thresholds of rules once the sampling interval is another.
    pub(super) fn wake(&mut self, i: u32) {
        let place = self.entries[i].memory;
        if self.entries[i].has(flag::WATCHED) && place & POOLED != 0 {
            self.memories[place & !POOLED].wake.packets = 0;
        }
    }

    /// Makes `i` the entry that was merged into last.
    #[inline]
    fn touch(&mut self, i: u32) {
        if self.merges == u32::MAX {
            self.renumber_merges();
        }
        self.merges += 1;
        self.entries[i].touched = self.merges;
    }

    /// Begins to count merges anew, in the order in which they were. Once in 2^32 merges.
    fn renumber_merges(&mut self) {
        let mut ages = self.ages();
        ages.sort_unstable();
        self.merges = u32::try_from(ages.len()).expect("fewer than 2^32 entries");
        self.oldest.clear();
        for (place, age) in (1..).zip(ages) {
            self.entries[entry_of(age)].touched = place;
        }
    }

    /// (merge << 32 | entry) of every entry in use.
    fn ages(&self) -> Vec<u64> {
        let live = (0..).zip(self.entries.iter()).filter(|(_, entry)| entry.has(flag::LIVE));
        let age = |(i, entry): (u32, &Entry)| u64::from(entry.touched) << 32 | u64::from(i);
        live.map(age).collect()
    }

    /// The entry that was merged into longest ago. An ordinary merge pays nothing for it: when it
    /// is asked for, a quarter of the entries is put in order, and taken from there as long as it
    /// holds any that was not merged into since. Each of those was idle for longer than any other
    /// entry. O(1) over as many merges and calls as there are entries.
    pub(super) fn longest_idle(&mut self) -> Option<u32> {
        loop {
            while let Some(&age) = self.oldest.last() {
                let entry = &self.entries[entry_of(age)];
                self.oldest.pop();
                if entry.has(flag::LIVE) && u64::from(entry.touched) == age >> 32 {
                    return Some(entry_of(age));
                }
            }
            let mut ages = self.ages();
            let quarter = ages.len().div_ceil(4);
            if quarter == 0 {
                return None;
            }
            ages.select_nth_unstable(quarter - 1);
            self.oldest.clear();
            self.oldest.extend_from_slice(&ages[..quarter]);
            self.oldest.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    #[cfg(test)]
    pub(super) fn set_merges(&mut self, merges: u32) {
        self.merges = merges;
    }
}

/// Octets of `flows` entries and their index.
pub(super) const fn octets(flows: usize) -> usize {
    flows * size_of::<Entry>() + Index::octets(flows)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn entry_of(age: u64) -> u32 {
    age as u32
}
