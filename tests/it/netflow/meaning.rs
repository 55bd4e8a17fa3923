//! What each element means for a flow.

use weir::config::{Config, Exporter, Profile, Site};
use weir::flow::FlowRecord;

use super::build::{self, Format, be, fixed, fixed_record};
use super::{Bench, NOW, host};

const SOURCE: (weir::net::Addr, u16) = (host(1), 5_000);

/// One field: element, enterprise number, width, value.
type Field = (u16, u32, usize, u128);

/// The enterprise number of reverse elements (RFC 5103).
const REVERSE: u32 = 29_305;

const ADDRESSES: [Field; 2] = [(8, 0, 4, 0x0a00_0001), (12, 0, 4, 0x0a00_0002)];

fn spec(fields: &[Field]) -> Vec<build::Spec> {
    fields.iter().map(|&(element, pen, width, _)| (element, pen, width as u16)).collect()
}

fn body(fields: &[Field]) -> Vec<u8> {
    fields.iter().flat_map(|&(_, _, width, value)| be(value, width)).collect()
}

/// Sends one record of `fields`, whose template comes with it, in domain 7.
fn decode_with(bench: &mut Bench, format: Format, fields: &[Field]) -> Vec<FlowRecord> {
    let sets = [format.template(256, &spec(fields)), build::set(256, &body(fields))];
    bench.send(SOURCE, &format.message(0, 7, &sets))
}

/// Of a record with addresses and `fields`, `get` must give `want`, in v9 (where it has no
/// enterprise fields) and IPFIX.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    name: &str,
    fields: &[Field],
    get: impl Fn(&FlowRecord) -> T,
    want: T,
) {
    for format in [Format::V9, Format::Ipfix] {
        if format == Format::V9 && fields.iter().any(|field| field.1 != 0) {
            continue;
        }
        let mut bench = Bench::new(configure);
        let out = decode_with(&mut bench, format, &[&ADDRESSES, fields].concat());
        assert_eq!(out.len(), 1, "case: {name}, {format:?}: {:?}", bench.ledgers.records);
        assert_eq!(get(&out[0]), want, "case: {name}, {format:?}");
    }
}

/// A record of `fields` is no flow, and counted as `kind`.
#[track_caller]
fn check_not_a_flow(name: &str, fields: &[Field], kind: &str) {
    let mut bench = Bench::new(|_| {});
    let out = decode_with(&mut bench, Format::Ipfix, fields);
    assert_eq!(out, [], "case: {name}");
    let records = &bench.ledgers.records;
    assert_eq!((records.decoded, records.not_a_flow.of(kind)), (1, 1), "case: {name}");
}

fn configure(config: &mut Config) {
    let interfaces = [("3".to_owned(), "uplink".to_owned())].into();
    config.exporter = vec![Exporter { address: host(1), interfaces, ..Exporter::default() }];
    let site = |name: &str, network: &str| Site {
        name: name.into(),
        exporters: vec![network.parse().expect(network)],
    };
    config.site = vec![site("wide", "192.0.2.0/24"), site("narrow", "192.0.2.0/30")];
}

#[test]
fn identity() {
    let octets = (1, 0, 4, 100);
    check("addresses", &[octets], |r| (r.src.to_string(), r.dst.to_string()), {
        ("10.0.0.1".into(), "10.0.0.2".into())
    });
    check("ports", &[octets, (4, 0, 1, 17), (7, 0, 2, 53), (11, 0, 2, 999)], ports, (53, 999));
    check("UDP ports", &[octets, (4, 0, 1, 17), (180, 0, 2, 5), (181, 0, 2, 6)], ports, (5, 6));
    check("TCP ports", &[octets, (4, 0, 1, 6), (182, 0, 2, 5), (183, 0, 2, 6)], ports, (5, 6));
    let icmp = [octets, (4, 0, 1, 1), (7, 0, 2, 9), (11, 0, 2, 0), (32, 0, 2, 0x0301)];
    check("ICMP type and code", &icmp, ports, (0, 0x0301));
    let parts = [octets, (4, 0, 1, 1), (176, 0, 1, 8), (177, 0, 1, 1)];
    check("ICMP type, code", &parts, ports, (0, 0x0801));
    let parts = [octets, (4, 0, 1, 58), (178, 0, 1, 128), (179, 0, 1, 0)];
    check("ICMPv6 type, code", &parts, ports, (0, 0x8000));
    check("ICMPv6", &[octets, (4, 0, 1, 58), (139, 0, 2, 0x8100)], ports, (0, 0x8100));
    check("ICMP in the port", &[octets, (4, 0, 1, 1), (11, 0, 2, 0x0800)], ports, (0, 0x0800));
    let six = |last| 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128 + last;
    let both = [octets, (27, 0, 16, six(1)), (28, 0, 16, six(2))];
    check("v4 beside v6", &both, |r| r.src.is_v4(), true);
    let six_told = [&both[..], &[(60, 0, 1, 6)]].concat();
    check("v6 by IP version", &six_told, |r| r.src.to_string(), "2001:db8::1".into());
    check("VLAN", &[octets, (58, 0, 2, 0x8065)], |r| r.vlan, Some(0x65));
    check("no VLAN", &[octets, (58, 0, 2, 0)], |r| r.vlan, None);
    check("802.1Q", &[octets, (243, 0, 2, 12)], |r| r.vlan, Some(12));
    check("ToS", &[octets, (5, 0, 1, 0xb8)], |r| r.tos, Some(0xb8));
    let asn = [octets, (16, 0, 4, 4_200_000_000), (17, 0, 2, 0)];
    check("AS numbers", &asn, |r| (r.src_asn, r.dst_asn), (Some(4_200_000_000), None));
    check("VRF", &[octets, (234, 0, 4, 9), (235, 0, 4, 8)], |r| r.vrf, 9);
    let named = [octets, (236, 0, 8, u128::from(u64::from_be_bytes(*b"blue\0\0\0\0")))];
    check("VRF name", &named, |r| r.vrf_name.clone(), Some("blue".into()));
    let named = [octets, (96, 0, 4, u128::from(u32::from_be_bytes(*b"dns ")))];
    check("application name", &named, |r| r.application.clone(), Some("dns".into()));
    check("end reason", &[octets, (136, 0, 1, 3)], |r| r.end_reason, Some(3));
    check("biflow direction", &[octets, (239, 0, 1, 2)], |r| r.biflow_direction, Some(2));
    check("site", &[octets], |r| r.site, 2);
}

fn ports(record: &FlowRecord) -> (u16, u16) {
    (record.src_port, record.dst_port)
}

#[test]
fn observation_points() {
    let octets = (1, 0, 4, 100);
    let point = |r: &FlowRecord| (r.point.domain, r.point.interface, r.point.direction);
    let both = [octets, (10, 0, 4, 3), (14, 0, 4, 70_000)];
    check("not told", &both, point, (7, 3, 255));
    check("ingress", &[&both[..], &[(61, 0, 1, 0)]].concat(), point, (7, 3, 0));
    check("egress", &[&both[..], &[(61, 0, 1, 1)]].concat(), point, (7, 70_000, 1));
    check("physical", &[octets, (252, 0, 4, 5)], |r| r.in_if, Some(5));
    check("configured name", &both, |r| r.in_if_name.clone(), Some("uplink".into()));
    check("no name", &both, |r| r.out_if_name.clone(), None);
}

#[test]
fn counters() {
    check("deltas", &[(1, 0, 8, 1 << 40), (2, 0, 4, 9)], both, [1 << 40, 9, 0, 0]);
    for width in 1..=8 {
        let value = (1_u128 << (width * 8)) - 2;
        check("reduced size", &[(1, 0, width, value)], |r| u128::from(r.fwd.octets), value);
    }
    check("wider than 8 octets", &[(1, 0, 12, 0xff)], |r| r.fwd.octets, 0xff);
    check("totals", &[(85, 0, 8, 500), (86, 0, 8, 5)], both, [500, 5, 0, 0]);
    check("deltas before totals", &[(85, 0, 8, 500), (1, 0, 8, 5)], both, [5, 0, 0, 0]);
    let nsel = [(231, 0, 4, 10), (232, 0, 4, 20), (298, 0, 4, 1), (299, 0, 4, 2)];
    check("initiator and responder", &nsel, both, [10, 1, 20, 2]);
    check("they are payload", &nsel, |r| r.fwd.payload, Some(10));
    check("the initiator sends", &nsel, |r| r.biflow_direction, Some(1));
    let reverse = [(1, 0, 4, 10), (2, 0, 4, 1), (1, 29_305, 4, 30), (2, 29_305, 4, 3)];
    check("RFC 5103", &reverse, both, [10, 1, 30, 3]);
    let silent = [(1, 0, 4, 10), (1, 29_305, 4, 0), (2, 29_305, 4, 0)];
    check("RFC 5103, no answer", &silent, |r| r.bwd, None);
    check("first of two counts", &[(1, 0, 4, 10), (1, 0, 4, 20)], both, [10, 0, 0, 0]);
    let post = [(1, 0, 4, 10), (2, 0, 4, 1), (23, 0, 4, 90), (24, 0, 4, 9)];
    check("post-counters add nothing", &post, both, [10, 1, 0, 0]);
    check("only post-counters", &post[2..], both, [90, 9, 0, 0]);
    let mut bench = Bench::new(|config| {
        let profile = Profile::Nprobe;
        config.exporter = vec![Exporter { address: host(1), profile, ..Exporter::default() }];
    });
    let out = decode_with(&mut bench, Format::V9, &[&ADDRESSES, &post[..]].concat());
    assert_eq!(both(&out[0]), [10, 1, 90, 9], "nProbe's reverse counters");
    let layer2 = [(1, 0, 4, 10), (352, 0, 4, 24)];
    check("layer 2", &layer2, |r| (r.fwd.octets, r.fwd.octets_l2), (10, Some(24)));
    check("only layer 2", &layer2[1..], |r| (r.fwd.octets, r.fwd.octets_l2), (24, Some(24)));
    let flags = |r: &FlowRecord| r.fwd.tcp_flags;
    check("flags", &[(1, 0, 4, 1), (4, 0, 1, 6), (6, 0, 1, 0x1b)], flags, Some(0x1b));
    check(
        "flags of 2 octets",
        &[(1, 0, 4, 1), (4, 0, 1, 6), (6, 0, 2, 0xf112)],
        flags,
        Some(0x112),
    );
    check("not of UDP", &[(1, 0, 4, 1), (4, 0, 1, 17), (6, 0, 1, 0)], flags, None);
}

#[test]
fn what_is_no_flow() {
    let with = |fields: &[Field]| [&ADDRESSES, fields].concat();
    check_not_a_flow("ASA flow created", &with(&[(233, 0, 1, 1)]), "event");
    check_not_a_flow("ASA, older element", &with(&[(230, 0, 1, 4), (7, 0, 2, 9)]), "event");
    let denied = with(&[(233, 0, 1, 3), (231, 0, 4, 0), (232, 0, 4, 0)]);
    check_not_a_flow("an event that counted nothing", &denied, "event");
    check_not_a_flow("no counters", &with(&[(7, 0, 2, 9)]), "no_counters");
    check_not_a_flow("layer 2 only", &[(56, 0, 6, 1), (1, 0, 4, 1)], "no_addresses");
    check_not_a_flow("one address", &[(8, 0, 4, 1), (1, 0, 4, 1)], "no_addresses");
    check_not_a_flow("address of 3 octets", &[(8, 0, 3, 1), (12, 0, 4, 1), (1, 0, 4, 1)], {
        "no_addresses"
    });
    let torn_down = [(233, 0, 1, 2), (231, 0, 4, 500), (232, 0, 4, 900)];
    check("ASA flow torn down", &torn_down, |r| r.fwd.octets, 500);
}

#[test]
fn totals_become_deltas_over_records() {
    let mut bench = Bench::new(|_| {});
    let mut octets = |total| {
        let fields = [&ADDRESSES[..], &[(85, 0, 8, total), (86, 0, 8, total / 10)]].concat();
        decode_with(&mut bench, Format::Ipfix, &fields)[0].fwd.octets
    };
    assert_eq!([octets(100), octets(350), octets(350), octets(20)], [100, 250, 0, 20]);
}

/// Octets and packets, forward and backward.
fn both(r: &FlowRecord) -> [u64; 4] {
    let bwd = r.bwd.unwrap_or_default();
    [r.fwd.octets, r.fwd.packets, bwd.octets, bwd.packets]
}

/// Sends `fields` with each of `values` in all of them; wants the four counters of each record.
#[track_caller]
fn check_mixed(name: &str, fields: &[(u16, u32)], values: &[u128], want: &[[u64; 4]]) {
    let mut bench = Bench::new(|_| {});
    let got = values.iter().map(|&value| {
        let counters: Vec<Field> =
            fields.iter().map(|&(element, pen)| (element, pen, 8, value)).collect();
        let out = decode_with(&mut bench, Format::Ipfix, &[&ADDRESSES[..], &counters].concat());
        both(&out[0])
    });
    assert_eq!(got.collect::<Vec<_>>(), want, "case: {name}");
}

#[test]
fn each_counter_is_a_total_or_a_delta_by_itself() {
    let values = [100, 350];
    let deltas = [(1, 0), (86, 0)];
    check_mixed("octets, total packets", &deltas, &values, &[[100, 100, 0, 0], [350, 250, 0, 0]]);
    let totals = [(85, 0), (2, 0)];
    check_mixed("total octets, packets", &totals, &values, &[[100, 100, 0, 0], [250, 350, 0, 0]]);
    let both_told = [(1, 0), (85, 0), (2, 0), (86, 0)];
    check_mixed("deltas and totals", &both_told, &values, &[[100, 100, 0, 0], [350, 350, 0, 0]]);
    let back = [(1, 0), (2, 0), (85, REVERSE), (86, REVERSE)];
    check_mixed("totals of the way back", &back, &values, &[[100; 4], [350, 350, 250, 250]]);
    let forward = [(85, 0), (86, 0), (1, REVERSE), (2, REVERSE)];
    check_mixed("totals of the way there", &forward, &values, &[[100; 4], [250, 250, 350, 350]]);
}

#[test]
fn times() {
    let octets = (1, 0, 4, 100);
    let before = |r: &FlowRecord| (NOW.since(r.first), NOW.since(r.last));
    let now_ms = u128::from(super::NOW_S) * 1_000;
    let ms = [octets, (152, 0, 8, now_ms - 900), (153, 0, 8, now_ms - 400)];
    check("milliseconds", &ms, before, (900_000, 400_000));
    check("none", &[octets], before, (0, 0));
    let future = [octets, (150, 0, 4, u128::from(super::NOW_S) + 90_000), (151, 0, 4, 5)];
    check("clamped", &future, before, (-86_400_000_000, -86_400_000_000));
    let mut bench = Bench::new(|_| {});
    let up = [&ADDRESSES[..], &[octets, (22, 0, 4, 990_000), (21, 0, 4, 999_500)]].concat();
    let out = decode_with(&mut bench, Format::V9, &up);
    assert_eq!(before(&out[0]), (10_000_000, 500_000), "v9 uptimes");
    // IPFIX has no uptime in its header; options data of the domain tells when it booted.
    let format = Format::Ipfix;
    let boot = [(144, 0, 4, 1), (160, 0, 8, now_ms - 1_000_000)];
    let sets = [format.options_template(300, 1, &spec(&boot)), build::set(300, &body(&boot))];
    bench.send(SOURCE, &format.message(0, 7, &sets));
    let out = decode_with(&mut bench, format, &up);
    assert_eq!(before(&out[0]), (10_000_000, 500_000), "IPFIX uptimes");
    assert_eq!(bench.report(SOURCE).times_clamped, 0);
    let fields = [&ADDRESSES[..], &future].concat();
    decode_with(&mut bench, format, &fields);
    let report = bench.report(SOURCE);
    assert_eq!((report.times_clamped, report.clock_skew_us), (1, Some(0)));
}

#[test]
fn v5_and_v7() {
    let mut bench = Bench::new(configure);
    for version in [5, 7] {
        let payload = fixed(version, 2, 0, 0x4064, &[fixed_record(), fixed_record()]);
        let out = bench.send(SOURCE, &payload);
        assert_eq!(out.len(), 2, "v{version}");
        let r = &out[1];
        assert_eq!((r.src.to_string(), r.dst.to_string()), ("10.0.0.1".into(), "10.0.0.2".into()));
        assert_eq!((r.src_port, r.dst_port, r.protocol, r.tos), (1_024, 443, 6, Some(0x20)));
        assert_eq!((r.fwd.octets, r.fwd.packets, r.fwd.tcp_flags), (1_000, 10, Some(0x1b)));
        assert_eq!((NOW.since(r.first), NOW.since(r.last)), (5_000_000, 1_000_000));
        assert_eq!((r.in_if, r.out_if, r.src_asn, r.site), (Some(3), Some(4), Some(64_512), 2));
        assert_eq!(r.point.domain, if version == 5 { 0x102 } else { 0 });
        assert_eq!(r.sampling_interval, if version == 5 { 100 } else { 0 });
        assert_eq!(bench.report(SOURCE).header_sampling, Some(100), "that of v5 stays");
        assert_eq!(r.in_if_name.as_deref(), Some("uplink"));
    }
    let report = bench.report(SOURCE);
    assert_eq!((report.versions, report.flows), (vec![5, 7], 4));
    assert_eq!(bench.ledgers.data_sets.seen, 0, "v5 and v7 have no sets");

    let mut cut = fixed(5, 3, 2, 0, &[fixed_record(), fixed_record()]);
    cut.extend([1; 47]);
    assert_eq!(bench.send(SOURCE, &cut).len(), 2, "whole records of a datagram cut short");
    let report = bench.report(SOURCE);
    assert_eq!((report.errors.of("bad_count"), report.sequence.lost), (1, 0));
    assert_eq!(bench.send(SOURCE, &fixed(5, 0, 5, 0, &[])), []);
    assert_eq!(bench.ledgers.datagrams.rejected.of("bad_count"), 1);
    assert_eq!(bench.send(SOURCE, &fixed(5, 1, 9, 0, &[fixed_record()])).len(), 1);
    assert_eq!(bench.report(SOURCE).sequence.lost, 4, "v5 counts flows");
}

#[test]
fn datagrams_that_are_rejected() {
    let mut bench = Bench::new(|config| {
        config.input.netflow.allow = vec!["192.0.2.0/28".parse().expect("a network")];
    });
    #[track_caller]
    fn check(bench: &mut Bench, source: u8, payload: &[u8], reason: &str) {
        let before = bench.ledgers.datagrams.rejected.of(reason);
        assert_eq!(bench.send((host(source), 1), payload), []);
        assert_eq!(bench.ledgers.datagrams.rejected.of(reason), before + 1, "{reason}");
    }
    let good = fixed(5, 1, 0, 0, &[fixed_record()]);
    check(&mut bench, 16, &good, "not_allowed");
    check(&mut bench, 1, &[], "truncated");
    check(&mut bench, 1, &good[..23], "truncated");
    check(&mut bench, 1, &[0, 8, 0, 0], "unknown_version");
    check(&mut bench, 1, &[0, 0, 0, 5, 0, 0, 0, 1], "sflow_unsupported");
    check(&mut bench, 1, &[0, 10, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "bad_message_length");
    check(&mut bench, 1, &good[..24], "bad_count");
    assert_eq!(bench.collector.exporters(), 0, "no state for what cannot be read");
    assert_eq!(bench.send((host(15), 1), &good).len(), 1);
}

/// What options data says, and what a record then gets.
#[track_caller]
fn check_options(
    name: &str,
    scope: usize,
    options: &[Field],
    fields: &[Field],
    want: (u32, Option<&str>),
) {
    for format in [Format::V9, Format::Ipfix] {
        let mut bench = Bench::new(|config| {
            let sampling_interval = Some(7_777);
            let exporter = Exporter { address: host(1), sampling_interval, ..Exporter::default() };
            config.exporter = vec![exporter];
        });
        let mut options = options.to_vec();
        if format == Format::V9 {
            // v9 names scopes by type: 1 the system, 2 an interface.
            for field in &mut options[..scope] {
                field.0 = if field.0 == 10 { 2 } else { 1 };
            }
        }
        let sets = [
            format.options_template(300, scope, &spec(&options)),
            build::set(300, &body(&options)),
        ];
        bench.send(SOURCE, &format.message(0, 7, &sets));
        assert_eq!(bench.ledgers.records.not_a_flow.of("options"), 1, "case: {name}");
        let fields = [&ADDRESSES[..], &[(1, 0, 4, 100)], fields].concat();
        let out = decode_with(&mut bench, format, &fields);
        let text = out[0].in_if_name.clone().or(out[0].vrf_name.clone());
        let text = text.or(out[0].application.clone());
        let got = (out[0].sampling_interval, text.as_deref());
        assert_eq!(got, want, "case: {name}, {format:?}");
    }
}

#[test]
fn options_tell_sampling_and_names() {
    let system = (149, 0, 4, 7);
    check_options("nothing said: configured", 1, &[system, (41, 0, 4, 1)], &[], (7_777, None));
    check_options("domain, 34", 1, &[system, (34, 0, 4, 100)], &[], (100, None));
    let random = [system, (48, 0, 1, 3), (49, 0, 1, 2), (50, 0, 4, 512)];
    check_options("sampler of the record", 1, &random, &[(48, 0, 1, 3)], (512, None));
    check_options("the only sampler", 1, &random, &[], (512, None));
    let selector = [system, (302, 0, 8, 9), (304, 0, 2, 1), (305, 0, 4, 1), (306, 0, 4, 999)];
    check_options("selector", 1, &selector, &[(302, 0, 8, 9)], (1_000, None));
    check_options("one id space", 1, &selector, &[(48, 0, 1, 9)], (1_000, None));
    check_options("the record's own", 1, &selector, &[(302, 0, 8, 9), (34, 0, 4, 5)], (5, None));
    let interface = [(10, 0, 4, 3), (34, 0, 4, 64)];
    check_options("interface", 1, &interface, &[(10, 0, 4, 3)], (64, None));
    check_options("another interface", 1, &interface, &[(10, 0, 4, 4)], (7_777, None));
    let text = |text: &[u8; 8]| u128::from(u64::from_be_bytes(*text));
    let name = [(10, 0, 4, 3), (82, 0, 8, text(b"ge-0/0/1"))];
    check_options("interface name", 1, &name, &[(10, 0, 4, 3)], (7_777, Some("ge-0/0/1")));
    let name = [system, (10, 0, 4, 3), (83, 0, 8, text(b"uplink\0\0"))];
    check_options("description", 1, &name, &[(10, 0, 4, 3)], (7_777, Some("uplink")));
    let name = [system, (234, 0, 4, 5), (236, 0, 8, text(b"customer"))];
    check_options("VRF name", 1, &name, &[(234, 0, 4, 5)], (7_777, Some("customer")));
    let name = [system, (95, 0, 4, 0x0300_0050), (96, 0, 8, text(b"http    "))];
    check_options("application", 1, &name, &[(95, 0, 4, 0x0300_0050)], (7_777, Some("http")));
}

#[test]
fn samplers_of_one_box_are_kept_apart() {
    let mut bench = Bench::new(|_| {});
    let format = Format::V9;
    let row = |id, interval| [(1, 0, 4, 0), (48, 0, 1, id), (50, 0, 4, interval)];
    let options: Vec<u8> = [row(1, 10), row(2, 1_000)].iter().flat_map(|row| body(row)).collect();
    let sets = [format.options_template(300, 1, &spec(&row(0, 0))), build::set(300, &options)];
    bench.send(SOURCE, &format.message(0, 7, &sets));
    let mut interval = |fields: &[Field]| {
        let fields = [&ADDRESSES[..], &[(1, 0, 4, 1)], fields].concat();
        decode_with(&mut bench, format, &fields)[0].sampling_interval
    };
    let (one, two, other) = ([(48, 0, 1, 1)], [(48, 0, 1, 2)], [(48, 0, 1, 9)]);
    let got = [interval(&one), interval(&two), interval(&other), interval(&[])];
    assert_eq!(got, [10, 1_000, 0, 0], "an unknown sampler is unknown, not 1");
    let report = bench.report(SOURCE);
    assert_eq!(report.sampling_unknown, 2);
    let domain = &report.domains[0];
    assert_eq!(domain.samplers.iter().map(|s| s.sampling.interval).sum::<u32>(), 1_010);
}

#[test]
fn the_report_tells_every_source_of_a_sampling_interval() {
    let mut bench = Bench::new(|config| {
        let sampling_interval = Some(7);
        let exporter = Exporter { address: host(1), sampling_interval, ..Exporter::default() };
        config.exporter = vec![exporter];
    });
    let mut told = |fields: &[Field], payload: Option<Vec<u8>>| {
        match payload {
            Some(payload) => drop(bench.send(SOURCE, &payload)),
            None => {
                let fields = [&ADDRESSES[..], &[(1, 0, 4, 1)], fields].concat();
                decode_with(&mut bench, Format::Ipfix, &fields);
            }
        }
        let report = bench.report(SOURCE);
        (report.header_sampling, report.record_sampling, report.configured_sampling)
    };
    assert_eq!(told(&[], None), (None, None, Some(7)));
    assert_eq!(told(&[(34, 0, 4, 5)], None), (None, Some(5), Some(7)));
    assert_eq!(told(&[], None), (None, Some(5), Some(7)), "a record without one");
    let v5 = |sampling| Some(fixed(5, 1, 0, sampling, &[fixed_record()]));
    assert_eq!(told(&[], v5(0x4064)), (Some(100), Some(5), Some(7)));
    assert_eq!(told(&[], v5(0x4000)), (Some(100), Some(5), Some(7)), "a header without one");
    assert_eq!(told(&[], v5(0x4032)), (Some(50), Some(5), Some(7)), "the last one");
}

#[test]
fn the_active_timeout_is_learnt() {
    let mut bench = Bench::new(|_| {});
    let now_ms = u128::from(super::NOW_S) * 1_000;
    let fields = [
        &ADDRESSES[..],
        &[(1, 0, 4, 1), (136, 0, 1, 2)],
        &[(152, 0, 8, now_ms - 1_800_000), (153, 0, 8, now_ms)],
    ]
    .concat();
    let mut idle = 0;
    for _ in 0..9 {
        idle = decode_with(&mut bench, Format::Ipfix, &fields)[0].idle_timeout_us;
    }
    assert_eq!(idle, 1_815_000_000);
    assert_eq!(bench.report(SOURCE).active_timeout_s, Some(1_805));
}
