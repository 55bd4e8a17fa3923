//! The running service: signals, systemd, reload.

pub mod load;
pub mod reload;
pub mod run;
pub mod status;
pub mod systemd;
