//! How long a reader's input buffer has been how full.

use std::time::{Duration, Instant};

use crate::metrics::Slot;

/// The kernel is asked no more often than this.
const EVERY: Duration = Duration::from_millis(5);
/// What weight a look has: one of so many, so that only what lasts counts, some 80 ms at least. A
/// burst that the buffer is there for makes nothing give way.
const LOOKS: u64 = 16;
/// The resolution of the average.
const WHOLE: u64 = 1 << 16;

/// Of one reader.
#[derive(Debug, Default)]
pub struct Filling {
    looked: Option<Instant>,
    /// In parts of [`WHOLE`], times [`LOOKS`].
    sum: u64,
}

impl Filling {
    /// At `now`: asks `ask` how much waits of how much room, if it is time to, and tells `slot` the
    /// average.
    pub fn look(&mut self, now: Instant, slot: &Slot, ask: impl FnOnce() -> (u64, u64)) {
        let passed = self.looked.map_or(EVERY, |looked| now.duration_since(looked));
        if passed < EVERY {
            return;
        }
        self.looked = Some(now);
        let (filled, room) = ask();
        // A reader that slept had nothing to do meanwhile.
        let turns = (passed.as_micros() / EVERY.as_micros()).clamp(1, 64);
        let share = (filled * WHOLE).checked_div(room).unwrap_or(0).min(WHOLE);
        for _ in 0..turns {
            self.sum = self.sum - self.sum / LOOKS + share;
        }
        slot.set_filled(self.sum / LOOKS, WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Board, Overload};

    #[test]
    fn only_what_lasts_makes_anything_give_way() {
        let board = Board::new(["reader".to_owned()]);
        let mut filling = Filling::default();
        let start = Instant::now();
        let mut look = |ms: u64, filled: u64| {
            let now = start + Duration::from_millis(ms);
            filling.look(now, &board.slots()[0], || (filled, 100));
            board.overload()
        };
        assert_eq!(look(0, 100), Overload::None);
        // A burst of 30 ms, and what is asked in between does not count.
        (0..30).for_each(|ms| assert_eq!(look(ms, 100), Overload::None));
        (30..2_000).for_each(|ms| assert_eq!(look(ms, 40), Overload::None));
        let stages: Vec<Overload> = (2_000..2_300).map(|ms| look(ms, 100)).collect();
        let first = |stage| stages.iter().position(|&now| now == stage).expect("reached");
        assert!(first(Overload::Scoring) < first(Overload::Untagged));
        assert!((60..200).contains(&first(Overload::Untagged)), "{}", first(Overload::Untagged));
        assert_eq!(look(4_000, 0), Overload::None, "after a sleep it is forgotten");
    }
}
