//! From a field's value to the lists that are filed under it.

use super::lists::{ListBuilder, ListId, Lists};
use super::paged::Paged;
use super::prefetch::prefetch;
use super::probe::Reader;
use super::sweep::{Filed, Segment, layers};
use crate::detect::sigma::fields::Field;
use crate::net::Addr;

/// Domains up to this size are looked up directly.
const DIRECT_MAX: u128 = 0xffff;
/// Tables with fewer segments stay in the caches by themselves.
const CACHED_MAX: usize = 4_096;

/// Lookup by a field other than the two addresses.
#[derive(Debug)]
pub(super) struct FieldTable {
    pub reader: Reader,
    layers: Vec<FieldLayer>,
}

#[derive(Debug)]
enum FieldLayer {
    /// A list for each value.
    Direct(Paged<ListId>),
    /// Where segments begin, ascending.
    Sorted(Vec<Segment<u128>>),
}

impl FieldTable {
    /// The table, and the entries that it cannot hold.
    pub fn new(
        field: Field,
        intervals: Vec<Filed<u128>>,
        lists: &mut ListBuilder,
    ) -> (Self, Vec<u32>) {
        let (layers, rest) = layers(intervals, lists);
        let max = field.max();
        let layer = |segments: Vec<Segment<u128>>| {
            if max > DIRECT_MAX { FieldLayer::Sorted(segments) } else { direct(&segments, max) }
        };
        (Self { reader: Reader::of(field), layers: layers.into_iter().map(layer).collect() }, rest)
    }

    /// Whether nothing is filed in it.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Calls `f` with each list under `value`.
    #[inline]
    pub fn look_up(&self, value: u128, mut f: impl FnMut(ListId)) {
        for layer in &self.layers {
            let list = match layer {
                FieldLayer::Direct(lists) => lists.get(value).unwrap_or(0),
                FieldLayer::Sorted(segments) => at(segments, value),
            };
            if list != 0 {
                f(list);
            }
        }
    }
}

fn direct(segments: &[Segment<u128>], max: u128) -> FieldLayer {
    let size = usize::try_from(max).expect("a small domain") + 1;
    let mut lists = vec![0; size];
    let place = |v: u128| usize::try_from(v).expect("in the domain").min(size);
    for (i, &(begin, list)) in segments.iter().enumerate() {
        let end = segments.get(i + 1).map_or(size, |next| place(next.0));
        lists[place(begin)..end].fill(list);
    }
    FieldLayer::Direct(Paged::new(lists))
}

/// The list of the segment that `value` is in.
fn at<P: Copy + Ord>(segments: &[Segment<P>], value: P) -> ListId {
    match segments.partition_point(|&(begin, _)| begin <= value) {
        0 => 0,
        after => segments[after - 1].1,
    }
}

/// Lookup by the addresses of initiator and responder, in one table: a feed that names both ends
/// stands in it once. Of a list the first part is for initiators, the second for responders.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    v4: Vec<V4Layer>,
    v6: Vec<Vec<Segment<u128>>>,
    pub lists: Lists,
}

impl Endpoints {
    /// The table, and the entries that it cannot hold.
    pub fn new(intervals: &[Filed<u128>], mut lists: ListBuilder) -> (Self, Vec<u32>) {
        let v4_bounds = (Addr::v4(0).0, Addr::v4(u32::MAX).0);
        let mut v4: Vec<Filed<u32>> = Vec::new();
        let mut v6: Vec<Filed<u128>> = Vec::new();
        for &(first, last, entry) in intervals {
            let (low, high) = (first.max(v4_bounds.0), last.min(v4_bounds.1));
            if low <= high {
                let bits = |v: u128| Addr(v).to_v4().expect("an IPv4 address");
                v4.push((bits(low), bits(high), entry));
            }
            if first < v4_bounds.0 {
                v6.push((first, last.min(v4_bounds.0 - 1), entry));
            }
            if last > v4_bounds.1 {
                v6.push((first.max(v4_bounds.1 + 1), last, entry));
            }
        }
        let (v4, mut rest) = layers(v4, &mut lists);
        let (v6, more) = layers(v6, &mut lists);
        rest.extend(more);
        rest.sort_unstable();
        rest.dedup();
        let v4 = v4.into_iter().map(V4Layer::new).collect();
        (Self { v4, v6, lists: lists.finish() }, rest)
    }

    /// Asks the caches for what [`Endpoints::look_up`] will read first.
    #[inline]
    pub fn fetch_bucket(&self, address: u128) {
        if let Some(bits) = Addr(address).to_v4() {
            let layers = self.v4.iter().filter(|layer| layer.is_large());
            layers.for_each(|layer| prefetch(&layer.buckets[layer.bucket(bits)]));
        }
    }

    /// Asks the caches for what it will read then.
    #[inline]
    pub fn fetch_segments(&self, address: u128) {
        if let Some(bits) = Addr(address).to_v4() {
            for layer in self.v4.iter().filter(|layer| layer.is_large()) {
                let first = layer.buckets[layer.bucket(bits)] as usize;
                if let Some(segment) = layer.segments.get(first) {
                    prefetch(segment);
                }
            }
        }
    }

    /// Calls `f` with each list under `address`.
    #[inline]
    pub fn look_up(&self, address: u128, mut f: impl FnMut(ListId)) {
        let mut call = |list| {
            if list != 0 {
                f(list);
            }
        };
        match Addr(address).to_v4() {
            Some(bits) => self.v4.iter().for_each(|layer| call(layer.list(bits))),
            None => self.v6.iter().for_each(|segments| call(at(segments, address))),
        }
    }
}

/// Segments of the IPv4 addresses, found by the address's first bits and then a short search.
#[derive(Debug)]
struct V4Layer {
    /// How far an address is shifted to give its bucket.
    shift: u32,
    /// Of each bucket: how many segments begin before it; one more at the end.
    buckets: Box<[u32]>,
    segments: Box<[Segment<u32>]>,
}

impl V4Layer {
    fn new(segments: Vec<Segment<u32>>) -> Self {
        // Four segments a bucket, if they were spread evenly.
        let bits = (segments.len() / 4).next_power_of_two().ilog2().clamp(4, 20);
        let shift = 32 - bits;
        let before = |bucket: u64| {
            let begin = bucket << shift;
            let before = segments.partition_point(|&(at, _)| u64::from(at) < begin);
            u32::try_from(before).expect("fewer than 2^32 segments")
        };
        let buckets = (0..=1_u64 << bits).map(before).collect();
        Self { shift, buckets, segments: segments.into() }
    }

    /// Whether it may not be in the caches.
    #[inline]
    fn is_large(&self) -> bool {
        self.segments.len() > CACHED_MAX
    }

    #[inline]
    fn bucket(&self, bits: u32) -> usize {
        (bits >> self.shift) as usize
    }

    #[inline]
    fn list(&self, bits: u32) -> ListId {
        let bucket = self.bucket(bits);
        let (from, to) = (self.buckets[bucket] as usize, self.buckets[bucket + 1] as usize);
        let inside = &self.segments[from..to];
        let begun = if inside.len() <= 16 {
            inside.iter().filter(|&&(begin, _)| begin <= bits).count()
        } else {
            inside.partition_point(|&(begin, _)| begin <= bits)
        };
        match from + begun {
            0 => 0,
            after => self.segments[after - 1].1,
        }
    }
}
