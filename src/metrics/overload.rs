//! What gives way when more comes in than the sensor can do.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How much gives way. The order is that of what is worth least: scores can be had from the flows
/// later, flows without a tag from the routers' other collector, and a datagram that the kernel
/// drops is lost whole, and counted.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overload {
    /// Nothing.
    #[default]
    None,
    /// The sequence model scores nothing; its windows go on.
    Scoring,
    /// And slices without a tag are not made: no sink and no window of the model gets them.
    Untagged,
}

/// Hundredths of an input buffer from which on each stage gives way,
const FROM: [u64; 2] = [50, 75];
/// and below which it comes back.
const BELOW: [u64; 2] = [25, 50];

impl Overload {
    /// The stage after this one, with `filled` of `room` octets of an input buffer waiting.
    #[must_use]
    pub fn next(self, filled: u64, room: u64) -> Self {
        let hundredths = filled.saturating_mul(100).checked_div(room).unwrap_or(0);
        if hundredths >= FROM[1] || self == Self::Untagged && hundredths >= BELOW[1] {
            Self::Untagged
        } else if hundredths >= FROM[0] || self > Self::None && hundredths >= BELOW[0] {
            Self::Scoring
        } else {
            Self::None
        }
    }

    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Scoring,
            _ => Self::Untagged,
        }
    }
}

/// Overload is said to be over when nothing gave way and nothing was dropped for so long.
const CALM: Duration = Duration::from_secs(10);

/// What was said of a reader's overload: stages come and go many times a second, words do not.
#[derive(Debug, Default)]
pub struct Said {
    /// The worst since it began.
    stage: Overload,
    /// Since when nothing gives way, and what had been dropped by then.
    calm: Option<(Instant, u64)>,
}

impl Said {
    /// What to say at `now` of `stage`, with so many `dropped` since the start: a stage that is worse
    /// than what was said, or [`Overload::None`] once it is over.
    pub fn next(&mut self, now: Instant, stage: Overload, dropped: u64) -> Option<Overload> {
        if stage > self.stage {
            *self = Self { stage, calm: None };
            return Some(stage);
        }
        if stage > Overload::None || self.stage == Overload::None {
            self.calm = None;
            return None;
        }
        let (since, before) = *self.calm.get_or_insert((now, dropped));
        if before != dropped {
            self.calm = Some((now, dropped));
        } else if now.duration_since(since) >= CALM {
            *self = Self::default();
            return Some(Overload::None);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Overload::{None, Scoring, Untagged};
    use super::*;

    #[test]
    fn what_is_said_of_overload_does_not_flap() {
        let start = Instant::now();
        let mut said = Said::default();
        for (second, stage, dropped, want) in [
            (0, None, 0, Option::None),
            (1, Scoring, 0, Some(Scoring)),
            (2, Untagged, 9, Some(Untagged)),
            // Down, up and down again.
            (3, Scoring, 9, Option::None),
            (3, None, 9, Option::None),
            (4, Untagged, 9, Option::None),
            (5, None, 9, Option::None),
            // Nothing gives way, but the kernel drops.
            (14, None, 10, Option::None),
            (16, None, 10, Option::None),
            (23, None, 10, Option::None),
            (24, None, 10, Some(None)),
            (40, None, 10, Option::None),
            (41, Scoring, 10, Some(Scoring)),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(said.next(now, stage, dropped), want, "at {second} s");
        }
    }

    #[test]
    fn scoring_gives_way_first_and_comes_back_last() {
        let mut now = None;
        for (filled, want) in [
            (0, None),
            (49, None),
            (50, Scoring),
            (25, Scoring),
            (24, None),
            (74, Scoring),
            (75, Untagged),
            (100, Untagged),
            (50, Untagged),
            (49, Scoring),
            (74, Scoring),
            (99, Untagged),
            (0, None),
        ] {
            now = now.next(filled, 100);
            assert_eq!(now, want, "at {filled}");
        }
        assert_eq!(Untagged.next(5, 0), None, "a buffer that is not known");
        assert_eq!(None.next(1 << 40, 1 << 40), Untagged);
    }
}
