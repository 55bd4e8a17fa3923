//! Cost of a matching event of a correlation, by timespan and number of groups: it should depend on
//! neither, apart from the caches that a million groups miss.
//!
//! `cargo bench --bench correlate`: for each row a million matches of groups in a random order, a
//! thousand a second, so a window of a minute holds 60,000 and one of a day all of them. Nanoseconds
//! of this thread's CPU time a match, over the second half.

use std::sync::Arc;

use weir::detect::sigma::correlate::{Correlator, Limits, Match};
use weir::detect::sigma::{Interner, Options, RuleSet, Source};
use weir::flow::{Biflow, FlowId};
use weir::net::Addr;
use weir::time::Micros;

const MATCHES: u64 = 1_000_000;
/// Microseconds from one to the next.
const PACE: i64 = 1_000;

/// Type, condition.
const TYPES: [(&str, &str); 7] = [
    ("event_count", "{gte: 50}"),
    ("event_count", "{gte: 1000000}"),
    ("value_count", "{field: dst_port, gte: 50}"),
    ("value_count", "{field: dst_port, gte: 1000000}"),
    ("value_sum", "{field: bytes_out, gte: 1000000000}"),
    ("value_percentile", "{field: bytes_out, percentile: 95, gte: 1000000000}"),
    ("temporal_ordered", ""),
];

fn rules(kind: &str, condition: &str, timespan: &str) -> RuleSet {
    let base = |name: &str, port| {
        format!(
            "title: {name}\nname: {name}\nlogsource: {{category: firewall}}\ndetection:\n    s: \
             {{dst_port: {port}}}\n    condition: s\n---\n"
        )
    };
    let condition = match condition {
        "" => String::new(),
        some => format!("    condition: {some}\n"),
    };
    let rules = if kind == "temporal_ordered" { "[a, b]" } else { "[a]" };
    let text = format!(
        "{}{}title: C\ncorrelation:\n    type: {kind}\n    rules: {rules}\n    group-by: [src_ip]\n    \
         timespan: {timespan}\n{condition}",
        base("a", 1),
        base("b", 2),
    );
    let source = Source { file: "bench.yml".to_owned(), text };
    let set = RuleSet::compile(&[source], &Options::default(), &mut Interner::default());
    assert_eq!(set.correlations().len(), 1, "{}", set.report());
    set
}

/// This thread's CPU time in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn cost(set: &RuleSet, groups: u64) -> (f64, usize, u64) {
    let mut correlator = Correlator::new(Limits { bytes_total: 4 << 30, bytes_per_rule: 4 << 30 });
    correlator.adopt(set);
    let (mut alerts, mut random) = (Vec::new(), 1_u64);
    let mut spent = 0;
    let rule = &set.rules()[0];
    for part in 0..100 {
        let matches: Vec<Match> = (part * MATCHES / 100..(part + 1) * MATCHES / 100)
            .map(|number| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let mut flow = Biflow {
                    src: Addr::v4((random >> 33) as u32 % groups as u32),
                    dst_port: (random >> 40) as u16,
                    ..Biflow::default()
                };
                flow.fwd.octets = random >> 50;
                Match {
                    time: Micros(number as i64 * PACE),
                    rule: rule.meta.uid,
                    at_end: rule.taps.at_end,
                    flow_id: FlowId(number.into()),
                    flow: Arc::new(flow),
                    arrived: None,
                }
            })
            .collect();
        let start = cpu_ns();
        matches.iter().for_each(|found| correlator.on_match(found, &mut alerts));
        if part >= 50 {
            spent += cpu_ns() - start;
        }
    }
    (spent as f64 / (MATCHES / 2) as f64, correlator.bytes(), alerts.len() as u64)
}

fn main() {
    eprintln!(
        "{:>18} {:>12} {:>9} {:>9} {:>11} alerts",
        "type", "timespan", "groups", "ns/match", "octets"
    );
    for (kind, condition) in TYPES {
        for timespan in ["1m", "10m", "1h", "1d"] {
            let set = rules(kind, condition, timespan);
            for groups in [1, 1_000, 1_000_000] {
                let (ns, bytes, alerts) = cost(&set, groups);
                eprintln!("{kind:>18} {timespan:>12} {groups:>9} {ns:>9.0} {bytes:>11} {alerts}");
            }
        }
    }
}
