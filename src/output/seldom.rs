//! What would be said again and again, said seldom: a warning of one kind once a minute, with a count of
//! those that were left out in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two messages of one kind, at least.
const PERIOD: Duration = Duration::from_secs(60);

/// When which kind of message was told last, and how many were left out since.
#[derive(Debug)]
pub(super) struct Seldom<K>(BTreeMap<K, (Instant, u64)>);

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Seldom<K> {
    /// Whether a message of `kind` is told at `now`, and then how many of its kind were left out since
    /// the last one; else it is left out, and counted.
    pub(super) fn ask(&mut self, kind: K, now: Instant) -> Option<u64> {
        let mut first = false;
        let (told, left_out) = self.0.entry(kind).or_insert_with(|| {
            first = true;
            (now, 0)
        });
        if first {
            return Some(0);
        }
        if now.duration_since(*told) < PERIOD {
            *left_out += 1;
            return None;
        }
        *told = now;
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_once_a_minute_with_what_was_left_out() {
        let (start, mut seldom) = (Instant::now(), Seldom::default());
        let mut ask = |kind, seconds| seldom.ask(kind, start + Duration::from_secs(seconds));
        for (kind, at, want) in [
            ("tls", 0, Some(0)),
            ("tls", 1, None),
            ("login", 2, Some(0)),
            ("tls", 59, None),
            ("tls", 60, Some(2)),
            ("tls", 61, None),
            ("login", 200, Some(0)),
            ("tls", 300, Some(1)),
            ("tls", 301, None),
        ] {
            assert_eq!(ask(kind, at), want, "{kind} at {at}");
        }
    }
}
