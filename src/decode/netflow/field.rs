//! The Information Elements that flow decoding reads, and the values of one record.
//!
//! Everything else in a record is skipped by its length. Names follow IANA's registry "IPFIX
//! Information Elements"; reverse elements are RFC 5103's (enterprise number 29305).

use super::wire::{FieldSpec, Version};
use crate::net::Addr;

/// Enterprise number of reverse elements (RFC 5103 §6.1).
pub(super) const REVERSE: u32 = 29_305;

/// How the octets of a field are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Unsigned big-endian integer of any width (RFC 7011 §6.2); of more than 8 octets the last 8.
    Number,
    /// IPv4 address: 4 octets, else skipped.
    Address4,
    /// IPv6 address: 16 octets, else skipped.
    Address6,
    /// Text.
    Text,
}

macro_rules! fields {
    ($($name:ident $kind:ident $pattern:pat,)*) => {
        /// An element that is read.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Field { $($name),* }

        const KINDS: &[Kind] = &[$(Kind::$kind),*];
        const FIELDS: usize = KINDS.len();

        /// The field of an enterprise number and an element.
        const fn field_of(pen: u32, element: u16) -> Option<Field> {
            match (pen, element) {
                $($pattern => Some(Field::$name),)*
                _ => None,
            }
        }
    };
}

fields! {
    Octets Number (0, 1),
    Packets Number (0, 2),
    Protocol Number (0, 4),
    Tos Number (0, 5),
    TcpFlags Number (0, 6),
    // sourceTransportPort, udpSourcePort, tcpSourcePort
    SourcePort Number (0, 7 | 180 | 182),
    Source4 Address4 (0, 8),
    InInterface Number (0, 10),
    DestinationPort Number (0, 11 | 181 | 183),
    Destination4 Address4 (0, 12),
    OutInterface Number (0, 14),
    SourceAsn Number (0, 16),
    DestinationAsn Number (0, 17),
    LastUptime Number (0, 21),
    FirstUptime Number (0, 22),
    PostOctets Number (0, 23),
    PostPackets Number (0, 24),
    Source6 Address6 (0, 27),
    Destination6 Address6 (0, 28),
    IcmpTypeCode Number (0, 32),
    SamplingInterval Number (0, 34),
    SamplingAlgorithm Number (0, 35),
    SamplerId Number (0, 48),
    SamplerMode Number (0, 49),
    SamplerRandomInterval Number (0, 50),
    SourceVlan Number (0, 58),
    DestinationVlan Number (0, 59),
    IpVersion Number (0, 60),
    Direction Number (0, 61),
    InterfaceName Text (0, 82),
    InterfaceDescription Text (0, 83),
    OctetsTotal Number (0, 85),
    PacketsTotal Number (0, 86),
    ApplicationId Number (0, 95),
    ApplicationName Text (0, 96),
    EndReason Number (0, 136),
    Icmp6TypeCode Number (0, 139),
    FlowNumber Number (0, 148),
    StartSeconds Number (0, 150),
    EndSeconds Number (0, 151),
    StartMillis Number (0, 152),
    EndMillis Number (0, 153),
    StartMicros Number (0, 154),
    EndMicros Number (0, 155),
    StartNanos Number (0, 156),
    EndNanos Number (0, 157),
    StartDelta Number (0, 158),
    EndDelta Number (0, 159),
    SystemInit Number (0, 160),
    DurationMillis Number (0, 161),
    DurationMicros Number (0, 162),
    IcmpType Number (0, 176),
    IcmpCode Number (0, 177),
    Icmp6Type Number (0, 178),
    Icmp6Code Number (0, 179),
    NatEvent Number (0, 230),
    InitiatorOctets Number (0, 231),
    ResponderOctets Number (0, 232),
    // 40005 is what Cisco ASA used before 233 was assigned.
    FirewallEvent Number (0, 233 | 40_005),
    IngressVrf Number (0, 234),
    EgressVrf Number (0, 235),
    VrfName Text (0, 236),
    BiflowDirection Number (0, 239),
    Dot1qVlan Number (0, 243),
    IngressPhysical Number (0, 252),
    EgressPhysical Number (0, 253),
    InitiatorPackets Number (0, 298),
    ResponderPackets Number (0, 299),
    SelectorId Number (0, 302),
    PacketInterval Number (0, 305),
    PacketSpace Number (0, 306),
    SamplingSize Number (0, 309),
    SamplingPopulation Number (0, 310),
    SamplingProbability Number (0, 311),
    ObservedSeconds Number (0, 322),
    ObservedMillis Number (0, 323),
    ObservedMicros Number (0, 324),
    ObservedNanos Number (0, 325),
    OctetsL2 Number (0, 352),
    ReverseOctets Number (REVERSE, 1),
    ReversePackets Number (REVERSE, 2),
    ReverseTcpFlags Number (REVERSE, 6),
    ReverseOctetsTotal Number (REVERSE, 85),
    ReversePacketsTotal Number (REVERSE, 86),
    ReverseStartMillis Number (REVERSE, 152),
    ReverseEndMillis Number (REVERSE, 153),
    ReverseOctetsL2 Number (REVERSE, 352),
    // v9 scope type 2 (RFC 3954 §6.1); no element has this number.
    ScopeInterface Number (u32::MAX, 2),
}

const _: () = assert!(FIELDS <= 128, "the presence of fields is a mask of 128 bits");

impl Field {
    /// What `spec` is to flow decoding; `scope` tells a scope field of a v9 options template.
    pub(super) const fn of(spec: FieldSpec, version: Version, scope: bool) -> Option<Self> {
        match (version, scope) {
            (Version::V9, true) => field_of(u32::MAX, spec.element),
            _ if spec.pen == u32::MAX => None,
            _ => field_of(spec.pen, spec.element),
        }
    }

    pub(super) const fn kind(self) -> Kind {
        KINDS[self as usize]
    }

    /// Its bit in a mask of presence.
    pub(super) const fn bit(self) -> u128 {
        1 << self as u32
    }
}

/// The values of one record, each present or not.
#[derive(Clone, Debug)]
pub(super) struct Values<'a> {
    pub(super) present: u128,
    numbers: [u64; FIELDS],
    addresses: [Addr; 4],
    texts: [&'a [u8]; 4],
}

impl Default for Values<'_> {
    fn default() -> Self {
        let addresses = [Addr::UNSPECIFIED; 4];
        Self { present: 0, numbers: [0; FIELDS], addresses, texts: [&[]; 4] }
    }
}

impl<'a> Values<'a> {
    /// Writes a number, without touching its presence.
    pub(super) fn put_number(&mut self, field: Field, octets: &[u8]) {
        self.numbers[field as usize] = number(octets);
    }

    /// Writes an address or a text, without touching its presence.
    pub(super) fn put_other(&mut self, field: Field, octets: &'a [u8]) {
        match field.kind() {
            Kind::Number => self.put_number(field, octets),
            Kind::Address4 => {
                self.addresses[address_index(field)] = Addr::v4(number(octets) as u32);
            }
            Kind::Address6 => {
                let octets = octets.first_chunk::<16>().copied().unwrap_or_default();
                self.addresses[address_index(field)] = Addr::v6(octets);
            }
            Kind::Text => self.texts[text_index(field)] = octets,
        }
    }

    /// Writes a field and marks it present.
    pub(super) fn put(&mut self, field: Field, octets: &'a [u8]) {
        self.put_other(field, octets);
        self.present |= field.bit();
    }

    pub(super) const fn has(&self, field: Field) -> bool {
        self.present & field.bit() != 0
    }

    pub(super) const fn has_any(&self, mask: u128) -> bool {
        self.present & mask != 0
    }

    /// The number, if present.
    pub(super) const fn number(&self, field: Field) -> Option<u64> {
        if self.has(field) { Some(self.numbers[field as usize]) } else { None }
    }

    /// The number, if present and not 0: for elements where 0 stands for "none".
    pub(super) fn nonzero(&self, field: Field) -> Option<u64> {
        self.number(field).filter(|&n| n != 0)
    }

    /// The first 32 bits of a number, if present.
    pub(super) fn number32(&self, field: Field) -> Option<u32> {
        self.number(field).map(|n| n as u32)
    }

    /// The address, if present.
    pub(super) fn address(&self, field: Field) -> Option<Addr> {
        self.has(field).then(|| self.addresses[address_index(field)])
    }

    /// The octets of a text, if present.
    pub(super) fn text(&self, field: Field) -> Option<&'a [u8]> {
        self.has(field).then(|| self.texts[text_index(field)])
    }
}

const fn address_index(field: Field) -> usize {
    match field {
        Field::Source4 => 0,
        Field::Destination4 => 1,
        Field::Source6 => 2,
        _ => 3,
    }
}

const fn text_index(field: Field) -> usize {
    match field {
        Field::VrfName => 0,
        Field::ApplicationName => 1,
        Field::InterfaceName => 2,
        _ => 3,
    }
}

/// Reads a big-endian unsigned integer of any width; of more than 8 octets the last 8.
pub(super) fn number(octets: &[u8]) -> u64 {
    match *octets {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => octets.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_width() {
        let octets = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        for width in 0..=8 {
            let plain = octets[..width].iter().fold(0_u64, |n, &o| n * 256 + u64::from(o));
            assert_eq!(number(&octets[..width]), plain, "{width} octets");
        }
        assert_eq!(number(&octets), 0x0203_0405_0607_0809, "the last 8 of 9 octets");
    }

    #[test]
    fn elements_are_told_apart() {
        let of = |pen, element, version, scope| {
            Field::of(FieldSpec { element, pen, length: 4 }, version, scope)
        };
        assert_eq!(of(0, 1, Version::V9, false), Some(Field::Octets));
        assert_eq!(of(REVERSE, 1, Version::Ipfix, false), Some(Field::ReverseOctets));
        assert_eq!(of(9, 1, Version::Ipfix, false), None);
        assert_eq!(of(0, 2, Version::V9, true), Some(Field::ScopeInterface));
        assert_eq!(of(0, 1, Version::V9, true), None, "scope type 1 is the whole system");
        assert_eq!(of(0, 10, Version::Ipfix, true), Some(Field::InInterface));
        assert_eq!(of(u32::MAX, 2, Version::Ipfix, false), None);
    }
}
