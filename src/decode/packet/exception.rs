//! Why a packet is not a record.

/// The layer at which a packet was found wanting.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Layer {
    /// Link headers, VLAN tags, MPLS labels, PPPoE, tunnel headers.
    Link,
    /// IPv4, IPv6 and extension headers.
    Ip,
    /// TCP, UDP, ICMP, SCTP.
    Transport,
}

impl Layer {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Ip => "ip",
            Self::Transport => "transport",
        }
    }
}

/// Why a packet is not a record. Offsets are in octets from the start of the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Exception {
    /// The capture's link type has no decoder.
    #[error("link type {link} has no decoder")]
    UnsupportedLink {
        /// The link type's number.
        link: u16,
    },
    /// A whole frame that carries something else than IP: ARP, STP, LLDP, ...
    #[error("not IP at offset {offset}: found protocol {found:#06x}")]
    NotIp {
        /// Where the protocol number stands.
        offset: u32,
        /// EtherType, PPP protocol, address family, or DSAP and SSAP of an LLC frame.
        found: u16,
    },
    /// The captured octets end before a header that was on the wire; a larger snap length helps.
    #[error("capture ends at offset {offset}: need {need} octets, captured {have}")]
    TruncatedCapture {
        /// Where the header starts.
        offset: u32,
        /// Octets that are needed there.
        need: u32,
        /// Octets that were captured from there on.
        have: u32,
    },
    /// A layer ends, on the wire or by its own length field, before its header does.
    #[error("{} header at offset {offset} is short: need {need} octets, have {have}", layer.as_str())]
    Short {
        /// Which layer.
        layer: Layer,
        /// Where the header starts.
        offset: u32,
        /// Octets that are needed there.
        need: u32,
        /// Octets that are there.
        have: u32,
    },
    /// More than [`super::HEADERS_MAX`] headers before IP.
    #[error("over {} headers before offset {offset}", super::HEADERS_MAX)]
    HeadersBeyondBound {
        /// Where the header stands that was one too many.
        offset: u32,
    },
    /// The IP version is not the one that the layer below announced, or neither 4 nor 6.
    #[error("ip version {found} at offset {offset}, expected {expected}")]
    IpVersion {
        /// Where the IP header starts.
        offset: u32,
        /// The first four bits.
        found: u8,
        /// 4, 6, or 46 for either.
        expected: u8,
    },
    /// The IPv4 header length is below 20 octets.
    #[error("ip header length {found} at offset {offset}, expected at least 20")]
    IpHeaderLength {
        /// Where the IP header starts.
        offset: u32,
        /// Octets by the header length field.
        found: u8,
    },
    /// The IP length is below the header's, or over what a tunnel carries.
    #[error("ip length {found} at offset {offset}, expected {least} to {most}")]
    IpLength {
        /// Where the IP header starts.
        offset: u32,
        /// Octets by the length field.
        found: u32,
        /// The header's own length.
        least: u32,
        /// What there is room for.
        most: u32,
    },
    /// More than [`super::EXTENSIONS_MAX`] IPv6 extension headers.
    #[error("over {} extension headers before offset {offset}", super::EXTENSIONS_MAX)]
    ExtensionsBeyondBound {
        /// Where the header stands that was one too many.
        offset: u32,
    },
    /// The TCP data offset is below 20 octets or beyond the segment.
    #[error("tcp header length {found} at offset {offset}, expected 20 to {most}")]
    TcpHeaderLength {
        /// Where the TCP header starts.
        offset: u32,
        /// Octets by the data offset field.
        found: u8,
        /// Octets of the segment.
        most: u32,
    },
}

impl Exception {
    /// Every label that [`Self::reason`] gives.
    pub const REASONS: [&'static str; 6] = [
        "unsupported_link",
        "not_ip",
        "truncated_capture",
        "malformed_link",
        "malformed_ip",
        "malformed_transport",
    ];

    /// The label under which it is counted: one of [`Self::REASONS`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnsupportedLink { .. } => "unsupported_link",
            Self::NotIp { .. } => "not_ip",
            Self::TruncatedCapture { .. } => "truncated_capture",
            Self::HeadersBeyondBound { .. } | Self::Short { layer: Layer::Link, .. } => {
                "malformed_link"
            }
            Self::Short { layer: Layer::Ip, .. }
            | Self::IpVersion { .. }
            | Self::IpHeaderLength { .. }
            | Self::IpLength { .. }
            | Self::ExtensionsBeyondBound { .. } => "malformed_ip",
            Self::Short { layer: Layer::Transport, .. } | Self::TcpHeaderLength { .. } => {
                "malformed_transport"
            }
        }
    }

    /// The offset in the frame that it speaks of; 0 for a link type without a decoder.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        match *self {
            Self::UnsupportedLink { .. } => 0,
            Self::NotIp { offset, .. }
            | Self::TruncatedCapture { offset, .. }
            | Self::Short { offset, .. }
            | Self::HeadersBeyondBound { offset }
            | Self::IpVersion { offset, .. }
            | Self::IpHeaderLength { offset, .. }
            | Self::IpLength { offset, .. }
            | Self::ExtensionsBeyondBound { offset }
            | Self::TcpHeaderLength { offset, .. } => offset,
        }
    }
}
