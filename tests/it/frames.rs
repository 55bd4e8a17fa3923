//! Frames built from parts, innermost last: `eth(0x0800, ipv4(17, udp(1, 2, &[])))`.

use std::net::Ipv6Addr;

/// Octets of a part.
pub(crate) type Octets = Vec<u8>;

/// Addresses of the packets that [`ipv4`] and [`ipv6`] make.
pub(crate) const V4: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
/// Addresses of the packets that are carried in others.
pub(crate) const INNER_V4: [[u8; 4]; 2] = [[192, 168, 7, 1], [192, 168, 7, 2]];
/// Of IPv6.
pub(crate) const V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
];

/// The parts one after the other.
pub(crate) fn join(parts: &[&[u8]]) -> Octets {
    parts.concat()
}

/// `value` as a 16-bit length field.
pub(crate) fn len16(value: usize) -> [u8; 2] {
    u16::try_from(value).expect("a test frame is small").to_be_bytes()
}

pub(crate) fn eth(kind: u16, rest: &[u8]) -> Octets {
    join(&[&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &kind.to_be_bytes(), rest])
}

/// A VLAN tag's inside: stands behind its EtherType.
pub(crate) fn tag(id: u16, kind: u16, rest: &[u8]) -> Octets {
    join(&[&(0x6000 | id).to_be_bytes(), &kind.to_be_bytes(), rest])
}

/// One MPLS label.
pub(crate) fn label(value: u32, bottom: bool, rest: &[u8]) -> Octets {
    join(&[&(value << 12 | u32::from(bottom) << 8 | 64).to_be_bytes(), rest])
}

/// IPv4 with ToS 0x28, TTL 61.
pub(crate) fn ipv4_of(addresses: [[u8; 4]; 2], protocol: u8, rest: &[u8]) -> Octets {
    let mut header = vec![0x45, 0x28, 0, 0, 0x12, 0x34, 0, 0, 61, protocol, 0, 0];
    header[2..4].copy_from_slice(&len16(20 + rest.len()));
    join(&[&header, &addresses[0], &addresses[1], rest])
}

pub(crate) fn ipv4(protocol: u8, rest: &[u8]) -> Octets {
    ipv4_of(V4, protocol, rest)
}

/// IPv6 with traffic class 0x28, hop limit 61.
pub(crate) fn ipv6(next: u8, rest: &[u8]) -> Octets {
    let header = [&[0x62, 0x80, 0, 0][..], &len16(rest.len()), &[next, 61]].concat();
    join(&[&header, &V6[0].octets(), &V6[1].octets(), rest])
}

pub(crate) fn udp(src: u16, dst: u16, payload: &[u8]) -> Octets {
    join(&[&src.to_be_bytes(), &dst.to_be_bytes(), &len16(8 + payload.len()), &[0, 0], payload])
}

/// TCP with sequence number 1, acknowledgement number 2, ports 1234 and 80.
pub(crate) fn tcp(flags: u16, payload: &[u8]) -> Octets {
    let ports = [4, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2];
    join(&[&ports, &(0x5000 | flags).to_be_bytes(), &[1, 0, 0, 0, 0, 0], payload])
}

/// The packet in every tunnel: UDP 5000 to 53 with 10 octets, 38 in all.
pub(crate) fn inner() -> Octets {
    ipv4_of(INNER_V4, 17, &udp(5_000, 53, &[9; 10]))
}
