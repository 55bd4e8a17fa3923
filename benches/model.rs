//! What the sequence model costs: a window scored, a slice taken, a pair held.
//!
//! `make bench-model` runs it and keeps the figures in `benches/runs/latest/model.json`. One thread;
//! times are of its CPU clock, the median of several rounds.
//!
//! The load is that of a busy collector: 100,000 live pairs, 500,000 records a second. Each
//! conversation comes as two records, one a direction, which the flow table makes one slice of; so
//! 250,000 slices a second reach the model, a fifth of them of UDP; of TCP nine in ten end with FIN.
//! Every pair passes the gate, so each is scored once a minute: what scoring would cost if its budget
//! did not thin it. Slices are taken as a worker takes them: in batches of 64, which the flow table
//! has just made.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use serde_json::json;
use weir::config::Config;
use weir::detect::sequence::features::Columns;
use weir::detect::sequence::pairs::Pairs;
use weir::detect::sequence::{
    Allow, Event, Model, Record, Scorer, Settings, Shard, Windows, take_all,
};
use weir::flow::{Biflow, Side, Slice};
use weir::net::{Addr, SHARDS, pair_hash, shard_of};
use weir::time::{Micros, SECOND};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of each measurement.
const ROUNDS: usize = 9;
/// Windows that are scored together.
const BATCH: usize = 64;
/// Slices that are taken together.
const SLICES: u32 = 64;
const PAIRS: u32 = 100_000;
const RECORDS_PER_S: u32 = 500_000;
const SLICES_PER_S: u32 = RECORDS_PER_S / 2;
/// Seconds of input that fill the windows, and seconds that are measured.
const FILL_S: i64 = 20;
const MEASURED_S: i64 = 60;

/// CPU time of this thread in nanoseconds.
fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// The median over [`ROUNDS`] rounds of `times` calls each, in microseconds a call.
fn per_call(times: u32, mut call: impl FnMut()) -> f64 {
    let mut round = || {
        let before = thread_ns();
        (0..times).for_each(|_| call());
        thread_ns() - before
    };
    let mut taken: Vec<u64> = (0..ROUNDS).map(|_| round()).collect();
    taken.sort_unstable();
    taken[ROUNDS / 2] as f64 / f64::from(times) / 1e3
}

/// A number that depends on `seed` alone.
const fn mixed(seed: u64) -> u64 {
    let x = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) ^ x >> 31
}

fn flow(pair: u32, number: u64, now: Micros) -> Biflow {
    let drawn = mixed(number << 20 ^ u64::from(pair));
    let octets = 200 + drawn % 9_000;
    let udp = pair % 5 == 2;
    let closed = !udp && !(drawn >> 8).is_multiple_of(10);
    let tcp_flags = (!udp).then_some(if closed { 0x1b } else { 0x1a });
    let side =
        |octets: u64| Side { octets, packets: 1 + octets / 900, tcp_flags, ..Side::default() };
    // Cut when the table's timeouts say so: what closed lingers, all else falls silent.
    let last = now.plus(if closed { -5 } else { -120 } * SECOND);
    Biflow {
        src: Addr::v4(0x0a00_0000 + pair),
        dst: Addr::v4(0xc633_6400 + pair % 4_001),
        src_port: 1_024 + (number % 60_000) as u16,
        dst_port: [443, 443, 53, 80, 8_080][pair as usize % 5],
        protocol: if udp { 17 } else { 6 },
        first: last.plus(-40_000 - (drawn >> 40) as i64 % 3_000_000),
        last,
        fwd: side(octets),
        bwd: side(octets * 3),
        sampling_interval: Some(1),
        ..Biflow::default()
    }
}

fn window(pair: u32) -> Columns {
    let at = |number: i64| Micros::from_secs(1_700_000_000 + number * (3 + i64::from(pair % 90)));
    let event = |n: i64| Event::of(&Record::of(&flow(pair, n.unsigned_abs(), at(n))));
    Columns::of(&(0..32).map(event).collect::<Vec<_>>())
}

/// What a window costs: its features, and the model on a batch of them; microseconds. Also by the size
/// of the batch.
fn scoring(model: &mut Model) -> (f64, f64, Vec<(usize, f64)>) {
    let events: Vec<Vec<Event>> =
        (0..BATCH as u32).map(|pair| window(pair).events().to_vec()).collect();
    let mut windows = Windows::default();
    let features = per_call(40, || {
        windows.clear();
        for events in &events {
            let columns = Columns::of(events);
            windows.push(&columns, &columns.stats());
        }
        black_box(&windows);
    });
    let mut out = Vec::with_capacity(BATCH);
    let mut of = |count: usize| {
        let mut some = Windows::default();
        for events in &events[..count] {
            let columns = Columns::of(events);
            some.push(&columns, &columns.stats());
        }
        let took = per_call(40, || {
            out.clear();
            assert!(model.score(black_box(&some), &mut out));
        });
        (count, took / count as f64)
    };
    let sizes: Vec<(usize, f64)> = [1, 2, 4, 8, 16, 26, 32].into_iter().map(&mut of).collect();
    let (_, together) = of(BATCH);
    (features / BATCH as f64, together, sizes)
}

/// The model that costs nothing: what is left is the keeping of windows.
struct Free;

impl Scorer for Free {
    fn score(
        &mut self,
        windows: &Windows,
        out: &mut Vec<weir::detect::sequence::Probabilities>,
    ) -> bool {
        let benign = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        out.resize(out.len() + windows.len(), benign);
        true
    }
}

/// CPU seconds that the load takes in a second of its time, in all and for what is not the model
/// itself; and windows scored a second.
fn load(settings: &Settings, scorer: &mut impl Scorer) -> (f64, f64) {
    let silence_us = 300 * SECOND;
    let limits = Config::default().model;
    let shard = |at: usize| {
        let phase_us = SECOND * at as i64 / SHARDS as i64;
        let (pairs, joins) = (limits.pairs_max / SHARDS, limits.connections_max / SHARDS);
        Shard::new(pairs, joins, silence_us, phase_us)
    };
    let mut shards: Vec<Shard> = (0..SHARDS).map(shard).collect();
    let (mut alerts, mut taken_ns) = (Vec::new(), 0);
    let begin = Micros::from_secs(1_700_000_000);
    let mut before_windows = 0;
    for second in 0..FILL_S + MEASURED_S {
        if second == FILL_S {
            taken_ns = 0;
            before_windows = scored(&shards);
        }
        for batch in 0..SLICES_PER_S / SLICES {
            let passed = i64::from(batch) * i64::from(SLICES) * SECOND / i64::from(SLICES_PER_S);
            let now = begin.plus(second * SECOND + passed);
            let number = second.unsigned_abs() << 16 | u64::from(batch);
            let slices: Vec<(u64, Slice)> = (0..SLICES)
                .map(|n| {
                    let pair = (mixed(number << 32 ^ u64::from(n)) % u64::from(PAIRS)) as u32;
                    let flow = flow(pair, number * 31 + u64::from(n), now);
                    let hash = pair_hash(0, flow.src, flow.dst);
                    (hash, Slice { records: 2, last: true, flow, ..Slice::default() })
                })
                .collect();
            let began = thread_ns();
            take_all(
                &mut shards,
                slices.len(),
                |shards, at| (&shards[shard_of(slices[at].0)], slices[at].0),
                |shards, at| {
                    let (hash, slice) = &slices[at];
                    let shard = &mut shards[shard_of(*hash)];
                    if shard.is_due(now) {
                        shard.advance(now, settings, scorer, &mut usize::MAX.clone(), &mut alerts);
                    }
                    black_box(shard.slice(slice, *hash, now, settings));
                },
            );
            taken_ns += thread_ns() - began;
            alerts.clear();
        }
    }
    let windows = scored(&shards) - before_windows;
    (taken_ns as f64 / 1e9 / MEASURED_S as f64, windows as f64 / MEASURED_S as f64)
}

fn scored(shards: &[Shard]) -> u64 {
    shards.iter().map(|shard| shard.ledger().scored.total()).sum()
}

/// Octets of memory of a pair, by the table's own account.
fn pair_octets() -> usize {
    let mut pairs = Pairs::new(PAIRS as usize);
    for host in 0..PAIRS {
        let (a, b) = (Addr::v4(0x0a00_0000 + host), Addr::v4(0xc633_6401));
        pairs.of(pair_hash(0, a, b), 0, a, b);
    }
    pairs.octets().div_ceil(pairs.len())
}

fn main() {
    let mut model = Model::shipped();
    let settings = Settings::new(Arc::clone(model.labels()), 10.0, Allow::default(), Vec::new());
    let (features_us, batch_us, sizes) = scoring(&mut model);
    println!("window: features {features_us:.1} us, model {batch_us:.1} us in batches of {BATCH}");
    sizes.iter().for_each(|(size, us)| println!("  {us:.1} us in batches of {size}"));
    let alone_us = sizes[0].1;
    let (kept, _) = load(&settings, &mut Free);
    println!("windows kept and gated, features made: {:.1} % of a core", kept * 100.0);
    let (whole, windows) = load(&settings, &mut model);
    println!("with scoring, {windows:.0} windows a second: {:.1} % of a core", whole * 100.0);
    let octets = pair_octets();
    println!("{octets} octets a pair");
    let figures = json!({
        "sha256": model.labels().sha256, "batch": BATCH, "rounds": ROUNDS,
        "window_features_us": features_us, "window_model_us": batch_us,
        "window_us": features_us + batch_us, "window_alone_us": alone_us,
        "pairs": PAIRS, "records_per_s": RECORDS_PER_S, "slices_per_s": SLICES_PER_S,
        "windows_per_s": windows, "core_share": whole, "core_share_without_model": kept,
        "octets_per_pair": octets,
    });
    let mut text = String::new();
    writeln!(text, "{figures:#}").expect("writing to a string");
    match std::env::var_os("WEIR_BENCH_OUT") {
        Some(path) => std::fs::write(path, text).expect("the results"),
        None => eprint!("{text}"),
    }
}
