//! NetFlow v5, v7, v9 and IPFIX.
//!
//! [`wire`] reads the formats without state: headers, sets, template records. Everything that
//! remembers an exporter builds on it.

pub mod wire;
