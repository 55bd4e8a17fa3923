//! Export of slices as IPFIX, to a collector of one's own: RFC 7011 over TCP and UDP.
//!
//! Over TCP every session begins with the templates; a unit is delivered when the collector's kernel
//! has it. Over UDP templates are sent again at an interval, messages are paced, and what the
//! collector does not take is lost, as RFC 7011 has it; that nobody listens is noticed.

mod message;

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::message::Messages;
use super::stream::{Stream, failure};
use crate::config::{self, Carrier};
use crate::output::spool::{Delivered, Failure, Stop, Target, Unit};

/// Octets of a message over TCP, at most.
const TCP_OCTETS: usize = 16 << 10;
/// Octets that go down TCP before the other side has to have them.
const BURST: usize = 256 << 10;
/// Messages over UDP are paced in turns of this length.
const TURN: Duration = Duration::from_millis(10);

/// A sink to the collector of `sink`.
#[must_use]
pub fn ipfix(sink: &config::Ipfix) -> Box<dyn Target> {
    let messages = Messages::new(sink.domain, sink.biflow);
    match sink.transport {
        Carrier::Tcp => Box::new(Tcp { sink: sink.clone(), messages, stream: None }),
        Carrier::Udp => Box::new(Udp {
            sink: sink.clone(),
            messages,
            socket: None,
            templates_at: None,
            turn: (Instant::now(), 0),
        }),
    }
}

/// Now, for the header of a message.
fn export_time_s() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

struct Tcp {
    sink: config::Ipfix,
    messages: Messages,
    stream: Option<Stream>,
}

impl Target for Tcp {
    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        // Out of place until the unit is delivered: after a failure the session is over.
        let mut session = self.stream.take();
        let mut delivered = Delivered::default();
        let mut burst = Vec::new();
        if session.is_none() {
            let timeout = Duration::from_secs(self.sink.timeout_s.into());
            session = Some(Stream::connect(&self.sink.address, None, timeout)?);
            self.messages.restart();
            burst = self.messages.templates(export_time_s());
        }
        let stream = session.as_mut().expect("just connected");
        let address = &self.sink.address;
        let mut send = |burst: &mut Vec<u8>| {
            delivered.octets += burst.len() as u64;
            let sent = stream.send(burst, stop).map_err(|error| failure(address, &error));
            burst.clear();
            sent
        };
        for record in unit.records() {
            let mut full = |message: &[u8]| {
                burst.extend_from_slice(message);
                if burst.len() < BURST { Ok(()) } else { send(&mut burst) }
            };
            self.messages.add(&record, TCP_OCTETS, export_time_s(), &mut full)?;
        }
        self.messages.end(export_time_s(), |message| {
            burst.extend_from_slice(message);
            Ok::<_, Failure>(())
        })?;
        send(&mut burst)?;
        self.stream = session;
        Ok(delivered)
    }
}

struct Udp {
    sink: config::Ipfix,
    messages: Messages,
    socket: Option<UdpSocket>,
    templates_at: Option<Instant>,
    /// When the turn began, and the messages sent in it.
    turn: (Instant, u32),
}

impl Udp {
    fn connect(&self) -> Result<UdpSocket, Failure> {
        let address = &self.sink.address;
        let failed =
            |error: std::io::Error| Failure::later("connect", format!("{address}: {error}"));
        let place = address.to_socket_addrs().map_err(failed)?.next();
        let none = || Failure::later("connect", format!("{address}: the name has no address"));
        let place = place.ok_or_else(none)?;
        let any: SocketAddr = match place {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.connect(place).map_err(failed)?;
        Ok(socket)
    }

    /// Waits where this turn has had its messages.
    fn pace(&mut self) {
        let most = self.sink.messages_per_s_max.div_ceil(100);
        let (began, sent) = &mut self.turn;
        if *sent >= most {
            std::thread::sleep(TURN.saturating_sub(began.elapsed()));
        }
        if began.elapsed() >= TURN {
            (*began, *sent) = (Instant::now(), 0);
        }
        *sent += 1;
    }

    fn send(&mut self, message: &[u8]) -> Result<u64, Failure> {
        self.pace();
        let socket = self.socket.as_ref().expect("connected before");
        match socket.send(message) {
            Ok(_) => Ok(message.len() as u64),
            Err(error) => {
                let address = &self.sink.address;
                let reason = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => "connect",
                    _ => "cut",
                };
                Err(Failure::later(reason, format!("{address}: {error}")))
            }
        }
    }
}

impl Target for Udp {
    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        if self.socket.is_none() {
            self.socket = Some(self.connect()?);
            self.templates_at = None;
        }
        let mut delivered = Delivered::default();
        let now = export_time_s();
        let mut messages = Vec::new();
        let refresh = Duration::from_secs(self.sink.template_refresh_s.into());
        if self.templates_at.is_none_or(|at| at.elapsed() >= refresh) {
            messages.push(self.messages.templates(now));
        }
        let most = self.sink.message_bytes_max;
        let mut full = |message: &[u8]| {
            messages.push(message.to_vec());
            Ok::<_, Failure>(())
        };
        for record in unit.records() {
            self.messages.add(&record, most, now, &mut full)?;
        }
        self.messages.end(now, &mut full)?;
        let templates = self.templates_at.is_none_or(|at| at.elapsed() >= refresh);
        for message in &messages {
            if stop.over() {
                return Err(Failure::Stopped);
            }
            delivered.octets += self.send(message)?;
        }
        if templates {
            self.templates_at = Some(Instant::now());
        }
        // That nobody listens comes back after what was sent.
        std::thread::sleep(Duration::from_millis(1));
        let error = self.socket.as_ref().and_then(|socket| socket.take_error().ok().flatten());
        match error {
            None => Ok(delivered),
            Some(error) => {
                self.templates_at = None;
                let message = format!("{}: {error}", self.sink.address);
                Err(Failure::later("connect", message))
            }
        }
    }
}
