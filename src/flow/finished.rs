//! Flows that a [`super::fold::Fold`] has completed: a slice of theirs that comes again is known.

use std::collections::{HashMap, VecDeque};

use super::view::FlowId;

/// The slices that were read of completed flows. Of more flows than it has room for, those completed
/// first are forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Finished {
    flows: HashMap<FlowId, Numbers>,
    /// In the order in which they were completed first.
    order: VecDeque<FlowId>,
}

impl Finished {
    /// Whether the slice was read.
    pub(super) fn has(&self, id: FlowId, number: u32) -> bool {
        self.flows.get(&id).is_some_and(|numbers| numbers.have(number))
    }

    /// Takes note of the slices `numbers` of a flow, in rising order; it remembers `max` flows.
    pub(super) fn add(&mut self, id: FlowId, numbers: impl Iterator<Item = u32>, max: usize) {
        let known = self.flows.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Numbers::default()
        });
        known.add(numbers);
        while self.flows.len() > max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.flows.remove(&oldest);
        }
    }
}

/// Slice numbers. Nearly always all from one to another, which takes no memory of its own.
#[derive(Clone, Debug, Default)]
struct Numbers {
    /// The first, and the one behind the last.
    run: (u32, u32),
    /// Others, sorted.
    others: Vec<u32>,
}

impl Numbers {
    fn have(&self, number: u32) -> bool {
        (self.run.0..self.run.1).contains(&number) || self.others.binary_search(&number).is_ok()
    }

    fn add(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            if self.run.0 == self.run.1 {
                self.run = (number, number.saturating_add(1));
            } else if number == self.run.1 {
                self.run.1 += 1;
            } else if !self.have(number) {
                let at = self.others.partition_point(|&other| other < number);
                self.others.insert(at, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_was_added_of_the_newest_flows(
            flows in prop::collection::vec((0..6_u128, prop::collection::btree_set(0..9_u32, 1..6)), 0..12),
            max in 1..5_usize,
        ) {
            let mut finished = Finished::default();
            let mut plain: Vec<(u128, Vec<u32>)> = Vec::new();
            for (id, numbers) in flows {
                finished.add(FlowId(id), numbers.iter().copied(), max);
                match plain.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, known)) => known.extend(numbers),
                    None => plain.push((id, numbers.into_iter().collect())),
                }
                if plain.len() > max {
                    plain.remove(0);
                }
                for (id, number) in (0..6).flat_map(|id| (0..9).map(move |number| (id, number))) {
                    let want = plain.iter().any(|(k, n)| *k == id && n.contains(&number));
                    prop_assert_eq!(finished.has(FlowId(id), number), want, "{} {}", id, number);
                }
            }
        }
    }
}
