//! Syslog: RFC 5424 messages, over TCP with octet counting (RFC 6587 §3.4.1) or over TLS, whose
//! framing is the same (RFC 5425 §4.3).
//!
//! `LENGTH SP <PRI>1 TIME HOST APP PROCID MSGID - MESSAGE`. The message is CEF or JSON; it has no byte
//! order mark, which few readers of either expect.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::kept::Kept;
use super::stream::{Stream, failure};
use super::tls::{self, TlsError};
use crate::config::{self, Transport};
use crate::output::format::{Identity, Writer};
use crate::output::ndjson::integer;
use crate::output::schema::{self, Layout};
use crate::output::spool::{Delivered, Failure, Stop, Target, Unit};

/// Octets that are sent before the other side has to have them.
const BURST: usize = 256 << 10;

/// Why a sink to a syslog server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A format that has no single records.
    #[error(transparent)]
    Format(#[from] crate::output::format::NotByRecord),
}

/// A sink to the server of `sink`; `layout` has its fields, `sensor` is the sensor's name.
///
/// # Errors
/// [`SyslogError`].
pub fn syslog(
    sink: &config::Syslog,
    layout: &Layout,
    sensor: &str,
) -> Result<Box<dyn Target>, SyslogError> {
    let tls = match sink.transport {
        Transport::Tcp => None,
        Transport::Tls => Some(Arc::new(tls::client(&sink.tls)?)),
    };
    let messages = Messages::new(sink, layout, sensor)?;
    let address = sink.address.clone();
    let timeout = Duration::from_secs(sink.timeout_s.into());
    let kept = Kept::new(sink.resend_bytes, Duration::from_secs(sink.resend_s.into()));
    let (stream, connected, progress) = (None, Instant::now(), (None, 0, 0));
    Ok(Box::new(Syslog { address, tls, timeout, messages, stream, connected, kept, progress }))
}

struct Syslog {
    address: String,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    messages: Messages,
    stream: Option<Stream>,
    connected: Instant,
    /// What a server that went away may not have read.
    kept: Kept,
    /// The unit in hand, how many of its records the other side has, and in how many octets.
    progress: (Option<(u64, u64, u64)>, usize, u64),
}

impl Syslog {
    fn send(&mut self, octets: &[u8], stop: &Stop) -> Result<(), Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect(stop)?,
        };
        if let Err(error) = stream.send(octets, stop) {
            let in_order = error.kind() == io::ErrorKind::UnexpectedEof;
            self.kept.ended(in_order, Instant::now());
            return Err(self.ended(&error));
        }
        self.stream = Some(stream);
        self.kept.went(octets.to_vec(), Instant::now());
        Ok(())
    }

    /// What is told of a connection that ended: a server that speaks TLS ends what does not at once.
    fn ended(&self, error: &io::Error) -> Failure {
        const AT_ONCE: Duration = Duration::from_secs(2);
        let mut failure = failure(&self.address, error);
        if let Failure::Later { reason: "cut", message, .. } = &mut failure
            && self.tls.is_none()
            && self.connected.elapsed() < AT_ONCE
        {
            *message += ", at once: if the server expects TLS, set transport = \"tls\"";
        }
        failure
    }

    /// A connection down which what may not have been read has gone again.
    fn connect(&mut self, stop: &Stop) -> Result<Stream, Failure> {
        let tls = (self.tls.as_ref(), "set transport = \"tcp\", or take the port that has TLS");
        let mut stream = Stream::connect(&self.address, tls, self.timeout)?;
        self.connected = Instant::now();
        for burst in self.kept.bursts() {
            stream.send(burst, stop).map_err(|error| self.ended(&error))?;
        }
        if self.kept.octets() > 0 {
            let (address, octets) = (&self.address, self.kept.octets());
            tracing::info!(address, octets, "sent again what the server may not have read");
        }
        Ok(stream)
    }
}

impl Target for Syslog {
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
        let (mut delivered, mut octets) = (Delivered::default(), Vec::new());
        for row in 0..unit.len() {
            let record = unit.record(row);
            if let Err(length) = self.messages.add(&mut octets, &record) {
                let most = self.messages.octets_max;
                let reason = format!("{length} octets are over message_bytes_max ({most})");
                delivered.dead.push((row, reason));
            }
            let sent = row < self.progress.1;
            if sent {
                octets.clear();
            } else if octets.len() >= BURST || row + 1 == unit.len() {
                self.send(&octets, stop)?;
                self.progress.1 = row + 1;
                self.progress.2 += octets.len() as u64;
                octets.clear();
            }
        }
        delivered.octets = self.progress.2;
        self.progress = (None, 0, 0);
        Ok(delivered)
    }
}

/// Writes records as messages with their lengths before them.
struct Messages {
    facility: u8,
    octets_max: usize,
    /// ` HOST APP PROCID MSGID - `, after the time.
    head: Vec<u8>,
    identity: Identity,
    writer: Writer,
    message: Vec<u8>,
}

impl Messages {
    fn new(
        sink: &config::Syslog,
        layout: &Layout,
        sensor: &str,
    ) -> Result<Self, crate::output::format::NotByRecord> {
        let message_id = if layout.stream() == schema::Stream::Slices { "flow" } else { "alert" };
        let process = std::process::id();
        let (host, app) = (host(sensor), &sink.app_name);
        let head = format!(" {host} {app} {process} {message_id} - ").into_bytes();
        Ok(Self {
            facility: sink.facility,
            octets_max: sink.message_bytes_max,
            head,
            identity: Identity::new(layout.stream()),
            writer: Writer::new(sink.format, layout)?,
            message: Vec::new(),
        })
    }

    /// Appends `record`; its length if that is over the bound, and then nothing.
    fn add<R: schema::Record>(&mut self, out: &mut Vec<u8>, record: &R) -> Result<(), usize> {
        let message = &mut self.message;
        message.clear();
        message.push(b'<');
        let severity = self.identity.severity(record);
        integer(message, i64::from(self.facility) * 8 + i64::from(severity));
        message.extend_from_slice(b">1 ");
        self.identity.write_time(message, record);
        message.extend_from_slice(&self.head);
        self.writer.record(message, record);
        if message.len() > self.octets_max {
            return Err(message.len());
        }
        integer(out, i64::try_from(message.len()).unwrap_or(i64::MAX));
        out.push(b' ');
        out.extend_from_slice(message);
        Ok(())
    }
}

/// The sensor's name as HOSTNAME: 1 to 255 printable characters of ASCII.
fn host(sensor: &str) -> String {
    let host: String =
        sensor.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).take(255).collect();
    if host.is_empty() { "-".to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Format;
    use crate::detect::{Alert, Level, RuleMeta};
    use crate::output::Row;
    use crate::output::schema::{Context, Shown};
    use crate::time::Micros;

    fn messages(format: Format, octets_max: usize) -> Messages {
        let sink =
            config::Syslog { format, message_bytes_max: octets_max, ..config::Syslog::default() };
        let layout = Layout::all(schema::Stream::Alerts);
        Messages::new(&sink, &layout, "north é 1").expect("a format of syslog")
    }

    #[test]
    fn a_message_has_its_length_and_its_rules_severity() {
        let rule = RuleMeta { level: Level::High, title: "é".into(), ..RuleMeta::default() };
        let time = Micros(1_760_000_000_000_001);
        let alert = Alert { rule: Arc::new(rule), time, ..Alert::default() };
        let context = Context::default();
        let shown = Shown::new(Row::from(&alert), &context);
        for format in [Format::Cef, Format::Ndjson] {
            let mut out = Vec::new();
            messages(format, 65_536).add(&mut out, &shown).expect("short");
            let text = String::from_utf8(out).expect("UTF-8");
            let (length, message) = text.split_once(' ').expect("a length");
            assert_eq!(length.parse(), Ok(message.len()), "octets, not characters");
            let begin = format!(
                "<131>1 2025-10-09T08:53:20.000001Z north-é-1 weir {} alert - ",
                std::process::id()
            );
            assert!(message.starts_with(&begin.replace('é', "-")), "{message}");
        }
        let mut out = Vec::new();
        let refused = messages(Format::Ndjson, 480).add(&mut out, &shown);
        assert!(refused.is_err_and(|length| length > 480) && out.is_empty());
    }
}
