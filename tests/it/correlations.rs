//! Correlations: golden timelines of each type, and what their definitions may say.

use std::fmt::Write as _;
use std::sync::Arc;

use weir::detect::Alert;
use weir::detect::sigma::correlate::{Correlator, Limits, Match, Rehearsal, RuleStats};
use weir::detect::sigma::{Event, RuleSet};
use weir::flow::{Biflow, FlowId};
use weir::net::Addr;
use weir::time::{Micros, SECOND};

use crate::sigma::{home, load};
use crate::support::vectors;

/// Three base rules, `a`, `b` and `c`; no test here depends on what they match.
pub(crate) fn bases() -> String {
    let mut text = String::new();
    for (id, port) in [("a", 1), ("b", 2), ("c", 3)] {
        writeln!(
            text,
            "title: Rule {id}\nid: id-{id}\nname: {id}\nlogsource:\n    category: firewall\n\
             detection:\n    s:\n        dst_port: {port}\n    condition: s\n---"
        )
        .expect("writing to a string");
    }
    text
}

/// A correlation with the lines of `body` below `correlation:`.
pub(crate) fn correlation(id: &str, body: &str) -> String {
    let mut text = format!("title: Correlation {id}\nid: {id}\nname: name-{id}\ncorrelation:\n");
    for line in body.lines() {
        writeln!(text, "    {line}").expect("writing to a string");
    }
    text + "level: high\n---\n"
}

/// A match of one of the base rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// In microseconds.
    pub time: i64,
    pub rule: &'static str,
    /// The initiator's address ends in it.
    pub group: u32,
    /// The responder's port and the octets that the initiator sent.
    pub value: u64,
}

impl Hit {
    pub fn flow(self, number: u64) -> (FlowId, Biflow) {
        let mut flow = Biflow {
            src: Addr::v4(0x0a00_0000 | self.group),
            dst: Addr::v4(0xc000_0201),
            dst_port: self.value as u16,
            ..Biflow::default()
        };
        flow.fwd.octets = self.value;
        (FlowId(u128::from(number)), flow)
    }
}

/// A correlator on the correlations of `text`, and what it is fed.
pub(crate) struct Timeline {
    pub set: RuleSet,
    pub correlator: Correlator,
    pub alerts: Vec<Alert>,
    fed: u64,
}

impl Timeline {
    pub fn new(correlations: &str, limits: Limits) -> Self {
        let set = load(&(bases() + correlations));
        assert!(set.report().rejected.is_empty(), "{}", set.report());
        let mut correlator = Correlator::new(limits);
        correlator.adopt(&set);
        Self { set, correlator, alerts: Vec::new(), fed: 0 }
    }

    /// Feeds `hit` as a worker would: at once and at the flow's end, as far as asked for. Returns
    /// the alerts that it completed.
    pub fn feed(&mut self, hit: Hit) -> &[Alert] {
        let before = self.alerts.len();
        // `a`, `b` and `c` are the first of the set.
        let rule = &self.set.rules()[usize::from(hit.rule.as_bytes()[0] - b'a')];
        self.fed += 1;
        let (flow_id, flow) = hit.flow(self.fed);
        let flow = Arc::new(flow);
        for (at_end, wanted) in [(false, rule.taps.on_fire), (true, rule.taps.at_end)] {
            if wanted {
                let (time, rule) = (Micros(hit.time), rule.meta.uid);
                let (flow, arrived) = (Arc::clone(&flow), Some(time.plus(SECOND)));
                let found = Match { time, rule, at_end, flow_id, flow, arrived };
                self.correlator.on_match(&found, &mut self.alerts);
            }
        }
        &self.alerts[before..]
    }

    pub fn stats(&self, id: &str) -> RuleStats {
        self.correlator.stats().find(|s| s.rule.meta.id == id).expect("a correlation")
    }
}

/// What an alert says of `field`.
pub(crate) fn said<'a>(alert: &'a Alert, field: &str) -> &'a str {
    let found = alert.evidence.iter().find(|e| e.field.starts_with(field));
    found.map_or("", |evidence| &evidence.value)
}

/// Feeds `hits`, each (second, rule, group, value), to one correlation, and compares the alerts:
/// (second, group, what was measured).
#[track_caller]
fn check(
    name: &str,
    body: &str,
    hits: &[(i64, &'static str, u32, u64)],
    want: &[(i64, u32, &str)],
) {
    let mut timeline = Timeline::new(&correlation("x", body), Limits::default());
    let measure = body.lines().find_map(|l| l.strip_prefix("type: ")).expect("a type");
    let measure = if measure == "value_percentile" { "percentile" } else { measure };
    for &(second, rule, group, value) in hits {
        timeline.feed(Hit { time: second * SECOND, rule, group, value });
    }
    // An alert arrived with the match that completed its group.
    let late = |alert: &Alert| alert.arrived == Some(alert.time.plus(SECOND));
    assert!(timeline.alerts.iter().all(late), "{name}");
    let found: Vec<(i64, u32, &str)> = timeline
        .alerts
        .iter()
        .map(|alert| {
            let group = alert.flow.src.to_v4().expect("IPv4") & 0xff_ffff;
            (alert.time.0 / SECOND, group, said(alert, measure))
        })
        .collect();
    assert_eq!(found, want, "{name}");
}

pub(crate) const COUNT: &str = "type: event_count\nrules: [a]\ngroup-by: [src_ip]\ntimespan: 10s\n";

#[test]
fn event_count_timelines() {
    let three = COUNT.to_owned() + "condition: {gte: 3}";
    let a = |second, group| (second, "a", group, 0);
    check("crosses", &three, &[a(1, 1), a(2, 1), a(3, 1)], &[(3, 1, "3")]);
    check("groups are apart", &three, &[a(1, 1), a(2, 2), a(3, 1), a(4, 2)], &[]);
    // (t - 10, t]: what is exactly ten seconds old is out.
    check("edge out", &three, &[a(1, 1), a(2, 1), a(11, 1)], &[]);
    check("edge in", &three, &[a(2, 1), a(3, 1), a(11, 1)], &[(11, 1, "3")]);
    let silent = [a(1, 1), a(2, 1), a(3, 1), a(4, 1), a(5, 1)];
    check("silent while true", &three, &silent, &[(3, 1, "3")]);
    // At 12 the matches of 1 and 2 are out: two are left, which was false, then three again.
    let again = [a(1, 1), a(2, 1), a(3, 1), a(4, 1), a(12, 1)];
    check("again once false", &three, &again, &[(3, 1, "3"), (12, 1, "3")]);
    // At 11.. one leaves as one comes: never below three at a match, but below three between them.
    let between = [a(1, 1), a(2, 1), a(3, 1), a(11, 1)];
    check("false between matches", &three, &between, &[(3, 1, "3"), (11, 1, "3")]);
    check("same instant", &three, &[a(5, 1), a(5, 1), a(5, 1)], &[(5, 1, "3")]);
    let range = COUNT.to_owned() + "condition: {gt: 1, lt: 4}";
    // True at 2 and 3, false from 4 on; then true again on the way down.
    let up = [a(1, 1), a(2, 1), a(3, 1), a(4, 1), a(5, 1), a(13, 1)];
    check("range", &range, &up, &[(2, 1, "2"), (13, 1, "3")]);
    let few = COUNT.to_owned() + "condition: {lt: 3}";
    check("upper bound", &few, &[a(1, 1), a(2, 1), a(3, 1), a(4, 1)], &[(1, 1, "1")]);
    // Five, then all but one expire: passing through two is true again, and so is the next match.
    let down = [a(1, 1), a(2, 1), a(3, 1), a(4, 1), a(5, 1), a(14, 1)];
    check("upper bound again", &few, &down, &[(1, 1, "1"), (14, 1, "2")]);
    let equal = COUNT.to_owned() + "condition: {eq: 2}";
    check("eq", &equal, &[a(1, 1), a(2, 1), a(3, 1), a(4, 1)], &[(2, 1, "2")]);
    // From three to one by expiry: two was passed, without a match at that moment.
    let passed = [a(1, 1), a(2, 1), a(3, 1), a(12, 1)];
    check("eq, back by expiry", &equal, &passed, &[(2, 1, "2"), (12, 1, "2")]);
    let not_two = COUNT.to_owned() + "condition: {neq: 2}";
    let a3 = [a(1, 1), a(2, 1), a(3, 1), a(4, 1)];
    check("neq", &not_two, &a3, &[(1, 1, "1"), (3, 1, "3")]);
    // From four to three, two and one by expiry: at two it was false.
    let fell = [a(1, 1), a(2, 1), a(3, 1), a(4, 1), a(13, 1), a(13, 1), a(13, 1), a(15, 1)];
    check("neq, through expiries", &not_two, &fell, &[(1, 1, "1"), (3, 1, "3"), (13, 1, "3")]);
    let all = "type: event_count\nrules: [a, b]\ntimespan: 10s\ncondition: {gte: 3}";
    check("no group-by", all, &[a(1, 1), (2, "b", 2, 0), a(3, 3)], &[(3, 3, "3")]);
}

#[test]
fn value_count_timelines() {
    let three = COUNT.replace("event", "value") + "condition: {field: dst_port, gte: 3}";
    let a = |second, value| (second, "a", 1, value);
    check("different", &three, &[a(1, 5), a(2, 6), a(3, 7)], &[(3, 1, "3")]);
    check("the same", &three, &[a(1, 5), a(2, 5), a(3, 5), a(4, 6)], &[]);
    // 5 comes again at 4, so at 12 it still counts.
    check("seen again", &three, &[a(1, 5), a(3, 6), a(4, 5), a(12, 7)], &[(12, 1, "3")]);
    check("edge", &three, &[a(2, 5), a(3, 6), a(12, 7)], &[]);
    let again = [a(1, 5), a(2, 6), a(3, 7), a(4, 8), a(13, 8), a(13, 9), a(14, 7)];
    check("again", &three, &again, &[(3, 1, "3"), (14, 1, "3")]);
    let pairs = three.replace("dst_port", "[dst_port, bytes_out]");
    check("pairs", &pairs, &[a(1, 5), a(2, 6), a(3, 6), a(4, 7)], &[(4, 1, "3")]);
    let one = three.replace("gte: 3", "eq: 2");
    let passed = [a(1, 5), a(2, 6), a(3, 7), a(12, 8)];
    check("eq by expiry", &one, &passed, &[(2, 1, "2"), (12, 1, "2")]);
}

#[test]
fn sum_average_and_percentile_timelines() {
    let a = |second, value| (second, "a", 1, value);
    let sum = COUNT.replace("event_count", "value_sum") + "condition: {field: bytes_out, gt: 100}";
    check("sum", &sum, &[a(1, 50), a(2, 50), a(3, 1)], &[(3, 1, "101 in 3 values")]);
    check("sum, edge", &sum, &[a(1, 50), a(2, 50), a(11, 50)], &[]);
    let again = [a(1, 101), a(2, 101), a(12, 101)];
    check("sum, again", &sum, &again, &[(1, 1, "101 in 1 values"), (12, 1, "101 in 1 values")]);
    let low = sum.replace("gt: 100", "lte: 100");
    check("sum, upper bound", &low, &[a(1, 101), a(2, 5), a(11, 9)], &[(11, 1, "14 in 2 values")]);
    let average = COUNT.replace("event_count", "value_avg")
        + "condition: {field: bytes_out, gt: 100, lt: 102}";
    // 100.5 lies between; no rounding takes it to either side.
    let want = "100 (rounded down), 201 in 2 values";
    check("average", &average, &[a(1, 100), a(2, 101)], &[(2, 1, want)]);
    let half = COUNT.replace("event_count", "value_avg") + "condition: {field: duration, gte: 0.5}";
    check("average of nothing", &half, &[a(1, 0)], &[]);
    let between =
        COUNT.replace("event_count", "value_avg") + "condition: {field: bytes_out, eq: 100.5}";
    check("average, a fraction", &between, &[a(1, 100), a(2, 101)], &[(2, 1, want)]);
    let median = COUNT.replace("event_count", "value_percentile");
    let over = median.clone() + "condition: {field: bytes_out, percentile: 90, gt: 49.5}";
    check("percentile, a fraction", &over, &[a(1, 49), a(12, 50)], &[(12, 1, "50, of 1 values")]);
    let ninety = median.clone() + "condition: {field: bytes_out, percentile: 90, gte: 50}";
    // Nearest rank: of eight values the eighth, of nine the ninth.
    let hits: Vec<_> = (1..=10).map(|n| a(1, if n <= 8 { 1 } else { 50 })).collect();
    check("percentile", &ninety, &hits[..9], &[(1, 1, "50, of 9 values")]);
    check("percentile, not yet", &ninety, &[&hits[..8], &hits[..4]].concat(), &[]);
    let median = median + "condition: {field: bytes_out, eq: 7}";
    check("median", &median, &[a(1, 7), a(2, 8), a(3, 6)], &[(1, 1, "7, of 1 values")]);
    check("median, back", &median, &[a(1, 9), a(2, 9), a(3, 7), a(11, 9)], &[]);
    check(
        "median, by expiry",
        &median,
        &[a(1, 9), a(2, 9), a(3, 7), a(12, 7)],
        &[(12, 1, "7, of 2 values")],
    );
}

#[test]
fn temporal_timelines() {
    let all = "type: temporal\nrules: [a, b, c]\ngroup-by: [src_ip]\ntimespan: 10s\n";
    let hit = |second, rule| (second, rule, 1, 0);
    check("all", all, &[hit(1, "c"), hit(2, "a"), hit(3, "b")], &[(3, 1, "3 rules")]);
    check("two of three", all, &[hit(1, "a"), hit(2, "a"), hit(3, "b")], &[]);
    check("edge", all, &[hit(1, "a"), hit(2, "b"), hit(11, "c")], &[]);
    let again = [hit(1, "a"), hit(2, "b"), hit(3, "c"), hit(11, "c"), hit(11, "a")];
    check("again", all, &again, &[(3, 1, "3 rules"), (11, 1, "3 rules")]);
    let two = all.to_owned() + "condition: {gte: 2}";
    check("at least two", &two, &[hit(1, "a"), hit(2, "a"), hit(3, "b")], &[(3, 1, "2 rules")]);
    let logic = all.to_owned() + "condition: a and not (b or c)";
    check("expression", &logic, &[hit(1, "b"), hit(2, "a"), hit(11, "c"), hit(12, "a")], &[]);
    // At 11 `b` is out and `a` is left, which is true, but no match comes; at 11.. `a` does.
    check(
        "expression, by expiry",
        &logic,
        &[hit(1, "b"), hit(2, "a"), hit(11, "a")],
        &[(11, 1, "1 rules")],
    );
    let ordered = all.replace("temporal", "temporal_ordered");
    let inner = [hit(1, "b"), hit(2, "a"), hit(3, "c"), hit(4, "b"), hit(5, "c")];
    check("ordered", &ordered, &inner, &[(5, 1, "3 rules")]);
    check("wrong order", &ordered, &[hit(1, "c"), hit(2, "b"), hit(3, "a")], &[]);
    check("one instant", &ordered, &[hit(1, "c"), hit(1, "b"), hit(1, "a")], &[(1, 1, "3 rules")]);
    // The chain that began at 1 is out, the one that began at 3 is not.
    let late = [hit(1, "a"), hit(3, "a"), hit(4, "b"), hit(12, "c")];
    check("ordered, latest start", &ordered, &late, &[(12, 1, "3 rules")]);
    let edge = [hit(2, "a"), hit(4, "b"), hit(12, "c")];
    check("ordered, edge", &ordered, &edge, &[]);
}

#[test]
fn windows_that_do_not_slide() {
    let a = |second| (second, "a", 1, 0);
    let tumbling = COUNT.to_owned() + "window: tumbling\ncondition: {gte: 3}";
    check("one bucket", &tumbling, &[a(10), a(15), a(19)], &[(19, 1, "3")]);
    check("two buckets", &tumbling, &[a(8), a(9), a(10), a(19)], &[]);
    check(
        "each bucket",
        &tumbling,
        &[a(1), a(2), a(3), a(10), a(11), a(12)],
        &[(3, 1, "3"), (12, 1, "3")],
    );
    let session = COUNT.to_owned() + "window: session\ngap: 4s\ncondition: {gte: 3}";
    check("session", &session, &[a(1), a(5), a(9)], &[(9, 1, "3")]);
    check("gap", &session, &[a(1), a(2), a(7)], &[]);
    // Ten seconds at most: the match at 12 begins another session.
    check("span", &session, &[a(1), a(5), a(9), a(12), a(13), a(14)], &[(9, 1, "3"), (14, 1, "3")]);
}

#[test]
fn correlations_build_on_correlations() {
    let inner = correlation("in", &(COUNT.to_owned() + "condition: {gte: 2}"));
    let outer = correlation(
        "out",
        "type: value_count\nrules: [name-in]\ntimespan: 1m\ncondition: {field: src_ip, gte: 2}",
    );
    // The order of the documents does not matter.
    for text in [inner.clone() + &outer, outer.clone() + &inner] {
        let mut timeline = Timeline::new(&text, Limits::default());
        let hits = [(1, 1), (2, 1), (3, 1), (20, 1), (21, 1), (30, 2), (31, 2)];
        for (second, group) in hits {
            timeline.feed(Hit { time: second * SECOND, rule: "a", group, value: 0 });
        }
        let found: Vec<(&str, i64)> =
            timeline.alerts.iter().map(|a| (&*a.rule.id, a.time.0 / SECOND)).collect();
        assert_eq!(found, [("out", 31)], "the inner one is silent");
        assert_eq!(timeline.stats("in").counts.alerts, 3);
    }
    let loud = outer.replace("level:", "generate: true\nlevel:");
    let mut timeline = Timeline::new(&(inner + &loud), Limits::default());
    for second in [1, 2] {
        timeline.feed(Hit { time: second * SECOND, rule: "a", group: 1, value: 0 });
    }
    assert_eq!(timeline.alerts.len(), 1, "the inner one speaks for itself");
    assert!(timeline.set.rules().iter().find(|r| r.meta.id == "id-a").expect("a").silent);
}

#[test]
fn aliases_join_different_fields() {
    let body = "type: temporal\nrules: [a, id-b]\ngroup-by: [host]\ntimespan: 10s\n\
                aliases:\n    host:\n        a: src_ip\n        b: dst_ip";
    let mut timeline = Timeline::new(&correlation("x", body), Limits::default());
    // 192.0.2.1 is the responder of every hit.
    timeline.feed(Hit { time: 1, rule: "b", group: 7, value: 0 });
    timeline.feed(Hit { time: 2, rule: "a", group: 7, value: 0 });
    assert!(timeline.alerts.is_empty(), "10.0.0.7 is not 192.0.2.1");
    let set = &timeline.set;
    let uid = |id: &str| set.rules().iter().find(|r| r.meta.id == id).expect("a rule").meta.uid;
    let flow = Biflow { src: Addr::v4(0xc000_0201), ..Biflow::default() };
    let found = Match {
        time: Micros(3),
        rule: uid("id-a"),
        at_end: false,
        flow_id: FlowId(9),
        flow: Arc::new(flow),
        arrived: None,
    };
    timeline.correlator.on_match(&found, &mut timeline.alerts);
    assert_eq!(timeline.alerts.len(), 1);
    assert_eq!(said(&timeline.alerts[0], "host"), "192.0.2.1");
}

#[test]
fn rules_fall_silent_and_are_tapped_as_their_correlations_want() {
    let first = correlation("x", &(COUNT.to_owned() + "condition: {gte: 2}"));
    let sum = "type: value_sum\nrules: [a, b]\ngroup-by: [src_ip]\ntimespan: 1h\n\
               condition: {field: bytes_out, gt: 5}";
    let second = correlation("y", sum).replace("level:", "generate: true\nlevel:");
    let set = load(&(bases() + &first + &second));
    let rule = |id: &str| {
        let rule = set.rules().iter().find(|rule| rule.meta.id == id).expect("a rule");
        (rule.silent, rule.taps.on_fire, rule.taps.at_end)
    };
    assert_eq!(rule("id-a"), (false, true, true), "y generates");
    assert_eq!(rule("id-b"), (false, false, true));
    assert_eq!(rule("id-c"), (false, false, false));
    let set = load(&(bases() + &first));
    assert!(set.rules()[0].silent && !set.rules()[1].silent);
    assert_eq!(set.report().correlations, 1);
}

#[test]
fn the_examples_of_the_specification_load() {
    let Some(folder) = vectors("sigma") else { return };
    let folder = folder.join("sigma-specification/schema/correlation");
    // Fields of other domains, and those that stand in for them.
    let stand_ins = [
        ("ComputerName", "src_ip"),
        ("WorkstationName", "vlan"),
        ("SourceIP", "src_ip"),
        ("User", "dst_ip"),
        ("dns.question.name", "application"),
        ("BytesOut", "bytes_out"),
        ("bytes_sent", "bytes_out"),
        ("Image", "packets_out"),
    ];
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut text = std::fs::read_to_string(&path).expect("a file");
        for (theirs, ours) in stand_ins {
            text = text.replace(theirs, ours);
        }
        let named = text.split_once("rules:").expect("rules").1;
        let named = named.lines().skip(1).map_while(|line| line.trim().strip_prefix("- "));
        let mut all = text.clone() + "\n";
        for name in named {
            all += &bases()
                .replace("id-a", name)
                .split_once("---")
                .expect("a rule")
                .0
                .replace("title: Rule a", "---\ntitle: Rule a")
                .replace("name: a", &format!("name: of-{name}"));
        }
        let set = load(&all);
        assert_eq!(set.correlations().len(), 1, "{}: {}", path.display(), set.report());
        loaded += 1;
    }
    eprintln!("{loaded} correlations");
    assert!(loaded >= 8, "{loaded} examples");
}

#[test]
fn rule_test_events_run_through_correlations() {
    let body = COUNT.to_owned() + "condition: {gte: 2}";
    let set = load(&(bases() + &correlation("x", &body)));
    let mut rehearsal = Rehearsal::new(&set);
    let mut check = |event: &str, want: &[&str]| {
        let event = Event::parse(event, &home()).expect(event);
        let (hits, alerts) = rehearsal.event(&event);
        let hits = hits.iter().map(|&hit| &*set.rule(hit).meta.id);
        let found: Vec<&str> = hits.chain(alerts.iter().map(|a| &*a.rule.id)).collect();
        assert_eq!(found, want, "{event:?}");
    };
    check(r#"{"src_ip": "10.0.0.1", "dst_port": 1, "ts": 10}"#, &["id-a"]);
    check(r#"{"src_ip": "10.0.0.1", "dst_port": 2, "ts": 11}"#, &["id-b"]);
    // It starts at 5, and comes when it ends, at 20: the first is ten seconds old and out.
    check(r#"{"src_ip": "10.0.0.1", "dst_port": 1, "ts": 5, "duration": 15}"#, &["id-a"]);
    // Without a time: at 20.
    check(r#"{"src_ip": "10.0.0.1", "dst_port": 1}"#, &["id-a", "x"]);
    // Null is a group of its own; a flow without an address is not 0.0.0.0.
    check(r#"{"dst_port": 1}"#, &["id-a"]);
    check(r#"{"dst_port": 1}"#, &["id-a", "x"]);
}
