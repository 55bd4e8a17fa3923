//! The threads that write: one appends, one syncs and seals.

use std::fs::{self, File};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::columns::Builder;
use super::log::{Log, Totals, sync_directory};
use super::segment::{Appender, Head, Sums, open_path, sealed_path};
use super::wall;
use crate::config;
use crate::output::Batch;
use crate::output::schema::{Context, Row, Shown, Stream};

/// Records of a frame, but for those of one batch.
const FRAME_RECORDS: usize = 8_192;
/// The pause between two tries to write.
const PAUSE: Duration = Duration::from_millis(250);
/// The disk is full or broken.
pub(super) const WRITE_ERROR: &str = "write_error";

/// A batch on its way, with the names of its time and when it was handed over.
pub(super) struct Handed {
    pub(super) batch: Arc<Batch>,
    pub(super) context: Arc<Context>,
    pub(super) at: Instant,
}

pub(super) enum Message {
    Batch(Handed),
    Close,
}

/// What the second thread is asked for.
pub(super) enum Sync {
    /// Sync the segment, cut off what is behind its end, and give it its final name.
    Seal {
        number: u64,
        file: Arc<File>,
        octets: u64,
    },
    Close,
}

pub(super) struct Writer {
    log: Arc<Log>,
    config: config::Spool,
    receiver: Receiver<Message>,
    sealer: Sender<Sync>,
    active: Option<Appender>,
    begun: Instant,
    last: Instant,
    slices: Builder,
    alerts: Builder,
}

impl Writer {
    pub(super) fn new(
        log: Arc<Log>,
        config: config::Spool,
        receiver: Receiver<Message>,
        sealer: Sender<Sync>,
    ) -> Self {
        let now = Instant::now();
        Self {
            log,
            config,
            receiver,
            sealer,
            active: None,
            begun: now,
            last: now,
            slices: Builder::new(Stream::Slices),
            alerts: Builder::new(Stream::Alerts),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let message = match self.seals_at() {
                Some(at) => self.receiver.recv_deadline(at),
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let closed = match message {
                Ok(Message::Batch(first)) => self.gather(first),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            if self.seals_at().is_some_and(|at| closed || at <= Instant::now()) {
                self.seal();
            }
            if closed {
                break;
            }
        }
        // Only fails if the other thread is gone.
        drop(self.sealer.send(Sync::Close));
    }

    /// When the segment that is being written is sealed by age or idle.
    fn seals_at(&self) -> Option<Instant> {
        let age = Duration::from_secs(self.config.segment_age_s.into());
        let idle = Duration::from_secs(self.config.segment_idle_s.into());
        self.active.as_ref().map(|_| (self.begun + age).min(self.last + idle))
    }

    /// Writes `first` and what waits after it, up to a frame's worth. Returns whether the spool
    /// was closed.
    fn gather(&mut self, first: Handed) -> bool {
        let count = |handed: &Handed| handed.batch.slices.len() + handed.batch.alerts.len();
        let (mut records, mut gathered, mut closed) = (count(&first), vec![first], false);
        while records < FRAME_RECORDS {
            match self.receiver.try_recv() {
                Ok(Message::Batch(handed)) => {
                    records += count(&handed);
                    gathered.push(handed);
                }
                Ok(Message::Close) => {
                    closed = true;
                    break;
                }
                Err(_) => break,
            }
        }
        self.write(&gathered);
        let now = Instant::now();
        let mut append = self.log.append.lock().unwrap_or_else(PoisonError::into_inner);
        for handed in &gathered {
            let took = now.duration_since(handed.at).as_micros();
            append.record(i64::try_from(took).unwrap_or(i64::MAX));
        }
        drop(append);
        self.log.book().queued -= records;
        self.log.room.notify_all();
        closed
    }

    fn write(&mut self, gathered: &[Handed]) {
        let (mut sums, mut tagged) = (Sums::default(), 0);
        for Handed { batch, context, .. } in gathered {
            for slice in &batch.slices {
                tagged += usize::from(!slice.rules.is_empty());
                self.slices.push(&Shown::new(Row::from(slice), context));
            }
            for alert in &batch.alerts {
                self.alerts.push(&Shown::new(Row::from(alert), context));
            }
        }
        sums.slices = self.slices.rows() as u64;
        sums.tagged = tagged as u64;
        sums.alerts = self.alerts.rows() as u64;
        for stream in [Stream::Slices, Stream::Alerts] {
            let (part, tagged) = match stream {
                Stream::Slices => (Sums { alerts: 0, ..sums }, tagged),
                Stream::Alerts => (Sums { alerts: sums.alerts, ..Sums::default() }, 0),
            };
            if part != Sums::default() {
                self.append(stream, part, tagged);
            }
        }
    }

    /// Appends the records of `stream` that are gathered: when it returns, they are in the file, or
    /// were shed.
    fn append(&mut self, stream: Stream, sums: Sums, tagged: usize) {
        if !self.roll() {
            self.builder(stream).clear();
            return self.log.book().lose(sums, super::SPOOL_FULL);
        }
        let mut made = false;
        loop {
            let appended = self.try_append(stream, tagged, &mut made);
            let error = match appended {
                Ok(()) => return,
                Err(error) => error,
            };
            self.log.error("write");
            if error.kind() == io::ErrorKind::InvalidData {
                tracing::error!(%error, "records cannot be written as columns");
                self.builder(stream).clear();
                return self.log.book().lose(sums, WRITE_ERROR);
            }
            let first = self.log.book().fault.replace(self.place(&error)).is_none();
            if first {
                tracing::error!(directory = %self.config.directory.display(), %error,
                    "cannot write to the spool: records wait in memory");
            }
            if self.log.stop.wait(PAUSE) {
                // Once more, and then they are lost.
                if self.try_append(stream, tagged, &mut made).is_err() {
                    self.builder(stream).clear();
                    self.log.book().lose(sums, WRITE_ERROR);
                }
                return;
            }
        }
    }

    fn place(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.config.directory.display())
    }

    fn builder(&mut self, stream: Stream) -> &mut Builder {
        match stream {
            Stream::Slices => &mut self.slices,
            Stream::Alerts => &mut self.alerts,
        }
    }

    fn try_append(&mut self, stream: Stream, tagged: usize, made: &mut bool) -> io::Result<()> {
        if self.active.is_none() {
            self.begin()?;
        }
        let active = self.active.as_mut().expect("just begun");
        let builder = match stream {
            Stream::Slices => &mut self.slices,
            Stream::Alerts => &mut self.alerts,
        };
        if !*made {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            active.make(stream, builder, tagged, wall()).map_err(invalid)?;
            *made = true;
        }
        let header = active.write()?;
        let octets = active.octets;
        let totals = &self.log.counts;
        Totals::add(&totals.appended, header.records.into());
        Totals::add(&totals.appended_octets, header.frame());
        *self.log.unsynced.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&active.file));
        let mut book = self.log.book();
        book.appended(&header, octets);
        if book.fault.take().is_some() {
            tracing::info!("the spool can be written again");
        }
        drop(book);
        self.log.notify();
        self.last = Instant::now();
        if octets >= self.config.segment_bytes {
            self.seal();
        }
        Ok(())
    }

    /// Makes room where a new segment is due. Returns whether any sink takes what comes.
    fn roll(&mut self) -> bool {
        if self.active.is_some() {
            return true;
        }
        let mut book = self.log.book();
        let (segment, max) = (self.config.segment_bytes, self.config.bytes_max);
        let gone = book.make_room(segment, max, self.config.full);
        let wanted = book.wanted();
        drop(book);
        self.log.remove(&gone);
        wanted
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.log.book().next;
        let head = Head { number, created: wall(), spool: self.log.id };
        let active = Appender::create(&self.log.segments(), head)?;
        self.log.book().begin(active.octets);
        self.active = Some(active);
        self.begun = Instant::now();
        Ok(())
    }

    /// Hands the segment over to be synced and sealed.
    fn seal(&mut self) {
        let Some(Appender { head, file, octets, .. }) = self.active.take() else { return };
        self.log.unsynced.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only fails if the other thread is gone.
        drop(self.sealer.send(Sync::Seal { number: head.number, file, octets }));
    }
}

/// Syncs at the interval, and seals.
pub(super) fn sync(log: &Log, interval: Duration, receiver: &Receiver<Sync>) {
    let mut waiting: Vec<(u64, Arc<File>, u64)> = Vec::new();
    let mut closed = false;
    while !closed {
        match receiver.recv_timeout(interval) {
            Ok(Sync::Seal { number, file, octets }) => waiting.push((number, file, octets)),
            Ok(Sync::Close) | Err(RecvTimeoutError::Disconnected) => closed = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        waiting.retain(|(number, file, octets)| {
            let sealed = seal(log, *number, file, *octets);
            if let Err(error) = &sealed {
                failed(log, error);
            }
            sealed.is_err()
        });
        let unsynced = log.unsynced.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = unsynced {
            let synced = file.sync_data().and_then(|()| sync_directory(&log.segments()));
            if let Err(error) = synced {
                failed(log, &error);
            }
        }
    }
    log.book().finished = true;
    log.notify();
}

fn failed(log: &Log, error: &io::Error) {
    log.error("sync");
    tracing::error!(directory = %log.directory.display(), %error, "cannot sync the spool");
}

fn seal(log: &Log, number: u64, file: &File, octets: u64) -> io::Result<()> {
    let directory = log.segments();
    file.set_len(octets)?;
    file.sync_all()?;
    fs::rename(open_path(&directory, number), sealed_path(&directory, number))?;
    sync_directory(&directory)?;
    let mut book = log.book();
    book.sealed(number);
    let gone = book.clean();
    drop(book);
    log.remove(&gone);
    log.notify();
    Ok(())
}
