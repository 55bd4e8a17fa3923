//! NetFlow v5 and v7: fixed records, decoded directly.
//!
//! Source: Cisco NetFlow Export Datagram Format, tables B-3, B-4 (v5) and B-5, B-6 (v7). The first
//! 40 octets of both mean the same to a flow; v7 adds the router that was shortcut.

use super::assemble::Context;
use super::exporter::Learnt;
use super::wire::{Header, Version};
use crate::flow::record::{Counters, FlowRecord, ObservationPoint};
use crate::net::Addr;

const TCP: u8 = 6;

/// Whole records that a v5 or v7 datagram holds, and how many its header claims.
pub(super) fn records_of<'a>(payload: &'a [u8], header: &Header) -> (&'a [u8], u16, u16) {
    let body = &payload[header.version.header_octets()..];
    let octets = header.version.record_octets();
    let fit = u16::try_from(body.len() / octets).unwrap_or(u16::MAX).min(header.count);
    (&body[..usize::from(fit) * octets], fit, header.count)
}

/// The sampling interval in a v5 header: the lower fourteen bits, whatever the mode says, as
/// exporters leave it 0; 0 where there is none.
pub(super) const fn sampling_interval(header: &Header) -> u32 {
    match header.version {
        Version::V5 => header.sampling as u32 & 0x3fff,
        _ => 0,
    }
}

/// Decodes one record of 48 (v5) or 52 octets (v7); `interval` is the header's.
pub(super) fn flow(
    record: &[u8],
    interval: u32,
    context: &Context<'_>,
    learnt: &mut Learnt,
) -> FlowRecord {
    let r: &[u8; 44] = record.first_chunk().expect("a record of 48 or 52 octets");
    let be16 = |at: usize| u16::from_be_bytes([r[at], r[at + 1]]);
    let be32 = |at: usize| u32::from_be_bytes([r[at], r[at + 1], r[at + 2], r[at + 3]]);
    let asn = |at: usize| Some(u32::from(be16(at))).filter(|&asn| asn != 0);
    let protocol = r[38];
    let times = context.time.flow_by_uptime(be32(24), be32(28));
    learnt.times_clamped += u64::from(times.clamped);
    learnt.active.observe(times.last.since(times.first), None);
    let interval = match interval {
        0 => context.known.sampling_interval.unwrap_or(0),
        told => told,
    };
    learnt.sampling_unknown += u64::from(interval == 0);
    let (in_if, out_if) = (u32::from(be16(12)), u32::from(be16(14)));
    let icmp = matches!(protocol, 1 | 58);
    FlowRecord {
        stamp: context.stamp,
        site: context.site,
        src: Addr::v4(be32(0)),
        dst: Addr::v4(be32(4)),
        src_port: if icmp { 0 } else { be16(32) },
        dst_port: be16(34),
        protocol,
        tos: Some(r[39]),
        first: times.first,
        last: times.last,
        fwd: Counters {
            octets: u64::from(be32(20)),
            packets: u64::from(be32(16)),
            tcp_flags: (protocol == TCP).then_some(u16::from(r[37])),
            ..Counters::default()
        },
        point: ObservationPoint {
            exporter: context.address,
            domain: context.domain,
            interface: in_if,
            direction: 255,
        },
        in_if: Some(in_if),
        out_if: Some(out_if),
        in_if_name: context.interface_name(in_if),
        out_if_name: context.interface_name(out_if),
        sampling_interval: interval,
        src_asn: asn(40),
        dst_asn: asn(42),
        idle_timeout_us: learnt.active.idle_us(context.idle_us),
        ..FlowRecord::default()
    }
}
