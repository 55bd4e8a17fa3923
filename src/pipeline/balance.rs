//! Shards that move: which worker owns which, and how one is handed over.
//!
//! A plan says who owns each shard. Each router that finds a new one sends what it has loaded, then
//! the plan itself to every worker, and routes by it from there on. A worker that got the plan from
//! one reader keeps back what comes from that reader until it has it from all: then nothing of any
//! shard is on its way, and every worker's clock is the same. There all workers meet, hand over the
//! shards that change, tables, windows and what the ledgers say of them, and go on.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::router::{Load, Turn};
use crate::detect::sequence;
use crate::flow::{FlowTable, Fold};
use crate::metrics::{Board, Slot};
use crate::net::SHARDS;

/// The worker of each shard.
pub type Owners = [u8; SHARDS];

/// Who owns what, from one point of each reader's input on.
#[derive(Debug)]
pub struct Plan {
    number: u64,
    /// The worker of each shard.
    pub owners: Owners,
}

/// A shard on its way from one worker to another.
pub(super) struct Moving {
    pub(super) shard: usize,
    pub(super) table: FlowTable,
    pub(super) fold: Fold,
    pub(super) windows: Option<sequence::Shard>,
}

/// What routers and workers of one pipeline share to move shards.
pub struct Balance {
    workers: usize,
    plan: ArcSwap<Plan>,
    /// That of the plan, for a look that costs nothing.
    number: AtomicU64,
    /// Workers that go by it.
    settled: AtomicUsize,
    meeting: Barrier,
    moving: Mutex<Vec<Moving>>,
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Shard `s` is with worker `s % workers`.
#[must_use]
pub fn even(workers: usize) -> Owners {
    std::array::from_fn(|shard| (shard % workers) as u8)
}

impl Balance {
    /// Shards are [`even`]ly with `workers`, 1 to 64.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let plan = Plan { number: 0, owners: even(workers) };
        Self {
            workers,
            plan: ArcSwap::from_pointee(plan),
            number: AtomicU64::new(0),
            settled: AtomicUsize::new(workers),
            meeting: Barrier::new(workers),
            moving: Mutex::default(),
        }
    }

    /// Who owns what, once the readers have seen to it.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Puts `owners` in force as readers come to it; false if an earlier plan is not in force yet.
    /// For one caller.
    pub fn propose(&self, owners: Owners) -> bool {
        debug_assert!(owners.iter().all(|&owner| usize::from(owner) < self.workers));
        if self.settled.load(Ordering::Acquire) < self.workers {
            return false;
        }
        self.settled.store(0, Ordering::Relaxed);
        let number = self.plan.load().number + 1;
        self.plan.store(Arc::new(Plan { number, owners }));
        self.number.store(number, Ordering::Release);
        true
    }

    /// The plan, if it is newer than `known`.
    pub(super) fn news(&self, known: &Plan) -> Option<Arc<Plan>> {
        (self.number.load(Ordering::Acquire) != known.number).then(|| self.plan())
    }

    /// Waits for all workers; true for one of them.
    pub(super) fn meet(&self) -> bool {
        self.meeting.wait().is_leader()
    }

    pub(super) fn give(&self, given: Vec<Moving>) {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner).extend(given);
    }

    /// What others gave of the shards that `owners` says are `worker`'s.
    pub(super) fn take(&self, worker: usize, owners: &Owners) -> Vec<Moving> {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = |moving: &mut Moving| usize::from(owners[moving.shard]) == worker;
        moving.extract_if(.., mine).collect()
    }

    /// One worker goes by the plan.
    pub(super) fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Release);
    }
}

/// The loads of one worker, in the order in which they may be worked off.
#[derive(Debug)]
pub(super) struct Gate {
    queue: VecDeque<Load>,
    /// The plan that some readers have come to.
    plan: Option<Arc<Plan>>,
    readers: Vec<Reader>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Reader {
    /// What comes from it goes by the plan in force.
    #[default]
    Before,
    /// What comes from it goes by the next plan.
    Behind,
    /// Nothing comes from it any more.
    Gone,
}

impl Gate {
    pub(super) fn new(readers: usize) -> Self {
        Self { queue: VecDeque::new(), plan: None, readers: vec![Reader::Before; readers] }
    }

    pub(super) fn come(&mut self, load: Load) {
        self.queue.push_back(load);
    }

    /// The next load that can be worked off.
    pub(super) fn next(&mut self) -> Option<Load> {
        let can = |load: &Load| self.readers[load.reader] == Reader::Before;
        let next = self.queue.iter().position(can)?;
        self.queue.remove(next)
    }

    /// `turn` was with the load of `reader` that was worked off last. Returns the plan that comes
    /// into force now, if all readers have come to one.
    pub(super) fn turned(&mut self, reader: usize, turn: Turn) -> Option<Arc<Plan>> {
        match turn {
            Turn::Plan(plan) => {
                self.plan = Some(plan);
                self.readers[reader] = Reader::Behind;
            }
            Turn::End => self.readers[reader] = Reader::Gone,
        }
        if self.readers.contains(&Reader::Before) {
            return None;
        }
        let plan = self.plan.take()?;
        let behind = self.readers.iter_mut().filter(|reader| **reader == Reader::Behind);
        behind.for_each(|reader| *reader = Reader::Before);
        Some(plan)
    }
}

/// How often the balancer looks.
const PERIOD: Duration = Duration::from_secs(10);
/// A worker that is busy for a smaller part of the time needs no help.
const BUSY: f64 = 0.5;
/// What the busiest worker has over the mean before shards move.
const UNEVEN: f64 = 1.25;
/// What the busiest worker must have less after a move, as a part of what it had.
const WORTH: f64 = 0.1;

/// Watches how busy workers are on live input, and moves shards from the busiest to the idlest.
#[derive(Debug)]
pub struct Balancer {
    balance: Arc<Balance>,
    looked: Instant,
    busy_us: Vec<u64>,
}

impl Balancer {
    /// Of the workers of `balance`.
    #[must_use]
    pub fn new(balance: Arc<Balance>) -> Self {
        let busy_us = vec![0; balance.workers];
        Self { balance, looked: Instant::now(), busy_us }
    }

    /// To be called every second or so.
    pub fn look(&mut self, board: &Board, now: Instant) {
        let passed = now.duration_since(self.looked);
        if self.balance.workers == 1 || passed < PERIOD {
            return;
        }
        self.looked = now;
        let slots = &board.slots()[..self.balance.workers];
        let busy_us: Vec<u64> = slots.iter().map(Slot::busy_us).collect();
        let before = mem::replace(&mut self.busy_us, busy_us);
        let busy = self.busy_us.iter().zip(before);
        let busy: Vec<f64> =
            busy.map(|(now, before)| (now - before) as f64 / passed.as_micros() as f64).collect();
        let mut loads = [0; SHARDS];
        for (shard, records) in slots.iter().flat_map(|slot| slot.activity().loads) {
            loads[shard] = records;
        }
        let owners = self.balance.plan().owners;
        let Some(next) = level(&owners, &loads, &busy) else { return };
        if self.balance.propose(next) {
            let moved = owners.iter().zip(&next).filter(|(from, to)| from != to).count();
            let busy: Vec<String> = busy.iter().map(|share| format!("{share:.2}")).collect();
            tracing::info!(moved, busy = busy.join(" "), "shards move: the load is uneven");
        }
    }
}

/// Who should own what, where `loads` are records of each shard of late, and `busy` is the part of the
/// time in which each worker works; `None` if it is well as it is.
fn level(owners: &Owners, loads: &[u64; SHARDS], busy: &[f64]) -> Option<Owners> {
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    let most = busy.iter().copied().fold(0.0, f64::max);
    if most < BUSY || most < mean * UNEVEN {
        return None;
    }
    let mut of_worker = vec![0; busy.len()];
    for (&owner, load) in owners.iter().zip(loads) {
        of_worker[usize::from(owner)] += load;
    }
    let cost = |shard: usize| {
        let owner = usize::from(owners[shard]);
        busy[owner] * loads[shard] as f64 / of_worker[owner].max(1) as f64
    };
    let (mut next, mut busy) = (*owners, busy.to_vec());
    for _ in 0..SHARDS {
        let by_share = |a: &usize, b: &usize| busy[*a].total_cmp(&busy[*b]);
        let busiest = (0..busy.len()).max_by(by_share)?;
        let idlest = (0..busy.len()).min_by(by_share)?;
        if busy[busiest] < mean * UNEVEN {
            break;
        }
        let helps = |shard: &usize| {
            let cost = cost(*shard);
            usize::from(next[*shard]) == busiest
                && cost > 0.0
                && busy[idlest] + cost < busy[busiest]
        };
        let shard = (0..SHARDS).filter(helps).max_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        let Some(shard) = shard else { break };
        next[shard] = idlest as u8;
        (busy[busiest], busy[idlest]) = (busy[busiest] - cost(shard), busy[idlest] + cost(shard));
    }
    let now = busy.iter().copied().fold(0.0, f64::max);
    (now <= most * (1.0 - WORTH)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Activity;

    /// Two workers, of which the first has the shards with `heavy` records, and others one.
    fn check(busy: [f64; 2], heavy: &[(usize, u64)], want: Option<&[usize]>) {
        let owners = even(2);
        let mut loads = [1; SHARDS];
        heavy.iter().for_each(|&(shard, load)| loads[shard] = load);
        let next = level(&owners, &loads, &busy);
        let moved = next.map(|next| {
            (0..SHARDS).filter(|&shard| next[shard] != owners[shard]).collect::<Vec<_>>()
        });
        assert_eq!(moved.as_deref(), want, "{busy:?} {heavy:?}");
    }

    #[test]
    fn shards_move_where_the_load_is_uneven_and_a_move_helps() {
        check([0.9, 0.8], &[(0, 100), (2, 100)], None);
        check([0.4, 0.0], &[(0, 100), (2, 100)], None);
        // Half of what the busy one has goes to the idle one.
        check([1.0, 0.2], &[(0, 1_001), (2, 1_000)], Some(&[0]));
        check([1.0, 0.0], &[(0, 1_000), (2, 600), (4, 400)], Some(&[0]));
        // One shard has it all: with the other worker it is no better.
        check([1.0, 0.2], &[(0, 1_000_000)], None);
    }

    #[test]
    fn a_level_load_stays_as_it_is() {
        let (owners, loads) = (even(4), [10; SHARDS]);
        assert_eq!(level(&owners, &loads, &[0.8, 0.8, 0.8, 0.8]), None);
        let next = level(&owners, &loads, &[1.0, 0.2, 0.2, 0.2]).expect("moves");
        let left = next.iter().filter(|&&owner| owner == 0).count();
        assert!((4..10).contains(&left), "{left} of 16 shards stay");
        // What a move should bring is what the next look sees.
        assert_eq!(level(&next, &loads, &[0.4, 0.4, 0.4, 0.4]), None);
    }

    #[test]
    fn what_workers_publish_makes_shards_move() {
        let balance = Arc::new(Balance::new(2));
        let board = Board::new(["worker-0", "worker-1", "reader-0"].map(str::to_owned));
        let mut balancer = Balancer::new(Arc::clone(&balance));
        board.slots()[0].add_busy(9_000_000);
        let loads = vec![(0, 5_000), (2, 4_000), (4, 3_000)];
        board.slots()[0].set_activity(Activity { loads, ..Activity::default() });
        let began = balancer.looked;
        balancer.look(&board, began + PERIOD / 2);
        assert_eq!(balance.plan().owners, even(2), "not yet");
        balancer.look(&board, began + PERIOD);
        let owners = balance.plan().owners;
        assert_eq!((owners[0], owners[2], owners[4]), (1, 0, 0));
        assert!(!balance.propose(even(2)), "no worker goes by the last plan yet");
    }

    /// Loads of a reader behind the plan wait until the others have come to it.
    #[test]
    fn a_plan_comes_into_force_when_all_readers_have_come_to_it() {
        let mut gate = Gate::new(3);
        let plan = || Turn::Plan(Balance::new(2).plan());
        let load = |reader| {
            let mut load = Load::default();
            load.reader = reader;
            load
        };
        assert!(gate.turned(0, plan()).is_none());
        [0, 1, 0, 2].into_iter().for_each(|reader| gate.come(load(reader)));
        assert_eq!(gate.next().map(|load| load.reader), Some(1));
        assert!(gate.turned(1, Turn::End).is_none());
        assert_eq!(gate.next().map(|load| load.reader), Some(2));
        assert!(gate.next().is_none());
        assert!(gate.turned(2, plan()).is_some());
        let rest: Vec<usize> = std::iter::from_fn(|| gate.next().map(|load| load.reader)).collect();
        assert_eq!(rest, [0, 0]);
        // The one that is gone is not waited for again.
        assert!(gate.turned(0, plan()).is_none());
        assert!(gate.turned(2, Turn::End).is_some());
        assert!(gate.turned(0, Turn::End).is_none(), "no plan, and nobody left");
    }
}
