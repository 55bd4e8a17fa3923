//! `[[output.syslog]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Durability, FieldValue, Format, Place, Report, Select, Table, Taking, Tls};

/// `[[output.syslog]]`: a syslog server, RFC 5424 over TCP or TLS.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Syslog {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// The server: `HOST:PORT`; usual ports are 601 for TCP and 6514 for TLS. Required.
    pub address: String,
    /// TCP with octet counting (RFC 6587), or TLS (RFC 5425).
    pub transport: Transport,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// The message: `cef`, or JSON as `ndjson`, `detectflow`, `ecs` or `ocsf`.
    pub format: Format,
    /// Facility: 0 to 23; 16 is local0. The severity is that of the strongest rule, else 6.
    pub facility: u8,
    /// APP-NAME: 1 to 48 printable characters of ASCII.
    pub app_name: String,
    /// Octets of a message, at most: 480 to 16 MiB. A longer one goes to the dead-letter file.
    pub message_bytes_max: usize,
    /// Seconds to wait for a connection, and for what was sent to be taken: 1 to 600.
    pub timeout_s: u32,
    /// Octets of what was sent last that are kept in memory, and sent again when the connection
    /// ends: nothing says whether the server had read them. 0 (none is), or 1 MiB to 1 GiB.
    pub resend_bytes: usize,
    /// Seconds before the last message within which those went: 0 to 3,600.
    pub resend_s: u32,
    /// Where records wait: `disk` or `memory`.
    pub durability: Durability,
    /// TLS, with `transport = "tls"`.
    pub tls: Tls,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

/// What syslog goes over.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, octet counting.
    #[default]
    Tcp,
    /// TLS.
    Tls,
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            name: "syslog".into(),
            address: String::new(),
            transport: Transport::Tcp,
            select: Select::Alerts,
            fields: Vec::new(),
            format: Format::Cef,
            facility: 16,
            app_name: "weir".into(),
            message_bytes_max: 65_536,
            timeout_s: 30,
            resend_bytes: 8 << 20,
            resend_s: 10,
            durability: Durability::Disk,
            tls: Tls::default(),
            add: BTreeMap::new(),
        }
    }
}

impl Table for Syslog {
    fn kind(&self) -> &'static str {
        "syslog"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(self.durability) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        check_address(&self.address, key, report);
        report.within(&key("facility"), self.facility, 0..=23);
        let name = &self.app_name;
        if !(1..=48).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            report.add(&key("app_name"), "must be 1 to 48 printable characters of ASCII".into());
        }
        report.within(&key("message_bytes_max"), self.message_bytes_max, 480..=16 << 20);
        report.within(&key("timeout_s"), self.timeout_s, 1..=600);
        check_resend(self.resend_bytes, key, report);
        report.within(&key("resend_s"), self.resend_s, 0..=3_600);
        if let Some((name, message)) = self.format.fault(self, Place::Syslog) {
            report.add(&key(name), message);
        }
        self.tls.check(key, report);
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.tls.paths(absolute);
    }

    fn tls(&self) -> Option<&Tls> {
        (self.transport == Transport::Tls).then_some(&self.tls)
    }
}

/// Reports what is kept to be sent again and is less than what goes at once.
pub(super) fn check_resend(octets: usize, key: &dyn Fn(&str) -> String, report: &mut Report) {
    if octets > 0 {
        report.within(&key("resend_bytes"), octets, 1 << 20..=1 << 30);
    }
}

/// Reports an address that is not `HOST:PORT`.
pub(super) fn check_address(address: &str, key: &dyn Fn(&str) -> String, report: &mut Report) {
    let parts = address.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if !good {
        report.add(&key("address"), "must be HOST:PORT".into());
    }
}
