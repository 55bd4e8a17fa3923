//! What lies beyond the bits that an entry has: large counters, many merges, many parts.

use super::model::Model;
use super::*;

const S: i64 = SECOND;

#[test]
fn counters_pass_32_bits_without_loss() {
    let large = |at: i64, octets: u64| FlowRecord {
        fwd: Counters {
            octets,
            packets: u64::from(u32::MAX) - 1,
            octets_l2: Some(octets + 1),
            payload: Some(1),
            tcp_flags: None,
        },
        ..flow(at)
    };
    let inputs = records([
        large(0, 3 << 30),
        large(S, 3 << 30),
        reply(large(2 * S, 1 << 40)),
        // After a cut, the slice holds what came since.
        large(50 * S, 5),
        reply(large(51 * S, 1 << 33)),
        flow(52 * S),
    ]);
    let bench = Bench::run(&params(), &inputs);
    assert_eq!(bench.sink.slices, Model::run(&params(), &inputs).slices);
    let octets: Vec<_> =
        bench.sink.slices.iter().map(|s| (s.flow.fwd.octets, s.flow.bwd.octets)).collect();
    assert_eq!(octets, [(6 << 30, 1 << 40), (1_005, 1 << 33)]);
    assert_eq!(bench.sink.slices[0].flow.fwd.octets_l2, Some((6 << 30) + 2));
}

#[test]
fn counters_saturate() {
    let most = FlowRecord {
        fwd: Counters { octets: u64::MAX, packets: u64::MAX, ..Counters::default() },
        ..flow(0)
    };
    let again = FlowRecord { stamp: Micros(1), ..most.clone() };
    let bench = Bench::run(&params(), &records([most, again, flow(2)]));
    let fwd = bench.sink.slices[0].flow.fwd;
    assert_eq!((fwd.octets, fwd.packets), (u64::MAX, u64::MAX));
}

/// The oldest gives way, also across the point where merges are counted anew.
#[test]
fn merges_are_counted_anew_in_their_order() {
    let params = Params { capacity: 8, ..params() };
    let packet = |n: u32| PacketRecord { src: host(10 + n), ..udp(i64::from(n)) };
    let mut orders = Vec::new();
    for begin in [0, u32::MAX - 20] {
        let mut bench = Bench::new(&params);
        bench.table.set_merges(begin);
        // Eight flows, every second one merged into again, then eight more.
        (0..8).chain([0, 2, 4, 6]).for_each(|n| bench.put(&Input::Packet(packet(n))));
        (20..36).for_each(|n| bench.put(&Input::Packet(packet(n))));
        let evicted = bench.sink.slices.iter();
        let order: Vec<Addr> = evicted.map(|slice| slice.flow.src).collect();
        assert_eq!(order.len(), 16);
        orders.push(order);
    }
    let first = [1, 3, 5, 7, 0, 2, 4, 6].map(|n| host(10 + n));
    assert_eq!(orders[0][..8], first);
    assert_eq!(orders[0], orders[1]);
}

/// Flows of IPv6, of several exporters, with names, through tunnels: each part comes and goes, and a
/// place that is used again knows nothing of its past.
#[test]
fn parts_do_not_outlive_their_flow() {
    let v6 = |n: u32| Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n as u8]);
    let named = |at: i64| FlowRecord {
        src: v6(1),
        dst: v6(2),
        vrf_name: Some("red".into()),
        application: Some("dns".into()),
        in_if_name: Some("up".into()),
        src_asn: Some(64_500),
        ..flow(at)
    };
    let other = |at: i64| FlowRecord { point: point(101, 1), ..named(at) };
    let plain = |at: i64| FlowRecord { src: v6(1), dst: v6(2), ..flow(at) };
    let inputs = records([named(0), other(1), plain(100 * S), plain(200 * S)]);
    let bench = Bench::run(&params(), &inputs);
    let told = bench.sink.slices.iter().map(|s| {
        let f = &s.flow;
        let names = [&f.vrf_name, &f.application, &f.in_if_name].map(|name| name.as_deref());
        (names, f.src_asn, f.exporters.len())
    });
    let told: Vec<_> = told.collect();
    let rich = ([Some("red"), Some("dns"), Some("up")], Some(64_500), 2);
    let poor = ([None; 3], None, 1);
    assert_eq!(told, [rich, poor, poor]);
    assert!(bench.sink.slices.iter().all(|s| (s.flow.src, s.flow.dst) == (v6(1), v6(2))));
}
