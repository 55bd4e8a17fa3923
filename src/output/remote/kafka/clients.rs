//! Statistics of all clients, for whoever asks the sinks.

use std::sync::Arc;

use crate::metrics::{KafkaClient, KafkaWatch};
use crate::output::schema::Context;
use crate::output::{Batch, Ledgers, Sink};

/// Stands among the sinks for the clients behind the spool: takes nothing, and tells of them.
#[derive(Debug, Default)]
pub struct Clients(pub Vec<(String, KafkaWatch)>);

impl Sink for Clients {
    fn offer(&self, _: &Arc<Batch>) {}

    fn offer_blocking(&self, _: &Arc<Batch>) {}

    fn ledgers(&self) -> Ledgers {
        Ledgers::new()
    }

    fn clients(&self) -> Vec<(String, KafkaClient)> {
        self.0.iter().filter_map(|(name, watch)| Some((name.clone(), watch.get()?))).collect()
    }

    fn set_context(&self, _: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> Ledgers {
        Ledgers::new()
    }
}
