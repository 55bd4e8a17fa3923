//! An entry of the table: what every update touches ([`Entry`]), and the rest ([`Attributes`]).
//!
//! Counters lie by canonical side and are cumulated over the flow's life; a slice's are the
//! difference to what they were when the slice before it was cut.

use super::key::{CanonicalSide, FlowKey, is_icmp};
use super::params::Params;
use super::record::{Counters, Name, ObservationPoint, TcpFlags, Tunnel};
use super::tcp::Tcp;
use super::view::{Biflow, DirectionBy, EndReason, Side};
use super::{Memory, orient};
use crate::net::Addr;
use crate::time::Micros;

/// Exporters that a flow remembers, at most.
pub const EXPORTERS_MAX: usize = 8;

/// What kind of observation point owns a side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Owner {
    /// None yet: the side was not reported.
    #[default]
    None,
    /// This sensor's own capture.
    Packets,
    /// An exporter's: [`Report::point`].
    Exporter,
}

/// Cumulated counters that slices take the difference of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) octets: u64,
    pub(super) packets: u64,
    pub(super) octets_l2: u64,
    pub(super) payload: u64,
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
        self.octets = self.octets.saturating_add(counters.octets);
        self.packets = self.packets.saturating_add(counters.packets);
        self.octets_l2 = self.octets_l2.saturating_add(counters.octets_l2.unwrap_or(0));
        self.payload = self.payload.saturating_add(counters.payload.unwrap_or(0));
    }

    const fn minus(&self, base: &Self) -> Self {
        Self {
            octets: self.octets - base.octets,
            packets: self.packets - base.packets,
            octets_l2: self.octets_l2 - base.octets_l2,
            payload: self.payload - base.payload,
        }
    }
}

/// One canonical side, as updates see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SideEntry {
    pub(super) totals: Totals,
    /// Stamp of the owner's latest record.
    pub(super) arrival: Micros,
    /// Union over the flow's life.
    pub(super) tcp_flags: TcpFlags,
    /// Union over the open slice.
    pub(super) slice_flags: TcpFlags,
    pub(super) owner: Owner,
    /// The side's sender reported its end (IE 136 = 3, or FIN or RST in its flags).
    pub(super) ended: bool,
    /// Which optional counters were ever reported.
    knows_l2: bool,
    knows_payload: bool,
    knows_flags: bool,
}

impl SideEntry {
    /// Adds counters and returns whether they hold a TCP flag that this side had not.
    pub(super) fn add(&mut self, counters: &Counters) -> bool {
        self.totals.add(counters);
        self.knows_l2 |= counters.octets_l2.is_some();
        self.knows_payload |= counters.payload.is_some();
        self.knows_flags |= counters.tcp_flags.is_some();
        let flags = counters.tcp_flags.unwrap_or(0);
        let new = flags & !self.tcp_flags != 0;
        self.tcp_flags |= flags;
        self.slice_flags |= flags;
        new
    }
}

/// What every update touches.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: FlowKey,
    pub(super) hash: u64,
    /// Number of the flow in its shard, from 1 in the order of creation; 0: the entry is free.
    pub(super) number: u64,
    pub(super) sides: [SideEntry; 2],
    pub(super) first: Micros,
    pub(super) last: Micros,
    pub(super) slice_first: Micros,
    pub(super) slice_last: Micros,
    /// Stamp of the record that opened the slice.
    pub(super) slice_opened: Micros,
    /// Records in the open slice; 0: none is open.
    pub(super) slice_records: u64,
    pub(super) slice_number: u32,
    /// Stamp of the latest merged record.
    pub(super) arrival: Micros,
    pub(super) idle_us: i64,
    pub(super) active_us: i64,
    /// When the flow ends because it was closed or reset, linger included.
    pub(super) ends_at: Option<Micros>,
    /// The deadline under which the wheel holds the entry: never after the true one.
    pub(super) queued: Micros,
    pub(super) initiator: CanonicalSide,
    pub(super) direction_by: DirectionBy,
    /// Whether any packet was merged: then every optional counter is known.
    pub(super) has_packets: bool,
    /// Whether the wake-up values are worth a look.
    pub(super) watched: bool,
    pub(super) tcp: Tcp,
}

/// What a deadline means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    Cut,
    End(EndReason),
}

impl Entry {
    pub(super) fn new(key: FlowKey, hash: u64, number: u64, first: Micros) -> Self {
        Self {
            key,
            hash,
            number,
            sides: [SideEntry::default(); 2],
            first,
            last: first,
            slice_first: first,
            slice_last: first,
            slice_opened: Micros::MIN,
            slice_records: 0,
            slice_number: 0,
            arrival: Micros::MIN,
            idle_us: 0,
            active_us: 0,
            ends_at: None,
            queued: Micros::MAX,
            initiator: 0,
            direction_by: DirectionBy::First,
            has_packets: false,
            watched: false,
            tcp: Tcp::default(),
        }
    }

    /// What happens next to this flow if no record comes, and when. A closed flow is not cut while
    /// it lingers; if a slice would be cut when the flow ends, the flow ends.
    pub(super) fn next_event(&self) -> (Micros, Event) {
        if let Some(at) = self.ends_at {
            return (at, Event::End(EndReason::EndOfFlow));
        }
        let idle = self.arrival.plus(self.idle_us);
        let cut = self.slice_opened.plus(self.active_us);
        if self.slice_records > 0 && cut < idle {
            (cut, Event::Cut)
        } else {
            (idle, Event::End(EndReason::Idle))
        }
    }

    /// Takes in the times of a merged record.
    pub(super) fn extend(&mut self, first: Micros, last: Micros, stamp: Micros) {
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        if self.slice_records == 0 {
            (self.slice_first, self.slice_last) = (first, last);
            self.slice_opened = stamp;
        }
        self.slice_first = self.slice_first.min(first);
        self.slice_last = self.slice_last.max(last);
        self.slice_records += 1;
        self.arrival = stamp;
    }

    /// Lets `claim` decide who the initiator is, if it is stronger than what decided so far and no
    /// slice was cut yet. Returns whether the flow was turned: a matter of its label alone.
    pub(super) fn orient(&mut self, claim: Option<(DirectionBy, CanonicalSide)>) -> bool {
        // Stronger variants of `DirectionBy` come first.
        let stronger = claim.filter(|&(by, _)| by < self.direction_by && self.slice_number == 0);
        let Some((by, initiator)) = stronger else { return false };
        self.direction_by = by;
        std::mem::replace(&mut self.initiator, initiator) != initiator
    }

    /// Closes the open slice.
    pub(super) fn next_slice(&mut self) {
        self.slice_records = 0;
        self.slice_number += 1;
        self.sides.iter_mut().for_each(|side| side.slice_flags = 0);
    }

    /// Whether a wake-up value is reached. A sum is never below either of its parts, so comparing
    /// the sums covers both directions too.
    pub(super) fn reaches(&self, memory: &Memory, new_flags: bool) -> bool {
        let [a, b] = &self.sides;
        let sum = |of: fn(&Totals) -> u64| of(&a.totals).saturating_add(of(&b.totals));
        let wake = &memory.wake;
        sum(|t| t.octets) >= wake.octets
            || sum(|t| t.packets) >= wake.packets
            || sum(|t| t.octets_l2) >= wake.other_octets
            || sum(|t| t.payload) >= wake.other_octets
            || self.last.since(self.first) >= wake.duration_us
            || new_flags && wake.on_new_flags
    }
}

/// What one side's owner told besides counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) point: ObservationPoint,
    /// 0: unknown.
    pub(super) sampling_interval: u32,
    /// Earliest start of the side's records.
    pub(super) first: Option<Micros>,
    pub(super) in_if: Option<u32>,
    pub(super) out_if: Option<u32>,
    pub(super) in_if_name: Option<Name>,
    pub(super) out_if_name: Option<Name>,
    /// Of the address on this side.
    pub(super) asn: Option<u32>,
    pub(super) first_flags: Option<TcpFlags>,
    pub(super) ttl: Option<u8>,
    /// Type and code of the first ICMP message that this side sent.
    pub(super) icmp: Option<(u8, u8)>,
}

impl Report {
    pub(super) fn start_at(&mut self, first: Micros) {
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
    }
}

/// What is written when a flow opens or a new exporter appears, and read when it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    /// Start of the flow's first record: a part of its identity.
    pub(super) opened: Micros,
    pub(super) reports: [Report; 2],
    /// Counters when the last slice was cut.
    pub(super) base: [Totals; 2],
    pub(super) base_retransmits: [u32; 2],
    pub(super) exporters: Vec<Addr>,
    pub(super) vrf_name: Option<Name>,
    pub(super) application: Option<Name>,
    pub(super) vlan: Option<u16>,
    pub(super) tos: Option<u8>,
    pub(super) tunnel: Option<Tunnel>,
}

impl Attributes {
    /// Forgets everything but the room that `exporters` takes.
    pub(super) fn reset(&mut self, opened: Micros) {
        let mut exporters = std::mem::take(&mut self.exporters);
        exporters.clear();
        *self = Self { opened, exporters, ..Self::default() };
    }

    /// Makes the counters as they are now those that the next slice starts from.
    pub(super) fn rebase(&mut self, entry: &Entry) {
        self.base = entry.sides.map(|side| side.totals);
        self.base_retransmits = entry.tcp.retransmits;
    }

    /// Notes that `exporter` saw the flow, if there is room.
    pub(super) fn note_exporter(&mut self, exporter: Addr) {
        let known = exporter == Addr::UNSPECIFIED || self.exporters.contains(&exporter);
        if !known && self.exporters.len() < EXPORTERS_MAX {
            self.exporters.push(exporter);
        }
    }
}

/// Which part of a flow is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Span {
    /// All of its life.
    Flow,
    /// The open slice.
    Slice,
}

/// Writes counters and times of `span` into `view`, oriented.
pub(super) fn show_counters(entry: &Entry, attributes: &Attributes, span: Span, view: &mut Biflow) {
    let side = |s: CanonicalSide| show_side(entry, attributes, span, s);
    view.fwd = side(entry.initiator);
    view.bwd = side(1 - entry.initiator);
    (view.first, view.last) = match span {
        Span::Flow => (entry.first, entry.last),
        Span::Slice if entry.slice_records == 0 => (entry.last, entry.last),
        Span::Slice => (entry.slice_first, entry.slice_last),
    };
}

fn show_side(entry: &Entry, attributes: &Attributes, span: Span, s: CanonicalSide) -> Side {
    let (side, report) = (&entry.sides[s], &attributes.reports[s]);
    let retransmits = entry.tcp.retransmits[s];
    let (totals, tcp_flags, retransmits) = match span {
        Span::Flow => (side.totals, side.tcp_flags, retransmits),
        Span::Slice => (
            side.totals.minus(&attributes.base[s]),
            side.slice_flags,
            retransmits - attributes.base_retransmits[s],
        ),
    };
    let metered = entry.has_packets;
    let metered_tcp = metered && entry.key.protocol == super::key::TCP;
    Side {
        octets: totals.octets,
        packets: totals.packets,
        octets_l2: (metered || side.knows_l2).then_some(totals.octets_l2),
        payload: (metered || side.knows_payload).then_some(totals.payload),
        tcp_flags: (metered_tcp || side.knows_flags).then_some(tcp_flags),
        first_flags: report.first_flags,
        retransmits: metered_tcp.then_some(retransmits),
        ttl: report.ttl,
    }
}

/// Writes the whole of a flow into `view`, counters cumulated. Allocates only where the flow has
/// more exporters than `view` ever had.
pub(super) fn show(entry: &Entry, attributes: &Attributes, params: &Params, view: &mut Biflow) {
    let (forward, reverse) = (entry.initiator, 1 - entry.initiator);
    let reports = &attributes.reports;
    let icmp = reports[forward].icmp.or(reports[reverse].icmp).unwrap_or_default();
    let ((src, src_port), (dst, dst_port)) =
        (entry.key.endpoint(forward), entry.key.endpoint(reverse));
    let ports = if is_icmp(entry.key.protocol) {
        (u16::from(icmp.0), u16::from(icmp.1))
    } else {
        (src_port, dst_port)
    };
    // Where only the reverse direction was reported, its interfaces are shown the other way round.
    let known = if entry.sides[forward].owner == Owner::None { reverse } else { forward };
    let report = &reports[known];
    let mut interfaces =
        [(report.in_if, report.in_if_name.clone()), (report.out_if, report.out_if_name.clone())];
    if known == reverse {
        interfaces.reverse();
    }
    let [(in_if, in_if_name), (out_if, out_if_name)] = interfaces;
    let packets = entry.sides.map(|s| s.totals.packets > 0);
    let payload = entry.sides.map(|s| s.totals.payload > 0);
    let tcp = entry.has_packets && entry.key.protocol == super::key::TCP;
    let mut exporters = std::mem::take(&mut view.exporters);
    exporters.clear();
    exporters.extend_from_slice(&attributes.exporters);
    *view = Biflow {
        site: entry.key.site,
        vrf: entry.key.vrf,
        vrf_name: attributes.vrf_name.clone(),
        src,
        dst,
        src_port: ports.0,
        dst_port: ports.1,
        protocol: entry.key.protocol,
        point: report.point,
        exporters,
        in_if,
        out_if,
        in_if_name,
        out_if_name,
        application: attributes.application.clone(),
        vlan: attributes.vlan,
        tos: attributes.tos,
        tcp_state: if tcp { entry.tcp.state(packets, payload) } else { None },
        rtt_us: entry.tcp.rtt_us,
        direction: orient::direction(&params.home, src, dst),
        direction_by: entry.direction_by,
        sampling_interval: Some(report.sampling_interval).filter(|&interval| interval > 0),
        src_asn: reports[forward].asn,
        dst_asn: reports[reverse].asn,
        tunnel: attributes.tunnel,
        ..Biflow::default()
    };
    show_counters(entry, attributes, Span::Flow, view);
}
