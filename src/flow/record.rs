//! What decoders produce: one [`FlowRecord`] per exported flow record or CSV row, and one
//! [`PacketRecord`] per metered packet.

use std::sync::Arc;

use crate::net::Addr;
use crate::time::Micros;

/// TCP flags as in IE 6 (tcpControlBits): FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64,
/// CWR 128, NS 256.
pub type TcpFlags = u16;

/// FIN.
pub const FIN: TcpFlags = 0x01;
/// SYN.
pub const SYN: TcpFlags = 0x02;
/// RST.
pub const RST: TcpFlags = 0x04;
/// PSH.
pub const PSH: TcpFlags = 0x08;
/// ACK.
pub const ACK: TcpFlags = 0x10;

/// Who saw a flow: an exporter, its observation domain, the interface and the direction there.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObservationPoint {
    /// The exporter's address; [`Addr::UNSPECIFIED`] for packets and files without one.
    pub exporter: Addr,
    /// Observation domain (IPFIX), source id (v9), or engine type and id (v5: type << 8 | id).
    pub domain: u32,
    /// The interface that saw it: ingress interface for direction 0, egress for 1.
    pub interface: u32,
    /// IE 61: 0 ingress, 1 egress; 255 not exported.
    pub direction: u8,
}

/// Counters of one direction in one record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// IP octets (IE 1), from the IP header's length, never the captured length.
    pub octets: u64,
    /// Packets (IE 2).
    pub packets: u64,
    /// Layer-2 octets (IE 352), if known.
    pub octets_l2: Option<u64>,
    /// Transport payload octets, if known.
    pub payload: Option<u64>,
    /// Union of the TCP flags, if exported.
    pub tcp_flags: Option<TcpFlags>,
}

impl Counters {
    /// Whether anything was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets == 0 && self.packets == 0
    }
}

/// Interned text, shared between threads: interface, VRF and application names.
pub type Name = Arc<str>;

/// One flow record as an exporter (or a CSV row) gave it, in its own direction: `src` sent what
/// `fwd` counts. A biflow record (RFC 5103, IE 231/232/298/299) carries both directions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowRecord {
    /// The input clock's stamp: when the datagram arrived; for CSV the row's end time.
    pub stamp: Micros,
    /// Index of the exporter's site in the configuration; 0 is the default site.
    pub site: u16,
    /// VRF id (IE 234 or 235), 0 where not exported.
    pub vrf: u32,
    /// Source address (IE 8, 27).
    pub src: Addr,
    /// Destination address (IE 12, 28).
    pub dst: Addr,
    /// Source port (IE 7); for ICMP 0.
    pub src_port: u16,
    /// Destination port (IE 11); for ICMP type << 8 | code (IE 32, 139).
    pub dst_port: u16,
    /// IP protocol (IE 4).
    pub protocol: u8,
    /// Type of service (IE 5) of the first packet.
    pub tos: Option<u8>,
    /// VLAN id (IE 58, 59, 243).
    pub vlan: Option<u16>,
    /// First packet's time, clamped by the decoder to a plausible value.
    pub first: Micros,
    /// Last packet's time; never before `first`.
    pub last: Micros,
    /// Source to destination.
    pub fwd: Counters,
    /// Destination to source: of a biflow record only.
    pub bwd: Option<Counters>,
    /// Who saw it.
    pub point: ObservationPoint,
    /// Ingress interface (IE 10).
    pub in_if: Option<u32>,
    /// Egress interface (IE 14).
    pub out_if: Option<u32>,
    /// Ingress interface's name, where options data or the configuration gives it.
    pub in_if_name: Option<Name>,
    /// Egress interface's name.
    pub out_if_name: Option<Name>,
    /// VRF name (IE 236), where exported.
    pub vrf_name: Option<Name>,
    /// Application name, where exported.
    pub application: Option<Name>,
    /// Sampling interval: one of so many packets was seen. 1: known to be unsampled; 0: unknown.
    pub sampling_interval: u32,
    /// Flow end reason (IE 136): 1 idle, 2 active, 3 end of flow, 4 forced, 5 lack of resources.
    pub end_reason: Option<u8>,
    /// Biflow direction (IE 239): 1 initiator, 2 reverse initiator, 3 perimeter.
    pub biflow_direction: Option<u8>,
    /// Autonomous system numbers (IE 16, 17).
    pub src_asn: Option<u32>,
    /// Of the destination.
    pub dst_asn: Option<u32>,
    /// Idle timeout that fits this exporter, in microseconds: above its active timeout as learnt.
    /// 0: the table's own.
    pub idle_timeout_us: i64,
}

/// Tunnel that a packet was taken out of, and its outer endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tunnel {
    /// What kind.
    pub kind: TunnelKind,
    /// Outer source of the innermost tunnel.
    pub src: Addr,
    /// Outer destination.
    pub dst: Addr,
    /// VNI, GRE key, GTP TEID, ERSPAN session; 0 where there is none.
    pub id: u32,
}

/// Encapsulations that are opened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are the protocols'")]
pub enum TunnelKind {
    Gre,
    Erspan,
    IpInIp,
    SixInFour,
    Vxlan,
    Geneve,
    GtpU,
    Teredo,
}

impl TunnelKind {
    /// All of them, as declared.
    pub const ALL: [Self; 8] = [
        Self::Gre,
        Self::Erspan,
        Self::IpInIp,
        Self::SixInFour,
        Self::Vxlan,
        Self::Geneve,
        Self::GtpU,
        Self::Teredo,
    ];

    /// The name on the way out.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::IpInIp => "ipip",
            Self::SixInFour => "6in4",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtp-u",
            Self::Teredo => "teredo",
        }
    }
}

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment {
    /// IPv4 identification or the IPv6 fragment header's.
    pub id: u32,
    /// Offset in octets; 0 is the first, the only one that carries ports.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// What a TCP header says that the flow's state needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpHeader {
    /// Flags.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
}

/// One packet, parsed down to its innermost flow: `src` sent it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PacketRecord {
    /// The input clock's stamp.
    pub stamp: Micros,
    /// The packet's own time; may be before `stamp` where a capture runs backwards.
    pub time: Micros,
    /// Site of the capture; 0 is the default.
    pub site: u16,
    /// Source address of the innermost IP header.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port; of ICMP the type; 0 where there is none or a later fragment hides it.
    pub src_port: u16,
    /// Destination port; of ICMP the code.
    pub dst_port: u16,
    /// Protocol after extension headers.
    pub protocol: u8,
    /// Traffic class or type of service.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Outermost VLAN id.
    pub vlan: Option<u16>,
    /// IP octets of the innermost header (header and payload), from its length fields.
    pub octets: u32,
    /// Octets of the whole frame on the wire.
    pub octets_l2: u32,
    /// Transport payload octets.
    pub payload: u32,
    /// TCP only.
    pub tcp: Option<TcpHeader>,
    /// Set for fragments of the innermost header.
    pub fragment: Option<Fragment>,
    /// Set where the packet came out of a tunnel.
    pub tunnel: Option<Tunnel>,
}
