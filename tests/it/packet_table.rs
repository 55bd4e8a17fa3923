//! Every link type, extension header and tunnel as a row: the frame, and the record it must be.

use weir::decode::packet::{
    Exception, HEADERS_MAX, Layer, LinkType, Options, claims_beyond_wire, is_giant, parse,
};
use weir::flow::record::{Fragment, PacketRecord, TcpHeader, Tunnel, TunnelKind};
use weir::net::Addr;
use weir::time::Micros;

use crate::frames::{
    INNER_V4, Octets, V4, V6, eth, inner, ipv4, ipv6, join, label, len16, tag, tcp, udp,
};

const ETHERNET: LinkType = LinkType::ETHERNET;

fn v4(octets: [u8; 4]) -> Addr {
    Addr::v4(u32::from_be_bytes(octets))
}

/// The record of the UDP packet of [`inner`], out of no tunnel.
fn inner_record() -> PacketRecord {
    PacketRecord {
        stamp: Micros(0),
        time: Micros(0),
        site: 0,
        src: v4(INNER_V4[0]),
        dst: v4(INNER_V4[1]),
        src_port: 5_000,
        dst_port: 53,
        protocol: 17,
        tos: 0x28,
        ttl: 61,
        vlan: None,
        octets: 38,
        octets_l2: 0,
        payload: 10,
        tcp: None,
        fragment: None,
        tunnel: None,
    }
}

/// The record of an IPv4 packet of [`ipv4`] without ports.
fn record(protocol: u8, octets: u32, payload: u32) -> PacketRecord {
    let (src, dst) = (v4(V4[0]), v4(V4[1]));
    let plain = inner_record();
    PacketRecord { src, dst, src_port: 0, dst_port: 0, protocol, octets, payload, ..plain }
}

fn ports(record: PacketRecord, src_port: u16, dst_port: u16) -> PacketRecord {
    PacketRecord { src_port, dst_port, ..record }
}

fn from_v6(record: PacketRecord) -> PacketRecord {
    PacketRecord { src: Addr::v6(V6[0].octets()), dst: Addr::v6(V6[1].octets()), ..record }
}

fn tunnelled(kind: TunnelKind, id: u32) -> PacketRecord {
    let tunnel = Tunnel { kind, src: v4(V4[0]), dst: v4(V4[1]), id };
    PacketRecord { tunnel: Some(tunnel), ..inner_record() }
}

/// `want` with the frame's length as its L2 octets.
#[track_caller]
fn check(name: &str, link: LinkType, frame: &[u8], want: PacketRecord) {
    check_cut(name, link, frame, frame.len(), want);
}

/// The same of the first `captured` octets.
#[track_caller]
fn check_cut(name: &str, link: LinkType, frame: &[u8], captured: usize, want: PacketRecord) {
    let wire_len = u32::try_from(frame.len()).expect("small");
    let want = PacketRecord { octets_l2: wire_len, ..want };
    let got = parse(link, &frame[..captured], wire_len, &Options::default());
    assert_eq!(got, Ok(want), "case: {name}");
}

#[track_caller]
fn check_not(name: &str, link: LinkType, frame: &[u8], wire_len: usize, want: Exception) {
    let wire_len = u32::try_from(wire_len).expect("small");
    let got = parse(link, frame, wire_len, &Options::default());
    assert_eq!(got, Err(want), "case: {name}");
    assert!(Exception::REASONS.contains(&want.reason()), "case: {name}");
}

#[test]
fn link_layers_lead_to_ip() {
    let (p, want) = (inner(), inner_record());
    let p6 = ipv6(17, &udp(5_000, 53, &[9; 10]));
    let want6 = PacketRecord { octets: 58, ..from_v6(want) };
    let vlan = |id| PacketRecord { vlan: Some(id), ..want };
    let ppp = |protocol: &[u8]| join(&[protocol, &p]);

    check("ethernet", ETHERNET, &eth(0x0800, &p), want);
    check("ethernet v6", ETHERNET, &eth(0x86dd, &p6), want6);
    check("ethernet with padding", ETHERNET, &eth(0x0800, &join(&[&p, &[0; 30]])), want);
    for tpid in [0x8100, 0x88a8, 0x9100] {
        let one = eth(tpid, &tag(7, 0x0800, &p));
        check("802.1Q", ETHERNET, &one, vlan(7));
        let two = eth(tpid, &tag(100, 0x8100, &tag(7, 0x0800, &p)));
        check("QinQ: the outermost", ETHERNET, &two, vlan(100));
    }
    check("priority tag", ETHERNET, &eth(0x8100, &tag(0, 0x0800, &p)), want);
    check("mpls", ETHERNET, &eth(0x8847, &label(16, false, &label(17, true, &p))), want);
    check("mpls v6", ETHERNET, &eth(0x8848, &label(17, true, &p6)), want6);
    let pseudowire = label(17, true, &join(&[&[0; 4], &eth(0x0800, &p)]));
    check("mpls pseudowire", ETHERNET, &eth(0x8847, &pseudowire), want);
    let no_control_word = label(17, true, &eth(0x8100, &tag(9, 0x0800, &p)));
    check("pseudowire without control word", ETHERNET, &eth(0x8847, &no_control_word), vlan(9));
    let session = join(&[&[0x11, 0, 0, 1], &len16(p.len() + 2), &ppp(&[0, 0x21])]);
    check("pppoe", ETHERNET, &eth(0x8864, &session), want);
    check("pppoe in vlan", ETHERNET, &eth(0x8100, &tag(3, 0x8864, &session)), vlan(3));
    check("ppp ether", LinkType::PPP_ETHER, &session, want);
    let snap = join(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &p]);
    check("802.3 SNAP", ETHERNET, &eth(46, &snap), want);
    check("802.3 LLC IP", ETHERNET, &eth(41, &join(&[&[6, 6, 3], &p])), want);

    let sll = |kind: u16, rest: &[u8]| {
        join(&[&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], &kind.to_be_bytes(), rest])
    };
    check("sll", LinkType::LINUX_SLL, &sll(0x0800, &p), want);
    check("sll vlan", LinkType::LINUX_SLL, &sll(0x8100, &tag(5, 0x0800, &p)), vlan(5));
    check("sll llc", LinkType::LINUX_SLL, &sll(4, &snap), want);
    let sll2 = join(&[&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0], &p]);
    check("sll2", LinkType::LINUX_SLL2, &sll2, want);

    for link in [LinkType::RAW, LinkType::RAW_12, LinkType::RAW_14, LinkType::IPV4] {
        check("raw", link, &p, want);
    }
    for link in [LinkType::RAW, LinkType::IPV6] {
        check("raw v6", link, &p6, want6);
    }
    for link in [LinkType::NULL, LinkType::LOOP] {
        check("null, little-endian", link, &join(&[&2_u32.to_le_bytes(), &p]), want);
        check("null, big-endian", link, &join(&[&2_u32.to_be_bytes(), &p]), want);
        for family in [10_u32, 23, 24, 28, 30] {
            check("null v6", link, &join(&[&family.to_le_bytes(), &p6]), want6);
            check("null v6", link, &join(&[&family.to_be_bytes(), &p6]), want6);
        }
    }
    for link in [LinkType::PPP, LinkType::PPP_HDLC] {
        check("ppp with address", link, &ppp(&[0xff, 3, 0, 0x21]), want);
        check("ppp without", link, &ppp(&[0, 0x21]), want);
        check("ppp, short protocol", link, &ppp(&[0x21]), want);
        check("ppp v6", link, &join(&[&[0xff, 3, 0, 0x57], &p6]), want6);
        let mpls = join(&[&[0xff, 3, 2, 0x81], &label(17, true, &p)]);
        check("ppp mpls", link, &mpls, want);
    }
    check("pppd", LinkType::PPP_PPPD, &ppp(&[1, 3, 0, 0x21]), want);
    check("cisco hdlc", LinkType::C_HDLC, &ppp(&[0x0f, 0, 8, 0]), want);
    check("cisco hdlc as 50", LinkType::PPP_HDLC, &ppp(&[0x8f, 0, 8, 0]), want);
}

#[test]
fn ip_headers_give_octets_and_fragments() {
    let segment = tcp(0x118, &[1; 5]);
    let header = TcpHeader { flags: 0x118, seq: 1, ack: 2 };
    let want = |octets, payload| {
        let plain = ports(record(6, octets, payload), 1_234, 80);
        PacketRecord { tcp: Some(header), ..plain }
    };
    let edit = |at: usize, octets: &[u8]| {
        let mut frame = eth(0x0800, &ipv4(6, &segment));
        frame[14 + at..14 + at + octets.len()].copy_from_slice(octets);
        frame
    };
    check("tcp", ETHERNET, &edit(0, &[]), want(45, 5));
    check("total length 0: offload", ETHERNET, &edit(2, &[0, 0]), want(45, 5));
    check("the wire carries less", ETHERNET, &edit(2, &[0, 200]), want(200, 160));
    let mut options = ipv4(6, &join(&[&[1, 1, 1, 0], &segment]));
    options[0] = 0x46;
    check("options", ETHERNET, &eth(0x0800, &options), want(49, 5));

    let fragment = |offset, more| Some(Fragment { id: 0x1234, offset, more });
    let first = PacketRecord { fragment: fragment(0, true), ..want(45, 5) };
    check("first fragment", ETHERNET, &edit(6, &[0x20, 0]), first);
    let later = PacketRecord { fragment: fragment(0x1ff8, true), ..record(6, 45, 25) };
    check("later fragment", ETHERNET, &edit(6, &[0x23, 0xff]), later);
    let last = PacketRecord { fragment: fragment(8, false), ..record(6, 45, 25) };
    check("last fragment", ETHERNET, &edit(6, &[0, 1]), last);
    check("don't fragment", ETHERNET, &edit(6, &[0x40, 0]), want(45, 5));
    let ah = ipv4(51, &join(&[&[6, 4], &[0; 22], &segment]));
    check("authentication header", ETHERNET, &eth(0x0800, &ah), want(69, 5));

    let v6 = |octets| from_v6(want(octets, 5));
    let chain = join(&[&[60, 0], &[0; 6], &[43, 1], &[0; 14], &[6, 0], &[0; 6], &segment]);
    check("hop-by-hop, options, routing", ETHERNET, &eth(0x86dd, &ipv6(0, &chain)), v6(97));
    let ah = join(&[&[6, 4], &[0; 22], &segment]);
    check("v6 authentication header", ETHERNET, &eth(0x86dd, &ipv6(51, &ah)), v6(89));
    let atomic = join(&[&[6, 0, 0, 0, 0, 0, 0, 9], &segment]);
    check("atomic fragment", ETHERNET, &eth(0x86dd, &ipv6(44, &atomic)), v6(73));
    let fragment = |offset, more| Some(Fragment { id: 9, offset, more });
    let first = join(&[&[6, 0, 0, 1, 0, 0, 0, 9], &segment]);
    let first_want = PacketRecord { fragment: fragment(0, true), ..v6(73) };
    check("v6 first fragment", ETHERNET, &eth(0x86dd, &ipv6(44, &first)), first_want);
    let later = join(&[&[60, 0, 0, 0x11, 0, 0, 0, 9], &segment]);
    let later_want = from_v6(record(60, 73, 25));
    let later_want = PacketRecord { fragment: fragment(16, true), ..later_want };
    check("v6 later fragment", ETHERNET, &eth(0x86dd, &ipv6(44, &later)), later_want);
    let mut jumbo = ipv6(0, &join(&[&[6, 0, 0xc2, 4, 0, 1, 0, 0], &segment]));
    jumbo[4..6].fill(0);
    check("jumbogram: by the wire", ETHERNET, &eth(0x86dd, &jumbo), v6(73));
    let mobility = ipv6(135, &join(&[&[59, 1], &[0; 14]]));
    check("mobility", ETHERNET, &eth(0x86dd, &mobility), from_v6(record(135, 56, 16)));
    let nothing = eth(0x86dd, &join(&[&ipv6(59, &[]), &[0; 6]]));
    check("no next header, padded", ETHERNET, &nothing, from_v6(record(59, 40, 0)));
}

#[test]
fn transports_give_ports_and_payload() {
    let v4 = |protocol, rest: &[u8]| eth(0x0800, &ipv4(protocol, rest));
    let udp_want = ports(record(17, 32, 4), 7, 9);
    check("udp", ETHERNET, &v4(17, &udp(7, 9, &[0; 4])), udp_want);
    let mut options = v4(17, &udp(7, 9, &[0; 4]));
    options[39] = 10;
    check(
        "udp options are no payload",
        ETHERNET,
        &options,
        PacketRecord { payload: 2, ..udp_want },
    );
    options[39] = 0;
    check("udp length 0", ETHERNET, &options, udp_want);
    options[39] = 200;
    check("udp length beyond ip", ETHERNET, &options, udp_want);
    check("icmp", ETHERNET, &v4(1, &[8, 3, 0, 0, 0, 0, 0, 0, 5]), ports(record(1, 29, 1), 8, 3));
    let icmp6 = eth(0x86dd, &ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]));
    check("icmpv6", ETHERNET, &icmp6, from_v6(ports(record(58, 48, 0), 135, 0)));
    let sctp = join(&[&[0, 7, 0, 9], &[0; 12]]);
    check("sctp", ETHERNET, &v4(132, &sctp), ports(record(132, 36, 4), 7, 9));
    check("esp", ETHERNET, &v4(50, &[0; 12]), record(50, 32, 12));
    check("ospf", ETHERNET, &v4(89, &[0; 12]), record(89, 32, 12));

    let segment = v4(6, &join(&[&[4, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 2], &[0; 13]]));
    let tcp = Some(TcpHeader { flags: 2, seq: 1, ack: 2 });
    let whole = PacketRecord { tcp, ..ports(record(6, 47, 3), 1_234, 80) };
    check("tcp options", ETHERNET, &segment, whole);
    check_cut("captured to the flags", ETHERNET, &segment, 34 + 14, whole);
    let no_flags = PacketRecord { tcp: None, ..whole };
    check_cut("captured to the data offset", ETHERNET, &segment, 34 + 13, no_flags);
    let ports_only = PacketRecord { payload: 7, ..no_flags };
    check_cut("captured to the ports", ETHERNET, &segment, 34 + 4, ports_only);
    let tiny = PacketRecord {
        fragment: Some(Fragment { id: 0x1234, offset: 0, more: true }),
        ..ports(record(6, 28, 0), 1_234, 80)
    };
    let mut frame = v4(6, &[4, 0xd2, 0, 80, 0, 0, 0, 1]);
    frame[20] = 0x20;
    check("a first fragment below the header", ETHERNET, &frame, tiny);
}

#[test]
fn tunnels_give_the_innermost_flow() {
    use TunnelKind as T;
    let p = inner();
    let e = eth(0x0800, &p);
    let plain = |rest: &[u8], protocol| eth(0x0800, &ipv4(protocol, rest));
    let gre = |header: &[u8], rest: &[u8]| plain(&join(&[header, rest]), 47);
    let over_udp =
        |port, header: &[u8], rest: &[u8]| plain(&udp(40_000, port, &join(&[header, rest])), 17);
    check("ip in ip", ETHERNET, &plain(&p, 4), tunnelled(T::IpInIp, 0));
    let p6 = ipv6(17, &udp(5_000, 53, &[9; 10]));
    let six = PacketRecord { octets: 58, ..from_v6(tunnelled(T::SixInFour, 0)) };
    check("6in4", ETHERNET, &plain(&p6, 41), six);
    let outer6 = Tunnel { src: six.src, dst: six.dst, kind: T::IpInIp, id: 0 };
    let in6 = PacketRecord { tunnel: Some(outer6), ..inner_record() };
    check("4in6", ETHERNET, &eth(0x86dd, &ipv6(4, &p)), in6);
    let six_in_six = PacketRecord { tunnel: Some(outer6), ..six };
    check("6in6", ETHERNET, &eth(0x86dd, &ipv6(41, &p6)), six_in_six);

    check("gre", ETHERNET, &gre(&[0, 0, 8, 0], &p), tunnelled(T::Gre, 0));
    check("gre v6", ETHERNET, &gre(&[0, 0, 0x86, 0xdd], &p6), {
        PacketRecord { octets: 58, ..from_v6(tunnelled(T::Gre, 0)) }
    });
    let all = [0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 77, 0, 0, 0, 1];
    check("gre checksum, key, sequence", ETHERNET, &gre(&all, &p), tunnelled(T::Gre, 77));
    check("gre bridged", ETHERNET, &gre(&[0x20, 0, 0x65, 0x58, 0, 0, 1, 0], &e), {
        tunnelled(T::Gre, 256)
    });
    let mpls = label(17, true, &p);
    check("gre mpls", ETHERNET, &gre(&[0, 0, 0x88, 0x47], &mpls), tunnelled(T::Gre, 0));
    for redirect in [&[][..], &[0, 1, 2, 3]] {
        let wccp = join(&[&[0, 0, 0x88, 0x3e], redirect]);
        check("gre wccp", ETHERNET, &gre(&wccp, &p), tunnelled(T::Gre, 0));
    }
    let pptp = [0x30, 0x81, 0x88, 0x0b, 0, 42, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 3, 0, 0x21];
    check("pptp", ETHERNET, &gre(&pptp, &p), tunnelled(T::Gre, 5));

    check("erspan I", ETHERNET, &gre(&[0, 0, 0x88, 0xbe], &e), tunnelled(T::Erspan, 0));
    let two = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0, 99, 0, 0, 0, 0];
    check("erspan II", ETHERNET, &gre(&two, &e), tunnelled(T::Erspan, 99));
    let mut long = e.clone();
    long[16..18].copy_from_slice(&[1, 0]);
    let mut cut = two;
    cut[10] = 0x04;
    let cut_want = PacketRecord { octets: 256, ..tunnelled(T::Erspan, 99) };
    check("erspan II, mirrored frame cut", ETHERNET, &gre(&cut, &long), cut_want);
    let three = |trailer: &[u8]| {
        join(&[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0, 98, 0, 0, 0, 0, 0, 0], trailer])
    };
    check("erspan III", ETHERNET, &gre(&three(&[0, 0]), &e), tunnelled(T::Erspan, 98));
    let sub = join(&[&three(&[0, 1]), &[0; 8]]);
    check("erspan III, subheader", ETHERNET, &gre(&sub, &e), tunnelled(T::Erspan, 98));
    check("erspan III, ip", ETHERNET, &gre(&three(&[8, 0]), &p), tunnelled(T::Erspan, 98));

    let vxlan = [8, 0, 0, 0, 0, 1, 2, 0];
    for port in [4789, 8472] {
        check("vxlan", ETHERNET, &over_udp(port, &vxlan, &e), tunnelled(T::Vxlan, 258));
    }
    let bridged = [0, 0, 0x65, 0x58, 0, 1, 2, 0];
    check("geneve", ETHERNET, &over_udp(6081, &bridged, &e), tunnelled(T::Geneve, 258));
    let with_options = [2, 0, 8, 0, 0, 1, 2, 0, 1, 1, 1, 1, 2, 2, 2, 2];
    check("geneve options", ETHERNET, &over_udp(6081, &with_options, &p), {
        tunnelled(T::Geneve, 258)
    });

    let gtp = |flags: u8, extra: &[u8]| {
        join(&[&[flags, 255], &len16(extra.len() + p.len()), &[0, 0, 1, 1], extra])
    };
    let check_gtp = |name: &str, header: &[u8]| {
        check(name, ETHERNET, &over_udp(2152, header, &p), tunnelled(T::GtpU, 257));
    };
    check_gtp("gtp-u", &gtp(0x30, &[]));
    check_gtp("gtp-u sequence", &gtp(0x32, &[0, 1, 0, 0]));
    check_gtp("gtp-u extension", &gtp(0x34, &[0, 0, 0, 0x85, 1, 0, 9, 0]));
    let two = [0, 0, 0, 0xc0, 1, 0, 0, 0x85, 2, 1, 1, 1, 1, 1, 1, 0];
    check_gtp("gtp-u two extensions", &gtp(0x34, &two));

    let teredo = PacketRecord { octets: 58, ..from_v6(tunnelled(T::Teredo, 0)) };
    check("teredo", ETHERNET, &over_udp(3544, &[], &p6), teredo);
    let auth = [0, 1, 2, 3, 9, 9, 8, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    check("teredo authentication", ETHERNET, &over_udp(3544, &auth, &p6), teredo);
    let origin = join(&[&auth, &[0, 0, 1, 2, 3, 4, 5, 6]]);
    check("teredo origin", ETHERNET, &over_udp(3544, &origin, &p6), teredo);
    let from_server = plain(&udp(3544, 40_000, &p6), 17);
    check("teredo from the server", ETHERNET, &from_server, teredo);

    let tagged = eth(0x8100, &tag(12, 0x0800, &p));
    let in_vlan = eth(0x8100, &tag(4, 0x0800, &ipv4(17, &udp(1, 4789, &join(&[&vxlan, &tagged])))));
    let want = PacketRecord { vlan: Some(4), ..tunnelled(T::Vxlan, 258) };
    check("the outermost vlan", ETHERNET, &in_vlan, want);
    let want = PacketRecord { vlan: Some(12), ..tunnelled(T::Vxlan, 258) };
    check("else the inner vlan", ETHERNET, &over_udp(4789, &vxlan, &tagged), want);
}

/// What only looks like a tunnel, or cannot be opened, is metered as it is.
#[test]
fn a_tunnel_that_cannot_be_opened_is_a_plain_flow() {
    let vxlan = |flags: u8, rest: &[u8]| join(&[&[flags, 0, 0, 0, 0, 1, 2, 0], rest]);
    let outer = |payload: &Octets| eth(0x0800, &ipv4(17, &udp(40_000, 4789, payload)));
    let check_plain = |name: &str, payload: Octets| {
        let frame = outer(&payload);
        let octets = u32::try_from(frame.len() - 14).expect("small");
        let want = ports(record(17, octets, octets - 28), 40_000, 4789);
        check(name, ETHERNET, &frame, want);
    };
    let e = eth(0x0800, &inner());
    check_plain("no I flag", vxlan(0, &e));
    check_plain("arp inside", vxlan(8, &eth(0x0806, &[0; 28])));
    check_plain("inner longer than outer", vxlan(8, &e[..e.len() - 1]));
    check_plain(
        "a vlan tag inside leaves no trace",
        vxlan(8, &eth(0x8100, &tag(9, 0x0806, &[0; 28]))),
    );
    check_plain("nothing inside", Octets::new());
    let key = [0x20, 0, 8, 6, 0, 0, 0, 1, 0, 0, 0, 0];
    check("gre of arp", ETHERNET, &eth(0x0800, &ipv4(47, &key)), record(47, 32, 12));

    let mut fragment = outer(&vxlan(8, &e));
    fragment[20] = 0x20;
    let octets = u32::try_from(fragment.len() - 14).expect("small");
    let want = PacketRecord {
        fragment: Some(Fragment { id: 0x1234, offset: 0, more: true }),
        ..ports(record(17, octets, octets - 28), 40_000, 4789)
    };
    check("a fragment", ETHERNET, &fragment, want);
    let whole = outer(&vxlan(8, &e));
    let want = PacketRecord { fragment: None, ..want };
    check_cut("captured short of the inner ports", ETHERNET, &whole, 14 + 28 + 8 + 34, want);
}

#[test]
fn the_depth_of_tunnels_is_bounded_and_switchable() {
    let wrap = |n: usize| (0..n).fold(inner(), |p, _| ipv4(4, &p));
    let frame = eth(0x0800, &wrap(3));
    let wire_len = u32::try_from(frame.len()).expect("small");
    let octets = |tunnels, depth_max| {
        let options = Options { tunnels, depth_max };
        parse(ETHERNET, &frame, wire_len, &options).map(|r| (r.protocol, r.octets))
    };
    assert_eq!(octets(true, 3), Ok((17, 38)));
    assert_eq!(octets(true, 2), Ok((4, 58)));
    assert_eq!(octets(true, 0), Ok((4, 98)));
    assert_eq!(octets(false, 3), Ok((4, 98)));
    // The bound on headers ends the deepest walk.
    let frame = eth(0x0800, &wrap(100));
    let options = Options { tunnels: true, depth_max: u8::MAX };
    let record = parse(ETHERNET, &frame, 0, &options).expect("metered where the bound is");
    assert_eq!(record.octets, 38 + 20 * (100 - u32::from(HEADERS_MAX)));
}

#[test]
fn what_is_no_record_is_a_named_exception() {
    use Exception as E;
    let frame = eth(0x0800, &ipv4(6, &tcp(2, &[])));
    let edit = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        frame
    };
    let whole = frame.len();
    let check = |name: &str, frame: &[u8], want| check_not(name, ETHERNET, frame, whole, want);
    check_not("radiotap", LinkType(127), &frame, whole, E::UnsupportedLink { link: 127 });
    check("arp", &eth(0x0806, &[0; 28]), E::NotIp { offset: 12, found: 0x0806 });
    let arp = eth(0x8100, &tag(9, 0x0806, &[0; 28]));
    check("arp in vlan", &arp, E::NotIp { offset: 16, found: 0x0806 });
    check("stp", &eth(38, &[0x42, 0x42, 3, 0, 0]), E::NotIp { offset: 14, found: 0x4242 });
    let cdp = eth(38, &[0xaa, 0xaa, 3, 0, 0, 0xc, 0x20, 0]);
    check("cdp", &cdp, E::NotIp { offset: 20, found: 0x2000 });
    let cut = E::TruncatedCapture { offset: 14, need: 20, have: 16 };
    check("captured short of ip", &frame[..30], cut);
    let cut = E::TruncatedCapture { offset: 34, need: 4, have: 3 };
    check("captured short of ports", &frame[..37], cut);
    let short = E::Short { layer: Layer::Link, offset: 0, need: 14, have: 5 };
    check_not("runt", ETHERNET, &frame[..5], 5, short);
    let short = E::Short { layer: Layer::Ip, offset: 14, need: 20, have: 16 };
    check_not("the wire carried no more", ETHERNET, &frame[..30], 30, short);
    let short = E::Short { layer: Layer::Transport, offset: 34, need: 4, have: 3 };
    check_not("nor here", ETHERNET, &frame[..37], 37, short);
    check("version 5", &edit(14, 0x55), E::IpVersion { offset: 14, found: 5, expected: 4 });
    check("header length 16", &edit(14, 0x44), E::IpHeaderLength { offset: 14, found: 16 });
    let length = E::IpLength { offset: 14, found: 19, least: 20, most: u32::MAX };
    check("total length 19", &edit(17, 19), length);
    let short = E::Short { layer: Layer::Transport, offset: 34, need: 20, have: 19 };
    check("segment of 19", &edit(17, 39), short);
    let tcp_length = |found| E::TcpHeaderLength { offset: 34, found, most: 20 };
    check("data offset 4", &edit(46, 0x40), tcp_length(16));
    check("data offset 6", &edit(46, 0x60), tcp_length(24));
    let tags = (0..40).fold(inner(), |rest, _| tag(1, 0x8100, &rest));
    let most = 14 + 4 * u32::from(HEADERS_MAX);
    check("40 tags", &eth(0x8100, &tags), E::HeadersBeyondBound { offset: most });
    let chain = eth(0x86dd, &ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(20)));
    check("20 extension headers", &chain, E::ExtensionsBeyondBound { offset: 54 + 17 * 8 });
    let chain = eth(0x86dd, &ipv6(60, &[6, 3, 0, 0, 0, 0, 0, 0]));
    let short = E::Short { layer: Layer::Ip, offset: 54, need: 32, have: 8 };
    check("extension header beyond the packet", &chain, short);
}

#[test]
fn giants_and_false_lengths_can_be_told() {
    let parse = |frame: &[u8]| parse(ETHERNET, frame, 0, &Options::default()).expect("a record");
    let small = parse(&eth(0x0800, &inner()));
    assert!(!is_giant(&small) && !claims_beyond_wire(&small));
    let giant = parse(&eth(0x0800, &ipv4(6, &tcp(16, &[0; 20_000]))));
    assert!(is_giant(&giant) && !claims_beyond_wire(&giant));
    let mut lie = eth(0x0800, &inner());
    lie[16] = 1;
    assert!(claims_beyond_wire(&parse(&lie)));
}
