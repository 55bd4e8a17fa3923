//! One receive queue: a socket, frames of our own memory, and two rings that say whose they are.
//!
//! The kernel takes the addresses of empty frames from the fill ring and puts filled ones into the
//! receive ring; we read a packet where it lies and give its frame back. Each ring has one
//! producer and one consumer, which only ever move their own counter.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::socket;
use super::Mode;

/// Octets of a frame: a page.
pub(super) const FRAME_OCTETS: usize = 4_096;
/// What the kernel keeps free before a packet.
const HEADROOM_OCTETS: usize = 256;
/// The longest packet that a frame holds.
pub(super) const PACKET_OCTETS: usize = FRAME_OCTETS - HEADROOM_OCTETS;
/// Frames that are given back at once.
const GIVE_BACK: u32 = 64;

/// A packet's place in the frames.
#[derive(Clone, Copy)]
pub(super) struct Place {
    start: usize,
    pub(super) length: usize,
}

/// The socket of one receive queue.
pub(super) struct Queue {
    pub(super) socket: OwnedFd,
    frames: Mapping,
    fill: Ring<u64>,
    receive: Ring<libc::xdp_desc>,
    /// Frames, and places in each ring: a power of two.
    count: u32,
    /// The next packet, and behind the last that has come.
    at: u32,
    come: u32,
    /// Frames that were read and are not yet in the kernel's hands.
    read: u32,
    /// The next free place of the fill ring.
    filled: u32,
}

impl Queue {
    /// Opens receive queue `queue` of interface `index` with about `octets` of frames. Packets
    /// come once the socket is in the map of the program.
    ///
    /// # Errors
    /// The operating system's; ENOBUFS if the memory may not be locked.
    pub(super) fn open(
        index: libc::c_int,
        queue: u32,
        octets: usize,
        mode: Mode,
    ) -> io::Result<Self> {
        // SAFETY: no pointers are passed; the descriptor is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let count = previous_power_of_two(octets / FRAME_OCTETS).max(64);
        let frames = Mapping::frames(count as usize * FRAME_OCTETS)?;
        let region = libc::xdp_umem_reg {
            addr: frames.start.as_ptr() as u64,
            len: frames.octets as u64,
            chunk_size: FRAME_OCTETS as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let level = libc::SOL_XDP;
        socket::set(&socket, level, libc::XDP_UMEM_REG, &region)?;
        socket::set(&socket, level, libc::XDP_UMEM_FILL_RING, &count)?;
        // A socket has both rings of its frames, also where it never sends.
        socket::set(&socket, level, libc::XDP_UMEM_COMPLETION_RING, &GIVE_BACK)?;
        socket::set(&socket, level, libc::XDP_RX_RING, &count)?;
        let offsets = offsets(&socket)?;
        let fill = Ring::map(&socket, libc::XDP_UMEM_PGOFF_FILL_RING as i64, &offsets.fr, count)?;
        let receive = Ring::map(&socket, libc::XDP_PGOFF_RX_RING, &offsets.rx, count)?;
        let mut queue_of =
            Self { socket, frames, fill, receive, count, at: 0, come: 0, read: 0, filled: 0 };
        for frame in 0..count {
            queue_of.fill.write(frame, u64::from(frame) * FRAME_OCTETS as u64);
        }
        queue_of.filled = count;
        queue_of.fill.producer.store(count, Ordering::Release);
        queue_of.bind(index, queue, mode)?;
        Ok(queue_of)
    }

    fn bind(&self, index: libc::c_int, queue: u32, mode: Mode) -> io::Result<()> {
        let copied = if mode == Mode::Generic { libc::XDP_COPY } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP | copied,
            sxdp_ifindex: index.cast_unsigned(),
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: pointer and length describe `address`, which outlives the call.
        let bound =
            unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether packets are there; looks at what the kernel has put into the ring.
    pub(super) fn look(&mut self) -> bool {
        if self.at == self.come {
            self.come = self.receive.producer.load(Ordering::Acquire);
        }
        self.at != self.come
    }

    /// Looks a last time: what has come by now is all.
    pub(super) fn seal(&mut self) {
        self.come = self.receive.producer.load(Ordering::Acquire);
    }

    /// Whether all packets of the last look are taken: the next one is a look anew.
    pub(super) const fn is_through(&self) -> bool {
        self.at == self.come
    }

    /// The next packet, which stays where it is until [`Self::give_back`]; only after a look that
    /// found some.
    pub(super) fn take(&mut self) -> Option<Place> {
        let described = self.receive.read(self.at);
        let (start, length) = (described.addr as usize, described.len as usize);
        let whole = start / FRAME_OCTETS == (start + length.max(1) - 1) / FRAME_OCTETS;
        (whole && start + length <= self.frames.octets).then_some(Place { start, length })
    }

    /// The frame of the packet that was taken is read.
    pub(super) fn give_back(&mut self) {
        let described = self.receive.read(self.at);
        let frame = described.addr & !(FRAME_OCTETS as u64 - 1);
        self.fill.write(self.filled, frame);
        self.filled = self.filled.wrapping_add(1);
        self.at = self.at.wrapping_add(1);
        self.read += 1;
        if self.read >= GIVE_BACK || self.at == self.come {
            self.hand_over();
        }
    }

    /// Lets the kernel have what was given back.
    fn hand_over(&mut self) {
        self.read = 0;
        self.receive.consumer.store(self.at, Ordering::Release);
        self.fill.producer.store(self.filled, Ordering::Release);
        if self.fill.flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0 {
            let (fd, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: no buffer is passed. What it returns says nothing: there are no data in it.
            unsafe { libc::recvfrom(fd, ptr_mut(), 0, flags, ptr_mut(), ptr_mut()) };
        }
    }

    /// Octets of a packet, at most `snaplen`.
    pub(super) fn octets(&self, place: Place, snaplen: usize) -> &[u8] {
        let length = place.length.min(snaplen);
        // SAFETY: within the mapping, as `take` checked; the kernel does not write to a frame
        // before it has it back, which it has not while the caller holds the borrow.
        unsafe { std::slice::from_raw_parts(self.frames.start.as_ptr().add(place.start), length) }
    }

    /// Packets that wait, and how many can.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let come = self.receive.producer.load(Ordering::Relaxed);
        (come.wrapping_sub(self.at).into(), self.count.into())
    }

    /// Packets of this queue that were dropped since it was opened.
    pub(super) fn dropped(&self) -> io::Result<u64> {
        let mut statistics = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        option(&self.socket, libc::XDP_STATISTICS, &mut statistics)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }
}

const fn ptr_mut<T>() -> *mut T {
    std::ptr::null_mut()
}

fn previous_power_of_two(number: usize) -> u32 {
    u32::try_from(number.checked_ilog2().map_or(0, |bits| 1_usize << bits)).unwrap_or(1 << 31)
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let none = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut offsets = libc::xdp_mmap_offsets { rx: none(), tx: none(), fr: none(), cr: none() };
    option(socket, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    Ok(offsets)
}

/// Asks for option `name` of type `T`, a plain C type.
fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_mut(value).cast();
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_XDP);
    // SAFETY: the kernel writes at most `length` octets, which `value` has.
    let got = unsafe { libc::getsockopt(fd, level, name, value, &raw mut length) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Memory that is shared with the kernel.
struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping belongs to this value alone on our side; what the kernel shares is handed
// over through the counters of the rings.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Memory for frames, which the kernel pins.
    fn frames(octets: usize) -> io::Result<Self> {
        Self::map(octets, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    fn map(octets: usize, flags: libc::c_int, fd: libc::c_int, offset: i64) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr_mut(), octets, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, octets })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}

/// One ring of `T`, which is plain data of the kernel's.
struct Ring<T> {
    producer: &'static AtomicU32,
    consumer: &'static AtomicU32,
    flags: &'static AtomicU32,
    places: NonNull<T>,
    mask: u32,
    /// What the references and the pointer point into: it lives as long as they do.
    _memory: Mapping,
}

// SAFETY: as for `Mapping`; places are read and written by the side that its counters say.
unsafe impl<T> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    fn map(
        socket: &OwnedFd,
        at: i64,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Self> {
        let octets = offsets.desc as usize + count as usize * size_of::<T>();
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let memory = Mapping::map(octets, flags, socket.as_raw_fd(), at)?;
        let start = memory.start.as_ptr();
        let word = |offset: u64| {
            assert!(offset as usize + 4 <= octets, "a counter of the ring");
            // SAFETY: within the mapping and aligned, as the kernel says where its counters are;
            // it lives as long as the ring, which lends the reference to nobody.
            unsafe { AtomicU32::from_ptr(start.add(offset as usize).cast()) }
        };
        let (producer, consumer, flags) =
            (word(offsets.producer), word(offsets.consumer), word(offsets.flags));
        // SAFETY: within the mapping, as `octets` reaches behind the last place.
        let places = unsafe { memory.start.add(offsets.desc as usize) }.cast();
        Ok(Self { producer, consumer, flags, places, mask: count - 1, _memory: memory })
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: a place of the ring, and ours, as the kernel's counter said.
        unsafe { self.places.add((index & self.mask) as usize).read_volatile() }
    }

    fn write(&mut self, index: u32, value: T) {
        // SAFETY: a place of the ring, and ours until our counter passes it.
        unsafe { self.places.add((index & self.mask) as usize).write_volatile(value) }
    }
}
