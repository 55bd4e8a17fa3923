//! What a scrape sees.

use std::collections::BTreeMap;

use super::{Delivery, FileCounts, KafkaClient, Latency, Ledgers, Overload, SpoolState, TeeCounts};

/// What a scrape sees, gathered at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sum of all threads' ledgers, sinks included.
    pub ledgers: Ledgers,
    /// Flows in the tables.
    pub entries: u64,
    /// Per thread: name, heartbeats, microseconds of work.
    pub threads: Vec<(String, u64, u64)>,
    /// Microseconds that threads were ready to run and had no core, by name.
    pub run_delays: BTreeMap<String, u64>,
    /// Shards that went from one worker to another.
    pub shards_moved: u64,
    /// How often the captured interface went down or away.
    pub interfaces_lost: u64,
    /// Rules loaded and rejected.
    pub rules: (u64, u64),
    /// Filters and exclusions loaded.
    pub filters: (u64, u64),
    /// Flows that exclusions kept from rules, by the exclusion's id.
    pub excluded: Vec<(String, u64)>,
    /// Reloads that succeeded and that failed.
    pub reloads: (u64, u64),
    /// Rules that reloads added, removed and changed.
    pub rules_changed: [u64; 3],
    /// From the arrival of the bytes that raised an alert to its append to the spool, or to its
    /// handing to the outputs where no spool takes alerts.
    pub alert_latency: Latency,
    /// From the arrival of a datagram to the end of detection on its last record.
    pub detection_latency: Latency,
    /// What gives way, for the reader that is worst off.
    pub overload: Overload,
    /// CPU microseconds of each stage.
    pub stages: Vec<(&'static str, u64)>,
    /// Unix seconds of the last load of the configuration that succeeded.
    pub loaded_at_s: u64,
    /// What clients of Kafka tell of themselves, by sink.
    pub kafka: Vec<(String, KafkaClient)>,
    /// Datagrams that the kernel dropped, by reader and the socket's address.
    pub socket_drops: Vec<(String, String, u64)>,
    /// What the exporters' state adds up to.
    pub exporters: Exporters,
    /// How the delivery of each sink behind the spool stands, by name.
    pub deliveries: BTreeMap<String, Delivery>,
    /// What became of files, by the sink that writes them.
    pub files: BTreeMap<String, FileCounts>,
    /// How tees stand, by name.
    pub tees: BTreeMap<String, TeeCounts>,
    /// How the spool stands; all 0 where there is none.
    pub spool: SpoolState,
}

/// Sums over all exporters.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the names are the metrics'")]
pub struct Exporters {
    pub exporters: u64,
    pub templates: u64,
    pub evicted: u64,
    pub expired: u64,
    pub templates_defined: u64,
    pub templates_redefined: u64,
    pub templates_withdrawn: u64,
    pub templates_expired: u64,
    pub templates_evicted: u64,
    pub templates_refused: u64,
    pub sets_inherited: u64,
    pub sets_unconfirmed: u64,
    pub sequence_missing: u64,
    pub sequence_recovered: u64,
    pub sequence_reordered: u64,
    pub times_clamped: u64,
    pub sampling_unknown: u64,
    pub options_full: u64,
}

impl Exporters {
    /// Adds what another reader's add up to.
    pub fn add(&mut self, other: &Self) {
        let each = [
            (&mut self.exporters, other.exporters),
            (&mut self.templates, other.templates),
            (&mut self.evicted, other.evicted),
            (&mut self.expired, other.expired),
            (&mut self.templates_defined, other.templates_defined),
            (&mut self.templates_redefined, other.templates_redefined),
            (&mut self.templates_withdrawn, other.templates_withdrawn),
            (&mut self.templates_expired, other.templates_expired),
            (&mut self.templates_evicted, other.templates_evicted),
            (&mut self.templates_refused, other.templates_refused),
            (&mut self.sets_inherited, other.sets_inherited),
            (&mut self.sets_unconfirmed, other.sets_unconfirmed),
            (&mut self.sequence_missing, other.sequence_missing),
            (&mut self.sequence_recovered, other.sequence_recovered),
            (&mut self.sequence_reordered, other.sequence_reordered),
            (&mut self.times_clamped, other.times_clamped),
            (&mut self.sampling_unknown, other.sampling_unknown),
            (&mut self.options_full, other.options_full),
        ];
        each.into_iter().for_each(|(sum, part)| *sum += part);
    }
}
