//! The event: what is kept of a flow in its pair's window. 16 octets (`model/FEATURES.md`, section 2).

use super::record::Record;
use crate::flow::key::{ICMP, ICMPV6, TCP};
use crate::flow::record::RST;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Bits of the mantissa of the 16-bit code: octets and milliseconds, exact below 2,048, then 0.1 %.
const WIDE: u32 = 10;
/// Bits of the mantissa of the 8-bit code: packets, exact below 16, then 12 %.
const NARROW: u32 = 3;

/// What stands above IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the protocols'")]
pub enum Transport {
    Tcp,
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    Other,
}

impl Transport {
    /// Of an IP protocol number.
    #[must_use]
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            TCP => Self::Tcp,
            UDP => Self::Udp,
            ICMP | ICMPV6 => Self::Icmp,
            _ => Self::Other,
        }
    }

    /// Whether its ports name services.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }
}

/// What a responder's port is for, as far as the model knows ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are those of FEATURES.md")]
#[repr(u8)]
pub enum Service {
    Dns,
    Tls,
    Http,
    Mail,
    Remote,
    Infra,
    Industrial,
    /// Any other port below 1024.
    System,
    /// 1024 to 49151.
    Registered,
    /// 49152 and above.
    Dynamic,
    /// No port.
    None,
}

impl Service {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Dns,
        Self::Tls,
        Self::Http,
        Self::Mail,
        Self::Remote,
        Self::Infra,
        Self::Industrial,
        Self::System,
        Self::Registered,
        Self::Dynamic,
        Self::None,
    ];

    /// Of a TCP or UDP port.
    #[must_use]
    pub const fn of(port: u16) -> Self {
        match port {
            0 => Self::None,
            53 | 853 => Self::Dns,
            443 | 8443 => Self::Tls,
            80 | 3128 | 8000 | 8080 | 8081 | 8888 => Self::Http,
            25 | 110 | 143 | 465 | 587 | 993 | 995 => Self::Mail,
            20..=23 | 69 | 115 | 139 | 445 | 873 | 989 | 990 | 2049 | 3389 | 5900 | 5985 | 5986 => {
                Self::Remote
            }
            67 | 68 | 88 | 123 | 135 | 137 | 138 | 161 | 162 | 389 | 427 | 500 | 514 | 546
            | 547 | 636 | 1900 | 3478 | 3702 | 4500 | 5060 | 5222 | 5228 | 5353 | 5355 => {
                Self::Infra
            }
            102 | 502 | 789 | 1433 | 1521 | 1883 | 2222 | 2404 | 3306 | 4840 | 5432 | 6379
            | 8883 | 9600 | 20000 | 34962 | 34964 | 44818 | 47808 => Self::Industrial,
            1..=1023 => Self::System,
            1024..=49151 => Self::Registered,
            49152.. => Self::Dynamic,
        }
    }

    /// Its name in `model/weir.json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Mail => "mail",
            Self::Remote => "remote",
            Self::Infra => "infra",
            Self::Industrial => "industrial",
            Self::System => "system",
            Self::Registered => "registered",
            Self::Dynamic => "dynamic",
            Self::None => "none",
        }
    }
}

/// The code of `value` with `mantissa` bits after the leading one, rounded down: exact below
/// 2^(mantissa+1). Grows with the value.
const fn code(value: u64, mantissa: u32) -> u64 {
    let exact = 1 << (mantissa + 1);
    if value < exact {
        return value;
    }
    let shift = value.ilog2() - mantissa;
    exact + (shift as u64 - 1) * (exact >> 1) + (value >> shift) - (exact >> 1)
}

/// The least value with this code.
fn value(code: u64, mantissa: u32) -> f64 {
    let (exact, half) = (1 << (mantissa + 1), 1 << mantissa);
    if code < exact {
        return code as f64;
    }
    let shift = (code - exact) / half + 1;
    // A mantissa of eleven bits times a power of two below 2^64: exact.
    ((code - exact) % half + half) as f64 * 2.0_f64.powi(shift as i32)
}

/// Octets or milliseconds as 16 bits.
#[must_use]
pub const fn wide(value: u64) -> u16 {
    let code = code(value, WIDE);
    if code > u16::MAX as u64 { u16::MAX } else { code as u16 }
}

/// Packets as 8 bits.
#[must_use]
pub const fn narrow(value: u64) -> u8 {
    let code = code(value, NARROW);
    if code > u8::MAX as u64 { u8::MAX } else { code as u8 }
}

/// Bits of [`Event::kind`] that hold the transport.
const TRANSPORT: u8 = 0b11;
/// The initiator is the pair's lower address.
const INITIATOR_LOW: u8 = 1 << 2;
/// TCP flags are known; set for all that is not TCP.
const FLAGS_KNOWN: u8 = 1 << 3;

/// A flow, as the model sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// Start in milliseconds since the epoch, modulo 2^32.
    t_ms: u32,
    fwd_octets: u16,
    bwd_octets: u16,
    duration: u16,
    /// The responder's port; 0 where the transport has none.
    port: u16,
    fwd_packets: u8,
    bwd_packets: u8,
    flags: u8,
    kind: u8,
}

impl Event {
    /// Of a record, or of several that were joined.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let transport = Transport::of(record.protocol);
        let millis = |micros: i64| micros.div_euclid(1_000);
        let duration = millis(record.last.since(record.first).max(0)).unsigned_abs();
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let known = record.flags_known || transport != Transport::Tcp;
        Self {
            t_ms: millis(record.first.0).rem_euclid(1 << 32) as u32,
            fwd_octets: wide(record.fwd_octets),
            bwd_octets: wide(record.bwd_octets),
            duration: wide(duration),
            port: if transport.has_ports() { record.responder_port } else { 0 },
            fwd_packets: narrow(record.fwd_packets),
            bwd_packets: narrow(record.bwd_packets),
            flags: bit(record.flags_known, record.flags),
            kind: transport as u8
                | bit(record.initiator_low, INITIATOR_LOW)
                | bit(known, FLAGS_KNOWN),
        }
    }

    /// As octets, for a log of states.
    #[must_use]
    pub fn to_octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&self.t_ms.to_le_bytes());
        let counts = [self.fwd_octets, self.bwd_octets, self.duration, self.port];
        for (place, count) in octets[4..12].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        octets[12..].copy_from_slice(&[self.fwd_packets, self.bwd_packets, self.flags, self.kind]);
        octets
    }

    /// Back from [`Event::to_octets`].
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [t0, t1, t2, t3, f0, f1, b0, b1, d0, d1, p0, p1, fwd, bwd, flags, kind] = octets;
        Self {
            t_ms: u32::from_le_bytes([t0, t1, t2, t3]),
            fwd_octets: u16::from_le_bytes([f0, f1]),
            bwd_octets: u16::from_le_bytes([b0, b1]),
            duration: u16::from_le_bytes([d0, d1]),
            port: u16::from_le_bytes([p0, p1]),
            fwd_packets: fwd,
            bwd_packets: bwd,
            flags,
            kind,
        }
    }

    /// Start in milliseconds, modulo 2^32: differences only have a meaning.
    #[must_use]
    pub const fn t_ms(&self) -> u32 {
        self.t_ms
    }

    /// Milliseconds from `earlier` to this event; 0 if the clock stepped back.
    #[must_use]
    pub const fn gap_ms(&self, earlier: &Self) -> u32 {
        let gap = self.t_ms.wrapping_sub(earlier.t_ms);
        if gap >= 1 << 31 { 0 } else { gap }
    }

    /// Whether it starts before `other`.
    #[must_use]
    pub const fn is_before(&self, other: &Self) -> bool {
        (self.t_ms.wrapping_sub(other.t_ms) as i32) < 0
    }

    /// Octets from initiator to responder, and back.
    #[must_use]
    pub fn octets(&self) -> (f64, f64) {
        (value(self.fwd_octets.into(), WIDE), value(self.bwd_octets.into(), WIDE))
    }

    /// Packets from initiator to responder, and back.
    #[must_use]
    pub fn packets(&self) -> (f64, f64) {
        (value(self.fwd_packets.into(), NARROW), value(self.bwd_packets.into(), NARROW))
    }

    /// Duration in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> f64 {
        value(self.duration.into(), WIDE)
    }

    /// Whether the responder sent anything.
    #[must_use]
    pub const fn answered(&self) -> bool {
        self.bwd_packets > 0
    }

    /// Whether the pair's lower address initiated it.
    #[must_use]
    pub const fn initiator_low(&self) -> bool {
        self.kind & INITIATOR_LOW != 0
    }

    /// Whether TCP flags are known, or there are none.
    #[must_use]
    pub const fn flags_known(&self) -> bool {
        self.kind & FLAGS_KNOWN != 0
    }

    /// Whether a side reset the connection.
    #[must_use]
    pub const fn reset(&self) -> bool {
        self.flags_known() && self.flags & RST as u8 != 0
    }

    /// Its transport.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.kind & TRANSPORT {
            0 => Transport::Tcp,
            1 => Transport::Udp,
            2 => Transport::Icmp,
            _ => Transport::Other,
        }
    }

    /// The responder's port; 0 where there is none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the port is for.
    #[must_use]
    pub const fn service(&self) -> Service {
        if self.transport().has_ports() { Service::of(self.port) } else { Service::None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_takes_sixteen_octets() {
        assert_eq!(size_of::<Event>(), 16);
    }

    #[test]
    fn services_stand_at_their_index() {
        for (index, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!(service as usize, index);
        }
    }

    proptest! {
        #[test]
        fn codes_grow_and_keep_their_precision(a in 0..1_u64 << 40, b in 0..1_u64 << 40) {
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(wide(a) <= wide(b) && narrow(a) <= narrow(b));
            let back = value(wide(b).into(), WIDE);
            prop_assert!(back <= b as f64 && back * (1.0 + 1.0 / 1_024.0) >= b as f64);
            prop_assert_eq!(code(back as u64, WIDE), u64::from(wide(b)));
        }
    }
}
