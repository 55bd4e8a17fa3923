//! Frames: what a segment is made of.
//!
//! A frame is a header of [`HEADER`] octets and a payload: one message of Arrow's IPC stream
//! format, compressed with zstd. Header and payload have a CRC-32 each, so that a frame whose
//! payload is damaged can be stepped over, and one whose header is damaged is found again by its
//! magic.

use std::io;

use crate::output::schema::Stream;
use crate::time::Micros;

/// Octets of a frame's header.
pub const HEADER: usize = 40;
/// What every frame begins with.
pub const MAGIC: [u8; 4] = *b"WFrm";
/// Octets of a payload, compressed or not, at most.
pub const PAYLOAD_MAX: u32 = 256 << 20;
/// Level of zstd: what costs least.
const LEVEL: i32 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The Arrow schema of the stream's frames in this segment.
    Schema(Stream),
    /// Records of the stream.
    Records(Stream),
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Schema(Stream::Slices) => 1,
            Self::Schema(Stream::Alerts) => 2,
            Self::Records(Stream::Slices) => 3,
            Self::Records(Stream::Alerts) => 4,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Schema(Stream::Slices),
            2 => Self::Schema(Stream::Alerts),
            3 => Self::Records(Stream::Slices),
            4 => Self::Records(Stream::Alerts),
            _ => return None,
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// What it holds.
    pub kind: Kind,
    /// Octets of the payload as stored.
    pub stored: u32,
    /// Octets of the payload once decompressed.
    pub raw: u32,
    /// Records in it.
    pub records: u32,
    /// Of these, slices on which a rule fired.
    pub tagged: u32,
    /// When it was written, by the wall clock.
    pub written: Micros,
    /// CRC-32 of the payload as stored.
    pub crc: u32,
}

impl Header {
    /// Octets of the whole frame.
    #[must_use]
    pub const fn frame(&self) -> u64 {
        HEADER as u64 + self.stored as u64
    }

    /// As written.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.kind.code();
        out[8..12].copy_from_slice(&self.stored.to_le_bytes());
        out[12..16].copy_from_slice(&self.raw.to_le_bytes());
        out[16..20].copy_from_slice(&self.records.to_le_bytes());
        out[20..24].copy_from_slice(&self.tagged.to_le_bytes());
        out[24..32].copy_from_slice(&self.written.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` if these octets are none.
    #[must_use]
    pub fn decode(octets: &[u8; HEADER]) -> Option<Self> {
        let u32_at = |at: usize| {
            let octets = octets[at..at + 4].try_into().expect("four octets");
            u32::from_le_bytes(octets)
        };
        if octets[..4] != MAGIC || u32_at(36) != crc32fast::hash(&octets[..36]) {
            return None;
        }
        let written = octets[24..32].try_into().expect("eight octets");
        let header = Self {
            kind: Kind::of(octets[4])?,
            stored: u32_at(8),
            raw: u32_at(12),
            records: u32_at(16),
            tagged: u32_at(20),
            written: Micros(i64::from_le_bytes(written)),
            crc: u32_at(32),
        };
        (header.stored <= PAYLOAD_MAX && header.raw <= PAYLOAD_MAX).then_some(header)
    }
}

/// Makes frames; keeps what compression needs between them.
pub(super) struct Press {
    compressor: zstd::bulk::Compressor<'static>,
}

impl Press {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { compressor: zstd::bulk::Compressor::new(LEVEL)? })
    }

    /// Appends the frame of `payload` to `out`.
    pub(super) fn frame(
        &mut self,
        out: &mut Vec<u8>,
        kind: Kind,
        payload: &[u8],
        (records, tagged): (usize, usize),
        written: Micros,
    ) -> io::Result<()> {
        let stored = self.compressor.compress(payload)?;
        let size = |len: usize| {
            let size = u32::try_from(len).ok().filter(|&size| size <= PAYLOAD_MAX);
            size.ok_or_else(|| io::Error::other(format!("a frame of {len} octets is too large")))
        };
        let header = Header {
            kind,
            stored: size(stored.len())?,
            raw: size(payload.len())?,
            records: size(records)?,
            tagged: size(tagged)?,
            written,
            crc: crc32fast::hash(&stored),
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&stored);
        Ok(())
    }
}

/// The payload of the frame with `header`, decompressed; `None` if it is damaged.
#[must_use]
pub fn payload(header: &Header, stored: &[u8]) -> Option<Vec<u8>> {
    if crc32fast::hash(stored) != header.crc {
        return None;
    }
    let raw = zstd::bulk::decompress(stored, header.raw as usize).ok()?;
    (raw.len() == header.raw as usize).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(
            data in proptest::collection::vec(any::<u8>(), 0..400),
            counts in (0..1_000_usize, 0..1_000_usize),
            written in any::<i64>(),
            flip in any::<proptest::sample::Index>(),
        ) {
            let kind = Kind::Records(Stream::Alerts);
            let mut frame = Vec::new();
            let mut press = Press::new().expect("zstd");
            press.frame(&mut frame, kind, &data, counts, Micros(written)).expect("small");
            let read = |frame: &[u8]| {
                let header = Header::decode(frame[..HEADER].try_into().expect("a header"))?;
                let raw = payload(&header, &frame[HEADER..])?;
                Some((header, raw))
            };
            let (header, raw) = read(&frame).expect("nothing is damaged");
            prop_assert_eq!(header.frame(), frame.len() as u64);
            prop_assert_eq!((header.records as usize, header.tagged as usize), counts);
            prop_assert_eq!((header.written, raw), (Micros(written), data));
            // Octets 5 to 7 mean nothing, but the checksum holds them, too.
            let at = flip.index(frame.len());
            frame[at] ^= 0x40;
            prop_assert_eq!(read(&frame), None);
        }
    }
}
