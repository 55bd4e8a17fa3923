//! Where tagged slices and alerts leave: the canonical schema, its encoders, and the sinks.
//!
//! A [`Batch`] is made once and shared by all sinks. Each sink selects from it ([`Select`]),
//! encodes it in its own thread with an [`Encoder`] and keeps its own ledger. All formats are
//! driven by the one table of fields in [`schema`], so none can know a field that another lacks.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "parquet")]
pub mod arrow;
pub mod csv;
pub mod encoder;
pub mod files;
pub mod format;
pub mod ndjson;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "spool")]
pub mod remote;
pub mod schema;
pub mod scores;
#[cfg(feature = "spool")]
mod seldom;
#[cfg(feature = "spool")]
pub mod spool;
pub mod stdout;
pub mod tee;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use encoder::Encoder;
pub use files::FilesSink;
pub use schema::{Context, Row, Stream};

use crate::config::Select;
use crate::detect::{Alert, TaggedSlice};
use crate::metrics::{Delivery, FileCounts, KafkaClient, SpoolState, TeeCounts, ledger};

/// What a worker hands over at once; shared by all sinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Slices that were cut, with their tags.
    pub slices: Vec<TaggedSlice>,
    /// Alerts that were raised.
    pub alerts: Vec<Alert>,
}

impl Batch {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.alerts.is_empty()
    }

    /// The records that `select` takes, in their order.
    pub fn rows(&self, select: Select) -> impl Iterator<Item = Row<'_>> {
        let slices: &[TaggedSlice] = if select == Select::Alerts { &[] } else { &self.slices };
        let alerts: &[Alert] = if select == Select::Alerts { &self.alerts } else { &[] };
        let taken = move |s: &&TaggedSlice| select != Select::Tagged || !s.rules.is_empty();
        slices.iter().filter(taken).map(Row::from).chain(alerts.iter().map(Row::from))
    }

    /// How many records `select` takes.
    #[must_use]
    pub fn count(&self, select: Select) -> usize {
        match select {
            Select::Slices => self.slices.len(),
            Select::Tagged => self.slices.iter().filter(|s| !s.rules.is_empty()).count(),
            Select::Alerts => self.alerts.len(),
        }
    }

    /// A batch of only what `select` takes.
    #[must_use]
    pub fn only(&self, select: Select) -> Self {
        let mut only = Self::default();
        match select {
            Select::Slices => only.slices.clone_from(&self.slices),
            Select::Tagged => {
                let tagged = self.slices.iter().filter(|s| !s.rules.is_empty());
                only.slices.extend(tagged.cloned());
            }
            Select::Alerts => only.alerts.clone_from(&self.alerts),
        }
        only
    }
}

/// The ledgers of sinks, by name.
pub type Ledgers = BTreeMap<String, ledger::Sink>;

/// More came in than the sensor could do, so slices without a tag were not made.
pub const OVERLOAD: &str = "overload";

/// What batches are handed to: one sink, or the spool with all that are behind it. A slow or dead
/// sink never holds back another, nor the inputs.
pub trait Sink: Send + Sync {
    /// Takes over what is selected of `batch`. Never waits: what does not fit is shed and counted.
    fn offer(&self, batch: &Arc<Batch>);

    /// As [`offer`](Self::offer), but waits while the queue is full: for replay, where input can
    /// wait and nothing need be shed.
    fn offer_blocking(&self, batch: &Arc<Batch>);

    /// As [`offer_blocking`](Self::offer_blocking), at the end of live input: waits only as long as the
    /// queue moves, as a stop must end although a disk or another side takes nothing.
    fn offer_last(&self, batch: &Arc<Batch>) {
        self.offer_blocking(batch);
    }

    /// Counts `slices` without a tag that were never made as selected, where they would have been,
    /// and shed for [`OVERLOAD`]. Sinks that get none of live input have nothing to count.
    fn shed_untagged(&self, slices: u64) {
        let _ = slices;
    }

    /// The ledgers now; each balances at every moment.
    fn ledgers(&self) -> Ledgers;

    /// How delivery stands, by name; nothing for sinks that write at once.
    fn deliveries(&self) -> BTreeMap<String, Delivery> {
        BTreeMap::new()
    }

    /// What became of files, by name, of sinks that write them.
    fn files(&self) -> BTreeMap<String, FileCounts> {
        BTreeMap::new()
    }

    /// How tees stand, by name.
    fn tees(&self) -> BTreeMap<String, TeeCounts> {
        BTreeMap::new()
    }

    /// How the spool stands, of the spool.
    fn spool(&self) -> Option<SpoolState> {
        None
    }

    /// Whether it appends alerts to a log on disk, and takes the time until then
    /// ([`SpoolState::alerts`]).
    fn appends_alerts(&self) -> bool {
        false
    }

    /// What clients of Kafka tell of themselves, by name.
    fn clients(&self) -> Vec<(String, KafkaClient)> {
        Vec::new()
    }

    /// Replaces the names that records are written with, from the next batch on.
    fn set_context(&self, context: Context);

    /// What cannot deliver now, by name, and why.
    fn faults(&self) -> Vec<(String, String)>;

    /// Delivers what was accepted, stops, and returns the final ledgers. Later offers are shed.
    /// What the spool holds and cannot deliver in the time for it stays there.
    fn close(&self) -> Ledgers;
}
