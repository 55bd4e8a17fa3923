//! What can be wrong with a capture file.

use std::io;
use std::path::PathBuf;

/// Why a capture cannot be read on. Offsets are in octets from the start of the capture, after
/// decompression.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Reading or decompressing failed.
    #[error("cannot read on at offset {offset}: {source}")]
    Io {
        /// What had been read before.
        offset: u64,
        /// What the system or the decompressor says.
        source: io::Error,
    },
    /// The first octets are no capture's.
    #[error(
        "not a capture: starts with {found:08x}, expected pcap (a1b2c3d4, a1b23c4d, a1b2cd34 in \
         either byte order) or pcapng (0a0d0d0a), plain or in gzip or zstd"
    )]
    NotACapture {
        /// The first four octets, big-endian.
        found: u32,
    },
    /// The format's version is not known.
    #[error("version {major}.{minor} at offset {offset}, expected {expected}.x")]
    Version {
        /// Where the version stands.
        offset: u64,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
        /// The major version that is read.
        expected: u16,
    },
    /// The capture ends inside a header, record or block.
    #[error("truncated at offset {offset}: need {need} octets, have {have}")]
    Truncated {
        /// Where it starts.
        offset: u64,
        /// Its octets.
        need: u64,
        /// Octets that are there.
        have: u64,
    },
    /// A record or block is larger than [`super::BLOCK_MAX`].
    #[error("length {found} at offset {offset} is over {}", super::BLOCK_MAX)]
    TooLong {
        /// Where the record or block starts.
        offset: u64,
        /// Octets that it claims.
        found: u64,
    },
    /// A block's length is below the least of its type, no multiple of 4, or less than what it
    /// says to hold.
    #[error("block length {found} at offset {offset}, expected a multiple of 4 from {least}")]
    BlockLength {
        /// Where the block starts.
        offset: u64,
        /// The length found.
        found: u32,
        /// The least that it has to be.
        least: u32,
    },
    /// The length at the end of a block is not the one at its start.
    #[error("block length {found} at the end of the block at offset {offset}, expected {expected}")]
    BlockTrailer {
        /// Where the block starts.
        offset: u64,
        /// The length at its end.
        found: u32,
        /// The length at its start.
        expected: u32,
    },
    /// A section header without a byte-order mark.
    #[error("byte-order mark {found:08x} at offset {offset}, expected 1a2b3c4d in either order")]
    ByteOrder {
        /// Where it stands.
        offset: u64,
        /// What stands there, big-endian.
        found: u32,
    },
    /// A packet names an interface that no block described.
    #[error("interface {found} at offset {offset}, expected one of {known} described so far")]
    Interface {
        /// Where the block starts.
        offset: u64,
        /// The interface's index in its section.
        found: u32,
        /// Interfaces of the section so far.
        known: u32,
    },
    /// More interfaces in a section than are kept.
    #[error("over {most} interfaces in a section at offset {offset}")]
    TooManyInterfaces {
        /// Where the block starts.
        offset: u64,
        /// The bound.
        most: u32,
    },
}

impl PcapError {
    /// The label under which it is counted.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Io { .. } => "io",
            Self::NotACapture { .. } => "not_a_capture",
            Self::Version { .. } => "version",
            Self::Truncated { .. } => "truncated",
            Self::TooLong { .. } => "too_long",
            Self::BlockLength { .. } | Self::BlockTrailer { .. } => "block_length",
            Self::ByteOrder { .. } => "byte_order",
            Self::Interface { .. } | Self::TooManyInterfaces { .. } => "interface",
        }
    }

    /// Where in the capture it is, if it is in the capture.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match *self {
            Self::Open { .. } => None,
            Self::NotACapture { .. } => Some(0),
            Self::Io { offset, .. }
            | Self::Version { offset, .. }
            | Self::Truncated { offset, .. }
            | Self::TooLong { offset, .. }
            | Self::BlockLength { offset, .. }
            | Self::BlockTrailer { offset, .. }
            | Self::ByteOrder { offset, .. }
            | Self::Interface { offset, .. }
            | Self::TooManyInterfaces { offset, .. } => Some(offset),
        }
    }
}
