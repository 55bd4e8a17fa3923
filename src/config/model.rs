//! `[model]`: the sequence model.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Report;
use crate::net::Cidr;

/// `[model]`: the sequence model, which scores the last flows of each pair of addresses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Whether pairs are scored. `model/MODEL_CARD.md` says what the shipped model finds, and what not.
    pub enabled: bool,
    /// The ONNX file; the JSON of the same name lies beside it. Absent: the model that Weir ships.
    pub file: Option<PathBuf>,
    /// About how many alerts of the model 1,000 hosts may raise a day: 0.01 to 100,000. It decides
    /// the score from which on a pair is alerted on.
    pub alerts_per_1000_hosts_day: f64,
    /// Pairs whose last 32 flows are kept, at most, over all shards: 64 to 100,000,000. Each takes up
    /// to 640 octets. Of some, the least suspicious and longest idle makes room.
    pub pairs_max: usize,
    /// Connections that were cut by the active timeout or fell silent, kept to be joined with what
    /// follows, at most, over all shards: 64 to 100,000,000. Each takes up to 200 octets.
    pub connections_max: usize,
    /// Whether pairs are alerted on whose ends both lie in `networks.home`. Off by default: what goes
    /// from one's own host to another is seldom command and control, and monitoring, backups and
    /// devices that ask each other look like it.
    pub alert_within_home: bool,
    /// Octets that a host at home sends out in an hour below which its volume is never alerted on:
    /// 1,000,000 to 1,000,000,000,000,000.
    pub out_octets_min: u64,
    /// Hosts whose hours are kept to tell what is usual, at most: 64 to 100,000,000. Each takes up to
    /// 1.7 kB.
    pub hosts_max: usize,
    /// Share of a core that each worker may spend on scoring live input: 0.001 to 1. When it is
    /// spent, pairs wait for their turn.
    pub cpu_share: f64,
    /// `[[model.allow]]`: flows that are kept from the model.
    pub allow: Vec<Allowed>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            enabled: cfg!(feature = "model"),
            file: None,
            alerts_per_1000_hosts_day: 10.0,
            pairs_max: 262_144,
            connections_max: 65_536,
            alert_within_home: false,
            out_octets_min: 100_000_000,
            hosts_max: 65_536,
            cpu_share: 0.15,
            allow: Vec::new(),
        }
    }
}

impl Model {
    /// Every value that is out of its bounds.
    pub(super) fn check(&self, report: &mut Report) {
        let key = "model.alerts_per_1000_hosts_day";
        report.within(key, self.alerts_per_1000_hosts_day, 0.01..=100_000.0);
        report.within("model.pairs_max", self.pairs_max, 64..=100_000_000);
        report.within("model.connections_max", self.connections_max, 64..=100_000_000);
        let key = "model.out_octets_min";
        report.within(key, self.out_octets_min, 1_000_000..=1_000_000_000_000_000);
        report.within("model.hosts_max", self.hosts_max, 64..=100_000_000);
        report.within("model.cpu_share", self.cpu_share, 0.001..=1.0);
        if cfg!(not(feature = "model")) && self.file.is_some() {
            report.add("model.file", "this build has no feature `model`".into());
        }
        for (index, allowed) in self.allow.iter().enumerate() {
            if allowed.is_empty() {
                let message = "says no networks, ports or applications: it would allow every flow";
                report.add(&format!("model.allow[{index}]"), message.into());
            }
        }
    }
}

/// `[[model.allow]]`: services that are known, as for updates and monitoring. A flow is allowed if
/// all parts that are given hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// What it is, for people.
    pub name: String,
    /// Networks that one end of the flow lies in.
    pub networks: Vec<Cidr>,
    /// Ports of the responder.
    pub ports: Vec<u16>,
    /// Application names, as exported; case does not matter.
    pub applications: Vec<String>,
}

impl Allowed {
    /// Whether it says nothing, and so would allow every flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.ports.is_empty() && self.applications.is_empty()
    }
}
