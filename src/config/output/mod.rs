//! `[output.*]`: where tagged slices and alerts go. One file a kind of sink.
//!
//! Every kind is a struct that is a [`Table`]: what all have in common is read through that, so
//! that checks, ledgers and wiring know each kind at one place only: [`Output::tables`].

mod elasticsearch;
mod files;
mod format;
mod hec;
mod http;
mod ipfix;
pub mod kafka;
mod s3;
mod secret;
mod syslog;
pub(super) mod tee;
mod tls;
mod webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use elasticsearch::Elasticsearch;
pub use files::Files;
pub use format::{Format, Place};
pub use hec::Hec;
pub use http::{Http, url_fault};
pub use ipfix::{Carrier, Ipfix};
pub use kafka::{
    Kafka, KafkaAccess, KafkaCompression, KafkaMechanism, KafkaSasl, KafkaTls, UnknownTopic,
};
pub use s3::{Compression, Encryption, S3};
pub use secret::Secret;
pub use syslog::{Syslog, Transport};
pub use tee::Tee;
pub use tls::Tls;
pub use webhook::{Body, Webhook};

use super::check::Report;
use super::custom::{self, FieldValue};

/// `[output]`: where tagged slices and alerts go.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// `[[output.files]]`: rotating files.
    pub files: Vec<Files>,
    /// `[[output.kafka]]`: records of Apache Kafka.
    pub kafka: Vec<Kafka>,
    /// `[[output.s3]]`: objects in Amazon S3 and its like.
    pub s3: Vec<S3>,
    /// `[[output.hec]]`: Splunk HTTP Event Collectors.
    pub hec: Vec<Hec>,
    /// `[[output.elasticsearch]]`: Elasticsearch and OpenSearch.
    pub elasticsearch: Vec<Elasticsearch>,
    /// `[[output.webhook]]`: other HTTP servers.
    pub webhook: Vec<Webhook>,
    /// `[[output.syslog]]`: syslog servers.
    pub syslog: Vec<Syslog>,
    /// `[[output.ipfix]]`: collectors of IPFIX.
    pub ipfix: Vec<Ipfix>,
    /// `[[output.tee]]`: collectors that get datagrams as they came. No sinks of records.
    pub tee: Vec<Tee>,
}

impl Output {
    /// The tables of all sinks, each with its key: `output.files[0]`.
    pub fn tables(&self) -> impl Iterator<Item = (String, &dyn Table)> {
        fn each<T: Table>(tables: &[T]) -> impl Iterator<Item = (String, &dyn Table)> {
            let keyed =
                |(index, table): (usize, &'_ T)| format!("output.{}[{index}]", table.kind());
            tables.iter().enumerate().map(move |at| (keyed(at), at.1 as &dyn Table))
        }
        each(&self.files)
            .chain(each(&self.kafka))
            .chain(each(&self.s3))
            .chain(each(&self.hec))
            .chain(each(&self.elasticsearch))
            .chain(each(&self.webhook))
            .chain(each(&self.syslog))
            .chain(each(&self.ipfix))
    }

    /// Calls `absolute` with every path in the tables.
    pub fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.files.iter_mut().for_each(|table| table.paths(absolute));
        self.kafka.iter_mut().for_each(|table| table.paths(absolute));
        self.s3.iter_mut().for_each(|table| table.paths(absolute));
        self.hec.iter_mut().for_each(|table| table.paths(absolute));
        self.elasticsearch.iter_mut().for_each(|table| table.paths(absolute));
        self.webhook.iter_mut().for_each(|table| table.paths(absolute));
        self.syslog.iter_mut().for_each(|table| table.paths(absolute));
        self.ipfix.iter_mut().for_each(|table| table.paths(absolute));
    }

    /// Whether a sink needs the spool's directory.
    #[must_use]
    pub fn spooled(&self) -> bool {
        self.tables().any(|(_, table)| table.taking().durability == Some(Durability::Disk))
    }

    pub(super) fn check(&self, spool: &Spool, report: &mut Report) {
        let names: Vec<_> = self.tables().collect();
        report.unique(names.iter().map(|(key, t)| (format!("{key}.name"), t.taking().name)));
        // Cursors, dead letters and files are named by their sink: two in one place would lose records.
        for (index, (key, table)) in names.iter().enumerate() {
            let name = table.taking().name;
            if name.len() > 200 {
                let message = "is longer than 200 octets: files are named by it".to_owned();
                report.add(&format!("{key}.name"), message);
            }
            let same = |other: &&str| *other != name && file_name(other) == file_name(name);
            if let Some(other) = names[..index].iter().map(|(_, t)| t.taking().name).find(same) {
                let message = format!(
                    "`{name}` would share the files of `{other}`: expected names that differ in \
                     letters, digits, `.`, `-` or `_`"
                );
                report.add(&format!("{key}.name"), message);
            }
        }
        for (index, table) in self.s3.iter().enumerate() {
            let place = table.place();
            if self.s3[..index].iter().any(|other| other.place() == place) {
                let message = "names the same objects as another sink: let it hold {sink}";
                report.add(&format!("output.s3[{index}].key"), message.into());
            }
        }
        for (key, table) in names {
            custom::check(&format!("{key}.add"), table.taking().add, report);
            table.check(&|name| format!("{key}.{name}"), report);
        }
        let behind = |files: &&Files| files.durability == Durability::Disk;
        for (index, files) in self.files.iter().enumerate().filter(|(_, files)| behind(files)) {
            let key = |name: &str| format!("output.files[{index}].{name}");
            files.keeps_two(spool.segment_bytes, "spool.segment_bytes", &key, report);
        }
    }
}

/// What the tables of all sinks have in common.
pub trait Table {
    /// The kind, as in `[[output.kind]]`.
    fn kind(&self) -> &'static str;
    /// What it takes, and how.
    fn taking(&self) -> Taking<'_>;
    /// Reports what is wrong with its own keys; `key` puts the table before a key's name.
    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report);
    /// Calls `absolute` with every path in it, so that relative ones can be completed.
    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf));
    /// Its secrets, each with its key in the table.
    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        Vec::new()
    }
    /// Its TLS, if it has a table `tls` of the usual form.
    fn tls(&self) -> Option<&Tls> {
        None
    }
}

/// Those of `secrets` that are configured.
fn set<'a, const N: usize>(
    secrets: [(&'static str, &'a Option<Secret>); N],
) -> Vec<(&'static str, &'a Secret)> {
    secrets.into_iter().filter_map(|(key, secret)| Some((key, secret.as_ref()?))).collect()
}

/// `text` as a part of a file name: what is not a letter, digit, `.`, `_` or `-` becomes `_`.
#[must_use]
pub fn file_name(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
}

/// What a sink takes, under which name.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// Its name in metrics, ledgers and cursors; unique over all kinds.
    pub name: &'a str,
    /// Which records.
    pub select: Select,
    /// Which of their fields; empty: all.
    pub fields: &'a [String],
    /// Fields of the operator's own, beside those of `[sensor.fields]`.
    pub add: &'a BTreeMap<String, FieldValue>,
    /// Where records wait for it; `None` for files with a queue of their own.
    pub durability: Option<Durability>,
}

/// Where records wait until a sink has acknowledged them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the spool: they outlive a crash.
    #[default]
    Disk,
    /// In memory, bounded by `spool.memory_records_max`: a crash loses them.
    Memory,
}

/// `[spool]`: the log on disk that all remote sinks read from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// Directory; made if absent.
    pub directory: PathBuf,
    /// Octets of all segments, at most: 4 times `segment_bytes` to 64 TiB.
    pub bytes_max: u64,
    /// Which records go when they do not fit.
    pub full: Full,
    /// Octets after which a segment is sealed: 64 KiB to 4 GiB.
    pub segment_bytes: u64,
    /// Seconds after which a segment is sealed: 1 to 86,400.
    pub segment_age_s: u32,
    /// Seconds without a record after which a segment is sealed: 1 to 86,400.
    pub segment_idle_s: u32,
    /// Milliseconds between two syncs to disk: 10 to 60,000. What a power loss may cost.
    pub sync_interval_ms: u32,
    /// Records that wait to be written to the spool, at most, and for each sink with
    /// `durability = "memory"`: 1,024 to 10,000,000. More are shed.
    pub memory_records_max: usize,
    /// Seconds that sinks have to deliver what is spooled when the sensor stops: 0 to 3,600.
    pub stop_s: u32,
    /// Seconds that segments are kept after every sink has read them, for `weir spool replay`: 0 to
    /// 2,592,000. They go at once where all segments have more than half of `bytes_max`.
    pub keep_s: u32,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: "/var/lib/weir/spool".into(),
            bytes_max: 16 << 30,
            full: Full::Oldest,
            segment_bytes: 32 << 20,
            segment_age_s: 60,
            segment_idle_s: 10,
            sync_interval_ms: 1_000,
            memory_records_max: 262_144,
            stop_s: 5,
            keep_s: 0,
        }
    }
}

impl Spool {
    pub(super) fn check(&self, report: &mut Report) {
        report.within("spool.segment_bytes", self.segment_bytes, 65_536..=4 << 30);
        report.within("spool.bytes_max", self.bytes_max, 262_144..=64 << 40);
        let key = "spool.segment_bytes";
        report.at_most(key, self.segment_bytes, "a quarter of spool.bytes_max", self.bytes_max / 4);
        report.within("spool.segment_age_s", self.segment_age_s, 1..=86_400);
        report.within("spool.segment_idle_s", self.segment_idle_s, 1..=86_400);
        report.within("spool.sync_interval_ms", self.sync_interval_ms, 10..=60_000);
        report.within("spool.memory_records_max", self.memory_records_max, 1_024..=10_000_000);
        report.within("spool.stop_s", self.stop_s, 0..=3_600);
        report.within("spool.keep_s", self.keep_s, 0..=2_592_000);
    }
}

/// Which records go when something is full.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Full {
    /// Those that wait for longest.
    #[default]
    Oldest,
    /// Those that come.
    Newest,
}

/// What a sink takes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// Every slice.
    #[default]
    Slices,
    /// Slices on which a rule fired.
    Tagged,
    /// Alerts.
    Alerts,
}

impl Select {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slices => "slices",
            Self::Tagged => "tagged",
            Self::Alerts => "alerts",
        }
    }
}
