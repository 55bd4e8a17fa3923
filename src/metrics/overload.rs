//! What gives way when more comes in than the sensor can do.

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

#[cfg(test)]
mod tests {
    use super::Overload::{None, Scoring, Untagged};

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
