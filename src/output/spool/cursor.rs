//! How far a sink has come: kept in a file of its own, which is replaced as a whole and needs no room
//! for it ([`super::slots`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::slots::{self, Slots};
use crate::config::Select;

/// A place in the log: everything before it is delivered, or was given up.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Number of the segment that is read.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
    /// Segments after it that are passed over, first and last: what came while the spool was full.
    /// The last one's end is [`u64::MAX`] while it still is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<(u64, u64)>,
}

impl Cursor {
    /// The start of `segment`.
    #[must_use]
    pub const fn at(segment: u64) -> Self {
        Self { segment, offset: 0, gaps: Vec::new() }
    }

    /// Whether `segment` is passed over.
    #[must_use]
    pub fn skips(&self, segment: u64) -> bool {
        self.gaps.iter().any(|&(first, last)| (first..=last).contains(&segment))
    }

    /// Whether what is appended to `segment` is still to be read.
    #[must_use]
    pub fn needs(&self, segment: u64) -> bool {
        self.segment <= segment && !self.skips(segment)
    }

    /// Whether the end is passed over, too.
    #[must_use]
    pub fn gap_is_open(&self) -> bool {
        self.gaps.last().is_some_and(|&(_, last)| last == u64::MAX)
    }

    /// Goes to the start of `segment`, or of the first after it that is not passed over.
    pub(super) fn go(&mut self, segment: u64) {
        (self.segment, self.offset) = (segment, 0);
        while let Some(&(first, last)) = self.gaps.first() {
            if last < self.segment {
                self.gaps.remove(0);
            } else if first <= self.segment && last != u64::MAX {
                self.segment = last + 1;
                self.gaps.remove(0);
            } else {
                break;
            }
        }
    }
}

/// The file of the cursor of `sink`.
pub(super) fn path(directory: &Path, sink: &str) -> PathBuf {
    directory.join(format!("{}.cursor", crate::config::output::file_name(sink)))
}

/// What stands in the file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Saved {
    /// The sink's name.
    pub sink: String,
    /// What it takes.
    #[serde(default)]
    pub select: Select,
    /// Whether it takes whole segments.
    #[serde(default)]
    pub whole: bool,
    /// How far it has come.
    pub cursor: Cursor,
    /// Records of the cursor's segment that it selects and that are settled; `None` in files of an
    /// earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    /// Records that the operator had it pass over since the last start (`weir spool drop`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The cursor of `sink`: `None` if it has none yet.
///
/// # Errors
/// Of the file system, and [`io::ErrorKind::InvalidData`] if what stands there is no cursor.
pub fn load(directory: &Path, sink: &str) -> io::Result<Option<Saved>> {
    match fs::read(path(directory, sink)) {
        Ok(text) => {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            Ok(Some(parse(&text).map_err(invalid)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a cursor's file.
///
/// # Errors
/// If it is none, or its gaps do not come one after the other.
pub fn parse(text: &[u8]) -> Result<Saved, serde_json::Error> {
    use serde::de::Error;
    // An earlier form was the text alone.
    let alone = text.first() == Some(&b'{');
    let text = if alone { Some(text) } else { slots::text(text) };
    let text = text.ok_or_else(|| serde_json::Error::custom("neither of its copies is whole"))?;
    let saved: Saved = serde_json::from_slice(text)?;
    let gaps = &saved.cursor.gaps;
    let forward = gaps.iter().all(|(first, last)| first <= last);
    if forward && gaps.windows(2).all(|pair| pair[0].1 < pair[1].0) {
        return Ok(saved);
    }
    Err(serde_json::Error::custom("gaps do not come one after the other"))
}

/// Puts `saved` in the place of what its sink had, on disk when this returns. A crash leaves the one or
/// the other. Only the first cursor of a sink needs room, and one whose file is of the earlier form.
///
/// # Errors
/// Of the file system.
pub fn save(directory: &Path, saved: &Saved) -> io::Result<()> {
    let mut slots = None;
    write(&mut slots, directory, saved)?;
    slots.map_or(Ok(()), |mut slots| slots.sync())
}

/// The same with an open file, and not yet on disk.
pub(super) fn write(slots: &mut Option<Slots>, directory: &Path, saved: &Saved) -> io::Result<()> {
    let text = serde_json::to_vec(saved).map_err(io::Error::other)?;
    slots::write(slots, &path(directory, &saved.sink), &text)
}

/// The cursors of all sinks in `directory`; those that cannot be read are left out.
///
/// # Errors
/// If the directory cannot be read.
pub fn all(directory: &Path) -> io::Result<Vec<Saved>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            found.extend(fs::read(&path).ok().and_then(|text| parse(&text).ok()));
        }
    }
    found.sort_by(|a, b| a.sink.cmp(&b.sink));
    Ok(found)
}

/// The files of cursors in `directory` that cannot be read, each with the reason.
///
/// # Errors
/// If the directory cannot be read.
pub fn unreadable(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            let read = fs::read(&path).and_then(|text| parse(&text).map_err(io::Error::other));
            match read {
                // A running sensor forgot it in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => found.push(format!("{}: {error}", path.display())),
                Ok(_) => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Forgets the cursor of `sink`.
///
/// # Errors
/// Of the file system.
pub fn remove(directory: &Path, sink: &str) -> io::Result<()> {
    fs::remove_file(path(directory, sink))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_steps_over_its_gaps() {
        let mut cursor = Cursor { segment: 3, offset: 9, gaps: vec![(5, 6), (9, u64::MAX)] };
        let needs: Vec<u64> = (0..12).filter(|&segment| cursor.needs(segment)).collect();
        assert_eq!(needs, [3, 4, 7, 8]);
        assert!(cursor.gap_is_open());
        cursor.go(4);
        assert_eq!((cursor.segment, cursor.offset), (4, 0));
        cursor.go(5);
        assert_eq!((cursor.segment, cursor.gaps.len()), (7, 1));
        cursor.go(9);
        assert!(cursor.segment == 9 && !cursor.needs(9), "it waits where the gap begins");
        cursor.gaps[0].1 = 12;
        cursor.go(9);
        assert_eq!(cursor, Cursor::at(13));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_saved() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        assert_eq!(load(place, "a/b").expect("readable"), None);
        let cursor = Cursor { segment: 3, offset: 9, gaps: vec![(9, u64::MAX)] };
        let saved = |cursor| Saved { sink: "a/b".to_owned(), cursor, ..Saved::default() };
        save(place, &saved(Cursor::at(1))).expect("room");
        let saved = Saved { select: Select::Alerts, whole: true, dropped: 4, ..saved(cursor) };
        save(place, &saved).expect("room");
        assert_eq!(load(place, "a/b").expect("readable"), Some(saved.clone()));
        assert_eq!(all(place).expect("readable"), [saved]);
        let old = br#"{"sink":"a","cursor":{"segment":1,"offset":2}}"#;
        assert_eq!(parse(old).expect("of an earlier version").cursor.offset, 2);
        let back = br#"{"sink":"a","cursor":{"segment":1,"offset":2,"gaps":[[5,9],[7,8]]}}"#;
        assert!(parse(back).expect_err("gaps").to_string().contains("one after the other"));
        fs::write(path(place, "torn"), "{\"sink\":").expect("room");
        let told = unreadable(place).expect("readable");
        assert!(told.len() == 1 && told[0].contains("torn.cursor: EOF"), "{told:?}");
        fs::write(path(place, "zeros"), [0; 64]).expect("room");
        let error = load(place, "zeros").expect_err("no cursor").to_string();
        assert!(error.contains("neither of its copies"), "{error}");
        fs::remove_file(path(place, "zeros")).expect("there");
        let error = load(place, "torn").expect_err("no cursor");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        remove(place, "a/b").expect("it is there");
        assert_eq!(all(place).expect("readable"), []);
    }
}
