//! `[detect]`: where rules run, and what a detector reads and writes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Report;
use super::output::{KafkaAccess, KafkaCompression, KafkaSasl, KafkaTls, Select};

/// `[detect]`: where rules run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detect {
    /// Where rules run.
    pub at: At,
    /// `[detect.engine]`: what `weir detect` reads and writes.
    pub engine: Option<Engine>,
}

/// Where rules run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// In this sensor.
    #[default]
    Sensor,
    /// Behind Kafka, in `weir detect`: this sensor ships slices without tags, so nothing alerts twice.
    Engine,
}

/// `[detect.engine]`: one detector of a group.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Brokers to ask first, as `HOST:PORT`; at least one.
    pub brokers: Vec<String>,
    /// Name of this detector, the same after a restart and no other's; empty: `sensor.name`.
    pub instance: String,
    /// Name of the group whose detectors share the input. All have the same rules.
    pub group: String,
    /// Topic that sensors write slices to, as JSON.
    pub input: String,
    /// Topic of the slices that leave.
    pub slices: String,
    /// Which slices leave: `slices`, all of them; `tagged`, those on which a rule fired.
    pub select: Select,
    /// Topic of the alerts.
    pub alerts: String,
    /// Compacted topic of the flows' states, with as many partitions as the input.
    pub states: String,
    /// Topic of matches on their way to correlations and suppression, with one partition.
    pub matches: String,
    /// Create topics that are not there, as many partitions as the input has.
    pub create_topics: bool,
    /// Replicas of topics that are created: 1 to 1,000; -1: as the brokers have it.
    pub replication: i32,
    /// Compression of what is written.
    pub compression: KafkaCompression,
    /// Milliseconds after which brokers abort a transaction: 1,000 to 60,000. So long a detector that
    /// was killed holds back its readers and its successor.
    pub transaction_timeout_ms: u32,
    /// Milliseconds of silence after which a detector's partitions go to others: 1,000 to 300,000.
    pub session_timeout_ms: u32,
    /// Slices of one transaction, at most: 1 to 1,000,000.
    pub batch_records: usize,
    /// Milliseconds that a transaction stays open: 1 to 10,000, and below a half of
    /// `transaction_timeout_ms`.
    pub batch_ms: u32,
    /// Seconds without a slice after which correlations wait no longer for a partition: 1 to 3,600.
    pub idle_s: u32,
    /// Seconds that matches are kept for detectors that take correlations over, longer than any
    /// correlation's timespan: 60 to 31,536,000. Of topics that are created.
    pub matches_s: u32,
    /// Milliseconds that the clocks of two sensors may be apart: 0 to 60,000.
    pub skew_ms: u32,
    /// Flows that are kept of each partition, at most: 1,024 to 100,000,000.
    pub flows_max: usize,
    /// TLS; absent: none.
    pub tls: Option<KafkaTls>,
    /// Login; absent: none.
    pub sasl: Option<KafkaSasl>,
    /// Further settings of librdkafka, by its names.
    pub properties: BTreeMap<String, String>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            instance: String::new(),
            group: "weir-detect".into(),
            input: "weir.slices".into(),
            slices: "weir.detected".into(),
            select: Select::Tagged,
            alerts: "weir.alerts".into(),
            states: "weir.detect.states".into(),
            matches: "weir.detect.matches".into(),
            create_topics: false,
            replication: -1,
            compression: KafkaCompression::Lz4,
            transaction_timeout_ms: 10_000,
            session_timeout_ms: 10_000,
            batch_records: 10_000,
            batch_ms: 100,
            idle_s: 10,
            matches_s: 172_800,
            skew_ms: 1_000,
            flows_max: 1_000_000,
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }
}

impl Engine {
    /// How it comes in.
    #[must_use]
    pub const fn access(&self) -> KafkaAccess<'_> {
        KafkaAccess {
            brokers: self.brokers.as_slice(),
            tls: self.tls.as_ref(),
            sasl: self.sasl.as_ref(),
            properties: &self.properties,
        }
    }

    /// Calls `absolute` with every path in it.
    pub fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.tls.iter_mut().for_each(|tls| tls.paths(absolute));
        self.sasl.iter_mut().for_each(|sasl| sasl.paths(absolute));
    }

    pub(super) fn check(&self, report: &mut Report) {
        let key = |name: &str| format!("detect.engine.{name}");
        self.access().check(&key, report);
        self.access().check_creation(self.create_topics, &key, report);
        let topics = [
            ("input", &self.input),
            ("slices", &self.slices),
            ("alerts", &self.alerts),
            ("states", &self.states),
            ("matches", &self.matches),
        ];
        for (name, topic) in topics {
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if topic.is_empty() || !topic.chars().all(legal) {
                let message = format!("`{topic}` is no topic; expected a-z, 0-9, `.`, `_`, `-`");
                report.add(&key(name), message);
            }
        }
        report.unique(topics.iter().map(|(name, topic)| (key(name), topic.as_str())));
        if self.select == Select::Alerts {
            let message = "alerts have a topic of their own; expected `slices` or `tagged`";
            report.add(&key("select"), message.into());
        }
        if self.group.is_empty() {
            report.add(&key("group"), "must not be empty".into());
        }
        if self.replication != -1 {
            report.within(&key("replication"), self.replication, 1..=1_000);
        }
        let timeout = self.transaction_timeout_ms;
        report.within(&key("transaction_timeout_ms"), timeout, 1_000..=60_000);
        report.within(&key("session_timeout_ms"), self.session_timeout_ms, 1_000..=300_000);
        report.within(&key("batch_records"), self.batch_records, 1..=1_000_000);
        report.within(&key("batch_ms"), self.batch_ms, 1..=10_000);
        let half = "a half of detect.engine.transaction_timeout_ms";
        report.at_most(&key("batch_ms"), self.batch_ms, half, timeout / 2);
        report.within(&key("idle_s"), self.idle_s, 1..=3_600);
        report.within(&key("matches_s"), self.matches_s, 60..=31_536_000);
        report.within(&key("skew_ms"), self.skew_ms, 0..=60_000);
        report.within(&key("flows_max"), self.flows_max, 1_024..=100_000_000);
    }
}
