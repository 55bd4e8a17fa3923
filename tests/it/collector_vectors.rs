//! Export packets of real devices: records are counted as the vectors' README counts them.

use std::collections::BTreeMap;
use std::path::Path;

use weir::config::Config;
use weir::decode::netflow::{Collector, wire};
use weir::metrics::Ledgers;
use weir::net::Addr;
use weir::time::Micros;

use crate::support;

/// What a group gave.
#[derive(Debug, Default, Eq, PartialEq)]
struct Counted {
    /// Data records: flows, and records that are none.
    data: u64,
    options: u64,
}

/// Groups that count differently: files, data records and options records, and why.
const DIFFERENCES: &[(&str, u64, u64, &str)] = &[(
    "logstash-codec-netflow/ipfix_test_netscaler_data.dat \
     + logstash-codec-netflow/ipfix_test_netscaler_tpl.dat",
    3,
    0,
    "data comes before its template: the README's counter drops it, here it waits",
)];

/// One UDP payload after the other: a file holds several back to back, or is a capture.
fn datagrams(file: &[u8]) -> Vec<&[u8]> {
    if file.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) {
        return captured(file);
    }
    let mut list = Vec::new();
    let mut rest = file;
    while rest.len() >= 4 {
        let count = usize::from(rest[2]) << 8 | usize::from(rest[3]);
        let octets = match wire::header(rest) {
            Ok(header) => match header.version {
                wire::Version::V9 => rest.len(),
                wire::Version::Ipfix => header.length,
                fixed => {
                    let fit = (rest.len() - fixed.header_octets()) / fixed.record_octets();
                    fixed.header_octets() + count.min(fit) * fixed.record_octets()
                }
            },
            Err(_) => rest.len(),
        };
        let (one, after) = rest.split_at(octets);
        list.push(one);
        rest = after;
    }
    list
}

/// The UDP payloads of a little-endian Ethernet capture, as far as the vectors need it.
fn captured(file: &[u8]) -> Vec<&[u8]> {
    let mut list = Vec::new();
    let mut rest = &file[24..];
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let (frame, next) = after.split_at(length);
        rest = next;
        let parsed = etherparse::SlicedPacket::from_ethernet(frame).expect("a whole frame");
        if let Some(etherparse::TransportSlice::Udp(udp)) = parsed.transport {
            list.push(udp.payload());
        }
    }
    list
}

fn feed(folder: &Path, files: &[&str]) -> (Counted, Ledgers) {
    let mut collector = Collector::new(&Config::default());
    let (mut out, mut ledgers) = (Vec::new(), Ledgers::default());
    let source = (Addr::v4(0xc000_0201), 2055);
    // The files of a group were recorded days apart by some exporters; here they come at once.
    let mut stamp = None;
    for name in files {
        let file = std::fs::read(folder.join(name)).expect(name);
        for payload in datagrams(&file) {
            let sent = wire::header(payload).map_or(Micros(0), |header| header.export_time);
            let stamp = *stamp.get_or_insert(sent);
            collector.datagram(source, stamp, payload, &mut out, &mut ledgers);
            assert_eq!(ledgers.imbalances(), Vec::<String>::new(), "{name}");
        }
    }
    let options = ledgers.records.not_a_flow.of("options");
    let others = ledgers.records.not_a_flow.total() - options;
    (Counted { data: out.len() as u64 + others, options }, ledgers)
}

#[test]
fn every_vector_group_counts_as_stated() {
    let Some(folder) = support::vectors("netflow") else { return };
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("README.md");
    let (mut groups, mut differing, mut failed) = (0, 0, Vec::new());
    for row in readme.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (files, name, counts) = (cells[0], cells[3], cells[4]);
        let files: Vec<&str> = files.split(" + ").collect();
        let counts: BTreeMap<String, u64> = serde_json::from_str(counts).expect(counts);
        let sum = |ends: &[&str]| {
            let meant = counts.iter().filter(|(key, _)| ends.contains(&key.as_str()));
            meant.map(|(_, n)| n).sum::<u64>()
        };
        let mut want = Counted {
            data: sum(&["v5_recs", "v7_recs", "v9_recs", "ipfix_recs"]),
            options: sum(&["v9_opt_recs", "ipfix_opt_recs"]),
        };
        let stated = DIFFERENCES.iter().find(|row| row.0 == cells[0]);
        if let Some(&(_, data, options, why)) = stated {
            eprintln!("{name}: {data} data and {options} options records, as {why}");
            want = Counted { data, options };
            differing += 1;
        }
        let (got, ledgers) = feed(&folder, &files);
        groups += 1;
        if got != want {
            failed.push(format!("{name}: {got:?} is not {want:?}, {files:?}, {ledgers:?}"));
        }
    }
    eprintln!(
        "netflow vectors: {groups} groups run, {} passed, {differing} with a stated difference",
        groups - failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(groups > 100, "{groups} groups");
}
