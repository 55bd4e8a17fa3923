//! The fields that rules may name, over a flow: what each is, and how it is read.

use super::names;
use crate::flow::{Biflow, Direction, DirectionBy, TcpState, record};
use crate::net::Addr;

/// A field of a flow, whatever a dialect calls it. "Forward" is initiator to responder.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names are those of `Biflow`")]
pub enum Field {
    Src,
    Dst,
    SrcPort,
    DstPort,
    Protocol,
    SrcIsIpv6,
    DstIsIpv6,
    /// Whether the flow is IPv4 or IPv6, as ECS's `network.type`.
    Family,
    Direction,
    DirectionBy,
    /// Whether the initiator is at home.
    Initiated,
    /// Whether the responder is at home.
    ResponderAtHome,
    Site,
    Vrf,
    VrfName,
    Exporter,
    InIf,
    OutIf,
    InIfName,
    OutIfName,
    Application,
    Vlan,
    Tos,
    Start,
    End,
    Duration,
    FwdOctets,
    BwdOctets,
    Octets,
    FwdPackets,
    BwdPackets,
    Packets,
    FwdOctetsL2,
    BwdOctetsL2,
    FwdPayload,
    BwdPayload,
    FwdFlags,
    BwdFlags,
    Flags,
    /// The names of the flags set, as a set: an item holds if any of them matches.
    FwdFlagNames,
    BwdFlagNames,
    FlagNames,
    Retransmits,
    RttUs,
    FwdTtl,
    BwdTtl,
    TcpState,
    /// The TCP state in Zeek's words.
    ConnState,
    SamplingInterval,
    SamplingUnknown,
    SrcAsn,
    DstAsn,
    Tunnel,
    TunnelSrc,
    TunnelDst,
    TunnelId,
}

/// What kind of value a field has, and so which predicates it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An IPv4 or IPv6 address.
    Address,
    /// An integer in `0..=max`.
    Integer {
        /// The greatest value.
        max: u128,
    },
    /// A length of time or an instant in microseconds.
    Time {
        /// Whether it is an instant, of which hour, day and so on may be asked.
        instant: bool,
    },
    /// One of a few values, each with its words; the integer is the index.
    Named(&'static [&'static [&'static str]]),
    /// An IP protocol: a number or a name.
    Protocol,
    /// A site, by its name.
    Site,
    /// Free text.
    Text,
    /// A set of TCP flags by name.
    FlagNames,
}

/// When a field's value is final (DESIGN 3.7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// At the first record.
    Never,
    /// It only grows; this counter of [`crate::flow::Wake`] tells when.
    Grows(Counter),
    /// When the flow ends.
    Any,
}

/// The counters that wake a flow; those of layer 2 and of payload share one wake-up value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the counters")]
pub enum Counter {
    Octets,
    Packets,
    OctetsL2,
    Payload,
    Duration,
    Flags,
}

/// The words for true and false; the integer is the index.
pub const BOOLS: &[&[&str]] = &[&["false", "0"], &["true", "1"]];
const DIRECTIONS: &[&[&str]] =
    &[&["outbound", "egress"], &["inbound", "ingress"], &["internal"], &["external"]];
const DIRECTIONS_BY: &[&[&str]] = &[&["exporter"], &["syn"], &["start"], &["port"], &["first"]];
const TCP_STATES: &[&[&str]] = &[&["attempt"], &["established"], &["closed"], &["reset"]];
const CONN_STATES: &[&[&str]] = &[&["S0"], &["S1"], &["SF"], &["REJ"], &["RSTO"], &["RSTR"]];
const FAMILIES: &[&[&str]] = &[&["ipv4"], &["ipv6"]];
const TUNNELS: &[&[&str]] = &[
    &["gre"],
    &["erspan"],
    &["ipip"],
    &["6in4"],
    &["vxlan"],
    &["geneve"],
    &["gtp-u"],
    &["teredo"],
];

const U8: Kind = Kind::Integer { max: 0xff };
const U16: Kind = Kind::Integer { max: 0xffff };
const U32: Kind = Kind::Integer { max: 0xffff_ffff };
/// Scaled by the sampling interval, a counter may pass 64 bits.
const COUNTER: Kind = Kind::Integer { max: u128::MAX };

impl Field {
    /// What kind of value it has.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Src | Self::Dst | Self::Exporter | Self::TunnelSrc | Self::TunnelDst => {
                Kind::Address
            }
            Self::SrcPort | Self::DstPort => U16,
            Self::FwdFlags | Self::BwdFlags | Self::Flags | Self::Vlan => U16,
            Self::Protocol => Kind::Protocol,
            Self::SrcIsIpv6 | Self::DstIsIpv6 | Self::Initiated => Kind::Named(BOOLS),
            Self::ResponderAtHome | Self::SamplingUnknown => Kind::Named(BOOLS),
            Self::Family => Kind::Named(FAMILIES),
            Self::Direction => Kind::Named(DIRECTIONS),
            Self::DirectionBy => Kind::Named(DIRECTIONS_BY),
            Self::TcpState => Kind::Named(TCP_STATES),
            Self::ConnState => Kind::Named(CONN_STATES),
            Self::Tunnel => Kind::Named(TUNNELS),
            Self::Site => Kind::Site,
            Self::VrfName | Self::InIfName | Self::OutIfName | Self::Application => Kind::Text,
            Self::Start | Self::End => Kind::Time { instant: true },
            Self::Duration => Kind::Time { instant: false },
            Self::FwdFlagNames | Self::BwdFlagNames | Self::FlagNames => Kind::FlagNames,
            Self::Tos | Self::FwdTtl | Self::BwdTtl => U8,
            Self::Vrf | Self::InIf | Self::OutIf | Self::RttUs | Self::SamplingInterval => U32,
            Self::SrcAsn | Self::DstAsn | Self::TunnelId => U32,
            Self::FwdOctets
            | Self::BwdOctets
            | Self::Octets
            | Self::FwdPackets
            | Self::BwdPackets
            | Self::Packets
            | Self::FwdOctetsL2
            | Self::BwdOctetsL2
            | Self::FwdPayload
            | Self::BwdPayload
            | Self::Retransmits => COUNTER,
        }
    }

    /// What it may hold, in words.
    #[must_use]
    pub fn domain(self) -> String {
        match self.kind() {
            Kind::Address => "it is an address".to_owned(),
            Kind::Integer { max: u128::MAX } => "it is a whole number from 0 on".to_owned(),
            Kind::Integer { max } => format!("it is a whole number from 0 to {max}"),
            Kind::Time { instant: true } => "it is a time from 1970 on".to_owned(),
            Kind::Time { instant: false } => "it is a length of time".to_owned(),
            Kind::Named(all) => {
                let first: Vec<&str> = all.iter().filter_map(|w| w.first().copied()).collect();
                format!("it is one of {}", first.join(", "))
            }
            Kind::Protocol => "it is the name or the number of an IP protocol".to_owned(),
            Kind::Site => "it is the name of a site of the configuration".to_owned(),
            Kind::Text => "it is a text".to_owned(),
            Kind::FlagNames => "it is a set of TCP flags".to_owned(),
        }
    }

    /// When its value is final.
    #[must_use]
    pub const fn change(self) -> Change {
        match self {
            Self::Src | Self::Dst | Self::SrcPort | Self::DstPort | Self::Protocol => Change::Never,
            Self::SrcIsIpv6 | Self::DstIsIpv6 | Self::Family => Change::Never,
            Self::Direction | Self::Initiated | Self::ResponderAtHome => Change::Never,
            Self::Site | Self::Vrf | Self::VrfName | Self::Exporter => Change::Never,
            Self::InIf | Self::OutIf | Self::InIfName | Self::OutIfName => Change::Never,
            Self::FwdOctets | Self::BwdOctets | Self::Octets => Change::Grows(Counter::Octets),
            Self::FwdPackets | Self::BwdPackets | Self::Packets => Change::Grows(Counter::Packets),
            Self::FwdOctetsL2 | Self::BwdOctetsL2 => Change::Grows(Counter::OctetsL2),
            Self::FwdPayload | Self::BwdPayload => Change::Grows(Counter::Payload),
            Self::Duration => Change::Grows(Counter::Duration),
            Self::FwdFlagNames | Self::BwdFlagNames | Self::FlagNames => {
                Change::Grows(Counter::Flags)
            }
            _ => Change::Any,
        }
    }

    /// Whether a flow may lack it, as NetFlow lacks the round trip time.
    #[must_use]
    pub const fn nullable(self) -> bool {
        matches!(
            self,
            Self::VrfName
                | Self::InIf
                | Self::OutIf
                | Self::InIfName
                | Self::OutIfName
                | Self::Application
                | Self::Vlan
                | Self::Tos
                | Self::Exporter
                | Self::FwdOctetsL2
                | Self::BwdOctetsL2
                | Self::FwdPayload
                | Self::BwdPayload
                | Self::FwdFlags
                | Self::BwdFlags
                | Self::Flags
                | Self::FwdFlagNames
                | Self::BwdFlagNames
                | Self::FlagNames
                | Self::Retransmits
                | Self::RttUs
                | Self::FwdTtl
                | Self::BwdTtl
                | Self::TcpState
                | Self::ConnState
                | Self::SamplingInterval
                | Self::SrcAsn
                | Self::DstAsn
                | Self::Tunnel
                | Self::TunnelSrc
                | Self::TunnelDst
                | Self::TunnelId
        )
    }

    /// The greatest integer of the field's domain; 0 for free text.
    #[must_use]
    pub const fn max(self) -> u128 {
        match self.kind() {
            Kind::Address | Kind::Time { .. } => u128::MAX,
            Kind::Integer { max } => max,
            Kind::Named(words) => words.len() as u128 - 1,
            Kind::Protocol => 0xff,
            Kind::Site | Kind::FlagNames => 0xffff,
            Kind::Text => 0,
        }
    }
}

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FieldSet(u128);

impl FieldSet {
    /// No field.
    pub const EMPTY: Self = Self(0);
    /// Every field.
    pub const ALL: Self = Self(u128::MAX);

    /// Adds `field`.
    pub fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    /// Takes `field` away.
    pub fn remove(&mut self, field: Field) {
        self.0 &= !(1 << field as u32);
    }

    /// Whether `field` is in it.
    #[must_use]
    pub const fn contains(self, field: Field) -> bool {
        self.0 >> field as u32 & 1 == 1
    }
}

/// A flow as rules read it: with the fields that a rule-test event leaves out taken as null.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The flow.
    pub flow: &'a Biflow,
    /// Fields that are null although the flow has a place for them. Empty for real flows.
    pub absent: FieldSet,
    /// What an event says of `Initiated`; real flows derive it from their direction.
    pub initiated: Option<bool>,
}

impl<'a> Record<'a> {
    /// A real flow: nothing that it has a place for is absent.
    #[must_use]
    pub const fn of(flow: &'a Biflow) -> Self {
        Self { flow, absent: FieldSet::EMPTY, initiated: None }
    }

    /// The field as an integer of its domain; `None` if the flow lacks it or it is text.
    ///
    /// Counters come scaled by the sampling interval, where that is known.
    #[must_use]
    pub fn integer(&self, field: Field) -> Option<u128> {
        if self.absent.contains(field) {
            return None;
        }
        self.counter(field).or_else(|| self.attribute(field))
    }

    /// Octets, packets and the like.
    fn counter(&self, field: Field) -> Option<u128> {
        let flow = self.flow;
        let scaled = |count: u64| u128::from(count) * u128::from(flow.scale());
        let sum = |a: u64, b: u64| (u128::from(a) + u128::from(b)) * u128::from(flow.scale());
        Some(match field {
            Field::FwdOctets => scaled(flow.fwd.octets),
            Field::BwdOctets => scaled(flow.bwd.octets),
            Field::Octets => sum(flow.fwd.octets, flow.bwd.octets),
            Field::FwdPackets => scaled(flow.fwd.packets),
            Field::BwdPackets => scaled(flow.bwd.packets),
            Field::Packets => sum(flow.fwd.packets, flow.bwd.packets),
            Field::FwdOctetsL2 => scaled(flow.fwd.octets_l2?),
            Field::BwdOctetsL2 => scaled(flow.bwd.octets_l2?),
            Field::FwdPayload => scaled(flow.fwd.payload?),
            Field::BwdPayload => scaled(flow.bwd.payload?),
            Field::Retransmits => sum_known(flow.fwd.retransmits, flow.bwd.retransmits)?,
            _ => return None,
        })
    }

    fn attribute(&self, field: Field) -> Option<u128> {
        let flow = self.flow;
        Some(match field {
            Field::Src => flow.src.0,
            Field::Dst => flow.dst.0,
            Field::SrcPort => flow.src_port.into(),
            Field::DstPort => flow.dst_port.into(),
            Field::Protocol => flow.protocol.into(),
            Field::SrcIsIpv6 => (!flow.src.is_v4()).into(),
            Field::DstIsIpv6 => (!flow.dst.is_v4()).into(),
            Field::Family => (!flow.src.is_v4()).into(),
            Field::Direction => flow.direction as u128,
            Field::DirectionBy => flow.direction_by as u128,
            Field::Initiated => self.initiated.unwrap_or(flow.direction.initiated()).into(),
            Field::ResponderAtHome => {
                matches!(flow.direction, Direction::Inbound | Direction::Internal).into()
            }
            Field::Site => flow.site.into(),
            Field::Vrf => flow.vrf.into(),
            Field::Exporter => known(flow.point.exporter)?.0,
            Field::InIf => flow.in_if?.into(),
            Field::OutIf => flow.out_if?.into(),
            Field::Vlan => flow.vlan?.into(),
            Field::Tos => flow.tos?.into(),
            Field::Start => micros(flow.first.0),
            Field::End => micros(flow.last.0),
            Field::Duration => micros(flow.duration_us()),
            Field::FwdFlags | Field::FwdFlagNames => flow.fwd.tcp_flags?.into(),
            Field::BwdFlags | Field::BwdFlagNames => flow.bwd.tcp_flags?.into(),
            Field::Flags | Field::FlagNames => both_flags(flow)?.into(),
            Field::RttUs => flow.rtt_us?.into(),
            Field::FwdTtl => flow.fwd.ttl?.into(),
            Field::BwdTtl => flow.bwd.ttl?.into(),
            Field::TcpState => flow.tcp_state? as u128,
            Field::ConnState => conn_state(flow)?,
            Field::SamplingInterval => flow.sampling_interval?.into(),
            Field::SamplingUnknown => flow.sampling_interval.is_none().into(),
            Field::SrcAsn => flow.src_asn?.into(),
            Field::DstAsn => flow.dst_asn?.into(),
            Field::Tunnel => flow.tunnel?.kind as u128,
            Field::TunnelSrc => flow.tunnel?.src.0,
            Field::TunnelDst => flow.tunnel?.dst.0,
            Field::TunnelId => flow.tunnel?.id.into(),
            // Counters, and free text.
            _ => return None,
        })
    }

    /// The field's free text; `None` if the flow lacks it or it is no text.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<&'a str> {
        if self.absent.contains(field) {
            return None;
        }
        match field {
            Field::VrfName => self.flow.vrf_name.as_deref(),
            Field::InIfName => self.flow.in_if_name.as_deref(),
            Field::OutIfName => self.flow.out_if_name.as_deref(),
            Field::Application => self.flow.application.as_deref(),
            _ => None,
        }
    }

    /// Whether the flow has the field.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.integer(field).is_some() || self.text(field).is_some()
    }
}

fn known(address: Addr) -> Option<Addr> {
    (address != Addr::UNSPECIFIED).then_some(address)
}

/// Instants before 1970 count as 1970; durations are never negative.
fn micros(value: i64) -> u128 {
    u128::try_from(value).unwrap_or(0)
}

fn both_flags(flow: &Biflow) -> Option<record::TcpFlags> {
    match (flow.fwd.tcp_flags, flow.bwd.tcp_flags) {
        (None, None) => None,
        (fwd, bwd) => Some(fwd.unwrap_or(0) | bwd.unwrap_or(0)),
    }
}

fn sum_known(a: Option<u32>, b: Option<u32>) -> Option<u128> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(u128::from(a.unwrap_or(0)) + u128::from(b.unwrap_or(0))),
    }
}

/// The index in [`CONN_STATES`]: who reset is told by the flags.
fn conn_state(flow: &Biflow) -> Option<u128> {
    let has = |flags: Option<record::TcpFlags>, flag| flags.unwrap_or(0) & flag != 0;
    Some(match flow.tcp_state? {
        TcpState::Attempt => 0,
        TcpState::Established => 1,
        TcpState::Closed => 2,
        TcpState::Reset if has(flow.fwd.tcp_flags, record::RST) => 4,
        TcpState::Reset if !has(flow.bwd.tcp_flags, record::SYN) => 3,
        TcpState::Reset => 5,
    })
}

/// The words of a field's integer, the first being the one that is shown. Empty for kinds whose
/// text is a number or an address.
#[must_use]
pub fn words(kind: Kind, value: u128) -> &'static [&'static str] {
    match kind {
        Kind::Named(all) => {
            usize::try_from(value).ok().and_then(|v| all.get(v)).unwrap_or(&&[][..])
        }
        Kind::Protocol => u8::try_from(value).map_or(&[], names::protocol),
        _ => &[],
    }
}

const _: () = assert!((Field::TunnelId as u32) < 128, "a field set has 128 places");
const _: () = assert!(DirectionBy::First as usize == 4 && TcpState::Reset as usize == 3);
