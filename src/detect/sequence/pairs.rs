//! The pairs of one shard: of each the window of its last flows, in fixed memory.

use std::num::NonZeroI64;

use hashbrown::HashTable;

use super::event::{Event, Transport};
use super::features::WINDOW;
use super::labels::Class;
use crate::mem::prefetch;
use crate::net::{Addr, pair_hash};
use crate::time::{MILLISECOND, Micros};

/// A pair that was silent for longer begins a new window: starts are kept modulo 2^32 ms, and what is
/// half of that apart has no order.
pub const SILENCE_MAX_US: i64 = (1 << 31) * MILLISECOND;

/// Pairs that are looked at for the one that makes room.
const CANDIDATES: u32 = 16;

/// A window whose client sent so much is worth scoring, however few its flows are, in octets.
const HEAVY_OCTETS: f64 = 100_000.0;
/// So is one with a flow of this length, in milliseconds.
const LONG_MS: f64 = 60_000.0;
/// And every window of so many flows.
const FLOWS_MIN: usize = 4;

/// What is known of one pair of addresses. What every slice reads and writes stands in front, in one
/// or two cache lines; of the events a slice touches but the newest.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Pair {
    /// The lower address.
    pub low: Addr,
    /// The higher address.
    pub high: Addr,
    /// The start of the first event of the present chunk of [`WINDOW`] events, in milliseconds.
    pub chunk_start_ms: i64,
    /// When the latest slice came, by the input clock.
    pub seen: Micros,
    /// On live input: when the bytes arrived after which its turn came, by the kernel's clock; none in a
    /// replay.
    pub arrived: Option<NonZeroI64>,
    /// Tells this pair from an earlier one in the same place.
    pub serial: u32,
    /// Events so far.
    pub count: u32,
    /// The latest score; of no meaning before the first.
    pub score: f32,
    /// Octets that went out and that nobody was told of yet.
    pub unsent: u32,
    /// Site of both.
    pub site: u16,
    pub(super) len: u8,
    /// Where the oldest event stands.
    head: u8,
    /// What the latest score came to.
    pub class: Class,
    /// What most of the window was when it was scored: a packed
    /// [`Prevailing`](super::Prevailing).
    pub prevailing: u8,
    /// Bits of [`flag`].
    pub(super) flags: u8,
    /// A ring.
    events: [Event; WINDOW],
}

/// Which pair: its site, its lower and its higher address.
pub type Name = (u16, Addr, Addr);

/// Bits of a pair's state.
pub mod flag {
    /// It was scored at least once.
    pub const SCORED: u8 = 1;
    /// It waits for its turn to be scored.
    pub const READY: u8 = 1 << 1;
    /// It was scored within the last minute.
    pub const RESTING: u8 = 1 << 2;
    /// Something came since it was scored.
    pub const CHANGED: u8 = 1 << 3;
    /// It is alerted on, as what [`super::Pair::class`] says.
    pub const ALERTED: u8 = 1 << 4;
}

impl Pair {
    pub(super) fn new(site: u16, (low, high): (Addr, Addr), serial: u32) -> Self {
        Self {
            low,
            high,
            chunk_start_ms: 0,
            seen: Micros::MIN,
            arrived: None,
            serial,
            count: 0,
            score: 0.0,
            unsent: 0,
            site,
            len: 0,
            head: 0,
            class: Class::Benign,
            prevailing: 0,
            flags: 0,
            events: [Event::default(); WINDOW],
        }
    }

    /// Which pair it is.
    #[must_use]
    pub const fn name(&self) -> Name {
        (self.site, self.low, self.high)
    }

    /// Puts an event of a former window after the others; there is room.
    pub(super) fn push(&mut self, event: Event) {
        let place = self.slot(self.len.into());
        self.events[place] = event;
        self.len += 1;
    }

    /// Forgets the window.
    pub const fn forget(&mut self) {
        (self.len, self.head) = (0, 0);
    }

    /// The window: the last events, in the order of their starts, written into `room`.
    #[must_use]
    pub fn window<'a>(&self, room: &'a mut [Event; WINDOW]) -> &'a [Event] {
        let len = usize::from(self.len);
        for (at, place) in room[..len].iter_mut().enumerate() {
            *place = *self.event(at);
        }
        &room[..len]
    }

    /// Where event `at` stands, the oldest being 0.
    fn slot(&self, at: usize) -> usize {
        (usize::from(self.head) + at) % WINDOW
    }

    fn event(&self, at: usize) -> &Event {
        &self.events[self.slot(at)]
    }

    fn events(&self) -> impl DoubleEndedIterator<Item = &Event> + Clone {
        (0..usize::from(self.len)).map(|at| self.event(at))
    }

    /// Copies event `from` into the place of event `to`.
    fn shift(&mut self, from: usize, to: usize) {
        self.events[self.slot(to)] = *self.event(from);
    }

    /// The number of the present chunk of [`WINDOW`] events among the pair's, from 0.
    #[must_use]
    pub const fn ordinal(&self) -> u32 {
        self.count.saturating_sub(1) / WINDOW as u32
    }

    /// Whether a bit of [`flag`] is set.
    #[must_use]
    pub const fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    /// Sets or clears bits of [`flag`].
    pub const fn set(&mut self, bits: u8, to: bool) {
        self.flags = if to { self.flags | bits } else { self.flags & !bits };
    }

    /// Counts an event that starts at `first`, and puts it at its place in the order of starts, after
    /// those that start at the same moment. Returns false if the window is full of later ones.
    pub fn add(&mut self, event: Event, first: Micros) -> bool {
        if (self.count as usize).is_multiple_of(WINDOW) {
            self.chunk_start_ms = first.0.div_euclid(1_000);
        }
        self.count = self.count.wrapping_add(1);
        self.insert(event)
    }

    fn insert(&mut self, event: Event) -> bool {
        let len = usize::from(self.len);
        if len == WINDOW && self.is_older_than_all(&event) {
            return false;
        }
        let later = self.events().rev().take_while(|other| event.is_before(other)).count();
        if len < WINDOW {
            self.len += 1;
        } else if later == len {
            return false;
        } else {
            // The oldest makes room, which is the place after the newest.
            self.head = self.slot(1) as u8;
        }
        let newest = usize::from(self.len) - 1;
        for at in (newest - later..newest).rev() {
            self.shift(at, at + 1);
        }
        let place = self.slot(newest - later);
        self.events[place] = event;
        true
    }

    /// Whether `event` starts before all of the window, told by its ends. Of a window so long that its
    /// ends have no order, false.
    fn is_older_than_all(&self, event: &Event) -> bool {
        let (oldest, newest) = (self.event(0), self.event(usize::from(self.len) - 1));
        event.is_before(newest) && event.is_before(oldest) && !newest.is_before(oldest)
    }

    /// Puts `new` in the place of `old`, if that is still in the window.
    pub fn replace(&mut self, old: &Event, new: Event) {
        let len = usize::from(self.len);
        let Some(at) = (0..len).rev().find(|&at| self.event(at) == old) else { return };
        if old.t_ms() == new.t_ms() {
            let place = self.slot(at);
            self.events[place] = new;
            return;
        }
        for at in at + 1..len {
            self.shift(at, at - 1);
        }
        self.len -= 1;
        self.insert(new);
    }

    /// The cheap gate: whether the window is worth scoring. FEATURES.md, section 8.
    #[must_use]
    pub fn is_worth_scoring(&self) -> bool {
        let enough = usize::from(self.len) >= FLOWS_MIN || {
            let lows = self.events().filter(|event| event.initiator_low()).count();
            let newest_low = self.events().next_back().is_some_and(Event::initiator_low);
            let (len, lows) = (usize::from(self.len), 2 * lows);
            let client_low = lows > len || lows == len && newest_low;
            let up = |event: &Event| {
                let (fwd, bwd) = event.octets();
                if event.initiator_low() == client_low { fwd } else { bwd }
            };
            self.events().map(up).sum::<f64>() >= HEAVY_OCTETS
                || self.events().any(|event| event.duration_ms() >= LONG_MS)
        };
        let speaks = |event: &Event| event.answered() || event.transport() == Transport::Tcp;
        enough && self.events().rev().any(speaks)
    }

    /// The order in which pairs make room: the least suspicious, then the longest idle.
    fn worth(&self) -> (bool, u8, Micros) {
        // Scores that differ little are no reason to keep the one that is idle for longer.
        let score = if self.has(flag::SCORED) { (self.score * 8.0) as u8 } else { 0 };
        (self.has(flag::ALERTED), score, self.seen)
    }
}

/// The pairs of one shard, at most as many as it may hold.
#[derive(Debug)]
pub struct Pairs {
    /// In chunks that never move.
    chunks: Vec<Vec<Pair>>,
    index: HashTable<u32>,
    len: usize,
    limit: usize,
    /// Where the next look for one that makes room begins.
    hand: u32,
    /// That of the pair that came last.
    pub(super) serial: u32,
    /// Pairs that made room for others.
    pub evicted: u64,
    /// Which those were, if that is asked for.
    pub(super) forgotten: Option<Vec<Name>>,
}

/// Pairs in a chunk.
const CHUNK: usize = 64;
/// Octets that the processor fetches at once.
const LINE_OCTETS: usize = 64;

impl Pairs {
    /// Holds `limit` pairs, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            chunks: Vec::new(),
            index: HashTable::new(),
            len: 0,
            limit: limit.clamp(1, u32::MAX as usize),
            hand: 0,
            serial: 0,
            evicted: 0,
            forgotten: None,
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of memory that the pairs and their index take.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() * size_of::<Pair>()
            + self.index.allocation_size()
    }

    /// The pair in place `at`.
    #[must_use]
    pub fn get(&self, at: u32) -> &Pair {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    /// The pair in place `at`.
    pub fn get_mut(&mut self, at: u32) -> &mut Pair {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    /// The place of a pair; `None` if it is not there.
    #[must_use]
    pub fn find(&self, name: Name) -> Option<u32> {
        let hash = pair_hash(name.0, name.1, name.2);
        self.index.find(spread(hash), |&place| self.get(place).name() == name).copied()
    }

    /// Asks the processor to fetch what a slice of the pair with this hash reads first. Returns the
    /// place that is likely the pair's: the first of a like hash, as its own memory need not be read to
    /// know that one.
    #[must_use]
    pub fn fetch(&self, hash: u64) -> Option<u32> {
        let place = *self.index.find(spread(hash), |_| true)?;
        let pair = std::ptr::from_ref(self.get(place));
        prefetch(pair);
        prefetch(pair.wrapping_byte_add(LINE_OCTETS));
        Some(place)
    }

    /// Then what it reads and writes of the events, which its head tells.
    pub fn fetch_events(&self, place: u32) {
        let pair = self.get(place);
        let len = usize::from(pair.len);
        prefetch(&raw const pair.events[pair.slot(len)]);
        prefetch(&raw const pair.events[pair.slot(len.saturating_sub(1))]);
    }

    /// Asks for all of a pair, for its window.
    pub fn fetch_window(&self, place: u32) {
        let pair = std::ptr::from_ref(self.get(place));
        for octet in (0..size_of::<Pair>()).step_by(LINE_OCTETS) {
            prefetch(pair.wrapping_byte_add(octet));
        }
    }

    /// The place of the pair of `a` and `b` in `site`, whose hash is `hash`: where there is none yet
    /// it is made, and where there is no room, of a few others the least suspicious and longest idle
    /// one goes.
    pub fn of(&mut self, hash: u64, site: u16, a: Addr, b: Addr) -> u32 {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let chunks = &self.chunks;
        let at = |at: u32| &chunks[at as usize / CHUNK][at as usize % CHUNK];
        let is = |&place: &u32| {
            let pair = at(place);
            (pair.low, pair.high, pair.site) == (low, high, site)
        };
        let hash = spread(hash);
        if let Some(&place) = self.index.find(hash, is) {
            return place;
        }
        self.serial = self.serial.wrapping_add(1);
        let pair = Pair::new(site, (low, high), self.serial);
        let place = if self.len < self.limit {
            self.push(pair)
        } else {
            let place = self.make_room();
            *self.get_mut(place) = pair;
            place
        };
        let chunks = &self.chunks;
        let again = |&place: &u32| hash_of(&chunks[place as usize / CHUNK][place as usize % CHUNK]);
        self.index.insert_unique(hash, place, again);
        place
    }

    fn push(&mut self, pair: Pair) -> u32 {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK.min(self.limit - self.len)));
        }
        let chunk = self.chunks.last_mut().expect("a chunk with room");
        chunk.push(pair);
        self.len += 1;
        self.len as u32 - 1
    }

    /// Takes a pair out of the index and returns its place.
    fn make_room(&mut self) -> u32 {
        let len = self.len as u32;
        let candidates = (0..CANDIDATES.min(len)).map(|step| (self.hand + step) % len);
        let victim = candidates.min_by_key(|&at| self.get(at).worth()).unwrap_or(0);
        self.hand = (self.hand + CANDIDATES) % len;
        let hash = hash_of(self.get(victim));
        if let Ok(entry) = self.index.find_entry(hash, |&place| place == victim) {
            entry.remove();
        }
        let name = self.get(victim).name();
        self.forgotten.iter_mut().for_each(|names| names.push(name));
        self.evicted += 1;
        victim
    }
}

fn hash_of(pair: &Pair) -> u64 {
    spread(pair_hash(pair.site, pair.low, pair.high))
}

/// A pair's hash as the index takes it. All pairs of a shard have the same highest bits
/// ([`shard_of`](crate::net::shard_of)), and by these the index would tell pairs apart without
/// reading them.
const fn spread(hash: u64) -> u64 {
    hash.rotate_right(20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::sequence::Record;

    fn event(t_ms: i64, octets: u64) -> (Event, Micros) {
        let first = Micros::from_millis(t_ms);
        let record = Record { first, last: first, fwd_octets: octets, ..Record::default() };
        (Event::of(&record), first)
    }

    /// The bound: with the index at its worst, and what else is kept of a pair that was
    /// scored within the last minute.
    #[test]
    fn a_live_pair_takes_at_most_640_octets() {
        let mut pairs = Pairs::new(1 << 16);
        for host in 0..(1_u32 << 16) {
            let (a, b) = (Addr::v4(host), Addr::v4(u32::MAX));
            pairs.of(pair_hash(0, a, b), 0, a, b);
        }
        let each = pairs.octets().div_ceil(pairs.len());
        let resting = 2 * size_of::<super::super::shard::Turn>();
        assert!(each + resting <= 640, "{each} octets and {resting}");
        assert!(size_of::<Pair>() <= 592, "{}", size_of::<Pair>());
        assert!(std::mem::offset_of!(Pair, events) <= 80, "what each slice touches");
    }

    #[test]
    fn the_least_suspicious_and_longest_idle_makes_room() {
        let mut pairs = Pairs::new(3);
        let peer = Addr::v4(9);
        let of = |pairs: &mut Pairs, host: u32| {
            let a = Addr::v4(host);
            pairs.of(pair_hash(0, a, peer), 0, a, peer)
        };
        for (host, seen_s, score) in [(1, 10, 0.9), (2, 30, 0.0), (3, 20, 0.0)] {
            let at = of(&mut pairs, host);
            let pair = pairs.get_mut(at);
            (pair.seen, pair.score) = (Micros::from_secs(seen_s), score);
            pair.set(flag::SCORED, true);
        }
        let third = of(&mut pairs, 3);
        assert_eq!(of(&mut pairs, 4), third, "idle for longer than the second");
        assert_eq!((pairs.len(), pairs.evicted), (3, 1));
        let first = of(&mut pairs, 1);
        assert_eq!(pairs.get(first).seen, Micros::from_secs(10), "the suspicious one stays");
        assert_eq!(pairs.evicted, 1);
    }

    /// Else every look-up would read pairs that are others.
    #[test]
    fn pairs_of_a_shard_are_told_apart_without_reading_them() {
        let mut pairs = Pairs::new(4_096);
        let peer = Addr::v4(9);
        let hosts: Vec<(Addr, u64)> = (10..u32::MAX)
            .map(|host| (Addr::v4(host), pair_hash(0, Addr::v4(host), peer)))
            .filter(|&(_, hash)| crate::net::shard_of(hash) == 11)
            .take(3_500)
            .collect();
        for &(host, hash) in &hosts {
            pairs.of(hash, 0, host, peer);
        }
        let found = |host, hash| pairs.fetch(hash) == pairs.find((0, peer, host));
        let found = hosts.iter().filter(|&&(host, hash)| found(host, hash)).count();
        assert!(found > 3_000, "{found} of {}", hosts.len());
    }

    proptest! {
        /// The window equals a list that holds all events in the order of their starts, cut to its
        /// end whenever it is longer.
        #[test]
        fn the_window_equals_a_plain_list(
            events in prop::collection::vec((0..200_i64, 0..3_u64), 0..100),
            replaced in prop::collection::vec((any::<prop::sample::Index>(), 0..200_i64), 0..20),
        ) {
            let mut pair = Pair::new(0, (Addr::v4(1), Addr::v4(2)), 1);
            let (mut plain, mut room) = (Vec::new(), [Event::default(); WINDOW]);
            let insert = |plain: &mut Vec<Event>, event: Event| {
                let at = plain.partition_point(|other| !event.is_before(other));
                plain.insert(at, event);
                let over = plain.len().saturating_sub(WINDOW);
                plain.drain(..over);
            };
            for &(t, octets) in &events {
                let (event, first) = event(t, octets);
                pair.add(event, first);
                insert(&mut plain, event);
                prop_assert_eq!(pair.window(&mut room), &plain[..]);
            }
            for (index, t) in replaced.iter().filter(|_| !events.is_empty()) {
                let old = plain[index.index(plain.len())];
                let (new, _) = event(*t, 9);
                pair.replace(&old, new);
                let at = plain.iter().rposition(|event| *event == old).expect("it is there");
                if old.t_ms() == new.t_ms() {
                    plain[at] = new;
                } else {
                    plain.remove(at);
                    insert(&mut plain, new);
                }
                prop_assert_eq!(pair.window(&mut room), &plain[..]);
            }
            prop_assert_eq!(pair.count as usize, events.len());
        }

        /// The gate reads events as the features do.
        #[test]
        fn the_gate_is_that_of_the_statistics(
            events in prop::collection::vec(
                (0..90_000_i64, 0..90_000_u64, 0..90_000_u64, 0..3_u64, 0..3_u8, any::<bool>()), 1..7),
        ) {
            use crate::detect::sequence::features::{Columns, STAT_NAMES};
            let mut pair = Pair::new(0, (Addr::v4(1), Addr::v4(2)), 1);
            for (at, (duration, fwd_octets, bwd_octets, bwd_packets, kind, low)) in
                (0..).zip(events)
            {
                let first = Micros::from_secs(at);
                let record = Record {
                    first,
                    last: first.plus(duration * 1_000),
                    fwd_octets,
                    bwd_octets,
                    bwd_packets,
                    protocol: [6, 17, 47][usize::from(kind)],
                    initiator_low: low,
                    ..Record::default()
                };
                pair.add(Event::of(&record), first);
            }
            let mut room = [Event::default(); WINDOW];
            let stats = Columns::of(pair.window(&mut room)).stats();
            let stat = |name| {
                let at = STAT_NAMES.iter().position(|known| *known == name).expect(name);
                f64::from(stats[at])
            };
            let enough = usize::from(pair.len) >= 4
                || stat("log_up_total") >= f64::from(HEAVY_OCTETS.ln_1p() as f32)
                || stat("log_duration_max") >= f64::from(LONG_MS.ln_1p() as f32);
            let speaks = stat("answered_share") + stat("tcp_share") > 0.0;
            prop_assert_eq!(pair.is_worth_scoring(), enough && speaks);
        }
    }
}
