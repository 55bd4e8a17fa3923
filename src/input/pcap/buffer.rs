//! A window over the capture: filled in large reads, decompressed on the way.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BLOCK_MAX, PcapError};
use crate::input::compressed;

/// Octets of one read, and of the window to begin with.
const READ: usize = 256 << 10;

/// Octets of `source` that wait to be taken.
pub(super) struct Buffer<'s> {
    source: Box<dyn Read + Send + 's>,
    window: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset in the capture of `start`.
    offset: u64,
}

/// Counts what is read from the file itself.
struct Counted<R> {
    source: R,
    octets: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.octets.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<'s> Buffer<'s> {
    /// Looks at the first octets of `source` for gzip (RFC 1952) or zstd (RFC 8878), and counts
    /// what is read of it.
    pub(super) fn new(source: impl Read + Send + 's) -> Result<(Self, Arc<AtomicU64>), PcapError> {
        let octets = Arc::new(AtomicU64::new(0));
        let source = Counted { source, octets: Arc::clone(&octets) };
        let io_error = |source| PcapError::Io { offset: 0, source };
        let source = compressed::open(source).map_err(io_error)?;
        Ok((Self { source, window: vec![0; READ], start: 0, end: 0, offset: 0 }, octets))
    }

    /// Offset in the capture of the next octet.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Octets in the window.
    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&mut self) -> Result<bool, PcapError> {
        Ok(self.len() == 0 && !self.fill(1)?)
    }

    /// Sees to it that `n` octets are in the window; false if the capture ends before. `n` is at
    /// most [`BLOCK_MAX`] and a little.
    #[inline]
    pub(super) fn fill(&mut self, n: usize) -> Result<bool, PcapError> {
        if self.len() >= n { Ok(true) } else { self.read_on(n) }
    }

    fn read_on(&mut self, n: usize) -> Result<bool, PcapError> {
        debug_assert!(n <= BLOCK_MAX + 64, "callers check lengths");
        self.window.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if n > self.window.len() {
            // Grown only to what has come so far and as much again: a length alone costs nothing.
            while self.end < n {
                let size = n.min(self.window.len().max(self.end * 2));
                self.window.resize(size, 0);
                if self.read_once()? == 0 {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        while self.end < n {
            if self.read_once()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_once(&mut self) -> Result<usize, PcapError> {
        loop {
            match self.source.read(&mut self.window[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + self.len() as u64;
                    return Err(PcapError::Io { offset, source });
                }
            }
        }
    }

    /// The `N` octets that start `at` octets on.
    #[inline]
    pub(super) fn need<const N: usize>(&mut self, at: usize) -> Result<&[u8; N], PcapError> {
        self.need_octets(at + N)?;
        let octets = &self.window[self.start + at..self.end];
        Ok(octets.first_chunk().expect("the window holds at + N octets"))
    }

    /// Sees to it that `n` octets are there, which make one header, record or block.
    #[inline]
    pub(super) fn need_octets(&mut self, n: usize) -> Result<(), PcapError> {
        if self.fill(n)? {
            return Ok(());
        }
        let have = self.len() as u64;
        Err(PcapError::Truncated { offset: self.offset, need: n as u64, have })
    }

    /// `len` octets from `at` on, which are in the window.
    #[inline]
    pub(super) fn peek(&self, at: usize, len: usize) -> &[u8] {
        &self.window[self.start + at..self.start + at + len]
    }

    /// Takes `n` octets, which are in the window, and says where they lie for [`Self::lent`].
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> usize {
        debug_assert!(n <= self.len(), "only what is in the window can be taken");
        let start = self.start;
        self.start += n;
        self.offset += n as u64;
        start
    }

    /// What was taken last: valid until the next [`Self::fill`].
    #[inline]
    pub(super) fn lent(&self, start: usize, len: usize) -> &[u8] {
        &self.window[start..start + len]
    }
}
