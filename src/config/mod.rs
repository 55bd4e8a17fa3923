//! The configuration: plain data with defaults and checks. Nothing here reads a file.
//!
//! One struct per table; the default of each key stands in `Default`, its meaning, unit and bound
//! in its doc, and `config/weir.toml` shows every key.

mod check;
mod custom;
pub mod detect;
mod feed;
mod model;
pub mod output;
mod parse;
mod workers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use check::Problem;
pub use custom::FieldValue;
pub use feed::{Feed, FeedFormat, FeedKind, Severity};
pub use model::{Allowed, Model};
pub use output::{
    Body, Carrier, Durability, Elasticsearch, Files, Format, Full, Hec, Http, Ipfix, Output, Place,
    S3, Secret, Select, Spool, Syslog, Tee, Tls, Transport, Webhook,
};
pub use parse::{locate, parse, parse_with};
pub use workers::Workers;

use crate::net::{Addr, Cidr};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[sensor]`.
    pub sensor: Sensor,
    /// `[input.*]`.
    pub input: Input,
    /// `[netflow]`.
    pub netflow: Netflow,
    /// `[flow]`.
    pub flow: Flow,
    /// `[networks]`.
    pub networks: Networks,
    /// `[rules]`.
    pub rules: Rules,
    /// `[detect]`.
    pub detect: detect::Detect,
    /// `[model]`.
    pub model: Model,
    /// `[output.*]`.
    pub output: Output,
    /// `[spool]`.
    pub spool: Spool,
    /// `[admin]`.
    pub admin: Admin,
    /// `[[site]]`: networks of exporters that form a site of their own.
    pub site: Vec<Site>,
    /// `[[exporter]]`: what the configuration knows of exporters.
    pub exporter: Vec<Exporter>,
}

/// `[sensor]`: this host's part.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sensor {
    /// Name of this sensor.
    pub name: String,
    /// Worker threads, and their cores.
    pub workers: Workers,
    /// Pin each worker to a core.
    pub pin: bool,
    /// Directory for templates and other state that outlives a restart.
    pub state_directory: PathBuf,
    /// `[sensor.fields]`: fields of your own on every slice and alert: texts, whole numbers, truth
    /// values. Names of `[a-z0-9_]`, none that records have; at most 64.
    pub fields: BTreeMap<String, FieldValue>,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            name: "weir".into(),
            workers: Workers::Auto,
            pin: true,
            state_directory: "/var/lib/weir".into(),
            fields: BTreeMap::new(),
        }
    }
}

/// `[input]`: where bytes come from. Live inputs only; `weir replay` names its files itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// `[input.netflow]`.
    pub netflow: NetflowInput,
    /// `[input.capture]`: absent means no live capture.
    pub capture: Option<Capture>,
}

/// `[input.netflow]`: UDP sockets for NetFlow and IPFIX.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetflowInput {
    /// Addresses to bind. Not used for sockets that systemd passes. Empty: no NetFlow.
    pub listen: Vec<SocketAddr>,
    /// Socket receive buffer in octets, 64 KiB to 1 GiB; more than the kernel allows is warned of.
    pub receive_buffer_bytes: usize,
    /// Reader threads, each with a socket of its own for each address: 1 to 64. What one exporter
    /// sends comes to one of them.
    pub readers: usize,
    /// Networks whose exporters are accepted; empty accepts all.
    pub allow: Vec<Cidr>,
    /// The longest that a datagram waits in its socket for others to come, so that one look takes
    /// several, in microseconds: 0 (none waits) to 10,000.
    pub coalesce_us: u32,
    /// How long the reader looks again and again for the next datagram before it sleeps, in
    /// microseconds: 0 (it sleeps at once) to 1,000,000. Takes a core of its own.
    pub busy_poll_us: u32,
}

impl Default for NetflowInput {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 2055))],
            receive_buffer_bytes: 32 << 20,
            readers: 1,
            allow: Vec::new(),
            coalesce_us: 250,
            busy_poll_us: 0,
        }
    }
}

/// `[input.capture]`: packets from an interface.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// The interface's name.
    pub interface: String,
    /// BPF filter expression; empty takes everything.
    pub filter: String,
    /// Octets of each packet that are captured: 96 to 65,535.
    pub snaplen: u32,
    /// Put the interface into promiscuous mode.
    pub promiscuous: bool,
    /// Kernel buffer in octets: 1 MiB to 1 GiB; of all readers together.
    pub buffer_bytes: usize,
    /// How packets are read.
    pub backend: Backend,
    /// Rings, each with a reader thread of its own, that share the interface's packets: 1 to 64.
    pub readers: usize,
}

/// How packets are read from an interface.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Memory-mapped rings of the kernel (AF_PACKET, TPACKET_V3).
    #[default]
    AfPacket,
    /// libpcap: any interface that it knows; one reader.
    Libpcap,
    /// AF_XDP: a port that only receives, before the kernel's stack; each reader has a share of
    /// its receive queues.
    AfXdp,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            interface: String::new(),
            filter: String::new(),
            snaplen: 256,
            promiscuous: true,
            buffer_bytes: 64 << 20,
            backend: Backend::default(),
            readers: 1,
        }
    }
}

/// `[netflow]`: templates, exporters and their bounds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Netflow {
    /// Seconds after which a template that was not sent again expires: 60 to 604,800.
    pub template_lifetime_s: u32,
    /// Exporters (address, port) with state, at most, of each reader: 1 to 1,000,000.
    pub exporters_max: usize,
    /// Templates of one exporter, at most: 1 to 65,280.
    pub templates_per_exporter_max: usize,
    /// Templates of all exporters of a reader, at most.
    pub templates_max: usize,
    /// Seconds of silence after which an exporter's state is dropped: 60 to 2,592,000.
    pub exporter_lifetime_s: u32,
    /// Observation domains of one exporter whose sequence is followed, at most: 1 to 65,536.
    pub domains_per_exporter_max: usize,
    /// Entries in each table that an exporter's options data fills (samplers, interface, VRF and
    /// application names), at most: 1 to 1,000,000.
    pub options_per_exporter_max: usize,
    /// Flows of one exporter whose total counters (IE 85, 86) are remembered, at most: 2 to
    /// 10,000,000.
    pub totals_per_exporter_max: usize,
    /// Octets of data sets that wait for a template, of one exporter.
    pub waiting_per_exporter_bytes_max: usize,
    /// Octets of data sets that wait for a template, of all exporters.
    pub waiting_bytes_max: usize,
    /// Datagrams that may come late and still fill a gap in the sequence: 0 to 1,024.
    pub reorder_window: u32,
    /// A flow time further than this from the arrival is clamped, in seconds: 60 to 2,592,000.
    pub time_window_s: u32,
}

impl Default for Netflow {
    fn default() -> Self {
        Self {
            template_lifetime_s: 1_800,
            exporters_max: 10_000,
            templates_per_exporter_max: 1_024,
            templates_max: 100_000,
            exporter_lifetime_s: 86_400,
            domains_per_exporter_max: 256,
            options_per_exporter_max: 4_096,
            totals_per_exporter_max: 65_536,
            waiting_per_exporter_bytes_max: 1 << 20,
            waiting_bytes_max: 64 << 20,
            reorder_window: 64,
            time_window_s: 86_400,
        }
    }
}

/// `[flow]`: how long a flow may stay in the table, and how many may.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// Flows in the table, at most, over all shards: 64 to 100,000,000.
    pub entries_max: usize,
    /// Take the memory of a full table at the start: no page is cleared and no index grows while
    /// traffic comes. Else memory is taken as flows come.
    pub reserve: bool,
    /// `[flow.packets]`: timeouts of flows built from packets.
    pub packets: PacketTimeouts,
    /// `[flow.netflow]`: timeouts of flows built from export records and CSV.
    pub netflow: NetflowTimeouts,
    /// Seconds that a flow stays after FIN or RST, so that late ACKs open no new one: 0 to 60.
    pub linger_s: u32,
    /// What becomes of records of an observation point that does not own the direction.
    pub dedup: Dedup,
    /// Whether the VLAN id is a part of the flow key.
    pub vlan_in_key: bool,
    /// Open tunnels and meter the innermost flow.
    pub tunnels: bool,
    /// Tunnels opened one inside the other, at most: 1 to 8.
    pub tunnel_depth_max: u8,
    /// Datagrams whose first fragment is remembered, at most, over all shards.
    pub fragments_max: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            entries_max: 1_000_000,
            reserve: false,
            packets: PacketTimeouts::default(),
            netflow: NetflowTimeouts::default(),
            linger_s: 5,
            dedup: Dedup::Owner,
            vlan_in_key: false,
            tunnels: true,
            tunnel_depth_max: 4,
            fragments_max: 65_536,
        }
    }
}

/// `[flow.packets]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PacketTimeouts {
    /// Silence after which a flow ends, in seconds: 1 to 86,400. At most the active timeout.
    pub idle_timeout_s: u32,
    /// Age after which a slice of a flow is cut, in seconds: 1 to 86,400.
    pub active_timeout_s: u32,
}

impl Default for PacketTimeouts {
    fn default() -> Self {
        Self { idle_timeout_s: 60, active_timeout_s: 120 }
    }
}

/// `[flow.netflow]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetflowTimeouts {
    /// Silence after which a flow ends, in seconds: 1 to 86,400. At most the active timeout.
    pub idle_timeout_s: u32,
    /// Age after which a slice of a flow is cut, in seconds: 1 to 86,400.
    pub active_timeout_s: u32,
}

impl Default for NetflowTimeouts {
    fn default() -> Self {
        Self { idle_timeout_s: 130, active_timeout_s: 300 }
    }
}

/// Deduplication of flows that several observation points report.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dedup {
    /// One observation point owns each direction; the records of others are counted only.
    #[default]
    Owner,
    /// Every record is merged.
    Off,
}

/// `[networks]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Networks {
    /// Home networks: they decide a flow's direction.
    pub home: Vec<Cidr>,
}

impl Default for Networks {
    fn default() -> Self {
        let home = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        Self { home: home.iter().map(|n| n.parse().expect("a constant network")).collect() }
    }
}

/// `[rules]`: Sigma rules and indicator feeds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Directories that are searched, recursively, for `*.yml` and `*.yaml`.
    pub directories: Vec<PathBuf>,
    /// Seconds between two looks at the files of rules, for changes: 1 to 3,600; 0: none is taken.
    pub watch_s: u32,
    /// Directories of exclusions: what they match is kept from rules, and shipped.
    pub exclusions: Vec<PathBuf>,
    /// A YAML file with the values that `|expand` puts in the place of names.
    pub placeholders: Option<PathBuf>,
    /// Log sources that are taken as flows besides network_connection, firewall, netflow and
    /// zeek conn.
    pub logsource: Vec<Logsource>,
    /// Ids of rules that are enabled although an item under `not` names a field that flows lack.
    pub enable: Vec<String>,
    /// Ids of rules that are not loaded.
    pub disable: Vec<String>,
    /// Where the ids of rules in this table are written.
    #[serde(skip)]
    pub written: Written,
    /// `[[rules.feed]]`: lists of indicators.
    pub feed: Vec<Feed>,
    /// Matches and alerts that wait for their turn before correlations and suppression, at most:
    /// 1,024 to 10,000,000. On live input more are shed.
    pub waiting_max: usize,
    /// Memory of the groups of all correlations, in octets: 1 MiB to 1 TiB. Of the one that takes
    /// most, the group that was not touched for longest makes room.
    pub correlation_bytes_max: usize,
    /// Memory of the groups of one correlation: 1 MiB to `correlation_bytes_max`.
    pub correlation_rule_bytes_max: usize,
    /// Groups that suppression keeps, at most: 1 to 1,000,000. The one idle for longest makes room.
    pub suppress_groups_max: usize,
    /// Rules of which not every alert leaves.
    pub suppress: Vec<Suppress>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            watch_s: 5,
            exclusions: Vec::new(),
            placeholders: None,
            logsource: Vec::new(),
            enable: Vec::new(),
            disable: Vec::new(),
            written: Written::default(),
            feed: Vec::new(),
            waiting_max: 262_144,
            correlation_bytes_max: 512 << 20,
            correlation_rule_bytes_max: 256 << 20,
            suppress_groups_max: 65_536,
            suppress: Vec::new(),
        }
    }
}

/// `[[rules.suppress]]`: of each group of a rule's alerts, at most so many leave in a window.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Suppress {
    /// Id of a rule, or `*`: every rule that no other entry names, each for itself.
    pub rule: String,
    /// Fields of the alert's flow, by any name that rules know; alerts of equal values make a
    /// group. Empty: all alerts of the rule do. At most 8.
    pub by: Vec<String>,
    /// Alerts of a group that leave in a window: 1 to 100.
    pub alerts: u32,
    /// Length of the window in seconds: 1 to 2,592,000.
    pub window_s: u32,
}

impl Rules {
    /// The ids of rules that the table names, each with its key.
    pub fn named(&self) -> impl Iterator<Item = (String, &str)> {
        fn each<'a>(key: &str, ids: &'a [String]) -> impl Iterator<Item = (String, &'a str)> {
            ids.iter().enumerate().map(move |(at, id)| (format!("rules.{key}[{at}]"), &**id))
        }
        let suppress = self.suppress.iter().enumerate();
        let suppress = suppress.filter(|(_, suppress)| suppress.rule != "*");
        let suppress =
            suppress.map(|(at, suppress)| (format!("rules.suppress[{at}].rule"), &*suppress.rule));
        each("enable", &self.enable).chain(each("disable", &self.disable)).chain(suppress)
    }
}

impl Default for Suppress {
    fn default() -> Self {
        Self { rule: String::new(), by: Vec::new(), alerts: 5, window_s: 3_600 }
    }
}

/// Where keys are written, for what is known to be wrong of them only later.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// The file; empty if the configuration did not come from one.
    pub file: String,
    /// Keys, each with its line.
    pub lines: Vec<(String, u32)>,
}

impl Written {
    /// File and line of a key.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<(&str, u32)> {
        let (_, line) = self.lines.iter().find(|(known, _)| known == key)?;
        Some((&self.file, *line))
    }
}

/// A Sigma log source; what is absent matches anything.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are Sigma's")]
pub struct Logsource {
    pub category: Option<String>,
    pub product: Option<String>,
    pub service: Option<String>,
}

/// `[admin]`: metrics, health and exporters over HTTP.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address to bind; loopback by default. No TLS, no login: keep it local.
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9477))) }
    }
}

/// `[[site]]`: flows of different sites never meet, even if their addresses overlap.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// Name of the site; unique, not `default`.
    pub name: String,
    /// Networks of its exporters; the longest match wins.
    pub exporters: Vec<Cidr>,
}

/// `[[exporter]]`: static knowledge of one exporter.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exporter {
    /// Its address; required.
    pub address: Addr,
    /// Its name.
    pub name: Option<String>,
    /// Sampling interval where it does not export one: at least 1 (unsampled).
    pub sampling_interval: Option<u32>,
    /// Names of its interfaces by ifIndex.
    pub interfaces: BTreeMap<String, String>,
    /// What its IE 23 and 24 mean.
    pub profile: Profile,
}

/// How an exporter uses IE 23 (postOctetDeltaCount) and 24 (postPacketDeltaCount).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As IANA says: counters after a middlebox; they add nothing to a flow.
    #[default]
    Iana,
    /// As nProbe does: counters of the reverse direction.
    Nprobe,
}
