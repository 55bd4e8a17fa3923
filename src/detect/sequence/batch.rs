//! Many slices at once: while one is taken, the memory that the next ones need is on its way.

use super::Shard;

/// Slices between the look for a pair's place, the fetch of its newest events, and the taking: long
/// enough for memory to answer.
const AHEAD: usize = 8;

/// Calls `take` for each of `count` slices, in their order. `of` says which shard has the pair of a
/// slice, and the pair's hash. What comes of it is what calling `take` alone gives.
pub fn take_all<C>(
    context: &mut C,
    count: usize,
    of: impl Fn(&C, usize) -> (&Shard, u64),
    mut take: impl FnMut(&mut C, usize),
) {
    const RING: usize = 2 * AHEAD;
    let mut places = [None; RING];
    for step in 0..count + RING {
        if let Some(at) = step.checked_sub(RING) {
            take(context, at);
        }
        if let Some(at) = step.checked_sub(AHEAD).filter(|&at| at < count)
            && let Some(place) = places[at % RING]
        {
            of(context, at).0.pairs.fetch_events(place);
        }
        if step < count {
            let (shard, hash) = of(context, step);
            places[step % RING] = shard.pairs.fetch(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Alert;
    use crate::detect::sequence::sample::{connection, settings};
    use crate::detect::sequence::{Probabilities, Scorer, Verdict, Windows};
    use crate::flow::Slice;
    use crate::metrics::ledger;
    use crate::net::{Addr, pair_hash, shard_of};
    use crate::time::{Micros, SECOND};

    /// Finds more in longer windows.
    struct ByLength;

    impl Scorer for ByLength {
        fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
            let per_window = windows.stats.len() / windows.len().max(1);
            for stats in windows.stats.chunks(per_window.max(1)) {
                let hostile = (stats[0] / 4.0).min(0.9);
                out.push([1.0 - hostile, hostile, 0.0, 0.0, 0.0, 0.0]);
            }
            true
        }
    }

    type Outcome = (Vec<Option<Verdict>>, Vec<Alert>, Vec<ledger::Sequences>);

    /// Everything that comes of slices taken so many at once, or by themselves.
    fn taken(slices: &[(u64, Slice)], at_once: Option<usize>) -> Outcome {
        let settings = settings(10.0);
        // Few enough places that pairs make room for others while they are fetched.
        let mut shards: Vec<Shard> = (0..64).map(|at| Shard::new(3, 8, SECOND, at)).collect();
        let (mut verdicts, mut alerts) = (Vec::<Option<Verdict>>::new(), Vec::<Alert>::new());
        let mut take = |shards: &mut Vec<Shard>, (hash, slice): &(u64, Slice)| {
            let (shard, now) = (&mut shards[shard_of(*hash)], slice.flow.last);
            shard.advance(now, &settings, &mut ByLength, &mut usize::MAX.clone(), &mut alerts);
            verdicts.push(shard.slice(slice, *hash, now, &settings));
        };
        match at_once {
            None => slices.iter().for_each(|slice| take(&mut shards, slice)),
            Some(at_once) => {
                for batch in slices.chunks(at_once) {
                    let of = |at: usize| (shard_of(batch[at].0), batch[at].0);
                    take_all(
                        &mut shards,
                        batch.len(),
                        |shards, at| (&shards[of(at).0], of(at).1),
                        |shards, at| take(shards, &batch[at]),
                    );
                }
            }
        }
        let ledgers: Vec<ledger::Sequences> = shards.iter().map(Shard::ledger).collect();
        (verdicts, alerts, ledgers)
    }

    #[test]
    fn slices_taken_in_batches_are_as_one_by_one() {
        let slice = |n: u32| {
            let first = Micros::from_secs(1_700_000_000 + i64::from(n / 20));
            let mut slice = connection(first, 1_024 + (n % 60_000) as u16, 443);
            slice.flow.src = Addr::v4(0x0a00_0000 + (n.wrapping_mul(2_654_435_761) >> 24));
            (pair_hash(0, slice.flow.src, slice.flow.dst), slice)
        };
        let slices: Vec<(u64, Slice)> = (0..4_000).map(slice).collect();
        let want = taken(&slices, None);
        let evicted: u64 = want.2.iter().map(|told| told.pairs_evicted).sum();
        assert!(want.1.len() > 20 && evicted > 100, "{} alerts, {evicted}", want.1.len());
        for at_once in [1, 7, 16, 64, 1_000] {
            assert!(taken(&slices, Some(at_once)) == want, "{at_once} at once");
        }
    }
}
