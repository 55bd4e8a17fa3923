//! The spool at its start: what the last run left, after a stop, a crash or a power loss.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::book::{Book, DROPPED, Entry, Taker};
use super::cursor::{self, Cursor, Saved};
use super::log::{Totals, sync_directory};
use super::segment::{Segment, list, open_path, sealed_path, walk};
use crate::config::Select;
use crate::metrics::{Delivery, ledger};
use crate::output::files::is_full;

/// What the spool is opened with: of each sink its name, what it selects, and whether it takes
/// whole segments.
pub(super) type Wanted<'a> = (&'a str, Select, bool);

/// Makes the spool's directories.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory.join("segments"))?;
    fs::create_dir_all(directory.join("dead"))
}

/// Takes the spool for this process. Whoever only looks whether it is taken holds it for a moment.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    let file = File::create(directory.join("lock"))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "in use by another weir"))
}

/// The spool's own number, drawn when it is made and kept in a file, and whether it stands there: a
/// full disk may have no room for it.
pub(super) fn id(directory: &Path) -> io::Result<(u64, bool)> {
    let path = directory.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(id) => Ok((id, true)),
            Err(_) => {
                let message = format!("{}: expected 16 hexadecimal digits", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = RandomState::new().build_hasher().finish();
            match note_id(directory, id) {
                Ok(()) => Ok((id, true)),
                Err(error) if is_full(&error) => Ok((id, false)),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Keeps the spool's own number.
pub(super) fn note_id(directory: &Path, id: u64) -> io::Result<()> {
    let path = directory.join("id");
    let next = path.with_extension("next");
    fs::write(&next, format!("{id:016x}\n"))?;
    File::open(&next)?.sync_all()?;
    fs::rename(&next, &path)?;
    sync_directory(directory)
}

/// Reads the book off the disk. Segments that were being written are cut after their last whole
/// frame and sealed.
pub(super) fn book(directory: &Path, sinks: &[Wanted<'_>]) -> io::Result<(Book, Totals)> {
    let (segments, totals) = (directory.join("segments"), Totals::default());
    let mut entries = VecDeque::new();
    let listed = list(&segments)?;
    // Numbers that were used, even if their segments are gone.
    let mut next = listed.last().map_or(0, |(number, _)| number + 1);
    for (number, sealed) in listed {
        entries.extend(entry(&segments, number, sealed, &totals)?);
    }
    for Saved { cursor, .. } in cursor::all(directory)? {
        let gap = cursor.gaps.last().map_or(0, |gap| if gap.1 == u64::MAX { gap.0 } else { gap.1 });
        next = next.max(cursor.segment).max(gap);
        // It stands within a segment that a power loss took: its number is not used again.
        if cursor.offset > 0 && cursor.segment == next {
            next += 1;
        }
    }
    let mut book = Book { segments: entries, next, ..Book::default() };
    forget(directory, sinks)?;
    for wanted in sinks {
        let taker = taker(directory, &book, wanted)?;
        book.takers.push(taker);
    }
    book.settle_all();
    for taker in &mut book.takers {
        match cursor::save(directory, &taker.saved()) {
            Ok(()) => taker.noted = true,
            // Nothing is appended before it stands there.
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((book, totals))
}

fn entry(segments: &Path, number: u64, sealed: bool, totals: &Totals) -> io::Result<Option<Entry>> {
    let (from, to) = (open_path(segments, number), sealed_path(segments, number));
    let path = if sealed { &to } else { &from };
    let segment = Segment::of(File::options().read(true).write(true).open(path)?, u64::MAX);
    let segment = match segment {
        Ok(segment) => segment,
        // Made, and nothing written yet; or damaged from its first octet on.
        Err(error) => {
            let octets = fs::metadata(path)?.len();
            let kept = path.with_extension("broken");
            // A sealed one had records: a disk that lost them says so by its length.
            if octets > 0 || sealed {
                fs::rename(path, &kept)?;
                tracing::error!(path = %kept.display(), octets, %error,
                    "a segment of the spool cannot be read; kept aside");
            } else {
                fs::remove_file(path)?;
            }
            Totals::add(&totals.damaged_octets, octets);
            return Ok(None);
        }
    };
    let walked = walk(&segment, 0, !sealed)?;
    // What is missing at the end of a sealed one is damage: it was whole.
    let damaged = walked.damaged + if sealed { walked.torn } else { 0 };
    Totals::add(&totals.damaged_octets, damaged);
    if damaged > 0 {
        let path = path.display();
        tracing::error!(%path, octets = damaged, "a segment of the spool is damaged: what stood there is lost");
    }
    if !sealed {
        if walked.torn > 0 {
            Totals::add(&totals.torn_octets, walked.torn);
            tracing::warn!(
                segment = number,
                octets = walked.torn,
                "cut off what a crash left unfinished at the end of the spool"
            );
        }
        segment.cut(walked.end)?;
        fs::rename(&from, &to)?;
        sync_directory(segments)?;
    }
    let (octets, sums) = (walked.end, walked.sums);
    let (first, last) = (walked.first, walked.last);
    Ok(Some(Entry { number, octets, sums, first, last, whole: true, sealed: true }))
}

/// Forgets the cursors of sinks that are not configured any more: they would hold segments for
/// ever.
fn forget(directory: &Path, sinks: &[Wanted<'_>]) -> io::Result<()> {
    for Saved { sink, cursor, .. } in cursor::all(directory)? {
        if sinks.iter().all(|(name, ..)| *name != sink) {
            tracing::warn!(
                sink,
                segment = cursor.segment,
                offset = cursor.offset,
                "the spool held a cursor of a sink that is not configured: dropped, with what \
                 only that sink had not delivered"
            );
            cursor::remove(directory, &sink)?;
        }
    }
    Ok(())
}

fn taker(directory: &Path, book: &Book, (name, select, whole): &Wanted<'_>) -> io::Result<Taker> {
    let first = book.segments.front().map_or(book.next, |entry| entry.number);
    let mut dropped = 0;
    let cursor = match cursor::load(directory, name) {
        Ok(Some(saved)) => {
            dropped = saved.dropped;
            saved.cursor
        }
        Ok(None) => {
            tracing::info!(sink = name, "a new sink: it begins at the end of the spool");
            Cursor::at(book.next)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(sink = name, %error, "a cursor cannot be read: everything that is in \
                            the spool is delivered again");
            Cursor::at(first)
        }
        Err(error) => return Err(error),
    };
    let mut taker = Taker {
        name: (*name).to_owned(),
        select: *select,
        whole: *whole,
        ledger: ledger::Sink::default(),
        cursor,
        noted: false,
        left: 0,
        flight: None,
        delivery: Delivery::default(),
        fault: None,
    };
    if taker.whole {
        // An object is a whole segment, so a part of one begins anew.
        taker.cursor.offset = 0;
    }
    taker.left = left(&directory.join("segments"), book, &taker)?;
    let later = book
        .segments
        .iter()
        .filter(|entry| entry.number > taker.cursor.segment && !taker.cursor.skips(entry.number));
    let later: u64 = later.map(|entry| entry.sums.select(*select)).sum();
    taker.ledger.spooled = taker.left + later;
    taker.ledger.selected = taker.ledger.spooled + dropped;
    taker.ledger.shed.add(DROPPED, dropped);
    if taker.ledger.spooled > 0 {
        tracing::info!(sink = name, records = taker.ledger.spooled, "waiting in the spool");
    }
    Ok(taker)
}

/// Records of the cursor's segment that are not delivered yet.
fn left(segments: &Path, book: &Book, taker: &Taker) -> io::Result<u64> {
    let number = taker.cursor.segment;
    let entry = book.segments.iter().find(|entry| entry.number == number);
    let Some(entry) = entry.filter(|_| !taker.cursor.skips(number)) else { return Ok(0) };
    if taker.cursor.offset == 0 {
        return Ok(entry.sums.select(taker.select));
    }
    let segment = Segment::open(segments, number, u64::MAX)?;
    Ok(walk(&segment, taker.cursor.offset, false)?.sums.select(taker.select))
}
