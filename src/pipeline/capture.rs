//! The reader of a live interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::busy::Busy;
use super::clock::wall;
use super::drops::DropLog;
use super::overload::{Filling, Input};
use super::replay::meter;
use super::router::Router;
use super::worker::Shared;
use crate::decode::packet::Options;
use crate::input::capture::port::Share;
use crate::input::capture::{CaptureError, RETIRE};
use crate::metrics::Ledgers;
use crate::metrics::stages::{Laps, Stage};
use crate::time::{InputClock, Micros};

/// Packets taken before the loads go off, at most.
const BATCH: usize = 512;
/// How long the reader waits for a packet before it ticks the clock.
const WAIT: Duration = Duration::from_millis(100);
/// Stopping, how long the reader goes on with what came before, at most.
const DRAIN: Duration = Duration::from_secs(10);
/// The kernel may hold a packet for so long before it hands its block over.
const HELD: Duration = RETIRE.saturating_mul(3);
/// How often the kernel is asked what it dropped, and how the interface stands.
const LOOK: Duration = Duration::from_secs(1);

/// The reader of one interface, or of one share of it.
pub struct Capture {
    /// The interface.
    pub share: Share,
    /// What is opened on the way in.
    pub options: Options,
    /// To the workers.
    pub router: Router,
    /// The board's slot of this reader.
    pub slot: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Set when the sensor stops.
    pub stop: Arc<AtomicBool>,
}

/// What the loop carries along.
#[derive(Default)]
struct Turn {
    ledgers: Ledgers,
    clock: InputClock,
    filling: Filling,
    busy: Busy,
    laps: Laps,
    drops: DropLog,
    /// What the kernel dropped until the last look.
    dropped: u64,
    /// Why there are no packets; empty if there may be.
    fault: String,
}

/// What was taken at once.
enum Taken {
    /// So many.
    Some(usize),
    /// All that were to be taken.
    All,
}

impl Capture {
    /// The loop. Returns when the sensor stops or the interface fails, with every flow handed on.
    ///
    /// # Errors
    /// If the interface fails for good. One that is down or away is waited for.
    pub fn run(mut self) -> Result<(), CaptureError> {
        self.router.settle();
        let mut turn = Turn::default();
        let result = self.read(&mut turn);
        if result.is_ok() {
            self.drain(&mut turn, wall());
        }
        self.ask_drops(&mut turn);
        turn.drops.rest().into_iter().for_each(|dropped| self.warn_of_drops(dropped));
        self.publish(&mut turn);
        self.router.finish(turn.clock.now());
        result
    }

    fn read(&mut self, turn: &mut Turn) -> Result<(), CaptureError> {
        self.look(turn, None)?;
        let mut looked = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            turn.busy.begin(Instant::now(), self.router.elsewhere());
            let failed = self.batch(turn).err();
            if failed.is_some() || looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.ask_drops(turn);
                self.look(turn, failed)?;
            }
            self.router.flush(turn.clock.stamp(wall()));
            turn.busy.end(Instant::now(), self.router.elsewhere());
            self.publish(turn);
        }
        Ok(())
    }

    fn publish(&self, turn: &mut Turn) {
        let slot = &self.shared.board.slots()[self.slot];
        turn.busy.tell(slot);
        slot.publish(&turn.ledgers);
        turn.filling.look(Instant::now(), slot, || Input {
            filled: self.share.filled(),
            dropped: turn.ledgers.packets.kernel_drops,
            scores: self.shared.models.book().is_some(),
        });
        slot.beat();
    }

    /// Meters the packets that are there; waits a while if there are none.
    fn batch(&mut self, turn: &mut Turn) -> Result<(), CaptureError> {
        turn.laps.begin();
        let before = self.router.elsewhere();
        let taken = self.take(turn, BATCH, Micros::MAX)?;
        // Packets are read where the kernel put them: taking and parsing them are one.
        turn.laps.lap(Stage::Decode, self.router.elsewhere().saturating_sub(before));
        if matches!(taken, Taken::Some(0)) {
            turn.busy.end(Instant::now(), self.router.elsewhere());
            self.share.wait(WAIT)?;
            turn.laps.lap(Stage::Receive, Duration::ZERO);
        }
        Ok(())
    }

    /// Meters up to `most` of the packets that are there, but none that came after `until`.
    fn take(&mut self, turn: &mut Turn, most: usize, until: Micros) -> Result<Taken, CaptureError> {
        for taken in 0..most {
            let Some(packet) = self.share.next()? else { return Ok(Taken::Some(taken)) };
            if packet.time > until {
                return Ok(Taken::All);
            }
            let stamp = turn.clock.stamp(packet.time);
            self.router.arrived(packet.time);
            meter(&packet, stamp, &self.options, &mut self.router, &mut turn.ledgers);
        }
        Ok(Taken::Some(most))
    }

    /// Meters what came until `until`; what is there, if packets do not tell when they came. What it
    /// does not come to in [`DRAIN`] nobody reads: that counts as dropped.
    fn drain(&mut self, turn: &mut Turn, until: Micros) {
        let began = Instant::now();
        let until = if self.share.seal() { Micros::MAX } else { until };
        let mut waited = false;
        while began.elapsed() < DRAIN {
            match self.take(turn, BATCH, until) {
                Ok(Taken::Some(0)) if !waited => {
                    // What the kernel has not handed over yet.
                    std::thread::sleep(HELD);
                    waited = true;
                }
                Ok(Taken::Some(0) | Taken::All) | Err(_) => return,
                Ok(Taken::Some(_)) => {
                    waited = false;
                    self.router.flush(turn.clock.now());
                    self.publish(turn);
                }
            }
        }
        let unread = self.count_until(until);
        turn.ledgers.packets.kernel_drops += unread;
        if unread > 0 {
            let (interface, after_s) = (self.share.interface(), DRAIN.as_secs());
            tracing::warn!(interface, unread, after_s, "stopping before all packets were read");
        }
    }

    /// How many packets that are there came until `until`. They are gone then.
    fn count_until(&mut self, until: Micros) -> u64 {
        let mut count = 0;
        while let Ok(Some(packet)) = self.share.next()
            && packet.time <= until
        {
            count += 1;
        }
        count
    }

    /// Looks after the interface, and tells how it stands.
    fn look(&mut self, turn: &mut Turn, failed: Option<CaptureError>) -> Result<(), CaptureError> {
        if self.share.is_over() {
            self.drain(turn, wall());
        }
        let fault = self.share.look(failed)?.unwrap_or_default();
        if fault == turn.fault {
            return Ok(());
        }
        let (board, interface) = (&self.shared.board, self.share.interface());
        if fault.is_empty() {
            board.slots()[self.slot].set_fault("");
            if self.share.is_first() {
                tracing::info!(interface, "the interface is up: capturing");
            }
        } else {
            board.slots()[self.slot].set_fault(&format!("interface {interface}: {fault}"));
            if self.share.is_first() {
                if turn.fault.is_empty() {
                    board.add_lost();
                }
                tracing::warn!(interface, "waiting for the interface: {fault}");
            }
        }
        turn.fault = fault;
        Ok(())
    }

    fn ask_drops(&mut self, turn: &mut Turn) {
        let drops = self.share.drops();
        let all = drops.kernel + drops.interface;
        let news = all.saturating_sub(turn.dropped);
        turn.dropped += news;
        turn.ledgers.packets.kernel_drops += news;
        if let Some(dropped) = turn.drops.add(Instant::now(), news) {
            self.warn_of_drops(dropped);
        }
    }

    fn warn_of_drops(&self, dropped: u64) {
        let reader = self.shared.board.slots()[self.slot].name();
        tracing::warn!(
            input = "capture",
            interface = self.share.interface(),
            reader,
            dropped,
            "the kernel dropped packets: the buffer was full"
        );
    }
}
