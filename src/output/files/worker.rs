//! The sink's thread: takes batches, writes, rotates, commits.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::keep::{self, DISK_FULL, Finished};
use super::part::{Part, probe};
use super::{CLOSED, Message, Shared, WRITE_ERROR, recover};
use crate::config::output::file_name;
use crate::config::{Files, Format, Full};
use crate::metrics::stages::{Laps, Stage, spend_whole, thread_cpu};
use crate::output::schema::{Fields, Layout};
use crate::output::{Batch, Context, Encoder, Row, Stream};

/// Records between two looks at the size of the file.
const CHUNK_RECORDS: usize = 64;
/// The pause after a failure doubles from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether the open file is where it was made, and whether the disk has room.
const LOOK: Duration = Duration::from_secs(1);
/// The longest time between two looks for files that are too old.
const SWEEP: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    config: Files,
    /// `<sink>-<sensor>`, fit for a file name.
    prefix: String,
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    open: Option<Open>,
    seq: u64,
    /// Whether the status tells a fault.
    faulty: bool,
    laps: Laps,
    /// Nothing is opened before; set by a failure.
    retry_at: Option<Instant>,
    pause: Duration,
    /// What records are shed for while nothing can be written.
    reason: &'static str,
    /// When to look for files that are too old; never without `keep_s`.
    sweep_at: Option<Instant>,
    /// The disk is known to have room until then.
    room_until: Option<Instant>,
    /// The failure was of the directory: it is over when a file can be made there.
    misplaced: bool,
}

struct Open {
    part: Part,
    encoder: Encoder<File>,
    since: Instant,
    /// When to look whether it is where it was made.
    look_at: Instant,
    /// Records that are wholly in the file or in the encoder.
    records: u64,
    /// Length of the file up to the last of them; means nothing for Parquet.
    whole: u64,
}

impl Worker {
    pub(super) fn new(config: Files, shared: Arc<Shared>, receiver: Receiver<Message>) -> Self {
        let sensor = shared.context.load().sensor.clone();
        let prefix = format!("{}-{}", file_name(&config.name), file_name(&sensor));
        Self {
            config,
            prefix,
            shared,
            receiver,
            open: None,
            seq: 0,
            laps: Laps::default(),
            faulty: false,
            retry_at: None,
            pause: PAUSE_MIN,
            reason: WRITE_ERROR,
            sweep_at: None,
            room_until: None,
            misplaced: false,
        }
    }

    pub(super) fn run(mut self) {
        let leftovers = recover::all(&self.config.directory, &self.prefix);
        {
            let mut state = self.shared.lock();
            state.status.recovered = leftovers.recovered;
            state.status.broken = leftovers.broken;
        }
        self.sweep();
        loop {
            match self.next() {
                Ok(Message::Batch(batch)) => self.take(&batch),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.tend();
        }
        self.rotate();
    }

    /// The next message; a timeout when there may be something to [`tend`](Self::tend).
    fn next(&self) -> Result<Message, RecvTimeoutError> {
        let until = match &self.open {
            Some(open) => Some(self.closes_at(open).min(open.look_at)),
            None => self.retry_at.filter(|_| self.misplaced),
        };
        match until.into_iter().chain(self.sweep_at).min() {
            Some(until) => self.receiver.recv_deadline(until),
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Does what is due: the end of the open file, a look at its place, another try of the
    /// directory.
    fn tend(&mut self) {
        let now = Instant::now();
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.sweep();
        }
        let Some(open) = &mut self.open else {
            if self.misplaced && self.retry_at.is_none_or(|at| now >= at) {
                self.probe();
            }
            return;
        };
        let mut moved = false;
        if now >= open.look_at {
            open.look_at = now + LOOK;
            moved = open.part.moved();
        }
        if moved || self.open.as_ref().is_some_and(|open| now >= self.closes_at(open)) {
            self.rotate();
        }
    }

    /// Tries whether files can be made in the directory.
    pub(super) fn probe(&mut self) {
        match probe(&self.config.directory, &self.prefix) {
            Ok(()) => self.placed(),
            Err(error) => {
                self.failed(Some(&error));
                self.misplaced = true;
            }
        }
    }

    /// A file can be made in the directory: ends a fault that was the directory's.
    fn placed(&mut self) {
        if self.misplaced {
            self.recovered();
            self.misplaced = false;
        }
    }

    fn closes_at(&self, open: &Open) -> Instant {
        open.since + Duration::from_secs(self.config.rotate_s.into())
    }

    fn take(&mut self, batch: &Batch) {
        {
            let mut state = self.shared.lock();
            state.queued -= batch.slices.len() + batch.alerts.len();
        }
        self.shared.room.notify_all();
        let context = self.shared.context.load_full();
        let mut rows = batch.rows(self.config.select).peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Row<'_>> = rows.by_ref().take(CHUNK_RECORDS).collect();
            self.write(&chunk, &context);
        }
    }

    /// Writes `rows`, or sheds them.
    fn write(&mut self, rows: &[Row<'_>], context: &Context) {
        let waits = self.open.is_none() && self.retry_at.is_some_and(|at| Instant::now() < at);
        if !waits && let Err(error) = self.room() {
            // What is open was written while there was room, and is finished with what was left.
            self.rotate();
            self.failed(Some(&error));
            return self.settle(0, rows.len() as u64);
        }
        while let Err(error) = self.try_write(rows, context) {
            let full = error.as_ref().is_some_and(is_full);
            self.reason = error.as_ref().map_or(self.reason, reason);
            if let Some(open) = self.open.take() {
                self.salvage(open);
            }
            if full && self.config.full == Full::Oldest && self.remove_oldest() {
                continue;
            }
            self.failed(error.as_ref());
            self.settle(0, rows.len() as u64);
            break;
        }
        let Some(open) = &self.open else { return };
        let large = open.encoder.octets() >= self.config.rotate_bytes;
        if large || Instant::now() >= self.closes_at(open) {
            self.rotate();
        }
    }

    /// `None` as the error: a file was not to be opened yet.
    fn try_write(&mut self, rows: &[Row<'_>], context: &Context) -> Result<(), Option<io::Error>> {
        if self.open.is_none() {
            if self.retry_at.is_some_and(|at| Instant::now() < at) {
                return Err(None);
            }
            let created = self.create();
            self.misplaced |= created.is_err();
            self.open = Some(created?);
            self.placed();
        }
        let open = self.open.as_mut().expect("just opened");
        self.laps.begin();
        let result = open.encoder.rows(rows.iter().copied(), context);
        self.laps.lap(Stage::Encode, Duration::ZERO);
        result?;
        open.records += rows.len() as u64;
        open.whole = open.encoder.octets();
        // Lines are in the file now; Parquet's columns wait in memory for theirs.
        if self.config.format != Format::Parquet {
            self.recovered();
        }
        Ok(())
    }

    fn create(&mut self) -> io::Result<Open> {
        let start = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let prefix = format!("{}-{start}", self.prefix);
        let Files { directory, format, select, .. } = &self.config;
        let part = Part::create(directory, &prefix, &mut self.seq, format.extension())?;
        let own = self.shared.context.load().fields.and(&Fields::new(self.config.add.clone()));
        let layout = Layout::of(Stream::from(*select), &self.config.fields).with(&own);
        let encoder = Encoder::new(*format, &layout, part.file.try_clone()?)?;
        let since = Instant::now();
        Ok(Open { part, encoder, since, look_at: since + LOOK, records: 0, whole: 0 })
    }

    /// Finishes the open file, if there is one, and settles its records.
    fn rotate(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { mut part, encoder, records, .. } = open;
        let octets = encoder.octets();
        let moved = part.moved();
        let began = thread_cpu();
        let result = encoder.finish().and_then(|_| self.commit(&mut part, records, octets));
        spend_whole(Stage::Write, thread_cpu().saturating_sub(began));
        if let Err(error) = result {
            self.failed(Some(&error));
            self.settle(0, records);
            self.discard_unreadable(part);
        } else if moved {
            let place = part.name().display();
            self.failed(Some(&io::Error::other(format!("an open file was moved to {place}"))));
        }
        self.misplaced |= moved;
    }

    /// After a failed write: keeps the file up to its last whole record.
    fn salvage(&mut self, open: Open) {
        let Open { mut part, encoder, records, whole, .. } = open;
        drop(encoder);
        if records == 0 {
            return self.discard(part);
        }
        if self.config.format == Format::Parquet {
            self.settle(0, records);
            return self.discard(part);
        }
        let cut = part.file.set_len(whole);
        if let Err(error) = cut.and_then(|()| self.commit(&mut part, records, whole)) {
            self.failed(Some(&error));
            self.settle(0, records);
        }
    }

    fn commit(&mut self, part: &mut Part, records: u64, octets: u64) -> io::Result<()> {
        let octets = part.file.metadata().map_or(octets, |m| m.len());
        let path = part.commit()?.to_owned();
        self.settle(records, 0);
        let mut state = self.shared.lock();
        state.status.files += 1;
        state.status.octets += octets;
        state.status.last_file = Some(path);
        drop(state);
        self.sweep();
        Ok(())
    }

    /// Removes finished files that are too old or too many.
    fn sweep(&mut self) {
        let Files { directory, keep_s, keep_bytes, .. } = &self.config;
        if *keep_s > 0 {
            self.sweep_at = Some(Instant::now() + SWEEP.min(Duration::from_secs(*keep_s)));
        } else if *keep_bytes == 0 {
            return;
        }
        let files = keep::finished(directory, &self.prefix);
        for (file, why) in keep::outdated(&files, &self.config, SystemTime::now()) {
            self.remove(file, why);
        }
    }

    /// Whether the disk has the room that is to be left; if files may go for it, room is made.
    fn room(&mut self) -> io::Result<()> {
        let wanted = self.config.free_bytes;
        if wanted == 0 || self.room_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.room_until = None;
        // A directory that is not there yet is made with the file.
        while let Ok(free) = keep::free(&self.config.directory) {
            if free >= wanted {
                self.room_until = Some(Instant::now() + LOOK);
                break;
            }
            if self.config.full == Full::Newest || !self.remove_oldest() {
                let message = format!("{free} octets are free, {wanted} are to be left");
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            }
        }
        Ok(())
    }

    /// Removes the oldest finished file for the room that it takes; false if there is none.
    fn remove_oldest(&self) -> bool {
        let files = keep::finished(&self.config.directory, &self.prefix);
        files.first().is_some_and(|file| self.remove(file, DISK_FULL))
    }

    fn remove(&self, file: &Finished, why: &'static str) -> bool {
        if !keep::remove(&self.config.name, file, why) {
            return false;
        }
        let mut state = self.shared.lock();
        state.status.removed.one(why);
        state.status.removed_octets += file.octets;
        true
    }

    /// A file that failed at its end: lines can be recovered at the next start, Parquet cannot.
    fn discard_unreadable(&self, part: Part) {
        if self.config.format == Format::Parquet {
            self.discard(part);
        }
    }

    fn discard(&self, part: Part) {
        if let Err(error) = part.discard() {
            tracing::warn!(sink = self.config.name, %error, "cannot remove a failed file");
        }
    }

    /// Moves accepted records to where they ended.
    fn settle(&mut self, acknowledged: u64, shed: u64) {
        let mut state = self.shared.lock();
        state.ledger.spooled -= acknowledged + shed;
        state.ledger.acknowledged += acknowledged;
        state.ledger.shed.add(self.reason, shed);
        if acknowledged > 0 {
            drop(state);
            self.recovered();
        }
    }

    /// Something was written: ends a fault.
    fn recovered(&mut self) {
        if std::mem::take(&mut self.faulty) {
            self.shared.lock().status.fault = None;
            (self.pause, self.retry_at, self.misplaced) = (PAUSE_MIN, None, false);
            tracing::info!(sink = self.config.name, "files can be written again");
        }
    }

    /// Notes `error` and puts the next attempt off. `None` while an attempt is put off already.
    fn failed(&mut self, error: Option<&io::Error>) {
        let Some(error) = error else { return };
        self.reason = reason(error);
        let directory = self.config.directory.display();
        tracing::error!(sink = self.config.name, %directory, %error, "cannot write a file");
        self.shared.lock().status.fault = Some(format!("{directory}: {error}"));
        self.faulty = true;
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// What records are shed for after `error`.
fn reason(error: &io::Error) -> &'static str {
    if is_full(error) { DISK_FULL } else { WRITE_ERROR }
}

/// Whether `error` says that the disk, or the sink's share of it, is full.
pub(in crate::output) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Drop for Worker {
    /// However the thread ends, nothing may wait for it, and what it did not write is shed.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queued = 0;
        let lost = std::mem::take(&mut state.ledger.spooled);
        state.ledger.shed.add(CLOSED, lost);
        drop(state);
        self.shared.room.notify_all();
    }
}
