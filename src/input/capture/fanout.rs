//! One interface, several rings: the kernel gives each packet to one of them.

use std::io;
use std::os::fd::OwnedFd;

use libc::sock_filter;

use super::socket;
use crate::input::bpf::{
    A_TO_X, JUMP, JUMP_EQUAL, LOAD_OCTET, LOAD_WORD, MULTIPLY, NETWORK, RETURN_A, SHIFT_RIGHT,
    XOR_X,
};

const RETURN_K: u16 = 0x06;

/// The program that chooses: both directions of an address pair have the same XOR of addresses,
/// and so have all fragments. What is not IP goes to the first ring.
fn program() -> Vec<sock_filter> {
    let op = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    // XOR of the words at `from`, `from + 4`, ... `words` of them.
    let fold = |from: u32, words: u32| {
        let mut code = vec![op(LOAD_WORD, NETWORK + from)];
        for word in 1..words {
            code.push(op(A_TO_X, 0));
            code.push(op(LOAD_WORD, NETWORK + from + 4 * word));
            code.push(op(XOR_X, 0));
        }
        code
    };
    let (v4, v6) = (fold(12, 2), fold(8, 8));
    let mut code = vec![op(LOAD_OCTET, NETWORK), op(SHIFT_RIGHT, 4)];
    let to_v6 = v4.len() as u8 + 1;
    code.push(sock_filter { code: JUMP_EQUAL, jt: 2, jf: 0, k: 4 });
    code.push(sock_filter { code: JUMP_EQUAL, jt: 1 + to_v6, jf: 0, k: 6 });
    code.push(op(RETURN_K, 0));
    code.extend(v4);
    code.push(op(JUMP, v6.len() as u32));
    code.extend(v6);
    // The kernel takes the result modulo the number of rings: spread it first.
    code.extend([op(MULTIPLY, 0x9e37_79b1), op(SHIFT_RIGHT, 16), op(RETURN_A, 0)]);
    code
}

/// Joins `sockets`, which are bound to one interface, into one group.
///
/// # Errors
/// The operating system's.
pub(super) fn join<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>) -> io::Result<()> {
    let mut group = None;
    for member in sockets {
        let kind = libc::PACKET_FANOUT_CBPF;
        let (id, flags) = match group {
            None => (0, libc::PACKET_FANOUT_FLAG_UNIQUEID),
            Some(id) => (id, 0),
        };
        let argument = id | (kind | flags) << 16;
        socket::set(member, libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)?;
        if group.is_none() {
            let [given, ..] = socket::get(member, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
            group = Some(given & 0xffff);
            let mut code = program();
            let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
            socket::set(member, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program over a packet from its network header on, as the kernel does.
    fn run(packet: &[u8]) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
        let code = program();
        loop {
            let op = code[at];
            at += 1;
            let from = op.k.wrapping_sub(NETWORK) as usize;
            match op.code {
                LOAD_OCTET => a = packet.get(from).map_or_else(|| 0, |&b| u32::from(b)),
                LOAD_WORD => match packet.get(from..from + 4) {
                    Some(word) => a = u32::from_be_bytes(word.try_into().expect("four octets")),
                    None => return 0,
                },
                XOR_X => a ^= x,
                MULTIPLY => a = a.wrapping_mul(op.k),
                SHIFT_RIGHT => a >>= op.k,
                JUMP_EQUAL => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                JUMP => at += op.k as usize,
                A_TO_X => x = a,
                RETURN_K => return op.k,
                RETURN_A => return a,
                other => panic!("operation {other:#x} is not in the program"),
            }
        }
    }

    fn v4(src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0];
        packet.extend(src);
        packet.extend(dst);
        packet
    }

    fn v6(src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        packet.extend(src);
        packet.extend(dst);
        packet
    }

    #[test]
    fn both_directions_go_to_one_ring_and_pairs_are_spread() {
        let mut rings = [[0_u32; 4]; 2];
        for host in 0..=255_u8 {
            let (a, b) = ([10, 1, 2, host], [192, 0, 2, host.wrapping_mul(7)]);
            assert_eq!(run(&v4(a, b)), run(&v4(b, a)));
            rings[0][run(&v4(a, b)) as usize % 4] += 1;
            let (mut c, mut d) = ([0x20; 16], [0x26; 16]);
            (c[15], d[9]) = (host, host.wrapping_mul(3));
            assert_eq!(run(&v6(c, d)), run(&v6(d, c)));
            rings[1][run(&v6(c, d)) as usize % 4] += 1;
        }
        for counts in rings {
            assert!(counts.iter().all(|&n| n > 20), "{counts:?}");
        }
        assert_eq!(run(&[0, 1, 8, 0, 6, 4]), 0, "ARP goes to the first");
        assert_eq!(run(&v4([1; 4], [2; 4])[..14]), 0, "what is cut short goes to the first");
    }
}
