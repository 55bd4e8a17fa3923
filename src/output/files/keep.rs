//! What of a sink's finished files is kept: by age, by size, and while the disk has room.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::recover::is_named;
use crate::config::Files;

/// Removed because they were older than `keep_s`.
pub const AGE: &str = "age";
/// Removed because all together had more than `keep_bytes`.
pub const SIZE: &str = "size";
/// Removed because the disk was full, or nearly so.
pub const DISK_FULL: &str = "disk_full";

/// A finished file of the sink.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finished {
    pub(super) path: PathBuf,
    pub(super) octets: u64,
    /// When it was last written.
    pub(super) ended: SystemTime,
}

/// The finished files that were written under `prefix` in `directory`, also by earlier runs and
/// also those that were recovered or are broken; the oldest first.
pub(super) fn finished(directory: &Path, prefix: &str) -> Vec<Finished> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name();
        if !is_named(name.to_str()?, prefix) {
            return None;
        }
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let (octets, ended) = (metadata.len(), metadata.modified().ok()?);
        Some(Finished { path: entry.path(), octets, ended })
    };
    let mut files: Vec<_> = entries.flatten().filter_map(file).collect();
    files.sort_by(|a, b| (a.ended, &a.path).cmp(&(b.ended, &b.path)));
    files
}

/// Of `files`, the oldest first, those that go by `keep_s` and `keep_bytes`, and why.
pub(super) fn outdated<'a>(
    files: &'a [Finished],
    config: &Files,
    now: SystemTime,
) -> Vec<(&'a Finished, &'static str)> {
    let mut octets: u64 = files.iter().map(|file| file.octets).sum();
    let age = |file: &Finished| now.duration_since(file.ended).unwrap_or_default();
    let keep = Duration::from_secs(config.keep_s);
    let mut gone = Vec::new();
    for file in files {
        let why = if config.keep_s > 0 && age(file) > keep {
            AGE
        } else if config.keep_bytes > 0 && octets > config.keep_bytes && octets > file.octets {
            // The newest stays, however large it is.
            SIZE
        } else {
            break;
        };
        octets -= file.octets;
        gone.push((file, why));
    }
    gone
}

/// Removes `file` of the sink called `sink`, and says why; or why it cannot.
pub(super) fn remove(sink: &str, file: &Finished, why: &'static str) -> bool {
    let path = file.path.display();
    match fs::remove_file(&file.path) {
        Ok(()) => tracing::info!(sink, %path, why, "removed a file"),
        Err(error) => {
            tracing::warn!(sink, %path, %error, "cannot remove a file");
            return false;
        }
    }
    true
}

/// Octets of the file system of `directory` that may still be written.
///
/// # Errors
/// Of statvfs(3).
pub fn free(directory: &Path) -> io::Result<u64> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a value of this plain structure.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and the structure is ours to be written.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut told) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_by_age_and_by_size() {
        let start = SystemTime::UNIX_EPOCH;
        let file = |(age_s, octets): (u64, u64)| Finished {
            path: age_s.to_string().into(),
            octets,
            ended: start + Duration::from_secs(1_000 - age_s),
        };
        let files = [(900, 10), (500, 20), (500, 5), (10, 40), (0, 1)].map(file);
        let now = start + Duration::from_secs(1_000);
        let check = |keep_s, keep_bytes, want: &[&str]| {
            let config = Files { keep_s, keep_bytes, ..Files::default() };
            let gone: Vec<_> = outdated(&files, &config, now).into_iter().map(|g| g.1).collect();
            assert_eq!(gone, want, "keep_s {keep_s}, keep_bytes {keep_bytes}");
        };
        check(0, 0, &[]);
        check(900, 0, &[]);
        check(899, 0, &[AGE]);
        check(100, 0, &[AGE, AGE, AGE]);
        check(0, 76, &[]);
        check(0, 75, &[SIZE]);
        check(0, 41, &[SIZE, SIZE, SIZE]);
        check(0, 1, &[SIZE, SIZE, SIZE, SIZE]);
        check(600, 45, &[AGE, SIZE, SIZE]);
        // A clock that was set back removes nothing.
        let config = Files { keep_s: 1, ..Files::default() };
        assert!(outdated(&files, &config, start).is_empty());
    }

    #[test]
    fn a_file_system_tells_how_much_is_free() {
        assert!(free(Path::new("/")).expect("told") > 0);
        free(Path::new("/no/such/place")).expect_err("nothing there");
    }
}
