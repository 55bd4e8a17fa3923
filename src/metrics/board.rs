//! Where threads publish what they count, and scrapes read it.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use super::{Latency, Ledgers, Overload, Talker};
use crate::time::Micros;

/// What one thread publishes: its ledgers, whole, at batch boundaries, and a heartbeat.
#[derive(Debug, Default)]
pub struct Slot {
    name: String,
    ledgers: Mutex<Ledgers>,
    heartbeat: AtomicU64,
    /// Microseconds spent on work, of those that passed.
    busy_us: AtomicU64,
    entries: AtomicU64,
    clock: AtomicI64,
    overload: AtomicU8,
    /// What the thread waits for, for people; empty if nothing is wrong.
    fault: Mutex<String>,
    alerts: Mutex<Latency>,
    detected: Mutex<Latency>,
    activity: Mutex<Activity>,
}

/// What a worker tells every few seconds for people to watch.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// The heaviest addresses of the last window.
    pub talkers: Vec<Talker>,
    /// Length of that window in seconds of input time.
    pub window_s: f64,
    /// Shards of the worker, each with its flows.
    pub shards: Vec<(usize, u64)>,
    /// The same with the records of the window, by a sample.
    pub loads: Vec<(usize, u64)>,
}

impl Slot {
    /// The thread's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes `ledgers`, which balance. One uncontended lock and a copy.
    pub fn publish(&self, ledgers: &Ledgers) {
        let mut slot = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone_from(ledgers);
    }

    /// Says that the thread is alive: once per turn of its loop.
    pub fn beat(&self) {
        self.heartbeat.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the thread said so.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// Adds microseconds of work.
    pub fn add_busy(&self, micros: u64) {
        self.busy_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Microseconds of work so far.
    #[must_use]
    pub fn busy_us(&self) -> u64 {
        self.busy_us.load(Ordering::Relaxed)
    }

    /// Takes in how long alerts took from the arrival of what raised them, in microseconds. One
    /// lock, uncontended but for a scrape.
    pub fn alerts_took(&self, micros: impl Iterator<Item = i64>) {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        micros.for_each(|micros| alerts.record(micros));
    }

    /// Takes in how long datagrams took from their arrival until detection was done on the last of
    /// their records, in microseconds. As [`Slot::alerts_took`].
    pub fn detection_took(&self, micros: impl Iterator<Item = i64>) {
        let mut detected = self.detected.lock().unwrap_or_else(PoisonError::into_inner);
        micros.for_each(|micros| detected.record(micros));
    }

    /// Sets how many flows the thread's tables hold.
    pub fn set_entries(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// Replaces what the worker told to watch.
    pub fn set_activity(&self, activity: Activity) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
    }

    /// What the worker told last.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in how full the input buffer of a reader is: `filled` of `room` octets. Returns the stage
    /// of overload that follows.
    pub fn set_filled(&self, filled: u64, room: u64) -> Overload {
        let before = self.overload();
        let now = before.next(filled, room);
        if now != before {
            self.overload.store(now as u8, Ordering::Relaxed);
        }
        now
    }

    /// Sets what the thread waits for, in words for people; empty if nothing is wrong.
    pub fn set_fault(&self, fault: &str) {
        let mut slot = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone_into(&mut slot);
    }

    /// What the thread waits for; empty if nothing is wrong.
    #[must_use]
    pub fn fault(&self) -> String {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn overload(&self) -> Overload {
        Overload::from_number(self.overload.load(Ordering::Relaxed))
    }

    /// Sets the thread's input clock.
    pub fn set_clock(&self, now: Micros) {
        self.clock.store(now.0, Ordering::Relaxed);
    }

    /// The thread's input clock; 0 before the first record.
    #[must_use]
    pub fn clock(&self) -> Micros {
        Micros(self.clock.load(Ordering::Relaxed))
    }
}

/// The slots of all threads of a pipeline, fixed at its start.
#[derive(Debug, Default)]
pub struct Board {
    slots: Vec<Slot>,
    /// Written while what one thread counted becomes another's.
    whole: RwLock<()>,
    /// Shards that went from one worker to another.
    moved: AtomicU64,
    /// How often the captured interface went down or away.
    lost: AtomicU64,
}

impl Board {
    /// One slot for each of `names`.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let slot = |name| Slot { name, ..Slot::default() };
        Self { slots: names.into_iter().map(slot).collect(), ..Self::default() }
    }

    /// All slots, in the order of their names at the start.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Keeps sums from being made, as long as what is returned is kept: what one thread takes from its
    /// ledgers another is to add to its own.
    pub fn hold(&self) -> impl Drop + '_ {
        self.whole.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts shards that went from one worker to another.
    pub fn add_moved(&self, shards: u64) {
        self.moved.fetch_add(shards, Ordering::Relaxed);
    }

    /// Shards that went from one worker to another.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Counts that the captured interface went down or away.
    pub fn add_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the captured interface went down or away.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The sum of what was published last. Each part balances, so the sum does.
    #[must_use]
    pub fn ledgers(&self) -> Ledgers {
        let _whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Ledgers::default();
        for slot in &self.slots {
            sum.merge(&slot.ledgers.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// How long alerts took, of all threads.
    #[must_use]
    pub fn alert_latency(&self) -> Latency {
        self.latency(|slot| &slot.alerts)
    }

    /// How long datagrams took until detection was done, of all threads.
    #[must_use]
    pub fn detection_latency(&self) -> Latency {
        self.latency(|slot| &slot.detected)
    }

    fn latency(&self, of: fn(&Slot) -> &Mutex<Latency>) -> Latency {
        let mut sum = Latency::default();
        for slot in &self.slots {
            sum.merge(&of(slot).lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// What has to give way for the reader that is worst off.
    #[must_use]
    pub fn overload(&self) -> Overload {
        self.slots.iter().map(Slot::overload).max().unwrap_or_default()
    }

    /// Flows in all tables.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.slots.iter().map(|slot| slot.entries.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_sums_up() {
        let board = Board::new(["a".to_owned(), "b".to_owned()]);
        let mut ledgers = Ledgers::default();
        ledgers.packets.read = 2;
        ledgers.packets.metered = 2;
        board.slots()[0].publish(&ledgers);
        board.slots()[1].publish(&ledgers);
        board.slots()[1].publish(&ledgers);
        assert_eq!(board.ledgers().packets.read, 4);
        assert_eq!(board.ledgers().imbalances(), Vec::<String>::new());
    }
}
