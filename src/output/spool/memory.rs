//! A sink with `durability = "memory"`: the same target, retries and ledger, but a queue in memory
//! in the place of the log. What waits in it is lost by a crash and by a stop.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::courier::{Stopped, persist, try_out};
use super::dead::DeadLetters;
use super::room::{Patience, Wait};
use super::target::{Stop, Target, Unit};
use super::{DEAD_LETTER, wall};
use crate::config::{self, Full, Select};
use crate::metrics::{Delivery, ledger};
use crate::output::files::{CLOSED, QUEUE_FULL};
use crate::output::schema::{Context, Row, Stream, Value};
use crate::output::{Batch, Ledgers, OVERLOAD, Sink};
use crate::time::Micros;

/// A handle to a running sink. Dropping it closes the sink.
pub struct MemorySink {
    name: String,
    select: Select,
    records_max: usize,
    full: Full,
    stop_s: u32,
    patience: Patience,
    context: ArcSwap<Context>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct State {
    ledger: ledger::Sink,
    queue: VecDeque<Queued>,
    /// Records of the batches in the queue, selected or not.
    queued: usize,
    closed: bool,
    delivery: Delivery,
    fault: Option<String>,
    oldest: Option<Micros>,
}

#[derive(Clone)]
struct Queued {
    batch: Arc<Batch>,
    context: Arc<Context>,
    at: Micros,
}

impl Queued {
    fn held(&self) -> usize {
        self.batch.slices.len() + self.batch.alerts.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, sink: &str, reason: &'static str, message: &str) {
        let mut state = self.lock();
        state.delivery.errors.one(reason);
        if state.fault.is_none() {
            tracing::warn!(sink, reason, "cannot deliver: {message}");
        }
        state.fault = Some(message.to_owned());
    }
}

impl MemorySink {
    /// Starts the sink `name`, which takes `select` to `target`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        config: &config::Spool,
        name: String,
        select: Select,
        target: Box<dyn Target>,
        context: Context,
    ) -> io::Result<Self> {
        let shared =
            Shared { state: Mutex::default(), changed: Condvar::new(), stop: Stop::default() };
        let shared = Arc::new(shared);
        let dead = DeadLetters::new(&config.directory, &name, select.into());
        let worker =
            Worker { shared: Arc::clone(&shared), name: name.clone(), select, dead, target };
        let thread = std::thread::Builder::new().name(format!("sink {name}"));
        let thread = Mutex::new(Some(thread.spawn(move || worker.run())?));
        Ok(Self {
            name,
            select,
            records_max: config.memory_records_max,
            full: config.full,
            stop_s: config.stop_s,
            patience: Patience::new(Duration::from_secs(config.stop_s.into())),
            context: ArcSwap::from_pointee(context),
            shared,
            thread,
        })
    }

    fn take(&self, batch: &Arc<Batch>, wait: Wait) {
        let selected = batch.count(self.select);
        if selected == 0 {
            return;
        }
        let sparse = selected * 4 <= batch.slices.len() + batch.alerts.len();
        let batch = if sparse { Arc::new(batch.only(self.select)) } else { Arc::clone(batch) };
        let queued = Queued { batch, context: self.context.load_full(), at: wall() };
        let held = queued.held();
        let full = |s: &State| s.queued > 0 && s.queued + held > self.records_max;
        let (changed, state) = (&self.shared.changed, self.shared.lock());
        let waits = |s: &State| full(s) && !s.closed;
        let mut state = self.patience.wait(wait, changed, state, waits, |s| s.queued);
        state.ledger.selected += selected as u64;
        if state.closed {
            return state.ledger.shed.add(CLOSED, selected as u64);
        }
        while full(&state) {
            let oldest = (self.full == Full::Oldest).then(|| state.queue.pop_front()).flatten();
            let Some(oldest) = oldest else {
                return state.ledger.shed.add(QUEUE_FULL, selected as u64);
            };
            state.queued -= oldest.held();
            let lost = oldest.batch.count(self.select) as u64;
            state.ledger.spooled -= lost;
            state.ledger.shed.add(QUEUE_FULL, lost);
        }
        state.queued += held;
        state.ledger.spooled += selected as u64;
        state.queue.push_back(queued);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Sink for MemorySink {
    fn offer(&self, batch: &Arc<Batch>) {
        self.take(batch, Wait::No);
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.take(batch, Wait::Ever);
    }

    fn offer_last(&self, batch: &Arc<Batch>) {
        self.take(batch, Wait::Moving);
    }

    fn shed_untagged(&self, slices: u64) {
        if self.select == Select::Slices {
            let mut state = self.shared.lock();
            state.ledger.selected += slices;
            state.ledger.shed.add(OVERLOAD, slices);
        }
    }

    fn ledgers(&self) -> Ledgers {
        [(self.name.clone(), self.shared.lock().ledger.clone())].into()
    }

    fn deliveries(&self) -> std::collections::BTreeMap<String, Delivery> {
        let state = self.shared.lock();
        let oldest = state.oldest.or_else(|| state.queue.front().map(|queued| queued.at));
        let age = oldest.map_or(0, |oldest| wall().since(oldest).max(0));
        let delivery = Delivery { oldest_us: age.unsigned_abs(), ..state.delivery.clone() };
        [(self.name.clone(), delivery)].into()
    }

    fn set_context(&self, context: Context) {
        self.context.store(Arc::new(context));
    }

    fn faults(&self) -> Vec<(String, String)> {
        let fault = self.shared.lock().fault.clone();
        fault.into_iter().map(|fault| (self.name.clone(), fault)).collect()
    }

    fn close(&self) -> Ledgers {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.shared.lock().closed = true;
            self.shared.stop.within(Duration::from_secs(self.stop_s.into()));
            self.shared.changed.notify_all();
            super::join_until_over(vec![thread], &self.shared.stop);
            let mut state = self.shared.lock();
            let lost = std::mem::take(&mut state.ledger.spooled);
            state.ledger.shed.add(CLOSED, lost);
            if lost > 0 {
                tracing::warn!(sink = self.name, records = lost, ledger = ?state.ledger,
                    "lost by the stop: they waited in memory, and were not delivered in the time for it");
            }
        }
        self.ledgers()
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.close();
    }
}

struct Worker {
    shared: Arc<Shared>,
    name: String,
    select: Select,
    dead: DeadLetters,
    target: Box<dyn Target>,
}

impl Worker {
    fn run(mut self) {
        self.try_out();
        while let Some(unit) = self.next() {
            let shared = Arc::clone(&self.shared);
            let delivered = persist(
                &shared.stop,
                |reason, message| shared.failed(&self.name, reason, message),
                |again| {
                    shared.lock().delivery.retries += u64::from(again);
                    self.target.deliver(&unit, &shared.stop)
                },
            );
            let Ok(delivered) = delivered.map_err(|Stopped| ()) else { return };
            let (all, dead) = (unit.len() as u64, delivered.dead.len() as u64);
            let mut state = shared.lock();
            state.oldest = None;
            state.fault = None;
            // After the close all that waits is lost already.
            let settled = all.min(state.ledger.spooled);
            state.ledger.spooled -= settled;
            state.ledger.acknowledged += settled.saturating_sub(dead);
            state.ledger.shed.add(DEAD_LETTER, dead.min(settled));
            state.delivery.octets += delivered.octets;
            state.delivery.units += 1;
            drop(state);
            let unit: &dyn Unit = &unit;
            let dead = delivered.dead.into_iter();
            let dead = dead.filter_map(|(row, reason)| Some((unit.records().nth(row)?, reason)));
            if let Err(error) = self.dead.write(dead) {
                tracing::error!(sink = self.name, %error, "cannot write the dead-letter file");
            }
        }
    }

    /// Tells before the first record whether the other side is there.
    fn try_out(&mut self) {
        let shared = Arc::clone(&self.shared);
        let there = try_out(
            &shared.stop,
            || !shared.lock().queue.is_empty(),
            |reason, message| shared.failed(&self.name, reason, message),
            || self.target.probe(&shared.stop),
        );
        if there && shared.lock().fault.take().is_some() {
            tracing::info!(sink = self.name, "the other side is there now");
        }
    }

    /// What waits, as one unit; `None` when the sink is closed and nothing does.
    fn next(&self) -> Option<Batches> {
        let mut state = self.shared.lock();
        while state.queue.is_empty() {
            if state.closed {
                return None;
            }
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let mut unit = Batches::new(self.select, self.target.unit_records());
        state.oldest = state.queue.front().map(|queued| queued.at);
        while let Some(queued) = state.queue.front() {
            if !unit.add(queued) {
                break;
            }
            state.queued -= queued.held();
            state.queue.pop_front();
        }
        drop(state);
        self.shared.changed.notify_all();
        Some(unit)
    }
}

/// What a sink selects of some batches.
struct Batches {
    select: Select,
    records_max: usize,
    batches: Vec<Queued>,
    /// Each record's batch and place in it.
    rows: Vec<(u32, u32)>,
}

impl Batches {
    fn new(select: Select, records_max: usize) -> Self {
        Self { select, records_max, batches: Vec::new(), rows: Vec::new() }
    }

    /// Adds what is selected of `queued`, if it still fits: the first always does.
    fn add(&mut self, queued: &Queued) -> bool {
        let batch = &queued.batch;
        if !self.rows.is_empty() && self.rows.len() + batch.count(self.select) > self.records_max {
            return false;
        }
        let at = u32::try_from(self.batches.len()).expect("few batches");
        let taken =
            |index: &usize| self.select != Select::Tagged || !batch.slices[*index].rules.is_empty();
        let len = match self.select {
            Select::Slices | Select::Tagged => batch.slices.len(),
            Select::Alerts => batch.alerts.len(),
        };
        let rows = (0..len).filter(taken);
        self.rows.extend(rows.map(|row| (at, u32::try_from(row).expect("a batch is small"))));
        self.batches.push(queued.clone());
        true
    }
}

impl Unit for Batches {
    fn stream(&self) -> Stream {
        self.select.into()
    }

    fn spool(&self) -> u64 {
        0
    }

    fn segment(&self) -> u64 {
        0
    }

    fn created(&self) -> Micros {
        self.batches[0].at
    }

    fn offset(&self) -> u64 {
        0
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, index: usize) -> Value<'_> {
        let (batch, row) = self.rows[row];
        let Queued { batch, context, .. } = &self.batches[batch as usize];
        let row = match self.stream() {
            Stream::Slices => Row::from(&batch.slices[row as usize]),
            Stream::Alerts => Row::from(&batch.alerts[row as usize]),
        };
        (self.stream().table()[index].get)(&row, context)
    }
}
