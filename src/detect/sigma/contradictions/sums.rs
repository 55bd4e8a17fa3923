//! Totals and their parts: the octets of a flow are those of both directions together, and so are its packets.

use super::{Clash, Known};
use crate::detect::sigma::fields::Field;
use crate::detect::sigma::interval::IntervalSet;

/// A total, and the two parts that make it.
const SUMS: [[Field; 3]; 2] = [
    [Field::Octets, Field::FwdOctets, Field::BwdOctets],
    [Field::Packets, Field::FwdPackets, Field::BwdPackets],
];

/// The predicates on a total and on its parts, one of which is `field`, that leave no sum possible.
pub(super) fn clash<'a>(known: &Known<'a>, field: Field) -> Option<Clash<'a>> {
    let sum @ [whole, one, other] = SUMS.into_iter().find(|sum| sum.contains(&field))?;
    let bounds = |field: Field| {
        let left = known.0.iter().find(|left| left.leaves[0].field == field);
        let intervals = left.and_then(|left| left.set.as_ref()).map(IntervalSet::intervals);
        match intervals {
            Some([(least, _), .., (_, most)] | [(least, most)]) => (*least, *most),
            _ => (0, u128::MAX),
        }
    };
    let (whole_at, one_at, other_at) = (bounds(whole), bounds(one), bounds(other));
    let too_much = |least: u128| least > whole_at.1;
    let wrong = if too_much(one_at.0) {
        vec![whole, one]
    } else if too_much(other_at.0) {
        vec![whole, other]
    } else if too_much(one_at.0.saturating_add(other_at.0))
        || one_at.1.saturating_add(other_at.1) < whole_at.0
    {
        sum.to_vec()
    } else {
        return None;
    };
    let left = known.0.iter().filter(|left| wrong.contains(&left.leaves[0].field));
    Some(left.flat_map(|left| left.leaves.iter().copied()).collect())
}
