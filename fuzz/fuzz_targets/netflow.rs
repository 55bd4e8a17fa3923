//! Any datagrams, from a few sources and at any pace, leave the collector within its bounds and
//! the ledgers balanced.
//!
//! Input: chunks of source (1 octet), seconds since the one before (1), length (2), payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::Config;
use weir::decode::netflow::Collector;
use weir::metrics::Ledgers;
use weir::net::Addr;
use weir::time::Micros;

fuzz_target!(|input: &[u8]| {
    let mut config = Config::default();
    config.netflow.exporters_max = 4;
    config.netflow.templates_max = 8;
    config.netflow.templates_per_exporter_max = 4;
    config.netflow.waiting_per_exporter_bytes_max = 2_048;
    config.netflow.waiting_bytes_max = 4_096;
    let mut collector = Collector::new(&config);
    let (mut out, mut ledgers) = (Vec::new(), Ledgers::default());
    let mut stamp = Micros::from_secs(1_700_000_000);
    let mut rest = input;
    while let Some((&[source, seconds, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (payload, next) = after.split_at(length);
        rest = next;
        stamp = stamp.plus(i64::from(seconds) * 1_000_000);
        let source = (Addr::v4(u32::from(source >> 4)), u16::from(source & 0xf));
        collector.datagram(source, stamp, payload, &mut out, &mut ledgers);
        collector.tick(stamp, &mut ledgers);
        assert_eq!(ledgers.imbalances(), Vec::<String>::new());
        assert!(out.iter().all(|record| record.first <= record.last));
        out.clear();
        let totals = collector.totals();
        assert!(totals.exporters <= 4 && totals.templates <= 8);
        assert!(ledgers.data_sets.waiting_octets <= 4_096);
    }
    let state = collector.export_state();
    Collector::new(&config).import_state(&state, stamp, &mut Ledgers::default());
});
