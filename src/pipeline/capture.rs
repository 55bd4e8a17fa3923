//! The reader of a live interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::clock::wall;
use super::overload::Filling;
use super::replay::meter;
use super::router::Router;
use super::worker::Shared;
use crate::decode::packet::Options;
use crate::input::capture::{CaptureError, Live};
use crate::metrics::Ledgers;
use crate::time::InputClock;

/// Packets taken before the loads go off, at most.
const BATCH: usize = 512;
/// How long the reader waits for a packet before it ticks the clock.
const WAIT: Duration = Duration::from_millis(100);
/// How often the kernel is asked what it dropped.
const ASK_DROPS: Duration = Duration::from_secs(1);

/// The reader of one interface.
pub struct Capture {
    /// The open interface.
    pub live: Live,
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

impl Capture {
    /// The loop. Returns when the sensor stops or the interface fails, with every flow handed on.
    ///
    /// # Errors
    /// If the interface fails for good.
    pub fn run(mut self) -> Result<(), CaptureError> {
        self.router.settle();
        let mut clock = InputClock::default();
        let result = self.read(&mut clock);
        self.router.finish(clock.now());
        result
    }

    fn read(&mut self, clock: &mut InputClock) -> Result<(), CaptureError> {
        let mut ledgers = Ledgers::default();
        let mut asked = Instant::now();
        let mut filling = Filling::default();
        let mut result = Ok(());
        while result.is_ok() && !self.stop.load(Ordering::Relaxed) {
            result = self.batch(clock, &mut ledgers);
            if result.is_ok() && asked.elapsed() >= ASK_DROPS {
                asked = Instant::now();
                result = self.live.drops().map(|drops| {
                    ledgers.packets.kernel_drops = drops.kernel + drops.interface;
                });
            }
            self.router.flush(clock.stamp(wall()));
            let slot = &self.shared.board.slots()[self.slot];
            slot.publish(&ledgers);
            filling.look(Instant::now(), slot, || self.live.filled());
            slot.beat();
        }
        result
    }

    /// Meters the packets that are there; waits a while if there are none.
    fn batch(&mut self, clock: &mut InputClock, ledgers: &mut Ledgers) -> Result<(), CaptureError> {
        for taken in 0..BATCH {
            let Some(packet) = self.live.next()? else {
                if taken == 0 {
                    self.live.wait(WAIT)?;
                }
                return Ok(());
            };
            let stamp = clock.stamp(packet.time);
            self.router.arrived(packet.time);
            meter(&packet, stamp, &self.options, &mut self.router, ledgers);
        }
        Ok(())
    }
}
