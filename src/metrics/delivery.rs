//! How delivery stands: what is counted beside the ledgers of sinks.

use serde::Serialize;

use super::{Counts, Latency};

/// Of one sink behind the spool.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Delivery {
    /// Age of the oldest record that waits, in microseconds; 0 if none does.
    pub oldest_us: u64,
    /// Octets that the other side has acknowledged, as encoded and compressed.
    pub octets: u64,
    /// Units that it has acknowledged: requests, objects, batches of messages.
    pub units: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Failed attempts, by reason.
    pub errors: Counts,
}

/// Of one sink that writes files.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct FileCounts {
    /// Files that were renamed to their final name.
    pub files: u64,
    /// Their octets.
    pub octets: u64,
    /// Files of earlier runs that were found unfinished and kept up to their last whole record.
    pub recovered: u64,
    /// Unfinished files of earlier runs that cannot be read.
    pub broken: u64,
    /// Finished files that were removed again, by reason.
    pub removed: Counts,
    /// Their octets.
    pub removed_octets: u64,
}

/// Of one tee: `taken` is `sent`, `queued` and `dropped` together.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct TeeCounts {
    /// Datagrams that were selected.
    pub taken: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Their octets.
    pub octets: u64,
    /// Those of them that left with a source of this host, not the exporter's.
    pub own_source: u64,
    /// Datagrams that wait.
    pub queued: u64,
    /// Datagrams that were not sent, by reason.
    pub dropped: Counts,
}

impl TeeCounts {
    /// Takes in what became of `count` datagrams that were queued.
    pub fn settle(&mut self, what: &Self, count: u64) {
        self.queued -= count;
        self.sent += what.sent;
        self.octets += what.octets;
        self.own_source += what.own_source;
        what.dropped.iter().for_each(|(reason, n)| self.dropped.add(reason, n));
    }
}

/// Of the spool itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SpoolState {
    /// Segments on disk.
    pub segments: u64,
    /// Their octets.
    pub octets: u64,
    /// Octets that they may have.
    pub octets_max: u64,
    /// Records in memory that wait to be appended.
    pub queued: u64,
    /// Records appended.
    pub appended: u64,
    /// Octets appended.
    pub appended_octets: u64,
    /// Octets that could not be read back.
    pub damaged_octets: u64,
    /// Octets that a crash left unfinished, cut off at the start.
    pub torn_octets: u64,
    /// Failed writes and syncs.
    pub errors: Counts,
    /// From the handing over of a batch to the return of its append.
    #[serde(skip)]
    pub append: Latency,
    /// From the arrival of what raised an alert to the return of the alert's append.
    #[serde(skip)]
    pub alerts: Latency,
}
