//! The files sink: rotating files, whole or not there at all.
//!
//! Records are written to `NAME.part`; when the file is old or large enough, or on close, it is
//! flushed, synced to disk and renamed to `NAME`, and the directory is synced: that is the moment
//! at which its records are acknowledged. `NAME` is
//! `<sink>-<sensor>-<start, UTC, yyyymmddThhmmssZ>-<seq>.<extension>`. What a crash leaves behind
//! is dealt with at the next start ([`Status::recovered`]).
//!
//! The sink has a thread of its own and a bounded queue. Nothing that goes wrong with the disk
//! ends it: what cannot be written is shed and counted, and the next file is tried after a pause.
//! Finished files are removed by age and size, and, if so configured, to make room on a full disk.
//!
//! With `durability = "disk"` the spool stands before the files, in the place of the queue
//! ([`segments`]).

mod keep;
mod part;
mod recover;
#[cfg(feature = "spool")]
pub mod segments;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use serde::Serialize;

pub use keep::{DISK_FULL, free};
#[cfg(feature = "spool")]
pub(in crate::output) use worker::is_full;

use super::{Batch, Context, Ledgers, OVERLOAD, Sink};
use crate::config::{Files, Select};
use crate::metrics::{Counts, FileCounts, ledger};

/// The queue was full.
pub const QUEUE_FULL: &str = "queue_full";
/// The file could not be opened, written, synced or renamed.
pub const WRITE_ERROR: &str = "write_error";
/// The sink was closed already.
pub const CLOSED: &str = "closed";

/// A handle to a running files sink. Dropping it closes the sink.
pub struct FilesSink {
    name: String,
    select: Select,
    queue_records_max: usize,
    shared: Arc<Shared>,
    sender: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the sink did besides its ledger.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Files that were renamed to their final name.
    pub files: u64,
    /// Their octets.
    pub octets: u64,
    /// Path of the last of them.
    pub last_file: Option<PathBuf>,
    /// Files of an earlier run that were found unfinished and kept, up to their last whole line,
    /// as `*.recovered.*`.
    pub recovered: u64,
    /// Unfinished Parquet files of an earlier run, which cannot be read: kept as `*.broken`.
    pub broken: u64,
    /// Finished files that were removed again, by reason: `age`, `size`, [`DISK_FULL`].
    pub removed: Counts,
    /// Their octets.
    pub removed_octets: u64,
    /// The last error, until something is written again.
    pub fault: Option<String>,
}

enum Message {
    Batch(Arc<Batch>),
    Close,
}

/// What handle and thread share. One lock guards the ledger, so that it balances whenever it is
/// read.
struct Shared {
    state: Mutex<State>,
    room: Condvar,
    context: ArcSwap<Context>,
}

#[derive(Default)]
struct State {
    ledger: ledger::Sink,
    /// Records of the batches in the queue, selected or not: all of them are held in memory.
    queued: usize,
    closed: bool,
    status: Status,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shed(&mut self, records: usize, reason: &'static str) {
        self.ledger.selected += records as u64;
        self.ledger.shed.add(reason, records as u64);
    }
}

impl FilesSink {
    /// Starts a sink as `config` says. A directory that cannot be made or written yet is no error
    /// here but a [`Sink::fault`] from the start, and is tried again.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn spawn(config: Files, context: Context) -> io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            room: Condvar::new(),
            context: ArcSwap::from_pointee(context),
        });
        let (name, select) = (config.name.clone(), config.select);
        let queue_records_max = config.queue_records_max;
        let mut worker = worker::Worker::new(config, shared.clone(), receiver);
        worker.probe();
        let thread = std::thread::Builder::new().name(format!("sink {name}"));
        let thread = Mutex::new(Some(thread.spawn(move || worker.run())?));
        Ok(Self { name, select, queue_records_max, shared, sender, thread })
    }

    /// What the sink did besides its ledger.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    fn take(&self, batch: &Arc<Batch>, wait: bool) {
        let selected = batch.count(self.select);
        if selected == 0 {
            return;
        }
        // A batch of which little is selected would keep the rest in memory, too.
        let sparse = selected * 4 <= batch.slices.len() + batch.alerts.len();
        let batch = if sparse { Arc::new(batch.only(self.select)) } else { batch.clone() };
        let held = batch.slices.len() + batch.alerts.len();

        let mut state = self.shared.lock();
        // A batch larger than the whole queue is taken when nothing else waits.
        let full = |s: &State| s.queued > 0 && s.queued + held > self.queue_records_max;
        if wait {
            let full = |s: &mut State| full(s) && !s.closed;
            let waited = self.shared.room.wait_while(state, full);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return state.shed(selected, CLOSED);
        }
        if full(&state) {
            return state.shed(selected, QUEUE_FULL);
        }
        // Sent under the lock, so that nothing comes after `Close`.
        if self.sender.send(Message::Batch(batch)).is_err() {
            return state.shed(selected, CLOSED);
        }
        state.queued += held;
        state.ledger.selected += selected as u64;
        state.ledger.spooled += selected as u64;
    }
}

impl FilesSink {
    /// Its ledger now.
    #[must_use]
    pub fn ledger(&self) -> ledger::Sink {
        self.shared.lock().ledger.clone()
    }

    /// Why it cannot write now; `None` while it can.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.shared.lock().status.fault.clone()
    }

    /// As [`Sink::close`].
    pub fn close(&self) -> ledger::Sink {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let mut state = self.shared.lock();
            state.closed = true;
            let sent = self.sender.send(Message::Close);
            drop(state);
            self.shared.room.notify_all();
            if thread.join().is_err() || sent.is_err() {
                tracing::error!(sink = self.name, "the thread of a sink died");
            }
        }
        self.ledger()
    }
}

impl Sink for FilesSink {
    fn offer(&self, batch: &Arc<Batch>) {
        self.take(batch, false);
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.take(batch, true);
    }

    fn shed_untagged(&self, slices: u64) {
        if self.select == Select::Slices {
            self.shared.lock().shed(slices as usize, OVERLOAD);
        }
    }

    fn ledgers(&self) -> Ledgers {
        [(self.name.clone(), self.ledger())].into()
    }

    fn files(&self) -> BTreeMap<String, FileCounts> {
        let Status { files, octets, recovered, broken, removed, removed_octets, .. } =
            self.status();
        let counts = FileCounts { files, octets, recovered, broken, removed, removed_octets };
        [(self.name.clone(), counts)].into()
    }

    fn set_context(&self, context: Context) {
        self.shared.context.store(Arc::new(context));
    }

    fn faults(&self) -> Vec<(String, String)> {
        self.fault().into_iter().map(|fault| (self.name.clone(), fault)).collect()
    }

    fn close(&self) -> Ledgers {
        [(self.name.clone(), Self::close(self))].into()
    }
}

impl Drop for FilesSink {
    fn drop(&mut self) {
        Self::close(self);
    }
}
