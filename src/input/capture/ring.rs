//! Rings of the kernel: AF_PACKET with TPACKET_V3.
//!
//! The kernel fills blocks of a ring that is mapped into our memory, and hands each over when it is
//! full or 10 ms old; we read the packets where they lie and hand the block back. Nothing is
//! copied, and there is no system call while there is work.
//!
//! # Source
//! Linux, Documentation/networking/packet_mmap.rst.

#![expect(unsafe_code, reason = "the ring is memory that the kernel shares with us")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{CaptureError, Drops, Filter, RETIRE, explain, fanout, read_error, socket};
use crate::config;
use crate::decode::packet::LinkType;
use crate::input::pcap::Packet;
use crate::time::{Micros, SECOND};

/// Octets of a block: what the kernel hands over at once.
const BLOCK_OCTETS: usize = 256 << 10;
/// A block's frame size, of which only divisibility matters in this version of the ring.
const FRAME_OCTETS: usize = 2_048;
/// Room before each frame, so that a VLAN tag that the kernel took off can be put back.
const TAG_OCTETS: usize = 4;
/// Octets of the two MAC addresses, behind which the tag stands.
const MACS_OCTETS: usize = 12;

/// One ring on one interface.
pub struct Ring {
    socket: OwnedFd,
    memory: Memory,
    /// The block that is read, or the next that the kernel will hand over.
    block: usize,
    /// Whether it is ours.
    held: bool,
    /// Packets of it that are still to come.
    left: u32,
    /// Where in the memory the next of them has its header.
    at: usize,
    interface: String,
    link: LinkType,
    /// Each packet of a loopback interface is seen when it leaves and when it comes.
    loopback: bool,
    /// A filter that the kernel cannot run, as it looks at VLAN tags that the kernel takes off.
    filter: Option<Filter>,
    drops: Drops,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.memory.octets / BLOCK_OCTETS;
        f.debug_struct("Ring")
            .field("interface", &self.interface)
            .field("blocks", &blocks)
            .finish_non_exhaustive()
    }
}

/// Opens `config.readers` rings on the interface of `config`, each with its share of the buffer.
///
/// # Errors
/// [`CaptureError`] if the interface does not exist or cannot be opened, or the filter does not
/// compile.
pub(super) fn open(config: &config::Capture) -> Result<Vec<Ring>, CaptureError> {
    let interface = config.interface.as_str();
    let failed = |error: io::Error| explain(interface, error.to_string());
    let octets = config.buffer_bytes / config.readers;
    let open = |_| Ring::open(config, octets);
    let mut rings = (0..config.readers).map(open).collect::<Result<Vec<_>, _>>()?;
    // Every ring takes nothing until all are in the group: no packet comes to two of them.
    let index = socket::index_of(interface).map_err(failed)?;
    for ring in &rings {
        socket::bind(&ring.socket, index).map_err(failed)?;
        if config.promiscuous {
            socket::make_promiscuous(&ring.socket, index).map_err(failed)?;
        }
    }
    if rings.len() > 1 {
        fanout::join(rings.iter().map(|ring| &ring.socket)).map_err(failed)?;
    }
    for ring in &mut rings {
        ring.take_in(config)?;
    }
    Ok(rings)
}

impl Ring {
    fn open(config: &config::Capture, octets: usize) -> Result<Self, CaptureError> {
        let interface = config.interface.as_str();
        let failed = |error: io::Error| explain(interface, error.to_string());
        let socket = socket::open().map_err(failed)?;
        let hardware = socket::hardware(&socket, interface).map_err(failed)?;
        let link = match hardware {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LinkType::ETHERNET,
            // Tunnels without a link layer.
            libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_PPP => {
                LinkType::RAW
            }
            other => {
                let detail = format!(
                    "its hardware type {other} is not read from a ring: set backend = \"libpcap\""
                );
                return Err(CaptureError::Open { interface: interface.to_owned(), detail });
            }
        };
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        let packet = libc::SOL_PACKET;
        socket::set(&socket, packet, libc::PACKET_VERSION, &version).map_err(failed)?;
        let reserve = TAG_OCTETS as libc::c_uint;
        socket::set(&socket, packet, libc::PACKET_RESERVE, &reserve).map_err(failed)?;
        attach(&socket, &mut [take(0)]).map_err(failed)?;
        let memory = Memory::map(&socket, octets).map_err(failed)?;
        Ok(Self {
            socket,
            memory,
            block: 0,
            held: false,
            left: 0,
            at: 0,
            interface: interface.to_owned(),
            link,
            loopback: hardware == libc::ARPHRD_LOOPBACK,
            filter: None,
            drops: Drops::default(),
        })
    }

    /// Puts the true filter in place of the one that takes nothing.
    fn take_in(&mut self, config: &config::Capture) -> Result<(), CaptureError> {
        let mut code = vec![take(config.snaplen)];
        if !config.filter.is_empty() {
            let filter = Filter::for_link(&config.filter, self.link)?;
            if config.filter.contains("vlan") {
                self.filter = Some(filter);
            } else {
                code = filter.code(self.link, config.snaplen);
            }
        }
        let failed = |error: io::Error| explain(&self.interface, error.to_string());
        attach(&self.socket, &mut code).map_err(failed)
    }

    /// The link type of the interface.
    pub(super) const fn link(&self) -> LinkType {
        self.link
    }

    /// See [`super::Live::next`].
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        Ok(Some(self.lend(&frame)))
    }

    /// The next frame that passes, its tag put back.
    fn next_frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        loop {
            if self.left == 0 && !self.next_block()? {
                return Ok(None);
            }
            let mut frame = self.memory.frame(self.at).ok_or_else(|| self.broken())?;
            self.left -= 1;
            self.at += frame.to_next;
            if self.loopback && frame.outgoing {
                continue;
            }
            self.memory.put_tag_back(&mut frame);
            if let Some(mut filter) = self.filter.take() {
                let passes = filter.matches(&self.lend(&frame));
                self.filter = Some(filter);
                if !passes? {
                    continue;
                }
            }
            return Ok(Some(frame));
        }
    }

    fn lend(&self, frame: &Frame) -> Packet<'_> {
        Packet {
            link: self.link,
            time: frame.time,
            wire_len: frame.wire_len.max(frame.length as u32),
            data: self.memory.octets(frame.start, frame.length),
            interface: 0,
            offset: 0,
        }
    }

    /// Hands back the block that was read, and takes the next if the kernel has filled it.
    fn next_block(&mut self) -> Result<bool, CaptureError> {
        // An empty block comes when the time was up before the first packet.
        while self.left == 0 {
            if self.held {
                self.memory.status(self.block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
                self.block = (self.block + 1) % (self.memory.octets / BLOCK_OCTETS);
                self.held = false;
            }
            let status = self.memory.status(self.block).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                return Ok(false);
            }
            let header = self.memory.block(self.block);
            self.held = true;
            self.left = header.num_pkts;
            self.at = self.block * BLOCK_OCTETS + header.offset_to_first_pkt as usize;
        }
        Ok(true)
    }

    fn broken(&self) -> CaptureError {
        read_error(&self.interface, "the ring holds no valid block".to_owned())
    }

    /// See [`super::Live::wait`].
    pub(super) fn wait(&self, wait: Duration) -> Result<bool, CaptureError> {
        let ready = super::readable(self.socket.as_raw_fd(), wait);
        ready.map_err(|error| read_error(&self.interface, error.to_string()))
    }

    /// See [`super::Live::filled`]. The kernel hands blocks over in their order, so a look at each
    /// tenth tells how many wait.
    pub(super) fn filled(&self) -> (u64, u64) {
        let blocks = self.memory.octets / BLOCK_OCTETS;
        let waits = |tenth: &usize| {
            let block = (self.block + tenth * (blocks - 1) / 10) % blocks;
            let status = self.memory.status(block).load(Ordering::Relaxed);
            status & libc::TP_STATUS_USER != 0
        };
        ((1..=10).take_while(waits).count() as u64, 10)
    }

    /// See [`super::Live::drops`]. The kernel's counter starts anew at each call.
    pub(super) fn drops(&mut self) -> Result<Drops, CaptureError> {
        let words = socket::get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS);
        let [_, dropped, _] =
            words.map_err(|error| read_error(&self.interface, error.to_string()))?;
        self.drops.kernel += u64::from(dropped);
        Ok(self.drops)
    }
}

/// The instruction that takes `snaplen` octets of a packet; 0: nothing of it.
const fn take(snaplen: u32) -> libc::sock_filter {
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: snaplen }
}

fn attach(socket: &OwnedFd, code: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: code.as_mut_ptr(),
    };
    socket::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// The mapped ring.
struct Memory {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping belongs to this value alone on our side; the kernel's side is handed over
// block by block through their status words.
unsafe impl Send for Memory {}

/// A packet's place in the ring.
struct Frame {
    to_next: usize,
    start: usize,
    length: usize,
    wire_len: u32,
    time: Micros,
    outgoing: bool,
    /// Identifier and control information of the tag that the kernel took off.
    tag: Option<[u8; TAG_OCTETS]>,
}

impl Memory {
    fn map(socket: &OwnedFd, octets: usize) -> io::Result<Self> {
        let blocks = (octets / BLOCK_OCTETS).max(2);
        let octets = blocks * BLOCK_OCTETS;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_OCTETS as libc::c_uint,
            tp_block_nr: blocks as libc::c_uint,
            tp_frame_size: FRAME_OCTETS as libc::c_uint,
            tp_frame_nr: (octets / FRAME_OCTETS) as libc::c_uint,
            tp_retire_blk_tov: RETIRE.as_millis() as libc::c_uint,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        socket::set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, socket.as_raw_fd());
        // SAFETY: a new mapping of the ring that was just asked for, at an address of the kernel's
        // choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), octets, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, octets })
    }

    /// The word by which block `index` goes from one side to the other.
    fn status(&self, index: usize) -> &AtomicU32 {
        let offset = index * BLOCK_OCTETS + std::mem::offset_of!(libc::tpacket_block_desc, hdr);
        assert!(offset + 4 <= self.octets, "a block of the ring");
        // SAFETY: within the mapping and aligned, as blocks are; the kernel treats the word as
        // shared, so an atomic is what it has to be.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The header of block `index`, which must be ours.
    fn block(&self, index: usize) -> libc::tpacket_hdr_v1 {
        let offset = index * BLOCK_OCTETS + std::mem::offset_of!(libc::tpacket_block_desc, hdr);
        assert!(offset + size_of::<libc::tpacket_hdr_v1>() <= self.octets, "a block of the ring");
        // SAFETY: within the mapping and aligned; the kernel does not write to a block that is ours.
        unsafe { self.start.as_ptr().add(offset).cast::<libc::tpacket_hdr_v1>().read() }
    }

    /// The packet whose header is at `at`, in a block that is ours; `None` if it is not whole.
    fn frame(&self, at: usize) -> Option<Frame> {
        const ADDRESS: usize = size_of::<libc::tpacket3_hdr>();
        const HEADERS: usize = ADDRESS + size_of::<libc::sockaddr_ll>();
        let block_end = (at / BLOCK_OCTETS + 1) * BLOCK_OCTETS;
        if at + HEADERS > block_end.min(self.octets) {
            return None;
        }
        // SAFETY: both structures lie within the mapping, in a block that is ours; unaligned reads.
        let (header, address) = unsafe {
            let here = self.start.as_ptr().add(at);
            let header = here.cast::<libc::tpacket3_hdr>().read_unaligned();
            (header, here.add(ADDRESS).cast::<libc::sockaddr_ll>().read_unaligned())
        };
        let (start, length) = (at + usize::from(header.tp_mac), header.tp_snaplen as usize);
        if start < at + HEADERS + TAG_OCTETS || start + length > block_end {
            return None;
        }
        let seconds = i64::from(header.tp_sec) * SECOND;
        let is = |status| header.tp_status & status != 0;
        let tag = is(libc::TP_STATUS_VLAN_VALID).then(|| {
            let known = is(libc::TP_STATUS_VLAN_TPID_VALID);
            let [a, b] = if known { header.hv1.tp_vlan_tpid } else { 0x8100 }.to_be_bytes();
            let [c, d] = (header.hv1.tp_vlan_tci as u16).to_be_bytes();
            [a, b, c, d]
        });
        Some(Frame {
            to_next: header.tp_next_offset as usize,
            start,
            length,
            wire_len: header.tp_len + if tag.is_some() { TAG_OCTETS as u32 } else { 0 },
            time: Micros(seconds + i64::from(header.tp_nsec) / 1_000),
            outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
            tag,
        })
    }

    /// Writes the VLAN tag of `frame` back to where it was.
    fn put_tag_back(&mut self, frame: &mut Frame) {
        let Some(tag) = frame.tag.take().filter(|_| frame.length >= MACS_OCTETS) else { return };
        frame.start -= TAG_OCTETS;
        frame.length += TAG_OCTETS;
        // SAFETY: the mapping is ours alone here, as `&mut self` says and the block's status; the
        // octets before the frame are the room that was asked for, as `frame` checked.
        let room = unsafe {
            let length = TAG_OCTETS + MACS_OCTETS;
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(frame.start), length)
        };
        room.copy_within(TAG_OCTETS.., 0);
        room[MACS_OCTETS..].copy_from_slice(&tag);
    }

    /// `length` octets from `start`, in a block that is ours.
    fn octets(&self, start: usize, length: usize) -> &[u8] {
        assert!(start + length <= self.octets, "a packet of the ring");
        // SAFETY: within the mapping; the kernel does not write to a block that is ours, and it
        // stays ours until the caller, who holds the borrow, asks for the next packet.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(start), length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}
