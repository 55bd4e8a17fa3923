use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const EXPORTER: Addr = Addr::v4(0xc000_0201);

/// A message of `version` (9 or 10) in domain 3, of `sets`, each an id and a body.
fn message(version: u8, sets: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = match version {
        9 => vec![0, 9, 0, 1, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 3],
        _ => vec![0, 10, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 3],
    };
    for (id, body) in sets {
        message.extend(id.to_be_bytes());
        message.extend((body.len() as u16 + 4).to_be_bytes());
        message.extend(*body);
    }
    if version == 10 {
        let length = (message.len() as u16).to_be_bytes();
        message[2..4].copy_from_slice(&length);
    }
    message
}

/// Template 256 of one field: `element` of `length` octets.
fn template(element: u8, length: u16) -> Vec<u8> {
    [&[1, 0, 0, 1, 0, element][..], &length.to_be_bytes()].concat()
}

fn inspector() -> Inspector {
    Inspector::new(config::Netflow::default())
}

/// The lines of `datagrams` from their ports, with those at the end.
fn lines(mut inspector: Inspector, datagrams: &[(u16, &[u8])]) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut each = |line: Line| lines.push(serde_json::to_value(line).expect("JSON"));
    for (port, datagram) in datagrams {
        inspector.datagram(EXPORTER, *port, 1_000, datagram, &mut each);
    }
    inspector.finish(&mut each);
    lines
}

/// Each line in short: its type, and the reason of an error or the first value of a record.
fn short(lines: &[Value]) -> Vec<String> {
    let what = |line: &Value| {
        let kind = line["type"].as_str().expect("a type").to_owned();
        match &line["fields"][0]["value"] {
            _ if line["withdrawn"] == true => format!("{kind} withdrawn"),
            _ if line["redefined"] == true => format!("{kind} redefined"),
            Value::Null if line["reason"].is_string() => {
                format!("{} at {}", line["reason"].as_str().expect("a text"), line["offset"])
            }
            Value::Null => kind,
            value => format!("{kind} {value}"),
        }
    };
    lines.iter().map(what).collect()
}

#[track_caller]
fn check(datagrams: &[(u16, &[u8])], want: &[&str]) {
    assert_eq!(short(&lines(inspector(), datagrams)), want);
}

#[test]
fn lines_say_where_and_what() {
    let ipfix = message(10, &[(2, &template(7, 2)), (256, &[0, 80, 0, 81])]);
    let found = lines(inspector(), &[(2055, &ipfix)]);
    let place = json!({ "exporter": "192.0.2.1", "port": 2055, "version": 10, "domain": 3 });
    let with = |more: Value| {
        let mut all = place.clone();
        all.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        all
    };
    let field = |value: u16| json!([{ "name": "sourceTransportPort", "pen": 0, "id": 7, "length": 2, "value": value }]);
    let fields = json!([{ "name": "sourceTransportPort", "pen": 0, "id": 7, "length": 2,
                          "type": "unsigned16" }]);
    let want = [
        with(json!({ "type": "message", "offset": 1_000, "id": null,
                     "export_time_us": 9_000_000, "sequence": 7, "length": 36 })),
        with(json!({ "type": "template", "offset": 1_020, "id": 256, "fields": fields })),
        with(json!({ "type": "data", "offset": 1_032, "id": 256, "fields": field(80) })),
        with(json!({ "type": "data", "offset": 1_034, "id": 256, "fields": field(81) })),
    ];
    assert_eq!(found, want);
}

#[test]
fn data_wait_for_their_template() {
    let (data, define) = (message(10, &[(256, &[0, 80])]), message(10, &[(2, &template(7, 2))]));
    check(&[(1, &data), (1, &define)], &["message", "message", "template", "data 80"]);
    check(&[(1, &data)], &["message", "no_template at 1016"]);
    // A restarted exporter sends from another port.
    check(&[(1, &define), (2, &data)], &["message", "template", "message", "data 80"]);
    // v9 and IPFIX do not share templates.
    let v9 = message(9, &[(256, &[0, 80])]);
    let want = ["message", "template", "message", "no_template at 1020"];
    check(&[(1, &define), (1, &v9)], &want);
}

#[test]
fn live_ports_stay_apart() {
    let (one, two) = (message(10, &[(2, &template(7, 2))]), message(10, &[(2, &template(4, 1))]));
    let data = message(10, &[(256, &[0, 80])]);
    let sent: &[(u16, &[u8])] = &[(1, &one), (2, &two), (1, &data), (2, &data)];
    let want = [
        "message", "template", "message", "template", "message", "data 80", "message", "data 0",
        "data 80",
    ];
    check(sent, &want);
}

#[test]
fn templates_are_redefined_and_withdrawn() {
    let (one, two) = (message(10, &[(2, &template(7, 2))]), message(10, &[(2, &template(4, 1))]));
    let data: &[u8] = &message(10, &[(256, &[0, 80])]);
    let want = ["message", "template", "message", "template", "message", "template redefined"];
    check(&[(1, &one), (1, &one), (1, &two)], &want);
    let gone =
        ["message", "template", "message", "template withdrawn", "message", "no_template at 1016"];
    check(&[(1, &one), (1, &message(10, &[(2, &[1, 0, 0, 0])])), (1, data)], &gone);
    check(&[(1, &one), (1, &message(10, &[(2, &[0, 2, 0, 0])])), (1, data)], &gone);
    let kept =
        ["message", "template", "message", "options_template withdrawn", "message", "data 80"];
    check(&[(1, &one), (1, &message(10, &[(3, &[0, 3, 0, 0])])), (1, data)], &kept);
}

#[test]
fn faults_are_said_and_the_rest_is_shown() {
    let define = template(7, 2);
    let mut cut = message(10, &[(2, &define), (256, &[0, 80, 0, 81, 0])]);
    cut.truncate(cut.len() - 2);
    check(&[(1, &cut)], &["message", "template", "data 80", "truncated at 1028"]);
    let variable = message(10, &[(2, &template(82, 65_535)), (256, &[1, b'a', 0, 9, b'b'])]);
    let want = ["message", "template", "data \"a\"", "data \"\"", "truncated at 1036"];
    check(&[(1, &variable)], &want);
    let empty = message(10, &[(2, &template(7, 0)), (256, &[1])]);
    check(&[(1, &empty)], &["message", "template", "empty_record at 1028"]);
    let mut trailing = message(10, &[(2, &define)]);
    trailing.extend([0, 0, 7]);
    check(&[(1, &trailing)], &["message", "template", "trailing_octets at 1028"]);
    check(&[(1, &[0, 0, 0, 5, 0, 0, 0, 1])], &["sflow_unsupported at 1000"]);
    check(&[(1, &[0, 8])], &["unknown_version at 1000"]);
    check(&[(1, &[0])], &["truncated at 1000"]);
}

#[test]
fn memory_is_bounded() {
    let bounds = config::Netflow {
        templates_per_exporter_max: 1,
        waiting_per_exporter_bytes_max: 300,
        ..config::Netflow::default()
    };
    let second = [&template(7, 2)[..], &[1, 1, 0, 1, 0, 7, 0, 2]].concat();
    let define = message(10, &[(2, &second)]);
    let found = lines(Inspector::new(bounds.clone()), &[(1, &define)]);
    assert_eq!(short(&found), ["message", "template", "template", "templates_full at 1028"]);
    let data = message(10, &[(300, &[0; 50]), (300, &[0; 300])]);
    let found = lines(Inspector::new(bounds), &[(1, &data)]);
    assert_eq!(short(&found), ["message", "waiting_full at 1070", "no_template at 1016"]);

    let none = config::Netflow { exporters_max: 0, ..config::Netflow::default() };
    let found = lines(Inspector::new(none), &[(1, &define)]);
    let full =
        ["message", "template", "templates_full at 1020", "template", "templates_full at 1028"];
    assert_eq!(short(&found), full);
}

#[test]
fn fields_of_a_datagram_are_bounded() {
    let fields: u16 = 4_000;
    let mut define = [&[1, 0][..], &fields.to_be_bytes(), &[0, 7, 0, 1]].concat();
    define.extend([0, 8, 0, 0].repeat(usize::from(fields) - 1));
    let sent = message(10, &[(2, &define), (256, &[1; 1_000])]);
    let found = lines(inspector(), &[(1, &sent)]);
    assert_eq!(found.last().expect("a line")["reason"], "fields_max");
    assert_eq!(found.len(), 3 + DATAGRAM_FIELDS_MAX / usize::from(fields));
}

/// One v7 record, every octet its own: addresses, then interfaces, counters, times, ports, flags,
/// protocol, ToS, systems, masks, flags, router.
fn v7(count: u8) -> Vec<u8> {
    let mut v7 = vec![0, 7, 0, count, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    for record in 0..count {
        v7.extend((1..=52).map(|octet: u8| octet.wrapping_add(record)));
    }
    v7
}

#[test]
fn v7_is_shown_as_netflow_parser_reads_it() {
    let found = lines(inspector(), &[(1, &v7(2))]);
    assert_eq!(short(&found), ["message", "data \"1.2.3.4\"", "data \"2.3.4.5\""]);
    let packets = netflow_parser::NetflowParser::default().parse_bytes(&v7(2)).packets;
    let [netflow_parser::NetflowPacket::V7(packet)] = &packets[..] else { panic!("{packets:?}") };
    for (line, want) in found[1..].iter().zip(&packet.flowsets) {
        let of = |name: &str| {
            let mut fields = line["fields"].as_array().expect("fields").iter();
            fields.find(|field| field["name"] == name).expect(name)["value"].clone()
        };
        assert_eq!(of("destinationIPv4Address"), json!(want.dst_addr));
        assert_eq!(of("ipNextHopIPv4Address"), json!(want.next_hop));
        assert_eq!(of("ingressInterface"), json!(want.input));
        assert_eq!(of("egressInterface"), json!(want.output));
        assert_eq!(of("packetDeltaCount"), json!(want.d_pkts));
        assert_eq!(of("octetDeltaCount"), json!(want.d_octets));
        assert_eq!(of("flowStartSysUpTime"), json!(want.first));
        assert_eq!(of("flowEndSysUpTime"), json!(want.last));
        assert_eq!(of("sourceTransportPort"), json!(want.src_port));
        assert_eq!(of("destinationTransportPort"), json!(want.dst_port));
        assert_eq!(of("tcpControlBits"), json!(want.tcp_flags));
        assert_eq!(of("protocolIdentifier"), json!(want.protocol_number));
        assert_eq!(of("ipClassOfService"), json!(want.tos));
        assert_eq!(of("bgpSourceAsNumber"), json!(want.src_as));
        assert_eq!(of("bgpDestinationAsNumber"), json!(want.dst_as));
        assert_eq!(of("sourceIPv4PrefixLength"), json!(want.src_mask));
        assert_eq!(of("destinationIPv4PrefixLength"), json!(want.dst_mask));
        assert_eq!(of("routerSc"), json!(want.router_src));
    }
}

#[test]
fn a_count_that_does_not_fit_is_said() {
    let mut more = v7(2);
    more[3] = 3;
    let want = ["message", "data \"1.2.3.4\"", "data \"2.3.4.5\"", "bad_count at 1002"];
    check(&[(1, &more)], &want);
    more[3] = 0;
    check(&[(1, &more)], &["message", "bad_count at 1002"]);
}

#[test]
fn files_are_cut_into_payloads() {
    let (v7, v9) = (v7(2), message(9, &[(0, &template(7, 2)), (256, &[0, 80, 0, 0])]));
    let ipfix = message(10, &[(2, &template(7, 2))]);
    let zeros = [0; 9];
    let cases: [&[&[u8]]; 5] = [
        &[&v9, &v7, &ipfix, &v9, &v9, &ipfix],
        &[&v9, &v9],
        &[&[&v9[..], &zeros].concat()],
        &[&[&v9[..], &zeros].concat(), &v9, &[&v7[..], &zeros].concat()],
        &[&ipfix, &[1, 2, 3]],
    ];
    for parts in cases {
        let file = parts.concat();
        let found: Vec<_> = payloads_of(&file).collect();
        assert_eq!(found, parts);
    }
}

/// The payloads without their offsets, which must follow one another.
fn payloads_of(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    payloads(file).map(move |(offset, payload)| {
        assert_eq!(offset, at);
        assert!(!payload.is_empty());
        at += payload.len() as u64;
        payload
    })
}

proptest! {
    #[test]
    fn any_bytes_never_panic(mut file in prop::collection::vec(any::<u8>(), 0..600),
                             head in prop::sample::select(vec![
                                 message(9, &[(0, &template(7, 2)), (1, &[1, 1, 0, 4, 0, 4])]),
                                 message(10, &[(2, &template(35, 65_535)), (256, &[9, 3])]),
                                 message(10, &[(256, &[9])]),
                                 v7(1), Vec::new()])) {
        file.splice(0..0, head);
        prop_assert_eq!(payloads_of(&file).map(<[u8]>::len).sum::<usize>(), file.len());
        let mut inspector = inspector();
        for (offset, payload) in payloads(&file) {
            inspector.datagram(EXPORTER, 1, offset, payload, &mut |line| {
                assert!(line.offset <= offset + payload.len() as u64);
            });
        }
        inspector.finish(&mut |_| {});
    }

    #[test]
    fn any_sets_never_panic(sets in prop::collection::vec(
            (prop::sample::select(vec![0_u16, 1, 2, 3, 256, 257]),
             prop::collection::vec(0_u8..4, 0..60)), 0..8), version in 9_u8..=10) {
        let sets: Vec<_> = sets.iter().map(|(id, body)| (*id, &body[..])).collect();
        let sent = message(version, &sets);
        let found = lines(inspector(), &[(1, &sent), (1, &sent)]);
        prop_assert!(found.iter().all(|line| line["version"] == version));
    }
}
