//! One port, several sockets: all datagrams of one exporter come to one of them.
//!
//! Templates, sampling and sequence numbers belong to an exporter, so its datagrams are decoded in
//! their order by one reader. The kernel would choose by address and port; an exporter that starts
//! anew sends from another port, so a program chooses, by address alone.
//!
//! # Source
//! socket(7), SO_REUSEPORT and SO_ATTACH_REUSEPORT_CBPF.

#![expect(unsafe_code, reason = "programs of sockets have no safe form in std")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::sock_filter;

use super::bpf::{
    A_TO_X, JUMP, JUMP_EQUAL, LOAD_OCTET, LOAD_WORD, MULTIPLY, NETWORK, RETURN_A, SHIFT_RIGHT,
    XOR_X,
};
use crate::net::Addr;

const MODULO: u16 = 0x94;
/// Spreads addresses that lie side by side (the golden ratio of 32 bits).
const SPREAD: u32 = 0x9e37_79b1;

/// The reader, of `readers`, that decodes what `exporter` sends.
#[must_use]
pub fn reader_of(exporter: Addr, readers: usize) -> usize {
    let word = match exporter.to_v4() {
        Some(address) => address,
        None => (0..4).fold(0, |words, at| words ^ (exporter.0 >> (32 * at)) as u32),
    };
    (word.wrapping_mul(SPREAD) >> 16) as usize % readers.max(1)
}

/// Has the kernel give each datagram that comes to the port of `socket` to the socket of its
/// reader: the sockets that are bound to it, in the order of their binding, are those of the
/// readers. One call holds for all of them.
///
/// # Errors
/// The operating system's; if the port is not shared.
pub fn steer(socket: &UdpSocket, readers: usize) -> io::Result<()> {
    let mut code = program(u32::try_from(readers).unwrap_or(u32::MAX));
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: pointer and length describe `program`, whose code outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// [`reader_of`] for the kernel.
fn program(readers: u32) -> Vec<sock_filter> {
    let op = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    // The source address: one word of IPv4; of IPv6 the XOR of four.
    let v4 = [op(LOAD_WORD, NETWORK + 12)];
    let mut v6 = vec![op(LOAD_WORD, NETWORK + 8)];
    for word in 1..4 {
        v6.push(op(A_TO_X, 0));
        v6.push(op(LOAD_WORD, NETWORK + 8 + 4 * word));
        v6.push(op(XOR_X, 0));
    }
    let mut code = vec![op(LOAD_OCTET, NETWORK), op(SHIFT_RIGHT, 4)];
    code.push(sock_filter { code: JUMP_EQUAL, jt: 0, jf: v4.len() as u8 + 1, k: 4 });
    code.extend(v4);
    code.push(op(JUMP, v6.len() as u32));
    code.extend(v6);
    code.extend([op(MULTIPLY, SPREAD), op(SHIFT_RIGHT, 16), op(MODULO, readers.max(1))]);
    code.push(op(RETURN_A, 0));
    code
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::input::udp::bind_all;

    const READERS: usize = 4;

    /// What many hosts send to a port of `address` comes to the sockets of their readers, once.
    fn check(address: &str) {
        let address: SocketAddr = address.parse().expect("an address");
        let bound = match bind_all(address, 1 << 20, READERS) {
            Ok(bound) => bound,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        let port = bound[0].socket.local_addr().expect("bound").port();
        let (mut counts, mut sent) = ([0; READERS], 0);
        for number in 1..=64_u8 {
            let source = Ipv4Addr::new(127, 0, number / 7, number);
            let sender = UdpSocket::bind((source, 0)).expect("an address of the loopback network");
            sender.send_to(&[number, 1], ("127.0.0.1", port)).expect("sent");
            let reader = reader_of(Addr::v4(source.into()), READERS);
            counts[reader] += 1;
            sent += 1;
            let socket = &bound[reader].socket;
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
            let mut datagram = [0; 8];
            assert_eq!(socket.recv(&mut datagram).expect("comes"), 2, "{source}");
            assert_eq!(datagram[..2], [number, 1], "{source}");
        }
        for bound in &bound {
            bound.socket.set_nonblocking(true).expect("set");
            assert!(bound.socket.recv(&mut [0; 8]).is_err(), "it came once");
        }
        assert!(counts.iter().all(|&count| count * 2 * READERS > sent), "{counts:?} of {sent}");
    }

    #[test]
    fn datagrams_of_an_exporter_come_to_its_reader() {
        check("127.0.0.1:0");
        // A socket of IPv6 also takes IPv4: the packet is IPv4, and so is the exporter.
        check("[::]:0");
    }

    #[test]
    fn every_word_of_an_address_counts() {
        let mut counts = [0; READERS];
        for bit in 0..128 {
            counts[reader_of(Addr(1 << bit | 0x2001 << 112), READERS)] += 1;
        }
        assert!(counts.iter().all(|&count| count > 8), "{counts:?}");
        assert_eq!(reader_of(Addr::v4(7), 1), 0);
    }

    /// The program over the first octets of headers, run as the kernel runs it.
    #[test]
    fn the_kernels_program_is_the_same_function() {
        let run = |packet: &[u8]| {
            let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
            let code = program(READERS as u32);
            loop {
                let op = code[at];
                at += 1;
                let from = op.k.wrapping_sub(NETWORK) as usize;
                match op.code {
                    LOAD_OCTET => a = packet[from].into(),
                    LOAD_WORD => {
                        let word = packet[from..from + 4].try_into().expect("four octets");
                        a = u32::from_be_bytes(word);
                    }
                    XOR_X => a ^= x,
                    MULTIPLY => a = a.wrapping_mul(op.k),
                    MODULO => a %= op.k,
                    SHIFT_RIGHT => a >>= op.k,
                    JUMP_EQUAL => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                    JUMP => at += op.k as usize,
                    A_TO_X => x = a,
                    RETURN_A => return a as usize,
                    other => panic!("operation {other:#x} is not in the program"),
                }
            }
        };
        for seed in 0..200_u128 {
            let source = seed.wrapping_mul(0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f);
            let mut v6 = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
            v6.extend(source.to_be_bytes());
            v6.extend([7; 16]);
            assert_eq!(run(&v6), reader_of(Addr(source), READERS), "{source:x}");
            let mut v4 = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            v4.extend((source as u32).to_be_bytes());
            v4.extend([9; 4]);
            assert_eq!(run(&v4), reader_of(Addr::v4(source as u32), READERS), "{source:x}");
        }
    }
}
