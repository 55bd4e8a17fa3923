//! The active timeout of an exporter, learnt from its records.

use crate::time::SECOND;

/// Width of a bucket of durations.
const BUCKET_S: i64 = 5;
/// Buckets: durations from 5 s to an hour; the last takes all that is longer.
const BUCKETS: usize = 720;
/// Records in a bucket before it says something.
const ENOUGH: u32 = 8;
/// What an idle timeout must be above the active timeout, in microseconds: exporters send late.
const MARGIN_US: i64 = 10 * SECOND;

/// A histogram of the durations of records. Learning is a function of the records alone.
///
/// Records that ended by the active timeout (IE 136 = 2) tell it: the most frequent duration.
/// Where an exporter gives no end reason, it is the longest duration that comes again and again.
#[derive(Debug, Default)]
pub(super) struct ActiveTimeout {
    buckets: Vec<u32>,
    by_reason: bool,
    records: u32,
    learnt_us: i64,
}

impl ActiveTimeout {
    /// Takes in a record's duration, in microseconds, and its flow end reason.
    #[inline]
    pub(super) fn observe(&mut self, duration_us: i64, end_reason: Option<u8>) {
        let by_reason = end_reason == Some(2);
        if duration_us >= BUCKET_S * SECOND && (by_reason || !self.by_reason) {
            self.count(duration_us, by_reason);
        }
    }

    fn count(&mut self, duration_us: i64, by_reason: bool) {
        if by_reason && !self.by_reason {
            self.by_reason = true;
            self.buckets.clear();
        }
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
        }
        let bucket = usize::try_from(duration_us / (BUCKET_S * SECOND)).unwrap_or(BUCKETS);
        let bucket = bucket.min(BUCKETS - 1);
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.records += 1;
        if self.records >= 64 {
            self.records = 0;
            self.learn();
        } else if self.learnt_us == 0 && self.buckets[bucket] == ENOUGH {
            self.learn();
        }
    }

    /// The active timeout as observed, in microseconds: the upper edge of 5 s; 0 if unknown.
    pub(super) const fn learnt_us(&self) -> i64 {
        self.learnt_us
    }

    /// An idle timeout that fits, if the table's own of `idle_us` is too short; else 0.
    pub(super) const fn idle_us(&self, idle_us: i64) -> i64 {
        let fitting = self.learnt_us + MARGIN_US;
        if self.learnt_us > 0 && fitting > idle_us { fitting } else { 0 }
    }

    fn learn(&mut self) {
        let all: u64 = self.buckets.iter().map(|&n| u64::from(n)).sum();
        let bucket = if self.by_reason {
            let most = self.buckets.iter().copied().max().filter(|&most| most >= ENOUGH);
            most.and_then(|most| self.buckets.iter().position(|&n| n == most))
        } else {
            let enough = (all / 50).max(u64::from(ENOUGH));
            self.buckets.iter().rposition(|&n| u64::from(n) >= enough)
        };
        if let Some(bucket) = bucket {
            self.learnt_us = (bucket as i64 + 1) * BUCKET_S * SECOND;
        }
        // The past fades, so that a new configuration of the exporter is learnt too.
        if all > 4_096 {
            self.buckets.iter_mut().for_each(|n| *n /= 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds (duration in seconds, end reason, times); wants the timeout in seconds and the idle
    /// timeout where the table's own is 130 s.
    #[track_caller]
    fn check(name: &str, records: &[(i64, Option<u8>, u32)], want: (i64, i64)) {
        let mut timeout = ActiveTimeout::default();
        for &(duration_s, end_reason, times) in records {
            for _ in 0..times {
                timeout.observe(duration_s * SECOND, end_reason);
            }
        }
        let got = (timeout.learnt_us() / SECOND, timeout.idle_us(130 * SECOND) / SECOND);
        assert_eq!(got, want, "case: {name}");
    }

    #[test]
    fn active_timeouts_are_learnt() {
        check("nothing", &[], (0, 0));
        check("short flows", &[(1, None, 1_000), (4, Some(2), 99)], (0, 0));
        check("a few long ones", &[(300, Some(2), 7)], (0, 0));
        check("by reason", &[(300, Some(2), 8)], (305, 315));
        check("shorter than the table's", &[(60, Some(2), 8)], (65, 0));
        check("by the longest", &[(20, None, 500), (1_800, None, 50)], (1_805, 1_815));
        check("one freak", &[(60, None, 500), (3_000, None, 1)], (65, 0));
        let reason_wins = [(1_000, None, 100), (119, Some(2), 64)];
        check("a reason tells more", &reason_wins, (120, 0));
        check("very long", &[(90_000, Some(2), 8)], (3_600, 3_610));
        let changed = [(60, Some(2), 5_000), (1_800, Some(2), 20_000)];
        check("a new configuration", &changed, (1_805, 1_815));
    }
}
