//! What the collector's readers tell the rest of the sensor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::decode::netflow::{CollectorTotals, ExporterReport};

/// A part for each reader.
#[derive(Debug, Default)]
pub struct ExporterBoard {
    parts: Vec<Part>,
}

/// What one reader tells: sums once a second, reports when somebody asks.
#[derive(Debug, Default)]
pub struct Part {
    reports: ArcSwap<Vec<ExporterReport>>,
    wanted: AtomicBool,
    /// Sums over its exporters.
    pub totals: ArcSwap<CollectorTotals>,
    /// Its sockets.
    pub sockets: Vec<SocketCount>,
}

/// What the kernel dropped of a socket.
#[derive(Debug, Default)]
pub struct SocketCount {
    /// The address that it is bound to.
    pub address: String,
    /// Datagrams that found no room in its buffer.
    pub dropped: AtomicU64,
}

impl ExporterBoard {
    /// A board for readers with sockets at these addresses each.
    #[must_use]
    pub fn new(readers: impl IntoIterator<Item = Vec<String>>) -> Self {
        let socket = |address| SocketCount { address, ..SocketCount::default() };
        let part = |addresses: Vec<String>| Part {
            sockets: addresses.into_iter().map(socket).collect(),
            ..Part::default()
        };
        Self { parts: readers.into_iter().map(part).collect() }
    }

    /// The parts, in the order of the readers.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// One report per exporter, by address and port: asks the readers and waits for their answers,
    /// half a second at most; of one that does not answer the last ones are taken.
    #[must_use]
    pub fn reports(&self) -> Vec<ExporterReport> {
        let ask = |part: &Part| {
            let before = part.reports.load_full();
            part.wanted.store(true, Ordering::Relaxed);
            before
        };
        let before: Vec<_> = self.parts.iter().map(ask).collect();
        let answered = || {
            let mut parts = self.parts.iter().zip(&before);
            parts.all(|(part, before)| !Arc::ptr_eq(before, &part.reports.load_full()))
        };
        for _ in 0..50 {
            if answered() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let reports = self.parts.iter().flat_map(|part| part.reports.load().as_ref().clone());
        let mut reports: Vec<ExporterReport> = reports.collect();
        reports.sort_by_key(|report| (report.address, report.port));
        reports
    }
}

impl Part {
    /// Whether somebody asked for reports since the last call.
    pub fn is_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Answers with `reports`.
    pub fn report(&self, reports: Vec<ExporterReport>) {
        self.reports.store(Arc::new(reports));
    }
}
