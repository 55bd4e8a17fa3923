//! IPv4 and IPv6, with extension headers and fragments.

use super::exception::{Exception, Layer};
use super::{EXTENSIONS_MAX, Span, Walk, be16, bound};
use crate::flow::record::{Fragment, PacketRecord};
use crate::net::Addr;

/// Protocol numbers that the walk knows (IANA).
pub(super) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const AH: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const NO_NEXT: u8 = 59;
    pub(crate) const DESTINATION: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const MOBILITY: u8 = 135;
    pub(crate) const HIP: u8 = 139;
    pub(crate) const SHIM6: u8 = 140;
}

/// What the transport layer needs of the IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// After extension headers.
    pub(super) protocol: u8,
    /// Octets of header and payload.
    pub(super) octets: u32,
    pub(super) fragment: Option<Fragment>,
}

impl Walk<'_> {
    /// IPv4 or IPv6 by the version field.
    pub(super) fn ip(&mut self, span: Span) -> Result<PacketRecord, Exception> {
        match self.need::<1>(span, Layer::Ip)?[0] >> 4 {
            4 => self.ipv4(span),
            6 => self.ipv6(span),
            found => Err(version(span, found, 46)),
        }
    }

    /// IPv4 with options (RFC 791 §3.1).
    #[inline]
    pub(super) fn ipv4(&mut self, span: Span) -> Result<PacketRecord, Exception> {
        let h = self.need::<20>(span, Layer::Ip)?;
        if h[0] >> 4 != 4 {
            return Err(version(span, h[0] >> 4, 4));
        }
        let header_len = usize::from(h[0] & 0xf) * 4;
        if header_len < 20 {
            let found = (h[0] & 0xf) * 4;
            return Err(Exception::IpHeaderLength { offset: bound(span.at), found });
        }
        let total = match be16([h[2], h[3]]) {
            0 => self.room(span),
            total => usize::from(total),
        };
        self.fits(span, total, header_len)?;
        let inner = Span { at: span.at + header_len, end: span.at + total, strict: span.strict };
        let position = be16([h[6], h[7]]);
        let (offset, more) = ((position & 0x1fff) * 8, position & 0x2000 != 0);
        let fragment = (offset > 0 || more).then(|| Fragment {
            id: u32::from(be16([h[4], h[5]])),
            offset,
            more,
        });
        let mut ip = Ip {
            src: Addr::v4(u32::from_be_bytes([h[12], h[13], h[14], h[15]])),
            dst: Addr::v4(u32::from_be_bytes([h[16], h[17], h[18], h[19]])),
            tos: h[1],
            ttl: h[8],
            protocol: h[9],
            octets: bound(total),
            fragment,
        };
        if ip.protocol == protocol::AH && offset == 0 {
            let inner = self.extensions(&mut ip, inner)?;
            return self.transport(&ip, inner);
        }
        self.transport(&ip, inner)
    }

    /// IPv6 with its extension headers (RFC 8200 §3, §4).
    #[inline]
    pub(super) fn ipv6(&mut self, span: Span) -> Result<PacketRecord, Exception> {
        let h = self.need::<40>(span, Layer::Ip)?;
        if h[0] >> 4 != 6 {
            return Err(version(span, h[0] >> 4, 6));
        }
        let next = h[6];
        let total = match be16([h[4], h[5]]) {
            // A jumbogram (RFC 2675) or segmentation offload.
            0 if next != protocol::NO_NEXT => self.room(span),
            payload => 40 + usize::from(payload),
        };
        self.fits(span, total, 40)?;
        let (src, dst) = (h[8..24].first_chunk::<16>(), h[24..40].first_chunk::<16>());
        let mut ip = Ip {
            src: Addr::v6(*src.expect("16 octets of 40")),
            dst: Addr::v6(*dst.expect("16 octets of 40")),
            tos: (h[0] << 4) | (h[1] >> 4),
            ttl: h[7],
            protocol: next,
            octets: bound(total),
            fragment: None,
        };
        let inner = Span { at: span.at + 40, end: span.at + total, strict: span.strict };
        let inner = self.extensions(&mut ip, inner)?;
        self.transport(&ip, inner)
    }

    /// Octets from the start of the IP header to the end of what encloses it.
    fn room(&self, span: Span) -> usize {
        span.end.min(self.wire_end).saturating_sub(span.at)
    }

    /// Whether a length field makes sense: not below the header, and within a tunnel's payload.
    #[inline]
    fn fits(&self, span: Span, total: usize, header: usize) -> Result<(), Exception> {
        let most = if span.strict { span.len() } else { usize::MAX };
        if total < header || total > most {
            return Err(Exception::IpLength {
                offset: bound(span.at),
                found: bound(total),
                least: bound(header),
                most: bound(most),
            });
        }
        Ok(())
    }

    /// Walks extension headers, sets protocol and fragment, and gives what follows them.
    ///
    /// Of IPv4 the authentication header alone comes here. A later fragment ends the walk: what it
    /// holds is the middle of something. A Mobility, HIP or Shim6 header that nothing follows is
    /// the upper layer itself (RFC 6275 §6.1.1, RFC 7401 §5.1, RFC 5533 §5.1).
    #[inline]
    fn extensions(&self, ip: &mut Ip, span: Span) -> Result<Span, Exception> {
        use protocol as p;
        let mut span = span;
        for _ in 0..=EXTENSIONS_MAX {
            let header_len = match ip.protocol {
                p::HOP_BY_HOP | p::ROUTING | p::DESTINATION => {
                    let h = self.need::<2>(span, Layer::Ip)?;
                    ip.protocol = h[0];
                    (usize::from(h[1]) + 1) * 8
                }
                p::MOBILITY | p::HIP | p::SHIM6 => {
                    let h = self.need::<2>(span, Layer::Ip)?;
                    if h[0] == p::NO_NEXT {
                        return Ok(span);
                    }
                    ip.protocol = h[0];
                    (usize::from(h[1]) + 1) * 8
                }
                p::AH => {
                    let h = self.need::<2>(span, Layer::Ip)?;
                    ip.protocol = h[0];
                    (usize::from(h[1]) + 2) * 4
                }
                p::FRAGMENT => {
                    let h = self.need::<8>(span, Layer::Ip)?;
                    ip.protocol = h[0];
                    let position = be16([h[2], h[3]]);
                    let (offset, more) = (position & 0xfff8, position & 1 == 1);
                    if offset > 0 || more {
                        let id = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
                        ip.fragment = Some(Fragment { id, offset, more });
                    }
                    if offset > 0 {
                        return Ok(span.skip(8));
                    }
                    8
                }
                _ => return Ok(span),
            };
            if header_len > span.len() {
                return Err(self.missing(span, header_len, Layer::Ip));
            }
            span = span.skip(header_len);
        }
        Err(Exception::ExtensionsBeyondBound { offset: bound(span.at) })
    }
}

#[cold]
fn version(span: Span, found: u8, expected: u8) -> Exception {
    Exception::IpVersion { offset: bound(span.at), found, expected }
}
