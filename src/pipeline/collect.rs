//! The reader of NetFlow and IPFIX over UDP: fill a batch, decode it, route it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::router::Router;
use super::state::Saver;
use super::worker::Shared;
use crate::decode::netflow::{Collector, CollectorTotals, ExporterReport};
use crate::flow::FlowRecord;
use crate::input::udp::{BATCH, Receiver, wait};
use crate::metrics::Ledgers;
use crate::time::{InputClock, Micros};

/// How long the reader waits for a datagram before it ticks the clock.
const WAIT_MS: i32 = 100;
/// Stopping, how long the reader goes on with what is queued in its sockets.
const DRAIN: Duration = Duration::from_secs(1);
/// How often reports are made, templates expire and state is saved.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What the collector's reader tells the rest of the sensor: sums once a second, reports when
/// somebody asks.
#[derive(Debug, Default)]
pub struct ExporterBoard {
    reports: ArcSwap<Vec<ExporterReport>>,
    wanted: AtomicBool,
    /// Their sums.
    pub totals: ArcSwap<CollectorTotals>,
}

impl ExporterBoard {
    /// One report per exporter: asks the reader and waits for its answer, half a second at most;
    /// then the last ones are taken.
    #[must_use]
    pub fn reports(&self) -> Arc<Vec<ExporterReport>> {
        let before = self.reports.load_full();
        self.wanted.store(true, Ordering::Relaxed);
        for _ in 0..50 {
            let now = self.reports.load_full();
            if !Arc::ptr_eq(&before, &now) {
                return now;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        before
    }
}

/// The reader of all UDP sockets.
#[derive(Debug)]
pub struct Collect {
    /// The sockets.
    pub receivers: Vec<Receiver>,
    /// Exporters' state and decoding.
    pub collector: Collector,
    /// To the workers.
    pub router: Router,
    /// The board's slot of this reader.
    pub slot: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Where reports go.
    pub exporters: Arc<ExporterBoard>,
    /// Where templates are kept over a restart.
    pub state: Option<PathBuf>,
    /// Set when the sensor stops.
    pub stop: Arc<AtomicBool>,
}

/// The wall clock, in microseconds.
#[must_use]
pub fn wall() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What the loop carries along.
#[derive(Debug, Default)]
struct Turn {
    ledgers: Ledgers,
    clock: InputClock,
    records: Vec<FlowRecord>,
}

impl Collect {
    /// The loop. Returns when the sensor stops or a socket fails, with every flow handed on.
    ///
    /// # Errors
    /// If a socket fails for good.
    pub fn run(mut self) -> io::Result<()> {
        self.router.pin();
        let mut turn = Turn::default();
        let mut saver = Saver::new(self.state.take(), self.collector.state_generation());
        let result = self.read(&mut turn, &mut saver);
        self.report(turn.clock.now());
        saver.finish(&self.collector.export_state());
        self.publish(&turn.ledgers);
        self.router.finish(turn.clock.now());
        result
    }

    fn read(&mut self, turn: &mut Turn, saver: &mut Saver) -> io::Result<()> {
        let mut housekept = Instant::now();
        let mut stopped: Option<Instant> = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                stopped.get_or_insert_with(Instant::now);
            }
            let ready = wait(&self.receivers, if stopped.is_some() { 0 } else { WAIT_MS })?;
            // What was queued when the sensor was told to stop is still taken.
            if stopped.is_some_and(|since| !ready || since.elapsed() > DRAIN) {
                return Ok(());
            }
            let now = wall();
            if !self.receive(ready, turn)? {
                // Nothing that arrived before is left in a socket: the clock may go on to here.
                turn.clock.stamp(now);
            }
            let stamp = turn.clock.now();
            if housekept.elapsed() >= HOUSEKEEPING {
                housekept = Instant::now();
                self.collector.tick(stamp, &mut turn.ledgers);
                self.exporters.totals.store(Arc::new(self.collector.totals()));
                let generation = self.collector.state_generation();
                saver.save(generation, || self.collector.export_state());
            }
            if self.exporters.wanted.swap(false, Ordering::Relaxed) {
                self.report(stamp);
            }
            self.router.flush(stamp);
            self.publish(&turn.ledgers);
        }
    }

    /// Takes one batch from each socket; whether one may hold more. Records go on after each
    /// datagram: one datagram bounds what is held here.
    fn receive(&mut self, ready: bool, turn: &mut Turn) -> io::Result<bool> {
        let Turn { ledgers, records, clock } = turn;
        let mut more = false;
        for receiver in &mut self.receivers {
            let count = if ready { receiver.receive(0)? } else { receiver.idle() };
            more |= count == BATCH;
            for index in 0..count {
                let arrived = receiver.arrived(index).unwrap_or_else(wall);
                let stamp = clock.stamp(arrived);
                self.router.arrived(arrived);
                let (address, port, payload) = receiver.datagram(index);
                self.collector.datagram((address, port), stamp, payload, records, ledgers);
                for record in records.drain(..) {
                    self.router.record(record);
                }
            }
            ledgers.datagrams.kernel_drops += receiver.take_kernel_drops();
        }
        Ok(more)
    }

    fn publish(&self, ledgers: &Ledgers) {
        let slot = &self.shared.board.slots()[self.slot];
        slot.publish(ledgers);
        slot.beat();
    }

    fn report(&self, now: Micros) {
        self.exporters.reports.store(Arc::new(self.collector.report(now)));
        self.exporters.totals.store(Arc::new(self.collector.totals()));
    }
}
