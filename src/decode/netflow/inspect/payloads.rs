//! Files that hold raw datagram payloads back to back, cut into datagrams.

use super::super::wire::{TEMPLATE_ID_MIN, Version, be16, header};

/// Cuts `file` into datagram payloads, each with its offset. Every octet is in one of them.
///
/// IPFIX says its length, v5 and v7 their count of records. A v9 message says neither: it runs
/// until a set is due and a plausible header of a message stands there instead, which no set can
/// look like, as set ids 2 to 255 are reserved. Zeros after a message belong to it, as padding;
/// what cannot be cut is one last payload.
pub fn payloads(file: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = file.get(at..).filter(|rest| !rest.is_empty())?;
        let offset = at as u64;
        let length = with_zeros(rest, message_octets(rest));
        at += length;
        Some((offset, &rest[..length]))
    })
}

/// Octets of the message that `bytes` begin with: at least 1, at most all.
fn message_octets(bytes: &[u8]) -> usize {
    let Ok(header) = header(bytes) else { return bytes.len() };
    let head = header.version.header_octets();
    match header.version {
        Version::V5 | Version::V7 => {
            let records = usize::from(header.count) * header.version.record_octets();
            (head + records).min(bytes.len())
        }
        Version::Ipfix => header.length,
        Version::V9 => v9_octets(bytes, head),
    }
}

fn v9_octets(bytes: &[u8], head: usize) -> usize {
    let mut at = head;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if is_plausible(rest) {
            return at;
        }
        match (be16(rest, 0), be16(rest, 2)) {
            (Ok(0 | 1 | TEMPLATE_ID_MIN..), Ok(length @ 4..)) => at += usize::from(length),
            // Zeros, or what only a reader of the whole message can judge.
            _ => break,
        }
    }
    match bytes.get(at..) {
        Some(rest) if rest.iter().all(|&octet| octet == 0) => at,
        // A header may follow after zeros.
        Some(rest) => {
            let zeros = rest.iter().take_while(|&&octet| octet == 0).count();
            // The first octet of a header is zero, too.
            let next = at + zeros.saturating_sub(1);
            if zeros > 1 && is_plausible(&bytes[next..]) { next } else { bytes.len() }
        }
        None => bytes.len(),
    }
}

/// Whether a message of any version may begin here.
fn is_plausible(bytes: &[u8]) -> bool {
    let Ok(header) = header(bytes) else { return false };
    match header.version {
        Version::V5 | Version::V7 => header.count > 0 && header.count <= 60,
        Version::V9 => header.count > 0 && header.export_time.0 > 0,
        Version::Ipfix => true,
    }
}

/// `length`, and the zeros behind it if nothing but a header or the end follows them.
fn with_zeros(bytes: &[u8], length: usize) -> usize {
    let rest = &bytes[length..];
    let zeros = rest.iter().take_while(|&&octet| octet == 0).count();
    if zeros == rest.len() {
        return bytes.len();
    }
    let next = zeros.saturating_sub(1);
    if zeros > 1 && is_plausible(&rest[next..]) { length + next } else { length }
}
