//! What an information element is called and how its octets are to be read.
//!
//! The table is IANA's IPFIX registry and the registries of vendors, generated into
//! `elements/table.rs`. NetFlow v9 shares IANA's ids below 128, and IANA's names are used for it. Reverse
//! elements (RFC 5103 §6.1) are derived when asked for, scope types of v9 (RFC 3954 §6.1) stand
//! here.

use std::borrow::Cow;

mod table;

/// The private enterprise number of reverse elements (RFC 5103 §6.1).
pub const REVERSE_PEN: u32 = 29_305;

/// Abstract data types (RFC 7011 §6.1, RFC 6313 §4.5, and unsigned256 of the registry).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum Type {
    OctetArray,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned256,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Float32,
    Float64,
    Boolean,
    MacAddress,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

impl Type {
    /// The registry's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OctetArray => "octetArray",
            Self::Unsigned8 => "unsigned8",
            Self::Unsigned16 => "unsigned16",
            Self::Unsigned32 => "unsigned32",
            Self::Unsigned64 => "unsigned64",
            Self::Unsigned256 => "unsigned256",
            Self::Signed8 => "signed8",
            Self::Signed16 => "signed16",
            Self::Signed32 => "signed32",
            Self::Signed64 => "signed64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Boolean => "boolean",
            Self::MacAddress => "macAddress",
            Self::String => "string",
            Self::DateTimeSeconds => "dateTimeSeconds",
            Self::DateTimeMilliseconds => "dateTimeMilliseconds",
            Self::DateTimeMicroseconds => "dateTimeMicroseconds",
            Self::DateTimeNanoseconds => "dateTimeNanoseconds",
            Self::Ipv4Address => "ipv4Address",
            Self::Ipv6Address => "ipv6Address",
            Self::BasicList => "basicList",
            Self::SubTemplateList => "subTemplateList",
            Self::SubTemplateMultiList => "subTemplateMultiList",
        }
    }
}

/// Data type semantics (RFC 7012 §3.2, RFC 6313 §4.5 and the registry).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum Semantics {
    Default,
    Quantity,
    TotalCounter,
    DeltaCounter,
    Identifier,
    Flags,
    List,
    SnmpCounter,
    SnmpGauge,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    name: &'static str,
    data_type: Type,
    semantics: Semantics,
    units: &'static str,
}

/// Keeps the generated rows short.
const fn entry(
    name: &'static str,
    data_type: Type,
    semantics: Semantics,
    units: &'static str,
) -> Entry {
    Entry { name, data_type, semantics, units }
}

/// [`entry`] in a table that has gaps; a short name, so that each row fits a line.
const fn e(
    name: &'static str,
    data_type: Type,
    semantics: Semantics,
    units: &'static str,
) -> Option<Entry> {
    Some(entry(name, data_type, semantics, units))
}

/// An information element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Element {
    /// The registry's name, `reverse` and a capital before it for a reverse element.
    pub name: Cow<'static, str>,
    /// How its octets are read.
    pub data_type: Type,
    /// What kind of quantity it is.
    pub semantics: Semantics,
    /// Units in the registry's words; empty if it names none.
    pub units: &'static str,
}

/// The element `id` of enterprise `pen` (0 is IANA), if it is known. O(1) for IANA's, else a
/// binary search; a reverse element allocates its name.
#[must_use]
pub fn element(pen: u32, id: u16) -> Option<Element> {
    match pen {
        0 => iana(id).map(Element::from),
        REVERSE_PEN => iana(id).map(|entry| Element {
            name: Cow::Owned(reverse_name(entry.name)),
            ..Element::from(entry)
        }),
        _ => {
            let found = table::VENDORS.binary_search_by_key(&(pen, id), |row| (row.0, row.1));
            found.ok().map(|at| Element::from(&table::VENDORS[at].2))
        }
    }
}

/// The scope field of type `id` in a v9 options template (RFC 3954 §6.1). The names are ours: the
/// RFC numbers them apart from field types.
#[must_use]
pub fn v9_scope(id: u16) -> Option<Element> {
    let name = match id {
        1 => "scopeSystem",
        2 => "scopeInterface",
        3 => "scopeLineCard",
        4 => "scopeCache",
        5 => "scopeTemplate",
        _ => return None,
    };
    Some(Element::from(&entry(name, Type::Unsigned64, Semantics::Identifier, "")))
}

fn iana(id: u16) -> Option<&'static Entry> {
    table::IANA.get(usize::from(id))?.as_ref()
}

impl From<&Entry> for Element {
    fn from(entry: &Entry) -> Self {
        let Entry { name, data_type, semantics, units } = *entry;
        Self { name: Cow::Borrowed(name), data_type, semantics, units }
    }
}

fn reverse_name(name: &str) -> String {
    let (first, rest) = name.split_at_checked(1).unwrap_or((name, ""));
    format!("reverse{}{rest}", first.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pen: u32, id: u16, want: Option<(&str, Type, &str)>) {
        let found = element(pen, id);
        let found = found.as_ref().map(|e| (e.name.as_ref(), e.data_type, e.units));
        assert_eq!(found, want, "element {pen}/{id}");
    }

    #[test]
    fn elements_are_found_by_enterprise_and_id() {
        check(0, 1, Some(("octetDeltaCount", Type::Unsigned64, "octets")));
        check(0, 8, Some(("sourceIPv4Address", Type::Ipv4Address, "")));
        check(0, 293, Some(("subTemplateMultiList", Type::SubTemplateMultiList, "")));
        check(0, 0, None);
        check(0, 105, None);
        check(0, 32_767, None);
        check(REVERSE_PEN, 2, Some(("reversePacketDeltaCount", Type::Unsigned64, "packets")));
        check(REVERSE_PEN, 0, None);
        check(637, 93, Some(("aluNatSubString", Type::String, "")));
        check(2_011, 2, Some(("egressGponGemPortId", Type::Unsigned16, "")));
        check(2_011, 3, None);
        check(9, 1, None);
    }

    #[test]
    fn vendor_rows_are_sorted() {
        assert!(table::VENDORS.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
    }
}
