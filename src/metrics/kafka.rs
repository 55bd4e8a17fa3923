//! What clients of Kafka tell of themselves.

use std::sync::{Arc, Mutex, PoisonError};

/// Where a client puts what it tells last, and others read it.
#[derive(Clone, Debug, Default)]
pub struct KafkaWatch(Arc<Mutex<Option<KafkaClient>>>);

impl KafkaWatch {
    /// Puts what the client tells now.
    pub fn set(&self, client: KafkaClient) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
    }

    /// What it told last; `None` before the first time.
    #[must_use]
    pub fn get(&self) -> Option<KafkaClient> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last statistics of one client of librdkafka; its counters begin anew when it does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KafkaClient {
    /// Records that wait in memory for the brokers, or for their acknowledgement.
    pub queue_records: u64,
    /// Their octets.
    pub queue_octets: u64,
    /// Octets sent, compressed and with all that the protocol adds.
    pub sent_octets: u64,
    /// Octets received.
    pub received_octets: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that could not be sent.
    pub errors: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Brokers with a connection that stands.
    pub brokers_up: u64,
    /// The longest of the brokers' round trips, 99th percentile, in microseconds.
    pub round_trip_us: u64,
}
