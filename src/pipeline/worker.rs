//! The worker loop: what ended in a load is tagged and handed on.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::exchange::{Message, Outbox, PARCEL_MESSAGES};
use super::outputs::Outputs;
use super::router::Load;
use super::rules::Rules;
use super::shard::Tagger;
use crate::detect::sigma::RuleIndex;
use crate::flow::FlowTable;
use crate::flow::params::Params;
use crate::metrics::{Board, Counts, Ledgers, Slot};
use crate::net::SHARDS;
use crate::output::Batch;

/// Alerts leave at once. A batch of slices leaves when it holds so many,
const BATCH_RECORDS: usize = 1_024;
/// or when its first is this old, on live input.
const BATCH_AGE: Duration = Duration::from_millis(50);

/// What all workers of a pipeline share.
#[derive(Debug)]
pub struct Shared {
    /// The rules in force.
    pub rules: Rules,
    /// The sinks.
    pub outputs: Outputs,
    /// What threads publish; worker `i` has the slot `i`.
    pub board: Board,
}

/// Owns the shards `index`, `index + N`, ... of `N` workers.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    slot: usize,
    workers: usize,
    pin: bool,
    tables: Vec<FlowTable>,
    ledgers: Ledgers,
    alerts: Counts,
    excluded: Vec<u64>,
    hits: Vec<RuleIndex>,
    messages: Vec<Message>,
    outbox: Outbox,
    batch: Batch,
    batch_since: Instant,
}

impl Worker {
    /// Worker `index` of `workers`; it publishes on the board's slot `index`.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        params: &Arc<Params>,
        (index, workers): (usize, usize),
        pin: bool,
        outbox: Outbox,
    ) -> Self {
        let tables = (index..SHARDS).step_by(workers);
        let tables = tables.map(|_| FlowTable::new(Arc::clone(params))).collect();
        Self {
            shared,
            slot: index,
            workers,
            pin,
            tables,
            ledgers: Ledgers::default(),
            alerts: Counts::default(),
            excluded: Vec::new(),
            hits: Vec::new(),
            messages: Vec::new(),
            outbox,
            batch: Batch::default(),
            batch_since: Instant::now(),
        }
    }

    /// The loop of a worker in a thread of its own: until the last reader is gone.
    pub fn run(mut self, loads: &Receiver<Load>, spent: &Sender<Load>) {
        self.pin();
        while let Ok(mut load) = loads.recv() {
            self.work(&mut load);
            // A spare that finds no room is dropped: the reader has enough.
            drop(spent.try_send(load));
        }
        self.finish();
    }

    /// Pins the calling thread as the configuration wants it.
    pub fn pin(&self) {
        if !self.pin {
            return;
        }
        if let Err(error) = super::affinity::pin(self.slot) {
            tracing::warn!(worker = self.slot, %error, "cannot pin a worker to a core");
        }
    }

    /// Updates the tables with `load`, detects on what changed, hands on what ended. Empties the
    /// load.
    pub fn work(&mut self, load: &mut Load) {
        let began = Instant::now();
        let book = self.shared.rules.book();
        let mut tagger = Tagger {
            book: &book,
            batch: &mut self.batch,
            ships: !self.shared.outputs.sinks().is_empty(),
            alerts: &mut self.alerts,
            excluded: &mut self.excluded,
            hits: &mut self.hits,
            messages: &mut self.messages,
            ended: false,
        };
        for (shard, record) in &load.records {
            let table = &mut self.tables[usize::from(*shard) / self.workers];
            table.record(record, &mut self.ledgers, &mut tagger);
        }
        for (shard, packet) in &load.packets {
            let table = &mut self.tables[usize::from(*shard) / self.workers];
            table.packet(packet, &mut self.ledgers, &mut tagger);
        }
        for table in &mut self.tables {
            table.advance(load.now, &mut self.ledgers, &mut tagger);
            if tagger.messages.len() >= PARCEL_MESSAGES {
                self.outbox.send(tagger.messages, &mut self.ledgers);
            }
        }
        load.records.clear();
        load.packets.clear();
        self.hand_on(began);
        self.outbox.send(&mut self.messages, &mut self.ledgers);
        self.outbox.pass(load.now);
        self.slot().set_clock(load.now);
        self.publish(began);
    }

    /// The end of the input: ends every flow and hands on the rest.
    pub fn finish(mut self) {
        let began = Instant::now();
        let book = self.shared.rules.book();
        let mut tagger = Tagger {
            book: &book,
            batch: &mut self.batch,
            ships: !self.shared.outputs.sinks().is_empty(),
            alerts: &mut self.alerts,
            excluded: &mut self.excluded,
            hits: &mut self.hits,
            messages: &mut self.messages,
            ended: false,
        };
        self.outbox.wait();
        for table in &mut self.tables {
            table.flush(&mut self.ledgers, &mut tagger);
            if tagger.messages.len() >= PARCEL_MESSAGES {
                self.outbox.send(tagger.messages, &mut self.ledgers);
            }
        }
        self.outbox.send(&mut self.messages, &mut self.ledgers);
        self.shared.outputs.hand(mem::take(&mut self.batch));
        self.publish(began);
        self.outbox.finish();
    }

    fn hand_on(&mut self, now: Instant) {
        if !self.batch.alerts.is_empty() {
            let alerts = mem::take(&mut self.batch.alerts);
            self.shared.outputs.hand(Batch { alerts, ..Batch::default() });
        }
        let waiting = self.batch.slices.len();
        if waiting == 0 {
            self.batch_since = now;
        } else if waiting >= BATCH_RECORDS || now.duration_since(self.batch_since) >= BATCH_AGE {
            self.shared.outputs.hand(mem::take(&mut self.batch));
            self.batch_since = now;
        }
    }

    fn publish(&mut self, began: Instant) {
        self.ledgers.detections.alerts.clone_from(&self.alerts);
        self.ledgers.detections.excluded.clone_from(&self.excluded);
        let entries: usize = self.tables.iter().map(FlowTable::len).sum();
        let slot = self.slot();
        slot.publish(&self.ledgers);
        slot.set_entries(entries as u64);
        slot.add_busy(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        slot.beat();
    }

    fn slot(&self) -> &Slot {
        &self.shared.board.slots()[self.slot]
    }
}
