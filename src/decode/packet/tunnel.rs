//! Tunnels: to the inner packet and back out if there is none.
//!
//! Each opener checks what its header must say, then parses on; whatever fails inside gives the
//! outer packet back to plain metering. Ports alone prove nothing, so an inner IP header must be
//! sound and fit into the outer payload.

use super::exception::{Exception, Layer};
use super::ip::{Ip, protocol};
use super::link::{IPV4, IPV6, not_ip};
use super::{Span, Walk, be16};
use crate::flow::record::{PacketRecord, Tunnel, TunnelKind};
use crate::net::Addr;

/// Result of an opener.
type Parsed = Result<PacketRecord, Exception>;

/// Transparent Ethernet bridging.
const BRIDGED: u16 = 0x6558;
/// Cache redirection: IPv4, in version 2 behind a redirect header of 4 octets.
const WCCP: u16 = 0x883e;
/// GTP extension headers of one packet, at most.
const GTP_EXTENSIONS_MAX: usize = 8;

impl Walk<'_> {
    /// The innermost flow of the tunnel that `ip` carries, or `None` if it is none that we know.
    #[inline]
    pub(super) fn open_tunnel(&mut self, ip: &Ip, span: Span) -> Option<PacketRecord> {
        if ip.protocol == protocol::UDP {
            let h = self.captured(span).first_chunk::<4>()?;
            let (src, dst) = (be16([h[0], h[1]]), be16([h[2], h[3]]));
            if !matches!(dst, 4789 | 8472 | 6081 | 2152 | 3544) && src != 3544 {
                return None;
            }
            let inner = Span { strict: true, ..span.skip(8) };
            return match dst {
                4789 | 8472 => self.guess(|walk| walk.vxlan(ip, inner)),
                6081 => self.guess(|walk| walk.geneve(ip, inner)),
                2152 => self.guess(|walk| walk.gtp_u(ip, inner)),
                _ => self.guess(|walk| walk.teredo(ip, inner)),
            }
            .ok();
        }
        let inner = Span { strict: true, ..span };
        match ip.protocol {
            protocol::GRE => self.guess(|walk| walk.gre(ip, inner)),
            protocol::IPV4 => self.guess(|walk| {
                walk.enter(TunnelKind::IpInIp, ip, 0);
                walk.ipv4(inner)
            }),
            _ => self.guess(|walk| {
                let kind = if ip.src.is_v4() { TunnelKind::SixInFour } else { TunnelKind::IpInIp };
                walk.enter(kind, ip, 0);
                walk.ipv6(inner)
            }),
        }
        .ok()
    }

    /// Notes the tunnel. What fails later is undone by [`Walk::guess`].
    fn enter(&mut self, kind: TunnelKind, ip: &Ip, id: u32) {
        let (src, dst): (Addr, Addr) = (ip.src, ip.dst);
        self.tunnel = Some(Tunnel { kind, src, dst, id });
        self.depth += 1;
    }

    /// VXLAN (RFC 7348 §5): the I flag, a VNI, Ethernet.
    fn vxlan(&mut self, ip: &Ip, span: Span) -> Parsed {
        let h = self.need::<8>(span, Layer::Link)?;
        if h[0] & 0x08 == 0 {
            return Err(not_ip(span.at, be16([h[0], h[1]])));
        }
        self.enter(TunnelKind::Vxlan, ip, u32::from_be_bytes([0, h[4], h[5], h[6]]));
        self.ethernet(span.skip(8))
    }

    /// Geneve (RFC 8926 §3.4): version 0, options skipped, no control packets.
    fn geneve(&mut self, ip: &Ip, span: Span) -> Parsed {
        let h = self.need::<8>(span, Layer::Link)?;
        let kind = be16([h[2], h[3]]);
        if h[0] >> 6 != 0 || h[1] & 0x80 != 0 {
            return Err(not_ip(span.at, be16([h[0], h[1]])));
        }
        self.enter(TunnelKind::Geneve, ip, u32::from_be_bytes([0, h[4], h[5], h[6]]));
        let inner = span.skip(8 + usize::from(h[0] & 0x3f) * 4);
        match kind {
            BRIDGED => self.ethernet(inner),
            IPV4 | IPV6 => self.ethertype(kind, span.at + 2, inner),
            found => Err(not_ip(span.at + 2, found)),
        }
    }

    /// GTP-U version 1 (3GPP TS 29.281 §5): a T-PDU, its extension headers skipped.
    fn gtp_u(&mut self, ip: &Ip, span: Span) -> Parsed {
        let h = self.need::<8>(span, Layer::Link)?;
        // Version 1, protocol type GTP; message type 255 is a T-PDU.
        if h[0] & 0xf0 != 0x30 || h[1] != 0xff {
            return Err(not_ip(span.at, be16([h[0], h[1]])));
        }
        let end = span.at + 8 + usize::from(be16([h[2], h[3]]));
        if end > span.end {
            return Err(self.missing(span, end - span.at, Layer::Link));
        }
        let mut inner = Span { end, ..span.skip(8) };
        if h[0] & 0x07 != 0 {
            let optional = self.need::<4>(inner, Layer::Link)?;
            let mut next = if h[0] & 0x04 != 0 { optional[3] } else { 0 };
            inner = inner.skip(4);
            for _ in 0..GTP_EXTENSIONS_MAX {
                if next == 0 {
                    break;
                }
                let units = usize::from(self.need::<1>(inner, Layer::Link)?[0]);
                let octets = units * 4;
                let last = Span { at: (inner.at + octets).saturating_sub(1), ..inner };
                if units == 0 {
                    return Err(self.missing(inner, 4, Layer::Link));
                }
                next = self.need::<1>(last, Layer::Link)?[0];
                inner = inner.skip(octets);
            }
            if next != 0 {
                return Err(Exception::HeadersBeyondBound { offset: super::bound(inner.at) });
            }
        }
        self.enter(TunnelKind::GtpU, ip, u32::from_be_bytes([h[4], h[5], h[6], h[7]]));
        self.ip(inner)
    }

    /// Teredo (RFC 4380 §5.1.1): authentication and origin indication, each at most once, skipped.
    fn teredo(&mut self, ip: &Ip, span: Span) -> Parsed {
        let mut inner = span;
        let captured = self.captured(inner);
        if let [0, 1, id_len, auth_len, ..] = *captured {
            inner = inner.skip(4 + usize::from(id_len) + usize::from(auth_len) + 9);
        }
        if self.captured(inner).starts_with(&[0, 0]) {
            inner = inner.skip(8);
        }
        self.enter(TunnelKind::Teredo, ip, 0);
        self.ipv6(inner)
    }

    /// GRE version 0 (RFC 2784, RFC 2890) and version 1 (RFC 2637, PPTP).
    fn gre(&mut self, ip: &Ip, span: Span) -> Parsed {
        let h = self.need::<4>(span, Layer::Link)?;
        let (flags, kind) = (be16([h[0], h[1]]), be16([h[2], h[3]]));
        let (checksum, routing) = (flags & 0x8000 != 0, flags & 0x4000 != 0);
        let (key, sequence) = (flags & 0x2000 != 0, flags & 0x1000 != 0);
        let (version, acknowledged) = (flags & 7, flags & 0x80 != 0);
        // Source routes (RFC 1701) have left the Internet.
        if version > 1 || routing || (version == 1) != (kind == 0x880b) {
            return Err(not_ip(span.at, flags));
        }
        let mut inner = span.skip(if checksum { 8 } else { 4 });
        let mut id = 0;
        if key {
            let k = self.need::<4>(inner, Layer::Link)?;
            // PPTP: payload length, then the call id.
            id = if version == 1 { u32::from(be16([k[2], k[3]])) } else { u32::from_be_bytes(*k) };
            inner = inner.skip(4);
        }
        inner = inner.skip(4 * (usize::from(sequence) + usize::from(acknowledged)));
        match kind {
            0x88be => self.erspan(ip, sequence, inner),
            0x22eb => self.erspan_iii(ip, inner),
            _ => {
                self.enter(TunnelKind::Gre, ip, id);
                match kind {
                    BRIDGED => self.ethernet(inner),
                    0x880b => self.ppp(inner),
                    WCCP => {
                        let redirected = self.captured(inner).first().is_some_and(|o| o >> 4 != 4);
                        self.ipv4(if redirected { inner.skip(4) } else { inner })
                    }
                    IPV4 | IPV6 | 0x8847 | 0x8848 => self.ethertype(kind, span.at + 2, inner),
                    found => Err(not_ip(span.at + 2, found)),
                }
            }
        }
    }

    /// ERSPAN type I (no header; GRE without a sequence number) and type II
    /// (draft-foschiano-erspan-03 §4.1, §4.2).
    fn erspan(&mut self, ip: &Ip, sequence: bool, span: Span) -> Parsed {
        if !sequence {
            self.enter(TunnelKind::Erspan, ip, 0);
            return self.ethernet(span);
        }
        let h = self.need::<8>(span, Layer::Link)?;
        if h[0] >> 4 != 1 {
            return Err(not_ip(span.at, be16([h[0], h[1]])));
        }
        let session = be16([h[2], h[3]]);
        self.enter(TunnelKind::Erspan, ip, u32::from(session & 0x3ff));
        self.ethernet(mirrored(session, span).skip(8))
    }

    /// ERSPAN type III (draft-foschiano-erspan-03 §4.3), of Ethernet frames and IP packets.
    fn erspan_iii(&mut self, ip: &Ip, span: Span) -> Parsed {
        let h = self.need::<12>(span, Layer::Link)?;
        if h[0] >> 4 != 2 {
            return Err(not_ip(span.at, be16([h[0], h[1]])));
        }
        let (session, trailer) = (be16([h[2], h[3]]), be16([h[10], h[11]]));
        self.enter(TunnelKind::Erspan, ip, u32::from(session & 0x3ff));
        let inner = mirrored(session, span).skip(if trailer & 1 == 1 { 20 } else { 12 });
        match (trailer >> 10) & 0x1f {
            0 => self.ethernet(inner),
            2 => self.ip(inner),
            found => Err(not_ip(span.at + 10, found)),
        }
    }
}

/// A mirrored frame may have been cut by the switch, which the T bit says: then the inner length
/// is larger than what is carried.
fn mirrored(session: u16, span: Span) -> Span {
    Span { strict: session & 0x0400 == 0, ..span }
}
