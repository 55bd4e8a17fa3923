//! The reader's side: records to the workers that own their shards.

use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::balance::{Balance, Plan};
use super::worker::Worker;
use crate::flow::batch::Mergeable;
use crate::flow::{FlowRecord, PacketRecord, Slice};
use crate::net::{SHARDS, pair_hash, shard_of};
use crate::time::Micros;

/// Records in a load before it is sent off on its own: few enough that the second-level cache still
/// holds them when they are merged.
const LOAD_RECORDS: usize = 512;
/// Of so many records one is looked at for the load of its shard.
const SAMPLED: usize = 16;
/// Loads that may wait for a worker; beyond, the reader waits, and the kernel's buffer holds and
/// counts what does not fit.
const LOADS_MAX: usize = 16;

/// What a reader hands to a worker at once: records of its shards, in the order of the input.
#[derive(Debug, Default)]
pub struct Load {
    /// Records.
    pub records: Vec<FlowRecord>,
    /// Packets.
    pub packets: Vec<PacketRecord>,
    /// Slices of a retro-hunt with their shard and the input clock at each.
    pub slices: Vec<(u8, Micros, Slice)>,
    /// Whether slices are read: they tell of what was a while before the input clock.
    pub hunts: bool,
    /// The input clock after the last of them; all shards advance to it.
    pub now: Micros,
    /// The reader that loaded it.
    pub(super) reader: usize,
    /// What is to be done once it is worked off.
    pub(super) turn: Option<Turn>,
    /// On live input: from which record (or packet) on which arrival holds.
    arrivals: Vec<(usize, Micros)>,
    /// When what is loaded next arrived.
    arrived: Option<Micros>,
    /// How much of it has its arrival noted.
    marked: usize,
}

/// What comes after a load of one reader.
#[derive(Debug)]
pub(super) enum Turn {
    /// The reader routes by this plan.
    Plan(Arc<Plan>),
    /// Nothing.
    End,
}

/// When the records of a load arrived, asked in their order.
#[derive(Debug)]
pub struct Arrivals<'a> {
    rest: &'a [(usize, Micros)],
    now: Option<Micros>,
}

impl Arrivals<'_> {
    /// When record `index` arrived; `None` in a replay.
    pub fn of(&mut self, index: usize) -> Option<Micros> {
        while let Some((&(from, arrived), rest)) = self.rest.split_first()
            && from <= index
        {
            (self.now, self.rest) = (Some(arrived), rest);
        }
        self.now
    }
}

impl Load {
    /// When its records, or its packets, arrived: a reader loads one kind only.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals<'_> {
        Arrivals { rest: &self.arrivals, now: None }
    }

    /// On live input: from which record (or packet) on which arrival holds.
    #[must_use]
    pub fn arrived(&self) -> &[(usize, Micros)] {
        &self.arrivals
    }

    /// Whether there is nothing in it but the clock.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.records.clear();
        self.packets.clear();
        self.arrivals.clear();
        self.marked = 0;
    }

    /// Notes the arrival of what was loaded since the last call.
    fn mark(&mut self) {
        let from = self.marked;
        self.marked = self.len();
        if let Some(arrived) = self.arrived
            && from < self.marked
            && self.arrivals.last().is_none_or(|&(_, last)| last != arrived)
        {
            self.arrivals.push((from, arrived));
        }
    }

    /// Adds how many records each shard has, by one in [`SAMPLED`].
    pub(super) fn sample(&self, loads: &mut [u64; SHARDS]) {
        let records = self.records.iter().map(Mergeable::shard).step_by(SAMPLED);
        let packets = self.packets.iter().map(Mergeable::shard).step_by(SAMPLED);
        records.chain(packets).for_each(|shard| loads[shard] += SAMPLED as u64);
    }

    const fn len(&self) -> usize {
        self.records.len() + self.packets.len() + self.slices.len()
    }
}

/// A worker without records is told the time no more often than this, in microseconds.
const TICK_US: i64 = 50_000;

/// A worker in a thread of its own, and the rings to and from it.
#[derive(Debug)]
pub struct Ring {
    loads: Sender<Load>,
    spent: Receiver<Load>,
    reader: usize,
    told: Micros,
    /// How long its reader waited for room in it.
    waited: Duration,
}

/// Routes what one reader decodes.
#[derive(Debug)]
pub enum Router {
    /// The reader's own thread is the worker.
    Inline(Box<Worker>, Load),
    /// Workers in threads of their own.
    Rings(Box<Rings>),
}

/// The rings to all workers.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<(Ring, Load)>,
    /// Records are decoded into it, and from there go to the loads of their workers.
    batch: Vec<FlowRecord>,
    /// Who owns which shard, for what is loaded now.
    plan: Arc<Plan>,
    balance: Arc<Balance>,
}

/// Starts the thread of `worker`; it ends, flows flushed, when all routers to it are gone.
///
/// # Errors
/// If the operating system refuses a thread.
pub fn spawn(worker: Worker, index: usize) -> std::io::Result<(RingSeed, JoinHandle<()>)> {
    let (loads, inbox) = crossbeam_channel::bounded(LOADS_MAX);
    let (done, spent) = crossbeam_channel::bounded(LOADS_MAX * 2);
    let thread = std::thread::Builder::new().name(format!("weir-worker-{index}"));
    let thread = thread.spawn(move || worker.run(&inbox, &done))?;
    Ok((RingSeed { loads, spent }, thread))
}

/// What routers to one worker are made of: each reader gets its own sender.
#[derive(Clone, Debug)]
pub struct RingSeed {
    loads: Sender<Load>,
    spent: Receiver<Load>,
}

impl Router {
    /// Works in the reader's thread.
    #[must_use]
    pub fn inline(worker: Worker) -> Self {
        Self::Inline(Box::new(worker), Load::default())
    }

    /// Sends to the threads of several workers.
    #[must_use]
    pub fn rings(seeds: &[RingSeed], reader: usize, balance: Arc<Balance>) -> Self {
        let ring = |seed: &RingSeed| {
            let (loads, spent) = (seed.loads.clone(), seed.spent.clone());
            let ring = Ring { loads, spent, reader, told: Micros::MIN, waited: Duration::ZERO };
            (ring, Load::default())
        };
        // The first: readers that start while a plan comes into force would miss it.
        let plan = balance.plan();
        let rings = seeds.iter().map(ring).collect();
        Self::Rings(Box::new(Rings { rings, batch: Vec::new(), plan, balance }))
    }

    /// Says when what comes next arrived, on live input: alerts on it are timed from then.
    pub fn arrived(&mut self, at: Micros) {
        match self {
            Self::Inline(_, load) => load.arrived = Some(at),
            Self::Rings(all) => {
                all.rings.iter_mut().for_each(|(_, load)| load.arrived = Some(at));
            }
        }
    }

    /// How long the reader's thread was about something else than its input: waited for workers, or was
    /// the worker itself.
    #[must_use]
    pub fn elsewhere(&self) -> Duration {
        match self {
            Self::Inline(worker, _) => worker.worked(),
            Self::Rings(all) => all.rings.iter().map(|(ring, _)| ring.waited).sum(),
        }
    }

    /// Where a decoder puts the records of a datagram; [`Router::decoded`] is to be called then. With
    /// one worker this is its load: a record is written once, where it is merged from.
    pub fn batch(&mut self) -> &mut Vec<FlowRecord> {
        match self {
            Self::Inline(_, load) => &mut load.records,
            Self::Rings(all) => &mut all.batch,
        }
    }

    /// Takes in what was put into [`Router::batch`] since the last call, all of which arrived when
    /// [`Router::arrived`] said. Returns whether there is a full load for [`Router::work_off`].
    pub fn decoded(&mut self) -> bool {
        match self {
            Self::Inline(_, load) => {
                load.mark();
                load.len() >= LOAD_RECORDS
            }
            Self::Rings(all) => {
                let mut batch = mem::take(&mut all.batch);
                batch.drain(..).for_each(|record| self.record(record));
                *self.batch() = batch;
                false
            }
        }
    }

    /// Works off the load of an inline worker.
    pub fn work_off(&mut self, now: Micros) {
        if let Self::Inline(worker, load) = self {
            load.now = now;
            worker.work(load);
        }
    }

    /// Takes in one flow record. May work off or send off a full load.
    pub fn record(&mut self, record: FlowRecord) {
        let shard = record.shard();
        let now = record.stamp;
        let load = self.load(shard);
        load.records.push(record);
        load.mark();
        self.push_off(shard, now);
    }

    /// Takes in one packet.
    pub fn packet(&mut self, packet: PacketRecord) {
        let shard = packet.shard();
        let now = packet.stamp;
        let load = self.load(shard);
        load.packets.push(packet);
        load.mark();
        self.push_off(shard, now);
    }

    /// Takes in one slice of a retro-hunt; `now` is the input clock.
    pub fn slice(&mut self, slice: Slice, now: Micros) {
        self.hunt();
        let flow = &slice.flow;
        let shard = shard_of(pair_hash(flow.site, flow.src, flow.dst));
        self.load(shard).slices.push((shard as u8, now, slice));
        self.push_off(shard, now);
    }

    /// From now on workers reckon with slices that tell of earlier times.
    fn hunt(&mut self) {
        match self {
            Self::Inline(_, load) => load.hunts = true,
            Self::Rings(all) if all.rings.iter().all(|(_, load)| load.hunts) => {}
            Self::Rings(all) => all.rings.iter_mut().for_each(|(_, load)| load.hunts = true),
        }
    }

    fn load(&mut self, shard: usize) -> &mut Load {
        match self {
            Self::Inline(_, load) => load,
            Self::Rings(all) => {
                let owner = all.plan.owners[shard];
                &mut all.rings[usize::from(owner)].1
            }
        }
    }

    fn push_off(&mut self, shard: usize, now: Micros) {
        match self {
            Self::Inline(worker, load) => {
                if load.len() >= LOAD_RECORDS {
                    load.now = now;
                    worker.work(load);
                }
            }
            Self::Rings(all) => {
                let owner = all.plan.owners[shard];
                let (ring, load) = &mut all.rings[usize::from(owner)];
                if load.len() >= LOAD_RECORDS {
                    ring.send(load, now);
                }
            }
        }
    }

    /// Hands over all that is loaded, and the clock, to every worker.
    pub fn flush(&mut self, now: Micros) {
        match self {
            Self::Inline(worker, load) => {
                load.now = now;
                worker.work(load);
            }
            Self::Rings(all) => {
                if let Some(plan) = all.balance.news(&all.plan) {
                    for (ring, load) in &mut all.rings {
                        load.turn = Some(Turn::Plan(Arc::clone(&plan)));
                        ring.send(load, now);
                    }
                    all.plan = plan;
                    return;
                }
                for (ring, load) in &mut all.rings {
                    if !load.is_empty() || now.since(ring.told) >= TICK_US {
                        ring.send(load, now);
                    }
                }
            }
        }
    }

    /// To be called in a reader's thread before it reads: a worker in it settles there.
    pub fn settle(&mut self) {
        if let Self::Inline(worker, _) = self {
            worker.settle();
        }
    }

    /// The end of the input: the worker in this thread ends its flows; those in other threads do
    /// when the last router to them is gone.
    pub fn finish(self, now: Micros) {
        match self {
            Self::Inline(mut worker, mut load) => {
                load.now = now;
                worker.work(&mut load);
                worker.finish();
            }
            Self::Rings(all) => {
                for (mut ring, mut load) in all.rings {
                    load.turn = Some(Turn::End);
                    ring.send(&mut load, now);
                }
            }
        }
    }
}

impl Ring {
    fn send(&mut self, load: &mut Load, now: Micros) {
        self.told = now;
        let spare = self.spent.try_recv().unwrap_or_default();
        let mut full = mem::replace(load, spare);
        load.hunts = full.hunts;
        full.now = now;
        full.reader = self.reader;
        load.arrived = full.arrived;
        // The worker outlives its rings: it ends only after the last sender is gone.
        let gone = match self.loads.try_send(full) {
            Ok(()) => false,
            Err(TrySendError::Full(full)) => {
                let since = Instant::now();
                let sent = self.loads.send(full);
                self.waited += since.elapsed();
                sent.is_err()
            }
            Err(TrySendError::Disconnected(_)) => true,
        };
        if gone {
            tracing::error!("a worker is gone: its records are lost");
        }
    }
}
