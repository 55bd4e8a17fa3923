//! The reader of NetFlow and IPFIX over UDP: fill a batch, decode it, route it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::clock::{self, wall};
use super::overload::Filling;
use super::pace::{Pace, Pause};
use super::router::Router;
use super::state::Saver;
use super::worker::Shared;
use crate::decode::netflow::{Collector, CollectorTotals, ExporterReport};
use crate::input::udp::{BATCH, Receiver, wait};
use crate::metrics::Ledgers;
use crate::metrics::stages::{Laps, Stage};
use crate::output::tee::Tee;
use crate::time::{InputClock, Micros};

/// How long the reader waits for a datagram before it ticks the clock.
const WAIT_MS: i32 = 100;
/// Stopping, how long the reader goes on with what is queued in its sockets, at most.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the ledgers are published while there is traffic; without any, at each turn.
pub(super) const PUBLISH: Duration = Duration::from_millis(5);
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
    /// Where datagrams go on to as they came.
    pub tees: Vec<Tee>,
    /// When it looks for datagrams.
    pub pace: Pace,
    /// Set when the sensor stops.
    pub stop: Arc<AtomicBool>,
}

/// What the loop carries along.
#[derive(Debug, Default)]
struct Turn {
    ledgers: Ledgers,
    clock: InputClock,
    /// When the ledgers were published last.
    published: Option<Instant>,
    filling: Filling,
    laps: Laps,
}

impl Collect {
    /// The loop. Returns when the sensor stops or a socket fails, with every flow handed on.
    ///
    /// # Errors
    /// If a socket fails for good.
    pub fn run(mut self) -> io::Result<()> {
        self.router.settle();
        clock::wake_in_time();
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
        let mut stopped: Option<(Instant, Micros)> = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                stopped.get_or_insert_with(|| (Instant::now(), wall()));
            }
            let now = wall();
            self.pace.look(Instant::now());
            let (count, more) = self.receive(turn)?;
            if !more {
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
            let now = Instant::now();
            if count == 0 || turn.published.is_none_or(|at| now.duration_since(at) >= PUBLISH) {
                turn.published = Some(now);
                self.publish(&turn.ledgers);
            }
            let slot = &self.shared.board.slots()[self.slot];
            turn.filling.look(now, slot, || self.fullest());
            // What was queued when the sensor was told to stop is still taken; what comes later is
            // for whoever listens next.
            if let Some((since, at)) = stopped {
                if count == 0 || turn.clock.now() > at || since.elapsed() > DRAIN {
                    return Ok(());
                }
                continue;
            }
            match self.pace.pause(count, more, now) {
                Pause::None => {}
                Pause::Sleep(left) => std::thread::sleep(left),
                Pause::Wait => {
                    wait(&self.receivers, WAIT_MS)?;
                }
            }
        }
    }

    /// Takes one batch from each socket: how many datagrams there were, and whether a socket may
    /// hold more. Records are decoded straight into the router's batch.
    fn receive(&mut self, turn: &mut Turn) -> io::Result<(usize, bool)> {
        let Turn { ledgers, clock, laps, .. } = turn;
        let (mut taken, mut more) = (0, false);
        for receiver in &mut self.receivers {
            laps.begin();
            let count = receiver.receive()?;
            laps.lap(Stage::Receive, Duration::ZERO);
            taken += count;
            more |= count == BATCH;
            for index in 0..count {
                let arrived = receiver.arrived(index).unwrap_or_else(wall);
                let stamp = clock.stamp(arrived);
                self.router.arrived(arrived);
                let (address, port, payload) = receiver.datagram(index);
                self.tees.iter_mut().for_each(|tee| tee.add((address, port), payload));
                let batch = self.router.batch();
                self.collector.datagram((address, port), stamp, payload, batch, ledgers);
                if self.router.decoded() {
                    laps.lap(Stage::Decode, Duration::ZERO);
                    self.router.work_off(stamp);
                    laps.skip();
                }
            }
            laps.lap(Stage::Decode, Duration::ZERO);
            self.tees.iter_mut().for_each(Tee::flush);
            ledgers.datagrams.kernel_drops += receiver.take_kernel_drops();
        }
        Ok((taken, more))
    }

    /// The fullest of the sockets.
    fn fullest(&self) -> (u64, u64) {
        let queues = self.receivers.iter().filter_map(Receiver::queue);
        let share = |&(held, room): &(u32, u32)| u64::from(held) * 1_000 / u64::from(room.max(1));
        queues.max_by_key(share).map_or((0, 0), |(held, room)| (held.into(), room.into()))
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
