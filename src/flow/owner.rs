//! One owner per direction (DESIGN 3.10): of several observation points that see a flow, one adds.
//!
//! The first that reports a direction owns it. Another takes over when its sampling interval is
//! lower, both being known, or when the owner was silent for longer than the idle timeout. What
//! was counted stays counted: a takeover may count one export interval twice, or miss one.

use super::entry::{Attributes, Entry, Owner};
use super::key::CanonicalSide;
use super::record::{FlowRecord, ObservationPoint, PacketRecord};
use crate::config::Dedup;
use crate::time::Micros;

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

/// Whether what `claimant` brings for `side` is to be added, now that it came at `now`. Makes it
/// the owner where it takes over, and marks the owner as heard of.
pub(super) fn claim(
    entry: &mut Entry,
    attributes: &mut Attributes,
    side: CanonicalSide,
    claimant: &Claimant<'_>,
    now: Micros,
    dedup: Dedup,
) -> bool {
    let state = &mut entry.sides[side];
    let owner = claimant.owner();
    if state.owner == Owner::Packets && owner == Owner::Packets {
        state.arrival = now;
        return true;
    }
    let report = &attributes.reports[side];
    let (theirs, ours) = (report.sampling_interval, claimant.sampling_interval());
    let takes_over = state.owner == Owner::None
        || dedup == Dedup::Owner
            && !(state.owner == owner && report.point == claimant.point())
            && (0 < ours && ours < theirs || now.since(state.arrival) > entry.idle_us);
    let owns = state.owner == owner && report.point == claimant.point();
    if !takes_over && !owns {
        return dedup == Dedup::Off;
    }
    state.owner = owner;
    state.arrival = now;
    attributes.note_report(side, claimant, takes_over);
    true
}

impl Attributes {
    /// Takes what the owner of `side` tells besides counters; of a new owner everything.
    fn note_report(&mut self, side: CanonicalSide, claimant: &Claimant<'_>, new_owner: bool) {
        let report = &mut self.reports[side];
        if new_owner {
            report.point = claimant.point();
            report.sampling_interval = 0;
            (report.in_if, report.out_if) = (None, None);
            (report.in_if_name, report.out_if_name) = (None, None);
        }
        if claimant.sampling_interval() > 0 {
            report.sampling_interval = claimant.sampling_interval();
        }
        match claimant {
            Claimant::Packet(packet) => {
                if report.ttl.is_none() {
                    report.first_flags = packet.tcp.map(|tcp| tcp.flags);
                    report.ttl = Some(packet.ttl);
                }
                report.start_at(packet.time);
            }
            Claimant::Exporter { record, forward } => {
                let (into, out) =
                    ((record.in_if, &record.in_if_name), (record.out_if, &record.out_if_name));
                // Interfaces of a biflow record are those of its forward direction.
                let (into, out) = if *forward { (into, out) } else { (out, into) };
                report.in_if = into.0.or(report.in_if);
                report.out_if = out.0.or(report.out_if);
                keep_name(&mut report.in_if_name, into.1.as_ref());
                keep_name(&mut report.out_if_name, out.1.as_ref());
                report.start_at(record.first);
            }
        }
    }

    /// Takes what a merged record tells of the whole flow; `side` is its source's. What is known
    /// stays: the first record that tells decides.
    pub(super) fn note_record(&mut self, record: &FlowRecord, side: CanonicalSide) {
        keep_name(&mut self.vrf_name, record.vrf_name.as_ref());
        keep_name(&mut self.application, record.application.as_ref());
        self.vlan = self.vlan.or(record.vlan);
        self.tos = self.tos.or(record.tos);
        for (s, asn) in [(side, record.src_asn), (1 - side, record.dst_asn)] {
            self.reports[s].asn = self.reports[s].asn.or(asn);
        }
        if super::key::is_icmp(record.protocol) {
            let [kind, code] = record.dst_port.to_be_bytes();
            self.reports[side].icmp.get_or_insert((kind, code));
        }
    }

    /// Takes type and code of the first ICMP message that `side` sent; later fragments have none.
    #[expect(clippy::cast_possible_truncation, reason = "type and code are octets")]
    pub(super) fn note_icmp(&mut self, side: CanonicalSide, packet: &PacketRecord) {
        let later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        if super::key::is_icmp(packet.protocol) && !later {
            let message = (packet.src_port as u8, packet.dst_port as u8);
            self.reports[side].icmp.get_or_insert(message);
        }
    }
}

fn keep_name(known: &mut Option<super::record::Name>, told: Option<&super::record::Name>) {
    if known.is_none() {
        *known = told.cloned();
    }
}
