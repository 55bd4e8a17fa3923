//! What one slice tells the model, and how records of one connection become one event
//! (`model/FEATURES.md`, section 1).

use std::collections::HashMap;

use super::event::Service;
use crate::flow::Biflow;
use crate::flow::key::TCP;
use crate::flow::record::{FIN, RST, SYN};
use crate::net::Addr;
use crate::time::{Micros, SECOND};

/// A record of TCP joins the connection that ended at most so long before it.
pub const JOIN_TCP_US: i64 = 130 * SECOND;
/// A record of any other protocol; there only the active timeout cuts.
pub const JOIN_OTHER_US: i64 = 15 * SECOND;

/// What is taken of a slice: counters scaled by the sampling interval, and no address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// First packet.
    pub first: Micros,
    /// Last packet.
    pub last: Micros,
    /// Octets from initiator to responder.
    pub fwd_octets: u64,
    /// Octets from responder to initiator.
    pub bwd_octets: u64,
    /// Packets from initiator to responder.
    pub fwd_packets: u64,
    /// Packets from responder to initiator.
    pub bwd_packets: u64,
    /// The initiator's port.
    pub initiator_port: u16,
    /// The responder's port.
    pub responder_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// TCP flags of both sides, united; 0 where unknown.
    pub flags: u8,
    /// Whether TCP flags are known.
    pub flags_known: bool,
    /// Whether the initiator is the lower address of the pair.
    pub initiator_low: bool,
}

/// What tells connections of one pair apart: protocol, the lower address's port, the higher's.
pub type Connection = (u8, u16, u16);

impl Record {
    /// Of a slice.
    #[must_use]
    pub fn of(flow: &Biflow) -> Self {
        let scaled = |count: u64| count.saturating_mul(flow.scale());
        let flags = flow.fwd.tcp_flags.unwrap_or(0) | flow.bwd.tcp_flags.unwrap_or(0);
        Self {
            first: flow.first,
            last: flow.last,
            fwd_octets: scaled(flow.fwd.octets),
            bwd_octets: scaled(flow.bwd.octets),
            fwd_packets: scaled(flow.fwd.packets),
            bwd_packets: scaled(flow.bwd.packets),
            initiator_port: flow.src_port,
            responder_port: flow.dst_port,
            protocol: match flow.protocol {
                0 => likely_protocol(flow.src_port, flow.dst_port),
                known => known,
            },
            flags: flags.to_le_bytes()[0],
            // No packet of TCP is without any flag.
            flags_known: flags != 0,
            initiator_low: flow.src <= flow.dst,
        }
    }

    /// Which connection of its pair it belongs to.
    #[must_use]
    pub const fn connection(&self) -> Connection {
        let (low, high) = match self.initiator_low {
            true => (self.initiator_port, self.responder_port),
            false => (self.responder_port, self.initiator_port),
        };
        (self.protocol, low, high)
    }

    /// How long after its end a record may begin that joins it.
    #[must_use]
    pub const fn join_us(&self) -> i64 {
        if self.protocol == TCP { JOIN_TCP_US } else { JOIN_OTHER_US }
    }

    /// Whether a side ended the TCP connection, as far as flags tell.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.protocol == TCP && self.flags & (FIN | RST) as u8 != 0
    }
}

/// A protocol for a record that does not tell its own, by its ports: DeepMITRE's columns have none.
#[must_use]
pub fn likely_protocol(initiator_port: u16, responder_port: u16) -> u8 {
    let (icmp, tcp, udp) = (1, 6, 17);
    match (initiator_port, responder_port) {
        (0, 0) => icmp,
        (_, 53) => udp,
        // Of what is called infrastructure, these alone are TCP as a rule.
        (_, 88 | 135 | 139 | 389 | 636 | 5_060 | 5_222 | 5_228) => tcp,
        (_, port) if Service::of(port) == Service::Infra => udp,
        _ => tcp,
    }
}

/// Whether an address names one host. A directed broadcast shows no netmask: `.255` is what `/24`
/// networks use, so no such address counts as a host.
#[must_use]
pub fn is_unicast(address: Addr) -> bool {
    match address.to_v4() {
        Some(v4) => v4 != 0 && v4 & 0xff != 0xff && v4 >> 28 != 0xe,
        None => address != Addr::UNSPECIFIED && address.0 >> 120 != 0xff,
    }
}

/// The records of one connection so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Joined {
    /// All of them as one.
    pub whole: Record,
    /// The end of the latest.
    pub end: Micros,
    /// The flags of the latest.
    pub flags: u8,
}

impl Joined {
    /// A connection that begins.
    #[must_use]
    pub const fn new(record: Record) -> Self {
        Self { whole: record, end: record.last, flags: record.flags }
    }

    /// Whether `next`, of the same pair and connection, goes on with it.
    #[must_use]
    pub const fn takes(&self, next: &Record) -> bool {
        let closed = Record { flags: self.flags, ..self.whole }.is_closed();
        let reopens = closed && next.flags & SYN as u8 != 0;
        !reopens && next.first.since(self.end) <= next.join_us()
    }

    /// Adds `next`, which it takes.
    pub fn add(&mut self, next: &Record) {
        let whole = &mut self.whole;
        let turned = next.initiator_low != whole.initiator_low;
        let (fwd, bwd) = ((next.fwd_octets, next.fwd_packets), (next.bwd_octets, next.bwd_packets));
        let (fwd, bwd) = if turned { (bwd, fwd) } else { (fwd, bwd) };
        whole.fwd_octets = whole.fwd_octets.saturating_add(fwd.0);
        whole.fwd_packets = whole.fwd_packets.saturating_add(fwd.1);
        whole.bwd_octets = whole.bwd_octets.saturating_add(bwd.0);
        whole.bwd_packets = whole.bwd_packets.saturating_add(bwd.1);
        whole.first = whole.first.min(next.first);
        whole.last = whole.last.max(next.last);
        whole.flags |= next.flags;
        whole.flags_known &= next.flags_known;
        (self.end, self.flags) = (next.last, next.flags);
    }
}

/// The connections of one pair from all its records, in order of their starts: what `weir score`
/// does, and the plain twin of what the shard does one record at a time. Equal starts are in the
/// order of [`Record::connection`].
#[must_use]
pub fn join_all(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| (record.first, record.connection()));
    let mut joined: Vec<Joined> = Vec::with_capacity(records.len());
    let mut latest: HashMap<Connection, usize> = HashMap::new();
    for record in &records {
        match latest.get(&record.connection()) {
            Some(&at) if joined[at].takes(record) => joined[at].add(record),
            _ => {
                latest.insert(record.connection(), joined.len());
                joined.push(Joined::new(*record));
            }
        }
    }
    joined.into_iter().map(|joined| joined.whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, records: &[Record], want: usize) {
        assert_eq!(join_all(records.to_vec()).len(), want, "{name}");
    }

    fn record(from_s: i64, to_s: i64, protocol: u8, flags: u8) -> Record {
        Record {
            first: Micros::from_secs(from_s),
            last: Micros::from_secs(to_s),
            fwd_octets: 100,
            fwd_packets: 1,
            initiator_port: 4_000,
            responder_port: 443,
            protocol,
            flags,
            flags_known: true,
            initiator_low: true,
            ..Record::default()
        }
    }

    #[test]
    fn records_of_one_connection_join() {
        let turned = Record {
            initiator_low: false,
            initiator_port: 443,
            responder_port: 4_000,
            ..record(100, 160, TCP, 16)
        };
        let other_port = Record { initiator_port: 4_001, ..record(1, 2, TCP, 2) };
        check(
            "cut by the active timeout",
            &[record(0, 120, TCP, 18), record(121, 200, TCP, 16)],
            1,
        );
        check("at the bound", &[record(0, 1, TCP, 18), record(131, 140, TCP, 16)], 1);
        check("past the bound", &[record(0, 1, TCP, 18), record(132, 140, TCP, 16)], 2);
        check("another protocol's bound", &[record(0, 1, 17, 0), record(17, 18, 17, 0)], 2);
        check("opened again", &[record(0, 1, TCP, 19), record(2, 3, TCP, 2)], 2);
        check("late after the end", &[record(0, 1, TCP, 19), record(2, 3, TCP, 16)], 1);
        check("the other way round", &[record(0, 90, TCP, 18), turned], 1);
        check("another connection", &[record(0, 1, TCP, 18), other_port], 2);
        let joined = join_all(vec![record(0, 90, TCP, 18), turned]);
        assert_eq!((joined[0].fwd_octets, joined[0].bwd_octets), (100, 100));
        assert_eq!(joined[0].last, Micros::from_secs(160));
    }

    #[test]
    fn hosts_are_told_from_groups() {
        for (text, want) in [
            ("10.0.0.1", true),
            ("224.0.0.251", false),
            ("239.255.255.250", false),
            ("240.0.0.1", true),
            ("255.255.255.255", false),
            ("192.168.1.255", false),
            ("0.0.0.0", false),
            ("::", false),
            ("fe80::1", true),
            ("ff02::1", false),
        ] {
            assert_eq!(is_unicast(text.parse().expect(text)), want, "{text}");
        }
    }
}
