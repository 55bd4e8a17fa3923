//! The slow twin of the flow table: a list of flows, each a list of what was merged into it.
//!
//! Before each record it looks through all flows for what is due first; every slice is added up
//! from its records when it is cut. No hash, no wheel, no running counters. TCP state, round-trip
//! time, retransmissions and fragments are left out: they have tables of their own.

use std::collections::HashMap;

use super::super::key::{CanonicalSide, FlowKey, flow_id};
use super::super::orient;
use super::super::record::{ACK, FIN, RST, SYN};
use super::super::view::{Biflow, DirectionBy, FlowId, Side};
use super::*;

/// What one direction of a record adds.
#[derive(Clone, Debug)]
struct Part {
    side: CanonicalSide,
    counters: Counters,
    /// The record itself, and whether this is its forward direction.
    input: Input,
    forward: bool,
}

/// One merged record.
#[derive(Clone, Debug)]
struct Merged {
    slice: u32,
    stamp: i64,
    first: i64,
    last: i64,
    parts: Vec<Part>,
    /// Side that the record came from, with type and code if it is of ICMP.
    message: (CanonicalSide, (u16, u16)),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Owner {
    capture: bool,
    point: ObservationPoint,
    interval: u32,
    arrival: i64,
}

#[derive(Clone, Debug)]
struct Flow {
    key: FlowKey,
    id: FlowId,
    created: u64,
    touched: u64,
    merged: Vec<Merged>,
    exporters: Vec<Addr>,
    owners: [Option<Owner>; 2],
    /// Interfaces that each side's owner told.
    interfaces: [(Option<u32>, Option<u32>); 2],
    /// Earliest start of what each side's owners told.
    starts: [Option<i64>; 2],
    /// First packet of each side that this sensor's capture owned.
    first_packets: [Option<PacketRecord>; 2],
    slice: u32,
    idle_us: i64,
    active_us: i64,
    ends_at: Option<i64>,
    initiator: CanonicalSide,
    by: DirectionBy,
}

impl Flow {
    fn parts(&self, side: CanonicalSide) -> impl Iterator<Item = (u32, &Part)> {
        let parts = self.merged.iter().flat_map(|m| m.parts.iter().map(|part| (m.slice, part)));
        parts.filter(move |(_, part)| part.side == side)
    }

    fn flags(&self, side: CanonicalSide) -> TcpFlags {
        self.parts(side).fold(0, |all, (_, part)| all | part.counters.tcp_flags.unwrap_or(0))
    }

    fn open(&self) -> impl Iterator<Item = &Merged> {
        self.merged.iter().filter(|merged| merged.slice == self.slice)
    }

    fn due(&self) -> (i64, EndReason) {
        if let Some(at) = self.ends_at {
            return (at, EndReason::EndOfFlow);
        }
        let idle = self.merged.last().expect("never empty").stamp + self.idle_us;
        match self.open().next() {
            Some(opener) if opener.stamp + self.active_us < idle => {
                (opener.stamp + self.active_us, EndReason::Active)
            }
            _ => (idle, EndReason::Idle),
        }
    }

    fn claims(&mut self, by: DirectionBy, initiator: CanonicalSide) {
        if self.slice == 0 && by < self.by {
            (self.by, self.initiator) = (by, initiator);
        }
    }

    fn side(&self, side: CanonicalSide, of_slice: bool) -> Side {
        let mut sum = Side::default();
        let packets = self.merged.iter().flat_map(|m| &m.parts);
        let metered = packets.clone().any(|part| matches!(part.input, Input::Packet(_)));
        if metered {
            (sum.octets_l2, sum.payload) = (Some(0), Some(0));
            sum.tcp_flags = (self.key.protocol == 6).then_some(0);
        }
        for (slice, part) in self.parts(side) {
            let Counters { octets, packets, octets_l2, payload, tcp_flags } = part.counters;
            let counts = !of_slice || slice == self.slice;
            let times = u64::from(counts);
            sum.octets += octets * times;
            sum.packets += packets * times;
            let add = |sum: &mut Option<u64>, more: Option<u64>| {
                if let Some(more) = more {
                    *sum = Some(sum.unwrap_or(0) + more * times);
                }
            };
            add(&mut sum.octets_l2, octets_l2);
            add(&mut sum.payload, payload);
            if let Some(flags) = tcp_flags {
                let seen = if counts { flags } else { 0 };
                sum.tcp_flags = Some(sum.tcp_flags.unwrap_or(0) | seen);
            }
        }
        let first = self.first_packets[side];
        sum.ttl = first.map(|packet| packet.ttl);
        sum.first_flags = first.and_then(|packet| packet.tcp).map(|tcp| tcp.flags);
        sum
    }

    fn cut(&self, params: &Params, end_reason: EndReason, last: bool) -> Slice {
        let (f, r) = (self.initiator, 1 - self.initiator);
        let (mut src, mut dst) = (self.key.endpoint(f), self.key.endpoint(r));
        if self.key.protocol == 1 {
            let message = |side| {
                let mut messages = self.merged.iter().map(|merged| merged.message);
                messages.find(|message| message.0 == side)
            };
            (src.1, dst.1) = message(f).or(message(r)).expect("never empty").1;
        }
        let known = if self.owners[f].is_some() { f } else { r };
        let owner = self.owners[known].expect("one side was merged");
        let (mut in_if, mut out_if) = self.interfaces[known];
        if known == r {
            (in_if, out_if) = (out_if, in_if);
        }
        let open: Vec<&Merged> = self.open().collect();
        let end = self.merged.iter().map(|m| m.last).max().expect("never empty");
        let flow = Biflow {
            site: self.key.site,
            src: src.0,
            dst: dst.0,
            src_port: src.1,
            dst_port: dst.1,
            protocol: self.key.protocol,
            first: Micros(open.iter().map(|m| m.first).min().unwrap_or(end)),
            last: Micros(open.iter().map(|m| m.last).max().unwrap_or(end)),
            fwd: self.side(f, true),
            bwd: self.side(r, true),
            point: owner.point,
            exporters: self.exporters.clone(),
            in_if,
            out_if,
            tos: self.tos(),
            direction: orient::direction(&params.home, src.0, dst.0),
            direction_by: self.by,
            sampling_interval: Some(owner.interval).filter(|&interval| interval > 0),
            ..Biflow::default()
        };
        let records = open.len() as u64;
        let (flow_id, number) = (self.id, self.slice);
        Slice { flow_id, number, last, end_reason, records, flow, fired: Vec::new() }
    }

    /// Of the first packet, if a packet opened the flow; else of the first record that has one.
    fn tos(&self) -> Option<u8> {
        let opener = matches!(self.merged[0].parts[0].input, Input::Packet(_));
        self.merged.iter().find_map(|merged| match &merged.parts[0].input {
            Input::Packet(packet) => opener.then_some(packet.tos),
            Input::Record(record) => record.tos,
        })
    }
}

fn icmp(input: &Input) -> (u16, u16) {
    match input {
        Input::Packet(packet) => (packet.src_port, packet.dst_port),
        Input::Record(record) => (record.dst_port >> 8, record.dst_port & 255),
    }
}

/// The twin.
pub(super) struct Model {
    params: Params,
    flows: HashMap<FlowKey, Flow>,
    created: u64,
    clock: i64,
    pub(super) slices: Vec<Slice>,
    pub(super) nows: Vec<Micros>,
    pub(super) duplicates: u64,
    touches: u64,
}

impl Model {
    pub(super) fn run(params: &Params, inputs: &[Input]) -> Self {
        let mut model = Self {
            params: params.clone(),
            flows: HashMap::new(),
            created: 0,
            clock: i64::MIN,
            slices: Vec::new(),
            nows: Vec::new(),
            duplicates: 0,
            touches: 0,
        };
        inputs.iter().for_each(|input| model.put(input));
        let mut rest: Vec<Flow> = model.flows.values().cloned().collect();
        rest.sort_by_key(|flow| flow.created);
        for flow in rest {
            let lingers = flow.ends_at.is_some();
            let reason = if lingers { EndReason::EndOfFlow } else { EndReason::Forced };
            model.end(&flow.key, reason, model.clock);
        }
        model
    }

    fn end(&mut self, key: &FlowKey, reason: EndReason, now: i64) {
        let flow = self.flows.remove(key).expect("the flow is there");
        self.slices.push(flow.cut(&self.params, reason, true));
        self.nows.push(Micros(now));
    }

    fn expire(&mut self) {
        loop {
            let flows = self.flows.values();
            let Some(first) = flows.min_by_key(|flow| (flow.due().0, flow.created)) else { return };
            let (at, reason) = first.due();
            if at > self.clock {
                return;
            }
            let key = first.key;
            if reason != EndReason::Active {
                self.end(&key, reason, at);
                continue;
            }
            self.slices.push(first.cut(&self.params, reason, false));
            self.nows.push(Micros(at));
            self.flows.get_mut(&key).expect("the flow is there").slice += 1;
        }
    }

    fn put(&mut self, input: &Input) {
        self.clock = self.clock.max(input.stamp().0);
        self.expire();
        let (key, side) = match input {
            Input::Packet(p) => FlowKey::of_packet(p, (p.src_port, p.dst_port), &self.params),
            Input::Record(r) => FlowKey::of_record(r, &self.params),
        };
        if self.flows.get(&key).is_some_and(|flow| reopens(flow, side, input)) {
            self.end(&key, EndReason::EndOfFlow, self.clock);
        }
        let mut parts = parts(side, input);
        let (first, last) = match input {
            Input::Packet(packet) => (packet.time, packet.time),
            Input::Record(record) => (record.first, record.last),
        };
        if !self.flows.contains_key(&key) {
            if self.flows.len() >= self.params.capacity {
                let oldest = self.flows.values().min_by_key(|flow| flow.touched).expect("full");
                let oldest = oldest.key;
                self.end(&oldest, EndReason::LackOfResources, self.clock);
            }
            self.created += 1;
            let flow = Flow {
                key,
                id: flow_id(&key, first),
                created: self.created,
                touched: 0,
                merged: Vec::new(),
                exporters: Vec::new(),
                owners: [None; 2],
                interfaces: [(None, None); 2],
                starts: [None; 2],
                first_packets: [None; 2],
                slice: 0,
                idle_us: 0,
                active_us: 0,
                ends_at: None,
                initiator: side,
                by: DirectionBy::First,
            };
            self.flows.insert(key, flow);
        }
        let flow = self.flows.get_mut(&key).expect("it is there now");
        if let Input::Record(record) = input
            && !flow.exporters.contains(&record.point.exporter)
            && flow.exporters.len() < 8
        {
            flow.exporters.push(record.point.exporter);
        }
        parts.retain(|part| owns(flow, part, self.clock, &self.params));
        if parts.is_empty() {
            self.duplicates += 1;
            return;
        }
        let (slice, stamp, first, last) = (flow.slice, self.clock, first.0, last.0);
        let message = (side, icmp(input));
        flow.merged.push(Merged { slice, stamp, first, last, parts, message });
        self.touches += 1;
        flow.touched = self.touches;
        self.after(&key, side, input);
    }

    /// Timeouts, end and orientation, now that `input` was merged.
    fn after(&mut self, key: &FlowKey, side: CanonicalSide, input: &Input) {
        let (params, clock) = (&self.params, self.clock);
        let flow = self.flows.get_mut(key).expect("the flow is there");
        let ended = match input {
            Input::Packet(packet) => {
                flow.idle_us = params.packets.idle_us;
                flow.active_us = params.packets.active_us;
                if let Some(tcp) = packet.tcp {
                    match tcp.flags & (SYN | ACK | FIN | RST) {
                        SYN => flow.claims(DirectionBy::Syn, side),
                        f if f == SYN | ACK => flow.claims(DirectionBy::Syn, 1 - side),
                        _ => {}
                    }
                }
                packets_ended(flow)
            }
            Input::Record(record) => {
                let asked = record.idle_timeout_us.max(params.netflow.idle_us);
                flow.idle_us = flow.idle_us.max(asked);
                flow.active_us = params.netflow.active_us;
                orient_by_record(flow, side, record);
                records_ended(flow, 0) && records_ended(flow, 1)
            }
        };
        if ended && flow.ends_at.is_none() {
            flow.ends_at = Some(clock + params.linger_us);
        }
    }
}

fn parts(side: CanonicalSide, input: &Input) -> Vec<Part> {
    let part = |side, counters, forward| Part { side, counters, input: input.clone(), forward };
    match input {
        Input::Packet(p) => {
            let counters = Counters {
                octets: p.octets.into(),
                packets: 1,
                octets_l2: Some(p.octets_l2.into()),
                payload: Some(p.payload.into()),
                tcp_flags: p.tcp.map(|tcp| tcp.flags),
            };
            vec![part(side, counters, true)]
        }
        Input::Record(r) => match r.bwd {
            Some(bwd) if !bwd.is_empty() && r.fwd.is_empty() => vec![part(1 - side, bwd, false)],
            Some(bwd) if !bwd.is_empty() => {
                vec![part(side, r.fwd, true), part(1 - side, bwd, false)]
            }
            _ => vec![part(side, r.fwd, true)],
        },
    }
}

fn reopens(flow: &Flow, side: CanonicalSide, input: &Input) -> bool {
    match input {
        Input::Packet(packet) => {
            let syn = packet.tcp.is_some_and(|t| t.flags & (SYN | ACK | FIN | RST) == SYN);
            syn && (flow.flags(0) | flow.flags(1)) & (FIN | RST) != 0
        }
        Input::Record(record) => {
            let owner = flow.owners[side];
            let last = flow.merged.iter().map(|m| m.last).max().unwrap_or(i64::MIN);
            owner.is_some_and(|owner| !owner.capture && owner.point == record.point)
                && record.fwd.tcp_flags.is_some_and(|flags| flags & SYN != 0)
                && records_ended(flow, side)
                && record.first.0 > last
        }
    }
}

fn owns(flow: &mut Flow, part: &Part, now: i64, params: &Params) -> bool {
    let (capture, point, interval, told) = match &part.input {
        Input::Packet(_) => (true, ObservationPoint::default(), 1, (None, None)),
        Input::Record(r) if part.forward => {
            (false, r.point, r.sampling_interval, (r.in_if, r.out_if))
        }
        Input::Record(r) => (false, r.point, r.sampling_interval, (r.out_if, r.in_if)),
    };
    let mut starts = match &part.input {
        Input::Packet(_) => None,
        Input::Record(record) => Some(record.first.0),
    };
    let comer = Owner { capture, point, interval, arrival: now };
    match flow.owners[part.side] {
        None => {}
        Some(owner) if (owner.capture, owner.point) == (capture, point) => {
            let interval = if interval > 0 { interval } else { owner.interval };
            let known = &mut flow.interfaces[part.side];
            *known = (told.0.or(known.0), told.1.or(known.1));
            flow.owners[part.side] = Some(Owner { interval, ..comer });
            starts = starts.into_iter().chain(flow.starts[part.side]).min();
            flow.starts[part.side] = starts;
            return true;
        }
        Some(_) if params.dedup == Dedup::Off => return true,
        Some(owner) => {
            let lower = interval > 0 && owner.interval > 0 && interval < owner.interval;
            if !lower && now - owner.arrival <= flow.idle_us {
                return false;
            }
        }
    }
    flow.owners[part.side] = Some(comer);
    flow.interfaces[part.side] = told;
    flow.starts[part.side] = starts.into_iter().chain(flow.starts[part.side]).min();
    if let Input::Packet(packet) = &part.input {
        flow.first_packets[part.side].get_or_insert(*packet);
    }
    true
}

fn packets_ended(flow: &Flow) -> bool {
    let seen = |side| {
        let packets = flow.parts(side).filter_map(|(_, part)| match &part.input {
            Input::Packet(packet) => packet.tcp,
            Input::Record(_) => None,
        });
        packets.fold(0, |flags, tcp| flags | tcp.flags)
    };
    (seen(0) | seen(1)) & RST != 0 || seen(0) & seen(1) & FIN != 0
}

fn records_ended(flow: &Flow, side: CanonicalSide) -> bool {
    flow.parts(side).any(|(_, part)| match &part.input {
        Input::Packet(_) => false,
        Input::Record(record) => {
            record.end_reason == Some(3)
                || part.counters.tcp_flags.is_some_and(|flags| flags & (FIN | RST) != 0)
        }
    })
}

fn orient_by_record(flow: &mut Flow, side: CanonicalSide, record: &FlowRecord) {
    match record.biflow_direction {
        Some(1) => return flow.claims(DirectionBy::Exporter, side),
        Some(2) => return flow.claims(DirectionBy::Exporter, 1 - side),
        _ => {}
    }
    let lone = [0, 1].map(|side| flow.flags(side) & (SYN | ACK) == SYN);
    if lone[0] != lone[1] {
        return flow.claims(DirectionBy::Syn, usize::from(lone[1]));
    }
    if let [Some(a), Some(b)] = flow.owners
        && !a.capture
        && !b.capture
        && (a.point.exporter, a.point.domain) == (b.point.exporter, b.point.domain)
        && [0, 1].iter().all(|&s| flow.flags(s) == 0 || flow.flags(s) & SYN != 0)
    {
        match flow.starts {
            [a, b] if a < b => return flow.claims(DirectionBy::Start, 0),
            [a, b] if a > b => return flow.claims(DirectionBy::Start, 1),
            _ => {}
        }
    }
    let (a, b) = (flow.key.a_port, flow.key.b_port);
    if matches!(flow.key.protocol, 6 | 17) && a != b && a != 0 && b != 0 {
        // The strategy uses these ports: 53 and 80 are services', the others are not.
        let service = |port: u16| port < 1_024;
        let a_responds = if service(a) == service(b) { a < b } else { service(a) };
        flow.claims(DirectionBy::Port, usize::from(a_responds));
    }
}
