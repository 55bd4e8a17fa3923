//! What an exporter tells of itself in options data: sampling, names, its boot time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::field::{Field, Values};
use super::time::millis_since_epoch;
use crate::flow::record::Name;
use crate::time::Micros;

/// Octets of a name, at most; the rest is cut.
const NAME_OCTETS_MAX: usize = 255;

/// How packets are chosen.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Every n-th (IE 35 and 49 = 1, IE 304 = 1).
    Deterministic,
    /// n out of N, or by probability (IE 35 and 49 = 2, IE 304 = 3 and 4).
    Random,
    /// Not told.
    Unknown,
}

/// What a sampler does, as options data told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sampling {
    /// One of so many packets is seen, at least 1.
    pub interval: u32,
    /// How they are chosen.
    pub algorithm: Algorithm,
}

/// Sampling of one domain where no sampler is named.
#[derive(Clone, Copy, Debug, Default)]
struct DomainSampling {
    /// Told for the whole domain.
    explicit: Option<Sampling>,
    /// What all of its samplers have in common.
    common: Option<Sampling>,
    /// Whether its samplers differ, so that none stands for the domain.
    mixed: bool,
}

/// A domain and a number in it: a sampler id, an ifIndex, a VRF id, an application id.
pub(super) type Place = (u32, u64);

/// Tables of one exporter, bounded each. A new port of an address starts with the tables of the
/// port that was seen last, without a copy until it writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    samplers: HashMap<Place, Sampling>,
    by_interface: HashMap<Place, Sampling>,
    by_domain: HashMap<u32, DomainSampling>,
    interfaces: HashMap<Place, Name>,
    vrfs: HashMap<Place, Name>,
    applications: HashMap<Place, Name>,
    boots: HashMap<u32, Micros>,
}

impl Options {
    /// Takes in one options record. Returns whether anything changed, and how many entries found
    /// no room: a full table keeps what it has.
    pub(super) fn learn(
        this: &mut Arc<Self>,
        domain: u32,
        values: &Values<'_>,
        max: usize,
    ) -> (bool, u64) {
        let (mut changed, mut full) = (false, 0);
        let mut count = |stored: Stored| match stored {
            Stored::Same => {}
            Stored::Changed => changed = true,
            Stored::Full => full += 1,
        };
        let interface = values.number(Field::ScopeInterface).or_else(|| interface_of(values));
        if let Some(sampling) = sampling_of(values) {
            count(Self::learn_sampling(this, domain, values, interface, sampling, max));
        }
        let named = text_of(values, Field::InterfaceName);
        let named = named.or_else(|| text_of(values, Field::InterfaceDescription));
        if let (Some(interface), Some(name)) = (interface, named) {
            count(store_name(this, |o| &mut o.interfaces, (domain, interface), name, max));
        }
        let vrf = values.number(Field::IngressVrf).or_else(|| values.number(Field::EgressVrf));
        if let (Some(vrf), Some(name)) = (vrf, text_of(values, Field::VrfName)) {
            count(store_name(this, |o| &mut o.vrfs, (domain, vrf), name, max));
        }
        let application = values.number(Field::ApplicationId);
        if let (Some(id), Some(name)) = (application, text_of(values, Field::ApplicationName)) {
            count(store_name(this, |o| &mut o.applications, (domain, id), name, max));
        }
        if let Some(boot) = values.nonzero(Field::SystemInit).map(millis_since_epoch) {
            count(store(this, |o| &mut o.boots, domain, boot, max));
        }
        (changed, full)
    }

    fn learn_sampling(
        this: &mut Arc<Self>,
        domain: u32,
        values: &Values<'_>,
        interface: Option<u64>,
        sampling: Sampling,
        max: usize,
    ) -> Stored {
        if let Some(id) = sampler_of(values) {
            let stored = store(this, |o| &mut o.samplers, (domain, id), sampling, max);
            if stored == Stored::Changed {
                let own = this.by_domain.get(&domain).copied().unwrap_or_default();
                let mixed = own.mixed || own.common.is_some_and(|common| common != sampling);
                let common = (!mixed).then_some(sampling);
                let own = DomainSampling { common, mixed, ..own };
                store(this, |o| &mut o.by_domain, domain, own, max);
            }
            return stored;
        }
        if let Some(interface) = interface {
            return store(this, |o| &mut o.by_interface, (domain, interface), sampling, max);
        }
        let own = this.by_domain.get(&domain).copied().unwrap_or_default();
        let own = DomainSampling { explicit: Some(sampling), ..own };
        store(this, |o| &mut o.by_domain, domain, own, max)
    }

    /// The interval that applies to a record which carries none of its own ([`own_interval`]): its
    /// sampler's, its interface's, its domain's; `None` if none of them is known.
    pub(super) fn interval(&self, domain: u32, values: &Values<'_>, interface: u32) -> Option<u32> {
        let sampler = if self.samplers.is_empty() { None } else { sampler_of(values) };
        let sampler = sampler.and_then(|id| self.samplers.get(&(domain, id)));
        let sampler = sampler.map(|sampling| sampling.interval);
        sampler.or_else(|| self.interval_of(domain, interface))
    }

    /// The same, of a record that names no sampler.
    pub(super) fn interval_of(&self, domain: u32, interface: u32) -> Option<u32> {
        if self.by_interface.is_empty() && self.by_domain.is_empty() {
            return None;
        }
        let by_interface = self.by_interface.get(&(domain, u64::from(interface))).copied();
        by_interface.or_else(|| self.of_domain(domain)).map(|sampling| sampling.interval)
    }

    /// Whether any interface has a name.
    pub(super) fn names_interfaces(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// Whether interfaces of a domain may be sampled differently.
    pub(super) fn samples_by_interface(&self) -> bool {
        !self.by_interface.is_empty()
    }

    /// The sampling of a domain for records that name no sampler: what was told for it as a
    /// whole, else what all its samplers have in common.
    pub(super) fn of_domain(&self, domain: u32) -> Option<Sampling> {
        let own = self.by_domain.get(&domain)?;
        own.explicit.or(own.common)
    }

    pub(super) fn interface(&self, domain: u32, interface: u32) -> Option<&Name> {
        if self.interfaces.is_empty() {
            return None;
        }
        self.interfaces.get(&(domain, u64::from(interface)))
    }

    pub(super) fn vrf(&self, domain: u32, vrf: u32) -> Option<&Name> {
        if self.vrfs.is_empty() {
            return None;
        }
        self.vrfs.get(&(domain, u64::from(vrf)))
    }

    pub(super) fn application(&self, domain: u32, id: u64) -> Option<&Name> {
        if self.applications.is_empty() {
            return None;
        }
        self.applications.get(&(domain, id))
    }

    pub(super) fn boot(&self, domain: u32) -> Option<Micros> {
        self.boots.get(&domain).copied()
    }

    /// Samplers by id, in the order of their ids, of the domain.
    pub(super) fn samplers(&self, domain: u32) -> Vec<(u64, Sampling)> {
        sorted(&self.samplers, domain)
    }

    /// Sampling of interfaces, in the order of their indexes, of the domain.
    pub(super) fn interface_sampling(&self, domain: u32) -> Vec<(u64, Sampling)> {
        sorted(&self.by_interface, domain)
    }

    /// Every entry, for the state file, in a fixed order.
    pub(super) fn saved(&self) -> SavedOptions {
        let mut saved = SavedOptions {
            samplers: self.samplers.iter().map(|(&(d, n), &v)| (d, n, v)).collect(),
            by_interface: self.by_interface.iter().map(|(&(d, n), &v)| (d, n, v)).collect(),
            by_domain: (self.by_domain.iter())
                .filter_map(|(&d, v)| v.explicit.map(|v| (d, v)))
                .collect(),
            interfaces: self.interfaces.iter().map(|(&(d, n), v)| (d, n, v.to_string())).collect(),
            vrfs: self.vrfs.iter().map(|(&(d, n), v)| (d, n, v.to_string())).collect(),
            applications: (self.applications.iter())
                .map(|(&(d, n), v)| (d, n, v.to_string()))
                .collect(),
            boots: self.boots.iter().map(|(&d, &v)| (d, v)).collect(),
        };
        saved.samplers.sort_unstable_by_key(|&(d, n, _)| (d, n));
        saved.by_interface.sort_unstable_by_key(|&(d, n, _)| (d, n));
        saved.by_domain.sort_unstable_by_key(|&(d, _)| d);
        for names in [&mut saved.interfaces, &mut saved.vrfs, &mut saved.applications] {
            names.sort_unstable_by_key(|&(d, n, _)| (d, n));
        }
        saved.boots.sort_unstable();
        saved
    }

    /// The tables of a state file, at most `max` entries each.
    pub(super) fn restored(saved: &SavedOptions, max: usize) -> Self {
        let names = |list: &[(u32, u64, String)]| {
            let name = |(d, n, text): &(u32, u64, String)| ((*d, *n), Name::from(text.as_str()));
            list.iter().take(max).map(name).collect()
        };
        let mut by_domain = HashMap::<u32, DomainSampling>::new();
        for &(domain, sampling) in saved.by_domain.iter().take(max) {
            by_domain.entry(domain).or_default().explicit = Some(sampling);
        }
        for &(domain, _, sampling) in saved.samplers.iter().take(max) {
            let own = by_domain.entry(domain).or_default();
            own.mixed |= own.common.is_some_and(|common| common != sampling);
            own.common = (!own.mixed).then_some(sampling);
        }
        let places = |list: &[(u32, u64, Sampling)]| {
            list.iter().take(max).map(|&(d, n, v)| ((d, n), v)).collect()
        };
        Self {
            samplers: places(&saved.samplers),
            by_interface: places(&saved.by_interface),
            by_domain,
            interfaces: names(&saved.interfaces),
            vrfs: names(&saved.vrfs),
            applications: names(&saved.applications),
            boots: saved.boots.iter().take(max).copied().collect(),
        }
    }
}

/// Options tables as they are kept over a restart: domain, number, value.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SavedOptions {
    /// By sampler id.
    pub samplers: Vec<(u32, u64, Sampling)>,
    /// By ifIndex.
    pub by_interface: Vec<(u32, u64, Sampling)>,
    /// Of whole domains.
    pub by_domain: Vec<(u32, Sampling)>,
    /// Interface names by ifIndex.
    pub interfaces: Vec<(u32, u64, String)>,
    /// VRF names by VRF id.
    pub vrfs: Vec<(u32, u64, String)>,
    /// Application names by application id.
    pub applications: Vec<(u32, u64, String)>,
    /// Boot times.
    pub boots: Vec<(u32, Micros)>,
}

/// The fields by which a record carries its own sampling interval.
const OWN_SAMPLING: u128 = Field::SamplingInterval.bit()
    | Field::SamplerRandomInterval.bit()
    | Field::PacketInterval.bit()
    | Field::SamplingSize.bit()
    | Field::SamplingProbability.bit();

/// The interval that a flow record carries itself.
pub(super) fn own_interval(values: &Values<'_>) -> Option<u32> {
    if !values.has_any(OWN_SAMPLING) {
        return None;
    }
    sampling_of(values).map(|own| own.interval)
}

/// The sampling that a record tells, if any; an interval of 0 tells nothing.
pub(super) fn sampling_of(values: &Values<'_>) -> Option<Sampling> {
    let interval = if let Some(interval) = values.nonzero(Field::PacketInterval) {
        // RFC 5476 §6.5.2: `interval` packets are taken, then `space` packets are not.
        let space = values.number(Field::PacketSpace).unwrap_or(0);
        rounded(interval.saturating_add(space), interval)
    } else if let Some(size) = values.nonzero(Field::SamplingSize) {
        rounded(values.nonzero(Field::SamplingPopulation)?, size)
    } else if let Some(bits) = values.nonzero(Field::SamplingProbability) {
        let probability = f64::from_bits(bits);
        if !(probability > 0.0 && probability <= 1.0) {
            return None;
        }
        (1.0 / probability).round() as u64
    } else {
        let interval = values.nonzero(Field::SamplerRandomInterval);
        interval.or_else(|| values.nonzero(Field::SamplingInterval))?
    };
    let mode = values.number(Field::SamplerMode);
    let algorithm = match mode.or_else(|| values.number(Field::SamplingAlgorithm)) {
        Some(1) => Algorithm::Deterministic,
        Some(2) => Algorithm::Random,
        _ if values.has(Field::PacketInterval) => Algorithm::Deterministic,
        _ if values.has(Field::SamplingSize) || values.has(Field::SamplingProbability) => {
            Algorithm::Random
        }
        _ => Algorithm::Unknown,
    };
    Some(Sampling { interval: u32::try_from(interval).unwrap_or(u32::MAX).max(1), algorithm })
}

const fn rounded(dividend: u64, divisor: u64) -> u64 {
    dividend.saturating_add(divisor / 2) / divisor
}

/// IE 48 (flowSamplerId), else 302 (selectorId): one space of ids, as exporters use both for one.
fn sampler_of(values: &Values<'_>) -> Option<u64> {
    values.number(Field::SamplerId).or_else(|| values.number(Field::SelectorId))
}

fn interface_of(values: &Values<'_>) -> Option<u64> {
    let fields =
        [Field::InInterface, Field::OutInterface, Field::IngressPhysical, Field::EgressPhysical];
    fields.into_iter().find_map(|field| values.nonzero(field))
}

/// The text of a field: without the NULs and blanks that pad it; `None` if nothing is left.
pub(super) fn text_of<'a>(values: &Values<'a>, field: Field) -> Option<&'a [u8]> {
    let text = values.text(field)?;
    let text = &text[..text.len().min(NAME_OCTETS_MAX)];
    let text = text.split(|&octet| octet == 0).next().unwrap_or_default().trim_ascii();
    (!text.is_empty()).then_some(text)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stored {
    Same,
    Changed,
    Full,
}

fn store<K: std::hash::Hash + Eq + Copy, V: Entrylike>(
    this: &mut Arc<Options>,
    table: impl Fn(&mut Options) -> &mut HashMap<K, V>,
    key: K,
    value: V,
    max: usize,
) -> Stored {
    // A table that is shared with another port is copied here, once.
    let table = table(Arc::make_mut(this));
    let room = table.len() < max;
    match table.entry(key) {
        Entry::Occupied(entry) if entry.get().same(&value) => Stored::Same,
        Entry::Occupied(mut entry) => {
            entry.insert(value);
            Stored::Changed
        }
        Entry::Vacant(entry) if room => {
            entry.insert(value);
            Stored::Changed
        }
        Entry::Vacant(_) => Stored::Full,
    }
}

fn store_name(
    this: &mut Arc<Options>,
    table: impl Fn(&mut Options) -> &mut HashMap<Place, Name>,
    key: Place,
    text: &[u8],
    max: usize,
) -> Stored {
    let name = Name::from(String::from_utf8_lossy(text).as_ref());
    store(this, table, key, name, max)
}

/// Values of tables, as far as a change matters.
trait Entrylike: Clone {
    fn same(&self, other: &Self) -> bool;
}

impl Entrylike for Sampling {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Entrylike for DomainSampling {
    fn same(&self, other: &Self) -> bool {
        (self.explicit, self.common, self.mixed) == (other.explicit, other.common, other.mixed)
    }
}

impl Entrylike for Name {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Entrylike for Micros {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

fn sorted(table: &HashMap<Place, Sampling>, domain: u32) -> Vec<(u64, Sampling)> {
    let own = table.iter().filter(|((of, _), _)| *of == domain);
    let mut list: Vec<_> = own.map(|(&(_, number), &sampling)| (number, sampling)).collect();
    list.sort_unstable_by_key(|&(number, _)| number);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, fields: &[(Field, u64)], want: Option<(u32, Algorithm)>) {
        let octets: Vec<_> = fields.iter().map(|&(_, value)| value.to_be_bytes()).collect();
        let mut values = Values::default();
        for ((field, _), octets) in fields.iter().zip(&octets) {
            values.put(*field, octets);
        }
        let got = sampling_of(&values).map(|s| (s.interval, s.algorithm));
        assert_eq!(got, want, "case: {name}");
    }

    #[test]
    fn sampling_is_told_in_many_ways() {
        use Algorithm::*;
        use Field::*;
        check("34", &[(SamplingInterval, 100)], Some((100, Unknown)));
        let both = [(SamplingInterval, 100), (SamplingAlgorithm, 1)];
        check("34 and 35", &both, Some((100, Deterministic)));
        let random = [(SamplerRandomInterval, 512), (SamplerMode, 2)];
        check("49 and 50", &random, Some((512, Random)));
        let pair = [(PacketInterval, 1), (PacketSpace, 999)];
        check("305 and 306", &pair, Some((1_000, Deterministic)));
        let pair = [(PacketInterval, 10), (PacketSpace, 990)];
        check("10 of 1000", &pair, Some((100, Deterministic)));
        check("305 alone", &[(PacketInterval, 1)], Some((1, Deterministic)));
        let out_of = [(SamplingSize, 2), (SamplingPopulation, 2_000)];
        check("309 and 310", &out_of, Some((1_000, Random)));
        check("311", &[(SamplingProbability, 0.01_f64.to_bits())], Some((100, Random)));
        check("311 of nonsense", &[(SamplingProbability, (-0.5_f64).to_bits())], None);
        check("0 tells nothing", &[(SamplingInterval, 0)], None);
        check("nothing", &[(SamplerId, 7)], None);
        check("too large", &[(SamplingInterval, u64::MAX)], Some((u32::MAX, Unknown)));
    }
}
