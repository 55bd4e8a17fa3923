//! Instants in microseconds, as bytes and records carry them. Nothing here reads a clock.

use serde::{Deserialize, Serialize};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a millisecond.
pub const MILLISECOND: i64 = 1_000;

/// An instant: microseconds since the Unix epoch, UTC, without leap seconds.
///
/// Signed, so that a capture that starts at 0 and a flow that began before it have a place.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// The earliest instant: the clock before anything was read.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);

    /// `seconds` since the epoch.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// `milliseconds` since the epoch.
    #[must_use]
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds.saturating_mul(MILLISECOND))
    }

    /// This instant moved by `micros`, saturating at both ends.
    #[must_use]
    pub const fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this instant; negative if `earlier` is later. Saturates.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The input clock of DESIGN 3.8: a running maximum that never runs backwards.
///
/// The reader of an input stamps every packet or datagram with it; that stamp, not a wall clock,
/// decides what expires.
#[derive(Clone, Copy, Debug)]
pub struct InputClock(Micros);

impl Default for InputClock {
    fn default() -> Self {
        Self(Micros::MIN)
    }
}

impl InputClock {
    /// Takes `arrival` in and returns the stamp: the latest arrival so far.
    pub fn stamp(&mut self, arrival: Micros) -> Micros {
        self.0 = self.0.max(arrival);
        self.0
    }

    /// The latest stamp, [`Micros::MIN`] before the first.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_clock_never_runs_backwards() {
        let mut clock = InputClock::default();
        let stamps: Vec<i64> = [5, 3, 9, 9, 1].iter().map(|&t| clock.stamp(Micros(t)).0).collect();
        assert_eq!(stamps, [5, 5, 9, 9, 9]);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Micros::MAX.plus(1), Micros::MAX);
        assert_eq!(Micros::MIN.since(Micros::MAX), i64::MIN);
        assert_eq!(Micros::from_secs(2).since(Micros::from_millis(500)), 1_500_000);
    }
}
