//! Slices that Weir wrote, read again: one row of NDJSON or Parquet to one [`Slice`].
//!
//! Columns that rules do not need (`community_id`, the tags of the run that wrote them, names that
//! the configuration gives) are not read; columns of other names are ignored.

mod error;
mod ndjson;

pub use error::SliceError;
pub use ndjson::{NdjsonDecoder, ROW_OCTETS_MAX, decode};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::flow::record::{Tunnel, TunnelKind};
use crate::flow::{
    Biflow, Direction, DirectionBy, EndReason, FlowId, ObservationPoint, Side, Slice, TcpState,
};
use crate::net::Addr;
use crate::time::Micros;

/// Microseconds up to which a duration in seconds is exact as a double.
const SECONDS_EXACT: f64 = 9_007_199_254_740_992.0;
/// Version of the schema that is read.
pub const SCHEMA: i64 = 1;

/// A text cell, borrowed where its form allows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// What kind of value a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the types")]
pub enum Kind {
    Text,
    Texts,
    Int,
    Float,
    Bool,
}

/// A row of which each column is asked for by its place in [`NAMES`].
pub trait Cells<'a> {
    /// A text; `None` where it is null or there is no such column.
    fn text(&self, column: usize) -> Option<Text<'a>>;
    /// A list of texts.
    fn texts(&self, column: usize) -> Option<Vec<Text<'a>>>;
    /// An integer.
    fn int(&self, column: usize) -> Option<i64>;
    /// A number.
    fn float(&self, column: usize) -> Option<f64>;
    /// A truth value.
    fn bool(&self, column: usize) -> Option<bool>;
}

macro_rules! columns {
    (@type Text) => { Option<Text<'a>> };
    (@type Texts) => { Option<Vec<Text<'a>>> };
    (@type Int) => { Option<i64> };
    (@type Float) => { Option<f64> };
    (@type Bool) => { Option<bool> };
    (@get Text $cells:ident $at:expr) => { $cells.text($at) };
    (@get Texts $cells:ident $at:expr) => { $cells.texts($at) };
    (@get Int $cells:ident $at:expr) => { $cells.int($at) };
    (@get Float $cells:ident $at:expr) => { $cells.float($at) };
    (@get Bool $cells:ident $at:expr) => { $cells.bool($at) };
    ($($name:ident $kind:ident)*) => {
        /// The columns that are read, in the order of [`Cells`].
        pub const NAMES: &[(&str, Kind)] = &[$((stringify!($name), Kind::$kind)),*];

        #[expect(non_camel_case_types, reason = "the names are the columns'")]
        enum At { $($name),* }

        /// One row: the columns of the canonical schema that are read, as they stand there.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[expect(missing_docs, reason = "docs/schema.md has the columns")]
        pub struct Columns<'a> {
            $(pub $name: columns!(@type $kind)),*
        }

        impl<'de> Visitor<'de> for Row {
            type Value = Columns<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the columns of a slice")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Columns<'de>, M::Error> {
                let mut row = Columns::default();
                while let Some(Text(name)) = map.next_key()? {
                    match &*name {
                        $(stringify!($name) => row.$name = map.next_value()?,)*
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(row)
            }
        }

        impl<'a> Columns<'a> {
            /// The row that `cells` gives.
            pub fn of(cells: &impl Cells<'a>) -> Self {
                Self { $($name: columns!(@get $kind cells (At::$name as usize))),* }
            }
        }
    };
}

columns! {
    timestamp Int src_ip Text dest_ip Text src_port Int dest_port Int
    fwd_bytes Int bwd_bytes Int fwd_pkts Int bwd_pkts Int flow_dur Float protocol Int
    flow_id Text site Text slice Int last_slice Bool end_reason Text records Int
    exporter Text exporters Texts domain Int in_if Int out_if Int in_if_name Text out_if_name Text
    vlan Int vrf Int vrf_name Text application Text tos Int
    fwd_tcp_flags Int bwd_tcp_flags Int fwd_first_tcp_flags Int bwd_first_tcp_flags Int
    tcp_state Text direction Text direction_by Text sampling_interval Int
    fwd_bytes_l2 Int bwd_bytes_l2 Int fwd_payload Int bwd_payload Int retransmits Int rtt_us Int
    fwd_ttl Int bwd_ttl Int tunnel Text tunnel_src Text tunnel_dst Text tunnel_id Int
    src_asn Int dst_asn Int schema Int
}

/// Reads a row off a map: the columns in any order, others ignored.
struct Row;

impl<'de> Deserialize<'de> for Columns<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Row)
    }
}

const DIRECTIONS: [Direction; 4] =
    [Direction::Outbound, Direction::Inbound, Direction::Internal, Direction::External];
const DIRECTIONS_BY: [DirectionBy; 5] = [
    DirectionBy::Exporter,
    DirectionBy::Syn,
    DirectionBy::Start,
    DirectionBy::Port,
    DirectionBy::First,
];
const STATES: [TcpState; 4] =
    [TcpState::Attempt, TcpState::Established, TcpState::Closed, TcpState::Reset];
const END_REASONS: [EndReason; 5] = [
    EndReason::Idle,
    EndReason::Active,
    EndReason::EndOfFlow,
    EndReason::Forced,
    EndReason::LackOfResources,
];

impl Columns<'_> {
    /// The slice that the row tells of. `sites` are the names of the sites, by index.
    ///
    /// What a slice does not tell apart stays so: retransmitted segments of both directions are on
    /// the forward side.
    ///
    /// # Errors
    /// [`SliceError`], by the first column that does not fit.
    pub fn slice(&self, sites: &[String]) -> Result<Slice, SliceError> {
        let version = self.schema.ok_or(SliceError::NotASlice)?;
        if version != SCHEMA {
            return Err(SliceError::Schema { found: version });
        }
        if self.slice.is_none() || self.flow_id.is_none() {
            return Err(SliceError::NotASlice);
        }
        let flow_id = text("flow_id", &self.flow_id)?;
        let flow_id = u128::from_str_radix(flow_id, 16)
            .map_err(|_| bad("flow_id", flow_id, "32 hexadecimal digits"))?;
        let last = self.last_slice.ok_or(SliceError::Missing { column: "last_slice" })?;
        Ok(Slice {
            flow_id: FlowId(flow_id),
            number: number("slice", self.slice)?,
            last,
            end_reason: one_of("end_reason", &self.end_reason, &END_REASONS, EndReason::as_str)?,
            records: number("records", self.records)?,
            flow: self.flow(sites)?,
            fired: Vec::new(),
        })
    }

    fn flow(&self, sites: &[String]) -> Result<Biflow, SliceError> {
        let first = self.timestamp.ok_or(SliceError::Missing { column: "timestamp" })?;
        let seconds = self.flow_dur.ok_or(SliceError::Missing { column: "flow_dur" })?;
        let micros = (seconds * 1e6).round();
        if !(0.0..=SECONDS_EXACT).contains(&micros) {
            return Err(bad("flow_dur", &seconds.to_string(), "seconds, not below 0"));
        }
        let first = Micros(first);
        Ok(Biflow {
            site: self.site_index(sites)?,
            vrf: optional("vrf", self.vrf)?.unwrap_or(0),
            vrf_name: self.vrf_name.as_ref().map(shared),
            src: address("src_ip", text("src_ip", &self.src_ip)?)?,
            dst: address("dest_ip", text("dest_ip", &self.dest_ip)?)?,
            src_port: number("src_port", self.src_port)?,
            dst_port: number("dest_port", self.dest_port)?,
            protocol: number("protocol", self.protocol)?,
            first,
            last: first.plus(micros as i64),
            fwd: self.forward()?,
            bwd: self.backward()?,
            point: ObservationPoint {
                exporter: some_address("exporter", &self.exporter)?.unwrap_or_default(),
                domain: optional("domain", self.domain)?.unwrap_or(0),
                ..ObservationPoint::default()
            },
            exporters: self.exporters()?,
            in_if: optional("in_if", self.in_if)?,
            out_if: optional("out_if", self.out_if)?,
            in_if_name: self.in_if_name.as_ref().map(shared),
            out_if_name: self.out_if_name.as_ref().map(shared),
            application: self.application.as_ref().map(shared),
            vlan: optional("vlan", self.vlan)?,
            tos: optional("tos", self.tos)?,
            tcp_state: some_of("tcp_state", &self.tcp_state, &STATES, TcpState::as_str)?,
            rtt_us: optional("rtt_us", self.rtt_us)?,
            direction: one_of("direction", &self.direction, &DIRECTIONS, Direction::as_str)?,
            direction_by: one_of(
                "direction_by",
                &self.direction_by,
                &DIRECTIONS_BY,
                DirectionBy::as_str,
            )?,
            sampling_interval: optional("sampling_interval", self.sampling_interval)?,
            src_asn: optional("src_asn", self.src_asn)?,
            dst_asn: optional("dst_asn", self.dst_asn)?,
            tunnel: self.tunnel()?,
        })
    }

    fn forward(&self) -> Result<Side, SliceError> {
        Ok(Side {
            octets: number("fwd_bytes", self.fwd_bytes)?,
            packets: number("fwd_pkts", self.fwd_pkts)?,
            octets_l2: optional("fwd_bytes_l2", self.fwd_bytes_l2)?,
            payload: optional("fwd_payload", self.fwd_payload)?,
            tcp_flags: optional("fwd_tcp_flags", self.fwd_tcp_flags)?,
            first_flags: optional("fwd_first_tcp_flags", self.fwd_first_tcp_flags)?,
            retransmits: optional::<u64>("retransmits", self.retransmits)?
                .map(|both| u32::try_from(both).unwrap_or(u32::MAX)),
            ttl: optional("fwd_ttl", self.fwd_ttl)?,
        })
    }

    fn backward(&self) -> Result<Side, SliceError> {
        Ok(Side {
            octets: number("bwd_bytes", self.bwd_bytes)?,
            packets: number("bwd_pkts", self.bwd_pkts)?,
            octets_l2: optional("bwd_bytes_l2", self.bwd_bytes_l2)?,
            payload: optional("bwd_payload", self.bwd_payload)?,
            tcp_flags: optional("bwd_tcp_flags", self.bwd_tcp_flags)?,
            first_flags: optional("bwd_first_tcp_flags", self.bwd_first_tcp_flags)?,
            retransmits: None,
            ttl: optional("bwd_ttl", self.bwd_ttl)?,
        })
    }

    fn site_index(&self, sites: &[String]) -> Result<u16, SliceError> {
        let Some(name) = &self.site else { return Ok(0) };
        let index = sites.iter().position(|site| *site == name.0);
        let index = index.and_then(|index| u16::try_from(index).ok());
        index.ok_or_else(|| SliceError::Site { name: cut(&name.0) })
    }

    fn exporters(&self) -> Result<Vec<Addr>, SliceError> {
        let texts = self.exporters.iter().flatten();
        texts.map(|text| address("exporters", &text.0)).collect()
    }

    fn tunnel(&self) -> Result<Option<Tunnel>, SliceError> {
        let Some(kind) = some_of("tunnel", &self.tunnel, &TunnelKind::ALL, TunnelKind::as_str)?
        else {
            return Ok(None);
        };
        Ok(Some(Tunnel {
            kind,
            src: some_address("tunnel_src", &self.tunnel_src)?.unwrap_or_default(),
            dst: some_address("tunnel_dst", &self.tunnel_dst)?.unwrap_or_default(),
            id: optional("tunnel_id", self.tunnel_id)?.unwrap_or(0),
        }))
    }
}

fn shared(text: &Text<'_>) -> Arc<str> {
    Arc::from(&*text.0)
}

fn text<'t>(column: &'static str, value: &'t Option<Text<'_>>) -> Result<&'t str, SliceError> {
    value.as_ref().map(|text| &*text.0).ok_or(SliceError::Missing { column })
}

fn address(column: &'static str, text: &str) -> Result<Addr, SliceError> {
    text.parse().map_err(|_| bad(column, text, "an IP address"))
}

fn some_address(
    column: &'static str,
    value: &Option<Text<'_>>,
) -> Result<Option<Addr>, SliceError> {
    value.as_ref().map(|text| address(column, &text.0)).transpose()
}

fn number<T: TryFrom<i64>>(column: &'static str, value: Option<i64>) -> Result<T, SliceError> {
    optional(column, value)?.ok_or(SliceError::Missing { column })
}

fn optional<T: TryFrom<i64>>(
    column: &'static str,
    value: Option<i64>,
) -> Result<Option<T>, SliceError> {
    let fits = |value: i64| {
        T::try_from(value).map_err(|_| bad(column, &value.to_string(), "a number of its range"))
    };
    value.map(fits).transpose()
}

fn one_of<T: Copy>(
    column: &'static str,
    value: &Option<Text<'_>>,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<T, SliceError> {
    some_of(column, value, all, word)?.ok_or(SliceError::Missing { column })
}

fn some_of<T: Copy>(
    column: &'static str,
    value: &Option<Text<'_>>,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<Option<T>, SliceError> {
    let Some(text) = value else { return Ok(None) };
    let found = all.iter().copied().find(|&one| word(one) == text.0);
    found.map(Some).ok_or_else(|| bad(column, &text.0, "one of the words of docs/schema.md"))
}

fn bad(column: &'static str, value: &str, expected: &'static str) -> SliceError {
    SliceError::Value { column, value: cut(value), expected }
}

/// At most 64 characters: what stands in a file may be anything.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
