//! When a flow began and ended, by the exporter's word.
//!
//! IEs 21/22 count milliseconds since boot in 32 bits, 150-157 are instants in four resolutions
//! (the two finest as NTP timestamps), 158/159 count back from the export time, 161/162 are
//! durations, 322-325 the time of an event.

use super::field::{Field, Values};
use crate::time::{Micros, SECOND};

/// Seconds from 1900 (NTP, RFC 5905) to 1970.
const NTP_TO_UNIX_S: u32 = 2_208_988_800;
/// Milliseconds after which a 32-bit uptime wraps: 49.7 days.
const UPTIME_WRAP_MS: i64 = 1 << 32;

/// What the message says about time.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageTime {
    /// When it arrived: the input clock's stamp.
    pub(super) arrival: Micros,
    /// When it was sent, by the exporter's clock.
    pub(super) export: Micros,
    /// Its uptime then; IPFIX has none.
    pub(super) uptime_ms: Option<u32>,
    /// When the exporter booted, if options data told (IE 160).
    pub(super) boot: Option<Micros>,
    /// How far from the arrival a time may be, in microseconds.
    pub(super) window_us: i64,
}

/// First and last packet of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FlowTimes {
    pub(super) first: Micros,
    /// Never before `first`.
    pub(super) last: Micros,
    /// Whether a time was outside the window, or the end before the start.
    pub(super) clamped: bool,
}

impl MessageTime {
    /// The times of one record. Where it carries none, both are the export time.
    pub(super) fn flow(&self, values: &Values<'_>) -> FlowTimes {
        let mut first = absolute(values, &STARTS);
        let mut last = absolute(values, &ENDS);
        if first.is_none() {
            first = values.number(Field::StartDelta).map(|us| self.before_export(us));
        }
        if last.is_none() {
            last = values.number(Field::EndDelta).map(|us| self.before_export(us));
        }
        if first.is_none() && last.is_none() {
            let ends = (Field::FirstUptime, Field::LastUptime);
            (first, last) = self.uptimes(values, values.number32(ends.0), values.number32(ends.1));
        }
        if first.is_none() && last.is_none() {
            last = absolute(values, &OBSERVED);
        }
        let millis = |ms: u64| ms.saturating_mul(1_000);
        let duration_us = values.number(Field::DurationMillis).map(millis);
        let duration_us = duration_us.or_else(|| values.number(Field::DurationMicros));
        let duration_us = duration_us.map_or(0, |us| i64::try_from(us).unwrap_or(i64::MAX));
        let times = match (first, last) {
            (Some(first), Some(last)) => (first, last),
            (Some(first), None) => (first, first.plus(duration_us)),
            (None, last) => {
                let last = last.unwrap_or(self.export);
                (last.plus(-duration_us), last)
            }
        };
        self.clamp(times.0, times.1)
    }

    /// The times of a v5 or v7 record, from its two uptimes.
    pub(super) fn flow_by_uptime(&self, first_ms: u32, last_ms: u32) -> FlowTimes {
        let now = self.uptime_ms.unwrap_or(0);
        self.clamp(self.since_boot(now, first_ms), self.since_boot(now, last_ms))
    }

    /// Puts both into the window around the arrival, in order.
    #[inline]
    pub(super) fn clamp(&self, first: Micros, last: Micros) -> FlowTimes {
        let (low, high) = (self.arrival.plus(-self.window_us), self.arrival.plus(self.window_us));
        let (in_first, in_last) = (first.clamp(low, high), last.clamp(low, high));
        let clamped = in_first != first || in_last != last || in_last < in_first;
        FlowTimes { first: in_first, last: in_last.max(in_first), clamped }
    }

    fn before_export(&self, micros: u64) -> Micros {
        self.export.plus(-i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn uptimes(
        &self,
        values: &Values<'_>,
        first_ms: Option<u32>,
        last_ms: Option<u32>,
    ) -> (Option<Micros>, Option<Micros>) {
        if let Some(now) = self.uptime_ms {
            let at = |ms| self.since_boot(now, ms);
            return (first_ms.map(at), last_ms.map(at));
        }
        let own = values.nonzero(Field::SystemInit).map(millis_since_epoch);
        if let Some(boot) = own.or(self.boot) {
            let at = |ms: u32| {
                // The exporter's uptime may have wrapped: take the turn nearest to the export.
                let near = boot.plus(i64::from(ms).saturating_mul(1_000));
                let turn = UPTIME_WRAP_MS * 1_000;
                let turns = self.export.since(near).saturating_add(turn / 2).div_euclid(turn);
                near.plus(turns.saturating_mul(turn))
            };
            return (first_ms.map(at), last_ms.map(at));
        }
        // Uptimes without a boot time: only their difference says something.
        match (first_ms, last_ms) {
            (Some(first), Some(last)) => {
                let duration_ms = i64::from(last.wrapping_sub(first).cast_signed().max(0));
                (Some(self.export.plus(-duration_ms * 1_000)), Some(self.export))
            }
            _ => (None, None),
        }
    }

    /// The instant of uptime `ms`, when the uptime is `now_ms` at the export. The difference is
    /// taken modulo the wrap; a flow may seem to end shortly after the export.
    fn since_boot(&self, now_ms: u32, ms: u32) -> Micros {
        self.export.plus(-i64::from(now_ms.wrapping_sub(ms).cast_signed()) * 1_000)
    }
}

type Instants = [(Field, fn(u64) -> Micros); 4];

/// Milliseconds first: they are what most exporters get right.
const STARTS: Instants = [
    (Field::StartMillis, millis_since_epoch),
    (Field::StartMicros, ntp_micros),
    (Field::StartNanos, ntp_nanos),
    (Field::StartSeconds, seconds_since_epoch),
];
const ENDS: Instants = [
    (Field::EndMillis, millis_since_epoch),
    (Field::EndMicros, ntp_micros),
    (Field::EndNanos, ntp_nanos),
    (Field::EndSeconds, seconds_since_epoch),
];
const OBSERVED: Instants = [
    (Field::ObservedMillis, millis_since_epoch),
    (Field::ObservedMicros, ntp_micros),
    (Field::ObservedNanos, ntp_nanos),
    (Field::ObservedSeconds, seconds_since_epoch),
];

/// The first of `instants` that is present; 0 stands for "not known" with many exporters.
fn absolute(values: &Values<'_>, instants: &Instants) -> Option<Micros> {
    instants.iter().find_map(|&(field, read)| values.nonzero(field).map(read))
}

fn seconds_since_epoch(seconds: u64) -> Micros {
    Micros::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Of IE 152, 153, 160, 323.
pub(super) fn millis_since_epoch(millis: u64) -> Micros {
    Micros::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// RFC 7011 §6.1.9: the eleven lowest bits of the fraction are not used.
fn ntp_micros(ntp: u64) -> Micros {
    ntp_nanos(ntp & !0x7ff)
}

/// RFC 7011 §6.1.10, rounded to microseconds. Eras are told apart by 1970 (until 2106).
fn ntp_nanos(ntp: u64) -> Micros {
    let seconds = ((ntp >> 32) as u32).wrapping_sub(NTP_TO_UNIX_S);
    let fraction = ntp & 0xffff_ffff;
    let micros = (fraction * SECOND as u64 + (1 << 31)) >> 32;
    Micros::from_secs(i64::from(seconds)).plus(micros as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT_S: i64 = 1_700_000_000;

    fn message() -> MessageTime {
        MessageTime {
            arrival: Micros::from_secs(EXPORT_S),
            export: Micros::from_secs(EXPORT_S),
            uptime_ms: None,
            boot: None,
            window_us: 86_400 * SECOND,
        }
    }

    /// Wants (first, last) in microseconds before the export time.
    #[track_caller]
    fn check(name: &str, message: MessageTime, fields: &[(Field, u64)], want: (i64, i64, bool)) {
        let octets: Vec<_> = fields.iter().map(|&(_, value)| value.to_be_bytes()).collect();
        let mut values = Values::default();
        for ((field, _), octets) in fields.iter().zip(&octets) {
            values.put(*field, octets);
        }
        let times = message.flow(&values);
        let before = |at: Micros| Micros::from_secs(EXPORT_S).since(at);
        assert_eq!((before(times.first), before(times.last), times.clamped), want, "case: {name}");
    }

    #[test]
    fn times_of_every_kind() {
        use Field::*;
        let s = EXPORT_S as u64;
        let ntp = |micros_before: u64| {
            let micros = s * 1_000_000 - micros_before;
            let seconds = micros / 1_000_000 + u64::from(NTP_TO_UNIX_S);
            ((seconds & 0xffff_ffff) << 32) | ((micros % 1_000_000) << 32).div_ceil(1_000_000)
        };
        let ms = [(StartMillis, s * 1_000 - 1_500), (EndMillis, s * 1_000 - 500)];
        check("milliseconds", message(), &ms, (1_500_000, 500_000, false));
        let seconds = [(StartSeconds, s - 9), (EndSeconds, s - 2)];
        check("seconds", message(), &seconds, (9_000_000, 2_000_000, false));
        let both = [(StartSeconds, s - 9), (StartMillis, s * 1_000 - 8_500), (EndSeconds, s)];
        check("the finer one", message(), &both, (8_500_000, 0, false));
        let fine = [(StartNanos, ntp(1_234_567)), (EndNanos, ntp(1))];
        check("NTP, nanoseconds", message(), &fine, (1_234_567, 1, false));
        let fine = [(StartMicros, ntp(2_000_000)), (EndMicros, ntp(1_000_000))];
        check("NTP, microseconds", message(), &fine, (2_000_000, 1_000_000, false));
        let delta = [(StartDelta, 5_000_001), (EndDelta, 7)];
        check("back from the export", message(), &delta, (5_000_001, 7, false));
        let length = [(StartMillis, s * 1_000 - 3_000), (DurationMillis, 2_000)];
        check("start and duration", message(), &length, (3_000_000, 1_000_000, false));
        let length = [(EndMillis, s * 1_000), (DurationMicros, 77)];
        check("end and duration", message(), &length, (77, 0, false));
        check("an event", message(), &[(ObservedMillis, s * 1_000 - 4)], (4_000, 4_000, false));
        check("none", message(), &[], (0, 0, false));
        check("zero is none", message(), &[(StartMillis, 0), (EndSeconds, 0)], (0, 0, false));
        let turned = [(StartMillis, s * 1_000 - 1), (EndMillis, s * 1_000 - 3)];
        check("end before start", message(), &turned, (1_000, 1_000, true));
        let day = 86_400_000_000;
        check("1970", message(), &[(StartSeconds, 9), (EndSeconds, 99)], (day, day, true));
        let ahead = [(StartSeconds, s + 200_000), (EndSeconds, s + 200_001)];
        check("years ahead", message(), &ahead, (-day, -day, true));
    }

    #[test]
    fn uptimes() {
        use Field::*;
        let v9 = |uptime_ms| MessageTime { uptime_ms: Some(uptime_ms), ..message() };
        let at = [(FirstUptime, 1_000), (LastUptime, 4_000)];
        check("since boot", v9(5_000), &at, (4_000_000, 1_000_000, false));
        let at = [(FirstUptime, u64::from(u32::MAX) - 999), (LastUptime, 500)];
        check("over the wrap of 49.7 days", v9(1_000), &at, (2_000_000, 500_000, false));
        let at = [(FirstUptime, 900), (LastUptime, 1_010)];
        check("a little ahead of the header", v9(1_000), &at, (100_000, -10_000, false));
        let boot = Micros::from_secs(EXPORT_S - 100);
        let told = MessageTime { boot: Some(boot), ..message() };
        let at = [(FirstUptime, 40_000), (LastUptime, 100_000)];
        check("boot time from options", told, &at, (60_000_000, 0, false));
        let own =
            [(SystemInit, (EXPORT_S as u64 - 50) * 1_000), (FirstUptime, 0), (LastUptime, 50_000)];
        check("the record's own boot time", told, &own, (50_000_000, 0, false));
        let old = Micros::from_secs(EXPORT_S).plus(-(UPTIME_WRAP_MS + 9_000) * 1_000);
        let told = MessageTime { boot: Some(old), ..message() };
        let at = [(FirstUptime, 1_000), (LastUptime, 9_000)];
        check("booted 49.7 days ago and more", told, &at, (8_000_000, 0, false));
        check("no boot time", message(), &at, (8_000_000, 0, false));
    }
}
