//! Capture through libpcap: one socket on one interface, read by one thread.

use std::fmt;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::filter::filter_error;
use super::{CaptureError, Drops, RETIRE, explain, read_error};
use crate::config;
use crate::decode::packet::LinkType;
use crate::input::pcap::Packet;
use crate::time::{Micros, SECOND};

/// An open capture on one interface.
pub struct Libpcap {
    capture: pcap::Capture<pcap::Active>,
    interface: String,
    link: LinkType,
    drops: Drops,
    /// libpcap's own counters, which wrap at 32 bits.
    seen: (u32, u32),
}

impl Libpcap {
    /// Opens the interface of `config` with its filter, snap length, mode and buffer.
    ///
    /// # Errors
    /// [`CaptureError`] if the interface does not exist or cannot be opened, or the filter does not
    /// compile.
    pub fn open(config: &config::Capture) -> Result<Self, CaptureError> {
        let interface = &config.interface;
        let failed = |error: pcap::Error| explain(interface, error.to_string());
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
        let ready = super::readable(self.capture.as_raw_fd(), wait);
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

impl fmt::Debug for Libpcap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libpcap").field("interface", &self.interface).finish_non_exhaustive()
    }
}

fn lend<'a>(link: LinkType, packet: &pcap::Packet<'a>) -> Packet<'a> {
    let time = packet.header.ts;
    let time = Micros(time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_usec));
    let wire_len = packet.header.len.max(packet.header.caplen);
    Packet { link, time, wire_len, data: packet.data, interface: 0, offset: 0 }
}

/// libpcap's number on this system as the number in files.
fn file_link(dlt: i32) -> LinkType {
    LinkType(u16::try_from(dlt).unwrap_or(u16::MAX))
}
