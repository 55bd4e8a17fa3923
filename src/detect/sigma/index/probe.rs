//! What tables and guards ask of a flow, read out of it once: a row of small integers side by side.

use crate::detect::sigma::fields::{Field, FieldSet, Record};

/// The common fields: those that a probe holds, by their place in it. Place 0 holds 0.
const COMMON: [Field; 12] = [
    Field::Src,
    Field::Dst,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::Direction,
    Field::Initiated,
    Field::FwdOctets,
    Field::BwdOctets,
    Field::FwdPackets,
    Field::BwdPackets,
    Field::Duration,
];
/// Places of a probe: a power of two above the number of common fields.
const PLACES: usize = 16;

const fn place_of(field: Field) -> Option<u8> {
    let mut at = 0;
    while at < COMMON.len() {
        if COMMON[at] as u32 == field as u32 {
            return Some(at as u8 + 1);
        }
        at += 1;
    }
    None
}

/// A flow as the index reads it.
#[derive(Clone, Copy)]
pub(super) struct Probe<'r, 'a> {
    /// The flow, for all that is not common.
    pub record: &'r Record<'a>,
    /// Common fields; `u64::MAX` also of what is greater. Of an address the low half: the IPv4
    /// address, if it is one.
    values: [u64; PLACES],
    /// Whether every common field is present and is the flow's own.
    plain: bool,
}

impl<'r, 'a> Probe<'r, 'a> {
    /// Of a flow.
    #[inline]
    pub fn of(record: &'r Record<'a>) -> Self {
        let plain = record.absent == FieldSet::EMPTY && record.initiated.is_none();
        let values = if plain { Self::common(record) } else { Self::given(record) };
        Self { record, values, plain }
    }

    /// The common fields, in the order of [`COMMON`].
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    fn common(record: &Record<'_>) -> [u64; PLACES] {
        let flow = record.flow;
        let (fwd, bwd) = (&flow.fwd, &flow.bwd);
        let counts = [fwd.octets, bwd.octets, fwd.packets, bwd.packets];
        let [a, b, c, d] = match flow.scale() {
            1 => counts,
            scale => counts.map(|count| count.saturating_mul(scale)),
        };
        let mut values = [0; PLACES];
        values[1..=COMMON.len()].copy_from_slice(&[
            flow.src.0 as u64,
            flow.dst.0 as u64,
            flow.src_port.into(),
            flow.dst_port.into(),
            flow.protocol.into(),
            flow.direction as u64,
            flow.direction.initiated().into(),
            a,
            b,
            c,
            d,
            u64::try_from(flow.duration_us()).unwrap_or(0),
        ]);
        values
    }

    /// Of an event that does not give them all; the absent ones are 0, which passes more guards
    /// than it should at worst: rules are verified.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    fn given(record: &Record<'_>) -> [u64; PLACES] {
        let mut values = [0; PLACES];
        for (value, field) in values[1..].iter_mut().zip(COMMON) {
            *value = match field {
                Field::Src => record.flow.src.0 as u64,
                Field::Dst => record.flow.dst.0 as u64,
                _ => u64::try_from(record.integer(field).unwrap_or(0)).unwrap_or(u64::MAX),
            };
        }
        values
    }

    /// The initiator's address, whether it is known or not: rules on one that is absent fail when
    /// they are verified.
    #[inline]
    pub fn src(&self) -> u128 {
        self.record.flow.src.0
    }

    /// The responder's.
    #[inline]
    pub fn dst(&self) -> u128 {
        self.record.flow.dst.0
    }

    /// The field's value; `None` if the flow lacks it. As [`Record::integer`].
    #[inline]
    pub fn value(&self, reader: Reader) -> Option<u128> {
        let value = self.values[usize::from(reader.place) % PLACES];
        if self.plain && reader.place > 0 && value < u64::MAX {
            return Some(value.into());
        }
        self.record.integer(reader.field)
    }

    /// The value of a slot, cut off at 32 bits. Of an address it is the IPv4 one: what it says of
    /// an IPv6 address means nothing, and only predicates on IPv4 may ask.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "cut off, or an address's low 32 bits")]
    pub fn slot(&self, slot: Slot) -> u32 {
        let value = self.values[usize::from(slot.0) % PLACES];
        if slot.is_address() { value as u32 } else { value.min(u32::MAX.into()) as u32 }
    }
}

/// What a guard looks at: a place of the probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Slot(u8);

impl Slot {
    /// 0 in every flow.
    pub const NONE: Self = Self(0);

    /// The slot that tells of `field`, if there is one.
    pub const fn of(field: Field) -> Option<Self> {
        match place_of(field) {
            Some(place) => Some(Self(place)),
            None => None,
        }
    }

    /// The two addresses come first.
    const fn is_address(self) -> bool {
        matches!(self.0, 1 | 2)
    }
}

/// How a field is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reader {
    /// 0: by [`Record::integer`].
    place: u8,
    field: Field,
}

impl Reader {
    /// The way to read `field`.
    pub const fn of(field: Field) -> Self {
        let place = match (field, place_of(field)) {
            // Of an address a probe holds a half.
            (Field::Src | Field::Dst, _) | (_, None) => 0,
            (_, Some(place)) => place,
        };
        Self { place, field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Biflow, Direction};
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
            ..Biflow::default()
        };
        (flow.fwd.octets, flow.bwd.octets) = (u64::MAX, 9);
        (flow.fwd.packets, flow.bwd.packets) = (4, 5);
        let fields = [
            Field::SrcPort,
            Field::DstPort,
            Field::Protocol,
            Field::Direction,
            Field::Initiated,
            Field::FwdOctets,
            Field::BwdOctets,
            Field::FwdPackets,
            Field::BwdPackets,
            Field::Duration,
            Field::Src,
            Field::Vlan,
            Field::Octets,
        ];
        for sampling in [None, Some(0), Some(1), Some(1000)] {
            flow.sampling_interval = sampling;
            for initiated in [None, Some(false)] {
                let record = Record { initiated, ..Record::of(&flow) };
                let probe = Probe::of(&record);
                for field in fields {
                    let want = record.integer(field);
                    assert_eq!(probe.value(Reader::of(field)), want, "{field:?}");
                    if let Some(slot) = Slot::of(field).filter(|slot| !slot.is_address()) {
                        let cut = want.map(|v| u32::try_from(v).unwrap_or(u32::MAX));
                        assert_eq!(Some(probe.slot(slot)), cut, "{field:?}");
                    }
                }
                assert_eq!(probe.slot(Slot::NONE), 0);
                assert_eq!(probe.slot(Slot::of(Field::Src).expect("common")), 0x0a00_0001);
            }
        }
    }
}
