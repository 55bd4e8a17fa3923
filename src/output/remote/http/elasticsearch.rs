//! Elasticsearch and OpenSearch: documents by `_bulk`, each with the record's identity as `_id`.
//!
//! Documents are created, not indexed: one that is there already (409) was delivered before, so a
//! retry leaves one document, in indices and in data streams. Source: Elasticsearch reference, Bulk
//! API; OpenSearch documentation, Bulk API.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::client::{Answer, Head};
use super::{Http, HttpError, Judgement, Service};
use crate::config;
use crate::output::format::{Identity, Writer};
use crate::output::ndjson::string;
use crate::output::remote::secret::{self, SecretError};
use crate::output::schema::{Layout, Stream};
use crate::output::spool::{Target, UnitRecord};

/// A sink to the server of `sink`; `layout` has its fields, `sensor` is the sensor's name.
///
/// # Errors
/// [`HttpError`].
pub fn elasticsearch(
    sink: &config::Elasticsearch,
    layout: &Layout,
    sensor: &str,
) -> Result<Box<dyn Target>, HttpError> {
    let writer = Writer::new(sink.format, layout);
    let writer = writer.map_err(|error| HttpError::Client(error.to_string()))?;
    let service = Elasticsearch {
        sink: sink.clone(),
        index: Index::new(&sink.index, layout.stream(), sensor),
        identity: Identity::new(layout.stream()),
        writer,
    };
    Ok(Box::new(Http::new(service, &sink.http, &sink.tls)?))
}

struct Elasticsearch {
    sink: config::Elasticsearch,
    index: Index,
    identity: Identity,
    writer: Writer,
}

/// An index's name with places for a date.
struct Index {
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    /// Octets of `YYYY-MM-DD`, from and to.
    Date(usize, usize),
}

impl Index {
    fn new(template: &str, stream: Stream, sensor: &str) -> Self {
        let stream = if stream == Stream::Slices { "slice" } else { "alert" };
        let template = template.replace("{stream}", stream);
        // Names of sensors are free; those of indices are not.
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let sensor: String = sensor.chars().map(|c| if fits(c) { c } else { '-' }).collect();
        let mut rest = template.replace("{sensor}", &sensor.to_lowercase());
        let mut parts = Vec::new();
        let places = [("{yyyy}", 0, 4), ("{mm}", 5, 7), ("{dd}", 8, 10)];
        while let Some((at, (name, from, to))) = places
            .iter()
            .filter_map(|place| rest.find(place.0).map(|at| (at, place)))
            .min_by_key(|(at, _)| *at)
        {
            parts.push(Part::Text(rest[..at].to_owned()));
            parts.push(Part::Date(*from, *to));
            rest = rest[at + name.len()..].to_owned();
        }
        parts.push(Part::Text(rest));
        Self { parts }
    }

    fn write(&self, out: &mut Vec<u8>, date: &[u8]) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Date(from, to) => out.extend_from_slice(&date[*from..*to]),
            }
        }
    }
}

/// What `_bulk` says.
#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: serde_json::Value,
}

impl Outcome {
    /// `type: reason`, of the error and of its cause.
    fn told(&self) -> String {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            value => {
                let part = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", part("type"), part("reason"))
            }
        };
        let cause = &self.error["caused_by"];
        let cause = if cause.is_null() { String::new() } else { format!(" ({})", text(cause)) };
        format!("status {}, {}{cause}", self.status, text(&self.error))
    }
}

impl Service for Elasticsearch {
    fn item(&mut self, out: &mut Vec<u8>, record: &UnitRecord<'_>, _: bool) {
        let mut date = Vec::with_capacity(27);
        self.identity.write_time(&mut date, record);
        out.extend_from_slice(b"{\"create\":{\"_index\":\"");
        self.index.write(out, &date);
        out.extend_from_slice(b"\",\"_id\":\"");
        self.identity.write(out, record);
        out.push(b'"');
        if !self.sink.pipeline.is_empty() {
            out.extend_from_slice(b",\"pipeline\":");
            string(out, &self.sink.pipeline);
        }
        out.extend_from_slice(b"}}\n");
        self.writer.line(out, record);
    }

    fn head(&self) -> Result<Head, SecretError> {
        let mut headers = Vec::new();
        if let Some(key) = &self.sink.api_key {
            headers.push((
                "Authorization".to_owned(),
                format!("ApiKey {}", secret::reveal(key)?.expose()),
            ));
        } else if let Some(password) = &self.sink.password {
            let pair = format!("{}:{}", self.sink.username, secret::reveal(password)?.expose());
            let mut value = b"Basic ".to_vec();
            write!(value, "{}", BASE64_STANDARD.encode(pair)).expect("a buffer takes all");
            let value = String::from_utf8(value).expect("ASCII");
            headers.push(("Authorization".to_owned(), value));
        }
        let url = format!("{}/_bulk", self.sink.url.trim_end_matches('/'));
        Ok(Head { shown: url.clone(), url, content_type: "application/x-ndjson", headers })
    }

    fn judge(&mut self, answer: &Answer, records: usize) -> Judgement {
        let all = |reason, message| Judgement {
            dead: Vec::new(),
            again: (0..records).collect(),
            reason: Some((reason, message)),
        };
        let Ok(bulk) = serde_json::from_slice::<Bulk>(&answer.body) else {
            return all("answer", format!("{}: expected the answer of _bulk", answer.told()));
        };
        if !bulk.errors {
            return Judgement::default();
        }
        if bulk.items.len() != records {
            let found = bulk.items.len();
            return all("answer", format!("_bulk answered {found} items for {records} documents"));
        }
        let mut judgement = Judgement::default();
        for (place, Item { create: outcome }) in bulk.items.iter().enumerate() {
            match outcome.status {
                // Conflict: it was created before.
                200..300 | 409 => {}
                // Not the document's fault: the cluster is busy, or an operator has to see to it.
                401 | 403 | 404 | 408 | 429 | 500.. => {
                    judgement.again.push(place);
                    let reason = match outcome.status {
                        401 | 403 => "credentials",
                        404 => "missing",
                        408 | 429 | 503 => "busy",
                        _ => "server",
                    };
                    judgement.reason.get_or_insert_with(|| (reason, outcome.told()));
                }
                _ => judgement.dead.push((place, outcome.told())),
            }
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_its_records_date() {
        let check = |template: &str, want: &str| {
            let mut out = Vec::new();
            let index = Index::new(template, Stream::Alerts, "North 1");
            index.write(&mut out, b"2026-11-25T10:00:00.000000Z");
            assert_eq!(String::from_utf8(out).expect("text"), want);
        };
        check("weir-{stream}-{yyyy}.{mm}.{dd}", "weir-alert-2026.11.25");
        check("logs-weir.{stream}-{sensor}", "logs-weir.alert-north-1");
        check("{dd}{mm}x", "2511x");
    }
}
