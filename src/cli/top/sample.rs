//! What the admin listener tells at one moment, and what two moments tell together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::api;
use crate::cli::Failure;

/// Metric name, then labels as written, to value.
type Metrics = BTreeMap<String, Vec<(String, f64)>>;

/// One moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Since the epoch.
    pub at: Duration,
    pub metrics: Metrics,
    pub exporters: Value,
    pub rules: Option<Value>,
    pub activity: Value,
}

impl Sample {
    pub(super) fn take(address: SocketAddr) -> Result<Self, Failure> {
        let fetch = |path| {
            api::fetch(address, path).map_err(|error| {
                Failure::Invalid(format!("no running sensor answers at {address}: {error}"))
            })
        };
        let json = |path| -> Result<Value, Failure> {
            serde_json::from_str(&fetch(path)?).map_err(|error| {
                let text = format!("what answers at {address} is no sensor: {path}: {error}");
                Failure::Invalid(text)
            })
        };
        Ok(Self {
            metrics: parse(&fetch("/metrics")?),
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            exporters: json("/exporters")?,
            rules: json("/rules").ok(),
            activity: json("/activity")?,
        })
    }

    /// The sum of a metric over its labels.
    fn sum(&self, name: &str) -> f64 {
        // The sum of nothing is -0 otherwise.
        self.series(name).iter().map(|(_, value)| value).sum::<f64>() + 0.0
    }

    fn series(&self, name: &str) -> &[(String, f64)] {
        self.metrics.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn value(&self, name: &str, labels: &str) -> f64 {
        let found = self.series(name).iter().find(|(have, _)| have == labels);
        found.map_or(0.0, |(_, value)| *value)
    }
}

/// OpenMetrics text to values.
pub(super) fn parse(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        let Ok(value) = value.parse() else { continue };
        metrics.entry(name.to_owned()).or_default().push((labels.to_owned(), value));
    }
    metrics
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub version: String,
    pub flows: f64,
    pub exporters_known: f64,
    /// The sensor did not answer the last time.
    pub lost: bool,
    /// Name, per second, in total.
    pub rates: Vec<(&'static str, f64, f64)>,
    /// Stage and reason, per second, in total; only what was given up at all.
    pub given_up: Vec<(String, f64, f64)>,
    /// Address and name, records per second, sequence numbers lost, data sets that wait.
    pub exporters: Vec<(String, f64, u64, u64)>,
    /// Name, share of its time spent on work.
    pub threads: Vec<(String, f64)>,
    /// Stage, share of a core, microseconds for each record.
    pub stages: Vec<(String, f64, f64)>,
    /// Median and 99th percentile from a datagram's arrival to the end of detection, microseconds.
    pub latency_us: (f64, f64),
    /// Least, mean and most flows of a shard.
    pub shards: Option<(u64, f64, u64)>,
    /// Address, octets per second.
    pub talkers: Vec<(String, f64)>,
    /// Title, matches, verifications.
    pub rules: Vec<(String, u64, u64)>,
}

const RECORDS: &str = "weir_flow_records_total";
const RATES: [(&str, &str); 8] = [
    ("datagrams", "weir_input_datagrams_total"),
    ("packets", "weir_input_packets_total"),
    ("records", RECORDS),
    ("merged", "weir_flow_records_merged_total"),
    ("duplicate", "weir_flow_records_duplicate_total"),
    ("slices", "weir_flow_slices_shipped_total"),
    ("alerts", "weir_detect_alerts_total"),
    ("written", "weir_output_records_acknowledged_total"),
];

/// Metrics of what is given up, with the word for their stage; "" takes the sink's name.
const LOSSES: [(&str, &str); 7] = [
    ("kernel", "weir_input_kernel_drops_total"),
    ("datagrams", "weir_decode_datagrams_rejected_total"),
    ("packets", "weir_decode_packets_excepted_total"),
    ("data sets", "weir_decode_data_sets_dropped_total"),
    ("records", "weir_flow_records_dropped_total"),
    ("flows: table full", "weir_flow_evicted_total"),
    ("", "weir_output_records_shed_total"),
];

impl View {
    /// What happened between two samples.
    pub(super) fn of(before: &Sample, after: &Sample) -> Self {
        let seconds = (after.at.as_secs_f64() - before.at.as_secs_f64()).max(1e-3);
        let rate = |was: f64, is: f64| ((is - was) / seconds).max(0.0);
        let rates = RATES.iter().map(|&(word, metric)| {
            let (was, is) = (before.sum(metric), after.sum(metric));
            (word, rate(was, is), is)
        });
        let mut given_up = Vec::new();
        for (stage, metric) in LOSSES {
            for (labels, total) in after.series(metric).iter().filter(|(_, total)| *total > 0.0) {
                let per_second = rate(before.value(metric, labels), *total);
                given_up.push((loss(stage, labels), per_second, *total));
            }
        }
        let busy = "weir_thread_busy_microseconds_total";
        let threads = after.series(busy).iter().map(|(labels, is)| {
            let share = rate(before.value(busy, labels), *is) / 1e6;
            (label(labels, "thread").to_owned(), share.min(1.0))
        });
        let records = rate(before.sum(RECORDS), after.sum(RECORDS));
        let spent = "weir_stage_cpu_microseconds_total";
        let stages = after.series(spent).iter().map(|(labels, is)| {
            let share = rate(before.value(spent, labels), *is) / 1e6;
            let each = if records > 0.0 { share * 1e6 / records } else { 0.0 };
            (label(labels, "stage").to_owned(), share, each)
        });
        let quantile = |q| {
            let name = "weir_detection_latency_quantile_microseconds";
            after.value(name, &format!("quantile=\"{q}\""))
        };
        let version = after.series("weir_build_info").first();
        Self {
            version: version.map_or("", |(labels, _)| label(labels, "version")).to_owned(),
            flows: after.sum("weir_flow_table_entries"),
            exporters_known: after.sum("weir_exporters"),
            lost: false,
            rates: rates.collect(),
            given_up,
            exporters: exporters(&before.exporters, &after.exporters, seconds),
            threads: threads.collect(),
            stages: stages.collect(),
            latency_us: (quantile("0.5"), quantile("0.99")),
            shards: shards(&after.activity["shards"]),
            talkers: talkers(&after.activity["talkers"]),
            rules: after.rules.as_ref().map(rules).unwrap_or_default(),
        }
    }
}

fn loss(stage: &str, labels: &str) -> String {
    let stage = if stage.is_empty() { label(labels, "sink") } else { stage };
    let reason = match label(labels, "reason") {
        "" => label(labels, "input"),
        reason => reason,
    };
    if reason.is_empty() { stage.to_owned() } else { format!("{stage}: {reason}") }
}

/// The value of a label; "" where it is not there.
fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let of = |part: &'a str| part.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"');
    labels.split(',').find_map(of).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `seconds` lie between the two reports. One that is new in the later has the rate that it tells.
fn exporters(before: &Value, after: &Value, seconds: f64) -> Vec<(String, f64, u64, u64)> {
    let who = |report: &Value| {
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        (text("address"), text("site"), report["port"].as_u64())
    };
    let was: BTreeMap<_, _> =
        list(before).iter().filter_map(|r| Some((who(r), r["records"].as_u64()?))).collect();
    let mut found: Vec<_> = list(after)
        .iter()
        .map(|report| {
            let address = report["address"].as_str().unwrap_or_default();
            let name = report["name"].as_str().map(|name| format!(" {name}"));
            let waiting = list(&report["waiting"]).iter().filter_map(|w| w["sets"].as_u64());
            // One address that exports from several ports has a line for each.
            let of_address = list(after).iter().filter(|r| r["address"] == report["address"]);
            let port = report["port"].as_u64().filter(|_| of_address.count() > 1);
            let port = port.map(|port| format!(" port {port}"));
            let records = report["records"].as_u64().zip(was.get(&who(report)).copied());
            let rate = records.filter(|&(is, was)| is >= was && seconds >= 0.1);
            let rate = rate.map(|(is, was)| (is - was) as f64 / seconds);
            (
                format!("{address}{}{}", port.unwrap_or_default(), name.unwrap_or_default()),
                rate.or_else(|| report["records_per_s"].as_f64()).unwrap_or_default(),
                report["sequence"]["lost"].as_u64().unwrap_or_default(),
                waiting.sum(),
            )
        })
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found
}

fn shards(counts: &Value) -> Option<(u64, f64, u64)> {
    let counts: Vec<u64> = list(counts).iter().filter_map(Value::as_u64).collect();
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    Some((*counts.iter().min()?, mean, *counts.iter().max()?))
}

fn talkers(talkers: &Value) -> Vec<(String, f64)> {
    let talker = |t: &Value| Some((t["address"].as_str()?.to_owned(), t["octets_per_s"].as_f64()?));
    list(talkers).iter().filter_map(talker).collect()
}

fn rules(rules: &Value) -> Vec<(String, u64, u64)> {
    let rules = rules.get("rules").unwrap_or(rules);
    let rule = |r: &Value| {
        let count = |key: &str| r[key].as_u64().unwrap_or_default();
        Some((r["title"].as_str()?.to_owned(), count("matched"), count("verified")))
    };
    let mut rules: Vec<_> = list(rules).iter().filter_map(rule).filter(|r| r.1 > 0).collect();
    rules.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rules
}
