//! Where bytes come from: sockets, interfaces, files.

pub mod udp;
