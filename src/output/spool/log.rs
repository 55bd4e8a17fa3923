//! What the threads of the spool share.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::book::{Book, Flight, Settled, Work};
use super::cursor;
use super::recover;
use super::seals::Seals;
use super::segment::{Sums, open_path, sealed_path};
use super::slots::Slots;
use super::target::Stop;
use super::wall;
use crate::metrics::{Counts, Latency};
use crate::output::seldom::Seldom;

/// How often a thread that waits looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// The log on disk with its book.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) directory: PathBuf,
    /// The spool's own number.
    pub(super) id: u64,
    /// Held while the directory is ours; `None` where the disk had no room for it yet.
    lock: Mutex<Option<File>>,
    /// Whether that number stands on disk.
    noted: AtomicBool,
    book: Mutex<Book>,
    /// The cursors' files, by their places in the book; taken before the book.
    cursors: Vec<Mutex<Option<Slots>>>,
    seals: Mutex<Seals>,
    /// Something was appended or sealed, or the spool was closed.
    changed: Condvar,
    /// Something was written out of the queue.
    pub(super) room: Condvar,
    pub(super) stop: Stop,
    pub(super) counts: Totals,
    /// The segment that is being written and not synced since.
    pub(super) unsynced: Mutex<Option<Arc<File>>>,
    pub(super) errors: Mutex<Counts>,
    /// Warnings that would come again and again: what cannot be done, and of which sink.
    seldom: Mutex<Seldom<(&'static str, usize)>>,
    pub(super) append: Mutex<Latency>,
    /// From the arrival of what raised an alert to the return of its append.
    pub(super) alerts: Mutex<Latency>,
}

/// What only grows.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) appended: AtomicU64,
    pub(super) appended_octets: AtomicU64,
    pub(super) damaged_octets: AtomicU64,
    pub(super) torn_octets: AtomicU64,
}

impl Totals {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

impl Log {
    /// The log of the spool in `directory`, which may be taken already, with the number `id`, which may be noted
    /// on disk already.
    pub(super) fn new(
        (directory, lock): (&Path, Option<File>),
        (id, noted): (u64, bool),
        (book, seals): (Book, Seals),
        counts: Totals,
    ) -> Self {
        let cursors = book.takers.iter().map(|_| Mutex::default()).collect();
        Self {
            directory: directory.to_owned(),
            lock: Mutex::new(lock),
            id,
            cursors,
            noted: AtomicBool::new(noted),
            book: Mutex::new(book),
            seals: Mutex::new(seals),
            changed: Condvar::new(),
            room: Condvar::new(),
            stop: Stop::default(),
            counts,
            unsynced: Mutex::default(),
            errors: Mutex::default(),
            seldom: Mutex::default(),
            append: Mutex::default(),
            alerts: Mutex::default(),
        }
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.directory.join("segments")
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seals(&self) -> MutexGuard<'_, Seals> {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Counts a failed step of the spool's own.
    pub(super) fn error(&self, reason: &'static str) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).one(reason);
    }

    /// Has `tell` tell of what cannot be done, once a minute, with how many times it was left out before.
    pub(super) fn seldom(&self, what: &'static str, index: usize, tell: impl FnOnce(u64)) {
        let mut seldom = self.seldom.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = seldom.ask((what, index), Instant::now());
        drop(seldom);
        if let Some(left_out) = asked {
            tell(left_out);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and takes the directory, if a full disk had no room for it before.
    ///
    /// # Errors
    /// Of the file system; if another process has it.
    pub(super) fn take(&self) -> io::Result<()> {
        let mut lock = self.lock();
        if lock.is_none() && !self.noted.load(Ordering::Relaxed) {
            *lock = Some(recover::take_late(&self.directory)?);
        }
        Ok(())
    }

    /// Others may have it.
    pub(super) fn leave(&self) {
        self.lock().take();
    }

    /// Notes what a full disk did not take at the start: the spool's number, and where each sink begins.
    /// Nothing is appended before, so that a crash leaves neither without a record that is due.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn note(&self) -> io::Result<()> {
        self.take()?;
        if !self.noted.load(Ordering::Relaxed) {
            recover::note_id(&self.directory, self.id)?;
            self.noted.store(true, Ordering::Relaxed);
        }
        let unnoted = |book: &Book| book.takers.iter().position(|taker| !taker.noted);
        loop {
            let Some(index) = unnoted(&self.book()) else { return Ok(()) };
            self.save(index)?;
            self.sync_cursor(index)?;
            self.book().takers[index].noted = true;
        }
    }

    /// Somebody took the file of the segment `number` away, of `octets`: what no sink had read is lost, and
    /// counted.
    pub(super) fn vanished(&self, number: u64, octets: u64) {
        let path = open_path(&self.segments(), number);
        self.error("gone");
        Totals::add(&self.counts.damaged_octets, octets);
        let mut book = self.book();
        let records = book.sums(number).map_or(0, Sums::records);
        book.vanished(number);
        drop(book);
        tracing::error!(path = %path.display(), octets, records, "a segment of the spool was taken away while it \
                        was written: what sinks had not read is lost, counted as damaged");
        if let Err(error) = self.make_again() {
            tracing::error!(%error, "cannot make the spool's folders again");
        }
        self.save_all();
        self.sync_cursors();
        self.notify();
    }

    /// Makes the spool's folders again, if somebody took them away. Without our lock nothing in it is ours: all is
    /// noted anew.
    ///
    /// # Errors
    /// Of the file system; if another process has it.
    pub(super) fn make_again(&self) -> io::Result<()> {
        let there = fs::metadata(self.directory.join("lock"));
        let mut lock = self.lock();
        let ours = lock.as_ref().map(File::metadata).transpose()?;
        let same = |ours: &fs::Metadata| {
            there.as_ref().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        };
        if ours.as_ref().is_some_and(same) {
            return recover::make(&self.directory);
        }
        *lock = None;
        drop(lock);
        self.noted.store(false, Ordering::Relaxed);
        (0..self.cursors.len()).for_each(|index| *self.cursor(index) = None);
        self.book().takers.iter_mut().for_each(|taker| taker.noted = false);
        self.seals().anew();
        self.note()
    }

    fn cursor(&self, index: usize) -> MutexGuard<'_, Option<Slots>> {
        self.cursors[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the cursor of the sink at `index`, as it is now, whoever else does so.
    fn save(&self, index: usize) -> io::Result<()> {
        let mut slots = self.cursor(index);
        let saved = self.book().saved(index);
        cursor::write(&mut slots, &self.directory, &saved)
    }

    fn sync_cursor(&self, index: usize) -> io::Result<()> {
        self.cursor(index).as_mut().map_or(Ok(()), Slots::sync)
    }

    /// Has all cursors on disk.
    pub(super) fn sync_cursors(&self) {
        for index in 0..self.cursors.len() {
            if let Err(error) = self.sync_cursor(index) {
                self.error("cursor");
                self.seldom("sync", index, |left_out| {
                    tracing::warn!(%error, left_out, "cannot sync a cursor: a power loss would deliver again");
                });
            }
        }
    }

    /// Waits for something to read for the sink at `index`; `None` when it should stop.
    pub(super) fn wait(&self, index: usize) -> Option<Work> {
        let mut book = self.book();
        loop {
            if self.stop.over() {
                return None;
            }
            if let Some(work) = book.work(index) {
                return Some(work);
            }
            if book.finished {
                return None;
            }
            let waited = self.changed.wait_timeout(book, LOOK);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A unit of the sink at `index` is under way; not if its segment was given up since it was read.
    pub(super) fn fly(&self, index: usize, flight: Flight) -> bool {
        let taker = &mut self.book().takers[index];
        let due = taker.cursor.segment == flight.segment;
        taker.flight = due.then_some(flight);
        due
    }

    /// An attempt of the sink at `index` failed.
    pub(super) fn failed(&self, index: usize, reason: &'static str, message: &str) {
        let mut book = self.book();
        let taker = &mut book.takers[index];
        taker.delivery.errors.one(reason);
        // Once a fault, not once an attempt.
        if taker.fault.is_none() {
            tracing::warn!(sink = taker.name, reason, "cannot deliver: {message}");
        }
        taker.fault = Some(format!("{message} ({} records wait)", taker.ledger.spooled));
    }

    /// What was wrong with the sink at `index` is over.
    pub(super) fn recovered(&self, index: usize) {
        let mut book = self.book();
        let taker = &mut book.takers[index];
        if taker.fault.take().is_some() {
            tracing::info!(sink = taker.name, "the other side is there now");
        }
    }

    /// A unit of the sink at `index` has ended: its cursor is written, and what nobody needs any
    /// more is removed.
    pub(super) fn settle(&self, index: usize, settled: &Settled) {
        let mut book = self.book();
        let recovered = book.takers[index].fault.is_some();
        let before = book.takers[index].cursor.segment;
        book.settle(index, settled);
        let after = book.takers[index].cursor.segment;
        let sink = book.takers[index].name.clone();
        let gone = book.clean(wall());
        drop(book);
        if recovered {
            tracing::info!(sink, "delivers again");
        }
        // Frames without a record for the sink are no reason to write: read again, they give none.
        let idle = settled.acknowledged + settled.dead == 0 && after == before;
        if !idle {
            self.save_or_tell(index);
        }
        self.remove(&gone);
    }

    fn save_or_tell(&self, index: usize) {
        if let Err(error) = self.save(index) {
            self.error("cursor");
            self.seldom("save", index, |left_out| {
                let sink = self.book().takers[index].name.clone();
                tracing::warn!(sink, %error, left_out, "cannot save a cursor: a restart would deliver \
                               again what it has not noted");
            });
        }
    }

    /// Writes the cursors of all sinks, as they are now.
    pub(super) fn save_all(&self) {
        (0..self.cursors.len()).for_each(|index| self.save_or_tell(index));
    }

    /// Removes the files of `segments`, which the book has struck out. Cursors are on disk before: they
    /// say that these numbers were used.
    pub(super) fn remove(&self, segments: &[u64]) {
        if !segments.is_empty() {
            self.save_all();
            self.sync_cursors();
        }
        for &number in segments {
            let directory = self.segments();
            let (sealed, open) = (sealed_path(&directory, number), open_path(&directory, number));
            let removed = fs::remove_file(&sealed).or_else(|_| fs::remove_file(&open));
            // Or it was sealed in between.
            let removed = removed.or_else(|_| fs::remove_file(&sealed));
            if let Err(error) = removed {
                self.error("remove");
                tracing::warn!(segment = number, %error, "cannot remove a segment");
            }
            self.seals().forget(number);
        }
    }
}

/// Makes what was created, renamed or removed in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
