//! The flow key, its hash and the flow's identity. All three are the same for both directions.

use sha1::{Digest, Sha1};

use super::params::Params;
use super::record::{FlowRecord, PacketRecord};
use super::view::FlowId;
use crate::net::{Addr, fold_u64};
use crate::time::Micros;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Of TCP.
pub const TCP: u8 = 6;
/// Of ICMPv6.
pub const ICMPV6: u8 = 58;

/// [`FlowKey::vlan`] of a key without VLAN.
const NO_VLAN: u16 = u16::MAX;

/// Whether `protocol` is ICMP or ICMPv6: its "ports" are type and code and no part of the key, so
/// that request and reply are one flow: one per pair of addresses and protocol.
#[must_use]
pub const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// Whether headers of `protocol` begin with two 16-bit ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | 17 | 33 | 132 | 136)
}

/// What tells flows apart: site, VRF, the unordered pair of endpoints, protocol, and the VLAN id
/// where the configuration makes it a part of the key.
///
/// `a` is the lower endpoint by (address, port), so both directions have one key.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FlowKey {
    /// The lower endpoint's address.
    pub a: Addr,
    /// The higher endpoint's address.
    pub b: Addr,
    /// VRF id.
    pub vrf: u32,
    /// The lower endpoint's port; 0 for ICMP.
    pub a_port: u16,
    /// The higher endpoint's port; 0 for ICMP.
    pub b_port: u16,
    /// Site.
    pub site: u16,
    /// VLAN id, `u16::MAX` where it is not a part of the key.
    vlan: u16,
    /// IP protocol.
    pub protocol: u8,
}

/// The side of a flow key's two endpoints: 0 is `a`, 1 is `b`.
pub type CanonicalSide = usize;

impl FlowKey {
    /// The key of a packet, and the side that sent it. `ports` are the packet's own, or for a later
    /// fragment those of the first.
    #[inline(always)]
    #[must_use]
    pub fn of_packet(
        packet: &PacketRecord,
        ports: (u16, u16),
        params: &Params,
    ) -> (Self, CanonicalSide) {
        let ends = ((packet.src, ports.0), (packet.dst, ports.1));
        let vlan = packet.vlan.filter(|_| params.vlan_in_key);
        Self::new(packet.site, 0, ends, packet.protocol, vlan)
    }

    /// The key of a flow record, and the side that its forward direction starts from.
    #[inline(always)]
    #[must_use]
    pub fn of_record(record: &FlowRecord, params: &Params) -> (Self, CanonicalSide) {
        let ends = ((record.src, record.src_port), (record.dst, record.dst_port));
        let vlan = record.vlan.filter(|_| params.vlan_in_key);
        Self::new(record.site, record.vrf, ends, record.protocol, vlan)
    }

    #[inline(always)]
    fn new(
        site: u16,
        vrf: u32,
        (mut src, mut dst): ((Addr, u16), (Addr, u16)),
        protocol: u8,
        vlan: Option<u16>,
    ) -> (Self, CanonicalSide) {
        if is_icmp(protocol) {
            (src.1, dst.1) = (0, 0);
        }
        let side = usize::from(src > dst);
        let ((a, a_port), (b, b_port)) = if side == 0 { (src, dst) } else { (dst, src) };
        let vlan = vlan.unwrap_or(NO_VLAN);
        (Self { a, b, vrf, a_port, b_port, site, vlan, protocol }, side)
    }

    /// Address and port of one side.
    #[must_use]
    pub fn endpoint(&self, side: CanonicalSide) -> (Addr, u16) {
        if side == 0 { (self.a, self.a_port) } else { (self.b, self.b_port) }
    }
}

/// A key as entries hold it: 24 octets. Addresses of IPv4 lie inside; of IPv6 there is the number of
/// the pair in the store's pool.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct PackedKey([u64; 3]);

impl PackedKey {
    const WIDE: u64 = 1;

    /// `pair` is asked for the number of a pair of addresses that are not both of IPv4.
    #[expect(clippy::cast_possible_truncation, reason = "addresses of IPv4 have 32 bits")]
    #[inline(always)]
    pub(super) fn new(key: &FlowKey, pair: impl FnOnce([Addr; 2]) -> u32) -> Self {
        let mut packed = Self([
            (key.a.0 as u64) << 32 | u64::from(key.b.0 as u32),
            u64::from(key.a_port) << 48 | u64::from(key.b_port) << 32 | u64::from(key.vrf),
            u64::from(key.site) << 48 | u64::from(key.vlan) << 32 | u64::from(key.protocol) << 8,
        ]);
        if !(key.a.is_v4() && key.b.is_v4()) {
            packed.0[0] = pair([key.a, key.b]).into();
            packed.0[2] |= Self::WIDE;
        }
        packed
    }

    /// The number of the pair of addresses, if they do not lie inside.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a number of 32 bits was put in")]
    pub(super) const fn pair(&self) -> Option<u32> {
        if self.0[2] & Self::WIDE == 0 { None } else { Some(self.0[0] as u32) }
    }

    /// Whether both are the same apart from addresses that do not lie inside.
    #[inline]
    pub(super) const fn is_like(&self, other: &Self) -> bool {
        self.0[1] == other.0[1]
            && self.0[2] == other.0[2]
            && (self.0[0] == other.0[0] || self.0[2] & Self::WIDE != 0)
    }

    /// The key; `pair` gives addresses that do not lie inside.
    #[expect(clippy::cast_possible_truncation, reason = "each part has its bits")]
    pub(super) fn unpack(&self, pair: impl FnOnce(u32) -> [Addr; 2]) -> FlowKey {
        let [ends, ports, rest] = self.0;
        let [a, b] = match self.pair() {
            Some(number) => pair(number),
            None => [Addr::v4((ends >> 32) as u32), Addr::v4(ends as u32)],
        };
        let (a_port, b_port) = self.ports();
        let (site, vlan) = ((rest >> 48) as u16, (rest >> 32) as u16);
        FlowKey { a, b, vrf: ports as u32, a_port, b_port, site, vlan, protocol: self.protocol() }
    }

    /// The number of the pair of addresses is `pair`; they must not lie inside.
    pub(super) const fn with_pair(mut self, pair: u32) -> Self {
        self.0[0] = pair as u64;
        self
    }

    /// A hash of the key. `ends` gives addresses that do not lie inside. Every factor holds a secret, so
    /// nobody who does not know `seed` can tell which keys collide.
    #[inline(always)]
    pub(super) fn hash(&self, ends: impl FnOnce() -> [Addr; 2], seed: u64) -> u64 {
        let [inside, ports, rest] = self.0;
        let addresses = if self.pair().is_none() { inside } else { wide(ends(), seed) };
        let first = fold_u64(addresses ^ seed, ports ^ secret(seed, 1));
        fold_u64(first ^ rest ^ secret(seed, 2), secret(seed, 3))
    }

    /// The lower and the higher endpoint's port.
    #[expect(clippy::cast_possible_truncation, reason = "each part has its bits")]
    pub(super) const fn ports(&self) -> (u16, u16) {
        ((self.0[1] >> 48) as u16, (self.0[1] >> 32) as u16)
    }

    #[expect(clippy::cast_possible_truncation, reason = "each part has its bits")]
    pub(super) const fn protocol(&self) -> u8 {
        (self.0[2] >> 8) as u8
    }
}

/// Secret number `n` that follows from `seed`.
#[inline]
const fn secret(seed: u64, n: u32) -> u64 {
    seed.rotate_left(13 * n) ^ 0xa076_1d64_78bd_642f_u64.rotate_left(17 * n)
}

/// A hash of two addresses.
#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn wide([a, b]: [Addr; 2], seed: u64) -> u64 {
    let a = fold_u64(a.0 as u64 ^ secret(seed, 4), (a.0 >> 64) as u64 ^ secret(seed, 5));
    let b = fold_u64(b.0 as u64 ^ secret(seed, 6), (b.0 >> 64) as u64 ^ secret(seed, 7));
    a ^ b.rotate_left(32)
}

/// The identity of the flow with `key` whose first record starts at `first`.
///
/// The first 128 bits of SHA-1 over 53 octets, big-endian: site (2), VRF (4), lower address (16,
/// IPv4 as IPv4-mapped), lower port (2), higher address (16), higher port (2), protocol (1), VLAN
/// id (2, 0xffff where it is not a part of the key), first time in microseconds (8).
#[must_use]
pub fn flow_id(key: &FlowKey, first: Micros) -> FlowId {
    let mut input = [0_u8; 53];
    let mut rest = &mut input[..];
    let mut put = |octets: &[u8]| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(octets.len());
        head.copy_from_slice(octets);
        rest = tail;
    };
    put(&key.site.to_be_bytes());
    put(&key.vrf.to_be_bytes());
    put(&key.a.0.to_be_bytes());
    put(&key.a_port.to_be_bytes());
    put(&key.b.0.to_be_bytes());
    put(&key.b_port.to_be_bytes());
    put(&[key.protocol]);
    put(&key.vlan.to_be_bytes());
    put(&first.0.to_be_bytes());
    let digest = Sha1::digest(input);
    let mut id = [0_u8; 16];
    id.copy_from_slice(&digest[..16]);
    FlowId(u128::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn record(src: u128, dst: u128, ports: (u16, u16), protocol: u8) -> FlowRecord {
        let (src, dst, src_port, dst_port) = (Addr(src), Addr(dst), ports.0, ports.1);
        FlowRecord { src, dst, src_port, dst_port, protocol, ..FlowRecord::default() }
    }

    fn key_hash(key: &FlowKey, seed: u64) -> u64 {
        PackedKey::new(key, |_| 0).hash(|| [key.a, key.b], seed)
    }

    proptest! {
        #[test]
        fn both_directions_share_key_hash_and_id(
            src in 0..4_u128, dst in 0..4_u128, ports: (u16, u16), protocol: u8, seed: u64, t: i64,
        ) {
            let params = Params::from_config(&Config::default());
            let (there, s) = FlowKey::of_record(&record(src, dst, ports, protocol), &params);
            let back = record(dst, src, (ports.1, ports.0), protocol);
            let (back, r) = FlowKey::of_record(&back, &params);
            prop_assert_eq!(there, back);
            prop_assert_eq!(key_hash(&there, seed), key_hash(&back, seed));
            prop_assert_eq!(flow_id(&there, Micros(t)), flow_id(&back, Micros(t)));
            let itself = src == dst && (ports.0 == ports.1 || is_icmp(protocol));
            prop_assert_eq!(s != r, !itself);
            prop_assert_eq!(there.endpoint(s).0, Addr(src));
        }
    }

    proptest! {
        #[test]
        fn keys_are_packed_without_loss(
            ends in prop::sample::select(vec![
                (Addr::v4(1), Addr::v4(u32::MAX)), (Addr(1), Addr::v4(7)), (Addr(1), Addr(u128::MAX)),
            ]),
            ports: (u16, u16), vrf: u32, site: u16, vlan: u16, protocol: u8,
        ) {
            let (a, b) = ends;
            let (a_port, b_port) = ports;
            let key = FlowKey { a, b, vrf, a_port, b_port, site, vlan, protocol };
            let mut pairs = Vec::new();
            let packed = PackedKey::new(&key, |pair| { pairs.push(pair); u32::MAX });
            prop_assert_eq!(packed.pair().is_some(), !(a.is_v4() && b.is_v4()));
            prop_assert_eq!(packed.unpack(|_| pairs[0]), key);
            prop_assert_eq!(packed.ports(), ports);
            prop_assert_eq!(packed.protocol(), protocol);
        }
    }

    #[test]
    fn each_part_of_the_key_changes_hash_and_id() {
        let mut params = Params::from_config(&Config::default());
        params.vlan_in_key = true;
        let base = FlowRecord { vlan: Some(1), ..record(1, 2, (3, 4), 6) };
        let keys = [
            base.clone(),
            FlowRecord { site: 1, ..base.clone() },
            FlowRecord { vrf: 1, ..base.clone() },
            FlowRecord { src: Addr(5), ..base.clone() },
            FlowRecord { dst: Addr(5), ..base.clone() },
            FlowRecord { src_port: 5, ..base.clone() },
            FlowRecord { dst_port: 5, ..base.clone() },
            FlowRecord { protocol: 17, ..base.clone() },
            FlowRecord { vlan: Some(2), ..base.clone() },
            FlowRecord { vlan: None, ..base },
        ]
        .map(|r| FlowKey::of_record(&r, &params).0);
        for (i, x) in keys.iter().enumerate() {
            for y in &keys[..i] {
                assert_ne!(x, y);
                assert_ne!(key_hash(x, 7), key_hash(y, 7));
                assert_ne!(flow_id(x, Micros(0)), flow_id(y, Micros(0)));
            }
            assert_ne!(flow_id(x, Micros(0)), flow_id(x, Micros(1)));
        }
    }

    #[test]
    fn the_id_is_the_documented_function() {
        // printf of the 53 octets | sha1sum: site 1, VRF 2, 10.0.0.1:1024, 10.0.0.2:80, TCP,
        // no VLAN in the key, first time 1,000,000.
        let params = Params::from_config(&Config::default());
        let base = record(Addr::v4(0x0a00_0001).0, Addr::v4(0x0a00_0002).0, (1_024, 80), TCP);
        let (key, _) = FlowKey::of_record(&FlowRecord { site: 1, vrf: 2, ..base }, &params);
        let id = flow_id(&key, Micros(1_000_000));
        assert_eq!(id.to_string(), "0ec7c6b8f3b495fc77f8e1446b27dc06");
    }
}
