//! How long a reader works: the time between its waits, without what is a worker's.

use std::time::{Duration, Instant};

use crate::metrics::Slot;

/// Of one reader.
#[derive(Debug, Default)]
pub struct Busy {
    /// Since when it works, and how long it had been elsewhere by then.
    since: Option<(Instant, Duration)>,
    worked: Duration,
}

impl Busy {
    /// It works from `now` on; `elsewhere` is [`Router::elsewhere`].
    ///
    /// [`Router::elsewhere`]: super::Router::elsewhere
    pub fn begin(&mut self, now: Instant, elsewhere: Duration) {
        self.since.get_or_insert((now, elsewhere));
    }

    /// It waits from `now` on.
    pub fn end(&mut self, now: Instant, elsewhere: Duration) {
        if let Some((since, before)) = self.since.take() {
            let others = elsewhere.saturating_sub(before);
            self.worked += now.duration_since(since).saturating_sub(others);
        }
    }

    /// Tells `slot` of the work since the last time.
    pub fn tell(&mut self, slot: &Slot) {
        let micros = u64::try_from(self.worked.as_micros()).unwrap_or(u64::MAX);
        self.worked -= Duration::from_micros(micros);
        slot.add_busy(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Board;

    #[test]
    fn neither_waits_nor_a_workers_time_are_a_readers_work() {
        let board = Board::new(["reader".to_owned()]);
        let start = Instant::now();
        let mut busy = Busy::default();
        // From, to, and how much of that was elsewhere, in nanoseconds.
        let mut elsewhere = Duration::ZERO;
        for (from, to, other) in [(0, 1_500, 0), (9_000, 19_500, 8_000), (20_000, 21_000, 5_000)] {
            let at = |nanos| start + Duration::from_nanos(nanos);
            busy.begin(at(from), elsewhere);
            elsewhere += Duration::from_nanos(other);
            busy.end(at(to), elsewhere);
            busy.end(at(to + 500), elsewhere);
            busy.tell(&board.slots()[0]);
        }
        assert_eq!(board.slots()[0].busy_us(), 4);
    }
}
