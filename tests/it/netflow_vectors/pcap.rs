//! UDP payloads of a pcap file, the shortest way: Ethernet, IPv4 and IPv6 without options.

use weir::net::Addr;

use super::Datagram;

/// The UDP datagrams of `file`, first fragments included.
pub(crate) fn datagrams(file: &[u8]) -> Vec<Datagram> {
    let little = file[0] == 0xd4 || file[0] == 0x4d;
    let u32_at = |at: usize| {
        let octets: [u8; 4] = file[at..at + 4].try_into().expect("four octets");
        if little { u32::from_le_bytes(octets) } else { u32::from_be_bytes(octets) }
    };
    assert_eq!(u32_at(20) & 0xffff, 1, "the captures of this set are Ethernet");
    let mut all = Vec::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        let captured = u32_at(at + 8) as usize;
        let start = at + 16;
        at = start + captured;
        let Some(frame) = file.get(start..at) else { break };
        all.extend(udp(frame).map(|(exporter, port, payload)| {
            let offset = (payload.as_ptr() as usize - file.as_ptr() as usize) as u64;
            Datagram { exporter, port, offset, payload: payload.to_vec() }
        }));
    }
    all
}

fn udp(frame: &[u8]) -> Option<(Addr, u16, &[u8])> {
    let be16 = |at: usize| frame.get(at..at + 2).map(|o| u16::from_be_bytes([o[0], o[1]]));
    let mut ether = 12;
    while matches!(be16(ether)?, 0x8100 | 0x88a8) {
        ether += 4;
    }
    let ip = ether + 2;
    let (source, udp) = match be16(ether)? {
        0x0800 if frame.get(ip + 9) == Some(&17) && be16(ip + 6)? & 0x1fff == 0 => {
            let source = u32::from_be_bytes(frame.get(ip + 12..ip + 16)?.try_into().ok()?);
            (Addr::v4(source), ip + usize::from(frame[ip] & 15) * 4)
        }
        0x86dd if frame.get(ip + 6) == Some(&17) => {
            (Addr::v6(frame.get(ip + 8..ip + 24)?.try_into().ok()?), ip + 40)
        }
        _ => return None,
    };
    let end = (udp + usize::from(be16(udp + 4)?)).min(frame.len());
    Some((source, be16(udp)?, frame.get(udp + 8..end)?))
}
