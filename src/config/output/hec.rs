//! `[[output.hec]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::check_url;
use super::{
    Durability, FieldValue, Format, Http, Place, Report, Secret, Select, Table, Taking, Tls,
};

/// `[[output.hec]]`: a Splunk HTTP Event Collector.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hec {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// The collector: `https://splunk.example:8088`; the path is `/services/collector/event`.
    /// Required.
    pub url: String,
    /// Its token. Required.
    pub token: Option<Secret>,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// How it is written: `ndjson`, `detectflow`, `ecs` or `ocsf`.
    pub format: Format,
    /// Splunk's `index`; empty: the token's.
    pub index: String,
    /// Splunk's `source`.
    pub source: String,
    /// Splunk's `sourcetype`; `{stream}` is `slice` or `alert`.
    pub sourcetype: String,
    /// Seconds to wait for the indexers to acknowledge a batch, where the token has indexer
    /// acknowledgement: 1 to 3,600; 0: what the collector answers is enough.
    pub ack_timeout_s: u32,
    /// Where records wait: `disk` or `memory`.
    pub durability: Durability,
    /// Batches.
    pub http: Http,
    /// TLS.
    pub tls: Tls,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

impl Default for Hec {
    fn default() -> Self {
        Self {
            name: "hec".into(),
            url: String::new(),
            token: None,
            select: Select::Slices,
            fields: Vec::new(),
            format: Format::Ndjson,
            index: String::new(),
            source: "weir".into(),
            sourcetype: "weir:{stream}".into(),
            ack_timeout_s: 0,
            durability: Durability::Disk,
            http: Http::default(),
            tls: Tls::default(),
            add: BTreeMap::new(),
        }
    }
}

impl Table for Hec {
    fn kind(&self) -> &'static str {
        "hec"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(self.durability) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        check_url(&self.url, key, report);
        if self.token.is_none() {
            report.add(&key("token"), "must name the place of the collector's token".into());
        }
        if let Some((name, message)) = self.format.fault(self, Place::Json) {
            report.add(&key(name), message);
        }
        report.within(&key("ack_timeout_s"), self.ack_timeout_s, 0..=3_600);
        self.http.check(key, report);
        self.tls.check(key, report);
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.token.iter_mut().for_each(|secret| secret.paths(absolute));
        self.tls.paths(absolute);
    }

    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        super::set([("token", &self.token)])
    }

    fn tls(&self) -> Option<&Tls> {
        Some(&self.tls)
    }
}
