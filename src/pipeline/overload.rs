//! How long a reader's input buffer has been how full.

use std::time::{Duration, Instant};

use crate::metrics::{Overload, Said, Slot};

/// The kernel is asked no more often than this.
const EVERY: Duration = Duration::from_millis(5);
/// What weight a look has: one of so many, so that only what lasts counts, some 80 ms at least. A
/// burst that the buffer is there for makes nothing give way.
const LOOKS: u64 = 16;
/// The resolution of the average.
const WHOLE: u64 = 1 << 16;

/// What a reader tells of its input buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input {
    /// How much waits, of how much room, in any unit; no room: it is not known.
    pub filled: (u64, u64),
    /// What the kernel dropped since the start.
    pub dropped: u64,
    /// Whether there is a model that scores.
    pub scores: bool,
}

/// Of one reader.
#[derive(Debug, Default)]
pub struct Filling {
    looked: Option<Instant>,
    /// In parts of [`WHOLE`], times [`LOOKS`].
    sum: u64,
    said: Said,
}

impl Filling {
    /// At `now`: asks `ask` for the input buffer, if it is time to, and tells `slot` the average, and
    /// people what lasts.
    pub fn look(&mut self, now: Instant, slot: &Slot, ask: impl FnOnce() -> Input) {
        let passed = self.looked.map_or(EVERY, |looked| now.duration_since(looked));
        if passed < EVERY {
            return;
        }
        self.looked = Some(now);
        let Input { filled: (filled, room), dropped, scores } = ask();
        let share = (filled * WHOLE).checked_div(room).unwrap_or(0).min(WHOLE);
        // A reader that slept had nothing to do meanwhile, so what is less full than the average was so
        // all along. One that stood still beside a full buffer tells of this moment only.
        let is_less = share * LOOKS < self.sum;
        let turns = if is_less { (passed.as_micros() / EVERY.as_micros()).clamp(1, 64) } else { 1 };
        for _ in 0..turns {
            self.sum = self.sum - self.sum / LOOKS + share;
        }
        let stage = slot.set_filled(self.sum / LOOKS, WHOLE);
        let reader = slot.name();
        match self.said.next(now, stage, dropped) {
            None => {}
            Some(Overload::None) => {
                tracing::info!(reader, "the input is worked off in time again");
            }
            Some(Overload::Scoring) if scores => {
                tracing::warn!(reader, "overload: the sequence model scores nothing");
            }
            Some(Overload::Scoring) => {
                tracing::warn!(reader, "overload: half of the input's buffer waits");
            }
            Some(Overload::Untagged) => {
                tracing::warn!(reader, "overload: slices without a tag are not made");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Board;

    fn of(filled: u64) -> Input {
        Input { filled: (filled, 100), ..Input::default() }
    }

    #[test]
    fn only_what_lasts_makes_anything_give_way() {
        let board = Board::new(["reader".to_owned()]);
        let mut filling = Filling::default();
        let start = Instant::now();
        let mut look = |ms: u64, filled: u64| {
            let now = start + Duration::from_millis(ms);
            filling.look(now, &board.slots()[0], || of(filled));
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

    /// What waited when a reader goes on after a pause, of 5 ms to a second, is no more than one look.
    #[test]
    fn a_pause_beside_a_full_buffer_is_one_look() {
        for pause in [5, 80, 300, 1_000] {
            let board = Board::new(["reader".to_owned()]);
            let mut filling = Filling::default();
            let start = Instant::now();
            let mut look = |ms: u64, filled: u64| {
                let now = start + Duration::from_millis(ms);
                filling.look(now, &board.slots()[0], || of(filled));
                board.overload()
            };
            (0..1_000).step_by(5).for_each(|ms| assert_eq!(look(ms, 0), Overload::None));
            assert_eq!(look(1_000 + pause, 100), Overload::None, "after {pause} ms");
            // The buffer is empty again before it lasted.
            assert_eq!(look(1_030 + pause, 0), Overload::None, "after {pause} ms");
            let lasting = (1..60).map(|n| look(1_030 + pause + n * 5, 100));
            assert_eq!(lasting.max(), Some(Overload::Untagged), "what lasts does count");
        }
    }
}
