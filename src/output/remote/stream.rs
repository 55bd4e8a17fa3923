//! Connections that octets go down and nothing comes back on: of syslog, and of IPFIX over TCP.
//!
//! Neither protocol acknowledges. What comes nearest is that the other side's kernel has taken every
//! octet: [`Stream::settle`] waits for that. What its kernel has and its program never reads is lost
//! with that program, unless it is sent again ([`super::kept`]).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::tls;
use crate::output::spool::{Failure, Stop};

/// Between two looks at what is not taken yet.
const LOOK: Duration = Duration::from_millis(2);

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects to `address` (`HOST:PORT`), by TLS if there is a `tls`; `plain` says how the sink is told to
    /// go without.
    ///
    /// # Errors
    /// [`Failure::Later`].
    pub(super) fn connect(
        address: &str,
        (tls, plain): (Option<&Arc<ClientConfig>>, &str),
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::later("connect", format!("{address}: {error}"));
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for place in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&place, timeout.min(Duration::from_secs(10))) {
                Ok(stream) => return Self::over(stream, address, (tls, plain), timeout),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    fn over(
        mut stream: TcpStream,
        address: &str,
        (tls, plain): (Option<&Arc<ClientConfig>>, &str),
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::later("connect", format!("{address}: {error}"))
        };
        stream.set_write_timeout(Some(timeout)).map_err(|error| failed(&error))?;
        stream.set_read_timeout(Some(timeout)).map_err(|error| failed(&error))?;
        let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
        let connection = ClientConnection::new(Arc::clone(tls), name);
        let mut connection = connection.map_err(|error| failed(&error))?;
        // So that a certificate that is refused is told of now, and not with the first octets.
        while connection.is_handshaking() {
            let handshake = connection.complete_io(&mut stream);
            handshake.map_err(|error| refused(address, plain, &error))?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Writes `octets` and waits until the other side's kernel has them all.
    ///
    /// # Errors
    /// Of the connection, which then is of no more use; [`io::ErrorKind::Interrupted`] if the
    /// sensor's time was over.
    pub(super) fn send(&mut self, octets: &[u8], stop: &Stop) -> io::Result<()> {
        self.look()?;
        match self {
            Self::Plain(stream) => stream.write_all(octets)?,
            Self::Tls(stream) => {
                stream.write_all(octets)?;
                stream.flush()?;
            }
        }
        self.settle(stop)
    }

    fn settle(&mut self, stop: &Stop) -> io::Result<()> {
        let timeout = self.socket().write_timeout()?.unwrap_or_default();
        let mut moved = Instant::now();
        let mut left = i32::MAX;
        loop {
            let now = unacknowledged(self.socket())?;
            // Of a connection that was reset nothing is ever acknowledged: only a look tells.
            self.look()?;
            if now == 0 {
                return Ok(());
            }
            if now < left {
                (left, moved) = (now, Instant::now());
            }
            if moved.elapsed() > timeout {
                let text = format!("the other side has not taken {now} octets in {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            if stop.over() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the other side has closed: it says nothing else. What it says is passed over.
    fn look(&mut self) -> io::Result<()> {
        self.socket().set_nonblocking(true)?;
        let mut octets = [0; 4_096];
        let read = match self {
            Self::Plain(stream) => stream.read(&mut octets),
            Self::Tls(stream) => stream.read(&mut octets),
        };
        self.socket().set_nonblocking(false)?;
        match read {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed")),
            Ok(some) if matches!(self, Self::Plain(_)) && is_alert(&octets[..some]) => {
                let text = "the other side speaks TLS, and this connection does not";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether `octets` are a TLS record with an alert (RFC 8446 §5.1, §6).
fn is_alert(octets: &[u8]) -> bool {
    const ALERT: u8 = 21;
    matches!(octets, [ALERT, 3, 0..=4, 0, 2, ..])
}

/// Why TLS did not come about, and what to set.
fn refused(address: &str, plain: &str, error: &io::Error) -> Failure {
    let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let mut message = match silent {
        true => format!("{address}: no TLS: no answer within timeout_s"),
        false => format!("{address}: no TLS: {error}"),
    };
    let closed = error.kind() == io::ErrorKind::UnexpectedEof;
    if let Some(hint) = tls::hint(&message, "tls.ca_file", plain) {
        message = format!("{message}: {hint}");
    } else if silent || closed {
        message = format!("{message}: expected a server that speaks TLS: if it does not, {plain}");
    }
    Failure::later("tls", message)
}

/// Octets that were written and that the other side's kernel has not acknowledged (SIOCOUTQ).
fn unacknowledged(socket: &TcpStream) -> io::Result<i32> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `socket`, and the call writes one int to `octets`.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if done == 0 { Ok(octets) } else { Err(io::Error::last_os_error()) }
}

/// An error of a connection as a failure that may pass, or the end of the sensor's time.
pub(super) fn failure(address: &str, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::Interrupted => return Failure::Stopped,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timeout",
        _ => "cut",
    };
    Failure::later(reason, format!("{address}: {error}"))
}
