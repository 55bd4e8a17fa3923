//! Frames to packet records: link layers, IP, transport, and the tunnels in between.
//!
//! [`parse`] takes one captured frame and gives the record of its innermost flow, or one named
//! [`Exception`]; nothing is dropped without a name. It allocates nothing and looks at each header
//! once: the headers of a packet are bounded by [`HEADERS_MAX`], IPv6 extension headers by
//! [`EXTENSIONS_MAX`], tunnels by [`Options::depth_max`].
//!
//! Octets come from the IP header's length field, never from the captured length; where the field
//! is 0 (segmentation offload, jumbograms), from the length on the wire. A length field that claims
//! more than the wire carried is believed for the outermost header ([`claims_beyond_wire`] tells);
//! inside a tunnel it must fit, else what looked like a tunnel is metered as the plain outer packet.
//! Link trailers and padding are never payload. Checksums are not looked at: offload leaves them
//! wrong in captures of one's own host.

mod exception;
mod ip;
mod link;
mod transport;
mod tunnel;

pub use exception::{Exception, Layer};
pub use link::LinkType;

use crate::config;
use crate::flow::record::{PacketRecord, Tunnel};
use crate::net::Addr;

/// Link headers, MPLS stacks and tunnels that are walked in one packet, at most, attempts included.
pub const HEADERS_MAX: u8 = 32;
/// IPv6 extension headers of one IP header, at most.
pub const EXTENSIONS_MAX: usize = 16;
/// IP octets over which a packet is a giant: more than a jumbo frame can carry, so that it was
/// joined by receive offload (GRO, LRO) or will be cut by segmentation offload (TSO).
pub const GIANT_OCTETS: u32 = 9_216;

/// What is opened on the way in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Open tunnels and meter the innermost flow. Else the outer packet is metered.
    pub tunnels: bool,
    /// Tunnels opened one inside the other, at most. What is deeper is metered as it is there.
    pub depth_max: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self::from(&config::Flow::default())
    }
}

impl From<&config::Flow> for Options {
    fn from(flow: &config::Flow) -> Self {
        Self { tunnels: flow.tunnels, depth_max: flow.tunnel_depth_max }
    }
}

/// Parses one frame down to its innermost flow.
///
/// `frame` is what was captured, untrusted; `wire_len` its length on the wire (a value below
/// `frame.len()` counts as that). The caller fills [`PacketRecord::stamp`], [`PacketRecord::time`]
/// and [`PacketRecord::site`], which are left at their defaults. `payload` is what follows the
/// transport header: of ICMP, what follows its first 8 octets; of protocols without a parser, all
/// that follows IP. A later fragment has ports 0 and its whole content as payload. Fragments of a
/// tunnelled datagram are metered as the outer flow, all of them.
///
/// # Errors
/// One [`Exception`], whose [`Exception::reason`] is the label under which it is counted.
///
/// # Source
/// RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443, RFC 9260; of links and tunnels at
/// their functions.
pub fn parse(
    link: LinkType,
    frame: &[u8],
    wire_len: u32,
    options: &Options,
) -> Result<PacketRecord, Exception> {
    let wire_end = (wire_len as usize).max(frame.len());
    let mut walk = Walk {
        frame,
        wire_end,
        options: *options,
        vlan: None,
        tunnel: None,
        depth: 0,
        headers_left: HEADERS_MAX,
        transport_at: 0,
    };
    walk.link(link, Span { at: 0, end: wire_end, strict: false })
}

/// A UDP datagram in a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UdpDatagram<'a> {
    /// Who sent it.
    pub src: Addr,
    /// From which port.
    pub src_port: u16,
    /// To which port.
    pub dst_port: u16,
    /// Its payload, as far as it was captured.
    pub payload: &'a [u8],
}

/// The UDP datagram that `frame` carries outside of any tunnel, if it carries a whole one: of a
/// fragmented datagram there is none.
#[must_use]
pub fn udp_payload(link: LinkType, frame: &[u8]) -> Option<UdpDatagram<'_>> {
    let mut walk = Walk {
        frame,
        wire_end: frame.len(),
        options: Options { tunnels: false, depth_max: 1 },
        vlan: None,
        tunnel: None,
        depth: 0,
        headers_left: HEADERS_MAX,
        transport_at: 0,
    };
    let record = walk.link(link, Span { at: 0, end: frame.len(), strict: false }).ok()?;
    if record.protocol != ip::protocol::UDP || record.fragment.is_some() {
        return None;
    }
    let captured = frame.get(walk.transport_at + 8..)?;
    let payload = &captured[..captured.len().min(record.payload as usize)];
    let PacketRecord { src, src_port, dst_port, .. } = record;
    Some(UdpDatagram { src, src_port, dst_port, payload })
}

/// Whether the packet is larger than any frame on a wire, see [`GIANT_OCTETS`]: packet counts are
/// too low then.
#[must_use]
pub const fn is_giant(record: &PacketRecord) -> bool {
    record.octets > GIANT_OCTETS
}

/// Whether the IP header claims more octets than the whole frame had on the wire.
#[must_use]
pub const fn claims_beyond_wire(record: &PacketRecord) -> bool {
    record.octets > record.octets_l2
}

/// A stretch of the frame, in absolute offsets.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Where the next header starts.
    at: usize,
    /// Where the enclosing layer ends, by its own length field; may be beyond what was captured.
    end: usize,
    /// Whether an IP header inside must fit into the span: true inside of tunnels.
    strict: bool,
}

impl Span {
    /// The span from `n` octets on.
    const fn skip(self, n: usize) -> Self {
        Self { at: self.at + n, ..self }
    }

    /// Octets of the span by its length field.
    const fn len(self) -> usize {
        self.end.saturating_sub(self.at)
    }
}

/// One walk through one frame.
struct Walk<'a> {
    frame: &'a [u8],
    /// Where the frame ended on the wire; at least `frame.len()`.
    wire_end: usize,
    options: Options,
    /// Outermost VLAN id so far.
    vlan: Option<u16>,
    /// The tunnel that we are in.
    tunnel: Option<Tunnel>,
    depth: u8,
    headers_left: u8,
    /// Where the transport header of the innermost flow starts.
    transport_at: usize,
}

impl<'a> Walk<'a> {
    /// The first `N` octets of `span`, or why they are not there.
    #[inline]
    fn need<const N: usize>(&self, span: Span, layer: Layer) -> Result<&'a [u8; N], Exception> {
        let captured = self.captured(span);
        match captured.first_chunk::<N>() {
            Some(octets) => Ok(octets),
            None => Err(self.missing(span, N, layer)),
        }
    }

    /// What of `span` was captured.
    #[inline]
    fn captured(&self, span: Span) -> &'a [u8] {
        let end = span.end.min(self.frame.len());
        self.frame.get(span.at..end).unwrap_or(&[])
    }

    /// Why `need` octets at `span` are not there: because the capture was cut, or because the
    /// layer itself is too short.
    #[cold]
    fn missing(&self, span: Span, need: usize, layer: Layer) -> Exception {
        let (offset, have) = (bound(span.at), bound(self.captured(span).len()));
        let need_end = span.at.saturating_add(need);
        if need_end <= span.end && need_end <= self.wire_end {
            return Exception::TruncatedCapture { offset, need: bound(need), have };
        }
        Exception::Short { layer, offset, need: bound(need), have }
    }

    /// Takes one of the [`HEADERS_MAX`] headers.
    fn spend(&mut self, span: Span) -> Result<(), Exception> {
        match self.headers_left.checked_sub(1) {
            Some(left) => self.headers_left = left,
            None => return Err(Exception::HeadersBeyondBound { offset: bound(span.at) }),
        }
        Ok(())
    }
}

/// `n` as 32 bits; offsets and lengths here are below 2³² but for absurd claims, which saturate.
fn bound(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The 16-bit integer at the start of `octets`, big-endian.
const fn be16(octets: [u8; 2]) -> u16 {
    u16::from_be_bytes(octets)
}
