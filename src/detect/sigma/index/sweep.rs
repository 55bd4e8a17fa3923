//! From overlapping intervals to disjoint segments, each with the list of what covers it.

use super::lists::{ListBuilder, ListId};

/// Segments that an interval may be cut into in one layer. Wider ones go to the next layer, where
/// only they cut each other, so that nested intervals cannot multiply.
const CUTS_MAX: usize = 16;
/// Layers of a table, at most.
const LAYERS_MAX: usize = 4;

/// A number that intervals are made of.
pub(super) trait Point: Copy + Ord {
    /// The next; `None` after the last.
    fn after(self) -> Option<Self>;
}

impl Point for u32 {
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Point for u128 {
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// An interval, both ends included, and the entry that is filed under it.
pub(super) type Filed<P> = (P, P, u32);

/// Where a segment begins, and its list; it ends where the next begins.
pub(super) type Segment<P> = (P, ListId);

/// Segments in layers: a value is looked up in each. Intervals that would be cut too often even in
/// the last layer are handed back as the entries that they file.
pub(super) fn layers<P: Point>(
    mut intervals: Vec<Filed<P>>,
    lists: &mut ListBuilder,
) -> (Vec<Vec<Segment<P>>>, Vec<u32>) {
    let mut layers = Vec::new();
    while !intervals.is_empty() {
        let (kept, wide) = split(intervals);
        layers.push(segments(kept, lists));
        intervals = wide;
        if layers.len() == LAYERS_MAX {
            break;
        }
    }
    let mut rest: Vec<u32> = intervals.into_iter().map(|(_, _, entry)| entry).collect();
    rest.sort_unstable();
    rest.dedup();
    (layers, rest)
}

/// The places where an interval begins (`true`) or has ended, ascending, each with the interval.
fn events<P: Point>(intervals: &[Filed<P>]) -> Vec<(P, bool, u32)> {
    let number = |i: usize| u32::try_from(i).expect("fewer than 2^32 intervals");
    let begins = intervals.iter().enumerate().map(|(i, f)| (f.0, true, number(i)));
    let ends = intervals.iter().enumerate();
    let ends = ends.filter_map(|(i, f)| Some((f.1.after()?, false, number(i))));
    let mut events: Vec<(P, bool, u32)> = begins.collect();
    events.extend(ends);
    // Sets are sorted already, so this merges runs.
    events.sort_by_key(|&(at, begins, _)| (at, begins));
    events
}

/// The intervals that are cut at most [`CUTS_MAX`] times, and the others.
fn split<P: Point>(intervals: Vec<Filed<P>>) -> (Vec<Filed<P>>, Vec<Filed<P>>) {
    let mut begun = vec![0_usize; intervals.len()];
    let mut wide = vec![false; intervals.len()];
    let (mut segment, mut last) = (0, None);
    for (at, begins, i) in events(&intervals) {
        if last != Some(at) {
            (segment, last) = (segment + 1, Some(at));
        }
        let i = i as usize;
        if begins {
            begun[i] = segment;
        } else {
            wide[i] = segment - begun[i] > CUTS_MAX;
        }
    }
    // Those that reach the end of the domain never end.
    for (i, (_, end, _)) in intervals.iter().enumerate() {
        if end.after().is_none() {
            wide[i] = segment + 1 - begun[i] > CUTS_MAX;
        }
    }
    if !wide.contains(&true) {
        return (intervals, Vec::new());
    }
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for (interval, wide) in intervals.into_iter().zip(wide) {
        if wide { others.push(interval) } else { kept.push(interval) }
    }
    (kept, others)
}

fn segments<P: Point>(intervals: Vec<Filed<P>>, lists: &mut ListBuilder) -> Vec<Segment<P>> {
    let events = events(&intervals);
    let mut segments: Vec<Segment<P>> = Vec::with_capacity(events.len());
    // The entries that cover the place, sorted, each as often as its intervals do.
    let mut active: Vec<u32> = Vec::new();
    let mut i = 0;
    while let Some(&(at, ..)) = events.get(i) {
        while let Some(&(_, begins, interval)) = events.get(i).filter(|event| event.0 == at) {
            let entry = intervals[interval as usize].2;
            let place = active.partition_point(|&other| other < entry);
            if begins {
                active.insert(place, entry);
            } else {
                active.remove(place);
            }
            i += 1;
        }
        let list = lists.list(&active);
        if segments.last().is_none_or(|(_, last)| *last != list) {
            segments.push((at, list));
        }
    }
    segments.shrink_to_fit();
    segments
}
