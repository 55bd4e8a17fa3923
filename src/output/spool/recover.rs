//! The spool at its start: what the last run left, after a stop, a crash or a power loss.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::book::{Book, DAMAGED, DROPPED, Entry, Taker};
use super::cursor::{self, Cursor, Saved};
use super::log::{Totals, sync_directory};
use super::seals::{self, Seal, Seals};
use super::segment::{Segment, list, open_path, sealed_path, walk};
use crate::config::Select;
use crate::metrics::{Delivery, ledger};
use crate::output::files::is_full;

/// What the spool is opened with: of each sink its name, what it selects, and whether it takes
/// whole segments.
pub(super) type Wanted<'a> = (&'a str, Select, bool);

/// An error of a file with the file's name, so that whoever reads it knows which of the spool's it is.
pub(super) fn of(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes the spool's directories. That of dead letters can wait for the first one.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    let (segments, dead) = (directory.join("segments"), directory.join("dead"));
    fs::create_dir_all(&segments).map_err(of(&segments))?;
    match fs::create_dir_all(&dead).map_err(of(&dead)) {
        Err(error) if !is_full(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Takes the spool for this process, and makes it if it is not there; `None` if it is not and the disk has no
/// room for its folders and its lock.
pub(super) fn take(directory: &Path) -> io::Result<Option<File>> {
    let there = directory.join("segments").exists();
    match make(directory).and_then(|()| lock(directory)) {
        Err(error) if is_full(&error) && !there => Ok(None),
        taken => taken.map(Some),
    }
}

/// Takes a spool that a full disk had no room for at the start. Whatever stands in it now is not ours.
pub(super) fn take_late(directory: &Path) -> io::Result<File> {
    make(directory)?;
    let lock = lock(directory)?;
    let fresh = list(&directory.join("segments"))?.is_empty() && !directory.join("id").exists();
    let another = || io::Error::other("another weir used it meanwhile: restart this one");
    fresh.then_some(lock).ok_or_else(another)
}

/// Takes the spool for this process. Whoever only looks whether it is taken holds it for a moment.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    let path = directory.join("lock");
    let file = File::create(&path).map_err(of(&path))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(of(&path)(error)),
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
        Err(error) => Err(of(&path)(error)),
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

/// The book of a spool that is not there yet, with its number and its seals: nothing of it stands on disk.
pub(super) fn none(directory: &Path, sinks: &[Wanted<'_>]) -> (u64, Book, Seals) {
    let mut book = Book::default();
    let takers = sinks.iter().map(|&(name, select, whole)| {
        let saved = Saved { select, whole, ..Saved::default() };
        new_taker(name, &saved)
    });
    book.takers = takers.collect();
    let id = RandomState::new().build_hasher().finish();
    (id, book, Seals::new(directory, BTreeMap::new()))
}

fn new_taker(name: &str, saved: &Saved) -> Taker {
    Taker {
        name: name.to_owned(),
        select: saved.select,
        whole: saved.whole,
        ledger: ledger::Sink::default(),
        cursor: saved.cursor.clone(),
        noted: false,
        left: 0,
        flight: None,
        delivery: Delivery::default(),
        fault: None,
    }
}

/// Reads the book off the disk. Segments that were being written are cut after their last whole
/// frame and sealed. What was sealed and is not there any more is lost, for each sink that had not read it.
pub(super) fn book(directory: &Path, sinks: &[Wanted<'_>]) -> io::Result<(Book, Seals, Totals)> {
    let (segments, totals) = (directory.join("segments"), Totals::default());
    let mut entries = VecDeque::new();
    let listed = list(&segments)?;
    let seals = seals::read(directory)?;
    // Numbers that were used, even if their segments are gone.
    let mut next = listed.last().map_or(0, |(number, _)| number + 1);
    next = next.max(seals.last_key_value().map_or(0, |(number, _)| number + 1));
    for (number, sealed) in listed {
        let seal = seals.get(&number);
        entries.extend(entry(&segments, (number, sealed), seal, &totals)?);
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
        let taker = taker(directory, &book, &seals, wanted)?;
        book.takers.push(taker);
    }
    tell_gone(&segments, &book, &seals, &totals);
    book.settle_all();
    for index in 0..book.takers.len() {
        match cursor::save(directory, &book.saved(index)) {
            Ok(()) => book.takers[index].noted = true,
            // Nothing is appended before it stands there.
            Err(error) if is_full(&error) => {}
            Err(error) => {
                let path = cursor::path(directory, &book.takers[index].name);
                return Err(of(&path)(error));
            }
        }
    }
    // What is lost is told of once: from now on what is there is what there was.
    let known = book
        .segments
        .iter()
        .map(|&Entry { number, octets, sums, .. }| (number, Seal { octets, sums }));
    let mut seals = Seals::new(directory, known.collect());
    match seals.write() {
        Err(error) if !is_full(&error) => Err(error),
        _ => Ok((book, seals, totals)),
    }
}

/// Tells of segments that were sealed, that some sink still needs, and that are not there.
fn tell_gone(segments: &Path, book: &Book, seals: &BTreeMap<u64, Seal>, totals: &Totals) {
    for (&number, seal) in seals.iter().filter(|(number, _)| !book.has(**number)) {
        let path = sealed_path(segments, number);
        let broken = path.with_extension("broken");
        if book.takers.iter().any(|taker| taker.cursor.needs(number)) && !broken.exists() {
            Totals::add(&totals.damaged_octets, seal.octets);
            let (path, records) = (path.display(), seal.sums.records());
            tracing::error!(%path, octets = seal.octets, records, "a segment of the spool is gone: what stood \
                            there is lost");
        }
    }
}

fn entry(
    segments: &Path,
    (number, sealed): (u64, bool),
    seal: Option<&Seal>,
    totals: &Totals,
) -> io::Result<Option<Entry>> {
    let (from, to) = (open_path(segments, number), sealed_path(segments, number));
    let path = if sealed { &to } else { &from };
    let file = File::options().read(true).write(true).open(path).map_err(of(path))?;
    let segment = Segment::of(file, u64::MAX);
    let segment = match segment {
        Ok(segment) => segment,
        // Made, and nothing written yet; or damaged from its first octet on.
        Err(error) => {
            let octets = fs::metadata(path)?.len();
            let kept = path.with_extension("broken");
            // A sealed one had records: a disk that lost them says so by its length.
            let sealed = sealed || seal.is_some();
            if octets > 0 || sealed {
                fs::rename(path, &kept)?;
                tracing::error!(path = %kept.display(), octets, %error,
                    "a segment of the spool cannot be read; kept aside");
            } else {
                fs::remove_file(path)?;
            }
            Totals::add(
                &totals.damaged_octets,
                seal.map_or(octets, |seal| seal.octets.max(octets)),
            );
            return Ok(None);
        }
    };
    let walked = walk(&segment, 0, !sealed)?;
    // What is missing at the end of a sealed one is damage: it was whole.
    let cut_off = seal.map_or(0, |seal| seal.octets.saturating_sub(walked.end + walked.torn));
    let damaged = cut_off + walked.damaged + if sealed { walked.torn } else { 0 };
    // An earlier start told of it, and noted what it found.
    let told = seal.is_some_and(|seal| (seal.octets, seal.sums) == (walked.end, walked.sums));
    let damaged = if told { 0 } else { damaged };
    Totals::add(&totals.damaged_octets, damaged);
    if damaged > 0 {
        let path = path.display();
        let records = seal.map(|seal| seal.sums.records().saturating_sub(walked.sums.records()));
        tracing::error!(%path, octets = damaged, records, "a segment of the spool is damaged or was cut \
                        short: what stood there is lost");
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

fn taker(
    directory: &Path,
    book: &Book,
    seals: &BTreeMap<u64, Seal>,
    (name, select, whole): &Wanted<'_>,
) -> io::Result<Taker> {
    let first = book.segments.front().map_or(book.next, |entry| entry.number);
    let new = |cursor| Saved { settled: Some(0), cursor, ..Saved::default() };
    // Where nothing tells how far it had come, nothing tells what it misses.
    let mut told = true;
    let mut saved = match cursor::load(directory, name) {
        Ok(Some(saved)) => saved,
        Ok(None) => {
            tracing::info!(sink = name, "a new sink: it begins at the end of the spool");
            new(Cursor::at(book.next))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(sink = name, %error, "a cursor cannot be read: everything that is in \
                            the spool is delivered again");
            told = false;
            new(Cursor::at(first))
        }
        Err(error) => return Err(of(&cursor::path(directory, name))(error)),
    };
    // It had settled of another selection.
    saved.settled = saved.settled.filter(|_| saved.select == *select || saved.sink.is_empty());
    (saved.select, saved.whole) = (*select, *whole);
    if saved.whole {
        // An object is a whole segment, so a part of one begins anew.
        saved.cursor.offset = 0;
    }
    let dropped = saved.dropped;
    let mut taker = new_taker(name, &saved);
    taker.left = left(&directory.join("segments"), book, &taker)?;
    let later = book
        .segments
        .iter()
        .filter(|entry| entry.number > taker.cursor.segment && !taker.cursor.skips(entry.number));
    let later: u64 = later.map(|entry| entry.sums.select(*select)).sum();
    let lost = seals.range(taker.cursor.segment..).map(|(&number, seal)| {
        let found = book.sums(number).unwrap_or_default();
        seal.lost(&saved, number, found, taker.left)
    });
    let lost: u64 = if told { lost.sum() } else { 0 };
    taker.ledger.spooled = taker.left + later;
    taker.ledger.selected = taker.ledger.spooled + dropped + lost;
    taker.ledger.shed.add(DROPPED, dropped);
    taker.ledger.shed.add(DAMAGED, lost);
    if lost > 0 {
        tracing::error!(
            sink = name,
            records = lost,
            "lost: they stood in segments of the spool that are \
                        damaged, were cut short or are gone"
        );
    }
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
