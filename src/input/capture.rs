//! Live capture and BPF filters through libpcap.
//!
//! [`Live`] is one socket on one interface, read by one thread. AF_PACKET rings with a fanout group
//! (TPACKET_V3) are another reader with the same [`Live::next`], and belong beside this one.

use std::os::fd::AsRawFd;
use std::time::Duration;

use super::pcap::Packet;
use crate::config;
use crate::decode::packet::LinkType;
use crate::time::{Micros, SECOND};

/// Why packets cannot be captured or filtered; each message says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The process may not capture.
    #[error(
        "no permission to capture on `{interface}`: give the process CAP_NET_RAW \
         (`setcap cap_net_raw=ep` on the binary, or the unit's live-capture drop-in) ({detail})"
    )]
    Permission {
        /// The interface's name.
        interface: String,
        /// What libpcap says.
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
    /// The interface is down, or something else that libpcap tells.
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
            Self::Open { .. } => "open",
            Self::Filter { .. } => "filter",
            Self::Read { .. } => "read",
        }
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

/// An open capture on one interface.
pub struct Live {
    capture: pcap::Capture<pcap::Active>,
    interface: String,
    link: LinkType,
    drops: Drops,
    /// libpcap's own counters, which wrap at 32 bits.
    seen: (u32, u32),
}

impl Live {
    /// Opens the interface of `config` with its filter, snap length, mode and buffer.
    ///
    /// # Errors
    /// [`CaptureError`] if the interface does not exist or cannot be opened, or the filter does not
    /// compile.
    pub fn open(config: &config::Capture) -> Result<Self, CaptureError> {
        let interface = &config.interface;
        let failed = |error: pcap::Error| explain(interface, &error);
        let capture = pcap::Capture::from_device(interface.as_str())
            .map_err(failed)?
            .snaplen(i32::try_from(config.snaplen).unwrap_or(i32::MAX))
            .promisc(config.promiscuous)
            .buffer_size(i32::try_from(config.buffer_bytes).unwrap_or(i32::MAX))
            .timeout(i32::try_from(RETIRE.as_millis()).expect("a small constant"))
            .open()
            .map_err(failed)?;
        let mut capture = capture.setnonblock().map_err(failed)?;
        let link = file_link(capture.get_datalink().0);
        if !config.filter.is_empty() {
            let compiled = capture.filter(&config.filter, true);
            compiled.map_err(|error| filter_error(&config.filter, link, &error))?;
        }
        let interface = interface.clone();
        Ok(Self { capture, interface, link, drops: Drops::default(), seen: (0, 0) })
    }

    /// The link type of the interface.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        self.link
    }

    /// The next packet that has come, or `None` if none has: then [`Self::wait`].
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the interface went away or the system fails.
    #[expect(clippy::should_implement_trait, reason = "the packet is lent, an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match self.capture.next_packet() {
            Ok(packet) => Ok(Some(lend(self.link, &packet))),
            Err(pcap::Error::TimeoutExpired) => Ok(None),
            Err(error) => Err(read_error(&self.interface, error.to_string())),
        }
    }

    /// Waits until packets have come; false if `wait` passed without any: time for the caller to
    /// tick.
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the system fails.
    pub fn wait(&self, wait: Duration) -> Result<bool, CaptureError> {
        let ready = readable(self.capture.as_raw_fd(), wait);
        ready.map_err(|error| read_error(&self.interface, error.to_string()))
    }

    /// What was dropped since the capture began. A system call: ask once a second, not per packet.
    ///
    /// # Errors
    /// [`CaptureError::Read`] if the system does not tell.
    pub fn drops(&mut self) -> Result<Drops, CaptureError> {
        let stats = self.capture.stats();
        let stats = stats.map_err(|error| read_error(&self.interface, error.to_string()))?;
        let now = (stats.dropped, stats.if_dropped);
        self.drops.kernel += u64::from(now.0.wrapping_sub(self.seen.0));
        self.drops.interface += u64::from(now.1.wrapping_sub(self.seen.1));
        self.seen = now;
        Ok(self.drops)
    }
}

/// After this time the kernel hands over a buffer block that is not full.
const RETIRE: Duration = Duration::from_millis(20);

fn lend<'a>(link: LinkType, packet: &pcap::Packet<'a>) -> Packet<'a> {
    let time = packet.header.ts;
    let time = Micros(time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_usec));
    let wire_len = packet.header.len.max(packet.header.caplen);
    Packet { link, time, wire_len, data: packet.data, interface: 0, offset: 0 }
}

/// Waits until `fd` can be read; false if `wait` passed or a signal came.
fn readable(fd: i32, wait: Duration) -> std::io::Result<bool> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `poll` is one valid pollfd that outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, wait_ms) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = std::io::Error::last_os_error();
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
}

fn read_error(interface: &str, detail: String) -> CaptureError {
    CaptureError::Read { interface: interface.to_owned(), detail }
}

/// Sorts libpcap's text into what can be done about it.
fn explain(interface: &str, error: &pcap::Error) -> CaptureError {
    let (interface, detail) = (interface.to_owned(), error.to_string());
    let says = |text: &str| detail.to_ascii_lowercase().contains(text);
    if says("permission") || says("not permitted") {
        return CaptureError::Permission { interface, detail };
    }
    if says("no such device") || says("doesn't exist") {
        let existing = pcap::Device::list().unwrap_or_default();
        let existing = existing.into_iter().map(|device| device.name).collect();
        return CaptureError::NoInterface { interface, existing, detail };
    }
    CaptureError::Open { interface, detail }
}

/// libpcap's number on this system as the number in files.
fn file_link(dlt: i32) -> LinkType {
    LinkType(u16::try_from(dlt).unwrap_or(u16::MAX))
}

/// The number in files as libpcap's on this system: raw IP is the one that differs.
fn dlt(link: LinkType) -> pcap::Linktype {
    match link {
        LinkType::RAW => pcap::Linktype(i32::from(LinkType::RAW_12.0)),
        LinkType(number) => pcap::Linktype(i32::from(number)),
    }
}

fn filter_error(filter: &str, link: LinkType, error: &pcap::Error) -> CaptureError {
    let detail = error.to_string();
    CaptureError::Filter { filter: filter.to_owned(), link: link.0, detail }
}

/// A BPF filter for packets that do not come from a live capture, compiled per link type.
///
/// The filter sees the captured octets only: `len`, `greater` and `less` mean the captured length.
pub struct Filter {
    expression: String,
    programs: Vec<(LinkType, pcap::BpfProgram)>,
}

impl Filter {
    /// The filter `expression` in pcap-filter(7) syntax, compiled for Ethernet to begin with.
    ///
    /// # Errors
    /// [`CaptureError::Filter`] if it does not compile.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        let mut filter = Self { expression: expression.to_owned(), programs: Vec::new() };
        filter.program(LinkType::ETHERNET)?;
        Ok(filter)
    }

    /// Whether `packet` passes.
    ///
    /// # Errors
    /// [`CaptureError::Filter`] if the expression means nothing on the packet's link type.
    pub fn matches(&mut self, packet: &Packet<'_>) -> Result<bool, CaptureError> {
        Ok(self.program(packet.link)?.filter(packet.data))
    }

    fn program(&mut self, link: LinkType) -> Result<&pcap::BpfProgram, CaptureError> {
        let known = self.programs.iter().position(|&(l, _)| l == link);
        let index = match known {
            Some(index) => index,
            None => {
                let dead = pcap::Capture::dead(dlt(link));
                let program = dead.and_then(|dead| dead.compile(&self.expression, true));
                let program =
                    program.map_err(|error| filter_error(&self.expression, link, &error))?;
                self.programs.push((link, program));
                self.programs.len() - 1
            }
        };
        Ok(&self.programs[index].1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

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
        let error = Live::open(&config).err().expect("does not exist");
        match error.reason() {
            "permission" => eprintln!("SKIPPED: no permission to capture"),
            reason => {
                assert_eq!(reason, "no_interface");
                assert!(error.to_string().contains("lo"), "{error}");
            }
        }
    }

    #[test]
    fn packets_on_loopback_are_captured_and_filtered() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = receiver.local_addr().expect("bound").port();
        let filter = format!("udp dst port {port}");
        let config =
            config::Capture { interface: "lo".into(), filter, snaplen: 96, ..Default::default() };
        let mut live = match Live::open(&config) {
            Ok(live) => live,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        assert_eq!(live.link(), LinkType::ETHERNET);
        assert_eq!(live.wait(Duration::from_millis(1)), Ok(false));
        assert_eq!(live.next(), Ok(None));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.send_to(&[7; 200], ("127.0.0.1", port)).expect("sent");
        for _ in 0..100 {
            live.wait(Duration::from_millis(100)).expect("reads on");
            let Some(packet) = live.next().expect("reads on") else { continue };
            assert_eq!((packet.wire_len, packet.data.len()), (242, 96));
            assert_eq!(live.drops(), Ok(Drops::default()));
            return;
        }
        panic!("the packet did not come");
    }
}
