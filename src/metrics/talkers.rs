//! Who talks most, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use serde::Serialize;

use crate::net::{Addr, fold_u64};

/// Addresses that are counted at a time, at most.
const COUNTED_MAX: usize = 1_024;

/// What an address sent and received over the slices of a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Talker {
    /// The address.
    pub address: Addr,
    /// IP octets of its flows, both directions; at most [`Talkers::error`] too few.
    pub octets: u64,
}

/// The heaviest addresses of a window, by octets.
///
/// Where more addresses come than are counted, the median is taken from every count and those
/// with nothing left go: an address is missed, or counted short, by at most [`Talkers::error`],
/// which is below `2 / 1,024` of all octets of the window. O(1) per call, amortised.
///
/// # Source
/// Anderson et al., "A High-Performance Algorithm for Identifying Frequent Items in Data
/// Streams", IMC 2017.
#[derive(Clone, Debug, Default)]
pub struct Talkers {
    counts: HashMap<Addr, u64, Spread>,
    error: u64,
    scratch: Vec<u64>,
}

impl Talkers {
    /// Counts `octets` for `address`.
    pub fn add(&mut self, address: Addr, octets: u64) {
        // An exporter may claim any count.
        let count = self.counts.entry(address).or_default();
        *count = count.saturating_add(octets);
        if self.counts.len() > COUNTED_MAX {
            self.thin();
        }
    }

    fn thin(&mut self) {
        self.scratch.clear();
        self.scratch.extend(self.counts.values());
        let middle = self.scratch.len() / 2;
        let (_, &mut median, _) = self.scratch.select_nth_unstable(middle);
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(median);
            *count > 0
        });
        self.error = self.error.saturating_add(median);
    }

    /// By how many octets a count may be too low.
    #[must_use]
    pub const fn error(&self) -> u64 {
        self.error
    }

    /// The `most` heaviest, heaviest first; a new window begins.
    pub fn take(&mut self, most: usize) -> Vec<Talker> {
        let talker = |(address, octets)| Talker { address, octets };
        let mut talkers: Vec<Talker> = self.counts.drain().map(talker).collect();
        self.error = 0;
        heaviest(&mut talkers, most);
        talkers
    }
}

/// Orders `talkers` and keeps the `most` heaviest.
fn heaviest(talkers: &mut Vec<Talker>, most: usize) {
    talkers.sort_unstable_by(|a, b| b.octets.cmp(&a.octets).then(a.address.cmp(&b.address)));
    talkers.truncate(most);
}

/// Hashes addresses, which nobody outside can aim: a full table only thins itself out.
#[derive(Clone, Copy, Debug, Default)]
struct Spread;

#[derive(Debug, Default)]
struct State(u64);

impl BuildHasher for Spread {
    type Hasher = State;

    fn build_hasher(&self) -> State {
        State::default()
    }
}

impl Hasher for State {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold_u64(self.0 ^ word, 0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_any_size_are_counted() {
        let mut talkers = Talkers::default();
        for _ in 0..3 {
            talkers.add(Addr::v4(1), u64::MAX);
        }
        for address in 2..=u32::try_from(3 * COUNTED_MAX).expect("small") {
            talkers.add(Addr::v4(address), u64::MAX - 1);
        }
        assert_eq!(talkers.error(), u64::MAX, "thinned more than once");
        assert!(talkers.take(1).len() <= 1);
    }

    #[test]
    fn the_heaviest_are_found_within_the_stated_error() {
        let mut talkers = Talkers::default();
        let mut truth: HashMap<Addr, u64> = HashMap::new();
        let mut state = 7_u64;
        for turn in 0..200_000_u32 {
            state = fold_u64(state, 0x2545_f491_4f6c_dd1d) ^ u64::from(turn);
            // Every tenth call is one of five heavy addresses, the others are spread over many.
            let heavy = turn.is_multiple_of(10);
            let address = if heavy { turn / 10 % 5 } else { 1_000 + (state as u32 >> 8) };
            let octets = if heavy { 10_000 } else { 40 + state % 1_000 };
            talkers.add(Addr::v4(address), octets);
            *truth.entry(Addr::v4(address)).or_default() += octets;
        }
        assert!(talkers.counts.len() <= COUNTED_MAX && truth.len() > 100 * COUNTED_MAX);
        let (total, error): (u64, u64) = (truth.values().sum(), talkers.error());
        assert!(error > 0 && error < total * 2 / COUNTED_MAX as u64, "{error} of {total}");
        let top = talkers.take(5);
        for talker in &top {
            let true_octets = truth[&talker.address];
            assert!(true_octets >= talker.octets && true_octets - talker.octets <= error);
        }
        let found: Vec<u32> = top.iter().filter_map(|t| t.address.to_v4()).collect();
        assert!(found.len() == 5 && found.iter().all(|&a| a < 5), "{found:?}");
        assert_eq!(talkers.take(5), [], "a new window begins");
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut talkers = Talkers::default();
        for (address, octets) in [(1, 5), (2, 9), (1, 6), (3, 1)] {
            talkers.add(Addr::v4(address), octets);
        }
        let of = |address, octets| Talker { address: Addr::v4(address), octets };
        assert_eq!(talkers.error(), 0);
        assert_eq!(talkers.take(2), [of(1, 11), of(2, 9)]);
    }
}
