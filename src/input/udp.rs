//! NetFlow over UDP: batches of datagrams by `recvmmsg`, with the kernel's drop counter.

#![expect(unsafe_code, reason = "recvmmsg and its control messages have no safe form in std")]

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::steer::steer;
use crate::net::Addr;
use crate::time::Micros;

/// Datagrams taken with one system call, at most.
pub const BATCH: usize = 64;
/// The largest UDP payload: no datagram is ever cut.
const DATAGRAM_OCTETS: usize = 65_535;
/// Octets of each datagram that lie side by side with those of the others. Export datagrams are
/// shorter than this; a batch of them then stays in the second-level cache, where places 64 KiB
/// apart would all fall into the same sets. What a datagram has beyond goes to a place of its own.
const DENSE_OCTETS: usize = 2_048;
/// Room for the control messages of one datagram: SO_RXQ_OVFL's 32-bit counter and
/// SO_TIMESTAMPNS's time.
const CONTROL_OCTETS: usize = 64;

/// A bound socket: its receive buffer, and what the kernel gave of what was asked for.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: UdpSocket,
    /// Octets of receive buffer that the kernel granted; it counts its own overhead beside them.
    pub receive_buffer_bytes: usize,
    /// What the kernel had dropped of it before: of a socket that outlives a restart, earlier runs
    /// counted most of it. Wraps at 32 bits.
    pub dropped_before: u32,
    /// Whether somebody else keeps it open, as systemd does: what is left in it at a stop is there for
    /// whoever listens next.
    pub outlives: bool,
}

impl Bound {
    /// The address that it is bound to, for people.
    #[must_use]
    pub fn address(&self) -> String {
        self.socket.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }
}

/// Binds one socket for each of `readers` to `address`, each with a receive buffer of
/// `receive_buffer_bytes`, by force where allowed; what one exporter sends comes to one of them.
///
/// # Errors
/// The operating system's, with the address.
pub fn bind_all(
    address: SocketAddr,
    receive_buffer_bytes: usize,
    readers: usize,
) -> io::Result<Vec<Bound>> {
    let shared = readers > 1;
    if shared {
        // Sockets that share a port let those of another process join, who would take its part in silence.
        drop(bind(address, receive_buffer_bytes, false)?);
    }
    let first = bind(address, receive_buffer_bytes, shared)?;
    // Where any port was asked for, all have the one that the first got.
    let address = first.socket.local_addr()?;
    let mut bound = vec![first];
    for _ in 1..readers {
        bound.push(bind(address, receive_buffer_bytes, true)?);
    }
    if shared {
        steer(&bound[0].socket, readers)?;
    }
    Ok(bound)
}

fn bind(address: SocketAddr, receive_buffer_bytes: usize, shared: bool) -> io::Result<Bound> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot bind UDP {address}: {error}"))
    };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(named)?;
    if address.is_ipv6() {
        socket.set_only_v6(false).map_err(named)?;
    }
    socket.set_reuse_port(shared).map_err(named)?;
    socket.bind(&address.into()).map_err(named)?;
    // Down from the kernel's default, too; what is refused is told of when it is known what is granted.
    drop(socket.set_recv_buffer_size(receive_buffer_bytes));
    Ok(Bound { outlives: false, ..adopt(socket.into(), receive_buffer_bytes)? })
}

/// Takes over a socket that is bound already, for example by systemd, and sets it up.
///
/// # Errors
/// The operating system's.
pub fn adopt(socket: UdpSocket, receive_buffer_bytes: usize) -> io::Result<Bound> {
    let wanted = libc::c_int::try_from(receive_buffer_bytes).unwrap_or(libc::c_int::MAX);
    let granted = |socket: &UdpSocket| socket2::SockRef::from(socket).recv_buffer_size();
    // The kernel doubles what it is asked for, to account for its own overhead.
    let before = granted(&socket)? / 2;
    if before < receive_buffer_bytes
        && set_option(&socket, libc::SO_RCVBUFFORCE, wanted).is_err()
        // The kernel's bound may be below what systemd gave: that is not to be taken away.
        && before < receive_buffer_bytes.min(rmem_max())
    {
        set_option(&socket, libc::SO_RCVBUF, wanted)?;
    }
    set_option(&socket, libc::SO_RXQ_OVFL, 1)?;
    // A kernel without it leaves the moment of reading.
    drop(set_option(&socket, libc::SO_TIMESTAMPNS, 1));
    let receive_buffer_bytes = granted(&socket)? / 2;
    let dropped_before = drops_of(&socket).unwrap_or(0);
    Ok(Bound { socket, receive_buffer_bytes, dropped_before, outlives: true })
}

/// What an unprivileged process may ask for; 0 if the kernel does not tell.
fn rmem_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn set_option(socket: &UdpSocket, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives batches of datagrams from one socket.
pub struct Receiver {
    socket: UdpSocket,
    /// [`DENSE_OCTETS`] of each datagram.
    dense: Vec<u8>,
    /// [`DATAGRAM_OCTETS`] of each: the kernel fills what follows the dense part, and the dense
    /// part of a long datagram is copied before it. Never touched while there is none.
    long: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<[u64; CONTROL_OCTETS / 8]>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<[libc::iovec; 2]>,
    received: usize,
    drops: u32,
    dropped: u64,
    outlives: bool,
}

// SAFETY: the raw pointers in `headers` and `vectors` point into the buffers that the receiver
// owns and that never move, and are never handed out.
unsafe impl Send for Receiver {}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Receiver {
    /// A receiver of a socket that [`bind_all`] or [`adopt`] set up.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let Bound { socket, dropped_before: drops, outlives, .. } = bound;
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (name, header) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut receiver = Self {
            socket,
            dense: vec![0; BATCH * DENSE_OCTETS],
            long: vec![0; BATCH * DATAGRAM_OCTETS],
            names: vec![name; BATCH],
            controls: vec![[0; CONTROL_OCTETS / 8]; BATCH],
            headers: vec![header; BATCH],
            vectors: vec![[vector; 2]; BATCH],
            received: 0,
            drops,
            dropped: 0,
            outlives,
        };
        receiver.aim(BATCH);
        receiver
    }

    /// Takes up to [`BATCH`] of the datagrams that are there, without waiting. Returns how many.
    ///
    /// # Errors
    /// The operating system's.
    pub fn receive(&mut self) -> io::Result<usize> {
        // Only what the kernel wrote to the last time has to be set anew.
        let written = mem::take(&mut self.received);
        self.aim(written);
        let fd = self.socket.as_raw_fd();
        // SAFETY: `headers` holds BATCH entries whose pointers `aim` set to live buffers of the
        // stated lengths.
        let count = unsafe {
            let flags = libc::MSG_DONTWAIT as _;
            let batch = BATCH as libc::c_uint;
            libc::recvmmsg(fd, self.headers.as_mut_ptr(), batch, flags, std::ptr::null_mut())
        };
        let Ok(count) = usize::try_from(count) else {
            let none = none_if_transient(io::Error::last_os_error())?;
            // Drops at the end of a burst would go unseen until the next one.
            self.queue();
            return Ok(none);
        };
        self.received = count;
        for index in 0..count {
            if self.headers[index].msg_len as usize > DENSE_OCTETS {
                let dense = &self.dense[index * DENSE_OCTETS..][..DENSE_OCTETS];
                self.long[index * DATAGRAM_OCTETS..][..DENSE_OCTETS].copy_from_slice(dense);
            }
        }
        self.count_drops();
        Ok(count)
    }

    /// The `index`th datagram of the last batch: source address, port, payload.
    #[must_use]
    pub fn datagram(&self, index: usize) -> (Addr, u16, &[u8]) {
        assert!(index < self.received, "only what was received");
        let length = (self.headers[index].msg_len as usize).min(DATAGRAM_OCTETS);
        let (address, port) = source(&self.names[index]);
        let payload = if length > DENSE_OCTETS {
            &self.long[index * DATAGRAM_OCTETS..][..length]
        } else {
            &self.dense[index * DENSE_OCTETS..][..length]
        };
        (address, port, payload)
    }

    /// When the kernel received the `index`th datagram of the last batch, by the wall clock; `None`
    /// if it does not tell.
    #[must_use]
    pub fn arrived(&self, index: usize) -> Option<Micros> {
        assert!(index < self.received, "only what was received");
        let kind = libc::SCM_TIMESTAMPNS;
        let time = control::<libc::timespec>(&self.headers[index].msg_hdr, kind)?;
        Some(Micros::from_secs(time.tv_sec).plus(time.tv_nsec / 1_000))
    }

    /// Takes what came until `until` out of the socket, unread, unless somebody else keeps the socket
    /// open. Returns how many datagrams that were.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn discard(&mut self, until: Micros) -> io::Result<u64> {
        let mut discarded = 0;
        while !self.outlives {
            let came = self.receive()?;
            let before = (0..came).take_while(|&at| self.arrived(at).is_none_or(|at| at <= until));
            let before = before.count();
            discarded += before as u64;
            if before < BATCH {
                break;
            }
        }
        Ok(discarded)
    }

    /// Datagrams that the kernel dropped for want of buffer since the last call.
    pub fn take_kernel_drops(&mut self) -> u64 {
        mem::take(&mut self.dropped)
    }

    /// How full the kernel's buffer is: octets that wait, its own overhead included, and the most
    /// that may; `None` if it does not tell. Takes in what was dropped until now, too: a datagram
    /// tells of the drops before it was queued, which under overload is long ago.
    pub fn queue(&mut self) -> Option<(u32, u32)> {
        let info = memory_of(&self.socket)?;
        self.note_drops(info[SK_MEMINFO_DROPS]);
        Some((info[0], info[1]))
    }

    fn aim(&mut self, count: usize) {
        for (index, header) in self.headers.iter_mut().enumerate().take(count) {
            let dense = &mut self.dense[index * DENSE_OCTETS..][..DENSE_OCTETS];
            let long = &mut self.long[index * DATAGRAM_OCTETS..][..DATAGRAM_OCTETS];
            let rest = &mut long[DENSE_OCTETS..];
            let parts = &mut self.vectors[index];
            for (part, octets) in parts.iter_mut().zip([dense, rest]) {
                part.iov_base = octets.as_mut_ptr().cast();
                part.iov_len = octets.len();
            }
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = parts.as_mut_ptr();
            header.msg_hdr.msg_iovlen = parts.len();
            header.msg_hdr.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_hdr.msg_controllen = CONTROL_OCTETS;
        }
    }

    /// Takes in the kernel's counter, which is cumulative over the socket's life and wraps at 32
    /// bits. A datagram that was queued before the last look carries an older value: no news.
    fn note_drops(&mut self, drops: u32) {
        let news = drops.wrapping_sub(self.drops);
        if news < u32::MAX / 2 {
            self.dropped += u64::from(news);
            self.drops = drops;
        }
    }

    fn count_drops(&mut self) {
        let Some(last) = self.received.checked_sub(1) else { return };
        let news = control::<u32>(&self.headers[last].msg_hdr, libc::SO_RXQ_OVFL);
        if let Some(drops) = news {
            self.note_drops(drops);
        }
    }
}

/// The control message of `kind` that came with a datagram. `T` is what the kernel writes for it:
/// plain data, for which any octets are a value.
fn control<T: Copy>(header: &libc::msghdr, kind: libc::c_int) -> Option<T> {
    // SAFETY: the kernel filled the control buffer of this header and set its length; the CMSG
    // macros stay within it. The length of a message is checked before it is read.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            let fits = message.cmsg_len >= libc::CMSG_LEN(size_of::<T>() as u32) as usize;
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, kind) && fits {
                return Some(libc::CMSG_DATA(control).cast::<T>().read_unaligned());
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Where `SO_MEMINFO` tells of drops.
const SK_MEMINFO_DROPS: usize = 8;

/// What the kernel dropped of `socket` since it was made, as a counter that wraps at 32 bits.
fn drops_of(socket: &UdpSocket) -> Option<u32> {
    memory_of(socket).map(|info| info[SK_MEMINFO_DROPS])
}

/// The kernel's `SO_MEMINFO` of `socket`: what it holds, may hold and dropped.
fn memory_of(socket: &UdpSocket) -> Option<[u32; 9]> {
    let mut info = [0_u32; 9];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` has room for `length` octets; the kernel writes no more than that.
    let result = unsafe {
        let info = info.as_mut_ptr().cast();
        let fd = socket.as_raw_fd();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, info, &raw mut length)
    };
    (result == 0 && length as usize == size_of_val(&info)).then_some(info)
}

/// Waits up to `timeout_ms` until one of `receivers` has datagrams; whether one has.
///
/// # Errors
/// The operating system's.
pub fn wait(receivers: &[Receiver], timeout_ms: i32) -> io::Result<bool> {
    let poll = |receiver: &Receiver| libc::pollfd {
        fd: receiver.socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polls: Vec<libc::pollfd> = receivers.iter().map(poll).collect();
    let count = polls.len() as libc::nfds_t;
    // SAFETY: `polls` holds `count` valid entries.
    let ready = unsafe { libc::poll(polls.as_mut_ptr(), count, timeout_ms) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    none_if_transient(io::Error::last_os_error()).map(|_| false)
}

fn none_if_transient(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(0),
        // An earlier reply of ours cannot exist; a stray ICMP error must not end the input.
        io::ErrorKind::ConnectionRefused => Ok(0),
        _ => Err(error),
    }
}

fn source(name: &libc::sockaddr_storage) -> (Addr, u16) {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which fits the storage.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            (Addr::v4(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this is a sockaddr_in6, which fits the storage.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            (Addr::v6(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port))
        }
        _ => (Addr::UNSPECIFIED, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(receiver: &mut Receiver, timeout_ms: i32) -> usize {
        wait(std::slice::from_ref(receiver), timeout_ms).expect("waited");
        receiver.receive().expect("received")
    }

    /// Long ones and short ones in one batch: none is cut, and none is mixed up with another.
    #[test]
    fn datagrams_of_any_length_arrive_whole() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1 << 20, false).expect("bind");
        let to = bound.socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let lengths = [DENSE_OCTETS, DENSE_OCTETS + 1, 3, 65_507, DENSE_OCTETS - 1, 9_000];
        let payload =
            |length: usize| -> Vec<u8> { (0..length).map(|at| (at * 31 + length) as u8).collect() };
        let mut receiver = Receiver::new(bound);
        for _ in 0..2 {
            for length in lengths {
                sender.send_to(&payload(length), to).expect("sent");
            }
            assert_eq!(receive(&mut receiver, 1_000), lengths.len());
            for (index, length) in lengths.into_iter().enumerate() {
                assert!(receiver.datagram(index).2 == payload(length), "{length} octets");
            }
        }
    }

    #[test]
    fn datagrams_arrive_with_their_source() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1 << 20, false).expect("bind");
        assert!(bound.receive_buffer_bytes > 0);
        let to = bound.socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        for payload in [&b"one"[..], b"", b"three"] {
            assert_eq!(sender.send_to(payload, to).expect("sent"), payload.len());
        }
        let mut receiver = Receiver::new(bound);
        assert_eq!(receive(&mut receiver, 1_000), 3);
        let port = sender.local_addr().expect("bound").port();
        let from = Addr::v4(0x7f00_0001);
        assert_eq!(receiver.datagram(0), (from, port, &b"one"[..]));
        assert_eq!(receiver.datagram(1), (from, port, &b""[..]));
        assert_eq!(receiver.datagram(2), (from, port, &b"three"[..]));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = Micros::from_secs(now.expect("after 1970").as_secs().cast_signed());
        for index in 0..3 {
            let age = now.since(receiver.arrived(index).expect("the kernel tells"));
            assert!((-2_000_000..60_000_000).contains(&age), "{age} us old");
        }
        assert_eq!(receive(&mut receiver, 0), 0);
    }

    #[test]
    fn kernel_drops_are_counted() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 65_536, false).expect("bind");
        let to = bound.socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let sent = 2_000;
        for _ in 0..sent {
            sender.send_to(&[7; 1_400], to).expect("loopback takes it");
        }
        let mut receiver = Receiver::new(bound);
        let mut received = 0;
        loop {
            match receive(&mut receiver, 10) {
                0 => break,
                count => received += count as u64,
            }
        }
        assert_eq!(received + receiver.take_kernel_drops(), sent);
        assert!(received < sent, "the buffer holds less than all");
    }

    /// While the reader is behind, before it comes to a datagram that tells.
    #[test]
    fn drops_of_a_full_queue_are_seen_at_once() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1 << 19, false).expect("bind");
        let to = bound.socket.local_addr().expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        for _ in 0..2_000 {
            sender.send_to(&[7; 1_400], to).expect("loopback takes it");
        }
        let mut receiver = Receiver::new(bound);
        assert_eq!(receiver.receive().expect("received"), BATCH);
        assert_eq!(
            receiver.take_kernel_drops(),
            0,
            "the first datagram was queued before any drop"
        );
        let (held, room) = receiver.queue().expect("the kernel tells");
        assert!(held > room / 2, "{held} of {room}");
        let dropped = receiver.take_kernel_drops();
        assert!(dropped > 0);
        let mut received = BATCH as u64;
        while let count @ 1.. = receive(&mut receiver, 10) {
            received += count as u64;
        }
        assert_eq!(received + dropped, 2_000);
        assert_eq!(receiver.take_kernel_drops(), 0, "none is counted twice");
    }

    /// What nobody will read is counted; what another process keeps is left to it.
    #[test]
    fn what_is_left_in_a_socket_is_counted_unless_it_outlives_the_sensor() {
        for (outlives, want) in [(false, 3), (true, 0)] {
            let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1 << 20, false).expect("bind");
            let to = bound.socket.local_addr().expect("bound");
            let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
            let send = || sender.send_to(b"export", to).expect("sent");
            let now = || {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Micros(now.expect("after 1970").as_micros() as i64)
            };
            (0..3).for_each(|_| assert_eq!(send(), 6));
            let until = now();
            while now() <= until.plus(1_000) {}
            assert_eq!(send(), 6);
            let mut receiver = Receiver::new(Bound { outlives, ..bound });
            assert_eq!(receiver.discard(until).expect("read"), want, "outlives: {outlives}");
        }
    }

    #[test]
    fn an_address_is_shared_with_no_other_sensor() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let group = bind_all(any, 65_536, 3).expect("bind");
        let taken = group[0].socket.local_addr().expect("bound");
        for readers in [1, 2, 3, 4] {
            let error = bind_all(taken, 65_536, readers).expect_err("taken").to_string();
            assert!(error.contains("in use"), "{readers} readers: {error}");
        }
        drop(group);
        assert_eq!(bind_all(taken, 65_536, 2).expect("free again").len(), 2);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 65_536, false).expect("bind");
        let taken = bound.socket.local_addr().expect("bound");
        let error = bind(taken, 65_536, false).expect_err("taken");
        assert!(error.to_string().starts_with(&format!("cannot bind UDP {taken}")), "{error}");
    }
}
