//! Data sets that came before their template: held in bounded room until it comes.

use std::collections::{BTreeMap, VecDeque};

use super::template::TemplateKey;
use super::time::MessageTime;
use crate::metrics::Ledgers;
use crate::time::Micros;

/// What a held set costs beside its octets, so that many small ones are bounded too.
const OVERHEAD_OCTETS: usize = 128;

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

#[derive(Debug, Default)]
struct Queue {
    sets: VecDeque<WaitingSet>,
    cost: usize,
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
        let queue = &mut self.queues[exporter as usize];
        queue.sets.push_back(WaitingSet { serial: self.serial, key, body: body.into(), time });
        queue.cost += cost;
        self.cost += cost;
        self.sets += 1;
        self.order.push_back((exporter, self.serial));
        if self.order.len() > 2 * self.sets + 64 {
            let queues = &self.queues;
            self.order.retain(|&(exporter, serial)| {
                let sets = &queues[exporter as usize].sets;
                sets.binary_search_by_key(&serial, |set| set.serial).is_ok()
            });
        }
    }

    /// Takes out the sets of `exporter` that `wanted` names, oldest first. The ledger no longer
    /// has them as waiting: the caller says what became of them.
    pub(super) fn take(
        &mut self,
        exporter: u32,
        wanted: impl Fn(&WaitingSet) -> bool,
        ledgers: &mut Ledgers,
    ) -> Vec<WaitingSet> {
        let queue = &mut self.queues[exporter as usize];
        if !queue.sets.iter().any(&wanted) {
            return Vec::new();
        }
        let (taken, kept): (Vec<_>, Vec<_>) = queue.sets.drain(..).partition(wanted);
        queue.sets = kept.into();
        for set in &taken {
            queue.cost -= set.cost();
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
            let front = queue.sets.front().expect("the oldest set is at its exporter's front");
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
        for set in &self.queues[exporter as usize].sets {
            let entry = list.entry(set.key).or_insert((set.time.arrival, 0, 0));
            entry.1 += 1;
            entry.2 += set.octets();
        }
        list
    }

    /// Takes the globally oldest set's entry out of the order; the set is at its queue's front.
    fn pop_oldest(&mut self) -> Option<u32> {
        while let Some((exporter, serial)) = self.order.pop_front() {
            let front = self.queues[exporter as usize].sets.front();
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
        let Some(set) = queue.sets.pop_front() else { return };
        queue.cost -= set.cost();
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
