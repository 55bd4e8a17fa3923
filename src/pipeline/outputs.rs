//! Batches to all sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metrics::ledger;
use crate::output::{Batch, Sink};

/// All sinks of a pipeline. A slow one never holds back another, nor, on live input, the inputs.
pub struct Outputs {
    sinks: Vec<Arc<dyn Sink>>,
    wait: bool,
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sinks.iter().map(|sink| sink.name())).finish()
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
        if batch.is_empty() {
            return;
        }
        let batch = Arc::new(batch);
        for sink in &self.sinks {
            if self.wait { sink.offer_blocking(&batch) } else { sink.offer(&batch) }
        }
    }

    /// The ledger of each sink, by name.
    #[must_use]
    pub fn ledgers(&self) -> BTreeMap<String, ledger::Sink> {
        self.sinks.iter().map(|sink| (sink.name().to_owned(), sink.ledger())).collect()
    }

    /// Closes each sink, which delivers what it accepted, and returns the final ledgers.
    pub fn close(&self) -> BTreeMap<String, ledger::Sink> {
        self.sinks.iter().map(|sink| (sink.name().to_owned(), sink.close())).collect()
    }
}
