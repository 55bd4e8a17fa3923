//! The sockets of a tee.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::packet;
use crate::config;
use crate::net::Addr;

/// What may wait in a socket: a burst of one batch of long datagrams.
const SEND_BUFFER: usize = 4 << 20;
/// The longest that one datagram waits for an interface.
const PATIENCE: Duration = Duration::from_secs(1);

/// How datagrams leave.
#[derive(Debug)]
pub(super) struct Way {
    name: String,
    to: SocketAddr,
    /// With the exporter's source; none if that is not wanted or not allowed.
    raw: Option<Socket>,
    /// With a source of this host.
    plain: UdpSocket,
    packet: Vec<u8>,
    /// What was warned of already.
    warned: BTreeSet<&'static str>,
}

impl Way {
    pub(super) fn open(config: &config::Tee) -> io::Result<Self> {
        let (name, to) = (config.name.clone(), config.address);
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let plain = UdpSocket::bind((any, 0))?;
        plain.set_write_timeout(Some(PATIENCE))?;
        socket2::SockRef::from(&plain).set_send_buffer_size(SEND_BUFFER)?;
        let raw = match config.keep_source.then(|| raw(to)).transpose() {
            Ok(raw) => raw,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(
                    tee = name,
                    "no CAP_NET_RAW: the collector behind sees one exporter, this host \
                     (systemd/drop-ins/tee.conf grants it; keep_source = false accepts it)"
                );
                None
            }
            Err(error) => return Err(error),
        };
        let keeps_source = raw.is_some();
        tracing::info!(tee = name, address = %to, keeps_source, "datagrams go on to a collector");
        Ok(Self { name, to, raw, plain, packet: Vec::new(), warned: BTreeSet::new() })
    }

    /// Sends a datagram of `exporter`; true if with a source of this host.
    ///
    /// # Errors
    /// The reason, as a metric's label.
    pub(super) fn send(
        &mut self,
        (exporter, port): (Addr, u16),
        payload: &[u8],
    ) -> Result<bool, &'static str> {
        let sent = match (&self.raw, exporter.to_ip(), self.to) {
            (Some(raw), IpAddr::V4(from), SocketAddr::V4(to)) => {
                packet::ipv4(&mut self.packet, (from, port), (*to.ip(), to.port()), payload);
                raw.send_to(&self.packet, &without_port(self.to)).map(|_| false)
            }
            (Some(raw), IpAddr::V6(from), SocketAddr::V6(to)) => {
                packet::ipv6(&mut self.packet, (from, port), (*to.ip(), to.port()), payload);
                raw.send_to(&self.packet, &without_port(self.to)).map(|_| false)
            }
            (raw, ..) => {
                if raw.is_some() && self.warned.insert("own_source") {
                    let (tee, address) = (&self.name, self.to);
                    tracing::warn!(tee, %exporter, %address, "IPv4 and IPv6 do not mix: the \
                        collector behind sees this host in the exporter's place");
                }
                self.plain.send_to(payload, self.to).map(|_| true)
            }
        };
        sent.map_err(|error| {
            let reason = reason(&error);
            if self.warned.insert(reason) {
                let (tee, octets) = (&self.name, payload.len());
                tracing::warn!(tee, %exporter, octets, %error, "cannot send a datagram on; more \
                    of this reason are only counted");
            }
            reason
        })
    }
}

/// A socket for whole packets. Needs CAP_NET_RAW.
fn raw(to: SocketAddr) -> io::Result<Socket> {
    // IPPROTO_RAW: the IP header comes from us (raw(7), ipv6(7)).
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(raw))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(socket)
}

/// A raw socket takes no port; of IPv6 any but 0 is an error.
fn without_port(mut to: SocketAddr) -> SockAddr {
    to.set_port(0);
    to.into()
}

/// Why a datagram could not be sent.
fn reason(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => "too_long",
        Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => "no_buffers",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => "unreachable",
        Some(libc::EPERM | libc::EACCES) => "refused",
        _ => "other",
    }
}
