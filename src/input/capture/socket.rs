//! A packet socket and what it is asked: options, interface requests.

#![expect(unsafe_code, reason = "packet sockets have no safe form in std")]

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, socklen_t};

/// A raw packet socket that receives nothing before [`bind`].
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the descriptor is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: `fd` was just opened, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Receives all protocols of interface `index` from now on.
pub(super) fn bind(socket: &OwnedFd, index: c_int) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let length = size_of_val(&address) as socklen_t;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

/// Sets an option of type `T`, a plain C type.
pub(super) fn set<T>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as socklen_t;
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) })
}

/// Asks for an option that is three 32-bit words at most; those that the kernel does not write
/// are 0.
pub(super) fn get(socket: &OwnedFd, level: c_int, name: c_int) -> io::Result<[u32; 3]> {
    let mut words = [0_u32; 3];
    let mut length = size_of_val(&words) as socklen_t;
    let value = words.as_mut_ptr().cast::<c_void>();
    // SAFETY: the kernel writes at most `length` octets, which `words` has.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut length) })?;
    Ok(words)
}

/// Fails with what went wrong with the socket `fd` since this was asked last, if anything did.
pub(super) fn error_of(fd: RawFd) -> io::Result<()> {
    let mut code: c_int = 0;
    let mut length = size_of_val(&code) as socklen_t;
    let value = (&raw mut code).cast::<c_void>();
    // SAFETY: the kernel writes at most `length` octets, which `code` has.
    check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut length)
    })?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// The index of the interface called `name`.
pub(super) fn index_of(name: &str) -> io::Result<c_int> {
    let unknown = || io::Error::from_raw_os_error(libc::ENODEV);
    let name = CString::new(name).map_err(|_| unknown())?;
    // SAFETY: `name` is a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(unknown()),
        index => c_int::try_from(index).map_err(|_| unknown()),
    }
}

/// The ARP hardware type of the interface called `name` (ARPHRD_*).
pub(super) fn hardware(socket: &OwnedFd, name: &str) -> io::Result<u16> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: SIOCGIFHWADDR succeeded, so this member is the one that was written.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// The maximum transmission unit of the interface called `name`, in octets.
pub(super) fn mtu(socket: &OwnedFd, name: &str) -> io::Result<usize> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU succeeded, so this member is the one that was written.
    Ok(usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// How an interface that exists stands: its administrator's word, and its carrier's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    Down,
    /// Up, but nothing is at the other end.
    NoCarrier,
    Up,
}

/// How the interface called `name` stands.
pub(super) fn link(socket: &impl AsRawFd, name: &str) -> io::Result<Link> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS succeeded, so this member is the one that was written.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let has = |flag: c_int| c_int::from(flags) & flag != 0;
    Ok(match (has(libc::IFF_UP), has(libc::IFF_RUNNING)) {
        (false, _) => Link::Down,
        (true, false) => Link::NoCarrier,
        (true, true) => Link::Up,
    })
}

/// Puts interface `index` into promiscuous mode for as long as `socket` is open.
pub(super) fn make_promiscuous(socket: &OwnedFd, index: c_int) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// How many receive queues the interface called `name` has; 1 where its driver does not tell.
pub(super) fn receive_queues(socket: &OwnedFd, name: &str) -> u32 {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    // struct ethtool_channels: the command, four bounds, then receiving, sending, other, combined.
    let mut channels = [0_u32; 9];
    channels[0] = ETHTOOL_GCHANNELS;
    let Ok(mut request) = request(name) else { return 1 };
    request.ifr_ifru.ifru_data = channels.as_mut_ptr().cast();
    match ioctl(socket, libc::SIOCETHTOOL, &mut request) {
        Ok(()) => (channels[5] + channels[8]).max(1),
        Err(_) => 1,
    }
}

/// An answer of the driver to an ethtool question about one value.
pub(super) fn ethtool(socket: &OwnedFd, name: &str, command: u32) -> io::Result<u32> {
    // struct ethtool_value { __u32 cmd; __u32 data; }
    let mut value = [command, 0_u32];
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    ioctl(socket, libc::SIOCETHTOOL, &mut request)?;
    Ok(value[1])
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, &from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(socket: &impl AsRawFd, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is a valid ifreq, and what it points to outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
