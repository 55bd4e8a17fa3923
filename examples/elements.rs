//! Writes the table of information elements from the registries that IANA and vendors publish.
//!
//! `cargo run --example elements -- FOLDER` reads `iana_ipfix_information_elements.xml`,
//! `nokia.xml` and `huawei.xml` of `FOLDER` and writes `src/decode/netflow/elements/table.rs`,
//! which is checked in, so that a build needs no registry.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Where the table is kept, from the root of the checkout.
pub const TABLE: &str = "src/decode/netflow/elements/table.rs";

/// Vendor registries, in the order of their private enterprise numbers.
const VENDORS: [(u32, &str); 2] = [(637, "nokia.xml"), (2_011, "huawei.xml")];

const HEAD: &str = "\
//! Generated from the IANA IPFIX registry and vendor registries. Do not edit by hand:
//! `cargo run --example elements -- FOLDER` writes it, and a test holds that it is fresh.

use super::Semantics as S;
use super::Type as T;
use super::{Entry, e, entry};

";

/// One `<record>` of a registry.
struct Record<'a> {
    id: u16,
    name: &'a str,
    data_type: &'a str,
    semantics: &'a str,
    units: &'a str,
}

/// The text of the table, from the registries in `folder`.
///
/// # Errors
/// A registry that cannot be read, or a data type or semantics that no variant names.
pub fn generate(folder: &Path) -> Result<String, String> {
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let iana = read("iana_ipfix_information_elements.xml")?;
    let iana = records(&iana);
    let last = iana.iter().map(|record| record.id).max().ok_or("no element in the registry")?;
    let mut table = String::from(HEAD);
    writeln!(table, "/// The highest id that IANA has assigned.").expect("a string grows");
    writeln!(table, "pub(super) const IANA_LAST: u16 = {last};\n").expect("a string grows");
    table.push_str("/// IANA's elements, by id.\n#[rustfmt::skip]\n");
    table.push_str("pub(super) static IANA: [Option<Entry>; IANA_LAST as usize + 1] = [\n");
    for id in 0..=last {
        if id % 10 == 0 {
            writeln!(table, "    // {id}").expect("a string grows");
        }
        match iana.iter().find(|record| record.id == id) {
            Some(record) => writeln!(table, "    e({}),", arguments(record)?),
            None => writeln!(table, "    None,"),
        }
        .expect("a string grows");
    }
    table.push_str("];\n\n/// Vendors' elements, sorted by enterprise number and id.\n");
    table.push_str("#[rustfmt::skip]\npub(super) static VENDORS: &[(u32, u16, Entry)] = &[\n");
    for (pen, file) in VENDORS {
        let registry = read(file)?;
        let mut vendor = records(&registry);
        vendor.sort_by_key(|record| record.id);
        for record in &vendor {
            writeln!(table, "    ({pen}, {}, entry({})),", record.id, arguments(record)?)
                .expect("a string grows");
        }
    }
    table.push_str("];\n");
    Ok(table)
}

/// The records that have a data type: ranges, reserved and unassigned ids have none.
fn records(xml: &str) -> Vec<Record<'_>> {
    let start = xml.find("id=\"ipfix-information-elements\"").unwrap_or(0);
    let registry = &xml[start..];
    let registry = &registry[..registry.find("</registry>").unwrap_or(registry.len())];
    let record = |text| {
        Some(Record {
            id: element(text, "elementId")?.parse().ok()?,
            name: element(text, "name")?,
            data_type: element(text, "dataType")?,
            semantics: element(text, "dataTypeSemantics").unwrap_or("default"),
            units: element(text, "units").unwrap_or(""),
        })
    };
    registry.split("<record").skip(1).filter_map(record).collect()
}

/// The text of the first `<tag>` in `xml`.
fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once('<')?.0.trim())
}

/// The arguments of the row's constructor, as source text.
fn arguments(record: &Record<'_>) -> Result<String, String> {
    let data_type = match record.data_type {
        "octetArray" => "OctetArray",
        "unsigned8" => "Unsigned8",
        "unsigned16" => "Unsigned16",
        "unsigned32" => "Unsigned32",
        "unsigned64" => "Unsigned64",
        "unsigned256" => "Unsigned256",
        "signed8" => "Signed8",
        "signed16" => "Signed16",
        "signed32" => "Signed32",
        "signed64" => "Signed64",
        "float32" => "Float32",
        "float64" => "Float64",
        "boolean" => "Boolean",
        "macAddress" => "MacAddress",
        "string" => "String",
        "dateTimeSeconds" => "DateTimeSeconds",
        "dateTimeMilliseconds" => "DateTimeMilliseconds",
        "dateTimeMicroseconds" => "DateTimeMicroseconds",
        "dateTimeNanoseconds" => "DateTimeNanoseconds",
        "ipv4Address" => "Ipv4Address",
        "ipv6Address" => "Ipv6Address",
        "basicList" => "BasicList",
        "subTemplateList" => "SubTemplateList",
        "subTemplateMultiList" => "SubTemplateMultiList",
        other => return Err(format!("{}: data type `{other}`", record.name)),
    };
    let semantics = match record.semantics {
        "default" | "" => "Default",
        "quantity" => "Quantity",
        "totalCounter" => "TotalCounter",
        "deltaCounter" => "DeltaCounter",
        "identifier" => "Identifier",
        "flags" => "Flags",
        "list" => "List",
        "snmpCounter" => "SnmpCounter",
        "snmpGauge" => "SnmpGauge",
        other => return Err(format!("{}: semantics `{other}`", record.name)),
    };
    let (name, units) = (record.name, record.units);
    Ok(format!("{name:?}, T::{data_type}, S::{semantics}, {units:?}"))
}

#[allow(dead_code, reason = "the test includes this file for `generate` alone")]
fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: elements FOLDER");
        return ExitCode::from(2);
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let written = generate(Path::new(&folder))
        .and_then(|table| std::fs::write(&path, table).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("elements: {error}");
            ExitCode::FAILURE
        }
    }
}
