//! The second exchange: what groups by anything but the address pair.
//!
//! Workers send [`Message`]s, matches of the base rules of correlations and alerts of rules under
//! suppression, to one [`Desk`]. It puts them into the order (time, flow id, rule) and works off
//! those strictly before the *watermark*: the least clock that all workers have passed. After a
//! worker has advanced its tables to a clock, it sends nothing earlier; so the order, and what
//! comes of it, depends neither on the number of workers nor on where batches end.
//!
//! The reader tells each worker the time at least every 50 ms of input time (and on live input at
//! least every 100 ms of real time), so by so much, and no more, the alerts of correlations and of
//! rules under suppression are late. All other alerts leave at once.
//!
//! With one inline worker the desk stands in the worker's own thread, else in a thread of its own
//! behind one bounded ring for each worker. On live input a message that finds no room is shed and
//! counted; a replay waits.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicI64};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::rules::RuleBook;
use super::worker::Shared;
use crate::detect::Alert;
use crate::detect::sigma::correlate::{Correlator, Match};
use crate::detect::suppress::Suppressor;
use crate::detect::volume::{Sent, Volumes};
use crate::flow::FlowId;
use crate::metrics::ledger::Correlated;
use crate::metrics::{Ledgers, Slot};
use crate::output::Batch;
use crate::time::Micros;

/// Parcels that may wait in a worker's ring.
const PARCELS_MAX: usize = 64;
/// Messages that a worker gathers before it sends them off in the middle of a load.
pub const PARCEL_MESSAGES: usize = 1_024;
/// How long the desk's thread sleeps while messages wait for the watermark, and while none does.
/// How often what correlations hold is told, at most.
const TELL: Duration = Duration::from_secs(1);
/// Correlations that are told one by one; further ones are summed up.
const CORRELATIONS_TOLD_MAX: usize = 256;
const NAP: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What a worker sends to the desk.
#[derive(Clone, Debug)]
pub enum Message {
    /// A base rule of a correlation matched.
    Match(Match),
    /// A rule under suppression raised an alert.
    Alert(Box<Alert>),
    /// A host at home sent something out.
    Sent(Sent),
}

impl Message {
    /// The order in which messages are worked off, whoever sent them.
    fn key(&self) -> (Micros, FlowId, u32, u8) {
        match self {
            Self::Alert(alert) => (alert.time, alert.flow_id, alert.rule.uid, 0),
            Self::Match(found) => {
                (found.time, found.flow_id, found.rule, 1 + u8::from(found.at_end))
            }
            Self::Sent(sent) => {
                let pair = FlowId(sent.host.0.rotate_left(64) ^ sent.peer.0);
                (sent.time, pair, u32::MAX, 3)
            }
        }
    }
}

/// A message in the heap. Of equal keys, which only one worker can send, the first sent is first.
#[derive(Debug)]
struct Waiting {
    key: (Micros, FlowId, u32, u8),
    number: u64,
    message: Message,
}

impl Waiting {
    const fn rank(&self) -> (&(Micros, FlowId, u32, u8), u64) {
        (&self.key, self.number)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// Owns all groups of correlations and of suppression.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    slot: usize,
    book: Arc<RuleBook>,
    correlator: Correlator,
    suppressor: Suppressor,
    volumes: Volumes,
    waiting: BinaryHeap<Reverse<Waiting>>,
    taken: u64,
    /// The time of the latest match that was correlated.
    reached: Micros,
    ledgers: Ledgers,
    /// When what correlations hold was told last.
    told: Option<Instant>,
    /// Whether something changed since the ledgers were published.
    changed: bool,
    /// Whether something changed since what correlations hold was told.
    untold: bool,
    /// Scratch: the alerts of one match.
    raised: Vec<Alert>,
    batch: Batch,
}

impl Desk {
    /// A desk that publishes on the board's slot `slot`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, slot: usize) -> Self {
        Self {
            shared,
            slot,
            book: Arc::default(),
            correlator: Correlator::default(),
            suppressor: Suppressor::default(),
            volumes: Volumes::default(),
            waiting: BinaryHeap::new(),
            taken: 0,
            reached: Micros::MIN,
            ledgers: Ledgers::default(),
            told: None,
            changed: false,
            untold: false,
            raised: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// Takes messages over; none comes before a watermark that was passed. Empties `messages`.
    pub fn take(&mut self, messages: &mut Vec<Message>) {
        let room = match self.shared.outputs.waits() {
            true => usize::MAX,
            false => self.book.limits.waiting_max.saturating_sub(self.waiting.len()),
        };
        let count = messages.len() as u64;
        for message in messages.drain(..).take(room) {
            self.taken += 1;
            let (key, number) = (message.key(), self.taken);
            self.waiting.push(Reverse(Waiting { key, number, message }));
        }
        let exchange = &mut self.ledgers.exchange;
        exchange.sent += count;
        exchange.shed.add("waiting_full", count.saturating_sub(room as u64));
        exchange.waiting = self.waiting.len() as u64;
        self.changed |= count > 0;
    }

    /// Works off what is strictly before `watermark`, and hands on the alerts that come of it.
    pub fn advance(&mut self, watermark: Micros) {
        self.work(|next| next.key.0 < watermark);
    }

    /// Works off the rest: no worker will send any more.
    pub fn finish(&mut self) {
        self.work(|_| true);
        self.tell();
        self.changed = true;
        self.publish();
    }

    fn work(&mut self, due: impl Fn(&Waiting) -> bool) {
        self.adopt();
        let is_due = |next: &Reverse<Waiting>| due(&next.0);
        if self.waiting.peek().is_some_and(is_due) {
            let began = Instant::now();
            while self.waiting.peek().is_some_and(is_due) {
                let Some(Reverse(next)) = self.waiting.pop() else { break };
                self.handle(next.message);
            }
            if !self.batch.is_empty() {
                self.shared.hand(self.slot, mem::take(&mut self.batch));
            }
            let busy = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.slot().add_busy(busy);
            (self.changed, self.untold) = (true, true);
        }
        self.publish();
    }

    /// Takes over the rule set in force, if it is another.
    fn adopt(&mut self) {
        let book = self.shared.rules.book();
        if book.generation != self.book.generation {
            self.correlator.set_limits(book.limits.correlations);
            self.correlator.adopt(&book.set);
            self.suppressor.adopt(&book.limits);
            self.book = book;
            (self.changed, self.untold) = (true, true);
        }
    }

    fn handle(&mut self, message: Message) {
        self.ledgers.exchange.handled += 1;
        match message {
            Message::Alert(alert) => self.leave(*alert),
            Message::Sent(sent) => {
                let limits = self.shared.models.limits.volumes;
                if let Some(alert) = self.volumes.take(&sent, limits) {
                    self.ledgers.sequences.alerts.one("volume");
                    self.leave(alert);
                }
            }
            Message::Match(mut found) => {
                // Slices that a retro-hunt reads out of order count as of what came before them.
                found.time = found.time.max(self.reached);
                self.reached = found.time;
                let mut raised = mem::take(&mut self.raised);
                self.correlator.on_match(&found, &mut raised);
                raised.drain(..).for_each(|alert| self.leave(alert));
                self.raised = raised;
            }
        }
    }

    fn leave(&mut self, mut alert: Alert) {
        if self.suppressor.admit(&mut alert) {
            self.ledgers.detections.alerts.one(alert.rule.level.as_str());
            self.batch.alerts.push(alert);
        }
    }

    fn publish(&mut self) {
        // Also once nothing comes any more: the last second's matches are told, too.
        if self.untold && self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            (self.changed, self.untold) = (true, false);
            self.correlator.forget(self.reached);
            self.tell();
        }
        if mem::take(&mut self.changed) {
            self.ledgers.exchange.waiting = self.waiting.len() as u64;
            self.ledgers.sequences.hosts = self.volumes.len() as u64;
            self.ledgers.sequences.hosts_evicted = self.volumes.evicted;
            let detections = &mut self.ledgers.detections;
            detections.suppressed.clone_from(self.suppressor.suppressed());
            detections.suppression_groups = self.suppressor.groups() as u64;
            detections.suppression_evicted = self.suppressor.evicted();
            self.slot().publish(&self.ledgers);
        }
        self.slot().beat();
    }

    /// Takes note of what each correlation did and holds.
    fn tell(&mut self) {
        let told = &mut self.ledgers.detections.correlations;
        told.clear();
        for stats in self.correlator.stats() {
            let counts = stats.counts;
            let known = told.len() < CORRELATIONS_TOLD_MAX;
            let rule = if known { stats.rule.meta.id.as_str() } else { "other" };
            told.entry(rule.to_owned()).or_default().add(&Correlated {
                matches: counts.matches,
                without_value: counts.without_value,
                found: counts.alerts,
                evicted: counts.evicted,
                groups: counts.groups,
                bytes: counts.bytes,
            });
        }
    }

    fn slot(&self) -> &Slot {
        &self.shared.board.slots()[self.slot]
    }

    /// The loop of a desk in a thread of its own: until the last worker is gone.
    fn run(mut self, rings: &[Receiver<Vec<Message>>], clocks: &Clocks) {
        loop {
            // The watermark first: what was sent before a worker passed it is in its ring by now.
            let watermark = clocks.least();
            let mut gone = 0;
            for ring in rings {
                loop {
                    match ring.try_recv() {
                        Ok(mut parcel) => self.take(&mut parcel),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => {
                            gone += 1;
                            break;
                        }
                    }
                }
            }
            if gone == rings.len() {
                return self.finish();
            }
            self.advance(watermark);
            std::thread::park_timeout(NAP[usize::from(self.waiting.is_empty())]);
        }
    }
}

/// The clocks of all workers: what each has passed.
#[derive(Debug)]
struct Clocks(Vec<AtomicI64>);

impl Clocks {
    fn least(&self) -> Micros {
        let clocks = self.0.iter().map(|clock| clock.load(atomic::Ordering::Acquire));
        Micros(clocks.min().unwrap_or(i64::MAX))
    }
}

/// A worker's way to the desk.
#[derive(Debug)]
pub enum Outbox {
    /// The desk stands in the worker's own thread.
    Inline(Box<Desk>),
    /// It has a thread of its own.
    Ring(Ring),
}

/// One worker's ring to the desk's thread.
#[derive(Debug)]
pub struct Ring {
    parcels: Sender<Vec<Message>>,
    clocks: Arc<Clocks>,
    /// The worker's index.
    worker: usize,
    thread: Thread,
    waits: bool,
}

impl Outbox {
    /// Sends `messages` and leaves none. Those that are shed are counted in `ledgers`.
    pub fn send(&mut self, messages: &mut Vec<Message>, ledgers: &mut Ledgers) {
        if messages.is_empty() {
            return;
        }
        match self {
            Self::Inline(desk) => desk.take(messages),
            Self::Ring(ring) => ring.send(mem::take(messages), ledgers),
        }
    }

    /// Says that the worker has passed `clock`: it sends nothing earlier any more.
    pub fn pass(&mut self, clock: Micros) {
        match self {
            Self::Inline(desk) => desk.advance(clock),
            Self::Ring(ring) => {
                let passed = &ring.clocks.0[ring.worker];
                passed.fetch_max(clock.0, atomic::Ordering::Release);
            }
        }
    }

    /// The worker sends nothing any more.
    pub fn finish(mut self) {
        self.pass(Micros::MAX);
        match self {
            Self::Inline(mut desk) => desk.finish(),
            Self::Ring(ring) => {
                drop(ring.parcels);
                ring.thread.unpark();
            }
        }
    }

    /// From now on a full ring is waited for, as the input ended.
    pub fn wait(&mut self) {
        if let Self::Ring(ring) = self {
            ring.waits = true;
        }
    }
}

impl Ring {
    fn send(&self, parcel: Vec<Message>, ledgers: &mut Ledgers) {
        let refused = match self.waits {
            true => self.parcels.send(parcel).err().map(|refused| refused.0),
            false => match self.parcels.try_send(parcel) {
                Ok(()) => None,
                Err(TrySendError::Full(parcel) | TrySendError::Disconnected(parcel)) => {
                    Some(parcel)
                }
            },
        };
        if let Some(parcel) = refused {
            let exchange = &mut ledgers.exchange;
            exchange.sent += parcel.len() as u64;
            exchange.shed.add("ring_full", parcel.len() as u64);
        }
        self.thread.unpark();
    }
}

/// Starts a desk in a thread of its own, for `workers` workers; it ends when the last of them is
/// gone. It publishes on the board's slot `slot`.
///
/// # Errors
/// If the operating system refuses a thread.
pub fn spawn(
    shared: &Arc<Shared>,
    slot: usize,
    workers: usize,
) -> std::io::Result<(Vec<Outbox>, JoinHandle<()>)> {
    let clocks = (0..workers).map(|_| AtomicI64::new(i64::MIN)).collect();
    let clocks = Arc::new(Clocks(clocks));
    let (senders, rings): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| crossbeam_channel::bounded(PARCELS_MAX)).unzip();
    let desk = Desk::new(Arc::clone(shared), slot);
    let passed = Arc::clone(&clocks);
    let thread = std::thread::Builder::new().name("weir-exchange".into());
    let thread = thread.spawn(move || desk.run(&rings, &passed))?;
    let outbox = |(worker, parcels)| {
        Outbox::Ring(Ring {
            parcels,
            clocks: Arc::clone(&clocks),
            worker,
            thread: thread.thread().clone(),
            waits: shared.outputs.waits(),
        })
    };
    let outboxes = senders.into_iter().enumerate().map(outbox).collect();
    Ok((outboxes, thread))
}
