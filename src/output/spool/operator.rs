//! What an operator asks of a spool: what is in it, and to move a sink's cursor.
//!
//! Reading works beside a running sensor, which may write the newest segment meanwhile and remove
//! others. Moving a cursor does not: it takes the spool's lock, as a sensor does.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use serde::Serialize;

use super::cursor::{self, Cursor, Saved};
use super::frame::{Header, Kind};
use super::log::sync_directory;
use super::segment::{Segment, Sums, Walk, list, walk};
use super::unit;
use crate::config::Select;
use crate::output::ndjson;
use crate::output::schema::{Layout, Stream};
use crate::time::Micros;

/// What is in a spool.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// The spool's own number, in hexadecimal.
    pub id: String,
    /// Whether a sensor runs on it.
    pub running: bool,
    /// Whether payloads were read and checked; else damage is known only where a frame's header is gone.
    pub verified: bool,
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentReport>,
    /// The sinks that have a cursor.
    pub sinks: Vec<SinkReport>,
    /// Files of cursors that cannot be read, each with the reason: the next start delivers everything
    /// to their sinks again.
    pub unreadable: Vec<String>,
    /// Files of segments that could not be read at a start, and were kept aside.
    pub broken: Vec<String>,
}

/// One segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// Whether it is whole and synced; else it is being written, or a crash left it.
    pub sealed: bool,
    /// When it was created.
    pub created: Micros,
    /// When its first frame of records was written.
    pub first: Option<Micros>,
    /// When its last one was.
    pub last: Option<Micros>,
    /// Octets up to the end of the last whole frame.
    pub octets: u64,
    /// Frames of records.
    pub frames: u64,
    /// Records by selection.
    #[serde(flatten)]
    pub sums: Sums,
    /// Octets that are no frame, or of frames whose payload is damaged where that was looked at.
    pub damaged: u64,
    /// Octets after the last whole frame: of one that is being written, or that a crash left.
    pub unfinished: u64,
}

/// One sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    /// Its name.
    pub sink: String,
    /// What it takes.
    pub select: Select,
    /// Whether it takes whole segments.
    pub whole: bool,
    /// How far it has come.
    pub cursor: Cursor,
    /// Records that it has not delivered.
    pub waiting: u64,
    /// When the first segment with some of them was begun.
    pub oldest: Option<Micros>,
}

/// One frame.
#[derive(Clone, Debug, Serialize)]
pub struct FrameReport {
    /// Number of its segment.
    pub segment: u64,
    /// Where it begins.
    pub offset: u64,
    /// `schema`, `slices` or `alerts`; `damaged`: octets that are no frame.
    pub kind: &'static str,
    /// When it was written.
    pub written: Option<Micros>,
    /// Records in it.
    pub records: u32,
    /// Of these, slices on which a rule fired.
    pub tagged: u32,
    /// Octets, header included.
    pub octets: u64,
    /// Octets of its payload once decompressed.
    pub raw: u32,
    /// Whether its payload can be read.
    pub whole: bool,
}

/// Where a cursor is to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goal {
    /// The start of a segment.
    Segment(u64),
    /// The first frame that was written then or later; of a sink that takes whole segments, the
    /// segment that has it.
    Time(Micros),
    /// Behind everything.
    End,
}

/// What moving a cursor did.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// The sink.
    pub sink: String,
    /// Where its cursor stood.
    pub from: Cursor,
    /// Where it stands.
    pub to: Cursor,
    /// Records that are delivered again, or dropped.
    pub records: u64,
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn no_spool(directory: &Path) -> io::Error {
    let message = format!("{}: no spool is here", directory.display());
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// Looks at the spool in `directory`. With `verify` payloads are read and checked, too.
///
/// # Errors
/// Of the file system; if there is no spool.
pub fn survey(directory: &Path, verify: bool) -> io::Result<Survey> {
    let id = directory.join("id");
    let id = fs::read_to_string(&id).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_spool(directory),
        kind => io::Error::new(kind, format!("{}: {error}", id.display())),
    })?;
    let running = match take(directory) {
        Ok(lock) => {
            drop(lock);
            false
        }
        // Only the running one knows better.
        Err(error) => error.kind() == io::ErrorKind::AddrInUse,
    };
    // The cursors first: what sinks read on meanwhile makes them lag less, never more.
    let saved = cursor::all(directory)?;
    let unreadable = cursor::unreadable(directory)?;
    let place = directory.join("segments");
    let mut segments = Vec::new();
    for (number, sealed) in list(&place)? {
        segments.extend(there(segment_report(&place, number, sealed, verify))?);
    }
    let mut sinks = Vec::new();
    for saved in saved {
        let (waiting, oldest) = waiting(&place, &segments, &saved, saved.cursor.clone())?;
        let Saved { sink, select, whole, cursor, .. } = saved;
        sinks.push(SinkReport { sink, select, whole, cursor, waiting, oldest });
    }
    let broken = fs::read_dir(&place)?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let broken = path.extension().is_some_and(|extension| extension == "broken");
        broken.then(|| path.display().to_string())
    });
    let broken: BTreeSet<String> = broken.collect();
    let broken = broken.into_iter().collect();
    let (id, verified) = (id.trim().to_owned(), verify);
    Ok(Survey { id, running, verified, segments, sinks, unreadable, broken })
}

/// A running sensor may remove a segment at any time: then it is not there, which is no error.
fn there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn segment_report(
    place: &Path,
    number: u64,
    sealed: bool,
    verify: bool,
) -> io::Result<SegmentReport> {
    let Some(segment) = open(place, number)? else {
        let octets = fs::metadata(super::segment::open_path(place, number))
            .or_else(|_| fs::metadata(super::segment::sealed_path(place, number)))?;
        return Ok(SegmentReport::without_head(number, sealed, octets.len()));
    };
    let walked = walk(&segment, 0, verify)?;
    let Walk { sums, frames, first, last, end, damaged, torn } = walked;
    let created = segment.head.created;
    let (octets, unfinished) = (end, torn);
    let report = SegmentReport {
        number,
        sealed,
        created,
        first,
        last,
        octets,
        frames,
        sums,
        damaged,
        unfinished,
    };
    Ok(report)
}

/// The segment `number`; `None` if it has no head: it is just being made, or damaged.
fn open(place: &Path, number: u64) -> io::Result<Option<Segment>> {
    match Segment::open(place, number, u64::MAX) {
        Ok(segment) => Ok(Some(segment)),
        Err(error) if is_headless(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a segment could not be opened since it has no head.
fn is_headless(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl SegmentReport {
    fn without_head(number: u64, sealed: bool, octets: u64) -> Self {
        Self {
            number,
            sealed,
            created: Micros::default(),
            first: None,
            last: None,
            octets: 0,
            frames: 0,
            sums: Sums::default(),
            damaged: 0,
            unfinished: octets,
        }
    }
}

/// Records that `saved` has still to deliver from `cursor` on, and since when.
fn waiting(
    place: &Path,
    segments: &[SegmentReport],
    saved: &Saved,
    cursor: Cursor,
) -> io::Result<(u64, Option<Micros>)> {
    let (mut records, mut oldest) = (0, None);
    for segment in segments.iter().filter(|segment| cursor.needs(segment.number)) {
        let partly = segment.number == cursor.segment && cursor.offset > 0 && !saved.whole;
        let sums = match partly {
            false => segment.sums,
            true => match there(Segment::open(place, segment.number, u64::MAX))? {
                Some(found) => walk(&found, cursor.offset, false)?.sums,
                None => continue,
            },
        };
        let some = sums.select(saved.select);
        records += some;
        oldest = oldest.or(segment.first.filter(|_| some > 0));
    }
    Ok((records, oldest))
}

/// Every frame of the segment `number` of the spool in `directory`, payloads checked. One without a
/// head, as a crash may leave it, is damage from its first octet on.
///
/// # Errors
/// Of the file system; if there is no such segment.
pub fn frames(directory: &Path, number: u64) -> io::Result<Vec<FrameReport>> {
    let place = directory.join("segments");
    let mut frames = Vec::new();
    // The schemas stand before the first frame of records.
    let mut at = super::segment::HEAD as u64;
    let gap = |offset: u64, end: u64| FrameReport {
        segment: number,
        offset,
        kind: "damaged",
        written: None,
        records: 0,
        tagged: 0,
        octets: end - offset,
        raw: 0,
        whole: false,
    };
    let segment = match found(directory, number) {
        Err(error) if is_headless(&error) => {
            let report = segment_report(&place, number, false, false)?;
            frames.push(gap(0, report.unfinished));
            return Ok(frames);
        }
        segment => segment?,
    };
    let end = segment.len()?;
    while let Some(found) = segment.frame(at, end)? {
        if found.offset > at {
            frames.push(gap(at, found.offset));
        }
        at = found.end();
        let Header { kind, raw, records, tagged, written, .. } = found.header;
        frames.push(FrameReport {
            segment: number,
            offset: found.offset,
            kind: match kind {
                Kind::Schema(_) => "schema",
                Kind::Records(Stream::Slices) => "slices",
                Kind::Records(Stream::Alerts) => "alerts",
            },
            written: Some(written),
            records,
            tagged,
            octets: found.header.frame(),
            raw,
            whole: segment.payload(&found)?.is_some(),
        });
    }
    if at < end {
        frames.push(gap(at, end));
    }
    Ok(frames)
}

/// Writes the records that `select` takes of the segment `number` as NDJSON, with every field. One
/// without a head has none, which is said.
///
/// # Errors
/// Of the file system and of `out`; if there is no such segment.
pub fn records(
    directory: &Path,
    number: u64,
    select: Select,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let segment = match found(directory, number) {
        Err(error) if is_headless(&error) => {
            tracing::warn!("no records: {error}");
            return Ok(());
        }
        segment => segment?,
    };
    let end = segment.len()?;
    let objects = unit::Objects::new(&segment, select, end);
    let writer = ndjson::Writer::new(&Layout::all(select.into()));
    let mut line = Vec::new();
    for unit in objects.units() {
        let unit = unit?;
        for record in unit.records() {
            line.clear();
            writer.object(&mut line, &record);
            line.push(b'\n');
            out.write_all(&line)?;
        }
    }
    Ok(())
}

fn found(directory: &Path, number: u64) -> io::Result<Segment> {
    let opened = Segment::open(&directory.join("segments"), number, u64::MAX);
    opened.map_err(|error| {
        let place = directory.display();
        let message = match error.kind() {
            io::ErrorKind::NotFound => format!("{place}: there is no segment {number}"),
            _ => format!("{place}: segment {number}: {error}"),
        };
        io::Error::new(error.kind(), message)
    })
}

/// Takes the spool for this process, as a sensor does; makes nothing that a sensor under another
/// user could not use.
fn take(directory: &Path) -> io::Result<File> {
    let path = directory.join("lock");
    let lock = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_spool(directory),
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "{}: in use by a running weir, which moves its cursors itself: stop it first",
                directory.display()
            );
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Sets the cursor of `sink` back to `goal`, so that what follows is delivered again.
///
/// # Errors
/// If a sensor runs on the spool, there is no such sink or segment, or the cursor stands before
/// `goal` already.
pub fn replay(directory: &Path, sink: &str, goal: Goal) -> io::Result<Moved> {
    shift(directory, sink, goal, |from, to| {
        let back = (to.segment, to.offset) < (from.segment, from.offset);
        let message = "the cursor stands there or before it: nothing would be delivered again";
        if back { Ok(Some(0)) } else { Err(message) }
    })
}

/// Moves the cursor of `sink` forward to `goal`. What it passes over is never delivered to this
/// sink; the next start counts it as shed by [`super::DROPPED`]. Where nothing waits before `goal`, it
/// stays. Needs no room on the disk.
///
/// # Errors
/// If a sensor runs on the spool, or there is no such sink or segment.
pub fn discard(directory: &Path, sink: &str, goal: Goal) -> io::Result<Moved> {
    shift(directory, sink, goal, |from, to| {
        let forward = (to.segment, to.offset) > (from.segment, from.offset);
        Ok(forward.then_some(1))
    })
}

/// Moves the cursor of `sink`, if `allowed`, which says how often the records in between count as
/// dropped; `None`: it stays.
fn shift(
    directory: &Path,
    sink: &str,
    goal: Goal,
    allowed: impl Fn(&Cursor, &Cursor) -> Result<Option<u64>, &'static str>,
) -> io::Result<Moved> {
    let lock = take(directory)?;
    let found =
        cursor::load(directory, sink).map_err(|error| unreadable(directory, sink, &error))?;
    let Some(mut saved) = found else {
        let known: Vec<String> = cursor::all(directory)?.into_iter().map(|s| s.sink).collect();
        let known = known.join(", ");
        return Err(invalid(format!("no sink `{sink}` has a cursor here, only: {known}")));
    };
    let place = directory.join("segments");
    let mut segments = Vec::new();
    for (number, sealed) in list(&place)? {
        segments.push(segment_report(&place, number, sealed, false)?);
    }
    let from = saved.cursor.clone();
    let mut to = from.clone();
    (to.segment, to.offset) = aim(&place, &segments, goal, saved.whole)?;
    to.gaps.retain(|&(_, last)| last >= to.segment);
    let message = |reason| invalid(format!("sink `{sink}`: {reason} (segment {})", from.segment));
    let times = allowed(&from, &to).map_err(message)?;
    let before = waiting(&place, &segments, &saved, from.clone())?.0;
    let after = waiting(&place, &segments, &saved, to.clone())?.0;
    let records = before.abs_diff(after);
    let Some(times) = times.filter(|&times| times == 0 || records > 0) else {
        let (sink, to) = (sink.to_owned(), from.clone());
        return Ok(Moved { sink, from, to, records: 0 });
    };
    saved.cursor.clone_from(&to);
    saved.dropped += times * records;
    save(directory, &saved)?;
    drop(lock);
    Ok(Moved { sink: sink.to_owned(), from, to, records })
}

/// Why the cursor of `sink` cannot be read, and what to do.
fn unreadable(directory: &Path, sink: &str, error: &io::Error) -> io::Error {
    let file = cursor::path(directory, sink);
    let mut message = format!("{}: the cursor of sink `{sink}`: {error}", file.display());
    if error.kind() == io::ErrorKind::InvalidData {
        message += ": a sensor that starts delivers everything in the spool to it again; without the file, \
                    what comes from then on";
    }
    io::Error::new(error.kind(), message)
}

/// The segment and offset that `goal` names.
fn aim(
    place: &Path,
    segments: &[SegmentReport],
    goal: Goal,
    whole: bool,
) -> io::Result<(u64, u64)> {
    let next = segments.last().map_or(0, |segment| segment.number + 1);
    match goal {
        Goal::End => Ok((next, 0)),
        Goal::Segment(number) if segments.iter().any(|segment| segment.number == number) => {
            Ok((number, 0))
        }
        Goal::Segment(number) => {
            let there = segments.iter().map(|segment| segment.number.to_string());
            let there = there.collect::<Vec<_>>().join(", ");
            Err(invalid(format!("there is no segment {number}, only: {there}")))
        }
        Goal::Time(time) => {
            let reaches = |segment: &&SegmentReport| segment.last >= Some(time);
            let Some(segment) = segments.iter().find(reaches) else { return Ok((next, 0)) };
            let number = segment.number;
            if whole {
                return Ok((number, 0));
            }
            let found = Segment::open(place, number, u64::MAX)?;
            let (end, mut at) = (segment.octets, found.start);
            while let Some(frame) = found.next(at, end)? {
                if frame.header.written >= time {
                    return Ok((number, frame.offset));
                }
                at = frame.end();
            }
            Ok((number, at))
        }
    }
}

/// Saves a cursor so that whoever owns the spool can replace it.
fn save(directory: &Path, saved: &Saved) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    cursor::save(directory, saved)?;
    let path = cursor::path(directory, &saved.sink);
    let (owner, own) = (fs::metadata(directory)?, fs::metadata(&path)?);
    if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    sync_directory(directory)
}
