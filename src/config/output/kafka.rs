//! `[[output.kafka]]`, and how clients of Kafka come in: TLS and SASL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Durability, FieldValue, Format, Place, Report, Secret, Select, Table, Taking};

/// Names that `topic` may hold in braces.
const TOPIC_NAMES: [&str; 4] = ["stream", "select", "sensor", "site"];
/// Settings of librdkafka that have keys of their own here, or that the guarantees rest on.
const OWN: [&str; 12] = [
    "acks",
    "bootstrap.servers",
    "compression.codec",
    "compression.type",
    "delivery.timeout.ms",
    "enable.idempotence",
    "linger.ms",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

/// `[[output.kafka]]`: one record of Kafka for each slice or alert.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// Brokers to ask first, as `HOST:PORT`; at least one.
    pub brokers: Vec<String>,
    /// Name of the topic: a text with `{stream}` (`slices` or `alerts`), `{select}`, `{sensor}` and
    /// `{site}`.
    pub topic: String,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// Encoding of values.
    pub format: Format,
    /// Where records wait while the brokers are away.
    pub durability: Durability,
    /// Compression of batches.
    pub compression: KafkaCompression,
    /// Milliseconds that a batch waits for more: 0 to 10,000.
    pub linger_ms: u32,
    /// Octets of a batch: 16 KiB to 16 MiB.
    pub batch_bytes: u32,
    /// Octets of a record, at most: 1 KiB to 100 MiB. Keep it at or below `max.message.bytes` of the
    /// topic; a larger record goes to the dead-letter file.
    pub record_bytes_max: u32,
    /// Octets of records that wait in memory for the brokers: 1 MiB to 2 GiB.
    pub queue_bytes: u64,
    /// Seconds without an acknowledgement after which the sink says why it is not ready: 1 to 3,600.
    pub timeout_s: u32,
    /// Create topics that are not there, as far as the brokers allow it.
    pub create_topics: bool,
    /// Partitions of topics that are created: 1 to 100,000.
    pub partitions: i32,
    /// Replicas of topics that are created: 1 to 1,000; -1: as the brokers have it.
    pub replication: i32,
    /// What becomes of records whose topic is not there and not created.
    pub unknown_topic: UnknownTopic,
    /// TLS; absent: none.
    pub tls: Option<KafkaTls>,
    /// Login; absent: none.
    pub sasl: Option<KafkaSasl>,
    /// Further settings of librdkafka, by its names.
    pub properties: BTreeMap<String, String>,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            name: "kafka".into(),
            brokers: Vec::new(),
            topic: "weir.{stream}".into(),
            select: Select::Slices,
            fields: Vec::new(),
            format: Format::Ndjson,
            durability: Durability::Disk,
            compression: KafkaCompression::Lz4,
            linger_ms: 20,
            batch_bytes: 1 << 20,
            record_bytes_max: 1_000_000,
            queue_bytes: 64 << 20,
            timeout_s: 10,
            create_topics: false,
            partitions: 12,
            replication: -1,
            unknown_topic: UnknownTopic::Wait,
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
            add: BTreeMap::new(),
        }
    }
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// LZ4.
    #[default]
    Lz4,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// None.
    None,
}

impl KafkaCompression {
    /// The word in the configuration, which is librdkafka's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::None => "none",
        }
    }
}

/// What becomes of records whose topic is not there.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTopic {
    /// They wait in the spool, and the sink is not ready, until somebody creates the topic.
    #[default]
    Wait,
    /// They go to the dead-letter file, and the next are tried.
    DeadLetter,
}

/// `[output.kafka.tls]`: TLS to the brokers, verified.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificates (PEM) that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM), where the brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// The key's password.
    pub key_password: Option<Secret>,
    /// Whether the brokers' certificates and names are verified. Without, anybody may be the broker.
    pub verify: bool,
}

impl Default for KafkaTls {
    fn default() -> Self {
        Self {
            ca_file: None,
            certificate_file: None,
            key_file: None,
            key_password: None,
            verify: true,
        }
    }
}

/// `[output.kafka.sasl]`: a login.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSasl {
    /// How.
    pub mechanism: KafkaMechanism,
    /// User of PLAIN and SCRAM.
    pub username: String,
    /// Password of PLAIN and SCRAM.
    pub password: Option<Secret>,
    /// Token of OAUTHBEARER, a JWT. It is read again before it expires, so keep it fresh there.
    pub token: Option<Secret>,
}

/// Mechanisms of SASL.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaMechanism {
    /// RFC 4616. Only over TLS is the password safe.
    Plain,
    /// RFC 7677.
    #[default]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// RFC 7628.
    Oauthbearer,
}

impl KafkaMechanism {
    /// The name of the mechanism.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Oauthbearer => "OAUTHBEARER",
        }
    }
}

/// How a client of Kafka comes in: what sinks and detectors have in common.
#[derive(Clone, Copy, Debug)]
pub struct KafkaAccess<'a> {
    /// Brokers to ask first.
    pub brokers: &'a [String],
    /// TLS.
    pub tls: Option<&'a KafkaTls>,
    /// Login.
    pub sasl: Option<&'a KafkaSasl>,
    /// Further settings of librdkafka.
    pub properties: &'a BTreeMap<String, String>,
}

impl KafkaAccess<'_> {
    /// Reports what is wrong; `key` puts the table before a key's name.
    pub(in crate::config) fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        if cfg!(not(feature = "kafka")) {
            report.add(&key("brokers"), "this build has no feature `kafka`".into());
        }
        if self.brokers.is_empty() {
            report.add(&key("brokers"), "names no broker; expected `HOST:PORT`".into());
        }
        for broker in self.brokers {
            let port = broker.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) || broker.contains([',', ' ', '/']) {
                report.add(&key("brokers"), format!("`{broker}` is no `HOST:PORT`"));
            }
        }
        if let Some(tls) = self.tls
            && tls.certificate_file.is_some() != tls.key_file.is_some()
        {
            let message = "a certificate and its key go together";
            report.add(&key("tls.certificate_file"), message.into());
        }
        if let Some(sasl) = self.sasl {
            let oauth = sasl.mechanism == KafkaMechanism::Oauthbearer;
            if oauth && sasl.token.is_none() {
                report.add(&key("sasl.token"), "OAUTHBEARER needs a token".into());
            }
            if !oauth && (sasl.username.is_empty() || sasl.password.is_none()) {
                let message = format!("{} needs a user and a password", sasl.mechanism.as_str());
                report.add(&key("sasl.username"), message);
            }
        }
        for name in self.properties.keys() {
            let ours = OWN.contains(&name.as_str())
                || ["ssl.", "sasl.", "security."].iter().any(|prefix| name.starts_with(prefix));
            if ours {
                let message = "has a key of its own, or is what the guarantees rest on";
                report.add(&key(&format!("properties.\"{name}\"")), message.into());
            }
        }
    }
}

impl<'a> KafkaAccess<'a> {
    /// Its secrets, each with its key in the table.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &'a Secret)> {
        let tls = self.tls.and_then(|tls| tls.key_password.as_ref());
        let password = self.sasl.and_then(|sasl| sasl.password.as_ref());
        let token = self.sasl.and_then(|sasl| sasl.token.as_ref());
        let all = [("tls.key_password", tls), ("sasl.password", password), ("sasl.token", token)];
        all.into_iter().filter_map(|(key, secret)| Some((key, secret?))).collect()
    }
}

impl KafkaAccess<'_> {
    /// Reports that topics are to be created where they cannot be.
    pub(in crate::config) fn check_creation(
        &self,
        creates: bool,
        key: &dyn Fn(&str) -> String,
        report: &mut Report,
    ) {
        let oauth = |sasl: &KafkaSasl| sasl.mechanism == KafkaMechanism::Oauthbearer;
        if creates && self.sasl.is_some_and(oauth) {
            let message = "does not go with OAUTHBEARER: create the topics beforehand";
            report.add(&key("create_topics"), message.into());
        }
    }
}

impl KafkaTls {
    /// Calls `absolute` with every path in it.
    pub(in crate::config) fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        let files = [&mut self.ca_file, &mut self.certificate_file, &mut self.key_file];
        files.into_iter().flatten().for_each(&mut *absolute);
        self.key_password.iter_mut().for_each(|secret| secret.paths(absolute));
    }
}

impl KafkaSasl {
    /// Calls `absolute` with every path in it.
    pub(in crate::config) fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        let secrets = self.password.iter_mut().chain(&mut self.token);
        secrets.for_each(|secret| secret.paths(absolute));
    }
}

impl Kafka {
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
}

/// Reports what is wrong with the template of a topic's name.
pub(in crate::config) fn check_topic(key: &str, topic: &str, report: &mut Report) {
    let mut rest = topic;
    while let Some((before, after)) = rest.split_once('{') {
        check_letters(key, before, report);
        let Some((name, after)) = after.split_once('}') else {
            return report.add(key, "has a brace that is not closed".into());
        };
        if !TOPIC_NAMES.contains(&name) {
            report.add(key, format!("`{{{name}}}` is none of {}", TOPIC_NAMES.join(", ")));
        }
        rest = after;
    }
    check_letters(key, rest, report);
    if topic.is_empty() {
        report.add(key, "must not be empty".into());
    }
}

fn check_letters(key: &str, text: &str, report: &mut Report) {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || "._-".contains(*c));
    if let Some(odd) = text.chars().find(odd) {
        report
            .add(key, format!("`{odd}` is no letter of a topic; expected a-z, 0-9, `.`, `_`, `-`"));
    }
}

impl Table for Kafka {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(self.durability) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        self.access().check(key, report);
        check_topic(&key("topic"), &self.topic, report);
        if let Some((name, message)) = self.format.fault(self, Place::Messages) {
            report.add(&key(name), message);
        }
        report.within(&key("linger_ms"), self.linger_ms, 0..=10_000);
        report.within(&key("batch_bytes"), self.batch_bytes, 16 << 10..=16 << 20);
        report.within(&key("record_bytes_max"), self.record_bytes_max, 1 << 10..=100 << 20);
        report.within(&key("queue_bytes"), self.queue_bytes, 1 << 20..=2 << 30);
        report.within(&key("timeout_s"), self.timeout_s, 1..=3_600);
        report.within(&key("partitions"), self.partitions, 1..=100_000);
        self.access().check_creation(self.create_topics, key, report);
        if self.replication != -1 {
            report.within(&key("replication"), self.replication, 1..=1_000);
        }
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.tls.iter_mut().for_each(|tls| tls.paths(absolute));
        self.sasl.iter_mut().for_each(|sasl| sasl.paths(absolute));
    }

    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        self.access().secrets()
    }
}
