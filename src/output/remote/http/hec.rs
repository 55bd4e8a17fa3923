//! Splunk's HTTP Event Collector: events as JSON objects one after the other.
//!
//! An answer of 200 says that the collector has the batch; with indexer acknowledgement the batch is
//! delivered when the indexers say so. Source: Splunk documentation, "HTTP Event Collector", its
//! REST endpoints, status codes and "About HTTP Event Collector Indexer Acknowledgment".

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::client::{Answer, Client, Head};
use super::{Http, HttpError, Judgement, Service};
use crate::config;
use crate::output::format::{Identity, Writer};
use crate::output::ndjson::string;
use crate::output::remote::secret::{self, SecretError};
use crate::output::schema::{Layout, Stream};
use crate::output::spool::{Failure, Stop, Target, UnitRecord};

/// Between two questions whether a batch is indexed.
const ASK: Duration = Duration::from_millis(500);

/// A sink to the collector of `sink`; `layout` has its fields, `sensor` is the sensor's name.
///
/// # Errors
/// [`HttpError`].
pub fn hec(
    sink: &config::Hec,
    layout: &Layout,
    sensor: &str,
) -> Result<Box<dyn Target>, HttpError> {
    let writer = Writer::new(sink.format, layout);
    let writer = writer.map_err(|error| HttpError::Client(error.to_string()))?;
    let service = Hec {
        sink: sink.clone(),
        head: head(sink, layout.stream(), sensor),
        identity: Identity::new(layout.stream()),
        writer,
        channel: channel()?,
    };
    Ok(Box::new(Http::new(service, &sink.http, &sink.tls)?))
}

struct Hec {
    sink: config::Hec,
    /// What stands before the time in every event.
    head: Vec<u8>,
    identity: Identity,
    writer: Writer,
    /// Names this sender to the indexers, where they acknowledge.
    channel: String,
}

/// `{"host":...,"source":...,"sourcetype":...,"index":...,"time":`
fn head(sink: &config::Hec, stream: Stream, sensor: &str) -> Vec<u8> {
    let stream = if stream == Stream::Slices { "slice" } else { "alert" };
    let sourcetype = sink.sourcetype.replace("{stream}", stream);
    let mut head = b"{".to_vec();
    let members = [
        ("host", sensor),
        ("source", &sink.source),
        ("sourcetype", &sourcetype),
        ("index", &sink.index),
    ];
    for (key, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
        string(&mut head, key);
        head.push(b':');
        string(&mut head, value);
        head.push(b',');
    }
    head.extend_from_slice(b"\"time\":");
    head
}

/// A random UUID (RFC 9562, version 4).
fn channel() -> Result<String, HttpError> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| HttpError::Client(format!("/dev/urandom: {error}")))?;
    let bits = u128::from_be_bytes(bytes) & !(0xf000 << 64 | 0xc000 << 48);
    let hex = format!("{:032x}", bits | 0x4000 << 64 | 0x8000 << 48);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}

/// What the collector answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    code: i64,
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

impl Hec {
    fn of(&self, path: &str) -> Result<Head, SecretError> {
        let token = self.sink.token.as_ref().map(secret::reveal).transpose()?;
        let token = token.as_ref().map_or("", |token| token.expose());
        let mut headers = vec![("Authorization".to_owned(), format!("Splunk {token}"))];
        if self.sink.ack_timeout_s > 0 {
            headers.push(("X-Splunk-Request-Channel".to_owned(), self.channel.clone()));
        }
        let url = format!("{}{path}", self.sink.url.trim_end_matches('/'));
        let shown = url.split('?').next().unwrap_or_default().to_owned();
        Ok(Head { url, shown, content_type: "application/json", headers })
    }
}

impl Service for Hec {
    fn item(&mut self, out: &mut Vec<u8>, record: &UnitRecord<'_>, _: bool) {
        out.extend_from_slice(&self.head);
        self.identity.write_seconds(out, record);
        out.extend_from_slice(b",\"event\":");
        self.writer.record(out, record);
        out.extend_from_slice(b"}\n");
    }

    fn head(&self) -> Result<Head, SecretError> {
        self.of("/services/collector/event")
    }

    fn judge(&mut self, answer: &Answer, records: usize) -> Judgement {
        match serde_json::from_slice::<Said>(&answer.body) {
            Ok(Said { code: 0, .. }) => Judgement::default(),
            _ => Judgement {
                dead: Vec::new(),
                again: (0..records).collect(),
                reason: Some(("answer", format!("{}: expected code 0", answer.told()))),
            },
        }
    }

    /// Codes 6, 12, 13 and 15 are of one event, whose number the collector says.
    fn culprit(&self, answer: &Answer) -> Option<(usize, String)> {
        let said: Said = serde_json::from_slice(&answer.body).ok()?;
        let place = said.invalid.filter(|_| matches!(said.code, 6 | 12 | 13 | 15))?;
        Some((place, answer.told()))
    }

    /// Codes 7, 10, 11 and 14 (index, channel, acknowledgement) are of the configuration, here or
    /// there: no event is at fault.
    fn halves(&self, answer: &Answer) -> bool {
        let said = serde_json::from_slice::<Said>(&answer.body);
        !said.is_ok_and(|said| matches!(said.code, 7 | 10 | 11 | 14))
    }

    fn confirm(&mut self, client: &Client, answer: &Answer, stop: &Stop) -> Result<(), Failure> {
        if self.sink.ack_timeout_s == 0 {
            return Ok(());
        }
        let said = serde_json::from_slice::<Said>(&answer.body).ok().and_then(|said| said.ack_id);
        let Some(id) = said else {
            let message = format!(
                "{}: expected an ackId, as ack_timeout_s is not 0: the token has no indexer \
                 acknowledgement",
                answer.told()
            );
            return Err(Failure::later("answer", message));
        };
        let head = self.of(&format!("/services/collector/ack?channel={}", self.channel));
        let head = head.map_err(|error| Failure::later("credentials", error.to_string()))?;
        let until = Instant::now() + Duration::from_secs(self.sink.ack_timeout_s.into());
        loop {
            let question = json!({ "acks": [id] }).to_string().into_bytes();
            let answer = client.post(&head, question, stop)?;
            if answer.status != 200 {
                return Err(answer.refused());
            }
            let acks: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
            if acks["acks"][id.to_string()] == true {
                return Ok(());
            }
            if Instant::now() >= until {
                let message = format!("the indexers have not acknowledged batch {id} in time");
                return Err(Failure::later("unacknowledged", message));
            }
            if stop.over() {
                return Err(Failure::Stopped);
            }
            std::thread::sleep(ASK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_random_uuid() {
        let (one, two) = (channel().expect("random"), channel().expect("random"));
        assert_ne!(one, two);
        let form = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
        let form = regex::Regex::new(form);
        for channel in [one, two] {
            assert!(form.as_ref().expect("a pattern").is_match(&channel), "{channel}");
        }
    }
}
