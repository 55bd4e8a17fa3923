//! What each stage of the path costs a record, one thread, from memory: CPU nanoseconds and
//! allocations. Under callgrind (`benches/instructions.py`) the same runs count instructions.
//!
//! `cargo bench --bench path [-- STAGE [RECORDS]]`

#![expect(unsafe_code, reason = "an allocator that counts, and the thread's clock")]
#![expect(clippy::print_stdout, reason = "the report")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir::config::{Config, Format};
use weir::decode::netflow::Collector;
use weir::decode::packet::{self, LinkType, Options};
use weir::detect::TaggedSlice;
use weir::flow::batch::merge_all;
use weir::flow::params::Params;
use weir::flow::{Cut, FlowRecord, FlowSink, FlowTable, LiveFlow, PacketRecord};
use weir::metrics::Ledgers;
use weir::metrics::stages::thread_cpu;
use weir::net::{Addr, SHARDS};
use weir::output::schema::{Context, Layout};
use weir::output::{Encoder, Stream};
use weir::time::Micros;

/// Records of a data set, as routers send them.
const SET: u32 = 24;
/// Records that are merged at once.
const LOAD: usize = 512;
const NOW: Micros = Micros(1_750_000_000_000_000);

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, place: *mut u8, memory: Memory) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A number that follows from `n` and looks like none of its neighbours.
const fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// The flow of record `n`: `flows` of them, in no order, a third of the records in reverse.
fn ends(n: u64, flows: u64) -> ([u32; 2], [u16; 2], u8) {
    let flow = mix(mix(n) % flows + 1);
    let (client, server) =
        (0x0a40_0000 | (flow as u32 & 0x3_ffff), 0xc612_0000 | (flow >> 40) as u32);
    let (port, service) =
        (49_152 + (flow >> 20) as u16 % 16_384, [443, 80, 53, 22][flow as usize >> 60 & 3]);
    let protocol = if service == 53 { 17 } else { 6 };
    if mix(n + 7).is_multiple_of(3) {
        ([server, client], [service, port], protocol)
    } else {
        ([client, server], [port, service], protocol)
    }
}

/// (element, octets) of an IPFIX record of 60 octets.
const FIELDS: [(u16, u16); 17] = [
    (8, 4),
    (12, 4),
    (7, 2),
    (11, 2),
    (4, 1),
    (5, 1),
    (6, 2),
    (10, 4),
    (14, 4),
    (1, 8),
    (2, 8),
    (152, 8),
    (153, 8),
    (61, 1),
    (136, 1),
    (9, 1),
    (13, 1),
];

/// What records of TCP tell, and when they end before [`NOW`]: middles of connections, or whole ones.
#[derive(Clone, Copy)]
struct Tells {
    tcp_flags: u8,
    ago_ms: u64,
}

const MIDDLE: Tells = Tells { tcp_flags: 0x1a, ago_ms: 0 };
/// Each with SYN and FIN, one on the same key after the other.
const WHOLE: [Tells; 2] =
    [Tells { tcp_flags: 0x1b, ago_ms: 2_000 }, Tells { tcp_flags: 0x1b, ago_ms: 0 }];

fn ipfix_record(n: u64, flows: u64, tells: Tells, out: &mut Vec<u8>) {
    let (addresses, ports, protocol) = ends(n, flows);
    let packets = 1 + mix(n) % 40;
    let end_ms = NOW.0 as u64 / 1_000 - tells.ago_ms - mix(n) % 900;
    addresses.iter().for_each(|a| out.extend(a.to_be_bytes()));
    ports.iter().for_each(|p| out.extend(p.to_be_bytes()));
    out.extend([protocol, 0, 0, if protocol == 6 { tells.tcp_flags } else { 0 }]);
    let inside = addresses[0].min(addresses[1]);
    [1 + (inside & 15), 100 + (inside >> 4 & 3)].iter().for_each(|i| out.extend(i.to_be_bytes()));
    [packets * 700, packets, end_ms - mix(n) % 800, end_ms]
        .iter()
        .for_each(|c| out.extend(c.to_be_bytes()));
    out.extend([0, 1, 24, 24]);
}

fn ipfix_message(sequence: u32, set: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    [10_u16, 20 + body.len() as u16].iter().for_each(|n| out.extend(n.to_be_bytes()));
    let seconds = (NOW.0 / 1_000_000) as u32;
    [seconds, sequence, 1].iter().for_each(|n| out.extend(n.to_be_bytes()));
    [set, 4 + body.len() as u16].iter().for_each(|n| out.extend(n.to_be_bytes()));
    out.extend(body);
    out
}

/// The template, then data sets with `records` records of `flows` flows.
fn ipfix(records: u32, flows: u64, tells: Tells) -> Vec<Vec<u8>> {
    let mut template = [256_u16, 17].map(u16::to_be_bytes).concat();
    FIELDS.iter().for_each(|(e, n)| template.extend([*e, *n].map(u16::to_be_bytes).concat()));
    let mut messages = vec![ipfix_message(0, 2, &template)];
    for first in (0..records).step_by(SET as usize) {
        let mut body = Vec::new();
        (first..first + SET).for_each(|n| ipfix_record(n.into(), flows, tells, &mut body));
        messages.push(ipfix_message(first, 256, &body));
    }
    messages
}

/// v5 datagrams.
fn v5(records: u32, flows: u64) -> Vec<Vec<u8>> {
    let message = |first: u32| {
        let mut out = [5_u16, SET as u16].map(u16::to_be_bytes).concat();
        let seconds = (NOW.0 / 1_000_000) as u32;
        [90_000, seconds, 0, first, 0, 0]
            .iter()
            .take(5)
            .for_each(|n: &u32| out.extend(n.to_be_bytes()));
        for n in first..first + SET {
            let (addresses, ports, protocol) = ends(n.into(), flows);
            addresses.iter().for_each(|a| out.extend(a.to_be_bytes()));
            out.extend([0; 4]);
            [3_u16, 101].iter().for_each(|i| out.extend(i.to_be_bytes()));
            [4_u32, 2_800, 80_000, 89_000].iter().for_each(|c| out.extend(c.to_be_bytes()));
            ports.iter().for_each(|p| out.extend(p.to_be_bytes()));
            out.extend([0, 0x1a, protocol, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
        }
        out
    };
    (0..records).step_by(SET as usize).map(message).collect()
}

/// Ethernet frames of 60 octets.
fn frames(packets: u32, flows: u64) -> Vec<[u8; 60]> {
    let frame = |n: u32| {
        let (addresses, ports, _) = ends(n.into(), flows);
        let mut frame = [0; 60];
        frame[12] = 8;
        frame[14..18].copy_from_slice(&[0x45, 0, 0, 46]);
        (frame[22], frame[23]) = (64, 17);
        frame[26..30].copy_from_slice(&addresses[0].to_be_bytes());
        frame[30..34].copy_from_slice(&addresses[1].to_be_bytes());
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        frame[38..40].copy_from_slice(&[0, 26]);
        frame
    };
    (0..packets).map(frame).collect()
}

/// Takes what is cut, as the output does.
#[derive(Default)]
struct Slices(Vec<TaggedSlice>);

impl FlowSink for Slices {
    fn watches(&self) -> bool {
        false
    }
    fn opened(&mut self, _: &mut LiveFlow<'_>) {}
    fn woke(&mut self, _: &mut LiveFlow<'_>) {}
    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        let slice = flow.slice(cut);
        self.0.push(TaggedSlice { slice, ..TaggedSlice::default() });
    }
}

/// Takes nothing of what is cut.
struct Nothing;

impl FlowSink for Nothing {
    fn watches(&self) -> bool {
        false
    }
    fn opened(&mut self, _: &mut LiveFlow<'_>) {}
    fn woke(&mut self, _: &mut LiveFlow<'_>) {}
    fn cut(&mut self, _: &mut LiveFlow<'_>, _: Cut) {}
}

struct Path {
    collector: Collector,
    tables: Vec<FlowTable>,
    ledgers: Ledgers,
    records: Vec<FlowRecord>,
    packets: Vec<PacketRecord>,
}

impl Path {
    fn new() -> Self {
        let config = Config::default();
        let params = Arc::new(Params::from_config(&config));
        Self {
            collector: Collector::new(&config),
            tables: (0..SHARDS).map(|s| FlowTable::of_shard(Arc::clone(&params), s)).collect(),
            ledgers: Ledgers::default(),
            records: Vec::with_capacity(LOAD + SET as usize),
            packets: Vec::with_capacity(LOAD),
        }
    }

    fn decode(&mut self, message: &[u8]) {
        let source = (Addr::v4(0x7f00_0001), 9_995);
        self.collector.datagram(source, NOW, message, &mut self.records, &mut self.ledgers);
    }
}

/// The place of each shard: all are here.
fn places() -> [u8; SHARDS] {
    std::array::from_fn(|shard| shard as u8)
}

#[inline(never)]
fn measured_decode(path: &mut Path, messages: &[Vec<u8>]) {
    for message in messages {
        path.decode(message);
        black_box(&path.records);
        path.records.clear();
    }
}

#[inline(never)]
fn measured_aggregate(path: &mut Path, messages: &[Vec<u8>]) {
    for message in messages {
        path.decode(message);
        if path.records.len() >= LOAD {
            let Path { tables, ledgers, records, .. } = path;
            merge_all(records, tables, &places(), ledgers, &mut Nothing, |_, _| {});
            records.clear();
        }
    }
}

#[inline(never)]
fn measured_packets(path: &mut Path, frames: &[[u8; 60]]) {
    let options = Options::default();
    for frames in frames.chunks(LOAD) {
        for frame in frames {
            let parsed = packet::parse(LinkType::ETHERNET, frame, 60, &options);
            let mut record = parsed.expect("a plain frame");
            (record.stamp, record.time) = (NOW, NOW);
            path.packets.push(record);
        }
        let Path { tables, ledgers, packets, .. } = path;
        merge_all(packets, tables, &places(), ledgers, &mut Nothing, |_, _| {});
        packets.clear();
    }
}

#[inline(never)]
fn measured_cut(path: &mut Path, slices: &mut Slices) {
    for table in &mut path.tables {
        table.flush(&mut path.ledgers, slices);
    }
}

#[inline(never)]
fn measured_encode(encoder: &mut Encoder<io::Sink>, slices: &[TaggedSlice], context: &Context) {
    slices.chunks(LOAD).for_each(|some| encoder.slices(some, context).expect("a sink takes all"));
}

/// Runs `work` and says what a record cost.
fn report(stage: &str, records: usize, work: impl FnOnce()) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let began = thread_cpu();
    work();
    let nanos = (thread_cpu() - began).as_nanos() as f64 / records as f64;
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / records as f64;
    println!(
        "{stage:<14} {nanos:>8.1} ns a record, {:>7.2} million/s, {allocations:.4} allocations",
        1e3 / nanos
    );
}

fn stage(name: &str, records: u32) {
    let flows = u64::from(records / 4).max(1);
    let count = records as usize;
    let mut path = Path::new();
    match name {
        "decode" | "decode-v5" => {
            let messages =
                if name == "decode" { ipfix(records, flows, MIDDLE) } else { v5(records, flows) };
            warm(&mut path, &messages[..2]);
            report(name, count, || measured_decode(&mut path, &messages));
        }
        // All flows are new; then all are known.
        "open" | "update" | "update-v5" => {
            let messages = if name == "update-v5" {
                v5(records, flows)
            } else {
                ipfix(records, flows, MIDDLE)
            };
            if name == "open" {
                warm(&mut path, &messages[..2]);
            } else {
                warm(&mut path, &messages);
            }
            report(name, count, || measured_aggregate(&mut path, &messages));
        }
        // A record closes its flow and the next on its key opens another.
        "reopen" => {
            let [before, messages] = WHOLE.map(|tells| ipfix(records, flows, tells));
            warm(&mut path, &before);
            report(name, count, || measured_aggregate(&mut path, &messages));
        }
        "packets" => {
            let frames = frames(records, flows);
            warm_packets(&mut path, &frames);
            report(name, count, || measured_packets(&mut path, &frames));
        }
        "cut" | "ndjson" | "parquet" => {
            warm(&mut path, &ipfix(records, u64::from(records), MIDDLE));
            let mut slices = Slices(Vec::with_capacity(count));
            if name == "cut" {
                return report(name, count, || measured_cut(&mut path, &mut slices));
            }
            warm_cut(&mut path, &mut slices);
            let context = Context::of(&Config::default());
            let format = if name == "ndjson" { Format::Ndjson } else { Format::Parquet };
            let layout = Layout::of(Stream::Slices, &[]);
            let mut encoder = Encoder::new(format, &layout, io::sink()).expect("an encoder");
            report(name, slices.0.len(), || measured_encode(&mut encoder, &slices.0, &context));
        }
        other => panic!("no stage {other}: one of {STAGES:?}"),
    }
}

/// What [`measured_aggregate`] does, under a name that is not counted.
fn warm(path: &mut Path, messages: &[Vec<u8>]) {
    for message in messages {
        path.decode(message);
        let Path { tables, ledgers, records, .. } = path;
        merge_all(records, tables, &places(), ledgers, &mut Nothing, |_, _| {});
        records.clear();
    }
}

fn warm_packets(path: &mut Path, frames: &[[u8; 60]]) {
    for frame in frames {
        let parsed = packet::parse(LinkType::ETHERNET, frame, 60, &Options::default());
        let mut record = parsed.expect("a plain frame");
        (record.stamp, record.time) = (NOW, NOW);
        let Path { tables, ledgers, .. } = path;
        merge_all(&[record], tables, &places(), ledgers, &mut Nothing, |_, _| {});
    }
}

fn warm_cut(path: &mut Path, slices: &mut Slices) {
    path.tables.iter_mut().for_each(|table| table.flush(&mut path.ledgers, slices));
}

const STAGES: [&str; 10] = [
    "decode",
    "decode-v5",
    "open",
    "update",
    "update-v5",
    "reopen",
    "packets",
    "cut",
    "ndjson",
    "parquet",
];

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let records = given.get(1).map_or(1_000_000, |n| n.parse().expect("a number of records"));
    let records = records / SET * SET;
    match given.first() {
        Some(name) => stage(name, records),
        None => STAGES.iter().for_each(|name| stage(name, records)),
    }
}
