//! What the running sensor tells of itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::reload::Reloads;
use super::shedding::Shedding;
use crate::api::Status;
use crate::decode::netflow::CollectorTotals;
use crate::metrics::{Exporters, Snapshot};
use crate::metrics::{Slot, stages};
use crate::net::Addr;
use crate::pipeline::exporters::ExporterBoard;
use crate::pipeline::worker::Shared;

/// A thread whose heartbeat stands still for this long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// Top talkers that are told.
const TALKERS_SHOWN: usize = 20;
/// Rules, correlations and filters that `/rules` shows.
const RULES_SHOWN: usize = 1_000;

/// The sensor's [`Status`].
#[derive(Debug)]
pub struct SensorStatus {
    shared: Arc<Shared>,
    exporters: Arc<ExporterBoard>,
    reloads: Arc<Reloads>,
    beats: Mutex<Vec<(u64, Instant)>>,
    shedding: Mutex<Shedding>,
}

impl SensorStatus {
    /// Watches the threads of `shared` from now on.
    #[must_use]
    pub fn new(shared: Arc<Shared>, exporters: Arc<ExporterBoard>, reloads: Arc<Reloads>) -> Self {
        let beats = shared.board.slots().iter().map(|slot| (slot.beats(), Instant::now()));
        let beats = Mutex::new(beats.collect());
        Self { shared, exporters, reloads, beats, shedding: Mutex::default() }
    }

    /// The sinks that shed records now, each with a line; who begins and who ends is told in the log.
    pub fn sheds(&self) -> Vec<String> {
        let mut shedding = self.shedding.lock().unwrap_or_else(PoisonError::into_inner);
        shedding.look(&self.shared.outputs.ledgers(), Instant::now())
    }

    /// One line for the service manager.
    #[must_use]
    pub fn line(&self) -> String {
        let ledgers = self.shared.board.ledgers();
        format!(
            "Collecting: {} exporters, {} records, {} flows open, {} slices shipped, {} alerts",
            self.exporters().exporters,
            ledgers.records.decoded,
            self.shared.board.entries(),
            ledgers.slices.shipped,
            ledgers.detections.alerts.total(),
        )
    }

    /// Why the sensor does not run yet; `None` once all its threads do.
    #[must_use]
    pub fn starting(&self) -> Option<String> {
        let slots = self.shared.board.slots().iter().filter(|slot| slot.beats() == 0);
        let names: Vec<&str> = slots.map(Slot::name).collect();
        let waits = || format!("starting: {} not running yet", names.join(", "));
        (!names.is_empty()).then(waits)
    }

    /// The sums of all readers.
    fn exporters(&self) -> Exporters {
        let mut sum = Exporters::default();
        for part in self.exporters.parts() {
            sum.add(&exporters(&part.totals.load()));
        }
        sum
    }

    /// What the kernel dropped of each socket, by reader and address.
    fn socket_drops(&self) -> Vec<(String, String, u64)> {
        let parts = self.exporters.parts().iter().enumerate();
        let sockets =
            parts.flat_map(|(reader, part)| part.sockets.iter().map(move |s| (reader, s)));
        let told = sockets.map(|(reader, socket)| {
            let dropped = socket.dropped.load(Ordering::Relaxed);
            (reader, socket.address.clone(), dropped)
        });
        // A reader may have several sockets of one address, where systemd passed more than readers.
        let mut sums = BTreeMap::new();
        told.for_each(|(reader, address, dropped)| {
            *sums.entry((reader, address)).or_default() += dropped;
        });
        let told = |((reader, address), dropped): ((usize, String), u64)| {
            (reader.to_string(), address, dropped)
        };
        sums.into_iter().map(told).collect()
    }
}

fn exporters(totals: &CollectorTotals) -> Exporters {
    let (templates, sequence) = (&totals.template_counts, &totals.sequence);
    Exporters {
        exporters: totals.exporters as u64,
        templates: totals.templates as u64,
        evicted: totals.exporters_evicted,
        expired: totals.exporters_expired,
        templates_defined: templates.defined,
        templates_redefined: templates.redefined,
        templates_withdrawn: templates.withdrawn,
        templates_expired: templates.expired,
        templates_evicted: templates.evicted,
        templates_refused: templates.refused,
        sets_inherited: templates.inherited_sets,
        sets_unconfirmed: templates.unconfirmed_sets,
        // What is lost falls when a datagram comes late; a counter must not.
        sequence_missing: sequence.lost + sequence.recovered,
        sequence_recovered: sequence.recovered,
        sequence_reordered: sequence.reordered,
        times_clamped: totals.times_clamped,
        sampling_unknown: totals.sampling_unknown,
        options_full: totals.options_full,
    }
}

impl Status for SensorStatus {
    fn snapshot(&self) -> Snapshot {
        let mut ledgers = self.shared.board.ledgers();
        ledgers.sinks = self.shared.outputs.ledgers();
        let book = self.shared.rules.book();
        let slots = self.shared.board.slots().iter();
        let report = book.set.report();
        let excluded = book.excluded(&ledgers.detections.excluded);
        let excluded = excluded.map(|(id, n)| (id.to_owned(), n)).collect();
        let spool = self.shared.outputs.spool().unwrap_or_default();
        Snapshot {
            excluded,
            filters: (report.filters as u64, report.exclusions as u64),
            ledgers,
            entries: self.shared.board.entries(),
            shards_moved: self.shared.board.moved(),
            interfaces_lost: self.shared.board.lost(),
            threads: slots.map(|s| (s.name().to_owned(), s.beats(), s.busy_us())).collect(),
            run_delays: super::threads::run_delays_us(),
            rules: (book.set.rules().len() as u64, book.set.report().rejected.len() as u64),
            reloads: (
                self.reloads.succeeded.load(Ordering::Relaxed),
                self.reloads.failed.load(Ordering::Relaxed),
            ),
            alert_latency: match self.shared.outputs.appends_alerts() {
                true => spool.alerts.clone(),
                false => self.shared.board.alert_latency(),
            },
            overload: self.shared.board.overload(),
            deliveries: self.shared.outputs.deliveries(),
            tees: self.shared.outputs.tees(),
            files: self.shared.outputs.files(),
            spool,
            detection_latency: self.shared.board.detection_latency(),
            stages: stages::spent_us().to_vec(),
            rules_changed: {
                let [added, removed, changed] = &self.reloads.rules;
                [added, removed, changed].map(|count| count.load(Ordering::Relaxed))
            },
            loaded_at_s: self.reloads.loaded_at_s.load(Ordering::Relaxed),
            kafka: self.shared.outputs.clients(),
            exporters: self.exporters(),
            socket_drops: self.socket_drops(),
        }
    }

    fn exporters(&self) -> serde_json::Value {
        serde_json::to_value(self.exporters.reports()).unwrap_or_default()
    }

    fn rules(&self) -> serde_json::Value {
        let report = self.reloads.report.load();
        let mut told = serde_json::to_value(report.as_deref()).unwrap_or_default();
        if let Some(object) = told.as_object_mut() {
            let book = self.shared.rules.book();
            let detections = self.shared.board.ledgers().detections;
            let correlations = book.correlations(RULES_SHOWN, &detections.correlations);
            let exclusions = book.exclusions(&detections.excluded);
            let mut tell = |key: &str, value| object.insert(key.to_owned(), value);
            tell("rules", json!(book.costs(RULES_SHOWN)));
            tell("correlations", json!(correlations));
            tell("filters", json!(book.filters(RULES_SHOWN)));
            tell("exclusions", json!(exclusions));
        }
        told
    }

    fn activity(&self) -> serde_json::Value {
        let activities = self.shared.board.slots().iter().map(Slot::activity);
        let mut octets: HashMap<Addr, f64> = HashMap::new();
        let mut shards = BTreeMap::new();
        for activity in activities {
            for talker in &activity.talkers {
                let per_second = talker.octets as f64 / activity.window_s.max(1e-3);
                *octets.entry(talker.address).or_default() += per_second;
            }
            shards.extend(activity.shards);
        }
        let mut talkers: Vec<(Addr, f64)> = octets.into_iter().collect();
        talkers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        talkers.truncate(TALKERS_SHOWN);
        let talker = |(address, octets_per_s): (Addr, f64)| serde_json::json!({"address": address, "octets_per_s": octets_per_s});
        let talkers: Vec<_> = talkers.into_iter().map(talker).collect();
        serde_json::json!({"talkers": talkers, "shards": shards.values().collect::<Vec<_>>()})
    }

    fn stalled(&self) -> Vec<String> {
        let mut seen = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stalled = Vec::new();
        for (slot, (beats, since)) in self.shared.board.slots().iter().zip(seen.iter_mut()) {
            if slot.beats() != *beats || slot.beats() == 0 {
                (*beats, *since) = (slot.beats(), Instant::now());
            } else if since.elapsed() > STALLED_AFTER {
                let seconds = since.elapsed().as_secs();
                stalled.push(format!("thread {} stands still since {seconds} s", slot.name()));
            }
        }
        stalled
    }

    fn delivery(&self) -> serde_json::Value {
        let outputs = &self.shared.outputs;
        let (mut ledgers, mut faults) = (outputs.ledgers(), outputs.faults().into_iter().collect());
        let sinks = outputs.deliveries().into_iter().map(|(name, delivery)| {
            let ledger = ledgers.remove(&name).unwrap_or_default();
            let fault = BTreeMap::remove(&mut faults, &name);
            let told = serde_json::json!({
                "lag_records": ledger.spooled,
                "acknowledged": ledger.acknowledged,
                "shed": ledger.shed,
                "oldest_us": delivery.oldest_us,
                "units": delivery.units,
                "octets": delivery.octets,
                "retries": delivery.retries,
                "errors": delivery.errors,
                "fault": fault,
            });
            (name, told)
        });
        let sinks: serde_json::Map<_, _> = sinks.collect();
        serde_json::json!({"sinks": sinks, "spool": outputs.spool()})
    }

    fn unready(&self) -> Vec<String> {
        let faults = self.shared.outputs.faults().into_iter();
        let faults = faults.map(|(sink, fault)| format!("output {sink}: {fault}"));
        let mut inputs: Vec<String> = self.shared.board.slots().iter().map(Slot::fault).collect();
        // Readers of one interface wait for the same.
        inputs.sort();
        inputs.dedup();
        inputs.retain(|fault| !fault.is_empty());
        let inputs = self.starting().into_iter().chain(self.stalled()).chain(inputs);
        inputs.chain(faults).chain(self.sheds()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::netflow::SequenceCounts;

    #[test]
    fn a_late_datagram_makes_no_counter_fall() {
        let of = |lost, recovered| {
            let sequence = SequenceCounts { lost, recovered, ..SequenceCounts::default() };
            let totals = CollectorTotals { sequence, exporters_expired: 3, ..Default::default() };
            let exporters = exporters(&totals);
            assert_eq!(exporters.expired, 3);
            (exporters.sequence_missing, exporters.sequence_recovered)
        };
        assert_eq!((of(9, 0), of(4, 5)), ((9, 0), (9, 5)));
    }
}
