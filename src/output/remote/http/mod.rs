//! Sinks over HTTP: Splunk's event collector, Elasticsearch and OpenSearch, webhooks.
//!
//! What they have in common is here: a unit is cut into requests, each is compressed and sent, and
//! the other side's answer is judged by the [`Service`]. What was acknowledged of a unit is
//! remembered, so that a retry sends the rest only. Requests are made by `reqwest` on a runtime of the
//! sink's own thread.

mod client;
mod elasticsearch;
mod hec;
mod progress;
mod webhook;

use std::time::Duration;

use self::client::{Answer, Client};
pub use self::elasticsearch::elasticsearch;
pub use self::hec::hec;
use self::progress::Progress;
pub use self::webhook::webhook;
use crate::output::spool::{Delivered, Failure, Stop, Target, Unit, UnitRecord};

/// Why a sink over HTTP cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] super::tls::TlsError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] super::secret::SecretError),
    /// The client, or the runtime it works on.
    #[error("cannot set an HTTP client up: {0}")]
    Client(String),
}

/// A kind of server: what a request holds, and what its answers mean.
trait Service: Send {
    /// Appends `record` to a request, the first of it if `first`.
    fn item(&mut self, out: &mut Vec<u8>, record: &UnitRecord<'_>, first: bool);
    /// Appends what a request ends with.
    fn end(&self, _: &mut Vec<u8>) {}
    /// Where requests go, and their headers. Secrets are read here, for every attempt.
    ///
    /// # Errors
    /// A secret that cannot be read.
    fn head(&self) -> Result<client::Head, super::secret::SecretError>;
    /// What an answer with a status of 200 to 299 says of the request's `records` records.
    fn judge(&mut self, answer: &Answer, records: usize) -> Judgement;
    /// What an answer with a status of 400 says: which record is at fault, by its place in the
    /// request, and why. `None`: no single one.
    fn culprit(&self, _: &Answer) -> Option<(usize, String)> {
        None
    }
    /// Whether an answer of 400 that names no record may be of one, so that halves are tried.
    fn halves(&self, _: &Answer) -> bool {
        true
    }
    /// Waits until what `answer` acknowledged is there for good, where the server says so later.
    ///
    /// # Errors
    /// If it does not come to be so.
    fn confirm(&mut self, _: &Client, _: &Answer, _: &Stop) -> Result<(), Failure> {
        Ok(())
    }
}

/// What became of the records of a request, by their places in it. What is in neither list is there.
#[derive(Debug, Default)]
struct Judgement {
    /// Refused for good, each with a reason.
    dead: Vec<(usize, String)>,
    /// Refused for now.
    again: Vec<usize>,
    /// Why, if any is refused for now: the label of the metric, and the server's words.
    reason: Option<(&'static str, String)>,
}

/// A sink over HTTP.
struct Http<S> {
    service: S,
    client: Client,
    records_max: usize,
    octets_max: usize,
    progress: Progress,
}

impl<S: Service> Http<S> {
    fn new(
        service: S,
        http: &crate::config::Http,
        tls: &crate::config::Tls,
    ) -> Result<Self, HttpError> {
        service.head()?;
        let client = Client::new(http, tls)?;
        let (records_max, octets_max) = (http.batch_records_max, http.batch_bytes_max);
        Ok(Self { service, client, records_max, octets_max, progress: Progress::default() })
    }

    /// As many of the first of `rows` as fit into one request, at least one, and how many they are.
    fn fill(&mut self, unit: &dyn Unit, rows: &[usize]) -> (Vec<u8>, usize) {
        let mut body = Vec::with_capacity(self.octets_max + self.octets_max / 8);
        let mut count = 0;
        for &row in &rows[..rows.len().min(self.records_max)] {
            let before = body.len();
            self.service.item(&mut body, &unit.record(row), count == 0);
            if count > 0 && body.len() > self.octets_max {
                body.truncate(before);
                break;
            }
            count += 1;
        }
        self.service.end(&mut body);
        (body, count)
    }

    /// Sends `body`, which holds the records at `rows`, or, where it is too large, their halves.
    fn send(
        &mut self,
        unit: &dyn Unit,
        body: Vec<u8>,
        rows: &[usize],
        stop: &Stop,
    ) -> Result<(), Failure> {
        let head = self.service.head();
        let head = head.map_err(|error| Failure::later("credentials", error.to_string()))?;
        let answer = self.client.post(&head, body, stop)?;
        self.progress.sent(answer.sent);
        match answer.status {
            200..300 => {
                let judgement = self.service.judge(&answer, rows.len());
                self.service.confirm(&self.client, &answer, stop)?;
                self.settle(rows, judgement, &answer)
            }
            400 => match self.service.culprit(&answer) {
                Some((place, reason)) if place < rows.len() => {
                    self.progress.dead(rows[place], reason);
                    Ok(())
                }
                _ if self.service.halves(&answer) => self.halve(unit, rows, stop, &answer),
                _ => Err(answer.refused()),
            },
            413 => self.halve(unit, rows, stop, &answer),
            _ => Err(answer.refused()),
        }
    }

    /// Sends each half of what was refused as a whole: what is refused alone is dead.
    fn halve(
        &mut self,
        unit: &dyn Unit,
        rows: &[usize],
        stop: &Stop,
        answer: &Answer,
    ) -> Result<(), Failure> {
        if let [row] = rows {
            self.progress.dead(*row, answer.told());
            return Ok(());
        }
        for half in rows.chunks(rows.len().div_ceil(2)) {
            let mut at = 0;
            while at < half.len() {
                let (body, count) = self.fill(unit, &half[at..]);
                self.send(unit, body, &half[at..at + count], stop)?;
                at += count;
            }
        }
        Ok(())
    }

    fn settle(&mut self, rows: &[usize], told: Judgement, answer: &Answer) -> Result<(), Failure> {
        let mut open = vec![false; rows.len()];
        told.again.iter().for_each(|&place| open[place] = true);
        for (place, reason) in told.dead {
            open[place] = true;
            self.progress.dead(rows[place], reason);
        }
        let there = rows.iter().zip(open).filter(|(_, open)| !open).map(|(&row, _)| row);
        self.progress.there(there);
        match told.reason {
            Some((reason, message)) if !told.again.is_empty() => {
                Err(Failure::Later { reason, message, after: answer.after })
            }
            _ => Ok(()),
        }
    }
}

impl<S: Service> Target for Http<S> {
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        let head = self.service.head();
        let head = head.map_err(|error| Failure::later("credentials", error.to_string()))?;
        self.client.probe(&head)
    }

    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        self.progress.begin(unit);
        // A culprit leaves the rest of its request open: so until none is.
        loop {
            let rows = self.progress.open();
            if rows.is_empty() {
                return Ok(self.progress.finish());
            }
            let mut at = 0;
            while at < rows.len() {
                let (body, count) = self.fill(unit, &rows[at..]);
                self.send(unit, body, &rows[at..at + count], stop)?;
                at += count;
            }
        }
    }
}

/// The pause that an answer's `Retry-After` asks for, in seconds or as a date; at most an hour.
fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    const MOST: Duration = Duration::from_secs(3_600);
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MOST));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let wait = u64::try_from(date.duration_since(now).as_secs()).unwrap_or(0);
    Some(Duration::from_secs(wait).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "2026-11-06T08:49:37Z".parse().expect("a time");
        let check = |value: &str, want: Option<u64>| {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("100000", Some(3_600));
        check("Fri, 06 Nov 2026 08:49:57 GMT", Some(20));
        check("Fri, 06 Nov 2026 08:49:07 GMT", Some(0));
        check("soon", None);
    }
}
