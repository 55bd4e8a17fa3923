//! The UDP sockets of the readers: those that systemd passed, else those of the configuration.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::config::Config;
use crate::input::{steer, udp};

/// The sockets of each reader, `passed` ones before those of the configuration: of one address each reader has one. No reader if there is no
/// address.
///
/// # Errors
/// If a socket cannot be bound, or a passed one is none of UDP.
pub(super) fn open(config: &Config, passed: Vec<UdpSocket>) -> io::Result<Vec<Vec<udp::Bound>>> {
    let netflow = &config.input.netflow;
    let by_address = if passed.is_empty() {
        let bind = |&address| udp::bind_all(address, netflow.receive_buffer_bytes, netflow.readers);
        netflow.listen.iter().map(bind).collect::<io::Result<Vec<_>>>()?
    } else {
        adopt(passed, netflow.receive_buffer_bytes, netflow.readers)?
    };
    let readers = by_address.iter().map(Vec::len).max().unwrap_or(0).min(netflow.readers);
    let mut sockets: Vec<Vec<udp::Bound>> = (0..readers).map(|_| Vec::new()).collect();
    for group in by_address {
        for (bound, reader) in group.into_iter().zip((0..readers).cycle()) {
            tell(&bound, reader, netflow.receive_buffer_bytes);
            sockets[reader].push(bound);
        }
    }
    Ok(sockets)
}

/// Takes over the sockets that systemd passed, by address, and shares each address's datagrams out
/// among `readers`.
fn adopt(
    passed: Vec<UdpSocket>,
    receive_buffer_bytes: usize,
    readers: usize,
) -> io::Result<Vec<Vec<udp::Bound>>> {
    let mut groups: Vec<(SocketAddr, Vec<udp::Bound>)> = Vec::new();
    for socket in passed {
        let address = socket.local_addr()?;
        let bound = udp::adopt(socket, receive_buffer_bytes)?;
        match groups.iter_mut().find(|(known, _)| *known == address) {
            Some((_, group)) => group.push(bound),
            None => groups.push((address, vec![bound])),
        }
    }
    for (address, group) in &groups {
        let sockets = group.len();
        if sockets > readers {
            tracing::warn!(%address, sockets, readers,
                "more sockets are passed than input.netflow.readers: some readers have several; repeat \
                 ListenDatagram= in weir.socket as often as there are readers");
        } else if sockets < readers {
            tracing::warn!(%address, sockets, readers,
                "fewer sockets are passed than input.netflow.readers: repeat ListenDatagram= in \
                 weir.socket, with ReusePort=yes");
        }
        if sockets > 1 {
            steer::steer(&group[0].socket, sockets.min(readers))?;
        }
    }
    Ok(groups.into_iter().map(|(_, group)| group).collect())
}

fn tell(bound: &udp::Bound, reader: usize, wanted: usize) {
    let granted = bound.receive_buffer_bytes;
    let address = bound.address();
    tracing::info!(address, reader, receive_buffer_bytes = granted, "listening");
    if bound.dropped_before > 0 {
        let dropped = bound.dropped_before;
        tracing::warn!(address, dropped, "the kernel dropped datagrams before this start");
    }
    // The kernel's own bound is an octet short of 1 GiB.
    if granted + 1 < wanted {
        tracing::warn!(
            granted,
            wanted,
            "the kernel granted less receive buffer: raise net.core.rmem_max, or use weir.socket"
        );
    }
}
