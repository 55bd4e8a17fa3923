//! Live capture and BPF filters.
//!
//! [`Live`] is an open interface as one thread reads it: a memory-mapped ring of the kernel
//! ([`ring`]), of which several may share an interface ([`fanout`]), or libpcap ([`libpcap`]) where
//! rings are not to be had, or AF_XDP ([`xdp`]) on a port that only receives. [`port`] waits for an
//! interface that is down or away.

mod fanout;
mod filter;
mod libpcap;
mod offload;
pub mod port;
mod ring;
mod socket;
mod xdp;

use std::net::SocketAddr;
use std::time::Duration;

pub use filter::Filter;
pub use libpcap::Libpcap;
pub use ring::Ring;
pub use xdp::Xdp;

use super::pcap::Packet;
use crate::config::{self, Backend};
use crate::decode::packet::LinkType;

/// Why packets cannot be captured or filtered; each message says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The process may not capture.
    #[error("no permission to capture on `{interface}`: give the process {needs} ({detail})")]
    Permission {
        /// The interface's name.
        interface: String,
        /// The privileges that it needs, and how to get them.
        needs: &'static str,
        /// What libpcap or the system says.
        detail: String,
    },
    /// There is no such interface.
    #[error("no interface `{interface}`: there are {} ({detail})", existing.join(", "))]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// Names that exist.
        existing: Vec<String>,
        /// What libpcap says.
        detail: String,
    },
    /// The interface is there, and down.
    #[error("cannot capture on `{interface}`: it is down")]
    Down {
        /// The interface's name.
        interface: String,
    },
    /// Something else that libpcap tells.
    #[error("cannot capture on `{interface}`: {detail}")]
    Open {
        /// The interface's name.
        interface: String,
        /// What libpcap says.
        detail: String,
    },
    /// The filter expression is wrong, or means nothing on this link type.
    #[error("filter `{filter}` does not compile for link type {link}: {detail}")]
    Filter {
        /// The expression.
        filter: String,
        /// Number of the link type.
        link: u16,
        /// What libpcap says.
        detail: String,
    },
    /// The capture broke off.
    #[error("capture on `{interface}` failed: {detail}")]
    Read {
        /// The interface's name.
        interface: String,
        /// What libpcap or the system says.
        detail: String,
    },
}

impl CaptureError {
    /// The label under which it is counted.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Permission { .. } => "permission",
            Self::NoInterface { .. } => "no_interface",
            Self::Down { .. } => "down",
            Self::Open { .. } => "open",
            Self::Filter { .. } => "filter",
            Self::Read { .. } => "read",
        }
    }
}

/// Where the sensor itself is reached, by way of an interface of this host.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// What for, as the end of a sentence.
    what: &'static str,
    at: SocketAddr,
    /// Whether it is reached at one address only, whichever of the host's that is.
    alone: bool,
}

impl Listener {
    /// The admin listener.
    #[must_use]
    pub const fn admin(at: SocketAddr) -> Self {
        Self { what: "the admin listener is reached", at, alone: true }
    }

    /// One that receives NetFlow.
    #[must_use]
    pub const fn netflow(at: SocketAddr) -> Self {
        Self { what: "NetFlow is received", at, alone: false }
    }
}

/// Packets that never reached us, since the capture began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drops {
    /// Dropped by the kernel because the buffer was full.
    pub kernel: u64,
    /// Dropped by the interface or its driver, where it tells.
    pub interface: u64,
}

/// An open capture on one interface, or one share of it.
#[derive(Debug)]
pub enum Live {
    /// A ring of the kernel.
    Ring(Box<Ring>),
    /// libpcap.
    Libpcap(Box<Libpcap>),
    /// Receive queues, before the kernel's stack.
    Xdp(Box<Xdp>),
}

impl Live {
    /// Opens the interface of `config` with its filter, snap length, mode and buffer: one capture
    /// for each of `config.readers`. Each packet comes to one of them, and both directions of an
    /// address pair to the same (with AF_XDP as the interface spreads them over its queues).
    /// AF_XDP takes no interface that is needed for one of `listeners`.
    ///
    /// # Errors
    /// [`CaptureError`] if the interface does not exist or cannot be opened, or the filter does not
    /// compile.
    pub fn open(
        config: &config::Capture,
        listeners: &[Listener],
    ) -> Result<Vec<Self>, CaptureError> {
        let opened = match config.backend {
            Backend::AfPacket => {
                let rings = ring::open(config)?;
                rings.into_iter().map(|ring| Self::Ring(Box::new(ring))).collect()
            }
            Backend::Libpcap => vec![Self::Libpcap(Box::new(Libpcap::open(config)?))],
            Backend::AfXdp => {
                let readers = xdp::open(config, listeners)?;
                readers.into_iter().map(|reader| Self::Xdp(Box::new(reader))).collect()
            }
        };
        // Not of one that cannot be opened: that is tried again and again.
        offload::warn(&config.interface);
        Ok(opened)
    }

    /// The link type of the interface.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        match self {
            Self::Ring(ring) => ring.link(),
            Self::Libpcap(pcap) => pcap.link(),
            Self::Xdp(_) => LinkType::ETHERNET,
        }
    }

    /// The next packet that has come, or `None` if none has: then [`Self::wait`].
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the interface went away or the system fails.
    #[expect(clippy::should_implement_trait, reason = "the packet is lent, an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match self {
            Self::Ring(ring) => ring.next(),
            Self::Libpcap(pcap) => pcap.next(),
            Self::Xdp(xdp) => xdp.next(),
        }
    }

    /// Waits until packets have come; false if `wait` passed without any: time for the caller to
    /// tick.
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the system fails, or the interface went down or away.
    pub fn wait(&self, wait: Duration) -> Result<bool, CaptureError> {
        match self {
            Self::Ring(ring) => ring.wait(wait),
            Self::Libpcap(pcap) => pcap.wait(wait),
            Self::Xdp(xdp) => xdp.wait(wait),
        }
    }

    /// Lets no more come where packets carry the time when they were found, not when they came: what
    /// has come until now is still given. Returns whether it does.
    pub fn seal(&mut self) -> bool {
        match self {
            Self::Ring(_) | Self::Libpcap(_) => false,
            Self::Xdp(xdp) => {
                xdp.seal();
                true
            }
        }
    }

    /// How full the kernel's buffer is, in parts of it; `(0, 0)` where it does not tell.
    #[must_use]
    pub fn filled(&self) -> (u64, u64) {
        match self {
            Self::Ring(ring) => ring.filled(),
            Self::Libpcap(_) => (0, 0),
            Self::Xdp(xdp) => xdp.filled(),
        }
    }

    /// What was dropped since the capture began. A system call: ask once a second, not per packet.
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the system does not tell.
    pub fn drops(&mut self) -> Result<Drops, CaptureError> {
        match self {
            Self::Ring(ring) => ring.drops(),
            Self::Libpcap(pcap) => pcap.drops(),
            Self::Xdp(xdp) => xdp.drops(),
        }
    }
}

/// After this time the kernel hands over a buffer block that is not full.
pub const RETIRE: Duration = Duration::from_millis(10);

fn read_error(interface: &str, detail: String) -> CaptureError {
    CaptureError::Read { interface: interface.to_owned(), detail }
}

/// Sorts what libpcap or the system says into what can be done about it.
fn explain(interface: &str, detail: String) -> CaptureError {
    let interface = interface.to_owned();
    let says = |text: &str| detail.to_ascii_lowercase().contains(text);
    if says("permission") || says("not permitted") {
        let needs = "CAP_NET_RAW (`setcap cap_net_raw=ep` on the binary, or the unit's live-capture \
                     drop-in)";
        return CaptureError::Permission { interface, needs, detail };
    }
    if says("no such device") || says("doesn't exist") {
        let existing = pcap::Device::list().unwrap_or_default();
        // Without what libpcap alone makes up, as `any`.
        let existing = existing.into_iter().map(|device| device.name);
        let existing = existing.filter(|name| socket::index_of(name).is_ok()).collect();
        return CaptureError::NoInterface { interface, existing, detail };
    }
    if says("not up") || says("network is down") {
        return CaptureError::Down { interface };
    }
    CaptureError::Open { interface, detail }
}

/// Waits until `fd` can be read; false if `wait` passed or a signal came.
fn readable(fd: i32, wait: Duration) -> std::io::Result<bool> {
    any_readable(std::iter::once(fd), wait)
}

/// Waits until any of `fds` can be read; false if `wait` passed or a signal came.
fn any_readable(fds: impl Iterator<Item = i32>, wait: Duration) -> std::io::Result<bool> {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = fds.map(poll).collect();
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polls` are so many valid pollfds, which outlive the call.
    let ready = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, wait_ms) };
    // An interface that goes down or away makes its sockets readable, with nothing to read.
    for poll in polls.iter().filter(|poll| poll.revents & libc::POLLERR != 0) {
        socket::error_of(poll.fd)?;
    }
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = std::io::Error::last_os_error();
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::time::Micros;

    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x04, 0xd2, 0, 53, 0, 8, 0, 0]);
        frame
    }

    #[track_caller]
    fn check(expression: &str, link: LinkType, data: &[u8], want: bool) {
        let mut filter = Filter::new(expression).expect(expression);
        let packet = Packet { link, time: Micros(0), wire_len: 42, data, interface: 0, offset: 0 };
        assert_eq!(filter.matches(&packet), Ok(want), "{expression} on {link}");
    }

    #[test]
    fn a_filter_decides_by_the_link_type_of_the_packet() {
        let udp = frame(17);
        check("udp port 53", LinkType::ETHERNET, &udp, true);
        check("udp port 53", LinkType::RAW, &udp[14..], true);
        check("udp port 53", LinkType::IPV4, &udp[14..], true);
        check("udp port 53", LinkType::RAW, &udp, false);
        check("tcp", LinkType::ETHERNET, &udp, false);
        check("host 10.0.0.2 and not port 80", LinkType::ETHERNET, &udp, true);
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = Filter::new("udp porrt 53").err().expect("does not compile");
        assert_eq!(error.reason(), "filter");
        assert!(error.to_string().starts_with("filter `udp porrt 53` does not compile"), "{error}");
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named() {
        let config = config::Capture { interface: "weir-none0".into(), ..Default::default() };
        let error = Live::open(&config, &[]).expect_err("does not exist");
        match error.reason() {
            "permission" => eprintln!("SKIPPED: no permission to capture"),
            reason => {
                assert_eq!(reason, "no_interface");
                assert!(error.to_string().contains("lo"), "{error}");
            }
        }
    }

    /// Datagrams on loopback that both ends of `pairs` sockets send each other, as captured by
    /// each of the captures that `config` opens: the ports, lower first.
    fn captured(config: &config::Capture, pairs: usize) -> Option<Vec<Vec<(u16, u16)>>> {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let ends: Vec<_> = (0..pairs).map(|_| (socket(), socket())).collect();
        let mut lives = match Live::open(config, &[]) {
            Ok(lives) => lives,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                return None;
            }
        };
        for (a, b) in &ends {
            for (from, to) in [(a, b), (b, a)] {
                let to = to.local_addr().expect("bound");
                assert_eq!(from.send_to(&[7; 200], to).expect("sent"), 200);
            }
        }
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let ours: Vec<u16> = ends.iter().flat_map(|(a, b)| [port(a), port(b)]).collect();
        let mut found = vec![Vec::new(); lives.len()];
        for _ in 0..100 {
            for (live, found) in lives.iter_mut().zip(&mut found) {
                assert_eq!(live.link(), LinkType::ETHERNET);
                while let Some(packet) = live.next().expect("reads on") {
                    let port = |at| u16::from_be_bytes([packet.data[at], packet.data[at + 1]]);
                    let (a, b) = (port(34), port(36));
                    if packet.data[23] == 17 && ours.contains(&a) && ours.contains(&b) {
                        assert_eq!((packet.wire_len, packet.data.len()), (242, 96));
                        found.push((a.min(b), a.max(b)));
                    }
                }
                live.wait(Duration::from_millis(1)).expect("reads on");
            }
            if found.iter().map(Vec::len).sum::<usize>() >= 2 * pairs {
                break;
            }
        }
        for live in &mut lives {
            assert_eq!(live.drops(), Ok(Drops::default()));
        }
        Some(found)
    }

    #[test]
    fn packets_on_loopback_are_captured_once_and_filtered() {
        for (backend, filter) in [
            (Backend::AfPacket, "udp"),
            (Backend::AfPacket, ""),
            (Backend::AfPacket, "udp and not vlan 7"),
            (Backend::Libpcap, "udp"),
        ] {
            let (interface, filter) = ("lo".to_owned(), filter.to_owned());
            let config =
                config::Capture { interface, filter, snaplen: 96, backend, ..Default::default() };
            let Some(found) = captured(&config, 1) else { return };
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].len(), 2, "{config:?}");
        }
        let (interface, filter) = ("lo".to_owned(), "tcp".to_owned());
        let config = config::Capture { interface, filter, snaplen: 96, ..Default::default() };
        assert_eq!(captured(&config, 1), Some(vec![Vec::new()]), "the filter takes TCP only");
    }

    #[test]
    fn rings_share_an_interface() {
        let interface = "lo".to_owned();
        let config = config::Capture { interface, snaplen: 96, readers: 3, ..Default::default() };
        let Some(found) = captured(&config, 10) else { return };
        // All have the same two addresses, so one ring gets them all.
        let counts: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), 20, "{counts:?}");
        assert_eq!(counts.iter().filter(|&&n| n > 0).count(), 1, "{counts:?}");
    }
}
