//! A flow as the outside sees it: oriented, with names of the canonical schema's ideas.

use std::fmt;

use serde::Serialize;

use super::record::{Name, ObservationPoint, TcpFlags, Tunnel};
use crate::net::Addr;
use crate::time::Micros;

/// 128-bit hash of (site, VRF, 5-tuple, first time): the same input gives the same id.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowId(pub u128);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Side {
    /// IP octets, as exported: not scaled by sampling.
    pub octets: u64,
    /// Packets, as exported.
    pub packets: u64,
    /// Layer-2 octets; `None` where the source does not tell.
    pub octets_l2: Option<u64>,
    /// Transport payload octets.
    pub payload: Option<u64>,
    /// Union of TCP flags; `None` where not TCP or not exported.
    pub tcp_flags: Option<TcpFlags>,
    /// TCP flags of the first packet; of packets only.
    pub first_flags: Option<TcpFlags>,
    /// Retransmitted TCP segments; of packets only.
    pub retransmits: Option<u32>,
    /// Time to live of the first packet; of packets only.
    pub ttl: Option<u8>,
}

/// Where a flow goes, by `networks.home`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From home to elsewhere.
    Outbound,
    /// From elsewhere to home.
    Inbound,
    /// Both ends at home.
    Internal,
    /// Neither end at home.
    #[default]
    External,
}

impl Direction {
    /// The name on the way out.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Internal => "internal",
            Self::External => "external",
        }
    }

    /// Whether the initiator is at home: Sigma's `Initiated`.
    #[must_use]
    pub const fn initiated(self) -> bool {
        matches!(self, Self::Outbound | Self::Internal)
    }
}

/// What decided who the initiator is; earlier variants are stronger.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionBy {
    /// IE 239 (biflowDirection), or a CSV that says so by its columns.
    Exporter,
    /// A SYN without ACK, or a SYN/ACK whose sender answers.
    Syn,
    /// The earlier start of the two directions, same exporter.
    Start,
    /// A service port against an ephemeral one, else the lower port.
    Port,
    /// The sender of the first packet or record.
    #[default]
    First,
}

impl DirectionBy {
    /// The name on the way out.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::Syn => "syn",
            Self::Start => "start",
            Self::Port => "port",
            Self::First => "first",
        }
    }
}

/// TCP state of a flow from packets, as far as it was seen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TcpState {
    /// A SYN, no answer.
    #[default]
    Attempt,
    /// SYN and SYN/ACK seen, or data both ways in mid-stream.
    Established,
    /// FIN from both sides.
    Closed,
    /// RST seen.
    Reset,
}

impl TcpState {
    /// The name on the way out.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }
}

/// Why a slice was cut: IE 136 (flowEndReason).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// 1: the idle timeout passed.
    #[default]
    Idle,
    /// 2: the active timeout; the flow goes on.
    Active,
    /// 3: FIN or RST, or both directions reported their end.
    EndOfFlow,
    /// 4: shutdown or end of input.
    Forced,
    /// 5: evicted because the table was full.
    LackOfResources,
}

impl EndReason {
    /// The name on the way out.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::EndOfFlow => "end_of_flow",
            Self::Forced => "forced",
            Self::LackOfResources => "lack_of_resources",
        }
    }
}

/// A bidirectional flow, oriented: `src` is the initiator. Counters are cumulated over the flow's
/// life where rules see it, and deltas in a [`Slice`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Biflow {
    /// Index of the site in the configuration.
    pub site: u16,
    /// VRF id, 0 where not exported.
    pub vrf: u32,
    /// VRF name, where exported.
    pub vrf_name: Option<Name>,
    /// The initiator.
    pub src: Addr,
    /// The responder.
    pub dst: Addr,
    /// The initiator's port; of ICMP the type of the initiator's message.
    pub src_port: u16,
    /// The responder's port; of ICMP the code.
    pub dst_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Start: of the flow, or of the slice.
    pub first: Micros,
    /// End; never before `first`.
    pub last: Micros,
    /// Initiator to responder.
    pub fwd: Side,
    /// Responder to initiator.
    pub bwd: Side,
    /// The owner of the forward direction (or of the only one): its exporter and domain.
    pub point: ObservationPoint,
    /// Every exporter that reported the flow, in order of appearance; bounded.
    pub exporters: Vec<Addr>,
    /// Ingress interface of the forward direction.
    pub in_if: Option<u32>,
    /// Egress interface.
    pub out_if: Option<u32>,
    /// Its name.
    pub in_if_name: Option<Name>,
    /// Its name.
    pub out_if_name: Option<Name>,
    /// Application name, where exported.
    pub application: Option<Name>,
    /// VLAN id.
    pub vlan: Option<u16>,
    /// Type of service of the first packet.
    pub tos: Option<u8>,
    /// TCP state; of packets only.
    pub tcp_state: Option<TcpState>,
    /// Time from SYN to the initiator's ACK of the SYN/ACK, in microseconds; of packets only.
    pub rtt_us: Option<u32>,
    /// By home networks.
    pub direction: Direction,
    /// What decided the orientation.
    pub direction_by: DirectionBy,
    /// One of so many packets was seen; `None` = unknown.
    pub sampling_interval: Option<u32>,
    /// Of the initiator's address.
    pub src_asn: Option<u32>,
    /// Of the responder's address.
    pub dst_asn: Option<u32>,
    /// The tunnel it came out of.
    pub tunnel: Option<Tunnel>,
}

impl Biflow {
    /// Duration in microseconds.
    #[must_use]
    pub const fn duration_us(&self) -> i64 {
        self.last.since(self.first)
    }

    /// The factor by which rules and model scale counters: the sampling interval, 1 if unknown.
    #[must_use]
    pub fn scale(&self) -> u64 {
        u64::from(self.sampling_interval.unwrap_or(1).max(1))
    }
}

/// A slice: what is shipped of a flow at its end or at the active timeout. The record's identity is
/// (`flow_id`, `number`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The flow's identity, the same on each of its slices.
    pub flow_id: FlowId,
    /// 0 for the first slice of a flow.
    pub number: u32,
    /// Whether the flow ended with it.
    pub last: bool,
    /// Why it was cut.
    pub end_reason: EndReason,
    /// Records (or packets) merged into it.
    pub records: u64,
    /// The flow with this slice's counters and times.
    pub flow: Biflow,
    /// Interned ids of the rules that fired over the flow so far, in order of firing.
    pub fired: Vec<u32>,
}
