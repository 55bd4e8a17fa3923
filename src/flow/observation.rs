//! Where flows were seen: observation points with their interfaces, and what records tell of them.

use super::intern::Words;
use super::record::{FlowRecord, Name, ObservationPoint};

/// What the owner of a side told of where it saw the side: the same for many flows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Observation {
    pub(super) point: ObservationPoint,
    /// 0: unknown.
    pub(super) sampling_interval: u32,
    pub(super) in_if: Option<u32>,
    pub(super) out_if: Option<u32>,
    pub(super) in_if_name: Option<Name>,
    pub(super) out_if_name: Option<Name>,
}

impl Words for Observation {
    fn words(&self) -> [u64; 3] {
        words(&self.point, [self.in_if, self.out_if], self.sampling_interval)
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
fn words(
    point: &ObservationPoint,
    interfaces: [Option<u32>; 2],
    sampling_interval: u32,
) -> [u64; 3] {
    let ObservationPoint { exporter, domain, interface, direction } = *point;
    let interfaces = interfaces.map(|index| u64::from(index.unwrap_or(0)));
    let exporter = (exporter.0 >> 64) as u64 ^ (exporter.0 as u64).rotate_left(7);
    let sampling = u64::from(sampling_interval).rotate_left(40);
    [
        exporter ^ u64::from(domain).rotate_left(32),
        interfaces[0] << 32 | interfaces[1],
        u64::from(interface) << 8 ^ u64::from(direction) ^ sampling,
    ]
}

/// What a record tells of where it was seen: an [`Observation`] that is not made before it is kept.
#[derive(Clone, Copy)]
pub(super) struct Report<'r> {
    pub(super) record: &'r FlowRecord,
    /// Of a biflow record the reverse direction has the interfaces the other way round.
    pub(super) forward: bool,
}

impl Report<'_> {
    fn interfaces(&self) -> [Option<u32>; 2] {
        let FlowRecord { in_if, out_if, .. } = *self.record;
        if self.forward { [in_if, out_if] } else { [out_if, in_if] }
    }

    fn names(&self) -> [&Option<Name>; 2] {
        let FlowRecord { in_if_name, out_if_name, .. } = self.record;
        if self.forward { [in_if_name, out_if_name] } else { [out_if_name, in_if_name] }
    }

    #[inline]
    pub(super) fn words(&self) -> [u64; 3] {
        words(&self.record.point, self.interfaces(), self.record.sampling_interval)
    }

    /// Whether `held` is what a first report with this content makes.
    #[inline]
    pub(super) fn is(&self, held: &Observation) -> bool {
        held.point == self.record.point
            && held.sampling_interval == self.record.sampling_interval
            && [held.in_if, held.out_if] == self.interfaces()
            && [&held.in_if_name, &held.out_if_name] == self.names()
    }

    /// Whether it tells nothing that `known`, of the same point, does not have.
    #[inline]
    pub(super) fn adds_nothing_to(&self, known: &Observation) -> bool {
        let same = |known: Option<u32>, told: Option<u32>| told.is_none() || told == known;
        let named = |known: &Option<Name>, told: &Option<Name>| told.is_none() || known.is_some();
        let (told, [into, out], names) =
            (self.record.sampling_interval, self.interfaces(), self.names());
        (told == 0 || told == known.sampling_interval)
            && same(known.in_if, into)
            && same(known.out_if, out)
            && named(&known.in_if_name, names[0])
            && named(&known.out_if_name, names[1])
    }

    /// What is known after it, if `known` was before. Of the same point the first that tells a name
    /// decides, and the last that tells a number.
    pub(super) fn after(&self, known: &Observation) -> Observation {
        let ([into, out], names) = (self.interfaces(), self.names());
        let told = self.record.sampling_interval;
        let name =
            |known: &Option<Name>, told: &Option<Name>| known.clone().or_else(|| told.clone());
        Observation {
            point: self.record.point,
            sampling_interval: if told > 0 { told } else { known.sampling_interval },
            in_if: into.or(known.in_if),
            out_if: out.or(known.out_if),
            in_if_name: name(&known.in_if_name, names[0]),
            out_if_name: name(&known.out_if_name, names[1]),
        }
    }
}
