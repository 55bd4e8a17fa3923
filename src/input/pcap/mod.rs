//! Capture files: pcap and pcapng, plain or compressed with gzip or zstd, from any [`Read`].
//!
//! [`Reader`] finds out by the magic numbers what it reads, lends each packet from its buffer, and
//! allocates nothing per packet. Read:
//!
//! - pcap of version 2 in both byte orders, with micro- and nanoseconds, and the variant with
//!   magic `a1b2cd34`, whose record headers are 8 octets longer;
//! - pcapng 1.x in both byte orders, any number of sections, interfaces with their own link type,
//!   resolution and time offset; enhanced, simple and (obsolete) packet blocks. Every other block is
//!   stepped over.
//!
//! Times are truncated to microseconds. No packet or block may be larger than [`BLOCK_MAX`]. Where
//! a file is damaged, all packets before the damage come first, then the error, then nothing more.
//!
//! # Source
//! draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

mod buffer;
mod classic;
mod error;
mod ng;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::PcapError;

use crate::decode::packet::LinkType;
use crate::time::Micros;
use buffer::Buffer;

/// The largest packet record or block that is accepted, in octets.
pub const BLOCK_MAX: usize = 16 << 20;

/// One packet, lent until the next is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'a> {
    /// Link type of its interface.
    pub link: LinkType,
    /// When it was captured. A simple packet block has no time: the packet before it gives its own.
    pub time: Micros,
    /// Octets on the wire; never fewer than were captured.
    pub wire_len: u32,
    /// The captured octets.
    pub data: &'a [u8],
    /// Index of its interface in order of appearance in the file, over all sections; 0 for pcap.
    pub interface: u32,
    /// Where its record or block begins in the (decompressed) capture; 0 if it comes from none.
    pub offset: u64,
}

/// Where a packet lies in the buffer, and the rest of [`Packet`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    link: LinkType,
    time: Micros,
    wire_len: u32,
    start: usize,
    len: usize,
    interface: u32,
    /// Where its record or block begins.
    offset: u64,
}

enum Format {
    Classic(classic::Classic),
    Ng(ng::Ng),
}

/// Reads packets from a capture.
pub struct Reader<'s> {
    buffer: Buffer<'s>,
    format: Format,
    ended: bool,
    consumed: Arc<AtomicU64>,
}

/// Whether `first`, the first octets of a file, begin a pcap or pcapng capture (not compressed).
#[must_use]
pub fn is_capture(first: &[u8]) -> bool {
    first.first_chunk::<4>().is_some_and(|&m| ng::is_magic(m) || classic::Layout::of(m).is_some())
}

/// Opens a capture file; `-` is standard input.
///
/// # Errors
/// [`PcapError::Open`], and those of [`Reader::new`].
pub fn open(path: &Path) -> Result<Reader<'static>, PcapError> {
    if path.as_os_str() == "-" {
        return Reader::new(std::io::stdin());
    }
    let file = File::open(path);
    let file = file.map_err(|source| PcapError::Open { path: path.to_owned(), source })?;
    Reader::new(file)
}

impl<'s> Reader<'s> {
    /// Reads the file header from `source`, which need not be buffered: reads are of 256 KiB.
    ///
    /// # Errors
    /// [`PcapError::NotACapture`] for anything but a capture, [`PcapError::Version`], and what
    /// [`Self::next`] gives.
    pub fn new(source: impl Read + Send + 's) -> Result<Self, PcapError> {
        let (mut buffer, consumed) = Buffer::new(source)?;
        let magic = *buffer.need::<4>(0)?;
        let format = if ng::is_magic(magic) {
            Format::Ng(ng::Ng::default())
        } else if let Some(layout) = classic::Layout::of(magic) {
            Format::Classic(classic::Classic::read(&mut buffer, layout)?)
        } else {
            return Err(PcapError::NotACapture { found: u32::from_be_bytes(magic) });
        };
        Ok(Self { buffer, format, ended: false, consumed })
    }

    /// The next packet, or `None` at the end of the file.
    ///
    /// # Errors
    /// [`PcapError`] where the file is damaged or cannot be read. There is nothing after it: the
    /// next call gives `None`.
    #[expect(clippy::should_implement_trait, reason = "the packet is lent, an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, PcapError> {
        if self.ended {
            return Ok(None);
        }
        let slot = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.buffer),
            Format::Ng(ng) => ng.next(&mut self.buffer),
        };
        let Ok(Some(slot)) = slot else {
            self.ended = true;
            return slot.map(|_| None);
        };
        Ok(Some(Packet {
            link: slot.link,
            time: slot.time,
            wire_len: slot.wire_len,
            data: self.buffer.lent(slot.start, slot.len),
            interface: slot.interface,
            offset: slot.offset,
        }))
    }

    /// Octets taken from the source so far, before decompression: against the file's size it is the
    /// progress.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// A handle on [`Self::consumed`] for another thread, as a progress bar's.
    #[must_use]
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.consumed)
    }

    /// Offset of the next record or block in the (decompressed) capture.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.buffer.offset()
    }
}
