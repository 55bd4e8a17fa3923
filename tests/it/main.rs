//! Integration tests: one binary, one module a subject.

#![allow(clippy::print_stdout, reason = "tests say how many cases ran")]

mod allocations;
mod captures;
mod cli;
mod collector_vectors;
mod community;
mod correlated;
mod correlation_faults;
mod correlation_laws;
mod correlations;
#[cfg(all(feature = "http", feature = "kafka", feature = "spool"))]
mod delivery;
mod docs;
mod elements;
mod exchange;
mod files;
mod formats;
mod frames;
mod harness;
mod ipfixprobe;
#[cfg(feature = "kafka")]
mod kafka;
mod layers;
mod live;
mod netflow;
mod netflow_vectors;
#[cfg(all(feature = "http", feature = "kafka", feature = "s3"))]
mod objects;
mod observability;
mod packet_table;
mod packets;
#[cfg(all(feature = "model", feature = "parquet"))]
mod parquet_input;
mod pcap_files;
mod pcaps;
mod peers;
#[cfg(all(feature = "http", feature = "kafka", feature = "s3"))]
mod preflight;
mod replays;
mod retro_hunt;
mod schema;
#[cfg(feature = "model")]
mod score;
#[cfg(feature = "model")]
mod sequence;
#[cfg(feature = "kafka")]
#[allow(dead_code, reason = "servers do more than each test module asks of them")]
mod servers;
mod service;
mod shipped_rules;
#[cfg(all(feature = "http", feature = "spool"))]
mod siem;
mod sigma;
mod sigma_cases;
mod sigma_decisions;
mod sigma_differential;
mod sigma_filters;
mod sigma_hostile;
mod sigma_index;
mod sigma_language;
mod sigma_law;
mod sigma_load;
mod sigma_others;
mod sigma_slips;
mod sigma_vectors;
#[allow(dead_code, reason = "used by the modules that need vectors")]
mod support;
mod suricata;
mod system;
mod tee;
mod tidy;
mod truth;
mod units;
