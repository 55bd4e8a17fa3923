//! Indicator feeds from files. A file that stands as it stood is not read again.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config;
use crate::detect::sigma::{Feed, FeedError, feed};

/// Octets of one read.
const CHUNK: usize = 256 << 10;
/// Octets of a feed's file once decompressed, at most.
const OCTETS_MAX: u64 = 4 << 30;

/// Why a feed's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("rules.feed[{index}]: {}: {why}", path.display())]
pub struct FeedFileError {
    /// Which feed of the configuration.
    pub index: usize,
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// What is wrong with a feed's file.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no feed.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// It unpacks to more than is plausible.
    #[error("over the limit of {OCTETS_MAX} octets once decompressed")]
    TooLarge,
}

/// When a file was written, and which it is: equal values mean equal content, for all that a
/// directory tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what `path` leads to.
    ///
    /// # Errors
    /// The operating system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            octets: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The feeds as they were read last.
#[derive(Debug, Default)]
pub struct Feeds {
    read: Vec<(Stamp, Arc<Feed>)>,
}

impl Feeds {
    /// Reads the feeds of the configuration; those that stand as they stood are taken as they are.
    ///
    /// # Errors
    /// The first that cannot be used, by its key and file. What was read before stays.
    pub fn read(&mut self, specs: &[config::Feed]) -> Result<Vec<Arc<Feed>>, FeedFileError> {
        let mut read = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let failed = |why| FeedFileError { index, path: spec.path.clone(), why };
            let stamp = Stamp::of(&spec.path).map_err(|error| failed(error.into()))?;
            let known = self.read.iter().find(|(at, feed)| *at == stamp && feed.spec == *spec);
            let feed = match known {
                Some((_, feed)) => Arc::clone(feed),
                None => Arc::new(open(spec).map_err(failed)?),
            };
            read.push((stamp, feed));
        }
        self.read = read;
        Ok(self.known().cloned().collect())
    }

    /// The feeds as they were read last.
    pub fn known(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.read.iter().map(|(_, feed)| feed)
    }
}

/// Reads the feeds of the configuration.
///
/// # Errors
/// The first that cannot be used, by its key and file.
pub fn read(specs: &[config::Feed]) -> Result<Vec<Arc<Feed>>, FeedFileError> {
    Feeds::default().read(specs)
}

fn open(spec: &config::Feed) -> Result<Feed, Why> {
    // Pipes and devices may never end, and to open a pipe may wait for good.
    if !std::fs::metadata(&spec.path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file").into());
    }
    let mut source = decompressed(File::open(&spec.path)?)?.take(OCTETS_MAX + 1);
    let mut reader = feed::Reader::new(spec.clone());
    let mut chunk = vec![0; CHUNK];
    loop {
        match source.read(&mut chunk)? {
            0 => break,
            octets => reader.push(&chunk[..octets])?,
        }
    }
    if source.limit() == 0 {
        return Err(Why::TooLarge);
    }
    Ok(reader.finish()?)
}

/// The content of a file that may be compressed with gzip (RFC 1952) or zstd (RFC 8878).
fn decompressed(mut file: File) -> io::Result<Box<dyn Read>> {
    let mut first = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut first)?;
    let (gzip, zstd) = (first.starts_with(&[0x1f, 0x8b]), first == [0x28, 0xb5, 0x2f, 0xfd]);
    let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(first).chain(file));
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn spec(path: &Path) -> config::Feed {
        config::Feed { path: path.to_owned(), ..config::Feed::default() }
    }

    #[test]
    fn plain_gzip_and_zstd_hold_the_same() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let text = b"192.0.2.1\n198.51.100.0/24\n4444\nnothing*\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("compressed");
        let zstd = zstd::encode_all(&text[..], 1).expect("compressed");
        for (name, octets) in
            [("a", text.to_vec()), ("b", gzip.finish().expect("compressed")), ("c", zstd)]
        {
            let path = folder.path().join(name);
            fs::write(&path, octets).expect("written");
            let feed = read(&[spec(&path)]).expect("a feed").remove(0);
            let tally = feed.tally;
            let counts = (tally.addresses, tally.networks, tally.ports, tally.bad);
            assert_eq!(counts, (1, 1, 1, 1), "{name}");
        }
    }

    #[test]
    fn what_may_never_end_is_no_feed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            let error = read(&[spec(path)]).expect_err("no file").to_string();
            assert!(error.ends_with(": is no regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_that_stands_as_it_stood_is_not_read_again() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("list");
        fs::write(&path, "192.0.2.1\n").expect("written");
        let mut feeds = Feeds::default();
        let first = feeds.read(&[spec(&path)]).expect("a feed").remove(0);
        let again = feeds.read(&[spec(&path)]).expect("a feed").remove(0);
        assert!(Arc::ptr_eq(&first, &again));
        fs::write(&path, "192.0.2.1\n192.0.2.9\n").expect("written");
        let changed = feeds.read(&[spec(&path)]).expect("a feed").remove(0);
        assert_eq!(changed.tally.addresses, 2);
        fs::remove_file(&path).expect("removed");
        let error = feeds.read(&[spec(&path)]).expect_err("gone").to_string();
        assert!(error.starts_with("rules.feed[0]: "), "{error}");
        assert!(error.contains("list: No such file"), "{error}");
        fs::write(&path, "# nothing\n<html>\n").expect("written");
        let error = feeds.read(&[spec(&path)]).expect_err("empty").to_string();
        let says = "no indicator in 2 lines; line 2: `<html>` is not an address";
        assert!(error.contains(says), "{error}");
    }
}
