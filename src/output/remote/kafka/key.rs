//! Keys of records: the same flow, and all flows of its address pair, in the same partition.

use crate::net::Addr;

/// Writes the key of a flow over `key`: the name of its site in UTF-8, then the lower address and
/// the higher, 16 octets each, IPv4 mapped into IPv6 (RFC 4291 2.5.5.2).
///
/// The last 32 octets are the addresses, so no separator is needed. Lower is the smaller of the 16
/// octets compared as unsigned numbers in network order; both directions give the same key.
pub fn write(key: &mut Vec<u8>, site: &str, a: Addr, b: Addr) {
    key.clear();
    key.extend_from_slice(site.as_bytes());
    key.extend_from_slice(&a.min(b).0.to_be_bytes());
    key.extend_from_slice(&a.max(b).0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key_and_sites_another() {
        let key = |site: &str, a: &str, b: &str| {
            let mut key = vec![7];
            write(&mut key, site, a.parse().expect(a), b.parse().expect(b));
            key
        };
        let mut want = b"north".to_vec();
        want.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2]);
        want.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 10]);
        assert_eq!(key("north", "10.0.0.10", "10.0.0.2"), want);
        assert_eq!(key("north", "10.0.0.2", "10.0.0.10"), want);
        assert_ne!(key("south", "10.0.0.2", "10.0.0.10"), want);
        let six = key("", "2001:db8::2", "fe80::1");
        assert_eq!(six.len(), 32);
        assert_eq!(six[..2], [0x20, 0x01]);
        assert_eq!(six, key("", "fe80::1", "2001:db8::2"));
    }
}
