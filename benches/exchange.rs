//! Matches a second that the exchange takes: put in order, correlated, one thread.
//!
//! `cargo bench --bench exchange [-- GROUPS...]`: two million matches of one base rule from four
//! workers, each in its own order and a load at a time, by as many sources as named (default: 1,000
//! and 1,000,000); first with no correlation, then with a count of flows by source, then with a
//! count of different destinations by source. Time is the thread's own (user and system).

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::Arc;

use weir::detect::sigma::correlate::Match;
use weir::detect::sigma::{self, Source};
use weir::flow::{Biflow, FlowId};
use weir::net::Addr;
use weir::pipeline::exchange::{Desk, Message};
use weir::pipeline::worker::Shared;
use weir::pipeline::{self, Outputs, Rules};
use weir::time::Micros;

const MATCHES: u32 = 2_000_000;
const WORKERS: u32 = 4;
/// Matches of a load of one worker.
const LOAD: u32 = 64;

const BASE: &str = "
title: TCP
id: base
logsource: { category: network_connection }
detection: { a: { Protocol: tcp }, condition: a }
";
const FLOWS: &str = "---
title: Many flows
id: flows
correlation:
    type: event_count
    rules: [base]
    group-by: [src_ip]
    timespan: 5m
    condition: { gte: 1000000000 }
";
const DESTINATIONS: &str = "---
title: Many destinations
id: destinations
correlation:
    type: value_count
    rules: [base]
    group-by: [src_ip]
    timespan: 5m
    condition: { field: dest_ip, gte: 1000000000 }
";

fn found(number: u32, groups: u32) -> Message {
    let flow = Biflow {
        src: Addr::v4(0x0a00_0000 + number.wrapping_mul(0x9e37_79b1) % groups),
        dst: Addr::v4(0xc000_0000 + number % 5_000),
        protocol: 6,
        ..Biflow::default()
    };
    Message::Match(Match {
        time: Micros(i64::from(number) * 10),
        rule: 0,
        at_end: false,
        flow_id: FlowId(number.into()),
        flow: Arc::new(flow),
        arrived: None,
    })
}

/// User and system time of this thread, in seconds.
fn cpu_s() -> f64 {
    let mut usage = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut usage) };
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

fn run(name: &str, rules: &str, groups: u32) {
    let text = BASE.to_owned() + rules;
    let book = Rules::default();
    let loaded = book.load(&[Source { file: "bench".into(), text }], &sigma::Options::default());
    let report = loaded.set.report();
    assert!(report.rejected.is_empty(), "{report}");
    let outputs = Outputs::waiting(Vec::new());
    let shared = Shared {
        rules: book.into(),
        models: Arc::default(),
        outputs,
        board: pipeline::board(1, 1),
    };
    let mut desk = Desk::new(Arc::new(shared), 2);
    let mut spent_s = 0.0;
    let mut loads: Vec<Vec<Message>> = Vec::new();
    for turn in 0..MATCHES / (WORKERS * LOAD) {
        let begins = turn * WORKERS * LOAD;
        // Made outside the measured time: the workers' part.
        let load = |worker| (0..LOAD).map(move |i| found(begins + i * WORKERS + worker, groups));
        loads.extend((0..WORKERS).map(|worker| load(worker).collect()));
        let began = cpu_s();
        loads.drain(..).for_each(|mut load| desk.take(&mut load));
        desk.advance(Micros(i64::from(begins) * 10));
        spent_s += cpu_s() - began;
    }
    let ns = spent_s * 1e9 / f64::from(MATCHES);
    println!("{name:>24} {groups:>9} sources: {ns:>6.0} ns a match, {:.2} M/s", 1e3 / ns);
}

fn main() {
    let named: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let groups = if named.is_empty() { vec![1_000, 1_000_000] } else { named };
    for groups in groups {
        run("order alone", "", groups);
        run("event_count", FLOWS, groups);
        run("value_count", DESTINATIONS, groups);
    }
}
