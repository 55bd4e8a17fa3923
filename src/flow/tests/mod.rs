//! Tests of the flow table: tables of cases by kind of input, and properties against a slow twin.

mod bounds;
mod direction;
mod model;
mod netflow;
mod owners;
mod packets;
mod properties;
mod sinks;

use std::sync::Arc;

use super::params::{Params, Timeouts};
use super::record::{Counters, FlowRecord, PacketRecord, TcpHeader};
use super::table::FlowTable;
use super::view::{EndReason, Slice};
use super::{Cut, FlowSink, LiveFlow, ObservationPoint, TcpFlags};
use crate::config::{Config, Dedup};
use crate::metrics::ledger::Ledgers;
use crate::net::Addr;
use crate::time::{Micros, SECOND};

/// Keeps every slice, and what it was told in between as text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Collector {
    slices: Vec<Slice>,
    /// The instant of each cut.
    nows: Vec<Micros>,
    calls: Vec<String>,
}

impl FlowSink for Collector {
    fn opened(&mut self, flow: &mut LiveFlow<'_>) {
        self.calls.push(format!("opened {}", flow.view().src));
    }

    fn woke(&mut self, _: &mut LiveFlow<'_>) {
        self.calls.push("woke".into());
    }

    fn turned(&mut self, flow: &mut LiveFlow<'_>) {
        self.calls.push(format!("turned {}", flow.view().src));
    }

    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut) {
        self.slices.push(flow.slice(cut));
        self.nows.push(flow.now);
    }
}

/// What goes into a table.
#[derive(Clone, Debug)]
enum Input {
    Packet(PacketRecord),
    Record(Box<FlowRecord>),
}

impl Input {
    fn stamp(&self) -> Micros {
        match self {
            Self::Packet(packet) => packet.stamp,
            Self::Record(record) => record.stamp,
        }
    }

    /// Octets and packets in it.
    fn volume(&self) -> (u64, u64) {
        match self {
            Self::Packet(packet) => (u64::from(packet.octets), 1),
            Self::Record(record) => {
                let bwd = record.bwd.unwrap_or_default();
                (record.fwd.octets + bwd.octets, record.fwd.packets + bwd.packets)
            }
        }
    }
}

/// A table with its sink and ledgers, which must balance after every call.
struct Bench {
    table: FlowTable,
    sink: Collector,
    ledgers: Ledgers,
}

impl Bench {
    fn new(params: &Params) -> Self {
        let mut table = FlowTable::new(Arc::new(params.clone()));
        if params.reserve {
            table.reserve();
        }
        Self { table, sink: Collector::default(), ledgers: Ledgers::default() }
    }

    fn put(&mut self, input: &Input) {
        let Self { table, sink, ledgers } = self;
        match input {
            Input::Packet(packet) => table.packet(packet, ledgers, sink),
            Input::Record(record) => table.record(record, ledgers, sink),
        }
        self.balance();
    }

    fn advance(&mut self, now: Micros) {
        self.table.advance(now, &mut self.ledgers, &mut self.sink);
        self.balance();
    }

    fn flush(&mut self) {
        self.table.flush(&mut self.ledgers, &mut self.sink);
        self.balance();
    }

    fn balance(&self) {
        assert_eq!(self.ledgers.imbalances(), Vec::<String>::new());
    }

    /// Everything in, then the end of input.
    fn run(params: &Params, inputs: &[Input]) -> Self {
        let mut bench = Self::new(params);
        inputs.iter().for_each(|input| bench.put(input));
        bench.flush();
        assert!(bench.table.is_empty());
        assert_eq!(bench.ledgers.slices.held, 0);
        bench
    }
}

/// Packets: idle 10 s, active 25 s. NetFlow: idle 20 s, active 45 s. Linger 2 s.
fn params() -> Params {
    Params {
        packets: Timeouts { idle_us: 10 * SECOND, active_us: 25 * SECOND },
        netflow: Timeouts { idle_us: 20 * SECOND, active_us: 45 * SECOND },
        linger_us: 2 * SECOND,
        dedup: Dedup::Owner,
        ..Params::from_config(&Config::default())
    }
}

fn host(n: u32) -> Addr {
    Addr::v4(0x0a00_0000 + n)
}

/// A UDP packet of 100 octets from host 1, port 40,000, to host 2, port 53, at `at` microseconds.
fn udp(at: i64) -> PacketRecord {
    PacketRecord {
        stamp: Micros(at),
        time: Micros(at),
        site: 0,
        src: host(1),
        dst: host(2),
        src_port: 40_000,
        dst_port: 53,
        protocol: 17,
        tos: 0,
        ttl: 64,
        vlan: None,
        octets: 100,
        octets_l2: 114,
        payload: 72,
        tcp: None,
        fragment: None,
        tunnel: None,
    }
}

/// A TCP segment without payload from host 1 to port 80 of host 2.
fn tcp(at: i64, flags: TcpFlags) -> PacketRecord {
    let tcp = Some(TcpHeader { flags, seq: 1, ack: 1 });
    PacketRecord {
        protocol: 6,
        dst_port: 80,
        octets: 40,
        octets_l2: 54,
        payload: 0,
        tcp,
        ..udp(at)
    }
}

/// The same the other way.
fn back(packet: PacketRecord) -> PacketRecord {
    let PacketRecord { src, dst, src_port, dst_port, .. } = packet;
    PacketRecord { src: dst, dst: src, src_port: dst_port, dst_port: src_port, ..packet }
}

/// A record of 1,000 octets in 10 packets, from host 1 to port 80 of host 2, by exporter 100.
fn flow(at: i64) -> FlowRecord {
    FlowRecord {
        stamp: Micros(at),
        src: host(1),
        dst: host(2),
        src_port: 40_000,
        dst_port: 80,
        protocol: 6,
        first: Micros(at - SECOND),
        last: Micros(at),
        fwd: Counters { octets: 1_000, packets: 10, ..Counters::default() },
        point: point(100, 1),
        in_if: Some(1),
        out_if: Some(2),
        ..FlowRecord::default()
    }
}

/// The same the other way: in through interface 2, out through 1.
fn reply(record: FlowRecord) -> FlowRecord {
    let FlowRecord { src, dst, src_port, dst_port, in_if, out_if, .. } = record;
    FlowRecord {
        src: dst,
        dst: src,
        src_port: dst_port,
        dst_port: src_port,
        in_if: out_if,
        out_if: in_if,
        point: ObservationPoint { interface: out_if.unwrap_or(0), ..record.point },
        ..record
    }
}

fn point(exporter: u32, interface: u32) -> ObservationPoint {
    ObservationPoint { exporter: host(exporter), domain: 0, interface, direction: 0 }
}

fn with_flags(flags: TcpFlags, record: FlowRecord) -> FlowRecord {
    FlowRecord { fwd: Counters { tcp_flags: Some(flags), ..record.fwd }, ..record }
}

fn packets(inputs: impl IntoIterator<Item = PacketRecord>) -> Vec<Input> {
    inputs.into_iter().map(Input::Packet).collect()
}

fn records(inputs: impl IntoIterator<Item = FlowRecord>) -> Vec<Input> {
    inputs.into_iter().map(|record| Input::Record(Box::new(record))).collect()
}

/// A slice in short: number, records, why it was cut, whether it is the flow's last, and when.
type Short = (u32, u64, EndReason, bool, i64);

fn short(bench: &Bench) -> Vec<Short> {
    let slices = bench.sink.slices.iter().zip(&bench.sink.nows);
    slices.map(|(s, now)| (s.number, s.records, s.end_reason, s.last, now.0)).collect()
}
