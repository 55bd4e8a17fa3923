//! Packets of other people's captures: each is read and counted once, and two oracles agree.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use weir::decode::packet::{Exception, LinkType, Options, parse};
use weir::input::pcap::{PcapError, open};
use weir::metrics::Ledgers;
use weir::net::Addr;

use crate::harness::captures;
use crate::support;

/// Calls `packet` for every packet of a capture; returns why it could not be read to the end.
fn each_packet(path: &Path, mut packet: impl FnMut(LinkType, &[u8], u32)) -> Option<PcapError> {
    let mut reader = match open(path) {
        Ok(reader) => reader,
        Err(error) => return Some(error),
    };
    loop {
        match reader.next() {
            Ok(Some(p)) => packet(p.link, p.data, p.wire_len),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// The data of the `packets` group: other parts of it hold expectations that are no captures.
fn groups() -> Option<(PathBuf, Vec<PathBuf>)> {
    let folder = support::vectors("packets")?;
    let captures = captures(&folder);
    assert!(captures.len() > 800, "{} captures", captures.len());
    Some((folder, captures))
}

#[test]
fn every_packet_is_a_record_or_one_named_exception() {
    let Some((_, captures)) = groups() else { return };
    let mut ledgers = Ledgers::default();
    let (mut links, mut errors) = (BTreeMap::<u16, u64>::new(), BTreeMap::<_, u64>::new());
    let mut tunnels = BTreeMap::<_, u64>::new();
    for path in &captures {
        let error = each_packet(path, |link, data, wire_len| {
            ledgers.packets.read += 1;
            match parse(link, data, wire_len, &Options::default()) {
                Ok(record) => {
                    assert!(record.payload <= record.octets, "{}", path.display());
                    ledgers.packets.metered += 1;
                    let kind = record.tunnel.map_or("none", |tunnel| tunnel.kind.as_str());
                    *tunnels.entry(kind).or_default() += 1;
                }
                Err(exception) => {
                    assert!(Exception::REASONS.contains(&exception.reason()));
                    ledgers.packets.excepted.one(exception.reason());
                    if let Exception::UnsupportedLink { link } = exception {
                        *links.entry(link).or_default() += 1;
                    }
                }
            }
        });
        if let Some(error) = error {
            assert!(error.offset().is_some(), "{}: {error}", path.display());
            *errors.entry(error.reason()).or_default() += 1;
        }
    }
    assert_eq!(ledgers.imbalances(), Vec::<String>::new());
    let p = &ledgers.packets;
    eprintln!("{} captures, {} packets, {} metered", captures.len(), p.read, p.metered);
    eprintln!("excepted: {:?}", p.excepted);
    eprintln!("metered by tunnel: {tunnels:?}");
    eprintln!("packets by link type without a decoder: {links:?}");
    eprintln!("captures that end in an error: {errors:?}");
    assert!(p.metered > 30_000, "{} metered", p.metered);
}

/// What etherparse and Weir both tell of a packet: addresses, protocol, ports, payload octets.
type Told = (Addr, Addr, u8, u16, u16, u32);

/// What etherparse says of a plain TCP or UDP packet that is whole, not fragmented, and sound.
fn told_by_etherparse(data: &[u8]) -> Option<Told> {
    let packet = SlicedPacket::from_ethernet(data).ok()?;
    let (src, dst, payload): (IpAddr, IpAddr, _) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        NetSlice::Arp(_) => return None,
    };
    if payload.fragmented {
        return None;
    }
    let (protocol, octets) = (payload.ip_number.0, payload.payload.len());
    let (src_port, dst_port, payload) = match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            (tcp.source_port(), tcp.destination_port(), octets - usize::from(tcp.data_offset()) * 4)
        }
        TransportSlice::Udp(udp) => {
            // Length 0: of a datagram that offload has yet to cut.
            let octets = if udp.length() == 0 { octets } else { usize::from(udp.length()) };
            (udp.source_port(), udp.destination_port(), octets - 8)
        }
        _ => return None,
    };
    Some((src.into(), dst.into(), protocol, src_port, dst_port, u32::try_from(payload).ok()?))
}

#[test]
fn etherparse_tells_the_same() {
    let Some((folder, captures)) = groups() else { return };
    let options = Options { tunnels: false, depth_max: 0 };
    let (mut compared, mut whole) = (0, 0);
    for path in &captures {
        each_packet(path, |link, data, wire_len| {
            if link != LinkType::ETHERNET || data.len() != wire_len as usize {
                return;
            }
            whole += 1;
            // Unencrypted MACsec, which etherparse looks through, is not IP to Weir.
            if data.windows(2).take(32).any(|kind| kind == [0x88, 0xe5]) {
                return;
            }
            let Some(want) = told_by_etherparse(data) else { return };
            let name = path.strip_prefix(&folder).expect("below").display();
            let r = parse(link, data, wire_len, &options);
            let r = r.unwrap_or_else(|exception| panic!("{name}: {exception}, want {want:?}"));
            let got = (r.src, r.dst, r.protocol, r.src_port, r.dst_port, r.payload);
            assert_eq!(got, want, "{name}");
            compared += 1;
        });
    }
    eprintln!("{compared} of {whole} whole Ethernet packets compared");
    assert!(compared > 10_000, "{compared} compared");
}

/// libpcap reads the same packets from every capture that it reads at all.
#[cfg(feature = "capture")]
#[test]
fn libpcap_reads_the_same() {
    let Some((folder, captures)) = groups() else { return };
    let (mut compared, mut packets, mut refused) = (0, 0, 0);
    for path in captures.iter().filter(|path| !path.to_string_lossy().ends_with(".gz")) {
        let name = path.strip_prefix(&folder).expect("below").display();
        let Ok(mut theirs) = pcap::Capture::from_file(path) else {
            refused += 1;
            eprintln!("libpcap refuses {name}");
            continue;
        };
        let mut ended = false;
        let mut count = 0;
        let ours = each_packet(path, |_, data, wire_len| {
            if ended {
                return;
            }
            match theirs.next_packet() {
                Ok(packet) => {
                    let caplen = u32::try_from(data.len()).expect("bounded");
                    // libpcap cuts what is longer than the file's own snap length.
                    assert!(data.starts_with(packet.data), "{name}: packet {count}");
                    assert_eq!(packet.header.len.max(caplen), wire_len, "{name}");
                    count += 1;
                }
                Err(error) => {
                    eprintln!("{name}: libpcap after {count}: {error}");
                    ended = true;
                }
            }
        });
        if let Some(error) = ours {
            let more = theirs.next_packet();
            assert!(ended || more.is_err(), "{name}: {error}, libpcap reads on");
        } else if !ended {
            assert!(theirs.next_packet().is_err(), "{name}: libpcap reads on after {count}");
        }
        compared += 1;
        packets += count;
    }
    eprintln!("{compared} captures, {packets} packets compared; libpcap refuses {refused}");
    assert!(compared > 800, "{compared} captures");
}

/// What must hold of any octets.
#[track_caller]
fn holds(link: LinkType, frame: &[u8], wire_len: u32, options: &Options) {
    match parse(link, frame, wire_len, options) {
        Ok(record) => {
            assert!(record.payload <= record.octets, "{record:?}");
            assert_eq!(record.octets_l2, wire_len.max(u32::try_from(frame.len()).expect("small")));
        }
        Err(exception) => assert!(Exception::REASONS.contains(&exception.reason())),
    }
}

proptest! {
    #[test]
    fn any_bytes_never_panic(
        link in 0_usize..=LinkType::SUPPORTED.len(),
        frame in prop::collection::vec(any::<u8>(), 0..300),
        wire_len in 0_u32..400,
        depth_max in 0_u8..9,
    ) {
        let link = LinkType::SUPPORTED.get(link).copied().unwrap_or(LinkType(9_999));
        let options = Options { tunnels: true, depth_max };
        holds(link, &frame, wire_len, &options);
        holds(link, &frame, u32::MAX, &options);
    }

    /// Sound headers, then anything: reaches what random octets alone do not.
    #[test]
    fn any_bytes_in_a_tunnel_never_panic(
        port in prop::sample::select(vec![4_789_u16, 8_472, 6_081, 2_152, 3_544]),
        protocol in prop::sample::select(vec![0_u8, 4, 6, 17, 41, 43, 44, 47, 51, 60, 135]),
        head in prop::collection::vec(any::<u8>(), 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..200),
        v6 in any::<bool>(),
        captured in 0_usize..300,
    ) {
        let rest = [&head[..], &rest].concat();
        let rest =
            if protocol == 17 { crate::frames::udp(1, port, &rest) } else { rest };
        let frame = if v6 {
            crate::frames::eth(0x86dd, &crate::frames::ipv6(protocol, &rest))
        } else {
            crate::frames::eth(0x0800, &crate::frames::ipv4(protocol, &rest))
        };
        let wire_len = u32::try_from(frame.len()).expect("small");
        let cut = &frame[..captured.min(frame.len())];
        holds(LinkType::ETHERNET, cut, wire_len, &Options::default());
    }
}
