//! Ports of fragmented datagrams: the first fragment carries them, later ones borrow them.
//!
//! No reassembly. A later fragment that comes before the first, or after more than
//! [`LIFETIME_US`], has ports 0 and is metered in a flow with ports 0: nothing waits, and nothing
//! is lost.

use super::key::has_ports;
use super::record::PacketRecord;
use crate::net::{Addr, fold_u64};
use crate::time::{Micros, SECOND};

/// How long the ports of a first fragment are remembered, in microseconds: 30 s, within the 15 s
/// to 120 s that reassembly may take (RFC 1122 §3.3.2 and RFC 8200 §4.5 advise 60 s).
pub const LIFETIME_US: i64 = 30 * SECOND;

/// Places that a datagram may take: the oldest of them is given up for a new one.
const WAYS: usize = 4;

/// What tells the fragments of one datagram from those of another (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Datagram {
    src: Addr,
    dst: Addr,
    id: u32,
    site: u16,
    protocol: u8,
}

/// A first fragment that was seen at `stamp`.
#[derive(Clone, Copy, Debug)]
struct First {
    datagram: Datagram,
    ports: (u16, u16),
    stamp: Micros,
}

/// The bounded cache of one shard: a table of sets of four places. Nothing is allocated before the
/// first fragment, nothing after it.
#[derive(Clone, Debug)]
pub(super) struct Fragments {
    capacity: usize,
    places: Vec<Option<First>>,
}

impl Fragments {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), places: Vec::new() }
    }

    /// The ports of `packet`: its own, or as a later fragment those of the first, else 0.
    pub(super) fn ports(&mut self, packet: &PacketRecord, now: Micros) -> (u16, u16) {
        let own = (packet.src_port, packet.dst_port);
        let Some(fragment) = packet.fragment else { return own };
        if !has_ports(packet.protocol) {
            return own;
        }
        let datagram = Datagram {
            src: packet.src,
            dst: packet.dst,
            id: fragment.id,
            site: packet.site,
            protocol: packet.protocol,
        };
        if fragment.offset > 0 {
            return self.find(&datagram, now).unwrap_or((0, 0));
        }
        if fragment.more {
            self.remember(First { datagram, ports: own, stamp: now });
        }
        own
    }

    fn find(&self, datagram: &Datagram, now: Micros) -> Option<(u16, u16)> {
        if self.places.is_empty() {
            return None;
        }
        let set = &self.places[self.set_of(datagram)];
        let first = set.iter().flatten().find(|first| first.datagram == *datagram)?;
        (now.since(first.stamp) <= LIFETIME_US).then_some(first.ports)
    }

    fn remember(&mut self, first: First) {
        if self.places.is_empty() {
            self.places.resize(self.capacity, None);
        }
        let range = self.set_of(&first.datagram);
        let set = &mut self.places[range];
        let same = set.iter().position(|p| p.is_some_and(|p| p.datagram == first.datagram));
        let oldest = || set.iter().enumerate().min_by_key(|(_, p)| p.map(|p| p.stamp));
        let place = same.or_else(|| oldest().map(|(place, _)| place));
        set[place.expect("a set has at least one place")] = Some(first);
    }

    /// The places of the set of `datagram`. The last set takes what does not divide by four. The
    /// hash has no seed: which datagram gives way to which must not change from run to run.
    #[expect(clippy::cast_possible_truncation, reason = "only the remainder is used")]
    fn set_of(&self, datagram: &Datagram) -> std::ops::Range<usize> {
        let Datagram { src, dst, id, site, protocol } = *datagram;
        let ends = src.0 ^ dst.0.rotate_left(64);
        let rest = u64::from(id) << 24 | u64::from(site) << 8 | u64::from(protocol);
        let high = (ends >> 64) as u64;
        let hash = fold_u64(ends as u64 ^ 0xa076_1d64_78bd_642f, high ^ rest);
        let sets = (self.capacity / WAYS).max(1);
        let set = hash as usize % sets;
        let start = set * WAYS;
        start..if set + 1 == sets { self.capacity } else { start + WAYS }
    }
}
