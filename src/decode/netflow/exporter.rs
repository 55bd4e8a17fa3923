//! One exporter: what is known of it, what was learnt, what went wrong.

use std::collections::HashMap;
use std::sync::Arc;

use super::boot::Boot;
use super::options::Options;
use super::sequence::{Sequence, SequenceCounts};
use super::timeout::ActiveTimeout;
use super::totals::Totals;
use super::wire::Version;
use crate::config::{Config, Profile};
use crate::flow::record::Name;
use crate::metrics::Counts;
use crate::net::Addr;
use crate::time::{Micros, SECOND};

/// Over how long rates are taken, at least.
const RATE_WINDOW_US: i64 = 10 * SECOND;

/// Who sends: address and UDP port.
pub(super) type Source = (Addr, u16);

/// What the configuration knows of an exporter's address.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) name: Option<String>,
    pub(super) sampling_interval: Option<u32>,
    pub(super) interfaces: HashMap<u32, Name>,
    pub(super) profile: Profile,
}

impl Known {
    /// Of every exporter in the configuration.
    pub(super) fn all(config: &Config) -> HashMap<Addr, Arc<Self>> {
        let known = config.exporter.iter().map(|exporter| {
            let interface = |(index, name): (&String, &String)| {
                Some((index.trim().parse().ok()?, Name::from(name.as_str())))
            };
            let known = Self {
                name: exporter.name.clone(),
                sampling_interval: exporter.sampling_interval,
                interfaces: exporter.interfaces.iter().filter_map(interface).collect(),
                profile: exporter.profile,
            };
            (exporter.address, Arc::new(known))
        });
        known.collect()
    }
}

/// Text that comes in data records, made once.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<[u8]>, Name>);

impl Names {
    /// The name of `text`; `None` where the table has no room for a new one.
    pub(super) fn intern(&mut self, text: &[u8], max: usize) -> Option<Name> {
        if let Some(name) = self.0.get(text) {
            return Some(name.clone());
        }
        if self.0.len() >= max {
            return None;
        }
        let name = Name::from(String::from_utf8_lossy(text).as_ref());
        self.0.insert(text.into(), name.clone());
        Some(name)
    }
}

/// What an exporter's flow records taught, and what was odd about them.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) totals: Totals,
    pub(super) active: ActiveTimeout,
    pub(super) names: Names,
    pub(super) times_clamped: u64,
    pub(super) sampling_unknown: u64,
    /// The sampling interval of the last v5 header that told one.
    pub(super) header_sampling: Option<u32>,
    /// The interval of the last flow record that carried its own.
    pub(super) record_sampling: Option<u32>,
}

/// One observation domain of one version.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) sequence: Sequence,
    pub(super) boot: Boot,
    pub(super) last_seen: Micros,
    pub(super) datagrams: u64,
    pub(super) records: u64,
}

/// Datagrams and records per second over the last whole window.
#[derive(Debug, Default)]
pub(super) struct Rate {
    since: Option<Micros>,
    counted: [u64; 2],
    last: [f64; 2],
}

impl Rate {
    fn count(&mut self, stamp: Micros, datagrams: u64, records: u64) {
        let since = *self.since.get_or_insert(stamp);
        let elapsed_us = stamp.since(since);
        if elapsed_us >= RATE_WINDOW_US {
            self.last = self.counted.map(|n| n as f64 * SECOND as f64 / elapsed_us as f64);
            (self.since, self.counted) = (Some(stamp), [0, 0]);
        }
        self.counted[0] += datagrams;
        self.counted[1] += records;
    }

    /// Datagrams and records per second; 0 once nothing came for two windows.
    pub(super) fn at(&self, now: Micros) -> [f64; 2] {
        let Some(since) = self.since else { return [0.0; 2] };
        let elapsed_us = now.since(since);
        if elapsed_us < RATE_WINDOW_US {
            return self.last;
        }
        self.counted.map(|n| n as f64 * SECOND as f64 / elapsed_us as f64)
    }
}

/// The state of one (address, port).
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) source: Source,
    pub(super) site: u16,
    pub(super) known: Arc<Known>,
    /// Whether a record of it was ever decoded.
    pub(super) proven: bool,
    pub(super) since: Micros,
    pub(super) last_seen: Micros,
    /// Orders last uses; moves by one with each datagram of any exporter.
    pub(super) used: u64,
    pub(super) datagrams: u64,
    pub(super) flows: u64,
    pub(super) options_records: u64,
    pub(super) other_records: u64,
    pub(super) versions: [bool; 4],
    pub(super) rate: Rate,
    /// Export time minus arrival, smoothed: microseconds.
    pub(super) skew_us: Option<i64>,
    pub(super) errors: Counts,
    pub(super) dropped_sets: Counts,
    pub(super) options_full: u64,
    pub(super) domains: HashMap<(Version, u32), Domain>,
    /// Sequence counts of domains that were dropped for want of room.
    pub(super) gone: SequenceCounts,
    pub(super) options: Arc<Options>,
    pub(super) learnt: Learnt,
    /// The address's template generation when its waiting sets were last looked at.
    pub(super) looked_at: u64,
}

impl Exporter {
    pub(super) fn new(source: Source, site: u16, known: Arc<Known>, stamp: Micros) -> Self {
        Self {
            source,
            site,
            known,
            proven: false,
            since: stamp,
            last_seen: stamp,
            used: 0,
            datagrams: 0,
            flows: 0,
            options_records: 0,
            other_records: 0,
            versions: [false; 4],
            rate: Rate::default(),
            skew_us: None,
            errors: Counts::default(),
            dropped_sets: Counts::default(),
            options_full: 0,
            domains: HashMap::new(),
            gone: SequenceCounts::default(),
            options: Arc::default(),
            learnt: Learnt::default(),
            looked_at: 0,
        }
    }

    /// Data records and options records.
    pub(super) const fn records(&self) -> u64 {
        self.flows + self.options_records + self.other_records
    }

    /// Takes in that a datagram came.
    pub(super) const fn see(&mut self, version: Version, stamp: Micros, used: u64) {
        (self.last_seen, self.used) = (stamp, used);
        self.datagrams += 1;
        self.versions[version as usize] = true;
    }

    /// Takes in that the last one was sent at `sent` by the exporter's clock.
    pub(super) fn compare_clocks(&mut self, sent: Micros) {
        let skew_us = sent.since(self.last_seen);
        self.skew_us = Some(match self.skew_us {
            Some(smooth) => smooth.saturating_add(skew_us.saturating_sub(smooth) / 16),
            None => skew_us,
        });
    }

    /// Counts what a datagram brought.
    pub(super) fn count_records(&mut self, version: Version, domain: u32, records: u64) {
        self.rate.count(self.last_seen, 1, records);
        if let Some(domain) = self.domains.get_mut(&(version, domain)) {
            domain.records += records;
        }
    }

    /// The domain of a datagram; a new one takes the place of the one that was silent longest
    /// where there are `max` already.
    pub(super) fn domain(&mut self, version: Version, id: u32, max: usize) -> &mut Domain {
        let key = (version, id);
        if !self.domains.contains_key(&key) && self.domains.len() >= max {
            let silent = self.domains.iter().min_by_key(|&(&key, domain)| (domain.last_seen, key));
            if let Some(domain) = silent.map(|(&key, _)| key).and_then(|k| self.domains.remove(&k))
            {
                self.gone.add(&domain.sequence.counts);
            }
        }
        let domain = self.domains.entry(key).or_insert_with(|| Domain {
            boot: Boot::default(),
            sequence: Sequence::default(),
            last_seen: self.last_seen,
            datagrams: 0,
            records: 0,
        });
        domain.last_seen = self.last_seen;
        domain.datagrams += 1;
        domain
    }

    /// Sequence counts of all domains.
    pub(super) fn sequence(&self) -> SequenceCounts {
        let mut sum = self.gone;
        for domain in self.domains.values() {
            sum.add(&domain.sequence.counts);
        }
        sum
    }
}
