//! Files behind the spool (`durability = "disk"`): one file of each sealed segment.
//!
//! A file's name is made from its segment, and its records are the segment's. It is written under
//! another name, synced and renamed, and only then is the segment acknowledged; one that is there is
//! delivered. So a kill, a crash or a full disk loses nothing and writes nothing twice.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::keep::{self, DISK_FULL};
use super::part::{self, sync_parent, with_extension};
use super::recover::is_named;
use super::worker::is_full;
use super::{Batch, Context, Ledgers, Sink, WRITE_ERROR};
use crate::config::output::file_name;
use crate::config::{Files, Full};
use crate::metrics::FileCounts;
use crate::output::Encoder;
use crate::output::schema::Layout;
use crate::output::spool::{Delivered, Failure, ObjectTarget, Objects, Stop};

/// What is appended to the name of a file that is being written. Not `part`: what is left of such a
/// file is recovered, but the segment of this one is still there.
const NEXT: &str = "next";

/// What became of the files of one sink.
pub type Counted = Arc<Mutex<FileCounts>>;

/// Writes the files of one sink.
pub struct SegmentFiles {
    config: Files,
    /// `<sink>-<sensor>`, fit for a file name.
    prefix: String,
    layout: Layout,
    counted: Counted,
    /// Whether what an earlier run left unfinished is removed.
    swept: bool,
}

/// Why a file was not written.
enum Fault {
    File(io::Error),
    Stopped,
}

impl SegmentFiles {
    /// Files as `config` says, of records as `layout` has them, on the sensor called `sensor`.
    /// Nothing is made yet.
    #[must_use]
    pub fn new(config: &Files, layout: Layout, sensor: &str, counted: Counted) -> Self {
        let prefix = format!("{}-{}", file_name(&config.name), file_name(sensor));
        Self { config: config.clone(), prefix, layout, counted, swept: false }
    }

    /// `<sink>-<sensor>-<creation of the segment, UTC, yyyymmddThhmmssZ>-<its number, and the
    /// microseconds of its creation in six digits>.<extension>`: a spool that is made anew counts
    /// from 0 again, but not at the same microsecond.
    fn path(&self, objects: &Objects<'_>) -> PathBuf {
        let created = objects.created();
        let start = jiff::Timestamp::from_microsecond(created.0).unwrap_or_default();
        let start = start.strftime("%Y%m%dT%H%M%SZ");
        let (segment, micros) = (objects.segment(), created.0.rem_euclid(1_000_000));
        let extension = self.config.format.extension();
        let name = format!("{}-{start}-{segment}{micros:06}.{extension}", self.prefix);
        self.config.directory.join(name)
    }

    /// Writes the file of `objects`, makes it durable as `path` and returns its octets.
    fn write(&self, path: &Path, objects: &Objects<'_>, stop: &Stop) -> Result<u64, Fault> {
        fs::create_dir_all(&self.config.directory).map_err(Fault::File)?;
        let next = with_extension(path, NEXT);
        let file = File::create(&next).map_err(Fault::File)?;
        let written = self.encode(file, objects, stop).and_then(|file| {
            file.sync_all().map_err(Fault::File)?;
            Ok(file.metadata().map_err(Fault::File)?.len())
        });
        if written.is_err() || objects.given() == 0 {
            // Its octets would be in the way where the disk is full.
            fs::remove_file(&next).map_err(Fault::File)?;
            return written.map(|_| 0);
        }
        fs::rename(&next, path).and_then(|()| sync_parent(path)).map_err(Fault::File)?;
        written
    }

    fn encode(&self, file: File, objects: &Objects<'_>, stop: &Stop) -> Result<File, Fault> {
        let writer = BufWriter::new(file);
        let encoder = Encoder::new(self.config.format, &self.layout, writer);
        let mut encoder = encoder.map_err(Fault::File)?;
        for unit in objects.units() {
            if stop.over() {
                return Err(Fault::Stopped);
            }
            encoder.records(unit.records()).map_err(Fault::File)?;
        }
        let writer = encoder.finish().map_err(Fault::File)?;
        writer.into_inner().map_err(|error| Fault::File(error.into_error()))
    }

    /// Whether the disk has the room that is to be left; if files may go for it, room is made.
    fn room(&self) -> io::Result<()> {
        let wanted = self.config.free_bytes;
        // A directory that is not there yet is made with the file.
        while let Ok(free) = keep::free(&self.config.directory)
            && free < wanted
        {
            if self.config.full == Full::Newest || !self.remove_oldest() {
                let message = format!("{free} octets are free, {wanted} are to be left");
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            }
        }
        Ok(())
    }

    /// Removes what an earlier run left unfinished: of a segment that is still there it is written anew, and
    /// of one that was given up nobody asks.
    fn sweep_unfinished(&mut self) {
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let Ok(entries) = fs::read_dir(&self.config.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path.extension().is_some_and(|extension| extension == NEXT)
                && path
                    .file_stem()
                    .and_then(OsStr::to_str)
                    .is_some_and(|name| is_named(name, &self.prefix));
            if ours && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished file");
            }
        }
    }

    /// Removes finished files that are too old or too many.
    fn sweep(&self) {
        let Files { directory, keep_s, keep_bytes, .. } = &self.config;
        if *keep_s > 0 || *keep_bytes > 0 {
            let files = keep::finished(directory, &self.prefix);
            for (file, why) in keep::outdated(&files, &self.config, SystemTime::now()) {
                self.remove(file, why);
            }
        }
    }

    fn remove_oldest(&self) -> bool {
        let files = keep::finished(&self.config.directory, &self.prefix);
        files.first().is_some_and(|file| self.remove(file, DISK_FULL))
    }

    fn remove(&self, file: &keep::Finished, why: &'static str) -> bool {
        let removed = keep::remove(&self.config.name, file, why);
        if removed {
            self.count(|counts| {
                counts.removed.one(why);
                counts.removed_octets += file.octets;
            });
        }
        removed
    }

    fn count(&self, count: impl FnOnce(&mut FileCounts)) {
        count(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, fault: Fault) -> Failure {
        let directory = self.config.directory.display();
        match fault {
            Fault::Stopped => Failure::Stopped,
            Fault::File(error) => {
                let reason = if is_full(&error) { DISK_FULL } else { WRITE_ERROR };
                Failure::later(reason, format!("{directory}: {error}"))
            }
        }
    }
}

impl ObjectTarget for SegmentFiles {
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        self.sweep_unfinished();
        part::probe(&self.config.directory, &self.prefix)
            .and_then(|()| self.room())
            .map_err(|error| self.failed(Fault::File(error)))
    }

    fn deliver(&mut self, objects: &Objects<'_>, stop: &Stop) -> Result<Delivered, Failure> {
        self.sweep_unfinished();
        let path = self.path(objects);
        let done = |octets| Ok(Delivered { octets, dead: Vec::new() });
        if let Ok(there) = fs::metadata(&path) {
            // An earlier attempt, whose cursor was lost: the whole segment counts as read.
            objects.units().for_each(drop);
            sync_parent(&path).map_err(|error| self.failed(Fault::File(error)))?;
            return done(there.len());
        }
        self.room().map_err(|error| self.failed(Fault::File(error)))?;
        let octets = loop {
            match self.write(&path, objects, stop) {
                Ok(octets) => break octets,
                Err(Fault::File(error))
                    if is_full(&error)
                        && self.config.full == Full::Oldest
                        && self.remove_oldest() => {}
                Err(fault) => return Err(self.failed(fault)),
            }
        };
        if octets > 0 {
            self.count(|counts| {
                counts.files += 1;
                counts.octets += octets;
            });
        }
        self.sweep();
        done(octets)
    }
}

/// Stands among the sinks for the files behind the spool: takes nothing, and tells of them.
#[derive(Debug, Default)]
pub struct Told(pub Vec<(String, Counted)>);

impl Sink for Told {
    fn offer(&self, _: &Arc<Batch>) {}

    fn offer_blocking(&self, _: &Arc<Batch>) {}

    fn ledgers(&self) -> Ledgers {
        Ledgers::new()
    }

    fn files(&self) -> BTreeMap<String, FileCounts> {
        let counts =
            |counted: &Counted| counted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.iter().map(|(name, counted)| (name.clone(), counts(counted))).collect()
    }

    fn set_context(&self, _: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> Ledgers {
        Ledgers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::schema::Stream;

    #[test]
    fn what_an_earlier_run_left_unfinished_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let stay = [
            "a-b-20260101T000000Z-0000001.ndjson",
            "c-b-20260101T000000Z-0000001.ndjson.next",
            "a-b-20260101T000000Z-0000001.ndjson.part",
            "next",
        ];
        let goes = "a-b-20260101T000000Z-1000001.ndjson.next";
        stay.iter().chain([&goes]).for_each(|name| {
            fs::write(directory.path().join(name), "{}").expect("room");
        });
        let name = "a".to_owned();
        let config = Files { name, directory: directory.path().to_owned(), ..Files::default() };
        let layout = Layout::all(Stream::Slices);
        let mut files = SegmentFiles::new(&config, layout, "b", Counted::default());
        files.probe(&Stop::default()).expect("a folder");
        let there = |name: &&str| directory.path().join(name).exists();
        assert!(stay.iter().all(there) && !there(&goes));
    }
}
