//! Records of ordinary templates, read without asking what is there.
//!
//! Most exporters send templates of fixed lengths whose elements are the usual ones: addresses,
//! ports, counters, two times, interfaces. For those every question that [`assemble`] asks of a
//! record has one answer for the whole template; it is given when the template is compiled. What is
//! left is a load, a shift and a mask for each field. A record that is odd all the same (a time of
//! 0, which stands for "not known") goes the general way.
//!
//! [`assemble`]: super::assemble::assemble

#![expect(unsafe_code, reason = "one check for all loads of a record, not one for each")]

use super::assemble::{Context, FLAGS, TCP};
use super::exporter::Learnt;
use super::field::Field;
use super::time::{FlowTimes, millis_since_epoch};
use crate::flow::record::{Counters, FlowRecord, Name, ObservationPoint};
use crate::net::Addr;

/// What a template must have.
const NEEDED: u128 = Field::Octets.bit() | Field::Packets.bit();
const ADDRESSES4: u128 = Field::Source4.bit() | Field::Destination4.bit();
const ADDRESSES6: u128 = Field::Source6.bit() | Field::Destination6.bit();
const MILLIS: u128 = Field::StartMillis.bit() | Field::EndMillis.bit();
const UPTIMES: u128 = Field::FirstUptime.bit() | Field::LastUptime.bit();
/// What it may have besides, of the elements that are read at all.
const ALLOWED: u128 = Field::Protocol.bit()
    | Field::Tos.bit()
    | Field::TcpFlags.bit()
    | Field::SourcePort.bit()
    | Field::DestinationPort.bit()
    | Field::IcmpTypeCode.bit()
    | Field::InInterface.bit()
    | Field::OutInterface.bit()
    | Field::SourceAsn.bit()
    | Field::DestinationAsn.bit()
    | Field::SourceVlan.bit()
    | Field::DestinationVlan.bit()
    | Field::Direction.bit()
    | Field::EndReason.bit()
    // Asked for only beside total counters, or where both families of addresses are there.
    | Field::FlowNumber.bit()
    | Field::IpVersion.bit();

/// Octets of a record, at most.
const RECORD_OCTETS_MAX: usize = 504;

/// Where a number lies: a load of eight octets, a shift and a mask. A number that is not there reads
/// as 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    offset: u16,
    shift: u8,
    mask: u64,
}

impl Slot {
    const fn is_there(self) -> bool {
        self.mask != 0
    }
}

/// A record, and at least [`PAST`] octets more.
#[derive(Clone, Copy)]
struct Octets<'a>(&'a [u8]);

/// A load of eight octets may reach so far past the end of a record.
const PAST: usize = 8;

impl Octets<'_> {
    /// `slot` must be one of the plan that these octets are a record of.
    #[inline(always)]
    fn number(self, slot: Slot) -> u64 {
        let offset = usize::from(slot.offset);
        debug_assert!(offset + 8 <= self.0.len(), "a slot lies in its record");
        // SAFETY: `Direct::compile` takes only fields that end within the record, and `Direct::append`
        // has cut these octets to the record and PAST more; so eight octets from the start of a
        // field are there.
        let octets = unsafe { self.0.as_ptr().add(offset).cast::<[u8; 8]>().read() };
        u64::from_be_bytes(octets) >> slot.shift & slot.mask
    }

    #[inline(always)]
    fn there(self, slot: Slot) -> Option<u64> {
        slot.is_there().then(|| self.number(slot))
    }

    #[inline(always)]
    fn nonzero(self, slot: Slot) -> Option<u64> {
        Some(self.number(slot)).filter(|&n| n != 0)
    }

    fn wide(self, offset: u16) -> Addr {
        let octets = self.0[usize::from(offset)..].first_chunk().copied();
        Addr::v6(octets.unwrap_or_default())
    }
}

/// What of a message's [`Context`] is the same for each record that tells nothing of it.
#[derive(Clone, Copy)]
pub(super) struct Common<'c> {
    context: &'c Context<'c>,
    /// Whether any interface has a name.
    named: bool,
    /// The sampling interval, unless interfaces differ.
    interval: Option<u32>,
}

impl<'c> Common<'c> {
    pub(super) fn of(context: &'c Context<'c>) -> Self {
        let named = !context.known.interfaces.is_empty() || context.options.names_interfaces();
        let same = !context.options.samples_by_interface();
        let interval = same.then(|| context.sampling_interval(0));
        Self { context, named, interval }
    }

    fn name(&self, interface: Option<u32>) -> Option<Name> {
        if !self.named {
            return None;
        }
        interface.and_then(|index| self.context.interface_name(index))
    }
}

/// The compiled template.
#[derive(Debug, Default)]
pub(super) struct Direct {
    record_octets: usize,
    /// Uptimes of the exporter, else milliseconds since the epoch.
    by_uptime: bool,
    /// Where source and destination address of IPv6 lie.
    wide: Option<(u16, u16)>,
    src: Slot,
    dst: Slot,
    src_port: Slot,
    dst_port: Slot,
    icmp: Slot,
    protocol: Slot,
    tos: Slot,
    tcp_flags: Slot,
    in_if: Slot,
    out_if: Slot,
    octets: Slot,
    packets: Slot,
    first: Slot,
    last: Slot,
    direction: Slot,
    end_reason: Slot,
    src_vlan: Slot,
    dst_vlan: Slot,
    src_asn: Slot,
    dst_asn: Slot,
}

impl Direct {
    /// Compiles a template of fixed lengths from the places (offset, octets) of its fields; `None`
    /// if it is not an ordinary one.
    pub(super) fn compile(
        record_octets: usize,
        present: u128,
        fields: impl Iterator<Item = (Field, u32, u16)>,
    ) -> Option<Self> {
        let has = |mask| present & mask == mask;
        let lacks = |mask| present & mask == 0;
        let (four, six) = (has(ADDRESSES4), has(ADDRESSES6));
        let one_family = four && lacks(ADDRESSES6) || six && lacks(ADDRESSES4);
        let by_uptime = has(UPTIMES) && lacks(MILLIS);
        let one_clock = has(MILLIS) || by_uptime;
        let rest = present & !(NEEDED | ADDRESSES4 | ADDRESSES6 | MILLIS | UPTIMES | ALLOWED);
        let fits = record_octets <= RECORD_OCTETS_MAX;
        if !(has(NEEDED) && one_family && one_clock && rest == 0 && fits) {
            return None;
        }
        let mut direct = Self { record_octets, by_uptime, ..Self::default() };
        let mut wide = (0, 0);
        for (field, offset, octets) in fields {
            assert!(
                offset as usize + usize::from(octets) <= record_octets,
                "fields lie in records"
            );
            let offset = u16::try_from(offset).ok()?;
            match field {
                Field::Source6 => wide.0 = offset,
                Field::Destination6 => wide.1 = offset,
                _ => {
                    let bits = 8 * u8::try_from(octets).ok().filter(|octets| *octets <= 8)?;
                    let slot = Slot { offset, shift: 64 - bits, mask: u64::MAX >> (64 - bits) };
                    if let Some(place) = direct.slot(field) {
                        *place = slot;
                    }
                }
            }
        }
        direct.wide = six.then_some(wide);
        Some(direct)
    }

    fn slot(&mut self, field: Field) -> Option<&mut Slot> {
        Some(match field {
            Field::Source4 => &mut self.src,
            Field::Destination4 => &mut self.dst,
            Field::SourcePort => &mut self.src_port,
            Field::DestinationPort => &mut self.dst_port,
            Field::IcmpTypeCode => &mut self.icmp,
            Field::Protocol => &mut self.protocol,
            Field::Tos => &mut self.tos,
            Field::TcpFlags => &mut self.tcp_flags,
            Field::InInterface => &mut self.in_if,
            Field::OutInterface => &mut self.out_if,
            Field::Octets => &mut self.octets,
            Field::Packets => &mut self.packets,
            Field::StartMillis => &mut self.first,
            Field::EndMillis => &mut self.last,
            Field::FirstUptime if self.by_uptime => &mut self.first,
            Field::LastUptime if self.by_uptime => &mut self.last,
            Field::Direction => &mut self.direction,
            Field::EndReason => &mut self.end_reason,
            Field::SourceVlan => &mut self.src_vlan,
            Field::DestinationVlan => &mut self.dst_vlan,
            Field::SourceAsn => &mut self.src_asn,
            Field::DestinationAsn => &mut self.dst_asn,
            _ => return None,
        })
    }

    /// Whether records under this message can be read: uptimes need the exporter's own in the header.
    pub(super) const fn reads(&self, context: &Context<'_>) -> bool {
        !self.by_uptime || context.time.uptime_ms.is_some()
    }

    /// Decodes the record at the start of `rest`, which holds at least one, and appends it to `out`.
    /// Returns false if it has to go the general way.
    #[inline]
    pub(super) fn record(
        &self,
        rest: &[u8],
        common: &Common<'_>,
        learnt: &mut Learnt,
        out: &mut Vec<FlowRecord>,
    ) -> bool {
        if rest.len() >= self.record_octets + PAST {
            return self.append(rest, common, learnt, out);
        }
        let mut padded = [0; RECORD_OCTETS_MAX + PAST];
        padded[..self.record_octets].copy_from_slice(&rest[..self.record_octets]);
        self.append(&padded, common, learnt, out)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "each field has its bits")]
    fn append(
        &self,
        record: &[u8],
        common: &Common<'_>,
        learnt: &mut Learnt,
        out: &mut Vec<FlowRecord>,
    ) -> bool {
        let record = Octets(&record[..self.record_octets + PAST]);
        let context = common.context;
        let Some(times) = self.times(record, context) else { return false };
        let (src, dst) = match self.wide {
            None => {
                (Addr::v4(record.number(self.src) as u32), Addr::v4(record.number(self.dst) as u32))
            }
            Some((src, dst)) => (record.wide(src), record.wide(dst)),
        };
        let protocol = record.number(self.protocol) as u8;
        let (src_port, dst_port) = self.ports(record, protocol);
        let in_if = record.there(self.in_if).map(|n| n as u32);
        let out_if = record.there(self.out_if).map(|n| n as u32);
        let direction = record.there(self.direction).map_or(255, |n| n as u8);
        let seen_by = if direction == 1 { out_if.or(in_if) } else { in_if.or(out_if) };
        let interface = seen_by.unwrap_or(0);
        let end_reason = record.nonzero(self.end_reason).map(|n| n as u8);
        learnt.times_clamped += u64::from(times.clamped);
        learnt.active.observe(times.last.since(times.first), end_reason);
        let sampling_interval =
            common.interval.unwrap_or_else(|| context.sampling_interval(interface));
        learnt.sampling_unknown += u64::from(sampling_interval == 0);
        let flags = record.there(self.tcp_flags).filter(|_| protocol == TCP);
        let vlan = record.nonzero(self.src_vlan).or_else(|| record.nonzero(self.dst_vlan));
        // Every field by name: the record is made where it stays.
        out.push(FlowRecord {
            stamp: context.stamp,
            site: context.site,
            vrf: 0,
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            tos: record.there(self.tos).map(|n| n as u8),
            vlan: vlan.map(|vlan| (vlan & 0xfff) as u16),
            first: times.first,
            last: times.last,
            fwd: Counters {
                octets: record.number(self.octets),
                packets: record.number(self.packets),
                octets_l2: None,
                payload: None,
                tcp_flags: flags.map(|flags| (flags & FLAGS) as u16),
            },
            bwd: None,
            point: ObservationPoint {
                exporter: context.address,
                domain: context.domain,
                interface,
                direction,
            },
            in_if,
            out_if,
            in_if_name: common.name(in_if),
            out_if_name: common.name(out_if),
            vrf_name: None,
            application: None,
            sampling_interval,
            end_reason,
            biflow_direction: None,
            src_asn: record.nonzero(self.src_asn).map(|n| n as u32),
            dst_asn: record.nonzero(self.dst_asn).map(|n| n as u32),
            idle_timeout_us: learnt.active.idle_us(context.idle_us),
        });
        true
    }

    /// `None` where a time of 0 stands for "not known".
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "uptimes have 32 bits")]
    fn times(&self, record: Octets<'_>, context: &Context<'_>) -> Option<FlowTimes> {
        let (first, last) = (record.number(self.first), record.number(self.last));
        if self.by_uptime {
            return Some(context.time.flow_by_uptime(first as u32, last as u32));
        }
        let known = first != 0 && last != 0;
        let at = millis_since_epoch;
        known.then(|| context.time.clamp(at(first), at(last)))
    }

    /// Ports. ICMP's type and code stand in the destination port; Cisco fills only one of IE 32 and
    /// IE 11, and zeroes the other.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "ports have 16 bits")]
    fn ports(&self, record: Octets<'_>, protocol: u8) -> (u16, u16) {
        let dst_port = record.number(self.dst_port) as u16;
        if !(self.protocol.is_there() && matches!(protocol, 1 | 58)) {
            return (record.number(self.src_port) as u16, dst_port);
        }
        match record.number(self.icmp) {
            0 => (0, dst_port),
            icmp => (0, icmp as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assemble::assemble;
    use super::super::exporter::Known;
    use super::super::field::Values;
    use super::super::options::Options;
    use super::super::plan::{Plan, Records};
    use super::super::time::MessageTime;
    use super::super::wire::{FieldSpec, Template, Version};
    use super::*;
    use crate::time::Micros;

    /// Ordinary elements with the lengths that exporters give them, two that nobody reads, and two
    /// that make a template one of the others.
    const ELEMENTS: [(u16, &[u16]); 31] = [
        (1, &[4, 8, 3]),
        (2, &[4, 8, 1]),
        (4, &[1, 2]),
        (5, &[1]),
        (6, &[1, 2]),
        (7, &[2]),
        (8, &[4, 4, 2]),
        (9, &[1]),
        (10, &[2, 4, 8]),
        (11, &[2, 4]),
        (12, &[4]),
        (14, &[2, 4]),
        (15, &[4]),
        (16, &[2, 4]),
        (17, &[2, 4]),
        (21, &[4]),
        (22, &[4]),
        (27, &[16]),
        (28, &[16]),
        (32, &[2]),
        (58, &[2]),
        (59, &[2]),
        (60, &[1]),
        (61, &[1]),
        (136, &[1]),
        (148, &[4, 8, 9]),
        (152, &[8]),
        (153, &[8]),
        (7, &[2]),
        (85, &[8]),
        (48, &[1]),
    ];

    fn field() -> impl Strategy<Value = FieldSpec> {
        prop::sample::select(&ELEMENTS[..]).prop_flat_map(|(element, lengths)| {
            let length = prop::sample::select(lengths);
            length.prop_map(move |length| FieldSpec { element, pen: 0, length })
        })
    }

    /// What makes most templates ordinary.
    fn base() -> impl Strategy<Value = Vec<FieldSpec>> {
        let spec = |(element, length): &(u16, u16)| FieldSpec {
            element: *element,
            pen: 0,
            length: *length,
        };
        const CLOCKS: [&[(u16, u16)]; 3] =
            [&[(152, 8), (153, 8)], &[(22, 4), (21, 4)], &[(152, 8)]];
        const FAMILIES: [&[(u16, u16)]; 2] = [&[(8, 4), (12, 4)], &[(27, 16), (28, 16)]];
        let parts = (prop::sample::select(&CLOCKS[..]), prop::sample::select(&FAMILIES[..]));
        parts.prop_map(move |(clock, family)| {
            [&[(1, 8), (2, 4), (4, 1)], clock, family].concat().iter().map(spec).collect()
        })
    }

    proptest! {
        /// The short way gives what the general one gives, record for record, and it is taken.
        #[test]
        fn the_short_way_equals_the_general_one(
            base in base(),
            more in prop::collection::vec(field(), 0..8),
            mut octets in prop::collection::vec(any::<u8>(), 40..400),
            zeros in prop::collection::vec((0..400_usize, 1..9_usize), 0..6),
            uptime_ms in prop::option::of(any::<u32>()),
        ) {
            for (at, count) in zeros {
                octets.iter_mut().skip(at).take(count).for_each(|octet| *octet = 0);
            }
            let fields = [more, base].concat();
            let template = Template { id: 256, scope_fields: 0, options: false, fields };
            let plan = Plan::compile(template, Version::Ipfix);
            let (known, options) = (Known::default(), Options::default());
            let arrival = Micros(1_750_000_000_000_000);
            let time = MessageTime {
                arrival, export: arrival, uptime_ms, boot: None, window_us: i64::MAX,
            };
            let context = Context {
                stamp: arrival, time, address: Addr::v4(7), domain: 3, site: 1, known: &known,
                options: &options, idle_us: 1_000, totals_max: 16, names_max: 16,
            };
            let Some(direct) = plan.direct().filter(|direct| direct.reads(&context)) else {
                return Ok(());
            };
            let (mut short, mut general) = (Learnt::default(), Learnt::default());
            let (mut records, mut passed) = (Records::new(&plan, &octets), Records::new(&plan, &octets));
            let (mut values, mut out) = (Values::default(), Vec::new());
            while let Some(rest) = passed.peek() {
                prop_assert!(records.next(&mut values));
                passed.skip();
                let expected = assemble(&values, &context, &mut general);
                if direct.record(rest, &Common::of(&context), &mut short, &mut out) {
                    prop_assert_eq!(expected, Ok(out.pop().expect("appended")));
                } else {
                    let zero = |field| values.number(field) == Some(0);
                    prop_assert!(zero(Field::StartMillis) || zero(Field::EndMillis));
                    // The general way has to learn from it once.
                    prop_assert_eq!(assemble(&values, &context, &mut short), expected);
                }
            }
            prop_assert!(!records.next(&mut values));
            prop_assert_eq!(short.times_clamped, general.times_clamped);
            prop_assert_eq!(short.sampling_unknown, general.sampling_unknown);
            prop_assert_eq!(short.active.learnt_us(), general.active.learnt_us());
        }
    }

    /// The templates of the field's own examples are ordinary: else the short way would be dead.
    #[test]
    fn common_templates_are_ordinary() {
        let compile = |fields: &[(u16, u16)]| {
            let spec = |&(element, length): &(u16, u16)| FieldSpec { element, pen: 0, length };
            let fields = fields.iter().map(spec).collect();
            let template = Template { id: 256, scope_fields: 0, options: false, fields };
            Plan::compile(template, Version::V9).direct().is_some()
        };
        let base = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 8), (2, 8), (6, 1), (10, 4)];
        let with = |more: &[(u16, u16)]| compile(&[&base[..], more].concat());
        assert!(with(&[(152, 8), (153, 8)]));
        assert!(with(&[(22, 4), (21, 4), (16, 4), (17, 4), (61, 1), (15, 4)]));
        assert!(!with(&[]), "no times");
        assert!(!with(&[(152, 8), (153, 8), (85, 8)]), "a total");
        assert!(!with(&[(152, 8), (153, 8), (48, 1)]), "a sampler");
        assert!(!with(&[(152, 8), (153, 8), (27, 16), (28, 16)]), "both families");
    }
}
