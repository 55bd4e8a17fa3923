//! One file while it is written: its name, its temporary, and the commit.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is appended to the name of a file that is being written.
pub(super) const PART: &str = "part";

/// A file that is being written. It is locked, so that another process that starts with the same
/// sink does not take it for a leftover.
///
/// *Invariant:* a temporary is renamed or removed only by the holder of the lock on the very file
/// that its name leads to ([`is_at`]).
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    part: PathBuf,
    name: PathBuf,
}

impl Part {
    /// Makes the temporary of the first name `prefix` + `-seq.extension` in `directory`, from
    /// `seq` on, that nothing has been written under. The directory is made if absent.
    pub(super) fn create(
        directory: &Path,
        prefix: &str,
        seq: &mut u64,
        extension: &str,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        loop {
            let stem = format!("{prefix}-{seq}");
            *seq += 1;
            let name = directory.join(format!("{stem}.{extension}"));
            let part = with_extension(&name, PART);
            if used(&name) {
                continue;
            }
            let file = match OpenOptions::new().write(true).create_new(true).open(&part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            };
            // Held by another process that takes it for an empty leftover, and will remove it.
            // File systems without locks give another error: there nobody else can lock either.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            // Whoever holds the temporary is the only one that can make the final name: so look
            // again whether that was made before, and whether the temporary is still there.
            let opened = Self { file, part, name };
            if !is_at(&opened.file, &opened.part) {
                continue;
            }
            if !used(&opened.name) {
                return Ok(opened);
            }
            opened.discard()?;
        }
    }

    /// Whether the file is no longer where it was made: it was moved or removed, or its directory.
    pub(super) fn moved(&self) -> bool {
        match fs::metadata(&self.part) {
            Ok(_) => !is_at(&self.file, &self.part),
            // Any other error says nothing of where the file is.
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
        }
    }

    /// Takes the place that the file was moved to for its own.
    fn follow(&mut self) -> io::Result<()> {
        let lost = |what: &str| {
            let message = format!("{}: {what}", self.part.display());
            io::Error::new(io::ErrorKind::NotFound, message)
        };
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let part = fs::read_link(link).map_err(|_| lost("moved or removed"))?;
        if part.file_name() != self.part.file_name() || !is_at(&self.file, &part) {
            return Err(lost("removed"));
        }
        let name = part.with_file_name(self.name.file_name().expect("made with one"));
        if used(&name) {
            return Err(lost("moved to where its name is taken"));
        }
        (self.part, self.name) = (part, name);
        Ok(())
    }

    /// Makes the file durable under its final name, which is returned; where it was moved to, if
    /// it was.
    pub(super) fn commit(&mut self) -> io::Result<&Path> {
        if self.moved() {
            self.follow()?;
        }
        self.file.sync_all()?;
        fs::rename(&self.part, &self.name)?;
        sync_parent(&self.name)?;
        Ok(&self.name)
    }

    /// The path of its final name.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Removes the file, unless it is not where it was made.
    pub(super) fn discard(self) -> io::Result<()> {
        if self.moved() { Ok(()) } else { fs::remove_file(&self.part) }
    }
}

/// Tries whether files can be made in `directory`, which is made if absent.
pub(super) fn probe(directory: &Path, prefix: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!(".{prefix}-{}.probe", std::process::id()));
    File::create(&path)?;
    match fs::remove_file(&path) {
        // Another process of the same number, in another container.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether `path` still names `file`, and not nothing or another file.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(file), Ok(path)) = (file.metadata(), fs::metadata(path)) else { return false };
    (file.dev(), file.ino()) == (path.dev(), path.ino())
}

/// Whether anything was written under `name`, or recovered from it.
fn used(name: &Path) -> bool {
    name.exists() || recovered(name).exists() || with_extension(name, "broken").exists()
}

/// `path` with `.extension` after all that it has.
pub(super) fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// `stem.recovered.ext` for `stem.ext`.
pub(super) fn recovered(name: &Path) -> PathBuf {
    let extension = name.extension().unwrap_or_default().to_os_string();
    with_extension(&name.with_extension("recovered"), &extension.to_string_lossy())
}

/// Makes a rename in `path`'s directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
