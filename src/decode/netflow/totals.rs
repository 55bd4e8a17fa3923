//! Total counters (IE 85, 86) to differences.

use std::collections::HashMap;

use crate::net::Addr;

/// A flow at one exporter, as far as a total counter belongs to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct FlowKey {
    pub(super) domain: u32,
    pub(super) addresses: (Addr, Addr),
    pub(super) ports: (u16, u16),
    pub(super) protocol: u8,
    pub(super) direction: u8,
    pub(super) interfaces: (u32, u32),
    /// IE 148, 0 where there is none.
    pub(super) number: u64,
}

/// Octets and packets, forward and backward.
pub(super) type Counted = [u64; 4];

/// The last totals of the flows of one exporter: at most `max`, in two generations, of which the
/// older is dropped as a whole when the younger is half of it. O(1) each.
///
/// The first total of a flow counts in full: it covers the time from the flow's first packet to
/// its last, as the record says. So it does again after the flow fell out of a full table;
/// [`Totals::forgotten`] counts the entries that did.
#[derive(Debug, Default)]
pub(super) struct Totals {
    young: HashMap<FlowKey, Counted>,
    old: HashMap<FlowKey, Counted>,
    forgotten: u64,
}

impl Totals {
    /// What `total` adds to what was counted of the flow before. A total that fell is a new
    /// flow's. `ended`: this was the last of it.
    pub(super) fn difference(
        &mut self,
        key: FlowKey,
        total: Counted,
        ended: bool,
        max: usize,
    ) -> Counted {
        let before = self.young.remove(&key).or_else(|| self.old.remove(&key));
        if !ended {
            if self.young.len() >= (max / 2).max(1) {
                self.forgotten += self.old.len() as u64;
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, total);
        }
        match before {
            Some(before) if before.iter().zip(&total).all(|(b, t)| b <= t) => {
                std::array::from_fn(|i| total[i] - before[i])
            }
            _ => total,
        }
    }

    /// Entries that were dropped for want of room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> FlowKey {
        FlowKey {
            domain: 1,
            addresses: (Addr::v4(1), Addr::v4(2)),
            ports: (3, 4),
            protocol: 6,
            direction: 0,
            interfaces: (5, 6),
            number,
        }
    }

    #[test]
    fn totals_become_differences() {
        let mut totals = Totals::default();
        let mut add = |number, total, ended| totals.difference(key(number), total, ended, 8);
        assert_eq!(add(1, [100, 1, 0, 0], false), [100, 1, 0, 0], "the first counts in full");
        assert_eq!(add(1, [150, 3, 7, 1], false), [50, 2, 7, 1]);
        assert_eq!(add(2, [10, 1, 0, 0], false), [10, 1, 0, 0], "another flow");
        assert_eq!(add(1, [150, 3, 7, 1], false), [0; 4]);
        assert_eq!(add(1, [160, 4, 7, 1], true), [10, 1, 0, 0], "its end");
        assert_eq!(add(1, [50, 1, 0, 0], false), [50, 1, 0, 0], "the next on the same key");
        assert_eq!(add(1, [20, 1, 0, 0], false), [20, 1, 0, 0], "a total that fell");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut totals = Totals::default();
        for number in 0..10_000 {
            totals.difference(key(number), [1; 4], false, 100);
            assert!(totals.young.len() + totals.old.len() <= 100);
        }
        assert_eq!(totals.difference(key(9_999), [5; 4], false, 100), [4; 4], "the young stay");
        assert!(totals.forgotten() >= 9_800);
    }
}
