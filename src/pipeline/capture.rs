//! The reader of a live interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::collect::wall;
use super::replay::meter;
use super::router::Router;
use super::worker::Shared;
use crate::decode::packet::Options;
use crate::input::capture::{CaptureError, Live};
use crate::metrics::Ledgers;
use crate::time::InputClock;

/// Packets taken before the loads go off, at most.
const BATCH: usize = 512;

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
    /// The loop. Returns when the sensor stops, with every flow handed on.
    ///
    /// # Errors
    /// If the interface fails for good.
    pub fn run(mut self) -> Result<(), CaptureError> {
        let mut ledgers = Ledgers::default();
        let mut clock = InputClock::default();
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..BATCH {
                let Some(packet) = self.live.next()? else { break };
                let stamp = clock.stamp(packet.time);
                meter(&packet, stamp, &self.options, &mut self.router, &mut ledgers);
            }
            ledgers.packets.kernel_drops = {
                let drops = self.live.drops()?;
                drops.kernel + drops.interface
            };
            let stamp = clock.stamp(wall());
            self.router.flush(stamp);
            let slot = &self.shared.board.slots()[self.slot];
            slot.publish(&ledgers);
            slot.beat();
        }
        self.router.finish(clock.now());
        Ok(())
    }
}
