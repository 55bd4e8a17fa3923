//! Who the initiator is, and what says so.

use super::super::record::{ACK, FIN, PSH, SYN};
use super::super::view::{Direction, DirectionBy};
use super::*;

#[track_caller]
fn check(name: &str, inputs: &[Input], want: (u32, DirectionBy)) {
    let bench = Bench::run(&params(), inputs);
    assert_eq!(bench.sink.slices.len(), 1, "case: {name}");
    let flow = &bench.sink.slices[0].flow;
    assert_eq!((flow.src, flow.direction_by), (host(want.0), want.1), "case: {name}");
}

#[test]
fn of_packets() {
    use DirectionBy::{First, Syn};
    let sa = SYN | ACK;
    check("the first packet's sender", &packets([udp(0), back(udp(1))]), (1, First));
    check("its sender, server or not", &packets([back(udp(0)), udp(1)]), (2, First));
    check("the SYN's sender", &packets([tcp(0, SYN), back(tcp(1, sa))]), (1, Syn));
    check("a SYN/ACK turns", &packets([back(tcp(0, sa)), tcp(1, ACK)]), (1, Syn));
    check("a lone SYN/ACK turns", &packets([back(tcp(0, sa))]), (1, Syn));
    check("mid-stream", &packets([back(tcp(0, ACK)), tcp(1, ACK)]), (2, First));
    check("a later SYN", &packets([back(tcp(0, ACK)), tcp(1, SYN)]), (1, Syn));
    check("a second SYN", &packets([tcp(0, SYN), back(tcp(1, SYN))]), (1, Syn));
    let late = [tcp(0, ACK), tcp(9_000_000, ACK), tcp(18_000_000, ACK), back(tcp(26_000_000, SYN))];
    let bench = Bench::run(&params(), &packets(late));
    let sources: Vec<Addr> = bench.sink.slices.iter().map(|s| s.flow.src).collect();
    assert_eq!(sources, [host(1), host(1)], "after the first slice the label is fixed");
}

#[test]
fn of_records() {
    use DirectionBy::{Exporter, First, Port, Start, Syn};
    let ports = |src_port, dst_port| FlowRecord { src_port, dst_port, ..flow(0) };
    let one = |record: FlowRecord| records([record]);
    check("a service port", &one(flow(0)), (1, Port));
    check("a lone server half", &one(reply(flow(0))), (1, Port));
    check("a port of the table", &one(ports(3_389, 1_500)), (2, Port));
    check("two services: the lower", &one(ports(53, 80)), (2, Port));
    check("two ephemeral ones: the lower", &one(ports(40_000, 50_000)), (2, Port));
    check("equal ports", &one(ports(500, 500)), (1, First));
    check("no ports", &one(ports(0, 80)), (1, First));
    let other = FlowRecord { protocol: 47, ..ports(0, 0) };
    check("a protocol without ports", &one(other), (1, First));

    let started = |record: FlowRecord, first| FlowRecord { first: Micros(first), ..record };
    let halves = [started(flow(0), -5), started(reply(flow(1)), -9)];
    check("the earlier start", &records(halves.clone()), (2, Start));
    let [a, mut b] = halves.clone();
    b.point.exporter = host(101);
    check("not of two exporters", &records([a, b]), (1, Port));
    check("equal starts", &records([halves[0].clone(), started(reply(flow(1)), -5)]), (1, Port));
    let middle = halves.map(|half| with_flags(ACK | PSH, half));
    check("not in mid-stream", &records(middle.clone()), (1, Port));
    let whole = middle.map(|half| with_flags(SYN | ACK | FIN, half));
    check("but of whole connections", &records(whole), (2, Start));

    let syn = with_flags(SYN, reply(flow(0)));
    check("SYN and no ACK", &one(syn.clone()), (2, Syn));
    let answer = with_flags(SYN | ACK, flow(1));
    check("and the answer", &records([answer, syn.clone()]), (2, Syn));
    check(
        "SYN both ways says nothing",
        &records([syn.clone(), with_flags(SYN, flow(1))]),
        (2, Syn),
    );
    let both = FlowRecord { bwd: Some(syn.fwd), ..with_flags(SYN, flow(0)) };
    check("nor in one record", &one(both), (1, Port));

    let told = |value, record| FlowRecord { biflow_direction: Some(value), ..record };
    check("IE 239: initiator", &one(told(1, reply(flow(0)))), (2, Exporter));
    check("IE 239: reverse initiator", &one(told(2, flow(0))), (2, Exporter));
    check("IE 239: perimeter", &one(told(3, flow(0))), (1, Port));
    check("IE 239 beats flags", &records([syn, told(1, flow(1))]), (1, Exporter));
}

#[test]
fn a_turn_moves_labels_not_counters() {
    let mut inputs = packets([back(tcp(0, ACK)), tcp(1, SYN)]);
    if let Input::Packet(packet) = &mut inputs[0] {
        packet.octets = 999;
    }
    let bench = Bench::run(&params(), &inputs);
    assert_eq!(bench.sink.calls, ["opened 10.0.0.2", "turned 10.0.0.1"]);
    let flow = &bench.sink.slices[0].flow;
    assert_eq!((flow.fwd.octets, flow.bwd.octets), (40, 999));
    assert_eq!((flow.src_port, flow.dst_port), (40_000, 80));
}

#[test]
fn home_networks_give_the_direction() {
    #[track_caller]
    fn check(src: &str, dst: &str, want: Direction) {
        let (src, dst) = (src.parse().expect(src), dst.parse().expect(dst));
        let bench = Bench::run(&params(), &packets([PacketRecord { src, dst, ..udp(0) }]));
        assert_eq!(bench.sink.slices[0].flow.direction, want);
    }
    check("10.0.0.1", "192.0.2.1", Direction::Outbound);
    check("192.0.2.1", "10.0.0.1", Direction::Inbound);
    check("fd00::1", "fc00::1", Direction::Internal);
    check("192.0.2.1", "2001:db8::1", Direction::External);
}
