//! Where bytes come from: sockets, interfaces, files.

mod bpf;
#[cfg(feature = "capture")]
pub mod capture;
pub mod compressed;
#[cfg(feature = "parquet")]
pub mod flows;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod pcap;
pub mod source;
pub mod steer;
pub mod udp;
