//! DESIGN 3.7: over a flow's life exactly those rules fire that its final record satisfies, and
//! each as early as its class promises.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use weir::detect::sigma::{Class, Phase, Record, RuleIndex, RuleSet};
use weir::flow::{Biflow, Wake};
use weir::net::Addr;
use weir::time::Micros;

use crate::sigma::{load, rule};

/// Items of all classes on one small flow.
const ITEMS: &[&str] = &[
    "dst_port: 443",
    "dst_port|neq: 443",
    "src_ip|cidr: 10.0.0.0/8",
    "direction: outbound",
    "bytes_out|gt: 1000",
    "bytes_out|gte: 5000",
    "bytes_out|lt: 3000",
    "bytes_in|gte: 2000",
    "bytes|gte: 6000",
    "bytes: 100",
    "packets_out|gt: 4",
    "packets|gte: 10",
    "packets_in|neq: 3",
    "duration|gte: 2",
    "duration_ms|lt: 1500",
    "tcp_flag: rst",
    "fwd_tcp_flag|all:\n        - syn\n        - fin",
    "tcp_flags: 2",
    "fwd_payload|gte: 500",
    "bwd_bytes_l2|gte: 700",
    "rtt_us: null",
    "retransmits|gte: 1",
];

fn rules() -> impl Strategy<Value = String> {
    let one = (
        select(ITEMS),
        select(ITEMS),
        select(ITEMS),
        select(vec![
            "a",
            "a and b",
            "a or b",
            "a and not b",
            "not a",
            "a and (b or c)",
            "a or (b and not c)",
            "not (a and b)",
        ]),
    );
    prop::collection::vec(one, 1..12).prop_map(|rules| {
        let text = rules.into_iter().enumerate().map(|(i, (a, b, c, condition))| {
            let detection = format!("a:\n    {a}\nb:\n    {b}\nc:\n    {c}");
            rule(&format!("r{i}"), &detection, condition)
        });
        text.collect::<Vec<_>>().join("---\n")
    })
}

/// What one record adds to a flow.
#[derive(Clone, Debug)]
struct Step {
    forward: bool,
    octets: u64,
    packets: u64,
    micros: i64,
    flags: u16,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (any::<bool>(), 0..3_000_u64, 0..4_u64, 0..900_000_i64, select(vec![0, 2, 16, 1, 4]));
    let step = step.prop_map(|(forward, octets, packets, micros, flags)| Step {
        forward,
        octets,
        packets,
        micros,
        flags,
    });
    prop::collection::vec(step, 1..14)
}

fn grow(flow: &mut Biflow, step: &Step) {
    let side = if step.forward { &mut flow.fwd } else { &mut flow.bwd };
    side.octets += step.octets;
    side.packets += step.packets;
    side.octets_l2 = Some(side.octets_l2.unwrap_or(0) + step.octets + 18);
    side.payload = Some(side.payload.unwrap_or(0) + step.octets / 2);
    side.tcp_flags = Some(side.tcp_flags.unwrap_or(0) | step.flags);
    flow.last = flow.last.plus(step.micros);
}

/// What the flow table does: compares the sums of both directions with the wake-up values.
fn is_due(wake: &Wake, flow: &Biflow, new_flags: bool) -> bool {
    let sum = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0) + b.unwrap_or(0);
    let others =
        sum(flow.fwd.payload, flow.bwd.payload).max(sum(flow.fwd.octets_l2, flow.bwd.octets_l2));
    flow.fwd.octets + flow.bwd.octets >= wake.octets
        || flow.fwd.packets + flow.bwd.packets >= wake.packets
        || others >= wake.other_octets
        || flow.duration_us() >= wake.duration_us
        || new_flags && wake.on_new_flags
}

struct Life<'a> {
    set: &'a RuleSet,
    fired: Vec<u32>,
    looks: usize,
}

impl Life<'_> {
    fn look(&mut self, phase: Phase, flow: &Biflow) -> Wake {
        let mut hits = Vec::new();
        self.set.scan(phase, flow, &self.fired, &mut hits);
        assert_eq!(hits, self.set.plain_scan(phase, flow, &self.fired), "scan = plain scan");
        self.fired.extend(hits.into_iter().map(|hit| self.set.rule(hit).meta.uid));
        self.looks += 1;
        let wake = self.set.wake(flow, &self.fired);
        assert_eq!(wake, self.set.plain_wake(flow, &self.fired), "wake = plain wake: {flow:?}");
        wake
    }

    fn fired(&self) -> BTreeSet<u32> {
        let once: BTreeSet<u32> = self.fired.iter().copied().collect();
        assert_eq!(once.len(), self.fired.len(), "a rule fired twice");
        once
    }
}

fn full(set: &RuleSet, flow: &Biflow, class: impl Fn(Class) -> bool) -> BTreeSet<u32> {
    let hits = set.full_scan(&Record::of(flow));
    let of_class = hits.into_iter().filter(|&hit| class(set.rule(hit).class));
    of_class.map(|hit: RuleIndex| set.rule(hit).meta.uid).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn a_life_fires_what_the_final_record_satisfies(
        text in rules(), steps in steps(), sampling in select(vec![None, Some(1), Some(7)]),
    ) {
        let set = load(&text);
        let mut flow = Biflow {
            src: Addr::v4(0x0a00_0001), dst: Addr::v4(0xc000_0201), dst_port: 443, protocol: 6,
            first: Micros(1_000), last: Micros(1_000), sampling_interval: sampling,
            ..Biflow::default()
        };
        let mut life = Life { set: &set, fired: Vec::new(), looks: 0 };
        grow(&mut flow, &steps[0]);
        let mut wake = life.look(Phase::Opened, &flow);
        for step in &steps[1..] {
            let before = (flow.fwd.tcp_flags, flow.bwd.tcp_flags);
            grow(&mut flow, step);
            if is_due(&wake, &flow, before != (flow.fwd.tcp_flags, flow.bwd.tcp_flags)) {
                wake = life.look(Phase::Woke, &flow);
            }
            // No rule of the early classes is ever late.
            let now = full(&set, &flow, |class| class != Class::Final);
            prop_assert_eq!(life.fired(), now, "{}\n{:?}", &text, &flow);
        }
        life.look(Phase::End, &flow);
        prop_assert_eq!(life.fired(), full(&set, &flow, |_| true), "{}\n{:?}", &text, &flow);
    }
}

#[test]
fn a_rule_without_thresholds_never_wakes_a_flow() {
    let set = load(&rule("r", "s:\n    dst_port: 443\n    bytes_out|lt: 5", "s"));
    assert_eq!(set.wake(&Biflow::default(), &[]), Wake::default());
}

#[test]
fn a_threshold_wakes_once_and_only_where_the_rest_can_hold() {
    let set = load(&rule("r", "s:\n    dst_port: 443\n    bytes_out|gt: 1000", "s"));
    let uid = set.rules()[0].meta.uid;
    let mut flow = Biflow { dst_port: 80, ..Biflow::default() };
    assert_eq!(set.wake(&flow, &[]).octets, u64::MAX, "another port");
    flow.dst_port = 443;
    flow.sampling_interval = Some(100);
    assert_eq!(set.wake(&flow, &[]).octets, 11, "1001 octets are 11 sampled ones");
    (flow.fwd.octets, flow.bwd.octets) = (4, 50);
    assert_eq!(set.wake(&flow, &[]).octets, 61, "the sum when 7 more are seen");
    assert_eq!(set.wake(&flow, &[uid]).octets, u64::MAX, "it fired");
}

#[test]
fn a_set_met_in_mid_life_still_fires_everything() {
    let text = [rule("a", "s:\n    dst_port: 443", "s"), rule("b", "s:\n    bytes|gt: 5", "s")];
    let set = load(&text.join("---\n"));
    let mut flow = Biflow { dst_port: 443, ..Biflow::default() };
    flow.fwd.octets = 10;
    let mut hits = Vec::new();
    set.scan(Phase::End, &flow, &[], &mut hits);
    assert_eq!(hits, [RuleIndex(0), RuleIndex(1)]);
}
