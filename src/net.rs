//! Packed addresses, networks, and the symmetric hash that decides which shard owns a pair.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The prefix of an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), as the upper 96 bits.
const V4_MAPPED: u128 = 0xffff_0000_0000;

/// An IPv4 or IPv6 address as one 128-bit integer in host order; IPv4 is held IPv4-mapped.
///
/// So `10.0.0.1` and `::ffff:10.0.0.1` are the same address, and integer order is address order.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Addr(pub u128);

impl Addr {
    /// `::`, which stands for "no address".
    pub const UNSPECIFIED: Self = Self(0);

    /// From the four octets of an IPv4 address as a host-order integer.
    #[must_use]
    pub const fn v4(bits: u32) -> Self {
        Self(V4_MAPPED | bits as u128)
    }

    /// From the sixteen octets of an IPv6 address in network order.
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    /// Whether this is an IPv4 (or IPv4-mapped) address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == V4_MAPPED >> 32
    }

    /// The IPv4 address as a host-order integer, if it is one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the address")]
    pub const fn to_v4(self) -> Option<u32> {
        if self.is_v4() { Some(self.0 as u32) } else { None }
    }

    /// The standard library's form, for text.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        match self.to_v4() {
            Some(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            None => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl FromStr for Addr {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let ip = IpAddr::from_str(text.trim());
        ip.map(Self::from).map_err(|_| NetError::Address(text.to_owned()))
    }
}

impl Serialize for Addr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Addr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not an address or a network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetError {
    /// Not an IPv4 or IPv6 address.
    #[error("`{0}` is not an IPv4 or IPv6 address")]
    Address(String),
    /// Not `address` or `address/length` with a length of at most 32 (IPv4) or 128 (IPv6).
    #[error("`{0}` is not a network: expected address or address/length (at most /32 or /128)")]
    Network(String),
}

/// A network: all addresses that share the first `length` bits. Host bits are ignored on input.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cidr {
    first: u128,
    /// Prefix length over 128 bits: an IPv4 `/8` is 104 here.
    length: u8,
}

impl Cidr {
    /// The network of `address` with a prefix of `length` bits in its own family.
    ///
    /// # Errors
    /// [`NetError::Network`] if `length` is over 32 for IPv4 or over 128 for IPv6.
    pub fn new(address: Addr, length: u8) -> Result<Self, NetError> {
        let (bound, shift) = if address.is_v4() { (32, 96) } else { (128, 0) };
        if length > bound {
            return Err(NetError::Network(format!("{address}/{length}")));
        }
        let length = length + shift;
        Ok(Self { first: address.0 & mask(length), length })
    }

    /// Whether `address` lies in this network. An IPv6 network of `::/0` holds IPv4 too, as
    /// IPv4 is a part of the integer domain; an IPv4 network never holds an IPv6 address.
    #[must_use]
    pub const fn contains(&self, address: Addr) -> bool {
        address.0 & mask(self.length) == self.first
    }

    /// The first and the last address.
    #[must_use]
    pub const fn bounds(&self) -> (Addr, Addr) {
        (Addr(self.first), Addr(self.first | !mask(self.length)))
    }

    /// The prefix length in bits over the 128-bit form; longer is more specific.
    #[must_use]
    pub const fn specificity(&self) -> u8 {
        self.length
    }
}

const fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length as u32) }
}

impl FromStr for Cidr {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let bad = || NetError::Network(text.to_owned());
        let (address, length) = match text.trim().split_once('/') {
            None => (text.trim(), None),
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| bad())?)),
        };
        let mapped = address.contains(':');
        let address: Addr = address.parse().map_err(|_| bad())?;
        let whole = if address.is_v4() { 32 } else { 128 };
        // An IPv4-mapped address is the IPv4 address, with the same network (RFC 4291 §2.5.5.2).
        let length = match length {
            Some(length) if mapped && address.is_v4() => {
                Some(length.checked_sub(96).ok_or_else(bad)?)
            }
            length => length,
        };
        Self::new(address, length.unwrap_or(whole)).map_err(|_| bad())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Addr(self.first);
        let length =
            if first.is_v4() && self.length >= 96 { self.length - 96 } else { self.length };
        write!(f, "{first}/{length}")
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Shards that all state is cut into; fixed, so that no result depends on the number of workers.
pub const SHARDS: usize = 64;

/// A 64-bit mix of the unordered pair (`a`, `b`) in `site`: both directions give the same value.
///
/// Multiply-fold of each address ("wyhash" style), joined by operations that commute.
#[must_use]
pub const fn pair_hash(site: u16, a: Addr, b: Addr) -> u64 {
    let (x, y) = (fold(a.0), fold(b.0));
    fold_u64(x.wrapping_add(y) ^ 0x9e37_79b9_7f4a_7c15, (x ^ y) ^ (site as u64) << 48 ^ 0x2545)
}

/// The shard that owns the pair: a value below [`SHARDS`].
#[must_use]
pub const fn shard_of(pair_hash: u64) -> usize {
    (pair_hash >> 58) as usize % SHARDS
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
const fn fold(value: u128) -> u64 {
    let (low, high) = (value as u64, (value >> 64) as u64);
    // A product with a factor of 0 tells nothing of the other; what is added does.
    fold_u64(low ^ 0xa076_1d64_78bd_642f, high ^ 0xe703_7ed1_a0b4_28db)
        .wrapping_add(low.rotate_left(29) ^ high)
}

/// Folded multiply: the high and the low half of a 128-bit product, XORed.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
pub const fn fold_u64(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let cidr: Cidr = network.parse().expect(network);
        for text in inside {
            assert!(cidr.contains(text.parse().expect(text)), "{text} is in {network}");
        }
        for text in outside {
            assert!(!cidr.contains(text.parse().expect(text)), "{text} is not in {network}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        check("10.1.2.3/8", &["10.9.9.9", "::ffff:10.1.2.3"], &["11.0.0.0", "::1", "a00::"]);
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]);
        check("0.0.0.0/0", &["255.255.255.255", "0.0.0.0"], &["::1", "2001:db8::1"]);
        check("fe80::/10", &["fe80::1", "febf::1"], &["fec0::1", "10.0.0.1"]);
        check("::/0", &["::1", "10.0.0.1"], &[]);
        for bad in ["10.0.0.0/33", "fe80::/129", "x/8", "10.0.0.0/", "10.0.0/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert_eq!("10.1.2.3/8".parse::<Cidr>().expect("ok").to_string(), "10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn text_round_trips(bits: u128, v4: u32) {
            for addr in [Addr(bits), Addr::v4(v4)] {
                prop_assert_eq!(addr.to_string().parse::<Addr>(), Ok(addr));
            }
        }

        #[test]
        fn both_directions_share_a_shard(site: u16, a: u128, b: u128) {
            let (a, b) = (Addr(a), Addr(b));
            prop_assert_eq!(pair_hash(site, a, b), pair_hash(site, b, a));
            prop_assert!(shard_of(pair_hash(site, a, b)) < SHARDS);
        }
    }

    /// Networks whose upper or lower half makes a factor of the hash 0.
    #[test]
    fn no_network_of_64_bits_hides_its_addresses() {
        let halves = [0xa076_1d64_78bd_642f_u64, 0xe703_7ed1_a0b4_28db, 0];
        for half in halves {
            for shift in [0, 64] {
                let address =
                    |n: u64| Addr(u128::from(half) << shift | u128::from(n) << (64 - shift));
                let hashes = (0..4_096).map(|n| pair_hash(0, Addr(7), address(n)));
                let shards: std::collections::BTreeSet<_> = hashes.clone().map(shard_of).collect();
                let hashes: std::collections::BTreeSet<_> = hashes.collect();
                assert_eq!((hashes.len(), shards.len()), (4_096, SHARDS), "{half:x} << {shift}");
            }
        }
    }

    #[test]
    fn shards_are_evenly_filled() {
        let mut filled = [0_u32; SHARDS];
        for host in 0..64_000_u32 {
            let pair = pair_hash(0, Addr::v4(0x0a00_0000 + host), Addr::v4(0x0808_0808));
            filled[shard_of(pair)] += 1;
        }
        assert!(filled.iter().all(|&n| (800..1_200).contains(&n)), "{filled:?}");
    }
}
