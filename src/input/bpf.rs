//! Loads and operations of classic BPF, as programs of sockets are made of them.
//!
//! # Source
//! Linux, Documentation/networking/filter.rst.

pub(super) const LOAD_OCTET: u16 = 0x30;
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const XOR_X: u16 = 0xac;
pub(super) const MULTIPLY: u16 = 0x24;
pub(super) const SHIFT_RIGHT: u16 = 0x74;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP: u16 = 0x05;
pub(super) const A_TO_X: u16 = 0x07;
pub(super) const RETURN_A: u16 = 0x16;

/// Offsets from here on count from the network header, behind MAC addresses and VLAN tags that the
/// kernel took off.
pub(super) const NETWORK: u32 = libc::SKF_NET_OFF as u32;
