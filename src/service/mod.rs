//! The running service: signals, systemd, reload.

pub mod systemd;
