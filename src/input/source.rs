//! Files and standard input, with how far they were read and what they look like.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::compressed;
use super::pcap::is_capture;

const BUFFER_OCTETS: usize = 256 << 10;
/// Octets that tell text from what is none.
const LOOK_OCTETS: usize = 4_096;

/// What a file holds, by its first octets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A pcap or pcapng capture, perhaps compressed.
    Capture,
    /// Text: rows of CSV.
    Text,
    /// JSON, one object a line: slices that Weir wrote.
    Ndjson,
    /// Parquet: slices that Weir wrote.
    Parquet,
    /// Nothing.
    Empty,
    /// Anything else.
    Unknown,
}

/// A file, or standard input.
pub struct Source {
    reader: BufReader<Box<dyn Read + Send>>,
    path: PathBuf,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// Opens `path`; `-` is standard input. What is compressed (gzip, zstd) is opened on the way;
    /// `progress` counts the octets that are read of the file itself.
    ///
    /// # Errors
    /// The operating system's, with the path.
    pub fn open(path: &Path, progress: Arc<AtomicU64>) -> io::Result<Self> {
        let inner: Box<dyn Read + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            let file = File::open(path).map_err(|error| named(path, &error))?;
            if file.metadata().is_ok_and(|meta| meta.is_dir()) {
                let message = format!("{}: is a directory, expected a file", path.display());
                return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
            }
            Box::new(file)
        };
        let opened = compressed::open(Counted { inner, progress }).map_err(|e| named(path, &e))?;
        Ok(Self { reader: BufReader::with_capacity(BUFFER_OCTETS, opened), path: path.to_owned() })
    }

    /// What the first octets look like. Does not consume them.
    ///
    /// # Errors
    /// If nothing can be read.
    pub fn kind(&mut self) -> io::Result<Kind> {
        if let Err(error) = self.reader.fill_buf() {
            return Err(self.named(&error));
        }
        if !is_capture(self.reader.buffer()) && !self.reader.buffer().starts_with(b"PAR1") {
            self.look_further()?;
        }
        let first = self.reader.buffer();
        let text = |octet: &u8| *octet >= 0x20 || [b'\t', b'\r', b'\n'].contains(octet);
        Ok(if first.is_empty() {
            Kind::Empty
        } else if is_capture(first) {
            Kind::Capture
        } else if first.starts_with(b"PAR1") {
            Kind::Parquet
        } else if first.trim_ascii_start().starts_with(b"{") {
            Kind::Ndjson
        } else if first.iter().take(LOOK_OCTETS).all(text) {
            Kind::Text
        } else {
            Kind::Unknown
        })
    }
}

impl Source {
    /// Has more in the buffer than what was looked at for compression, up to [`LOOK_OCTETS`]: two reads,
    /// so that a pipe is not waited for longer than until it gives something.
    fn look_further(&mut self) -> io::Result<()> {
        let mut first = vec![0; LOOK_OCTETS];
        let mut length = 0;
        for _ in 0..2 {
            match self.reader.read(&mut first[length..]) {
                Ok(octets) => length += octets,
                Err(error) => return Err(self.named(&error)),
            }
        }
        first.truncate(length);
        let nothing: Box<dyn Read + Send> = Box::new(io::empty());
        let rest = std::mem::replace(&mut self.reader, BufReader::with_capacity(0, nothing));
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(first).chain(rest));
        self.reader = BufReader::with_capacity(BUFFER_OCTETS, whole);
        match self.reader.fill_buf() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.named(&error)),
        }
    }

    /// An error of reading it, with its path. An archive that ends early is input that is not usable.
    #[must_use]
    pub fn named(&self, error: &io::Error) -> io::Error {
        let named = named(&self.path, error);
        match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::InvalidData, named),
            _ => named,
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

struct Counted {
    inner: Box<dyn Read + Send>,
    progress: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.inner.read(buffer)?;
        self.progress.fetch_add(octets as u64, Ordering::Relaxed);
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_first_octets_say_and_is_read_from_its_start() {
        let text = |n: usize| b"a,b\n1,2\n".repeat(n);
        let mut binary = text(100);
        binary.extend([0x1b, 0, 7]);
        for (content, want) in [
            (text(1), Kind::Text),
            (text(5_000), Kind::Text),
            (binary, Kind::Unknown),
            (b"\xff\xfe\xfd\xfc\0\x01".to_vec(), Kind::Unknown),
            (b"      {\"a\": 1}\n".to_vec(), Kind::Ndjson),
            (b"PAR1".to_vec(), Kind::Parquet),
            (Vec::new(), Kind::Empty),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &content).expect("written");
            let mut source = Source::open(file.path(), Arc::default()).expect("opens");
            assert_eq!(source.kind().expect("readable"), want, "{:?}", content.first_chunk::<4>());
            let mut read = Vec::new();
            source.read_to_end(&mut read).expect("readable");
            assert!(read == content, "{want:?}");
        }
    }
}
