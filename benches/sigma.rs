//! What a flow costs at 100 to 100,000 Sigma rules, beside rsigma-eval.
//!
//! `make bench-sigma` generates the rules and events and calls this with their folder; see
//! benches/README.md. One thread; times are of the thread's CPU clock, the median of several rounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rsigma_eval::{Engine, JsonEvent};
use serde_json::{Value, json};
use weir::config;
use weir::detect::sigma::{Event, Feed, Interner, Options, Phase, RuleSet, Source, Traffic};
use weir::flow::Biflow;
use weir::pipeline;

/// The system's allocator, counting what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds of each measurement.
const ROUNDS: usize = 7;
/// Flows that the sensor would have sampled before a reload.
const SAMPLE: usize = 2_048;
/// Flows of one call, as a worker gets them.
const BATCH: usize = 1_024;

/// CPU time of this thread in nanoseconds.
fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// The median of [`ROUNDS`] rounds, in nanoseconds per flow.
fn per_flow(flows: usize, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let before = thread_ns();
            round();
            thread_ns() - before
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2] as f64 / flows as f64
}

/// As [`per_flow`], of calls on batches of flows that were just written, as they are when a worker
/// scans them; only the calls are timed.
fn per_fresh_flow(flows: &[Biflow], mut scan: impl FnMut(&[Biflow])) -> f64 {
    let mut round = || {
        let in_batch = |batch: &[Biflow]| {
            let fresh = batch.to_vec();
            let before = thread_ns();
            scan(&fresh);
            thread_ns() - before
        };
        flows.chunks(BATCH).map(in_batch).sum()
    };
    let mut times: Vec<u64> = (0..ROUNDS).map(|_| round()).collect();
    times.sort_unstable();
    times[ROUNDS / 2] as f64 / flows.len() as f64
}

fn sources(folder: &Path) -> Vec<Source> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a rule"),
        file: path.display().to_string(),
    };
    files.into_iter().map(source).collect()
}

/// A file of events, as JSON and as typed flows.
struct Events {
    json: Vec<Value>,
    flows: Vec<Biflow>,
}

impl Events {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("events");
        let json = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let flow = |line| Event::parse(line, &[]).expect("an event").flow;
        Self { json, flows: text.lines().map(flow).collect() }
    }

    fn sample(&self) -> Arc<Traffic> {
        let step = (self.flows.len() / SAMPLE).max(1);
        Arc::new(Traffic::of(self.flows.iter().step_by(step).take(SAMPLE).cloned().collect()))
    }
}

fn rsigma_ns(sources: &[Source], events: &Events, take: usize) -> f64 {
    let mut engine = Engine::new();
    for source in sources {
        let parsed = rsigma_parser::parse_sigma_yaml(&source.text).expect("rules");
        parsed.rules.iter().for_each(|rule| engine.add_rule(rule).expect("a rule"));
    }
    let events: Vec<JsonEvent<'_>> = events.json.iter().take(take).map(JsonEvent::borrow).collect();
    let before = thread_ns();
    for event in &events {
        black_box(engine.evaluate(event));
    }
    (thread_ns() - before) as f64 / events.len() as f64
}

fn in_batches(set: &RuleSet, flows: &[Biflow], phase: Phase) -> usize {
    let (mut hits, mut total) = (Vec::with_capacity(4 * BATCH), 0);
    for batch in flows.chunks(BATCH) {
        set.scan_batch(phase, batch, &mut hits);
        total += black_box(&hits).len();
        hits.clear();
    }
    total
}

fn one_by_one(set: &RuleSet, flows: &[Biflow], phase: Phase) {
    let mut hits = Vec::with_capacity(64);
    for flow in flows {
        set.scan(phase, flow, &[], &mut hits);
        black_box(&hits);
        hits.clear();
    }
}

/// What `f` makes, the seconds that it takes by the wall and of this thread's CPU time, and the
/// octets that stay in use.
fn taken<T>(f: impl FnOnce() -> T) -> (T, (f64, f64), usize) {
    let before = IN_USE.load(Ordering::Relaxed);
    let (wall, cpu) = (Instant::now(), thread_ns());
    let made = f();
    let seconds = (wall.elapsed().as_secs_f64(), (thread_ns() - cpu) as f64 / 1e9);
    (made, seconds, IN_USE.load(Ordering::Relaxed).saturating_sub(before))
}

/// Writes a list of so many different addresses, in an order that no reader foresees.
fn write_list(path: &Path, addresses: u32) {
    let mut text = String::with_capacity(16 * addresses as usize);
    for number in 0..addresses {
        // An odd factor permutes 32 bits.
        let address = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1) ^ 0x5bd1_e995);
        writeln!(text, "{address}").expect("writing to a string");
    }
    fs::write(path, text).expect("the list");
}

/// Measures a feed of so many addresses beside the rules of `rules`, and those rules without it;
/// prints a line for each.
fn measure_feed(folder: &Path, rules: &str, addresses: u32, events: &Events) -> Value {
    let sources = sources(&folder.join(rules));
    let path = folder.join("feed.txt");
    write_list(&path, addresses);
    let spec = config::Feed { path, ..config::Feed::default() };
    let (feeds, (read_s, read_cpu_s), feed_octets) =
        taken(|| pipeline::feeds::read(&[spec]).expect("a feed"));
    let flows = &events.flows;
    let sample = events.sample();
    let compile = |feeds: &[Arc<Feed>]| {
        let traffic = Some(Arc::clone(&sample));
        let options = Options { traffic, feeds: feeds.to_vec(), ..Options::default() };
        let made = taken(|| RuleSet::compile(&sources, &options, &mut Interner::default()));
        assert_eq!(made.0.rules().len(), sources.len() + feeds.len(), "{}", made.0.report());
        made
    };
    let (without, _, octets_without) = compile(&[]);
    let (with, (compile_s, compile_cpu_s), octets_with) = compile(&feeds);
    let cost = |name: &str, set: &RuleSet| {
        let batch = |flows: &[Biflow]| {
            black_box(in_batches(set, flows, Phase::End));
        };
        let ns = per_fresh_flow(flows, batch);
        let streamed_ns = per_flow(flows.len(), || batch(flows));
        eprintln!("{name:>20} {ns:>9.1} {streamed_ns:>9.1}");
        (ns, streamed_ns)
    };
    let table = octets_with.saturating_sub(octets_without);
    eprintln!(
        "feed of {addresses} addresses: read in {read_s:.2} s ({read_cpu_s:.2} CPU), \
         {:.1} MiB; compiled with the rules in {compile_s:.2} s ({compile_cpu_s:.2} CPU), \
         {:.1} MiB more than without it",
        feed_octets as f64 / f64::from(1 << 20),
        table as f64 / f64::from(1 << 20),
    );
    let (without_ns, without_streamed_ns) = cost("rules", &without);
    let (with_ns, with_streamed_ns) = cost("rules and feed", &with);
    json!({
        "addresses": addresses, "rules": sources.len(), "flows": flows.len(),
        "read_s": read_s, "read_cpu_s": read_cpu_s, "compile_s": compile_s,
        "compile_cpu_s": compile_cpu_s, "feed_octets": feed_octets, "table_octets": table,
        "without_ns": without_ns, "with_ns": with_ns,
        "without_streamed_ns": without_streamed_ns, "with_streamed_ns": with_streamed_ns,
    })
}

/// Measures one set of rules and returns its figures; prints a line of the table.
fn measure(name: &str, folder: &Path, events: &Events, rsigma_events: usize) -> Value {
    let sources = sources(folder);
    let flows = &events.flows;
    let compile = |traffic| {
        let options = Options { traffic, ..Options::default() };
        taken(|| RuleSet::compile(&sources, &options, &mut Interner::default()))
    };
    let (cold, (compile_s, compile_cpu_s), octets) = compile(None);
    let loaded = cold.rules().len();
    assert_eq!(loaded, sources.len(), "{}", cold.report());
    let batch = |set: &RuleSet, flows: &[Biflow]| {
        black_box(in_batches(set, flows, Phase::End));
    };
    let cold_ns = per_fresh_flow(flows, |flows| batch(&cold, flows));
    drop(cold);
    let (set, ..) = compile(Some(events.sample()));
    let matches = in_batches(&set, flows, Phase::End);
    let ns = per_fresh_flow(flows, |flows| batch(&set, flows));
    let streamed_ns = per_flow(flows.len(), || batch(&set, flows));
    let single_ns = per_fresh_flow(flows, |flows| one_by_one(&set, flows, Phase::End));
    let opened_ns = per_fresh_flow(flows, |flows| one_by_one(&set, flows, Phase::Opened));
    let wake_ns = per_fresh_flow(flows, |flows| {
        for flow in flows {
            black_box(set.wake(flow, &[]));
        }
    });
    let candidates: usize = flows.iter().map(|flow| set.candidates(Phase::End, flow)).sum();
    let candidates = candidates as f64 / flows.len() as f64;
    let rsigma = (rsigma_events > 0).then(|| rsigma_ns(&sources, events, rsigma_events));
    let shown = rsigma.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
    let mib = octets as f64 / f64::from(1 << 20);
    eprintln!(
        "{name:>12} {loaded:>7} {ns:>9.1} {streamed_ns:>9.1} {cold_ns:>9.1} {single_ns:>9.1} \
         {opened_ns:>9.1} {wake_ns:>8.1} {candidates:>7.3} {:>8.4} {compile_s:>9.3} {compile_cpu_s:>9.3} {mib:>8.1} {shown:>10}",
        matches as f64 / flows.len() as f64,
    );
    json!({
        "rules": loaded, "weir_ns": ns, "rsigma_ns": rsigma, "weir_without_sample_ns": cold_ns,
        "weir_streamed_ns": streamed_ns, "weir_single_ns": single_ns, "weir_opened_ns": opened_ns, "weir_wake_ns": wake_ns,
        "candidates": candidates, "matches": matches as f64 / flows.len() as f64,
        "compile_s": compile_s, "compile_cpu_s": compile_cpu_s, "octets": octets,
        "flows": flows.len(),
    })
}

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [folder, only @ ..] = &arguments[..] else {
        eprintln!(
            "usage: cargo bench --bench sigma -- FOLDER [SET...]; make bench-sigma makes the folder"
        );
        return;
    };
    let folder = Path::new(folder);
    let events = Events::read(&folder.join("events.jsonl"));
    // The largest set comes with flows of its own, made for its rules.
    let own = folder.join("events-100000.jsonl");
    let events_100k = own.is_file().then(|| Events::read(&own));
    eprintln!(
        "{:>12} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>8} {:>9} {:>9} {:>8} {:>10}",
        "set",
        "rules",
        "ns",
        "streamed",
        "no sample",
        "single",
        "opened",
        "wake",
        "cand.",
        "matches",
        "compile s",
        "CPU s",
        "MiB",
        "rsigma ns"
    );
    let mut figures = serde_json::Map::new();
    for (name, path, rsigma_events) in [
        ("100", "rules-100", 20_000),
        ("1000", "rules-1000", 2_000),
        ("10000", "rules-10000", 100),
        ("100000", "rules-100000", 0),
        ("adversarial", "rules-adv-10000", 100),
    ] {
        let path = folder.join(path);
        let is_wanted = only.is_empty() || only.iter().any(|one| one == name);
        if is_wanted && path.is_dir() {
            let own = events_100k.as_ref().filter(|_| name == "100000");
            let events = own.unwrap_or(&events);
            figures.insert(name.to_owned(), measure(name, &path, events, rsigma_events));
        }
    }
    let mut whole = json!({ "rules": figures, "rounds": ROUNDS, "flows_a_call": BATCH });
    if only.is_empty() || only.iter().any(|one| one == "feed") {
        whole["feed"] = measure_feed(folder, "rules-10000", 1_000_000, &events);
    }
    let mut text = String::new();
    writeln!(text, "{whole:#}").expect("writing to a string");
    match std::env::var_os("WEIR_BENCH_OUT") {
        Some(path) => fs::write(path, text).expect("the results"),
        None => eprint!("{text}"),
    }
}
