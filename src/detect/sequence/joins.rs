//! The connections of one shard that may go on: what joins their records as they come.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::event::Event;
pub(super) use super::record::Joined;
use super::record::{Connection, Record};
use crate::net::fold_u64;
use crate::time::{Micros, SECOND};

/// The longest active timeout whose cuts are joined, and by how much exporters send late: what routers
/// have where nobody set one.
const CUT_MAX_US: i64 = (1_800 + 10) * SECOND;

/// A pair's serial number, and which of its connections.
pub(super) type Key = (u32, Connection);

#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) key: Key,
    pub(super) joined: Joined,
    /// At which [`Joins::begun`] no record is expected to join it any more.
    pub(super) expires: Micros,
    /// The moment of its place in the order; others there of its key are of former connections.
    pub(super) due: Micros,
}

/// Connections that were cut by the active timeout or fell silent without an end. Bounded: where
/// there is no room, one that is older than most makes it, and what comes of it becomes an event of
/// its own.
#[derive(Debug)]
pub(super) struct Joins {
    open: HashTable<Open>,
    /// Each of them, with the moment at which to look whether it has expired, and places that those which
    /// ended left behind.
    order: VecDeque<(Micros, Key)>,
    limit: usize,
    silence_us: i64,
    /// The latest start of a record. The input clock tells the latest end of any: where rows stand in
    /// order of their starts, one long flow puts it ahead of all that follows.
    pub(super) begun: Micros,
    /// Connections that made room while a record could still have joined them.
    pub(super) evicted: u64,
    /// Which of them came, changed or went, if that is asked for.
    pub(super) touched: Option<Vec<Key>>,
}

impl Joins {
    /// At most `limit` of them. `silence_us`: the longest from one cut of a flow to the next, as far as
    /// the timeouts of the configuration tell.
    pub(super) fn new(limit: usize, silence_us: i64) -> Self {
        let (open, order) = (HashTable::new(), VecDeque::new());
        let begun = Micros::MIN;
        Self { open, order, limit, silence_us, begun, evicted: 0, touched: None }
    }

    /// One of them; `None` if it is not there any more.
    pub(super) fn get(&self, key: Key) -> Option<&Open> {
        self.open.find(hash_of(key), |open| open.key == key)
    }

    /// Puts one back.
    pub(super) fn put(&mut self, open: Open) {
        self.insert(open);
    }

    fn touch(&mut self, key: Key) {
        self.touched.iter_mut().for_each(|touched| touched.push(key));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a record of the pair with this serial number; `goes_on` says that its flow has not
    /// ended. If it joins an event, returns that event as it was, and as it is now.
    pub(super) fn take(
        &mut self,
        serial: u32,
        record: &Record,
        goes_on: bool,
        now: Micros,
    ) -> Option<(Event, Event)> {
        // No start lies ahead of the input, whatever a record claims.
        self.begun = self.begun.max(record.first.min(now));
        self.expire();
        let key = (serial, record.connection());
        let ends = record.last.plus(record.join_us());
        let stays = goes_on || !record.is_closed() && self.begun < ends;
        let silence_us = self.silence_us.max(cut_us(record, goes_on));
        let expires = now.plus(silence_us.saturating_add(record.join_us()));
        self.touch(key);
        let found = self.open.find_entry(hash_of(key), |open| open.key == key).ok();
        // One that stands behind a longer one in the order has not been looked at.
        let expired = |open: &Open| open.expires <= self.begun;
        let (old, found) = match found {
            Some(entry) if expired(entry.get()) => (Some(entry), None),
            found => (None, found),
        };
        if let Some(old) = old {
            old.remove();
        }
        let Some(mut entry) = found else {
            if stays {
                self.insert(Open { key, joined: Joined::new(*record), expires, due: expires });
            }
            return None;
        };
        let open = entry.get_mut();
        open.expires = expires;
        let joins = open.joined.takes(record);
        let old = Event::of(&open.joined.whole);
        if joins {
            open.joined.add(record);
        } else {
            open.joined = Joined::new(*record);
        }
        let new = Event::of(&open.joined.whole);
        if !stays {
            entry.remove();
        }
        joins.then_some((old, new))
    }

    fn insert(&mut self, mut open: Open) {
        if self.limit == 0 {
            self.evicted += 1;
            return;
        }
        while self.open.len() >= self.limit {
            let Some(place) = self.order.pop_front() else { break };
            if is_held(&self.open, place) {
                self.evicted += u64::from(self.remove(place.1));
            }
        }
        if self.order.len() > 2 * self.limit {
            let held = &self.open;
            self.order.retain(|&place| is_held(held, place));
        }
        self.touch(open.key);
        open.due = self.look(&open);
        self.order.push_back((open.due, open.key));
        self.open.insert_unique(hash_of(open.key), open, |open| hash_of(open.key));
    }

    fn remove(&mut self, key: Key) -> bool {
        self.touch(key);
        let entry = self.open.find_entry(hash_of(key), |open| open.key == key);
        entry.map(hashbrown::hash_table::OccupiedEntry::remove).is_ok()
    }

    /// When to look whether it has expired: soon, as those that end leave their place in the order
    /// behind, and one that is held for long would keep all behind it.
    fn look(&self, open: &Open) -> Micros {
        open.expires.min(self.begun.max(open.joined.end).plus(self.silence_us))
    }

    fn expire(&mut self) {
        while let Some(&(due, key)) = self.order.front()
            && due <= self.begun
        {
            self.order.pop_front();
            let held = self.get(key).filter(|open| open.due == due);
            let Some(&open) = held else { continue };
            if open.expires <= self.begun {
                self.remove(key);
                continue;
            }
            let due = self.look(&open);
            self.order.push_back((due, key));
            let again = self.open.find_mut(hash_of(key), |open| open.key == key);
            again.into_iter().for_each(|open| open.due = due);
        }
    }
}

/// Whether a place in the order is that of a connection that is held.
fn is_held(open: &HashTable<Open>, (due, key): (Micros, Key)) -> bool {
    open.find(hash_of(key), |open| open.key == key && open.due == due).is_some()
}

/// The longest until the next cut of a connection that an exporter cuts. Of a flow that ended here,
/// but perhaps not there, what it lasted tells: a probe without an answer is not held for long.
fn cut_us(record: &Record, goes_on: bool) -> i64 {
    if goes_on { CUT_MAX_US } else { record.last.since(record.first).min(CUT_MAX_US) }
}

fn hash_of((serial, (protocol, low, high)): Key) -> u64 {
    let ports = u64::from(protocol) << 32 | u64::from(low) << 16 | u64::from(high);
    fold_u64(u64::from(serial) ^ 0xa076_1d64_78bd_642f, ports ^ 0xe703_7ed1_a0b4_28db)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that ends and begins again leaves a place behind each time: what is kept of those is
    /// bounded, and looking through them costs no more for it.
    #[test]
    fn places_that_were_left_behind_are_forgotten() {
        const LIMIT: usize = 8;
        let mut joins = Joins::new(LIMIT, 430 * SECOND);
        let mut longest = 0;
        for round in 0..200 {
            for port in 0..LIMIT as u16 {
                let first = Micros::from_secs(1_700_000_000 + round);
                let record = Record {
                    first,
                    last: first,
                    initiator_port: port,
                    protocol: 6,
                    // It ends in every other round, and begins again in the next.
                    flags: if round % 2 == 0 { 2 } else { 4 },
                    flags_known: true,
                    ..Record::default()
                };
                joins.take(1, &record, false, first);
                let held = joins.order.iter().filter(|&&place| is_held(&joins.open, place)).count();
                assert_eq!(held, joins.len(), "each has its place");
                longest = longest.max(joins.order.len());
            }
        }
        assert!(longest <= 2 * LIMIT + 1, "{longest} places");
        assert_eq!(joins.evicted, 0);
    }
}
