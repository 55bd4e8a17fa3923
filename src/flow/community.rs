//! Community ID v1: one text for a flow in every tool that speaks it.
//!
//! Source: the Community ID specification, version 1: `1:` and base64 of SHA-1 over seed, the lower
//! and the higher endpoint, protocol, a zero octet, and the ports where the protocol has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::key::{ICMP, ICMPV6, TCP, is_icmp};
use super::view::Biflow;
use crate::net::Addr;

/// ICMP types that ask and answer each other: echo, timestamp, information, router, address mask.
const ICMP_PAIRS: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
/// ICMPv6: echo, multicast listener, router, neighbour, node information, home agent discovery.
const ICMPV6_PAIRS: [(u8, u8); 6] =
    [(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)];

/// Characters of an id: the version, a colon, and 20 octets in base64.
const ID: usize = 2 + 28;

/// Community ID v1 of `flow` with `seed` (usually 0). Both directions give the same text.
///
/// The ports of ICMP and ICMPv6 are the message's type and that of its counterpart; a type without
/// counterpart stands beside its code, and such a flow keeps its direction.
#[must_use]
pub fn community_id(flow: &Biflow, seed: u16) -> String {
    let (ports, one_way) = ports(flow);
    let mut ends = [(flow.src, ports.map_or(0, |p| p.0)), (flow.dst, ports.map_or(0, |p| p.1))];
    if !one_way && !in_order(ends) {
        ends.reverse();
    }
    // All of it in one place, so that the hash is one call: seed, addresses, protocol, ports.
    let (mut text, mut length) = ([0; 2 + 2 * 16 + 2 + 2 * 2], 0);
    let mut add = |octets: &[u8]| {
        text[length..length + octets.len()].copy_from_slice(octets);
        length += octets.len();
    };
    add(&seed.to_be_bytes());
    ends.iter().for_each(|&(address, _)| match address.to_v4() {
        Some(bits) => add(&bits.to_be_bytes()),
        None => add(&address.0.to_be_bytes()),
    });
    add(&[flow.protocol, 0]);
    if ports.is_some() {
        ends.iter().for_each(|&(_, port)| add(&port.to_be_bytes()));
    }
    let mut id = String::with_capacity(ID);
    id.push_str("1:");
    STANDARD.encode_string(Sha1::digest(&text[..length]), &mut id);
    id
}

/// Whether the first endpoint is the lower one. IPv4 and IPv6 never meet in a flow, so integer
/// order is the order of octets.
fn in_order([a, b]: [(Addr, u16); 2]) -> bool {
    a < b
}

/// The ports, if the protocol has any, and whether they tie the flow to its direction.
fn ports(flow: &Biflow) -> (Option<(u16, u16)>, bool) {
    if is_icmp(flow.protocol) {
        let (kind, code) = (flow.src_port, flow.dst_port);
        let counterpart = counterpart(flow.protocol, kind);
        return (Some((kind, counterpart.unwrap_or(code))), counterpart.is_none());
    }
    // TCP, UDP and SCTP, as the specification lists them.
    let has_ports = matches!(flow.protocol, TCP | 17 | 132);
    (has_ports.then_some((flow.src_port, flow.dst_port)), false)
}

fn counterpart(protocol: u8, kind: u16) -> Option<u16> {
    let pairs: &[(u8, u8)] = match protocol {
        ICMP => &ICMP_PAIRS,
        ICMPV6 => &ICMPV6_PAIRS,
        _ => return None,
    };
    let kind = u8::try_from(kind).ok()?;
    let pair = pairs.iter().find(|(ask, answer)| *ask == kind || *answer == kind)?;
    Some(u16::from(if pair.0 == kind { pair.1 } else { pair.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: u8, src: &str, sport: u16, dst: &str, dport: u16) -> Biflow {
        let addr = |text: &str| text.parse().expect(text);
        Biflow {
            src: addr(src),
            dst: addr(dst),
            src_port: sport,
            dst_port: dport,
            protocol,
            ..Biflow::default()
        }
    }

    #[track_caller]
    fn check(name: &str, flows: &[Biflow], seed: u16, want: &str) {
        for flow in flows {
            assert_eq!(community_id(flow, seed), want, "case: {name}");
        }
    }

    #[test]
    fn ids_are_those_of_the_specification() {
        let want = "1:YoLkORb0qcQeOrBUXV1d6bXI/B0=";
        check(
            "tcp",
            &[
                flow(6, "10.0.0.1", 40_000, "192.0.2.7", 443),
                flow(6, "192.0.2.7", 443, "10.0.0.1", 40_000),
            ],
            0,
            want,
        );
        let want = "1:q9YEu1vVQk6rN9tR1hGnjMzFHIw=";
        check(
            "tcp, seed 1",
            &[
                flow(6, "10.0.0.1", 40_000, "192.0.2.7", 443),
                flow(6, "192.0.2.7", 443, "10.0.0.1", 40_000),
            ],
            1,
            want,
        );
        let want = "1:RYG3Msb11GthNt1OYXJouPzmrvA=";
        check(
            "tcp over IPv6",
            &[
                flow(6, "2001:db8::1", 40_000, "2001:db8::2", 443),
                flow(6, "2001:db8::2", 443, "2001:db8::1", 40_000),
            ],
            0,
            want,
        );
        let want = "1:m1cdRPNZ+QctwbvESDipFZRVoUc=";
        check(
            "udp, equal addresses",
            &[
                flow(17, "127.0.0.1", 53, "127.0.0.1", 5353),
                flow(17, "127.0.0.1", 5353, "127.0.0.1", 53),
            ],
            0,
            want,
        );
        let want = "1:idc8KohzvZNO+v0p82iNb9Z0ZV0=";
        check(
            "sctp",
            &[flow(132, "10.0.0.1", 7, "10.0.0.2", 7), flow(132, "10.0.0.2", 7, "10.0.0.1", 7)],
            0,
            want,
        );
        let want = "1:+KlEHDT0vJgzs/eNmzHq0aSpRYw=";
        check(
            "gre has no ports",
            &[flow(47, "10.0.0.1", 0, "10.0.0.2", 0), flow(47, "10.0.0.2", 0, "10.0.0.1", 0)],
            0,
            want,
        );
        let want = "1:Oc8V53+VyAtwe+q2dsNIaKJNtI0=";
        check(
            "icmp echo",
            &[flow(1, "10.0.0.9", 8, "10.0.0.1", 0), flow(1, "10.0.0.1", 0, "10.0.0.9", 8)],
            0,
            want,
        );
        let want = "1:Oc8V53+VyAtwe+q2dsNIaKJNtI0=";
        check("icmp echo", &[flow(1, "10.0.0.1", 0, "10.0.0.9", 0)], 0, want);
        let want = "1:FutSOBs/xBc7wkuFbYH/sZyfZw8=";
        check(
            "icmp unreachable keeps its direction",
            &[flow(1, "10.0.0.9", 3, "10.0.0.1", 1)],
            0,
            want,
        );
        let want = "1:RccclMw84o6RNTZIu2Ch2WkkE+0=";
        check(
            "icmp unreachable keeps its direction",
            &[flow(1, "10.0.0.1", 3, "10.0.0.9", 1)],
            0,
            want,
        );
        let want = "1:kLvM2Ye8x2nSIHUN7zu/jki5RfA=";
        check("icmpv6 neighbour", &[flow(58, "fe80::9", 135, "fe80::1", 0)], 0, want);
        let want = "1:kLvM2Ye8x2nSIHUN7zu/jki5RfA=";
        check("icmpv6 neighbour", &[flow(58, "fe80::1", 136, "fe80::9", 0)], 0, want);
        let want = "1:hx81dAUNH0/cxHsKpdjdIqpxUQM=";
        check("icmpv6 packet too big", &[flow(58, "fe80::9", 2, "fe80::1", 0)], 0, want);
    }
}
