//! In steady state decoding allocates nothing.

use std::sync::Arc;

use weir::config::{Config, Exporter};
use weir::decode::netflow::Collector;
use weir::detect::sigma::{Options, Source};
use weir::flow::Params;
use weir::metrics::Ledgers;
use weir::pipeline::worker::Shared;
use weir::pipeline::{self, Outputs, Rules};

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

/// From the datagram to the rules: what is allocated for a batch does not grow with its records.
#[test]
fn the_path_to_detection_allocates_nothing_per_record() {
    let rule = "
title: Much that is out
id: much
logsource: { category: network_connection }
detection: { a: { bytes_out|gt: 4000000000, DestinationPort: 443 }, condition: a }
";
    let source = Source { file: "much.yml".into(), text: rule.into() };
    let rules = Rules::default();
    assert_eq!(rules.load(&[source], &Options::default()).set.rules().len(), 1);
    let board = pipeline::board(1, 1);
    let shared = Arc::new(Shared {
        rules: rules.into(),
        models: Arc::default(),
        outputs: Outputs::live(Vec::new()),
        board,
    });
    let config = Config::default();
    let params = Arc::new(Params::from_config(&config));
    let mut workers = pipeline::start(&shared, &params, &[None], 1).expect("no thread is needed");
    let mut router = workers.routers.pop().expect("one reader has one router");
    let mut collector = Collector::new(&config);
    let mut ledgers = Ledgers::default();
    let format = Format::Ipfix;
    let template = format.message(0, 1, &[format.template(256, &iana(FLOW))]);
    let datagrams: Vec<_> = (0..400_u32)
        .map(|n| format.message(n * 2, 1, &[set(256, &[flow(n, 1), flow(n, 2)].concat())]))
        .collect();
    let mut feed = |payloads: &[Vec<u8>]| {
        for payload in payloads {
            collector.datagram((host(1), 1), NOW, payload, router.batch(), &mut ledgers);
            if router.decoded() {
                router.work_off(NOW);
            }
        }
        router.flush(NOW);
    };
    feed(&[template]);
    let (warm, steady) = datagrams.split_at(200);
    feed(warm);
    let few = allocations::during(|| feed(&steady[..20]));
    let many = allocations::during(|| feed(&steady[20..]));
    assert_eq!(many, few, "180 datagrams allocate no more than 20");
    // A turn without records publishes what was counted.
    router.flush(NOW);
    let merged = shared.board.ledgers().records.merged;
    assert_eq!(merged, 800);
}
