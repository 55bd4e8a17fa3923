//! Export of slices as IPFIX, to a collector of one's own: RFC 7011 over TCP and UDP.
//!
//! Over TCP every session begins with the templates; a unit is delivered when the collector's kernel
//! has it, and what the collector may not have read of the session before is sent again. Over UDP templates are sent again at an interval, messages are paced, and what the
//! collector does not take is lost, as RFC 7011 has it; that nobody listens is noticed.

mod message;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::message::Messages;
use super::kept::Kept;
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
        Carrier::Tcp => Box::new(Tcp {
            messages,
            stream: None,
            kept: Kept::new(sink.resend_bytes, Duration::from_secs(sink.resend_s.into())),
            progress: (None, 0, 0),
            sink: sink.clone(),
        }),
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
    /// What a collector that went away may not have read.
    kept: Kept,
    /// The unit in hand, how many of its records the other side has, and in how many octets.
    progress: (Option<(u64, u64, u64)>, usize, u64),
}

impl Tcp {
    /// A session: templates, and what may not have been read of the one before.
    fn connect(&mut self, stop: &Stop) -> Result<Stream, Failure> {
        let address = &self.sink.address;
        let timeout = Duration::from_secs(self.sink.timeout_s.into());
        let mut stream = Stream::connect(address, (None, ""), timeout)?;
        self.messages.restart();
        let mut send =
            |octets: &[u8]| stream.send(octets, stop).map_err(|error| failure(address, &error));
        send(&self.messages.templates(export_time_s()))?;
        for burst in self.kept.bursts() {
            let mut burst = burst.to_vec();
            self.messages.count_on(&mut burst);
            send(&burst)?;
        }
        if self.kept.octets() > 0 {
            let octets = self.kept.octets();
            tracing::info!(address, octets, "sent again what the collector may not have read");
        }
        Ok(stream)
    }

    /// Sends whole messages down the session, which is over if it fails.
    fn send(&mut self, burst: Vec<u8>, stop: &Stop) -> Result<(), Failure> {
        let mut stream = self.stream.take().expect("there is a session");
        if let Err(error) = stream.send(&burst, stop) {
            let in_order = error.kind() == io::ErrorKind::UnexpectedEof;
            self.kept.ended(in_order, Instant::now());
            return Err(failure(&self.sink.address, &error));
        }
        self.stream = Some(stream);
        self.kept.went(burst, Instant::now());
        Ok(())
    }
}

impl Target for Tcp {
    fn probe(&mut self, stop: &Stop) -> Result<(), Failure> {
        if self.stream.is_none() {
            self.stream = Some(self.connect(stop)?);
        }
        Ok(())
    }

    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        let name = Some((unit.spool(), unit.segment(), unit.offset()));
        if self.progress.0 != name {
            self.progress = (name, 0, 0);
        }
        self.probe(stop)?;
        let mut burst = Vec::new();
        let now = export_time_s();
        for row in self.progress.1..unit.len() {
            let mut full = |message: &[u8]| {
                burst.extend_from_slice(message);
                Ok::<_, Failure>(())
            };
            self.messages.add(&unit.record(row), TCP_OCTETS, now, &mut full)?;
            if row + 1 == unit.len() || burst.len() >= BURST {
                let mut full = |message: &[u8]| {
                    burst.extend_from_slice(message);
                    Ok::<_, Failure>(())
                };
                self.messages.end(now, &mut full)?;
                let octets = burst.len() as u64;
                self.send(std::mem::take(&mut burst), stop)?;
                self.progress.1 = row + 1;
                self.progress.2 += octets;
            }
        }
        let octets = self.progress.2;
        self.progress = (None, 0, 0);
        Ok(Delivered { octets, dead: Vec::new() })
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
        let failed = |error: io::Error| Failure::later("connect", format!("{address}: {error}"));
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
                // Also an address of ours may have gone: the next has one that has not.
                self.socket = None;
                let address = &self.sink.address;
                let reason = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "connect",
                    _ => "cut",
                };
                Err(Failure::later(reason, format!("{address}: {error}")))
            }
        }
    }
}

impl Target for Udp {
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        if self.socket.is_none() {
            self.socket = Some(self.connect()?);
            self.templates_at = None;
        }
        Ok(())
    }

    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        let refresh = Duration::from_secs(self.sink.template_refresh_s.into());
        let templates = self.templates_at.is_none_or(|at| at.elapsed() >= refresh);
        if templates {
            // The name of a collector that has moved has another address by now.
            self.socket = None;
        }
        self.probe(stop)?;
        let mut delivered = Delivered::default();
        let now = export_time_s();
        let mut messages = Vec::new();
        if templates {
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
