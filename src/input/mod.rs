//! Where bytes come from: sockets, interfaces, files.

#[cfg(feature = "capture")]
pub mod capture;
pub mod pcap;
pub mod source;
pub mod udp;
