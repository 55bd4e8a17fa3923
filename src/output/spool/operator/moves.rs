//! Moving a sink's cursor: to deliver again, or to give up.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::cursor::{self, Cursor, Saved};
use super::super::log::sync_directory;
use super::super::segment::{Segment, list};
use super::{SegmentReport, ahead, invalid, named, segment_report, take, waiting};
use crate::time::Micros;

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
        segments.push(segment_report(&place, (number, sealed), None, false)?);
    }
    let from = saved.cursor.clone();
    let mut to = from.clone();
    (to.segment, to.offset) = aim(&place, &segments, goal, &saved)?;
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
    saved.settled = settled(&place, &segments, &saved)?;
    saved.dropped += times * records;
    save(directory, &saved)?;
    drop(lock);
    Ok(Moved { sink: sink.to_owned(), from, to, records })
}

/// Records of the segment that the cursor of `saved` stands in and that stand before it.
fn settled(place: &Path, segments: &[SegmentReport], saved: &Saved) -> io::Result<Option<u64>> {
    let Saved { select, ref cursor, .. } = *saved;
    let segment = segments.iter().find(|segment| segment.number == cursor.segment);
    let Some(segment) = segment.filter(|_| cursor.offset > 0) else { return Ok(Some(0)) };
    let ahead = ahead(place, cursor.segment, cursor.offset)?;
    Ok(ahead.map(|ahead| segment.sums.select(select) - ahead.select(select)))
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
    &Saved { whole, ref cursor, .. }: &Saved,
) -> io::Result<(u64, u64)> {
    let next = segments.last().map_or(0, |segment| segment.number + 1);
    // What the cursor has passed may be gone, and its numbers are used.
    let next = next.max(cursor.segment + u64::from(cursor.offset > 0));
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
            let found = Segment::open(place, number, u64::MAX).map_err(named(place, number))?;
            let (end, mut at) = (segment.octets, found.start);
            while let Some(frame) = found.next(at, end) {
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
