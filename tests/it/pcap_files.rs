//! The reader of capture files: what is written in any of the formats is read back equal.

use std::io::Write;

use proptest::prelude::*;
use weir::decode::packet::LinkType;
use weir::input::pcap::{BLOCK_MAX, PcapError, Reader, is_capture};

/// A packet as read: link type, time, octets on the wire, captured octets, interface.
type Row = (u16, i64, u32, Vec<u8>, u32);

/// Every packet, and how the file ended.
fn read(file: &[u8]) -> (Vec<Row>, Option<PcapError>) {
    let mut rows = Vec::new();
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(error) => return (rows, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(p)) => {
                rows.push((p.link.0, p.time.0, p.wire_len, p.data.to_vec(), p.interface));
            }
            Ok(None) => return (rows, None),
            Err(error) => {
                assert!(matches!(reader.next(), Ok(None)), "nothing follows an error");
                return (rows, Some(error));
            }
        }
    }
}

#[track_caller]
fn check(name: &str, file: &[u8], want: &[Row]) {
    let (rows, error) = read(file);
    assert!(error.is_none(), "case: {name}: {error:?}");
    assert!(rows == want, "case: {name}: {} rows, want {}", rows.len(), want.len());
}

#[track_caller]
fn check_error(name: &str, file: &[u8], whole: usize, reason: &str, offset: u64) {
    let (rows, error) = read(file);
    let error = error.unwrap_or_else(|| panic!("case: {name}: no error"));
    let got = (rows.len(), error.reason(), error.offset());
    assert_eq!(got, (whole, reason, Some(offset)), "case: {name}: {error}");
}

/// Writes integers in one byte order.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    const BOTH: [Self; 2] = [Self::Little, Self::Big];

    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn i64(self, value: i64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).expect("small")
}

/// A pcap file of `rows`, all of one link type.
fn classic(order: Order, magic: u32, link: u16, rows: &[Row]) -> Vec<u8> {
    let mut file = [order.u32(magic), [0; 4], [0; 4], [0; 4], order.u32(65_535)].concat();
    file[4..6].copy_from_slice(&order.u16(2));
    file[6..8].copy_from_slice(&order.u16(4));
    file.extend(order.u32(u32::from(link)));
    let per_micro = if magic == 0xa1b2_3c4d { 1_000 } else { 1 };
    for (_, time, wire_len, data, _) in rows {
        file.extend(order.u32(u32::try_from(time / 1_000_000).expect("a test time")));
        let fraction = u32::try_from(time % 1_000_000).expect("below a second") * per_micro;
        // What is finer than a microsecond is cut off.
        file.extend(order.u32(fraction + (per_micro - 1)));
        file.extend(order.u32(small(data.len())));
        file.extend(order.u32(*wire_len));
        if magic == 0xa1b2_cd34 {
            file.extend([7; 8]);
        }
        file.extend(data);
    }
    file
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = order.u32(small(body.len() + 12));
    [&order.u32(kind)[..], &len, &body, &len].concat()
}

fn section(order: Order) -> Vec<u8> {
    let head = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &[0xff; 8]].concat();
    block(order, 0x0a0d_0d0a, &head)
}

/// An interface with its resolution and time offset in seconds, if not the default.
fn interface(order: Order, link: u16, resolution: Option<u8>, offset_s: i64) -> Vec<u8> {
    let mut body = [&order.u16(link)[..], &[0, 0], &order.u32(0)].concat();
    body.extend([&order.u16(2)[..], &order.u16(3), b"lo0\0"].concat());
    if let Some(value) = resolution {
        body.extend([&order.u16(9)[..], &order.u16(1), &[value, 0, 0, 0]].concat());
    }
    if offset_s != 0 {
        body.extend([&order.u16(14)[..], &order.u16(8), &order.i64(offset_s)].concat());
        body.extend([0; 4]);
    }
    block(order, 1, &body)
}

fn enhanced(order: Order, interface: u32, ticks: u64, wire_len: u32, data: &[u8]) -> Vec<u8> {
    let (high, low) = (small((ticks >> 32) as usize), (ticks & 0xffff_ffff) as usize);
    let fixed = [interface, high, small(low), small(data.len()), wire_len];
    let mut body: Vec<u8> = fixed.into_iter().flat_map(|word| order.u32(word)).collect();
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
    // A comment behind the packet.
    body.extend([&order.u16(1)[..], &order.u16(2), b"ok\0\0", &[0; 4]].concat());
    block(order, 6, &body)
}

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(file).expect("into memory");
    encoder.finish().expect("into memory")
}

fn rows() -> Vec<Row> {
    vec![
        (1, 1_700_000_000_123_456, 60, vec![1; 60], 0),
        (1, 1_700_000_000_123_455, 1_514, vec![2; 96], 0),
        (1, 0, 3, vec![], 0),
        (1, 4_294_967_295_999_999, 300_000, vec![3; 300_000], 0),
    ]
}

#[test]
fn pcap_is_read_in_both_orders_and_all_resolutions() {
    for order in Order::BOTH {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34] {
            let name = format!("{order:?} {magic:x}");
            let file = classic(order, magic, 1, &rows());
            assert!(is_capture(&file), "{name}");
            check(&name, &file, &rows());
            check(&format!("{name} gzip"), &gzip(&file), &rows());
            let zstd = zstd::encode_all(&file[..], 1).expect("into memory");
            check(&format!("{name} zstd"), &zstd, &rows());
            let raw: Vec<Row> =
                rows().into_iter().map(|row| (101, row.1, row.2, row.3, 0)).collect();
            check(&format!("{name} raw"), &classic(order, magic, 101, &raw), &raw);
        }
    }
    let members = [gzip(&classic(Order::Little, 0xa1b2_c3d4, 1, &[])), gzip(&[0; 16])].concat();
    check("two gzip members", &members, &[(1, 0, 0, vec![], 0)]);
}

#[test]
fn pcapng_interfaces_keep_their_own_clock() {
    let second = 1_000_000;
    for order in Order::BOTH {
        let packet = |index, ticks| enhanced(order, index, ticks, 100, &[7; 5]);
        let want = |link, time, index| (link, time, 100, vec![7; 5], index);
        let file = [
            section(order),
            interface(order, 1, None, 0),
            interface(order, 101, Some(9), 0),
            interface(order, 113, Some(3), 0),
            interface(order, 276, Some(0x8a), 0),
            interface(order, 1, Some(6), -3),
            block(order, 4, &[0; 4]),
            packet(0, 1_700_000_000_123_456),
            packet(1, 1_700_000_000_123_456_789),
            packet(2, 1_700_000_000_123),
            block(order, 0x0bad, b"a custom block, stepped over"),
            packet(3, 1_024 + 512),
            packet(4, 10 * 1_000_000),
            block(order, 10, &[0; 16]),
        ]
        .concat();
        let first = [
            want(1, 1_700_000_000_123_456, 0),
            want(101, 1_700_000_000_123_456, 1),
            want(113, 1_700_000_000_123_000, 2),
            want(276, second + second / 2, 3),
            want(1, 7 * second, 4),
        ];
        check(&format!("{order:?}"), &file, &first);
        check(&format!("{order:?} gzip"), &gzip(&file), &first);
        // A second section, in the other order, with interfaces of its own.
        for other in Order::BOTH {
            let more = [
                section(other),
                interface(other, 12, Some(9), 0),
                enhanced(other, 0, 5_000, 1, &[]),
            ];
            let both = [file.clone(), more.concat()].concat();
            let rows = [&first[..], &[(12, 5, 1, vec![], 5)]].concat();
            check(&format!("{order:?}, then {other:?}"), &both, &rows);
        }
    }
}

#[test]
fn every_kind_of_packet_block_is_read() {
    for order in Order::BOTH {
        let mut limited = interface(order, 1, None, 0);
        limited[12..16].copy_from_slice(&order.u32(4));
        let obsolete = [
            &order.u16(0)[..],
            &order.u16(9),
            &order.u32(0),
            &order.u32(77),
            &order.u32(6),
            &order.u32(60),
            &[8; 8],
        ];
        let simple = [&order.u32(60)[..], &[9; 4]].concat();
        let simple_short = [&order.u32(3)[..], &[9; 3]].concat();
        let file = [
            section(order),
            limited,
            block(order, 2, &obsolete.concat()),
            block(order, 3, &simple),
            block(order, 3, &simple_short),
        ];
        let want =
            [(1, 77, 60, vec![8; 6], 0), (1, 77, 60, vec![9; 4], 0), (1, 77, 3, vec![9; 3], 0)];
        check(&format!("{order:?}"), &file.concat(), &want);
    }
}

#[test]
fn damage_is_told_after_the_packets_before_it() {
    let good = classic(Order::Little, 0xa1b2_c3d4, 1, &rows()[..2]);
    let last = u64::try_from(good.len() - 96 - 16).expect("small");
    check_error("cut in the data", &good[..good.len() - 1], 1, "truncated", last);
    check_error("cut in the header", &good[..good.len() - 96 - 1], 1, "truncated", last);
    check_error("cut in the file header", &good[..23], 0, "truncated", 0);
    check_error("empty", &[], 0, "truncated", 0);
    check_error("text", b"GET / HTTP/1.0\r\n", 0, "not_a_capture", 0);
    let mut version = good.clone();
    version[4] = 3;
    check_error("version 3", &version, 0, "version", 4);
    let mut long = good.clone();
    long[24 + 8..24 + 12].copy_from_slice(&(small(BLOCK_MAX) + 1).to_le_bytes());
    check_error("a packet over the bound", &long, 0, "too_long", 24);
    let cut = gzip(&good);
    let (rows, error) = read(&cut[..cut.len() - 10]);
    assert!(rows.len() <= 2 && error.is_some_and(|e| e.reason() == "io"), "cut in gzip");

    let order = Order::Big;
    let head = [section(order), interface(order, 1, None, 0)].concat();
    let packet = enhanced(order, 0, 1, 8, &[5; 8]);
    let at = u64::try_from(head.len()).expect("small");
    let second = at + u64::try_from(packet.len()).expect("small");
    let check_second = |name: &str, damaged: Vec<u8>, reason: &str, offset: u64| {
        check_error(name, &[head.clone(), packet.clone(), damaged].concat(), 1, reason, offset);
    };
    check_second("cut block", packet[..packet.len() - 4].to_vec(), "truncated", second);
    check_second("two octets", vec![0, 0], "truncated", second);
    check_second("interface 3", enhanced(order, 3, 1, 8, &[]), "interface", second);
    let edit = |at: usize, value: u32| {
        let mut block = packet.clone();
        block[at..at + 4].copy_from_slice(&order.u32(value));
        block
    };
    check_second("trailer", edit(packet.len() - 4, 8), "block_length", second);
    check_second("length 8", edit(4, 8), "block_length", second);
    check_second("length 57", edit(4, 57), "block_length", second);
    check_second("length of 4 GiB", edit(4, 0xffff_fff0), "too_long", second);
    check_second("more captured than the block", edit(20, 400), "block_length", second);
    let mut mark = section(order);
    mark[8] = 0;
    check_second("byte-order mark", mark, "byte_order", second + 8);
    let mut version = section(order);
    version[13] = 2;
    check_second("version 2", version, "version", second + 12);
    let no_interface = [section(order), enhanced(order, 0, 1, 8, &[])].concat();
    check_error("no interface", &no_interface, 0, "interface", 28);
}

#[test]
fn progress_ends_at_the_size_of_the_file() {
    let file = gzip(&classic(Order::Little, 0xa1b2_c3d4, 1, &rows()));
    let mut reader = Reader::new(&file[..]).expect("a capture");
    while reader.next().expect("whole").is_some() {}
    assert_eq!(reader.consumed(), file.len() as u64);
    assert_eq!(reader.offset(), 24 + 4 * 16 + 60 + 96 + 300_000);
}

#[test]
fn a_packet_tells_where_its_own_block_begins() {
    let order = Order::Little;
    let packet = |n: u8| enhanced(order, 0, 1, 60, &vec![n; usize::from(n)]);
    let blocks = [
        (section(order), false),
        (interface(order, 1, None, 0), false),
        (packet(3), true),
        (block(order, 5, &[0; 12]), false),
        (packet(8), true),
        (section(order), false),
        (interface(order, 1, Some(9), 0), false),
        (block(order, 3, &[&order.u32(4)[..], &[9; 4]].concat()), true),
    ];
    let (mut file, mut want) = (Vec::new(), Vec::new());
    for (block, is_packet) in &blocks {
        if *is_packet {
            want.push(file.len() as u64);
        }
        file.extend(block);
    }
    let offsets = |file: &[u8]| {
        let (mut reader, mut offsets) = (Reader::new(file).expect("a capture"), Vec::new());
        while let Some(packet) = reader.next().expect("whole") {
            offsets.push(packet.offset);
        }
        offsets
    };
    assert_eq!(offsets(&file), want, "pcapng");
    assert_eq!(offsets(&gzip(&file)), want, "in what was compressed");
    let file = classic(order, 0xa1b2_c3d4, 1, &rows());
    let starts = rows().into_iter().scan(24, |next, row| {
        let start = *next;
        *next += 16 + row.3.len() as u64;
        Some(start)
    });
    assert_eq!(offsets(&file), starts.collect::<Vec<_>>(), "pcap");
}

/// A source that gives one octet at a time.
struct Drip<'a>(&'a [u8]);

impl std::io::Read for Drip<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = into.len().min(1);
        self.0.read(&mut into[..n])
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        packets in prop::collection::vec(
            (0_i64..4_000_000_000_000_000, prop::collection::vec(any::<u8>(), 0..200), 0_u32..99),
            0..40,
        ),
        big in any::<bool>(),
        nanoseconds in any::<bool>(),
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let rows: Vec<Row> = packets
            .into_iter()
            .map(|(time, data, more)| (1, time, small(data.len()) + more, data, 0))
            .collect();
        let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        check("pcap", &classic(order, magic, 1, &rows), &rows);
        let resolution = nanoseconds.then_some(9);
        let mut ng = [section(order), interface(order, 1, resolution, 0)].concat();
        for (_, time, wire_len, data, _) in &rows {
            let ticks = u64::try_from(*time).expect("positive");
            let ticks = if nanoseconds { ticks * 1_000 + 999 } else { ticks };
            ng.extend(enhanced(order, 0, ticks, *wire_len, data));
        }
        check("pcapng", &ng, &rows);
        let mut slow = Reader::new(Drip(&ng)).expect("a capture");
        let mut count = 0;
        while slow.next().expect("whole").is_some() {
            count += 1;
        }
        prop_assert_eq!(count, rows.len());
    }

    #[test]
    fn any_bytes_never_panic(
        start in 0_usize..6,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let starts = [
            vec![],
            classic(Order::Little, 0xa1b2_c3d4, 1, &[]),
            classic(Order::Big, 0xa1b2_cd34, 1, &[]),
            section(Order::Little),
            [section(Order::Big), interface(Order::Big, 1, Some(0xff), i64::MAX)].concat(),
            vec![0x1f, 0x8b, 8, 0],
        ];
        let _ = read(&[&starts[start][..], &bytes].concat());
    }

    /// Flipped octets in a sound file: an error or other packets, never a panic.
    #[test]
    fn damaged_files_never_panic(
        at in prop::collection::vec((0_usize..400, any::<u8>()), 1..6),
        big in any::<bool>(),
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let mut file = [section(order), interface(order, 1, Some(9), 5)].concat();
        for n in 0..4 {
            file.extend(enhanced(order, 0, n, 40, &[1; 33]));
        }
        for (at, value) in at {
            let at = at % file.len();
            file[at] = value;
        }
        let _ = read(&file);
    }
}

#[test]
fn link_types_are_numbers_of_the_registry() {
    assert_eq!(
        LinkType::SUPPORTED.map(|link| link.0),
        [0, 1, 9, 12, 14, 50, 51, 101, 104, 108, 113, 166, 228, 229, 276]
    );
}
