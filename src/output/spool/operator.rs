//! What an operator asks of a spool: what is in it, and to move a sink's cursor.
//!
//! Reading works beside a running sensor, which may write the newest segment meanwhile and remove
//! others. Moving a cursor does not: it takes the spool's lock, as a sensor does.

mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use serde::Serialize;

pub use moves::{Goal, Moved, discard, replay};

use super::cursor::{self, Cursor, Saved};
use super::frame::{Header, Kind};
use super::recover::of;
use super::seals::{self, Seal};
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
    /// Records that stood there when it was sealed, and do not any more.
    pub lost: u64,
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
    /// Records that it had not delivered when their segments were damaged, cut short or taken away: the next
    /// start counts them as `damaged`.
    pub lost: u64,
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
    let seals = seals::read(directory)?;
    let place = directory.join("segments");
    let mut segments = Vec::new();
    for (number, sealed) in list(&place)? {
        segments.extend(there(segment_report(
            &place,
            (number, sealed),
            seals.get(&number),
            verify,
        ))?);
    }
    let mut sinks = Vec::new();
    for saved in saved {
        let (waiting, oldest) = waiting(&place, &segments, &saved, saved.cursor.clone())?;
        let lost = lost(&place, &segments, (&seals, running), &saved)?;
        let Saved { sink, select, whole, cursor, .. } = saved;
        sinks.push(SinkReport { sink, select, whole, cursor, waiting, lost, oldest });
    }
    let broken = fs::read_dir(&place).map_err(of(&place))?.filter_map(|entry| {
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
    (number, sealed): (u64, bool),
    seal: Option<&Seal>,
    verify: bool,
) -> io::Result<SegmentReport> {
    let Some(segment) = open(place, number)? else {
        let octets = fs::metadata(super::segment::open_path(place, number))
            .or_else(|_| fs::metadata(super::segment::sealed_path(place, number)))?;
        return Ok(SegmentReport::without_head(number, sealed, seal, octets.len()));
    };
    let walked = walk(&segment, 0, verify).map_err(named(place, number))?;
    let Walk { sums, frames, first, last, end, damaged, torn } = walked;
    let created = segment.head.created;
    let (octets, unfinished) = (end, torn);
    let cut_off = seal.map_or(0, |seal| seal.octets.saturating_sub(end + torn));
    let damaged = damaged + cut_off;
    let lost = seal.map_or(0, |seal| seal.sums.records().saturating_sub(sums.records()));
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
        lost,
        unfinished,
    };
    Ok(report)
}

/// The segment `number`; `None` if it has no head: it is just being made, or damaged.
fn open(place: &Path, number: u64) -> io::Result<Option<Segment>> {
    match Segment::open(place, number, u64::MAX) {
        Ok(segment) => Ok(Some(segment)),
        Err(error) if is_headless(&error) => Ok(None),
        Err(error) => Err(named(place, number)(error)),
    }
}

/// An error of the segment `number` with its file's name.
fn named(place: &Path, number: u64) -> impl Fn(io::Error) -> io::Error {
    let sealed = super::segment::sealed_path(place, number);
    let path = if sealed.exists() { sealed } else { super::segment::open_path(place, number) };
    move |error| of(&path)(error)
}

/// Whether a segment could not be opened since it has no head.
fn is_headless(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl SegmentReport {
    fn without_head(number: u64, sealed: bool, seal: Option<&Seal>, octets: u64) -> Self {
        Self {
            number,
            sealed,
            created: Micros::default(),
            first: None,
            last: None,
            octets: 0,
            frames: 0,
            sums: Sums::default(),
            damaged: seal.map_or(0, |seal| seal.octets.saturating_sub(octets)),
            lost: seal.map_or(0, |seal| seal.sums.records()),
            unfinished: octets,
        }
    }
}

/// Records that `saved` has still to deliver and that are not there any more. A running sensor removes
/// segments: of those that are gone then, it knows.
fn lost(
    place: &Path,
    segments: &[SegmentReport],
    (seals, running): (&BTreeMap<u64, Seal>, bool),
    saved: &Saved,
) -> io::Result<u64> {
    let at = &saved.cursor;
    let mut records = 0;
    for (&number, seal) in seals.range(at.segment..) {
        let found = segments.iter().find(|segment| segment.number == number);
        if found.is_none() && running {
            continue;
        }
        let ahead = match found {
            Some(_) if number == at.segment && at.offset > 0 => ahead(place, number, at.offset)?,
            _ => None,
        };
        let ahead = ahead.map_or(0, |sums| sums.select(saved.select));
        let found = found.map_or_else(Sums::default, |segment| segment.sums);
        records += seal.lost(saved, number, found, ahead);
    }
    Ok(records)
}

/// What stands in the segment `number` from `offset` on; `None` if a running sensor has removed it, or it has
/// no head.
fn ahead(place: &Path, number: u64, offset: u64) -> io::Result<Option<Sums>> {
    match there(open(place, number))?.flatten() {
        Some(segment) => {
            let walked = walk(&segment, offset, false).map_err(named(place, number))?;
            Ok(Some(walked.sums))
        }
        None => Ok(None),
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
            true => match ahead(place, segment.number, cursor.offset)? {
                Some(sums) => sums,
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
            let report = segment_report(&place, (number, false), None, false)?;
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
