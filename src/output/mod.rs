//! Where tagged slices and alerts leave: the canonical schema, its encoders, and the sinks.
//!
//! A [`Batch`] is made once and shared by all sinks. Each sink selects from it ([`Select`]),
//! encodes it in its own thread with an [`Encoder`] and keeps its own ledger. All formats are
//! driven by the one table of fields in [`schema`], so none can know a field that another lacks.

use std::sync::Arc;

#[cfg(feature = "parquet")]
pub mod arrow;
pub mod csv;
pub mod encoder;
pub mod files;
pub mod ndjson;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod schema;
#[cfg(feature = "spool")]
pub mod spool;
pub mod stdout;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use encoder::Encoder;
pub use files::FilesSink;
pub use schema::{Context, Row, Stream};

use crate::config::Select;
use crate::detect::{Alert, TaggedSlice};
use crate::metrics::ledger;

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

/// A place that batches go to. A slow or dead sink never holds back another, nor the inputs.
pub trait Sink: Send + Sync {
    /// The name in metrics and ledgers.
    fn name(&self) -> &str;

    /// Takes over what the sink selects of `batch`. Never waits: what does not fit is shed and
    /// counted.
    fn offer(&self, batch: &Arc<Batch>);

    /// As [`offer`](Self::offer), but waits while the queue is full: for replay, where input can
    /// wait and nothing need be shed.
    fn offer_blocking(&self, batch: &Arc<Batch>);

    /// The ledger now; it balances at every moment.
    fn ledger(&self) -> ledger::Sink;

    /// Replaces the names that records are written with, from the next batch on.
    fn set_context(&self, context: Context);

    /// Why the sink cannot deliver now; `None` while it can.
    fn fault(&self) -> Option<String>;

    /// Delivers all that was accepted, stops, and returns the final ledger. Later offers are shed.
    fn close(&self) -> ledger::Sink;
}
