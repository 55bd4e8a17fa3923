//! UDP datagrams with any source, from the IP header on: RFC 768, RFC 791, RFC 8200.

use std::net::{Ipv4Addr, Ipv6Addr};

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Routers on the way, at most.
const HOPS: u8 = 64;

/// One end: address and port.
pub(super) type End<A> = (A, u16);

/// Writes a packet of IPv4 over what is in `packet`. The header's own checksum and, where it is 0,
/// its identification are the kernel's to fill in (raw(7)). `payload` has at most 65,507 octets.
pub(super) fn ipv4(packet: &mut Vec<u8>, from: End<Ipv4Addr>, to: End<Ipv4Addr>, payload: &[u8]) {
    let total = short(IPV4_HEADER + UDP_HEADER + payload.len());
    packet.clear();
    // Version 4, five words; no service class; total length; no identification, no fragment.
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, HOPS, UDP, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let pseudo = sum(&from.0.octets()) + sum(&to.0.octets());
    udp(packet, (from.1, to.1), pseudo, payload);
}

/// The same of IPv6.
pub(super) fn ipv6(packet: &mut Vec<u8>, from: End<Ipv6Addr>, to: End<Ipv6Addr>, payload: &[u8]) {
    let length = short(UDP_HEADER + payload.len());
    packet.clear();
    // Version 6; no traffic class, no flow label.
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([UDP, HOPS]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    debug_assert_eq!(packet.len(), IPV6_HEADER);
    let pseudo = sum(&from.0.octets()) + sum(&to.0.octets());
    udp(packet, (from.1, to.1), pseudo, payload);
}

/// Appends header and payload of UDP; `pseudo` is the sum of the addresses.
fn udp(packet: &mut Vec<u8>, (from, to): (u16, u16), pseudo: u64, payload: &[u8]) {
    let length = short(UDP_HEADER + payload.len());
    let header = u64::from(from) + u64::from(to) + u64::from(length);
    let all = pseudo + u64::from(UDP) + u64::from(length) + header + sum(payload);
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend(fold(all).to_be_bytes());
    packet.extend(payload);
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The sum of the 16-bit words of `octets`, the last filled up with zero. Never overflows: a packet
/// has at most 32,768 words.
fn sum(octets: &[u8]) -> u64 {
    let mut words = octets.chunks_exact(2);
    let whole: u64 = words.by_ref().map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    whole + words.remainder().first().map_or(0, |&last| u64::from(last) << 8)
}

/// RFC 1071: the ones' complement of the ones' complement sum; 0 goes as its other form, as 0 says
/// that there is no checksum.
#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, PayloadSlice, TransportHeader};
    use proptest::prelude::*;

    use super::*;

    /// Reads `packet` with another's code, which also says what the checksum has to be.
    fn check(packet: &[u8], ports: (u16, u16), payload: &[u8], ends: [Vec<u8>; 2]) {
        let headers = PacketHeaders::from_ip_slice(packet).expect("a packet");
        let Some(TransportHeader::Udp(udp)) = headers.transport else { panic!("no UDP") };
        assert_eq!((udp.source_port, udp.destination_port), ports);
        let PayloadSlice::Udp(got) = headers.payload else { panic!("no payload of UDP") };
        assert_eq!(got, payload);
        let want = match (&*ends[0], &*ends[1]) {
            (from, to) if from.len() == 4 => {
                let four = |end: &[u8]| <[u8; 4]>::try_from(end).expect("four");
                udp.calc_checksum_ipv4_raw(four(from), four(to), payload)
            }
            (from, to) => {
                let sixteen = |end: &[u8]| <[u8; 16]>::try_from(end).expect("sixteen");
                udp.calc_checksum_ipv6_raw(sixteen(from), sixteen(to), payload)
            }
        };
        assert_eq!(udp.checksum, want.expect("short enough"));
        assert_eq!(usize::from(udp.length), UDP_HEADER + payload.len());
    }

    proptest! {
        #[test]
        fn packets_are_what_another_reads(
            from: [u8; 16], to: [u8; 16], ports: (u16, u16),
            payload in proptest::collection::vec(any::<u8>(), 0..1_500),
        ) {
            let mut packet = vec![1, 2, 3];
            let four = |end: &[u8; 16]| <[u8; 4]>::try_from(&end[..4]).expect("four");
            let (a, b) = (four(&from), four(&to));
            ipv4(&mut packet, (a.into(), ports.0), (b.into(), ports.1), &payload);
            check(&packet, ports, &payload, [a.to_vec(), b.to_vec()]);
            ipv6(&mut packet, (from.into(), ports.0), (to.into(), ports.1), &payload);
            check(&packet, ports, &payload, [from.to_vec(), to.to_vec()]);
        }
    }

    #[test]
    fn a_checksum_of_zero_goes_as_its_other_form() {
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_fffe), 0xffff);
        assert_eq!(fold(0), 0xffff);
        assert_eq!(fold(1), 0xfffe);
    }
}
