//! One owner per direction (DESIGN 3.10): of several observation points that see a flow, one adds.
//!
//! The first that reports a direction owns it. Another takes over when its sampling interval is
//! lower, both being known, or when the owner was silent for longer than the idle timeout. What
//! was counted stays counted: a takeover may count one export interval twice, or miss one.

use super::entry::{EXPORTERS_MAX, NONE, Owner, flag, side_flag};
use super::key::{CanonicalSide, is_icmp};
use super::observation::{Observation, Report};
use super::params::{IDLE_MAX_US, Params};
use super::record::{FIN, FlowRecord, Name, ObservationPoint, PacketRecord, RST};
use super::store::{CAPTURE, Store};
use super::table::END_OF_FLOW;
use crate::config::Dedup;
use crate::net::Addr;
use crate::time::{MILLISECOND, Micros};

/// Who wants to add to a direction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claimant<'a> {
    /// This sensor's capture: unsampled.
    Packet(&'a PacketRecord),
    /// An exporter, with its record's forward or reverse direction.
    Exporter { record: &'a FlowRecord, forward: bool },
}

impl Claimant<'_> {
    const fn owner(&self) -> Owner {
        match self {
            Self::Packet(_) => Owner::Packets,
            Self::Exporter { .. } => Owner::Exporter,
        }
    }

    /// The point that `side` of a flow has it as; captures have no exporter.
    fn point(&self) -> ObservationPoint {
        match self {
            Self::Packet(_) => ObservationPoint::default(),
            Self::Exporter { record, .. } => record.point,
        }
    }

    /// 0: unknown.
    const fn sampling_interval(&self) -> u32 {
        match self {
            Self::Packet(_) => 1,
            Self::Exporter { record, .. } => record.sampling_interval,
        }
    }
}

impl Store {
    /// Whether what `claimant` brings for `side` of entry `i` is to be added, now that it came at
    /// `now`. Makes it the owner where it takes over, and marks the owner as heard of.
    pub(super) fn claim(
        &mut self,
        i: u32,
        side: CanonicalSide,
        claimant: &Claimant<'_>,
        now: Micros,
        params: &Params,
    ) -> bool {
        let entry = &mut self.entries[i];
        let (held, owner) = (entry.owner(side), claimant.owner());
        if held == Owner::Packets && owner == Owner::Packets {
            entry.arrivals[side] = now;
            return true;
        }
        let owns = held == owner && self.point(i, side) == claimant.point();
        if !owns {
            let takes_over = held == Owner::None
                || params.dedup == Dedup::Owner && self.gives_way(i, side, claimant, now, params);
            if !takes_over {
                if params.dedup == Dedup::Off {
                    // Nobody asks when the owner was heard of last, but for the idle timeout.
                    self.entries[i].arrivals[side] = now;
                    return true;
                }
                return false;
            }
        }
        let entry = &mut self.entries[i];
        entry.set_owner(side, owner);
        entry.arrivals[side] = now;
        match claimant {
            Claimant::Packet(packet) => self.note_packet(i, side, packet),
            Claimant::Exporter { record, forward } => {
                self.note_report(i, side, record, *forward, !owns);
            }
        }
        true
    }

    /// Whether the owner of `side` gives way: it samples more rarely, or was silent for too long.
    fn gives_way(
        &self,
        i: u32,
        side: CanonicalSide,
        claimant: &Claimant<'_>,
        now: Micros,
        params: &Params,
    ) -> bool {
        let theirs = self.observation(i, side).sampling_interval;
        let ours = claimant.sampling_interval();
        0 < ours && ours < theirs
            || now.since(self.entries[i].arrivals[side]) > self.idle_us(i, params)
    }

    /// Takes what the first packet of a side tells. Capture has one observation point.
    fn note_packet(&mut self, i: u32, side: CanonicalSide, packet: &PacketRecord) {
        let before = self.sole_exporter(i);
        let point = std::mem::replace(&mut self.entries[i].points[side], CAPTURE);
        self.points.release(point);
        if before.is_some() && self.sole_exporter(i) != before {
            let exporters = &mut self.extra_mut(i).exporters;
            exporters.get_or_insert_with(|| before.into_iter().collect());
        }
        let entry = &mut self.entries[i];
        if !entry.side_has(side, side_flag::TTL) {
            entry.ttl[side] = packet.ttl;
            entry.side_flags[side] |= side_flag::TTL;
            if let Some(tcp) = packet.tcp {
                entry.mark[side] = tcp.flags;
                entry.side_flags[side] |= side_flag::MARK;
            }
        }
    }

    /// Takes what the owner of `side` tells besides counters; of a new owner everything.
    fn note_report(
        &mut self,
        i: u32,
        side: CanonicalSide,
        record: &FlowRecord,
        forward: bool,
        new_owner: bool,
    ) {
        let report = Report { record, forward };
        if new_owner {
            let hash = self.points.hash(report.words());
            let make = || report.after(&Observation::default());
            let number = self.points.hold_like(hash, |held| report.is(held), make);
            self.set_point(i, side, number);
        } else if !report.adds_nothing_to(self.observation(i, side)) {
            let next = report.after(self.observation(i, side));
            let number = self.points.hold(&next);
            self.set_point(i, side, number);
        }
        let mut exported = self.exported(i);
        if record.first < exported.starts[side] {
            exported.starts[side] = record.first;
            self.set_exported(i, &exported);
        }
    }

    fn set_point(&mut self, i: u32, side: CanonicalSide, number: u32) {
        let before = std::mem::replace(&mut self.entries[i].points[side], number);
        let [was, is] = [before, number].map(|at| self.points[at].sampling_interval.max(1));
        if was != is {
            self.wake(i);
        }
        if before != CAPTURE {
            self.points.release(before);
        }
    }

    /// The ordinary merge: the owner of the source's side reports again, in one direction, and
    /// brings nothing but counters, times and maybe the side's end. Returns whether there was a TCP
    /// flag that the side had not; `None`, and nothing is changed, if there is more to it.
    #[inline]
    pub(super) fn merge_again(
        &mut self,
        i: u32,
        side: CanonicalSide,
        r: &FlowRecord,
        now: Micros,
    ) -> Option<bool> {
        if brings_more(r) {
            return None;
        }
        let entry = &mut self.entries[i];
        let seen = &self.points[entry.points[side]];
        let report = Report { record: r, forward: true };
        let same = entry.is_plainly_exported(side)
            && seen.point() == r.point
            && report.adds_nothing_to(seen)
            && entry.knows(side, r);
        if !same || !entry.add_both(side, r.fwd.octets, r.fwd.packets) {
            return None;
        }
        let new_flags = self.note_plainly(i, side, r, now);
        let past = self.entries[i].past;
        if past != NONE {
            self.pasts[past].tcp_flags[side] |= r.fwd.tcp_flags.unwrap_or(0);
        }
        Some(new_flags)
    }

    /// Whether `r` is the first of `side`, from the exporter that owns the other side: it is merged as
    /// if the side were a flow of its own.
    #[inline]
    pub(super) fn is_answered_by(&self, i: u32, side: CanonicalSide, r: &FlowRecord) -> bool {
        let entry = &self.entries[i];
        let plain = !entry.has(flag::BY_PACKET | flag::TCP | flag::EXTRA) && entry.past == NONE;
        let first = entry.owner(side) == Owner::None && entry.owner(1 - side) == Owner::Exporter;
        plain && first && self.observation(i, 1 - side).exporter() == r.point.exporter
    }

    /// The ordinary opening of a flow or a side: an exporter reports what nobody has yet. `seen` is
    /// the hash of where. Returns as [`Self::merge_again`].
    #[inline]
    pub(super) fn open_by_record(
        &mut self,
        i: u32,
        side: CanonicalSide,
        r: &FlowRecord,
        (seen, now): (u32, Micros),
    ) -> Option<bool> {
        if brings_more(r) || !self.entries[i].add_both(side, r.fwd.octets, r.fwd.packets) {
            return None;
        }
        // A flow that was renewed may have kept the point.
        if self.entries[i].points[side] == 0 {
            let report = Report { record: r, forward: true };
            let make = || report.after(&Observation::default());
            let number = self.points.hold_like(seen, |held| report.is(held), make);
            self.entries[i].points[side] = number;
        }
        // The side had no interval: what rules wait for is not what it was.
        if r.sampling_interval > 1 {
            self.wake(i);
        }
        self.entries[i].set_owner(side, Owner::Exporter);
        self.entries[i].start(side, r.first);
        let new_flags = self.note_plainly(i, side, r, now);
        self.note_record(i, r, side);
        Some(new_flags)
    }

    /// Whether the flow that comes after entry `i`, opened by `r` from `side`, keeps the point of that
    /// side.
    #[inline]
    pub(super) fn keeps_point(&self, i: u32, side: CanonicalSide, r: &FlowRecord) -> bool {
        !brings_more(r) && Report { record: r, forward: true }.is(self.observation(i, side))
    }

    /// Takes the arrival, the flags and the end of a side that its owner tells.
    #[inline]
    fn note_plainly(&mut self, i: u32, side: CanonicalSide, r: &FlowRecord, now: Micros) -> bool {
        let entry = &mut self.entries[i];
        entry.arrivals[side] = now;
        let flags = r.fwd.tcp_flags.unwrap_or(0);
        let new_flags = flags & !entry.tcp_flags[side] != 0;
        entry.tcp_flags[side] |= flags;
        let knows = if r.fwd.tcp_flags.is_some() { side_flag::KNOWS_FLAGS } else { 0 };
        entry.side_flags[side] |= knows | if closes(r) { side_flag::ENDED } else { 0 };
        new_flags
    }

    /// Notes that `exporter` saw the flow, if there is room. `before` is the sole exporter that its
    /// observation points told before the record was merged.
    pub(super) fn note_exporter(&mut self, i: u32, exporter: Addr, before: Option<Addr>) {
        let listed = self.extra(i).is_some_and(|extra| extra.exporters.is_some());
        if !listed {
            let sole = if exporter == Addr::UNSPECIFIED { before } else { Some(exporter) };
            let one = before.is_none_or(|before| Some(before) == sole);
            if one && self.sole_exporter(i) == sole {
                return;
            }
            self.extra_mut(i).exporters = Some(before.into_iter().collect());
        }
        let exporters = self.extra_mut(i).exporters.get_or_insert_default();
        let known = exporter == Addr::UNSPECIFIED || exporters.contains(&exporter);
        if !known && exporters.len() < EXPORTERS_MAX {
            exporters.push(exporter);
        }
    }

    /// The one exporter that the observation points of entry `i` tell, if they tell any: every
    /// exporter of a flow that has no list of them.
    #[inline]
    pub(super) fn sole_exporter(&self, i: u32) -> Option<Addr> {
        let told = [0, 1].map(|side| self.observation(i, side).exporter());
        told.into_iter().find(|&exporter| exporter != Addr::UNSPECIFIED)
    }

    /// Takes what a merged record tells of the whole flow; `side` is its source's. What is known
    /// stays: the first record that tells decides.
    pub(super) fn note_record(&mut self, i: u32, record: &FlowRecord, side: CanonicalSide) {
        let entry = &mut self.entries[i];
        if let Some(vlan) = record.vlan.filter(|_| !entry.has(flag::VLAN)) {
            entry.vlan = vlan;
            entry.set(flag::VLAN, true);
        }
        if let Some(tos) = record.tos.filter(|_| !entry.has(flag::TOS)) {
            entry.tos = tos;
            entry.set(flag::TOS, true);
        }
        if is_icmp(record.protocol) {
            entry.note_mark(side, record.dst_port);
        }
        let asked_us = record.idle_timeout_us.clamp(0, IDLE_MAX_US);
        let asked_ms = u32::try_from((asked_us + MILLISECOND - 1) / MILLISECOND);
        let asked_ms = asked_ms.expect("a day has fewer than 2^32 milliseconds");
        let tells = record.src_asn.is_some()
            || record.dst_asn.is_some()
            || asked_ms > 0
            || record.vrf_name.is_some()
            || record.application.is_some();
        if !tells {
            return;
        }
        let known = self.exported(i);
        let mut exported = known;
        exported.idle_ms = exported.idle_ms.max(asked_ms);
        for (s, asn) in [(side, record.src_asn), (1 - side, record.dst_asn)] {
            if exported.asn[s] == 0 {
                exported.asn[s] = asn.unwrap_or(0);
            }
        }
        let labels = &self.labels[known.labels];
        if labels.vrf.is_none() && record.vrf_name.is_some()
            || labels.application.is_none() && record.application.is_some()
        {
            let mut next = labels.clone();
            keep_name(&mut next.vrf, record.vrf_name.as_ref());
            keep_name(&mut next.application, record.application.as_ref());
            exported.labels = self.labels.hold(&next);
            self.labels.release(known.labels);
        }
        if exported != known {
            self.set_exported(i, &exported);
        }
    }

    /// Takes type and code of the first ICMP message that `side` sent; later fragments have none.
    #[expect(clippy::cast_possible_truncation, reason = "type and code are octets")]
    pub(super) fn note_icmp(&mut self, i: u32, side: CanonicalSide, packet: &PacketRecord) {
        let later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        if is_icmp(packet.protocol) && !later {
            let (kind, code) = (packet.src_port as u8, packet.dst_port as u8);
            self.entries[i].note_mark(side, u16::from_be_bytes([kind, code]));
        }
    }
}

/// Whether the sender of `r` reports the end of its side.
#[inline]
pub(super) fn closes(r: &FlowRecord) -> bool {
    r.end_reason == Some(END_OF_FLOW) || r.fwd.tcp_flags.unwrap_or(0) & (FIN | RST) != 0
}

/// Whether `r` brings what few records do.
#[inline]
const fn brings_more(r: &FlowRecord) -> bool {
    r.bwd.is_some()
        || r.biflow_direction.is_some()
        || r.fwd.octets_l2.is_some()
        || r.fwd.payload.is_some()
        || r.vrf_name.is_some()
        || r.application.is_some()
        || r.point.exporter.0 == Addr::UNSPECIFIED.0
}

fn keep_name(known: &mut Option<Name>, told: Option<&Name>) {
    if known.is_none() {
        *known = told.cloned();
    }
}
