//! In steady state decoding allocates nothing.

use weir::config::{Config, Exporter};
use weir::decode::netflow::Collector;
use weir::metrics::Ledgers;

use super::build::{FLOW, Format, fixed, fixed_record, flow, iana, record, set};
use super::{NOW, host};
use crate::allocations;

#[test]
fn no_record_allocates_after_warm_up() {
    #[track_caller]
    fn check(name: &str, payloads: &[Vec<u8>], data: impl Fn(u32) -> Vec<u8>, records: usize) {
        let mut config = Config::default();
        let interfaces = [("3".to_owned(), "uplink".to_owned())].into();
        config.exporter = vec![Exporter { address: host(1), interfaces, ..Exporter::default() }];
        let mut collector = Collector::new(&config);
        let (mut out, mut ledgers) = (Vec::with_capacity(64), Ledgers::default());
        let datagrams: Vec<_> = (0..300).map(data).collect();
        let (warm, steady) = datagrams.split_at(100);
        for payload in payloads.iter().chain(warm) {
            out.clear();
            collector.datagram((host(1), 1), NOW, payload, &mut out, &mut ledgers);
        }
        let mut decoded = 0;
        let allocations = allocations::during(|| {
            for payload in steady {
                out.clear();
                collector.datagram((host(1), 1), NOW, payload, &mut out, &mut ledgers);
                decoded += out.len();
            }
        });
        assert_eq!((decoded, allocations), (steady.len() * records, 0), "case: {name}");
        assert_eq!(collector.report(NOW)[0].sequence.lost, 0, "case: {name}");
    }
    let v5 = |n: u32| fixed(5, 2, n * 2, 0x4064, &[fixed_record(), fixed_record()]);
    check("v5", &[], v5, 2);
    for format in [Format::V9, Format::Ipfix] {
        let template = [format.message(0, 1, &[format.template(256, &iana(FLOW))])];
        let step = if format == Format::V9 { 1 } else { 2 };
        let first = u32::from(format == Format::V9);
        let data = |n: u32| {
            let body = [flow(n, 1), flow(n, 2)].concat();
            format.message(first + n * step, 1, &[set(256, &body)])
        };
        check("fixed lengths", &template, data, 2);
    }
    let format = Format::Ipfix;
    let fields = [iana(FLOW), iana(&[(96, 65_535), (85, 4), (10, 4)])].concat();
    let template = [format.message(0, 1, &[format.template(256, &fields)])];
    let named = |n: u32| {
        let tail = record(&[(3, 1), (0x0064_6e73, 3), (u128::from(n), 4), (3, 4)]);
        format.message(n, 1, &[set(256, &[flow(n, 1), tail].concat())])
    };
    check("variable lengths and names", &template, named, 1);
}
