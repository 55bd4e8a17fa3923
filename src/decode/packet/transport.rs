//! TCP, UDP, SCTP, ICMP and the rest, and the record that they end in.

use super::exception::{Exception, Layer};
use super::ip::{Ip, protocol};
use super::{Span, Walk, be16, bound};
use crate::flow::record::{PacketRecord, TcpHeader};
use crate::time::Micros;

/// Ports, payload octets and, of TCP, what its header says.
#[derive(Clone, Copy)]
struct Transport {
    src_port: u16,
    dst_port: u16,
    payload: usize,
    tcp: Option<TcpHeader>,
}

impl Transport {
    const fn without_ports(payload: usize) -> Self {
        Self { src_port: 0, dst_port: 0, payload, tcp: None }
    }
}

impl Walk<'_> {
    /// What `ip` carries: the flow in the tunnel, if it is one that can be opened, else this one.
    #[inline]
    pub(super) fn transport(&mut self, ip: &Ip, span: Span) -> Result<PacketRecord, Exception> {
        // Only a whole datagram is opened, so that all fragments of one stay together.
        if ip.fragment.is_none() && self.options.tunnels && self.depth < self.options.depth_max {
            match ip.protocol {
                protocol::UDP | protocol::GRE | protocol::IPV4 | protocol::IPV6 => {
                    if let Some(inner) = self.open_tunnel(ip, span) {
                        return Ok(inner);
                    }
                }
                _ => {}
            }
        }
        self.transport_at = span.at;
        let later = ip.fragment.is_some_and(|f| f.offset > 0);
        let t = match ip.protocol {
            _ if later => Transport::without_ports(span.len()),
            protocol::TCP => self.tcp(ip, span)?,
            protocol::UDP => self.udp(ip, span)?,
            protocol::ICMP | protocol::ICMPV6 => self.icmp(span)?,
            protocol::SCTP => self.sctp(ip, span)?,
            _ => Transport::without_ports(span.len()),
        };
        Ok(PacketRecord {
            stamp: Micros::default(),
            time: Micros::default(),
            site: 0,
            src: ip.src,
            dst: ip.dst,
            src_port: t.src_port,
            dst_port: t.dst_port,
            protocol: ip.protocol,
            tos: ip.tos,
            ttl: ip.ttl,
            vlan: self.vlan,
            octets: ip.octets,
            octets_l2: bound(self.wire_end),
            payload: bound(t.payload),
            tcp: t.tcp,
            fragment: ip.fragment,
            tunnel: self.tunnel,
        })
    }

    /// TCP (RFC 9293 §3.1). Of a header that the snap length cut, the ports are enough: without
    /// flags there is no [`TcpHeader`], without a data offset the header counts as 20 octets.
    #[inline]
    fn tcp(&self, ip: &Ip, span: Span) -> Result<Transport, Exception> {
        let (src_port, dst_port) = self.ports(ip, span, 20)?;
        let captured = self.captured(span);
        let header_len = match captured.get(12) {
            Some(&octet) => usize::from(octet >> 4) * 4,
            None => 20,
        };
        let most = if ip.fragment.is_some() { usize::MAX } else { span.len() };
        if header_len < 20 || header_len > most {
            return Err(Exception::TcpHeaderLength {
                offset: bound(span.at),
                found: u8::try_from(header_len).unwrap_or(u8::MAX),
                most: bound(most),
            });
        }
        let tcp = captured.first_chunk::<14>().map(|h| TcpHeader {
            flags: be16([h[12], h[13]]) & 0x1ff,
            seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        });
        Ok(Transport { src_port, dst_port, payload: span.len().saturating_sub(header_len), tcp })
    }

    /// UDP (RFC 768). Octets behind its own length are options (RFC 9868), not payload; a length of
    /// 0 is a jumbogram's (RFC 2675 §4) or offload's.
    #[inline]
    fn udp(&self, ip: &Ip, span: Span) -> Result<Transport, Exception> {
        let (src_port, dst_port) = self.ports(ip, span, 8)?;
        let by_ip = span.len();
        let len = match self.captured(span).get(4..6) {
            Some(&[a, b]) if be16([a, b]) >= 8 => by_ip.min(usize::from(be16([a, b]))),
            _ => by_ip,
        };
        Ok(Transport { src_port, dst_port, payload: len.saturating_sub(8), tcp: None })
    }

    /// SCTP's common header (RFC 9260 §3.1).
    fn sctp(&self, ip: &Ip, span: Span) -> Result<Transport, Exception> {
        let (src_port, dst_port) = self.ports(ip, span, 12)?;
        Ok(Transport { src_port, dst_port, payload: span.len().saturating_sub(12), tcp: None })
    }

    /// ICMP (RFC 792) and ICMPv6 (RFC 4443 §2.1): type and code stand for the ports.
    fn icmp(&self, span: Span) -> Result<Transport, Exception> {
        let h = self.need::<2>(span, Layer::Transport)?;
        Ok(Transport {
            src_port: u16::from(h[0]),
            dst_port: u16::from(h[1]),
            payload: span.len().saturating_sub(8),
            tcp: None,
        })
    }

    /// Source and destination port, of a header of at least `least` octets. The first of several
    /// fragments may hold less than the header.
    #[inline]
    fn ports(&self, ip: &Ip, span: Span, least: usize) -> Result<(u16, u16), Exception> {
        if span.len() < least && ip.fragment.is_none() {
            return Err(Exception::Short {
                layer: Layer::Transport,
                offset: bound(span.at),
                need: bound(least),
                have: bound(span.len()),
            });
        }
        let h = self.need::<4>(span, Layer::Transport)?;
        Ok((be16([h[0], h[1]]), be16([h[2], h[3]])))
    }
}
