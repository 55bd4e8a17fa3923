//! Batches to all sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metrics::{Delivery, FileCounts, KafkaClient, SpoolState, TeeCounts};
use crate::output::{self, Batch, Sink};

/// All sinks of a pipeline. A slow one never holds back another, nor, on live input, the inputs.
pub struct Outputs {
    sinks: Vec<Arc<dyn Sink>>,
    wait: bool,
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ledgers().keys()).finish()
    }
}

impl Outputs {
    /// For live input: what a sink cannot take is shed and counted.
    #[must_use]
    pub fn live(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { sinks, wait: false }
    }

    /// For replay: input waits until sinks can take more.
    #[must_use]
    pub fn waiting(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { sinks, wait: true }
    }

    /// Whether input waits for what comes after it, and nothing is shed: a replay.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.wait
    }

    /// The sinks.
    #[must_use]
    pub fn sinks(&self) -> &[Arc<dyn Sink>] {
        &self.sinks
    }

    /// Hands `batch` to each sink.
    pub fn hand(&self, batch: Batch) {
        let offer = |sink: &dyn Sink, batch: &Arc<Batch>| match self.wait {
            true => sink.offer_blocking(batch),
            false => sink.offer(batch),
        };
        self.offer(batch, offer);
    }

    /// As [`Self::hand`], at the end of the input: also on live input sinks are waited for, as
    /// nothing comes after that could be lost for it, but not one that takes nothing any more.
    pub fn flush(&self, batch: Batch) {
        let offer = |sink: &dyn Sink, batch: &Arc<Batch>| match self.wait {
            true => sink.offer_blocking(batch),
            false => sink.offer_last(batch),
        };
        self.offer(batch, offer);
    }

    fn offer(&self, batch: Batch, offer: impl Fn(&dyn Sink, &Arc<Batch>)) {
        if batch.is_empty() {
            return;
        }
        let batch = Arc::new(batch);
        for sink in &self.sinks {
            offer(&**sink, &batch);
        }
    }

    /// Counts `slices` without a tag that were not made, for overload, at each sink.
    pub fn shed_untagged(&self, slices: u64) {
        self.sinks.iter().for_each(|sink| sink.shed_untagged(slices));
    }

    /// The ledger of each sink, by name.
    #[must_use]
    pub fn ledgers(&self) -> output::Ledgers {
        self.sinks.iter().flat_map(|sink| sink.ledgers()).collect()
    }

    /// What cannot deliver now, by name, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        self.sinks.iter().flat_map(|sink| sink.faults()).collect()
    }

    /// How the delivery of each sink behind the spool stands, by name.
    #[must_use]
    pub fn deliveries(&self) -> BTreeMap<String, Delivery> {
        self.sinks.iter().flat_map(|sink| sink.deliveries()).collect()
    }

    /// What became of files, by the sink that writes them.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, FileCounts> {
        self.sinks.iter().flat_map(|sink| sink.files()).collect()
    }

    /// How tees stand, by name.
    #[must_use]
    pub fn tees(&self) -> BTreeMap<String, TeeCounts> {
        self.sinks.iter().flat_map(|sink| sink.tees()).collect()
    }

    /// What clients of Kafka tell of themselves, by sink.
    #[must_use]
    pub fn clients(&self) -> Vec<(String, KafkaClient)> {
        self.sinks.iter().flat_map(|sink| sink.clients()).collect()
    }

    /// How the spool stands, if there is one.
    #[must_use]
    pub fn spool(&self) -> Option<SpoolState> {
        self.sinks.iter().find_map(|sink| sink.spool())
    }

    /// Whether an alert has arrived only once it stands in the spool: then the spool takes its time.
    #[must_use]
    pub fn appends_alerts(&self) -> bool {
        self.sinks.iter().any(|sink| sink.appends_alerts())
    }

    /// Closes each sink, which delivers what it accepted, and returns the final ledgers.
    pub fn close(&self) -> output::Ledgers {
        self.sinks.iter().flat_map(|sink| sink.close()).collect()
    }
}
