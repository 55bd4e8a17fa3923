//! Templates over time: order, ports, restarts, lifetimes, bounds, waiting data.

use super::build::{FLOW, Format, flow, iana, record, set, withdrawal};
use super::{Bench, host};

const SOURCE: (weir::net::Addr, u16) = (host(1), 5_000);
/// The same width as [`FLOW`], with octets and packets in each other's place.
const SWAPPED: &[(u16, u16)] = &[(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (2, 4), (1, 4)];

fn octets(records: &[weir::flow::FlowRecord]) -> Vec<u64> {
    records.iter().map(|record| record.fwd.octets).collect()
}

#[test]
fn a_redefinition_counts_from_where_it_stands() {
    for format in [Format::V9, Format::Ipfix] {
        let mut bench = Bench::new(|_| {});
        let sets = [
            format.template(256, &iana(FLOW)),
            set(256, &flow(100, 7)),
            format.template(256, &iana(SWAPPED)),
            set(256, &flow(100, 7)),
        ];
        let out = bench.send(SOURCE, &format.message(0, 1, &sets));
        assert_eq!(octets(&out), [100, 7], "{format:?}");
        let out = bench.send(SOURCE, &format.message(2, 1, &[set(256, &flow(100, 7))]));
        assert_eq!(octets(&out), [7], "{format:?}");
        let totals = bench.collector.totals().template_counts;
        assert_eq!((totals.defined, totals.redefined), (1, 1));
    }
}

#[test]
fn domains_versions_and_exporters_are_apart() {
    let mut bench = Bench::new(|_| {});
    let define = |format: Format, fields, domain| {
        format.message(0, domain, &[format.template(256, &iana(fields))])
    };
    bench.send(SOURCE, &define(Format::V9, FLOW, 1));
    bench.send(SOURCE, &define(Format::V9, SWAPPED, 2));
    bench.send(SOURCE, &define(Format::Ipfix, SWAPPED, 1));
    bench.send((host(2), 5_000), &define(Format::V9, SWAPPED, 1));
    let data = [set(256, &flow(100, 7))];
    let mut got = |source, format: Format, domain| {
        octets(&bench.send(source, &format.message(1, domain, &data)))
    };
    assert_eq!(got(SOURCE, Format::V9, 1), [100]);
    assert_eq!(got(SOURCE, Format::V9, 2), [7]);
    assert_eq!(got(SOURCE, Format::Ipfix, 1), [7]);
    assert_eq!(got((host(2), 5_000), Format::V9, 1), [7]);
    assert_eq!(got((host(3), 5_000), Format::V9, 1), [0_u64; 0]);
}

#[test]
fn templates_are_withdrawn_and_expire() {
    let format = Format::Ipfix;
    let data = format.message(0, 1, &[set(256, &flow(100, 7)), set(257, &flow(9, 7))]);
    #[track_caller]
    fn check(name: &str, change: impl FnOnce(&mut Bench), data: &[u8], want: &[u64]) {
        let mut bench = Bench::new(|_| {});
        let both = [256, 257].map(|id| Format::Ipfix.template(id, &iana(FLOW)));
        bench.send(SOURCE, &Format::Ipfix.message(0, 1, &both));
        change(&mut bench);
        assert_eq!(octets(&bench.send(SOURCE, data)), want, "case: {name}");
    }
    let send = |sets: &[Vec<u8>]| {
        let message = Format::Ipfix.message(0, 1, sets);
        move |bench: &mut Bench| drop(bench.send(SOURCE, &message))
    };
    check("both stand", |_| {}, &data, &[100, 9]);
    check("one withdrawn", send(&[withdrawal(2, 256)]), &data, &[9]);
    check("all withdrawn", send(&[withdrawal(2, 2)]), &data, &[]);
    check("all options templates withdrawn", send(&[withdrawal(3, 3)]), &data, &[100, 9]);
    check("still young", |bench| bench.wait(1_800), &data, &[100, 9]);
    check("expired", |bench| bench.wait(1_801), &data, &[]);
    let expired_without_a_tick = |bench: &mut Bench| bench.stamp = bench.stamp.plus(1_801_000_000);
    check("expired without a tick", expired_without_a_tick, &data, &[]);
}

#[test]
fn a_new_port_inherits_until_it_sends_its_own() {
    let format = Format::V9;
    let mut bench = Bench::new(|_| {});
    let define = |fields| format.message(0, 1, &[format.template(256, &iana(fields))]);
    let data = format.message(1, 1, &[set(256, &flow(100, 7))]);
    let port = |port| (host(1), port);
    bench.send(port(1), &define(FLOW));
    assert_eq!(octets(&bench.send(port(2), &data)), [100], "a restart with another port");
    assert_eq!(bench.collector.totals().template_counts.inherited_sets, 1);
    bench.send(port(2), &define(SWAPPED));
    assert_eq!(octets(&bench.send(port(2), &data)), [7], "its own");
    assert_eq!(octets(&bench.send(port(1), &data)), [100], "the first keeps its own");
    assert_eq!(octets(&bench.send(port(3), &data)), [7], "the newest, as the first may be dead");
    bench.send(port(1), &define(FLOW));
    assert_eq!(octets(&bench.send(port(4), &data)), [0_u64; 0], "two live ones: neither");
    let odd = format.message(2, 1, &[set(256, &[1; 20])]);
    let mut bench = Bench::new(|_| {});
    bench.send(port(1), &define(FLOW));
    assert_eq!(bench.send(port(2), &odd), [], "a set that does not fit inherits nothing");
    assert_eq!(bench.ledgers.data_sets.waiting, 1);
}

#[test]
fn data_waits_for_its_template() {
    for format in [Format::V9, Format::Ipfix] {
        let mut bench = Bench::new(|_| {});
        let data = [set(256, &flow(1, 7)), set(300, &flow(5, 7)), set(256, &flow(2, 7))];
        assert_eq!(bench.send(SOURCE, &format.message(0, 1, &data)), []);
        let sets = &bench.ledgers.data_sets;
        assert_eq!((sets.seen, sets.waiting, sets.waiting_octets), (3, 3, 3 * 25));
        let waiting = bench.report(SOURCE).waiting;
        assert_eq!((waiting[0].id, waiting[0].sets, waiting[0].octets), (256, 2, 50));
        assert_eq!(waiting[0].since, super::NOW);
        bench.wait(60);
        let out = bench.send(SOURCE, &format.message(1, 1, &[format.template(256, &iana(FLOW))]));
        assert_eq!(octets(&out), [1, 2], "in the order in which they came");
        assert_eq!(out[0].stamp, bench.stamp, "the stamp does not run backwards");
        assert_eq!(out[0].last, super::NOW, "their times are their own message's");
        let sets = &bench.ledgers.data_sets;
        assert_eq!((sets.decoded, sets.waiting), (2, 1));
        bench.wait(1_801);
        let sets = &bench.ledgers.data_sets;
        assert_eq!((sets.waiting, sets.dropped.of("waiting_expired")), (0, 1));
        assert_eq!(bench.report(SOURCE).dropped_sets.of("waiting_expired"), 1);
    }
}

#[test]
fn another_port_may_bring_what_data_waits_for() {
    let format = Format::V9;
    let mut bench = Bench::new(|_| {});
    let data = format.message(0, 1, &[set(256, &flow(1, 7))]);
    assert_eq!(bench.send((host(1), 1), &data), []);
    bench.send((host(1), 2), &format.message(0, 1, &[format.template(256, &iana(FLOW))]));
    assert_eq!(octets(&bench.send((host(1), 1), &data)), [1, 1]);
}

#[test]
fn waiting_data_is_bounded() {
    let format = Format::V9;
    let mut bench = Bench::new(|config| {
        config.netflow.waiting_per_exporter_bytes_max = 10_000;
        config.netflow.waiting_bytes_max = 25_000;
    });
    let data = |size: u8| format.message(0, 1, &[set(256, &vec![size; 1_000])]);
    for n in 0..50 {
        bench.send(SOURCE, &data(n));
    }
    let sets = &bench.ledgers.data_sets;
    assert!(sets.waiting > 5 && sets.waiting_octets <= 10_000, "{sets:?}");
    assert_eq!(sets.dropped.of("waiting_full"), 50 - sets.waiting);
    for last in 2..60 {
        bench.send((host(last), 1), &data(1));
    }
    let sets = &bench.ledgers.data_sets;
    assert!(sets.waiting > 12 && sets.waiting_octets <= 25_000, "{sets:?}");
    let huge = format.message(0, 1, &[set(256, &vec![1; 20_000])]);
    bench.send(SOURCE, &huge);
    assert_eq!(bench.report(SOURCE).waiting, [], "the oldest of all went first");
}

#[test]
fn a_restart_makes_templates_doubtful() {
    let format = Format::V9;
    let mut bench = Bench::new(|_| {});
    let template = format.template(256, &iana(FLOW));
    bench.send(SOURCE, &format.message(500, 1, &[template.clone(), set(256, &flow(1, 7))]));
    let mut rebooted = format.message(0, 1, &[set(256, &flow(2, 7)), set(256, &[9; 20])]);
    rebooted[4..8].copy_from_slice(&5_000_u32.to_be_bytes());
    assert_eq!(octets(&bench.send(SOURCE, &rebooted)), [2], "only what fits is decoded");
    let report = bench.report(SOURCE);
    assert_eq!((report.sequence.restarts, report.sequence.lost), (1, 0));
    assert!(report.templates[0].unconfirmed);
    assert_eq!(bench.ledgers.data_sets.waiting, 1);
    bench.send(SOURCE, &format.message(1, 1, &[template]));
    assert!(!bench.report(SOURCE).templates[0].unconfirmed);
}

#[test]
fn each_version_counts_in_its_own_unit() {
    #[track_caller]
    fn check(name: &str, messages: &[Vec<u8>], lost: u64) {
        let mut bench = Bench::new(|_| {});
        for message in messages {
            bench.send(SOURCE, message);
        }
        assert_eq!(bench.report(SOURCE).sequence.lost, lost, "case: {name}");
    }
    let three = || set(256, &[flow(1, 1), flow(2, 1), flow(3, 1)].concat());
    let (v9, ipfix) = (Format::V9, Format::Ipfix);
    let template = |format: Format| format.template(256, &iana(FLOW));
    let packets = [
        v9.message(7, 1, &[template(v9)]),
        v9.message(8, 1, &[three()]),
        v9.message(12, 1, &[three()]),
    ];
    check("v9 counts packets", &packets, 3);
    let options = ipfix.options_template(300, 1, &iana(&[(149, 4), (41, 4)]));
    let records = [
        ipfix.message(7, 1, &[template(ipfix), options]),
        ipfix.message(7, 1, &[three(), set(300, &[0; 16])]),
        ipfix.message(14, 1, &[three()]),
        ipfix.message(0, 2, &[template(ipfix)]),
    ];
    check("IPFIX counts data records, options too, per domain", &records, 2);
    let waiting = [ipfix.message(7, 1, &[three()]), ipfix.message(99, 1, &[three()])];
    check("unknown while a template is missing", &waiting, 0);
}

#[test]
fn templates_are_bounded_per_exporter_and_in_all() {
    let format = Format::V9;
    let mut bench = Bench::new(|config| {
        config.netflow.templates_per_exporter_max = 4;
        config.netflow.templates_max = 10;
    });
    let define = |id| format.message(0, 1, &[format.template(id, &iana(FLOW))]);
    let data = |id| format.message(0, 1, &[set(id, &flow(1, 7))]);
    for id in 256..260 {
        bench.send(SOURCE, &define(id));
    }
    assert_eq!(bench.send(SOURCE, &data(256)).len(), 1);
    bench.send(SOURCE, &define(260));
    assert_eq!(bench.send(SOURCE, &data(256)).len(), 1, "used, so kept");
    assert_eq!(bench.send(SOURCE, &data(257)).len(), 0, "the least recently used went");
    for last in 2..30 {
        for id in 256..260 {
            bench.send((host(last), 1), &define(id));
        }
    }
    let totals = bench.collector.totals();
    assert_eq!(totals.templates, 10);
    assert_eq!(bench.report(SOURCE).templates.len(), 4, "the proven exporter keeps its own");
}

#[test]
fn state_survives_a_restart_unconfirmed() {
    let format = Format::Ipfix;
    let mut bench = Bench::new(|_| {});
    let options_fields = iana(&[(149, 4), (34, 4)]);
    let sets = [
        format.template(256, &iana(FLOW)),
        format.options_template(300, 1, &options_fields),
        set(300, &record(&[(1, 4), (128, 4)])),
        set(256, &flow(1, 7)),
    ];
    bench.send(SOURCE, &format.message(0, 1, &sets));
    bench.send((host(9), 1), &format.message(0, 1, &sets[..1]));
    let generation = bench.collector.state_generation();
    bench.send(SOURCE, &format.message(2, 1, &sets[..1]));
    assert_eq!(bench.collector.state_generation(), generation, "nothing that is worth a write");
    bench.wait(600);
    bench.send(SOURCE, &format.message(2, 1, &sets[..1]));
    assert!(bench.collector.state_generation() > generation, "its age in the file must not grow");

    let text = serde_json::to_string(&bench.collector.export_state()).expect("JSON");
    let state: weir::decode::netflow::State = serde_json::from_str(&text).expect("a state");
    assert_eq!(state, bench.collector.export_state());
    assert_eq!(state.exporters.len(), 1, "unproven exporters are not saved");

    let restarted = |seconds: i64| {
        let mut after = Bench::new(|_| {});
        after.stamp = bench.stamp.plus(seconds * 1_000_000);
        let taken = after.collector.import_state(&state, after.stamp, &mut after.ledgers);
        (after, taken)
    };
    let (mut after, taken) = restarted(600);
    assert_eq!(taken, 2);
    assert_eq!(after.collector.export_state(), state, "nothing is lost on the way");
    let out = after.send((host(1), 777), &format.message(9, 1, &sets[3..]));
    assert_eq!(octets(&out), [1], "also with a new port");
    assert_eq!(out[0].sampling_interval, 128);
    assert_eq!(octets(&after.send(SOURCE, &format.message(9, 1, &sets[3..]))), [1]);
    assert!(after.report(SOURCE).templates[0].unconfirmed);
    assert_eq!(after.collector.totals().template_counts.unconfirmed_sets, 1);
    assert_eq!(after.send(SOURCE, &format.message(9, 1, &[set(256, &[1; 20])])), []);
    assert_eq!(after.ledgers.data_sets.waiting, 1, "what does not fit waits");
    assert_eq!(restarted(1_300).1, 1, "older than the lifetime");
    assert_eq!(restarted(1_900).1, 0);
    assert_eq!(restarted(-3_000).1, 0, "a file from the future");
}

#[test]
fn silent_exporters_go() {
    let mut bench = Bench::new(|config| config.netflow.exporter_lifetime_s = 3_600);
    let format = Format::V9;
    bench.send(SOURCE, &format.message(0, 1, &[set(256, &flow(1, 7))]));
    bench.wait(3_590);
    assert_eq!(bench.collector.exporters(), 1);
    bench.wait(11);
    assert_eq!((bench.collector.exporters(), bench.collector.totals().exporters_expired), (0, 1));
}
