//! Members that ECS and OCSF have alike.

use super::known::Known;
use super::made::{protocol_name, put_int, put_list, put_some, put_text};
use crate::output::ndjson::string;

/// The record's identity.
pub(super) fn id(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    out.push(b'"');
    known.write_id(out);
    out.push(b'"');
    true
}

/// The rule's title.
pub(super) fn title(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    string(out, &known.text(known.at.rule_title));
    true
}

/// The initiator's port, but for ICMP.
pub(super) fn src_port(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    !known.icmp() && put_some(out, known.int(known.at.src_port))
}

/// The responder's port, but for ICMP.
pub(super) fn dst_port(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    !known.icmp() && put_some(out, known.int(known.at.dst_port))
}

/// Type of the initiator's ICMP message.
pub(super) fn icmp_type(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    known.icmp() && put_some(out, known.int(known.at.src_port))
}

/// Its code.
pub(super) fn icmp_code(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    known.icmp() && put_some(out, known.int(known.at.dst_port))
}

/// Keyword of the IP protocol.
pub(super) fn protocol_keyword(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    protocol_name(known.protocol()).is_some_and(|name| put_text(out, name))
}

/// Octets of both directions.
pub(super) fn bytes(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.sum(known.at.fwd_bytes, known.at.bwd_bytes))
}

/// Packets of both directions.
pub(super) fn packets(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    put_int(out, known.sum(known.at.fwd_pkts, known.at.bwd_pkts))
}

/// Ids of the rules that fired.
pub(super) fn rule_ids(out: &mut Vec<u8>, known: &Known<'_>) -> bool {
    let ids: Vec<_> = known.tags().into_iter().map(|tag| tag.id).collect();
    put_list(out, &ids, |out, id| string(out, id));
    !ids.is_empty()
}
