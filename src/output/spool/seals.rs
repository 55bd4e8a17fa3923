//! What each sealed segment held when it was sealed, in a file of its own: so what a disk or a person takes
//! away of a segment, or with it, is known by number.
//!
//! A line for each: `NUMBER OCTETS SLICES TAGGED ALERTS CRC`, the last in hexadecimal. A line that is torn says
//! nothing of its segment: then what is found in that is all that it is known to have held.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::cursor::Saved;
use super::log::sync_directory;
use super::recover::of;
use super::segment::Sums;

/// Lines of segments that are gone, at most, before the file is written anew; and as many again as there
/// are of segments.
const STALE_LINES: usize = 1_024;

/// What a segment held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seal {
    /// Octets of the file.
    pub(super) octets: u64,
    pub(super) sums: Sums,
}

impl Seal {
    /// Records that `saved` had still to deliver of the segment `number` when that was sealed, and that are
    /// not there any more; `found` are those that are, `ahead` those of them behind its cursor. 0 where it is
    /// not known how far the cursor had come in it.
    pub(super) fn lost(&self, saved: &Saved, number: u64, found: Sums, ahead: u64) -> u64 {
        let Saved { select, whole, ref cursor, settled, .. } = *saved;
        let held = self.sums.select(select);
        if !cursor.needs(number) {
            0
        } else if number == cursor.segment && cursor.offset > 0 && !whole {
            settled.map_or(0, |settled| held.saturating_sub(settled + ahead))
        } else {
            held.saturating_sub(found.select(select))
        }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("seals")
}

/// The seals of all segments in `directory`, by number; also of some that are gone.
///
/// # Errors
/// Of the file system.
pub(super) fn read(directory: &Path) -> io::Result<BTreeMap<u64, Seal>> {
    let place = path(directory);
    match fs::read(&place) {
        Ok(text) => Ok(text.split(|&octet| octet == b'\n').filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(of(&place)(error)),
    }
}

fn parse(line: &[u8]) -> Option<(u64, Seal)> {
    let (text, crc) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
        return None;
    }
    let mut words = text.split(' ').map(str::parse);
    let mut next = || words.next()?.ok();
    let (number, octets) = (next()?, next()?);
    let sums = Sums { slices: next()?, tagged: next()?, alerts: next()? };
    Some((number, Seal { octets, sums }))
}

fn line(out: &mut String, number: u64, seal: &Seal) {
    let Seal { octets, sums: Sums { slices, tagged, alerts } } = seal;
    let text = format!("{number} {octets} {slices} {tagged} {alerts}");
    let crc = crc32fast::hash(text.as_bytes());
    writeln!(out, "{text} {crc:08x}").expect("memory takes all");
}

/// The file, which is written.
#[derive(Debug)]
pub(super) struct Seals {
    directory: PathBuf,
    known: BTreeMap<u64, Seal>,
    /// Open at its end, with the number of its lines; `None`: what stands there is not what is known.
    file: Option<(File, usize)>,
}

impl Seals {
    /// The file in `directory`, which is to say what is `known`.
    pub(super) fn new(directory: &Path, known: BTreeMap<u64, Seal>) -> Self {
        Self { directory: directory.to_owned(), known, file: None }
    }

    /// Has on disk what is known, if it is not.
    ///
    /// # Errors
    /// Of the file system: it is tried again with the next seal.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let stale = |lines: usize| lines > 2 * self.known.len() + STALE_LINES;
        if self.file.as_ref().is_some_and(|&(_, lines)| !stale(lines)) {
            return Ok(());
        }
        self.file = None;
        let (place, mut text) = (path(&self.directory), String::new());
        self.known.iter().for_each(|(&number, seal)| line(&mut text, number, seal));
        if fs::read(&place).is_ok_and(|there| there == text.as_bytes()) {
            let file = File::options().append(true).open(&place)?;
            self.file = Some((file, self.known.len()));
            return Ok(());
        }
        let next = place.with_extension("next");
        let made = File::create(&next).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        if made.is_err() {
            drop(fs::remove_file(&next));
        }
        made?;
        fs::rename(&next, &place)?;
        sync_directory(&self.directory)?;
        self.file = Some((File::options().append(true).open(&place)?, self.known.len()));
        Ok(())
    }

    /// Notes that the segment `number` held `seal`, on disk when this returns.
    ///
    /// # Errors
    /// Of the file system: it is tried again with the next seal.
    pub(super) fn note(&mut self, number: u64, seal: Seal) -> io::Result<()> {
        let open = self.file.is_some();
        self.known.insert(number, seal);
        self.write()?;
        let Some((file, lines)) = self.file.as_mut().filter(|_| open) else { return Ok(()) };
        let mut text = String::new();
        line(&mut text, number, &seal);
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        *lines += 1;
        if written.is_err() {
            // A part of it may stand there.
            self.file = None;
        }
        written
    }

    /// The file is gone: what is known is written anew with the next seal.
    pub(super) fn anew(&mut self) {
        self.file = None;
    }

    /// The segment `number` is gone as it should.
    pub(super) fn forget(&mut self, number: u64) {
        self.known.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(n: u64) -> Seal {
        Seal { octets: 100 + n, sums: Sums { slices: 9 * n, tagged: n, alerts: 2 * n } }
    }

    #[test]
    fn seals_are_read_as_they_were_noted_and_torn_lines_say_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        assert_eq!(read(place).expect("none"), BTreeMap::new());
        let mut seals = Seals::new(place, BTreeMap::new());
        seals.write().expect("room");
        for n in 0..5 {
            seals.note(n, seal(n)).expect("room");
            assert_eq!(read(place).expect("readable"), (0..=n).map(|n| (n, seal(n))).collect());
        }
        let whole = fs::read(path(place)).expect("there");
        for cut in 0..whole.len() {
            fs::write(path(place), &whole[..cut]).expect("room");
            let found = read(place).expect("readable");
            assert!(found.iter().all(|(&n, &found)| found == seal(n)), "cut at {cut}");
            // What goes on from there is whole again.
            let left = found.len() as u64;
            let mut seals = Seals::new(place, found);
            seals.write().expect("room");
            seals.note(left, seal(left)).expect("room");
            assert_eq!(read(place).expect("readable").len() as u64, left + 1, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(path(place), damaged).expect("room");
            let found = read(place).expect("readable");
            assert!(found.len() >= 3 && found.iter().all(|(&n, &found)| found == seal(n)), "{at}");
        }
    }

    #[test]
    fn the_file_does_not_grow_with_segments_that_are_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut seals = Seals::new(directory.path(), BTreeMap::new());
        let lines =
            || fs::read(path(directory.path())).expect("there").split(|&o| o == b'\n').count();
        for n in 0..3_000 {
            // No sync for each: the bound is what is looked at.
            seals.known.insert(n, seal(n));
            if n >= 4 {
                seals.forget(n - 4);
            }
            if n % 50 == 0 {
                seals.note(n, seal(n)).expect("room");
                seals.file.as_mut().expect("open").1 += 49;
            }
            assert!(n < 50 || lines() <= STALE_LINES + 12);
        }
        let kept = read(directory.path()).expect("readable");
        assert!(kept.contains_key(&2_950), "{kept:?}");
    }
}
