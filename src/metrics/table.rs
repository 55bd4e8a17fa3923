//! The one table of metric names, and how each is read off a [`Snapshot`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Counts, Delivery, FileCounts, KafkaClient, Latency, Snapshot, TeeCounts};

/// One metric: its name without the suffix that its kind adds, its labels and its help.
#[derive(Debug)]
pub struct Metric {
    /// Name; counters get `_total` on the way out.
    pub name: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// Label names; each is a closed set, or the configured sinks and threads.
    pub labels: &'static [&'static str],
    /// What it counts, without a full stop.
    pub help: &'static str,
    read: fn(&Snapshot) -> Samples,
}

type Samples = Vec<(Vec<String>, u64)>;

fn one(value: u64) -> Samples {
    vec![(Vec::new(), value)]
}

fn named<const N: usize>(values: [(&str, u64); N]) -> Samples {
    values.into_iter().map(|(name, value)| (vec![name.to_owned()], value)).collect()
}

fn by(counts: &Counts) -> Samples {
    counts.iter().map(|(reason, n)| (vec![reason.to_owned()], n)).collect()
}

fn by_sink(snapshot: &Snapshot, read: fn(&super::ledger::Sink) -> u64) -> Samples {
    let sinks = snapshot.ledgers.sinks.iter();
    sinks.map(|(name, sink)| (vec![name.clone()], read(sink))).collect()
}

fn by_delivery(snapshot: &Snapshot, read: fn(&Delivery) -> u64) -> Samples {
    let sinks = snapshot.deliveries.iter();
    sinks.map(|(name, delivery)| (vec![name.clone()], read(delivery))).collect()
}

fn by_files(snapshot: &Snapshot, read: fn(&FileCounts) -> u64) -> Samples {
    let sinks = snapshot.files.iter();
    sinks.map(|(name, files)| (vec![name.clone()], read(files))).collect()
}

fn by_tee(snapshot: &Snapshot, read: fn(&TeeCounts) -> u64) -> Samples {
    let tees = snapshot.tees.iter();
    tees.map(|(name, tee)| (vec![name.clone()], read(tee))).collect()
}

fn by_client(snapshot: &Snapshot, read: fn(&KafkaClient) -> u64) -> Samples {
    let clients = snapshot.kafka.iter();
    clients.map(|(name, client)| (vec![name.clone()], read(client))).collect()
}

fn by_correlation(snapshot: &Snapshot, read: fn(&super::ledger::Correlated) -> u64) -> Samples {
    let correlations = snapshot.ledgers.detections.correlations.iter();
    correlations.map(|(rule, counts)| (vec![rule.clone()], read(counts))).collect()
}

macro_rules! metrics {
    ($($kind:ident $name:literal [$($label:literal),*] $help:literal = $read:expr;)*) => {
        /// Every metric, in the order of the docs.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            counter: metrics!(@ $kind),
            labels: &[$($label),*],
            help: $help,
            read: $read,
        }),*];
    };
    (@ counter) => { true };
    (@ gauge) => { false };
}

metrics! {
    counter "weir_input_datagrams" [] "Export datagrams received"
        = |s| one(s.ledgers.datagrams.received);
    counter "weir_input_packets" [] "Packets read from interfaces and captures"
        = |s| one(s.ledgers.packets.read);
    counter "weir_input_kernel_drops" ["input"] "Datagrams and packets that the kernel dropped"
        = |s| vec![
            (vec!["netflow".into()], s.ledgers.datagrams.kernel_drops),
            (vec!["capture".into()], s.ledgers.packets.kernel_drops),
        ];
    counter "weir_input_socket_drops" ["reader", "address"]
        "Datagrams that the kernel dropped, by reader and socket"
        = |s| s.socket_drops.iter().map(|(reader, address, dropped)| {
            (vec![reader.clone(), address.clone()], *dropped)
        }).collect();
    counter "weir_input_interface_losses" []
        "How often the captured interface was found down or gone; the sensor waits for it"
        = |s| one(s.interfaces_lost);
    counter "weir_decode_datagrams" [] "Datagrams decoded"
        = |s| one(s.ledgers.datagrams.decoded);
    counter "weir_decode_datagrams_rejected" ["reason"] "Datagrams rejected"
        = |s| by(&s.ledgers.datagrams.rejected);
    counter "weir_decode_packets_metered" [] "Packets that became a part of a flow"
        = |s| one(s.ledgers.packets.metered);
    counter "weir_decode_packets_excepted" ["reason"] "Packets that belong to no flow"
        = |s| by(&s.ledgers.packets.excepted);
    counter "weir_decode_packets_giant" [] "Metered packets that receive offload joined"
        = |s| one(s.ledgers.packets.giants);
    counter "weir_decode_data_sets_seen" [] "Data sets of NetFlow v9 and IPFIX seen"
        = |s| one(s.ledgers.data_sets.seen);
    counter "weir_decode_data_sets" [] "Data sets decoded"
        = |s| one(s.ledgers.data_sets.decoded);
    counter "weir_decode_data_sets_dropped" ["reason"] "Data sets dropped"
        = |s| by(&s.ledgers.data_sets.dropped);
    gauge "weir_decode_data_sets_waiting" [] "Data sets that wait for their template"
        = |s| one(s.ledgers.data_sets.waiting);
    gauge "weir_decode_data_sets_waiting_bytes" [] "Octets that wait for their template"
        = |s| one(s.ledgers.data_sets.waiting_octets);
    gauge "weir_exporters" [] "Exporters with state"
        = |s| one(s.exporters.exporters);
    counter "weir_exporter_dropped" ["reason"] "Exporters that made room or were silent for too long"
        = |s| named([("evicted", s.exporters.evicted), ("expired", s.exporters.expired)]);
    gauge "weir_exporter_templates" [] "Templates of all exporters"
        = |s| one(s.exporters.templates);
    counter "weir_exporter_template_events" ["event"] "What happened to templates"
        = |s| named([
            ("defined", s.exporters.templates_defined),
            ("redefined", s.exporters.templates_redefined),
            ("withdrawn", s.exporters.templates_withdrawn),
            ("expired", s.exporters.templates_expired),
            ("evicted", s.exporters.templates_evicted),
            ("refused", s.exporters.templates_refused),
        ]);
    counter "weir_exporter_template_data_sets" ["template"]
        "Data sets decoded by another port's template or by one from before a restart"
        = |s| named([
            ("inherited", s.exporters.sets_inherited),
            ("unconfirmed", s.exporters.sets_unconfirmed),
        ]);
    counter "weir_exporter_sequence_missing" []
        "Units of the exporters' sequence numbers that did not come in their turn"
        = |s| one(s.exporters.sequence_missing);
    counter "weir_exporter_sequence_recovered" []
        "Those of them that came late; the others are lost"
        = |s| one(s.exporters.sequence_recovered);
    counter "weir_exporter_sequence_reordered" [] "Datagrams that came late and filled a gap"
        = |s| one(s.exporters.sequence_reordered);
    counter "weir_exporter_times_clamped" [] "Flow times that were not plausible"
        = |s| one(s.exporters.times_clamped);
    counter "weir_exporter_sampling_unknown" []
        "Flow records of which the sampling interval is not known"
        = |s| one(s.exporters.sampling_unknown);
    counter "weir_exporter_options_full" [] "Entries of options data that found no room in a table"
        = |s| one(s.exporters.options_full);
    counter "weir_flow_records" [] "Records and packets that reached the accounting of records"
        = |s| one(s.ledgers.records.decoded);
    counter "weir_flow_records_merged" [] "Records merged into a flow"
        = |s| one(s.ledgers.records.merged);
    counter "weir_flow_records_duplicate" [] "Records of points that do not own the direction"
        = |s| one(s.ledgers.records.duplicate);
    counter "weir_flow_records_not_a_flow" ["kind"] "Options and events"
        = |s| by(&s.ledgers.records.not_a_flow);
    counter "weir_flow_records_dropped" ["reason"] "Records dropped"
        = |s| by(&s.ledgers.records.dropped);
    gauge "weir_flow_table_entries" [] "Flows in the tables"
        = |s| one(s.entries);
    counter "weir_flow_evicted" [] "Flows that ended for another to have room: the table was full"
        = |s| one(s.ledgers.slices.evicted);
    gauge "weir_overload_stage" [] "What gives way to overload: 0 nothing, 1 scoring, 2 slices without a tag too"
        = |s| one(s.overload as u64);
    counter "weir_flow_slices_opened" [] "Slices opened"
        = |s| one(s.ledgers.slices.opened);
    counter "weir_flow_slices_shipped" [] "Slices cut and handed to the output"
        = |s| one(s.ledgers.slices.shipped);
    gauge "weir_flow_slices_held" [] "Slices open now"
        = |s| one(s.ledgers.slices.held);
    counter "weir_detect_alerts" ["level"] "Alerts"
        = |s| by(&s.ledgers.detections.alerts);
    counter "weir_detect_alerts_suppressed" ["rule"]
        "Alerts that suppression held back; of rules beyond the first 256 as other"
        = |s| s.ledgers.detections.suppressed.iter()
            .map(|(rule, &n)| (vec![rule.clone()], n)).collect();
    gauge "weir_suppression_groups" [] "Groups of alerts that suppression keeps"
        = |s| one(s.ledgers.detections.suppression_groups);
    counter "weir_suppression_groups_evicted" [] "Groups of suppression that made room for others"
        = |s| one(s.ledgers.detections.suppression_evicted);
    counter "weir_correlation_matches" ["rule"]
        "Matches of base rules that a correlation counted; of those beyond the first 256 as other"
        = |s| by_correlation(s, |c| c.matches);
    counter "weir_correlation_matches_without_value" ["rule"]
        "Matches that had no value for the correlation to count"
        = |s| by_correlation(s, |c| c.without_value);
    counter "weir_correlation_found" ["rule"] "How often the correlation's condition became true"
        = |s| by_correlation(s, |c| c.found);
    gauge "weir_correlation_groups" ["rule"] "Groups of the correlation"
        = |s| by_correlation(s, |c| c.groups);
    gauge "weir_correlation_bytes" ["rule"] "Octets of memory of the correlation's groups"
        = |s| by_correlation(s, |c| c.bytes);
    counter "weir_correlation_groups_evicted" ["rule"]
        "Groups dropped for lack of memory while something was in their windows"
        = |s| by_correlation(s, |c| c.evicted);
    counter "weir_exchange_messages" [] "Matches for correlations and alerts for suppression"
        = |s| one(s.ledgers.exchange.sent);
    counter "weir_exchange_messages_handled" [] "Those whose turn came"
        = |s| one(s.ledgers.exchange.handled);
    counter "weir_exchange_messages_shed" ["reason"] "Those that found no room"
        = |s| by(&s.ledgers.exchange.shed);
    gauge "weir_exchange_messages_waiting" [] "Those that wait for their turn"
        = |s| one(s.ledgers.exchange.waiting);
    gauge "weir_detect_rules" ["result"] "Rules loaded and rejected"
        = |s| vec![
            (vec!["loaded".into()], s.rules.0),
            (vec!["rejected".into()], s.rules.1),
        ];
    gauge "weir_detect_filters" [] "Filters loaded"
        = |s| one(s.filters.0);
    gauge "weir_detect_exclusions" [] "Exclusions loaded"
        = |s| one(s.filters.1);
    counter "weir_detect_matches_passed_over" []
        "Matches that did not fire, as their flow remembers 1,024 rules that did; at each look at it"
        = |s| one(s.ledgers.detections.passed_over);
    counter "weir_detect_flows_excluded" ["exclusion"]
        "Flows that an exclusion kept from rules, by the exclusion's id"
        = |s| s.excluded.iter().map(|(id, n)| (vec![id.clone()], *n)).collect();
    counter "weir_model_slices" [] "Slices that the sequence model was shown"
        = |s| one(s.ledgers.sequences.slices);
    counter "weir_model_events" ["as"]
        "Slices that became an event in their pair's window, new or joined to one"
        = |s| named([
            ("new", s.ledgers.sequences.events),
            ("joined", s.ledgers.sequences.joined),
        ]);
    counter "weir_model_slices_passed_over" ["reason"] "Slices that the model has no use for"
        = |s| by(&s.ledgers.sequences.passed_over);
    counter "weir_model_events_late" [] "Events older than everything in a full window"
        = |s| one(s.ledgers.sequences.late);
    counter "weir_model_windows_scored" ["class"] "Windows scored, by what came of it"
        = |s| by(&s.ledgers.sequences.scored);
    counter "weir_model_windows_failed" [] "Windows that the model failed on"
        = |s| one(s.ledgers.sequences.failed);
    counter "weir_model_turns_put_off" []
        "How often a pair's turn was put off by a second, as the budget was spent"
        = |s| one(s.ledgers.sequences.put_off);
    gauge "weir_model_pairs_waiting" [] "Pairs that are ready to be scored"
        = |s| one(s.ledgers.sequences.waiting);
    counter "weir_model_alerts" ["class"] "Alerts of the model"
        = |s| by(&s.ledgers.sequences.alerts);
    gauge "weir_model_pairs" [] "Pairs whose last flows are kept"
        = |s| one(s.ledgers.sequences.pairs);
    counter "weir_model_pairs_evicted" [] "Pairs that made room for others"
        = |s| one(s.ledgers.sequences.pairs_evicted);
    gauge "weir_model_connections" [] "Connections that may go on"
        = |s| one(s.ledgers.sequences.connections);
    counter "weir_model_connections_evicted" []
        "Connections that made room for others while they could have gone on"
        = |s| one(s.ledgers.sequences.connections_evicted);
    gauge "weir_model_hosts" [] "Hosts whose hours of octets out are kept"
        = |s| one(s.ledgers.sequences.hosts);
    counter "weir_model_hosts_evicted" [] "Hosts that made room for others"
        = |s| one(s.ledgers.sequences.hosts_evicted);
    counter "weir_output_records_selected" ["sink"] "Slices and alerts that a sink takes"
        = |s| by_sink(s, |sink| sink.selected);
    counter "weir_output_records_acknowledged" ["sink"] "Written for good"
        = |s| by_sink(s, |sink| sink.acknowledged);
    gauge "weir_output_records_spooled" ["sink"]
        "Accepted, not yet written for good: how far the sink lags behind, in records"
        = |s| by_sink(s, |sink| sink.spooled);
    counter "weir_output_records_shed" ["sink", "reason"] "Given up"
        = |s| s.ledgers.sinks.iter().flat_map(|(name, sink)| {
            sink.shed.iter().map(|(reason, n)| (vec![name.clone(), reason.to_owned()], n))
        }).collect();
    gauge "weir_output_oldest_microseconds" ["sink"]
        "Age of the oldest record that waits for the sink; 0 if none does"
        = |s| by_delivery(s, |sink| sink.oldest_us);
    counter "weir_output_units" ["sink"]
        "Units that the other side acknowledged: requests, objects, batches of messages"
        = |s| by_delivery(s, |sink| sink.units);
    counter "weir_output_bytes" ["sink"]
        "Octets that the other side acknowledged, as encoded and compressed"
        = |s| by_delivery(s, |sink| sink.octets);
    counter "weir_output_retries" ["sink"] "Attempts to deliver a unit after the first"
        = |s| by_delivery(s, |sink| sink.retries);
    counter "weir_output_errors" ["sink", "reason"] "Attempts to deliver a unit that failed"
        = |s| s.deliveries.iter().flat_map(|(name, sink)| {
            sink.errors.iter().map(|(reason, n)| (vec![name.clone(), reason.to_owned()], n))
        }).collect();
    gauge "weir_spool_segments" [] "Segments of the spool on disk"
        = |s| one(s.spool.segments);
    gauge "weir_spool_bytes" [] "Octets of the segments on disk"
        = |s| one(s.spool.octets);
    gauge "weir_spool_bytes_max" [] "Octets that the segments may have: spool.bytes_max"
        = |s| one(s.spool.octets_max);
    gauge "weir_spool_records_queued" [] "Slices and alerts in memory that wait to be appended"
        = |s| one(s.spool.queued);
    counter "weir_spool_records_appended" [] "Slices and alerts appended to the spool"
        = |s| one(s.spool.appended);
    counter "weir_spool_bytes_appended" [] "Octets of the frames appended"
        = |s| one(s.spool.appended_octets);
    counter "weir_spool_bytes_damaged" [] "Octets of the spool that could not be read back"
        = |s| one(s.spool.damaged_octets);
    counter "weir_spool_bytes_torn" []
        "Octets that a crash left unfinished at the end of the spool, cut off at the start"
        = |s| one(s.spool.torn_octets);
    counter "weir_spool_errors" ["step"]
        "Steps of the spool that failed: write, sync, cursor, remove, dead_letter"
        = |s| by(&s.spool.errors);
    counter "weir_output_files" ["sink"] "Files that were finished"
        = |s| by_files(s, |sink| sink.files);
    counter "weir_output_file_bytes" ["sink"] "Their octets"
        = |s| by_files(s, |sink| sink.octets);
    counter "weir_output_files_recovered" ["sink"]
        "Unfinished files of an earlier run, kept up to their last whole record"
        = |s| by_files(s, |sink| sink.recovered);
    counter "weir_output_files_broken" ["sink"]
        "Unfinished files of an earlier run that cannot be read, kept aside"
        = |s| by_files(s, |sink| sink.broken);
    counter "weir_output_files_removed" ["sink", "reason"]
        "Finished files that were removed: age (keep_s), size (keep_bytes), disk_full"
        = |s| s.files.iter().flat_map(|(name, sink)| {
            sink.removed.iter().map(|(reason, n)| (vec![name.clone(), reason.to_owned()], n))
        }).collect();
    counter "weir_output_file_bytes_removed" ["sink"] "Their octets"
        = |s| by_files(s, |sink| sink.removed_octets);
    counter "weir_tee_datagrams" ["tee"] "Datagrams that were sent on as they came"
        = |s| by_tee(s, |tee| tee.sent);
    counter "weir_tee_bytes" ["tee"] "Octets of their payload"
        = |s| by_tee(s, |tee| tee.octets);
    counter "weir_tee_datagrams_own_source" ["tee"]
        "Those of them that left with this host's address, not the exporter's"
        = |s| by_tee(s, |tee| tee.own_source);
    gauge "weir_tee_datagrams_queued" ["tee"] "Datagrams that wait to be sent on"
        = |s| by_tee(s, |tee| tee.queued);
    counter "weir_tee_datagrams_dropped" ["tee", "reason"]
        "Not sent on: queue_full, too_long (for the interface), no_buffers, unreachable, refused, other"
        = |s| s.tees.iter().flat_map(|(name, tee)| {
            tee.dropped.iter().map(|(reason, n)| (vec![name.clone(), reason.to_owned()], n))
        }).collect();
    gauge "weir_kafka_queue_records" ["sink"]
        "Records that librdkafka holds, until the brokers acknowledge them"
        = |s| by_client(s, |client| client.queue_records);
    gauge "weir_kafka_queue_octets" ["sink"] "Their octets"
        = |s| by_client(s, |client| client.queue_octets);
    counter "weir_kafka_sent_octets" ["sink"] "Sent to brokers, compressed, protocol included"
        = |s| by_client(s, |client| client.sent_octets);
    counter "weir_kafka_received_octets" ["sink"] "Received from brokers"
        = |s| by_client(s, |client| client.received_octets);
    counter "weir_kafka_requests" ["sink"] "Requests to brokers"
        = |s| by_client(s, |client| client.requests);
    counter "weir_kafka_request_errors" ["sink"] "Requests that could not be sent"
        = |s| by_client(s, |client| client.errors);
    counter "weir_kafka_request_retries" ["sink"] "Requests that were sent again"
        = |s| by_client(s, |client| client.retries);
    counter "weir_kafka_request_timeouts" ["sink"] "Requests without an answer in time"
        = |s| by_client(s, |client| client.timeouts);
    gauge "weir_kafka_brokers_up" ["sink"] "Brokers with a connection that stands"
        = |s| by_client(s, |client| client.brokers_up);
    gauge "weir_kafka_round_trip_microseconds" ["sink"]
        "99th percentile of the slowest broker's round trips"
        = |s| by_client(s, |client| client.round_trip_us);
    counter "weir_thread_heartbeats" ["thread"] "Turns of the thread's loop"
        = |s| s.threads.iter().map(|(name, beats, _)| (vec![name.clone()], *beats)).collect();
    counter "weir_shards_moved" [] "Shards that went from one worker to another for an even load"
        = |s| one(s.shards_moved);
    counter "weir_thread_busy_microseconds" ["thread"] "Time spent on work"
        = |s| s.threads.iter().map(|(name, _, busy)| (vec![name.clone()], *busy)).collect();
    counter "weir_thread_run_delay_microseconds" ["thread"]
        "Time that a thread was ready to run and had no core: what other work on the host took"
        = |s| s.run_delays.iter().map(|(name, delay)| (vec![name.clone()], *delay)).collect();
    counter "weir_stage_cpu_microseconds" ["stage"]
        "CPU time of each stage of the path, from a share of the batches"
        = |s| s.stages.iter().map(|&(stage, micros)| (vec![stage.to_owned()], micros)).collect();
    gauge "weir_detection_latency_quantile_microseconds" ["quantile"]
        "The share of datagrams that the label says took no longer to be detected on, since the start"
        = |s| named([("0.5", 0.5), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)]
            .map(|(label, quantile)| (label, s.detection_latency.quantile_us(quantile))));
    counter "weir_config_reloads" ["result"] "Reloads of configuration and rules"
        = |s| vec![
            (vec!["success".into()], s.reloads.0),
            (vec!["failure".into()], s.reloads.1),
        ];
    gauge "weir_alert_latency_quantile_microseconds" ["quantile"]
        "The share of alerts that the label says took no longer, since the start"
        = |s| named([("0.5", 0.5), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)]
            .map(|(label, quantile)| (label, s.alert_latency.quantile_us(quantile))));
    counter "weir_detect_rules_changed" ["change"] "Rules, correlations and exclusions that reloads added, removed and changed"
        = |s| {
            let [added, removed, changed] = s.rules_changed;
            named([("added", added), ("removed", removed), ("changed", changed)])
        };
    gauge "weir_config_last_reload_success_timestamp_seconds" [] "When the last load succeeded"
        = |s| one(s.loaded_at_s);
    gauge "weir_build_info" ["version"] "Always 1; the label says which build runs"
        = |_| vec![(vec![env!("CARGO_PKG_VERSION").into()], 1)];
}

/// A histogram of lengths of time, with the buckets of [`Latency::buckets`].
#[derive(Debug)]
pub struct Histogram {
    /// Name, with its unit.
    pub name: &'static str,
    /// What it measures, without a full stop.
    pub help: &'static str,
    read: fn(&Snapshot) -> &Latency,
}

/// Every histogram.
pub const HISTOGRAMS: &[Histogram] = &[
    Histogram {
        name: "weir_alert_latency_seconds",
        help: "From the arrival of the datagram or packet that raised an alert, by the kernel's \
               clock, to the return of the alert's append to the spool; to its handing to the \
               outputs where no sink behind the spool takes alerts",
        read: |s| &s.alert_latency,
    },
    Histogram {
        name: "weir_spool_append_seconds",
        help: "From the handing over of a batch to the return of its append to the spool",
        read: |s| &s.spool.append,
    },
    Histogram {
        name: "weir_detection_latency_seconds",
        help: "From the arrival of a datagram or packet, by the kernel's clock, to the end of \
               detection on the last of its records",
        read: |s| &s.detection_latency,
    },
];

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let kind = if metric.counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (values, value) in (metric.read)(&self.0) {
                let names = metric.labels.iter().copied();
                let labels: Vec<(&str, String)> = names.zip(values).collect();
                if labels.is_empty() {
                    encode(metric, value, &mut family)?;
                } else {
                    encode(metric, value, &mut family.encode_family(&labels)?)?;
                }
            }
        }
        for histogram in HISTOGRAMS {
            let (name, kind) = (histogram.name, MetricType::Histogram);
            let mut family = encoder.encode_descriptor(name, histogram.help, None, kind)?;
            let latency = (histogram.read)(&self.0);
            let (sum, count) = (latency.sum_s(), latency.count());
            family.encode_histogram::<NoLabelSet>(sum, count, &latency.buckets(), None)?;
        }
        Ok(())
    }
}

fn encode(metric: &Metric, value: u64, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    if metric.counter {
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    } else {
        encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// Renders `snapshot` as OpenMetrics text 1.0.0.
///
/// # Panics
/// Never: writing to a string does not fail.
#[must_use]
pub fn open_metrics(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all");
    text
}

/// The table of metrics as Markdown: `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed as OpenMetrics text on `GET /metrics` of the admin address. This page \
         is generated\nfrom the table in `src/metrics/table.rs`; a test holds it fresh.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let (kind, suffix) = if metric.counter { ("counter", "_total") } else { ("gauge", "") };
        let (name, labels) = (metric.name, metric.labels.join(", "));
        text.push_str(&format!("| `{name}{suffix}` | {kind} | {labels} | {} |\n", metric.help));
    }
    for Histogram { name, help, .. } in HISTOGRAMS {
        text.push_str(&format!("| `{name}` | histogram |  | {help} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_open_metrics() {
        let mut snapshot = Snapshot { entries: 7, ..Snapshot::default() };
        snapshot.exporters.templates_evicted = 5;
        snapshot.exporters.expired = 2;
        snapshot.exporters.sequence_missing = 9;
        snapshot.ledgers.datagrams.received = 3;
        snapshot.ledgers.datagrams.rejected.add("truncated", 2);
        snapshot.ledgers.sinks.entry("files".into()).or_default().shed.one("queue_full");
        snapshot.alert_latency.record(150);
        let mut siem =
            Delivery { oldest_us: 8, octets: 7, units: 6, retries: 5, ..Delivery::default() };
        siem.errors.add("http_503", 4);
        snapshot.deliveries.insert("siem".into(), siem);
        snapshot.spool.octets = 11;
        snapshot.spool.append.record(60);
        let text = open_metrics(snapshot);
        for line in [
            "weir_input_datagrams_total 3",
            "weir_decode_datagrams_rejected_total{reason=\"truncated\"} 2",
            "weir_flow_table_entries 7",
            "weir_exporter_template_events_total{event=\"evicted\"} 5",
            "weir_exporter_dropped_total{reason=\"expired\"} 2",
            "weir_exporter_sequence_missing_total 9",
            "weir_exporter_sequence_recovered_total 0",
            "weir_output_records_shed_total{sink=\"files\",reason=\"queue_full\"} 1",
            "weir_output_oldest_microseconds{sink=\"siem\"} 8",
            "weir_output_bytes_total{sink=\"siem\"} 7",
            "weir_output_units_total{sink=\"siem\"} 6",
            "weir_output_retries_total{sink=\"siem\"} 5",
            "weir_output_errors_total{sink=\"siem\",reason=\"http_503\"} 4",
            "weir_spool_bytes 11",
            "weir_spool_append_seconds_bucket{le=\"0.0001\"} 1",
            "weir_alert_latency_seconds_count 1",
            "weir_alert_latency_seconds_bucket{le=\"0.0001\"} 0",
            "weir_alert_latency_seconds_bucket{le=\"0.0002\"} 1",
            "weir_alert_latency_seconds_bucket{le=\"+Inf\"} 1",
            "weir_alert_latency_quantile_microseconds{quantile=\"0.99\"} 150",
            "# TYPE weir_flow_table_entries gauge",
            "# HELP weir_input_datagrams Export datagrams received",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn names_are_unique_and_carry_no_suffix() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(names.iter().all(|name| !name.ends_with("_total") && name.starts_with("weir_")));
    }
}
