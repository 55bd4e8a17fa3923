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
