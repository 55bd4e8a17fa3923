//! The pcap file format.

use super::buffer::Buffer;
use super::{BLOCK_MAX, PcapError, Slot};
use crate::decode::packet::LinkType;
use crate::time::{Micros, SECOND};

/// What the magic number says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    little_endian: bool,
    nanoseconds: bool,
    /// Octets of a record header: 16, of the variant with interface and packet type 24.
    header_len: usize,
}

impl Layout {
    /// The layout of `magic`, if it is one.
    pub(super) fn of(magic: [u8; 4]) -> Option<Self> {
        [(u32::from_be_bytes(magic), false), (u32::from_le_bytes(magic), true)]
            .into_iter()
            .find_map(|(magic, little_endian)| {
                let (nanoseconds, header_len) = match magic {
                    0xa1b2_c3d4 => (false, 16),
                    0xa1b2_3c4d => (true, 16),
                    0xa1b2_cd34 => (false, 24),
                    _ => return None,
                };
                Some(Self { little_endian, nanoseconds, header_len })
            })
    }

    #[inline]
    fn u32(self, octets: [u8; 4]) -> u32 {
        if self.little_endian { u32::from_le_bytes(octets) } else { u32::from_be_bytes(octets) }
    }

    fn u16(self, octets: [u8; 2]) -> u16 {
        if self.little_endian { u16::from_le_bytes(octets) } else { u16::from_be_bytes(octets) }
    }
}

/// State of the reader: all of it is in the file header.
#[derive(Debug)]
pub(super) struct Classic {
    layout: Layout,
    link: LinkType,
    /// Files up to version 2.3 may hold the two lengths in the other order.
    may_swap_lengths: bool,
}

impl Classic {
    /// Reads the file header.
    pub(super) fn read(buffer: &mut Buffer<'_>, layout: Layout) -> Result<Self, PcapError> {
        let header = *buffer.need::<24>(0)?;
        let [_, _, _, _, a, b, c, d, ..] = header;
        let (major, minor) = (layout.u16([a, b]), layout.u16([c, d]));
        if major != 2 {
            return Err(PcapError::Version { offset: 4, major, minor, expected: 2 });
        }
        let network = layout.u32([header[20], header[21], header[22], header[23]]);
        buffer.take(24);
        // The upper bits say how long the frame check sequence is; lengths of IP decide here.
        let link = LinkType(u16::try_from(network & 0xffff).expect("16 bits"));
        Ok(Self { layout, link, may_swap_lengths: minor <= 3 })
    }

    /// The next record.
    #[inline]
    pub(super) fn next(&mut self, buffer: &mut Buffer<'_>) -> Result<Option<Slot>, PcapError> {
        if buffer.is_at_end()? {
            return Ok(None);
        }
        let layout = self.layout;
        let h = *buffer.need::<16>(0)?;
        let word = |i: usize| layout.u32([h[i], h[i + 1], h[i + 2], h[i + 3]]);
        let (seconds, fraction) = (word(0), word(4));
        let (mut captured, mut wire_len) = (word(8), word(12));
        if self.may_swap_lengths && captured > wire_len {
            (captured, wire_len) = (wire_len, captured);
        }
        let len = captured as usize;
        if len > BLOCK_MAX {
            let found = u64::from(captured);
            return Err(PcapError::TooLong { offset: buffer.offset(), found });
        }
        buffer.need_octets(layout.header_len + len)?;
        let offset = buffer.offset();
        buffer.take(layout.header_len);
        let fraction = if layout.nanoseconds { fraction / 1_000 } else { fraction };
        Ok(Some(Slot {
            link: self.link,
            time: Micros(i64::from(seconds) * SECOND + i64::from(fraction)),
            wire_len: wire_len.max(captured),
            start: buffer.take(len),
            len,
            interface: 0,
            offset,
        }))
    }
}
