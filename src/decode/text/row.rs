//! One row to one record.

use super::columns::{Columns, Role};
use super::error::RowFault;
use super::value;
use crate::flow::record::{Counters, FlowRecord, ObservationPoint};
use crate::net::Addr;

/// Characters of a value that an error shows.
const SHOWN_CHARS: usize = 64;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// The cells of a row: their text back to back, and the end of each in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells<'a> {
    pub(super) text: &'a [u8],
    pub(super) ends: &'a [usize],
}

impl<'a> Cells<'a> {
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

/// Makes a record of `cells`, which has as many cells as `columns`.
pub(super) fn record(columns: &Columns, cells: &Cells<'_>) -> Result<FlowRecord, RowFault> {
    let row = Row { columns, cells };
    let timestamp = "a date and time, or a number since the epoch below 1e20";
    let first = row.must(Role::Timestamp, timestamp, value::timestamp)?;
    let exponent = columns.unit().exponent();
    let expected = columns.unit().expected();
    let duration = row.must(Role::Duration, expected, |text| value::duration(text, exponent))?;
    let protocol =
        row.may(Role::Protocol, "a protocol's name or number, 0 to 255", value::protocol)?;
    let (src_port, dst_port) = ports(&row, protocol)?;
    let whole = "a whole number, 0 to 9223372036854775807";
    let fwd = Counters {
        octets: row.must(Role::FwdBytes, whole, value::count)?,
        packets: row.may(Role::FwdPkts, whole, value::count)?.unwrap_or(0),
        ..Counters::default()
    };
    // Without any column for it, the way back was not metered here and may be another row.
    let both = columns.of(Role::BwdBytes).or(columns.of(Role::BwdPkts)).is_some();
    let bwd = Counters {
        octets: row.may(Role::BwdBytes, whole, value::count)?.unwrap_or(0),
        packets: row.may(Role::BwdPkts, whole, value::count)?.unwrap_or(0),
        ..Counters::default()
    };
    let address = "an IPv4 or IPv6 address";
    let last = first.plus(duration);
    Ok(FlowRecord {
        stamp: last,
        src: row.must(Role::SrcIp, address, |text| text.parse::<Addr>().ok())?,
        dst: row.must(Role::DestIp, address, |text| text.parse::<Addr>().ok())?,
        src_port,
        dst_port,
        protocol: protocol.unwrap_or(0),
        first,
        last,
        fwd,
        bwd: both.then_some(bwd),
        point: ObservationPoint { direction: 255, ..ObservationPoint::default() },
        biflow_direction: both.then_some(1),
        ..FlowRecord::default()
    })
}

/// The ports as a record has them. Rows have ICMP's type and code in their place, records have
/// type << 8 | code as the destination's. Of protocols without ports the cells may be empty.
fn ports(row: &Row<'_, '_>, protocol: Option<u8>) -> Result<(u16, u16), RowFault> {
    let expected = "a port, 0 to 65535";
    let has_ports = protocol.is_none_or(|p| matches!(p, 6 | 17 | 132));
    let (src, dst) = if has_ports {
        let src = row.must(Role::SrcPort, expected, value::port)?;
        (src, row.must(Role::DestPort, expected, value::port)?)
    } else {
        let src = row.may(Role::SrcPort, expected, value::port)?.unwrap_or(0);
        (src, row.may(Role::DestPort, expected, value::port)?.unwrap_or(0))
    };
    if matches!(protocol, Some(ICMP | ICMP_V6)) && src <= 255 && dst <= 255 {
        return Ok((0, src << 8 | dst));
    }
    Ok((src, dst))
}

struct Row<'c, 'r> {
    columns: &'c Columns,
    cells: &'r Cells<'r>,
}

impl Row<'_, '_> {
    /// The value of a column that must have one.
    fn must<T>(
        &self,
        role: Role,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, RowFault> {
        self.may(role, expected, parse)?.ok_or_else(|| {
            let index = self.columns.of(role);
            RowFault::Missing {
                column: index.map_or("", |index| self.columns.name(index)).to_owned(),
                value: index.map_or_else(String::new, |index| shown(self.cells.get(index))),
                expected,
            }
        })
    }

    /// The value of a column, `None` if there is no such column or its cell is empty.
    fn may<T>(
        &self,
        role: Role,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RowFault> {
        let Some(index) = self.columns.of(role) else { return Ok(None) };
        let cell = self.cells.get(index);
        let text = std::str::from_utf8(cell).map(str::trim);
        match text {
            Ok(text) if value::absent(text) => return Ok(None),
            Ok(text) => {
                if let Some(value) = parse(text) {
                    return Ok(Some(value));
                }
            }
            Err(_) => {}
        }
        Err(RowFault::Value {
            column: self.columns.name(index).to_owned(),
            value: shown(cell),
            expected,
        })
    }
}

/// A cell as errors show it.
fn shown(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).trim().chars().take(SHOWN_CHARS).collect()
}
