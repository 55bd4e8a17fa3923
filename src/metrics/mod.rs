//! Counting: the ledgers, and the one table of metric names.
//!
//! Counters are single-writer: each thread owns a [`Ledgers`], and publishes it whole at batch
//! boundaries. Each thread's ledgers balance on their own, so any sum of published ones does too.

pub mod board;
pub mod delivery;
mod kafka;
pub mod latency;
pub mod ledger;
mod overload;
mod snapshot;
pub mod stages;
pub mod table;
pub mod talkers;

pub use board::{Activity, Board, Slot};
pub use delivery::{Delivery, FileCounts, SpoolState, TeeCounts};
pub use kafka::{KafkaClient, KafkaWatch};
pub use latency::Latency;
pub use ledger::{Counts, Ledgers};
pub use overload::{Overload, Said};
pub use snapshot::{Exporters, Snapshot};
pub use talkers::{Talker, Talkers};
