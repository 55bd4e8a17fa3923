//! The NetFlow and IPFIX collector, fed with packets of our own.

mod adversary;
pub(crate) mod build;
mod interpreter;
mod meaning;
mod steady;
mod templates;

use weir::config::Config;
use weir::decode::netflow::{Collector, ExporterReport};
use weir::flow::FlowRecord;
use weir::metrics::Ledgers;
use weir::net::Addr;
use weir::time::Micros;

/// When the tests' exporters send, in seconds.
pub(crate) const NOW_S: u32 = 1_700_000_000;

/// The time of the tests.
pub(crate) const NOW: Micros = Micros(NOW_S as i64 * 1_000_000);

/// An address of 192.0.2.0/24.
pub(crate) const fn host(last: u8) -> Addr {
    Addr::v4(0xc000_0200 + last as u32)
}

/// A collector with its ledgers, which are checked after each datagram.
pub(crate) struct Bench {
    pub(crate) collector: Collector,
    pub(crate) ledgers: Ledgers,
    pub(crate) stamp: Micros,
}

impl Bench {
    pub(crate) fn new(edit: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        edit(&mut config);
        let collector = Collector::new(&config);
        Self { collector, ledgers: Ledgers::default(), stamp: NOW }
    }

    /// Sends one datagram and returns its flow records.
    #[track_caller]
    pub(crate) fn send(&mut self, source: (Addr, u16), payload: &[u8]) -> Vec<FlowRecord> {
        let mut out = Vec::new();
        self.collector.datagram(source, self.stamp, payload, &mut out, &mut self.ledgers);
        assert_eq!(self.ledgers.imbalances(), Vec::<String>::new());
        out
    }

    /// Lets `seconds` pass without a datagram.
    #[track_caller]
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.stamp = self.stamp.plus(seconds * 1_000_000);
        self.collector.tick(self.stamp, &mut self.ledgers);
        assert_eq!(self.ledgers.imbalances(), Vec::<String>::new());
    }

    /// The report on one exporter.
    #[track_caller]
    pub(crate) fn report(&self, source: (Addr, u16)) -> ExporterReport {
        let mut list = self.collector.report(self.stamp);
        list.retain(|report| (report.address, report.port) == source);
        assert_eq!(list.len(), 1, "one report on {source:?}");
        list.remove(0)
    }
}
