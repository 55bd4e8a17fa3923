//! The pcapng file format.

use super::buffer::Buffer;
use super::{BLOCK_MAX, PcapError, Slot};
use crate::decode::packet::LinkType;
use crate::time::{Micros, SECOND};

/// The section header block's type, the same in both byte orders.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// Interfaces of a section, at most.
const INTERFACES_MAX: usize = 65_536;

/// Whether a file that starts with `first` is pcapng.
pub(super) fn is_magic(first: [u8; 4]) -> bool {
    u32::from_be_bytes(first) == SECTION_HEADER
}

/// How ticks become microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Resolution {
    Micros,
    /// Coarser than microseconds: so many of them a tick.
    Times(u32),
    /// Finer: so many ticks a microsecond.
    Over(u64),
    /// 2^-n seconds.
    Binary(u8),
    /// Finer than 64 bits of ticks can reach.
    Zero,
}

impl Resolution {
    /// The value of option if_tsresol: a power of 10, or of 2 if the highest bit is set.
    fn of(value: u8) -> Self {
        let power = u32::from(value & 0x7f);
        match power {
            _ if value & 0x80 != 0 => Self::Binary(value & 0x7f),
            6 => Self::Micros,
            0..6 => Self::Times(10_u32.pow(6 - power)),
            7..=25 => Self::Over(10_u64.pow(power - 6)),
            _ => Self::Zero,
        }
    }

    #[inline]
    fn micros(self, ticks: u64) -> i64 {
        let wide = match self {
            Self::Micros => u128::from(ticks),
            Self::Times(n) => u128::from(ticks) * u128::from(n),
            Self::Over(n) => u128::from(ticks / n),
            Self::Binary(n) => (u128::from(ticks) * 1_000_000) >> n,
            Self::Zero => 0,
        };
        i64::try_from(wide).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
    offset_us: i64,
}

/// State of the reader.
#[derive(Debug, Default)]
pub(super) struct Ng {
    little_endian: bool,
    /// Of this section.
    interfaces: Vec<Interface>,
    /// Interfaces of the sections before.
    interfaces_before: u32,
    /// Time of the last packet.
    last: Micros,
}

/// One whole block in the window.
#[derive(Clone, Copy)]
struct Block {
    kind: u32,
    /// Octets in all.
    len: u32,
}

impl Ng {
    fn u32(&self, octets: [u8; 4]) -> u32 {
        if self.little_endian { u32::from_le_bytes(octets) } else { u32::from_be_bytes(octets) }
    }

    fn u16(&self, octets: [u8; 2]) -> u16 {
        if self.little_endian { u16::from_le_bytes(octets) } else { u16::from_be_bytes(octets) }
    }

    /// The 32-bit integer `at` octets into the window, which holds it.
    #[inline]
    fn word(&self, buffer: &Buffer<'_>, at: usize) -> u32 {
        self.u32(*buffer.peek(at, 4).first_chunk().expect("4 octets"))
    }

    /// The 16-bit integer there.
    fn half(&self, buffer: &Buffer<'_>, at: usize) -> u16 {
        self.u16(*buffer.peek(at, 2).first_chunk().expect("2 octets"))
    }

    /// The next packet; other blocks are taken in or stepped over.
    pub(super) fn next(&mut self, buffer: &mut Buffer<'_>) -> Result<Option<Slot>, PcapError> {
        while !buffer.is_at_end()? {
            let block = self.block(buffer)?;
            let slot = match block.kind {
                ENHANCED_PACKET => {
                    require(buffer, block, 32)?;
                    let interface = self.word(buffer, 8);
                    Some(self.packet(buffer, block, interface)?)
                }
                PACKET => {
                    require(buffer, block, 32)?;
                    let interface = u32::from(self.half(buffer, 8));
                    Some(self.packet(buffer, block, interface)?)
                }
                SIMPLE_PACKET => Some(self.simple_packet(buffer, block)?),
                INTERFACE_DESCRIPTION => self.interface(buffer, block).map(|()| None)?,
                SECTION_HEADER => self.section(buffer, block).map(|()| None)?,
                _ => None,
            };
            let start = buffer.take(block.len as usize);
            if let Some(slot) = slot {
                self.last = slot.time;
                return Ok(Some(Slot { start: start + slot.start, ..slot }));
            }
        }
        Ok(None)
    }

    /// Brings one whole block into the window, checked at both ends.
    #[inline]
    fn block(&mut self, buffer: &mut Buffer<'_>) -> Result<Block, PcapError> {
        let offset = buffer.offset();
        let kind = *buffer.need::<4>(0)?;
        if is_magic(kind) {
            let mark = *buffer.need::<4>(8)?;
            self.little_endian = match u32::from_be_bytes(mark) {
                0x1a2b_3c4d => false,
                0x4d3c_2b1a => true,
                found => return Err(PcapError::ByteOrder { offset: offset + 8, found }),
            };
        }
        buffer.need_octets(12)?;
        let (kind, len) = (self.word(buffer, 0), self.word(buffer, 4));
        if len < 12 || !len.is_multiple_of(4) {
            return Err(PcapError::BlockLength { offset, found: len, least: 12 });
        }
        if len as usize > BLOCK_MAX {
            return Err(PcapError::TooLong { offset, found: u64::from(len) });
        }
        buffer.need_octets(len as usize)?;
        let found = self.word(buffer, len as usize - 4);
        if found != len {
            return Err(PcapError::BlockTrailer { offset, found, expected: len });
        }
        Ok(Block { kind, len })
    }

    /// A section header: the interfaces of the section before are gone.
    fn section(&mut self, buffer: &Buffer<'_>, block: Block) -> Result<(), PcapError> {
        require(buffer, block, 28)?;
        let (major, minor) = (self.half(buffer, 12), self.half(buffer, 14));
        if major != 1 {
            let offset = buffer.offset() + 12;
            return Err(PcapError::Version { offset, major, minor, expected: 1 });
        }
        let count = u32::try_from(self.interfaces.len()).expect("bounded by INTERFACES_MAX");
        self.interfaces_before = self.interfaces_before.saturating_add(count);
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, buffer: &Buffer<'_>, block: Block) -> Result<(), PcapError> {
        require(buffer, block, 20)?;
        if self.interfaces.len() >= INTERFACES_MAX {
            let most = u32::try_from(INTERFACES_MAX).expect("a small constant");
            return Err(PcapError::TooManyInterfaces { offset: buffer.offset(), most });
        }
        let mut interface = Interface {
            link: LinkType(self.half(buffer, 8)),
            snaplen: self.word(buffer, 12),
            resolution: Resolution::Micros,
            offset_us: 0,
        };
        // Options that run over the block's end are as good as absent.
        let mut options = buffer.peek(16, block.len as usize - 20);
        while let [a, b, c, d, rest @ ..] = options {
            let (code, len) = (self.u16([*a, *b]), usize::from(self.u16([*c, *d])));
            let Some(value) = rest.get(..len).filter(|_| code != OPTION_END) else { break };
            match (code, value) {
                (OPTION_TSRESOL, &[value]) => interface.resolution = Resolution::of(value),
                (OPTION_TSOFFSET, value) if value.len() == 8 => {
                    let octets = *value.first_chunk::<8>().expect("8 octets");
                    let seconds = if self.little_endian {
                        i64::from_le_bytes(octets)
                    } else {
                        i64::from_be_bytes(octets)
                    };
                    interface.offset_us = seconds.saturating_mul(SECOND);
                }
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// An enhanced packet block or the obsolete packet block: the same but for the interface.
    #[inline]
    fn packet(&self, buffer: &Buffer<'_>, block: Block, index: u32) -> Result<Slot, PcapError> {
        let interface = self.known(buffer, index)?;
        let ticks = u64::from(self.word(buffer, 12)) << 32 | u64::from(self.word(buffer, 16));
        let (captured, wire_len) = (self.word(buffer, 20), self.word(buffer, 24));
        require(buffer, block, 32 + u64::from(captured))?;
        Ok(Slot {
            link: interface.link,
            time: Micros(interface.resolution.micros(ticks)).plus(interface.offset_us),
            wire_len: wire_len.max(captured),
            start: 28,
            len: captured as usize,
            interface: self.interfaces_before.saturating_add(index),
            offset: buffer.offset(),
        })
    }

    /// A simple packet block: of the first interface, no time, as long as block and snap length
    /// allow.
    fn simple_packet(&self, buffer: &Buffer<'_>, block: Block) -> Result<Slot, PcapError> {
        require(buffer, block, 16)?;
        let interface = self.known(buffer, 0)?;
        let wire_len = self.word(buffer, 8);
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = wire_len.min(snaplen);
        require(buffer, block, 16 + u64::from(captured))?;
        Ok(Slot {
            link: interface.link,
            time: self.last,
            wire_len,
            start: 12,
            len: captured as usize,
            interface: self.interfaces_before,
            offset: buffer.offset(),
        })
    }

    #[inline]
    fn known(&self, buffer: &Buffer<'_>, index: u32) -> Result<Interface, PcapError> {
        self.interfaces.get(index as usize).copied().ok_or_else(|| PcapError::Interface {
            offset: buffer.offset(),
            found: index,
            known: u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX),
        })
    }
}

/// That the block has at least `least` octets.
#[inline]
fn require(buffer: &Buffer<'_>, block: Block, least: u64) -> Result<(), PcapError> {
    if u64::from(block.len) < least {
        return Err(PcapError::BlockLength {
            offset: buffer.offset(),
            found: block.len,
            least: u32::try_from(least).unwrap_or(u32::MAX),
        });
    }
    Ok(())
}
