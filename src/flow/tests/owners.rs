//! One owner per direction.

use super::*;

const S: i64 = SECOND;

/// Octets of the forward direction, exporters and sampling interval in the end, and duplicates.
#[track_caller]
fn check(name: &str, inputs: Vec<FlowRecord>, want: (u64, &[u32], Option<u32>, u64)) {
    let bench = Bench::run(&params(), &records(inputs));
    let octets = bench.sink.slices.iter().map(|s| s.flow.fwd.octets).sum();
    let flow = &bench.sink.slices.last().expect("a slice").flow;
    let exporters: Vec<Addr> = want.1.iter().map(|&n| host(n)).collect();
    assert_eq!(flow.exporters, exporters, "case: {name}");
    let found = (octets, want.1, flow.sampling_interval, bench.ledgers.records.duplicate);
    assert_eq!(found, want, "case: {name}");
}

fn seen(at: i64, exporter: u32, sampling_interval: u32) -> FlowRecord {
    FlowRecord { point: point(exporter, 1), sampling_interval, ..flow(at) }
}

#[test]
fn one_point_owns_a_direction() {
    check("the first", vec![seen(0, 100, 0), seen(1, 101, 0)], (1_000, &[100, 101], None, 1));
    check("goes on", vec![seen(0, 100, 0), seen(1, 100, 0)], (2_000, &[100], None, 0));
    let mut egress = seen(1, 100, 0);
    egress.point.interface = 2;
    egress.point.direction = 1;
    let twice = vec![seen(0, 100, 0), egress];
    check("ingress and egress of one exporter", twice, (1_000, &[100], None, 1));

    let lower = vec![seen(0, 100, 100), seen(1, 101, 10), seen(2, 100, 100)];
    check("the lower interval takes over", lower, (2_000, &[100, 101], Some(10), 1));
    let same = vec![seen(0, 100, 10), seen(1, 101, 10)];
    check("an equal one does not", same, (1_000, &[100, 101], Some(10), 1));
    let unknown = vec![seen(0, 100, 10), seen(1, 101, 0)];
    check("nor an unknown one", unknown, (1_000, &[100, 101], Some(10), 1));
    let known = vec![seen(0, 100, 0), seen(1, 101, 1)];
    check("nor a known one from an unknown", known, (1_000, &[100, 101], None, 1));
    let learnt = vec![seen(0, 100, 0), seen(1, 100, 10), seen(2, 101, 100)];
    check("the owner's interval may be learnt", learnt, (2_000, &[100, 101], Some(10), 1));
    let many: Vec<FlowRecord> = (0..12).map(|n| seen(0, 100 + n, 0)).collect();
    let eight = [100, 101, 102, 103, 104, 105, 106, 107];
    check("the set of exporters is bounded", many, (1_000, &eight, None, 11));
}

#[test]
fn a_silent_owner_is_replaced() {
    // The reverse direction keeps the flow alive.
    let alive = |at| reply(flow(at));
    let edge = vec![seen(0, 100, 0), alive(10 * S), seen(20 * S, 101, 0)];
    check("silent for the idle timeout", edge, (1_000, &[100, 101], None, 1));
    let after = vec![
        seen(0, 100, 0),
        alive(10 * S),
        seen(20 * S + 1, 101, 0),
        seen(21 * S, 100, 0),
        seen(22 * S, 101, 0),
    ];
    check("silent for longer", after, (3_000, &[100, 101], None, 1));
}

#[test]
fn duplicates_keep_no_flow_alive() {
    let inputs = vec![seen(0, 100, 0), seen(15 * S, 101, 0), seen(20 * S, 101, 0)];
    let bench = Bench::run(&params(), &records(inputs));
    let points: Vec<_> = bench.sink.slices.iter().map(|s| (s.flow.point, s.records)).collect();
    assert_eq!(points, [(point(100, 1), 1), (point(101, 1), 1)]);
}

#[test]
fn directions_have_owners_of_their_own() {
    let there = seen(0, 100, 0);
    let back = reply(seen(1, 101, 0));
    let both = FlowRecord { bwd: Some(there.fwd), ..seen(2, 100, 0) };
    let bench = Bench::run(&params(), &records([there, back, both]));
    let slice = &bench.sink.slices[0];
    // Of the biflow record the forward direction is the owner's, the reverse is not.
    assert_eq!((slice.flow.fwd.octets, slice.flow.bwd.octets, slice.records), (2_000, 1_000, 3));
    assert_eq!(bench.ledgers.records.duplicate, 0);
}

#[test]
fn without_deduplication_all_is_merged() {
    let mut params = params();
    params.dedup = Dedup::Off;
    let inputs = records([seen(0, 100, 100), seen(1, 101, 10), seen(2, 100, 100)]);
    let bench = Bench::run(&params, &inputs);
    let slice = &bench.sink.slices[0];
    assert_eq!((slice.flow.fwd.octets, slice.records), (3_000, 3));
    assert_eq!((slice.flow.sampling_interval, bench.ledgers.records.duplicate), (Some(100), 0));
}

#[test]
fn the_own_capture_is_an_observation_point_too() {
    let packet = |at| Input::Packet(tcp(at, 16));
    let record = |at, interval| Input::Record(Box::new(seen(at, 100, interval)));
    let bench = Bench::run(&params(), &[packet(0), record(1, 0), packet(2)]);
    assert_eq!((bench.ledgers.records.merged, bench.ledgers.records.duplicate), (2, 1));
    let bench = Bench::run(&params(), &[record(0, 100), packet(1), record(2, 100), packet(3)]);
    assert_eq!((bench.ledgers.records.merged, bench.ledgers.records.duplicate), (3, 1));
    let flow = &bench.sink.slices[0].flow;
    assert_eq!((flow.sampling_interval, flow.fwd.octets), (Some(1), 1_080));
}
