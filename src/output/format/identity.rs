//! What a sink has to know of a record beside its text: what names it, and when it was.

use super::known::{Known, Places};
use super::made::put_time;
use crate::output::ndjson::{integer, seconds};
use crate::output::schema::{Record, Stream};

/// Writes the identity and the time of records of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    stream: Stream,
    places: Places,
}

impl Identity {
    /// For records of `stream`.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, places: Places::of(stream) }
    }

    /// Appends what names `record`, the same whenever it is sent: of a slice its flow's id and its
    /// number (`...-0`), of an alert its id. Letters of `a` to `f`, digits and `-`.
    pub fn write<R: Record>(&self, out: &mut Vec<u8>, record: &R) {
        self.known(record).write_id(out);
    }

    /// Appends the record's time as RFC 3339, 27 octets: the start of a slice, when an alert was
    /// raised.
    pub fn write_time<R: Record>(&self, out: &mut Vec<u8>, record: &R) {
        put_time(out, self.time(record));
    }

    /// Appends the record's time in seconds since the epoch, to the microsecond.
    pub fn write_seconds<R: Record>(&self, out: &mut Vec<u8>, record: &R) {
        seconds(out, self.time(record));
    }

    /// The record's time in microseconds since the epoch.
    #[must_use]
    pub fn time<R: Record>(&self, record: &R) -> i64 {
        self.known(record).int(self.places.time).unwrap_or(0)
    }

    /// Severity of syslog (RFC 5424 §6.2.1) of the strongest rule that fired: 2 critical, 3 high,
    /// 4 medium, 5 low, 6 informational or none.
    #[must_use]
    pub fn severity<R: Record>(&self, record: &R) -> u8 {
        let known = self.known(record);
        let of = |level: &str| match level {
            "critical" => 2,
            "high" => 3,
            "low" => 5,
            "informational" => 6,
            _ => 4,
        };
        let tags = if known.tagged() { known.tags() } else { Vec::new() };
        tags.iter().map(|tag| of(&tag.level)).min().unwrap_or(6)
    }

    /// Appends the number of the record's schema.
    pub fn write_version<R: Record>(&self, out: &mut Vec<u8>, record: &R) {
        integer(out, self.known(record).int(self.places.schema).unwrap_or(0));
    }

    fn known<'a, R: Record>(&'a self, record: &'a R) -> Known<'a> {
        Known { record, at: &self.places, stream: self.stream }
    }
}
