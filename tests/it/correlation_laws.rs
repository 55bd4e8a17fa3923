//! Correlations against a plain slow twin, their memory, their estimates, and reloads.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir::detect::sigma::correlate::Limits;
use weir::detect::sigma::{Interner, Options, RuleSet, Source};
use weir::time::{Micros, SECOND};

use crate::allocations;
use crate::correlations::{Hit, Timeline, bases, correlation, said};
use crate::sigma::{Numbers, load};

const RULES: [&str; 3] = ["a", "b", "c"];

/// What the twin keeps of a group: every match that ever came.
#[derive(Debug, Default)]
struct Group {
    hits: Vec<Hit>,
    /// Where the window began, of windows that do not slide.
    from: usize,
    opened: i64,
    silent: bool,
}

/// A correlation as plainly as it can be written.
#[derive(Debug)]
struct Twin {
    kind: &'static str,
    /// Operators with twice their numbers.
    predicates: Vec<(&'static str, u64)>,
    rules: Vec<&'static str>,
    window: &'static str,
    timespan: i64,
    gap: i64,
    groups: BTreeMap<u32, Group>,
}

impl Twin {
    fn compares(&self, over: u128, under: u128) -> bool {
        self.predicates.iter().all(|&(operator, number)| {
            let (over, number) = (over * 2, u128::from(number) * under);
            match operator {
                "gt" => over > number,
                "gte" => over >= number,
                "lt" => over < number,
                "lte" => over <= number,
                "eq" => over == number,
                _ => over != number,
            }
        })
    }

    /// Whether the condition is true of these matches.
    fn holds(&self, hits: &[Hit]) -> bool {
        if hits.is_empty() {
            return false;
        }
        let count = hits.len() as u128;
        let sum: u128 = hits.iter().map(|hit| u128::from(hit.value)).sum();
        let seen: BTreeSet<&str> = hits.iter().map(|hit| hit.rule).collect();
        match self.kind {
            "event_count" => self.compares(count, 1),
            "value_count" => {
                let values: BTreeSet<u64> = hits.iter().map(|hit| hit.value).collect();
                self.compares(values.len() as u128, 1)
            }
            "value_sum" => self.compares(sum, 1),
            "value_avg" => self.compares(sum, count),
            "value_percentile" => {
                let mut values: Vec<u64> = hits.iter().map(|hit| hit.value).collect();
                values.sort_unstable();
                let rank = (values.len() * 75).div_ceil(100).max(1);
                self.compares(values[rank - 1].into(), 1)
            }
            "temporal" if self.predicates == [("gte", 2)] => seen.len() == self.rules.len(),
            "temporal" => self.compares(seen.len() as u128, 1),
            _ => self.in_order(hits, 0, i64::MIN),
        }
    }

    fn in_order(&self, hits: &[Hit], next: usize, after: i64) -> bool {
        next == self.rules.len()
            || hits.iter().any(|hit| {
                hit.rule == self.rules[next]
                    && hit.time >= after
                    && self.in_order(hits, next + 1, hit.time)
            })
    }

    /// Whether the match raises an alert.
    fn feed(&mut self, hit: Hit) -> bool {
        let mut group = self.groups.remove(&hit.group).unwrap_or_default();
        let last = group.hits.last().map_or(hit.time, |last| last.time);
        let new = match self.window {
            "tumbling" => hit.time / self.timespan != last / self.timespan,
            "session" => hit.time - last > self.gap || hit.time - group.opened > self.timespan,
            _ => false,
        };
        if new || group.hits.is_empty() {
            (group.from, group.opened, group.silent) = (group.hits.len(), hit.time, false);
        }
        let within = |group: &Group, time: i64| -> Vec<Hit> {
            let slides = self.window == "sliding";
            let of_window = group.hits[group.from..].iter().copied();
            of_window.filter(|h| !slides || h.time > time - self.timespan).collect()
        };
        let ends: Vec<i64> = group.hits.iter().map(|h| h.time + self.timespan).collect();
        for end in ends.into_iter().filter(|&end| last < end && end <= hit.time) {
            group.silent &= self.holds(&within(&group, end));
        }
        group.hits.push(hit);
        let holds = self.holds(&within(&group, hit.time));
        let alert = holds && !group.silent;
        group.silent = holds;
        self.groups.insert(hit.group, group);
        alert
    }
}

fn a_rule() -> impl Strategy<Value = Twin> {
    let kinds = [
        "event_count",
        "value_count",
        "value_sum",
        "value_avg",
        "value_percentile",
        "temporal",
        "temporal_ordered",
    ];
    let windows = ["sliding", "sliding", "sliding", "tumbling", "session"];
    let operators = ["gt", "gte", "lt", "lte", "eq", "neq"];
    let predicates =
        prop::collection::btree_map(prop::sample::select(operators.to_vec()), 0..16_u64, 1..3);
    let picks = (prop::sample::select(kinds.to_vec()), prop::sample::select(windows.to_vec()));
    (picks, predicates, 1..4_usize, 1..12_i64, 1..5_i64).prop_map(
        |((kind, window), predicates, rules, timespan, gap)| Twin {
            kind,
            predicates: match kind {
                "temporal_ordered" => vec![("gte", 2)],
                "value_sum" | "value_avg" | "value_percentile" => predicates.into_iter().collect(),
                _ => predicates.into_iter().map(|(o, n)| (o, n / 2 * 2)).collect(),
            },
            rules: RULES[..rules].to_vec(),
            window,
            timespan: timespan * SECOND,
            gap: gap * SECOND,
            groups: BTreeMap::new(),
        },
    )
}

fn text(rule: &Twin) -> String {
    let field = match rule.kind {
        "value_count" => "field: dst_port, ",
        "value_sum" | "value_avg" => "field: bytes_out, ",
        "value_percentile" => "field: bytes_out, percentile: 75, ",
        _ => "",
    };
    let predicates: Vec<String> =
        rule.predicates.iter().map(|(o, n)| format!("{o}: {}.{}", n / 2, n % 2 * 5)).collect();
    let gap = match rule.window {
        "session" => format!("gap: {}s\n", rule.gap / SECOND),
        _ => String::new(),
    };
    let body = format!(
        "type: {}\nrules: [{}]\ngroup-by: [src_ip]\ntimespan: {}s\nwindow: {}\n{gap}condition: \
         {{{field}{}}}",
        rule.kind,
        rule.rules.join(", "),
        rule.timespan / SECOND,
        rule.window,
        predicates.join(", "),
    );
    correlation("x", &body)
}

fn hits() -> impl Strategy<Value = Vec<Hit>> {
    // Half seconds, so that edges are met exactly, and many matches of one instant.
    let hit = (0..5_i64, 0..3_usize, 0..2_u32, 0..6_u64);
    prop::collection::vec(hit, 1..60).prop_map(|steps| {
        let mut time = 1_000 * SECOND;
        let hit = |(step, rule, group, value): (i64, usize, u32, u64)| {
            time += step * SECOND / 2;
            Hit { time, rule: RULES[rule], group, value }
        };
        steps.into_iter().map(hit).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn correlations_equal_a_plain_recount(mut rule in a_rule(), hits in hits()) {
        let text = text(&rule);
        let set = load(&(bases() + &text));
        if let [rejected] = &set.report().rejected[..] {
            // The twin agrees that nothing satisfies it.
            prop_assert_eq!(rejected.reason.reason(), "never_matches", "{}", text);
            for hit in hits {
                let alert = rule.rules.contains(&hit.rule) && rule.feed(hit);
                prop_assert!(!alert, "{}", text);
            }
            return Ok(());
        }
        let mut timeline = Timeline::new(&text, Limits::default());
        for (at, hit) in hits.iter().enumerate() {
            let want = rule.rules.contains(&hit.rule) && rule.feed(*hit);
            let found = !timeline.feed(*hit).is_empty();
            prop_assert_eq!(found, want, "{}match {} of {:?}", text, at, hits);
        }
    }
}

#[test]
fn a_million_live_groups_fit_and_are_accounted_for() {
    let count =
        "type: event_count\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 1h\ncondition: {gte: 20}";
    let ports = "type: value_count\nrules: [b]\ngroup-by: [src_ip]\ntimespan: 1h\ncondition: \
                 {field: dst_port, gte: 20}";
    for (rule, body) in [("a", count), ("b", ports)] {
        let mut timeline = Timeline::new(&correlation("x", body), Limits::default());
        let before = allocations::octets();
        let mut time = 0;
        for round in 1..=2 {
            for group in 0..1_000_000 {
                time += 1;
                timeline.feed(Hit { time, rule, group, value: round });
            }
        }
        let taken = usize::try_from(allocations::octets() - before).expect("more than before");
        let counts = timeline.stats("x").counts;
        assert_eq!((counts.groups, counts.evicted, counts.matches), (1_000_000, 0, 2_000_000));
        let accounted = timeline.correlator.bytes();
        eprintln!("{rule}: asked for {taken} octets, accounted {accounted}");
        assert!(accounted <= 256 << 20, "{accounted} octets");
        assert!(taken <= accounted && accounted <= taken + taken / 3, "{taken} of {accounted}");
        // All of it comes back once the windows are empty.
        while timeline.stats("x").counts.groups > 0 {
            timeline.correlator.forget(Micros(time + 3_600 * SECOND));
        }
        assert!(timeline.correlator.bytes() < 1_000);
    }
}

#[test]
fn what_does_not_fit_is_evicted_and_counted() {
    let body =
        "type: event_count\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 1h\ncondition: {gte: 3}";
    let other = body.replace("[a]", "[b]");
    let text = correlation("x", body) + &correlation("y", &other);
    let limits = Limits { bytes_total: 300_000, bytes_per_rule: 200_000 };
    let mut timeline = Timeline::new(&text, limits);
    let feed = |timeline: &mut Timeline, rule, group| {
        timeline.feed(Hit { time: 1, rule, group, value: 0 });
        assert!(timeline.correlator.bytes() <= limits.bytes_total);
        assert!(timeline.stats("x").counts.bytes <= limits.bytes_per_rule as u64);
    };
    (0..5_000).for_each(|group| feed(&mut timeline, "a", group));
    let x = timeline.stats("x").counts;
    assert_eq!(x.groups + x.evicted, 5_000);
    assert!(x.groups > 500 && x.evicted > 1_000, "{x:?}");
    // The newest are there, the oldest are not.
    for group in [4_999, 0] {
        feed(&mut timeline, "a", group);
        feed(&mut timeline, "a", group);
    }
    let alerts: Vec<_> = timeline.alerts.iter().map(|a| a.flow.src.to_string()).collect();
    assert_eq!(alerts, ["10.0.19.135"]);
    // Another correlation takes from the fullest.
    (0..5_000).for_each(|group| feed(&mut timeline, "b", group));
    let (x, y) = (timeline.stats("x").counts, timeline.stats("y").counts);
    assert!(x.bytes.abs_diff(y.bytes) < 40_000, "{x:?} {y:?}");
    assert_eq!(y.groups + y.evicted, 5_000);
}

/// The first number of what an alert says, and the last one.
fn number_and_error(text: &str) -> (f64, f64) {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let numbers: Vec<f64> = numbers.map(|n| n.parse().expect("digits")).collect();
    (numbers[0], numbers[numbers.len() - 1])
}

#[test]
fn many_different_values_are_estimated_within_the_stated_error() {
    for (threshold, seed) in [(3_000, 1), (10_000, 2), (50_000, 3)] {
        let body = format!(
            "type: value_count\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 60s\ncondition: \
             {{field: bytes_out, gte: {threshold}}}"
        );
        let mut timeline = Timeline::new(&correlation("x", &body), Limits::default());
        let mut numbers = Numbers(seed);
        let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
        let mut crossed = 0;
        for round in 0..2 {
            // Rounds are apart, so that the second begins with an empty window.
            for step in 0..threshold * 3 {
                let time =
                    round * 200 * SECOND + step as i64 * 30 * SECOND / (threshold * 3) as i64;
                let value = numbers.below(threshold * 2);
                seen.insert(value, time);
                let alerts = timeline.feed(Hit { time, rule: "a", group: 1, value });
                let Some(alert) = alerts.first() else { continue };
                let (found, error) = number_and_error(said(alert, "value_count"));
                let real = seen.values().filter(|&&at| at > time - 60 * SECOND).count() as f64;
                assert!(error > 0.0 && error < 0.04 * real, "{error} of {real}");
                assert!((found - real).abs() < 4.0 * error, "{found} ± {error} of {real}");
                crossed += 1;
            }
        }
        assert!(crossed >= 2, "{threshold}: crossed {crossed} times");
        let bytes = timeline.correlator.bytes();
        assert!(bytes < 200_000, "{threshold}: {bytes} octets");
    }
}

#[test]
fn many_matches_are_estimated_within_the_stated_error() {
    let cases = [
        ("event_count", "", 15_000_u64),
        ("value_sum", "field: bytes_out, ", 1_000_000),
        ("value_avg", "field: bytes_out, ", 80),
        ("value_percentile", "field: bytes_out, percentile: 90, ", 120),
    ];
    for (kind, field, threshold) in cases {
        let body = format!(
            "type: {kind}\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 1h\ncondition: {{{field}gte: \
             {threshold}}}"
        );
        let mut timeline = Timeline::new(&correlation("x", &body), Limits::default());
        let mut numbers = Numbers(9);
        let mut hits: Vec<Hit> = Vec::new();
        let mut crossed = Vec::new();
        // Values grow from 0..100 to 0..200 while matches come twice as often.
        for step in 0..60_000 {
            let time = step * SECOND / 4 - (step * step / 800_000) * SECOND / 8;
            let value = numbers.below(100 + step as u64 / 600);
            hits.push(Hit { time, rule: "a", group: 1, value });
            let hit = hits[hits.len() - 1];
            for alert in timeline.feed(hit) {
                crossed.push((
                    step,
                    said(alert, if kind == "value_percentile" { "percentile" } else { kind })
                        .to_owned(),
                ));
            }
        }
        let bytes = timeline.correlator.bytes();
        assert!(bytes < 200_000, "{kind}: {bytes} octets");
        let Some((step, words)) = crossed.first() else { panic!("{kind} never crosses") };
        let hit = hits[*step as usize];
        // The window may begin one 1,024th of the timespan early.
        let real = |from: i64| -> (u64, u64, Vec<u64>) {
            let values = hits[..=*step as usize].iter().filter(|h| h.time > from).map(|h| h.value);
            let mut values: Vec<u64> = values.collect();
            values.sort_unstable();
            (values.len() as u64, values.iter().sum(), values)
        };
        let exact = real(hit.time - 3_600 * SECOND);
        let early = real(hit.time - 3_600 * SECOND - 3_600 * SECOND / 1_024);
        let (found, _) = number_and_error(words);
        let between = |low: u64, high: u64| {
            assert!(low as f64 <= found && found <= high as f64, "{low} {found} {high}: {words}");
        };
        match kind {
            "event_count" => between(exact.0, early.0),
            "value_sum" => between(exact.1, early.1),
            "value_avg" => {
                assert!((found - exact.1 as f64 / exact.0 as f64).abs() < 2.0, "{words}");
            }
            _ => {
                let value = exact.2[(exact.0 as usize * 90).div_ceil(100) - 1];
                assert!(value.abs_diff(threshold) <= 1, "{value}: {words}");
            }
        }
        eprintln!("{kind}: {words}");
    }
}

#[test]
fn groups_outlive_a_reload_that_leaves_their_correlation_alone() {
    let body =
        "type: event_count\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 1h\ncondition: {gte: 2}";
    let source =
        |correlations: &str| Source { file: "test.yml".to_owned(), text: bases() + correlations };
    let mut interner = Interner::default();
    let mut compile = |text: &str| {
        let options = Options::default();
        RuleSet::compile(&[source(text)], &options, &mut interner)
    };
    let changed = body.replace("1h", "2h");
    let texts = [
        (correlation("x", body), true),
        // Another title, and another correlation before it, change nothing.
        (
            correlation("w", &changed) + &correlation("x", body).replace("title: ", "title: New "),
            true,
        ),
        (correlation("x", &changed), false),
        (bases().replace("id-", "more-").replace("name: ", "name: more-"), false),
    ];
    for (text, kept) in &texts {
        let mut timeline = Timeline::new(&texts[0].0, Limits::default());
        let set = compile(&texts[0].0);
        timeline.correlator.adopt(&set);
        timeline.set = set;
        timeline.feed(Hit { time: 1, rule: "a", group: 1, value: 0 });
        let set = compile(text);
        timeline.correlator.adopt(&set);
        timeline.set = set;
        let groups: u64 = timeline.correlator.stats().map(|stats| stats.counts.groups).sum();
        assert_eq!(groups, u64::from(*kept), "{text}");
        let alerts = timeline.feed(Hit { time: 2, rule: "a", group: 1, value: 0 }).len();
        assert_eq!(alerts, usize::from(*kept), "{text}");
    }
}
