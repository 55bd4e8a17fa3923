//! AF_XDP: packets are taken where the driver has them, before the kernel makes anything of them.
//!
//! For ports that only receive a mirror or a tap: what is taken here never reaches the host. An
//! interface that the host itself needs is refused ([`needed`]). There is one socket for each receive
//! queue of the interface ([`queue`]), and a program of a few instructions that fills them
//! ([`program`]). The kernel stamps no packet here; the reader does, when it finds them.
//!
//! # Source
//! Linux, Documentation/networking/af_xdp.rst.

#![expect(unsafe_code, reason = "rings and frames are memory that the kernel shares with us")]

mod needed;
mod program;
mod queue;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::program::Attached;
use self::queue::{PACKET_OCTETS, Queue};
use super::{CaptureError, Drops, Filter, Listener, explain, offload, read_error, socket};
use crate::config;
use crate::decode::packet::LinkType;
use crate::input::pcap::Packet;
use crate::time::Micros;

/// Octets of a frame around what the MTU counts: addresses, type, two VLAN tags.
const AROUND_OCTETS: usize = 22;
/// Privileges that are needed.
const NEEDS: &str = "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF (the unit's xdp-capture drop-in)";

/// Where the program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// In the driver, before there is a packet buffer of the kernel's.
    Driver,
    /// Behind the driver, which has no place for a program: no faster than a ring.
    Generic,
}

/// Some receive queues of one interface.
pub struct Xdp {
    queues: Vec<Queue>,
    /// The queue that is read.
    current: usize,
    /// Whether no queue is looked at any more.
    sealed: bool,
    /// Whether the packet that was lent last is still to be given back.
    lent: bool,
    /// When the packets that are read were found.
    found: Micros,
    interface: String,
    snaplen: usize,
    filter: Option<Filter>,
    /// Descriptors that named no frame of ours.
    broken: u64,
    /// Holds the interface in promiscuous mode.
    _promiscuous: Arc<OwnedFd>,
    _attached: Arc<Attached>,
}

impl fmt::Debug for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xdp")
            .field("interface", &self.interface)
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

/// Opens `config.readers` readers of the interface of `config`, which share its receive queues.
/// `listeners` are where the sensor itself is to be reached.
///
/// # Errors
/// [`CaptureError`] if the host needs the interface, it does not exist, has too few queues or too
/// long packets, the process may not, or the filter does not compile.
pub(super) fn open(
    config: &config::Capture,
    listeners: &[Listener],
) -> Result<Vec<Xdp>, CaptureError> {
    let interface = config.interface.as_str();
    let refuse = |detail| CaptureError::Open { interface: interface.to_owned(), detail };
    let failed = |error: io::Error| failed(interface, &error);
    let index = socket::index_of(interface).map_err(failed)?;
    if let Some(why) = needed::why(interface, listeners) {
        return Err(refuse(why));
    }
    let asking = Arc::new(socket::open().map_err(failed)?);
    check_link(&asking, interface)?;
    if !config.filter.is_empty() {
        Filter::for_link(&config.filter, LinkType::ETHERNET)?;
    }
    let queues = socket::receive_queues(&asking, interface);
    let count = u32::try_from(config.readers).unwrap_or(u32::MAX);
    if count > queues {
        return Err(refuse(format!(
            "it has {queues} receive queues, and {count} readers cannot share them: set readers, or \
             `ethtool -L {interface} combined {count}`"
        )));
    }
    if socket::link(&asking, interface).map_err(failed)? == socket::Link::Down {
        return Err(CaptureError::Down { interface: interface.to_owned() });
    }
    let attached = Arc::new(Attached::new(index, queues).map_err(failed)?);
    let mut readers = Vec::new();
    for _ in 0..count {
        let filter = &config.filter;
        let filter = match filter.is_empty() {
            true => None,
            false => Some(Filter::for_link(filter, LinkType::ETHERNET)?),
        };
        readers.push(Xdp {
            queues: Vec::new(),
            current: 0,
            sealed: false,
            lent: false,
            found: now(),
            interface: interface.to_owned(),
            snaplen: config.snaplen as usize,
            filter,
            broken: 0,
            _promiscuous: Arc::clone(&asking),
            _attached: Arc::clone(&attached),
        });
    }
    let octets = config.buffer_bytes / queues as usize;
    for (queue, reader) in (0..queues).zip((0..readers.len()).cycle()) {
        let opened = Queue::open(index, queue, octets, attached.mode).map_err(failed)?;
        attached.put(queue, &opened.socket).map_err(failed)?;
        readers[reader].queues.push(opened);
    }
    if config.promiscuous {
        socket::make_promiscuous(&asking, index).map_err(failed)?;
    }
    let mode = attached.mode;
    tracing::info!(interface, queues, ?mode, "taking packets before the kernel's stack");
    if mode == Mode::Generic {
        tracing::warn!(interface, "its driver runs no XDP program: af_packet would be as fast");
    }
    offload::warn_of_tags(interface);
    Ok(readers)
}

fn check_link(asking: &OwnedFd, interface: &str) -> Result<(), CaptureError> {
    let failed = |error: io::Error| failed(interface, &error);
    let refuse = |detail| CaptureError::Open { interface: interface.to_owned(), detail };
    let hardware = socket::hardware(asking, interface).map_err(failed)?;
    if hardware != libc::ARPHRD_ETHER {
        let detail = format!("its hardware type {hardware} is not Ethernet: use another backend");
        return Err(refuse(detail));
    }
    let (mtu, most) =
        (socket::mtu(asking, interface).map_err(failed)?, PACKET_OCTETS - AROUND_OCTETS);
    if mtu > most {
        return Err(refuse(format!(
            "its MTU is {mtu}, and af_xdp takes {most} at most: lower it, or set backend = \"af_packet\""
        )));
    }
    Ok(())
}

/// What the system says, and what can be done about it.
fn failed(interface: &str, error: &io::Error) -> CaptureError {
    let named = interface.to_owned();
    if program::taken(error) {
        let detail = format!(
            "another XDP program or socket has it ({error}): `ip link show {interface}` and \
             `bpftool net` name it"
        );
        return CaptureError::Open { interface: named, detail };
    }
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            CaptureError::Permission { interface: named, needs: NEEDS, detail: error.to_string() }
        }
        Some(libc::ENOBUFS) => {
            let detail = "its frames may not be locked in memory: raise LimitMEMLOCK (`ulimit -l`), \
                          or lower buffer_bytes";
            CaptureError::Open { interface: named, detail: detail.into() }
        }
        Some(libc::EAFNOSUPPORT) => {
            let detail = "this kernel has no AF_XDP: set backend = \"af_packet\"";
            CaptureError::Open { interface: named, detail: detail.into() }
        }
        _ => explain(interface, error.to_string()),
    }
}

/// The wall clock.
fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Xdp {
    /// See [`super::Live::next`].
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        loop {
            if std::mem::take(&mut self.lent) {
                self.queues[self.current].give_back();
            }
            if !self.find() {
                return Ok(None);
            }
            self.lent = true;
            let queue = &mut self.queues[self.current];
            let Some(place) = queue.take() else {
                self.broken += 1;
                continue;
            };
            if let Some(filter) = &mut self.filter {
                let packet = lend(queue, place, self.snaplen, self.found);
                if !filter.matches(&packet)? {
                    continue;
                }
            }
            return Ok(Some(lend(&self.queues[self.current], place, self.snaplen, self.found)));
        }
    }

    /// Finds a queue with packets, the present one as long as it has what was found in it.
    fn find(&mut self) -> bool {
        if !self.queues[self.current].is_through() {
            return true;
        }
        // The others first, so that none waits for ever beside one that is never empty.
        for _ in 0..self.queues.len() {
            self.current = (self.current + 1) % self.queues.len();
            let queue = &mut self.queues[self.current];
            let has = if self.sealed { !queue.is_through() } else { queue.look() };
            if has {
                self.found = now();
                return true;
            }
        }
        false
    }

    /// See [`super::Live::wait`].
    pub(super) fn wait(&self, wait: Duration) -> Result<bool, CaptureError> {
        let fds = self.queues.iter().map(|queue| queue.socket.as_raw_fd());
        let ready = super::any_readable(fds, wait);
        ready.map_err(|error| read_error(&self.interface, error.to_string()))
    }

    /// See [`super::Live::filled`]: the fullest queue.
    pub(super) fn filled(&self) -> (u64, u64) {
        let waiting = self.queues.iter().map(Queue::waiting);
        waiting.max_by_key(|&(waits, _)| waits).unwrap_or_default()
    }

    /// See [`super::Live::seal`].
    pub(super) fn seal(&mut self) {
        self.sealed = true;
        self.queues.iter_mut().for_each(Queue::seal);
    }

    /// See [`super::Live::drops`].
    pub(super) fn drops(&mut self) -> Result<Drops, CaptureError> {
        let failed = |error: io::Error| read_error(&self.interface, error.to_string());
        let mut drops = Drops { kernel: self.broken, interface: 0 };
        for queue in &self.queues {
            drops.kernel += queue.dropped().map_err(failed)?;
        }
        Ok(drops)
    }
}

fn lend(queue: &Queue, place: queue::Place, snaplen: usize, time: Micros) -> Packet<'_> {
    Packet {
        link: LinkType::ETHERNET,
        time,
        wire_len: place.length as u32,
        data: queue.octets(place, snaplen),
        interface: 0,
        offset: 0,
    }
}
