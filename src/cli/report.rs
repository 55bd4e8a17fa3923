//! What `weir replay` prints for a person: flows, detections and why, throughput, ledgers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::detect::{Alert, Evidence, RuleMeta, TaggedSlice};
use crate::flow::Biflow;
use crate::metrics::{Counts, Ledgers, ledger};
use crate::net::Addr;
use crate::output::{self, Batch, Context, Sink};

/// Flows that are listed.
const FLOWS_MAX: usize = 12;
/// Alerts of one rule that are shown; all are counted.
const EXAMPLES_MAX: usize = 2;
/// Columns of a line of reasons, beyond which it is wrapped.
const WIDTH: usize = 100;

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

fn endpoint(address: Addr, port: Option<u16>) -> String {
    match (port, address.is_v4()) {
        (None, _) => address.to_string(),
        (Some(port), true) => format!("{address}:{port}"),
        (Some(port), false) => format!("[{address}]:{port}"),
    }
}

/// The port of a flow of this protocol; of `many` flows there is none where it is not that of all.
fn stands(port: u16, protocol: u8, many: bool) -> Option<u16> {
    match protocol {
        1 | 58 => None,
        // TCP, UDP, DCCP, SCTP and UDP-Lite may have a port 0, others have none.
        6 | 17 | 33 | 132 | 136 if !many => Some(port),
        _ => Some(port).filter(|&port| port != 0),
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

fn line(flow: &Biflow, many: bool) -> String {
    let port = |port| stands(port, flow.protocol, many);
    let src = endpoint(flow.src, port(flow.src_port));
    let dst = endpoint(flow.dst, port(flow.dst_port));
    let protocol = if many && flow.protocol == 0 { "any".into() } else { protocol(flow.protocol) };
    format!("{protocol:<5} {src} -> {dst}")
}

fn flows(text: &mut String, state: &State, context: &Context) -> std::fmt::Result {
    writeln!(text, "FLOWS  {} slices, {} tagged; the largest:", state.slices, state.tagged)?;
    let lines = state.largest.iter().map(|tagged| line(&tagged.slice.flow, false));
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
            writeln!(text, "      {}", line(&alert.flow, alert.is_on_many_flows()))?;
            because(text, &alert.evidence)?;
        }
    }
    writeln!(text)
}

/// The reasons of an alert: on one line if they fit, else on lines of their own, wrapped.
fn because(text: &mut String, evidence: &[Evidence]) -> std::fmt::Result {
    const LEAD: &str = "      because ";
    let reason = |e: &Evidence| printable(&format!("{} {} (is {})", e.field, e.predicate, e.value));
    let reasons: Vec<String> = evidence.iter().map(reason).collect();
    let mut lines = vec![reasons.join(", ")];
    if LEAD.len() + lines[0].chars().count() > WIDTH {
        lines = reasons;
        let last = lines.len() - 1;
        lines[..last].iter_mut().for_each(|line| line.push(','));
    }
    for (at, line) in lines.iter().enumerate() {
        for (part, words) in wrapped(line, WIDTH - LEAD.len() - 4).enumerate() {
            let lead = if (at, part) == (0, 0) { LEAD } else { "" };
            let deeper = if part == 0 { "" } else { "    " };
            writeln!(text, "{lead:<14}{deeper}{words}")?;
        }
    }
    Ok(())
}

/// What exporters and packets say goes to a terminal: its control characters do not.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

/// `text` in lines of `width` characters at most, cut at blanks; a longer word stands whole.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let over = text.char_indices().nth(width).map(|(end, _)| end);
        let blank = over.and_then(|over| text[..=over].rfind(' ').or_else(|| text.find(' ')));
        let (line, left) = blank.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        rest = left;
        Some(line)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shown_where_one_stands() {
        for (name, protocol, ports, many, want) in [
            ("tcp", 6, (40_000, 443), false, "tcp   10.0.0.1:40000 -> 10.0.0.2:443"),
            ("tcp from port 0", 6, (0, 443), false, "tcp   10.0.0.1:0 -> 10.0.0.2:443"),
            ("many flows to one port", 6, (0, 443), true, "tcp   10.0.0.1 -> 10.0.0.2:443"),
            ("many flows of a host", 0, (0, 0), true, "any   10.0.0.1 -> 10.0.0.2"),
            ("type and code", 1, (8, 0), false, "icmp  10.0.0.1 -> 10.0.0.2"),
            ("without ports", 47, (0, 0), false, "gre   10.0.0.1 -> 10.0.0.2"),
        ] {
            let (src, dst) = (Addr::v4(0x0a00_0001), Addr::v4(0x0a00_0002));
            let (src_port, dst_port) = ports;
            let flow = Biflow { src, dst, src_port, dst_port, protocol, ..Biflow::default() };
            assert_eq!(line(&flow, many), want, "{name}");
        }
    }

    #[test]
    fn reasons_are_whole_and_wrapped() {
        let evidence = |field: &str, value: &str| Evidence {
            field: field.to_owned(),
            predicate: "is".to_owned(),
            value: value.to_owned(),
        };
        let shown = |evidence: &[Evidence]| {
            let mut text = String::new();
            because(&mut text, evidence).expect("a string takes all");
            text
        };
        let few = [evidence("proto", "tcp"), evidence("application", "a\u{1b}[31mb")];
        let want = "      because proto is (is tcp), application is (is a\\u{1b}[31mb)\n";
        assert_eq!(shown(&few), want);
        let words = ["timing +2.9"; 12].join(", ");
        let long = [evidence("moved_by", &words), evidence("flows", &"x".repeat(120))];
        let text = shown(&long);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("      because moved_by is (is timing"), "{text}");
        assert!(lines[1].starts_with("                  timing") && lines[2].ends_with("+2.9),"));
        assert!(lines[..3].iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        let joined: Vec<&str> = text.split_whitespace().collect();
        let whole = format!("because moved_by is (is {words}), flows is (is {})", "x".repeat(120));
        assert_eq!(joined.join(" "), whole);
        assert_eq!(shown(&[]), "      because \n");
    }
}
