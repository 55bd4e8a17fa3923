//! Bounds of every key, reported all together.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use super::{Backend, Config, FeedFormat, custom};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file, empty if the configuration did not come from one.
    pub file: String,
    /// The line, from 1; `None` if nothing of the key is written down.
    pub line: Option<usize>,
    /// The dotted key, empty for a syntax error.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Collects problems.
#[derive(Debug, Default)]
pub struct Report(Vec<Problem>);

impl Report {
    pub(super) fn add(&mut self, key: &str, message: String) {
        let key = key.to_owned();
        self.0.push(Problem { file: String::new(), line: None, key, message });
    }

    pub(super) fn within<T: PartialOrd + fmt::Display + fmt::Debug>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.add(key, format!("{value} is outside {range:?}"));
        }
    }

    pub(super) fn at_most<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        other: &str,
        bound: T,
    ) {
        if value > bound {
            self.add(key, format!("{value} must be at most {other} ({bound})"));
        }
    }

    pub(super) fn unique<'a>(&mut self, keys: impl Iterator<Item = (String, &'a str)>) {
        let mut seen = BTreeSet::new();
        for (key, name) in keys {
            if name.is_empty() {
                self.add(&key, "must not be empty".into());
            } else if !seen.insert(name) {
                self.add(&key, format!("`{name}` is used twice"));
            }
        }
    }

    /// As [`Self::unique`], of ids of rules, which are compared without regard to case.
    fn unique_ids<'a>(&mut self, keys: impl Iterator<Item = (String, &'a str)>) {
        let mut seen = BTreeSet::new();
        for (key, id) in keys {
            if id.is_empty() {
                self.add(&key, "must not be empty".into());
            } else if !seen.insert(id.to_lowercase()) {
                self.add(&key, format!("`{id}` is used twice"));
            }
        }
    }
}

impl Config {
    /// Every value that is out of its bounds; without file and line.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut report = Report::default();
        report.unique(std::iter::once(("sensor.name".to_owned(), self.sensor.name.as_str())));
        self.sensor.workers.check(self.sensor.pin, &mut report);
        custom::check("sensor.fields", &self.sensor.fields, &mut report);
        self.check_inputs(&mut report);
        self.check_netflow(&mut report);
        let listen = &self.input.netflow.listen;
        super::output::tee::check(&self.output.tee, listen, &mut report);
        self.check_flow(&mut report);
        self.check_rules(&mut report);
        self.check_feeds(&mut report);
        self.detect.engine.iter().for_each(|engine| engine.check(&mut report));
        self.output.check(&self.spool, &mut report);
        self.spool.check(&mut report);
        self.model.check(&mut report);
        self.check_places(&mut report);
        report.0
    }

    fn check_inputs(&self, report: &mut Report) {
        let netflow = &self.input.netflow;
        let key = "input.netflow.receive_buffer_bytes";
        report.within(key, netflow.receive_buffer_bytes, 65_536..=1 << 30);
        report.within("input.netflow.readers", netflow.readers, 1..=64);
        report.within("input.netflow.coalesce_us", netflow.coalesce_us, 0..=10_000);
        report.within("input.netflow.busy_poll_us", netflow.busy_poll_us, 0..=1_000_000);
        let listen: Vec<String> = netflow.listen.iter().map(ToString::to_string).collect();
        let listen = listen.iter().enumerate();
        report.unique(listen.map(|(i, at)| (format!("input.netflow.listen[{i}]"), at.as_str())));
        let Some(capture) = &self.input.capture else { return };
        if cfg!(not(feature = "capture")) {
            report.add("input.capture", "this build has no feature `capture`".into());
        }
        if capture.interface.is_empty() {
            report.add("input.capture.interface", "must name an interface".into());
        }
        report.within("input.capture.snaplen", capture.snaplen, 96..=65_535);
        report.within("input.capture.buffer_bytes", capture.buffer_bytes, 1 << 20..=1 << 30);
        report.within("input.capture.readers", capture.readers, 1..=64);
        if capture.backend == Backend::Libpcap && capture.readers > 1 {
            let message = "must be 1 with backend = \"libpcap\"";
            report.add("input.capture.readers", message.into());
        }
    }

    fn check_netflow(&self, report: &mut Report) {
        let n = &self.netflow;
        report.within("netflow.template_lifetime_s", n.template_lifetime_s, 60..=604_800);
        report.within("netflow.exporters_max", n.exporters_max, 1..=1_000_000);
        let key = "netflow.templates_per_exporter_max";
        report.within(key, n.templates_per_exporter_max, 1..=65_280);
        report.at_most(key, n.templates_per_exporter_max, "netflow.templates_max", n.templates_max);
        report.within("netflow.templates_max", n.templates_max, 1..=10_000_000);
        report.within("netflow.exporter_lifetime_s", n.exporter_lifetime_s, 60..=2_592_000);
        report.within("netflow.domains_per_exporter_max", n.domains_per_exporter_max, 1..=65_536);
        let key = "netflow.options_per_exporter_max";
        report.within(key, n.options_per_exporter_max, 1..=1_000_000);
        let key = "netflow.totals_per_exporter_max";
        report.within(key, n.totals_per_exporter_max, 2..=10_000_000);
        let key = "netflow.waiting_per_exporter_bytes_max";
        let (each, all) = (n.waiting_per_exporter_bytes_max, n.waiting_bytes_max);
        report.at_most(key, each, "netflow.waiting_bytes_max", all);
        report.within("netflow.waiting_bytes_max", all, 0..=16 << 30);
        report.within("netflow.reorder_window", n.reorder_window, 0..=1_024);
        report.within("netflow.time_window_s", n.time_window_s, 60..=2_592_000);
    }

    fn check_flow(&self, report: &mut Report) {
        let flow = &self.flow;
        report.within("flow.entries_max", flow.entries_max, 64..=100_000_000);
        let packets = (flow.packets.idle_timeout_s, flow.packets.active_timeout_s);
        let netflow = (flow.netflow.idle_timeout_s, flow.netflow.active_timeout_s);
        for (table, (idle_s, active_s)) in [("packets", packets), ("netflow", netflow)] {
            let idle = format!("flow.{table}.idle_timeout_s");
            let active = format!("flow.{table}.active_timeout_s");
            report.within(&idle, idle_s, 1..=86_400);
            report.within(&active, active_s, 1..=86_400);
            report.at_most(&idle, idle_s, &active, active_s);
        }
        report.within("flow.linger_s", flow.linger_s, 0..=60);
        report.within("flow.tunnel_depth_max", flow.tunnel_depth_max, 1..=8);
        report.within("flow.fragments_max", flow.fragments_max, 64..=16_777_216);
    }

    fn check_rules(&self, report: &mut Report) {
        let rules = &self.rules;
        report.within("rules.watch_s", rules.watch_s, 0..=3_600);
        report.within("rules.waiting_max", rules.waiting_max, 1_024..=10_000_000);
        let (all, each) = (rules.correlation_bytes_max, rules.correlation_rule_bytes_max);
        report.within("rules.correlation_bytes_max", all, 1 << 20..=1 << 40);
        let key = "rules.correlation_rule_bytes_max";
        report.within(key, each, 1 << 20..=1 << 40);
        report.at_most(key, each, "rules.correlation_bytes_max", all);
        report.within("rules.suppress_groups_max", rules.suppress_groups_max, 1..=1_000_000);
        let names = rules.suppress.iter().enumerate();
        let names = names.map(|(i, s)| (format!("rules.suppress[{i}].rule"), s.rule.as_str()));
        report.unique_ids(names);
        for (index, suppress) in rules.suppress.iter().enumerate() {
            let key = |name: &str| format!("rules.suppress[{index}].{name}");
            report.within(&key("alerts"), suppress.alerts, 1..=100);
            report.within(&key("window_s"), suppress.window_s, 1..=2_592_000);
            if suppress.by.len() > 8 {
                let message = format!("{} fields are more than 8", suppress.by.len());
                report.add(&key("by"), message);
            }
        }
    }

    fn check_feeds(&self, report: &mut Report) {
        let mut ids = BTreeSet::new();
        for (index, feed) in self.rules.feed.iter().enumerate() {
            let key = |name: &str| format!("rules.feed[{index}].{name}");
            if feed.path.as_os_str().is_empty() {
                report.add(&key("path"), "must name a file".into());
            }
            let columns = [
                ("column", &feed.column),
                ("title_column", &feed.title_column),
                ("level_column", &feed.level_column),
                ("tags_column", &feed.tags_column),
            ];
            let csv = feed.format == FeedFormat::Csv;
            if csv && feed.column.is_empty() {
                report.add(&key("column"), "must name the column of the indicator".into());
            }
            for (name, column) in columns {
                if !csv && !column.is_empty() {
                    report.add(&key(name), "has a meaning with format = \"csv\" only".into());
                }
                if column == "0" {
                    report.add(&key(name), "0 is outside 1..: columns are counted from 1".into());
                }
            }
            if !feed.id.is_empty() && !ids.insert(feed.id.as_str()) {
                report.add(&key("id"), format!("`{}` is used twice", feed.id));
            }
        }
    }

    fn check_places(&self, report: &mut Report) {
        let default = std::iter::once((String::new(), "default"));
        let names = self.site.iter().enumerate();
        let names = names.map(|(i, site)| (format!("site[{i}].name"), site.name.as_str()));
        report.unique(default.chain(names));
        let mut seen = BTreeSet::new();
        for (index, exporter) in self.exporter.iter().enumerate() {
            let key = |name: &str| format!("exporter[{index}].{name}");
            if exporter.address == crate::net::Addr::UNSPECIFIED {
                report.add(&key("address"), "must name an exporter's address".into());
            } else if !seen.insert(exporter.address) {
                report.add(&key("address"), format!("`{}` is used twice", exporter.address));
            }
            if exporter.sampling_interval == Some(0) {
                report.add(&key("sampling_interval"), "0 is outside 1..".into());
            }
            for interface in exporter.interfaces.keys() {
                if interface.parse::<u32>().is_err() {
                    let message = format!("`{interface}` is not an interface index");
                    report.add(&key(&format!("interfaces.{interface}")), message);
                }
            }
        }
    }
}
