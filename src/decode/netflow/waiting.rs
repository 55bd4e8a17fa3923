//! Data sets that came before their template: held in bounded room until it comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::template::TemplateKey;
use super::time::MessageTime;
use crate::metrics::Ledgers;
use crate::time::Micros;

/// What a held set costs beside its octets, so that many small ones are bounded too.
const OVERHEAD_OCTETS: usize = 256;

/// A data set that waits.
#[derive(Debug)]
pub(super) struct WaitingSet {
    serial: u64,
    pub(super) key: TemplateKey,
    pub(super) body: Box<[u8]>,
    pub(super) time: MessageTime,
}

impl WaitingSet {
    /// Octets of the set, its header included.
    pub(super) const fn octets(&self) -> u64 {
        self.body.len() as u64 + 4
    }

    const fn cost(&self) -> usize {
        self.body.len() + OVERHEAD_OCTETS
    }
}

/// A set that was dropped: of which exporter, and why.
pub(super) type Dropped = (u32, &'static str);

/// The waiting sets of one exporter. A set is found by its key without a look at the others:
/// whoever sends templates decides how often that is done.
#[derive(Debug, Default)]
struct Queue {
    /// By serial, so oldest first.
    sets: BTreeMap<u64, WaitingSet>,
    by_key: BTreeSet<(TemplateKey, u64)>,
    cost: usize,
}

impl Queue {
    fn push(&mut self, set: WaitingSet) {
        self.cost += set.cost();
        self.by_key.insert((set.key, set.serial));
        self.sets.insert(set.serial, set);
    }

    fn front(&self) -> Option<&WaitingSet> {
        self.sets.values().next()
    }

    fn remove(&mut self, serial: u64) -> Option<WaitingSet> {
        let set = self.sets.remove(&serial)?;
        self.by_key.remove(&(set.key, serial));
        self.cost -= set.cost();
        Some(set)
    }

    /// Serials of the sets, or of those of one key, that are `readable`, oldest first.
    fn select(
        &self,
        key: Option<TemplateKey>,
        mut readable: impl FnMut(&WaitingSet) -> bool,
    ) -> Vec<u64> {
        let Some(key) = key else {
            let sets = self.sets.values().filter(|set| readable(set));
            return sets.map(|set| set.serial).collect();
        };
        let serials = self.by_key.range((key, 0)..=(key, u64::MAX)).map(|&(_, serial)| serial);
        serials.filter(|serial| readable(&self.sets[serial])).collect()
    }
}

/// The waiting sets of all exporters, oldest first.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    per_exporter_max: usize,
    all_max: usize,
    lifetime_us: i64,
    queues: Vec<Queue>,
    cost: usize,
    sets: usize,
    serial: u64,
    /// Exporters and serials in the order of arrival; some are gone.
    order: VecDeque<(u32, u64)>,
}

impl WaitingRoom {
    pub(super) const fn new(per_exporter_max: usize, all_max: usize, lifetime_us: i64) -> Self {
        Self {
            per_exporter_max,
            all_max,
            lifetime_us,
            queues: Vec::new(),
            cost: 0,
            sets: 0,
            serial: 0,
            order: VecDeque::new(),
        }
    }

    pub(super) fn admit(&mut self, exporter: u32) {
        if self.queues.len() <= exporter as usize {
            self.queues.resize_with(exporter as usize + 1, Queue::default);
        }
    }

    pub(super) const fn set_limits(&mut self, per_exporter: usize, all: usize, lifetime_us: i64) {
        (self.per_exporter_max, self.all_max, self.lifetime_us) = (per_exporter, all, lifetime_us);
    }

    /// Whether `exporter` has sets here.
    pub(super) fn holds(&self, exporter: u32) -> bool {
        !self.queues[exporter as usize].sets.is_empty()
    }

    /// Takes a set in; the ledger has it as seen. What must go for it is reported in `dropped`:
    /// the exporter's own oldest, then the oldest of all.
    pub(super) fn hold(
        &mut self,
        exporter: u32,
        key: TemplateKey,
        body: &[u8],
        time: MessageTime,
        ledgers: &mut Ledgers,
        dropped: &mut Vec<Dropped>,
    ) {
        let sets = &mut ledgers.data_sets;
        let cost = body.len() + OVERHEAD_OCTETS;
        let octets = body.len() as u64 + 4;
        if cost > self.per_exporter_max.min(self.all_max) {
            sets.dropped.one("waiting_full");
            sets.dropped_octets.add("waiting_full", octets);
            dropped.push((exporter, "waiting_full"));
            return;
        }
        sets.waiting += 1;
        sets.waiting_octets += octets;
        while self.queues[exporter as usize].cost + cost > self.per_exporter_max {
            self.drop_front(exporter, "waiting_full", ledgers, dropped);
        }
        while self.cost + cost > self.all_max {
            let Some(oldest) = self.pop_oldest() else { break };
            self.drop_front(oldest, "waiting_full", ledgers, dropped);
        }
        self.serial += 1;
        let set = WaitingSet { serial: self.serial, key, body: body.into(), time };
        self.queues[exporter as usize].push(set);
        self.cost += cost;
        self.sets += 1;
        self.order.push_back((exporter, self.serial));
        if self.order.len() > 2 * self.sets + 64 {
            let queues = &self.queues;
            self.order
                .retain(|&(exporter, serial)| queues[exporter as usize].sets.contains_key(&serial));
        }
    }

    /// Takes out the sets of `exporter`, of one key or of all, that are `readable`, oldest first.
    /// The ledger no longer has them as waiting: the caller says what became of them.
    pub(super) fn take(
        &mut self,
        exporter: u32,
        key: Option<TemplateKey>,
        readable: impl FnMut(&WaitingSet) -> bool,
        ledgers: &mut Ledgers,
    ) -> Vec<WaitingSet> {
        let queue = &mut self.queues[exporter as usize];
        let serials = queue.select(key, readable);
        let taken: Vec<_> = serials.into_iter().filter_map(|serial| queue.remove(serial)).collect();
        for set in &taken {
            self.cost -= set.cost();
            self.sets -= 1;
            ledgers.data_sets.waiting -= 1;
            ledgers.data_sets.waiting_octets -= set.octets();
        }
        taken
    }

    /// Whether a set came too long ago to be decoded.
    pub(super) const fn is_expired(&self, set: &WaitingSet, stamp: Micros) -> bool {
        stamp.since(set.time.arrival) > self.lifetime_us
    }

    /// Drops what waited longer than a template lives.
    pub(super) fn expire(
        &mut self,
        stamp: Micros,
        ledgers: &mut Ledgers,
        dropped: &mut Vec<Dropped>,
    ) {
        while let Some(exporter) = self.pop_oldest() {
            let queue = &self.queues[exporter as usize];
            let front = queue.front().expect("the oldest set is at its exporter's front");
            if !self.is_expired(front, stamp) {
                self.order.push_front((exporter, front.serial));
                return;
            }
            self.drop_front(exporter, "waiting_expired", ledgers, dropped);
        }
    }

    /// Drops all of an exporter's sets, as the exporter is dropped itself.
    pub(super) fn release(
        &mut self,
        exporter: u32,
        reason: &'static str,
        ledgers: &mut Ledgers,
        dropped: &mut Vec<Dropped>,
    ) {
        while self.holds(exporter) {
            self.drop_front(exporter, reason, ledgers, dropped);
        }
    }

    /// What an exporter waits for: since when, sets and octets by template.
    pub(super) fn of(&self, exporter: u32) -> BTreeMap<TemplateKey, (Micros, u64, u64)> {
        let mut list = BTreeMap::new();
        for set in self.queues[exporter as usize].sets.values() {
            let entry = list.entry(set.key).or_insert((set.time.arrival, 0, 0));
            entry.1 += 1;
            entry.2 += set.octets();
        }
        list
    }

    /// Takes the globally oldest set's entry out of the order; the set is at its queue's front.
    fn pop_oldest(&mut self) -> Option<u32> {
        while let Some((exporter, serial)) = self.order.pop_front() {
            let front = self.queues[exporter as usize].front();
            if front.is_some_and(|set| set.serial == serial) {
                return Some(exporter);
            }
        }
        None
    }

    fn drop_front(
        &mut self,
        exporter: u32,
        reason: &'static str,
        ledgers: &mut Ledgers,
        dropped: &mut Vec<Dropped>,
    ) {
        let queue = &mut self.queues[exporter as usize];
        let oldest = queue.front().map(|set| set.serial);
        let Some(set) = oldest.and_then(|serial| queue.remove(serial)) else { return };
        self.cost -= set.cost();
        self.sets -= 1;
        let sets = &mut ledgers.data_sets;
        sets.waiting -= 1;
        sets.waiting_octets -= set.octets();
        sets.dropped.one(reason);
        sets.dropped_octets.add(reason, set.octets());
        dropped.push((exporter, reason));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::wire::Version;
    use super::*;

    fn key(id: u16) -> TemplateKey {
        TemplateKey { version: Version::Ipfix, domain: 1, id }
    }

    fn time() -> MessageTime {
        MessageTime {
            arrival: Micros::from_secs(1),
            export: Micros::from_secs(1),
            uptime_ms: None,
            boot: None,
            window_us: 0,
        }
    }

    #[test]
    fn a_template_looks_only_at_the_sets_of_its_key() {
        let mut room = WaitingRoom::new(1 << 20, 1 << 20, 1_000_000);
        let (mut ledgers, mut dropped) = (Ledgers::default(), Vec::new());
        room.admit(0);
        for id in 256..1_256 {
            for body in [&[1_u8; 4][..], &[2; 6]] {
                room.hold(0, key(id), body, time(), &mut ledgers, &mut dropped);
            }
        }
        assert_eq!((ledgers.data_sets.waiting, dropped.len()), (2_000, 0));
        let looks = Cell::new(0);
        let mut take = |wanted: Option<u16>, readable: bool| {
            looks.set(0);
            let look = |_: &WaitingSet| {
                looks.set(looks.get() + 1);
                readable
            };
            let taken = room.take(0, wanted.map(key), look, &mut ledgers);
            let octets: Vec<_> = taken.iter().map(|set| set.body.len()).collect();
            (octets, looks.get(), ledgers.data_sets.waiting)
        };
        assert_eq!(take(Some(2_000), true), (vec![], 0, 2_000), "none waits for it");
        assert_eq!(take(Some(700), false), (vec![], 2, 2_000), "it does not fit");
        assert_eq!(take(Some(700), true), (vec![4, 6], 2, 1_998), "in the order of arrival");
        assert_eq!(take(Some(700), true), (vec![], 0, 1_998), "they are gone");
        assert_eq!(take(None, false), (vec![], 1_998, 1_998), "any");
        room.release(0, "exporter_expired", &mut ledgers, &mut dropped);
        assert_eq!((ledgers.data_sets.waiting, dropped.len(), room.cost), (0, 1_998, 0));
    }
}
