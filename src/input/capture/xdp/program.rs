//! The program on the interface: it hands each packet to the socket of its receive queue.
//!
//! Five instructions, loaded as they stand: no compiler, no object file. A queue that nobody reads
//! goes on to the kernel's stack.
//!
//! # Source
//! Linux, Documentation/networking/af_xdp.rst; bpf(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Mode;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_DRIVER: u32 = 1 << 2;

/// One instruction of eBPF.
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS)`
fn code(sockets: i32) -> [Instruction; 6] {
    [
        op(0x61, 0x12, 16, 0),      // r2 = ctx->rx_queue_index
        op(0x18, 0x11, 0, sockets), // r1 = the map behind this descriptor, in two halves
        op(0, 0, 0, 0),
        op(0xb7, 0x03, 0, 2), // r3 = XDP_PASS, where the map has no socket
        op(0x85, 0, 0, 51),   // r0 = bpf_redirect_map(r1, r2, r3)
        op(0x95, 0, 0, 0),
    ]
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C, align(8))]
struct MapUpdate {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C, align(8))]
struct ProgLoad {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// The attached program and its sockets. When it is dropped, or the process ends, the kernel
/// detaches it, and packets go to the stack again.
#[derive(Debug)]
pub(super) struct Attached {
    sockets: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
    pub(super) mode: Mode,
}

impl Attached {
    /// Puts the program on interface `index`, which has `queues` receive queues: in the driver, or
    /// where it has no place for one, behind it.
    ///
    /// # Errors
    /// The operating system's; EBUSY or EEXIST if another program is there.
    pub(super) fn new(index: libc::c_int, queues: u32) -> io::Result<Self> {
        let create = MapCreate {
            map_type: MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues,
        };
        let sockets = open(MAP_CREATE, &create)?;
        let code = code(sockets.as_raw_fd());
        let load = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
        };
        let program = open(PROG_LOAD, &load)?;
        let link = |flags| {
            let create = LinkCreate {
                program: program.as_raw_fd().cast_unsigned(),
                interface: index.cast_unsigned(),
                attach_type: ATTACH_XDP,
                flags,
            };
            open(LINK_CREATE, &create)
        };
        let (link, mode) = match link(FLAG_DRIVER) {
            Ok(link) => (link, Mode::Driver),
            // The driver has no place for a program, or none under the present settings.
            Err(error) if !taken(&error) && error.kind() != io::ErrorKind::PermissionDenied => {
                (link(FLAG_GENERIC)?, Mode::Generic)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { sockets, _program: program, _link: link, mode })
    }

    /// Packets of receive queue `queue` come to `socket` from now on.
    pub(super) fn put(&self, queue: u32, socket: &OwnedFd) -> io::Result<()> {
        let value = socket.as_raw_fd().cast_unsigned();
        let update = MapUpdate {
            map: self.sockets.as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        bpf(MAP_UPDATE_ELEM, &update).map(drop)
    }
}

/// Whether `error` says that the interface has a program of somebody else.
pub(super) fn taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

fn open<T>(command: libc::c_long, arguments: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, arguments)?;
    // SAFETY: the commands that come here return a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_long, arguments: &T) -> io::Result<libc::c_int> {
    // SAFETY: pointer and length describe `arguments`; what it points to outlives the call, and
    // the commands used here only read it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(arguments), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
