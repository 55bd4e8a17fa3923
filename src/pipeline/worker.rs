//! The worker loop: what ended in a load is tagged and handed on.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::balance::{Balance, Gate, Moving, Plan};
use super::clock::wall;
use super::collect::PUBLISH;
use super::drops::DropLog;
use super::exchange::{Message, Outbox, PARCEL_MESSAGES};
use super::outputs::Outputs;
use super::router::{Arrivals, Load};
use super::rules::{RuleBook, Rules};
use super::sampler::Sampler;
use super::sequences::{Models, Sequences};
use super::shard::Tagger;
use crate::detect::sigma::{Costs, RuleIndex};
use crate::flow::batch::{Places, merge_all};
use crate::flow::params::Params;
use crate::flow::{FlowTable, Fold};
use crate::metrics::stages::{self, Laps, Stage};
use crate::metrics::{Activity, Board, Counts, Ledgers, Overload, Slot, Talkers};
use crate::net::SHARDS;
use crate::output::Batch;
use crate::time::{MILLISECOND, Micros, SECOND};

/// Alerts leave after so many records at most, so that none waits for the rest of its load.
const ALERTS_EVERY: usize = 64;
/// A batch of slices leaves when it holds so many,
const BATCH_RECORDS: usize = 1_024;
/// or when its first is this old, on live input.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// Input time after which shards that got no record advance, in microseconds: what fell due in them
/// leaves that much later at most, and none of it is changed.
const ADVANCE_US: i64 = MILLISECOND;
/// Input time over which top talkers are counted, in microseconds.
const WINDOW_US: i64 = 5 * SECOND;
/// Top talkers that a worker tells.
const TALKERS_TOLD: usize = 20;

/// What all workers of a pipeline share.
#[derive(Debug)]
pub struct Shared {
    /// The rules in force.
    pub rules: Arc<Rules>,
    /// The sequence model in force.
    pub models: Arc<Models>,
    /// The sinks.
    pub outputs: Outputs,
    /// What threads publish; worker `i` has the slot `i`.
    pub board: Board,
}

impl Shared {
    /// Hands the alerts of `batch`, if there are any, to the sinks, and leaves its slices.
    fn hand_alerts(&self, slot: usize, batch: &mut Batch) {
        if !batch.alerts.is_empty() {
            let alerts = mem::take(&mut batch.alerts);
            self.hand(slot, Batch { alerts, ..Batch::default() });
        }
    }

    /// Hands `batch` to the sinks, and takes the time of its alerts on the board's slot `slot`,
    /// unless the spool takes it once they are appended.
    pub fn hand(&self, slot: usize, batch: Batch) {
        let timed = !batch.alerts.is_empty() && !self.outputs.appends_alerts();
        let arrivals = batch.alerts.iter().filter(|_| timed).filter_map(|alert| alert.arrived);
        let arrivals: Vec<Micros> = arrivals.collect();
        self.outputs.hand(batch);
        if !arrivals.is_empty() {
            let now = wall();
            let took = arrivals.into_iter().map(|arrived| now.since(arrived));
            self.board.slots()[slot].alerts_took(took);
        }
    }
}

/// Owns some of the shards: at first `index`, `index + N`, ... of `N` workers.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    slot: usize,
    balance: Arc<Balance>,
    readers: usize,
    /// The core that it is pinned to.
    core: Option<usize>,
    /// The shards it owns, each with its table.
    shards: Vec<usize>,
    tables: Vec<FlowTable>,
    places: Places,
    /// Of each shard, the flows that a retro-hunt reads.
    folds: Vec<Fold>,
    silence_us: i64,
    /// Whether the tables' memory is taken at the start.
    reserve: bool,
    ledgers: Ledgers,
    alerts: Counts,
    /// What rules cost, of the book with this generation.
    costs: Arc<Costs>,
    costs_of: u32,
    sampler: Sampler,
    sequences: Option<Sequences>,
    excluded: Vec<u64>,
    passed_over: u64,
    hits: Vec<RuleIndex>,
    messages: Vec<Message>,
    outbox: Outbox,
    /// Slices that were not made for overload, and that no sink was told of yet.
    unmade: u64,
    batch: Batch,
    batch_since: Instant,
    /// The input clock when all shards advanced last.
    advanced: Micros,
    /// When the ledgers were published last, and microseconds of work since then.
    published: Option<Instant>,
    busy: Duration,
    /// All work before that.
    worked: Duration,
    laps: Laps,
    talkers: Talkers,
    /// Flows that made room for others, and what was said of them.
    evicted: u64,
    full: DropLog,
    /// When on the input clock the present window of talkers began.
    window: Micros,
    /// Records of each shard in that window, by a sample.
    loads: [u64; SHARDS],
}

impl Worker {
    /// Worker `index` of those of `balance`, fed by so many readers; it publishes on the board's slot
    /// `index`.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        params: &Arc<Params>,
        (index, balance, readers): (usize, Arc<Balance>, usize),
        core: Option<usize>,
        outbox: Outbox,
    ) -> Self {
        let owners = balance.plan().owners;
        let shards: Vec<usize> =
            (0..SHARDS).filter(|&shard| usize::from(owners[shard]) == index).collect();
        let silence_us = params.silence_us();
        let folds = shards.iter().map(|_| Fold::new(params.capacity, silence_us)).collect();
        let table = |&shard: &usize| FlowTable::of_shard(Arc::clone(params), shard);
        let tables = shards.iter().map(table).collect();
        let mut places = [u8::MAX; SHARDS];
        for (place, &shard) in (0..).zip(&shards) {
            places[shard] = place;
        }
        Self {
            shared,
            slot: index,
            balance,
            readers,
            core,
            shards,
            tables,
            places,
            folds,
            silence_us,
            reserve: params.reserve,
            ledgers: Ledgers::default(),
            alerts: Counts::default(),
            costs: Arc::default(),
            costs_of: 0,
            sampler: Sampler::default(),
            sequences: None,
            excluded: Vec::new(),
            passed_over: 0,
            hits: Vec::new(),
            messages: Vec::new(),
            outbox,
            unmade: 0,
            batch: Batch::default(),
            batch_since: Instant::now(),
            advanced: Micros::MIN,
            published: None,
            busy: Duration::ZERO,
            worked: Duration::ZERO,
            laps: Laps::default(),
            talkers: Talkers::default(),
            evicted: 0,
            full: DropLog::default(),
            window: Micros::MIN,
            loads: [0; SHARDS],
        }
    }

    /// The loop of a worker in a thread of its own: until the last reader is gone.
    pub fn run(mut self, loads: &Receiver<Load>, spent: &Sender<Load>) {
        self.settle();
        let mut gate = Gate::new(self.readers);
        while let Ok(load) = loads.recv() {
            gate.come(load);
            while let Some(mut load) = gate.next() {
                self.work(&mut load);
                let plan = load.turn.take().and_then(|turn| gate.turned(load.reader, turn));
                // A spare that finds no room is dropped: the reader has enough.
                drop(spent.try_send(load));
                if let Some(plan) = plan {
                    self.change(&plan);
                }
            }
        }
        self.finish();
    }

    /// Hands over the shards that `plan` gives to others, and takes those that it gives to this
    /// worker. All workers do so at once, at the same point of every reader's input.
    fn change(&mut self, plan: &Plan) {
        self.adopt_model();
        let balance = Arc::clone(&self.balance);
        let shared = Arc::clone(&self.shared);
        let whole = balance.meet().then(|| shared.board.hold());
        balance.meet();
        let mine = |shard: usize| usize::from(plan.owners[shard]) == self.slot;
        let leaving: Vec<usize> = self.shards.iter().copied().filter(|&s| !mine(s)).collect();
        let leaving: Vec<Moving> = leaving.into_iter().map(|shard| self.part(shard)).collect();
        shared.board.add_moved(leaving.len() as u64);
        balance.give(leaving);
        balance.meet();
        balance.take(self.slot, &plan.owners).into_iter().for_each(|moving| self.join(moving));
        self.publish(Instant::now());
        balance.meet();
        drop(whole);
        balance.settle();
    }

    /// Takes `shard` out.
    fn part(&mut self, shard: usize) -> Moving {
        let place = usize::from(mem::replace(&mut self.places[shard], u8::MAX));
        self.shards.swap_remove(place);
        let (table, fold) = (self.tables.swap_remove(place), self.folds.swap_remove(place));
        if let Some(&last) = self.shards.get(place) {
            self.places[last] = place as u8;
        }
        self.ledgers.hand_over(table.held());
        let windows = self.sequences.as_mut().map(|sequences| sequences.part(shard));
        Moving { shard, table, fold, windows }
    }

    /// Takes a shard in.
    fn join(&mut self, moving: Moving) {
        let Moving { shard, table, fold, windows } = moving;
        self.places[shard] = self.shards.len() as u8;
        self.ledgers.take_over(table.held());
        self.shards.push(shard);
        self.tables.push(table);
        self.folds.push(fold);
        if let Some(sequences) = &mut self.sequences {
            sequences.join(shard, windows);
        }
    }

    /// To be called in the thread that works, before its first load: pins it as the configuration
    /// wants it, and takes the tables' memory if that is asked for.
    pub fn settle(&mut self) {
        if let Some(core) = self.core
            && let Err(error) = super::affinity::pin(core)
        {
            tracing::warn!(worker = self.slot, core, %error, "cannot pin a worker to its core");
        }
        if self.reserve {
            self.tables.iter_mut().for_each(FlowTable::reserve);
        }
    }

    /// The rules in force, with counts of their own.
    fn book(&mut self) -> Arc<RuleBook> {
        let book = self.shared.rules.book();
        if self.costs_of != book.generation {
            (self.costs, self.costs_of) = (book.new_costs(), book.generation);
        }
        book
    }

    /// Takes over the sequence model in force, if it is another.
    fn adopt_model(&mut self) {
        let Some(book) = self.shared.models.book() else {
            self.sequences = None;
            return;
        };
        match &mut self.sequences {
            Some(sequences) => sequences.adopt(&book),
            None => {
                let (limits, live) = (&self.shared.models.limits, !self.shared.outputs.waits());
                self.sequences = Some(Sequences::new(book, limits, &self.shards, live));
            }
        }
    }

    /// Updates the tables with `load`, detects on what changed, hands on what ended. Empties the
    /// load.
    pub fn work(&mut self, load: &mut Load) {
        let began = Instant::now();
        self.laps.begin();
        let book = self.book();
        self.adopt_model();
        let overload = self.shared.board.overload();
        if let Some(sequences) = &mut self.sequences {
            sequences.hold(overload >= Overload::Scoring);
            // What moves the input clock, and so cuts slices and brings turns.
            sequences.arrived = load.arrived().last().map(|&(_, at)| at);
        }
        let mut tagger = Tagger {
            ruled: self.laps.measures().then_some(Duration::ZERO),
            modelled: self.laps.measures().then_some(Duration::ZERO),
            book: &book,
            batch: &mut self.batch,
            ships: !self.shared.outputs.sinks().is_empty(),
            alerts: &mut self.alerts,
            costs: &self.costs,
            sampler: &mut self.sampler,
            sequences: self.sequences.as_mut(),
            excluded: &mut self.excluded,
            passed_over: &mut self.passed_over,
            hits: &mut self.hits,
            messages: &mut self.messages,
            arrived: None,
            overload,
            unmade: &mut self.unmade,
            ended: false,
        };
        let Self { tables, places, ledgers, shared, slot, .. } = self;
        let before = |arrivals: &mut Arrivals<'_>, index: usize, tagger: &mut Tagger<'_>| {
            tagger.arrived = arrivals.of(index);
            if index.is_multiple_of(ALERTS_EVERY) {
                shared.hand_alerts(*slot, tagger.batch);
            }
        };
        let mut arrivals = load.arrivals();
        merge_all(&load.records, tables, places, ledgers, &mut tagger, |index, tagger| {
            before(&mut arrivals, index, tagger);
        });
        let mut arrivals = load.arrivals();
        merge_all(&load.packets, tables, places, ledgers, &mut tagger, |index, tagger| {
            before(&mut arrivals, index, tagger);
        });
        shared.hand_alerts(*slot, tagger.batch);
        tagger.arrived = None;
        for (shard, stamp, slice) in load.slices.drain(..) {
            let fold = &mut self.folds[usize::from(self.places[usize::from(shard)])];
            fold.slice(slice, stamp, &mut self.ledgers, &mut tagger);
        }
        // Before a turn all shards come to the same instant, whoever owns them.
        if load.turn.is_some() || load.now.since(self.advanced) >= ADVANCE_US {
            self.advanced = self.advanced.max(load.now);
            for (table, fold) in self.tables.iter_mut().zip(&mut self.folds) {
                table.advance(self.advanced, &mut self.ledgers, &mut tagger);
                fold.advance(self.advanced, &mut self.ledgers, &mut tagger);
                if tagger.messages.len() >= PARCEL_MESSAGES {
                    self.outbox.send(tagger.messages, &mut self.ledgers);
                }
            }
        }
        tagger.judge_waiting();
        // What slices of a retro-hunt tell of is behind the input clock.
        if !load.hunts {
            tagger.pass(load.now);
        }
        let ruled = tagger.ruled.unwrap_or_default();
        let modelled = tagger.modelled.unwrap_or_default();
        let scored = self.tell_scored();
        let idle = load.is_empty();
        if self.laps.measures() && !idle {
            stages::spend(Stage::Rules, ruled);
            stages::spend(Stage::Model, modelled.saturating_sub(scored));
            self.laps.lap(Stage::Table, ruled + modelled);
        }
        self.tell_latency(load);
        load.sample(&mut self.loads);
        load.clear();
        if let Some(flows) = self.sampler.full() {
            self.shared.rules.sampled(self.slot, flows);
        }
        // What was cut of a shard leaves before another worker cuts more of it.
        self.hand_on(began, load.turn.is_some());
        self.outbox.send(&mut self.messages, &mut self.ledgers);
        let behind = if load.hunts { self.silence_us } else { 0 };
        // Shards may lag behind the load by less than this.
        self.outbox.pass(self.advanced.plus(-behind));
        self.slot().set_clock(load.now);
        self.tell(load.now);
        let now = Instant::now();
        self.busy += now.duration_since(began);
        if idle || self.published.is_none_or(|at| now.duration_since(at) >= PUBLISH) {
            self.publish(now);
        }
    }

    /// The end of the input: ends every flow and hands on the rest.
    pub fn finish(mut self) {
        let began = Instant::now();
        let book = self.book();
        self.adopt_model();
        if let Some(sequences) = &mut self.sequences {
            sequences.arrived = None;
        }
        let mut tagger = Tagger {
            ruled: None,
            modelled: None,
            book: &book,
            batch: &mut self.batch,
            ships: !self.shared.outputs.sinks().is_empty(),
            alerts: &mut self.alerts,
            costs: &self.costs,
            sampler: &mut self.sampler,
            sequences: self.sequences.as_mut(),
            excluded: &mut self.excluded,
            passed_over: &mut self.passed_over,
            hits: &mut self.hits,
            messages: &mut self.messages,
            arrived: None,
            // Nothing comes after it that could be lost.
            overload: Overload::None,
            unmade: &mut self.unmade,
            ended: false,
        };
        self.outbox.wait();
        for (table, fold) in self.tables.iter_mut().zip(&mut self.folds) {
            if tagger.ships {
                tagger.batch.slices.reserve(table.len());
            }
            table.flush(&mut self.ledgers, &mut tagger);
            fold.flush(&mut self.ledgers, &mut tagger);
            if tagger.messages.len() >= PARCEL_MESSAGES {
                self.outbox.send(tagger.messages, &mut self.ledgers);
            }
            tagger.judge_waiting();
            // A full table at once would be more than a sink has room for.
            self.shared.outputs.flush(mem::take(tagger.batch));
        }
        tagger.finish();
        self.tell_scored();
        self.outbox.send(&mut self.messages, &mut self.ledgers);
        let now = Instant::now();
        self.busy += now.duration_since(began);
        self.publish(now);
        self.outbox.finish();
    }

    /// Tells what scoring took since the last time: it comes in bursts, so all of it is measured.
    fn tell_scored(&mut self) -> Duration {
        let scored = self.sequences.as_mut().map(|sequences| mem::take(&mut sequences.scored_for));
        let scored = scored.unwrap_or_default();
        if !scored.is_zero() {
            stages::spend_whole(Stage::Model, scored);
        }
        scored
    }

    /// Tells how long the datagrams of `load` took until now, when detection on them is done.
    fn tell_latency(&self, load: &Load) {
        let arrivals = load.arrived();
        if !arrivals.is_empty() {
            let now = wall();
            let took = arrivals.iter().map(|&(_, arrived)| now.since(arrived));
            self.slot().detection_took(took);
        }
    }

    /// Hands on the alerts, and the slices if there are enough of them, they have waited long enough,
    /// or `all` have to go.
    fn hand_on(&mut self, now: Instant, all: bool) {
        self.shared.hand_alerts(self.slot, &mut self.batch);
        if self.unmade > 0 {
            self.shared.outputs.shed_untagged(mem::take(&mut self.unmade));
        }
        let waiting = self.batch.slices.len();
        if waiting == 0 {
            self.batch_since = now;
        } else if all
            || waiting >= BATCH_RECORDS
            || now.duration_since(self.batch_since) >= BATCH_AGE
        {
            // Nobody watches a replay's.
            let watched = if self.shared.outputs.waits() { &[] } else { &self.batch.slices[..] };
            for flow in watched.iter().map(|tagged| &tagged.slice.flow) {
                let octets = flow.fwd.octets.saturating_add(flow.bwd.octets);
                self.talkers.add(flow.src, octets);
                self.talkers.add(flow.dst, octets);
            }
            let room = Batch { slices: Vec::with_capacity(BATCH_RECORDS), ..Batch::default() };
            self.shared.outputs.hand(mem::replace(&mut self.batch, room));
            self.batch_since = now;
        }
    }

    /// Tells people who talks most, and how the shards are filled, every few seconds.
    fn tell(&mut self, now: Micros) {
        if self.window == Micros::MIN {
            self.window = now;
        }
        let passed = now.since(self.window);
        if passed < WINDOW_US {
            return;
        }
        self.window = now;
        let flows = self.tables.iter().map(|table| table.len() as u64);
        let shards = self.shards.iter().copied().zip(flows).collect();
        let talkers = self.talkers.take(TALKERS_TOLD);
        let window_s = passed as f64 / SECOND as f64;
        let loads = mem::replace(&mut self.loads, [0; SHARDS]);
        let loads = self.shards.iter().map(|&shard| (shard, loads[shard])).collect();
        self.slot().set_activity(Activity { talkers, window_s, shards, loads });
    }

    fn publish(&mut self, now: Instant) {
        self.published = Some(now);
        let evicted = self.ledgers.slices.evicted;
        if let Some(flows) = self.full.add(now, evicted - self.evicted) {
            tracing::warn!(
                flows,
                "the flow table is full: flows end for others to have room (flow.entries_max)"
            );
        }
        self.evicted = evicted;
        let busy = mem::take(&mut self.busy);
        self.worked += busy;
        self.ledgers.detections.alerts.clone_from(&self.alerts);
        self.ledgers.detections.excluded.clone_from(&self.excluded);
        self.ledgers.detections.passed_over = self.passed_over;
        if let Some(sequences) = &self.sequences {
            sequences.tell(&mut self.ledgers.sequences);
        }
        let folded: usize = self.folds.iter().map(Fold::len).sum();
        let entries = folded + self.tables.iter().map(FlowTable::len).sum::<usize>();
        let slot = self.slot();
        slot.publish(&self.ledgers);
        slot.set_entries(entries as u64);
        slot.add_busy(busy.as_micros().try_into().unwrap_or(u64::MAX));
        slot.beat();
    }

    /// How long it worked since it was made.
    pub fn worked(&self) -> Duration {
        self.worked + self.busy
    }

    fn slot(&self) -> &Slot {
        &self.shared.board.slots()[self.slot]
    }
}
