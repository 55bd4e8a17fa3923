//! Packets: timeouts, ends, port reuse, capacity, attributes.

use super::super::record::{ACK, FIN, Fragment, PSH, RST, SYN, Tunnel, TunnelKind};
use super::super::view::TcpState;
use super::*;

const S: i64 = SECOND;
const SA: TcpFlags = SYN | ACK;
const FA: TcpFlags = FIN | ACK;

/// Feeds `inputs`, lets the clock run to 1,000 s, and compares the slices in short.
#[track_caller]
fn check(name: &str, inputs: Vec<PacketRecord>, want: &[Short]) {
    let mut bench = Bench::new(&params());
    packets(inputs).iter().for_each(|input| bench.put(input));
    bench.advance(Micros(1_000 * S));
    assert_eq!(short(&bench), want, "case: {name}");
    assert!(bench.table.is_empty(), "case: {name}");
}

#[test]
fn timeouts_hold_to_the_microsecond() {
    use EndReason::{Active, Idle};
    check("silence ends a flow", vec![udp(0)], &[(0, 1, Idle, true, 10 * S)]);
    let inputs = vec![udp(0), udp(10 * S - 1)];
    check("just before the idle timeout", inputs, &[(0, 2, Idle, true, 20 * S - 1)]);
    let two = [(0, 1, Idle, true, 10 * S), (0, 1, Idle, true, 20 * S)];
    check("at the idle timeout", vec![udp(0), udp(10 * S)], &two);
    let two = [(0, 1, Idle, true, 10 * S), (0, 1, Idle, true, 20 * S + 1)];
    check("just after the idle timeout", vec![udp(0), udp(10 * S + 1)], &two);

    let steady = |last: i64| vec![udp(0), udp(8 * S), udp(16 * S), udp(24 * S), udp(last)];
    let slices = [(0, 5, Active, false, 25 * S), (1, 0, Idle, true, 35 * S - 1)];
    check("just before the active timeout", steady(25 * S - 1), &slices);
    let slices = [(0, 4, Active, false, 25 * S), (1, 1, Idle, true, 35 * S)];
    check("at the active timeout: checked before the update", steady(25 * S), &slices);
    let slices = [(0, 4, Active, false, 25 * S), (1, 1, Idle, true, 40 * S)];
    check("a slice opens with its first record", steady(30 * S), &slices);
    let long: Vec<PacketRecord> = (0..12).map(|n| udp(n * 9 * S)).collect();
    let slices = [
        (0, 3, Active, false, 25 * S),
        (1, 3, Active, false, 52 * S),
        (2, 3, Active, false, 79 * S),
        (3, 3, Active, false, 106 * S),
        (4, 0, Idle, true, 109 * S),
    ];
    check("a long flow; its end is told even if no slice is open", long, &slices);
}

#[test]
fn connections_end_after_the_linger() {
    use EndReason::{EndOfFlow, Idle};
    let open = || vec![tcp(0, SYN), back(tcp(1, SA)), tcp(2, ACK)];
    let with = |more: Vec<PacketRecord>| [open(), more].concat();

    let fins = vec![tcp(S, FA), back(tcp(2 * S, FA)), tcp(2 * S + 1, ACK)];
    check("both FIN, then the late ACK", with(fins), &[(0, 6, EndOfFlow, true, 4 * S)]);
    let late = vec![tcp(S, FA), back(tcp(2 * S, FA)), tcp(4 * S - 1, ACK)];
    check("a late ACK does not extend", with(late), &[(0, 6, EndOfFlow, true, 4 * S)]);
    let ghost = vec![tcp(S, FA), back(tcp(2 * S, FA)), tcp(4 * S, ACK)];
    let two = [(0, 5, EndOfFlow, true, 4 * S), (0, 1, Idle, true, 14 * S)];
    check("after the linger it is another flow", with(ghost), &two);
    check("one FIN is no end", with(vec![tcp(S, FA)]), &[(0, 4, Idle, true, 11 * S)]);
    let reset = with(vec![back(tcp(S, RST)), back(tcp(2 * S, RST))]);
    check("the first RST decides", reset, &[(0, 5, EndOfFlow, true, 3 * S)]);
    let mut slow: Vec<PacketRecord> = (0..4).map(|n| tcp(n * 8 * S, ACK)).collect();
    slow.truncate(3);
    slow.push(tcp(24 * S, RST));
    slow.push(tcp(25 * S + 5, ACK));
    check("no slice is cut in the linger", slow, &[(0, 5, EndOfFlow, true, 26 * S)]);
}

#[test]
fn a_new_syn_opens_a_new_flow() {
    use EndReason::{EndOfFlow, Idle};
    let reuse = vec![tcp(0, SYN), back(tcp(1, RST | ACK)), tcp(S, SYN)];
    let two = [(0, 2, EndOfFlow, true, S), (0, 1, Idle, true, 11 * S)];
    check("after RST", reuse, &two);
    let reuse = vec![tcp(0, SYN), back(tcp(1, SA)), tcp(2, FA), tcp(S, SYN)];
    let two = [(0, 3, EndOfFlow, true, S), (0, 1, Idle, true, 11 * S)];
    check("after one FIN", reuse, &two);
    let again = vec![tcp(0, SYN), tcp(S, SYN), tcp(3 * S, SYN)];
    check("a SYN sent again does not", again, &[(0, 3, Idle, true, 13 * S)]);
    let answer = vec![tcp(0, SYN), tcp(1, RST), back(tcp(2, SA))];
    check("nor does a SYN/ACK", answer, &[(0, 3, EndOfFlow, true, 2 * S + 1)]);
}

#[test]
fn a_full_table_gives_up_the_longest_idle() {
    let mut params = params();
    params.capacity = 2;
    let from = |n: u32, at: i64| PacketRecord { src: host(n), ..udp(at) };
    // Host 3 is older, but host 4 was silent for longer.
    let inputs = packets([from(3, 0), from(4, 1), from(3, 2), from(5, 3), from(6, 4)]);
    let bench = Bench::run(&params, &inputs);
    let ends: Vec<(Addr, EndReason, i64)> = bench
        .sink
        .slices
        .iter()
        .zip(&bench.sink.nows)
        .map(|(slice, now)| (slice.flow.src, slice.end_reason, now.0))
        .collect();
    let want = [
        (host(4), EndReason::LackOfResources, 3),
        (host(3), EndReason::LackOfResources, 4),
        (host(5), EndReason::Forced, 4),
        (host(6), EndReason::Forced, 4),
    ];
    assert_eq!(ends, want);
    assert_eq!(bench.ledgers.slices.evicted, 2);
}

#[test]
fn the_end_of_input_tells_ended_flows_from_cut_off_ones() {
    let inputs = packets([tcp(0, RST), udp(1)]);
    let bench = Bench::run(&params(), &inputs);
    let ends: Vec<EndReason> = bench.sink.slices.iter().map(|s| s.end_reason).collect();
    assert_eq!(ends, [EndReason::EndOfFlow, EndReason::Forced]);
}

/// The only slice of `inputs`.
#[track_caller]
fn only(inputs: Vec<PacketRecord>) -> Slice {
    let mut bench = Bench::run(&params(), &packets(inputs));
    assert_eq!(bench.sink.slices.len(), 1);
    bench.sink.slices.remove(0)
}

#[test]
fn the_tcp_state_is_what_was_seen() {
    #[track_caller]
    fn state(name: &str, inputs: Vec<PacketRecord>, want: Option<TcpState>) {
        assert_eq!(only(inputs).flow.tcp_state, want, "case: {name}");
    }
    let data = |at, flags| PacketRecord { payload: 10, ..tcp(at, flags) };
    let up = || vec![tcp(0, SYN), back(tcp(1, SA))];
    state("attempt", vec![tcp(0, SYN)], Some(TcpState::Attempt));
    state("answer alone", vec![tcp(0, SA)], Some(TcpState::Attempt));
    state("handshake", up(), Some(TcpState::Established));
    state("mid-stream, one way", vec![data(0, ACK)], None);
    state("mid-stream, both", vec![data(0, ACK), back(tcp(1, ACK))], Some(TcpState::Established));
    let half = [up(), vec![tcp(2, FA)]].concat();
    state("one FIN", half, Some(TcpState::Established));
    let closed = [up(), vec![tcp(2, FA), back(tcp(3, FA))]].concat();
    state("closed", closed.clone(), Some(TcpState::Closed));
    let late = [closed, vec![tcp(4, RST)]].concat();
    state("RST after the close", late, Some(TcpState::Closed));
    state("refused", vec![tcp(0, SYN), back(tcp(1, RST | ACK))], Some(TcpState::Reset));
    state("not TCP", vec![udp(0)], None);
}

#[test]
fn the_handshake_is_measured() {
    #[track_caller]
    fn rtt(name: &str, inputs: Vec<PacketRecord>, want: Option<u32>) {
        assert_eq!(only(inputs).flow.rtt_us, want, "case: {name}");
    }
    let with = |mut packet: PacketRecord, seq: u32, ack: u32| {
        packet.tcp = packet.tcp.map(|tcp| TcpHeader { seq, ack, ..tcp });
        packet
    };
    let syn = || with(tcp(100, SYN), u32::MAX, 0);
    let syn_ack = || with(back(tcp(400, SA)), u32::MAX, 0);
    let ack = || with(tcp(450, ACK), 0, 0);
    rtt("whole handshake", vec![syn(), syn_ack(), ack()], Some(350));
    rtt("ACK of something else", vec![syn(), syn_ack(), with(tcp(450, ACK), 0, u32::MAX)], None);
    rtt("no SYN", vec![syn_ack(), ack()], None);
    rtt("no SYN/ACK", vec![syn(), ack()], None);
    let again = with(tcp(300, SYN), u32::MAX, 0);
    rtt("SYN sent twice", vec![syn(), again, syn_ack(), ack()], None);
    let earlier = PacketRecord { time: Micros(50), ..ack() };
    rtt("time runs backwards", vec![syn(), syn_ack(), earlier], None);
}

#[test]
fn retransmissions_are_segments_with_nothing_new() {
    #[track_caller]
    fn count(name: &str, segments: &[(u32, u32)], want: u32) {
        let segment = |(n, &(seq, payload)): (usize, &(u32, u32))| PacketRecord {
            payload,
            tcp: Some(TcpHeader { flags: ACK, seq, ack: 0 }),
            ..tcp(i64::try_from(n).expect("few"), ACK)
        };
        let flow = only(segments.iter().enumerate().map(segment).collect()).flow;
        assert_eq!(flow.fwd.retransmits, Some(want), "case: {name}");
        assert_eq!(flow.bwd.retransmits, Some(0), "case: {name}");
    }
    count("in order", &[(0, 10), (10, 10), (20, 0)], 0);
    count("the same again", &[(0, 10), (0, 10), (0, 10)], 2);
    count("a part of it", &[(0, 10), (5, 5), (2, 3)], 2);
    count("half new", &[(0, 10), (5, 10)], 0);
    count("without payload", &[(0, 10), (0, 0)], 0);
    count("over the wrap", &[(u32::MAX - 4, 10), (5, 10), (u32::MAX - 4, 10)], 1);
}

#[test]
fn attributes_come_from_the_first_packet() {
    let tunnel = Tunnel { kind: TunnelKind::Vxlan, src: host(8), dst: host(9), id: 7 };
    let first = PacketRecord { tos: 8, vlan: Some(5), tunnel: Some(tunnel), ..tcp(10, SYN) };
    let answer = PacketRecord { ttl: 50, tos: 16, vlan: Some(6), ..back(tcp(20, SA)) };
    // The third packet's own time lies before that of the first.
    let third = PacketRecord { time: Micros(5), stamp: Micros(20), ttl: 1, ..tcp(0, ACK | PSH) };
    let flow = only(vec![first, answer, third]).flow;
    assert_eq!((flow.first, flow.last), (Micros(5), Micros(20)));
    assert_eq!((flow.tos, flow.vlan, flow.tunnel), (Some(8), Some(5), Some(tunnel)));
    assert_eq!((flow.fwd.ttl, flow.bwd.ttl), (Some(64), Some(50)));
    assert_eq!((flow.fwd.first_flags, flow.bwd.first_flags), (Some(SYN), Some(SA)));
    assert_eq!((flow.fwd.tcp_flags, flow.bwd.tcp_flags), (Some(SYN | ACK | PSH), Some(SA)));
    assert_eq!((flow.fwd.octets, flow.fwd.packets), (80, 2));
    assert_eq!((flow.fwd.octets_l2, flow.fwd.payload), (Some(108), Some(0)));
    assert_eq!((flow.sampling_interval, flow.exporters.len()), (Some(1), 0));
    let alone = only(vec![tcp(0, SYN)]).flow;
    assert_eq!((alone.bwd.octets_l2, alone.bwd.tcp_flags, alone.bwd.ttl), (Some(0), Some(0), None));
}

#[test]
fn both_directions_of_an_echo_are_one_flow() {
    let echo = |at, kind| PacketRecord { protocol: 1, src_port: kind, dst_port: 0, ..udp(at) };
    let turn = |p: PacketRecord| PacketRecord { src: p.dst, dst: p.src, ..p };
    let flow = only(vec![echo(0, 8), turn(echo(1, 0)), echo(2, 8), turn(echo(3, 0))]).flow;
    assert_eq!((flow.src, flow.src_port, flow.dst_port), (host(1), 8, 0));
    assert_eq!((flow.fwd.packets, flow.bwd.packets), (2, 2));
    let flow = only(vec![turn(echo(1, 0)), echo(2, 8)]).flow;
    assert_eq!((flow.src, flow.src_port, flow.dst_port), (host(2), 0, 0));
}

#[test]
fn later_fragments_borrow_the_ports_of_the_first() {
    let part = |at, id, offset, more| {
        let ports = if offset == 0 { (40_000, 53) } else { (0, 0) };
        let fragment = Some(Fragment { id, offset, more });
        PacketRecord { src_port: ports.0, dst_port: ports.1, fragment, ..udp(at) }
    };
    let flow = only(vec![part(0, 1, 0, true), part(1, 1, 1_480, true), part(2, 1, 2_960, false)]);
    assert_eq!((flow.records, flow.flow.src_port), (3, 40_000));

    // Another datagram, a fragment before the first, and one that comes too late.
    let mut params = params();
    params.packets.idle_us = 40 * S;
    params.packets.active_us = 40 * S;
    let late = super::super::fragments::LIFETIME_US + 2;
    let inputs = [part(0, 2, 1_480, true), part(1, 1, 0, true), part(late, 1, 1_480, true)];
    let bench = Bench::run(&params, &packets(inputs));
    let flows: Vec<(u16, u64)> =
        bench.sink.slices.iter().map(|s| (s.flow.src_port, s.records)).collect();
    assert_eq!(flows, [(0, 2), (40_000, 1)]);

    // The cache is bounded: of many first fragments the oldest are forgotten.
    params.fragments = 8;
    let firsts = (0..100).map(|id| part(0, id, 0, true));
    let laters = (0..100).map(|id| part(1, id, 8, false));
    let bench = Bench::run(&params, &packets(firsts.chain(laters)));
    let counts: Vec<u64> = bench.sink.slices.iter().map(|s| s.records).collect();
    assert_eq!(counts, [108, 92]);
}

#[test]
fn the_vlan_is_a_part_of_the_key_where_asked_for() {
    let inputs = packets([1, 2, 1].map(|vlan| PacketRecord { vlan: Some(vlan), ..udp(0) }));
    let mut params = params();
    assert_eq!(Bench::run(&params, &inputs).sink.slices.len(), 1);
    params.vlan_in_key = true;
    let bench = Bench::run(&params, &inputs);
    let flows: Vec<_> = bench.sink.slices.iter().map(|s| (s.flow.vlan, s.records)).collect();
    assert_eq!(flows, [(Some(1), 2), (Some(2), 1)]);
}

#[test]
fn sites_and_pairs_never_meet() {
    let other = PacketRecord { site: 1, ..udp(0) };
    assert_eq!(Bench::run(&params(), &packets([udp(0), other])).sink.slices.len(), 2);
}

#[test]
fn a_jump_of_the_clock_is_no_walk() {
    let mut bench = Bench::new(&params());
    for at in [i64::MIN, -5, 0, 1 << 60, i64::MAX] {
        bench.put(&Input::Packet(udp(at)));
    }
    bench.flush();
    assert_eq!(bench.sink.slices.len(), 4, "-5 and 0 are one flow");
}
