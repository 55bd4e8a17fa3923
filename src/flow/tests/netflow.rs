//! Export records: timeouts, ends, biflow records, what is known of them.

use super::super::record::{ACK, FIN, RST, SYN};
use super::*;

const S: i64 = SECOND;
const FULL: TcpFlags = SYN | ACK | FIN;

#[track_caller]
fn check(name: &str, inputs: Vec<FlowRecord>, want: &[Short]) {
    let mut bench = Bench::new(&params());
    records(inputs).iter().for_each(|input| bench.put(input));
    bench.advance(Micros(1_000 * S));
    assert_eq!(short(&bench), want, "case: {name}");
}

#[test]
fn timeouts_run_from_the_arrival() {
    use EndReason::{Active, Idle};
    let old = FlowRecord { first: Micros(-900 * S), last: Micros(-800 * S), ..flow(0) };
    check("flow times expire nothing", vec![old], &[(0, 1, Idle, true, 20 * S)]);
    let patient = FlowRecord { idle_timeout_us: 70 * S, ..flow(0) };
    let slices = [
        (0, 1, Active, false, 45 * S),
        (1, 1, Active, false, 105 * S),
        (2, 0, Idle, true, 130 * S),
    ];
    check("an exporter with a longer active timeout", vec![patient, flow(60 * S)], &slices);
    let hasty = FlowRecord { idle_timeout_us: 5 * S, ..flow(0) };
    check("the table's own is the least", vec![hasty], &[(0, 1, Idle, true, 20 * S)]);
    let never = FlowRecord { idle_timeout_us: i64::MAX, ..flow(0) };
    let mut bench = Bench::new(&params());
    records([never]).iter().for_each(|input| bench.put(input));
    bench.advance(Micros(86_400 * S));
    assert!(bench.table.is_empty(), "a day at most");
}

#[test]
fn a_flow_ends_when_both_directions_reported_it() {
    use EndReason::{EndOfFlow, Idle};
    let fin = |at| with_flags(FULL, flow(at));
    let both = vec![fin(0), reply(fin(S))];
    check("FIN both ways", both.clone(), &[(0, 2, EndOfFlow, true, 3 * S)]);
    check("FIN one way", vec![fin(0)], &[(0, 1, Idle, true, 20 * S)]);
    let reset = vec![fin(0), reply(with_flags(SYN | RST, flow(S)))];
    check("FIN and RST", reset, &[(0, 2, EndOfFlow, true, 3 * S)]);
    let told = |at| FlowRecord { end_reason: Some(3), ..flow(at) };
    check("IE 136", vec![told(0), reply(told(S))], &[(0, 2, EndOfFlow, true, 3 * S)]);
    let idle = |at| FlowRecord { end_reason: Some(1), ..flow(at) };
    check("other reasons do not", vec![idle(0), reply(idle(S))], &[(0, 2, Idle, true, 21 * S)]);
    let biflow = FlowRecord { bwd: Some(fin(0).fwd), ..fin(0) };
    check("a biflow record", vec![biflow], &[(0, 1, EndOfFlow, true, 2 * S)]);
    let empty = FlowRecord { bwd: Some(Counters::default()), ..told(0) };
    check("an empty direction reports nothing", vec![empty], &[(0, 1, Idle, true, 20 * S)]);
    let mut other = fin(2 * S);
    other.point = point(101, 1);
    let late = [both.clone(), vec![other]].concat();
    check("another exporter's copy opens no ghost", late, &[(0, 2, EndOfFlow, true, 3 * S)]);

    let again = FlowRecord { first: Micros(S + 1), ..fin(2 * S) };
    let reuse = [both.clone(), vec![again.clone()]].concat();
    let two = [(0, 2, EndOfFlow, true, 2 * S), (0, 1, Idle, true, 22 * S)];
    check("the next connection of the same ports", reuse, &two);
    let rest = FlowRecord { first: Micros(S), ..again };
    check("more of the same one", [both, vec![rest]].concat(), &[(0, 3, EndOfFlow, true, 3 * S)]);
}

#[test]
fn a_biflow_record_counts_both_ways() {
    let bwd = Counters { octets: 7, packets: 3, tcp_flags: Some(SYN | ACK), ..Counters::default() };
    let record = FlowRecord { bwd: Some(bwd), ..with_flags(SYN | ACK | FIN, flow(0)) };
    let bench = Bench::run(&params(), &records([record.clone(), reply(record)]));
    let flow = &bench.sink.slices[0].flow;
    // The second record comes from another interface: a second observation of both directions.
    assert_eq!((flow.fwd.octets, flow.fwd.packets, flow.bwd.octets), (1_000, 10, 7));
    assert_eq!((flow.fwd.tcp_flags, flow.bwd.tcp_flags), (Some(FULL), Some(SYN | ACK)));
    assert_eq!(bench.ledgers.records.duplicate, 1);
}

#[test]
fn what_is_not_told_is_not_known() {
    let bench = Bench::run(&params(), &records([flow(0)]));
    let flow = &bench.sink.slices[0].flow;
    let side = flow.fwd;
    assert_eq!((side.octets_l2, side.payload, side.tcp_flags), (None, None, None));
    assert_eq!((side.first_flags, side.retransmits, side.ttl), (None, None, None));
    assert_eq!((flow.tcp_state, flow.rtt_us, flow.sampling_interval), (None, None, None));
    assert_eq!((flow.in_if, flow.out_if), (Some(1), Some(2)));
    assert_eq!(flow.exporters, [host(100)]);
}

#[test]
fn names_and_numbers_follow_the_orientation() {
    let told = |record: FlowRecord| FlowRecord {
        src_asn: Some(64_500),
        dst_asn: Some(64_501),
        in_if_name: Some("in".into()),
        out_if_name: Some("out".into()),
        vrf_name: Some("red".into()),
        application: Some("http".into()),
        vlan: Some(9),
        tos: Some(4),
        ..record
    };
    // The server's half alone: shown from the client, interfaces the other way round.
    let bench = Bench::run(&params(), &records([told(reply(flow(0)))]));
    let view = &bench.sink.slices[0].flow;
    assert_eq!((view.src, view.src_port, view.dst_port), (host(1), 40_000, 80));
    assert_eq!((view.fwd.octets, view.bwd.octets), (0, 1_000));
    assert_eq!((view.src_asn, view.dst_asn), (Some(64_501), Some(64_500)));
    assert_eq!((view.in_if, view.out_if), (Some(1), Some(2)));
    assert_eq!(view.in_if_name.as_deref(), Some("out"));
    assert_eq!((view.vlan, view.tos), (Some(9), Some(4)));
    assert_eq!(
        (view.vrf_name.as_deref(), view.application.as_deref()),
        (Some("red"), Some("http"))
    );
    // Both halves: the forward owner's.
    let bench = Bench::run(&params(), &records([told(reply(flow(0))), flow(0)]));
    let view = &bench.sink.slices[0].flow;
    assert_eq!((view.in_if, view.out_if, view.in_if_name.as_deref()), (Some(1), Some(2), None));
    assert_eq!(view.point, point(100, 1));
}

#[test]
fn icmp_records_show_type_and_code() {
    let echo = |record: FlowRecord, kind: u16| FlowRecord {
        protocol: 1,
        src_port: 0,
        dst_port: kind << 8 | 1,
        ..record
    };
    let inputs = records([echo(flow(0), 8), echo(reply(flow(1)), 0)]);
    let bench = Bench::run(&params(), &inputs);
    assert_eq!(bench.sink.slices.len(), 1);
    let view = &bench.sink.slices[0].flow;
    assert_eq!((view.src, view.src_port, view.dst_port), (host(1), 8, 1));
    assert_eq!((view.fwd.octets, view.bwd.octets), (1_000, 1_000));
}

#[test]
fn vrfs_never_meet() {
    let other = FlowRecord { vrf: 1, ..flow(0) };
    assert_eq!(Bench::run(&params(), &records([flow(0), other])).sink.slices.len(), 2);
}

#[test]
fn absurd_counters_do_not_overflow() {
    let counters = Counters { octets: u64::MAX, packets: u64::MAX, ..Counters::default() };
    let absurd = |at| FlowRecord { fwd: counters, bwd: Some(counters), ..flow(at) };
    let bench = Bench::run(&params(), &records([absurd(0), absurd(1)]));
    assert_eq!(bench.sink.slices[0].flow.fwd.octets, u64::MAX);
}
