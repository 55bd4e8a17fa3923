//! What the columns of a header mean: DeepTempo's canonical NetFlow schema, version 1, with the
//! aliases that its tools accept.

use super::HeaderError;

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Start of the flow.
    Timestamp,
    /// Source address.
    SrcIp,
    /// Destination address.
    DestIp,
    /// Source port.
    SrcPort,
    /// Destination port.
    DestPort,
    /// Octets from source to destination.
    FwdBytes,
    /// Octets from destination to source.
    BwdBytes,
    /// Packets from source to destination.
    FwdPkts,
    /// Packets from destination to source.
    BwdPkts,
    /// Duration, in the unit that the column's name tells.
    Duration,
    /// IP protocol, by number or name.
    Protocol,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 11] = [
        Self::Timestamp,
        Self::SrcIp,
        Self::DestIp,
        Self::SrcPort,
        Self::DestPort,
        Self::FwdBytes,
        Self::BwdBytes,
        Self::FwdPkts,
        Self::BwdPkts,
        Self::Duration,
        Self::Protocol,
    ];

    /// The names that a column of this role may have, the strongest first; the first is canonical.
    #[must_use]
    #[rustfmt::skip]
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Timestamp => &[
                "timestamp", "time", "ts", "flow_start", "start_time", "datetime", "first_seen",
                "firstseen", "_time", "flow_start_milliseconds",
            ],
            Self::SrcIp => &[
                "src_ip", "s_ip", "source_ip", "client_ip", "ipv4_address_cli", "srcaddr",
                "src_addr", "ipv4_src_addr",
            ],
            Self::DestIp => &[
                "dest_ip", "dst_ip", "destination_ip", "d_ip", "c_ip", "server_ip",
                "ipv4_address_serv", "dstaddr", "dst_addr", "ipv4_dst_addr",
            ],
            Self::SrcPort => &[
                "src_port", "s_port", "source_port", "client_port", "srcport", "sport",
                "l4_src_port",
            ],
            Self::DestPort => &[
                "dest_port", "dst_port", "destination_port", "d_port", "c_port", "server_port",
                "dstport", "dport", "l4_dst_port",
            ],
            Self::FwdBytes => &[
                "fwd_bytes", "forward_bytes", "bytes_forward", "dst_tbo", "in_bytes", "bytes_in",
                "bytes", "c_bytes_all", "bytes_sent", "octets_fwd", "total_fwd_bytes", "octets",
            ],
            Self::BwdBytes => &[
                "bwd_bytes", "backward_bytes", "bytes_backward", "dst_tbi", "out_bytes",
                "bytes_out", "s_bytes_all", "bytes_received", "octets_bwd", "total_bwd_bytes",
            ],
            Self::FwdPkts => &[
                "fwd_pkts", "fwd_packets", "forward_pkts", "forward_packets", "pkts_forward",
                "packets_forward", "in_pkts", "pkts_in", "packets_in", "packets_sent",
                "total_fwd_pkts", "total_fwd_packets", "packets",
            ],
            Self::BwdPkts => &[
                "bwd_pkts", "bwd_packets", "backward_pkts", "backward_packets", "pkts_backward",
                "packets_backward", "out_pkts", "pkts_out", "packets_out", "packets_received",
                "total_bwd_pkts", "total_bwd_packets",
            ],
            Self::Duration => &[
                "flow_dur", "duration", "durat", "flow_duration", "duration_sec", "elapsed_time",
                "duration_ms", "flow_duration_milliseconds", "durationms",
                "duration_us", "duration_microseconds", "flow_duration_microseconds",
                "duration_ns", "duration_nanoseconds", "flow_duration_nanoseconds",
            ],
            Self::Protocol => &["protocol", "proto", "ip_protocol", "l4_protocol", "ipprotocol"],
        }
    }

    /// The canonical name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.aliases()[0]
    }

    /// Whether a flow cannot be made without it.
    #[must_use]
    pub const fn required(self) -> bool {
        !matches!(self, Self::BwdBytes | Self::FwdPkts | Self::BwdPkts | Self::Protocol)
    }
}

/// The column that says which capture or experiment a row is of. No part of a flow.
const SCENARIO: &str = "scenario";

/// Unit of a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the units'")]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    fn of(alias: &str) -> Self {
        match alias {
            "duration_ms" | "flow_duration_milliseconds" | "durationms" => Self::Milliseconds,
            "duration_us" | "duration_microseconds" | "flow_duration_microseconds" => {
                Self::Microseconds
            }
            "duration_ns" | "duration_nanoseconds" | "flow_duration_nanoseconds" => {
                Self::Nanoseconds
            }
            _ => Self::Seconds,
        }
    }

    /// What a duration's cell must hold: 0 to a hundred years.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Seconds => "a number of seconds, 0 to 3153600000",
            Self::Milliseconds => "a number of milliseconds, 0 to 3153600000000",
            Self::Microseconds => "a number of microseconds, 0 to 3153600000000000",
            Self::Nanoseconds => "a number of nanoseconds, 0 to 3153600000000000000",
        }
    }

    /// Microseconds in one, as a power of ten.
    pub(super) const fn exponent(self) -> i32 {
        match self {
            Self::Seconds => 6,
            Self::Milliseconds => 3,
            Self::Microseconds => 0,
            Self::Nanoseconds => -3,
        }
    }
}

/// Where each role stands in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Columns {
    /// The header's names, trimmed.
    names: Vec<String>,
    /// Index of the column of each role, in the order of [`Role::ALL`].
    index: [Option<usize>; 11],
    /// Unit of the duration's column.
    unit: Unit,
    scenario: Option<usize>,
}

impl Columns {
    /// Finds the columns in the cells of a header. Names are compared trimmed, in lower case, with
    /// ` ` and `-` as `_`; of several aliases of a role the first of its list wins, of several
    /// columns of one name the first. Columns of no role are ignored.
    ///
    /// # Errors
    /// [`HeaderError::Missing`] if a required role has no column.
    pub fn find<'a>(header: impl Iterator<Item = &'a str>) -> Result<Self, HeaderError> {
        let names: Vec<String> = header.map(|name| name.trim().to_owned()).collect();
        let known: Vec<String> = names.iter().map(|name| normalise(name)).collect();
        let mut unit = Unit::Seconds;
        let index = Role::ALL.map(|role| {
            let mut aliases = role.aliases().iter();
            aliases.find_map(|alias| {
                let index = known.iter().position(|name| name == alias)?;
                if role == Role::Duration {
                    unit = Unit::of(alias);
                }
                Some(index)
            })
        });
        let missing = |(role, index): &(Role, Option<usize>)| role.required() && index.is_none();
        let missing: Vec<_> = Role::ALL.into_iter().zip(index).filter(missing).collect();
        if missing.is_empty() {
            let scenario = known.iter().position(|name| name == SCENARIO);
            return Ok(Self { names, index, unit, scenario });
        }
        let missing = missing.into_iter().map(|(role, _)| role.name()).collect();
        Err(HeaderError::Missing { missing, found: names })
    }

    /// The column of `role`.
    #[must_use]
    pub const fn of(&self, role: Role) -> Option<usize> {
        self.index[role as usize]
    }

    /// The column of the scenario.
    #[must_use]
    pub const fn scenario(&self) -> Option<usize> {
        self.scenario
    }

    /// The header's name of column `index`.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// How many columns there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.names.len()
    }

    /// Unit of the duration.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }
}

fn normalise(name: &str) -> String {
    let one = |c: char| if matches!(c, ' ' | '-') { '_' } else { c.to_ascii_lowercase() };
    name.chars().map(one).collect()
}
