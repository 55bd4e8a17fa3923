//! Link layers: from the start of a frame to the IP header.

use std::fmt;

use super::exception::{Exception, Layer};
use super::{Span, Walk, be16, bound};
use crate::flow::record::PacketRecord;

/// A link type by its number in the registry of pcap files (LINKTYPE_*), which is also libpcap's
/// DLT_* for those that are decoded here.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkType(pub u16);

#[expect(missing_docs, reason = "the names are the registry's")]
impl LinkType {
    pub const NULL: Self = Self(0);
    pub const ETHERNET: Self = Self(1);
    pub const PPP: Self = Self(9);
    /// DLT_RAW of most systems.
    pub const RAW_12: Self = Self(12);
    /// DLT_RAW of OpenBSD.
    pub const RAW_14: Self = Self(14);
    /// PPP in HDLC-like framing, or Cisco HDLC.
    pub const PPP_HDLC: Self = Self(50);
    pub const PPP_ETHER: Self = Self(51);
    pub const RAW: Self = Self(101);
    pub const C_HDLC: Self = Self(104);
    pub const LOOP: Self = Self(108);
    pub const LINUX_SLL: Self = Self(113);
    /// PPP with a direction octet in place of the address.
    pub const PPP_PPPD: Self = Self(166);
    pub const IPV4: Self = Self(228);
    pub const IPV6: Self = Self(229);
    pub const LINUX_SLL2: Self = Self(276);

    /// Those that are decoded.
    pub const SUPPORTED: [Self; 15] = [
        Self::NULL,
        Self::ETHERNET,
        Self::PPP,
        Self::RAW_12,
        Self::RAW_14,
        Self::PPP_HDLC,
        Self::PPP_ETHER,
        Self::RAW,
        Self::C_HDLC,
        Self::LOOP,
        Self::LINUX_SLL,
        Self::PPP_PPPD,
        Self::IPV4,
        Self::IPV6,
        Self::LINUX_SLL2,
    ];
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// ARPHRD_NETLINK: the protocol field of a cooked header is a netlink family then.
const ARPHRD_NETLINK: u16 = 824;
/// In a cooked header: what follows is an LLC header.
const SLL_802_2: u16 = 4;
/// EtherTypes below are lengths of IEEE 802.3 frames.
const ETHERTYPE_LEAST: u16 = 0x600;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

/// Result of every step.
type Parsed = Result<PacketRecord, Exception>;

impl Walk<'_> {
    /// Whatever `link` carries.
    #[inline]
    pub(super) fn link(&mut self, link: LinkType, span: Span) -> Parsed {
        match link {
            LinkType::ETHERNET => self.ethernet(span),
            LinkType::RAW_12 | LinkType::RAW_14 | LinkType::RAW => self.ip(span),
            LinkType::IPV4 => self.ipv4(span),
            LinkType::IPV6 => self.ipv6(span),
            LinkType::LINUX_SLL => self.cooked(span),
            LinkType::LINUX_SLL2 => self.cooked_v2(span),
            LinkType::NULL | LinkType::LOOP => self.loopback(span),
            LinkType::PPP => self.ppp(span),
            LinkType::PPP_HDLC => self.hdlc(span),
            LinkType::PPP_PPPD => self.ppp_protocol(span.skip(2)),
            LinkType::PPP_ETHER => self.pppoe(span),
            LinkType::C_HDLC => self.cisco_hdlc(span),
            LinkType(link) => Err(Exception::UnsupportedLink { link }),
        }
    }

    /// Ethernet II or IEEE 802.3.
    #[inline]
    pub(super) fn ethernet(&mut self, span: Span) -> Parsed {
        let header = self.need::<14>(span, Layer::Link)?;
        self.ethertype(be16([header[12], header[13]]), span.at + 12, span.skip(14))
    }

    /// What stands after an EtherType that was found at `at`.
    #[inline]
    pub(super) fn ethertype(&mut self, kind: u16, at: usize, span: Span) -> Parsed {
        let (mut kind, mut at, mut span) = (kind, at, span);
        loop {
            return match kind {
                IPV4 => self.ipv4(span),
                IPV6 => self.ipv6(span),
                // IEEE 802.1Q, 802.1ad and what came before it.
                0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                    self.spend(span)?;
                    let tag = self.need::<4>(span, Layer::Link)?;
                    let id = be16([tag[0], tag[1]]) & 0xfff;
                    // Id 0 is a priority tag: it names no VLAN.
                    if self.vlan.is_none() && id != 0 {
                        self.vlan = Some(id);
                    }
                    kind = be16([tag[2], tag[3]]);
                    at = span.at + 2;
                    span = span.skip(4);
                    continue;
                }
                0x8847 | 0x8848 => self.mpls(span),
                0x8864 => self.pppoe(span),
                0..ETHERTYPE_LEAST => self.llc(span),
                found => Err(not_ip(at, found)),
            };
        }
    }

    /// IEEE 802.2 LLC with SNAP, or IP by its own SAP (RFC 1042).
    fn llc(&mut self, span: Span) -> Parsed {
        let sap = self.need::<3>(span, Layer::Link)?;
        match *sap {
            [0xaa, 0xaa, 0x03] => {
                let snap = self.need::<8>(span, Layer::Link)?;
                let kind = be16([snap[6], snap[7]]);
                let encapsulated = matches!(snap[3..6], [0, 0, 0] | [0, 0, 0xf8]);
                if !encapsulated || kind < ETHERTYPE_LEAST {
                    return Err(not_ip(span.at + 6, kind));
                }
                self.spend(span)?;
                self.ethertype(kind, span.at + 6, span.skip(8))
            }
            [0x06, 0x06, 0x03] => self.ipv4(span.skip(3)),
            _ => Err(not_ip(span.at, be16([sap[0], sap[1]]))),
        }
    }

    /// An MPLS label stack (RFC 3032), and by the first four bits what it carries: IPv4, IPv6, or
    /// an Ethernet pseudowire with a control word (RFC 4448); else one without.
    pub(super) fn mpls(&mut self, span: Span) -> Parsed {
        let mut span = span;
        loop {
            self.spend(span)?;
            let label = self.need::<4>(span, Layer::Link)?;
            span = span.skip(4);
            if label[2] & 1 == 1 {
                break;
            }
        }
        let first = match *self.need::<2>(span, Layer::Link)? {
            [0x40..=0x4f, _] => self.ipv4(span),
            [0x60..=0x6f, _] => self.ipv6(span),
            // The control word: four bits and twelve reserved ones, all 0, and a sequence number.
            [0, 0] => self.guess(|walk| walk.ethernet(span.skip(4))),
            found => Err(not_ip(span.at, be16(found))),
        };
        let Err(exception) = first else { return first };
        self.guess(|walk| walk.ethernet(span)).map_err(|_| exception)
    }

    /// Tries `attempt`, and forgets what it noted if it fails. Attempts share the bound on headers.
    pub(super) fn guess(&mut self, attempt: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        let (vlan, tunnel, depth) = (self.vlan, self.tunnel, self.depth);
        self.spend(Span { at: 0, end: 0, strict: false })?;
        let parsed = attempt(self);
        if parsed.is_err() {
            (self.vlan, self.tunnel, self.depth) = (vlan, tunnel, depth);
        }
        parsed
    }

    /// A PPPoE session packet (RFC 2516 §4).
    fn pppoe(&mut self, span: Span) -> Parsed {
        let header = self.need::<6>(span, Layer::Link)?;
        if header[0] != 0x11 || header[1] != 0 {
            return Err(not_ip(span.at, be16([header[0], header[1]])));
        }
        self.ppp_protocol(span.skip(6))
    }

    /// PPP with or without address and control (RFC 1662 §3.1, §3.2).
    pub(super) fn ppp(&mut self, span: Span) -> Parsed {
        let skipped = if self.captured(span).starts_with(&[0xff, 0x03]) { 2 } else { 0 };
        self.ppp_protocol(span.skip(skipped))
    }

    /// The protocol field of PPP: two octets, or one where it is odd (RFC 1661 §2, §6.5).
    fn ppp_protocol(&mut self, span: Span) -> Parsed {
        let first = self.need::<1>(span, Layer::Link)?[0];
        let (protocol, rest) = if first & 1 == 1 {
            (u16::from(first), span.skip(1))
        } else {
            (be16(*self.need::<2>(span, Layer::Link)?), span.skip(2))
        };
        match protocol {
            0x0021 => self.ipv4(rest),
            0x0057 => self.ipv6(rest),
            0x0281 | 0x0283 => self.mpls(rest),
            found => Err(not_ip(span.at, found)),
        }
    }

    /// PPP in HDLC-like framing, or Cisco HDLC by its address octet.
    fn hdlc(&mut self, span: Span) -> Parsed {
        match self.captured(span).first() {
            Some(0x0f | 0x8f) => self.cisco_hdlc(span),
            _ => self.ppp(span),
        }
    }

    /// Cisco HDLC: address, control, EtherType.
    fn cisco_hdlc(&mut self, span: Span) -> Parsed {
        let header = self.need::<4>(span, Layer::Link)?;
        let kind = be16([header[2], header[3]]);
        if kind < ETHERTYPE_LEAST {
            return Err(not_ip(span.at + 2, kind));
        }
        self.ethertype(kind, span.at + 2, span.skip(4))
    }

    /// Linux cooked capture, version 1.
    fn cooked(&mut self, span: Span) -> Parsed {
        let header = self.need::<16>(span, Layer::Link)?;
        let device = be16([header[2], header[3]]);
        let protocol = be16([header[14], header[15]]);
        self.cooked_protocol(device, protocol, span.at + 14, span.skip(16))
    }

    /// Linux cooked capture, version 2.
    fn cooked_v2(&mut self, span: Span) -> Parsed {
        let header = self.need::<20>(span, Layer::Link)?;
        let device = be16([header[8], header[9]]);
        let protocol = be16([header[0], header[1]]);
        self.cooked_protocol(device, protocol, span.at, span.skip(20))
    }

    fn cooked_protocol(&mut self, device: u16, protocol: u16, at: usize, span: Span) -> Parsed {
        match protocol {
            found if device == ARPHRD_NETLINK => Err(not_ip(at, found)),
            SLL_802_2 => self.llc(span),
            found if found < ETHERTYPE_LEAST => Err(not_ip(at, found)),
            kind => self.ethertype(kind, at, span),
        }
    }

    /// BSD loopback: an address family in the byte order of the host that captured, or big-endian.
    fn loopback(&mut self, span: Span) -> Parsed {
        let octets = self.need::<4>(span, Layer::Link)?;
        let little = u32::from_le_bytes(*octets);
        let family = if little > 0xffff { little.swap_bytes() } else { little };
        match family {
            2 => self.ipv4(span.skip(4)),
            // Linux; Windows; NetBSD and OpenBSD; FreeBSD; Darwin.
            10 | 23 | 24 | 28 | 30 => self.ipv6(span.skip(4)),
            found => Err(not_ip(span.at, u16::try_from(found).unwrap_or(u16::MAX))),
        }
    }
}

/// Not IP, by the number found at `at`.
#[cold]
pub(super) fn not_ip(at: usize, found: u16) -> Exception {
    Exception::NotIp { offset: bound(at), found }
}
