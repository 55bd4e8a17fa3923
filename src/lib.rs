//! Weir: a packet and flow sensor.
//!
//! The modules stand in the order in which they may know each other: each imports only from those
//! above it (`tests/it/layers.rs` holds this).

pub mod mem;
pub mod net;
pub mod time;

pub mod config;
pub mod metrics;

pub mod flow;

pub mod decode;

pub mod detect;

pub mod api;
pub mod input;
pub mod output;

pub mod pipeline;

pub mod service;

pub mod cli;
