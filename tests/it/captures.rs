//! Small captures, written octet by octet.

use crate::frames::{Octets, eth, ipv4_of, join, udp};

/// A packet: microseconds since the epoch, and the frame.
pub(crate) type Packet = (u64, Octets);

/// Of the first packet of [`conversations`].
pub(crate) const START_US: u64 = 1_700_000_000_000_000;

/// A pcap file, microseconds, little-endian, Ethernet.
pub(crate) fn pcap(packets: &[Packet]) -> Octets {
    let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
    let mut out: Octets = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (time, frame) in packets {
        let length = frame.len() as u32;
        let words = [(time / 1_000_000) as u32, (time % 1_000_000) as u32, length, length];
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        out.extend(frame);
    }
    out
}

/// A pcapng file with one interface, in microseconds.
pub(crate) fn pcapng(packets: &[Packet]) -> Octets {
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len() as u32).to_le_bytes();
        join(&[&kind.to_le_bytes(), &length, body, &length])
    };
    let section = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat();
    let mut out = block(0x0a0d_0d0a, &section);
    out.extend(block(1, &[1_u32, 0].map(u32::to_le_bytes).concat()));
    for (time, frame) in packets {
        let length = frame.len() as u32;
        let words = [0, (time >> 32) as u32, *time as u32, length, length];
        let mut body = words.map(u32::to_le_bytes).concat();
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        out.extend(block(6, &body));
    }
    out
}

pub(crate) fn tcp(ports: [u16; 2], numbers: [u32; 2], flags: u8, payload: &[u8]) -> Octets {
    let ports = ports.map(u16::to_be_bytes).concat();
    let numbers = numbers.map(u32::to_be_bytes).concat();
    join(&[&ports, &numbers, &[0x50, flags, 1, 0, 0, 0, 0, 0], payload])
}

/// A whole TCP connection: handshake, `turns` of one data packet each way, FINs. One packet a
/// millisecond.
pub(crate) fn connection(
    hosts: [[u8; 4]; 2],
    ports: [u16; 2],
    turns: u32,
    start_us: u64,
) -> Vec<Packet> {
    let mut numbers = [1_000_u32, 9_000];
    let mut packets = Vec::new();
    let mut send = |side: usize, flags: u8, payload: &[u8]| {
        let other = 1 - side;
        let ack = if flags & 0x10 == 0 { 0 } else { numbers[other] };
        let segment = tcp([ports[side], ports[other]], [numbers[side], ack], flags, payload);
        let frame = eth(0x0800, &ipv4_of([hosts[side], hosts[other]], 6, &segment));
        packets.push((start_us + packets.len() as u64 * 1_000, frame));
        numbers[side] += payload.len() as u32 + u32::from(flags & 0x03 != 0);
    };
    send(0, 0x02, &[]);
    send(1, 0x12, &[]);
    send(0, 0x10, &[]);
    for _ in 0..turns {
        send(0, 0x18, &[7; 40]);
        send(1, 0x18, &[8; 300]);
    }
    send(0, 0x11, &[]);
    send(1, 0x11, &[]);
    send(0, 0x10, &[]);
    packets
}

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Telnet, 10.0.0.1:40000 to 10.0.0.2:23: 8 packets and 480 octets out, 6 and 1,440 back; and a
/// query, 10.0.0.1:5000 to 10.0.0.3:53: 60 octets out, 90 back.
pub(crate) fn conversations() -> Vec<Packet> {
    let mut packets = connection([CLIENT, SERVER], [40_000, 23], 4, START_US);
    let resolver = [10, 0, 0, 3];
    let ask = ipv4_of([CLIENT, resolver], 17, &udp(5_000, 53, &[1; 32]));
    let answer = ipv4_of([resolver, CLIENT], 17, &udp(53, 5_000, &[2; 62]));
    packets.push((START_US + 50_000, eth(0x0800, &ask)));
    packets.push((START_US + 60_000, eth(0x0800, &answer)));
    packets
}

/// Datagrams from 192.0.2.1:2000 to port `port`, one a millisecond, as packets.
pub(crate) fn exports(payloads: &[Octets], port: u16) -> Vec<Packet> {
    let frame = |payload: &Octets| {
        let hosts = [[192, 0, 2, 1], [192, 0, 2, 9]];
        eth(0x0800, &ipv4_of(hosts, 17, &udp(2_000, port, payload)))
    };
    let times = (START_US..).step_by(1_000);
    times.zip(payloads.iter().map(frame)).collect()
}
