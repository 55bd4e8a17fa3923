//! How tables and guards read a flow: the common fields without a detour.

use crate::detect::sigma::fields::{Field, FieldSet, Record};

/// The fields that are read straight from the flow; any other goes through [`Record::integer`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Common {
    SrcPort,
    DstPort,
    Protocol,
    Direction,
    Initiated,
    FwdOctets,
    BwdOctets,
    FwdPackets,
    BwdPackets,
    Duration,
}

impl Common {
    const fn of(field: Field) -> Option<Self> {
        Some(match field {
            Field::SrcPort => Self::SrcPort,
            Field::DstPort => Self::DstPort,
            Field::Protocol => Self::Protocol,
            Field::Direction => Self::Direction,
            Field::Initiated => Self::Initiated,
            Field::FwdOctets => Self::FwdOctets,
            Field::BwdOctets => Self::BwdOctets,
            Field::FwdPackets => Self::FwdPackets,
            Field::BwdPackets => Self::BwdPackets,
            Field::Duration => Self::Duration,
            _ => return None,
        })
    }
}

/// A flow as the index reads it.
#[derive(Clone, Copy)]
pub(super) struct Probe<'r, 'a> {
    /// The flow, for all that is not common.
    pub record: &'r Record<'a>,
    /// Whether every common field is present and is the flow's own.
    plain: bool,
}

impl<'r, 'a> Probe<'r, 'a> {
    /// Of a flow.
    #[inline]
    pub fn of(record: &'r Record<'a>) -> Self {
        let plain = record.absent == FieldSet::EMPTY && record.initiated.is_none();
        Self { record, plain }
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
        match reader.common {
            Some(common) if self.plain => match self.common(common) {
                u64::MAX => self.record.integer(reader.field),
                value => Some(value.into()),
            },
            _ => self.record.integer(reader.field),
        }
    }

    /// The value of a slot, cut off at 32 bits. Of an address it is the IPv4 one: what it says of
    /// an IPv6 address means nothing, and only predicates on IPv4 may ask.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
    pub fn slot(&self, slot: Slot) -> u32 {
        match slot {
            Slot::None => 0,
            Slot::Src => self.src() as u32,
            Slot::Dst => self.dst() as u32,
            Slot::Common(common) if self.plain => {
                u32::try_from(self.common(common)).unwrap_or(u32::MAX)
            }
            Slot::Common(common) => {
                let value = self.record.integer(common.field()).unwrap_or(0);
                u32::try_from(value).unwrap_or(u32::MAX)
            }
        }
    }

    /// The value; `u64::MAX` also of what is greater.
    #[inline]
    fn common(&self, common: Common) -> u64 {
        let flow = self.record.flow;
        let scaled = |count: u64| count.saturating_mul(flow.scale());
        match common {
            Common::SrcPort => flow.src_port.into(),
            Common::DstPort => flow.dst_port.into(),
            Common::Protocol => flow.protocol.into(),
            Common::Direction => flow.direction as u64,
            Common::Initiated => flow.direction.initiated().into(),
            Common::FwdOctets => scaled(flow.fwd.octets),
            Common::BwdOctets => scaled(flow.bwd.octets),
            Common::FwdPackets => scaled(flow.fwd.packets),
            Common::BwdPackets => scaled(flow.bwd.packets),
            Common::Duration => u64::try_from(flow.duration_us()).unwrap_or(0),
        }
    }
}

impl Common {
    const fn field(self) -> Field {
        match self {
            Self::SrcPort => Field::SrcPort,
            Self::DstPort => Field::DstPort,
            Self::Protocol => Field::Protocol,
            Self::Direction => Field::Direction,
            Self::Initiated => Field::Initiated,
            Self::FwdOctets => Field::FwdOctets,
            Self::BwdOctets => Field::BwdOctets,
            Self::FwdPackets => Field::FwdPackets,
            Self::BwdPackets => Field::BwdPackets,
            Self::Duration => Field::Duration,
        }
    }
}

/// What a guard looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Slot {
    /// Nothing: 0 in every flow.
    None,
    /// The initiator's IPv4 address.
    Src,
    /// The responder's.
    Dst,
    /// A common field.
    #[expect(private_interfaces, reason = "made by `Slot::of` alone")]
    Common(Common),
}

impl Slot {
    /// The slot that tells of `field`, if there is one.
    pub const fn of(field: Field) -> Option<Self> {
        match (field, Common::of(field)) {
            (Field::Src, _) => Some(Self::Src),
            (Field::Dst, _) => Some(Self::Dst),
            (_, Some(common)) => Some(Self::Common(common)),
            _ => None,
        }
    }
}

/// How a field is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reader {
    common: Option<Common>,
    field: Field,
}

impl Reader {
    /// The way to read `field`.
    pub const fn of(field: Field) -> Self {
        Self { common: Common::of(field), field }
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
                    if let Some(slot) = Slot::of(field).filter(|_| field != Field::Src) {
                        let cut = want.map(|v| u32::try_from(v).unwrap_or(u32::MAX));
                        assert_eq!(Some(probe.slot(slot)), cut, "{field:?}");
                    }
                }
                assert_eq!(probe.slot(Slot::None), 0);
                assert_eq!(probe.slot(Slot::Src), 0x0a00_0001);
            }
        }
    }
}
