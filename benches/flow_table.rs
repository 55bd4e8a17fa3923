//! What one shard's flow table does per record: rate, allocations, octets per flow.
//!
//! `cargo bench --bench flow_table [-- FLOWS...]`: packets, then export records, of as many UDP flows
//! as named (default: 10,000, 100,000 and 1,000,000; give 10000000 for ten million), in an order
//! that no cache foresees: one round opens the flows, further ones update them. One thread, one
//! table, no detection; merged in batches as a worker does. Octets are those of memory that is
//! resident after the first round and was not before it; times are of the thread's CPU clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir::config::Config;
use weir::flow::batch::{Mergeable, merge_all};
use weir::flow::record::Counters;
use weir::flow::{
    Cut, FlowRecord, FlowSink, FlowTable, LiveFlow, ObservationPoint, PacketRecord, Params,
};
use weir::metrics::ledger::Ledgers;
use weir::net::{Addr, SHARDS};
use weir::time::Micros;

/// The system's allocator, counting calls.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Sink;

impl FlowSink for Sink {
    fn watches(&self) -> bool {
        false
    }

    fn opened(&mut self, _: &mut LiveFlow<'_>) {}

    fn woke(&mut self, _: &mut LiveFlow<'_>) {}

    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        black_box(flow.slice(cut));
    }
}

/// Records merged at once, as a worker does.
const BATCH: usize = 2_048;

fn ends(flow: u32) -> (Addr, Addr, u16) {
    let src = Addr::v4(0x0a00_0000 | flow >> 4);
    (src, Addr::v4(0xc000_0201), 1_024 + (flow & 15) as u16)
}

fn packet(flow: u32, now: Micros) -> PacketRecord {
    let (src, dst, src_port) = ends(flow);
    PacketRecord {
        stamp: now,
        time: now,
        site: 0,
        src,
        dst,
        src_port,
        dst_port: 53,
        protocol: 17,
        tos: 0,
        ttl: 64,
        vlan: None,
        octets: 100,
        octets_l2: 114,
        payload: 72,
        tcp: None,
        fragment: None,
        tunnel: None,
    }
}

fn record(flow: u32, now: Micros) -> FlowRecord {
    let (src, dst, src_port) = ends(flow);
    let interface = 1 + flow % 24;
    FlowRecord {
        stamp: now,
        src,
        dst,
        src_port,
        dst_port: 53,
        protocol: 17,
        tos: Some(0),
        first: now,
        last: now,
        fwd: Counters { octets: 100, packets: 1, ..Counters::default() },
        point: ObservationPoint { exporter: Addr::v4(1), domain: 1, interface, direction: 0 },
        in_if: Some(interface),
        out_if: Some(99),
        ..FlowRecord::default()
    }
}

/// Resident octets of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// CPU seconds of this thread: on a machine that others share, the only honest clock.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which is valid, and nowhere else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "the thread's clock can be read");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds that a round over all flows takes; making its records does not count.
fn round<T: Mergeable>(
    table: &mut [FlowTable],
    flows: u32,
    number: &mut i64,
    make: impl Fn(u32, Micros) -> T,
) -> f64 {
    let (mut ledgers, mut seconds) = (Ledgers::default(), 0.0);
    let mut batch = Vec::with_capacity(BATCH);
    for i in 0..flows {
        // A prime that no number of flows here is a multiple of: every flow once, in no order.
        let flow = u64::from(i) * 2_654_435_761 % u64::from(flows);
        batch.push(make(u32::try_from(flow).expect("below flows"), Micros(*number)));
        *number += 1;
        if batch.len() == BATCH || i + 1 == flows {
            let start = cpu_seconds();
            merge_all(&batch, table, &[0; SHARDS], &mut ledgers, &mut Sink, |_, _| {});
            seconds += cpu_seconds() - start;
            batch.clear();
        }
    }
    seconds
}

fn measure<T: Mergeable>(what: &str, flows: u32, make: impl Fn(u32, Micros) -> T + Copy) {
    let params = Params { capacity: flows as usize, ..Params::from_config(&Config::default()) };
    let mut table = [FlowTable::new(Arc::new(params))];
    let mut number = 0;
    let before = resident();
    let open = round(&mut table, flows, &mut number, make);
    let octets = resident().saturating_sub(before) as f64 / f64::from(flows);
    let rounds = (20_000_000 / flows).clamp(3, 200);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut times: Vec<f64> =
        (0..rounds).map(|_| round(&mut table, flows, &mut number, make)).collect();
    // Each round makes one batch.
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before - u64::from(rounds);
    times.sort_by(f64::total_cmp);
    let update = times[times.len() / 2];
    let each = |seconds: f64| seconds / f64::from(flows) * 1e9;
    eprintln!(
        "{what:>8} {flows:>10} {:>10.1} {:>10.1} {octets:>10.1} {allocations:>10}",
        each(open),
        each(update)
    );
}

fn main() {
    // `cargo bench` adds `--bench`, which is no number.
    let mut sizes: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    eprintln!("of           flows    ns/open  ns/update octets/flow allocations in updates");
    for flows in sizes {
        measure("packets", flows, packet);
        measure("records", flows, record);
    }
}
