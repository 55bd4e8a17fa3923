//! The running service: signals, systemd, reload.

#[cfg(feature = "kafka")]
pub mod detect;
pub mod load;
pub mod reload;
pub mod run;
mod shedding;
mod sockets;
mod status;
pub mod systemd;
mod threads;
pub mod trial;
