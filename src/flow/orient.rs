//! Who the initiator is (DESIGN 4, Direction). Counters lie by canonical side; this sets a label.
//!
//! Evidence only ever gives way to stronger evidence, in the order of [`DirectionBy`], and only
//! until the flow's first slice is cut: after that the label is fixed.

use super::entry::{Entry, Owner};
use super::key::{CanonicalSide, has_ports, is_icmp};
use super::record::{ACK, FlowRecord, SYN, TcpFlags};
use super::store::Store;
use super::tcp;
use super::view::{Direction, DirectionBy};
use crate::net::{Addr, Cidr};

/// Well-known service ports from 1024 up, sorted. Below 1024 every port is a service's.
const SERVICE_PORTS: [u16; 86] = [
    1080, 1194, 1433, 1434, 1494, 1521, 1701, 1719, 1720, 1723, 1812, 1813, 1883, 1900, 1935, 2049,
    2055, 2082, 2083, 2086, 2087, 2095, 2096, 2123, 2152, 2181, 2222, 2375, 2376, 2379, 3000, 3128,
    3260, 3268, 3269, 3306, 3389, 3478, 3544, 3690, 4369, 4433, 4443, 4500, 4739, 4789, 5000, 5060,
    5061, 5222, 5269, 5353, 5355, 5432, 5601, 5671, 5672, 5900, 5985, 5986, 6081, 6343, 6379, 6443,
    6514, 6667, 7001, 8000, 8008, 8080, 8081, 8086, 8443, 8883, 8888, 9042, 9090, 9092, 9100, 9200,
    9300, 9418, 10_250, 11_211, 27_017, 51_820,
];

/// A bit for each port that is a well-known service's.
static IS_SERVICE: [u64; 1_024] = {
    let mut bits = [0; 1_024];
    let mut port = 0;
    while port < 1_024 {
        bits[port / 64] |= 1 << (port % 64);
        port += 1;
    }
    let mut at = 0;
    while at < SERVICE_PORTS.len() {
        let port = SERVICE_PORTS[at] as usize;
        bits[port / 64] |= 1 << (port % 64);
        at += 1;
    }
    bits
};

/// Whether `port` is a well-known service's.
fn is_service(port: u16) -> bool {
    IS_SERVICE[usize::from(port / 64)] >> (port % 64) & 1 == 1
}

/// A claim that `initiator` opened the flow.
type Claim = Option<(DirectionBy, CanonicalSide)>;

/// What a TCP packet with `flags` from `side` claims: the sender of a SYN is the initiator, the
/// sender of a SYN/ACK is not.
pub(super) const fn by_packet(flags: TcpFlags, side: CanonicalSide) -> Claim {
    if tcp::opens(flags) {
        Some((DirectionBy::Syn, side))
    } else if tcp::answers(flags) {
        Some((DirectionBy::Syn, 1 - side))
    } else {
        None
    }
}

/// The strongest claim that a merged record and what the flow knows after it allow, if it is
/// stronger than what decided so far.
pub(super) fn by_record(record: &FlowRecord, side: CanonicalSide, store: &Store, i: u32) -> Claim {
    let entry = &store.entries[i];
    let decided = entry.direction_by();
    match record.biflow_direction {
        Some(1) => return Some((DirectionBy::Exporter, side)),
        Some(2) => return Some((DirectionBy::Exporter, 1 - side)),
        _ => {}
    }
    // Stronger variants come first; what is no stronger need not be looked for.
    let flags = if DirectionBy::Syn < decided { by_flags(entry) } else { None };
    let start = || if DirectionBy::Start < decided { by_start(store, i) } else { None };
    let port = || if DirectionBy::Port < decided { by_port(entry) } else { None };
    flags.or_else(start).or_else(port)
}

/// The side whose cumulated flags hold SYN and no ACK; both sides' would say nothing.
fn by_flags(entry: &Entry) -> Claim {
    let lone_syn = |side: usize| entry.tcp_flags[side] & (SYN | ACK) == SYN;
    match (lone_syn(0), lone_syn(1)) {
        (true, false) => Some((DirectionBy::Syn, 0)),
        (false, true) => Some((DirectionBy::Syn, 1)),
        _ => None,
    }
}

/// The side that started earlier, where one exporter reported both. TCP flags without SYN mean
/// that the record is not the connection's first: then its start says nothing.
fn by_start(store: &Store, i: u32) -> Claim {
    let entry = &store.entries[i];
    if !(entry.owner(0) == Owner::Exporter && entry.owner(1) == Owner::Exporter) {
        return None;
    }
    let begun = entry.tcp_flags.iter().all(|flags| *flags == 0 || flags & SYN != 0);
    if !begun {
        return None;
    }
    let [a, b] = [0, 1].map(|side| store.point(i, side));
    if (a.exporter, a.domain) != (b.exporter, b.domain) {
        return None;
    }
    let [a, b] = store.exported(i).starts;
    match a.cmp(&b) {
        std::cmp::Ordering::Less => Some((DirectionBy::Start, 0)),
        std::cmp::Ordering::Greater => Some((DirectionBy::Start, 1)),
        std::cmp::Ordering::Equal => None,
    }
}

/// The responder has the service port, else the lower one.
fn by_port(entry: &Entry) -> Claim {
    let ((a, b), protocol) = (entry.key.ports(), entry.key.protocol());
    if !has_ports(protocol) || is_icmp(protocol) || a == b || a == 0 || b == 0 {
        return None;
    }
    let a_responds = match (is_service(a), is_service(b)) {
        (true, false) => true,
        (false, true) => false,
        _ => a < b,
    };
    Some((DirectionBy::Port, usize::from(a_responds)))
}

/// Where a flow from `src` to `dst` goes. O(home networks).
#[must_use]
pub fn direction(home: &[Cidr], src: Addr, dst: Addr) -> Direction {
    let at_home = |addr: Addr| home.iter().any(|network| network.contains(addr));
    match (at_home(src), at_home(dst)) {
        (true, true) => Direction::Internal,
        (true, false) => Direction::Outbound,
        (false, true) => Direction::Inbound,
        (false, false) => Direction::External,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_the_listed_ports_and_all_below_1024() {
        assert!(SERVICE_PORTS.is_sorted());
        for port in 0..=u16::MAX {
            let listed = port < 1_024 || SERVICE_PORTS.binary_search(&port).is_ok();
            assert_eq!(is_service(port), listed, "{port}");
        }
    }
}
