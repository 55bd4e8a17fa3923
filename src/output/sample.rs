//! Slices and alerts for tests: any that the types allow.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::Context;
use crate::detect::sequence::{Attack, Class, Sequence, Verdict};
use crate::detect::{Alert, Evidence, Level, RuleMeta, TaggedSlice, Technique};
use crate::flow::record::{Name, ObservationPoint, Tunnel, TunnelKind};
use crate::flow::{Biflow, Direction, DirectionBy, EndReason, FlowId, Side, Slice, TcpState};
use crate::net::Addr;
use crate::time::Micros;

/// Text with everything that an encoder could stumble over.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "[\"\\\\,;\\r\\n\\t\\u{0}-\\u{1f}é漢🦀{}\\[\\] a]{0,12}",
        any::<String>()
    ]
}

pub(crate) fn address() -> impl Strategy<Value = Addr> {
    prop_oneof![any::<u32>().prop_map(Addr::v4), any::<u128>().prop_map(Addr)]
}

fn name() -> impl Strategy<Value = Option<Name>> {
    of(text().prop_map(Name::from))
}

fn side() -> impl Strategy<Value = Side> {
    let counters = (any::<u64>(), any::<u64>(), of(any::<u64>()), of(any::<u64>()));
    let rest = (of(any::<u16>()), of(any::<u16>()), of(any::<u32>()), of(any::<u8>()));
    (counters, rest).prop_map(|((octets, packets, octets_l2, payload), rest)| {
        let (tcp_flags, first_flags, retransmits, ttl) = rest;
        Side { octets, packets, octets_l2, payload, tcp_flags, first_flags, retransmits, ttl }
    })
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let kinds = [TunnelKind::Gre, TunnelKind::SixInFour, TunnelKind::GtpU, TunnelKind::Teredo];
    (proptest::sample::select(kinds.to_vec()), address(), address(), any::<u32>())
        .prop_map(|(kind, src, dst, id)| Tunnel { kind, src, dst, id })
}

pub(crate) fn flow() -> impl Strategy<Value = Biflow> {
    let key = (0..3_u16, prop_oneof![Just(0), any::<u32>()], name(), address(), address());
    let ports = (any::<u16>(), any::<u16>(), any::<u8>());
    let times = (any::<i64>(), 0..1_i64 << 53);
    let point = (prop_oneof![Just(Addr::UNSPECIFIED), address()], any::<u32>());
    let exporters = vec(address(), 0..3);
    let interfaces = (of(any::<u32>()), of(any::<u32>()), name(), name(), name());
    let state = (of(any::<u16>()), of(any::<u8>()), of(Just(TcpState::Reset)), of(any::<u32>()));
    let direction = proptest::sample::select(&[Direction::Outbound, Direction::External][..]);
    let by = proptest::sample::select(&[DirectionBy::Syn, DirectionBy::First][..]);
    let rest = (of(any::<u32>()), of(any::<u32>()), of(any::<u32>()), of(tunnel()));
    let flow = (key, ports, times, side(), side(), point, exporters, interfaces, state);
    (flow, direction, by, rest).prop_map(|(flow, direction, direction_by, rest)| {
        let (key, ports, times, fwd, bwd, point, exporters, interfaces, state) = flow;
        let first = Micros(times.0);
        Biflow {
            site: key.0,
            vrf: key.1,
            vrf_name: key.2,
            src: key.3,
            dst: key.4,
            src_port: ports.0,
            dst_port: ports.1,
            protocol: ports.2,
            first,
            last: first.plus(times.1),
            fwd,
            bwd,
            point: ObservationPoint { exporter: point.0, domain: point.1, ..Default::default() },
            exporters,
            in_if: interfaces.0,
            out_if: interfaces.1,
            in_if_name: interfaces.2,
            out_if_name: interfaces.3,
            application: interfaces.4,
            vlan: state.0,
            tos: state.1,
            tcp_state: state.2,
            rtt_us: state.3,
            direction,
            direction_by,
            sampling_interval: rest.0,
            src_asn: rest.1,
            dst_asn: rest.2,
            tunnel: rest.3,
        }
    })
}

pub(crate) fn rule() -> impl Strategy<Value = Arc<RuleMeta>> {
    let techniques = vec((text(), of(text())), 0..3)
        .prop_map(|list| list.into_iter().map(|(id, name)| Technique { id, name }).collect());
    let texts = || vec(text(), 0..3);
    let level = proptest::sample::select(&[Level::Low, Level::Medium, Level::Critical][..]);
    let head = (text(), text(), level, of(text()), of(text()));
    (head, texts(), texts(), techniques, text(), any::<u32>()).prop_map(
        |((id, title, level, author, link), tags, tactics, techniques, file, line)| {
            let uid = 0;
            Arc::new(RuleMeta {
                uid,
                id,
                title,
                level,
                author,
                link,
                tags,
                tactics,
                techniques,
                file,
                line,
            })
        },
    )
}

pub(crate) fn slice() -> impl Strategy<Value = TaggedSlice> {
    let reason = proptest::sample::select(&[EndReason::Idle, EndReason::LackOfResources][..]);
    let head = (any::<u128>(), any::<u32>(), any::<bool>(), reason, any::<u64>());
    (head, flow(), vec(rule(), 0..3)).prop_map(|(head, flow, rules)| {
        let (id, number, last, end_reason, records) = head;
        let flow_id = FlowId(id);
        let slice = Slice { flow_id, number, last, end_reason, records, flow, fired: Vec::new() };
        let excluded = rules.is_empty().then(|| "lab".into());
        TaggedSlice { slice, rules, excluded, verdict: None }
    })
}

pub(crate) fn alert() -> impl Strategy<Value = Alert> {
    let evidence = (text(), text(), text()).prop_map(|(field, predicate, value)| Evidence {
        field,
        predicate,
        value,
    });
    let head = (any::<u128>(), any::<i64>(), any::<u128>(), any::<u64>());
    (head, rule(), vec(evidence, 0..3), flow().boxed(), of(verdict()).boxed()).prop_map(
        |((id, time, flow_id, suppressed), rule, evidence, mut flow, verdict)| {
            // A sequence has no initiator's port, and at times no responder's.
            if verdict.is_some() {
                flow.src_port = 0;
                flow.dst_port = flow.dst_port.saturating_sub(40_000);
            }
            Alert {
                id,
                time: Micros(time),
                rule,
                evidence,
                flow_id: FlowId(flow_id),
                flow,
                suppressed,
                arrived: None,
                verdict,
            }
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let class = proptest::sample::select(&Class::ALL[..]);
    let attack = of((text(), text()));
    let sequence = (any::<i64>(), any::<u32>());
    // Texts of such numbers read back exactly.
    let score = (0..=1_024_u16).prop_map(|part| f64::from(part) / 1_024.0);
    (class, score, attack, sequence).prop_map(|(class, score, attack, sequence)| Verdict {
        class: Some(class),
        score,
        attack: attack.map(|(tactic, technique)| Attack {
            tactic: tactic.into(),
            technique: technique.into(),
        }),
        sequence: Sequence { start_ms: sequence.0, ordinal: sequence.1 },
    })
}

pub(crate) fn context() -> Context {
    Context {
        sensor: "probe \"1\"".into(),
        sites: vec!["default".into(), "north, east".into()],
        exporters: [(Addr::v4(7), "edge".to_owned())].into(),
        community_id: true,
        ..Context::default()
    }
}
