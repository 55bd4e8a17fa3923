//! What `weir replay` prints for a person: flows, detections and why, throughput, ledgers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::detect::{Alert, RuleMeta, TaggedSlice};
use crate::flow::Biflow;
use crate::metrics::{Counts, Ledgers, ledger};
use crate::net::Addr;
use crate::output::{self, Batch, Context, Sink};

/// Flows that are listed.
const FLOWS_MAX: usize = 12;
/// Alerts of one rule that are shown; all are counted.
const EXAMPLES_MAX: usize = 2;
/// Characters of a value in an alert's evidence that are shown; the alert's record has it whole.
const VALUE_SHOWN: usize = 72;

/// A sink that keeps what a report needs, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Report {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slices: u64,
    tagged: u64,
    largest: Vec<TaggedSlice>,
    rules: BTreeMap<String, Fired>,
}

#[derive(Debug)]
struct Fired {
    rule: Arc<RuleMeta>,
    alerts: u64,
    examples: Vec<Alert>,
}

fn weight(slice: &TaggedSlice) -> (u64, u128) {
    let flow = &slice.slice.flow;
    (flow.fwd.octets.saturating_add(flow.bwd.octets), u128::MAX - slice.slice.flow_id.0)
}

impl State {
    fn slice(&mut self, slice: &TaggedSlice) {
        self.slices += 1;
        self.tagged += u64::from(!slice.rules.is_empty());
        let least = self.largest.last().map(weight);
        if self.largest.len() == FLOWS_MAX && least >= Some(weight(slice)) {
            return;
        }
        let at = self.largest.partition_point(|other| weight(other) > weight(slice));
        self.largest.insert(at, slice.clone());
        self.largest.truncate(FLOWS_MAX);
    }

    fn alert(&mut self, alert: &Alert) {
        let fired = self.rules.entry(alert.rule.id.clone());
        let fired = fired.or_insert_with(|| Fired {
            rule: Arc::clone(&alert.rule),
            alerts: 0,
            examples: Vec::new(),
        });
        fired.alerts += 1;
        // The earliest, whatever the order in which workers hand them over.
        let key = |alert: &Alert| (alert.time, alert.id);
        let at = fired.examples.partition_point(|other| key(other) < key(alert));
        fired.examples.insert(at, alert.clone());
        fired.examples.truncate(EXAMPLES_MAX);
    }
}

impl Sink for Report {
    fn offer(&self, batch: &Arc<Batch>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        batch.slices.iter().for_each(|slice| state.slice(slice));
        batch.alerts.iter().for_each(|alert| state.alert(alert));
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.offer(batch);
    }

    fn ledgers(&self) -> output::Ledgers {
        let slices = self.state.lock().unwrap_or_else(PoisonError::into_inner).slices;
        let ledger =
            ledger::Sink { selected: slices, acknowledged: slices, ..ledger::Sink::default() };
        [("report".to_owned(), ledger)].into()
    }

    fn set_context(&self, _context: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> output::Ledgers {
        self.ledgers()
    }
}

impl Report {
    /// The report.
    pub(super) fn text(&self, ledgers: &Ledgers, took: Duration, context: &Context) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        flows(&mut text, &state, context)
            .and_then(|()| detections(&mut text, &state))
            .and_then(|()| throughput(&mut text, ledgers, took))
            .and_then(|()| ledger_lines(&mut text, ledgers))
            .expect("a string takes all");
        text
    }
}

fn endpoint(address: Addr, port: u16, protocol: u8) -> String {
    match (protocol, address.is_v4()) {
        (1 | 58, _) => address.to_string(),
        (_, true) => format!("{address}:{port}"),
        (_, false) => format!("[{address}]:{port}"),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        47 => "gre".into(),
        58 => "icmp6".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

fn line(flow: &Biflow) -> String {
    let src = endpoint(flow.src, flow.src_port, flow.protocol);
    let dst = endpoint(flow.dst, flow.dst_port, flow.protocol);
    format!("{:<5} {src} -> {dst}", protocol(flow.protocol))
}

fn flows(text: &mut String, state: &State, context: &Context) -> std::fmt::Result {
    writeln!(text, "FLOWS  {} slices, {} tagged; the largest:", state.slices, state.tagged)?;
    let lines = state.largest.iter().map(|tagged| line(&tagged.slice.flow));
    let lines: Vec<String> = lines.collect();
    let width = lines.iter().map(String::len).max().unwrap_or(0);
    for (tagged, line) in state.largest.iter().zip(lines) {
        let flow = &tagged.slice.flow;
        let seconds = flow.duration_us() as f64 / 1e6;
        let counters = format!(
            "{:>10} out {:>10} in  {:>6}+{:<6} pkts {seconds:>9.1} s",
            octets(flow.fwd.octets),
            octets(flow.bwd.octets),
            flow.fwd.packets,
            flow.bwd.packets,
        );
        let site = match flow.site {
            0 => String::new(),
            site => format!("  @{}", context.sites.get(usize::from(site)).map_or("?", |s| s)),
        };
        let titles: Vec<&str> = tagged.rules.iter().map(|rule| rule.title.as_str()).collect();
        let tags = match titles.is_empty() {
            true => String::new(),
            false => format!("  <- {}", titles.join("; ")),
        };
        writeln!(text, "  {line:<width$} {counters}{site}{tags}")?;
    }
    writeln!(text)
}

fn octets(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = octets as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{octets} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn detections(text: &mut String, state: &State) -> std::fmt::Result {
    let alerts: u64 = state.rules.values().map(|fired| fired.alerts).sum();
    writeln!(text, "DETECTIONS  {alerts} alerts of {} rules:", state.rules.len())?;
    let mut rules: Vec<&Fired> = state.rules.values().collect();
    rules.sort_by_key(|fired| (std::cmp::Reverse(fired.rule.level), fired.rule.title.clone()));
    for fired in rules {
        let rule = &fired.rule;
        let techniques: Vec<&str> = rule.techniques.iter().map(|t| t.id.as_str()).collect();
        let techniques = techniques.join(" ");
        let level = rule.level.as_str();
        writeln!(text, "  [{level}] {}  x{}  {techniques}", rule.title, fired.alerts)?;
        for alert in &fired.examples {
            writeln!(text, "      {}", line(&alert.flow))?;
            let because = |e: &crate::detect::Evidence| {
                format!("{} {} (is {})", e.field, e.predicate, shown(&e.value))
            };
            let because: Vec<String> = alert.evidence.iter().map(because).collect();
            writeln!(text, "      because {}", because.join(", "))?;
        }
    }
    writeln!(text)
}

/// `value`, cut where it is long, as a list of flows is.
fn shown(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}...", &value[..end])),
        None => Cow::Borrowed(value),
    }
}

fn throughput(text: &mut String, ledgers: &Ledgers, took: Duration) -> std::fmt::Result {
    let seconds = took.as_secs_f64().max(1e-6);
    let rate = |n: u64| format!("{n} ({:.0} k/s)", n as f64 / seconds / 1e3);
    writeln!(
        text,
        "THROUGHPUT  {seconds:.3} s: {} packets, {} datagrams, {} records\n",
        rate(ledgers.packets.read),
        rate(ledgers.datagrams.received),
        rate(ledgers.records.decoded),
    )
}

fn reasons(counts: &Counts) -> String {
    let each: Vec<String> = counts.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
}

fn ledger_lines(text: &mut String, ledgers: &Ledgers) -> std::fmt::Result {
    let (d, p, s) = (&ledgers.datagrams, &ledgers.packets, &ledgers.data_sets);
    let (r, c) = (&ledgers.records, &ledgers.slices);
    let verdict = match ledgers.imbalances() {
        none if none.is_empty() => "all balance".to_owned(),
        some => format!("DO NOT BALANCE: {}", some.join("; ")),
    };
    writeln!(text, "LEDGERS  {verdict}")?;
    let (rejected, why) = (d.rejected.total(), reasons(&d.rejected));
    writeln!(
        text,
        "  datagrams  received {} = decoded {} + rejected {rejected}{why}; kernel drops {}",
        d.received, d.decoded, d.kernel_drops
    )?;
    let (excepted, why) = (p.excepted.total(), reasons(&p.excepted));
    let giants = match p.giants {
        0 => String::new(),
        giants => format!("; {giants} joined by receive offload"),
    };
    writeln!(
        text,
        "  packets    read {} = metered {} + excepted {excepted}{why}{giants}",
        p.read, p.metered
    )?;
    let (dropped, why) = (s.dropped.total(), reasons(&s.dropped));
    writeln!(
        text,
        "  data sets  seen {} = decoded {} + waiting {} + dropped {dropped}{why}",
        s.seen, s.decoded, s.waiting
    )?;
    let (other, kinds) = (r.not_a_flow.total(), reasons(&r.not_a_flow));
    let (dropped, why) = (r.dropped.total(), reasons(&r.dropped));
    writeln!(
        text,
        "  records    decoded {} = merged {} + duplicate {} + not a flow {other}{kinds} + \
         dropped {dropped}{why}",
        r.decoded, r.merged, r.duplicate
    )?;
    writeln!(
        text,
        "  slices     opened {} = shipped {} + held {}; records in them {}",
        c.opened,
        c.shipped,
        c.held,
        c.shipped_records + c.held_records
    )?;
    match ledgers.detections.excluded.iter().sum::<u64>() {
        0 => Ok(()),
        flows => writeln!(text, "  excluded   {flows} flows kept from rules by exclusions"),
    }
}
