//! The state of a shard as a log of changes, so that another can go on with it.
//!
//! A pair, a connection that may go on, and the last second that was passed (with the latest start of a
//! record) have a key each; the
//! latest value of every key is the whole state. What is put back goes on as before, as long as
//! nothing has to make room: which pair does depends on the order in which they came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use super::event::Event;
use super::features::WINDOW;
use super::joins::{Joined, Key, Open};
use super::labels::Class;
use super::pairs::{Name, Pair, flag};
use super::record::{Connection, Record};
use super::shard::{Shard, Turn};
use crate::net::{Addr, pair_hash};
use crate::time::Micros;

/// Of the octets of a value, which change with this.
const VERSION: u8 = 1;
/// The key of the last second that was passed.
const TICK: &[u8] = b"tick";
/// Octets of the key of a pair.
const PAIR: usize = 34;
/// Octets of the key of a connection.
const CONNECTION: usize = PAIR + 5;

/// What changed since it was written last.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pairs: BTreeSet<Name>,
    joins: BTreeSet<Key>,
    /// Whose connections those are that were written, or will be.
    names: HashMap<Key, Name>,
}

impl Changes {
    /// Something about a pair changed.
    pub(super) fn pair(&mut self, pair: &Pair) {
        self.pairs.insert(pair.name());
    }

    /// Connections changed while a record of `pair` was taken.
    pub(super) fn joins(&mut self, pair: &Pair, touched: impl Iterator<Item = Key>) {
        for key in touched {
            if key.0 == pair.serial {
                self.names.insert(key, pair.name());
            }
            self.joins.insert(key);
        }
    }
}

/// Whether `key` is one of those that [`Shard::take_changes`] gives.
#[must_use]
pub fn is_key(key: &[u8]) -> bool {
    key == TICK || [PAIR, CONNECTION].contains(&key.len())
}

impl Shard {
    /// Keeps account of changes from now on.
    #[must_use]
    pub fn tracked(mut self) -> Self {
        self.changes = Some(Changes::default());
        self.pairs.forgotten = Some(Vec::new());
        self.joins.touched = Some(Vec::new());
        self
    }

    /// Calls `each` with the key and the value of all that changed since the last call, without a
    /// value for what is no more.
    pub fn take_changes(&mut self, mut each: impl FnMut(&[u8], Option<Vec<u8>>)) {
        let Some(changes) = &mut self.changes else { return };
        let mut pairs = mem::take(&mut changes.pairs);
        pairs.extend(self.pairs.forgotten.iter_mut().flat_map(|names| names.drain(..)));
        let turns: HashMap<u32, i64> =
            self.resting.iter().map(|turn| (turn.serial, turn.tick)).collect();
        for name in pairs {
            let value = self.pairs.find(name).map(|place| {
                let pair = self.pairs.get(place);
                pair_value(pair, turns.get(&pair.serial).copied().unwrap_or_default())
            });
            each(&pair_key(name), value);
        }
        // A pair that was forgotten and came again may have a connection of the same name.
        let mut connections: BTreeMap<(Name, Connection), Option<Vec<u8>>> = BTreeMap::new();
        for key in mem::take(&mut changes.joins) {
            let Some(&name) = changes.names.get(&key) else { continue };
            let value = self.joins.get(key).map(open_value);
            if value.is_none() {
                changes.names.remove(&key);
            }
            let entry = connections.entry((name, key.1)).or_default();
            *entry = value.or_else(|| entry.take());
        }
        for ((name, connection), value) in connections {
            each(&connection_key(name, connection), value);
        }
        if let Some(tick) = self.tick {
            let serial = self.pairs.serial.to_le_bytes();
            let begun = self.joins.begun.0.to_le_bytes();
            each(TICK, Some([&tick.to_le_bytes()[..], &serial, &begun].concat()));
        }
    }

    /// Puts a state back: the latest value of every key. The shard is new.
    ///
    /// # Errors
    /// What cannot be read: of another version, or nothing of a shard's.
    pub fn restore<'a>(
        &mut self,
        state: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), &'static str> {
        let mut state: Vec<_> = state.collect();
        // Pairs before their connections, and everything in one order.
        state.sort_unstable_by_key(|(key, _)| (key.len() != PAIR, *key));
        let mut serials = HashMap::new();
        let mut opens = Vec::new();
        for (key, value) in state {
            let unreadable = if key.len() == PAIR { "a pair" } else { "a connection" };
            if key == TICK {
                let mut value = Octets(value);
                let (tick, serial) = value.i64().zip(value.u32()).ok_or("the last second")?;
                (self.tick, self.pairs.serial) = (Some(tick), serial);
                // A state of an earlier version has none.
                self.joins.begun = value.i64().map_or(Micros::MIN, Micros);
            } else if key.len() == PAIR {
                serials.insert(&key[..PAIR], self.put_pair(key, value).ok_or(unreadable)?);
            } else {
                let open = read_open(key, value).ok_or(unreadable)?;
                // Of a pair that made room for others meanwhile: nothing joins it any more.
                if serials.get(&key[..PAIR]) != Some(&open.key.0) {
                    continue;
                }
                if let Some(changes) = &mut self.changes {
                    changes.names.insert(open.key, name_of(key).ok_or(unreadable)?);
                }
                opens.push(open);
            }
        }
        opens.sort_by_key(|open| open.expires);
        opens.into_iter().for_each(|open| self.joins.put(open));
        let mut resting: Vec<Turn> = mem::take(&mut self.resting).into();
        resting.sort_by_key(|turn| turn.tick);
        self.resting = resting.into();
        // That is how it was written.
        self.joins.touched.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    /// Puts a pair back, under the serial number that it had, which is returned.
    fn put_pair(&mut self, key: &[u8], value: &[u8]) -> Option<u32> {
        let name @ (site, low, high) = name_of(key)?;
        let (former, tick) = read_pair(name, value)?;
        let place = self.pairs.of(pair_hash(site, low, high), site, low, high);
        let pair = self.pairs.get_mut(place);
        *pair = former;
        let serial = pair.serial;
        let turn = Turn { tick, place, serial };
        if pair.has(flag::RESTING) {
            self.resting.push_back(turn);
        } else if pair.has(flag::READY) {
            self.ready.push_back(turn);
        }
        Some(serial)
    }
}

fn pair_key((site, low, high): Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(CONNECTION);
    key.extend(site.to_be_bytes());
    key.extend(low.0.to_be_bytes());
    key.extend(high.0.to_be_bytes());
    key
}

fn name_of(key: &[u8]) -> Option<Name> {
    let address = |at: usize| Some(Addr(u128::from_be_bytes(*key.get(at..)?.first_chunk()?)));
    Some((u16::from_be_bytes(*key.first_chunk()?), address(2)?, address(18)?))
}

fn connection_key(name: Name, (protocol, low, high): Connection) -> Vec<u8> {
    let mut key = pair_key(name);
    key.push(protocol);
    key.extend(low.to_be_bytes());
    key.extend(high.to_be_bytes());
    key
}

fn pair_value(pair: &Pair, tick: i64) -> Vec<u8> {
    let mut room = [Event::default(); WINDOW];
    let window = pair.window(&mut room);
    let mut value = Vec::with_capacity(64 + 16 * window.len());
    value.push(VERSION);
    value.extend(pair.serial.to_le_bytes());
    value.extend(pair.count.to_le_bytes());
    value.extend(pair.chunk_start_ms.to_le_bytes());
    value.extend(pair.seen.0.to_le_bytes());
    value.extend(pair.score.to_le_bytes());
    value.extend(pair.unsent.to_le_bytes());
    value.extend([pair.class as u8, pair.prevailing, pair.flags]);
    value.extend(tick.to_le_bytes());
    window.iter().for_each(|event| value.extend(event.to_octets()));
    value
}

/// The pair, and the second of its next turn.
fn read_pair((site, low, high): Name, value: &[u8]) -> Option<(Pair, i64)> {
    let mut value = Octets::of(value)?;
    let serial = value.u32()?;
    let mut pair = Pair::new(site, (low, high), serial);
    pair.count = value.u32()?;
    pair.chunk_start_ms = value.i64()?;
    pair.seen = Micros(value.i64()?);
    pair.score = f32::from_le_bytes(value.take()?);
    pair.unsent = value.u32()?;
    let [class, prevailing, flags] = value.take()?;
    pair.class = *Class::ALL.get(usize::from(class))?;
    (pair.prevailing, pair.flags) = (prevailing, flags);
    let tick = value.i64()?;
    let events = value.0.chunks_exact(16);
    if events.len() > WINDOW || !events.remainder().is_empty() {
        return None;
    }
    for octets in events {
        pair.push(Event::from_octets(octets.try_into().ok()?));
    }
    Some((pair, tick))
}

fn open_value(open: &Open) -> Vec<u8> {
    let Joined { whole, end, flags } = &open.joined;
    let mut value = vec![VERSION];
    value.extend(open.key.0.to_le_bytes());
    for instant in [open.expires, *end, whole.first, whole.last] {
        value.extend(instant.0.to_le_bytes());
    }
    for count in [whole.fwd_octets, whole.bwd_octets, whole.fwd_packets, whole.bwd_packets] {
        value.extend(count.to_le_bytes());
    }
    value.extend(whole.initiator_port.to_le_bytes());
    value.extend(whole.responder_port.to_le_bytes());
    let known = [u8::from(whole.flags_known), u8::from(whole.initiator_low)];
    value.extend([*flags, whole.protocol, whole.flags]);
    value.extend(known);
    value
}

fn read_open(key: &[u8], value: &[u8]) -> Option<Open> {
    let [protocol, a, b, c, d] = *key.get(PAIR..)?.first_chunk()?;
    let connection = (protocol, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let mut value = Octets::of(value)?;
    let serial = value.u32()?;
    let (expires, end) = (Micros(value.i64()?), Micros(value.i64()?));
    let mut whole = Record {
        first: Micros(value.i64()?),
        last: Micros(value.i64()?),
        fwd_octets: u64::from_le_bytes(value.take()?),
        bwd_octets: u64::from_le_bytes(value.take()?),
        fwd_packets: u64::from_le_bytes(value.take()?),
        bwd_packets: u64::from_le_bytes(value.take()?),
        initiator_port: u16::from_le_bytes(value.take()?),
        responder_port: u16::from_le_bytes(value.take()?),
        ..Record::default()
    };
    let [flags, protocol, all_flags, known, low] = value.take()?;
    (whole.protocol, whole.flags) = (protocol, all_flags);
    (whole.flags_known, whole.initiator_low) = (known != 0, low != 0);
    let joined = Joined { whole, end, flags };
    let key = (serial, connection);
    value.0.is_empty().then_some(Open { key, joined, expires, due: expires })
}

/// What is left of a value.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    /// `None` if it is of another version.
    fn of(value: &'a [u8]) -> Option<Self> {
        let (&version, rest) = value.split_first()?;
        (version == VERSION).then_some(Self(rest))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::Alert;
    use crate::detect::sequence::sample::{connection, settings};
    use crate::detect::sequence::{Probabilities, Scorer, Settings, Verdict, Windows};
    use crate::time::SECOND;

    /// Says of a window what depends on all of it.
    struct Sums;

    impl Scorer for Sums {
        fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
            for stats in windows.stats.chunks(windows.stats.len() / windows.len()) {
                let c2 = stats.iter().sum::<f32>().rem_euclid(1.0);
                out.push([1.0 - c2, c2, 0.0, 0.0, 0.0, 0.0]);
            }
            true
        }
    }

    /// One slice of a pair: the pair, its ports, seconds after the one before, its length, octets,
    /// and whether it is its flow's last.
    type Part = (u8, u16, i64, i64, u64, bool);

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let part = (0..3_u8, 0..3_u16, 0..40_i64, 0..90_i64, 0..60_000_u64, any::<bool>());
        prop::collection::vec(part, 1..150)
    }

    struct Seen {
        shard: Shard,
        now: Micros,
        verdicts: Vec<Option<Verdict>>,
        alerts: Vec<Alert>,
    }

    impl Seen {
        fn new() -> Self {
            let shard = Shard::new(64, 64, 100 * SECOND, 0).tracked();
            let now = Micros::from_secs(1_700_000_000);
            Self { shard, now, verdicts: Vec::new(), alerts: Vec::new() }
        }

        fn take(&mut self, &(pair, port, gap, length, octets, last): &Part, settings: &Settings) {
            self.now = self.now.plus(gap * SECOND);
            let mut slice = connection(self.now.plus(-length * SECOND), 40_000 + port, 443);
            slice.last = last;
            let flow = &mut slice.flow;
            flow.last = self.now;
            flow.dst = Addr::v4(0xcb00_7100 | u32::from(pair));
            (flow.fwd.octets, flow.bwd.octets) = (octets, octets);
            let hash = pair_hash(0, flow.src, flow.dst);
            let all = &mut usize::MAX.clone();
            self.shard.advance(self.now, settings, &mut Sums, all, &mut self.alerts);
            self.verdicts.push(self.shard.slice(&slice, hash, self.now, settings));
        }
    }

    proptest! {
        /// A shard that is put back anywhere, from changes that were taken anywhere before, says
        /// what one that never stopped says.
        #[test]
        fn sequences_that_are_put_back_go_on_as_before(
            parts in parts(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        ) {
            let settings = settings(1_000.0);
            let (mut whole, mut cut) = (Seen::new(), Seen::new());
            let mut log: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let places: BTreeSet<usize> = cuts.iter().map(|cut| cut.index(parts.len())).collect();
            for (at, part) in parts.iter().enumerate() {
                whole.take(part, &settings);
                cut.take(part, &settings);
                if !places.contains(&at) {
                    continue;
                }
                cut.shard.take_changes(|key, value| {
                    assert!(is_key(key));
                    match value {
                        Some(value) => drop(log.insert(key.to_vec(), value)),
                        None => drop(log.remove(key)),
                    }
                });
                let mut again = Shard::new(64, 64, 100 * SECOND, 0).tracked();
                let state = log.iter().map(|(key, value)| (&key[..], &value[..]));
                prop_assert_eq!(again.restore(state), Ok(()));
                prop_assert_eq!(again.ledger().pairs, cut.shard.ledger().pairs);
                cut.shard = again;
            }
            prop_assert_eq!(whole.verdicts, cut.verdicts);
            let ids = |alerts: &[Alert]| {
                let mut ids: Vec<_> = alerts.iter().map(|a| (a.time, a.id, a.flow_id)).collect();
                ids.sort_unstable();
                ids
            };
            prop_assert_eq!(ids(&whole.alerts), ids(&cut.alerts));
        }

        #[test]
        fn no_octets_panic(key in prop::collection::vec(any::<u8>(), 0..64),
                           value in prop::collection::vec(any::<u8>(), 0..700)) {
            let mut shard = Shard::new(4, 4, SECOND, 0).tracked();
            for length in [PAIR, CONNECTION, TICK.len()] {
                let mut key = key.clone();
                key.resize(length, 0);
                let _either = shard.restore([(&key[..], &value[..])].into_iter());
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut shard = Shard::new(4, 4, SECOND, 0);
        let key = pair_key((0, Addr::v4(1), Addr::v4(2)));
        let mut value = pair_value(&Pair::new(0, (Addr::v4(1), Addr::v4(2)), 7), 0);
        assert_eq!(shard.restore([(&key[..], &value[..])].into_iter()), Ok(()));
        value[0] += 1;
        assert_eq!(shard.restore([(&key[..], &value[..])].into_iter()), Err("a pair"));
    }
}
