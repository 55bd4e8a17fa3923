//! Which of many was used longest ago: exact, and free of cost where something is used.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Keys by last use. A use only writes a number into the caller's own entry; the heap holds what
/// that number was at some earlier time, and catches up when a victim is looked for. As a number
/// in the heap is never above the true one, the first that is found up to date is the oldest.
///
/// Each use is paid for at most once, so [`Lru::oldest`] costs O(log n), amortized.
#[derive(Debug)]
pub(super) struct Lru<K> {
    heap: BinaryHeap<Reverse<(u64, K)>>,
}

impl<K: Ord> Default for Lru<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Lru<K> {
    /// Takes `key` in, last used at `used`.
    pub(super) fn insert(&mut self, key: K, used: u64) {
        self.heap.push(Reverse((used, key)));
    }

    /// Takes out the key that was used longest ago; `used` says when a key was, or `None` if it
    /// is gone.
    pub(super) fn oldest(&mut self, used: impl Fn(&K) -> Option<u64>) -> Option<K> {
        while let Some(Reverse((known, key))) = self.heap.pop() {
            match used(&key) {
                Some(now) if now == known => return Some(key),
                Some(now) => self.heap.push(Reverse((now, key))),
                None => {}
            }
        }
        None
    }

    /// Drops keys that are gone or held twice, once they outnumber the `live` ones.
    pub(super) fn compact(&mut self, live: usize, used: impl Fn(&K) -> Option<u64>) {
        if self.heap.len() <= 2 * live + 64 {
            return;
        }
        let mut keys: Vec<K> = self.heap.drain().map(|Reverse((_, key))| key).collect();
        keys.sort_unstable();
        keys.dedup();
        let live = keys.into_iter().filter_map(|key| used(&key).map(|at| Reverse((at, key))));
        self.heap = live.collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain way: look through all.
        #[test]
        fn the_oldest_is_the_oldest(steps in prop::collection::vec((0_u8..4, 0_u8..12), 0..200)) {
            let mut lru = Lru::default();
            let mut uses = BTreeMap::<u8, u64>::new();
            for (at, (step, key)) in (1_u64..).zip(steps) {
                match step {
                    0 => {
                        if uses.insert(key, at).is_none() {
                            lru.insert(key, at);
                        }
                    }
                    1 => {
                        if let Some(used) = uses.get_mut(&key) {
                            *used = at;
                        }
                    }
                    2 => {
                        uses.remove(&key);
                    }
                    _ => {
                        let want = uses.iter().min_by_key(|&(_, used)| used).map(|(&key, _)| key);
                        prop_assert_eq!(lru.oldest(|key| uses.get(key).copied()), want);
                        want.map(|key| uses.remove(&key));
                    }
                }
                lru.compact(uses.len(), |key| uses.get(key).copied());
                prop_assert!(lru.heap.len() <= 2 * uses.len() + 64);
            }
        }
    }
}
