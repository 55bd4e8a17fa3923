//! Properties over any sequence of packets and records.

use proptest::prelude::*;

use super::super::record::{ACK, FIN, RST, SYN};
use super::model::Model;
use super::*;
use crate::net::{SHARDS, pair_hash, shard_of};

/// Steps of the clock: none, small ones, and those that meet a timeout to the microsecond.
fn step() -> impl Strategy<Value = i64> {
    let steps = [0, 0, 1, 1_000, 300_000, SECOND, 2 * SECOND - 1, 2 * SECOND, 2 * SECOND + 1];
    let edges = [5 * SECOND, 10 * SECOND - 1, 10 * SECOND, 10 * SECOND + 1, 20 * SECOND];
    let long = [25 * SECOND, 45 * SECOND + 1, 3_000 * SECOND];
    prop_oneof![
        6 => prop::sample::select(steps.to_vec()),
        3 => prop::sample::select(edges.to_vec()),
        1 => prop::sample::select(long.to_vec()),
    ]
}

fn flags() -> impl Strategy<Value = TcpFlags> {
    prop::sample::select(vec![SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, SYN | FIN | ACK, 0])
}

/// One of few keys, in either direction: source, destination, their ports, protocol.
fn ends() -> impl Strategy<Value = (Addr, Addr, u16, u16, u8)> {
    let protocol = prop::sample::select(vec![6_u8, 6, 6, 17, 1, 47]);
    (0..3_u32, 0..3_u32, 0..3_usize, 0..3_usize, protocol).prop_map(|(src, dst, s, d, protocol)| {
        let ports = [80, 40_000, 50_000];
        // Host 2 is not at home.
        let host = |n: u32| if n == 2 { Addr::v4(0xc000_0201) } else { host(n) };
        match protocol {
            1 => (host(src), host(dst), 8 * (s as u16 & 1), 0, 1),
            47 => (host(src), host(dst), 0, 0, 47),
            _ => (host(src), host(dst), ports[s], ports[d], protocol),
        }
    })
}

fn packet() -> impl Strategy<Value = Input> {
    (ends(), flags(), 20..1_500_u32, 0..3_i64, any::<(u8, u8)>()).prop_map(
        |((src, dst, src_port, dst_port, protocol), flags, octets, behind, (tos, ttl))| {
            let tcp = (protocol == 6).then_some(TcpHeader { flags, seq: 0, ack: 0 });
            // `time` is how far the packet lies behind its stamp, until the stamp is known.
            let time = Micros(-behind * SECOND);
            let (octets_l2, payload) = (octets + 14, octets - 20);
            let packet =
                PacketRecord { time, src, dst, src_port, dst_port, protocol, tos, ttl, ..udp(0) };
            Input::Packet(PacketRecord { octets, octets_l2, payload, tcp, ..packet })
        },
    )
}

fn counters() -> impl Strategy<Value = Counters> {
    let optional = |max: u64| prop::option::of(0..max);
    (0..5_000_u64, 0..20_u64, optional(9_000), optional(4_000), prop::option::of(flags())).prop_map(
        |(octets, packets, octets_l2, payload, tcp_flags)| Counters {
            octets,
            packets,
            octets_l2,
            payload,
            tcp_flags,
        },
    )
}

fn record() -> impl Strategy<Value = Input> {
    let told = (
        prop::sample::select(vec![0_u32, 0, 1, 10, 100]),
        prop::option::weighted(0.3, 1..6_u8),
        prop::option::weighted(0.2, 1..4_u8),
        prop::sample::select(vec![0_i64, 0, 0, 30 * SECOND]),
        any::<Option<u8>>(),
    );
    let times = (0..3_i64, 0..20_i64);
    let bwd = prop::option::weighted(0.3, counters());
    (ends(), counters(), bwd, 0..3_u32, 0..2_u32, told, times).prop_map(
        |(ends, fwd, bwd, exporter, interface, told, (behind, duration))| {
            let (src, dst, src_port, dst_port, protocol) = ends;
            let (sampling_interval, end_reason, biflow_direction, idle_timeout_us, tos) = told;
            let message = src_port << 8;
            let ports = if protocol == 1 { (0, message) } else { (src_port, dst_port) };
            let last = -behind * SECOND;
            Input::Record(Box::new(FlowRecord {
                src,
                dst,
                src_port: ports.0,
                dst_port: ports.1,
                protocol,
                first: Micros(last - duration * SECOND),
                last: Micros(last),
                fwd,
                bwd,
                point: point(100 + exporter, interface),
                in_if: (interface > 0).then_some(interface),
                sampling_interval,
                end_reason,
                biflow_direction,
                idle_timeout_us,
                tos,
                ..flow(0)
            }))
        },
    )
}

/// Sets the stamps: `step` after `step`.
fn timed(inputs: Vec<(Input, i64)>) -> Vec<Input> {
    let mut now = 1_000 * SECOND;
    let set = |(mut input, step): (Input, i64)| {
        now += step;
        match &mut input {
            Input::Packet(p) => (p.stamp, p.time) = (Micros(now), p.time.plus(now)),
            Input::Record(r) => {
                r.stamp = Micros(now);
                (r.first, r.last) = (r.first.plus(now), r.last.plus(now));
            }
        }
        input
    };
    inputs.into_iter().map(set).collect()
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let any = prop_oneof![packet(), record()];
    let mixed = prop::collection::vec((any, step()), 1..80);
    let packets = prop::collection::vec((packet(), step()), 1..80);
    let records = prop::collection::vec((record(), step()), 1..80);
    prop_oneof![mixed, packets, records].prop_map(timed)
}

fn parameters() -> impl Strategy<Value = Params> {
    let capacity = prop::sample::select(vec![1_usize, 2, 3, 5, 1_000]);
    let dedup = prop::sample::select(vec![Dedup::Owner, Dedup::Owner, Dedup::Off]);
    let linger_us = prop::sample::select(vec![0, 1, 2 * SECOND, 30 * SECOND]);
    (capacity, any::<bool>(), dedup, linger_us, any::<u64>()).prop_map(
        |(capacity, reserve, dedup, linger_us, hash_seed)| Params {
            capacity,
            reserve,
            dedup,
            linger_us,
            hash_seed,
            ..params()
        },
    )
}

/// Without what the model leaves out.
fn plain(mut slice: Slice) -> Slice {
    let flow = &mut slice.flow;
    (flow.tcp_state, flow.rtt_us) = (None, None);
    (flow.fwd.retransmits, flow.bwd.retransmits) = (None, None);
    slice
}

fn sorted(mut slices: Vec<Slice>) -> Vec<Slice> {
    slices.sort_by_key(|slice| (slice.flow_id, slice.number, slice.flow.first));
    slices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_table_equals_its_slow_twin(params in parameters(), inputs in inputs()) {
        let model = Model::run(&params, &inputs);
        let Bench { sink, ledgers, .. } = Bench::run(&params, &inputs);
        let slices: Vec<Slice> = sink.slices.into_iter().map(plain).collect();
        prop_assert_eq!(slices, model.slices);
        prop_assert_eq!(sink.nows, model.nows);
        prop_assert_eq!(ledgers.records.duplicate, model.duplicates);
    }

    #[test]
    fn octets_and_packets_are_conserved(params in parameters(), inputs in inputs()) {
        let params = Params { dedup: Dedup::Off, ..params };
        let Bench { sink, ledgers, .. } = Bench::run(&params, &inputs);
        let mut shipped = (0, 0);
        for Slice { flow, .. } in &sink.slices {
            shipped.0 += flow.fwd.octets + flow.bwd.octets;
            shipped.1 += flow.fwd.packets + flow.bwd.packets;
            prop_assert!(flow.first <= flow.last);
        }
        let add = |sum: (u64, u64), more: (u64, u64)| (sum.0 + more.0, sum.1 + more.1);
        prop_assert_eq!(shipped, inputs.iter().map(Input::volume).fold((0, 0), add));
        let records: u64 = sink.slices.iter().map(|slice| slice.records).sum();
        prop_assert_eq!(records, inputs.len() as u64);
        let ends = sink.slices.iter().filter(|slice| slice.last).count();
        let opened = sink.calls.iter().filter(|call| call.starts_with("opened")).count();
        prop_assert_eq!(ends, opened);
        prop_assert_eq!(ledgers.slices.shipped, sink.slices.len() as u64);
    }

    #[test]
    fn ticks_in_between_change_nothing(
        params in parameters(),
        inputs in inputs(),
        ticks in prop::collection::vec(0.0..1.0_f64, 160),
    ) {
        let plain = Bench::run(&params, &inputs);
        let mut ticked = Bench::new(&params);
        let mut ticks = ticks.iter().copied();
        let mut before = inputs[0].stamp();
        for input in &inputs {
            let gap = input.stamp().since(before);
            let mut parts: Vec<f64> = ticks.by_ref().take(2).collect();
            parts.sort_by(f64::total_cmp);
            for part in parts {
                #[expect(clippy::cast_possible_truncation, reason = "some instant in the gap")]
                ticked.advance(before.plus((gap as f64 * part) as i64));
            }
            ticked.put(input);
            before = input.stamp();
        }
        ticked.flush();
        prop_assert_eq!(ticked.sink, plain.sink);
        prop_assert_eq!(ticked.ledgers, plain.ledgers);
    }

    #[test]
    fn shards_apart_give_what_one_table_gives(params in parameters(), inputs in inputs()) {
        let params = Params { capacity: 1_000, ..params };
        let end = inputs[inputs.len() - 1].stamp();
        let mut whole = Bench::new(&params);
        inputs.iter().for_each(|input| whole.put(input));
        // The last record may have brought a deadline forward to its own stamp.
        whole.advance(end);
        whole.flush();
        let mut shards: Vec<Vec<Input>> = vec![Vec::new(); SHARDS];
        for input in &inputs {
            let pair = match input {
                Input::Packet(p) => pair_hash(p.site, p.src, p.dst),
                Input::Record(r) => pair_hash(r.site, r.src, r.dst),
            };
            shards[shard_of(pair)].push(input.clone());
        }
        let mut slices = Vec::new();
        let mut ledgers = Ledgers::default();
        for shard in shards {
            let mut bench = Bench::new(&params);
            shard.iter().for_each(|input| bench.put(input));
            bench.advance(end);
            bench.flush();
            slices.append(&mut bench.sink.slices);
            ledgers.merge(&bench.ledgers);
        }
        prop_assert_eq!(sorted(slices), sorted(whole.sink.slices));
        prop_assert_eq!(ledgers, whole.ledgers);
    }
}
