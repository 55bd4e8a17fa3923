//! What an operator wants to know of exporters: for `weir exporters`, `/exporters` and metrics.

use serde::Serialize;

use super::collector::Collector;
use super::exporter::Exporter;
use super::options::Sampling;
use super::sequence::SequenceCounts;
use super::template::TemplateCounts;
use super::wire::Version;
use crate::metrics::Counts;
use crate::net::Addr;
use crate::time::{Micros, SECOND};

/// One exporter. Times are microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExporterReport {
    /// Its address.
    pub address: Addr,
    /// Its UDP port.
    pub port: u16,
    /// Its name in the configuration.
    pub name: Option<String>,
    /// Its site's name.
    pub site: String,
    /// Arrival of its first datagram.
    pub since: Micros,
    /// Arrival of its last datagram.
    pub last_seen: Micros,
    /// Whether a record of it was ever decoded.
    pub proven: bool,
    /// Datagrams with a header that could be read.
    pub datagrams: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Records that are flows.
    pub flows: u64,
    /// Options records.
    pub options_records: u64,
    /// Datagrams per second, over the last 10 s or more.
    pub datagrams_per_s: f64,
    /// Records per second, over the last 10 s or more.
    pub records_per_s: f64,
    /// Version numbers it speaks.
    pub versions: Vec<u16>,
    /// Its observation domains, by version and id.
    pub domains: Vec<DomainReport>,
    /// Its templates, by version, domain and id.
    pub templates: Vec<TemplateReport>,
    /// Templates that it has not sent, and whose data waits for them.
    pub waiting: Vec<WaitingReport>,
    /// What the sequence numbers told, over all domains.
    pub sequence: SequenceCounts,
    /// What could not be read, by reason.
    pub errors: Counts,
    /// Data sets that were dropped, by reason.
    pub dropped_sets: Counts,
    /// Export time minus arrival, smoothed; positive if its clock is ahead. Microseconds.
    pub clock_skew_us: Option<i64>,
    /// The active timeout as learnt from its records, in seconds, rounded up to 5 s.
    pub active_timeout_s: Option<i64>,
    /// Records with a time that was not plausible.
    pub times_clamped: u64,
    /// The sampling interval in the last v5 header that told one.
    pub header_sampling: Option<u32>,
    /// The sampling interval of the last flow record that carried its own.
    pub record_sampling: Option<u32>,
    /// The sampling interval in the configuration, for records of which nothing else tells it.
    pub configured_sampling: Option<u32>,
    /// Flow records of which the sampling interval is not known.
    pub sampling_unknown: u64,
    /// Entries of options data that found no room in a table.
    pub options_full: u64,
    /// Flows with total counters that were forgotten for want of room.
    pub totals_forgotten: u64,
}

/// One observation domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainReport {
    /// Version number.
    pub version: u16,
    /// Observation domain, source id, or engine type and id.
    pub domain: u32,
    /// Datagrams.
    pub datagrams: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Arrival of the last datagram.
    pub last_seen: Micros,
    /// What the sequence numbers told.
    pub sequence: SequenceCounts,
    /// Sampling where a record names no sampler.
    pub sampling: Option<Sampling>,
    /// Samplers by id.
    pub samplers: Vec<SamplerReport>,
    /// Sampling by ifIndex.
    pub interface_sampling: Vec<SamplerReport>,
}

/// A sampler, or the sampling of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SamplerReport {
    /// Sampler id, or ifIndex.
    pub id: u64,
    /// What it does.
    #[serde(flatten)]
    pub sampling: Sampling,
}

/// One template.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TemplateReport {
    /// Version number.
    pub version: u16,
    /// Observation domain or source id.
    pub domain: u32,
    /// Template id.
    pub id: u16,
    /// Whether it is an options template.
    pub options: bool,
    /// Its fields.
    pub fields: usize,
    /// Seconds since it was last sent.
    pub age_s: i64,
    /// From before a restart, and not seen since.
    pub unconfirmed: bool,
}

/// Data sets that wait for a template.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WaitingReport {
    /// Version number.
    pub version: u16,
    /// Observation domain or source id.
    pub domain: u32,
    /// The id that the template would have.
    pub id: u16,
    /// Arrival of the first.
    pub since: Micros,
    /// Data sets.
    pub sets: u64,
    /// Their octets.
    pub octets: u64,
}

/// Sums over all exporters, those that are gone included: for metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CollectorTotals {
    /// Exporters with state now.
    pub exporters: usize,
    /// Of them proven.
    pub exporters_proven: usize,
    /// Unproven exporters that made room.
    pub exporters_evicted: u64,
    /// Exporters that were silent for too long.
    pub exporters_expired: u64,
    /// Templates held now.
    pub templates: usize,
    /// What happened to templates.
    pub template_counts: TemplateCounts,
    /// What the sequence numbers told.
    pub sequence: SequenceCounts,
    /// Records with a time that was not plausible.
    pub times_clamped: u64,
    /// Flow records of which the sampling interval is not known.
    pub sampling_unknown: u64,
    /// Entries of options data that found no room in a table.
    pub options_full: u64,
}

const VERSIONS: [Version; 4] = [Version::V5, Version::V7, Version::V9, Version::Ipfix];

impl Collector {
    /// Every exporter, by address and port.
    #[must_use]
    pub fn report(&self, now: Micros) -> Vec<ExporterReport> {
        let exporters = (0_u32..).zip(&self.exporters);
        let present = exporters.filter_map(|(index, state)| Some((index, state.as_deref()?)));
        let mut list: Vec<_> =
            present.map(|(index, state)| self.report_one(index, state, now)).collect();
        list.sort_by_key(|report| (report.address, report.port));
        list
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> CollectorTotals {
        let retired = &self.retired;
        let mut totals = CollectorTotals {
            exporters: self.exporters(),
            exporters_evicted: self.evicted,
            exporters_expired: self.expired,
            templates: self.templates.len(),
            template_counts: self.templates.counts,
            sequence: retired.sequence,
            times_clamped: retired.times_clamped,
            sampling_unknown: retired.sampling_unknown,
            options_full: retired.options_full,
            exporters_proven: 0,
        };
        for state in self.exporters.iter().flatten() {
            totals.exporters_proven += usize::from(state.proven);
            totals.sequence.add(&state.sequence());
            totals.times_clamped += state.learnt.times_clamped;
            totals.sampling_unknown += state.learnt.sampling_unknown;
            totals.options_full += state.options_full;
        }
        totals
    }

    fn report_one(&self, index: u32, state: &Exporter, now: Micros) -> ExporterReport {
        let [datagrams_per_s, records_per_s] = state.rate.at(now);
        let versions = VERSIONS.into_iter().filter(|&version| state.versions[version as usize]);
        let learnt = &state.learnt;
        let learnt_us = learnt.active.learnt_us();
        ExporterReport {
            address: state.source.0,
            port: state.source.1,
            name: state.known.name.clone(),
            site: self.settings.site_names[usize::from(state.site)].clone(),
            since: state.since,
            last_seen: state.last_seen,
            proven: state.proven,
            datagrams: state.datagrams,
            records: state.records(),
            flows: state.flows,
            options_records: state.options_records,
            datagrams_per_s,
            records_per_s,
            versions: versions.map(Version::number).collect(),
            domains: domains(state),
            templates: self.report_templates(index, now),
            waiting: self.report_waiting(index),
            sequence: state.sequence(),
            errors: state.errors.clone(),
            dropped_sets: state.dropped_sets.clone(),
            clock_skew_us: state.skew_us,
            active_timeout_s: (learnt_us > 0).then_some(learnt_us / SECOND),
            times_clamped: learnt.times_clamped,
            header_sampling: learnt.header_sampling,
            record_sampling: learnt.record_sampling,
            configured_sampling: state.known.sampling_interval,
            sampling_unknown: learnt.sampling_unknown,
            options_full: state.options_full,
            totals_forgotten: learnt.totals.forgotten(),
        }
    }

    fn report_templates(&self, exporter: u32, now: Micros) -> Vec<TemplateReport> {
        let report = |(key, held): (super::template::TemplateKey, &super::template::Held)| {
            let template = held.plan.template();
            TemplateReport {
                version: key.version.number(),
                domain: key.domain,
                id: key.id,
                options: template.options,
                fields: template.fields.len(),
                age_s: now.since(held.sent) / SECOND,
                unconfirmed: held.unconfirmed,
            }
        };
        self.templates.of(exporter).into_iter().map(report).collect()
    }

    fn report_waiting(&self, exporter: u32) -> Vec<WaitingReport> {
        let waiting = self.waiting.of(exporter).into_iter();
        let report = waiting.map(|(key, (since, sets, octets))| {
            let version = key.version.number();
            WaitingReport { version, domain: key.domain, id: key.id, since, sets, octets }
        });
        report.collect()
    }
}

fn domains(state: &Exporter) -> Vec<DomainReport> {
    let sampler = |(id, sampling)| SamplerReport { id, sampling };
    let report = |(&(version, id), domain): (&(Version, u32), &super::exporter::Domain)| {
        let interfaces = state.options.interface_sampling(id);
        DomainReport {
            version: version.number(),
            domain: id,
            datagrams: domain.datagrams,
            records: domain.records,
            last_seen: domain.last_seen,
            sequence: domain.sequence.counts,
            sampling: state.options.of_domain(id),
            samplers: state.options.samplers(id).into_iter().map(sampler).collect(),
            interface_sampling: interfaces.into_iter().map(sampler).collect(),
        }
    };
    let mut list: Vec<_> = state.domains.iter().map(report).collect();
    list.sort_by_key(|report| (report.version, report.domain));
    list
}
