//! Community ids of packets, against the sets of the specification's own implementation.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir::decode::packet::{Options, parse};
use weir::flow::{Biflow, community_id};
use weir::input::pcap::open;

use crate::support;

/// Protocol, source, destination, source port, destination port, community id. Of ICMP the
/// destination port is left out: it is the counterpart of the type, which the id holds.
type Row = (u8, String, String, Option<u16>, Option<u16>, String);

fn row(protocol: u8, src: String, dst: String, ports: [Option<u16>; 2], id: String) -> Row {
    let dst_port = if matches!(protocol, 1 | 58) { None } else { ports[1] };
    (protocol, src, dst, ports[0], dst_port, id)
}

/// The rows of every packet, each taken as a flow of its own.
fn ours(path: &std::path::Path, seed: u16, hex: bool) -> BTreeSet<Row> {
    let mut reader = open(path).expect("a capture");
    let mut rows = BTreeSet::new();
    while let Some(packet) = reader.next().expect("whole") {
        let record = parse(packet.link, packet.data, packet.wire_len, &Options::default());
        let Ok(r) = record else { continue };
        let flow = Biflow {
            src: r.src,
            dst: r.dst,
            src_port: r.src_port,
            dst_port: r.dst_port,
            protocol: r.protocol,
            ..Biflow::default()
        };
        let mut id = community_id(&flow, seed);
        if hex {
            let digest = STANDARD.decode(&id[2..]).expect("base64");
            id = format!("1:{}", digest.iter().map(|o| format!("{o:02x}")).collect::<String>());
        }
        let has_ports = matches!(r.protocol, 1 | 6 | 17 | 58 | 132);
        let ports = [r.src_port, r.dst_port].map(|port| has_ports.then_some(port));
        rows.insert(row(r.protocol, r.src.to_string(), r.dst.to_string(), ports, id));
    }
    rows
}

#[test]
fn community_ids_equal_the_baselines() {
    let Some(folder) = support::vectors("packets/community-id") else { return };
    let baselines = [("deflt", 0, false), ("seed1", 1, false), ("nob64", 0, true)];
    for (name, seed, hex) in baselines {
        let path = folder.join(format!("baseline/baseline_{name}.json"));
        let text = std::fs::read_to_string(path).expect("readable");
        let want: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let count = want.len();
        let want: BTreeSet<Row> = want
            .into_iter()
            .map(|value| {
                let text = |key: &str| value[key].as_str().expect(key).to_owned();
                let number = |key: &str| {
                    let number = value[key].as_u64()?;
                    Some(u16::try_from(number).expect("16 bits"))
                };
                let protocol = u8::try_from(number("proto").expect("proto")).expect("8 bits");
                let ports = [number("sport"), number("dport")];
                row(protocol, text("saddr"), text("daddr"), ports, text("communityid"))
            })
            .collect();
        let got = ours(&folder.join("pcaps/combined.pcap.gz"), seed, hex);
        assert_eq!(got, want, "baseline {name}");
        eprintln!("baseline {name}: {count} community ids equal");
    }
}
