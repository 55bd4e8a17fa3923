//! `[[output.ipfix]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::syslog::{check_address, check_resend};
use super::{Durability, FieldValue, Report, Select, Table, Taking};

/// `[[output.ipfix]]`: a collector of IPFIX (RFC 7011), which gets biflows (RFC 5103).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ipfix {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// The collector: `HOST:PORT`; the usual port is 4739. Required.
    pub address: String,
    /// TCP, or UDP, which loses what the collector does not take.
    pub transport: Carrier,
    /// Which slices: `slices` or `tagged`.
    pub select: Select,
    /// Observation domain of all records.
    pub domain: u32,
    /// Write both directions into one record (RFC 5103). Without, each direction is a record.
    pub biflow: bool,
    /// Octets of a message over UDP, at most: 512 to 65,507. What the path takes without fragments.
    pub message_bytes_max: usize,
    /// Seconds after which templates are sent again over UDP: 1 to 86,400.
    pub template_refresh_s: u32,
    /// Messages a second over UDP, at most: 1 to 1,000,000. A burst would overrun the collector.
    pub messages_per_s_max: u32,
    /// Seconds to wait for a connection, and for what was sent to be taken: 1 to 600.
    pub timeout_s: u32,
    /// Octets of what went last over TCP that are kept in memory, and sent again when the connection
    /// ends: nothing says whether the collector had read them. A record is the same if `flowId`, source
    /// address and port, start and end are. 0 (none is sent again), or 1 MiB to 1 GiB.
    pub resend_bytes: usize,
    /// Seconds before the last message within which those went: 0 to 3,600.
    pub resend_s: u32,
    /// Where records wait: `disk` or `memory`.
    pub durability: Durability,
}

/// What IPFIX goes over.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Default for Ipfix {
    fn default() -> Self {
        Self {
            name: "ipfix".into(),
            address: String::new(),
            transport: Carrier::Tcp,
            select: Select::Slices,
            domain: 1,
            biflow: true,
            message_bytes_max: 1_400,
            template_refresh_s: 60,
            messages_per_s_max: 20_000,
            timeout_s: 30,
            resend_bytes: 8 << 20,
            resend_s: 10,
            durability: Durability::Disk,
        }
    }
}

impl Table for Ipfix {
    fn kind(&self) -> &'static str {
        "ipfix"
    }

    fn taking(&self) -> Taking<'_> {
        static NONE: BTreeMap<String, FieldValue> = BTreeMap::new();
        let (select, durability) = (self.select, Some(self.durability));
        Taking { name: &self.name, select, fields: &[], add: &NONE, durability }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        check_address(&self.address, key, report);
        if self.select == Select::Alerts {
            report.add(&key("select"), "must be \"slices\" or \"tagged\"".into());
        }
        report.within(&key("message_bytes_max"), self.message_bytes_max, 512..=65_507);
        report.within(&key("template_refresh_s"), self.template_refresh_s, 1..=86_400);
        report.within(&key("messages_per_s_max"), self.messages_per_s_max, 1..=1_000_000);
        report.within(&key("timeout_s"), self.timeout_s, 1..=600);
        check_resend(self.resend_bytes, key, report);
        report.within(&key("resend_s"), self.resend_s, 0..=3_600);
    }

    fn paths(&mut self, _: &mut dyn FnMut(&mut PathBuf)) {}
}
