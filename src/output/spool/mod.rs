//! The spool: one log on disk of all that is to be delivered, and a cursor in it for each sink.
//!
//! Batches are appended once, for all sinks, off the hot path: slices by one thread, alerts by
//! another ([`writer`]); a third syncs at an interval, and seals segments ([`sync`]). Each sink has a thread of its own ([`courier`]) that
//! reads the log from its cursor on, hands units to the sink's [`Target`] and moves the cursor
//! after the other side has acknowledged them. So a slow or dead sink holds back nobody, and what
//! was appended is delivered after a restart or a crash. The [`book`] keeps every ledger exact.
//!
//! ```text
//! DIRECTORY/id               the spool's own number
//! DIRECTORY/lock             held while a weir runs on it
//! DIRECTORY/SINK.cursor      how far the sink has come
//! DIRECTORY/seals            what each sealed segment held
//! DIRECTORY/segments/N.open  the segment that is written; N.sealed are whole and synced
//! DIRECTORY/dead/SINK.ndjson what the other side refused for good
//! ```

mod book;
mod columns;
mod courier;
pub mod cursor;
mod dead;
pub mod frame;
mod log;
mod memory;
pub mod operator;
mod recover;
mod room;
mod seals;
mod segment;
mod slots;
mod sync;
mod tail;
mod target;
mod unit;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;

pub use book::{DAMAGED, DEAD_LETTER, DROPPED, SPOOL_FULL};
pub use memory::MemorySink;
pub use segment::Sums;
pub use target::{Delivered, Failure, ObjectTarget, Place, Stop, Target, Unit, UnitRecord};
pub use unit::Objects;

use self::book::Kept;
use self::log::{Log, Totals};
use self::room::{Patience, Wait};
use self::tail::Tail;
use self::writer::{Handed, Message, Scribe, WRITE_ERROR};
use crate::config::{self, Durability, Select};
use crate::metrics::{Delivery, SpoolState};
use crate::output::files::{CLOSED, QUEUE_FULL};
use crate::output::schema::{Context, Stream};
use crate::output::{Batch, Ledgers, OVERLOAD, Sink};
use crate::time::{Micros, SECOND};

/// A sink that is to be fed from the spool.
pub struct Behind {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub select: Select,
    /// Where records wait for it.
    pub durability: Durability,
    /// Where they go.
    pub place: Place,
}

/// Starts `sinks`: those that are durable behind one spool, each of the others with a queue in
/// memory.
///
/// # Errors
/// If the spool's directory cannot be used, or no thread can be started.
pub fn start(
    config: &config::Spool,
    sinks: Vec<Behind>,
    context: &Context,
) -> io::Result<Vec<Arc<dyn Sink>>> {
    let (mut started, mut durable): (Vec<Arc<dyn Sink>>, _) = (Vec::new(), Vec::new());
    for behind in sinks {
        let Behind { name, select, durability, place } = behind;
        match (durability, place) {
            (Durability::Memory, Place::Stream(target)) => {
                let sink = MemorySink::start(config, name, select, target, context.clone())?;
                started.push(Arc::new(sink));
            }
            (_, place) => durable.push(Behind { name, select, durability, place }),
        }
    }
    if !durable.is_empty() {
        started.push(Arc::new(Spool::start(config, durable, context.clone())?));
    }
    Ok(started)
}

/// A handle to the running spool. Dropping it closes the spool.
pub struct Spool {
    log: Arc<Log>,
    wants: Wants,
    records_max: usize,
    octets_max: u64,
    stop_time: Duration,
    patience: Patience,
    context: ArcSwap<Context>,
    slices: Sender<Message>,
    alerts: Sender<Message>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writers: Vec<JoinHandle<()>>,
    couriers: Vec<JoinHandle<()>>,
}

/// What any sink selects; nothing else is written.
#[derive(Clone, Copy, Debug, Default)]
struct Wants {
    slices: bool,
    tagged: bool,
    alerts: bool,
}

impl Wants {
    fn of(sinks: &[Behind]) -> Self {
        let any = |select: Select| sinks.iter().any(|sink| sink.select == select);
        let (slices, tagged) = (any(Select::Slices), any(Select::Tagged));
        Self { slices, tagged, alerts: any(Select::Alerts) }
    }

    /// What is written of `batch`; `None` if nothing is.
    fn narrow(self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        let narrow = if self.slices && (self.alerts || batch.alerts.is_empty()) {
            Arc::clone(batch)
        } else {
            let slices = match (self.slices, self.tagged) {
                (true, _) => batch.slices.clone(),
                (_, true) => batch.only(Select::Tagged).slices,
                _ => Vec::new(),
            };
            let alerts = if self.alerts { batch.alerts.clone() } else { Vec::new() };
            Arc::new(Batch { slices, alerts })
        };
        (!narrow.is_empty()).then_some(narrow)
    }
}

impl Spool {
    /// Opens the spool as `config` says, with `sinks` behind it.
    ///
    /// # Errors
    /// If its directory cannot be made, is used by another process or cannot be read, or no thread
    /// can be started.
    pub fn start(config: &config::Spool, sinks: Vec<Behind>, context: Context) -> io::Result<Self> {
        let place = config.directory.display();
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("spool.directory: {place}: {error}"))
        };
        let lock = recover::take(&config.directory).map_err(named)?;
        let whole = |sink: &Behind| matches!(sink.place, Place::Objects(_));
        let wanted: Vec<_> = sinks.iter().map(|s| (s.name.as_str(), s.select, whole(s))).collect();
        let (id, mut book, seals, totals) = match &lock {
            Some(_) => {
                let id = recover::id(&config.directory).map_err(named)?;
                let (book, seals, totals) =
                    recover::book(&config.directory, &wanted).map_err(named)?;
                (id, book, seals, totals)
            }
            None => {
                let (id, book, seals) = recover::none(&config.directory, &wanted);
                ((id, false), book, seals, Totals::default())
            }
        };
        let for_us = i64::from(config.keep_s) * SECOND;
        book.kept = Kept { for_us, octets: config.bytes_max / 2 };
        let log = Arc::new(Log::new((&config.directory, lock), id, (book, seals), totals));
        let gone = log.book().clean(wall());
        log.remove(&gone);

        let (sealer, seals) = crossbeam_channel::unbounded();
        let thread = |name: String| std::thread::Builder::new().name(name);
        let wants = Wants::of(&sinks);
        let tail = Arc::new(Tail::new(Arc::clone(&log), config.clone(), sealer, 2));
        // A full disk is told at once, not with the first record.
        tail.lock().probe();
        let scribe = |stream, name: &str| -> io::Result<_> {
            let (sender, receiver) = crossbeam_channel::unbounded();
            let scribe = Scribe::new(config, (&log, &tail), stream, receiver)?;
            Ok((sender, thread(name.to_owned()).spawn(move || scribe.run())?))
        };
        let (slices, slice_scribe) = scribe(Stream::Slices, "weir-spool")?;
        let (alerts, alert_scribe) = scribe(Stream::Alerts, "weir-spool-now")?;
        let interval = Duration::from_millis(config.sync_interval_ms.into());
        let syncs = Arc::clone(&log);
        let syncer = thread("weir-spool-sync".into());
        let syncer = syncer.spawn(move || sync::run(&syncs, interval, &seals))?;
        let mut couriers = Vec::new();
        for (index, Behind { name, select, place, .. }) in sinks.into_iter().enumerate() {
            let courier = courier::Courier::new(Arc::clone(&log), index, (&name, select), place);
            couriers.push(thread(format!("sink {name}")).spawn(move || courier.run())?);
        }
        let threads = Threads { writers: vec![slice_scribe, alert_scribe, syncer], couriers };
        Ok(Self {
            log,
            wants,
            records_max: config.memory_records_max,
            octets_max: config.bytes_max,
            stop_time: Duration::from_secs(config.stop_s.into()),
            patience: Patience::new(Duration::from_secs(config.stop_s.into())),
            context: ArcSwap::from_pointee(context),
            slices,
            alerts,
            threads: Mutex::new(Some(threads)),
        })
    }

    /// Tells what the stop cost since `before`: what waited in memory for a disk that takes nothing.
    fn tell_lost(&self, before: &Ledgers) {
        for (sink, ledger) in self.ledgers() {
            let earlier = before.get(&sink).map_or(0, |ledger| ledger.shed.of(WRITE_ERROR));
            let records = ledger.shed.of(WRITE_ERROR) - earlier;
            if records > 0 {
                let directory = self.log.directory.display();
                tracing::warn!(sink, records, %directory, ?ledger,
                    "lost by the stop: they waited in memory, as the spool cannot be written");
            }
        }
    }

    fn take(&self, batch: &Arc<Batch>, wait: Wait) {
        let Some(batch) = self.wants.narrow(batch) else { return };
        let held = batch.slices.len() + batch.alerts.len();
        let full = |book: &book::Book| book.queued > 0 && book.queued + held > self.records_max;
        let waits = |book: &book::Book| full(book) && !book.closed;
        let (room, book) = (&self.log.room, self.log.book());
        let mut book = self.patience.wait(wait, room, book, waits, |book| book.queued);
        if book.closed {
            return book.refuse(&batch, CLOSED);
        }
        if full(&book) {
            return book.refuse(&batch, QUEUE_FULL);
        }
        book.accept(&batch);
        let (context, at) = (self.context.load_full(), Instant::now());
        // Sent under the lock, so that nothing comes after `Close`. The receivers live until then.
        for (some, sender) in
            [(!batch.alerts.is_empty(), &self.alerts), (!batch.slices.is_empty(), &self.slices)]
        {
            if some {
                let (batch, context) = (Arc::clone(&batch), Arc::clone(&context));
                drop(sender.send(Message::Batch(Handed { batch, context, at })));
            }
        }
    }
}

impl Sink for Spool {
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
        self.log.book().refuse_untagged(slices, OVERLOAD);
    }

    fn ledgers(&self) -> Ledgers {
        let book = self.log.book();
        book.takers.iter().map(|taker| (taker.name.clone(), taker.ledger.clone())).collect()
    }

    fn deliveries(&self) -> BTreeMap<String, Delivery> {
        self.log.book().deliveries(wall()).collect()
    }

    fn spool(&self) -> Option<SpoolState> {
        let book = self.log.book();
        let (segments, octets) = (book.segments.len() as u64, book.octets());
        let queued = book.queued as u64;
        drop(book);
        let counts = &self.log.counts;
        Some(SpoolState {
            segments,
            octets,
            octets_max: self.octets_max,
            queued,
            appended: counts.appended.load(Ordering::Relaxed),
            appended_octets: counts.appended_octets.load(Ordering::Relaxed),
            damaged_octets: counts.damaged_octets.load(Ordering::Relaxed),
            torn_octets: counts.torn_octets.load(Ordering::Relaxed),
            errors: self.log.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            append: self.log.append.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            alerts: self.log.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    fn appends_alerts(&self) -> bool {
        self.wants.alerts
    }

    fn set_context(&self, context: Context) {
        self.context.store(Arc::new(context));
    }

    fn faults(&self) -> Vec<(String, String)> {
        let book = self.log.book();
        let own = book.fault.iter().map(|fault| ("spool".to_owned(), fault.clone()));
        let takers = book.takers.iter();
        let takers = takers.filter_map(|taker| Some((taker.name.clone(), taker.fault.clone()?)));
        own.chain(takers).collect()
    }

    fn close(&self) -> Ledgers {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { writers, couriers }) = threads {
            let before = self.ledgers();
            let mut book = self.log.book();
            book.closed = true;
            for sender in [&self.slices, &self.alerts] {
                drop(sender.send(Message::Close));
            }
            drop(book);
            self.log.stop.within(self.stop_time);
            self.log.room.notify_all();
            for writer in writers {
                if writer.join().is_err() {
                    tracing::error!("a thread of the spool died");
                }
            }
            self.tell_lost(&before);
            join_until_over(couriers, &self.log.stop);
            self.log.sync_cursors();
            self.log.leave();
        }
        self.ledgers()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

/// Joins `threads`; one that still waits for its other side when the time is over is left behind.
fn join_until_over(threads: Vec<JoinHandle<()>>, stop: &Stop) {
    const GRACE: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(5);
    let mut late: Option<Instant> = None;
    for thread in threads {
        while !thread.is_finished() {
            if stop.over() && late.get_or_insert_with(Instant::now).elapsed() > GRACE {
                let name = thread.thread().name().unwrap_or_default();
                tracing::warn!(thread = name, "still waits for its other side: left behind");
                break;
            }
            std::thread::sleep(LOOK);
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the thread of a sink died");
        }
    }
}

/// The wall clock, in microseconds.
fn wall() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
