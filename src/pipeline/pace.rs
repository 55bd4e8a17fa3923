//! When the reader looks into its sockets again: at once, after a short sleep, or when something
//! comes.

use std::time::{Duration, Instant};

/// What the reader does before its next look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// Looks at once.
    None,
    /// Sleeps so long, while datagrams gather.
    Sleep(Duration),
    /// Sleeps until a datagram comes.
    Wait,
}

/// Trades latency for larger batches, within a bound: each turn of the reader costs a wake-up and
/// some system calls, however many datagrams it finds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    coalesce: Duration,
    busy_poll: Duration,
    /// When the reader looked last.
    looked: Instant,
    /// When it found something last.
    found: Instant,
}

impl Pace {
    /// A datagram waits at most `coalesce` for others; the reader spins for `busy_poll` after the
    /// last one before it sleeps.
    #[must_use]
    pub fn new(coalesce_us: u32, busy_poll_us: u32, now: Instant) -> Self {
        let micros = |us: u32| Duration::from_micros(us.into());
        Self {
            coalesce: micros(coalesce_us),
            busy_poll: micros(busy_poll_us),
            looked: now,
            found: now,
        }
    }

    /// Notes that the reader looks now.
    pub const fn look(&mut self, now: Instant) {
        self.looked = now;
    }

    /// What to do after a look that found `count` datagrams, now that they are worked off. `more`:
    /// there may be others already.
    pub fn pause(&mut self, count: usize, more: bool, now: Instant) -> Pause {
        if count > 0 {
            self.found = now;
        }
        if more || now.duration_since(self.found) < self.busy_poll {
            return Pause::None;
        }
        if count == 0 {
            return Pause::Wait;
        }
        // What came after the last look waits since then at most.
        match self.coalesce.saturating_sub(now.duration_since(self.looked)) {
            Duration::ZERO if self.coalesce.is_zero() => Pause::Wait,
            Duration::ZERO => Pause::None,
            left => Pause::Sleep(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_waits_no_longer_than_the_bound() {
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let mut pace = Pace::new(250, 0, start);
        pace.look(at(0));
        let table = [
            ("more is there", 64, true, 90, Pause::None),
            (
                "some came, the rest of the bound is slept",
                3,
                false,
                90,
                Pause::Sleep(at(160) - start),
            ),
            ("working them off took the whole bound", 3, false, 250, Pause::None),
            ("nothing came", 0, false, 90, Pause::Wait),
        ];
        for (what, count, more, now, expected) in table {
            assert_eq!(pace.pause(count, more, at(now)), expected, "{what}");
        }
        assert_eq!(
            Pace::new(0, 0, start).pause(3, false, at(5)),
            Pause::Wait,
            "no bound, no sleep"
        );
    }

    #[test]
    fn a_busy_reader_spins_before_it_sleeps() {
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let mut pace = Pace::new(250, 1_000, start);
        pace.look(at(0));
        assert_eq!(pace.pause(1, false, at(10)), Pause::None);
        assert_eq!(pace.pause(0, false, at(1_009)), Pause::None);
        assert_eq!(pace.pause(0, false, at(1_010)), Pause::Wait);
    }
}
