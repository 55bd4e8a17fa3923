//! From the values of one record to a flow record: what each element means for a flow.

use super::exporter::{Known, Learnt};
use super::field::{Field, Values};
use super::options::{Options, own_interval, text_of};
use super::time::{FlowTimes, MessageTime};
use super::totals::FlowKey;
use crate::config::Profile;
use crate::flow::record::{Counters, FlowRecord, Name, ObservationPoint, TcpFlags};
use crate::net::Addr;

pub(super) const TCP: u8 = 6;
/// The nine flags of IE 6.
pub(super) const FLAGS: u64 = 0x1ff;

/// What is the same for all records of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// The stamp that the records get: the input clock when they are decoded.
    pub(super) stamp: crate::time::Micros,
    pub(super) time: MessageTime,
    pub(super) address: Addr,
    pub(super) domain: u32,
    pub(super) site: u16,
    pub(super) known: &'a Known,
    pub(super) options: &'a Options,
    /// The table's own idle timeout, in microseconds.
    pub(super) idle_us: i64,
    /// Entries of the tables of totals and of names, at most.
    pub(super) totals_max: usize,
    pub(super) names_max: usize,
}

/// Why a data record is no flow: the reason in the ledger.
pub(super) type NotAFlow = &'static str;

const TOTALS: u128 = Field::OctetsTotal.bit() | Field::PacketsTotal.bit();
const REVERSE_TOTALS: u128 = Field::ReverseOctetsTotal.bit() | Field::ReversePacketsTotal.bit();
const BIFLOW: u128 = Field::InitiatorOctets.bit()
    | Field::ResponderOctets.bit()
    | Field::InitiatorPackets.bit()
    | Field::ResponderPackets.bit();
const COUNTERS: u128 = TOTALS
    | BIFLOW
    | Field::Octets.bit()
    | Field::Packets.bit()
    | Field::PostOctets.bit()
    | Field::PostPackets.bit()
    | Field::OctetsL2.bit();
const EVENTS: u128 = Field::FirewallEvent.bit() | Field::NatEvent.bit();

/// Makes a flow record, or says why the record is none: `no_addresses`, `event` (a firewall or
/// NAT event that counted nothing), `no_counters`.
pub(super) fn assemble(
    values: &Values<'_>,
    context: &Context<'_>,
    learnt: &mut Learnt,
) -> Result<FlowRecord, NotAFlow> {
    let is_event = values.has_any(EVENTS);
    if !values.has_any(COUNTERS) {
        return Err(if is_event { "event" } else { "no_counters" });
    }
    let (src, dst) = addresses(values).ok_or("no_addresses")?;
    let protocol = values.number(Field::Protocol).unwrap_or(0) as u8;
    let (src_port, dst_port) = ports(values);
    let in_if = interface(values, Field::InInterface, Field::IngressPhysical);
    let out_if = interface(values, Field::OutInterface, Field::EgressPhysical);
    let point = observation_point(values, context, in_if, out_if);
    let end_reason = values.nonzero(Field::EndReason).map(|n| n as u8);
    let key = FlowKey {
        domain: context.domain,
        addresses: (src, dst),
        ports: (src_port, dst_port),
        protocol,
        direction: point.direction,
        interfaces: (in_if.unwrap_or(0), out_if.unwrap_or(0)),
        number: values.number(Field::FlowNumber).unwrap_or(0),
    };
    let [mut fwd, mut bwd] = deltas(values, context, learnt, key, end_reason);
    if is_event && fwd.is_empty() && bwd.is_empty() {
        return Err("event");
    }
    fwd.tcp_flags = flags(values, Field::TcpFlags, protocol);
    bwd.tcp_flags = flags(values, Field::ReverseTcpFlags, protocol);
    let has_bwd = !bwd.is_empty() || bwd.tcp_flags.is_some_and(|flags| flags != 0);
    let times = flow_times(values, context);
    learnt.times_clamped += u64::from(times.clamped);
    learnt.active.observe(times.last.since(times.first), end_reason);
    let vrf = values.nonzero(Field::IngressVrf).or_else(|| values.nonzero(Field::EgressVrf));
    let vrf = vrf.unwrap_or(0) as u32;
    Ok(FlowRecord {
        stamp: context.stamp,
        site: context.site,
        vrf,
        src,
        dst,
        src_port,
        dst_port,
        protocol,
        tos: values.number(Field::Tos).map(|n| n as u8),
        vlan: vlan(values),
        first: times.first,
        last: times.last,
        fwd,
        bwd: has_bwd.then_some(bwd),
        point,
        in_if,
        out_if,
        in_if_name: in_if.and_then(|index| context.interface_name(index)),
        out_if_name: out_if.and_then(|index| context.interface_name(index)),
        vrf_name: vrf_name(values, context, learnt, vrf),
        application: application(values, context, learnt),
        sampling_interval: sampling_interval(values, context, learnt, point.interface),
        end_reason,
        biflow_direction: biflow_direction(values),
        src_asn: values.nonzero(Field::SourceAsn).map(|n| n as u32),
        dst_asn: values.nonzero(Field::DestinationAsn).map(|n| n as u32),
        idle_timeout_us: learnt.active.idle_us(context.idle_us),
    })
}

/// The record's counters; of totals what they add to the flow's last record.
fn deltas(
    values: &Values<'_>,
    context: &Context<'_>,
    learnt: &mut Learnt,
    key: FlowKey,
    end_reason: Option<u8>,
) -> [Counters; 2] {
    let [mut fwd, mut bwd] = counters(values, context.known.profile);
    if values.has_any(TOTALS | REVERSE_TOTALS) {
        let told = [fwd.octets, fwd.packets, bwd.octets, bwd.packets];
        let is_total = are_totals(values);
        let total = std::array::from_fn(|i| if is_total[i] { told[i] } else { 0 });
        if is_total.contains(&true) {
            let ended = matches!(end_reason, Some(1 | 3..=5));
            let added = learnt.totals.difference(key, total, ended, context.totals_max);
            [fwd.octets, fwd.packets, bwd.octets, bwd.packets] =
                std::array::from_fn(|i| if is_total[i] { added[i] } else { told[i] });
        }
    }
    [fwd, bwd]
}

/// Which of octets and packets, forward and backward, [`counters`] takes from a total: templates
/// mix them, such as a delta of octets with a total of packets.
fn are_totals(values: &Values<'_>) -> [bool; 4] {
    use Field::*;
    let lists = [OCTETS, PACKETS, REVERSE_OCTETS, REVERSE_PACKETS];
    let totals = [OctetsTotal, PacketsTotal, ReverseOctetsTotal, ReversePacketsTotal];
    let taken = |list: [Field; 3]| list.into_iter().find(|&f| values.number(f).is_some());
    std::array::from_fn(|i| taken(lists[i]) == Some(totals[i]))
}

fn observation_point(
    values: &Values<'_>,
    context: &Context<'_>,
    in_if: Option<u32>,
    out_if: Option<u32>,
) -> ObservationPoint {
    let direction = values.number(Field::Direction).map_or(255, |n| n as u8);
    let seen_by = if direction == 1 { out_if.or(in_if) } else { in_if.or(out_if) };
    ObservationPoint {
        exporter: context.address,
        domain: context.domain,
        interface: seen_by.unwrap_or(0),
        direction,
    }
}

fn sampling_interval(
    values: &Values<'_>,
    context: &Context<'_>,
    learnt: &mut Learnt,
    interface: u32,
) -> u32 {
    let own = own_interval(values);
    learnt.record_sampling = own.or(learnt.record_sampling);
    let interval = own.or_else(|| context.options.interval(context.domain, values, interface));
    let interval = interval.or(context.known.sampling_interval).unwrap_or(0);
    learnt.sampling_unknown += u64::from(interval == 0);
    interval
}

/// IE 239; of a record with counters of initiator and responder, the initiator is the source.
fn biflow_direction(values: &Values<'_>) -> Option<u8> {
    let told = values.nonzero(Field::BiflowDirection).map(|n| n as u8);
    told.or_else(|| values.has_any(BIFLOW).then_some(1))
}

impl Context<'_> {
    /// The sampling interval of a record that tells nothing of it; 0 if it is not known.
    pub(super) fn sampling_interval(&self, interface: u32) -> u32 {
        let told = self.options.interval_of(self.domain, interface);
        told.or(self.known.sampling_interval).unwrap_or(0)
    }

    /// The configured name, else the one that options data gave.
    pub(super) fn interface_name(&self, index: u32) -> Option<Name> {
        let name = self.known.interfaces.get(&index);
        name.or_else(|| self.options.interface(self.domain, index)).cloned()
    }
}

/// Source and destination. Dual-stack templates carry both families, one of them all zero:
/// IE 60 decides, else the one that is not zero, else IPv4.
fn addresses(values: &Values<'_>) -> Option<(Addr, Addr)> {
    let pair = |source, destination| Some((values.address(source)?, values.address(destination)?));
    let v4 = pair(Field::Source4, Field::Destination4);
    let v6 = pair(Field::Source6, Field::Destination6);
    let (Some(four), Some(six)) = (v4, v6) else { return v4.or(v6) };
    let zero4 = four == (Addr::v4(0), Addr::v4(0));
    let zero6 = six == (Addr::UNSPECIFIED, Addr::UNSPECIFIED);
    match values.number(Field::IpVersion) {
        Some(4) => Some(four),
        Some(6) => Some(six),
        _ if zero4 && !zero6 => Some(six),
        _ => Some(four),
    }
}

/// Ports. ICMP's type and code stand in the destination port, as in NetFlow v5.
fn ports(values: &Values<'_>) -> (u16, u16) {
    let whole = values.number(Field::IcmpTypeCode).or_else(|| values.number(Field::Icmp6TypeCode));
    let parts = |kind, code| {
        let code = values.number(code).unwrap_or(0) & 0xff;
        values.number(kind).map(|kind| kind << 8 | code)
    };
    let icmp = whole
        .or_else(|| parts(Field::IcmpType, Field::IcmpCode))
        .or_else(|| parts(Field::Icmp6Type, Field::Icmp6Code));
    // Of a field of two octets the lower one, as everywhere.
    let is_icmp = matches!(values.number(Field::Protocol).map(|number| number as u8), Some(1 | 58));
    let port = |field| values.number(field).unwrap_or(0) as u16;
    match icmp {
        // Cisco fills only one of IE 32 and IE 11, and zeroes the other.
        Some(0) if is_icmp => (0, port(Field::DestinationPort)),
        Some(icmp) if is_icmp => (0, icmp as u16),
        _ if is_icmp => (0, port(Field::DestinationPort)),
        _ => (port(Field::SourcePort), port(Field::DestinationPort)),
    }
}

fn interface(values: &Values<'_>, logical: Field, physical: Field) -> Option<u32> {
    values.number32(logical).or_else(|| values.number32(physical))
}

/// The elements of each counter, the strongest first.
const OCTETS: [Field; 3] = [Field::InitiatorOctets, Field::Octets, Field::OctetsTotal];
const PACKETS: [Field; 3] = [Field::InitiatorPackets, Field::Packets, Field::PacketsTotal];
const REVERSE_OCTETS: [Field; 3] =
    [Field::ResponderOctets, Field::ReverseOctets, Field::ReverseOctetsTotal];
const REVERSE_PACKETS: [Field; 3] =
    [Field::ResponderPackets, Field::ReversePackets, Field::ReversePacketsTotal];

/// Forward and backward counters. By strength: bidirectional ones (IE 231, 232, 298, 299), deltas
/// (1, 2), totals (85, 86; still totals here), and where there is none of them the counters after
/// a middlebox (23, 24) or on layer 2 (352), as an exporter that gives only those means them.
///
/// IE 231 and 232 count octets of payload: they are given as such, and as octets too, as their
/// exporters give nothing better.
fn counters(values: &Values<'_>, profile: Profile) -> [Counters; 2] {
    use Field::*;
    let first = |fields: [Field; 3]| fields.into_iter().find_map(|field| values.number(field));
    let post_is_reverse = profile == Profile::Nprobe;
    let octets_l2 = values.number(OctetsL2);
    let mut octets = first(OCTETS);
    let mut packets = first(PACKETS);
    let mut back_octets = first(REVERSE_OCTETS);
    let mut back_packets = first(REVERSE_PACKETS);
    if post_is_reverse {
        back_octets = back_octets.or_else(|| values.number(PostOctets));
        back_packets = back_packets.or_else(|| values.number(PostPackets));
    } else {
        octets = octets.or_else(|| values.number(PostOctets));
        packets = packets.or_else(|| values.number(PostPackets));
    }
    let fwd = Counters {
        octets: octets.or(octets_l2).unwrap_or(0),
        packets: packets.unwrap_or(0),
        octets_l2,
        payload: values.number(InitiatorOctets),
        tcp_flags: None,
    };
    let bwd = Counters {
        octets: back_octets.or_else(|| values.number(ReverseOctetsL2)).unwrap_or(0),
        packets: back_packets.unwrap_or(0),
        octets_l2: values.number(ReverseOctetsL2),
        payload: values.number(ResponderOctets),
        tcp_flags: None,
    };
    [fwd, bwd]
}

fn flags(values: &Values<'_>, field: Field, protocol: u8) -> Option<TcpFlags> {
    values.number(field).filter(|_| protocol == TCP).map(|flags| (flags & FLAGS) as TcpFlags)
}

/// The record's times; those of the reverse direction (RFC 5103) widen them.
fn flow_times(values: &Values<'_>, context: &Context<'_>) -> FlowTimes {
    let times = context.time.flow(values);
    let reverse = |field| values.nonzero(field).map(super::time::millis_since_epoch);
    let (first, last) = (reverse(Field::ReverseStartMillis), reverse(Field::ReverseEndMillis));
    if first.is_none() && last.is_none() {
        return times;
    }
    let first = first.map_or(times.first, |at| at.min(times.first));
    let last = last.map_or(times.last, |at| at.max(times.last));
    let wide = context.time.clamp(first, last);
    FlowTimes { clamped: wide.clamped || times.clamped, ..wide }
}

fn vlan(values: &Values<'_>) -> Option<u16> {
    let fields = [Field::SourceVlan, Field::Dot1qVlan, Field::DestinationVlan];
    let vlan = fields.into_iter().find_map(|field| values.nonzero(field))?;
    Some((vlan & 0xfff) as u16)
}

fn vrf_name(
    values: &Values<'_>,
    context: &Context<'_>,
    learnt: &mut Learnt,
    vrf: u32,
) -> Option<Name> {
    if let Some(text) = text_of(values, Field::VrfName) {
        return learnt.names.intern(text, context.names_max);
    }
    if vrf == 0 { None } else { context.options.vrf(context.domain, vrf).cloned() }
}

fn application(values: &Values<'_>, context: &Context<'_>, learnt: &mut Learnt) -> Option<Name> {
    if let Some(text) = text_of(values, Field::ApplicationName) {
        return learnt.names.intern(text, context.names_max);
    }
    let id = values.number(Field::ApplicationId)?;
    context.options.application(context.domain, id).cloned()
}
