//! The end of the log: the segment that is written, under one lock. Frames are made before.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::frame::Header;
use super::log::{Log, Totals};
use super::segment::{Appender, Head, open_path};
use super::sync::Sync;
use super::wall;
use crate::config;

/// Octets that the head and the schemas of a segment may have.
const HEAD_OCTETS: u64 = 16 << 10;
/// How long the disk has to take everything before a fault is over: at the edge of full it takes one
/// frame and not the next.
const WELL: Duration = Duration::from_secs(2);
/// Between two looks whether a disk that took nothing takes something again.
const LOOK: Duration = Duration::from_secs(1);

/// What the scribes share: whoever holds it writes.
pub(super) struct Tail(Mutex<End>);

/// What came of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Appended {
    /// It is in the file.
    Written,
    /// There is no room for it, or nobody takes it.
    Full,
}

pub(super) struct End {
    log: Arc<Log>,
    config: config::Spool,
    sealer: Sender<Sync>,
    active: Option<Appender>,
    begun: Instant,
    last: Instant,
    /// When it was looked whether the file is still there.
    looked: Instant,
    /// When the disk took something not, last.
    failed: Option<Instant>,
    /// Threads that still append.
    scribes: usize,
}

impl Tail {
    pub(super) fn new(
        log: Arc<Log>,
        config: config::Spool,
        sealer: Sender<Sync>,
        scribes: usize,
    ) -> Self {
        let now = Instant::now();
        let (begun, last, looked) = (now, now, now);
        let (active, failed) = (None, None);
        Self(Mutex::new(End { log, config, sealer, active, begun, last, looked, failed, scribes }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// When there is something to do without a record: a segment to seal, or a disk to look at.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let looks = self.failed.map(|_| Instant::now() + LOOK);
        let there = self.active.as_ref().map(|_| self.looked + LOOK);
        self.seals_at().into_iter().chain(looks).chain(there).min()
    }

    /// Does it, if it is time.
    pub(super) fn tend(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
        self.seal_if_due();
        if self.failed.is_some_and(|at| at.elapsed() >= WELL) {
            self.probe();
        }
    }

    /// Looks whether the file that is written is still where it was made, and gives it up if not: records would
    /// go where nobody finds them.
    fn look(&mut self) {
        self.looked = Instant::now();
        let Some(Appender { head, file, octets, .. }) = &self.active else { return };
        let there = std::fs::symlink_metadata(open_path(&self.log.segments(), head.number));
        let gone = match (there, file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            (Err(error), _) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            (Ok(_), Err(_)) => false,
        };
        if gone {
            let (number, octets) = (head.number, *octets);
            self.active = None;
            self.log.unsynced.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.log.vanished(number, octets);
        }
    }

    /// Tries whether the disk takes anything: a frame's worth, and what it had no room for before.
    pub(super) fn probe(&mut self) {
        const OCTETS: usize = 64 << 10;
        let path = self.log.directory.join("probe");
        let tried = self.log.take().and_then(|()| std::fs::write(&path, vec![0x55; OCTETS]));
        let removed = std::fs::remove_file(&path);
        match tried.and(removed).and_then(|()| self.log.note()) {
            Ok(()) => self.worked(),
            Err(error) => self.failed(&error),
        }
    }

    /// The disk took something.
    fn worked(&mut self) {
        if self.failed.is_some_and(|at| at.elapsed() >= WELL) {
            self.failed = None;
            self.log.book().fault = None;
            tracing::info!("the spool can be written again");
        }
    }

    /// It did not.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.failed = Some(Instant::now());
        let directory = self.log.directory.display();
        let fault = format!("{directory}: {error}: records wait in memory");
        if self.log.book().fault.replace(fault).is_none() {
            tracing::error!(%directory, %error, "cannot write to the spool: records wait in memory");
        }
    }

    /// When the segment that is being written is sealed by age or idle.
    fn seals_at(&self) -> Option<Instant> {
        let age = Duration::from_secs(self.config.segment_age_s.into());
        let idle = Duration::from_secs(self.config.segment_idle_s.into());
        self.active.as_ref().map(|_| (self.begun + age).min(self.last + idle))
    }

    /// Seals the segment if it is time.
    fn seal_if_due(&mut self) {
        if self.seals_at().is_some_and(|at| at <= Instant::now()) {
            self.seal();
        }
    }

    /// One scribe will append no more; after the last one the segment is sealed.
    pub(super) fn leave(&mut self) {
        self.scribes -= 1;
        if self.scribes == 0 {
            self.seal();
            // Only fails if the other thread is gone.
            drop(self.sealer.send(Sync::Close));
        }
    }

    /// Appends `frame`, which has `header`. After an error the log is as before.
    pub(super) fn append(&mut self, header: &Header, frame: &[u8]) -> io::Result<Appended> {
        let len = frame.len() as u64;
        // So no segment is larger than it may be, but for one of a single frame.
        let over =
            |active: &Appender| active.begun && active.octets + len > self.config.segment_bytes;
        if self.active.as_ref().is_some_and(over) {
            self.seal();
        }
        if self.active.is_none() {
            if !self.room(len)? {
                return Ok(Appended::Full);
            }
            self.begin()?;
        }
        let active = self.active.as_mut().expect("just begun");
        active.write(frame)?;
        let octets = active.octets;
        let totals = &self.log.counts;
        Totals::add(&totals.appended, header.records.into());
        Totals::add(&totals.appended_octets, len);
        let file = Some(Arc::clone(&active.file));
        *self.log.unsynced.lock().unwrap_or_else(PoisonError::into_inner) = file;
        self.log.book().appended(header, octets);
        self.worked();
        self.log.notify();
        self.last = Instant::now();
        if octets >= self.config.segment_bytes {
            self.seal();
        }
        Ok(Appended::Written)
    }

    /// Makes room for a segment that begins with a frame of `len` octets. Returns whether there is
    /// any, and any sink takes what comes.
    ///
    /// # Errors
    /// If what sinks pass over cannot be noted: a crash would have them miss it, or get it after all.
    fn room(&mut self, len: u64) -> io::Result<bool> {
        let (segment, max) = (self.config.segment_bytes, self.config.bytes_max);
        let need = segment.max(len + HEAD_OCTETS);
        let mut book = self.log.book();
        let gone = book.make_room(need, max, self.config.full, wall());
        let takes = book.takes(need, max);
        drop(book);
        self.log.remove(&gone);
        self.log.note()?;
        Ok(takes)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.log.note()?;
        let number = self.log.book().next;
        let head = Head { number, created: wall(), spool: self.log.id };
        let made = Appender::create(&self.log.segments(), head);
        let active = match made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(%error, "the spool's folder was taken away: made again");
                self.log.make_again()?;
                Appender::create(&self.log.segments(), head)?
            }
            made => made?,
        };
        self.log.book().begin(active.octets);
        self.active = Some(active);
        let now = Instant::now();
        (self.begun, self.last, self.looked) = (now, now, now);
        Ok(())
    }

    /// Hands the segment over to be synced and sealed.
    fn seal(&mut self) {
        self.look();
        let Some(Appender { head, octets, .. }) = self.active.take() else { return };
        self.log.unsynced.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut book = self.log.book();
        book.end();
        let gone = book.clean(wall());
        drop(book);
        self.log.remove(&gone);
        self.log.notify();
        // Only fails if the other thread is gone.
        drop(self.sealer.send(Sync::Seal { number: head.number, octets }));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Full, Select};
    use crate::detect::TaggedSlice;
    use crate::output::Row;
    use crate::output::schema::{Context, Shown, Stream};
    use crate::output::spool::columns::Builder;
    use crate::output::spool::segment::{Framer, Sums};
    use crate::output::spool::{book::Settled, recover, sync};

    const OCTETS_MAX: u64 = 300_000;

    fn on_disk(directory: &Path) -> u64 {
        let files = std::fs::read_dir(directory.join("segments")).expect("readable");
        files.map(|file| file.expect("readable").metadata().expect("there").len()).sum()
    }

    /// A frame of slices that do not compress.
    fn frame(framer: &mut Framer, seed: &mut u64, slices: usize) -> (Header, Vec<u8>) {
        let (mut builder, mut frame) = (Builder::new(Stream::Slices), Vec::new());
        for _ in 0..slices {
            let mut tagged = TaggedSlice::default();
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            tagged.slice.flow_id = crate::flow::FlowId(u128::from(*seed) << 40);
            builder.push(&Shown::new(Row::from(&tagged), &Context::default()));
        }
        let header = framer.make(&mut frame, &mut builder, 0, wall()).expect("columns");
        (header, frame)
    }

    /// The disk seals nothing until the end, one sink is dead and one keeps up: what stands on disk
    /// is never more than may, and in the end nothing is left of what was given up.
    #[test]
    fn the_bound_holds_while_nothing_is_sealed() {
        for full in [Full::Oldest, Full::Newest] {
            let directory = tempfile::tempdir().expect("a directory");
            let config = config::Spool {
                directory: directory.path().to_owned(),
                bytes_max: OCTETS_MAX,
                segment_bytes: 65_536,
                full,
                ..config::Spool::default()
            };
            recover::make(directory.path()).expect("room");
            let sinks = [("dead", Select::Slices, false), ("alive", Select::Slices, false)];
            let (book, seals, totals) = recover::book(directory.path(), &sinks).expect("empty");
            let log =
                Arc::new(Log::new((directory.path(), None), (1, true), (book, seals), totals));
            let (sealer, seals) = crossbeam_channel::unbounded();
            let tail = Tail::new(Arc::clone(&log), config, sealer, 1);
            let (mut framer, mut seed) = (Framer::new(Stream::Slices).expect("zstd"), 1);
            let (mut written, mut refused, mut sizes) = (0, 0, (0..7).cycle());
            for _ in 0..400 {
                let slices = 50 << sizes.next().expect("endless");
                let (header, frame) = frame(&mut framer, &mut seed, slices);
                let count = slices as u64;
                for taker in &mut log.book().takers {
                    taker.ledger.selected += count;
                    taker.ledger.spooled += count;
                }
                match tail.lock().append(&header, &frame).expect("room") {
                    Appended::Written => written += count,
                    Appended::Full => {
                        refused += count;
                        log.book().lose(Sums { slices: count, ..Sums::default() }, "spool_full");
                    }
                }
                assert!(on_disk(directory.path()) <= OCTETS_MAX, "{full:?}");
                while let Some(work) = { log.book().work(1) } {
                    let (segment, end, acknowledged) = (work.segment, work.end, work.left);
                    log.settle(1, &Settled { segment, end, acknowledged, ..Settled::default() });
                }
            }
            assert!(written > 0);
            tail.lock().leave();
            sync::run(&log, Duration::from_millis(1), &seals);
            let book = log.book();
            assert_eq!(on_disk(directory.path()), book.octets(), "no file is left behind");
            assert!(book.segments.iter().all(|entry| entry.sealed));
            assert_eq!(log.errors.lock().expect("no panic").total(), 0);
            let of = |index: usize| book.takers[index].ledger.clone();
            for ledger in [of(0), of(1)] {
                let right = ledger.acknowledged + ledger.spooled + ledger.shed.total();
                assert_eq!(ledger.selected, right, "{ledger:?}");
            }
            assert_eq!(of(0).acknowledged, 0);
            assert!(of(0).spooled > 0 && of(0).shed.total() > 0, "{full:?}: {:?}", of(0));
            match full {
                Full::Oldest => assert_eq!((refused, of(1).acknowledged), (0, written)),
                Full::Newest => assert_eq!(of(1).acknowledged + of(1).shed.total(), of(1).selected),
            }
        }
    }
}
