//! Export packets, built octet by octet.

use super::NOW_S;

/// Element, enterprise number, length; 65,535 is variable.
pub(crate) type Spec = (u16, u32, u16);

/// IANA's elements with a length each.
pub(crate) fn iana(fields: &[(u16, u16)]) -> Vec<Spec> {
    fields.iter().map(|&(element, length)| (element, 0, length)).collect()
}

/// A big-endian integer of `width` octets.
pub(crate) fn be(value: u128, width: usize) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let mut out = vec![0; width.saturating_sub(16)];
    out.extend(&octets[16_usize.saturating_sub(width)..]);
    out
}

/// Concatenated fields: value and width.
pub(crate) fn record(fields: &[(u128, usize)]) -> Vec<u8> {
    fields.iter().flat_map(|&(value, width)| be(value, width)).collect()
}

/// A set: id and body.
pub(crate) fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut set = be(u128::from(id), 2);
    set.extend(be(body.len() as u128 + 4, 2));
    set.extend(body);
    set
}

fn specs(fields: &[Spec]) -> Vec<u8> {
    let mut out = Vec::new();
    for &(element, pen, length) in fields {
        let enterprise = if pen == 0 { 0 } else { 0x8000 };
        out.extend((element | enterprise).to_be_bytes());
        out.extend(length.to_be_bytes());
        if pen != 0 {
            out.extend(pen.to_be_bytes());
        }
    }
    out
}

/// A version with templates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    V9,
    Ipfix,
}

impl Format {
    /// A template set with one template.
    pub(crate) fn template(self, id: u16, fields: &[Spec]) -> Vec<u8> {
        let mut body = be(u128::from(id), 2);
        body.extend(be(fields.len() as u128, 2));
        body.extend(specs(fields));
        set(if self == Self::V9 { 0 } else { 2 }, &body)
    }

    /// An options template set with one template, whose first `scope` fields are scope.
    pub(crate) fn options_template(self, id: u16, scope: usize, fields: &[Spec]) -> Vec<u8> {
        let mut body = be(u128::from(id), 2);
        let rest = fields.len() - scope;
        let counts = match self {
            Self::V9 => [scope * 4, rest * 4],
            Self::Ipfix => [fields.len(), scope],
        };
        body.extend(counts.iter().flat_map(|&n| be(n as u128, 2)));
        body.extend(specs(fields));
        set(if self == Self::V9 { 1 } else { 3 }, &body)
    }

    /// A message of `sets`, sent at the time of the tests with an uptime of 1,000 s.
    pub(crate) fn message(self, sequence: u32, domain: u32, sets: &[Vec<u8>]) -> Vec<u8> {
        let body = sets.concat();
        let mut out = match self {
            Self::V9 => record(&[(9, 2), (sets.len() as u128, 2), (1_000_000, 4)]),
            Self::Ipfix => record(&[(10, 2), (16 + body.len() as u128, 2)]),
        };
        out.extend(record(&[
            (u128::from(NOW_S), 4),
            (u128::from(sequence), 4),
            (u128::from(domain), 4),
        ]));
        out.extend(body);
        out
    }
}

/// Withdraws one template (RFC 7011 §8.1), or all where `id` is the set's.
pub(crate) fn withdrawal(set_id: u16, id: u16) -> Vec<u8> {
    set(set_id, &record(&[(u128::from(id), 2), (0, 2)]))
}

/// A v5 or v7 datagram whose header claims `count` records; engine 1/2.
pub(crate) fn fixed(
    version: u16,
    count: u16,
    sequence: u32,
    sampling: u16,
    records: &[Vec<u8>],
) -> Vec<u8> {
    let mut out = record(&[
        (u128::from(version), 2),
        (u128::from(count), 2),
        (1_000_000, 4),
        (u128::from(NOW_S), 4),
        (0, 4),
        (u128::from(sequence), 4),
        (0x0102, 2),
        (u128::from(sampling), 2),
    ]);
    for record in records {
        out.extend(record);
        out.resize(out.len() + if version == 7 { 4 } else { 0 }, 0);
    }
    out
}

/// A v5 record: 10.0.0.1:1024 to 10.0.0.2:443 over TCP, 1,000 octets in 10 packets, from 5 s to
/// 1 s before the export.
pub(crate) fn fixed_record() -> Vec<u8> {
    record(&[
        (0x0a00_0001, 4),
        (0x0a00_0002, 4),
        (0x0a00_00fe, 4),
        (3, 2),
        (4, 2),
        (10, 4),
        (1_000, 4),
        (995_000, 4),
        (999_000, 4),
        (1_024, 2),
        (443, 2),
        (0, 1),
        (0x1b, 1),
        (6, 1),
        (0x20, 1),
        (64_512, 2),
        (64_513, 2),
        (24, 1),
        (24, 1),
        (0, 2),
    ])
}

/// Elements of the flow that most tests send: addresses, ports, protocol, octets, packets.
pub(crate) const FLOW: &[(u16, u16)] = &[(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4)];

/// A record of [`FLOW`]: 10.0.0.1:1024 to 10.0.0.2:443 over TCP.
pub(crate) fn flow(octets: u32, packets: u32) -> Vec<u8> {
    record(&[
        (0x0a00_0001, 4),
        (0x0a00_0002, 4),
        (1_024, 2),
        (443, 2),
        (6, 1),
        (u128::from(octets), 4),
        (u128::from(packets), 4),
    ])
}
