//! `[[output.webhook]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::check_url;
use super::{
    Durability, FieldValue, Format, Http, Place, Report, Secret, Select, Table, Taking, Tls,
};

/// Headers that say where a request goes and how long it is.
const FRAMING: [&str; 6] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];

/// `[[output.webhook]]`: requests to any HTTP server that takes JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// Where requests go (POST). Required, unless `url_secret` has it.
    pub url: String,
    /// The place of a URL that is itself a secret, as Slack's are.
    pub url_secret: Option<Secret>,
    /// What a request holds.
    pub body: Body,
    /// With `body = "template"`: the request's body, one request for each record. Names of fields
    /// in braces (`{rule.title}`) become their values, escaped for the inside of a JSON string;
    /// `{{` and `}}` are braces.
    pub template: String,
    /// Value of the header `Authorization`, as `Bearer TOKEN`.
    pub authorization: Option<Secret>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// How it is written: `ndjson`, `detectflow`, `ecs` or `ocsf`; not with a template.
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

/// What a request to a webhook holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// An array of records (`application/json`).
    #[default]
    Array,
    /// A record a line (`application/x-ndjson`).
    Ndjson,
    /// What `template` says, of one record (`application/json`).
    Template,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            name: "webhook".into(),
            url: String::new(),
            url_secret: None,
            body: Body::Array,
            template: String::new(),
            authorization: None,
            headers: BTreeMap::new(),
            select: Select::Alerts,
            fields: Vec::new(),
            format: Format::Ndjson,
            durability: Durability::Disk,
            http: Http { gzip: false, ..Http::default() },
            tls: Tls::default(),
            add: BTreeMap::new(),
        }
    }
}

impl Table for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(self.durability) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        if self.url_secret.is_none() {
            check_url(&self.url, key, report);
        } else if !self.url.is_empty() {
            report.add(&key("url"), "is instead of url_secret".into());
        }
        if (self.body == Body::Template) == self.template.is_empty() {
            report.add(&key("template"), "goes with body = \"template\"".into());
        }
        for (name, value) in &self.headers {
            let token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                report.add(&key("headers"), format!("`{name}` is no name of a header"));
            }
            if FRAMING.contains(&&*name.to_ascii_lowercase()) {
                report.add(&key("headers"), format!("`{name}` is the request's own: leave it out"));
            }
            if value.chars().any(char::is_control) {
                report
                    .add(&key("headers"), format!("the value of `{name}` has a control character"));
            }
        }
        if let Some((name, message)) = self.format.fault(self, Place::Json) {
            report.add(&key(name), message);
        }
        self.http.check(key, report);
        self.tls.check(key, report);
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        let secrets = [&mut self.url_secret, &mut self.authorization];
        secrets.into_iter().flatten().for_each(|secret| secret.paths(absolute));
        self.tls.paths(absolute);
    }

    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        super::set([("url_secret", &self.url_secret), ("authorization", &self.authorization)])
    }

    fn tls(&self) -> Option<&Tls> {
        Some(&self.tls)
    }
}
