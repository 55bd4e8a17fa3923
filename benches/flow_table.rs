//! Records per second of one shard's flow table, and allocations per record.
//!
//! `cargo bench --bench flow_table [-- FLOWS...]`: packets of as many UDP flows as named (default:
//! 10,000 and 1,000,000) come round-robin, the worst order for caches, ten rounds after one that
//! opens the flows. One thread, one table, no detection; a second of input is a million packets.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weir::config::Config;
use weir::flow::{Cut, FlowSink, FlowTable, LiveFlow, PacketRecord, Params};
use weir::metrics::ledger::Ledgers;
use weir::net::Addr;
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
    fn opened(&mut self, _: &mut LiveFlow<'_>) {}
    fn woke(&mut self, _: &mut LiveFlow<'_>) {}
    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        black_box(flow.slice(cut));
    }
}

fn packet(flow: u32, number: i64) -> PacketRecord {
    PacketRecord {
        stamp: Micros(number),
        time: Micros(number),
        site: 0,
        src: Addr::v4(0x0a00_0000 | flow.wrapping_mul(0x9e37_79b1) >> 8),
        dst: Addr::v4(0xc000_0201),
        src_port: 1_024 + (flow & 0x3fff) as u16,
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

fn main() {
    // `cargo bench` adds `--bench`, which is no number.
    let mut sizes: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 1_000_000];
    }
    eprintln!("{:>10} {:>12} {:>12} {:>14}", "flows", "open/s", "update/s", "allocs/update");
    for flows in sizes {
        let params = Params { capacity: flows as usize, ..Params::from_config(&Config::default()) };
        let mut table = FlowTable::new(Arc::new(params));
        let (mut ledgers, mut sink) = (Ledgers::default(), Sink);
        let mut number = 0;
        let mut round = |table: &mut FlowTable| {
            let start = Instant::now();
            for flow in 0..flows {
                table.packet(&packet(flow, number), &mut ledgers, &mut sink);
                number += 1;
            }
            start.elapsed().as_secs_f64()
        };
        let open = round(&mut table);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let mut times: Vec<f64> = (0..10).map(|_| round(&mut table)).collect();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        times.sort_by(f64::total_cmp);
        let rate = |seconds: f64| f64::from(flows) / seconds;
        let each = allocations as f64 / (f64::from(flows) * 10.0);
        eprintln!("{flows:>10} {:>12.0} {:>12.0} {each:>14.6}", rate(open), rate(times[5]));
    }
}
