//! What the five dialects and Weir's own output call the fields of a flow.

use super::fields::Field;
use super::number::Unit;

/// Who uses a name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names are those of the dialects")]
pub enum Dialect {
    /// Weir's own output.
    Weir,
    Sysmon,
    Firewall,
    Zeek,
    Ecs,
    /// Short names of flow tools: `bytes_out` and its kin.
    Flow,
}

impl Dialect {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Weir, Self::Sysmon, Self::Firewall, Self::Zeek, Self::Ecs, Self::Flow];

    /// The heading in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weir => "Weir",
            Self::Sysmon => "Sysmon",
            Self::Firewall => "firewall",
            Self::Zeek => "Zeek conn",
            Self::Ecs => "ECS",
            Self::Flow => "flow",
        }
    }
}

/// A name in a dialect, the field it stands for, and the unit of its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Name {
    /// As written in rules; case counts.
    pub name: &'static str,
    /// Who uses it.
    pub dialect: Dialect,
    /// What it stands for.
    pub field: Field,
    /// Of its numbers.
    pub unit: Unit,
}

const fn n(dialect: Dialect, name: &'static str, field: Field) -> Name {
    Name { name, dialect, field, unit: Unit::ONE }
}

const fn u(dialect: Dialect, name: &'static str, field: Field, unit: Unit) -> Name {
    Name { name, dialect, field, unit }
}

use Dialect::{Ecs, Firewall, Flow, Sysmon, Weir, Zeek};

/// Every name. A name that several dialects share stands for the same in each.
pub const NAMES: &[Name] = &[
    u(Weir, "timestamp", Field::Start, Unit::ONE),
    u(Weir, "flow_dur", Field::Duration, Unit::SECONDS),
    n(Weir, "src_ip", Field::Src),
    n(Weir, "dest_ip", Field::Dst),
    n(Weir, "src_port", Field::SrcPort),
    n(Weir, "dest_port", Field::DstPort),
    n(Weir, "protocol", Field::Protocol),
    n(Weir, "fwd_bytes", Field::FwdOctets),
    n(Weir, "bwd_bytes", Field::BwdOctets),
    n(Weir, "fwd_pkts", Field::FwdPackets),
    n(Weir, "bwd_pkts", Field::BwdPackets),
    n(Weir, "site", Field::Site),
    n(Weir, "vrf", Field::Vrf),
    n(Weir, "vrf_name", Field::VrfName),
    n(Weir, "exporter", Field::Exporter),
    n(Weir, "in_if", Field::InIf),
    n(Weir, "out_if", Field::OutIf),
    n(Weir, "in_if_name", Field::InIfName),
    n(Weir, "out_if_name", Field::OutIfName),
    n(Weir, "application", Field::Application),
    n(Weir, "vlan", Field::Vlan),
    n(Weir, "tos", Field::Tos),
    n(Weir, "fwd_tcp_flags", Field::FwdFlags),
    n(Weir, "bwd_tcp_flags", Field::BwdFlags),
    n(Weir, "fwd_tcp_flag", Field::FwdFlagNames),
    n(Weir, "bwd_tcp_flag", Field::BwdFlagNames),
    n(Weir, "tcp_flag", Field::FlagNames),
    n(Weir, "tcp_state", Field::TcpState),
    n(Weir, "direction", Field::Direction),
    n(Weir, "direction_by", Field::DirectionBy),
    n(Weir, "sampling_interval", Field::SamplingInterval),
    n(Weir, "sampling_unknown", Field::SamplingUnknown),
    n(Weir, "fwd_bytes_l2", Field::FwdOctetsL2),
    n(Weir, "bwd_bytes_l2", Field::BwdOctetsL2),
    n(Weir, "fwd_payload", Field::FwdPayload),
    n(Weir, "bwd_payload", Field::BwdPayload),
    n(Weir, "fwd_ttl", Field::FwdTtl),
    n(Weir, "bwd_ttl", Field::BwdTtl),
    n(Weir, "retransmits", Field::Retransmits),
    n(Weir, "rtt_us", Field::RttUs),
    n(Weir, "src_asn", Field::SrcAsn),
    n(Weir, "dst_asn", Field::DstAsn),
    n(Weir, "tunnel", Field::Tunnel),
    n(Weir, "tunnel_src", Field::TunnelSrc),
    n(Weir, "tunnel_dst", Field::TunnelDst),
    n(Weir, "tunnel_id", Field::TunnelId),
    n(Sysmon, "SourceIp", Field::Src),
    n(Sysmon, "DestinationIp", Field::Dst),
    n(Sysmon, "SourcePort", Field::SrcPort),
    n(Sysmon, "DestinationPort", Field::DstPort),
    n(Sysmon, "Protocol", Field::Protocol),
    n(Sysmon, "Initiated", Field::Initiated),
    n(Sysmon, "SourceIsIpv6", Field::SrcIsIpv6),
    n(Sysmon, "DestinationIsIpv6", Field::DstIsIpv6),
    u(Sysmon, "UtcTime", Field::Start, Unit::SECONDS),
    n(Firewall, "src_ip", Field::Src),
    n(Firewall, "dst_ip", Field::Dst),
    n(Firewall, "src_port", Field::SrcPort),
    n(Firewall, "dst_port", Field::DstPort),
    n(Firewall, "protocol", Field::Protocol),
    n(Firewall, "proto", Field::Protocol),
    u(Zeek, "ts", Field::Start, Unit::SECONDS),
    n(Zeek, "id.orig_h", Field::Src),
    n(Zeek, "id.orig_p", Field::SrcPort),
    n(Zeek, "id.resp_h", Field::Dst),
    n(Zeek, "id.resp_p", Field::DstPort),
    n(Zeek, "proto", Field::Protocol),
    n(Zeek, "ip_proto", Field::Protocol),
    n(Zeek, "service", Field::Application),
    u(Zeek, "duration", Field::Duration, Unit::SECONDS),
    n(Zeek, "orig_bytes", Field::FwdOctets),
    n(Zeek, "resp_bytes", Field::BwdOctets),
    n(Zeek, "orig_ip_bytes", Field::FwdOctets),
    n(Zeek, "resp_ip_bytes", Field::BwdOctets),
    n(Zeek, "orig_pkts", Field::FwdPackets),
    n(Zeek, "resp_pkts", Field::BwdPackets),
    n(Zeek, "conn_state", Field::ConnState),
    n(Zeek, "local_orig", Field::Initiated),
    n(Zeek, "local_resp", Field::ResponderAtHome),
    n(Zeek, "vlan", Field::Vlan),
    u(Ecs, "@timestamp", Field::Start, Unit::MILLISECONDS),
    u(Ecs, "event.start", Field::Start, Unit::MILLISECONDS),
    u(Ecs, "event.end", Field::End, Unit::MILLISECONDS),
    u(Ecs, "event.duration", Field::Duration, Unit::NANOSECONDS),
    n(Ecs, "source.ip", Field::Src),
    n(Ecs, "source.address", Field::Src),
    n(Ecs, "source.port", Field::SrcPort),
    n(Ecs, "source.bytes", Field::FwdOctets),
    n(Ecs, "source.packets", Field::FwdPackets),
    n(Ecs, "source.as.number", Field::SrcAsn),
    n(Ecs, "destination.ip", Field::Dst),
    n(Ecs, "destination.address", Field::Dst),
    n(Ecs, "destination.port", Field::DstPort),
    n(Ecs, "destination.bytes", Field::BwdOctets),
    n(Ecs, "destination.packets", Field::BwdPackets),
    n(Ecs, "destination.as.number", Field::DstAsn),
    n(Ecs, "network.transport", Field::Protocol),
    n(Ecs, "network.iana_number", Field::Protocol),
    n(Ecs, "network.protocol", Field::Application),
    n(Ecs, "network.application", Field::Application),
    n(Ecs, "network.type", Field::Family),
    n(Ecs, "network.bytes", Field::Octets),
    n(Ecs, "network.packets", Field::Packets),
    n(Ecs, "network.direction", Field::Direction),
    n(Ecs, "network.vlan.id", Field::Vlan),
    n(Ecs, "observer.ip", Field::Exporter),
    n(Ecs, "observer.ingress.interface.id", Field::InIf),
    n(Ecs, "observer.egress.interface.id", Field::OutIf),
    n(Ecs, "observer.ingress.interface.name", Field::InIfName),
    n(Ecs, "observer.egress.interface.name", Field::OutIfName),
    n(Flow, "src_ip", Field::Src),
    n(Flow, "dst_ip", Field::Dst),
    n(Flow, "src_port", Field::SrcPort),
    n(Flow, "dst_port", Field::DstPort),
    n(Flow, "proto", Field::Protocol),
    n(Flow, "bytes_out", Field::FwdOctets),
    n(Flow, "bytes_in", Field::BwdOctets),
    n(Flow, "bytes", Field::Octets),
    n(Flow, "packets_out", Field::FwdPackets),
    n(Flow, "packets_in", Field::BwdPackets),
    n(Flow, "packets", Field::Packets),
    u(Flow, "duration_ms", Field::Duration, Unit::MILLISECONDS),
    n(Flow, "direction", Field::Direction),
    n(Flow, "initiated", Field::Initiated),
    n(Flow, "tcp_flags", Field::Flags),
];

/// What `name` stands for, if any dialect has it.
#[must_use]
pub fn look_up(name: &str) -> Option<(Field, Unit)> {
    NAMES.iter().find(|entry| entry.name == name).map(|entry| (entry.field, entry.unit))
}

/// The known name that `name` is a slip of, perhaps.
#[must_use]
pub fn near(name: &str) -> Option<&'static str> {
    super::near::near(name, NAMES.iter().map(|entry| entry.name))
}

/// ` (did you mean ...?)`, or nothing.
pub(super) fn hint(name: &str) -> String {
    super::near::hint(name, NAMES.iter().map(|entry| entry.name))
}

/// TCP flags by name, with their bit (IE 6).
pub const TCP_FLAGS: &[(&str, u16)] = &[
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
    ("ns", 0x100),
];

/// The names of an IP protocol, the one that is shown first: IANA's keyword in lower case and what
/// other tools write. Empty where only the number is in use.
#[must_use]
pub const fn protocol(number: u8) -> &'static [&'static str] {
    match number {
        0 => &["hopopt"],
        1 => &["icmp"],
        2 => &["igmp"],
        4 => &["ipip", "ipencap", "ip-in-ip"],
        6 => &["tcp"],
        8 => &["egp"],
        9 => &["igp"],
        17 => &["udp"],
        33 => &["dccp"],
        41 => &["ipv6", "6in4", "sit"],
        43 => &["ipv6-route"],
        44 => &["ipv6-frag"],
        46 => &["rsvp"],
        47 => &["gre"],
        50 => &["esp"],
        51 => &["ah"],
        58 => &["icmp6", "icmpv6", "ipv6-icmp"],
        59 => &["ipv6-nonxt"],
        60 => &["ipv6-opts"],
        88 => &["eigrp"],
        89 => &["ospf", "ospfigp"],
        97 => &["etherip"],
        103 => &["pim"],
        108 => &["ipcomp"],
        112 => &["vrrp"],
        115 => &["l2tp"],
        124 => &["isis"],
        132 => &["sctp"],
        136 => &["udplite"],
        137 => &["mpls-in-ip"],
        139 => &["hip"],
        140 => &["shim6"],
        143 => &["ethernet"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_name_stands_for_the_same_in_each_dialect() {
        for (at, entry) in NAMES.iter().enumerate() {
            assert_eq!(look_up(entry.name), Some((entry.field, entry.unit)), "{}", entry.name);
            let again = NAMES[..at]
                .iter()
                .find(|other| other.name == entry.name && other.dialect == entry.dialect);
            assert_eq!(again, None, "{} twice in one dialect", entry.name);
        }
        assert_eq!(look_up("SRC_IP"), None);
        assert_eq!(near("SRC_IP"), Some("src_ip"));
    }

    #[test]
    fn protocol_names_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for name in (0..=u8::MAX).flat_map(protocol) {
            assert!(seen.insert(name), "{name}");
            assert_eq!(*name, name.to_lowercase());
        }
    }
}
