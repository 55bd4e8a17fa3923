//! How the values of fields are read off a row.

use super::{Context, Row, Value};
use crate::detect::sequence::{Attack, Class};
use crate::detect::{Alert, RuleMeta};
use crate::flow::Slice;
use crate::net::Addr;
use crate::output::ndjson::{integer, write_address};

/// A counter; the largest that the type holds if it is larger.
/// A port; an alert on many flows has none where no port is theirs.
pub(super) fn port(row: &Row<'_>, port: u16) -> Value<'static> {
    let absent = port == 0 && row.alert.is_some_and(Alert::is_on_many_flows);
    if absent { Value::Null } else { Value::Int(port.into()) }
}

pub(super) fn int(value: u64) -> Value<'static> {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn opt_u64(value: Option<u64>) -> Value<'static> {
    some(value, int)
}

pub(super) fn opt(value: Option<impl Into<i64>>) -> Value<'static> {
    some(value, |value| Value::Int(value.into()))
}

pub(super) fn some<'a, T>(value: Option<T>, show: impl FnOnce(T) -> Value<'a>) -> Value<'a> {
    value.map_or(Value::Null, show)
}

pub(super) fn text(value: Option<&String>) -> Value<'_> {
    name(value.map(String::as_str))
}

pub(super) fn name(value: Option<&str>) -> Value<'_> {
    some(value, Value::Text)
}

pub(super) fn of_slice<'a>(row: &Row<'a>, show: impl FnOnce(&'a Slice) -> Value<'a>) -> Value<'a> {
    some(row.slice, show)
}

pub(super) fn rule<'a>(row: &Row<'a>, show: impl FnOnce(&'a RuleMeta) -> Value<'a>) -> Value<'a> {
    some(row.alert, |alert| show(&alert.rule))
}

pub(super) fn exporter(row: &Row<'_>) -> Option<Addr> {
    Some(row.flow.point.exporter).filter(|&address| address != Addr::UNSPECIFIED)
}

pub(super) fn class(row: &Row<'_>) -> Option<Class> {
    row.verdict.and_then(|verdict| verdict.class)
}

pub(super) fn attack<'a>(row: &Row<'a>) -> Option<&'a Attack> {
    row.verdict.and_then(|verdict| verdict.attack.as_ref())
}

/// What [`Sequence::id`](crate::detect::sequence::Sequence::id) shows, made as fast as the other
/// columns of a slice are.
pub(super) fn sequence_id<'a>(row: &Row<'a>, _: &'a Context) -> Value<'a> {
    let Some(verdict) = row.verdict else { return Value::Null };
    let (src, dst, sequence) = (row.flow.src, row.flow.dst, verdict.sequence);
    let mut id = Vec::with_capacity(64);
    for address in [src.min(dst), src.max(dst)] {
        write_address(&mut id, address);
        id.push(b'_');
    }
    integer(&mut id, sequence.start_ms);
    id.extend_from_slice(b"_c");
    integer(&mut id, sequence.ordinal.into());
    Value::Made(String::from_utf8(id).expect("addresses and digits"))
}

pub(super) fn retransmits<'a>(row: &Row<'a>, _: &'a Context) -> Value<'a> {
    match (row.flow.fwd.retransmits, row.flow.bwd.retransmits) {
        (None, None) => Value::Null,
        (fwd, bwd) => Value::Int(i64::from(fwd.unwrap_or(0)) + i64::from(bwd.unwrap_or(0))),
    }
}

/// Nothing without a protocol, and of an alert of the model, which is on many flows: an id that no
/// other tool would give is worse than none.
pub(super) fn community_id<'a>(row: &Row<'a>, context: &'a Context) -> Value<'a> {
    let of_many = row.alert.is_some_and(Alert::is_on_many_flows);
    if !context.community_id || row.flow.protocol == 0 || of_many {
        return Value::Null;
    }
    Value::Made(crate::flow::community_id(row.flow, 0))
}
