//! What systemd and the service tell each other: readiness, watchdog, passed sockets.
//!
//! Source: sd_notify(3), sd_listen_fds(3).

#![expect(unsafe_code, reason = "a file descriptor that systemd passed has no safe owner in std")]

use std::env;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The first descriptor that systemd passes.
const LISTEN_FDS_START: i32 = 3;

/// Sends states to the service manager; without one it does nothing.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` (a path, or `@` and an abstract name) and `WATCHDOG_USEC`.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = env::var("NOTIFY_SOCKET").ok().and_then(|name| open(&name).ok());
        let mine = |pid: String| pid.parse() == Ok(std::process::id());
        let watched = env::var("WATCHDOG_PID").map_or(true, mine);
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|usec| usec.parse().ok());
        let watchdog = micros.filter(|_| watched).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// How often [`Notifier::watchdog`] is due: half of what the manager allows.
    #[must_use]
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Inputs are bound and the configuration is in force.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The start goes on for up to `more` from now, and `status` says why.
    pub fn starting(&self, status: &str, more: Duration) {
        let micros = more.as_micros();
        self.send(&format!("EXTEND_TIMEOUT_USEC={micros}\nSTATUS={status}"));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// All threads are alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// A reload began; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
    }

    /// The service is shutting down.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Stopping: flushing open flows");
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not listen any more is no reason to fail.
            if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
                tracing::debug!(%error, "the service manager did not take a notification");
            }
        }
    }
}

fn open(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    Ok((UnixDatagram::unbound()?, address))
}

fn monotonic_micros() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// The UDP sockets that systemd passed to this process, if any. Call once.
///
/// # Errors
/// If a passed descriptor is not open, or not a UDP socket.
pub fn passed_sockets() -> io::Result<Vec<UdpSocket>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = i32::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0).min(1_024);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let fds = LISTEN_FDS_START..LISTEN_FDS_START + count;
    fds.map(|fd| match names.next().filter(|name| !is_ours(name)) {
        Some(name) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "LISTEN_FDS: descriptor {fd} has the name `{name}`: expected \
                 FileDescriptorName=netflow, or none"
            ),
        )),
        None => passed_socket(fd),
    })
    .collect()
}

/// Whether a descriptor of this name is for NetFlow: as it is where FileDescriptorName= says so or is
/// left away.
fn is_ours(name: &str) -> bool {
    let default = name.is_empty() || name == "unknown" || name.ends_with(".socket");
    default || name == "netflow"
}

fn passed_socket(fd: RawFd) -> io::Result<UdpSocket> {
    let wrong = |what: &str| {
        let message = format!("LISTEN_FDS: descriptor {fd} {what}: expected ListenDatagram=");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    // SAFETY: this only asks about a number.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(wrong("is not open"));
    }
    // SAFETY: it is open, and by the protocol ours alone to own.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match socket2::SockRef::from(&fd.as_fd()).r#type() {
        Ok(kind) if kind == socket2::Type::DGRAM => Ok(UdpSocket::from(fd)),
        _ => Err(wrong("is not a UDP socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_socket_is_for() {
        for (name, ours) in [
            ("netflow", true),
            ("weir.socket", true),
            ("unknown", true),
            ("", true),
            ("syslog", false),
            ("weir", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }

    #[test]
    fn a_manager_behind_an_abstract_socket_hears_ready() {
        let name = format!("weir-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("bind");
        let notifier = Notifier { socket: open(&format!("@{name}")).ok(), ..Notifier::default() };
        notifier.ready("Collecting");
        let mut heard = [0; 64];
        let length = manager.recv(&mut heard).expect("heard");
        assert_eq!(&heard[..length], b"READY=1\nSTATUS=Collecting");
    }
}
