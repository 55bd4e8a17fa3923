//! The records of v5 and v7 as lists of fields, under the names and ids of IANA's elements.
//!
//! Source: Cisco NetFlow Export Datagram Format, versions 5 and 7.

use std::borrow::Cow;

use super::super::elements::{Type, element};
use super::super::record::Field;
use super::super::value::render;
use super::super::wire::Version;

/// What both versions have: offset in the record, octets, element id. Padding is left out.
const COMMON: [(usize, usize, u16); 18] = [
    (0, 4, 8),
    (4, 4, 12),
    (8, 4, 15),
    (12, 2, 10),
    (14, 2, 14),
    (16, 4, 2),
    (20, 4, 1),
    (24, 4, 22),
    (28, 4, 21),
    (32, 2, 7),
    (34, 2, 11),
    (37, 1, 6),
    (38, 1, 4),
    (39, 1, 5),
    (40, 2, 16),
    (42, 2, 17),
    (44, 1, 9),
    (45, 1, 13),
];

/// What v7 adds, which no element of IANA's names: which fields are invalid, and the router that
/// the switch took a short cut past. Their id is 0, which IANA reserves.
const V7: [(usize, usize, &str, Type); 3] = [
    (36, 1, "flags1", Type::Unsigned8),
    (46, 2, "flags2", Type::Unsigned16),
    (48, 4, "routerSc", Type::Ipv4Address),
];

/// The fields of one whole record of `version`, which is v5 or v7.
pub(super) fn fields(version: Version, record: &[u8]) -> Vec<Field> {
    let common = COMMON.iter().map(|&(at, length, id)| {
        let element = element(0, id).expect("the table has the elements of v5");
        field(element.name, id, element.data_type, &record[at..at + length])
    });
    let v7 = if version == Version::V7 { &V7[..] } else { &[] };
    let v7 = v7.iter().map(|&(at, length, name, data_type)| {
        field(Cow::Borrowed(name), 0, data_type, &record[at..at + length])
    });
    common.chain(v7).collect()
}

fn field(name: Cow<'static, str>, id: u16, data_type: Type, octets: &[u8]) -> Field {
    let rendered = render(Some(data_type), octets);
    let (value, malformed) = (rendered.value, rendered.malformed);
    Field { name: Some(name), pen: 0, id, length: octets.len(), scope: false, value, malformed }
}
