//! What a sink is told, and when.

use super::super::record::{ACK, SYN};
use super::super::{Memory, Wake};
use super::*;

const S: i64 = SECOND;

/// Sets `wake` when a flow opens, and doubles what woke it.
struct Sleeper {
    wake: Wake,
    woke: Vec<(i64, u64)>,
    memories: Vec<Memory>,
}

impl FlowSink for Sleeper {
    fn opened(&mut self, flow: &mut LiveFlow<'_>) {
        assert_eq!(*flow.memory, Memory::default());
        flow.memory.wake = self.wake;
        assert!(flow.memory.fired.push(7));
    }

    fn woke(&mut self, flow: &mut LiveFlow<'_>) {
        self.woke.push((flow.now.0, flow.view().fwd.octets + flow.view().bwd.octets));
        let wake = &mut flow.memory.wake;
        wake.octets = wake.octets.saturating_mul(2);
        wake.packets = u64::MAX;
        wake.other_octets = u64::MAX;
        wake.duration_us = i64::MAX;
    }

    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        assert_eq!(*flow.slice(cut).fired, *flow.memory.fired);
        self.memories.push(flow.memory.clone());
    }
}

#[track_caller]
fn check(name: &str, wake: Wake, inputs: Vec<PacketRecord>, want: &[(i64, u64)]) {
    let mut sink = Sleeper { wake, woke: Vec::new(), memories: Vec::new() };
    let mut ledgers = Ledgers::default();
    let mut table = FlowTable::new(Arc::new(params()));
    inputs.iter().for_each(|packet| table.packet(packet, &mut ledgers, &mut sink));
    table.flush(&mut ledgers, &mut sink);
    assert_eq!(sink.woke, want, "case: {name}");
    assert!(sink.memories.iter().all(|memory| *memory.fired == [7]), "case: {name}");
}

#[test]
fn a_flow_wakes_at_its_thresholds() {
    let stream = || (0..6).map(|n| udp(n * S)).collect::<Vec<_>>();
    let none = Wake::default();
    check("nothing is waited for", none, stream(), &[]);
    let wake = Wake { octets: 200, ..none };
    check("octets, set higher each time", wake, stream(), &[(S, 200), (3 * S, 400)]);
    let wake = Wake { octets: 100, ..none };
    let thrice = [(0, 100), (S, 200), (3 * S, 400)];
    check("reached by the first record", wake, stream(), &thrice);
    let both = vec![udp(0), back(udp(1)), udp(2)];
    check("the sum of both directions", Wake { octets: 250, ..none }, both, &[(2, 300)]);
    check("packets", Wake { packets: 5, ..none }, stream(), &[(4 * S, 500)]);
    check("payload", Wake { other_octets: 144, ..none }, stream(), &[(S, 200)]);
    check("duration", Wake { duration_us: 3 * S, ..none }, stream(), &[(3 * S, 400)]);
    let flags = vec![tcp(0, SYN), tcp(1, SYN), back(tcp(2, SYN | ACK)), tcp(3, ACK), tcp(4, ACK)];
    let wake = Wake { on_new_flags: true, ..none };
    check("flags new to their side", wake, flags, &[(0, 40), (2, 120), (3, 160)]);
}

#[test]
fn counters_are_cumulated_over_slices() {
    // 200 octets lie in the first slice; the threshold is crossed in the second.
    let inputs = vec![udp(0), udp(9 * S), udp(18 * S), udp(26 * S)];
    check("over a cut", Wake { octets: 400, ..Wake::default() }, inputs, &[(26 * S, 400)]);
}

#[test]
fn another_sampling_interval_wakes_a_flow() {
    // What the sink wants to see was divided by the interval that it knew.
    let told = |at, sampling_interval| FlowRecord { sampling_interval, ..flow(at) };
    let again = [told(0, 0), told(1, 1), told(2, 100), told(3, 100), told(4, 50), told(5, 50)];
    // The first of the other side has an interval, too.
    let answer = [told(0, 0), reply(told(1, 100)), told(2, 1), reply(told(3, 100))];
    let wake = Wake { octets: 1 << 40, ..Wake::default() };
    let cases: [(&[FlowRecord], Wake, &[i64]); 3] =
        [(&again, wake, &[2, 4]), (&again, Wake::default(), &[]), (&answer, wake, &[1])];
    for (inputs, wake, want) in cases {
        let mut sink = Sleeper { wake, woke: Vec::new(), memories: Vec::new() };
        let mut ledgers = Ledgers::default();
        let mut table = FlowTable::new(Arc::new(params()));
        inputs.iter().for_each(|record| table.record(record, &mut ledgers, &mut sink));
        let woke: Vec<i64> = sink.woke.iter().map(|(at, _)| *at).collect();
        assert_eq!(woke, want);
    }
}

#[test]
fn entries_are_used_again_without_memory_of_the_past() {
    let inputs = (0..20).map(|n| udp(n * 11 * S)).collect();
    // `Sleeper` asserts that each flow opens with an empty memory.
    check("one after the other", Wake::default(), inputs, &[]);
}

#[test]
fn slices_hold_differences() {
    let mut inputs = vec![tcp(0, SYN), tcp(9 * S, ACK), tcp(18 * S, ACK), tcp(26 * S, ACK)];
    inputs[3].octets = 1;
    let bench = Bench::run(&params(), &packets(inputs));
    let slices: Vec<_> = bench
        .sink
        .slices
        .iter()
        .map(|s| (s.number, s.flow.fwd.octets, s.flow.fwd.tcp_flags, s.flow.first.0))
        .collect();
    assert_eq!(slices, [(0, 120, Some(SYN | ACK), 0), (1, 1, Some(ACK), 26 * S)]);
    assert_eq!(bench.sink.slices[0].flow_id, bench.sink.slices[1].flow_id);
}

/// Has no use for an empty last slice unless a tag came with the end.
#[derive(Default)]
struct Sparing {
    tags_at_end: bool,
    slices: Vec<(u64, bool)>,
    ended: u32,
}

impl FlowSink for Sparing {
    fn opened(&mut self, _: &mut LiveFlow<'_>) {}

    fn woke(&mut self, _: &mut LiveFlow<'_>) {}

    fn ended(&mut self, _: &mut LiveFlow<'_>) -> bool {
        self.ended += 1;
        self.tags_at_end
    }

    fn cut(&mut self, _: &mut LiveFlow<'_>, cut: Cut) {
        self.slices.push((cut.records, cut.last));
    }
}

#[test]
fn an_empty_last_slice_is_cut_only_for_a_sink_that_wants_it() {
    // The last packet comes before the active timeout, the idle timeout after it.
    let inputs: Vec<PacketRecord> = [0, 9, 18, 24].into_iter().map(|n| udp(n * S)).collect();
    for (tags_at_end, want) in [(false, vec![(4, false)]), (true, vec![(4, false), (0, true)])] {
        let mut sink = Sparing { tags_at_end, ..Sparing::default() };
        let mut ledgers = Ledgers::default();
        let mut table = FlowTable::new(Arc::new(params()));
        inputs.iter().for_each(|packet| table.packet(packet, &mut ledgers, &mut sink));
        table.advance(Micros(100 * S), &mut ledgers, &mut sink);
        assert_eq!((sink.slices, sink.ended), (want, 1), "tags at the end: {tags_at_end}");
        assert!(table.is_empty());
        assert_eq!(ledgers.imbalances(), Vec::<String>::new());
    }
}
