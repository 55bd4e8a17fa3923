//! A reader of NetFlow and IPFIX over UDP: fill a batch, decode it, route it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::busy::Busy;
use super::clock::{self, wall};
use super::drops::DropLog;
use super::exporters::{ExporterBoard, Part};
use super::overload::{Filling, Input};
use super::pace::{Pace, Pause};
use super::post::{Parcel, Post};
use super::router::Router;
use super::state::Saver;
use super::worker::Shared;
use crate::decode::netflow::Collector;
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

/// One reader of UDP sockets, and all that it knows of the exporters that send to them.
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
    /// Its number among the readers of UDP.
    pub reader: usize,
    /// Where reports go, to the part of this reader.
    pub exporters: Arc<ExporterBoard>,
    /// Datagrams of other readers' exporters; `None` with one reader.
    pub post: Option<Post>,
    /// The file in which templates are kept over a restart.
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
    busy: Busy,
    laps: Laps,
    /// What is said of each socket's drops.
    drops: Vec<DropLog>,
    /// Since when it is to stop: by the monotonic clock, and by the wall clock.
    stopped: Option<(Instant, Micros)>,
    /// Whether each socket holds nothing more that came before then.
    through: Vec<bool>,
}

/// What one look at the sockets found.
#[derive(Debug, Default)]
struct Taken {
    datagrams: usize,
    /// Whether a socket may hold more.
    more: bool,
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
        turn.through = vec![false; self.receivers.len()];
        turn.drops.resize_with(self.receivers.len(), DropLog::default);
        let result = self.read(&mut turn, &mut saver);
        self.last_drops(&mut turn);
        if let Some(mut post) = self.post.take().filter(|_| result.is_ok()) {
            post.close().for_each(|parcel| self.decode(&parcel, &mut turn));
            self.router.flush(turn.clock.now());
        }
        self.report(turn.clock.now());
        saver.finish(&self.collector.export_state());
        self.publish(&mut turn);
        self.router.finish(turn.clock.now());
        result
    }

    fn read(&mut self, turn: &mut Turn, saver: &mut Saver) -> io::Result<()> {
        let mut housekept = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                turn.stopped.get_or_insert_with(|| (Instant::now(), wall()));
            }
            let now = wall();
            let began = Instant::now();
            self.pace.look(began);
            turn.busy.begin(began, self.router.elsewhere());
            let Taken { datagrams: count, more } = self.receive(turn)?;
            if !more {
                // Nothing that arrived before is left in a socket: the clock may go on to here.
                turn.clock.stamp(now);
            }
            let stamp = turn.clock.now();
            if housekept.elapsed() >= HOUSEKEEPING {
                housekept = Instant::now();
                self.collector.tick(stamp, &mut turn.ledgers);
                self.part().totals.store(Arc::new(self.collector.totals()));
                let generation = self.collector.state_generation();
                saver.save(generation, || self.collector.export_state());
            }
            if self.part().is_wanted() {
                self.report(stamp);
            }
            self.router.flush(stamp);
            let now = Instant::now();
            turn.busy.end(now, self.router.elsewhere());
            if count == 0 || turn.published.is_none_or(|at| now.duration_since(at) >= PUBLISH) {
                turn.published = Some(now);
                self.publish(turn);
            }
            let Turn { filling, ledgers, .. } = turn;
            let slot = &self.shared.board.slots()[self.slot];
            filling.look(now, slot, || Input {
                filled: fullest(&mut self.receivers),
                dropped: ledgers.datagrams.kernel_drops,
                scores: self.shared.models.book().is_some(),
            });
            // What was queued when the sensor was told to stop is still taken; what comes later is
            // for whoever listens next.
            if let Some((since, _)) = turn.stopped {
                if turn.through.iter().all(|&through| through) {
                    return Ok(());
                }
                if since.elapsed() > DRAIN {
                    return self.give_up(turn);
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

    /// Takes one batch from each socket; stopping, from those that may hold what came before. Records
    /// are decoded straight into the router's batch.
    fn receive(&mut self, turn: &mut Turn) -> io::Result<Taken> {
        let mut taken = Taken::default();
        while let Some(parcel) = self.post.as_ref().and_then(Post::take) {
            taken.datagrams += 1;
            self.decode(&parcel, turn);
        }
        let Turn { ledgers, clock, laps, stopped, through, drops, .. } = turn;
        let sockets = &self.exporters.parts()[self.reader].sockets;
        let receivers = self.receivers.iter_mut().zip(through).zip(drops).zip(sockets);
        for (((receiver, through), drops), socket) in receivers {
            if stopped.is_some() && *through {
                continue;
            }
            laps.begin();
            let count = receiver.receive()?;
            laps.lap(Stage::Receive, Duration::ZERO);
            taken.datagrams += count;
            taken.more |= count == BATCH;
            let last = count.checked_sub(1).and_then(|last| receiver.arrived(last));
            // A kernel that does not tell when they came: until there are no more.
            let later = |at| last.map_or(count < BATCH, |last| last > at);
            *through = stopped.is_some_and(|(_, at)| later(at));
            for index in 0..count {
                let arrived = receiver.arrived(index).unwrap_or_else(wall);
                let stamp = clock.stamp(arrived);
                self.router.arrived(arrived);
                let (address, port, payload) = receiver.datagram(index);
                self.tees.iter_mut().for_each(|tee| tee.add((address, port), payload));
                if self.post.as_ref().is_some_and(|p| p.send((address, port), arrived, payload)) {
                    continue;
                }
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
            let dropped = receiver.take_kernel_drops();
            if dropped > 0 {
                ledgers.datagrams.kernel_drops += dropped;
                socket.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
            if let Some(dropped) = drops.add(Instant::now(), dropped) {
                warn_of_drops(&socket.address, dropped);
            }
        }
        Ok(taken)
    }

    /// Leaves what is still in the sockets after [`DRAIN`]: a socket of the sensor's own takes it along,
    /// which counts as dropped.
    fn give_up(&mut self, turn: &mut Turn) -> io::Result<()> {
        let Some((_, at)) = turn.stopped else { return Ok(()) };
        let sockets = &self.exporters.parts()[self.reader].sockets;
        let receivers = self.receivers.iter_mut().zip(&turn.through).zip(sockets);
        for ((receiver, _), socket) in receivers.filter(|((_, through), _)| !**through) {
            let unread = receiver.discard(at)?;
            turn.ledgers.datagrams.kernel_drops += unread;
            socket.dropped.fetch_add(unread, Ordering::Relaxed);
            let (socket, after_s) = (socket.address.as_str(), DRAIN.as_secs());
            tracing::warn!(
                socket,
                unread,
                after_s,
                "stopping before all datagrams were read; a socket that systemd holds keeps them"
            );
        }
        Ok(())
    }

    /// Asks the kernel a last time what it dropped, and says what was not said yet.
    fn last_drops(&mut self, turn: &mut Turn) {
        let sockets = &self.exporters.parts()[self.reader].sockets;
        for ((receiver, drops), socket) in
            self.receivers.iter_mut().zip(&mut turn.drops).zip(sockets)
        {
            receiver.queue();
            let dropped = receiver.take_kernel_drops();
            turn.ledgers.datagrams.kernel_drops += dropped;
            socket.dropped.fetch_add(dropped, Ordering::Relaxed);
            drops.add(Instant::now(), dropped).into_iter().chain(drops.rest()).for_each(
                |dropped| {
                    warn_of_drops(&socket.address, dropped);
                },
            );
        }
    }

    /// Decodes a datagram that came to another reader.
    fn decode(&mut self, parcel: &Parcel, turn: &mut Turn) {
        let Parcel { source, arrived, payload } = parcel;
        let stamp = turn.clock.stamp(*arrived);
        self.router.arrived(*arrived);
        let batch = self.router.batch();
        self.collector.datagram(*source, stamp, payload, batch, &mut turn.ledgers);
        if self.router.decoded() {
            self.router.work_off(stamp);
        }
    }

    fn part(&self) -> &Part {
        &self.exporters.parts()[self.reader]
    }

    fn publish(&self, turn: &mut Turn) {
        let slot = &self.shared.board.slots()[self.slot];
        turn.busy.tell(slot);
        slot.publish(&turn.ledgers);
        slot.beat();
    }

    fn report(&self, now: Micros) {
        self.part().report(self.collector.report(now));
        self.part().totals.store(Arc::new(self.collector.totals()));
    }
}

/// The fullest of the sockets: what it holds, of how much room.
fn fullest(receivers: &mut [Receiver]) -> (u64, u64) {
    let queues = receivers.iter_mut().filter_map(Receiver::queue);
    let share = |&(held, room): &(u32, u32)| u64::from(held) * 1_000 / u64::from(room.max(1));
    queues.max_by_key(share).map_or((0, 0), |(held, room)| (held.into(), room.into()))
}

fn warn_of_drops(socket: &str, dropped: u64) {
    tracing::warn!(
        input = "netflow",
        socket,
        dropped,
        "the kernel dropped datagrams: the socket's buffer was full"
    );
}
