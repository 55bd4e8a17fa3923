//! A flow, packed: what tables and guards look at, read once.

use crate::detect::sigma::fields::{Field, FieldSet, Record};
use crate::flow::{Biflow, Direction};

/// The fields that are packed, in the order of their slots; any other is read when asked for.
const PACKED: [Field; 13] = [
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::Direction,
    Field::FwdOctets,
    Field::BwdOctets,
    Field::Octets,
    Field::FwdPackets,
    Field::BwdPackets,
    Field::Packets,
    Field::Duration,
    Field::Initiated,
    Field::Site,
];

/// A slot of a guard: a packed field, an IPv4 address, or nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Slot(u8);

impl Slot {
    /// Its value is 0 in every flow: a guard on it that lets 0 pass is none.
    pub const NONE: Self = Self(15);
    const SRC: Self = Self(13);
    const DST: Self = Self(14);

    /// The slot that tells of `field`, if it is packed. Of an address it has the IPv4 one: what a
    /// guard says of an IPv6 address means nothing, and only rules on IPv4 may ask.
    pub fn of(field: Field) -> Option<Self> {
        match field {
            Field::Src => Some(Self::SRC),
            Field::Dst => Some(Self::DST),
            _ => packed(field).map(|at| Self(u8::try_from(at).expect("a few slots"))),
        }
    }
}

fn packed(field: Field) -> Option<usize> {
    PACKED.iter().position(|&f| f == field)
}

/// What is read of a flow before any rule is looked at.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    /// The initiator's address.
    pub src: u128,
    /// The responder's.
    pub dst: u128,
    values: [u64; PACKED.len()],
    slots: [u32; 16],
}

impl Probe {
    /// Packs a flow.
    pub fn of(record: &Record<'_>) -> Self {
        let flow = record.flow;
        let values = if flow.scale() == 1 && record.initiated.is_none() {
            unscaled(flow)
        } else {
            PACKED.map(|field| packed_value(record, field))
        };
        let mut slots = [0; 16];
        for (slot, &value) in slots.iter_mut().zip(&values) {
            *slot = u32::try_from(value).unwrap_or(u32::MAX);
        }
        slots[usize::from(Slot::SRC.0)] = v4_bits(flow.src.0);
        slots[usize::from(Slot::DST.0)] = v4_bits(flow.dst.0);
        Self { src: flow.src.0, dst: flow.dst.0, values, slots }
    }

    /// The value of a slot, cut off at 32 bits.
    #[inline]
    pub fn slot(&self, slot: Slot) -> u32 {
        self.slots[usize::from(slot.0 & 15)]
    }

    /// The field's value; `None` if the flow lacks it. As [`Record::integer`].
    #[inline]
    pub fn value(&self, record: &Record<'_>, reader: Reader) -> Option<u128> {
        if let Reader::Packed(at) = reader
            && record.absent == FieldSet::EMPTY
        {
            let value = self.values[usize::from(at)];
            if value < u64::MAX {
                return Some(value.into());
            }
        }
        record.integer(reader.field())
    }
}

/// How a field is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reader {
    /// From the probe.
    Packed(u8),
    /// From the flow.
    Plain(Field),
}

impl Reader {
    /// The way to read `field`.
    pub fn of(field: Field) -> Self {
        packed(field)
            .map_or(Self::Plain(field), |at| Self::Packed(u8::try_from(at).expect("a few slots")))
    }

    /// The field.
    pub const fn field(self) -> Field {
        match self {
            Self::Packed(at) => PACKED[at as usize],
            Self::Plain(field) => field,
        }
    }
}

/// The low 32 bits of an address.
#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
const fn v4_bits(address: u128) -> u32 {
    address as u32
}

fn packed_value(record: &Record<'_>, field: Field) -> u64 {
    record.integer(field).map_or(0, |value| u64::try_from(value).unwrap_or(u64::MAX))
}

/// The packed fields in the order of their slots, of a flow whose counters need no scaling.
fn unscaled(flow: &Biflow) -> [u64; PACKED.len()] {
    let initiated = matches!(flow.direction, Direction::Outbound | Direction::Internal);
    [
        flow.src_port.into(),
        flow.dst_port.into(),
        flow.protocol.into(),
        flow.direction as u64,
        flow.fwd.octets,
        flow.bwd.octets,
        flow.fwd.octets.saturating_add(flow.bwd.octets),
        flow.fwd.packets,
        flow.bwd.packets,
        flow.fwd.packets.saturating_add(flow.bwd.packets),
        u64::try_from(flow.duration_us()).unwrap_or(0),
        initiated.into(),
        flow.site.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Addr;
    use crate::time::Micros;

    #[test]
    fn a_probe_reads_as_the_record() {
        let mut flow = Biflow {
            src: Addr::v4(0x0a00_0001),
            dst: Addr(7),
            src_port: 1,
            dst_port: 443,
            protocol: 6,
            first: Micros(5),
            last: Micros(77),
            direction: Direction::Internal,
            site: 3,
            ..Biflow::default()
        };
        (flow.fwd.octets, flow.bwd.octets) = (u64::MAX, 9);
        (flow.fwd.packets, flow.bwd.packets) = (4, 5);
        for sampling in [None, Some(0), Some(1), Some(1000)] {
            flow.sampling_interval = sampling;
            for initiated in [None, Some(false)] {
                let record = Record { initiated, ..Record::of(&flow) };
                let probe = Probe::of(&record);
                for field in PACKED.into_iter().chain([Field::Src, Field::Vlan, Field::RttUs]) {
                    let got = probe.value(&record, Reader::of(field));
                    assert_eq!(got, record.integer(field), "{field:?}");
                }
                assert_eq!(probe.slot(Slot::NONE), 0);
                assert_eq!(probe.slot(Slot::of(Field::FwdOctets).expect("packed")), u32::MAX);
            }
        }
    }
}
