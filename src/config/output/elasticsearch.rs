//! `[[output.elasticsearch]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::check_url;
use super::{
    Durability, FieldValue, Format, Http, Place, Report, Secret, Select, Table, Taking, Tls,
};

/// Names that `index` may hold in braces.
const INDEX_NAMES: [&str; 5] = ["stream", "sensor", "yyyy", "mm", "dd"];

/// `[[output.elasticsearch]]`: Elasticsearch or OpenSearch, by `_bulk`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elasticsearch {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// The server: `https://elastic.example:9200`. Required.
    pub url: String,
    /// Index or data stream: a text with `{stream}` (`slice`, `alert`), `{sensor}`, and `{yyyy}`,
    /// `{mm}`, `{dd}` of the record's time (UTC). Documents are created with the record's identity
    /// as `_id`, so what is sent again is not there twice. A data stream needs `@timestamp`, which
    /// `ecs` has.
    pub index: String,
    /// Ingest pipeline; empty: the index's own.
    pub pipeline: String,
    /// User of basic authentication.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// An API key, as Elasticsearch encodes it, instead of user and password.
    pub api_key: Option<Secret>,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// How it is written: `ecs`, `ndjson`, `detectflow` or `ocsf`.
    pub format: Format,
    /// Where records wait: `disk` or `memory`.
    pub durability: Durability,
    /// Batches.
    pub http: Http,
    /// TLS.
    pub tls: Tls,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

impl Default for Elasticsearch {
    fn default() -> Self {
        Self {
            name: "elasticsearch".into(),
            url: String::new(),
            index: "weir-{stream}-{yyyy}.{mm}.{dd}".into(),
            pipeline: String::new(),
            username: String::new(),
            password: None,
            api_key: None,
            select: Select::Slices,
            fields: Vec::new(),
            format: Format::Ecs,
            durability: Durability::Disk,
            http: Http::default(),
            tls: Tls::default(),
            add: BTreeMap::new(),
        }
    }
}

impl Table for Elasticsearch {
    fn kind(&self) -> &'static str {
        "elasticsearch"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(self.durability) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        check_url(&self.url, key, report);
        self.check_index(key, report);
        if self.username.is_empty() != self.password.is_none() {
            report.add(&key("password"), "username and password go together".into());
        }
        if self.api_key.is_some() && !self.username.is_empty() {
            report.add(&key("api_key"), "is instead of username and password".into());
        }
        if let Some((name, message)) = self.format.fault(self, Place::Json) {
            report.add(&key(name), message);
        }
        self.http.check(key, report);
        self.tls.check(key, report);
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        let secrets = [&mut self.password, &mut self.api_key];
        secrets.into_iter().flatten().for_each(|secret| secret.paths(absolute));
        self.tls.paths(absolute);
    }

    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        super::set([("password", &self.password), ("api_key", &self.api_key)])
    }

    fn tls(&self) -> Option<&Tls> {
        Some(&self.tls)
    }
}

impl Elasticsearch {
    fn check_index(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        let mut plain = String::new();
        for (number, part) in self.index.split('{').enumerate() {
            let literal = match (number, part.split_once('}')) {
                (0, _) => part,
                (_, Some((name, rest))) if INDEX_NAMES.contains(&name) => rest,
                _ => {
                    let names = INDEX_NAMES.join(", ");
                    report.add(&key("index"), format!("`{{{part}` is none of {names} in braces"));
                    return;
                }
            };
            plain += literal;
        }
        let odd = |c: char| c.is_uppercase() || c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
        let begins = |c: char| "-_+.".contains(c);
        if self.index.is_empty() || plain.contains(odd) || self.index.starts_with(begins) {
            let message = "must be an index's name: lower case, none of \\ / * ? \" < > | , # : \
                           and blanks, not beginning with - _ + or .";
            report.add(&key("index"), message.into());
        }
    }
}
