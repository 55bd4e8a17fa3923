//! Bytes and sources that nobody should trust.

use proptest::prelude::*;
use weir::decode::netflow::Collector;
use weir::metrics::Ledgers;
use weir::net::Addr;

use super::build::{FLOW, Format, fixed, fixed_record, flow, iana, record, set, withdrawal};
use super::{Bench, NOW, host};

const SOURCE: (Addr, u16) = (host(1), 5_000);

#[test]
fn spoofed_exporters_never_evict_a_proven_one() {
    let mut bench = Bench::new(|config| {
        config.netflow.exporters_max = 100;
        config.netflow.templates_max = 100;
        config.netflow.templates_per_exporter_max = 10;
    });
    let format = Format::V9;
    let template = format.template(256, &iana(FLOW));
    let sets = [template.clone(), set(256, &flow(1, 7))];
    assert_eq!(bench.send(SOURCE, &format.message(0, 1, &sets)).len(), 1);
    for spoofed in 0..10_000 {
        let templates: Vec<_> = (256..266).map(|id| format.template(id, &iana(FLOW))).collect();
        let waiting = [set(999, &[1; 40])];
        let source = (Addr::v4(0x0b00_0000 + spoofed), 1);
        bench.send(source, &format.message(0, 1, &[&templates[..], &waiting].concat()));
    }
    assert_eq!(bench.collector.exporters(), 100);
    assert_eq!(bench.collector.totals().exporters_evicted, 9_901);
    let sets = &bench.ledgers.data_sets;
    assert!(sets.dropped.of("exporter_evicted") >= 9_900, "{sets:?}");
    assert_eq!(bench.send(SOURCE, &format.message(1, 1, &[set(256, &flow(1, 7))])).len(), 1);
}

#[test]
fn where_all_are_proven_a_new_one_is_rejected() {
    let mut bench = Bench::new(|config| config.netflow.exporters_max = 3);
    let payload = fixed(5, 1, 0, 0, &[fixed_record()]);
    for last in 1..=5 {
        bench.send((host(last), 1), &payload);
    }
    assert_eq!(bench.ledgers.datagrams.rejected.of("exporters_full"), 2);
    assert_eq!(bench.send((host(3), 1), &payload).len(), 1);
}

#[test]
fn domains_of_an_exporter_are_bounded() {
    let mut bench = Bench::new(|config| config.netflow.domains_per_exporter_max = 8);
    for domain in 0..1_000 {
        bench.send(SOURCE, &Format::V9.message(0, domain, &[]));
        bench.send(SOURCE, &Format::V9.message(2, domain, &[]));
    }
    let report = bench.report(SOURCE);
    assert_eq!((report.domains.len(), report.sequence.lost), (8, 1_000), "nothing is forgotten");
}

#[test]
fn a_broken_set_spoils_only_itself() {
    let format = Format::Ipfix;
    let (template, data) = (format.template(256, &iana(FLOW)), set(256, &flow(1, 7)));
    /// Wants records, and (data sets decoded, dropped), and the errors counted.
    #[track_caller]
    fn check(name: &str, sets: &[Vec<u8>], records: usize, want: (u64, u64), errors: &[&str]) {
        let mut bench = Bench::new(|_| {});
        let out = bench.send(SOURCE, &Format::Ipfix.message(0, 1, sets));
        assert_eq!(out.len(), records, "case: {name}");
        let sets = &bench.ledgers.data_sets;
        assert_eq!((sets.decoded, sets.dropped.total()), want, "case: {name}");
        let counted: Vec<_> =
            bench.report(SOURCE).errors.iter().map(|(reason, _)| reason).collect();
        assert_eq!(counted, errors, "case: {name}");
        assert_eq!(bench.ledgers.datagrams.decoded, 1, "case: {name}");
    }
    let good = [template.clone(), data.clone(), data.clone()];
    check("good", &good, 2, (2, 0), &[]);
    let reserved = [template.clone(), set(77, &[1; 8]), data.clone()];
    check("a reserved set is skipped", &reserved, 1, (1, 0), &["reserved_set_id"]);
    let short = [template.clone(), data.clone(), vec![1, 0, 0, 3], data.clone()];
    check("a set of 3 octets", &short, 1, (1, 0), &["bad_set_length"]);
    let mut cut = data.clone();
    cut[3] = 200;
    let long = [template.clone(), data.clone(), cut.clone()];
    check("a set cut short", &long, 2, (2, 0), &["truncated"]);
    check("a cut set without template", &[cut], 0, (0, 1), &["truncated"]);
    let low =
        [set(2, &record(&[(255, 2), (1, 2), (8, 2), (4, 2)])), template.clone(), data.clone()];
    check("a template id of 255", &low, 1, (1, 0), &["bad_template_id"]);
    let many =
        [set(2, &record(&[(256, 2), (9, 2), (8, 2), (4, 2)])), template.clone(), data.clone()];
    check("a template that ends early", &many, 1, (1, 0), &["truncated"]);
    let tail = [template.clone(), set(256, &[flow(1, 7), vec![0; 7]].concat())];
    check("zero padding", &tail, 1, (1, 0), &[]);
    let tail = [template.clone(), set(256, &[flow(1, 7), vec![9; 9]].concat())];
    check("octets that are no record", &tail, 1, (1, 0), &["trailing_octets"]);
    let half = [template, set(256, &flow(1, 7)[..9])];
    check("half a record", &half, 0, (0, 1), &[]);
    let empty = [format.template(256, &iana(&[(8, 0), (1, 0)])), set(256, &[1; 8])];
    check("a template of empty fields", &empty, 0, (0, 1), &[]);
    let none = [format.template(256, &iana(FLOW)), set(256, &[])];
    check("a set without records", &none, 0, (1, 0), &[]);
}

#[test]
fn a_datagram_filled_with_zeros_is_padded() {
    let mut bench = Bench::new(|_| {});
    let format = Format::V9;
    let sets = [format.template(256, &iana(FLOW)), set(256, &flow(1, 7))];
    let mut payload = format.message(0, 1, &sets);
    payload.resize(1_400, 0);
    assert_eq!(bench.send(SOURCE, &payload).len(), 1);
    assert_eq!(bench.report(SOURCE).errors.total(), 0);
}

/// Datagrams that are nearly right: a few sets of few ids, with some octets turned.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let format = prop::sample::select(vec![Format::V9, Format::Ipfix]);
    let width = prop::sample::select(vec![0_u16, 1, 2, 4, 8, 16, 65_535]);
    let element = prop::sample::select(vec![
        1_u16, 2, 4, 6, 7, 8, 10, 11, 12, 21, 22, 27, 28, 34, 48, 82, 85, 95, 96, 152, 154, 160,
        231, 233, 305, 306,
    ]);
    let spec = (element, prop::sample::select(vec![0_u32, 0, 0, 29_305, 9]), width);
    let specs = prop::collection::vec(spec, 1..8);
    let part = (0..5_u8, 256_u16..259, specs, prop::collection::vec(any::<u8>(), 0..80));
    let parts = prop::collection::vec(part, 0..6);
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (format, parts, any::<u32>(), 0..3_u32, flips).prop_map(
        |(format, parts, sequence, domain, flips)| {
            let sets: Vec<_> = parts
                .into_iter()
                .map(|(kind, id, specs, body)| match kind {
                    0 => format.template(id, &specs),
                    1 => format.options_template(id, specs.len() / 2, &specs),
                    2 => withdrawal(2, if id == 258 { 2 } else { id }),
                    _ => set(id, &body),
                })
                .collect();
            let mut payload = format.message(sequence % 64, domain, &sets);
            for (index, octet) in flips {
                let at = index.index(payload.len());
                payload[at] = octet;
            }
            payload
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_keep_the_ledgers_balanced(
        payloads in prop::collection::vec(
            (0..4_u8, 0..3_u16, prop_oneof![
                3 => nearly(),
                1 => (prop::sample::select(vec![0_u8, 5, 7, 9, 10]),
                      prop::collection::vec(any::<u8>(), 0..200))
                    .prop_map(|(version, mut bytes)| { bytes.splice(0..0, [0, version]); bytes }),
            ], 0..900_i64),
            1..24,
        ),
    ) {
        let mut config = weir::config::Config::default();
        config.netflow.exporters_max = 4;
        config.netflow.templates_per_exporter_max = 2;
        config.netflow.templates_max = 5;
        config.netflow.waiting_per_exporter_bytes_max = 600;
        config.netflow.waiting_bytes_max = 1_000;
        config.netflow.options_per_exporter_max = 2;
        config.netflow.totals_per_exporter_max = 2;
        let mut collector = Collector::new(&config);
        let (mut out, mut ledgers, mut stamp) = (Vec::new(), Ledgers::default(), NOW);
        for (last, port, payload, seconds) in payloads {
            stamp = stamp.plus(seconds * 1_000_000);
            collector.datagram((host(last), port), stamp, &payload, &mut out, &mut ledgers);
            prop_assert_eq!(ledgers.imbalances(), Vec::<String>::new());
            if seconds % 3 == 0 {
                collector.tick(stamp, &mut ledgers);
                prop_assert_eq!(ledgers.imbalances(), Vec::<String>::new());
            }
            prop_assert!(collector.exporters() <= 4);
            let totals = collector.totals();
            prop_assert!(totals.templates <= 5);
            prop_assert_eq!(collector.report(stamp).iter().map(|r| r.templates.len()).sum::<usize>(), totals.templates);
            prop_assert!(ledgers.data_sets.waiting_octets <= 1_000);
        }
        for record in &out {
            prop_assert!(record.first <= record.last);
        }
        let state = collector.export_state();
        let mut after = Collector::new(&config);
        after.import_state(&state, stamp, &mut Ledgers::default());
        prop_assert!(after.totals().templates <= 5);
    }
}
