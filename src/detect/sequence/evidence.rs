//! The alert on a pair: evidence that a person understands, and the sequence as one flow.

use std::sync::Arc;

use jiff::Timestamp;

use super::event::{Service, Transport};
use super::features::Columns;
use super::labels::{Class, Probabilities, log_odds, score};
use super::pairs::Pair;
use super::verdict::{Prevailing, Verdict};
use super::{Scorer, Settings, Windows};
use crate::detect::alert::alert_id;
use crate::detect::{Alert, Evidence, Level, RuleMeta, Technique, attack};
use crate::flow::{Biflow, Direction, FlowId, Side, direction};
use crate::time::Micros;

/// Interned id of the model in place of a rule's; no rule has one near it.
const UID: u32 = u32::MAX - 1;

/// The alert on `pair`, whose window is `columns`, found at `time`: its probabilities, and those of
/// the window by itself.
pub(super) fn alert(
    pair: &Pair,
    columns: &Columns,
    (probabilities, of_window): (&Probabilities, &Probabilities),
    verdict: Verdict,
    time: Micros,
    settings: &Settings,
    scorer: &mut impl Scorer,
) -> Alert {
    let rule = rule(pair.class, &verdict, settings);
    let flow = whole(pair, columns, settings);
    let sequence = verdict.sequence.id(pair.low, pair.high).to_string();
    let flow_id = alert_id(&sequence, u128::from(pair.site));
    let evidence = vec![
        scored(&verdict, probabilities, settings),
        counted(pair, columns, &flow),
        timed(columns),
        sized(columns),
        volume(columns),
        service(columns, flow.dst_port),
        moved(columns, of_window, settings, scorer),
    ];
    Alert {
        id: alert_id(&rule.id, flow_id ^ u128::from(time.0.cast_unsigned())),
        time,
        rule: Arc::new(rule),
        evidence: evidence.into_iter().flatten().collect(),
        flow_id: FlowId(flow_id),
        flow,
        suppressed: 0,
        arrived: None,
        verdict: Some(verdict),
    }
}

/// What stands in a rule's place.
fn rule(class: Class, verdict: &Verdict, settings: &Settings) -> RuleMeta {
    let (title, tactic) = match class {
        Class::Exfil => ("Exfiltration Found By The Sequence Model", "exfiltration"),
        _ => ("Command And Control Found By The Sequence Model", "command-and-control"),
    };
    let technique = verdict.attack.as_ref().map(|attack| attack.technique.to_string());
    let tags = technique.iter().map(|id| format!("attack.{}", id.to_lowercase()));
    let high = verdict.score >= settings.high;
    RuleMeta {
        uid: UID - class as u32,
        id: format!("weir-model-{}", class.as_str()),
        title: title.to_owned(),
        level: if high { Level::High } else { Level::Medium },
        author: Some("Weir".to_owned()),
        link: None,
        tags: std::iter::once(format!("attack.{tactic}")).chain(tags).collect(),
        tactics: vec![tactic.to_owned()],
        techniques: technique
            .into_iter()
            .map(|id| Technique { name: attack::technique(&id).map(str::to_owned), id })
            .collect(),
        file: "model".to_owned(),
        line: 1,
    }
}

/// Whether most octets of the window went from outside to home: what comes in is not carried off.
pub(super) fn brings_in(pair: &Pair, columns: &Columns, settings: &Settings) -> bool {
    let flow = whole(pair, columns, settings);
    flow.direction == Direction::Inbound && flow.fwd.octets >= flow.bwd.octets
}

/// The window as one flow: from the client, with the sums of its counters.
fn whole(pair: &Pair, columns: &Columns, settings: &Settings) -> Biflow {
    let (src, dst) = match columns.client_low {
        true => (pair.low, pair.high),
        false => (pair.high, pair.low),
    };
    let sum = |values: &[f64]| values.iter().sum::<f64>() as u64;
    let side = |octets: &[f64], packets: &[f64]| Side {
        octets: sum(octets),
        packets: sum(packets),
        ..Side::default()
    };
    // A window may be longer than what tells an instant from its milliseconds: gap by gap.
    let since_first = columns.gap_ms[..columns.n].iter().scan(0, |sum, &gap| {
        *sum += i64::from(gap) * 1_000;
        Some(*sum)
    });
    let span = since_first.clone().last().unwrap_or(0);
    let first = absolute(columns.events()[columns.n - 1].t_ms(), pair.seen).plus(-span);
    let ends =
        since_first.zip(columns.duration_ms).map(|(us, ms)| first.plus(us + ms as i64 * 1_000));
    let protocol = match columns.events()[columns.n - 1].transport() {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Icmp if src.is_v4() => 1,
        Transport::Icmp => 58,
        Transport::Other => 0,
    };
    Biflow {
        site: pair.site,
        src,
        dst,
        dst_port: most_frequent_port(columns),
        protocol,
        first,
        last: ends.max().unwrap_or(first),
        fwd: side(&columns.up[..columns.n], columns.up_packets()),
        bwd: side(&columns.down[..columns.n], columns.down_packets()),
        direction: direction(&settings.home, src, dst),
        sampling_interval: Some(1),
        ..Biflow::default()
    }
}

/// The instant next to `near` with these milliseconds modulo 2^32.
fn absolute(t_ms: u32, near: Micros) -> Micros {
    let near_ms = near.0.div_euclid(1_000);
    let back = (near_ms.rem_euclid(1 << 32) as u32).wrapping_sub(t_ms) as i32;
    Micros::from_millis(near_ms.saturating_sub(back.into()))
}

fn most_frequent_port(columns: &Columns) -> u16 {
    let times = |port: u16| columns.events().iter().filter(|event| event.port() == port).count();
    let ports = columns.events().iter().rev().map(super::Event::port);
    // Of as many, one that is a port.
    ports.max_by_key(|&port| (times(port), port != 0, std::cmp::Reverse(port))).unwrap_or(0)
}

fn evidence(field: &str, predicate: String, value: String) -> Option<Evidence> {
    Some(Evidence { field: field.to_owned(), predicate, value })
}

fn scored(verdict: &Verdict, p: &Probabilities, settings: &Settings) -> Option<Evidence> {
    let predicate = format!(
        "at least {:.3}, chosen for {} alerts per 1,000 hosts a day",
        settings.threshold, settings.budget
    );
    let each = Class::ALL[1..].iter().map(|&class| (class.as_str(), p[class as usize]));
    let each = each.filter(|&(_, p)| p >= 0.01).map(|(name, p)| format!("{name} {p:.2}"));
    let each = each.collect::<Vec<_>>().join(", ");
    evidence("model_score", predicate, format!("{:.3}: {each}", verdict.score))
}

fn counted(pair: &Pair, columns: &Columns, flow: &Biflow) -> Option<Evidence> {
    let value = format!(
        "{} of {} so far, {} to {}",
        columns.n,
        pair.count,
        instant(flow.first),
        instant(flow.last)
    );
    evidence("flows", "in the window, first to last".to_owned(), value)
}

fn timed(columns: &Columns) -> Option<Evidence> {
    let mut gaps: Vec<f64> = columns.gaps_ms().iter().map(|&ms| f64::from(ms) / 1e3).collect();
    if gaps.len() < 2 {
        return None;
    }
    gaps.sort_unstable_by(f64::total_cmp);
    let pick = |tenths: usize| gaps[(gaps.len() - 1) * tenths / 10];
    let (low, period, high) = (pick(1), pick(5), pick(9));
    let jitter = 50.0 * (high - low) / period.max(0.001);
    let value = format!(
        "{}, jitter {jitter:.0} %: eight of ten between {} and {}",
        span(period),
        span(low),
        span(high)
    );
    evidence("period", "median time between starts".to_owned(), value)
}

fn sized(columns: &Columns) -> Option<Evidence> {
    let median = |values: &[f64]| {
        let mut values = values[..columns.n].to_vec();
        values.sort_unstable_by(f64::total_cmp);
        (values[(columns.n - 1) / 2], values[0], values[columns.n - 1])
    };
    let show = |(median, least, most): (f64, f64, f64)| {
        format!("{} ({} to {})", octets(median), octets(least), octets(most))
    };
    let (out, back) = (show(median(&columns.up)), show(median(&columns.down)));
    evidence("size", "median octets of a flow".to_owned(), format!("{out} out, {back} in"))
}

fn volume(columns: &Columns) -> Option<Evidence> {
    let sum = |values: &[f64]| values[..columns.n].iter().sum::<f64>();
    let (up, down) = (sum(&columns.up), sum(&columns.down));
    let ratio = up / down.max(1.0);
    let value = format!("{} out, {} in, ratio {ratio:.2}", octets(up), octets(down));
    evidence("volume", "octets of the window".to_owned(), value)
}

fn service(columns: &Columns, port: u16) -> Option<Evidence> {
    let times = columns.events().iter().filter(|event| event.port() == port).count();
    let Prevailing { service, icmp } = Prevailing::of(columns);
    let value = match (icmp, service) {
        (true, _) => "icmp".to_owned(),
        (false, Service::None) => return None,
        (false, service) => format!("{port}, {times} of {}; {}", columns.n, service.as_str()),
    };
    evidence("dest_port", "most frequent".to_owned(), value)
}

/// What moved the score most: by how much its log odds fall when a group of statistics takes the
/// values of a benign pair.
fn moved(
    columns: &Columns,
    probabilities: &Probabilities,
    settings: &Settings,
    scorer: &mut impl Scorer,
) -> Option<Evidence> {
    let labels = &settings.labels;
    let stats = columns.stats();
    let mut windows = Windows::default();
    for (_, members) in &labels.groups {
        let mut without = stats;
        members.iter().for_each(|&at| without[at] = labels.reference[at]);
        windows.push(columns, &without);
    }
    let mut found = Vec::new();
    if !scorer.score(&windows, &mut found) {
        return None;
    }
    let whole = log_odds(score(probabilities));
    let names = labels.groups.iter().map(|(name, _)| name.as_str());
    let mut shares: Vec<(&str, f64)> =
        names.zip(found.iter().map(|p| whole - log_odds(score(p)))).collect();
    shares.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let value: Vec<String> =
        shares.iter().map(|(name, share)| format!("{name} {}", tenths(*share))).collect();
    let predicate = "log odds of the score, against a benign pair's".to_owned();
    evidence("moved_by", predicate, value.join(", "))
}

/// With its sign; nothing is not less than nothing.
fn tenths(value: f64) -> String {
    format!("{:+.1}", (value * 10.0).round() / 10.0 + 0.0)
}

fn instant(time: Micros) -> String {
    let second = Timestamp::from_second(time.0.div_euclid(1_000_000));
    second.map_or_else(|_| time.0.to_string(), |t| t.to_string())
}

/// A length of time in the unit that a person would use.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

fn octets(octets: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (octets, 0);
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if unit == 0 { format!("{octets:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sequence::{Allow, Event, Labels, Record};
    use crate::net::Addr;

    /// A call a day: the window is a month long, and the first is told as it was.
    #[test]
    fn a_window_of_a_month_has_its_first_flow() {
        let labels = include_str!("../../../model/weir.json");
        let labels = Labels::parse(labels).expect("the shipped labels");
        let settings = Settings::new(labels.into(), 10.0, Allow::default(), Vec::new());
        let mut pair = Pair::new(0, (Addr::v4(1), Addr::v4(2)), 1);
        let day = |n: i64| Micros::from_secs(1_700_000_000 + n * 86_400);
        for n in 0..32 {
            let first = day(n);
            let record = Record { first, last: first.plus(2_000_000), ..Record::default() };
            pair.add(Event::of(&record), first);
        }
        pair.seen = day(31).plus(9_000_000);
        let mut room = [Event::default(); super::super::features::WINDOW];
        let flow = whole(&pair, &Columns::of(pair.window(&mut room)), &settings);
        assert_eq!((flow.first, flow.last), (day(0), day(31).plus(2_000_000)));
    }

    #[test]
    fn events_have_their_instant_back() {
        let near = Micros::from_secs(1_700_000_000);
        for offset_ms in [0, 1, -86_400_000, 86_400_000, -2_000_000_000] {
            let at = near.plus(offset_ms * 1_000);
            let t_ms = (at.0 / 1_000).rem_euclid(1 << 32) as u32;
            assert_eq!(absolute(t_ms, near), at, "{offset_ms}");
        }
    }

    #[test]
    fn quantities_read_as_a_person_writes_them() {
        assert_eq!([0.96, 0.04, -0.04, -1.26].map(tenths), ["+1.0", "+0.0", "+0.0", "-1.3"]);
        assert_eq!(
            [span(59.64), span(900.0), span(3.5 * 3_600.0)],
            ["59.6 s", "15.0 min", "3.5 h"]
        );
        assert_eq!(
            [octets(999.0), octets(52_000.0), octets(4.6e6)],
            ["999 B", "52.0 kB", "4.6 MB"]
        );
    }
}
