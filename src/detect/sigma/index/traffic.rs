//! A sample of recent flows, and how large a share of them a predicate lets pass.

use crate::detect::sigma::fields::{Field, Kind, Record};
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::predicate::{Predicate, Test};
use crate::flow::Biflow;
use crate::net::Addr;

/// The fields whose values are kept sorted.
const SORTED: [Field; 24] = [
    Field::Src,
    Field::Dst,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::Direction,
    Field::Initiated,
    Field::ResponderAtHome,
    Field::Site,
    Field::Vrf,
    Field::Exporter,
    Field::InIf,
    Field::OutIf,
    Field::Vlan,
    Field::Tos,
    Field::FwdOctets,
    Field::BwdOctets,
    Field::Octets,
    Field::FwdPackets,
    Field::BwdPackets,
    Field::Packets,
    Field::Duration,
    Field::SrcAsn,
    Field::DstAsn,
];

/// A sample of recent flows: tells how selective a predicate is on this sensor's traffic.
///
/// The flows were taken when they opened, so their counters are lower than at their end.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    flows: Vec<Biflow>,
    /// The values of each of [`SORTED`], ascending; flows that lack the field are missing.
    sorted: Vec<Vec<u128>>,
}

impl Traffic {
    /// A sample, in any order. Some thousands are plenty.
    #[must_use]
    pub fn of(flows: Vec<Biflow>) -> Self {
        let values = |field| {
            let values = flows.iter().filter_map(|flow| Record::of(flow).integer(field));
            let mut values: Vec<u128> = values.collect();
            values.sort_unstable();
            values
        };
        let sorted = SORTED.map(values).into();
        Self { flows, sorted }
    }

    /// The flows.
    #[must_use]
    pub fn flows(&self) -> &[Biflow] {
        &self.flows
    }

    /// How many of the sampled flows have a value of `set` in `field`; `None` if that field's
    /// values are not kept.
    fn count(&self, field: Field, ranges: &[(u128, u128)]) -> Option<usize> {
        let sorted = self.sorted.get(SORTED.iter().position(|&f| f == field)?)?;
        let below = |v: u128| sorted.partition_point(|&x| x < v);
        let up_to = |v: u128| sorted.partition_point(|&x| x <= v);
        if ranges.len() < sorted.len() {
            return Some(ranges.iter().map(|&(first, last)| up_to(last) - below(first)).sum());
        }
        let inside = |v: &&u128| {
            let at = ranges.partition_point(|&(_, last)| last < **v);
            ranges.get(at).is_some_and(|&(first, _)| first <= **v)
        };
        Some(sorted.iter().filter(inside).count())
    }
}

/// Shares of the traffic: measured where there is a sample, blended with what is usual.
#[derive(Clone, Copy, Default)]
pub(super) struct Estimate<'a>(pub Option<&'a Traffic>);

impl Estimate<'_> {
    /// The share of flows, in 0..=1, that satisfies a predicate.
    pub fn share(self, leaf: &Predicate) -> f64 {
        match &leaf.test {
            Test::In { set, null } => {
                let share = self.share_of(leaf.field, set);
                if *null && leaf.field.nullable() { share.max(0.5) } else { share }
            }
            Test::Text { negated: false, null: false, .. } => 0.01,
            Test::Part { negated: false, .. } | Test::Reference { negated: false, .. } => 0.2,
            _ => 0.7,
        }
    }

    /// The share of flows whose `field` lies in `set`.
    fn share_of(self, field: Field, set: &IntervalSet) -> f64 {
        let usual = || set.intervals().iter().map(|&range| usual(field, range)).sum::<f64>();
        self.blend(field, set.intervals(), usual)
    }

    /// The share of flows whose `field` lies in one range.
    pub fn share_of_range(self, field: Field, range: (u128, u128)) -> f64 {
        self.blend(field, &[range], || usual(field, range))
    }

    /// Below what the sample resolves, what is usual decides.
    fn blend(self, field: Field, ranges: &[(u128, u128)], usual: impl Fn() -> f64) -> f64 {
        let usual = usual().min(1.0);
        let Some(traffic) = self.0 else { return usual };
        match traffic.count(field, ranges) {
            Some(count) => (count as f64 + usual) / (traffic.flows.len() as f64 + 1.0),
            None => usual,
        }
    }
}

/// What share of flows a range usually has: rough, and only ever used to choose.
fn usual(field: Field, (first, last): (u128, u128)) -> f64 {
    match field.kind() {
        Kind::Address => usual_addresses(first, last),
        Kind::Protocol => {
            let has =
                |number: u128, share| if first <= number && number <= last { share } else { 0.0 };
            has(6, 0.7) + has(17, 0.25) + has(1, 0.04) + (last - first) as f64 / 5_000.0
        }
        Kind::Named(words) => (last - first + 1) as f64 / words.len() as f64,
        _ if matches!(field, Field::SrcPort | Field::DstPort) => usual_ports(field, first, last),
        Kind::Integer { .. } | Kind::Time { .. } if field.max() > 0xffff => {
            // Long tails: each tenfold threshold is passed by a quarter as many flows.
            let above = |v: u128| (1.0 + v as f64 / 100.0).powf(-0.6);
            (above(first) - if last >= u128::from(u64::MAX) { 0.0 } else { above(last + 1) })
                .max(1e-6)
        }
        _ => ((last - first) as f64 + 1.0) / (field.max() as f64 + 1.0) + 0.001,
    }
}

fn usual_ports(field: Field, first: u128, last: u128) -> f64 {
    let even = (last - first + 1) as f64 / 65_536.0;
    if field == Field::SrcPort {
        return even * 2.0;
    }
    const BUSY: [(u128, f64); 8] = [
        (443, 0.4),
        (53, 0.2),
        (80, 0.15),
        (123, 0.02),
        (22, 0.02),
        (445, 0.02),
        (8443, 0.01),
        (8080, 0.01),
    ];
    let busy = BUSY.iter().filter(|(port, _)| first <= *port && *port <= last);
    busy.map(|(_, share)| share).sum::<f64>() + even * 0.2 + 0.000_2
}

/// Home networks and the rest each have half; of either, a few networks have most.
fn usual_addresses(first: u128, last: u128) -> f64 {
    const HOME: [(u32, u32); 3] =
        [(0x0a00_0000, 0x0aff_ffff), (0xac10_0000, 0xac1f_ffff), (0xc0a8_0000, 0xc0a8_ffff)];
    let overlap = |a: u128, b: u128| {
        let (a, b) = (first.max(a), last.min(b));
        if a <= b { (b - a) as f64 + 1.0 } else { 0.0 }
    };
    let home: f64 = HOME.iter().map(|&(a, b)| overlap(Addr::v4(a).0, Addr::v4(b).0)).sum::<f64>();
    let v4 = overlap(Addr::v4(0).0, Addr::v4(u32::MAX).0) - home;
    let v6 = if last > Addr::v4(u32::MAX).0 { (last - first) as f64 } else { 0.0 };
    (home / 1e6).min(0.5) + (v4 / 3e8).min(0.5) + (v6 / 1e34).min(0.2)
}
