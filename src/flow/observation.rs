//! Where flows were seen: observation points with their interfaces, and what records tell of them.

use super::intern::Words;
use super::record::{FlowRecord, Name, ObservationPoint};
use crate::net::Addr;

/// What the owner of a side told of where it saw the side: the same for many flows. With its hash and
/// its holders it is one cache line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Observation {
    exporter: [u64; 2],
    domain: u32,
    interface: u32,
    /// 0: unknown.
    pub(super) sampling_interval: u32,
    /// Ingress and egress, 0 where unknown.
    interfaces: [u32; 2],
    known: [bool; 2],
    direction: u8,
    /// Of the interfaces; none where neither has one.
    names: Option<Box<[Option<Name>; 2]>>,
}

const _: () = assert!(size_of::<Observation>() + 8 <= 64);

impl Observation {
    /// This sensor's capture, which is unsampled.
    pub(super) fn capture() -> Self {
        Self { sampling_interval: 1, ..Self::default() }
    }

    #[inline]
    pub(super) fn exporter(&self) -> Addr {
        let [high, low] = self.exporter.map(u128::from);
        Addr(high << 64 | low)
    }

    #[inline]
    pub(super) fn point(&self) -> ObservationPoint {
        let Self { domain, interface, direction, .. } = *self;
        ObservationPoint { exporter: self.exporter(), domain, interface, direction }
    }

    /// Ingress and egress interface.
    #[inline]
    pub(super) fn interfaces(&self) -> [Option<u32>; 2] {
        [0, 1].map(|end| self.known[end].then_some(self.interfaces[end]))
    }

    /// Their names.
    pub(super) fn names(&self) -> [Option<&Name>; 2] {
        [0, 1].map(|end| self.names.as_ref().and_then(|names| names[end].as_ref()))
    }
}

impl Words for Observation {
    fn words(&self) -> [u64; 3] {
        words(&self.point(), self.interfaces(), self.sampling_interval)
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

    fn names(&self) -> [Option<&Name>; 2] {
        let FlowRecord { in_if_name, out_if_name, .. } = self.record;
        let names = [in_if_name.as_ref(), out_if_name.as_ref()];
        if self.forward { names } else { [names[1], names[0]] }
    }

    #[inline]
    pub(super) fn words(&self) -> [u64; 3] {
        words(&self.record.point, self.interfaces(), self.record.sampling_interval)
    }

    /// Whether `held` is what a first report with this content makes.
    #[inline]
    pub(super) fn is(&self, held: &Observation) -> bool {
        held.point() == self.record.point
            && held.sampling_interval == self.record.sampling_interval
            && held.interfaces() == self.interfaces()
            && held.names() == self.names()
    }

    /// Whether it tells nothing that `known`, of the same point, does not have.
    #[inline]
    pub(super) fn adds_nothing_to(&self, known: &Observation) -> bool {
        let same = |known: Option<u32>, told: Option<u32>| told.is_none() || told == known;
        let named = |known: Option<&Name>, told: Option<&Name>| told.is_none() || known.is_some();
        let (told, [into, out], names) =
            (self.record.sampling_interval, self.interfaces(), self.names());
        let (interfaces, held) = (known.interfaces(), known.names());
        (told == 0 || told == known.sampling_interval)
            && same(interfaces[0], into)
            && same(interfaces[1], out)
            && named(held[0], names[0])
            && named(held[1], names[1])
    }

    /// What is known after it, if `known` was before. Of the same point the first that tells a name
    /// decides, and the last that tells a number.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    pub(super) fn after(&self, known: &Observation) -> Observation {
        let (told, before) = (self.interfaces(), known.interfaces());
        let interfaces = [0, 1].map(|end| told[end].or(before[end]));
        let (told, before) = (self.names(), known.names());
        let names = [0, 1].map(|end| before[end].or(told[end]).cloned());
        let ObservationPoint { exporter, domain, interface, direction } = self.record.point;
        let interval = self.record.sampling_interval;
        Observation {
            exporter: [(exporter.0 >> 64) as u64, exporter.0 as u64],
            domain,
            interface,
            sampling_interval: if interval > 0 { interval } else { known.sampling_interval },
            interfaces: interfaces.map(Option::unwrap_or_default),
            known: interfaces.map(|interface| interface.is_some()),
            direction,
            names: names.iter().any(Option::is_some).then(|| Box::new(names)),
        }
    }
}
